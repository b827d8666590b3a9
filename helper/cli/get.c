/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): narlock get: one store item by hand, through the broker as guix-daemon uses it. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker/storepath.h"
#include "helper/cli/agent.h"
#include "helper/cli/cli.h"
#include "ipc/paths.h"
#include "ipc/limits.h"

/* The broker's answers are far shorter; guix-daemon reads 4096 bytes. */
#define REPLY_SIZE 4096
/* What guix takes for a terminal of unknown width. */
#define DEFAULT_COLUMNS 80
#define LEAST_COLUMNS 20

static const char help[] =
    "Usage: narlock get STORE-PATH DEST [--substitute-urls='URL...']\n"
    "\n"
    "Fetch the store item STORE-PATH, verify it, and write it to DEST, which must not exist.  Without\n"
    "--substitute-urls the servers are the broker's default ones.\n"
    "\n"
    "Exit status: 0 done, 1 no server has an authorized one, 2 wrong usage, 3 wrong content (hash\n"
    "mismatch), 4 refused (DEST exists, or the required sandbox cannot be had), 5 anything else.\n";

struct get {
	const char *store_path, *urls;
	char directory[PATH_MAX]; /* of DEST, without symbolic links */
	char dest[PATH_MAX];
};

static volatile sig_atomic_t interrupted;

static void note_signal(int number)
{
	interrupted = number;
}

static int complain(int code, const char *what, const char *object)
{
	fprintf(stderr, "narlock: %s%s%s\n", what, object != NULL ? ": " : "", object != NULL ? object : "");
	return code;
}

/* The protocol separates words by blanks and commands by newlines; options too. */
static int has_bad_byte(const char *s, int blank_allowed)
{
	for (; *s != '\0'; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f || (*s == ' ' && !blank_allowed))
			return 1;
	return 0;
}

/* Make DEST absolute: the directory it is in must be there, the last name must not. */
static int locate(struct get *g, const char *dest)
{
	char copy[PATH_MAX], *slash;
	const char *name = copy;
	size_t length = strlen(dest);
	struct stat st;

	while (length > 1 && dest[length - 1] == '/')
		length--;
	if (length == 0 || length >= sizeof copy)
		return complain(CLI_USAGE, "DEST is empty or too long", NULL);
	memcpy(copy, dest, length);
	copy[length] = '\0';
	slash = strrchr(copy, '/');
	if (slash != NULL) {
		name = slash + 1;
		*slash = '\0';
	}
	if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return complain(CLI_REFUSED, "DEST exists already", dest);
	if (realpath(slash == NULL ? "." : slash == copy ? "/" : copy, g->directory) == NULL)
		return complain(CLI_REFUSED, strerror(errno), slash == NULL ? "." : copy);
	if (snprintf(g->dest, sizeof g->dest, "%s/%s", strcmp(g->directory, "/") == 0 ? "" : g->directory,
	    name) >= (int)sizeof g->dest)
		return complain(CLI_USAGE, "DEST is too long", NULL);
	if (has_bad_byte(g->dest, 0))
		return complain(CLI_USAGE, "DEST has a blank or control character: the protocol cannot carry"
		    " it", NULL);
	if (lstat(g->dest, &st) == 0)
		return complain(CLI_REFUSED, "DEST exists already", g->dest);
	return CLI_OK;
}

static unsigned columns(void)
{
	struct winsize w;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) < 0 || w.ws_col < LEAST_COLUMNS)
		return DEFAULT_COLUMNS;
	return w.ws_col;
}

/* As guix-daemon packs them: KEY=VALUE lines, sorted by key. */
static int pack_options(const struct get *g, char *options, size_t size)
{
	const char *key = g->urls != NULL ? "substitute-urls=" : "", *end = g->urls != NULL ? "\n" : "";
	int n = snprintf(options, size, "print-extended-build-trace=0\n%s%s%sterminal-columns=%u\n", key,
	    g->urls != NULL ? g->urls : "", end, columns());

	return n > 0 && (size_t)n < size ? 0 : -1;
}

static int send_command(const struct get *g, const struct agent *a)
{
	char line[2 * PATH_MAX + 32];
	int n = snprintf(line, sizeof line, "substitute %s %s\n", g->store_path, g->dest);

	/* Below PIPE_BUF or at least far below the pipe's size: one write takes it all. */
	return n > 0 && (size_t)n < sizeof line && write(a->commands, line, (size_t)n) == n ? 0 : -1;
}

