/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: the encoder against the decoder and the reader, at every size where something changes, in every
 * order, and what must be refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <sodium.h>
#include <stdio.h>

#include "helper/eris/access.h"
#include "helper/eris/blake2b4.h"
#include "helper/eris/urn.h"
#include "tests/unit/eris_bed.h"

#define MOST (9u << 20)

static uint8_t *noise; /* MOST bytes that do not repeat */

/* --- Hash ---------------------------------------------------------------------------------------------- */

static void
test_hash(void **state)
{
	uint8_t fast[4][32], slow[4][32];
	uint32_t seed = 1;
	int have = 1;

	(void)state;
	for (size_t len = 0; len < 1300 && have; len++)
		for (unsigned k = 0; k < 3; k++) {
			const uint8_t *in[4];
			/* A key; no key; the null secret, which is not the same as none. */
			const uint8_t *key = k == 0 ? noise + len : k == 1 ? NULL : block_null_secret;

			for (unsigned i = 0; i < 4; i++)
				in[i] = noise + bed_random(&seed) % 10000;
			have = blake2b4_avx2(fast, in, len, key) == 0;
			blake2b4_portable(slow, in, len, key);
			if (have)
				assert_memory_equal(fast, slow, sizeof(fast));
			blake2b4(fast, in, len, key);
			assert_memory_equal(fast, slow, sizeof(fast));
		}
	for (size_t len = 1024; len <= 65536; len *= 2) {
		const uint8_t *in[4] = { noise, noise + len, noise + 2 * len, noise };

		blake2b4(fast, in, len, noise);
		blake2b4_portable(slow, in, len, noise);
		assert_memory_equal(fast, slow, sizeof(fast));
	}
	if (!have)
		print_message("SKIP: this processor has no AVX2: the portable hash only\n");
}

/* --- There and back ------------------------------------------------------------------------------------ */

static void
read_anywhere(struct bed *bed, const struct eris_cap *cap, const uint8_t *data, size_t len)
{
	struct access *a = access_new(cap, bed_get, bed, NULL);
	const uint8_t *piece;
	uint32_t seed = 5;
	uint64_t length;
	size_t n;

	assert_non_null(a);
	for (unsigned i = 0; i < 20; i++) {
		size_t at = len == 0 ? 0 : bed_random(&seed) % len;

		assert_int_equal(access_read(a, at, &piece, &n, NULL), 0);
		assert_true(len == 0 ? n == 0 : n > 0 && at + n <= len);
		if (n > 0)
			assert_memory_equal(piece, data + at, n);
	}
	for (uint64_t behind = len; behind < UINT64_MAX / 2; behind = behind * 3 + 1) {
		assert_int_equal(access_read(a, behind, &piece, &n, NULL), 0);
		assert_int_equal(n, 0);
	}
	assert_int_equal(access_read(a, UINT64_MAX - 1, &piece, &n, NULL), 0);
	assert_int_equal(n, 0);
	assert_int_equal(access_length(a, &length, NULL), 0);
	assert_int_equal(length, len);
	access_free(a);
}

static void
there_and_back(size_t len, uint32_t block_size, unsigned level)
{
	static const unsigned windows[] = { 1, 2, 7, 64 };
	struct bed bed = { 0 };
	struct eris_cap cap = bed_encode(&bed, noise, len, block_size, noise + 77, 12345, NULL);

	if (cap.level != level)
		fail_msg("%zu bytes: level %u, not %u", len, cap.level, level);
	for (unsigned i = 0; i < 8; i++) {
		struct bed_run r = { .window = windows[i % 4], .ahead = i % 3, .batch = 1 + i, .seed = i,
			.max_length = len };

		if (bed_decode(&bed, &cap, noise, len, &r) != 0)
			fail_msg("%zu bytes, window %u, ahead %u: %s", len, r.window, r.ahead, r.why);
		assert_int_equal(r.asked, bed.emitted);
	}
	read_anywhere(&bed, &cap, noise, len);
	bed_free(&bed);
}

