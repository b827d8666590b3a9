/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish), index: what it knows of items, and the nodes of a nar. */
#include <string.h>

#include "helper/eris/urn.h"
#include "helper/publish/catalog_own.h"

/* --- Items ------------------------------------------------------------------------------------------- */

int64_t
catalog_hash(const char *part)
{
	static const char digits[] = "0123456789abcdfghijklmnpqrsvwxyz";
	uint64_t h = 0;

	for (unsigned i = 0; i < 32; i++) {
		const char *at = part[i] == '\0' ? NULL : strchr(digits, part[i]);

		if (at == NULL)
			return -1;
		/* Every digit counts: the twelve last ones alone are 60 bits of the hash. */
		h = (h << 5 | h >> 59) ^ (uint64_t)(at - digits);
	}
	return (int64_t)(h & INT64_MAX);
}

static void
copy_text(char *to, size_t size, sqlite3_stmt *s, int column)
{
	const char *text = (const char *)sqlite3_column_text(s, column);
	size_t n = text == NULL ? 0 : strnlen(text, size - 1);

	if (n > 0)
		memcpy(to, text, n);
	to[n] = '\0';
}

static void
read_nar(struct catalog_nar *nar, sqlite3_stmt *s)
{
	memset(nar, 0, sizeof *nar);
	nar->id = (uint32_t)sqlite3_column_int64(s, 0);
	nar->hash = sqlite3_column_int64(s, 1);
	copy_text(nar->path, sizeof nar->path, s, 2);
	nar->size = (uint64_t)sqlite3_column_int64(s, 3);
	nar->mtime = sqlite3_column_int64(s, 4);
	nar->state = (enum catalog_state)sqlite3_column_int(s, 5);
	nar->info_mtime = sqlite3_column_int64(s, 8);
	if (nar->state == CATALOG_READY && (sqlite3_column_bytes(s, 6) != ERIS_CAP ||
	    urn_from_bytes(&nar->cap, sqlite3_column_blob(s, 6), NULL) != 0))
		nar->state = CATALOG_PARTLY;
	nar->has_manifest = sqlite3_column_bytes(s, 7) == ERIS_REF;
	if (nar->has_manifest)
		memcpy(nar->manifest, sqlite3_column_blob(s, 7), ERIS_REF);
}

int
catalogread_one_nar(struct catalog *c, sqlite3_stmt *s, struct catalog_nar *nar, struct err *e)
{
	int rc = catalog_step(c, s, e);

	if (rc > 0)
		read_nar(nar, s);
	sqlite3_reset(s);
	return rc;
}

int
catalog_nar(struct catalog *c, uint32_t id, struct catalog_nar *nar, struct err *e)
{
	sqlite3_stmt *s = catalog_query(c, Q_NAR);

	sqlite3_bind_int64(s, 1, id);
	return catalogread_one_nar(c, s, nar, e);
}

int
catalog_next(struct catalog *c, uint32_t after, int wanted, struct catalog_nar *nar, struct err *e)
{
	sqlite3_stmt *s = catalog_query(c, wanted ? Q_NEXT_WANTED : Q_NEXT);

	sqlite3_bind_int64(s, 1, after);
	return catalogread_one_nar(c, s, nar, e);
}

int
catalog_nars_of(struct catalog *c, int64_t hash, struct catalog_nar *nars, unsigned max, unsigned *n,
    struct err *e)
{
	sqlite3_stmt *s = catalog_query(c, Q_NARS_OF);
	int rc;

	*n = 0;
	sqlite3_bind_int64(s, 1, hash);
	sqlite3_bind_int64(s, 2, max);
	while (*n < max && (rc = catalog_step(c, s, e)) != 0) {
		if (rc < 0)
			return -1;
		read_nar(&nars[(*n)++], s);
	}
	sqlite3_reset(s);
	return 0;
}

