/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (ipfs): which block to ask for next, and where. */
#include <stdlib.h>
#include <string.h>

#include "helper/ipfs/sched.h"

#define MISSES_IN_A_ROW 16
#define MISSES_OF_64 48
#define LATE_IN_A_ROW 8
#define BUSY_IN_A_ROW 8
#define BREAKS_IN_A_ROW 3
#define BUSY_MS 250
/* Answers before the latency is believed. */
#define ANSWERS 16
#define WINDOW_STEP 32
/* Rounds without growth after one that did not pay. */
#define HOLD_ROUNDS 16
#define FAR_SLOWER 8
/* Percent by which twice as many in flight must raise the rate at the beginning. */
#define WORTH_TWICE 150
#define STREAM_HOLD_MS 250
/* Below this a slow answer is noise: asking elsewhere costs more than it gains. */
#define HEDGE_MIN_MS 50
/* Requests in flight at least, where more of them were not answered in time. */
#define NARROW_MIN 8

static const char keeps_missing[] = "keeps missing blocks";

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

/* --- Making it --------------------------------------------------------------------------------------- */

struct sched *
sched_new(unsigned blocks, uint32_t deadline_ms, struct err *e)
{
	struct sched *s;

	if (blocks == 0 || blocks > SCHED_BLOCKS) {
		err_set(e, "a scheduler for %u blocks", blocks);
		return NULL;
	}
	s = calloc(1, sizeof *s + blocks * sizeof s->slots[0]);
	if (s == NULL) {
		err_set(e, "no memory for a scheduler");
		return NULL;
	}
	s->deadline_ms = deadline_ms != 0 ? deadline_ms : SCHED_DEADLINE_MS;
	s->nslots = blocks;
	s->head = s->tail = blocks;
	s->first_deadline = s->no_hedge = UINT64_MAX;
	for (unsigned i = 0; i < blocks; i++)
		s->slots[i].next = i + 1;
	return s;
}

void
sched_free(struct sched *s)
{
	free(s);
}

/* Nothing is known of it.  Parts of files share requests: for them, few are no use. */
static void
begin_window(struct source *o)
{
	o->begins = !o->is.leaves && o->is.window_min > SCHED_WINDOW_BEGIN;
	o->window = o->begins ? SCHED_WINDOW_BEGIN : o->is.window_min;
	o->window_before = o->window;
	o->nearest = UINT64_MAX;
	o->rounds = o->round_got = 0;
	o->rate = o->rate_before = 0;
}

int
sched_source(struct sched *s, const struct sched_source *source, struct err *e)
{
	struct source *o = &s->sources[s->nsources];

	if (s->nsources == SCHED_SOURCES)
		return err_set(e, "more than %d sources of blocks", SCHED_SOURCES);
	o->is = *source;
	if (o->is.window_min == 0)
		o->is.window_min = SCHED_WINDOW_MIN;
	if (o->is.window_max == 0)
		o->is.window_max = SCHED_WINDOW_MAX;
	if (o->is.window_max > SCHED_WINDOW_MAX || o->is.window_min > o->is.window_max)
		return err_set(e, "a window of %u to %u requests", o->is.window_min, o->is.window_max);
	begin_window(o);
	o->backoff_ms = SCHED_PROBE_MS;
	o->dead_until = o->is.dead_until;
	if (o->dead_until != 0) {
		o->health = o->dead_until == UINT64_MAX ? SCHED_LIAR : SCHED_DEAD;
		o->why = "remembered";
	}
	return (int)s->nsources++;
}

void
sched_reached(struct sched *s, unsigned source)
{
	if (s->sources[source].health == SCHED_NEW)
		s->sources[source].health = SCHED_USABLE;
}

/* --- Wanted blocks ----------------------------------------------------------------------------------- */

static struct slot *
find(struct sched *s, const uint8_t ref[ERIS_REF])
{
	/* References are hashes: the first byte tells most of them apart. */
	for (unsigned i = s->head; i < s->nslots; i = s->slots[i].next)
		if (s->slots[i].ref[0] == ref[0] && s->slots[i].wanted && memcmp(s->slots[i].ref, ref, ERIS_REF) == 0)
			return &s->slots[i];
	return NULL;
}

int
sched_want(struct sched *s, uint64_t now, const uint8_t ref[ERIS_REF], uint8_t level)
{
	unsigned i = s->unused;
	struct slot *b;

	if (find(s, ref) != NULL)
		return 1;
	if (i == s->nslots)
		return 0;
	b = &s->slots[i];
	s->unused = b->next;
	memcpy(b->ref, ref, ERIS_REF);
	b->used = b->wanted = 1;
	b->level = level;
	b->tried = b->lacks = 0;
	b->times = 0;
	b->retry = 0;
	b->seq = ++s->seq;
	b->since = now;
	b->next = s->nslots;
	b->prev = s->tail;
	if (s->tail < s->nslots)
		s->slots[s->tail].next = i;
	else
		s->head = i;
	s->tail = i;
	s->used++;
	s->wanted++;
	return 1;
}

