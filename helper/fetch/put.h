/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch, heal): blocks as the body of one request that puts them into IPFS, and what the answer
 * means. Nothing is sent here.
 *
 * There are three ways, and daemons that know only some of them: a CAR (dag/import): the fastest by far
 * for many, but an API token may allow only block/put, and js-ipfs answers it with nothing at all, so it
 * has to be seen once that it worked; a form with many parts (block/put of Kubo; js-ipfs keeps the last
 * part only); one block a request. */
#ifndef NARLOCK_FETCH_PUT_H
#define NARLOCK_FETCH_PUT_H

#include <stddef.h>
#include <stdint.h>

#include "helper/eris/eris.h"
#include "helper/ipfs/rpc.h"
#include "ipc/err.h"

/* Blocks of one request: 1 MiB, so that no answer is far away. */
#define PUT_BLOCKS 32
/* Less than these are not worth a CAR. */
#define PUT_FEW 4
/* Of an answer as much as is kept: Kubo has a line of 90 bytes a block. */
#define PUT_ANSWER 8192

enum put_way { PUT_ONE, PUT_FORM, PUT_CAR };

/* What is known of one daemon; all zero: nothing. */
struct put_known {
	uint8_t car, form; /* 0: not tried; 1: it works; 2: it does not */
};

struct put_batch {
	enum put_way way;
	unsigned n;
	uint8_t refs[PUT_BLOCKS][ERIS_REF];
	size_t at[PUT_BLOCKS];       /* where its bytes begin in `body' */
	uint32_t len[PUT_BLOCKS];
	uint8_t stored[PUT_BLOCKS];  /* after put_judge() */
	uint8_t *body;
	size_t body_len, room;
	char boundary[RPC_BOUNDARY + 1];
};

/* put_choose(k, waiting, most): the way for so many WAITING blocks; *MOST: how many at most belong in one
 * request. */
enum put_way put_choose(const struct put_known *k, size_t waiting, unsigned *most);

/* put_boundary(text): what stands between the parts of a form: new random hex digits.  0, or -1 with errno. */
int put_boundary(char text[RPC_BOUNDARY + 1]);
/* put_begin(b, way, boundary, first, e): an empty batch; BOUNDARY: of put_boundary(); FIRST:
 * the reference that a CAR names as its root.  The body is allocated, and used again if it is there.
 * put_free() gives it back. */
int put_begin(struct put_batch *b, enum put_way way, const char *boundary, const uint8_t first[ERIS_REF],
    struct err *e);
void put_free(struct put_batch *b);
/* put_add(b, ref, data, len): one more block (at most ERIS_LARGE bytes, and PUT_BLOCKS blocks; 1 with
 * PUT_ONE). */
void put_add(struct put_batch *b, const uint8_t ref[ERIS_REF], const uint8_t *data, size_t len);
/* put_end(b): the body is complete. */
void put_end(struct put_batch *b);

/* put_ask(b): which question it is. */
enum rpc_ask put_ask(const struct put_batch *b);

enum put_result {
	PUT_DONE,    /* all are stored */
	PUT_SOME,    /* those with `stored' are, or none; the others go another way, which K knows now */
	PUT_PROVE,   /* a CAR was taken without a word: look whether the last block is there, then put_proved() */
	PUT_FAILED,  /* not now, or never, with this daemon: see the judgement */
};

/* put_judge(b, s, k, reply, j): the answer. */
enum put_result put_judge(struct put_batch *b, const struct rpc_source *s, struct put_known *k,
    const struct rpc_reply *reply, struct rpc_judgement *j);
/* put_proved(b, k, there): the last block of a CAR is there, or not. */
enum put_result put_proved(struct put_batch *b, struct put_known *k, int there);

#endif
