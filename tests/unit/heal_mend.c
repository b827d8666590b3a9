/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: narlock-heal's repairs: what is missing is found by Range or in the whole file, and only the
 * right thing is put. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "helper/eris/block.h"
#include "helper/eris/encode.h"
#include "helper/fetch/start.h"
#include "helper/fetch/transfer.h"
#include "helper/heal/mend.h"
#include "tests/unit/ipfs_server.h"

#define MAX_BLOCKS 700

struct bed {
	struct fetch f;
	struct net *net;
	struct ipfs_server *server;
	struct put_known known;
	struct journal_entry entry;
	struct mend_report report;
	uint8_t *content;
	size_t len;
	unsigned n;                       /* blocks of it, in the encoder's order */
	uint8_t refs[MAX_BLOCKS][ERIS_REF];
	uint8_t levels[MAX_BLOCKS];
};

static int
on_block(void *ctx, const struct encode_block *e, struct err *err)
{
	struct bed *b = ctx;

	(void)err;
	assert_true(b->n < MAX_BLOCKS);
	server_add(b->server, e->data, e->level == 0 && b->len < 16384 ? ERIS_SMALL : ERIS_LARGE);
	memcpy(b->refs[b->n], e->pair->ref, ERIS_REF);
	b->levels[b->n++] = e->level;
	return 0;
}

static void
add_url(struct bed *b, const char *path)
{
	char url[100];

	snprintf(url, sizeof url, "http://127.0.0.1:%d/%s", b->server->port, path);
	assert_int_equal(journal_url(&b->entry, url), 0);
}

/* All blocks of LEN bytes are in the daemon. */
static struct bed *
make(enum server_mode mode, size_t len)
{
	struct bed *b = calloc(1, sizeof *b);
	struct encode_options o = { .block_size = ERIS_LARGE, .sink = on_block, .ctx = b };
	struct eris_cap cap;
	struct encode *c;
	char address[64];
	uint32_t x = 1;
	struct err e;

	assert_int_equal(block_init(&e), 0);
	b->server = server_start(mode);
	b->len = len;
	b->content = malloc(len);
	for (size_t i = 0; i < len; i++)
		b->content[i] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24);
	b->server->file = b->content;
	b->server->file_len = len;
	c = encode_new(&o, &e);
	assert_int_equal(encode_put(c, b->content, len, &e), 0);
	assert_int_equal(encode_end(c, &cap, &e), 0);
	encode_free(c);
	urn_to_bytes(b->entry.cap, &cap);
	b->entry.nar_size = len;
	b->f.control = b->f.state = b->f.journal = -1;
	b->f.settings = (struct settings){ .stall_ms = 1000, .connect_ms = 2000 };
	assert_int_equal(start_libraries(&b->f, &e), 0);
	assert_int_equal(hosts_init(&b->f.hosts, &e), 0);
	b->f.blocks = blockconf_new(&e);
	b->f.blocks->block_ms = 1000;
	snprintf(address, sizeof address, "/ip4/127.0.0.1/tcp/%d", b->server->port);
	assert_int_equal(blockconf_set(b->f.blocks, "ipfs", address, &e), 0);
	assert_int_equal(blockconf_set(b->f.blocks, "seed-private", "yes", &e), 0);
	b->net = net_new(&b->f, &e);
	assert_non_null(b->net);
	return b;
}

static void
unmake(struct bed *b)
{
	net_free(b->net);
	blockconf_free(b->f.blocks);
	hosts_free(&b->f.hosts);
	curl_multi_cleanup(b->f.multi);
	server_stop(b->server);
	free(b->content);
	free(b);
}

static enum mend_result
heal(struct bed *b)
{
	return mend(b->net, 0, &b->known, &b->entry, &b->report);
}

static unsigned
missing(struct bed *b)
{
	unsigned n = 0;

	for (unsigned i = 0; i < b->n; i++)
		n += !server_has(b->server, b->refs[i]);
	return n;
}

