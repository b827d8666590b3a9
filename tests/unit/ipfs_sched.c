/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: what the block scheduler decides, with scripted sources and a clock that is only a number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "helper/ipfs/sched.h"

#define MAX_FLIGHTS 2048
#define NEVER UINT64_MAX

/* What a source does with a request for block N at time NOW: the milliseconds it takes (NEVER: no answer),
 * and what comes then. */
struct script {
	uint64_t (*act)(struct script *self, unsigned n, uint64_t now, enum sched_outcome *outcome);
	uint64_t delay, from, until; /* for the script */
	unsigned every;
	unsigned asked, most, flying;
	uint64_t free_at;            /* serial sources */
	uint32_t timeout;            /* of the request at hand */
};

struct flight {
	uint32_t id;
	unsigned source, n;
	uint64_t at;
	enum sched_outcome outcome;
	int used;
};

struct bed {
	struct sched *s;
	struct script scripts[SCHED_SOURCES];
	unsigned nscripts;
	struct flight flights[MAX_FLIGHTS];
	uint64_t now;
	unsigned wanted, total, got;
	uint8_t have[200000];
	unsigned by[SCHED_SOURCES];    /* blocks delivered by it */
	unsigned twice;                /* delivered once more */
	unsigned probes;
	unsigned order_max;            /* furthest first ask behind the oldest missing block */
	unsigned stucks;
	uint64_t first_stuck;
	int go_on_when_stuck;
};

static void
ref_of(uint8_t ref[ERIS_REF], unsigned n)
{
	memset(ref, 0x5a, ERIS_REF);
	memcpy(ref + 3, &n, sizeof n);
}

static unsigned
number_of(const uint8_t ref[ERIS_REF])
{
	unsigned n;

	memcpy(&n, ref + 3, sizeof n);
	return n;
}

static struct bed *
bed_new(unsigned blocks, unsigned total, uint32_t deadline)
{
	struct bed *b = calloc(1, sizeof *b);
	struct err e;

	assert_non_null(b);
	b->s = sched_new(blocks, deadline, &e);
	assert_non_null(b->s);
	b->total = total;
	b->now = 1000;
	assert_true(total <= sizeof b->have);
	return b;
}

static void
bed_free(struct bed *b)
{
	sched_free(b->s);
	free(b);
}

static unsigned
add(struct bed *b, const struct sched_source *o, struct script script)
{
	struct err e;
	int i = sched_source(b->s, o, &e);

	assert_true(i >= 0);
	b->scripts[i] = script;
	b->nscripts = (unsigned)i + 1;
	return (unsigned)i;
}

static void
fly(struct bed *b, const struct sched_ask *a)
{
	struct script *script = &b->scripts[a->source];
	unsigned i = 0;

	while (i < MAX_FLIGHTS && b->flights[i].used)
		i++;
	assert_true(i < MAX_FLIGHTS);
	assert_true(a->timeout_ms > 0);
	b->flights[i] = (struct flight){ .id = a->id, .source = a->source, .n = number_of(a->ref), .used = 1 };
	script->asked++;
	b->probes += a->probe;
	if (++script->flying > script->most)
		script->most = script->flying;
	script->timeout = a->timeout_ms;
	b->flights[i].at = script->act(script, b->flights[i].n, b->now, &b->flights[i].outcome);
	if (b->flights[i].at != NEVER)
		b->flights[i].at += b->now;
}

static void
ask_all(struct bed *b)
{
	struct sched_ask a;
	uint8_t ref[ERIS_REF];
	uint32_t id;

	while (b->wanted < b->total) {
		ref_of(ref, b->wanted);
		if (!sched_want(b->s, b->now, ref, 0))
			break;
		b->wanted++;
	}
	while (sched_next(b->s, b->now, &a))
		fly(b, &a);
	while (sched_cancel(b->s, &id)) {
		unsigned i = 0;

		while (i < MAX_FLIGHTS && !(b->flights[i].used && b->flights[i].id == id))
			i++;
		assert_true(i < MAX_FLIGHTS);
		b->flights[i].used = 0;
		b->scripts[b->flights[i].source].flying--;
	}
}

static void
land_one(struct bed *b, struct flight *f)
{
	f->used = 0;
	b->scripts[f->source].flying--;
	if (sched_answer(b->s, b->now, f->id, f->outcome, 0, NULL)) {
		assert_false(b->have[f->n]);
		b->have[f->n] = 1;
		b->by[f->source]++;
		b->got++;
	} else if (f->outcome == SCHED_BLOCK)
		b->twice++;
}

/* The bound that always holds. */
static void
check_bounds(struct bed *b)
{
	struct sched_totals t;

	sched_totals(b->s, &t);
	assert_true(t.hedged * 100 <= t.asked * SCHED_HEDGE_PERCENT);
	assert_true(t.spare <= t.hedged + b->probes);
	for (unsigned i = 0; i < b->nscripts; i++)
		assert_true(b->scripts[i].flying <= SCHED_WINDOW_MAX);
}

/* Until all is there, or nothing more can happen, or UNTIL.  Returns the time it took. */
static uint64_t
run(struct bed *b, uint64_t until)
{
	uint64_t began = b->now;
	unsigned idle = 0;
	uint8_t ref[ERIS_REF];

	while (b->got < b->total && b->now < until) {
		uint64_t next;

		ask_all(b);
		ask_all(b);
		check_bounds(b);
		if (sched_stuck(b->s, b->now, ref)) {
			if (b->stucks++ == 0)
				b->first_stuck = b->now;
			if (!b->go_on_when_stuck)
				break;
		}
		next = sched_due(b->s, b->now);
		for (unsigned i = 0; i < MAX_FLIGHTS; i++)
			if (b->flights[i].used && b->flights[i].at < next)
				next = b->flights[i].at;
		if (next == UINT64_MAX && until == NEVER)
			break;
		if (next > until)
			next = until;
		/* The clock must move, or something must happen: no endless turns. */
		assert_true(next >= b->now);
		idle = next > b->now ? 0 : idle + 1;
		assert_true(idle < 5);
		b->now = next;
		for (unsigned i = 0; i < MAX_FLIGHTS; i++)
			if (b->flights[i].used && b->flights[i].at <= b->now) {
				land_one(b, &b->flights[i]);
				idle = 0;
			}
	}
	return b->now - began;
}

