/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: CARs and manifests.  The known answers come from an encoder of a few lines of Python (hashlib and
 * bytes), written from the formats and not from this code. */
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

/* --- Manifests --------------------------------------------------------------------------------------- */

struct kept {
	unsigned n;
	struct { uint8_t hash[ERIS_REF]; uint8_t *data; size_t len; } nodes[2000];
};

static int
keep(void *ctx, const uint8_t hash[ERIS_REF], const uint8_t *data, size_t len, struct err *e)
{
	struct kept *k = ctx;

	(void)e;
	assert_true(k->n < 2000);
	assert_true(manifest_check(hash, data, len));
	memcpy(k->nodes[k->n].hash, hash, ERIS_REF);
	k->nodes[k->n].data = malloc(len);
	memcpy(k->nodes[k->n].data, data, len);
	k->nodes[k->n++].len = len;
	return 0;
}

static void
forget(struct kept *k)
{
	for (unsigned i = 0; i < k->n; i++)
		free(k->nodes[i].data);
	free(k);
}

static void
nth_ref(uint8_t ref[ERIS_REF], uint32_t i)
{
	uint8_t bytes[4] = { (uint8_t)i, (uint8_t)(i >> 8), (uint8_t)(i >> 16), (uint8_t)(i >> 24) };

	manifest_hash(ref, bytes, 4);
}

/* The manifest of N blocks whose references are hashes of their numbers. */
static struct kept *
make(uint32_t n, const uint8_t *narinfo, size_t len, uint8_t root[ERIS_REF])
{
	struct kept *k = calloc(1, sizeof *k);
	struct err e;
	struct manifest_writer *w = manifest_new(keep, k, &e);
	uint8_t cap[ERIS_CAP], ref[ERIS_REF];

	assert_non_null(w);
	for (unsigned i = 0; i < ERIS_CAP; i++)
		cap[i] = (uint8_t)i;
	for (uint32_t i = 0; i < n; i++) {
		nth_ref(ref, i);
		assert_int_equal(manifest_add(w, ref, &e), 0);
	}
	assert_int_equal(manifest_end(w, cap, narinfo, len, root, &e), 0);
	manifest_free(w);
	assert_memory_equal(k->nodes[k->n - 1].hash, root, ERIS_REF);
	return k;
}

static void
known_roots(void **state)
{
	static const struct { uint32_t n; const char *narinfo; size_t len,
	    root_len; unsigned nodes; const char *root; } cases[] = {
		{ 1, NULL, 0, 141, 1, "f6b469de934cc87e11ee76518d90881c6cb340d2adf2fced2d5874f3136d723f" },
		{ 3, "StorePath: /gnu/store/x\n", 24, 261, 1,
		    "7fc422f44bb62a7fa2f63201c236db39e0de38cb12bfa46ab53d1b98725c0ba1" },
		{ 1024, NULL, 0, 44134, 1, "1ac6ad5c818fb2b8b3039293a485533cb442ca2e22e23254b8f38c7a0b357cb7" },
		{ 1025, NULL, 0, 186, 3, "ec5219337ab9dd8e18b56d20bbddc9b5dde8101c1a678bfcdfbb2a66af292b32" },
		{ 70000, NULL, 300, 3381, 70, "93207d11b692417852ec5d8fb8e78995fd8c34d0579cb23d93615ce0be8e478d" },
		{ 1048577, NULL, 0, 188, 1028, "1d5af2dc777e2fc955df0a526f42c664411b6846c06d300f75cf993d2417797f" },
	};
	uint8_t root[ERIS_REF], expected[ERIS_REF], n300[300];

	(void)state;
	memset(n300, 'n', sizeof n300);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		const uint8_t *narinfo = cases[i].narinfo != NULL ? (const uint8_t *)cases[i].narinfo : n300;
		struct kept *k = make(cases[i].n, narinfo, cases[i].len, root);
		struct manifest_node n;
		struct err e;

		unhex(expected, sizeof expected, cases[i].root);
		assert_memory_equal(root, expected, ERIS_REF);
		assert_int_equal(k->n, cases[i].nodes);
		assert_int_equal(k->nodes[k->n - 1].len, cases[i].root_len);
		assert_int_equal(manifest_parse(&n, k->nodes[k->n - 1].data, k->nodes[k->n - 1].len, &e), 0);
		assert_true(n.root && n.blocks == cases[i].n && n.narinfo_len == cases[i].len);
		if (n.narinfo_len > 0)
			assert_memory_equal(n.narinfo, narinfo, n.narinfo_len);
		forget(k);
	}
}

