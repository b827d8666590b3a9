/* SPDX-License-Identifier: GPL-3.0-or-later
 * Wrapper: the program that guix-daemon's GUIX= names.  `substitute' goes to the broker, everything else to
 * the real guix, untouched: arguments (argv[0] too), environment and descriptors as they came.  It has the daemon's
 * rights, and reads nothing but narlock.conf and, to record a fall-back, where the chain of the audit log ends.
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
#include <syslog.h>
#include <unistd.h>

#include "broker/audit.h"
#include "broker/conf.h"
#include "ipc/paths.h"

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

static void complain(const char *what, const char *path, int error)
{
	dprintf(STDERR_FILENO, "narlock: %s %s: %s\n", what, path, strerror(error));
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

static const char *real_guix(const struct conf *s)
{
	if (s->guix[0] != '\0')
		return s->guix;
	for (size_t i = 0; i < sizeof usual_places / sizeof usual_places[0]; i++)
		if (usable(usual_places[i]))
			return usual_places[i];
	return NULL;
}

static int run_real_guix(const struct conf *s, char **argv)
{
	const char *path = real_guix(s);

	/* A configured guix that is missing is an error to be seen; another one would be a surprise. */
	if (path == NULL || !usable(path)) {
		dprintf(STDERR_FILENO, "narlock: no guix to run%s%s: set `guix = PATH' in %s\n",
		    path != NULL ? " at " : "", path != NULL ? path : "", PATH_CONF);
		return EXIT_CANNOT_RUN;
	}
	execv(path, argv);
	complain("cannot run", path, errno);
	return EXIT_CANNOT_RUN;
}

static void exec_self_check(void)
{
	static char program[] = PATH_BROKER, option[] = "--self-check";
	char *argv[] = { program, option, NULL };
	int null = open("/dev/null", O_RDWR);

	/* The daemon waits for the end of 1, 2 and 4, and its commands on 0 are not for this child. */
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0
	    || syscall(SYS_close_range, 3U, ~0U, 0U) != 0)
		_exit(EXIT_CANNOT_RUN);
	alarm(SELF_CHECK_SECONDS); /* survives the exec */
	execv(PATH_BROKER, argv);
	_exit(EXIT_CANNOT_RUN);
}

/* Exit 0 (good) and 1 (degraded, but all that is required is there) are for the broker.  *STATUS: waitpid's. */
static bool self_check_passes(int *status)
{
	pid_t pid;

	*status = -1;
	signal(SIGCHLD, SIG_DFL); /* an ignored one, inherited, would hide the child's end from us */
	pid = fork();
	if (pid < 0)
		return false;
	if (pid == 0)
		exec_self_check();
	while (waitpid(pid, status, 0) < 0)
		if (errno != EINTR)
			return false;
	return WIFEXITED(*status) && (WEXITSTATUS(*status) == 0 || WEXITSTATUS(*status) == 1);
}

/* Every fallback has a record.  The broker may not even run, so it is written here: to the audit log, in its chain, and to
 * syslog, which has other owners. */
static void audit_fallback(const struct conf *s, int status)
{
	static struct audit audit;
	static struct audit_line line;
	char reason[64];

	(void)snprintf(reason, sizeof reason, "the self-check ended with wait status %u", (unsigned)status & 0xffff);
	audit_open(&audit, s->audit_log, "wrapper", "");
	audit_begin(&audit, &line, "fallback-to-stock");
	audit_text(&line, "reason", reason);
	audit_end(&audit, &line);
	openlog("narlock", LOG_PID, LOG_AUTH);
	syslog(LOG_ALERT, "fallback-to-stock: guix substitute runs without a sandbox (self-check: wait status %d)",
	    status);
	closelog();
}

static int run_broker(char **argv)
{
	static char program[] = PATH_BROKER;

	argv[1] = program; /* "substitute" gives its place to the program's name */
	execv(PATH_BROKER, argv + 1);
	complain("cannot run", PATH_BROKER, errno);
	return EXIT_CANNOT_RUN;
}

int main(int argc, char **argv)
{
	static struct conf conf;
	struct err e;
	int status;

	/* What is wrong in the file is for the broker to say; of one that others could write nothing counts. */
	conf_defaults(&conf, "");
	(void)conf_read(&conf, PATH_CONF, &e);
	if (argc < 2 || strcmp(argv[1], "substitute") != 0)
		return run_real_guix(&conf, argv);
	if (conf.fallback_stock && !self_check_passes(&status)) {
		audit_fallback(&conf, status);
		dprintf(STDERR_FILENO, "narlock: the self-check failed: running the stock `guix substitute'"
		    " WITHOUT a sandbox, as `fallback = stock' in %s says (see `narlock doctor')\n", PATH_CONF);
		return run_real_guix(&conf, argv);
	}
	return run_broker(argv);
}
