/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): one nar at a time, from the best of its places, into the descriptor that came with the
 * order. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "helper/common/logline.h"
#include "helper/eris/urn.h"
#include "helper/fetch/blockconf.h"
#include "helper/fetch/blocks.h"
#include "helper/fetch/blockwhere.h"
#include "helper/fetch/heal.h"
#include "helper/fetch/index.h"
#include "helper/fetch/nar.h"
#include "helper/fetch/prefix.h"
#include "helper/fetch/rank.h"
#include "helper/fetch/recode.h"
#include "helper/fetch/rootget.h"
#include "helper/fetch/serve.h"
#include "helper/fetch/transfer.h"
#include "helper/ipfs/manifest.h"

/* libcurl hands out at most 16 KiB at a time; they are collected here, so that the descriptor is written to
 * in few calls, and so that a full descriptor never leaves half a piece behind. */
#define BUFFER (256 * 1024)

#define PROGRESS_MS 100
/* Tries of a place before its first byte, and resumptions without real progress after it. */
#define MAX_TRIES 3
#define REAL_PROGRESS (1024 * 1024)
#define BACKOFF_MS 200
/* How long nothing may come from blocks, where they are the only way, after they were waited for in vain
 * (LIMIT_INSIST_MS) for an order before; milliseconds. */
#define INSIST_VAIN_MS 15000
/* How often the sources of blocks are asked once more when there is no whole file, without real progress. */
#define MAX_ROUNDS 3
/* How long the roots of manifests are waited for when nothing else tells the capability; and when they did not come
 * for so many orders in a row. */
#define ROOT_WAIT_MS 2000
#define ROOT_VAIN_MS 500
#define ROOT_VAIN 2

enum phase {
	IDLE,
	COLLECTING, /* candidates come, the order itself has not */
	ROOTING,    /* the root of a manifest is asked for, for the capability in it */
	INDEXING,   /* indexes are asked for a capability */
	ASSEMBLING, /* out of blocks */
	PICKING,    /* a place has to be chosen, or its time has to come */
	STARTING,   /* its host's name is being asked for */
	RUNNING,
	FLUSHING,   /* all bytes are here, the reader has not taken them yet */
};

struct place {
	uint16_t server;
	uint8_t method; /* 0: not usable */
	uint8_t tries;
	uint8_t finished;
	uint64_t not_before;
	uint64_t file_size;
	uint8_t has_cap, has_manifest, rooted; /* its manifest was asked for */
	struct eris_cap cap;
	uint8_t manifest[ERIS_REF];
	char url[LIMIT_URL + 1];
};

struct order {
	struct fetch *fetch;
	struct transfer transfer;
	enum phase phase;
	uint32_t id;
	int sink;
	uint64_t nar_size, max_bytes;
	int stalled;         /* the failure at hand is silence */
	int others;          /* the broker has more servers to ask */
	char hash_part[HASH_PART_BYTES + 1];
	struct place places[LIMIT_CANDIDATES];
	size_t nplaces;
	struct rank_entry rank[LIMIT_CANDIDATES];
	size_t nrank;
	size_t current;      /* index into places */
	char reason[LIMIT_REASON + 1]; /* of the last failure */
	unsigned failures;             /* since the last attempt began */

	/* Blocks.  What they have brought stays: a whole file goes on behind it, once it has shown the same
	 * beginning. */
	struct index_query *index;
	struct rootget *root;
	size_t root_of;           /* index into places: whose manifest that is */
	uint64_t root_since, root_until; /* milliseconds: for all manifests together */
	uint8_t roots_vain;       /* orders in a row, over many orders, whose manifests did not come in time */
	struct blocks *blocks;
	uint8_t drop_blocks;      /* they are not needed any more; not to be freed where libcurl calls us */
	uint8_t healing;          /* between heal_begin() and heal_end() */
	uint8_t held;             /* there are more that did not fit into `buffer' */
	uint8_t missing;          /* IPFS does not have all of it */
	size_t healed;            /* index into places: whose capability that is about */
	uint8_t insisted;         /* blocks were waited for until that was of no use any more */
	uint8_t insist_vain;      /* over many orders: so it was the last time */
	uint8_t indexed;          /* indexes were asked */
	unsigned rounds;
	uint64_t round_mark;      /* `got' at the last of them */
	struct prefix content;    /* all that blocks have brought */
	struct recode *recode;
	uint8_t verifying;        /* a whole file is compared with what was written */
	uint8_t another;          /* it was another one */
	uint64_t seen;            /* bytes of it so far */
	struct prefix prefix;
	char summary[LIMIT_REASON + 1]; /* of where blocks came from */

