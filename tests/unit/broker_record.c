/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: the records that bind what `info' told to what is installed. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "broker/crypto.h"
#include "broker/record.h"

#define REF1 "ng9zwzj74dqasmng1n6mbh1l60h1saj5-with-refs"
#define REF2 "dqsjzl46ccjglf13cnnbpqdrawq2wxvq-a-small"

static char dir_name[64];
static int dir;
static struct err err;

static int set_up(void **state)
{
	(void)state;
	strcpy(dir_name, "/tmp/narlock-record-XXXXXX");
	if (!mkdtemp(dir_name))
		return -1;
	dir = open(dir_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0;
}

/* The name of the one file that is there, or "". */
static void only_file(char *out, size_t size)
{
	DIR *d = opendir(dir_name);
	struct dirent *e;
	int n = 0;

	*out = '\0';
	assert_non_null(d);
	while ((e = readdir(d)) != NULL)
		if (e->d_name[0] != '.')
			snprintf(out, size, "%s/%s", dir_name, e->d_name), n++;
	closedir(d);
	assert_true(n <= 1);
}

static int tear_down(void **state)
{
	char command[128];

	(void)state;
	close(dir);
	snprintf(command, sizeof command, "rm -r %s", dir_name);
	return system(command);
}

/* Item I with this nar hash character, size and references. */
static void make(struct narinfo *ni, char *text, int i, char hash, int size, const char *refs)
{
	int n = sprintf(text, "StorePath: /gnu/store/%032d-item\nNarHash: sha256:", i);

	n += sprintf(text + n, "0%051d", 0);
	text[n - 1] = hash;
	n += sprintf(text + n, "\nNarSize: %d\nReferences: %s\n", size, refs);
	if (narinfo_parse(ni, text, (size_t)n, "/gnu/store", &err) < 0)
		fail_msg("%s", err.text);
}

static void start(struct record *rec, pid_t parent)
{
	if (record_open(rec, dir, parent, &err) < 0)
		fail_msg("%s", err.text);
}

static void add(struct record *rec, int i, char hash, int size, const char *refs)
{
	struct narinfo ni;
	char text[512];

	make(&ni, text, i, hash, size, refs);
	if (record_add(rec, &ni, &err) < 0)
		fail_msg("%s", err.text);
}

static enum record_verdict check(struct record *rec, int i, char hash, int size, const char *refs)
{
	enum record_verdict verdict;
	struct narinfo ni;
	char text[512];

	make(&ni, text, i, hash, size, refs);
	if (record_check(rec, &ni, &verdict, &err) < 0)
		fail_msg("%s", err.text);
	return verdict;
}

static void binds(void **state)
{
	struct record query, other_query, substitute;
	char file[512];
	struct stat st;

	(void)state;
	start(&query, getpid());
	start(&substitute, getpid());
	assert_int_equal(check(&substitute, 1, 'a', 10, REF1), RECORD_NONE);
	only_file(file, sizeof file);
	assert_string_equal(file, "");
	add(&query, 1, 'a', 10, REF1 " " REF2);
	assert_int_equal(check(&substitute, 1, 'a', 10, REF1 " " REF2), RECORD_SAME);
	assert_int_equal(check(&substitute, 1, 'a', 10, REF2 " " REF1), RECORD_SAME);
	assert_int_equal(check(&substitute, 1, 'a', 10, REF1), RECORD_OTHER);
	assert_int_equal(check(&substitute, 1, 'a', 10, ""), RECORD_OTHER);
	assert_int_equal(check(&substitute, 1, 'b', 10, REF1 " " REF2), RECORD_OTHER);
	assert_int_equal(check(&substitute, 1, 'a', 11, REF1 " " REF2), RECORD_OTHER);
	assert_int_equal(check(&substitute, 2, 'a', 10, REF1 " " REF2), RECORD_NONE);
	/* The last one counts, whoever wrote it. */
	start(&other_query, getpid());
	add(&other_query, 1, 'b', 20, "");
	assert_int_equal(check(&substitute, 1, 'a', 10, REF1 " " REF2), RECORD_OTHER);
	assert_int_equal(check(&substitute, 1, 'b', 20, ""), RECORD_SAME);
	add(&query, 1, 'a', 10, REF1);
	assert_int_equal(check(&substitute, 1, 'a', 10, REF1), RECORD_SAME);
	/* The same again is not written again. */
	only_file(file, sizeof file);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	add(&query, 1, 'a', 10, REF1);
	add(&other_query, 1, 'a', 10, REF1);
	only_file(file, sizeof file);
	{
		off_t before = st.st_size;

		assert_int_equal(stat(file, &st), 0);
		assert_int_equal(st.st_size, before);
	}
	record_close(&query);
	record_close(&other_query);
	record_close(&substitute);
}

static void parents(void **state)
{
	struct record mine, theirs;

	(void)state;
	start(&mine, getpid());
	start(&theirs, getppid());
	add(&mine, 1, 'a', 10, "");
	assert_int_equal(check(&theirs, 1, 'a', 10, ""), RECORD_NONE);
	add(&theirs, 1, 'b', 10, "");
	assert_int_equal(check(&mine, 1, 'a', 10, ""), RECORD_SAME);
	assert_int_equal(check(&theirs, 1, 'a', 10, ""), RECORD_OTHER);
	record_close(&mine);
	record_close(&theirs);
}

static void unknown_parent(void **state)
{
	enum record_verdict verdict;
	struct record rec;
	struct narinfo ni;
	char text[512];

	(void)state;
	/* Nobody has this pid. */
	assert_int_equal(record_open(&rec, dir, 0x7ffffff0, &err), -1);
	make(&ni, text, 1, 'a', 10, "");
	assert_int_equal(record_check(&rec, &ni, &verdict, &err), -1);
	assert_non_null(strstr(err.text, "unknown"));
	assert_int_equal(record_add(&rec, &ni, &err), -1);
	record_close(&rec);
}

static void torn_lines(void **state)
{
	struct record query, substitute;
	char file[512], line[2048], junk[40000];
	struct stat st;
	ssize_t n;
	int fd;

	(void)state;
	start(&query, getpid());
	add(&query, 1, 'a', 10, "");
	only_file(file, sizeof file);
	fd = open(file, O_RDWR | O_APPEND | O_CLOEXEC);
	n = pread(fd, line, sizeof line, 0);
	assert_true(n > 100 && line[0] == '\n' && line[n - 1] == '\n');
	assert_int_equal(ftruncate(fd, 0), 0);
	record_close(&query);
	/* Any part of a line, then a whole record: the part says nothing and harms nothing. */
	for (ssize_t cut = 1; cut < n - 1; cut++) {
		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(write(fd, line, (size_t)cut), cut);
		start(&query, getpid());
		start(&substitute, getpid());
		assert_int_equal(check(&substitute, 1, 'a', 10, ""), RECORD_NONE);
		add(&query, 2, 'b', 20, "");
		assert_int_equal(check(&substitute, 2, 'b', 20, ""), RECORD_SAME);
		assert_int_equal(check(&substitute, 1, 'a', 10, ""), RECORD_NONE);
		record_close(&query);
		record_close(&substitute);
	}
	/* A changed byte anywhere makes it no record. */
	for (ssize_t i = 1; i < n - 1; i++) {
		line[i] ^= 1;
		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(write(fd, line, (size_t)n), n);
		line[i] ^= 1;
		start(&substitute, getpid());
		assert_int_equal(check(&substitute, 1, 'a', 10, ""), RECORD_NONE);
		record_close(&substitute);
	}
	/* Much junk without a newline, then a record. */
	memset(junk, 'j', sizeof junk);
	assert_int_equal(write(fd, junk, sizeof junk), sizeof junk);
	assert_int_equal(write(fd, line, (size_t)n), n);
	start(&substitute, getpid());
	assert_int_equal(check(&substitute, 1, 'a', 10, ""), RECORD_SAME);
	record_close(&substitute);
	/* More than any client makes. */
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(ftruncate(fd, LIMIT_RECORD_FILE + 100000), 0);
	{
		enum record_verdict verdict;
		struct narinfo ni;
		char text[512];

		start(&substitute, getpid());
		make(&ni, text, 1, 'a', 10, "");
		assert_int_equal(record_check(&substitute, &ni, &verdict, &err), -1);
		assert_non_null(strstr(err.text, "exceed"));
		record_close(&substitute);
	}
	close(fd);
}

static void writers_at_once(void **state)
{
	struct record rec;
	int status;

	(void)state;
	for (int w = 0; w < 4; w++)
		if (fork() == 0) {
			start(&rec, getppid());
			for (int i = 0; i < 500; i++)
				add(&rec, i * 4 + w, 'a', i + 1, REF1);
			_exit(0);
		}
	for (int w = 0; w < 4; w++) {
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	start(&rec, getpid());
	for (int i = 0; i < 2000; i++)
		assert_int_equal(check(&rec, i, 'a', i / 4 + 1, REF1), RECORD_SAME);
	record_close(&rec);
}

static void touch(const char *name, time_t age)
{
	struct timespec times[2] = { { time(NULL) - age, 0 }, { time(NULL) - age, 0 } };
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(futimens(fd, times), 0);
	close(fd);
}

static int there(const char *name)
{
	return faccessat(dir, name, F_OK, 0) == 0;
}

static void stale_files(void **state)
{
	struct record rec;
	char gone[128], restarted[128], recent[128], mine[128];

	(void)state;
	start(&rec, getpid());
	add(&rec, 1, 'a', 10, "");
	strcpy(mine, rec.name);
	record_close(&rec);
	snprintf(gone, sizeof gone, "%d-%d", 0x7ffffff0, 77);
	snprintf(recent, sizeof recent, "%d-%d", 0x7ffffff0, 78);
	snprintf(restarted, sizeof restarted, "%d-%d", (int)getpid(), 77);
	touch(mine, 2 * 86400);
	touch(gone, 3700);
	touch(restarted, 3700);
	touch(recent, 3500);
	touch("README", 9 * 86400);
	start(&rec, getppid());
	record_close(&rec);
	assert_true(there(mine));
	assert_false(there(gone));
	assert_false(there(restarted));
	assert_true(there(recent));
	assert_true(there("README"));
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void many(void **state)
{
	struct record query, substitute;
	double begin, added, found;

	(void)state;
	start(&query, getpid());
	start(&substitute, getpid());
	begin = seconds();
	for (int i = 0; i < 10000; i++)
		add(&query, i, 'a', i + 1, REF1);
	added = seconds();
	for (int i = 0; i < 10000; i++)
		assert_int_equal(check(&substitute, i, 'a', i + 1, REF1), RECORD_SAME);
	found = seconds();
	print_message("10000 records: added in %.1f ms, found in %.1f ms\n", (added - begin) * 1e3,
	    (found - added) * 1e3);
	assert_true(added - begin < 2 && found - added < 1);
	record_close(&query);
	record_close(&substitute);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(binds, set_up, tear_down),
		cmocka_unit_test_setup_teardown(parents, set_up, tear_down),
		cmocka_unit_test_setup_teardown(unknown_parent, set_up, tear_down),
		cmocka_unit_test_setup_teardown(torn_lines, set_up, tear_down),
		cmocka_unit_test_setup_teardown(writers_at_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(stale_files, set_up, tear_down),
		cmocka_unit_test_setup_teardown(many, set_up, tear_down),
	};

	if (crypto_init(&err) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
