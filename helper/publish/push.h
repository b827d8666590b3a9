/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): nars into IPFS daemons: one CAR each, pinned by its manifest, and what was pushed where.
 *
 * The record is a file of its own in the state directory: it survives restarts and the index. */
#ifndef NARLOCK_PUBLISH_PUSH_H
#define NARLOCK_PUBLISH_PUSH_H

#include <signal.h>

#include "helper/publish/conf.h"
#include "helper/publish/shared.h"

struct push;

/* push_new(conf, cache, shared, wrong, stop, e): before the lock: names are resolved, libcurl starts, the
 * record is made. SHARED may be NULL; WRONG is as place_new() has it.  NULL on failure. */
struct push *push_new(const struct conf *conf, int cache, struct shared *shared, int wrong,
    const volatile sig_atomic_t *stop, struct err *e);
void push_free(struct push *p);

/* push_open(p, e): after the lock: open the index.  Can be called again, if it failed. */
int push_open(struct push *p, struct err *e);

/* push_nar(p, id, again, e): one nar to all daemons; to those that have it already only if AGAIN.  0; 1:
 * there is no such nar, or it is not ready; -1: not all daemons took it, the last reason is in *e. */
int push_nar(struct push *p, uint32_t id, int again, struct err *e);

/* push_next(p, after, id): the next nar above AFTER that is ready and lacks in some daemon's record: 1, 0 or
 * -1. */
int push_next(struct push *p, uint32_t after, uint32_t *id, struct err *e);

/* push_forget(p, e): unpin what has left the cache. */
int push_forget(struct push *p, struct err *e);

/* push_serve(p, shared, e): the process of the server: the queue, all nars if conf->push_all, and what has
 * left, until it is stopped. */
int push_serve(struct push *p, struct err *e);

/* push_command(p, names, n, e): `narlock-publish push': those nars, or all that lack, with progress.  Exit
 * status. */
int push_command(struct push *p, char **names, int n, struct err *e);

#endif
