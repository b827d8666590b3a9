/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (heal): one journal entry: its missing blocks are found and put back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helper/eris/block.h"
#include "helper/eris/encode.h"
#include "helper/eris/urn.h"
#include "helper/fetch/heal.h"
#include "helper/heal/mend.h"
#include "helper/ipfs/range.h"

/* Blocks of one nar: 128 GiB of content, and 192 MiB of memory. */
#define WANTS (4u * 1024 * 1024)
/* Questions about presence between two looks at the answers, and for how long the daemon may look: Kubo
 * needs no time for it, js-ipfs looks in the network all the same. */
#define CHUNK 128
#define HAS_MS 500
/* After a chunk of which most is missing, so many chunks are taken for missing without a question: putting
 * what is there already costs less than to ask for what is not. */
#define LEAP 16
/* Leaves of one Range request, 1 MiB, and holes that are read along. */
#define RUN 32
#define GAP 1
#define NO_LEAF UINT64_MAX
/* Blocks that wait to be put: a file is paused when there is a request full of them, and what its reader
 * still has in its buffers has to fit behind. */
#define WAITING (2 * PUT_BLOCKS)

struct want {
	uint8_t ref[ERIS_REF];
	uint64_t leaf;   /* its number, or NO_LEAF: a node, or not known */
	uint8_t there;   /* IPFS has it */
	uint8_t put;     /* and has it from us */
};

struct mend {
	struct net *net;
	struct fetch *fetch;
	size_t source;
	struct put_known *known;
	struct journal_entry *entry;
	struct mend_report *report;
	struct eris_cap cap;
	uint64_t max_bytes;  /* of the nar's file */
	struct want *wants;  /* sorted by reference once they are complete */
	size_t n, room;
	struct want **leaves; /* some of them, by their number */
	size_t nleaves;
	/* What waits to be put. */
	struct put_batch batch;
	unsigned waiting;
	uint8_t refs[WAITING][ERIS_REF];
	uint8_t *blocks[WAITING];
	uint8_t away;        /* the daemon takes nothing any more */
	/* Of the step at hand. */
	size_t *map;         /* which want is meant by question i */
	uint8_t (*questions)[ERIS_REF];
	uint8_t node[ERIS_LARGE];
	uint8_t node_got;
	uint32_t filled;
	uint8_t leaf[ERIS_LARGE];
	const struct range_run *run;
	struct range_source fit;
	uint64_t at, read;
	struct encode *encoder;
	uint8_t collect;     /* the encoder's blocks become wants; else they are put if wanted */
	struct err error;
};

static void
why(struct mend *m, const char *text)
{
	(void)snprintf(m->report->why, sizeof m->report->why, "%s", text);
}

/* --- Wants ------------------------------------------------------------------------------------------- */

static int
compare(const void *a, const void *b)
{
	return memcmp(((const struct want *)a)->ref, ((const struct want *)b)->ref, ERIS_REF);
}

static struct want *
find(const struct mend *m, const uint8_t *ref)
{
	struct want key;

	memcpy(key.ref, ref, ERIS_REF);
	return m->n > 0 ? bsearch(&key, m->wants, m->n, sizeof key, compare) : NULL;
}

static int
add(struct mend *m, const uint8_t *ref, uint64_t leaf)
{
	if (m->n == m->room) {
		size_t room = m->room > 0 ? m->room * 2 : 1024;
		struct want *more = room <= WANTS ? reallocarray(m->wants, room, sizeof *more) : NULL;

		if (more == NULL)
			return err_set(&m->error, "too many blocks");
		m->wants = more;
		m->room = room;
	}
	m->wants[m->n] = (struct want){ .leaf = leaf };
	memcpy(m->wants[m->n++].ref, ref, ERIS_REF);
	return 0;
}

/* In order, and each block once. */
static void
sort(struct mend *m)
{
	size_t kept = 0;

	if (m->n == 0)
		return;
	qsort(m->wants, m->n, sizeof *m->wants, compare);
	for (size_t i = 1; i < m->n; i++)
		if (compare(&m->wants[kept], &m->wants[i]) != 0)
			m->wants[++kept] = m->wants[i];
	m->n = kept + 1;
}

