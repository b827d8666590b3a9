/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: streams of blocks, as a CAR and as a file, from a server that sends them as they are and in all ways
 * that they should not be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <malloc.h>

#include "tests/unit/web_bed.h"
#include "tests/unit/eris_bed.h"

#include "helper/eris/urn.h"
#include "helper/fetch/carget.h"
#include "helper/ipfs/car.h"
#include "helper/ipfs/manifest.h"

/* The nar: some leaves and one node above them. */
#define CONTENT (40 * ERIS_LARGE + 77)

/* What the server sends. */
struct script {
	uint8_t *body;
	size_t len;
	const char *status, *headers, *trailer;
	size_t cut;       /* closes after so many bytes, 0: never */
	int endless;      /* goes on with blocks that nobody wants */
	int bomb;         /* header lines without end */
};

struct world {
	enum carget_form form;
	struct fetch *fetch;
	int broker;
	struct web *web;
	struct script script;
	struct bed bed;
	struct eris_cap cap;
	uint8_t root[ERIS_REF], file[ERIS_REF];
	uint8_t *node;    /* of the file: there is one */
	size_t node_len;
	uint64_t blocks;  /* that the file is said to have, 0: as many as it has */
	uint32_t block_size;
	/* What has come. */
	unsigned used, spare, full;
	int refuse;       /* a block is refused that often */
	unsigned from;    /* the first of them, */
	int each;         /* and all behind it, too */
	int unwanted;     /* none is wanted */
	uint32_t retry;
	uint64_t received;
};

static void
append(struct script *s, const void *data, size_t len)
{
	s->body = realloc(s->body, s->len + len);
	assert_non_null(s->body);
	memcpy(s->body + s->len, data, len);
	s->len += len;
}

static void
section(struct script *s, enum car_kind kind, const uint8_t *hash, const uint8_t *data, size_t len)
{
	uint8_t head[CAR_PUT_SECTION];

	append(s, head, car_put_section(head, kind, hash, len));
	append(s, data, len);
}

static void
header(struct script *s, const uint8_t *root)
{
	uint8_t head[CAR_PUT_HEADER];

	append(s, head, car_put_root(head, CAR_NODE, root));
}

static int
keep_node(void *ctx, enum car_kind kind, const uint8_t hash[ERIS_REF], const uint8_t *data, size_t len, struct err *e)
{
	struct world *w = ctx;

	(void)e;
	if (kind == CAR_FILE) {
		assert_null(w->node);
		w->node = malloc(len);
		memcpy(w->node, data, len);
		w->node_len = len;
		memcpy(w->file, hash, ERIS_REF);
		return 0;
	}
	memcpy(w->root, hash, ERIS_REF);
	if (w->form == CARGET_CAR) {
		header(&w->script, hash);
		section(&w->script, CAR_NODE, hash, data, len);
		section(&w->script, CAR_FILE, w->file, w->node, w->node_len);
	}
	return 0;
}

static int
answer(struct web *web, int conn, const char *request)
{
	struct script *s = web->ctx;
	static const char junk[] = "X-Filler: 0123456789012345678901234567890123456789012345678901234567890123456789\r\n";
	char head[256];
	int n;

	(void)request;
	if (s->bomb) {
		web_send(conn, "HTTP/1.1 200 OK\r\n", 17);
		while (web_send(conn, junk, sizeof junk - 1) == 0)
			;
		return 0;
	}
	if (s->trailer != NULL)
		return web_chunked(conn, s->body, s->len, s->trailer);
	if (s->cut == 0 && !s->endless)
		return web_reply(conn, s->status, s->headers, s->body, s->len);
	n = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\n%s\r\n", s->cut > 0 ? "Content-Length: 99999999\r\n" : "");
	web_send(conn, head, (size_t)n);
	web_send(conn, s->body, s->cut > 0 ? s->cut : s->len);
	if (s->endless) {
		uint8_t block[CAR_PUT_SECTION + 1000] = { 0 }, hash[ERIS_REF] = { 1 };
		size_t k = car_put_section(block, CAR_RAW, hash, 1000);

		while (web_send(conn, block, k + 1000) == 0)
			;
	}
	return 0;
}

