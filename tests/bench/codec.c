/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: how fast blocks are hashed, encoded and decoded, against what libsodium's own BLAKE2b and ChaCha20 take for the
 * same bytes.    codec [MIB [RUNS]]
 *
 * Everything is in memory.  The ways run in alternation, and the figures are medians.  It measures; it never fails by
 * time, only when the content that comes out is not the one that went in.
 *
 * Linked with --wrap=blake2b4, so that encoder and decoder can be made to do without AVX2. */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "helper/eris/blake2b4.h"
#include "helper/eris/block.h"
#include "helper/eris/decode.h"
#include "helper/eris/encode.h"

#define MAX_RUNS 25
#define BATCH 64
#define WINDOW 256

void __real_blake2b4(uint8_t out[4][32], const uint8_t *const in[4], size_t len, const uint8_t *key);
void __wrap_blake2b4(uint8_t out[4][32], const uint8_t *const in[4], size_t len, const uint8_t *key);

static int portable; /* threads only read it */

void
__wrap_blake2b4(uint8_t out[4][32], const uint8_t *const in[4], size_t len, const uint8_t *key)
{
	if (portable)
		blake2b4_portable(out, in, len, key);
	else
		__real_blake2b4(out, in, len, key);
}

struct bench {
	size_t size, nblocks, room, mask;
	uint8_t *content, *scratch;
	uint8_t *blocks;         /* encrypted, as they came out of the encoder */
	struct eris_pair *pairs; /* of them */
	uint32_t *table;         /* open addressing: reference to number, + 1 */
	struct eris_cap cap;
	struct pool *two;
};

static void
die(const char *what)
{
	fprintf(stderr, "codec: %s\n", what);
	exit(1);
}

