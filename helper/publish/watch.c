/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): keep the index up to date for as long as the server runs. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "helper/publish/build.h"
#include "helper/publish/catalog.h"
#include "helper/publish/scan.h"
#include "helper/publish/watch.h"

#define EVENTS (IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_ONLYDIR | IN_EXCL_UNLINK)
/* Seconds of reading nars after which new ones are looked for. */
#define TURN 30
/* Seconds between two looks at the totals. */
#define TELL 5
/* Directories that are watched; a cache has one for each compression. */
#define DIRECTORIES 256

struct watch {
	const struct conf *conf;
	struct scan scan;
	int inotify, wrong;
	unsigned n;
	struct {
		int wd;
		char *path;
	} dirs[DIRECTORIES];
	int rescan; /* at the next opportunity */
	struct shared *shared;
};

static void
watch_directory(void *ctx, const char *path)
{
	struct watch *w = ctx;
	char whole[2 * LIMIT_PATH];
	int wd;

	if (w->inotify < 0)
		return;
	snprintf(whole, sizeof whole, "%s/%s", w->conf->cache, path);
	wd = inotify_add_watch(w->inotify, whole, EVENTS);
	if (wd < 0)
		return;
	for (unsigned i = 0; i < w->n; i++)
		if (w->dirs[i].wd == wd)
			return;
	if (w->n < DIRECTORIES && (w->dirs[w->n].path = strdup(path)) != NULL)
		w->dirs[w->n++].wd = wd;
}

static int
event(struct watch *w, const struct inotify_event *ev, struct err *e)
{
	char path[LIMIT_PATH];

	if ((ev->mask & (IN_Q_OVERFLOW | IN_IGNORED | IN_ISDIR)) != 0) {
		w->rescan = 1;
		return 0;
	}
	for (unsigned i = 0; i < w->n && ev->len > 0; i++)
		if (w->dirs[i].wd == ev->wd) {
			int n = snprintf(path, sizeof path, "%s%s%s", w->dirs[i].path,
			    w->dirs[i].path[0] == '\0' ? "" : "/", ev->name);

			return n < (int)sizeof path && ev->name[0] != '.' ? scan_file(&w->scan, path, e) : 0;
		}
	return 0;
}

static int
read_events(struct watch *w, struct err *e)
{
	/* As the kernel aligns them. */
	union {
		struct inotify_event ev;
		char bytes[16384];
	} buf;
	ssize_t n;

	while ((n = read(w->inotify, &buf, sizeof buf)) > 0)
		for (ssize_t at = 0; at < n;) {
			struct inotify_event head;

			memcpy(&head, buf.bytes + at, sizeof head);
			if (event(w, (const struct inotify_event *)(const void *)(buf.bytes + at), e) != 0)
				return -1;
			at += (ssize_t)(sizeof head + head.len);
		}
	return 0;
}

/* 1: nobody is at the other end any more. */
static int
read_wrong(struct watch *w, struct err *e)
{
	uint32_t id;
	ssize_t n;

	while ((n = recv(w->wrong, &id, sizeof id, MSG_DONTWAIT)) == (ssize_t)sizeof id) {
		w->shared->reindexed++;
		if ((id == 0 ? catalog_check(w->scan.catalog, e) : scan_again(&w->scan, id, e)) != 0)
			return -1;
	}
	return n == 0;
}

static int
scan(struct watch *w, struct err *e)
{
	w->rescan = 0;
	w->shared->indexing = 1;
	if (scan_all(&w->scan, e) == 0) {
		if (w->scan.changed + w->scan.gone > 0)
			fprintf(stderr,
			    "narlock-publish: %llu narinfos, %llu nars; %llu changes, %llu gone\n",
			    (unsigned long long)w->scan.infos, (unsigned long long)w->scan.nars,
			    (unsigned long long)w->scan.changed, (unsigned long long)w->scan.gone);
		if (w->scan.infos > 0 && w->scan.nars == 0)
			fprintf(stderr, "narlock-publish: " SCAN_NO_NARS "\n");
		return 0;
	}
	/* A cache that is away may come back; an index that fails is the end. */
	if (e->code == 0 || e->code == CATALOG_DAMAGED)
		return -1;
	fprintf(stderr, "narlock-publish: %s\n", e->text);
	return 0;
}