static enum carget_use
take(void *owner, const uint8_t ref[ERIS_REF], int known, const uint8_t *data, size_t len)
{
	struct world *w = owner;

	assert_int_equal(known, w->form == CARGET_FILE);
	if (known)
		assert_null(block_verify(ref, data, len, w->block_size));
	if (w->used >= w->from && w->full < (unsigned)w->refuse * (w->each ? w->used - w->from + 1 : 1)) {
		w->full++;
		return CARGET_FULL;
	}
	if (w->unwanted || bed_find(&w->bed, ref) == NULL) {
		w->spare++;
		return CARGET_SPARE;
	}
	if (block_verify(ref, data, len, w->block_size) != NULL)
		return CARGET_WRONG;
	w->used++;
	return CARGET_USED;
}

static const struct carget_owner calls = { take };

static struct world *
new_world_of(enum carget_form form, const char *key)
{
	struct world *w = calloc(1, sizeof *w);
	uint8_t *data = malloc(CONTENT), cap[ERIS_CAP];
	struct manifest_writer *m;
	uint32_t seed = 7;
	struct err e;

	assert_true(w != NULL && data != NULL);
	w->form = form;
	w->block_size = ERIS_LARGE;
	for (size_t i = 0; i < CONTENT; i++)
		data[i] = (uint8_t)(bed_random(&seed) >> 12);
	w->cap = bed_encode(&w->bed, data, CONTENT, ERIS_LARGE, NULL, CONTENT, NULL);
	m = manifest_new(ERIS_LARGE, keep_node, w, &e);
	assert_non_null(m);
	for (size_t i = 0; i < w->bed.n; i++)
		assert_int_equal(manifest_add(m, w->bed.block[i].ref, &e), 0);
	urn_to_bytes(cap, &w->cap);
	assert_int_equal(manifest_end(m, cap, NULL, 0, w->root, &e), 0);
	manifest_free(m);
	for (size_t i = 0; i < w->bed.n; i++)
		if (form == CARGET_CAR)
			section(&w->script, CAR_RAW, w->bed.block[i].ref, w->bed.block[i].data, w->bed.block[i].len);
		else
			append(&w->script, w->bed.block[i].data, w->bed.block[i].len);
	w->script.status = "200 OK";
	w->script.headers = "";
	w->fetch = web_fetch(&w->broker);
	w->web = web_new(answer, &w->script);
	web_source(w->fetch, key, w->web->url);
	free(data);
	return w;
}

static struct world *
new_world(void)
{
	return new_world_of(CARGET_CAR, "ipfs");
}

static struct world *
new_file(void)
{
	return new_world_of(CARGET_FILE, "ipfs");
}

static void
free_world(struct world *w)
{
	web_fetch_free(w->fetch, w->broker);
	web_free(w->web);
	bed_free(&w->bed);
	free(w->script.body);
	free(w->node);
	free(w);
}

static struct carget *
begin(struct world *w, uint64_t max_bytes, struct err *e)
{
	const struct carget_ask ask = { .form = w->form, .hash = w->form == CARGET_FILE ? w->file : w->root,
		.max_bytes = max_bytes, .block_size = w->block_size, .blocks = w->blocks > 0 ? w->blocks : w->bed.n };

	return carget_new(w->fetch, 0, &ask, &calls, w, e);
}

/* How the stream ends, within a while; *WHY is copied. */
static enum carget_state
run_bytes(struct world *w, uint64_t max_bytes, char why[400])
{
	uint64_t stop = web_now() + 20000;
	enum carget_state state;
	const char *text;
	struct err e;
	struct carget *c = begin(w, max_bytes, &e);

	assert_non_null(c);
	while ((state = carget_pump(c, &text)) == CARGET_RUNS && web_now() < stop) {
		web_turn(w->fetch);
		if (carget_waits(c))
			carget_resume(c);
	}
	snprintf(why, 400, "%s", text != NULL ? text : "");
	assert_true(state == CARGET_RUNS || state == CARGET_WHOLE || why[0] != '\0');
	assert_int_equal(carget_blocks(c), w->used);
	w->received = carget_received(c);
	w->retry = carget_retry(c);
	carget_free(c);
	return state;
}

