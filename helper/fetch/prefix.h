/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): whether a file begins as a content did that came as blocks.
 *
 * What is compared are the references of leaves: those of blocks are known anyway, so they cost nothing as
 * long as all goes well.  The beginning has whole leaves only. */
#ifndef NARLOCK_FETCH_PREFIX_H
#define NARLOCK_FETCH_PREFIX_H

#include <sodium.h>
#include <stddef.h>

#include "helper/eris/eris.h"

struct prefix {
	crypto_generichash_state hash; /* of all references */
	uint32_t block_size;
	size_t len;                    /* bytes of a leaf that is not whole yet */
	uint8_t leaf[ERIS_LARGE], sealed[ERIS_LARGE];
};

/* prefix_begin(p, block_size): nothing so far. */
void prefix_begin(struct prefix *p, uint32_t block_size);

/* prefix_leaf(p, ref): one more leaf, as a block.  prefix_add(p, data, n): so many more bytes of a file
 * (null secret). */
void prefix_leaf(struct prefix *p, const uint8_t ref[ERIS_REF]);
void prefix_add(struct prefix *p, const void *data, size_t n);

/* prefix_same(a, b): whether both are the same, and whole leaves.  1 or 0. */
int prefix_same(const struct prefix *a, const struct prefix *b);

#endif
