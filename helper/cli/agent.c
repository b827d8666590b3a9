/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): start the broker as guix-daemon starts `guix substitute'. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper/cli/agent.h"

#define REPLY_FD 4
#define EXIT_CANNOT_RUN 127

/* Numbers above those that the child will use, so that no dup2 can hit one. */
static int make_pipe(int ends[2], struct err *e)
{
	int low[2];

	if (pipe2(low, O_CLOEXEC) < 0)
		return err_sys(e, errno, "cannot make a pipe");
	ends[0] = fcntl(low[0], F_DUPFD_CLOEXEC, 10);
	ends[1] = fcntl(low[1], F_DUPFD_CLOEXEC, 10);
	close(low[0]);
	close(low[1]);
	if (ends[0] >= 0 && ends[1] >= 0)
		return 0;
	err_sys(e, errno, "cannot make a pipe");
	close(ends[0]);
	close(ends[1]);
	return -1;
}

static void child(const char *program, char *const argv[], const char *options, int in, int out, pid_t parent)
{
	if (setsid() < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent
	    || dup2(in, STDIN_FILENO) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0 || dup2(out, REPLY_FD) < 0
	    || syscall(SYS_close_range, 3U, 3U, 0U) != 0 || syscall(SYS_close_range, 5U, ~0U, 0U) != 0
	    || setenv("_NIX_OPTIONS", options, 1) < 0)
		_exit(EXIT_CANNOT_RUN);
	execv(program, argv);
	_exit(EXIT_CANNOT_RUN);
}

int agent_start(struct agent *a, const char *program, char *const argv[], const char *options, struct err *e)
{
	pid_t parent = getpid();
	int in[2], out[2];

	if (make_pipe(in, e) < 0)
		return -1;
	if (make_pipe(out, e) < 0) {
		close(in[0]);
		close(in[1]);
		return -1;
	}
	a->pid = fork();
	if (a->pid == 0)
		child(program, argv, options, in[0], out[1], parent);
	if (a->pid < 0)
		err_sys(e, errno, "cannot fork");
	close(in[0]);
	close(out[1]);
	a->commands = in[1];
	a->replies = out[0];
	if (a->pid > 0)
		return 0;
	close(a->commands);
	close(a->replies);
	return -1;
}

int agent_line(struct agent *a, char *line, size_t size)
{
	size_t used = 0;
	ssize_t n;

	while (used < size) {
		n = read(a->replies, line + used, 1);
		if (n < 0)
			return -1;
		if (n == 0)
			return 0;
		if (line[used] == '\0')
			break;
		if (line[used] == '\n') {
			line[used] = '\0';
			return 1;
		}
		used++;
	}
	errno = EPROTO;
	return -1;
}

int agent_finish(struct agent *a)
{
	int status;

	if (a->commands >= 0)
		close(a->commands);
	a->commands = -1;
	while (waitpid(a->pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	close(a->replies);
	return status;
}
