/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: what `info' told the daemon, for the agent that will install it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "broker/crypto.h"
#include "broker/file.h"
#include "broker/nixbase32.h"
#include "broker/record.h"

#define CHECK 16		/* characters of a line's checksum */
#define LINE_MAX_LEN (LIMIT_PATH + LIMIT_STORE_NAME + 256)
#define STALE_AGE 3600		/* seconds */

/* The last record of a path, by hashes, so that 100,000 paths are some megabytes. */
struct record_slot {
	uint8_t path[16];	/* of the path's SHA-256 */
	uint8_t told[32];	/* SHA-256 of `NARHASH NARSIZE REFERENCES' */
	bool used;
};

static void checksum(char out[CHECK + 1], const char *text, size_t len)
{
	uint8_t hash[32];

	crypto_sha256(hash, text, len);
	crypto_hex(out, hash, CHECK / 2);
}

/* The slot of the path with this hash, or the empty one that it would take.  INDEX is never full. */
static struct record_slot *find_slot(const struct record *rec, const uint8_t *path)
{
	size_t i;

	memcpy(&i, path, sizeof i);
	for (i &= rec->room - 1; rec->index[i].used && memcmp(rec->index[i].path, path, 16) != 0;)
		i = (i + 1) & (rec->room - 1);
	return &rec->index[i];
}

static int grow(struct record *rec, struct err *e)
{
	struct record bigger = *rec;

	bigger.room = rec->room ? rec->room * 2 : 64;
	if ((bigger.index = calloc(bigger.room, sizeof *bigger.index)) == NULL)
		return err_sys(e, ENOMEM, "the records of `info'");
	for (size_t i = 0; i < rec->room; i++)
		if (rec->index[i].used)
			*find_slot(&bigger, rec->index[i].path) = rec->index[i];
	free(rec->index);
	*rec = bigger;
	return 0;
}

/* Take LINE into the index if it is whole. */
static int take_line(struct record *rec, const char *line, size_t len, struct err *e)
{
	const char *told = memchr(line, ' ', len);
	struct record_slot *slot;
	char check[CHECK + 1];
	uint8_t path[32];

	if (!told || len < CHECK + 2 || (size_t)(told - line) > len - CHECK - 1)
		return 0;
	len -= CHECK;
	checksum(check, line, len);
	if (memcmp(check, line + len, CHECK) != 0)
		return 0;
	if (rec->count * 2 >= rec->room && grow(rec, e) < 0)
		return -1;
	crypto_sha256(path, line, (size_t)(told - line));
	slot = find_slot(rec, path);
	if (!slot->used && rec->count++ >= LIMIT_RECORDS)
		return err_set(e, "more than %d records of one client", LIMIT_RECORDS);
	slot->used = true;
	memcpy(slot->path, path, sizeof slot->path);
	crypto_sha256(slot->told, told, len - (size_t)(told - line));
	return 0;
}

/* Open the file if that is still to be done, and read what was appended since the last time. */
static int refresh(struct record *rec, int create, struct err *e)
{
	char buf[16384];
	ssize_t n;

	if (rec->name[0] == '\0')
		return err_set(e, "the daemon's process is unknown, so are its records");
	if (rec->fd < 0)
		rec->fd = openat(rec->dir, rec->name, O_RDWR | O_APPEND | O_NOFOLLOW | O_CLOEXEC | create,
		    0600);
	if (rec->fd < 0)
		return !create && errno == ENOENT ? 0 :
		    err_sys(e, errno, "cannot open the records of `info'");
	while ((n = pread(rec->fd, buf, sizeof buf, rec->scanned)) > 0) {
		const char *p = buf, *end = buf + n, *nl;

		for (; (nl = memchr(p, '\n', (size_t)(end - p))) != NULL; p = nl + 1)
			if (take_line(rec, p, (size_t)(nl - p), e) < 0)
				return -1;
		/* An unfinished line waits for its end, unless no line is that long. */
		if (p == buf && n < (ssize_t)sizeof buf)
			break;
		rec->scanned += p == buf ? n : p - buf;
		if (rec->scanned > LIMIT_RECORD_FILE)
			return err_set(e, "the records of one client exceed %d bytes", LIMIT_RECORD_FILE);
	}
	return n < 0 ? err_sys(e, errno, "cannot read the records of `info'") : 0;
}

