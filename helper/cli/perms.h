/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): who could change a file that narlock depends on? */
#ifndef NARLOCK_CLI_PERMS_H
#define NARLOCK_CLI_PERMS_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "ipc/err.h"

/* Whose files are trusted: root's, and those of the user that the daemon runs as.  The group of the store,
 * that of the builders, may write to a sticky directory: the store itself is one. */
struct perms_owner {
	uid_t daemon;
	gid_t builders;
};

/* perms_inode(st, owner, is_parent, e): may nobody but root and the daemon change what ST describes?  A
 * directory on the way (IS_PARENT) may be writable by others when it is sticky: they cannot rename what is not
 * theirs.  0 or -1. */
int perms_inode(const struct stat *st, struct perms_owner owner, bool is_parent, struct err *e);

/* perms_path(path, owner, e): PATH, what it points to, and every directory above both.  Returns 0, -1 with
 * the offending directory named in E, or -1 with e->code ENOENT when PATH does not exist. */
int perms_path(const char *path, struct perms_owner owner, struct err *e);

#endif