/* The N-th block of LEVEL goes, and is listed. */
static void
lose(struct bed *b, unsigned level, unsigned nth, int list)
{
	for (unsigned i = 0; i < b->n; i++)
		if (b->levels[i] == level && nth-- == 0) {
			server_remove(b->server, b->refs[i]);
			if (list)
				journal_ref(&b->entry, b->refs[i]);
			else
				b->entry.all = 1;
			return;
		}
	fail();
}

static void
nothing_missing(void **state)
{
	struct bed *b = make(KUBO, 500000);

	(void)state;
	journal_ref(&b->entry, b->refs[0]);
	assert_int_equal(heal(b), MEND_DONE);
	assert_int_equal(b->report.missing, 0);
	assert_int_equal(b->server->puts + b->server->imports + b->server->files, 0);
	b->entry.nrefs = 0;
	b->entry.all = 1;
	assert_int_equal(heal(b), MEND_DONE);
	assert_int_equal(b->server->puts + b->server->imports + b->server->files, 0);
	unmake(b);
}

/* Listed leaves come by Range: neighbours in one request, and the last one, which is shorter. */
static void
by_range(void **state)
{
	struct bed *b = make(KUBO, 3000000);

	(void)state;
	add_url(b, "nar");
	lose(b, 0, 5, 1);
	lose(b, 0, 6, 1);
	lose(b, 0, 50, 1);
	lose(b, 0, 3000000 / ERIS_LARGE, 1);
	assert_int_equal(missing(b), 4);
	assert_int_equal(heal(b), MEND_DONE);
	assert_int_equal(missing(b), 0);
	assert_int_equal(b->report.missing, 4);
	assert_int_equal(b->report.put, 4);
	assert_int_equal(b->server->ranges, 3);
	assert_int_equal(b->server->files, 3);
	unmake(b);
}

/* A leaf of padding only has no byte in the file. */
static void
padding(void **state)
{
	struct bed *b = make(KUBO, 32 * ERIS_LARGE);

	(void)state;
	add_url(b, "nar");
	lose(b, 0, 32, 1);
	assert_int_equal(heal(b), MEND_DONE);
	assert_int_equal(missing(b), 0);
	lose(b, 0, 31, 1);
	lose(b, 0, 32, 1);
	assert_int_equal(heal(b), MEND_DONE);
	assert_int_equal(missing(b), 0);
	unmake(b);
}

/* A server without Range, and missing nodes: the whole file. */
static void
by_file(void **state)
{
	struct bed *b = make(JS, 3000000);

	(void)state;
	add_url(b, "nar");
	b->server->no_range = 1;
	lose(b, 0, 5, 1);
	lose(b, 0, 90, 1);
	assert_int_equal(heal(b), MEND_DONE);
	assert_int_equal(missing(b), 0);
	b->server->no_range = 0;
	b->server->ranges = 0;
	b->entry.nrefs = 0;
	lose(b, 1, 0, 1);
	lose(b, 0, 0, 1);
	assert_int_equal(heal(b), MEND_DONE);
	assert_int_equal(missing(b), 0);
	assert_int_equal(b->server->ranges, 0);
	unmake(b);
}

/* Nobody knows which: with the nodes at hand the leaves are looked at, and without them the file is read
 * twice. */
static void
unknown(void **state)
{
	struct bed *b = make(KUBO, 20000000);

	(void)state;
	add_url(b, "nar");
	for (unsigned i = 0; i < 100; i++)
		lose(b, 0, 6 * i, 0);
	assert_int_equal(missing(b), 100);
	assert_int_equal(heal(b), MEND_DONE);
	assert_int_equal(missing(b), 0);
	assert_int_equal(b->server->ranges, 100);
	assert_int_equal(b->server->files, 100);
	b->server->files = b->server->ranges = 0;
	for (unsigned i = 0; i < 300; i++) /* so many that the whole file is better */
		lose(b, 0, i, 0);
	assert_int_equal(heal(b), MEND_DONE);
	assert_int_equal(missing(b), 0);
	assert_int_equal(b->server->files, 1);
	b->server->files = b->server->ranges = 0;
	for (unsigned i = 0; i < b->n; i++)
		server_remove(b->server, b->refs[i]);
	b->entry.all = 1;
	assert_int_equal(heal(b), MEND_DONE);
	assert_int_equal(missing(b), 0);
	assert_int_equal(b->server->ranges, 0);
	assert_int_equal(b->server->files, 2);
	unmake(b);
}

