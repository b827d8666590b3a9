/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): is Landlock there, and if not, why. */
#include <errno.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "helper/cli/llstate.h"

/* What most kernels start with; only used when the running one does not show its own. */
#define COMMON_LSM "yama,integrity,apparmor"

int llstate_abi(int *error)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, LANDLOCK_CREATE_RULESET_VERSION);

	*error = abi < 0 ? errno : 0;
	return abi < 0 ? 0 : (int)abi;
}

void llstate_explain(int abi, int error, const char *lsm, char *text, size_t size)
{
	if (abi > 0) {
		(void)snprintf(text, size, "ABI %d%s", abi, abi == 1
		    ? " (the broker goes without it: links between directories need ABI 2, Linux 5.19)" : "");
		return;
	}
	switch (error) {
	case ENOSYS:
		(void)snprintf(text, size, "unsupported: this kernel was built without it"
		    " (CONFIG_SECURITY_LANDLOCK, Linux 5.13 or newer)");
		return;
	case EOPNOTSUPP:
		(void)snprintf(text, size, "built but not in lsm=: boot with `lsm=landlock,%s' (Guix System:"
		    " kernel-arguments in config.scm; Debian: GRUB_CMDLINE_LINUX in /etc/default/grub)",
		    lsm[0] != '\0' ? lsm : COMMON_LSM);
		return;
	default:
		(void)snprintf(text, size, "cannot be asked for: %s (a container's policy forbids the call)",
		    strerror(error));
	}
}