static const uint8_t *
node_of(const struct kept *k, const uint8_t hash[ERIS_REF], size_t *len)
{
	for (unsigned i = 0; i < k->n; i++)
		if (memcmp(k->nodes[i].hash, hash, ERIS_REF) == 0) {
			*len = k->nodes[i].len;
			return k->nodes[i].data;
		}
	fail();
	return NULL;
}

static void
walks(void **state)
{
	static const uint32_t sizes[] = { 1, 2, 1024, 1025, 2048, 5000, 1048577 };
	uint8_t root[ERIS_REF], ref[ERIS_REF], expected[ERIS_REF];

	(void)state;
	for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
		struct kept *k = make(sizes[s], NULL, 0, root);
		struct manifest_node n;
		struct manifest_walk *w;
		enum manifest_step step;
		uint32_t i = 0;
		struct err e;
		size_t len = 0;

		assert_int_equal(manifest_parse(&n, k->nodes[k->n - 1].data, k->nodes[k->n - 1].len, &e), 0);
		assert_null(manifest_walk_new(&n, sizes[s] - 1, &e));
		w = manifest_walk_new(&n, sizes[s], &e);
		assert_non_null(w);
		while ((step = manifest_walk_next(w, ref, &e)) != MANIFEST_DONE) {
			assert_int_not_equal(step, MANIFEST_BROKEN);
			if (step == MANIFEST_NEEDS) {
				const uint8_t *data = node_of(k, ref, &len);

				assert_int_equal(manifest_walk_give(w, data, len - 1, &e), 1);
				assert_int_equal(manifest_walk_give(w, data, len, &e), 0);
				continue;
			}
			nth_ref(expected, i++);
			assert_memory_equal(ref, expected, ERIS_REF);
		}
		assert_int_equal(i, sizes[s]);
		manifest_walk_free(w);
		forget(k);
	}
	manifest_walk_free(NULL);
	manifest_free(NULL);
}

/* Whatever bit is changed, it is refused or says something else; nothing is read beyond the end. */
static void
broken_nodes(void **state)
{
	static const char narinfo[] = "StorePath: /gnu/store/x\n";
	uint8_t root[ERIS_REF], *copy;
	struct kept *k = make(3, (const uint8_t *)narinfo, 24, root);
	size_t len = k->nodes[0].len;
	struct manifest_node n;
	struct err e;
	unsigned refused = 0;

	(void)state;
	for (size_t cut = 0; cut < len; cut++) {
		copy = malloc(cut + 1);
		memcpy(copy, k->nodes[0].data, cut);
		assert_int_equal(manifest_parse(&n, copy, cut, &e), -1);
		free(copy);
	}
	copy = malloc(len + 1);
	memcpy(copy, k->nodes[0].data, len);
	copy[len] = 0;
	assert_int_equal(manifest_parse(&n, copy, len + 1, &e), -1);
	for (size_t i = 0; i < len; i++)
		for (unsigned bit = 0; bit < 8; bit++) {
			copy[i] ^= (uint8_t)(1u << bit);
			refused += manifest_parse(&n, copy, len, &e) != 0;
			copy[i] ^= (uint8_t)(1u << bit);
		}
	/* All bits that are not of the capability (66 bytes), the three hashes or the narinfo (24). */
	assert_int_equal(refused, (len - 66 - 3 * ERIS_REF - 24) * 8);
	free(copy);
	forget(k);
}

