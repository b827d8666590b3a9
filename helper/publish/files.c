/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): files below the cache, which somebody else writes, replaces and removes at any time. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "helper/eris/store.h"
#include "helper/publish/files.h"

int
files_open(int cache, const char *path, struct stat *st)
{
	int fd = store_file(cache, path);

	if (fd < 0)
		return -1;
	if (fstat(fd, st) == 0 && S_ISREG(st->st_mode))
		return fd;
	close(fd);
	errno = ENOENT;
	return -1;
}

int64_t
files_mtime(const struct stat *st)
{
	return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

void
files_used(int fd, const struct stat *st)
{
	const struct timespec now[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_OMIT } };
	time_t t = time(NULL);

	if (st->st_atim.tv_sec < t - FILES_USED || st->st_atim.tv_sec > t)
		(void)futimens(fd, now);
}

void
files_whole(int fd)
{
	(void)fcntl(fd, F_SETFL, O_NOATIME);
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
}

int64_t
files_read(int fd, void *data, size_t len, uint64_t offset)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (char *)data + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (int64_t)done;
}

int
files_write(int fd, const void *data, size_t len, uint64_t offset)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(fd, (const char *)data + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			errno = ENOSPC;
		if (n <= 0)
			return -1;
		done += (size_t)n;
	}
	return 0;
}

int
files_text(int cache, const char *path, size_t max, char **text, size_t *len, struct stat *st)
{
	int fd = files_open(cache, path, st), failed = 0;
	int64_t n = -1;

	if (fd < 0)
		return -1;
	*text = NULL;
	if ((uint64_t)st->st_size > max)
		failed = EFBIG;
	else if ((*text = malloc((size_t)st->st_size + 1)) == NULL)
		failed = ENOMEM;
	else if ((n = files_read(fd, *text, (size_t)st->st_size, 0)) < 0)
		failed = errno;
	close(fd);
	if (failed != 0) {
		free(*text);
		errno = failed;
		return -1;
	}
	*len = (size_t)n;
	(*text)[n] = '\0';
	return 0;
}
