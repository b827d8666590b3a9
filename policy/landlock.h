/* SPDX-License-Identifier: GPL-3.0-or-later
 * Both sides: forbid this process all files but some, with Landlock, where the kernel has it. */
#ifndef NARLOCK_LANDLOCK_H
#define NARLOCK_LANDLOCK_H

#include <stdint.h>

#include "ipc/err.h"

/* What may be done beneath a path (or with it, if it is a file). */
enum landlock_access {
	LANDLOCK_READ,       /* read files, list directories */
	LANDLOCK_READ_WRITE, /* that, and make, write, truncate, rename, link, remove files and directories */
};

struct landlock_rule {
	const char *path; /* a path that does not exist is passed over: there is nothing to allow */
	enum landlock_access access;
};

#define LANDLOCK_NO_BIND 0x1u     /* no TCP bind (ABI 4) */
#define LANDLOCK_NO_CONNECT 0x2u  /* no TCP connect (ABI 4) */
#define LANDLOCK_SCOPE 0x4u       /* no abstract unix sockets of others, no signals to others (ABI 6) */
#define LANDLOCK_NEED_REFER 0x8u  /* files are linked across directories: with ABI 1 do nothing at all */

struct landlock_result {
	int abi;       /* the kernel's version; 0: no Landlock */
	int error;     /* why there is none: ENOSYS (not built), EOPNOTSUPP (not in lsm=), EPERM; or 0 */
	int fs;        /* 1: files are confined */
	unsigned done; /* which of the LANDLOCK_ flags above are in force */
};

/* landlock_confine(rules, n, flags, r, e): confine the calling thread for good.  FLAGS that the kernel is
 * too old for are left out of r->done.  Returns 0 also when the kernel has no Landlock (r->fs is 0 then);
 * -1 when it has, but the rules cannot be set.  Needs no_new_privs.  Opens and closes a descriptor for each
 * rule. */
int landlock_confine(const struct landlock_rule *rules, unsigned n, unsigned flags, struct landlock_result *r,
    struct err *e);

#ifdef NARLOCK_TEST_HOOKS
/* Test builds only: not 0 makes the kernel one without Landlock, which says this. */
extern int landlock_test_errno;
#endif

#endif
