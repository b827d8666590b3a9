/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: the journal of healing keeps what was written, loses the oldest, and believes nothing that is
 * damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper/fetch/journal.h"

#define NOW 1795339226

struct lab {
	char path[64];
	int fd;
};

static int
setup(void **state)
{
	struct lab *l = calloc(1, sizeof *l);
	struct err e;

	strcpy(l->path, "/tmp/narlock-journal.XXXXXX");
	close(mkstemp(l->path));
	l->fd = journal_open(l->path, &e);
	assert_true(l->fd >= 0);
	*state = l;
	return 0;
}

static int
teardown(void **state)
{
	struct lab *l = *state;

	close(l->fd);
	unlink(l->path);
	free(l);
	return 0;
}

/* Entry N, with one reference. */
static struct journal_entry
entry(unsigned n)
{
	struct journal_entry j;
	uint8_t ref[ERIS_REF];

	memset(&j, 0, sizeof j);
	j.cap[0] = 0x0f;
	j.cap[1] = 1;
	memcpy(j.cap + 2, &n, sizeof n);
	j.nar_size = 1000 + n;
	memset(ref, (int)n, sizeof ref);
	journal_ref(&j, ref);
	return j;
}

static unsigned
count(int fd)
{
	struct journal_entry j;
	unsigned n = 0;

	for (unsigned i = 0; i < JOURNAL_SLOTS; i++)
		n += journal_get(fd, i, &j) == 1;
	return n;
}

static int
find(int fd, unsigned n, struct journal_entry *j)
{
	struct journal_entry wanted = entry(n);

	for (unsigned i = 0; i < JOURNAL_SLOTS; i++)
		if (journal_get(fd, i, j) == 1 && memcmp(j->cap, wanted.cap, ERIS_CAP) == 0)
			return (int)i;
	return -1;
}

static void
kept(void **state)
{
	struct lab *l = *state;
	struct journal_entry j = entry(7), k;
	struct stat st;

	assert_int_equal(fstat(l->fd, &st), 0);
	assert_int_equal(st.st_size, JOURNAL_SIZE);
	assert_int_equal(count(l->fd), 0);
	assert_int_equal(journal_url(&j, "http://h/nar/a"), 0);
	assert_int_equal(journal_url(&j, "https://i:8080/nar/b?c"), 0);
	assert_int_equal(journal_put(l->fd, &j, NOW), 0);
	assert_int_equal(count(l->fd), 1);
	assert_int_equal(find(l->fd, 7, &k), 0);
	assert_int_equal(k.nar_size, 1007);
	assert_int_equal(k.made, NOW);
	assert_int_equal(k.attempts, 0);
	assert_int_equal(k.all, 0);
	assert_int_equal(k.nrefs, 1);
	assert_memory_equal(k.refs, j.refs, ERIS_REF);
	assert_int_equal(k.nurls, 2);
	assert_string_equal(k.urls, "http://h/nar/a");
	assert_string_equal(k.urls + 15, "https://i:8080/nar/b?c");
	assert_true(k.number == j.number);
	assert_int_equal(journal_drop(l->fd, &k), 1);
	assert_int_equal(count(l->fd), 0);
	assert_int_equal(journal_drop(l->fd, &k), 0);
}