/* --- Scripts ----------------------------------------------------------------------------------------- */

static uint64_t
steady(struct script *self, unsigned n, uint64_t now, enum sched_outcome *outcome)
{
	(void)n;
	(void)now;
	*outcome = SCHED_BLOCK;
	return self->delay;
}

/* One after another: more in flight are of no use. */
static uint64_t
serial(struct script *self, unsigned n, uint64_t now, enum sched_outcome *outcome)
{
	(void)n;
	*outcome = SCHED_BLOCK;
	if (self->free_at < now)
		self->free_at = now;
	self->free_at += self->delay;
	return self->free_at - now;
}

static uint64_t
lacks_all(struct script *self, unsigned n, uint64_t now, enum sched_outcome *outcome)
{
	(void)n;
	(void)now;
	*outcome = SCHED_MISSING;
	return self->delay;
}

static uint64_t
lacks_some(struct script *self, unsigned n, uint64_t now, enum sched_outcome *outcome)
{
	(void)now;
	*outcome = n % self->every == 0 ? SCHED_MISSING : SCHED_BLOCK;
	return self->delay;
}

/* Without an answer from FROM to UNTIL. */
static uint64_t
hangs(struct script *self, unsigned n, uint64_t now, enum sched_outcome *outcome)
{
	(void)n;
	*outcome = SCHED_BLOCK;
	return now + self->delay > self->from && now < self->until ? NEVER : self->delay;
}

static uint64_t
recovers(struct script *self, unsigned n, uint64_t now, enum sched_outcome *outcome)
{
	(void)n;
	*outcome = now < self->until ? SCHED_MISSING : SCHED_BLOCK;
	return self->delay;
}

/* A daemon with a slow swarm: one block after another, and what would take longer than it may is not found; it gives
 * up a little before its client does. */
static uint64_t
swarm(struct script *self, unsigned n, uint64_t now, enum sched_outcome *outcome)
{
	uint64_t most = self->timeout - self->timeout / 8, end = (self->free_at > now ? self->free_at : now) + self->delay;

	(void)n;
	*outcome = now < self->from || end > now + most ? SCHED_MISSING : SCHED_BLOCK;
	if (*outcome == SCHED_MISSING)
		return most;
	self->free_at = end;
	return end - now;
}

static uint64_t
lies(struct script *self, unsigned n, uint64_t now, enum sched_outcome *outcome)
{
	(void)now;
	*outcome = n == self->every ? SCHED_LIE : SCHED_BLOCK;
	return self->delay;
}

static uint64_t
refuses(struct script *self, unsigned n, uint64_t now, enum sched_outcome *outcome)
{
	(void)n;
	(void)now;
	*outcome = SCHED_UNREACHABLE;
	return self->delay;
}

static uint64_t
is_busy(struct script *self, unsigned n, uint64_t now, enum sched_outcome *outcome)
{
	(void)n;
	*outcome = now < self->until ? SCHED_BUSY : SCHED_BLOCK;
	return self->delay;
}

/* One of EVERY takes ten times as long. */
static uint64_t
stragglers(struct script *self, unsigned n, uint64_t now, enum sched_outcome *outcome)
{
	(void)now;
	*outcome = SCHED_BLOCK;
	return n % self->every == self->every - 1 ? self->delay * 10 : self->delay;
}

static const struct sched_source ipfs = { .stage = 0, .by_id = 1 }, blocks = { .stage = 1, .by_id = 1 },
	range = { .stage = 2, .leaves = 1, .window_min = 4, .window_max = 6 };

/* --- Tests ------------------------------------------------------------------------------------------- */

static void
bad_sizes(void **state)
{
	struct sched_source wide = { .window_max = SCHED_WINDOW_MAX + 1 }, odd = { .window_min = 9,
	    .window_max = 8 };
	struct sched *s;
	struct err e;

	(void)state;
	assert_null(sched_new(0, 0, &e));
	assert_null(sched_new(SCHED_BLOCKS + 1, 0, &e));
	s = sched_new(SCHED_BLOCKS, 0, &e);
	assert_int_equal(sched_room(s), SCHED_BLOCKS);
	assert_int_equal(sched_source(s, &wide, &e), -1);
	assert_int_equal(sched_source(s, &odd, &e), -1);
	for (int i = 0; i < SCHED_SOURCES; i++)
		assert_int_equal(sched_source(s, &ipfs, &e), i);
	assert_int_equal(sched_source(s, &ipfs, &e), -1);
	sched_free(s);
	sched_free(NULL);
}

/* In the order of wanting; once even if wanted twice; no more than there is room for. */
static void
order(void **state)
{
	struct bed *b = bed_new(8, 8, 0);
	struct sched_ask a;
	uint8_t ref[ERIS_REF];

	(void)state;
	add(b, &ipfs, (struct script){ .act = steady });
	sched_reached(b->s, 0);
	for (unsigned i = 0; i < 8; i++) {
		ref_of(ref, i);
		assert_int_equal(sched_want(b->s, 0, ref, 0), 1);
		assert_int_equal(sched_want(b->s, 0, ref, 0), 1);
	}
	ref_of(ref, 8);
	assert_int_equal(sched_want(b->s, 0, ref, 0), 0);
	assert_int_equal(sched_room(b->s), 0);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(sched_next(b->s, 0, &a), 1);
		assert_int_equal(number_of(a.ref), i);
		assert_int_equal(a.timeout_ms, SCHED_DEADLINE_MS);
		if (i == 0) {
			assert_int_equal(sched_answer(b->s, 1, a.id, SCHED_BLOCK, 0, NULL), 1);
			assert_int_equal(sched_answer(b->s, 1, a.id, SCHED_BLOCK, 0, NULL), 0);
			assert_int_equal(sched_answer(b->s, 1, a.id + 1, SCHED_LIE, 0, NULL), 0);
			assert_int_equal(sched_answer(b->s, 1, UINT32_MAX, SCHED_LIE, 0, NULL), 0);
		}
	}
	assert_int_equal(sched_next(b->s, 0, &a), 0);
	assert_int_equal(sched_room(b->s), 1);
	bed_free(b);
}

