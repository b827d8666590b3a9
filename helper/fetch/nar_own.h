/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch), nar: what the parts of one order share: its structure, and the calls between them.
 *
 * nar.c (the order) drives narblocks.c (out of blocks), which asks narcap.c for capabilities, and narfile.c
 * (a whole file).  Nobody else includes this. */
#ifndef NARLOCK_FETCH_NAR_OWN_H
#define NARLOCK_FETCH_NAR_OWN_H

#include "helper/fetch/blocks.h"
#include "helper/fetch/index.h"
#include "helper/fetch/prefix.h"
#include "helper/fetch/rank.h"
#include "helper/fetch/recode.h"
#include "helper/fetch/rootget.h"
#include "helper/fetch/transfer.h"
#include "ipc/wire.h"

/* libcurl hands out at most 16 KiB at a time; they are collected here, so that the descriptor is written to
 * in few calls, and so that a full descriptor never leaves half a piece behind. */
#define BUFFER (256 * 1024)
/* So many bytes since the last failure are progress: it does not count any more. */
#define REAL_PROGRESS (1024 * 1024)

enum phase {
	IDLE,
	COLLECTING, /* candidates come, the order itself has not */
	ROOTING,    /* the root of a manifest is asked for, for the capability in it */
	INDEXING,   /* indexes are asked for a capability */
	ASSEMBLING, /* out of blocks */
	PICKING,    /* a place has to be chosen, or its time has to come */
	STARTING,   /* its host's name is being asked for */
	RUNNING,
	FLUSHING,   /* all bytes are here, the reader has not taken them yet */
};

struct place {
	uint16_t server;
	uint8_t method; /* 0: not usable */
	uint8_t tries;
	uint8_t finished;
	uint64_t not_before;
	uint64_t file_size;
	uint8_t has_cap, has_manifest, rooted; /* its manifest was asked for */
	struct eris_cap cap;
	uint8_t manifest[ERIS_REF];
	char url[LIMIT_URL + 1];
};

struct order {
	struct fetch *fetch;
	struct transfer transfer;
	enum phase phase;
	uint32_t id;
	int sink;
	uint64_t nar_size, max_bytes;
	int stalled;         /* the failure at hand is silence */
	int others;          /* the broker has more servers to ask */
	char hash_part[HASH_PART_BYTES + 1];
	struct place places[LIMIT_CANDIDATES];
	size_t nplaces;
	struct rank_entry rank[LIMIT_CANDIDATES];
	size_t nrank;
	size_t current;      /* index into places */
	char reason[LIMIT_REASON + 1]; /* of the last failure */
	unsigned failures;             /* since the last attempt began */

	/* Blocks.  What they have brought stays: a whole file goes on behind it, once it has shown the same
	 * beginning. */
	struct index_query *index;
	struct rootget *root;
	size_t root_of;           /* index into places: whose manifest that is */
	uint64_t root_since, root_until; /* milliseconds: for all manifests together */
	uint8_t roots_vain;       /* orders in a row, over many orders, whose manifests did not come in time */
	struct blocks *blocks;
	uint8_t drop_blocks;      /* they are not needed any more; not to be freed where libcurl calls us */
	uint8_t healing;          /* between heal_begin() and heal_end() */
	uint8_t held;             /* there are more that did not fit into `buffer' */
	uint8_t missing;          /* IPFS does not have all of it */
	size_t healed;            /* index into places: whose capability that is about */
	uint8_t insisted;         /* blocks were waited for until that was of no use any more */
	uint8_t insist_vain;      /* over many orders: so it was the last time */
	uint8_t indexed;          /* indexes were asked */
	unsigned rounds;
	uint64_t round_mark;      /* `got' at the last of them */
	struct prefix content;    /* all that blocks have brought */
	struct recode *recode;
	uint8_t verifying;        /* a whole file is compared with what was written */
	uint8_t another;          /* it was another one */
	uint64_t seen;            /* bytes of it so far */
	struct prefix prefix;
	char summary[LIMIT_REASON + 1]; /* of where blocks came from */

