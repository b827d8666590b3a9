/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): one nar out of its ERIS blocks, from wherever they come.
 *
 * Brings together what decides (helper/ipfs/sched.h), what checks (helper/eris/decode.h) and what asks: one stream of
 * all (carget.h), requests by reference (blockpool.h), parts of the ordinary file (rangeget.h), servers that publish
 * again (again.h).  In this order for each block: IPFS daemons and gateways, block servers, gateways that would have to
 * look for this nar themselves, Range, publish-again; when none of these has it, its user takes the whole nar over HTTP.
 * Blocks that IPFS missed go to heal.h as they come.  Content comes out in order, and all of it is verified. */
#ifndef NARLOCK_FETCH_BLOCKS_H
#define NARLOCK_FETCH_BLOCKS_H

#include "helper/eris/eris.h"
#include "helper/fetch/fetch.h"

/* Leaves that are wanted or wait for those before them: 288 * 32 KiB are 9 MiB, and more than can be in
 * flight. */
#define BLOCKS_WINDOW 288
/* Files from which parts may be taken. */
#define BLOCKS_PLACES 8

struct blocks;

struct blocks_place {
	uint16_t server;  /* index into f->servers */
	const char *url;  /* as in the narinfo */
	struct url at;    /* where that is */
};

struct blocks_order {
	struct eris_cap cap;
	uint8_t has_manifest;
	uint8_t manifest[ERIS_REF];
	uint64_t max_length; /* of the content */
	uint64_t file_size;  /* 0: not told; only a hint */
	const struct blocks_place *places; /* used during blocks_new() only; the first BLOCKS_PLACES count */
	size_t nplaces;
};

/* blocks_possible(f): 1 if there is a source that could be asked.  The first call asks IPFS daemons whether
 * they are there; while one has not answered, it counts for a moment (BLOCKPOOL_WAIT_MS). */
int blocks_possible(struct fetch *f);

/* blocks_new(f, o, e): NULL if there is no source that could be asked (e->text is empty then), or no
 * memory.  One at a time.  The calls of heal.h between heal_begin() and heal_end() are made, not these two. */
struct blocks *blocks_new(struct fetch *f, const struct blocks_order *o, struct err *e);
/* blocks_free(b): end it, and remember what was learnt of the sources. */
void blocks_free(struct blocks *b);

enum blocks_state {
	BLOCKS_RUNS,
	BLOCKS_DONE,   /* all content was read */
	BLOCKS_STUCK,  /* no source has what is needed, or nothing has come for stall_ms: see blocks_insist() */
	BLOCKS_BROKEN, /* the capability is of no content, or of another than was said: for good */
};

/* blocks_pump(b): take in what has come, ask for more. */
enum blocks_state blocks_pump(struct blocks *b);

/* blocks_read(b, data, len): as decode_read(): 1 and a piece, valid until the next call; else 0. */
int blocks_read(struct blocks *b, const uint8_t **data, size_t *len);

/* blocks_is(b): the state by now: blocks_read() may have found that the content is at its end, or broken. */
enum blocks_state blocks_is(const struct blocks *b);

/* blocks_ref(b): the reference of that piece, which is a leaf; valid as long as it. */
const uint8_t *blocks_ref(const struct blocks *b);

/* blocks_wake(f): there is no other way: sources that are left alone only because they said nothing may be asked
 * again. */
void blocks_wake(struct fetch *f);

/* blocks_insist(b, ms): there is no other way: give all sources the time that is configured, whatever they were good
 * for before, ask them once more for what they missed, and again for what they did not find in time (sched_insist()).
 * BLOCKS_STUCK when all say that they do not have something, when nothing has come for MS, or when nobody has ever
 * answered, not even within block_ms and stall_ms together. */
void blocks_insist(struct blocks *b, uint32_t ms);

/* blocks_gave_up(b): after BLOCKS_STUCK: 1 if that was waited for, so that to insist once more is of no use. */
int blocks_gave_up(const struct blocks *b);

/* blocks_missed(b): after BLOCKS_STUCK: 1 if there is an IPFS daemon that should have had what was missing. */
int blocks_missed(const struct blocks *b);

/* blocks_deadline(b): when blocks_pump() has to be called at the latest (milliseconds), or UINT64_MAX. */
uint64_t blocks_deadline(const struct blocks *b);

/* blocks_why(b): after BLOCKS_STUCK and BLOCKS_BROKEN; never NULL. */
const char *blocks_why(const struct blocks *b);

#endif
