/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: the cache of our own: what is written to it. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "helper/publish/files.h"

/* A write that was cut short tells why only when it is tried again. */
static void
test_short_write(void **state)
{
	char name[] = "/tmp/narlock-test.XXXXXX", data[300] = { 1 }, back[300];
	struct rlimit old, small;
	int fd = mkstemp(name);

	(void)state;
	assert_true(fd >= 0 && unlink(name) == 0);
	assert_int_equal(files_write(fd, data, 250, 50), 0);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = old;
	small.rlim_cur = 400;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	errno = ENOENT; /* of something long ago */
	assert_int_equal(files_write(fd, data, 300, 200), -1);
	assert_int_equal(errno, EFBIG);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(files_read(fd, back, 300, 50), 300);
	assert_memory_equal(back, data, 150);
	close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_short_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
