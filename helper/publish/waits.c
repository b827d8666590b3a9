/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): requests that wait for the upstream server: for its answer about a narinfo that the cache
 * lacks, and for a nar that it is baking because of that. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "helper/publish/files.h"
#include "helper/publish/info.h"
#include "helper/publish/upstream.h"
#include "helper/publish/worker.h"

/* Milliseconds: for an answer, and for a nar to be baked; items that were just promised to somebody. */
#define ANSWER_MS (UPSTREAM_SECONDS * 1000 + 2000)
#define BAKE_MS 60000
/* The same for one that is fetched into a cache of our own. */
#define FETCH_MS 600000
#define PROMISED_MS 600000

static struct wait *
free_wait(struct worker *w)
{
	for (unsigned i = 0; i < WORKER_WAITS; i++)
		if (w->waits[i].connection == NULL)
			return &w->waits[i];
	return NULL;
}

static void
set_waiting(struct MHD_Connection *c, int waiting)
{
	const union MHD_ConnectionInfo *i = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct conn *n = i == NULL ? NULL : i->socket_context;

	if (n != NULL)
		n->waiting = waiting;
}

static void
begin(struct worker *w, struct wait *at, struct MHD_Connection *c, struct request *r, int64_t most)
{
	at->connection = c;
	at->request = r;
	at->until = w->now + most;
	r->waited = 1;
	set_waiting(c, 1);
	MHD_suspend_connection(c);
}

static void
end(struct worker *w, struct wait *at)
{
	struct MHD_Connection *c = at->connection;

	at->connection = NULL;
	w->resumed = 1;
	set_waiting(c, 0);
	MHD_resume_connection(c);
}

/* An item's nar will be asked for next, maybe of another thread.  Two threads at the same place spoil at most
 * a promise. */
static void
promise(struct shared *s, int64_t hash, int64_t now)
{
	unsigned i = __atomic_fetch_add(&s->promised, 1, __ATOMIC_RELAXED) % SHARED_PROMISES;

	__atomic_store_n(&s->promises[i].until, now + PROMISED_MS, __ATOMIC_RELAXED);
	__atomic_store_n(&s->promises[i].hash, hash, __ATOMIC_RELAXED);
}

static int
is_promised(struct shared *s, int64_t hash, int64_t now)
{
	for (unsigned i = 0; i < SHARED_PROMISES; i++)
		if (__atomic_load_n(&s->promises[i].hash, __ATOMIC_RELAXED) == hash &&
		    now < __atomic_load_n(&s->promises[i].until, __ATOMIC_RELAXED))
			return 1;
	return 0;
}

int
waits_for_narinfo(struct worker *w, struct MHD_Connection *c, struct request *r, const char *part)
{
	struct wait *at = free_wait(w);
	struct upstream_question q;

	if (w->up < 0 || at == NULL || r->waited || catalog_hash(part) < 0)
		return 0;
	at->ticket = ++w->tickets;
	at->is_nar = 0;
	at->hash = catalog_hash(part);
	memset(&q, 0, sizeof q);
	q.ticket = at->ticket;
	memcpy(q.part, part, sizeof q.part);
	if (send(w->up, &q, sizeof q, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)sizeof q)
		return 0;
	begin(w, at, c, r, ANSWER_MS);
	return 1;
}

int
waits_for_nar(struct worker *w, struct MHD_Connection *c, struct request *r, const char *path)
{
	const char *item = info_item(path);
	struct wait *at = free_wait(w);
	int64_t hash = item == NULL ? -1 : catalog_hash(item);

	if (w->up < 0 || at == NULL || r->waited || hash < 0)
		return 0;
	if (!is_promised(w->o->shared, hash, w->now))
		return 0;
	at->is_nar = 1;
	strcpy(at->path, path);
	begin(w, at, c, r, w->o->conf->mirror ? FETCH_MS : BAKE_MS);
	return 1;
}

/* What the upstream says, as an answer of ours. */
static struct MHD_Response *
translate(const struct upstream_answer *a, const char *body, unsigned *status)
{
	union {
		const char *in;
		void *out;
	} data = { .in = a->status == 200 ? body : "Resource not found.\n" };
	size_t len = a->status == 200 ? a->len : strlen(data.in);
	struct MHD_Response *r = MHD_create_response_from_buffer(len, data.out, MHD_RESPMEM_MUST_COPY);
	char age[40];

	/* A server that fails is no reason to believe that there is nothing for a long time: nothing is said
	 * about that. */
	*status = a->status == 200 ? MHD_HTTP_OK : MHD_HTTP_NOT_FOUND;
	if (r == NULL)
		return NULL;
	MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE,
	    a->status == 200 ? "application/x-nix-narinfo" : "text/plain; charset=utf-8");
	if ((a->status == 200 || a->status == 404) && a->max_age >= 0 && reply_age(age,
	    (unsigned)a->max_age) != NULL)
		MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, age);
	if (a->baking)
		MHD_add_response_header(r, "X-Baking", "1");
	return r;
}

static void
take_answer(struct worker *w, const char *message, size_t len)
{
	struct upstream_answer a;

	if (len < sizeof a)
		return;
	memcpy(&a, message, sizeof a);
	if (a.len != len - sizeof a)
		return;
	for (unsigned i = 0; i < WORKER_WAITS; i++) {
		struct wait *at = &w->waits[i];

		if (at->connection == NULL || at->is_nar || at->ticket != a.ticket)
			continue;
		at->request->response = translate(&a, message + sizeof a, &at->request->status);
		shared_add(w->counts, a.status == 200 ? COUNT_NARINFO : COUNT_NARINFO_MISSING, 1);
		if (a.status == 200)
			promise(w->o->shared, at->hash, w->now);
		end(w, at);
	}
}

void
waits_look(struct worker *w)
{
	struct stat st;
	ssize_t n;

	while (w->up >= 0 && (n = recv(w->up, w->message, WORKER_MESSAGE, MSG_DONTWAIT)) > 0)
		take_answer(w, w->message, (size_t)n);
	for (unsigned i = 0; i < WORKER_WAITS; i++) {
		struct wait *at = &w->waits[i];

		if (at->connection == NULL)
			continue;
		if (at->is_nar) {
			int fd = files_open(w->o->cache, at->path, &st);

			if (fd >= 0)
				close(fd);
			if (fd >= 0 || w->now >= at->until)
				end(w, at);
		} else if (w->now >= at->until)
			end(w, at);
	}
}
