/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: the rules of repairing blocks with ranges of the nar file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "helper/eris/block.h"
#include "helper/eris/encode.h"
#include "helper/ipfs/range.h"

static void
leaves(void **state)
{
	uint64_t offset;
	size_t len;

	(void)state;
	assert_int_equal(range_leaf(0, 100, &offset, &len), RANGE_BYTES);
	assert_true(offset == 0 && len == 100);
	assert_int_equal(range_leaf(1, 100, &offset, &len), RANGE_NONE);
	assert_int_equal(range_leaf(0, 0, &offset, &len), RANGE_PADDING);
	assert_int_equal(range_leaf(1, 32768, &offset, &len), RANGE_PADDING);
	assert_true(offset == 32768 && len == 0);
	assert_int_equal(range_leaf(0, 32768, &offset, &len), RANGE_BYTES);
	assert_true(offset == 0 && len == 32768);
	assert_int_equal(range_leaf(1, 32769, &offset, &len), RANGE_BYTES);
	assert_true(offset == 32768 && len == 1);
	assert_int_equal(range_leaf(2, 32769, &offset, &len), RANGE_NONE);
	assert_int_equal(range_leaf(1000000, RANGE_UNKNOWN, &offset, &len), RANGE_BYTES);
	assert_true(offset == 32768000000 && len == 32768);
	assert_int_equal(range_leaf(UINT64_MAX / 32768, RANGE_UNKNOWN, &offset, &len), RANGE_NONE);
	assert_int_equal(range_leaf(UINT64_MAX, RANGE_UNKNOWN, &offset, &len), RANGE_NONE);
}

static void
plans(void **state)
{
	static const uint64_t missing[] = { 3, 4, 5, 9, 20, 21, 40, 41, 42, 43 };
	struct range_run runs[4];
	size_t n = 10;

	(void)state;
	assert_int_equal(range_plan(runs, 4, missing, &n, 0, 100), 4);
	assert_int_equal(n, 10);
	assert_true(runs[0].first == 3 && runs[0].count == 3 && runs[1].first == 9 && runs[1].count == 1);
	assert_true(runs[2].first == 20 && runs[2].count == 2 && runs[3].first == 40 && runs[3].count == 4);
	/* A hole of three is asked for along. */
	assert_int_equal(range_plan(runs, 4, missing, &n, 3, 100), 3);
	assert_true(runs[0].first == 3 && runs[0].count == 7);
	/* None longer than it may be, and no more than there is room for. */
	n = 10;
	assert_int_equal(range_plan(runs, 2, missing, &n, 0, 2), 2);
	assert_int_equal(n, 3);
	assert_true(runs[0].first == 3 && runs[0].count == 2 && runs[1].first == 5 && runs[1].count == 1);
	n = 0;
	assert_int_equal(range_plan(runs, 2, missing, &n, 0, 2), 0);
}

static void
headers(void **state)
{
	char text[RANGE_HEADER];

	(void)state;
	assert_int_equal(range_header(text, &(struct range_run){ 0, 1 }, RANGE_UNKNOWN), 0);
	assert_string_equal(text, "bytes=0-32767");
	assert_int_equal(range_header(text, &(struct range_run){ 2, 3 }, 100000), 0);
	assert_string_equal(text, "bytes=65536-99999");
	assert_int_equal(range_header(text, &(struct range_run){ 1, 1 }, 32768), -1);
	assert_int_equal(range_header(text, &(struct range_run){ 1, 0 }, RANGE_UNKNOWN), -1);
	assert_int_equal(range_header(text, &(struct range_run){ UINT64_MAX, 1 }, RANGE_UNKNOWN), -1);
	assert_int_equal(range_header(text, &(struct range_run){ 281474976710000, 600 }, RANGE_UNKNOWN), 0);
	assert_int_equal(range_header(text, &(struct range_run){ 281474976710000, 700 }, RANGE_UNKNOWN), -1);
}

