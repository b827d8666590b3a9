/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): the web server: connections and threads. */
#include <errno.h>
#include <linux/tcp.h> /* the C library's own knows less of struct tcp_info */
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "helper/publish/worker.h"

/* Bytes of a body that are read away before the connection is closed. */
#define BODY_MOST 65536
/* Longest wait for something to happen, in milliseconds: the clock of slow clients. */
#define TURN_MS 500
/* For how long a connection may be silent at the end. */
#define GRACE_MS 1000

struct web {
	const struct web_options *o;
	struct limiter *limiter, *again;
	struct doors *doors;
	struct worker *workers[POOL_MAX];
	pthread_t threads[POOL_MAX];
	unsigned n, started;
	int leave; /* accept no more */
	int64_t leave_by;
};

static int64_t
milliseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* --- Called by the library ---------------------------------------------------------------------------- */

static void
on_connection(void *ctx, struct MHD_Connection *connection, void **socket_ctx,
    enum MHD_ConnectionNotificationCode what)
{
	struct worker *w = ctx;
	struct conn *n = *socket_ctx;

	if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (n == NULL)
			return;
		*n->link = n->next;
		if (n->next != NULL)
			n->next->link = n->link;
		free(n);
		*socket_ctx = NULL;
		__atomic_store_n(&w->counts->open[w->o->bank], w->counts->open[w->o->bank] - 1, __ATOMIC_RELAXED);
		doors_left(w->doors, w->number);
		return;
	}
	n = calloc(1, sizeof *n);
	if (n == NULL)
		return;
	n->connection = connection;
	n->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	n->since = w->now;
	n->next = w->conns;
	n->link = &w->conns;
	if (n->next != NULL)
		n->next->link = &n->next;
	w->conns = n;
	*socket_ctx = n;
	shared_add(w->counts, COUNT_CONNECTIONS, 1);
	__atomic_store_n(&w->counts->open[w->o->bank], w->counts->open[w->o->bank] + 1, __ATOMIC_RELAXED);
}

static struct conn *
conn_of(struct MHD_Connection *c)
{
	const union MHD_ConnectionInfo *i = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return i == NULL ? NULL : i->socket_context;
}

static void
on_completed(void *ctx, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code)
{
	struct worker *w = ctx;
	struct request *r = *state;
	struct conn *n = conn_of(connection);

	if (n != NULL) {
		n->busy = 0;
		n->since = w->now;
		if (n->looked != 0)
			MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, w->o->conf->idle_timeout);
		n->looked = 0;
	}
	if (r == NULL)
		return;
	if (r->response != NULL)
		MHD_destroy_response(r->response);
	/* A request that ends while it waits for its block. */
	if (r->slot >= 0)
		w->slot[r->slot].request = NULL;
	if (r->log != NULL)
		fprintf(stderr, "access: %s %u %llu%s\n", r->log, n == NULL ? 0 : n->status,
		    n == NULL ? 0 : (unsigned long long)n->size, code == MHD_REQUEST_TERMINATED_COMPLETED_OK ?
		    "" : " (cut off)");
	if (n != NULL)
		n->size = n->status = 0;
	free(r->log);
	free(r);
	*state = NULL;
}

/* "ADDRESS METHOD PATH", to be freed; what comes from the client has no control character in it. */
static char *
describe(struct MHD_Connection *c, const char *method, const char *url)
{
	const union MHD_ConnectionInfo *i = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	char host[INET6_ADDRSTRLEN] = "-", text[512];

	if (i != NULL && i->client_addr->sa_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)i->client_addr)->sin_addr,
		    host, sizeof host);
	else if (i != NULL && i->client_addr->sa_family == AF_INET6)
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)i->client_addr)->sin6_addr,
		    host,
		    sizeof host);
	snprintf(text, sizeof text, "%s %.8s %.400s", host, method, url);
	for (char *at = text; *at != '\0'; at++)
		if ((unsigned char)*at < 0x20 || *at == 0x7f)
			*at = '?';
	return strdup(text);
}

static int
may_ask(struct worker *w, struct MHD_Connection *c)
{
	const union MHD_ConnectionInfo *i = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CLIENT_ADDRESS);

	return i == NULL || i->client_addr == NULL || limiter_take(w->limiter, i->client_addr, w->now);
}

