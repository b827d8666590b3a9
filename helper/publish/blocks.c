/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): requests for blocks.
 *
 * Requests that arrive at the same time wait in a batch until all of them have been read: the processor
 * hashes four leaves in little more time than one. */
#include <stdlib.h>
#include <string.h>

#include "helper/eris/block.h"
#include "helper/eris/request.h"
#include "helper/eris/urn.h"
#include "helper/eris/part.h"
#include "helper/publish/worker.h"

/* A block never changes. */
#define FOREVER "public, max-age=31536000, immutable"

static enum MHD_Result
keep_query(void *ctx, enum MHD_ValueKind kind, const char *key, const char *value)
{
	const char **query = ctx;

	(void)kind;
	*query = *query == NULL && value == NULL && key != NULL ? key : "";
	return MHD_YES;
}

static void
format_tag(char tag[URN_REF_LEN + 3], const uint8_t ref[ERIS_REF])
{
	tag[0] = '"';
	urn_ref_format(tag + 1, ref);
	strcat(tag, "\"");
}

static struct MHD_Response *
text_response(const char *text)
{
	union {
		const char *in;
		void *out;
	} body = { .in = text };
	struct MHD_Response *r = MHD_create_response_from_buffer(strlen(text), body.out,
	    MHD_RESPMEM_PERSISTENT);

	if (r != NULL)
		MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain; charset=utf-8");
	return r;
}

/* The answer to a request for a block that is not there. */
static struct MHD_Response *
missing(struct worker *w, const struct place_job *job, unsigned *status)
{
	shared_add(w->counts, job->gone ? COUNT_BLOCK_GONE : COUNT_BLOCK_MISSING, 1);
	*status = job->gone ? MHD_HTTP_GONE : MHD_HTTP_NOT_FOUND;
	return text_response(job->gone ?
	    "The nar of this block has changed or gone; it is being looked at again.\n" :
	    "There is no such block.\n");
}

static struct MHD_Response *
present(struct worker *w, struct MHD_Connection *c, const struct place_job *job, uint8_t *data,
    unsigned *status)
{
	char tag[URN_REF_LEN + 3];
	uint64_t offset = 0, length = 0;
	struct MHD_Response *r;

	format_tag(tag, job->ref);
	*status = part_choose(c, ERIS_LARGE, tag, &offset, &length);
	if (*status == MHD_HTTP_RANGE_NOT_SATISFIABLE) {
		r = text_response("");
		if (r != NULL)
			MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_RANGE, "bytes */32768");
		return r;
	}
	r = MHD_create_response_from_buffer((size_t)length, data + offset, MHD_RESPMEM_MUST_COPY);
	if (r != NULL)
		part_describe(r, *status, "application/octet-stream", tag, FOREVER, offset, length,
		    ERIS_LARGE);
	reply_size(c, length);
	shared_add(w->counts, COUNT_BLOCK, 1);
	shared_add(w->counts, COUNT_BLOCK_BYTES, length);
	return r;
}

/* The root of a manifest: a block of another kind and size. */
static enum MHD_Result
send_manifest(struct worker *w, struct MHD_Connection *c, const struct place_job *job)
{
	char tag[URN_REF_LEN + 3];
	uint64_t offset = 0, length = 0;
	struct MHD_Response *r;
	unsigned status;

	format_tag(tag, job->ref);
	status = part_choose(c, job->len, tag, &offset, &length);
	if (status == MHD_HTTP_RANGE_NOT_SATISFIABLE) {
		free(job->manifest);
		return reply_unsatisfiable(c, job->len);
	}
	r = MHD_create_response_from_buffer((size_t)length, job->manifest + offset, MHD_RESPMEM_MUST_COPY);
	free(job->manifest);
	if (r != NULL)
		part_describe(r, status, job->file ? "application/vnd.ipld.dag-pb" : "application/vnd.ipld.dag-cbor", tag,
		    FOREVER, offset, length, job->len);
	reply_size(c, length);
	shared_add(w->counts, COUNT_BLOCK, 1);
	shared_add(w->counts, COUNT_BLOCK_BYTES, length);
	return reply_send(c, status, r);
}

