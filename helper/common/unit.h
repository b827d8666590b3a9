/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch, resolve): started by the service manager for one connection, instead of by the spawner. */
#ifndef NARLOCK_UNIT_H
#define NARLOCK_UNIT_H

#include "ipc/err.h"

/* unit_begin(control, e): call first of all.  Where the service manager has started us (LISTEN_FDS, as
 * sd_listen_fds(3) has it; the connection is descriptor CONTROL): look at who connected, take descriptor 2 from
 * the first frame, tell the broker that we are there and wait until it has looked at us (PROTOCOL.md, "Helpers of
 * the service manager").  Returns 1; 0 when a spawner has started us; -1 when that conversation fails. */
int unit_begin(int control, struct err *e);

#endif
