/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): the blocks of a nar that is in the index, in the order of its manifest, and the manifest
 * itself. */
#include <stdlib.h>
#include <string.h>

#include "helper/eris/block.h"
#include "helper/eris/urn.h"
#include "helper/publish/pack.h"

/* One level of the way from the root to the block in hand. */
struct level {
	uint8_t *plain;
	unsigned at, count;
	uint32_t number; /* of the node */
};

struct walk {
	struct catalog *c;
	const struct catalog_nar *nar;
	pack_block block;
	void *ctx;
	struct level level[ERIS_LEVEL_LARGE + 1];
};

/* The node NUMBER of LEVEL becomes the one in hand. */
static int
enter(struct walk *w, unsigned level, uint32_t number, const struct eris_pair *pair, struct err *e)
{
	struct level *l = &w->level[level];
	int rc;

	if (l->plain == NULL && (l->plain = malloc(ERIS_LARGE)) == NULL)
		return err_set(e, "out of memory");
	rc = catalog_node(w->c, w->nar->id, number, l->plain, e);
	if (rc > 0 && block_children(l->plain, ERIS_LARGE, &l->count) != NULL)
		rc = 0;
	if (rc == 0) {
		rc = err_set(e, "the index lacks a node of %s", w->nar->path);
		e->code = CATALOG_DAMAGED;
	}
	l->at = 0;
	l->number = number;
	return rc < 0 ? -1 : w->block(w->ctx, number, level, pair, l->plain, e);
}

static int
walk(struct walk *w, struct err *e)
{
	unsigned top = w->nar->cap.level, level = top;

	if (top == 0)
		return w->block(w->ctx, 0, 0, &w->nar->cap.root, NULL, e);
	if (enter(w, top, catalog_first(w->nar->size, top), &w->nar->cap.root, e) != 0)
		return -1;
	while (level <= top) {
		struct level *l = &w->level[level];
		struct eris_pair pair;
		uint32_t child;

		if (l->at == l->count) {
			level++;
			continue;
		}
		memcpy(&pair, l->plain + l->at * ERIS_PAIR, sizeof pair);
		child = catalog_first(w->nar->size, level - 1) +
		    (l->number - catalog_first(w->nar->size, level)) * 512 + l->at++;
		if (level > 1) {
			if (enter(w, --level, child, &pair, e) != 0)
				return -1;
		} else if (w->block(w->ctx, child, 0, &pair, NULL, e) != 0)
			return -1;
	}
	return 0;
}

int
pack_walk(struct catalog *c, const struct catalog_nar *nar, pack_block block, void *ctx, struct err *e)
{
	struct walk w = { .c = c, .nar = nar, .block = block, .ctx = ctx };
	int rc;

	if (nar->state != CATALOG_READY || nar->cap.level > ERIS_LEVEL_LARGE)
		return err_set(e, "%s is not in the index yet", nar->path);
	rc = walk(&w, e);
	for (unsigned i = 0; i <= ERIS_LEVEL_LARGE; i++)
		free(w.level[i].plain);
	return rc;
}

static int
add(void *ctx, uint32_t number, unsigned level, const struct eris_pair *pair, const uint8_t *plain,
    struct err *e)
{
	(void)number;
	(void)level;
	(void)plain;
	return manifest_add(ctx, pair->ref, e);
}

static int
no_sink(void *ctx, enum car_kind kind, const uint8_t hash[ERIS_REF], const uint8_t *data, size_t len,
    struct err *e)
{
	(void)ctx;
	(void)kind;
	(void)hash;
	(void)data;
	(void)len;
	(void)e;
	return 0;
}

int
pack_manifest(struct catalog *c, const struct catalog_nar *nar, const char *narinfo, size_t len,
    manifest_sink sink,
    void *ctx, uint8_t root[ERIS_REF], struct err *e)
{
	struct manifest_writer *w = manifest_new(ERIS_LARGE, sink == NULL ? no_sink : sink, ctx, e);
	uint8_t cap[ERIS_CAP];
	int rc;

	if (w == NULL)
		return -1;
	urn_to_bytes(cap, &nar->cap);
	if (len > MANIFEST_NARINFO)
		len = 0;
	rc = pack_walk(c, nar, add, w, e);
	if (rc == 0)
		rc = manifest_end(w, cap, (const uint8_t *)narinfo, len, root, e);
	manifest_free(w);
	return rc;
}
