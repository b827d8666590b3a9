/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch), blocks: which of the nar are wanted just now, and those that come are taken. */
#include <string.h>

#include "helper/fetch/blocks_own.h"

/* --- Wanted blocks ---------------------------------------------------------------------------------- */

static uint16_t *
chain_of(struct blocks *b, const uint8_t *ref)
{
	return &b->chains[(ref[0] | ref[1] << 8) & (CHAINS - 1)];
}

struct want *
blockwants_find(struct blocks *b, const uint8_t *ref)
{
	for (unsigned i = *chain_of(b, ref); i < WANTS; i = b->wants[i].next)
		if (memcmp(b->wants[i].ref, ref, ERIS_REF) == 0)
			return &b->wants[i];
	return NULL;
}

static void
add_want(struct blocks *b, const struct decode_want *d)
{
	struct want *w = &b->wants[b->unused];
	uint16_t *chain = chain_of(b, d->ref), at = b->unused;

	b->unused = w->next;
	memcpy(w->ref, d->ref, ERIS_REF);
	w->offset = d->offset;
	w->level = d->level;
	w->used = 1;
	w->missed = 0;
	w->next = *chain;
	*chain = at;
}

static void
remove_want(struct blocks *b, struct want *w)
{
	uint16_t *at = chain_of(b, w->ref), me = (uint16_t)(w - b->wants);

	while (*at != me)
		at = &b->wants[*at].next;
	*at = w->next;
	w->used = 0;
	w->next = b->unused;
	b->unused = me;
}

void
blockwants_fill(struct blocks *b)
{
	struct decode_want w;
	struct err e;
	int rc = 1;

	if (b->state == BLOCKS_BROKEN)
		return;
	while (b->unused < WANTS && sched_room(b->sched) > 0 && (rc = decode_want(b->decode, &w, &e)) == 1) {
		add_want(b, &w);
		(void)sched_want(b->sched, b->fetch->now, w.ref, w.level);
	}
	if (rc < 0)
		blocks_broken(b, &e);
}

/* --- What has come ---------------------------------------------------------------------------------- */

static unsigned
recent_of(const uint8_t *ref)
{
	return (unsigned)(ref[0] | ref[1] << 8) & (RECENT - 1);
}

static void
note_recent(struct blocks *b, const uint8_t *ref)
{
	unsigned i = recent_of(ref);

	memcpy(b->recent[i][b->recent_at[i]++ % RECENT_KEPT], ref, ERIS_REF);
}

int
blockwants_is_recent(const struct blocks *b, const uint8_t *ref)
{
	unsigned i = recent_of(ref);

	for (unsigned k = 0; k < RECENT_KEPT; k++)
		if (memcmp(b->recent[i][k], ref, ERIS_REF) == 0)
			return 1;
	return 0;
}

void
blockwants_arrived(struct blocks *b, struct want *w, const struct origin *o, const uint8_t *data, size_t len)
{
	blockwhere_note(b, o->from, o->at);
	if (o->from != FROM_IPFS)
		blockheal_came(b, w, o->from, data, len);
	note_recent(b, w->ref);
	remove_want(b, w);
}

enum decode_verdict
blockwants_give_one(struct blocks *b, const struct origin *o, const uint8_t *ref, int known, const uint8_t *data,
    size_t len)
{
	struct decode_given given = { .ref = ref, .block = data, .len = len, .known = (uint8_t)known };
	struct want *w = blockwants_find(b, ref);
	struct err e;

	if (w == NULL || b->state == BLOCKS_BROKEN)
		return DECODE_SPARE;
	if (decode_give(b->decode, &given, 1, &e) != 0) {
		blocks_broken(b, &e);
		return DECODE_SPARE;
	}
	if (given.verdict == DECODE_TAKEN)
		blockwants_arrived(b, w, o, data, len);
	return given.verdict;
}
