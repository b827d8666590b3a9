/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): one nar at a time, from the best of its places, into the descriptor that came with the
 * order: an order, from its candidates to its end. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "helper/common/logline.h"
#include "helper/eris/urn.h"
#include "helper/fetch/blocks.h"
#include "helper/fetch/blockwhere.h"
#include "helper/fetch/index.h"
#include "helper/fetch/nar.h"
#include "helper/fetch/nar_own.h"
#include "helper/fetch/rank.h"
#include "helper/fetch/recode.h"
#include "helper/fetch/rootget.h"
#include "helper/fetch/serve.h"
#include "helper/fetch/transfer.h"
#include "helper/ipfs/manifest.h"

#define PROGRESS_MS 100
/* Tries of a place before its first byte, and resumptions without real progress after it. */
#define MAX_TRIES 3
#define BACKOFF_MS 200

int
nar_init(struct fetch *f, struct err *e)
{
	struct order *o = calloc(1, sizeof *o);

	if (o == NULL)
		return err_set(e, "no memory for an order");
	o->fetch = f;
	o->sink = -1;
	f->order = o;
	return 0;
}

void
nar_free(struct fetch *f)
{
	struct order *o = f->order;

	if (o == NULL)
		return;
	if (o->transfer.easy != NULL)
		transfer_free(&o->transfer);
	blocks_free(o->blocks);
	recode_free(o->recode);
	index_free(o->index);
	rootget_free(o->root);
	if (o->sink >= 0)
		close(o->sink);
	free(o);
	f->order = NULL;
}

/* --- The end of an order ---------------------------------------------------------------------------- */

void
nar_end_order(struct order *o, enum nar_status status, const char *reason)
{
	struct wire_msg m = { .type = MSG_NAR_END, .id = o->id, .status = (uint8_t)status, .bytes = o->written,
		.candidate = status == NAR_EXHAUSTED ? NO_CANDIDATE : (uint16_t)(o->begun ? o->begun_as : o->current) };
	char text[LIMIT_REASON + 1];

	transfer_stop(&o->transfer);
	narblocks_leave(o);
	index_free(o->index);
	o->index = NULL;
	rootget_free(o->root);
	o->root = NULL;
	narblocks_end_healing(o, status == NAR_DONE, &m);
	close(o->sink);
	o->sink = -1;
	o->phase = IDLE;
	o->nplaces = 0;
	wire_copy(text, sizeof text, wire_str(status == NAR_DONE ? o->summary : reason));
	m.text = wire_str(text);
	serve_send(o->fetch, &m);
}

/* --- Content on its way to the reader --------------------------------------------------------------- */

void
nar_announce(struct order *o, uint64_t size)
{
	struct wire_msg m = { .type = MSG_NAR_BEGIN, .id = o->id, .candidate = (uint16_t)o->current,
		.method = o->places[o->current].method, .size = size };

	o->begun = 1;
	o->begun_as = o->current;
	serve_send(o->fetch, &m);
}

int
nar_make_room(struct order *o, size_t n)
{
	if (BUFFER - o->end < n) {
		memmove(o->buffer, o->buffer + o->start, o->end - o->start);
		o->end -= o->start;
		o->start = 0;
	}
	return BUFFER - o->end < n ? -1 : 0;
}

void
nar_append(struct order *o, const void *data, size_t n)
{
	memcpy(o->buffer + o->end, data, n);
	o->end += n;
	o->got += n;
}

int
nar_flush(struct order *o)
{
	o->blocked = 0;
	/* The unpacker is chosen by NAR_BEGIN: no byte before the broker can have seen it. */
	if (o->start < o->end && o->fetch->out != NULL)
		return 0;
	while (o->start < o->end) {
		ssize_t n = send(o->sink, o->buffer + o->start, o->end - o->start, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			o->blocked = 1;
			return 0;
		}
		if (n < 0) {
			o->gone = 1;
			return -1;
		}
		o->start += (size_t)n;
		o->written += (size_t)n;
	}
	o->start = o->end = 0;
	return 0;
}

/* --- Failures --------------------------------------------------------------------------------------- */

/* With jitter: clients that lost a server at one time shall not come back at one time. */
static uint64_t
backoff(struct fetch *f, unsigned tries)
{
	uint64_t ms = (uint64_t)BACKOFF_MS << (tries < 8 ? tries : 8);

	f->seed = f->seed * 1664525u + 1013904223u;
	return ms + (f->seed >> 8) % (ms / 2 + 1);
}

static int
may_resume(const struct order *o)
{
	return o->ranges != 2 && (o->total >= 0 || o->places[o->current].method == METHOD_NONE);
}

/* Is there another place to go to, should this one not go on? */
static int
others_left(const struct order *o)
{
	if (o->others)
		return 1;
	for (size_t i = 0; i < o->nrank; i++)
		if (o->rank[i].candidate != o->current && !o->places[o->rank[i].candidate].finished)
			return 1;
	return 0;
}

