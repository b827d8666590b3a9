/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: files are read whole, bounded and without waiting; directories of ours are ours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "broker/file.h"
#include "tests/unit/child.h"

static char dir[64];
static int at;
static struct err e;

static int set_up(void **state)
{
	(void)state;
	if (make_scratch(dir) == NULL)
		return -1;
	at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return at < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		(void)unlinkat(at, i ? "link" : "file", 0);
		(void)unlinkat(at, "sub", AT_REMOVEDIR);
	}
	close(at);
	return rmdir(dir);
}

static void make_file(size_t size)
{
	int fd = openat(at, "file", O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
	char *text = malloc(size + 1);

	assert_true(fd >= 0 && text != NULL);
	memset(text, 'x', size);
	assert_int_equal(file_write_all(fd, text, size), 0);
	free(text);
	close(fd);
}

static void sizes_around_the_limit(void **state)
{
	static const size_t limit = 5000;

	(void)state;
	for (size_t size = 0; size < limit + 3; size += size < limit - 3 ? limit - 3 : 1) {
		size_t len = 77;
		char *text;

		make_file(size);
		text = file_read(at, "file", limit, FILE_ANY, &len, &e);
		assert_int_equal(text != NULL, size <= limit);
		if (text != NULL) {
			assert_int_equal(len, size);
			assert_int_equal(strlen(text), size);
		}
		free(text);
	}
}

static void what_is_no_file_is_not_read(void **state)
{
	(void)state;
	e.code = 0;
	assert_null(file_read(at, "file", 10, FILE_ANY, NULL, &e));
	assert_int_equal(e.code, ENOENT);
	assert_null(file_read(at, ".", 10, FILE_ANY, NULL, &e));
	assert_null(file_read(AT_FDCWD, "/dev/zero", 10, FILE_ANY, NULL, &e));
	assert_int_equal(mkfifoat(at, "file", 0600), 0);
	alarm(10); /* a pipe without a writer must not be waited for */
	assert_null(file_read(at, "file", 10, FILE_ANY, NULL, &e));
	alarm(0);
	assert_null(file_read(at, "file", 10, FILE_ANY, NULL, NULL));
}

static void files_without_a_size(void **state)
{
	char *text = file_read(AT_FDCWD, "/proc/self/status", 16384, FILE_ANY, NULL, &e);

	(void)state;
	assert_non_null(text);
	assert_non_null(strstr(text, "\nUid:"));
	free(text);
	assert_null(file_read(AT_FDCWD, "/proc/self/status", 20, FILE_ANY, NULL, &e));
}

static int is_trusted(void)
{
	char *text = file_read(at, "file", 10, FILE_TRUSTED, NULL, &e);

	free(text);
	return text != NULL;
}

static void a_trusted_file_is_written_by_nobody_else(void **state)
{
	int can_read_all = geteuid() == 0;

	(void)state;
	assert_false(is_trusted());
	make_file(1);
	assert_true(is_trusted());
	for (unsigned mode = can_read_all ? 0 : 0400; mode < 0777; mode++) {
		assert_int_equal(fchmodat(at, "file", mode, 0), 0);
		assert_int_equal(is_trusted(), (mode & 022) == 0);
	}
	if (geteuid() != 0)
		return;
	assert_int_equal(fchmodat(at, "file", 0644, 0), 0);
	assert_int_equal(fchownat(at, "file", 65534, 0, 0), 0);
	assert_false(is_trusted());
	assert_non_null(strstr(e.text, "belongs to uid 65534"));
}

static void a_directory_of_ours(void **state)
{
	struct stat st;
	int fd;

	(void)state;
	fd = file_subdir(at, "sub", 0700, &e);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	close(fd);
	fd = file_subdir(at, "sub", 0700, &e); /* again: it is there */
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(fchmodat(at, "sub", 0770, 0), 0);
	assert_int_equal(file_subdir(at, "sub", 0700, &e), -1);
	assert_int_equal(fchmodat(at, "sub", 0702, 0), 0);
	assert_int_equal(file_subdir(at, "sub", 0700, &e), -1);
	assert_int_equal(fchmodat(at, "sub", 0700, 0), 0);
	assert_int_equal(symlinkat("sub", at, "link"), 0);
	assert_int_equal(file_subdir(at, "link", 0700, &e), -1);
	make_file(1);
	assert_int_equal(file_subdir(at, "file", 0700, &e), -1);
	assert_int_equal(file_subdir(at, "no/such", 0700, &e), -1);
	if (geteuid() == 0) {
		assert_int_equal(fchownat(at, "sub", 65534, 65534, 0), 0);
		assert_int_equal(file_subdir(at, "sub", 0700, &e), -1);
	}
}

static void everything_is_written_or_it_fails(void **state)
{
	char buffer[200000], got[200000];
	size_t have = 0;
	int fds[2];
	pid_t pid;

	(void)state;
	memset(buffer, 'q', sizeof buffer);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	if ((pid = fork()) == 0)
		_exit(file_write_all(fds[1], buffer, sizeof buffer) == 0 ? 0 : 1); /* more than a pipe takes at once */
	close(fds[1]);
	for (ssize_t n; (n = read(fds[0], got + have, sizeof got - have)) > 0;)
		have += (size_t)n;
	assert_int_equal(have, sizeof buffer);
	assert_memory_equal(got, buffer, sizeof buffer);
	assert_int_equal(waitpid(pid, &fds[1], 0), pid);
	assert_int_equal(fds[1], 0);
	assert_int_equal(file_write_all(fds[0], "x", 1), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(file_write_all(-1, "", 0), 0);
	close(fds[0]);
}

int main(void)
{
#define IN_DIR(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		IN_DIR(sizes_around_the_limit),
		IN_DIR(what_is_no_file_is_not_read),
		cmocka_unit_test(files_without_a_size),
		IN_DIR(a_trusted_file_is_written_by_nobody_else),
		IN_DIR(a_directory_of_ours),
		cmocka_unit_test(everything_is_written_or_it_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
