/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch), blocks: which sources a nar is asked of, and what is learnt of them for the next ones. */
#include <string.h>

#include "helper/common/logline.h"
#include "helper/fetch/blockconf.h"
#include "helper/fetch/blockpool.h"
#include "helper/fetch/blocks_own.h"
#include "helper/fetch/source.h"

/* Requests to a block server at a time: a connection each, and servers allow an address a hundred or so. */
#define SERVER_WINDOW_MAX 96

/* A source that was late and then said nothing for such a time is silent, and left alone for so long. */
#define SILENCE_MS 500
#define SILENT_MS 60000

/* A source that let a nar wait for so long and brought nothing gets less time with those of the next minute; if it does
 * not even say that it has nothing, it is not asked after two of them.  Unless there is no other way. */
#define VAIN_MS 400
#define VAIN_DEADLINE_MS SCHED_DEADLINE_MIN_MS
#define VAIN_NARS 2

/* Questions to gateways whether they have the root of this nar: the lower half of their ids; those of the scheduler
 * are below 2 * WANTS there. */
#define PROBE_ID 0xff00u

/* --- Daemons that have not answered, sources that bring nothing ------------------------------------- */

int
blocksources_is_vain(const struct blocks *b, size_t i)
{
	const struct block_source *s = &b->fetch->blocks->sources[i];

	return s->vain > 0 && b->fetch->now < s->vain_until && !b->patient;
}

uint64_t
blocksources_patience(const struct blocks *b)
{
	return blockpool_greeted(b->fetch) + (b->insists ? b->fetch->blocks->block_ms : BLOCKPOOL_WAIT_MS);
}

int
blocksources_is_waiting(const struct blocks *b)
{
	for (size_t i = 0; i < b->fetch->blocks->nsources; i++)
		if (blockpool_health(b->fetch, i) == BLOCKPOOL_WAIT)
			return 1;
	return 0;
}

/* --- Gateways: do they have it? --------------------------------------------------------------------- */

/* Whether others than gateways bring blocks meanwhile: else the question would only cost time. */
static int
has_others(const struct blocks *b)
{
	const struct blockconf *c = b->fetch->blocks;

	for (size_t i = 0; i < c->nsources; i++)
		if (c->sources[i].at.kind != RPC_GATEWAY && !blocksources_is_vain(b, i) &&
		    blockpool_health(b->fetch, i) == BLOCKPOOL_YES)
			return 1;
	return 0;
}

/* A gateway is asked first whether it has the root of this nar without looking for it, for a moment.  1: that is over,
 * or of no use. */
static int
is_probed(struct blocks *b, size_t i)
{
	struct fetch *f = b->fetch;
	struct block_source *s = &f->blocks->sources[i];
	struct blockpool_ask ask = { .id = PROBE_ID + (uint32_t)i, .source = i, .question = RPC_HAS,
		.timeout_ms = f->blocks->block_ms, .block_size = b->o.cap.block_size };

	if (s->at.kind != RPC_GATEWAY)
		return 1;
	if (b->probes[i] == PROBE_NOT && !s->no_probe && !b->patient && blockpool_room(f) > 0 && has_others(b)) {
		memcpy(ask.ref, b->o.cap.root.ref, ERIS_REF);
		b->probes[i] = PROBE_ASKED;
		b->probed[i] = f->now;
		blockpool_start(f, &ask);
	} else if (b->probes[i] == PROBE_ASKED && f->now >= b->probed[i] + SCHED_GRACE_MS) {
		b->probes[i] = PROBE_LATE;
		s->no_probe |= s->reached; /* it looks for it all the same; or the connection took that long */
	}
	return b->probes[i] != PROBE_ASKED;
}

/* Only a plain no counts: whoever does not know the question is asked for blocks, as if there was none.  That it has
 * answered this says nothing of how it answers those: many may be wanted by now, and the first request is a careful
 * one. */
void
blocksources_probed(struct blocks *b, const struct blockpool_end *end)
{
	struct block_source *s = &b->fetch->blocks->sources[end->ask.source];
	int status = end->reply.status;

	if (!end->reply.connected)
		source_judged(b->fetch, end->ask.source, RPC_UNREACHABLE, "cannot be reached");
	if (status == 404 || status == 405 || status == 501)
		s->no_probe = 1;
	if (b->probes[end->ask.source] == PROBE_ASKED)
		b->probes[end->ask.source] = status == 412 ? PROBE_SEARCHES : PROBE_OVER;
}

