/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (heal): requests whose end is waited for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helper/common/logline.h"
#include "helper/fetch/heal.h"
#include "helper/fetch/source.h"
#include "helper/fetch/start.h"
#include "helper/fetch/transfer.h"
#include "helper/heal/net.h"

/* Questions at a time. */
#define SLOTS 64
/* A put, and a file, that does not move for so long has failed. */
#define PUT_STALL_MS 60000
/* An answer to a question may take so much longer than the daemon was told to look. */
#define ANSWER_MS 10000
/* Nothing happens: look at the clock. */
#define TURN_MS 250

struct slot {
	struct net *net;
	struct transfer transfer;
	uint8_t busy, ended;
	CURLcode result;
	size_t i;            /* which question */
	size_t len, total;
	uint8_t body[ERIS_LARGE + 1]; /* one byte more than a block: enough to see that it is none */
};

struct net {
	struct fetch *fetch;
	uint8_t dead[BLOCKCONF_SOURCES];
	struct slot slots[SLOTS];
	/* A file. */
	struct transfer file;
	uint8_t file_ended, refused, paused;
	CURLcode file_result;
	const struct net_reader *reader;
	void *ctx;
};

static size_t on_body(void *owner, const char *data, size_t n);
static void on_done(void *owner, CURLcode result);
static size_t on_file(void *owner, const char *data, size_t n);
static void on_file_done(void *owner, CURLcode result);

static const struct transfer_owner calls = { on_body, on_done };
static const struct transfer_owner file_calls = { on_file, on_file_done };

struct net *
net_new(struct fetch *f, struct err *e)
{
	struct net *n = calloc(1, sizeof *n);

	if (n == NULL)
		return (void)err_set(e, "no memory for requests"), NULL;
	n->fetch = f;
	for (int i = 0; i < SLOTS; i++) {
		n->slots[i].net = n;
		if (transfer_init(&n->slots[i].transfer, f, TRANSFER_BLOCK, &calls, &n->slots[i], e) != 0) {
			net_free(n);
			return NULL;
		}
	}
	if (transfer_init(&n->file, f, TRANSFER_NAR, &file_calls, n, e) != 0) {
		net_free(n);
		return NULL;
	}
	return n;
}

void
net_free(struct net *n)
{
	if (n == NULL)
		return;
	for (int i = 0; i < SLOTS; i++)
		if (n->slots[i].transfer.easy != NULL)
			transfer_free(&n->slots[i].transfer);
	if (n->file.easy != NULL)
		transfer_free(&n->file);
	free(n);
}

struct fetch *
net_fetch(const struct net *n)
{
	return n->fetch;
}

/* --- Turns ------------------------------------------------------------------------------------------- */

static int
always(const struct fetch *f)
{
	(void)f;
	return 1;
}

/* Names were resolved before the lock, once; what was known then is known to the end. */
static void
clocks(struct fetch *f)
{
	start_clocks(f);
	for (size_t i = 0; i < f->hosts.count; i++) {
		struct host *h = &f->hosts.hosts[i];

		h->wanted = 0;
		*(h->addresses[0] != '\0' ? &h->known_ms : &h->unknown_ms) = f->now;
	}
}

static void
turn(struct fetch *f)
{
	int running, happened;

	(void)curl_multi_perform(f->multi, &running);
	transfer_collect(f, always);
	(void)curl_multi_poll(f->multi, NULL, 0, running > 0 ? TURN_MS : 0, &happened);
	(void)curl_multi_perform(f->multi, &running);
	transfer_collect(f, always);
	clocks(f);
}

static size_t
on_body(void *owner, const char *data, size_t n)
{
	struct slot *s = owner;

	transfer_keep(s->body, sizeof s->body, &s->len, data, n);
	s->total += n;
	return s->total <= LIMIT_IGNORED_BODY + ERIS_LARGE ? n : 0;
}

static void
on_done(void *owner, CURLcode result)
{
	struct slot *s = owner;

	s->ended = 1;
	s->result = result;
}

/* --- Questions --------------------------------------------------------------------------------------- */

/* Send R; 0, or -1: it cannot be sent. */
static int
send_request(struct slot *s, size_t source, const struct rpc_request *r, const void *body, size_t len)
{
	const struct block_source *at = &s->net->fetch->blocks->sources[source];
	struct err e;

	clocks(s->net->fetch);
	s->len = s->total = 0;
	s->ended = 0;
	if (source_send(&s->transfer, at, r, body, len, &e) != HOST_READY)
		return -1;
	s->busy = 1;
	return 0;
}