static void
test_sizes(void **state)
{
	const uint32_t s = ERIS_SMALL, l = ERIS_LARGE;

	(void)state;
	there_and_back(0, s, 0);
	there_and_back(1, s, 0);
	there_and_back(s - 1, s, 0);
	there_and_back(s, s, 1);
	there_and_back(s + 1, s, 1);
	/* Sixteen leaves are one full node; seventeen need one more level. */
	there_and_back(16 * s - 1, s, 1);
	there_and_back(16 * s, s, 2);
	there_and_back(17 * s - 1, s, 2);
	there_and_back(256 * s - 1, s, 2);
	there_and_back(256 * s, s, 3);
	there_and_back(257 * s, s, 3);
	there_and_back(0, l, 0);
	there_and_back(l - 1, l, 0);
	there_and_back(l, l, 1);
	there_and_back(9 * l + 5, l, 1);
}

/* More than the first node of large blocks: 512 leaves are 16 MiB. */
static void
test_large_tree(void **state)
{
	size_t len = 600ul * ERIS_LARGE;
	struct pool *pool = pool_new(2, NULL);
	uint8_t *data = malloc(len);
	struct bed_run r = { .window = 100, .ahead = 1, .batch = 33, .seed = 3, .max_length = len };
	struct bed bed = { 0 };
	struct eris_cap cap;

	(void)state;
	assert_non_null(data);
	assert_non_null(pool);
	r.pool = pool;
	randombytes_buf_deterministic(data, len, noise);
	cap = bed_encode(&bed, data, len, ERIS_LARGE, NULL, len, pool);
	assert_int_equal(cap.level, 2);
	assert_int_equal(bed.emitted, 601 + 2 + 1);
	assert_int_equal(bed_decode(&bed, &cap, data, len, &r), 0);
	assert_true(r.most <= 100 + 2);
	read_anywhere(&bed, &cap, data, len);
	bed_free(&bed);
	pool_free(pool);
	free(data);
}

static void
test_threads(void **state)
{
	static const size_t lens[] = { 0, 1000, 131071, 131072, 1u << 20, MOST };

	(void)state;
	for (unsigned i = 0; i < 2 * sizeof(lens) / sizeof(lens[0]); i++) {
		uint32_t block_size = i % 2 ? ERIS_SMALL : ERIS_LARGE;
		struct encode_options o = { .block_size = block_size };
		struct eris_cap cap, first;

		for (unsigned threads = 0; threads <= 4; threads++) {
			struct encode *c;

			o.pool = threads == 0 ? NULL : pool_new(threads, NULL);
			c = encode_new(&o, NULL);
			assert_non_null(c);
			assert_int_equal(encode_put(c, noise, lens[i / 2], NULL), 0);
			assert_int_equal(encode_end(c, &cap, NULL), 0);
			if (threads == 0)
				first = cap;
			assert_int_equal(cap.level, first.level);
			assert_memory_equal(&cap.root, &first.root, sizeof(cap.root));
			encode_free(c);
			pool_free(o.pool);
		}
	}
	assert_null(pool_new(0, NULL));
	assert_null(pool_new(POOL_MAX + 1, NULL));
}

/* An encoder that is thrown away in the middle, with work under way; and one whose sink fails. */
static int
refuse(void *ctx, const struct encode_block *b, struct err *e)
{
	(void)ctx;
	return b->offset > 500000 ? err_set(e, "full") : 0;
}

