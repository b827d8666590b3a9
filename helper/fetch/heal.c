/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): puts blocks that IPFS missed into IPFS, while the nar arrives and behind it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helper/common/logline.h"
#include "helper/fetch/blockconf.h"
#include "helper/fetch/heal.h"
#include "helper/fetch/journal.h"
#include "helper/fetch/private.h"
#include "helper/fetch/put.h"
#include "helper/fetch/source.h"
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
/* A put that does not move for so long has failed; then, or when one is refused, so long none is tried. */
#define STALL_MS 30000
#define PAUSE_MS 5000
/* Times that a block is put before it is left to narlock-heal. */
#define TRIES 2
/* For how long a daemon may look whether a block is there: js-ipfs looks in the network all the same. */
#define ASK_MS 500

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

static size_t on_body(void *owner, const char *data, size_t n);
static void on_done(void *owner, CURLcode result);

static const struct transfer_owner calls = { on_body, on_done };

int
heal_init(struct fetch *f, struct err *e)
{
	struct heal *h = calloc(1, sizeof *h);

	if (h == NULL)
		return err_set(e, "no memory for healing");
	h->fetch = f;
	for (int i = 0; i < FLIGHTS; i++)
		h->flights[i].heal = h;
	f->heal = h;
	return 0;
}

static struct copy *
queue_at(struct heal *h, size_t i)
{
	return &h->queue[(h->first + i) % QUEUE];
}

void
heal_free(struct fetch *f)
{
	struct heal *h = f->heal;

	if (h == NULL)
		return;
	for (int i = 0; i < FLIGHTS; i++) {
		if (h->flights[i].transfer.easy != NULL)
			transfer_free(&h->flights[i].transfer);
		put_free(&h->flights[i].batch);
	}
	for (size_t i = 0; i < h->count; i++)
		free(queue_at(h, i)->data);
	free(h);
	f->heal = NULL;
}

/* --- What may be spread ------------------------------------------------------------------------------ */

int
heal_private(const struct fetch *f, const struct url *u)
{
	const struct proxy *p = u->https ? &f->settings.https : &f->settings.http;

	if (u->user[0] != '\0' || u->password[0] != '\0' || strcmp(u->host, "localhost") == 0 ||
	    private_address(u->host))
		return 1;
	if (p->set)
		return private_name(u->host);
	for (size_t i = 0; i < f->hosts.count; i++)
		if (strcmp(f->hosts.hosts[i].name, u->host) == 0)
			return private_list(f->hosts.hosts[i].addresses);
	return 0;
}

static int
any_private(const struct fetch *f, const struct journal_entry *j)
{
	const char *at = j->urls;
	struct url u;
	struct err e;

	for (unsigned i = 0; i < j->nurls; i++, at += strlen(at) + 1)
		if (url_parse(&u, at, &e) == 0 && heal_private(f, &u))
			return 1;
	return 0;
}

/* --- The references of the nar at hand ---------------------------------------------------------------- */

static size_t
slot_of(const struct heal *h, const uint8_t ref[ERIS_REF])
{
	size_t i = ((size_t)ref[0] | (size_t)ref[1] << 8) % TABLE; /* a hash already */

	while (h->state[i] != UNKNOWN && memcmp(h->refs[i], ref, ERIS_REF) != 0)
		i = (i + 1) % TABLE;
	return i;
}

static void
empty_table(struct heal *h)
{
	memset(h->state, UNKNOWN, sizeof h->state);
	memset(h->came, 0, sizeof h->came);
	h->in_table = 0;
}

/* --- Nars -------------------------------------------------------------------------------------------- */

static struct nar *
nar_of(struct heal *h, uint32_t id)
{
	for (int i = 0; i < NARS; i++)
		if (h->nars[i].id == id)
			return &h->nars[i];
	return NULL;
}

/* Nothing more comes of this nar: what became of its entry. */
static void
settle(struct heal *h, struct nar *n)
{
	int fd = h->fetch->journal;

	if (n->begun || n->pending > 0)
		return;
	if (n->written && (n->entry.all ? !n->unknown && !n->merged && n->outstanding == 0 : n->entry.nrefs == 0))
		(void)journal_drop(fd, &n->entry);
	else if (n->written && n->changed && !n->entry.all)
		(void)journal_change(fd, &n->entry);
	n->id = 0;
	if (h->current == n)
		h->current = NULL;
}

