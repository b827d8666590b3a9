/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (ipfs): the manifest of a nar: one block of DAG-CBOR beneath which are all its ERIS blocks, so that one
 * export brings them, one pin keeps them and one name announces them.
 *
 * Its root (CID: dag-cbor, BLAKE2b-256) is a map; keys are in the order of DAG-CBOR:
 *
 *     {"v": 2, "cap": 66 bytes, "file": link, "blocks": number of blocks, "narinfo": bytes}
 *
 * "cap" is the read capability, "narinfo" the signed narinfo as it was served, and may be missing.  "file" is a file
 * of IPFS (unixfs.h, CIDs: dag-pb, BLAKE2b-256) whose parts are the blocks (CIDs: raw, BLAKE2b-256), in the order in
 * which a decoder wants them: every node of ERIS right before what is beneath it; see manifest_compare().  A block
 * that repeats may stand there once or often.  So any IPFS program that can read a file gives the blocks as one
 * stream.  The file's tree is balanced, with UNIXFS_LINKS in each node but the right-most of each level; a single
 * block is the file itself. */
#ifndef NARLOCK_IPFS_MANIFEST_H
#define NARLOCK_IPFS_MANIFEST_H

#include <stddef.h>
#include <stdint.h>

#include "helper/eris/eris.h"
#include "helper/ipfs/car.h"
#include "helper/ipfs/unixfs.h"
#include "ipc/err.h"

/* Levels of the file's nodes: 174^4 blocks are more than there can be. */
#define MANIFEST_LEVELS 5
/* Longest narinfo that it takes along, and longest root, in bytes.  Every release of Kubo takes 1 MiB. */
#define MANIFEST_NARINFO (900 * 1024)
#define MANIFEST_ROOT (1024 * 1024)

struct manifest_root {
	uint8_t cap[ERIS_CAP];
	uint8_t file[ERIS_REF];  /* a raw block if there is only one, else dag-pb */
	uint64_t blocks;
	const uint8_t *narinfo;  /* or NULL; within the data that was parsed */
	size_t narinfo_len;
};

/* manifest_check(hash, data, len): whether these are the bytes with that hash.  1 or 0. */
int manifest_check(const uint8_t hash[ERIS_REF], const uint8_t *data, size_t len);
/* manifest_hash(hash, data, len): BLAKE2b-256. */
void manifest_hash(uint8_t hash[ERIS_REF], const uint8_t *data, size_t len);

/* manifest_parse(r, data, len, e): a root, in the only form that it can have.  0 or -1. */
int manifest_parse(struct manifest_root *r, const uint8_t *data, size_t len, struct err *e);

/* The CIDs of manifests as text. */
#define MANIFEST_CID_LEN CAR_CID_TEXT
void manifest_cid_format(char text[MANIFEST_CID_LEN + 1], const uint8_t hash[ERIS_REF]);
int manifest_cid_parse(uint8_t hash[ERIS_REF], const char *text, struct err *e);

/* --- Writing ----------------------------------------------------------------------------------------- */

struct manifest_writer;

/* Called for every node of the file (CAR_FILE) when it is ready, what is beneath it first, and for the root (CAR_NODE)
 * last.  Not 0 (and *e filled) stops the writer. */
typedef int (*manifest_sink)(void *ctx, enum car_kind kind, const uint8_t hash[ERIS_REF], const uint8_t *data,
    size_t len, struct err *e);

/* manifest_new(block_size, sink, ctx, e): or NULL.  Memory: 1.1 MiB. */
struct manifest_writer *manifest_new(uint32_t block_size, manifest_sink sink, void *ctx, struct err *e);
/* manifest_add(w, ref, e): the next block. */
int manifest_add(struct manifest_writer *w, const uint8_t ref[ERIS_REF], struct err *e);
/* manifest_end(w, cap, narinfo, len, root, e): no more blocks.  NARINFO may be NULL, LEN is then 0.  The
 * hash of the root into ROOT. */
int manifest_end(struct manifest_writer *w, const uint8_t cap[ERIS_CAP], const uint8_t *narinfo, size_t len,
    uint8_t root[ERIS_REF], struct err *e);
void manifest_free(struct manifest_writer *w);

/* The order of blocks, out of what an encoder tells of them. */
struct manifest_entry {
	uint64_t offset; /* of the first byte of content beneath it */
	uint8_t level;
	uint8_t ref[ERIS_REF];
};

/* manifest_compare(a, b): two struct manifest_entry, for qsort(). */
int manifest_compare(const void *a, const void *b);

#endif