static void
answers(void **state)
{
	static const struct {
		struct range_answer a;
		struct range_run run;
		uint64_t size;
		enum range_verdict verdict;
	} cases[] = {
		{ { 206, 32768, 32768, 65535, 100000, NULL }, { 1, 1 }, 100000, RANGE_PART },
		{ { 206, -1, 32768, 65535, -1, NULL }, { 1, 1 }, 100000, RANGE_PART },
		{ { 206, 32768, 32768, 65535, 100000, "identity" }, { 1, 1 }, RANGE_UNKNOWN, RANGE_PART },
		{ { 206, 32768, 32768, 65535, 100000, "gzip" }, { 1, 1 }, 100000, RANGE_USELESS },
		{ { 206, 1696, 98304, 99999, 100000, NULL }, { 3, 1 }, RANGE_UNKNOWN, RANGE_PART },
		{ { 206, 1696, 98304, 99999, -1, NULL }, { 3, 1 }, RANGE_UNKNOWN, RANGE_PART },
		{ { 206, 32768, 32768, 65535, 100001, NULL }, { 1, 1 }, 100000, RANGE_OTHER_FILE },
		{ { 206, 32768, 0, 32767, 100000, NULL }, { 1, 1 }, 100000, RANGE_USELESS },
		{ { 206, 32767, 32768, 65534, 100000, NULL }, { 1, 1 }, 100000, RANGE_USELESS },
		{ { 206, 32769, 32768, 65536, 100000, NULL }, { 1, 1 }, 100000, RANGE_USELESS },
		{ { 206, 99, 32768, 65535, 100000, NULL }, { 1, 1 }, 100000, RANGE_USELESS },
		{ { 206, -1, -1, -1, -1, NULL }, { 1, 1 }, 100000, RANGE_USELESS }, /* multipart, or none */
		{ { 200, 100000, -1, -1, -1, NULL }, { 1, 1 }, 100000, RANGE_WHOLE },
		{ { 200, -1, -1, -1, -1, NULL }, { 1, 1 }, 100000, RANGE_WHOLE },
		{ { 200, 5, -1, -1, -1, NULL }, { 1, 1 }, RANGE_UNKNOWN, RANGE_WHOLE },
		{ { 200, 99999, -1, -1, -1, NULL }, { 1, 1 }, 100000, RANGE_OTHER_FILE },
		{ { 200, 100000, -1, -1, -1, "br" }, { 1, 1 }, 100000, RANGE_USELESS },
		{ { 416, -1, -1, -1, 65536, NULL }, { 2, 1 }, RANGE_UNKNOWN, RANGE_BEHIND },
		{ { 416, -1, -1, -1, 65535, NULL }, { 2, 1 }, RANGE_UNKNOWN, RANGE_OTHER_FILE },
		{ { 416, -1, -1, -1, 65536, NULL }, { 2, 1 }, 100000, RANGE_OTHER_FILE },
		{ { 404, -1, -1, -1, -1, NULL }, { 2, 1 }, 100000, RANGE_GONE },
		{ { 503, -1, -1, -1, -1, NULL }, { 2, 1 }, 100000, RANGE_BUSY },
		{ { 302, -1, -1, -1, -1, NULL }, { 2, 1 }, 100000, RANGE_USELESS },
		{ { 403, -1, -1, -1, -1, NULL }, { 2, 1 }, 100000, RANGE_USELESS },
	};
	const char *why;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		if (range_judge(&cases[i].a, &cases[i].run, cases[i].size, &why) != cases[i].verdict)
			fail_msg("case %zu", i);
		assert_true((why == NULL) == (cases[i].verdict <= RANGE_BEHIND));
	}
}

static void
reading_on(void **state)
{
	const uint64_t mb = 1 << 20;

	(void)state;
	assert_int_equal(range_read_on(0, 100, 100), 0);
	assert_int_equal(range_read_on(1, 100, 100), 1);          /* small */
	assert_int_equal(range_read_on(1, 300 * mb, mb / 2), 1);  /* near the beginning */
	assert_int_equal(range_read_on(1, 300 * mb, 200 * mb), 0);
	assert_int_equal(range_read_on(32 * 100, 300 * mb, 300 * mb), 1);
	assert_int_equal(range_read_on(32 * 100, RANGE_UNKNOWN, 300 * mb), 1);
	assert_int_equal(range_read_on(32 * 50, 300 * mb, 300 * mb), 0);
}

