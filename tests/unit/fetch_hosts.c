/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: names are asked for once, in bounds, and again when they are old. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "helper/fetch/hosts.h"

static const uint8_t two[] = { 4, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	6, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 };

static int
setup(void **state)
{
	struct hosts *h = calloc(1, sizeof *h);
	struct err e;

	*state = h;
	return hosts_init(h, &e);
}

static int
teardown(void **state)
{
	hosts_free(*state);
	free(*state);
	return 0;
}

static int
reply(struct hosts *h, const char *name, uint8_t status, size_t len, uint64_t now)
{
	struct wire_msg m = { .type = MSG_ADDRESSES, .text = wire_str(name), .status = status, .blob = { two, len } };
	struct err e;

	return hosts_answer(h, &m, now, &e);
}

static void
need_no_question(void **state)
{
	static const char *const names[] = { "localhost", "127.0.0.1", "10.1.2.3", "::1", "2001:db8::1" };
	const char *list;

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		assert_int_equal(hosts_need(*state, names[i], 1, &list), HOST_READY);
		assert_null(list);
	}
	assert_null(hosts_question(*state, 1));
}

static void
asks_once(void **state)
{
	struct hosts *h = *state;
	const char *list;

	assert_int_equal(hosts_need(h, "a.example", 1, &list), HOST_WAITING);
	assert_int_equal(hosts_need(h, "a.example", 2, &list), HOST_WAITING);
	assert_string_equal(hosts_question(h, 2), "a.example");
	assert_null(hosts_question(h, 2));
	assert_int_equal(hosts_need(h, "a.example", 3, &list), HOST_WAITING);
	assert_null(hosts_question(h, 3));
	assert_int_equal(reply(h, "a.example", 0, sizeof two, 4), 0);
	assert_int_equal(hosts_need(h, "a.example", 5, &list), HOST_READY);
	assert_string_equal(list, "192.0.2.1,[2001:db8::1]");
	/* old addresses, and ones that did not work, are asked for again */
	assert_int_equal(hosts_need(h, "a.example", 3 + HOSTS_FRESH_MS, &list), HOST_READY);
	assert_int_equal(hosts_need(h, "a.example", 4 + HOSTS_FRESH_MS, &list), HOST_WAITING);
	assert_non_null(hosts_question(h, 400000));
	assert_int_equal(reply(h, "a.example", 0, sizeof two, 400000), 0);
	hosts_stale(h, "a.example");
	assert_int_equal(hosts_need(h, "a.example", 400001, &list), HOST_WAITING);
}

static void
unknown(void **state)
{
	struct hosts *h = *state;
	const char *list;

	assert_int_equal(hosts_need(h, "a.example", 1, &list), HOST_WAITING);
	assert_non_null(hosts_question(h, 1));
	assert_int_equal(hosts_deadline(h), 1 + HOSTS_ANSWER_MS);
	assert_int_equal(reply(h, "a.example", 1, 0, 2), 0);
	assert_int_equal(hosts_deadline(h), UINT64_MAX);
	assert_int_equal(hosts_need(h, "a.example", 3, &list), HOST_UNKNOWN);
	assert_int_equal(hosts_need(h, "a.example", 4, &list), HOST_UNKNOWN);
	assert_int_equal(hosts_need(h, "a.example", 2 + HOSTS_UNKNOWN_MS, &list), HOST_WAITING);
	/* no answer at all */
	assert_non_null(hosts_question(h, 20000));
	assert_int_equal(hosts_need(h, "a.example", 20000 + HOSTS_ANSWER_MS, &list), HOST_UNKNOWN);
	assert_int_equal(hosts_deadline(h), UINT64_MAX);
	assert_int_equal(reply(h, "a.example", 0, sizeof two, 60000), 0);
	assert_int_equal(hosts_need(h, "a.example", 60001, &list), HOST_READY);
}

static void
wrong_answers(void **state)
{
	struct hosts *h = *state;
	const char *list;

	assert_int_equal(reply(h, "a.example", 0, sizeof two, 1), -1);
	(void)hosts_need(h, "a.example", 1, &list);
	assert_int_equal(reply(h, "a.example", 0, sizeof two, 1), -1); /* wanted, but not asked yet */
	assert_non_null(hosts_question(h, 1));
	assert_int_equal(reply(h, "b.example", 0, sizeof two, 1), -1);
	assert_int_equal(reply(h, "a.example", 0, 16, 1), -1);
	assert_int_equal(reply(h, "a.example", 0, 0, 1), -1);
	assert_int_equal(reply(h, "a.example", 1, 17, 1), -1);
	assert_int_equal(reply(h, "a.example", 2, 0, 1), -1);
	assert_int_equal(reply(h, "a.example", 0, 17, 1), 0);
	assert_int_equal(reply(h, "a.example", 0, 17, 1), -1);
}

static void
bounds(void **state)
{
	struct hosts *h = *state;
	const char *list, *asked[LIMIT_RESOLVES];
	char name[32];

	/* more names than there is room for: entries without a question go */
	for (int i = 0; i < 3 * LIMIT_HOSTS; i++) {
		(void)snprintf(name, sizeof name, "h%d.example", i);
		assert_int_equal(hosts_need(h, name, 1, &list), HOST_WAITING);
	}
	assert_int_equal(h->count, LIMIT_HOSTS);
	for (int i = 0; i < LIMIT_RESOLVES; i++)
		assert_non_null(asked[i] = hosts_question(h, 1));
	assert_null(hosts_question(h, 1));
	(void)snprintf(name, sizeof name, "%s", asked[0]);
	for (int i = 0; i < LIMIT_HOSTS; i++) {
		char more[32];

		(void)snprintf(more, sizeof more, "m%d.example", i);
		(void)hosts_need(h, more, 1, &list);
	}
	assert_int_equal(reply(h, name, 0, sizeof two, 2), 0); /* a question is never forgotten */
	assert_non_null(hosts_question(h, 2));
}

static void
the_dead(void **state)
{
	struct hosts *h = *state;
	struct url a, b, c;
	struct err e;

	assert_int_equal(url_parse(&a, "http://h/x", &e), 0);
	assert_int_equal(url_parse(&b, "http://h/y", &e), 0);
	assert_int_equal(url_parse(&c, "http://h:81/", &e), 0);
	assert_int_equal(hosts_dead(h, &a), 0);
	hosts_die(h, &a);
	assert_int_equal(hosts_dead(h, &b), 1);
	assert_int_equal(hosts_dead(h, &c), 0);
	for (unsigned i = 1; i < 3 * LIMIT_HOSTS; i++) {
		c.port = (uint16_t)i;
		hosts_die(h, &c);
		assert_int_equal(hosts_dead(h, &c), 1);
	}
}

int
main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = { CASE(need_no_question), CASE(asks_once), CASE(unknown), CASE(wrong_answers),
		CASE(bounds), CASE(the_dead) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
