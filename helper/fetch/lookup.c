/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): narinfos: many small requests, few connections. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "helper/fetch/blockconf.h"
#include "helper/fetch/index.h"
#include "helper/fetch/lookup.h"
#include "helper/fetch/rootget.h"
#include "helper/fetch/serve.h"
#include "helper/fetch/state.h"
#include "helper/fetch/transfer.h"
#include "helper/ipfs/manifest.h"

/* Requests under way, in all and to one server: connections for HTTP/1.1, streams for HTTP/2.  Everything else waits
 * in our own queue, which costs libcurl nothing and keeps the clock of a request honest. */
#define FLIGHTS 64
#define WINDOW_HTTP1 8
#define WINDOW_HTTP2 32

/* A narinfo up to this size is collected at once; for longer ones there are only so many places, so that
 * a server that sends a megabyte for each of 64 requests finds no memory to fill.  Without a place the request is
 * broken off and made again later: to pause it would be kinder, but HTTP/2 goes on filling libcurl's buffers. */
#define SMALL_BODY 32768
#define FIRST_BODY 4096
#define BIG_PLACES 3

/* Requests in a row that a server leaves unanswered before it counts as dead. */
#define MAX_SILENT 4

/* An index has so long to answer (milliseconds): nobody needs one. */
#define INDEX_LOOKUP_MS 5000

#define NEGATIVE_TTL 120
#define BAKING_TTL 300
#define DEAD_TTL 60
#define LONGEST_TTL (365 * 86400)

struct lookup {
	struct lookup *next;
	uint32_t id;
	uint16_t server;
	uint8_t big; /* known to need one of BIG_PLACES */
	char hash[HASH_PART_BYTES + 1];
};

enum flight_state {
	FLIGHT_FREE,
	FLIGHT_WAITING, /* for a name, after a redirect */
	FLIGHT_RUNNING,
	FLIGHT_ROOT,    /* an index has named a manifest, and its root is looked for */
};

struct flight {
	struct fetch *fetch;
	struct transfer transfer;
	struct lookup *lookup;
	enum flight_state state;
	uint8_t big;      /* holds one of BIG_PLACES */
	uint8_t no_place; /* needed one, and there was none */
	uint8_t too_big;
	char *body;
	size_t len, room;
	uint64_t started;
	struct index_answer index; /* FLIGHT_ROOT: what the index has said */
	size_t group;              /* the next group of it to try */
	struct rootget *root;
};

struct line {
	struct lookup *first, **tail;
	unsigned flights, window, silent;
};

struct lookups {
	struct lookup store[LIMIT_LOOKUPS];
	struct lookup *unused;
	struct line lines[LIMIT_SERVERS];
	struct flight flights[FLIGHTS];
	unsigned running, pending, big;
};

static size_t on_body(void *owner, const char *data, size_t n);
static void on_done(void *owner, CURLcode result);

static const struct transfer_owner calls = { on_body, on_done };

int
lookup_init(struct fetch *f, struct err *e)
{
	struct lookups *l = calloc(1, sizeof *l);

	if (l == NULL)
		return err_set(e, "no memory for lookups");
	for (size_t i = 0; i < LIMIT_LOOKUPS; i++) {
		l->store[i].next = l->unused;
		l->unused = &l->store[i];
	}
	for (size_t i = 0; i < LIMIT_SERVERS; i++)
		l->lines[i].window = WINDOW_HTTP1;
	f->lookups = l;
	return 0;
}

void
lookup_free(struct fetch *f)
{
	for (size_t i = 0; f->lookups != NULL && i < FLIGHTS; i++) {
		if (f->lookups->flights[i].fetch != NULL)
			transfer_free(&f->lookups->flights[i].transfer);
		rootget_free(f->lookups->flights[i].root);
		free(f->lookups->flights[i].body);
	}
	free(f->lookups);
	f->lookups = NULL;
}

/* --- Answers ----------------------------------------------------------------------------------------- */

/* The end of a lookup that is in no list any more. */
static void
answer(struct fetch *f, struct lookup *l, enum narinfo_status status, uint32_t ttl, const char *reason)
{
	struct wire_msg m = { .type = MSG_NARINFO_END, .id = l->id, .status = (uint8_t)status, .ttl = ttl };
	char text[LIMIT_REASON + 1];

	wire_copy(text, sizeof text, wire_str(reason));
	m.text = wire_str(text);
	serve_send(f, &m);
	l->next = f->lookups->unused;
	f->lookups->unused = l;
}