unsigned
sched_room(const struct sched *s)
{
	return s->nslots - s->used;
}

/* Give the slot back once nobody wants it and no request refers to it. */
static void
release(struct sched *s, struct slot *b)
{
	unsigned i = (unsigned)(b - s->slots);

	if (b->wanted || b->r[0].state != FREE || b->r[1].state != FREE)
		return;
	if (b->prev < s->nslots)
		s->slots[b->prev].next = b->next;
	else
		s->head = b->next;
	if (b->next < s->nslots)
		s->slots[b->next].prev = b->prev;
	else
		s->tail = b->prev;
	b->used = 0;
	b->next = s->unused;
	s->unused = i;
	s->used--;
}

/* --- Requests ---------------------------------------------------------------------------------------- */

static int
flying(const struct slot *b)
{
	return (b->r[0].state == FLYING) + (b->r[1].state == FLYING);
}

/* The request is not in flight any more. */
static void
land(struct sched *s, struct request *r)
{
	struct source *o = &s->sources[r->source];

	o->flying--;
	s->totals.flying--;
	if (r->probe)
		o->probing = 0;
}

static void
cancel(struct sched *s, struct request *r)
{
	land(s, r);
	r->state = CANCELLED;
	s->ncancelled++;
}

static void
cancel_all(struct sched *s, unsigned source)
{
	for (unsigned i = s->head; i < s->nslots; i = s->slots[i].next)
		for (unsigned k = 0; k < 2; k++)
			if (s->slots[i].r[k].state == FLYING && s->slots[i].r[k].source == source)
				cancel(s, &s->slots[i].r[k]);
}

int
sched_cancel(struct sched *s, uint32_t *id)
{
	if (s->ncancelled == 0)
		return 0;
	for (unsigned i = s->head; i < s->nslots; i = s->slots[i].next)
		for (unsigned k = 0; k < 2; k++) {
			struct slot *b = &s->slots[i];

			if (b->r[k].state != CANCELLED)
				continue;
			*id = (uint32_t)b->r[k].generation << 16 | i << 1 | k;
			b->r[k].state = FREE;
			b->r[k].generation++;
			s->ncancelled--;
			release(s, b);
			return 1;
		}
	return 0;
}

/* The request with this id, and its slot; NULL if it is not known any more. */
static struct request *
lookup(struct sched *s, uint32_t id, struct slot **b)
{
	unsigned i = (id & 0xffff) >> 1;
	struct request *r;

	if (i >= s->nslots)
		return NULL;
	*b = &s->slots[i];
	r = &(*b)->r[id & 1];
	return r->state != FREE && r->generation == id >> 16 ? r : NULL;
}

static int
can_have(const struct source *o, const struct slot *b, unsigned source)
{
	return (o->health == SCHED_USABLE || o->health == SCHED_NEW) && !(b->tried >> source & 1) &&
	    (!o->is.leaves || b->level == 0);
}

/* Another source could bring it if this one does not. */
static int
has_other(const struct sched *s, const struct slot *b, unsigned source)
{
	for (unsigned i = 0; i < s->nsources; i++)
		if (i != source && can_have(&s->sources[i], b, i))
			return 1;
	return 0;
}

/* What a request to this source may take at most. */
static uint32_t
longest(const struct sched *s, const struct source *o)
{
	return o->is.deadline_ms != 0 && o->is.deadline_ms < s->deadline_ms ? o->is.deadline_ms : s->deadline_ms;
}

/* What a request to this source may take. */
static uint32_t
deadline_of(const struct sched *s, const struct source *o)
{
	uint64_t ms = longest(s, o), usual = 2 * (o->latency8 / 8 + o->deviation4);

	if (o->answers >= ANSWERS && usual < ms)
		ms = usual;
	if (ms < SCHED_DEADLINE_MIN_MS && s->deadline_ms > SCHED_DEADLINE_MIN_MS)
		ms = SCHED_DEADLINE_MIN_MS;
	return (uint32_t)ms;
}

static void
start(struct sched *s, uint64_t now, struct slot *b, unsigned source, int hedge, int probe,
    struct sched_ask *a)
{
	unsigned k = b->r[0].state != FREE;
	struct source *o = &s->sources[source];
	struct request *r = &b->r[k];

