/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): blocks on demand: from a reference to the bytes of a nar, or to a node of the index.
 *
 * Nothing is believed: neither that the file is the one that was indexed, nor that the index is sound.  A
 * block is given away only when its hash is the reference.  One object a thread; memory: a few KiB, and
 * descriptors of PLACE_OPEN nars. */
#ifndef NARLOCK_PUBLISH_PLACE_H
#define NARLOCK_PUBLISH_PLACE_H

#include "helper/publish/catalog.h"

/* Nars that are kept open, and for how many milliseconds without another look at their names. */
#define PLACE_OPEN 512
#define PLACE_FRESH_MS 5000

struct place;

/* place_new(cache, index, wrong, e): CACHE is a directory; the index is opened for reading.  Numbers of nars
 * that are not as indexed are sent to the socket WRONG (-1: nobody wants them).  NULL on failure. */
struct place *place_new(int cache, const char *index, int wrong, struct err *e);
void place_free(struct place *p);
/* place_own(p): the cache is our own: nars that are used are marked so (files.h). */
void place_own(struct place *p);
struct catalog *place_catalog(struct place *p);

/* place_broken(p): the index gives errors: whoever writes it is asked to look at it. */
void place_broken(struct place *p);

/* One block that is looked for. */
struct place_job {
	uint8_t ref[ERIS_REF];
	unsigned n, at;      /* places, and the one in hand */
	int gone;            /* a place was not as it was indexed */
	struct catalog_place places[CATALOG_PLACES];
	uint8_t *manifest;   /* of the last place_load(), if it said so */
	size_t len;
	int file;            /* it is a node of the file beneath one (DAG-PB), no root (DAG-CBOR) */
};

/* place_begin(p, job, ref, e): where it could be.  -1 if the index fails. */
int place_begin(struct place *p, struct place_job *job, const uint8_t ref[ERIS_REF], struct err *e);

enum place_step {
	PLACE_LEAF, /* DATA is the plain leaf: seal it (block_seal_leaves), then place_check() */
	PLACE_NODE, /* DATA is the block */
	PLACE_MANIFEST, /* job->manifest is it, job->len bytes, to be freed */
	PLACE_NONE, /* there is no such block; job->gone: but there was one */
};

/* place_load(p, job, data, now): the next place: ERIS_LARGE bytes at DATA.  NOW: milliseconds of the
 * monotonic clock. */
enum place_step place_load(struct place *p, struct place_job *job, uint8_t *data, int64_t now);

/* place_check(p, job, ref): REF is what became of the leaf.  1: it is the block; 0: it is not, go on with
 * place_load(). */
int place_check(struct place *p, struct place_job *job, const uint8_t ref[ERIS_REF]);

#endif