void
nar_failed(struct order *o, const char *reason, int again, uint64_t wait_ms)
{
	struct place *p = &o->places[o->current];

	transfer_stop(&o->transfer);
	wire_copy(o->reason, sizeof o->reason, wire_str(reason));
	o->phase = PICKING;
	o->failures++;
	if (o->begun && !o->verifying) {
		if (o->got - o->mark >= REAL_PROGRESS)
			o->resumes = 0;
		o->mark = o->got;
		/* While another place may do, what is here is worth one more try, but no more waiting. */
		unsigned most = !others_left(o) ? MAX_TRIES : o->stalled ? 0 : 1;

		if (!again || !may_resume(o) || o->resumes >= most) {
			nar_end_order(o, NAR_FAILED, o->reason);
			return;
		}
		p->not_before = o->fetch->now + (wait_ms > 0 ? wait_ms : backoff(o->fetch, o->resumes));
		o->resumes++;
		o->stalled = 0;
		return;
	}
	o->stalled = 0;
	p->not_before = o->fetch->now + (wait_ms > 0 ? wait_ms : backoff(o->fetch, p->tries));
	p->finished = ++p->tries >= (o->others ? 1 : MAX_TRIES) || !again;
}

/* --- Orders ----------------------------------------------------------------------------------------- */

int
nar_same_content(const struct place *a, const struct place *b)
{
	return a == b || (a->method == b->method && a->has_cap && b->has_cap &&
	    a->cap.block_size == b->cap.block_size &&
	    memcmp(&a->cap.root, &b->cap.root, sizeof a->cap.root) == 0);
}

/* What makes no sense costs the blocks, not the nar. */
static void
read_cap(struct place *p, const struct wire_msg *m)
{
	char text[LIMIT_URN + 1];
	struct err e;

	wire_copy(text, sizeof text, m->eris);
	if (text[0] != '\0' && urn_parse(&p->cap, text, &e) != 0)
		logline("an ERIS capability is passed over: %s", e.text);
	else
		p->has_cap = text[0] != '\0';
	wire_copy(text, sizeof text, m->manifest);
	p->has_manifest = text[0] != '\0' && manifest_cid_parse(p->manifest, text, &e) == 0;
}

int
nar_candidate(struct fetch *f, const struct wire_msg *m, struct err *e)
{
	struct order *o = f->order;
	char method[LIMIT_COMPRESSION + 1];
	struct place *p;

	if (o->phase > COLLECTING)
		return err_set(e, "CANDIDATE while an order is under way");
	if (m->index == 0 || o->phase == IDLE) {
		o->phase = COLLECTING;
		o->nplaces = 0;
		o->id = m->id;
	}
	if (m->id != o->id || m->index != o->nplaces || o->nplaces >= LIMIT_CANDIDATES || m->server >= f->nservers)
		return err_set(e, "CANDIDATE %u out of order", m->index);
	p = &o->places[o->nplaces++];
	memset(p, 0, sizeof *p);
	p->server = m->server;
	p->file_size = m->size;
	wire_copy(p->url, sizeof p->url, m->text2);
	wire_copy(method, sizeof method, m->text);
	p->method = rank_method(method);
	read_cap(p, m);
	return 0;
}

int
nar_place_url(const struct order *o, const struct place *p, struct url *u, struct err *e)
{
	const struct server *s = &o->fetch->servers[p->server];
	size_t scheme = url_scheme(p->url);

	if (scheme == 4 && strncasecmp(p->url, "file", 4) == 0)
		return err_set(e, "a file:// URL is refused: serve the directory with `narlock-eris serve'");
	if (scheme == 0 && s->refusal[0] != '\0')
		return err_set(e, "%s", s->refusal);
	return url_below(u, &s->url, p->url, e);
}

static void
rank(struct order *o)
{
	o->nrank = 0;
	for (size_t i = 0; i < o->nplaces; i++) {
		const struct place *p = &o->places[i];
		struct url u;
		struct err e;

		if (p->method == 0 || p->file_size > o->max_bytes)
			continue; /* unknown ones are common and no news */
		if (nar_place_url(o, p, &u, &e) != 0) {
			logline("a place of this nar is passed over: %s", e.text);
			wire_copy(o->reason, sizeof o->reason, wire_str(e.text));
			continue;
		}
		o->rank[o->nrank++] = (struct rank_entry){ .candidate = (uint16_t)i, .server = p->server,
			.method = p->method, .dead = (uint8_t)hosts_dead(&o->fetch->hosts, &u),
			.file_size = p->file_size };
	}
	rank_sort(o->rank, o->nrank);
}

