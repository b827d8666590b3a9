/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: narinfos that were verified, kept over time.
 *
 * One file a server and hash part, in a directory that only the broker's user can write.  An entry remembers
 * which key's signature was verified, so that a warm lookup costs no ECDSA; the caller asks acl_has again, so
 * that a key taken from the ACL is without effect at once.  A damaged or foreign file is a miss.  Expired
 * entries stay: they serve when every server fails. */
#ifndef NARLOCK_CACHE_H
#define NARLOCK_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* Seconds that a narinfo is fresh when its server says nothing: 36 hours, as stock guix has it. */
#define CACHE_TTL_DEFAULT (36 * 3600)

enum cache_kind {
	CACHE_AUTHORISED = 1,	/* its signature was verified with the key of KEY_FPR */
	CACHE_EQUIVALENT = 2	/* found equivalent to an authorised one: only its groups may be used */
};

struct cache_entry {
	char *text;		/* LEN bytes and, from cache_get, a NUL; owned */
	size_t len;
	enum cache_kind kind;
	bool fresh;
	uint8_t key_fpr[32];	/* zero for CACHE_EQUIVALENT */
};

/* DIR is an open directory; with -1 there is no cache.
 *
 * cache_get(dir, url, hash_part, now, out): 0 and OUT filled, or -1.  HASH_PART is 32 checked characters
 * (a longer string's rest is ignored). */
int cache_get(int dir, const char *url, const char *hash_part, time_t now,
    struct cache_entry *out);

/* cache_put(dir, url, hash_part, now, ttl, in): keep IN (its FRESH is ignored).  TTL in seconds,
 * negative when the server said nothing; cut at LIMIT_CACHE_TTL.  Atomic, not synced: what a crash loses
 * is fetched again. */
int cache_put(int dir, const char *url, const char *hash_part, time_t now, long ttl, const struct cache_entry *in);

/* cache_clean(dir, now): remove entries that expired more than 30 days ago.  Does nothing when the last run is less
 * than 5 days old; bounded by LIMIT_CACHE_LOOK and LIMIT_CACHE_UNLINK.  Returns the number of files removed. */
unsigned cache_clean(int dir, time_t now);

#endif