static void *
need(size_t n)
{
	void *p = malloc(n);

	if (p == NULL)
		die("no memory");
	return p;
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* --- The blocks --------------------------------------------------------------------------------------------- */

static uint32_t *
place(const struct bench *b, const uint8_t *ref)
{
	size_t at;

	memcpy(&at, ref, sizeof at);
	for (at &= b->mask; b->table[at] != 0 && memcmp(b->pairs[b->table[at] - 1].ref, ref, ERIS_REF) != 0;)
		at = (at + 1) & b->mask;
	return &b->table[at];
}

static int
keep(void *ctx, const struct encode_block *e, struct err *err)
{
	struct bench *b = ctx;

	if (b->nblocks == b->room)
		return err_set(err, "more blocks than there can be");
	memcpy(b->blocks + b->nblocks * ERIS_LARGE, e->data, ERIS_LARGE);
	b->pairs[b->nblocks] = *e->pair;
	*place(b, e->pair->ref) = (uint32_t)++b->nblocks;
	return 0;
}

static void
encode(struct bench *b, encode_sink sink, struct pool *pool, struct eris_cap *cap)
{
	struct encode_options o = { ERIS_LARGE, NULL, sink, b, pool };
	struct err e;
	struct encode *c = encode_new(&o, &e);
	size_t room;

	if (c == NULL)
		die(e.text);
	for (size_t at = 0; at < b->size; at += room) {
		uint8_t *to = encode_room(c, &room);

		if (room > b->size - at)
			room = b->size - at;
		memcpy(to, b->content + at, room);
		if (encode_add(c, room, &e) != 0)
			die(e.text);
	}
	if (encode_end(c, cap, &e) != 0)
		die(e.text);
	encode_free(c);
}

static void
decode(struct bench *b, struct pool *pool, int check)
{
	struct decode_options o = { b->cap, b->size, WINDOW, 1, pool };
	struct decode_given given[BATCH];
	struct decode_want w[BATCH];
	struct err e;
	struct decode *d = decode_new(&o, &e);
	size_t at = 0, len;
	const uint8_t *data;

	if (d == NULL)
		die(e.text);
	while (!decode_done(d)) {
		size_t n = 0;
		int rc;

		while (n < BATCH && (rc = decode_want(d, &w[n], &e)) == 1) {
			uint32_t number = *place(b, w[n].ref);

			if (number == 0)
				die("a block is wanted that is not there");
			given[n] = (struct decode_given){ .ref = w[n].ref,
			    .block = b->blocks + (size_t)(number - 1) * ERIS_LARGE, .len = ERIS_LARGE };
			n++;
		}
		if (n > 0 && decode_give(d, given, n, &e) != 0)
			die(e.text);
		while ((rc = decode_read(d, &data, &len, &e)) == 1) {
			if (check && (len > b->size - at || memcmp(data, b->content + at, len) != 0))
				die("what was decoded is another content");
			at += len;
		}
		if (rc < 0)
			die(e.text);
	}
	if (at != b->size)
		die("the content is too short");
	decode_free(d);
}

/* --- What is measured ------------------------------------------------------------------------------------------- */

static void
hash_sodium(struct bench *b)
{
	uint8_t out[32];

	for (size_t at = 0; at < b->size; at += ERIS_LARGE)
		crypto_generichash_blake2b(out, 32, b->content + at, ERIS_LARGE, NULL, 0);
}

static void
hash_four(struct bench *b)
{
	uint8_t out[4][32];

	for (size_t at = 0; at + 4 * ERIS_LARGE <= b->size; at += 4 * ERIS_LARGE) {
		const uint8_t *in[4];

		for (size_t i = 0; i < 4; i++)
			in[i] = b->content + at + i * ERIS_LARGE;
		__wrap_blake2b4(out, in, ERIS_LARGE, NULL);
	}
}

static void
cipher_sodium(struct bench *b)
{
	static const uint8_t nonce[12], key[32] = { 1 };

	for (size_t at = 0; at < b->size; at += ERIS_LARGE)
		crypto_stream_chacha20_ietf_xor(b->scratch, b->content + at, ERIS_LARGE, nonce, key);
}

/* A leaf costs two hashes and one pass of the cipher. */
static void
encode_sodium(struct bench *b)
{
	static const uint8_t nonce[12];
	uint8_t key[32], ref[32];

	for (size_t at = 0; at < b->size; at += ERIS_LARGE) {
		crypto_generichash_blake2b(key, 32, b->content + at, ERIS_LARGE, block_null_secret, ERIS_KEY);
		crypto_stream_chacha20_ietf_xor(b->scratch, b->content + at, ERIS_LARGE, nonce, key);
		crypto_generichash_blake2b(ref, 32, b->scratch, ERIS_LARGE, NULL, 0);
	}
}

/* To check and open it, one of each. */
static void
decode_sodium(struct bench *b)
{
	static const uint8_t nonce[12];
	uint8_t ref[32];

	for (size_t i = 0; i < b->size / ERIS_LARGE; i++) {
		crypto_generichash_blake2b(ref, 32, b->blocks + i * ERIS_LARGE, ERIS_LARGE, NULL, 0);
		if (memcmp(ref, b->pairs[i].ref, 32) != 0)
			die("a block has changed");
		crypto_stream_chacha20_ietf_xor(b->scratch, b->blocks + i * ERIS_LARGE, ERIS_LARGE, nonce, b->pairs[i].key);
	}
}

static void
encode_one(struct bench *b)
{
	struct eris_cap cap;

	encode(b, NULL, NULL, &cap);
	if (memcmp(&cap.root, &b->cap.root, sizeof cap.root) != 0)
		die("another capability for the same content");
}

static void
encode_two(struct bench *b)
{
	struct eris_cap cap;

	encode(b, NULL, b->two, &cap);
	if (memcmp(&cap.root, &b->cap.root, sizeof cap.root) != 0)
		die("another capability for the same content");
}

static void
decode_one(struct bench *b)
{
	decode(b, NULL, 0);
}

static void
decode_two(struct bench *b)
{
	decode(b, b->two, 0);
}

/* AGAINST: number of the row it is compared with, itself: none. */
static const struct row {
	const char *name;
	void (*run)(struct bench *b);
	int portable, against;
	double aim;
} rows[] = {
	{ "BLAKE2b, libsodium", hash_sodium, 1, 0, 0 },
	{ "BLAKE2b, four at once, portable", hash_four, 1, 0, 0 },
	{ "BLAKE2b, four at once, AVX2", hash_four, 0, 0, 1.5 },
	{ "ChaCha20, libsodium", cipher_sodium, 1, 3, 0 },
	{ "encode: libsodium's calls alone", encode_sodium, 1, 4, 0 },
	{ "encode, 1 thread, portable", encode_one, 1, 4, .9 },
	{ "encode, 1 thread, AVX2", encode_one, 0, 4, .9 },
	{ "encode, 2 threads, AVX2", encode_two, 0, 6, 0 },
	{ "encode, 2 threads, portable", encode_two, 1, 5, 0 },
	{ "decode: libsodium's calls alone", decode_sodium, 1, 9, 0 },
	{ "decode, 1 thread, portable", decode_one, 1, 9, .9 },
	{ "decode, 1 thread, AVX2", decode_one, 0, 9, .9 },
	{ "decode, 2 threads, AVX2", decode_two, 0, 11, 0 },
	{ "decode, 2 threads, portable", decode_two, 1, 10, 0 },
};
#define ROWS (sizeof rows / sizeof rows[0])

static int
by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double
median(const double *from, size_t n)
{
	double v[MAX_RUNS];

	memcpy(v, from, n * sizeof *v);
	qsort(v, n, sizeof *v, by_size);
	return n % 2 == 1 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static void
print(const struct bench *b, double times[ROWS][MAX_RUNS], size_t runs, int avx2)
{
	printf("| ERIS, %zu MiB in blocks of 32 KiB | MB/s | ratio | to | aim |\n|---|---|---|---|---|\n", b->size >> 20);
	for (size_t r = 0; r < ROWS; r++) {
		double ratios[MAX_RUNS], ratio;

		if (!avx2 && !rows[r].portable)
			continue;
		for (size_t i = 0; i < runs; i++)
			ratios[i] = times[rows[r].against][i] / times[r][i];
		ratio = median(ratios, runs);
		printf("| %s | %.0f |", rows[r].name, (double)b->size / 1e6 / median(times[r], runs));
		if ((size_t)rows[r].against == r)
			printf(" | | |\n");
		else if (rows[r].aim > 0)
			printf(" %.2f | %s | >= %.2f %s |\n", ratio, rows[rows[r].against].name, rows[r].aim,
			    ratio >= rows[r].aim ? "met" : "missed");
		else
			printf(" %.2f | %s | |\n", ratio, rows[rows[r].against].name);
	}
}

static void
prepare(struct bench *b, size_t mib)
{
	struct err e;

	b->size = mib << 20;
	b->room = b->size / ERIS_LARGE + b->size / ERIS_LARGE / 500 + 8;
	for (b->mask = 1; b->mask < 2 * b->room; b->mask *= 2)
		;
	b->content = need(b->size);
	b->scratch = need(ERIS_LARGE);
	b->blocks = need(b->room * ERIS_LARGE);
	b->pairs = need(b->room * sizeof *b->pairs);
	b->table = calloc(b->mask--, sizeof *b->table);
	if (b->table == NULL || block_init(&e) != 0 || (b->two = pool_new(2, &e)) == NULL)
		die("no memory");
	randombytes_buf(b->content, b->size);
	encode(b, keep, NULL, &b->cap);
	decode(b, NULL, 1);
	decode(b, b->two, 1);
}

int
main(int argc, char **argv)
{
	static double times[ROWS][MAX_RUNS];
	static struct bench b;
	size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 64, runs = argc > 2 ? strtoul(argv[2], NULL, 10) : 7;
	uint8_t four[4][32];
	const uint8_t *in[4];
	int avx2;

	if (argc > 3 || mib < 1 || mib > 1024 || runs < 1 || runs > MAX_RUNS) {
		fputs("Usage: codec [MIB [RUNS]]\n", stderr);
		return 2;
	}
	prepare(&b, mib);
	for (int i = 0; i < 4; i++)
		in[i] = b.content;
	avx2 = blake2b4_avx2(four, in, 64, NULL) == 0;
	if (!avx2)
		printf("SKIP AVX2: this processor has none\n");
	for (size_t i = 0; i < runs; i++) {
		for (size_t r = 0; r < ROWS; r++) {
			double start;

			if (!avx2 && !rows[r].portable)
				continue;
			portable = rows[r].portable;
			start = now();
			rows[r].run(&b);
			times[r][i] = now() - start;
		}
	}
	print(&b, times, runs, avx2);
	pool_free(b.two);
	return 0;
}
