/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): a stream of bytes that is nothing but blocks, one behind the other, cut into them.  What a block is
 * shows from its bytes only, so each is hashed here, four at a time (blake2b4.h). */
#ifndef NARLOCK_FETCH_BLOCKCUT_H
#define NARLOCK_FETCH_BLOCKCUT_H

#include <stddef.h>
#include <stdint.h>

#include "helper/eris/eris.h"
#include "ipc/err.h"

struct blockcut;

/* blockcut_new(block_size, blocks, e): for a stream of BLOCKS blocks.  block_init() must have been called.  Memory: four
 * blocks.  NULL on failure. */
struct blockcut *blockcut_new(uint32_t block_size, uint64_t blocks, struct err *e);
void blockcut_free(struct blockcut *c);

/* blockcut_feed(c, data, len, ref, block, e): take bytes from *DATA and *LEN, which move on, until a block can be given:
 * 1, its reference and its bytes (both valid until the next call), call again; 0: all taken; -1: more bytes than
 * BLOCKS blocks have. */
int blockcut_feed(struct blockcut *c, const uint8_t **data, size_t *len, const uint8_t **ref, const uint8_t **block,
    struct err *e);

/* blockcut_end(c, e): no more bytes come.  -1 if some are missing. */
int blockcut_end(const struct blockcut *c, struct err *e);

#endif
