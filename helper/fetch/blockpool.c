/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): many requests for blocks at a time. */
#include <stdlib.h>
#include <string.h>

#include "helper/fetch/blockconf.h"
#include "helper/fetch/blockpool.h"
#include "helper/fetch/source.h"
#include "helper/fetch/state.h"
#include "helper/fetch/transfer.h"
#include "helper/ipfs/sched.h"

/* What is kept of an answer that is no block: the text of an error. */
#define VERSION_BODY 4096

enum slot_state { FREE, NAMING, RUNNING, ENDED };

struct slot {
	struct transfer transfer;
	enum slot_state state;
	struct blockpool_ask ask;
	struct rpc_reply reply;
	uint8_t *body; /* block_size + 1 bytes, from the first byte of an answer on */
	size_t len;
	unsigned next; /* ended after this one, or free; BLOCKPOOL_SLOTS: none */
};

/* One daemon's version. */
struct greeting {
	struct transfer transfer;
	enum slot_state state; /* ENDED: was asked */
	uint64_t since;
	size_t source, len;
	uint8_t body[VERSION_BODY];
};

struct blockpool {
	struct slot slots[BLOCKPOOL_SLOTS];
	struct greeting *greetings[BLOCKCONF_SOURCES];
	uint64_t greeted;
	uint8_t recalled;
	unsigned unused, first_ended, last_ended; /* lists of slots */
	unsigned busy, naming;
};

int
blockpool_init(struct fetch *f, struct err *e)
{
	struct blockpool *p = calloc(1, sizeof *p);

	if (p == NULL)
		return err_set(e, "no memory for requests for blocks");
	for (unsigned i = 0; i < BLOCKPOOL_SLOTS; i++)
		p->slots[i].next = i + 1;
	p->first_ended = p->last_ended = BLOCKPOOL_SLOTS;
	f->pool = p;
	return 0;
}

void
blockpool_free(struct fetch *f)
{
	struct blockpool *p = f->pool;

	if (p == NULL)
		return;
	for (unsigned i = 0; i < BLOCKPOOL_SLOTS; i++) {
		if (p->slots[i].transfer.easy != NULL)
			transfer_free(&p->slots[i].transfer);
		free(p->slots[i].body);
	}
	for (size_t i = 0; i < BLOCKCONF_SOURCES; i++)
		if (p->greetings[i] != NULL) {
			transfer_free(&p->greetings[i]->transfer);
			free(p->greetings[i]);
		}
	free(p);
	f->pool = NULL;
}

/* --- Is somebody there? ----------------------------------------------------------------------------- */

static size_t
greeting_body(void *owner, const char *data, size_t n)
{
	struct greeting *g = owner;

	if (n > sizeof g->body - g->len)
		return transfer_ignore(&g->transfer, n);
	memcpy(g->body + g->len, data, n);
	g->len += n;
	return n;
}

static void
greeting_judge(struct greeting *g, const struct rpc_reply *r)
{
	struct fetch *f = g->transfer.fetch;
	struct block_source *s = &f->blocks->sources[g->source];
	struct rpc_judgement j;

	rpc_judge(&j, &s->at, RPC_VERSION, NULL, 0, r);
	g->state = ENDED;
	/* One that is busy or breaks off is there; what it is good for will show. */
	source_replied(f, g->source, &j, r);
	s->reached = j.verdict != RPC_UNREACHABLE;
	if (j.verdict == RPC_BLOCK) {
		s->told = 1;
		s->no_file |= !rpc_streams_files(r);
	}
}

static void
greeting_done(void *owner, CURLcode result)
{
	struct greeting *g = owner;
	struct rpc_reply r;

	source_reply(&r, &g->transfer, result, g->body, g->len);
	greeting_judge(g, &r);
}

static void
greeting_start(struct greeting *g)
{
	const struct block_source *s = &g->transfer.fetch->blocks->sources[g->source];
	const struct rpc_reply nobody = { .retry_after = -1 };
	enum host_state state = HOST_UNKNOWN;
	struct rpc_request r;
	struct err e;

	if (rpc_build(&r, &s->at, RPC_VERSION, NULL, 0, NULL, &e) == 0)
		state = source_ask(&g->transfer, s, &r, &e);
	if (state == HOST_UNKNOWN)
		greeting_judge(g, &nobody);
	else
		g->state = state == HOST_READY ? RUNNING : NAMING;
}

