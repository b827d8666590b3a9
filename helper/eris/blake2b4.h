/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): BLAKE2b-256 of four inputs of the same length at once. */
#ifndef NARLOCK_ERIS_BLAKE2B4_H
#define NARLOCK_ERIS_BLAKE2B4_H

#include <stddef.h>
#include <stdint.h>

/* blake2b4(out, in, len, key): out[i] = BLAKE2b (RFC 7693, 32 bytes of digest) of the LEN bytes at in[i],
 * for i from 0 to 3, with the 32 bytes of KEY in keyed mode, or unkeyed if KEY is NULL.  Inputs may be the
 * same.  Takes AVX2 where the processor has it, else the portable way; the result is the same. */
void blake2b4(uint8_t out[4][32], const uint8_t *const in[4], size_t len, const uint8_t *key);

/* The two ways by themselves, for tests and measurements. */
void blake2b4_portable(uint8_t out[4][32], const uint8_t *const in[4], size_t len, const uint8_t *key);
/* blake2b4_avx2(...): -1, and nothing done, where the processor cannot. */
int blake2b4_avx2(uint8_t out[4][32], const uint8_t *const in[4], size_t len, const uint8_t *key);

#endif
