/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): in which order the places of one nar are tried. */
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
by_method(const struct rank_entry *a, const struct rank_entry *b)
{
	int d = by_number(a->dead, b->dead);

	if (d == 0)
		d = by_number(a->server, b->server);
	if (d == 0)
		d = by_number(preference(a->method), preference(b->method));
	return d != 0 ? d : by_number(a->candidate, b->candidate);
}

static int
by_size(const struct rank_entry *a, const struct rank_entry *b)
{
	int d = by_number(a->file_size, b->file_size);

	return d != 0 ? d : by_method(a, b);
}

/* Not qsort(): that of older C libraries asks the kernel how much memory there is. */
static void
sort(struct rank_entry *entries, size_t n, int (*order)(const struct rank_entry *, const struct rank_entry *))
{
	for (size_t i = 1; i < n; i++) {
		struct rank_entry e = entries[i];
		size_t at = i;

		for (; at > 0 && order(&e, &entries[at - 1]) < 0; at--)
			entries[at] = entries[at - 1];
		entries[at] = e;
	}
}

/* A comparison that looked at sizes only where both are known would not be transitive; so the run of one
 * server's other methods is sorted by size as a whole or not at all. */
void
rank_sort(struct rank_entry *entries, size_t n)
{
	sort(entries, n, by_method);
	for (size_t i = 0, end; i < n; i = end) {
		int told = 1;

		end = i + 1;
		if (entries[i].method == METHOD_ZSTD)
			continue;
		for (end = i; end < n && entries[end].server == entries[i].server &&
		    entries[end].dead == entries[i].dead; end++)
			told &= entries[end].file_size > 0;
		if (told)
			sort(entries + i, end - i, by_size);
	}
}
