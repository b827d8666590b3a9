/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish), index: SQLite: the file, its queries, transactions. */
#include <stdlib.h>
#include <string.h>

#include "helper/publish/catalog_own.h"

#define APPLICATION 1851880044 /* 0x6e61726c, "narl" */
#define VERSION 4
/* A number as SQL has it. */
#define SQL(n) SQL_TEXT(n)
#define SQL_TEXT(n) #n
/* How long a writer waits for another one, in milliseconds; readers never wait. */
#define BUSY_MS 10000

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

/* --- Statements -------------------------------------------------------------------------------------- */

static int
failed(struct catalog *c, struct err *e)
{
	int rc = sqlite3_errcode(c->db);

	err_set(e, "the index: %s", sqlite3_errmsg(c->db));
	if (e != NULL && (rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB))
		e->code = CATALOG_DAMAGED;
	return -1;
}

sqlite3_stmt *
catalog_query(struct catalog *c, enum query q)
{
	sqlite3_stmt **s = &c->prepared[q];

	if (*s == NULL)
		sqlite3_prepare_v3(c->db, queries[q], -1, SQLITE_PREPARE_PERSISTENT, s, NULL);
	return *s;
}

int
catalog_step(struct catalog *c, sqlite3_stmt *s, struct err *e)
{
	int rc = s == NULL ? SQLITE_ERROR : sqlite3_step(s);

	if (rc == SQLITE_ROW)
		return 1;
	if (rc != SQLITE_DONE)
		failed(c, e);
	sqlite3_reset(s);
	return rc == SQLITE_DONE ? 0 : -1;
}

int
catalog_run(struct catalog *c, sqlite3_stmt *s, struct err *e)
{
	int rc = catalog_step(c, s, e);

	sqlite3_reset(s);
	return rc < 0 ? -1 : 0;
}

int
catalog_run_with(struct catalog *c, enum query q, int64_t a, int64_t b, struct err *e)
{
	sqlite3_stmt *s = catalog_query(c, q);

	if (sqlite3_bind_parameter_count(s) > 0)
		sqlite3_bind_int64(s, 1, a);
	if (sqlite3_bind_parameter_count(s) > 1)
		sqlite3_bind_int64(s, 2, b);
	return catalog_run(c, s, e);
}

static int
pragma(struct catalog *c, const char *text, int64_t *value, struct err *e)
{
	sqlite3_stmt *s = NULL;
	int rc = -1;

	if (sqlite3_prepare_v2(c->db, text, -1, &s, NULL) == SQLITE_OK)
		rc = catalog_step(c, s, e);
	else
		failed(c, e);
	if (rc > 0 && value != NULL)
		*value = sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	return rc < 0 ? -1 : 0;
}

/* --- The file ---------------------------------------------------------------------------------------- */

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

int
catalog_check(struct catalog *c, struct err *e)
{
	sqlite3_stmt *s = NULL;
	uint64_t n;
	int rc;

	if (sqlite3_prepare_v2(c->db, "PRAGMA integrity_check(1)", -1, &s, NULL) != SQLITE_OK)
		return failed(c, e);
	rc = catalog_step(c, s, e);
	if (rc > 0 && strcmp((const char *)sqlite3_column_text(s, 0), "ok") != 0) {
		rc = err_set(e, "the index: %s", (const char *)sqlite3_column_text(s, 0));
		e->code = CATALOG_DAMAGED;
	}
	sqlite3_finalize(s);
	return rc < 0 ? -1 : catalog_keys(c, &n, e);
}

/* --- Transactions ------------------------------------------------------------------------------------ */

void
catalog_hold(struct catalog *c)
{
	catalog_run(c, catalog_query(c, Q_HOLD), NULL);
}

void
catalog_release(struct catalog *c)
{
	if (!sqlite3_get_autocommit(c->db) && catalog_run(c, catalog_query(c, Q_COMMIT), NULL) != 0)
		catalog_rollback(c);
}

int
catalog_begin(struct catalog *c, struct err *e)
{
	return catalog_run(c, catalog_query(c, Q_BEGIN), e);
}

int
catalog_commit(struct catalog *c, struct err *e)
{
	if (catalog_run(c, catalog_query(c, Q_COMMIT), e) == 0)
		return 0;
	catalog_rollback(c);
	return -1;
}

void
catalog_rollback(struct catalog *c)
{
	if (!sqlite3_get_autocommit(c->db))
		catalog_run(c, catalog_query(c, Q_ROLLBACK), NULL);
}
