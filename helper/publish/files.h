/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): files below the cache, which somebody else writes, replaces and removes at any time. */
#ifndef NARLOCK_PUBLISH_FILES_H
#define NARLOCK_PUBLISH_FILES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "ipc/err.h"

/* files_open(cache, path, st): a regular file for reading: its descriptor, and *ST filled; no symbolic link
 * is followed. -1 and errno. */
int files_open(int cache, const char *path, struct stat *st);
int64_t files_mtime(const struct stat *st); /* nanoseconds */

/* files_used(fd, st): set the time of access, to FILES_USED seconds; the kernel may not, or do it once a day.  Of a cache of
 * our own (trim.h). */
#define FILES_USED 60
void files_used(int fd, const struct stat *st);

/* files_whole(fd): it will be read from front to back by who keeps the index, which is no use of it.  Where the file is
 * somebody else's the kernel does not let us say that. */
void files_whole(int fd);

/* files_read(fd, data, len, offset): bytes at OFFSET, fewer than LEN only at the end of the file; -1 and
 * errno. */
int64_t files_read(int fd, void *data, size_t len, uint64_t offset);

/* files_write(fd, data, len, offset): all of it.  0, or -1 and errno. */
int files_write(int fd, const void *data, size_t len, uint64_t offset);

/* files_text(cache, path, max, text, len, st): the whole of a small file; *TEXT is to be freed, and has a NUL
 * behind it. -1 and errno (EFBIG: more than MAX bytes). */
int files_text(int cache, const char *path, size_t max, char **text, size_t *len, struct stat *st);

#endif
