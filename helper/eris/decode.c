/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): blocks into content, as a stream, with the blocks coming from anywhere and in any order.
 *
 * What is left of the tree at any time, from left to right: leaves, in a ring, then nodes, in a list,
 * nearest first.  A node in the list stands for those of its children that were not taken out of it yet.
 * Children go in front of their node, and a leaf is taken out only if nothing that is still unknown stands
 * before it: so leaves follow each other without gaps, the first of them can always be read as soon as it
 * comes, and the window cannot fill with what has to wait. */
#include <stdlib.h>
#include <string.h>

#include "helper/eris/block.h"
#include "helper/eris/decode.h"

/* Blocks that are checked in one go, and those side by side in one job. */
#define BATCH 64
#define GROUP 4
/* Pieces that nobody uses any more and that are kept a little longer: content may repeat itself. */
#define KEEP 16

/* One block, wanted or there.  Equal blocks in the window are one piece. */
struct piece {
	struct eris_pair pair;
	uint8_t level;
	unsigned users;     /* places in the tree */
	uint8_t *data;      /* decrypted; NULL: wanted */
	struct piece *next; /* in its chain of the table, or in the free list */
};

struct leaf {
	struct piece *piece;
	int last;
};

struct node {
	struct piece *piece;
	uint64_t offset;
	unsigned next, count; /* children taken out, and all; count is 0 as long as the block is wanted */
	int last;             /* right-most of its level */
};

/* What a job works on: blocks of the right size that are wanted, each with memory for what is in it. */
struct check {
	struct decode_given *given[BATCH];
	const struct piece *piece[BATCH];
	uint8_t *plain[BATCH];
	int good[BATCH];
	size_t n;
	uint32_t block_size;
};

struct decode {
	struct decode_options o;
	struct leaf *leaf;     /* a ring of o.window */
	unsigned first, leaves;
	struct node *node;     /* the nearest is node[0] */
	unsigned nodes, max_nodes;
	struct piece *pieces, *idle;
	struct piece **table;  /* by reference; mask + 1 chains */
	size_t mask;
	struct piece *kept[KEEP]; /* without users */
	unsigned next_kept;
	struct piece *ask;     /* to be named by decode_want */
	struct decode_want ask_as;
	struct piece *out;     /* the leaf that was read last */
	uint64_t position;     /* bytes read */
	uint8_t **spare;       /* buffers without a piece */
	unsigned spares;
	unsigned max_pieces;
	struct check check;
	int broken;
};

/* --- Pieces ------------------------------------------------------------------------------------------- */

static struct piece **
chain_of(const struct decode *d, const uint8_t *ref)
{
	uint64_t h;

	/* A reference is a hash already.  Somebody who makes many that meet here wins a walk of one
	 * window. */
	memcpy(&h, ref, sizeof(h));
	return &d->table[h & d->mask];
}

static struct piece *
wanted(const struct decode *d, const uint8_t *ref)
{
	for (struct piece *p = *chain_of(d, ref); p != NULL; p = p->next)
		if (p->data == NULL && memcmp(p->pair.ref, ref, ERIS_REF) == 0)
			return p;
	return NULL;
}

static uint8_t *
get_buffer(struct decode *d)
{
	return d->spares > 0 ? d->spare[--d->spares] : malloc(d->o.cap.block_size);
}

static void
put_buffer(struct decode *d, uint8_t *buffer)
{
	if (buffer != NULL && d->spares < d->max_pieces)
		d->spare[d->spares++] = buffer;
	else
		free(buffer);
}

static void
take_kept(struct decode *d, const struct piece *p)
{
	for (unsigned i = 0; i < KEEP; i++)
		if (d->kept[i] == p)
			d->kept[i] = NULL;
}

/* The piece for PAIR at LEVEL: one that is there, or a new one; its users grow by one. */
static struct piece *
use_piece(struct decode *d, const struct eris_pair *pair, unsigned level, uint64_t offset, int last)
{
	struct piece **chain = chain_of(d, pair->ref), *p;
	int asked = wanted(d, pair->ref) != NULL;

	for (p = *chain; p != NULL; p = p->next)
		if (p->level == level && memcmp(&p->pair, pair, ERIS_PAIR) == 0) {
			if (p->users++ == 0)
				take_kept(d, p);
			return p;
		}
	p = d->idle;
	d->idle = p->next;
	*p = (struct piece){ .pair = *pair, .level = (uint8_t)level, .users = 1, .next = *chain };
	*chain = p;
	/* The same block under another key, which no honest tree has, comes with the first. */
	if (!asked) {
		d->ask = p;
		memcpy(d->ask_as.ref, pair->ref, ERIS_REF);
		d->ask_as.level = (uint8_t)level;
		d->ask_as.last = last != 0;
		d->ask_as.offset = offset;
	}
	return p;
}

