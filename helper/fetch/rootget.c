/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): one block, or the root of one manifest, from whichever source has it. */
#include <stdlib.h>
#include <string.h>

#include "helper/fetch/rootget.h"
#include "helper/fetch/source.h"
#include "helper/ipfs/manifest.h"

/* Sources that are asked at a time.  While all of them are silent the one that was asked first gives its
 * place to the next after a third of the whole time. */
#define ASKS 4
/* What any answer may have, and what more than that takes: one of a few places, whoever asks. */
#define SMALL (ERIS_LARGE + 1)
#define BIG_PLACES 4
/* A daemon gives up by itself after this part of our time, so that its answer still comes in time. */
#define DAEMON_PART 3 / 4
/* Of an error's body, for its message. */
#define ERROR_BODY 512

enum ask_state { FREE, WAITING /* for a name */, RUNNING };

struct ask {
	struct rootget *r;
	struct transfer transfer;
	enum ask_state state;
	size_t source;
	uint64_t since;
	uint8_t big, too_much, no_place;
	uint8_t *body;
	size_t len, room;
};

struct rootget {
	struct fetch *fetch;
	enum rpc_ask question;
	uint8_t hash[ERIS_REF];
	uint32_t block_size, wait_ms;
	uint64_t deadline, last;      /* when the last source was asked */
	size_t next;                  /* the next source */
	uint8_t beside;
	struct ask *found;
	struct ask asks[ASKS];
};

static size_t on_body(void *owner, const char *data, size_t n);
static void on_done(void *owner, CURLcode result);

static const struct transfer_owner calls = { on_body, on_done };

struct rootget *
rootget_new(struct fetch *f, int manifest, const uint8_t hash[ERIS_REF], uint32_t block_size, uint32_t wait_ms,
    struct err *e)
{
	struct rootget *r = calloc(1, sizeof *r);

	if (r == NULL)
		return (void)err_set(e, "no memory to look for a block"), NULL;
	r->fetch = f;
	r->question = manifest ? RPC_NODE : RPC_GET;
	memcpy(r->hash, hash, ERIS_REF);
	r->block_size = block_size;
	r->wait_ms = wait_ms;
	r->deadline = f->now + wait_ms;
	return r;
}

void
rootget_beside(struct rootget *r)
{
	r->beside = 1;
}

static void
give_back(struct ask *a)
{
	if (a->state == RUNNING)
		transfer_stop(&a->transfer);
	a->state = FREE;
	a->r->fetch->big_roots -= a->big;
	a->big = a->too_much = a->no_place = 0;
	free(a->body);
	a->body = NULL;
	a->len = a->room = 0;
}

void
rootget_free(struct rootget *r)
{
	if (r == NULL)
		return;
	for (size_t i = 0; i < ASKS; i++)
		if (r->asks[i].r != NULL) {
			give_back(&r->asks[i]);
			transfer_free(&r->asks[i].transfer);
		}
	free(r);
}

/* --- Answers ----------------------------------------------------------------------------------------- */

static int
grow(struct ask *a, size_t want)
{
	struct fetch *f = a->r->fetch;
	size_t room = a->room != 0 ? a->room : 4096;
	uint8_t *body;

	while (room < want)
		room *= 2;
	if (room == a->room)
		return 0;
	if (room > 2 * SMALL && !a->big) {
		if (f->big_roots >= BIG_PLACES) {
			a->no_place = 1;
			return -1;
		}
		a->big = 1;
		f->big_roots++;
	}
	if ((body = realloc(a->body, room)) == NULL)
		return -1;
	a->body = body;
	a->room = room;
	return 0;
}

static size_t
on_body(void *owner, const char *data, size_t n)
{
	struct ask *a = owner;
	int ok = a->transfer.answer.status == 200;
	/* One byte more than a block shows that it is none. */
	size_t most = !ok ? ERROR_BODY : a->r->question == RPC_NODE ? MANIFEST_ROOT : a->r->block_size + 1;
	size_t part = most - a->len < n ? most - a->len : n;

	if (grow(a, a->len + part) != 0)
		return 0;
	memcpy(a->body + a->len, data, part);
	a->len += part;
	if (!ok)
		return transfer_ignore(&a->transfer, n);
	a->too_much |= part < n;
	return part;
}

static void
judged(struct ask *a, const struct rpc_reply *reply)
{
	struct rootget *r = a->r;
	const struct block_source *s = &r->fetch->blocks->sources[a->source];
	struct rpc_judgement j;

	rpc_judge(&j, &s->at, r->question, r->hash, r->block_size, reply);
	/* Who knows no manifests may have blocks. */
	if (j.verdict == RPC_UNREACHABLE && reply->connected && r->question == RPC_NODE)
		return;
	source_replied(r->fetch, a->source, &j, reply);
	if (j.verdict == RPC_BLOCK && r->found == NULL)
		r->found = a;
}

