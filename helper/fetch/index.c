/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): indexes: servers that know the ERIS capability of nars. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helper/fetch/index.h"
#include "helper/fetch/transfer.h"
#include "ipc/wire.h"

/* Indexes that one question goes to. */
#define ASKED 8

enum ask_state { WAITING /* for a name */, RUNNING, FOUND, FAILED };

struct ask {
	struct index_query *q;
	struct server *server;
	struct transfer transfer;
	enum ask_state state;
	char *body;             /* INDEX_MAX bytes at most */
	size_t len, room;
	struct index_answer answer;
};

struct index_query {
	struct fetch *fetch;
	char hash_part[HASH_PART_BYTES + 1];
	uint64_t start, deadline;
	size_t n;
	struct ask asks[ASKED];
};

static size_t on_body(void *owner, const char *data, size_t n);
static void on_done(void *owner, CURLcode result);

static const struct transfer_owner calls = { on_body, on_done };

static void
give_up(struct ask *a)
{
	if (a->state == RUNNING)
		transfer_stop(&a->transfer);
	a->state = FAILED;
	free(a->body);
	a->body = NULL;
	a->len = a->room = 0;
}

static void
launch(struct ask *a)
{
	struct err e;

	switch (transfer_start(&a->transfer, NULL, &e)) {
	case HOST_WAITING:
		a->state = WAITING;
		break;
	case HOST_READY:
		a->state = RUNNING;
		break;
	default:
		hosts_die(&a->q->fetch->hosts, &a->transfer.url);
		give_up(a);
	}
}

static int
add(struct index_query *q, struct server *s)
{
	struct ask *a = &q->asks[q->n];
	char name[HASH_PART_BYTES + 8];
	struct err e;

	(void)snprintf(name, sizeof name, "eris/%s", q->hash_part);
	if (s->kind != SERVER_INDEX || s->refusal[0] != '\0' || hosts_dead(&q->fetch->hosts, &s->url) ||
	    transfer_init(&a->transfer, q->fetch, TRANSFER_LOOKUP, &calls, a, &e) != 0)
		return -1;
	if (url_below(&a->transfer.url, &s->url, name, &e) != 0) {
		transfer_free(&a->transfer);
		return -1;
	}
	a->q = q;
	a->server = s;
	a->state = WAITING;
	q->n++;
	return 0;
}

struct index_query *
index_new(struct fetch *f, const char hash_part[HASH_PART_BYTES + 1], uint32_t wait_ms, struct err *e)
{
	struct index_query *q = calloc(1, sizeof *q);

	if (q == NULL)
		return (void)err_set(e, "no memory to ask an index"), NULL;
	if (e != NULL)
		e->text[0] = '\0';
	q->fetch = f;
	memcpy(q->hash_part, hash_part, HASH_PART_BYTES);
	q->start = f->now;
	q->deadline = f->now + wait_ms;
	for (size_t i = 0; i < f->nservers && q->n < ASKED; i++)
		(void)add(q, &f->servers[i]);
	if (q->n > 0)
		return q;
	free(q);
	return NULL;
}

void
index_free(struct index_query *q)
{
	for (size_t i = 0; q != NULL && i < q->n; i++) {
		give_up(&q->asks[i]);
		transfer_free(&q->asks[i].transfer);
	}
	free(q);
}

static size_t
on_body(void *owner, const char *data, size_t n)
{
	struct ask *a = owner;
	size_t room = a->room != 0 ? a->room : 4096;
	char *body;

	if (a->transfer.answer.status != 200)
		return transfer_ignore(&a->transfer, n);
	if (a->len + n > INDEX_MAX)
		return 0;
	while (room < a->len + n)
		room *= 2;
	if (room != a->room) {
		if ((body = realloc(a->body, room)) == NULL)
			return 0;
		a->body = body;
		a->room = room;
	}
	memcpy(a->body + a->len, data, n);
	a->len += n;
	return n;
}

static void
on_done(void *owner, CURLcode result)
{
	struct ask *a = owner;
	struct hosts *hosts = &a->q->fetch->hosts;
	struct err e;

	a->state = FAILED;
	a->server->silent = 0;
	if (transfer_is_dead(&a->transfer, result)) {
		hosts_die(hosts, &a->transfer.url);
		hosts_stale(hosts, a->transfer.url.host);
	} else if (result == CURLE_OK && a->transfer.answer.status == 200 &&
	    indextext_parse(&a->answer, a->body, a->len, a->q->hash_part, &e) == 0 && a->answer.n > 0) {
		a->state = FOUND;
	}
	free(a->body);
	a->body = NULL;
	a->len = a->room = 0;
}

/* It had its time.  Its host may have other things to say, so only the index is given up. */
static void
silent(struct ask *a)
{
	struct server *s = a->server;

	give_up(a);
	if (++s->silent >= INDEX_SILENT)
		wire_copy(s->refusal, sizeof s->refusal, wire_str("the index does not answer"));
}

enum index_state
index_pump(struct index_query *q, const struct index_answer **answer)
{
	uint64_t now = q->fetch->now;
	int half = now >= q->start + (q->deadline - q->start) / 2, waits = 0;

	for (size_t i = 0; i < q->n; i++) {
		struct ask *a = &q->asks[i];

		if (a->state == WAITING)
			launch(a);
		if (a->state <= RUNNING && now >= q->deadline)
			silent(a);
		waits |= a->state <= RUNNING;
	}
	for (size_t i = 0; i < q->n; i++) {
		if (q->asks[i].state == FOUND) {
			*answer = &q->asks[i].answer;
			return INDEX_FOUND;
		}
		if (q->asks[i].state <= RUNNING && !half)
			return INDEX_WAITS;
	}
	return waits ? INDEX_WAITS : INDEX_NOTHING;
}

uint64_t
index_deadline(const struct index_query *q)
{
	uint64_t half = q->start + (q->deadline - q->start) / 2;

	return half > q->fetch->now ? half : q->deadline;
}