uint64_t
blocksources_probes_end(const struct blocks *b)
{
	uint64_t end = 0;

	for (size_t i = 0; i < b->fetch->blocks->nsources; i++)
		if (b->probes[i] == PROBE_ASKED && b->probed[i] + SCHED_GRACE_MS > end)
			end = b->probed[i] + SCHED_GRACE_MS;
	return end;
}

/* --- Those that are asked --------------------------------------------------------------------------- */

static void
add_origin(struct blocks *b, const struct sched_source *s, enum from from, size_t at, int reached)
{
	struct err e;
	int n = sched_source(b->sched, s, &e);

	if (n < 0)
		return;
	b->origins[n] = (struct origin){ .from = from, .at = at };
	b->norigins = (unsigned)n + 1;
	if (from == FROM_RANGE)
		b->files[at].source = (uint8_t)n;
	if (reached)
		sched_reached(b->sched, (unsigned)n);
}

void
blocksources_add(struct blocks *b)
{
	struct fetch *f = b->fetch;
	int others = b->files_added || !blocksources_is_waiting(b) || f->now >= b->begun + SCHED_GRACE_MS;

	for (size_t i = 0; i < f->blocks->nsources; i++) {
		const struct block_source *s = &f->blocks->sources[i];
		struct sched_source source = { .by_id = 1, .stage = s->at.kind == RPC_BLOCKS ? STAGE_BLOCKS : STAGE_IPFS };

		if (b->added[i] || blockpool_health(f, i) != BLOCKPOOL_YES ||
		    (blocksources_is_vain(b, i) && s->vain == VAIN_NARS) || !is_probed(b, i) ||
		    (s->at.kind != RPC_IPFS && !others))
			continue;
		if (s->at.kind == RPC_BLOCKS)
			source.window_max = SERVER_WINDOW_MAX;
		if (b->probes[i] == PROBE_SEARCHES)
			source.stage = STAGE_SEARCH;
		if (blocksources_is_vain(b, i))
			source.deadline_ms = VAIN_DEADLINE_MS;
		b->added[i] = 1;
		add_origin(b, &source, s->at.kind == RPC_IPFS ? FROM_IPFS : s->at.kind == RPC_GATEWAY ? FROM_GATEWAY :
		    FROM_BLOCKS, i, s->reached && b->probes[i] == PROBE_NOT);
	}
	if (!others || b->files_added)
		return;
	b->files_added = 1;
	for (size_t i = 0; i < b->nfiles; i++) {
		struct sched_source source = { .stage = STAGE_RANGE, .leaves = 1, .window_min = RANGE_WINDOW_MIN,
			.window_max = RANGE_WINDOW_MAX };

		add_origin(b, &source, FROM_RANGE, i, 1);
	}
}

/* --- What was learnt -------------------------------------------------------------------------------- */

/* Whether it was worth waiting for. */
static void
note_use(struct blocks *b, const struct origin *o, const struct sched_figures *s, struct block_source *at)
{
	uint64_t now = b->fetch->now;

	if (at->dead_until > now)
		return;
	if (s->health == SCHED_DEAD) {
		source_judged(b->fetch, o->at, RPC_UNREACHABLE, s->why);
	} else if (s->delivered > 0 || (b->streamed > 0 && o->from != FROM_BLOCKS)) {
		at->vain = 0;
	} else if (s->asked > 0 && now >= b->begun + VAIN_MS) {
		at->vain = (uint8_t)(s->missed > 0 || at->vain == 0 ? 1 : VAIN_NARS);
		at->vain_until = now + SILENT_MS;
		if (at->vain == VAIN_NARS)
			logline("%s brings nothing, and is asked only if nobody else does for a minute", at->name);
	}
}

void
blocksources_remember(struct blocks *b)
{
	for (unsigned i = 0; b->sched != NULL && i < b->norigins; i++) {
		const struct origin *o = &b->origins[i];
		struct sched_figures s;
		struct block_source *at;

		if (o->from == FROM_RANGE)
			continue;
		at = &b->fetch->blocks->sources[o->at];
		sched_figures(b->sched, i, &s);
		note_use(b, o, &s, at);
		if (s.late == 0 || b->fetch->now < o->heard + SILENCE_MS || at->dead_until > b->fetch->now)
			continue;
		at->reached = 0;
		if (at->vain == 0)
			at->vain = 1;
		at->vain_until = b->fetch->now + SILENT_MS;
		if (at->at.kind == RPC_IPFS)
			continue;
		logline("%s does not answer and is left alone for a minute", at->name);
		at->dead_until = b->fetch->now + SILENT_MS;
		at->silent = 1;
	}
}