static size_t
left(const struct mend *m)
{
	size_t n = 0;

	for (size_t i = 0; i < m->n; i++)
		n += !m->wants[i].there;
	return n;
}

/* --- Putting ----------------------------------------------------------------------------------------- */

/* Keep those of the first COUNT waiting blocks that are not stored. */
static void
put_again(struct mend *m, unsigned count)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < m->waiting; i++) {
		struct want *w;

		if (i < count && m->batch.stored[i]) {
			if ((w = find(m, m->refs[i])) != NULL)
				w->there = w->put = 1;
			m->report->put++;
			continue;
		}
		if (kept != i) {
			uint8_t *swap = m->blocks[kept];

			memcpy(m->refs[kept], m->refs[i], ERIS_REF);
			m->blocks[kept] = m->blocks[i];
			m->blocks[i] = swap;
		}
		kept++;
	}
	m->waiting = kept;
}

/* Put what waits. */
static void
flush(struct mend *m)
{
	struct rpc_judgement j = { .why = "no memory" };
	char boundary[RPC_BOUNDARY + 1], text[320];
	struct err e;

	if (m->away) { /* why is known */
		m->waiting = 0;
		return;
	}
	while (m->waiting > 0 && !m->away) {
		unsigned most, count;
		enum put_way way = put_choose(m->known, m->waiting, &most);

		count = m->waiting < most ? m->waiting : most;
		m->away = 1;
		if (put_boundary(boundary) != 0 || put_begin(&m->batch, way, boundary, m->refs[0], &e) != 0)
			break;
		for (unsigned i = 0; i < count; i++)
			put_add(&m->batch, m->refs[i], m->blocks[i], m->cap.block_size);
		put_end(&m->batch);
		m->away = net_put(m->net, m->source, &m->batch, m->known, &j) == PUT_FAILED;
		if (!m->away)
			put_again(m, count);
	}
	if (!m->away)
		return;
	(void)snprintf(text, sizeof text, "%s takes no blocks: it %s%s%s", m->fetch->blocks->sources[m->source].name,
	    j.why != NULL ? j.why : "does not say why", j.said[0] != '\0' ? ": " : "", j.said);
	why(m, text);
	m->waiting = 0;
}

static void
put(struct mend *m, const uint8_t *ref, const uint8_t *block)
{
	if (m->away || m->waiting == WAITING)
		return;
	for (unsigned i = 0; i < m->waiting; i++)
		if (memcmp(m->refs[i], ref, ERIS_REF) == 0)
			return;
	if (m->blocks[m->waiting] == NULL && (m->blocks[m->waiting] = malloc(ERIS_LARGE)) == NULL) {
		m->away = 1;
		why(m, "no memory");
		return;
	}
	memcpy(m->refs[m->waiting], ref, ERIS_REF);
	memcpy(m->blocks[m->waiting++], block, m->cap.block_size);
}

/* --- Presence, and block servers ----------------------------------------------------------------------- */

static void
on_has(void *ctx, size_t i, enum rpc_verdict verdict, const uint8_t *data)
{
	struct mend *m = ctx;

	(void)data;
	m->wants[m->map[i]].there = verdict == RPC_BLOCK;
	m->away |= verdict == RPC_UNREACHABLE;
}

/* Look which of the wants from FIRST on (those not there, and of OURS only those that we put) IPFS has. */
static void
look(struct mend *m, int ours)
{
	size_t leap = 0, n, missing;

	for (size_t i = 0; i < m->n && !m->away;) {
		for (n = 0; i < m->n && n < CHUNK; i++) {
			if (ours ? !m->wants[i].put : m->wants[i].there)
				continue;
			memcpy(m->questions[n], m->wants[i].ref, ERIS_REF);
			m->map[n++] = i;
		}
		m->report->looked += n;
		if (leap > 0) {
			leap--;
			continue;
		}
		net_ask(m->net, m->source, RPC_HAS, (const uint8_t (*)[ERIS_REF])m->questions, n, HAS_MS,
		    m->cap.block_size, on_has, m);
		missing = 0;
		for (size_t k = 0; k < n; k++)
			missing += !m->wants[m->map[k]].there;
		/* After a put everything ought to be there: a sample is enough. */
		leap = (ours && missing == 0) || (!ours && missing > n / 2) ? LEAP : 0;
	}
	if (m->away)
		why(m, "the IPFS daemon does not answer any more");
}

