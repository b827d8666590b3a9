/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): POST /publish-this-nar-again-into-IPFS/NAME: a nar of the cache into the queue of the
 * process that talks to IPFS daemons, and what became of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "helper/publish/info.h"
#include "helper/publish/worker.h"

/* Seconds for which a nar that was published counts as published. */
#define DONE_FOR 60

enum asked { ASKED_UNKNOWN, ASKED_QUEUED, ASKED_RUNNING, ASKED_DONE, ASKED_FAILED, ASKED_GONE, ASKED_FULL,
    ASKED_NOT_YET };

/* Whether a nar's file has this name, with or without its .nar. */
static int
is_named(const struct catalog_nar *nar, const char *name)
{
	const char *slash = strrchr(nar->path, '/'), *base = slash == NULL ? nar->path : slash + 1;
	size_t n = strlen(name);

	return strncmp(base, name, n) == 0 && (base[n] == '\0' || strcmp(base + n, ".nar") == 0);
}

/* The nars with a name: one for each compression. */
static unsigned
find(struct worker *w, const char *name, struct catalog_nar *nars)
{
	unsigned n = 0, kept = 0;

	if (strlen(name) < 33 || strlen(name) > 255 || strchr(name, '/') != NULL || catalog_hash(name) < 0 ||
	    catalog_nars_of(place_catalog(w->place), catalog_hash(name), nars, LIMIT_NARINFO_URLS, &n,
	    NULL) != 0)
		return 0;
	for (unsigned i = 0; i < n; i++)
		if (is_named(&nars[i], name))
			nars[kept++] = nars[i];
	return kept;
}

/* What is known of a nar; with the lock held. */
static enum asked
state_of(const struct shared_again *a)
{
	if (a == NULL)
		return ASKED_UNKNOWN;
	switch (a->state) {
	case AGAIN_QUEUED:
		return ASKED_QUEUED;
	case AGAIN_RUNNING:
		return ASKED_RUNNING;
	case AGAIN_DONE:
		return ASKED_DONE;
	case AGAIN_GONE:
		return ASKED_GONE;
	default:
		return ASKED_FAILED;
	}
}

/* A place in the queue: one that is free, or whose nar is done longest. */
static struct shared_again *
free_place(struct shared *s, unsigned most)
{
	struct shared_again *best = NULL;
	unsigned busy = 0;

	for (unsigned i = 0; i < SHARED_QUEUE; i++) {
		struct shared_again *a = &s->queue[i];

		if (a->state == AGAIN_QUEUED || a->state == AGAIN_RUNNING)
			busy++;
		else if (a->state == AGAIN_FREE || best == NULL ||
		    (best->state != AGAIN_FREE && a->since < best->since)) {
			if (best == NULL || best->state != AGAIN_FREE)
				best = a;
		}
	}
	return busy >= most ? NULL : best;
}

/* Whether nothing has to be done: it is under way, or was done just now; with the lock held. */
static int
is_under_way(const struct shared_again *a)
{
	enum asked state = state_of(a);

	return state == ASKED_QUEUED || state == ASKED_RUNNING ||
	    (state == ASKED_DONE && time(NULL) - a->since < DONE_FOR);
}

static enum asked
enqueue(struct worker *w, const struct catalog_nar *nar)
{
	struct shared *s = w->o->shared;
	struct shared_again *a;

	shared_lock(s);
	a = shared_find(s, nar->id, nar->hash);
	if (is_under_way(a)) {
		enum asked state = state_of(a);

		shared_unlock(s);
		return state;
	}
	if (a == NULL)
		a = free_place(s, w->o->conf->again_queue);
	if (a != NULL) {
		a->nar = nar->id;
		a->hash = nar->hash;
		a->tries = 0;
		a->since = time(NULL);
		a->state = AGAIN_QUEUED;
	}
	shared_unlock(s);
	return a == NULL ? ASKED_FULL : ASKED_QUEUED;
}

/* Whether one of the nars would take a place of the queue. */
static int
is_new(struct worker *w, const struct catalog_nar *nars, unsigned n)
{
	int new = 0;

	shared_lock(w->o->shared);
	for (unsigned i = 0; i < n; i++)
		new |= !is_under_way(shared_find(w->o->shared, nars[i].id, nars[i].hash));
	shared_unlock(w->o->shared);
	return new;
}

/* The state that says most, of several nars. */
static enum asked
worse(enum asked a, enum asked b)
{
	static const enum asked order[] = { ASKED_FULL, ASKED_RUNNING, ASKED_QUEUED, ASKED_FAILED,
	    ASKED_NOT_YET, ASKED_DONE, ASKED_GONE };

	for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
		if (a == order[i] || b == order[i])
			return order[i];
	return ASKED_UNKNOWN;
}

