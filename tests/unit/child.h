/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: checks in forked children, and what is written to descriptor 2. */
#ifndef NARLOCK_TESTS_CHILD_H
#define NARLOCK_TESTS_CHILD_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* In a child: end with a line that says what was wrong. */
#define CHECK(x) \
	do { \
		if (!(x)) { \
			(void)fprintf(stderr, "line %d: %s (errno: %s)\n", __LINE__, #x, strerror(errno)); \
			_exit(1); \
		} \
	} while (0)

/* in_child(f): run F in a process of its own; 0 when no CHECK failed. */
static inline int in_child(void (*f)(void))
{
	pid_t pid = fork();
	int status = -1;

	if (pid == 0) {
		f();
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

/* Between capture_begin and capture_end, what goes to descriptor 2 goes to a file in memory.  capture_end returns its
 * text, valid until the next. */
struct capture {
	int file, saved;
	char text[65536];
};

static inline void capture_begin(struct capture *c)
{
	c->file = memfd_create("capture", MFD_CLOEXEC);
	c->saved = fcntl(2, F_DUPFD_CLOEXEC, 20);
	if (c->file < 0 || c->saved < 0 || dup2(c->file, 2) != 2)
		abort();
}

static inline const char *capture_end(struct capture *c)
{
	ssize_t n;

	if (dup2(c->saved, 2) != 2 || (n = pread(c->file, c->text, sizeof c->text - 1, 0)) < 0)
		abort();
	c->text[n] = '\0';
	close(c->saved);
	close(c->file);
	return c->text;
}

/* A directory of one's own, writable by its owner only. */
static inline char *make_scratch(char path[64])
{
	(void)strcpy(path, "/tmp/narlock-test-XXXXXX");
	return mkdtemp(path);
}

#endif
