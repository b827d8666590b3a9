/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): the commands of narlock-eris.  They run with the rights of the user who calls them, on
 * files of his. */
#ifndef NARLOCK_ERIS_TOOL_H
#define NARLOCK_ERIS_TOOL_H

#include <stdint.h>

#include "helper/eris/eris.h"
#include "ipc/err.h"

struct tool_options {
	uint32_t block_size;          /* encode, blocks */
	uint8_t secret[ERIS_KEY];     /* encode, blocks */
	const char *store;            /* a directory of blocks; NULL: none (encode) */
	int manifest;                 /* encode: the nodes of a manifest go into the store, too */
	const char *narinfo;          /* a file for the manifest to take along, or NULL: encode, car */
	const char *output;           /* car: a file, or NULL: standard output */
	unsigned threads;             /* 1 to POOL_MAX */
	uint64_t offset, length;      /* decode: a part of the content; length UINT64_MAX: up to its end */
	const char *argument;         /* FILE, URN or reference; for FILE, "-" is standard input */
};

/* What they print goes to standard output.  0, or -1 and *e. */
int tool_encode(const struct tool_options *o, struct err *e);
int tool_decode(const struct tool_options *o, struct err *e);
int tool_cid(const struct tool_options *o, struct err *e);
int tool_car(const struct tool_options *o, struct err *e);
int tool_blocks(const struct tool_options *o, struct err *e);

#endif
