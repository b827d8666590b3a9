/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): BLAKE2b-256 of four inputs of the same length at once.
 *
 * A single BLAKE2b waits for itself most of the time.  Blocks have all one size, so four of them go side
 * by side: vector number j holds word j of all four. */
#include <sodium.h>
#include <string.h>

#include "helper/eris/blake2b4.h"

void
blake2b4_portable(uint8_t out[4][32], const uint8_t *const in[4], size_t len, const uint8_t *key)
{
	for (unsigned i = 0; i < 4; i++)
		crypto_generichash_blake2b(out[i], 32, in[i], len, key, key == NULL ? 0 : 32);
}

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))
#define AVX2_INLINE static inline __attribute__((target("avx2"), always_inline))

/* RFC 7693, 2.6 and 2.7. */
static const uint64_t iv[8] = {
	0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
	0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
};

AVX2_INLINE __m256i
rotr32(__m256i x)
{
	return _mm256_shuffle_epi32(x, _MM_SHUFFLE(2, 3, 0, 1));
}

AVX2_INLINE __m256i
rotr24(__m256i x)
{
	return _mm256_shuffle_epi8(x, _mm256_setr_epi8(
	    3, 4, 5, 6, 7, 0, 1, 2, 11, 12, 13, 14, 15, 8, 9, 10,
	    3, 4, 5, 6, 7, 0, 1, 2, 11, 12, 13, 14, 15, 8, 9, 10));
}

AVX2_INLINE __m256i
rotr16(__m256i x)
{
	return _mm256_shuffle_epi8(x, _mm256_setr_epi8(
	    2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14, 15, 8, 9,
	    2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14, 15, 8, 9));
}

AVX2_INLINE __m256i
rotr63(__m256i x)
{
	return _mm256_or_si256(_mm256_srli_epi64(x, 63), _mm256_add_epi64(x, x));
}

/* Four of the mixing functions G of RFC 7693 side by side, step by step, so that none waits for itself:
 * columns first, then diagonals.  The order of the message words is written out because it must be known
 * when compiling. */
#define ADD(a, b) a = _mm256_add_epi64(a, b)
#define XOR_ROT(d, a, rot) d = rot(_mm256_xor_si256(d, a))
#define STEP(a0, b0, d0, a1, b1, d1, a2, b2, d2, a3, b3, d3, m0, m1, m2, m3, rot) do { \
	ADD(a0, m[m0]); ADD(a1, m[m1]); ADD(a2, m[m2]); ADD(a3, m[m3]); \
	ADD(a0, b0); ADD(a1, b1); ADD(a2, b2); ADD(a3, b3); \
	XOR_ROT(d0, a0, rot); XOR_ROT(d1, a1, rot); XOR_ROT(d2, a2, rot); XOR_ROT(d3, a3, rot); \
} while (0)
#define TURN(c0, d0, b0, c1, d1, b1, c2, d2, b2, c3, d3, b3, rot) do { \
	ADD(c0, d0); ADD(c1, d1); ADD(c2, d2); ADD(c3, d3); \
	XOR_ROT(b0, c0, rot); XOR_ROT(b1, c1, rot); XOR_ROT(b2, c2, rot); XOR_ROT(b3, c3, rot); \
} while (0)
#define ROUND(s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, sa, sb, sc, sd, se, sf) do { \
	STEP(v0, v4, vc, v1, v5, vd, v2, v6, ve, v3, v7, vf, s0, s2, s4, s6, rotr32); \
	TURN(v8, vc, v4, v9, vd, v5, va, ve, v6, vb, vf, v7, rotr24); \
	STEP(v0, v4, vc, v1, v5, vd, v2, v6, ve, v3, v7, vf, s1, s3, s5, s7, rotr16); \
	TURN(v8, vc, v4, v9, vd, v5, va, ve, v6, vb, vf, v7, rotr63); \
	STEP(v0, v5, vf, v1, v6, vc, v2, v7, vd, v3, v4, ve, s8, sa, sc, se, rotr32); \
	TURN(va, vf, v5, vb, vc, v6, v8, vd, v7, v9, ve, v4, rotr24); \
	STEP(v0, v5, vf, v1, v6, vc, v2, v7, vd, v3, v4, ve, s9, sb, sd, sf, rotr16); \
	TURN(va, vf, v5, vb, vc, v6, v8, vd, v7, v9, ve, v4, rotr63); \
} while (0)

/* Four words of four inputs, turned over: m[j] = word j of all four. */
AVX2_INLINE void
load4(__m256i m[4], const uint8_t *const p[4], size_t at)
{
	__m256i a = _mm256_loadu_si256((const void *)(p[0] + at));
	__m256i b = _mm256_loadu_si256((const void *)(p[1] + at));
	__m256i c = _mm256_loadu_si256((const void *)(p[2] + at));
	__m256i d = _mm256_loadu_si256((const void *)(p[3] + at));
	__m256i ab = _mm256_unpacklo_epi64(a, b), cd = _mm256_unpacklo_epi64(c, d);
	__m256i AB = _mm256_unpackhi_epi64(a, b), CD = _mm256_unpackhi_epi64(c, d);

	m[0] = _mm256_permute2x128_si256(ab, cd, 0x20);
	m[1] = _mm256_permute2x128_si256(AB, CD, 0x20);
	m[2] = _mm256_permute2x128_si256(ab, cd, 0x31);
	m[3] = _mm256_permute2x128_si256(AB, CD, 0x31);
}

