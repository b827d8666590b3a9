/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): a cache of our own, filled from the upstream server. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "helper/publish/client.h"
#include "helper/publish/files.h"
#include "helper/publish/info.h"
#include "helper/publish/mirror.h"
#include "helper/publish/trim.h"

/* A narinfo and the first of its nars that is not there yet. */
struct item {
	char *text; /* NULL: free */
	size_t len;
	struct info info; /* points into TEXT */
	unsigned next;
	uint64_t order;
	struct nar *nar; /* that is being fetched, or NULL */
};

struct nar {
	CURL *easy; /* NULL: free */
	struct mirror *m;
	struct item *item;
	char path[LIMIT_PATH], part[LIMIT_PATH + 8];
	int fd, failed; /* FAILED: errno, or -1: not as its narinfo says */
	uint64_t size, expected; /* EXPECTED: 0: not told */
};

struct mirror {
	int cache;
	CURLM *multi;
	const char *base;
	struct curl_slist *resolve;
	uint64_t order;
	struct trim *trim;
	time_t told; /* that there is no room */
	struct item items[MIRROR_ITEMS];
	struct nar nars[MIRROR_NARS];
};

/* DIRECTORY/.NAME.part: nobody looks at names with a dot.  The directory is made. */
static int
open_part(int cache, const char *path, char part[LIMIT_PATH + 8])
{
	const char *name = strrchr(path, '/') + 1;
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd;

	snprintf(part, LIMIT_PATH + 8, "%.*s", (int)(name - path - 1), path);
	if (mkdirat(cache, part, 0755) != 0 && errno != EEXIST)
		return -1;
	snprintf(part, LIMIT_PATH + 8, "%.*s.%s.part", (int)(name - path), path, name);
	fd = openat(cache, part, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
	/* A process of another generation may be at it. */
	if (fd >= 0 && (fcntl(fd, F_SETLK, &whole) != 0 || ftruncate(fd, 0) != 0)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static int
has(int cache, const char *path)
{
	struct stat st;

	return fstatat(cache, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

static int
path_of(const struct item *i, unsigned group, char path[LIMIT_PATH])
{
	const struct info_text *url = &i->info.groups[group].url;

	return info_file(path, url->at, url->len, 0, 1);
}

static void
drop(struct item *i)
{
	free(i->text);
	memset(i, 0, sizeof *i);
}

/* Is ITEM, the name of files without an end, wanted by somebody? */
static int
is_wanted(void *ctx, const char *item)
{
	const struct mirror *m = ctx;
	char path[LIMIT_PATH];

	for (unsigned i = 0; i < MIRROR_ITEMS; i++)
		for (unsigned g = 0; m->items[i].text != NULL && g < m->items[i].info.n; g++)
			if (path_of(&m->items[i], g, path) == 0 &&
			    strncmp(strrchr(path, '/') + 1, item, strlen(item)) == 0 &&
			    strcmp(strrchr(path, '/') + 1 + strlen(item), ".nar") == 0)
				return 1;
	return 0;
}

/* What is to come of the nars under way, and MORE.  Sizes are what an upstream server says. */
static uint64_t
under_way(const struct mirror *m, uint64_t more)
{
	for (unsigned i = 0; i < MIRROR_NARS; i++)
		if (m->nars[i].easy != NULL && __builtin_add_overflow(more,
		    m->nars[i].expected > 0 ? m->nars[i].expected : m->nars[i].size, &more))
			return UINT64_MAX;
	return more;
}

/* All nars are there: the narinfo beside the first one. */
static void
finish_item(struct mirror *m, struct item *i)
{
	char path[LIMIT_PATH], part[LIMIT_PATH + 8];
	size_t n;
	int fd = -1;

	if (path_of(i, 0, path) == 0 && (n = strlen(path) - strlen(".nar")) + sizeof ".narinfo" <= sizeof path) {
		strcpy(path + n, ".narinfo");
		fd = open_part(m->cache, path, part);
	}
	if (fd >= 0 && (files_write(fd, i->text, i->len, 0) != 0 || fsync(fd) != 0 ||
	    renameat(m->cache, part, m->cache, path) != 0))
		fprintf(stderr, "narlock-publish: %s: %s\n", path, strerror(errno));
	else if (fd >= 0)
		trim_add(m->trim, i->len);
	if (fd >= 0)
		close(fd);
	drop(i);
}

static size_t
on_body(char *data, size_t one, size_t n, void *ctx)
{
	struct nar *r = ctx;

	n *= one;
	if (r->expected > 0 && n > r->expected - r->size)
		r->failed = -1;
	else if (r->expected == 0 && trim_room(r->m->trim, under_way(r->m, n), time(NULL)) < 1)
		r->failed = EDQUOT;
	else if (files_write(r->fd, data, n, r->size) != 0)
		r->failed = errno;
	if (r->failed != 0)
		return CURL_WRITEFUNC_ERROR;
	r->size += n;
	return n;
}

/* 0, or -1: it cannot be fetched now. */
static int
begin_nar(struct mirror *m, struct item *i, struct nar *r)
{
	const struct info_group *g = &i->info.groups[i->next];
	char url[LIMIT_URL + LIMIT_PATH];
	CURL *c;

	if ((size_t)snprintf(url, sizeof url, "%s/%.*s", m->base, (int)g->url.len, g->url.at) >= sizeof url ||
	    (r->fd = open_part(m->cache, r->path, r->part)) < 0)
		return -1;
	c = curl_easy_init();
	if (c == NULL) {
		close(r->fd);
		return -1;
	}
	r->m = m;
	r->size = 0;
	r->failed = 0;
	r->expected = g->file_size;
	client_set(c, url, m->resolve);
	curl_easy_setopt(c, CURLOPT_FAILONERROR, 1L);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, MIRROR_STALL);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, r);
	r->easy = c;
	r->item = i;
	i->nar = r;
	curl_multi_add_handle(m->multi, c);
	return 0;
}

/* Whoever asks asks again. */
static void
tell_no_room(struct mirror *m, const char *path)
{
	time_t now = time(NULL);

	if (now >= m->told && now - m->told < TRIM_RETRY)
		return;
	m->told = now;
	fprintf(stderr, "narlock-publish: %s is not fetched: mirror-size has no room for it (what was used in the last %d minutes "
	    "stays)\n", path, TRIM_GRACE / 60);
}

/* An item whose turn it is: its next nar, or its end.  0, or 1: it waits for room. */
static int
go_on(struct mirror *m, struct item *i, struct nar *r)
{
	int room = 1;

	while (i->next < i->info.n && path_of(i, i->next, r->path) == 0 && has(m->cache, r->path))
		i->next++;
	if (i->next < i->info.n)
		room = trim_room(m->trim, under_way(m, i->info.groups[i->next].file_size), time(NULL));
	if (room == 0)
		return 1;
	if (room < 0)
		tell_no_room(m, r->path);
	if (i->next == i->info.n)
		finish_item(m, i);
	else if (room < 0 || path_of(i, i->next, r->path) != 0 || begin_nar(m, i, r) != 0)
		drop(i);
	return 0;
}

/* Whoever waits longest comes next. */
static void
fill(struct mirror *m)
{
	for (unsigned n = 0; n < MIRROR_NARS; n++)
		while (m->nars[n].easy == NULL) {
			struct item *first = NULL;

			for (unsigned k = 0; k < MIRROR_ITEMS; k++)
				if (m->items[k].text != NULL && m->items[k].nar == NULL &&
				    (first == NULL || m->items[k].order < first->order))
					first = &m->items[k];
			if (first == NULL)
				return;
			if (go_on(m, first, &m->nars[n]) != 0)
				return;
		}
}

struct mirror *
mirror_new(int cache, CURLM *multi, const char *base, struct curl_slist *resolve, uint64_t limit)
{
	struct mirror *m = calloc(1, sizeof *m);

	if (m == NULL || (m->trim = trim_new(cache, limit, is_wanted, m)) == NULL) {
		free(m);
		return NULL;
	}
	m->cache = cache;
	m->multi = multi;
	m->base = base;
	m->resolve = resolve;
	return m;
}

static void
end_nar(struct mirror *m, struct nar *r)
{
	curl_multi_remove_handle(m->multi, r->easy);
	curl_easy_cleanup(r->easy);
	close(r->fd);
	r->easy = NULL;
	r->item->nar = NULL;
}

void
mirror_free(struct mirror *m)
{
	for (unsigned i = 0; m != NULL && i < MIRROR_NARS; i++)
		if (m->nars[i].easy != NULL)
			end_nar(m, &m->nars[i]);
	for (unsigned i = 0; m != NULL && i < MIRROR_ITEMS; i++)
		free(m->items[i].text);
	if (m != NULL)
		trim_free(m->trim);
	free(m);
}

int
mirror_turn(struct mirror *m)
{
	if (trim_turn(m->trim, time(NULL)) != 0)
		return 1;
	fill(m);
	return 0;
}

void
mirror_want(struct mirror *m, const char *narinfo, size_t len)
{
	struct item *i = NULL;

	for (unsigned k = 0; k < MIRROR_ITEMS; k++) {
		if (m->items[k].text == NULL)
			i = &m->items[k];
		else if (m->items[k].len == len && memcmp(m->items[k].text, narinfo, len) == 0)
			return;
	}
	if (i == NULL || (i->text = malloc(len + 1)) == NULL)
		return;
	memcpy(i->text, narinfo, len);
	i->len = len;
	if (info_parse(&i->info, i->text, len) != 0 || info_hash_part(&i->info) == NULL)
		drop(i);
	else {
		i->order = ++m->order;
		fill(m);
	}
}

int
mirror_done(struct mirror *m, CURL *easy, CURLcode result)
{
	struct nar *r = m->nars;
	struct item *i;
	int good;

	while (r < m->nars + MIRROR_NARS && r->easy != easy)
		r++;
	if (r == m->nars + MIRROR_NARS)
		return 0;
	i = r->item;
	good = result == CURLE_OK && (r->expected == 0 || r->size == r->expected) && fsync(r->fd) == 0 &&
	    renameat(m->cache, r->part, m->cache, r->path) == 0;
	if (!good) {
		fprintf(stderr, "narlock-publish: %s: %s\n", r->path, r->failed > 0 ? strerror(r->failed) :
		    result == CURLE_OK || r->failed < 0 ? "not as long as its narinfo says" : curl_easy_strerror(result));
		unlinkat(m->cache, r->part, 0);
	}
	end_nar(m, r);
	if (good)
		trim_add(m->trim, r->size);
	else
		drop(i);
	fill(m);
	return 1;
}