/* Give back what FL holds; its lookup goes to the caller. */
static struct lookup *
land(struct flight *fl)
{
	struct lookups *all = fl->fetch->lookups;
	struct lookup *l = fl->lookup;

	all->big -= fl->big;
	all->running--;
	all->lines[l->server].flights--;
	if (fl->room > SMALL_BODY) {
		free(fl->body);
		fl->body = NULL;
		fl->room = 0;
	}
	rootget_free(fl->root);
	fl->root = NULL;
	fl->big = fl->no_place = fl->too_big = 0;
	fl->len = 0;
	fl->lookup = NULL;
	fl->state = FLIGHT_FREE;
	return l;
}

static uint32_t
ttl_of(const struct answer *a, uint32_t untold, uint32_t longest)
{
	if (a->max_age < 0)
		return untold;
	return a->max_age < longest ? (uint32_t)a->max_age : longest;
}

static void
found(struct flight *fl, const uint8_t *data, size_t len, uint32_t ttl)
{
	struct fetch *f = fl->fetch;
	struct wire_msg m = { .type = MSG_NARINFO_PART, .id = fl->lookup->id };

	for (size_t at = 0; at < len; at += m.blob.len) {
		m.blob.data = data + at;
		m.blob.len = len - at < LIMIT_BLOB ? len - at : LIMIT_BLOB;
		serve_send(f, &m);
	}
	answer(f, land(fl), NARINFO_FOUND, ttl, "");
}

static void
absent(struct flight *fl)
{
	struct fetch *f = fl->fetch;
	const struct answer *a = &fl->transfer.answer;
	uint32_t ttl = ttl_of(a, a->baking ? BAKING_TTL : NEGATIVE_TTL, a->baking ? BAKING_TTL : LIMIT_ABSENT_TTL);
	int baking = a->baking;
	struct lookup *l = land(fl);

	state_put(f->state, STATE_ABSENT, &f->servers[l->server].url, l->hash, f->clock, ttl);
	answer(f, l, NARINFO_ABSENT, ttl, baking ? "the server is baking it" : "");
}

static void
fail(struct flight *fl, const char *reason)
{
	answer(fl->fetch, land(fl), NARINFO_FAILED, TTL_NOT_TOLD, reason);
}

/* --- Narinfos in manifests ---------------------------------------------------------------------------- */

static int
is_index(const struct flight *fl)
{
	return fl->fetch->servers[fl->lookup->server].kind == SERVER_INDEX;
}

/* Look for the root of the next manifest that the index knows. */
static void
next_root(struct flight *fl)
{
	struct fetch *f = fl->fetch;
	const struct index_group *g;
	struct err e;

	rootget_free(fl->root);
	fl->root = NULL;
	fl->state = FLIGHT_ROOT;
	while (fl->group < fl->index.n && !fl->index.groups[fl->group].has_manifest)
		fl->group++;
	if (fl->group == fl->index.n) { /* for now: what is in IPFS changes without the index */
		answer(f, land(fl), NARINFO_ABSENT, 0, "");
		return;
	}
	g = &fl->index.groups[fl->group++];
	blockconf_done(f->blocks);
	if ((fl->root = rootget_new(f, 1, g->manifest, 0, f->blocks->block_ms, &e)) == NULL)
		fail(fl, e.text);
}

/* What an index has answered. */
static void
indexed(struct flight *fl)
{
	struct err e, why;

	fl->group = 0;
	if (indextext_parse(&fl->index, fl->body, fl->len, fl->lookup->hash, &e) == 0) {
		next_root(fl);
		return;
	}
	(void)err_set(&why, "%s: %s", fl->transfer.url.host, e.text);
	fail(fl, why.text);
}

static void
look_for_root(struct flight *fl)
{
	struct manifest_root n;
	const uint8_t *data;
	size_t len;
	struct err e;

	switch (rootget_pump(fl->root, &data, &len)) {
	case ROOTGET_RUNS:
		break;
	case ROOTGET_FOUND:
		if (manifest_parse(&n, data, len, &e) == 0 && n.narinfo != NULL) {
			found(fl, n.narinfo, n.narinfo_len, TTL_NOT_TOLD);
			break;
		}
		next_root(fl);
		break;
	default:
		next_root(fl);
	}
}

/* --- Failures ----------------------------------------------------------------------------------------- */

/* The host of this request could not be reached: nobody asks it again for now. */
static void
bury(struct fetch *f, const struct url *u, CURLcode result)
{
	hosts_die(&f->hosts, u);
	hosts_stale(&f->hosts, u->host);
	/* What a certificate or a setting is to blame for may be mended in a second. */
	if (result != CURLE_SSL_CONNECT_ERROR && result != CURLE_PEER_FAILED_VERIFICATION)
		state_put(f->state, STATE_DEAD, u, "", f->clock, DEAD_TTL);
}

