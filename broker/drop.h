/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: giving up rights, for the spawner, its children and the broker itself.
 *
 * All functions are for a process that has just been forked (or is still single-threaded at its start).  They return
 * 0, or -1 with errno; on failure the process must end, since it may be half way. */
#ifndef NARLOCK_BROKER_DROP_H
#define NARLOCK_BROKER_DROP_H

#include <stdint.h>

/* drop_to_spawner(keep): no capability but, when KEEP is set, SETUID, SETGID and KILL; empty ambient and bounding sets (the
 * latter where SETPCAP allows). */
int drop_to_spawner(int keep);

/* drop_to_user(uid, gid): no groups, gid, uid, empty bounding, ambient, inheritable, permitted and effective sets,
 * no_new_privs; then tries to get root back and fails if it can. */
int drop_to_user(uint32_t uid, uint32_t gid);

/* drop_to_namespace(uid, gid, hidden, no_network): a user, mount and IPC namespace (and a network namespace without
 * interfaces) in which only uid and gid exist; a new root that shows system libraries and configuration read-only
 * and nothing of the two HIDDEN directories; then everything drop_rights does. */
int drop_to_namespace(uint32_t uid, uint32_t gid, const char *const hidden[2], int no_network);

/* drop_rights(): empty bounding set (where SETPCAP allows), ambient, inheritable, permitted and effective sets;
 * no_new_privs.  The uid stays. */
int drop_rights(void);

#endif
