/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): leaves out of the ordinary nar file of one server, by HTTP Range (helper/ipfs/range.h has
 * the rules).
 *
 * The owner asks for leaves by number and reference (rangeget_want()) and is told for each what has become of
 * it, in any order.  Leaves that were asked for before the same rangeget_pump() and are near to each other
 * share a request. A server without Range answers with the whole file: it is read on if that is worth it for
 * the leaves that are missing, and then gives every leaf behind the first wanted one, in order; else it is
 * closed.  Redirects are followed as for nars.  block_init() must have been called. */
#ifndef NARLOCK_FETCH_RANGEGET_H
#define NARLOCK_FETCH_RANGEGET_H

#include "helper/eris/eris.h"
#include "helper/fetch/fetch.h"
#include "helper/ipfs/range.h"
#include "helper/ipfs/sched.h"

/* Leaves wanted at a time, and requests at a time. */
#define RANGEGET_LEAVES 1024
#define RANGEGET_FLIGHTS 8

enum rangeget_use {
	RANGEGET_TAKE,
	RANGEGET_SKIP, /* not needed */
	RANGEGET_WAIT, /* not now: the answer waits, and the question comes again after rangeget_resume() */
};

/* None of these may free the object. */
struct rangeget_owner {
	/* A wanted leaf: SCHED_BLOCK: BLOCK (ERIS_LARGE bytes, right, valid during the call); SCHED_MISSING:
	 * the file is not there, or the server gives whole files only and that is not worth it; SCHED_BUSY
	 * (ask again after RETRY_MS, or as you like if 0); SCHED_UNREACHABLE; SCHED_FOREIGN: this file is
	 * another encoding, or no server of files: of no use for this nar, but no lie.  WHY: text valid
	 * during the call, NULL for SCHED_BLOCK. */
	void (*leaf)(void *owner, uint64_t index, enum sched_outcome outcome, const uint8_t *block,
	    uint32_t retry_ms, const char *why);
	/* A whole file is read on, and leaf INDEX, which nobody wants (yet), comes next.  NULL: skip all of
	 * them. */
	enum rangeget_use (*offer)(void *owner, uint64_t index);
	/* After RANGEGET_TAKE: the leaf's block and its reference, which the owner has to compare. */
	void (*extra)(void *owner, uint64_t index, const uint8_t ref[ERIS_REF], const uint8_t *block);
};

struct rangeget;

/* rangeget_new(f, url, size, calls, owner, e): SIZE of the file in bytes, or RANGE_UNKNOWN.  NULL on failure.
 * Memory: 32 KiB and libcurl's buffers for each request that runs. */
struct rangeget *rangeget_new(struct fetch *f, const struct url *url, uint64_t size,
    const struct rangeget_owner *calls, void *owner, struct err *e);
void rangeget_free(struct rangeget *r);

/* rangeget_want(r, index, ref): 1: it will be reported, never during this call; 0: no room (RANGEGET_LEAVES).
 * A leaf that is wanted already is reported once. */
int rangeget_want(struct rangeget *r, uint64_t index, const uint8_t ref[ERIS_REF]);

/* rangeget_drop(r, index): it came from elsewhere: do not report it any more. */
void rangeget_drop(struct rangeget *r, uint64_t index);

/* rangeget_expect(r, leaves): how many more than those that were asked for will probably be missing: for the
 * decision whether to read a whole file on. */
void rangeget_expect(struct rangeget *r, uint64_t leaves);

/* rangeget_pump(r): plan, start, end what has stalled (settings.stall_ms).  Reports leaves. */
void rangeget_pump(struct rangeget *r);

/* rangeget_resume(r): after RANGEGET_WAIT. */
void rangeget_resume(struct rangeget *r);

/* rangeget_deadline(r): when rangeget_pump() has to be called at the latest, or UINT64_MAX. */
uint64_t rangeget_deadline(const struct rangeget *r);

/* rangeget_dead(r): why this file will never give a leaf (another encoding, gone, unreachable), or NULL.
 * Everything wanted then is reported at the next pump. */
const char *rangeget_dead(const struct rangeget *r);

/* rangeget_at(r): where it was found: `url', or where that has led. */
const struct url *rangeget_at(const struct rangeget *r);

/* rangeget_whole(r): 1 while a whole file is read on.  rangeget_useful(r): when the last right leaf came, or
 * 0. */
int rangeget_whole(const struct rangeget *r);
uint64_t rangeget_useful(const struct rangeget *r);

#endif
