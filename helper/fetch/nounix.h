/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch, heal): no unix sockets, where narlock.conf names none. */
#ifndef NARLOCK_FETCH_NOUNIX_H
#define NARLOCK_FETCH_NOUNIX_H

#include "ipc/err.h"

/* nounix_load(e): a second filter, before the policy's own: socket(AF_UNIX) kills from now on.  The policy has that call
 * for IPFS daemons with a local API; whoever has none does not need it, and any service of this machine that answers to
 * local users is out of reach then.  Needs no_new_privs.  0 or -1. */
int nounix_load(struct err *e);

#endif