	/* Haste is of use only where somebody else can be asked. */
	a->timeout_ms = has_other(s, b, source) && b->times == 0 ? deadline_of(s, o) :
	    longest(s, o) << (b->times < 2 ? b->times : 2);
	r->state = FLYING;
	r->source = (uint8_t)source;
	r->hedge = (uint8_t)hedge;
	r->probe = (uint8_t)probe;
	r->since = now;
	r->deadline = now + a->timeout_ms;
	if (r->deadline < s->first_deadline)
		s->first_deadline = r->deadline;
	o->probing |= (uint8_t)probe;
	if (o->flying++ == 0 && o->round_got == 0)
		o->round_since = now;
	if (o->flying > o->round_peak)
		o->round_peak = o->flying;
	if (o->asked++ == 0)
		o->first_asked = now;
	o->hedged += (unsigned)hedge;
	s->totals.flying++;
	*(hedge ? &s->totals.hedged : &s->totals.asked) += 1;
	a->id = (uint32_t)r->generation << 16 | (unsigned)(b - s->slots) << 1 | k;
	a->source = source;
	a->level = b->level;
	a->hedge = (uint8_t)hedge;
	a->probe = (uint8_t)probe;
	memcpy(a->ref, b->ref, ERIS_REF);
}

/* --- Sources ----------------------------------------------------------------------------------------- */

/* Not before a probe that finds it better. */
static void
bypass(struct sched *s, uint64_t now, unsigned source, const char *why)
{
	struct source *o = &s->sources[source];
	uint32_t most = s->insists ? SCHED_RETRY_MAX_MS : SCHED_PROBE_MAX_MS;

	o->health = SCHED_BYPASSED;
	o->why = why;
	o->probe_at = now + (o->backoff_ms < most ? o->backoff_ms : most);
	o->backoff_ms = o->backoff_ms * 2 < most ? o->backoff_ms * 2 : most;
	o->misses = o->lates = o->busy = 0;
	o->history = 0;
	o->nhistory = 0;
}

static void
drop(struct sched *s, unsigned source, enum sched_health health, const char *why)
{
	s->sources[source].health = health;
	s->sources[source].why = why;
	s->sources[source].dead_until = health == SCHED_LIAR ? UINT64_MAX : 0;
	cancel_all(s, source);
}

/* It has answered, so it can be reached.  Back from the bypass it begins again with what is known of
 * nothing. */
static void
alive(struct source *o, const struct request *r, int good)
{
	o->lates = o->busy = o->breaks = 0;
	if (o->health == SCHED_NEW)
		o->health = SCHED_USABLE;
	if (!good)
		return;
	o->misses = 0;
	if ((o->health == SCHED_BYPASSED || o->health == SCHED_DEAD) && r->probe) {
		o->health = SCHED_USABLE;
		o->why = NULL;
		o->dead_until = 0;
		begin_window(o);
		o->answers = 0;
		o->latency8 = o->deviation4 = 0;
	} else if (o->health == SCHED_USABLE && o->rounds > 0)
		o->backoff_ms = SCHED_PROBE_MS; /* a whole round went well */
}

static void
note_latency(struct source *o, uint64_t ms)
{
	uint64_t latency = o->latency8 / 8, distance = latency > ms ? latency - ms : ms - latency;

	if (o->answers == 0) {
		o->latency8 = ms * 8;
		o->deviation4 = ms * 2;
	} else {
		o->latency8 = o->latency8 - latency + ms;
		o->deviation4 = o->deviation4 - o->deviation4 / 4 + distance;
	}
	if (o->answers < ANSWERS)
		o->answers++;
}

/* Blocks in 1000 seconds: measured where it was kept busy, else what its latency lets expect. */
static uint64_t
capability(const struct source *o)
{
	if (o->was_full)
		return o->rate;
	return o->answers < ANSWERS / 4 ? 0 : (uint64_t)o->window * 8000000 / (o->latency8 + 8);
}

/* Than one that has answered in this round, too.  Later stages are there for what is missing: for speed alone
 * they are preferred only to a source that is slow by itself. */
static int
far_slower(const struct sched *s, const struct source *o)
{
	for (unsigned i = 0; i < s->nsources; i++) {
		const struct source *other = &s->sources[i];

		if (other != o && other->health == SCHED_USABLE && other->last > o->round_since &&
		    (other->is.stage <= o->is.stage || o->rate < SCHED_SLOW * 1000) &&
		    capability(other) / FAR_SLOWER > o->rate)
			return 1;
	}
	return 0;
}

/* A step up as long as the last one raised the rate; else back, and some rounds without another try. */
static void
adapt(struct source *o, int was_full)
{
	unsigned before = o->window;

	if (o->hold > 0) {
		o->hold--;
		return;
	}
	if (o->window > o->window_before && o->rate * 100 < o->rate_before * 105) {
		o->window = o->window_before;
		o->hold = HOLD_ROUNDS;
		return;
	}
	if (!was_full)
		return;
	o->rate_before = o->rate;
	o->window_before = before;
	o->window = before + WINDOW_STEP < o->is.window_max ? before + WINDOW_STEP : o->is.window_max;
}

