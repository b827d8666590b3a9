/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): try every source of blocks and every index, for `narlock doctor'. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "helper/eris/block.h"
#include "helper/eris/urn.h"
#include "helper/fetch/blockconf.h"
#include "helper/fetch/check.h"
#include "helper/fetch/serve.h"
#include "helper/fetch/state.h"
#include "helper/fetch/transfer.h"

/* An answer that is kept: `id' of a daemon with many addresses has several KiB. */
#define BODY 16384
/* The whole of one source, also of one that sends a byte now and then. */
#define PATIENCE_MS 30000
/* What is put into an IPFS daemon: a leaf with this much content. */
#define CONTENT 32
#define FORM (2 * RPC_PART + ERIS_SMALL)
/* A hash part that no item has. */
#define NO_ITEM "00000000000000000000000000000000"

/* What is asked of a source, one after the other. */
enum step { STEP_VERSION, STEP_AGENT, STEP_PUT, STEP_GET, STEP_REMOVE, STEP_END };

struct check {
	struct fetch *fetch;
	struct transfer transfer;
	const struct block_source *source; /* or NULL: */
	const struct server *index;
	enum step step;
	uint8_t waiting;  /* for the address of its host */
	uint8_t no_put;   /* it lets us put nothing: then only whether it can be asked is tried */
	uint64_t since;   /* ms */
	uint8_t block[ERIS_SMALL];
	struct eris_pair pair;
	char form[FORM];
	char version[48], agent[64];
	enum check_status status;
	char text[LIMIT_REASON + 1];
	size_t len;
	char body[BODY];
};

struct checks {
	size_t n, left;
	struct check *all;
};

static void ask(struct check *c);

/* --- Outcomes ---------------------------------------------------------------------------------------- */

static void
end(struct check *c, enum check_status status, const char *text)
{
	c->step = STEP_END;
	c->waiting = 0;
	c->status = status;
	wire_copy(c->text, sizeof c->text, wire_str(text));
	c->fetch->checks->left--;
}

/* The daemon that nobody has written down need not be there. */
static enum check_status
blame(const struct check *c)
{
	return c->source != NULL && c->source->at.kind == RPC_IPFS && c->fetch->blocks->default_ipfs ? CHECK_NOTE :
	    CHECK_USELESS;
}

static const char *
key_of(const struct check *c)
{
	static const char *const keys[] = { [RPC_IPFS] = "ipfs", [RPC_GATEWAY] = "ipfs-gateway",
	    [RPC_BLOCKS] = "block-server" };

	return c->source != NULL ? keys[c->source->at.kind] : "eris-index";
}

static int
is_ipfs(const struct check *c)
{
	return c->source != NULL && c->source->at.kind == RPC_IPFS;
}

/* libcurl's own words have a host in them that is none, and no room for the cause. */
static void
socket_text(const struct check *c, char *text, size_t size, const char *why)
{
	const char *path = c->source->at.socket;
	long error = 0;

	(void)curl_easy_getinfo(c->transfer.easy, CURLINFO_OS_ERRNO, &error);
	if (error == EACCES || error == EPERM)
		(void)snprintf(text, size, "the user of the helpers may not write to the socket %s: Kubo makes it for its own "
		    "user only: let that user's group have it (chgrp, chmod g+w)", path);
	else
		(void)snprintf(text, size, "no daemon at the socket %s (%.100s): start it (ipfs daemon), correct its `ipfs' line in "
		    "narlock.conf, or write `ipfs =' to do without", path, error != 0 ? strerror((int)error) : why);
}

