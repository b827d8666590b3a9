/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): new connections, and which thread gets them. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "helper/eris/pool.h"
#include "helper/publish/doors.h"

/* Connections that wait for one thread; one that has more takes its time anyway. */
#define WAITING 64

struct door {
	pthread_mutex_t lock;
	int wake; /* event counter */
	int shut;
	unsigned open; /* connections, those that wait included; changed and read without the lock */
	unsigned n;
	struct door_guest waiting[WAITING];
} __attribute__((aligned(128)));

struct doors {
	const int *sockets;
	unsigned nsockets, threads, most;
	struct door door[POOL_MAX];
};

struct doors *
doors_new(const int *sockets, unsigned nsockets, unsigned threads, unsigned most, struct err *e)
{
	struct doors *d = aligned_alloc(128, sizeof *d);

	if (d == NULL) {
		err_set(e, "out of memory");
		return NULL;
	}
	*d = (struct doors){ .sockets = sockets, .nsockets = nsockets, .most = most };
	for (; d->threads < threads; d->threads++) {
		struct door *t = &d->door[d->threads];

		t->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (t->wake < 0) {
			err_sys(e, errno, "eventfd");
			doors_free(d);
			return NULL;
		}
		pthread_mutex_init(&t->lock, NULL);
	}
	return d;
}

void
doors_free(struct doors *d)
{
	if (d == NULL)
		return;
	for (unsigned i = 0; i < d->threads; i++) {
		struct door *t = &d->door[i];

		while (t->n > 0)
			close(t->waiting[--t->n].fd);
		close(t->wake);
		pthread_mutex_destroy(&t->lock);
	}
	free(d);
}

static unsigned
count(const struct doors *d, unsigned thread)
{
	return __atomic_load_n(&d->door[thread].open, __ATOMIC_RELAXED);
}

static int
is_full(const struct doors *d)
{
	unsigned all = 0;

	for (unsigned i = 0; i < d->threads; i++)
		all += count(d, i);
	return all >= d->most;
}

unsigned
doors_wait(const struct doors *d, unsigned thread, struct pollfd *p)
{
	const int closed = d->door[thread].shut || is_full(d);

	p[0] = (struct pollfd){ .fd = d->door[thread].wake, .events = POLLIN };
	for (unsigned i = 0; i < d->nsockets; i++)
		p[1 + i] = (struct pollfd){ .fd = closed ? -1 : d->sockets[i], .events = POLLIN };
	return 1 + d->nsockets;
}

void
doors_left(struct doors *d, unsigned thread)
{
	__atomic_sub_fetch(&d->door[thread].open, 1, __ATOMIC_RELAXED);
}

/* To another thread.  0: it does not want it. */
static int
hand_over(struct door *to, const struct door_guest *g)
{
	const uint64_t one = 1;
	int taken;

	pthread_mutex_lock(&to->lock);
	taken = !to->shut && to->n < WAITING;
	if (taken)
		to->waiting[to->n++] = *g;
	pthread_mutex_unlock(&to->lock);
	if (taken)
		(void)!write(to->wake, &one, sizeof one);
	return taken;
}

static int
take_waiting(struct door *t, struct door_guest *g)
{
	int taken;

	pthread_mutex_lock(&t->lock);
	taken = t->n > 0;
	if (taken)
		*g = t->waiting[--t->n];
	pthread_mutex_unlock(&t->lock);
	return taken;
}

int
doors_next(struct doors *d, unsigned thread, struct pollfd *p, struct door_guest *g)
{
	struct door *mine = &d->door[thread];
	uint64_t times;

	if (p != NULL && p[0].revents != 0) {
		(void)!read(mine->wake, &times, sizeof times);
		p[0].revents = 0;
	}
	if (take_waiting(mine, g))
		return 1;
	for (unsigned i = 0; p != NULL && i < d->nsockets; i++)
		while (p[1 + i].revents != 0 && !is_full(d)) {
			unsigned least = thread;

			g->len = sizeof g->address;
			g->fd = accept4(d->sockets[i], &g->address.any, &g->len, SOCK_CLOEXEC | SOCK_NONBLOCK);
			/* Others may have been faster; and a connection that has gone again is none. */
			if (g->fd < 0) {
				p[1 + i].revents = 0;
				break;
			}
			/* The kernel tells the length of what it has cut off, too. */
			if (g->len > sizeof g->address)
				g->len = sizeof g->address;
			for (unsigned k = 0; k < d->threads; k++)
				if (count(d, k) < count(d, least))
					least = k;
			__atomic_add_fetch(&d->door[least].open, 1, __ATOMIC_RELAXED);
			if (least == thread)
				return 1;
			if (hand_over(&d->door[least], g))
				continue;
			doors_left(d, least);
			__atomic_add_fetch(&mine->open, 1, __ATOMIC_RELAXED);
			return 1;
		}
	return 0;
}

void
doors_shut(struct doors *d, unsigned thread)
{
	struct door *t = &d->door[thread];

	pthread_mutex_lock(&t->lock);
	t->shut = 1;
	pthread_mutex_unlock(&t->lock);
}
