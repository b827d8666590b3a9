/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): one HTTP request at a time on one libcurl handle that is used again and again. */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "helper/fetch/blockconf.h"
#include "helper/fetch/serve.h"
#include "helper/fetch/transfer.h"

/* Idle connections kept for the next item: as many as there can be requests for blocks, or libcurl would close
 * most of them after each block. */
#define KEPT_CONNECTIONS 320L
/* Requests on one HTTP/2 connection. */
#define STREAMS 64L
/* A narinfo has one or two KiB; a nar wants few system calls. */
#define LOOKUP_BUFFER 16384L
#define NAR_BUFFER (512L * 1024)
/* There are hundreds of them: memory counts more than system calls. */
#define BLOCK_BUFFER 16384L
/* The least that libcurl takes. */
#define UPLOAD_BUFFER 16384L

/* --- Where it may lead ------------------------------------------------------------------------------- */

_Static_assert(GUARD_TOLD + BLOCKCONF_SOURCES <= LIMIT_LIARS, "more is a violation");

/* For the audit record, once for each host. */
static void
tell(struct transfer *t, enum liar_status status, const char *reason)
{
	char where[LIMIT_SOURCE + 1], text[LIMIT_REASON + 1], what[LIMIT_SOURCE + 1];
	struct wire_msg m = { .type = MSG_LIAR, .status = (uint8_t)status };

	url_source(&t->url, where, sizeof where);
	(void)snprintf(what, sizeof what, "%u %.60s", status, where);
	if (!guard_new(&t->fetch->blocks->guard, what))
		return;
	wire_copy(text, sizeof text, wire_str(reason));
	m.text = wire_str(where);
	m.text2 = wire_str(text);
	serve_send(t->fetch, &m);
}

static int
refuse(struct transfer *t)
{
	t->refused = 1;
	tell(t, LIAR_REFUSED, t->refusal.text);
	return -1;
}

/* Before it starts: ADDRESSES are those that libcurl will try, or NULL when the host is an address. */
static int
may_start(struct transfer *t, const char *addresses)
{
	const struct guard *g = t->url.untrusted ? &t->fetch->blocks->guard : NULL;

	if (g == NULL)
		return 0;
	if (guard_name(g, &t->url, t->proxied, &t->refusal) != 0 ||
	    (!t->proxied && addresses != NULL && guard_list(g, &t->url, addresses, &t->refusal) != 0))
		return refuse(t);
	if (t->proxied)
		tell(t, LIAR_BY_NAME, "named by an untrusted user and asked through a proxy: only its name was checked");
	return 0;
}

static int
guarded(const struct transfer *t)
{
	return t->url.untrusted && !t->proxied;
}

/* The connection stands, and may be one that was made for somebody else. */
static int
before_request(void *data, char *address, char *local, int port, int local_port)
{
	struct transfer *t = data;

	(void)local;
	(void)port;
	(void)local_port;
	if (!guarded(t) || guard_address(&t->fetch->blocks->guard, &t->url, address, &t->refusal) == 0)
		return CURL_PREREQFUNC_OK;
	return (void)refuse(t), CURL_PREREQFUNC_ABORT;
}

/* The only way to a socket: the flags that the policy names, whatever this version of libcurl would use; TCP, or the
 * unix socket of an IPFS daemon that narlock.conf names. */
static curl_socket_t
open_socket(void *data, curlsocktype purpose, struct curl_sockaddr *a)
{
	struct transfer *t = data;
	struct fetch *f = t->fetch;
	int type = a->socktype & ~(SOCK_CLOEXEC | SOCK_NONBLOCK), fd; /* newer libcurl wants SOCK_CLOEXEC, too */

	if (purpose != CURLSOCKTYPE_IPCXN || type != SOCK_STREAM ||
	    (a->family != AF_INET && a->family != AF_INET6 && (a->family != AF_UNIX || !f->unix_sockets)))
		return CURL_SOCKET_BAD;
	if (guarded(t) && guard_socket(&f->blocks->guard, &t->url, &a->addr, &t->refusal) != 0)
		return (void)refuse(t), CURL_SOCKET_BAD;
	if (a->family == AF_UNIX) /* the one length that the policy knows; the path ends with its NUL */
		a->addrlen = sizeof(struct sockaddr_un);
	fd = socket(a->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, a->family == AF_UNIX ? 0 : IPPROTO_TCP);
	if (fd >= 0 && fd < FETCH_FILES)
		f->sockets[fd] = 1;
	return fd;
}

