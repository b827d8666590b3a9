/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): the index: which block is where in which nar, without any block.
 *
 * One SQLite file in WAL mode: one process writes, any number read, a SIGKILL or a power cut loses the last
 * transaction at most.  It can be deleted and built again from the cache at any time.
 *
 * A nar of L leaves has blocks numbered from 0: its leaves in the order of the content, then the nodes of
 * level 1, then those of level 2 and so on; the root is the last one.  What is stored for each block is a key
 * of the first CATALOG_SHORT bytes of its reference, the number of its nar, and its own number; some dozens of
 * them are packed into one row (keys.h).  Short keys collide now and then: the block's own hash says which one
 * it is.  Leaves are never stored.  Nodes are stored as the pairs that they hold: to rebuild one from its 16
 * MiB of leaves would take 30 ms. */
#ifndef NARLOCK_PUBLISH_CATALOG_H
#define NARLOCK_PUBLISH_CATALOG_H

#include <stddef.h>
#include <stdint.h>

#include "helper/eris/eris.h"
#include "helper/publish/keys.h"
#include "ipc/err.h"
#include "ipc/limits.h"

#define CATALOG_SHORT KEYS_SHORT
#define CATALOG_KEY KEYS_SIZE
/* Leaves of a nar: 512 GiB. */
#define CATALOG_LEAVES ((1u << 24) - (1u << 16))
#define CATALOG_NARS UINT32_MAX
/* The number of all nodes of a nar's manifest, which can be asked for like blocks.  Those below the root stand
 * as pairs without keys in nodes of this number and of those right below it. */
#define CATALOG_MANIFEST 0xffffffu
/* Places that are looked at for one reference. */
#define CATALOG_PLACES 64

struct catalog;

/* catalog_start(): once, before any lock: SQLite asks for random bytes at their first use. */
void catalog_start(void);

/* catalog_open(path, writable, e): make it if there is none (WRITABLE only).  A file that is no index, of
 * another version, or damaged is refused: e->code is CATALOG_DAMAGED then.  NULL on failure. */
#define CATALOG_DAMAGED (-2)
struct catalog *catalog_open(const char *path, int writable, struct err *e);
void catalog_close(struct catalog *c);

/* catalog_check(c, e): read all of it, and tell whether SQLite finds it sound, and the keys are. */
int catalog_check(struct catalog *c, struct err *e);
/* catalog_keys(c, n, e): read all keys, and count them. */
int catalog_keys(struct catalog *c, uint64_t *n, struct err *e);

/* --- Items -------------------------------------------------------------------------------------------- */

enum catalog_state {
	CATALOG_WANTED,   /* seen, not yet read */
	CATALOG_PARTLY,   /* some of its keys are there */
	CATALOG_READY,
	CATALOG_UNUSABLE, /* cannot be read, or is too large */
};

struct catalog_nar {
	uint32_t id;
	int64_t hash;          /* of its item: catalog_hash() */
	char path[LIMIT_PATH]; /* below the cache */
	uint64_t size;         /* bytes */
	int64_t mtime;         /* nanoseconds */
	enum catalog_state state;
	/* If it is ready: */
	struct eris_cap cap;
	int has_manifest;
	uint8_t manifest[ERIS_REF];
	int64_t info_mtime;    /* of the narinfo in the manifest */
};

struct catalog_info {
	int64_t hash;
	char path[LIMIT_PATH]; /* of the narinfo, below the cache */
	int64_t mtime;
};

/* catalog_hash(part): the 32 characters of a hash part in nix-base32 as a number that is the same for hardly
 * any two items.  -1: these are no such characters. */
int64_t catalog_hash(const char *part);

/* catalog_nar(c, id, nar): 1; 0: there is no such nar; -1: the index fails. */
int catalog_nar(struct catalog *c, uint32_t id, struct catalog_nar *nar, struct err *e);
/* catalog_nars_of(c, hash, nars, max, n): the nars of an item. */
int catalog_nars_of(struct catalog *c, int64_t hash, struct catalog_nar *nars, unsigned max, unsigned *n,
    struct err *e);
