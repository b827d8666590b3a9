/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: one order of a nar: fetcher, unpacker and spool at work together. */
#ifndef NARLOCK_BROKER_ORDER_H
#define NARLOCK_BROKER_ORDER_H

#include <stdint.h>

#include "broker/spool.h"
#include "ipc/wire.h"

struct broker;
struct helper;

/* A place where the nar may be had; hints, all of it. */
struct place {
	uint16_t server;
	uint64_t file_size;                      /* 0: unknown */
	char compression[LIMIT_COMPRESSION + 1];
	char url[LIMIT_URL + 1];                 /* as in the narinfo */
	char eris[LIMIT_URN + 1], manifest[LIMIT_CID + 1]; /* the same as blocks; empty: not known */
	int plain;                               /* its blocks were tried, in vain: URL alone from now on */
	int failed;                              /* tried in this substitute, in vain */
	int different;                           /* and what it has is another nar */
	unsigned lost;                           /* helpers that ended while they had it in hand */
};

enum order_result {
	ORDER_GOOD,      /* as many bytes as asked for, with the right hash, and a clean end */
	ORDER_DIFFERENT, /* a complete nar, but another one: DIGEST tells */
	ORDER_FAILED,    /* that place gave no complete nar; others may */
	ORDER_EXHAUSTED, /* none of the places could be begun */
	ORDER_LOCAL,     /* not the source's fault: spool, helpers; E->code tells ENOSPC, or ECHILD: no helper */
};

struct order {
	int active;
	uint32_t id;
	struct helper *fetch, *unpack;     /* NULL once lost */
	int direct;                        /* every candidate is uncompressed: no unpacker between fetcher and spool */
	int out;                           /* nar bytes: the unpacker's, or (direct) a socket of this order's own */
	int begun, fetch_ended, unpack_ended, out_ended;
	uint16_t candidate;                /* index into `index' */
	uint16_t place;                    /* index into the places: the one that was begun last */
	uint8_t fetch_status, unpack_status;
	uint64_t fetched;                  /* compressed bytes so far */
	uint32_t missed, repaired, reinserted; /* blocks */
	char sources[LIMIT_REASON + 1];    /* of a nar that came: from where */
	uint8_t digest[32];
	char reason[LIMIT_REASON + 160];   /* why it failed */
	uint64_t nar_size, max_bytes;
	int others;
	const char *hash_part;             /* of the item: HASH_PART_BYTES */
	const struct place *places;        /* while active */
	uint16_t index[LIMIT_CANDIDATES];  /* of the candidates among PLACES */
	unsigned index_count;
	int64_t last_news;                 /* ms */
	uint32_t fetch_verified, fetch_claimed, unpack_verified, unpack_claimed; /* layers, for the audit */
};

/* order_nar(b, hash_part, places, count, others, nar_size, nar_hash, spool, e): fetch, unpack and check one nar into
 * SPOOL (opened by the caller).  Places with FAILED set are left out; OTHERS: there are more servers to ask should
 * these fail.  On ORDER_DIFFERENT and ORDER_FAILED the place that was used has been
 * marked as failed, or as plain when it had blocks: a wrong ERIS line must not cost the substitute.  E has the reason for anything but ORDER_GOOD. */
enum order_result order_nar(struct broker *b, const char *hash_part, struct place *places, unsigned count, int others,
			    uint64_t nar_size, const uint8_t nar_hash[32], struct spool *spool, struct err *e);

/* order_reset(b): forget the last order, so that nothing of it gets into the next item's record. */
void order_reset(struct broker *b);

/* For the table of messages in crew.c. */
int order_on_begin(struct broker *b, struct helper *h, const struct wire_msg *m, struct err *e);
int order_on_progress(struct broker *b, struct helper *h, const struct wire_msg *m, struct err *e);
int order_on_end(struct broker *b, struct helper *h, const struct wire_msg *m, struct err *e);
int order_on_unpacked(struct broker *b, struct helper *h, const struct wire_msg *m, struct err *e);

/* order_lost(b, h, why): helper H is gone. */
void order_lost(struct broker *b, struct helper *h, const char *why);

#endif