static int
one_info(struct catalog *c, enum query q, int64_t hash, struct catalog_info *info, struct err *e)
{
	sqlite3_stmt *s = catalog_query(c, q);
	int rc;

	sqlite3_bind_int64(s, 1, hash);
	rc = catalog_step(c, s, e);
	if (rc > 0) {
		info->hash = sqlite3_column_int64(s, 0);
		copy_text(info->path, sizeof info->path, s, 1);
		info->mtime = sqlite3_column_int64(s, 2);
	}
	sqlite3_reset(s);
	return rc;
}

int
catalog_info(struct catalog *c, int64_t hash, struct catalog_info *info, struct err *e)
{
	return one_info(c, Q_INFO, hash, info, e);
}

int
catalog_next_info(struct catalog *c, int64_t after, struct catalog_info *info, struct err *e)
{
	return one_info(c, Q_NEXT_INFO, after, info, e);
}

int
catalog_totals(struct catalog *c, struct catalog_totals *t, struct err *e)
{
	sqlite3_stmt *infos = catalog_query(c, Q_TOTAL_INFO), *nars = catalog_query(c, Q_TOTAL_NAR),
	    *pages = catalog_query(c, Q_PAGES);
	int rc = 0;

	memset(t, 0, sizeof *t);
	if (catalog_step(c, infos, e) > 0)
		t->infos = (uint64_t)sqlite3_column_int64(infos, 0);
	else
		rc = -1;
	if (rc == 0 && catalog_step(c, nars, e) > 0) {
		t->nars = (uint64_t)sqlite3_column_int64(nars, 0);
		t->bytes = (uint64_t)sqlite3_column_int64(nars, 1);
		t->ready = (uint64_t)sqlite3_column_int64(nars, 2);
		t->ready_bytes = (uint64_t)sqlite3_column_int64(nars, 3);
		t->blocks = (uint64_t)sqlite3_column_int64(nars, 4);
	} else
		rc = -1;
	if (rc == 0 && catalog_step(c, pages, e) > 0)
		t->file = (uint64_t)sqlite3_column_int64(pages, 0);
	else
		rc = -1;
	sqlite3_reset(infos);
	sqlite3_reset(nars);
	sqlite3_reset(pages);
	return rc;
}

/* --- Blocks ------------------------------------------------------------------------------------------ */

uint32_t
catalog_count(uint64_t size, unsigned level)
{
	uint32_t n = catalog_leaves(size);

	for (; level > 0 && n > 1; level--)
		n = (n + 511) / 512;
	return level > 0 ? 0 : n;
}

uint32_t
catalog_first(uint64_t size, unsigned level)
{
	uint32_t first = 0;

	for (unsigned l = 0; l < level; l++)
		first += catalog_count(size, l);
	return first;
}

unsigned
catalog_level(uint64_t size, uint32_t number)
{
	unsigned level = 0;

	while (number >= catalog_first(size, level + 1) && catalog_count(size, level + 1) > 0)
		level++;
	return level;
}

int
catalog_node(struct catalog *c, uint32_t nar, uint32_t number, uint8_t *plain, struct err *e)
{
	sqlite3_stmt *s = catalog_query(c, Q_NODE);
	const int64_t id = catalog_node_id(nar, number);
	size_t len = 0;
	int rc;

	sqlite3_bind_int64(s, 1, id);
	sqlite3_bind_int64(s, 2, id + NODE_ROWS);
	while ((rc = catalog_step(c, s, e)) > 0) {
		size_t n = (size_t)sqlite3_column_bytes(s, 1), at = (size_t)(sqlite3_column_int64(s, 0) - id);

		/* A row is missing, or is none. */
		if (n == 0 || at * NODE_PAIRS * ERIS_PAIR != len || n > ERIS_LARGE - len) {
			len = 0;
			break;
		}
		memcpy(plain + len, sqlite3_column_blob(s, 1), n);
		len += n;
	}
	sqlite3_reset(s);
	memset(plain + len, 0, ERIS_LARGE - len);
	return rc < 0 ? -1 : len > 0;
}