/* Nothing with a secret in it, nothing that is no URL, no more than there is room for. */
static void
urls(void **state)
{
	struct journal_entry j = entry(1);
	char text[2100];

	(void)state;
	assert_int_equal(journal_url(&j, "http://user:password@h/a"), -1);
	assert_int_equal(journal_url(&j, "http://user@h/a"), -1);
	assert_int_equal(journal_url(&j, "file:///a"), -1);
	assert_int_equal(journal_url(&j, ""), -1);
	assert_int_equal(j.nurls, 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(journal_url(&j, "http://h/a"), 0);
	assert_int_equal(j.nurls, 1);
	memset(text, 'x', sizeof text);
	memcpy(text, "http://h/", 9);
	text[2000] = '\0';
	assert_int_equal(journal_url(&j, text), 0);
	text[0] = 'H';
	text[9] = 'y';
	assert_int_equal(journal_url(&j, text), -1);
	for (int i = 0; i < JOURNAL_URLS; i++) {
		snprintf(text, sizeof text, "http://h/%d", i);
		assert_int_equal(journal_url(&j, text), i < JOURNAL_URLS - 2 ? 0 : -1);
	}
}

/* Too many references make it an entry of all blocks, whatever comes first. */
static void
too_many(void **state)
{
	struct lab *l = *state;
	struct journal_entry j = entry(1), k;
	uint8_t ref[ERIS_REF] = { 0 };
	char text[1000];

	for (unsigned i = 0; i < JOURNAL_REFS; i++) {
		assert_int_equal(j.all, 0);
		assert_int_equal(j.nrefs, i + 1);
		if (i + 1 == JOURNAL_REFS)
			break;
		memcpy(ref, &i, sizeof i);
		ref[31] = 1;
		journal_ref(&j, ref);
	}
	k = j;
	assert_int_equal(journal_put(l->fd, &k, NOW), 0);
	assert_int_equal(find(l->fd, 1, &k), 0);
	assert_int_equal(k.nrefs, JOURNAL_REFS);
	memset(text, 'x', sizeof text);
	memcpy(text, "http://h/", 9);
	text[999] = '\0';
	k = j;
	assert_int_equal(journal_url(&k, text), 0);
	assert_int_equal(k.all, 1);
	k = j;
	journal_ref(&k, ref); /* is there already */
	assert_int_equal(k.all, 0);
	ref[30] = 1;
	journal_ref(&k, ref);
	assert_int_equal(k.all, 1);
	assert_int_equal(k.nrefs, 0);
	assert_int_equal(journal_put(l->fd, &k, NOW), 0);
	assert_int_equal(count(l->fd), 1);
	assert_int_equal(find(l->fd, 1, &k), 0);
	assert_int_equal(k.all, 1);
	assert_int_equal(k.nrefs, 0);
}

static void
merged(void **state)
{
	struct lab *l = *state;
	struct journal_entry j = entry(3), k;
	uint8_t ref[ERIS_REF] = { 9 };

	assert_int_equal(journal_url(&j, "http://h/a"), 0);
	j.attempts = 5;
	j.not_before = NOW + 100;
	assert_int_equal(journal_put(l->fd, &j, NOW), 0);
	k = entry(4);
	assert_int_equal(journal_put(l->fd, &k, NOW), 0);
	k = entry(3);
	journal_ref(&k, ref);
	assert_int_equal(journal_url(&k, "http://h/b"), 0);
	assert_int_equal(journal_put(l->fd, &k, NOW + 50), 0);
	assert_int_equal(count(l->fd), 2);
	assert_int_equal(find(l->fd, 3, &k), 0);
	assert_int_equal(k.nrefs, 2);
	assert_int_equal(k.nurls, 2);
	assert_int_equal(k.made, NOW);
	assert_int_equal(k.attempts, 0);
	/* Who worked on the old one may not take the new one away. */
	assert_int_equal(journal_drop(l->fd, &j), 0);
	assert_int_equal(journal_change(l->fd, &j), 0);
	assert_int_equal(count(l->fd), 2);
	k.attempts = 2;
	k.not_before = NOW + 7;
	assert_int_equal(journal_change(l->fd, &k), 1);
	assert_int_equal(find(l->fd, 3, &j), 0);
	assert_int_equal(j.attempts, 2);
	assert_int_equal(j.not_before, NOW + 7);
	assert_true(j.number == k.number);
}

static void
oldest_goes(void **state)
{
	struct lab *l = *state;
	struct journal_entry j;

	for (unsigned i = 0; i < JOURNAL_SLOTS; i++) {
		j = entry(i);
		assert_int_equal(journal_put(l->fd, &j, NOW + (i == 100 ? -5 : (int)i)), 0);
	}
	assert_int_equal(count(l->fd), JOURNAL_SLOTS);
	j = entry(5000);
	assert_int_equal(journal_put(l->fd, &j, NOW + 999), 0);
	assert_int_equal(count(l->fd), JOURNAL_SLOTS);
	assert_int_equal(find(l->fd, 100, &j), -1);
	assert_int_equal(find(l->fd, 5000, &j), 100);
	j = entry(5001);
	assert_int_equal(journal_put(l->fd, &j, NOW + 999), 0);
	assert_int_equal(find(l->fd, 0, &j), -1);
	assert_true(find(l->fd, 1, &j) >= 0);
}

/* Any byte that changes, and a record that is torn. */
static void
damaged(void **state)
{
	struct lab *l = *state;
	struct journal_entry j = entry(1);
	uint8_t bytes[JOURNAL_SLOT], bad;

	assert_int_equal(journal_url(&j, "http://h/nar/a"), 0);
	assert_int_equal(journal_put(l->fd, &j, NOW), 0);
	assert_int_equal(pread(l->fd, bytes, sizeof bytes, 0), sizeof bytes);
	for (off_t i = 0; i < JOURNAL_SLOT; i += i < 200 ? 1 : 97) {
		bad = bytes[i] ^ 1;
		assert_int_equal(pwrite(l->fd, &bad, 1, i), 1);
		assert_int_equal(journal_get(l->fd, 0, &j), 0);
		assert_int_equal(pwrite(l->fd, &bytes[i], 1, i), 1);
	}
	assert_int_equal(journal_get(l->fd, 0, &j), 1);
	j = entry(2);
	assert_int_equal(journal_put(l->fd, &j, NOW), 0);
	assert_int_equal(pwrite(l->fd, bytes, 64, JOURNAL_SLOT), 64); /* a part of the first one */
	assert_int_equal(count(l->fd), 1);
	/* What is damaged is free. */
	j = entry(3);
	assert_int_equal(journal_put(l->fd, &j, NOW), 0);
	assert_int_equal(find(l->fd, 3, &j), 1);
}

/* The checksum is right, and what is in it is not. */
static void
forged(void **state)
{
	struct journal_entry j = entry(1), k, bad;
	uint8_t bytes[JOURNAL_SLOT];

	(void)state;
	assert_int_equal(journal_url(&j, "http://h/a"), 0);
	journal_write(bytes, &j);
	assert_int_equal(journal_read(bytes, &k), 1);
#define REFUSED(change) do { bad = j; change; journal_write(bytes, &bad); \
	assert_int_equal(journal_read(bytes, &k), 0); } while (0)
	REFUSED(bad.cap[0] = 1);
	REFUSED(bad.cap[1] = 200);
	REFUSED(bad.nrefs = 0);
	REFUSED(bad.nurls = 2);
	REFUSED(bad.nurls = 0);
	REFUSED(bad.url_bytes--);
	REFUSED(bad.url_bytes++);
	REFUSED(bad.urls[0] = '/');
	REFUSED(memcpy(bad.urls, "http://a@", 9));
	REFUSED(bad.nar_size = UINT64_MAX);
	REFUSED(bad.made = -1);
	REFUSED(bad.not_before = -1);
#undef REFUSED
}

