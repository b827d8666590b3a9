/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (unpack): turn one compressed nar into its bytes, whatever the input is.
 *
 * unpack.c holds what the methods share; each method is one file.  Nothing here knows about descriptors, so
 * that tests and the fuzzer run the same code over memory. */
#ifndef NARLOCK_UNPACK_H
#define NARLOCK_UNPACK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ipc/err.h"
#include "ipc/wire.h"

/* Where the bytes come from and where they go. */
struct unpack_io {
	/* Up to SIZE bytes into BUF: how many, 0 at the end, -1 with errno. */
	ssize_t (*read)(void *ctx, uint8_t *buf, size_t size);
	/* All LEN bytes of BUF: 0, or -1 with errno. */
	int (*write)(void *ctx, const uint8_t *buf, size_t len);
	void *ctx;
};

struct unpack_limits {
	uint64_t size;       /* bytes of the nar: not one more is written, and fewer are an error */
	unsigned window_log; /* zstd: largest window, as its logarithm (10 to 31) */
	uint32_t dictionary; /* lzip: largest dictionary in bytes */
};

struct unpack_result {
	uint64_t in, out; /* bytes read from the source and written to the sink */
	int sink_gone;    /* failed because nobody reads the output any more (EPIPE) */
};

/* unpack_run(method, limits, io, r, e): everything from IO's source to its sink.  Returns 0 when the input
 * ended exactly where its format ends and limits->size bytes were written, else -1 with the reason; R is
 * filled either way.  Memory: two buffers of UNPACK_BUFFER bytes and what the limits allow. */
int unpack_run(enum nar_method method, const struct unpack_limits *limits, const struct unpack_io *io,
    struct unpack_result *r, struct err *e);

/* --- Shared by the methods ---------------------------------------------------------------------------- */

#define UNPACK_BUFFER (256u * 1024)

struct unpack {
	const struct unpack_io *io;
	struct unpack_limits limits;
	struct unpack_result *r;
	struct err *e;
	uint8_t *in;         /* UNPACK_BUFFER bytes; those from `at' to `end' are there and not used up yet */
	size_t at, end;
	int eof;             /* the source has ended */
	uint8_t *out;        /* UNPACK_BUFFER bytes for the decoder to write into */
};

/* unpack_need(u, n): try to have at least N (<= UNPACK_BUFFER / 2) bytes of input.  0 also when the source
 * ends before that: then u->eof is set and fewer are there.  -1 when reading fails. */
int unpack_need(struct unpack *u, size_t n);

/* unpack_put(u, data, n): N bytes of output.  -1 when that is more than the nar has, or the sink fails. */
int unpack_put(struct unpack *u, const uint8_t *data, size_t n);

/* unpack_cut(u): -1, the input ended too early. */
int unpack_cut(struct unpack *u);

/* unpack_garbage(u): -1, bytes follow after the end of the compressed data. */
int unpack_garbage(struct unpack *u);

/* The methods: read all input, put all output.  0 or -1. */
int unpack_none(struct unpack *u);
int unpack_gzip(struct unpack *u);
int unpack_lzip(struct unpack *u);
int unpack_zstd(struct unpack *u);

#endif