static void
on_block(void *ctx, size_t i, enum rpc_verdict verdict, const uint8_t *data)
{
	struct mend *m = ctx;

	if (verdict == RPC_BLOCK)
		put(m, m->wants[m->map[i]].ref, data);
}

/* Ask one block server or gateway for all that is missing. */
static void
ask_server(struct mend *m, size_t server)
{
	size_t n, got = 0, asked = 0;

	for (size_t i = 0; i < m->n && !m->away;) {
		for (n = 0; i < m->n && n < PUT_BLOCKS; i++) {
			if (m->wants[i].there)
				continue;
			memcpy(m->questions[n], m->wants[i].ref, ERIS_REF);
			m->map[n++] = i;
		}
		net_ask(m->net, server, RPC_GET, (const uint8_t (*)[ERIS_REF])m->questions, n,
		    m->fetch->blocks->block_ms, m->cap.block_size, on_block, m);
		got += m->waiting;
		asked += n;
		flush(m);
		if (asked >= 4 * PUT_BLOCKS && got < asked / 16) /* it has other things */
			return;
	}
}

static void
ask_servers(struct mend *m)
{
	const struct blockconf *b = m->fetch->blocks;

	for (size_t i = 0; i < b->nsources && left(m) > 0; i++)
		if (i != m->source)
			ask_server(m, i);
}

/* --- The tree ---------------------------------------------------------------------------------------- */

static void
on_node(void *ctx, size_t i, enum rpc_verdict verdict, const uint8_t *data)
{
	struct mend *m = ctx;

	(void)i;
	m->node_got = verdict == RPC_BLOCK;
	if (m->node_got)
		memcpy(m->node, data, m->cap.block_size);
}

/* One node into m->node, from wherever it can be had. */
static int
get_node(struct mend *m, const uint8_t ref[ERIS_REF])
{
	const struct blockconf *b = m->fetch->blocks;

	m->node_got = 0;
	memcpy(m->questions[0], ref, ERIS_REF);
	for (size_t i = 0; i < b->nsources && !m->node_got; i++)
		net_ask(m->net, i, RPC_GET, (const uint8_t (*)[ERIS_REF])m->questions, 1, b->block_ms,
		    m->cap.block_size, on_node, m);
	return m->node_got ? 0 : err_set(&m->error, "a node of the tree is nowhere");
}

struct step {
	unsigned level, at, count;
	struct eris_pair pairs[ERIS_LARGE / ERIS_PAIR];
};

/* Open the node PAIR into S. */
static int
open_node(struct mend *m, struct step *s, const struct eris_pair *pair, unsigned level, int root)
{
	const char *wrong;

	if (get_node(m, pair->ref) != 0)
		return -1;
	block_open(m->node, m->node, m->cap.block_size, level, pair->key);
	if (root && !block_key_fits(m->node, m->cap.block_size, pair->key))
		return err_set(&m->error, "the capability has a wrong key");
	if ((wrong = block_children(m->node, m->cap.block_size, &s->count)) != NULL)
		return err_set(&m->error, "a node: %s", wrong);
	memcpy(s->pairs, m->node, s->count * ERIS_PAIR);
	s->level = level;
	s->at = 0;
	return 0;
}

/* What is known of one block of the tree: in an entry of `all' it is wanted; else its number, if it is. */
static int
note(struct mend *m, const uint8_t ref[ERIS_REF], uint64_t leaf)
{
	struct want *w;

	if (m->collect)
		return add(m, ref, leaf);
	if ((w = find(m, ref)) != NULL && w->leaf == NO_LEAF)
		w->leaf = leaf;
	return 0;
}

