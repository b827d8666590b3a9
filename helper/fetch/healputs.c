/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch), healing: requests that put blocks, or ask whether they are there, and to whom these go. */
#include <stdlib.h>
#include <string.h>

#include "helper/common/logline.h"
#include "helper/fetch/heal_own.h"
#include "helper/fetch/source.h"

/* A put that does not move for so long has failed; then, or when one is refused, so long none is tried. */
#define STALL_MS 30000
#define PAUSE_MS 5000
/* Times that a block is put before it is left to narlock-heal. */
#define TRIES 2
/* For how long a daemon may look whether a block is there: js-ipfs looks in the network all the same. */
#define ASK_MS 500

/* --- Sources ----------------------------------------------------------------------------------------- */

int
healputs_target(const struct heal *h, int *later)
{
	const struct blockconf *b = h->fetch->blocks;

	*later = 0;
	for (size_t i = 0; i < b->nsources; i++) {
		if (b->sources[i].at.kind != RPC_IPFS || !source_usable(h->fetch, i) || h->refused[i])
			continue;
		if (h->paused[i] <= h->fetch->now)
			return (int)i;
		*later = 1;
	}
	return -1;
}

int
healputs_has_daemon(const struct heal *h)
{
	const struct blockconf *b = h->fetch->blocks;

	for (size_t i = 0; i < b->nsources; i++)
		if (b->sources[i].at.kind == RPC_IPFS && b->sources[i].dead_until != UINT64_MAX &&
		    (!h->refused[i] || h->took[i]) && (b->said_ipfs || b->sources[i].reached))
			return 1;
	return 0;
}

/* --- Requests ---------------------------------------------------------------------------------------- */

static size_t
on_body(void *owner, const char *data, size_t n)
{
	struct flight *l = owner;

	transfer_keep(l->answer, sizeof l->answer, &l->len, data, n);
	l->total += n;
	return l->total <= LIMIT_IGNORED_BODY ? n : 0;
}

/* The copies of a flight that has ended: those that are stored, and those that have to be put again, if
 * AGAIN. */
static void
land(struct flight *l, int again)
{
	struct heal *h = l->heal;

	l->state = FREE;
	for (unsigned i = 0; i < l->batch.n; i++) {
		struct copy *c = &l->copies[i];
		const struct nar *n;

		if (l->batch.stored[i]) {
			h->took[l->source] = 1;
			healnars_copy_done(h, c, PUT);
		} else if (again && c->tries < TRIES && (n = healnars_of(h, c->nar)) != NULL && n->active) {
			healqueue_push(h, c, l->batch.body + l->batch.at[i]);
		} else {
			healnars_copy_done(h, c, LEFT);
		}
	}
}

/* CONNECTED: it has answered.  A token that allows only to read is refused then, and good for reading. */
static void
failed(struct flight *l, const struct rpc_judgement *j, int connected)
{
	struct heal *h = l->heal;
	const char *why = j->why != NULL ? j->why : "does not take blocks";

	if (!h->said && h->fetch->blocks->said_ipfs)
		logline("%s: missing blocks cannot be put back now: it %s%s%s",
		    h->fetch->blocks->sources[l->source].name, why, j->said[0] != '\0' ? ": " : "", j->said);
	h->said = 1;
	h->paused[l->source] = h->fetch->now + (j->retry_ms > 0 ? j->retry_ms : PAUSE_MS);
	if (j->verdict == RPC_UNREACHABLE && connected)
		h->refused[l->source] = 1;
	else if (j->verdict == RPC_UNREACHABLE)
		source_judged(h->fetch, l->source, j->verdict, why);
	memset(l->batch.stored, 0, sizeof l->batch.stored);
	for (unsigned i = 0; i < l->batch.n; i++)
		l->copies[i].tries++;
	land(l, 1);
}

/* The block is not there: it was missed after all. */
static void
is_not_there(struct flight *l)
{
	struct heal *h = l->heal;
	struct copy *c = &l->copies[0];
	struct nar *n = healnars_of(h, c->nar);

	l->asks = c->asks = 0;
	c->known = MISSED;
	if (n != NULL && n->begun) {
		/* There was no room for it: it is noted again. */
		n->outstanding -= h->state[healnars_slot_of(h, c->ref)] == UNKNOWN;
		heal_missed(h->fetch, c->ref);
		healnars_came(h, c->ref);
	}
	/* It may have turned out to be private since it was asked for. */
	if (h->count < QUEUE || n == NULL || !n->active)
		land(l, 1);
	else
		l->state = START_PUT;
}