	uint8_t begun;       /* NAR_BEGIN was sent: no other content any more */
	uint8_t gone;        /* the reader is not there any more */
	size_t begun_as;     /* index into places, as NAR_BEGIN has said */
	int64_t total;       /* bytes of the file, -1: not told */
	uint8_t ranges;      /* of the first answer, like its validators: */
	char etag[ANSWER_ETAG + 1];
	char modified[ANSWER_DATE + 1];
	uint64_t got;        /* bytes of the file received */
	uint64_t written;    /* of these, into the sink */
	uint64_t mark;       /* `got' at the last failure */
	unsigned resumes;

	/* One attempt. */
	uint8_t judged, taken; /* the header was looked at; the body is ours */
	uint8_t complete, too_much;
	uint8_t paused;
	uint8_t counting;    /* the clock of the stall rule runs */
	uint64_t window_ms, window_bytes;

	uint64_t progress_ms, progress_bytes;
	uint8_t blocked;     /* the sink is full */
	size_t start, end;   /* of what waits in `buffer' */
	char buffer[BUFFER];
};

static size_t on_body(void *owner, const char *data, size_t n);
static void on_done(void *owner, CURLcode result);

static const struct transfer_owner calls = { on_body, on_done };

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

/* --- The end of an order ------------------------------------------------------------------------------ */

static void
leave_blocks(struct order *o)
{
	if (o->blocks != NULL)
		blockwhere_summary(o->blocks, o->summary, sizeof o->summary);
	blocks_free(o->blocks);
	o->blocks = NULL;
	o->drop_blocks = 0;
}

static void
end_healing(struct order *o, int success, struct wire_msg *m)
{
	if (o->recode != NULL && success && !recode_end(o->recode, o->fetch))
		logline("the file is another encoding than its blocks: nothing of it goes into IPFS");
	recode_free(o->recode);
	o->recode = NULL;
	if (!o->healing)
		return;
	o->healing = 0;
	heal_end(o->fetch, success);
	heal_counts(o->fetch, &m->missed, &m->repaired, &m->reinserted);
}

/* Not to be called where libcurl calls us. */
static void
end_order(struct order *o, enum nar_status status, const char *reason)
{
	struct wire_msg m = { .type = MSG_NAR_END, .id = o->id, .status = (uint8_t)status, .bytes = o->written,
		.candidate = status == NAR_EXHAUSTED ? NO_CANDIDATE : (uint16_t)(o->begun ? o->begun_as : o->current) };
	char text[LIMIT_REASON + 1];

	transfer_stop(&o->transfer);
	leave_blocks(o);
	index_free(o->index);
	o->index = NULL;
	rootget_free(o->root);
	o->root = NULL;
	end_healing(o, status == NAR_DONE, &m);
	close(o->sink);
	o->sink = -1;
	o->phase = IDLE;
	o->nplaces = 0;
	wire_copy(text, sizeof text, wire_str(status == NAR_DONE ? o->summary : reason));
	m.text = wire_str(text);
	serve_send(o->fetch, &m);
}

/* Write what waits.  0, or -1: the reader has gone. */
static int
flush(struct order *o)
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

/* --- Failures ---------------------------------------------------------------------------------------- */

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

/* The current attempt is over without success.  AGAIN: it may go better the next time; WAIT_MS: not earlier,
 * 0 if that is for us to say. */
static void
failed(struct order *o, const char *reason, int again, uint64_t wait_ms)
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
			end_order(o, NAR_FAILED, o->reason);
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

/* Whether both places have the same file, as far as anybody knows. */
static int
same_content(const struct place *a, const struct place *b)
{
	return a == b || (a->method == b->method && a->has_cap && b->has_cap &&
	    a->cap.block_size == b->cap.block_size &&
	    memcmp(&a->cap.root, &b->cap.root, sizeof a->cap.root) == 0);
}

/* --- Answers ----------------------------------------------------------------------------------------- */

/* The first byte is there: from now on it is this candidate's content. */
static void
announce(struct order *o, uint64_t size)
{
	struct wire_msg m = { .type = MSG_NAR_BEGIN, .id = o->id, .candidate = (uint16_t)o->current,
		.method = o->places[o->current].method, .size = size };

	o->begun = 1;
	o->begun_as = o->current;
	serve_send(o->fetch, &m);
}