static enum carget_state
run(struct world *w, char why[400])
{
	return run_bytes(w, carget_bytes(CONTENT), why);
}

static void
whole(void **state)
{
	struct world *w = new_world();
	char why[400];

	(void)state;
	assert_int_equal(run(w, why), CARGET_WHOLE);
	assert_int_equal(w->used, w->bed.n);
	assert_int_equal(web_count(w->web, "POST /api/v0/dag/export?arg=bafy2bzace"), 1);
	assert_non_null(strstr(w->web->requests[0], "\r\nContent-Length: 0\r\n"));
	assert_null(strstr(w->web->requests[0], "\r\nExpect:"));
	assert_int_equal(w->fetch->blocks->sources[0].reached, 1);
	free_world(w);
}

static void
whole_chunked(void **state)
{
	struct world *w = new_world();
	char why[400];

	(void)state;
	w->script.trailer = "";
	assert_int_equal(run(w, why), CARGET_WHOLE);
	assert_int_equal(w->used, w->bed.n);
	free_world(w);
}

static void
waits_for_room(void **state)
{
	struct world *w = new_world();
	char why[400];

	(void)state;
	w->refuse = 9;
	w->from = 3;
	assert_int_equal(run(w, why), CARGET_WHOLE);
	assert_int_equal(w->full, 9);
	assert_int_equal(w->used, w->bed.n);
	free_world(w);
}

static void
ends_with(struct world *w, enum carget_state end, const char *words)
{
	char why[400];
	enum carget_state state = run(w, why);

	if (state != end || strstr(why, words) == NULL)
		fail_msg("state %d: %s", (int)state, why);
	free_world(w);
}

static void
stream_error(void **state)
{
	struct world *w = new_world();

	(void)state;
	w->script.trailer = "X-Stream-Error: block was not found locally (offline): ipld: could not find bafk\r\n";
	ends_with(w, CARGET_MISSING, "does not have");
}

static void
nothing(void **state)
{
	struct world *w = new_world();

	(void)state;
	w->script.len = 0;
	ends_with(w, CARGET_MISSING, "nothing");
}

static void
nothing_but_a_header(void **state)
{
	struct world *w = new_world();

	(void)state;
	w->script.len = 0;
	header(&w->script, w->root);
	ends_with(w, CARGET_MISSING, "without blocks");
}

static void
cut_off(void **state)
{
	struct world *w = new_world();

	(void)state;
	w->script.cut = w->script.len / 2;
	ends_with(w, CARGET_BUSY, "breaks off");
}

static void
short_car(void **state)
{
	struct world *w = new_world();

	(void)state;
	w->script.len -= 5;
	ends_with(w, CARGET_BROKEN, "cut off");
}

/* As Kubo's gateway has it, behind whole sections. */
static void
gateway_error(void **state)
{
	static const char text[] = "\n[Gateway Error: CAR stream truncated, response is incomplete]";
	struct world *w = new_world();

	(void)state;
	append(&w->script, text, sizeof text - 1);
	ends_with(w, CARGET_MISSING, "does not have all");
}

static void
json_error(void **state)
{
	static const char text[] = "{\"Message\":\"merkledag: not found\",\"Code\":0,\"Type\":\"error\"}";
	struct world *w = new_world();

	(void)state;
	w->script.len = 0;
	append(&w->script, text, sizeof text - 1);
	w->script.status = "500 Internal Server Error";
	ends_with(w, CARGET_MISSING, "does not have");
	w = new_world();
	w->script.len = 0;
	append(&w->script, text, sizeof text - 1);
	ends_with(w, CARGET_MISSING, "does not have");
}

static void
no_car(void **state)
{
	struct world *w = new_world();
	char why[400];
	struct err e;

	(void)state;
	w->script.len = 0;
	w->script.status = "404 Not Found";
	assert_int_equal(run(w, why), CARGET_BROKEN);
	assert_int_equal(w->fetch->blocks->sources[0].dead_until, 0); /* it may have blocks */
	assert_true(w->fetch->blocks->sources[0].no_car && !w->fetch->blocks->sources[0].no_file);
	assert_null(begin(w, 1, &e));
	free_world(w);
	w = new_world();
	memset(w->script.body, 'x', w->script.len);
	ends_with(w, CARGET_BROKEN, "CAR");
}