/* What the daemon says of the one block of L. */
static void
asked(struct flight *l, const struct rpc_judgement *j, const struct rpc_reply *reply)
{
	struct heal *h = l->heal;

	if (j->verdict == RPC_BLOCK) {
		l->asks = 0;
		l->state = FREE;
		healnars_copy_done(h, &l->copies[0], THERE);
	} else if (j->verdict == RPC_MISSING) {
		is_not_there(l);
	} else if (j->verdict == RPC_UNREACHABLE && reply->connected) {
		h->mute[l->source] = 1; /* putting what is there already does no harm */
		l->asks = 0;
		land(l, 1);
	} else {
		l->asks = 0;
		failed(l, j, reply->connected);
	}
}

static void
on_done(void *owner, CURLcode result)
{
	struct flight *l = owner;
	struct heal *h = l->heal;
	const struct rpc_source *s = &h->fetch->blocks->sources[l->source].at;
	struct put_known *k = &h->known[l->source];
	struct rpc_judgement j;
	struct rpc_reply reply;
	enum put_result r;

	source_reply(&reply, &l->transfer, result, l->answer, l->len);
	if (l->state == PROVING) {
		rpc_judge(&j, s, RPC_HAS, l->batch.refs[l->batch.n - 1], l->batch.len[l->batch.n - 1], &reply);
		if (l->asks) {
			asked(l, &j, &reply);
			return;
		}
		r = PUT_FAILED;
		if (j.verdict == RPC_BLOCK || j.verdict == RPC_MISSING)
			r = put_proved(&l->batch, k, j.verdict == RPC_BLOCK);
	} else {
		r = put_judge(&l->batch, s, k, &reply, &j);
	}
	if (r == PUT_PROVE) {
		l->state = START_PROOF;
		return;
	}
	if (r == PUT_FAILED) {
		failed(l, &j, reply.connected);
		return;
	}
	source_judged(h->fetch, l->source, RPC_BLOCK, NULL);
	land(l, 1);
}

static const struct transfer_owner calls = { on_body, on_done };

/* START_PUT and START_PROOF: send, or wait on for an address. */
static void
start(struct flight *l)
{
	struct heal *h = l->heal;
	const struct block_source *s = &h->fetch->blocks->sources[l->source];
	int proof = l->state == START_PROOF;
	enum rpc_ask ask = proof ? RPC_HAS : put_ask(&l->batch);
	const uint8_t *hash = proof ? l->batch.refs[l->batch.n - 1] : NULL;
	struct rpc_judgement j = { .verdict = RPC_BUSY };
	struct rpc_request r;
	enum host_state host;
	struct err e;

	if (rpc_build(&r, &s->at, ask, hash, l->asks ? ASK_MS : h->fetch->blocks->block_ms, l->batch.boundary, &e) != 0) {
		failed(l, &j, 0);
		return;
	}
	l->len = l->total = 0;
	l->moved = 0;
	l->moved_ms = h->fetch->now;
	host = proof ? source_ask(&l->transfer, s, &r, &e) :
	    source_send(&l->transfer, s, &r, l->batch.body, l->batch.body_len, &e);
	if (host == HOST_READY) {
		l->state = proof ? PROVING : PUTTING;
	} else if (host == HOST_UNKNOWN) {
		j.verdict = RPC_UNREACHABLE;
		j.why = "cannot be found";
		failed(l, &j, 0);
	}
}

