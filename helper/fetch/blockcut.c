/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): a stream of bytes cut into blocks. */
#include <stdlib.h>
#include <string.h>

#include "helper/eris/block.h"
#include "helper/fetch/blockcut.h"

/* Blocks that are hashed together. */
#define GROUP 4u

struct blockcut {
	uint32_t block_size;
	uint64_t left;            /* blocks that are not in a group yet */
	size_t size, filled;      /* bytes of the group that comes */
	unsigned given, whole;    /* of a group that has come: blocks that were given, and all */
	uint8_t refs[GROUP][ERIS_REF];
	uint8_t blocks[];
};

static void
next_group(struct blockcut *c)
{
	c->whole = c->given = 0;
	c->filled = 0;
	c->size = (size_t)(c->left < GROUP ? c->left : GROUP) * c->block_size;
}

struct blockcut *
blockcut_new(uint32_t block_size, uint64_t blocks, struct err *e)
{
	struct blockcut *c = calloc(1, sizeof *c + (size_t)GROUP * block_size);

	if (c == NULL) {
		err_set(e, "no memory for a stream of blocks");
		return NULL;
	}
	c->block_size = block_size;
	c->left = blocks;
	next_group(c);
	return c;
}

void
blockcut_free(struct blockcut *c)
{
	free(c);
}

int
blockcut_feed(struct blockcut *c, const uint8_t **data, size_t *len, const uint8_t **ref, const uint8_t **block,
    struct err *e)
{
	size_t n;

	if (c->whole > 0 && c->given == c->whole)
		next_group(c);
	if (c->whole == 0) {
		if (c->size == 0)
			return *len == 0 ? 0 : err_set(e, "longer than it can be");
		n = *len < c->size - c->filled ? *len : c->size - c->filled;
		memcpy(c->blocks + c->filled, *data, n);
		*data += n;
		*len -= n;
		c->filled += n;
		if (c->filled < c->size)
			return 0;
		c->whole = (unsigned)(c->size / c->block_size);
		c->left -= c->whole;
		block_refs(c->refs, c->blocks, c->whole, c->block_size);
	}
	*ref = c->refs[c->given];
	*block = c->blocks + (size_t)c->given++ * c->block_size;
	return 1;
}

int
blockcut_end(const struct blockcut *c, struct err *e)
{
	return c->left > 0 || c->given < c->whole ? err_set(e, "cut off") : 0;
}
