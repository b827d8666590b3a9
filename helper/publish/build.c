/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): read the nars that the index wants, encode them, and store where their blocks are.
 *
 * Every thread takes a nar of its own.  The index is used by the thread that holds the lock. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "helper/eris/encode.h"
#include "helper/eris/pool.h"
#include "helper/publish/build.h"
#include "helper/publish/files.h"
#include "helper/publish/pack.h"

/* Keys that wait for a commit: sorted together they touch each page of the tree once. */
#define KEYS (1u << 20)
/* Nodes that wait: stored in their order they fill the pages of the index, where nodes of several threads in
 * turn would leave a tenth of each empty.  Nars whose nodes wait. */
#define NODES 8192
#define NODE_BYTES (4u << 20)
#define FINISHED 8192
/* Read at once. */
#define PIECE (128 * 1024)

struct build {
	const struct build_options *o;
	pthread_mutex_t lock;
	pthread_cond_t finished;
	uint32_t last;       /* nar that was taken last */
	unsigned running;    /* threads */
	int broken;          /* the index has failed: *e is filled */
	struct err *e;
	uint8_t *keys;
	size_t n;
	struct node {
		uint32_t nar, number, len;
		size_t at; /* of its pairs */
	} *nodes;
	uint8_t *pairs;
	size_t nnodes, npairs; /* NPAIRS: bytes */
	struct finished {
		uint32_t nar;
		struct eris_cap cap;
	} *done_nars;
	size_t ndone;
	int in_transaction;
	struct timespec began, committed;
	struct build_report *r;
	uint64_t total, nars, done; /* bytes to do and their nars, and what was read, by all threads */
};

/* One nar in one thread. */
struct job {
	struct build *b;
	struct catalog_nar nar;
	struct level {
		uint8_t pairs[ERIS_LARGE + ERIS_PAIR]; /* one more: it may come before the node that it does not fit into */
		unsigned n;
		uint32_t nodes;   /* of this level that are stored */
	} level[ERIS_LEVEL_LARGE + 2]; /* from 1 */
	unsigned top;
};

static double
seconds_since(const struct timespec *from)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - from->tv_sec) + 1e-9 * (double)(now.tv_nsec - from->tv_nsec);
}

static int
stopped(const struct build *b)
{
	return b->broken || (b->o->stop != NULL && *b->o->stop);
}

/* --- With the lock held ------------------------------------------------------------------------------- */

static int
begin(struct build *b, struct err *e)
{
	if (b->in_transaction)
		return 0;
	if (catalog_begin(b->o->catalog, e) != 0)
		return -1;
	b->in_transaction = 1;
	return 0;
}

static int
compare_nodes(const void *a, const void *b)
{
	const struct node *x = a, *y = b;

	return x->nar != y->nar ? (x->nar > y->nar) - (x->nar < y->nar) :
	    (x->number > y->number) - (x->number < y->number);
}

/* All of a nar is there. */
static int
store_finished(struct build *b, const struct finished *f, struct err *e)
{
	struct catalog_nar nar;
	int rc = catalog_nar(b->o->catalog, f->nar, &nar, e);

	if (rc <= 0)
		return rc;
	nar.state = CATALOG_READY;
	nar.cap = f->cap;
	return build_manifest(b->o->catalog, b->o->cache, &nar, e) != 0 ? -1 :
	    catalog_ready(b->o->catalog, &nar, e);
}

/* Everything that waits; in a transaction. */
static int
flush(struct build *b, struct err *e)
{
	int rc = 0;

	qsort(b->nodes, b->nnodes, sizeof *b->nodes, compare_nodes);
	for (size_t i = 0; i < b->nnodes && rc == 0; i++)
		rc = catalog_put_node(b->o->catalog, b->nodes[i].nar, b->nodes[i].number, b->pairs + b->nodes[i].at,
		    b->nodes[i].len, e);
	for (size_t i = 0; i < b->ndone && rc == 0; i++)
		rc = store_finished(b, &b->done_nars[i], e);
	if (rc == 0)
		rc = catalog_put_keys(b->o->catalog, b->keys, b->n, e);
	b->nnodes = b->npairs = b->ndone = b->n = 0;
	return rc;
}

static int
commit(struct build *b, struct err *e)
{
	clock_gettime(CLOCK_MONOTONIC, &b->committed);
	if (!b->in_transaction)
		return 0;
	if (flush(b, e) != 0)
		return -1;
	b->in_transaction = 0;
	return catalog_commit(b->o->catalog, e);
}

/* There is room for one more node and its keys, or for a nar that is finished and its root. */
static int
make_room(struct build *b, struct err *e)
{
	if (begin(b, e) != 0)
		return -1;
	return b->n + 512 <= KEYS && b->nnodes < NODES && b->npairs + ERIS_LARGE <= NODE_BYTES &&
	    b->ndone < FINISHED ? 0 : flush(b, e);
}