static void
forget_piece(struct decode *d, struct piece *p)
{
	struct piece **at;

	for (at = chain_of(d, p->pair.ref); *at != p; at = &(*at)->next)
		continue;
	*at = p->next;
	put_buffer(d, p->data);
	p->data = NULL;
	p->next = d->idle;
	d->idle = p;
}

/* The last user of a piece keeps it for a while, in the place of the one that was kept longest. */
static void
drop_piece(struct decode *d, struct piece *p)
{
	struct piece **kept = &d->kept[d->next_kept];

	if (p == NULL || --p->users > 0)
		return;
	if (*kept != NULL)
		forget_piece(d, *kept);
	*kept = p;
	d->next_kept = (d->next_kept + 1) % KEEP;
}

/* --- The tree ----------------------------------------------------------------------------------------- */

static int
broken(struct decode *d, struct err *e, const struct piece *p, uint64_t offset, const char *why)
{
	d->broken = 1;
	return err_set(e, "the content is broken at byte %llu: a block of level %u: %s",
	    (unsigned long long)offset, p->level, why);
}

/* The block of node N has come, right in itself: look at what it says. */
static int
open_node(struct decode *d, struct node *n, struct err *e)
{
	const struct piece *p = n->piece;
	uint32_t bs = d->o.cap.block_size;
	const char *why;

	if (p->level == d->o.cap.level && !block_key_fits(p->data, bs, p->pair.key))
		return broken(d, e, p, n->offset, "the key of the read capability is not its key");
	why = block_children(p->data, bs, &n->count);
	if (why == NULL && !n->last && n->count < eris_arity(bs))
		why = "the node is not full, and not the last of its level";
	if (why == NULL && p->level == d->o.cap.level && n->count == 1)
		why = "the root has one child only";
	return why == NULL ? 0 : broken(d, e, p, n->offset, why);
}

/* Take the next child out of d->node[AT] and put it before that node.  The node goes when it was the last. */
static int
take_child(struct decode *d, unsigned at, struct err *e)
{
	struct node *n = &d->node[at];
	unsigned level = n->piece->level - 1u;
	uint64_t offset = n->offset + n->next * eris_span(d->o.cap.block_size, level);
	int last = n->last && n->next + 1 == n->count, rc = 0;
	struct eris_pair pair;
	struct piece *p;

	/* All content before OFFSET is there in any case, and the child has at least one byte more, if
	 * only of padding. */
	if (offset > d->o.max_length) {
		d->broken = 1;
		return err_set(e, "the content is longer than %llu bytes",
		    (unsigned long long)d->o.max_length);
	}
	memcpy(&pair, n->piece->data + (size_t)n->next++ * ERIS_PAIR, sizeof(pair));
	p = use_piece(d, &pair, level, offset, last);
	if (n->next == n->count) {
		drop_piece(d, n->piece);
		memmove(n, n + 1, (--d->nodes - at) * sizeof(*n));
	}
	if (level == 0) {
		d->leaf[(d->first + d->leaves++) % d->o.window] = (struct leaf){ p, last };
		return 0;
	}
	memmove(&d->node[at + 1], &d->node[at], (d->nodes++ - at) * sizeof(*n));
	d->node[at] = (struct node){ .piece = p, .offset = offset, .last = last };
	if (p->data != NULL)
		rc = open_node(d, &d->node[at], e);
	return rc;
}

/* One step into the tree: 1, or 0: there is none before something comes or is read; or -1. */
static int
step(struct decode *d, struct err *e)
{
	unsigned at = 0, unopened = 0;

	/* Nodes in time: children of the nearest node that has nodes for children. */
	while (at < d->nodes && d->node[at].piece->level == 1)
		unopened += d->node[at++].next == 0;
	if (at < d->nodes && d->node[at].count > 0 && (at == 0 || unopened < d->o.ahead))
		return take_child(d, at, e) == 0 ? 1 : -1;
	/* Leaves, only of the very first node: before those of a later one there is a gap of unknown
	 * width. */
	if (d->nodes > 0 && d->node[0].piece->level == 1 && d->node[0].count > 0 && d->leaves < d->o.window)
		return take_child(d, 0, e) == 0 ? 1 : -1;
	return 0;
}