static void
fast_source(void **state)
{
	struct bed *b = bed_new(512, 20000, 0);
	struct sched_figures f;

	(void)state;
	add(b, &ipfs, (struct script){ .act = steady, .delay = 20 });
	add(b, &blocks, (struct script){ .act = steady, .delay = 1 });
	run(b, NEVER);
	assert_int_equal(b->got, 20000);
	assert_int_equal(b->by[0], 20000); /* the stage counts, not the speed */
	/* More in flight raise the rate here, so they are used, but never more than the limit. */
	assert_int_equal(b->scripts[0].most, SCHED_WINDOW_MAX);
	sched_figures(b->s, 0, &f);
	assert_int_equal(f.latency_ms, 20);
	assert_int_equal(f.deadline_ms, SCHED_DEADLINE_MIN_MS);
	assert_int_equal(f.delivered, 20000);
	bed_free(b);
}

static void
serial_source(void **state)
{
	struct bed *b = bed_new(512, 20000, 0);

	(void)state;
	add(b, &ipfs, (struct script){ .act = serial, .delay = 1 });
	assert_in_range(run(b, NEVER), 20000, 20100);
	/* More in flight are of no use: one step now and then to see, no more. */
	assert_in_range(b->scripts[0].most, SCHED_WINDOW_BEGIN, SCHED_WINDOW_BEGIN + 40);
	assert_int_equal(b->twice, 0);
	bed_free(b);
}

/* Each request in flight needs a connection: a small nar from nearby needs few, and one from afar gets there in time. */
static void
beginning(void **state)
{
	static const struct {
		uint64_t (*act)(struct script *self, unsigned n, uint64_t now, enum sched_outcome *outcome);
		unsigned delay, total, least, most, took;
	} kinds[] = {
		{ serial, 1, 157, 8, 2 * SCHED_WINDOW_BEGIN, 160 },
		{ serial, 4, 157, 8, 2 * SCHED_WINDOW_BEGIN, 640 },
		{ steady, 20, 157, 64, 64, 100 },     /* 8, 16, 32, 64 */
		{ steady, 100, 256, 64, 96, 500 },    /* 8, 64, 64, 96 */
		{ steady, 100, 2000, 192, 256, 1400 },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
		struct bed *b = bed_new(512, kinds[i].total, 0);

		add(b, &ipfs, (struct script){ .act = kinds[i].act, .delay = kinds[i].delay });
		add(b, &blocks, (struct script){ .act = steady, .delay = 1 });
		sched_reached(b->s, 0);
		assert_in_range(run(b, NEVER), 1, kinds[i].took);
		assert_in_range(b->scripts[0].most, kinds[i].least, kinds[i].most);
		assert_int_equal(b->got, kinds[i].total);
		bed_free(b);
	}
}

/* It is known to be far: it may have many in flight at once. */
static void
wide(struct sched *s, uint64_t now)
{
	struct sched_ask a[SCHED_WINDOW_BEGIN];
	uint8_t ref[ERIS_REF];

	sched_reached(s, 0);
	for (unsigned i = 0; i < SCHED_WINDOW_BEGIN; i++) {
		ref_of(ref, 1000000 + i);
		assert_int_equal(sched_want(s, now, ref, 0), 1);
		assert_int_equal(sched_next(s, now, &a[i]), 1);
		assert_int_equal(a[i].source, 0);
	}
	for (unsigned i = 0; i < SCHED_WINDOW_BEGIN; i++)
		assert_int_equal(sched_answer(s, now + SCHED_FAR_MS, a[i].id, SCHED_BLOCK, 0, NULL), 1);
}

/* Nobody there: one attempt, remembered by the caller for the next nar. */
static void
unreachable(void **state)
{
	struct bed *b = bed_new(512, 2000, 0);
	struct sched_source remembered = ipfs;
	struct sched_figures f;

	(void)state;
	add(b, &ipfs, (struct script){ .act = refuses });
	add(b, &blocks, (struct script){ .act = steady, .delay = 5 });
	assert_true(run(b, NEVER) < 1000);
	assert_int_equal(b->scripts[0].asked, 1);
	assert_int_equal(b->by[1], 2000);
	sched_figures(b->s, 0, &f);
	assert_int_equal(f.health, SCHED_DEAD);
	assert_string_equal(f.why, "cannot be reached");
	remembered.dead_until = f.dead_until;
	bed_free(b);

	b = bed_new(512, 2000, 0);
	add(b, &remembered, (struct script){ .act = refuses });
	add(b, &blocks, (struct script){ .act = steady, .delay = 5 });
	run(b, NEVER);
	assert_int_equal(b->scripts[0].asked, 0);
	assert_int_equal(b->got, 2000);
	bed_free(b);
}

/* A daemon that hangs from the start: one request waits, all others go on after the grace. */
static void
hangs_at_once(void **state)
{
	struct bed *b = bed_new(512, 20000, 0);
	struct sched_figures f;

	(void)state;
	add(b, &ipfs, (struct script){ .act = hangs, .delay = 5, .until = NEVER });
	add(b, &blocks, (struct script){ .act = steady, .delay = 100 });
	/* 20000 blocks, at least 64 in 100 ms. */
	assert_true(run(b, NEVER) < 20000);
	assert_int_equal(b->by[1], 20000);
	assert_true(b->scripts[0].asked <= 1 + 5);
	assert_int_equal(b->scripts[0].most, 1);
	sched_figures(b->s, 0, &f);
	assert_int_equal(f.health, SCHED_BYPASSED);
	assert_string_equal(f.why, "does not answer");
	bed_free(b);
}

