/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests (fuzz): roots of manifests.  One that is accepted has one form only: written again it is the same.  Few
 * bytes as a list of blocks: nodes of a file stay within their bounds, come before what names them, and name
 * all. */
#include <sodium.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "helper/ipfs/cbor.h"
#include "helper/ipfs/manifest.h"
#include "tests/unit/manifest_root.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
write_again(const struct manifest_root *r, const uint8_t *data, size_t size)
{
	uint8_t *again = malloc(size + 256);

	if (r->blocks == 0 || (r->narinfo != NULL && (r->narinfo < data || r->narinfo + r->narinfo_len != data + size)))
		abort();
	if (again == NULL || put_root(again, 2, r, r->blocks == 1 ? CAR_RAW : CAR_FILE) != size || memcmp(again, data, size) != 0)
		abort();
	free(again);
}

/* --- A file -------------------------------------------------------------------------------------------- */

struct file {
	uint64_t blocks, named;     /* in all, and by nodes so far */
	uint8_t hashes[64][ERIS_REF]; /* of nodes that no other one names yet */
	unsigned n;
	struct manifest_root root;
	uint8_t rooted;
};

static int
take(void *ctx, enum car_kind kind, const uint8_t hash[ERIS_REF], const uint8_t *data, size_t len, struct err *e)
{
	static const uint8_t any[ERIS_REF];
	uint8_t raw[CAR_OURS], node[CAR_OURS];
	struct file *f = ctx;

	(void)e;
	if (!manifest_check(hash, data, len) || f->rooted)
		abort();
	if (kind == CAR_NODE) {
		f->rooted = 1;
		if (manifest_parse(&f->root, data, len, NULL) != 0)
			abort();
		return 0;
	}
	car_cid(raw, CAR_RAW, any);
	car_cid(node, CAR_FILE, any);
	for (const uint8_t *at = data; len > UNIXFS_NODE || (size_t)(data + len - at) > CAR_OURS; at++) {
		if (len > UNIXFS_NODE)
			abort();
		f->named += memcmp(at, raw, CAR_OURS - ERIS_REF) == 0;
		if (memcmp(at, node, CAR_OURS - ERIS_REF) != 0)
			continue;
		/* In the order in which they came, and all of them. */
		if (f->n == 0 || memcmp(at + CAR_OURS - ERIS_REF, f->hashes[0], ERIS_REF) != 0)
			abort();
		memmove(f->hashes[0], f->hashes[1], --f->n * sizeof f->hashes[0]);
	}
	if (kind != CAR_FILE || f->n == 64)
		abort();
	memcpy(f->hashes[f->n++], hash, ERIS_REF);
	return 0;
}

/* At most two levels: what names all of the first one is the last. */
static void
write_file(const uint8_t *data, size_t size)
{
	uint64_t blocks = 1 + (size > 1 ? data[0] + (data[1] & 7u) * 256u : 0);
	struct file f = { .blocks = blocks };
	struct manifest_writer *w = manifest_new(size % 2 == 0 ? ERIS_SMALL : ERIS_LARGE, take, &f, NULL);
	uint8_t ref[ERIS_REF] = { 0 }, cap[ERIS_CAP] = { 0 }, root[ERIS_REF];

	if (w == NULL)
		abort();
	for (uint64_t i = 0; i < blocks; i++) {
		ref[0] = size > 0 ? data[i % size] & 0x3f : 0; /* nothing that looks like a CID */
		if (manifest_add(w, ref, NULL) != 0)
			abort();
	}
	if (manifest_end(w, cap, NULL, 0, root, NULL) != 0 || !f.rooted || f.root.blocks != blocks)
		abort();
	if (blocks == 1 ? f.n != 0 : f.n != 1 || f.named != blocks || memcmp(f.hashes[0], f.root.file, ERIS_REF) != 0)
		abort();
	manifest_free(w);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct manifest_root r;

	if (sodium_init() < 0)
		abort();
	if (manifest_parse(&r, data, size, NULL) == 0)
		write_again(&r, data, size);
	if (size <= 4)
		write_file(data, size);
	return 0;
}
