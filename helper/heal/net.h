/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (heal): requests whose end is waited for: narlock-heal has time. */
#ifndef NARLOCK_HEAL_NET_H
#define NARLOCK_HEAL_NET_H

#include <stddef.h>
#include <stdint.h>

#include "helper/fetch/answer.h"
#include "helper/fetch/blockconf.h"
#include "helper/fetch/fetch.h"
#include "helper/fetch/put.h"

struct net;

/* net_new(f, e): F has its libraries, settings, sources and the addresses of all hosts.  NULL on failure. */
struct net *net_new(struct fetch *f, struct err *e);
void net_free(struct net *n);
/* net_fetch(n): the F it was made with. */
struct fetch *net_fetch(const struct net *n);

/* Called for each question, in any order; DATA: the block (RPC_BLOCK of RPC_GET only), right, valid during
 * the call. */
typedef void (*net_answer)(void *ctx, size_t i, enum rpc_verdict verdict, const uint8_t *data);

/* net_ask(n, source, ask, refs, count, timeout_ms, block_size, answer, ctx): the same question (RPC_GET,
 * RPC_HAS) about COUNT blocks, many at a time.  A source that cannot be reached or lies is not asked any
 * more for the rest of this process: RPC_UNREACHABLE. */
void net_ask(struct net *n, size_t source, enum rpc_ask ask, const uint8_t (*refs)[ERIS_REF], size_t count,
    uint32_t timeout_ms, uint32_t block_size, net_answer answer, void *ctx);

/* net_alive(n, source): whether it answers RPC_VERSION now. */
int net_alive(struct net *n, size_t source);

/* net_put(n, source, b, known, j): send a batch that was ended; PUT_PROVE never comes back from here. */
enum put_result net_put(struct net *n, size_t source, struct put_batch *b, struct put_known *known,
    struct rpc_judgement *j);

struct net_reader {
	/* What comes of a file; must make no requests.  Returns LEN, 0 to break off, or NET_PAUSE, nothing
	 * taken: then pause() is called, which may make requests, and the same bytes come again. */
	size_t (*bytes)(void *ctx, const struct answer *a, const uint8_t *data, size_t len);
	void (*pause)(void *ctx);
};
#define NET_PAUSE SIZE_MAX

/* net_get(n, url, range, reader, ctx, a, e): the file at URL, or the bytes that RANGE ("bytes=A-B", or
 * NULL) names. Redirects are followed to hosts whose address is known.  0: the answer has come to its end
 * (*A is its header, with any status; bytes() was called for 200 and 206 only), -1: it has not, or bytes()
 * broke it off. */
int net_get(struct net *n, const struct url *url, const char *range, const struct net_reader *reader, void *ctx,
    struct answer *a, struct err *e);

#endif
