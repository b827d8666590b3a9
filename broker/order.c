/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: one order of a nar: fetcher, unpacker and spool at work together.
 *
 * The bytes go from the fetcher straight to the unpacker and from there to the spool.  What the two say about them only
 * helps to explain a failure: the nar is good when its size and hash are, and bad otherwise. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "broker/broker.h"
#include "broker/trace.h"

/* Neither bytes nor frames for this long, and the fetcher is given up.  It has stall rules of its own, far shorter;
 * this is for one that hangs. */
#define SILENCE_MS 150000
/* The same for both, from the moment when the fetcher said that the unpacker has everything. */
#define LAST_MS 20000
/* A place at which helpers were lost so often is not tried again: it may be what ends them. */
#define MAX_LOST_AT_PLACE 2

static void set_reason(struct order *o, const char *why)
{
	if (o->reason[0] == '\0')
		(void)snprintf(o->reason, sizeof o->reason, "%s", why);
}

/* --- Messages ------------------------------------------------------------------------------------------------- */

int order_on_begin(struct broker *b, struct helper *h, const struct wire_msg *m, struct err *e)
{
	struct order *o = &b->order;
	struct wire_msg u = { .type = MSG_UNPACK, .method = m->method, .max_bytes = o->nar_size,
			      .dictionary = (uint32_t)b->conf.lzip_dictionary };

	if (!o->active || m->id != o->id || m->candidate >= o->index_count || m->method < METHOD_NONE ||
	    m->method > METHOD_ZSTD || (o->direct && m->method != METHOD_NONE))
		return err_set(e, "NAR_BEGIN that does not fit the order");
	h->state = HELPER_STREAMING;
	o->begun = 1;
	o->candidate = m->candidate;
	o->place = o->index[m->candidate];
	o->last_news = crew_now();
	for (uint64_t w = b->conf.zstd_window; w > 1; w >>= 1)
		u.window_log++;
	trace_started(b, &o->places[o->place], m->size);
	if (o->direct)
		return 0;
	if (o->unpack != NULL && crew_send(o->unpack, &u, -1, e) == 0)
		o->unpack->state = HELPER_STREAMING;
	else
		set_reason(o, "the unpacker is gone");
	return 0;
}

int order_on_progress(struct broker *b, struct helper *h, const struct wire_msg *m, struct err *e)
{
	struct order *o = &b->order;
	char source[LIMIT_SOURCE + 1];

	(void)h;
	if (m->id != o->id || m->bytes < o->fetched || m->bytes > o->max_bytes)
		return err_set(e, "NAR_PROGRESS that does not fit the order");
	if (m->bytes > o->fetched) /* the same number again is no news */
		o->last_news = crew_now();
	o->fetched = m->bytes;
	wire_copy(source, sizeof source, m->text);
	if (o->begun)
		trace_progress(b, o->fetched, source);
	return 0;
}

int order_on_end(struct broker *b, struct helper *h, const struct wire_msg *m, struct err *e)
{
	struct order *o = &b->order;
	char reason[LIMIT_REASON + 1];

	if (m->id != o->id || m->status > NAR_CANCELLED || m->bytes < o->fetched ||
	    (m->status == NAR_DONE && (!o->begun || m->candidate != o->candidate)))
		return err_set(e, "NAR_END that does not fit the order");
	h->state = HELPER_READY;
	o->fetch_ended = 1;
	o->fetch_status = m->status;
	o->fetched = m->bytes;
	o->last_news = crew_now();
	o->missed = m->missed;
	o->repaired = m->repaired;
	o->reinserted = m->reinserted;
	wire_copy(reason, sizeof reason, m->text);
	if (m->status != NAR_DONE)
		set_reason(o, reason);
	else
		memcpy(o->sources, reason, sizeof reason);
	return 0;
}

int order_on_unpacked(struct broker *b, struct helper *h, const struct wire_msg *m, struct err *e)
{
	struct order *o = &b->order;
	char reason[LIMIT_REASON + 1];

	if (h != o->unpack || m->status > UNPACK_FAILED || m->out > o->nar_size)
		return err_set(e, "UNPACKED that does not fit the order");
	h->state = HELPER_DONE;
	o->unpack_ended = 1;
	o->unpack_status = m->status;
	if (m->status != UNPACK_DONE) {
		wire_copy(reason, sizeof reason, m->text);
		set_reason(o, reason);
	}
	return 0;
}

void order_lost(struct broker *b, struct helper *h, const char *why)
{
	struct order *o = &b->order;

	if (!o->active || (h != o->fetch && h != o->unpack))
		return;
	set_reason(o, why);
	if (h == o->fetch)
		o->fetch = NULL;
	else
		o->unpack = NULL;
}

void order_reset(struct broker *b)
{
	uint32_t id = b->order.id;

	memset(&b->order, 0, sizeof b->order);
	b->order.id = id + 1;
}

