/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: a daemon's RPC on loopback, as Kubo or js-ipfs answer, or worse; and one file, with or without
 * Range. */
#ifndef NARLOCK_TESTS_IPFS_SERVER_H
#define NARLOCK_TESTS_IPFS_SERVER_H

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "helper/eris/urn.h"
#include "helper/ipfs/car.h"
#include "helper/ipfs/manifest.h"

enum server_mode {
	KUBO,       /* takes CARs and forms of many parts, and says what it took */
	JS,         /* takes CARs without a word, and keeps the last part of a form */
	PUT_ONLY,   /* js-ipfs behind a token that allows block/put only */
	FORGETFUL,  /* answers a CAR with nothing, and keeps nothing of it */
	REFUSES,    /* a full disk */
	READ_ONLY,  /* Kubo with a token that allows nothing to be put */
	BROKEN,     /* closes the connection */
};

#define SERVER_BLOCKS 4096

struct ipfs_server {
	enum server_mode mode;
	int fd, port;
	pthread_t thread;
	pthread_mutex_t mutex;
	atomic_int asleep;     /* 1: requests wait */
	atomic_int stopping, serving;
	atomic_int puts, imports, gets, stats, files, ranges;
	unsigned n;
	uint8_t refs[SERVER_BLOCKS][ERIS_REF];
	uint8_t *blocks[SERVER_BLOCKS];
	size_t lens[SERVER_BLOCKS];
	const uint8_t *file;   /* at /nar */
	size_t file_len;
	int no_range;
};

struct server_connection {
	struct ipfs_server *s;
	int fd;
};

/* Under the mutex.  -1: not there. */
static inline int
server_at(const struct ipfs_server *s, const uint8_t *ref)
{
	for (unsigned i = 0; i < s->n; i++)
		if (s->blocks[i] != NULL && memcmp(s->refs[i], ref, ERIS_REF) == 0)
			return (int)i;
	return -1;
}

static inline int
server_has(struct ipfs_server *s, const uint8_t *ref)
{
	int i;

	pthread_mutex_lock(&s->mutex);
	i = server_at(s, ref);
	pthread_mutex_unlock(&s->mutex);
	return i >= 0;
}

static inline void
server_add(struct ipfs_server *s, const uint8_t *data, size_t len)
{
	uint8_t ref[ERIS_REF];

	manifest_hash(ref, data, len);
	pthread_mutex_lock(&s->mutex);
	if (server_at(s, ref) < 0 && s->n < SERVER_BLOCKS && len > 0) {
		memcpy(s->refs[s->n], ref, ERIS_REF);
		s->lens[s->n] = len;
		s->blocks[s->n] = malloc(len);
		memcpy(s->blocks[s->n++], data, len);
	}
	pthread_mutex_unlock(&s->mutex);
}

static inline void
server_remove(struct ipfs_server *s, const uint8_t *ref)
{
	int i;

	pthread_mutex_lock(&s->mutex);
	if ((i = server_at(s, ref)) >= 0) {
		free(s->blocks[i]);
		s->blocks[i] = NULL;
	}
	pthread_mutex_unlock(&s->mutex);
}

