/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): content at any offset, for blocks that can be had when they are needed. */
#include <stdlib.h>
#include <string.h>

#include "helper/eris/access.h"
#include "helper/eris/block.h"
#include "helper/eris/urn.h"

/* The block of a level that was used last: most reads need the same nodes again. */
struct kept {
	uint8_t *plain;
	uint64_t index; /* in its level, from the left */
	int valid, last;
	unsigned count; /* children, if it is a node */
};

struct access {
	struct eris_cap cap;
	access_get get;
	void *ctx;
	struct kept kept[ERIS_LEVELS];
};

struct access *
access_new(const struct eris_cap *cap, access_get get, void *ctx, struct err *e)
{
	struct access *a = calloc(1, sizeof(*a));

	if (a == NULL) {
		err_set(e, "out of memory");
		return NULL;
	}
	a->cap = *cap;
	a->get = get;
	a->ctx = ctx;
	for (unsigned i = 0; i <= cap->level; i++) {
		/* One byte more: a block that is too long shows. */
		a->kept[i].plain = malloc((size_t)cap->block_size + 1);
		if (a->kept[i].plain == NULL) {
			err_set(e, "out of memory");
			access_free(a);
			return NULL;
		}
	}
	return a;
}

void
access_free(struct access *a)
{
	if (a == NULL)
		return;
	for (unsigned i = 0; i < ERIS_LEVELS; i++)
		free(a->kept[i].plain);
	free(a);
}

static int
broken(const struct eris_pair *pair, unsigned level, const char *why, struct err *e)
{
	char ref[URN_REF_LEN + 1];

	urn_ref_format(ref, pair->ref);
	return err_set(e, "block %s (level %u): %s", ref, level, why);
}

/* The block of PAIR into K, checked. */
static int
load(struct access *a, struct kept *k, unsigned level, const struct eris_pair *pair, uint64_t index, int last,
    struct err *e)
{
	uint32_t bs = a->cap.block_size;
	const char *why;
	size_t len;

	k->valid = 0;
	if (a->get(a->ctx, pair->ref, k->plain, (size_t)bs + 1, &len, e) != 0)
		return -1;
	if ((why = block_verify(pair->ref, k->plain, len, bs)) != NULL)
		return broken(pair, level, why, e);
	block_open(k->plain, k->plain, bs, level, pair->key);
	if (level > 0) {
		if (level == a->cap.level && !block_key_fits(k->plain, bs, pair->key))
			return broken(pair, level, "the key of the read capability is not its key", e);
		if ((why = block_children(k->plain, bs, &k->count)) != NULL)
			return broken(pair, level, why, e);
		if (!last && k->count < eris_arity(bs))
			return broken(pair, level, "the node is not full, and not the last of its level", e);
		if (level == a->cap.level && k->count == 1)
			return broken(pair, level, "the root has one child only", e);
	}
	k->index = index;
	k->last = last;
	k->valid = 1;
	return 0;
}

/* The leaf that contains OFFSET, or the last one if OFFSET is UINT64_MAX, and all nodes above it: *LEAF;
 * NULL if OFFSET is behind the end. */
static int
descend(struct access *a, uint64_t offset, const struct kept **leaf, struct err *e)
{
	uint32_t bs = a->cap.block_size;
	struct eris_pair pair = a->cap.root;
	uint64_t index = 0;
	int last = 1;

	*leaf = NULL;
	if (offset != UINT64_MAX && offset / bs >= eris_span(bs, a->cap.level) / bs)
		return 0;
	for (unsigned level = a->cap.level;; level--) {
		struct kept *k = &a->kept[level];
		uint64_t child;

		if ((!k->valid || k->index != index) && load(a, k, level, &pair, index, last, e) != 0)
			return -1;
		if (level == 0) {
			*leaf = k;
			return 0;
		}
		child = k->count - 1;
		if (offset != UINT64_MAX)
			child = offset / eris_span(bs, level - 1) % eris_arity(bs);
		if (child >= k->count)
			return 0;
		last = k->last && child == k->count - 1;
		memcpy(&pair, k->plain + child * ERIS_PAIR, sizeof(pair));
		index = index * eris_arity(bs) + child;
	}
}

static int
leaf_length(const struct access *a, const struct kept *leaf, size_t *len, struct err *e)
{
	const char *why = NULL;

	*len = a->cap.block_size;
	if (leaf->last)
		why = block_unpad(leaf->plain, a->cap.block_size, len);
	return why == NULL ? 0 : err_set(e, "the last block of the content: %s", why);
}

int
access_length(struct access *a, uint64_t *length, struct err *e)
{
	const struct kept *leaf;
	size_t len;

	if (descend(a, UINT64_MAX, &leaf, e) != 0 || leaf_length(a, leaf, &len, e) != 0)
		return -1;
	*length = leaf->index * a->cap.block_size + len;
	return 0;
}

int
access_read(struct access *a, uint64_t offset, const uint8_t **data, size_t *len, struct err *e)
{
	size_t skip = (size_t)(offset % a->cap.block_size), all;
	const struct kept *leaf;

	*len = 0;
	if (descend(a, offset, &leaf, e) != 0)
		return -1;
	if (leaf == NULL)
		return 0;
	if (leaf_length(a, leaf, &all, e) != 0)
		return -1;
	if (all > skip) {
		*data = leaf->plain + skip;
		*len = all - skip;
	}
	return 0;
}
