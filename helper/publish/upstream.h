/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): narinfos that the cache does not have, asked of a running `guix publish', which then
 * bakes them.
 *
 * A process of its own: the web server cannot connect to anything.  Each web thread has a socket to it, with
 * messages that keep their borders: questions of one size, answers with the narinfo behind them. */
#ifndef NARLOCK_PUBLISH_UPSTREAM_H
#define NARLOCK_PUBLISH_UPSTREAM_H

#include <signal.h>

#include "helper/publish/conf.h"

/* Longest narinfo that is passed on, in bytes: an answer must fit into the buffer of a socket. */
#define UPSTREAM_BODY (96 * 1024)
/* Questions at one time; more wait in the sockets. */
#define UPSTREAM_QUESTIONS 64
/* Seconds for one. */
#define UPSTREAM_SECONDS 10

struct upstream_question {
	uint32_t ticket;      /* comes back with the answer */
	char part[32];
};

struct upstream_answer {
	uint32_t ticket;
	int32_t status;       /* of HTTP; 0: nobody answered */
	int32_t max_age;      /* of Cache-Control; -1: not told */
	uint8_t baking;       /* X-Baking */
	uint32_t len;         /* of the body behind this */
};

struct upstream;

/* upstream_new(conf, cache, e): before the lock.  CACHE is filled if it is our own (conf->mirror). */
struct upstream *upstream_new(const struct conf *conf, int cache, struct err *e);
/* upstream_run(u, sockets, n, stop, e): until *STOP, or all other ends are closed. */
int upstream_run(struct upstream *u, const int *sockets, unsigned n, const volatile sig_atomic_t *stop,
    struct err *e);
void upstream_free(struct upstream *u);

#endif