static enum MHD_Result
count_length(void *ctx, enum MHD_ValueKind kind, const char *key, const char *value)
{
	unsigned *n = ctx;

	(void)kind;
	(void)value;
	*n += strcasecmp(key, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0 ||
	    strcasecmp(key, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0;
	return MHD_YES;
}

/* Whether somebody in front of us may have seen another end of the body: the next request would not be whose
 * it seems to be. */
static int
is_ambiguous(struct MHD_Connection *c)
{
	unsigned n = 0;

	MHD_get_connection_values(c, MHD_HEADER_KIND, count_length, &n);
	return n > 1;
}

static enum MHD_Result
on_request(void *ctx, struct MHD_Connection *c, const char *url, const char *method, const char *version,
    const char *body, size_t *body_len, void **state)
{
	struct worker *w = ctx;
	struct request *r = *state;
	struct conn *n;

	(void)version;
	(void)body;
	if (r == NULL) {
		/* The first call comes with the headers; an answer now would cost the connection. */
		*state = r = calloc(1, sizeof *r);
		if (r == NULL)
			return MHD_NO;
		r->slot = -1;
		r->limited = !may_ask(w, c);
		r->bad = is_ambiguous(c);
		if (w->o->conf->access_log)
			r->log = describe(c, method, url);
		return MHD_YES;
	}
	if (*body_len != 0) {
		r->body += *body_len;
		*body_len = 0; /* nobody reads it */
		return r->body > BODY_MOST ? MHD_NO : MHD_YES;
	}
	n = conn_of(c);
	if (n != NULL)
		n->busy = 1;
	if (r->response != NULL)
		return reply_queue(c, r->status, r->response);
	if (r->limited) {
		shared_add(w->counts, COUNT_LIMITED, 1);
		return reply_say(c, MHD_HTTP_TOO_MANY_REQUESTS, "Too many requests from your address.\n");
	}
	if (!w->holding) {
		catalog_hold(place_catalog(w->place));
		w->holding = 1;
	}
	return handle_request(w, c, url, method, r);
}

/* Percent signs in a path; a NUL or a slash among them would change what it names: such a path stays as it
 * is, and names no file. */
static size_t
unescape(void *ctx, struct MHD_Connection *c, char *text)
{
	(void)ctx;
	(void)c;
	if (strstr(text, "%00") != NULL || strstr(text, "%2f") != NULL || strstr(text, "%2F") != NULL)
		return strlen(text);
	return MHD_http_unescape(text);
}

/* --- One thread --------------------------------------------------------------------------------------- */

static void
worker_free(struct worker *w)
{
	if (w == NULL)
		return;
	/* The library wants nobody to be left waiting. */
	for (unsigned i = 0; i < WORKER_WAITS; i++)
		if (w->waits[i].connection != NULL)
			MHD_resume_connection(w->waits[i].connection);
	if (w->daemon != NULL)
		MHD_stop_daemon(w->daemon);
	for (unsigned i = 0; i < WORKER_INFOS; i++)
		if (w->infos[i].response != NULL)
			MHD_destroy_response(w->infos[i].response);
	place_free(w->place);
	free(w->data);
	free(w);
}

/* It listens nowhere: take_connections() brings what has come. */
static struct MHD_Daemon *
start_daemon(struct worker *w, unsigned threads)
{
	const struct conf *conf = w->o->conf;
	unsigned each = (conf->connections_per_address + threads - 1) / threads;

	return MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL,
	    on_request, w, MHD_OPTION_CONNECTION_LIMIT, conf->connections, MHD_OPTION_PER_IP_CONNECTION_LIMIT, each,
	    MHD_OPTION_CONNECTION_TIMEOUT, conf->idle_timeout, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,
	    MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)conf->header_bytes + 4096,
	    MHD_OPTION_CONNECTION_MEMORY_INCREMENT, (size_t)1024, MHD_OPTION_UNESCAPE_CALLBACK, unescape, NULL,
	    MHD_OPTION_NOTIFY_CONNECTION, on_connection, w, MHD_OPTION_NOTIFY_COMPLETED, on_completed, w,
	    MHD_OPTION_END);
}

