/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): content at any offset, for blocks that can be had when they are needed.
 *
 * Memory: one block a level. */
#ifndef NARLOCK_ERIS_ACCESS_H
#define NARLOCK_ERIS_ACCESS_H

#include <stddef.h>

#include "helper/eris/eris.h"
#include "ipc/err.h"

struct access;

/* Gets the block REF: up to SIZE bytes into BUF, its length into *LEN.  Need not check it.  0, or -1 and
 * *e. */
typedef int (*access_get)(void *ctx, const uint8_t ref[ERIS_REF], uint8_t *buf, size_t size, size_t *len,
    struct err *e);

/* access_new(cap, get, ctx, e): block_init() must have been called.  NULL on failure. */
struct access *access_new(const struct eris_cap *cap, access_get get, void *ctx, struct err *e);
void access_free(struct access *a);

/* access_length(a, length, e): bytes of content, from the right-most block of each level. */
int access_length(struct access *a, uint64_t *length, struct err *e);

/* access_read(a, offset, data, len, e): content at OFFSET: *LEN bytes at *DATA, as many as its leaf has
 * behind OFFSET, valid until the next call; 0 bytes at and behind the end.  Checks like those of the
 * decoder (decode.h) on every block. */
int access_read(struct access *a, uint64_t offset, const uint8_t **data, size_t *len, struct err *e);

#endif