static void
busy(void **state)
{
	struct world *w = new_world();

	(void)state;
	w->script.len = 0;
	w->script.status = "429 Too Many Requests";
	w->script.headers = "Retry-After: 3\r\n";
	ends_with(w, CARGET_BUSY, "busy");
}

static void
redirect(void **state)
{
	struct world *w = new_world();

	(void)state;
	w->script.len = 0;
	w->script.status = "302 Found";
	w->script.headers = "Location: /elsewhere\r\n";
	ends_with(w, CARGET_BROKEN, "no CAR");
}

static void
another_root(void **state)
{
	struct world *w = new_world();

	(void)state;
	w->root[5] ^= 1;
	ends_with(w, CARGET_BROKEN, "something else");
}

static void
lies(void **state)
{
	struct world *w = new_world();
	struct wire_msg m;
	uint8_t frame[LIMIT_FRAME];
	char why[400];
	struct err e;

	(void)state;
	w->script.body[w->script.len - 1] ^= 1;
	assert_int_equal(run(w, why), CARGET_LIE);
	assert_true(w->fetch->blocks->sources[0].dead_until == UINT64_MAX);
	assert_int_equal(wire_recv(w->broker, &m, frame, NULL, MSG_DONTWAIT, &e), 1);
	assert_int_equal(m.type, MSG_LIAR);
	/* Never again. */
	w->used = 0;
	assert_int_equal(run(w, why), CARGET_UNREACHABLE);
	assert_int_equal(w->web->nrequests, 1);
	assert_int_equal(wire_recv(w->broker, &m, frame, NULL, MSG_DONTWAIT, &e), WIRE_AGAIN);
	free_world(w);
}

static void
another_size(void **state)
{
	static const uint8_t odd[1000] = { 1 };
	struct world *w = new_world();
	uint8_t hash[ERIS_REF];

	(void)state;
	manifest_hash(hash, odd, sizeof odd);
	bed_put(&w->bed, hash, odd, sizeof odd);
	section(&w->script, CAR_RAW, hash, odd, sizeof odd);
	ends_with(w, CARGET_BROKEN, "another size"); /* the hash is right: no lie */
}

static void
wrong_node(void **state)
{
	struct world *w = new_world();

	(void)state;
	w->script.body[200] ^= 1; /* in the manifest */
	ends_with(w, CARGET_LIE, "manifest");
	w = new_world();
	w->script.body[300] ^= 1; /* in its file */
	assert_true(300 + w->node_len < w->script.len && w->node_len > 1000);
	ends_with(w, CARGET_LIE, "manifest");
}

static void
endless(void **state)
{
	struct world *w = new_world();

	(void)state;
	w->script.endless = 1;
	ends_with(w, CARGET_BROKEN, "nobody asked for");
	w = new_world();
	w->script.bomb = 1;
	ends_with(w, CARGET_BROKEN, "headers");
}

static void
too_long(void **state)
{
	struct world *w = new_world();
	char why[400];

	(void)state;
	assert_int_equal(run_bytes(w, CONTENT / 2, why), CARGET_BROKEN);
	assert_non_null(strstr(why, "longer"));
	free_world(w);
}

static void
foreign(void **state)
{
	struct world *w = new_world();
	uint8_t cid[44] = { 43, 0x01, 0x55, 0x12, 0x20 };

	(void)state;
	for (int i = 0; i <= CARGET_FOREIGN_MAX; i++)
		append(&w->script, cid, sizeof cid);
	ends_with(w, CARGET_BROKEN, "nobody asked for");
}

static void
nobody_there(void **state)
{
	struct world *w = new_world();
	char why[400];

	(void)state;
	shutdown(w->web->fd, SHUT_RDWR);
	assert_int_equal(run(w, why), CARGET_UNREACHABLE);
	assert_true(w->fetch->blocks->sources[0].dead_until > w->fetch->now);
	free_world(w);
}

