/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (ipfs), scheduler: what each source can do by what it has done, and whether it is used. */
#include "helper/ipfs/sched_own.h"

#define WINDOW_STEP 32
/* Rounds without growth after one that did not pay. */
#define HOLD_ROUNDS 16
#define FAR_SLOWER 8
/* Percent by which twice as many in flight must raise the rate at the beginning. */
#define WORTH_TWICE 150
/* Requests in flight at least, where more of them were not answered in time. */
#define NARROW_MIN 8

const char schedsource_keeps_missing[] = "keeps missing blocks";

/* --- What it is asked for --------------------------------------------------------------------------- */

int
schedsource_can_have(const struct source *o, const struct slot *b, unsigned source)
{
	return (o->health == SCHED_USABLE || o->health == SCHED_NEW) && !(b->tried >> source & 1) &&
	    (!o->is.leaves || b->level == 0);
}

uint32_t
schedsource_longest(const struct sched *s, const struct source *o)
{
	return o->is.deadline_ms != 0 && o->is.deadline_ms < s->deadline_ms ? o->is.deadline_ms : s->deadline_ms;
}

uint32_t
schedsource_deadline(const struct sched *s, const struct source *o)
{
	uint64_t ms = schedsource_longest(s, o), usual = 2 * (o->latency8 / 8 + o->deviation4);

	if (o->answers >= ANSWERS && usual < ms)
		ms = usual;
	if (ms < SCHED_DEADLINE_MIN_MS && s->deadline_ms > SCHED_DEADLINE_MIN_MS)
		ms = SCHED_DEADLINE_MIN_MS;
	return (uint32_t)ms;
}

/* --- Windows ---------------------------------------------------------------------------------------- */

/* Nothing is known of it.  Parts of files share requests: for them, few are no use. */
static void
begin_window(struct source *o)
{
	o->begins = !o->is.leaves && o->is.window_min > SCHED_WINDOW_BEGIN;
	o->window = o->begins ? SCHED_WINDOW_BEGIN : o->is.window_min;
	o->window_before = o->window;
	o->nearest = UINT64_MAX;
	o->rounds = o->round_got = 0;
	o->rate = o->rate_before = 0;
}

/* A step up as long as the last one raised the rate; else back, and some rounds without another try. */
static void
adapt(struct source *o, int was_full)
{
	unsigned before = o->window;

	if (o->hold > 0) {
		o->hold--;
		return;
	}
	if (o->window > o->window_before && o->rate * 100 < o->rate_before * 105) {
		o->window = o->window_before;
		o->hold = HOLD_ROUNDS;
		return;
	}
	if (!was_full)
		return;
	o->rate_before = o->rate;
	o->window_before = before;
	o->window = before + WINDOW_STEP < o->is.window_max ? before + WINDOW_STEP : o->is.window_max;
}

/* As many as are of use to the distance. */
static void
go_wide(struct source *o)
{
	o->begins = 0;
	o->window = o->window_before = o->is.window_min;
}

/* Twice as many at the beginning, as long as that pays. */
static void
grow(struct source *o, int was_full)
{
	if (!was_full)
		return;
	if (o->nearest >= SCHED_FAR_MS) {
		go_wide(o);
		return;
	}
	if (o->rate * 100 < o->rate_before * WORTH_TWICE) {
		o->begins = 0;
		o->window_before = o->window;
		o->hold = HOLD_ROUNDS;
		return;
	}
	o->rate_before = o->rate;
	if (2 * o->window >= o->is.window_min)
		go_wide(o);
	else
		o->window *= 2;
}

void
schedsource_shrink(struct source *o)
{
	unsigned smaller = o->window - o->window / 4;

	if (o->window > o->is.window_min)
		o->window = smaller > o->is.window_min ? smaller : o->is.window_min;
	o->window_before = o->window;
	o->round_got = 0;
	o->hold = HOLD_ROUNDS;
}

void
schedsource_narrow(struct source *o)
{
	if (o->window > NARROW_MIN)
		o->window = o->window / 2 > NARROW_MIN ? o->window / 2 : NARROW_MIN;
	o->window_before = o->window;
	o->begins = 0;
	o->round_got = 0;
	o->hold = HOLD_ROUNDS;
}

/* --- A new one -------------------------------------------------------------------------------------- */

int
sched_source(struct sched *s, const struct sched_source *source, struct err *e)
{
	struct source *o = &s->sources[s->nsources];

	if (s->nsources == SCHED_SOURCES)
		return err_set(e, "more than %d sources of blocks", SCHED_SOURCES);
	o->is = *source;
	if (o->is.window_min == 0)
		o->is.window_min = SCHED_WINDOW_MIN;
	if (o->is.window_max == 0)
		o->is.window_max = SCHED_WINDOW_MAX;
	if (o->is.window_max > SCHED_WINDOW_MAX || o->is.window_min > o->is.window_max)
		return err_set(e, "a window of %u to %u requests", o->is.window_min, o->is.window_max);
	begin_window(o);
	o->backoff_ms = SCHED_PROBE_MS;
	o->dead_until = o->is.dead_until;
	if (o->dead_until != 0) {
		o->health = o->dead_until == UINT64_MAX ? SCHED_LIAR : SCHED_DEAD;
		o->why = "remembered";
	}
	return (int)s->nsources++;
}

