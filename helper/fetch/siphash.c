/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): SipHash-2-4, for the state file. */
#include "helper/fetch/siphash.h"

static uint64_t
rotate(uint64_t x, unsigned n)
{
	return x << n | x >> (64 - n);
}

static uint64_t
get_le(const uint8_t *p, size_t n)
{
	uint64_t v = 0;

	for (size_t i = n; i-- > 0;)
		v = v << 8 | p[i];
	return v;
}

static void
put_le(uint8_t *p, uint64_t v)
{
	for (size_t i = 0; i < 8; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static void
rounds(uint64_t v[4], int n)
{
	while (n-- > 0) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = rotate(v[1], 13) ^ v[0];
		v[3] = rotate(v[3], 16) ^ v[2];
		v[0] = rotate(v[0], 32);
		v[2] += v[1];
		v[0] += v[3];
		v[1] = rotate(v[1], 17) ^ v[2];
		v[3] = rotate(v[3], 21) ^ v[0];
		v[2] = rotate(v[2], 32);
	}
}

static void
word(uint64_t v[4], uint64_t m)
{
	v[3] ^= m;
	rounds(v, 2);
	v[0] ^= m;
}

void
siphash(const uint8_t key[16], const void *data, size_t len, uint8_t *out, size_t out_len)
{
	uint64_t k0 = get_le(key, 8), k1 = get_le(key + 8, 8);
	uint64_t v[4] = { k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261,
		k1 ^ 0x7465646279746573 };
	const uint8_t *p = data;
	size_t left = len;

	if (out_len == 16)
		v[1] ^= 0xee;
	for (; left >= 8; left -= 8, p += 8)
		word(v, get_le(p, 8));
	word(v, (uint64_t)(len & 0xff) << 56 | get_le(p, left));
	v[2] ^= out_len == 16 ? 0xee : 0xff;
	rounds(v, 4);
	put_le(out, v[0] ^ v[1] ^ v[2] ^ v[3]);
	if (out_len != 16)
		return;
	v[1] ^= 0xdd;
	rounds(v, 4);
	put_le(out + 8, v[0] ^ v[1] ^ v[2] ^ v[3]);
}
