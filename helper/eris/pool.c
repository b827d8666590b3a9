/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): some threads that work off numbered jobs. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "helper/eris/pool.h"

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t more, finished;
	void (*job)(void *ctx, size_t i);
	void *ctx;
	size_t next, n, left; /* to be begun: next to n; not yet finished: left */
	int stop;
	unsigned threads, started;
	pthread_t thread[POOL_MAX];
};

/* With the lock held: do one job.  Jobs take tens of microseconds and more: one lock for each is nothing. */
static void
work(struct pool *p)
{
	size_t i = p->next++;

	pthread_mutex_unlock(&p->lock);
	p->job(p->ctx, i);
	pthread_mutex_lock(&p->lock);
	if (--p->left == 0)
		pthread_cond_signal(&p->finished);
}

static void *
worker(void *arg)
{
	struct pool *p = arg;

	pthread_mutex_lock(&p->lock);
	while (!p->stop) {
		if (p->next < p->n)
			work(p);
		else
			pthread_cond_wait(&p->more, &p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

struct pool *
pool_new(unsigned threads, struct err *e)
{
	struct pool *p = calloc(1, sizeof(*p));
	sigset_t all, old;
	int rc = 0;

	if (p == NULL || threads == 0 || threads > POOL_MAX) {
		free(p);
		err_set(e, p == NULL ? "out of memory" : "1 to %d threads", POOL_MAX);
		return NULL;
	}
	p->threads = threads;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->more, NULL);
	pthread_cond_init(&p->finished, NULL);
	/* Signals are the caller's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (rc == 0 && p->started + 1 < threads) {
		rc = pthread_create(&p->thread[p->started], NULL, worker, p);
		p->started += rc == 0;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0) {
		err_sys(e, rc, "cannot start a thread");
		pool_free(p);
		return NULL;
	}
	return p;
}

void
pool_free(struct pool *p)
{
	if (p == NULL)
		return;
	pool_finish(p);
	pthread_mutex_lock(&p->lock);
	p->stop = 1;
	pthread_cond_broadcast(&p->more);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->started; i++)
		pthread_join(p->thread[i], NULL);
	pthread_cond_destroy(&p->finished);
	pthread_cond_destroy(&p->more);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

unsigned
pool_threads(const struct pool *p)
{
	return p == NULL ? 1 : p->threads;
}

void
pool_start(struct pool *p, void (*job)(void *ctx, size_t i), void *ctx, size_t n)
{
	if (p == NULL) {
		for (size_t i = 0; i < n; i++)
			job(ctx, i);
		return;
	}
	pthread_mutex_lock(&p->lock);
	p->job = job;
	p->ctx = ctx;
	p->next = 0;
	p->n = p->left = n;
	/* A single job is done sooner by the caller than a thread wakes up. */
	if (p->started > 0 && n > 1)
		pthread_cond_broadcast(&p->more);
	pthread_mutex_unlock(&p->lock);
}

void
pool_finish(struct pool *p)
{
	if (p == NULL)
		return;
	pthread_mutex_lock(&p->lock);
	while (p->next < p->n)
		work(p);
	while (p->left > 0)
		pthread_cond_wait(&p->finished, &p->lock);
	pthread_mutex_unlock(&p->lock);
}

void
pool_run(struct pool *p, void (*job)(void *ctx, size_t i), void *ctx, size_t n)
{
	pool_start(p, job, ctx, n);
	pool_finish(p);
}
