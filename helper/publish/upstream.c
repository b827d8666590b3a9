/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): narinfos that the cache does not have, asked of a running `guix publish'. */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "helper/eris/pool.h"
#include "helper/publish/client.h"
#include "helper/publish/dial.h"
#include "helper/publish/mirror.h"
#include "helper/publish/upstream.h"

struct question {
	CURL *easy;           /* NULL: free */
	struct upstream *u;
	int socket;
	int too_long;
	struct upstream_answer answer;
	char body[UPSTREAM_BODY];
};

struct upstream {
	char base[LIMIT_URL];
	struct curl_slist *resolve;
	CURLM *multi;
	struct mirror *mirror; /* or NULL */
	unsigned busy;
	struct question questions[UPSTREAM_QUESTIONS];
	char message[sizeof(struct upstream_answer) + UPSTREAM_BODY];
};

static size_t
on_body(char *data, size_t one, size_t n, void *ctx)
{
	struct question *q = ctx;

	n *= one;
	if (n > UPSTREAM_BODY - q->answer.len)
		q->too_long = 1;
	else {
		memcpy(q->body + q->answer.len, data, n);
		q->answer.len += (uint32_t)n;
	}
	return n;
}

static size_t
on_header(char *data, size_t one, size_t n, void *ctx)
{
	static const char cache[] = "cache-control:", baking[] = "x-baking:", age[] = "max-age=";
	struct question *q = ctx;
	char line[256];

	n *= one;
	snprintf(line, sizeof line, "%.*s", (int)(n < sizeof line ? n : sizeof line - 1), data);
	if (strncasecmp(line, baking, sizeof baking - 1) == 0)
		q->answer.baking = 1;
	if (strncasecmp(line, cache, sizeof cache - 1) == 0) {
		const char *at = strcasestr(line, age);
		long seconds = at == NULL ? -1 : strtol(at + sizeof age - 1, NULL, 10);

		q->answer.max_age = seconds >= 0 && seconds < 366 * 86400 ? (int32_t)seconds : -1;
	}
	return n;
}

static void
reply(struct question *q)
{
	struct upstream *u = q->u;

	memcpy(u->message, &q->answer, sizeof q->answer);
	memcpy(u->message + sizeof q->answer, q->body, q->answer.len);
	/* Who does not take his answers goes without: he gives up by himself after a time. */
	send(q->socket, u->message, sizeof q->answer + q->answer.len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void
ask(struct upstream *u, int socket, const struct upstream_question *m)
{
	struct question *q = u->questions;
	char url[LIMIT_URL + 64];
	CURL *c = curl_easy_init();

	while (q->easy != NULL)
		q++;
	q->u = u;
	q->socket = socket;
	q->too_long = 0;
	q->answer = (struct upstream_answer){ .ticket = m->ticket, .max_age = -1 };
	if (c == NULL) {
		reply(q);
		return;
	}
	snprintf(url, sizeof url, "%s/%.32s.narinfo", u->base, m->part);
	client_set(c, url, u->resolve);
	curl_easy_setopt(c, CURLOPT_TIMEOUT, (long)UPSTREAM_SECONDS);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, q);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, q);
	curl_easy_setopt(c, CURLOPT_PRIVATE, q);
	q->easy = c;
	u->busy++;
	curl_multi_add_handle(u->multi, c);
}

static void
finish(struct upstream *u, CURL *easy, CURLcode result)
{
	struct question *q = NULL;
	long status = 0;

	curl_easy_getinfo(easy, CURLINFO_PRIVATE, &q);
	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	q->answer.status = result == CURLE_OK && !q->too_long ? (int32_t)status : 0;
	if (q->answer.status != 200)
		q->answer.len = 0;
	/* Before the answer: who then asks for the nar finds it wanted. */
	if (u->mirror != NULL && q->answer.status == 200)
		mirror_want(u->mirror, q->body, q->answer.len);
	reply(q);
	curl_multi_remove_handle(u->multi, easy);
	curl_easy_cleanup(easy);
	q->easy = NULL;
	u->busy--;
}

struct upstream *
upstream_new(const struct conf *conf, int cache, struct err *e)
{
	struct upstream *u = calloc(1, sizeof *u);
	size_t n;

	if (u == NULL) {
		err_set(e, "out of memory");
		return NULL;
	}
	snprintf(u->base, sizeof u->base, "%s", conf->upstream);
	n = strlen(u->base);
	while (n > 0 && u->base[n - 1] == '/')
		u->base[--n] = '\0';
	curl_global_init(CURL_GLOBAL_DEFAULT);
	u->multi = curl_multi_init();
	if (u->multi == NULL)
		err_set(e, "libcurl does not start");
	if (u->multi != NULL && dial_resolve("upstream", u->base, &u->resolve, e) == 0) {
		curl_multi_setopt(u->multi, CURLMOPT_MAXCONNECTS, 16L);
		curl_multi_setopt(u->multi, CURLMOPT_MAX_HOST_CONNECTIONS, 16L);
		if (!conf->mirror || (u->mirror = mirror_new(cache, u->multi, u->base, u->resolve,
		    (uint64_t)conf->mirror_size * 1000000)) != NULL)
			return u;
		err_set(e, "out of memory");
	}
	upstream_free(u);
	return NULL;
}

/* Questions of one socket.  0: its other end is closed. */
static int
take(struct upstream *u, int socket)
{
	struct upstream_question m;
	ssize_t n = -1;

	while (u->busy < UPSTREAM_QUESTIONS && (n = recv(socket, &m, sizeof m,
	    MSG_DONTWAIT)) == (ssize_t)sizeof m)
		ask(u, socket, &m);
	return n != 0;
}

int
upstream_run(struct upstream *u, const int *sockets, unsigned n, const volatile sig_atomic_t *stop,
    struct err *e)
{
	struct curl_waitfd fds[POOL_MAX];
	int running = 0, left, more = 0, open[POOL_MAX];
	unsigned alive = n;
	CURLMsg *m;

	for (unsigned i = 0; i < n; i++)
		open[i] = 1;
	while (!*stop && alive > 0) {
		unsigned waiting = 0;

		for (unsigned i = 0; i < n && u->busy < UPSTREAM_QUESTIONS; i++)
			if (open[i])
				fds[waiting++] = (struct curl_waitfd){ .fd = sockets[i], .events =
				    CURL_WAIT_POLLIN };
		if (curl_multi_poll(u->multi, fds, waiting, more ? 0 : 1000, NULL) != CURLM_OK)
			return err_set(e, "libcurl cannot wait");
		for (unsigned i = 0; i < n; i++)
			if (open[i] && !take(u, sockets[i])) {
				open[i] = 0;
				alive--;
			}
		curl_multi_perform(u->multi, &running);
		while ((m = curl_multi_info_read(u->multi, &left)) != NULL)
			if (m->msg == CURLMSG_DONE && (u->mirror == NULL ||
			    !mirror_done(u->mirror, m->easy_handle, m->data.result)))
				finish(u, m->easy_handle, m->data.result);
		more = u->mirror != NULL && mirror_turn(u->mirror);
	}
	return 0;
}

void
upstream_free(struct upstream *u)
{
	if (u == NULL)
		return;
	mirror_free(u->mirror);
	for (unsigned i = 0; i < UPSTREAM_QUESTIONS; i++)
		if (u->questions[i].easy != NULL) {
			curl_multi_remove_handle(u->multi, u->questions[i].easy);
			curl_easy_cleanup(u->questions[i].easy);
		}
	if (u->multi != NULL)
		curl_multi_cleanup(u->multi);
	curl_slist_free_all(u->resolve);
	free(u);
}
