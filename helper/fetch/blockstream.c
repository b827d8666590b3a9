/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch), blocks: the stream in use (carget.h), as long as it is faster than requests. */
#include <string.h>

#include "helper/common/logline.h"
#include "helper/fetch/blockconf.h"
#include "helper/fetch/blocks_own.h"
#include "helper/fetch/carget.h"
#include "helper/fetch/source.h"
#include "helper/ipfs/manifest.h"

/* A stream is let alone as long as it brings so many blocks in STREAM_LOOK_MS: 3 MiB a second; and at its
 * beginning. */
#define STREAM_BLOCKS 25
#define STREAM_PATIENCE_MS 400
/* How long the root of the manifest is waited for before the CAR is asked for instead; and before blocks are asked for
 * one by one meanwhile. */
#define ROOT_WAIT_MS 1000
#define ROOT_HOLD_MS 100
/* When so many blocks have come, no other stream is begun: it would bring them all again. */
#define STREAM_ANEW 256
/* A block of the stream that nobody wants after so many more leaves were read will never be wanted. */
#define STREAM_AHEAD 64

/* Nobody will want that block any more. */
static int
is_past(const struct blocks *b, const uint8_t ref[ERIS_REF])
{
	return blockwants_is_recent(b, ref) || !decode_more(b->decode);
}

/* So much was read since the block of the stream that is at hand was looked at first, that nobody ever will. */
static int
is_far_behind(const struct blocks *b)
{
	return decode_position(b->decode) - b->full_at > (uint64_t)STREAM_AHEAD * b->o.cap.block_size;
}

