/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: narlock-publish: narinfos as text, files behind URLs, the configuration. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "helper/publish/conf.h"
#include "helper/publish/info.h"

#define PART "dqsjzl46ccjglf13cnnbpqdrawq2wxvq"
#define SIGNED "StorePath: /gnu/store/" PART "-a-small\nNarHash: sha256:1x\nNarSize: 10232\nReferences: \n"
#define SIGNATURE "Signature: 1;vm;KHNp\n"
#define GZIP "URL: nar/gzip/" PART "-a-small\nCompression: gzip\nFileSize: 3850\n"
#define ZSTD "URL: nar/zstd/" PART "-a-small\nCompression: zstd\nFileSize: 3717\n"

/* What info_add() makes of TEXT where the nars I have a URN "uI" and a manifest "mI" (0: none, e.g.
 * "uu0"). */
static const char *
added(const char *text, const char *known)
{
	static char out[65536];
	struct info_lines lines[LIMIT_NARINFO_URLS] = { { "", "" } };
	struct info i;
	char *copy = strdup(text); /* without a NUL behind it, as far as a sanitizer is concerned */
	size_t n;

	assert_int_equal(info_parse(&i, copy, strlen(text)), 0);
	assert_int_equal(i.n, strlen(known));
	for (unsigned g = 0; g < i.n; g++) {
		if (known[g] != '0')
			snprintf(lines[g].urn, sizeof lines[g].urn, "u%u", g);
		if (known[g] == 'm')
			snprintf(lines[g].manifest, sizeof lines[g].manifest, "m%u", g);
	}
	n = info_add(out, &i, text, strlen(text), lines);
	assert_true(n < INFO_ROOM(strlen(text)));
	out[n] = '\0';
	free(copy);
	return out;
}

static void
test_below(void **state)
{
	(void)state;
	assert_string_equal(added(SIGNED SIGNATURE ZSTD, "m"),
	    SIGNED SIGNATURE ZSTD "ERIS: u0\nERIS-Manifest: m0\n");
	assert_string_equal(added(SIGNED SIGNATURE GZIP ZSTD, "mm"), SIGNED SIGNATURE GZIP
	    "ERIS: u0\nERIS-Manifest: m0\n" ZSTD "ERIS: u1\nERIS-Manifest: m1\n");
	/* Only those that are known, each at its own place. */
	assert_string_equal(added(SIGNED SIGNATURE GZIP ZSTD, "0u"), SIGNED SIGNATURE GZIP ZSTD "ERIS: u1\n");
	assert_string_equal(added(SIGNED SIGNATURE GZIP ZSTD, "u0"), SIGNED SIGNATURE GZIP "ERIS: u0\n" ZSTD);
	assert_string_equal(added(SIGNED SIGNATURE GZIP ZSTD, "00"), SIGNED SIGNATURE GZIP ZSTD);
	/* The last line lacks its newline: what was there stays as it was. */
	assert_string_equal(added(SIGNED SIGNATURE "URL: x", "u"), SIGNED SIGNATURE "URL: x\nERIS: u0\n");
}

static void
test_above(void **state)
{
	(void)state;
	/* Nothing goes into the signed part: the n-th line belongs to the n-th URL, so all or none. */
	assert_string_equal(added(SIGNED GZIP ZSTD SIGNATURE, "mm"), SIGNED GZIP ZSTD SIGNATURE
	    "ERIS: u0\nERIS-Manifest: m0\nERIS: u1\nERIS-Manifest: m1\n");
	assert_string_equal(added(SIGNED GZIP ZSTD SIGNATURE, "m0"), SIGNED GZIP ZSTD SIGNATURE);
	assert_string_equal(added(SIGNED GZIP ZSTD SIGNATURE, "mu"), SIGNED GZIP ZSTD SIGNATURE);
	/* Some above, some below: only those below can be told. */
	assert_string_equal(added(SIGNED GZIP SIGNATURE ZSTD, "mm"), SIGNED GZIP SIGNATURE ZSTD
	    "ERIS: u1\nERIS-Manifest: m1\n");
	/* The signer has written them. */
	assert_string_equal(added(SIGNED ZSTD "ERIS: signed\n" SIGNATURE, "m"), SIGNED ZSTD "ERIS: signed\n"
	    SIGNATURE);
	assert_string_equal(added(SIGNED SIGNATURE ZSTD "ERIS: mirror\n", "m"),
	    SIGNED SIGNATURE ZSTD "ERIS: mirror\n");
	/* Without a signature of this kind nothing can break. */
	assert_string_equal(added(SIGNED ZSTD "Sig: k:x\n", "u"), SIGNED ZSTD "Sig: k:x\nERIS: u0\n");
}

