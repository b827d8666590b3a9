/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: what the kernel says of a helper, as against what the helper says of itself. */
#ifndef NARLOCK_BROKER_PROOF_H
#define NARLOCK_BROKER_PROOF_H

#include <stdint.h>
#include <sys/types.h>

#include "broker/spawner.h"
#include "ipc/err.h"

/* What must be true of a helper. */
struct proof_demand {
	enum isolation isolation;
	uint32_t uid, gid;
	unsigned filters_before; /* seccomp filters that processes of ours have before they add their own */
	const char *hidden[2];   /* ISOLATE_NAMESPACE: must not exist below the helper's root */
};

/* proof_filters(pid, e): the number of seccomp filters of a process; -1 when the kernel does not tell. */
int proof_filters(pid_t pid, struct err *e);

/* proof_check(pid, pidfd, d, layers, e): read /proc/PID/status of a helper that says it is sealed and compare it with D;
 * the pidfd shows that PID was still that process afterwards.  *LAYERS becomes the verified layers
 * (ipc/layers.h).  Returns -1 with the first demand that is not met. */
int proof_check(pid_t pid, int pidfd, const struct proof_demand *d, uint32_t *layers, struct err *e);

/* proof_parse(text, d, layers, e): the part of proof_check that judges the text of a status file. */
int proof_parse(const char *text, const struct proof_demand *d, uint32_t *layers, struct err *e);

/* proof_mounts(text, hidden, e): the part that judges the text of a mountinfo file, which it takes apart: the root must be
 * a tmpfs, and no mount may show one of the HIDDEN directories or a part of it. */
int proof_mounts(char *text, const char *const hidden[2], struct err *e);

#endif
