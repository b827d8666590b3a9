/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: URNs, references, CIDs, and what requests to the block server ask for: one writing each, all
 * others refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "helper/eris/base32.h"
#include "helper/eris/request.h"
#include "helper/eris/urn.h"

#define HELLO "BIAD77QDJMFAKZYH2DXBUZYAP3MXZ3DJZVFYQ5DFWC6T65WSFCU5S2IT4YZGJ7AC4SYQMP2DM2ANS2ZTCP3DJJIRV733CRAAHOSWIYZM3M"
#define HELLO_REF "H77AGSYKAVTQPUHODJTQA7WZPTWGTTKLRB2GLMF5H53NEKFJ3FUQ"

static void
test_base32(void **state)
{
	/* RFC 4648, section 10, without the padding characters. */
	static const char *const text[] = { "", "MY", "MZXQ", "MZXW6", "MZXW6YQ", "MZXW6YTB", "MZXW6YTBOI" };
	char buf[32], copy[32];
	uint8_t data[16];

	(void)state;
	for (size_t len = 0; len <= 6; len++) {
		base32_encode(buf, (const uint8_t *)"foobar", len, BASE32_UPPER);
		assert_string_equal(buf, text[len]);
		assert_int_equal(strlen(buf), BASE32_LEN(len));
		assert_int_equal(base32_decode(data, len, buf, strlen(buf), BASE32_UPPER), 0);
		assert_memory_equal(data, "foobar", len);
		assert_int_equal(base32_decode(data, len, buf, strlen(buf), BASE32_LOWER), len == 0 ? 0 : -1);
		assert_int_equal(base32_decode(data, len + 1, buf, strlen(buf), BASE32_UPPER), -1);
		for (size_t i = 0; i < strlen(buf); i++) {
			static const char bad[] = "0189=a-[@`{/:\x7f\x80\xff\n ";

			for (size_t j = 0; j < sizeof(bad); j++) {
				strcpy(copy, buf);
				copy[i] = bad[j];
				assert_int_equal(base32_decode(data, len, copy, strlen(buf), BASE32_UPPER), -1);
			}
		}
	}
	/* Spare bits. */
	assert_int_equal(base32_decode(data, 1, "MZ", 2, BASE32_UPPER), -1);
	assert_int_equal(base32_decode(data, 6, "MZXW6YTBOJ", 10, BASE32_UPPER), -1);
}

static void
urn_refused(const char *text, const char *why)
{
	struct eris_cap cap;
	struct err e = { 0 };

	if (urn_parse(&cap, text, &e) == 0 || strstr(e.text, why) == NULL)
		fail_msg("%s: `%s', not `%s'", text, e.text, why);
}

static void
test_urn(void **state)
{
	char text[200], again[URN_LEN + 1];
	uint8_t bytes[ERIS_CAP];
	struct eris_cap cap;

	(void)state;
	assert_int_equal(urn_parse(&cap, "urn:eris:" HELLO, NULL), 0);
	assert_int_equal(cap.block_size, ERIS_SMALL);
	assert_int_equal(cap.level, 0);
	urn_format(again, &cap);
	assert_string_equal(again, "urn:eris:" HELLO);
	urn_ref_format(text, cap.root.ref);
	assert_string_equal(text, HELLO_REF);

	urn_refused("", "no urn:eris:");
	urn_refused("urn:eris", "no urn:eris:");
	urn_refused("urn:eris:", "less than 106");
	urn_refused("urn:eris:" HELLO "A", "more than 106");
	urn_refused("urn:eris:" HELLO "\n", "more than 106");
	urn_refused(" urn:eris:" HELLO, "no urn:eris:");
	urn_refused("URN:ERIS:" HELLO, "no urn:eris:");
	urn_refused("urn:erisx:" HELLO, "no urn:eris:");
	urn_refused("urn:erisx2:" HELLO, "urn:erisx2 is an experimental");
	urn_refused("urn:erisx3:" HELLO, "urn:erisx3 is an experimental");
	/* The last character has two spare bits: M is 01100. */
	for (const char *c = "NOPQ"; *c != 'P'; c++) {
		strcpy(text, "urn:eris:" HELLO);
		text[URN_LEN - 1] = *c;
		urn_refused(text, "canonical");
	}
	strcpy(text, "urn:eris:" HELLO);
	text[20] = 'a';
	urn_refused(text, "canonical");
	/* Every size code and level. */
	urn_to_bytes(bytes, &cap);
	for (unsigned code = 0; code < 256; code++)
		for (unsigned level = 0; level < 256; level++) {
			int fine = (code == 0x0a && level <= 13) || (code == 0x0f && level <= 5);
			struct eris_cap other;

			bytes[0] = (uint8_t)code;
			bytes[1] = (uint8_t)level;
			assert_int_equal(urn_from_bytes(&other, bytes, NULL), fine ? 0 : -1);
			if (!fine)
				continue;
			urn_format(again, &other);
			assert_int_equal(urn_parse(&other, again, NULL), 0);
			assert_int_equal(other.block_size, 1u << code);
			assert_int_equal(other.level, level);
			assert_int_equal(eris_span(other.block_size, level) >> code >> (level * (code == 0x0a ? 4 : 9)),
			    1);
		}
}