int
decode_want(struct decode *d, struct decode_want *w, struct err *e)
{
	int rc = 1;

	if (d->broken)
		return err_set(e, "the content is broken");
	while (d->ask == NULL && rc == 1)
		rc = step(d, e);
	if (rc != 1)
		return rc;
	*w = d->ask_as;
	d->ask = NULL;
	return 1;
}

/* --- Blocks -------------------------------------------------------------------------------------------- */

/* Job: four blocks. */
static void
check_group(void *ctx, size_t i)
{
	struct check *c = ctx;
	size_t first = i * GROUP;
	unsigned n = c->n - first < GROUP ? (unsigned)(c->n - first) : GROUP;
	const uint8_t *refs[GROUP] = { NULL }, *blocks[GROUP] = { NULL };
	int good[GROUP];
	unsigned m = 0;

	for (size_t j = first; j < first + n; j++)
		if (!c->given[j]->known) {
			refs[m] = c->given[j]->ref;
			blocks[m++] = c->given[j]->block;
		}
	block_verify_some(good, refs, blocks, m, c->block_size);
	m = 0;
	for (size_t j = first; j < first + n; j++)
		c->good[j] = c->given[j]->known || good[m++];
	for (size_t j = first; j < first + n; j++)
		if (c->good[j])
			block_open(c->plain[j], c->given[j]->block, c->block_size, c->piece[j]->level,
			    c->piece[j]->pair.key);
}

/* P has its data: the nodes that wait for it. */
static int
arrived(struct decode *d, struct piece *p, struct err *e)
{
	if (d->ask == p)
		d->ask = NULL;
	for (unsigned i = 0; i < d->nodes; i++)
		if (d->node[i].piece == p && open_node(d, &d->node[i], e) != 0)
			return -1;
	return 0;
}

/* A block whose hash is right, decrypted with the key of one of the pieces that want it (more than one:
 * other keys). */
static int
accept(struct decode *d, struct decode_given *g, const struct piece *opened, uint8_t *plain, struct err *e)
{
	struct piece *p;

	while ((p = wanted(d, g->ref)) != NULL) {
		if (p == opened) {
			p->data = plain;
			plain = NULL;
		} else if ((p->data = get_buffer(d)) != NULL) {
			block_open(p->data, g->block, d->o.cap.block_size, p->level, p->pair.key);
		} else {
			put_buffer(d, plain);
			d->broken = 1;
			return err_set(e, "out of memory");
		}
		g->verdict = DECODE_TAKEN;
		if (arrived(d, p, e) != 0) {
			put_buffer(d, plain);
			return -1;
		}
	}
	/* The same block twice in one call: the second has nobody left who wants it. */
	put_buffer(d, plain);
	return 0;
}

/* What can be said of a block before its hash is looked at.  1: it is worth that. */
static int
sort_out(struct decode *d, struct decode_given *g, struct err *e)
{
	struct check *c = &d->check;
	const struct piece *p = wanted(d, g->ref);

	g->verdict = DECODE_SPARE;
	g->why = NULL;
	if (p == NULL)
		return 0;
	if (g->len != d->o.cap.block_size) {
		g->verdict = DECODE_WRONG;
		g->why = g->len < d->o.cap.block_size ? "it is too short" : "it is too long";
		return 0;
	}
	c->given[c->n] = g;
	c->piece[c->n] = p;
	c->plain[c->n] = get_buffer(d);
	if (c->plain[c->n] == NULL)
		return err_set(e, "out of memory");
	c->n++;
	return 0;
}

int
decode_give(struct decode *d, struct decode_given *given, size_t n, struct err *e)
{
	struct check *c = &d->check;
	int rc = 0;

	if (d->broken)
		return err_set(e, "the content is broken");
	for (size_t i = 0; i < n && rc == 0;) {
		c->n = 0;
		while (i < n && c->n < BATCH && rc == 0)
			rc = sort_out(d, &given[i++], e);
		if (rc == 0)
			pool_run(d->o.pool, check_group, c, (c->n + GROUP - 1) / GROUP);
		for (size_t j = 0; j < c->n; j++) {
			if (rc != 0) {
				put_buffer(d, c->plain[j]);
			} else if (c->good[j]) {
				rc = accept(d, c->given[j], c->piece[j], c->plain[j], e);
			} else {
				put_buffer(d, c->plain[j]);
				c->given[j]->verdict = DECODE_WRONG;
				c->given[j]->why = "its hash is another one";
			}
		}
	}
	if (rc != 0)
		d->broken = 1;
	return rc;
}

