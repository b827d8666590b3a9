/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (ipfs): which block to ask for next, and where.
 *
 * Decides only: it sends nothing, waits for nothing and reads no clock.  NOW is a time in milliseconds that
 * never goes back.  All memory is taken by sched_new().  The loop of its user:
 *
 *     while room:  decode_want(), sched_want()
 *     while (sched_next(s, now, &a))       start the request a.id at source a.source
 *     while (sched_cancel(s, &id))         stop that request; do not report it any more
 *     if (sched_stuck(s, ref))             ask the server to publish again (then sched_again()), or fall back
 *     sleep until something happens, or until sched_due()
 *     for each request that has ended:     sched_answer()
 *
 * The rules:
 *  - Blocks are asked for in the order in which they were wanted, each at the first stage that may have it;
 *    within a stage at the source that is expected to be fastest.  A source that has missed a block is not
 *    asked for it again before sched_again().
 *  - A source that was never reached gets one request until it has answered, a probe; if that takes more than
 *    SCHED_GRACE_MS, other blocks go elsewhere meanwhile, and so does this one.
 *  - Requests in flight (each needs a connection): SCHED_WINDOW_BEGIN at first; twice as many after as many answers,
 *    as long as that raises the rate by half, or at once window_min where no answer took less than SCHED_FAR_MS;
 *    then up to window_max, as long as more raise the rate by 5 %.
 *  - A request that is not answered in time ends: the deadline is the configured one, or less (never below
 *    SCHED_DEADLINE_MIN_MS) once the usual latency is known and another source may have the block.  It goes
 *    to the next source.
 *  - The longest unanswered request that is slower than usual, and takes 50 ms at least, is asked at a second source
 *    as well, of the earliest stage that has one; of 100 blocks asked for at most 3.
 *  - A source that misses 16 times in a row or 3 of 4 times, that lets 8 deadlines pass in a row (or says shortly before
 *    that it has not found the blocks) and has brought no block for half of the configured one, that is busy 8 times in a row, or has an eighth of
 *    the rate of another one (if that one's stage is later: and less than SCHED_SLOW) is bypassed, and
 *    probed with one request after 1 second, then 2, up to 60.
 *  - A source that cannot be reached is left alone for SCHED_DEAD_MS, and so is one that breaks the connection again
 *    after each of two pauses; one that lies for good. */
#ifndef NARLOCK_IPFS_SCHED_H
#define NARLOCK_IPFS_SCHED_H

#include <stddef.h>
#include <stdint.h>

#include "helper/eris/eris.h"
#include "ipc/err.h"

#define SCHED_SOURCES 32
/* Most blocks wanted at a time: as many as a decoder's window can have. */
#define SCHED_BLOCKS 4096
/* Requests in flight at one source: most; what adaptive sources have where it is of use; and at first. */
#define SCHED_WINDOW_MAX 256
#define SCHED_WINDOW_MIN 64
#define SCHED_WINDOW_BEGIN 8
#define SCHED_FAR_MS 40
#define SCHED_DEADLINE_MS 5000
#define SCHED_DEADLINE_MIN_MS 500
#define SCHED_GRACE_MS 300
#define SCHED_PROBE_MS 1000
#define SCHED_PROBE_MAX_MS 60000
#define SCHED_DEAD_MS 300000
#define SCHED_RETRY_MS 1000
#define SCHED_RETRY_MAX_MS 8000
/* A source that says no only after so many percent of the time that it was given has looked for the block, and not
 * found it in time: daemons give up by themselves before we do. */
#define SCHED_LATE_PERCENT 75
/* Blocks a second: 1 MiB with large ones. */
#define SCHED_SLOW 32
/* Hedges per 100 blocks asked for. */
#define SCHED_HEDGE_PERCENT 3

struct sched;

/* sched_new(blocks, deadline_ms, e): room for so many wanted blocks (1 to SCHED_BLOCKS); a deadline of 0
 * stands for SCHED_DEADLINE_MS.  NULL on failure. */
struct sched *sched_new(unsigned blocks, uint32_t deadline_ms, struct err *e);
void sched_free(struct sched *s);

struct sched_source {
	uint8_t stage;       /* asked in ascending order */
	uint8_t by_id;       /* 1: it is asked for a reference, so a wrong answer is a lie */
	uint8_t leaves;      /* 1: it has leaves only (a file whose parts are encoded) */
	uint16_t window_min, window_max; /* requests in flight; 0: SCHED_WINDOW_MIN, SCHED_WINDOW_MAX */
	uint32_t deadline_ms; /* of its requests; 0, or more than that: as all have it */
	uint64_t dead_until; /* remembered from before: not to be asked before then; UINT64_MAX: never */
};

/* sched_source(s, source, e): one more.  Returns its number (from 0), or -1. */
int sched_source(struct sched *s, const struct sched_source *source, struct err *e);

/* sched_reached(s, source): it has answered something else, the version for instance: no caution needed. */
void sched_reached(struct sched *s, unsigned source);

/* sched_want(s, now, ref, level): one more wanted block.  1, also if it was wanted already; 0: no room. */
int sched_want(struct sched *s, uint64_t now, const uint8_t ref[ERIS_REF], uint8_t level);
/* sched_room(s): how many more fit. */
unsigned sched_room(const struct sched *s);

struct sched_ask {
	uint32_t id;         /* of the request */
	unsigned source;
	uint8_t level;
	uint8_t hedge;       /* 1: asked elsewhere, too */
	uint8_t probe;       /* 1: to see whether this source is usable */
	uint32_t timeout_ms; /* the deadline from now */
	uint8_t ref[ERIS_REF];
};

/* sched_next(s, now, a): 1 and *a: a request to be made, which is now counted as made; 0: none now. */
int sched_next(struct sched *s, uint64_t now, struct sched_ask *a);

enum sched_outcome {
	SCHED_BLOCK,       /* the right block */
	SCHED_MISSING,     /* it does not have it; if that took long (SCHED_LATE_PERCENT): it has not found it yet */
	SCHED_BUSY,        /* not now: 429, 503, an answer that breaks off */
	SCHED_BREAKS,      /* the connection broke before the first byte of an answer */
	SCHED_UNREACHABLE, /* no connection, or nothing at all that could ever answer */
	SCHED_LIE,         /* another block under this reference */
	SCHED_FOREIGN,     /* the file there is another encoding: of no use for this content, but no lie */
};

/* sched_answer(s, now, id, outcome, retry_ms, why): how a request has ended.  RETRY_MS: for SCHED_BUSY, from
 * Retry-After, or 0.  WHY: static text for the figures, or NULL.  Returns 1 if this was the first SCHED_BLOCK
 * for a wanted block, else 0 (an id that is not known any more is ignored). */
int sched_answer(struct sched *s, uint64_t now, uint32_t id, enum sched_outcome outcome, uint32_t retry_ms,
    const char *why);

/* sched_cancel(s, id): 1 and *ID: a request that is of no use any more; 0: none. */
int sched_cancel(struct sched *s, uint32_t *id);

/* A stream (a CAR) that brings blocks in the order of wanting without being asked for each: while it runs
 * steadily, blocks are not asked for elsewhere.  What it has skipped, what it does not bring for some time,
 * and the first wanted block once it is older than the deadline, are. */
void sched_stream(struct sched *s, uint64_t now, int runs);
/* sched_arrived(s, now, ref): the right block came with the stream.  Returns 1 if it was wanted. */
int sched_arrived(struct sched *s, uint64_t now, const uint8_t ref[ERIS_REF]);

/* sched_due(s, now): when sched_next() should be called even if nothing happens, or UINT64_MAX. */
uint64_t sched_due(const struct sched *s, uint64_t now);

/* sched_stuck(s, now, ref): 1 and the first wanted block that is under way nowhere and has no source left
 * that could be asked, a bypassed one that brought a block within the deadline included; 0: there is hope
 * for all. */
int sched_stuck(const struct sched *s, uint64_t now, uint8_t ref[ERIS_REF]);

/* sched_nowhere(s, now): 1 if there is a wanted block that no source has: each has said so (not only that it did
 * not find it in time), or never has such ones, or is not to be asked any more.  Waiting is of no use then. */
int sched_nowhere(const struct sched *s, uint64_t now);

/* sched_insist(s, now): from now on there is no other way than these sources.  All of them may be asked for all
 * blocks again, as by sched_again(); what one of them does not bring in time is asked of it once more, after
 * SCHED_RETRY_MS, then twice as long, up to SCHED_RETRY_MAX_MS, with twice and then four times the deadline; fewer
 * at a time, where time is what is missing; and the last source that is left is not bypassed for being slow.  It is
 * for the caller to end that: as soon as sched_nowhere() says so, or when nothing has come for too long. */
void sched_insist(struct sched *s, uint64_t now);

/* sched_again(s, now, stage): sources up to that stage may have got blocks meanwhile: what they missed may
 * be asked for again, with the deadline that all have; those that were bypassed for missing blocks are
 * usable, other bypassed ones are probed now. */
void sched_again(struct sched *s, uint64_t now, unsigned stage);

enum sched_health {
	SCHED_NEW,         /* never answered */
	SCHED_USABLE,
	SCHED_BYPASSED,    /* probed again later */
	SCHED_DEAD,        /* cannot be reached */
	SCHED_DROPPED,     /* of no use for this content */
	SCHED_LIAR,        /* never to be asked again */
};

struct sched_figures {
	enum sched_health health;
	const char *why;         /* it is not usable, or NULL */
	uint64_t dead_until;     /* SCHED_DEAD: to be remembered; SCHED_LIAR: UINT64_MAX; else 0 */
	unsigned flying, window;
	uint32_t latency_ms, deviation_ms, deadline_ms;
	uint64_t rate;           /* blocks per 1000 seconds, of the last round; 0: not known */
	uint64_t asked, delivered, missed, late, hedged, spare;
};

void sched_figures(const struct sched *s, unsigned source, struct sched_figures *f);

struct sched_totals {
	uint64_t asked;   /* blocks, without hedges */
	uint64_t hedged;  /* asked at a second source */
	uint64_t spare;   /* answers with a block that was there already */
	uint64_t streamed;
	unsigned wanted, flying;
};

void sched_totals(const struct sched *s, struct sched_totals *t);

#endif