static void
test_encoder_stops(void **state)
{
	struct encode_options o = { .block_size = ERIS_SMALL, .sink = refuse };
	struct eris_cap cap;
	struct err e = { 0 };
	struct encode *c;

	(void)state;
	for (unsigned threads = 1; threads <= 2; threads++) {
		o.pool = threads == 1 ? NULL : pool_new(2, NULL);
		c = encode_new(&o, NULL);
		assert_int_equal(encode_put(c, noise, 400000, &e), 0);
		encode_free(c);
		c = encode_new(&o, NULL);
		if (encode_put(c, noise, MOST, &e) == 0)
			assert_int_equal(encode_end(c, &cap, &e), -1);
		assert_string_equal(e.text, "full");
		assert_int_equal(encode_end(c, &cap, &e), -1);
		encode_free(c);
		pool_free(o.pool);
	}
	encode_free(NULL);
	decode_free(NULL);
	access_free(NULL);
	pool_free(NULL);
}

/* --- Order and window
 * ------------------------------------------------------------------------------------ */

static void
give_one(struct decode *d, const struct bed *bed, const uint8_t *ref, enum decode_verdict expected)
{
	const struct bed_block *b = bed_find(bed, ref);
	struct decode_given g = { .ref = ref };

	assert_non_null(b);
	g.block = b->data;
	g.len = b->len;
	assert_int_equal(decode_give(d, &g, 1, NULL), 0);
	assert_int_equal(g.verdict, expected);
}

/* With nothing asked ahead, blocks are wanted in the very order of the tree: a node, then what is beneath
 * it. */
static void
test_depth_first(void **state)
{
	size_t len = 700 * ERIS_SMALL + 3, total = 0;
	struct bed bed = { 0 };
	const struct decode_options o = { bed_encode(&bed, noise, len, ERIS_SMALL, NULL, len, NULL), len, 5, 0, NULL };
	struct decode *d = decode_new(&o, NULL);
	uint64_t offset = 0;
	const uint8_t *data;
	struct decode_want w;
	unsigned level = o.cap.level + 1u;
	size_t n;

	(void)state;
	assert_non_null(d);
	while (!decode_done(d)) {
		while (decode_want(d, &w, NULL) == 1) {
			assert_true(w.offset > offset || (w.offset == offset && w.level < level));
			assert_int_equal(w.last, w.offset + eris_span(ERIS_SMALL, w.level) > len);
			offset = w.offset;
			level = w.level;
			assert_int_equal(decode_wanted(d, w.ref), 1);
			give_one(d, &bed, w.ref, DECODE_TAKEN);
			assert_int_equal(decode_wanted(d, w.ref), 0);
			give_one(d, &bed, w.ref, DECODE_SPARE);
		}
		assert_int_equal(decode_position(d), total);
		assert_int_equal(decode_read(d, &data, &n, NULL), 1);
		total += n;
	}
	assert_int_equal(total, len);
	assert_int_equal(decode_read(d, &data, &n, NULL), 0);
	assert_int_equal(decode_want(d, &w, NULL), 0);
	decode_free(d);
	bed_free(&bed);
}

/* The first leaf is late: no more is wanted than fits, and all of it comes out when it comes. */
static void
test_window(void **state)
{
	size_t len = 300 * ERIS_SMALL;
	struct bed bed = { 0 };
	const struct decode_options o = { bed_encode(&bed, noise, len, ERIS_SMALL, NULL, len, NULL), len, 50, 4, NULL };
	struct decode *d = decode_new(&o, NULL);
	uint8_t late[ERIS_REF] = { 0 };
	const uint8_t *data;
	struct decode_want w;
	unsigned leaves = 0, have = 0;
	size_t n;

	(void)state;
	assert_non_null(d);
	while (decode_want(d, &w, NULL) == 1) {
		leaves += w.level == 0;
		if (w.level == 0 && w.offset == 0 && !have) {
			memcpy(late, w.ref, sizeof(late));
			have = 1;
		} else {
			give_one(d, &bed, w.ref, DECODE_TAKEN);
		}
		assert_int_equal(decode_read(d, &data, &n, NULL), 0);
	}
	assert_int_equal(leaves, 50);
	give_one(d, &bed, late, DECODE_TAKEN);
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(decode_read(d, &data, &n, NULL), 1);
		assert_memory_equal(data, noise + (size_t)i * ERIS_SMALL, ERIS_SMALL);
	}
	assert_int_equal(decode_read(d, &data, &n, NULL), 0);
	assert_int_equal(decode_want(d, &w, NULL), 1);
	decode_free(d); /* in the middle */
	bed_free(&bed);
}

