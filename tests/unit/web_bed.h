/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: a scripted HTTP server on loopback, and a fetcher without a broker to ask it. */
#ifndef NARLOCK_TESTS_WEB_BED_H
#define NARLOCK_TESTS_WEB_BED_H

#include <arpa/inet.h>
#include <curl/curl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "helper/fetch/again.h"
#include "helper/fetch/blockconf.h"
#include "helper/fetch/probe.h"
#include "helper/fetch/serve.h"
#include "helper/fetch/transfer.h"

#define WEB_REQUESTS 256
#define WEB_CONNECTIONS 256

struct web;

/* Answers one request on CONN: REQUEST is its header.  1: the connection stays; 0: it is closed. */
typedef int (*web_answer)(struct web *w, int conn, const char *request);

struct web {
	int fd;
	uint16_t port;
	char url[64];
	web_answer answer;
	void *ctx;
	pthread_t thread;
	pthread_mutex_t lock;
	unsigned nrequests, nconnections;
	char requests[WEB_REQUESTS][512]; /* the header of each */
	int conns[WEB_CONNECTIONS];
	pthread_t threads[WEB_CONNECTIONS];
};

struct web_conn {
	struct web *web;
	int conn;
};

static inline void *
web_serve(void *arg)
{
	struct web_conn c = *(struct web_conn *)arg;
	char text[8192];
	size_t n = 0;
	ssize_t got;

	free(arg);
	while (n < sizeof text - 1 && (got = recv(c.conn, text + n, sizeof text - 1 - n, 0)) > 0) {
		n += (size_t)got;
		text[n] = '\0';
		if (strstr(text, "\r\n\r\n") == NULL)
			continue;
		pthread_mutex_lock(&c.web->lock);
		if (c.web->nrequests < WEB_REQUESTS)
			memcpy(c.web->requests[c.web->nrequests++], text, n < 511 ? n : 511);
		pthread_mutex_unlock(&c.web->lock);
		if (!c.web->answer(c.web, c.conn, text))
			break;
		n = 0;
	}
	shutdown(c.conn, SHUT_RDWR);
	return NULL;
}

static inline void *
web_accept(void *arg)
{
	struct web *w = arg;
	int conn;

	while ((conn = accept(w->fd, NULL, NULL)) >= 0) {
		struct web_conn *c = malloc(sizeof *c);

		if (c == NULL || w->nconnections == WEB_CONNECTIONS)
			abort();
		*c = (struct web_conn){ w, conn };
		w->conns[w->nconnections] = conn;
		if (pthread_create(&w->threads[w->nconnections++], NULL, web_serve, c) != 0)
			abort();
	}
	return NULL;
}

static inline struct web *
web_new(web_answer answer, void *ctx)
{
	struct web *w = calloc(1, sizeof *w);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof a;

	assert_non_null(w);
	signal(SIGPIPE, SIG_IGN);
	w->answer = answer;
	w->ctx = ctx;
	pthread_mutex_init(&w->lock, NULL);
	w->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(w->fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(w->fd, 64), 0);
	assert_int_equal(getsockname(w->fd, (struct sockaddr *)&a, &len), 0);
	w->port = ntohs(a.sin_port);
	snprintf(w->url, sizeof w->url, "http://127.0.0.1:%u", w->port);
	assert_int_equal(pthread_create(&w->thread, NULL, web_accept, w), 0);
	return w;
}

static inline void
web_free(struct web *w)
{
	shutdown(w->fd, SHUT_RDWR);
	pthread_join(w->thread, NULL);
	for (unsigned i = 0; i < w->nconnections; i++)
		shutdown(w->conns[i], SHUT_RDWR);
	for (unsigned i = 0; i < w->nconnections; i++) {
		pthread_join(w->threads[i], NULL);
		close(w->conns[i]);
	}
	close(w->fd);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

static inline int
web_send(int conn, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = send(conn, p, len, MSG_NOSIGNAL);

		if (n <= 0)
			return -1;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

/* A response with Content-Length; HEADERS: lines with their ends, or "". */
static inline int
web_reply(int conn, const char *status, const char *headers, const void *body, size_t len)
{
	char head[2048];
	int n = snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n%s\r\n", status, len, headers);

	return web_send(conn, head, (size_t)n) == 0 && web_send(conn, body, len) == 0;
}

/* One with chunks and a trailer (or ""). */
static inline int
web_chunked(int conn, const void *body, size_t len, const char *trailer)
{
	char head[256];
	int n = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Stream-Error\r\n\r\n");

	if (web_send(conn, head, (size_t)n) != 0)
		return 0;
	n = snprintf(head, sizeof head, "%zx\r\n", len);
	if (len > 0 && (web_send(conn, head, (size_t)n) != 0 || web_send(conn, body, len) != 0 || web_send(conn, "\r\n", 2) != 0))
		return 0;
	n = snprintf(head, sizeof head, "0\r\n%s\r\n", trailer);
	return web_send(conn, head, (size_t)n) == 0;
}

/* How many requests begin with BEGIN. */
static inline unsigned
web_count(struct web *w, const char *begin)
{
	unsigned n = 0;

	pthread_mutex_lock(&w->lock);
	for (unsigned i = 0; i < w->nrequests; i++)
		n += strncmp(w->requests[i], begin, strlen(begin)) == 0;
	pthread_mutex_unlock(&w->lock);
	return n;
}

/* --- A fetcher --------------------------------------------------------------------------------------- */

static inline uint64_t
web_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Its broker is the other end of f->control: *BROKER. */
static inline struct fetch *
web_fetch(int *broker)
{
	struct fetch *f = calloc(1, sizeof *f);
	int pair[2];
	struct err e;

	assert_non_null(f);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	f->control = pair[0];
	*broker = pair[1];
	f->state = -1;
	f->settings.stall_ms = 400;
	f->settings.connect_ms = 1000;
	assert_int_equal(curl_global_init(CURL_GLOBAL_DEFAULT), 0);
	f->multi = transfer_multi(&e);
	assert_non_null(f->multi);
	assert_int_equal(hosts_init(&f->hosts, &e), 0);
	f->blocks = blockconf_new(&e);
	assert_non_null(f->blocks);
	assert_int_equal(blockconf_set(f->blocks, "ipfs", "", &e), 0);
	f->blocks->block_ms = 600;
	assert_int_equal(again_init(f, &e), 0);
	assert_int_equal(probe_init(f, &e), 0);
	f->now = web_now();
	return f;
}

static inline void
web_fetch_free(struct fetch *f, int broker)
{
	again_free(f);
	probe_free(f);
	serve_free(f);
	curl_multi_cleanup(f->multi);
	hosts_free(&f->hosts);
	blockconf_free(f->blocks);
	close(f->control);
	close(broker);
	free(f);
}

static inline void
web_server(struct fetch *f, const char *url, enum server_kind kind)
{
	struct server *s = &f->servers[f->nservers++];
	struct err e;

	assert_int_equal(url_parse(&s->url, url, &e), 0);
	s->kind = (uint8_t)kind;
}

static inline void
web_source(struct fetch *f, const char *key, const char *url)
{
	struct err e;

	assert_int_equal(blockconf_set(f->blocks, key, url, &e), 0);
}

static inline int
web_room(const struct fetch *f)
{
	(void)f;
	return 1;
}

/* One turn of the loop. */
static inline void
web_turn(struct fetch *f)
{
	int running, happened;

	f->now = web_now();
	(void)curl_multi_perform(f->multi, &running);
	transfer_collect(f, web_room);
	(void)curl_multi_poll(f->multi, NULL, 0, 10, &happened);
	f->now = web_now();
}

#endif
