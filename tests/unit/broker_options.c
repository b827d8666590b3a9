/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: _NIX_OPTIONS, of which a part is written by any local user. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "broker/options.h"

static struct options o;

static void parse(const char *text, const char *discovered)
{
	free(o.buffer);
	assert_int_equal(options_parse(&o, text, discovered, LIMIT_SERVERS), 0);
}

/* The URLs, each followed by a comma. */
static const char *urls(const char *text, const char *discovered)
{
	static char all[4096];

	parse(text, discovered);
	all[0] = '\0';
	for (unsigned i = 0; i < o.url_count; i++) {
		strcat(all, o.urls[i]);
		strcat(all, ",");
	}
	return all;
}

static void defaults(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_string_equal(urls(i ? "" : NULL, NULL), "https://bordeaux.guix.gnu.org,https://ci.guix.gnu.org,");
		assert_int_equal(o.traces, 0);
		assert_int_equal(o.deduplicate, 0);
		assert_int_equal(o.columns, 80);
		assert_int_equal(o.urls_dropped, 0);
	}
}

static void the_client_has_the_first_word_on_urls(void **state)
{
	(void)state;
	assert_string_equal(urls("substitute-urls=http://a http://b\n", NULL), "http://a,http://b,");
	assert_string_equal(urls("substitute-urls=http://a http://b\nuntrusted-substitute-urls=http://c http://d\n",
				 NULL), "http://c,http://d,");
	assert_string_equal(urls("untrusted-substitute-urls=http://c\nsubstitute-urls=http://a", NULL), "http://c,");
	assert_string_equal(urls("substitute-urls=\n", NULL), ""); /* an admin who wants none gets none */
	assert_string_equal(urls("substitute-urls=http://h/?a=b=c\n", NULL), "http://h/?a=b=c,");
	assert_string_equal(urls("substitute-urls=http://a\nsubstitute-urls=http://b\n", NULL), "http://a,");
	assert_string_equal(urls("xsubstitute-urls=http://a\nsubstitute-urlsx=http://b\nsubstitute-urls\n", NULL),
			    "https://bordeaux.guix.gnu.org,https://ci.guix.gnu.org,");
	assert_string_equal(urls("untrusted-untrusted-substitute-urls=http://a\n", NULL),
			    "https://bordeaux.guix.gnu.org,https://ci.guix.gnu.org,");
}

static void urls_are_split_and_shortened(void **state)
{
	(void)state;
	assert_string_equal(urls("substitute-urls=  http://a/   http://b//\thttp://c ", NULL),
			    "http://a,http://b,http://c,");
	assert_string_equal(urls("substitute-urls=/", NULL), "/,");
}

static void odd_urls_are_dropped_and_counted(void **state)
{
	char text[LIMIT_URL + 100] = "substitute-urls=http://";

	(void)state;
	assert_string_equal(urls("substitute-urls=http://a\033[2J http://b http://\xc3\xa9 http://c\177\n", NULL),
			    "http://b,");
	assert_int_equal(o.urls_dropped, 3);
	memset(text + strlen(text), 'x', LIMIT_URL - 7);
	parse(text, NULL);
	assert_int_equal(o.url_count, 1);
	strcat(text, "x");
	parse(text, NULL);
	assert_int_equal(o.url_count, 0);
	assert_int_equal(o.urls_dropped, 1);
}

static void no_more_urls_than_the_limit(void **state)
{
	char text[8192] = "substitute-urls=", neighbours[8192] = "";

	(void)state;
	for (unsigned i = 0; i < LIMIT_SERVERS + 6; i++)
		(void)snprintf(text + strlen(text), 32, "http://h%u ", i);
	parse(text, NULL);
	assert_int_equal(o.url_count, LIMIT_SERVERS);
	assert_int_equal(o.urls_dropped, 6);
	for (unsigned i = 0; i < 200; i++)
		(void)snprintf(neighbours + strlen(neighbours), 32, "http://n%u\n", i);
	strcat(text, "\ndiscover=true");
	parse(text, neighbours);
	assert_int_equal(o.url_count, LIMIT_SERVERS);
	assert_string_equal(o.urls[49], "http://n49");
	assert_string_equal(o.urls[50], "http://h0"); /* the admin's are not crowded out */
}