/* --- The order -------------------------------------------------------------------------------------------------- */

/* Where the fetcher writes to.  Bytes that need no unpacking come straight to us: they are as opaque as what an
 * unpacker would copy, and the spool does not care.  Returns the fetcher's end. */
static int open_sink(struct order *o, struct err *e)
{
	int pair[2], room = 1 << 20, sink;

	if (!o->direct) {
		if ((sink = o->unpack->in) < 0)
			return err_set(e, "the unpacker has no input");
		/* the fetcher's alone from now on, so that its end is the end */
		o->unpack->in = -1;
		o->out = o->unpack->out;
		return sink;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, errno, "no channel for the nar");
	(void)setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
	o->out = pair[0];
	return pair[1];
}

/* CANDIDATE frames for what has not failed, then ORDER with the way for the bytes. */
static int send_order(struct broker *b, struct err *e)
{
	struct order *o = &b->order;
	struct wire_msg m = { .type = MSG_ORDER, .id = o->id, .nar_size = o->nar_size, .others = (uint8_t)o->others };
	int sink, rc;

	memcpy(m.hash_part, o->hash_part, sizeof m.hash_part);
	for (unsigned i = 0; i < o->index_count; i++) {
		const struct place *p = &o->places[o->index[i]];
		struct wire_msg c = { .type = MSG_CANDIDATE, .id = o->id, .index = (uint16_t)i, .server = p->server,
				      .size = p->file_size, .text = wire_str(p->compression), .text2 = wire_str(p->url),
				      .eris = wire_str(p->plain ? "" : p->eris),
				      .manifest = wire_str(p->plain ? "" : p->manifest) };

		if (crew_send(o->fetch, &c, -1, e) != 0)
			return err_set(e, "the fetcher does not take the order");
	}
	/* No honest encoding of a nar is much larger than the nar. */
	m.max_bytes = o->max_bytes = o->nar_size + o->nar_size / 8 + (1 << 20);
	if ((sink = open_sink(o, e)) < 0)
		return -1;
	rc = crew_send(o->fetch, &m, sink, e);
	close(sink);
	if (rc != 0)
		return err_set(e, "the fetcher does not take the order");
	o->fetch->state = HELPER_ORDERED;
	return 0;
}

/* Read all that is there, within reason, before looking at the helpers again. */
static int drain(struct broker *b, struct spool *spool, struct err *e)
{
	struct order *o = &b->order;

	for (int i = 0; i < 64; i++) {
		int rc = spool_take(spool, o->out, e);

		if (rc == 1) {
			o->last_news = crew_now();
			continue;
		}
		if (rc == 0)
			o->out_ended = 1;
		if (rc == 2 && (o->unpack_ended || (o->direct && o->fetch_ended))) /* it closes before it says so */
			return err_set(e, "the %s keeps its output open", o->direct ? "fetcher" : "unpacker");
		return rc < 0 ? -1 : 0;
	}
	return 0;
}

static int finished(const struct order *o)
{
	if (o->fetch == NULL || (o->unpack == NULL && !o->direct))
		return 1;
	if (o->fetch_ended && !o->begun) /* nothing will ever come */
		return 1;
	return o->fetch_ended && (o->unpack_ended || o->direct) && o->out_ended;
}

/* Returns 0 when the conversation came to its end, or -1 for a failure here or a nar that is too long. */
static int pump(struct broker *b, struct spool *spool, struct err *e)
{
	struct order *o = &b->order;

	while (!finished(o)) {
		/* An unpacker that failed reads no more: the fetcher sees that at its next write, and ends, too. */
		int fd = o->begun && !o->out_ended ? o->out : -1;

		if (crew_step(b, fd, 1000) < 0)
			return err_sys(e, EPIPE, "the spawner is gone");
		if (fd >= 0 && (o->direct || o->unpack != NULL) && drain(b, spool, e) < 0)
			return -1;
		if (o->fetch_ended && o->unpack != NULL && crew_now() - o->last_news > LAST_MS) {
			/* One of the two keeps its end of the channel; which, does not show. */
			crew_kill(b, o->unpack, "the nar was told to be complete, and does not end");
			if (o->fetch != NULL)
				crew_kill(b, o->fetch, "the nar was told to be complete, and does not end");
		}
		if (o->fetch != NULL && crew_now() - o->last_news > SILENCE_MS)
			crew_kill(b, o->fetch, "it is silent");
	}
	return 0;
}

