/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): the index: which block is where in which nar, without any block. */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "helper/eris/urn.h"
#include "helper/publish/catalog.h"

#define APPLICATION 1851880044 /* 0x6e61726c, "narl" */
#define VERSION 4
/* A number as SQL has it. */
#define SQL(n) SQL_TEXT(n)
#define SQL_TEXT(n) #n
/* How long a writer waits for another one, in milliseconds; readers never wait. */
#define BUSY_MS 10000
/* Keys of a row at most, but for those of one reference, which stay together; and keys that are merged into a
 * row at once. */
#define ROW_KEYS 64
#define ROW_MERGE 4096
/* Pairs of a row of a node: ten rows fill a page, and what is left of it behind the rows of a small nar is
 * little.  The rows of a node have numbers one behind the other. */
#define NODE_PAIRS 6
#define NODE_ROWS 128
_Static_assert(ERIS_LARGE / ERIS_PAIR <= NODE_PAIRS * NODE_ROWS, "a node has room");

enum query {
	Q_NODE, Q_NAR, Q_NARS_OF, Q_NEXT, Q_NEXT_WANTED, Q_INFO, Q_NEXT_INFO, Q_TOTAL_INFO,
	    Q_TOTAL_NAR, Q_PAGES,
	Q_BEGIN, Q_HOLD, Q_COMMIT, Q_ROLLBACK, Q_BY_PATH, Q_ADD_NAR, Q_CHANGE, Q_STATE, Q_READY, Q_ADD_INFO,
	    Q_ADD_NODE, Q_ROW, Q_ROW_AFTER, Q_ROWS, Q_PUT_ROW, Q_DROP_ROW,
	Q_NODES_OF, Q_DROP_NODES, Q_KEEP_INFO, Q_DROP_NAR, Q_DROP_INFO, QUERIES
};

#define NAR_COLUMNS "SELECT id,hash,path,size,mtime,state,cap,manifest,info_mtime FROM nar "
/* The narinfo of an item stands beside its first nar as a rule; its name is not stored then. */
#define BESIDE(hash) "(SELECT substr(path,1,length(path)-4)||'.narinfo' FROM nar WHERE nar.hash=" hash \
	" ORDER BY id LIMIT 1)"
#define INFO_COLUMNS "SELECT hash,coalesce(path," BESIDE("info.hash") "),mtime FROM info "

static const char *const queries[QUERIES] = {
	[Q_NODE] = "SELECT id,pairs FROM node WHERE id>=?1 AND id<?2 ORDER BY id",
	[Q_NAR] = NAR_COLUMNS "WHERE id=?1",
	[Q_NARS_OF] = NAR_COLUMNS "WHERE hash=?1 ORDER BY id LIMIT ?2",
	[Q_NEXT] = NAR_COLUMNS "WHERE id>?1 ORDER BY id LIMIT 1",
	[Q_NEXT_WANTED] = NAR_COLUMNS "WHERE id>?1 AND state<2 ORDER BY id LIMIT 1",
	[Q_INFO] = INFO_COLUMNS "WHERE hash=?1",
	[Q_NEXT_INFO] = INFO_COLUMNS "WHERE hash>?1 ORDER BY hash LIMIT 1",
	[Q_TOTAL_INFO] = "SELECT count(*) FROM info",
	[Q_TOTAL_NAR] = "SELECT count(*),sum(size),sum(state=2),sum(CASE state WHEN 2 THEN size ELSE 0 END),"
	    "sum(CASE state WHEN 2 THEN size/32768+1+(size/32768+511)/512 ELSE 0 END) FROM nar",
	[Q_PAGES] = "SELECT page_count*page_size FROM pragma_page_count(),pragma_page_size()",
	[Q_BEGIN] = "BEGIN IMMEDIATE",
	[Q_HOLD] = "BEGIN",
	[Q_COMMIT] = "COMMIT",
	[Q_ROLLBACK] = "ROLLBACK",
	[Q_BY_PATH] = NAR_COLUMNS "WHERE hash=?1 AND path=?2",
	[Q_ADD_NAR] = "INSERT INTO nar(hash,path,size,mtime,state,info_mtime) VALUES(?1,?2,?3,?4,0,0)",
	[Q_CHANGE] = "UPDATE nar SET size=?2,mtime=?3,state=0,cap=NULL,manifest=NULL WHERE id=?1",
	[Q_STATE] = "UPDATE nar SET state=?2,cap=NULL,manifest=NULL WHERE id=?1",
	[Q_READY] = "UPDATE nar SET state=2,cap=?2,manifest=?3,info_mtime=?4 WHERE id=?1",
	[Q_ADD_INFO] = "INSERT OR REPLACE INTO info(hash,path,mtime) VALUES(?1,nullif(?2," BESIDE("?1") "),?3)",
	[Q_ADD_NODE] = "INSERT OR REPLACE INTO node(id,pairs) VALUES(?1,?2)",
	[Q_ROW] = "SELECT first,keys FROM block WHERE first<=?1 ORDER BY first DESC LIMIT 1",
	[Q_ROW_AFTER] = "SELECT first FROM block WHERE first>?1 ORDER BY first LIMIT 1",
	[Q_ROWS] = "SELECT first,keys FROM block ORDER BY first",
	[Q_PUT_ROW] = "INSERT OR REPLACE INTO block(first,keys) VALUES(?1,?2)",
	[Q_DROP_ROW] = "DELETE FROM block WHERE first=?1",
	[Q_NODES_OF] = "SELECT pairs FROM node WHERE id>=?1 AND id<?2",
	[Q_DROP_NODES] = "DELETE FROM node WHERE id>=?1 AND id<?2",
	[Q_KEEP_INFO] = "UPDATE info SET path=" BESIDE("info.hash") " WHERE path IS NULL AND "
	    "hash=(SELECT hash FROM nar WHERE id=?1)",
	[Q_DROP_NAR] = "DELETE FROM nar WHERE id=?1",
	[Q_DROP_INFO] = "DELETE FROM info WHERE hash=?1",
};

