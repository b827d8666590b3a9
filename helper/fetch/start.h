/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch, heal): what a process that makes requests needs before the lock, and the time. */
#ifndef NARLOCK_FETCH_START_H
#define NARLOCK_FETCH_START_H

#include "helper/fetch/fetch.h"

/* start_libraries(f, e): make libcurl, OpenSSL and the C library open, ask and create now whatever they do
 * once; the multi handle of F.  0 or -1. */
int start_libraries(struct fetch *f, struct err *e);

/* start_clocks(f): f->now and f->clock. */
void start_clocks(struct fetch *f);

#endif
