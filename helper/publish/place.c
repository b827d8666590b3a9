/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): blocks on demand: from a reference to the bytes of a nar, or to a node of the index. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "helper/eris/block.h"
#include "helper/publish/files.h"
#include "helper/publish/pack.h"
#include "helper/publish/place.h"

/* For how long a nar that is wrong is not looked at again. */
#define WRONG_MS 500

struct opened {
	uint32_t id;   /* 0: nothing here */
	int fd;        /* -1: it cannot be had */
	uint64_t size;
	int64_t mtime, since, until; /* SINCE, UNTIL: milliseconds */
	int told;      /* that it is wrong */
};

struct place {
	int cache, wrong, own;
	int64_t now;
	struct catalog *catalog;
	struct opened open[PLACE_OPEN];
};

struct place *
place_new(int cache, const char *index, int wrong, struct err *e)
{
	struct place *p = calloc(1, sizeof *p);

	if (p == NULL) {
		err_set(e, "out of memory");
		return NULL;
	}
	p->cache = cache;
	p->wrong = wrong;
	p->catalog = catalog_open(index, 0, e);
	if (p->catalog == NULL) {
		free(p);
		return NULL;
	}
	return p;
}

void
place_free(struct place *p)
{
	if (p == NULL)
		return;
	for (unsigned i = 0; i < PLACE_OPEN; i++)
		if (p->open[i].id != 0 && p->open[i].fd >= 0)
			close(p->open[i].fd);
	catalog_close(p->catalog);
	free(p);
}

void
place_own(struct place *p)
{
	p->own = 1;
}

struct catalog *
place_catalog(struct place *p)
{
	return p->catalog;
}

