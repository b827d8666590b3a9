/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): indexes (`eris-index'): servers that know the ERIS capability of nars whose narinfo does
 * not tell it. */
#ifndef NARLOCK_FETCH_INDEX_H
#define NARLOCK_FETCH_INDEX_H

#include "helper/fetch/fetch.h"
#include "helper/fetch/indextext.h"

/* How long an order waits for the indexes (milliseconds). */
#define INDEX_WAIT_MS 2000
/* An index that was silent for so many orders in a row is not asked any more. */
#define INDEX_SILENT 2

struct index_query;

enum index_state { INDEX_WAITS, INDEX_FOUND, INDEX_NOTHING };

/* index_new(f, hash_part, wait_ms, e): ask all servers of kind SERVER_INDEX that can be reached.  NULL if
 * there is none (e->text is empty then), or no memory. */
struct index_query *index_new(struct fetch *f, const char hash_part[HASH_PART_BYTES + 1], uint32_t wait_ms,
    struct err *e);
void index_free(struct index_query *q);

/* index_pump(q, a): INDEX_FOUND: *A is the answer of one index: the first in the order of the configuration
 * that has one, those before it having said no or taken half of the time. */
enum index_state index_pump(struct index_query *q, const struct index_answer **a);
uint64_t index_deadline(const struct index_query *q);

#endif