static void
silent(struct flight *fl, const char *reason)
{
	struct line *line = &fl->fetch->lookups->lines[fl->lookup->server];
	struct server *s = &fl->fetch->servers[fl->lookup->server];

	if (++line->silent >= MAX_SILENT && is_index(fl)) /* its host may serve nars all the same */
		wire_copy(s->refusal, sizeof s->refusal, wire_str("the index does not answer"));
	else if (line->silent >= MAX_SILENT)
		bury(fl->fetch, &fl->transfer.url, CURLE_OPERATION_TIMEDOUT);
	fail(fl, reason);
}

/* --- Requests ---------------------------------------------------------------------------------------- */

static int
grow(struct flight *fl, size_t want)
{
	size_t room = fl->room != 0 ? fl->room : FIRST_BODY;
	char *body;

	while (room < want)
		room *= 2;
	if (room == fl->room)
		return 0;
	if ((body = realloc(fl->body, room)) == NULL)
		return -1;
	fl->body = body;
	fl->room = room;
	return 0;
}

static size_t
on_body(void *owner, const char *data, size_t n)
{
	struct flight *fl = owner;
	struct lookups *all = fl->fetch->lookups;

	if (fl->transfer.answer.status != 200)
		return transfer_ignore(&fl->transfer, n);
	if (fl->len + n > (is_index(fl) ? INDEX_MAX : LIMIT_NARINFO)) {
		fl->too_big = 1;
		return 0;
	}
	if (fl->len + n > SMALL_BODY && !fl->big) {
		if (all->big >= BIG_PLACES) {
			fl->no_place = 1;
			return 0;
		}
		fl->big = 1;
		all->big++;
	}
	if (grow(fl, fl->len + n) != 0)
		return 0;
	memcpy(fl->body + fl->len, data, n);
	fl->len += n;
	return n;
}

/* A narinfo decides what is fetched from where, so it may only come from where the admin said. */
static int
may_redirect(const struct fetch *f, const struct url *from, const struct url *to)
{
	if (url_same_origin(from, to))
		return 1;
	if (to->https && !from->https && strcmp(from->host, to->host) == 0 &&
	    (to->port == from->port || to->port == 443))
		return 1;
	for (size_t i = 0; i < f->ntrusted; i++)
		if (strcasecmp(f->trusted[i], to->host) == 0 && to->https >= from->https)
			return 1;
	return 0;
}

static void
launch(struct flight *fl)
{
	struct err e;

	switch (transfer_start(&fl->transfer, NULL, &e)) {
	case HOST_WAITING:
		fl->state = FLIGHT_WAITING;
		break;
	case HOST_READY:
		fl->state = FLIGHT_RUNNING;
		break;
	default:
		if (fl->transfer.no_host)
			bury(fl->fetch, &fl->transfer.url, CURLE_COULDNT_RESOLVE_HOST);
		else if (!fl->transfer.refused) /* a setting: one message for it is enough */
			hosts_die(&fl->fetch->hosts, &fl->transfer.url);
		fail(fl, e.text);
	}
}

static void
redirect(struct flight *fl)
{
	struct transfer *t = &fl->transfer;
	struct url from = t->url;
	char where[LIMIT_SOURCE + 1];
	struct err e;

	if (transfer_redirect(t, &e) != 0) {
		fail(fl, e.text);
		return;
	}
	if (!may_redirect(fl->fetch, &from, &t->url)) {
		url_source(&t->url, where, sizeof where);
		(void)err_set(&e, "%s redirects a lookup to %s, which is not allowed", from.host, where);
		fail(fl, e.text);
		return;
	}
	fl->len = 0;
	launch(fl);
}

/* To the front of its line, which then waits for a place. */
static void
put_back(struct flight *fl)
{
	struct lookups *all = fl->fetch->lookups;
	struct lookup *l = land(fl);
	struct line *line = &all->lines[l->server];

	l->big = 1;
	l->next = line->first;
	if (line->first == NULL)
		line->tail = &l->next;
	line->first = l;
	all->pending++;
}

