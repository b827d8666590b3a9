/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): the commands of narlock-eris. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "helper/eris/access.h"
#include "helper/eris/block.h"
#include "helper/eris/bundle.h"
#include "helper/eris/decode.h"
#include "helper/eris/encode.h"
#include "helper/eris/store.h"
#include "helper/eris/tool.h"
#include "helper/eris/urn.h"
#include "helper/ipfs/car.h"
#include "helper/ipfs/manifest.h"

/* Blocks that are read and checked in one go. */
#define BATCH 64

/* --- Encode ------------------------------------------------------------------------------------------- */

struct sink {
	int store; /* or -1 */
	int list;
	uint32_t block_size;
	struct bundle *bundle; /* or NULL */
};

static int
take_block(void *ctx, const struct encode_block *b, struct err *e)
{
	const struct sink *s = ctx;
	char ref[URN_REF_LEN + 1];

	if (s->store >= 0 && store_put(s->store, b->pair->ref, b->data, s->block_size, e) != 0)
		return -1;
	if (s->bundle != NULL && bundle_take(s->bundle, b, e) != 0)
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
encode_fd(const struct tool_options *o, int fd, encode_sink take, void *ctx, struct eris_cap *cap,
    struct err *e)
{
	struct encode_options eo = { o->block_size, o->secret, take, ctx, NULL };
	struct encode *c = NULL;
	int rc = -1;

	eo.pool = pool_new(o->threads, e);
	if (eo.pool != NULL)
		c = encode_new(&eo, e);
	if (c != NULL && read_all(c, fd, o->argument, e) == 0 && encode_end(c, cap, e) == 0)
		rc = 0;
	encode_free(c);
	pool_free(eo.pool);
	return rc;
}

/* FILE, or standard input, which is not for the caller to close. */
static int
open_input(const struct tool_options *o, struct err *e)
{
	int fd = STDIN_FILENO;

	if (strcmp(o->argument, "-") != 0 && (fd = open(o->argument, O_RDONLY | O_CLOEXEC)) < 0)
		return err_sys(e, errno, "%s", o->argument);
	return fd;
}

static void
close_input(int fd)
{
	if (fd > STDIN_FILENO)
		close(fd);
}

static int
encode_file(const struct tool_options *o, struct sink *sink, struct eris_cap *cap, struct err *e)
{
	int fd = open_input(o, e), rc = -1;

	if (fd >= 0)
		rc = encode_fd(o, fd, take_block, sink, cap, e);
	close_input(fd);
	return rc;
}

/* The narinfo that a manifest takes along, *TEXT to be freed; none: NULL. */
static int
read_narinfo(const char *name, uint8_t **text, size_t *len, struct err *e)
{
	static const char begin[] = "StorePath: ";
	FILE *f;

	*text = NULL;
	*len = 0;
	if (name == NULL)
		return 0;
	*text = malloc(MANIFEST_NARINFO + 1);
	if (*text == NULL)
		return err_set(e, "out of memory");
	f = fopen(name, "re");
	if (f == NULL)
		return err_sys(e, errno, "%s", name);
	*len = fread(*text, 1, MANIFEST_NARINFO + 1, f);
	if (ferror(f))
		err_sys(e, errno, "%s", name);
	else if (*len > MANIFEST_NARINFO)
		err_set(e, "%s: longer than %d bytes", name, MANIFEST_NARINFO);
	else if (*len < sizeof(begin) || memcmp(*text, begin, sizeof(begin) - 1) != 0)
		err_set(e, "%s: this is no narinfo", name);
	else {
		fclose(f);
		return 0;
	}
	fclose(f);
	return -1;
}

/* The manifest over the blocks in B. */
static int
finish_bundle(const struct tool_options *o, struct bundle *b, const struct eris_cap *cap, struct err *e)
{
	uint8_t *narinfo;
	size_t len;
	int rc = read_narinfo(o->narinfo, &narinfo, &len, e);

	if (rc == 0)
		rc = bundle_end(b, cap, narinfo, len, e);
	free(narinfo);
	return rc;
}

static int
store_manifest(int store, const struct bundle *b, struct err *e)
{
	for (size_t i = 0; i < b->nnodes; i++)
		if (store_put(store, b->nodes[i].hash, b->nodes[i].data, b->nodes[i].len, e) != 0)
			return -1;
	return 0;
}

int
tool_encode(const struct tool_options *o, struct err *e)
{
	struct bundle bundle = { .block_size = o->block_size };
	struct sink sink = { .store = -1, .block_size = o->block_size, .bundle = o->manifest ? &bundle : NULL };
	char urn[URN_LEN + 1], cid[MANIFEST_CID_LEN + 1] = "";
	struct eris_cap cap;
	int rc;

	if (o->store != NULL && (sink.store = store_open(o->store, 1, e)) < 0)
		return -1;
	rc = encode_file(o, &sink, &cap, e);
	if (rc == 0 && o->manifest) {
		rc = finish_bundle(o, &bundle, &cap, e);
		if (rc == 0)
			rc = store_manifest(sink.store, &bundle, e);
		if (rc == 0)
			manifest_cid_format(cid, bundle_root(&bundle));
	}
	bundle_clear(&bundle);
	if (sink.store >= 0)
		close(sink.store);
	if (rc != 0)
		return -1;
	urn_format(urn, &cap);
	if (puts(urn) < 0 || (o->manifest && puts(cid) < 0))
		return err_sys(e, errno, "standard output");
	return 0;
}

int
tool_blocks(const struct tool_options *o, struct err *e)
{
	struct sink sink = { .store = -1, .list = 1, .block_size = o->block_size };
	struct eris_cap cap;

	return encode_file(o, &sink, &cap, e);
}

/* --- CAR ---------------------------------------------------------------------------------------------- */

struct car_out {
	FILE *to;
	const char *name;
	struct bundle bundle;
	size_t at; /* of its items: the next to be written */
};

static int
take_into_bundle(void *ctx, const struct encode_block *b, struct err *e)
{
	return bundle_take(ctx, b, e);
}

static int
put_section(struct car_out *c, enum car_kind kind, const uint8_t hash[ERIS_REF], const uint8_t *data,
    size_t len, struct err *e)
{
	uint8_t head[CAR_PUT_SECTION];
	size_t n = car_put_section(head, kind, hash, len);

	if (fwrite(head, 1, n, c->to) != n || fwrite(data, 1, len, c->to) != len)
		return err_sys(e, errno, "%s", c->name);
	return 0;
}

/* The header, and the manifest from its root down: whoever reads knows at once what will come. */
static int
put_manifest(struct car_out *c, struct err *e)
{
	uint8_t head[CAR_PUT_HEADER];
	size_t n = car_put_root(head, CAR_NODE, bundle_root(&c->bundle));

	if (fwrite(head, 1, n, c->to) != n)
		return err_sys(e, errno, "%s", c->name);
	for (size_t i = c->bundle.nnodes; i-- > 0;) {
		const struct bundle_node *node = &c->bundle.nodes[i];

		if (put_section(c, node->kind, node->hash, node->data, node->len, e) != 0)
			return -1;
	}
	return 0;
}

static int
put_item(struct car_out *c, const uint8_t *data, struct err *e)
{
	const struct bundle_item *i = &c->bundle.items[c->at++];

	return i->repeats ? 0 : put_section(c, CAR_RAW, i->entry.ref, data, c->bundle.block_size, e);
}

/* The second time through the file: its leaves, each behind the nodes that were kept from the first time. */
static int
write_leaf(void *ctx, const struct encode_block *b, struct err *e)
{
	struct car_out *c = ctx;

	if (b->level > 0)
		return 0;
	while (c->at < c->bundle.nitems && c->bundle.items[c->at].entry.level > 0)
		if (put_item(c, c->bundle.items[c->at].data, e) != 0)
			return -1;
	if (c->at == c->bundle.nitems || memcmp(c->bundle.items[c->at].entry.ref, b->pair->ref, ERIS_REF) != 0)
		return err_set(e, "the file has changed while it was read");
	return put_item(c, b->data, e);
}

/* Something that can be read twice: the input itself, or an unnamed copy of it. */
static int
rewindable(int fd, struct err *e)
{
	char buf[65536];
	struct stat st;
	FILE *copy;
	ssize_t n;
	int to;

	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && lseek(fd, 0, SEEK_CUR) == 0)
		return fd;
	copy = tmpfile();
	if (copy == NULL)
		return err_sys(e, errno, "no temporary file");
	to = fcntl(fileno(copy), F_DUPFD_CLOEXEC, 3);
	while ((n = read(fd, buf, sizeof(buf))) > 0 && fwrite(buf, 1, (size_t)n, copy) == (size_t)n)
		;
	if (n != 0 || fflush(copy) != 0 || to < 0 || lseek(to, 0, SEEK_SET) != 0) {
		err_sys(e, errno, "the copy of the input");
		if (to >= 0)
			close(to);
		to = -1;
	}
	fclose(copy);
	return to;
}

