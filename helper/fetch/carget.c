/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): a whole nar as one stream of blocks. */
#include <stdlib.h>
#include <string.h>

#include "helper/fetch/blockcut.h"
#include "helper/fetch/carget.h"
#include "helper/fetch/source.h"
#include "helper/ipfs/car.h"
#include "helper/ipfs/manifest.h"

/* Of what comes first, for messages: an error in JSON. */
#define HEAD 512
/* Kubo's gateway has no other way to say it behind a status of 200. */
#define GATEWAY_ERROR "[Gateway Error: CAR stream truncated"
/* A stream wants few system calls. */
#define STREAM_BUFFER (128L * 1024)

struct carget {
	struct fetch *fetch;
	size_t source;
	struct transfer transfer;
	enum carget_form form;
	uint32_t block_size;     /* of a file */
	struct car *car;         /* of a CAR */
	struct blockcut *cut;    /* of a file */
	const struct carget_owner *calls;
	void *owner;
	uint8_t hash[ERIS_REF];
	enum carget_state state;
	uint8_t asked;           /* the request was made */
	uint8_t rooted;          /* the header of the CAR was looked at */
	uint8_t paused, resume;
	uint8_t pending;         /* `block' waits for room */
	struct car_block block;  /* of a file: CAR_RAW */
	size_t skip;             /* bytes that libcurl gives again after a pause */
	uint64_t useful, blocks, nodes, received, max_nodes;
	unsigned spare;          /* blocks of no use in a row */
	uint8_t last[ERIS_REF];  /* the block before */
	uint32_t retry_ms;
	size_t head_len;
	uint8_t head[HEAD];
	struct err why;
};

static size_t on_body(void *owner, const char *data, size_t n);
static void on_done(void *owner, CURLcode result);

static const struct transfer_owner calls = { on_body, on_done };

uint64_t
carget_bytes(uint64_t max_content)
{
	/* Per block of 32 KiB: an inner node of every 511, 41 bytes of CID and length, 52 in the manifest's
	 * file: 0.48 %. */
	return max_content + max_content / 128 + 2 * MANIFEST_ROOT;
}

static int
make_reader(struct carget *c, const struct carget_ask *ask, struct err *e)
{
	struct car_options o = { .block_max = MANIFEST_ROOT, .bytes_max = ask->max_bytes,
		.unasked_max = CARGET_FOREIGN_MAX };

	if (ask->form == CARGET_FILE)
		c->cut = blockcut_new(ask->block_size, ask->blocks, e);
	else
		c->car = car_new(&o, e);
	return c->cut != NULL || c->car != NULL ? 0 : -1;
}

struct carget *
carget_new(struct fetch *f, size_t source, const struct carget_ask *ask, const struct carget_owner *owner_calls,
    void *owner, struct err *e)
{
	const struct block_source *s = &f->blocks->sources[source];
	struct carget *c;

	if (source >= f->blocks->nsources || s->at.kind == RPC_BLOCKS)
		return (void)err_set(e, "no source of streams"), NULL;
	if (ask->form == CARGET_FILE ? s->no_file : s->no_car)
		return (void)err_set(e, "%s: gives no such streams", s->name), NULL;
	if ((c = calloc(1, sizeof *c)) == NULL)
		return (void)err_set(e, "no memory for a stream"), NULL;
	c->fetch = f;
	c->source = source;
	c->form = ask->form;
	c->block_size = ask->block_size;
	c->calls = owner_calls;
	c->owner = owner;
	memcpy(c->hash, ask->hash, ERIS_REF);
	c->useful = f->now;
	c->max_nodes = ask->max_bytes / ((uint64_t)ask->block_size * 64) + 8;
	if (make_reader(c, ask, e) != 0 || transfer_init(&c->transfer, f, TRANSFER_BLOCK, &calls, c, e) != 0) {
		car_free(c->car);
		blockcut_free(c->cut);
		free(c);
		return NULL;
	}
	(void)curl_easy_setopt(c->transfer.easy, CURLOPT_BUFFERSIZE, STREAM_BUFFER);
	return c;
}

void
carget_free(struct carget *c)
{
	if (c == NULL)
		return;
	transfer_free(&c->transfer);
	car_free(c->car);
	blockcut_free(c->cut);
	free(c);
}

/* --- The end ----------------------------------------------------------------------------------------- */

static void
end(struct carget *c, enum carget_state state, const char *why)
{
	const struct block_source *s = &c->fetch->blocks->sources[c->source];

	if (c->state != CARGET_RUNS)
		return;
	c->state = state;
	(void)err_set(&c->why, "%s: %s", s->name, why);
	if (state == CARGET_LIE)
		source_judged(c->fetch, c->source, RPC_LIE, why);
	if (state == CARGET_UNREACHABLE)
		source_judged(c->fetch, c->source, RPC_UNREACHABLE, why);
}