static void
on_done(void *owner, CURLcode result)
{
	struct flight *fl = owner;
	struct fetch *f = fl->fetch;
	struct line *line = &f->lookups->lines[fl->lookup->server];
	const struct answer *a = &fl->transfer.answer;
	char reason[LIMIT_REASON + 1];
	long version = 0;
	struct err e;

	if (curl_easy_getinfo(fl->transfer.easy, CURLINFO_HTTP_VERSION, &version) == CURLE_OK && version != 0)
		line->window = version >= CURL_HTTP_VERSION_2_0 ? WINDOW_HTTP2 : WINDOW_HTTP1;
	transfer_reason(&fl->transfer, result, reason, sizeof reason);
	if (transfer_is_dead(&fl->transfer, result)) {
		bury(f, &fl->transfer.url, result);
		fail(fl, reason);
		return;
	}
	if (fl->no_place) {
		put_back(fl);
	} else if (fl->too_big) {
		(void)err_set(&e, "%s: a narinfo of more than %d bytes", fl->transfer.url.host,
		    is_index(fl) ? INDEX_MAX : LIMIT_NARINFO);
		fail(fl, e.text);
	} else if (fl->transfer.refused) { /* the host may well be one that others may ask */
		fail(fl, reason);
	} else if (result != CURLE_OK && fl->transfer.quiet) {
		silent(fl, reason);
	} else if (a->status == 404 || a->status == 410) { /* also when its page was too long or broken */
		line->silent = 0;
		absent(fl);
	} else if (result == CURLE_OK && a->status == 200 && fl->len > 0) {
		line->silent = 0;
		if (is_index(fl))
			indexed(fl);
		else
			found(fl, (const uint8_t *)fl->body, fl->len, ttl_of(a, TTL_NOT_TOLD, LONGEST_TTL));
	} else if (answer_is_redirect(a)) {
		redirect(fl);
	} else {
		fail(fl, reason);
	}
}

/* --- The queue --------------------------------------------------------------------------------------- */

static int
read_hash(char hash[HASH_PART_BYTES + 1], const uint8_t *bytes)
{
	memcpy(hash, bytes, HASH_PART_BYTES);
	hash[HASH_PART_BYTES] = '\0';
	return strspn(hash, "0123456789abcdfghijklmnpqrsvwxyz") == HASH_PART_BYTES ? 0 : -1;
}

/* What can be said without asking.  Returns 1 if the lookup was answered. */
static int
answer_at_once(struct fetch *f, struct lookup *l)
{
	struct server *s = &f->servers[l->server];
	uint32_t ttl;

	if (s->refusal[0] != '\0')
		return answer(f, l, NARINFO_FAILED, TTL_NOT_TOLD, s->refusal), 1;
	if (!hosts_dead(&f->hosts, &s->url) && state_get(f->state, STATE_DEAD, &s->url, "", f->clock) > 0)
		hosts_die(&f->hosts, &s->url);
	if (hosts_dead(&f->hosts, &s->url))
		return answer(f, l, NARINFO_DEAD, TTL_NOT_TOLD, ""), 1;
	if ((ttl = state_get(f->state, STATE_ABSENT, &s->url, l->hash, f->clock)) > 0)
		return answer(f, l, NARINFO_ABSENT, ttl, ""), 1;
	return 0;
}

int
lookup_add(struct fetch *f, const struct wire_msg *m, struct err *e)
{
	struct lookups *all = f->lookups;
	struct lookup *l = all->unused;
	struct line *line;

	if (m->server >= f->nservers)
		return err_set(e, "LOOKUP at server %u, which is not there", m->server);
	if (l == NULL)
		return err_set(e, "more than %d lookups at one time", LIMIT_LOOKUPS);
	if (read_hash(l->hash, m->hash_part) != 0)
		return err_set(e, "LOOKUP of something that is no hash part");
	all->unused = l->next;
	l->next = NULL;
	l->id = m->id;
	l->server = m->server;
	l->big = 0;
	if (answer_at_once(f, l))
		return 0;
	line = &all->lines[l->server];
	*(line->first != NULL ? line->tail : &line->first) = l;
	line->tail = &l->next;
	all->pending++;
	return 0;
}

static struct lookup *
take_first(struct lookups *all, struct line *line)
{
	struct lookup *l = line->first;

	line->first = l->next;
	all->pending--;
	return l;
}

static struct flight *
free_flight(struct fetch *f, struct err *e)
{
	for (size_t i = 0; i < FLIGHTS; i++) {
		struct flight *fl = &f->lookups->flights[i];

		if (fl->state != FLIGHT_FREE)
			continue;
		if (fl->fetch == NULL && transfer_init(&fl->transfer, f, TRANSFER_LOOKUP, &calls, fl, e) != 0)
			return NULL;
		fl->fetch = f;
		return fl;
	}
	return NULL;
}

