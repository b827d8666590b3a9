/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: the place where a nar waits until its hash is known: an unnamed file that only the broker holds. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "broker/file.h"
#include "broker/spool.h"

/* One read from the unpacker; it stays in the cache of the processor from socket to hash to file. */
#define PIECE (256 * 1024)
/* Kept free beside a nar, in bytes. */
#define MARGIN (16ULL << 20)

static uint64_t available_memory(void)
{
	char *text = file_read(AT_FDCWD, "/proc/meminfo", 16384, FILE_ANY, NULL, NULL);
	const char *p = text != NULL ? strstr(text, "MemAvailable:") : NULL;
	uint64_t kib = p != NULL ? strtoull(p + strlen("MemAvailable:"), NULL, 10) : 0;

	free(text);
	return kib * 1024;
}

int spool_room(int fd, uint64_t size, const char *where, struct err *e)
{
	struct statvfs v;

	if (fd < 0)
		return err_set(e, "%s cannot be used", where);
	if (fstatvfs(fd, &v) < 0)
		return err_sys(e, errno, "cannot look at %s", where);
	if (v.f_bavail * v.f_frsize < size)
		return err_sys(e, ENOSPC, "the nar needs %llu bytes in %s, %llu are free", (unsigned long long)size, where,
			       (unsigned long long)(v.f_bavail * v.f_frsize));
	return 0;
}

static int open_unnamed(int dir_fd, struct err *e)
{
	char name[64];
	int fd = openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC | O_EXCL, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
		return fd >= 0 ? fd : err_sys(e, errno, "cannot make a file in the spool directory");
	(void)snprintf(name, sizeof name, "nar-%ld", (long)getpid()); /* a file system without O_TMPFILE */
	(void)unlinkat(dir_fd, name, 0);
	fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || unlinkat(dir_fd, name, 0) < 0) {
		(void)err_sys(e, errno, "cannot make a file in the spool directory");
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

int spool_open(struct spool *s, int dir_fd, uint64_t size, uint64_t memory, struct err *e)
{
	uint64_t available = available_memory();

	*s = (struct spool){ .fd = -1, .limit = size };
	if (memory == UINT64_MAX)
		memory = available / 16 < 1ULL << 30 ? available / 16 : 1ULL << 30;
	if (size <= memory && size + MARGIN <= available) {
		if ((s->fd = memfd_create("narlock-spool", MFD_CLOEXEC)) < 0)
			return err_sys(e, errno, "cannot make a spool in memory");
	} else if (spool_room(dir_fd, size + MARGIN, "the spool directory (narlock.conf can name another one)", e) < 0 ||
		   (s->fd = open_unnamed(dir_fd, e)) < 0) {
		return -1;
	}
	if ((s->buffer = malloc(PIECE)) == NULL || gcry_md_open(&s->md, GCRY_MD_SHA256, 0) != 0) {
		spool_close(s);
		return err_set(e, "no memory for a spool");
	}
	return 0;
}

int spool_take(struct spool *s, int from, struct err *e)
{
	ssize_t n = recv(from, s->buffer, PIECE, MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 2 : err_sys(e, errno, "cannot read from the unpacker");
	if (n == 0)
		return 0;
	if ((uint64_t)n > s->limit - s->size)
		return err_set(e, "it is longer than %llu bytes", (unsigned long long)s->limit);
	gcry_md_write(s->md, s->buffer, (size_t)n);
	if (file_write_all(s->fd, s->buffer, (size_t)n) < 0)
		return err_sys(e, errno, "cannot write to the spool");
	s->size += (uint64_t)n;
	return 1;
}

void spool_digest(struct spool *s, uint8_t out[32])
{
	memcpy(out, gcry_md_read(s->md, GCRY_MD_SHA256), 32);
}

const uint8_t *spool_map(struct spool *s, struct err *e)
{
	void *map = mmap(NULL, (size_t)s->size, PROT_READ, MAP_SHARED, s->fd, 0);

	if (map == MAP_FAILED)
		return (void)err_sys(e, errno, "cannot map the spool"), NULL;
	(void)madvise(map, (size_t)s->size, MADV_SEQUENTIAL);
	return map;
}

void spool_unmap(struct spool *s, const uint8_t *map)
{
	if (map != NULL)
		(void)munmap((void *)(uintptr_t)map, (size_t)s->size);
}

void spool_close(struct spool *s)
{
	if (s->md != NULL)
		gcry_md_close(s->md);
	free(s->buffer);
	if (s->fd >= 0)
		close(s->fd);
	*s = (struct spool){ .fd = -1 };
}
