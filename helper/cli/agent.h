/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): start the broker as guix-daemon starts `guix substitute'. */
#ifndef NARLOCK_CLI_AGENT_H
#define NARLOCK_CLI_AGENT_H

#include <stddef.h>
#include <sys/types.h>

#include "ipc/err.h"

struct agent {
	pid_t pid;
	int commands; /* write end of its descriptor 0; -1: closed */
	int replies;  /* read end of its descriptor 4 */
};

/* agent_start(a, program, argv, options, e): run PROGRAM in a session of its own with descriptor 0 a pipe,
 * 1 and 2 our 2, 4 a pipe, none other, and _NIX_OPTIONS=OPTIONS.  It is killed when we die.  0 or -1. */
int agent_start(struct agent *a, const char *program, char *const argv[], const char *options, struct err *e);

/* agent_line(a, line, size): one reply without its newline.  Returns 1, 0 at the end of the replies, or -1
 * when a signal came in (errno EINTR), the line does not fit or holds a NUL. */
int agent_line(struct agent *a, char *line, size_t size);

/* agent_finish(a): close its commands, wait for its end.  Returns the status as waitpid tells it, or -1. */
int agent_finish(struct agent *a);

#endif