/* As many as are of use to the distance. */
static void
go_wide(struct source *o)
{
	o->begins = 0;
	o->window = o->window_before = o->is.window_min;
}

/* Twice as many at the beginning, as long as that pays. */
static void
grow(struct source *o, int was_full)
{
	if (!was_full)
		return;
	if (o->nearest >= SCHED_FAR_MS) {
		go_wide(o);
		return;
	}
	if (o->rate * 100 < o->rate_before * WORTH_TWICE) {
		o->begins = 0;
		o->window_before = o->window;
		o->hold = HOLD_ROUNDS;
		return;
	}
	o->rate_before = o->rate;
	if (2 * o->window >= o->is.window_min)
		go_wide(o);
	else
		o->window *= 2;
}

/* One more block of the round: as many answers as there are requests in flight. */
static void
note_round(struct sched *s, uint64_t now, unsigned source)
{
	struct source *o = &s->sources[source];
	uint64_t ms = now > o->round_since ? now - o->round_since : 1;

	o->last = now;
	if (++o->round_got < o->window)
		return;
	o->rate = (uint64_t)o->round_got * 1000000 / ms;
	o->rounds++;
	o->was_full = o->round_peak >= o->window;
	if (o->begins)
		grow(o, o->was_full);
	else
		adapt(o, o->was_full);
	if (o->was_full && o->rounds >= 2 && !o->begins && o->health == SCHED_USABLE && far_slower(s, o)) {
		bypass(s, now, source, "far slower than another source");
		o->rate = 0;
	}
	o->round_got = 0;
	o->round_peak = o->flying;
	o->round_since = now;
}

static void
shrink(struct source *o)
{
	unsigned smaller = o->window - o->window / 4;

	if (o->window > o->is.window_min)
		o->window = smaller > o->is.window_min ? smaller : o->is.window_min;
	o->window_before = o->window;
	o->round_got = 0;
	o->hold = HOLD_ROUNDS;
}

/* More than it can bring in time. */
static void
narrow(struct source *o)
{
	if (o->window > NARROW_MIN)
		o->window = o->window / 2 > NARROW_MIN ? o->window / 2 : NARROW_MIN;
	o->window_before = o->window;
	o->begins = 0;
	o->round_got = 0;
	o->hold = HOLD_ROUNDS;
}

/* Who did not bring it in time may do so later. */
static void
retry_later(struct sched *s, uint64_t now, struct slot *b)
{
	uint32_t ms = (uint32_t)SCHED_RETRY_MS << (b->times < 8 ? b->times : 8);

	if (!s->insists || b->retry != 0)
		return;
	b->retry = now + (ms < SCHED_RETRY_MAX_MS ? ms : SCHED_RETRY_MAX_MS);
	if (b->retry < s->first_deadline)
		s->first_deadline = b->retry;
}

/* Requests that were made together are late together: a pause of a busy source is no end of it. */
static int
is_out(const struct sched *s, const struct source *o, unsigned in_a_row, uint64_t now)
{
	return now >= o->last + s->deadline_ms / 2 &&
	    in_a_row >= (o->window < LATE_IN_A_ROW ? o->window : LATE_IN_A_ROW);
}

static void
late(struct sched *s, uint64_t now, struct slot *b, struct request *r)
{
	unsigned source = r->source;
	struct source *o = &s->sources[source];
	int was_probe = r->probe;

	o->late++;
	b->tried |= 1u << source;
	retry_later(s, now, b);
	cancel(s, r);
	if (o->health != SCHED_USABLE && o->health != SCHED_NEW) {
		if (was_probe)
			bypass(s, now, source, o->why);
		return;
	}
	if (o->lates++ == 0) {
		if (s->insists)
			narrow(o);
		else
			shrink(o);
	}
	if (o->health == SCHED_NEW || is_out(s, o, o->lates, now)) {
		bypass(s, now, source, "does not answer");
		/* The others wait in vain as well, but that is not known of them: they may be asked again. */
		cancel_all(s, source);
	}
}

static void
tick(struct sched *s, uint64_t now)
{
	uint64_t first = UINT64_MAX;

	if (now < s->first_deadline)
		return;
	for (unsigned i = s->head; i < s->nslots; i = s->slots[i].next) {
		struct slot *b = &s->slots[i];

		if (b->retry != 0 && b->retry <= now) {
			b->retry = 0;
			b->tried &= b->lacks;
			b->times = (uint8_t)(b->times + (b->times < UINT8_MAX));
		}
		for (unsigned k = 0; k < 2; k++) {
			struct request *r = &b->r[k];

			if (r->state == FLYING && r->deadline <= now)
				late(s, now, b, r);
			if (r->state == FLYING && r->deadline < first)
				first = r->deadline;
		}
		if (b->retry != 0 && b->retry < first)
			first = b->retry;
	}
	s->first_deadline = first;
}

