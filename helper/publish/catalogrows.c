/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish), index: rows of keys: they are read, searched, and changed where keys come and go. */
#include <stdlib.h>
#include <string.h>

#include "helper/publish/catalog_own.h"

/* Keys of a row at most, but for those of one reference, which stay together; and keys that are merged into a
 * row at once. */
#define ROW_KEYS 64
#define ROW_MERGE 4096

/* --- Reading ----------------------------------------------------------------------------------------- */

static int
rotten(struct err *e)
{
	err_set(e, "the index: keys that are damaged");
	if (e != NULL)
		e->code = CATALOG_DAMAGED;
	return -1;
}

int
catalog_keys(struct catalog *c, uint64_t *n, struct err *e)
{
	sqlite3_stmt *s = catalog_query(c, Q_ROWS);
	struct keys_reader r = { .last = { .ref = -1 } };
	int rc;

	*n = 0;
	while ((rc = catalog_step(c, s, e)) > 0) {
		int64_t first = sqlite3_column_int64(s, 0), before = r.last.ref;
		int more = first > before ? keys_read(&r, first, sqlite3_column_blob(s, 1),
		    (size_t)sqlite3_column_bytes(s, 1)) : -1;

		for (; more >= 0 && (more = keys_next(&r)) > 0;)
			++*n;
		if (more < 0) {
			rc = rotten(e);
			break;
		}
	}
	sqlite3_reset(s);
	return rc < 0 ? -1 : 0;
}

void
catalog_key(uint8_t *key, const uint8_t ref[ERIS_REF], uint32_t nar, uint32_t number)
{
	keys_make(key, ref, nar, number);
}

int
catalog_find(struct catalog *c, const uint8_t ref[ERIS_REF], struct catalog_place *places, unsigned *n,
    struct err *e)
{
	sqlite3_stmt *s = catalog_query(c, Q_ROW);
	const int64_t want = keys_ref(ref);
	struct keys_reader r;
	int rc;

	*n = 0;
	sqlite3_bind_int64(s, 1, want);
	rc = catalog_step(c, s, e);
	if (rc <= 0)
		return rc;
	rc = keys_read(&r, sqlite3_column_int64(s, 0), sqlite3_column_blob(s, 1),
	    (size_t)sqlite3_column_bytes(s, 1));
	while (rc >= 0 && *n < CATALOG_PLACES && (rc = keys_next(&r)) > 0 && r.last.ref <= want)
		if (r.last.ref == want)
			places[(*n)++] = (struct catalog_place){ r.last.nar, r.last.number };
	sqlite3_reset(s);
	return rc < 0 ? rotten(e) : 0;
}

/* --- One row ----------------------------------------------------------------------------------------- */

static int
compare_keys(const void *a, const void *b)
{
	return memcmp(a, b, KEYS_SIZE);
}

/* Room for N keys. */
static int
make_room(struct catalog *c, size_t n, struct err *e)
{
	uint8_t *merged, *row;

	if (n <= c->room)
		return 0;
	n += ROW_MERGE;
	merged = realloc(c->merged, n * KEYS_SIZE);
	if (merged != NULL)
		c->merged = merged;
	row = merged == NULL ? NULL : realloc(c->row, KEYS_ROOM(n));
	if (row == NULL)
		return err_set(e, "out of memory");
	c->row = row;
	c->room = n;
	return 0;
}

/* One row as it is. */
struct row {
	int64_t first, end; /* END: the row behind it */
	size_t n;           /* keys, at c->merged */
};

/* The row that the key WANT is in or belongs into, and room for MORE keys behind its own. */
static int
load_row(struct catalog *c, struct row *row, int64_t want, size_t more, struct err *e)
{
	sqlite3_stmt *s = catalog_query(c, Q_ROW), *after = catalog_query(c, Q_ROW_AFTER);
	struct keys_reader r;
	int rc;

	*row = (struct row){ 0, KEYS_END, 0 };
	sqlite3_bind_int64(s, 1, want);
	rc = catalog_step(c, s, e);
	if (rc > 0) {
		row->first = sqlite3_column_int64(s, 0);
		if (keys_read(&r, row->first, sqlite3_column_blob(s, 1), (size_t)sqlite3_column_bytes(s, 1)) != 0)
			rc = -1;
		while (rc > 0 && (rc = keys_next(&r)) > 0 && make_room(c, row->n + 1, e) == 0) {
			uint8_t *key = c->merged + row->n++ * KEYS_SIZE, ref[KEYS_SHORT];

			for (unsigned i = 0; i < KEYS_SHORT; i++)
				ref[i] = (uint8_t)(r.last.ref >> 8 * (KEYS_SHORT - 1 - i));
			keys_make(key, ref, r.last.nar, r.last.number);
		}
		if (rc < 0)
			rotten(e);
		else if (rc > 0)
			rc = -1; /* no room */
		sqlite3_reset(s);
	}
	if (rc < 0 || make_room(c, row->n + more, e) != 0)
		return -1;
	sqlite3_bind_int64(after, 1, want);
	rc = catalog_step(c, after, e);
	if (rc > 0)
		row->end = sqlite3_column_int64(after, 0);
	sqlite3_reset(after);
	return rc < 0 ? -1 : 0;
}