static void
test_reference(void **state)
{
	uint8_t ref[ERIS_REF];
	char text[60];

	(void)state;
	assert_int_equal(urn_ref_parse(ref, HELLO_REF, NULL), 0);
	urn_ref_format(text, ref);
	assert_string_equal(text, HELLO_REF);
	assert_int_equal(urn_ref_parse(ref, "", NULL), -1);
	assert_int_equal(urn_ref_parse(ref, HELLO_REF "A", NULL), -1);
	strcpy(text, HELLO_REF);
	text[51] = 'R'; /* four spare bits */
	assert_int_equal(urn_ref_parse(ref, text, NULL), -1);
}

static void
test_cid(void **state)
{
	/* What an IPFS daemon calls the block; the digits are those of the reference, moved by six bytes. */
	static const char zero[] = "bafk2bzaceaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
	uint8_t ref[ERIS_REF] = { 0 }, other[ERIS_REF], cid[URN_CID];
	char text[URN_CID_LEN + 2];

	(void)state;
	urn_cid_format(text, ref);
	assert_string_equal(text, zero);
	assert_int_equal(strlen(text), URN_CID_LEN);
	for (unsigned i = 0; i < 256; i++) {
		ref[i % 32] = (uint8_t)(ref[i % 32] * 7 + i);
		urn_cid_format(text, ref);
		assert_int_equal(strncmp(text, "bafk2bzace", 10), 0);
		assert_int_equal(urn_cid_parse(other, text, NULL), 0);
		assert_memory_equal(ref, other, ERIS_REF);
		urn_cid_bytes(cid, ref);
		assert_int_equal(urn_cid_from_bytes(other, cid), 0);
		assert_memory_equal(ref, other, ERIS_REF);
	}
	assert_int_equal(urn_cid_parse(other, "", NULL), -1);
	assert_int_equal(urn_cid_parse(other, "b", NULL), -1);
	strcpy(text, zero);
	text[0] = 'z';
	assert_int_equal(urn_cid_parse(other, text, NULL), -1);
	strcpy(text, zero);
	strcat(text, "a");
	assert_int_equal(urn_cid_parse(other, text, NULL), -1);
	text[URN_CID_LEN - 1] = '\0';
	assert_int_equal(urn_cid_parse(other, text, NULL), -1);
	/* Another version, codec, hash, length. */
	for (unsigned i = 0; i < 6; i++) {
		urn_cid_bytes(cid, ref);
		cid[i] ^= 1;
		assert_int_equal(urn_cid_from_bytes(other, cid), -1);
		text[0] = 'b';
		base32_encode(text + 1, cid, sizeof(cid), BASE32_LOWER);
		assert_int_equal(urn_cid_parse(other, text, NULL), -1);
	}
}

/* --- Requests
 * -------------------------------------------------------------------------------------------- */

