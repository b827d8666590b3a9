/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: the order in which the places of a nar are tried. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "helper/fetch/rank.h"
#include "ipc/wire.h"

static void
methods(void **state)
{
	(void)state;
	assert_int_equal(rank_method("none"), METHOD_NONE);
	assert_int_equal(rank_method(""), METHOD_NONE);
	assert_int_equal(rank_method("gzip"), METHOD_GZIP);
	assert_int_equal(rank_method("lzip"), METHOD_LZIP);
	assert_int_equal(rank_method("zstd"), METHOD_ZSTD);
	assert_int_equal(rank_method("xz"), 0);
	assert_int_equal(rank_method("ZSTD"), 0);
	assert_int_equal(rank_method("zstd "), 0);
}

static void
check(const struct rank_entry *given, size_t n, const uint16_t *want)
{
	struct rank_entry e[8];

	memcpy(e, given, n * sizeof *e);
	rank_sort(e, n);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(e[i].candidate, want[i]);
	/* the order of the candidates must not matter */
	for (size_t i = 0; i < n; i++)
		e[i] = given[n - 1 - i];
	rank_sort(e, n);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(e[i].candidate, want[i]);
}

static void
sorts(void **state)
{
	static const struct rank_entry unknown[] = { { 0, 0, METHOD_NONE, 0, 0 }, { 1, 0, METHOD_GZIP, 0, 5 },
		{ 2, 0, METHOD_LZIP, 0, 7 }, { 3, 0, METHOD_ZSTD, 0, 9 } };
	static const struct rank_entry known[] = { { 0, 0, METHOD_NONE, 0, 4 }, { 1, 0, METHOD_GZIP, 0, 5 },
		{ 2, 0, METHOD_LZIP, 0, 7 }, { 3, 0, METHOD_ZSTD, 0, 9 } };
	static const struct rank_entry servers[] = { { 0, 1, METHOD_ZSTD, 0, 1 }, { 1, 0, METHOD_NONE, 0, 9 },
		{ 2, 2, METHOD_ZSTD, 1, 1 }, { 3, 0, METHOD_LZIP, 1, 1 }, { 4, 1, METHOD_GZIP, 0, 1 } };

	(void)state;
	check(unknown, 4, (const uint16_t[]){ 3, 2, 1, 0 });
	check(known, 4, (const uint16_t[]){ 3, 0, 1, 2 });
	check(servers, 5, (const uint16_t[]){ 1, 0, 4, 3, 2 });
	rank_sort(NULL, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(methods), cmocka_unit_test(sorts) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
