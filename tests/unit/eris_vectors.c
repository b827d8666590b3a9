/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: ERIS against known answers: the official vectors where they are at hand (NARLOCK_SHARED), some as
 * literals, and the large ones where there is time (NARLOCK_SLOW=1). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <unistd.h>

#include "helper/eris/access.h"
#include "helper/eris/base32.h"
#include "helper/eris/urn.h"
#include "tests/unit/eris_bed.h"

static const uint8_t zeros[64];

/* --- Literals ------------------------------------------------------------------------------------------ */

static void
encodes_to(const void *data, size_t len, uint32_t block_size, const char *expected)
{
	char urn[URN_LEN + 1];
	struct bed bed = { 0 };
	struct eris_cap cap = bed_encode(&bed, data, len, block_size, NULL, len + 1, NULL), again;
	struct bed_run r = BED_RUN;

	urn_format(urn, &cap);
	assert_string_equal(urn, expected);
	assert_int_equal(urn_parse(&again, expected, NULL), 0);
	assert_int_equal(bed_decode(&bed, &again, data, len, &r), 0);
	bed_free(&bed);
}

/* The first bytes of the key stream that belongs to NAME, as the large vectors use it. */
static void
stream_key(uint8_t key[32], const char *name)
{
	crypto_generichash_blake2b(key, 32, (const uint8_t *)name, strlen(name), NULL, 0);
}

static void
test_literals(void **state)
{
	uint8_t data[1024], key[32];

	(void)state;
	encodes_to("Hello world!", 12, ERIS_SMALL, "urn:eris:BIAD77QDJMFAKZYH2DXBUZYAP3MXZ3DJZVFYQ5DFWC6T65WSFCU5S2IT4"
	    "YZGJ7AC4SYQMP2DM2ANS2ZTCP3DJJIRV733CRAAHOSWIYZM3M");
	stream_key(key, "Hello World!");
	crypto_stream_chacha20_ietf(data, sizeof(data), zeros, key);
	encodes_to(data, sizeof(data), ERIS_SMALL, "urn:eris:BIAVWP2IZZ2A3WNGPMDSGFE2FJUHFYSEOKKM76DOA2J2XYLOUBSINJEVF"
	    "KDT2VKH4BVNQPGZVZZTFSK5JFUZ3FTKXVX6TYCZY762UYZYG4");
}

/* --- Official vectors
 * ------------------------------------------------------------------------------------ */

struct vector {
	char *text; /* the file, as JSON */
	struct bed blocks;
	struct eris_cap cap;
	char urn[URN_LEN + 1];
};

static char *
slurp(const char *path)
{
	FILE *f = fopen(path, "re");
	char *text = NULL;
	size_t room = 0;
	ssize_t n;

	if (f == NULL)
		return NULL;
	n = getdelim(&text, &room, '\0', f);
	fclose(f);
	assert_true(n > 0);
	return text;
}

/* The string behind "NAME": as a copy, or NULL. */
static char *
string_of(const char *json, const char *name)
{
	char quoted[64];
	const char *at;

	snprintf(quoted, sizeof(quoted), "\"%s\":\"", name);
	at = strstr(json, quoted);
	if (at == NULL)
		return NULL;
	at += strlen(quoted);
	return strndup(at, strcspn(at, "\""));
}

static uint8_t *
bytes_of(const char *text, size_t *len)
{
	uint8_t *bytes;

	*len = strlen(text) * 5 / 8;
	bytes = malloc(*len + 1);
	assert_non_null(bytes);
	assert_int_equal(base32_decode(bytes, *len, text, strlen(text), BASE32_UPPER), 0);
	return bytes;
}

static void
read_blocks(struct vector *v)
{
	const char *at = strstr(v->text, "\"blocks\":{");

	assert_non_null(at);
	for (at += 10; *at == '"' || *at == ',';) {
		uint8_t ref[ERIS_REF], *data;
		char *text;
		size_t len;

		at += *at == ',';
		assert_int_equal(base32_decode(ref, sizeof(ref), at + 1, 52, BASE32_UPPER), 0);
		at += 53;
		assert_int_equal(strncmp(at, "\":\"", 3), 0);
		at += 3;
		text = strndup(at, strcspn(at, "\""));
		assert_non_null(text);
		at += strlen(text) + 1;
		data = bytes_of(text, &len);
		bed_put(&v->blocks, ref, data, len);
		free(data);
		free(text);
	}
	assert_int_equal(*at, '}');
}

