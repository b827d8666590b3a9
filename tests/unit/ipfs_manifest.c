/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: manifests.  The names of files come from a real IPFS node (Kubo 0.43, `ipfs add --cid-version=1 --raw-leaves
 * --hash=blake2b-256 --chunker=size-N'), those of roots from an encoder of a few lines of Python. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <malloc.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "helper/ipfs/cbor.h"
#include "helper/ipfs/manifest.h"
#include "tests/unit/manifest_root.h"

/* Block I of all contents here is nothing but the byte I % PERIOD, which is prime. */
#define PERIOD 251

static uint8_t refs[2][PERIOD][ERIS_REF];

static const uint8_t *
nth_ref(uint32_t block_size, uint64_t i)
{
	return refs[block_size == ERIS_LARGE][i % PERIOD];
}

static void
make_refs(void)
{
	uint8_t *block = malloc(ERIS_LARGE);

	for (unsigned i = 0; i < PERIOD; i++) {
		memset(block, (int)i, ERIS_LARGE);
		manifest_hash(refs[0][i], block, ERIS_SMALL);
		manifest_hash(refs[1][i], block, ERIS_LARGE);
	}
	free(block);
}

/* --- What a writer gives out --------------------------------------------------------------------------- */

struct node {
	enum car_kind kind;
	uint8_t hash[ERIS_REF];
	uint8_t *data;
	size_t len;
};

#define NODES 200

struct kept {
	unsigned n, stop;  /* stop: the node that is not taken, from 1; 0: none */
	struct node nodes[NODES];
};

static int
keep(void *ctx, enum car_kind kind, const uint8_t hash[ERIS_REF], const uint8_t *data, size_t len, struct err *e)
{
	struct kept *k = ctx;
	struct node *node = &k->nodes[k->n];

	if (k->n + 1 == k->stop)
		return err_set(e, "enough");
	assert_true(k->n < NODES);
	assert_true(manifest_check(hash, data, len));
	node->kind = kind;
	memcpy(node->hash, hash, ERIS_REF);
	node->data = malloc(len);
	assert_non_null(node->data);
	memcpy(node->data, data, len);
	node->len = len;
	k->n++;
	return 0;
}

static int
ignore(void *ctx, enum car_kind kind, const uint8_t hash[ERIS_REF], const uint8_t *data, size_t len, struct err *e)
{
	(void)kind;
	(void)hash;
	(void)data;
	(void)len;
	(void)e;
	++*(unsigned *)ctx;
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
counting(uint8_t cap[ERIS_CAP])
{
	for (unsigned i = 0; i < ERIS_CAP; i++)
		cap[i] = (uint8_t)i;
}

static struct kept *
make(uint32_t block_size, uint64_t n, const uint8_t *narinfo, size_t len, uint8_t root[ERIS_REF])
{
	struct kept *k = calloc(1, sizeof *k);
	struct err e;
	struct manifest_writer *w = manifest_new(block_size, keep, k, &e);
	uint8_t cap[ERIS_CAP];

	assert_non_null(w);
	counting(cap);
	for (uint64_t i = 0; i < n; i++)
		assert_int_equal(manifest_add(w, nth_ref(block_size, i), &e), 0);
	assert_int_equal(manifest_end(w, cap, narinfo, len, root, &e), 0);
	manifest_free(w);
	assert_int_equal(k->nodes[k->n - 1].kind, CAR_NODE);
	assert_memory_equal(k->nodes[k->n - 1].hash, root, ERIS_REF);
	return k;
}

static const struct node *
last(const struct kept *k)
{
	return &k->nodes[k->n - 1];
}

/* The next link of NODE behind *AT to a block of KIND: its hash, or NULL. */
static const uint8_t *
next_link(const struct node *node, size_t *at, enum car_kind kind)
{
	uint8_t mark[2 + CAR_OURS] = { 0x0a, CAR_OURS };
	static const uint8_t any[ERIS_REF];
	const uint8_t *found;

	car_cid(mark + 2, kind, any);
	found = memmem(node->data + *at, node->len - *at, mark, sizeof mark - ERIS_REF);
	if (found == NULL)
		return NULL;
	*at = (size_t)(found - node->data) + sizeof mark;
	assert_true(*at <= node->len);
	return node->data + *at - ERIS_REF;
}

/* All blocks are there in their order, and each node but the last is linked once, from a later one. */
static void
check_tree(const struct kept *k, uint32_t block_size, uint64_t n)
{
	unsigned linked[NODES] = { 0 };
	const uint8_t *hash;
	uint64_t blocks = 0;

	for (unsigned i = 0; i + 1 < k->n; i++) {
		assert_int_equal(k->nodes[i].kind, CAR_FILE);
		assert_true(k->nodes[i].len <= UNIXFS_NODE);
		for (size_t at = 0; (hash = next_link(&k->nodes[i], &at, CAR_RAW)) != NULL; blocks++)
			assert_memory_equal(hash, nth_ref(block_size, blocks), ERIS_REF);
		for (size_t at = 0; (hash = next_link(&k->nodes[i], &at, CAR_FILE)) != NULL;) {
			unsigned j = 0;

			while (j < i && (linked[j] > 0 || memcmp(k->nodes[j].hash, hash, ERIS_REF) != 0))
				j++;
			assert_true(j < i);
			linked[j]++;
		}
	}
	for (unsigned i = 0; i + 2 < k->n; i++)
		assert_int_equal(linked[i], 1);
	assert_int_equal(blocks, n > 1 ? n : 0);
}

/* --- Files ------------------------------------------------------------------------------------------- */

static void
known_files(void **state)
{
	static const struct { uint32_t block_size, n; unsigned nodes; const char *name; } cases[] = {
		{ ERIS_SMALL, 1, 0, "bafk2bzacea2h5plrmwp6t4v4pqmc7ndvwayre6czkneydbieevsvscq37oe2e" },
		{ ERIS_SMALL, 2, 1, "bafykbzacebtzjyo7cxencankqh5rwnfai2qzo72etg7jlgafrkm54sflwoexq" },
		{ ERIS_SMALL, 173, 1, "bafykbzacedyghby2qowuchey3dt253qmwadjcxxlusl2nqufnvfhlanvvepvo" },
		{ ERIS_SMALL, 174, 1, "bafykbzacebz27wiprrunbtcnpemedxhmwd4anggopyj7dxadlzwx7v5j7efqc" },
		{ ERIS_SMALL, 175, 3, "bafykbzaceauopchq6afp7r5jshutpj2q76espagvxdwh7savbywvnmzdvy6d2" },
		{ ERIS_SMALL, 348, 3, "bafykbzaceatqiji5jey4u57rgeinorzw4gmzdhdk4wpcglzzahogk3fuwa76k" },
		{ ERIS_SMALL, 349, 4, "bafykbzacedhf5k2umfcmi2mrvllnqklcaxntfqabltki7lsgw6gtgdbgsxcbw" },
		{ ERIS_SMALL, 174 * 174, 175, "bafykbzacea5xkphvaxixkvyfgqztn5ixzxrugend6jg3akfyhaz3juvoqhowg" },
		{ ERIS_SMALL, 174 * 174 + 1, 178, "bafykbzacebqu3efzkly5bvqgorj7jkh667rbjuhdr23bberqyxivpok62gcju" },
		{ ERIS_LARGE, 1, 0, "bafk2bzacedutgqbagrf4wqmpc3ctfjh22vdf55jqz7z6vlxgien535m6eehfa" },
		{ ERIS_LARGE, 2, 1, "bafykbzacebyvqstycuuiy2wkiyshiu3lg2fdkmstpszu4vvx3nsxyhcyuxmru" },
		{ ERIS_LARGE, 174, 1, "bafykbzacea4qn35jmfs7moa3o4nrb3own67u7brqmhfbzwfkkeob43uy76jhg" },
		{ ERIS_LARGE, 175, 3, "bafykbzacecetvgrpzhiund3f6mrt56ottbtmxwukkfg7k2uwwq625ukg24kci" },
		{ ERIS_LARGE, 349, 4, "bafykbzacea2cohjk3qxrnse3bbpr7f4vr2ikqanrwou4vouizj3izghakhgoe" },
		{ ERIS_LARGE, 174 * 174, 175, "bafykbzaceafcskc4dfy2xpph4pavnrwuqluxpktnj3dryraugkqvmre65liuw" },
		{ ERIS_LARGE, 174 * 174 + 1, 178, "bafykbzacecrkbaumte3mu45gkrxdjkis4u7thje3ciw6nu2mhkewzkdkegdzo" },
	};
	uint8_t root[ERIS_REF];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct kept *k = make(cases[i].block_size, cases[i].n, NULL, 0, root);
		char text[CAR_CID_TEXT + 1];
		struct manifest_root r;
		struct err e;

		assert_int_equal(k->n, cases[i].nodes + 1);
		assert_int_equal(manifest_parse(&r, last(k)->data, last(k)->len, &e), 0);
		assert_int_equal(r.blocks, cases[i].n);
		car_cid_text(text, r.blocks == 1 ? CAR_RAW : CAR_FILE, r.file);
		assert_string_equal(text, cases[i].name);
		if (cases[i].n > 1)
			assert_memory_equal(k->nodes[k->n - 2].hash, r.file, ERIS_REF);
		check_tree(k, cases[i].block_size, cases[i].n);
		forget(k);
	}
}

/* The largest numbers that can be in a node fit into it. */
static void
longest_node(void **state)
{
	struct unixfs_link links[UNIXFS_LINKS];
	uint8_t *node = malloc(UNIXFS_NODE); /* exactly, so that a sanitizer sees a byte too far */
	size_t len;

	(void)state;
	memset(links, 0xff, sizeof links);
	len = unixfs_put(node, links, UNIXFS_LINKS, CAR_FILE);
	assert_true(len > UNIXFS_LINKS * (CAR_OURS + 2 * 10) && len <= UNIXFS_NODE);
	free(node);
}

static size_t
allocated(void)
{
	struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
}

static void
memory(void **state)
{
	unsigned nodes = 0;
	size_t before = allocated(), made;
	struct manifest_writer *w = manifest_new(ERIS_LARGE, ignore, &nodes, NULL);
	uint8_t cap[ERIS_CAP] = { 0 };

	(void)state;
	made = allocated();
	assert_true(made - before < 1400000);
	for (unsigned i = 0; i < 1000000; i++)
		assert_int_equal(manifest_add(w, nth_ref(ERIS_LARGE, i), NULL), 0);
	assert_true(nodes > 1000000 / UNIXFS_LINKS); /* they were given out, not kept */
	assert_int_equal(allocated(), made);
	assert_int_equal(manifest_end(w, cap, NULL, 0, cap, NULL), 0);
	assert_int_equal(nodes, 5748 + 34 + 1 + 1);
	manifest_free(w);
	assert_int_equal(allocated(), before);
}

/* Whoever takes the nodes can stop it at each of them. */
static void
stopped(void **state)
{
	uint8_t cap[ERIS_CAP] = { 0 };

	(void)state;
	for (unsigned stop = 1; stop <= 6; stop++) {
		struct kept *k = calloc(1, sizeof *k);
		struct manifest_writer *w;
		struct err e = { 0 };
		int rc = 0;

		k->stop = stop;
		w = manifest_new(ERIS_SMALL, keep, k, &e);
		for (unsigned i = 0; rc == 0 && i < 2 * UNIXFS_LINKS + 1; i++)
			rc = manifest_add(w, nth_ref(ERIS_SMALL, i), &e);
		assert_int_equal(rc, stop < 3 ? -1 : 0);
		if (rc == 0)
			rc = manifest_end(w, cap, NULL, 0, cap, &e);
		assert_int_equal(rc, stop <= 5 ? -1 : 0);
		assert_string_equal(e.text, stop <= 5 ? "enough" : "");
		assert_int_equal(k->n, stop - 1);
		manifest_free(w);
		forget(k);
	}
}

/* --- Roots ------------------------------------------------------------------------------------------- */

#define NARINFO "StorePath: /gnu/store/x\n"
#define NARINFO_LEN 24

static void
known_roots(void **state)
{
	static const struct { uint32_t n; size_t narinfo, len; const char *hash; } cases[] = {
		{ 1, 0, 132, "82eaea2e1a93b7548261daf884e7467a639b909bceb0697cbc6d8651e39bb1a2" },
		{ 2, NARINFO_LEN, 166, "292278de8ac3e33bb70e2f9439d5749ba9d06c0f7c5a3492710e8dc89cb16ac2" },
		{ 349, 0, 134, "02bcc24e38ce964932c0cad31b0f7ab97667bdd4059403855c780418ca436145" },
		{ 174 * 174 + 1, 300, 445, "01d7ddc84e0d5e98908a06593ff3c9fdc66b09c6235faf49949d8562f2f88a71" },
	};
	uint8_t root[ERIS_REF], cap[ERIS_CAP], n300[300];
	char text[2 * ERIS_REF + 1];

	(void)state;
	counting(cap);
	memset(n300, 'n', sizeof n300);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		const uint8_t *narinfo = cases[i].narinfo == 300 ? n300 : (const uint8_t *)NARINFO;
		struct kept *k = make(ERIS_SMALL, cases[i].n, narinfo, cases[i].narinfo, root);
		struct manifest_root r;
		struct err e;

		assert_string_equal(sodium_bin2hex(text, sizeof text, root, ERIS_REF), cases[i].hash);
		assert_int_equal(last(k)->len, cases[i].len);
		assert_int_equal(manifest_parse(&r, last(k)->data, last(k)->len, &e), 0);
		assert_memory_equal(r.cap, cap, ERIS_CAP);
		assert_true(r.blocks == cases[i].n && r.narinfo_len == cases[i].narinfo);
		assert_int_equal(r.narinfo != NULL, r.narinfo_len > 0);
		if (r.narinfo_len > 0)
			assert_memory_equal(r.narinfo, narinfo, r.narinfo_len);
		forget(k);
	}
}

static int
parse_copy(struct manifest_root *r, const uint8_t *data, size_t len, char why[400])
{
	uint8_t *copy = malloc(len > 0 ? len : 1); /* exactly, so that a sanitizer sees a byte too far */
	struct err e = { 0 };
	int rc;

	memcpy(copy, data, len);
	rc = manifest_parse(r, copy, len, &e);
	assert_int_equal(strncmp(e.text, "manifest: ", 10) == 0, rc != 0);
	memcpy(why, e.text, 400 < sizeof e.text ? 400 : sizeof e.text);
	free(copy);
	if (rc == 0 && r->narinfo != NULL)
		r->narinfo = data + (len - r->narinfo_len);
	return rc;
}

static void
refuses(const uint8_t *data, size_t len, const char *words)
{
	struct manifest_root r;
	char why[400];

	assert_int_equal(parse_copy(&r, data, len, why), -1);
	if (strstr(why, words) == NULL)
		fail_msg("%s, but expected: %s", why, words);
}

/* Cut off anywhere; any bit changed: refused, or another root in the only form that it can have. */
static void
damaged(void **state)
{
	/* Bits of a number of blocks that make another one: 1 fits a raw block only; of 349, in two bytes, one bit
	 * makes it a number that has a shorter form. */
	static const struct { uint32_t n; size_t narinfo; unsigned number; } cases[] = { { 1, 0, 0 },
		{ 349, NARINFO_LEN, 15 } };
	uint8_t root[ERIS_REF], copy[400], again[400];
	struct manifest_root r;
	char why[400];

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct kept *k = make(ERIS_SMALL, cases[i].n, (const uint8_t *)NARINFO, cases[i].narinfo, root);
		size_t len = last(k)->len;
		unsigned taken = 0;

		memcpy(copy, last(k)->data, len);
		copy[len] = 0;
		for (size_t cut = 0; cut < len; cut++)
			assert_int_equal(parse_copy(&r, copy, cut, why), -1);
		refuses(copy, len + 1, "behind the end");
		assert_int_equal(parse_copy(&r, copy, len, why), 0);
		for (size_t bit = 0; bit < len * 8; bit++) {
			copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
			if (parse_copy(&r, copy, len, why) == 0) {
				taken++;
				assert_int_equal(put_root(again, 2, &r, r.blocks == 1 ? CAR_RAW : CAR_FILE), len);
				assert_memory_equal(again, copy, len);
			}
			copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
		assert_int_equal(taken, (ERIS_CAP + ERIS_REF + cases[i].narinfo) * 8 + cases[i].number);
		forget(k);
	}
}

static void
other_versions(void **state)
{
	/* {"v": 1, "cap": 66 bytes, "level": 0, "links": [link], "blocks": 1} */
	uint8_t old[300], cid[CAR_OURS];
	struct manifest_root r = { .blocks = 1 };
	size_t n = cbor_put(old, CBOR_MAP, 5);

	(void)state;
	n += cbor_put_key(old + n, "v");
	n += cbor_put(old + n, CBOR_UINT, 1);
	n += cbor_put_key(old + n, "cap");
	n += cbor_put(old + n, CBOR_BYTES, ERIS_CAP);
	counting(old + n);
	n += ERIS_CAP;
	n += cbor_put_key(old + n, "level");
	n += cbor_put(old + n, CBOR_UINT, 0);
	n += cbor_put_key(old + n, "links");
	n += cbor_put(old + n, CBOR_ARRAY, 1);
	car_cid(cid, CAR_RAW, r.file);
	n += cbor_put_link(old + n, cid, sizeof cid);
	n += cbor_put_key(old + n, "blocks");
	n += cbor_put(old + n, CBOR_UINT, 1);
	assert_int_equal(n, 141);
	refuses(old, n, "another version");
	for (uint64_t v = 0; v < 5; v++) {
		char why[400];

		n = put_root(old, v, &r, CAR_RAW);
		if (v == 2)
			assert_int_equal(parse_copy(&r, old, n, why), 0);
		else
			refuses(old, n, "another version");
	}
	n = put_root(old, UINT64_MAX, &r, CAR_RAW);
	refuses(old, n, "another version");
}

/* The kind of the file says whether it is one block. */
static void
files_that_do_not_fit(void **state)
{
	static const uint64_t numbers[] = { 0, 1, 2, 174, 30277, UINT64_MAX };
	static const enum car_kind kinds[] = { CAR_RAW, CAR_FILE, CAR_NODE };
	struct manifest_root r = { .narinfo = (const uint8_t *)NARINFO, .narinfo_len = NARINFO_LEN }, again;
	uint8_t data[400];
	char why[400];

	(void)state;
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
		for (size_t j = 0; j < 3; j++) {
			size_t n;

			r.blocks = numbers[i];
			n = put_root(data, 2, &r, kinds[j]);
			if (kinds[j] == CAR_NODE || r.blocks == 0 || (r.blocks == 1) != (kinds[j] == CAR_RAW))
				refuses(data, n, "file");
			else
				assert_int_equal(parse_copy(&again, data, n, why), 0);
		}
	/* Another hash: the second byte of BLAKE2b-256 (0xb220) says how long it is. */
	r.blocks = 2;
	{
		size_t n = put_root(data, 2, &r, CAR_FILE);
		uint8_t *hash = memmem(data, n, "\xa0\xe4\x02\x20", 4);

		assert_non_null(hash);
		hash[0]++;
		refuses(data, n, "file");
	}
}

static void
narinfos(void **state)
{
	uint8_t *data = malloc(MANIFEST_ROOT + 1), *narinfo = calloc(1, MANIFEST_ROOT), root[ERIS_REF];
	struct manifest_root r = { .blocks = 1, .narinfo = narinfo, .narinfo_len = MANIFEST_NARINFO }, again;
	struct manifest_writer *w;
	struct kept *k;
	struct err e;
	char why[400];
	size_t n;

	(void)state;
	n = put_root(data, 2, &r, CAR_RAW);
	assert_int_equal(parse_copy(&again, data, n, why), 0);
	assert_int_equal(again.narinfo_len, MANIFEST_NARINFO);
	r.narinfo_len++;
	n = put_root(data, 2, &r, CAR_RAW);
	refuses(data, n, "narinfo");
	r.narinfo_len = 0;
	n = put_root(data, 2, &r, CAR_RAW);
	refuses(data, n, "narinfo");
	memset(data, 0, MANIFEST_ROOT + 1);
	refuses(data, MANIFEST_ROOT + 1, "a root of 1048577 bytes");
	refuses(data, 0, "no root");
	/* The longest that is written can be read. */
	k = make(ERIS_LARGE, 2, narinfo, MANIFEST_NARINFO, root);
	assert_int_equal(parse_copy(&again, last(k)->data, last(k)->len, why), 0);
	forget(k);
	k = calloc(1, sizeof *k);
	w = manifest_new(ERIS_LARGE, keep, k, &e);
	assert_int_equal(manifest_end(w, narinfo, NULL, 0, root, &e), -1);
	assert_string_equal(e.text, "manifest: no blocks");
	assert_int_equal(manifest_add(w, nth_ref(ERIS_LARGE, 0), &e), 0);
	assert_int_equal(manifest_end(w, narinfo, narinfo, MANIFEST_NARINFO + 1, root, &e), -1);
	assert_int_equal(k->n, 0);
	manifest_free(w);
	manifest_free(NULL);
	forget(k);
	free(data);
	free(narinfo);
}

static void
order_of_blocks(void **state)
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
	static const char *const bad[] = { "", "bafy2", text + 1,
		"bafk2bzaceai5u3i7oyo57g63jsow4uyd5pkb6ymfruffmr5bu676bcn7sin6s",
		"bafykbzaceai5u3i7oyo57g63jsow4uyd5pkb6ymfruffmr5bu676bcn7sin6s",
		"bafy2bzaceai5u3i7oyo57g63jsow4uyd5pkb6ymfruffmr5bu676bcn7sin6sa",
		"Bafy2bzaceai5u3i7oyo57g63jsow4uyd5pkb6ymfruffmr5bu676bcn7sin6s" };
	static const uint8_t four[4];
	char again[MANIFEST_CID_LEN + 1];
	uint8_t hash[ERIS_REF], zero[ERIS_REF];
	struct err e;

	(void)state;
	manifest_hash(zero, four, sizeof four);
	assert_int_equal(manifest_cid_parse(hash, text, &e), 0);
	assert_memory_equal(hash, zero, ERIS_REF);
	manifest_cid_format(again, hash);
	assert_string_equal(again, text);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (manifest_cid_parse(hash, bad[i], &e) == 0)
			fail_msg("%s was accepted", bad[i]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_files), cmocka_unit_test(longest_node), cmocka_unit_test(memory), cmocka_unit_test(stopped),
		cmocka_unit_test(known_roots), cmocka_unit_test(damaged), cmocka_unit_test(other_versions),
		cmocka_unit_test(files_that_do_not_fit), cmocka_unit_test(narinfos), cmocka_unit_test(order_of_blocks),
		cmocka_unit_test(names),
	};

	if (sodium_init() < 0)
		return 1;
	make_refs();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