/* 1 if it was listed. */
static int
forget_ref(struct journal_entry *j, const uint8_t ref[ERIS_REF])
{
	for (unsigned i = 0; i < j->nrefs; i++)
		if (memcmp(j->refs[i], ref, ERIS_REF) == 0) {
			memmove(j->refs[i], j->refs[i + 1], (--j->nrefs - i) * sizeof j->refs[0]);
			return 1;
		}
	return 0;
}

/* LEFT: it will not be put by us.  THERE: there was no need to. */
enum outcome { LEFT, PUT, THERE };

static void
copy_done(struct heal *h, const struct copy *c, enum outcome outcome)
{
	struct nar *n = nar_of(h, c->nar);

	if (n == NULL)
		return;
	n->pending--;
	h->reinserted += outcome == PUT && n == h->current;
	if (outcome != LEFT && c->known != UNKNOWN) {
		size_t slot = slot_of(h, c->ref);

		if (n->outstanding > 0)
			n->outstanding--;
		if (n->begun && h->state[slot] != UNKNOWN)
			h->state[slot] = STORED;
		/* Others may lack the same block, and have taken over what was written down before. */
		for (int i = 0; i < NARS; i++)
			if (h->nars[i].id != 0 && forget_ref(&h->nars[i].entry, c->ref))
				h->nars[i].changed = 1;
	}
	settle(h, n);
}

/* --- The queue --------------------------------------------------------------------------------------- */

static void
pop(struct heal *h, struct copy *c)
{
	*c = *queue_at(h, 0);
	h->first = (h->first + 1) % QUEUE;
	h->count--;
	h->asks -= c->asks;
}

/* Behind all others.  There is room. */
static void
append(struct heal *h, const struct copy *c)
{
	*queue_at(h, h->count++) = *c;
	h->asks += c->asks;
}

static void
push(struct heal *h, const struct copy *from, const uint8_t *data)
{
	struct copy c = *from;

	c.data = h->count < QUEUE ? malloc(from->len) : NULL;
	if (c.data == NULL) {
		copy_done(h, from, LEFT);
		return;
	}
	memcpy(c.data, data, from->len);
	append(h, &c);
}

/* Give up the copies of one nar, or of all (ID 0). */
static void
give_up(struct heal *h, uint32_t id)
{
	struct copy c;

	for (size_t left = h->count; left > 0; left--) {
		pop(h, &c);
		if (id == 0 || c.nar == id) {
			free(c.data);
			copy_done(h, &c, LEFT);
		} else {
			append(h, &c);
		}
	}
}

/* A place for a new nar.  When all have one, that which began first loses its copies. */
static struct nar *
new_nar(struct heal *h)
{
	struct nar *oldest = &h->nars[0], *n = nar_of(h, 0);

	for (int i = 1; n == NULL && i < NARS; i++)
		if (h->nars[i].id < oldest->id)
			oldest = &h->nars[i];
	if (n == NULL) {
		give_up(h, oldest->id);
		if (oldest->id != 0) { /* the rest is on its way, and comes back to nobody */
			oldest->pending = 0;
			settle(h, oldest);
		}
		n = oldest;
	}
	memset(n, 0, sizeof *n);
	n->id = ++h->ids;
	return n;
}

/* --- Sources ----------------------------------------------------------------------------------------- */

/* The source to put to, or -1.  *LATER: there is one, but not now. */
static int
target(const struct heal *h, int *later)
{
	const struct blockconf *b = h->fetch->blocks;

	*later = 0;
	for (size_t i = 0; i < b->nsources; i++) {
		if (b->sources[i].at.kind != RPC_IPFS || !source_usable(h->fetch, i) || h->refused[i])
			continue;
		if (h->paused[i] <= h->fetch->now)
			return (int)i;
		*later = 1;
	}
	return -1;
}

/* Is there a daemon at all that takes blocks?  The one that everybody is assumed to have counts when it has
 * answered. */
static int
has_daemon(const struct heal *h)
{
	const struct blockconf *b = h->fetch->blocks;

	for (size_t i = 0; i < b->nsources; i++)
		if (b->sources[i].at.kind == RPC_IPFS && b->sources[i].dead_until != UINT64_MAX &&
		    (!h->refused[i] || h->took[i]) && (b->said_ipfs || b->sources[i].reached))
			return 1;
	return 0;
}

/* --- Calls from the nar ------------------------------------------------------------------------------- */