/* catalog_next(c, after, wanted, nar): the nar with the smallest id above AFTER; only those that are wanted,
 * or all. */
int catalog_next(struct catalog *c, uint32_t after, int wanted, struct catalog_nar *nar, struct err *e);
/* catalog_info(c, hash, info), catalog_next_info(c, after, info): the same for narinfos. */
int catalog_info(struct catalog *c, int64_t hash, struct catalog_info *info, struct err *e);
int catalog_next_info(struct catalog *c, int64_t after, struct catalog_info *info, struct err *e);

/* catalog_hold(c), catalog_release(c): questions between these two are answered from one state of the index,
 * and are faster: it is locked and looked at once.  For some milliseconds only: the log grows meanwhile. */
void catalog_hold(struct catalog *c);
void catalog_release(struct catalog *c);

struct catalog_totals {
	uint64_t infos, nars, ready, bytes, ready_bytes, blocks, file; /* FILE: bytes of the index */
};
int catalog_totals(struct catalog *c, struct catalog_totals *t, struct err *e);

/* --- Blocks ------------------------------------------------------------------------------------------- */

static inline uint32_t
catalog_leaves(uint64_t size)
{
	return (uint32_t)(size / ERIS_LARGE + 1);
}

struct catalog_place {
	uint32_t nar, number;
};

/* catalog_find(c, ref, places, n): where blocks with the first bytes of REF are: at most CATALOG_PLACES. */
int catalog_find(struct catalog *c, const uint8_t ref[ERIS_REF], struct catalog_place *places, unsigned *n,
    struct err *e);

/* catalog_node(c, nar, number, plain): the pairs of a node, with zeros behind them: ERIS_LARGE bytes.  1, 0
 * or -1. */
int catalog_node(struct catalog *c, uint32_t nar, uint32_t number, uint8_t *plain, struct err *e);

/* catalog_first(size, level): the number of the first node of LEVEL in a nar of that size; catalog_count():
 * how many blocks the level has; catalog_level(): the level of a block. */
uint32_t catalog_first(uint64_t size, unsigned level);
uint32_t catalog_count(uint64_t size, unsigned level);
unsigned catalog_level(uint64_t size, uint32_t number);

/* --- Writing ------------------------------------------------------------------------------------------ */

int catalog_begin(struct catalog *c, struct err *e);
int catalog_commit(struct catalog *c, struct err *e);
void catalog_rollback(struct catalog *c);

/* catalog_put_nar(c, hash, path, size, mtime, changed): make the nar PATH known; wanted, unless it is known
 * with the same size and time.  *CHANGED tells. */
int catalog_put_nar(struct catalog *c, int64_t hash, const char *path, uint64_t size, int64_t mtime,
    int *changed,
    struct err *e);
int catalog_put_info(struct catalog *c, const struct catalog_info *info, struct err *e);
/* catalog_partly(c, id), catalog_unusable(c, id), catalog_again(c, id): another state; the last one drops its
 * blocks. */
int catalog_partly(struct catalog *c, uint32_t id, struct err *e);
int catalog_unusable(struct catalog *c, uint32_t id, struct err *e);
int catalog_again(struct catalog *c, uint32_t id, struct err *e);
/* catalog_ready(c, nar): with the cap and the manifest of *NAR. */
int catalog_ready(struct catalog *c, const struct catalog_nar *nar, struct err *e);
int catalog_put_node(struct catalog *c, uint32_t nar, uint32_t number, const uint8_t *pairs, size_t len,
    struct err *e);
/* catalog_put_keys(c, keys, n): N keys of CATALOG_KEY bytes; they are sorted where they stand. */
int catalog_put_keys(struct catalog *c, uint8_t *keys, size_t n, struct err *e);
void catalog_key(uint8_t *key, const uint8_t ref[ERIS_REF], uint32_t nar, uint32_t number);
/* catalog_drop_nar(c, id), catalog_drop_info(c, hash): forget it, and its blocks. */
int catalog_drop_nar(struct catalog *c, uint32_t id, struct err *e);
int catalog_drop_info(struct catalog *c, int64_t hash, struct err *e);

#endif
