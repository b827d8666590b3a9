/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: CARs.  The known answers come from an encoder of a few lines of Python (hashlib and bytes), written from
 * the formats and not from this code. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helper/ipfs/car.h"
#include "helper/ipfs/cbor.h"
#include "helper/ipfs/manifest.h"

/* Header with the first block as root, then the blocks "first block" and "second". */
static const char small_car[] =
    "3ca265726f6f747381d82a5827000155a0e40220dff16e01622e89c9fc18c21334ab525fbd43b61ae948c4e2449e59d91757cfb6"
    "6776657273696f6e01310155a0e40220dff16e01622e89c9fc18c21334ab525fbd43b61ae948c4e2449e59d91757cfb666697273"
    "7420626c6f636b2c0155a0e402203e0c7313caa18f664831f54f95af1b4e6d6e8e5180ff05f01092b6d7f5dbf21b7365636f6e64";
#define SMALL 156
/* Where its header ends, and its first section. */
#define HEADER_END 61
#define FIRST_END 111

static size_t
unhex(uint8_t *to, size_t size, const char *hex)
{
	size_t n;

	assert_int_equal(sodium_hex2bin(to, size, hex, strlen(hex), NULL, &n, NULL), 0);
	return n;
}

static struct car *
reader(size_t block_max, uint64_t bytes_max, uint64_t unasked)
{
	struct car_options o = { block_max, bytes_max, unasked };
	struct err e;
	struct car *c = car_new(&o, &e);

	assert_non_null(c);
	return c;
}

/* Blocks that come out, or -1; in pieces of STEP bytes. */
static int
count(struct car *c, const uint8_t *data, size_t len, size_t step)
{
	struct car_block b;
	struct err e;
	int n = 0, rc;

	while (len > 0) {
		size_t piece = step < len ? step : len, rest = piece;
		const uint8_t *at = data;

		while ((rc = car_feed(c, &at, &rest, &b, &e)) == 1)
			n++;
		if (rc < 0) {
			assert_int_equal(strncmp(e.text, "CAR: ", 5), 0);
			assert_int_equal(car_feed(c, &data, &len, &b, &e), -1); /* for good */
			return -1;
		}
		assert_int_equal(rest, 0);
		data += piece;
		len -= piece;
	}
	return car_end(c, &e) == 0 ? n : -1;
}

static int
count_of(const uint8_t *data, size_t len)
{
	struct car *c = reader(32768, 1 << 20, 0);
	int n = count(c, data, len, 7);

	car_free(c);
	return n;
}

static void
reads(void **state)
{
	uint8_t data[SMALL], hash[ERIS_REF];
	const uint8_t *at, *cid;
	struct car_block b;
	struct err e;
	struct car *c;
	size_t len, cid_len;

	(void)state;
	assert_int_equal(unhex(data, sizeof data, small_car), SMALL);
	for (size_t step = 1; step <= SMALL; step++) {
		c = reader(11, SMALL, 0);
		assert_int_equal(count(c, data, SMALL, step), 2);
		car_free(c);
	}
	c = reader(100, SMALL, 0);
	assert_int_equal(car_root(c, &cid, &cid_len), -1);
	at = data;
	len = SMALL;
	assert_int_equal(car_feed(c, &at, &len, &b, &e), 1);
	assert_int_equal(at - data, FIRST_END);
	assert_int_equal(b.kind, CAR_RAW);
	assert_int_equal(b.len, 11);
	assert_memory_equal(b.data, "first block", 11);
	manifest_hash(hash, b.data, b.len);
	assert_memory_equal(b.hash, hash, ERIS_REF);
	assert_int_equal(car_root(c, &cid, &cid_len), 0);
	assert_int_equal(cid_len, b.cid_len);
	assert_memory_equal(cid, b.cid, cid_len);
	car_free(c);
}

static void
writes(void **state)
{
	uint8_t data[SMALL], mine[SMALL], hash[ERIS_REF];
	size_t n;

	(void)state;
	unhex(data, sizeof data, small_car);
	manifest_hash(hash, (const uint8_t *)"first block", 11);
	n = car_put_header(mine, hash);
	assert_true(n <= CAR_PUT_HEADER);
	n += car_put_section(mine + n, CAR_RAW, hash, 11);
	memcpy(mine + n, "first block", 11);
	n += 11;
	manifest_hash(hash, (const uint8_t *)"second", 6);
	n += car_put_section(mine + n, CAR_RAW, hash, 6);
	memcpy(mine + n, "second", 6);
	assert_int_equal(n + 6, SMALL);
	assert_memory_equal(mine, data, SMALL);
}