/* A file that blocks were missing of goes back into IPFS, unless that would spread what is private. */
static void
begin_recode(struct order *o)
{
	const struct place *p = &o->places[o->current];
	struct err e;

	recode_free(o->recode);
	o->recode = NULL;
	if (!o->healing || !o->missing || !same_content(p, &o->places[o->healed]))
		return;
	if (!o->fetch->blocks->seed_private && heal_private(o->fetch, &o->transfer.url))
		heal_forbid(o->fetch);
	else if ((o->recode = recode_new(&p->cap, o->verifying ? o->got : 0, &e)) == NULL)
		logline("%s", e.text);
}

/* A whole file begins. */
static void
begin(struct order *o)
{
	const struct answer *a = &o->transfer.answer;

	if (!o->begun)
		announce(o, a->length > 0 ? (uint64_t)a->length : 0);
	o->total = a->length;
	o->ranges = a->ranges;
	memcpy(o->etag, a->etag, sizeof o->etag);
	memcpy(o->modified, a->modified, sizeof o->modified);
	o->seen = 0;
	if (o->verifying)
		prefix_begin(&o->prefix, o->content.block_size);
	begin_recode(o);
}

static int
same_file(const struct order *o, const struct answer *a)
{
	int64_t total = o->total >= 0 ? o->total : (int64_t)o->nar_size; /* without a length only `none' resumes */

	if (a->range_start != (int64_t)o->got || (a->range_total >= 0 && a->range_total != total))
		return 0;
	if (o->etag[0] != '\0' && a->etag[0] != '\0')
		return strcmp(o->etag, a->etag) == 0;
	if (o->modified[0] != '\0' && a->modified[0] != '\0')
		return strcmp(o->modified, a->modified) == 0;
	return a->range_total >= 0;
}

/* Look at the header once, before the first byte of the body.  What is refused here leaves a reason. */
static void
judge(struct order *o)
{
	const struct answer *a = &o->transfer.answer;
	int none = o->places[o->current].method == METHOD_NONE;
	const char *host = o->transfer.url.host;
	struct err e = { 0 };

	o->judged = 1;
	if (a->status == 206 && o->begun && !o->verifying) {
		if (same_file(o, a))
			o->taken = 1;
		else
			(void)err_set(&e, "%s: the rest is not of the same file", host);
	} else if (a->status == 200 && o->begun && !o->verifying) {
		(void)err_set(&e, "%s: the server cannot go on in the middle of a file", host);
	} else if (a->status == 200 && a->length >= 0 && (uint64_t)a->length > o->max_bytes) {
		(void)err_set(&e, "%s: a file of %lld bytes, more than %llu", host, (long long)a->length,
		    (unsigned long long)o->max_bytes);
	} else if (a->status == 200 && none && a->length >= 0 && (uint64_t)a->length != o->nar_size) {
		(void)err_set(&e, "%s: a file of %lld bytes where the nar has %llu", host, (long long)a->length,
		    (unsigned long long)o->nar_size);
	} else if (a->status == 200 && a->length != 0) {
		begin(o);
		o->taken = 1;
	} else if (a->status == 200) {
		(void)err_set(&e, "%s: an empty file", host);
	}
	wire_copy(o->reason, sizeof o->reason, wire_str(e.text));
}

/* N bytes of a beginning that was written already, from blocks.  0, or -1: it is another one. */
static int
verify(struct order *o, const char *data, size_t n)
{
	prefix_add(&o->prefix, data, n);
	o->seen += n;
	o->window_bytes += n;
	if (o->seen < o->got)
		return 0;
	if (!prefix_same(&o->content, &o->prefix)) {
		o->another = 1;
		return -1;
	}
	o->verifying = 0;
	o->drop_blocks = 1;
	return 0;
}

/* Room for N bytes in the buffer, in one piece.  0, or -1. */
static int
make_room(struct order *o, size_t n)
{
	if (BUFFER - o->end < n) {
		memmove(o->buffer, o->buffer + o->start, o->end - o->start);
		o->end -= o->start;
		o->start = 0;
	}
	return BUFFER - o->end < n ? -1 : 0;
}

static void
append(struct order *o, const void *data, size_t n)
{
	memcpy(o->buffer + o->end, data, n);
	o->end += n;
	o->got += n;
}