static void
test_block(void **state)
{
	uint8_t ref[ERIS_REF];

	(void)state;
	assert_int_equal(request_block("urn:blake2b:" HELLO_REF, ref), 0);
	assert_int_equal(request_block("", ref), -1);
	assert_int_equal(request_block("urn:blake2b:", ref), -1);
	assert_int_equal(request_block(HELLO_REF, ref), -1);
	assert_int_equal(request_block("urn:blake2b:" HELLO_REF "&x=y", ref), -1);
	assert_int_equal(request_block("urn:eris:" HELLO, ref), -1);
}

static void
test_file(void **state)
{
	char text[REQUEST_PATH + 10];
	static const char *const bad[] = { "", "/", "x", "//", "/x/", "/x//y", "/.", "/..", "/../x", "/x/..", "/x/../y",
		"/x/./y", "/.x", "/x/.y", "/x\n", "/x\x7f", "/\x01" };

	(void)state;
	assert_string_equal(request_file("/nar/zstd/x-1.0"), "nar/zstd/x-1.0");
	assert_string_equal(request_file("/nix-cache-info"), "nix-cache-info");
	assert_string_equal(request_file("/x..y"), "x..y");
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (request_file(bad[i]) != NULL)
			fail_msg("%s is accepted", bad[i]);
	memset(text, 'a', sizeof(text));
	text[0] = '/';
	text[REQUEST_PATH + 1] = '\0';
	assert_non_null(request_file(text));
	text[REQUEST_PATH + 1] = 'a';
	text[REQUEST_PATH + 2] = '\0';
	assert_null(request_file(text));
}

static void
range(const char *header, uint64_t size, enum request_range expected, uint64_t offset, uint64_t length)
{
	uint64_t o, l;

	if (request_range(header, size, &o, &l) != expected)
		fail_msg("%s of %llu is something else", header, (unsigned long long)size);
	if (expected != REQUEST_UNSATISFIABLE) {
		assert_int_equal(o, offset);
		assert_int_equal(l, length);
	}
}

static void
test_range(void **state)
{
	static const char *const ignored[] = { "", "bytes", "bytes=", "bytes=-", "bytes=x", "bytes=1", "bytes=1-2x",
		"bytes=1-2,4-5", "bytes=5-3", "bytes= 1-2", "bytes=+1-2", "bytes=--1", "items=1-2", "bytes=1 -2",
		"bytes=-1-2", "bytes=0x1-2" };

	(void)state;
	range(NULL, 100, REQUEST_WHOLE, 0, 100);
	for (unsigned i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		range(ignored[i], 100, REQUEST_WHOLE, 0, 100);
	range("bytes=0-0", 100, REQUEST_PART, 0, 1);
	range("Bytes=0-99", 100, REQUEST_PART, 0, 100);
	range("bytes=0-100", 100, REQUEST_PART, 0, 100);
	range("bytes=99-", 100, REQUEST_PART, 99, 1);
	range("bytes=100-", 100, REQUEST_UNSATISFIABLE, 0, 0);
	range("bytes=32768-65535", 40000, REQUEST_PART, 32768, 7232);
	range("bytes=-1", 100, REQUEST_PART, 99, 1);
	range("bytes=-100", 100, REQUEST_PART, 0, 100);
	range("bytes=-1000", 100, REQUEST_PART, 0, 100);
	range("bytes=-0", 100, REQUEST_UNSATISFIABLE, 0, 0);
	range("bytes=0-", 0, REQUEST_UNSATISFIABLE, 0, 0);
	range("bytes=-5", 0, REQUEST_UNSATISFIABLE, 0, 0);
	range(NULL, 0, REQUEST_WHOLE, 0, 0);
	range("bytes=5-99999999999999999999999999", 100, REQUEST_PART, 5, 95);
	range("bytes=99999999999999999999999999-", 100, REQUEST_UNSATISFIABLE, 0, 0);
	range("bytes=-99999999999999999999999999", 100, REQUEST_PART, 0, 100);
	range("bytes=18446744073709551615-18446744073709551615", 100, REQUEST_UNSATISFIABLE, 0, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_base32),
		cmocka_unit_test(test_urn),
		cmocka_unit_test(test_reference),
		cmocka_unit_test(test_cid),
		cmocka_unit_test(test_block),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_range),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
