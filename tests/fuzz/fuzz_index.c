/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: any bytes as the answer of an index: what is accepted is bounded, and its groups can be used. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "helper/eris/urn.h"
#include "helper/fetch/indextext.h"

#define HASH "0123456789abcdfghijklmnpqrsvwxyz"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(const struct index_answer *a, const struct index_group *g)
{
	char urn[URN_LEN + 1];
	struct eris_cap again;
	struct err e;

	if (g->method < METHOD_NONE || g->method > METHOD_ZSTD || (!g->has_cap && !g->has_manifest))
		abort();
	if (g->file_size >= 1000000000000000u || indextext_match(a, g->method, g->file_size) == NULL)
		abort();
	if (!g->has_cap)
		return;
	urn_format(urn, &g->cap);
	if (urn_parse(&again, urn, &e) != 0 || memcmp(&again.root, &g->cap.root, sizeof again.root) != 0)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct index_answer a;
	struct err e = { 0 };
	char *text = malloc(size > 0 ? size : 1); /* exactly: reading behind it shows */

	if (size > 0)
		memcpy(text, data, size);
	if (indextext_parse(&a, text, size, HASH, &e) != 0) {
		if (e.text[0] == '\0')
			abort();
	} else {
		if (a.n > INDEX_GROUPS || size > INDEX_MAX)
			abort();
		for (size_t i = 0; i < a.n; i++)
			check(&a, &a.groups[i]);
	}
	free(text);
	return 0;
}