static void
add_urls(struct nar *n, const char *const *urls, size_t count, int *allowed)
{
	char text[URL_TEXT];
	struct url u;
	struct err e;

	for (size_t i = 0; i < count; i++) {
		if (url_parse(&u, urls[i], &e) != 0)
			continue;
		if (u.user[0] != '\0' || u.password[0] != '\0')
			*allowed = 0;
		url_text(&u, text);
		(void)journal_url(&n->entry, text);
	}
}

void
heal_begin(struct fetch *f, const uint8_t cap[ERIS_CAP], const char *const *urls, size_t count, uint64_t nar_size,
    int allowed)
{
	struct heal *h = f->heal;
	struct nar *n;

	if (h->current != NULL && h->current->begun)
		heal_end(f, 0);
	n = h->current = new_nar(h);
	empty_table(h);
	h->missed = h->repaired = h->reinserted = 0;
	memcpy(n->entry.cap, cap, ERIS_CAP);
	n->entry.nar_size = nar_size;
	n->begun = 1;
	add_urls(n, urls, count, &allowed);
	n->active = f->blocks->seed != SEED_NONE &&
	    (f->blocks->seed_private || (allowed && !any_private(f, &n->entry)));
}

static enum known
known_of(const struct heal *h, const struct nar *n, const uint8_t *ref)
{
	enum known known = (enum known)h->state[slot_of(h, ref)];

	return known == UNKNOWN && n->many && memcmp(h->last, ref, ERIS_REF) == 0 ? h->last_known : known;
}

static void
note(struct heal *h, struct nar *n, const uint8_t *ref, enum known known)
{
	size_t slot = slot_of(h, ref);

	n->outstanding += h->state[slot] == UNKNOWN;
	if (h->state[slot] == UNKNOWN && h->in_table == TABLE / 2) {
		n->many = 1;
		memcpy(h->last, ref, ERIS_REF);
		h->last_known = known;
		return;
	}
	h->in_table += h->state[slot] == UNKNOWN;
	memcpy(h->refs[slot], ref, ERIS_REF);
	h->state[slot] = (uint8_t)known;
}

void
heal_missed(struct fetch *f, const uint8_t ref[ERIS_REF])
{
	struct heal *h = f->heal;
	struct nar *n = h->current;
	enum known known;

	if (n == NULL || !n->begun)
		return;
	n->holes = 1;
	if (ref == NULL) {
		n->unknown = 1;
		return;
	}
	known = (enum known)h->state[slot_of(h, ref)];
	if (known != UNKNOWN && known != UNSURE)
		return;
	h->missed++;
	note(h, n, ref, MISSED);
}

void
heal_unsure(struct fetch *f, const uint8_t ref[ERIS_REF], int suspect)
{
	struct heal *h = f->heal;
	struct nar *n = h->current;

	if (n == NULL || !n->begun)
		return;
	n->holes |= suspect != 0;
	if (h->state[slot_of(h, ref)] == UNKNOWN)
		note(h, n, ref, UNSURE);
}

void
heal_whole(struct fetch *f)
{
	f->heal->repaired = f->heal->missed;
}

/* A missed block has come; again, if it stands in the nar more than once. */
static void
came(struct heal *h, const uint8_t *ref)
{
	size_t slot = slot_of(h, ref);

	h->repaired += !h->came[slot];
	h->came[slot] = h->state[slot] != UNKNOWN; /* else it is not in the table */
}

static int
is_on_its_way(struct heal *h, const struct nar *n, const uint8_t *ref)
{
	for (size_t i = 0; i < h->count; i++)
		if (queue_at(h, i)->nar == n->id && memcmp(queue_at(h, i)->ref, ref, ERIS_REF) == 0)
			return 1;
	for (int i = 0; i < FLIGHTS; i++)
		for (unsigned k = 0; h->flights[i].state != FREE && k < h->flights[i].batch.n; k++)
			if (h->flights[i].copies[k].nar == n->id && memcmp(h->flights[i].copies[k].ref, ref, ERIS_REF) == 0)
				return 1;
	return 0;
}

static void
withdraw(struct heal *h, struct nar *n)
{
	n->active = n->written = 0;
	n->outstanding = 0;
	give_up(h, n->id);
}

