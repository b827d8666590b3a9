/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch), blocks: where the blocks of a nar come from, counted and told. */
#ifndef NARLOCK_FETCH_BLOCKWHERE_H
#define NARLOCK_FETCH_BLOCKWHERE_H

#include "helper/fetch/blocks.h"

/* blockwhere_text(b, text, size): for the progress line: where blocks come from, by the last seconds: the kinds that
 * bring a twentieth at least, and who of all brings most; so that one block from elsewhere is no news.
 * blockwhere_summary(b, text, size): "ipfs 9001, range 154": how many blocks came from where. */
void blockwhere_text(struct blocks *b, char *text, size_t size);
void blockwhere_summary(const struct blocks *b, char *text, size_t size);

#endif
