/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): narinfos as text: their URL groups, the lines that are added to them, the files behind
 * their URLs.
 *
 * Nothing here checks a signature: whoever installs the item does.  Nothing here allocates or opens
 * anything. */
#ifndef NARLOCK_PUBLISH_INFO_H
#define NARLOCK_PUBLISH_INFO_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/limits.h"

/* A part of the text. */
struct info_text {
	const char *at;
	size_t len;
};

struct info_group {
	struct info_text url, compression; /* "none" if it is not told */
	uint64_t file_size;                /* 0: not told */
	int below;                         /* the signature: lines may be added behind it */
	size_t end;                        /* where the group ends in the text */
};

struct info {
	struct info_text store_path;
	int has_eris;                      /* the signer, or somebody before us, has added lines: nothing is added */
	unsigned n;
	struct info_group groups[LIMIT_NARINFO_URLS];
};

/* info_parse(i, text, len): 0, or -1: without StorePath or URL, with too many groups, with a NUL, too
 * long. */
int info_parse(struct info *i, const char *text, size_t len);

/* info_hash_part(i): the 32 characters behind the last slash of StorePath, or NULL. */
const char *info_hash_part(const struct info *i);

/* What is known of the nar of a group; urn is "" if it is not encoded yet. */
struct info_lines {
	char urn[LIMIT_URN + 1], manifest[LIMIT_CID + 1];
};

/* Room for a narinfo of LEN bytes with all lines added. */
#define INFO_ROOM(LEN) ((LEN) + 1 + LIMIT_NARINFO_URLS * (LIMIT_URN + LIMIT_CID + 32))

/* info_add(out, i, text, len, lines): TEXT with `ERIS:' and `ERIS-Manifest:' below the signature, each behind
 * the group that it belongs to; where the groups stand above it, all at the end in their order, if each has
 * one.  LINES has one element a group.  Returns the length; OUT has room for INFO_ROOM(LEN). */
size_t info_add(char *out, const struct info *i, const char *text, size_t len,
    const struct info_lines *lines);

/* info_index(out, size, i, lines): the answer of /eris/HASH, which helper/fetch/index.h reads; groups without
 * a URN are left out.  Returns the length; 0 if there is none with one, or no room. */
size_t info_index(char *out, size_t size, const struct info *i, const struct info_lines *lines);

/* info_file(path, url, len, form): the file of a nar below the cache for a URL, which is relative, or the
 * path of a request without its first slash; percent signs are decoded if `decode'.  FORM 0:
 * COMPRESSION/ITEM.nar as `guix publish --cache' has it for .../COMPRESSION/ITEM and .../ITEM (none); FORM 1:
 * the URL itself.  0, or -1: it names no file that may be served. */
enum { INFO_FORMS = 2 };
int info_file(char path[LIMIT_PATH], const char *url, size_t len, int form, int decode);

/* The directories that form 0 knows. */
enum { INFO_METHODS = 6 };
extern const char *const info_methods[INFO_METHODS];

/* info_item(path): the name of the store item that a nar or narinfo file below the cache belongs to begins
 * here; NULL if it does not begin with a hash part and a hyphen. */
const char *info_item(const char *path);

#endif