static void
on_done(void *owner, CURLcode result)
{
	struct ask *a = owner;
	struct rpc_reply reply;

	source_reply(&reply, &a->transfer, result, a->body, a->len);
	if (!a->no_place && !(a->too_much && a->r->question == RPC_NODE))
		judged(a, &reply);
	if (a->r->found == a)
		a->state = FREE; /* what has come is kept */
	else
		give_back(a);
}

/* --- Questions --------------------------------------------------------------------------------------- */

static void
launch(struct ask *a)
{
	struct rootget *r = a->r;
	const struct block_source *s = &r->fetch->blocks->sources[a->source];
	struct rpc_request q;
	struct err e;

	if (rpc_build(&q, &s->at, r->question, r->hash, r->wait_ms * DAEMON_PART, NULL, &e) != 0) {
		give_back(a);
		return;
	}
	switch (source_ask(&a->transfer, s, &q, &e)) {
	case HOST_WAITING:
		a->state = WAITING;
		break;
	case HOST_READY:
		a->state = RUNNING;
		break;
	default:
		source_judged(r->fetch, a->source, RPC_UNREACHABLE, e.text);
		give_back(a);
	}
}

/* Not one byte, not even that it gives up: whoever never said anything is not there. */
static void
silent(struct ask *a)
{
	struct block_source *s = &a->r->fetch->blocks->sources[a->source];

	if (!a->r->beside && a->state == RUNNING && a->transfer.quiet && !s->reached &&
	    a->r->fetch->now >= a->since + a->r->wait_ms * DAEMON_PART)
		source_judged(a->r->fetch, a->source, RPC_UNREACHABLE, "does not answer");
}

static struct ask *
place(struct rootget *r)
{
	struct ask *oldest = &r->asks[0];

	for (size_t i = 0; i < ASKS; i++) {
		if (r->asks[i].state == FREE)
			return &r->asks[i];
		if (r->asks[i].since < oldest->since)
			oldest = &r->asks[i];
	}
	if (r->fetch->now < oldest->since + r->wait_ms / 3)
		return NULL;
	give_back(oldest);
	return oldest;
}

static int
running(const struct rootget *r)
{
	for (size_t i = 0; i < ASKS; i++)
		if (r->asks[i].state != FREE)
			return 1;
	return 0;
}

/* Ask one source more.  0: none is left, or it is not time. */
static int
ask_next(struct rootget *r)
{
	struct fetch *f = r->fetch;
	struct ask *a;
	struct err e;

	while (r->next < f->blocks->nsources && !source_usable(f, r->next))
		r->next++;
	if (r->next == f->blocks->nsources || (running(r) && f->now < r->last + ROOTGET_HEDGE_MS) ||
	    (a = place(r)) == NULL)
		return 0;
	if (a->r == NULL && transfer_init(&a->transfer, f, TRANSFER_BLOCK, &calls, a, &e) != 0) {
		r->next = f->blocks->nsources;
		return 0;
	}
	a->r = r;
	a->source = r->next++;
	a->since = r->last = f->now;
	launch(a);
	return 1;
}

enum rootget_state
rootget_pump(struct rootget *r, const uint8_t **data, size_t *len)
{
	int late = r->fetch->now >= r->deadline;

	for (size_t i = 0; i < ASKS && r->found == NULL; i++) {
		struct ask *a = &r->asks[i];

		if (late && a->state != FREE) {
			silent(a);
			give_back(a);
		} else if (a->state == WAITING) {
			launch(a);
		}
	}
	while (!late && r->found == NULL && ask_next(r))
		;
	if (r->found != NULL) {
		*data = r->found->body;
		*len = r->found->len;
		return ROOTGET_FOUND;
	}
	return running(r) ? ROOTGET_RUNS : ROOTGET_NOWHERE;
}

uint64_t
rootget_deadline(const struct rootget *r)
{
	uint64_t next = UINT64_MAX;

	if (r->next < r->fetch->blocks->nsources) {
		next = r->last + ROOTGET_HEDGE_MS;
		for (size_t i = 0, busy = 0; i < ASKS; i++) {
			busy += r->asks[i].state != FREE;
			if (busy == ASKS) /* until a place becomes free */
				next = r->last + r->wait_ms / 3;
		}
	}
	return next < r->deadline ? next : r->deadline;
}
