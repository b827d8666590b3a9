/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch), blocks: where the blocks of a nar come from, counted and told. */
#include <stdio.h>
#include <string.h>

#include "helper/fetch/blockconf.h"
#include "helper/fetch/blocks_own.h"
#include "helper/fetch/blockwhere.h"

/* How often it is looked at where blocks come from; what came in the time before counts half. */
#define WHERE_MS 1000
/* The least part of all that is told: one of so many; and how many times as much another one brings before it is named
 * instead. */
#define WHERE_LEAST 20
#define WHERE_TIMES 2

static const char *const from_names[FROM_KINDS] = { "ipfs", "gateway", "blocks", "range" };

void
blockwhere_note(struct blocks *b, enum from from, size_t at)
{
	b->got[from]++;
	b->progress = b->fetch->now;
	for (unsigned i = 0; i < b->norigins; i++)
		b->origins[i].got += b->origins[i].from == from && b->origins[i].at == at;
}

static const char *
name_of(const struct blocks *b, const struct origin *o)
{
	return o->from == FROM_RANGE ? b->files[o->at].name : b->fetch->blocks->sources[o->at].name;
}

/* Once in a while: which origin brings most. */
static void
look_where(struct blocks *b)
{
	if (b->where_at != 0 && b->fetch->now < b->where_at + WHERE_MS)
		return;
	b->where_at = b->fetch->now;
	for (unsigned i = 0; i < b->norigins; i++) {
		struct origin *o = &b->origins[i];

		o->weight = o->weight / 2 + 2 * (o->got - o->shown);
		o->shown = o->got;
	}
	for (unsigned i = 0; i < b->norigins; i++)
		if (b->origins[i].weight > WHERE_TIMES * b->origins[b->where].weight)
			b->where = i;
}

void
blockwhere_text(struct blocks *b, char *text, size_t size)
{
	uint64_t weights[FROM_KINDS] = { 0 }, all = 0;
	const char *name, *host;
	unsigned kinds = 0;
	size_t n = 0;

	look_where(b);
	for (unsigned i = 0; i < b->norigins; i++) {
		weights[b->origins[i].from] += b->origins[i].weight;
		all += b->origins[i].weight;
	}
	for (unsigned i = 0; i < FROM_KINDS; i++)
		kinds += weights[i] > 0 && weights[i] * WHERE_LEAST >= all;
	text[0] = '\0';
	if (b->norigins == 0)
		return;
	name = name_of(b, &b->origins[b->where]);
	host = strchr(name, ' ');
	for (unsigned i = 0; i < FROM_KINDS && kinds > 1; i++)
		if (weights[i] > 0 && weights[i] * WHERE_LEAST >= all && n < size)
			n += (size_t)snprintf(text + n, size - n, "%s%s", n > 0 ? "+" : "", from_names[i]);
	if (n < size)
		(void)snprintf(text + n, size - n, "%s", kinds > 1 && host != NULL ? host : name);
}

void
blockwhere_summary(const struct blocks *b, char *text, size_t size)
{
	size_t n = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < FROM_KINDS; i++)
		if (b->got[i] > 0 && n < size)
			n += (size_t)snprintf(text + n, size - n, "%s%s %llu", n > 0 ? ", " : "", from_names[i],
			    (unsigned long long)b->got[i]);
}