static int
walk_down(struct mend *m, struct step *steps)
{
	struct step *s = steps;
	uint64_t leaf = 0;

	if (note(m, m->cap.root.ref, NO_LEAF) != 0 || open_node(m, s, &m->cap.root, m->cap.level, 1) != 0)
		return -1;
	while (s >= steps) {
		const struct eris_pair *p = &s->pairs[s->at];

		if (s->at == s->count) {
			s--;
			continue;
		}
		s->at++;
		if (leaf > m->max_bytes / ERIS_LARGE + 1)
			return err_set(&m->error, "the tree is larger than its nar");
		if (note(m, p->ref, s->level == 1 ? leaf : NO_LEAF) != 0)
			return -1;
		if (s->level == 1) {
			leaf++;
			continue;
		}
		if (open_node(m, s + 1, p, s->level - 1, 0) != 0)
			return -1;
		s++;
	}
	return 0;
}

/* Go through all nodes.  -1: some are nowhere. */
static int
walk(struct mend *m)
{
	struct step *steps;
	int rc;

	if (m->cap.level == 0)
		return note(m, m->cap.root.ref, 0);
	if ((steps = calloc(m->cap.level, sizeof *steps)) == NULL)
		return err_set(&m->error, "no memory");
	rc = walk_down(m, steps);
	free(steps);
	return rc;
}

/* --- Range ------------------------------------------------------------------------------------------- */

static int
compare_leaves(const void *a, const void *b)
{
	uint64_t x = (*(struct want *const *)a)->leaf, y = (*(struct want *const *)b)->leaf;

	return (x > y) - (x < y);
}

/* The missing leaves whose numbers are known, in order. */
static int
list_leaves(struct mend *m)
{
	m->nleaves = 0;
	free(m->leaves);
	if ((m->leaves = calloc(m->n + 1, sizeof m->leaves[0])) == NULL)
		return err_set(&m->error, "no memory");
	for (size_t i = 0; i < m->n; i++)
		if (!m->wants[i].there && m->wants[i].leaf != NO_LEAF)
			m->leaves[m->nleaves++] = &m->wants[i];
	qsort(m->leaves, m->nleaves, sizeof m->leaves[0], compare_leaves);
	return 0;
}

static struct want *
want_of_leaf(const struct mend *m, uint64_t leaf)
{
	struct want key = { .leaf = leaf }, *want = &key;
	struct want **found = bsearch(&want, m->leaves, m->nleaves, sizeof want, compare_leaves);

	return found != NULL ? *found : NULL;
}

/* The bytes of one leaf are complete. */
static int
leaf_done(struct mend *m)
{
	struct want *w = want_of_leaf(m, m->at++);
	uint8_t block[ERIS_LARGE];
	uint32_t filled = m->filled;

	m->filled = 0;
	if (w == NULL || w->there)
		return 0;
	if (range_rebuild(&m->fit, block, w->ref, m->leaf, filled) != RANGE_FITS)
		return err_set(&m->error, "the file there is another one");
	put(m, w->ref, block);
	return 0;
}

static size_t
on_range(void *ctx, const struct answer *a, const uint8_t *data, size_t len)
{
	struct mend *m = ctx;

	if (m->waiting >= PUT_BLOCKS)
		return NET_PAUSE;
	if (a->status != 206 || a->range_start != (int64_t)(m->run->first * ERIS_LARGE)) {
		(void)err_set(&m->error, "no Range");
		return 0;
	}
	for (size_t left_here = len; left_here > 0;) {
		size_t n = ERIS_LARGE - m->filled;

		n = n < left_here ? n : left_here;
		memcpy(m->leaf + m->filled, data, n);
		data += n;
		left_here -= n;
		m->filled += (uint32_t)n;
		if (m->at >= m->run->first + m->run->count || (m->filled == ERIS_LARGE && leaf_done(m) != 0))
			return 0;
	}
	return len;
}

static void
on_pause(void *ctx)
{
	flush(ctx);
}

static const struct net_reader range_reader = { on_range, on_pause };

/* One request.  0: go on with this URL. */
static int
get_run(struct mend *m, const struct url *u, const struct range_run *run)
{
	char header[RANGE_HEADER];
	struct answer a;
	struct err e;

	m->run = run;
	m->at = run->first;
	m->filled = 0;
	if (range_header(header, run, RANGE_UNKNOWN) != 0)
		return -1;
	m->error.text[0] = '\0';
	if (net_get(m->net, u, header, &range_reader, m, &a, &e) != 0) {
		if (m->error.text[0] == '\0')
			m->error = e;
		return -1;
	}
	/* The last leaf is shorter, or has no byte at all. */
	if (a.status == 416 && run->count == 1 && a.range_total == (int64_t)(run->first * ERIS_LARGE))
		return leaf_done(m);
	if (a.status != 206)
		return err_set(&m->error, "HTTP status %d", a.status);
	if (m->at == run->first + run->count ||
	    (m->filled == 0 && a.range_total != (int64_t)(m->at * ERIS_LARGE)))
		return 0;
	return leaf_done(m);
}

