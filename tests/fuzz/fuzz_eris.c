/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests (fuzz): the ERIS decoder over trees that the input makes, with blocks in the order that the input
 * says.
 *
 * Hashes cannot be guessed, so the input is a list of plain blocks, from the leaves up, each sealed as it
 * comes: byte 0 its level, byte 1 what fills it, then what that needs.  A node's pairs are those of blocks
 * before it.  The last block is the root. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "helper/eris/access.h"
#include "helper/eris/block.h"
#include "helper/eris/decode.h"

#define MOST 64u

struct tree {
	uint8_t block[MOST][ERIS_SMALL];
	struct eris_pair pair[MOST];
	uint8_t level[MOST];
	unsigned n;
};

struct input {
	const uint8_t *data;
	size_t left;
};

static unsigned
next(struct input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->data++;
}

static void
add_block(struct tree *t, struct input *in)
{
	uint8_t *b = t->block[t->n];
	unsigned level = next(in) % 5, n = next(in);

	memset(b, 0, ERIS_SMALL);
	if (level == 0) {
		memset(b, (int)next(in), n * 4u);
		b[n * 4u] = (uint8_t)next(in);
	} else if (t->n > 0) {
		for (unsigned i = 0; i < n % 17; i++)
			memcpy(b + i * ERIS_PAIR, &t->pair[next(in) % t->n], ERIS_PAIR);
	}
	/* Then one byte anywhere, perhaps. */
	if (n >= 128)
		b[(next(in) * 256u + next(in)) % ERIS_SMALL] ^= (uint8_t)next(in);
	if (level == 0)
		block_seal_leaves(b, 1, ERIS_SMALL, block_null_secret, &t->pair[t->n]);
	else
		block_seal_node(b, ERIS_SMALL, level, &t->pair[t->n]);
	t->level[t->n++] = (uint8_t)level;
}

static int
find(const struct tree *t, const uint8_t *ref)
{
	for (unsigned i = 0; i < t->n; i++)
		if (memcmp(t->pair[i].ref, ref, ERIS_REF) == 0)
			return (int)i;
	return -1;
}

static int
get(void *ctx, const uint8_t ref[ERIS_REF], uint8_t *buf, size_t size, size_t *len, struct err *e)
{
	const struct tree *t = ctx;
	int i = find(t, ref);

	if (i < 0 || size < ERIS_SMALL)
		return err_set(e, "missing");
	memcpy(buf, t->block[i], ERIS_SMALL);
	*len = ERIS_SMALL;
	return 0;
}

/* Every byte of content into a sum; *LENGTH of them.  0 when all came out. */
static int
stream(const struct tree *t, const struct decode_options *o, struct input *in, uint64_t *length, uint64_t *sum)
{
	struct decode *d = decode_new(o, NULL);
	struct decode_want want[64];
	unsigned wants = 0;
	int rc = d == NULL ? -1 : 0;

	*length = *sum = 0;
	while (rc == 0 && !decode_done(d)) {
		struct decode_given g[8];
		struct err e = { 0 };
		const uint8_t *data;
		uint64_t before = *length;
		unsigned n = 0;
		size_t len;

		while (wants < 64 && (rc = decode_want(d, &want[wants], &e)) == 1)
			wants++;
		if (wants == 64)
			abort(); /* window 20, ahead 4 at most, level 4 */
		if (wants > 0 && rc == 0) {
			unsigned i = next(in) % wants;
			int at = find(t, want[i].ref);

			if (at < 0) {
				rc = -1;
				break;
			}
			for (n = 0; n < 1 + next(in) % 8; n++)
				g[n] = (struct decode_given){ .ref = t->pair[at].ref, .block = t->block[at],
					.len = ERIS_SMALL, .known = n & 1 };
			if (next(in) % 8 == 1)
				g[0].len = next(in);
			rc = decode_give(d, g, n, &e);
			if (rc == 0 && g[0].verdict == DECODE_SPARE)
				abort();
			if (rc == 0 && !decode_wanted(d, t->pair[at].ref)) {
				memmove(&want[i], &want[i + 1], (--wants - i) * sizeof(*want));
			}
		}
		while (rc == 0 && (rc = decode_read(d, &data, &len, &e)) == 1) {
			if (len == 0 || len > ERIS_SMALL)
				abort();
			for (size_t i = 0; i < len; i++)
				*sum = *sum * 31 + data[i];
			*length += len;
			rc = 0;
		}
		if (rc != 0 && e.text[0] == '\0')
			abort();
		if (rc == 0 && n == 0 && *length == before && !decode_done(d))
			abort(); /* waits for nothing */
	}
	if (rc == 0 && decode_position(d) != *length)
		abort();
	decode_free(d);
	return rc;
}

static int
walk(struct tree *t, const struct eris_cap *cap, uint64_t most, uint64_t *length, uint64_t *sum)
{
	struct access *a = access_new(cap, get, t, NULL);
	const uint8_t *data;
	size_t len = 1;
	int rc = a == NULL ? -1 : 0;

	*length = *sum = 0;
	while (rc == 0 && *length <= most && (rc = access_read(a, *length, &data, &len, NULL)) == 0 && len > 0) {
		for (size_t i = 0; i < len; i++)
			*sum = *sum * 31 + data[i];
		*length += len;
	}
	access_free(a);
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct tree t;
	struct input in = { data, size };
	struct decode_options o = { .max_length = 1u << 20 };
	uint64_t length, sum, length2, sum2;
	unsigned n;
	int rc;

	if (block_init(NULL) != 0)
		abort();
	t.n = 0;
	o.window = 1 + next(&in) % 20;
	o.ahead = next(&in) % 5;
	n = 1 + next(&in) % MOST;
	while (t.n < n && in.left > 0)
		add_block(&t, &in);
	if (t.n == 0)
		return 0;
	o.cap = (struct eris_cap){ ERIS_SMALL, t.level[t.n - 1], t.pair[t.n - 1] };
	rc = stream(&t, &o, &in, &length, &sum);
	if (rc != 0)
		return 0;
	/* What one way reads, the other reads. */
	if (walk(&t, &o.cap, o.max_length, &length2, &sum2) != 0 || length2 != length || sum2 != sum)
		abort();
	return 0;
}
