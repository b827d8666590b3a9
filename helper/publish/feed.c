/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): a nar as the body of a `dag/import'. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "helper/eris/block.h"
#include "helper/ipfs/car.h"
#include "helper/ipfs/rpc.h"
#include "helper/publish/feed.h"
#include "helper/publish/files.h"
#include "helper/publish/pack.h"

#define RING (256u * 1024)

struct feed {
	struct feed_options o;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint8_t ring[RING];
	size_t at, n;      /* first byte, and how many */
	int done, failed, abandoned, wrong;
	struct err e;
	uint64_t bytes;    /* made */
	struct timespec began;
	/* The thread's own: */
	struct catalog *catalog;
	int fd;
	uint8_t block[ERIS_LARGE];
};

static int
stopped(const struct feed *f)
{
	return f->o.stop != NULL && *f->o.stop;
}

/* As many bytes a second as are allowed, and no more. */
static void
slow_down(const struct feed *f)
{
	double ahead;
	struct timespec now;

	if (f->o.rate == 0)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	ahead = (double)f->bytes / (f->o.rate * 1e6) - (double)(now.tv_sec - f->began.tv_sec) -
	    1e-9 * (double)(now.tv_nsec - f->began.tv_nsec);
	if (ahead > 0.001) {
		const struct timespec wait = { ahead > 1 ? 1 : 0, ahead > 1 ? 0 : (long)(ahead * 1e9) };

		clock_nanosleep(CLOCK_MONOTONIC, 0, &wait, NULL);
	}
}

static int
put(struct feed *f, const void *data, size_t len, struct err *e)
{
	const uint8_t *from = data;

	slow_down(f);
	pthread_mutex_lock(&f->lock);
	while (len > 0) {
		size_t end = (f->at + f->n) % RING, room = RING - f->n, piece = len;

		if (f->abandoned || stopped(f)) {
			pthread_mutex_unlock(&f->lock);
			return err_set(e, "not wanted any more");
		}
		if (room == 0) {
			pthread_cond_wait(&f->changed, &f->lock);
			continue;
		}
		if (piece > room)
			piece = room;
		if (piece > RING - end)
			piece = RING - end;
		memcpy(f->ring + end, from, piece);
		f->n += piece;
		f->bytes += piece;
		from += piece;
		len -= piece;
		pthread_cond_signal(&f->changed);
	}
	pthread_mutex_unlock(&f->lock);
	return 0;
}

static int
put_section(struct feed *f, enum car_kind kind, const uint8_t *hash, const uint8_t *data, size_t len,
    struct err *e)
{
	uint8_t head[CAR_PUT_SECTION];

	return put(f, head, car_put_section(head, kind, hash, len), e) != 0 ? -1 : put(f, data, len, e);
}

static int
put_node(void *ctx, enum car_kind kind, const uint8_t hash[ERIS_REF], const uint8_t *data, size_t len,
    struct err *e)
{
	return put_section(ctx, kind, hash, data, len, e);
}

static int
put_block(void *ctx, uint32_t number, unsigned level, const struct eris_pair *pair, const uint8_t *plain,
    struct err *e)
{
	struct feed *f = ctx;
	uint64_t offset = (uint64_t)number * ERIS_LARGE;
	struct eris_pair found;

	if (level == 0) {
		int64_t n = files_read(f->fd, f->block, ERIS_LARGE, offset);

		if (n < 0 || offset + (uint64_t)n > f->o.nar->size)
			n = 0;
		block_leaf(f->block, &found, f->block, (size_t)n, ERIS_LARGE);
	} else {
		memcpy(f->block, plain, ERIS_LARGE);
		block_seal_node(f->block, ERIS_LARGE, level, &found);
	}
	if (memcmp(found.ref, pair->ref, ERIS_REF) != 0) {
		f->wrong = 1;
		return err_set(e, "%s is not as it was indexed", f->o.nar->path);
	}
	return put_section(f, CAR_RAW, pair->ref, f->block, ERIS_LARGE, e);
}

static int
make(struct feed *f, const char *narinfo, size_t len, struct err *e)
{
	uint8_t head[CAR_PUT_HEADER], root[ERIS_REF];
	char part[RPC_PART];

	if (put(f, part, rpc_part_head(part, f->o.boundary, 1), e) != 0 ||
	    put(f, head, car_put_root(head, CAR_NODE, f->o.nar->manifest), e) != 0 ||
	    pack_manifest(f->catalog, f->o.nar, narinfo, len, put_node, f, root, e) != 0)
		return -1;
	if (memcmp(root, f->o.nar->manifest, ERIS_REF) != 0)
		return err_set(e, "the narinfo of %s has changed", f->o.nar->path);
	if (pack_walk(f->catalog, f->o.nar, put_block, f, e) != 0)
		return -1;
	return put(f, part, rpc_part_end(part, f->o.boundary), e);
}

static int
make_all(struct feed *f, struct err *e)
{
	struct catalog_info info;
	struct stat st;
	char *text = NULL;
	size_t len = 0;
	int rc;

	f->catalog = catalog_open(f->o.index, 0, e);
	if (f->catalog == NULL)
		return -1;
	f->fd = files_open(f->o.cache, f->o.nar->path, &st);
	if (f->fd < 0)
		return err_sys(e, errno, "%s", f->o.nar->path);
	rc = catalog_info(f->catalog, f->o.nar->hash, &info, e);
	if (rc == 0)
		return err_set(e, "there is no narinfo of %s", f->o.nar->path);
	if (rc < 0)
		return -1;
	if (files_text(f->o.cache, info.path, MANIFEST_NARINFO, &text, &len, &st) != 0)
		return err_sys(e, errno, "%s", info.path);
	rc = make(f, text, len, e);
	free(text);
	return rc;
}

static void *
run(void *arg)
{
	struct feed *f = arg;
	struct err e = { 0 };
	int rc = make_all(f, &e);

	if (f->fd >= 0)
		close(f->fd);
	catalog_close(f->catalog);
	pthread_mutex_lock(&f->lock);
	f->done = 1;
	f->failed = rc != 0;
	f->e = e;
	pthread_cond_signal(&f->changed);
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

struct feed *
feed_new(const struct feed_options *o, struct err *e)
{
	struct feed *f = calloc(1, sizeof *f);
	sigset_t all, old;
	int rc;

	if (f == NULL) {
		err_set(e, "out of memory");
		return NULL;
	}
	f->o = *o;
	f->fd = -1;
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->changed, NULL);
	clock_gettime(CLOCK_MONOTONIC, &f->began);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&f->thread, NULL, run, f);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc == 0)
		return f;
	err_sys(e, rc, "cannot start a thread");
	free(f);
	return NULL;
}

long
feed_read(struct feed *f, void *to, size_t size)
{
	long rc;

	pthread_mutex_lock(&f->lock);
	while (f->n == 0 && !f->done)
		pthread_cond_wait(&f->changed, &f->lock);
	if (size > f->n)
		size = f->n;
	if (size > RING - f->at)
		size = RING - f->at;
	memcpy(to, f->ring + f->at, size);
	f->at = (f->at + size) % RING;
	f->n -= size;
	rc = size > 0 ? (long)size : f->failed ? -1 : 0;
	pthread_cond_signal(&f->changed);
	pthread_mutex_unlock(&f->lock);
	return rc;
}

int
feed_end(struct feed *f, uint64_t *bytes, int *wrong, struct err *e)
{
	int failed;

	pthread_mutex_lock(&f->lock);
	f->abandoned = 1;
	pthread_cond_signal(&f->changed);
	pthread_mutex_unlock(&f->lock);
	pthread_join(f->thread, NULL);
	failed = f->failed;
	if (failed)
		*e = f->e;
	if (bytes != NULL)
		*bytes = f->bytes;
	if (wrong != NULL)
		*wrong = f->wrong;
	pthread_mutex_destroy(&f->lock);
	pthread_cond_destroy(&f->changed);
	free(f);
	return failed ? -1 : 0;
}