/* Stopped in the middle: nothing is lost but the deadline, which is short by then; and it comes back. */
static void
hangs_in_the_middle(void **state)
{
	struct bed *b = bed_new(512, 200000, 0);
	struct sched_figures f;
	unsigned before;

	(void)state;
	add(b, &ipfs, (struct script){ .act = hangs, .delay = 10, .from = 2000, .until = 12000 });
	add(b, &blocks, (struct script){ .act = steady, .delay = 40 });
	run(b, 2000);
	assert_int_equal(b->by[1], 0);
	assert_true(b->by[0] > 1000);
	run(b, 2000 + 1500);
	assert_true(b->by[1] > 100); /* at once, from elsewhere, where it is late */
	sched_figures(b->s, 0, &f);
	assert_int_equal(f.health, SCHED_USABLE);
	run(b, 2000 + SCHED_DEADLINE_MS / 2 + 1000);
	sched_figures(b->s, 0, &f);
	assert_int_equal(f.health, SCHED_BYPASSED);
	assert_true(b->by[1] > 500); /* within seconds, all of them */
	run(b, 11000);
	before = b->scripts[0].asked;
	assert_true(b->scripts[0].flying <= 1);
	run(b, 30000);
	assert_true(b->scripts[0].asked > before + 1000);
	sched_figures(b->s, 0, &f);
	assert_int_equal(f.health, SCHED_USABLE);
	assert_null(f.why);
	run(b, NEVER);
	assert_int_equal(b->got, 200000);
	bed_free(b);
}

/* A fifth is missing: those come from elsewhere, the rest not. */
static void
some_missing(void **state)
{
	struct bed *b = bed_new(512, 10000, 0);
	struct sched_figures f;

	(void)state;
	add(b, &ipfs, (struct script){ .act = lacks_some, .delay = 10, .every = 5 });
	add(b, &blocks, (struct script){ .act = steady, .delay = 10 });
	run(b, NEVER);
	assert_in_range(b->by[0], 7700, 8000);
	assert_int_equal(b->by[0] + b->by[1], 10000);
	sched_figures(b->s, 0, &f);
	assert_int_equal(f.health, SCHED_USABLE);
	assert_in_range(f.missed, 1900, 2000);
	bed_free(b);
}

/* All is missing: after a few it is left alone, and probed less and less often. */
static void
all_missing(void **state)
{
	struct bed *b = bed_new(512, 60000, 0);
	struct sched_figures f;
	uint64_t took;

	(void)state;
	add(b, &ipfs, (struct script){ .act = lacks_all, .delay = 500 });
	add(b, &blocks, (struct script){ .act = steady, .delay = 50 });
	took = run(b, NEVER);
	assert_int_equal(b->by[1], 60000);
	/* A few at first, then after 1, 3, 7, 15, 31 ... seconds. */
	assert_true(took > 10000);
	assert_true(b->scripts[0].asked <= 1 + 3 * SCHED_WINDOW_BEGIN + 6);
	assert_true(b->scripts[0].asked >= 1 + 2 * SCHED_WINDOW_BEGIN + 3);
	sched_figures(b->s, 0, &f);
	assert_int_equal(f.health, SCHED_BYPASSED);
	assert_string_equal(f.why, "keeps missing blocks");
	bed_free(b);
}

static void
comes_back(void **state)
{
	struct bed *b = bed_new(512, 60000, 0);
	struct sched_figures f;

	(void)state;
	add(b, &ipfs, (struct script){ .act = recovers, .delay = 10, .until = 4000 });
	add(b, &blocks, (struct script){ .act = steady, .delay = 30 });
	run(b, 4000);
	assert_int_equal(b->by[0], 0);
	run(b, NEVER);
	assert_int_equal(b->got, 60000);
	assert_true(b->by[0] > 20000);
	sched_figures(b->s, 0, &f);
	assert_int_equal(f.health, SCHED_USABLE);
	bed_free(b);
}

static void
liar(void **state)
{
	struct bed *b = bed_new(512, 5000, 0);
	struct sched_figures f;
	unsigned asked;

	(void)state;
	add(b, &ipfs, (struct script){ .act = lies, .delay = 10, .every = 700 });
	add(b, &blocks, (struct script){ .act = steady, .delay = 10 });
	while (sched_figures(b->s, 0, &f), f.health != SCHED_LIAR && b->got < b->total)
		run(b, b->now + 1);
	asked = b->scripts[0].asked;
	assert_int_equal(f.dead_until, UINT64_MAX);
	assert_string_equal(f.why, "gave a wrong block");
	assert_int_equal(f.flying, 0); /* nothing more is taken from it */
	run(b, NEVER);
	assert_int_equal(b->got, 5000);
	assert_int_equal(b->scripts[0].asked, asked);
	sched_again(b->s, b->now, 9);
	sched_figures(b->s, 0, &f);
	assert_int_equal(f.health, SCHED_LIAR);
	bed_free(b);
}

/* A file with other bytes is no source, but no liar; and it never had a node. */
static void
another_encoding(void **state)
{
	struct bed *b = bed_new(8, 8, 0);
	struct sched_figures f;
	struct sched_ask a;
	uint8_t ref[ERIS_REF], stuck[ERIS_REF];

	(void)state;
	add(b, &range, (struct script){ .act = steady });
	ref_of(ref, 1);
	sched_want(b->s, 0, ref, 1);
	assert_int_equal(sched_next(b->s, 0, &a), 0);
	assert_int_equal(sched_stuck(b->s, 0, stuck), 1);
	assert_memory_equal(stuck, ref, ERIS_REF);
	ref_of(ref, 2);
	sched_want(b->s, 0, ref, 0);
	assert_int_equal(sched_next(b->s, 0, &a), 1);
	assert_memory_equal(a.ref, ref, ERIS_REF);
	sched_answer(b->s, 1, a.id, SCHED_LIE, 0, NULL);
	sched_figures(b->s, 0, &f);
	assert_int_equal(f.health, SCHED_DROPPED);
	assert_int_equal(f.dead_until, 0);
	assert_int_equal(sched_next(b->s, 2, &a), 0);
	bed_free(b);
}

