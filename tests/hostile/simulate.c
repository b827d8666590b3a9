/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests (hostile): run a program under a seccomp filter, as a unit or a container would.
 *
 *     simulate CALL ERRNO PROGRAM...    the system call of that number fails so; all others are allowed
 *     simulate none 0 PROGRAM...        a filter that allows everything */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;

	unsigned call = strcmp(argv[1], "none") == 0 ? 0xffffffff : (unsigned)atoi(argv[1]);
	unsigned verdict = SECCOMP_RET_ERRNO | ((unsigned)atoi(argv[2]) & SECCOMP_RET_DATA);
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, verdict),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof filter / sizeof filter[0], filter };

	/* Without privilege a filter needs no_new_privs, which the program will set anyway. */
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 &&
	    (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)) {
		perror("simulate");
		return 3;
	}
	execv(argv[3], argv + 3);
	perror(argv[3]);
	return 3;
}
