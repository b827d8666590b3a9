/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): one nar out of its ERIS blocks, from wherever they come. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helper/common/logline.h"
#include "helper/eris/decode.h"
#include "helper/fetch/again.h"
#include "helper/fetch/blockconf.h"
#include "helper/fetch/blockpool.h"
#include "helper/fetch/blocks.h"
#include "helper/fetch/carget.h"
#include "helper/fetch/heal.h"
#include "helper/fetch/rangeget.h"
#include "helper/fetch/source.h"
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
/* Answers that are checked in one go. */
#define BATCH 64
/* Stages of the scheduler. */
#define STAGE_IPFS 0
#define STAGE_BLOCKS 1
#define STAGE_SEARCH 2
#define STAGE_RANGE 3
/* Leaves asked of one file at a time, at first and at most. */
#define RANGE_WINDOW_MIN 32
#define RANGE_WINDOW_MAX 256
/* Requests to a block server at a time: a connection each, and servers allow an address a hundred or so. */
#define SERVER_WINDOW_MAX 96
/* A stream is let alone as long as it brings so many blocks in such a time: 3 MiB a second; and at its
 * beginning. */
#define STREAM_LOOK_MS 250
#define STREAM_BLOCKS 25
#define STREAM_PATIENCE_MS 400
/* When so many blocks have come, no other stream is begun: it would bring them all again. */
#define STREAM_ANEW 256
/* A block of the stream that nobody wants after so many more leaves were read will never be wanted. */
#define STREAM_AHEAD 64
/* Blocks that a second place brought while IPFS was still looking for them, kept until it has said whether
 * it has them. */
#define DOUBTS 16
/* A source that was late and then said nothing for such a time is silent, and left alone for so long. */
#define SILENCE_MS 500
#define SILENT_MS 60000

/* How often it is looked at where blocks come from; what came in the time before counts half. */
#define WHERE_MS 1000
/* The least part of all that is told: one of so many; and how many times as much another one brings before it is named
 * instead. */
#define WHERE_LEAST 20
#define WHERE_TIMES 2

/* A source that let a nar wait for so long and brought nothing gets less time with those of the next minute; if it does
 * not even say that it has nothing, it is not asked after two of them.  Unless there is no other way. */
#define VAIN_MS 400
#define VAIN_DEADLINE_MS SCHED_DEADLINE_MIN_MS
#define VAIN_STALL_MS 1000
#define VAIN_NARS 2

/* Questions to gateways whether they have the root of this nar: the lower half of their ids; those of the scheduler
 * are below 2 * WANTS there. */
#define PROBE_ID 0xff00u

enum probing { PROBE_NOT, PROBE_ASKED, PROBE_OVER, PROBE_SEARCHES /* it does not have it, and would look for it */ };

enum from { FROM_IPFS, FROM_GATEWAY, FROM_BLOCKS, FROM_RANGE, FROM_KINDS };

static const char *const from_names[FROM_KINDS] = { "ipfs", "gateway", "blocks", "range" };

struct want {
	uint8_t ref[ERIS_REF];
	uint64_t offset;
	uint16_t next;  /* in its chain, or unused; WANTS: none */
	uint8_t used, level;
	uint8_t missed; /* IPFS was asked for it, in vain */
};

/* A request as the scheduler knows it; its place is the lower half of the scheduler's id. */
struct ask {
	uint32_t id;
	uint8_t active;
	uint8_t source; /* of the scheduler */
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

	struct carget *car;
	size_t car_source;
	uint32_t car_tried;       /* bit: that source of the configuration was */
	uint8_t car_over, car_holds, car_full;
	uint64_t car_since, car_looked, car_blocks; /* at the last look */
	uint8_t full_ref[ERIS_REF];
	uint64_t full_at;
	uint8_t recent[RECENT][RECENT_KEPT][ERIS_REF], recent_at[RECENT];

	struct doubt doubts[DOUBTS];
	uint8_t again;            /* 0: not yet; 1: under way; 2: over */
	uint8_t insists, patient; /* there is no other way; they have all the time that is configured */
	uint8_t gave_up;          /* nothing came although it was insisted on */
	uint32_t insist_ms;       /* how long nothing may come then */
	uint64_t begun, progress; /* milliseconds */
	uint64_t wanted;          /* blocks under way or asked for, at the last look */
	uint64_t got[FROM_KINDS], streamed;
	uint64_t where_at;        /* milliseconds: the last look; 0: none yet */
	unsigned where;           /* the origin that is named */
};

/* --- Wanted blocks ---------------------------------------------------------------------------------- */

static uint16_t *
chain_of(struct blocks *b, const uint8_t *ref)
{
	return &b->chains[(ref[0] | ref[1] << 8) & (CHAINS - 1)];
}

static struct want *
find_want(struct blocks *b, const uint8_t *ref)
{
	for (unsigned i = *chain_of(b, ref); i < WANTS; i = b->wants[i].next)
		if (memcmp(b->wants[i].ref, ref, ERIS_REF) == 0)
			return &b->wants[i];
	return NULL;
}

static void
add_want(struct blocks *b, const struct decode_want *d)
{
	struct want *w = &b->wants[b->unused];
	uint16_t *chain = chain_of(b, d->ref), at = b->unused;

	b->unused = w->next;
	memcpy(w->ref, d->ref, ERIS_REF);
	w->offset = d->offset;
	w->level = d->level;
	w->used = 1;
	w->missed = 0;
	w->next = *chain;
	*chain = at;
}

static void
remove_want(struct blocks *b, struct want *w)
{
	uint16_t *at = chain_of(b, w->ref), me = (uint16_t)(w - b->wants);

	while (*at != me)
		at = &b->wants[*at].next;
	*at = w->next;
	w->used = 0;
	w->next = b->unused;
	b->unused = me;
}

static unsigned
recent_of(const uint8_t *ref)
{
	return (unsigned)(ref[0] | ref[1] << 8) & (RECENT - 1);
}

