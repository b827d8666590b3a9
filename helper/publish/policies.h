/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): the system call filters of its processes, made from policy/publish*.policy. */
#ifndef NARLOCK_PUBLISH_POLICIES_H
#define NARLOCK_PUBLISH_POLICIES_H

#include "policy/policy.h"

/* The web server; what writes the index; what talks to IPFS daemons and to the upstream server. */
extern const struct policy policy_publish, policy_publish_index, policy_publish_net;
extern const struct policy policy_publish_trap, policy_publish_index_trap, policy_publish_net_trap;

#endif
