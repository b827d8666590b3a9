/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: leaves out of the nar file of servers that know Range, do not, or serve something else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/web_bed.h"

#include "helper/eris/block.h"
#include "helper/fetch/rangeget.h"

#define LEAVES 100
#define MAX_SIZE (LEAVES * (size_t)ERIS_LARGE)

enum way { RANGES, WHOLE, CHUNKED, STATUS, DRIP, SILENT, CUT, WRONG_RANGE };

struct script {
	enum way way;
	const char *status, *headers;
	const char *moved;       /* requests elsewhere than here are sent here */
	const uint8_t *file;
	size_t size;
};

struct world {
	struct fetch *fetch;
	int broker;
	struct web *web;
	struct script script;
	uint8_t *file;
	uint8_t refs[LEAVES + 1][ERIS_REF];
	uint64_t told;           /* the size that the narinfo tells */
	/* What has come. */
	unsigned right, reports, offers, extras, taken;
	enum sched_outcome last;
	uint32_t retry_ms;
	char why[400];
	uint8_t got[LEAVES + 1];
	enum rangeget_use use;   /* of leaves that are offered */
	unsigned waits;          /* so often it is "not now" */
	struct rangeget *r;
};

static int
drip(int conn, const uint8_t *data)
{
	web_send(conn, "HTTP/1.1 206 Partial Content\r\nContent-Length: 32768\r\nContent-Range: bytes 0-32767/3276777\r\n\r\n", 93);
	for (int i = 0; i < 200 && web_send(conn, data + i, 1) == 0; i++)
		usleep(20000);
	return 0;
}

static int
answer(struct web *web, int conn, const char *request)
{
	struct script *s = web->ctx;
	const char *range = strstr(request, "Range: bytes=");
	unsigned long a = 0, b = s->size - 1;
	char head[256];
	char path[200];

	if (s->moved != NULL && sscanf(request, "GET %199s", path) == 1 && strcmp(path, s->moved) != 0) {
		snprintf(head, sizeof head, "Location: %s\r\n", s->moved);
		return web_reply(conn, "302 Found", head, "gone", 4);
	}
	if (range != NULL)
		(void)sscanf(range, "Range: bytes=%lu-%lu", &a, &b);
	switch (s->way) {
	case WHOLE:
		return web_reply(conn, "200 OK", "", s->file, s->size);
	case CHUNKED:
		return web_chunked(conn, s->file, s->size, "");
	case STATUS:
		return web_reply(conn, s->status, s->headers, "no", 2);
	case DRIP:
		return drip(conn, s->file);
	case SILENT:
		usleep(1500000);
		return 0;
	case CUT:
		web_send(conn, "HTTP/1.1 206 Partial Content\r\nContent-Length: 32768\r\nContent-Range: bytes 0-32767/3276777\r\n\r\n", 93);
		web_send(conn, s->file, 1000);
		return 0;
	case WRONG_RANGE:
		a += ERIS_LARGE;
		break;
	default:
		break;
	}
	if (a >= s->size) {
		snprintf(head, sizeof head, "Content-Range: bytes */%zu\r\n", s->size);
		return web_reply(conn, "416 Range Not Satisfiable", head, "", 0);
	}
	if (b >= s->size)
		b = s->size - 1;
	snprintf(head, sizeof head, "Content-Range: bytes %lu-%lu/%zu\r\n", a, b, s->size);
	return web_reply(conn, "206 Partial Content", head, s->file + a, b - a + 1);
}

static void
on_leaf(void *owner, uint64_t index, enum sched_outcome outcome, const uint8_t *block, uint32_t retry_ms, const char *why)
{
	struct world *w = owner;

	assert_true((outcome == SCHED_BLOCK) == (block != NULL) && (outcome == SCHED_BLOCK) == (why == NULL));
	w->reports++;
	w->last = outcome;
	w->retry_ms = retry_ms;
	snprintf(w->why, sizeof w->why, "%s", why != NULL ? why : "");
	if (outcome != SCHED_BLOCK)
		return;
	assert_int_equal(w->got[index]++, 0);
	assert_null(block_verify(w->refs[index], block, ERIS_LARGE, ERIS_LARGE));
	w->right++;
}

static enum rangeget_use
on_offer(void *owner, uint64_t index)
{
	struct world *w = owner;

	(void)index;
	w->offers++;
	if (w->waits > 0) {
		w->waits--;
		return RANGEGET_WAIT;
	}
	return w->use;
}

