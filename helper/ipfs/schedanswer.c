/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (ipfs), scheduler: what an answer means, and one that does not come. */
#include "helper/ipfs/sched_own.h"

#define MISSES_IN_A_ROW 16
#define MISSES_OF_64 48
#define LATE_IN_A_ROW 8
#define BUSY_IN_A_ROW 8
#define BREAKS_IN_A_ROW 3
#define BUSY_MS 250

/* --- None in time ----------------------------------------------------------------------------------- */

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
	schedtable_cancel(s, r);
	if (o->health != SCHED_USABLE && o->health != SCHED_NEW) {
		if (was_probe)
			schedsource_bypass(s, now, source, o->why);
		return;
	}
	if (o->lates++ == 0) {
		if (s->insists)
			schedsource_narrow(o);
		else
			schedsource_shrink(o);
	}
	if (o->health == SCHED_NEW || is_out(s, o, o->lates, now)) {
		schedsource_bypass(s, now, source, "does not answer");
		/* The others wait in vain as well, but that is not known of them: they may be asked again. */
		schedtable_cancel_all(s, source);
	}
}

void
schedanswer_tick(struct sched *s, uint64_t now)
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

/* --- Answers ---------------------------------------------------------------------------------------- */

void
schedanswer_delivered(struct sched *s, struct slot *b)
{
	b->wanted = 0;
	s->wanted--;
	for (unsigned k = 0; k < 2; k++)
		if (b->r[k].state == FLYING && !b->r[k].probe)
			schedtable_cancel(s, &b->r[k]);
	schedtable_release(s, b);
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
				schedsource_narrow(o);
			return;
		}
	}
	o->missed++;
	o->misses++;
	o->history = o->history << 1 | 1;
	o->nhistory += o->nhistory < 64;
	if (o->health == SCHED_BYPASSED) {
		if (r->probe)
			schedsource_bypass(s, now, source, schedsource_keeps_missing);
		return;
	}
	if (o->health == SCHED_USABLE && ran_out(o, r, now) && (was_new || is_out(s, o, o->misses, now))) {
		schedsource_bypass(s, now, source, schedsource_keeps_missing);
		schedtable_cancel_all(s, source); /* they would take as long */
	} else if (o->health == SCHED_USABLE && (o->misses >= MISSES_IN_A_ROW ||
	    (o->nhistory == 64 && __builtin_popcountll(o->history) >= MISSES_OF_64)))
		schedsource_bypass(s, now, source, schedsource_keeps_missing);
}

static void
unreachable(struct sched *s, uint64_t now, unsigned source, const char *why)
{
	schedsource_drop(s, source, SCHED_DEAD, why);
	s->sources[source].dead_until = now + SCHED_DEAD_MS;
}

static void
pause_source(struct sched *s, uint64_t now, unsigned source, const struct request *r, uint32_t retry_ms,
    int breaks)
{
	struct source *o = &s->sources[source];
	uint64_t ms = (uint64_t)BUSY_MS << (o->busy < 8 ? o->busy : 8);

	if (o->health == SCHED_BYPASSED && r->probe) {
		schedsource_bypass(s, now, source, o->why);
		return;
	}
	if (!breaks)
		o->breaks = 0;
	if (now >= o->busy_until) { /* requests that were under way together count once */
		o->busy++;
		o->breaks += (unsigned)breaks;
		schedsource_shrink(o);
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
		schedsource_bypass(s, now, source, "is always busy");
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
		schedsource_alive(o, r, 0);
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
			schedsource_drop(s, source, SCHED_LIAR, why != NULL ? why : "gave a wrong block");
		else
			schedsource_drop(s, source, SCHED_DROPPED, why != NULL ? why : "has another encoding");
		break;
	}
}

int
sched_answer(struct sched *s, uint64_t now, uint32_t id, enum sched_outcome outcome, uint32_t retry_ms,
    const char *why)
{
	struct slot *b;
	struct request *r = schedtable_lookup(s, id, &b), was;
	struct source *o;
	int first;

	if (r == NULL)
		return 0;
	was = *r;
	schedtable_end(s, r);
	o = &s->sources[was.source];
	if (outcome != SCHED_BLOCK) {
		bad_answer(s, now, b, &was, outcome, retry_ms, why);
		schedtable_release(s, b);
		return 0;
	}
	first = b->wanted;
	*(first ? &o->delivered : &o->spare) += 1;
	s->totals.spare += !first;
	schedsource_alive(o, &was, 1);
	schedsource_note_latency(o, now - was.since);
	if (now - was.since < o->nearest)
		o->nearest = now - was.since;
	o->history <<= 1;
	o->nhistory += o->nhistory < 64;
	schedsource_note_round(s, now, was.source);
	if (first)
		schedanswer_delivered(s, b);
	else
		schedtable_release(s, b);
	return first;
}
