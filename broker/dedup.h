/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: one inode for equal files, through STORE/.links, as guix-daemon does it. */
#ifndef NARLOCK_DEDUP_H
#define NARLOCK_DEDUP_H

#include <gcrypt.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Files below this many bytes are not worth a link (guix-daemon's own threshold). */
#define DEDUP_MIN 8192
/* A name in .links with its NUL: nix-base32 of SHA-256 of the nar that holds only this file.  The executable
 * bit is part of that nar, so two files that share a name share contents and mode. */
#define DEDUP_NAME 53

/* dedup_name(md, data, size, executable, name): the name for SIZE bytes at DATA.  MD is an open SHA-256
 * handle; it is reset first.  Allocates nothing. */
void dedup_name(gcry_md_hd_t md, const uint8_t *data, uint64_t size, bool executable, char name[DEDUP_NAME]);

/* dedup_take(links_fd, name, size, mode, dir_fd, leaf): make LEAF in DIR_FD a link to .links/NAME, if that
 * is a regular file of SIZE bytes with permissions MODE and mtime 1.  False when there is none or the link
 * cannot be made: the caller then writes the file. */
bool dedup_take(int links_fd, const char *name, uint64_t size, mode_t mode, int dir_fd, const char *leaf);

/* dedup_give(links_fd, name, size, mode, dir_fd, leaf, serial): offer the finished file LEAF as
 * .links/NAME.  When another agent was faster, LEAF becomes a link to its file.  True then, false when LEAF
 * kept its own bytes.  Cannot fail: without a link the file is as good.  SERIAL tells apart the files of one
 * process. */
bool dedup_give(int links_fd, const char *name, uint64_t size, mode_t mode, int dir_fd, const char *leaf,
                uint64_t serial);

#endif
