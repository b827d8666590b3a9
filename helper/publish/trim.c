/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): a cache of our own does not grow beyond its limit. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "helper/publish/info.h"
#include "helper/publish/trim.h"

struct old {
	int64_t used;
	char item[NAME_MAX + 1];
};

enum phase { IDLE, LOOK, REMOVE };

struct trim {
	int cache;
	uint64_t limit, total, want; /* WANT: bytes that somebody wants room for */
	trim_busy *busy;
	void *ctx;
	enum phase phase;
	time_t next, retry; /* NEXT: look; RETRY: until then there is no room */
	uint64_t seen; /* LOOK: bytes */
	unsigned method;
	DIR *dir;
	unsigned n, at, gone, youngest; /* GONE: removed since the look */
	struct old found[TRIM_FOUND];   /* LOOK: the oldest so far; REMOVE: in order */
};

enum { NARINFO, NAR, ENDS };
static const char *const ends[ENDS] = { ".narinfo", ".nar" };

struct trim *
trim_new(int cache, uint64_t limit, trim_busy *busy, void *ctx)
{
	struct trim *t = calloc(1, sizeof *t);

	if (t == NULL)
		return NULL;
	t->cache = cache;
	t->limit = limit;
	t->busy = busy;
	t->ctx = ctx;
	return t;
}

void
trim_free(struct trim *t)
{
	if (t != NULL && t->dir != NULL)
		closedir(t->dir);
	free(t);
}

