/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): leaves out of the ordinary nar file of one server, by HTTP Range. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helper/eris/block.h"
#include "helper/fetch/rangeget.h"
#include "helper/fetch/transfer.h"

/* Leaves in one request, and how many that nobody wants are taken along in a hole. */
#define LONGEST 32
#define GAP 4
/* Pieces of 32 KiB are wanted, several at a time. */
#define FILE_BUFFER (64L * 1024)
/* A leaf that is not complete after so many stall times comes too slowly. */
#define SLOW 2

struct leaf {
	uint64_t index;
	uint8_t flight; /* its number and 1, or 0: waits for one */
	uint8_t ref[ERIS_REF];
};

enum flight_state { FREE, WAITING /* for a name */, RUNNING };

struct flight {
	struct rangeget *r;
	struct transfer transfer;
	enum flight_state state;
	struct range_run run;
	uint8_t judged;
	enum range_verdict verdict;  /* of the header */
	const char *why;
	uint8_t whole;               /* the whole file comes, from its beginning */
	uint8_t take;                /* what is to be done with the leaf at hand */
	uint8_t decided;             /* `take' is */
	uint8_t paused;
	uint8_t enough;              /* we broke it off */
	uint64_t at;                 /* the leaf at hand */
	size_t got;                  /* bytes of it */
	size_t skip;                 /* bytes that libcurl gives again after a pause */
	uint64_t leaf_ms;            /* when it began */
	uint8_t *buf;                /* ERIS_LARGE bytes */
};

struct rangeget {
	struct fetch *fetch;
	const struct rangeget_owner *calls;
	void *owner;
	struct url url, moved;       /* as it was given; where redirects led */
	uint8_t has_moved;
	uint64_t size;
	struct leaf leaves[RANGEGET_LEAVES]; /* ascending */
	size_t nleaves;
	uint64_t expect;
	uint8_t proven;              /* it does ranges */
	uint8_t whole_only;          /* it does not */
	uint8_t resume;
	uint64_t busy_until, useful;
	struct range_source seen;
	uint8_t dead;
	enum sched_outcome dead_outcome;
	struct err dead_why;
	struct flight flights[RANGEGET_FLIGHTS];
	uint8_t block[ERIS_LARGE];
};

static size_t on_body(void *owner, const char *data, size_t n);
static void on_done(void *owner, CURLcode result);

static const struct transfer_owner calls = { on_body, on_done };

struct rangeget *
rangeget_new(struct fetch *f, const struct url *url, uint64_t size, const struct rangeget_owner *owner_calls,
    void *owner, struct err *e)
{
	struct rangeget *r = calloc(1, sizeof *r);

	if (r == NULL)
		return (void)err_set(e, "no memory for ranges"), NULL;
	r->fetch = f;
	r->calls = owner_calls;
	r->owner = owner;
	r->url = *url;
	r->size = size;
	return r;
}

static void
stop(struct flight *fl)
{
	if (fl->state == RUNNING)
		transfer_stop(&fl->transfer);
	fl->state = FREE;
	free(fl->buf);
	fl->buf = NULL;
}

void
rangeget_free(struct rangeget *r)
{
	if (r == NULL)
		return;
	for (size_t i = 0; i < RANGEGET_FLIGHTS; i++) {
		stop(&r->flights[i]);
		if (r->flights[i].r != NULL)
			transfer_free(&r->flights[i].transfer);
	}
	free(r);
}

/* --- Leaves ------------------------------------------------------------------------------------------ */

