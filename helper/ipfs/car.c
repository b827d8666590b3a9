/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (ipfs): CAR version 1, read as a stream and written. */
#include <stdlib.h>
#include <string.h>

#include "helper/eris/base32.h"
#include "helper/ipfs/car.h"
#include "helper/ipfs/cbor.h"

/* CIDv1; raw, dag-cbor or dag-pb; blake2b-256 (0xb220 as a varint), 32 bytes. */
static const uint8_t ours[] = { 0x01, 0x55, 0xa0, 0xe4, 0x02, 0x20 };
#define DAG_CBOR 0x71
#define DAG_PB 0x70
/* Bytes of a varint with a length of ours. */
#define VARINT 5

struct car {
	struct car_options o;
	uint64_t bytes, unasked;
	uint8_t broken, has_header;
	uint64_t size;        /* of the part that comes; 0: its length comes */
	unsigned nvarint;
	uint64_t varint;
	size_t got, room;
	uint8_t root[CAR_CID];
	size_t root_len;
	uint8_t buf[];
};

struct car *
car_new(const struct car_options *o, struct err *e)
{
	size_t room = o->block_max + CAR_CID > CAR_HEADER ? o->block_max + CAR_CID : CAR_HEADER;
	struct car *c;

	if (o->block_max == 0 || o->block_max > CAR_BLOCK) {
		err_set(e, "a CAR with blocks of %zu bytes", o->block_max);
		return NULL;
	}
	c = calloc(1, sizeof *c + room);
	if (c == NULL) {
		err_set(e, "no memory for a CAR");
		return NULL;
	}
	c->o = *o;
	c->room = room;
	return c;
}

void
car_free(struct car *c)
{
	free(c);
}

/* --- CIDs -------------------------------------------------------------------------------------------- */

/* A varint in its shortest form, of at most 63 bits.  0 or -1. */
static int
varint(const uint8_t **at, const uint8_t *end, uint64_t *value)
{
	*value = 0;
	for (unsigned shift = 0; shift < 63 && *at < end; shift += 7) {
		uint8_t byte = *(*at)++;

		*value |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80)
			return byte == 0 && shift > 0 ? -1 : 0;
	}
	return -1;
}

/* Bytes of the CID at DATA, 0 if there is none. */
static size_t
cid_length(const uint8_t *data, size_t len)
{
	const uint8_t *at = data, *end = data + len;
	uint64_t version, codec, hash, digest;

	if (len >= 34 && data[0] == 0x12 && data[1] == 0x20)
		return 34; /* version 0: a bare SHA-256 multihash */
	if (varint(&at, end, &version) != 0 || version != 1 || varint(&at, end, &codec) != 0 ||
	    varint(&at, end, &hash) != 0 || varint(&at, end, &digest) != 0)
		return 0;
	if (digest > 64 || digest > (uint64_t)(end - at))
		return 0;
	return (size_t)(at - data) + (size_t)digest;
}

void
car_cid(uint8_t cid[CAR_OURS], enum car_kind kind, const uint8_t hash[ERIS_REF])
{
	memcpy(cid, ours, sizeof ours);
	if (kind == CAR_NODE || kind == CAR_FILE)
		cid[1] = kind == CAR_NODE ? DAG_CBOR : DAG_PB;
	memcpy(cid + sizeof ours, hash, ERIS_REF);
}

enum car_kind
car_kind_of(const uint8_t *cid, size_t len)
{
	if (len != CAR_OURS || cid[0] != ours[0] || memcmp(cid + 2, ours + 2, sizeof ours - 2) != 0)
		return CAR_OTHER;
	return cid[1] == ours[1] ? CAR_RAW : cid[1] == DAG_CBOR ? CAR_NODE : cid[1] == DAG_PB ? CAR_FILE : CAR_OTHER;
}

void
car_cid_text(char text[CAR_CID_TEXT + 1], enum car_kind kind, const uint8_t hash[ERIS_REF])
{
	uint8_t cid[CAR_OURS];

	car_cid(cid, kind, hash);
	text[0] = 'b';
	base32_encode(text + 1, cid, sizeof cid, BASE32_LOWER);
}

/* --- Reading ----------------------------------------------------------------------------------------- */

static int
bad(struct car *c, struct err *e, const char *why)
{
	c->broken = 1;
	return err_set(e, "CAR: %s", why);
}

static int
header(struct car *c, struct err *e)
{
	struct cbor h = { c->buf, c->buf + c->got };
	uint64_t n;

	if (cbor_head(&h, CBOR_MAP, &n) != 0 || n != 2 || cbor_key(&h, "roots") != 0 ||
	    cbor_head(&h, CBOR_ARRAY, &n) != 0)
		return bad(c, e, "this is no header of version 1");
	if (n == 0 || n > CAR_ROOTS)
		return bad(c, e, n == 0 ? "no root" : "too many roots");
	for (uint64_t i = 0; i < n; i++) {
		const uint8_t *cid;
		size_t len;

		if (cbor_link(&h, &cid, &len) != 0 || cid_length(cid, len) != len || len > CAR_CID)
			return bad(c, e, "a root that is no CID");
		if (i == 0) {
			memcpy(c->root, cid, len);
			c->root_len = len;
		}
	}
	if (cbor_key(&h, "version") != 0 || cbor_head(&h, CBOR_UINT, &n) != 0 || n != 1 || h.at != h.end)
		return bad(c, e, "this is no header of version 1");
	c->has_header = 1;
	return 0;
}