static struct worker *
worker_new(struct web *web, unsigned i, struct err *e)
{
	const struct web_options *o = web->o;
	struct worker *w = calloc(1, sizeof *w);

	if (w == NULL || (w->data = malloc((size_t)WORKER_BATCH * ERIS_LARGE)) == NULL) {
		free(w);
		err_set(e, "out of memory");
		return NULL;
	}
	w->o = o;
	w->doors = web->doors;
	w->number = i;
	w->counts = &o->shared->workers[i];
	w->counts->open[w->o->bank] = 0;
	w->limiter = web->limiter;
	w->again = web->again;
	w->now = milliseconds();
	w->up = o->up == NULL ? -1 : o->up[i];
	w->place = place_new(o->cache, o->index, o->wrong, e);
	if (w->place != NULL && o->conf->mirror)
		place_own(w->place);
	if (w->place != NULL && (w->daemon = start_daemon(w, web->n)) != NULL)
		return w;
	if (w->place != NULL)
		err_set(e, "the HTTP server does not start");
	worker_free(w);
	return NULL;
}

/* Whether a client takes an answer more slowly than it must.  The kernel alone knows: megabytes wait in its
 * buffer, and when the next byte fits in says little about the client.  What is no TCP is not slow. */
static int
is_slow_reader(struct worker *w, struct conn *n)
{
	int64_t time = w->now - n->looked, least = (int64_t)w->o->conf->idle_timeout * 1000;
	struct tcp_info i;
	socklen_t len = sizeof i;
	uint64_t before = n->taken;

	if (w->o->conf->min_rate == 0 || (n->looked != 0 && !n->waiting && time < least))
		return 0;
	memset(&i, 0, sizeof i);
	if (getsockopt(n->fd, IPPROTO_TCP, TCP_INFO, &i, &len) != 0)
		return 0;
	n->taken = i.tcpi_bytes_acked;
	if (n->looked == 0)
		MHD_set_connection_option(n->connection, MHD_CONNECTION_OPTION_TIMEOUT, 0u);
	if (n->looked == 0 || n->waiting) {
		n->looked = w->now;
		return 0;
	}
	n->looked = w->now;
	return (int64_t)(n->taken - before) * 1000 < (int64_t)w->o->conf->min_rate * time;
}

/* A connection must bring a whole request within a time, however often it brings a byte: also one that is
 * kept alive; and it must take its answer. */
static void
close_slow(struct worker *w)
{
	int64_t most = (int64_t)w->o->conf->request_timeout * 1000;

	for (struct conn *n = w->conns; n != NULL; n = n->next)
		if (n->busy ? is_slow_reader(w, n) : w->now - n->since > most) {
			/* The library sees its end, and closes it. */
			shutdown(n->fd, SHUT_RDWR);
			n->since = w->now;
			shared_add(w->counts, COUNT_SLOW, 1);
		}
}

/* P: what was waited for; NULL: what others have brought so far. */
static void
take_connections(struct worker *w, struct pollfd *p)
{
	struct door_guest g;

	while (doors_next(w->doors, w->number, p, &g))
		/* It closes what it does not take: too many of one address. */
		if (MHD_add_connection(w->daemon, g.fd, &g.address.any, g.len) != MHD_YES)
			doors_left(w->doors, w->number);
}

static int
is_leaving(const struct web *web)
{
	return __atomic_load_n(&web->leave, __ATOMIC_ACQUIRE);
}

static void
turn(struct worker *w, const struct web *web)
{
	struct pollfd p[DOORS_POLL(CONF_LISTEN) + 2];
	unsigned n = doors_wait(w->doors, w->number, p);
	int wait = w->resumed ? 0 : TURN_MS;
	MHD_UNSIGNED_LONG_LONG soon;

	w->resumed = 0;
	/* A request that was read together with the one before it: nothing comes that would wake us up. */
	if (MHD_get_timeout(w->daemon, &soon) == MHD_YES && soon < TURN_MS && (int)soon < wait)
		wait = (int)soon;
	p[n] = (struct pollfd){ .events = POLLIN, .fd = MHD_get_daemon_info(w->daemon,
	    MHD_DAEMON_INFO_EPOLL_FD)->listen_fd };
	p[n + 1] = (struct pollfd){ .events = POLLIN, .fd = w->up };
	if (poll(p, n + 2, wait) > 0) {
		/* Who comes now is for the process that follows: it may have been told of another cache. */
		for (unsigned i = 1; i < n && is_leaving(web); i++)
			p[i].revents = 0;
		take_connections(w, p);
	}
	MHD_run_wait(w->daemon, 0);
	w->now = milliseconds();
	blocks_encode(w);
	if (w->holding) {
		catalog_release(place_catalog(w->place));
		w->holding = 0;
	}
	if (w->up >= 0)
		waits_look(w);
}