/* Content of equal blocks: each is asked for once. */
static void
test_repeats(void **state)
{
	size_t len = 3000 * ERIS_SMALL;
	uint8_t *zeros = calloc(1, len);

	(void)state;
	assert_non_null(zeros);
	for (unsigned seed = 0; seed < 5; seed++) {
		struct bed bed = { 0 };
		struct eris_cap cap = bed_encode(&bed, zeros, len, ERIS_SMALL, NULL, len, NULL);
		struct bed_run r = { .window = 40, .ahead = 3, .batch = 8, .seed = seed, .max_length = len };

		assert_int_equal(bed_decode(&bed, &cap, zeros, len, &r), 0);
		assert_int_equal(r.asked, bed.n);
		assert_int_equal(r.asked, bed.n);
		assert_true(bed.n < 20 && bed.emitted > 3000);
		bed_free(&bed);
	}
	free(zeros);
}

/* --- What is refused
 * --------------------------------------------------------------------------------------- */

static void
test_bad_blocks(void **state)
{
	struct bed bed = { 0 };
	size_t len = 5 * ERIS_SMALL;
	const struct decode_options o = { bed_encode(&bed, noise, len, ERIS_SMALL, NULL, len, NULL), len, 8, 1, NULL };
	struct decode *d = decode_new(&o, NULL);
	uint8_t bad[2 * ERIS_SMALL];
	struct decode_given g[8];
	struct decode_want w[8];
	const struct bed_block *b;
	unsigned n = 0;

	(void)state;
	assert_int_equal(decode_want(d, &w[0], NULL), 1);
	assert_int_equal(decode_want(d, &w[1], NULL), 0);
	give_one(d, &bed, w[0].ref, DECODE_TAKEN);
	while (decode_want(d, &w[n], NULL) == 1)
		n++;
	assert_int_equal(n, 6);
	b = bed_find(&bed, w[2].ref);
	memcpy(bad, b->data, ERIS_SMALL);
	memset(bad + ERIS_SMALL, 0, ERIS_SMALL);
	bad[500] ^= 1;
	/* A liar before and behind an honest source, three who give the wrong size, one who gives what
	 * nobody wants. */
	g[0] = (struct decode_given){ .ref = w[2].ref, .block = bad, .len = ERIS_SMALL };
	g[1] = (struct decode_given){ .ref = w[2].ref, .block = b->data, .len = ERIS_SMALL };
	g[2] = (struct decode_given){ .ref = w[2].ref, .block = bad, .len = ERIS_SMALL };
	g[3] = (struct decode_given){ .ref = w[3].ref, .block = bad, .len = 0 };
	g[4] = (struct decode_given){ .ref = w[3].ref, .block = bad, .len = ERIS_SMALL - 1 };
	g[5] = (struct decode_given){ .ref = w[3].ref, .block = bad, .len = 2 * ERIS_SMALL };
	g[6] = (struct decode_given){ .ref = noise, .block = bad, .len = ERIS_SMALL };
	g[7] = (struct decode_given){ .ref = w[4].ref, .block = b->data, .len = ERIS_SMALL };
	assert_int_equal(decode_give(d, g, 8, NULL), 0);
	assert_int_equal(g[0].verdict, DECODE_WRONG);
	assert_string_equal(g[0].why, "its hash is another one");
	assert_int_equal(g[1].verdict, DECODE_TAKEN);
	assert_null(g[1].why);
	assert_int_equal(g[2].verdict, DECODE_WRONG);
	assert_string_equal(g[3].why, "it is too short");
	assert_string_equal(g[4].why, "it is too short");
	assert_string_equal(g[5].why, "it is too long");
	assert_int_equal(g[6].verdict, DECODE_SPARE);
	assert_int_equal(g[7].verdict, DECODE_WRONG);
	/* None of that hurts. */
	assert_int_equal(decode_wanted(d, w[2].ref), 0);
	assert_int_equal(decode_wanted(d, w[3].ref), 1);
	assert_int_equal(decode_wanted(d, w[4].ref), 1);
	for (unsigned i = 0; i < n; i++)
		give_one(d, &bed, w[i].ref, i == 2 ? DECODE_SPARE : DECODE_TAKEN);
	for (size_t at = 0, piece; at < len; at += piece) {
		const uint8_t *data;

		assert_int_equal(decode_read(d, &data, &piece, NULL), 1);
		assert_memory_equal(data, noise + at, piece);
	}
	decode_free(d);
	bed_free(&bed);
}

