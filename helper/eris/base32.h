/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): base32 of RFC 4648 without padding characters, in one case only. */
#ifndef NARLOCK_ERIS_BASE32_H
#define NARLOCK_ERIS_BASE32_H

#include <stddef.h>
#include <stdint.h>

enum base32_case { BASE32_UPPER, BASE32_LOWER };

/* Characters for N bytes, without the NUL. */
#define BASE32_LEN(N) (((N) * 8 + 4) / 5)

/* base32_encode(text, data, len, c): BASE32_LEN(len) characters and a NUL. */
void base32_encode(char *text, const uint8_t *data, size_t len, enum base32_case c);

/* base32_decode(data, len, text, chars, c): the other way round.  -1 unless TEXT has exactly
 * BASE32_LEN(len) == CHARS characters of the right case and its spare bits are 0: every value has one text
 * only. */
int base32_decode(uint8_t *data, size_t len, const char *text, size_t chars, enum base32_case c);

#endif