/* Rows of `info' are found by the item; a wanted nar by a partial index that is empty when all is done. */
static const char schema[] =
    "PRAGMA application_id=" SQL(APPLICATION) ";PRAGMA user_version=" SQL(VERSION) ";"
    "CREATE TABLE info(hash INTEGER PRIMARY KEY,path TEXT,mtime INTEGER NOT NULL);"
    "CREATE TABLE nar(id INTEGER PRIMARY KEY,hash INTEGER NOT NULL,path TEXT NOT NULL,size INTEGER NOT NULL,"
    "mtime INTEGER NOT NULL,state INTEGER NOT NULL,info_mtime INTEGER NOT NULL,cap BLOB,manifest BLOB);"
    "CREATE INDEX nar_hash ON nar(hash);"
    "CREATE INDEX nar_wanted ON nar(id) WHERE state<2;"
    "CREATE TABLE node(id INTEGER PRIMARY KEY,pairs BLOB NOT NULL);"
    "CREATE TABLE block(first INTEGER PRIMARY KEY,keys BLOB NOT NULL);";

_Static_assert(APPLICATION == 0x6e61726c, "what file(1) is told");

struct catalog {
	sqlite3 *db;
	sqlite3_stmt *prepared[QUERIES];
	uint8_t *merged, *row; /* what a row becomes: plain keys, and packed */
	size_t room;           /* keys that they can take */
};

/* --- SQLite ------------------------------------------------------------------------------------------- */

static int
failed(struct catalog *c, struct err *e)
{
	int rc = sqlite3_errcode(c->db);

	err_set(e, "the index: %s", sqlite3_errmsg(c->db));
	if (e != NULL && (rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB))
		e->code = CATALOG_DAMAGED;
	return -1;
}

/* A statement with nothing bound to it, prepared at its first use. */
static sqlite3_stmt *
get(struct catalog *c, enum query q)
{
	sqlite3_stmt **s = &c->prepared[q];

	if (*s == NULL)
		sqlite3_prepare_v3(c->db, queries[q], -1, SQLITE_PREPARE_PERSISTENT, s, NULL);
	return *s;
}

/* One step: 1: a row; 0: no more of them; -1. */
static int
step(struct catalog *c, sqlite3_stmt *s, struct err *e)
{
	int rc = s == NULL ? SQLITE_ERROR : sqlite3_step(s);

	if (rc == SQLITE_ROW)
		return 1;
	if (rc != SQLITE_DONE)
		failed(c, e);
	sqlite3_reset(s);
	return rc == SQLITE_DONE ? 0 : -1;
}

/* A statement without rows. */
static int
run(struct catalog *c, sqlite3_stmt *s, struct err *e)
{
	int rc = step(c, s, e);

	sqlite3_reset(s);
	return rc < 0 ? -1 : 0;
}

