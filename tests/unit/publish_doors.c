/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: narlock-publish: new connections are shared out evenly, none is lost, and no more are taken than may
 * be. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "helper/publish/doors.h"

enum { THREADS = 3, CLIENTS = 31, MOST = 40 };

struct bed {
	int listening, clients[64];
	unsigned n;
	struct sockaddr_in address;
	struct doors *doors;
};

static int
setup(void **state)
{
	static struct bed bed;
	socklen_t len = sizeof bed.address;
	struct err e;

	memset(&bed, 0, sizeof bed);
	bed.listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	bed.address.sin_family = AF_INET;
	bed.address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(bed.listening, (struct sockaddr *)&bed.address, len), 0);
	assert_int_equal(listen(bed.listening, 64), 0);
	assert_int_equal(getsockname(bed.listening, (struct sockaddr *)&bed.address, &len), 0);
	bed.doors = doors_new(&bed.listening, 1, THREADS, MOST, &e);
	assert_non_null(bed.doors);
	*state = &bed;
	return 0;
}

static int
teardown(void **state)
{
	struct bed *b = *state;

	for (unsigned i = 0; i < b->n; i++)
		close(b->clients[i]);
	doors_free(b->doors);
	close(b->listening);
	return 0;
}

static void
call(struct bed *b, unsigned n)
{
	for (; n > 0; n--) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		assert_true(fd >= 0);
		assert_int_equal(connect(fd, (struct sockaddr *)&b->address, sizeof b->address), 0);
		b->clients[b->n++] = fd;
	}
}

/* What one thread gets in one turn; it closes what it gets. */
static unsigned
turn(struct bed *b, unsigned thread)
{
	struct pollfd p[DOORS_POLL(1)];
	struct door_guest g;
	unsigned got = 0;

	assert_int_equal(doors_wait(b->doors, thread, p), 2);
	poll(p, 2, 0);
	while (doors_next(b->doors, thread, p, &g)) {
		assert_true(g.fd >= 0);
		assert_int_equal(g.address.any.sa_family, AF_INET);
		assert_int_equal(g.address.in.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
		assert_int_equal(g.len, sizeof g.address.in);
		close(g.fd);
		got++;
	}
	return got;
}

/* One thread wakes up alone: it keeps its share. */
static void
test_even(void **state)
{
	struct bed *b = *state;

	call(b, CLIENTS);
	assert_int_equal(turn(b, 1), 11);
	assert_int_equal(turn(b, 0), 10);
	assert_int_equal(turn(b, 2), 10);
	assert_int_equal(turn(b, 0) + turn(b, 1) + turn(b, 2), 0);
	/* Those of one have gone: the next ones are for it. */
	for (unsigned i = 0; i < 10; i++)
		doors_left(b->doors, 2);
	call(b, 6);
	assert_int_equal(turn(b, 0), 0);
	assert_int_equal(turn(b, 2), 6);
}

/* No more than may be: they wait in the queue of the socket. */
static void
test_most(void **state)
{
	struct bed *b = *state;
	struct pollfd p[DOORS_POLL(1)];

	call(b, MOST);
	assert_int_equal(turn(b, 0) + turn(b, 1) + turn(b, 2), MOST);
	call(b, 3);
	assert_int_equal(turn(b, 0) + turn(b, 1) + turn(b, 2), 0);
	doors_wait(b->doors, 0, p);
	assert_int_equal(p[1].fd, -1);
	doors_left(b->doors, 1);
	assert_int_equal(turn(b, 0) + turn(b, 1) + turn(b, 2), 1);
}

/* A thread that leaves takes what is on its way to it, and gets no more. */
static void
test_shut(void **state)
{
	struct bed *b = *state;
	struct door_guest g;
	unsigned got = 0;

	call(b, 9);
	assert_int_equal(turn(b, 0), 3);
	doors_shut(b->doors, 1);
	for (; doors_next(b->doors, 1, NULL, &g); got++)
		close(g.fd);
	assert_int_equal(got, 3);
	call(b, 9);
	assert_int_equal(turn(b, 1), 0);
	got = turn(b, 0);
	assert_int_equal(got + turn(b, 2), 9 + 3);
	/* What waits when everything ends is closed: the address of a client that waits is no leak. */
	call(b, 5);
	turn(b, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_even, setup, teardown),
		cmocka_unit_test_setup_teardown(test_most, setup, teardown),
		cmocka_unit_test_setup_teardown(test_shut, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