/* Nodes that are right by themselves, but not where they stand. */
static void
wrong_places(void **state)
{
	uint8_t root[ERIS_REF], other[ERIS_REF], ref[ERIS_REF], bytes[2048];
	struct kept *k = make(2048, NULL, 0, root), *small = make(5, NULL, 0, other);
	struct manifest_node n;
	struct manifest_walk *w;
	struct err e;
	const uint8_t *at;
	size_t len = k->nodes[2].len;

	(void)state;
	/* A root as the first child of another one; and a node with too few links that is not the last. */
	for (unsigned what = 0; what < 2; what++) {
		uint8_t child[ERIS_REF], node[2048];
		size_t node_len = small->nodes[0].len;

		memcpy(node, small->nodes[0].data, node_len);
		if (what == 1) { /* {"level": 0, "links": [5 links]} out of that root */
			node[0] = 0xa2;
			node_len = 1 + 6 + 1 + 6 + 1 + 5 * 43;
			memcpy(node + 1, small->nodes[0].data + 1 + 3 + 4 + 2 + 66, node_len - 1);
		}
		manifest_hash(child, node, node_len);
		memcpy(bytes, k->nodes[2].data, len);
		assert_int_equal(manifest_parse(&n, bytes, len, &e), 0);
		memcpy(bytes + (manifest_link(&n, 0) - bytes), child, ERIS_REF);
		w = manifest_walk_new(&n, 1 << 20, NULL);
		assert_non_null(w);
		/* It copies: this is the changed link. */
		manifest_walk_free(w);
		assert_int_equal(manifest_parse(&n, bytes, len, &e), 0);
		w = manifest_walk_new(&n, 1 << 20, &e);
		assert_int_equal(manifest_walk_next(w, ref, &e), MANIFEST_NEEDS);
		assert_memory_equal(ref, child, ERIS_REF);
		assert_int_equal(manifest_walk_give(w, node, node_len, &e), -1);
		assert_string_equal(e.text, "manifest: a node that does not belong there");
		manifest_walk_free(w);
	}
	/* A number of blocks that is not theirs. */
	for (int d = -1; d <= 1; d += 2) {
		enum manifest_step step;

		assert_int_equal(manifest_parse(&n, k->nodes[2].data, len, &e), 0);
		n.blocks = (uint64_t)(2048 + d);
		w = manifest_walk_new(&n, 1 << 20, &e);
		while ((step = manifest_walk_next(w, ref, &e)) == MANIFEST_BLOCK || step == MANIFEST_NEEDS)
			if (step == MANIFEST_NEEDS) {
				at = node_of(k, ref, &len);
				assert_int_equal(manifest_walk_give(w, at, len, &e), 0);
			}
		assert_int_equal(step, MANIFEST_BROKEN);
		manifest_walk_free(w);
		len = k->nodes[2].len;
	}
	forget(k);
	forget(small);
}

static void
order_of_links(void **state)
{
	struct manifest_entry in[] = { { 32768, 0, { 3 } }, { 0, 0, { 2 } }, { 65536, 1, { 4 } }, { 0, 2, { 0 } },
		{ 65536, 0, { 5 } }, { 0, 1, { 1 } } };

	(void)state;
	qsort(in, 6, sizeof in[0], manifest_compare);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(in[i].ref[0], i);
}

static void
names(void **state)
{
	static const char text[] = "bafy2bzaceai5u3i7oyo57g63jsow4uyd5pkb6ymfruffmr5bu676bcn7sin6s";
	char again[MANIFEST_CID_LEN + 1];
	uint8_t hash[ERIS_REF], zero[ERIS_REF];
	struct err e;

	(void)state;
	nth_ref(zero, 0);
	assert_int_equal(manifest_cid_parse(hash, text, &e), 0);
	assert_memory_equal(hash, zero, ERIS_REF);
	manifest_cid_format(again, hash);
	assert_string_equal(again, text);
	assert_int_equal(manifest_cid_parse(hash, "", &e), -1);
	assert_int_equal(manifest_cid_parse(hash, text + 1, &e), -1);
	assert_int_equal(manifest_cid_parse(hash, "bafk2bzaceai5u3i7oyo57g63jsow4uyd5pkb6ymfruffmr5bu676bcn7sin6s",
	    &e), -1);
}

static void
empty(void **state)
{
	struct kept *k = calloc(1, sizeof *k);
	struct err e;
	struct manifest_writer *w = manifest_new(keep, k, &e);
	uint8_t bytes[ERIS_CAP] = { 0 };

	(void)state;
	assert_int_equal(manifest_end(w, bytes, NULL, 0, bytes, &e), -1);
	assert_int_equal(manifest_add(w, bytes, &e), 0);
	assert_int_equal(manifest_end(w, bytes, bytes, MANIFEST_NARINFO + 1, bytes, &e), -1);
	manifest_free(w);
	forget(k);
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
		cmocka_unit_test(known_roots),
		cmocka_unit_test(walks),
		cmocka_unit_test(broken_nodes),
		cmocka_unit_test(wrong_places),
		cmocka_unit_test(order_of_links),
		cmocka_unit_test(names),
		cmocka_unit_test(empty),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
