/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish), index: what is written of nars and narinfos, and forgotten. */
#include <stdlib.h>
#include <string.h>

#include "helper/eris/urn.h"
#include "helper/publish/catalog_own.h"

/* Keys and nodes of a nar.  Keys are stored together with the node above them, so that no key is left
 * over. */
static int
drop_blocks(struct catalog *c, uint32_t id, struct err *e)
{
	sqlite3_stmt *s = catalog_query(c, Q_NODES_OF);
	struct catalog_nar nar;
	uint8_t *pairs;
	int rc;

	rc = catalog_nar(c, id, &nar, e);
	if (rc > 0 && nar.has_manifest && catalogrows_drop_ref(c, id, nar.manifest, e) != 0)
		return -1;
	if (rc > 0 && nar.state == CATALOG_READY &&
	    catalogrows_drop_pairs(c, id, (const uint8_t *)&nar.cap.root, ERIS_PAIR, e) != 0)
		return -1;
	if (rc <= 0)
		return rc;
	pairs = malloc(ERIS_LARGE);
	if (pairs == NULL)
		return err_set(e, "out of memory");
	sqlite3_bind_int64(s, 1, catalog_node_id(id, 0));
	sqlite3_bind_int64(s, 2, catalog_node_id(id + 1, 0));
	while ((rc = catalog_step(c, s, e)) > 0) {
		int n = sqlite3_column_bytes(s, 0);

		if (n <= 0 || n > (int)ERIS_LARGE)
			continue;
		memcpy(pairs, sqlite3_column_blob(s, 0), (size_t)n);
		if (catalogrows_drop_pairs(c, id, pairs, (size_t)n, e) != 0) {
			rc = -1;
			break;
		}
	}
	sqlite3_reset(s);
	free(pairs);
	if (rc < 0)
		return -1;
	return catalog_run_with(c, Q_DROP_NODES, catalog_node_id(id, 0), catalog_node_id(id + 1, 0), e);
}

static int
set_state(struct catalog *c, uint32_t id, enum catalog_state state, struct err *e)
{
	return catalog_run_with(c, Q_STATE, id, state, e);
}

int
catalog_put_nar(struct catalog *c, int64_t hash, const char *path, uint64_t size, int64_t mtime, int *changed,
    struct err *e)
{
	sqlite3_stmt *s = catalog_query(c, Q_BY_PATH);
	struct catalog_nar old;
	int rc;

	*changed = 0;
	sqlite3_bind_int64(s, 1, hash);
	sqlite3_bind_text(s, 2, path, -1, SQLITE_STATIC);
	rc = catalogread_one_nar(c, s, &old, e);
	if (rc < 0)
		return -1;
	if (rc > 0 && old.size == size && old.mtime == mtime)
		return 0;
	*changed = 1;
	if (rc > 0) {
		if (drop_blocks(c, old.id, e) != 0)
			return -1;
		s = catalog_query(c, Q_CHANGE);
		sqlite3_bind_int64(s, 1, old.id);
		sqlite3_bind_int64(s, 2, (int64_t)size);
		sqlite3_bind_int64(s, 3, mtime);
		return catalog_run(c, s, e);
	}
	s = catalog_query(c, Q_ADD_NAR);
	sqlite3_bind_int64(s, 1, hash);
	sqlite3_bind_text(s, 2, path, -1, SQLITE_STATIC);
	sqlite3_bind_int64(s, 3, (int64_t)size);
	sqlite3_bind_int64(s, 4, mtime);
	if (catalog_run(c, s, e) != 0)
		return -1;
	if (sqlite3_last_insert_rowid(c->db) > CATALOG_NARS)
		return err_set(e, "the index is full: delete it, and build it again");
	return 0;
}

int
catalog_put_info(struct catalog *c, const struct catalog_info *info, struct err *e)
{
	sqlite3_stmt *s = catalog_query(c, Q_ADD_INFO);

	sqlite3_bind_int64(s, 1, info->hash);
	sqlite3_bind_text(s, 2, info->path, -1, SQLITE_STATIC);
	sqlite3_bind_int64(s, 3, info->mtime);
	return catalog_run(c, s, e);
}

int
catalog_partly(struct catalog *c, uint32_t id, struct err *e)
{
	return set_state(c, id, CATALOG_PARTLY, e);
}

int
catalog_unusable(struct catalog *c, uint32_t id, struct err *e)
{
	return drop_blocks(c, id, e) != 0 ? -1 : set_state(c, id, CATALOG_UNUSABLE, e);
}

int
catalog_again(struct catalog *c, uint32_t id, struct err *e)
{
	return drop_blocks(c, id, e) != 0 ? -1 : set_state(c, id, CATALOG_WANTED, e);
}

int
catalog_ready(struct catalog *c, const struct catalog_nar *nar, struct err *e)
{
	sqlite3_stmt *s = catalog_query(c, Q_READY);
	uint8_t cap[ERIS_CAP], key[CATALOG_KEY];
	struct catalog_nar old;

	/* A manifest that another one replaces. */
	if (catalog_nar(c, nar->id, &old, e) < 0 ||
	    (old.has_manifest && catalogrows_drop_ref(c, nar->id, old.manifest, e) != 0))
		return -1;
	if (nar->has_manifest) {
		catalog_key(key, nar->manifest, nar->id, CATALOG_MANIFEST);
		if (catalog_put_keys(c, key, 1, e) != 0)
			return -1;
	}
	urn_to_bytes(cap, &nar->cap);
	sqlite3_bind_int64(s, 1, nar->id);
	sqlite3_bind_blob(s, 2, cap, sizeof cap, SQLITE_STATIC);
	if (nar->has_manifest)
		sqlite3_bind_blob(s, 3, nar->manifest, ERIS_REF, SQLITE_STATIC);
	else
		sqlite3_bind_null(s, 3);
	sqlite3_bind_int64(s, 4, nar->info_mtime);
	return catalog_run(c, s, e);
}

int
catalog_put_node(struct catalog *c, uint32_t nar, uint32_t number, const uint8_t *pairs, size_t len,
    struct err *e)
{
	sqlite3_stmt *s = catalog_query(c, Q_ADD_NODE);
	int64_t id = catalog_node_id(nar, number);

	if (catalog_run_with(c, Q_DROP_NODES, id, id + NODE_ROWS, e) != 0)
		return -1;
	while (len > 0) {
		size_t n = len < NODE_PAIRS * ERIS_PAIR ? len : NODE_PAIRS * ERIS_PAIR;

		sqlite3_bind_int64(s, 1, id++);
		sqlite3_bind_blob(s, 2, pairs, (int)n, SQLITE_STATIC);
		if (catalog_run(c, s, e) != 0)
			return -1;
		pairs += n;
		len -= n;
	}
	return 0;
}

int
catalog_drop_nar(struct catalog *c, uint32_t id, struct err *e)
{
	return drop_blocks(c, id, e) != 0 || catalog_run_with(c, Q_KEEP_INFO, id, 0, e) != 0 ? -1 :
	    catalog_run_with(c, Q_DROP_NAR, id, 0, e);
}

int
catalog_drop_info(struct catalog *c, int64_t hash, struct err *e)
{
	return catalog_run_with(c, Q_DROP_INFO, hash, 0, e);
}
