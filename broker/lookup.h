/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: narinfos of store items, from the cache and from the servers in their order. */
#ifndef NARLOCK_BROKER_LOOKUP_H
#define NARLOCK_BROKER_LOOKUP_H

#include <stddef.h>
#include <stdint.h>

#include "broker/narinfo.h"
#include "ipc/wire.h"

struct broker;
struct helper;

/* Unsigned narinfos kept of one path until an authorised one tells whether they are equivalent. */
#define LOOKUP_MIRRORS 8

/* One narinfo text and the server that it came from. */
struct source {
	uint16_t server;   /* index into options.urls */
	int cached;        /* 1: from the cache */
	char *text;        /* owned */
	struct narinfo ni; /* points into text */
};

/* What is known of one path.  AUTH is authorised and for that path; all trusted fields come from it.  MIRRORS are
 * equivalent to it, in the order of servers: only their groups may be used. */
struct found {
	struct source auth;
	uint8_t key[32];   /* fingerprint of the key that signed */
	int stale;         /* expired, and every server failed */
	struct source mirrors[LOOKUP_MIRRORS];
	unsigned mirror_count;
};

/* How to look: */
#define LOOKUP_RECORDED 1 /* accept only what the query agent told of this path */
#define LOOKUP_FRESH 2    /* do not read the cache */
#define LOOKUP_ALL 4      /* go on to the last server for more places, after one was authorised */
#define LOOKUP_PROBE 8    /* an expired narinfo that names blocks counts only when they were just found */

/* The last two: its expired narinfo waits for PROBE, and for PROBED. */
enum task_state { TASK_FREE, TASK_QUEUED, TASK_SENT, TASK_ARRIVED, TASK_TO_PROBE, TASK_PROBED };

/* One path under way. */
struct task {
	enum task_state state;
	uint32_t id;
	const char *path;   /* NUL-terminated, the caller's */
	uint16_t server;    /* that is asked now */
	unsigned answered;  /* servers that gave an answer, if only "absent"; an index's absence is none */
	int authorised;
	struct source arrived;      /* in TASK_ARRIVED: what the server sent, and who signed it */
	uint32_t ttl;
	int verified;
	uint8_t signer[32];
	struct err why;             /* when it is not verified */
	struct found found;
	unsigned probe;     /* group of AUTH that is probed now */
	struct source old;  /* expired cache entry, in case every server fails */
	uint8_t old_key[32];
	char reason[LIMIT_REASON + 1]; /* the last thing that went wrong */
	char stranger[LIMIT_REASON + 1]; /* why the first of the mirrors is not authorised by itself */
};

struct lookups {
	struct task tasks[LIMIT_LOOKUPS];
	unsigned active;
	uint32_t next_id;
	unsigned flags;
	unsigned arrived;     /* tasks in TASK_ARRIVED */
	size_t kept;          /* bytes of unsigned narinfos kept by all tasks */
	uint32_t part_id;     /* of the narinfo that is arriving */
	char *part;           /* LIMIT_NARINFO + 1 bytes once needed */
	size_t part_len;
	int64_t last_answer;  /* ms */
	void (*done)(struct broker *, const char *path, struct found *, const char *reason);
	uint64_t asked, from_cache, verified, refused, failed; /* counts for the audit log */
	char failure[LIMIT_REASON + 64]; /* the first question that failed since the counts were reset */
	unsigned strangers;              /* paths, in all, that servers have, but signed by nobody whom the ACL names */
};

/* lookup_all(b, paths, count, flags, done): find COUNT paths (checked store paths, NUL-terminated).  DONE is called once
 * for each, in any order, with NULL and a reason when there is no acceptable narinfo; FOUND is DONE's to keep or
 * change: what is left in it when DONE returns is freed. */
void lookup_all(struct broker *b, const char *const *paths, size_t count, unsigned flags,
		void (*done)(struct broker *, const char *, struct found *, const char *));

/* found_free(f): free what it owns. */
void found_free(struct found *f);

/* For the table of messages in crew.c. */
int lookups_on_part(struct broker *b, struct helper *h, const struct wire_msg *m, struct err *e);
int lookups_on_end(struct broker *b, struct helper *h, const struct wire_msg *m, struct err *e);
int lookups_on_probed(struct broker *b, struct helper *h, const struct wire_msg *m, struct err *e);

/* lookups_lost(b, why): the fetcher is gone; what was asked of it has failed. */
void lookups_lost(struct broker *b, const char *why);

#endif
