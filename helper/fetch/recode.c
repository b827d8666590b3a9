/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): a whole nar file, encoded again as it streams by. */
#include <stdlib.h>
#include <string.h>

#include "helper/eris/encode.h"
#include "helper/fetch/heal.h"
#include "helper/fetch/recode.h"
#include "helper/ipfs/range.h"

struct kept {
	uint8_t ref[ERIS_REF];
	uint8_t *data;
};

struct recode {
	struct eris_cap cap;
	struct encode *encode;
	uint64_t from;
	int failed;
	unsigned first, count; /* a ring */
	int dropped;           /* more blocks than it holds */
	struct kept kept[RECODE_KEPT];
};

static int
keep(void *ctx, const struct encode_block *b, struct err *e)
{
	struct recode *r = ctx;
	struct kept *k = &r->kept[(r->first + r->count) % RECODE_KEPT];

	if (b->level == 0 && b->offset + r->cap.block_size <= r->from)
		return 0;
	if (r->count == RECODE_KEPT) {
		k = &r->kept[r->first];
		r->first = (r->first + 1) % RECODE_KEPT;
		r->dropped = 1;
	} else {
		r->count++;
	}
	if (k->data == NULL && (k->data = malloc(r->cap.block_size)) == NULL)
		return err_set(e, "no memory for blocks");
	memcpy(k->ref, b->pair->ref, ERIS_REF);
	memcpy(k->data, b->data, r->cap.block_size);
	return 0;
}

struct recode *
recode_new(const struct eris_cap *cap, uint64_t from, struct err *e)
{
	struct recode *r = calloc(1, sizeof *r);
	struct encode_options o = { .block_size = cap->block_size, .sink = keep, .ctx = r };

	if (r == NULL)
		return (void)err_set(e, "no memory for an encoder"), NULL;
	r->cap = *cap;
	r->from = from;
	if ((r->encode = encode_new(&o, e)) == NULL) {
		free(r);
		return NULL;
	}
	return r;
}

void
recode_free(struct recode *r)
{
	if (r == NULL)
		return;
	encode_free(r->encode);
	for (unsigned i = 0; i < RECODE_KEPT; i++)
		free(r->kept[i].data);
	free(r);
}

void
recode_add(struct recode *r, const void *data, size_t len)
{
	struct err e;

	if (!r->failed && encode_put(r->encode, data, len, &e) != 0)
		r->failed = 1;
}

int
recode_end(struct recode *r, struct fetch *f)
{
	struct eris_cap cap;
	struct err e;

	if (r->failed || encode_end(r->encode, &cap, &e) != 0 || !range_whole(&r->cap, &cap))
		return -1;
	if (r->dropped)
		heal_missed(f, NULL);
	for (unsigned i = 0; i < r->count; i++) {
		const struct kept *k = &r->kept[(r->first + i) % RECODE_KEPT];

		heal_unsure(f, k->ref, 1);
		heal_block(f, k->ref, k->data, r->cap.block_size);
	}
	heal_whole(f);
	return (int)r->count;
}