static void
note_recent(struct blocks *b, const uint8_t *ref)
{
	unsigned i = recent_of(ref);

	memcpy(b->recent[i][b->recent_at[i]++ % RECENT_KEPT], ref, ERIS_REF);
}

static int
is_recent(const struct blocks *b, const uint8_t *ref)
{
	unsigned i = recent_of(ref);

	for (unsigned k = 0; k < RECENT_KEPT; k++)
		if (memcmp(b->recent[i][k], ref, ERIS_REF) == 0)
			return 1;
	return 0;
}

static void
broken(struct blocks *b, const struct err *e)
{
	b->state = BLOCKS_BROKEN;
	b->why = *e;
}

/* Name to the scheduler what the decoder wants by now. */
static void
fill(struct blocks *b)
{
	struct decode_want w;
	struct err e;
	int rc = 1;

	if (b->state == BLOCKS_BROKEN)
		return;
	while (b->unused < WANTS && sched_room(b->sched) > 0 && (rc = decode_want(b->decode, &w, &e)) == 1) {
		add_want(b, &w);
		(void)sched_want(b->sched, b->fetch->now, w.ref, w.level);
	}
	if (rc < 0)
		broken(b, &e);
}

/* --- What has come ---------------------------------------------------------------------------------- */

/* Blocks from elsewhere are news for IPFS only if there is one that should have had them. */
static int
ipfs_fails(const struct blocks *b)
{
	int some = 0;

	for (unsigned i = 0; i < b->norigins; i++) {
		struct sched_figures s;

		if (b->origins[i].from != FROM_IPFS)
			continue;
		sched_figures(b->sched, i, &s);
		if (s.health == SCHED_USABLE || s.health == SCHED_NEW ||
		    (s.health == SCHED_BYPASSED && s.missed + s.late == 0))
			return 0; /* one that is only slow would have had it */
		some |= s.health == SCHED_BYPASSED || s.health == SCHED_DEAD;
	}
	return some;
}

static void
note_from(struct blocks *b, enum from from, size_t at)
{
	b->got[from]++;
	b->progress = b->fetch->now;
	for (unsigned i = 0; i < b->norigins; i++)
		b->origins[i].got += b->origins[i].from == from && b->origins[i].at == at;
}

static const char *
name_of(const struct blocks *b, const struct origin *o)
{
	return o->from == FROM_RANGE ? b->files[o->at].name : b->fetch->blocks->sources[o->at].name;
}

/* --- Doubts: blocks that IPFS may or may not have missed -------------------------------------------- */

static struct doubt *
doubt_of(struct blocks *b, uint32_t id)
{
	for (unsigned i = 0; i < DOUBTS; i++)
		if (b->doubts[i].data != NULL && b->doubts[i].id == id)
			return &b->doubts[i];
	return NULL;
}

/* If IPFS is still looking for it, its answer is waited for: 0.  1: it is not; -1: it is, but there is no
 * room to keep the block until then. */
static int
doubt(struct blocks *b, const struct want *w, const uint8_t *data)
{
	const struct ask *a = b->asks, *end = b->asks + 2 * WANTS;
	struct doubt *d = b->doubts;

	while (a < end && (!a->active || b->origins[a->source].from != FROM_IPFS ||
	    memcmp(a->ref, w->ref, ERIS_REF) != 0))
		a++;
	while (d < b->doubts + DOUBTS && d->data != NULL)
		d++;
	if (a == end)
		return 1;
	if (d == b->doubts + DOUBTS || (d->data = malloc(b->o.cap.block_size)) == NULL)
		return -1;
	d->id = a->id;
	d->since = b->fetch->now;
	memcpy(d->ref, w->ref, ERIS_REF);
	memcpy(d->data, data, b->o.cap.block_size);
	return 0;
}

static void
settle(struct blocks *b, struct doubt *d, int missed)
{
	if (missed)
		heal_missed(b->fetch, d->ref);
	heal_block(b->fetch, d->ref, d->data, b->o.cap.block_size);
	free(d->data);
	d->data = NULL;
}

/* What IPFS does not say in time counts as missed: else a block that is nowhere would stay so. */
static void
settle_late(struct blocks *b, uint64_t ms)
{
	for (unsigned i = 0; i < DOUBTS; i++) {
		struct doubt *d = &b->doubts[i];

		if (d->data == NULL || b->fetch->now < d->since + ms)
			continue;
		blockpool_stop(b->fetch, d->id);
		settle(b, d, 1);
	}
}

/* W came from elsewhere: tell what IPFS needs to be given. */
static void
heal(struct blocks *b, const struct want *w, const uint8_t *data, size_t len)
{
	int doubts = w->missed || ipfs_fails(b) ? -1 : doubt(b, w, data);

	if (doubts == 0)
		return;
	if (doubts < 0)
		heal_missed(b->fetch, w->ref);
	heal_block(b->fetch, w->ref, data, len);
}

/* The right block for W, from there.  W is gone after this call. */
static void
arrived(struct blocks *b, struct want *w, const struct origin *o, const uint8_t *data, size_t len)
{
	note_from(b, o->from, o->at);
	if (o->from == FROM_BLOCKS || o->from == FROM_RANGE)
		heal(b, w, data, len);
	note_recent(b, w->ref);
	remove_want(b, w);
}

/* One block that came without a request of the scheduler's, or from a file. */
static enum decode_verdict
give_one(struct blocks *b, const struct origin *o, const uint8_t *ref, const uint8_t *data, size_t len)
{
	struct decode_given given = { .ref = ref, .block = data, .len = len };
	struct want *w = find_want(b, ref);
	struct err e;

	if (w == NULL || b->state == BLOCKS_BROKEN)
		return DECODE_SPARE;
	if (decode_give(b->decode, &given, 1, &e) != 0) {
		broken(b, &e);
		return DECODE_SPARE;
	}
	if (given.verdict == DECODE_TAKEN)
		arrived(b, w, o, data, len);
	return given.verdict;
}