static int
parse(struct MHD_Connection *c, uint8_t ref[ERIS_REF], const char **why)
{
	const char *query = NULL;

	MHD_get_connection_values(c, MHD_GET_ARGUMENT_KIND, keep_query, &query);
	*why = "The query must be urn:blake2b:REFERENCE.\n";
	if (query != NULL && strncmp(query, "urn:eris:", 9) == 0)
		*why =
		    "This server gives blocks by urn:blake2b:REFERENCE, not whole contents by urn:eris: whoever decodes "
		    "for you must be trusted, and would see the key.  Decode on your side (narlock-eris decode).\n";
	return query == NULL ? -1 : request_block(query, ref);
}

enum MHD_Result
blocks_ask(struct worker *w, struct MHD_Connection *c, struct request *r)
{
	char tag[URN_REF_LEN + 3];
	struct slot *s = &w->slot[w->slots];
	uint8_t *data = w->data + (size_t)w->slots * ERIS_LARGE, ref[ERIS_REF];
	const char *why;
	struct MHD_Response *answer;
	struct err e;
	unsigned status;

	if (parse(c, ref, &why) != 0) {
		shared_add(w->counts, COUNT_REFUSED, 1);
		return reply_say(c, MHD_HTTP_BAD_REQUEST, why);
	}
	if (place_begin(w->place, &s->job, ref, &e) != 0) {
		place_broken(w->place);
		return reply_say(c, MHD_HTTP_SERVICE_UNAVAILABLE, "The index cannot be read.\n");
	}
	format_tag(tag, ref);
	if (s->job.n > 0 && reply_has_it(c, tag, NULL))
		return reply_not_modified(w, c, tag, FOREVER);
	switch (place_load(w->place, &s->job, data, w->now)) {
	case PLACE_NONE:
		answer = missing(w, &s->job, &status);
		return reply_send(c, status, answer);
	case PLACE_NODE:
		answer = present(w, c, &s->job, data, &status);
		return reply_send(c, status, answer);
	case PLACE_MANIFEST:
		return send_manifest(w, c, &s->job);
	case PLACE_LEAF:
		break;
	}
	s->connection = c;
	s->request = r;
	r->slot = (int)w->slots++;
	MHD_suspend_connection(c);
	/* A full batch is encoded at once: the next request needs a place. */
	if (w->slots == WORKER_BATCH)
		blocks_encode(w);
	return MHD_YES;
}

/* One slot whose leaf is sealed: its answer. */
static void
finish(struct worker *w, unsigned i, const struct eris_pair *pair)
{
	struct slot *s = &w->slot[i];
	uint8_t *data = w->data + (size_t)i * ERIS_LARGE;
	struct request *r = s->request;
	struct MHD_Connection *c = s->connection;
	struct eris_pair other = *pair;
	int good;

	s->connection = NULL;
	if (r == NULL)
		return; /* it has ended */
	good = place_check(w->place, &s->job, pair->ref);

	/* Seldom: another place, alone. */
	while (!good) {
		enum place_step step = place_load(w->place, &s->job, data, w->now);

		if (step == PLACE_NONE)
			break;
		/* It would begin like a leaf and be another thing: one of 2^48. */
		if (step == PLACE_MANIFEST)
			free(s->job.manifest);
		if (step == PLACE_LEAF)
			block_seal_leaves(data, 1, ERIS_LARGE, block_null_secret, &other);
		good = step == PLACE_NODE || (step == PLACE_LEAF && place_check(w->place, &s->job, other.ref));
	}
	r->response = good ? present(w, c, &s->job, data, &r->status) : missing(w, &s->job, &r->status);
	r->slot = -1;
	w->resumed = 1;
	MHD_resume_connection(c);
}

void
blocks_encode(struct worker *w)
{
	struct eris_pair pairs[WORKER_BATCH];

	if (w->slots == 0)
		return;
	block_seal_leaves(w->data, w->slots, ERIS_LARGE, block_null_secret, pairs);
	for (unsigned i = 0; i < w->slots; i++)
		finish(w, i, &pairs[i]);
	w->slots = 0;
}
