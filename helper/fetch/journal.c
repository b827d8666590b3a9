/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch, heal): the journal of healing: nars some of whose blocks are still missing in IPFS. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "helper/eris/urn.h"
#include "helper/fetch/journal.h"
#include "helper/fetch/siphash.h"
#include "helper/fetch/url.h"

#define SUM 16
#define AT_MAGIC 16
#define AT_KIND 20
#define AT_NURLS 21
#define AT_NREFS 22
#define AT_MADE 24
#define AT_NOT_BEFORE 32
#define AT_ATTEMPTS 40
#define AT_CAP 44
#define AT_URL_BYTES 110
#define AT_NAR_SIZE 112
#define AT_NUMBER 120
#define AT_ROOM 128

#define LISTED 1
#define ALL 2

/* Tries to get the lock, this far apart (milliseconds): who has it needs one or two. */
#define LOCK_TRIES 100
#define LOCK_MS 1

/* Not a secret: see siphash.h and state.c. */
static const uint8_t hash_key[16] = "narlock heal 1";
static const uint8_t magic[4] = { 'n', 'l', 'h', '1' };

/* --- Bytes ------------------------------------------------------------------------------------------- */

static void
put(uint8_t *p, uint64_t v, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static uint64_t
get(const uint8_t *p, unsigned n)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < n; i++)
		v |= (uint64_t)p[i] << 8 * i;
	return v;
}

static void
checksum(const uint8_t *bytes, uint8_t sum[SUM])
{
	siphash(hash_key, bytes + SUM, JOURNAL_SLOT - SUM, sum, SUM);
}

/* NURLS texts in exactly LEN bytes, each a URL without user and password. */
static int
urls_sound(const char *text, size_t len, unsigned nurls)
{
	const char *end = text + len;
	struct url u;
	struct err e;

	if (len > 0 && text[len - 1] != '\0')
		return 0;
	for (; nurls > 0; nurls--) {
		if (text >= end || url_parse(&u, text, &e) != 0 || u.user[0] != '\0' || u.password[0] != '\0')
			return 0;
		text += strlen(text) + 1;
	}
	return text == end;
}

int
journal_read(const uint8_t *bytes, struct journal_entry *j)
{
	uint8_t sum[SUM];
	struct eris_cap cap;
	struct err e;
	size_t room;

	if (memcmp(bytes + AT_MAGIC, magic, sizeof magic) != 0) /* an empty one costs nothing */
		return 0;
	checksum(bytes, sum);
	if (memcmp(bytes, sum, SUM) != 0)
		return 0;
	memset(j, 0, sizeof *j);
	memcpy(j->cap, bytes + AT_CAP, ERIS_CAP);
	j->all = bytes[AT_KIND] == ALL;
	j->nurls = bytes[AT_NURLS];
	j->nrefs = (unsigned)get(bytes + AT_NREFS, 2);
	j->made = (int64_t)get(bytes + AT_MADE, 8);
	j->not_before = (int64_t)get(bytes + AT_NOT_BEFORE, 8);
	j->attempts = (uint32_t)get(bytes + AT_ATTEMPTS, 4);
	j->url_bytes = (uint16_t)get(bytes + AT_URL_BYTES, 2);
	j->nar_size = get(bytes + AT_NAR_SIZE, 8);
	j->number = get(bytes + AT_NUMBER, 8);
	if ((bytes[AT_KIND] != LISTED && bytes[AT_KIND] != ALL) || j->nurls > JOURNAL_URLS ||
	    j->url_bytes > JOURNAL_URL_TEXT || j->nar_size > LIMIT_NAR_SIZE || j->made < 0 || j->not_before < 0)
		return 0;
	room = JOURNAL_ROOM - j->url_bytes;
	if (j->nrefs > room / ERIS_REF || (j->all != 0) == (j->nrefs != 0) || urn_from_bytes(&cap, j->cap, &e) != 0)
		return 0;
	memcpy(j->urls, bytes + AT_ROOM, j->url_bytes);
	memcpy(j->refs, bytes + AT_ROOM + j->url_bytes, j->nrefs * ERIS_REF);
	return urls_sound(j->urls, j->url_bytes, j->nurls);
}

