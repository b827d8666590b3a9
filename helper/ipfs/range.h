/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (ipfs): blocks out of the ordinary nar file: leaf i of its encoding (null secret, blocks of 32 KiB)
 * is made of the bytes from 32768 * i on, so any server that honours Range for that file can repair it.
 * Rules only: nothing is sent.
 *
 * A server of files never said that it has a block: bytes that do not fit mean that its file is another
 * encoding of the nar, and that it is no source of blocks for this nar, but it has not lied. */
#ifndef NARLOCK_IPFS_RANGE_H
#define NARLOCK_IPFS_RANGE_H

#include <stddef.h>
#include <stdint.h>

#include "helper/eris/eris.h"

/* The size of a file that nobody told. */
#define RANGE_UNKNOWN UINT64_MAX

enum range_need {
	RANGE_BYTES,   /* ask for *LEN bytes at *OFFSET */
	RANGE_PADDING, /* the leaf is padding only: nothing to ask for, *LEN is 0 */
	RANGE_NONE,    /* there is no such leaf in a file of that size */
};

/* range_leaf(index, size, offset, len): what leaf INDEX is made of, in a file of SIZE bytes or RANGE_UNKNOWN
 * (then the last leaf gets less bytes than asked for). */
enum range_need range_leaf(uint64_t index, uint64_t size, uint64_t *offset, size_t *len);

/* Missing leaves that are asked for in one request. */
struct range_run {
	uint64_t first, count; /* leaves */
};

/* range_plan(runs, max, leaves, n, gap, longest): cover the ascending LEAVES with at most MAX runs, each at
 * most LONGEST leaves; holes of at most GAP leaves are asked for along.  Returns the number of runs, *N is
 * the number of leaves that they cover. */
size_t range_plan(struct range_run *runs, size_t max, const uint64_t *leaves, size_t *n, uint64_t gap,
    uint64_t longest);

/* range_header(text, run, size): the value of the Range header, "bytes=A-B".  -1 if the run has no bytes in
 * a file of SIZE bytes (or RANGE_UNKNOWN). */
#define RANGE_HEADER 56
int range_header(char text[RANGE_HEADER], const struct range_run *run, uint64_t size);

/* What the header of an answer says; -1 where it says nothing. */
struct range_answer {
	int status;
	int64_t length;             /* Content-Length */
	int64_t start, end, total;  /* Content-Range; total also of "*" and 416 */
	const char *encoding;       /* Content-Encoding, or NULL */
};

enum range_verdict {
	RANGE_PART,        /* the bytes that were asked for */
	RANGE_WHOLE,       /* 200: the whole file from its beginning */
	RANGE_BEHIND,      /* 416, and the file ends right at the run: its leaf is padding only */
	RANGE_OTHER_FILE,  /* the file has another size: of no use for this nar */
	RANGE_GONE,        /* it does not have it */
	RANGE_BUSY,
	RANGE_USELESS,     /* anything else: no source */
};

/* range_judge(a, run, size, why): the verdict; *WHY (static text) if it is none of the first three. */
enum range_verdict range_judge(const struct range_answer *a, const struct range_run *run, uint64_t size,
    const char **why);

/* range_read_on(missing, size, position): whether a 200 answer is worth reading as the whole nar: MISSING
 * leaves are needed in a file of SIZE bytes (or RANGE_UNKNOWN), the last of them ending at POSITION. */
int range_read_on(uint64_t missing, uint64_t size, uint64_t position);

/* What was seen of one file on one server. */
struct range_source {
	uint64_t right, wrong; /* leaves */
};

enum range_fit {
	RANGE_FITS,     /* BLOCK is the block REF */
	RANGE_ANOTHER,  /* another encoding: no source of blocks for this nar */
	RANGE_CHANGED,  /* it fitted before: the file was replaced, or a proxy mixes two: the same consequence */
};

/* range_rebuild(s, block, ref, data, len): encrypt LEN bytes of the file (ERIS_LARGE, or less for the last
 * leaf) into BLOCK (ERIS_LARGE bytes) and compare with its reference.  block_init() must have been called. */
enum range_fit range_rebuild(struct range_source *s, uint8_t *block, const uint8_t ref[ERIS_REF],
    const uint8_t *data, size_t len);

/* range_whole(wanted, got): after inner nodes were missing and the whole file was encoded again: whether it
 * is the content that was wanted.  1 or 0. */
int range_whole(const struct eris_cap *wanted, const struct eris_cap *got);

#endif
