/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): all blocks of one content, in the order in which a decoder wants them, and the manifest that
 * links them: what IPFS is given of a nar.
 *
 * Memory: 64 bytes for each block and 52 for its link, and, where they are kept, the nodes of the tree,
 * which are 1/512 of the content (1/15 with small blocks). */
#ifndef NARLOCK_ERIS_BUNDLE_H
#define NARLOCK_ERIS_BUNDLE_H

#include <stddef.h>
#include <stdint.h>

#include "helper/eris/encode.h"
#include "helper/eris/eris.h"
#include "helper/ipfs/manifest.h"
#include "ipc/err.h"

struct bundle_item {
	struct manifest_entry entry; /* first, for manifest_compare() */
	uint8_t repeats;             /* the same block stands further ahead: it is linked and written once */
	uint8_t *data;               /* of a node of the tree, if they are kept; else NULL */
};

struct bundle_node {
	enum car_kind kind;
	uint8_t hash[ERIS_REF];
	uint8_t *data;
	size_t len;
};

struct bundle {
	uint32_t block_size;
	int keep;                 /* nodes of the tree (level 1 and up) are kept */
	struct bundle_item *items;
	size_t nitems, room;
	struct bundle_node *nodes; /* of the manifest, what is beneath first, the root last */
	size_t nnodes;
};

/* bundle_take(b, block, e): a block that the encoder has made (struct encode_block). */
int bundle_take(struct bundle *b, const struct encode_block *block, struct err *e);

/* bundle_end(b, cap, narinfo, len, e): there are no more: puts the blocks in order and makes the manifest.
 * NARINFO may be NULL (LEN 0). */
int bundle_end(struct bundle *b, const struct eris_cap *cap, const uint8_t *narinfo, size_t len,
    struct err *e);

/* bundle_root(b): hash of the manifest's root, after bundle_end(). */
const uint8_t *bundle_root(const struct bundle *b);

/* bundle_clear(b): everything that B holds; B itself is the caller's, and begins as { .block_size, .keep }. */
void bundle_clear(struct bundle *b);

#endif