/* Cut off anywhere, and any bit wrong in the framing. */
static void
damaged(void **state)
{
	uint8_t data[SMALL + 8];

	(void)state;
	unhex(data, sizeof data, small_car);
	for (size_t n = 0; n < SMALL; n++)
		assert_int_equal(count_of(data, n), n == HEADER_END ? 0 : n == FIRST_END ? 1 : -1);
	/* Every byte of the header but those of the root's hash. */
	for (size_t i = 0; i < HEADER_END; i++) {
		if (i >= 20 && i < 52)
			continue;
		for (unsigned bit = 0; bit < 8; bit++) {
			data[i] ^= (uint8_t)(1u << bit);
			/* A root may have another codec or hash. */
			if (i < 15 || i >= 52)
				assert_int_equal(count_of(data, SMALL), -1);
			else
				count_of(data, SMALL);
			data[i] ^= (uint8_t)(1u << bit);
		}
	}
	assert_int_equal(count_of(data, SMALL), 2);
	memset(data + SMALL, 0, 8);
	assert_int_equal(count_of(data, SMALL + 1), -1); /* padding */
}

static void
bombs(void **state)
{
	static const uint8_t long_header[] = { 0x81, 0x20 }, huge[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0x01 },
		padded[] = { 0xbc, 0x00 }, version2[] = { 0x0a, 0xa1, 0x67, 'v', 'e', 'r', 's', 'i', 'o', 'n', 0x02 },
		no_roots[] = { 0x11, 0xa2, 0x65, 'r', 'o', 'o', 't', 's', 0x80, 0x67, 'v', 'e', 'r', 's', 'i', 'o', 'n',
		    1 };
	uint8_t data[SMALL], other[300];
	struct car_options o = { 0, 1, 1 };
	struct err e;
	struct car *c;

	(void)state;
	unhex(data, sizeof data, small_car);
	assert_null(car_new(&o, &e));
	o.block_max = CAR_BLOCK + 1;
	assert_null(car_new(&o, &e));
	assert_int_equal(count_of(long_header, sizeof long_header), -1);
	assert_int_equal(count_of(huge, sizeof huge), -1);
	assert_int_equal(count_of(padded, sizeof padded), -1);
	assert_int_equal(count_of(version2, sizeof version2), -1);
	assert_int_equal(count_of(no_roots, sizeof no_roots), -1);
	/* A block over the limit, a CAR over the limit: it must not be longer than all it can have. */
	c = reader(10, SMALL, 0);
	assert_int_equal(count(c, data, SMALL, 5), -1);
	car_free(c);
	c = reader(100, SMALL - 1, 0);
	assert_int_equal(count(c, data, SMALL, 5), -1);
	car_free(c);
	/* Blocks of other hashes are counted; those of ours by who cannot use them. */
	memcpy(other, data, HEADER_END);
	memcpy(other + HEADER_END, "\x25\x01\x55\x12\x20", 5);
	memset(other + HEADER_END + 5, 1, 33);
	c = reader(100, 1000, 1);
	assert_int_equal(count(c, other, HEADER_END + 38, 5), 1);
	assert_int_equal(car_unasked(c, &e), -1);
	car_free(c);
	assert_int_equal(count_of(other, HEADER_END + 38), -1);
	/* A section without a CID, one with a hash longer than it. */
	memcpy(other + HEADER_END, "\x01\x01", 2);
	assert_int_equal(count_of(other, HEADER_END + 2), -1);
	memcpy(other + HEADER_END, "\x05\x01\x55\x12\x20\x00", 6);
	assert_int_equal(count_of(other, HEADER_END + 6), -1);
}

static void
endless(void **state)
{
	struct car *c = reader(32768, 1 << 20, 0);
	uint8_t data[SMALL];
	struct car_block b;
	struct err e;
	const uint8_t *at = data;
	size_t len = SMALL, turns = 0;
	int rc;

	(void)state;
	unhex(data, sizeof data, small_car);
	while ((rc = car_feed(c, &at, &len, &b, &e)) >= 0) {
		assert_true(turns++ < 200000);
		if (rc == 0) { /* the first block again and again */
			at = data + HEADER_END;
			len = FIRST_END - HEADER_END;
		}
	}
	assert_string_equal(e.text, "CAR: longer than it can be");
	car_free(c);
}

/* --- CBOR -------------------------------------------------------------------------------------------- */

