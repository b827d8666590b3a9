/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): base32 of RFC 4648 without padding characters, in one case only. */
#include "helper/eris/base32.h"

void
base32_encode(char *text, const uint8_t *data, size_t len, enum base32_case c)
{
	const char *alphabet = c == BASE32_UPPER ? "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" :
	    "abcdefghijklmnopqrstuvwxyz234567";
	unsigned bits = 0, hold = 0;

	for (size_t i = 0; i < len; i++) {
		hold = (hold << 8 | data[i]) & 0xffff;
		for (bits += 8; bits >= 5; bits -= 5)
			*text++ = alphabet[hold >> (bits - 5) & 31];
	}
	if (bits > 0)
		*text++ = alphabet[hold << (5 - bits) & 31];
	*text = '\0';
}

static int
value_of(char ch, enum base32_case c)
{
	char a = c == BASE32_UPPER ? 'A' : 'a';

	if (ch >= a && ch < a + 26)
		return ch - a;
	return ch >= '2' && ch <= '7' ? ch - '2' + 26 : -1;
}

int
base32_decode(uint8_t *data, size_t len, const char *text, size_t chars, enum base32_case c)
{
	unsigned bits = 0, hold = 0;

	if (chars != BASE32_LEN(len))
		return -1;
	for (size_t i = 0; i < chars; i++) {
		int v = value_of(text[i], c);

		if (v < 0)
			return -1;
		hold = (hold << 5 | (unsigned)v) & 0xffff;
		bits += 5;
		if (bits >= 8) {
			bits -= 8;
			*data++ = (uint8_t)(hold >> bits);
		}
	}
	return (hold & ((1u << bits) - 1)) == 0 ? 0 : -1;
}
