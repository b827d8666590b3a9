/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: signature fields of any bytes.  With an even first byte the rest is the field; with an odd one it is the
 * s-expression, which is put in base64 here, so that the fuzzer need not invent base64. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "broker/crypto.h"
#include "broker/signature.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t base64(char *out, const uint8_t *in, size_t len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *p = out;

	for (size_t i = 0; i < len; i += 3) {
		unsigned v = (unsigned)in[i] << 16 | (i + 1 < len ? (unsigned)in[i + 1] << 8 : 0) |
		    (i + 2 < len ? in[i + 2] : 0);

		*p++ = digits[v >> 18];
		*p++ = digits[v >> 12 & 63];
		*p++ = i + 1 < len ? digits[v >> 6 & 63] : '=';
		*p++ = i + 2 < len ? digits[v & 63] : '=';
	}
	return (size_t)(p - out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int ready;
	struct err e = { 0 };
	struct signature sig;
	char field[16384] = "1;h;";
	size_t len;

	if (!ready && crypto_init(&e) < 0)
		abort();
	ready = 1;
	if (size < 1 || size > 8192)
		return 0;
	if (data[0] & 1) {
		len = 4 + base64(field + 4, data + 1, size - 1);
	} else {
		len = size - 1;
		memcpy(field, data + 1, len);
	}
	if (signature_parse(&sig, field, len, &e) < 0) {
		if (e.text[0] == '\0')
			abort();
		return 0;
	}
	if (sig.r_len < 1 || sig.r_len > 32 || sig.s_len < 1 || sig.s_len > 32)
		abort();
	return 0;
}