/* No connection: WHY has the host in it. */
static void
unreachable(struct check *c, const char *why)
{
	char text[LIMIT_REASON * 2];

	if (is_ipfs(c) && c->source->at.socket[0] != '\0')
		socket_text(c, text, sizeof text, why);
	else if (!is_ipfs(c))
		(void)snprintf(text, sizeof text, "cannot be reached (%.120s): correct or remove its `%s' line in "
		    "narlock.conf", why, key_of(c));
	else if (!c->fetch->blocks->default_ipfs)
		(void)snprintf(text, sizeof text, "no daemon there (%.100s): start it (ipfs daemon), correct its `ipfs' "
		    "line in narlock.conf, or write `ipfs =' to do without", why);
	else
		(void)snprintf(text, sizeof text, "no daemon there (%.100s): start one (ipfs daemon), or write `ipfs =' in "
		    "narlock.conf to do without", why);
	end(c, blame(c), text);
}

static void
hanging(struct check *c)
{
	char text[LIMIT_REASON];

	transfer_stop(&c->transfer);
	(void)snprintf(text, sizeof text, "hangs: it took the connection and has not answered for %u seconds: %s",
	    (unsigned)((c->fetch->now - c->since + 500) / 1000), is_ipfs(c) ?
	    "restart the daemon, or write `ipfs =' in narlock.conf to do without" : "ask who runs it, or remove its line");
	end(c, blame(c), text);
}

/* It answers, but not as it should. */
static void
useless(struct check *c, const char *why, const char *said)
{
	char text[LIMIT_REASON * 2], seen[80] = "";
	int status = c->transfer.answer.status;

	if (c->version[0] != '\0')
		(void)snprintf(seen, sizeof seen, "version %s, but ", c->version);
	if (is_ipfs(c) && (status == 401 || status == 403))
		(void)snprintf(text, sizeof text, "%s%s (HTTP %d): %s, and let it use /api/v0/block and /api/v0/dag "
		    "(API.Authorizations)", seen, why, status, c->source->at.authorization[0] != '\0' ?
		    "correct the secret in its `ipfs' line" : "write the API's secret in its line: `ipfs = ADDRESS Bearer "
		    "TOKEN'");
	else if (is_ipfs(c) && c->step == STEP_PUT)
		(void)snprintf(text, sizeof text, "%sit %s (HTTP %d%s%s) when a block is put: look at the daemon's log and "
		    "disk", seen, why, status, said[0] != '\0' ? ": " : "", said);
	else if (is_ipfs(c) && c->step == STEP_GET)
		(void)snprintf(text, sizeof text, "%sit %s (HTTP %d) when asked for the block that was just put: look at its "
		    "log and disk", seen, why, status);
	else if (is_ipfs(c))
		(void)snprintf(text, sizeof text, "%s (HTTP %d): `ipfs' needs the address of a daemon's RPC API, usually "
		    "/ip4/127.0.0.1/tcp/5001", why, status);
	else
		(void)snprintf(text, sizeof text, "%s (HTTP %d): correct or remove its `%s' line in narlock.conf", why,
		    status, key_of(c));
	end(c, blame(c), text);
}

static void
usable(struct check *c)
{
	const struct fetch *f = c->fetch;
	char text[LIMIT_REASON];
	int agent = c->agent[0] != '\0';

	/* The next agent need not wait until it is forgotten that nobody was there: that ends now. */
	if (c->source != NULL && c->source->at.socket[0] == '\0' &&
	    state_get(f->state, STATE_SILENT, &c->source->url, NULL, f->clock) > 0)
		state_put(f->state, STATE_SILENT, &c->source->url, NULL, f->clock - 1, 1);
	if (is_ipfs(c)) {
		(void)snprintf(text, sizeof text, "version %s%s%s; a block was put and read back", c->version,
		    agent ? ", agent " : "", c->agent);
		end(c, CHECK_USABLE, text);
	} else {
		end(c, CHECK_USABLE, c->source != NULL && c->source->at.kind == RPC_GATEWAY ?
		    "answers, with the empty block" : "answers");
	}
}

/* --- Answers ----------------------------------------------------------------------------------------- */

static size_t
on_body(void *owner, const char *data, size_t n)
{
	struct check *c = owner;

	if (n > sizeof c->body - c->len)
		return 0;
	memcpy(c->body + c->len, data, n);
	c->len += n;
	return n;
}