void
heal_block(struct fetch *f, const uint8_t ref[ERIS_REF], const uint8_t *data, size_t len)
{
	struct heal *h = f->heal;
	struct nar *n = h->current;
	struct copy c = { .len = (uint32_t)len };
	int all = f->blocks->seed == SEED_ALL, later;

	if (n == NULL || !n->begun || len > ERIS_LARGE)
		return;
	if (n->unknown)
		heal_unsure(f, ref, 1);
	c.known = (uint8_t)known_of(h, n, ref);
	if (c.known == STORED)
		return;
	c.asks = c.known == UNSURE && !all;
	if (c.known == MISSED)
		came(h, ref);
	if (!n->active || (!all && (c.known == UNKNOWN || (c.known == UNSURE && !n->holes))) ||
	    (target(h, &later) < 0 && !later) || is_on_its_way(h, n, ref))
		return;
	if (!f->blocks->seed_private && any_private(f, &n->entry)) { /* a name has got its address */
		withdraw(h, n);
		return;
	}
	c.nar = n->id;
	memcpy(c.ref, ref, ERIS_REF);
	n->pending++;
	push(h, &c, data);
}

void
heal_forbid(struct fetch *f)
{
	struct nar *n = f->heal->current;

	if (n != NULL && n->begun && !f->blocks->seed_private)
		withdraw(f->heal, n);
}

static void
write_down(struct heal *h, struct nar *n)
{
	struct journal_entry *j = &n->entry;

	if (n->unknown || n->many) {
		j->all = 1;
	} else {
		for (size_t i = 0; i < TABLE; i++)
			if (h->state[i] == MISSED || h->state[i] == UNSURE)
				journal_ref(j, h->refs[i]);
	}
	n->written = journal_put(h->fetch->journal, j, h->fetch->clock) == 0;
	n->merged = j->made != h->fetch->clock;
}

void
heal_end(struct fetch *f, int success)
{
	struct heal *h = f->heal;
	struct nar *n = h->current;

	if (n == NULL || !n->begun)
		return;
	/* By now it is known where names lead. */
	if (n->active && !f->blocks->seed_private && any_private(f, &n->entry))
		withdraw(h, n);
	if (success && n->active && n->holes && (n->outstanding > 0 || n->unknown) && has_daemon(h))
		write_down(h, n);
	n->begun = 0;
	settle(h, n);
}

void
heal_counts(const struct fetch *f, uint32_t *missed, uint32_t *repaired, uint32_t *reinserted)
{
	*missed = f->heal->missed;
	*repaired = f->heal->repaired;
	*reinserted = f->heal->reinserted;
}

/* --- Requests ---------------------------------------------------------------------------------------- */

static size_t
on_body(void *owner, const char *data, size_t n)
{
	struct flight *l = owner;
	size_t room = sizeof l->answer - l->len, take = n < room ? n : room;

	memcpy(l->answer + l->len, data, take);
	l->len += take;
	l->total += n;
	return l->total <= LIMIT_IGNORED_BODY ? n : 0;
}

/* The copies of a flight that has ended: those that are stored, and those that have to be put again, if
 * AGAIN. */
static void
land(struct flight *l, int again)
{
	struct heal *h = l->heal;

	l->state = FREE;
	for (unsigned i = 0; i < l->batch.n; i++) {
		struct copy *c = &l->copies[i];
		const struct nar *n;

		if (l->batch.stored[i]) {
			h->took[l->source] = 1;
			copy_done(h, c, PUT);
		} else if (again && c->tries < TRIES && (n = nar_of(h, c->nar)) != NULL && n->active) {
			push(h, c, l->batch.body + l->batch.at[i]);
		} else {
			copy_done(h, c, LEFT);
		}
	}
}

/* CONNECTED: it has answered.  A token that allows only to read is refused then, and good for reading. */
static void
failed(struct flight *l, const struct rpc_judgement *j, int connected)
{
	struct heal *h = l->heal;
	const char *why = j->why != NULL ? j->why : "does not take blocks";

	if (!h->said && h->fetch->blocks->said_ipfs)
		logline("%s: missing blocks cannot be put back now: it %s%s%s",
		    h->fetch->blocks->sources[l->source].name, why, j->said[0] != '\0' ? ": " : "", j->said);
	h->said = 1;
	h->paused[l->source] = h->fetch->now + (j->retry_ms > 0 ? j->retry_ms : PAUSE_MS);
	if (j->verdict == RPC_UNREACHABLE && connected)
		h->refused[l->source] = 1;
	else if (j->verdict == RPC_UNREACHABLE)
		source_judged(h->fetch, l->source, j->verdict, why);
	memset(l->batch.stored, 0, sizeof l->batch.stored);
	for (unsigned i = 0; i < l->batch.n; i++)
		l->copies[i].tries++;
	land(l, 1);
}

