/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): who could change a file that narlock depends on? */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "helper/cli/perms.h"

int perms_inode(const struct stat *st, struct perms_owner owner, bool is_parent, struct err *e)
{
	bool always = S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX) != 0, sticky = is_parent && always;

	if (st->st_uid != 0 && st->st_uid != owner.daemon)
		return owner.daemon == 0
		    ? err_set(e, "belongs to uid %u (chown it to root)", (unsigned)st->st_uid)
		    : err_set(e, "belongs to uid %u (chown it to root, or to uid %u, which guix-daemon runs as)",
		    (unsigned)st->st_uid, (unsigned)owner.daemon);
	if ((st->st_mode & S_IWOTH) != 0 && !sticky)
		return err_set(e, "can be written by everybody (chmod o-w)");
	if ((st->st_mode & S_IWGRP) != 0 && st->st_gid != 0 && !sticky &&
	    !(always && st->st_gid == owner.builders))
		return err_set(e, "can be written by group %u (chmod g-w)", (unsigned)st->st_gid);
	return 0;
}

static int check_one(const char *path, struct perms_owner owner, bool is_parent, struct err *e)
{
	struct stat st;
	struct err why;

	if (stat(path, &st) < 0)
		return err_sys(e, errno, "%s", path);
	if (perms_inode(&st, owner, is_parent, &why) < 0)
		return err_set(e, "%s %s", path, why.text);
	return 0;
}

/* PATH has no symbolic links.  From the end to the root. */
static int check_chain(const char *path, struct perms_owner owner, bool is_parent, struct err *e)
{
	char copy[PATH_MAX];
	char *slash;

	memcpy(copy, path, strlen(path) + 1); /* of realpath: it fits */
	for (;;) {
		if (check_one(copy, owner, is_parent, e) < 0)
			return -1;
		is_parent = true;
		slash = strrchr(copy, '/');
		if (slash == NULL || strcmp(copy, "/") == 0)
			return 0;
		slash[slash == copy ? 1 : 0] = '\0';
	}
}

int perms_path(const char *path, struct perms_owner owner, struct err *e)
{
	char copy[PATH_MAX], real[PATH_MAX];
	size_t length = strlen(path);
	char *slash;

	if (path[0] != '/' || length >= sizeof copy)
		return err_set(e, "%s is not an absolute path", path);
	/* The directories in which a symbolic link (Guix System's /etc/guix/acl) lies count as well. */
	memcpy(copy, path, length + 1);
	slash = strrchr(copy, '/');
	slash[slash == copy ? 1 : 0] = '\0';
	if (realpath(copy, real) == NULL)
		return err_sys(e, errno, "%s", copy);
	if (check_chain(real, owner, true, e) < 0)
		return -1;
	if (realpath(path, real) == NULL)
		return err_sys(e, errno, "%s", path);
	return check_chain(real, owner, false, e);
}
