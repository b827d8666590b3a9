/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch), healing: which blocks of which nar are still to be put, and what becomes of its entry in
 * the journal. */
#include <string.h>

#include "helper/fetch/heal_own.h"

/* --- The references of the nar at hand --------------------------------------------------------------- */

size_t
healnars_slot_of(const struct heal *h, const uint8_t ref[ERIS_REF])
{
	size_t i = ((size_t)ref[0] | (size_t)ref[1] << 8) % TABLE; /* a hash already */

	while (h->state[i] != UNKNOWN && memcmp(h->refs[i], ref, ERIS_REF) != 0)
		i = (i + 1) % TABLE;
	return i;
}

void
healnars_empty_table(struct heal *h)
{
	memset(h->state, UNKNOWN, sizeof h->state);
	memset(h->came, 0, sizeof h->came);
	h->in_table = 0;
}

enum known
healnars_known_of(const struct heal *h, const struct nar *n, const uint8_t *ref)
{
	enum known known = (enum known)h->state[healnars_slot_of(h, ref)];

	return known == UNKNOWN && n->many && memcmp(h->last, ref, ERIS_REF) == 0 ? h->last_known : known;
}

void
healnars_note(struct heal *h, struct nar *n, const uint8_t *ref, enum known known)
{
	size_t slot = healnars_slot_of(h, ref);

	n->outstanding += h->state[slot] == UNKNOWN;
	if (h->state[slot] == UNKNOWN && h->in_table == TABLE / 2) {
		n->many = 1;
		memcpy(h->last, ref, ERIS_REF);
		h->last_known = known;
		return;
	}
	h->in_table += h->state[slot] == UNKNOWN;
	memcpy(h->refs[slot], ref, ERIS_REF);
	h->state[slot] = (uint8_t)known;
}

void
healnars_came(struct heal *h, const uint8_t *ref)
{
	size_t slot = healnars_slot_of(h, ref);

	h->repaired += !h->came[slot];
	h->came[slot] = h->state[slot] != UNKNOWN; /* else it is not in the table */
}

/* --- Nars -------------------------------------------------------------------------------------------- */

struct nar *
healnars_of(struct heal *h, uint32_t id)
{
	for (int i = 0; i < NARS; i++)
		if (h->nars[i].id == id)
			return &h->nars[i];
	return NULL;
}

void
healnars_settle(struct heal *h, struct nar *n)
{
	int fd = h->fetch->journal;

	if (n->begun || n->pending > 0)
		return;
	if (n->written && (n->entry.all ? !n->unknown && !n->merged && n->outstanding == 0 : n->entry.nrefs == 0))
		(void)journal_drop(fd, &n->entry);
	else if (n->written && n->changed && !n->entry.all)
		(void)journal_change(fd, &n->entry);
	n->id = 0;
	if (h->current == n)
		h->current = NULL;
}

/* 1 if it was listed. */
static int
forget_ref(struct journal_entry *j, const uint8_t ref[ERIS_REF])
{
	for (unsigned i = 0; i < j->nrefs; i++)
		if (memcmp(j->refs[i], ref, ERIS_REF) == 0) {
			memmove(j->refs[i], j->refs[i + 1], (--j->nrefs - i) * sizeof j->refs[0]);
			return 1;
		}
	return 0;
}

void
healnars_copy_done(struct heal *h, const struct copy *c, enum outcome outcome)
{
	struct nar *n = healnars_of(h, c->nar);

	if (n == NULL)
		return;
	n->pending--;
	h->reinserted += outcome == PUT && n == h->current;
	if (outcome != LEFT && c->known != UNKNOWN) {
		size_t slot = healnars_slot_of(h, c->ref);

		if (n->outstanding > 0)
			n->outstanding--;
		if (n->begun && h->state[slot] != UNKNOWN)
			h->state[slot] = STORED;
		/* Others may lack the same block, and have taken over what was written down before. */
		for (int i = 0; i < NARS; i++)
			if (h->nars[i].id != 0 && forget_ref(&h->nars[i].entry, c->ref))
				h->nars[i].changed = 1;
	}
	healnars_settle(h, n);
}

struct nar *
healnars_new(struct heal *h)
{
	struct nar *oldest = &h->nars[0], *n = healnars_of(h, 0);

	for (int i = 1; n == NULL && i < NARS; i++)
		if (h->nars[i].id < oldest->id)
			oldest = &h->nars[i];
	if (n == NULL) {
		healqueue_give_up(h, oldest->id);
		if (oldest->id != 0) { /* the rest is on its way, and comes back to nobody */
			oldest->pending = 0;
			healnars_settle(h, oldest);
		}
		n = oldest;
	}
	memset(n, 0, sizeof *n);
	n->id = ++h->ids;
	return n;
}
