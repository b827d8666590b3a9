/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch), blocks: requests for blocks by their references, as the scheduler wants them, and the answers. */
#include <string.h>

#include "helper/fetch/blockconf.h"
#include "helper/fetch/blockpool.h"
#include "helper/fetch/blocks_own.h"
#include "helper/fetch/rangeget.h"
#include "helper/fetch/source.h"

/* Answers that are checked in one go. */
#define BATCH 64

/* --- Answers ---------------------------------------------------------------------------------------- */

void
blockasks_answer(struct blocks *b, struct ask *a, enum sched_outcome outcome, uint32_t retry_ms,
    const char *why)
{
	struct want *w = blockwants_find(b, a->ref);

	a->active = 0;
	if (outcome == SCHED_MISSING && w != NULL && b->origins[a->source].from == FROM_IPFS)
		w->missed = 1;
	(void)sched_answer(b->sched, b->fetch->now, a->id, outcome, retry_ms, why);
}

static enum sched_outcome
outcome_of(enum rpc_verdict v)
{
	switch (v) {
	case RPC_BLOCK: return SCHED_BLOCK;
	case RPC_MISSING: return SCHED_MISSING;
	case RPC_BUSY: return SCHED_BUSY;
	case RPC_UNREACHABLE: return SCHED_UNREACHABLE;
	case RPC_LIE: break;
	}
	return SCHED_LIE;
}

/* An answer that is not simply the right block. */
static void
judge(struct blocks *b, struct blockpool_end *end)
{
	struct ask *a = &b->asks[end->ask.id & 0xffff];
	const struct block_source *s = &b->fetch->blocks->sources[end->ask.source];
	struct rpc_judgement j;

	rpc_judge(&j, &s->at, RPC_GET, end->ask.ref, end->ask.block_size, &end->reply);
	source_replied(b->fetch, end->ask.source, &j, &end->reply);
	if (end->reply.status != 0)
		b->origins[a->source].heard = b->fetch->now;
	blockasks_answer(b, a,
	    j.verdict == RPC_BUSY && end->reply.status == 0 ? SCHED_BREAKS : outcome_of(j.verdict), j.retry_ms, j.why);
}

static void
judge_doubt(struct blocks *b, const struct blockpool_end *end)
{
	const struct block_source *s = &b->fetch->blocks->sources[end->ask.source];
	struct ask *a = &b->asks[end->ask.id & 0xffff];
	struct rpc_judgement j;

	rpc_judge(&j, &s->at, RPC_GET, end->ask.ref, end->ask.block_size, &end->reply);
	source_replied(b->fetch, end->ask.source, &j, &end->reply);
	if (a->active && a->id == end->ask.id)
		blockasks_answer(b, a, outcome_of(j.verdict), j.retry_ms, j.why);
	blockheal_settle(b, blockheal_doubt_of(b, end->ask.id), j.verdict == RPC_BLOCK ? BLOCKHEAL_YES :
	    j.verdict == RPC_MISSING ? BLOCKHEAL_NO : BLOCKHEAL_NOTHING);
}

static int
looks_good(const struct blockpool_end *end)
{
	/* Also when the connection broke behind it: what it is, its hash says. */
	return end->reply.status == 200 && end->reply.len == end->ask.block_size;
}

/* Blocks of the right size are checked some at a time, which is faster; only what fails is looked at once
 * more. */