static void
on_extra(void *owner, uint64_t index, const uint8_t ref[ERIS_REF], const uint8_t *block)
{
	struct world *w = owner;

	assert_memory_equal(ref, w->refs[index], ERIS_REF);
	assert_null(block_verify(ref, block, ERIS_LARGE, ERIS_LARGE));
	w->extras++;
}

static const struct rangeget_owner calls = { on_leaf, on_offer, on_extra };

static struct world *
new_world(size_t size)
{
	struct world *w = calloc(1, sizeof *w);
	struct eris_pair pair;
	uint8_t block[ERIS_LARGE];
	uint32_t seed = 5;

	assert_non_null(w);
	w->file = malloc(size + 1);
	assert_non_null(w->file);
	for (size_t i = 0; i < size; i++) {
		seed = seed * 1664525u + 1013904223u;
		w->file[i] = (uint8_t)(seed >> 20);
	}
	for (size_t i = 0; i <= size / ERIS_LARGE; i++) {
		size_t len = size - i * ERIS_LARGE < ERIS_LARGE ? size - i * ERIS_LARGE : ERIS_LARGE;

		block_leaf(block, &pair, w->file + i * ERIS_LARGE, len, ERIS_LARGE);
		memcpy(w->refs[i], pair.ref, ERIS_REF);
	}
	w->script = (struct script){ .file = w->file, .size = size, .headers = "" };
	w->told = size;
	w->use = RANGEGET_SKIP;
	w->fetch = web_fetch(&w->broker);
	w->web = web_new(answer, &w->script);
	return w;
}

static void
begin(struct world *w, const char *prefix)
{
	char text[128];
	struct url url;
	struct err e;

	snprintf(text, sizeof text, "http://%s127.0.0.1:%u/nar/x", prefix, w->web->port);
	assert_int_equal(url_parse(&url, text, &e), 0);
	w->r = rangeget_new(w->fetch, &url, w->told, &calls, w, &e);
	assert_non_null(w->r);
}

static void
free_world(struct world *w)
{
	rangeget_free(w->r);
	web_fetch_free(w->fetch, w->broker);
	web_free(w->web);
	free(w->file);
	free(w);
}

static void
want(struct world *w, uint64_t index)
{
	assert_int_equal(rangeget_want(w->r, index, w->refs[index]), 1);
}

/* Until there are so many reports, five seconds at most. */
static void
run(struct world *w, unsigned reports)
{
	uint64_t stop = web_now() + 5000;

	do {
		rangeget_pump(w->r);
		web_turn(w->fetch);
		rangeget_resume(w->r);
	} while (w->reports < reports && web_now() < stop);
	assert_int_equal(w->reports, reports);
}

static void
ranges(void **state)
{
	struct world *w = new_world(MAX_SIZE - 5000);

	(void)state;
	begin(w, "");
	want(w, 5);
	want(w, 5);
	run(w, 1);
	assert_int_equal(web_count(w->web, "GET /nar/x"), 1);
	assert_non_null(strstr(w->web->requests[0], "Range: bytes=163840-196607\r\n"));
	/* A hole of two is taken along, one of many is not; the last is short. */
	want(w, 99);
	want(w, 20);
	want(w, 23);
	want(w, 60);
	run(w, 5);
	assert_int_equal(w->right, 5);
	assert_int_equal(web_count(w->web, "GET /nar/x"), 4);
	assert_int_equal(w->offers, 0);
	assert_null(rangeget_dead(w->r));
	assert_true(rangeget_useful(w->r) > 0);
	free_world(w);
}

static void
all_leaves(void **state)
{
	struct world *w = new_world(MAX_SIZE - 5000);

	(void)state;
	begin(w, "");
	for (unsigned i = 0; i < LEAVES; i++)
		want(w, i);
	run(w, LEAVES);
	assert_int_equal(w->right, LEAVES);
	assert_true(w->web->nrequests <= 5);
	free_world(w);
}

static void
no_room(void **state)
{
	struct world *w = new_world(1000);

	(void)state;
	begin(w, "");
	for (unsigned i = 0; i < RANGEGET_LEAVES; i++)
		assert_int_equal(rangeget_want(w->r, 2 * i, w->refs[0]), 1);
	assert_int_equal(rangeget_want(w->r, 1, w->refs[0]), 0);
	assert_int_equal(rangeget_want(w->r, 2, w->refs[0]), 1);
	rangeget_drop(w->r, 2);
	assert_int_equal(rangeget_want(w->r, 1, w->refs[0]), 1);
	free_world(w);
}

