/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): the conversation with the broker. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "helper/common/logline.h"
#include "helper/fetch/blockconf.h"
#include "helper/fetch/check.h"
#include "helper/fetch/lookup.h"
#include "helper/fetch/nar.h"
#include "helper/fetch/probe.h"
#include "helper/fetch/serve.h"

/* Frames taken in one go, so that a talkative broker does not keep us from the network. */
#define FRAMES_PER_TURN 64

#define DEFAULT_STALL_MS 5000
#define DEFAULT_CONNECT_MS 10000

/* Phases of the conversation, as bits. */
#define BEFORE_SETTINGS 1u
#define SETTING_UP 2u
#define WORKING 4u

struct out_frame {
	struct out_frame *next;
	size_t len;
	uint8_t bytes[];
};

/* --- Handlers ---------------------------------------------------------------------------------------- */

static void
read_proxy(struct proxy *p, struct wire_bytes text, const char *scheme)
{
	char url[LIMIT_URL + 16] = "http://";
	struct err e;

	memset(p, 0, sizeof *p);
	if (text.len == 0)
		return;
	wire_copy(url, sizeof url, text);
	if (url_scheme(url) == 0) { /* "proxy:3128" */
		strcpy(url, "http://");
		wire_copy(url + 7, sizeof url - 7, text);
	}
	p->set = 1;
	if (url_parse(&p->url, url, &e) != 0 || p->url.https) {
		p->bad = 1;
		logline("the %s proxy cannot be used: %s", scheme,
		    p->url.https ? "only http:// is spoken with proxies" : e.text);
	}
}

static int
on_settings(struct fetch *f, const struct wire_msg *m, int fd, struct err *e)
{
	struct settings *s = &f->settings;

	(void)fd;
	if (m->tls_verify > 1)
		return err_set(e, "SETTINGS: tls_verify is %u", m->tls_verify);
	s->stall_ms = m->stall_ms != 0 ? m->stall_ms : DEFAULT_STALL_MS;
	s->connect_ms = m->connect_ms != 0 ? m->connect_ms : DEFAULT_CONNECT_MS;
	if (s->stall_ms > 3600000 || s->connect_ms > 3600000)
		return err_set(e, "SETTINGS: a time of more than an hour");
	s->min_rate = m->min_rate;
	s->tls_verify = m->tls_verify;
	read_proxy(&s->http, m->text, "http");
	read_proxy(&s->https, m->text2, "https");
	f->phase = SETTING_UP;
	return 0;
}

static int
on_server(struct fetch *f, const struct wire_msg *m, int fd, struct err *e)
{
	struct server *s = &f->servers[f->nservers];
	char text[LIMIT_URL + 1];
	struct err why;

	(void)fd;
	if (m->index != f->nservers || f->nservers >= LIMIT_SERVERS)
		return err_set(e, "SERVER %u out of order", m->index);
	if (m->kind > SERVER_INDEX)
		return err_set(e, "SERVER %u of kind %u", m->index, m->kind);
	s->kind = m->kind;
	f->nservers++;
	wire_copy(text, sizeof text, m->text);
	if (url_parse(&s->url, text, &why) == 0) {
		s->url.untrusted = m->kind == SERVER_UNTRUSTED;
		return 0;
	}
	if (strncasecmp(text, "file:", 5) == 0)
		(void)err_set(&why, "file:// servers are refused: serve the directory with `narlock-eris serve' and "
		    "use its http:// URL");
	wire_copy(s->refusal, sizeof s->refusal, wire_str(why.text));
	logline("server %u is not used: %s", m->index, s->refusal);
	return 0;
}

static int
on_trusthost(struct fetch *f, const struct wire_msg *m, int fd, struct err *e)
{
	(void)fd;
	if (f->ntrusted >= LIMIT_TRUSTHOSTS)
		return err_set(e, "more than %d TRUSTHOST", LIMIT_TRUSTHOSTS);
	wire_copy(f->trusted[f->ntrusted++], LIMIT_HOST + 1, m->text);
	return 0;
}

static int
on_option(struct fetch *f, const struct wire_msg *m, int fd, struct err *e)
{
	(void)fd;
	return blockconf_option(f->blocks, m, e);
}

static int
on_lookup(struct fetch *f, const struct wire_msg *m, int fd, struct err *e)
{
	(void)fd;
	f->phase = WORKING;
	return lookup_add(f, m, e);
}

static int
on_candidate(struct fetch *f, const struct wire_msg *m, int fd, struct err *e)
{
	(void)fd;
	f->phase = WORKING;
	return nar_candidate(f, m, e);
}

static int
on_check(struct fetch *f, const struct wire_msg *m, int fd, struct err *e)
{
	(void)m;
	(void)fd;
	f->phase = WORKING;
	return check_start(f, e);
}