static void
put_key(struct build *b, const uint8_t *ref, uint32_t nar, uint32_t number)
{
	catalog_key(b->keys + b->n++ * CATALOG_KEY, ref, nar, number);
}

/* The full node of LEVEL, and the keys of what is beneath it. */
static int
store_node(struct job *j, unsigned level, struct err *e)
{
	struct level *l = &j->level[level];
	uint32_t child = catalog_first(j->nar.size, level - 1) + l->nodes * 512;
	unsigned n = l->n < 512 ? l->n : 512;

	struct build *b = j->b;

	if (make_room(b, e) != 0)
		return -1;
	b->nodes[b->nnodes++] = (struct node){ j->nar.id, catalog_first(j->nar.size, level) + l->nodes,
	    n * ERIS_PAIR, b->npairs };
	memcpy(b->pairs + b->npairs, l->pairs, (size_t)n * ERIS_PAIR);
	b->npairs += (size_t)n * ERIS_PAIR;
	for (unsigned i = 0; i < n; i++)
		put_key(b, l->pairs + i * ERIS_PAIR, j->nar.id, child + i);
	l->nodes++;
	l->n -= n;
	memmove(l->pairs, l->pairs + (size_t)n * ERIS_PAIR, (size_t)l->n * ERIS_PAIR);
	return 0;
}

static int
finish_nar(struct job *j, struct err *e)
{
	struct build *b = j->b;

	if (make_room(b, e) != 0)
		return -1;
	b->done_nars[b->ndone++] = (struct finished){ j->nar.id, j->nar.cap };
	put_key(b, j->nar.cap.root.ref, j->nar.id, catalog_first(j->nar.size, j->nar.cap.level));
	b->r->nars++;
	if (seconds_since(&b->committed) > BUILD_COMMIT)
		return commit(b, e);
	return 0;
}

/* The nar after the last one; 1, 0: there is none, -1. */
static int
take(struct build *b, struct catalog_nar *nar, struct err *e)
{
	int rc;

	if (b->o->seconds > 0 && seconds_since(&b->began) > b->o->seconds)
		return 0;
	rc = catalog_next(b->o->catalog, b->last, 1, nar, e);
	if (rc <= 0)
		return rc;
	b->last = nar->id;
	/* Begun before this process: what is there of it goes first. */
	if (nar->state == CATALOG_PARTLY && (begin(b, e) != 0 || catalog_again(b->o->catalog, nar->id,
	    e) != 0))
		return -1;
	return begin(b, e) != 0 || catalog_partly(b->o->catalog, nar->id, e) != 0 ? -1 : 1;
}

/* --- Threads ------------------------------------------------------------------------------------------ */

static int
sink(void *ctx, const struct encode_block *block, struct err *e)
{
	struct job *j = ctx;
	struct level *up = &j->level[block->level + 1];
	int rc = 0;

	if (block->level > 0) {
		pthread_mutex_lock(&j->b->lock);
		rc = stopped(j->b) ? -1 : store_node(j, block->level, e);
		pthread_mutex_unlock(&j->b->lock);
	}
	if (rc == 0 && up->n > 512)
		return err_set(e, "the encoder's order is not as expected");
	memcpy(up->pairs + (size_t)up->n++ * ERIS_PAIR, block->pair, ERIS_PAIR);
	return rc;
}

/* Encode an open file.  1: it was read as the index knows it; 0: it was not; -1. */
static int
encode_file(struct job *j, int fd, struct err *e)
{
	const struct encode_options o = { .block_size = ERIS_LARGE, .sink = sink, .ctx = j };
	struct encode *c = encode_new(&o, e);
	uint64_t offset = 0;
	struct stat st;
	int rc = c == NULL ? -1 : 1;

	while (rc > 0 && !stopped(j->b)) {
		size_t room;
		uint8_t *to = encode_room(c, &room);
		int64_t n = files_read(fd, to, room < PIECE ? room : PIECE, offset);

		if (n < 0 || offset + (uint64_t)n > j->nar.size)
			rc = 0;
		if (n <= 0 || rc == 0)
			break;
		offset += (uint64_t)n;
		__atomic_add_fetch(&j->b->done, (uint64_t)n, __ATOMIC_RELAXED);
		rc = encode_add(c, (size_t)n, e) != 0 ? -1 : 1;
	}
	if (rc > 0 && (stopped(j->b) || offset != j->nar.size || fstat(fd, &st) != 0 ||
	    (uint64_t)st.st_size != j->nar.size || files_mtime(&st) != j->nar.mtime))
		rc = 0;
	if (rc > 0 && encode_end(c, &j->nar.cap, e) != 0)
		rc = -1;
	encode_free(c);
	return rc;
}