/* --- Choosing ---------------------------------------------------------------------------------------- */

/* It is pausing, or its first answer is waited for so long that others are asked. */
static int
passed_over(const struct source *o, uint64_t now)
{
	if (o->health == SCHED_NEW)
		return o->flying > 0 && now >= o->first_asked + SCHED_GRACE_MS;
	return now < o->busy_until;
}

static int
has_room(const struct source *o)
{
	return o->flying < (o->health == SCHED_NEW ? 1 : o->window);
}

/* What one more request would take, about. */
static uint64_t
cost(const struct source *o)
{
	return (o->latency8 + 8) * (o->window + o->flying) / o->window;
}

/* The source for this block; -1: none now. */
static int
choose(const struct sched *s, const struct slot *b, uint64_t now)
{
	unsigned stage = 0, next_stage;
	int best, wait;

	for (;;) {
		best = -1;
		wait = 0;
		next_stage = UINT32_MAX;
		for (unsigned i = 0; i < s->nsources; i++) {
			const struct source *o = &s->sources[i];

			if (o->is.stage > stage && o->is.stage < next_stage)
				next_stage = o->is.stage;
			if (o->is.stage != stage || !can_have(o, b, i) || passed_over(o, now))
				continue;
			if (!has_room(o))
				wait = 1;
			else if (best < 0 || cost(o) < cost(&s->sources[best]))
				best = (int)i;
		}
		if (best >= 0 || wait || next_stage == UINT32_MAX)
			return best;
		stage = next_stage;
	}
}

static uint64_t
stream_hold(const struct sched *s)
{
	uint64_t hold = s->stream.gap8;

	if (!s->stream.began || hold > s->deadline_ms)
		return s->deadline_ms;
	return hold > STREAM_HOLD_MS ? hold : STREAM_HOLD_MS;
}

/* The stream will bring it. */
static int
held(const struct sched *s, const struct slot *b, uint64_t now)
{
	if (!s->stream.runs || b->seq < s->stream.seq || now >= s->stream.last + stream_hold(s))
		return 0;
	return b->prev < s->nslots || now < b->since + s->deadline_ms;
}

static int
waits(const struct slot *b)
{
	return b->wanted && flying(b) == 0 && (b->r[0].state == FREE || b->r[1].state == FREE);
}

/* When it may be asked for although a probe is under way for it, whose answer nobody shall wait for; UINT64_MAX: it is
 * not. */
static uint64_t
beside_probe(const struct slot *b)
{
	const struct request *r = &b->r[b->r[0].state != FLYING];

	if (!b->wanted || flying(b) != 1 || !r->probe || (b->r[0].state != FREE && b->r[1].state != FREE))
		return UINT64_MAX;
	return r->since + SCHED_GRACE_MS;
}

static int
next_probe(struct sched *s, uint64_t now, struct sched_ask *a)
{
	for (unsigned i = 0; i < s->nsources; i++) {
		struct source *o = &s->sources[i];

		if (o->health == SCHED_DEAD && now >= o->dead_until) {
			o->health = SCHED_BYPASSED;
			o->probe_at = now;
		}
		if (o->health != SCHED_BYPASSED || o->probing || now < o->probe_at)
			continue;
		/* The last one: it can wait longest should the probe fail. */
		for (unsigned at = s->tail; at < s->nslots; at = s->slots[at].prev) {
			struct slot *b = &s->slots[at];

			if (!waits(b) || (b->tried >> i & 1) || (o->is.leaves && b->level != 0) || held(s, b, now))
				continue;
			start(s, now, b, i, 0, 1, a);
			return 1;
		}
	}
	return 0;
}

/* When a request is slower than usual, or UINT64_MAX. */
static uint64_t
hedge_at(const struct sched *s, const struct slot *b)
{
	const struct request *r = &b->r[b->r[0].state != FLYING];
	const struct source *o = &s->sources[r->source];
	uint64_t usual = o->latency8 / 8 + o->deviation4;

	if (!b->wanted || flying(b) != 1 || (b->r[0].state != FREE && b->r[1].state != FREE))
		return UINT64_MAX;
	if (o->answers < ANSWERS)
		usual = s->deadline_ms / 2;
	if (usual < HEDGE_MIN_MS)
		usual = HEDGE_MIN_MS;
	return r->since + usual + 1;
}

/* Of the earliest stage that has one. */
static int
second_source(const struct sched *s, const struct slot *b, uint64_t now)
{
	unsigned first = b->r[b->r[0].state != FLYING].source;
	int best = -1;

	for (unsigned i = 0; i < s->nsources; i++) {
		const struct source *o = &s->sources[i];

		if (i != first && can_have(o, b, i) && !passed_over(o, now) && has_room(o) &&
		    (best < 0 || o->is.stage < s->sources[best].is.stage ||
		    (o->is.stage == s->sources[best].is.stage && cost(o) < cost(&s->sources[best]))))
			best = (int)i;
	}
	return best;
}

