/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): a directory of blocks, each a file with the base32 reference for a name. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <string.h>
#include <unistd.h>

#include "helper/eris/store.h"
#include "helper/eris/urn.h"

/* As policy/eris.policy has them. */
#define STORE_FLAGS_DIR (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
#define STORE_FLAGS_FILE (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)

int
store_open(const char *path, int create, struct err *e)
{
	int fd;

	if (create && mkdir(path, 0777) != 0 && errno != EEXIST)
		return err_sys(e, errno, "cannot make the directory %s", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? err_sys(e, errno, "%s", path) : fd;
}

int
store_write(int fd, const uint8_t *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

int
store_put(int dir, const uint8_t ref[ERIS_REF], const uint8_t *block, size_t size, struct err *e)
{
	char name[URN_REF_LEN + 1], fresh[32];
	uint8_t old[ERIS_LARGE + 1];
	int fd, failed;
	size_t len;

	urn_ref_format(name, ref);
	/* Looked at, because a damaged one is a reason to encode again.  What is longer than a block (a node of a
	 * manifest) is just written. */
	if (store_get(dir, ref, old, sizeof(old), &len, NULL) == 0 && len == size &&
	    memcmp(old, block, size) == 0)
		return 0;
	/* Hidden, so that it is neither served nor taken for a block. */
	snprintf(fresh, sizeof(fresh), ".new-%ld", (long)getpid());
	if (unlinkat(dir, fresh, 0) != 0 && errno != ENOENT)
		return err_sys(e, errno, "block %s", name);
	fd = openat(dir, fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
	if (fd < 0)
		return err_sys(e, errno, "block %s", name);
	failed = store_write(fd, block, size) != 0 ? errno : 0;
	if (close(fd) != 0 && failed == 0)
		failed = errno;
	if (failed == 0 && renameat(dir, fresh, dir, name) != 0)
		failed = errno;
	if (failed == 0)
		return 0;
	unlinkat(dir, fresh, 0);
	return err_sys(e, failed, "block %s", name);
}

int
store_file(int dir, const char *path)
{
	int at = dir;

	/* One name after the other: flags that a system call filter can see say that no link is followed. */
	for (;;) {
		size_t n = strcspn(path, "/");
		char name[NAME_MAX + 1] = "";
		int fd, failed;

		if (n <= NAME_MAX)
			memcpy(name, path, n);
		if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
			errno = EINVAL;
			fd = -1;
		} else {
			fd = openat(at, name, path[n] == '/' ? STORE_FLAGS_DIR : STORE_FLAGS_FILE);
		}
		failed = errno;
		if (at != dir)
			close(at);
		errno = failed;
		if (fd < 0 || path[n] == '\0')
			return fd;
		at = fd;
		path += n + 1;
	}
}

int
store_get(int dir, const uint8_t ref[ERIS_REF], uint8_t *buf, size_t size, size_t *len, struct err *e)
{
	char name[URN_REF_LEN + 1];
	int fd, failed = 0;
	ssize_t n;

	urn_ref_format(name, ref);
	fd = store_file(dir, name);
	if (fd < 0)
		return err_sys(e, errno, "block %s", name);
	*len = 0;
	do {
		n = read(fd, buf + *len, size - *len);
		if (n > 0)
			*len += (size_t)n;
		else if (n < 0 && errno != EINTR)
			failed = errno;
	} while (n != 0 && failed == 0 && *len < size);
	close(fd);
	return failed == 0 ? 0 : err_sys(e, failed, "block %s", name);
}