/* The keys at c->merged in place of a row: in rows of the same size, as few as can be. */
static int
store_row(struct catalog *c, const struct row *row, struct err *e)
{
	const size_t rows = (row->n + ROW_KEYS - 1) / ROW_KEYS;
	int64_t first = row->first;
	size_t at = 0;

	if (row->n == 0)
		return catalog_run_with(c, Q_DROP_ROW, first, 0, e);
	for (size_t i = 1; at < row->n; i++) {
		sqlite3_stmt *s = catalog_query(c, Q_PUT_ROW);
		size_t to = i < rows ? row->n * i / rows : row->n;

		while (to < row->n && memcmp(c->merged + to * KEYS_SIZE, c->merged + (to - 1) * KEYS_SIZE,
		    KEYS_SHORT) == 0)
			to++;
		if (to <= at) /* all of it went with the piece before */
			continue;
		sqlite3_bind_int64(s, 1, first);
		sqlite3_bind_blob(s, 2, c->row, (int)keys_pack(c->row, first, c->merged + at * KEYS_SIZE, to - at),
		    SQLITE_STATIC);
		if (catalog_run(c, s, e) != 0)
			return -1;
		at = to;
		first = at < row->n ? keys_ref(c->merged + at * KEYS_SIZE) : 0;
	}
	return 0;
}

/* How many of N sorted keys are for a row. */
static size_t
count_for(const struct row *row, const uint8_t *keys, size_t n)
{
	size_t m = 0;

	while (m < n && m < ROW_MERGE && keys_ref(keys + m * KEYS_SIZE) < row->end)
		m++;
	return m;
}

/* Sorted keys into a row, from the end on, so that both lie in one place. */
static size_t
add_to_row(struct catalog *c, struct row *row, const uint8_t *keys, size_t n)
{
	size_t m = count_for(row, keys, n), old = row->n, to = old + m, left = m, unique = 0;
	uint8_t *all = c->merged;

	while (left > 0) {
		const uint8_t *key = keys + (left - 1) * KEYS_SIZE, *mine = all + (old - 1) * KEYS_SIZE;

		if (old > 0 && compare_keys(mine, key) > 0) {
			memmove(all + --to * KEYS_SIZE, mine, KEYS_SIZE);
			old--;
		} else {
			memcpy(all + --to * KEYS_SIZE, key, KEYS_SIZE);
			left--;
		}
	}
	for (size_t i = 0; i < row->n + m; i++)
		if (i == 0 || compare_keys(all + i * KEYS_SIZE, all + (unique - 1) * KEYS_SIZE) != 0)
			memmove(all + unique++ * KEYS_SIZE, all + i * KEYS_SIZE, KEYS_SIZE);
	row->n = unique;
	return m;
}

/* The keys of one nar out of a row, whatever their numbers. */
static size_t
drop_from_row(struct catalog *c, struct row *row, const uint8_t *keys, size_t n)
{
	const size_t m = count_for(row, keys, n);
	size_t kept = 0, k = 0;

	for (size_t i = 0; i < row->n; i++) {
		const uint8_t *mine = c->merged + i * KEYS_SIZE;

		while (k < m && memcmp(keys + k * KEYS_SIZE, mine, KEYS_SHORT + 4) < 0)
			k++;
		if (k == m || memcmp(keys + k * KEYS_SIZE, mine, KEYS_SHORT + 4) != 0)
			memmove(c->merged + kept++ * KEYS_SIZE, mine, KEYS_SIZE);
	}
	row->n = kept;
	return m;
}

/* --- Keys of any rows -------------------------------------------------------------------------------- */

/* Sorted keys into the rows, or out of them. */
static int
change_keys(struct catalog *c, const uint8_t *keys, size_t n, int add, struct err *e)
{
	for (size_t at = 0; at < n;) {
		const uint8_t *from = keys + at * KEYS_SIZE;
		struct row row;
		size_t before;

		if (load_row(c, &row, keys_ref(from), ROW_MERGE, e) != 0)
			return -1;
		before = row.n;
		at += (add ? add_to_row : drop_from_row)(c, &row, from, n - at);
		if (row.n != before && store_row(c, &row, e) != 0)
			return -1;
	}
	return 0;
}

int
catalog_put_keys(struct catalog *c, uint8_t *keys, size_t n, struct err *e)
{
	/* In the order of the tree every row is touched once, not once a key. */
	qsort(keys, n, KEYS_SIZE, compare_keys);
	return change_keys(c, keys, n, 1, e);
}

int
catalogrows_drop_pairs(struct catalog *c, uint32_t nar, const uint8_t *pairs, size_t len, struct err *e)
{
	uint8_t keys[ERIS_LARGE / ERIS_PAIR * KEYS_SIZE];
	size_t n = 0;

	for (; len >= ERIS_PAIR; pairs += ERIS_PAIR, len -= ERIS_PAIR)
		keys_make(keys + n++ * KEYS_SIZE, pairs, nar, 0);
	qsort(keys, n, KEYS_SIZE, compare_keys);
	return change_keys(c, keys, n, 0, e);
}

int
catalogrows_drop_ref(struct catalog *c, uint32_t nar, const uint8_t ref[ERIS_REF], struct err *e)
{
	uint8_t pair[ERIS_PAIR] = { 0 };

	memcpy(pair, ref, ERIS_REF);
	return catalogrows_drop_pairs(c, nar, pair, sizeof pair, e);
}
