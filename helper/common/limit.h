/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (all): a resource limit that nobody can raise again. */
#ifndef NARLOCK_LIMIT_H
#define NARLOCK_LIMIT_H

#include <stdint.h>

#include "ipc/err.h"

/* limit_set(resource, most, name, e): soft and hard limit of RESOURCE (RLIMIT_...) to MOST, or to what is there if that is
 * stricter.  NAME is for the message.  0 or -1. */
int limit_set(int resource, uint64_t most, const char *name, struct err *e);

#endif