static int
close_socket(void *data, curl_socket_t fd)
{
	struct fetch *f = data;

	if (fd >= 0 && fd < FETCH_FILES)
		f->sockets[fd] = 0;
	return close(fd);
}

static in_port_t
local_port(int fd)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof a;

	if (getsockname(fd, (struct sockaddr *)&a, &len) != 0)
		return 0;
	if (a.ss_family == AF_INET)
		return ntohs(((const struct sockaddr_in *)(const void *)&a)->sin_port);
	return ntohs(((const struct sockaddr_in6 *)(const void *)&a)->sin6_port);
}

/* Acknowledge the header now.  A server that leaves Nagle's algorithm on and sends header and body in two writes
 * (guix publish does) would hold back the body for the 40 ms that our kernel takes its time: with small items most
 * of the whole.  libcurl does not say which socket a running transfer has, but it knows its port. */
static void
acknowledge(struct transfer *t)
{
	long port = 0;
	int on = 1;

	if (curl_easy_getinfo(t->easy, CURLINFO_LOCAL_PORT, &port) != CURLE_OK || port <= 0)
		return;
	for (int fd = 0; fd < FETCH_FILES; fd++)
		if (t->fetch->sockets[fd] && local_port(fd) == port)
			(void)setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
}

/* Hundreds of these answers come at the same time, and libcurl keeps their headers. */
static size_t
most_headers(const struct transfer *t)
{
	return t->kind == TRANSFER_BLOCK ? LIMIT_BLOCK_HEADERS : LIMIT_HEADERS;
}

static size_t
on_header(char *line, size_t size, size_t n, void *data)
{
	struct transfer *t = data;

	(void)size; /* always 1 */
	t->active = t->fetch->now;
	t->quiet = 0;
	if (t->kind == TRANSFER_NAR && n == 2 && line[0] == '\r')
		acknowledge(t);
	if (answer_line(&t->answer, line, n, t->fetch->clock) != 0 || t->answer.bytes > most_headers(t))
		return 0;
	return n;
}

static size_t
on_body(char *piece, size_t size, size_t n, void *data)
{
	struct transfer *t = data;

	(void)size; /* always 1 */
	t->active = t->fetch->now;
	return t->calls->body(t->owner, piece, n);
}

CURLM *
transfer_multi(struct err *e)
{
	CURLM *m = curl_multi_init();

	if (m == NULL || curl_multi_setopt(m, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX) != CURLM_OK ||
	    curl_multi_setopt(m, CURLMOPT_MAXCONNECTS, KEPT_CONNECTIONS) != CURLM_OK ||
	    curl_multi_setopt(m, CURLMOPT_MAX_CONCURRENT_STREAMS, STREAMS) != CURLM_OK) {
		curl_multi_cleanup(m);
		return (void)err_set(e, "libcurl gives no multi handle"), NULL;
	}
	return m;
}

