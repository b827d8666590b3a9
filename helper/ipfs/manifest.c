/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (ipfs): the manifest of a nar. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "helper/eris/base32.h"
#include "helper/ipfs/cbor.h"
#include "helper/ipfs/manifest.h"

#define VERSION 2

void
manifest_hash(uint8_t hash[ERIS_REF], const uint8_t *data, size_t len)
{
	crypto_generichash(hash, ERIS_REF, data, len, NULL, 0);
}

int
manifest_check(const uint8_t hash[ERIS_REF], const uint8_t *data, size_t len)
{
	uint8_t is[ERIS_REF];

	manifest_hash(is, data, len);
	return memcmp(is, hash, ERIS_REF) == 0;
}

void
manifest_cid_format(char text[MANIFEST_CID_LEN + 1], const uint8_t hash[ERIS_REF])
{
	car_cid_text(text, CAR_NODE, hash);
}

int
manifest_cid_parse(uint8_t hash[ERIS_REF], const char *text, struct err *e)
{
	uint8_t cid[CAR_OURS];

	if (text[0] != 'b' || base32_decode(cid, sizeof cid, text + 1, strnlen(text + 1, MANIFEST_CID_LEN),
	    BASE32_LOWER) != 0 || car_kind_of(cid, sizeof cid) != CAR_NODE)
		return err_set(e, "this is no CID (version 1, base32) of a dag-cbor node by BLAKE2b-256");
	memcpy(hash, cid + CAR_OURS - ERIS_REF, ERIS_REF);
	return 0;
}

/* --- Reading ----------------------------------------------------------------------------------------- */

static int
parse_file(struct manifest_root *r, struct cbor *c)
{
	const uint8_t *cid;
	enum car_kind kind;
	size_t len;

	if (cbor_key(c, "file") != 0 || cbor_link(c, &cid, &len) != 0)
		return -1;
	kind = car_kind_of(cid, len);
	if (cbor_key(c, "blocks") != 0 || cbor_head(c, CBOR_UINT, &r->blocks) != 0 || r->blocks == 0 ||
	    kind != (r->blocks == 1 ? CAR_RAW : CAR_FILE))
		return -1;
	memcpy(r->file, cid + CAR_OURS - ERIS_REF, ERIS_REF);
	return 0;
}

int
manifest_parse(struct manifest_root *r, const uint8_t *data, size_t len, struct err *e)
{
	struct cbor c = { data, data + len };
	const uint8_t *cap;
	size_t cap_len;
	uint64_t fields, version;

	memset(r, 0, sizeof *r);
	if (len > MANIFEST_ROOT)
		return err_set(e, "manifest: a root of %zu bytes", len);
	if (cbor_head(&c, CBOR_MAP, &fields) != 0 || cbor_key(&c, "v") != 0 || cbor_head(&c, CBOR_UINT, &version) != 0)
		return err_set(e, "manifest: this is no root");
	if (version != VERSION || (fields != 4 && fields != 5))
		return err_set(e, "manifest: a root of another version");
	if (cbor_key(&c, "cap") != 0 || cbor_bytes(&c, CBOR_BYTES, &cap, &cap_len) != 0 || cap_len != ERIS_CAP)
		return err_set(e, "manifest: a root without a read capability");
	memcpy(r->cap, cap, ERIS_CAP);
	if (parse_file(r, &c) != 0)
		return err_set(e, "manifest: a root without a file that fits it");
	if (fields == 5 && (cbor_key(&c, "narinfo") != 0 ||
	    cbor_bytes(&c, CBOR_BYTES, &r->narinfo, &r->narinfo_len) != 0 || r->narinfo_len == 0 ||
	    r->narinfo_len > MANIFEST_NARINFO))
		return err_set(e, "manifest: a root with a bad narinfo");
	if (c.at != c.end)
		return err_set(e, "manifest: bytes behind the end");
	return 0;
}

/* --- Writing ----------------------------------------------------------------------------------------- */

struct manifest_writer {
	manifest_sink sink;
	void *ctx;
	uint32_t block_size;
	uint64_t blocks;
	unsigned top;                    /* highest level with links */
	unsigned count[MANIFEST_LEVELS];
	struct unixfs_link links[MANIFEST_LEVELS][UNIXFS_LINKS];
	uint8_t node[MANIFEST_ROOT];
};