static void
ask_ranges(struct mend *m, const struct url *u)
{
	uint64_t leaves[CHUNK];
	struct range_run runs[CHUNK];

	for (size_t i = 0; i < m->nleaves && !m->away;) {
		size_t n = 0, count;

		for (; i < m->nleaves && n < CHUNK; i++)
			leaves[n++] = m->leaves[i]->leaf;
		count = range_plan(runs, CHUNK, leaves, &n, GAP, RUN);
		for (size_t k = 0; k < count && !m->away; k++)
			if (get_run(m, u, &runs[k]) != 0)
				return;
	}
}

/* --- The whole nar ------------------------------------------------------------------------------------ */

static int
on_encoded(void *ctx, const struct encode_block *b, struct err *e)
{
	struct mend *m = ctx;
	struct want *w;

	if (m->collect) {
		if (add(m, b->pair->ref, b->level == 0 ? b->offset / m->cap.block_size : NO_LEAF) == 0)
			return 0;
		*e = m->error;
		return -1;
	}
	if ((w = find(m, b->pair->ref)) != NULL && !w->there)
		put(m, b->pair->ref, b->data);
	return m->away ? err_set(e, "the IPFS daemon is away") : 0;
}

static size_t
on_whole(void *ctx, const struct answer *a, const uint8_t *data, size_t len)
{
	struct mend *m = ctx;

	if (m->waiting >= PUT_BLOCKS)
		return NET_PAUSE;
	m->read += len;
	if (a->status != 200 || m->read > m->max_bytes) {
		(void)err_set(&m->error, "%s", a->status != 200 ? "a part of a file" : "a file that is too long");
		return 0;
	}
	return encode_put(m->encoder, data, len, &m->error) == 0 ? len : 0;
}

static const struct net_reader whole_reader = { on_whole, on_pause };

/* Read the whole file at U.  1: it is the content that was wanted. */
static int
read_whole(struct mend *m, const struct url *u)
{
	struct encode_options o = { .block_size = m->cap.block_size, .sink = on_encoded, .ctx = m };
	struct eris_cap got;
	struct answer a;
	struct err e;
	int right = 0;

	m->read = 0;
	m->error.text[0] = '\0';
	if ((m->encoder = encode_new(&o, &m->error)) == NULL)
		return 0;
	if (net_get(m->net, u, NULL, &whole_reader, m, &a, &e) != 0) {
		if (m->error.text[0] == '\0')
			m->error = e;
	} else if (a.status != 200) {
		(void)err_set(&m->error, "HTTP status %d", a.status);
	} else if (a.length >= 0 && (uint64_t)a.length != m->read) {
		(void)err_set(&m->error, "the file was cut off");
	} else if (encode_end(m->encoder, &got, &m->error) == 0) {
		right = range_whole(&m->cap, &got);
		if (!right)
			(void)err_set(&m->error, "the file there is another one");
	}
	encode_free(m->encoder);
	m->encoder = NULL;
	return right;
}

/* --- In order ---------------------------------------------------------------------------------------- */

/* Do WHAT with one URL after the other, until nothing is left, or it says 1. */
static int
each_url(struct mend *m, int (*what)(struct mend *m, const struct url *u))
{
	const char *at = m->entry->urls;
	char shown[120];
	struct url u;
	struct err e;

	for (unsigned i = 0; i < m->entry->nurls && !m->away; i++, at += strlen(at) + 1) {
		if (url_parse(&u, at, &e) != 0)
			continue;
		m->error.text[0] = '\0';
		if (what(m, &u))
			return 1;
		if (!m->away && m->error.text[0] != '\0') {
			char text[256];

			url_show(&u, shown, sizeof shown);
			(void)snprintf(text, sizeof text, "%.110s: %.120s", shown, m->error.text);
			why(m, text);
		}
	}
	return 0;
}