static int
may_hedge(const struct sched *s)
{
	return (s->totals.hedged + 1) * 100 <= s->totals.asked * SCHED_HEDGE_PERCENT;
}

static int
next_hedge(struct sched *s, uint64_t now, struct sched_ask *a)
{
	struct slot *slowest = NULL;
	uint64_t least = UINT64_MAX;
	int source, best = -1;

	if (!may_hedge(s) || s->no_hedge == now)
		return 0;
	for (unsigned i = s->head; i < s->nslots; i = s->slots[i].next) {
		struct slot *b = &s->slots[i];

		if (hedge_at(s, b) > now || b->r[b->r[0].state != FLYING].since >= least)
			continue;
		if ((source = second_source(s, b, now)) < 0)
			continue;
		least = b->r[b->r[0].state != FLYING].since;
		slowest = b;
		best = source;
	}
	if (slowest == NULL) {
		s->no_hedge = now; /* once a millisecond is often enough */
		return 0;
	}
	start(s, now, slowest, (unsigned)best, 1, 0, a);
	return 1;
}

int
sched_next(struct sched *s, uint64_t now, struct sched_ask *a)
{
	int source;

	tick(s, now);
	if (next_probe(s, now, a))
		return 1;
	for (unsigned i = s->head; i < s->nslots; i = s->slots[i].next) {
		struct slot *b = &s->slots[i];

		if ((!waits(b) && now < beside_probe(b)) || held(s, b, now) || (source = choose(s, b, now)) < 0)
			continue;
		start(s, now, b, (unsigned)source, 0, s->sources[source].health == SCHED_NEW, a);
		return 1;
	}
	return next_hedge(s, now, a);
}

/* --- Answers ----------------------------------------------------------------------------------------- */

/* The block is there: nobody needs to bring it any more.  What a probe finds out is of use all the same. */
static void
delivered(struct sched *s, struct slot *b)
{
	b->wanted = 0;
	s->wanted--;
	for (unsigned k = 0; k < 2; k++)
		if (b->r[k].state == FLYING && !b->r[k].probe)
			cancel(s, &b->r[k]);
	release(s, b);
}

/* Nobody else is there who could be asked for any block. */
static int
is_last(const struct sched *s, unsigned source)
{
	for (unsigned i = 0; i < s->nsources; i++)
		if (i != source && !s->sources[i].is.leaves &&
		    (s->sources[i].health == SCHED_USABLE || s->sources[i].health == SCHED_NEW))
			return 0;
	return 1;
}

/* It has looked for it until its time was over. */
static int
ran_out(const struct source *o, const struct request *r, uint64_t now)
{
	return o->is.by_id && (now - r->since) * 100 >= (r->deadline - r->since) * SCHED_LATE_PERCENT;
}

/* WAS_NEW: it is its first answer. */
static void
missed(struct sched *s, uint64_t now, struct slot *b, const struct request *r, int was_new)
{
	unsigned source = r->source;
	struct source *o = &s->sources[source];

	b->tried |= 1u << source;
	if (!ran_out(o, r, now)) {
		b->lacks |= 1u << source;
	} else if (s->insists) {
		retry_later(s, now, b);
		if (o->health == SCHED_USABLE && is_last(s, source)) {
			o->missed++;
			if (o->misses++ == 0)
				narrow(o);
			return;
		}
	}
	o->missed++;
	o->misses++;
	o->history = o->history << 1 | 1;
	o->nhistory += o->nhistory < 64;
	if (o->health == SCHED_BYPASSED) {
		if (r->probe)
			bypass(s, now, source, keeps_missing);
		return;
	}
	if (o->health == SCHED_USABLE && ran_out(o, r, now) && (was_new || is_out(s, o, o->misses, now))) {
		bypass(s, now, source, keeps_missing);
		cancel_all(s, source); /* they would take as long */
	} else if (o->health == SCHED_USABLE && (o->misses >= MISSES_IN_A_ROW ||
	    (o->nhistory == 64 && __builtin_popcountll(o->history) >= MISSES_OF_64)))
		bypass(s, now, source, keeps_missing);
}

static void
unreachable(struct sched *s, uint64_t now, unsigned source, const char *why)
{
	drop(s, source, SCHED_DEAD, why);
	s->sources[source].dead_until = now + SCHED_DEAD_MS;
}

