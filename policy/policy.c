/* SPDX-License-Identifier: GPL-3.0-or-later
 * Both sides: put a compiled policy on this process. */
#include <errno.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "policy/policy.h"

int
policy_load(const struct policy *policy, struct err *e)
{
	/* The kernel only reads the instructions; its struct just has no const. */
	union {
		const struct sock_filter *in;
		struct sock_filter *out;
	} filter = { .in = policy->filter };
	struct sock_fprog prog = { .len = policy->length, .filter = filter.out };

	/* No libseccomp here: the bytes that were audited are the bytes that run. */
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0UL, &prog) != 0)
		return err_sys(e, errno, "cannot load the system call filter `%s'", policy->name);
	return 0;
}
