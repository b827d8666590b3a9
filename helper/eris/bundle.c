/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): all blocks of one content, in a decoder's order, and the manifest that links them. */
#include <stdlib.h>
#include <string.h>

#include "helper/eris/bundle.h"
#include "helper/eris/urn.h"

static uint8_t *
copy(const uint8_t *data, size_t len)
{
	uint8_t *to = malloc(len);

	if (to != NULL)
		memcpy(to, data, len);
	return to;
}

int
bundle_take(struct bundle *b, const struct encode_block *block, struct err *e)
{
	struct bundle_item *i;

	if (b->nitems == b->room) {
		size_t room = b->room == 0 ? 1024 : 2 * b->room;

		i = reallocarray(b->items, room, sizeof(*i));
		if (i == NULL)
			return err_set(e, "out of memory");
		b->items = i;
		b->room = room;
	}
	i = &b->items[b->nitems];
	memset(i, 0, sizeof(*i));
	i->entry.offset = block->offset;
	i->entry.level = block->level;
	memcpy(i->entry.ref, block->pair->ref, ERIS_REF);
	if (b->keep && block->level > 0 && (i->data = copy(block->data, b->block_size)) == NULL)
		return err_set(e, "out of memory");
	b->nitems++;
	return 0;
}

/* Equal blocks together, in the decoder's order among themselves. */
static int
compare_refs(const void *a, const void *b)
{
	const struct bundle_item *const *x = a, *const *y = b;
	int rc = memcmp((*x)->entry.ref, (*y)->entry.ref, ERIS_REF);

	return rc != 0 ? rc : (*x > *y) - (*x < *y);
}

static int
mark_repeats(struct bundle *b, struct err *e)
{
	struct bundle_item **by_ref = reallocarray(NULL, b->nitems, sizeof(*by_ref));

	if (by_ref == NULL)
		return err_set(e, "out of memory");
	for (size_t i = 0; i < b->nitems; i++)
		by_ref[i] = &b->items[i];
	qsort(by_ref, b->nitems, sizeof(*by_ref), compare_refs);
	for (size_t i = 1; i < b->nitems; i++)
		by_ref[i]->repeats = memcmp(by_ref[i]->entry.ref, by_ref[i - 1]->entry.ref, ERIS_REF) == 0;
	free(by_ref);
	return 0;
}

static int
take_node(void *ctx, enum car_kind kind, const uint8_t hash[ERIS_REF], const uint8_t *data, size_t len,
    struct err *e)
{
	struct bundle *b = ctx;
	struct bundle_node *n = reallocarray(b->nodes, b->nnodes + 1, sizeof(*n));

	if (n == NULL)
		return err_set(e, "out of memory");
	b->nodes = n;
	n += b->nnodes;
	n->data = copy(data, len);
	if (n->data == NULL)
		return err_set(e, "out of memory");
	n->kind = kind;
	n->len = len;
	memcpy(n->hash, hash, ERIS_REF);
	b->nnodes++;
	return 0;
}

int
bundle_end(struct bundle *b, const struct eris_cap *cap, const uint8_t *narinfo, size_t len, struct err *e)
{
	uint8_t bytes[ERIS_CAP], root[ERIS_REF];
	struct manifest_writer *w;
	int rc;

	qsort(b->items, b->nitems, sizeof(*b->items), manifest_compare);
	rc = mark_repeats(b, e);
	if (rc != 0 || (w = manifest_new(b->block_size, take_node, b, e)) == NULL)
		return -1;
	for (size_t i = 0; rc == 0 && i < b->nitems; i++)
		if (!b->items[i].repeats)
			rc = manifest_add(w, b->items[i].entry.ref, e);
	urn_to_bytes(bytes, cap);
	if (rc == 0)
		rc = manifest_end(w, bytes, narinfo, len, root, e);
	manifest_free(w);
	return rc;
}

const uint8_t *
bundle_root(const struct bundle *b)
{
	return b->nodes[b->nnodes - 1].hash;
}

void
bundle_clear(struct bundle *b)
{
	for (size_t i = 0; i < b->nitems; i++)
		free(b->items[i].data);
	for (size_t i = 0; i < b->nnodes; i++)
		free(b->nodes[i].data);
	free(b->items);
	free(b->nodes);
	memset(b, 0, sizeof(*b));
}
