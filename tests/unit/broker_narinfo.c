/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: narinfos: what is read from good ones, and the reason why each bad one is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "broker/crypto.h"
#include "broker/narinfo.h"
#include "broker/storepath.h"

#define STORE "/gnu/store"
#define ITEM STORE "/b3qkb91fr9y8idckwdv5bx831vmxmg8w-tree"
#define REF1 "ng9zwzj74dqasmng1n6mbh1l60h1saj5-with-refs"
#define REF2 "dqsjzl46ccjglf13cnnbpqdrawq2wxvq-a-small"
#define PATH "StorePath: " ITEM "\n"
#define HASH "NarHash: sha256:12blcp4jwl902hjds48zlc71q7lj11s39dk4iyz0zllfggdccl5k\n"
#define SIZE "NarSize: 21064\n"
#define REFS "References: " REF1 " " REF2 "\n"
#define SIGN "Signature: 1;host;KDE6YSk=\n"
#define GOOD PATH HASH SIZE REFS SIGN

static struct err err;

static int parse(struct narinfo *ni, const char *text)
{
	err.text[0] = '\0';
	return narinfo_parse(ni, text, strlen(text), STORE, &err);
}

static void assert_refused(const char *text, size_t len, const char *reason)
{
	struct narinfo ni;
	/* An exact copy on the heap, so that a sanitizer sees a read beyond the end. */
	char *copy = malloc(len ? len : 1);

	assert_non_null(copy);
	memcpy(copy, text, len);
	err.text[0] = '\0';
	if (narinfo_parse(&ni, copy, len, STORE, &err) == 0)
		fail_msg("accepted: %s", text);
	if (!strstr(err.text, reason))
		fail_msg("refused for `%s', not for `%s'", err.text, reason);
	free(copy);
}

static void assert_text(struct narinfo_text t, const char *s)
{
	assert_non_null(t.at);
	assert_int_equal(t.len, strlen(s));
	assert_memory_equal(t.at, s, t.len);
}

static void good(void **state)
{
	static const char text[] = "# made by hand\n" PATH "Unknown: field\n+ in two lines\n" HASH SIZE REFS
	    "Deriver: " REF2 ".drv\nSystem: x86_64-linux\n" SIGN
	    "URL: nar/gzip/x\nCompression: gzip\nFileSize: 270\nX-Sp\xc3\xa9" "cial: \xe2\x82\xac\n"
	    "URL: https://user:pw@h/y\nCompression: none\nURL: nar/zstd/z\nCompression: zstd\nFileSize: 222";
	struct narinfo_text ref = { NULL, 0 };
	struct narinfo ni;

	(void)state;
	assert_int_equal(parse(&ni, text), 0);
	assert_text(ni.store_path, ITEM);
	assert_memory_equal(ni.nar_hash, "\xb3\x50\xc6\xda", 4);
	assert_int_equal(ni.nar_size, 21064);
	assert_int_equal(ni.reference_count, 2);
	assert_true(narinfo_next_reference(&ni, &ref));
	assert_text(ref, REF1);
	assert_true(narinfo_next_reference(&ni, &ref));
	assert_text(ref, REF2);
	assert_false(narinfo_next_reference(&ni, &ref));
	assert_text(ni.deriver, REF2 ".drv");
	assert_text(ni.signature, "1;host;KDE6YSk=");
	assert_int_equal(ni.signed_len, strstr(text, "Signature:") - text);
	assert_int_equal(ni.group_count, 3);
	assert_text(ni.groups[0].url, "nar/gzip/x");
	assert_text(ni.groups[0].compression, "gzip");
	assert_int_equal(ni.groups[0].file_size, 270);
	assert_text(ni.groups[1].url, "https://user:pw@h/y");
	assert_text(ni.groups[1].compression, "none");
	assert_int_equal(ni.groups[1].file_size, 0);
	assert_text(ni.groups[2].compression, "zstd");
	assert_int_equal(ni.groups[2].file_size, 222);
	assert_true(narinfo_is_for(&ni, ITEM));
	assert_false(narinfo_is_for(&ni, ITEM "x"));
	assert_false(narinfo_is_for(&ni, STORE "/" REF1));
}

