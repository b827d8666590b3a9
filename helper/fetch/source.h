/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): what becomes of a source of blocks after its answers, for the life of this process. */
#ifndef NARLOCK_FETCH_SOURCE_H
#define NARLOCK_FETCH_SOURCE_H

#include "helper/fetch/blockconf.h"
#include "helper/fetch/transfer.h"
#include "helper/ipfs/rpc.h"

/* source_usable(f, i): whether f->blocks->sources[i] may be asked now. */
int source_usable(const struct fetch *f, size_t i);

/* source_judged(f, i, verdict, why): remember a verdict: RPC_UNREACHABLE: it is left alone for SCHED_DEAD_MS,
 * with one message; RPC_LIE: it is never asked again, and LIAR is sent, once; all others: it has answered. */
void source_judged(struct fetch *f, size_t i, enum rpc_verdict verdict, const char *why);

/* source_replied(f, i, j, r): the same for the judgement J of the answer R.  Somebody who answers, but not to us or not
 * such things, is asked again by the next agent: that costs little, and the admin may have mended it by then. */
void source_replied(struct fetch *f, size_t i, const struct rpc_judgement *j, const struct rpc_reply *r);

/* source_ask(t, s, r, e): put the question R of rpc_build() (which has no body) on its way, as transfer_ask()
 * does. Nothing is kept of R. */
enum host_state source_ask(struct transfer *t, const struct block_source *s, const struct rpc_request *r,
    struct err *e);

/* source_send(t, s, r, body, len, e): the same with a body, which has to live until the transfer has
 * ended. */
enum host_state source_send(struct transfer *t, const struct block_source *s, const struct rpc_request *r, const void *body,
    size_t len, struct err *e);

/* source_reply(r, t, result, body, len): what has come, for rpc_judge(). */
void source_reply(struct rpc_reply *r, const struct transfer *t, CURLcode result, const void *body, size_t len);

#endif