/* What is done with one nar: -1 only if the index fails. */
static int
work_on(struct job *j, struct err *e)
{
	struct build *b = j->b;
	struct stat st;
	int fd = files_open(b->o->cache, j->nar.path, &st), gone = fd < 0 && (errno == ENOENT ||
	    errno == ENOTDIR);
	int rc = 0;

	for (unsigned i = 1; i <= ERIS_LEVEL_LARGE + 1; i++)
		j->level[i].n = j->level[i].nodes = 0;
	if (fd >= 0 && (uint64_t)st.st_size == j->nar.size && files_mtime(&st) == j->nar.mtime &&
	    st.st_size / ERIS_LARGE < CATALOG_LEAVES) {
		files_whole(fd);
		rc = encode_file(j, fd, e);
	}
	pthread_mutex_lock(&b->lock);
	if (rc > 0)
		rc = b->broken ? 0 : finish_nar(j, e);
	else if (rc == 0 && !stopped(b)) {
		rc = begin(b, e);
		if (rc == 0 && gone) {
			b->r->gone++;
			rc = catalog_drop_nar(b->o->catalog, j->nar.id, e);
		} else if (rc == 0 && (fd < 0 || st.st_size / ERIS_LARGE >= CATALOG_LEAVES)) {
			b->r->unusable++;
			rc = catalog_unusable(b->o->catalog, j->nar.id, e);
		} else if (rc == 0) {
			int changed;

			b->r->changed++;
			/* Nothing of it may stay behind in memory, or it would be stored later and never be
			 * found wrong. */
			rc = flush(b, e);
			if (rc == 0)
				rc = fstat(fd, &st) == 0 ? catalog_again(b->o->catalog, j->nar.id, e) : 0;
			if (rc == 0)
				rc = catalog_put_nar(b->o->catalog, j->nar.hash, j->nar.path,
				    (uint64_t)st.st_size,
				    files_mtime(&st), &changed, e);
		}
	}
	pthread_mutex_unlock(&b->lock);
	if (fd >= 0)
		close(fd);
	return rc < 0 ? -1 : 0;
}

static void *
worker(void *arg)
{
	struct build *b = arg;
	struct job *j = malloc(sizeof *j);
	struct err e = { 0 };
	int rc = 0;

	if (j == NULL)
		rc = err_set(&e, "out of memory");
	pthread_mutex_lock(&b->lock);
	while (rc == 0 && !stopped(b)) {
		j->b = b;
		rc = take(b, &j->nar, &e);
		if (rc <= 0)
			break;
		pthread_mutex_unlock(&b->lock);
		rc = work_on(j, &e);
		pthread_mutex_lock(&b->lock);
	}
	if (rc < 0 && !b->broken) {
		b->broken = 1;
		*b->e = e;
	}
	b->running--;
	pthread_cond_signal(&b->finished);
	pthread_mutex_unlock(&b->lock);
	free(j);
	return NULL;
}

/* --- Progress ----------------------------------------------------------------------------------------- */

static void
show(const struct build *b, double seconds, int bar)
{
	uint64_t done = __atomic_load_n(&b->done, __ATOMIC_RELAXED);
	double part = b->total == 0 ? 1 : (double)done / (double)b->total;
	double rate = seconds > 0 ? (double)done / seconds / 1e6 : 0;
	unsigned left = rate > 0 && b->total > done ? (unsigned)((double)(b->total - done) / 1e6 / rate) : 0;
	char text[64] = "";

	if (part > 1)
		part = 1;
	if (bar) {
		memset(text, '.', 30);
		memset(text, '#', (size_t)(part * 30));
		fprintf(stderr, "\r[%s] ", text);
	}
	fprintf(stderr, "%s%llu of %llu nars, %.1f of %.1f GB, %.0f MB/s, %u:%02u left%s", bar ? "" :
	    "index: ",
	    (unsigned long long)b->r->nars, (unsigned long long)b->nars, (double)done / 1e9,
	    (double)b->total / 1e9, rate,
	    left / 60, left % 60, bar ? "  " : "\n");
}

static void
wait_for_threads(struct build *b)
{
	int mode = b->o->progress;
	double last = 0;

	pthread_mutex_lock(&b->lock);
	while (b->running > 0) {
		struct timespec at;
		double now;

		clock_gettime(CLOCK_REALTIME, &at);
		at.tv_nsec += 250000000;
		at.tv_sec += at.tv_nsec / 1000000000;
		at.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&b->finished, &b->lock, &at);
		now = seconds_since(&b->began);
		if (mode == 2 || (mode == 1 && now - last >= 60)) {
			show(b, now, mode == 2);
			last = now;
		}
	}
	pthread_mutex_unlock(&b->lock);
	if (mode == 2 && b->nars > 0) {
		show(b, seconds_since(&b->began), 1);
		fputc('\n', stderr);
	}
}