static enum carget_use
on_stream(void *owner, const uint8_t ref[ERIS_REF], int known, const uint8_t *data, size_t len)
{
	struct blocks *b = owner;
	struct origin o = { .from = FROM_IPFS, .at = b->car_source };
	const struct want *w;
	uint64_t leaf_at;

	if (b->fetch->blocks->sources[b->car_source].at.kind == RPC_GATEWAY)
		o.from = FROM_GATEWAY;
	if (b->state != BLOCKS_RUNS && b->state != BLOCKS_STUCK)
		return CARGET_SPARE;
	blockwants_fill(b);
	w = blockwants_find(b, ref);
	if (b->state == BLOCKS_STUCK || w == NULL) {
		if (is_past(b, ref))
			return CARGET_SPARE;
		if (!b->car_full || memcmp(b->full_ref, ref, ERIS_REF) != 0) {
			memcpy(b->full_ref, ref, ERIS_REF);
			b->full_at = decode_position(b->decode);
		}
		/* While another way is tried, what comes waits: it may be asked for once more (blocks_insist). */
		b->car_full = b->state == BLOCKS_STUCK || !is_far_behind(b);
		return b->car_full ? CARGET_FULL : CARGET_SPARE;
	}
	leaf_at = w->level == 0 ? w->offset : 0;
	switch (blockwants_give_one(b, &o, ref, known, data, len)) {
	case DECODE_TAKEN:
		b->streamed++;
		if (leaf_at > b->stream_at)
			b->stream_at = leaf_at;
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

static int
is_here(const struct block_source *s)
{
	return s->at.socket[0] != '\0' || strcmp(s->url.host, "127.0.0.1") == 0 || strcmp(s->url.host, "::1") == 0 ||
	    strcmp(s->url.host, "localhost") == 0;
}

/* A gateway on the machine of a daemon that is asked: most likely that daemon's own.  Kubo's makes streams with less
 * work than its API, and in larger pieces. */
static int
is_beside_daemon(const struct blocks *b, size_t gateway)
{
	const struct block_source *all = b->fetch->blocks->sources, *g = &all[gateway];

	for (size_t i = 0; i < b->fetch->blocks->nsources && g->at.kind == RPC_GATEWAY; i++)
		if (all[i].at.kind == RPC_IPFS && b->added[i] &&
		    ((all[i].at.socket[0] == '\0' && strcmp(all[i].url.host, g->url.host) == 0) ||
		    (is_here(&all[i]) && is_here(g))))
			return 1;
	return 0;
}

/* Whether that source is to be asked for a stream in some form; while the root is not known it may name a file. */
static int
next_form(const struct blocks *b, size_t source, enum carget_form *form)
{
	const struct block_source *s = &b->fetch->blocks->sources[source];
	/* A daemon that has not told what it is may be of those that do not stand it. */
	int files = !s->no_file && (s->at.kind != RPC_IPFS || s->told) && (b->car_tried[CARGET_FILE] >> source & 1) == 0;

	*form = b->has_file && files ? CARGET_FILE : CARGET_CAR;
	return s->at.kind != RPC_BLOCKS && (*form == CARGET_FILE || (files && !b->root_over) ||
	    (!s->no_car && (b->car_tried[CARGET_CAR] >> source & 1) == 0));
}

/* The highest are asked first. */
static int
rank(const struct blocks *b, size_t source)
{
	return b->probes[source] == PROBE_LATE ? 0 : is_beside_daemon(b, source) ? 2 : 1;
}

/* The next stream: 1, its source and form; 0: none; -1: not yet. */
static int
next_stream(const struct blocks *b, size_t *which, enum carget_form *form)
{
	for (int r = 2; r >= 0; r--)
		for (size_t i = 0; i < b->fetch->blocks->nsources; i++) {
			if (!next_form(b, i, form) || !source_usable(b->fetch, i) || rank(b, i) != r)
				continue;
			if (r == 2 && b->probes[i] == PROBE_ASKED) /* it will say in a moment whether it has it */
				return -1;
			if (!b->added[i] || (b->probes[i] == PROBE_SEARCHES && !b->patient))
				continue;
			*which = i;
			return 1;
		}
	return 0;
}

static void
leave_root(struct blocks *b)
{
	if (b->root == NULL)
		return;
	rootget_free(b->root);
	b->root = NULL;
	hold(b, 0);
}

/* The root of the manifest names the file.  1: it is not known yet whether it will come. */
static int
waits_for_root(struct blocks *b)
{
	struct manifest_root m;
	const uint8_t *data;
	size_t len;
	struct err e;
	enum rootget_state state;

	if (b->root_over)
		return 0;
	if (b->root == NULL) {
		b->root = rootget_new(b->fetch, 1, b->o.manifest, 0, ROOT_WAIT_MS, &e);
		b->root_since = b->fetch->now;
		if (b->root != NULL)
			rootget_beside(b->root);
	}
	state = b->root != NULL ? rootget_pump(b->root, &data, &len) : ROOTGET_NOWHERE;
	hold(b, state == ROOTGET_RUNS && b->fetch->now < b->root_since + ROOT_HOLD_MS);
	if (state == ROOTGET_RUNS)
		return 1;
	if (state == ROOTGET_FOUND && manifest_parse(&m, data, len, &e) == 0 && m.blocks > 1 &&
	    m.blocks <= carget_bytes(b->o.max_length) / b->o.cap.block_size) {
		b->has_file = 1;
		b->file_blocks = m.blocks;
		memcpy(b->file, m.file, ERIS_REF);
	}
	leave_root(b);
	b->root_over = 1;
	return 0;
}

static void
start_stream(struct blocks *b)
{
	static const struct carget_owner calls = { on_stream };
	struct carget_ask ask = { .max_bytes = carget_bytes(b->o.max_length), .block_size = b->o.cap.block_size };
	struct fetch *f = b->fetch;
	uint64_t all = 0;
	struct err e;

	for (unsigned i = 0; i < FROM_KINDS; i++)
		all += b->got[i];
	if ((b->car_tried[CARGET_FILE] | b->car_tried[CARGET_CAR]) != 0 && all > STREAM_ANEW)
		b->car_over = 1;
	if (b->car_over || next_stream(b, &b->car_source, &b->car_form) == 0) {
		leave_root(b); /* nobody is left who could stream what it names */
		return;
	}
	if (waits_for_root(b))
		return;
	while (b->car == NULL && next_stream(b, &b->car_source, &b->car_form) > 0) {
		ask.form = b->car_form;
		ask.hash = ask.form == CARGET_FILE ? b->file : b->o.manifest;
		ask.blocks = b->file_blocks;
		b->car_tried[ask.form] |= 1u << b->car_source;
		b->car = carget_new(f, b->car_source, &ask, &calls, b, &e);
	}
	if (b->car == NULL)
		return;
	b->car_since = b->car_looked = f->now;
	b->car_blocks = 0;
	b->car_full = 0;
	b->stream_at = 0;
	hold(b, 1);
}

/* Whether the reader has all that comes before a block which is still wanted. */
static int
is_starved(const struct blocks *b)
{
	for (unsigned i = 0; i < WANTS; i++)
		if (b->wants[i].used && b->wants[i].offset <= decode_position(b->decode))
			return 1;
	return 0;
}

/* Whether the block that waits would be taken, or be known to be of no use, by now.  A stream that is let go on in vain
 * comes back at once, and so on. */
static int
is_room(struct blocks *b)
{
	return blockwants_find(b, b->full_ref) != NULL || is_past(b, b->full_ref) || is_far_behind(b);
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
		if (t.wanted > AHEAD || is_starved(b))
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

/* 0: it has ended. */
static int
go_on(struct blocks *b)
{
	enum carget_state state;
	const char *why;

	if (b->car_full && is_room(b))
		carget_resume(b->car);
	state = carget_pump(b->car, &why);
	if (state == CARGET_RUNS && (carget_waits(b->car) ||
	    b->fetch->now < carget_useful(b->car) + b->fetch->settings.stall_ms)) {
		look_at_stream(b);
		return 1;
	}
	/* Without its nodes the file is not to be had, but what it is made of may be. */
	if (state == CARGET_WHOLE ||
	    (state == CARGET_MISSING && (b->car_form == CARGET_CAR || carget_blocks(b->car) > 0)))
		b->car_over = 1;
	if (state == CARGET_BROKEN)
		logline("%s", why);
	end_stream(b);
	return 0;
}

void
blockstream_pump(struct blocks *b)
{
	if (!b->o.has_manifest || b->o.cap.level == 0)
		return;
	do {
		if (b->car == NULL && !b->car_over)
			start_stream(b);
	} while (b->car != NULL && !go_on(b));
}

/* It will not bring what everything waits for: it has brought later leaves than that, or there is no room for them. */
static int
is_ahead(const struct blocks *b)
{
	return carget_waits(b->car) || (b->stream_at > decode_position(b->decode) && is_starved(b));
}

int
blockstream_hopes(const struct blocks *b)
{
	uint64_t since = b->progress;

	if (b->car == NULL)
		return b->root != NULL && b->insists && b->fetch->now < since + STREAM_PATIENCE_MS;
	if (is_ahead(b) || (!b->car_holds && !b->insists)) /* a slow one is waited for where there is no other way */
		return 0;
	if (carget_blocks(b->car) > 0)
		since = carget_useful(b->car);
	else if (b->car_since > since)
		since = b->car_since;
	return b->fetch->now < since + STREAM_PATIENCE_MS;
}

uint64_t
blockstream_deadline(const struct blocks *b)
{
	if (b->root != NULL) {
		uint64_t due = rootget_deadline(b->root), hope = b->progress + STREAM_PATIENCE_MS;

		if (b->car_holds)
			return b->root_since + ROOT_HOLD_MS;
		return b->insists && b->fetch->now < hope && hope < due ? hope : due;
	}
	return b->car != NULL && !carget_waits(b->car) ? b->car_looked + STREAM_LOOK_MS : UINT64_MAX;
}

void
blockstream_free(struct blocks *b)
{
	rootget_free(b->root);
	carget_free(b->car);
}
