/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): one nar out of its ERIS blocks, from wherever they come: the assembly, beginning to end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helper/fetch/again.h"
#include "helper/fetch/blockconf.h"
#include "helper/fetch/blockpool.h"
#include "helper/fetch/blocks.h"
#include "helper/fetch/blocks_own.h"
#include "helper/fetch/rangeget.h"

/* How long nothing may come where all sources are such as let other nars wait and brought nothing (blocksources.c). */
#define VAIN_STALL_MS 1000

void
blocks_broken(struct blocks *b, const struct err *e)
{
	b->state = BLOCKS_BROKEN;
	b->why = *e;
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

/* Nobody who was asked has this block just now. */
static void
hopeless(struct blocks *b)
{
	const char *why = "no source has all blocks";

	if (b->again == 0 && blockstream_hopes(b))
		return;
	if (b->again == 0)
		begin_again(b);
	if (b->again == 1)
		switch (again_pump(b->fetch, &why)) {
		case AGAIN_NOTHING:
			b->again_waits = 1;
			return;
		case AGAIN_RETRY:
			sched_again(b->sched, b->fetch->now, STAGE_SEARCH);
			return;
		case AGAIN_OVER:
			again_end(b->fetch);
			b->again = 2;
		}
	if (blockstream_hopes(b))
		return;
	/* Those who have not said no may have it by now. */
	if (b->insists && blockpeers_any_alone(b))
		why = "no source has all blocks, and the IPFS daemon knows no peers";
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
		if (b->added[i] && !blocksources_is_vain(b, i))
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

	b->again_waits = 0;
	sched_totals(b->sched, &t);
	/* While the reader is slow, and all that fits is here, nobody is to blame. */
	if (t.wanted == 0)
		b->progress = now;
	b->wanted = t.wanted;
	if ((blocksources_is_waiting(b) && now < blocksources_patience(b)) || now < blocksources_probes_end(b)) {
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

/* --- The assembly ----------------------------------------------------------------------------------- */

enum blocks_state
blocks_pump(struct blocks *b)
{
	if (b->state != BLOCKS_RUNS)
		return b->state;
	blockasks_take(b); /* first: what gateways say decides where they are added */
	blocksources_add(b);
	blockpeers_pump(b);
	blockheal_settle_late(b);
	blockwants_fill(b);
	blockstream_pump(b);
	blockfiles_pump(b);
	blockwants_fill(b);
	blockasks_stop(b);
	if (b->state == BLOCKS_RUNS)
		blockasks_start(b);
	blockfiles_pump(b); /* so that leaves asked for just now share requests */
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
		blocks_broken(b, &e);
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
	if (b->wanted > 0) {
		earlier(&due, b->progress + stall_ms(b));
		earlier(&due, blockpeers_deadline(b));
	}
	if (!b->files_added)
		earlier(&due, b->begun + SCHED_GRACE_MS);
	if (blocksources_is_waiting(b) && blocksources_patience(b) > b->fetch->now)
		earlier(&due, blocksources_patience(b));
	if (blocksources_probes_end(b) > b->fetch->now)
		earlier(&due, blocksources_probes_end(b));
	if (b->again_waits)
		earlier(&due, again_deadline(b->fetch));
	earlier(&due, blockstream_deadline(b));
	for (size_t i = 0; i < b->nfiles; i++)
		if (b->files[i].get != NULL)
			earlier(&due, rangeget_deadline(b->files[i].get));
	return due;
}

const char *
blocks_why(const struct blocks *b)
{
	return b->why.text;
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

void
blocks_free(struct blocks *b)
{
	if (b == NULL)
		return;
	if (b->sched != NULL)
		blockheal_end(b);
	blocksources_remember(b);
	blockpool_stop_all(b->fetch);
	again_end(b->fetch);
	blockstream_free(b);
	for (size_t i = 0; i < b->nfiles; i++)
		rangeget_free(b->files[i].get);
	sched_free(b->sched);
	decode_free(b->decode);
	free(b);
}
