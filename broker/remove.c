/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: remove a tree that may be in any state.
 *
 * A tree may be deeper than we have descriptors, so nothing here goes down more than two levels: a directory
 * found on the second level that is not empty is moved up to the first, and its turn comes later.  Each
 * directory moves at most once. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "broker/nar.h"
#include "broker/remove.h"

int remove_open(int parent_fd, const char *path)
{
	const struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
	};

	return (int)syscall(SYS_openat2, parent_fd, path, &how, sizeof how);
}

/* Give the owner of directory NAME all rights.  Through a descriptor that needs none to be opened and that is no
 * link; fchmodat cannot be told that without a system call (chmod) that the policy does not have. */
static int give_owner_rights(int parent_fd, const char *name)
{
	int fd = openat(parent_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), rc;
	char path[40];

	if (fd == -1)
		return -1;
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	rc = fchmodat(AT_FDCWD, path, 0700, 0);
	(void)close(fd);
	return rc;
}

/* Open a directory and make sure that its owner may change it; one without the right to read is given it first. */
static int open_writable(int parent_fd, const char *name)
{
	int fd = remove_open(parent_fd, name);

	if (fd == -1 && errno == EACCES && give_owner_rights(parent_fd, name) == 0)
		fd = remove_open(parent_fd, name);
	if (fd != -1)
		(void)fchmod(fd, 0700); /* not ours: what follows fails and says so */
	return fd;
}

/* The state of one removal: the top directory, and the last name given to a directory moved up into it. */
struct removal {
	int top_fd;
	uint64_t moved;
};

static int fail(const char *what, const char *name, struct err *e)
{
	return err_sys(e, errno, "removing a tree: cannot %s \"%s\"", what, nar_tail(name));
}

/* Move the directory NAME of FD up into the top directory, under a name that is free there. */
static int move_up(struct removal *r, int fd, const char *name, struct err *e)
{
	char fresh[32];
	int child = open_writable(fd, name); /* its ".." changes, so it must be writable itself */

	if (child == -1)
		return fail("open", name, e);
	(void)close(child);
	for (;;) {
		(void)snprintf(fresh, sizeof fresh, "%llu", (unsigned long long)r->moved++);
		if (renameat2(fd, name, r->top_fd, fresh, RENAME_NOREPLACE) == 0)
			return 0;
		if (errno != EEXIST)
			return fail("move", name, e);
	}
}

static int empty_directory(struct removal *r, int fd, struct err *e);

/* Remove the entry NAME of FD, which is the top directory or one just below it.  Calls empty_directory() for
 * an entry of the top only, so the two never nest deeper than that. */
static int remove_entry(struct removal *r, int fd, const char *name, struct err *e)
{
	int child, rc;

	if (unlinkat(fd, name, 0) == 0)
		return 0;
	if (errno != EISDIR)
		return fail("unlink", name, e);
	if (unlinkat(fd, name, AT_REMOVEDIR) == 0)
		return 0;
	if (errno != ENOTEMPTY && errno != EEXIST)
		return fail("unlink", name, e);
	if (fd != r->top_fd)
		return move_up(r, fd, name, e);
	if ((child = open_writable(fd, name)) == -1)
		return fail("open", name, e);
	rc = empty_directory(r, child, e);
	(void)close(child);
	if (rc == 0 && unlinkat(fd, name, AT_REMOVEDIR) == -1)
		return fail("unlink", name, e);
	return rc;
}

/* Remove all that is in FD.  Entries may be missed while they change (those moved into the top directory
 * surely), so this reads again until one whole reading finds nothing.  Each reading that finds something
 * removes or moves it, so this ends. */
static int empty_directory(struct removal *r, int fd, struct err *e)
{
	_Alignas(struct dirent64) char buffer[8192];
	bool found;

	do {
		ssize_t n;

		found = false;
		if (lseek(fd, 0, SEEK_SET) == -1)
			return err_sys(e, errno, "removing a tree: cannot rewind a directory");
		while ((n = getdents64(fd, buffer, sizeof buffer)) > 0) {
			const struct dirent64 *d;

			for (ssize_t at = 0; at < n; at += d->d_reclen) {
				d = (const struct dirent64 *)(const void *)(buffer + at);
				if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
					continue;
				found = true;
				if (remove_entry(r, fd, d->d_name, e) == -1)
					return -1;
			}
		}
		if (n == -1)
			return err_sys(e, errno, "removing a tree: cannot read a directory");
	} while (found);
	return 0;
}

int remove_tree(int parent_fd, const char *name, struct err *e)
{
	struct removal r = { .moved = 0 };
	int rc;

	if (unlinkat(parent_fd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR)
		return fail("unlink", name, e);
	if (unlinkat(parent_fd, name, AT_REMOVEDIR) == 0)
		return 0;
	if ((r.top_fd = open_writable(parent_fd, name)) == -1)
		return fail("open", name, e);
	rc = empty_directory(&r, r.top_fd, e);
	(void)close(r.top_fd);
	if (rc == 0 && unlinkat(parent_fd, name, AT_REMOVEDIR) == -1)
		return fail("unlink", name, e);
	return rc;
}
