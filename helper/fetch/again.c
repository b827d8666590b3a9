/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): publish-again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helper/fetch/again.h"
#include "helper/fetch/blockconf.h"
#include "helper/fetch/siphash.h"
#include "helper/fetch/transfer.h"

#define WHERE "publish-this-nar-again-into-IPFS/"
/* Longest name: that of a store item, and what servers put behind it. */
#define NAME 255
/* Servers that one order may ask. */
#define SERVERS 8

#define FIRST_MS 500
#define LONGEST_MS 4000

enum phase { IDLE, STARTING, RUNNING, PUBLISHED, OVER };

struct ask {
	uint16_t server;
	char name[NAME + 1];
};

struct again {
	struct fetch *fetch;
	struct transfer transfer;
	enum phase phase;
	struct ask asks[SERVERS];
	size_t nasks, at;
	uint8_t second;      /* the server has said 429 before */
	uint64_t next_ms;    /* STARTING: not earlier; PUBLISHED: the next look */
	unsigned retries;
	struct err why;
	uint64_t asked[AGAIN_ASKED]; /* hashes of server and name */
	size_t nasked;
};

static size_t on_body(void *owner, const char *data, size_t n);
static void on_done(void *owner, CURLcode result);

static const struct transfer_owner calls = { on_body, on_done };

int
again_init(struct fetch *f, struct err *e)
{
	struct again *a = calloc(1, sizeof *a);

	if (a == NULL)
		return err_set(e, "no memory for publish-again");
	a->fetch = f;
	f->again = a;
	return 0;
}

void
again_free(struct fetch *f)
{
	if (f->again != NULL && f->again->transfer.easy != NULL)
		transfer_free(&f->again->transfer);
	free(f->again);
	f->again = NULL;
}

/* --- Whom to ask ------------------------------------------------------------------------------------- */