static void
lost(struct net *n, size_t source, enum rpc_verdict verdict, const char *why)
{
	if (verdict != RPC_UNREACHABLE && verdict != RPC_LIE)
		return;
	if (!n->dead[source])
		logline("%s is not asked any more: %s", n->fetch->blocks->sources[source].name,
		    why != NULL ? why : "no answer");
	n->dead[source] = 1;
}

struct round {
	struct net *net;
	size_t source;
	enum rpc_ask ask;
	const uint8_t (*refs)[ERIS_REF];
	uint32_t timeout_ms, block_size;
	net_answer answer;
	void *ctx;
};

static int
begin(const struct round *r, struct slot *s, size_t i)
{
	const struct rpc_source *at = &r->net->fetch->blocks->sources[r->source].at;
	struct rpc_request q;
	struct err e;

	s->i = i;
	return rpc_build(&q, at, r->ask, r->refs[i], r->timeout_ms, NULL, &e) != 0 ||
	    send_request(s, r->source, &q, NULL, 0) != 0 ? -1 : 0;
}

static void
end(const struct round *r, struct slot *s)
{
	const struct rpc_source *at = &r->net->fetch->blocks->sources[r->source].at;
	struct rpc_judgement j;
	struct rpc_reply reply;

	s->busy = 0;
	source_reply(&reply, &s->transfer, s->result, s->body, s->len);
	rpc_judge(&j, at, r->ask, r->refs[s->i], r->block_size, &reply);
	lost(r->net, r->source, j.verdict, j.why);
	r->answer(r->ctx, s->i, j.verdict, r->ask == RPC_GET && j.verdict == RPC_BLOCK ? s->body : NULL);
}

static void
watch(const struct round *r, struct slot *s)
{
	if (s->ended) {
		end(r, s);
	} else if (r->net->fetch->now > s->transfer.active + r->timeout_ms + ANSWER_MS) {
		transfer_stop(&s->transfer);
		s->busy = 0;
		r->answer(r->ctx, s->i, RPC_BUSY, NULL);
	}
}

void
net_ask(struct net *n, size_t source, enum rpc_ask ask, const uint8_t (*refs)[ERIS_REF], size_t count,
    uint32_t timeout_ms, uint32_t block_size, net_answer answer, void *ctx)
{
	struct round r = { n, source, ask, refs, timeout_ms, block_size, answer, ctx };
	size_t next = 0, busy;

	do {
		busy = 0;
		for (int k = 0; k < SLOTS; k++) {
			struct slot *s = &n->slots[k];

			while (!s->busy && next < count) {
				if (!n->dead[source] && begin(&r, s, next) == 0) {
					next++;
					break;
				}
				lost(n, source, RPC_UNREACHABLE, "cannot be reached");
				answer(ctx, next++, RPC_UNREACHABLE, NULL);
			}
			busy += s->busy;
		}
		if (busy > 0)
			turn(n->fetch);
		for (int k = 0; k < SLOTS; k++)
			if (n->slots[k].busy)
				watch(&r, &n->slots[k]);
	} while (busy > 0 || next < count);
}

/* One request in the first slot, to its end. */
static void
wait_for(struct net *n, uint64_t stall_ms)
{
	struct slot *s = &n->slots[0];
	uint64_t since = n->fetch->now;
	curl_off_t moved = 0, up = 0;

	while (!s->ended) {
		turn(n->fetch);
		(void)curl_easy_getinfo(s->transfer.easy, CURLINFO_SIZE_UPLOAD_T, &up);
		up += (curl_off_t)s->total;
		since = up != moved ? n->fetch->now : since;
		moved = up;
		if (!s->ended && n->fetch->now >= since + stall_ms) {
			transfer_stop(&s->transfer);
			s->ended = 1;
			s->result = CURLE_OPERATION_TIMEDOUT;
		}
	}
	s->busy = 0;
}

int
net_alive(struct net *n, size_t source)
{
	const struct rpc_source *at = &n->fetch->blocks->sources[source].at;
	struct slot *s = &n->slots[0];
	struct rpc_judgement j;
	struct rpc_request q;
	struct rpc_reply reply;
	struct err e;

	if (n->dead[source] || rpc_build(&q, at, RPC_VERSION, NULL, 0, NULL, &e) != 0 ||
	    send_request(s, source, &q, NULL, 0) != 0)
		return 0;
	wait_for(n, ANSWER_MS);
	source_reply(&reply, &s->transfer, s->result, s->body, s->len);
	rpc_judge(&j, at, RPC_VERSION, NULL, 0, &reply);
	return j.verdict == RPC_BLOCK;
}

