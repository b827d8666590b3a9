/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): sorted keys of blocks, packed: one row of the index. */
#include <string.h>

#include "helper/publish/keys.h"

#define SUM 4

/* Not against lies, which the hashes of blocks are for: a byte that rots shall be noticed before the rest of a
 * row is read into something else. */
static uint32_t
checksum(int64_t first, const uint8_t *data, size_t len)
{
	uint32_t h = 2166136261u ^ (uint32_t)first ^ (uint32_t)(first >> 32);

	for (size_t i = 0; i < len; i++)
		h = (h ^ data[i]) * 16777619u;
	return h;
}

static void
put_word(uint8_t *to, uint32_t word)
{
	for (unsigned i = 0; i < 4; i++)
		to[i] = (uint8_t)(word >> (24 - 8 * i));
}

static uint32_t
get_word(const uint8_t *from)
{
	return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

void
keys_make(uint8_t key[KEYS_SIZE], const uint8_t *ref, uint32_t nar, uint32_t number)
{
	memcpy(key, ref, KEYS_SHORT);
	put_word(key + KEYS_SHORT, nar);
	key[KEYS_SHORT + 4] = (uint8_t)(number >> 16);
	key[KEYS_SHORT + 5] = (uint8_t)(number >> 8);
	key[KEYS_SHORT + 6] = (uint8_t)number;
}

int64_t
keys_ref(const uint8_t *key)
{
	int64_t n = 0;

	for (unsigned i = 0; i < KEYS_SHORT; i++)
		n = n << 8 | key[i];
	return n;
}

int
keys_read(struct keys_reader *r, int64_t first, const uint8_t *row, size_t len)
{
	if (row == NULL || len < SUM || get_word(row) != checksum(first, row + SUM, len - SUM))
		return -1;
	*r = (struct keys_reader){ .at = row + SUM, .end = row + len, .last = { .ref = first } };
	return 0;
}

/* At most MAX; -1: it is not a number, or a larger one. */
static int64_t
get_number(struct keys_reader *r, int64_t max)
{
	int64_t n = 0;

	for (unsigned shift = 0; r->at < r->end && shift < 42; shift += 7) {
		uint8_t byte = *r->at++;

		n |= (int64_t)(byte & 0x7f) << shift;
		if (byte < 0x80)
			return n <= max ? n : -1;
	}
	return -1;
}

int
keys_next(struct keys_reader *r)
{
	int64_t gap, nar, number;

	if (r->at == r->end)
		return 0;
	gap = get_number(r, KEYS_END - 1 - r->last.ref);
	nar = gap < 0 ? -1 : get_number(r, UINT32_MAX);
	number = nar < 0 ? -1 : get_number(r, 0xffffff);
	if (number < 0)
		return -1;
	r->last.ref += gap;
	r->last.nar = (uint32_t)nar;
	r->last.number = (uint32_t)number;
	return 1;
}

static uint8_t *
put_number(uint8_t *to, uint64_t n)
{
	for (; n >= 0x80; n >>= 7)
		*to++ = (uint8_t)(n | 0x80);
	*to++ = (uint8_t)n;
	return to;
}

size_t
keys_pack(uint8_t *row, int64_t first, const uint8_t *keys, size_t n)
{
	uint8_t *to = row + SUM;
	int64_t last = first;

	for (; n > 0; n--, keys += KEYS_SIZE) {
		const uint8_t *number = keys + KEYS_SHORT + 4;
		int64_t ref = keys_ref(keys);

		to = put_number(to, (uint64_t)(ref - last));
		to = put_number(to, get_word(keys + KEYS_SHORT));
		to = put_number(to, (uint32_t)number[0] << 16 | (uint32_t)number[1] << 8 | number[2]);
		last = ref;
	}
	put_word(row, checksum(first, row + SUM, (size_t)(to - row) - SUM));
	return (size_t)(to - row);
}