static void
shortest_only(void **state)
{
	static const struct { const char *hex; int ok; uint64_t value; } cases[] = {
		{ "00", 1, 0 }, { "17", 1, 23 }, { "1818", 1, 24 }, { "1817", 0, 0 }, { "18ff", 1, 255 },
		{ "190100", 1, 256 }, { "1900ff", 0, 0 }, { "1a00010000", 1, 65536 }, { "1a0000ffff", 0, 0 },
		{ "1b0000000100000000", 1, 1ULL << 32 }, { "1b00000000ffffffff", 0, 0 }, { "1c", 0, 0 }, { "1f", 0, 0 },
		{ "18", 0, 0 }, { "1b00000001000000", 0, 0 }, { "", 0, 0 }, { "20", 0, 0 },
	};
	uint8_t data[16], again[CBOR_HEAD];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		size_t len = unhex(data, sizeof data, cases[i].hex);
		struct cbor c = { data, data + len };
		uint64_t value;

		assert_int_equal(cbor_head(&c, CBOR_UINT, &value), cases[i].ok ? 0 : -1);
		if (!cases[i].ok)
			continue;
		assert_true(value == cases[i].value && c.at == c.end);
		assert_int_equal(cbor_put(again, CBOR_UINT, value), len);
		assert_memory_equal(again, data, len);
	}
}

/* --- Kinds ------------------------------------------------------------------------------------------- */

/* A block of 1 KiB of zeros as Kubo calls it; the other two differ from that in the codec. */
static void
kinds(void **state)
{
	static const char *const names[] = { "bafk2bzacea2h5plrmwp6t4v4pqmc7ndvwayre6czkneydbieevsvscq37oe2e",
		"bafy2bzacea2h5plrmwp6t4v4pqmc7ndvwayre6czkneydbieevsvscq37oe2e",
		"bafykbzacea2h5plrmwp6t4v4pqmc7ndvwayre6czkneydbieevsvscq37oe2e" };
	static const uint8_t zeros[1024];
	uint8_t data[CAR_PUT_HEADER + 3 * (CAR_PUT_SECTION + 7)], hash[ERIS_REF], cid[CAR_OURS];
	char text[CAR_CID_TEXT + 1];

	(void)state;
	manifest_hash(hash, zeros, sizeof zeros);
	for (enum car_kind kind = CAR_RAW; kind < CAR_OTHER; kind++) {
		size_t n = car_put_root(data, kind, hash), len;
		struct car *c = reader(100, sizeof data, 0);
		const uint8_t *at = data, *root;
		enum car_kind i = CAR_RAW;
		struct car_block b;
		struct err e;

		assert_true(n <= CAR_PUT_HEADER);
		car_cid_text(text, kind, hash);
		assert_string_equal(text, names[kind]);
		car_cid(cid, kind, hash);
		assert_int_equal(car_kind_of(cid, sizeof cid), kind);
		assert_int_equal(car_kind_of(cid, sizeof cid - 1), CAR_OTHER);
		for (unsigned at_bit = 0; at_bit < 6 * 8; at_bit++) {
			cid[at_bit / 8] ^= (uint8_t)(1u << at_bit % 8);
			/* dag-pb (0x70) and dag-cbor (0x71) differ by a bit. */
			assert_int_equal(car_kind_of(cid, sizeof cid),
			    kind == CAR_RAW || at_bit != 8 ? CAR_OTHER : kind == CAR_NODE ? CAR_FILE : CAR_NODE);
			cid[at_bit / 8] ^= (uint8_t)(1u << at_bit % 8);
		}
		for (enum car_kind k = CAR_RAW; k < CAR_OTHER; k++) {
			size_t head = car_put_section(data + n, k, hash, 7);

			assert_true(head <= CAR_PUT_SECTION);
			memset(data + n + head, (int)k, 7);
			n += head + 7;
		}
		for (; car_feed(c, &at, &n, &b, &e) == 1; i++) {
			assert_true(b.kind == i && b.len == 7 && b.data[0] == i);
			assert_memory_equal(b.hash, hash, ERIS_REF);
		}
		assert_int_equal(i, CAR_OTHER);
		assert_int_equal(car_end(c, &e), 0);
		assert_int_equal(car_root(c, &root, &len), 0);
		assert_int_equal(len, sizeof cid);
		assert_memory_equal(root, cid, sizeof cid);
		car_free(c);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads),
		cmocka_unit_test(writes),
		cmocka_unit_test(damaged),
		cmocka_unit_test(bombs),
		cmocka_unit_test(endless),
		cmocka_unit_test(shortest_only),
		cmocka_unit_test(kinds),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
