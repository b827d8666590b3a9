/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): PROBE: could this nar be had without a substitute server, just now?
 *
 * The root of its manifest, or else the root block of its encoding, is asked for for real, at all usable
 * sources, and has to come with the right hash within block_ms.  A source that cannot be reached is
 * remembered as dead and costs nothing from then on. */
#ifndef NARLOCK_FETCH_PROBE_H
#define NARLOCK_FETCH_PROBE_H

#include "helper/fetch/fetch.h"
#include "ipc/wire.h"

/* Probes that are under way at a time; the others wait in a queue of LIMIT_LOOKUPS. */
#define PROBE_FLIGHTS 8

/* probe_init(f, e): 0 or -1.  probe_free(f) ends what runs. */
int probe_init(struct fetch *f, struct err *e);
void probe_free(struct fetch *f);

/* probe_add(f, m, e): a PROBE message.  0, or -1 when it breaks the protocol. */
int probe_add(struct fetch *f, const struct wire_msg *m, struct err *e);

/* probe_pump(f): start and answer. */
void probe_pump(struct fetch *f);

/* probe_deadline(f): when probe_pump() has to be called at the latest, or UINT64_MAX. */
uint64_t probe_deadline(const struct fetch *f);

#endif