static void odd_but_good(void **state)
{
	struct narinfo ni;

	(void)state;
	/* Old farms sign the groups; hashes in hex; no references; no deriver. */
	assert_int_equal(parse(&ni, PATH "URL: a\nCompression: gzip\nFileSize: 5\nFileHash: sha256:x\n"
	    "NarHash: sha256:E3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n" SIZE
	    "References: \nDeriver: unknown-deriver\n" SIGN "URL: b\nCompression: none\n"), 0);
	assert_int_equal(ni.group_count, 2);
	assert_int_equal(ni.reference_count, 0);
	assert_null(ni.deriver.at);
	assert_memory_equal(ni.nar_hash, "\xe3\xb0\xc4\x42", 4);
	/* Unsigned, without a newline at the end, fields without a space. */
	assert_int_equal(parse(&ni, PATH HASH SIZE "Deriver:\nReferences:"), 0);
	assert_int_equal(ni.signed_len, 0);
	assert_null(ni.signature.at);
	assert_int_equal(ni.group_count, 0);
	/* Below the signature an empty line ends the record. */
	assert_int_equal(parse(&ni, GOOD "\nURL: x\nCompression: none\n"), 0);
	assert_int_equal(ni.group_count, 0);
	assert_int_equal(parse(&ni, PATH HASH "NarSize: 1099511627776\n" REFS SIGN), 0);
}

static void groups(void **state)
{
	char text[65536], url[LIMIT_URL + 8];
	struct narinfo ni;

	(void)state;
	/* Without Compression, with spaces, or empty: no group, and none takes its fields. */
	assert_int_equal(parse(&ni, GOOD "Compression: xz\nURL: a\nFileSize: 7\nURL: b c\nCompression: gzip\n"
	    "URL:\nCompression: lzip\nURL: d\nCompression: zstd\nCompression: none\nFileSize: 08\n"
	    "FileSize: 9\nFileSize: 10\nURL: e\n"), 0);
	assert_int_equal(ni.group_count, 1);
	assert_text(ni.groups[0].url, "d");
	assert_text(ni.groups[0].compression, "zstd");
	assert_int_equal(ni.groups[0].file_size, 9);
	/* Too many. */
	strcpy(text, GOOD);
	for (int i = 0; i < 40; i++)
		sprintf(text + strlen(text), "URL: u%d\nCompression: c%d\n", i, i);
	assert_int_equal(parse(&ni, text), 0);
	assert_int_equal(ni.group_count, LIMIT_NARINFO_URLS);
	assert_text(ni.groups[15].compression, "c15");
	/* Too long. */
	memset(url, 'u', sizeof url);
	snprintf(text, sizeof text, GOOD "URL: %.*s\nCompression: none\nURL: %.*s\nCompression: none\n",
	    LIMIT_URL, url, LIMIT_URL + 1, url);
	assert_int_equal(parse(&ni, text), 0);
	assert_int_equal(ni.group_count, 1);
}

/* What the groups have, "url=eris/manifest " each; the text is copied so that a sanitizer sees a read beyond it. */
static const char *blocks(const char *text)
{
	static char out[1024];
	char *copy = malloc(strlen(text)), *p = out;
	struct narinfo ni;

	assert_non_null(copy);
	memcpy(copy, text, strlen(text));
	*out = '\0';
	if (narinfo_parse(&ni, copy, strlen(text), STORE, &err) < 0)
		fail_msg("%s: %s", err.text, text);
	for (size_t i = 0; i < ni.group_count; i++) {
		const struct narinfo_group *g = &ni.groups[i];

		p += sprintf(p, "%.*s=%.*s/%.*s ", (int)g->url.len, g->url.at, (int)g->eris.len, g->eris.len ? g->eris.at : "",
			     (int)g->manifest.len, g->manifest.len ? g->manifest.at : "");
	}
	free(copy);
	return out;
}

#define U(name) "URL: " name "\nCompression: zstd\n"
#define E(name) "ERIS: " name "\n"
#define M(name) "ERIS-Manifest: " name "\n"
#define FIELDS PATH HASH SIZE REFS

