/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: URLs are split and joined as RFC 3986 says where that is safe, refused elsewhere, shown without secrets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "helper/fetch/url.h"

static void
parses(void **state)
{
	static const struct { const char *text, *rebuilt, *user, *password; } good[] = {
		{ "http://example.org", "http://example.org/", "", "" },
		{ "HTTP://Example.ORG:80/a?b=c#d", "http://example.org/a?b=c", "", "" },
		{ "https://example.org:443", "https://example.org/", "", "" },
		{ "https://example.org:8443/x", "https://example.org:8443/x", "", "" },
		{ "http://example.org:443/", "http://example.org:443/", "", "" },
		{ "http://example.org:/", "http://example.org/", "", "" },
		{ "http://u:p@h/", "http://h/", "u", "p" },
		{ "http://u%40x:p%3a%2F@h:81/", "http://h:81/", "u@x", "p:/" },
		{ "http://u:p:q@h/", "http://h/", "u", "p:q" },
		{ "http://u@v@h/", "http://h/", "u@v", "" },
		{ "http://@h/", "http://h/", "", "" },
		{ "http://h?x", "http://h/?x", "", "" },
		{ "http://h#x", "http://h/", "", "" },
		{ "http://h?x@evil/", "http://h/?x@evil/", "", "" },
		{ "http://[::1]:80/", "http://[::1]/", "", "" },
		{ "http://[2001:db8::1]:81/a", "http://[2001:db8::1]:81/a", "", "" },
		{ "http://127.0.0.1:8080/", "http://127.0.0.1:8080/", "", "" },
		{ "http://under_score.example/", "http://under_score.example/", "", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		char text[URL_TEXT];
		struct url u;
		struct err e;

		if (url_parse(&u, good[i].text, &e) != 0)
			fail_msg("%s: %s", good[i].text, e.text);
		url_text(&u, text);
		assert_string_equal(text, good[i].rebuilt);
		assert_string_equal(u.user, good[i].user);
		assert_string_equal(u.password, good[i].password);
	}
}

static void
refuses(void **state)
{
	static const char *const bad[] = { "", "/", "example.org", "http:/x", "http://", "http:///x", "http://:80/", "ftp://x/",
		"file:///etc/passwd", "javascript:x", "http://a b/", "http://a\tb/", "http://a/\r\nEvil: 1", "http://a/\x7f",
		"http://\xc3\xa4.example/", "http://a:0/", "http://a:65536/", "http://a:99999999999999999999/", "http://a:8o/",
		"http://a:-1/", "http://[::1/", "http://[::1]x/", "http://[1.2.3.4]/", "http://[]/", "http://[::1%25lo]/",
		"http://127.1/", "http://2130706433/", "http://0177.0.0.1/", "http://1.2.3.4.5/", "http://1.2.3.256/",
		"http://127.0.0.1./", "http://0x7f.1/", "http://0x7f.1./", "http://0X7F000001/", "http://0x7f.0.0.0x1/", "http://0x/",
		"http://a.0x/", "http://a.1:80/", "http://127.0.0.0x1/",
		"http://a%00b/", "http://u%0d%0a:p@h/", "http://u%zz@h/", "http://u%4", "http://u%4@h/", "http://-a/", "http://.a/",
		"http://a\\@b/", "http://a/<x>", "http://a|b/", "http://u%3ax:p@h/" };

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct url u;
		struct err e;

		if (url_parse(&u, bad[i], &e) == 0)
			fail_msg("accepted: %s", bad[i]);
		assert_true(e.text[0] != '\0');
	}
}

/* A password must not come back in the reason. */
static void
reasons_keep_secrets(void **state)
{
	static const char *const bad[] = { "http://joe:hunter2@a b/", "http://joe:hunter2@/", "http://joe:hunter2%@h/",
		"http://joe:hunter2@h:0/", "ftp://joe:hunter2@h/" };

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct url u;
		struct err e;

		assert_int_equal(url_parse(&u, bad[i], &e), -1);
		assert_null(strstr(e.text, "hunter2"));
		assert_null(strstr(e.text, "joe"));
	}
}

static void
bounds(void **state)
{
	char *text = calloc(1, 8192);
	struct url u;
	struct err e;

	(void)state;
	strcpy(text, "http://h/");
	memset(text + 9, 'x', LIMIT_URL - 9);
	assert_int_equal(url_parse(&u, text, &e), 0);
	text[LIMIT_URL] = 'x';
	assert_int_equal(url_parse(&u, text, &e), -1);
	memset(text, 0, 8192);
	strcpy(text, "http://");
	memset(text + 7, 'h', LIMIT_HOST);
	assert_int_equal(url_parse(&u, text, &e), 0);
	text[7 + LIMIT_HOST] = 'h';
	assert_int_equal(url_parse(&u, text, &e), -1);
	memset(text, 0, 8192);
	strcpy(text, "http://");
	memset(text + 7, 'u', URL_SECRET - 1);
	strcpy(text + 7 + URL_SECRET - 1, "@h/");
	assert_int_equal(url_parse(&u, text, &e), 0);
	memset(text + 7, 'u', URL_SECRET);
	strcpy(text + 7 + URL_SECRET, "@h/");
	assert_int_equal(url_parse(&u, text, &e), -1);
	/* joined, it must still fit */
	memset(text, 0, 8192);
	strcpy(text, "http://h/");
	memset(text + 9, 'x', LIMIT_URL - 9);
	assert_int_equal(url_parse(&u, text, &e), 0);
	struct url joined;
	memset(text, 'y', 100);
	text[100] = '\0';
	assert_int_equal(url_below(&joined, &u, text, &e), -1);
	free(text);
}