static void
pause_source(struct sched *s, uint64_t now, unsigned source, const struct request *r, uint32_t retry_ms,
    int breaks)
{
	struct source *o = &s->sources[source];
	uint64_t ms = (uint64_t)BUSY_MS << (o->busy < 8 ? o->busy : 8);

	if (o->health == SCHED_BYPASSED && r->probe) {
		bypass(s, now, source, o->why);
		return;
	}
	if (!breaks)
		o->breaks = 0;
	if (now >= o->busy_until) { /* requests that were under way together count once */
		o->busy++;
		o->breaks += (unsigned)breaks;
		shrink(o);
	}
	if (retry_ms > ms)
		ms = retry_ms;
	if (now + ms > o->busy_until)
		o->busy_until = now + ms;
	if (o->health == SCHED_NEW)
		o->health = SCHED_USABLE;
	if (o->breaks >= BREAKS_IN_A_ROW && o->health == SCHED_USABLE)
		unreachable(s, now, source, "breaks every connection");
	else if (o->busy >= BUSY_IN_A_ROW && o->health == SCHED_USABLE)
		bypass(s, now, source, "is always busy");
}

static void
bad_answer(struct sched *s, uint64_t now, struct slot *b, const struct request *r, enum sched_outcome outcome,
    uint32_t retry_ms, const char *why)
{
	unsigned source = r->source;
	struct source *o = &s->sources[source];
	int was_new = o->health == SCHED_NEW;

	switch (outcome) {
	case SCHED_MISSING:
		alive(o, r, 0);
		missed(s, now, b, r, was_new);
		break;
	case SCHED_BUSY:
	case SCHED_BREAKS:
		pause_source(s, now, source, r, retry_ms, outcome == SCHED_BREAKS);
		break;
	case SCHED_UNREACHABLE:
		unreachable(s, now, source, why != NULL ? why : "cannot be reached");
		break;
	case SCHED_LIE:
	case SCHED_FOREIGN:
	case SCHED_BLOCK: /* not here */
		if (outcome == SCHED_LIE && o->is.by_id)
			drop(s, source, SCHED_LIAR, why != NULL ? why : "gave a wrong block");
		else
			drop(s, source, SCHED_DROPPED, why != NULL ? why : "has another encoding");
		break;
	}
}

int
sched_answer(struct sched *s, uint64_t now, uint32_t id, enum sched_outcome outcome, uint32_t retry_ms,
    const char *why)
{
	struct slot *b;
	struct request *r = lookup(s, id, &b), was;
	struct source *o;
	int first;

	if (r == NULL)
		return 0;
	was = *r;
	if (r->state == CANCELLED)
		s->ncancelled--;
	else
		land(s, r);
	r->state = FREE;
	r->generation++;
	o = &s->sources[was.source];
	if (outcome != SCHED_BLOCK) {
		bad_answer(s, now, b, &was, outcome, retry_ms, why);
		release(s, b);
		return 0;
	}
	first = b->wanted;
	*(first ? &o->delivered : &o->spare) += 1;
	s->totals.spare += !first;
	alive(o, &was, 1);
	note_latency(o, now - was.since);
	if (now - was.since < o->nearest)
		o->nearest = now - was.since;
	o->history <<= 1;
	o->nhistory += o->nhistory < 64;
	note_round(s, now, was.source);
	if (first)
		delivered(s, b);
	else
		release(s, b);
	return first;
}

/* --- The stream -------------------------------------------------------------------------------------- */

void
sched_stream(struct sched *s, uint64_t now, int runs)
{
	memset(&s->stream, 0, sizeof s->stream);
	s->stream.runs = (uint8_t)(runs != 0);
	s->stream.last = now;
}

int
sched_arrived(struct sched *s, uint64_t now, const uint8_t ref[ERIS_REF])
{
	struct slot *b = find(s, ref);
	uint64_t gap = now - s->stream.last;

	/* gap8 is the gap times 8: what is waited for. */
	s->stream.gap8 = s->stream.began ? s->stream.gap8 - s->stream.gap8 / 8 + gap : gap * 8;
	s->stream.began = 1;
	s->stream.last = now;
	if (b == NULL)
		return 0;
	if (b->seq > s->stream.seq)
		s->stream.seq = b->seq;
	s->totals.streamed++;
	delivered(s, b);
	return 1;
}

/* --- What is next, and what is known ----------------------------------------------------------------- */

static void
earlier(uint64_t *due, uint64_t when)
{
	if (when < *due)
		*due = when;
}

static int
hopeless(const struct sched *s, const struct slot *b)
{
	if (!waits(b))
		return 0;
	for (unsigned i = 0; i < s->nsources; i++)
		if (can_have(&s->sources[i], b, i))
			return 0;
	return 1;
}

