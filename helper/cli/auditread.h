/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): the lines of an audit log, whatever is in it. */
#ifndef NARLOCK_CLI_AUDITREAD_H
#define NARLOCK_CLI_AUDITREAD_H

#include <stddef.h>

#include "ipc/err.h"
#include "ipc/limits.h"

struct auditread {
	int fd;
	size_t start, end;
	int eof;
	char buf[16 * LIMIT_AUDIT_LINE];
};

/* auditread_open(r, path, e): "-" is descriptor 0.  0 or -1; then auditread_close(r). */
int auditread_open(struct auditread *r, const char *path, struct err *e);
void auditread_close(struct auditread *r);

/* auditread_line(r, line, len, complete, e): the next line, without its newline and valid until the
 * next call; a line that is longer than the buffer comes in parts.  *COMPLETE: it had a newline (or is
 * a part).  1, 0 at the end, or -1. */
int auditread_line(struct auditread *r, const char **line, size_t *len, int *complete, struct err *e);

#endif
