/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): content into blocks, as a stream.
 *
 * Leaves are gathered in one of two batches.  A full batch is encrypted, by the pool's threads if there
 * are any, while the other one goes to the sink and is filled again. */
#include <stdlib.h>
#include <string.h>

#include "helper/eris/block.h"
#include "helper/eris/encode.h"

/* What one job encrypts: leaves enough to go side by side, few enough to stay in the processor's cache. */
#define GROUP (4 * ERIS_LARGE)
/* Groups in a batch for each thread of a pool: enough that threads seldom wait for each other. */
#define GROUPS 8

struct batch {
	struct encode *c;
	uint8_t *data;
	struct eris_pair *pairs;
	size_t leaves; /* given to the pool, not yet to the sink */
};

struct level {
	uint8_t *node;   /* block_size bytes: `n' pairs, then zeros */
	unsigned n;
	uint64_t offset; /* of the content beneath the first pair */
};

struct encode {
	uint32_t block_size;
	uint8_t secret[ERIS_KEY];
	encode_sink sink;
	void *ctx;
	struct pool *pool;
	struct batch batch[2];
	unsigned filling; /* the batch that takes content */
	size_t size, used; /* of a batch, in bytes */
	uint64_t offset;  /* of the next leaf that goes to the sink */
	struct level level[ERIS_LEVELS + 1]; /* from 1 */
	unsigned top;     /* highest level that has been used */
	int dead;         /* has failed or ended */
};

struct encode *
encode_new(const struct encode_options *o, struct err *e)
{
	struct encode *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		err_set(e, "out of memory");
		return NULL;
	}
	c->block_size = o->block_size;
	memcpy(c->secret, o->secret == NULL ? block_null_secret : o->secret, ERIS_KEY);
	c->sink = o->sink;
	c->ctx = o->ctx;
	c->pool = o->pool;
	c->size = (size_t)GROUP * (c->pool == NULL ? 1 : GROUPS * pool_threads(c->pool));
	for (unsigned i = 0; i < 2; i++) {
		struct batch *b = &c->batch[i];

		b->c = c;
		b->data = malloc(c->size);
		b->pairs = malloc(c->size / c->block_size * sizeof(*b->pairs));
		if (b->data == NULL || b->pairs == NULL) {
			err_set(e, "out of memory");
			encode_free(c);
			return NULL;
		}
	}
	return c;
}

void
encode_free(struct encode *c)
{
	if (c == NULL)
		return;
	pool_finish(c->pool);
	for (unsigned i = 0; i < 2; i++) {
		free(c->batch[i].data);
		free(c->batch[i].pairs);
	}
	for (unsigned i = 1; i <= ERIS_LEVELS; i++)
		free(c->level[i].node);
	/* The secret and keys are of no use without the rest, but they are the caller's, not the heap's. */
	explicit_bzero(c, sizeof(*c));
	free(c);
}

static int
emit(struct encode *c, const uint8_t *data, const struct eris_pair *pair, unsigned level, uint64_t offset,
    struct err *e)
{
	const struct encode_block b = { data, pair, (uint8_t)level, offset };

	return c->sink == NULL ? 0 : c->sink(c->ctx, &b, e);
}

/* The node of LEVEL as a block; the level is empty then. */
static int
flush_node(struct encode *c, unsigned level, struct eris_pair *pair, struct err *e)
{
	struct level *l = &c->level[level];

	block_seal_node(l->node, c->block_size, level, pair);
	if (emit(c, l->node, pair, level, l->offset, e) != 0)
		return -1;
	memset(l->node, 0, c->block_size);
	l->n = 0;
	return 0;
}

/* A pair for the node of LEVEL.  A full node is flushed only when one more pair comes: exactly one full
 * node at the end is the root, with nothing above it. */
static int
add_pair(struct encode *c, unsigned level, struct eris_pair pair, uint64_t offset, struct err *e)
{
	for (;; level++) {
		struct level *l = &c->level[level];
		struct eris_pair up;
		uint64_t up_offset;
		int full;

		/* The root's level is one less than the level of its pair. */
		if (level > eris_max_level(c->block_size) + 1u)
			return err_set(e, "the content is too long");
		if (l->node == NULL && (l->node = calloc(1, c->block_size)) == NULL)
			return err_set(e, "out of memory");
		up_offset = l->offset;
		full = l->n == eris_arity(c->block_size);
		if (full && flush_node(c, level, &up, e) != 0)
			return -1;
		if (l->n == 0)
			l->offset = offset;
		memcpy(l->node + (size_t)l->n++ * ERIS_PAIR, &pair, ERIS_PAIR);
		if (level > c->top)
			c->top = level;
		if (!full)
			return 0;
		pair = up;
		offset = up_offset;
	}
}