static size_t
on_body(void *owner, const char *data, size_t n)
{
	struct order *o = owner;
	size_t skip = 0, take;

	if (!o->judged)
		judge(o);
	if (!o->taken)
		return transfer_ignore(&o->transfer, n);
	if (o->verifying)
		skip = n < o->got - o->seen ? n : (size_t)(o->got - o->seen);
	take = n - skip;
	/* Where there is no end, or none that can be believed, the size of the nar is the end. */
	if (o->places[o->current].method == METHOD_NONE && take > o->nar_size - o->got)
		take = (size_t)(o->nar_size - o->got);
	if (take > o->max_bytes - o->got) {
		o->too_much = 1;
		return 0;
	}
	if (make_room(o, take) != 0) {
		o->paused = 1;
		return CURL_WRITEFUNC_PAUSE;
	}
	if (o->verifying && verify(o, data, skip) != 0)
		return 0;
	if (o->recode != NULL)
		recode_add(o->recode, data, skip + take);
	append(o, data + skip, take);
	o->window_bytes += take;
	if (!o->verifying && o->places[o->current].method == METHOD_NONE && o->got == o->nar_size)
		o->complete = 1;
	/* Early enough that the reader works while the next pieces come. */
	if (o->end - o->start >= BUFFER / 4 && !o->blocked && flush(o) != 0)
		return 0;
	return skip + take == n ? n : 0;
}

static int
is_transient(int status)
{
	return status == 408 || status == 429 || (status >= 500 && status <= 504);
}

/* An answer that is not the file. */
static void
refused(struct order *o, CURLcode result)
{
	struct transfer *t = &o->transfer;
	char reason[LIMIT_REASON + 1];
	uint64_t wait = 0;
	struct err e;

	if (answer_is_redirect(&t->answer)) {
		if (transfer_redirect(t, &e) != 0)
			failed(o, e.text, 0, 0);
		else
			o->phase = STARTING;
		return;
	}
	transfer_reason(t, t->answer.status != 200 && t->answer.status != 206 ? CURLE_OK : result, reason,
	    sizeof reason);
	if ((t->answer.status == 429 || t->answer.status == 503) && t->answer.retry_after > 0)
		wait = (uint64_t)(t->answer.retry_after < LIMIT_RETRY_AFTER ? t->answer.retry_after :
		    LIMIT_RETRY_AFTER) * 1000;
	failed(o, o->reason[0] != '\0' ? o->reason : reason, is_transient(t->answer.status), wait);
}

static void
on_done(void *owner, CURLcode result)
{
	struct order *o = owner;
	struct transfer *t = &o->transfer;
	char reason[LIMIT_REASON + 1];
	struct err e;

	if (o->phase != RUNNING)
		return;
	if (o->gone) {
		end_order(o, NAR_FAILED, "the reader has gone");
		return;
	}
	if (o->another) {
		(void)err_set(&e, "%s: the file is not what its blocks are", t->url.host);
		failed(o, e.text, 0, 0);
		return;
	}
	if (!o->judged && t->answer.status != 0 && result == CURLE_OK)
		judge(o);
	transfer_reason(t, result, reason, sizeof reason);
	if (o->too_much) {
		(void)err_set(&e, "%s: more than %llu bytes", t->url.host, (unsigned long long)o->max_bytes);
		failed(o, e.text, 0, 0);
	} else if (o->complete) {
		o->phase = FLUSHING;
	} else if (transfer_is_dead(t, result)) {
		hosts_stale(&o->fetch->hosts, t->url.host);
		if (!o->begun)
			hosts_die(&o->fetch->hosts, &t->url);
		failed(o, reason, o->begun && !o->verifying, 0);
	} else if (!o->taken && t->answer.status != 0 && (o->judged || t->answer.status != 200)) {
		refused(o, result);
	} else if (result != CURLE_OK) {
		failed(o, reason, 1, 0);
	} else if (o->verifying || o->places[o->current].method == METHOD_NONE ||
	    (o->total >= 0 && o->got != (uint64_t)o->total)) {
		(void)err_set(&e, "%s: ended early, after %llu bytes", t->url.host,
		    (unsigned long long)(o->verifying ? o->seen : o->got));
		failed(o, e.text, 1, 0);
	} else {
		o->phase = FLUSHING;
	}
}

/* --- Orders ------------------------------------------------------------------------------------------ */

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