/* Another file is there: not a block of it goes into IPFS, and the entry stays as it was. */
static void
another_file(void **state)
{
	struct bed *b = make(KUBO, 3000000);
	unsigned before;

	(void)state;
	add_url(b, "nar");
	lose(b, 0, 5, 1);
	lose(b, 0, 80, 1);
	for (size_t i = 0; i < b->len; i++)
		b->content[i] ^= 1;
	before = b->server->n;
	assert_int_equal(heal(b), MEND_LATER);
	assert_int_equal(b->entry.nrefs, 2);
	assert_int_equal(missing(b), 2);
	assert_int_equal(b->server->n, before);
	assert_true(b->report.why[0] != '\0');
	/* Also where the blocks are not known. */
	for (unsigned i = 0; i < b->n; i++)
		server_remove(b->server, b->refs[i]);
	b->entry.nrefs = 0;
	b->entry.all = 1;
	before = b->server->n;
	assert_int_equal(heal(b), MEND_LATER);
	assert_int_equal(b->entry.all, 1);
	assert_int_equal(b->server->n, before);
	assert_int_equal(b->server->puts + b->server->imports, 0);
	/* A file that never ends. */
	b->server->file_len = b->len;
	b->entry.nar_size = 1000;
	assert_int_equal(heal(b), MEND_LATER);
	unmake(b);
}

/* A part of it can be had: the entry is shortened. */
static void
partly(void **state)
{
	struct bed *b = make(KUBO, 3000000);
	uint8_t foreign[ERIS_REF] = { 1, 2, 3 };

	(void)state;
	add_url(b, "nar");
	lose(b, 0, 5, 1);
	journal_ref(&b->entry, foreign);
	assert_int_equal(heal(b), MEND_LATER);
	assert_int_equal(b->report.put, 1);
	assert_int_equal(missing(b), 0);
	assert_int_equal(b->entry.nrefs, 1);
	assert_memory_equal(b->entry.refs[0], foreign, ERIS_REF);
	unmake(b);
}

static void
private_file(void **state)
{
	struct bed *b = make(KUBO, 500000);

	(void)state;
	b->f.blocks->seed_private = 0;
	add_url(b, "nar");
	lose(b, 0, 5, 1);
	assert_int_equal(heal(b), MEND_LATER);
	assert_int_equal(b->server->files, 0);
	assert_int_equal(missing(b), 1);
	unmake(b);
}

/* The daemon refuses, or goes away: that is told apart from blocks that are nowhere. */
static void
daemon_fails(void **state)
{
	struct bed *b = make(KUBO, 500000);

	(void)state;
	assert_int_equal(net_alive(b->net, 0), 1);
	add_url(b, "nar");
	lose(b, 0, 5, 1);
	b->server->mode = REFUSES;
	assert_int_equal(heal(b), MEND_AWAY);
	assert_int_equal(b->entry.nrefs, 1);
	b->server->mode = BROKEN;
	assert_int_not_equal(heal(b), MEND_DONE);
	assert_int_equal(b->entry.nrefs, 1);
	b->server->mode = FORGETFUL;
	assert_int_equal(heal(b), MEND_DONE);
	assert_int_equal(missing(b), 0);
	unmake(b);
}

static void
bad_entry(void **state)
{
	struct bed *b = make(KUBO, 500000);

	(void)state;
	b->entry.cap[0] = 1;
	b->entry.all = 1;
	assert_int_equal(heal(b), MEND_NEVER);
	unmake(b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_missing),
		cmocka_unit_test(by_range),
		cmocka_unit_test(padding),
		cmocka_unit_test(by_file),
		cmocka_unit_test(unknown),
		cmocka_unit_test(another_file),
		cmocka_unit_test(partly),
		cmocka_unit_test(private_file),
		cmocka_unit_test(daemon_fails),
		cmocka_unit_test(bad_entry),
	};

	return cmocka_run_group_tests_name("mend", tests, NULL, NULL);
}
