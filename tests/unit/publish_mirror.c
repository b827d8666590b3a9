/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: the cache of our own: what is written to it, and what leaves it. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "helper/publish/files.h"
#include "helper/publish/trim.h"

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

#define NOW 2000000000
#define DIGITS "0123456789abcdfghijklmnpqrsvwxyz"

static struct {
	char top[32];
	int fd;
	struct trim *trim;
	const char *busy;
} b;

static int
is_busy(void *ctx, const char *item)
{
	assert_ptr_equal(ctx, &b);
	return b.busy != NULL && strcmp(item, b.busy) == 0;
}

static int
setup(void **state)
{
	(void)state;
	memset(&b, 0, sizeof b);
	strcpy(b.top, "/tmp/narlock-test.XXXXXX");
	return mkdtemp(b.top) == NULL || (b.fd = open(b.top, O_RDONLY | O_DIRECTORY)) < 0 ||
	    mkdirat(b.fd, "zstd", 0755) != 0 || mkdirat(b.fd, "lzip", 0755) != 0;
}

static int
remove_one(const char *path, const struct stat *st, int what, struct FTW *ftw)
{
	(void)st;
	(void)what;
	(void)ftw;
	return remove(path);
}

static int
teardown(void **state)
{
	(void)state;
	trim_free(b.trim);
	close(b.fd);
	return nftw(b.top, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* A file of SIZE bytes that was written and read so many seconds ago. */
static void
put(const char *path, off_t size, long written, long read)
{
	const struct timespec t[2] = { { .tv_sec = NOW - read }, { .tv_sec = NOW - written } };
	int fd = openat(b.fd, path, O_WRONLY | O_CREAT, 0644);

	assert_true(fd >= 0 && ftruncate(fd, size) == 0 && futimens(fd, t) == 0);
	close(fd);
}

/* An item of two nars of 1000 bytes each, the second of which was read so many seconds ago. */
static void
put_item(unsigned number, long read)
{
	char path[100];

	snprintf(path, sizeof path, "zstd/%.28s%04u-item.narinfo", DIGITS, number);
	put(path, 0, 90000, 90000);
	snprintf(path, sizeof path, "zstd/%.28s%04u-item.nar", DIGITS, number);
	put(path, 1000, 90000, 90000);
	snprintf(path, sizeof path, "lzip/%.28s%04u-item.nar", DIGITS, number);
	put(path, 1000, 90000, read);
}

static int
has(const char *path)
{
	return faccessat(b.fd, path, F_OK, 0) == 0;
}

/* 3: all of it is there; 0: nothing. */
static int
has_item(unsigned number)
{
	char path[100];
	int n = 0;

	snprintf(path, sizeof path, "zstd/%.28s%04u-item.narinfo", DIGITS, number);
	n += has(path);
	snprintf(path, sizeof path, "zstd/%.28s%04u-item.nar", DIGITS, number);
	n += has(path);
	snprintf(path, sizeof path, "lzip/%.28s%04u-item.nar", DIGITS, number);
	return n + has(path);
}

static void
begin(uint64_t limit)
{
	trim_free(b.trim);
	b.trim = trim_new(b.fd, limit, is_busy, &b);
	assert_non_null(b.trim);
}

static unsigned
run(time_t now)
{
	unsigned turns = 1;

	while (trim_turn(b.trim, now) != 0)
		assert_true(turns++ < 100000);
	return turns;
}

static void
test_oldest_go(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 10; i++)
		put_item(i, 1000 + (i * 7 % 10) * 1000);
	put("zstd/foreign", 1000000, 90000, 90000);
	put("zstd/.hidden", 1000000, 90000, 90000);
	begin(0);
	assert_int_equal(run(NOW), 1);
	assert_int_equal(trim_room(b.trim, 1 << 30, NOW), 1);
	begin(20000);
	run(NOW);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(has_item(i), 3);
	assert_int_equal(trim_room(b.trim, 0, NOW), 1);
	/* Smaller than what is there. */
	begin(14000);
	run(NOW);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(has_item(i), i * 7 % 10 < 7 ? 3 : 0);
	assert_true(has("zstd/foreign") && has("zstd/.hidden"));
	/* Room for somebody, and a bit more, so that he who comes next need not wait. */
	assert_int_equal(trim_room(b.trim, 2000, NOW), 0);
	run(NOW);
	assert_int_equal(trim_room(b.trim, 2000, NOW), 1);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(has_item(i), i * 7 % 10 < 5 ? 3 : 0);
	assert_int_equal(trim_room(b.trim, 13500, NOW), -1); /* never */
}

static void
test_used_stay(void **state)
{
	static const char *const fetched = "0123456789abcdfghijklmnpqrsv0003-item";

	(void)state;
	put_item(0, 10);      /* just read */
	put_item(1, -100000); /* by a clock that was wrong */
	put_item(2, 80000);
	put_item(3, 80000);
	b.busy = fetched;
	begin(1000);
	run(NOW);
	assert_int_equal(has_item(0), 3);
	assert_int_equal(has_item(1), 0);
	assert_int_equal(has_item(2), 0);
	assert_int_equal(has_item(3), 3);
	/* There is none for the next one, and no endless looking. */
	assert_int_equal(trim_room(b.trim, 900, NOW), -1);
	assert_int_equal(trim_turn(b.trim, NOW + TRIM_RETRY - 1), 0);
	b.busy = NULL;
	assert_int_equal(trim_room(b.trim, 900, NOW + TRIM_GRACE), 0);
	run(NOW + TRIM_GRACE);
	assert_int_equal(trim_room(b.trim, 900, NOW + TRIM_GRACE), 1);
	assert_int_equal(has_item(0) + has_item(3), 0);
}

static void
test_leftovers(void **state)
{
	(void)state;
	put("zstd/.0123456789abcdfghijklmnpqrsv0001-item.nar.part", 1000, 10, 10);
	put("zstd/.0123456789abcdfghijklmnpqrsv0002-item.nar.part", 1000, 1000, 1000);
	put("lzip/0123456789abcdfghijklmnpqrsv0003-item.nar", 1000, 5000, 5000); /* without a narinfo */
	put("lzip/0123456789abcdfghijklmnpqrsv0004-item.nar", 1000, 5000, 2000);
	put("lzip/0123456789abcdfghijklmnpqrsv0005-item.narinfo", 100, 90000, 90000); /* without nars */
	assert_int_equal(mkdirat(b.fd, "lzip/0123456789abcdfghijklmnpqrsv0006-item.nar", 0755), 0);
	assert_int_equal(symlinkat("/etc/passwd", b.fd, "lzip/0123456789abcdfghijklmnpqrsv0007-item.nar"), 0);
	begin(1500);
	run(NOW);
	assert_true(has("zstd/.0123456789abcdfghijklmnpqrsv0001-item.nar.part"));
	assert_false(has("zstd/.0123456789abcdfghijklmnpqrsv0002-item.nar.part"));
	assert_false(has("lzip/0123456789abcdfghijklmnpqrsv0003-item.nar"));
	assert_true(has("lzip/0123456789abcdfghijklmnpqrsv0004-item.nar"));
	assert_false(has("lzip/0123456789abcdfghijklmnpqrsv0005-item.narinfo"));
	/* What is no file is nobody's. */
	assert_true(has("lzip/0123456789abcdfghijklmnpqrsv0006-item.nar"));
}

/* More than one look finds: each turn is short, and they come to an end. */
static void
test_many(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 1500; i++)
		put_item(i, 10000 + i);
	begin(200000);
	assert_true(run(NOW) > 1400 / TRIM_REMOVED);
	for (unsigned i = 0; i < 1500; i++)
		assert_int_equal(has_item(i), i < 100 ? 3 : 0);
	/* Begun again at any moment, it comes to the same end. */
	begin(100000);
	for (unsigned i = 0; i < 5; i++)
		trim_turn(b.trim, NOW);
	begin(100000);
	run(NOW);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(has_item(i), i < 50 ? 3 : 0);
}

static void
test_marks(void **state)
{
	struct stat st;
	int fd;

	(void)state;
	put("zstd/x", 1, 100, 100); /* NOW is in the future: it counts as not known */
	fd = openat(b.fd, "zstd/x", O_RDONLY);
	assert_int_equal(fstat(fd, &st), 0);
	files_used(fd, &st);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_atim.tv_sec >= time(NULL) - 60 && st.st_atim.tv_sec <= time(NULL));
	assert_int_equal(st.st_mtim.tv_sec, NOW - 100);
	close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_short_write),
		cmocka_unit_test_setup_teardown(test_oldest_go, setup, teardown),
		cmocka_unit_test_setup_teardown(test_used_stay, setup, teardown),
		cmocka_unit_test_setup_teardown(test_leftovers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_marks, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