/* Bring both helpers to a state from which the next order can start. */
static void settle(struct broker *b)
{
	struct order *o = &b->order;
	struct wire_msg cancel = { .type = MSG_CANCEL, .id = o->id };
	int64_t limit = crew_now() + 5000;

	if (o->direct && o->out >= 0)
		close(o->out);
	if (o->unpack != NULL)
		crew_release(b, o->unpack); /* closes its ends */
	o->unpack = NULL;
	o->out = -1;
	if (o->fetch != NULL && o->fetch->state == HELPER_READY) /* the order never reached it */
		o->fetch_ended = 1;
	if (o->fetch != NULL && !o->fetch_ended && crew_send(o->fetch, &cancel, -1, NULL) != 0)
		crew_kill(b, o->fetch, "it does not read its frames");
	while (o->fetch != NULL && !o->fetch_ended) {
		if (crew_step(b, -1, 100) < 0)
			break;
		if (crew_now() > limit && o->fetch != NULL)
			crew_kill(b, o->fetch, "it does not stop");
	}
	o->active = 0;
}

static enum order_result judge(struct order *o, struct spool *spool, const uint8_t nar_hash[32], int lost,
			       struct err *e)
{
	int unpacked = o->direct ? o->fetch_ended && o->fetch_status == NAR_DONE
				 : o->unpack_ended && o->unpack_status == UNPACK_DONE;
	int complete = unpacked && o->out_ended;

	spool_digest(spool, o->digest);
	if (complete && spool->size == o->nar_size && memcmp(o->digest, nar_hash, 32) == 0)
		return ORDER_GOOD;
	if (complete && o->fetch_status == NAR_DONE) {
		(void)err_set(e, spool->size == o->nar_size ? "the nar has another hash than the signed one"
							 : "the nar has %llu bytes, not %llu",
			      (unsigned long long)spool->size, (unsigned long long)o->nar_size);
		return ORDER_DIFFERENT;
	}
	(void)err_set(e, "%s", o->reason[0] ? o->reason : o->begun ? "the nar ended early" : "no place could be reached");
	if (lost)
		return ORDER_LOCAL;
	return o->begun ? ORDER_FAILED : ORDER_EXHAUSTED;
}

/* What becomes of the place at which an order went wrong. */
static void blame(struct place *p, enum order_result result, int lost)
{
	if (result == ORDER_LOCAL && (!lost || ++p->lost < MAX_LOST_AT_PLACE))
		return;
	if (p->plain || (p->eris[0] == '\0' && p->manifest[0] == '\0')) {
		p->failed = 1;
		p->different |= result == ORDER_DIFFERENT;
	}
	if (!p->failed)
		p->lost = 0;
	p->plain = 1;
}

enum order_result order_nar(struct broker *b, const char *hash_part, struct place *places, unsigned count, int others,
			    uint64_t nar_size, const uint8_t nar_hash[32], struct spool *spool, struct err *e)
{
	struct order *o = &b->order;
	enum order_result result;
	int pumped, lost;

	order_reset(b);
	o->places = places;
	o->hash_part = hash_part;
	o->nar_size = nar_size;
	o->others = others;
	o->out = -1;
	o->direct = 1;
	for (unsigned i = 0; i < count && o->index_count < LIMIT_CANDIDATES; i++)
		if (!places[i].failed) {
			o->index[o->index_count++] = (uint16_t)i;
			o->direct &= strcmp(places[i].compression, "none") == 0;
		}
	if (o->index_count == 0)
		return (void)err_set(e, "no place to get it from"), ORDER_EXHAUSTED;
	if (crew_ask(b, KIND_FETCH) < 0 || (!o->direct && crew_ready(b, KIND_UNPACK, e) == NULL) ||
	    (o->fetch = crew_ready(b, KIND_FETCH, e)) == NULL) {
		e->code = ECHILD; /* no helper to be had: trying again would not help */
		return ORDER_LOCAL;
	}
	if (!o->direct && (o->unpack = crew_find(b, KIND_UNPACK, HELPER_READY)) == NULL) /* it died while we waited */
		return (void)err_set(e, "the unpacker ended"), ORDER_LOCAL;
	o->active = 1;
	o->last_news = crew_now();
	o->fetch_verified = o->fetch->verified, o->fetch_claimed = o->fetch->claimed;
	if (!o->direct) {
		o->unpack_verified = o->unpack->verified, o->unpack_claimed = o->unpack->claimed;
		o->unpack->state = HELPER_ORDERED;
	}
	pumped = send_order(b, e);
	if (pumped == 0) {
		if (!o->direct) /* a spare one for the next item starts while this one is fetched */
			(void)crew_ask(b, KIND_UNPACK);
		pumped = pump(b, spool, e);
	}
	lost = o->fetch == NULL || (o->unpack == NULL && !o->direct);
	settle(b);
	if (pumped == 0)
		result = judge(o, spool, nar_hash, lost, e);
	else
		result = o->begun && e->code == 0 ? ORDER_FAILED : ORDER_LOCAL;
	if (o->begun && result != ORDER_GOOD)
		blame(&places[o->place], result, lost);
	o->places = NULL;
	return result;
}
