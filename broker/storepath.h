/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: the syntax of store paths. */
#ifndef NARLOCK_STOREPATH_H
#define NARLOCK_STOREPATH_H

#include <stddef.h>

/* Characters of the hash part, the key under which servers keep a narinfo. */
#define STOREPATH_HASH 32

/* storepath_base_ok(base, len): is this a store item's base name: 32 characters of nix-base32, '-', and a
 * name of A-Za-z0-9+-._?= that is not empty, does not start with '.', and fits LIMIT_STORE_NAME?
 * Nothing that passes can be "..", hold a slash, or need quoting in a trace. */
int storepath_base_ok(const char *base, size_t len);

/* storepath_base(path, len, store_dir): the base name inside PATH (its length is what is left of LEN) when
 * PATH is STORE_DIR, one slash and a good base name; else NULL.  guix-daemon does not check the hash part:
 * a bad path is one that has no substitute, not a broken protocol. */
const char *storepath_base(const char *path, size_t len, const char *store_dir);

/* storepath_check(path, store_dir): the same for a NUL-terminated path: 0 or -1. */
int storepath_check(const char *path, const char *store_dir);

#endif
