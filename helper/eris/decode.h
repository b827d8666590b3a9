/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): blocks into content, as a stream, with the blocks coming from anywhere and in any order.
 *
 * The decoder is asked which blocks it wants (decode_want), is given blocks (decode_give), and gives out
 * content in order (decode_read).  It never waits, reads or calls back.  The loop of its user:
 *
 *     while (!decode_done(d)) {
 *             while (decode_want(d, &w, e) == 1)   ask some source for w.ref;
 *             decode_give(d, ...)                  what has come, as it came;
 *             while (decode_read(d, ...) == 1)     write content;
 *     }
 *
 * No block is believed: hash, size, root key, nodes and padding are all checked, and nothing is given out
 * before it is. With level 0 the key cannot be checked; a wrong one shows as bad padding 254 times of 255:
 * whoever needs to be sure compares a hash of the content.  More than the standard demands: nodes that are
 * not the last of their level must be full, and the root needs two pairs: every content has one tree only,
 * so offsets are known.
 *
 * Memory: at most window + level + ahead + 20 blocks, and those of one call of decode_give (64 at most). */
#ifndef NARLOCK_ERIS_DECODE_H
#define NARLOCK_ERIS_DECODE_H

#include <stddef.h>

#include "helper/eris/eris.h"
#include "helper/eris/pool.h"
#include "ipc/err.h"

struct decode;

#define DECODE_WINDOW_MAX 4096
#define DECODE_AHEAD_MAX 64

struct decode_options {
	struct eris_cap cap;
	/* The longest content that makes sense, in bytes: one byte more, and the content is broken. */
	uint64_t max_length;
	/* Leaves wanted or held at a time, 1 to DECODE_WINDOW_MAX. */
	unsigned window;
	/* Nodes asked for before their turn, so that leaves never wait for one; 0: strictly depth first.  1
	 * is enough as long as the window is not wider than a node (512 or 16 pairs). */
	unsigned ahead;
	/* Or NULL.  Used during decode_give only, alone. */
	struct pool *pool;
};

/* decode_new(o, e): a decoder for one content, or NULL.  block_init() must have been called. */
struct decode *decode_new(const struct decode_options *o, struct err *e);
void decode_free(struct decode *d);

/* A block that is wanted. */
struct decode_want {
	uint8_t ref[ERIS_REF];
	uint8_t level;   /* 0: leaf */
	/* 1: the right-most of its level.  The last leaf is padding only if the content's length is a multiple
	 * of the block size: then there is no byte of a file to rebuild it from. */
	uint8_t last;
	uint64_t offset; /* in the content, of the first byte beneath it */
};

/* decode_want(d, w, e): the next block that was not named before: 1 and *w, or 0: nothing more until blocks
 * come and content is read; or -1.  Depth first, so that content streams.  A block is named once even where
 * it is needed at several places, unless more content than the window lies between them, and stays wanted
 * until it is given. */
int decode_want(struct decode *d, struct decode_want *w, struct err *e);

enum decode_verdict {
	DECODE_TAKEN,  /* wanted and right */
	DECODE_SPARE,  /* not wanted, or not any more: not looked at */
	DECODE_WRONG,  /* wanted, but it is not that block (see `why'): the source's fault; still wanted */
};

struct decode_given {
	const uint8_t *ref;   /* in: as which it was asked for */
	const uint8_t *block; /* in: its bytes, which stay the caller's */
	size_t len;           /* in: any */
	uint8_t known;        /* in: 1: REF was made from these bytes just now, and is not checked again */
	enum decode_verdict verdict; /* out */
	const char *why;      /* out: what is wrong, static text; NULL unless DECODE_WRONG */
};

/* decode_give(d, given, n, e): N blocks, in any order, wanted or not; four and more at a time are checked
 * faster.  0, or -1: the blocks are right, but what they say is no ERIS content (or memory is out): no
 * source can help. */
int decode_give(struct decode *d, struct decode_given *given, size_t n, struct err *e);

/* decode_read(d, data, len, e): the next piece of content: 1 and *LEN > 0 bytes at *DATA, valid until the
 * next call of any function here; 0: none yet, or no more; -1: broken. */
int decode_read(struct decode *d, const uint8_t **data, size_t *len, struct err *e);

/* decode_ref(d): the reference of the leaf that decode_read() gave last; valid as long as its data. */
const uint8_t *decode_ref(const struct decode *d);

/* decode_done(d): 1 when all content was read. */
int decode_done(const struct decode *d);

/* decode_wanted(d, ref): 1 if the block is still wanted: not if another source was faster. */
int decode_wanted(const struct decode *d, const uint8_t ref[ERIS_REF]);

/* decode_more(d): after decode_want() has given 0: 1 if there are blocks that it has not named yet, because it knows
 * them only when others have come, or has no room for them before content is read. */
int decode_more(const struct decode *d);

/* decode_position(d): bytes of content that were read.  The block whose offset is nearest to it is the one
 * that everything else waits for. */
uint64_t decode_position(const struct decode *d);

#endif
