/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): the sizes and types of ERIS 1.0.0, the encoding of content into encrypted blocks of one
 * size.
 *
 * Content is cut into leaves (level 0).  Each is encrypted with a key that is a hash of it, and is known
 * by its reference, the BLAKE2b-256 of the encrypted block.  Pairs of reference and key fill nodes (level
 * 1), which are encrypted in the same way, and so on, until one pair is left: the root.  Nothing here
 * allocates. */
#ifndef NARLOCK_ERIS_ERIS_H
#define NARLOCK_ERIS_ERIS_H

#include <stdint.h>

/* The two block sizes that exist, in bytes. */
#define ERIS_SMALL 1024u
#define ERIS_LARGE 32768u

/* Bytes of a reference, of a key, of a pair, of a read capability. */
#define ERIS_REF 32
#define ERIS_KEY 32
#define ERIS_PAIR 64
#define ERIS_CAP 66

/* Highest level that a tree of small or of large blocks can have: what is above could not be counted in 63
 * bits. */
#define ERIS_LEVEL_SMALL 13
#define ERIS_LEVEL_LARGE 5
#define ERIS_LEVELS 14

/* How a block is found and opened; in a node it is exactly these 64 bytes. */
struct eris_pair {
	uint8_t ref[ERIS_REF];
	uint8_t key[ERIS_KEY];
};

/* A read capability: all that is needed to read some content. */
struct eris_cap {
	uint32_t block_size; /* ERIS_SMALL or ERIS_LARGE */
	uint8_t level;       /* of the root; 0: it is the only leaf */
	struct eris_pair root;
};

/* Pairs in a full node. */
static inline unsigned
eris_arity(uint32_t block_size)
{
	return block_size / ERIS_PAIR;
}

static inline uint8_t
eris_max_level(uint32_t block_size)
{
	return block_size == ERIS_SMALL ? ERIS_LEVEL_SMALL : ERIS_LEVEL_LARGE;
}

/* eris_span(block_size, level): bytes of content beneath a full block of LEVEL (at most eris_max_level()). */
static inline uint64_t
eris_span(uint32_t block_size, unsigned level)
{
	return (uint64_t)block_size << (level * (block_size == ERIS_SMALL ? 4u : 9u));
}

#endif
