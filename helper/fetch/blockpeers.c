/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch), blocks: IPFS daemons that know no peers, and have what they have. */
#include "helper/fetch/blockconf.h"
#include "helper/fetch/blockpool.h"
#include "helper/fetch/blocks_own.h"

/* An answer counts for so long; the question, and those about what is there, may take so long.  It is asked when nothing has
 * come for a while: a daemon that has what it is asked for does not look for it. */
#define PEERS_MS 10000
#define PEERS_SOON_MS 3000 /* no answer came: once more */
#define PEERS_ANSWER_MS 2000
#define PEERS_QUIET_MS 500
/* Questions: the lower half of their ids (blocksources.c has the ones before). */
#define PEERS_ID 0xfe00u

int
blockpeers_is_alone(const struct blocks *b, size_t source)
{
	const struct block_source *s = &b->fetch->blocks->sources[source];

	return s->alone && b->fetch->now < s->peers_until;
}

int
blockpeers_any_alone(const struct blocks *b)
{
	for (size_t i = 0; i < b->fetch->blocks->nsources; i++)
		if (blockpeers_is_alone(b, i))
			return 1;
	return 0;
}

static void
ask(struct blocks *b, size_t i)
{
	struct block_source *s = &b->fetch->blocks->sources[i];
	struct blockpool_ask a = { .id = PEERS_ID + (uint32_t)i, .source = i, .question = RPC_PEERS,
		.timeout_ms = PEERS_ANSWER_MS, .block_size = b->o.cap.block_size };

	s->alone = 0;
	s->peers_until = b->fetch->now + PEERS_SOON_MS;
	blockpool_stop(b->fetch, a.id); /* it never said anything */
	blockpool_start(b->fetch, &a);
}

/* Only a plain "none" counts: who may not say it, or does not know the question, is waited for as ever. */
void
blockpeers_told(struct blocks *b, const struct blockpool_end *end)
{
	struct block_source *s = &b->fetch->blocks->sources[end->ask.source];
	struct rpc_judgement j;

	rpc_judge(&j, &s->at, RPC_PEERS, NULL, 0, &end->reply);
	s->alone = j.verdict == RPC_MISSING;
	if (j.verdict != RPC_BUSY)
		s->peers_until = b->fetch->now + PEERS_MS;
	b->lonely |= (uint32_t)s->alone << end->ask.source;
}

/* What is under way there looks for peers that do not exist: the same questions about what is there. */
static void
ask_locally(struct blocks *b, size_t source)
{
	for (size_t i = 0; i < 2 * WANTS; i++) {
		struct ask *a = &b->asks[i];

		if (!a->active || b->origins[a->source].from != FROM_IPFS || b->origins[a->source].at != source ||
		    blockheal_doubt_of(b, a->id) != NULL)
			continue;
		blockpool_stop(b->fetch, a->id);
		blockasks_send(b, a, PEERS_ANSWER_MS);
	}
}

/* When that one is to be asked: milliseconds. */
static uint64_t
due_at(const struct blocks *b, size_t source)
{
	uint64_t until = b->fetch->blocks->sources[source].peers_until;
	uint64_t quiet = b->insists ? 0 : b->progress + PEERS_QUIET_MS;

	return until > quiet ? until : quiet;
}

uint64_t
blockpeers_deadline(const struct blocks *b)
{
	uint64_t due = UINT64_MAX;

	for (unsigned i = 0; i < b->norigins; i++) {
		uint64_t at = b->origins[i].from == FROM_IPFS ? due_at(b, b->origins[i].at) : UINT64_MAX;

		if (at > b->fetch->now && at < due)
			due = at;
	}
	return due;
}

void
blockpeers_pump(struct blocks *b)
{
	for (unsigned i = 0; i < b->norigins; i++) {
		size_t source = b->origins[i].at;

		if (b->origins[i].from != FROM_IPFS)
			continue;
		if (b->fetch->now >= due_at(b, source) && blockpool_room(b->fetch) > 0)
			ask(b, source);
		if ((b->lonely >> source & 1) != 0)
			ask_locally(b, source);
	}
	b->lonely = 0;
}
