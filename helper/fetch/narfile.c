/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch), nar: a whole file over HTTP: one attempt at a place, from its request to its last byte. */
#include <stdio.h>
#include <string.h>

#include "helper/common/logline.h"
#include "helper/fetch/blockconf.h"
#include "helper/fetch/heal.h"
#include "helper/fetch/nar_own.h"
#include "helper/fetch/prefix.h"
#include "helper/fetch/recode.h"
#include "helper/fetch/transfer.h"

/* --- Answers ---------------------------------------------------------------------------------------- */

/* A file that blocks were missing of goes back into IPFS, unless that would spread what is private. */
static void
begin_recode(struct order *o)
{
	const struct place *p = &o->places[o->current];
	struct err e;

	recode_free(o->recode);
	o->recode = NULL;
	if (!o->healing || !o->missing || !nar_same_content(p, &o->places[o->healed]))
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
		nar_announce(o, a->length > 0 ? (uint64_t)a->length : 0);
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
	if (nar_make_room(o, take) != 0) {
		o->paused = 1;
		return CURL_WRITEFUNC_PAUSE;
	}
	if (o->verifying && verify(o, data, skip) != 0)
		return 0;
	if (o->recode != NULL)
		recode_add(o->recode, data, skip + take);
	nar_append(o, data + skip, take);
	o->window_bytes += take;
	if (!o->verifying && o->places[o->current].method == METHOD_NONE && o->got == o->nar_size)
		o->complete = 1;
	/* Early enough that the reader works while the next pieces come. */
	if (o->end - o->start >= BUFFER / 4 && !o->blocked && nar_flush(o) != 0)
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
			nar_failed(o, e.text, 0, 0);
		else
			o->phase = STARTING;
		return;
	}
	transfer_reason(t, t->answer.status != 200 && t->answer.status != 206 ? CURLE_OK : result, reason,
	    sizeof reason);
	if ((t->answer.status == 429 || t->answer.status == 503) && t->answer.retry_after > 0)
		wait = (uint64_t)(t->answer.retry_after < LIMIT_RETRY_AFTER ? t->answer.retry_after :
		    LIMIT_RETRY_AFTER) * 1000;
	nar_failed(o, o->reason[0] != '\0' ? o->reason : reason, is_transient(t->answer.status), wait);
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
		nar_end_order(o, NAR_FAILED, "the reader has gone");
		return;
	}
	if (o->another) {
		(void)err_set(&e, "%s: the file is not what its blocks are", t->url.host);
		nar_failed(o, e.text, 0, 0);
		return;
	}
	if (!o->judged && t->answer.status != 0 && result == CURLE_OK)
		judge(o);
	transfer_reason(t, result, reason, sizeof reason);
	if (o->too_much) {
		(void)err_set(&e, "%s: more than %llu bytes", t->url.host, (unsigned long long)o->max_bytes);
		nar_failed(o, e.text, 0, 0);
	} else if (o->complete) {
		o->phase = FLUSHING;
	} else if (transfer_is_dead(t, result)) {
		hosts_stale(&o->fetch->hosts, t->url.host);
		if (!o->begun)
			hosts_die(&o->fetch->hosts, &t->url);
		nar_failed(o, reason, o->begun && !o->verifying, 0);
	} else if (!o->taken && t->answer.status != 0 && (o->judged || t->answer.status != 200)) {
		refused(o, result);
	} else if (result != CURLE_OK) {
		nar_failed(o, reason, 1, 0);
	} else if (o->verifying || o->places[o->current].method == METHOD_NONE ||
	    (o->total >= 0 && o->got != (uint64_t)o->total)) {
		(void)err_set(&e, "%s: ended early, after %llu bytes", t->url.host,
		    (unsigned long long)(o->verifying ? o->seen : o->got));
		nar_failed(o, e.text, 1, 0);
	} else {
		o->phase = FLUSHING;
	}
}

const struct transfer_owner narfile_calls = { on_body, on_done };

/* --- Requests --------------------------------------------------------------------------------------- */

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

void
narfile_launch(struct order *o)
{
	struct curl_slist *headers = NULL;
	struct err e;

	if (add_headers(o, &headers) != 0) {
		curl_slist_free_all(headers);
		nar_failed(o, "no memory for a request", 1, 0);
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
		nar_failed(o, e.text, 0, 0);
	}
}

/* --- The clock -------------------------------------------------------------------------------------- */

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

void
narfile_run(struct order *o)
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
		nar_failed(o, e.text, 1, 0);
	}
}
