/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): in which order the places of one nar are tried. */
#include <stdlib.h>
#include <string.h>

#include "helper/fetch/rank.h"
#include "ipc/wire.h"

uint8_t
rank_method(const char *name)
{
	static const struct { const char *name; uint8_t method; } methods[] = {
		{ "none", METHOD_NONE }, { "", METHOD_NONE }, { "gzip", METHOD_GZIP }, { "lzip", METHOD_LZIP },
		{ "zstd", METHOD_ZSTD },
	};

	for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
		if (strcmp(methods[i].name, name) == 0)
			return methods[i].method;
	return 0;
}

static int
by_number(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

static unsigned
preference(uint8_t method)
{
	switch (method) {
	case METHOD_ZSTD: return 0;
	case METHOD_LZIP: return 1;
	case METHOD_GZIP: return 2;
	default: return 3;
	}
}

static int
by_method(const void *va, const void *vb)
{
	const struct rank_entry *a = va, *b = vb;
	int d = by_number(a->dead, b->dead);

	if (d == 0)
		d = by_number(a->server, b->server);
	if (d == 0)
		d = by_number(preference(a->method), preference(b->method));
	return d != 0 ? d : by_number(a->candidate, b->candidate);
}

static int
by_size(const void *va, const void *vb)
{
	const struct rank_entry *a = va, *b = vb;
	int d = by_number(a->file_size, b->file_size);

	return d != 0 ? d : by_method(va, vb);
}

/* A comparison that looked at sizes only where both are known would not be transitive; so the run of one
 * server's other methods is sorted by size as a whole or not at all. */
void
rank_sort(struct rank_entry *entries, size_t n)
{
	qsort(entries, n, sizeof *entries, by_method);
	for (size_t i = 0, end; i < n; i = end) {
		int told = 1;

		end = i + 1;
		if (entries[i].method == METHOD_ZSTD)
			continue;
		for (end = i; end < n && entries[end].server == entries[i].server &&
		    entries[end].dead == entries[i].dead; end++)
			told &= entries[end].file_size > 0;
		if (told)
			qsort(entries + i, end - i, sizeof *entries, by_size);
	}
}