static void
answer(struct blocks *b, struct ask *a, enum sched_outcome outcome, uint32_t retry_ms, const char *why)
{
	struct want *w = find_want(b, a->ref);

	a->active = 0;
	if (outcome != SCHED_BLOCK && w != NULL && b->origins[a->source].from == FROM_IPFS)
		w->missed = 1;
	(void)sched_answer(b->sched, b->fetch->now, a->id, outcome, retry_ms, why);
}

static enum sched_outcome
outcome_of(enum rpc_verdict v)
{
	switch (v) {
	case RPC_BLOCK: return SCHED_BLOCK;
	case RPC_MISSING: return SCHED_MISSING;
	case RPC_BUSY: return SCHED_BUSY;
	case RPC_UNREACHABLE: return SCHED_UNREACHABLE;
	case RPC_LIE: break;
	}
	return SCHED_LIE;
}

/* An answer that is not simply the right block. */
static void
judge(struct blocks *b, struct blockpool_end *end)
{
	struct ask *a = &b->asks[end->ask.id & 0xffff];
	const struct block_source *s = &b->fetch->blocks->sources[end->ask.source];
	struct rpc_judgement j;

	rpc_judge(&j, &s->at, RPC_GET, end->ask.ref, end->ask.block_size, &end->reply);
	source_replied(b->fetch, end->ask.source, &j, &end->reply);
	if (end->reply.status != 0)
		b->origins[a->source].heard = b->fetch->now;
	answer(b, a, j.verdict == RPC_BUSY && end->reply.status == 0 ? SCHED_BREAKS : outcome_of(j.verdict),
	    j.retry_ms, j.why);
}

static void
judge_doubt(struct blocks *b, const struct blockpool_end *end)
{
	const struct block_source *s = &b->fetch->blocks->sources[end->ask.source];
	struct ask *a = &b->asks[end->ask.id & 0xffff];
	struct rpc_judgement j;

	rpc_judge(&j, &s->at, RPC_GET, end->ask.ref, end->ask.block_size, &end->reply);
	source_replied(b->fetch, end->ask.source, &j, &end->reply);
	if (a->active && a->id == end->ask.id)
		answer(b, a, outcome_of(j.verdict), j.retry_ms, j.why);
	settle(b, doubt_of(b, end->ask.id), j.verdict != RPC_BLOCK);
}

/* Only a plain no counts: whoever does not know the question is asked for blocks, as if there was none.  That it has
 * answered this says nothing of how it answers those: many may be wanted by now, and the first request is a careful
 * one. */
static void
judge_probe(struct blocks *b, const struct blockpool_end *end)
{
	struct block_source *s = &b->fetch->blocks->sources[end->ask.source];
	int status = end->reply.status;

	if (!end->reply.connected)
		source_judged(b->fetch, end->ask.source, RPC_UNREACHABLE, "cannot be reached");
	if (status == 404 || status == 405 || status == 501)
		s->no_probe = 1;
	if (b->probes[end->ask.source] == PROBE_ASKED)
		b->probes[end->ask.source] = status == 412 ? PROBE_SEARCHES : PROBE_OVER;
}

static int
looks_good(const struct blockpool_end *end)
{
	/* Also when the connection broke behind it: what it is, its hash says. */
	return end->reply.status == 200 && end->reply.len == end->ask.block_size;
}

/* Blocks of the right size are checked some at a time, which is faster; only what fails is looked at once
 * more. */
static void
give_batch(struct blocks *b, struct blockpool_end *ends, size_t n)
{
	struct decode_given given[BATCH];
	size_t at[BATCH], m = 0;
	struct err e;

	for (size_t i = 0; i < n; i++)
		if (ends[i].ask.question == RPC_HAS) {
			judge_probe(b, &ends[i]);
		} else if (doubt_of(b, ends[i].ask.id) != NULL) {
			judge_doubt(b, &ends[i]);
		} else if (looks_good(&ends[i])) {
			at[m] = i;
			given[m++] = (struct decode_given){ .ref = ends[i].ask.ref, .block = ends[i].reply.body,
				.len = ends[i].reply.len };
		} else {
			judge(b, &ends[i]);
		}
	if (m > 0 && b->state != BLOCKS_BROKEN && decode_give(b->decode, given, m, &e) != 0)
		broken(b, &e);
	for (size_t i = 0; i < m && b->state != BLOCKS_BROKEN; i++) {
		struct blockpool_end *end = &ends[at[i]];
		struct ask *a = &b->asks[end->ask.id & 0xffff];
		struct want *w = find_want(b, end->ask.ref);

		if (given[i].verdict != DECODE_TAKEN || w == NULL) {
			judge(b, end);
			continue;
		}
		b->fetch->blocks->sources[end->ask.source].reached = 1;
		b->origins[a->source].heard = b->fetch->now;
		arrived(b, w, &b->origins[a->source], end->reply.body, end->reply.len);
		answer(b, a, SCHED_BLOCK, 0, NULL);
	}
}

static void
take_answers(struct blocks *b)
{
	struct blockpool_end ends[BATCH];
	size_t n;

	do {
		for (n = 0; n < BATCH && blockpool_next(b->fetch, &ends[n]); n++)
			continue;
		give_batch(b, ends, n);
		for (size_t i = 0; i < n; i++)
			blockpool_release(b->fetch, &ends[i]);
	} while (n == BATCH);
}

/* --- Files ------------------------------------------------------------------------------------------ */

static struct ask *
ask_of_leaf(struct blocks *b, unsigned source, uint64_t index)
{
	for (size_t i = 0; i < 2 * WANTS; i++)
		if (b->asks[i].active && b->asks[i].source == source && b->asks[i].index == index)
			return &b->asks[i];
	return NULL;
}

/* Addresses are known by now: what comes from a private place is not spread, nor what a public one leads to there. */
static void
look_at(const struct file *f)
{
	struct fetch *fetch = f->blocks->fetch;

	if (!fetch->blocks->seed_private &&
	    (heal_private(fetch, &f->url) || heal_private(fetch, rangeget_at(f->get))))
		heal_forbid(fetch);
}

