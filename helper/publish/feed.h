/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): a nar as the body of a `dag/import': one CAR of its manifest and all its blocks, made by
 * a thread of its own while it is sent.  Memory: 256 KiB, and what pack.h needs. */
#ifndef NARLOCK_PUBLISH_FEED_H
#define NARLOCK_PUBLISH_FEED_H

#include <signal.h>

#include "helper/publish/catalog.h"

struct feed_options {
	int cache;
	const char *index;             /* path; the thread opens its own */
	const struct catalog_nar *nar; /* ready, with a manifest */
	const char *boundary;          /* rpc.h */
	unsigned rate;                 /* MB a second; 0: no limit */
	const volatile sig_atomic_t *stop; /* or NULL */
};

struct feed;

/* feed_new(o, e): begin; O and what it names stay valid until feed_end().  NULL on failure. */
struct feed *feed_new(const struct feed_options *o, struct err *e);

/* feed_read(f, to, size): the next bytes, at most SIZE; waits for them.  0: that was all; -1: it failed. */
long feed_read(struct feed *f, void *to, size_t size);

/* feed_end(f, bytes, wrong, e): no more is wanted.  0: all was made; -1 and *e.  BYTES: so many; WRONG: 1 if
 * the nar is not as indexed.  Both may be NULL. */
int feed_end(struct feed *f, uint64_t *bytes, int *wrong, struct err *e);

#endif
