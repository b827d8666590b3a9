/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: the program that guix-daemon's GUIX= names.  `substitute' goes to the broker, everything else to
 * the real guix, untouched: arguments (argv[0] too), environment and descriptors as they came.
 *
 * It is also run as a build user with every descriptor above 2 closed (guix perform-download), so it needs
 * nothing but libc, and a configuration file that it cannot read only means the compiled-in list. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/limits.h"

#ifndef NARLOCK_LIBEXECDIR
#define NARLOCK_LIBEXECDIR "/usr/local/libexec/narlock"
#endif
#ifndef NARLOCK_SYSCONFDIR
#define NARLOCK_SYSCONFDIR "/etc"
#endif

#define BROKER NARLOCK_LIBEXECDIR "/broker"
#define CONF NARLOCK_SYSCONFDIR "/narlock/narlock.conf"
/* A self-check that hangs would hang the daemon; it takes well under a second. */
#define SELF_CHECK_SECONDS 20
/* As the shell: the program could not be run. */
#define EXIT_CANNOT_RUN 127

static const char *const usual_places[] = {
	"/usr/bin/guix",
	"/usr/local/bin/guix",
	"/var/guix/profiles/per-user/root/current-guix/bin/guix",
	"/run/current-system/profile/bin/guix",
};

/* The two keys of narlock.conf that concern this program; the broker reads the rest. */
struct settings {
	char guix[LIMIT_PATH + 1]; /* "": not set */
	bool fallback_stock;
};

static void complain(const char *what, const char *path, int error)
{
	dprintf(STDERR_FILENO, "narlock: %s %s: %s\n", what, path, strerror(error));
}

/* One line "KEY = VALUE", without its newline; blanks around both words do not count. */
static void read_line(struct settings *s, char *line)
{
	char *key = line + strspn(line, " \t"), *value, *end;

	value = strchr(key, '=');
	if (*key == '#' || value == NULL)
		return;
	*value = '\0';
	key[strcspn(key, " \t")] = '\0';
	value += 1 + strspn(value + 1, " \t");
	for (end = value + strlen(value); end > value && strchr(" \t\r", end[-1]) != NULL; end--)
		end[-1] = '\0';
	if (strcmp(key, "guix") == 0 && value[0] == '/' && strlen(value) <= LIMIT_PATH)
		memcpy(s->guix, value, strlen(value) + 1);
	else if (strcmp(key, "fallback") == 0)
		s->fallback_stock = strcmp(value, "stock") == 0;
}

/* A file that anybody but root and the daemon's user may write decides nothing here. */
static bool trustworthy(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_uid == 0 || st.st_uid == geteuid())
	    && (st.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

static void read_settings(struct settings *s)
{
	static char text[LIMIT_CONF + 1];
	int fd = open(CONF, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	size_t used = 0;
	ssize_t n;
	char *line, *rest = text;

	memset(s, 0, sizeof *s);
	if (fd < 0)
		return;
	if (trustworthy(fd))
		while (used < LIMIT_CONF && (n = read(fd, text + used, LIMIT_CONF - used)) > 0)
			used += (size_t)n;
	close(fd);
	text[used] = '\0';
	while ((line = strsep(&rest, "\n")) != NULL)
		read_line(s, line);
}

static bool same_file(const struct stat *a, const char *path)
{
	struct stat b;

	return stat(path, &b) == 0 && a->st_dev == b.st_dev && a->st_ino == b.st_ino;
}

/* Running ourselves again as "the real guix" would never end. */
static bool usable(const char *path)
{
	struct stat st;

	return path[0] != '\0' && access(path, X_OK) == 0 && stat(path, &st) == 0 && S_ISREG(st.st_mode)
	    && !same_file(&st, "/proc/self/exe") && !same_file(&st, NARLOCK_LIBEXECDIR "/guix");
}

static const char *real_guix(const struct settings *s)
{
	if (s->guix[0] != '\0')
		return s->guix;
	for (size_t i = 0; i < sizeof usual_places / sizeof usual_places[0]; i++)
		if (usable(usual_places[i]))
			return usual_places[i];
	return NULL;
}

static int run_real_guix(const struct settings *s, char **argv)
{
	const char *path = real_guix(s);

	/* A configured guix that is missing is an error to be seen; another one would be a surprise. */
	if (path == NULL || !usable(path)) {
		dprintf(STDERR_FILENO, "narlock: no guix to run%s%s: set `guix = PATH' in %s\n",
		    path != NULL ? " at " : "", path != NULL ? path : "", CONF);
		return EXIT_CANNOT_RUN;
	}
	execv(path, argv);
	complain("cannot run", path, errno);
	return EXIT_CANNOT_RUN;
}

static void exec_self_check(void)
{
	static char program[] = BROKER, option[] = "--self-check";
	char *argv[] = { program, option, NULL };
	int null = open("/dev/null", O_RDWR);

	/* The daemon waits for the end of 1, 2 and 4, and its commands on 0 are not for this child. */
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0
	    || syscall(SYS_close_range, 3U, ~0U, 0U) != 0)
		_exit(EXIT_CANNOT_RUN);
	alarm(SELF_CHECK_SECONDS); /* survives the exec */
	execv(BROKER, argv);
	_exit(EXIT_CANNOT_RUN);
}

/* Exit 0 (good) and 1 (degraded, but all that is required is there) are for the broker. */
static bool self_check_passes(void)
{
	pid_t pid;
	int status;

	signal(SIGCHLD, SIG_DFL); /* an ignored one, inherited, would hide the child's end from us */
	pid = fork();
	if (pid < 0)
		return false;
	if (pid == 0)
		exec_self_check();
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return false;
	return WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 1);
}

static int run_broker(char **argv)
{
	static char program[] = BROKER;

	argv[1] = program; /* "substitute" gives its place to the program's name */
	execv(BROKER, argv + 1);
	complain("cannot run", BROKER, errno);
	return EXIT_CANNOT_RUN;
}

int main(int argc, char **argv)
{
	struct settings settings;

	read_settings(&settings);
	if (argc < 2 || strcmp(argv[1], "substitute") != 0)
		return run_real_guix(&settings, argv);
	if (settings.fallback_stock && !self_check_passes()) {
		dprintf(STDERR_FILENO, "narlock: the self-check failed: running the stock `guix substitute'"
		    " WITHOUT a sandbox, as `fallback = stock' in %s says (see `narlock doctor')\n", CONF);
		return run_real_guix(&settings, argv);
	}
	return run_broker(argv);
}
