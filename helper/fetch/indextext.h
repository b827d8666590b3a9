/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): the text that an index (`eris-index') answers with.
 *
 * GET INDEX/eris/HASH-PART is answered with text like a narinfo's:
 *
 *     StorePath: /gnu/store/HASH-PART-NAME
 *     URL: nar/zstd/HASH-PART-NAME
 *     Compression: zstd
 *     FileSize: 1234
 *     ERIS: urn:eris:...
 *     ERIS-Manifest: bafy...
 *     URL: ...
 *
 * StorePath comes first and is of the item that was asked for; URL begins a group; Compression (none if it is
 * missing), FileSize, ERIS and ERIS-Manifest stand at most once in a group; other fields are passed over.  A
 * group without a valid ERIS or ERIS-Manifest is of no use and left out.  404: not known there.  An index is
 * never believed: NarHash and the narinfo's signature decide. */
#ifndef NARLOCK_FETCH_INDEXTEXT_H
#define NARLOCK_FETCH_INDEXTEXT_H

#include <stddef.h>
#include <stdint.h>

#include "helper/eris/eris.h"
#include "ipc/err.h"
#include "ipc/wire.h"

/* Longest answer, in bytes, and groups that are kept. */
#define INDEX_MAX (64 * 1024)
#define INDEX_GROUPS 16

struct index_group {
	uint8_t method;      /* enum nar_method */
	uint8_t has_cap, has_manifest;
	uint64_t file_size;  /* 0: not told */
	struct eris_cap cap;
	uint8_t manifest[ERIS_REF];
};

struct index_answer {
	size_t n;
	struct index_group groups[INDEX_GROUPS];
};

/* indextext_parse(a, text, len, hash_part, e): 0, or -1: this is no such text, or it is about another
 * item. */
int indextext_parse(struct index_answer *a, const char *text, size_t len,
    const char hash_part[HASH_PART_BYTES + 1], struct err *e);

/* indextext_match(a, method, file_size): the group for a candidate: same compression, and the same size where
 * both tell it.  NULL if there is none. */
const struct index_group *indextext_match(const struct index_answer *a, uint8_t method, uint64_t file_size);

#endif