static void
bounds(void **state)
{
	(void)state;
	/* 512 leaves, a node above them, a manifest: in whole blocks of 32 KiB and their links. */
	assert_true(carget_bytes(512 * (uint64_t)ERIS_LARGE) > 513 * ((uint64_t)ERIS_LARGE + 41 + 52) + MANIFEST_NARINFO);
	assert_true(carget_bytes(1ULL << 40) < (1ULL << 40) + (1ULL << 34));
}

/* --- Files ------------------------------------------------------------------------------------------- */

static void
file_whole(void **state)
{
	char why[400];

	(void)state;
	for (int chunked = 0; chunked < 2; chunked++) {
		struct world *w = new_file();

		w->script.trailer = chunked ? "" : NULL;
		assert_int_equal(run(w, why), CARGET_WHOLE);
		assert_int_equal(w->used, w->bed.n);
		assert_int_equal(w->spare, 0);
		assert_int_equal(w->received, w->script.len);
		assert_int_equal(web_count(w->web, "POST /api/v0/cat?arg=bafykbzace"), 1);
		assert_non_null(strstr(w->web->requests[0], "&progress=false "));
		assert_int_equal(w->fetch->blocks->sources[0].reached, 1);
		free_world(w);
	}
}

static void
file_of_gateway(void **state)
{
	struct world *w = new_world_of(CARGET_FILE, "ipfs-gateway");
	char why[400];

	(void)state;
	assert_int_equal(run(w, why), CARGET_WHOLE);
	assert_int_equal(w->used, w->bed.n);
	assert_int_equal(web_count(w->web, "GET /ipfs/bafykbzace"), 1);
	assert_null(strstr(w->web->requests[0], "format="));
	free_world(w);
}

/* Streams of 41 to 44 blocks (the last group has one to four), that wait for room before one of the last, and
 * before each. */
static void
file_waits_for_room(void **state)
{
	char why[400];

	(void)state;
	for (unsigned n = 41; n <= 44; n++)
		for (unsigned from = n - 6; from <= n; from++) {
			struct world *w = new_file();

			assert_int_equal(w->bed.n, 42);
			if (n < 42)
				w->script.len -= ERIS_LARGE;
			for (unsigned i = 42; i < n; i++)
				append(&w->script, w->bed.block[i - 42].data, ERIS_LARGE);
			w->blocks = n;
			w->from = from == n ? 0 : from;
			w->each = from == n;
			w->refuse = w->each ? 1 : 2;
			assert_int_equal(run(w, why), CARGET_WHOLE);
			assert_int_equal(w->used, n);
			assert_int_equal(w->full, w->each ? n : 2);
			assert_int_equal(w->received, n * ERIS_LARGE);
			free_world(w);
		}
}

/* While it waits nothing comes, no time counts, and its end is not noticed; it can be freed then. */
static void
file_paused(void **state)
{
	struct world *w = new_file();
	const char *why;
	struct err e;
	struct carget *c = begin(w, 0, &e);
	uint64_t stop = web_now() + 10000, useful;

	(void)state;
	w->refuse = 1000;
	w->from = 5;
	while (carget_pump(c, &why) == CARGET_RUNS && !carget_waits(c) && web_now() < stop)
		web_turn(w->fetch);
	assert_int_equal(carget_waits(c), 1);
	useful = carget_useful(c);
	for (int i = 0; i < 5; i++) {
		web_turn(w->fetch);
		assert_int_equal(carget_pump(c, &why), CARGET_RUNS);
	}
	assert_true(w->used == 5 && w->full == 1);
	carget_resume(c);
	assert_int_equal(carget_pump(c, &why), CARGET_RUNS); /* in vain: offered at once, and refused */
	assert_true(w->used == 5 && w->full == 2 && carget_waits(c));
	assert_true(carget_useful(c) >= useful);
	carget_free(c);
	free_world(w);
}