static int
place_url(const struct order *o, const struct place *p, struct url *u, struct err *e)
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
		if (place_url(o, p, &u, &e) != 0) {
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

/* --- Blocks ------------------------------------------------------------------------------------------ */

/* The best place that tells its capability, or NULL. */
static struct place *
first_with_cap(struct order *o)
{
	for (size_t i = 0; i < o->nrank; i++)
		if (o->places[o->rank[i].candidate].has_cap)
			return &o->places[o->rank[i].candidate];
	return NULL;
}

/* The places of the file that P's blocks make; others of the same compression and size may well have it,
 * too. */
static size_t
find_places(const struct order *o, const struct place *p, struct blocks_place *places)
{
	size_t n = 0;
	struct err e;

	for (int same = 1; same >= 0; same--)
		for (size_t i = 0; i < o->nrank && n < BLOCKS_PLACES; i++) {
			const struct place *q = &o->places[o->rank[i].candidate];

			if (same_content(p, q) != same || (!same && (q->has_cap || q->method != p->method ||
			    p->file_size == 0 || q->file_size != p->file_size)))
				continue;
			places[n].server = q->server;
			places[n].url = q->url;
			n += place_url(o, q, &places[n].at, &e) == 0;
		}
	return n;
}

static void
begin_healing(struct order *o, const struct place *p, const struct blocks_place *places, size_t n)
{
	char (*texts)[URL_TEXT] = calloc(BLOCKS_PLACES, sizeof *texts);
	const char *urls[BLOCKS_PLACES];
	uint8_t cap[ERIS_CAP];
	int allowed = texts != NULL;
	size_t known = 0;

	urn_to_bytes(cap, &p->cap);
	for (size_t i = 0; i < n && texts != NULL; i++) {
		if (places[i].at.untrusted) /* narlock-heal has no guard: guard.h */
			continue;
		url_text(&places[i].at, texts[known]);
		urls[known] = texts[known];
		known++;
		if (!o->fetch->blocks->seed_private && heal_private(o->fetch, &places[i].at))
			allowed = 0;
	}
	heal_begin(o->fetch, cap, urls, known, o->nar_size, allowed);
	o->healing = 1;
	o->healed = (size_t)(p - o->places);
	free(texts);
}

static void
assemble_from(struct order *o, const struct place *p)
{
	struct blocks_order b = { .cap = p->cap, .has_manifest = p->has_manifest, .file_size = p->file_size };
	struct blocks_place *places = calloc(BLOCKS_PLACES, sizeof *places);
	struct err e;

	if (places == NULL)
		return;
	memcpy(b.manifest, p->manifest, ERIS_REF);
	b.max_length = o->nar_size + o->nar_size / 50 + 1024 * 1024;
	if (p->method == METHOD_NONE)
		b.max_length = b.file_size = o->nar_size;
	if (b.max_length > o->max_bytes)
		b.max_length = o->max_bytes;
	b.nplaces = find_places(o, p, places);
	b.places = places;
	if ((o->blocks = blocks_new(o->fetch, &b, &e)) != NULL) {
		o->current = (size_t)(p - o->places);
		o->phase = ASSEMBLING;
		if (!o->healing)
			begin_healing(o, p, places, b.nplaces);
		prefix_begin(&o->content, p->cap.block_size);
	} else if (e.text[0] != '\0') {
		logline("%s", e.text);
	}
	free(places);
}

/* There is no other way, as far as we know. */
static void
insist(struct order *o)
{
	blocks_insist(o->blocks, o->others ? o->fetch->settings.stall_ms : o->insist_vain ? INSIST_VAIN_MS :
	    LIMIT_INSIST_MS);
}

/* The blocks of the best place that has any. */
static void
assemble_best(struct order *o)
{
	assemble_from(o, first_with_cap(o));
	if (o->rounds > 0 && o->blocks != NULL)
		insist(o);
}

/* Ask for the root of the next manifest that could tell a capability.  0, or -1: there is none, or no time. */
static int
next_root(struct order *o)
{
	const struct fetch *f = o->fetch;
	struct err e;

	rootget_free(o->root);
	o->root = NULL;
	for (size_t i = 0; i < o->nrank && f->now < o->root_until; i++) {
		struct place *p = &o->places[o->rank[i].candidate];

		if (p->has_cap || !p->has_manifest || p->rooted)
			continue;
		for (size_t j = 0; j < o->nplaces; j++)
			if (o->places[j].has_manifest && memcmp(o->places[j].manifest, p->manifest, ERIS_REF) == 0)
				o->places[j].rooted = 1;
		o->root_of = o->rank[i].candidate;
		o->root = rootget_new(o->fetch, 1, p->manifest, 0, (uint32_t)(o->root_until - f->now), &e);
		if (o->root != NULL) {
			o->phase = ROOTING;
			return 0;
		}
	}
	return -1;
}

/* Narinfos may name the manifest alone: the capability is in its root. */
static int
begin_roots(struct order *o)
{
	uint32_t wait = o->roots_vain < ROOT_VAIN ? ROOT_WAIT_MS : ROOT_VAIN_MS;

	/* No file is there, and this is the only way. */
	if (o->rounds > 0 && o->fetch->blocks->block_ms > wait)
		wait = o->fetch->blocks->block_ms;
	for (size_t i = 0; i < o->nplaces; i++)
		o->places[i].rooted = 0;
	o->root_since = o->fetch->now;
	o->root_until = o->root_since + wait;
	return blocks_possible(o->fetch) ? next_root(o) : -1;
}

static void
begin_index(struct order *o)
{
	struct err e;

	if (o->nrank > 0 && !o->indexed && blocks_possible(o->fetch) &&
	    (o->index = index_new(o->fetch, o->hash_part, INDEX_WAIT_MS, &e)) != NULL) {
		o->indexed = 1;
		o->phase = INDEXING;
	}
}

/* The hash in the narinfo says that this is the manifest; its capability is as good as one in the narinfo.  0 or -1. */
static int
read_root(struct order *o, const uint8_t *data, size_t len)
{
	const struct place *from = &o->places[o->root_of];
	struct manifest_node n;
	struct eris_cap cap;
	struct err e;

	if (manifest_parse(&n, data, len, &e) != 0 || (!n.root && err_set(&e, "no root") != 0) ||
	    urn_from_bytes(&cap, n.cap, &e) != 0) {
		logline("a manifest is passed over: %s", e.text);
		return -1;
	}
	for (size_t i = 0; i < o->nplaces; i++) {
		struct place *p = &o->places[i];

		if (p->has_cap || !p->has_manifest || p->method != from->method ||
		    memcmp(p->manifest, from->manifest, ERIS_REF) != 0)
			continue;
		p->has_cap = 1;
		p->cap = cap;
	}
	return 0;
}

static void
take_root(struct order *o)
{
	const uint8_t *data;
	size_t len;
	enum rootget_state state = rootget_pump(o->root, &data, &len);

	if (state == ROOTGET_RUNS)
		return;
	if (state == ROOTGET_FOUND)
		(void)read_root(o, data, len);
	o->phase = PICKING;
	if (first_with_cap(o) == NULL && next_root(o) == 0)
		return;
	rootget_free(o->root);
	o->root = NULL;
	if (first_with_cap(o) != NULL) {
		o->roots_vain = 0;
		assemble_best(o);
	} else {
		if (o->roots_vain < ROOT_VAIN && o->fetch->now >= o->root_since + ROOT_VAIN_MS)
			o->roots_vain++;
		begin_index(o);
	}
}

/* Begin with blocks, if there is any use in it. */
static void
try_blocks(struct order *o)
{
	const struct place *p = first_with_cap(o);

	if (p == NULL && begin_roots(o) != 0)
		begin_index(o);
	else if (p != NULL)
		assemble_from(o, p);
}

static void
take_index(struct order *o)
{
	const struct index_answer *a = NULL;
	enum index_state state = index_pump(o->index, &a);

	if (state == INDEX_WAITS)
		return;
	for (size_t i = 0; state == INDEX_FOUND && i < o->nplaces; i++) {
		struct place *p = &o->places[i];
		const struct index_group *g = p->has_cap ? NULL : indextext_match(a, p->method, p->file_size);

		if (g == NULL || !g->has_cap)
			continue;
		p->has_cap = 1;
		p->cap = g->cap;
		p->has_manifest = g->has_manifest;
		memcpy(p->manifest, g->manifest, ERIS_REF);
	}
	index_free(o->index);
	o->index = NULL;
	o->phase = PICKING;
	if (first_with_cap(o) != NULL)
		assemble_best(o);
}

/* Blocks alone do not do it: the whole file. */
static void
turn_to_file(struct order *o, int lasting)
{
	wire_copy(o->reason, sizeof o->reason, wire_str(blocks_why(o->blocks)));
	logline("blocks: %s; trying the whole file", o->reason);
	o->missing = !lasting && blocks_missed(o->blocks);
	if (blocks_gave_up(o->blocks)) {
		o->insisted = 1;
		o->insist_vain = o->got == o->round_mark;
	}
	if (lasting && !o->begun)
		o->rounds = MAX_ROUNDS;
	if (!o->begun || lasting)
		leave_blocks(o);
	o->verifying = o->begun;
	o->phase = PICKING;
}

/* There is no whole file: ask the sources of blocks once more, as long as that brings something.  0, or -1. */
static int
turn_to_blocks(struct order *o)
{
	if (o->got - o->round_mark >= REAL_PROGRESS)
		o->rounds = 0;
	o->round_mark = o->got;
	if (o->another || o->insisted || o->rounds++ >= (o->others ? 1u : MAX_ROUNDS))
		return -1;
	if (o->begun && o->blocks == NULL)
		return -1;
	o->verifying = 0;
	blocks_wake(o->fetch);
	if (o->blocks == NULL)
		try_blocks(o);
	if (o->blocks == NULL && o->phase != ROOTING && o->phase != INDEXING)
		return -1;
	logline("%s; asking for blocks once more", o->reason);
	if (o->blocks == NULL)
		return 0;
	insist(o);
	o->phase = ASSEMBLING;
	return 0;
}

/* Move content on to the reader.  1 if there was some. */
static int
drain(struct order *o)
{
	const uint8_t *data;
	int some = 0;
	size_t len;

	while (!(o->held = make_room(o, ERIS_LARGE) != 0) && blocks_read(o->blocks, &data, &len)) {
		if (!o->begun)
			announce(o, o->places[o->current].file_size);
		prefix_leaf(&o->content, blocks_ref(o->blocks));
		append(o, data, len);
		some = 1;
		if (o->end - o->start >= BUFFER / 4 && !o->blocked && flush(o) != 0)
			return 0;
	}
	return some;
}

static void
assemble(struct order *o)
{
	enum blocks_state state;
	int moved;

	do {
		state = blocks_pump(o->blocks);
		moved = drain(o);
	} while (moved && state == BLOCKS_RUNS && !o->gone);
	state = blocks_is(o->blocks); /* reading may have come to the end, or to a last block that is broken */
	if (o->gone || state == BLOCKS_RUNS)
		return;
	if (state != BLOCKS_DONE) {
		turn_to_file(o, state == BLOCKS_BROKEN);
	} else if (o->places[o->current].method == METHOD_NONE && o->got != o->nar_size) {
		end_order(o, o->begun ? NAR_FAILED : NAR_EXHAUSTED, "the blocks make another size than that of the nar");
	} else {
		if (o->rounds > 0)
			o->insist_vain = 0;
		leave_blocks(o);
		o->phase = FLUSHING;
	}
}

int
nar_order(struct fetch *f, const struct wire_msg *m, int fd, struct err *e)
{
	struct order *o = f->order;

	if (o->phase != COLLECTING || m->id != o->id) {
		close(fd);
		return err_set(e, "ORDER out of order");
	}
	if (o->transfer.easy == NULL && transfer_init(&o->transfer, f, TRANSFER_NAR, &calls, o, e) != 0) {
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
	try_blocks(o);
	return 0;
}

void
nar_cancel(struct fetch *f, uint32_t id)
{
	if (f->order->phase > COLLECTING && f->order->id == id)
		end_order(f->order, NAR_CANCELLED, "");
}

/* --- The clock --------------------------------------------------------------------------------------- */

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

		if (o->begun && !same_content(p, &o->places[o->begun_as]))
			continue;
		if (!p->finished && (next == NULL || (next->not_before > o->fetch->now &&
		    p->not_before < next->not_before)))
			next = p;
	}
	if (next == NULL && turn_to_blocks(o) == 0)
		return;
	if (next == NULL) {
		end_order(o, o->begun ? NAR_FAILED : NAR_EXHAUSTED, o->reason);
		return;
	}
	o->current = (size_t)(next - o->places);
	if (next->not_before > o->fetch->now)
		return;
	if (o->failures > 0)
		logline(o->begun && !o->verifying ? "%s; going on from there" : "%s; trying on", o->reason);
	o->failures = 0;
	if (place_url(o, next, &o->transfer.url, &e) != 0) {
		failed(o, e.text, 0, 0);
		return;
	}
	o->transfer.redirects = 0;
	o->phase = STARTING;
}