static int
try_ranges(struct mend *m, const struct url *u)
{
	memset(&m->fit, 0, sizeof m->fit);
	if (list_leaves(m) == 0 && m->nleaves > 0)
		ask_ranges(m, u);
	flush(m);
	return left(m) == 0;
}

static int
try_collect(struct mend *m, const struct url *u)
{
	m->n = 0;
	return read_whole(m, u);
}

static int
try_whole(struct mend *m, const struct url *u)
{
	(void)read_whole(m, u);
	flush(m);
	return left(m) == 0;
}

/* Which blocks is it about?  -1: nobody knows. */
static int
collect(struct mend *m)
{
	int rc = 0;

	if (!m->entry->all) {
		for (unsigned i = 0; i < m->entry->nrefs; i++)
			if (add(m, m->entry->refs[i], NO_LEAF) != 0)
				return -1;
	} else {
		m->collect = 1;
		if (walk(m) != 0) {
			why(m, m->error.text);
			m->n = 0;
			rc = each_url(m, try_collect) ? 0 : -1;
		}
		m->collect = 0;
	}
	sort(m);
	return rc;
}

/* Is it worth to ask for single leaves?  Not if nodes are missing, too, or much of the nar. */
static int
ranges_do(struct mend *m)
{
	if (m->cap.block_size != ERIS_LARGE || (!m->entry->all && walk(m) != 0))
		return 0;
	for (size_t i = 0; i < m->n; i++)
		if (!m->wants[i].there && m->wants[i].leaf == NO_LEAF)
			return 0;
	return !m->entry->all || left(m) <= m->n / 4;
}

static void
repair(struct mend *m)
{
	ask_servers(m);
	if (left(m) == 0 || m->away || m->entry->nurls == 0)
		return;
	if (ranges_do(m))
		(void)each_url(m, try_ranges);
	if (left(m) > 0 && !m->away)
		(void)each_url(m, try_whole);
}

/* What is left into the entry: as a list, if it fits. */
static void
shorten(struct mend *m)
{
	struct journal_entry *j = m->entry;

	j->all = 0;
	j->nrefs = 0;
	for (size_t i = 0; i < m->n; i++)
		if (!m->wants[i].there)
			journal_ref(j, m->wants[i].ref);
}

static enum mend_result
go(struct mend *m)
{
	if (collect(m) != 0)
		return m->away ? MEND_AWAY : MEND_LATER;
	look(m, 0);
	m->report->missing = left(m);
	if (!m->away && left(m) > 0)
		repair(m);
	if (!m->away && m->report->put > 0)
		look(m, 1);
	shorten(m);
	if (left(m) == 0)
		return MEND_DONE;
	if (m->report->why[0] == '\0')
		why(m, "some blocks are nowhere");
	return m->away ? MEND_AWAY : MEND_LATER;
}

enum mend_result
mend(struct net *n, size_t source, struct put_known *known, struct journal_entry *j, struct mend_report *r)
{
	struct mend *m = calloc(1, sizeof *m);
	enum mend_result result = MEND_LATER;
	struct err e;

	memset(r, 0, sizeof *r);
	(void)snprintf(r->why, sizeof r->why, "no memory");
	if (m != NULL && (m->map = calloc(CHUNK, sizeof *m->map)) != NULL &&
	    (m->questions = calloc(CHUNK, sizeof *m->questions)) != NULL) {
		r->why[0] = '\0';
		m->net = n;
		m->fetch = net_fetch(n);
		m->source = source;
		m->known = known;
		m->entry = j;
		m->report = r;
		m->max_bytes = j->nar_size + j->nar_size / 50 + (1 << 20);
		if (urn_from_bytes(&m->cap, j->cap, &e) == 0) {
			result = go(m);
		} else {
			why(m, e.text);
			result = MEND_NEVER;
		}
	}
	if (m != NULL) {
		for (int i = 0; i < WAITING; i++)
			free(m->blocks[i]);
		put_free(&m->batch);
		free(m->wants);
		free(m->leaves);
		free(m->map);
		free(m->questions);
	}
	free(m);
	return result;
}
