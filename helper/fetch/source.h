/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): what becomes of a source of blocks after its answers, for the life of this process. */
#ifndef NARLOCK_FETCH_SOURCE_H
#define NARLOCK_FETCH_SOURCE_H

#include "helper/fetch/fetch.h"
#include "helper/ipfs/rpc.h"

/* source_usable(f, i): whether f->blocks->sources[i] may be asked now. */
int source_usable(const struct fetch *f, size_t i);

/* source_judged(f, i, verdict, why): remember a verdict: RPC_UNREACHABLE: it is left alone for SCHED_DEAD_MS, with one
 * message; RPC_LIE: it is never asked again, and LIAR is sent, once; all others: it has answered. */
void source_judged(struct fetch *f, size_t i, enum rpc_verdict verdict, const char *why);

#endif
