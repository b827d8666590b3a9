/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): what becomes of a source of blocks after its answers. */
#include <stdio.h>
#include <string.h>

#include "helper/common/logline.h"
#include "helper/fetch/serve.h"
#include "helper/fetch/source.h"
#include "helper/fetch/state.h"
#include "helper/ipfs/sched.h"

int
source_usable(const struct fetch *f, size_t i)
{
	return i < f->blocks->nsources && f->blocks->sources[i].dead_until <= f->now;
}

static void
liar(struct fetch *f, const struct block_source *s, const char *why)
{
	struct wire_msg m = { .type = MSG_LIAR, .text = wire_str(s->name) };
	char reason[LIMIT_REASON + 1];

	wire_copy(reason, sizeof reason, wire_str(why));
	m.text2 = wire_str(reason);
	logline("%s lies and is not asked again: %s", s->name, why);
	serve_send(f, &m);
}

/* REMEMBER: the next agents shall not try, either. */
static void
judged(struct fetch *f, size_t i, enum rpc_verdict verdict, const char *why, int remember)
{
	struct block_source *s = &f->blocks->sources[i];

	if (s->dead_until == UINT64_MAX)
		return;
	if (why == NULL)
		why = "no reason";
	if (verdict == RPC_LIE) {
		s->dead_until = UINT64_MAX;
		liar(f, s, why);
	} else if (verdict == RPC_UNREACHABLE) {
		s->silent = 0;
		/* The daemon that everybody is assumed to have is no news when it is not there. */
		if (s->dead_until <= f->now && (f->blocks->said_ipfs || s->at.kind != RPC_IPFS))
			logline("%s is left alone for a while: %s", s->name, why);
		s->dead_until = f->now + SCHED_DEAD_MS;
		if (remember && s->at.socket[0] == '\0') /* a socket costs nothing, and has no origin */
			state_put(f->state, STATE_SILENT, &s->url, NULL, f->clock, SCHED_DEAD_MS / 1000);
	} else {
		s->reached = 1;
	}
}

void
source_judged(struct fetch *f, size_t i, enum rpc_verdict verdict, const char *why)
{
	judged(f, i, verdict, why, 1);
}

void
source_replied(struct fetch *f, size_t i, const struct rpc_judgement *j, const struct rpc_reply *r)
{
	char why[200];

	if (j->verdict != RPC_UNREACHABLE || !r->connected || r->status == 0) {
		judged(f, i, j->verdict, j->why, 1);
		return;
	}
	(void)snprintf(why, sizeof why, "%s (HTTP %d%s)", j->why, r->status, r->status == 401 || r->status == 403 ?
	    ": is the authorization in its line of narlock.conf right?" : "");
	judged(f, i, j->verdict, why, 0);
}

enum host_state
source_ask(struct transfer *t, const struct block_source *s, const struct rpc_request *r, struct err *e)
{
	return source_send(t, s, r, NULL, 0, e);
}

enum host_state
source_send(struct transfer *t, const struct block_source *s, const struct rpc_request *r, const void *body, size_t len,
    struct err *e)
{
	const struct fetch *f = t->fetch;
	struct transfer_request q = { .method = r->method, .address = r->url, .socket = s->at.socket, .body = body,
		.body_len = len };
	struct curl_slist *headers = NULL;
	enum host_state state;

	q.connect_ms = f->blocks->block_ms < f->settings.connect_ms ? f->blocks->block_ms : f->settings.connect_ms;
	t->url = s->url;
	for (unsigned i = 0; i < r->nheaders; i++)
		if (transfer_header(&headers, r->headers[i]) != 0) {
			curl_slist_free_all(headers);
			return (void)err_set(e, "no memory for a request"), HOST_UNKNOWN;
		}
	if ((state = transfer_ask(t, &q, headers, e)) == HOST_WAITING)
		curl_slist_free_all(headers);
	return state;
}

void
source_reply(struct rpc_reply *r, const struct transfer *t, CURLcode result, const void *body, size_t len)
{
	*r = (struct rpc_reply){ .connected = !transfer_is_dead(t, result), .complete = result == CURLE_OK,
		.status = t->answer.status, .retry_after = t->answer.retry_after,
		.stream_error = t->answer.stream_error, .body = body, .len = len };
}