void
sched_reached(struct sched *s, unsigned source)
{
	if (s->sources[source].health == SCHED_NEW)
		s->sources[source].health = SCHED_USABLE;
}

/* --- Health ----------------------------------------------------------------------------------------- */

void
schedsource_bypass(struct sched *s, uint64_t now, unsigned source, const char *why)
{
	struct source *o = &s->sources[source];
	uint32_t most = s->insists ? SCHED_RETRY_MAX_MS : SCHED_PROBE_MAX_MS;

	o->health = SCHED_BYPASSED;
	o->why = why;
	o->probe_at = now + (o->backoff_ms < most ? o->backoff_ms : most);
	o->backoff_ms = o->backoff_ms * 2 < most ? o->backoff_ms * 2 : most;
	o->misses = o->lates = o->busy = 0;
	o->history = 0;
	o->nhistory = 0;
}

void
schedsource_drop(struct sched *s, unsigned source, enum sched_health health, const char *why)
{
	s->sources[source].health = health;
	s->sources[source].why = why;
	s->sources[source].dead_until = health == SCHED_LIAR ? UINT64_MAX : 0;
	schedtable_cancel_all(s, source);
}

void
schedsource_alive(struct source *o, const struct request *r, int good)
{
	o->lates = o->busy = o->breaks = 0;
	if (o->health == SCHED_NEW)
		o->health = SCHED_USABLE;
	if (!good)
		return;
	o->misses = 0;
	if ((o->health == SCHED_BYPASSED || o->health == SCHED_DEAD) && r->probe) {
		o->health = SCHED_USABLE;
		o->why = NULL;
		o->dead_until = 0;
		begin_window(o);
		o->answers = 0;
		o->latency8 = o->deviation4 = 0;
	} else if (o->health == SCHED_USABLE && o->rounds > 0)
		o->backoff_ms = SCHED_PROBE_MS; /* a whole round went well */
}

/* --- Estimates -------------------------------------------------------------------------------------- */

void
schedsource_note_latency(struct source *o, uint64_t ms)
{
	uint64_t latency = o->latency8 / 8, distance = latency > ms ? latency - ms : ms - latency;

	if (o->answers == 0) {
		o->latency8 = ms * 8;
		o->deviation4 = ms * 2;
	} else {
		o->latency8 = o->latency8 - latency + ms;
		o->deviation4 = o->deviation4 - o->deviation4 / 4 + distance;
	}
	if (o->answers < ANSWERS)
		o->answers++;
}

/* Blocks in 1000 seconds: measured where it was kept busy, else what its latency lets expect. */
static uint64_t
capability(const struct source *o)
{
	if (o->was_full)
		return o->rate;
	return o->answers < ANSWERS / 4 ? 0 : (uint64_t)o->window * 8000000 / (o->latency8 + 8);
}

/* Than one that has answered in this round, too.  Later stages are there for what is missing: for speed alone
 * they are preferred only to a source that is slow by itself. */
static int
far_slower(const struct sched *s, const struct source *o)
{
	for (unsigned i = 0; i < s->nsources; i++) {
		const struct source *other = &s->sources[i];

		if (other != o && other->health == SCHED_USABLE && other->last > o->round_since &&
		    (other->is.stage <= o->is.stage || o->rate < SCHED_SLOW * 1000) &&
		    capability(other) / FAR_SLOWER > o->rate)
			return 1;
	}
	return 0;
}

void
schedsource_note_round(struct sched *s, uint64_t now, unsigned source)
{
	struct source *o = &s->sources[source];
	uint64_t ms = now > o->round_since ? now - o->round_since : 1;

	o->last = now;
	if (++o->round_got < o->window)
		return;
	o->rate = (uint64_t)o->round_got * 1000000 / ms;
	o->rounds++;
	o->was_full = o->round_peak >= o->window;
	if (o->begins)
		grow(o, o->was_full);
	else
		adapt(o, o->was_full);
	if (o->was_full && o->rounds >= 2 && !o->begins && o->health == SCHED_USABLE && far_slower(s, o)) {
		schedsource_bypass(s, now, source, "far slower than another source");
		o->rate = 0;
	}
	o->round_got = 0;
	o->round_peak = o->flying;
	o->round_since = now;
}

/* --- What is known of it ---------------------------------------------------------------------------- */

void
sched_figures(const struct sched *s, unsigned source, struct sched_figures *f)
{
	const struct source *o = &s->sources[source];

	*f = (struct sched_figures){ .health = o->health, .why = o->why, .dead_until = o->dead_until,
		.flying = o->flying, .window = o->window, .latency_ms = (uint32_t)(o->latency8 / 8),
		.deviation_ms = (uint32_t)(o->deviation4 / 4), .deadline_ms = schedsource_deadline(s, o),
		.rate = o->rate, .asked = o->asked, .delivered = o->delivered, .missed = o->missed,
		.late = o->late, .hedged = o->hedged, .spare = o->spare };
}