static int
load(struct vector *v, const char *kind, unsigned id)
{
	const char *shared = getenv("NARLOCK_SHARED");
	char path[PATH_MAX], *urn;

	memset(v, 0, sizeof(*v));
	if (shared == NULL || *shared == '\0')
		return -1;
	snprintf(path, sizeof(path), "%s/vectors/eris/eris-test-vector-%s-%02u.json", shared, kind, id);
	v->text = slurp(path);
	if (v->text == NULL)
		return -1;
	read_blocks(v);
	urn = string_of(v->text, "urn");
	assert_non_null(urn);
	assert_int_equal(strlen(urn), URN_LEN);
	strcpy(v->urn, urn);
	free(urn);
	return 0;
}

static void
unload(struct vector *v)
{
	bed_free(&v->blocks);
	free(v->text);
}

/* All of it by random access, from the front; 0 and LEN bytes that are DATA, or -1. */
static int
read_through(struct vector *v, const uint8_t *data, size_t len)
{
	struct access *a = access_new(&v->cap, bed_get, &v->blocks, NULL);
	uint64_t at = 0, length = 0;
	const uint8_t *piece;
	size_t n;
	int rc;

	assert_non_null(a);
	while ((rc = access_read(a, at, &piece, &n, NULL)) == 0 && n > 0) {
		assert_true(at + n <= len);
		assert_memory_equal(data + at, piece, n);
		at += n;
	}
	if (rc == 0) {
		assert_int_equal(at, len);
		assert_int_equal(access_length(a, &length, NULL), 0);
		assert_int_equal(length, len);
	}
	access_free(a);
	return rc;
}

static void
positive(struct vector *v)
{
	char *content = string_of(v->text, "content"), *secret = string_of(v->text, "convergence-secret");
	struct bed_run r = BED_RUN, s = { .window = 200, .ahead = 20, .batch = 64, .seed = 7, .max_length = UINT64_MAX };
	size_t len, secret_len, sizes[3] = { 1, 1000, 1u << 20 };
	uint8_t *data, *key;
	char urn[URN_LEN + 1];

	assert_non_null(content);
	assert_non_null(secret);
	data = bytes_of(content, &len);
	key = bytes_of(secret, &secret_len);
	assert_int_equal(secret_len, ERIS_KEY);
	assert_int_equal(urn_parse(&v->cap, v->urn, NULL), 0);
	for (unsigned i = len > 100000; i < 3; i++) {
		struct bed bed = { 0 };
		struct eris_cap cap = bed_encode(&bed, data, len, v->cap.block_size, key, sizes[i], NULL);

		urn_format(urn, &cap);
		assert_string_equal(urn, v->urn);
		assert_int_equal(bed.n, v->blocks.n);
		for (size_t b = 0; b < bed.n; b++) {
			const struct bed_block *other = bed_find(&v->blocks, bed.block[b].ref);

			assert_non_null(other);
			assert_int_equal(other->len, v->cap.block_size);
			assert_memory_equal(other->data, bed.block[b].data, other->len);
		}
		bed_free(&bed);
	}
	assert_int_equal(bed_decode(&v->blocks, &v->cap, data, len, &r), 0);
	assert_int_equal(bed_decode(&v->blocks, &v->cap, data, len, &s), 0);
	assert_int_equal(r.asked, v->blocks.n); /* repeated references are near each other here */
	assert_int_equal(read_through(v, data, len), 0);
	free(data);
	free(key);
	free(content);
	free(secret);
}

static void
test_positive(void **state)
{
	struct vector v;

	(void)state;
	for (unsigned id = 0; id <= 12; id++) {
		if (load(&v, "positive", id) != 0) {
			print_message("SKIP: no official ERIS vectors in NARLOCK_SHARED\n");
			skip();
		}
		positive(&v);
		unload(&v);
	}
}

/* Block after block as they are wanted: what stops the decoder, as -1 and *E; 0 if nothing does.  Whatever
 * is right before the error may come out; there is no content to compare it with. */
static int
stream_fails(const struct vector *v, struct err *e)
{
	const struct decode_options o = { v->cap, UINT64_MAX, 16, 1, NULL };
	struct decode *d = decode_new(&o, NULL);
	const uint8_t *piece;
	struct decode_want w;
	size_t n;
	int rc = 0;

	assert_non_null(d);
	while (rc == 0 && !decode_done(d)) {
		while (rc == 0 && (rc = decode_want(d, &w, e)) == 1) {
			const struct bed_block *b = bed_find(&v->blocks, w.ref);
			struct decode_given g = { .ref = w.ref };

			if (b == NULL) {
				rc = err_set(e, "missing");
				break;
			}
			g.block = b->data;
			g.len = b->len;
			rc = decode_give(d, &g, 1, e);
			if (rc == 0 && g.verdict != DECODE_TAKEN)
				rc = err_set(e, "%s", g.why);
		}
		while (rc == 0 && (rc = decode_read(d, &piece, &n, e)) == 1)
			rc = 0;
	}
	decode_free(d);
	return rc;
}