/* For the status page.  Counting a million rows takes a moment: not at every turn. */
static int
tell(struct watch *w, struct err *e)
{
	struct catalog_nar any;
	struct catalog_totals t;
	int rc = catalog_next(w->scan.catalog, 0, 1, &any, e);

	if (rc < 0 || catalog_totals(w->scan.catalog, &t, e) != 0)
		return -1;
	w->shared->indexing = rc > 0;
	w->shared->totals = t;
	w->shared->totals_at = time(NULL);
	return 0;
}

/* Whether the name of the cache leads to another directory than the one that is open. */
static int
has_moved(const struct watch *w)
{
	struct stat here, there;

	return fstat(w->scan.cache, &here) == 0 && stat(w->conf->cache, &there) == 0 &&
	    S_ISDIR(there.st_mode) &&
	    (here.st_ino != there.st_ino || here.st_dev != there.st_dev);
}

static int64_t
seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

static int
loop(struct watch *w, const volatile sig_atomic_t *stop, struct err *e)
{
	struct build_options o = { w->scan.catalog, w->scan.cache, w->conf->index_threads, stop, TURN, 0 };
	struct pollfd p[2] = { { w->wrong, POLLIN, 0 }, { w->inotify, POLLIN, 0 } };
	int64_t next = 0, tell_at = 0;
	int rc = 0, changed = 1;

	while (!*stop && rc == 0) {
		struct build_report r;

		if (has_moved(w)) {
			err_set(e, "the cache is another directory now");
			e->code = WATCH_MOVED;
			return -1;
		}
		if (seconds() >= next || w->rescan) {
			rc = scan(w, e);
			next = seconds() + w->conf->scan_interval;
		}
		if (rc == 0)
			rc = build_run(&o, &r, e);
		if (rc == 0 && r.nars > 0 && r.seconds > 1)
			fprintf(stderr, "narlock-publish: %llu nars, %.1f GB indexed, %.0f MB/s\n",
			    (unsigned long long)r.nars,
			    (double)r.bytes / 1e9, (double)r.bytes / 1e6 / r.seconds);
		if (rc == 0) {
			w->shared->indexed_bytes += r.bytes;
			w->shared->reindexed += r.changed;
			changed |= r.nars + r.gone + r.unusable > 0 || w->scan.changed + w->scan.gone > 0;
			w->scan.changed = w->scan.gone = 0;
			if (changed && seconds() >= tell_at) {
				int64_t began = seconds();

				rc = tell(w, e);
				/* A large index is counted less often. */
				tell_at = seconds() + TELL + 60 * (seconds() - began);
				changed = 0;
			}
		}
		if (rc != 0 || *stop || poll(p, 2, 1000) <= 0)
			continue;
		if (p[1].revents != 0)
			rc = read_events(w, e);
		if (rc == 0 && p[0].revents != 0)
			rc = read_wrong(w, e);
	}
	return rc < 0 ? -1 : 0;
}

int
watch_run(const struct conf *conf, int cache, const char *index, int wrong, struct shared *shared,
    const volatile sig_atomic_t *stop, struct err *e)
{
	struct watch *w = calloc(1, sizeof *w);
	int rc = -1;

	if (w == NULL)
		return err_set(e, "out of memory");
	w->conf = conf;
	w->wrong = wrong;
	w->shared = shared;
	w->scan = (struct scan){ .cache = cache, .stop = stop, .directory = watch_directory, .ctx = w };
	w->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (w->inotify < 0)
		fprintf(stderr, "narlock-publish: no inotify (%s): new nars are found every %u s\n",
		    strerror(errno),
		    conf->scan_interval);
	w->scan.catalog = catalog_open(index, 1, e);
	if (w->scan.catalog != NULL)
		rc = loop(w, stop, e);
	catalog_close(w->scan.catalog);
	if (w->inotify >= 0)
		close(w->inotify);
	for (unsigned i = 0; i < w->n; i++)
		free(w->dirs[i].path);
	free(w);
	return rc;
}