/* Missing everywhere: the caller is told, has it published again, and it is asked for again. */
static void
again(void **state)
{
	struct bed *b = bed_new(64, 64, 0);

	(void)state;
	add(b, &ipfs, (struct script){ .act = recovers, .delay = 10, .until = 3000 });
	add(b, &blocks, (struct script){ .act = lacks_some, .delay = 10, .every = 4 });
	b->go_on_when_stuck = 1;
	run(b, 3000);
	assert_int_equal(b->got, 48);
	assert_true(b->stucks > 0);
	assert_in_range(b->first_stuck, 1000, 1100);
	run(b, 4000);
	assert_int_equal(b->got, 48);
	sched_again(b->s, b->now, 0);
	run(b, NEVER);
	assert_int_equal(b->got, 64);
	assert_int_equal(b->by[0], 16);
	bed_free(b);
}

static void
busy(void **state)
{
	struct bed *b = bed_new(512, 5000, 0);

	(void)state;
	add(b, &ipfs, (struct script){ .act = is_busy, .delay = 5, .until = 1100 });
	add(b, &blocks, (struct script){ .act = steady, .delay = 5 });
	run(b, NEVER);
	assert_int_equal(b->got, 5000);
	assert_true(b->scripts[0].asked < 5000);
	assert_true(b->by[1] > 0); /* the pause was used */
	bed_free(b);

	/* Nobody else: it is waited for. */
	b = bed_new(512, 5000, 0);
	add(b, &ipfs, (struct script){ .act = is_busy, .delay = 5, .until = 3000 });
	run(b, NEVER);
	assert_int_equal(b->got, 5000);
	bed_free(b);

	/* For ever: then it is given up. */
	b = bed_new(512, 5000, 0);
	add(b, &ipfs, (struct script){ .act = is_busy, .delay = 5, .until = NEVER });
	run(b, 1000 + 120000);
	assert_int_equal(b->stucks, 1);
	bed_free(b);
}

/* Hedges: the slowest are asked elsewhere too, and of all asked never more than 3 %. */
static void
hedges(void **state)
{
	struct bed *b = bed_new(512, 20000, 0);
	struct sched_totals t;
	uint64_t with;

	(void)state;
	add(b, &ipfs, (struct script){ .act = stragglers, .delay = 20, .every = 100 });
	add(b, &blocks, (struct script){ .act = steady, .delay = 20 });
	with = run(b, NEVER);
	sched_totals(b->s, &t);
	assert_int_equal(b->got, 20000);
	assert_true(t.hedged > 100);
	assert_true(t.hedged * 100 <= t.asked * 3);
	assert_in_range(t.asked, 20000, 20100);
	assert_true(b->by[1] > 100);
	bed_free(b);

	b = bed_new(512, 20000, 0);
	add(b, &ipfs, (struct script){ .act = stragglers, .delay = 20, .every = 100 });
	assert_true(run(b, NEVER) >= with); /* hedging has cost nothing */
	sched_totals(b->s, &t);
	assert_int_equal(t.hedged, 0); /* nobody to hedge with */
	bed_free(b);

	/* Half are slow: the bound holds even so (it is checked in every turn). */
	b = bed_new(512, 20000, 0);
	add(b, &ipfs, (struct script){ .act = stragglers, .delay = 20, .every = 2 });
	add(b, &blocks, (struct script){ .act = stragglers, .delay = 30, .every = 3 });
	run(b, NEVER);
	sched_totals(b->s, &t);
	assert_int_equal(b->got, 20000);
	assert_true(t.hedged > 0 && t.hedged * 100 <= t.asked * 3);
	bed_free(b);
}

static void
far_slower(void **state)
{
	struct bed *b = bed_new(1024, 60000, 0);
	struct sched_figures f;

	(void)state;
	/* 20 blocks a second, and one that has no such limit: within a stage the better one is taken. */
	add(b, &ipfs, (struct script){ .act = serial, .delay = 50 });
	add(b, &ipfs, (struct script){ .act = steady, .delay = 20 });
	assert_true(run(b, NEVER) < 20000);
	assert_true(b->by[1] > 55000);
	bed_free(b);

	/* And the order of stages does not bind to one that is far slower. */
	b = bed_new(512, 60000, 0);
	add(b, &ipfs, (struct script){ .act = serial, .delay = 50 });
	add(b, &blocks, (struct script){ .act = steady, .delay = 20 });
	do {
		run(b, b->now + 10);
		sched_figures(b->s, 0, &f);
	} while (f.health != SCHED_BYPASSED && b->now < 20000);
	assert_int_equal(f.health, SCHED_BYPASSED);
	assert_string_equal(f.why, "far slower than another source");
	run(b, NEVER);
	assert_int_equal(b->got, 60000);
	assert_true(b->by[1] > 55000);
	bed_free(b);

	/* It does to one that brings 4 MiB a second: later stages are for what is missing. */
	b = bed_new(512, 3000, 0);
	add(b, &ipfs, (struct script){ .act = serial, .delay = 8 });
	add(b, &blocks, (struct script){ .act = steady, .delay = 1 });
	run(b, NEVER);
	assert_int_equal(b->got, 3000);
	assert_true(b->by[0] > 2850);
	bed_free(b);
}