#define FILE_SIZE (5 * 32768 + 100)

struct seen {
	uint8_t refs[16][ERIS_REF], blocks[16][ERIS_LARGE];
};

static int
note(void *ctx, const struct encode_block *b, struct err *e)
{
	struct seen *s = ctx;

	(void)e;
	if (b->level > 0)
		return 0;
	memcpy(s->refs[b->offset / ERIS_LARGE], b->pair->ref, ERIS_REF);
	memcpy(s->blocks[b->offset / ERIS_LARGE], b->data, ERIS_LARGE);
	return 0;
}

static void
encode(struct seen *s, struct eris_cap *cap, const uint8_t *data, size_t len)
{
	struct encode_options o = { .block_size = ERIS_LARGE, .sink = note, .ctx = s };
	struct err e;
	struct encode *c = encode_new(&o, &e);

	assert_non_null(c);
	assert_int_equal(encode_put(c, data, len, &e), 0);
	assert_int_equal(encode_end(c, cap, &e), 0);
	encode_free(c);
}

/* Against the encoder: every leaf of files with and without a leaf of padding. */
static void
rebuilds(void **state)
{
	static const size_t sizes[] = { 0, 1, 32767, 32768, 32769, 5 * 32768, FILE_SIZE };
	uint8_t *data = malloc(FILE_SIZE), *block = malloc(ERIS_LARGE);
	struct seen *s = malloc(sizeof *s);

	(void)state;
	for (size_t i = 0; i < FILE_SIZE; i++)
		data[i] = (uint8_t)(i * 7 + i / 32768);
	for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
		struct range_source source = { 0, 0 };
		struct eris_cap cap, again;
		enum range_need need;
		uint64_t offset, i;
		size_t len;

		encode(s, &cap, data, sizes[k]);
		for (i = 0; (need = range_leaf(i, sizes[k], &offset, &len)) != RANGE_NONE; i++) {
			assert_int_equal(need == RANGE_PADDING, len == 0);
			assert_int_equal(range_rebuild(&source, block, s->refs[i], data + offset, len), RANGE_FITS);
			assert_memory_equal(block, s->blocks[i], ERIS_LARGE);
		}
		assert_int_equal(i, sizes[k] / 32768 + 1);
		assert_int_equal(source.right, i);
		again = cap;
		assert_int_equal(range_whole(&cap, &again), 1);
		again.root.key[31] ^= 1;
		assert_int_equal(range_whole(&cap, &again), 0);
	}
	free(data);
	free(block);
	free(s);
}

static void
other_bytes(void **state)
{
	uint8_t *data = calloc(1, ERIS_LARGE + 1), *block = malloc(ERIS_LARGE);
	struct range_source source = { 0, 0 };
	struct eris_pair right;

	(void)state;
	block_leaf(block, &right, data, ERIS_LARGE, ERIS_LARGE);
	data[5] = 1;
	assert_int_equal(range_rebuild(&source, block, right.ref, data, ERIS_LARGE), RANGE_ANOTHER);
	data[5] = 0;
	assert_int_equal(range_rebuild(&source, block, right.ref, data, ERIS_LARGE), RANGE_FITS);
	assert_int_equal(range_rebuild(&source, block, right.ref, data, ERIS_LARGE - 1), RANGE_CHANGED);
	assert_int_equal(range_rebuild(&source, block, right.ref, data, ERIS_LARGE + 1), RANGE_CHANGED);
	assert_true(source.right == 1 && source.wrong == 3);
	free(data);
	free(block);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(leaves),
		cmocka_unit_test(plans),
		cmocka_unit_test(headers),
		cmocka_unit_test(answers),
		cmocka_unit_test(reading_on),
		cmocka_unit_test(rebuilds),
		cmocka_unit_test(other_bytes),
	};
	struct err e;

	if (block_init(&e) != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