static int
section(struct car *c, struct car_block *b, struct err *e)
{
	size_t cid = cid_length(c->buf, c->got);

	if (cid == 0 || cid > CAR_CID)
		return bad(c, e, "a block without a CID");
	if (c->got - cid > c->o.block_max)
		return bad(c, e, "a block that is too long");
	*b = (struct car_block){ .kind = car_kind_of(c->buf, cid), .cid = c->buf, .cid_len = cid,
		.data = c->buf + cid, .len = c->got - cid };
	if (b->kind == CAR_OTHER)
		return car_unasked(c, e) == 0 ? 1 : -1;
	b->hash = c->buf + sizeof ours;
	return 1;
}

/* One byte of the length of the next part. */
static int
length(struct car *c, uint8_t byte, struct err *e)
{
	uint64_t max = c->has_header ? c->o.block_max + CAR_CID : CAR_HEADER;

	if (c->nvarint == VARINT)
		return bad(c, e, "a length that is too long");
	c->varint |= (uint64_t)(byte & 0x7f) << (7 * c->nvarint++);
	if (byte >= 0x80)
		return 0;
	if (byte == 0) /* zero, or not the shortest form */
		return bad(c, e, c->nvarint == 1 ? "an empty part" : "a length in a form that is not the shortest");
	if (c->varint > max)
		return bad(c, e, c->has_header ? "a block that is too long" : "a header that is too long");
	c->size = c->varint;
	c->varint = 0;
	c->nvarint = 0;
	c->got = 0;
	return 0;
}

int
car_feed(struct car *c, const uint8_t **data, size_t *len, struct car_block *b, struct err *e)
{
	if (c->broken)
		return err_set(e, "CAR: broken before");
	while (*len > 0) {
		size_t n = 1;
		int rc = 0;

		if (c->size == 0) {
			rc = length(c, **data, e);
		} else {
			n = (size_t)c->size - c->got < *len ? (size_t)c->size - c->got : *len;
			memcpy(c->buf + c->got, *data, n);
			c->got += n;
		}
		*data += n;
		*len -= n;
		c->bytes += n;
		if (c->bytes > c->o.bytes_max)
			return bad(c, e, "longer than it can be");
		if (rc == 0 && c->size != 0 && c->got == c->size) {
			c->size = 0;
			rc = c->has_header ? section(c, b, e) : header(c, e);
		}
		if (rc != 0)
			return rc;
	}
	return 0;
}

int
car_unasked(struct car *c, struct err *e)
{
	if (++c->unasked > c->o.unasked_max)
		return bad(c, e, "too many blocks that nobody asked for");
	return 0;
}

int
car_end(const struct car *c, struct err *e)
{
	if (c->broken)
		return err_set(e, "CAR: broken before");
	if (!c->has_header || c->size != 0 || c->nvarint != 0)
		return err_set(e, "CAR: cut off");
	return 0;
}

int
car_root(const struct car *c, const uint8_t **cid, size_t *len)
{
	if (!c->has_header)
		return -1;
	*cid = c->root;
	*len = c->root_len;
	return 0;
}

/* --- Writing ----------------------------------------------------------------------------------------- */

static size_t
put_varint(uint8_t *to, uint64_t value)
{
	size_t n = 0;

	for (; value >= 0x80; value >>= 7)
		to[n++] = (uint8_t)(value | 0x80);
	to[n++] = (uint8_t)value;
	return n;
}

size_t
car_put_header(uint8_t *to, const uint8_t root[ERIS_REF])
{
	return car_put_root(to, CAR_RAW, root);
}

size_t
car_put_root(uint8_t *to, enum car_kind kind, const uint8_t hash[ERIS_REF])
{
	uint8_t h[CAR_PUT_HEADER], cid[CAR_OURS];
	size_t n, m;

	car_cid(cid, kind, hash);
	n = cbor_put(h, CBOR_MAP, 2);
	n += cbor_put_key(h + n, "roots");
	n += cbor_put(h + n, CBOR_ARRAY, 1);
	n += cbor_put_link(h + n, cid, sizeof cid);
	n += cbor_put_key(h + n, "version");
	n += cbor_put(h + n, CBOR_UINT, 1);
	m = put_varint(to, n);
	memcpy(to + m, h, n);
	return m + n;
}

size_t
car_put_section(uint8_t *to, enum car_kind kind, const uint8_t hash[ERIS_REF], size_t len)
{
	size_t n = put_varint(to, CAR_OURS + len);

	car_cid(to + n, kind, hash);
	return n + CAR_OURS;
}
