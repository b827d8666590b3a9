/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish), index: what its parts share: its structure, its queries, and the calls between them.
 *
 * catalog.c (SQLite) has the queries, which catalogread.c (what is known of items), catalogrows.c (rows of
 * keys) and catalogwrite.c (changes) ask; the last one uses the two before.  Nobody else includes this. */
#ifndef NARLOCK_PUBLISH_CATALOG_OWN_H
#define NARLOCK_PUBLISH_CATALOG_OWN_H

#include <sqlite3.h>

#include "helper/publish/catalog.h"

/* Pairs of a row of a node: ten rows fill a page, and what is left of it behind the rows of a small nar is
 * little.  The rows of a node have numbers one behind the other. */
#define NODE_PAIRS 6
#define NODE_ROWS 128
_Static_assert(ERIS_LARGE / ERIS_PAIR <= NODE_PAIRS * NODE_ROWS, "a node has room");

/* catalog_node_id(nar, number): the number of a node's first row. */
static inline int64_t
catalog_node_id(uint32_t nar, uint32_t number)
{
	return ((int64_t)nar << 24 | number) * NODE_ROWS;
}

enum query {
	Q_NODE, Q_NAR, Q_NARS_OF, Q_NEXT, Q_NEXT_WANTED, Q_INFO, Q_NEXT_INFO, Q_TOTAL_INFO,
	    Q_TOTAL_NAR, Q_PAGES,
	Q_BEGIN, Q_HOLD, Q_COMMIT, Q_ROLLBACK, Q_BY_PATH, Q_ADD_NAR, Q_CHANGE, Q_STATE, Q_READY, Q_ADD_INFO,
	    Q_ADD_NODE, Q_ROW, Q_ROW_AFTER, Q_ROWS, Q_PUT_ROW, Q_DROP_ROW,
	Q_NODES_OF, Q_DROP_NODES, Q_KEEP_INFO, Q_DROP_NAR, Q_DROP_INFO, QUERIES
};

struct catalog {
	sqlite3 *db;
	sqlite3_stmt *prepared[QUERIES];
	uint8_t *merged, *row; /* what a row becomes: plain keys, and packed */
	size_t room;           /* keys that they can take */
};

/* --- catalog.c: SQLite ------------------------------------------------------------------------------- */

/* catalog_query(c, q): a statement with nothing bound to it, prepared at its first use. */
sqlite3_stmt *catalog_query(struct catalog *c, enum query q);
/* catalog_step(c, s, e): one step: 1: a row; 0: no more of them; -1. */
int catalog_step(struct catalog *c, sqlite3_stmt *s, struct err *e);
/* catalog_run(c, s, e), catalog_run_with(c, q, a, b, e): a statement without rows; with A and B bound to it, if
 * it has so many parameters. */
int catalog_run(struct catalog *c, sqlite3_stmt *s, struct err *e);
int catalog_run_with(struct catalog *c, enum query q, int64_t a, int64_t b, struct err *e);

/* --- catalogread.c: items ---------------------------------------------------------------------------- */

/* catalogread_one_nar(c, s, nar, e): what a statement for the columns of a nar (catalog.c) finds: 1; 0: nothing; -1. */
int catalogread_one_nar(struct catalog *c, sqlite3_stmt *s, struct catalog_nar *nar, struct err *e);

/* --- catalogrows.c: rows of keys --------------------------------------------------------------------- */

/* catalogrows_drop_pairs(c, nar, pairs, len, e): the keys of the blocks that pairs of one node name. */
int catalogrows_drop_pairs(struct catalog *c, uint32_t nar, const uint8_t *pairs, size_t len, struct err *e);
/* catalogrows_drop_ref(c, nar, ref, e): that of one block. */
int catalogrows_drop_ref(struct catalog *c, uint32_t nar, const uint8_t ref[ERIS_REF], struct err *e);

#endif