static void
test_parse(void **state)
{
	char many[8192] = SIGNED SIGNATURE;
	struct info i;

	(void)state;
	assert_int_equal(info_parse(&i, SIGNED SIGNATURE GZIP ZSTD, strlen(SIGNED SIGNATURE GZIP ZSTD)), 0);
	assert_int_equal(i.n, 2);
	assert_memory_equal(info_hash_part(&i), PART, 32);
	assert_int_equal(i.groups[0].file_size, 3850);
	assert_int_equal(i.groups[1].compression.len, 4);
	assert_int_equal(info_parse(&i, "", 0), -1);
	assert_int_equal(info_parse(&i, SIGNED, strlen(SIGNED)), -1);
	assert_int_equal(info_parse(&i, ZSTD, strlen(ZSTD)), -1);
	assert_int_equal(info_parse(&i, SIGNED "\0" ZSTD, strlen(SIGNED) + 1 + strlen(ZSTD)), -1);
	for (int n = 0; n <= LIMIT_NARINFO_URLS; n++)
		strcat(many, "URL: x\n");
	assert_int_equal(info_parse(&i, many, strlen(many)), -1);
	assert_int_equal(info_parse(&i, "StorePath: /gnu/store/short-x\nURL: y\n", 37), 0);
	assert_null(info_hash_part(&i));
	assert_int_equal(info_parse(&i, "StorePath: nothing\nURL: y\n", 26), 0);
	assert_null(info_hash_part(&i));
}

static void
test_index(void **state)
{
	struct info_lines lines[LIMIT_NARINFO_URLS] = { { "", "" }, { "u1", "m1" } };
	char out[4096];
	struct info i;
	size_t n;

	(void)state;
	assert_int_equal(info_parse(&i, SIGNED SIGNATURE GZIP ZSTD, strlen(SIGNED SIGNATURE GZIP ZSTD)), 0);
	n = info_index(out, sizeof out, &i, lines);
	out[n] = '\0';
	assert_string_equal(out, "StorePath: /gnu/store/" PART "-a-small\n"
	    ZSTD "ERIS: u1\nERIS-Manifest: m1\n");
	assert_int_equal(info_index(out, 100, &i, lines), 0);
	lines[1].urn[0] = '\0';
	assert_int_equal(info_index(out, sizeof out, &i, lines), 0);
}

static const char *
file(const char *url, int form)
{
	static char path[LIMIT_PATH];

	return info_file(path, url, strlen(url), form, 1) == 0 ? path : "-";
}

static void
test_file(void **state)
{
	char longest[2 * LIMIT_PATH];

	(void)state;
	assert_string_equal(file("nar/zstd/" PART "-a", 0), "zstd/" PART "-a.nar");
	assert_string_equal(file("some/prefix/lzip/" PART "-a", 0), "lzip/" PART "-a.nar");
	assert_string_equal(file("nar/" PART "-a", 0), "none/" PART "-a.nar");
	assert_string_equal(file("nar/zstd/" PART "-a%2Bb", 0), "zstd/" PART "-a+b.nar");
	assert_string_equal(file("nar/zstd/" PART "-a%2Bb", 1), "nar/zstd/" PART "-a+b");
	assert_string_equal(file("nar/x.nar.zst", 1), "nar/x.nar.zst");
	assert_string_equal(file("nar/zstd/other", 0), "-");
	for (int form = 0; form < INFO_FORMS; form++) {
		static const char *const bad[] = { "", "/", "/etc/passwd", "..", "../x", "a/../b", "a/./b",
		    "a//b", "a/", ".hidden",
		    "a/.hidden", "a%2fb", "a%2Fb", "%2e%2e/x", "a/%2e%2e/b", "a%00b", "a%", "a%2", "a%zz",
		    "a\nb", "a\x7f",
		    "http://h/x", "file:///x", "a?b", "a#b", "a\\b", "%2F", "a/%2e" };

		for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
			assert_string_equal(file(bad[i], form), "-");
	}
	memset(longest, 'a', sizeof longest - 1);
	longest[sizeof longest - 1] = '\0';
	assert_string_equal(file(longest, 1), "-");
	assert_non_null(info_item("zstd/" PART "-a.nar"));
	assert_null(info_item("zstd/" PART));
	assert_null(info_item("zstd/eqsjzl46ccjglf13cnnbpqdrawq2wxvq-a.nar"));
}