/* Put the first lookup of LINE on its way.  Returns 0 when that has to wait. */
static int
start_one(struct fetch *f, struct line *line)
{
	struct server *s = &f->servers[line->first->server];
	char name[HASH_PART_BYTES + 16];
	const char *addresses;
	struct flight *fl;
	struct err e = { 0 };

	if (hosts_dead(&f->hosts, &s->url) || s->refusal[0] != '\0') {
		answer(f, take_first(f->lookups, line), NARINFO_DEAD, TTL_NOT_TOLD, "");
		return 1;
	}
	if (line->first->big && f->lookups->big >= BIG_PLACES)
		return 0;
	/* While its name is not known the server takes none of the flights. */
	if (!f->settings.http.set && !f->settings.https.set && line->flights == 0 && !s->url.untrusted &&
	    hosts_need(&f->hosts, s->url.host, f->now, &addresses) == HOST_WAITING)
		return 0;
	if ((fl = free_flight(f, &e)) == NULL) {
		if (e.text[0] == '\0')
			return 0;
		answer(f, take_first(f->lookups, line), NARINFO_FAILED, TTL_NOT_TOLD, e.text);
		return 1;
	}
	fl->lookup = take_first(f->lookups, line);
	fl->big = fl->lookup->big;
	f->lookups->big += fl->big;
	fl->transfer.redirects = 0;
	fl->started = f->now;
	line->flights++;
	f->lookups->running++;
	(void)snprintf(name, sizeof name, is_index(fl) ? "eris/%s" : "%s.narinfo", fl->lookup->hash);
	if (url_below(&fl->transfer.url, &s->url, name, &e) != 0)
		fail(fl, e.text);
	else
		launch(fl);
	return 1;
}

static uint64_t
stall_time(const struct flight *fl)
{
	uint64_t stall = fl->transfer.active + fl->fetch->settings.stall_ms;

	return is_index(fl) && fl->started + INDEX_LOOKUP_MS < stall ? fl->started + INDEX_LOOKUP_MS : stall;
}

static void
watch(struct flight *fl)
{
	struct fetch *f = fl->fetch;
	struct err e;

	if (fl->state == FLIGHT_WAITING) {
		launch(fl);
	} else if (fl->state == FLIGHT_ROOT) {
		look_for_root(fl);
	} else if (f->now >= stall_time(fl)) {
		(void)err_set(&e, "%s: no answer for %u ms", fl->transfer.url.host,
		    is_index(fl) ? INDEX_LOOKUP_MS : f->settings.stall_ms);
		transfer_stop(&fl->transfer);
		silent(fl, e.text);
	}
}

void
lookup_pump(struct fetch *f)
{
	struct lookups *all = f->lookups;

	for (size_t i = 0; all->running > 0 && i < FLIGHTS; i++)
		if (all->flights[i].state != FLIGHT_FREE)
			watch(&all->flights[i]);
	for (size_t s = 0; all->pending > 0 && s < f->nservers; s++) {
		struct line *line = &all->lines[s];

		while (line->first != NULL && line->flights < line->window && serve_room(f))
			if (!start_one(f, line))
				break;
	}
}

void
lookup_cancel(struct fetch *f, uint32_t id)
{
	struct lookups *all = f->lookups;

	for (size_t s = 0; s < f->nservers; s++) {
		struct line *line = &all->lines[s];

		for (struct lookup **p = &line->first; *p != NULL; p = &(*p)->next) {
			struct lookup *l = *p;

			if (l->id != id)
				continue;
			*p = l->next;
			if (l->next == NULL)
				line->tail = p;
			all->pending--;
			answer(f, l, NARINFO_FAILED, TTL_NOT_TOLD, "cancelled");
			return;
		}
	}
	for (size_t i = 0; i < FLIGHTS; i++) {
		struct flight *fl = &all->flights[i];

		if (fl->state != FLIGHT_FREE && fl->lookup->id == id) {
			transfer_stop(&fl->transfer);
			fail(fl, "cancelled");
			return;
		}
	}
}

uint64_t
lookup_deadline(const struct fetch *f)
{
	const struct lookups *all = f->lookups;
	uint64_t first = UINT64_MAX;

	for (size_t i = 0; all->running > 0 && i < FLIGHTS; i++) {
		const struct flight *fl = &all->flights[i];

		if (fl->state == FLIGHT_RUNNING && stall_time(fl) < first)
			first = stall_time(fl);
		if (fl->state == FLIGHT_ROOT && rootget_deadline(fl->root) < first)
			first = rootget_deadline(fl->root);
	}
	return first;
}
