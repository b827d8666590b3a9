/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): sorted keys of blocks, packed: one row of the index.
 *
 * A key is the first KEYS_SHORT bytes of a block's reference, the number of its nar and its own number in the
 * nar, big-endian: KEYS_SIZE bytes, which memcmp() sorts.  A row holds those from its FIRST reference on to
 * that of the row behind it: a checksum of four bytes, then for each key three numbers of seven bits a byte,
 * least significant first: how far its reference is from the one before it (the first one: from FIRST), the
 * nar, the number.  That is about 7 bytes a key. */
#ifndef NARLOCK_PUBLISH_KEYS_H
#define NARLOCK_PUBLISH_KEYS_H

#include <stddef.h>
#include <stdint.h>

#define KEYS_SHORT 5
#define KEYS_SIZE (KEYS_SHORT + 7)
/* Behind the last reference. */
#define KEYS_END ((int64_t)1 << 8 * KEYS_SHORT)
/* Bytes of N packed keys at most. */
#define KEYS_ROOM(n) (4 + (size_t)(n) * 15)

struct keys_entry {
	int64_t ref; /* its first bytes as a number */
	uint32_t nar, number;
};

void keys_make(uint8_t key[KEYS_SIZE], const uint8_t *ref, uint32_t nar, uint32_t number);
/* keys_ref(key): the number of a key's or of a reference's first bytes. */
int64_t keys_ref(const uint8_t *key);

struct keys_reader {
	const uint8_t *at, *end;
	struct keys_entry last;
};

/* keys_read(r, first, row, len): begin; the row stays the caller's.  -1: it is damaged. */
int keys_read(struct keys_reader *r, int64_t first, const uint8_t *row, size_t len);
/* keys_next(r): the next key into r->last.  1; 0: that was all; -1: the row is damaged. */
int keys_next(struct keys_reader *r);

/* keys_pack(row, first, keys, n): N sorted keys, none below FIRST, into KEYS_ROOM(n) bytes: how many. */
size_t keys_pack(uint8_t *row, int64_t first, const uint8_t *keys, size_t n);

#endif