/* An error message in the place of a stream. */
static int
says_error(struct carget *c)
{
	char text[8];

	return c->head_len > 0 && c->head[0] == '{' &&
	    rpc_json(c->head, c->head_len, "Message", text, sizeof text) == 0;
}

static void
judged(struct carget *c, const struct rpc_reply *r)
{
	struct block_source *s = &c->fetch->blocks->sources[c->source];
	struct rpc_judgement j;

	rpc_judge(&j, &s->at, c->form == CARGET_FILE ? RPC_FILE : RPC_EXPORT, NULL, 0, r);
	c->retry_ms = j.retry_ms;
	switch (j.verdict) {
	case RPC_MISSING:
		end(c, CARGET_MISSING, j.why);
		break;
	case RPC_BUSY:
		end(c, CARGET_BUSY, j.why);
		break;
	case RPC_UNREACHABLE:
		if (!r->connected) {
			end(c, CARGET_UNREACHABLE, j.why);
			break;
		}
		/* A daemon without this command, or one that does not allow it to us, may have blocks all the
		 * same. */
		*(c->form == CARGET_FILE ? &s->no_file : &s->no_car) = 1;
		end(c, CARGET_BROKEN, c->form == CARGET_FILE ? "gives no files" : "gives no CAR streams");
		break;
	default:
		end(c, CARGET_WHOLE, "");
	}
}

static void
no_stream(struct carget *c, const char *why)
{
	struct rpc_reply r = { .connected = 1, .complete = 1, .status = 500, .retry_after = -1,
		.body = c->head, .len = c->head_len };

	if (says_error(c))
		judged(c, &r);
	else
		end(c, CARGET_BROKEN, why);
}

static void
on_done(void *owner, CURLcode result)
{
	struct carget *c = owner;
	struct rpc_reply r;
	struct err e;

	if (c->state != CARGET_RUNS)
		return;
	source_reply(&r, &c->transfer, result, c->head, c->head_len);
	if (r.connected && r.status != 0)
		source_judged(c->fetch, c->source, RPC_BLOCK, NULL);
	if (c->transfer.answer.bytes > LIMIT_BLOCK_HEADERS)
		end(c, CARGET_BROKEN, "too many bytes of headers");
	else if (r.status != 200 || r.stream_error[0] != '\0' || !r.complete)
		judged(c, &r);
	else if (c->received == 0)
		end(c, CARGET_MISSING, "answers with nothing");
	else if ((c->form == CARGET_FILE ? blockcut_end(c->cut, &e) : car_end(c->car, &e)) != 0)
		no_stream(c, e.text);
	else if (c->blocks + c->nodes + c->spare == 0)
		end(c, CARGET_MISSING, "answers with a stream without blocks");
	else
		end(c, CARGET_WHOLE, "");
}

/* --- Blocks ------------------------------------------------------------------------------------------ */

static int
check_root(struct carget *c)
{
	uint8_t wanted[CAR_OURS];
	const uint8_t *cid;
	size_t len;

	if (c->rooted || c->form == CARGET_FILE)
		return 1;
	c->rooted = 1;
	car_cid(wanted, CAR_NODE, c->hash);
	return car_root(c->car, &cid, &len) == 0 && len == sizeof wanted &&
	    memcmp(cid, wanted, sizeof wanted) == 0;
}

static void
spare(struct carget *c)
{
	if (++c->spare > CARGET_SPARE_MAX)
		end(c, CARGET_BROKEN, "too many blocks that nobody asked for");
}

static void
take_node(struct carget *c, const struct car_block *b)
{
	if (!manifest_check(b->hash, b->data, b->len))
		end(c, CARGET_LIE, "a node of a manifest with another hash");
	else if (++c->nodes > c->max_nodes)
		end(c, CARGET_BROKEN, "a CAR with too many nodes");
	else if (memcmp(b->hash, c->hash, ERIS_REF) == 0 && c->blocks == 0)
		c->useful = c->fetch->now;
}