struct proof {
	int there, known;
};

static void
on_proof(void *ctx, size_t i, enum rpc_verdict verdict, const uint8_t *data)
{
	struct proof *p = ctx;

	(void)i;
	(void)data;
	p->there = verdict == RPC_BLOCK;
	p->known = verdict == RPC_BLOCK || verdict == RPC_MISSING;
}

enum put_result
net_put(struct net *n, size_t source, struct put_batch *b, struct put_known *known, struct rpc_judgement *j)
{
	const struct rpc_source *at = &n->fetch->blocks->sources[source].at;
	struct slot *s = &n->slots[0];
	struct proof p = { 0 };
	struct rpc_request q;
	struct rpc_reply reply;
	enum put_result result;
	struct err e;

	*j = (struct rpc_judgement){ .verdict = RPC_UNREACHABLE, .why = "cannot be reached" };
	if (n->dead[source] || rpc_build(&q, at, put_ask(b), NULL, 0, b->boundary, &e) != 0 ||
	    send_request(s, source, &q, b->body, b->body_len) != 0)
		return PUT_FAILED;
	wait_for(n, PUT_STALL_MS);
	source_reply(&reply, &s->transfer, s->result, s->body, s->len);
	if ((result = put_judge(b, at, known, &reply, j)) != PUT_PROVE)
		return result;
	net_ask(n, source, RPC_HAS, (const uint8_t (*)[ERIS_REF])&b->refs[b->n - 1], 1, n->fetch->blocks->block_ms,
	    b->len[b->n - 1], on_proof, &p);
	return p.known ? put_proved(b, known, p.there) : PUT_FAILED;
}

/* --- Files ------------------------------------------------------------------------------------------- */

static size_t
on_file(void *owner, const char *data, size_t len)
{
	struct net *n = owner;
	size_t taken;

	if (n->file.answer.status != 200 && n->file.answer.status != 206)
		return transfer_ignore(&n->file, len);
	taken = n->reader->bytes(n->ctx, &n->file.answer, (const uint8_t *)data, len);
	if (taken == len)
		return len;
	if (taken == NET_PAUSE) {
		n->paused = 1;
		return CURL_WRITEFUNC_PAUSE;
	}
	n->refused = 1;
	return 0;
}

static void
on_file_done(void *owner, CURLcode result)
{
	struct net *n = owner;

	n->file_ended = 1;
	n->file_result = result;
}

static int
get_once(struct net *n, const char *range, struct err *e)
{
	struct curl_slist *headers = NULL;
	char line[128], reason[LIMIT_REASON + 1];
	enum host_state state;

	clocks(n->fetch);
	n->file_ended = n->refused = n->paused = 0;
	if (!n->fetch->blocks->seed_private && heal_private(n->fetch, &n->file.url))
		return err_set(e, "%s: what is there is private (seed-private)", n->file.url.host);
	(void)snprintf(line, sizeof line, "Range: %s", range != NULL ? range : "");
	if (range != NULL && transfer_header(&headers, line) != 0)
		return err_set(e, "no memory for a request");
	if ((state = transfer_start(&n->file, headers, e)) == HOST_WAITING) {
		curl_slist_free_all(headers);
		return err_set(e, "%s: its address was not looked up when this program started", n->file.url.host);
	}
	if (state != HOST_READY)
		return -1;
	while (!n->file_ended) {
		turn(n->fetch);
		if (n->paused) {
			n->paused = 0;
			n->reader->pause(n->ctx);
			n->file.active = n->fetch->now;
			(void)curl_easy_pause(n->file.easy, CURLPAUSE_CONT);
		}
		if (!n->file_ended && n->fetch->now > n->file.active + n->fetch->settings.stall_ms + ANSWER_MS) {
			transfer_stop(&n->file);
			return err_set(e, "%s: nothing comes any more", n->file.url.host);
		}
	}
	if (n->file_result == CURLE_OK && !n->refused)
		return 0;
	transfer_reason(&n->file, n->file_result, reason, sizeof reason);
	return err_set(e, "%s", reason);
}

int
net_get(struct net *n, const struct url *url, const char *range, const struct net_reader *reader, void *ctx,
    struct answer *a, struct err *e)
{
	n->file.url = *url;
	n->file.redirects = 0;
	n->reader = reader;
	n->ctx = ctx;
	for (;;) {
		int rc = get_once(n, range, e);

		*a = n->file.answer;
		if (rc != 0 || !answer_is_redirect(a))
			return rc;
		if (transfer_redirect(&n->file, e) != 0)
			return -1;
	}
}
