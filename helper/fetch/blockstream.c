/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch), blocks: the CAR stream in use (carget.h), as long as it is faster than requests. */
#include <string.h>

#include "helper/common/logline.h"
#include "helper/fetch/blockconf.h"
#include "helper/fetch/blocks_own.h"
#include "helper/fetch/carget.h"
#include "helper/fetch/source.h"

/* A stream is let alone as long as it brings so many blocks in STREAM_LOOK_MS: 3 MiB a second; and at its
 * beginning. */
#define STREAM_BLOCKS 25
#define STREAM_PATIENCE_MS 400
/* When so many blocks have come, no other stream is begun: it would bring them all again. */
#define STREAM_ANEW 256
/* A block of the stream that nobody wants after so many more leaves were read will never be wanted. */
#define STREAM_AHEAD 64

static enum carget_use
on_stream(void *owner, const uint8_t ref[ERIS_REF], const uint8_t *data, size_t len)
{
	struct blocks *b = owner;
	struct origin o = { .from = FROM_IPFS, .at = b->car_source };

	if (b->fetch->blocks->sources[b->car_source].at.kind == RPC_GATEWAY)
		o.from = FROM_GATEWAY;
	if (b->state != BLOCKS_RUNS)
		return CARGET_SPARE;
	blockwants_fill(b);
	if (blockwants_find(b, ref) == NULL) {
		uint64_t at = decode_position(b->decode);

		if (blockwants_is_recent(b, ref) || !decode_more(b->decode))
			return CARGET_SPARE;
		if (!b->car_full || memcmp(b->full_ref, ref, ERIS_REF) != 0) {
			memcpy(b->full_ref, ref, ERIS_REF);
			b->full_at = at;
		}
		b->car_full = at - b->full_at <= (uint64_t)STREAM_AHEAD * b->o.cap.block_size;
		return b->car_full ? CARGET_FULL : CARGET_SPARE;
	}
	switch (blockwants_give_one(b, &o, ref, data, len)) {
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

void
blockstream_pump(struct blocks *b)
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
