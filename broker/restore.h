/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: write a verified nar into the store. */
#ifndef NARLOCK_RESTORE_H
#define NARLOCK_RESTORE_H

#include <stdint.h>

#include "ipc/err.h"

struct restore_options {
	int links_fd;              /* STORE/.links, on the same file system, or -1: no deduplication */
	unsigned threads;          /* at most this many; 1: only the caller's; 0: as size and CPUs suggest */
	int spool_fd;              /* a file with the same bytes as NAR from offset 0, or 0: none */
	const uint8_t *nar_sha256; /* SHA-256 of the whole nar (32 bytes) if known, else NULL: a nar that is
	                            * one file need not be hashed again for .links */
};

struct restore_stats {
	uint64_t files, directories, symlinks;
	uint64_t bytes_written; /* contents of regular files that took space */
	uint64_t bytes_linked;  /* contents that are shared through .links */
};

/* restore_nar(parent_fd, name, nar, size, options, stats, e): create NAME, one component that must not exist
 * yet, in PARENT_FD from the SIZE bytes at NAR.  The nar must have matched its signed hash; all of its
 * structure is checked before the first system call that writes.  Directories and executable files get mode
 * 0555, other files 0444, everything access and modification time 1, whatever the umask (it must leave the
 * owner's rights on directories alone).  On failure what was created is removed again; E then names the
 * entry, and E->code is the errno (ENOSPC and EDQUOT: the store is full; EEXIST with nothing touched: NAME
 * exists) or 0 for a bad nar.  STATS is complete on success only; may be NULL. libgcrypt must be
 * initialised.  Threads it starts have ended when it returns. */
int restore_nar(int parent_fd, const char *name, const uint8_t *nar, uint64_t size,
                const struct restore_options *options, struct restore_stats *stats, struct err *e);

#endif
