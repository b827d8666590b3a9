/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch, heal): no unix sockets, where narlock.conf names none. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "helper/fetch/nounix.h"
#include "policy/policy.h"

#ifdef NARLOCK_TRAP
#define VIOLATION SECCOMP_RET_TRAP
#else
#define VIOLATION SECCOMP_RET_KILL_PROCESS
#endif

int
nounix_load(struct err *e)
{
#ifdef NARLOCK_NO_SECCOMP
	(void)e;
	return 0;
#else
	/* Other architectures' numbers need no thought: the policy kills their calls, and the strictest filter counts.
	 * Of the argument, only the low half is a family to the kernel, too. */
	static const struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])), /* little-endian */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, VIOLATION),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	static const struct policy p = { "no-unix", filter, sizeof filter / sizeof filter[0] };

	return policy_load(&p, e);
#endif
}
