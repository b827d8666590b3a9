/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: nix-base32, known answers, round trips and everything that must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "broker/nixbase32.h"

/* SHA-256 of nothing, as every Nix-like system prints it. */
static const uint8_t empty_hash[32] = {
	0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
	0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55
};
static const char empty_text[] = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";

static void known_answers(void **state)
{
	uint8_t raw[32];
	char text[64];
	static const char ends[] = "12blcp4jwl902hjds48zlc71q7lj11s39dk4iyz0zllfggdccl5k";

	(void)state;
	nixbase32_encode(text, empty_hash, 32);
	assert_string_equal(text, empty_text);
	assert_int_equal(nixbase32_decode(raw, 32, empty_text, 52), 0);
	assert_memory_equal(raw, empty_hash, 32);
	/* A hash whose ends are known: hex b350c6da...c9657489. */
	assert_int_equal(nixbase32_decode(raw, 32, ends, 52), 0);
	assert_memory_equal(raw, "\xb3\x50\xc6\xda", 4);
	assert_memory_equal(raw + 28, "\xc9\x65\x74\x89", 4);
}

static void round_trips(void **state)
{
	uint8_t in[40], out[40];
	char text[80];

	(void)state;
	for (size_t len = 0; len <= sizeof in; len++) {
		for (size_t i = 0; i < len; i++)
			in[i] = (uint8_t)(i * 73 + len * 11 + 129);
		nixbase32_encode(text, in, len);
		assert_int_equal(strlen(text), NIXBASE32_CHARS(len));
		assert_int_equal(nixbase32_decode(out, len, text, strlen(text)), 0);
		assert_memory_equal(in, out, len);
		assert_int_equal(nixbase32_decode(NULL, len, text, strlen(text)), 0);
	}
}

static void refusals(void **state)
{
	uint8_t raw[32];
	char text[64];

	(void)state;
	assert_int_equal(nixbase32_decode(raw, 32, empty_text, 51), -1);
	assert_int_equal(nixbase32_decode(raw, 32, empty_text, 53), -1);
	assert_int_equal(nixbase32_decode(raw, 20, empty_text, 52), -1);
	for (const char *bad = "eoutEA -=/\n"; *bad; bad++) {
		memcpy(text, empty_text, sizeof empty_text);
		text[20] = *bad;
		assert_int_equal(nixbase32_decode(raw, 32, text, 52), -1);
	}
	memcpy(text, empty_text, sizeof empty_text);
	text[20] = '\0';
	assert_int_equal(nixbase32_decode(raw, 32, text, 52), -1);
	/* 256 bits leave one bit for the first of 52 characters: 0 and 1 are good, 2 is not. */
	memcpy(text, empty_text, sizeof empty_text);
	text[0] = '1';
	assert_int_equal(nixbase32_decode(raw, 32, text, 52), 0);
	for (const char *bad = "2349gz"; *bad; bad++) {
		text[0] = *bad;
		assert_int_equal(nixbase32_decode(raw, 32, text, 52), -1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_answers),
		cmocka_unit_test(round_trips),
		cmocka_unit_test(refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