/* Four leaves in one call, in all ways in which some have a reference that is known and some are other blocks: only
 * those with one that is not known are looked at. */
static void
test_known(void **state)
{
	struct bed bed = { 0 };
	size_t len = 4 * ERIS_SMALL - 9;
	const struct decode_options o = { bed_encode(&bed, noise, len, ERIS_SMALL, NULL, len, NULL), len, 8, 1, NULL };
	uint8_t bad[ERIS_SMALL] = { 0 };

	(void)state;
	for (unsigned way = 0; way < 256; way++) {
		unsigned known = way & 15, wrong = way >> 4;
		struct decode *d = decode_new(&o, NULL);
		struct decode_given g[4];
		struct decode_want w[4];
		const uint8_t *data;
		size_t piece;

		assert_int_equal(decode_want(d, &w[0], NULL), 1);
		give_one(d, &bed, w[0].ref, DECODE_TAKEN);
		for (unsigned i = 0; i < 4; i++) {
			assert_int_equal(decode_want(d, &w[i], NULL), 1);
			g[i] = (struct decode_given){ .ref = w[i].ref, .known = known >> i & 1, .len = ERIS_SMALL,
				.block = wrong >> i & 1 ? bad : bed_find(&bed, w[i].ref)->data };
		}
		g[way % 4].len -= way / 4 % 2;
		assert_int_equal(decode_give(d, g, 4, NULL), 0);
		for (unsigned i = 0; i < 4; i++) {
			int cut = i == way % 4 && way / 4 % 2, taken = !cut && (known >> i & 1 || !(wrong >> i & 1));

			assert_int_equal(g[i].verdict, taken ? DECODE_TAKEN : DECODE_WRONG);
			if (!taken)
				assert_string_equal(g[i].why, cut ? "it is too short" : "its hash is another one");
			assert_int_equal(decode_wanted(d, w[i].ref), !taken);
		}
		/* As far as it was taken and is right, it comes out. */
		for (unsigned i = 0; i < 4 && g[i].verdict == DECODE_TAKEN && !(wrong >> i & 1); i++) {
			assert_int_equal(decode_read(d, &data, &piece, NULL), 1);
			assert_memory_equal(data, noise + i * ERIS_SMALL, piece);
		}
		decode_free(d);
	}
	bed_free(&bed);
}

/* References of blocks that stand one behind the other. */
static void
test_refs(void **state)
{
	uint8_t refs[5][ERIS_REF], canary[ERIS_REF];

	(void)state;
	memset(canary, 0xa5, sizeof canary);
	for (uint32_t size = ERIS_SMALL; size <= ERIS_LARGE; size *= ERIS_LARGE / ERIS_SMALL)
		for (unsigned n = 1; n <= 4; n++)
			for (unsigned at = 0; at < 3; at++) {
				memset(refs, 0xa5, sizeof refs);
				block_refs(refs, noise + at, n, size);
				for (unsigned i = 0; i < n; i++)
					assert_null(block_verify(refs[i], noise + at + i * size, size, size));
				assert_memory_equal(refs[n], canary, sizeof canary);
			}
}