/* STATUS is the broker's end: it leaves with 2 when the sandbox that is required could not be had. */
static int verdict(const struct get *g, const char *reply, int status)
{
	char hash[128], actual[128];
	unsigned long long size;
	struct stat st;

	if (sscanf(reply, "success %127s %llu", hash, &size) == 2) {
		if (lstat(g->dest, &st) < 0)
			return complain(CLI_OTHER, "the broker says success, but there is nothing", g->dest);
		printf("%s\n%s %llu bytes\n", g->dest, hash, size);
		return CLI_OK;
	}
	if (sscanf(reply, "hash-mismatch %*s %127s %127s", hash, actual) == 2) {
		fprintf(stderr, "narlock: %s: wrong content: sha256 should be %s, is %s; nothing was"
		    " written\n", g->store_path, hash, actual);
		return CLI_HASH_MISMATCH;
	}
	if (strcmp(reply, "not-found") != 0)
		return complain(CLI_OTHER, "the broker's answer makes no sense", reply);
	if (WIFEXITED(status) && WEXITSTATUS(status) == CLI_UNSAFE)
		return complain(CLI_REFUSED, "refused, see above and `narlock doctor'", g->store_path);
	return complain(CLI_NOT_FOUND, "no usable substitute", g->store_path);
}

static int stopped(const struct get *g, struct agent *a)
{
	struct stat st;

	/* As guix-daemon does; the helpers notice by themselves. */
	kill(-a->pid, SIGKILL);
	agent_finish(a);
	if (lstat(g->dest, &st) == 0)
		fprintf(stderr, "\nnarlock: interrupted; what is in %s is incomplete: delete it\n", g->dest);
	else
		fputs("\nnarlock: interrupted; nothing was written\n", stderr);
	return CLI_OTHER;
}

static int converse(const struct get *g, struct agent *a)
{
	char reply[REPLY_SIZE];
	int got = -1, status;

	if (send_command(g, a) == 0)
		do
			got = agent_line(a, reply, sizeof reply);
		while (got < 0 && errno == EINTR && interrupted == 0);
	if (interrupted != 0)
		return stopped(g, a);
	if (got < 0)
		kill(-a->pid, SIGKILL);
	status = agent_finish(a);
	if (got == 1)
		return verdict(g, reply, status);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return complain(CLI_OTHER, "cannot run", PATH_BROKER);
	return complain(CLI_OTHER, "the broker ended without an answer", NULL);
}

static int run(const struct get *g)
{
	static char program[] = PATH_BROKER, mode[] = "--substitute";
	static char options[LIMIT_OPTIONS];
	char allow[PATH_MAX + 32];
	char *argv[] = { program, mode, allow, NULL };
	struct sigaction on_stop = { .sa_handler = note_signal };
	struct agent a;
	struct err e;

	(void)snprintf(allow, sizeof allow, "--allow-destination=%s", g->directory);
	if (pack_options(g, options, sizeof options) < 0)
		return complain(CLI_USAGE, "the URLs are too long", NULL);
	signal(SIGCHLD, SIG_DFL);
	if (agent_start(&a, PATH_BROKER, argv, options, &e) < 0)
		return complain(CLI_OTHER, e.text, NULL);
	signal(SIGPIPE, SIG_IGN); /* after the start: the broker gets it as the daemon would leave it */
	sigaction(SIGINT, &on_stop, NULL);
	sigaction(SIGTERM, &on_stop, NULL);
	sigaction(SIGHUP, &on_stop, NULL);
	return converse(g, &a);
}

static const char *store_directory(void)
{
	const char *dir = getenv("NIX_STORE_DIR");

	return dir != NULL && *dir != '\0' ? dir : "/gnu/store";
}

int get_main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "substitute-urls", required_argument, NULL, 'u' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	static struct get g;
	int c, code;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (c == 'h')
			return fputs(help, stdout) < 0 ? CLI_OTHER : CLI_OK;
		if (c != 'u') {
			fputs(help, stderr);
			return CLI_USAGE;
		}
		g.urls = optarg;
	}
	if (argc - optind != 2 || (g.urls != NULL && has_bad_byte(g.urls, 1))) {
		fputs(help, stderr);
		return CLI_USAGE;
	}
	g.store_path = argv[optind];
	if (storepath_check(g.store_path, store_directory()) < 0)
		return complain(CLI_USAGE, "this is no path of a store item", g.store_path);
	code = locate(&g, argv[optind + 1]);
	return code != CLI_OK ? code : run(&g);
}
