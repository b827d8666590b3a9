/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch), blocks: what came from elsewhere although IPFS should have it is put back (heal.h). */
#include <stdlib.h>
#include <string.h>

#include "helper/fetch/blockpool.h"
#include "helper/fetch/blocks_own.h"
#include "helper/fetch/heal.h"

/* Blocks from elsewhere are news for IPFS only if there is one that should have had them. */
int
blockheal_ipfs_fails(const struct blocks *b)
{
	int some = 0;

	for (unsigned i = 0; i < b->norigins; i++) {
		struct sched_figures s;

		if (b->origins[i].from != FROM_IPFS)
			continue;
		sched_figures(b->sched, i, &s);
		if (s.health == SCHED_USABLE || s.health == SCHED_NEW ||
		    (s.health == SCHED_BYPASSED && s.missed + s.late == 0))
			return 0; /* one that is only slow would have had it */
		some |= s.health == SCHED_BYPASSED || s.health == SCHED_DEAD;
	}
	return some;
}

/* --- Doubts: blocks that IPFS may or may not have missed -------------------------------------------- */

struct doubt *
blockheal_doubt_of(struct blocks *b, uint32_t id)
{
	for (unsigned i = 0; i < DOUBTS; i++)
		if (b->doubts[i].data != NULL && b->doubts[i].id == id)
			return &b->doubts[i];
	return NULL;
}

/* If IPFS is still looking for it, its answer is waited for: 0.  1: it is not; -1: it is, but there is no
 * room to keep the block until then. */
static int
doubt(struct blocks *b, const struct want *w, const uint8_t *data)
{
	const struct ask *a = b->asks, *end = b->asks + 2 * WANTS;
	struct doubt *d = b->doubts;

	while (a < end && (!a->active || b->origins[a->source].from != FROM_IPFS ||
	    memcmp(a->ref, w->ref, ERIS_REF) != 0))
		a++;
	while (d < b->doubts + DOUBTS && d->data != NULL)
		d++;
	if (a == end)
		return 1;
	if (d == b->doubts + DOUBTS || (d->data = malloc(b->o.cap.block_size)) == NULL)
		return -1;
	d->id = a->id;
	d->since = b->fetch->now;
	memcpy(d->ref, w->ref, ERIS_REF);
	memcpy(d->data, data, b->o.cap.block_size);
	return 0;
}

void
blockheal_settle(struct blocks *b, struct doubt *d, enum blockheal_said said)
{
	if (said == BLOCKHEAL_NO)
		heal_missed(b->fetch, d->ref);
	else if (said == BLOCKHEAL_NOTHING)
		heal_unsure(b->fetch, d->ref, 1);
	heal_block(b->fetch, d->ref, d->data, b->o.cap.block_size);
	free(d->data);
	d->data = NULL;
}

void
blockheal_settle_late(struct blocks *b)
{
	for (unsigned i = 0; i < DOUBTS; i++) {
		struct doubt *d = &b->doubts[i];

		if (d->data == NULL || b->fetch->now < d->since + b->fetch->blocks->block_ms)
			continue;
		blockpool_stop(b->fetch, d->id);
		blockheal_settle(b, d, BLOCKHEAL_NO);
	}
}

void
blockheal_end(struct blocks *b)
{
	for (unsigned i = 0; i < DOUBTS; i++)
		if (b->doubts[i].data != NULL)
			blockheal_settle(b, &b->doubts[i], BLOCKHEAL_NOTHING);
	for (unsigned i = 0; i < WANTS; i++)
		if (b->wants[i].used && b->wants[i].missed)
			heal_missed(b->fetch, b->wants[i].ref);
}

/* --- What has come from elsewhere ------------------------------------------------------------------- */

static int
has_daemon(const struct blocks *b)
{
	unsigned i = 0;

	while (i < b->norigins && b->origins[i].from != FROM_IPFS)
		i++;
	return i < b->norigins;
}

void
blockheal_came(struct blocks *b, const struct want *w, enum from from, const uint8_t *data, size_t len)
{
	int doubts = w->missed ? 1 : doubt(b, w, data);

	if (doubts == 0)
		return;
	if (w->missed)
		heal_missed(b->fetch, w->ref);
	else if (doubts < 0 || blockheal_ipfs_fails(b))
		heal_unsure(b->fetch, w->ref, 1);
	else if (has_daemon(b) && from != FROM_GATEWAY) /* a gateway has it from IPFS */
		heal_unsure(b->fetch, w->ref, 0);
	heal_block(b->fetch, w->ref, data, len);
}