static void blocks_belong_to_urls(void **state)
{
	static const struct { const char *text, *want; } cases[] = {
		{ GOOD U("a") U("b"), "a=/ b=/ " },
		/* The nearest above, in the same part. */
		{ GOOD U("a") E("1") M("x") U("b") M("y") E("2"), "a=1/x b=2/y " },
		{ GOOD U("a") U("b") E("2"), "a=/ b=2/ " },
		{ GOOD "URL: a\n" E("1") "Compression: gzip\n" U("b"), "a=1/ b=/ " },
		{ FIELDS U("a") E("1") SIGN U("b") E("2"), "a=1/ b=2/ " },
		{ PATH U("a") E("1") HASH SIZE U("b") M("x") REFS SIGN, "a=1/ b=/x " },
		{ FIELDS U("a") E("1"), "a=1/ " }, /* unsigned: a mirror's */
		/* Above all URLs of its part: in order, if there are as many. */
		{ FIELDS E("1") SIGN U("a"), "a=1/ " },
		{ FIELDS E("1") M("x") SIGN U("a"), "a=1/x " },
		{ FIELDS E("1") E("2") SIGN U("a") U("b"), "a=1/ b=2/ " },
		{ FIELDS E("1") M("x") E("2") M("y") SIGN U("a") U("b"), "a=1/x b=2/y " },
		{ FIELDS E("1") E("2") M("x") SIGN U("a") U("b"), "a=1/ b=2/ " },
		{ FIELDS E("1") E("2") SIGN U("a"), "a=/ " },
		{ FIELDS E("1") SIGN U("a") U("b"), "a=/ b=/ " },
		{ FIELDS E("1") E("2") U("a") SIGN U("b"), "a=1/ b=2/ " },
		{ GOOD E("1") U("a"), "a=1/ " },
		{ GOOD E("1") U("a") E("2"), "a=2/ " },
		{ FIELDS U("a") U("b") SIGN E("1") E("2"), "a=1/ b=2/ " },
		{ FIELDS U("a") SIGN E("1") U("b"), "a=/ b=/ " },
		{ FIELDS E("1"), "" },
		/* URLs that cannot be used have their place among the others, and their own lines. */
		{ FIELDS E("1") E("2") SIGN "URL: b c\nCompression: none\n" U("b"), "b=2/ " },
		{ FIELDS E("1") E("2") SIGN "URL: a\n" U("b"), "b=2/ " },
		{ GOOD U("a") "URL:\n" E("1"), "a=/ " },
		{ GOOD U("a") "URL: b c\n" E("1"), "a=/ " },
		/* The first one of each counts; what is signed before what is not. */
		{ GOOD U("a") E("1") E("2") M("x") M("y"), "a=1/x " },
		{ FIELDS E("1") SIGN U("a") E("2"), "a=1/ " },
		{ FIELDS E("1") M("x") SIGN E("2") M("y") U("a"), "a=1/x " },
		{ FIELDS E("1") SIGN E("2") E("3") U("a"), "a=1/ " },
		{ FIELDS U("a") E("1") SIGN E("2"), "a=1/ " },
		/* What cannot be used is none, and keeps its place. */
		{ GOOD U("a") E("") E("1"), "a=1/ " },
		{ GOOD U("a") E("1 2"), "a=/ " },
		{ GOOD U("a") E("\xc3\xa9"), "a=/ " },
		{ GOOD U("a") "ERIS:1\nERIS-Manifest:x\n", "a=1/x " },
		{ GOOD U("a") "eris: 1\nERIS : 2\n", NULL },
		{ FIELDS E("") E("2") SIGN U("a") U("b"), "a=/ b=2/ " },
		/* Over two lines: no. */
		{ GOOD U("a") E("1") "+ 2\n", "a=/ " },
		{ GOOD U("a") E("1") E("2") "+ 2\n", "a=1/ " },
		{ FIELDS E("1") "+\n" SIGN U("a"), "a=/ " },
		{ GOOD U("a") M("x") "# a comment\n+ 2\n", "a=/ " },
		{ GOOD E("1") "\n" U("a"), "" },
	};
	char text[4096];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		const char *got = cases[i].want ? blocks(cases[i].text) : "";

		if (cases[i].want == NULL)
			assert_refused(cases[i].text, strlen(cases[i].text), "no field");
		else if (strcmp(got, cases[i].want) != 0)
			fail_msg("`%s', not `%s': %s", got, cases[i].want, cases[i].text);
	}
	for (int more = 0; more < 2; more++) {
		snprintf(text, sizeof text, GOOD U("a") "ERIS: %0*d\nERIS-Manifest: %0*d\n", LIMIT_URN + more, 1, LIMIT_CID + more, 2);
		assert_int_equal(strlen(blocks(text)), more ? 4 : 4 + LIMIT_URN + LIMIT_CID);
	}
	/* As many as there are groups, and one more: the last URL is not kept, but counts. */
	for (int n = LIMIT_NARINFO_URLS; n < LIMIT_NARINFO_URLS + 2; n++) {
		strcpy(text, FIELDS);
		for (int i = 0; i < n; i++)
			sprintf(text + strlen(text), "ERIS: e%d\n", i);
		strcat(text, SIGN);
		for (int i = 0; i < n; i++)
			sprintf(text + strlen(text), "URL: u%d\nCompression: none\n", i);
		assert_non_null(strstr(blocks(text), "u0=e0/ u1=e1/ "));
		assert_non_null(strstr(blocks(text), "u15=e15/ "));
	}
}

