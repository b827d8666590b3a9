/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): the commands of narlock-publish that are not the server. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "helper/eris/encode.h"
#include "helper/publish/build.h"
#include "helper/publish/catalog.h"
#include "helper/publish/files.h"
#include "helper/publish/scan.h"
#include "helper/publish/tool.h"

int
tool_open_cache(const struct conf *conf, struct err *e)
{
	int fd;

	if (conf->mirror && mkdir(conf->cache, 0755) != 0 && errno != EEXIST)
		return err_sys(e, errno, "cannot make %s", conf->cache);
	fd = open(conf->cache, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? err_sys(e, errno, "the cache %s", conf->cache) : fd;
}

int
tool_index_path(const struct conf *conf, char path[LIMIT_PATH], struct err *e)
{
	int n = snprintf(path, LIMIT_PATH, "%s/" TOOL_INDEX, conf->state);

	return n < LIMIT_PATH - 8 ? n : err_set(e, "the name of the state directory is too long");
}

/* SQLite's companions of a file belong to its name. */
static const char *const companions[] = { "", "-wal", "-shm" };
enum { COMPANIONS = 3 };

/* Bytes of the index that was set aside. */
static uint64_t
aside_bytes(const char *path)
{
	char name[LIMIT_PATH + 16];
	uint64_t bytes = 0;
	struct stat st;

	for (unsigned i = 0; i < COMPANIONS; i++) {
		snprintf(name, sizeof name, "%s.damaged%s", path, companions[i]);
		if (lstat(name, &st) == 0 && S_ISREG(st.st_mode))
			bytes += (uint64_t)st.st_size;
	}
	return bytes;
}

/* There is never more than one: it takes the place of the one before.  WHY: what is wrong with it. */
static int
set_aside(const char *path, const char *why, struct err *e)
{
	char from[LIMIT_PATH + 8], to[LIMIT_PATH + 16];
	uint64_t before = aside_bytes(path);

	for (unsigned i = 0; i < COMPANIONS; i++) {
		snprintf(from, sizeof from, "%s%s", path, companions[i]);
		snprintf(to, sizeof to, "%s.damaged%s", path, companions[i]);
		if (unlink(to) != 0 && errno != ENOENT)
			return err_sys(e, errno, "cannot remove %s", to);
		if (rename(from, to) != 0 && errno != ENOENT)
			return err_sys(e, errno, "cannot set %s aside", from);
	}
	fprintf(stderr,
	    "narlock-publish: %s; it is kept as %s.damaged (%llu bytes, nobody needs it%s), and a new one is built\n", why,
	    path, (unsigned long long)aside_bytes(path), before > 0 ? "; the one that was kept there is gone" : "");
	return 0;
}

int
tool_prepare(const struct conf *conf, struct err *e)
{
	char path[LIMIT_PATH];
	struct catalog *c;

	if (tool_index_path(conf, path, e) < 0)
		return -1;
	c = catalog_open(path, 1, e);
	if (c == NULL && e->code == CATALOG_DAMAGED) {
		struct err why = *e;

		if (set_aside(path, why.text, e) == 0)
			c = catalog_open(path, 1, e);
	}
	catalog_close(c);
	return c == NULL ? -1 : 0;
}

int
tool_renew(const struct conf *conf, struct err *e)
{
	char path[LIMIT_PATH];

	if (tool_index_path(conf, path, e) < 0 || set_aside(path, "the index is damaged", e) != 0)
		return -1;
	return tool_prepare(conf, e);
}

/* --- index -------------------------------------------------------------------------------------------- */

int
tool_index(const struct conf *conf, int cache, const volatile sig_atomic_t *stop, struct err *e)
{
	struct scan s = { .cache = cache, .stop = stop };
	char path[LIMIT_PATH];
	struct build_options o = { .cache = cache, .threads = conf->index_threads, .stop = stop };
	struct build_report r;
	int rc;

	o.progress = isatty(STDERR_FILENO) ? 2 : 1;
	if (tool_index_path(conf, path, e) < 0 || (s.catalog = o.catalog = catalog_open(path, 1, e)) == NULL)
		return -1;
	rc = scan_all(&s, e);
	if (rc == 0)
		rc = build_run(&o, &r, e);
	catalog_close(s.catalog);
	if (rc != 0)
		return -1;
	printf("%llu narinfos, %llu nars; %llu changes, %llu gone\n", (unsigned long long)s.infos,
	    (unsigned long long)s.nars, (unsigned long long)s.changed, (unsigned long long)s.gone);
	if (s.infos > 0 && s.nars == 0)
		fprintf(stderr, "narlock-publish: " SCAN_NO_NARS "\n");
	printf("indexed: %llu nars, %llu bytes in %.1f s (%.0f MB/s)\n", (unsigned long long)r.nars,
	    (unsigned long long)r.bytes, r.seconds, r.seconds > 0 ? (double)r.bytes / 1e6 / r.seconds : 0.0);
	if (r.gone + r.changed + r.unusable > 0)
		printf("left out: %llu gone, %llu changed meanwhile, %llu unusable\n",
		    (unsigned long long)r.gone,
		    (unsigned long long)r.changed, (unsigned long long)r.unusable);
	return stop != NULL && *stop ? 1 : 0;
}

/* --- status ------------------------------------------------------------------------------------------- */

int
tool_status(const struct conf *conf, struct err *e)
{
	struct catalog_totals t;
	struct catalog *c;
	char path[LIMIT_PATH];
	int rc;

	if (tool_index_path(conf, path, e) < 0 || (c = catalog_open(path, 0, e)) == NULL)
		return -1;
	rc = catalog_totals(c, &t, e);
	catalog_close(c);
	if (rc != 0)
		return -1;
	printf("narinfos:    %llu\nnars:        %llu, %llu of them indexed\nnar bytes:   %llu, %llu of them indexed\n"
	    "blocks:      %llu\nindex bytes: %llu (%.3f %%)\n", (unsigned long long)t.infos,
	    (unsigned long long)t.nars,
	    (unsigned long long)t.ready, (unsigned long long)t.bytes, (unsigned long long)t.ready_bytes,
	    (unsigned long long)t.blocks, (unsigned long long)t.file,
	    t.ready_bytes > 0 ? 100.0 * (double)t.file / (double)t.ready_bytes : 0.0);
	if (aside_bytes(path) > 0)
		printf("set aside:   %llu bytes, an older index: %s.damaged can be removed\n",
		    (unsigned long long)aside_bytes(path), path);
	return 0;
}

/* --- verify ------------------------------------------------------------------------------------------- */

struct verify {
	struct catalog *c;
	const struct catalog_nar *nar;
	uint32_t next[ERIS_LEVEL_LARGE + 1]; /* block of each level that comes next, counted from 0 */
	uint64_t missing;
};

/* Whether the index leads from the reference to this block. */
static int
compare(void *ctx, const struct encode_block *b, struct err *e)
{
	struct verify *v = ctx;
	uint32_t number = catalog_first(v->nar->size, b->level) + v->next[b->level]++;
	struct catalog_place places[CATALOG_PLACES];
	unsigned n;

	if (catalog_find(v->c, b->pair->ref, places, &n, e) != 0)
		return -1;
	for (unsigned i = 0; i < n; i++)
		if (places[i].nar == v->nar->id && places[i].number == number)
			return 0;
	/* A block that is everywhere has more places than are looked at. */
	v->missing += n < CATALOG_PLACES;
	return 0;
}

static int
same_cap(const struct eris_cap *a, const struct eris_cap *b)
{
	return a->block_size == b->block_size && a->level == b->level && memcmp(&a->root, &b->root,
	    ERIS_PAIR) == 0;
}

/* What is wrong with a nar, or NULL; -1 into *RC if it cannot be told. */
static const char *
verify_nar(struct catalog *c, int cache, const struct catalog_nar *nar, int *rc, struct err *e)
{
	struct verify v = { .c = c, .nar = nar };
	const struct encode_options o = { .block_size = ERIS_LARGE, .sink = compare, .ctx = &v };
	struct encode *encoder;
	struct eris_cap cap;
	struct stat st;
	uint64_t at = 0;
	int64_t n = 1;
	int fd = files_open(cache, nar->path, &st);

	if (fd < 0)
		return "cannot be opened";
	if ((uint64_t)st.st_size != nar->size || files_mtime(&st) != nar->mtime) {
		close(fd);
		return "has changed since it was indexed";
	}
	files_whole(fd);
	encoder = encode_new(&o, e);
	*rc = encoder == NULL ? -1 : 0;
	while (*rc == 0 && n > 0) {
		size_t room;
		uint8_t *to = encode_room(encoder, &room);

		n = files_read(fd, to, room, at);
		if (n > 0) {
			at += (uint64_t)n;
			*rc = encode_add(encoder, (size_t)n, e);
		}
	}
	close(fd);
	if (*rc == 0)
		*rc = encode_end(encoder, &cap, e);
	encode_free(encoder);
	if (*rc != 0)
		return NULL;
	if (at != nar->size || !same_cap(&cap, &nar->cap))
		return "is not what was indexed";
	return v.missing > 0 ? "has blocks that the index does not know" : NULL;
}

int
tool_verify(const struct conf *conf, int cache, unsigned sample, const volatile sig_atomic_t *stop,
    struct err *e)
{
	struct catalog_nar nar = { 0 };
	uint64_t good = 0, bad = 0, waiting = 0;
	struct catalog *c;
	char path[LIMIT_PATH];
	int rc;

	if (tool_index_path(conf, path, e) < 0 || (c = catalog_open(path, 0, e)) == NULL)
		return -1;
	rc = catalog_check(c, e);
	while (rc == 0 && (stop == NULL || !*stop)) {
		const char *wrong;

		rc = catalog_next(c, nar.id, 0, &nar, e);
		if (rc <= 0)
			break;
		rc = 0;
		waiting += nar.state != CATALOG_READY;
		if (nar.state != CATALOG_READY || nar.id % sample != 0)
			continue;
		wrong = verify_nar(c, cache, &nar, &rc, e);
		if (wrong != NULL)
			printf("%s: %s\n", nar.path, wrong);
		bad += wrong != NULL;
		good += wrong == NULL && rc == 0;
	}
	catalog_close(c);
	if (rc < 0)
		return -1;
	printf("%llu nars are as indexed, %llu are not, %llu are not indexed yet\n", (unsigned long long)good,
	    (unsigned long long)bad, (unsigned long long)waiting);
	return bad > 0 ? 1 : 0;
}
