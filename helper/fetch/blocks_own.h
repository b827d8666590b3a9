/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch), blocks: what the parts of one assembly share: its structure, and the calls between them.
 *
 * blocks.c (the assembly) drives the rest: blocksources.c (who is asked), blockasks.c (requests by
 * reference), blockfiles.c (parts of files), blockstream.c (all as one stream).  What these bring goes to
 * blockwants.c, which tells blockwhere.c (counting) and blockheal.c (what IPFS missed).  Nobody else includes
 * this. */
#ifndef NARLOCK_FETCH_BLOCKS_OWN_H
#define NARLOCK_FETCH_BLOCKS_OWN_H

#include "helper/eris/decode.h"
#include "helper/fetch/blockconf.h"
#include "helper/fetch/blockpool.h"
#include "helper/fetch/blocks.h"
#include "helper/fetch/carget.h"
#include "helper/fetch/rootget.h"
#include "helper/ipfs/sched.h"

/* Nodes asked for before their turn: more than one, so that a missing one has time to come from elsewhere. */
#define AHEAD 2
/* Wanted at a time: the window and the nodes around it. */
#define WANTS 512
/* Chains of the table of wanted blocks, and those of the one of blocks that have come, of which each keeps the last
 * ones; powers of two. */
#define CHAINS 1024
#define RECENT 512
#define RECENT_KEPT 8
/* Stages of the scheduler. */
#define STAGE_IPFS 0
#define STAGE_BLOCKS 1
#define STAGE_SEARCH 2
#define STAGE_RANGE 3
/* Leaves asked of one file at a time, at first and at most. */
#define RANGE_WINDOW_MIN 32
#define RANGE_WINDOW_MAX 256
/* How often it is looked at how fast a stream is. */
#define STREAM_LOOK_MS 250
/* Blocks that a second place brought while IPFS was still looking for them, kept until it has said whether
 * it has them. */
#define DOUBTS 16

enum probing {
	PROBE_NOT,
	PROBE_ASKED,
	PROBE_OVER,
	PROBE_LATE,     /* it has not answered in time */
	PROBE_SEARCHES, /* it does not have it, and would look for it */
};

enum from { FROM_IPFS, FROM_GATEWAY, FROM_BLOCKS, FROM_RANGE, FROM_KINDS };

struct want {
	uint8_t ref[ERIS_REF];
	uint64_t offset;
	uint16_t next;  /* in its chain, or unused; WANTS: none */
	uint8_t used, level;
	uint8_t missed; /* IPFS was asked for it, and has said no or let its time pass */
};

/* A request as the scheduler knows it; its place is the lower half of the scheduler's id. */
struct ask {
	uint32_t id;
	uint8_t active;
	uint8_t source; /* of the scheduler */
	uint64_t due;   /* milliseconds: its time is over */
	uint64_t index; /* of a leaf; where it is asked of a file */
	uint8_t ref[ERIS_REF];
};

struct doubt {
	uint32_t id;   /* of the request to IPFS, which goes on */
	uint64_t since;
	uint8_t ref[ERIS_REF];
	uint8_t *data; /* block_size bytes; NULL: unused */
};

/* What a source of the scheduler is. */
struct origin {
	enum from from;
	size_t at;      /* in the configuration, or in `files' */
	uint64_t heard; /* when it answered, whatever it said; 0: never */
	uint64_t got, shown, weight; /* blocks; at the last look; what counts of those for `where' */
};

struct file {
	struct blocks *blocks;
	struct rangeget *get; /* NULL until it is needed */
	struct url url;
	uint8_t source;       /* of the scheduler */
	uint8_t given_up;     /* said so */
	char name[LIMIT_SOURCE + 1];
};

struct blocks {
	struct fetch *fetch;
	struct blocks_order o;
	struct decode *decode;
	struct sched *sched;
	enum blocks_state state;
	struct err why;

