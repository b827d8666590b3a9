/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: the filter that takes unix sockets away. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/prctl.h>
#include <sys/socket.h>

#include "helper/fetch/nounix.h"
#include "tests/unit/child.h"

static void
load(void)
{
	struct err e;

	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(nounix_load(&e) == 0);
}

static void
tcp_only(void)
{
	load();
	CHECK(socket(AF_INET, SOCK_STREAM, 0) >= 0);
	CHECK(socket(AF_INET6, SOCK_STREAM, 0) >= 0 || errno == EAFNOSUPPORT);
	CHECK(getpid() > 0);
}

static void
one_unix_socket(void)
{
	load();
	(void)socket(AF_UNIX, SOCK_STREAM, 0);
}

static void
without_no_new_privs(void)
{
	struct err e;

	CHECK(setresuid(65534, 65534, 65534) == 0 || getuid() != 0);
	CHECK(nounix_load(&e) != 0 && e.text[0] != '\0');
}

static void
only_unix_sockets_go(void **state)
{
	(void)state;
	assert_int_equal(in_child(tcp_only), 0);
#ifndef NARLOCK_NO_SECCOMP
	assert_int_equal(in_child(one_unix_socket) & 0x7f, SIGSYS);
	assert_int_equal(in_child(without_no_new_privs), 0);
#else
	(void)one_unix_socket;
	(void)without_no_new_privs;
#endif
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(only_unix_sockets_go) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