int
again_name(char *name, size_t size, const char *url)
{
	static const char good[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-._~=%";
	size_t end = strcspn(url, "?#"), begin = end;

	while (begin > 0 && url[begin - 1] != '/')
		begin--;
	if (begin == end || end - begin >= size || url[begin] == '.' || strspn(url + begin, good) < end - begin)
		return -1;
	memcpy(name, url + begin, end - begin);
	name[end - begin] = '\0';
	return 0;
}

static uint64_t
hash(const struct ask *ask)
{
	static const uint8_t key[16];
	char text[NAME + 16];
	uint64_t h;
	int n = snprintf(text, sizeof text, "%u/%s", ask->server, ask->name);

	siphash(key, text, (size_t)n, (uint8_t *)&h, sizeof h);
	return h;
}

static int
may_ask(const struct again *a, const struct ask *ask)
{
	const struct server *s = &a->fetch->servers[ask->server];
	uint64_t h = hash(ask);

	if (s->kind != SERVER_TRUSTED || s->refusal[0] != '\0' || hosts_dead(&a->fetch->hosts, &s->url))
		return 0;
	for (size_t i = 0; i < a->nasked; i++)
		if (a->asked[i] == h)
			return 0;
	for (size_t i = 0; i < a->nasks; i++)
		if (a->asks[i].server == ask->server && strcmp(a->asks[i].name, ask->name) == 0)
			return 0;
	return 1;
}

int
again_begin(struct fetch *f, const struct again_place *places, size_t n)
{
	struct again *a = f->again;

	again_end(f);
	a->nasks = a->at = 0;
	a->retries = a->second = 0;
	a->next_ms = f->now;
	a->why.text[0] = '\0';
	for (size_t i = 0; i < n && a->nasks < SERVERS && f->blocks->publish_again; i++) {
		struct ask *ask = &a->asks[a->nasks];

		ask->server = places[i].server;
		if (ask->server < f->nservers && again_name(ask->name, sizeof ask->name, places[i].url) == 0 &&
		    may_ask(a, ask))
			a->nasks++;
	}
	a->phase = a->nasks > 0 && a->nasked < AGAIN_ASKED ? STARTING : IDLE;
	return a->phase == STARTING;
}

void
again_end(struct fetch *f)
{
	struct again *a = f->again;

	if (a->phase == RUNNING)
		transfer_stop(&a->transfer);
	a->phase = IDLE;
}

/* --- Asking ------------------------------------------------------------------------------------------ */

/* The server at hand does not do it: the next one. */
static void
next(struct again *a)
{
	a->at++;
	a->second = 0;
	a->next_ms = a->fetch->now;
	a->phase = a->at < a->nasks && a->nasked < AGAIN_ASKED ? STARTING : OVER;
}

static void
launch(struct again *a)
{
	static const struct transfer_request post = { .method = "POST" };
	const struct ask *ask = &a->asks[a->at];
	const struct server *s = &a->fetch->servers[ask->server];
	char path[sizeof WHERE + NAME];

	(void)snprintf(path, sizeof path, WHERE "%s", ask->name);
	if ((a->transfer.easy == NULL &&
	    transfer_init(&a->transfer, a->fetch, TRANSFER_LOOKUP, &calls, a, &a->why) != 0) ||
	    url_below(&a->transfer.url, &s->url, path, &a->why) != 0) {
		next(a);
		return;
	}
	switch (transfer_ask(&a->transfer, &post, NULL, &a->why)) {
	case HOST_WAITING:
		break;
	case HOST_READY:
		if (!a->second)
			a->asked[a->nasked++] = hash(ask);
		a->phase = RUNNING;
		break;
	default:
		next(a);
	}
}

static size_t
on_body(void *owner, const char *data, size_t n)
{
	struct again *a = owner;

	(void)data;
	return transfer_ignore(&a->transfer, n);
}

static void
on_done(void *owner, CURLcode result)
{
	struct again *a = owner;
	const struct answer *answer = &a->transfer.answer;
	char where[LIMIT_SOURCE + 1], reason[LIMIT_REASON + 1];

	if (a->phase != RUNNING)
		return;
	url_source(&a->transfer.url, where, sizeof where);
	if (answer->status == 200 || answer->status == 202) { /* whatever became of its page */
		(void)err_set(&a->why, "%s publishes it again", where);
		a->phase = PUBLISHED;
		a->next_ms = a->fetch->now + (answer->status == 202 ? FIRST_MS : 0);
		return;
	}
	if (answer->status == 429 && !a->second && answer->retry_after >= 0 &&
	    answer->retry_after <= AGAIN_RETRY_AFTER_S) {
		a->second = 1;
		a->phase = STARTING;
		a->next_ms = a->fetch->now + (uint64_t)answer->retry_after * 1000;
		return;
	}
	transfer_reason(&a->transfer, answer->status != 0 ? CURLE_OK : result, reason, sizeof reason);
	(void)err_set(&a->why, "%s, asked to publish again", reason);
	next(a);
}

/* --- The clock --------------------------------------------------------------------------------------- */

static uint64_t
gap(unsigned retries)
{
	return retries < 3 ? (uint64_t)FIRST_MS << retries : LONGEST_MS;
}

static enum again_step
look(struct again *a)
{
	if (a->fetch->now < a->next_ms)
		return AGAIN_NOTHING;
	if (a->retries >= AGAIN_RETRIES) {
		a->phase = OVER;
		return AGAIN_OVER;
	}
	a->retries++;
	a->next_ms = a->fetch->now + gap(a->retries);
	return AGAIN_RETRY;
}

enum again_step
again_pump(struct fetch *f, const char **why)
{
	struct again *a = f->again;

	*why = a->why.text;
	if (a->phase == RUNNING && f->now >= a->transfer.active + f->settings.stall_ms) {
		transfer_stop(&a->transfer);
		(void)err_set(&a->why, "%s does not answer when it is asked to publish again", a->transfer.url.host);
		next(a);
	}
	if (a->phase == STARTING && f->now >= a->next_ms)
		launch(a);
	if (a->phase == PUBLISHED)
		return look(a);
	return a->phase == OVER ? AGAIN_OVER : AGAIN_NOTHING;
}

uint64_t
again_deadline(const struct fetch *f)
{
	const struct again *a = f->again;

	/* If it is time to start, it waits for a name. */
	if (a->phase == PUBLISHED || (a->phase == STARTING && a->next_ms > f->now))
		return a->next_ms;
	return a->phase == RUNNING ? a->transfer.active + f->settings.stall_ms : UINT64_MAX;
}
