/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): in which order the places of one nar are tried. */
#ifndef NARLOCK_FETCH_RANK_H
#define NARLOCK_FETCH_RANK_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/limits.h"

struct rank_entry {
	uint16_t candidate; /* the index of its CANDIDATE message */
	uint16_t server;
	uint8_t method;     /* enum nar_method */
	uint8_t dead;       /* its host could not be reached before */
	uint64_t file_size; /* 0: unknown */
};

/* rank_method(name): enum nar_method of a Compression field ("" counts as none), or 0 for an unknown one. */
uint8_t rank_method(const char *name);

/* rank_sort(entries, n): best first.  The rule:
 *  1. hosts that did not answer before come last;
 *  2. servers in the order of the configuration: an admin lists the near one first;
 *  3. within a server zstd, which costs the least time to decompress for its size;
 *  4. then the smallest, if all others of that server tell their size; else lzip, gzip, none.
 * On a very fast link none may beat zstd; a link that fast is rare enough for a fixed rule. */
void rank_sort(struct rank_entry *entries, size_t n);

#endif
