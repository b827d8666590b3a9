/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: the narinfo cache: what comes back, how old, and that a damaged entry never does. */
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "broker/cache.h"
#include "broker/crypto.h"
#include "ipc/limits.h"

#define URL "https://u:secret@example.org/../x"
#define H1 "b3qkb91fr9y8idckwdv5bx831vmxmg8w"
#define H2 "ng9zwzj74dqasmng1n6mbh1l60h1saj5"
#define NOW 1800000000
#define DAY 86400

static char dir_name[64];
static int cache;
static struct err err;

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static int set_up(void **state)
{
	(void)state;
	strcpy(dir_name, "/tmp/narlock-cache-XXXXXX");
	if (!mkdtemp(dir_name))
		return -1;
	cache = open(dir_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return cache < 0;
}

static int tear_down(void **state)
{
	(void)state;
	close(cache);
	return nftw(dir_name, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void put(const char *url, const char *hash, time_t now, long ttl, const char *text,
    enum cache_kind kind)
{
	char copy[4096];
	struct cache_entry in = { .text = copy, .len = strlen(text), .kind = kind };

	strcpy(copy, text);
	memset(in.key_fpr, 0xab, 32);
	if (cache_put(cache, url, hash, now, ttl, &in) < 0)
		fail_msg("cannot write to the cache");
}

/* 'f'resh, 'e'xpired, or '-' when it is not there; the text must be the right one. */
static char look(const char *url, const char *hash, time_t now, const char *text, enum cache_kind kind)
{
	static const uint8_t zero[32];
	struct cache_entry out;
	uint8_t key[32];
	char verdict;

	if (cache_get(cache, url, hash, now, &out) < 0) {
		assert_null(out.text);
		return '-';
	}
	memset(key, 0xab, 32);
	assert_int_equal(out.len, strlen(text));
	assert_string_equal(out.text, text);
	assert_int_equal(out.kind, kind);
	assert_memory_equal(out.key_fpr, kind == CACHE_AUTHORISED ? key : zero, 32);
	verdict = out.fresh ? 'f' : 'e';
	free(out.text);
	return verdict;
}

static unsigned count_files(void)
{
	char command[128];
	unsigned n = 0;
	FILE *f;

	snprintf(command, sizeof command, "find %s -type f | grep -c -v last-cleanup", dir_name);
	f = popen(command, "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%u", &n), 1);
	pclose(f);
	return n;
}

static void keeps(void **state)
{
	char command[128];

	(void)state;
	assert_int_equal(look(URL, H1, NOW, "", CACHE_AUTHORISED), '-');
	put(URL, H1, NOW, 100, "one", CACHE_AUTHORISED);
	put(URL, H2, NOW, 100, "two", CACHE_EQUIVALENT);
	put(URL "/", H1, NOW, 100, "three", CACHE_AUTHORISED);
	assert_int_equal(look(URL, H1, NOW, "one", CACHE_AUTHORISED), 'f');
	assert_int_equal(look(URL, H2, NOW, "two", CACHE_EQUIVALENT), 'f');
	assert_int_equal(look(URL "/", H1, NOW, "three", CACHE_AUTHORISED), 'f');
	assert_int_equal(look("http://other", H1, NOW, "", CACHE_AUTHORISED), '-');
	put(URL, H1, NOW, 100, "four", CACHE_EQUIVALENT);
	assert_int_equal(look(URL, H1, NOW, "four", CACHE_EQUIVALENT), 'f');
	assert_int_equal(count_files(), 3);
	/* Neither password nor dots of the URL are in a name, and nobody else can read. */
	snprintf(command, sizeof command, "find %s | grep -q -e secret -e '\\.\\.'", dir_name);
	assert_int_not_equal(system(command), 0);
	snprintf(command, sizeof command, "test -z \"$(find %s -mindepth 1 -perm /077)\"", dir_name);
	assert_int_equal(system(command), 0);
}

static void ages(void **state)
{
	static const struct {
		long ttl, age;
		char verdict;
	} cases[] = {
		{ 100, 0, 'f' }, { 100, 99, 'f' }, { 100, 100, 'e' }, { 100, 400 * DAY, 'e' }, { 0, 0, 'e' },
		{ -1, CACHE_TTL_DEFAULT - 1, 'f' }, { -1, CACHE_TTL_DEFAULT, 'e' },
		{ 1000L * DAY, LIMIT_CACHE_TTL - 1, 'f' }, { 1000L * DAY, LIMIT_CACHE_TTL, 'e' },
		/* The clock was set back. */
		{ 100, -1, 'e' }, { 100, -1000 * DAY, 'e' },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		put(URL, H1, NOW, cases[i].ttl, "x", CACHE_AUTHORISED);
		assert_int_equal(look(URL, H1, NOW + cases[i].age, "x", CACHE_AUTHORISED), cases[i].verdict);
	}
}

static void entry_path(char *out, size_t size, const char *hash)
{
	char command[256];
	FILE *f;

	snprintf(command, sizeof command, "find %s -name '*%s'", dir_name, hash);
	f = popen(command, "r");
	assert_non_null(f);
	assert_non_null(fgets(out, (int)size, f));
	out[strcspn(out, "\n")] = '\0';
	pclose(f);
}

static void damage(void **state)
{
	char path[256], other[256], saved[256];
	struct stat st;
	int fd;

	(void)state;
	put(URL, H1, NOW, 100, "text", CACHE_AUTHORISED);
	entry_path(path, sizeof path, H1);
	assert_int_equal(stat(path, &st), 0);
	for (off_t i = 0; i < st.st_size; i++) {
		unsigned char c;

		put(URL, H1, NOW, 100, "text", CACHE_AUTHORISED);
		fd = open(path, O_RDWR | O_CLOEXEC);
		assert_int_equal(pread(fd, &c, 1, i), 1);
		c ^= 1;
		assert_int_equal(pwrite(fd, &c, 1, i), 1);
		close(fd);
		assert_int_equal(look(URL, H1, NOW, "", CACHE_AUTHORISED), '-');
		assert_int_not_equal(access(path, F_OK), 0);
		/* Cut there. */
		put(URL, H1, NOW, 100, "text", CACHE_AUTHORISED);
		assert_int_equal(truncate(path, i), 0);
		assert_int_equal(look(URL, H1, NOW, "", CACHE_AUTHORISED), '-');
	}
	/* Another server's entry under this name. */
	put(URL, H1, NOW, 100, "text", CACHE_AUTHORISED);
	snprintf(saved, sizeof saved, "%s/saved", dir_name);
	assert_int_equal(rename(path, saved), 0);
	put("http://other", H1, NOW, 100, "text", CACHE_AUTHORISED);
	entry_path(other, sizeof other, H1);
	assert_int_equal(rename(saved, other), 0);
	assert_int_equal(look("http://other", H1, NOW, "", CACHE_AUTHORISED), '-');
	/* Another's item under this name, a link, a pipe, a monster. */
	put(URL, H1, NOW, 100, "text", CACHE_AUTHORISED);
	strcpy(other, path);
	memcpy(other + strlen(other) - 32, H2, 32);
	assert_int_equal(rename(path, other), 0);
	assert_int_equal(look(URL, H2, NOW, "", CACHE_AUTHORISED), '-');
	put(URL, H2, NOW, 100, "text", CACHE_AUTHORISED);
	assert_int_equal(symlink(other, path), 0);
	assert_int_equal(look(URL, H1, NOW, "", CACHE_AUTHORISED), '-');
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(look(URL, H1, NOW, "", CACHE_AUTHORISED), '-');
	put(URL, H1, NOW, 100, "text", CACHE_AUTHORISED);
	assert_int_equal(truncate(path, 1L << 40), 0);
	assert_int_equal(look(URL, H1, NOW, "", CACHE_AUTHORISED), '-');
}

static void bounds(void **state)
{
	char *text = calloc(1, LIMIT_NARINFO + 1);
	struct cache_entry in = { .text = text, .len = LIMIT_NARINFO, .kind = CACHE_AUTHORISED }, out;

	(void)state;
	assert_non_null(text);
	assert_int_equal(cache_put(cache, URL, H1, NOW, 100, &in), 0);
	assert_int_equal(cache_get(cache, URL, H1, NOW, &out), 0);
	assert_int_equal(out.len, LIMIT_NARINFO);
	free(out.text);
	in.len++;
	assert_int_equal(cache_put(cache, URL, H2, NOW, 100, &in), -1);
	in.len = 0;
	assert_int_equal(cache_put(cache, URL, H2, NOW, 100, &in), -1);
	free(text);
}

static void cleaning(void **state)
{
	char temp[300];
	struct timespec old[2] = { { NOW, 0 }, { NOW, 0 } };
	int fd;

	(void)state;
	put(URL, H1, NOW, 100, "old", CACHE_AUTHORISED);
	put(URL, H2, NOW, 50 * DAY, "newer", CACHE_AUTHORISED);
	snprintf(temp, sizeof temp, "%s/.1.2", dir_name);
	fd = open(temp, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(futimens(fd, old), 0);
	close(fd);
	/* The first run finds nothing old enough; a second comes too soon. */
	assert_int_equal(cache_clean(cache, NOW + 29 * DAY), 0);
	assert_int_equal(cache_clean(cache, NOW + 31 * DAY), 0);
	assert_int_equal(count_files(), 3);
	assert_int_equal(cache_clean(cache, NOW + 34 * DAY), 2);
	assert_int_equal(look(URL, H1, NOW, "", CACHE_AUTHORISED), '-');
	assert_int_equal(look(URL, H2, NOW + 70 * DAY, "newer", CACHE_AUTHORISED), 'e');
	assert_int_equal(cache_clean(cache, NOW + 79 * DAY), 0);
	assert_int_equal(cache_clean(cache, NOW + 85 * DAY), 1);
	/* A stamp from the future does not stop the cleaning for ever. */
	put(URL, H1, NOW - 100 * DAY, 100, "old", CACHE_AUTHORISED);
	assert_int_equal(cache_clean(cache, NOW), 1);
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void many(void **state)
{
	char text[1501], hash[33];
	double start, stored, found;

	(void)state;
	memset(text, 'n', 1500);
	text[1500] = '\0';
	start = seconds();
	for (int i = 0; i < 2500; i++) {
		snprintf(hash, sizeof hash, "%032d", i);
		put(URL, hash, NOW, 100, text, CACHE_AUTHORISED);
	}
	stored = seconds();
	for (int i = 0; i < 2500; i++) {
		snprintf(hash, sizeof hash, "%032d", i);
		assert_int_equal(look(URL, hash, NOW, text, CACHE_AUTHORISED), 'f');
	}
	found = seconds();
	print_message("1000 stores %.1f ms, 1000 lookups %.1f ms\n", (stored - start) * 400,
	    (found - stored) * 400);
	/* Ten times the goal: a busy machine must not fail the test, a wrong algorithm must. */
	assert_true((stored - start) * 400 < 1000 && (found - stored) * 400 < 300);
	assert_int_equal(cache_clean(cache, NOW + 40 * DAY), LIMIT_CACHE_UNLINK);
	assert_int_equal(cache_clean(cache, NOW + 50 * DAY), 2500 - LIMIT_CACHE_UNLINK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(keeps, set_up, tear_down),
		cmocka_unit_test_setup_teardown(ages, set_up, tear_down),
		cmocka_unit_test_setup_teardown(damage, set_up, tear_down),
		cmocka_unit_test_setup_teardown(bounds, set_up, tear_down),
		cmocka_unit_test_setup_teardown(cleaning, set_up, tear_down),
		cmocka_unit_test_setup_teardown(many, set_up, tear_down),
	};

	if (crypto_init(&err) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
