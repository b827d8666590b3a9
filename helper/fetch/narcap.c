/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch), nar: capabilities that no narinfo told: out of the root of a manifest, or from an index. */
#include <string.h>

#include "helper/common/logline.h"
#include "helper/eris/urn.h"
#include "helper/fetch/blockconf.h"
#include "helper/fetch/blocks.h"
#include "helper/fetch/index.h"
#include "helper/fetch/nar_own.h"
#include "helper/fetch/rootget.h"
#include "helper/ipfs/manifest.h"

/* How long the roots of manifests are waited for when nothing else tells the capability; and when they did not come
 * for so many orders in a row. */
#define ROOT_WAIT_MS 2000
#define ROOT_VAIN_MS 500
#define ROOT_VAIN 2

struct place *
narcap_first(struct order *o)
{
	for (size_t i = 0; i < o->nrank; i++)
		if (o->places[o->rank[i].candidate].has_cap)
			return &o->places[o->rank[i].candidate];
	return NULL;
}

/* --- Manifests -------------------------------------------------------------------------------------- */

/* Ask for the root of the next manifest that could tell a capability.  0, or -1: there is none, or no time. */
static int
next_root(struct order *o)
{
	const struct fetch *f = o->fetch;
	struct err e;

	rootget_free(o->root);
	o->root = NULL;
	for (size_t i = 0; i < o->nrank && f->now < o->root_until; i++) {
		struct place *p = &o->places[o->rank[i].candidate];

		if (p->has_cap || !p->has_manifest || p->rooted)
			continue;
		for (size_t j = 0; j < o->nplaces; j++)
			if (o->places[j].has_manifest && memcmp(o->places[j].manifest, p->manifest, ERIS_REF) == 0)
				o->places[j].rooted = 1;
		o->root_of = o->rank[i].candidate;
		o->root = rootget_new(o->fetch, 1, p->manifest, 0, (uint32_t)(o->root_until - f->now), &e);
		if (o->root != NULL) {
			o->phase = ROOTING;
			return 0;
		}
	}
	return -1;
}

/* Narinfos may name the manifest alone: the capability is in its root. */
int
narcap_begin_roots(struct order *o)
{
	uint32_t wait = o->roots_vain < ROOT_VAIN ? ROOT_WAIT_MS : ROOT_VAIN_MS;

	/* No file is there, and this is the only way. */
	if (o->rounds > 0 && o->fetch->blocks->block_ms > wait)
		wait = o->fetch->blocks->block_ms;
	for (size_t i = 0; i < o->nplaces; i++)
		o->places[i].rooted = 0;
	o->root_since = o->fetch->now;
	o->root_until = o->root_since + wait;
	return blocks_possible(o->fetch) ? next_root(o) : -1;
}

/* The hash in the narinfo says that this is the manifest; its capability is as good as one in the narinfo.  0 or -1. */
static int
read_root(struct order *o, const uint8_t *data, size_t len)
{
	const struct place *from = &o->places[o->root_of];
	struct manifest_root n;
	struct eris_cap cap;
	struct err e;

	if (manifest_parse(&n, data, len, &e) != 0 || urn_from_bytes(&cap, n.cap, &e) != 0) {
		logline("a manifest is passed over: %s", e.text);
		return -1;
	}
	for (size_t i = 0; i < o->nplaces; i++) {
		struct place *p = &o->places[i];

		if (p->has_cap || !p->has_manifest || p->method != from->method ||
		    memcmp(p->manifest, from->manifest, ERIS_REF) != 0)
			continue;
		p->has_cap = 1;
		p->cap = cap;
	}
	return 0;
}

/* --- Indexes ---------------------------------------------------------------------------------------- */

void
narcap_begin_index(struct order *o)
{
	struct err e;

	if (o->nrank > 0 && !o->indexed && blocks_possible(o->fetch) &&
	    (o->index = index_new(o->fetch, o->hash_part, INDEX_WAIT_MS, &e)) != NULL) {
		o->indexed = 1;
		o->phase = INDEXING;
	}
}

void
narcap_take_index(struct order *o)
{
	const struct index_answer *a = NULL;
	enum index_state state = index_pump(o->index, &a);

	if (state == INDEX_WAITS)
		return;
	for (size_t i = 0; state == INDEX_FOUND && i < o->nplaces; i++) {
		struct place *p = &o->places[i];
		const struct index_group *g = p->has_cap ? NULL : indextext_match(a, p->method, p->file_size);

		if (g == NULL || !g->has_cap)
			continue;
		p->has_cap = 1;
		p->cap = g->cap;
		p->has_manifest = g->has_manifest;
		memcpy(p->manifest, g->manifest, ERIS_REF);
	}
	index_free(o->index);
	o->index = NULL;
	o->phase = PICKING;
	if (narcap_first(o) != NULL)
		narblocks_assemble_best(o);
}

/* --- A root has come, or not ------------------------------------------------------------------------ */

void
narcap_take_root(struct order *o)
{
	const uint8_t *data;
	size_t len;
	enum rootget_state state = rootget_pump(o->root, &data, &len);

	if (state == ROOTGET_RUNS)
		return;
	if (state == ROOTGET_FOUND)
		(void)read_root(o, data, len);
	o->phase = PICKING;
	if (narcap_first(o) == NULL && next_root(o) == 0)
		return;
	rootget_free(o->root);
	o->root = NULL;
	if (narcap_first(o) != NULL) {
		o->roots_vain = 0;
		narblocks_assemble_best(o);
	} else {
		if (o->roots_vain < ROOT_VAIN && o->fetch->now >= o->root_since + ROOT_VAIN_MS)
			o->roots_vain++;
		narcap_begin_index(o);
	}
}