static int
count_wanted(struct build *b, struct err *e)
{
	struct catalog_nar nar = { 0 };
	uint32_t at = 0;
	int rc;

	while ((rc = catalog_next(b->o->catalog, at, 1, &nar, e)) > 0) {
		at = nar.id;
		b->total += nar.size;
		b->nars++;
	}
	return rc;
}

static void
free_build(struct build *b)
{
	free(b->keys);
	free(b->nodes);
	free(b->pairs);
	free(b->done_nars);
}

int
build_run(const struct build_options *o, struct build_report *r, struct err *e)
{
	struct build b = { .o = o, .e = e, .r = r, .lock = PTHREAD_MUTEX_INITIALIZER,
	    .finished = PTHREAD_COND_INITIALIZER };
	pthread_t threads[POOL_MAX];
	unsigned started = 0;
	sigset_t all, old;
	int rc = 0;

	memset(r, 0, sizeof *r);
	clock_gettime(CLOCK_MONOTONIC, &b.began);
	b.committed = b.began;
	if (count_wanted(&b, e) < 0)
		return -1;
	if (b.nars == 0)
		return 0;
	b.keys = malloc((size_t)KEYS * CATALOG_KEY);
	b.nodes = malloc(NODES * sizeof *b.nodes);
	b.pairs = malloc(NODE_BYTES);
	b.done_nars = malloc(FINISHED * sizeof *b.done_nars);
	if (b.keys == NULL || b.nodes == NULL || b.pairs == NULL || b.done_nars == NULL) {
		free_build(&b);
		return err_set(e, "out of memory");
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	b.running = o->threads;
	while (started < o->threads && rc == 0) {
		rc = pthread_create(&threads[started], NULL, worker, &b);
		started += rc == 0;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_mutex_lock(&b.lock);
	b.running -= o->threads - started;
	pthread_mutex_unlock(&b.lock);
	wait_for_threads(&b);
	for (unsigned i = 0; i < started; i++)
		pthread_join(threads[i], NULL);
	if (started == 0)
		b.broken = err_sys(e, rc, "cannot start a thread") != 0;
	if (!b.broken && commit(&b, e) != 0)
		b.broken = 1;
	if (b.broken)
		catalog_rollback(o->catalog);
	free_build(&b);
	r->bytes = b.done;
	r->seconds = seconds_since(&b.began);
	return b.broken ? -1 : 0;
}

/* The nodes of a manifest as they come, the root last. */
struct nodes {
	struct catalog *c;
	uint32_t nar;
	unsigned rows, n; /* N: in the row that is being filled */
	int begun;
	uint8_t last[ERIS_REF];
	uint8_t pairs[ERIS_LARGE];
};

static int
put_row(struct nodes *m, struct err *e)
{
	if (m->n > 0 && catalog_put_node(m->c, m->nar, CATALOG_MANIFEST - m->rows, m->pairs,
	    (size_t)m->n * ERIS_PAIR, e) != 0)
		return -1;
	m->rows++;
	m->n = 0;
	return 0;
}

/* The node before this one was not the root. */
static int
on_node(void *ctx, enum car_kind kind, const uint8_t hash[ERIS_REF], const uint8_t *data, size_t len,
    struct err *e)
{
	struct nodes *m = ctx;
	uint8_t key[CATALOG_KEY];

	(void)kind;
	(void)data;
	(void)len;
	if (m->begun) {
		memcpy(m->pairs + (size_t)m->n++ * ERIS_PAIR, m->last, ERIS_REF);
		catalog_key(key, m->last, m->nar, CATALOG_MANIFEST);
		if (catalog_put_keys(m->c, key, 1, e) != 0 || (m->n == 512 && put_row(m, e) != 0))
			return -1;
	}
	m->begun = 1;
	memcpy(m->last, hash, ERIS_REF);
	return 0;
}

int
build_manifest(struct catalog *c, int cache, struct catalog_nar *nar, struct err *e)
{
	struct nodes *m;
	struct catalog_info info;
	struct stat st;
	char *text;
	size_t len;
	int rc = catalog_info(c, nar->hash, &info, e);

	nar->has_manifest = 0;
	nar->info_mtime = 0;
	if (rc <= 0)
		return rc;
	if (files_text(cache, info.path, MANIFEST_NARINFO, &text, &len, &st) != 0)
		return 0;
	m = calloc(1, sizeof *m);
	if (m == NULL)
		rc = err_set(e, "out of memory");
	else {
		m->c = c;
		m->nar = nar->id;
		rc = pack_manifest(c, nar, text, len, on_node, m, nar->manifest, e);
		if (rc == 0)
			rc = put_row(m, e);
	}
	free(m);
	free(text);
	if (rc != 0)
		return -1;
	nar->has_manifest = 1;
	nar->info_mtime = files_mtime(&st);
	return 0;
}