static enum MHD_Result
answer(struct MHD_Connection *c, unsigned status, const char *text, const char *name, unsigned retry)
{
	struct MHD_Response *r;
	char value[320];
	union {
		const char *in;
		void *out;
	} body = { .in = text };

	r = MHD_create_response_from_buffer(strlen(text), body.out, MHD_RESPMEM_PERSISTENT);
	if (r != NULL) {
		MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain; charset=utf-8");
		MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
		if (status == MHD_HTTP_ACCEPTED && snprintf(value, sizeof value, AGAIN_STATUS "%s",
		    name) < (int)sizeof value)
			MHD_add_response_header(r, MHD_HTTP_HEADER_LOCATION, value);
		if (retry > 0) {
			snprintf(value, sizeof value, "%u", retry);
			MHD_add_response_header(r, MHD_HTTP_HEADER_RETRY_AFTER, value);
		}
	}
	return reply_send(c, status, r);
}

static enum MHD_Result
say(struct MHD_Connection *c, enum asked state, const char *name, int posted)
{
	switch (state) {
	case ASKED_QUEUED:
		return answer(c, posted ? MHD_HTTP_ACCEPTED : MHD_HTTP_OK, "queued\n", name, 0);
	case ASKED_RUNNING:
		return answer(c, posted ? MHD_HTTP_ACCEPTED : MHD_HTTP_OK, "running\n", name, 0);
	case ASKED_DONE:
		return answer(c, MHD_HTTP_OK, "done\n", name, 0);
	case ASKED_FAILED:
		return answer(c, MHD_HTTP_OK, "failed\n", name, 0);
	case ASKED_GONE:
		return answer(c, MHD_HTTP_OK, "gone\n", name, 0);
	case ASKED_FULL:
		return answer(c, MHD_HTTP_TOO_MANY_REQUESTS, "The queue is full.\n", name, 30);
	case ASKED_NOT_YET:
		return answer(c, MHD_HTTP_SERVICE_UNAVAILABLE, "The nar is not indexed yet.\n", name, 10);
	case ASKED_UNKNOWN:
		break;
	}
	return answer(c, MHD_HTTP_NOT_FOUND, posted ? "There is no such nar.\n" :
	    "Nobody has asked for this.\n", name, 0);
}

enum MHD_Result
again_post(struct worker *w, struct MHD_Connection *c, const char *name)
{
	const union MHD_ConnectionInfo *from = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	struct catalog_nar *nars;
	enum asked state = ASKED_UNKNOWN;
	unsigned n;

	if (w->o->conf->ipfses == 0 || !w->o->conf->publish_again)
		return reply_say(c, MHD_HTTP_NOT_FOUND, "Nothing is published into IPFS here.\n");
	nars = malloc(LIMIT_NARINFO_URLS * sizeof *nars);
	n = nars == NULL ? 0 : find(w, name, nars);
	shared_add(w->counts, COUNT_AGAIN_ASKED, n > 0);
	/* Who asks for what is under way costs nothing. */
	if (n > 0 && from != NULL && is_new(w, nars, n) && !limiter_take(w->again, from->client_addr,
	    w->now)) {
		free(nars);
		shared_add(w->counts, COUNT_AGAIN_LIMITED, 1);
		return answer(c, MHD_HTTP_TOO_MANY_REQUESTS, "Too many nars from your address.\n", name,
		    3600 / w->o->conf->again_per_hour + 1);
	}
	for (unsigned i = 0; i < n; i++)
		state = worse(state, nars[i].state == CATALOG_READY && nars[i].has_manifest ?
		    enqueue(w, &nars[i]) : ASKED_NOT_YET);
	free(nars);
	return say(c, state, name, 1);
}

enum MHD_Result
again_status(struct worker *w, struct MHD_Connection *c, const char *name)
{
	struct catalog_nar *nars = malloc(LIMIT_NARINFO_URLS * sizeof *nars);
	unsigned n = nars == NULL ? 0 : find(w, name, nars);
	enum asked state = ASKED_UNKNOWN;
	int64_t hash = strlen(name) < 33 ? -1 : catalog_hash(name);

	shared_lock(w->o->shared);
	for (unsigned i = 0; i < n; i++)
		state = worse(state, state_of(shared_find(w->o->shared, nars[i].id, nars[i].hash)));
	/* What was asked for may have been replaced, or has left the cache, since then. */
	for (unsigned i = 0; i < SHARED_QUEUE && state == ASKED_UNKNOWN && hash >= 0; i++)
		if (w->o->shared->queue[i].state != AGAIN_FREE && w->o->shared->queue[i].hash == hash)
			state = state_of(&w->o->shared->queue[i]);
	shared_unlock(w->o->shared);
	free(nars);
	return say(c, state, name, 0);
}