/* A node that only a source has which pauses is hoped for until the deadline after its last block. */
static void
pause_before_a_node(void **state)
{
	struct err e;
	struct sched *s = sched_new(64, 5000, &e);
	struct sched_figures f;
	struct sched_ask a;
	uint32_t ids[40];
	uint8_t ref[ERIS_REF];
	unsigned n = 0;

	(void)state;
	assert_int_equal(sched_source(s, &ipfs, &e), 0);
	assert_int_equal(sched_source(s, &range, &e), 1);
	wide(s, 0);
	for (unsigned i = 0; i < 40; i++) {
		ref_of(ref, i);
		assert_int_equal(sched_want(s, 0, ref, 0), 1);
	}
	while (n < 40 && sched_next(s, 0, &a)) {
		assert_int_equal(a.source, 0);
		ids[n++] = a.id;
	}
	for (unsigned i = 0; i < n / 2; i++)
		(void)sched_answer(s, 50, ids[i], SCHED_BLOCK, 0, NULL);
	ref_of(ref, 100);
	assert_int_equal(sched_want(s, 50, ref, 1), 1);
	while (sched_next(s, 5000, &a))
		assert_true(a.source == 1 || a.hedge || a.level == 1);
	sched_figures(s, 0, &f);
	assert_int_equal(f.health, SCHED_BYPASSED);
	assert_int_equal(sched_stuck(s, 5049, ref), 0);
	assert_true(sched_due(s, 5000) <= 5050);
	assert_int_equal(sched_stuck(s, 5050, ref), 1);
	sched_free(s);
}

static struct sched *
one_wanted(const struct sched_source *sources, unsigned n)
{
	struct sched *s = sched_new(4, 5000, NULL);
	uint8_t ref[ERIS_REF];

	ref_of(ref, 1);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(sched_source(s, &sources[i], NULL), i);
		sched_reached(s, i);
	}
	assert_int_equal(sched_want(s, 0, ref, 0), 1);
	return s;
}

/* A source that breaks every connection is as good as none after two pauses; one that answers in between is not. */
static void
breaks(void **state)
{
	const struct sched_source source = { .by_id = 1 };

	(void)state;
	for (int answers = 0; answers < 2; answers++) {
		struct sched *s = one_wanted(&source, 1);
		struct sched_figures f;
		struct sched_ask a;
		unsigned n = 0;

		for (uint64_t now = 0; now < 3000; now += 10)
			while (sched_next(s, now, &a))
				(void)sched_answer(s, now, a.id, answers && ++n % 2 == 0 ? SCHED_BUSY : SCHED_BREAKS, 0,
				    NULL);
		sched_figures(s, 0, &f);
		assert_int_equal(f.health, answers ? SCHED_USABLE : SCHED_DEAD);
		if (!answers)
			assert_true(f.dead_until >= SCHED_DEAD_MS && f.asked == 3);
		sched_free(s);
	}
}

/* Only when everybody has said no, and until they may have got it. */
static void
nowhere(void **state)
{
	const struct sched_source sources[] = { { .by_id = 1 }, { .by_id = 1, .stage = 1 } };
	struct sched *s = one_wanted(sources, 2);
	struct sched_ask a;

	(void)state;
	assert_int_equal(sched_next(s, 0, &a), 1);
	(void)sched_answer(s, 0, a.id, SCHED_MISSING, 0, NULL);
	assert_int_equal(sched_nowhere(s, 0), 0);
	assert_int_equal(sched_next(s, 0, &a), 1);
	assert_int_equal(sched_nowhere(s, 0), 0);
	(void)sched_answer(s, 0, a.id, SCHED_UNREACHABLE, 0, NULL);
	assert_int_equal(sched_nowhere(s, 0), 1);
	sched_again(s, 0, 1);
	assert_int_equal(sched_nowhere(s, 0), 0);
	sched_free(s);
}

/* It has looked for it until its time was over: that is not no. */
static void
ran_out(void **state)
{
	const struct sched_source by_id = { .by_id = 1 }, file = { .leaves = 1 };

	(void)state;
	for (int k = 0; k < 4; k++) {
		struct sched *s = one_wanted(k == 3 ? &file : &by_id, 1);
		const uint64_t after[] = { 3749, 3750, 4375, 4375 };
		struct sched_ask a;
		uint8_t ref[ERIS_REF];

		assert_int_equal(sched_next(s, 0, &a), 1);
		(void)sched_answer(s, after[k], a.id, SCHED_MISSING, 0, NULL);
		assert_int_equal(sched_stuck(s, after[k], ref), 1); /* there may be other ways: they are taken at once */
		assert_int_equal(sched_next(s, after[k] + 100000, &a), 0);
		assert_int_equal(sched_nowhere(s, after[k]), k == 0 || k == 3);
		sched_free(s);
	}
}

/* There is no other way: what was not found in time is asked for again, with more time and not too often; what is not
 * there, is not. */
static void
insists(void **state)
{
	const struct sched_source source = { .by_id = 1 };
	struct sched *s = one_wanted(&source, 1);
	struct sched_ask a;
	uint64_t now = 0;
	uint8_t ref[ERIS_REF];

	(void)state;
	sched_insist(s, 0);
	for (unsigned i = 0; i < 6; i++) {
		const uint64_t pause = (uint64_t)SCHED_RETRY_MS << (i < 3 ? i : 3);

		assert_int_equal(sched_next(s, now, &a), 1);
		assert_int_equal(a.timeout_ms, i == 0 ? 5000 : i == 1 ? 10000 : 20000);
		if (i % 2 == 0) { /* it says so, or it says nothing */
			now += a.timeout_ms - a.timeout_ms / 8;
			(void)sched_answer(s, now, a.id, SCHED_MISSING, 0, NULL);
		} else {
			uint32_t id;

			now += a.timeout_ms;
			assert_int_equal(sched_next(s, now, &a), 0);
			assert_int_equal(sched_cancel(s, &id), 1);
		}
		assert_int_equal(sched_stuck(s, now, ref), 1);
		assert_int_equal(sched_nowhere(s, now), 0);
		assert_int_equal(sched_due(s, now), now + pause);
		assert_int_equal(sched_next(s, now + pause - 1, &a), 0);
		now += pause;
	}
	assert_int_equal(sched_next(s, now, &a), 1);
	(void)sched_answer(s, now + 10, a.id, SCHED_MISSING, 0, NULL);
	assert_int_equal(sched_nowhere(s, now + 10), 1);
	assert_int_equal(sched_next(s, now + 100000, &a), 0);
	sched_free(s);
}