/* The block at hand.  0 if there is no room for it just now. */
static int
take(struct carget *c)
{
	const struct car_block *b = &c->block;

	c->pending = 0;
	if (!check_root(c)) {
		end(c, CARGET_BROKEN, "a CAR of something else");
		return 1;
	}
	if (b->kind == CAR_NODE || b->kind == CAR_FILE) {
		take_node(c, b);
		return 1;
	}
	if (b->kind != CAR_RAW) /* counted by the reader */
		return 1;
	switch (c->calls->block(c->owner, b->hash, c->form == CARGET_FILE, b->data, b->len)) {
	case CARGET_USED:
		c->useful = c->fetch->now;
		c->blocks++;
		c->spare = 0;
		break;
	case CARGET_WRONG:
		/* Who made the tree is to blame where it names a block of another size. */
		if (manifest_check(b->hash, b->data, b->len))
			end(c, CARGET_BROKEN, "a block of another size");
		else
			end(c, CARGET_LIE, "another block than its CID names");
		break;
	case CARGET_FULL:
		c->pending = 1;
		return 0;
	default:
		/* One content may stand in the file many times, and is wanted once; how long the file is was said. */
		if (c->form != CARGET_FILE || memcmp(c->last, b->hash, ERIS_REF) != 0)
			spare(c);
	}
	memcpy(c->last, b->hash, ERIS_REF);
	return 1;
}

/* As car_feed(). */
static int
feed(struct carget *c, const uint8_t **at, size_t *left, struct err *e)
{
	struct car_block *b = &c->block;

	if (c->form == CARGET_CAR)
		return car_feed(c->car, at, left, b, e);
	b->kind = CAR_RAW;
	b->len = c->block_size;
	return blockcut_feed(c->cut, at, left, &b->hash, &b->data, e);
}

static size_t
on_body(void *owner, const char *data, size_t n)
{
	struct carget *c = owner;
	size_t seen = c->skip < n ? c->skip : n, left = n - seen;
	const uint8_t *at = (const uint8_t *)data + seen;
	struct err e;
	int rc = 0;

	c->skip -= seen;
	if (c->received < HEAD)
		transfer_keep(c->head, HEAD, &c->head_len, data + seen, left);
	if (c->transfer.answer.status != 200)
		return transfer_ignore(&c->transfer, n);
	while (c->state == CARGET_RUNS) {
		const uint8_t *from = at;

		if (c->pending && !take(c)) {
			c->paused = 1;
			c->skip = n - left;
			return CURL_WRITEFUNC_PAUSE;
		}
		if (c->state != CARGET_RUNS || (rc = feed(c, &at, &left, &e)) == 0) {
			c->received += (uint64_t)(at - from);
			break;
		}
		c->received += (uint64_t)(at - from);
		c->pending = rc == 1;
		if (rc < 0 && memmem(data, n, GATEWAY_ERROR, sizeof GATEWAY_ERROR - 1) != NULL)
			end(c, CARGET_MISSING, "does not have all of it");
		else if (rc < 0)
			no_stream(c, e.text);
	}
	return c->state == CARGET_RUNS ? n : 0;
}

/* --- The clock --------------------------------------------------------------------------------------- */

static void
ask(struct carget *c)
{
	const struct block_source *s = &c->fetch->blocks->sources[c->source];
	struct rpc_request r;
	struct err e;

	if (!source_usable(c->fetch, c->source)) {
		c->state = CARGET_UNREACHABLE;
		(void)err_set(&c->why, "%s: is left alone", s->name);
		return;
	}
	if (rpc_build(&r, &s->at, c->form == CARGET_FILE ? RPC_FILE : RPC_EXPORT, c->hash, 0, NULL, &e) != 0) {
		end(c, CARGET_BROKEN, e.text);
		return;
	}
	switch (source_ask(&c->transfer, s, &r, &e)) {
	case HOST_READY:
		c->asked = 1;
		c->useful = c->fetch->now;
		break;
	case HOST_WAITING:
		break;
	default:
		end(c, CARGET_UNREACHABLE, e.text);
	}
}

enum carget_state
carget_pump(struct carget *c, const char **why)
{
	if (c->state == CARGET_RUNS && !c->asked)
		ask(c);
	if (c->state == CARGET_RUNS && c->paused && c->resume) {
		c->paused = 0;
		c->useful = c->fetch->now;
		/* Gives what waits at once; an error of ours in there does not end the request. */
		if (curl_easy_pause(c->transfer.easy, CURLPAUSE_CONT) != CURLE_OK && c->state == CARGET_RUNS)
			end(c, CARGET_BUSY, "cannot go on");
	}
	c->resume = 0;
	if (c->state != CARGET_RUNS)
		transfer_stop(&c->transfer);
	*why = c->state == CARGET_RUNS || c->state == CARGET_WHOLE ? NULL : c->why.text;
	return c->state;
}

void
carget_resume(struct carget *c)
{
	c->resume = 1;
}

int
carget_waits(const struct carget *c)
{
	return c->paused;
}

uint64_t
carget_useful(const struct carget *c)
{
	return c->useful;
}

uint32_t
carget_retry(const struct carget *c)
{
	return c->retry_ms;
}

uint64_t
carget_blocks(const struct carget *c)
{
	return c->blocks;
}

uint64_t
carget_received(const struct carget *c)
{
	return c->received;
}