AVX2_INLINE __m256i
all4(uint64_t x)
{
	return _mm256_set1_epi64x((long long)x);
}

/* The compression function: 128 bytes of each input at AT; COUNT bytes were hashed with these. */
AVX2_INLINE void
compress(__m256i h[8], const uint8_t *const p[4], size_t at, uint64_t count, int last)
{
	__m256i v0 = h[0], v1 = h[1], v2 = h[2], v3 = h[3], v4 = h[4], v5 = h[5], v6 = h[6], v7 = h[7];
	__m256i v8 = all4(iv[0]), v9 = all4(iv[1]), va = all4(iv[2]), vb = all4(iv[3]);
	__m256i vc = all4(iv[4] ^ count), vd = all4(iv[5]), ve = all4(last ? ~iv[6] : iv[6]);
	__m256i vf = all4(iv[7]);
	__m256i m[16];

	for (unsigned i = 0; i < 4; i++)
		load4(m + 4 * i, p, at + 32 * i);
	ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
	ROUND(14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3);
	ROUND(11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4);
	ROUND(7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8);
	ROUND(9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13);
	ROUND(2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9);
	ROUND(12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11);
	ROUND(13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10);
	ROUND(6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5);
	ROUND(10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0);
	ROUND(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
	ROUND(14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3);
	h[0] = _mm256_xor_si256(h[0], _mm256_xor_si256(v0, v8));
	h[1] = _mm256_xor_si256(h[1], _mm256_xor_si256(v1, v9));
	h[2] = _mm256_xor_si256(h[2], _mm256_xor_si256(v2, va));
	h[3] = _mm256_xor_si256(h[3], _mm256_xor_si256(v3, vb));
	h[4] = _mm256_xor_si256(h[4], _mm256_xor_si256(v4, vc));
	h[5] = _mm256_xor_si256(h[5], _mm256_xor_si256(v5, vd));
	h[6] = _mm256_xor_si256(h[6], _mm256_xor_si256(v6, ve));
	h[7] = _mm256_xor_si256(h[7], _mm256_xor_si256(v7, vf));
}

AVX2 static void
hash_avx2(uint8_t out[4][32], const uint8_t *const in[4], size_t len, const uint8_t *key)
{
	uint8_t tail[4][128] = { { 0 } };
	const uint8_t *const tails[4] = { tail[0], tail[1], tail[2], tail[3] };
	const uint8_t *p[4] = { in[0], in[1], in[2], in[3] };
	uint64_t count = 0;
	size_t rest;
	__m256i h[8];

	for (unsigned i = 0; i < 8; i++)
		h[i] = all4(iv[i]);
	/* The parameter block: 32 bytes of digest, bytes of key, no tree. */
	h[0] = _mm256_xor_si256(h[0], all4(0x01010020 | (key == NULL ? 0 : 32 << 8)));
	if (key != NULL) {
		for (unsigned i = 0; i < 4; i++)
			memcpy(tail[i], key, 32);
		count = 128;
		compress(h, tails, 0, count, len == 0);
		memset(tail, 0, sizeof(tail));
		if (len == 0)
			goto out;
	}
	/* The last block, even a full one, is marked; without a key there is one even for no input. */
	for (; len > 128; len -= 128) {
		count += 128;
		compress(h, p, 0, count, 0);
		for (unsigned i = 0; i < 4; i++)
			p[i] += 128;
	}
	rest = len;
	for (unsigned i = 0; i < 4 && rest > 0; i++)
		memcpy(tail[i], p[i], rest);
	compress(h, tails, 0, count + rest, 1);
out:
	for (unsigned w = 0; w < 4; w++) {
		uint64_t words[4];

		_mm256_storeu_si256((void *)words, h[w]);
		for (unsigned i = 0; i < 4; i++)
			memcpy(out[i] + 8 * w, &words[i], 8);
	}
	sodium_memzero(tail, sizeof(tail));
}

int
blake2b4_avx2(uint8_t out[4][32], const uint8_t *const in[4], size_t len, const uint8_t *key)
{
	if (!__builtin_cpu_supports("avx2"))
		return -1;
	hash_avx2(out, in, len, key);
	return 0;
}
#else
int
blake2b4_avx2(uint8_t out[4][32], const uint8_t *const in[4], size_t len, const uint8_t *key)
{
	(void)out;
	(void)in;
	(void)len;
	(void)key;
	return -1;
}
#endif

void
blake2b4(uint8_t out[4][32], const uint8_t *const in[4], size_t len, const uint8_t *key)
{
	if (blake2b4_avx2(out, in, len, key) != 0)
		blake2b4_portable(out, in, len, key);
}