static int
on_cancel(struct fetch *f, const struct wire_msg *m, int fd, struct err *e)
{
	(void)fd;
	(void)e;
	/* An id that is not there has ended while the message was under way. */
	lookup_cancel(f, m->id);
	nar_cancel(f, m->id);
	return 0;
}

static int
on_probe(struct fetch *f, const struct wire_msg *m, int fd, struct err *e)
{
	(void)fd;
	f->phase = WORKING;
	return probe_add(f, m, e);
}

static int
on_addresses(struct fetch *f, const struct wire_msg *m, int fd, struct err *e)
{
	(void)fd;
	return hosts_answer(&f->hosts, m, f->now, e);
}

/* --- The table --------------------------------------------------------------------------------------- */

/* What may come, when, and who deals with it.  Everything else ends this process. */
static const struct rule {
	uint16_t type;
	unsigned phases;
	int (*handler)(struct fetch *f, const struct wire_msg *m, int fd, struct err *e);
} rules[] = {
	{ MSG_SETTINGS, BEFORE_SETTINGS, on_settings },
	{ MSG_SERVER, SETTING_UP, on_server },
	{ MSG_TRUSTHOST, SETTING_UP, on_trusthost },
	{ MSG_OPTION, SETTING_UP, on_option },
	{ MSG_LOOKUP, SETTING_UP | WORKING, on_lookup },
	{ MSG_PROBE, SETTING_UP | WORKING, on_probe },
	{ MSG_CANDIDATE, SETTING_UP | WORKING, on_candidate },
	{ MSG_ORDER, WORKING, nar_order },
	{ MSG_CHECK, SETTING_UP | WORKING, on_check },
	{ MSG_CANCEL, WORKING, on_cancel },
	{ MSG_ADDRESSES, WORKING, on_addresses },
};

static int
dispatch(struct fetch *f, const struct wire_msg *m, int fd, struct err *e)
{
	unsigned phase = f->phase != 0 ? f->phase : BEFORE_SETTINGS;

	for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
		if (rules[i].type == m->type && (rules[i].phases & phase) != 0)
			return rules[i].handler(f, m, fd, e);
	if (fd >= 0)
		close(fd);
	return err_set(e, "%s is not allowed now", wire_name(m->type));
}

int
serve_read(struct fetch *f, struct err *e)
{
	uint8_t buf[LIMIT_FRAME];

	for (int i = 0; i < FRAMES_PER_TURN; i++) {
		struct wire_msg m;
		int fd = -1, rc = wire_recv(f->control, &m, buf, &fd, MSG_DONTWAIT, e);

		if (rc == WIRE_AGAIN)
			return 1;
		if (rc == -1 && e->code == ECONNRESET) /* it has left without reading our last frames */
			return 0;
		if (rc != 1)
			return rc;
		if (dispatch(f, &m, fd, e) != 0)
			return -1;
	}
	return 1;
}

/* --- Sending ----------------------------------------------------------------------------------------- */

static void
queue(struct fetch *f, const struct wire_msg *m)
{
	uint8_t frame[LIMIT_FRAME];
	struct err e;
	size_t len = wire_encode(m, frame, &e);
	struct out_frame *o = len > 0 ? malloc(sizeof *o + len) : NULL;

	if (o == NULL) {
		/* The conversation cannot go on with a hole in it. */
		logline("cannot queue %s: %s", wire_name(m->type), len > 0 ? "no memory" : e.text);
		f->broken = 1;
		return;
	}
	o->next = NULL;
	o->len = len;
	memcpy(o->bytes, frame, len);
	*(f->out != NULL ? f->out_tail : &f->out) = o;
	f->out_tail = &o->next;
	f->out_bytes += len;
}

void
serve_send(struct fetch *f, const struct wire_msg *m)
{
	struct err e;

	if (f->out != NULL || wire_send(f->control, m, -1, MSG_DONTWAIT, &e) != 1)
		queue(f, m);
}

int
serve_flush(struct fetch *f, struct err *e)
{
	if (f->broken)
		return err_set(e, "an answer was lost");
	while (f->out != NULL) {
		struct out_frame *o = f->out;
		ssize_t n = send(f->control, o->bytes, o->len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return 0;
		if (n < 0)
			return err_sys(e, errno, "cannot send to the broker");
		f->out = o->next;
		f->out_bytes -= o->len;
		free(o);
	}
	return 0;
}

int
serve_room(const struct fetch *f)
{
	return f->out_bytes < LIMIT_OUT_QUEUE;
}

void
serve_free(struct fetch *f)
{
	while (f->out != NULL) {
		struct out_frame *o = f->out;

		f->out = o->next;
		free(o);
	}
	f->out_bytes = 0;
}
