/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): one HTTP request at a time on one libcurl handle that is used again and again. */
#ifndef NARLOCK_FETCH_TRANSFER_H
#define NARLOCK_FETCH_TRANSFER_H

#include "helper/fetch/answer.h"
#include "helper/fetch/fetch.h"

struct transfer;

struct transfer_owner {
	/* A piece of the body.  Returns N, CURL_WRITEFUNC_PAUSE, or 0 to break the request off. */
	size_t (*body)(void *owner, const char *data, size_t n);
	/* The request has ended; the handle is free again. */
	void (*done)(void *owner, CURLcode result);
};

enum transfer_kind {
	TRANSFER_LOOKUP,
	TRANSFER_NAR,
	TRANSFER_BLOCK, /* to a source of blocks: HTTP/1.1, small buffers, many at a time */
};

/* A request that is more than a GET of t->url.  What it points to has to live until transfer_ask() returns; the
 * body until the transfer has ended. */
struct transfer_request {
	const char *method;  /* GET, HEAD or POST; NULL: GET */
	const char *address; /* the whole URL, whose host and scheme are those of t->url; NULL: t->url */
	const char *socket;  /* connect to this unix socket; NULL or "": to the host */
	const void *body;    /* of a POST; NULL: none, which is said (Content-Length: 0), so that the connection stays */
	size_t body_len;
	uint32_t connect_ms; /* 0: as in SETTINGS */
};

struct transfer {
	CURL *easy;
	struct fetch *fetch;
	enum transfer_kind kind;
	const struct transfer_owner *calls;
	void *owner;
	uint8_t running;
	uint8_t no_host;             /* transfer_start() failed because there is no such host */
	uint8_t quiet;               /* not one byte of an answer yet */
	uint8_t refused;             /* where it would lead it must not go, see guard.h; the reason is in `refusal' */
	uint8_t proxied;             /* a proxy makes the connection */
	unsigned redirects;
	uint64_t active;             /* when the last bytes came (milliseconds); in the future while connecting */
	size_t ignored;              /* bytes of a body nobody wants */
	struct url url;
	struct answer answer;
	struct curl_slist *resolve, *headers;
	char error[CURL_ERROR_SIZE];
	struct err refusal;
};

/* transfer_multi(e): the one multi handle, with its limits.  NULL on failure. */
CURLM *transfer_multi(struct err *e);

/* transfer_init(t, f, kind, calls, owner, e): make the handle.  0 or -1.  transfer_free gives it back. */
int transfer_init(struct transfer *t, struct fetch *f, enum transfer_kind kind, const struct transfer_owner *calls,
    void *owner, struct err *e);
void transfer_free(struct transfer *t);

/* transfer_start(t, headers, e): ask for t->url, with these additional header lines (now owned by T, also on
 * failure; but not when it returns HOST_WAITING).  HOST_READY: it runs, and done() will be called.
 * HOST_WAITING: the host's address is being asked for, call again later.  HOST_UNKNOWN: it cannot be
 * started, the reason is in E. */
enum host_state transfer_start(struct transfer *t, struct curl_slist *headers, struct err *e);

/* transfer_ask(t, r, headers, e): the same with a request R.  A source of blocks (TRANSFER_BLOCK) on a unix socket or
 * on loopback is never asked through a proxy; one elsewhere is, when there is one.  Trailers come into t->answer. */
enum host_state transfer_ask(struct transfer *t, const struct transfer_request *r, struct curl_slist *headers,
    struct err *e);

/* transfer_header(list, line): add a header line: 0, or -1 (no memory; the list is still there). */
int transfer_header(struct curl_slist **list, const char *line);

/* transfer_stop(t): end it without a call of done(). */
void transfer_stop(struct transfer *t);

/* transfer_keep(to, size, len, data, n): put N more bytes of an answer behind the *LEN that are in TO, as far as SIZE
 * allows; *LEN grows. */
void transfer_keep(void *to, size_t size, size_t *len, const char *data, size_t n);

/* transfer_ignore(t, n): N more bytes of an error page.  Returns N, or 0 when it is too long to wait for. */
size_t transfer_ignore(struct transfer *t, size_t n);

/* transfer_redirect(t, e): move t->url to where the answer's Location leads.  0, or -1 with a reason. */
int transfer_redirect(struct transfer *t, struct err *e);

/* transfer_is_dead(t, result): whether the host could not be reached, as opposed to a bad answer. */
int transfer_is_dead(const struct transfer *t, CURLcode result);

/* transfer_reason(t, result, buf, size): "HOST: what went wrong", printable and without secrets. */
void transfer_reason(const struct transfer *t, CURLcode result, char *buf, size_t size);

/* transfer_collect(f, room): call done() of what has ended, as long as room(f) says so. */
void transfer_collect(struct fetch *f, int (*room)(const struct fetch *f));

#endif