static void
reads_only(struct check *c)
{
	char text[LIMIT_REASON];

	(void)snprintf(text, sizeof text, "version %s; gives blocks, but takes none from us (HTTP 403): for missing ones to be put "
	    "back, let its secret use all of /api/v0/block and /api/v0/dag (API.Authorizations)", c->version);
	end(c, CHECK_NOTE, text);
}

/* Which step comes next, after JUDGED (of the steps that are judged). */
static void
go_on(struct check *c, const struct rpc_judgement *judged)
{
	int kind = (int)c->source->at.kind, status = c->transfer.answer.status;

	if (c->step == STEP_GET && kind == RPC_BLOCKS) { /* nobody has that block */
		if (judged->verdict == RPC_MISSING)
			usable(c);
		else
			useless(c, judged->why != NULL ? judged->why : "has a block that nobody has", "");
		return;
	}
	if (c->no_put && judged->verdict == RPC_MISSING) {
		reads_only(c);
		return;
	}
	c->no_put = c->step == STEP_PUT && judged->verdict != RPC_BLOCK && (status == 401 || status == 403);
	if (judged->verdict != RPC_BLOCK && !c->no_put) {
		useless(c, judged->why, judged->said);
		return;
	}
	if (kind == RPC_GATEWAY) {
		usable(c);
		return;
	}
	if (c->step == STEP_VERSION)
		(void)rpc_json((const uint8_t *)c->body, c->len, "Version", c->version, sizeof c->version);
	c->step++;
	ask(c);
}

static void
judge(struct check *c, const struct rpc_reply *reply)
{
	const struct block_source *s = c->source;
	struct rpc_judgement j;
	uint8_t stored;

	if (c->step == STEP_PUT)
		rpc_judge_put(&j, (const uint8_t (*)[ERIS_REF])&c->pair.ref, 1, &stored, reply);
	else
		rpc_judge(&j, &s->at, c->step == STEP_GET ? RPC_GET : RPC_VERSION, c->step == STEP_GET ? c->pair.ref : NULL,
		    ERIS_SMALL, reply);
	go_on(c, &j);
}

static void
judge_index(struct check *c, CURLcode result)
{
	int status = c->transfer.answer.status;
	char why[64];

	(void)snprintf(why, sizeof why, "%s", status == 0 ? "breaks the connection" : "does not answer as an index");
	if (status == 404 || (result == CURLE_OK && status == 200))
		usable(c);
	else
		useless(c, why, "");
}

static void
on_done(void *owner, CURLcode result)
{
	struct check *c = owner;
	const struct answer *a = &c->transfer.answer;
	struct rpc_reply reply = { .connected = 1, .complete = result == CURLE_OK, .status = a->status,
	    .retry_after = a->retry_after, .stream_error = a->stream_error, .body = (const uint8_t *)c->body,
	    .len = c->len };
	char why[LIMIT_REASON + 1];

	if (transfer_is_dead(&c->transfer, result)) {
		transfer_reason(&c->transfer, result, why, sizeof why);
		unreachable(c, why);
	} else if (c->index != NULL) {
		judge_index(c, result);
	} else if (c->step == STEP_AGENT) { /* nice to know */
		if (result == CURLE_OK && a->status == 200)
			(void)rpc_json(reply.body, reply.len, "AgentVersion", c->agent, sizeof c->agent);
		c->step++;
		ask(c);
	} else if (c->step == STEP_REMOVE) { /* if not, the next clean-up does it: it is not pinned */
		usable(c);
	} else {
		judge(c, &reply);
	}
}

/* --- Questions --------------------------------------------------------------------------------------- */

