/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: blocks in memory, and the decoder driven with them in any order. */
#ifndef NARLOCK_TESTS_ERIS_BED_H
#define NARLOCK_TESTS_ERIS_BED_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "helper/eris/block.h"
#include "helper/eris/decode.h"
#include "helper/eris/encode.h"

struct bed_block {
	uint8_t ref[ERIS_REF];
	uint8_t *data;
	size_t len;
};

struct bed {
	struct bed_block *block;
	size_t n, room;
	uint64_t emitted; /* blocks that the encoder gave, equal ones counted again */
	uint64_t next_leaf; /* offset that the next leaf must have */
};

static inline uint32_t
bed_random(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

static inline struct bed_block *
bed_find(const struct bed *b, const uint8_t *ref)
{
	for (size_t i = 0; i < b->n; i++)
		if (memcmp(b->block[i].ref, ref, ERIS_REF) == 0)
			return &b->block[i];
	return NULL;
}

/* For access_new(): CTX is the bed. */
static inline int
bed_get(void *ctx, const uint8_t ref[ERIS_REF], uint8_t *buf, size_t size, size_t *len, struct err *e)
{
	const struct bed_block *b = bed_find(ctx, ref);

	if (b == NULL)
		return err_set(e, "missing");
	*len = b->len < size ? b->len : size;
	memcpy(buf, b->data, *len);
	return 0;
}

static inline void
bed_put(struct bed *b, const uint8_t *ref, const uint8_t *data, size_t len)
{
	if (bed_find(b, ref) != NULL)
		return;
	if (b->n == b->room) {
		b->room = b->room * 2 + 16;
		b->block = realloc(b->block, b->room * sizeof(*b->block));
		assert_non_null(b->block);
	}
	memcpy(b->block[b->n].ref, ref, ERIS_REF);
	b->block[b->n].data = malloc(len + 1);
	assert_non_null(b->block[b->n].data);
	memcpy(b->block[b->n].data, data, len);
	b->block[b->n++].len = len;
}

static inline void
bed_free(struct bed *b)
{
	for (size_t i = 0; i < b->n; i++)
		free(b->block[i].data);
	free(b->block);
	memset(b, 0, sizeof(*b));
}

struct bed_sink {
	struct bed *bed;
	uint32_t block_size;
};

static inline int
bed_take(void *ctx, const struct encode_block *block, struct err *e)
{
	struct bed_sink *s = ctx;

	(void)e;
	s->bed->emitted++;
	if (block->level == 0) {
		assert_int_equal(block->offset, s->bed->next_leaf);
		s->bed->next_leaf += s->block_size;
	} else {
		assert_true(block->offset < s->bed->next_leaf);
		assert_int_equal(block->offset % eris_span(s->block_size, block->level), 0);
	}
	assert_null(block_verify(block->pair->ref, block->data, s->block_size, s->block_size));
	bed_put(s->bed, block->pair->ref, block->data, s->block_size);
	return 0;
}

/* Encodes in pieces of PIECE bytes. */
static inline struct eris_cap
bed_encode(struct bed *b, const uint8_t *data, size_t len, uint32_t block_size, const uint8_t *secret, size_t piece,
    struct pool *pool)
{
	struct bed_sink sink = { b, block_size };
	struct encode_options o = { block_size, secret, bed_take, &sink, pool };
	struct eris_cap cap;
	struct err e = { 0 };
	struct encode *c = encode_new(&o, &e);

	assert_non_null(c);
	b->next_leaf = 0;
	while (len > 0) {
		size_t n = len < piece ? len : piece;

		assert_int_equal(encode_put(c, data, n, &e), 0);
		data += n;
		len -= n;
	}
	assert_int_equal(encode_end(c, &cap, &e), 0);
	assert_int_equal(encode_end(c, &cap, &e), -1);
	encode_free(c);
	return cap;
}

struct bed_run {
	unsigned window, ahead, batch; /* batch: the most blocks given in one call */
	uint32_t seed;                 /* of the order in which blocks come; 0: as asked */
	uint64_t max_length;
	struct pool *pool;
	/* what happened */
	uint64_t asked, length;
	unsigned most; /* wanted and not given, at one time */
	char why[400];
};

#define BED_RUN { .window = 16, .ahead = 1, .batch = 4, .max_length = UINT64_MAX }

/* Everything from B through the decoder; the content must be DATA (all LEN of it), as far as it comes.  0,
 * or -1 and r->why. */
static inline int
bed_decode(const struct bed *b, const struct eris_cap *cap, const uint8_t *data, size_t len, struct bed_run *r)
{
	const struct decode_options o = { *cap, r->max_length, r->window, r->ahead, r->pool };
	struct decode_want *open = calloc(r->window + 200, sizeof(*open));
	struct decode_given given[128];
	uint8_t refs[128][ERIS_REF];
	struct err e = { 0 };
	struct decode *d = decode_new(&o, &e);
	uint32_t seed = r->seed;
	unsigned n = 0;
	int rc = 0;

	assert_non_null(open);
	assert_non_null(d);
	assert_true(r->batch <= 128);
	r->asked = r->length = 0;
	r->most = 0;
	while (!decode_done(d) && rc == 0) {
		const uint8_t *piece;
		uint64_t before = r->length;
		unsigned k = 0;
		size_t piece_len;

		while ((rc = decode_want(d, &open[n], &e)) == 1) {
			for (unsigned i = 0; i < n; i++)
				assert_memory_not_equal(open[i].ref, open[n].ref, ERIS_REF);
			r->asked++;
			n++;
			assert_true(n <= r->window + cap->level + r->ahead + 2);
		}
		if (n > r->most)
			r->most = n;
		while (rc == 0 && k < r->batch && n > 0) {
			unsigned i = r->seed == 0 ? 0 : bed_random(&seed) % n;
			const struct bed_block *found = bed_find(b, open[i].ref);

			if (found == NULL) {
				snprintf(r->why, sizeof(r->why), "missing");
				rc = -1;
				break;
			}
			memcpy(refs[k], open[i].ref, ERIS_REF);
			given[k] = (struct decode_given){ .ref = refs[k], .block = found->data, .len = found->len, .why = "x" };
			k++;
			memmove(&open[i], &open[i + 1], (--n - i) * sizeof(*open));
		}
		if (rc == 0 && (rc = decode_give(d, given, k, &e)) == 0)
			for (unsigned i = 0; i < k; i++)
				if (given[i].verdict != DECODE_TAKEN) {
					assert_int_equal(given[i].verdict, DECODE_WRONG);
					snprintf(r->why, sizeof(r->why), "%s", given[i].why);
					rc = -1;
				}
		while (rc == 0 && (rc = decode_read(d, &piece, &piece_len, &e)) == 1) {
			assert_true(piece_len > 0 && r->length + piece_len <= len);
			assert_memory_equal(data + r->length, piece, piece_len);
			r->length += piece_len;
			rc = 0;
		}
		/* It never waits for nothing. */
		if (rc == 0 && k == 0 && !decode_done(d))
			assert_true(r->length > before);
	}
	if (rc == 0)
		assert_int_equal(r->length, len);
	else if (e.text[0] != '\0')
		snprintf(r->why, sizeof(r->why), "%s", e.text);
	decode_free(d);
	free(open);
	return rc;
}

#endif
