/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (ipfs), scheduler: making it, whether there is hope, and asking all once more. */
#include <stdlib.h>
#include <string.h>

#include "helper/ipfs/sched_own.h"

/* --- Making it -------------------------------------------------------------------------------------- */

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

/* --- Hope ------------------------------------------------------------------------------------------- */

static int
hopeless(const struct sched *s, const struct slot *b)
{
	if (!schedtable_waits(b))
		return 0;
	for (unsigned i = 0; i < s->nsources; i++)
		if (schedsource_can_have(&s->sources[i], b, i))
			return 0;
	return 1;
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
		if (hopeless(s, &s->slots[i]) && !schedstream_held(s, &s->slots[i], now) &&
		    !may_return(s, &s->slots[i], now)) {
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

		if (!schedtable_waits(b) || schedstream_held(s, b, now))
			continue;
		while (i < s->nsources && has_said_no(&s->sources[i], b, i))
			i++;
		if (i == s->nsources)
			return 1;
	}
	return 0;
}

/* --- Once more -------------------------------------------------------------------------------------- */

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
		if (o->health == SCHED_BYPASSED && o->why == schedsource_keeps_missing) {
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

/* --- What is known ---------------------------------------------------------------------------------- */

void
sched_totals(const struct sched *s, struct sched_totals *t)
{
	*t = s->totals;
	t->wanted = s->wanted;
}