/* The line for NI, without newlines, at LINE; *TOLD is where its path ends.  Returns its length or -1. */
static int make_line(char line[LINE_MAX_LEN], const struct narinfo *ni, size_t *told, struct err *e)
{
	char hash[NIXBASE32_CHARS(32) + 1], refs[65];
	uint8_t digest[32];
	int n;

	if (narinfo_references_digest(ni, digest) < 0)
		return err_sys(e, ENOMEM, "the records of `info'");
	crypto_hex(refs, digest, 32);
	nixbase32_encode(hash, ni->nar_hash, 32);
	n = snprintf(line, LINE_MAX_LEN - CHECK - 1, "%.*s %s %" PRIu64 " %s ", (int)ni->store_path.len,
	    ni->store_path.at, hash, ni->nar_size, refs);
	if (n < 0 || n >= LINE_MAX_LEN - CHECK - 1)
		return err_set(e, "a store path is too long to be recorded");
	checksum(line + n, line, (size_t)n);
	*told = ni->store_path.len;
	return n + CHECK;
}

/* Compare a line with the index. */
static enum record_verdict compare(const struct record *rec, const char *line, int len, size_t told)
{
	const struct record_slot *slot;
	uint8_t hash[32];

	if (rec->room == 0)
		return RECORD_NONE;
	crypto_sha256(hash, line, told);
	slot = find_slot(rec, hash);
	if (!slot->used)
		return RECORD_NONE;
	crypto_sha256(hash, line + told, (size_t)len - CHECK - told);
	return memcmp(hash, slot->told, 32) == 0 ? RECORD_SAME : RECORD_OTHER;
}

int record_add(struct record *rec, const struct narinfo *ni, struct err *e)
{
	char line[LINE_MAX_LEN + 2] = "\n";
	size_t told;
	int n = make_line(line + 1, ni, &told, e);

	if (n < 0 || refresh(rec, O_CREAT, e) < 0)
		return -1;
	if (compare(rec, line + 1, n, told) == RECORD_SAME)
		return 0;
	if (rec->scanned + n + 2 > LIMIT_RECORD_FILE)
		return err_set(e, "the records of one client would exceed %d bytes", LIMIT_RECORD_FILE);
	line[n + 1] = '\n';
	errno = ENOSPC;
	if (write(rec->fd, line, (size_t)n + 2) != n + 2)
		return err_sys(e, errno, "cannot record what `info' tells");
	return 0;
}

int record_check(struct record *rec, const struct narinfo *ni, enum record_verdict *verdict, struct err *e)
{
	char line[LINE_MAX_LEN];
	size_t told;
	int n = make_line(line, ni, &told, e);

	if (n < 0 || refresh(rec, 0, e) < 0)
		return -1;
	*verdict = compare(rec, line, n, told);
	return 0;
}

/* The name of the records of process PID, made unique by its start time, field 22 of its stat file. */
static int make_name(char *out, size_t size, int pid, struct err *e)
{
	char path[64], *stat, *p;

	(void)snprintf(path, sizeof path, "/proc/%d/stat", pid);
	if ((stat = file_read(AT_FDCWD, path, 4096, NULL, e)) == NULL)
		return -1;
	/* The second field is the program's name in parentheses, which may hold anything. */
	p = strrchr(stat, ')');
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (p)
		(void)snprintf(out, size, "%d-%llu", pid, strtoull(p + 1, NULL, 10));
	free(stat);
	return p ? 0 : err_set(e, "%s has too few fields", path);
}

/* Is NAME the file of a process that is gone?  One just written may be of another pid namespace. */
static bool is_stale(int dir, const char *name)
{
	char current[sizeof(((struct record *)NULL)->name)];
	struct stat st;
	struct err e;
	int pid;

	if (sscanf(name, "%d-", &pid) != 1 || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    st.st_mtime > time(NULL) - STALE_AGE)
		return false;
	if (make_name(current, sizeof current, pid, &e) < 0)
		return e.code == ENOENT || e.code == ESRCH;
	return strcmp(name, current) != 0;
}

static void clean(int dirfd)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *d;

	for (int i = 0; dir && i < LIMIT_RECORD_CLEAN && (d = readdir(dir)) != NULL; i++)
		if (is_stale(dirfd, d->d_name))
			(void)unlinkat(dirfd, d->d_name, 0);
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
}

int record_open(struct record *rec, int dir, pid_t parent, struct err *e)
{
	memset(rec, 0, sizeof *rec);
	rec->dir = dir;
	rec->fd = -1;
	if (make_name(rec->name, sizeof rec->name, parent, e) < 0)
		return -1;
	clean(dir);
	return 0;
}

void record_close(struct record *rec)
{
	if (rec->fd >= 0)
		close(rec->fd);
	free(rec->index);
	*rec = (struct record){ .fd = -1 };
}