static void
below(void **state)
{
	static const struct { const char *base, *text, *result; } cases[] = {
		{ "http://h", "nar/x", "http://h/nar/x" },
		{ "http://h/", "nar/x", "http://h/nar/x" },
		{ "http://h/a", "nar/x", "http://h/a/nar/x" },
		{ "http://h/a//", "/nar/x", "http://h/a/nar/x" },
		{ "http://h/a?q", "nar/x", "http://h/a/nar/x" },
		{ "http://h/a", "http://other:81/x", "http://other:81/x" },
		{ "http://h/a", "//other/x", "http://h/a/other/x" },
		{ "http://h/a", "nar/x?y#z", "http://h/a/nar/x?y" },
		{ "http://h", "a:b/c", "http://h/a:b/c" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char text[URL_TEXT];
		struct url base, u;
		struct err e;

		assert_int_equal(url_parse(&base, cases[i].base, &e), 0);
		if (url_below(&u, &base, cases[i].text, &e) != 0)
			fail_msg("%s: %s", cases[i].text, e.text);
		url_text(&u, text);
		assert_string_equal(text, cases[i].result);
	}
}

static void
redirects(void **state)
{
	static const struct { const char *from, *location, *result; } cases[] = {
		/* RFC 3986, 5.4, those that an http server may send */
		{ "http://a/b/c/d;p?q", "g", "http://a/b/c/g" },
		{ "http://a/b/c/d;p?q", "./g", "http://a/b/c/g" },
		{ "http://a/b/c/d;p?q", "g/", "http://a/b/c/g/" },
		{ "http://a/b/c/d;p?q", "/g", "http://a/g" },
		{ "http://a/b/c/d;p?q", "//g", "http://g/" },
		{ "https://a/b", "//g:8/x", "https://g:8/x" },
		{ "http://a/b/c/d;p?q", "?y", "http://a/b/c/d;p?y" },
		{ "http://a/b/c/d;p?q", "g?y", "http://a/b/c/g?y" },
		{ "http://a/b/c/d;p?q", ";x", "http://a/b/c/;x" },
		{ "http://a/b/c/d;p?q", "", "http://a/b/c/d;p" },
		{ "http://a/b/c/d;p?q", ".", "http://a/b/c/" },
		{ "http://a/b/c/d;p?q", "..", "http://a/b/" },
		{ "http://a/b/c/d;p?q", "../g", "http://a/b/g" },
		{ "http://a/b/c/d;p?q", "../..", "http://a/" },
		{ "http://a/b/c/d;p?q", "../../g", "http://a/g" },
		{ "http://a/b/c/d;p?q", "../../../../g", "http://a/g" },
		{ "http://a/b/c/d;p?q", "/./g", "http://a/g" },
		{ "http://a/b/c/d;p?q", "g..", "http://a/b/c/g.." },
		{ "http://a/b/c/d;p?q", "./../g", "http://a/b/g" },
		{ "http://a/b/c/d;p?q", "g?y/../x", "http://a/b/c/g?y/../x" },
		{ "http://a/b/c/d;p?q", "https://z:1/../y", "https://z:1/y" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char text[URL_TEXT];
		struct url from, u;
		struct err e;

		assert_int_equal(url_parse(&from, cases[i].from, &e), 0);
		if (url_redirect(&u, &from, cases[i].location, &e) != 0)
			fail_msg("%s: %s", cases[i].location, e.text);
		url_text(&u, text);
		assert_string_equal(text, cases[i].result);
	}
}

static void
secrets_stay_home(void **state)
{
	struct url base, u;
	struct err e;
	char shown[200];

	(void)state;
	assert_int_equal(url_parse(&base, "http://joe:hunter2@h:81/a", &e), 0);
	assert_int_equal(url_below(&u, &base, "x", &e), 0);
	assert_string_equal(u.password, "hunter2");
	assert_int_equal(url_below(&u, &base, "http://h:81/x", &e), 0);
	assert_string_equal(u.password, "hunter2");
	assert_int_equal(url_below(&u, &base, "http://h/x", &e), 0);
	assert_string_equal(u.user, "");
	assert_int_equal(url_below(&u, &base, "https://h:81/x", &e), 0);
	assert_string_equal(u.password, "");
	assert_int_equal(url_redirect(&u, &base, "/y", &e), 0);
	assert_string_equal(u.password, "hunter2");
	assert_int_equal(url_redirect(&u, &base, "http://other/y", &e), 0);
	assert_string_equal(u.password, "");
	assert_int_equal(url_redirect(&u, &base, "http://u:p@other/y", &e), 0);
	assert_string_equal(u.password, "");
	assert_int_equal(url_redirect(&u, &base, "/y?token=t", &e), 0);
	url_show(&u, shown, sizeof shown);
	assert_string_equal(shown, "http://h:81/y");
	url_source(&u, shown, sizeof shown);
	assert_string_equal(shown, "h:81");
	url_source(&u, shown, 3);
	assert_string_equal(shown, "h:");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses), cmocka_unit_test(refuses), cmocka_unit_test(reasons_keep_secrets),
		cmocka_unit_test(bounds), cmocka_unit_test(below), cmocka_unit_test(redirects),
		cmocka_unit_test(secrets_stay_home),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
