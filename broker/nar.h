/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: a strict, iterative pull reader of the nar format, over memory that already matched NarHash. */
#ifndef NARLOCK_NAR_H
#define NARLOCK_NAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "ipc/limits.h"

/* The format (from the Nix thesis; every writer emits exactly this, so nothing else is taken):
 *
 *     str(s) = le64(length of s) s zeros-to-a-multiple-of-8
 *     nar    = str("nix-archive-1") node
 *     node   = str("(") str("type") body str(")")
 *     body   = str("regular") [str("executable") str("")] str("contents") str(DATA)
 *            | str("symlink") str("target") str(TARGET)
 *            | str("directory") { str("entry") str("(") str("name") str(NAME) str("node") node str(")") }
 *
 * Refused besides what does not fit that grammar: names that are empty, longer than LIMIT_NAR_NAME, "." or
 * "..", or hold '/' or NUL; siblings whose names do not strictly increase (memcmp order); targets that are
 * empty, longer than LIMIT_NAR_TARGET or hold NUL; a path below the top longer than LIMIT_NAR_PATH (which
 * bounds the depth too); padding that is not zero; anything after the last ")". */

enum nar_kind {
	NAR_DIRECTORY,     /* a directory begins; its entries follow */
	NAR_DIRECTORY_END, /* the directory opened last has no more entries */
	NAR_REGULAR,
	NAR_SYMLINK,
	NAR_END            /* the whole nar was well-formed; nothing follows */
};

/* One step.  NAME (not NUL-terminated, inside the nar) is the entry's own name: NULL and 0 for the top level,
 * for NAR_DIRECTORY_END and for NAR_END.  DATA and SIZE are the contents of a regular file (bytes, never
 * touched by the reader) or the target of a symbolic link (not NUL-terminated). */
struct nar_event {
	enum nar_kind kind;
	bool executable;
	const char *name;
	size_t name_len;
	const uint8_t *data;
	uint64_t size;
};

/* A reader; no allocation behind it.  PATH is the path below the top of the entry of the last event,
 * NUL-terminated and without a leading slash ("" for the top itself); after NAR_DIRECTORY_END it is that of
 * the directory that ended.  The rest is private. */
struct nar_reader {
	char path[LIMIT_NAR_PATH + 1];
	const uint8_t *nar;
	uint64_t size, pos;
	size_t dir_len;  /* bytes of PATH that name the directory being read */
	size_t last;     /* where in PATH the name of the previous sibling begins */
	size_t last_len; /* its length, 0 before the first one */
	unsigned depth;  /* directories open */
	enum { NAR_AT_START, NAR_IN_DIRECTORY, NAR_AT_END, NAR_FAILED } state;
};

/* nar_open(r, nar, size): read SIZE bytes at NAR, which must stay mapped as long as R and its events are
 * used. */
void nar_open(struct nar_reader *r, const uint8_t *nar, uint64_t size);

/* nar_next(r, event, e): the next step, or -1 with a reason that names the entry and the offset.  After a
 * failure it fails again; after NAR_END it gives NAR_END again. */
int nar_next(struct nar_reader *r, struct nar_event *event, struct err *e);

/* nar_tail(path): PATH for messages: its last NAR_TAIL bytes, which tell most. */
#define NAR_TAIL 120
const char *nar_tail(const char *path);

#endif
