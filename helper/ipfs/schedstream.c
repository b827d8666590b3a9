/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (ipfs), scheduler: a stream that brings blocks without being asked for each. */
#include <string.h>

#include "helper/ipfs/sched_own.h"

#define STREAM_HOLD_MS 250

uint64_t
schedstream_hold(const struct sched *s)
{
	uint64_t hold = s->stream.gap8;

	if (!s->stream.began || hold > s->deadline_ms)
		return s->deadline_ms;
	return hold > STREAM_HOLD_MS ? hold : STREAM_HOLD_MS;
}

int
schedstream_held(const struct sched *s, const struct slot *b, uint64_t now)
{
	if (!s->stream.runs || b->seq < s->stream.seq || now >= s->stream.last + schedstream_hold(s))
		return 0;
	return b->prev < s->nslots || now < b->since + s->deadline_ms;
}

void
sched_stream(struct sched *s, uint64_t now, int runs)
{
	memset(&s->stream, 0, sizeof s->stream);
	s->stream.runs = (uint8_t)(runs != 0);
	s->stream.last = now;
}

int
sched_arrived(struct sched *s, uint64_t now, const uint8_t ref[ERIS_REF])
{
	struct slot *b = schedtable_find(s, ref);
	uint64_t gap = now - s->stream.last;

	/* gap8 is the gap times 8: what is waited for. */
	s->stream.gap8 = s->stream.began ? s->stream.gap8 - s->stream.gap8 / 8 + gap : gap * 8;
	s->stream.began = 1;
	s->stream.last = now;
	if (b == NULL)
		return 0;
	if (b->seq > s->stream.seq)
		s->stream.seq = b->seq;
	s->totals.streamed++;
	schedanswer_delivered(s, b);
	return 1;
}
