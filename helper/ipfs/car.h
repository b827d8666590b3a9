/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (ipfs): CAR version 1 (ipld.io/specs/transport/car/carv1), read as a stream and written.
 *
 * A CAR is: a varint and so many bytes of header, DAG-CBOR {"roots": [links], "version": 1}; then sections: a
 * varint and so many bytes: a CID and the data of its block.  The reader believes and hashes nothing: whoever
 * takes a block checks it. */
#ifndef NARLOCK_IPFS_CAR_H
#define NARLOCK_IPFS_CAR_H

#include <stddef.h>
#include <stdint.h>

#include "helper/eris/eris.h"
#include "ipc/err.h"

/* Longest header, in bytes, and roots in it. */
#define CAR_HEADER 4096
#define CAR_ROOTS 16
/* Longest CID, in bytes: a hash of 64 bytes. */
#define CAR_CID 96
/* Longest block that a reader can be made for: what IPFS refuses anyway is above it. */
#define CAR_BLOCK (2u * 1024 * 1024)

struct car_options {
	size_t block_max;       /* longest block, in bytes, at most CAR_BLOCK */
	uint64_t bytes_max;     /* longest CAR, in bytes */
	uint64_t unasked_max;   /* blocks of other kinds than ours, or of no use (car_unasked()) */
};

enum car_kind {
	CAR_RAW,   /* CIDv1, raw, BLAKE2b-256: a block of ERIS by its reference */
	CAR_NODE,  /* CIDv1, dag-cbor, BLAKE2b-256: the root of a manifest */
	CAR_FILE,  /* CIDv1, dag-pb, BLAKE2b-256: a node of the file in a manifest */
	CAR_OTHER, /* anything else; counted as unasked */
};

struct car_block {
	enum car_kind kind;
	const uint8_t *hash;       /* ERIS_REF bytes, for all kinds but the last */
	const uint8_t *cid, *data; /* valid until the next call */
	size_t cid_len, len;
};

struct car;

/* car_new(o, e): a reader, with all the memory it ever takes (block_max and some), or NULL. */
struct car *car_new(const struct car_options *o, struct err *e);
void car_free(struct car *c);

/* car_feed(c, data, len, b, e): take bytes from *DATA and *LEN, which move on, until a block is whole: 1 and
 * *b, call again; 0: all taken; -1: this is no CAR, or it is over a limit; for good. */
int car_feed(struct car *c, const uint8_t **data, size_t *len, struct car_block *b, struct err *e);

/* car_unasked(c, e): the last block was of no use.  -1 when there were too many. */
int car_unasked(struct car *c, struct err *e);

/* car_end(c, e): no more bytes come.  -1 if it was cut off. */
int car_end(const struct car *c, struct err *e);

/* car_root(c, cid, len): the first root, once the header is through; 0, or -1. */
int car_root(const struct car *c, const uint8_t **cid, size_t *len);

/* Bytes that car_put_header() and car_put_section() write at most. */
#define CAR_PUT_HEADER 80
#define CAR_PUT_SECTION 48

/* car_put_header(to, root): a header with the block ROOT (a reference) as its only root.  Returns its
 * length. */
size_t car_put_header(uint8_t *to, const uint8_t root[ERIS_REF]);
/* car_put_root(to, kind, hash): the same with a root of one of our kinds. */
size_t car_put_root(uint8_t *to, enum car_kind kind, const uint8_t hash[ERIS_REF]);
/* car_put_section(to, kind, hash, len): what stands before a block of LEN bytes.  Returns its length. */
size_t car_put_section(uint8_t *to, enum car_kind kind, const uint8_t hash[ERIS_REF], size_t len);

/* car_cid(cid, kind, hash): the 38 bytes of CIDs of our kinds (all but CAR_OTHER). */
#define CAR_OURS 38
void car_cid(uint8_t cid[CAR_OURS], enum car_kind kind, const uint8_t hash[ERIS_REF]);
/* car_cid_text(text, kind, hash): the same as text: 'b' and base32. */
#define CAR_CID_TEXT 62
void car_cid_text(char text[CAR_CID_TEXT + 1], enum car_kind kind, const uint8_t hash[ERIS_REF]);
/* car_kind_of(cid, len): which kind it is. */
enum car_kind car_kind_of(const uint8_t *cid, size_t len);

#endif
