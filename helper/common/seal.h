/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (all): lock this process up for good, and say what was achieved. */
#ifndef NARLOCK_SEAL_H
#define NARLOCK_SEAL_H

#include <stdint.h>

#include "policy/landlock.h"
#include "ipc/err.h"
#include "ipc/layers.h"
#include "ipc/wire.h"
#include "policy/policy.h"

/* The environment variable with the decimal pid of the spawner, the only parent that is accepted. */
#define SEAL_SPAWNER "NARLOCK_SPAWNER"

/* Tests only: uid 0 and capabilities are tolerated (and not claimed as layers). */
#define SEAL_ALLOW_ROOT 0x1u
/* Landlock denies TCP connect too (bind is always denied). */
#define SEAL_NO_CONNECT 0x2u
/* For programs that no spawner starts: any parent will do, and its death is not ours. */
#define SEAL_ANY_PARENT 0x4u
/* For programs that a user may start: who has no right cannot empty the bounding set; with no_new_privs nothing comes
 * out of it.  Not claimed as a layer then. */
#define SEAL_ANY_BOUNDS 0x8u

/* Leaves a limit as it is. */
#define SEAL_NO_LIMIT UINT64_MAX

struct seal_options {
	const struct policy *policy;      /* loaded last; nothing that it forbids is needed after */
	uint64_t fds;                     /* bit N: descriptor N stays and must be open; all else is closed */
	unsigned flags;
	uint64_t nofile;                  /* RLIMIT_NOFILE: new descriptors get numbers below this */
	uint64_t fsize;                   /* RLIMIT_FSIZE in bytes */
	uint64_t as;                      /* RLIMIT_AS in bytes */
	const struct landlock_rule *files; /* what Landlock leaves; nothing by default */
	unsigned nfiles;
};

struct seal_report {
	uint32_t layers;      /* LAYER_ bits that hold */
	int landlock_abi;     /* 0: none */
	int landlock_error;   /* why there is none (errno), or 0 */
	unsigned filter_len;  /* instructions loaded; 0 in a sanitizer build, which has no filter */
};

/* seal_process(o, r, e): called once, by the only thread, after exec, as the helper's uid, with no_new_privs
 * set by the spawner and everything opened and warmed up that the policy forbids later.  In this order:
 * descriptors, parent, identity, Landlock, limits, filter.  Returns 0, or -1 when a layer fails: then the
 * process is half sealed and has to end.  A kernel without Landlock is reported, not fatal. */
int seal_process(const struct seal_options *o, struct seal_report *r, struct err *e);

/* seal_message(r, note, m): fill M with SEALED from R; NOTE (or NULL) must live until it is sent.  Without a
 * note, a missing Landlock becomes one. */
void seal_message(const struct seal_report *r, const char *note, struct wire_msg *m);

#endif
