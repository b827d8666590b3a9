/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: what nars out of blocks need of the fetcher's other parts: trailers, loopback, whole files encoded
 * again, and what is remembered of sources. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "helper/eris/block.h"
#include "helper/eris/encode.h"
#include "helper/eris/urn.h"
#include "helper/fetch/answer.h"
#include "helper/fetch/blockconf.h"
#include "helper/fetch/heal.h"
#include "helper/fetch/prefix.h"
#include "helper/fetch/recode.h"
#include "helper/fetch/state.h"

#define NOW 1700000000

/* --- Trailers --------------------------------------------------------------------------------------- */

static void
lines(struct answer *a, const char *const *line)
{
	for (answer_reset(a); *line != NULL; line++)
		assert_int_equal(answer_line(a, *line, strlen(*line), NOW), 0);
}

static void
test_trailers(void **unused)
{
	static const char *const good[] = { "HTTP/1.1 200 OK\r\n", "Content-Length: 7\r\n", "\r\n",
		"X-Stream-Error: block not found\r\n", "Content-Length: 9\r\n", "Location: /x\r\n", "\r\n", NULL };
	static const char *const two[] = { "HTTP/1.1 100 Continue\r\n", "X-Stream-Error: a\r\n", "\r\n",
		"HTTP/1.1 200 OK\r\n", "Content-Length: 5\r\n", "Content-Encoding: gzip\r\n", "\r\n", NULL };
	char text[2 * ANSWER_ERROR];
	struct answer a;

	(void)unused;
	lines(&a, good);
	assert_string_equal(a.stream_error, "block not found");
	assert_int_equal(a.length, 7);
	assert_string_equal(a.location, "");
	assert_int_equal(a.ended, 1);
	lines(&a, two); /* what an informational answer says is forgotten */
	assert_string_equal(a.stream_error, "");
	assert_int_equal(a.length, 5);
	assert_string_equal(a.encoding, "gzip");
	memset(text, 'x', sizeof text);
	memcpy(text, "X-Stream-Error: a\x01\xc3", 19);
	assert_int_equal(answer_line(&a, text, sizeof text, NOW), 0);
	assert_int_equal(strlen(a.stream_error), ANSWER_ERROR);
	assert_memory_equal(a.stream_error, "a??x", 4);
}

static void
test_unsatisfied_range(void **unused)
{
	static const char *const good[] = { "HTTP/1.1 416 x\r\n", "Content-Range: bytes */65536\r\n", NULL };
	static const char *const bad[] = { "HTTP/1.1 416 x\r\n", "Content-Range: bytes */65536x\r\n", NULL };
	struct answer a;

	(void)unused;
	lines(&a, good);
	assert_int_equal(a.range_total, 65536);
	assert_int_equal(a.range_start, -1);
	lines(&a, bad);
	assert_int_equal(a.range_total, -1);
}

/* --- Loopback --------------------------------------------------------------------------------------- */

static void
test_local(void **unused)
{
	static const char *const here[] = { "localhost", "127.0.0.1", "127.255.0.3", "::1", NULL };
	static const char *const there[] = { "126.0.0.1", "128.0.0.1", "::2", "10.0.0.1", "localhost.example.org",
		"127.0.0.1.org", "0.0.0.0", "", NULL };

	(void)unused;
	for (unsigned i = 0; here[i] != NULL; i++)
		assert_true(hosts_local(here[i]));
	for (unsigned i = 0; there[i] != NULL; i++)
		assert_false(hosts_local(there[i]));
}

/* --- A whole file ----------------------------------------------------------------------------------- */

static uint8_t *
content(size_t len)
{
	uint8_t *data = malloc(len);
	uint32_t x = 1;

	assert_non_null(data);
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24);
	return data;
}

static void
capability(struct eris_cap *cap, const uint8_t *data, size_t len)
{
	struct encode_options o = { .block_size = ERIS_LARGE };
	struct encode *c;
	struct err e;

	assert_non_null(c = encode_new(&o, &e));
	assert_int_equal(encode_put(c, data, len, &e), 0);
	assert_int_equal(encode_end(c, cap, &e), 0);
	encode_free(c);
}

