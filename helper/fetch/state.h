/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): absences and dead hosts on disk, for the agents of the next minutes.
 *
 * The file is a hash table of LIMIT_STATE_RECORDS records of 32 bytes, no header:
 *
 *     16 bytes  key: a 128-bit hash of what is remembered
 *      4 bytes  little-endian: forgotten at this time (seconds since 1970)
 *      1 byte   kind; 3 bytes zero
 *      8 bytes  checksum: a 64-bit hash of the 24 bytes before it
 *
 * A key lives in one of the four records of its bucket.  Agents write whole records with one pwrite and
 * take no locks: a torn, foreign or damaged record has a wrong checksum and is no record, and a lost one costs a
 * request.  Nothing here is trusted: the worst a forged record does is to hide an item for a while. */
#ifndef NARLOCK_FETCH_STATE_H
#define NARLOCK_FETCH_STATE_H

#include <stdint.h>

#include "helper/fetch/url.h"
#include "ipc/err.h"

#define STATE_RECORD 32
#define STATE_BUCKET 4
#define STATE_SIZE ((int64_t)LIMIT_STATE_RECORDS * STATE_RECORD)

/* STATE_SILENT: as STATE_DEAD, of a source of blocks: its origin may well be alive as a substitute server. */
enum state_kind { STATE_ABSENT = 1, STATE_DEAD = 2, STATE_SILENT = 3 };

/* state_open(path, e): open or make the file, owner-only, and bring it to STATE_SIZE.  Returns the descriptor
 * or -1; without it the functions below remember nothing. */
int state_open(const char *path, struct err *e);

/* state_get(fd, kind, u, hash, now): seconds (> 0) that the record of origin (STATE_DEAD, STATE_SILENT) or of URL and hash part
 * (STATE_ABSENT; HASH: 32 characters) still counts, or 0.  FD -1 is fine. */
uint32_t state_get(int fd, enum state_kind kind, const struct url *u, const char *hash, int64_t now);

/* state_put(fd, kind, u, hash, now, ttl): remember for TTL seconds; a full bucket loses what ends first. */
void state_put(int fd, enum state_kind kind, const struct url *u, const char *hash, int64_t now, uint32_t ttl);

#endif