static void
padding(void **state)
{
	struct world *w = new_world(4 * ERIS_LARGE);

	(void)state;
	begin(w, "");
	want(w, 4);
	run(w, 1);
	assert_int_equal(w->right, 1);
	assert_int_equal(w->web->nrequests, 0);
	free_world(w);
	/* The same when nobody has told the size: one answer tells it. */
	w = new_world(4 * ERIS_LARGE);
	w->told = RANGE_UNKNOWN;
	begin(w, "");
	want(w, 4);
	run(w, 1);
	assert_int_equal(w->right, 1);
	assert_int_equal(w->web->nrequests, 1);
	free_world(w);
}

static void
size_unknown(void **state)
{
	struct world *w = new_world(7 * ERIS_LARGE + 1);

	(void)state;
	w->told = RANGE_UNKNOWN;
	begin(w, "");
	want(w, 7);
	want(w, 0);
	run(w, 2);
	assert_int_equal(w->right, 2);
	free_world(w);
}

/* Everything that was wanted is reported with OUTCOME, and its reason has WORDS. */
static void
reports(struct world *w, enum sched_outcome outcome, const char *words)
{
	begin(w, "");
	want(w, 0);
	want(w, 1);
	run(w, 2);
	if (w->right != 0 || w->last != outcome || strstr(w->why, words) == NULL)
		fail_msg("%d: %s", (int)w->last, w->why);
}

static void
another_encoding(void **state)
{
	struct world *w = new_world(MAX_SIZE - 5000);
	uint8_t frame[LIMIT_FRAME];
	struct wire_msg m;
	struct err e;

	(void)state;
	w->file[100] ^= 1;
	reports(w, SCHED_FOREIGN, "another encoding");
	assert_non_null(rangeget_dead(w->r));
	assert_int_equal(wire_recv(w->broker, &m, frame, NULL, MSG_DONTWAIT, &e), WIRE_AGAIN); /* no liar */
	/* And it stays so. */
	want(w, 9);
	run(w, 3);
	assert_int_equal(w->web->nrequests, 1);
	free_world(w);
}

static void
another_size(void **state)
{
	struct world *w = new_world(MAX_SIZE - 5000);

	(void)state;
	w->told -= 1;
	reports(w, SCHED_FOREIGN, "another size");
	free_world(w);
	w = new_world(3 * ERIS_LARGE);
	w->told = RANGE_UNKNOWN;
	begin(w, "");
	want(w, 7);
	run(w, 1);
	assert_int_equal(w->last, SCHED_FOREIGN);
	free_world(w);
}

