/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: its own confinement. */
#ifndef NARLOCK_BROKER_CONFINE_H
#define NARLOCK_BROKER_CONFINE_H

#include "ipc/err.h"

struct broker;

/* What was achieved, for doctor and the log. */
struct confinement {
	int landlock_abi;    /* 0: the kernel has none */
	int landlock;        /* 1: in force */
	int landlock_error;  /* errno: why there is none */
	unsigned filter_len; /* instructions of the system call filter */
};

/* confine(b, c, e): after the spawner was forked: no capabilities, no_new_privs, not dumpable, Landlock (only the store,
 * our own directories and the allowed destinations can be written), system call filter.  Returns -1 when a layer
 * that must be there is not. */
int confine(struct broker *b, struct confinement *c, struct err *e);

#endif