static int
add_header(struct curl_slist **list, const char *name, const char *value)
{
	char line[ANSWER_ETAG + 64];
	struct curl_slist *longer;

	(void)snprintf(line, sizeof line, "%s: %s", name, value);
	if ((longer = curl_slist_append(*list, line)) == NULL)
		return -1;
	*list = longer;
	return 0;
}

static int
add_headers(const struct order *o, struct curl_slist **list)
{
	const struct place *p = &o->places[o->current];
	/* A weak tag does not say that the bytes are the same. */
	const char *validator = o->etag[0] == '"' ? o->etag : o->modified;
	char range[64];

	/* guix publish sends it without a length, and leaves the connection open unless it is told not to. */
	if (p->method == METHOD_NONE && p->file_size == 0 && add_header(list, "Connection", "close") != 0)
		return -1;
	if (!o->begun || o->verifying)
		return 0;
	(void)snprintf(range, sizeof range, "bytes=%llu-", (unsigned long long)o->got);
	if (add_header(list, "Range", range) != 0)
		return -1;
	return validator[0] != '\0' ? add_header(list, "If-Range", validator) : 0;
}

static void
launch(struct order *o)
{
	struct curl_slist *headers = NULL;
	struct err e;

	if (add_headers(o, &headers) != 0) {
		curl_slist_free_all(headers);
		failed(o, "no memory for a request", 1, 0);
		return;
	}
	o->judged = o->taken = o->complete = o->too_much = o->paused = o->counting = 0;
	o->window_bytes = 0;
	o->window_ms = o->fetch->now + o->fetch->settings.connect_ms;
	o->reason[0] = '\0';
	switch (transfer_start(&o->transfer, headers, &e)) {
	case HOST_WAITING:
		curl_slist_free_all(headers);
		break;
	case HOST_READY:
		o->phase = RUNNING;
		break;
	default:
		failed(o, e.text, 0, 0);
	}
}

