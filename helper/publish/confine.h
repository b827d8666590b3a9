/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): give up all rights but those that a process of narlock-publish needs. */
#ifndef NARLOCK_PUBLISH_CONFINE_H
#define NARLOCK_PUBLISH_CONFINE_H

#include "helper/publish/conf.h"
#include "policy/policy.h"

/* confine_user(conf, e): if this is root: make the state directory, which then belongs to conf->user, and
 * become that user; if there is no such user, the owner of the state directory; refuse if that is root.
 * For others: make the state directory if it is missing.  No capability is left, and no_new_privs is set.
 * The state directory of a unit with DynamicUser= stands where root alone can go: this process gets its own
 * view of it, and conf->state is the way there. */
int confine_user(struct conf *conf, struct err *e);

/* confine_parent(conf, e): what starts the others and locks itself before it starts them: files are written
 * below the state directory only, no program is started, nothing is bound, nobody is traced.  It reads what
 * its user can read: the configuration, a cache that is another directory now, what finds names of hosts. */
int confine_parent(const struct conf *conf, struct err *e);

/* confine_files(conf, extra, connect, e): Landlock: read the cache (and the path EXTRA, if not NULL), read
 * and write the state directory, nothing else; no TCP socket listens or (unless CONNECT) connects from here
 * on.  Without Landlock in the kernel it says so on standard error, once. */
int confine_files(const struct conf *conf, const char *extra, int connect, struct err *e);

/* confine_calls(policy, nofile, e): the system call filter; no core files; at most NOFILE descriptors. */
int confine_calls(const struct policy *policy, unsigned nofile, struct err *e);

#endif
