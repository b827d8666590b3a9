/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): new connections, and which thread gets them: the one that has fewest.
 *
 * Left to themselves, whichever thread wakes up first takes all connections of a client, and the others idle. */
#ifndef NARLOCK_PUBLISH_DOORS_H
#define NARLOCK_PUBLISH_DOORS_H

#include <poll.h>

#include "helper/eris/address.h"
#include "ipc/err.h"

struct doors;

/* doors_new(sockets, nsockets, threads, most, e): the sockets stay the caller's; MOST: connections of all
 * threads. */
struct doors *doors_new(const int *sockets, unsigned nsockets, unsigned threads, unsigned most, struct err *e);
void doors_free(struct doors *d);

/* doors_wait(d, thread, p): what a thread has to wait for: at most DOORS_POLL elements; returns how many. */
#define DOORS_POLL(nsockets) ((nsockets) + 1)
unsigned doors_wait(const struct doors *d, unsigned thread, struct pollfd *p);

struct door_guest {
	int fd; /* the caller's from now on */
	union address address;
	socklen_t len;
};

/* doors_next(d, thread, p, g): after poll(): a connection for this thread.  0: no more of them. */
int doors_next(struct doors *d, unsigned thread, struct pollfd *p, struct door_guest *g);

/* doors_left(d, thread): a connection of it has ended, or was not taken. */
void doors_left(struct doors *d, unsigned thread);

/* doors_shut(d, thread): this thread wants no more.  Connections that wait for it are still to be had with
 * doors_next(), whose P is NULL then. */
void doors_shut(struct doors *d, unsigned thread);

#endif
