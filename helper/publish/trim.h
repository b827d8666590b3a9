/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): a cache of our own does not grow beyond its limit: what nobody has used for longest leaves it.
 *
 * An item is its narinfo and its nars; it was used when one of its nars was read last (their time of access,
 * which the web server sets), or one of all was written.  What was used in the last TRIM_GRACE seconds stays, so
 * nothing that is served or was just fetched goes; a longer answer has its file open.  Nothing is remembered but
 * the sum: a look through the directories, in short turns, finds the oldest. */
#ifndef NARLOCK_PUBLISH_TRIM_H
#define NARLOCK_PUBLISH_TRIM_H

#include <stdint.h>
#include <time.h>

#define TRIM_GRACE 600
/* Seconds between two looks, for what others have put or removed; and after one that did not help. */
#define TRIM_INTERVAL 3600
#define TRIM_RETRY 60
/* Names that are looked at in one turn, items that are removed in one, and items that one look can find. */
#define TRIM_NAMES 256
#define TRIM_REMOVED 8
#define TRIM_FOUND 512

struct trim;

/* Is this item (its name, without an end) being fetched? */
typedef int trim_busy(void *ctx, const char *item);

/* trim_new(cache, limit, busy, ctx): CACHE: a directory, writable, with a directory for each compression.  LIMIT in bytes; 0:
 * none.  NULL: out of memory. */
struct trim *trim_new(int cache, uint64_t limit, trim_busy *busy, void *ctx);
void trim_free(struct trim *t);

/* trim_turn(t, now): a piece of work.  1: there is more at once; 0: not for now.  NOW: seconds since 1970. */
int trim_turn(struct trim *t, time_t now);

/* trim_add(t, bytes): a file of that size has come. */
void trim_add(struct trim *t, uint64_t bytes);

/* trim_room(t, bytes, now): is there room for so much more?  1; 0: perhaps after some turns; -1: no. */
int trim_room(struct trim *t, uint64_t bytes, time_t now);

#endif