/* The block is not there: it was missed after all. */
static void
is_not_there(struct flight *l)
{
	struct heal *h = l->heal;
	struct copy *c = &l->copies[0];
	struct nar *n = nar_of(h, c->nar);

	l->asks = c->asks = 0;
	c->known = MISSED;
	if (n != NULL && n->begun) {
		n->outstanding -= h->state[slot_of(h, c->ref)] == UNKNOWN; /* there was no room for it: it is noted again */
		heal_missed(h->fetch, c->ref);
		came(h, c->ref);
	}
	/* It may have turned out to be private since it was asked for. */
	if (h->count < QUEUE || n == NULL || !n->active)
		land(l, 1);
	else
		l->state = START_PUT;
}

/* What the daemon says of the one block of L. */
static void
asked(struct flight *l, const struct rpc_judgement *j, const struct rpc_reply *reply)
{
	struct heal *h = l->heal;

	if (j->verdict == RPC_BLOCK) {
		l->asks = 0;
		l->state = FREE;
		copy_done(h, &l->copies[0], THERE);
	} else if (j->verdict == RPC_MISSING) {
		is_not_there(l);
	} else if (j->verdict == RPC_UNREACHABLE && reply->connected) {
		h->mute[l->source] = 1; /* putting what is there already does no harm */
		l->asks = 0;
		land(l, 1);
	} else {
		l->asks = 0;
		failed(l, j, reply->connected);
	}
}

static void
on_done(void *owner, CURLcode result)
{
	struct flight *l = owner;
	struct heal *h = l->heal;
	const struct rpc_source *s = &h->fetch->blocks->sources[l->source].at;
	struct put_known *k = &h->known[l->source];
	struct rpc_judgement j;
	struct rpc_reply reply;
	enum put_result r;

	source_reply(&reply, &l->transfer, result, l->answer, l->len);
	if (l->state == PROVING) {
		rpc_judge(&j, s, RPC_HAS, l->batch.refs[l->batch.n - 1], l->batch.len[l->batch.n - 1], &reply);
		if (l->asks) {
			asked(l, &j, &reply);
			return;
		}
		r = PUT_FAILED;
		if (j.verdict == RPC_BLOCK || j.verdict == RPC_MISSING)
			r = put_proved(&l->batch, k, j.verdict == RPC_BLOCK);
	} else {
		r = put_judge(&l->batch, s, k, &reply, &j);
	}
	if (r == PUT_PROVE) {
		l->state = START_PROOF;
		return;
	}
	if (r == PUT_FAILED) {
		failed(l, &j, reply.connected);
		return;
	}
	source_judged(h->fetch, l->source, RPC_BLOCK, NULL);
	land(l, 1);
}

/* START_PUT and START_PROOF: send, or wait on for an address. */
static void
start(struct flight *l)
{
	struct heal *h = l->heal;
	const struct block_source *s = &h->fetch->blocks->sources[l->source];
	int proof = l->state == START_PROOF;
	enum rpc_ask ask = proof ? RPC_HAS : put_ask(&l->batch);
	const uint8_t *hash = proof ? l->batch.refs[l->batch.n - 1] : NULL;
	struct rpc_judgement j = { .verdict = RPC_BUSY };
	struct rpc_request r;
	enum host_state host;
	struct err e;

	if (rpc_build(&r, &s->at, ask, hash, l->asks ? ASK_MS : h->fetch->blocks->block_ms, l->batch.boundary, &e) != 0) {
		failed(l, &j, 0);
		return;
	}
	l->len = l->total = 0;
	l->moved = 0;
	l->moved_ms = h->fetch->now;
	host = proof ? source_ask(&l->transfer, s, &r, &e) :
	    source_send(&l->transfer, s, &r, l->batch.body, l->batch.body_len, &e);
	if (host == HOST_READY) {
		l->state = proof ? PROVING : PUTTING;
	} else if (host == HOST_UNKNOWN) {
		j.verdict = RPC_UNREACHABLE;
		j.why = "cannot be found";
		failed(l, &j, 0);
	}
}

