/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): indexes: servers that know the ERIS capability of nars. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helper/eris/urn.h"
#include "helper/fetch/index.h"
#include "helper/fetch/rank.h"
#include "helper/fetch/transfer.h"
#include "helper/ipfs/manifest.h"
#include "ipc/wire.h"

/* Indexes that one question goes to. */
#define ASKED 8

/* --- The text ---------------------------------------------------------------------------------------- */

/* What has been seen of the group at hand. */
enum { SEEN_METHOD = 1, SEEN_SIZE = 2, SEEN_ERIS = 4, SEEN_MANIFEST = 8 };

struct reader {
	struct index_answer *a;
	struct index_group group;
	uint8_t in_group, seen, useless;
	unsigned lines;
};

static void
end_group(struct reader *r)
{
	if (r->in_group && !r->useless && r->group.method != 0 && (r->group.has_cap || r->group.has_manifest) &&
	    r->a->n < INDEX_GROUPS)
		r->a->groups[r->a->n++] = r->group;
	memset(&r->group, 0, sizeof r->group);
	r->group.method = METHOD_NONE;
	r->seen = r->useless = 0;
}

static int
once(struct reader *r, uint8_t what, struct err *e)
{
	if (!r->in_group)
		return err_set(e, "a field of a group before its URL");
	if (r->seen & what)
		return err_set(e, "a field twice in one group");
	r->seen |= what;
	return 0;
}

static int
file_size(struct reader *r, const char *value)
{
	uint64_t v = 0;

	if (value[0] == '\0' || strlen(value) > 15 || value[strspn(value, "0123456789")] != '\0')
		return -1;
	for (; *value != '\0'; value++)
		v = v * 10 + (uint64_t)(*value - '0');
	r->group.file_size = v;
	return 0;
}

static int
is_path(const char *value, const char *hash_part)
{
	const char *name = strrchr(value, '/');

	return value[0] == '/' && strlen(name + 1) > HASH_PART_BYTES && memcmp(name + 1, hash_part, HASH_PART_BYTES) == 0 &&
	    name[1 + HASH_PART_BYTES] == '-';
}

static int
field(struct reader *r, const char *key, const char *value, const char *hash_part, struct err *e)
{
	struct err why;

	if (r->lines++ == 0)
		return strcmp(key, "StorePath") == 0 && is_path(value, hash_part) ? 0 :
		    err_set(e, "it does not begin with the store path that was asked for");
	if (strcmp(key, "StorePath") == 0)
		return err_set(e, "a second store path");
	if (strcmp(key, "URL") == 0) {
		end_group(r);
		r->in_group = 1;
	} else if (strcmp(key, "Compression") == 0) {
		if (once(r, SEEN_METHOD, e) != 0)
			return -1;
		r->group.method = rank_method(value);
	} else if (strcmp(key, "FileSize") == 0) {
		if (once(r, SEEN_SIZE, e) != 0 || file_size(r, value) != 0)
			return err_set(e, "a FileSize that is none or not in its place");
	} else if (strcmp(key, "ERIS") == 0) {
		if (once(r, SEEN_ERIS, e) != 0)
			return -1;
		/* An encoding of another time: this group is not for us. */
		r->group.has_cap = urn_parse(&r->group.cap, value, &why) == 0;
		r->useless |= !r->group.has_cap;
	} else if (strcmp(key, "ERIS-Manifest") == 0) {
		if (once(r, SEEN_MANIFEST, e) != 0)
			return -1;
		r->group.has_manifest = manifest_cid_parse(r->group.manifest, value, &why) == 0;
		r->useless |= !r->group.has_manifest;
	}
	return 0;
}

/* "KEY: VALUE", LEN bytes without the line end. */
static int
line(struct reader *r, const char *text, size_t len, const char *hash_part, struct err *e)
{
	char copy[LIMIT_NARINFO_LINE + 1];
	char *colon;

	if (len > LIMIT_NARINFO_LINE)
		return err_set(e, "a line that is too long");
	for (size_t i = 0; i < len; i++)
		if (text[i] < ' ' || text[i] > '~')
			return err_set(e, "a character that does not belong there");
	memcpy(copy, text, len);
	copy[len] = '\0';
	colon = strchr(copy, ':');
	if (colon == NULL || colon == copy || colon[1] != ' ')
		return err_set(e, "a line that is no field");
	*colon = '\0';
	return field(r, copy, colon + 2, hash_part, e);
}

int
index_parse(struct index_answer *a, const char *text, size_t len, const char hash_part[HASH_PART_BYTES + 1],
    struct err *e)
{
	struct reader r = { .a = a };
	const char *end = text + len;

	a->n = 0;
	if (len > INDEX_MAX)
		return err_set(e, "index: more than %d bytes", INDEX_MAX);
	while (text < end) {
		const char *stop = memchr(text, '\n', (size_t)(end - text));
		struct err why;

		if (stop == NULL)
			return err_set(e, "index: the last line does not end");
		if (line(&r, text, (size_t)(stop - text), hash_part, &why) != 0)
			return err_set(e, "index: %s", why.text);
		text = stop + 1;
	}
	if (r.lines == 0)
		return err_set(e, "index: nothing");
	end_group(&r);
	return 0;
}

const struct index_group *
index_match(const struct index_answer *a, uint8_t method, uint64_t size)
{
	for (size_t i = 0; i < a->n; i++) {
		const struct index_group *g = &a->groups[i];

		if (g->method == method && (g->file_size == 0 || size == 0 || g->file_size == size))
			return g;
	}
	return NULL;
}

/* --- Questions --------------------------------------------------------------------------------------- */

enum ask_state { WAITING /* for a name */, RUNNING, FOUND, FAILED };

struct ask {
	struct index_query *q;
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
add(struct index_query *q, const struct server *s)
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
	if (transfer_is_dead(&a->transfer, result)) {
		hosts_die(hosts, &a->transfer.url);
		hosts_stale(hosts, a->transfer.url.host);
	} else if (result == CURLE_OK && a->transfer.answer.status == 200 &&
	    index_parse(&a->answer, a->body, a->len, a->q->hash_part, &e) == 0 && a->answer.n > 0) {
		a->state = FOUND;
	}
	free(a->body);
	a->body = NULL;
	a->len = a->room = 0;
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
		/* Nothing is said of redirects: an index is where the configuration says. */
		if (a->state <= RUNNING && now >= q->deadline)
			give_up(a);
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