static void
no_file(void **state)
{
	struct lab *l = *state;
	struct journal_entry j = entry(1);
	char link[80];
	struct err e;

	assert_int_equal(journal_put(-1, &j, NOW), -1);
	assert_int_equal(journal_get(-1, 0, &j), -1);
	assert_int_equal(journal_get(l->fd, JOURNAL_SLOTS, &j), -1);
	assert_int_equal(journal_drop(-1, &j), -1);
	assert_int_equal(journal_change(-1, &j), -1);
	j.nrefs = 0;
	assert_int_equal(journal_put(l->fd, &j, NOW), -1);
	assert_int_equal(journal_open("/tmp", &e), -1);
	assert_int_equal(journal_open("/nonexistent/a", &e), -1);
	snprintf(link, sizeof link, "%s.link", l->path);
	assert_int_equal(symlink(l->path, link), 0);
	assert_int_equal(journal_open(link, &e), -1);
	unlink(link);
}

/* A file that cannot grow, or is open for reading only: no entry, no harm. */
static void
full_disk(void **state)
{
	struct lab *l = *state;
	struct journal_entry j = entry(1);
	int fd = open(l->path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(journal_put(fd, &j, NOW), -1);
	close(fd);
	assert_int_equal(ftruncate(l->fd, JOURNAL_SLOT / 2), 0);
	assert_int_equal(count(l->fd), 0);
	assert_int_equal(journal_put(l->fd, &j, NOW), 0);
	assert_int_equal(count(l->fd), 1);
}

/* Several processes at once lose nothing; one that sleeps with the lock holds up nobody for long. */
static void
together(void **state)
{
	struct lab *l = *state;
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct journal_entry j;
	int status, fd;
	struct err e;

	for (unsigned p = 0; p < 4; p++) {
		if (fork() == 0) {
			fd = journal_open(l->path, &e);
			for (unsigned i = 0; i < 20; i++) {
				j = entry(1000 * (p + 1) + i);
				if (journal_put(fd, &j, NOW) != 0)
					_exit(1);
			}
			_exit(0);
		}
	}
	for (int p = 0; p < 4; p++) {
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	assert_int_equal(count(l->fd), 80);
	fd = journal_open(l->path, &e);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	j = entry(1);
	assert_int_equal(journal_put(l->fd, &j, NOW), 0);
	assert_int_equal(count(l->fd), 81);
	close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(kept, setup, teardown),
		cmocka_unit_test(urls),
		cmocka_unit_test_setup_teardown(too_many, setup, teardown),
		cmocka_unit_test_setup_teardown(merged, setup, teardown),
		cmocka_unit_test_setup_teardown(oldest_goes, setup, teardown),
		cmocka_unit_test_setup_teardown(damaged, setup, teardown),
		cmocka_unit_test(forged),
		cmocka_unit_test_setup_teardown(no_file, setup, teardown),
		cmocka_unit_test_setup_teardown(full_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(together, setup, teardown),
	};

	return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
