/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): the blocks of a nar that is in the index, in the order of its manifest, and the manifest
 * itself. */
#ifndef NARLOCK_PUBLISH_PACK_H
#define NARLOCK_PUBLISH_PACK_H

#include "helper/ipfs/manifest.h"
#include "helper/publish/catalog.h"

/* Called for every block: number as in the index, and its pair; a node's pairs are in PLAIN (ERIS_LARGE
 * bytes), which is NULL for a leaf.  Not 0 (and *e filled) ends the walk. */
typedef int (*pack_block)(void *ctx, uint32_t number, unsigned level, const struct eris_pair *pair,
    const uint8_t *plain,
    struct err *e);

/* pack_walk(c, nar, block, ctx, e): all blocks of a nar that is ready, a node right before what is beneath
 * it.  Memory: 32 KiB a level.  -1 if the index lacks a node: e->code is CATALOG_DAMAGED then. */
int pack_walk(struct catalog *c, const struct catalog_nar *nar, pack_block block, void *ctx, struct err *e);

/* pack_manifest(c, nar, narinfo, len, sink, ctx, root, e): its manifest; SINK may be NULL, where only the
 * root matters. */
int pack_manifest(struct catalog *c, const struct catalog_nar *nar, const char *narinfo, size_t len,
    manifest_sink sink,
    void *ctx, uint8_t root[ERIS_REF], struct err *e);

#endif