/* How many blocks are kept of DATA when it has streamed by as the content of CAP; -1: it is another encoding. */
static int
kept(const struct eris_cap *cap, uint64_t from, const uint8_t *data, size_t len)
{
	struct fetch *f = calloc(1, sizeof *f);
	uint8_t bytes[ERIS_CAP];
	uint32_t n = 0, repaired = 0, reinserted = 0;
	struct recode *r;
	struct err e;
	int rc;

	assert_non_null(f);
	f->state = f->journal = -1;
	assert_non_null(f->blocks = blockconf_new(&e));
	assert_int_equal(heal_init(f, &e), 0);
	urn_to_bytes(bytes, cap);
	heal_begin(f, bytes, NULL, 0, len, 0);
	assert_non_null(r = recode_new(cap, from, &e));
	for (size_t at = 0, n1 = 1; at < len; at += n1, n1 = n1 * 7 % 50021) {
		if (n1 > len - at)
			n1 = len - at;
		recode_add(r, data + at, n1);
	}
	rc = recode_end(r, f);
	recode_free(r);
	heal_counts(f, &n, &repaired, &reinserted);
	assert_true(n == 0 && repaired == 0 && reinserted == 0); /* nobody was asked for them */
	heal_end(f, 1);
	heal_free(f);
	blockconf_free(f->blocks);
	free(f);
	return rc;
}

static void
test_recode(void **unused)
{
	size_t len = 6 * ERIS_LARGE + 5, much = 2 * RECODE_KEPT * (size_t)ERIS_LARGE;
	uint8_t *data = content(much);
	struct eris_cap cap;

	(void)unused;
	capability(&cap, data, len);
	assert_int_equal(kept(&cap, 0, data, len), 8);
	assert_int_equal(kept(&cap, 3 * ERIS_LARGE, data, len), 5);
	assert_int_equal(kept(&cap, 3 * ERIS_LARGE - 1, data, len), 6); /* a part of a block is none */
	assert_int_equal(kept(&cap, 0, data, len - 1), -1);
	data[7] ^= 1;
	assert_int_equal(kept(&cap, 0, data, len), -1);
	capability(&cap, data, much);
	assert_int_equal(kept(&cap, 0, data, much), RECODE_KEPT); /* no more than that is kept */
	capability(&cap, data, 5);
	assert_int_equal(kept(&cap, 0, data, 5), 1);
	free(data);
}

/* A file in pieces of any size begins as the leaves do, or not. */
static void
test_prefix(void **unused)
{
	uint8_t *data = content(3 * ERIS_LARGE), *block = malloc(ERIS_LARGE);
	struct prefix *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b);
	struct eris_pair pair;

	(void)unused;
	assert_true(a != NULL && b != NULL && block != NULL);
	for (size_t step = 1; step < 3 * ERIS_LARGE; step = step * 5 + 3) {
		prefix_begin(a, ERIS_LARGE);
		prefix_begin(b, ERIS_LARGE);
		assert_true(prefix_same(a, b));
		for (unsigned i = 0; i < 3; i++) {
			block_leaf(block, &pair, data + i * ERIS_LARGE, ERIS_LARGE, ERIS_LARGE);
			prefix_leaf(a, pair.ref);
		}
		for (size_t at = 0; at < 3 * ERIS_LARGE; at += step) {
			assert_false(prefix_same(a, b));
			prefix_add(b, data + at, step < 3 * ERIS_LARGE - at ? step : 3 * ERIS_LARGE - at);
		}
		assert_true(prefix_same(a, b));
	}
	prefix_begin(b, ERIS_LARGE);
	data[2 * ERIS_LARGE + 1] ^= 1;
	prefix_add(b, data, 3 * ERIS_LARGE);
	assert_false(prefix_same(a, b));
	free(a);
	free(b);
	free(block);
	free(data);
}

/* --- Memory of sources ------------------------------------------------------------------------------ */

static void
test_silent(void **unused)
{
	char path[] = "/tmp/narlock-test-XXXXXX";
	int fd = mkstemp(path);
	struct url u;
	struct err e;

	(void)unused;
	assert_true(fd >= 0);
	close(fd);
	assert_true((fd = state_open(path, &e)) >= 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(url_parse(&u, "http://127.0.0.1:5001", &e), 0);
	state_put(fd, STATE_SILENT, &u, NULL, NOW, 300);
	assert_int_equal(state_get(fd, STATE_SILENT, &u, NULL, NOW + 1), 299);
	assert_int_equal(state_get(fd, STATE_SILENT, &u, NULL, NOW + 300), 0);
	/* The same origin may be a substitute server that is alive. */
	assert_int_equal(state_get(fd, STATE_DEAD, &u, NULL, NOW + 1), 0);
	close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_trailers),
		cmocka_unit_test(test_unsatisfied_range),
		cmocka_unit_test(test_local),
		cmocka_unit_test(test_recode),
		cmocka_unit_test(test_prefix),
		cmocka_unit_test(test_silent),
	};
	struct err e;

	if (block_init(&e) != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
