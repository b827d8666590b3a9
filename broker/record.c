/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: what `info' told the daemon, for the agent that will install it. */
#include <errno.h>
#include <fcntl.h>
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
#include "broker/remove.h"
#include "broker/storepath.h"

#define STALE_AGE 3600		/* seconds */
#define NAME_SIZE 64		/* of "PID-STARTTIME" */

/* The link for a narinfo. */
struct link {
	char name[STOREPATH_HASH + 1], told[NIXBASE32_CHARS(32) + 1];
};

static int make_link(const struct record *rec, const struct narinfo *ni, struct link *l, struct err *e)
{
	struct { uint8_t path[32], nar[32], references[32]; uint64_t size; } all;
	const char *slash = memrchr(ni->store_path.at, '/', ni->store_path.len);
	uint8_t digest[32];

	if (rec->dir < 0 || slash == NULL)
		return err_set(e, "the daemon's process is unknown, so are its records");
	memset(&all, 0, sizeof all);
	crypto_sha256(all.path, ni->store_path.at, ni->store_path.len);
	memcpy(all.nar, ni->nar_hash, 32);
	all.size = ni->nar_size;
	if (narinfo_references_digest(ni, all.references) < 0)
		return err_sys(e, ENOMEM, "the records of `info'");
	crypto_sha256(digest, &all, sizeof all);
	nixbase32_encode(l->told, digest, 32);
	(void)snprintf(l->name, sizeof l->name, "%.*s", STOREPATH_HASH, slash + 1); /* narinfo_parse has checked it */
	return 0;
}

enum record_verdict record_check(const struct record *rec, const struct narinfo *ni, struct err *e)
{
	char told[sizeof ((struct link *)NULL)->told];
	struct link l;
	ssize_t n;

	if (make_link(rec, ni, &l, e) < 0)
		return RECORD_OTHER;
	n = readlinkat(rec->dir, l.name, told, sizeof told);
	if (n < 0 && errno == ENOENT)
		return RECORD_NONE;
	if (n == sizeof told - 1 && memcmp(told, l.told, (size_t)n) == 0)
		return RECORD_SAME;
	(void)(n < 0 ? err_sys(e, errno, "cannot read the records of `info'")
		     : err_set(e, "authorised, but it is not the narinfo whose references the daemon was told"));
	return RECORD_OTHER;
}

int record_add(struct record *rec, const struct narinfo *ni, struct err *e)
{
	struct link l;
	char fresh[32];

	if (make_link(rec, ni, &l, e) < 0)
		return -1;
	if (rec->count++ >= LIMIT_RECORDS)
		return err_set(e, "more than %d records of one client", LIMIT_RECORDS);
	if (symlinkat(l.told, rec->dir, l.name) == 0)
		return 0;
	if (errno != EEXIST)
		return err_sys(e, errno, "cannot record what `info' tells");
	if (record_check(rec, ni, e) == RECORD_SAME)
		return 0;
	(void)snprintf(fresh, sizeof fresh, ".%ld", (long)getpid());
	(void)unlinkat(rec->dir, fresh, 0);
	if (symlinkat(l.told, rec->dir, fresh) < 0 || renameat(rec->dir, fresh, rec->dir, l.name) < 0)
		return err_sys(e, errno, "cannot record what `info' tells");
	return 0;
}

/* The name of the records of process PID, made unique by its start time, field 22 of its stat file. */
static int make_name(char *out, size_t size, int pid, struct err *e)
{
	char path[64], *stat, *p;

	(void)snprintf(path, sizeof path, "/proc/%d/stat", pid);
	if ((stat = file_read(AT_FDCWD, path, 4096, FILE_ANY, NULL, e)) == NULL)
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

/* Is NAME the directory of a process that is gone?  One just written may be of another pid namespace. */
static int remove_stale(int dir, const char *name, const void *arg)
{
	char current[NAME_SIZE] = "";
	struct stat st;
	struct err e;
	int pid;

	(void)arg;
	if (sscanf(name, "%d-", &pid) != 1 || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    st.st_mtime > time(NULL) - STALE_AGE ||
	    (make_name(current, sizeof current, pid, &e) < 0 && e.code != ENOENT && e.code != ESRCH))
		return 0;
	return strcmp(name, current) != 0 && remove_tree(dir, name, NULL) == 0;
}

int record_open(struct record *rec, int dir, pid_t parent, struct err *e)
{
	char name[NAME_SIZE];

	*rec = (struct record){ .dir = -1 };
	if (make_name(name, sizeof name, parent, e) < 0 || (rec->dir = file_subdir(dir, name, 0700, e)) < 0)
		return -1;
	(void)file_sweep(dir, LIMIT_RECORD_LOOK, LIMIT_RECORD_CLEAN, remove_stale, NULL);
	return 0;
}