uint64_t
sched_due(const struct sched *s, uint64_t now)
{
	uint64_t due = UINT64_MAX;
	int waiting = 0;

	for (unsigned i = s->head; i < s->nslots; i = s->slots[i].next) {
		const struct slot *b = &s->slots[i];

		for (unsigned k = 0; k < 2; k++)
			if (b->r[k].state == FLYING)
				earlier(&due, b->r[k].deadline);
		if (may_hedge(s) && hedge_at(s, b) > now)
			earlier(&due, hedge_at(s, b));
		if (!waits(b)) {
			if (beside_probe(b) > now)
				earlier(&due, beside_probe(b));
			continue;
		}
		waiting = 1;
		if (b->retry > now)
			earlier(&due, b->retry);
		if (held(s, b, now)) {
			earlier(&due, s->stream.last + stream_hold(s));
			if (b->prev == s->nslots)
				earlier(&due, b->since + s->deadline_ms);
		}
	}
	for (unsigned i = 0; i < s->nsources && waiting; i++) {
		const struct source *o = &s->sources[i];

		if (o->health == SCHED_BYPASSED && !o->probing && o->probe_at > now)
			earlier(&due, o->probe_at);
		if (o->health == SCHED_BYPASSED && o->delivered > 0 && o->last + s->deadline_ms > now)
			earlier(&due, o->last + s->deadline_ms);
		if (o->health == SCHED_DEAD && o->dead_until > now)
			earlier(&due, o->dead_until);
		if (o->health == SCHED_USABLE && o->busy_until > now)
			earlier(&due, o->busy_until);
		if (o->health == SCHED_NEW && o->flying > 0 && o->first_asked + SCHED_GRACE_MS > now)
			earlier(&due, o->first_asked + SCHED_GRACE_MS);
	}
	return due;
}

/* A source that is bypassed just now may bring it yet: it brought others not long ago. */
static int
may_return(const struct sched *s, const struct slot *b, uint64_t now)
{
	for (unsigned i = 0; i < s->nsources; i++) {
		const struct source *o = &s->sources[i];

		if (o->health == SCHED_BYPASSED && !(b->tried >> i & 1) && (!o->is.leaves || b->level == 0) &&
		    o->delivered > 0 && now < o->last + s->deadline_ms)
			return 1;
	}
	return 0;
}

int
sched_stuck(const struct sched *s, uint64_t now, uint8_t ref[ERIS_REF])
{
	for (unsigned i = s->head; i < s->nslots; i = s->slots[i].next)
		if (hopeless(s, &s->slots[i]) && !held(s, &s->slots[i], now) && !may_return(s, &s->slots[i], now)) {
			memcpy(ref, s->slots[i].ref, ERIS_REF);
			return 1;
		}
	return 0;
}

/* Whatever it says next, this source will not bring it. */
static int
has_said_no(const struct source *o, const struct slot *b, unsigned source)
{
	return (b->lacks >> source & 1) != 0 || (o->is.leaves && b->level != 0) ||
	    (o->health != SCHED_NEW && o->health != SCHED_USABLE && o->health != SCHED_BYPASSED);
}

int
sched_nowhere(const struct sched *s, uint64_t now)
{
	for (unsigned at = s->head; at < s->nslots; at = s->slots[at].next) {
		const struct slot *b = &s->slots[at];
		unsigned i = 0;

		if (!waits(b) || held(s, b, now))
			continue;
		while (i < s->nsources && has_said_no(&s->sources[i], b, i))
			i++;
		if (i == s->nsources)
			return 1;
	}
	return 0;
}

void
sched_again(struct sched *s, uint64_t now, unsigned stage)
{
	uint32_t again = 0;

	for (unsigned i = 0; i < s->nsources; i++) {
		struct source *o = &s->sources[i];

		if (o->is.stage > stage)
			continue;
		again |= 1u << i;
		o->is.deadline_ms = 0;
		if (o->health == SCHED_BYPASSED && o->why == keeps_missing) {
			o->health = SCHED_USABLE; /* what it lacked says nothing any more */
			o->why = NULL;
		} else if (o->health == SCHED_BYPASSED && o->probe_at > now) {
			o->probe_at = now;
		}
	}
	for (unsigned i = s->head; i < s->nslots; i = s->slots[i].next) {
		s->slots[i].tried &= ~again;
		s->slots[i].lacks &= ~again;
	}
}

void
sched_insist(struct sched *s, uint64_t now)
{
	s->insists = 1;
	sched_again(s, now, UINT32_MAX);
}

void
sched_figures(const struct sched *s, unsigned source, struct sched_figures *f)
{
	const struct source *o = &s->sources[source];

	*f = (struct sched_figures){ .health = o->health, .why = o->why, .dead_until = o->dead_until,
		.flying = o->flying, .window = o->window, .latency_ms = (uint32_t)(o->latency8 / 8),
		.deviation_ms = (uint32_t)(o->deviation4 / 4), .deadline_ms = deadline_of(s, o), .rate = o->rate,
		.asked = o->asked, .delivered = o->delivered, .missed = o->missed, .late = o->late,
		.hedged = o->hedged, .spare = o->spare };
}

void
sched_totals(const struct sched *s, struct sched_totals *t)
{
	*t = s->totals;
	t->wanted = s->wanted;
}
