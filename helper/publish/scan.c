/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): find out what is in the cache: all of it, or what inotify tells. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "helper/publish/build.h"
#include "helper/publish/files.h"
#include "helper/publish/info.h"
#include "helper/publish/scan.h"

/* Changes in one transaction: others wait meanwhile. */
#define BUNDLE 2000

static int
ends_with(const char *path, const char *end)
{
	size_t n = strlen(path), m = strlen(end);

	return n > m && strcmp(path + n - m, end) == 0;
}

/* Somebody else may have the file for a moment only; "gone" is what it is only without doubt. */
static int
is_gone(int error)
{
	return error == ENOENT || error == ENOTDIR || error == ELOOP;
}

/* The nar of one group. */
static int
put_nar(struct scan *s, int64_t hash, const struct info_group *g, struct err *e)
{
	struct info_text url = g->url;
	char path[LIMIT_PATH];

	for (int form = 0; form < INFO_FORMS; form++) {
		struct stat st;
		int fd, changed;

		if (info_file(path, url.at, url.len, form, 1) != 0)
			continue;
		fd = files_open(s->cache, path, &st);
		if (fd < 0)
			continue;
		close(fd);
		s->nars++;
		if (catalog_put_nar(s->catalog, hash, path, (uint64_t)st.st_size, files_mtime(&st), &changed,
		    e) != 0)
			return -1;
		s->changed += changed != 0;
		return 0;
	}
	return 0;
}

/* Manifests carry the narinfo: another one, other manifests. */
static int
renew_manifests(struct scan *s, int64_t hash, struct err *e)
{
	struct catalog_nar *nars = malloc(LIMIT_NARINFO_URLS * sizeof *nars);
	unsigned n = 0;
	int rc = nars == NULL ? err_set(e, "out of memory") :
	    catalog_nars_of(s->catalog, hash, nars, LIMIT_NARINFO_URLS, &n, e);

	for (unsigned i = 0; i < n && rc == 0; i++)
		if (nars[i].state == CATALOG_READY && (build_manifest(s->catalog, s->cache, &nars[i],
		    e) != 0 ||
		    catalog_ready(s->catalog, &nars[i], e) != 0)) {
			/* An index that lacks a node of it is mended by reading the nar again. */
			rc = e->code == CATALOG_DAMAGED ? catalog_again(s->catalog, nars[i].id, e) : -1;
		}
	free(nars);
	return rc;
}

/* One narinfo, in a transaction.  A cache can have several of one item, from several settings of its
 * publisher: the newest counts. */
static int
put_info(struct scan *s, const char *path, struct err *e)
{
	struct catalog_info old, info;
	struct info parsed;
	struct stat st, other;
	const char *part;
	char *text;
	size_t len;
	int rc, known, fd = -1;

	if (strlen(path) >= sizeof info.path || files_text(s->cache, path, LIMIT_NARINFO, &text, &len,
	    &st) != 0)
		return 0;
	rc = info_parse(&parsed, text, len);
	part = rc == 0 ? info_hash_part(&parsed) : NULL;
	if (part == NULL) {
		free(text);
		return 0;
	}
	s->infos++;
	info.hash = catalog_hash(part);
	info.mtime = files_mtime(&st);
	strcpy(info.path, path);
	for (unsigned g = 0; g < parsed.n && rc == 0; g++)
		rc = put_nar(s, info.hash, &parsed.groups[g], e);
	free(text);
	if (rc != 0 || (known = catalog_info(s->catalog, info.hash, &old, e)) < 0)
		return -1;
	if (known && strcmp(old.path, path) == 0 && old.mtime == info.mtime)
		return 0;
	if (known && strcmp(old.path, path) != 0 && (fd = files_open(s->cache, old.path, &other)) >= 0) {
		close(fd);
		if (files_mtime(&other) >= info.mtime)
			return 0;
	}
	s->changed++;
	if (catalog_put_info(s->catalog, &info, e) != 0)
		return -1;
	return renew_manifests(s, info.hash, e);
}

/* --- All ---------------------------------------------------------------------------------------------- */

struct bundle {
	struct scan *s;
	unsigned n;
};

/* One more change: a transaction is begun, or ended. */
static int
in_bundle(struct bundle *b, struct err *e)
{
	if (b->n++ % BUNDLE != 0)
		return 0;
	if (b->n > 1 && catalog_commit(b->s->catalog, e) != 0)
		return -1;
	return catalog_begin(b->s->catalog, e);
}

struct place {
	DIR *dir;
	size_t len; /* of its path */
};