static void neighbours_count_only_when_the_admin_says_so(void **state)
{
	(void)state;
	assert_string_equal(urls("substitute-urls=http://a\ndiscover=true\n", "http://n1\nhttp://n2\n"),
			    "http://n1,http://n2,http://a,");
	assert_string_equal(urls("substitute-urls=http://a\ndiscover=false\n", "http://n1\n"), "http://a,");
	assert_string_equal(urls("substitute-urls=http://a\nuntrusted-discover=true\n", "http://n1\n"), "http://a,");
	assert_string_equal(urls("substitute-urls=http://a\n", "http://n1\n"), "http://a,");
	assert_string_equal(urls("substitute-urls=http://a\ndiscover=true\n", NULL), "http://a,");
}

/* Only what the admin names may be asked to publish something. */
static void who_asks(void **state)
{
	(void)state;
	parse("a=b\nuntrusted-user-name=alice=\"x\nuser-name=root\n", NULL);
	assert_string_equal(o.user, "alice=\"x");
	parse("user-name=root", NULL);
	assert_string_equal(o.user, "root");
	parse("untrusted-user-name=0123456789012345678901234567890123456789012345678901234567890123456789\n", NULL);
	assert_int_equal(strlen(o.user), sizeof o.user - 1);
	parse("", NULL);
	assert_string_equal(o.user, "");
}