/* Take copies out of the queue into one request: those that are put, or the first of those that are asked for. */
static void
launch(struct heal *h, struct flight *l, size_t source, int asks)
{
	unsigned most;
	enum put_way way = put_choose(&h->known[source], asks ? 1 : h->count - h->asks, &most);
	char boundary[RPC_BOUNDARY + 1];
	struct err e;

	if ((l->transfer.easy == NULL &&
	    transfer_init(&l->transfer, h->fetch, TRANSFER_BLOCK, &calls, l, &e) != 0) ||
	    put_boundary(boundary) != 0 || put_begin(&l->batch, way, boundary, healqueue_at(h, 0)->ref, &e) != 0) {
		h->paused[source] = h->fetch->now + PAUSE_MS;
		return;
	}
	l->source = source;
	for (size_t left = h->count; left > 0; left--) {
		struct copy c;

		healqueue_pop(h, &c);
		if (l->batch.n == most || c.asks != asks) { /* once around, so that the order stays */
			healqueue_append(h, &c);
			continue;
		}
		put_add(&l->batch, c.ref, c.data, c.len);
		free(c.data);
		c.data = NULL;
		l->copies[l->batch.n - 1] = c;
	}
	put_end(&l->batch);
	l->asks = (uint8_t)asks;
	l->state = asks ? START_PROOF : START_PUT;
}

/* A request that runs: does anything move? */
static void
watch(struct flight *l)
{
	struct rpc_judgement j = { .verdict = RPC_BUSY, .why = "does not answer" };
	uint64_t now = l->heal->fetch->now;
	curl_off_t up = 0;

	(void)curl_easy_getinfo(l->transfer.easy, CURLINFO_SIZE_UPLOAD_T, &up);
	up += (curl_off_t)l->total;
	if (up != l->moved) {
		l->moved = up;
		l->moved_ms = now;
	}
	if (now < l->moved_ms + STALL_MS)
		return;
	transfer_stop(&l->transfer);
	failed(l, &j, 0);
}

static unsigned
flying(const struct heal *h)
{
	unsigned n = 0;

	for (int i = 0; i < FLIGHTS; i++)
		n += h->flights[i].state != FREE;
	return n;
}

/* Fill one more request. */
static void
take_off(struct heal *h, struct flight *l, size_t source)
{
	unsigned most = h->current != NULL && h->current->begun ? PUTS_BESIDE : PUTS, putting = 0;
	size_t puts;

	for (size_t i = 0; h->mute[source] && h->asks > 0 && i < h->count; i++) {
		h->asks -= healqueue_at(h, i)->asks;
		healqueue_at(h, i)->asks = 0;
	}
	if (l >= h->flights + PUTS) {
		if (h->asks > 0)
			launch(h, l, source, 1);
		return;
	}
	puts = h->count - h->asks;
	for (int i = 0; i < PUTS; i++)
		putting += h->flights[i].state != FREE;
	/* One, until it is known how this daemon takes many, and while there are few: more may come. */
	if (puts > 0 && putting < most && (putting == 0 || (puts >= PUT_FEW && h->known[source].car != 0)))
		launch(h, l, source, 0);
}

void
heal_pump(struct fetch *f)
{
	struct heal *h = f->heal;
	int source, later;

	for (int i = 0; i < FLIGHTS; i++)
		if (h->flights[i].state == PUTTING || h->flights[i].state == PROVING)
			watch(&h->flights[i]);
	for (int i = 0; i < FLIGHTS && h->count > 0; i++) {
		if ((source = healputs_target(h, &later)) < 0) {
			if (!later)
				healqueue_give_up(h, 0);
			break;
		}
		if (h->flights[i].state == FREE)
			take_off(h, &h->flights[i], (size_t)source);
	}
	for (int i = 0; i < FLIGHTS; i++)
		if (h->flights[i].state == START_PUT || h->flights[i].state == START_PROOF)
			start(&h->flights[i]);
}

uint64_t
heal_deadline(const struct fetch *f)
{
	const struct heal *h = f->heal;
	uint64_t first = UINT64_MAX;

	for (int i = 0; i < FLIGHTS; i++) {
		const struct flight *l = &h->flights[i];
		uint64_t due = l->state == FREE ? UINT64_MAX : l->state == PUTTING || l->state == PROVING ?
		    l->moved_ms + STALL_MS : f->now + 100; /* an answer about its address comes before */

		first = due < first ? due : first;
	}
	for (size_t i = 0; h->count > 0 && i < f->blocks->nsources; i++)
		if (h->paused[i] > f->now && h->paused[i] < first)
			first = h->paused[i];
	return first;
}

int
heal_busy(const struct fetch *f)
{
	return f->heal->count > 0 || flying(f->heal) > 0;
}