/* What is the same for all requests; every choice is written down, also where it is libcurl's default. */
static int
set_options(CURL *c, struct transfer *t)
{
	static const long buffers[] = { LOOKUP_BUFFER, NAR_BUFFER, BLOCK_BUFFER };
	int bad = 0;

#define SET(option, value) (bad |= curl_easy_setopt(c, option, value) != CURLE_OK)
	SET(CURLOPT_PRIVATE, t);
	SET(CURLOPT_ERRORBUFFER, t->error);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, t);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, t);
	SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
	SET(CURLOPT_OPENSOCKETDATA, t);
	SET(CURLOPT_CLOSESOCKETFUNCTION, close_socket);
	SET(CURLOPT_CLOSESOCKETDATA, t->fetch);
	SET(CURLOPT_PREREQFUNCTION, before_request);
	SET(CURLOPT_PREREQDATA, t);
	SET(CURLOPT_BUFFERSIZE, buffers[t->kind]);
	SET(CURLOPT_UPLOAD_BUFFERSIZE, UPLOAD_BUFFER);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_NOPROGRESS, 1L);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_FOLLOWLOCATION, 0L); /* by hand: url_redirect() */
	SET(CURLOPT_PATH_AS_IS, 1L);
	SET(CURLOPT_HTTP09_ALLOWED, 0L);
	SET(CURLOPT_HTTP_CONTENT_DECODING, 0L); /* the bytes as they are */
	SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(CURLOPT_NOPROXY, "");
	SET(CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
	SET(CURLOPT_PROXYAUTH, CURLAUTH_BASIC);
	SET(CURLOPT_PROXYTYPE, (long)CURLPROXY_HTTP);
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	SET(CURLOPT_TCP_NODELAY, 1L);
	SET(CURLOPT_PIPEWAIT, t->kind == TRANSFER_BLOCK ? 0L : 1L);
	SET(CURLOPT_IPRESOLVE, (long)CURL_IPRESOLVE_WHATEVER);
	SET(CURLOPT_USERAGENT, "narlock/" NARLOCK_VERSION);
	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_SSL_VERIFYPEER, t->fetch->settings.tls_verify ? 1L : 0L);
	SET(CURLOPT_SSL_VERIFYHOST, t->fetch->settings.tls_verify ? 2L : 0L);
	SET(CURLOPT_CAINFO, NULL); /* no file can be opened; see ca.h */
	SET(CURLOPT_CAPATH, NULL);
	if (t->fetch->settings.tls_verify) {
		SET(CURLOPT_SSL_CTX_FUNCTION, ca_use);
		SET(CURLOPT_SSL_CTX_DATA, &t->fetch->ca);
	}
#undef SET
	return bad;
}

int
transfer_init(struct transfer *t, struct fetch *f, enum transfer_kind kind, const struct transfer_owner *calls,
    void *owner, struct err *e)
{
	memset(t, 0, sizeof *t);
	t->fetch = f;
	t->kind = kind;
	t->calls = calls;
	t->owner = owner;
	t->easy = curl_easy_init();
	if (t->easy == NULL || set_options(t->easy, t) != 0) {
		transfer_free(t);
		return err_set(e, "libcurl refuses a handle or one of its settings");
	}
	return 0;
}

static void
clean(struct transfer *t)
{
	curl_slist_free_all(t->resolve);
	curl_slist_free_all(t->headers);
	t->resolve = t->headers = NULL;
}

void
transfer_free(struct transfer *t)
{
	transfer_stop(t);
	curl_easy_cleanup(t->easy);
	clean(t);
	t->easy = NULL;
}

void
transfer_stop(struct transfer *t)
{
	if (t->running)
		curl_multi_remove_handle(t->fetch->multi, t->easy);
	t->running = 0;
}

/* --- Starting ---------------------------------------------------------------------------------------- */

static int
on_socket(const struct transfer_request *r)
{
	return r->socket != NULL && r->socket[0] != '\0';
}

static int
set_secrets(CURL *c, CURLoption user, CURLoption password, const struct url *u)
{
	const char *none = NULL;
	int some = u->user[0] != '\0';

	return curl_easy_setopt(c, user, some ? u->user : none) != CURLE_OK ||
	    curl_easy_setopt(c, password, some ? u->password : none) != CURLE_OK;
}

static int
set_proxy(struct transfer *t, const struct proxy *p)
{
	char text[LIMIT_HOST + 32] = "";

	if (p->set)
		(void)snprintf(text, sizeof text, p->url.numeric == 6 ? "http://[%s]:%u" : "http://%s:%u", p->url.host,
		    p->url.port);
	/* The empty string also keeps libcurl from looking into the environment. */
	return curl_easy_setopt(t->easy, CURLOPT_PROXY, text) != CURLE_OK ||
	    set_secrets(t->easy, CURLOPT_PROXYUSERNAME, CURLOPT_PROXYPASSWORD, &p->url);
}

/* Pin the addresses, so that libcurl has nothing to resolve. */
static int
set_addresses(struct transfer *t, const struct url *host, const char *addresses)
{
	char text[LIMIT_HOST + HOSTS_LIST + 16];

	if (addresses != NULL) {
		(void)snprintf(text, sizeof text, "%s:%u:%s", host->host, host->port, addresses);
		if ((t->resolve = curl_slist_append(NULL, text)) == NULL)
			return -1;
	}
	return curl_easy_setopt(t->easy, CURLOPT_RESOLVE, t->resolve) != CURLE_OK;
}