/* A block that nobody has, and a form with it. */
static int
make_block(struct check *c, char boundary[RPC_BOUNDARY + 1], struct err *e)
{
	uint8_t content[CONTENT];

	if (getrandom(content, sizeof content, 0) != (ssize_t)sizeof content)
		return err_set(e, "no random bytes");
	block_leaf(c->block, &c->pair, content, sizeof content, ERIS_SMALL);
	for (int i = 0; i < RPC_BOUNDARY / 2; i++)
		(void)snprintf(boundary + 2 * i, 3, "%02x", content[i]);
	return 0;
}

static size_t
make_form(struct check *c, const char *boundary)
{
	char part[RPC_PART];
	size_t n = rpc_part_head(part, boundary, 1), tail;

	memcpy(c->form, part, n);
	memcpy(c->form + n, c->block, sizeof c->block);
	n += sizeof c->block;
	tail = rpc_part_end(part, boundary);
	memcpy(c->form + n, part, tail);
	return n + tail;
}

static int
build(struct check *c, struct rpc_request *r, struct transfer_request *t, struct err *e)
{
	static const enum rpc_ask asks[] = { [STEP_VERSION] = RPC_VERSION, [STEP_AGENT] = RPC_VERSION, [STEP_PUT] = RPC_PUT,
	    [STEP_GET] = RPC_GET, [STEP_REMOVE] = RPC_VERSION };
	const struct rpc_source *s = &c->source->at;
	char boundary[RPC_BOUNDARY + 1] = "", cid[URN_CID_LEN + 1];
	int get = c->step == STEP_GET;

	if ((c->step == STEP_PUT || (get && s->kind == RPC_BLOCKS)) && make_block(c, boundary, e) != 0)
		return -1;
	if (rpc_build(r, s, asks[c->step], get ? c->pair.ref : NULL, c->fetch->settings.stall_ms / (c->no_put + 1u), boundary,
	    e) != 0)
		return -1;
	if (c->step == STEP_AGENT)
		(void)snprintf(r->url, sizeof r->url, "%s/api/v0/id", s->base);
	if (c->step == STEP_REMOVE) {
		urn_cid_format(cid, c->pair.ref);
		(void)snprintf(r->url, sizeof r->url, "%s/api/v0/block/rm?arg=%s&force=true", s->base, cid);
	}
	*t = (struct transfer_request){ .method = r->method, .address = r->url, .socket = s->socket };
	if (r->form) {
		t->body = c->form;
		t->body_len = make_form(c, boundary);
	}
	return 0;
}

static void
ask(struct check *c)
{
	struct transfer_request t = { .method = "GET" };
	struct curl_slist *headers = NULL;
	struct rpc_request r = { 0 };
	struct err e = { 0, "no memory for a request" };
	int bad = c->source != NULL ? build(c, &r, &t, &e) != 0 :
	    url_below(&c->transfer.url, &c->index->url, "eris/" NO_ITEM, &e) != 0;

	c->waiting = 0;
	c->len = 0;
	for (unsigned i = 0; !bad && i < r.nheaders; i++)
		bad = transfer_header(&headers, r.headers[i]) != 0;
	if (bad) {
		curl_slist_free_all(headers);
		unreachable(c, e.text);
		return;
	}
	switch (transfer_ask(&c->transfer, &t, headers, &e)) {
	case HOST_READY:
		break;
	case HOST_WAITING:
		curl_slist_free_all(headers);
		c->waiting = 1;
		break;
	default:
		unreachable(c, e.text);
	}
}

/* --- All of them ------------------------------------------------------------------------------------- */

static void
say(struct fetch *f, enum check_status status, const char *source, const char *text)
{
	struct wire_msg m = { .type = MSG_CHECKED, .status = (uint8_t)status, .text = wire_str(source),
	    .text2 = wire_str(text) };

	serve_send(f, &m);
}