/* No useful bytes in stall_ms, or too few of them: whoever is that slow is replaced. */
static int
stalled(struct order *o)
{
	const struct settings *s = &o->fetch->settings;
	uint64_t now = o->fetch->now;

	if (!o->counting && !o->transfer.quiet) {
		o->counting = 1;
		o->window_ms = now;
	}
	if (now < o->window_ms + s->stall_ms)
		return 0;
	if (o->window_bytes == 0 || o->window_bytes < (uint64_t)s->min_rate * s->stall_ms / 1000)
		return 1;
	o->window_ms = now;
	o->window_bytes = 0;
	return 0;
}

static void
run(struct order *o)
{
	const struct answer *a = &o->transfer.answer;
	struct err e;

	if (o->complete && ((a->length < 0 && !a->chunked) ||
	    o->fetch->now >= o->window_ms + o->fetch->settings.stall_ms)) {
		/* The connection will never say that this was all, or not in time. */
		transfer_stop(&o->transfer);
		o->phase = FLUSHING;
	} else if (o->paused) {
		/* The reader is slow, not the server. */
		o->window_ms = o->fetch->now;
		o->window_bytes = 0;
		if (o->end - o->start > BUFFER / 2)
			return;
		o->paused = 0;
		curl_easy_pause(o->transfer.easy, CURLPAUSE_CONT);
	} else if (stalled(o)) {
		o->stalled = 1;
		(void)err_set(&e, "%s: %llu bytes in %u ms", o->transfer.url.host,
		    (unsigned long long)o->window_bytes, o->fetch->settings.stall_ms);
		failed(o, e.text, 1, 0);
	}
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

/* As far as blocks are concerned. */
static void
pump_blocks(struct order *o)
{
	if (!o->gone && o->phase == ROOTING)
		take_root(o);
	if (!o->gone && o->phase == INDEXING)
		take_index(o);
	while (!o->gone && o->phase == ASSEMBLING) {
		assemble(o);
		(void)flush(o); /* nothing else would wake us up for the last bytes */
		if (!o->held || o->start < o->end)
			break;
	}
}

void
nar_pump(struct fetch *f)
{
	struct order *o = f->order;

	if (o->phase <= COLLECTING)
		return;
	if (o->drop_blocks) {
		leave_blocks(o);
		(void)snprintf(o->summary + strlen(o->summary), sizeof o->summary - strlen(o->summary),
		    ", the rest as a file");
	}
	(void)flush(o);
	pump_blocks(o);
	if (!o->gone && o->phase == PICKING) {
		pick(o);
		pump_blocks(o); /* at once: nothing else would wake us up */
	}
	if (o->gone && o->phase > COLLECTING) {
		end_order(o, NAR_FAILED, "the reader has gone");
		return;
	}
	if (o->phase == STARTING)
		launch(o);
	if (o->phase == RUNNING)
		run(o);
	if (o->phase == FLUSHING && o->start == o->end)
		end_order(o, NAR_DONE, "");
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