/* What the agent before this one has found out. */
static void
recall(struct fetch *f)
{
	for (size_t i = 0; i < f->blocks->nsources; i++) {
		struct block_source *s = &f->blocks->sources[i];
		uint64_t left = s->at.socket[0] != '\0' ? 0 :
		    (uint64_t)state_get(f->state, STATE_SILENT, &s->url, NULL, f->clock) * 1000;

		if (left > SCHED_DEAD_MS)
			left = SCHED_DEAD_MS;
		if (f->now + left > s->dead_until && left > 0)
			s->dead_until = f->now + left;
	}
}

void
blockpool_greet(struct fetch *f)
{
	static const struct transfer_owner calls = { greeting_body, greeting_done };
	struct blockpool *p = f->pool;
	struct err e;

	if (!p->recalled) {
		p->recalled = 1;
		blockconf_done(f->blocks);
		recall(f);
	}
	for (size_t i = 0; i < f->blocks->nsources; i++) {
		const struct block_source *s = &f->blocks->sources[i];
		struct greeting *g = p->greetings[i];

		if (s->at.kind != RPC_IPFS || (s->reached && s->told) || !source_usable(f, i) ||
		    (g != NULL && (g->state == NAMING || g->state == RUNNING)))
			continue;
		if (g == NULL && (g = calloc(1, sizeof *g)) != NULL &&
		    transfer_init(&g->transfer, f, TRANSFER_BLOCK, &calls, g, &e) != 0) {
			free(g);
			g = NULL;
		}
		if (g == NULL)
			continue;
		p->greetings[i] = g;
		g->source = i;
		g->since = p->greeted = f->now;
		g->len = 0;
		greeting_start(g);
	}
}

enum blockpool_health
blockpool_health(const struct fetch *f, size_t source)
{
	const struct block_source *s = &f->blocks->sources[source];
	const struct greeting *g = f->pool->greetings[source];

	if (!source_usable(f, source))
		return BLOCKPOOL_NO;
	if (s->at.kind != RPC_IPFS || s->reached)
		return BLOCKPOOL_YES;
	return g != NULL && (g->state == NAMING || g->state == RUNNING) ? BLOCKPOOL_WAIT : BLOCKPOOL_NO;
}

uint64_t
blockpool_greeted(const struct fetch *f)
{
	return f->pool->greeted;
}

/* --- Blocks ----------------------------------------------------------------------------------------- */

static void
end(struct blockpool *p, struct slot *s)
{
	unsigned i = (unsigned)(s - p->slots);

	s->state = ENDED;
	s->next = BLOCKPOOL_SLOTS;
	if (p->first_ended == BLOCKPOOL_SLOTS)
		p->first_ended = i;
	else
		p->slots[p->last_ended].next = i;
	p->last_ended = i;
}

static size_t
slot_body(void *owner, const char *data, size_t n)
{
	struct slot *s = owner;
	size_t room = s->ask.block_size + 1 - s->len;

	if (s->body == NULL && (s->body = malloc(s->ask.block_size + 1)) == NULL)
		return 0;
	if (n > room) {
		memcpy(s->body + s->len, data, room);
		s->len += room;
		/* The rest of a page about an error is let pass, so that the connection stays. */
		return s->transfer.answer.status != 200 ? transfer_ignore(&s->transfer, n) : 0;
	}
	memcpy(s->body + s->len, data, n);
	s->len += n;
	return n;
}

static void
slot_done(void *owner, CURLcode result)
{
	struct slot *s = owner;

	source_reply(&s->reply, &s->transfer, result, s->body, s->len);
	end(s->transfer.fetch->pool, s);
}

unsigned
blockpool_room(const struct fetch *f)
{
	return BLOCKPOOL_SLOTS - f->pool->busy;
}

static void
slot_start(struct slot *s)
{
	static const struct transfer_owner calls = { slot_body, slot_done };
	struct fetch *f = s->transfer.fetch;
	const struct block_source *at = &f->blocks->sources[s->ask.source];
	enum host_state state = HOST_UNKNOWN;
	struct rpc_request r;
	struct err e;

	if ((s->transfer.easy != NULL || transfer_init(&s->transfer, f, TRANSFER_BLOCK, &calls, s, &e) == 0) &&
	    rpc_build(&r, &at->at, s->ask.question, s->ask.question == RPC_PEERS ? NULL : s->ask.ref, s->ask.timeout_ms,
	    NULL, &e) == 0)
		state = source_ask(&s->transfer, at, &r, &e);
	f->pool->naming -= s->state == NAMING;
	s->state = state == HOST_READY ? RUNNING : NAMING;
	f->pool->naming += s->state == NAMING && state == HOST_WAITING;
	if (state == HOST_UNKNOWN) {
		s->reply = (struct rpc_reply){ .retry_after = -1 };
		end(f->pool, s);
	}
}