/* Where INDEX is, or would be. */
static size_t
place(const struct rangeget *r, uint64_t index)
{
	size_t low = 0, high = r->nleaves;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (r->leaves[middle].index < index)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct leaf *
find(struct rangeget *r, uint64_t index)
{
	size_t i = place(r, index);

	return i < r->nleaves && r->leaves[i].index == index ? &r->leaves[i] : NULL;
}

static void
forget(struct rangeget *r, size_t i)
{
	memmove(&r->leaves[i], &r->leaves[i + 1], (--r->nleaves - i) * sizeof r->leaves[0]);
}

int
rangeget_want(struct rangeget *r, uint64_t index, const uint8_t ref[ERIS_REF])
{
	size_t i = place(r, index);

	if (i < r->nleaves && r->leaves[i].index == index)
		return 1;
	if (r->nleaves == RANGEGET_LEAVES)
		return 0;
	memmove(&r->leaves[i + 1], &r->leaves[i], (r->nleaves++ - i) * sizeof r->leaves[0]);
	r->leaves[i] = (struct leaf){ .index = index };
	memcpy(r->leaves[i].ref, ref, ERIS_REF);
	return 1;
}

void
rangeget_drop(struct rangeget *r, uint64_t index)
{
	struct leaf *leaf = find(r, index);

	if (leaf != NULL)
		forget(r, (size_t)(leaf - r->leaves));
}

void
rangeget_expect(struct rangeget *r, uint64_t leaves)
{
	r->expect = leaves;
}

/* Report the leaves of flight number FLIGHT (or those that wait for one: 0; or ANY) that lie before BEFORE.
 * The owner may want others in between. */
#define ANY UINT8_MAX
static void
give_up(struct rangeget *r, uint8_t flight, uint64_t before, enum sched_outcome outcome, uint32_t retry_ms,
    const char *why)
{
	uint64_t gone[RANGEGET_LEAVES];
	size_t n = 0;

	for (size_t i = r->nleaves; i-- > 0;)
		if ((flight == ANY || r->leaves[i].flight == flight) && r->leaves[i].index < before) {
			gone[n++] = r->leaves[i].index;
			forget(r, i);
		}
	while (n > 0)
		r->calls->leaf(r->owner, gone[--n], outcome, NULL, retry_ms, why);
}

/* Those of a flight that has ended may go with another one. */
static void
wait_again(struct rangeget *r, uint8_t flight)
{
	for (size_t i = 0; i < r->nleaves; i++)
		if (r->leaves[i].flight == flight)
			r->leaves[i].flight = 0;
}

static uint8_t
number(const struct flight *fl)
{
	return (uint8_t)(fl - fl->r->flights + 1);
}

static const struct flight *
whole_flight(const struct rangeget *r)
{
	for (size_t i = 0; i < RANGEGET_FLIGHTS; i++)
		if (r->flights[i].state != FREE && r->flights[i].whole)
			return &r->flights[i];
	return NULL;
}

static void
die(struct rangeget *r, enum sched_outcome outcome, const char *why)
{
	if (r->dead)
		return;
	r->dead = 1;
	r->dead_outcome = outcome;
	(void)err_set(&r->dead_why, "%s: %s", r->url.host, why);
}

const char *
rangeget_dead(const struct rangeget *r)
{
	return r->dead ? r->dead_why.text : NULL;
}

/* The file as far as it was seen says that the leaf is made of these bytes. */
static void
rebuild(struct rangeget *r, struct leaf *leaf, const uint8_t *data, size_t len)
{
	uint64_t index = leaf->index;

	switch (range_rebuild(&r->seen, r->block, leaf->ref, data, len)) {
	case RANGE_FITS:
		r->useful = r->fetch->now;
		forget(r, (size_t)(leaf - r->leaves));
		r->calls->leaf(r->owner, index, SCHED_BLOCK, r->block, 0, NULL);
		break;
	case RANGE_ANOTHER:
		die(r, SCHED_FOREIGN, "its file is another encoding of the nar");
		break;
	case RANGE_CHANGED:
		die(r, SCHED_FOREIGN, "its file has changed");
	}
}

/* --- Answers ----------------------------------------------------------------------------------------- */

static int
worth_reading(const struct rangeget *r)
{
	uint64_t last = r->nleaves > 0 ? r->leaves[r->nleaves - 1].index + 1 : 0;
	uint64_t missing = r->nleaves + r->expect;

	if (r->expect > 0 && r->size != RANGE_UNKNOWN)
		return range_read_on(missing, r->size, r->size);
	/* What is expected lies behind what is wanted. */
	return range_read_on(missing, r->size, (last + r->expect) * ERIS_LARGE);
}

static void
begin_whole(struct flight *fl)
{
	struct rangeget *r = fl->r;

	r->whole_only = 1;
	if (!worth_reading(r)) {
		fl->enough = 1;
		return;
	}
	fl->whole = 1;
	fl->at = 0;
	for (size_t i = 0; i < RANGEGET_FLIGHTS; i++)
		if (&r->flights[i] != fl && r->flights[i].state != FREE)
			r->flights[i].enough = 1; /* stopped at the next pump: we are within libcurl */
	for (size_t i = 0; i < r->nleaves; i++)
		r->leaves[i].flight = number(fl);
}

static void
judge(struct flight *fl)
{
	struct rangeget *r = fl->r;
	const struct answer *a = &fl->transfer.answer;
	struct range_answer answer = { .status = a->status, .length = a->length, .start = a->range_start,
		.end = a->range_end, .total = a->range_total, .encoding = a->encoding };

	fl->judged = 1;
	fl->leaf_ms = r->fetch->now;
	fl->verdict = range_judge(&answer, &fl->run, r->size, &fl->why);
	if (fl->verdict > RANGE_BEHIND)
		return;
	if (fl->transfer.redirects > 0) {
		r->moved = fl->transfer.url;
		r->has_moved = 1;
	}
	if (fl->verdict == RANGE_WHOLE) {
		if (r->size == RANGE_UNKNOWN && a->length >= 0)
			r->size = (uint64_t)a->length;
		begin_whole(fl);
		return;
	}
	if (r->size == RANGE_UNKNOWN && a->range_total >= 0)
		r->size = (uint64_t)a->range_total;
	if (fl->verdict == RANGE_PART)
		r->proven = 1;
}

/* What to do with the leaf that begins.  0: not now. */
static int
decide(struct flight *fl)
{
	struct rangeget *r = fl->r;
	enum rangeget_use use;

	if (find(r, fl->at) != NULL) {
		use = RANGEGET_TAKE;
	} else if (!fl->whole || r->calls->offer == NULL) {
		use = RANGEGET_SKIP;
	} else if ((use = r->calls->offer(r->owner, fl->at)) == RANGEGET_WAIT) {
		return 0;
	}
	fl->take = use == RANGEGET_TAKE;
	fl->decided = 1;
	return 1;
}

/* The leaf at hand is complete. */
static void
finish_leaf(struct flight *fl)
{
	struct rangeget *r = fl->r;
	struct leaf *leaf = find(r, fl->at);
	struct eris_pair pair;

	if (fl->take && leaf != NULL) {
		rebuild(r, leaf, fl->buf, fl->got);
	} else if (fl->take && r->calls->extra != NULL) {
		block_leaf(r->block, &pair, fl->buf, fl->got, ERIS_LARGE);
		r->calls->extra(r->owner, fl->at, pair.ref, r->block);
	}
	fl->at++;
	fl->got = 0;
	fl->decided = 0;
	fl->leaf_ms = r->fetch->now;
}

static int
still_wanted(const struct flight *fl)
{
	const struct rangeget *r = fl->r;

	if (fl->whole && r->expect > 0)
		return 1;
	if (fl->whole)
		return r->nleaves > 0 && r->leaves[r->nleaves - 1].index >= fl->at;
	for (size_t i = 0; i < r->nleaves; i++)
		if (r->leaves[i].flight == number(fl))
			return 1;
	return 0;
}

/* Takes what it can of the N bytes at DATA; the number of them. */
static size_t
take(struct flight *fl, const uint8_t *data, size_t n)
{
	struct rangeget *r = fl->r;
	size_t used = 0, len, part;
	uint64_t offset;

	while (used < n && !r->dead && !fl->enough) {
		if (range_leaf(fl->at, r->size, &offset, &len) != RANGE_BYTES) {
			die(r, SCHED_FOREIGN, "its file is longer than it says");
			break;
		}
		if (!fl->whole && fl->at >= fl->run.first + fl->run.count) {
			die(r, SCHED_FOREIGN, "more than was asked for");
			break;
		}
		if (!fl->decided && !decide(fl))
			break;
		part = len - fl->got < n - used ? len - fl->got : n - used;
		if (fl->take)
			memcpy(fl->buf + fl->got, data + used, part);
		fl->got += part;
		used += part;
		if (fl->got == len)
			finish_leaf(fl);
		if (fl->decided == 0 && !still_wanted(fl))
			fl->enough = fl->whole;
	}
	return used;
}

static size_t
on_body(void *owner, const char *data, size_t n)
{
	struct flight *fl = owner;
	size_t seen = fl->skip < n ? fl->skip : n, used;

	if (!fl->judged)
		judge(fl);
	if (fl->enough || fl->r->dead)
		return 0;
	if (fl->verdict > RANGE_WHOLE)
		return transfer_ignore(&fl->transfer, n);
	fl->skip -= seen;
	used = seen + take(fl, (const uint8_t *)data + seen, n - seen);
	if (fl->enough || fl->r->dead)
		return 0;
	if (used == n)
		return n;
	fl->paused = 1;
	fl->skip = used;
	return CURL_WRITEFUNC_PAUSE;
}

/* A leaf that is not full is the last of the file: what comes behind it is known now. */
static void
finish_file(struct flight *fl)
{
	struct rangeget *r = fl->r;

	if (!fl->whole && fl->at == fl->run.first + fl->run.count)
		return; /* all that was asked for */
	if (r->size == RANGE_UNKNOWN)
		r->size = fl->at * ERIS_LARGE + fl->got;
	if (fl->got > 0)
		finish_leaf(fl);
	else if (fl->whole && r->size == fl->at * ERIS_LARGE && !r->dead && find(r, fl->at) == NULL &&
	    decide(fl))
		finish_leaf(fl); /* padding only */
}

static void
busy(struct flight *fl, uint64_t retry_ms, const char *why)
{
	struct rangeget *r = fl->r;

	r->busy_until = r->fetch->now + retry_ms;
	give_up(r, number(fl), UINT64_MAX, SCHED_BUSY, (uint32_t)retry_ms, why);
}

/* Neither bytes of the file nor a redirect. */
static void
refused(struct flight *fl)
{
	struct rangeget *r = fl->r;
	const struct answer *a = &fl->transfer.answer;
	int64_t wait = a->retry_after < 0 ? 0 :
	    a->retry_after < LIMIT_RETRY_AFTER ? a->retry_after : LIMIT_RETRY_AFTER;

	switch (fl->verdict) {
	case RANGE_BEHIND:
		break;
	case RANGE_BUSY:
		busy(fl, (uint64_t)wait * 1000, fl->why);
		break;
	default:
		/* Where it has moved to may hold for a while only. */
		if (r->has_moved && fl->transfer.redirects == 0)
			r->has_moved = 0;
		else
			die(r, fl->verdict == RANGE_GONE ? SCHED_MISSING : SCHED_FOREIGN, fl->why);
	}
}

static void
redirect(struct flight *fl)
{
	struct err e;

	if (transfer_redirect(&fl->transfer, &e) != 0) {
		die(fl->r, SCHED_FOREIGN, e.text);
		return;
	}
	fl->state = WAITING;
}

static void
ended(struct flight *fl, CURLcode result)
{
	struct rangeget *r = fl->r;
	struct transfer *t = &fl->transfer;
	char reason[LIMIT_REASON + 1];

	transfer_reason(t, result, reason, sizeof reason);
	if (r->dead)
		return;
	if (fl->enough) {
		/* Or another one reads the whole file on. */
		if (fl->verdict == RANGE_WHOLE && !fl->whole && whole_flight(r) == NULL)
			give_up(r, ANY, UINT64_MAX, SCHED_MISSING, 0, "gives whole files only");
	} else if (transfer_is_dead(t, result)) {
		hosts_stale(&r->fetch->hosts, t->url.host);
		hosts_die(&r->fetch->hosts, &t->url);
		die(r, SCHED_UNREACHABLE, reason);
	} else if (!fl->judged || (result != CURLE_OK && fl->verdict <= RANGE_WHOLE)) {
		busy(fl, 0, reason);
	} else if (answer_is_redirect(&t->answer)) {
		redirect(fl);
	} else if (fl->verdict > RANGE_WHOLE) {
		refused(fl);
	} else {
		uint64_t size = r->size;

		finish_file(fl);
		/* What the answer should have had; but where the file has just turned out to end, some may be
		 * padding. */
		if (size != RANGE_UNKNOWN)
			give_up(r, number(fl), UINT64_MAX, SCHED_BUSY, 0, "ended early");
	}
}

static void
on_done(void *owner, CURLcode result)
{
	struct flight *fl = owner;

	fl->state = FREE;
	if (!fl->judged && fl->transfer.answer.status != 0 && result == CURLE_OK)
		judge(fl);
	ended(fl, result);
	if (fl->state == FREE) {
		wait_again(fl->r, number(fl));
		stop(fl);
	}
}

/* --- Requests ---------------------------------------------------------------------------------------- */

static void
launch(struct flight *fl)
{
	struct rangeget *r = fl->r;
	struct curl_slist *headers = NULL;
	char value[RANGE_HEADER], line[RANGE_HEADER + 16];
	struct err e;

	if (range_header(value, &fl->run, r->size) != 0) {
		die(r, SCHED_FOREIGN, "its file is too short");
		return;
	}
	(void)snprintf(line, sizeof line, "Range: %s", value);
	if (transfer_header(&headers, line) != 0) {
		die(r, SCHED_MISSING, "no memory for a request");
		return;
	}
	fl->judged = fl->whole = fl->take = fl->decided = fl->paused = fl->enough = 0;
	fl->verdict = RANGE_USELESS;
	fl->at = fl->run.first;
	fl->got = fl->skip = 0;
	fl->why = NULL;
	switch (transfer_start(&fl->transfer, headers, &e)) {
	case HOST_WAITING:
		curl_slist_free_all(headers);
		fl->state = WAITING;
		break;
	case HOST_READY:
		fl->state = RUNNING;
		break;
	default:
		die(r, SCHED_UNREACHABLE, e.text);
	}
}

static void
start(struct rangeget *r, struct flight *fl, const struct range_run *run)
{
	struct err e;

	if (fl->r == NULL && transfer_init(&fl->transfer, r->fetch, TRANSFER_NAR, &calls, fl, &e) != 0) {
		die(r, SCHED_MISSING, e.text);
		return;
	}
	fl->r = r;
	(void)curl_easy_setopt(fl->transfer.easy, CURLOPT_BUFFERSIZE, FILE_BUFFER);
	if ((fl->buf = malloc(ERIS_LARGE)) == NULL) {
		die(r, SCHED_MISSING, "no memory for a leaf");
		return;
	}
	fl->run = *run;
	for (size_t i = place(r, run->first);
	    i < r->nleaves && r->leaves[i].index - run->first < run->count; i++)
		r->leaves[i].flight = number(fl);
	fl->transfer.url = r->has_moved ? r->moved : r->url;
	fl->transfer.redirects = 0;
	if (hosts_dead(&r->fetch->hosts, &fl->transfer.url)) {
		die(r, SCHED_UNREACHABLE, "could not be reached before");
		return;
	}
	launch(fl);
}

/* Leaves for which no request is needed. */
static void
settle(struct rangeget *r)
{
	static const uint8_t nothing[1];

	for (size_t i = 0; i < r->nleaves && !r->dead;) {
		uint64_t offset;
		size_t len;

		enum range_need need = range_leaf(r->leaves[i].index, r->size, &offset, &len);

		if (need == RANGE_NONE) {
			die(r, SCHED_FOREIGN, "its file is too short");
		} else if (need == RANGE_PADDING) {
			size_t before = r->nleaves;

			rebuild(r, &r->leaves[i], nothing, 0);
			i += r->nleaves >= before;
		} else {
			i++;
		}
	}
}

static uint64_t
stall_time(const struct flight *fl)
{
	uint64_t stall = fl->r->fetch->settings.stall_ms, quiet = fl->transfer.active + stall;
	uint64_t slow = fl->leaf_ms + SLOW * stall;

	if (fl->state != RUNNING || fl->paused)
		return UINT64_MAX;
	return fl->judged && slow < quiet ? slow : quiet;
}

static void
watch(struct flight *fl)
{
	struct rangeget *r = fl->r;

	if (fl->state == RUNNING && fl->paused && r->resume) {
		fl->paused = 0;
		fl->leaf_ms = fl->transfer.active = r->fetch->now;
		if (curl_easy_pause(fl->transfer.easy, CURLPAUSE_CONT) != CURLE_OK && !r->dead &&
		    !fl->enough) {
			busy(fl, 0, "cannot go on");
			fl->enough = 1;
		}
	}
	if (fl->enough || !still_wanted(fl)) {
		stop(fl);
		wait_again(r, number(fl));
	} else if (fl->state == WAITING) {
		launch(fl);
	} else if (r->fetch->now >= stall_time(fl)) {
		stop(fl);
		busy(fl, 0, "comes too slowly");
	}
}

static struct flight *
free_flight(struct rangeget *r)
{
	/* As long as nobody knows whether it does ranges, one is enough. */
	size_t n = r->proven ? RANGEGET_FLIGHTS : 1;

	for (size_t i = 0; i < n; i++)
		if (r->flights[i].state == FREE)
			return &r->flights[i];
	return NULL;
}

static void
plan(struct rangeget *r)
{
	uint64_t waiting[RANGEGET_LEAVES];
	struct flight *fl;
	size_t n = 0, at = 0;

	for (size_t i = 0; i < r->nleaves; i++)
		if (r->leaves[i].flight == 0)
			waiting[n++] = r->leaves[i].index;
	while (at < n && !r->dead && (fl = free_flight(r)) != NULL) {
		struct range_run run;
		size_t covered = n - at;

		(void)range_plan(&run, 1, waiting + at, &covered, GAP, LONGEST);
		at += covered;
		start(r, fl, &run);
	}
}

static void
bury(struct rangeget *r)
{
	for (size_t i = 0; i < RANGEGET_FLIGHTS; i++)
		stop(&r->flights[i]);
	give_up(r, ANY, UINT64_MAX, r->dead_outcome, 0, r->dead_why.text);
}

void
rangeget_pump(struct rangeget *r)
{
	const struct flight *whole;

	for (size_t i = 0; i < RANGEGET_FLIGHTS && !r->dead; i++)
		if (r->flights[i].state != FREE)
			watch(&r->flights[i]);
	r->resume = 0;
	if (!r->dead)
		settle(r);
	if (r->dead) {
		bury(r);
	} else if (r->fetch->now < r->busy_until) {
		give_up(r, 0, UINT64_MAX, SCHED_BUSY, (uint32_t)(r->busy_until - r->fetch->now),
		    "the server is busy");
	} else if ((whole = whole_flight(r)) != NULL) {
		give_up(r, 0, whole->at, SCHED_MISSING, 0, "has gone by");
	} else if (r->whole_only && r->nleaves > 0 && !worth_reading(r)) {
		give_up(r, 0, UINT64_MAX, SCHED_MISSING, 0, "gives whole files only");
	} else {
		plan(r);
		if (r->dead)
			bury(r);
	}
}

void
rangeget_resume(struct rangeget *r)
{
	r->resume = 1;
}

uint64_t
rangeget_deadline(const struct rangeget *r)
{
	uint64_t first = UINT64_MAX;

	for (size_t i = 0; i < RANGEGET_FLIGHTS; i++)
		if (r->flights[i].state != FREE && stall_time(&r->flights[i]) < first)
			first = stall_time(&r->flights[i]);
	return first;
}

const struct url *
rangeget_at(const struct rangeget *r)
{
	return r->has_moved ? &r->moved : &r->url;
}

int
rangeget_whole(const struct rangeget *r)
{
	return whole_flight(r) != NULL;
}

uint64_t
rangeget_useful(const struct rangeget *r)
{
	return r->useful;
}