/* GET, HEAD or POST: all that may be left of the request before is set anew. */
static int
set_method(CURL *c, const struct transfer_request *r)
{
	const char *method = r->method != NULL ? r->method : "GET";
	const void *body = r->body != NULL ? r->body : "";

	if (strcmp(method, "GET") == 0)
		return curl_easy_setopt(c, CURLOPT_HTTPGET, 1L) != CURLE_OK;
	if (strcmp(method, "HEAD") == 0)
		return curl_easy_setopt(c, CURLOPT_NOBODY, 1L) != CURLE_OK;
	return strcmp(method, "POST") != 0 || curl_easy_setopt(c, CURLOPT_HTTPGET, 1L) != CURLE_OK ||
	    curl_easy_setopt(c, CURLOPT_POST, 1L) != CURLE_OK ||
	    curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(r->body != NULL ? r->body_len : 0)) != CURLE_OK ||
	    curl_easy_setopt(c, CURLOPT_POSTFIELDS, body) != CURLE_OK;
}

static int
set_way(struct transfer *t, const struct transfer_request *r)
{
	const char *none = NULL;
	long connect_ms = (long)(r->connect_ms != 0 ? r->connect_ms : t->fetch->settings.connect_ms);

	return curl_easy_setopt(t->easy, CURLOPT_CONNECTTIMEOUT_MS, connect_ms) != CURLE_OK ||
	    curl_easy_setopt(t->easy, CURLOPT_UNIX_SOCKET_PATH, on_socket(r) ? r->socket : none) != CURLE_OK;
}

static int
set_request(struct transfer *t, const struct transfer_request *r, const struct proxy *p, const char *addresses)
{
	/* A nar is one long stream: over HTTP/1.1 it needs no second flow control, and pausing it holds up nobody.
	 * Without TLS nobody can tell us that HTTP/2 is spoken. */
	long version = t->kind == TRANSFER_LOOKUP && t->url.https ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1;
	char text[URL_TEXT];

	url_text(&t->url, text);
	return curl_easy_setopt(t->easy, CURLOPT_URL, r->address != NULL ? r->address : text) != CURLE_OK ||
	    curl_easy_setopt(t->easy, CURLOPT_HTTP_VERSION, version) != CURLE_OK ||
	    set_method(t->easy, r) != 0 || set_way(t, r) != 0 ||
	    curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers) != CURLE_OK ||
	    set_secrets(t->easy, CURLOPT_USERNAME, CURLOPT_PASSWORD, &t->url) != 0 || set_proxy(t, p) != 0 ||
	    set_addresses(t, p->set ? &p->url : &t->url, addresses) != 0;
}

/* The proxy for this request; an empty one for none. */
static const struct proxy *
proxy_of(const struct transfer *t, const struct transfer_request *r)
{
	static const struct proxy none;

	if (on_socket(r) || (t->kind == TRANSFER_BLOCK && hosts_local(t->url.host)))
		return &none;
	return t->url.https ? &t->fetch->settings.https : &t->fetch->settings.http;
}

int
transfer_header(struct curl_slist **list, const char *line)
{
	struct curl_slist *longer = curl_slist_append(*list, line);

	if (longer == NULL)
		return -1;
	*list = longer;
	return 0;
}

enum host_state
transfer_ask(struct transfer *t, const struct transfer_request *r, struct curl_slist *headers, struct err *e)
{
	struct fetch *f = t->fetch;
	const struct proxy *p = proxy_of(t, r);
	const char *name = p->set ? p->url.host : t->url.host, *addresses = NULL;
	enum host_state state;

	t->refused = 0;
	t->proxied = p->set;
	if (may_start(t, NULL) != 0) /* not even a question for its name */
		state = HOST_UNKNOWN;
	else if ((state = on_socket(r) ? HOST_READY : hosts_need(&f->hosts, name, f->now, &addresses)) == HOST_WAITING)
		return state;
	clean(t);
	t->headers = headers;
	t->no_host = state == HOST_UNKNOWN && !t->refused;
	if (t->refused || may_start(t, addresses) != 0)
		return (void)err_set(e, "%s", t->refusal.text), HOST_UNKNOWN;
	if (p->bad)
		return (void)err_set(e, "the %s proxy is not one that can be used: it has to be http://HOST:PORT",
		    t->url.https ? "https" : "http"), HOST_UNKNOWN;
	if (state == HOST_UNKNOWN)
		return (void)err_set(e, "%s: host not found", name), HOST_UNKNOWN;
	if (t->url.https && f->settings.tls_verify && ca_parse(&f->ca, e) != 0)
		return HOST_UNKNOWN;
	/* libcurl would name the type of a form that is not there. */
	if (r->method != NULL && strcmp(r->method, "POST") == 0 && r->body == NULL &&
	    transfer_header(&t->headers, "Content-Type:") != 0)
		return (void)err_set(e, "no memory for a request"), HOST_UNKNOWN;
	answer_reset(&t->answer);
	t->error[0] = '\0';
	t->ignored = 0;
	t->quiet = 1;
	t->active = f->now + (r->connect_ms != 0 ? r->connect_ms : f->settings.connect_ms);
	if (set_request(t, r, p, addresses) != 0 || curl_multi_add_handle(f->multi, t->easy) != CURLM_OK)
		return (void)err_set(e, "%s: libcurl refuses the request", name), HOST_UNKNOWN;
	t->running = 1;
	return HOST_READY;
}