static void
finish(struct fetch *f)
{
	struct checks *all = f->checks;
	char name[LIMIT_SOURCE + 1], host[LIMIT_SOURCE - 7], text[LIMIT_REASON];
	size_t usable_ones = 0;

	for (size_t i = 0; i < f->blocks->nbad; i++)
		say(f, CHECK_USELESS, f->blocks->bad[i].key, f->blocks->bad[i].why);
	for (size_t i = 0; i < all->n; i++) {
		struct check *c = &all->all[i];

		if (c->index != NULL) {
			url_source(&c->index->url, host, sizeof host);
			(void)snprintf(name, sizeof name, "index %s", host);
		}
		usable_ones += c->source != NULL && (c->status == CHECK_USABLE || c->no_put);
		say(f, c->status, c->source != NULL ? c->source->name : name, c->text);
		transfer_free(&c->transfer);
	}
	(void)snprintf(text, sizeof text, "%zu of %zu block sources usable%s", usable_ones, f->blocks->nsources,
	    f->blocks->nsources == 0 ? ": none is configured, nars come over HTTP" : usable_ones == 0 ?
	    ": nars come over HTTP" : "");
	say(f, CHECK_SUM, "", text);
	free(all->all);
	free(all);
	f->checks = NULL;
}

static int
add(struct fetch *f, const struct block_source *s, const struct server *index, struct err *e)
{
	static const struct transfer_owner calls = { on_body, on_done };
	struct check *c = &f->checks->all[f->checks->n];

	c->fetch = f;
	c->source = s;
	c->index = index;
	c->since = f->now;
	c->step = s != NULL && s->at.kind == RPC_BLOCKS ? STEP_GET : STEP_VERSION;
	if (transfer_init(&c->transfer, f, TRANSFER_BLOCK, &calls, c, e) != 0)
		return -1;
	if (s != NULL)
		c->transfer.url = s->url;
	f->checks->n++;
	f->checks->left++;
	c->waiting = 1;
	return 0;
}

int
check_start(struct fetch *f, struct err *e)
{
	size_t indexes = 0;

	if (f->checks != NULL)
		return err_set(e, "CHECK while one is under way");
	blockconf_done(f->blocks);
	for (size_t i = 0; i < f->nservers; i++)
		indexes += f->servers[i].kind == SERVER_INDEX;
	f->checks = calloc(1, sizeof *f->checks);
	if (f->checks != NULL)
		f->checks->all = calloc(f->blocks->nsources + indexes + 1, sizeof *f->checks->all);
	if (f->checks == NULL || f->checks->all == NULL)
		return err_set(e, "no memory for a check");
	for (size_t i = 0; i < f->blocks->nsources; i++)
		if (add(f, &f->blocks->sources[i], NULL, e) != 0)
			return -1;
	for (size_t i = 0; i < f->nservers; i++)
		if (f->servers[i].kind == SERVER_INDEX && add(f, NULL, &f->servers[i], e) != 0)
			return -1;
	return 0;
}

static uint64_t
due(const struct check *c)
{
	uint64_t last = c->since + PATIENCE_MS, stall = c->transfer.active + c->fetch->settings.stall_ms;

	return !c->transfer.running || last < stall ? last : stall;
}

void
check_pump(struct fetch *f)
{
	if (f->checks == NULL)
		return;
	for (size_t i = 0; i < f->checks->n; i++) {
		struct check *c = &f->checks->all[i];

		if (c->step != STEP_END && c->waiting && c->index != NULL && c->index->refusal[0] != '\0')
			unreachable(c, c->index->refusal);
		else if (c->step != STEP_END && c->waiting)
			ask(c);
		if (c->step != STEP_END && f->now >= due(c)) {
			if (c->waiting)
				unreachable(c, "its name is not answered for");
			else
				hanging(c);
		}
	}
	if (f->checks->left == 0)
		finish(f);
}

uint64_t
check_deadline(const struct fetch *f)
{
	uint64_t first = UINT64_MAX;

	for (size_t i = 0; f->checks != NULL && i < f->checks->n; i++)
		if (f->checks->all[i].step != STEP_END && due(&f->checks->all[i]) < first)
			first = due(&f->checks->all[i]);
	return first;
}
