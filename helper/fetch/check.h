/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): try every source of blocks and every index, for `narlock doctor'. */
#ifndef NARLOCK_FETCH_CHECK_H
#define NARLOCK_FETCH_CHECK_H

#include "helper/fetch/fetch.h"

/* check_start(f, e): a CHECK frame.  All are tried at the same time: IPFS daemons with a small random block that is
 * put, read back and removed again, gateways with the empty block, block servers and indexes with a name that nobody
 * has.  When the last has ended, CHECKED frames tell the outcome of each.  -1 if one is under way. */
int check_start(struct fetch *f, struct err *e);

/* check_pump(f), check_deadline(f): as in lookup.h. */
void check_pump(struct fetch *f);
uint64_t check_deadline(const struct fetch *f);

#endif