struct start {
	struct web *web;
	struct worker *worker;
};

static void *
run(void *arg)
{
	struct start *start = arg;
	struct worker *w = start->worker;
	struct web *web = start->web;
	int64_t swept = w->now;
	int leaving = 0;

	free(start);
	for (;;) {
		turn(w, web);
		if (w->now - swept >= TURN_MS) {
			close_slow(w);
			swept = w->now;
		}
		if (!is_leaving(web))
			continue;
		if (!leaving) {
			/* The sockets stay open: somebody else goes on listening. */
			doors_shut(w->doors, w->number);
			take_connections(w, NULL);
			leaving = 1;
		}
		/* Idle connections have nothing to lose; the request of one that has just come may be on its
		 * way. */
		for (struct conn *n = w->conns; n != NULL; n = n->next)
			if (!n->busy && w->now - n->since >= GRACE_MS) {
				shutdown(n->fd, SHUT_RDWR);
				n->busy = 1;
			}
		if (w->conns == NULL || w->now >= web->leave_by)
			return NULL;
	}
}

/* --- All ---------------------------------------------------------------------------------------------- */

static int
start_threads(struct web *web, struct err *e)
{
	sigset_t all, old;
	int rc = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (rc == 0 && web->started < web->n) {
		struct start *s = malloc(sizeof *s);

		if (s == NULL) {
			rc = ENOMEM;
			break;
		}
		*s = (struct start){ web, web->workers[web->started] };
		rc = pthread_create(&web->threads[web->started], NULL, run, s);
		if (rc != 0)
			free(s);
		web->started += rc == 0;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc == 0 ? 0 : err_sys(e, rc, "cannot start a thread");
}

static void
wait_for_stop(const struct web_options *o)
{
	sigset_t block, old;

	/* Between a look and the wait no signal gets lost. */
	sigemptyset(&block);
	sigaddset(&block, SIGTERM);
	sigaddset(&block, SIGINT);
	pthread_sigmask(SIG_BLOCK, &block, &old);
	while (!*o->stop)
		sigsuspend(&old);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

int
web_run(const struct web_options *o, int (*ready)(void *ctx, struct err *e), void *ctx, struct err *e)
{
	struct web web = { .o = o, .n = o->conf->threads };
	int rc = 0;

	/* Blocks come and go: memory is not given back to the kernel each time. */
	mallopt(M_TRIM_THRESHOLD, 16 << 20);
	if (o->conf->requests_per_second > 0 &&
	    (web.limiter = limiter_new(o->conf->requests_per_second, o->conf->burst)) == NULL)
		return err_set(e, "out of memory");
	web.again = limiter_new(o->conf->again_per_hour / 3600.0, o->conf->again_per_hour);
	if (web.again == NULL)
		rc = err_set(e, "out of memory");
	if (rc == 0 && (web.doors = doors_new(o->sockets, o->nsockets, web.n, o->conf->connections, e)) == NULL)
		rc = -1;
	for (unsigned i = 0; i < web.n && rc == 0; i++)
		if ((web.workers[i] = worker_new(&web, i, e)) == NULL)
			rc = -1;
	/* The lock is for all threads: it comes before them. */
	if (rc == 0)
		rc = ready(ctx, e);
	if (rc == 0)
		rc = start_threads(&web, e);
	if (rc == 0)
		wait_for_stop(o);
	web.leave_by = milliseconds() + (int64_t)o->conf->drain_timeout * 1000;
	__atomic_store_n(&web.leave, 1, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < web.started; i++)
		pthread_join(web.threads[i], NULL);
	for (unsigned i = 0; i < web.n; i++)
		worker_free(web.workers[i]);
	doors_free(web.doors);
	limiter_free(web.limiter);
	limiter_free(web.again);
	return rc;
}