void
journal_write(uint8_t *bytes, const struct journal_entry *j)
{
	memset(bytes, 0, JOURNAL_SLOT);
	memcpy(bytes + AT_MAGIC, magic, sizeof magic);
	bytes[AT_KIND] = j->all ? ALL : LISTED;
	bytes[AT_NURLS] = (uint8_t)j->nurls;
	put(bytes + AT_NREFS, j->all ? 0 : j->nrefs, 2);
	put(bytes + AT_MADE, (uint64_t)j->made, 8);
	put(bytes + AT_NOT_BEFORE, (uint64_t)j->not_before, 8);
	put(bytes + AT_ATTEMPTS, j->attempts, 4);
	memcpy(bytes + AT_CAP, j->cap, ERIS_CAP);
	put(bytes + AT_URL_BYTES, j->url_bytes, 2);
	put(bytes + AT_NAR_SIZE, j->nar_size, 8);
	put(bytes + AT_NUMBER, j->number, 8);
	memcpy(bytes + AT_ROOM, j->urls, j->url_bytes);
	if (!j->all)
		memcpy(bytes + AT_ROOM + j->url_bytes, j->refs, j->nrefs * ERIS_REF);
	checksum(bytes, bytes);
}

/* --- Entries ----------------------------------------------------------------------------------------- */

static void
make_all(struct journal_entry *j)
{
	j->all = 1;
	j->nrefs = 0;
}

int
journal_url(struct journal_entry *j, const char *url)
{
	size_t len = strlen(url) + 1;
	const char *at = j->urls;
	struct url u;
	struct err e;

	if (url_parse(&u, url, &e) != 0 || u.user[0] != '\0' || u.password[0] != '\0')
		return -1;
	for (unsigned i = 0; i < j->nurls; i++, at += strlen(at) + 1)
		if (strcmp(at, url) == 0)
			return 0;
	if (j->nurls == JOURNAL_URLS || len > sizeof j->urls - j->url_bytes)
		return -1;
	memcpy(j->urls + j->url_bytes, url, len);
	j->url_bytes = (uint16_t)(j->url_bytes + len);
	j->nurls++;
	if (j->nrefs * ERIS_REF + j->url_bytes > JOURNAL_ROOM)
		make_all(j);
	return 0;
}

void
journal_ref(struct journal_entry *j, const uint8_t ref[ERIS_REF])
{
	for (unsigned i = 0; i < j->nrefs; i++)
		if (memcmp(j->refs[i], ref, ERIS_REF) == 0)
			return;
	if (j->all)
		return;
	if ((j->nrefs + 1) * ERIS_REF + j->url_bytes > JOURNAL_ROOM)
		make_all(j);
	else
		memcpy(j->refs[j->nrefs++], ref, ERIS_REF);
}

/* What OLD says belongs to J, too. */
static void
merge(struct journal_entry *j, const struct journal_entry *old)
{
	const char *at = old->urls;

	j->made = old->made < j->made ? old->made : j->made;
	if (old->nar_size > j->nar_size)
		j->nar_size = old->nar_size;
	if (old->all)
		make_all(j);
	for (unsigned i = 0; i < old->nurls; i++, at += strlen(at) + 1)
		(void)journal_url(j, at);
	for (unsigned i = 0; i < old->nrefs; i++)
		journal_ref(j, old->refs[i]);
}

/* --- The file ---------------------------------------------------------------------------------------- */

int
journal_open(const char *path, struct err *e)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);
	struct stat st;

	if (fd < 0)
		return err_sys(e, errno, "cannot open the journal %s", path);
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1) {
		close(fd);
		return err_set(e, "the journal %s is not a regular file", path);
	}
	if (st.st_size != JOURNAL_SIZE && ftruncate(fd, (off_t)JOURNAL_SIZE) != 0) {
		(void)err_sys(e, errno, "cannot size the journal %s", path);
		close(fd);
		return -1;
	}
	return fd;
}

/* A lock that belongs to our open file, so that it ends with us.  Without it things are done all the same. */
static void
lock(int fd, short type)
{
	struct flock l = { .l_type = type, .l_whence = SEEK_SET };

	for (int i = 0; i < LOCK_TRIES && fcntl(fd, F_OFD_SETLK, &l) != 0; i++) {
		if (errno != EAGAIN && errno != EACCES && errno != EINTR)
			return;
		(void)poll(NULL, 0, LOCK_MS);
	}
}

