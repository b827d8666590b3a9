/* SPDX-License-Identifier: GPL-3.0-or-later
 * Both sides: the compiled system call policies (policy/README.md) and how a process puts one on itself. */
#ifndef NARLOCK_POLICY_H
#define NARLOCK_POLICY_H

#include <linux/filter.h>

#include "ipc/err.h"

/* A seccomp filter that policy/mkpolicy made from policy/NAME.policy at build time. */
struct policy {
	const char *name;
	const struct sock_filter *filter;
	unsigned short length; /* instructions */
};

/* The same policy for people: both are lines without newlines, ended by NULL. */
struct policy_text {
	const char *name;
	const char *const *source; /* the .policy file, every line */
	const char *const *pfc;    /* libseccomp's readable export of the rules */
};

/* What a violation does in these is to kill the process (NAME.bpf.c). */
extern const struct policy policy_broker, policy_eris, policy_fetch, policy_resolve, policy_unpack;
/* The same rules with SIGSYS instead of death, for diagnostic builds only (NAME.trap.c). */
extern const struct policy policy_broker_trap, policy_eris_trap, policy_fetch_trap, policy_resolve_trap,
    policy_unpack_trap;
/* The one that a helper's main() uses. */
#ifdef NARLOCK_TRAP
#define POLICY_OF(NAME) (&policy_##NAME##_trap)
#else
#define POLICY_OF(NAME) (&policy_##NAME)
#endif
/* NAME.text.c; no process but `narlock policy' and the tests links them. */
extern const struct policy_text policy_text_broker, policy_text_eris, policy_text_fetch, policy_text_publish,
    policy_text_publish_index, policy_text_publish_net, policy_text_resolve, policy_text_unpack;

/* policy_load(policy, e): put the filter on the calling thread and all it will start, with the plain
 * system call; it can never be taken off again.  Needs no_new_privs (or CAP_SYS_ADMIN).  0 or -1. */
int policy_load(const struct policy *policy, struct err *e);

#endif
