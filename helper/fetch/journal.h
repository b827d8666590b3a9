/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch, heal): the journal of healing: nars some of whose blocks are still missing in IPFS.
 *
 * The file has JOURNAL_SLOTS slots of JOURNAL_SLOT bytes, no header; numbers are little-endian:
 *
 *      16 bytes  checksum: a 128-bit hash of the other bytes of the slot
 *       4 bytes  "nlh1"
 *       1 byte   1: references are listed; 2: there were too many, or nobody knows: all blocks are to be looked at
 *       1 byte   number of URLs
 *       2 bytes  number of references
 *       8 bytes  when it was made, 8 bytes: not before this time (seconds since 1970)
 *       4 bytes  attempts so far
 *      66 bytes  the read capability
 *       2 bytes  bytes of URL text
 *       8 bytes  NarSize
 *       8 bytes  what it is: a number drawn by the writer, new with every writing
 *       URLs, each with a NUL at its end; references, 32 bytes each; zeros
 *
 * A slot with anything else in it is free.  Writers look for a place and write whole slots, under a lock of
 * the whole file that is waited for only for moments: a process that was stopped with the lock holds up nobody, and the
 * worst that two writers without it can do is to lose an entry, which costs a repair.  A full journal loses its
 * oldest entry.  Nothing in it is trusted: a forged entry makes narlock-heal look for blocks, whose references it
 * checks, at URLs that its rules allow. */
#ifndef NARLOCK_FETCH_JOURNAL_H
#define NARLOCK_FETCH_JOURNAL_H

#include <stddef.h>
#include <stdint.h>

#include "helper/eris/eris.h"
#include "ipc/err.h"
#include "ipc/limits.h"

#define JOURNAL_SLOT 4096
#define JOURNAL_SLOTS 256
#define JOURNAL_SIZE ((int64_t)JOURNAL_SLOT * JOURNAL_SLOTS)
/* Bytes of a slot that URLs and references share, and what of it URLs may have. */
#define JOURNAL_ROOM (JOURNAL_SLOT - 128)
#define JOURNAL_URLS 8
#define JOURNAL_URL_TEXT 2176
/* References of an entry without URLs. */
#define JOURNAL_REFS (JOURNAL_ROOM / ERIS_REF)

struct journal_entry {
	uint8_t cap[ERIS_CAP];
	uint64_t nar_size;
	uint8_t all;              /* 1: references are not known: all blocks of the nar are to be looked at */
	unsigned nrefs;
	uint8_t refs[JOURNAL_REFS][ERIS_REF];
	unsigned nurls;
	uint16_t url_bytes;       /* of `urls', NULs included */
	char urls[JOURNAL_URL_TEXT]; /* NUL-terminated, one behind the other; without user and password */
	uint32_t attempts;
	int64_t made, not_before; /* seconds since 1970 */
	uint64_t number;          /* see above; set by the functions below */
};

/* journal_open(path, e): open or make the file, owner-only, and bring it to JOURNAL_SIZE.  -1: without it the
 * functions below do nothing. */
int journal_open(const char *path, struct err *e);

/* journal_url(j, url): one more URL, without user and password.  0; -1: it has some, or does not fit. */
int journal_url(struct journal_entry *j, const char *url);
/* journal_ref(j, ref): one more missing block, unless it is there.  What does not fit makes the entry one of
 * `all'. */
void journal_ref(struct journal_entry *j, const uint8_t ref[ERIS_REF]);

/* journal_put(fd, j, now): write J: in the place of an entry of the same capability (whose references and
 * URLs are added to those of J, as far as they fit, and whose `made' stays), a free one, or the oldest.
 * j->number is set. 0, or -1: nowhere (no file, a full disk). */
int journal_put(int fd, struct journal_entry *j, int64_t now);

/* journal_change(fd, j): write J over the entry with j->number, unless that was written by somebody else
 * since; j->number is set anew.  1: done; 0: it is not there any more; -1. */
int journal_change(int fd, struct journal_entry *j);
/* journal_drop(fd, j): the same, and the slot is free. */
int journal_drop(int fd, const struct journal_entry *j);

/* journal_get(fd, slot, j): what is in SLOT (below JOURNAL_SLOTS): 1, or 0: free or damaged; -1: no file. */
int journal_get(int fd, unsigned slot, struct journal_entry *j);

/* journal_read(bytes, j), journal_write(bytes, j): the JOURNAL_SLOT bytes themselves.  journal_read: 1, or 0
 * when they are no entry. */
int journal_read(const uint8_t *bytes, struct journal_entry *j);
void journal_write(uint8_t *bytes, const struct journal_entry *j);

#endif
