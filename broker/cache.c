/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: narinfos that were verified, kept over time. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "broker/cache.h"
#include "broker/crypto.h"
#include "broker/storepath.h"
#include "ipc/limits.h"

#define CLEAN_EVERY (5 * 86400)
#define KEEP_EXPIRED (30 * 86400)
static const char stamp_name[] = "last-cleanup";
static const char magic[16] = "narlock-narinfo1";

/* The head of a file, in the machine's byte order: the cache is not carried to another one.  No padding. */
struct head {
	char magic[16];
	int64_t date;		/* when it was fetched, seconds since 1970 */
	uint32_t ttl;		/* seconds */
	uint32_t kind;
	uint8_t key_fpr[32];
	uint8_t url[32];	/* SHA-256: the directory's name has only a part of it */
	char hash_part[STOREPATH_HASH];
	uint8_t text_hash[32];	/* SHA-256 of what follows */
	uint8_t head_hash[32];	/* SHA-256 of what precedes */
};
_Static_assert(sizeof(struct head) == 192, "struct head has padding");

/* `SHARD/HASH-PART', where SHARD is 16 hex digits of the URL's hash: no byte of a URL is in a name. */
struct name {
	char shard[17];
	char path[17 + 1 + STOREPATH_HASH];
};

void cache_init(struct cache *cache, int dir)
{
	*cache = (struct cache){ .dir = dir };
}

static void make_name(struct name *name, struct head *head, const char *url, const char *hash_part)
{
	crypto_sha256(head->url, url, strlen(url));
	memcpy(head->hash_part, hash_part, STOREPATH_HASH);
	crypto_hex(name->shard, head->url, 8);
	(void)snprintf(name->path, sizeof name->path, "%s/%.*s", name->shard, STOREPATH_HASH, hash_part);
}

static void hash_head(const struct head *head, uint8_t out[32])
{
	crypto_sha256(out, head, offsetof(struct head, head_hash));
}

/* Does HEAD, read from a file, belong to WANT's server and hash part, and to the LEN bytes of TEXT? */
static bool head_ok(const struct head *head, const struct head *want, const char *text, size_t len)
{
	uint8_t hash[32];

	hash_head(head, hash);
	if (memcmp(hash, head->head_hash, 32) != 0 || memcmp(head->magic, magic, sizeof magic) != 0 ||
	    memcmp(head->url, want->url, 32) != 0 ||
	    memcmp(head->hash_part, want->hash_part, STOREPATH_HASH) != 0)
		return false;
	crypto_sha256(hash, text, len);
	return memcmp(hash, head->text_hash, 32) == 0 &&
	    (head->kind == CACHE_AUTHORISED || head->kind == CACHE_EQUIVALENT);
}

/* The narinfo in FD, after a HEAD that fits it; NULL for anything else. */
static char *read_entry(int fd, struct head *head, const struct head *want, size_t *len)
{
	struct stat st;
	struct iovec iov[2];
	char *text;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= (off_t)sizeof *head ||
	    st.st_size > (off_t)sizeof *head + LIMIT_NARINFO)
		return NULL;
	*len = (size_t)st.st_size - sizeof *head;
	if ((text = malloc(*len + 1)) == NULL)
		return NULL;
	text[*len] = '\0';
	iov[0] = (struct iovec){ head, sizeof *head };
	iov[1] = (struct iovec){ text, *len };
	if (readv(fd, iov, 2) == st.st_size && head_ok(head, want, text, *len))
		return text;
	free(text);
	return NULL;
}

int cache_get(const struct cache *cache, const char *url, const char *hash_part, time_t now,
    struct cache_entry *out)
{
	struct head head, want;
	struct name name;
	int fd;

	memset(out, 0, sizeof *out);
	make_name(&name, &want, url, hash_part);
	fd = openat(cache->dir, name.path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -1;
	out->text = read_entry(fd, &head, &want, &out->len);
	close(fd);
	if (!out->text) {
		(void)unlinkat(cache->dir, name.path, 0);
		return -1;
	}
	out->kind = (enum cache_kind)head.kind;
	memcpy(out->key_fpr, head.key_fpr, 32);
	/* A date ahead of the clock means that the clock was set back: nothing is known about its age. */
	out->fresh = head.date <= now && now - head.date < head.ttl;
	return 0;
}

int cache_put(struct cache *cache, const char *url, const char *hash_part, time_t now, long ttl,
    const struct cache_entry *in, struct err *e)
{
	struct head head = { .date = now, .kind = in->kind };
	struct iovec iov[2] = { { &head, sizeof head }, { in->text, in->len } };
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { 0 } };
	struct name name;
	char temp[64];
	bool ok;
	int fd;