/* A tree made by hand: PLAIN becomes a block of LEVEL, in BED. */
static struct eris_pair
make_block(struct bed *bed, const uint8_t *plain, unsigned level)
{
	uint8_t block[ERIS_SMALL];
	struct eris_pair pair;

	memcpy(block, plain, sizeof(block));
	if (level == 0)
		block_seal_leaves(block, 1, ERIS_SMALL, block_null_secret, &pair);
	else
		block_seal_node(block, ERIS_SMALL, level, &pair);
	bed_put(bed, pair.ref, block, sizeof(block));
	return pair;
}

static struct eris_pair
make_node(struct bed *bed, const struct eris_pair *pairs, unsigned n, unsigned level)
{
	uint8_t plain[ERIS_SMALL] = { 0 };

	memcpy(plain, pairs, n * sizeof(*pairs));
	return make_block(bed, plain, level);
}

static void
breaks(const struct bed *bed, struct eris_pair root, unsigned level, const char *why)
{
	struct eris_cap cap = { ERIS_SMALL, (uint8_t)level, root };
	struct bed_run r = BED_RUN;
	struct access *a = access_new(&cap, bed_get, (void *)(uintptr_t)bed, NULL);
	const uint8_t *data;
	uint64_t at = 0;
	size_t n;
	int rc;

	assert_int_equal(bed_decode(bed, &cap, noise, MOST, &r), -1);
	if (strstr(r.why, why) == NULL)
		fail_msg("`%s', not `%s'", r.why, why);
	assert_non_null(a);
	while ((rc = access_read(a, at, &data, &n, NULL)) == 0 && n > 0)
		at += n;
	assert_int_equal(rc, -1);
	access_free(a);
}

static void
test_bad_trees(void **state)
{
	uint8_t plain[ERIS_SMALL] = { 0 };
	struct eris_pair leaf[20], node[3], last;
	struct bed bed = { 0 };

	(void)state;
	for (unsigned i = 0; i < 20; i++)
		leaf[i] = make_block(&bed, noise + i * ERIS_SMALL, 0);
	memcpy(plain, noise, 100);
	plain[100] = 0x80;
	last = make_block(&bed, plain, 0);
	/* Nothing in a node. */
	breaks(&bed, make_node(&bed, leaf, 0, 1), 1, "empty");
	/* One child: a taller tree than its content needs. */
	breaks(&bed, make_node(&bed, &last, 1, 1), 1, "one child");
	/* A hole. */
	memset(plain, 0, sizeof(plain));
	memcpy(plain, &leaf[0], ERIS_PAIR);
	memcpy(plain + 2 * ERIS_PAIR, &leaf[1], ERIS_PAIR);
	breaks(&bed, make_block(&bed, plain, 1), 1, "behind its last pair");
	/* A null reference with a key, the very last byte, and a key where the hole begins. */
	memset(plain, 0, sizeof(plain));
	memcpy(plain, leaf, 2 * ERIS_PAIR);
	plain[2 * ERIS_PAIR + ERIS_REF] = 1;
	breaks(&bed, make_block(&bed, plain, 1), 1, "behind its last pair");
	plain[2 * ERIS_PAIR + ERIS_REF] = 0;
	plain[ERIS_SMALL - 1] = 1;
	breaks(&bed, make_block(&bed, plain, 1), 1, "behind its last pair");
	/* The last leaf has no padding. */
	breaks(&bed, make_node(&bed, leaf, 2, 1), 1, "padding");
	breaks(&bed, leaf[0], 0, "padding");
	/* A node that is not full in the middle. */
	node[0] = make_node(&bed, leaf, 3, 1);
	node[1] = make_node(&bed, &last, 1, 1);
	breaks(&bed, make_node(&bed, node, 2, 2), 2, "not full");
	/* A node or a leaf where another level belongs: what comes out of it are pairs that nobody has
	 * blocks for. */
	node[0] = make_node(&bed, leaf, 16, 2);
	breaks(&bed, make_node(&bed, node, 2, 2), 2, "missing");
	breaks(&bed, make_node(&bed, leaf, 2, 2), 2, "missing");
	/* The right tree comes out. */
	node[0] = make_node(&bed, leaf, 16, 1);
	node[1] = make_node(&bed, &last, 1, 1);
	{
		struct eris_cap cap = { ERIS_SMALL, 2, make_node(&bed, node, 2, 2) };
		struct bed_run r = BED_RUN;

		memcpy(noise + 16 * ERIS_SMALL, noise, 100);
		assert_int_equal(bed_decode(&bed, &cap, noise, 16 * ERIS_SMALL + 100, &r), 0);
		/* The root's own key matters, too. */
		cap.root.key[0] ^= 1;
		breaks(&bed, cap.root, 2, "the key of the read capability");
	}
	bed_free(&bed);
}

