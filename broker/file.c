/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: small file helpers. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/file.h"

int file_trusted(const struct stat *st, const char *path, struct err *e)
{
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return err_set(e, "%s belongs to uid %u: chown it to root", path, st->st_uid);
	if (st->st_mode & (S_IWGRP | S_IWOTH))
		return err_set(e, "%s can be written by others (mode %04o): chmod go-w it", path, st->st_mode & 07777);
	return 0;
}

/* The text of FD, of at most ROOM bytes: one byte more shows an excess, one ends the text. */
static char *read_text(int fd, const char *path, size_t room, size_t *len, struct err *e)
{
	char *text = malloc(room + 2);
	size_t have = 0;
	ssize_t n = 1;

	if (text == NULL)
		return (void)err_sys(e, ENOMEM, "cannot read %s", path), NULL;
	while (n > 0 && have <= room) {
		while ((n = read(fd, text + have, room + 1 - have)) < 0 && errno == EINTR)
			;
		have += n > 0 ? (size_t)n : 0;
	}
	if (n == 0) {
		text[have] = '\0';
		if (len != NULL)
			*len = have;
		return text;
	}
	(void)(n < 0 ? err_sys(e, errno, "cannot read %s", path) : err_set(e, "%s is larger than %zu bytes", path, room));
	free(text);
	return NULL;
}

char *file_read(int dirfd, const char *path, size_t limit, enum file_from from, size_t *len, struct err *e)
{
	int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char *text = NULL;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		(void)err_sys(e, errno, "cannot open %s", path);
	else if (!S_ISREG(st.st_mode))
		(void)err_set(e, "%s is not a regular file", path);
	else if (from == FILE_ANY || file_trusted(&st, path, e) == 0) /* files in /proc have size 0: they get the limit */
		text = read_text(fd, path, st.st_size > 0 && (size_t)st.st_size < limit ? (size_t)st.st_size : limit, len, e);
	if (fd >= 0)
		close(fd);
	return text;
}

int file_subdir(int dirfd, const char *name, unsigned mode, struct err *e)
{
	struct stat st;
	int fd;

	if (mkdirat(dirfd, name, (mode_t)mode) < 0 && errno != EEXIST)
		return err_sys(e, errno, "cannot make directory %s", name);
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_sys(e, errno, "cannot open directory %s", name);
	if (fstat(fd, &st) < 0 || st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH))) {
		close(fd);
		return err_set(e, "directory %s must belong to uid %u and be writable by nobody else", name, geteuid());
	}
	return fd;
}

int file_write_all(int fd, const void *buf, size_t len)
{
	const char *p = buf;

	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

void file_print(int fd, const char *fmt, ...)
{
	char text[FILE_PRINT];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (n > 0 && (size_t)n < sizeof text)
		(void)file_write_all(fd, text, (size_t)n);
}

unsigned file_sweep(int dirfd, unsigned look, unsigned most, int (*remove_old)(int dirfd, const char *name, const void *arg),
		    const void *arg)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *d;
	unsigned removed = 0;

	for (unsigned i = 0; dir != NULL && i < look && removed < most && (d = readdir(dir)) != NULL; i++)
		removed += (unsigned)remove_old(dirfd, d->d_name, arg);
	if (dir != NULL)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
	return removed;
}