/* A swarm that is slow but lives: all comes, at its pace, however many requests it lets run out. */
static void
slow_swarm(void **state)
{
	static const struct {
		uint32_t delay;
		uint64_t from; /* until then it finds nothing at all */
		unsigned total, most;
	} kinds[] = { { 100, 0, 2000, 260 }, { 1500, 0, 100, 220 }, { 1500, 30000, 50, 180 }, { 7000, 0, 10, 160 },
	    { 15000, 0, 5, 240 } };

	(void)state;
	for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
		struct bed *b = bed_new(512, kinds[i].total, 0);
		uint64_t took;

		add(b, &ipfs, (struct script){ .act = swarm, .delay = kinds[i].delay, .from = kinds[i].from });
		sched_reached(b->s, 0);
		b->go_on_when_stuck = 1;
		sched_insist(b->s, b->now);
		took = run(b, 3600000);
		assert_int_equal(b->got, kinds[i].total);
		assert_int_equal(sched_nowhere(b->s, b->now), 0);
		assert_in_range(took, 1, kinds[i].most * 1000);
		bed_free(b);
	}
}

/* One of two sources gets on with it while the other one finds nothing in time. */
static void
slow_swarm_is_bypassed(void **state)
{
	struct bed *b = bed_new(512, 3000, 0);
	uint64_t took;

	(void)state;
	add(b, &ipfs, (struct script){ .act = swarm, .delay = 10, .from = NEVER });
	add(b, &blocks, (struct script){ .act = steady, .delay = 50 });
	sched_insist(b->s, b->now);
	took = run(b, 3600000);
	assert_int_equal(b->got, 3000);
	assert_in_range(took, 1, 15000);
	bed_free(b);
}

/* Daemons that look for each block until their time is over, and find none: the others wait for the first of them only,
 * however many such daemons there are. */
static void
searching(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= 4; n++) {
		struct bed *b = bed_new(512, 400, 0);

		for (unsigned i = 0; i < n; i++) {
			add(b, &ipfs, (struct script){ .act = swarm, .from = NEVER });
			if (i % 2 == 0) /* the others have not even said that they are there */
				sched_reached(b->s, i);
		}
		add(b, &blocks, (struct script){ .act = steady, .delay = 20 });
		assert_in_range(run(b, NEVER), 4375, 4375 + 400);
		assert_int_equal(b->by[n], 400);
		bed_free(b);
	}
}

/* A source's own deadline holds, until all are asked again. */
static void
own_deadline(void **state)
{
	const struct sched_source source = { .by_id = 1, .deadline_ms = 500 };
	struct sched *s = one_wanted(&source, 1);
	struct sched_ask a;

	(void)state;
	assert_int_equal(sched_next(s, 0, &a), 1);
	assert_int_equal(a.timeout_ms, 500);
	(void)sched_answer(s, 0, a.id, SCHED_MISSING, 0, NULL);
	sched_again(s, 0, 0);
	assert_int_equal(sched_next(s, 0, &a), 1);
	assert_int_equal(a.timeout_ms, 5000);
	sched_free(s);
}

/* Exactly how much is too much. */
static void
in_a_row(void **state)
{
	struct bed *b = bed_new(40, 40, 1000);
	struct sched_figures f;
	struct sched_ask a[40];
	uint8_t ref[ERIS_REF];
	uint32_t id;

	(void)state;
	add(b, &ipfs, (struct script){ .act = steady });
	sched_reached(b->s, 0);
	for (unsigned i = 0; i < 16; i++) {
		sched_figures(b->s, 0, &f);
		assert_int_equal(f.health, SCHED_USABLE);
		ref_of(ref, i);
		sched_want(b->s, 0, ref, 0);
		assert_int_equal(sched_next(b->s, 0, &a[0]), 1);
		sched_answer(b->s, 0, a[0].id, SCHED_MISSING, 0, NULL);
	}
	sched_figures(b->s, 0, &f);
	assert_int_equal(f.health, SCHED_BYPASSED);
	bed_free(b);

	/* Seven are late at 1000, the eighth and with it all others at 1001. */
	b = bed_new(40, 40, 1000);
	add(b, &ipfs, (struct script){ .act = steady });
	wide(b->s, 0);
	for (unsigned i = 0; i < 40; i++) {
		ref_of(ref, i);
		sched_want(b->s, 0, ref, 0);
		assert_int_equal(sched_next(b->s, i >= 7, &a[i]), 1);
	}
	assert_int_equal(sched_next(b->s, 1000, &a[0]), 0);
	sched_figures(b->s, 0, &f);
	assert_true(f.health == SCHED_USABLE && f.late == 7 && f.flying == 33);
	assert_int_equal(sched_next(b->s, 1001, &a[0]), 0);
	sched_figures(b->s, 0, &f);
	assert_true(f.health == SCHED_BYPASSED && f.late == 8 && f.flying == 0);
	for (unsigned i = 0; i < 40; i++)
		assert_int_equal(sched_cancel(b->s, &id), 1);
	assert_int_equal(sched_cancel(b->s, &id), 0);
	bed_free(b);
}

/* The deadline is what was configured until the latency is known, and never longer. */
static void
deadlines(void **state)
{
	struct bed *b = bed_new(64, 64, 700);
	struct sched_figures f;

	(void)state;
	add(b, &ipfs, (struct script){ .act = steady, .delay = 600 });
	sched_figures(b->s, 0, &f);
	assert_int_equal(f.deadline_ms, 700);
	run(b, NEVER);
	assert_int_equal(b->got, 64);
	sched_figures(b->s, 0, &f);
	assert_int_equal(f.deadline_ms, 700);
	bed_free(b);

	b = bed_new(64, 64, 100);
	add(b, &ipfs, (struct script){ .act = steady, .delay = 1 });
	run(b, NEVER);
	sched_figures(b->s, 0, &f);
	assert_true(f.deadline_ms <= 100);
	bed_free(b);
}