static int
run_with(struct catalog *c, enum query q, int64_t a, int64_t b, struct err *e)
{
	sqlite3_stmt *s = get(c, q);

	if (sqlite3_bind_parameter_count(s) > 0)
		sqlite3_bind_int64(s, 1, a);
	if (sqlite3_bind_parameter_count(s) > 1)
		sqlite3_bind_int64(s, 2, b);
	return run(c, s, e);
}

static int
pragma(struct catalog *c, const char *text, int64_t *value, struct err *e)
{
	sqlite3_stmt *s = NULL;
	int rc = -1;

	if (sqlite3_prepare_v2(c->db, text, -1, &s, NULL) == SQLITE_OK)
		rc = step(c, s, e);
	else
		failed(c, e);
	if (rc > 0 && value != NULL)
		*value = sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	return rc < 0 ? -1 : 0;
}

/* What is not ours is not touched. */
static int
check_version(struct catalog *c, int writable, struct err *e)
{
	int64_t application = 0, version = 0, tables = 0;

	if (pragma(c, "PRAGMA application_id", &application, e) != 0 ||
	    pragma(c, "PRAGMA user_version", &version, e) != 0 ||
	    pragma(c, "SELECT count(*) FROM sqlite_master", &tables, e) != 0)
		return -1;
	if (tables == 0 && writable) {
		if (sqlite3_exec(c->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK ||
		    pragma(c, "SELECT count(*) FROM sqlite_master", &tables, e) != 0 ||
		    (tables == 0 && sqlite3_exec(c->db, schema, NULL, NULL, NULL) != SQLITE_OK) ||
		    sqlite3_exec(c->db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
			return failed(c, e);
		return 0;
	}
	if (application == APPLICATION && version == VERSION)
		return 0;
	if (tables == 0)
		err_set(e, "the index is empty");
	else if (application != APPLICATION)
		err_set(e, "the file is no index of narlock-publish");
	else
		err_set(e, "the index is of version %lld, and this program makes version %d", (long long)version,
		    VERSION);
	if (e != NULL && tables != 0)
		e->code = CATALOG_DAMAGED;
	return -1;
}

void
catalog_start(void)
{
	uint64_t bytes;

	sqlite3_initialize();
	sqlite3_randomness(sizeof bytes, &bytes);
}

struct catalog *
catalog_open(const char *path, int writable, struct err *e)
{
	struct catalog *c = calloc(1, sizeof *c);
	/* Readers of a WAL write, too: locks, in the file beside it. */
	int persist = 1, flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_READWRITE | (writable ?
	    SQLITE_OPEN_CREATE : 0);

	if (c == NULL) {
		err_set(e, "out of memory");
		return NULL;
	}
	if (sqlite3_open_v2(path, &c->db, flags, NULL) != SQLITE_OK) {
		err_set(e, "%s: %s", path, c->db == NULL ? "out of memory" : sqlite3_errmsg(c->db));
		catalog_close(c);
		return NULL;
	}
	sqlite3_extended_result_codes(c->db, 0);
	/* Nothing is removed: the system call filter does not allow it. */
	sqlite3_file_control(c->db, NULL, SQLITE_FCNTL_PERSIST_WAL, &persist);
	sqlite3_busy_timeout(c->db, BUSY_MS);
	/* A file that somebody else wrote must not run anything. */
	sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(c->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	if ((writable && pragma(c, "PRAGMA page_size=4096", NULL, e) != 0) ||
	    pragma(c, writable ? "PRAGMA cache_size=-16384" : "PRAGMA cache_size=-4096", NULL, e) != 0 ||
	    pragma(c, "PRAGMA temp_store=memory", NULL, e) != 0 ||
	    pragma(c, "PRAGMA secure_delete=off", NULL, e) != 0 ||
	    pragma(c, "PRAGMA cell_size_check=1", NULL, e) != 0 ||
	    (writable && pragma(c, "PRAGMA journal_mode=wal", NULL, e) != 0) ||
	    pragma(c, "PRAGMA synchronous=normal", NULL, e) != 0 ||
	    pragma(c, "PRAGMA wal_autocheckpoint=4000", NULL, e) != 0 ||
	    pragma(c, "PRAGMA journal_size_limit=67108864", NULL, e) != 0 || check_version(c, writable,
	    e) != 0) {
		catalog_close(c);
		return NULL;
	}
	return c;
}

void
catalog_close(struct catalog *c)
{
	if (c == NULL)
		return;
	for (unsigned i = 0; i < QUERIES; i++)
		sqlite3_finalize(c->prepared[i]);
	sqlite3_close(c->db);
	free(c->merged);
	free(c->row);
	free(c);
}

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
	sqlite3_stmt *s = get(c, Q_ROWS);
	struct keys_reader r = { .last = { .ref = -1 } };
	int rc;

	*n = 0;
	while ((rc = step(c, s, e)) > 0) {
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

int
catalog_check(struct catalog *c, struct err *e)
{
	sqlite3_stmt *s = NULL;
	uint64_t n;
	int rc;

	if (sqlite3_prepare_v2(c->db, "PRAGMA integrity_check(1)", -1, &s, NULL) != SQLITE_OK)
		return failed(c, e);
	rc = step(c, s, e);
	if (rc > 0 && strcmp((const char *)sqlite3_column_text(s, 0), "ok") != 0) {
		rc = err_set(e, "the index: %s", (const char *)sqlite3_column_text(s, 0));
		e->code = CATALOG_DAMAGED;
	}
	sqlite3_finalize(s);
	return rc < 0 ? -1 : catalog_keys(c, &n, e);
}

/* --- Items -------------------------------------------------------------------------------------------- */

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

static int
one_nar(struct catalog *c, sqlite3_stmt *s, struct catalog_nar *nar, struct err *e)
{
	int rc = step(c, s, e);

	if (rc > 0)
		read_nar(nar, s);
	sqlite3_reset(s);
	return rc;
}

int
catalog_nar(struct catalog *c, uint32_t id, struct catalog_nar *nar, struct err *e)
{
	sqlite3_stmt *s = get(c, Q_NAR);

	sqlite3_bind_int64(s, 1, id);
	return one_nar(c, s, nar, e);
}

int
catalog_next(struct catalog *c, uint32_t after, int wanted, struct catalog_nar *nar, struct err *e)
{
	sqlite3_stmt *s = get(c, wanted ? Q_NEXT_WANTED : Q_NEXT);

	sqlite3_bind_int64(s, 1, after);
	return one_nar(c, s, nar, e);
}

int
catalog_nars_of(struct catalog *c, int64_t hash, struct catalog_nar *nars, unsigned max, unsigned *n,
    struct err *e)
{
	sqlite3_stmt *s = get(c, Q_NARS_OF);
	int rc;

	*n = 0;
	sqlite3_bind_int64(s, 1, hash);
	sqlite3_bind_int64(s, 2, max);
	while (*n < max && (rc = step(c, s, e)) != 0) {
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
	sqlite3_stmt *s = get(c, q);
	int rc;

	sqlite3_bind_int64(s, 1, hash);
	rc = step(c, s, e);
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

void
catalog_hold(struct catalog *c)
{
	run(c, get(c, Q_HOLD), NULL);
}

void
catalog_release(struct catalog *c)
{
	if (!sqlite3_get_autocommit(c->db) && run(c, get(c, Q_COMMIT), NULL) != 0)
		catalog_rollback(c);
}

int
catalog_totals(struct catalog *c, struct catalog_totals *t, struct err *e)
{
	sqlite3_stmt *infos = get(c, Q_TOTAL_INFO), *nars = get(c, Q_TOTAL_NAR), *pages = get(c, Q_PAGES);
	int rc = 0;

	memset(t, 0, sizeof *t);
	if (step(c, infos, e) > 0)
		t->infos = (uint64_t)sqlite3_column_int64(infos, 0);
	else
		rc = -1;
	if (rc == 0 && step(c, nars, e) > 0) {
		t->nars = (uint64_t)sqlite3_column_int64(nars, 0);
		t->bytes = (uint64_t)sqlite3_column_int64(nars, 1);
		t->ready = (uint64_t)sqlite3_column_int64(nars, 2);
		t->ready_bytes = (uint64_t)sqlite3_column_int64(nars, 3);
		t->blocks = (uint64_t)sqlite3_column_int64(nars, 4);
	} else
		rc = -1;
	if (rc == 0 && step(c, pages, e) > 0)
		t->file = (uint64_t)sqlite3_column_int64(pages, 0);
	else
		rc = -1;
	sqlite3_reset(infos);
	sqlite3_reset(nars);
	sqlite3_reset(pages);
	return rc;
}

/* --- Blocks ------------------------------------------------------------------------------------------- */

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

void
catalog_key(uint8_t *key, const uint8_t ref[ERIS_REF], uint32_t nar, uint32_t number)
{
	keys_make(key, ref, nar, number);
}

int
catalog_find(struct catalog *c, const uint8_t ref[ERIS_REF], struct catalog_place *places, unsigned *n,
    struct err *e)
{
	sqlite3_stmt *s = get(c, Q_ROW);
	const int64_t want = keys_ref(ref);
	struct keys_reader r;
	int rc;

	*n = 0;
	sqlite3_bind_int64(s, 1, want);
	rc = step(c, s, e);
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

static int64_t
node_id(uint32_t nar, uint32_t number)
{
	return ((int64_t)nar << 24 | number) * NODE_ROWS;
}

int
catalog_node(struct catalog *c, uint32_t nar, uint32_t number, uint8_t *plain, struct err *e)
{
	sqlite3_stmt *s = get(c, Q_NODE);
	const int64_t id = node_id(nar, number);
	size_t len = 0;
	int rc;

	sqlite3_bind_int64(s, 1, id);
	sqlite3_bind_int64(s, 2, id + NODE_ROWS);
	while ((rc = step(c, s, e)) > 0) {
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

/* --- Writing ------------------------------------------------------------------------------------------ */

int
catalog_begin(struct catalog *c, struct err *e)
{
	return run(c, get(c, Q_BEGIN), e);
}

int
catalog_commit(struct catalog *c, struct err *e)
{
	if (run(c, get(c, Q_COMMIT), e) == 0)
		return 0;
	catalog_rollback(c);
	return -1;
}

void
catalog_rollback(struct catalog *c)
{
	if (!sqlite3_get_autocommit(c->db))
		run(c, get(c, Q_ROLLBACK), NULL);
}

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
	sqlite3_stmt *s = get(c, Q_ROW), *after = get(c, Q_ROW_AFTER);
	struct keys_reader r;
	int rc;

	*row = (struct row){ 0, KEYS_END, 0 };
	sqlite3_bind_int64(s, 1, want);
	rc = step(c, s, e);
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
	rc = step(c, after, e);
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
		return run_with(c, Q_DROP_ROW, first, 0, e);
	for (size_t i = 1; at < row->n; i++) {
		sqlite3_stmt *s = get(c, Q_PUT_ROW);
		size_t to = i < rows ? row->n * i / rows : row->n;

		while (to < row->n && memcmp(c->merged + to * KEYS_SIZE, c->merged + (to - 1) * KEYS_SIZE,
		    KEYS_SHORT) == 0)
			to++;
		if (to <= at) /* all of it went with the piece before */
			continue;
		sqlite3_bind_int64(s, 1, first);
		sqlite3_bind_blob(s, 2, c->row, (int)keys_pack(c->row, first, c->merged + at * KEYS_SIZE, to - at),
		    SQLITE_STATIC);
		if (run(c, s, e) != 0)
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

/* The keys of the blocks that pairs of one node name. */
static int
drop_pairs(struct catalog *c, uint32_t nar, const uint8_t *pairs, size_t len, struct err *e)
{
	uint8_t keys[ERIS_LARGE / ERIS_PAIR * KEYS_SIZE];
	size_t n = 0;

	for (; len >= ERIS_PAIR; pairs += ERIS_PAIR, len -= ERIS_PAIR)
		keys_make(keys + n++ * KEYS_SIZE, pairs, nar, 0);
	qsort(keys, n, KEYS_SIZE, compare_keys);
	return change_keys(c, keys, n, 0, e);
}

static int
drop_ref(struct catalog *c, uint32_t nar, const uint8_t ref[ERIS_REF], struct err *e)
{
	uint8_t pair[ERIS_PAIR] = { 0 };

	memcpy(pair, ref, ERIS_REF);
	return drop_pairs(c, nar, pair, sizeof pair, e);
}

/* Keys and nodes of a nar.  Keys are stored together with the node above them, so that no key is left
 * over. */
static int
drop_blocks(struct catalog *c, uint32_t id, struct err *e)
{
	sqlite3_stmt *s = get(c, Q_NODES_OF);
	struct catalog_nar nar;
	uint8_t *pairs;
	int rc;

	rc = catalog_nar(c, id, &nar, e);
	if (rc > 0 && nar.has_manifest && drop_ref(c, id, nar.manifest, e) != 0)
		return -1;
	if (rc > 0 && nar.state == CATALOG_READY &&
	    drop_pairs(c, id, (const uint8_t *)&nar.cap.root, ERIS_PAIR, e) != 0)
		return -1;
	if (rc <= 0)
		return rc;
	pairs = malloc(ERIS_LARGE);
	if (pairs == NULL)
		return err_set(e, "out of memory");
	sqlite3_bind_int64(s, 1, node_id(id, 0));
	sqlite3_bind_int64(s, 2, node_id(id + 1, 0));
	while ((rc = step(c, s, e)) > 0) {
		int n = sqlite3_column_bytes(s, 0);

		if (n <= 0 || n > (int)ERIS_LARGE)
			continue;
		memcpy(pairs, sqlite3_column_blob(s, 0), (size_t)n);
		if (drop_pairs(c, id, pairs, (size_t)n, e) != 0) {
			rc = -1;
			break;
		}
	}
	sqlite3_reset(s);
	free(pairs);
	if (rc < 0)
		return -1;
	return run_with(c, Q_DROP_NODES, node_id(id, 0), node_id(id + 1, 0), e);
}

static int
set_state(struct catalog *c, uint32_t id, enum catalog_state state, struct err *e)
{
	return run_with(c, Q_STATE, id, state, e);
}

int
catalog_put_nar(struct catalog *c, int64_t hash, const char *path, uint64_t size, int64_t mtime, int *changed,
    struct err *e)
{
	sqlite3_stmt *s = get(c, Q_BY_PATH);
	struct catalog_nar old;
	int rc;

	*changed = 0;
	sqlite3_bind_int64(s, 1, hash);
	sqlite3_bind_text(s, 2, path, -1, SQLITE_STATIC);
	rc = one_nar(c, s, &old, e);
	if (rc < 0)
		return -1;
	if (rc > 0 && old.size == size && old.mtime == mtime)
		return 0;
	*changed = 1;
	if (rc > 0) {
		if (drop_blocks(c, old.id, e) != 0)
			return -1;
		s = get(c, Q_CHANGE);
		sqlite3_bind_int64(s, 1, old.id);
		sqlite3_bind_int64(s, 2, (int64_t)size);
		sqlite3_bind_int64(s, 3, mtime);
		return run(c, s, e);
	}
	s = get(c, Q_ADD_NAR);
	sqlite3_bind_int64(s, 1, hash);
	sqlite3_bind_text(s, 2, path, -1, SQLITE_STATIC);
	sqlite3_bind_int64(s, 3, (int64_t)size);
	sqlite3_bind_int64(s, 4, mtime);
	if (run(c, s, e) != 0)
		return -1;
	if (sqlite3_last_insert_rowid(c->db) > CATALOG_NARS)
		return err_set(e, "the index is full: delete it, and build it again");
	return 0;
}

int
catalog_put_info(struct catalog *c, const struct catalog_info *info, struct err *e)
{
	sqlite3_stmt *s = get(c, Q_ADD_INFO);

	sqlite3_bind_int64(s, 1, info->hash);
	sqlite3_bind_text(s, 2, info->path, -1, SQLITE_STATIC);
	sqlite3_bind_int64(s, 3, info->mtime);
	return run(c, s, e);
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
	sqlite3_stmt *s = get(c, Q_READY);
	uint8_t cap[ERIS_CAP], key[CATALOG_KEY];
	struct catalog_nar old;

	/* A manifest that another one replaces. */
	if (catalog_nar(c, nar->id, &old, e) < 0 ||
	    (old.has_manifest && drop_ref(c, nar->id, old.manifest, e) != 0))
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
	return run(c, s, e);
}

int
catalog_put_node(struct catalog *c, uint32_t nar, uint32_t number, const uint8_t *pairs, size_t len,
    struct err *e)
{
	sqlite3_stmt *s = get(c, Q_ADD_NODE);
	int64_t id = node_id(nar, number);

	if (run_with(c, Q_DROP_NODES, id, id + NODE_ROWS, e) != 0)
		return -1;
	while (len > 0) {
		size_t n = len < NODE_PAIRS * ERIS_PAIR ? len : NODE_PAIRS * ERIS_PAIR;

		sqlite3_bind_int64(s, 1, id++);
		sqlite3_bind_blob(s, 2, pairs, (int)n, SQLITE_STATIC);
		if (run(c, s, e) != 0)
			return -1;
		pairs += n;
		len -= n;
	}
	return 0;
}

int
catalog_drop_nar(struct catalog *c, uint32_t id, struct err *e)
{
	return drop_blocks(c, id, e) != 0 || run_with(c, Q_KEEP_INFO, id, 0, e) != 0 ? -1 :
	    run_with(c, Q_DROP_NAR, id, 0, e);
}

int
catalog_drop_info(struct catalog *c, int64_t hash, struct err *e)
{
	return run_with(c, Q_DROP_INFO, hash, 0, e);
}