int
nar_order(struct fetch *f, const struct wire_msg *m, int fd, struct err *e)
{
	struct order *o = f->order;

	if (o->phase != COLLECTING || m->id != o->id) {
		close(fd);
		return err_set(e, "ORDER out of order");
	}
	if (o->transfer.easy == NULL && transfer_init(&o->transfer, f, TRANSFER_NAR, &narfile_calls, o, e) != 0) {
		close(fd);
		return -1;
	}
	o->sink = fd;
	o->nar_size = m->nar_size;
	o->others = m->others;
	o->max_bytes = m->max_bytes;
	o->begun = o->blocked = o->gone = o->verifying = o->another = o->missing = 0;
	o->rounds = 0;
	o->insisted = o->indexed = 0;
	o->round_mark = 0;
	o->summary[0] = '\0';
	memcpy(o->hash_part, m->hash_part, HASH_PART_BYTES);
	o->total = -1;
	o->got = o->written = o->mark = o->progress_bytes = 0;
	o->resumes = o->failures = 0;
	o->stalled = 0;
	o->progress_ms = f->now;
	o->start = o->end = 0;
	o->current = 0;
	strcpy(o->reason, "no place of this nar has a compression that is known");
	rank(o);
	o->phase = PICKING;
	narblocks_try(o);
	return 0;
}

void
nar_cancel(struct fetch *f, uint32_t id)
{
	if (f->order->phase > COLLECTING && f->order->id == id)
		nar_end_order(f->order, NAR_CANCELLED, "");
}

/* --- The clock -------------------------------------------------------------------------------------- */

/* Which place is next, and has its time come? */
static void
pick(struct order *o)
{
	struct place *next = NULL;
	struct err e;

	if (o->begun && !o->verifying)
		next = &o->places[o->current];
	for (size_t i = 0; (!o->begun || o->verifying) && i < o->nrank; i++) {
		struct place *p = &o->places[o->rank[i].candidate];

		if (o->begun && !nar_same_content(p, &o->places[o->begun_as]))
			continue;
		if (!p->finished && (next == NULL || (next->not_before > o->fetch->now &&
		    p->not_before < next->not_before)))
			next = p;
	}
	if (next == NULL && narblocks_turn_to(o) == 0)
		return;
	if (next == NULL) {
		nar_end_order(o, o->begun ? NAR_FAILED : NAR_EXHAUSTED, o->reason);
		return;
	}
	o->current = (size_t)(next - o->places);
	if (next->not_before > o->fetch->now)
		return;
	if (o->failures > 0)
		logline(o->begun && !o->verifying ? "%s; going on from there" : "%s; trying on", o->reason);
	o->failures = 0;
	if (nar_place_url(o, next, &o->transfer.url, &e) != 0) {
		nar_failed(o, e.text, 0, 0);
		return;
	}
	o->transfer.redirects = 0;
	o->phase = STARTING;
}

static void
report(struct order *o)
{
	struct wire_msg m = { .type = MSG_NAR_PROGRESS, .id = o->id, .bytes = o->got };
	char source[LIMIT_SOURCE + 1];

	if (!o->begun || o->got == o->progress_bytes || o->fetch->now < o->progress_ms + PROGRESS_MS ||
	    o->fetch->out != NULL)
		return;
	o->progress_ms = o->fetch->now;
	o->progress_bytes = o->got;
	if (o->phase == ASSEMBLING)
		blockwhere_text(o->blocks, source, sizeof source);
	else if (o->transfer.url.host[0] == '\0')
		return; /* the last of the blocks: where they came from was said */
	else
		url_source(&o->transfer.url, source, sizeof source);
	m.text = wire_str(source);
	serve_send(o->fetch, &m);
}

void
nar_pump(struct fetch *f)
{
	struct order *o = f->order;

	if (o->phase <= COLLECTING)
		return;
	if (o->drop_blocks) {
		narblocks_leave(o);
		(void)snprintf(o->summary + strlen(o->summary), sizeof o->summary - strlen(o->summary),
		    ", the rest as a file");
	}
	(void)nar_flush(o);
	narblocks_pump(o);
	if (!o->gone && o->phase == PICKING) {
		pick(o);
		narblocks_pump(o); /* at once: nothing else would wake us up */
	}
	if (o->gone && o->phase > COLLECTING) {
		nar_end_order(o, NAR_FAILED, "the reader has gone");
		return;
	}
	if (o->phase == STARTING)
		narfile_launch(o);
	if (o->phase == RUNNING)
		narfile_run(o);
	if (o->phase == FLUSHING && o->start == o->end)
		nar_end_order(o, NAR_DONE, "");
	else if (o->phase > COLLECTING)
		report(o);
}

int
nar_wants(const struct fetch *f)
{
	return f->order->phase > COLLECTING && f->order->blocked ? f->order->sink : -1;
}

uint64_t
nar_deadline(const struct fetch *f)
{
	const struct order *o = f->order;

	if (o->phase == ROOTING)
		return rootget_deadline(o->root);
	if (o->phase == INDEXING)
		return index_deadline(o->index);
	if (o->phase == ASSEMBLING)
		return blocks_deadline(o->blocks);
	if (o->phase == PICKING)
		return o->places[o->current].not_before;
	if (o->phase == RUNNING && !o->paused)
		return o->window_ms + f->settings.stall_ms;
	return UINT64_MAX;
}
