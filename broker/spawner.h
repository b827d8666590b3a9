/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: the spawner, the small process that starts and kills helpers. */
#ifndef NARLOCK_BROKER_SPAWNER_H
#define NARLOCK_BROKER_SPAWNER_H

#include <stdint.h>
#include <sys/types.h>

#include "ipc/err.h"
#include "ipc/limits.h"

/* How helpers are kept away from the daemon's rights. */
enum isolation {
	ISOLATE_USER,  /* another uid: the daemon is root */
	ISOLATE_NAMESPACE, /* user and mount namespace without store and state: the daemon is not root */
	ISOLATE_UNIT, /* a process of another uid, which the service manager starts when the spawner connects */
	ISOLATE_LOWERED, /* required-layers = no-namespace: the daemon's uid, but no rights and a filter */
};

/* Exit statuses of a child that did not become the helper. */
#define SPAWN_NO_DESCRIPTORS 120
#define SPAWN_NO_RIGHTS 121
#define SPAWN_NO_EXEC 122

/* The names of helpers and of their programs, by kind. */
extern const char *const spawner_names[];

/* What the spawner needs to know; all of it is decided before the fork. */
struct spawner_plan {
	enum isolation isolation;
	uint32_t uid, gid;          /* of helpers */
	const char *libexec;        /* directory of fetch, unpack, resolve */
	const char *ca_bundle;      /* told to the fetcher in NARLOCK_CA */
	const char *fetch_state;    /* told in NARLOCK_FETCH_STATE; "" when there is none */
	int unix_sockets;           /* the fetcher may open some: NARLOCK_UNIX is set */
	const char *sockets;        /* directory of fetch.socket and resolve.socket; "": these helpers are started, too */
	const char *hidden[2];      /* store and state directory: nothing below them is shown in a namespace */
};

/* spawner_start(plan, pid, e): fork the spawner.  Returns the broker's end of its channel (PROTOCOL.md, "Broker and
 * spawner") and its pid in *PID, or -1.  The spawner holds none of descriptors 0, 1, 2, 4 of its parent, keeps only
 * the capabilities it needs, and ends when the channel closes. */
int spawner_start(const struct spawner_plan *plan, pid_t *pid, struct err *e);

#endif