struct manifest_writer *
manifest_new(uint32_t block_size, manifest_sink sink, void *ctx, struct err *e)
{
	struct manifest_writer *w = calloc(1, sizeof *w);

	if (w == NULL || sodium_init() < 0) {
		free(w);
		err_set(e, "no memory for a manifest");
		return NULL;
	}
	w->block_size = block_size;
	w->sink = sink;
	w->ctx = ctx;
	return w;
}

void
manifest_free(struct manifest_writer *w)
{
	free(w);
}

/* The links of LEVEL as a node: *UP links to it. */
static int
emit(struct manifest_writer *w, unsigned level, struct unixfs_link *up, struct err *e)
{
	size_t len = unixfs_put(w->node, w->links[level], w->count[level], level == 0 ? CAR_RAW : CAR_FILE);

	*up = (struct unixfs_link){ .all = len };
	for (unsigned i = 0; i < w->count[level]; i++) {
		up->size += w->links[level][i].size;
		up->all += w->links[level][i].all;
	}
	w->count[level] = 0;
	manifest_hash(up->hash, w->node, len);
	return w->sink(w->ctx, CAR_FILE, up->hash, w->node, len, e);
}

/* A link at LEVEL.  A full node is written only when one more comes: it could be the file's root. */
static int
add(struct manifest_writer *w, unsigned level, const struct unixfs_link *link, struct err *e)
{
	struct unixfs_link at = *link, up;

	for (; level < MANIFEST_LEVELS; level++) {
		int full = w->count[level] == UNIXFS_LINKS;

		if (full && emit(w, level, &up, e) != 0)
			return -1;
		w->links[level][w->count[level]++] = at;
		if (level > w->top)
			w->top = level;
		if (!full)
			return 0;
		at = up;
	}
	return err_set(e, "manifest: too many blocks");
}

int
manifest_add(struct manifest_writer *w, const uint8_t ref[ERIS_REF], struct err *e)
{
	struct unixfs_link link = { .size = w->block_size, .all = w->block_size };

	memcpy(link.hash, ref, ERIS_REF);
	w->blocks++;
	return add(w, 0, &link, e);
}

/* All that is not written yet, level by level, until one link is left: to the file. */
static int
end_file(struct manifest_writer *w, struct err *e)
{
	struct unixfs_link up;

	for (unsigned level = 0; level < w->top || w->count[level] > 1; level++)
		if (emit(w, level, &up, e) != 0 || add(w, level + 1, &up, e) != 0)
			return -1;
	return 0;
}

int
manifest_end(struct manifest_writer *w, const uint8_t cap[ERIS_CAP], const uint8_t *narinfo, size_t len,
    uint8_t root[ERIS_REF], struct err *e)
{
	uint8_t cid[CAR_OURS];
	size_t n;

	if (w->blocks == 0)
		return err_set(e, "manifest: no blocks");
	if (len > MANIFEST_NARINFO)
		return err_set(e, "manifest: a narinfo of %zu bytes", len);
	if (end_file(w, e) != 0)
		return -1;
	car_cid(cid, w->blocks == 1 ? CAR_RAW : CAR_FILE, w->links[w->top][0].hash);
	n = cbor_put(w->node, CBOR_MAP, len > 0 ? 5 : 4);
	n += cbor_put_key(w->node + n, "v");
	n += cbor_put(w->node + n, CBOR_UINT, VERSION);
	n += cbor_put_key(w->node + n, "cap");
	n += cbor_put(w->node + n, CBOR_BYTES, ERIS_CAP);
	memcpy(w->node + n, cap, ERIS_CAP);
	n += ERIS_CAP;
	n += cbor_put_key(w->node + n, "file");
	n += cbor_put_link(w->node + n, cid, sizeof cid);
	n += cbor_put_key(w->node + n, "blocks");
	n += cbor_put(w->node + n, CBOR_UINT, w->blocks);
	if (len > 0) {
		n += cbor_put_key(w->node + n, "narinfo");
		n += cbor_put(w->node + n, CBOR_BYTES, len);
		memcpy(w->node + n, narinfo, len);
		n += len;
	}
	manifest_hash(root, w->node, n);
	return w->sink(w->ctx, CAR_NODE, root, w->node, n, e);
}

int
manifest_compare(const void *a, const void *b)
{
	const struct manifest_entry *x = a, *y = b;

	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return (x->level < y->level) - (x->level > y->level);
}
