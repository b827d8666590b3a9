/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): one block, or the root of one manifest, from whichever source has it: for probes and for
 * narinfos that live in manifests.  Not for nars: blocks.c has a scheduler for that. */
#ifndef NARLOCK_FETCH_ROOTGET_H
#define NARLOCK_FETCH_ROOTGET_H

#include "helper/eris/eris.h"
#include "helper/fetch/fetch.h"

/* The next source is asked as well when those before it are silent for so long (milliseconds). */
#define ROOTGET_HEDGE_MS 300

struct rootget;

enum rootget_state {
	ROOTGET_RUNS,
	ROOTGET_FOUND,
	ROOTGET_NOWHERE, /* every source said no, cannot be reached, or had its time */
};

/* rootget_new(f, manifest, hash, block_size, wait_ms, e): the root of a manifest (MANIFEST 1) or a block of
 * BLOCK_SIZE bytes.  NULL on failure.  Memory: what has come, at most 1 MiB for each of two requests at a
 * time. */
struct rootget *rootget_new(struct fetch *f, int manifest, const uint8_t hash[ERIS_REF], uint32_t block_size,
    uint32_t wait_ms, struct err *e);
void rootget_free(struct rootget *r);

/* rootget_beside(r): the same sources are asked for blocks besides: by those it shows who does not answer, not by this. */
void rootget_beside(struct rootget *r);

/* rootget_pump(r, data, len): ROOTGET_FOUND: *LEN bytes with that hash at *DATA, valid until
 * rootget_free(). */
enum rootget_state rootget_pump(struct rootget *r, const uint8_t **data, size_t *len);
uint64_t rootget_deadline(const struct rootget *r);

#endif
