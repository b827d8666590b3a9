/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (ipfs), scheduler: what its parts share: its structure, and the calls between them.
 *
 * sched.c (the whole) stands on the rest: schedchoose.c decides what is asked of whom, schedanswer.c takes in what
 * that brought, or did not.  Both go by schedsource.c (what is known of a source) and schedstream.c (what comes
 * without being asked for), and all keep what they do in schedtable.c (wanted blocks and requests).  Nobody else
 * includes this. */
#ifndef NARLOCK_IPFS_SCHED_OWN_H
#define NARLOCK_IPFS_SCHED_OWN_H

#include "helper/ipfs/sched.h"

/* Answers before the latency is believed. */
#define ANSWERS 16

enum request_state { FREE, FLYING, CANCELLED };

struct request {
	uint8_t state, source, hedge, probe;
	uint16_t generation;
	uint64_t since, deadline;
};

struct slot {
	uint8_t ref[ERIS_REF];
	uint8_t used, wanted, level;
	uint32_t tried; /* bit: the source with this number did not bring it */
	uint32_t lacks; /* of these: it has said that it does not have it */
	uint8_t times;  /* it was asked for again */
	uint64_t retry; /* when those that were only late may be asked again; 0: not by themselves */
	uint64_t seq, since;
	unsigned next, prev; /* in the order of wanting; the number of slots: none */
	struct request r[2];
};

struct source {
	struct sched_source is;
	enum sched_health health;
	const char *why;
	unsigned flying, window, window_before;
	uint64_t first_asked;
	uint64_t probe_at, dead_until, busy_until;
	uint32_t backoff_ms;
	uint8_t probing;
	unsigned misses, lates, busy, breaks; /* in a row */
	uint64_t history;             /* bit: a miss; the last 64 answers */
	unsigned nhistory;
	uint64_t latency8, deviation4; /* times 8 and 4, as TCP does it (RFC 6298) */
	unsigned answers;
	uint64_t round_since, rate, rate_before, last; /* `last': when a block came */
	uint8_t was_full;                               /* in the last round */
	uint8_t begins;                                 /* how many in flight are of use is being found out */
	uint64_t nearest;                               /* the shortest time that an answer has taken since then */
	unsigned round_got, round_peak, rounds, hold;
	uint64_t asked, delivered, missed, late, hedged, spare;
};

struct sched {
	uint32_t deadline_ms;
	uint8_t insists; /* there is no other way */
	unsigned nslots, nsources, used, wanted;
	unsigned head, tail, unused; /* lists of slots */
	unsigned ncancelled;
	uint64_t seq;
	uint64_t first_deadline; /* no request has an earlier one, and no block is to be asked for again before */
	uint64_t no_hedge;       /* nothing to hedge was found at this time */
	struct source sources[SCHED_SOURCES];
	struct sched_totals totals;
	struct {
		uint8_t runs, began;
		uint64_t last, seq, gap8;
	} stream;
	struct slot slots[];
};

/* --- schedtable.c: wanted blocks and requests -------------------------------------------------------- */

/* schedtable_find(s, ref): NULL: it is not wanted. */
struct slot *schedtable_find(struct sched *s, const uint8_t ref[ERIS_REF]);
/* schedtable_release(s, b): give the slot back once nobody wants it and no request refers to it. */
void schedtable_release(struct sched *s, struct slot *b);
/* schedtable_flying(b): requests in flight.  Here, as it is asked of each slot each time. */
static inline int
schedtable_flying(const struct slot *b)
{
	return (b->r[0].state == FLYING) + (b->r[1].state == FLYING);
}
/* schedtable_waits(b): 1 if it is wanted, and nobody is asked for it. */
static inline int
schedtable_waits(const struct slot *b)
{
	return b->wanted && schedtable_flying(b) == 0 && (b->r[0].state == FREE || b->r[1].state == FREE);
}
/* schedtable_start(s, now, b, source, hedge, probe, a): one more request for B; *A: what is to be sent. */
void schedtable_start(struct sched *s, uint64_t now, struct slot *b, unsigned source, int hedge, int probe,
    struct sched_ask *a);
/* schedtable_lookup(s, id, b): the request with this id, and its slot; NULL if it is not known any more. */
struct request *schedtable_lookup(struct sched *s, uint32_t id, struct slot **b);
/* schedtable_end(s, r): it is over, or its cancelling was told; its id is not known any more. */
void schedtable_end(struct sched *s, struct request *r);
/* schedtable_cancel(s, r), schedtable_cancel_all(s, source): of no use any more, as sched_cancel() will tell. */
void schedtable_cancel(struct sched *s, struct request *r);
void schedtable_cancel_all(struct sched *s, unsigned source);

/* --- schedsource.c: sources -------------------------------------------------------------------------- */

/* Why it was bypassed: sched_again() makes such a one usable. */
extern const char schedsource_keeps_missing[];

/* schedsource_can_have(o, b, source): 1 if O, with this number, may be asked for B. */
int schedsource_can_have(const struct source *o, const struct slot *b, unsigned source);
/* schedsource_longest(s, o), schedsource_deadline(s, o): milliseconds that a request to it may take at most; and
 * by what its answers take. */
uint32_t schedsource_longest(const struct sched *s, const struct source *o);
uint32_t schedsource_deadline(const struct sched *s, const struct source *o);
/* schedsource_alive(o, r, good): it has answered, so it can be reached; GOOD: with a block.  Back from the bypass
 * it begins again with what is known of nothing. */
void schedsource_alive(struct source *o, const struct request *r, int good);
/* schedsource_note_latency(o, ms): an answer took so long. */
void schedsource_note_latency(struct source *o, uint64_t ms);
/* schedsource_note_round(s, now, source): one more block of the round: as many answers as there are requests in
 * flight. */
void schedsource_note_round(struct sched *s, uint64_t now, unsigned source);
/* schedsource_shrink(o), schedsource_narrow(o): fewer at a time; and where it is more than it can bring in time. */
void schedsource_shrink(struct source *o);
void schedsource_narrow(struct source *o);
/* schedsource_bypass(s, now, source, why): not to be asked before a probe that finds it better. */
void schedsource_bypass(struct sched *s, uint64_t now, unsigned source, const char *why);
/* schedsource_drop(s, source, health, why): not to be asked; what it was asked for is cancelled. */
void schedsource_drop(struct sched *s, unsigned source, enum sched_health health, const char *why);

/* --- schedstream.c: the stream ----------------------------------------------------------------------- */

/* schedstream_hold(s): milliseconds that it may bring nothing. */
uint64_t schedstream_hold(const struct sched *s);
/* schedstream_held(s, b, now): 1 if it will bring B. */
int schedstream_held(const struct sched *s, const struct slot *b, uint64_t now);

/* --- schedanswer.c: answers -------------------------------------------------------------------------- */

/* schedanswer_tick(s, now): what has not come in time; what may be asked for again. */
void schedanswer_tick(struct sched *s, uint64_t now);
/* schedanswer_delivered(s, b): the block is there: nobody needs to bring it any more.  What a probe finds out is
 * of use all the same. */
void schedanswer_delivered(struct sched *s, struct slot *b);

#endif
