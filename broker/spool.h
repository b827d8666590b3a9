/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: the place where a nar waits until its hash is known: an unnamed file that only the broker holds. */
#ifndef NARLOCK_BROKER_SPOOL_H
#define NARLOCK_BROKER_SPOOL_H

#include <gcrypt.h>
#include <stdint.h>

#include "ipc/err.h"

struct spool {
	int fd;              /* memfd or O_TMPFILE */
	uint64_t size, limit; /* bytes written; never more than LIMIT */
	gcry_md_hd_t md;
	char *buffer;
};

/* spool_room(fd, size, where, e): are SIZE bytes free in the file system of FD?  WHERE is its name for people. */
int spool_room(int fd, uint64_t size, const char *where, struct err *e);

/* spool_open(s, dir_fd, size, memory, e): for a nar of SIZE bytes, if there is room for it.  MEMORY: largest nar that is
 * kept in memory, UINT64_MAX: a sixteenth of what is available, at most 1 GiB; a larger one goes to the directory. */
int spool_open(struct spool *s, int dir_fd, uint64_t size, uint64_t memory, struct err *e);

/* spool_take(s, from, e): read what the socket FROM holds, hash it, write it.  Returns 1 after some bytes, 0 at the
 * end, 2 when nothing is there now, -1 on failure: ENOSPC of the spool, or more bytes than SIZE (code 0). */
int spool_take(struct spool *s, int from, struct err *e);

/* spool_digest(s, out): SHA-256 of what was written (32 bytes). */
void spool_digest(struct spool *s, uint8_t out[32]);

/* spool_map(s, e): all of it, read-only, to be unmapped by spool_unmap before spool_close.  NULL on failure. */
const uint8_t *spool_map(struct spool *s, struct err *e);
void spool_unmap(struct spool *s, const uint8_t *map);

void spool_close(struct spool *s);

#endif