static void
on_leaf(void *owner, uint64_t index, enum sched_outcome outcome, const uint8_t *block, uint32_t retry_ms,
    const char *why)
{
	struct file *f = owner;
	struct blocks *b = f->blocks;
	struct ask *a = ask_of_leaf(b, f->source, index);

	if (outcome != SCHED_BLOCK && outcome != SCHED_BUSY && !f->given_up) {
		f->given_up = 1;
		logline("%s gives no blocks: %s", f->name, why != NULL ? why : "no reason");
	}
	if (a == NULL)
		return;
	look_at(f);
	if (outcome == SCHED_BLOCK && give_one(b, &b->origins[f->source], a->ref, block, ERIS_LARGE) == DECODE_WRONG)
		outcome = SCHED_OTHER;
	answer(b, a, outcome, retry_ms, NULL);
}

/* The whole file streams by, and INDEX is next. */
static enum rangeget_use
on_offer(void *owner, uint64_t index)
{
	struct blocks *b = ((struct file *)owner)->blocks;
	uint64_t offset = index * ERIS_LARGE;

	if (offset < decode_position(b->decode))
		return RANGEGET_SKIP;
	for (size_t i = 0; i < WANTS; i++)
		if (b->wants[i].used && b->wants[i].level == 0 && b->wants[i].offset == offset)
			return RANGEGET_TAKE;
	/* Not named yet, because there is no room for it: it would have to be asked for again. */
	if (offset >= decode_position(b->decode) + (uint64_t)(BLOCKS_WINDOW - RANGE_WINDOW_MIN) * ERIS_LARGE)
		return RANGEGET_WAIT;
	return RANGEGET_SKIP;
}

static void
on_extra(void *owner, uint64_t index, const uint8_t ref[ERIS_REF], const uint8_t *block)
{
	struct file *f = owner;
	struct blocks *b = f->blocks;

	(void)index;
	look_at(f);
	if (give_one(b, &b->origins[f->source], ref, block, ERIS_LARGE) == DECODE_TAKEN)
		(void)sched_arrived(b->sched, b->fetch->now, ref);
}

static const struct rangeget_owner file_calls = { on_leaf, on_offer, on_extra };

static void
pump_files(struct blocks *b)
{
	for (size_t i = 0; i < b->nfiles; i++)
		if (b->files[i].get != NULL) {
			rangeget_resume(b->files[i].get);
			rangeget_pump(b->files[i].get);
		}
}

/* As much of the rest as came from this file so far will probably be missing, too. */
static void
expect(struct blocks *b, struct file *f)
{
	uint64_t all = 0, left = 0, position = decode_position(b->decode);

	for (unsigned i = 0; i < FROM_KINDS; i++)
		all += b->got[i];
	if (b->o.file_size > position)
		left = (b->o.file_size - position) / ERIS_LARGE;
	if (all > 0 && !ipfs_fails(b))
		left = left * b->got[FROM_RANGE] / all;
	rangeget_expect(f->get, left);
}

/* Ask a file for a leaf.  0, or -1: not now. */
static int
ask_file(struct blocks *b, struct file *f, const struct ask *a)
{
	uint64_t size = b->o.file_size > 0 ? b->o.file_size : RANGE_UNKNOWN;
	struct err e;

	if (f->get == NULL && (f->get = rangeget_new(b->fetch, &f->url, size, &file_calls, f, &e)) == NULL)
		return -1;
	expect(b, f);
	return rangeget_want(f->get, a->index, a->ref) ? 0 : -1;
}

/* --- The stream ------------------------------------------------------------------------------------- */

static enum carget_use
on_stream(void *owner, const uint8_t ref[ERIS_REF], const uint8_t *data, size_t len)
{
	struct blocks *b = owner;
	struct origin o = { .from = FROM_IPFS, .at = b->car_source };

	if (b->fetch->blocks->sources[b->car_source].at.kind == RPC_GATEWAY)
		o.from = FROM_GATEWAY;
	if (b->state != BLOCKS_RUNS)
		return CARGET_SPARE;
	fill(b);
	if (find_want(b, ref) == NULL) {
		uint64_t at = decode_position(b->decode);

		if (is_recent(b, ref) || !decode_more(b->decode))
			return CARGET_SPARE;
		if (!b->car_full || memcmp(b->full_ref, ref, ERIS_REF) != 0) {
			memcpy(b->full_ref, ref, ERIS_REF);
			b->full_at = at;
		}
		b->car_full = at - b->full_at <= (uint64_t)STREAM_AHEAD * b->o.cap.block_size;
		return b->car_full ? CARGET_FULL : CARGET_SPARE;
	}
	switch (give_one(b, &o, ref, data, len)) {
	case DECODE_TAKEN:
		b->streamed++;
		(void)sched_arrived(b->sched, b->fetch->now, ref);
		return CARGET_USED;
	case DECODE_WRONG:
		return CARGET_WRONG;
	default:
		return CARGET_SPARE;
	}
}

static void
hold(struct blocks *b, int on)
{
	if (b->car_holds != on)
		sched_stream(b->sched, b->fetch->now, on);
	b->car_holds = (uint8_t)on;
}

static void
start_stream(struct blocks *b)
{
	static const struct carget_owner calls = { on_stream };
	struct fetch *f = b->fetch;
	uint64_t all = 0;
	struct err e;

	for (unsigned i = 0; i < FROM_KINDS; i++)
		all += b->got[i];
	if (b->car_tried != 0 && all > STREAM_ANEW)
		b->car_over = 1;
	for (size_t i = 0; i < f->blocks->nsources && b->car == NULL && !b->car_over; i++) {
		if (f->blocks->sources[i].at.kind == RPC_BLOCKS || (b->car_tried >> i & 1) != 0 || !b->added[i] ||
		    !source_usable(f, i) || (b->probes[i] == PROBE_SEARCHES && !b->patient))
			continue;
		b->car_tried |= 1u << i;
		b->car_source = i;
		b->car = carget_new(f, i, b->o.manifest, carget_bytes(b->o.max_length), &calls, b, &e);
	}
	if (b->car == NULL)
		return;
	b->car_since = b->car_looked = f->now;
	b->car_blocks = 0;
	b->car_full = 0;
	hold(b, 1);
}

