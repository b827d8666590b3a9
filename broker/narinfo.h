/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: a strict reader of narinfos, the signed descriptions of store items.
 *
 * A narinfo is lines of `Key: value'.  What stands before the first `Signature:' is signed.  Fields that
 * decide anything (StorePath, NarHash, NarSize, References, Deriver) are taken from the signed part alone
 * and may occur once in the whole file; URL, Compression, FileSize, ERIS and ERIS-Manifest are hints and may
 * stand anywhere.  An ERIS or ERIS-Manifest is of the nearest URL above it in the same part of the file (signed
 * or not); those of a part that stand above all its URLs are of the file's URLs in their order, if there are as
 * many, else of none.  What is signed goes before what is not. */
#ifndef NARLOCK_NARINFO_H
#define NARLOCK_NARINFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "ipc/limits.h"

/* A piece of the caller's narinfo text; no NUL at its end.  AT is NULL when the field is absent. */
struct narinfo_text {
	const char *at;
	size_t len;
};

/* One way to get the nar.  Hints: nobody signed them, or it does not matter who did. */
struct narinfo_group {
	struct narinfo_text url;		/* absolute or relative; printable ASCII without spaces */
	struct narinfo_text compression;	/* e.g. "zstd"; unknown names are kept, the user skips them */
	uint64_t file_size;			/* bytes of the compressed nar, 0 when unknown */
	struct narinfo_text eris, manifest;	/* short and printable, else unchecked; or absent */
};

/* Everything points into the text given to narinfo_parse, which must outlive it: nothing to free. */
struct narinfo {
	const char *text;
	size_t signed_len;			/* bytes of TEXT before `Signature:'; 0 when unsigned */
	struct narinfo_text store_path;		/* full path, checked */
	struct narinfo_text references;		/* the field: base names, checked, and spaces */
	struct narinfo_text deriver;		/* base name ending in .drv, checked, or absent */
	struct narinfo_text signature;		/* the field, unchecked: signature_verify does that */
	uint8_t nar_hash[32];			/* SHA-256 of the nar */
	uint64_t nar_size;			/* 1 .. LIMIT_NAR_SIZE */
	size_t reference_count;
	struct narinfo_group groups[LIMIT_NARINFO_URLS];
	size_t group_count;			/* may be 0 */
};

/* narinfo_parse(ni, text, len, store_dir, e): read LEN bytes, believing nothing.  It succeeds for an
 * unsigned narinfo too: only signature_verify makes one trusted.  A URL without Compression is dropped,
 * as stock guix does, which pairs the lists and stops at the shorter; `Deriver: unknown-deriver' means
 * none. */
int narinfo_parse(struct narinfo *ni, const char *text, size_t len, const char *store_dir, struct err *e);

/* narinfo_is_for(ni, path): does it describe the store item that was asked for?  Must be asked for each
 * narinfo before use: a genuine one of another item is the simplest attack. */
bool narinfo_is_for(const struct narinfo *ni, const char *path);

/* narinfo_next_reference(ni, ref): advance REF, {NULL, 0} at first, to the next base name; false at the
 * end. */
bool narinfo_next_reference(const struct narinfo *ni, struct narinfo_text *ref);

/* narinfo_references_digest(ni, out): SHA-256 of the references as a set: sorted, without repetitions,
 * each with a newline.  -1 when memory is short. */
int narinfo_references_digest(const struct narinfo *ni, uint8_t out[32]);

/* narinfo_equivalent(a, b): same item, nar and references, so that URLs of one serve the other.  Deriver
 * is not compared, as in stock guix: take it, and all but the groups, from the verified one. */
bool narinfo_equivalent(const struct narinfo *a, const struct narinfo *b);

#endif
