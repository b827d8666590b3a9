/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (ipfs): the few items of DAG-CBOR that a CAR header and a manifest are made of.  Every value has
 * one form only: shortest lengths, nothing indefinite. */
#ifndef NARLOCK_IPFS_CBOR_H
#define NARLOCK_IPFS_CBOR_H

#include <stddef.h>
#include <stdint.h>

enum cbor_type { CBOR_UINT = 0, CBOR_BYTES = 2, CBOR_TEXT = 3, CBOR_ARRAY = 4, CBOR_MAP = 5, CBOR_TAG = 6 };

/* The tag of a link: a byte string with a 0 and the bytes of a CID follows. */
#define CBOR_LINK 42

/* Bytes of a head with any value. */
#define CBOR_HEAD 9

struct cbor {
	const uint8_t *at, *end;
};

/* cbor_head(c, type, value): read the head of an item of that type.  0, or -1: another type, cut off, or not
 * the shortest form. */
int cbor_head(struct cbor *c, enum cbor_type type, uint64_t *value);

/* cbor_bytes(c, type, data, len): a byte or text string; its bytes stay where they are.  0 or -1. */
int cbor_bytes(struct cbor *c, enum cbor_type type, const uint8_t **data, size_t *len);

/* cbor_key(c, key): exactly this text.  0 or -1. */
int cbor_key(struct cbor *c, const char *key);

/* cbor_link(c, cid, len): a link: the bytes of its CID.  0 or -1. */
int cbor_link(struct cbor *c, const uint8_t **cid, size_t *len);

/* cbor_put(to, type, value): write a head.  Returns its length, at most CBOR_HEAD. */
size_t cbor_put(uint8_t *to, enum cbor_type type, uint64_t value);

/* cbor_put_key(to, key), cbor_put_link(to, cid, len): a text, a link.  Return their lengths (key: strlen
 * and CBOR_HEAD at most; link: LEN and CBOR_HEAD at most). */
size_t cbor_put_key(uint8_t *to, const char *key);
size_t cbor_put_link(uint8_t *to, const uint8_t *cid, size_t len);

#endif