enum host_state
transfer_start(struct transfer *t, struct curl_slist *headers, struct err *e)
{
	static const struct transfer_request get;

	return transfer_ask(t, &get, headers, e);
}

/* --- Answers ----------------------------------------------------------------------------------------- */

void
transfer_keep(void *to, size_t size, size_t *len, const char *data, size_t n)
{
	size_t take = n < size - *len ? n : size - *len;

	memcpy((uint8_t *)to + *len, data, take);
	*len += take;
}

size_t
transfer_ignore(struct transfer *t, size_t n)
{
	t->ignored += n;
	return t->ignored <= LIMIT_IGNORED_BODY ? n : 0;
}

int
transfer_redirect(struct transfer *t, struct err *e)
{
	struct url to;

	if (t->answer.location[0] == '\0')
		return err_set(e, "%s: a redirect to nowhere", t->url.host);
	if (t->redirects++ >= LIMIT_REDIRECTS)
		return err_set(e, "%s: more than %d redirects", t->url.host, LIMIT_REDIRECTS);
	if (url_redirect(&to, &t->url, t->answer.location, e) != 0)
		return -1;
	t->url = to;
	return 0;
}

int
transfer_is_dead(const struct transfer *t, CURLcode result)
{
	curl_off_t connected = 0;

	if (t->refused)
		return 0;
	switch (result) {
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
	case CURLE_COULDNT_CONNECT:
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
		return 1;
	case CURLE_OPERATION_TIMEDOUT: /* the only time-out that is set is that of connecting */
		if (curl_easy_getinfo(t->easy, t->url.https ? CURLINFO_APPCONNECT_TIME_T : CURLINFO_CONNECT_TIME_T,
		    &connected) != CURLE_OK)
			return 0;
		return connected == 0;
	default:
		return 0;
	}
}

void
transfer_reason(const struct transfer *t, CURLcode result, char *buf, size_t size)
{
	char where[LIMIT_SOURCE + 1];
	const char *what = t->error[0] != '\0' ? t->error : curl_easy_strerror(result);

	url_source(&t->url, where, sizeof where);
	if (t->refused)
		(void)snprintf(buf, size, "%s", t->refusal.text);
	else if (result == CURLE_OK)
		(void)snprintf(buf, size, "%s: HTTP status %d", where, t->answer.status);
	else if (t->answer.bytes > most_headers(t))
		(void)snprintf(buf, size, "%s: more than %zu bytes of headers", where, most_headers(t));
	else
		(void)snprintf(buf, size, "%s: %s", where, what);
	for (char *p = buf; *p != '\0'; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
}

void
transfer_collect(struct fetch *f, int (*room)(const struct fetch *f))
{
	int left;
	CURLMsg *m;

	while (room(f) && (m = curl_multi_info_read(f->multi, &left)) != NULL) {
		CURLcode result = m->data.result; /* M dies with the removal */
		long connects = 0;
		char *owner = NULL;
		struct transfer *t;

		if (m->msg != CURLMSG_DONE || curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &owner) != CURLE_OK)
			continue;
		t = (struct transfer *)(void *)owner;
		if (t->kind == TRANSFER_BLOCK && curl_easy_getinfo(t->easy, CURLINFO_NUM_CONNECTS, &connects) == CURLE_OK)
			f->connects += (uint64_t)connects;
		transfer_stop(t);
		t->calls->done(t->owner, result);
	}
}