/* Take copies out of the queue into one request: those that are put, or the first of those that are asked for. */
static void
launch(struct heal *h, struct flight *l, size_t source, int asks)
{
	unsigned most;
	enum put_way way = put_choose(&h->known[source], asks ? 1 : h->count - h->asks, &most);
	char boundary[RPC_BOUNDARY + 1];
	struct err e;

	if ((l->transfer.easy == NULL &&
	    transfer_init(&l->transfer, h->fetch, TRANSFER_BLOCK, &calls, l, &e) != 0) ||
	    put_boundary(boundary) != 0 || put_begin(&l->batch, way, boundary, queue_at(h, 0)->ref, &e) != 0) {
		h->paused[source] = h->fetch->now + PAUSE_MS;
		return;
	}
	l->source = source;
	for (size_t left = h->count; left > 0; left--) {
		struct copy c;

		pop(h, &c);
		if (l->batch.n == most || c.asks != asks) { /* once around, so that the order stays */
			append(h, &c);
			continue;
		}
		put_add(&l->batch, c.ref, c.data, c.len);
		free(c.data);
		c.data = NULL;
		l->copies[l->batch.n - 1] = c;
	}
	put_end(&l->batch);
	l->asks = (uint8_t)asks;
	l->state = asks ? START_PROOF : START_PUT;
}

/* A request that runs: does anything move? */
static void
watch(struct flight *l)
{
	struct rpc_judgement j = { .verdict = RPC_BUSY, .why = "does not answer" };
	uint64_t now = l->heal->fetch->now;
	curl_off_t up = 0;

	(void)curl_easy_getinfo(l->transfer.easy, CURLINFO_SIZE_UPLOAD_T, &up);
	up += (curl_off_t)l->total;
	if (up != l->moved) {
		l->moved = up;
		l->moved_ms = now;
	}
	if (now < l->moved_ms + STALL_MS)
		return;
	transfer_stop(&l->transfer);
	failed(l, &j, 0);
}

static unsigned
flying(const struct heal *h)
{
	unsigned n = 0;

	for (int i = 0; i < FLIGHTS; i++)
		n += h->flights[i].state != FREE;
	return n;
}

/* Fill one more request. */
static void
take_off(struct heal *h, struct flight *l, size_t source)
{
	unsigned most = h->current != NULL && h->current->begun ? PUTS_BESIDE : PUTS, putting = 0;
	size_t puts;

	for (size_t i = 0; h->mute[source] && h->asks > 0 && i < h->count; i++) {
		h->asks -= queue_at(h, i)->asks;
		queue_at(h, i)->asks = 0;
	}
	if (l >= h->flights + PUTS) {
		if (h->asks > 0)
			launch(h, l, source, 1);
		return;
	}
	puts = h->count - h->asks;
	for (int i = 0; i < PUTS; i++)
		putting += h->flights[i].state != FREE;
	/* One, until it is known how this daemon takes many, and while there are few: more may come. */
	if (puts > 0 && putting < most && (putting == 0 || (puts >= PUT_FEW && h->known[source].car != 0)))
		launch(h, l, source, 0);
}

void
heal_pump(struct fetch *f)
{
	struct heal *h = f->heal;
	int source, later;

	for (int i = 0; i < FLIGHTS; i++)
		if (h->flights[i].state == PUTTING || h->flights[i].state == PROVING)
			watch(&h->flights[i]);
	for (int i = 0; i < FLIGHTS && h->count > 0; i++) {
		if ((source = target(h, &later)) < 0) {
			if (!later)
				give_up(h, 0);
			break;
		}
		if (h->flights[i].state == FREE)
			take_off(h, &h->flights[i], (size_t)source);
	}
	for (int i = 0; i < FLIGHTS; i++)
		if (h->flights[i].state == START_PUT || h->flights[i].state == START_PROOF)
			start(&h->flights[i]);
}

uint64_t
heal_deadline(const struct fetch *f)
{
	const struct heal *h = f->heal;
	uint64_t first = UINT64_MAX;

	for (int i = 0; i < FLIGHTS; i++) {
		const struct flight *l = &h->flights[i];
		uint64_t due = l->state == FREE ? UINT64_MAX : l->state == PUTTING || l->state == PROVING ?
		    l->moved_ms + STALL_MS : f->now + 100; /* an answer about its address comes before */

		first = due < first ? due : first;
	}
	for (size_t i = 0; h->count > 0 && i < f->blocks->nsources; i++)
		if (h->paused[i] > f->now && h->paused[i] < first)
			first = h->paused[i];
	return first;
}

int
heal_busy(const struct fetch *f)
{
	return f->heal->count > 0 || flying(f->heal) > 0;
}
