/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): the web server: some threads, each with its own connections, its own view of the index
 * and nothing shared but counters. */
#ifndef NARLOCK_PUBLISH_WEB_H
#define NARLOCK_PUBLISH_WEB_H

#include <signal.h>

#include "helper/publish/conf.h"
#include "helper/publish/shared.h"

struct web_options {
	const struct conf *conf;
	struct shared *shared;
	int cache;                    /* directory */
	const char *index;            /* path of the index */
	int wrong;                    /* socket that takes numbers of nars to be read again */
	const int *up;                /* for each thread a socket to the process that asks the upstream; or NULL */
	const int *sockets;           /* that listen; non-blocking */
	unsigned nsockets;
	const volatile sig_atomic_t *stop;
	unsigned bank;                /* where it counts its connections */
};

/* web_run(o, ready, ctx, e): start the threads, call ready() (which locks the process up; -1 ends it), and
 * serve until *STOP; then accept no more, and finish what is under way for at most conf->drain_timeout
 * seconds.  0, or -1. */
int web_run(const struct web_options *o, int (*ready)(void *ctx, struct err *e), void *ctx, struct err *e);

#endif