static int
access_fails(struct vector *v)
{
	struct access *a = access_new(&v->cap, bed_get, &v->blocks, NULL);
	const uint8_t *piece;
	uint64_t at = 0;
	size_t n;
	int rc;

	assert_non_null(a);
	while ((rc = access_read(a, at, &piece, &n, NULL)) == 0 && n > 0)
		at += n;
	access_free(a);
	return rc;
}

static void
test_negative(void **state)
{
	/* What is wrong with each, as the decoder sees it. */
	static const char *const why[] = { "missing", "another", "missing", "another", "the key of the read capability",
		"the key of the read capability", "padding", "short", "long", "padding", "padding",
		"behind its last pair" };
	struct vector v;

	(void)state;
	for (unsigned id = 13; id <= 24; id++) {
		struct err e = { 0 };

		if (load(&v, "negative", id) != 0) {
			print_message("SKIP: no official ERIS vectors in NARLOCK_SHARED\n");
			skip();
		}
		assert_int_equal(urn_parse(&v.cap, v.urn, NULL), 0);
		assert_int_equal(stream_fails(&v, &e), -1);
		if (strstr(e.text, why[id - 13]) == NULL)
			fail_msg("vector %u: `%s', not `%s'", id, e.text, why[id - 13]);
		assert_int_equal(access_fails(&v), -1);
		unload(&v);
	}
}

/* --- Large vectors
 * ----------------------------------------------------------------------------------------- */

static int
count(void *ctx, const struct encode_block *b, struct err *e)
{
	(void)b;
	(void)e;
	++*(uint64_t *)ctx;
	return 0;
}

static void
large(const char *name, uint64_t length, uint32_t block_size, uint64_t blocks, const char *expected)
{
	uint64_t counted = 0;
	struct encode_options o = { .block_size = block_size, .sink = count, .ctx = &counted };
	uint8_t key[32], *piece = malloc(1 << 20);
	char urn[URN_LEN + 1];
	struct eris_cap cap;
	struct encode *c;
	long processors = sysconf(_SC_NPROCESSORS_ONLN);

	o.pool = pool_new(processors > 1 ? 2 : 1, NULL);
	c = encode_new(&o, NULL);
	assert_non_null(c);
	assert_non_null(piece);
	stream_key(key, name);
	for (uint64_t at = 0; at < length; at += 1 << 20) {
		memset(piece, 0, 1 << 20);
		crypto_stream_chacha20_ietf_xor_ic(piece, piece, 1 << 20, zeros, (uint32_t)(at / 64), key);
		assert_int_equal(encode_put(c, piece, 1 << 20, NULL), 0);
	}
	assert_int_equal(encode_end(c, &cap, NULL), 0);
	encode_free(c);
	pool_free(o.pool);
	free(piece);
	urn_format(urn, &cap);
	assert_string_equal(urn, expected);
	assert_int_equal(counted, blocks);
}

static void
test_large(void **state)
{
	(void)state;
	if (getenv("NARLOCK_SLOW") == NULL) {
		print_message("SKIP: the large ERIS vectors (NARLOCK_SLOW=1)\n");
		skip();
	}
	large("100MiB (block size 1KiB)", 100ull << 20, ERIS_SMALL, 109232, "urn:eris:BIC6F5EKY2PMXS2VNOKPD3AJGKTQBD3E"
	    "XSCSLZIENXAXBM7PCTH2TCMF5OKJWAN36N4DFO6JPFZBR3MS7ECOGDYDERIJJ4N5KAQSZS67YY");
	large("1GiB (block size 32KiB)", 1ull << 30, ERIS_LARGE, 32835, "urn:eris:B4BL4DKSEOPGMYS2CU2OFNYCH4BGQT774GXK"
	    "GURLFO5FDXAQQPJGJ35AZR3PEK6CVCV74FVTAXHRSWLUUNYYA46ZPOPDOV2M5NVLBETWVI");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_literals),
		cmocka_unit_test(test_positive),
		cmocka_unit_test(test_negative),
		cmocka_unit_test(test_large),
	};

	if (block_init(NULL) != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
