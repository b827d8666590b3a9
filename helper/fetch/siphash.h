/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): SipHash-2-4, for the state file.  Source of the algorithm: Aumasson and Bernstein,
 * "SipHash: a fast short-input PRF", 2012; the 128-bit form is that of the authors' reference code. */
#ifndef NARLOCK_FETCH_SIPHASH_H
#define NARLOCK_FETCH_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

/* siphash(key, data, len, out, out_len): OUT_LEN is 8 or 16. */
void siphash(const uint8_t key[16], const void *data, size_t len, uint8_t *out, size_t out_len);

#endif
