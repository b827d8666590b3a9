/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): try the sandbox: sealed processes that attempt what they must not be able to do. */
#ifndef NARLOCK_CLI_PROBE_H
#define NARLOCK_CLI_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#include "helper/cli/report.h"

/* How a probe gives up rights before it is sealed: as the spawner does it. */
struct probe_identity {
	uint32_t uid, gid;     /* the helper user; counts for root only */
	bool root;             /* else: a user namespace */
	const char *hidden[2]; /* store and state directory, which that namespace must not show */
};

/* probe_all(id, r): every helper's policy, one forbidden deed at a time, each in a process of its own; and
 * Landlock without a policy, where the kernel has it. */
void probe_all(const struct probe_identity *id, struct report *r);

#endif
