/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): the conversation with the broker. */
#ifndef NARLOCK_FETCH_SERVE_H
#define NARLOCK_FETCH_SERVE_H

#include "helper/fetch/fetch.h"
#include "ipc/wire.h"

/* serve_read(f, e): take the frames that have come, without blocking.  1: go on; 0: the broker has gone;
 * -1: a frame broke the protocol. */
int serve_read(struct fetch *f, struct err *e);

/* serve_send(f, m): send a frame now, or queue it in order if the broker is behind.  A failure shows at
 * the next serve_flush(). */
void serve_send(struct fetch *f, const struct wire_msg *m);

/* serve_flush(f, e): send what is queued.  0 or -1. */
int serve_flush(struct fetch *f, struct err *e);

/* serve_room(f): whether the queue is short enough to make more of it. */
int serve_room(const struct fetch *f);

/* serve_free(f): drop what is queued. */
void serve_free(struct fetch *f);

#endif
