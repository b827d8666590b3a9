/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): narinfos: many small requests, few connections. */
#ifndef NARLOCK_FETCH_LOOKUP_H
#define NARLOCK_FETCH_LOOKUP_H

#include "helper/fetch/fetch.h"
#include "ipc/wire.h"

/* lookup_init(f, e): 0 or -1.  lookup_free(f) ends what runs. */
int lookup_init(struct fetch *f, struct err *e);
void lookup_free(struct fetch *f);

/* lookup_add(f, m, e): a LOOKUP message.  0, or -1 when it breaks the protocol. */
int lookup_add(struct fetch *f, const struct wire_msg *m, struct err *e);

/* lookup_cancel(f, id): answer that lookup as failed, if there is one. */
void lookup_cancel(struct fetch *f, uint32_t id);

/* lookup_pump(f): start what can be started, end what has stalled. */
void lookup_pump(struct fetch *f);

/* lookup_deadline(f): when lookup_pump() has to be called at the latest (milliseconds), or UINT64_MAX. */
uint64_t lookup_deadline(const struct fetch *f);

#endif
