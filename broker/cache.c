/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: narinfos that were verified, kept over time. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/cache.h"
#include "broker/crypto.h"
#include "broker/file.h"
#include "broker/storepath.h"
#include "ipc/limits.h"
#include "ipc/text.h"

#define NAME_SIZE (17 + STOREPATH_HASH + 1)
#define CLEAN_EVERY (5 * 86400)
#define KEEP_EXPIRED (30 * 86400)
static const char stamp_name[] = "last-cleanup";

/* The head of a file, before the narinfo, in the machine's byte order: the cache is not carried to another
 * one.  No padding. */
struct head {
	uint8_t hash[32];	/* SHA-256 of the rest of the file */
	char magic[16];
	int64_t date;		/* when it was fetched, seconds since 1970 */
	uint32_t ttl;		/* seconds */
	uint32_t kind;
	uint8_t key_fpr[32];
	uint8_t url[32];	/* SHA-256: the file's name has only a part of it */
	char hash_part[STOREPATH_HASH];
};
_Static_assert(sizeof(struct head) == 160, "struct head has padding");

/* What a file tells about what it is of, and its name: 16 hex digits of the URL's hash, '-', the hash part.
 * No byte of a URL is in a name. */
static void make_name(char name[NAME_SIZE], struct head *head, const char *url, const char *hash_part)
{
	memset(head, 0, sizeof *head);
	memcpy(head->magic, "narlock-narinfo1", sizeof head->magic);
	crypto_sha256(head->url, url, strlen(url));
	memcpy(head->hash_part, hash_part, STOREPATH_HASH);
	text_hex(name, head->url, 8);
	name[16] = '-';
	memcpy(name + 17, hash_part, STOREPATH_HASH);
	name[17 + STOREPATH_HASH] = '\0';
}

/* Is FILE of LEN bytes whole, and of what WANT says?  Its head goes to HEAD. */
static bool file_ok(const char *file, size_t len, struct head *head, const struct head *want)
{
	uint8_t hash[32];

	if (len <= sizeof *head)
		return false;
	memcpy(head, file, sizeof *head);
	crypto_sha256(hash, file + sizeof hash, len - sizeof hash);
	return memcmp(hash, head->hash, sizeof hash) == 0 && memcmp(head->magic, want->magic, 16) == 0 &&
	    memcmp(head->url, want->url, 32) == 0 &&
	    memcmp(head->hash_part, want->hash_part, STOREPATH_HASH) == 0 &&
	    (head->kind == CACHE_AUTHORISED || head->kind == CACHE_EQUIVALENT);
}

int cache_get(int dir, const char *url, const char *hash_part, time_t now,
    struct cache_entry *out)
{
	char name[NAME_SIZE], *file;
	struct head head, want;
	struct err e;
	size_t len;

	memset(out, 0, sizeof *out);
	make_name(name, &want, url, hash_part);
	file = file_read(dir, name, sizeof head + LIMIT_NARINFO, FILE_ANY, &len, &e);
	if (!file || !file_ok(file, len, &head, &want)) {
		if (file || e.code == 0)
			(void)unlinkat(dir, name, 0);
		free(file);
		return -1;
	}
	out->len = len - sizeof head;
	memmove(file, file + sizeof head, out->len + 1);
	out->text = file;
	out->kind = (enum cache_kind)head.kind;
	memcpy(out->key_fpr, head.key_fpr, 32);
	/* A date ahead of the clock means that the clock was set back: nothing is known about its age. */
	out->fresh = head.date <= now && now - head.date < head.ttl;
	return 0;
}

int cache_put(int dir, const char *url, const char *hash_part, time_t now, long ttl, const struct cache_entry *in)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { 0 } };
	char name[NAME_SIZE], temp[24], *file;
	size_t len = sizeof(struct head) + in->len;
	struct head head;
	int fd, rc = -1;

	if (in->len == 0 || in->len > LIMIT_NARINFO || (file = malloc(len)) == NULL)
		return -1;
	make_name(name, &head, url, hash_part);
	head.date = now;
	head.ttl = (uint32_t)(ttl < 0 ? CACHE_TTL_DEFAULT : ttl > LIMIT_CACHE_TTL ? LIMIT_CACHE_TTL : ttl);
	head.kind = in->kind;
	if (in->kind == CACHE_AUTHORISED)
		memcpy(head.key_fpr, in->key_fpr, 32);
	memcpy(file, &head, sizeof head);
	memcpy(file + sizeof head, in->text, in->len);
	crypto_sha256((uint8_t *)file, file + sizeof head.hash, len - sizeof head.hash);

	(void)snprintf(temp, sizeof temp, ".%ld", (long)getpid());
	fd = openat(dir, temp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	/* The file's time is when it expires, so that cleaning need not open it. */
	times[1].tv_sec = now + (time_t)head.ttl;
	if (fd >= 0 && file_write_all(fd, file, len) == 0 && futimens(fd, times) == 0)
		rc = renameat(dir, temp, dir, name);
	if (rc < 0)
		(void)unlinkat(dir, temp, 0);
	if (fd >= 0)
		close(fd);
	free(file);
	return rc;
}

/* What expired long ago goes.  Temporary files that a killed writer left, too: their time is that of writing. */
static int remove_old(int dir, const char *name, const void *now)
{
	struct stat st;

	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	    st.st_mtime < *(const time_t *)now - KEEP_EXPIRED && strcmp(name, stamp_name) != 0 &&
	    unlinkat(dir, name, 0) == 0;
}

unsigned cache_clean(int dir, time_t now)
{
	struct timespec times[2] = { { .tv_sec = now }, { .tv_sec = now } };
	struct stat st;
	unsigned removed = 0;
	int stamp = openat(dir, stamp_name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	/* The stamp's time is that of the last run; a new one is empty.  Two at once would do no harm. */
	if (stamp >= 0 && fstat(stamp, &st) == 0 &&
	    (st.st_size == 0 || st.st_mtime > now || st.st_mtime <= now - CLEAN_EVERY) &&
	    write(stamp, "+", st.st_size == 0) >= 0 && futimens(stamp, times) == 0)
		removed = file_sweep(dir, LIMIT_CACHE_LOOK, LIMIT_CACHE_UNLINK, remove_old, &now);
	if (stamp >= 0)
		close(stamp);
	return removed;
}
