/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): some threads that work off numbered jobs. */
#ifndef NARLOCK_ERIS_POOL_H
#define NARLOCK_ERIS_POOL_H

#include <stddef.h>

#include "ipc/err.h"

struct pool;

#define POOL_MAX 64

/* pool_new(threads, e): THREADS (1 to POOL_MAX) that work at the same time, the caller's included: with 1
 * none is started. NULL on failure.  Where a function takes a pool, NULL means the caller's thread alone. */
struct pool *pool_new(unsigned threads, struct err *e);
void pool_free(struct pool *p);
unsigned pool_threads(const struct pool *p);

/* pool_start(p, job, ctx, n): call job(ctx, i) for each i below N, in any order, in any thread; returns at
 * once.  What it works on belongs to the pool until pool_finish.  One such at a time. */
void pool_start(struct pool *p, void (*job)(void *ctx, size_t i), void *ctx, size_t n);
/* pool_finish(p): work along until all is done.  Nothing to do is fine. */
void pool_finish(struct pool *p);

/* pool_run(p, job, ctx, n): both.  P may be NULL, for these three. */
void pool_run(struct pool *p, void (*job)(void *ctx, size_t i), void *ctx, size_t n);

#endif