/* The bytes of a stream that is not what it should be. */
static void
file_wrong_length(void **state)
{
	struct world *w = new_file();
	char why[400];

	(void)state;
	w->script.cut = w->script.len / 2;
	ends_with(w, CARGET_BUSY, "breaks off");
	w = new_file();
	w->script.len -= 5;
	ends_with(w, CARGET_BROKEN, "cut off");
	w = new_file();
	w->script.len -= ERIS_LARGE;
	ends_with(w, CARGET_BROKEN, "cut off");
	/* A byte more; without an end. */
	for (int endless = 0; endless < 2; endless++) {
		w = new_file();
		append(&w->script, "x", 1);
		w->script.endless = endless;
		assert_int_equal(run(w, why), CARGET_BROKEN);
		assert_non_null(strstr(why, "longer than it can be"));
		assert_int_equal(w->used, w->bed.n);
		free_world(w);
	}
	w = new_file();
	w->script.len = 0;
	ends_with(w, CARGET_MISSING, "nothing");
	w = new_file();
	w->script.bomb = 1;
	ends_with(w, CARGET_BROKEN, "headers");
}

static void
file_errors(void **state)
{
	static const char text[] = "{\"Message\":\"merkledag: not found\",\"Code\":0,\"Type\":\"error\"}";
	static const char busy_text[] = "{\"Message\":\"too many open files\",\"Code\":0,\"Type\":\"error\"}";
	struct world *w;
	char why[400];

	(void)state;
	for (int status = 0; status < 4; status++) {
		w = new_file();
		w->script.len = 0;
		append(&w->script, status < 2 ? text : busy_text, status < 2 ? sizeof text - 1 : sizeof busy_text - 1);
		w->script.status = status % 2 ? "500 Internal Server Error" : "200 OK";
		ends_with(w, status < 2 ? CARGET_MISSING : CARGET_BUSY, status < 2 ? "does not have" : "error");
	}
	/* Behind some of the blocks, and behind all. */
	for (int all = 0; all < 2; all++) {
		w = new_file();
		w->script.len -= all ? 0 : 30 * ERIS_LARGE;
		w->script.trailer = "X-Stream-Error: block was not found locally (offline): ipld: could not find bafk\r\n";
		ends_with(w, CARGET_MISSING, "does not have");
	}
	w = new_file();
	w->script.len = 0;
	w->script.status = "429 Too Many Requests";
	w->script.headers = "Retry-After: 3\r\n";
	assert_int_equal(run(w, why), CARGET_BUSY);
	assert_int_equal(w->retry, 3000);
	free_world(w);
	w = new_file();
	shutdown(w->web->fd, SHUT_RDWR);
	assert_int_equal(run(w, why), CARGET_UNREACHABLE);
	assert_true(w->fetch->blocks->sources[0].dead_until > w->fetch->now);
	free_world(w);
}

/* Who gives no files may give CARs, and blocks; a CAR is asked for in the same world then. */
static void
no_file(void **state)
{
	static const struct { const char *key, *status; int missing; } cases[] = { { "ipfs", "404 Not Found", 0 },
		{ "ipfs", "405 Method Not Allowed", 0 }, { "ipfs", "403 Forbidden", 0 }, { "ipfs", "302 Found", 0 },
		{ "ipfs-gateway", "406 Not Acceptable", 0 }, { "ipfs-gateway", "403 Forbidden", 0 },
		{ "ipfs-gateway", "301 Moved Permanently", 0 }, { "ipfs-gateway", "404 Not Found", 1 },
		{ "ipfs-gateway", "410 Gone", 1 } };
	char why[400];
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct world *w = new_world_of(CARGET_CAR, cases[i].key);
		struct block_source *s = &w->fetch->blocks->sources[0];

		w->form = CARGET_FILE;
		w->script.status = cases[i].status;
		w->script.headers = "Location: /elsewhere\r\n";
		assert_int_equal(run(w, why), cases[i].missing ? CARGET_MISSING : CARGET_BROKEN);
		assert_true(cases[i].missing || strstr(why, "gives no files") != NULL);
		assert_true(s->no_file == !cases[i].missing && !s->no_car && s->dead_until == 0);
		if (!cases[i].missing)
			assert_null(begin(w, 0, &e));
		assert_int_equal(w->web->nrequests, 1);
		w->form = CARGET_CAR;
		w->script.status = "200 OK";
		assert_int_equal(run(w, why), CARGET_WHOLE);
		assert_int_equal(w->used, w->bed.n);
		free_world(w);
	}
}