static inline int
server_send(int fd, const void *data, size_t len)
{
	const uint8_t *at = data;

	while (len > 0) {
		ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

		if (n <= 0)
			return -1;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

static inline int
server_answer(int fd, const char *status, const char *more, const void *body, size_t len)
{
	char head[400];
	int n = snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n%s\r\n", status, len, more);

	return server_send(fd, head, (size_t)n) != 0 || server_send(fd, body, len) != 0 ? -1 : 0;
}

static inline int
server_text(int fd, const char *status, const char *text)
{
	return server_answer(fd, status, "", text, strlen(text));
}

/* Parts of a form: what is between an empty line and the next boundary. */
static inline const uint8_t *
server_part(const uint8_t **at, const uint8_t *end, const char *boundary, size_t *len)
{
	char mark[64];
	int n = snprintf(mark, sizeof mark, "\r\n--%.32s", boundary);
	const uint8_t *begin = memmem(*at, (size_t)(end - *at), "\r\n\r\n", 4), *stop;

	if (begin == NULL)
		return NULL;
	begin += 4;
	if ((stop = memmem(begin, (size_t)(end - begin), mark, (size_t)n)) == NULL)
		return NULL;
	*at = stop + n;
	*len = (size_t)(stop - begin);
	return begin;
}

static inline int
server_put(struct ipfs_server *s, int fd, const char *boundary, const uint8_t *body, size_t body_len)
{
	const uint8_t *at = body, *part, *last = NULL;
	size_t len, last_len = 0, size = 16384;
	char *reply = calloc(1, size), cid[URN_CID_LEN + 1];
	uint8_t ref[ERIS_REF];
	int rc;

	s->puts++;
	while ((part = server_part(&at, body + body_len, boundary, &len)) != NULL) {
		last = part;
		last_len = len;
		if (s->mode != KUBO)
			continue;
		server_add(s, part, len);
		manifest_hash(ref, part, len);
		urn_cid_format(cid, ref);
		snprintf(reply + strlen(reply), size - strlen(reply), "{\"Key\":\"%s\",\"Size\":%zu}\n", cid, len);
	}
	if (s->mode != KUBO && last != NULL) {
		server_add(s, last, last_len);
		manifest_hash(ref, last, last_len);
		urn_cid_format(cid, ref);
		snprintf(reply, size, "{\"Key\":\"%s\",\"Size\":%zu}", cid, last_len);
	}
	rc = server_text(fd, "200 OK", reply);
	free(reply);
	return rc;
}

static inline int
server_import(struct ipfs_server *s, int fd, const char *boundary, const uint8_t *body, size_t body_len)
{
	struct car_options o = { .block_max = ERIS_LARGE, .bytes_max = 1 << 26, .unasked_max = 1 };
	const uint8_t *at = body, *part;
	struct car_block b;
	unsigned blocks = 0;
	char reply[200];
	struct err e;
	struct car *c;
	size_t len;

	s->imports++;
	if (s->mode == PUT_ONLY)
		return server_text(fd, "403 Forbidden", "Kubo RPC Access Denied");
	if ((part = server_part(&at, body + body_len, boundary, &len)) == NULL)
		return server_text(fd, "400 Bad Request", "no part");
	c = car_new(&o, &e);
	while (s->mode != FORGETFUL && car_feed(c, &part, &len, &b, &e) == 1) {
		server_add(s, b.data, b.len);
		blocks++;
	}
	if (s->mode != FORGETFUL && car_end(c, &e) != 0)
		blocks = 0;
	car_free(c);
	snprintf(reply, sizeof reply, "{\"Stats\":{\"BlockCount\":\"%u\",\"BlockBytesCount\":\"1\"}}\n", blocks);
	return server_text(fd, "200 OK", s->mode == KUBO ? reply : "");
}

static inline int
server_block(struct ipfs_server *s, int fd, const char *cid, int stat)
{
	static const char missing[] = "{\"Message\":\"block was not found locally (offline): ipld: could not find\","
	    "\"Code\":0,\"Type\":\"error\"}";
	char text[URN_CID_LEN + 1], reply[200];
	uint8_t ref[ERIS_REF];
	struct err e;
	int i, rc;

	snprintf(text, sizeof text, "%.62s", cid);
	if (urn_cid_parse(ref, text, &e) != 0)
		return server_text(fd, "400 Bad Request", "{\"Message\":\"invalid CID\",\"Code\":1,\"Type\":\"error\"}");
	pthread_mutex_lock(&s->mutex);
	i = server_at(s, ref);
	pthread_mutex_unlock(&s->mutex);
	if (i < 0)
		return server_text(fd, "500 Internal Server Error", missing);
	snprintf(reply, sizeof reply, "{\"Key\":\"%s\",\"Size\":%zu}\n", text, s->lens[i]);
	rc = stat ? server_text(fd, "200 OK", reply) : server_answer(fd, "200 OK", "", s->blocks[i], s->lens[i]);
	return rc;
}

static inline int
server_file(struct ipfs_server *s, int fd, const char *range)
{
	unsigned long long a, b;
	char more[100];

	s->files++;
	if (range == NULL || s->no_range || sscanf(range, "Range: bytes=%llu-%llu", &a, &b) != 2)
		return server_answer(fd, "200 OK", "", s->file, s->file_len);
	s->ranges++;
	if (a >= s->file_len) {
		snprintf(more, sizeof more, "Content-Range: bytes */%zu\r\n", s->file_len);
		return server_answer(fd, "416 Range Not Satisfiable", more, "", 0);
	}
	b = b < s->file_len ? b : s->file_len - 1;
	snprintf(more, sizeof more, "Content-Range: bytes %llu-%llu/%zu\r\n", a, b, s->file_len);
	return server_answer(fd, "206 Partial Content", more, s->file + a, (size_t)(b - a + 1));
}

static inline int
server_request(struct ipfs_server *s, int fd, char *head, const uint8_t *body, size_t len)
{
	char *arg = strstr(head, "arg="), *boundary = strcasestr(head, "boundary=");
	char *range = strcasestr(head, "Range: ");

	while (s->asleep && !s->stopping)
		usleep(2000);
	if (strstr(head, " /nar") != NULL)
		return server_file(s, fd, range);
	if (s->mode == BROKEN)
		return -1;
	if (strstr(head, "/api/v0/version") != NULL)
		return server_text(fd, "200 OK", "{\"Version\":\"0.30.0\"}\n");
	if (strstr(head, "block/stat") != NULL && arg != NULL) {
		s->stats++;
		if (s->mode == PUT_ONLY)
			return server_text(fd, "403 Forbidden", "Kubo RPC Access Denied");
		return server_block(s, fd, arg + 4, 1);
	}
	if (strstr(head, "block/get") != NULL && arg != NULL) {
		s->gets++;
		return server_block(s, fd, arg + 4, 0);
	}
	if (s->mode == REFUSES)
		return server_text(fd, "500 Internal Server Error",
		    "{\"Message\":\"no space left on device\",\"Code\":0,\"Type\":\"error\"}");
	if (s->mode == READ_ONLY)
		return server_text(fd, "403 Forbidden", "Kubo RPC Access Denied");
	if (strstr(head, "block/put") != NULL && boundary != NULL)
		return server_put(s, fd, boundary + 9, body, len);
	if (strstr(head, "dag/import") != NULL && boundary != NULL)
		return server_import(s, fd, boundary + 9, body, len);
	return server_text(fd, "404 Not Found", "404 page not found");
}

static inline void *
server_connection(void *arg)
{
	struct server_connection *c = arg;
	size_t have = 0, room = 4 << 20, length, used;
	char *in = calloc(1, room), *body;

	for (;;) {
		ssize_t n;

		in[have] = '\0';
		if ((body = memmem(in, have, "\r\n\r\n", 4)) != NULL) {
			char *at = strcasestr(in, "Content-Length:");

			length = at != NULL && at < body ? strtoul(at + 15, NULL, 10) : 0;
			used = (size_t)(body + 4 - in) + length;
			if (have >= used) {
				body[2] = '\0';
				if (server_request(c->s, c->fd, in, (uint8_t *)body + 4, length) != 0)
					break;
				memmove(in, in + used, have - used);
				have -= used;
				continue;
			}
		}
		if (have + 1 >= room || (n = recv(c->fd, in + have, room - have - 1, 0)) <= 0)
			break;
		have += (size_t)n;
	}
	close(c->fd);
	c->s->serving--;
	free(in);
	free(c);
	return NULL;
}

static inline void *
server_accept(void *arg)
{
	struct ipfs_server *s = arg;
	pthread_t t;
	int fd;

	while ((fd = accept(s->fd, NULL, NULL)) >= 0) {
		struct server_connection *c = malloc(sizeof *c);

		c->s = s;
		c->fd = fd;
		s->serving++;
		if (pthread_create(&t, NULL, server_connection, c) == 0)
			pthread_detach(t);
	}
	return NULL;
}

static inline struct ipfs_server *
server_start(enum server_mode mode)
{
	struct ipfs_server *s = calloc(1, sizeof *s);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof a;

	s->mode = mode;
	pthread_mutex_init(&s->mutex, NULL);
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(s->fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(s->fd, 128) != 0 ||
	    getsockname(s->fd, (struct sockaddr *)&a, &len) != 0 ||
	    pthread_create(&s->thread, NULL, server_accept, s) != 0)
		abort();
	s->port = ntohs(a.sin_port);
	return s;
}

/* Clients have closed their connections. */
static inline void
server_stop(struct ipfs_server *s)
{
	s->stopping = 1;
	shutdown(s->fd, SHUT_RDWR);
	pthread_join(s->thread, NULL);
	close(s->fd);
	for (int i = 0; i < 1000 && s->serving > 0; i++)
		usleep(2000);
	for (unsigned i = 0; i < s->n; i++)
		free(s->blocks[i]);
	pthread_mutex_destroy(&s->mutex);
	if (s->serving == 0)
		free(s);
}

#endif
