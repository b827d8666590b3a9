/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: nix-base32, the text form of hashes in store paths and narinfos. */
#ifndef NARLOCK_NIXBASE32_H
#define NARLOCK_NIXBASE32_H

#include <stddef.h>
#include <stdint.h>

/* Characters that LEN bytes take, without the final NUL. */
#define NIXBASE32_CHARS(len) (((len) * 8 + 4) / 5)

/* nixbase32_encode(out, in, len): write NIXBASE32_CHARS(len) characters and a NUL to OUT. */
void nixbase32_encode(char *out, const uint8_t *in, size_t len);

/* nixbase32_decode(out, len, text, text_len): read exactly LEN bytes.  -1 when the text has another
 * length than NIXBASE32_CHARS(len), a character outside the alphabet, or bits set beyond the last
 * byte (two texts would then mean one hash).  OUT may be NULL to check only. */
int nixbase32_decode(uint8_t *out, size_t len, const char *text, size_t text_len);

#endif