/* Job: one group of a batch. */
static void
seal_group(void *ctx, size_t i)
{
	const struct batch *b = ctx;
	uint32_t bs = b->c->block_size;
	size_t first = i * (GROUP / bs), n = b->leaves - first;

	if (n > GROUP / bs)
		n = GROUP / bs;
	block_seal_leaves(b->data + first * bs, n, bs, b->c->secret, b->pairs + first);
}

/* The leaves of a batch that the pool is done with: to the sink, their pairs to the nodes. */
static int
deliver(struct encode *c, struct batch *b, struct err *e)
{
	for (size_t i = 0; i < b->leaves; i++) {
		if (emit(c, b->data + i * c->block_size, &b->pairs[i], 0, c->offset, e) != 0 ||
		    add_pair(c, 1, b->pairs[i], c->offset, e) != 0)
			return -1;
		c->offset += c->block_size;
	}
	b->leaves = 0;
	return 0;
}

/* Hand the batch that takes content to the pool, and deliver the other one meanwhile. */
static int
turn(struct encode *c, struct err *e)
{
	struct batch *b = &c->batch[c->filling];

	pool_finish(c->pool);
	b->leaves = c->used / c->block_size;
	pool_start(c->pool, seal_group, b, (c->used + GROUP - 1) / GROUP);
	c->filling ^= 1;
	c->used = 0;
	return deliver(c, &c->batch[c->filling], e);
}

uint8_t *
encode_room(const struct encode *c, size_t *room)
{
	*room = c->size - c->used;
	return c->batch[c->filling].data + c->used;
}

int
encode_add(struct encode *c, size_t n, struct err *e)
{
	if (c->dead)
		return err_set(e, "the encoder has ended");
	if (n > c->size - c->used)
		return err_set(e, "more than there was room for");
	c->used += n;
	if (c->used < c->size)
		return 0;
	c->dead = turn(c, e) != 0;
	return c->dead ? -1 : 0;
}

int
encode_put(struct encode *c, const void *data, size_t len, struct err *e)
{
	const uint8_t *from = data;

	while (len > 0) {
		size_t room;
		uint8_t *to = encode_room(c, &room);

		if (room > len)
			room = len;
		memcpy(to, from, room);
		if (encode_add(c, room, e) != 0)
			return -1;
		from += room;
		len -= room;
	}
	return 0;
}

/* Close one level after the other, until a pair is alone. */
static int
close_levels(struct encode *c, struct eris_cap *cap, struct err *e)
{
	unsigned level = 1;

	while (level < c->top || c->level[level].n > 1) {
		uint64_t offset = c->level[level].offset;
		struct eris_pair pair;

		/* No level below the top is empty: a pair goes up only when another one takes its place. */
		if (flush_node(c, level, &pair, e) != 0 || add_pair(c, level + 1, pair, offset, e) != 0)
			return -1;
		level++;
	}
	cap->block_size = c->block_size;
	cap->level = (uint8_t)(level - 1);
	memcpy(&cap->root, c->level[level].node, ERIS_PAIR);
	return 0;
}

int
encode_end(struct encode *c, struct eris_cap *cap, struct err *e)
{
	size_t room;
	uint8_t *to = encode_room(c, &room);
	size_t pad = c->block_size - c->used % c->block_size;
	int rc;

	if (c->dead)
		return err_set(e, "the encoder has ended");
	c->dead = 1;
	/* There is always room: a batch is a number of whole leaves, and never left full. */
	to[0] = 0x80;
	memset(to + 1, 0, pad - 1);
	c->used += pad;
	rc = turn(c, e);
	pool_finish(c->pool);
	if (rc != 0 || deliver(c, &c->batch[c->filling ^ 1], e) != 0)
		return -1;
	return close_levels(c, cap, e);
}
