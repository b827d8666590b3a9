/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: a stream of bytes is cut into blocks, however it comes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "helper/eris/block.h"
#include "helper/fetch/blockcut.h"
#include "helper/ipfs/manifest.h"

#define MOST 9

/* Of MOST blocks of either size, and one byte: bytes that do not repeat, and what each block must be called. */
static uint8_t *stream;
static uint8_t refs[2][MOST][ERIS_REF];

static const uint8_t *
ref_of(uint32_t block_size, uint64_t i)
{
	return refs[block_size == ERIS_LARGE][i];
}

static struct blockcut *
cutter(uint32_t block_size, uint64_t blocks)
{
	struct err e;
	struct blockcut *c = blockcut_new(block_size, blocks, &e);

	assert_non_null(c);
	return c;
}

/* LEN bytes of the stream, in pieces of STEP.  Returns the blocks that came, all right and in order; -1 when it was
 * refused, which happens behind all BLOCKS only. */
static int
cut(struct blockcut *c, uint32_t block_size, uint64_t blocks, size_t len, size_t step)
{
	const uint8_t *ref, *block;
	unsigned n = 0;
	struct err e;

	for (size_t done = 0; done < len;) {
		size_t piece = step < len - done ? step : len - done, left = piece;
		/* exactly, so that a sanitizer sees a byte too far; and gone when the next one comes */
		uint8_t *copy = malloc(piece);
		const uint8_t *at = copy;
		int rc;

		memcpy(copy, stream + done, piece);
		while ((rc = blockcut_feed(c, &at, &left, &ref, &block, &e)) == 1) {
			assert_true(n < blocks && at + left == copy + piece);
			assert_memory_equal(ref, ref_of(block_size, n), ERIS_REF);
			assert_memory_equal(block, stream + (size_t)n * block_size, block_size);
			n++;
			/* It gives a block as soon as four are there, or all. */
			assert_true(done + (size_t)(at - copy) >= (size_t)n * block_size);
		}
		free(copy);
		done += piece;
		if (rc < 0) {
			assert_string_equal(e.text, "longer than it can be");
			assert_int_equal(n, blocks);
			return -1;
		}
		assert_int_equal(left, 0);
		assert_true(n + 4 > done / block_size);
		assert_int_equal(blockcut_end(c, &e), n < blocks ? -1 : 0);
	}
	return (int)n;
}

static void
all_ways(uint32_t block_size, uint64_t blocks, size_t step)
{
	size_t len = (size_t)blocks * block_size;
	struct blockcut *c = cutter(block_size, blocks);

	assert_int_equal(cut(c, block_size, blocks, len, step), blocks);
	blockcut_free(c);
	c = cutter(block_size, blocks);
	assert_int_equal(cut(c, block_size, blocks, len + 1, step), -1);
	blockcut_free(c);
}

static void
small_blocks(void **state)
{
	(void)state;
	for (uint64_t blocks = 1; blocks <= MOST; blocks++)
		for (size_t step = 1; step <= blocks * ERIS_SMALL + 1;) {
			size_t past = step % ERIS_SMALL;

			all_ways(ERIS_SMALL, blocks, step);
			step += step < 40 || past < 3 || past > ERIS_SMALL - 9 ? 1 : 7;
		}
}

static void
large_blocks(void **state)
{
	static const size_t steps[] = { 1, 1000, 16384, ERIS_LARGE - 1, ERIS_LARGE, ERIS_LARGE + 1, 2 * ERIS_LARGE,
		3 * ERIS_LARGE, 4 * ERIS_LARGE - 1, 4 * ERIS_LARGE, 4 * ERIS_LARGE + 1, 5 * ERIS_LARGE, 20 * ERIS_LARGE };

	(void)state;
	for (uint64_t blocks = 1; blocks <= MOST; blocks++)
		for (size_t i = blocks % 4 == 1 ? 0 : 1; i < sizeof steps / sizeof steps[0]; i++)
			all_ways(ERIS_LARGE, blocks, steps[i]);
}