/* Other bytes are other blocks, which nobody wants; that is no lie, as nothing said what they should be. */
static void
file_other_blocks(void **state)
{
	struct world *w = new_file();
	char why[400];

	(void)state;
	for (unsigned i = 0; i < 5; i++)
		w->script.body[i * 9 * ERIS_LARGE + 100 * i] ^= 1;
	assert_int_equal(run(w, why), CARGET_WHOLE);
	assert_int_equal(w->spare, 5);
	assert_int_equal(w->used, w->bed.n - 5);
	assert_int_equal(w->fetch->blocks->sources[0].dead_until, 0);
	free_world(w);
	w = new_file();
	w->unwanted = 1;
	assert_int_equal(run(w, why), CARGET_WHOLE);
	assert_int_equal(w->spare, w->bed.n);
	free_world(w);
	/* As blocks of 1 KiB there are more of them than are listened to; a useful one begins the count anew. */
	w = new_file();
	w->block_size = ERIS_SMALL;
	w->blocks = w->script.len / ERIS_SMALL;
	assert_true(w->blocks > 2 * CARGET_SPARE_MAX);
	assert_int_equal(run(w, why), CARGET_BROKEN);
	assert_non_null(strstr(why, "nobody asked for"));
	assert_int_equal(w->spare, CARGET_SPARE_MAX + 1);
	free_world(w);
	w = new_file();
	w->block_size = ERIS_SMALL;
	w->blocks = w->script.len / ERIS_SMALL;
	for (size_t at = CARGET_SPARE_MAX; at < w->blocks; at += CARGET_SPARE_MAX + 1) {
		uint8_t ref[ERIS_REF];

		manifest_hash(ref, w->script.body + at * ERIS_SMALL, ERIS_SMALL);
		bed_put(&w->bed, ref, w->script.body + at * ERIS_SMALL, ERIS_SMALL);
	}
	assert_int_equal(run(w, why), CARGET_WHOLE);
	assert_true(w->used == 2 && w->used + w->spare == w->blocks);
	free_world(w);
}

static size_t
allocated(void)
{
	struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
}

static void
file_memory(void **state)
{
	struct world *w = new_file();
	struct carget *c;
	size_t before;
	struct err e;

	(void)state;
	for (int form = CARGET_FILE; form < CARGET_FORMS; form++) {
		w->form = (enum carget_form)form;
		w->blocks = UINT64_MAX;
		carget_free(begin(w, UINT64_MAX, &e)); /* what libcurl has once */
		before = allocated();
		c = begin(w, UINT64_MAX, &e);
		assert_non_null(c);
		assert_true(allocated() - before < (form == CARGET_FILE ? 5 * ERIS_LARGE : 40 * ERIS_LARGE));
		carget_free(c);
	}
	free_world(w);
	w = new_world_of(CARGET_FILE, "block-server");
	assert_int_equal(w->fetch->blocks->nsources, 1);
	assert_null(begin(w, 0, &e));
	free_world(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole), cmocka_unit_test(whole_chunked), cmocka_unit_test(waits_for_room),
		cmocka_unit_test(stream_error), cmocka_unit_test(nothing), cmocka_unit_test(nothing_but_a_header),
		cmocka_unit_test(cut_off), cmocka_unit_test(short_car), cmocka_unit_test(gateway_error),
		cmocka_unit_test(json_error),
		cmocka_unit_test(no_car), cmocka_unit_test(busy), cmocka_unit_test(redirect),
		cmocka_unit_test(another_root), cmocka_unit_test(lies), cmocka_unit_test(another_size),
		cmocka_unit_test(wrong_node),
		cmocka_unit_test(endless), cmocka_unit_test(too_long), cmocka_unit_test(foreign),
		cmocka_unit_test(nobody_there), cmocka_unit_test(bounds), cmocka_unit_test(file_whole),
		cmocka_unit_test(file_of_gateway), cmocka_unit_test(file_waits_for_room), cmocka_unit_test(file_paused),
		cmocka_unit_test(file_wrong_length), cmocka_unit_test(file_errors), cmocka_unit_test(no_file),
		cmocka_unit_test(file_other_blocks), cmocka_unit_test(file_memory),
	};
	struct err e;

	if (block_init(&e) != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