/* Is it fast enough to wait for it, and for nothing else? */
static void
look_at_stream(struct blocks *b)
{
	uint64_t now = b->fetch->now, blocks = carget_blocks(b->car);

	if (carget_waits(b->car)) {
		struct sched_totals t;

		/* It waits for others than itself: they must not wait for it. */
		sched_totals(b->sched, &t);
		if (t.wanted > AHEAD)
			hold(b, 0);
		b->car_looked = now;
		b->car_blocks = blocks;
	}
	if (now < b->car_looked + STREAM_LOOK_MS)
		return;
	if (now >= b->car_since + STREAM_PATIENCE_MS)
		hold(b, (blocks - b->car_blocks) * STREAM_LOOK_MS >= STREAM_BLOCKS * (now - b->car_looked));
	b->car_looked = now;
	b->car_blocks = blocks;
}

static void
end_stream(struct blocks *b)
{
	carget_free(b->car);
	b->car = NULL;
	hold(b, 0);
}

static void
pump_stream(struct blocks *b)
{
	enum carget_state state;
	const char *why;

	if (!b->o.has_manifest || b->car_over || b->o.cap.level == 0)
		return;
	if (b->car == NULL)
		start_stream(b);
	if (b->car == NULL)
		return;
	if (b->car_full)
		carget_resume(b->car);
	state = carget_pump(b->car, &why);
	if (state == CARGET_RUNS && (carget_waits(b->car) ||
	    b->fetch->now < carget_useful(b->car) + b->fetch->settings.stall_ms)) {
		look_at_stream(b);
		return;
	}
	if (state == CARGET_WHOLE || state == CARGET_MISSING)
		b->car_over = 1;
	if (state == CARGET_BROKEN)
		logline("%s", why);
	end_stream(b);
}

/* --- Requests --------------------------------------------------------------------------------------- */

static void
add_origin(struct blocks *b, const struct sched_source *s, enum from from, size_t at, int reached)
{
	struct err e;
	int n = sched_source(b->sched, s, &e);

	if (n < 0)
		return;
	b->origins[n] = (struct origin){ .from = from, .at = at };
	b->norigins = (unsigned)n + 1;
	if (from == FROM_RANGE)
		b->files[at].source = (uint8_t)n;
	if (reached)
		sched_reached(b->sched, (unsigned)n);
}

static int
is_vain(const struct blocks *b, size_t i)
{
	const struct block_source *s = &b->fetch->blocks->sources[i];

	return s->vain > 0 && b->fetch->now < s->vain_until && !b->patient;
}

/* How long a daemon's first answer is waited for when nothing else gives blocks. */
static uint64_t
patience(const struct blocks *b)
{
	return blockpool_greeted(b->fetch) + (b->insists ? b->fetch->blocks->block_ms : BLOCKPOOL_WAIT_MS);
}

static int
is_waiting(const struct blocks *b)
{
	for (size_t i = 0; i < b->fetch->blocks->nsources; i++)
		if (blockpool_health(b->fetch, i) == BLOCKPOOL_WAIT)
			return 1;
	return 0;
}

/* Whether others than gateways bring blocks meanwhile: else the question would only cost time. */
static int
has_others(const struct blocks *b)
{
	const struct blockconf *c = b->fetch->blocks;

	for (size_t i = 0; i < c->nsources; i++)
		if (c->sources[i].at.kind != RPC_GATEWAY && !is_vain(b, i) &&
		    blockpool_health(b->fetch, i) == BLOCKPOOL_YES)
			return 1;
	return 0;
}

/* A gateway is asked first whether it has the root of this nar without looking for it, for a moment.  1: that is over,
 * or of no use. */
static int
is_probed(struct blocks *b, size_t i)
{
	struct fetch *f = b->fetch;
	struct block_source *s = &f->blocks->sources[i];
	struct blockpool_ask ask = { .id = PROBE_ID + (uint32_t)i, .source = i, .question = RPC_HAS,
		.timeout_ms = f->blocks->block_ms, .block_size = b->o.cap.block_size };

	if (s->at.kind != RPC_GATEWAY)
		return 1;
	if (b->probes[i] == PROBE_NOT && !s->no_probe && !b->patient && blockpool_room(f) > 0 && has_others(b)) {
		memcpy(ask.ref, b->o.cap.root.ref, ERIS_REF);
		b->probes[i] = PROBE_ASKED;
		b->probed[i] = f->now;
		blockpool_start(f, &ask);
	} else if (b->probes[i] == PROBE_ASKED && f->now >= b->probed[i] + SCHED_GRACE_MS) {
		b->probes[i] = PROBE_OVER;
		s->no_probe |= s->reached; /* it looks for it all the same; or the connection took that long */
	}
	return b->probes[i] != PROBE_ASKED;
}

/* When the last question of that kind is over at the latest; 0: none is under way. */
static uint64_t
probes_end(const struct blocks *b)
{
	uint64_t end = 0;

	for (size_t i = 0; i < b->fetch->blocks->nsources; i++)
		if (b->probes[i] == PROBE_ASKED && b->probed[i] + SCHED_GRACE_MS > end)
			end = b->probed[i] + SCHED_GRACE_MS;
	return end;
}

