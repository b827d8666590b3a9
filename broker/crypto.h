/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: libgcrypt's start, and SHA-256 in one call. */
#ifndef NARLOCK_CRYPTO_H
#define NARLOCK_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"

/* crypto_init(e): once per process, before any other function that hashes or verifies and before the broker
 * confines itself (libgcrypt reads files in /proc and /etc here, and never later). */
int crypto_init(struct err *e);

/* crypto_sha256(out, data, len): 32 bytes to OUT. */
void crypto_sha256(uint8_t out[32], const void *data, size_t len);

/* crypto_canon(text, len, canon_len): the canonical form of the s-expression TEXT, in any form that
 * libgcrypt reads, to be freed by the caller; NULL when it cannot be read.  Canonical forms are equal
 * when the structures are, and can be compared with literals: (3:tag(4:guix6:import)).  LEN must be
 * bounded by the caller. */
char *crypto_canon(const char *text, size_t len, size_t *canon_len);

/* A place in canonical form. */
struct canon {
	const char *p, *end;
};

/* canon_take(c, literal): step over LITERAL; false, and stay, when it is not there. */
bool canon_take(struct canon *c, const char *literal);

/* canon_atom(c, at, len): step over one atom, `LENGTH:BYTES', and tell its bytes; false
 * when there is none. */
bool canon_atom(struct canon *c, const char **at, size_t *len);

#endif
