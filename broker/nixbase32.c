/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: nix-base32, the text form of hashes in store paths and narinfos. */
#include "broker/nixbase32.h"

#include <string.h>

/* No e, o, u, t, so that no hash spells a word. */
static const char alphabet[] = "0123456789abcdfghijklmnpqrsvwxyz";

void nixbase32_encode(char *out, const uint8_t *in, size_t len)
{
	size_t chars = NIXBASE32_CHARS(len);

	/* Character K counted from the right holds bits 5K..5K+4; bit 0 is the lowest of the first byte. */
	for (size_t k = 0; k < chars; k++) {
		size_t byte = k * 5 / 8, shift = k * 5 % 8;
		unsigned v = (unsigned)in[byte] >> shift;

		if (shift > 3 && byte + 1 < len)
			v |= (unsigned)in[byte + 1] << (8 - shift);
		out[chars - 1 - k] = alphabet[v & 31];
	}
	out[chars] = '\0';
}

int nixbase32_decode(uint8_t *out, size_t len, const char *text, size_t text_len)
{
	unsigned bits = 0, held = 0;
	size_t done = 0;

	if (text_len != NIXBASE32_CHARS(len))
		return -1;
	for (size_t k = text_len; k-- > 0;) {
		const char *p = text[k] ? strchr(alphabet, text[k]) : NULL;

		if (!p)
			return -1;
		bits |= (unsigned)(p - alphabet) << held;
		held += 5;
		if (held >= 8 && done < len) {
			if (out)
				out[done] = (uint8_t)(bits & 255);
			done++;
			bits >>= 8;
			held -= 8;
		}
	}
	/* What is left are the excess bits of the leftmost character. */
	return bits == 0 ? 0 : -1;
}