/* Daemons as soon as they have said something; the rest when all have, or after a moment. */
static void
add_sources(struct blocks *b)
{
	struct fetch *f = b->fetch;
	int others = b->files_added || !is_waiting(b) || f->now >= b->begun + SCHED_GRACE_MS;

	for (size_t i = 0; i < f->blocks->nsources; i++) {
		const struct block_source *s = &f->blocks->sources[i];
		struct sched_source source = { .by_id = 1, .stage = s->at.kind == RPC_BLOCKS ? STAGE_BLOCKS : STAGE_IPFS };

		if (b->added[i] || blockpool_health(f, i) != BLOCKPOOL_YES || (is_vain(b, i) && s->vain == VAIN_NARS) ||
		    !is_probed(b, i) || (s->at.kind != RPC_IPFS && !others))
			continue;
		if (s->at.kind == RPC_BLOCKS)
			source.window_max = SERVER_WINDOW_MAX;
		if (b->probes[i] == PROBE_SEARCHES)
			source.stage = STAGE_SEARCH;
		if (is_vain(b, i))
			source.deadline_ms = VAIN_DEADLINE_MS;
		b->added[i] = 1;
		add_origin(b, &source, s->at.kind == RPC_IPFS ? FROM_IPFS : s->at.kind == RPC_GATEWAY ? FROM_GATEWAY :
		    FROM_BLOCKS, i, s->reached && b->probes[i] == PROBE_NOT);
	}
	if (!others || b->files_added)
		return;
	b->files_added = 1;
	for (size_t i = 0; i < b->nfiles; i++) {
		struct sched_source source = { .stage = STAGE_RANGE, .leaves = 1, .window_min = RANGE_WINDOW_MIN,
			.window_max = RANGE_WINDOW_MAX };

		add_origin(b, &source, FROM_RANGE, i, 1);
	}
}

static void
start_ask(struct blocks *b, const struct sched_ask *s)
{
	struct ask *a = &b->asks[s->id & 0xffff];
	const struct origin *o = &b->origins[s->source];
	const struct want *w = find_want(b, s->ref);

	*a = (struct ask){ .id = s->id, .active = 1, .source = (uint8_t)s->source,
		.index = w != NULL ? w->offset / ERIS_LARGE : 0 };
	memcpy(a->ref, s->ref, ERIS_REF);
	if (o->from == FROM_RANGE) {
		if (w == NULL || ask_file(b, &b->files[o->at], a) != 0)
			answer(b, a, SCHED_BUSY, 0, NULL);
	} else {
		/* The daemon gives up a little earlier: it says so, and its connection can be used again. */
		struct blockpool_ask ask = { .id = s->id, .source = o->at,
			.timeout_ms = s->timeout_ms - s->timeout_ms / 8, .block_size = b->o.cap.block_size };

		memcpy(ask.ref, s->ref, ERIS_REF);
		blockpool_start(b->fetch, &ask);
	}
}

static void
stop_asks(struct blocks *b)
{
	uint32_t id;

	while (sched_cancel(b->sched, &id)) {
		struct ask *a = &b->asks[id & 0xffff];
		const struct origin *o = &b->origins[a->source];
		struct want *w = find_want(b, a->ref);

		if (!a->active || a->id != id)
			continue;
		a->active = 0;
		if (w != NULL && o->from == FROM_IPFS) /* still wanted: it was late */
			w->missed = 1;
		if (o->from != FROM_RANGE && doubt_of(b, id) == NULL)
			blockpool_stop(b->fetch, id);
		else if (o->from == FROM_RANGE && b->files[o->at].get != NULL)
			rangeget_drop(b->files[o->at].get, a->index);
	}
}

static void
start_asks(struct blocks *b)
{
	struct sched_ask s;

	while (blockpool_room(b->fetch) > 0 && sched_next(b->sched, b->fetch->now, &s))
		start_ask(b, &s);
	stop_asks(b);
}

/* --- Hope ------------------------------------------------------------------------------------------- */

static int
ipfs_answers(const struct blocks *b)
{
	for (unsigned i = 0; i < b->norigins; i++) {
		struct sched_figures s;

		if (b->origins[i].from != FROM_IPFS && b->origins[i].from != FROM_GATEWAY)
			continue;
		sched_figures(b->sched, i, &s);
		/* Silence about one root block says no more than that it is missing. */
		if ((b->origins[i].heard != 0 || s.asked <= AHEAD) &&
		    (s.health == SCHED_USABLE || (s.health == SCHED_BYPASSED && s.missed > 0)))
			return 1;
	}
	return 0;
}

/* Publishing again helps only where somebody can fetch what is published. */
static void
begin_again(struct blocks *b)
{
	struct again_place places[BLOCKS_PLACES];

	b->again = 2;
	for (size_t i = 0; i < b->nplaces; i++)
		places[i] = (struct again_place){ b->servers[i], b->urls[i] };
	if (!b->fetch->blocks->publish_again || !ipfs_answers(b) || !again_begin(b->fetch, places, b->nplaces))
		return;
	b->again = 1;
	b->progress = b->fetch->now;
}

static void
stuck(struct blocks *b, const char *why)
{
	b->state = BLOCKS_STUCK;
	(void)err_set(&b->why, "%s", why);
}

/* Nothing can bring this block just now. */
static void
hopeless(struct blocks *b)
{
	const char *why = "no source has all blocks";

	if (b->again == 0)
		begin_again(b);
	if (b->again == 1)
		switch (again_pump(b->fetch, &why)) {
		case AGAIN_NOTHING:
			return;
		case AGAIN_RETRY:
			sched_again(b->sched, b->fetch->now, STAGE_SEARCH);
			return;
		case AGAIN_OVER:
			again_end(b->fetch);
			b->again = 2;
		}
	/* Those who have not said no may have it by now. */
	if (!b->insists || sched_nowhere(b->sched, b->fetch->now))
		stuck(b, why);
}

static int
anybody_answers(const struct blocks *b)
{
	for (unsigned i = 0; i < b->norigins; i++)
		if (b->origins[i].heard != 0)
			return 1;
	return 0;
}