static void refused(void **state)
{
	static const struct {
		const char *text, *reason;
	} bad[] = {
		{ "", "empty" },
		{ HASH SIZE REFS SIGN, "no StorePath" },
		{ PATH SIZE REFS SIGN, "no NarHash" },
		{ PATH HASH REFS SIGN, "no NarSize" },
		{ PATH HASH SIZE SIGN, "no References" },
		{ HASH SIZE REFS SIGN PATH, "StorePath below its signature" },
		{ PATH HASH SIZE SIGN REFS, "References below its signature" },
		{ GOOD "Deriver: " REF2 ".drv\n", "Deriver below its signature" },
		{ SIGN PATH HASH SIZE REFS, "StorePath below its signature" },
		{ GOOD PATH, "StorePath twice" },
		{ PATH GOOD, "StorePath twice" },
		{ GOOD HASH, "NarHash twice" },
		{ GOOD SIZE, "NarSize twice" },
		{ GOOD REFS, "References twice" },
		{ GOOD SIGN, "Signature twice" },
		{ "Deriver:\nDeriver:\n" GOOD, "Deriver twice" },
		{ PATH HASH SIZE REFS "X: Signature: 1;h;KDE6YSk=\n" SIGN, "within a line" },
		{ "#Signature:\n" GOOD, "within a line" },
		{ PATH HASH SIZE REFS " Signature: 1;h;KDE6YSk=\n", "within a line" },
		{ PATH "\n" HASH SIZE REFS SIGN, "empty line" },
		{ "\n" GOOD, "empty line" },
		{ PATH HASH SIZE REFS "\n" SIGN, "empty line" },
		{ GOOD "Foo\n", "no field" },
		{ GOOD ": x\n", "no field" },
		{ GOOD " URL: x\n", "no field" },
		{ "+ x\n" GOOD, "two lines" },
		{ PATH "+ x\n" HASH SIZE REFS SIGN, "two lines" },
		{ GOOD "URL: x\n+ y\n", "two lines" },
		{ GOOD "X: \tb\n", "control" },
		{ GOOD "X: b\r\n", "control" },
		{ GOOD "X: \x7f\n", "control" },
		{ GOOD "X: \x1b[2J\n", "control" },
		{ GOOD "X: \x80\n", "malformed UTF-8" },
		{ GOOD "X: \xc2", "malformed UTF-8" },
		{ GOOD "X: \xc2\x9b\n", "malformed UTF-8" },
		{ GOOD "X: \xc0\xaf\n", "malformed UTF-8" },
		{ GOOD "X: \xe0\x80\xaf\n", "malformed UTF-8" },
		{ GOOD "X: \xf0\x80\x80\xaf\n", "malformed UTF-8" },
		{ GOOD "X: \xed\xa0\x80\n", "malformed UTF-8" },
		{ GOOD "X: \xf4\x90\x80\x80\n", "malformed UTF-8" },
		{ "StorePath: /nix/store/b3qkb91fr9y8idckwdv5bx831vmxmg8w-tree\n" HASH SIZE REFS,
		  "not an item of " STORE },
		{ "StorePath: " ITEM "/bin\n" HASH SIZE REFS, "not an item" },
		{ "StorePath: " ITEM " \n" HASH SIZE REFS, "not an item" },
		{ "StorePath:  " ITEM "\n" HASH SIZE REFS, "not an item" },
		{ "StorePath: " STORE "/\n" HASH SIZE REFS, "not an item" },
		{ PATH "NarHash: md5:d41d8cd98f00b204e9800998ecf8427e\n" SIZE REFS, "not sha256" },
		{ PATH "NarHash: sha256\n" SIZE REFS, "not sha256" },
		{ PATH "NarHash: sha256:\n" SIZE REFS, "malformed" },
		{ PATH "NarHash: sha256:22blcp4jwl902hjds48zlc71q7lj11s39dk4iyz0zllfggdccl5k\n" SIZE REFS,
		  "malformed" },
		{ PATH "NarHash: sha256:12blcp4jwl902hjds48zlc71q7lj11s39dk4iyz0zllfggdccl5e\n" SIZE REFS,
		  "malformed" },
		{ PATH "NarHash: sha256:g3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n"
		  SIZE REFS, "malformed" },
		{ PATH HASH "NarSize: 0\n" REFS, "NarSize" },
		{ PATH HASH "NarSize:\n" REFS, "NarSize" },
		{ PATH HASH "NarSize: -1\n" REFS, "NarSize" },
		{ PATH HASH "NarSize: +1\n" REFS, "NarSize" },
		{ PATH HASH "NarSize: 01\n" REFS, "NarSize" },
		{ PATH HASH "NarSize: 1 \n" REFS, "NarSize" },
		{ PATH HASH "NarSize: 0x10\n" REFS, "NarSize" },
		{ PATH HASH "NarSize: 1099511627777\n" REFS, "NarSize" },
		{ PATH HASH "NarSize: 18446744073709551617\n" REFS, "NarSize" },
		{ PATH HASH SIZE "References: " STORE "/" REF1 "\n", "References names" },
		{ PATH HASH SIZE "References: ../../etc/passwd\n", "References names" },
		{ PATH HASH SIZE "References: " REF1 ",\n", "References names" },
		{ PATH HASH SIZE REFS "Deriver: " REF1 "\n", "not the name of a derivation" },
		{ PATH HASH SIZE REFS "Deriver: x.drv\n", "not the name of a derivation" },
		{ PATH HASH SIZE REFS "Deriver: " STORE "/" REF1 ".drv\n", "not the name of a derivation" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_refused(bad[i].text, strlen(bad[i].text), bad[i].reason);
	assert_refused(GOOD "X: a\0b\n", sizeof GOOD "X: a\0b\n" - 1, "control");
}

static void too_much(void **state)
{
	size_t size = LIMIT_NARINFO + 4096;
	char *text = malloc(size), *end;
	struct narinfo ni;

	(void)state;
	assert_non_null(text);
	memset(text, '#', size);
	assert_refused(text, LIMIT_NARINFO + 1, "larger than");
	/* A long line. */
	end = stpcpy(text, GOOD "X: ");
	memset(end, 'x', LIMIT_NARINFO_LINE);
	strcpy(end + LIMIT_NARINFO_LINE - 3, "\n");
	assert_int_equal(parse(&ni, text), 0);
	strcpy(end + LIMIT_NARINFO_LINE - 3, "x\n");
	assert_refused(text, strlen(text), "a line of more than");
	/* As many references as may be, which is a long line too, then one more. */
	end = stpcpy(text, PATH HASH SIZE "References:");
	for (int i = 0; i < LIMIT_REFERENCES; i++)
		end += sprintf(end, " 00000000000000000000000000000000-%d", i);
	strcpy(end, "\n" SIGN);
	assert_int_equal(parse(&ni, text), 0);
	assert_int_equal(ni.reference_count, LIMIT_REFERENCES);
	strcpy(end, " " REF1 "\n" SIGN);
	assert_refused(text, strlen(text), "References has more than");
	free(text);
}

/* Every prefix, and every byte changed, for sanitizers: nothing is read beyond the end. */
static void mutations(void **state)
{
	static const char text[] = GOOD "URL: a\nCompression: none\nFileSize: 1\n";
	struct narinfo ni;

	(void)state;
	for (size_t len = 0; len < sizeof text; len++) {
		char *copy = malloc(len ? len : 1);

		memcpy(copy, text, len);
		(void)narinfo_parse(&ni, copy, len, STORE, &err);
		for (int c = 0; len > 0 && c < 256; c++) {
			copy[len - 1] = (char)c;
			(void)narinfo_parse(&ni, copy, len, STORE, &err);
		}
		free(copy);
	}
}

static void equivalence(void **state)
{
	static const char *const others[] = {
		"StorePath: " STORE "/" REF1 "\n" HASH SIZE REFS,
		PATH "NarHash: sha256:02blcp4jwl902hjds48zlc71q7lj11s39dk4iyz0zllfggdccl5k\n" SIZE REFS,
		PATH HASH "NarSize: 21065\n" REFS,
		PATH HASH SIZE "References: " REF1 "\n",
		PATH HASH SIZE "References: " REF1 " " REF2 "x\n",
		PATH HASH SIZE "References:\n",
	};
	struct narinfo a, b;

	(void)state;
	assert_int_equal(parse(&a, GOOD), 0);
	assert_int_equal(parse(&b, "Deriver: " REF1 ".drv\n" SIZE HASH
	    "References:  " REF2 "  " REF1 " " REF2 " \n" PATH), 0);
	assert_true(narinfo_equivalent(&a, &b));
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		assert_int_equal(parse(&b, others[i]), 0);
		assert_false(narinfo_equivalent(&a, &b));
		assert_false(narinfo_equivalent(&b, &a));
	}
}

static void store_paths(void **state)
{
	char name[300] = "b3qkb91fr9y8idckwdv5bx831vmxmg8w-";

	(void)state;
	assert_int_equal(storepath_check(ITEM, STORE), 0);
	assert_int_equal(storepath_check(STORE "/b3qkb91fr9y8idckwdv5bx831vmxmg8w-a+b-c._?=Z", STORE), 0);
	assert_int_equal(storepath_check(ITEM, "/gnu"), -1);
	assert_int_equal(storepath_check(ITEM, "/gnu/stor"), -1);
	assert_int_equal(storepath_check(STORE "//b3qkb91fr9y8idckwdv5bx831vmxmg8w-tree", STORE), -1);
	assert_int_equal(storepath_check(STORE "/.links", STORE), -1);
	assert_int_equal(storepath_check(STORE, STORE), -1);
	assert_int_equal(storepath_check("", STORE), -1);
	assert_int_equal(storepath_check(STORE "/b3qkb91fr9y8idckwdv5bx831vmxmg8w", STORE), -1);
	assert_int_equal(storepath_check(STORE "/b3qkb91fr9y8idckwdv5bx831vmxmg8w-", STORE), -1);
	assert_int_equal(storepath_check(STORE "/b3qkb91fr9y8idckwdv5bx831vmxmg8w-.x", STORE), -1);
	assert_int_equal(storepath_check(STORE "/b3qkb91fr9y8idckwdv5bx831vmxmg8w_x", STORE), -1);
	assert_int_equal(storepath_check(STORE "/b3qkb91fr9y8idckwdv5bx831vmxmg8e-x", STORE), -1);
	assert_int_equal(storepath_check(STORE "/b3qkb91fr9y8idckwdv5bx831vmxmg8w-x/y", STORE), -1);
	assert_int_equal(storepath_check(STORE "/b3qkb91fr9y8idckwdv5bx831vmxmg8w-x\n", STORE), -1);
	memset(name + 33, 'n', sizeof name - 33);
	assert_true(storepath_base_ok(name, LIMIT_STORE_NAME));
	assert_false(storepath_base_ok(name, LIMIT_STORE_NAME + 1));
	name[40] = '\0';
	assert_false(storepath_base_ok(name, 100));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good), cmocka_unit_test(odd_but_good), cmocka_unit_test(groups),
		cmocka_unit_test(blocks_belong_to_urls), cmocka_unit_test(refused), cmocka_unit_test(too_much), cmocka_unit_test(mutations),
		cmocka_unit_test(equivalence), cmocka_unit_test(store_paths),
	};

	if (crypto_init(&err) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
