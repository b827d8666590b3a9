/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): whether a file begins as a content did that came as blocks. */
#include <string.h>

#include "helper/eris/block.h"
#include "helper/fetch/prefix.h"

void
prefix_begin(struct prefix *p, uint32_t block_size)
{
	(void)crypto_generichash_init(&p->hash, NULL, 0, crypto_generichash_BYTES);
	p->block_size = block_size;
	p->len = 0;
}

void
prefix_leaf(struct prefix *p, const uint8_t ref[ERIS_REF])
{
	(void)crypto_generichash_update(&p->hash, ref, ERIS_REF);
}

void
prefix_add(struct prefix *p, const void *data, size_t n)
{
	const uint8_t *at = data;

	while (n > 0) {
		size_t some = p->block_size - p->len < n ? p->block_size - p->len : n;
		struct eris_pair pair;

		memcpy(p->leaf + p->len, at, some);
		p->len += some;
		at += some;
		n -= some;
		if (p->len < p->block_size)
			continue;
		block_leaf(p->sealed, &pair, p->leaf, p->block_size, p->block_size);
		prefix_leaf(p, pair.ref);
		p->len = 0;
	}
}

int
prefix_same(const struct prefix *a, const struct prefix *b)
{
	crypto_generichash_state ha = a->hash, hb = b->hash;
	uint8_t ours[crypto_generichash_BYTES], theirs[crypto_generichash_BYTES];

	(void)crypto_generichash_final(&ha, ours, sizeof ours);
	(void)crypto_generichash_final(&hb, theirs, sizeof theirs);
	return a->len == 0 && b->len == 0 && memcmp(ours, theirs, sizeof ours) == 0;
}
