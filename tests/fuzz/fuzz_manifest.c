/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests (fuzz): nodes of manifests, and walks beneath them.  A root that is accepted is written again the
 * same. */
#include <sodium.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "helper/ipfs/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct last {
	const uint8_t *data;
	size_t size;
};

static int
compare(void *ctx, const uint8_t hash[ERIS_REF], const uint8_t *data, size_t len, struct err *e)
{
	const struct last *l = ctx;

	(void)e;
	if (!manifest_check(hash, data, len) || len != l->size || memcmp(data, l->data, len) != 0)
		abort();
	return 0;
}

static void
write_again(const struct manifest_node *n, const uint8_t *data, size_t size)
{
	struct last l = { data, size };
	struct manifest_writer *w = manifest_new(compare, &l, NULL);
	uint8_t root[ERIS_REF];

	if (w == NULL)
		abort();
	for (unsigned i = 0; i < n->count; i++)
		if (manifest_add(w, manifest_link(n, i), NULL) != 0)
			abort();
	if (manifest_end(w, n->cap, n->narinfo, n->narinfo_len, root, NULL) != 0)
		abort();
	manifest_free(w);
}

static void
walk(struct manifest_node *n, const uint8_t *data, size_t size)
{
	struct manifest_walk *w = manifest_walk_new(n, 1 << 20, NULL);
	uint8_t ref[ERIS_REF];
	enum manifest_step step;
	uint64_t turns = 0;

	if (w == NULL)
		return;
	while ((step = manifest_walk_next(w, ref, NULL)) == MANIFEST_BLOCK || step == MANIFEST_NEEDS) {
		if (turns++ > (1 << 20) * 2)
			abort();
		/* Only hash collisions could go on: any node is refused. */
		if (step == MANIFEST_NEEDS && manifest_walk_give(w, data, size, NULL) != 0)
			break;
	}
	manifest_walk_free(w);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct manifest_node n;

	if (sodium_init() < 0)
		abort();
	if (manifest_parse(&n, data, size, NULL) != 0)
		return 0;
	for (unsigned i = 0; i < n.count; i++)
		if (manifest_link(&n, i) < data || manifest_link(&n, i) + ERIS_REF > data + size)
			abort();
	if (!n.root)
		return 0;
	if (n.level == 0)
		write_again(&n, data, size);
	walk(&n, data, size);
	return 0;
}