/* A file of an item: its size, and in *USED when it was used, if that is later.  0: there is none. */
static uint64_t
look_at(const struct trim *t, unsigned method, const char *item, unsigned end, int64_t *used)
{
	char path[NAME_MAX + 32];
	struct stat st;

	if ((size_t)snprintf(path, sizeof path, "%s/%s%s", info_methods[method], item, ends[end]) >= sizeof path ||
	    fstatat(t->cache, path, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
		return 0;
	/* A narinfo is also read by who looks for changes. */
	if (end == NAR && st.st_atim.tv_sec > *used)
		*used = st.st_atim.tv_sec;
	if (st.st_mtim.tv_sec > *used)
		*used = st.st_mtim.tv_sec;
	return (uint64_t)st.st_size;
}

static int64_t
last_use(const struct trim *t, const char *item)
{
	int64_t used = 0;

	for (unsigned m = 0; m < INFO_METHODS; m++)
		for (unsigned i = 0; i < ENDS; i++)
			(void)look_at(t, m, item, i, &used);
	return used;
}

/* The clock may have been wrong: the future is not now. */
static int
in_use(const struct trim *t, const char *item, int64_t used, time_t now)
{
	return (used > now - TRIM_GRACE && used < now + TRIM_GRACE) || t->busy(t->ctx, item);
}

/* The narinfo first: without it nobody is told of nars that are not there, and the upstream server is asked again.  How many
 * files. */
static unsigned
remove_item(struct trim *t, const char *item)
{
	char path[NAME_MAX + 32];
	unsigned files = 0;
	int64_t used = 0;

	for (unsigned i = 0; i < ENDS; i++)
		for (unsigned m = 0; m < INFO_METHODS; m++) {
			uint64_t size = look_at(t, m, item, i, &used);

			snprintf(path, sizeof path, "%s/%s%s", info_methods[m], item, ends[i]);
			if (unlinkat(t->cache, path, 0) == 0) {
				t->total -= size < t->total ? size : t->total;
				files++;
			} else if (errno != ENOENT)
				fprintf(stderr, "narlock-publish: %s cannot be removed: %s\n", path, strerror(errno));
		}
	return files;
}

/* --- Looking -------------------------------------------------------------------------------------------- */

/* What a process left that was killed while it fetched.  One that is being written is younger. */
static void
remove_part(const struct trim *t, const char *name, time_t now)
{
	char path[NAME_MAX + 32];
	struct stat st;

	snprintf(path, sizeof path, "%s/%s", info_methods[t->method], name);
	if (fstatat(t->cache, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	    (st.st_mtim.tv_sec <= now - TRIM_GRACE || st.st_mtim.tv_sec >= now + TRIM_GRACE))
		(void)unlinkat(t->cache, path, 0);
}

/* USED: one of its files was. */
static void
keep_oldest(struct trim *t, const char *item, int64_t used)
{
	struct old *o;

	if (t->n == TRIM_FOUND && (used >= t->found[t->youngest].used ||
	    last_use(t, item) >= t->found[t->youngest].used))
		return;
	used = last_use(t, item);
	/* Each of its files leads here. */
	for (unsigned i = 0; i < t->n; i++)
		if (t->found[i].used == used && strcmp(t->found[i].item, item) == 0)
			return;
	o = &t->found[t->n < TRIM_FOUND ? t->n++ : t->youngest];
	o->used = used;
	strcpy(o->item, item);
	for (unsigned i = t->youngest = 0; i < t->n; i++)
		if (t->found[i].used > t->found[t->youngest].used)
			t->youngest = i;
}

static void
look_at_name(struct trim *t, const char *name, time_t now)
{
	size_t len = strlen(name);
	char item[NAME_MAX + 1];
	int64_t used = 0;

	if (name[0] == '.' && info_item(name + 1) != NULL && len > 5 && strcmp(name + len - 5, ".part") == 0)
		remove_part(t, name, now);
	for (unsigned i = 0; i < ENDS; i++) {
		size_t n = strlen(ends[i]);

		if (len <= n || strcmp(name + len - n, ends[i]) != 0 || info_item(name) == NULL)
			continue;
		memcpy(item, name, len - n);
		item[len - n] = '\0';
		t->seen += look_at(t, t->method, item, i, &used);
		if (used > 0)
			keep_oldest(t, item, used);
	}
}

static DIR *
open_method(const struct trim *t)
{
	int fd = openat(t->cache, info_methods[t->method], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (fd >= 0 && dir == NULL)
		close(fd);
	return dir;
}

static int
by_use(const void *a, const void *b)
{
	const struct old *x = a, *y = b;

	return (x->used > y->used) - (x->used < y->used);
}

static void
begin_look(struct trim *t)
{
	t->phase = LOOK;
	t->method = t->n = t->at = t->gone = t->youngest = 0;
	t->seen = 0;
}

static void
look(struct trim *t, time_t now)
{
	for (unsigned names = 0; names < TRIM_NAMES && t->method < INFO_METHODS; names++) {
		const struct dirent *d;

		if (t->dir == NULL && (t->dir = open_method(t)) == NULL) {
			t->method++;
			continue;
		}
		if ((d = readdir(t->dir)) != NULL) {
			look_at_name(t, d->d_name, now);
			continue;
		}
		closedir(t->dir);
		t->dir = NULL;
		t->method++;
	}
	if (t->method < INFO_METHODS)
		return;
	qsort(t->found, t->n, sizeof *t->found, by_use);
	t->total = t->seen;
	t->phase = REMOVE;
}

/* --- Removing ------------------------------------------------------------------------------------------- */

/* Where it is enough: some room is left, or every nar that comes would make a look of its own necessary. */
static int
is_enough(const struct trim *t)
{
	if (t->want == 0 && t->total <= t->limit)
		return 1;
	return t->total <= t->limit - t->limit / 20 && t->want <= t->limit - t->limit / 20 - t->total;
}

static void
end_look(struct trim *t, time_t now)
{
	if (t->gone > 0)
		fprintf(stderr, "narlock-publish: %u items that were not used for longest have left the nars directory; %.1f GB are "
		    "in it\n", t->gone, (double)t->total / 1e9);
	if (t->n == TRIM_FOUND && t->gone > 0 && !is_enough(t)) {
		begin_look(t);
		return;
	}
	t->next = now + TRIM_INTERVAL;
	if (!is_enough(t))
		t->retry = now + TRIM_RETRY;
	t->want = 0;
	t->phase = IDLE;
}

static void
remove_oldest(struct trim *t, time_t now)
{
	for (unsigned n = 0; n < TRIM_REMOVED && t->at < t->n && !is_enough(t); n++) {
		const struct old *o = &t->found[t->at++];

		/* It may have been used since. */
		if (last_use(t, o->item) != o->used || in_use(t, o->item, o->used, now))
			continue;
		t->gone += remove_item(t, o->item) > 0;
	}
	if (t->at == t->n || is_enough(t))
		end_look(t, now);
}

int
trim_turn(struct trim *t, time_t now)
{
	if (t->limit == 0)
		return 0;
	if (t->phase == IDLE && now >= t->next)
		begin_look(t);
	else if (t->phase == LOOK)
		look(t, now);
	else if (t->phase == REMOVE)
		remove_oldest(t, now);
	return t->phase != IDLE;
}

void
trim_add(struct trim *t, uint64_t bytes)
{
	t->total += bytes;
	/* Counted twice if the look has still to come past it: until the next one. */
	if (t->phase == LOOK)
		t->seen += bytes;
}

int
trim_room(struct trim *t, uint64_t bytes, time_t now)
{
	if (t->limit == 0 || (t->total <= t->limit && bytes <= t->limit - t->total))
		return 1;
	if (bytes > t->limit - t->limit / 20)
		return -1;
	if (t->phase == IDLE && now < t->retry)
		return -1;
	if (t->want < bytes)
		t->want = bytes;
	if (t->phase != IDLE)
		return 0;
	begin_look(t);
	return 0;
}
