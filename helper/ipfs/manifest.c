/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (ipfs): the manifest of a nar. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "helper/eris/base32.h"
#include "helper/ipfs/car.h"
#include "helper/ipfs/cbor.h"
#include "helper/ipfs/manifest.h"

#define VERSION 1
/* A link: tag (2), head of a byte string (2), a zero, the CID. */
#define LINK (5 + CAR_OURS)
#define LINK_HASH (LINK - ERIS_REF)

static const uint8_t link_head[] = { 0xd8, 0x2a, 0x58, CAR_OURS + 1, 0x00 };

/* --- Nodes ------------------------------------------------------------------------------------------- */

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

const uint8_t *
manifest_link(const struct manifest_node *n, unsigned i)
{
	return n->links + (size_t)i * LINK + LINK_HASH;
}

void
manifest_cid_format(char text[MANIFEST_CID_LEN + 1], const uint8_t hash[ERIS_REF])
{
	uint8_t cid[CAR_OURS];

	car_cid(cid, CAR_NODE, hash);
	text[0] = 'b';
	base32_encode(text + 1, cid, sizeof cid, BASE32_LOWER);
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

static int
parse_links(struct manifest_node *n, struct cbor *c)
{
	enum car_kind kind = n->level == 0 ? CAR_RAW : CAR_NODE;
	uint64_t count;

	if (cbor_key(c, "links") != 0 || cbor_head(c, CBOR_ARRAY, &count) != 0 || count == 0 ||
	    count > MANIFEST_LINKS || (size_t)(c->end - c->at) < (size_t)count * LINK)
		return -1;
	n->count = (unsigned)count;
	n->links = c->at;
	for (; count > 0; count--, c->at += LINK)
		if (memcmp(c->at, link_head, sizeof link_head) != 0 ||
		    car_kind_of(c->at + sizeof link_head, CAR_OURS) != kind)
			return -1;
	return 0;
}

/* What only a root has behind its links. */
static int
parse_root_end(struct manifest_node *n, struct cbor *c, int with_narinfo)
{
	if (cbor_key(c, "blocks") != 0 || cbor_head(c, CBOR_UINT, &n->blocks) != 0)
		return -1;
	if (!with_narinfo)
		return 0;
	if (cbor_key(c, "narinfo") != 0 || cbor_bytes(c, CBOR_BYTES, &n->narinfo, &n->narinfo_len) != 0 ||
	    n->narinfo_len == 0 || n->narinfo_len > MANIFEST_NARINFO)
		return -1;
	return 0;
}

int
manifest_parse(struct manifest_node *n, const uint8_t *data, size_t len, struct err *e)
{
	struct cbor c = { data, data + len };
	const uint8_t *cap;
	size_t cap_len;
	uint64_t fields, value;

	memset(n, 0, sizeof *n);
	if (len > MANIFEST_ROOT)
		return err_set(e, "manifest: a node of %zu bytes", len);
	if (cbor_head(&c, CBOR_MAP, &fields) != 0 || (fields != 2 && fields != 5 && fields != 6))
		return err_set(e, "manifest: this is no node");
	n->root = fields != 2;
	if (!n->root && len > MANIFEST_NODE)
		return err_set(e, "manifest: a node of %zu bytes", len);
	if (n->root && (cbor_key(&c, "v") != 0 || cbor_head(&c, CBOR_UINT, &value) != 0 || value != VERSION))
		return err_set(e, "manifest: a root of another version");
	if (n->root && (cbor_key(&c, "cap") != 0 || cbor_bytes(&c, CBOR_BYTES, &cap, &cap_len) != 0 ||
	    cap_len != ERIS_CAP))
		return err_set(e, "manifest: a root without a read capability");
	if (n->root)
		memcpy(n->cap, cap, ERIS_CAP);
	if (cbor_key(&c, "level") != 0 || cbor_head(&c, CBOR_UINT, &value) != 0 || value >= MANIFEST_LEVELS)
		return err_set(e, "manifest: a node without a level");
	n->level = (uint8_t)value;
	if (parse_links(n, &c) != 0)
		return err_set(e, "manifest: bad links");
	if (n->root && parse_root_end(n, &c, fields == 6) != 0)
		return err_set(e, "manifest: a root with a bad end");
	if (n->root && (n->level > 0 ? n->count < 2 : n->blocks != n->count))
		return err_set(e, "manifest: a root of the wrong level or number of blocks");
	if (c.at != c.end)
		return err_set(e, "manifest: bytes behind the end");
	return 0;
}

/* --- Writing ----------------------------------------------------------------------------------------- */

struct manifest_writer {
	manifest_sink sink;
	void *ctx;
	uint64_t blocks;
	unsigned top;                    /* highest level with links */
	unsigned count[MANIFEST_LEVELS];
	uint8_t links[MANIFEST_LEVELS][MANIFEST_LINKS][ERIS_REF];
	uint8_t node[MANIFEST_ROOT];
};

struct manifest_writer *
manifest_new(manifest_sink sink, void *ctx, struct err *e)
{
	struct manifest_writer *w = calloc(1, sizeof *w);

	if (w == NULL || sodium_init() < 0) {
		free(w);
		err_set(e, "no memory for a manifest");
		return NULL;
	}
	w->sink = sink;
	w->ctx = ctx;
	return w;
}

void
manifest_free(struct manifest_writer *w)
{
	free(w);
}

/* Level and links, which all nodes have. */
static size_t
put_links(struct manifest_writer *w, unsigned level, uint8_t *to)
{
	size_t n = cbor_put_key(to, "level");
	uint8_t cid[CAR_OURS];

	n += cbor_put(to + n, CBOR_UINT, level);
	n += cbor_put_key(to + n, "links");
	n += cbor_put(to + n, CBOR_ARRAY, w->count[level]);
	for (unsigned i = 0; i < w->count[level]; i++) {
		car_cid(cid, level == 0 ? CAR_RAW : CAR_NODE, w->links[level][i]);
		n += cbor_put_link(to + n, cid, sizeof cid);
	}
	w->count[level] = 0;
	return n;
}

static int
emit(struct manifest_writer *w, size_t len, uint8_t hash[ERIS_REF], struct err *e)
{
	manifest_hash(hash, w->node, len);
	return w->sink(w->ctx, hash, w->node, len, e);
}

/* A link at LEVEL.  A full node is written only when one more comes: it could be the root. */
static int
add(struct manifest_writer *w, unsigned level, const uint8_t *hash, struct err *e)
{
	uint8_t at[ERIS_REF], up[ERIS_REF];

	memcpy(at, hash, ERIS_REF);
	for (; level < MANIFEST_LEVELS; level++) {
		int full = w->count[level] == MANIFEST_LINKS;

		if (full && level + 1 < MANIFEST_LEVELS) {
			size_t n = cbor_put(w->node, CBOR_MAP, 2);

			n += put_links(w, level, w->node + n);
			if (emit(w, n, up, e) != 0)
				return -1;
		} else if (full)
			break;
		memcpy(w->links[level][w->count[level]++], at, ERIS_REF);
		if (level > w->top)
			w->top = level;
		if (!full)
			return 0;
		memcpy(at, up, ERIS_REF);
	}
	return err_set(e, "manifest: too many blocks");
}

int
manifest_add(struct manifest_writer *w, const uint8_t ref[ERIS_REF], struct err *e)
{
	w->blocks++;
	return add(w, 0, ref, e);
}

int
manifest_end(struct manifest_writer *w, const uint8_t cap[ERIS_CAP], const uint8_t *narinfo, size_t len,
    uint8_t root[ERIS_REF], struct err *e)
{
	size_t n;

	if (w->blocks == 0)
		return err_set(e, "manifest: no blocks");
	if (len > MANIFEST_NARINFO)
		return err_set(e, "manifest: a narinfo of %zu bytes", len);
	/* add() may raise the top by one: then that is the root. */
	for (unsigned level = 0; level < w->top; level++) {
		n = cbor_put(w->node, CBOR_MAP, 2);
		n += put_links(w, level, w->node + n);
		if (emit(w, n, root, e) != 0 || add(w, level + 1, root, e) != 0)
			return -1;
	}
	n = cbor_put(w->node, CBOR_MAP, len > 0 ? 6 : 5);
	n += cbor_put_key(w->node + n, "v");
	n += cbor_put(w->node + n, CBOR_UINT, VERSION);
	n += cbor_put_key(w->node + n, "cap");
	n += cbor_put(w->node + n, CBOR_BYTES, ERIS_CAP);
	memcpy(w->node + n, cap, ERIS_CAP);
	n += ERIS_CAP;
	n += put_links(w, w->top, w->node + n);
	n += cbor_put_key(w->node + n, "blocks");
	n += cbor_put(w->node + n, CBOR_UINT, w->blocks);
	if (len > 0) {
		n += cbor_put_key(w->node + n, "narinfo");
		n += cbor_put(w->node + n, CBOR_BYTES, len);
		memcpy(w->node + n, narinfo, len);
		n += len;
	}
	return emit(w, n, root, e);
}

int
manifest_compare(const void *a, const void *b)
{
	const struct manifest_entry *x = a, *y = b;

	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return (x->level < y->level) - (x->level > y->level);
}

/* --- Walking ----------------------------------------------------------------------------------------- */

struct frame {
	unsigned at, count;
	uint8_t last; /* the right-most of its level */
	uint8_t links[MANIFEST_LINKS][ERIS_REF];
};

struct manifest_walk {
	uint64_t blocks, left;
	unsigned level, top; /* of the frame in use, of the root */
	struct frame frames[];
};

static void
enter(struct manifest_walk *w, const struct manifest_node *n, uint8_t last)
{
	struct frame *f = &w->frames[n->level];

	f->at = 0;
	f->count = n->count;
	f->last = last;
	for (unsigned i = 0; i < n->count; i++)
		memcpy(f->links[i], manifest_link(n, i), ERIS_REF);
	w->level = n->level;
}

struct manifest_walk *
manifest_walk_new(const struct manifest_node *root, uint64_t max_blocks, struct err *e)
{
	struct manifest_walk *w;

	if (!root->root || root->blocks > max_blocks) {
		err_set(e, "manifest: %s", root->root ? "more blocks than the nar can have" : "this is no root");
		return NULL;
	}
	w = calloc(1, sizeof *w + (root->level + 1u) * sizeof w->frames[0]);
	if (w == NULL) {
		err_set(e, "no memory for a manifest");
		return NULL;
	}
	w->left = root->blocks;
	w->top = root->level;
	enter(w, root, 1);
	return w;
}

void
manifest_walk_free(struct manifest_walk *w)
{
	free(w);
}

enum manifest_step
manifest_walk_next(struct manifest_walk *w, uint8_t ref[ERIS_REF], struct err *e)
{
	while (w->frames[w->level].at == w->frames[w->level].count) {
		if (w->level == w->top) {
			if (w->left == 0)
				return MANIFEST_DONE;
			err_set(e, "manifest: less blocks than it says");
			return MANIFEST_BROKEN;
		}
		w->level++;
	}
	memcpy(ref, w->frames[w->level].links[w->frames[w->level].at], ERIS_REF);
	if (w->level > 0)
		return MANIFEST_NEEDS;
	if (w->left-- == 0) {
		w->left = 0;
		err_set(e, "manifest: more blocks than it says");
		return MANIFEST_BROKEN;
	}
	w->frames[0].at++;
	return MANIFEST_BLOCK;
}

int
manifest_walk_give(struct manifest_walk *w, const uint8_t *data, size_t len, struct err *e)
{
	struct frame *f = &w->frames[w->level];
	struct manifest_node n;
	uint8_t last;

	if (w->level == 0 || f->at == f->count)
		return err_set(e, "manifest: no node is needed");
	if (len > MANIFEST_NODE || !manifest_check(f->links[f->at], data, len)) {
		err_set(e, "manifest: another node than was asked for");
		return 1;
	}
	if (manifest_parse(&n, data, len, e) != 0)
		return -1;
	last = f->last && f->at == f->count - 1;
	if (n.root || n.level != w->level - 1 || (!last && n.count != MANIFEST_LINKS))
		return err_set(e, "manifest: a node that does not belong there");
	f->at++;
	enter(w, &n, last);
	return 0;
}