/* --- Configuration ------------------------------------------------------------------------------------ */

static int
read_conf(struct conf *c, const char *text, size_t len, struct err *e)
{
	char path[] = "/tmp/narlock-publish-conf-XXXXXX";
	int fd = mkstemp(path), rc;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), (ssize_t)len);
	close(fd);
	conf_defaults(c);
	rc = conf_read(c, path, e);
	unlink(path);
	return rc;
}

static void
test_conf(void **state)
{
	static const char *const bad[] = { "cache\n", "nothing = 1\n", "ttl = -1\n", "ttl = 1x\n", "ttl =\n",
	    "threads = 0\n",
	    "pin = maybe\n", "cache =\n", "connections = 99999999999999999999\n" };
	static const char good[] =
	    "# comment\n\n  cache = /var/cache/x \r\nstate=/s\nttl = 60\nlisten = 127.0.0.1:1\n"
	    "listen = [::1]:2\npin = no\nthreads = 3";
	struct conf c;
	struct err e;

	(void)state;
	assert_int_equal(read_conf(&c, good, sizeof good - 1, &e), 0);
	assert_string_equal(c.cache, "/var/cache/x");
	assert_int_equal(c.ttl, 60);
	assert_int_equal(c.listens, 2);
	assert_string_equal(c.listen[1], "[::1]:2");
	assert_int_equal(c.pin, 0);
	assert_int_equal(c.threads, 3);
	assert_int_equal(conf_check(&c, &e), 0);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		if (read_conf(&c, bad[i], strlen(bad[i]), &e) == 0)
			fail_msg("`%s' is taken", bad[i]);
		assert_non_null(strstr(e.text, ":1: "));
	}
	assert_int_equal(read_conf(&c, "ttl\0 = 1\n", 9, &e), -1);
	assert_int_equal(conf_read(&c, "/nonexistent/x", &e), -1);
	conf_defaults(&c);
	assert_int_equal(conf_check(&c, &e), -1);
	strcpy(c.cache, "relative");
	assert_int_equal(conf_check(&c, &e), -1);
}

/* The file that is installed names every key, with its default. */
static void
test_conf_file(void **state)
{
	FILE *f = fopen("policy/narlock-publish.conf.in", "r");
	struct conf c, defaults;
	char line[512];
	struct err e;
	unsigned keys = 0;

	(void)state;
	assert_non_null(f);
	conf_defaults(&c);
	conf_defaults(&defaults);
	while (fgets(line, sizeof line, f) != NULL) {
		char *equals = strstr(line, " = ");

		if (line[0] != '#' || line[1] < 'a' || line[1] > 'z' || equals == NULL)
			continue;
		*equals = '\0';
		equals[3 + strcspn(equals + 3, "\n")] = '\0';
		if (conf_set(&c, line + 1, equals + 3, &e) != 0)
			fail_msg("%s: %s", line, e.text);
		keys++;
	}
	fclose(f);
	assert_true(keys >= 28);
	c.listens = c.ipfses = 0;
	memset(c.listen, 0, sizeof c.listen);
	memset(c.ipfs, 0, sizeof c.ipfs);
	memset(c.cache, 0, sizeof c.cache);
	memset(c.upstream, 0, sizeof c.upstream);
	assert_memory_equal(&c, &defaults, sizeof c);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_below),
		cmocka_unit_test(test_above),
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_index),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_conf),
		cmocka_unit_test(test_conf_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