static void
statuses(void **state)
{
	static const struct { const char *status, *headers; enum sched_outcome outcome; const char *words; } cases[] = {
		{ "404 Not Found", "", SCHED_MISSING, "not there" },
		{ "403 Forbidden", "", SCHED_FOREIGN, "no use" },
		{ "503 Busy", "Retry-After: 7\r\n", SCHED_BUSY, "busy" },
		{ "200 OK", "Content-Encoding: gzip\r\n", SCHED_FOREIGN, "content encoding" },
		{ "302 Found", "", SCHED_FOREIGN, "nowhere" },
		{ "302 Found", "Location: /nar/x\r\n", SCHED_FOREIGN, "redirects" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct world *w = new_world(MAX_SIZE - 5000);

		w->script.way = STATUS;
		w->script.status = cases[i].status;
		w->script.headers = cases[i].headers;
		reports(w, cases[i].outcome, cases[i].words);
		if (i == 2) {
			assert_int_equal(w->retry_ms, 7000);
			want(w, 3);
			run(w, 3);
			assert_true(w->last == SCHED_BUSY && w->retry_ms > 6000 && w->web->nrequests == 1);
		}
		free_world(w);
	}
}

static void
follows_redirects(void **state)
{
	struct world *w = new_world(MAX_SIZE - 5000);

	(void)state;
	w->script.moved = "/elsewhere";
	begin(w, "user:secret@");
	want(w, 3);
	run(w, 1);
	want(w, 50);
	run(w, 2);
	assert_int_equal(w->right, 2);
	assert_int_equal(web_count(w->web, "GET /nar/x"), 1); /* the second went there at once */
	assert_int_equal(web_count(w->web, "GET /elsewhere"), 2);
	assert_non_null(strstr(w->web->requests[0], "Authorization: Basic dXNlcjpzZWNyZXQ="));
	assert_non_null(strstr(w->web->requests[1], "Authorization: Basic")); /* the same origin */
	free_world(w);
}

static void
failures(void **state)
{
	static const struct { enum way way; enum sched_outcome outcome; const char *words; } cases[] = {
		{ DRIP, SCHED_BUSY, "slowly" }, { SILENT, SCHED_BUSY, "slowly" }, { CUT, SCHED_BUSY, "" },
		{ WRONG_RANGE, SCHED_FOREIGN, "another range" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct world *w = new_world(MAX_SIZE);

		w->told = RANGE_UNKNOWN;
		w->script.way = cases[i].way;
		begin(w, "");
		want(w, 0);
		run(w, 1);
		if (w->right != 0 || w->last != cases[i].outcome || strstr(w->why, cases[i].words) == NULL)
			fail_msg("%zu: %d: %s", i, (int)w->last, w->why);
		free_world(w);
	}
}

static void
nobody_there(void **state)
{
	struct world *w = new_world(1000);

	(void)state;
	shutdown(w->web->fd, SHUT_RDWR);
	begin(w, "");
	want(w, 0);
	run(w, 1);
	assert_int_equal(w->last, SCHED_UNREACHABLE);
	free_world(w);
}

static void
whole_file_closed(void **state)
{
	struct world *w = new_world(MAX_SIZE - 5000);

	(void)state;
	w->script.way = WHOLE;
	begin(w, "");
	want(w, 90);
	run(w, 1);
	assert_int_equal(w->last, SCHED_MISSING);
	/* Few more are not worth a request; many are. */
	want(w, 91);
	run(w, 2);
	assert_int_equal(w->web->nrequests, 1);
	for (unsigned i = 0; i < 40; i++)
		want(w, i);
	run(w, 42);
	assert_int_equal(w->right, 40);
	assert_int_equal(w->web->nrequests, 2);
	assert_int_equal(rangeget_whole(w->r), 0);
	free_world(w);
}

static void
whole_file_read_on(void **state)
{
	for (int i = 0; i < 4; i++) {
		struct world *w = new_world(i & 1 ? MAX_SIZE - 5000 : MAX_SIZE - ERIS_LARGE);
		uint64_t stop = web_now() + 5000;

		(void)state;
		w->script.way = i & 2 ? CHUNKED : WHOLE;
		w->told = i & 2 ? RANGE_UNKNOWN : w->told;
		w->use = RANGEGET_TAKE;
		w->waits = 3;
		begin(w, "");
		rangeget_expect(w->r, 90);
		want(w, 2);
		while (w->right + w->extras < LEAVES && web_now() < stop) {
			rangeget_pump(w->r);
			web_turn(w->fetch);
			rangeget_resume(w->r);
			w->waits += w->offers % 17 == 0;
		}
		assert_int_equal(w->right, 1);
		assert_int_equal(w->extras, LEAVES - 1); /* the padding is one of them */
		assert_int_equal(w->web->nrequests, 1);
		free_world(w);
	}
}

static void
whole_file_changed(void **state)
{
	struct world *w = new_world(MAX_SIZE - 5000);

	(void)state;
	w->script.way = WHOLE;
	w->file[3 * ERIS_LARGE] ^= 1;
	begin(w, "");
	for (unsigned i = 0; i < 10; i++)
		want(w, i);
	run(w, 10);
	assert_int_equal(w->right, 3);
	assert_int_equal(w->last, SCHED_FOREIGN);
	assert_non_null(strstr(w->why, "changed"));
	free_world(w);
}

static void
dropped(void **state)
{
	struct world *w = new_world(1000);

	(void)state;
	w->script.way = SILENT;
	begin(w, "");
	want(w, 0);
	rangeget_pump(w->r);
	assert_true(rangeget_deadline(w->r) < UINT64_MAX);
	rangeget_drop(w->r, 0);
	rangeget_pump(w->r);
	assert_true(rangeget_deadline(w->r) == UINT64_MAX); /* the request is gone, too */
	assert_int_equal(w->reports, 0);
	free_world(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges), cmocka_unit_test(all_leaves), cmocka_unit_test(no_room), cmocka_unit_test(padding),
		cmocka_unit_test(size_unknown), cmocka_unit_test(another_encoding), cmocka_unit_test(another_size),
		cmocka_unit_test(statuses), cmocka_unit_test(follows_redirects), cmocka_unit_test(failures),
		cmocka_unit_test(nobody_there), cmocka_unit_test(whole_file_closed), cmocka_unit_test(whole_file_read_on),
		cmocka_unit_test(whole_file_changed), cmocka_unit_test(dropped),
	};
	struct err e;

	if (block_init(&e) != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
