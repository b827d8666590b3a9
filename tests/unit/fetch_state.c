/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: the state file remembers, forgets in time, and believes no damaged record. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "helper/fetch/siphash.h"
#include "helper/fetch/state.h"

#define A "0123456789abcdfghijklmnpqrsvwxyz"
#define B "1123456789abcdfghijklmnpqrsvwxyz"
#define NOW 1795339226

struct lab {
	char path[64];
	int fd;
	struct url u, v;
};

static int
setup(void **state)
{
	struct lab *l = calloc(1, sizeof *l);
	struct err e;

	strcpy(l->path, "/tmp/narlock-state.XXXXXX");
	close(mkstemp(l->path));
	l->fd = state_open(l->path, &e);
	assert_true(l->fd >= 0);
	assert_int_equal(url_parse(&l->u, "http://h/a", &e), 0);
	assert_int_equal(url_parse(&l->v, "http://h/b", &e), 0);
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

/* The first 8 of the 64 vectors of the algorithm's authors, and the first of the 128-bit ones. */
static void
siphash_vectors(void **state)
{
	static const uint8_t want[8][8] = {
		{ 0x31, 0x0e, 0x0e, 0xdd, 0x47, 0xdb, 0x6f, 0x72 }, { 0xfd, 0x67, 0xdc, 0x93, 0xc5, 0x39, 0xf8, 0x74 },
		{ 0x5a, 0x4f, 0xa9, 0xd9, 0x09, 0x80, 0x6c, 0x0d }, { 0x2d, 0x7e, 0xfb, 0xd7, 0x96, 0x66, 0x67, 0x85 },
		{ 0xb7, 0x87, 0x71, 0x27, 0xe0, 0x94, 0x27, 0xcf }, { 0x8d, 0xa6, 0x99, 0xcd, 0x64, 0x55, 0x76, 0x18 },
		{ 0xce, 0xe3, 0xfe, 0x58, 0x6e, 0x46, 0xc9, 0xcb }, { 0x37, 0xd1, 0x01, 0x8b, 0xf5, 0x00, 0x02, 0xab },
	};
	static const uint8_t want128[16] = { 0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7,
		0x55, 0x02, 0x93 };
	uint8_t key[16], in[8], out[16];

	(void)state;
	for (uint8_t i = 0; i < 16; i++)
		key[i] = i;
	for (uint8_t i = 0; i < 8; i++)
		in[i] = i;
	for (size_t i = 0; i < 8; i++) {
		siphash(key, in, i, out, 8);
		assert_memory_equal(out, want[i], 8);
	}
	siphash(key, in, 0, out, 16);
	assert_memory_equal(out, want128, 16);
}

static void
remembers(void **state)
{
	struct lab *l = *state;
	struct err e;
	int other;

	assert_int_equal(state_get(l->fd, STATE_ABSENT, &l->u, A, NOW), 0);
	state_put(l->fd, STATE_ABSENT, &l->u, A, NOW, 100);
	assert_int_equal(state_get(l->fd, STATE_ABSENT, &l->u, A, NOW), 100);
	assert_int_equal(state_get(l->fd, STATE_ABSENT, &l->u, A, NOW + 99), 1);
	assert_int_equal(state_get(l->fd, STATE_ABSENT, &l->u, A, NOW + 100), 0);
	assert_int_equal(state_get(l->fd, STATE_ABSENT, &l->u, B, NOW), 0);
	assert_int_equal(state_get(l->fd, STATE_ABSENT, &l->v, A, NOW), 0);
	assert_int_equal(state_get(l->fd, STATE_DEAD, &l->u, "", NOW), 0);
	/* the whole host is dead, whatever the path */
	state_put(l->fd, STATE_DEAD, &l->u, "", NOW, 60);
	assert_int_equal(state_get(l->fd, STATE_DEAD, &l->v, "", NOW), 60);
	/* for other agents, too */
	assert_true((other = state_open(l->path, &e)) >= 0);
	assert_int_equal(state_get(other, STATE_ABSENT, &l->u, A, NOW), 100);
	/* a second record replaces the first */
	state_put(other, STATE_ABSENT, &l->u, A, NOW, 5);
	assert_int_equal(state_get(l->fd, STATE_ABSENT, &l->u, A, NOW), 5);
	close(other);
}

static void
bounded(void **state)
{
	struct lab *l = *state;
	struct stat st;

	state_put(l->fd, STATE_ABSENT, &l->u, A, NOW, UINT32_MAX);
	assert_int_equal(state_get(l->fd, STATE_ABSENT, &l->u, A, NOW), LIMIT_ABSENT_TTL);
	/* a clock that was wrong when the record was written, or is wrong now */
	assert_int_equal(state_get(l->fd, STATE_ABSENT, &l->u, A, NOW - 1), 0);
	state_put(l->fd, STATE_ABSENT, &l->u, B, NOW, 0);
	assert_int_equal(state_get(l->fd, STATE_ABSENT, &l->u, B, NOW), 0);
	for (int i = 0; i < 40000; i++) {
		char hash[33];

		(void)snprintf(hash, sizeof hash, "%032d", i);
		state_put(l->fd, STATE_ABSENT, &l->u, hash, NOW, 100);
		assert_int_equal(state_get(l->fd, STATE_ABSENT, &l->u, hash, NOW), 100);
	}
	assert_int_equal(fstat(l->fd, &st), 0);
	assert_int_equal(st.st_size, STATE_SIZE);
}

static void
damaged(void **state)
{
	struct lab *l = *state;
	uint8_t record[STATE_RECORD];
	off_t at;

	state_put(l->fd, STATE_ABSENT, &l->u, A, NOW, 100);
	for (at = 0; at < STATE_SIZE; at += STATE_RECORD) {
		assert_int_equal(pread(l->fd, record, sizeof record, at), sizeof record);
		if (record[0] != 0)
			break;
	}
	assert_true(at < STATE_SIZE);
	for (int bit = 0; bit < STATE_RECORD * 8; bit++) {
		record[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(pwrite(l->fd, record, sizeof record, at), sizeof record);
		if (state_get(l->fd, STATE_ABSENT, &l->u, A, NOW) != 0)
			fail_msg("bit %d", bit);
		record[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_int_equal(pwrite(l->fd, record, sizeof record, at), sizeof record);
	assert_int_equal(state_get(l->fd, STATE_ABSENT, &l->u, A, NOW), 100);
	/* cut off under our feet */
	assert_int_equal(ftruncate(l->fd, at + 7), 0);
	assert_int_equal(state_get(l->fd, STATE_ABSENT, &l->u, A, NOW), 0);
	state_put(l->fd, STATE_ABSENT, &l->u, A, NOW, 100);
}

static void
not_there(void **state)
{
	struct lab *l = *state;
	char link[80];
	struct err e;

	assert_int_equal(state_get(-1, STATE_ABSENT, &l->u, A, NOW), 0);
	state_put(-1, STATE_ABSENT, &l->u, A, NOW, 100);
	assert_int_equal(state_open("/nonexistent/state", &e), -1);
	assert_int_equal(state_open("/dev/null", &e), -1);
	(void)snprintf(link, sizeof link, "%s.link", l->path);
	assert_int_equal(symlink(l->path, link), 0);
	assert_int_equal(state_open(link, &e), -1);
	unlink(link);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(siphash_vectors),
		cmocka_unit_test_setup_teardown(remembers, setup, teardown),
		cmocka_unit_test_setup_teardown(bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(damaged, setup, teardown),
		cmocka_unit_test_setup_teardown(not_there, setup, teardown) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
