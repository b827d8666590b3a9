/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: small file helpers. */
#ifndef NARLOCK_BROKER_FILE_H
#define NARLOCK_BROKER_FILE_H

#include <stddef.h>
#include <sys/stat.h>

#include "ipc/err.h"
#include "ipc/limits.h"

enum file_from {
	FILE_ANY,
	FILE_TRUSTED /* file_trusted() must say yes */
};

/* file_read(dirfd, path, limit, from, len, e): the whole of a regular file of at most LIMIT bytes, NUL-terminated, to be
 * freed by the caller; NULL on failure (e->code is ENOENT when it does not exist).  LEN may be NULL. */
char *file_read(int dirfd, const char *path, size_t limit, enum file_from from, size_t *len, struct err *e);

/* file_trusted(st, path, e): PATH, of which ST tells, must belong to uid 0 or to us, and nobody else may write it. */
int file_trusted(const struct stat *st, const char *path, struct err *e);

/* file_subdir(dirfd, name, mode, e): make NAME (one component) if it is missing, refuse it if it is no directory of
 * ours, open it.  Returns a descriptor or -1. */
int file_subdir(int dirfd, const char *name, unsigned mode, struct err *e);

/* file_write_all(fd, buf, len): write everything; -1 and errno on failure. */
int file_write_all(int fd, const void *buf, size_t len);

/* file_print(fd, fmt, ...): the text in one write, for readers that take what one read gives or that several processes
 * write to.  One of more than FILE_PRINT - 1 bytes is left out. */
#define FILE_PRINT (LIMIT_PATH + 2 * LIMIT_URL + 128)
void file_print(int fd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* file_sweep(dirfd, look, most, remove_old, arg): show the names in DIRFD to REMOVE_OLD, which returns 1 when it has
 * removed that one, else 0: at most LOOK of them, and until MOST are removed.  Returns how many were. */
unsigned file_sweep(int dirfd, unsigned look, unsigned most, int (*remove_old)(int dirfd, const char *name, const void *arg),
		    const void *arg);

#endif