void
blockpool_start(struct fetch *f, const struct blockpool_ask *ask)
{
	struct blockpool *p = f->pool;
	struct slot *s = &p->slots[p->unused];

	p->unused = s->next;
	p->busy++;
	s->transfer.fetch = f;
	s->ask = *ask;
	s->len = 0;
	slot_start(s);
}

static void
give_back(struct blockpool *p, struct slot *s)
{
	s->state = FREE;
	free(s->body);
	s->body = NULL;
	s->next = p->unused;
	p->unused = (unsigned)(s - p->slots);
	p->busy--;
}

static void
unlink_ended(struct blockpool *p, struct slot *s)
{
	unsigned *at = &p->first_ended, before = BLOCKPOOL_SLOTS;

	while (&p->slots[*at] != s) {
		before = *at;
		at = &p->slots[*at].next;
	}
	*at = s->next;
	if (s->next == BLOCKPOOL_SLOTS)
		p->last_ended = before;
}

static void
stop(struct blockpool *p, struct slot *s)
{
	if (s->state == RUNNING)
		transfer_stop(&s->transfer);
	else if (s->state == ENDED)
		unlink_ended(p, s);
	p->naming -= s->state == NAMING;
	give_back(p, s);
}

void
blockpool_stop(struct fetch *f, uint32_t id)
{
	struct blockpool *p = f->pool;

	for (unsigned i = 0; i < BLOCKPOOL_SLOTS; i++)
		if (p->slots[i].state != FREE && p->slots[i].ask.id == id) {
			stop(p, &p->slots[i]);
			return;
		}
}

void
blockpool_stop_all(struct fetch *f)
{
	struct blockpool *p = f->pool;

	for (unsigned i = 0; i < BLOCKPOOL_SLOTS && p->busy > 0; i++)
		if (p->slots[i].state != FREE)
			stop(p, &p->slots[i]);
}

int
blockpool_next(struct fetch *f, struct blockpool_end *e)
{
	struct blockpool *p = f->pool;
	struct slot *s;

	if (p->first_ended == BLOCKPOOL_SLOTS)
		return 0;
	s = &p->slots[p->first_ended];
	e->slot = p->first_ended;
	e->ask = s->ask;
	e->reply = s->reply;
	p->first_ended = s->next;
	if (p->first_ended == BLOCKPOOL_SLOTS)
		p->last_ended = BLOCKPOOL_SLOTS;
	s->state = RUNNING; /* it is in its user's hands; the transfer itself has ended */
	return 1;
}

void
blockpool_release(struct fetch *f, const struct blockpool_end *e)
{
	give_back(f->pool, &f->pool->slots[e->slot]);
}

void
blockpool_pump(struct fetch *f)
{
	struct blockpool *p = f->pool;
	const struct rpc_reply silence = { .retry_after = -1 };

	for (size_t i = 0; i < f->blocks->nsources; i++) {
		struct greeting *g = p->greetings[i];

		if (g == NULL)
			continue;
		if (g->state == NAMING)
			greeting_start(g);
		if ((g->state == RUNNING || g->state == NAMING) && f->now >= g->since + f->blocks->block_ms) {
			transfer_stop(&g->transfer);
			greeting_judge(g, &silence);
		}
	}
	for (unsigned i = 0; i < BLOCKPOOL_SLOTS && p->naming > 0; i++)
		if (p->slots[i].state == NAMING)
			slot_start(&p->slots[i]);
}

uint64_t
blockpool_deadline(const struct fetch *f)
{
	const struct blockpool *p = f->pool;
	uint64_t due = UINT64_MAX;

	for (size_t i = 0; i < f->blocks->nsources; i++) {
		const struct greeting *g = p->greetings[i];

		if (g != NULL && (g->state == RUNNING || g->state == NAMING) && g->since + f->blocks->block_ms < due)
			due = g->since + f->blocks->block_ms;
	}
	return due;
}
