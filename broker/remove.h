/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: remove a tree that may be in any state. */
#ifndef NARLOCK_REMOVE_H
#define NARLOCK_REMOVE_H

#include "ipc/err.h"

/* remove_open(parent_fd, path): open the directory PATH below PARENT_FD without following a symbolic link,
 * leaving PARENT_FD's tree or crossing a mount point.  Returns a descriptor (O_CLOEXEC), or -1 with errno. */
int remove_open(int parent_fd, const char *path);

/* remove_tree(parent_fd, name, e): remove what NAME, one component, is in PARENT_FD: nothing, a file, a
 * symbolic link (never followed) or a directory with all below it.  Gives itself the owner's rights on
 * directories first, so it needs no capability where the caller owns them.  No recursion: at most four
 * descriptors whatever the depth.  Does not enter another file system: that is a failure. */
int remove_tree(int parent_fd, const char *name, struct err *e);

#endif