	uint8_t begun;       /* NAR_BEGIN was sent: no other content any more */
	uint8_t gone;        /* the reader is not there any more */
	size_t begun_as;     /* index into places, as NAR_BEGIN has said */
	int64_t total;       /* bytes of the file, -1: not told */
	uint8_t ranges;      /* of the first answer, like its validators: */
	char etag[ANSWER_ETAG + 1];
	char modified[ANSWER_DATE + 1];
	uint64_t got;        /* bytes of the file received */
	uint64_t written;    /* of these, into the sink */
	uint64_t mark;       /* `got' at the last failure */
	unsigned resumes;

	/* One attempt. */
	uint8_t judged, taken; /* the header was looked at; the body is ours */
	uint8_t complete, too_much;
	uint8_t paused;
	uint8_t counting;    /* the clock of the stall rule runs */
	uint64_t window_ms, window_bytes;

	uint64_t progress_ms, progress_bytes;
	uint8_t blocked;     /* the sink is full */
	size_t start, end;   /* of what waits in `buffer' */
	char buffer[BUFFER];
};

/* --- nar.c: the order ------------------------------------------------------------------------------- */

/* nar_end_order(o, status, reason): send NAR_END.  Not to be called where libcurl calls us. */
void nar_end_order(struct order *o, enum nar_status status, const char *reason);
/* nar_failed(o, reason, again, wait_ms): the current attempt is over without success.  AGAIN: it may go better
 * the next time; WAIT_MS: not earlier, 0 if that is for us to say. */
void nar_failed(struct order *o, const char *reason, int again, uint64_t wait_ms);
/* nar_announce(o, size): the first byte is there: from now on it is this candidate's content. */
void nar_announce(struct order *o, uint64_t size);
/* nar_make_room(o, n): room for N bytes in the buffer, in one piece.  0, or -1. */
int nar_make_room(struct order *o, size_t n);
/* nar_append(o, data, n): into the buffer, which has the room. */
void nar_append(struct order *o, const void *data, size_t n);
/* nar_flush(o): write what waits.  0, or -1: the reader has gone. */
int nar_flush(struct order *o);
/* nar_same_content(a, b): 1 if both places have the same file, as far as anybody knows. */
int nar_same_content(const struct place *a, const struct place *b);
/* nar_place_url(o, p, u, e): where P is.  0, or -1 if it must not be asked. */
int nar_place_url(const struct order *o, const struct place *p, struct url *u, struct err *e);

/* --- narblocks.c: out of blocks --------------------------------------------------------------------- */

/* narblocks_try(o): begin with blocks, if there is any use in it. */
void narblocks_try(struct order *o);
/* narblocks_assemble_best(o): begin with the blocks of the best place that has any. */
void narblocks_assemble_best(struct order *o);
/* narblocks_turn_to(o): there is no whole file: ask the sources of blocks once more, as long as that brings
 * something.  0, or -1. */
int narblocks_turn_to(struct order *o);
/* narblocks_pump(o): what is due, as far as blocks are concerned. */
void narblocks_pump(struct order *o);
/* narblocks_leave(o): they are not needed any more.  Not to be called where libcurl calls us. */
void narblocks_leave(struct order *o);
/* narblocks_end_healing(o, success, m): what was missing in IPFS goes there, or not; the counts go into M. */
void narblocks_end_healing(struct order *o, int success, struct wire_msg *m);

/* --- narcap.c: capabilities that no narinfo told ---------------------------------------------------- */

/* narcap_first(o): the best place that tells its capability, or NULL. */
struct place *narcap_first(struct order *o);
/* narcap_begin_roots(o): ask for the roots of manifests.  0, or -1: there is none, or no time. */
int narcap_begin_roots(struct order *o);
/* narcap_begin_index(o): ask indexes, once an order. */
void narcap_begin_index(struct order *o);
/* narcap_take_root(o), narcap_take_index(o): while ROOTING, INDEXING: what has come; go on with it. */
void narcap_take_root(struct order *o);
void narcap_take_index(struct order *o);

/* --- narfile.c: a whole file ------------------------------------------------------------------------ */

/* The calls of the order's transfer. */
extern const struct transfer_owner narfile_calls;
/* narfile_launch(o): while STARTING: begin the request, once its host's name is known. */
void narfile_launch(struct order *o);
/* narfile_run(o): while RUNNING: watch the clock, go on for a reader that was slow. */
void narfile_run(struct order *o);

#endif
