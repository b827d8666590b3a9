/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (ipfs), scheduler: what is asked of whom, and when. */
#include "helper/ipfs/sched_own.h"

/* Below this a slow answer is noise: asking elsewhere costs more than it gains. */
#define HEDGE_MIN_MS 50

/* --- A source for a block --------------------------------------------------------------------------- */

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
			if (o->is.stage != stage || !schedsource_can_have(o, b, i) || passed_over(o, now))
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

/* --- Probes ----------------------------------------------------------------------------------------- */

/* When it may be asked for although a probe is under way for it, whose answer nobody shall wait for; UINT64_MAX: it is
 * not. */
static uint64_t
beside_probe(const struct slot *b)
{
	const struct request *r = &b->r[b->r[0].state != FLYING];

	if (!b->wanted || schedtable_flying(b) != 1 || !r->probe ||
	    (b->r[0].state != FREE && b->r[1].state != FREE))
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

			if (!schedtable_waits(b) || (b->tried >> i & 1) || (o->is.leaves && b->level != 0) ||
			    schedstream_held(s, b, now))
				continue;
			schedtable_start(s, now, b, i, 0, 1, a);
			return 1;
		}
	}
	return 0;
}

/* --- Hedges ----------------------------------------------------------------------------------------- */

/* When a request is slower than usual, or UINT64_MAX. */
static uint64_t
hedge_at(const struct sched *s, const struct slot *b)
{
	const struct request *r = &b->r[b->r[0].state != FLYING];
	const struct source *o = &s->sources[r->source];
	uint64_t usual = o->latency8 / 8 + o->deviation4;

	if (!b->wanted || schedtable_flying(b) != 1 || (b->r[0].state != FREE && b->r[1].state != FREE))
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

		if (i != first && schedsource_can_have(o, b, i) && !passed_over(o, now) && has_room(o) &&
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
	schedtable_start(s, now, slowest, (unsigned)best, 1, 0, a);
	return 1;
}

/* --- What is next, and when ------------------------------------------------------------------------- */

int
sched_next(struct sched *s, uint64_t now, struct sched_ask *a)
{
	int source;

	schedanswer_tick(s, now);
	if (next_probe(s, now, a))
		return 1;
	for (unsigned i = s->head; i < s->nslots; i = s->slots[i].next) {
		struct slot *b = &s->slots[i];

		if ((!schedtable_waits(b) && now < beside_probe(b)) || schedstream_held(s, b, now) ||
		    (source = choose(s, b, now)) < 0)
			continue;
		schedtable_start(s, now, b, (unsigned)source, 0, s->sources[source].health == SCHED_NEW, a);
		return 1;
	}
	return next_hedge(s, now, a);
}

static void
earlier(uint64_t *due, uint64_t when)
{
	if (when < *due)
		*due = when;
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
		if (!schedtable_waits(b)) {
			if (beside_probe(b) > now)
				earlier(&due, beside_probe(b));
			continue;
		}
		waiting = 1;
		if (b->retry > now)
			earlier(&due, b->retry);
		if (schedstream_held(s, b, now)) {
			earlier(&due, s->stream.last + schedstream_hold(s));
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
