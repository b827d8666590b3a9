/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): the sum of an audit log: who signed, from where, what was refused and why, which blocks
 * were repaired. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helper/cli/auditsum.h"

#define ROWS 256   /* of one table */
#define SHOWN 20   /* the most frequent of them */
#define NAME 200

struct row {
	char name[NAME];
	uint64_t n;
};

struct table {
	struct row rows[ROWS];
	size_t count;
	uint64_t others;
};

enum { EVENTS, VERDICTS, KEYS, INFOS, NARS, USERS, REASONS, TABLES };

static const char *const titles[TABLES] = {
	"records", "verdicts", "signed by (SHA-256 of the key), of what was installed", "narinfos from",
	    "nars from",
	"users, as they name themselves (nobody checks that)", "refused or failed, and why",
};

struct auditsum {
	struct table tables[TABLES];
	uint64_t records, missed, repaired, reinserted, fetched, written, lost, items;
	char first[32], last[32];
};

struct auditsum *
auditsum_new(void)
{
	return calloc(1, sizeof(struct auditsum));
}

void
auditsum_free(struct auditsum *s)
{
	free(s);
}

static void
count(struct table *t, const char *prefix, struct auditline_text text)
{
	char name[NAME];

	if (text.at == NULL)
		return;
	(void)snprintf(name, sizeof name, "%s%.*s", prefix, (int)(text.len < NAME ? text.len : NAME),
	    text.at);
	for (size_t i = 0; i < t->count; i++)
		if (strcmp(t->rows[i].name, name) == 0) {
			t->rows[i].n++;
			return;
		}
	if (t->count == ROWS) {
		t->others++;
		return;
	}
	memcpy(t->rows[t->count].name, name, sizeof name);
	t->rows[t->count++].n = 1;
}

/* "http://HOST:PORT" of a URL. */
static struct auditline_text
origin(struct auditline_text url)
{
	size_t slashes = 0, n = 0;

	while (n < url.len && (slashes += url.at[n] == '/') < 3)
		n++;
	url.len = n;
	return url;
}

static uint64_t
number(const struct auditline *l, const char *name)
{
	uint64_t n;

	(void)auditline_number(l, name, &n);
	return n;
}

static void
copy(char dst[32], struct auditline_text t)
{
	(void)snprintf(dst, 32, "%.*s", (int)(t.len < 31 ? t.len : 31), t.at);
}

static void
add_item(struct auditsum *s, const struct auditline *l)
{
	struct auditline_text verdict = auditline_text(l, "verdict");

	s->items++;
	count(&s->tables[VERDICTS], "", verdict);
	if (auditline_is(verdict, "success")) {
		count(&s->tables[KEYS], "", auditline_text(l, "key"));
		count(&s->tables[INFOS], "", origin(auditline_text(l, "narinfo_server")));
		count(&s->tables[NARS], "", origin(auditline_text(l, "nar_source")));
	}
	s->missed += number(l, "blocks_missed");
	s->repaired += number(l, "blocks_repaired");
	s->reinserted += number(l, "blocks_reinserted");
	s->fetched += number(l, "bytes_fetched");
	s->written += number(l, "bytes_written");
}

void
auditsum_add(struct auditsum *s, const struct auditline *l)
{
	struct auditline_text event = auditline_text(l, "event"), when = auditline_text(l, "time"),
	    reason = auditline_text(l, "reason");
	char prefix[64];

	s->records++;
	if (when.at != NULL && s->first[0] == '\0')
		copy(s->first, when);
	if (when.at != NULL)
		copy(s->last, when);
	count(&s->tables[EVENTS], "", event);
	count(&s->tables[USERS], "", auditline_text(l, "claimed_user"));
	if (auditline_is(event, "substitute"))
		add_item(s, l);
	if (reason.at != NULL && event.at != NULL) {
		(void)snprintf(prefix, sizeof prefix, "%.*s: ", (int)(event.len < 32 ? event.len : 32),
		    event.at);
		count(&s->tables[REASONS], prefix, reason);
	}
}

static int
compare(const void *a, const void *b)
{
	const struct row *x = *(const struct row *const *)a, *y = *(const struct row *const *)b;

	return x->n != y->n ? (x->n < y->n ? 1 : -1) : strcmp(x->name, y->name);
}

static void
print_table(const char *title, const struct table *t)
{
	const struct row *sorted[ROWS];
	uint64_t rest = t->others;

	if (t->count == 0)
		return;
	for (size_t i = 0; i < t->count; i++)
		sorted[i] = &t->rows[i];
	qsort(sorted, t->count, sizeof sorted[0], compare);
	printf("\n%s\n", title);
	for (size_t i = 0; i < t->count; i++)
		if (i < SHOWN)
			printf("  %8llu  %s\n", (unsigned long long)sorted[i]->n, sorted[i]->name);
		else
			rest += sorted[i]->n;
	if (rest > 0)
		printf("  %8llu  others\n", (unsigned long long)rest);
}

void
auditsum_print(const struct auditsum *s)
{
	printf("%llu records", (unsigned long long)s->records);
	if (s->first[0] != '\0')
		printf(" from %s to %s", s->first, s->last);
	printf("\n%llu items: %llu bytes fetched, %llu written\n", (unsigned long long)s->items,
	    (unsigned long long)s->fetched, (unsigned long long)s->written);
	printf("blocks: IPFS did not have %llu, %llu came from elsewhere, %llu are back in it\n",
	    (unsigned long long)s->missed, (unsigned long long)s->repaired,
	    (unsigned long long)s->reinserted);
	for (int i = 0; i < TABLES; i++)
		print_table(titles[i], &s->tables[i]);
}