void
place_broken(struct place *p)
{
	const uint32_t none = 0;

	if (p->wrong >= 0)
		send(p->wrong, &none, sizeof none, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int
place_begin(struct place *p, struct place_job *job, const uint8_t ref[ERIS_REF], struct err *e)
{
	memcpy(job->ref, ref, ERIS_REF);
	job->at = job->n = 0;
	job->gone = 0;
	return catalog_find(p->catalog, ref, job->places, &job->n, e);
}

/* It is not as it was indexed: say so, once. */
static void
is_wrong(struct place *p, struct place_job *job, struct opened *o)
{
	job->gone = 1;
	if (o->told || p->wrong < 0)
		return;
	o->told = 1;
	/* It will not stay like this for long: the index is asked again soon. */
	o->until = p->now + WRONG_MS;
	send(p->wrong, &o->id, sizeof o->id, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Before it is called wrong: the file or the index may have been replaced since it was opened.  1: look again. */
static int
is_old(const struct place *p, struct opened *o)
{
	if (p->now - o->since < WRONG_MS)
		return 0;
	o->until = 0;
	return 1;
}

/* The nar of a place, or NULL if the index does not know it. */
static struct opened *
find(struct place *p, uint32_t id, int64_t now)
{
	struct opened *o = &p->open[id % PLACE_OPEN];
	struct catalog_nar nar;
	struct stat st;

	if (o->id == id && now < o->until)
		return o;
	if (o->id != 0 && o->fd >= 0)
		close(o->fd);
	o->id = 0;
	if (catalog_nar(p->catalog, id, &nar, NULL) <= 0)
		return NULL;
	*o = (struct opened){ .id = id, .size = nar.size, .mtime = nar.mtime,
	    .since = now, .until = now + PLACE_FRESH_MS };
	o->fd = files_open(p->cache, nar.path, &st);
	if (o->fd >= 0 && p->own)
		files_used(o->fd, &st);
	return o;
}

/* The leaf NUMBER of an open nar: plain, with padding. */
static int
read_leaf(struct opened *o, uint32_t number, uint8_t *data)
{
	uint64_t offset = (uint64_t)number * ERIS_LARGE;
	size_t len = o->size - offset < ERIS_LARGE ? (size_t)(o->size - offset) : ERIS_LARGE;
	struct stat st;

	if (o->fd < 0 || fstat(o->fd, &st) != 0 || (uint64_t)st.st_size != o->size ||
	    files_mtime(&st) != o->mtime ||
	    files_read(o->fd, data, len, offset) != (int64_t)len)
		return -1;
	if (len < ERIS_LARGE) {
		data[len] = 0x80;
		memset(data + len + 1, 0, ERIS_LARGE - len - 1);
	}
	return 0;
}

/* Every node as it comes, until it is the one. */
static int
keep_node(void *ctx, enum car_kind kind, const uint8_t hash[ERIS_REF], const uint8_t *data, size_t len,
    struct err *e)
{
	struct place_job *job = ctx;

	if (memcmp(hash, job->ref, ERIS_REF) != 0)
		return 0;
	job->manifest = malloc(len);
	if (job->manifest == NULL)
		return err_set(e, "out of memory");
	memcpy(job->manifest, data, len);
	job->len = len;
	job->file = kind == CAR_FILE;
	return err_set(e, "found");
}

/* Whether a nar's manifest has this node: the short key has led here, which others can have, too. */
static int
has_node(struct place *p, const struct catalog_nar *nar, const uint8_t ref[ERIS_REF], uint8_t *data)
{
	if (memcmp(nar->manifest, ref, ERIS_REF) == 0)
		return 1;
	for (uint32_t row = CATALOG_MANIFEST; catalog_node(p->catalog, nar->id, row, data, NULL) > 0; row--)
		for (size_t i = 0; i < ERIS_LARGE; i += ERIS_PAIR)
			if (memcmp(data + i, ref, ERIS_REF) == 0)
				return 1;
	return 0;
}

static enum place_step
load_manifest(struct place *p, struct place_job *job, uint32_t id, uint8_t *data)
{
	struct catalog_nar nar;
	struct catalog_info info;
	struct stat st;
	uint8_t root[ERIS_REF];
	char *text;
	size_t len;
	struct err e;

	job->manifest = NULL;
	if (catalog_nar(p->catalog, id, &nar, NULL) <= 0 || !nar.has_manifest ||
	    !has_node(p, &nar, job->ref, data) ||
	    catalog_info(p->catalog, nar.hash, &info, NULL) <= 0 ||
	    files_text(p->cache, info.path, MANIFEST_NARINFO, &text, &len, &st) != 0)
		return PLACE_NONE;
	pack_manifest(p->catalog, &nar, text, len, keep_node, job, root, &e);
	free(text);
	return job->manifest != NULL ? PLACE_MANIFEST : PLACE_NONE;
}

static enum place_step
load(struct place *p, struct place_job *job, const struct catalog_place *at, uint8_t *data, int64_t now)
{
	struct opened *o = find(p, at->nar, now);
	struct eris_pair pair;

	if (o == NULL)
		return PLACE_NONE;
	if (at->number == CATALOG_MANIFEST)
		return load_manifest(p, job, at->nar, data);
	if (at->number < catalog_leaves(o->size)) {
		if (read_leaf(o, at->number, data) == 0)
			return PLACE_LEAF;
		if (is_old(p, o))
			return load(p, job, at, data, now);
		is_wrong(p, job, o);
		return PLACE_NONE;
	}
	if (catalog_node(p->catalog, at->nar, at->number, data, NULL) <= 0)
		return PLACE_NONE;
	/* The nodes of a nar that is gone could still be had, but they would lead nowhere. */
	if (o->fd < 0) {
		is_wrong(p, job, o);
		return PLACE_NONE;
	}
	block_seal_node(data, ERIS_LARGE, catalog_level(o->size, at->number), &pair);
	return memcmp(pair.ref, job->ref, ERIS_REF) == 0 ? PLACE_NODE : PLACE_NONE;
}

enum place_step
place_load(struct place *p, struct place_job *job, uint8_t *data, int64_t now)
{
	p->now = now;
	while (job->at < job->n) {
		enum place_step step = load(p, job, &job->places[job->at++], data, now);

		if (step != PLACE_NONE)
			return step;
	}
	return PLACE_NONE;
}

int
place_check(struct place *p, struct place_job *job, const uint8_t ref[ERIS_REF])
{
	struct opened *o = &p->open[job->places[job->at - 1].nar % PLACE_OPEN];

	if (memcmp(ref, job->ref, ERIS_REF) == 0)
		return 1;
	/* Another block whose reference begins in the same way is no sign of a change. */
	if (memcmp(ref, job->ref, CATALOG_SHORT) == 0 || o->id != job->places[job->at - 1].nar)
		return 0;
	if (is_old(p, o))
		job->at--;
	else
		is_wrong(p, job, o);
	return 0;
}
