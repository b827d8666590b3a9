/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): memory that the processes of `narlock-publish serve' share: numbers for the status page,
 * and the queue of nars that go into IPFS again.  It holds no pointer, and whoever reads it believes no
 * number to be within bounds. */
#ifndef NARLOCK_PUBLISH_SHARED_H
#define NARLOCK_PUBLISH_SHARED_H

#include <pthread.h>
#include <stdint.h>

#include "helper/eris/pool.h"
#include "helper/publish/catalog.h"

enum shared_counter {
	COUNT_CONNECTIONS,   /* since the start */
	COUNT_NARINFO, COUNT_NARINFO_MISSING,
	COUNT_NAR, COUNT_NAR_BYTES, COUNT_NAR_MISSING,
	COUNT_BLOCK, COUNT_BLOCK_BYTES, COUNT_BLOCK_MISSING, COUNT_BLOCK_GONE,
	COUNT_ERIS, COUNT_NOT_MODIFIED, COUNT_OTHER, COUNT_REFUSED, COUNT_LIMITED, COUNT_SLOW,
	COUNT_AGAIN_ASKED, COUNT_AGAIN_LIMITED,
	COUNTERS
};

/* Web servers at one time that count their connections apart from each other. */
#define SHARED_BANKS 4

/* Written by one thread, read by others; of its own cache lines. */
struct shared_worker {
	uint64_t count[COUNTERS];
	uint64_t open[SHARED_BANKS]; /* connections now: an old web server still has some when the new one begins */
} __attribute__((aligned(128)));

enum shared_again_state { AGAIN_FREE, AGAIN_QUEUED, AGAIN_RUNNING, AGAIN_DONE, AGAIN_FAILED, AGAIN_GONE };

/* One nar that goes into IPFS. */
struct shared_again {
	uint32_t nar;
	uint32_t state;             /* enum shared_again_state */
	int64_t since;              /* CLOCK_REALTIME, seconds: of the last change of state */
	int64_t hash;               /* of its item: a nar that is replaced gets another number */
	uint32_t tries;             /* how often it was not as indexed */
};

#define SHARED_QUEUE 1024
#define SHARED_PROMISES 1024
#define SHARED_DAEMONS 8

struct shared_daemon {
	uint32_t known, up;         /* KNOWN: it was tried at least once */
	uint64_t nars, bytes, failures;
};

struct shared {
	/* The process that writes the index. */
	struct catalog_totals totals;
	uint64_t indexed_bytes;     /* read since the start */
	int64_t totals_at;          /* CLOCK_REALTIME, seconds; 0: never */
	uint64_t reindexed;         /* nars that were not as indexed */
	uint32_t indexing;          /* 1: nars wait to be read */
	/* The process that talks to IPFS; pinned: nars. */
	struct shared_daemon daemons[SHARED_DAEMONS];
	uint32_t ndaemons;
	uint64_t pinned, again_done, again_failed;
	/* The queue, under the lock, which survives the death of its holder. */
	pthread_mutex_t lock;
	struct shared_again queue[SHARED_QUEUE];
	/* Items whose narinfo the upstream has given before their nar was baked: any thread can be asked for
	 * it. */
	uint32_t promised;
	struct {
		int64_t hash, until; /* UNTIL: milliseconds of the monotonic clock */
	} promises[SHARED_PROMISES];
	/* Web threads; a new generation takes over the numbers of the old one. */
	struct shared_worker workers[POOL_MAX];
};

static inline void
shared_add(struct shared_worker *w, enum shared_counter c, uint64_t n)
{
	__atomic_store_n(&w->count[c], w->count[c] + n, __ATOMIC_RELAXED);
}

static inline uint64_t
shared_sum(const struct shared *s, enum shared_counter c)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < POOL_MAX; i++)
		n += __atomic_load_n(&s->workers[i].count[c], __ATOMIC_RELAXED);
	return n;
}

/* shared_new(e): or NULL.  Before any fork. */
struct shared *shared_new(struct err *e);

/* shared_lock(s), shared_unlock(s): of the queue. */
void shared_lock(struct shared *s);
void shared_unlock(struct shared *s);

/* shared_find(s, nar, hash): the element of a nar of that item, or NULL.  With the lock held. */
struct shared_again *shared_find(struct shared *s, uint32_t nar, int64_t hash);

#endif