static void whose_urls(void **state)
{
	static const struct { const char *text, *kinds; } cases[] = {
		{ NULL, "TT" },
		{ "substitute-urls=http://a http://b\n", "TT" },
		{ "substitute-urls=http://a http://b\nuntrusted-substitute-urls=http://c http://b http://bb http://a\n", "UTUT" },
		{ "substitute-urls= http://a///  http://b/\nuntrusted-substitute-urls=http://b http://a/ http://a/x\n", "TTU" },
		{ "substitute-urls=http://a/x\nuntrusted-substitute-urls=http://a http:// http://a/x/y /\n", "UUUU" },
		{ "untrusted-substitute-urls=http://a https://ci.guix.gnu.org/\n", "UT" }, /* the defaults are the admin's */
		{ "substitute-urls=\nuntrusted-substitute-urls=http://a https://ci.guix.gnu.org\n", "UU" },
		{ "substitute-urls=http://a http://n2\ndiscover=true\n", "TTTT" },
		{ "substitute-urls=http://a\nuntrusted-substitute-urls=http://n2/ http://b\ndiscover=true\n", "TTTU" },
		{ "substitute-urls=http://a\nuntrusted-substitute-urls=http://n2 http://b\n", "UU" },
		/* The same server, written in another way. */
		{ "substitute-urls=http://Host/P https://[FE80::1]:443/ http://c:443\n"
		  "untrusted-substitute-urls=HTTP://hOST:80/P// https://[fe80::1] http://c:443/\n", "TTT" },
		{ "substitute-urls=http://h:80\nuntrusted-substitute-urls=http://H/ HTTP://h\n", "TT" },
		{ "discover=true\nuntrusted-substitute-urls=HTTP://N1:80/\n", "TTT" },
		/* Another one, or who knows. */
		{ "substitute-urls=http://h/P?q http://c https://d\n"
		  "untrusted-substitute-urls=http://h/p?q http://h/P?Q http://h/P%3Fq http://h/./P?q http://h:8/P?q http://h./P?q\n",
		  "UUUUUU" },
		{ "substitute-urls=http://h:80 https://d\n"
		  "untrusted-substitute-urls=https://h http://h:443 https://h:80 http://d http://d:443 http://h:080 http://h:8\n",
		  "UUUUUUU" },
		{ "substitute-urls=http://h http://u@i http://U@j http://[::1]\n"
		  "untrusted-substitute-urls=http://u@h http://h@evil http://u@h:80 http://u@I http://u@j http://i http://[::01] http://::1\n",
		  "UUUUUUUU" },
		{ "substitute-urls=http://h http://u@i http:///\n"
		  "untrusted-substitute-urls=http://h:80:80 http://h: http://h:80x http://h80 http://h\\@evil http://:80 http:/h "
		  "ftp://h h http://u@i:80 hhttp://h http: https: http\n", "UUUUUUUUUUUTUU" },
		{ "substitute-urls=http://h b@c\nuntrusted-substitute-urls=http://H:80 b@C http://h?b@c\n", "TUU" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		parse(cases[i].text, "http://n1\nhttp://n2\n");
		assert_int_equal(o.url_count, strlen(cases[i].kinds));
		for (unsigned k = 0; k < o.url_count; k++)
			if (o.kinds[k] != (cases[i].kinds[k] == 'T' ? SERVER_TRUSTED : SERVER_UNTRUSTED))
				fail_msg("%s: %s is %u", cases[i].text, o.urls[k], o.kinds[k]);
	}
}

static void fewer_urls_when_indexes_need_room(void **state)
{
	(void)state;
	free(o.buffer);
	assert_int_equal(options_parse(&o, "substitute-urls=http://a http://b http://c\ndiscover=true", "http://n", 3), 0);
	assert_int_equal(o.url_count, 3);
	assert_int_equal(o.urls_dropped, 1);
	assert_string_equal(o.urls[2], "http://b");
}

static void flags(void **state)
{
	static const struct { const char *text; int traces; } cases[] = {
		{ "print-extended-build-trace=1", 1 }, { "untrusted-print-extended-build-trace=1\n", 1 },
		{ "untrusted-print-extended-build-trace=2", 1 }, { "print-extended-build-trace=0", 0 },
		{ "print-extended-build-trace=1\nuntrusted-print-extended-build-trace=0\n", 0 },
		{ "print-extended-build-trace=no", 0 }, { "print-extended-build-trace=", 0 },
		{ "print-extended-build-trace=-1", 0 }, { "print-extended-build-trace=true", 1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		parse(cases[i].text, NULL);
		if (o.traces != cases[i].traces)
			fail_msg("%s: %d", cases[i].text, o.traces);
	}
	parse("deduplicate=yes", NULL); /* guix-daemon ends the last line without a newline */
	assert_int_equal(o.deduplicate, 1);
	parse("a=b\ndeduplicate=no", NULL);
	assert_int_equal(o.deduplicate, 0);
	parse("untrusted-deduplicate=yes", NULL);
	assert_int_equal(o.deduplicate, 0);
}

static void columns(void **state)
{
	static const struct { const char *text; unsigned columns; } cases[] = {
		{ "untrusted-terminal-columns=132\n", 132 }, { "terminal-columns=20", 20 }, { "terminal-columns=19", 80 },
		{ "terminal-columns=1000", 1000 }, { "terminal-columns=1001", 80 }, { "terminal-columns=-5", 80 },
		{ "terminal-columns=99999999999999999999", 80 }, { "terminal-columns=x", 80 },
		{ "terminal-columns=", 80 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		parse(cases[i].text, NULL);
		if (o.columns != cases[i].columns)
			fail_msg("%s: %u", cases[i].text, o.columns);
	}
}

static void what_is_unknown_is_skipped(void **state)
{
	(void)state;
	assert_string_equal(urls("\n\n=\n==\nbuild-fallback=false\nuntrusted-user-name=a=b\033[0m\nno equals sign\n"
				 "multiplexed-build-output=true\nsubstitute-urls=http://a\nuntrusted-locale=C", NULL),
			    "http://a,");
}

/* An admin's word must count whatever a client adds before it: the daemon sorts the lines, and a client chooses how
 * many there are. */
static void many_lines_hide_nothing(void **state)
{
	char *text = calloc(1, 65536);

	(void)state;
	assert_non_null(text);
	for (unsigned i = 0; i < 2000; i++)
		(void)snprintf(text + strlen(text), 32, "a%05u=x\n", i);
	strcat(text, "substitute-urls=http://a\n");
	assert_string_equal(urls(text, NULL), "http://a,");
	free(text);
}

static int at_end(void **state)
{
	(void)state;
	free(o.buffer);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults),
		cmocka_unit_test(the_client_has_the_first_word_on_urls),
		cmocka_unit_test(urls_are_split_and_shortened),
		cmocka_unit_test(odd_urls_are_dropped_and_counted),
		cmocka_unit_test(no_more_urls_than_the_limit),
		cmocka_unit_test(neighbours_count_only_when_the_admin_says_so),
		cmocka_unit_test(who_asks),
		cmocka_unit_test(whose_urls),
		cmocka_unit_test(fewer_urls_when_indexes_need_room),
		cmocka_unit_test(flags),
		cmocka_unit_test(columns),
		cmocka_unit_test(what_is_unknown_is_skipped),
		cmocka_unit_test(many_lines_hide_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, at_end);
}