static off_t
place_of(unsigned slot)
{
	return (off_t)slot * JOURNAL_SLOT;
}

int
journal_get(int fd, unsigned slot, struct journal_entry *j)
{
	uint8_t bytes[JOURNAL_SLOT];

	if (fd < 0 || slot >= JOURNAL_SLOTS)
		return -1;
	return pread(fd, bytes, sizeof bytes, place_of(slot)) == JOURNAL_SLOT && journal_read(bytes, j);
}

/* A number that no entry has had: the time down to nanoseconds and where in memory we are. */
static uint64_t
draw(const struct journal_entry *j)
{
	struct { struct timespec t; const void *where; uint64_t old; pid_t pid; } seed;
	uint64_t number;

	memset(&seed, 0, sizeof seed);
	(void)clock_gettime(CLOCK_REALTIME, &seed.t);
	seed.where = j;
	seed.old = j->number;
	seed.pid = getpid();
	siphash(hash_key, &seed, sizeof seed, (uint8_t *)&number, sizeof number);
	return number;
}

static int
write_slot(int fd, unsigned slot, struct journal_entry *j)
{
	uint8_t bytes[JOURNAL_SLOT];

	j->number = draw(j);
	journal_write(bytes, j);
	return pwrite(fd, bytes, sizeof bytes, place_of(slot)) == JOURNAL_SLOT ? 0 : -1;
}

/* Where J belongs; an entry of the same nar goes to *OLD, and 1 to *FOUND. */
static unsigned
find_place(int fd, const struct journal_entry *j, struct journal_entry *old, int *found)
{
	unsigned oldest = 0, free_slot = JOURNAL_SLOTS;
	int64_t made = INT64_MAX;

	*found = 0;
	for (unsigned i = 0; i < JOURNAL_SLOTS; i++) {
		if (journal_get(fd, i, old) != 1) {
			free_slot = free_slot == JOURNAL_SLOTS ? i : free_slot;
		} else if (memcmp(old->cap, j->cap, ERIS_CAP) == 0) {
			*found = 1;
			return i;
		} else if (old->made < made) {
			made = old->made;
			oldest = i;
		}
	}
	return free_slot < JOURNAL_SLOTS ? free_slot : oldest;
}

int
journal_put(int fd, struct journal_entry *j, int64_t now)
{
	struct journal_entry *old;
	unsigned slot;
	int found, rc;

	j->made = now > 0 ? now : 0;
	if (fd < 0 || (!j->all && j->nrefs == 0) || (old = malloc(sizeof *old)) == NULL)
		return -1;
	lock(fd, F_WRLCK);
	slot = find_place(fd, j, old, &found);
	if (found)
		merge(j, old);
	rc = write_slot(fd, slot, j);
	lock(fd, F_UNLCK);
	free(old);
	return rc;
}

/* Write BY (NULL: nothing) over the entry with NUMBER.  1, 0 or -1. */
static int
replace(int fd, uint64_t number, struct journal_entry *by)
{
	static const uint8_t nothing[JOURNAL_SLOT];
	struct journal_entry *old;
	int rc = 0, done = 0;

	if (fd < 0 || (old = malloc(sizeof *old)) == NULL)
		return -1;
	lock(fd, F_WRLCK);
	for (unsigned i = 0; i < JOURNAL_SLOTS && !done; i++) {
		if (journal_get(fd, i, old) != 1 || old->number != number)
			continue;
		done = 1;
		rc = by != NULL ? write_slot(fd, i, by) :
		    pwrite(fd, nothing, sizeof nothing, place_of(i)) == JOURNAL_SLOT ? 0 : -1;
	}
	lock(fd, F_UNLCK);
	free(old);
	return rc != 0 ? -1 : done;
}

int
journal_change(int fd, struct journal_entry *j)
{
	return !j->all && j->nrefs == 0 ? -1 : replace(fd, j->number, j);
}

int
journal_drop(int fd, const struct journal_entry *j)
{
	return replace(fd, j->number, NULL);
}
