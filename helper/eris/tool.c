/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): the commands of narlock-eris. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "helper/eris/access.h"
#include "helper/eris/block.h"
#include "helper/eris/decode.h"
#include "helper/eris/encode.h"
#include "helper/eris/store.h"
#include "helper/eris/tool.h"
#include "helper/eris/urn.h"

/* Blocks that are read and checked in one go. */
#define BATCH 64

/* --- Encode ------------------------------------------------------------------------------------------- */

struct sink {
	int store; /* or -1 */
	int list;
	uint32_t block_size;
};

static int
take_block(void *ctx, const struct encode_block *b, struct err *e)
{
	const struct sink *s = ctx;
	char ref[URN_REF_LEN + 1];

	if (s->store >= 0 && store_put(s->store, b->pair->ref, b->data, s->block_size, e) != 0)
		return -1;
	if (!s->list)
		return 0;
	urn_ref_format(ref, b->pair->ref);
	if (printf("%s %u %llu\n", ref, b->level, (unsigned long long)b->offset) < 0)
		return err_sys(e, errno, "standard output");
	return 0;
}

static int
read_all(struct encode *c, int fd, const char *name, struct err *e)
{
	for (;;) {
		size_t room;
		uint8_t *to = encode_room(c, &room);
		ssize_t n = read(fd, to, room);

		if (n == 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return err_sys(e, errno, "%s", name);
		if (n > 0 && encode_add(c, (size_t)n, e) != 0)
			return -1;
	}
}

static int
encode_file(const struct tool_options *o, struct sink *sink, struct eris_cap *cap, struct err *e)
{
	struct encode_options eo = { o->block_size, o->secret, take_block, sink, NULL };
	struct encode *c = NULL;
	int fd = STDIN_FILENO, rc = -1;

	if (strcmp(o->argument, "-") != 0 && (fd = open(o->argument, O_RDONLY | O_CLOEXEC)) < 0)
		return err_sys(e, errno, "%s", o->argument);
	eo.pool = pool_new(o->threads, e);
	if (eo.pool != NULL)
		c = encode_new(&eo, e);
	if (c != NULL && read_all(c, fd, o->argument, e) == 0 && encode_end(c, cap, e) == 0)
		rc = 0;
	encode_free(c);
	pool_free(eo.pool);
	if (fd != STDIN_FILENO)
		close(fd);
	return rc;
}

int
tool_encode(const struct tool_options *o, struct err *e)
{
	struct sink sink = { .store = -1, .block_size = o->block_size };
	char urn[URN_LEN + 1];
	struct eris_cap cap;
	int rc;

	if (o->store != NULL && (sink.store = store_open(o->store, 1, e)) < 0)
		return -1;
	rc = encode_file(o, &sink, &cap, e);
	if (sink.store >= 0)
		close(sink.store);
	if (rc != 0)
		return -1;
	urn_format(urn, &cap);
	return puts(urn) < 0 ? err_sys(e, errno, "standard output") : 0;
}

int
tool_blocks(const struct tool_options *o, struct err *e)
{
	struct sink sink = { .store = -1, .list = 1, .block_size = o->block_size };
	struct eris_cap cap;

	return encode_file(o, &sink, &cap, e);
}

/* --- Decode ------------------------------------------------------------------------------------------- */

struct shelf {
	int store;
	uint32_t block_size;
	uint8_t *buf; /* BATCH blocks, each with room for one byte more */
	struct decode_want want[BATCH];
	struct decode_given given[BATCH];
	struct err err[BATCH];
	int failed[BATCH];
	size_t n;
};

/* Job: one block from its file. */
static void
fetch_block(void *ctx, size_t i)
{
	struct shelf *s = ctx;
	size_t size = (size_t)s->block_size + 1;
	struct decode_given *g = &s->given[i];

	g->ref = s->want[i].ref;
	g->block = s->buf + i * size;
	s->failed[i] = store_get(s->store, g->ref, s->buf + i * size, size, &g->len, &s->err[i]);
}

static int
write_all(const uint8_t *data, size_t len, struct err *e)
{
	while (len > 0) {
		ssize_t n = write(STDOUT_FILENO, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, errno, "standard output");
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

static int
complain(const struct decode_want *w, const char *why, struct err *e)
{
	char ref[URN_REF_LEN + 1];

	urn_ref_format(ref, w->ref);
	return err_set(e, "block %s (level %u, content from byte %llu): %s", ref, w->level,
	    (unsigned long long)w->offset, why);
}

/* Everything that is wanted now, from the store into the decoder. */
static int
serve_wants(struct decode *d, struct shelf *s, struct pool *pool, struct err *e)
{
	int rc = 1;

	s->n = 0;
	while (s->n < BATCH && (rc = decode_want(d, &s->want[s->n], e)) == 1)
		s->n++;
	if (rc < 0)
		return -1;
	pool_run(pool, fetch_block, s, s->n);
	for (size_t i = 0; i < s->n; i++)
		if (s->failed[i] != 0)
			return complain(&s->want[i], s->err[i].code == ENOENT ?
			    "it is missing from the store" : strerror(s->err[i].code), e);
	if (decode_give(d, s->given, s->n, e) != 0)
		return -1;
	for (size_t i = 0; i < s->n; i++)
		if (s->given[i].verdict == DECODE_WRONG)
			return complain(&s->want[i], s->given[i].why, e);
	return 0;
}

static int
decode_stream(const struct tool_options *o, const struct eris_cap *cap, struct shelf *s, struct err *e)
{
	struct decode_options d_o = { .cap = *cap, .max_length = INT64_MAX, .window = BATCH };
	struct decode *d = NULL;
	const uint8_t *data;
	size_t len;
	int rc = -1;

	d_o.ahead = d_o.window / eris_arity(cap->block_size) + 1;
	s->buf = malloc(BATCH * ((size_t)cap->block_size + 1));
	if (s->buf == NULL)
		return err_set(e, "out of memory");
	d_o.pool = pool_new(o->threads, e);
	if (d_o.pool != NULL)
		d = decode_new(&d_o, e);
	if (d != NULL)
		rc = 0;
	while (rc == 0 && !decode_done(d)) {
		rc = serve_wants(d, s, d_o.pool, e);
		while (rc == 0 && (rc = decode_read(d, &data, &len, e)) == 1)
			rc = write_all(data, len, e);
	}
	decode_free(d);
	pool_free(d_o.pool);
	free(s->buf);
	return rc;
}

static int
fetch_any(void *ctx, const uint8_t ref[ERIS_REF], uint8_t *buf, size_t size, size_t *len, struct err *e)
{
	const struct shelf *s = ctx;

	return store_get(s->store, ref, buf, size, len, e);
}

static int
decode_part(const struct tool_options *o, const struct eris_cap *cap, struct shelf *s, struct err *e)
{
	struct access *a = access_new(cap, fetch_any, s, e);
	uint64_t at = o->offset, left = o->length;
	const uint8_t *data;
	size_t len = 1;
	int rc = a == NULL ? -1 : 0;

	while (rc == 0 && left > 0 && len > 0) {
		rc = access_read(a, at, &data, &len, e);
		if (rc != 0 || len == 0)
			break;
		len = len < left ? len : (size_t)left;
		rc = write_all(data, len, e);
		at += len;
		left -= len;
	}
	access_free(a);
	return rc;
}

int
tool_decode(const struct tool_options *o, struct err *e)
{
	struct shelf *s;
	struct eris_cap cap;
	int rc = -1;

	if (urn_parse(&cap, o->argument, e) != 0)
		return -1;
	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return err_set(e, "out of memory");
	s->block_size = cap.block_size;
	s->store = store_open(o->store, 0, e);
	if (s->store >= 0) {
		rc = o->offset == 0 && o->length == UINT64_MAX ? decode_stream(o, &cap, s, e) :
		    decode_part(o, &cap, s, e);
		close(s->store);
	}
	free(s);
	return rc;
}

/* --- Names -------------------------------------------------------------------------------------------- */

int
tool_cid(const struct tool_options *o, struct err *e)
{
	char cid[URN_CID_LEN + 1];
	struct eris_cap cap;
	int rc;

	if (strncmp(o->argument, "urn:", 4) == 0)
		rc = urn_parse(&cap, o->argument, e);
	else
		rc = urn_ref_parse(cap.root.ref, o->argument, e);
	if (rc != 0)
		return -1;
	urn_cid_format(cid, cap.root.ref);
	return puts(cid) < 0 ? err_sys(e, errno, "standard output") : 0;
}