/* How long it may take that nothing comes. */
static uint32_t
stall_ms(const struct blocks *b)
{
	uint32_t all = b->fetch->settings.stall_ms;

	if (b->insists && anybody_answers(b))
		return b->insist_ms;
	if (b->insists) /* the first answer has its time */
		return all + b->fetch->blocks->block_ms;
	for (size_t i = 0; i < b->fetch->blocks->nsources; i++)
		if (b->added[i] && !is_vain(b, i))
			return all;
	for (unsigned i = 0; i < FROM_KINDS; i++)
		if (b->got[i] > 0)
			return all;
	return all < VAIN_STALL_MS ? all : VAIN_STALL_MS;
}

static void
look_for_hope(struct blocks *b)
{
	struct sched_totals t;
	uint8_t ref[ERIS_REF];
	uint64_t now = b->fetch->now;

	sched_totals(b->sched, &t);
	/* While the reader is slow, and all that fits is here, nobody is to blame. */
	if (t.wanted == 0)
		b->progress = now;
	b->wanted = t.wanted;
	if ((is_waiting(b) && now < patience(b)) || now < probes_end(b)) {
		b->progress = now;
		return;
	}
	if (b->files_added && sched_stuck(b->sched, now, ref))
		hopeless(b);
	if (b->state == BLOCKS_RUNS && now >= b->progress + stall_ms(b)) {
		b->gave_up = b->insists;
		stuck(b, "no block came for too long");
	}
}

enum blocks_state
blocks_pump(struct blocks *b)
{
	if (b->state != BLOCKS_RUNS)
		return b->state;
	take_answers(b); /* first: what gateways say decides where they are added */
	add_sources(b);
	settle_late(b, b->fetch->blocks->block_ms);
	fill(b);
	pump_stream(b);
	pump_files(b);
	fill(b);
	stop_asks(b);
	if (b->state == BLOCKS_RUNS)
		start_asks(b);
	pump_files(b); /* so that leaves asked for just now share requests */
	if (b->state == BLOCKS_RUNS && decode_done(b->decode))
		b->state = BLOCKS_DONE;
	if (b->state == BLOCKS_RUNS)
		look_for_hope(b);
	return b->state;
}

int
blocks_read(struct blocks *b, const uint8_t **data, size_t *len)
{
	struct err e;
	int rc;

	if (b->state == BLOCKS_BROKEN)
		return 0;
	if ((rc = decode_read(b->decode, data, len, &e)) < 0)
		broken(b, &e);
	else if (rc == 0 && b->state == BLOCKS_RUNS && decode_done(b->decode))
		b->state = BLOCKS_DONE; /* the last leaf was nothing but padding */
	return rc > 0;
}

enum blocks_state
blocks_is(const struct blocks *b)
{
	return b->state;
}

const uint8_t *
blocks_ref(const struct blocks *b)
{
	return decode_ref(b->decode);
}

void
blocks_wake(struct fetch *f)
{
	for (size_t i = 0; i < f->blocks->nsources; i++) {
		struct block_source *s = &f->blocks->sources[i];

		if (!s->silent || s->dead_until == UINT64_MAX)
			continue;
		s->silent = 0;
		s->dead_until = 0;
	}
}

void
blocks_insist(struct blocks *b, uint32_t ms)
{
	blocks_wake(b->fetch);
	b->patient = b->insists = 1;
	b->insist_ms = ms;
	sched_insist(b->sched, b->fetch->now);
	if (b->state != BLOCKS_STUCK)
		return;
	b->state = BLOCKS_RUNS;
	b->again = 0;
	b->progress = b->fetch->now;
	blockpool_greet(b->fetch);
}

int
blocks_gave_up(const struct blocks *b)
{
	return b->gave_up;
}

int
blocks_missed(const struct blocks *b)
{
	for (unsigned i = 0; i < b->norigins; i++)
		if (b->origins[i].from == FROM_IPFS)
			return 1;
	return 0;
}

static void
earlier(uint64_t *due, uint64_t when)
{
	if (when < *due)
		*due = when;
}

uint64_t
blocks_deadline(const struct blocks *b)
{
	uint64_t due = sched_due(b->sched, b->fetch->now);

	if (b->state != BLOCKS_RUNS)
		return UINT64_MAX;
	if (b->wanted > 0)
		earlier(&due, b->progress + stall_ms(b));
	if (!b->files_added)
		earlier(&due, b->begun + SCHED_GRACE_MS);
	if (is_waiting(b) && patience(b) > b->fetch->now)
		earlier(&due, patience(b));
	if (probes_end(b) > b->fetch->now)
		earlier(&due, probes_end(b));
	if (b->again == 1)
		earlier(&due, again_deadline(b->fetch));
	if (b->car != NULL && !carget_waits(b->car))
		earlier(&due, b->car_looked + STREAM_LOOK_MS);
	for (size_t i = 0; i < b->nfiles; i++)
		if (b->files[i].get != NULL)
			earlier(&due, rangeget_deadline(b->files[i].get));
	return due;
}

/* --- Text ------------------------------------------------------------------------------------------- */

const char *
blocks_why(const struct blocks *b)
{
	return b->why.text;
}

/* Once in a while: which origin brings most. */
static void
look_where(struct blocks *b)
{
	if (b->where_at != 0 && b->fetch->now < b->where_at + WHERE_MS)
		return;
	b->where_at = b->fetch->now;
	for (unsigned i = 0; i < b->norigins; i++) {
		struct origin *o = &b->origins[i];

		o->weight = o->weight / 2 + 2 * (o->got - o->shown);
		o->shown = o->got;
	}
	for (unsigned i = 0; i < b->norigins; i++)
		if (b->origins[i].weight > WHERE_TIMES * b->origins[b->where].weight)
			b->where = i;
}

