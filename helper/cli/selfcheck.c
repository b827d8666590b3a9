/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): run `broker --self-check' and pass on what it finds. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper/cli/apparmor.h"
#include "helper/cli/cli.h"
#include "helper/cli/selfcheck.h"

/* Every server has its time to answer; after this many seconds something else is wrong. */
#define PATIENCE 120
#define LINE_SIZE 1024
#define MAX_LINES 256
/* A program that could not be run: this, and errno on top.  None of ours ends with so much. */
#define NO_EXEC 100
/* What libexec/narlock/guix ends with when it could not run the broker. */
#define WRAPPER_NO_EXEC 127

static bool starts(const char *line, const char *word)
{
	size_t n = strlen(word);

	return strncmp(line, word, n) == 0 && (line[n] == ' ' || line[n] == '\0');
}

/* Is WORD the last one of LINE? */
static bool ends(const char *line, const char *word)
{
	const char *last = strrchr(line, ' ');

	return last != NULL && strcmp(last + 1, word) == 0;
}

/* "url URL reachable" or "url URL unreachable REASON", where the reason can have any word. */
static bool is_reachable(const char *line)
{
	const char *url = strchr(line, ' '), *word = url != NULL ? strchr(url + 1, ' ') : NULL;

	return word != NULL && strcmp(word + 1, "reachable") == 0;
}

/* Does LINE have WORD among its words? */
static bool has_word(const char *line, const char *word)
{
	size_t n = strlen(word);
	const char *p = line;

	while ((p = strstr(p, word)) != NULL) {
		if ((p == line || p[-1] == ' ') && (p[n] == ' ' || p[n] == '\0'))
			return true;
		p += n;
	}
	return false;
}

/* "acl PATH N keys": the number before "keys"; without one, -1. */
static long key_count(const char *line)
{
	const char *keys = strstr(line, " keys"), *start = keys;

	while (start != NULL && start > line && start[-1] != ' ')
		start--;
	return start != NULL && start < keys && *start >= '0' && *start <= '9' ? strtol(start, NULL, 10) : -1;
}

/* "blocks WORD ...": a source that is not there and need not be is a note, one that somebody has written down and that
 * does not work is more; the sum adds nothing to that. */
static enum finding blocks_finding(const char *line)
{
	if (starts(line, "blocks usable") || (starts(line, "blocks sum") && !starts(line, "blocks sum 0")))
		return FINDING_OK;
	return starts(line, "blocks useless") ? FINDING_DEGRADED : FINDING_NOTE;
}

enum finding selfcheck_finding(const char *line)
{
	if (starts(line, "config"))
		return ends(line, "ok") ? FINDING_OK : FINDING_UNSAFE;
	if (starts(line, "acl")) /* no key: no substitutes, but nothing unsafe */
		return key_count(line) > 0 ? FINDING_OK : FINDING_DEGRADED;
	if (starts(line, "helper"))
		return has_word(line, "failed") ? FINDING_UNSAFE : FINDING_OK;
	if (starts(line, "url"))
		return is_reachable(line) ? FINDING_OK : FINDING_DEGRADED;
	if (starts(line, "blocks"))
		return blocks_finding(line);
	if (starts(line, "mode") || starts(line, "broker"))
		return FINDING_OK;
	if (starts(line, "verdict"))
		return starts(line, "verdict good") ? FINDING_OK
		    : starts(line, "verdict degraded") ? FINDING_DEGRADED : FINDING_UNSAFE;
	return FINDING_NOTE;
}

static void child(const char *program, const char *options, bool trace, const char *profile, int out)
{
	int null = open("/dev/null", O_RDONLY);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0
	    || syscall(SYS_close_range, 3U, ~0U, 0U) != 0
	    || (options != NULL && setenv("_NIX_OPTIONS", options, 1) < 0)
	    || (profile != NULL && apparmor_enter(profile) < 0))
		_exit(127);
	alarm(PATIENCE); /* survives the exec */
	execl(program, program, "--self-check", "--urls", trace ? "--trace" : (char *)NULL, (char *)NULL);
	_exit(NO_EXEC + errno);
}

static bool read_lines(int fd, struct report *r)
{
	FILE *f = fdopen(fd, "r");
	char line[LINE_SIZE];
	bool verdict = false;

	for (int n = 0; f != NULL && n < MAX_LINES && fgets(line, sizeof line, f) != NULL; n++) {
		line[strcspn(line, "\n")] = '\0';
		report_say(r, selfcheck_finding(line), "%s", line);
		verdict = verdict || starts(line, "verdict");
	}
	if (f != NULL)
		(void)fclose(f);
	else
		close(fd);
	return verdict;
}

static void cannot_run(const char *program, int error, struct report *r)
{
	report_say(r, FINDING_UNSAFE, "%s cannot be run: %s%s", program, strerror(error),
	    error == EACCES ? " (look at its mode, at mounts with noexec, and for DENIED in the kernel's log: AppArmor)" :
	    error == EPERM ? " (AppArmor lets a guix-daemon with no_new_privs, which NoNewPrivileges= and SystemCallFilter= in its "
	    "unit set, run nothing under another profile: take them or AppArmorProfile= out)" : "");
}

static void judge_end(const char *program, int status, bool verdict, struct report *r)
{
	if (WIFSIGNALED(status))
		report_say(r, FINDING_UNSAFE, "%s --self-check was ended by signal %d", program,
		    WTERMSIG(status));
	else if (WEXITSTATUS(status) > NO_EXEC)
		cannot_run(program, WEXITSTATUS(status) - NO_EXEC, r);
	else if (!verdict)
		report_say(r, FINDING_UNSAFE, "%s --self-check ended with %d and without a verdict", program,
		    WEXITSTATUS(status));
	else if (WEXITSTATUS(status) == CLI_DEGRADED && r->worst < FINDING_DEGRADED)
		r->worst = FINDING_DEGRADED;
	else if (WEXITSTATUS(status) > CLI_DEGRADED)
		r->worst = FINDING_UNSAFE;
}

void selfcheck_wrapper(const char *program, const char *profile, struct report *r)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		(void)dup2(null, STDIN_FILENO);
		(void)dup2(null, STDOUT_FILENO);
		(void)dup2(null, STDERR_FILENO);
		alarm(PATIENCE);
		if (profile != NULL && apparmor_enter(profile) < 0)
			_exit(WRAPPER_NO_EXEC);
		execl(program, program, "substitute", "--version", (char *)NULL);
		_exit(NO_EXEC + errno);
	}
	if (null >= 0)
		close(null);
	while (pid > 0 && waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return;
	if (pid < 0)
		report_say(r, FINDING_UNSAFE, "cannot fork");
	else if (WIFEXITED(status) && WEXITSTATUS(status) > NO_EXEC && WEXITSTATUS(status) != WRAPPER_NO_EXEC)
		cannot_run(program, WEXITSTATUS(status) - NO_EXEC, r);
	else if (status != 0)
		report_say(r, FINDING_UNSAFE, "%s substitute --version: wait status 0x%x", program, (unsigned)status);
	else
		report_say(r, FINDING_OK, "%s leads to the broker", program);
}

void selfcheck_run(const char *program, const char *options, bool trace, const char *profile, struct report *r)
{
	int ends[2], status = 0;
	bool verdict;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0) {
		report_say(r, FINDING_UNSAFE, "cannot make a pipe: %s", strerror(errno));
		return;
	}
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		child(program, options, trace, profile, ends[1]);
	close(ends[1]);
	verdict = read_lines(ends[0], r);
	if (pid < 0) {
		report_say(r, FINDING_UNSAFE, "cannot fork");
		return;
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return;
	judge_end(program, status, verdict, r);
}