	struct want wants[WANTS];
	uint16_t chains[CHAINS], unused;
	struct ask asks[2 * WANTS];
	struct origin origins[SCHED_SOURCES];
	unsigned norigins;
	uint8_t added[BLOCKCONF_SOURCES], files_added;
	uint8_t probes[BLOCKCONF_SOURCES]; /* enum probing */
	uint64_t probed[BLOCKCONF_SOURCES]; /* milliseconds: when it was asked */
	struct file files[BLOCKS_PLACES];
	size_t nfiles, nplaces;
	uint16_t servers[BLOCKS_PLACES];
	char urls[BLOCKS_PLACES][LIMIT_URL + 1];

	struct rootget *root;     /* of the manifest, which names the file */
	uint64_t root_since;      /* milliseconds */
	uint8_t root_over, has_file;
	uint8_t file[ERIS_REF];
	uint64_t file_blocks;
	struct carget *car;       /* the stream, in one of its forms */
	enum carget_form car_form;
	size_t car_source;
	uint32_t car_tried[CARGET_FORMS]; /* bit: that source of the configuration was */
	uint8_t car_over, car_holds, car_full;
	uint64_t car_since, car_looked, car_blocks; /* at the last look */
	uint8_t full_ref[ERIS_REF];
	uint64_t full_at;
	uint64_t stream_at;       /* offset of the last leaf in the content that it has brought */
	uint8_t recent[RECENT][RECENT_KEPT][ERIS_REF], recent_at[RECENT];

	struct doubt doubts[DOUBTS];
	uint8_t again;            /* 0: not yet; 1: under way; 2: over */
	uint8_t again_waits;      /* it is what is waited for just now */
	uint8_t insists, patient; /* there is no other way; they have all the time that is configured */
	uint32_t lonely;          /* bit: that source of the configuration has said just now that it knows no peers */
	uint8_t gave_up;          /* nothing came although it was insisted on */
	uint32_t insist_ms;       /* how long nothing may come then */
	uint64_t begun, progress; /* milliseconds */
	uint64_t wanted;          /* blocks under way or asked for, at the last look */
	uint64_t got[FROM_KINDS], streamed;
	uint64_t where_at;        /* milliseconds: the last look; 0: none yet */
	unsigned where;           /* the origin that is named */
};

/* --- blocks.c: the assembly ------------------------------------------------------------------------- */

/* blocks_broken(b, e): E is why this will never make the content. */
void blocks_broken(struct blocks *b, const struct err *e);

/* --- blockwants.c: wanted blocks -------------------------------------------------------------------- */

/* blockwants_find(b, ref): NULL: it is not wanted. */
struct want *blockwants_find(struct blocks *b, const uint8_t *ref);
/* blockwants_fill(b): name to the scheduler what the decoder wants by now. */
void blockwants_fill(struct blocks *b);
/* blockwants_is_recent(b, ref): 1 if it came a while ago. */
int blockwants_is_recent(const struct blocks *b, const uint8_t *ref);
/* blockwants_arrived(b, w, o, data, len): the right block for W, from there.  W is gone after this call. */
void blockwants_arrived(struct blocks *b, struct want *w, const struct origin *o, const uint8_t *data,
    size_t len);
/* blockwants_give_one(b, o, ref, known, data, len): one block that came without a request of the scheduler's, or from a
 * file.  KNOWN: 1: REF was made from its bytes. */
enum decode_verdict blockwants_give_one(struct blocks *b, const struct origin *o, const uint8_t *ref, int known,
    const uint8_t *data, size_t len);

/* --- blockheal.c: what IPFS missed ------------------------------------------------------------------ */

/* blockheal_ipfs_fails(b): 1 if there is a daemon that should have had what comes from elsewhere. */
int blockheal_ipfs_fails(const struct blocks *b);
/* blockheal_came(b, w, from, data, len): W came from elsewhere: tell what IPFS needs to be given. */
void blockheal_came(struct blocks *b, const struct want *w, enum from from, const uint8_t *data, size_t len);
/* blockheal_doubt_of(b, id): the block that came while that request to IPFS was under way, or NULL. */
struct doubt *blockheal_doubt_of(struct blocks *b, uint32_t id);
enum blockheal_said { BLOCKHEAL_YES, BLOCKHEAL_NO, BLOCKHEAL_NOTHING };
/* blockheal_settle(b, d, said): what IPFS has said of D, which is gone after this call. */
void blockheal_settle(struct blocks *b, struct doubt *d, enum blockheal_said said);
/* blockheal_settle_late(b): what IPFS does not say in time counts as missed: else a block that is nowhere would stay
 * so. */