static void
give_batch(struct blocks *b, struct blockpool_end *ends, size_t n)
{
	struct decode_given given[BATCH];
	size_t at[BATCH], m = 0;
	struct err e;

	for (size_t i = 0; i < n; i++)
		if (ends[i].ask.question == RPC_HAS) {
			blocksources_probed(b, &ends[i]);
		} else if (ends[i].ask.question == RPC_PEERS) {
			blockpeers_told(b, &ends[i]);
		} else if (blockheal_doubt_of(b, ends[i].ask.id) != NULL) {
			judge_doubt(b, &ends[i]);
		} else if (looks_good(&ends[i])) {
			at[m] = i;
			given[m++] = (struct decode_given){ .ref = ends[i].ask.ref, .block = ends[i].reply.body,
				.len = ends[i].reply.len };
		} else {
			judge(b, &ends[i]);
		}
	if (m > 0 && b->state != BLOCKS_BROKEN && decode_give(b->decode, given, m, &e) != 0)
		blocks_broken(b, &e);
	for (size_t i = 0; i < m && b->state != BLOCKS_BROKEN; i++) {
		struct blockpool_end *end = &ends[at[i]];
		struct ask *a = &b->asks[end->ask.id & 0xffff];
		struct want *w = blockwants_find(b, end->ask.ref);

		if (given[i].verdict != DECODE_TAKEN || w == NULL) {
			judge(b, end);
			continue;
		}
		b->fetch->blocks->sources[end->ask.source].reached = 1;
		b->origins[a->source].heard = b->fetch->now;
		blockwants_arrived(b, w, &b->origins[a->source], end->reply.body, end->reply.len);
		blockasks_answer(b, a, SCHED_BLOCK, 0, NULL);
	}
}

void
blockasks_take(struct blocks *b)
{
	struct blockpool_end ends[BATCH];
	size_t n;

	do {
		for (n = 0; n < BATCH && blockpool_next(b->fetch, &ends[n]); n++)
			continue;
		give_batch(b, ends, n);
		for (size_t i = 0; i < n; i++)
			blockpool_release(b->fetch, &ends[i]);
	} while (n == BATCH);
}

/* --- Requests --------------------------------------------------------------------------------------- */

void
blockasks_send(struct blocks *b, const struct ask *a, uint32_t ms)
{
	size_t at = b->origins[a->source].at;
	struct blockpool_ask ask = { .id = a->id, .source = at, .timeout_ms = ms, .block_size = b->o.cap.block_size,
		.question = blockpeers_is_alone(b, at) ? RPC_LOCAL : RPC_GET };

	memcpy(ask.ref, a->ref, ERIS_REF);
	blockpool_start(b->fetch, &ask);
}

static void
start_ask(struct blocks *b, const struct sched_ask *s)
{
	struct ask *a = &b->asks[s->id & 0xffff];
	const struct origin *o = &b->origins[s->source];
	const struct want *w = blockwants_find(b, s->ref);

	*a = (struct ask){ .id = s->id, .active = 1, .source = (uint8_t)s->source, .due = b->fetch->now + s->timeout_ms,
		.index = w != NULL ? w->offset / ERIS_LARGE : 0 };
	memcpy(a->ref, s->ref, ERIS_REF);
	if (o->from == FROM_RANGE) {
		if (w == NULL || blockfiles_ask(b, &b->files[o->at], a) != 0)
			blockasks_answer(b, a, SCHED_BUSY, 0, NULL);
	} else {
		/* The daemon gives up a little earlier: it says so, and its connection can be used again. */
		blockasks_send(b, a, s->timeout_ms - s->timeout_ms / 8);
	}
}

void
blockasks_stop(struct blocks *b)
{
	uint32_t id;

	while (sched_cancel(b->sched, &id)) {
		struct ask *a = &b->asks[id & 0xffff];
		const struct origin *o = &b->origins[a->source];
		struct want *w = blockwants_find(b, a->ref);

		if (!a->active || a->id != id)
			continue;
		a->active = 0;
		if (w != NULL && o->from == FROM_IPFS && b->fetch->now >= a->due) /* others end before their time */
			w->missed = 1;
		if (o->from != FROM_RANGE && blockheal_doubt_of(b, id) == NULL)
			blockpool_stop(b->fetch, id);
		else if (o->from == FROM_RANGE && b->files[o->at].get != NULL)
			rangeget_drop(b->files[o->at].get, a->index);
	}
}

void
blockasks_start(struct blocks *b)
{
	struct sched_ask s;

	while (blockpool_room(b->fetch) > 0 && sched_next(b->sched, b->fetch->now, &s))
		start_ask(b, &s);
	blockasks_stop(b);
}