void
blocks_where(struct blocks *b, char *text, size_t size)
{
	uint64_t weights[FROM_KINDS] = { 0 }, all = 0;
	const char *name, *host;
	unsigned kinds = 0;
	size_t n = 0;

	look_where(b);
	for (unsigned i = 0; i < b->norigins; i++) {
		weights[b->origins[i].from] += b->origins[i].weight;
		all += b->origins[i].weight;
	}
	for (unsigned i = 0; i < FROM_KINDS; i++)
		kinds += weights[i] > 0 && weights[i] * WHERE_LEAST >= all;
	text[0] = '\0';
	if (b->norigins == 0)
		return;
	name = name_of(b, &b->origins[b->where]);
	host = strchr(name, ' ');
	for (unsigned i = 0; i < FROM_KINDS && kinds > 1; i++)
		if (weights[i] > 0 && weights[i] * WHERE_LEAST >= all && n < size)
			n += (size_t)snprintf(text + n, size - n, "%s%s", n > 0 ? "+" : "", from_names[i]);
	if (n < size)
		(void)snprintf(text + n, size - n, "%s", kinds > 1 && host != NULL ? host : name);
}

void
blocks_summary(const struct blocks *b, char *text, size_t size)
{
	size_t n = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < FROM_KINDS; i++)
		if (b->got[i] > 0 && n < size)
			n += (size_t)snprintf(text + n, size - n, "%s%s %llu", n > 0 ? ", " : "", from_names[i],
			    (unsigned long long)b->got[i]);
}

/* --- Beginning and end ------------------------------------------------------------------------------ */

int
blocks_possible(struct fetch *f)
{
	blockpool_greet(f);
	for (size_t i = 0; i < f->blocks->nsources; i++) {
		enum blockpool_health h = blockpool_health(f, i);

		/* A daemon that had its time to say something is not waited for by every item. */
		if (h == BLOCKPOOL_YES || (h == BLOCKPOOL_WAIT && f->now < blockpool_greeted(f) + BLOCKPOOL_WAIT_MS))
			return 1;
	}
	return 0;
}

static int
make(struct blocks *b, struct err *e)
{
	struct decode_options o = { .cap = b->o.cap, .max_length = b->o.max_length, .window = BLOCKS_WINDOW,
		.ahead = AHEAD };

	if ((b->decode = decode_new(&o, e)) == NULL ||
	    (b->sched = sched_new(WANTS, b->fetch->blocks->block_ms, e)) == NULL)
		return -1;
	for (unsigned i = 0; i < WANTS; i++)
		b->wants[i].next = (uint16_t)(i + 1);
	for (unsigned i = 0; i < CHAINS; i++)
		b->chains[i] = WANTS;
	return 0;
}

/* The places as of now: parts of files are taken from each URL once. */
static void
copy_places(struct blocks *b, const struct blocks_order *o)
{
	for (size_t i = 0; i < o->nplaces && i < BLOCKS_PLACES; i++) {
		struct file *f = &b->files[i];
		char where[LIMIT_SOURCE + 1];

		b->servers[i] = o->places[i].server;
		(void)snprintf(b->urls[i], sizeof b->urls[i], "%s", o->places[i].url);
		b->nplaces++;
		if (o->cap.block_size != ERIS_LARGE)
			continue;
		b->nfiles++;
		f->blocks = b;
		f->url = o->places[i].at;
		url_source(&f->url, where, sizeof where);
		(void)snprintf(f->name, sizeof f->name, "range %.*s", LIMIT_SOURCE - 6, where);
	}
}

struct blocks *
blocks_new(struct fetch *f, const struct blocks_order *o, struct err *e)
{
	struct blocks *b;

	e->text[0] = '\0';
	if (!blocks_possible(f))
		return NULL;
	if ((b = calloc(1, sizeof *b)) == NULL)
		return (void)err_set(e, "no memory for an assembly of blocks"), NULL;
	b->fetch = f;
	b->o = *o;
	b->o.places = NULL; /* the caller's */
	b->begun = b->progress = f->now;
	if (make(b, e) != 0) {
		blocks_free(b);
		return NULL;
	}
	copy_places(b, o);
	return b;
}

/* Whether it was worth waiting for. */
static void
note_use(struct blocks *b, const struct origin *o, const struct sched_figures *s, struct block_source *at)
{
	uint64_t now = b->fetch->now;

	if (at->dead_until > now)
		return;
	if (s->health == SCHED_DEAD) {
		source_judged(b->fetch, o->at, RPC_UNREACHABLE, s->why);
	} else if (s->delivered > 0 || (b->streamed > 0 && o->from != FROM_BLOCKS)) {
		at->vain = 0;
	} else if (s->asked > 0 && now >= b->begun + VAIN_MS) {
		at->vain = (uint8_t)(s->missed > 0 || at->vain == 0 ? 1 : VAIN_NARS);
		at->vain_until = now + SILENT_MS;
		if (at->vain == VAIN_NARS)
			logline("%s brings nothing, and is asked only if nobody else does for a minute", at->name);
	}
}

/* A source that did not answer any more: a daemon has to say its version before the next item waits for it,
 * and others are not tried for a while. */
static void
remember(struct blocks *b)
{
	for (unsigned i = 0; b->sched != NULL && i < b->norigins; i++) {
		const struct origin *o = &b->origins[i];
		struct sched_figures s;
		struct block_source *at;

		if (o->from == FROM_RANGE)
			continue;
		at = &b->fetch->blocks->sources[o->at];
		sched_figures(b->sched, i, &s);
		note_use(b, o, &s, at);
		if (s.late == 0 || b->fetch->now < o->heard + SILENCE_MS || at->dead_until > b->fetch->now)
			continue;
		at->reached = 0;
		if (at->vain == 0)
			at->vain = 1;
		at->vain_until = b->fetch->now + SILENT_MS;
		if (at->at.kind == RPC_IPFS)
			continue;
		logline("%s does not answer and is left alone for a minute", at->name);
		at->dead_until = b->fetch->now + SILENT_MS;
		at->silent = 1;
	}
}

void
blocks_free(struct blocks *b)
{
	if (b == NULL)
		return;
	if (b->sched != NULL)
		settle_late(b, 0);
	remember(b);
	blockpool_stop_all(b->fetch);
	again_end(b->fetch);
	carget_free(b->car);
	for (size_t i = 0; i < b->nfiles; i++)
		rangeget_free(b->files[i].get);
	sched_free(b->sched);
	decode_free(b->decode);
	free(b);
}