/* One block under two keys, which nobody but an attacker makes: it is fetched once, and comes out twice,
 * differently. */
static void
test_two_keys(void **state)
{
	uint8_t plain[ERIS_SMALL] = { 0x80 }, content[2 * ERIS_SMALL];
	struct bed bed = { 0 };
	struct eris_pair pair[3];
	struct eris_cap cap = { ERIS_SMALL, 1, { { 0 }, { 0 } } };
	struct bed_run r = BED_RUN;

	(void)state;
	pair[0] = pair[1] = make_block(&bed, noise + ERIS_SMALL, 0);
	pair[1].key[5] ^= 0x10;
	pair[2] = make_block(&bed, plain, 0);
	memcpy(content, noise + ERIS_SMALL, ERIS_SMALL);
	block_open(content + ERIS_SMALL, bed_find(&bed, pair[1].ref)->data, ERIS_SMALL, 0, pair[1].key);
	cap.root = make_node(&bed, pair, 3, 1);
	assert_int_equal(bed_decode(&bed, &cap, content, sizeof(content), &r), 0);
	assert_int_equal(r.asked, 3);
	bed_free(&bed);
}

/* It begins within the limit, and is too long all the same. */
static void
test_limit_in_last_block(void)
{
	size_t len = 40 * ERIS_SMALL + 500;
	struct bed bed = { 0 };
	struct eris_cap cap = bed_encode(&bed, noise, len, ERIS_SMALL, NULL, len, NULL);
	struct bed_run r = BED_RUN;

	r.max_length = len;
	assert_int_equal(bed_decode(&bed, &cap, noise, len, &r), 0);
	r.max_length = len - 1;
	assert_int_equal(bed_decode(&bed, &cap, noise, len, &r), -1);
	assert_non_null(strstr(r.why, "longer than 41459 bytes"));
	bed_free(&bed);
}

static void
test_limits(void **state)
{
	size_t len = 40 * ERIS_SMALL;
	struct bed bed = { 0 };
	struct eris_cap cap = bed_encode(&bed, noise, len, ERIS_SMALL, NULL, len, NULL);
	struct decode_options o = { cap, len, 8, 1, NULL };
	struct bed_run r = BED_RUN;

	(void)state;
	r.max_length = len;
	assert_int_equal(bed_decode(&bed, &cap, noise, len, &r), 0);
	r.max_length = len - 1;
	assert_int_equal(bed_decode(&bed, &cap, noise, len, &r), -1);
	assert_non_null(strstr(r.why, "longer than 40959 bytes"));
	r.max_length = 0;
	assert_int_equal(bed_decode(&bed, &cap, noise, len, &r), -1);
	test_limit_in_last_block();
	o.window = 0;
	assert_null(decode_new(&o, NULL));
	o.window = DECODE_WINDOW_MAX + 1;
	assert_null(decode_new(&o, NULL));
	o.window = 1;
	o.ahead = DECODE_AHEAD_MAX + 1;
	assert_null(decode_new(&o, NULL));
	o.ahead = 0;
	o.cap.level = ERIS_LEVEL_SMALL + 1;
	assert_null(decode_new(&o, NULL));
	bed_free(&bed);
}