static int
write_car(const struct tool_options *o, int fd, struct car_out *c, struct eris_cap *cap, struct err *e)
{
	struct eris_cap again;

	if (encode_fd(o, fd, take_into_bundle, &c->bundle, cap, e) != 0 ||
	    finish_bundle(o, &c->bundle, cap, e) != 0)
		return -1;
	if (lseek(fd, 0, SEEK_SET) != 0)
		return err_sys(e, errno, "%s", o->argument);
	if (put_manifest(c, e) != 0 || encode_fd(o, fd, write_leaf, c, &again, e) != 0)
		return -1;
	if (c->at != c->bundle.nitems || memcmp(&again.root, &cap->root, sizeof(again.root)) != 0)
		return err_set(e, "the file has changed while it was read");
	return fflush(c->to) == 0 ? 0 : err_sys(e, errno, "%s", c->name);
}

int
tool_car(const struct tool_options *o, struct err *e)
{
	struct car_out c = { stdout, "standard output", { .block_size = o->block_size, .keep = 1 }, 0 };
	char urn[URN_LEN + 1], cid[MANIFEST_CID_LEN + 1];
	struct eris_cap cap = { 0 };
	int in, fd = -1, rc = -1;

	if (o->output == NULL && isatty(STDOUT_FILENO))
		return err_set(e, "a CAR is nothing for a terminal: --output FILE");
	in = open_input(o, e);
	if (in >= 0)
		fd = rewindable(in, e);
	if (fd >= 0 && o->output != NULL) {
		c.to = fopen(o->output, "we");
		c.name = o->output;
	}
	if (c.to == NULL)
		err_sys(e, errno, "%s", o->output);
	else if (fd >= 0)
		rc = write_car(o, fd, &c, &cap, e);
	if (c.to != NULL && c.to != stdout && fclose(c.to) != 0 && rc == 0)
		rc = err_sys(e, errno, "%s", o->output);
	if (rc == 0) {
		/* As a narinfo has them: scripts can add these lines to it. */
		urn_format(urn, &cap);
		manifest_cid_format(cid, bundle_root(&c.bundle));
		fprintf(o->output == NULL ? stderr : stdout, "ERIS: %s\nERIS-Manifest: %s\n", urn, cid);
	}
	if (fd != in && fd >= 0)
		close(fd);
	close_input(in);
	bundle_clear(&c.bundle);
	return rc;
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
	return store_write(STDOUT_FILENO, data, len) == 0 ? 0 : err_sys(e, errno, "standard output");
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