void blockheal_settle_late(struct blocks *b);
/* blockheal_end(b): nothing more is waited for. */
void blockheal_end(struct blocks *b);

/* --- blockasks.c: requests by reference ------------------------------------------------------------- */

/* blockasks_answer(b, a, outcome, retry_ms, why): A is over; tell the scheduler. */
void blockasks_answer(struct blocks *b, struct ask *a, enum sched_outcome outcome, uint32_t retry_ms,
    const char *why);
/* blockasks_send(b, a, ms): ask by reference; the source gives up after so long. */
void blockasks_send(struct blocks *b, const struct ask *a, uint32_t ms);
/* blockasks_take(b): take in what has come. */
void blockasks_take(struct blocks *b);
/* blockasks_start(b), blockasks_stop(b): begin what the scheduler wants; end what it does not want any more. */
void blockasks_start(struct blocks *b);
void blockasks_stop(struct blocks *b);

/* --- blocksources.c: who is asked ------------------------------------------------------------------- */

/* blocksources_add(b): daemons when they have said something; the rest when all have, or after a moment. */
void blocksources_add(struct blocks *b);
/* blocksources_probed(b, end): a gateway's answer to the question whether it has the root. */
void blocksources_probed(struct blocks *b, const struct blockpool_end *end);
/* blocksources_probes_end(b): when the last such question is over at the latest; 0: none is under way. */
uint64_t blocksources_probes_end(const struct blocks *b);
/* blocksources_is_vain(b, i): 1 if that source brought nothing for the last nars, and may be passed over. */
int blocksources_is_vain(const struct blocks *b, size_t i);
/* blocksources_is_waiting(b): 1 if a daemon has not given its first answer. */
int blocksources_is_waiting(const struct blocks *b);
/* blocksources_patience(b): until when that is waited for when nothing else gives blocks. */
uint64_t blocksources_patience(const struct blocks *b);
/* blocksources_remember(b): at the end.  A source that did not answer any more: a daemon has to say its version
 * before the next item waits for it, and others are not tried for a while. */
void blocksources_remember(struct blocks *b);

/* --- blockpeers.c: daemons that know no peers -------------------------------------------------------- */

/* blockpeers_pump(b): where nothing comes, or there is no other way, ask daemons whether they know peers, once in a while. */
void blockpeers_pump(struct blocks *b);
/* blockpeers_told(b, end): the answer. */
void blockpeers_told(struct blocks *b, const struct blockpool_end *end);
/* blockpeers_is_alone(b, i): 1 if that source knows no peers: what it has not got now, it will not get. */
int blockpeers_is_alone(const struct blocks *b, size_t source);
/* blockpeers_deadline(b): milliseconds: when to look after them if nothing comes; UINT64_MAX: not. */
uint64_t blockpeers_deadline(const struct blocks *b);
/* blockpeers_any_alone(b): 1 if there is such a source. */
int blockpeers_any_alone(const struct blocks *b);

/* --- blockfiles.c: parts of files ------------------------------------------------------------------- */

/* blockfiles_ask(b, f, a): ask a file for a leaf.  0, or -1: not now. */
int blockfiles_ask(struct blocks *b, struct file *f, const struct ask *a);
/* blockfiles_pump(b): take in what has come, ask for more. */
void blockfiles_pump(struct blocks *b);

/* --- blockstream.c: all as one stream --------------------------------------------------------------- */

/* blockstream_pump(b): begin it, take in what has come, end it. */
void blockstream_pump(struct blocks *b);
/* blockstream_hopes(b): whether it may still bring, in a moment, what nobody else has. */
int blockstream_hopes(const struct blocks *b);
/* blockstream_deadline(b): when (milliseconds) it wants to be called again at the latest. */
uint64_t blockstream_deadline(const struct blocks *b);
/* blockstream_free(b): end it. */
void blockstream_free(struct blocks *b);

/* --- blockwhere.c: counting ------------------------------------------------------------------------- */

/* blockwhere_note(b, from, at): a block came from there. */
void blockwhere_note(struct blocks *b, enum from from, size_t at);

#endif
