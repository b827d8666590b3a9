/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): content into blocks, as a stream.
 *
 * Memory: two buffers for leaves (128 KiB each; with a pool of T threads 1 MiB * T each) and one block a
 * level, whatever the length of the content. */
#ifndef NARLOCK_ERIS_ENCODE_H
#define NARLOCK_ERIS_ENCODE_H

#include <stddef.h>

#include "helper/eris/eris.h"
#include "helper/eris/pool.h"
#include "ipc/err.h"

struct encode;

/* A block that is ready. */
struct encode_block {
	const uint8_t *data;          /* block_size encrypted bytes, valid during the call */
	const struct eris_pair *pair; /* its reference and key */
	uint8_t level;                /* 0: leaf */
	uint64_t offset;              /* in the content, of the first byte beneath it */
};

/* Called in the caller's thread for every block, leaves in the order of the content and a node right
 * before the first leaf that is not beneath it, or at the end; equal blocks are not told from each other.
 * Not 0 (and *e filled) stops the encoder for good. */
typedef int (*encode_sink)(void *ctx, const struct encode_block *b, struct err *e);

struct encode_options {
	uint32_t block_size;    /* ERIS_SMALL or ERIS_LARGE */
	const uint8_t *secret;  /* ERIS_KEY bytes, copied; NULL: the null secret */
	encode_sink sink;       /* or NULL, where only the capability matters */
	void *ctx;
	struct pool *pool;      /* or NULL; must outlive the encoder, which uses it alone */
};

/* encode_new(o, e): an encoder for one content, or NULL.  block_init() must have been called. */
struct encode *encode_new(const struct encode_options *o, struct err *e);

/* encode_put(c, data, len, e): LEN more bytes of content. */
int encode_put(struct encode *c, const void *data, size_t len, struct err *e);

/* The same without a copy: read up to *ROOM (never 0) bytes to encode_room(c, room), then tell how many:
 * encode_add(c, n, e). */
uint8_t *encode_room(const struct encode *c, size_t *room);
int encode_add(struct encode *c, size_t n, struct err *e);

/* encode_end(c, cap, e): no more content; the last blocks go to the sink, and CAP is filled. */
int encode_end(struct encode *c, struct eris_cap *cap, struct err *e);

void encode_free(struct encode *c);

#endif
