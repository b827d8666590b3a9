/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): one nar at a time, from the best of its places, into the descriptor that came with the
 * order. */
#ifndef NARLOCK_FETCH_NAR_H
#define NARLOCK_FETCH_NAR_H

#include "helper/fetch/fetch.h"
#include "ipc/wire.h"

/* nar_init(f, e): 0 or -1.  nar_free(f) ends what runs and closes the descriptor. */
int nar_init(struct fetch *f, struct err *e);
void nar_free(struct fetch *f);

/* nar_candidate, nar_order: the messages of these names; 0, or -1 when one breaks the protocol.  FD is now
 * the order's, also on failure. */
int nar_candidate(struct fetch *f, const struct wire_msg *m, struct err *e);
int nar_order(struct fetch *f, const struct wire_msg *m, int fd, struct err *e);

/* nar_cancel(f, id): end the order, if it is that one. */
void nar_cancel(struct fetch *f, uint32_t id);

/* nar_pump(f): write what the descriptor takes, watch the clock, start what is due. */
void nar_pump(struct fetch *f);

/* nar_wants(f): the descriptor to wait for until it takes bytes, or -1. */
int nar_wants(const struct fetch *f);

/* nar_deadline(f): when nar_pump() has to be called at the latest (milliseconds), or UINT64_MAX. */
uint64_t nar_deadline(const struct fetch *f);

#endif
