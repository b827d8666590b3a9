/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (ipfs), scheduler: the table of wanted blocks, and the requests for each. */
#include <string.h>

#include "helper/ipfs/sched_own.h"

/* --- Wanted blocks ---------------------------------------------------------------------------------- */

struct slot *
schedtable_find(struct sched *s, const uint8_t ref[ERIS_REF])
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

	if (schedtable_find(s, ref) != NULL)
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

void
schedtable_release(struct sched *s, struct slot *b)
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

/* --- Requests --------------------------------------------------------------------------------------- */

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

void
schedtable_cancel(struct sched *s, struct request *r)
{
	land(s, r);
	r->state = CANCELLED;
	s->ncancelled++;
}

void
schedtable_end(struct sched *s, struct request *r)
{
	if (r->state == CANCELLED)
		s->ncancelled--;
	else
		land(s, r);
	r->state = FREE;
	r->generation++;
}

void
schedtable_cancel_all(struct sched *s, unsigned source)
{
	for (unsigned i = s->head; i < s->nslots; i = s->slots[i].next)
		for (unsigned k = 0; k < 2; k++)
			if (s->slots[i].r[k].state == FLYING && s->slots[i].r[k].source == source)
				schedtable_cancel(s, &s->slots[i].r[k]);
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
			schedtable_end(s, &b->r[k]);
			schedtable_release(s, b);
			return 1;
		}
	return 0;
}

struct request *
schedtable_lookup(struct sched *s, uint32_t id, struct slot **b)
{
	unsigned i = (id & 0xffff) >> 1;
	struct request *r;

	if (i >= s->nslots)
		return NULL;
	*b = &s->slots[i];
	r = &(*b)->r[id & 1];
	return r->state != FREE && r->generation == id >> 16 ? r : NULL;
}

/* Another source could bring it if this one does not. */
static int
has_other(const struct sched *s, const struct slot *b, unsigned source)
{
	for (unsigned i = 0; i < s->nsources; i++)
		if (i != source && schedsource_can_have(&s->sources[i], b, i))
			return 1;
	return 0;
}

void
schedtable_start(struct sched *s, uint64_t now, struct slot *b, unsigned source, int hedge, int probe,
    struct sched_ask *a)
{
	unsigned k = b->r[0].state != FREE;
	struct source *o = &s->sources[source];
	struct request *r = &b->r[k];

	/* Haste is of use only where somebody else can be asked. */
	a->timeout_ms = has_other(s, b, source) && b->times == 0 ? schedsource_deadline(s, o) :
	    schedsource_longest(s, o) << (b->times < 2 ? b->times : 2);
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