/* A stream brings blocks in order; what it skips or holds up is asked for at once. */
static void
stream(void **state)
{
	struct bed *b = bed_new(100, 100, 0);
	struct sched_ask a;
	struct sched_totals t;
	uint8_t ref[ERIS_REF];
	uint64_t now = 1000;

	(void)state;
	add(b, &ipfs, (struct script){ .act = steady });
	wide(b->s, now - 100);
	sched_stream(b->s, now, 1);
	for (unsigned i = 0; i < 100; i++) {
		ref_of(ref, i);
		sched_want(b->s, now, ref, 0);
	}
	assert_int_equal(sched_next(b->s, now, &a), 0);
	for (unsigned i = 0; i < 50; i++) {
		ref_of(ref, i);
		now += 2;
		if (i != 20 && i != 30)
			assert_int_equal(sched_arrived(b->s, now, ref), 1);
		if (i != 21 && i != 31)
			assert_int_equal(sched_next(b->s, now, &a), 0);
		else { /* skipped */
			assert_int_equal(sched_next(b->s, now, &a), 1);
			assert_int_equal(number_of(a.ref), i - 1);
			if (i == 21)
				assert_int_equal(sched_answer(b->s, now, a.id, SCHED_BLOCK, 0, NULL), 1);
		}
	}
	/* It comes late, but before the one who was asked. */
	ref_of(ref, 30);
	assert_int_equal(sched_arrived(b->s, now, ref), 1);
	assert_int_equal(sched_arrived(b->s, now, ref), 0);
	uint32_t id;
	assert_int_equal(sched_cancel(b->s, &id), 1);
	assert_int_equal(sched_cancel(b->s, &id), 0);
	/* Silence: the rest is asked for elsewhere; and not before. */
	assert_in_range(sched_due(b->s, now), now + 1, now + 300);
	now = sched_due(b->s, now);
	for (unsigned i = 50; i < 100; i++) {
		assert_int_equal(sched_next(b->s, now, &a), 1);
		assert_int_equal(number_of(a.ref), i);
	}
	sched_totals(b->s, &t);
	assert_int_equal(t.streamed, 49);
	bed_free(b);

	/* A slow drip holds up the first block no longer than the deadline. */
	b = bed_new(100, 100, 2000);
	add(b, &ipfs, (struct script){ .act = steady });
	sched_reached(b->s, 0);
	sched_stream(b->s, 0, 1);
	for (unsigned i = 0; i < 100; i++) {
		ref_of(ref, i);
		sched_want(b->s, 0, ref, 0);
	}
	for (now = 1; now < 2000; now += 900) {
		ref_of(ref, (unsigned)(now / 900));
		assert_int_equal(sched_arrived(b->s, now, ref), 1);
		assert_int_equal(sched_next(b->s, now, &a), 0);
	}
	assert_int_equal(sched_next(b->s, 2100, &a), 1);
	assert_int_equal(number_of(a.ref), 3);
	bed_free(b);
}

/* Any answers in any order: nothing is delivered twice, the bounds hold, and no slot is lost. */
static uint64_t
chaos(struct script *self, unsigned n, uint64_t now, enum sched_outcome *outcome)
{
	static const enum sched_outcome outcomes[] = { SCHED_BLOCK, SCHED_BLOCK, SCHED_BLOCK, SCHED_MISSING,
	    SCHED_BUSY };

	(void)now;
	self->free_at = self->free_at * 6364136223846793005u + n + 1442695040888963407u;
	*outcome = outcomes[(self->free_at >> 33) % 5];
	return (self->free_at >> 40) % 50 == 0 ? NEVER : (self->free_at >> 45) % 3000;
}

static void
anything(void **state)
{
	(void)state;
	for (unsigned seed = 0; seed < 10; seed++) {
		struct bed *b = bed_new(300, 3000, 1000);

		for (unsigned i = 0; i < 4; i++)
			add(b, i % 2 == 0 ? &ipfs : &blocks, (struct script){ .act = chaos, .free_at = seed * 7 + i });
		add(b, &range, (struct script){ .act = steady, .delay = 100 });
		b->go_on_when_stuck = 1;
		run(b, NEVER);
		assert_int_equal(b->got, 3000);
		b->now += 100000; /* probes go on to their end */
		ask_all(b);
		assert_int_equal(sched_room(b->s), 300);
		bed_free(b);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_sizes),
		cmocka_unit_test(order),
		cmocka_unit_test(fast_source),
		cmocka_unit_test(serial_source),
		cmocka_unit_test(beginning),
		cmocka_unit_test(unreachable),
		cmocka_unit_test(hangs_at_once),
		cmocka_unit_test(hangs_in_the_middle),
		cmocka_unit_test(some_missing),
		cmocka_unit_test(all_missing),
		cmocka_unit_test(comes_back),
		cmocka_unit_test(liar),
		cmocka_unit_test(another_encoding),
		cmocka_unit_test(again),
		cmocka_unit_test(busy),
		cmocka_unit_test(hedges),
		cmocka_unit_test(far_slower),
		cmocka_unit_test(pause_before_a_node),
		cmocka_unit_test(in_a_row),
		cmocka_unit_test(breaks),
		cmocka_unit_test(nowhere),
		cmocka_unit_test(ran_out),
		cmocka_unit_test(insists),
		cmocka_unit_test(slow_swarm),
		cmocka_unit_test(slow_swarm_is_bypassed),
		cmocka_unit_test(searching),
		cmocka_unit_test(own_deadline),
		cmocka_unit_test(deadlines),
		cmocka_unit_test(stream),
		cmocka_unit_test(anything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
