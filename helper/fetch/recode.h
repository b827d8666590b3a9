/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): a whole nar file that came because blocks were missing, encoded again as it streams by:
 * whether it is the content of its capability, and, if so, blocks for IPFS.
 *
 * Before its end nobody knows that it is, and then its bytes are gone.  So the last RECODE_KEPT blocks are
 * kept: for small nars that is all of them, and of larger ones the journal says that all are to be looked
 * at. */
#ifndef NARLOCK_FETCH_RECODE_H
#define NARLOCK_FETCH_RECODE_H

#include <stddef.h>

#include "helper/eris/eris.h"
#include "helper/fetch/fetch.h"

/* Blocks kept, of 32 KiB: 4 MiB. */
#define RECODE_KEPT 128

struct recode;

/* recode_new(cap, from, e): leaves whose content lies before FROM are not kept: they came as blocks.  NULL:
 * no memory. */
struct recode *recode_new(const struct eris_cap *cap, uint64_t from, struct err *e);
void recode_free(struct recode *r);

/* recode_add(r, data, len): the next bytes of the file, from its beginning on. */
void recode_add(struct recode *r, const void *data, size_t len);

/* recode_end(r, f): that was all.  How many blocks, the last ones, heal.h was told of, for it is the content;
 * -1: it is another encoding (or memory was out). */
int recode_end(struct recode *r, struct fetch *f);

#endif