static int
open_place(struct scan *s, struct place *p, const char *path, struct err *e)
{
	int fd = path[0] == '\0' ? openat(s->cache, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) :
	    openat(s->cache, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	p->dir = fd < 0 ? NULL : fdopendir(fd);
	p->len = strlen(path);
	if (p->dir == NULL) {
		err_sys(e, errno, "the cache: %s", path[0] == '\0' ? "." : path);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	if (s->directory != NULL)
		s->directory(s->ctx, path);
	return 0;
}

/* All narinfos below the cache. */
static int
walk(struct bundle *b, struct err *e)
{
	struct place at[SCAN_DEPTH];
	char path[LIMIT_PATH] = "";
	int depth = 0, rc = open_place(b->s, &at[0], path, e);

	if (rc != 0)
		return -1;
	while (depth >= 0 && rc == 0 && (b->s->stop == NULL || !*b->s->stop)) {
		const struct dirent *d = readdir(at[depth].dir);
		size_t len = at[depth].len;

		if (d == NULL) {
			closedir(at[depth--].dir);
			continue;
		}
		if (d->d_name[0] == '.' || len + strlen(d->d_name) + 2 > sizeof path)
			continue;
		sprintf(path + len, "%s%s", len > 0 ? "/" : "", d->d_name);
		if (ends_with(path, ".narinfo"))
			rc = in_bundle(b, e) != 0 ? -1 : put_info(b->s, path, e);
		else if (d->d_type == DT_DIR && depth + 1 < SCAN_DEPTH && strcmp(d->d_name, "hashes") != 0 &&
		    open_place(b->s, &at[depth + 1], path, NULL) == 0)
			depth++;
		path[at[depth].len] = '\0';
	}
	for (; depth >= 0; depth--)
		closedir(at[depth].dir);
	return rc;
}

/* What the index has and the cache has not, or not so. */
static int
check_nar(struct scan *s, const struct catalog_nar *nar, struct err *e)
{
	struct stat st;
	int fd = files_open(s->cache, nar->path, &st), changed;

	if (fd < 0 && !is_gone(errno))
		return 0;
	if (fd < 0) {
		s->gone++;
		return catalog_drop_nar(s->catalog, nar->id, e);
	}
	close(fd);
	if (nar->size == (uint64_t)st.st_size && nar->mtime == files_mtime(&st))
		return 0;
	s->changed++;
	return catalog_put_nar(s->catalog, nar->hash, nar->path, (uint64_t)st.st_size, files_mtime(&st),
	    &changed, e);
}

static int
check_info(struct scan *s, const struct catalog_info *info, struct err *e)
{
	struct stat st;
	int fd = files_open(s->cache, info->path, &st);

	if (fd >= 0)
		close(fd);
	else if (is_gone(errno)) {
		s->gone++;
		return catalog_drop_info(s->catalog, info->hash, e);
	}
	return 0;
}

static int
check_known(struct bundle *b, struct err *e)
{
	struct catalog_nar nar = { 0 };
	struct catalog_info info = { .hash = -1 };
	struct scan *s = b->s;
	int rc;

	while ((rc = catalog_next(s->catalog, nar.id, 0, &nar, e)) > 0)
		if (in_bundle(b, e) != 0 || check_nar(s, &nar, e) != 0)
			return -1;
	while (rc == 0 && (rc = catalog_next_info(s->catalog, info.hash, &info, e)) > 0) {
		if (in_bundle(b, e) != 0 || check_info(s, &info, e) != 0)
			return -1;
		rc = 0;
	}
	return rc;
}

int
scan_all(struct scan *s, struct err *e)
{
	struct bundle b = { .s = s };
	int rc;

	s->infos = s->nars = s->changed = s->gone = 0;
	rc = walk(&b, e);
	/* An empty directory is where a file system is not mounted, more often than the end of everything:
	 * what was known stays known, and answers 410 until it is back. */
	if (rc == 0 && s->infos > 0 && (s->stop == NULL || !*s->stop))
		rc = check_known(&b, e);
	if (b.n > 0 && rc == 0)
		return catalog_commit(s->catalog, e);
	catalog_rollback(s->catalog);
	return rc;
}

/* --- One ---------------------------------------------------------------------------------------------- */

static int
one(struct scan *s, const char *path, struct err *e)
{
	struct catalog_nar *nars;
	struct catalog_info info;
	const char *item = info_item(path);
	unsigned n = 0;
	int rc;

	if (ends_with(path, ".narinfo") && put_info(s, path, e) != 0)
		return -1;
	if (item == NULL)
		return 0;
	rc = catalog_info(s->catalog, catalog_hash(item), &info, e);
	if (rc > 0)
		rc = check_info(s, &info, e);
	nars = malloc(LIMIT_NARINFO_URLS * sizeof *nars);
	if (nars == NULL)
		return err_set(e, "out of memory");
	if (rc == 0)
		rc = catalog_nars_of(s->catalog, catalog_hash(item), nars, LIMIT_NARINFO_URLS, &n, e);
	for (unsigned i = 0; i < n && rc == 0; i++)
		rc = check_nar(s, &nars[i], e);
	free(nars);
	return rc;
}

int
scan_file(struct scan *s, const char *path, struct err *e)
{
	if (!ends_with(path, ".narinfo") && !ends_with(path, ".nar"))
		return 0;
	if (catalog_begin(s->catalog, e) != 0)
		return -1;
	if (one(s, path, e) == 0)
		return catalog_commit(s->catalog, e);
	catalog_rollback(s->catalog);
	return -1;
}

int
scan_again(struct scan *s, uint32_t id, struct err *e)
{
	struct catalog_nar nar;
	struct stat st;
	int fd, rc;

	if (catalog_begin(s->catalog, e) != 0)
		return -1;
	rc = catalog_nar(s->catalog, id, &nar, e);
	if (rc > 0) {
		rc = check_nar(s, &nar, e);
		/* Size and time say that it is the same: the blocks say that it is not. */
		fd = rc == 0 ? files_open(s->cache, nar.path, &st) : -1;
		if (fd >= 0)
			close(fd);
		if (fd >= 0 && nar.size == (uint64_t)st.st_size && nar.mtime == files_mtime(&st))
			rc = catalog_again(s->catalog, id, e);
	}
	if (rc == 0)
		return catalog_commit(s->catalog, e);
	catalog_rollback(s->catalog);
	return -1;
}
