/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: the records that bind what `info' told to what is installed. */
#include <dirent.h>
#include <errno.h>
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

/* The name of the one entry of PLACE, or "". */
static void only_in(const char *place, char *out, size_t size)
{
	DIR *d = opendir(place);
	struct dirent *e;
	int n = 0;

	*out = '\0';
	assert_non_null(d);
	while ((e = readdir(d)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			snprintf(out, size, "%s/%s", place, e->d_name), n++;
	closedir(d);
	assert_true(n <= 1);
}

/* The name of the one link of the one process that is there, or "". */
static void only_file(char *out, size_t size)
{
	char process[256];

	only_in(dir_name, process, sizeof process);
	only_in(process, out, size);
}

static int tear_down(void **state)
{
	char command[128];

	(void)state;
	close(dir);
	snprintf(command, sizeof command, "rm -rf %s", dir_name);
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
	struct narinfo ni;
	char text[512];

	make(&ni, text, i, hash, size, refs);
	return record_check(rec, &ni, &err);
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
	only_file(file, sizeof file); /* and nothing is left of the one before */
	assert_int_equal(lstat(file, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	add(&query, 1, 'a', 10, REF1);
	assert_int_equal(check(&substitute, 1, 'a', 10, REF1), RECORD_SAME);
	close(query.dir);
	close(other_query.dir);
	close(substitute.dir);
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
	close(mine.dir);
	close(theirs.dir);
}

static void unknown_parent(void **state)
{
	struct record rec;
	struct narinfo ni;
	char text[512];

	(void)state;
	/* Nobody has this pid. */
	assert_int_equal(record_open(&rec, dir, 0x7ffffff0, &err), -1);
	make(&ni, text, 1, 'a', 10, "");
	assert_int_equal(record_check(&rec, &ni, &err), RECORD_OTHER);
	assert_non_null(strstr(err.text, "unknown"));
	assert_int_equal(record_add(&rec, &ni, &err), -1);
	close(rec.dir);
}

/* Whatever stands in the place of a record, it is not what was told. */
static void odd_records(void **state)
{
	static const char *const odd[] = { "x", "/etc/passwd" };
	struct record rec;
	struct narinfo ni;
	char file[600], command[700], text[512], right[64] = "", longer[66];
	ssize_t n;

	(void)state;
	start(&rec, getpid());
	add(&rec, 1, 'a', 10, "");
	only_file(file, sizeof file);
	assert_int_equal(n = readlink(file, right, sizeof right), 52);
	for (size_t i = 0; i < 4; i++) {
		snprintf(longer, sizeof longer, i == 2 ? "%sx" : "%.51s", right);
		assert_int_equal(unlink(file), 0);
		assert_int_equal(symlink(i < 2 ? odd[i] : longer, file), 0);
		assert_int_equal(check(&rec, 1, 'a', 10, ""), RECORD_OTHER);
		add(&rec, 1, 'a', 10, "");
		assert_int_equal(check(&rec, 1, 'a', 10, ""), RECORD_SAME);
	}
	/* No link at all: nothing is known, and nothing may be installed. */
	assert_int_equal(unlink(file), 0);
	assert_int_equal(mkdir(file, 0700), 0);
	make(&ni, text, 1, 'a', 10, "");
	assert_int_equal(record_check(&rec, &ni, &err), RECORD_OTHER);
	assert_non_null(strstr(err.text, "cannot read"));
	assert_int_equal(record_add(&rec, &ni, &err), -1);
	assert_int_equal(rmdir(file), 0);
	/* A directory that is gone. */
	*strrchr(file, '/') = '\0';
	snprintf(command, sizeof command, "rm -r %s", file);
	assert_int_equal(system(command), 0);
	assert_int_equal(record_add(&rec, &ni, &err), -1);
	assert_non_null(strstr(err.text, "cannot record"));
	close(rec.dir);
}

/* Many change their mind about one path: it is one of the two at any time. */
static void one_path_by_many(void **state)
{
	struct record rec;
	int status;

	(void)state;
	start(&rec, getpid());
	add(&rec, 1, 'a', 10, "");
	for (int w = 0; w < 3; w++)
		if (fork() == 0) {
			struct record mine;

			start(&mine, getppid());
			for (int i = 0; i < 300; i++)
				add(&mine, 1, i % 2 ? 'a' : 'b', 10, "");
			_exit(0);
		}
	for (int i = 0; i < 300; i++)
		assert_int_not_equal(check(&rec, 1, 'a', 10, ""), RECORD_NONE);
	for (int w = 0; w < 3; w++) {
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	close(rec.dir);
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
	close(rec.dir);
}

static void touch(const char *name, time_t age)
{
	struct timespec times[2] = { { time(NULL) - age, 0 }, { time(NULL) - age, 0 } };
	int fd;

	(void)mkdirat(dir, name, 0700);
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_true(symlinkat("x", fd, "y") == 0 || errno == EEXIST);
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
	char gone[128], restarted[128], recent[128], mine[128], place[256];

	(void)state;
	start(&rec, getpid());
	add(&rec, 1, 'a', 10, "");
	only_in(dir_name, place, sizeof place);
	strcpy(mine, strrchr(place, '/') + 1);
	close(rec.dir);
	snprintf(gone, sizeof gone, "%d-%d", 0x7ffffff0, 77);
	snprintf(recent, sizeof recent, "%d-%d", 0x7ffffff0, 78);
	snprintf(restarted, sizeof restarted, "%d-%d", (int)getpid(), 77);
	touch(mine, 2 * 86400);
	touch(gone, 3700);
	touch(restarted, 3700);
	touch(recent, 3500);
	touch("README", 9 * 86400);
	start(&rec, getppid());
	close(rec.dir);
	assert_true(there(mine));
	assert_false(there(gone));
	assert_false(there(restarted));
	assert_true(there(recent));
	assert_true(there("README"));
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); /* what else runs on the machine does not count */
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
	close(query.dir);
	close(substitute.dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(binds, set_up, tear_down),
		cmocka_unit_test_setup_teardown(parents, set_up, tear_down),
		cmocka_unit_test_setup_teardown(unknown_parent, set_up, tear_down),
		cmocka_unit_test_setup_teardown(odd_records, set_up, tear_down),
		cmocka_unit_test_setup_teardown(one_path_by_many, set_up, tear_down),
		cmocka_unit_test_setup_teardown(writers_at_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(stale_files, set_up, tear_down),
		cmocka_unit_test_setup_teardown(many, set_up, tear_down),
	};

	if (crypto_init(&err) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
