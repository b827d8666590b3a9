/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): many requests for blocks at a time, at the sources that answer by reference, over
 * connections that are kept; and whether an IPFS daemon is there at all.
 *
 * One pool a process, used by one nar at a time.  It decides nothing: sched.h says what is asked where and
 * for how long, and the answers are judged by the pool's user. */
#ifndef NARLOCK_FETCH_BLOCKPOOL_H
#define NARLOCK_FETCH_BLOCKPOOL_H

#include "helper/eris/eris.h"
#include "helper/fetch/fetch.h"
#include "helper/ipfs/rpc.h"

/* Requests in flight. */
#define BLOCKPOOL_SLOTS 256
/* How long a nar that could come from elsewhere waits for a daemon's first answer, once in the life of a
 * process. */
#define BLOCKPOOL_WAIT_MS 1000

struct blockpool;

/* blockpool_init(f, e): makes f->pool; 0 or -1.  blockpool_free(f) ends what runs; also without
 * blockpool_init. */
int blockpool_init(struct fetch *f, struct err *e);
void blockpool_free(struct fetch *f);

/* --- Is somebody there? -------------------------------------------------------------------------------- */

/* blockpool_greet(f): ask every IPFS daemon that may be asked and was not yet for its version.  Costs
 * nothing later. */
void blockpool_greet(struct fetch *f);

enum blockpool_health {
	BLOCKPOOL_NO,      /* not to be asked, now or ever */
	BLOCKPOOL_WAIT,    /* the daemon has not answered yet */
	BLOCKPOOL_YES,
};

/* blockpool_health(f, source): of f->blocks->sources[source].  Gateways and block servers are never waited
 * for. */
enum blockpool_health blockpool_health(const struct fetch *f, size_t source);

/* blockpool_greeted(f): when the last question was asked, or 0: how long it makes sense to wait. */
uint64_t blockpool_greeted(const struct fetch *f);

/* --- Blocks ----------------------------------------------------------------------------------------- */

struct blockpool_ask {
	uint32_t id;         /* its user's name for it */
	size_t source;       /* in f->blocks->sources */
	enum rpc_ask question; /* RPC_GET, RPC_LOCAL, RPC_PEERS; or RPC_HAS: of a gateway, whose answer has no body */
	uint32_t timeout_ms; /* after which a daemon gives up by itself; the pool does not */
	uint32_t block_size;
	uint8_t ref[ERIS_REF];
};

struct blockpool_end {
	struct blockpool_ask ask;
	struct rpc_reply reply; /* its texts and body: until blockpool_release() */
	unsigned slot;
};

/* blockpool_room(f): requests that can be started. */
unsigned blockpool_room(const struct fetch *f);

/* blockpool_start(f, ask): it will come out of blockpool_next() some time, unless it is stopped.  Needs
 * room. */
void blockpool_start(struct fetch *f, const struct blockpool_ask *ask);

/* blockpool_stop(f, id): forget that one.  blockpool_stop_all(f): forget all of them. */
void blockpool_stop(struct fetch *f, uint32_t id);
void blockpool_stop_all(struct fetch *f);

/* blockpool_next(f, end): 1 and one request that has ended; 0: none.  blockpool_release(f, end) gives its
 * slot back. */
int blockpool_next(struct fetch *f, struct blockpool_end *end);
void blockpool_release(struct fetch *f, const struct blockpool_end *end);

/* blockpool_pump(f): start what waited for a name, give up daemons that do not answer.
 * blockpool_deadline(f): when it has to be called at the latest (milliseconds), or UINT64_MAX. */
void blockpool_pump(struct fetch *f);
uint64_t blockpool_deadline(const struct fetch *f);

#endif
