/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): the cryptography of single blocks: BLAKE2b-256 and ChaCha20 (RFC 8439), and what may be
 * in them.
 *
 * Everywhere below a block has block_size bytes, ERIS_SMALL or ERIS_LARGE.  All functions may run in
 * several threads. */
#ifndef NARLOCK_ERIS_BLOCK_H
#define NARLOCK_ERIS_BLOCK_H

#include <stddef.h>

#include "helper/eris/eris.h"
#include "ipc/err.h"

/* The convergence secret that everybody knows: the same content gives the same blocks everywhere. */
extern const uint8_t block_null_secret[ERIS_KEY];

/* block_init(e): once, before any other function here and before a system call filter: libsodium looks at
 * the processor and asks for random bytes. */
int block_init(struct err *e);

/* block_verify(ref, block, len, block_size): what is wrong with a block that somebody gave as REF, or
 * NULL: nothing. */
const char *block_verify(const uint8_t ref[ERIS_REF], const uint8_t *block, size_t len, uint32_t block_size);

/* block_verify_some(good, refs, blocks, n, block_size): the same for N (at most 4) blocks of the right
 * size, faster than one by one; good[i] is set to 1 or 0. */
void block_verify_some(int *good, const uint8_t *const *refs, const uint8_t *const *blocks, unsigned n,
    uint32_t block_size);

/* block_refs(refs, blocks, n, block_size): the references of N (at most 4) blocks that stand one behind the other. */
void block_refs(uint8_t (*refs)[ERIS_REF], const uint8_t *blocks, unsigned n, uint32_t block_size);

/* block_seal_leaves(blocks, n, block_size, secret, pairs): encrypt N plain leaves, one behind the other in
 * memory, where they stand, and store their pairs. */
void block_seal_leaves(uint8_t *blocks, size_t n, uint32_t block_size, const uint8_t secret[ERIS_KEY],
    struct eris_pair *pairs);

/* block_seal_node(block, block_size, level, pair): the same with one node, filled with zeros behind its
 * last pair. */
void block_seal_node(uint8_t *block, uint32_t block_size, unsigned level, struct eris_pair *pair);

/* block_leaf(block, pair, data, len, block_size): the leaf, encrypted with the null secret, that LEN bytes
 * of content give: a whole leaf if LEN is block_size, and the last leaf of a content, with padding, if it
 * is less (0 too).  For blocks that are rebuilt from a part of a file. */
void block_leaf(uint8_t *block, struct eris_pair *pair, const uint8_t *data, size_t len, uint32_t block_size);

/* block_open(plain, block, block_size, level, key): decrypt.  PLAIN may be BLOCK. */
void block_open(uint8_t *plain, const uint8_t *block, uint32_t block_size, unsigned level,
    const uint8_t key[ERIS_KEY]);

/* block_key_fits(plain, block_size, key): whether KEY is the one that belongs to this decrypted node.  To
 * be asked of the root: all other nodes are vouched for by the node above them. */
int block_key_fits(const uint8_t *plain, uint32_t block_size, const uint8_t key[ERIS_KEY]);

/* block_children(plain, block_size, n): the number of pairs of a decrypted node into N.  Returns what is
 * wrong with it (no pair, or anything behind a null reference that is not zero), or NULL. */
const char *block_children(const uint8_t *plain, uint32_t block_size, unsigned *n);

/* block_unpad(plain, block_size, len): the bytes of content in the decrypted last leaf into LEN.  Returns
 * what is wrong with its padding, or NULL. */
const char *block_unpad(const uint8_t *plain, uint32_t block_size, size_t *len);

#endif
