/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): a whole nar as one stream of blocks, from one IPFS daemon or gateway: the file that its manifest
 * names, which is nothing but the blocks, or the CAR beneath the manifest, which has more around them and costs the
 * daemon more.
 *
 * Nothing is asked again here: what the stream does not bring is its owner's to fetch elsewhere.  The owner
 * calls carget_pump() in every turn of the loop until it says how the stream has ended, and looks at
 * carget_useful() for streams that run but bring nothing. */
#ifndef NARLOCK_FETCH_CARGET_H
#define NARLOCK_FETCH_CARGET_H

#include "helper/eris/eris.h"
#include "helper/fetch/fetch.h"

/* Blocks in a row that were of no use before the stream is given up; foreign ones (of another kind) in
 * all. */
#define CARGET_SPARE_MAX 512
#define CARGET_FOREIGN_MAX 64

enum carget_use {
	CARGET_USED,  /* it was wanted, and it is right */
	CARGET_SPARE, /* not wanted, or not any more */
	CARGET_WRONG, /* wanted, but these bytes are not that block */
	CARGET_FULL,  /* no room: the stream waits, and the same block is offered again after carget_resume() */
};

struct carget_owner {
	/* The next block of ERIS in the stream.  KNOWN: 1: REF was made from its bytes; else these (at most 1 MiB,
	 * any number) are not checked.  They are only valid during the call, which must not free the stream. */
	enum carget_use (*block)(void *owner, const uint8_t ref[ERIS_REF], int known, const uint8_t *data, size_t len);
};

enum carget_state {
	CARGET_RUNS,
	CARGET_WHOLE,       /* it is complete: what it did not bring, the source does not have */
	CARGET_MISSING,     /* the source does not have it, or not all of it */
	CARGET_BUSY,        /* not now, or the connection broke */
	CARGET_UNREACHABLE, /* nobody there; the source is remembered as dead */
	CARGET_BROKEN,      /* no such stream, of something else, too long, too much of no use: not for this nar */
	CARGET_LIE,         /* other bytes than a hash names; it is dropped for good, and LIAR is sent */
};

struct carget;

enum carget_form {
	CARGET_FILE, /* HASH is that of the file */
	CARGET_CAR,  /* HASH is that of the manifest */
	CARGET_FORMS,
};

struct carget_ask {
	enum carget_form form;
	const uint8_t *hash;     /* ERIS_REF bytes: in the CID of what is asked for */
	uint64_t max_bytes;      /* CARGET_CAR: of all of it, nodes and CIDs included (carget_bytes()) */
	uint32_t block_size;     /* CARGET_FILE */
	uint64_t blocks;         /* CARGET_FILE: that it has */
};

/* carget_new(f, source, ask, calls, owner, e): ask f->blocks->sources[source] (RPC_IPFS or RPC_GATEWAY).  Nothing is
 * kept of ASK.  NULL on failure.  Memory: 1.1 MiB (a file: 128 KiB) and libcurl's buffers. */
struct carget *carget_new(struct fetch *f, size_t source, const struct carget_ask *ask,
    const struct carget_owner *calls, void *owner, struct err *e);
/* carget_free(c): end it, whatever state it is in. */
void carget_free(struct carget *c);

/* carget_bytes(max_content): the longest CAR of an encoding of so many bytes: inner nodes, CIDs and lengths,
 * the manifest with its narinfo. */
uint64_t carget_bytes(uint64_t max_content);

/* carget_pump(c, why): go on.  What has become of it; *WHY (valid until carget_free(), with the name of the
 * source in front) unless CARGET_RUNS and CARGET_WHOLE. */
enum carget_state carget_pump(struct carget *c, const char **why);

/* carget_resume(c): after CARGET_FULL: there is room again.  Harmless at any time. */
void carget_resume(struct carget *c);

/* carget_waits(c): 1 while CARGET_FULL holds it up: then no time counts against the source. */
int carget_waits(const struct carget *c);

/* carget_useful(c): when (milliseconds) the last useful block or node of the manifest came, or the request
 * was made, or the stream went on after CARGET_FULL.  carget_retry(c): milliseconds that a busy source asked
 * for, or 0. */
uint64_t carget_useful(const struct carget *c);
uint32_t carget_retry(const struct carget *c);

/* carget_blocks(c), carget_received(c): useful blocks, and all bytes of the CAR, so far. */
uint64_t carget_blocks(const struct carget *c);
uint64_t carget_received(const struct carget *c);

#endif
