/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (ipfs): nodes of a file of IPFS (UnixFS in DAG-PB, specs.ipfs.tech/unixfs and ipld.io/specs/codecs/dag-pb)
 * whose parts are there already as blocks: byte for byte what `ipfs add --raw-leaves --chunker=size-N' makes of the
 * same parts. */
#ifndef NARLOCK_IPFS_UNIXFS_H
#define NARLOCK_IPFS_UNIXFS_H

#include <stddef.h>
#include <stdint.h>

#include "helper/eris/eris.h"
#include "helper/ipfs/car.h"

/* Links of a full node, and bytes of a node at most. */
#define UNIXFS_LINKS 174
#define UNIXFS_NODE 12288

struct unixfs_link {
	uint8_t hash[ERIS_REF];
	uint64_t size; /* bytes of the file beneath it */
	uint64_t all;  /* bytes of all blocks beneath it, nodes included */
};

/* unixfs_put(to, links, n, kind): a node with N links (1 to UNIXFS_LINKS) to blocks of KIND (CAR_RAW: parts of the
 * file; CAR_FILE: nodes).  Returns its length. */
size_t unixfs_put(uint8_t to[UNIXFS_NODE], const struct unixfs_link *links, unsigned n, enum car_kind kind);

#endif
