/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: CAR streams, from a server that sends them as they are and in all ways that they should not be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

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
	uint8_t *car;
	size_t len;
	const char *status, *headers, *trailer;
	size_t cut;       /* closes after so many bytes, 0: never */
	int endless;      /* goes on with blocks that nobody wants */
	int bomb;         /* header lines without end */
};

struct world {
	struct fetch *fetch;
	int broker;
	struct web *web;
	struct script script;
	struct bed bed;
	struct eris_cap cap;
	uint8_t root[ERIS_REF];
	/* What has come. */
	unsigned used, spare, full;
	int refuse;       /* this many blocks are refused once */
	int unwanted;     /* none is wanted */
};

static void
append(struct script *s, const void *data, size_t len)
{
	s->car = realloc(s->car, s->len + len);
	assert_non_null(s->car);
	memcpy(s->car + s->len, data, len);
	s->len += len;
}

static void
section(struct script *s, enum car_kind kind, const uint8_t *hash, const uint8_t *data, size_t len)
{
	uint8_t head[CAR_PUT_SECTION];

	append(s, head, car_put_section(head, kind, hash, len));
	append(s, data, len);
}

/* A header whose root is the manifest. */
static void
header(struct script *s, const uint8_t *root)
{
	uint8_t head[CAR_PUT_HEADER];
	size_t n = car_put_header(head, root);

	for (size_t i = 0; i + 2 < n; i++) /* a node, not a block */
		if (head[i] == 0x01 && head[i + 1] == 0x55 && head[i + 2] == 0xa0)
			head[i + 1] = 0x71;
	append(s, head, n);
}

static int
keep_node(void *ctx, const uint8_t hash[ERIS_REF], const uint8_t *data, size_t len, struct err *e)
{
	struct world *w = ctx;

	(void)e;
	memcpy(w->root, hash, ERIS_REF);
	header(&w->script, hash);
	section(&w->script, CAR_NODE, hash, data, len);
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
		return web_chunked(conn, s->car, s->len, s->trailer);
	if (s->cut == 0 && !s->endless)
		return web_reply(conn, s->status, s->headers, s->car, s->len);
	n = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\n%s\r\n", s->cut > 0 ? "Content-Length: 99999999\r\n" : "");
	web_send(conn, head, (size_t)n);
	web_send(conn, s->car, s->cut > 0 ? s->cut : s->len);
	if (s->endless) {
		uint8_t block[CAR_PUT_SECTION + 1000] = { 0 }, hash[ERIS_REF] = { 1 };
		size_t k = car_put_section(block, CAR_RAW, hash, 1000);

		while (web_send(conn, block, k + 1000) == 0)
			;
	}
	return 0;
}

static enum carget_use
take(void *owner, const uint8_t ref[ERIS_REF], const uint8_t *data, size_t len)
{
	struct world *w = owner;

	if (w->refuse > 0 && w->used >= 3) {
		w->refuse--;
		w->full++;
		return CARGET_FULL;
	}
	if (w->unwanted || bed_find(&w->bed, ref) == NULL) {
		w->spare++;
		return CARGET_SPARE;
	}
	if (block_verify(ref, data, len, ERIS_LARGE) != NULL)
		return CARGET_WRONG;
	w->used++;
	return CARGET_USED;
}

static const struct carget_owner calls = { take };

static struct world *
new_world(void)
{
	struct world *w = calloc(1, sizeof *w);
	uint8_t *data = malloc(CONTENT), cap[ERIS_CAP];
	struct manifest_writer *m;
	uint32_t seed = 7;
	struct err e;

	assert_true(w != NULL && data != NULL);
	for (size_t i = 0; i < CONTENT; i++)
		data[i] = (uint8_t)(bed_random(&seed) >> 12);
	w->cap = bed_encode(&w->bed, data, CONTENT, ERIS_LARGE, NULL, CONTENT, NULL);
	m = manifest_new(keep_node, w, &e);
	assert_non_null(m);
	for (size_t i = 0; i < w->bed.n; i++)
		assert_int_equal(manifest_add(m, w->bed.block[i].ref, &e), 0);
	urn_to_bytes(cap, &w->cap);
	assert_int_equal(manifest_end(m, cap, NULL, 0, w->root, &e), 0);
	manifest_free(m);
	for (size_t i = 0; i < w->bed.n; i++)
		section(&w->script, CAR_RAW, w->bed.block[i].ref, w->bed.block[i].data, w->bed.block[i].len);
	w->script.status = "200 OK";
	w->script.headers = "";
	w->fetch = web_fetch(&w->broker);
	w->web = web_new(answer, &w->script);
	web_source(w->fetch, "ipfs", w->web->url);
	free(data);
	return w;
}

static void
free_world(struct world *w)
{
	web_fetch_free(w->fetch, w->broker);
	web_free(w->web);
	bed_free(&w->bed);
	free(w->script.car);
	free(w);
}

/* How the stream ends, within five seconds; *WHY is copied. */
static enum carget_state
run_bytes(struct world *w, uint64_t max_bytes, char why[400])
{
	uint64_t stop = web_now() + 5000;
	enum carget_state state;
	const char *text;
	struct err e;
	struct carget *c = carget_new(w->fetch, 0, w->root, max_bytes, &calls, w, &e);

	assert_non_null(c);
	while ((state = carget_pump(c, &text)) == CARGET_RUNS && web_now() < stop) {
		web_turn(w->fetch);
		if (carget_waits(c))
			carget_resume(c);
	}
	snprintf(why, 400, "%s", text != NULL ? text : "");
	assert_true(state == CARGET_RUNS || state == CARGET_WHOLE || why[0] != '\0');
	assert_int_equal(carget_blocks(c), w->used);
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
	assert_null(carget_new(w->fetch, 0, w->root, 1, &calls, w, &e));
	free_world(w);
	w = new_world();
	memset(w->script.car, 'x', w->script.len);
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
	w->script.car[w->script.len - 1] ^= 1;
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
	w->script.car[200] ^= 1; /* in the manifest */
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
	assert_true(carget_bytes(512 * (uint64_t)ERIS_LARGE) > 513 * ((uint64_t)ERIS_LARGE + 41 + 43) + MANIFEST_NARINFO);
	assert_true(carget_bytes(1ULL << 40) < (1ULL << 40) + (1ULL << 34));
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
		cmocka_unit_test(another_root), cmocka_unit_test(lies), cmocka_unit_test(another_size), cmocka_unit_test(wrong_node),
		cmocka_unit_test(endless), cmocka_unit_test(too_long), cmocka_unit_test(foreign),
		cmocka_unit_test(nobody_there), cmocka_unit_test(bounds),
	};
	struct err e;

	if (block_init(&e) != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
