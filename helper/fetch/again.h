/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): publish-again: ask the servers of a nar to put its blocks into IPFS once more, and say when
 * it makes sense to look for them.
 *
 * POST SERVER/publish-this-nar-again-into-IPFS/NAME, without a body and without redirects; NAME is the last
 * part of the nar's URL.  Only the admin's servers (SERVER_TRUSTED) are asked, only with `publish-again =
 * yes', and each once for a nar in the life of this process.  200: done; 202: it is being done; 429: once
 * more after Retry-After; anything else: this server does not do it. */
#ifndef NARLOCK_FETCH_AGAIN_H
#define NARLOCK_FETCH_AGAIN_H

#include "helper/fetch/fetch.h"

/* Requests that one process makes, at most: then no nar is asked for any more. */
#define AGAIN_ASKED 1024
/* After a 202 blocks are looked for so many times, 0.5, 1, 2, 4, 4, 4 seconds apart; after a 200 first at
 * once. */
#define AGAIN_RETRIES 6
/* The longest Retry-After that is worth waiting for: the whole nar over HTTP is there at once. */
#define AGAIN_RETRY_AFTER_S 4

struct again_place {
	uint16_t server; /* index into f->servers */
	const char *url; /* as in the narinfo */
};

enum again_step {
	AGAIN_NOTHING, /* nothing to be done now */
	AGAIN_RETRY,   /* look for the missing blocks now: sched_again() */
	AGAIN_OVER,    /* no server does it, or the blocks had their time */
};

/* again_init(f, e): 0 or -1.  again_free(f) ends what runs. */
int again_init(struct fetch *f, struct err *e);
void again_free(struct fetch *f);

/* again_begin(f, places, n): for one order; texts are not used after the call.  1: a server is asked, pump;
 * 0: there is none that may be asked (any more).  What an order before it left is ended. */
int again_begin(struct fetch *f, const struct again_place *places, size_t n);

/* again_pump(f, why): the next step; AGAIN_RETRY once for each time that has come.  *WHY: what a server has
 * said, valid until the next call; always set. */
enum again_step again_pump(struct fetch *f, const char **why);

/* again_deadline(f): when again_pump() has to be called at the latest, or UINT64_MAX. */
uint64_t again_deadline(const struct fetch *f);

/* again_end(f): the order has ended, or all blocks are there. */
void again_end(struct fetch *f);

/* again_name(name, size, url): the last part of a nar's URL, without its query, if it may stand in a URL as
 * it is: letters, digits and "+-._~=%", not beginning with a dot.  0 or -1. */
int again_name(char *name, size_t size, const char *url);

#endif