/* --- Content ------------------------------------------------------------------------------------------- */

int
decode_read(struct decode *d, const uint8_t **data, size_t *len, struct err *e)
{
	struct leaf *l = &d->leaf[d->first];
	const char *why;

	drop_piece(d, d->out);
	d->out = NULL;
	if (d->broken)
		return err_set(e, "the content is broken");
	if (d->leaves == 0 || l->piece->data == NULL)
		return 0;
	*len = d->o.cap.block_size;
	if (l->last && (why = block_unpad(l->piece->data, d->o.cap.block_size, len)) != NULL) {
		d->broken = 1;
		return err_set(e, "the content is broken: its last block: %s", why);
	}
	if (*len > d->o.max_length - d->position) { /* take_child() has seen to where blocks begin */
		d->broken = 1;
		return err_set(e, "the content is longer than %llu bytes", (unsigned long long)d->o.max_length);
	}
	*data = l->piece->data;
	d->out = l->piece;
	d->first = (d->first + 1) % d->o.window;
	d->leaves--;
	d->position += *len;
	return *len > 0;
}

const uint8_t *
decode_ref(const struct decode *d)
{
	return d->out->pair.ref;
}

int
decode_done(const struct decode *d)
{
	return !d->broken && d->leaves == 0 && d->nodes == 0;
}

int
decode_wanted(const struct decode *d, const uint8_t ref[ERIS_REF])
{
	return wanted(d, ref) != NULL;
}

int
decode_more(const struct decode *d)
{
	return d->nodes > 0;
}

uint64_t
decode_position(const struct decode *d)
{
	return d->position;
}

/* --- Beginning and end --------------------------------------------------------------------------------- */

static int
allocate(struct decode *d)
{
	size_t chains = 16;

	/* One node is open at each level; besides these there are those ahead, and one whose children go
	 * in front. */
	d->max_nodes = d->o.cap.level + d->o.ahead + 3;
	d->max_pieces = d->o.window + d->max_nodes + KEEP + 1;
	while (chains < 2 * (size_t)d->max_pieces)
		chains *= 2;
	d->mask = chains - 1;
	d->leaf = calloc(d->o.window, sizeof(*d->leaf));
	d->node = calloc(d->max_nodes, sizeof(*d->node));
	d->pieces = calloc(d->max_pieces, sizeof(*d->pieces));
	d->table = calloc(chains, sizeof(struct piece *));
	d->spare = calloc(d->max_pieces, sizeof(uint8_t *));
	if (d->leaf == NULL || d->node == NULL || d->pieces == NULL || d->table == NULL || d->spare == NULL)
		return -1;
	for (unsigned i = 0; i < d->max_pieces; i++)
		d->pieces[i].next = i + 1 < d->max_pieces ? &d->pieces[i + 1] : NULL;
	d->idle = d->pieces;
	return 0;
}

struct decode *
decode_new(const struct decode_options *o, struct err *e)
{
	struct decode *d;
	struct piece *root;

	if (o->window < 1 || o->window > DECODE_WINDOW_MAX || o->ahead > DECODE_AHEAD_MAX ||
	    o->cap.level > eris_max_level(o->cap.block_size)) {
		err_set(e, "a decoder that makes no sense");
		return NULL;
	}
	d = calloc(1, sizeof(*d));
	if (d != NULL)
		d->o = *o;
	if (d == NULL || allocate(d) != 0) {
		err_set(e, "out of memory");
		decode_free(d);
		return NULL;
	}
	d->check.block_size = o->cap.block_size;
	root = use_piece(d, &o->cap.root, o->cap.level, 0, 1);
	if (o->cap.level == 0)
		d->leaf[d->leaves++] = (struct leaf){ root, 1 };
	else
		d->node[d->nodes++] = (struct node){ .piece = root, .last = 1 };
	return d;
}

void
decode_free(struct decode *d)
{
	if (d == NULL)
		return;
	for (unsigned i = 0; d->pieces != NULL && i < d->max_pieces; i++)
		free(d->pieces[i].data);
	while (d->spares > 0)
		free(d->spare[--d->spares]);
	free(d->leaf);
	free(d->node);
	free(d->pieces);
	free(d->table);
	free(d->spare);
	free(d);
}
