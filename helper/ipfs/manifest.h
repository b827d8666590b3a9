/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (ipfs): the manifest of a nar: a tree of DAG-CBOR nodes that links all its ERIS blocks, so that one
 * export brings them, one pin keeps them and one name announces them.
 *
 * A node of level 0 links blocks (CIDs: raw, BLAKE2b-256), one of level n links nodes of level n - 1 (CIDs:
 * dag-cbor, BLAKE2b-256).  Links stand in the order in which a decoder wants the blocks (every node of ERIS
 * right before what is beneath it; see manifest_compare()), a block that repeats may stand there once or
 * often.  A node is a map; keys are in the order of DAG-CBOR:
 *
 *     any node but the root:  {"level": n, "links": [...]}
 *     the root:               {"v": 1, "cap": 66 bytes, "level": n, "links": [...], "blocks": number of links
 *                              at level 0, "narinfo": bytes}
 *
 * "cap" is the read capability, "narinfo" the signed narinfo as it was served, and may be missing.  All
 * nodes but the right-most of each level have MANIFEST_LINKS links, and a root of level n > 0 has two at
 * least: the same blocks give the same manifest everywhere. */
#ifndef NARLOCK_IPFS_MANIFEST_H
#define NARLOCK_IPFS_MANIFEST_H

#include <stddef.h>
#include <stdint.h>

#include "helper/eris/eris.h"
#include "ipc/err.h"

/* Links of a full node (43 bytes each), and levels: 1024^4 blocks are more than there can be. */
#define MANIFEST_LINKS 1024
#define MANIFEST_LEVELS 4
/* Longest narinfo that it takes along, and longest root and other node, in bytes.  Every release of Kubo
 * takes 1 MiB. */
#define MANIFEST_NARINFO (900 * 1024)
#define MANIFEST_NODE (48 * 1024)
#define MANIFEST_ROOT (1024 * 1024)

/* --- Nodes ------------------------------------------------------------------------------------------- */

struct manifest_node {
	uint8_t root;            /* 1: it is one, and the next three are filled */
	uint8_t level;
	unsigned count;          /* of links: 1 to MANIFEST_LINKS */
	uint8_t cap[ERIS_CAP];
	uint64_t blocks;
	const uint8_t *narinfo;  /* or NULL; within the data that was parsed */
	size_t narinfo_len;
	const uint8_t *links;
};

/* manifest_check(hash, data, len): whether these are the bytes with that hash.  1 or 0. */
int manifest_check(const uint8_t hash[ERIS_REF], const uint8_t *data, size_t len);
/* manifest_hash(hash, data, len): BLAKE2b-256. */
void manifest_hash(uint8_t hash[ERIS_REF], const uint8_t *data, size_t len);

/* manifest_parse(n, data, len, e): a node, in the only form that it can have.  0 or -1. */
int manifest_parse(struct manifest_node *n, const uint8_t *data, size_t len, struct err *e);

/* manifest_link(n, i): the hash in link I: ERIS_REF bytes, a block's reference at level 0. */
const uint8_t *manifest_link(const struct manifest_node *n, unsigned i);

/* Manifest CIDs as text: 'b' and 61 characters. */
#define MANIFEST_CID_LEN 62
void manifest_cid_format(char text[MANIFEST_CID_LEN + 1], const uint8_t hash[ERIS_REF]);
int manifest_cid_parse(uint8_t hash[ERIS_REF], const char *text, struct err *e);

/* --- Writing ----------------------------------------------------------------------------------------- */

struct manifest_writer;

/* Called for every node when it is ready, what is beneath it first, the root last.  Not 0 (and *e filled)
 * stops the writer. */
typedef int (*manifest_sink)(void *ctx, const uint8_t hash[ERIS_REF], const uint8_t *data, size_t len,
    struct err *e);

/* manifest_new(sink, ctx, e): or NULL.  Memory: 32 KiB a level, and 1 MiB. */
struct manifest_writer *manifest_new(manifest_sink sink, void *ctx, struct err *e);
/* manifest_add(w, ref, e): the next block. */
int manifest_add(struct manifest_writer *w, const uint8_t ref[ERIS_REF], struct err *e);
/* manifest_end(w, cap, narinfo, len, root, e): no more blocks.  NARINFO may be NULL, LEN is then 0.  The
 * hash of the root into ROOT. */
int manifest_end(struct manifest_writer *w, const uint8_t cap[ERIS_CAP], const uint8_t *narinfo, size_t len,
    uint8_t root[ERIS_REF], struct err *e);
void manifest_free(struct manifest_writer *w);

/* The order of links, out of what an encoder tells of its blocks. */
struct manifest_entry {
	uint64_t offset; /* of the first byte of content beneath it */
	uint8_t level;
	uint8_t ref[ERIS_REF];
};

/* manifest_compare(a, b): two struct manifest_entry, for qsort(). */
int manifest_compare(const void *a, const void *b);

/* --- Walking ----------------------------------------------------------------------------------------- */

struct manifest_walk;

/* manifest_walk_new(root, max_blocks, e): go through the blocks beneath a parsed root, which is not needed
 * any more after this call.  NULL if it claims more than MAX_BLOCKS, or no memory.  Memory: 32 KiB a
 * level. */
struct manifest_walk *manifest_walk_new(const struct manifest_node *root, uint64_t max_blocks, struct err *e);
void manifest_walk_free(struct manifest_walk *w);

enum manifest_step {
	MANIFEST_BLOCK, /* REF is the next block */
	MANIFEST_NEEDS, /* REF is the node that is needed to go on: manifest_walk_give() */
	MANIFEST_DONE,
	MANIFEST_BROKEN,
};

/* manifest_walk_next(w, ref, e): what is next. */
enum manifest_step manifest_walk_next(struct manifest_walk *w, uint8_t ref[ERIS_REF], struct err *e);

/* manifest_walk_give(w, data, len, e): the node that was needed.  0; 1: it is not that node (the source's
 * fault, it is still needed); -1: it is, but it makes no manifest. */
int manifest_walk_give(struct manifest_walk *w, const uint8_t *data, size_t len, struct err *e);

#endif
