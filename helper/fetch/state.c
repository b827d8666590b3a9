/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): absences and dead hosts on disk, for the agents of the next minutes. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "helper/fetch/siphash.h"
#include "helper/fetch/state.h"

#define KEY_BYTES 16
#define AT_EXPIRY 16
#define AT_KIND 20
#define AT_CHECKSUM 24

/* Not a secret: whoever can choose keys can only make this helper forget or refuse something. */
static const uint8_t hash_key[16] = "narlock state 1";

static void
put_u32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static uint32_t
get_u32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void
make_key(enum state_kind kind, const struct url *u, const char *hash, uint8_t key[KEY_BYTES])
{
	char text[LIMIT_HOST + LIMIT_URL + URL_SECRET + 64];
	int n = snprintf(text, sizeof text, "%d %d %u %s", kind, u->https, u->port, u->host);

	/* The user counts: a server may have more for one than for another. */
	if (kind == STATE_ABSENT)
		n = snprintf(text, sizeof text, "%d %d %u %s %s %s %.32s", kind, u->https, u->port, u->host, u->path,
		    u->user, hash);
	siphash(hash_key, text, (size_t)n, key, KEY_BYTES);
}

static void
checksum(const uint8_t *record, uint8_t sum[8])
{
	siphash(hash_key, record, AT_CHECKSUM, sum, 8);
}

/* The expiry of a sound record, else 0. */
static uint32_t
expiry(const uint8_t *record)
{
	uint8_t sum[8];

	checksum(record, sum);
	return memcmp(record + AT_CHECKSUM, sum, 8) == 0 ? get_u32(record + AT_EXPIRY) : 0;
}

static off_t
bucket_of(const uint8_t key[KEY_BYTES])
{
	uint32_t n = get_u32(key) % (LIMIT_STATE_RECORDS / STATE_BUCKET);

	return (off_t)n * STATE_BUCKET * STATE_RECORD;
}

static int
read_bucket(int fd, const uint8_t key[KEY_BYTES], uint8_t bucket[STATE_BUCKET * STATE_RECORD])
{
	const ssize_t size = STATE_BUCKET * STATE_RECORD;

	return fd >= 0 && pread(fd, bucket, (size_t)size, bucket_of(key)) == size ? 0 : -1;
}

int
state_open(const char *path, struct err *e)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);
	struct stat st;

	if (fd < 0)
		return err_sys(e, errno, "cannot open the state file %s", path);
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return err_set(e, "the state file %s is not a regular file", path);
	}
	if (st.st_size != STATE_SIZE && ftruncate(fd, (off_t)STATE_SIZE) != 0) {
		(void)err_sys(e, errno, "cannot size the state file %s", path);
		close(fd);
		return -1;
	}
	return fd;
}

uint32_t
state_get(int fd, enum state_kind kind, const struct url *u, const char *hash, int64_t now)
{
	uint8_t key[KEY_BYTES], bucket[STATE_BUCKET * STATE_RECORD];

	make_key(kind, u, hash, key);
	if (read_bucket(fd, key, bucket) != 0)
		return 0;
	for (int i = 0; i < STATE_BUCKET; i++) {
		const uint8_t *r = bucket + i * STATE_RECORD;
		int64_t left;

		if (memcmp(r, key, KEY_BYTES) != 0 || r[AT_KIND] != (uint8_t)kind)
			continue;
		left = (int64_t)expiry(r) - now;
		/* A clock that was set back must not keep a record alive. */
		if (left > 0 && left <= LIMIT_ABSENT_TTL)
			return (uint32_t)left;
	}
	return 0;
}

void
state_put(int fd, enum state_kind kind, const struct url *u, const char *hash, int64_t now, uint32_t ttl)
{
	uint8_t key[KEY_BYTES], bucket[STATE_BUCKET * STATE_RECORD], record[STATE_RECORD] = { 0 };
	uint32_t first = UINT32_MAX;
	int place = 0;

	make_key(kind, u, hash, key);
	if (ttl == 0 || read_bucket(fd, key, bucket) != 0)
		return;
	for (int i = 0; i < STATE_BUCKET; i++) {
		const uint8_t *r = bucket + i * STATE_RECORD;
		uint32_t ends = expiry(r);

		if (memcmp(r, key, KEY_BYTES) == 0)
			ends = 0;
		if (ends < first) {
			first = ends;
			place = i;
		}
		if (memcmp(r, key, KEY_BYTES) == 0)
			break;
	}
	memcpy(record, key, KEY_BYTES);
	put_u32(record + AT_EXPIRY, (uint32_t)(now + (ttl < LIMIT_ABSENT_TTL ? ttl : LIMIT_ABSENT_TTL)));
	record[AT_KIND] = (uint8_t)kind;
	checksum(record, record + AT_CHECKSUM);
	/* A full disk or a lost file costs a request later, no more. */
	if (pwrite(fd, record, sizeof record, bucket_of(key) + place * STATE_RECORD) < 0)
		return;
}