/* A leaf that is rebuilt from a piece of the file is the block that the encoder made. */
static void
test_repair(void **state)
{
	static const size_t lens[] = { 0, 1, 3 * ERIS_LARGE, 3 * ERIS_LARGE + 700 };

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		uint8_t *block = malloc(ERIS_LARGE);
		struct bed bed = { 0 };
		struct eris_pair pair;

		assert_non_null(block);
		bed_encode(&bed, noise, lens[i], ERIS_LARGE, NULL, 999, NULL);
		for (size_t at = 0; at <= lens[i]; at += ERIS_LARGE) {
			size_t n = lens[i] - at < ERIS_LARGE ? lens[i] - at : ERIS_LARGE;
			const struct bed_block *b;

			block_leaf(block, &pair, noise + at, n, ERIS_LARGE);
			b = bed_find(&bed, pair.ref);
			assert_non_null(b);
			assert_memory_equal(b->data, block, ERIS_LARGE);
		}
		free(block);
		bed_free(&bed);
	}
}

static void
test_verify(void **state)
{
	struct eris_pair pair[5];
	uint8_t *blocks = malloc(5 * ERIS_SMALL);
	const uint8_t *refs[4], *in[4];
	int good[4];

	(void)state;
	assert_non_null(blocks);
	memcpy(blocks, noise, 5 * ERIS_SMALL);
	block_seal_leaves(blocks, 5, ERIS_SMALL, noise, pair);
	for (unsigned n = 1; n <= 4; n++)
		for (unsigned wrong = 0; wrong <= n; wrong++) {
			for (unsigned i = 0; i < n; i++) {
				refs[i] = i == wrong ? pair[4].ref : pair[i].ref;
				in[i] = blocks + (size_t)i * ERIS_SMALL;
			}
			block_verify_some(good, refs, in, n, ERIS_SMALL);
			for (unsigned i = 0; i < n; i++)
				assert_int_equal(good[i], i != wrong);
		}
	free(blocks);
}

/* Leaves that are sealed together are what they are alone, however many there are; what stands behind them stays. */
static void
test_together(void **state)
{
	enum { LEAVES = 9 };
	uint8_t *some = malloc((LEAVES + 1) * ERIS_SMALL), one[ERIS_SMALL];
	struct eris_pair pairs[LEAVES], pair;

	(void)state;
	assert_non_null(some);
	for (size_t n = 0; n <= LEAVES; n++) {
		memcpy(some, noise, (LEAVES + 1) * ERIS_SMALL);
		block_seal_leaves(some, n, ERIS_SMALL, noise, pairs);
		for (size_t i = 0; i < n; i++) {
			memcpy(one, noise + i * ERIS_SMALL, ERIS_SMALL);
			block_seal_leaves(one, 1, ERIS_SMALL, noise, &pair);
			assert_memory_equal(some + i * ERIS_SMALL, one, ERIS_SMALL);
			assert_memory_equal(&pairs[i], &pair, sizeof pair);
		}
		assert_memory_equal(some + n * ERIS_SMALL, noise + n * ERIS_SMALL, (LEAVES + 1 - n) * ERIS_SMALL);
	}
	free(some);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hash),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_large_tree),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_encoder_stops),
		cmocka_unit_test(test_depth_first),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_repeats),
		cmocka_unit_test(test_together),
		cmocka_unit_test(test_bad_blocks),
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_refs),
		cmocka_unit_test(test_two_keys),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_repair),
		cmocka_unit_test(test_verify),
		cmocka_unit_test(test_bad_trees), /* the last: it changes the noise */
	};
	const uint8_t seed[randombytes_SEEDBYTES] = { 9 };
	int failed;

	if (block_init(NULL) != 0 || (noise = malloc(MOST)) == NULL)
		return 1;
	randombytes_buf_deterministic(noise, MOST, seed);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	free(noise);
	return failed;
}
