/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): a cache of our own, where there is no directory of the upstream server: the nars of the
 * narinfos that it gives are fetched from it, and stay below STATE/nars.
 *
 * A nar is written under a name that nobody looks at, and gets its own when all of it is there; the narinfo
 * comes last.  No bytes are believed: whoever installs them checks the signature, and what has another size
 * than its narinfo says is not kept. */
#ifndef NARLOCK_PUBLISH_MIRROR_H
#define NARLOCK_PUBLISH_MIRROR_H

#include <curl/curl.h>
#include <stdint.h>

#include "ipc/err.h"

/* Items that wait or are being fetched; nars at one time. */
#define MIRROR_ITEMS 256
#define MIRROR_NARS 4
/* A nar of which less than a byte a second comes for so many seconds has failed. */
#define MIRROR_STALL 60L

struct mirror;

/* mirror_new(cache, multi, base, resolve, limit): CACHE: directory, writable; BASE: of the upstream server, without a
 * slash at its end; RESOLVE: for libcurl, or NULL.  All stay the caller's.  LIMIT: bytes in the cache, 0: any (trim.h).
 * NULL: out of memory. */
struct mirror *mirror_new(int cache, CURLM *multi, const char *base, struct curl_slist *resolve, uint64_t limit);
void mirror_free(struct mirror *m);

/* mirror_want(m, narinfo, len): its nars are wanted; nothing happens if they are already, or too many are. */
void mirror_want(struct mirror *m, const char *narinfo, size_t len);

/* mirror_turn(m): a piece of the work that keeps the limit, to be called at least every second.  1: there is more at once. */
int mirror_turn(struct mirror *m);

/* mirror_done(m, easy, result): 1: the transfer EASY was one of these, and has ended; 0: it was not. */
int mirror_done(struct mirror *m, CURL *easy, CURLcode result);

#endif