static void
cut_off(void **state)
{
	(void)state;
	for (uint64_t blocks = 1; blocks <= MOST; blocks++)
		for (size_t len = 0; len < blocks * ERIS_SMALL;
		    len += len % ERIS_SMALL == ERIS_SMALL - 1 ? 1 : ERIS_SMALL / 2 - 1) {
			struct blockcut *c = cutter(ERIS_SMALL, blocks);
			struct err e = { 0 };

			assert_int_equal(cut(c, ERIS_SMALL, blocks, len, 700), len / ERIS_SMALL / 4 * 4);
			assert_int_equal(blockcut_end(c, &e), -1);
			assert_string_equal(e.text, "cut off");
			blockcut_free(c);
		}
}

/* What has come but was not taken yet is missing, too. */
static void
not_taken(void **state)
{
	struct blockcut *c = cutter(ERIS_SMALL, 3);
	const uint8_t *at = stream, *ref, *block, *first;
	size_t len = 3 * ERIS_SMALL;
	struct err e;

	(void)state;
	assert_int_equal(blockcut_feed(c, &at, &len, &ref, &first, &e), 1);
	assert_int_equal(len, 0);
	for (unsigned i = 1; i < 3; i++) {
		assert_int_equal(blockcut_end(c, &e), -1);
		assert_int_equal(blockcut_feed(c, &at, &len, &ref, &block, &e), 1);
		assert_ptr_equal(block, first + i * ERIS_SMALL);
	}
	assert_int_equal(blockcut_end(c, &e), 0);
	assert_int_equal(blockcut_feed(c, &at, &len, &ref, &block, &e), 0);
	assert_int_equal(blockcut_end(c, &e), 0);
	len = 1;
	assert_int_equal(blockcut_feed(c, &at, &len, &ref, &block, &e), -1);
	assert_int_equal(blockcut_feed(c, &at, &len, &ref, &block, &e), -1);
	blockcut_free(c);
}

static void
empty(void **state)
{
	struct blockcut *c = cutter(ERIS_LARGE, 0);
	const uint8_t *at = stream, *ref, *block;
	size_t len = 0;
	struct err e;

	(void)state;
	assert_int_equal(blockcut_feed(c, &at, &len, &ref, &block, &e), 0);
	assert_int_equal(blockcut_end(c, &e), 0);
	len = 1;
	assert_int_equal(blockcut_feed(c, &at, &len, &ref, &block, &e), -1);
	blockcut_free(c);
	blockcut_free(NULL);
}

/* Whatever it is told of the length of the stream, it takes no more memory. */
static void
memory(void **state)
{
	size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
	struct blockcut *c = cutter(ERIS_LARGE, UINT64_MAX);

	(void)state;
	assert_true(mallinfo2().uordblks + mallinfo2().hblkhd - before < 5 * ERIS_LARGE);
	assert_int_equal(cut(c, ERIS_LARGE, UINT64_MAX, MOST * ERIS_LARGE, 16384), MOST / 4 * 4);
	blockcut_free(c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_blocks), cmocka_unit_test(large_blocks), cmocka_unit_test(cut_off),
		cmocka_unit_test(not_taken), cmocka_unit_test(empty), cmocka_unit_test(memory),
	};
	uint32_t seed = 3;
	int failed;

	if (block_init(NULL) != 0 || (stream = malloc(MOST * ERIS_LARGE + 1)) == NULL)
		return 1;
	for (size_t i = 0; i < MOST * ERIS_LARGE + 1; i++) {
		seed = seed * 1664525u + 1013904223u;
		stream[i] = (uint8_t)(seed >> 20);
	}
	for (unsigned i = 0; i < MOST; i++) {
		manifest_hash(refs[0][i], stream + i * ERIS_SMALL, ERIS_SMALL);
		manifest_hash(refs[1][i], stream + i * ERIS_LARGE, ERIS_LARGE);
	}
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	free(stream);
	return failed;
}
