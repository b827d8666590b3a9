/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): a directory of blocks, each a file with the base32 reference for a name. */
#ifndef NARLOCK_ERIS_STORE_H
#define NARLOCK_ERIS_STORE_H

#include <stddef.h>

#include "helper/eris/eris.h"
#include "ipc/err.h"

/* store_open(path, create, e): a descriptor of the directory, which is made if CREATE is not 0; -1. */
int store_open(const char *path, int create, struct err *e);

/* store_write(fd, data, len): all of it.  0, or -1 and errno. */
int store_write(int fd, const uint8_t *data, size_t len);

/* store_put(dir, ref, block, size, e): the file appears whole or not at all (not synced).  One that is there
 * already is left alone if it is the same, else replaced.  One thread of a process at a time. */
int store_put(int dir, const uint8_t ref[ERIS_REF], const uint8_t *block, size_t size, struct err *e);

/* store_file(dir, path): open the file PATH, relative to the directory, for reading: names with single
 * slashes between them, none of them empty, "." or ".." (or -1, EINVAL).  Symbolic links are not followed,
 * and nothing blocks.  -1 and errno. */
int store_file(int dir, const char *path);

/* store_get(dir, ref, buf, size, len, e): at most SIZE bytes of the file into BUF, *LEN of them.  It is
 * not checked; let SIZE be one more than a block has, and one that is too long shows.  Any number of
 * threads at a time. */
int store_get(int dir, const uint8_t ref[ERIS_REF], uint8_t *buf, size_t size, size_t *len, struct err *e);

#endif
