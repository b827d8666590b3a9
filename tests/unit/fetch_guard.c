/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: where URLs of untrusted users may lead. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "helper/fetch/guard.h"

static struct guard g;
static struct url u;
static struct err e;

static int
setup(void **state)
{
	(void)state;
	memset(&g, 0, sizeof g);
	return 0;
}

static void
at(const char *text)
{
	assert_int_equal(url_parse(&u, text, &e), 0);
	u.untrusted = 1;
}

static int
may(const char *address)
{
	return guard_address(&g, &u, address, &e) == 0;
}

static void
allow(const char *value)
{
	if (guard_set(&g, "untrusted-allow", value, &e) != 1)
		fail_msg("%s: %s", value, e.text);
}

static void
lines(void **state)
{
	static const char *const bad[] = { "", "/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/8x", "::/129", "h/8", "h:0", "h:65536", "h:",
		"h:x", ":80", "[::1", "[::1]x", "[::1]:0", "a b", "a\n", "http://h", "*", "h:1:2:x", "10.0.0.0/-1", "10.0.0.0/000008" };
	char name[300];

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (guard_set(&g, "untrusted-allow", bad[i], &e) != -1)
			fail_msg("%s", bad[i]);
	memset(name, 'a', sizeof name);
	name[256] = '\0';
	assert_int_equal(guard_set(&g, "untrusted-allow", name, &e), -1);
	name[255] = '\0';
	allow(name);
	assert_int_equal(g.mode, GUARD_PUBLIC);
	assert_int_equal(guard_set(&g, "ipfs", "x", &e), 0);
	assert_int_equal(guard_set(&g, "untrusted-urls", "allow", &e), 1);
	assert_int_equal(g.mode, GUARD_ALLOW);
	assert_int_equal(guard_set(&g, "untrusted-urls", "Public", &e), -1);
	assert_int_equal(g.mode, GUARD_OFF);
	while (g.nrules < GUARD_RULES)
		allow("::1");
	assert_int_equal(guard_set(&g, "untrusted-allow", "::1", &e), -1);
}

static void
addresses(void **state)
{
	(void)state;
	at("http://x.example:81/");
	assert_true(may("1.1.1.1") && may("2606:4700::1") && may("::ffff:1.1.1.1"));
	assert_false(may("10.1.2.3") || may("::ffff:10.1.2.3") || may("fd00::1") || may("nonsense") || may(""));
	allow("10.1.0.0/16");
	allow("fd00::/15");
	allow("192.168.0.1:82");
	allow("[fe80::1]:81");
	assert_true(may("10.1.255.255") && may("::ffff:10.1.2.3") && may("fd01::1") && may("fe80::1"));
	assert_false(may("10.2.0.0") || may("10.0.255.255") || may("192.168.0.1") || may("fe80::2") || may("fd02::1") || may("::10.1.2.3"));
	(void)guard_set(&g, "untrusted-urls", "allow", &e);
	assert_false(may("1.1.1.1"));
	assert_non_null(strstr(e.text, "x.example:81, named by an untrusted user, is refused: 1.1.1.1 is not in untrusted-allow"));
	allow("0.0.0.0/0");
	assert_true(may("1.1.1.1"));
	assert_false(may("2606:4700::1"));
	allow("::/0");
	assert_true(may("2606:4700::1"));
	(void)guard_set(&g, "untrusted-urls", "off", &e);
	assert_int_equal(guard_name(&g, &u, 0, &e), -1);
}

static void
names(void **state)
{
	(void)state;
	at("http://cache.example/");
	assert_int_equal(guard_name(&g, &u, 0, &e), 0);
	assert_int_equal(guard_name(&g, &u, 1, &e), 0);
	at("http://cache.internal/");
	assert_int_equal(guard_name(&g, &u, 0, &e), 0); /* its addresses will tell */
	assert_int_equal(guard_name(&g, &u, 1, &e), -1);
	allow("Cache.Internal:80");
	assert_int_equal(guard_name(&g, &u, 1, &e), 0);
	assert_true(may("10.0.0.1"));
	at("http://cache.internal:81/");
	assert_int_equal(guard_name(&g, &u, 1, &e), -1);
	assert_false(may("10.0.0.1"));
	at("http://localhost/");
	assert_int_equal(guard_name(&g, &u, 0, &e), -1);
	at("http://[::ffff:127.0.0.1]/");
	assert_int_equal(guard_name(&g, &u, 1, &e), -1);
	allow("127.0.0.1");
	assert_int_equal(guard_name(&g, &u, 1, &e), 0);
	at("http://localhost/");
	assert_int_equal(guard_name(&g, &u, 0, &e), 0);
}

static void
lists_and_sockets(void **state)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };

	(void)state;
	at("http://x.example/");
	assert_int_equal(guard_list(&g, &u, "1.1.1.1,[2606:4700::1]", &e), 0);
	assert_int_equal(guard_list(&g, &u, "1.1.1.1,[::1]", &e), -1);
	assert_int_equal(guard_list(&g, &u, "[::ffff:10.0.0.1],1.1.1.1", &e), -1);
	v4.sin_addr.s_addr = htonl(0x7f000001);
	assert_int_equal(guard_socket(&g, &u, (const void *)&v4, &e), -1);
	v4.sin_addr.s_addr = htonl(0x01010101);
	assert_int_equal(guard_socket(&g, &u, (const void *)&v4, &e), 0);
	assert_int_equal(inet_pton(AF_INET6, "::ffff:127.0.0.1", &v6.sin6_addr), 1);
	assert_int_equal(guard_socket(&g, &u, (const void *)&v6, &e), -1);
	v6.sin6_family = AF_UNIX;
	assert_int_equal(guard_socket(&g, &u, (const void *)&v6, &e), -1);
}

static void
what_it_leads_to_is_untrusted(void **state)
{
	struct url to;

	(void)state;
	at("http://x.example/");
	assert_int_equal(url_below(&to, &u, "nar/x", &e), 0);
	assert_true(to.untrusted);
	assert_int_equal(url_below(&to, &u, "http://y/nar/x", &e), 0);
	assert_true(to.untrusted);
	assert_int_equal(url_redirect(&to, &u, "http://y/nar/x", &e), 0);
	assert_true(to.untrusted);
	assert_int_equal(url_redirect(&to, &u, "/z", &e), 0);
	assert_true(to.untrusted);
	u.untrusted = 0;
	assert_int_equal(url_redirect(&to, &u, "//y/z", &e), 0);
	assert_false(to.untrusted);
}

static void
told_once(void **state)
{
	char what[16];

	(void)state;
	for (int i = 0; i < GUARD_TOLD + 10; i++) {
		(void)snprintf(what, sizeof what, "%d", i);
		assert_int_equal(guard_new(&g, what), i < GUARD_TOLD);
		assert_int_equal(guard_new(&g, what), 0);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(lines, setup),
		cmocka_unit_test_setup(addresses, setup),
		cmocka_unit_test_setup(names, setup),
		cmocka_unit_test_setup(lists_and_sockets, setup),
		cmocka_unit_test_setup(what_it_leads_to_is_untrusted, setup),
		cmocka_unit_test_setup(told_once, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
