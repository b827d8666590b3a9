/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch), healing: what its parts share: its structure, and the calls between them.
 *
 * heal.c (what the nar at hand tells) drives healnars.c (which blocks of which nar are still to be put) and
 * healqueue.c (copies that wait); healputs.c sends these, and tells healnars.c what became of them.  Nobody
 * else includes this. */
#ifndef NARLOCK_FETCH_HEAL_OWN_H
#define NARLOCK_FETCH_HEAL_OWN_H

#include "helper/fetch/blockconf.h"
#include "helper/fetch/heal.h"
#include "helper/fetch/journal.h"
#include "helper/fetch/put.h"
#include "helper/fetch/transfer.h"

/* Copies that wait: 4 MiB.  Those that are on their way have 1 MiB a request besides. */
#define QUEUE 128
/* Requests at a time: few while a nar arrives, whose own requests come first. */
#define PUTS 4
#define PUTS_BESIDE 2
#define FLIGHTS (PUTS + 8) /* those behind the first ask for a block each */
/* Nars whose blocks are still in the queue, the one at hand included. */
#define NARS 16
/* Missed blocks of the nar at hand that are told from each other: more are counted only.  A power of two,
 * half full. */
#define TABLE 8192

/* UNSURE: it came from elsewhere, and nobody has asked IPFS for it. */
enum known { UNKNOWN, UNSURE, MISSED, STORED };

/* A copy of a block, or what is left of one that is on its way. */
struct copy {
	uint32_t nar;
	uint8_t known; /* enum known: UNKNOWN where all blocks are put */
	uint8_t asks;  /* it is looked first whether it is there */
	uint8_t tries;
	uint32_t len;
	uint8_t ref[ERIS_REF];
	uint8_t *data;
};

struct nar {
	uint32_t id;         /* 0: free */
	uint8_t begun;       /* blocks still come */
	uint8_t active;      /* its blocks are put */
	uint8_t many;        /* more were missed than the table has room for */
	uint8_t unknown;     /* heal_missed(NULL) */
	uint8_t holes;       /* IPFS does not have all of it, as far as we know: what is UNSURE matters */
	uint8_t written;     /* `entry' is in the journal */
	uint8_t merged;      /* and has what somebody else had written */
	uint8_t changed;     /* and blocks of it were put since */
	uint64_t outstanding; /* missed or unsure, and not put */
	unsigned pending;    /* copies in the queue or on their way */
	struct journal_entry entry;
};

enum flight_state { FREE, START_PUT, PUTTING, START_PROOF, PROVING };

struct flight {
	struct heal *heal;
	struct transfer transfer;
	enum flight_state state;
	size_t source;
	uint8_t asks;        /* one copy, and whether it is there */
	uint64_t moved_ms;   /* when bytes went last, in either direction */
	curl_off_t moved;
	struct put_batch batch;
	struct copy copies[PUT_BLOCKS];
	size_t len, total;
	uint8_t answer[PUT_ANSWER];
};

struct heal {
	struct fetch *fetch;
	uint32_t ids;
	struct nar nars[NARS];
	struct nar *current;
	uint32_t missed, repaired, reinserted; /* of the last one that was begun */
	uint8_t state[TABLE], came[TABLE]; /* CAME: it counts as repaired */
	uint8_t refs[TABLE][ERIS_REF];
	unsigned in_table;
	uint8_t last[ERIS_REF]; /* the last one that was missed or unsure when the table was full, and which of them */
	enum known last_known;
	struct copy queue[QUEUE];
	size_t first, count;
	size_t asks; /* of these: look first whether they are there */
	struct put_known known[BLOCKCONF_SOURCES];
	uint64_t paused[BLOCKCONF_SOURCES]; /* until then (milliseconds) */
	uint8_t refused[BLOCKCONF_SOURCES]; /* it may be read, but lets us put nothing */
	uint8_t took[BLOCKCONF_SOURCES];    /* it has let us put something: to be refused now may pass */
	uint8_t mute[BLOCKCONF_SOURCES];    /* it does not tell us what is there */
	uint8_t said;
	struct flight flights[FLIGHTS];
};

/* --- healnars.c: the references of the nar at hand --------------------------------------------------- */

/* healnars_slot_of(h, ref): where REF is in the table, or would be. */
size_t healnars_slot_of(const struct heal *h, const uint8_t ref[ERIS_REF]);
/* healnars_empty_table(h): for a new nar. */
void healnars_empty_table(struct heal *h);
/* healnars_known_of(h, n, ref): what is known of REF, also when it is the last one that had no room. */
enum known healnars_known_of(const struct heal *h, const struct nar *n, const uint8_t *ref);
/* healnars_note(h, n, ref, known): REF was missed, or is unsure. */
void healnars_note(struct heal *h, struct nar *n, const uint8_t *ref, enum known known);
/* healnars_came(h, ref): a missed block has come; again, if it stands in the nar more than once. */
void healnars_came(struct heal *h, const uint8_t *ref);

/* --- healnars.c: nars -------------------------------------------------------------------------------- */

/* healnars_of(h, id): NULL: it has lost its place.  ID 0: a free place, or NULL. */
struct nar *healnars_of(struct heal *h, uint32_t id);
/* healnars_settle(h, n): if nothing more comes of this nar: what became of its entry. */
void healnars_settle(struct heal *h, struct nar *n);

/* LEFT: it will not be put by us.  THERE: there was no need to. */
enum outcome { LEFT, PUT, THERE };

/* healnars_copy_done(h, c, outcome): C is neither in the queue nor on its way any more. */
void healnars_copy_done(struct heal *h, const struct copy *c, enum outcome outcome);
/* healnars_new(h): a place for a new nar.  When all have one, that which began first loses its copies. */
struct nar *healnars_new(struct heal *h);

/* --- healqueue.c: copies that wait ------------------------------------------------------------------- */

/* healqueue_at(h, i): the copy at that place of the queue, which is less than h->count. */
struct copy *healqueue_at(struct heal *h, size_t i);
/* healqueue_pop(h, c): take out the first one. */
void healqueue_pop(struct heal *h, struct copy *c);
/* healqueue_append(h, c): behind all others.  There is room. */
void healqueue_append(struct heal *h, const struct copy *c);
/* healqueue_push(h, from, data): the same with a copy of DATA; without room, FROM is left. */
void healqueue_push(struct heal *h, const struct copy *from, const uint8_t *data);
/* healqueue_give_up(h, id): give up the copies of one nar, or of all (ID 0). */
void healqueue_give_up(struct heal *h, uint32_t id);

/* --- healputs.c: to whom ----------------------------------------------------------------------------- */

/* healputs_target(h, later): the source to put to, or -1.  *LATER: there is one, but not now. */
int healputs_target(const struct heal *h, int *later);
/* healputs_has_daemon(h): is there a daemon at all that takes blocks?  The one that everybody is assumed to
 * have counts when it has answered. */
int healputs_has_daemon(const struct heal *h);

#endif