	if (in->len == 0 || in->len > LIMIT_NARINFO)
		return err_set(e, "a narinfo of %zu bytes is not cached", in->len);
	head.ttl = (uint32_t)(ttl < 0 ? CACHE_TTL_DEFAULT : ttl > LIMIT_CACHE_TTL ? LIMIT_CACHE_TTL : ttl);
	memcpy(head.magic, magic, sizeof magic);
	if (in->kind == CACHE_AUTHORISED)
		memcpy(head.key_fpr, in->key_fpr, 32);
	make_name(&name, &head, url, hash_part);
	crypto_sha256(head.text_hash, in->text, in->len);
	hash_head(&head, head.head_hash);

	(void)snprintf(temp, sizeof temp, "%s/.%ld.%u", name.shard, (long)getpid(), cache->serial++);
	fd = openat(cache->dir, temp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0 && errno == ENOENT && (mkdirat(cache->dir, name.shard, 0700) == 0 || errno == EEXIST))
		fd = openat(cache->dir, temp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(e, errno, "cannot write to the narinfo cache");
	/* The file's time is when it expires, so that cleaning need not open it. */
	times[1].tv_sec = now + (time_t)head.ttl;
	ok = writev(fd, iov, 2) == (ssize_t)(sizeof head + in->len) && futimens(fd, times) == 0;
	ok = ok && renameat(cache->dir, temp, cache->dir, name.path) == 0;
	close(fd);
	if (ok)
		return 0;
	(void)err_sys(e, errno, "cannot write to the narinfo cache");
	(void)unlinkat(cache->dir, temp, 0);
	return -1;
}

void cache_entry_free(struct cache_entry *entry)
{
	free(entry->text);
	memset(entry, 0, sizeof *entry);
}

/* Work that one run may still do. */
struct budget {
	unsigned look, unlink;
};

static void clean_shard(int fd, time_t now, struct budget *left)
{
	DIR *dir = fdopendir(fd);
	struct dirent *d;
	struct stat st;

	if (!dir) {
		close(fd);
		return;
	}
	while (left->look > 0 && left->unlink > 0 && (d = readdir(dir)) != NULL) {
		left->look--;
		/* Temporary files that a killed writer left go too: their time is that of writing. */
		if (fstatat(fd, d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
		    st.st_mtime < now - KEEP_EXPIRED && unlinkat(fd, d->d_name, 0) == 0)
			left->unlink--;
	}
	closedir(dir);
}

static void clean_all(int fd, time_t now, struct budget *left)
{
	DIR *dir = fdopendir(fd);
	struct dirent *d;

	if (!dir) {
		close(fd);
		return;
	}
	while (left->look > 0 && left->unlink > 0 && (d = readdir(dir)) != NULL) {
		int shard = -1;

		left->look--;
		if (d->d_name[0] != '.')
			shard = openat(fd, d->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (shard >= 0)
			clean_shard(shard, now, left);
	}
	closedir(dir);
}

unsigned cache_clean(const struct cache *cache, time_t now)
{
	struct timespec times[2] = { { .tv_sec = now }, { .tv_sec = now } };
	struct budget left = { LIMIT_CACHE_LOOK, LIMIT_CACHE_UNLINK };
	struct stat st;
	int dir, lock = openat(cache->dir, stamp_name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (lock < 0)
		return 0;
	/* The stamp's time is that of the last run; a new one is empty. */
	if (flock(lock, LOCK_EX | LOCK_NB) == 0 && fstat(lock, &st) == 0 &&
	    (st.st_size == 0 || st.st_mtime > now || st.st_mtime <= now - CLEAN_EVERY)) {
		dir = write(lock, "+", st.st_size == 0) >= 0 && futimens(lock, times) == 0 ?
		    openat(cache->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
		if (dir >= 0)
			clean_all(dir, now, &left);
	}
	close(lock);
	return LIMIT_CACHE_UNLINK - left.unlink;
}
