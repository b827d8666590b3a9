/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: what IPFS missed is put back, by every way that daemons know; what cannot be put is written down;
 * and what is private is neither. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "helper/eris/block.h"
#include "helper/fetch/blockconf.h"
#include "helper/fetch/heal.h"
#include "helper/fetch/journal.h"
#include "helper/fetch/private.h"
#include "helper/fetch/start.h"
#include "helper/fetch/transfer.h"
#include "tests/unit/ipfs_server.h"

#define NAR_SIZE 1000000

struct bed {
	struct fetch f;
	struct ipfs_server *server;
	char journal[64];
	unsigned next; /* number of the next block */
};

static void
configure(struct bed *b, const char *key, const char *value)
{
	struct err e;

	assert_int_equal(blockconf_set(b->f.blocks, key, value, &e), 0);
}

static struct bed *
make(enum server_mode mode)
{
	struct bed *b = calloc(1, sizeof *b);
	char address[64];
	struct err e;

	b->server = server_start(mode);
	b->f.control = b->f.state = -1;
	b->f.settings = (struct settings){ .stall_ms = 5000, .connect_ms = 2000 };
	assert_int_equal(start_libraries(&b->f, &e), 0);
	assert_int_equal(hosts_init(&b->f.hosts, &e), 0);
	assert_int_equal(block_init(&e), 0);
	b->f.blocks = blockconf_new(&e);
	assert_int_equal(heal_init(&b->f, &e), 0);
	strcpy(b->journal, "/tmp/narlock-heal.XXXXXX");
	close(mkstemp(b->journal));
	b->f.journal = journal_open(b->journal, &e);
	assert_true(b->f.journal >= 0);
	snprintf(address, sizeof address, "/ip4/127.0.0.1/tcp/%d", b->server->port);
	configure(b, "ipfs", address);
	start_clocks(&b->f);
	return b;
}

static void
unmake(struct bed *b)
{
	heal_free(&b->f);
	blockconf_free(b->f.blocks);
	hosts_free(&b->f.hosts);
	curl_multi_cleanup(b->f.multi);
	server_stop(b->server);
	close(b->f.journal);
	unlink(b->journal);
	free(b);
}

static int
always(const struct fetch *f)
{
	(void)f;
	return 1;
}

static void
turn(struct bed *b)
{
	int running, happened;

	start_clocks(&b->f);
	heal_pump(&b->f);
	curl_multi_perform(b->f.multi, &running);
	transfer_collect(&b->f, always);
	curl_multi_poll(b->f.multi, NULL, 0, 5, &happened);
}

/* Until nothing is under way; at most some seconds. */
static void
settle(struct bed *b)
{
	for (int i = 0; i < 2000 && heal_busy(&b->f); i++)
		turn(b);
	assert_false(heal_busy(&b->f));
}

static void
begin(struct bed *b, const char *url, int allowed)
{
	uint8_t cap[ERIS_CAP] = { 0x0f, 1 };

	memcpy(cap + 2, &b->next, sizeof b->next);
	heal_begin(&b->f, cap, &url, 1, NAR_SIZE, allowed);
}

enum { ORDINARY, MISSED, UNSURE, SUSPECT };

/* The next block, as different from all others; REF may be NULL. */
static void
give(struct bed *b, int what, uint8_t *ref)
{
	static uint8_t block[ERIS_LARGE];
	uint8_t hash[ERIS_REF];

	memset(block, 0x5a, sizeof block);
	memcpy(block, &b->next, sizeof b->next);
	b->next++;
	manifest_hash(hash, block, sizeof block);
	if (what == MISSED)
		heal_missed(&b->f, hash);
	else if (what != ORDINARY)
		heal_unsure(&b->f, hash, what == SUSPECT);
	heal_block(&b->f, hash, block, sizeof block);
	if (ref != NULL)
		memcpy(ref, hash, ERIS_REF);
}

static void
counts(struct bed *b, unsigned missed, unsigned repaired, unsigned reinserted)
{
	uint32_t m, p, r;

	heal_counts(&b->f, &m, &p, &r);
	assert_int_equal(m, missed);
	assert_int_equal(p, repaired);
	assert_int_equal(r, reinserted);
}

static unsigned
entries(struct bed *b, struct journal_entry *j)
{
	static struct journal_entry k;
	unsigned n = 0;

	for (unsigned i = 0; i < JOURNAL_SLOTS; i++)
		if (journal_get(b->f.journal, i, &k) == 1) {
			n++;
			if (j != NULL)
				*j = k;
		}
	return n;
}

#define PUBLIC "http://192.0.2.1/nar/a"

/* N blocks, and all of them are there at the end. */
static void
all_put(enum server_mode mode, unsigned n, int imports, int puts)
{
	struct bed *b = make(mode);
	uint8_t refs[64][ERIS_REF];

	begin(b, PUBLIC, 1);
	for (unsigned i = 0; i < n; i++) {
		give(b, 1, refs[i]);
		turn(b);
	}
	settle(b);
	for (unsigned i = 0; i < n; i++)
		assert_true(server_has(b->server, refs[i]));
	counts(b, n, n, n);
	heal_end(&b->f, 1);
	counts(b, n, n, n);
	assert_int_equal(entries(b, NULL), 0);
	if (imports >= 0)
		assert_int_equal(b->server->imports, imports);
	if (puts >= 0)
		assert_int_equal(b->server->puts, puts);
	unmake(b);
}

/* The same, all at once. */
static void
all_put_at_once(enum server_mode mode, unsigned n, int imports, int puts)
{
	struct bed *b = make(mode);
	uint8_t refs[64][ERIS_REF];

	begin(b, PUBLIC, 1);
	for (unsigned i = 0; i < n; i++)
		give(b, 1, refs[i]);
	settle(b);
	for (unsigned i = 0; i < n; i++)
		assert_true(server_has(b->server, refs[i]));
	counts(b, n, n, n);
	heal_end(&b->f, 1);
	assert_int_equal(entries(b, NULL), 0);
	if (imports >= 0)
		assert_int_equal(b->server->imports, imports);
	if (puts >= 0)
		assert_int_equal(b->server->puts, puts);
	unmake(b);
}

static void
kubo(void **state)
{
	(void)state;
	all_put(KUBO, 40, -1, -1);
	all_put_at_once(KUBO, 64, 2, 0);
	all_put_at_once(KUBO, 3, 0, 1);
	all_put_at_once(KUBO, 1, 0, 1);
}

static void
js_ipfs(void **state)
{
	(void)state;
	all_put(JS, 40, -1, -1);
	all_put_at_once(JS, 64, 2, 0);
	all_put_at_once(JS, 3, 0, 3); /* a form of three, which keeps one, and two by themselves */
}

static void
only_put(void **state)
{
	(void)state;
	all_put_at_once(PUT_ONLY, 40, 1, 40);
}

static void
nothing_of_a_car(void **state)
{
	(void)state;
	all_put_at_once(FORGETFUL, 40, 1, 40);
}

/* What is refused is written down, with what is needed to find it again and no more. */
static void
refused(void **state)
{
	struct bed *b = make(REFUSES);
	struct journal_entry j;
	uint8_t refs[2][ERIS_REF];

	(void)state;
	configure(b, "seed-private", "yes");
	begin(b, "http://user:secret@192.0.2.1/nar/a", 1);
	give(b, 1, refs[0]);
	give(b, 1, refs[1]);
	for (int i = 0; i < 20; i++)
		turn(b);
	heal_end(&b->f, 1);
	counts(b, 2, 2, 0);
	assert_int_equal(entries(b, &j), 1);
	assert_int_equal(j.nar_size, NAR_SIZE);
	assert_int_equal(j.all, 0);
	assert_int_equal(j.nrefs, 2);
	assert_int_equal(j.nurls, 1);
	assert_string_equal(j.urls, PUBLIC);
	unmake(b);
}

/* It is asked once more in each of the other ways, and never again; for blocks it is as good as before. */
static void
may_only_be_read(void **state)
{
	struct bed *b = make(READ_ONLY);

	(void)state;
	for (int nar = 0; nar < 2; nar++) {
		begin(b, PUBLIC, 1);
		for (int i = 0; i < 10; i++)
			give(b, 1, NULL);
		settle(b);
		heal_end(&b->f, 1);
		counts(b, 10, 10, 0);
		assert_int_equal(b->f.blocks->sources[0].dead_until, 0);
		assert_int_equal(entries(b, NULL), 0);
	}
	unmake(b);
}

static void
breaks_off(void **state)
{
	struct bed *b = make(BROKEN);

	(void)state;
	begin(b, PUBLIC, 1);
	for (int i = 0; i < 10; i++)
		give(b, 1, NULL);
	for (int i = 0; i < 20; i++)
		turn(b);
	heal_end(&b->f, 1);
	counts(b, 10, 10, 0);
	assert_int_equal(entries(b, NULL), 1);
	unmake(b);
}

/* A daemon that sleeps: nobody waits, the queue is bounded, and when it wakes up the rest is put. */
static void
sleeps(void **state)
{
	struct bed *b = make(KUBO);
	uint32_t missed, repaired, put;
	struct journal_entry j;
	uint64_t before;

	(void)state;
	b->server->asleep = 1;
	begin(b, PUBLIC, 1);
	for (int i = 0; i < 10; i++)
		give(b, 1, NULL);
	turn(b);
	before = b->f.now;
	heal_end(&b->f, 1);
	start_clocks(&b->f);
	assert_true(b->f.now - before < 1000);
	counts(b, 10, 10, 0);
	assert_int_equal(entries(b, &j), 1);
	assert_int_equal(j.nrefs, 10);
	assert_true(heal_busy(&b->f));
	/* The next nar, and much of it. */
	begin(b, PUBLIC "b", 1);
	for (int i = 0; i < 1000; i++)
		give(b, 1, NULL);
	heal_end(&b->f, 1);
	assert_int_equal(entries(b, NULL), 2);
	b->server->asleep = 0;
	settle(b);
	heal_counts(&b->f, &missed, &repaired, &put);
	assert_int_equal(repaired, 1000);
	assert_in_range(put, 64, 200);
	/* All of the first one was in the queue, not all of the second one. */
	assert_int_equal(entries(b, &j), 1);
	assert_int_equal(j.all, 1);
	assert_string_equal(j.urls, PUBLIC "b");
	unmake(b);
}

/* An entry of listed blocks loses those that are put later. */
static void
shortened(void **state)
{
	struct bed *b = make(KUBO);
	struct journal_entry j;
	uint8_t missing[ERIS_REF] = { 7 };

	(void)state;
	b->server->asleep = 1;
	begin(b, PUBLIC, 1);
	heal_missed(&b->f, missing); /* and it never came this way */
	for (int i = 0; i < 10; i++)
		give(b, 1, NULL);
	turn(b);
	heal_end(&b->f, 1);
	assert_int_equal(entries(b, &j), 1);
	assert_int_equal(j.nrefs, 11);
	b->server->asleep = 0;
	settle(b);
	assert_int_equal(entries(b, &j), 1);
	assert_int_equal(j.nrefs, 1);
	assert_memory_equal(j.refs[0], missing, ERIS_REF);
	counts(b, 11, 10, 10);
	unmake(b);
}

/* Nobody knows which: all are put, and all have to be looked at once more. */
static void
unknown(void **state)
{
	struct bed *b = make(KUBO);
	struct journal_entry j;

	(void)state;
	begin(b, PUBLIC, 1);
	heal_missed(&b->f, NULL);
	give(b, 0, NULL);
	give(b, 0, NULL);
	settle(b);
	counts(b, 2, 2, 2);
	heal_end(&b->f, 1);
	assert_int_equal(entries(b, &j), 1);
	assert_int_equal(j.all, 1);
	unmake(b);
}

/* Nothing is asked of the daemon, and nothing written down. */
static void
nothing(struct bed *b)
{
	for (int i = 0; i < 20; i++)
		turn(b);
	heal_end(&b->f, 1);
	assert_int_equal(b->server->puts + b->server->imports, 0);
	assert_int_equal(entries(b, NULL), 0);
}

/* IPFS was not asked for it: nothing, as long as it seems to have all; else it is looked first whether it is there. */
static void
unsure(void **state)
{
	static uint8_t there[ERIS_LARGE];
	struct bed *b = make(KUBO);
	uint8_t early[ERIS_REF], refs[50][ERIS_REF];
	struct journal_entry j;

	(void)state;
	begin(b, PUBLIC, 1);
	for (int i = 0; i < 3; i++)
		give(b, UNSURE, NULL);
	nothing(b);
	assert_int_equal(b->server->stats, 0);
	begin(b, PUBLIC, 1);
	give(b, UNSURE, early);
	give(b, MISSED, NULL);
	memset(there, 0x5a, sizeof there);
	memcpy(there, &b->next, sizeof b->next);
	server_add(b->server, there, sizeof there);
	for (int i = 0; i < 50; i++)
		give(b, i == 20 ? SUSPECT : UNSURE, refs[i]);
	settle(b);
	assert_int_equal(b->server->stats, 50);
	for (int i = 0; i < 50; i++)
		assert_true(server_has(b->server, refs[i]));
	counts(b, 50, 50, 50);
	assert_true(b->server->puts + b->server->imports < 40); /* many at a time */
	heal_end(&b->f, 1);
	assert_int_equal(entries(b, &j), 1); /* it was not looked for */
	assert_int_equal(j.all, 0);
	assert_int_equal(j.nrefs, 1);
	assert_memory_equal(j.refs[0], early, ERIS_REF);
	unmake(b);
}

/* The questions are under way when the nar is there: that is no reason to wait, and the entry gets shorter later. */
static void
unsure_later(void **state)
{
	struct bed *b = make(KUBO);
	struct journal_entry j;

	(void)state;
	b->server->asleep = 1;
	begin(b, PUBLIC, 1);
	for (int i = 0; i < 200; i++)
		give(b, SUSPECT, NULL);
	turn(b);
	counts(b, 0, 0, 0);
	heal_end(&b->f, 1);
	assert_int_equal(entries(b, &j), 1);
	b->server->asleep = 0;
	settle(b);
	assert_int_equal(entries(b, &j), 1);
	if (j.all)
		assert_true(b->server->n >= 128);
	begin(b, PUBLIC "b", 1);
	b->server->asleep = 1;
	for (int i = 0; i < 20; i++)
		give(b, SUSPECT, NULL);
	heal_end(&b->f, 1);
	assert_int_equal(entries(b, NULL), 2);
	b->server->asleep = 0;
	settle(b);
	assert_int_equal(entries(b, NULL), 1);
	unmake(b);
}

/* Who may only put is not asked again; who breaks off leaves it to the journal. */
static void
unsure_without_an_answer(void **state)
{
	struct bed *b = make(PUT_ONLY);

	(void)state;
	begin(b, PUBLIC, 1);
	for (int i = 0; i < 20; i++)
		give(b, SUSPECT, NULL);
	settle(b);
	assert_int_equal(b->server->n, 20);
	heal_end(&b->f, 1);
	assert_int_equal(entries(b, NULL), 0);
	unmake(b);
	b = make(BROKEN);
	begin(b, PUBLIC, 1);
	for (int i = 0; i < 20; i++)
		give(b, SUSPECT, NULL);
	for (int i = 0; i < 20; i++)
		turn(b);
	counts(b, 0, 0, 0);
	heal_end(&b->f, 1);
	assert_int_equal(entries(b, NULL), 1);
	unmake(b);
}

static void
not_put(void **state)
{
	static const char *const places[] = { "http://user:secret@192.0.2.1/nar/a", "http://user@192.0.2.1/a",
		"http://127.0.0.1/a", "http://10.1.2.3/a", "http://[::1]/a", "http://[fe80::1]/a", "http://[fd00::1]/a",
		"http://localhost/a", "http://192.168.0.1/a", "http://172.20.0.1/a", "http://169.254.1.1/a" };
	struct bed *b = make(KUBO);

	(void)state;
	for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
		begin(b, places[i], 1);
		give(b, 1, NULL);
		nothing(b);
		counts(b, 1, 1, 0);
	}
	begin(b, PUBLIC, 0); /* whoever calls knows of something private */
	give(b, 1, NULL);
	nothing(b);
	begin(b, PUBLIC, 1);
	give(b, 1, NULL);
	heal_forbid(&b->f);
	give(b, 1, NULL);
	nothing(b);
	begin(b, PUBLIC, 1);
	give(b, 0, NULL); /* not missed */
	nothing(b);
	configure(b, "seed", "none");
	begin(b, PUBLIC, 1);
	give(b, 1, NULL);
	nothing(b);
	unmake(b);
}

/* Questions are under way when the nar turns out to be private: nothing of it is put. */
static void
private_while_asked(void **state)
{
	struct bed *b = make(KUBO);

	(void)state;
	b->server->asleep = 1;
	begin(b, PUBLIC, 1);
	for (int i = 0; i < 20; i++)
		give(b, SUSPECT, NULL);
	for (int i = 0; i < 5; i++)
		turn(b);
	heal_forbid(&b->f);
	b->server->asleep = 0;
	settle(b);
	heal_end(&b->f, 1);
	assert_true(b->server->stats > 0);
	assert_int_equal(b->server->puts + b->server->imports, 0);
	unmake(b);
}

/* One block stands in the nar twice and comes twice before it is put; another one was missed, and does not come. */
static void
repeated(void **state)
{
	struct bed *b = make(KUBO);
	uint8_t other[ERIS_REF] = { 1, 2, 3 };
	struct journal_entry j;

	(void)state;
	for (int what = MISSED; what <= SUSPECT; what += SUSPECT - MISSED) {
		b->server->asleep = 1;
		begin(b, PUBLIC, 1);
		heal_missed(&b->f, other);
		give(b, what, NULL);
		b->next--;
		for (int i = 0; i < 5; i++)
			turn(b);
		give(b, what, NULL);
		b->server->asleep = 0;
		settle(b);
		counts(b, 2, 1, 1);
		heal_end(&b->f, 1);
		assert_int_equal(entries(b, &j), what == MISSED ? 1 : 2);
		assert_int_equal(j.nrefs, 1);
		assert_memory_equal(j.refs[0], other, ERIS_REF);
	}
	unmake(b);
}

/* Where a name leads counts, also when that is known only later. */
static void
names(void **state)
{
	struct bed *b = make(KUBO);
	const char *none;
	struct host *h;

	(void)state;
	begin(b, "http://cache.example.org/nar/a", 1);
	b->server->asleep = 1;
	give(b, 1, NULL);
	assert_int_equal(hosts_need(&b->f.hosts, "cache.example.org", b->f.now, &none), HOST_WAITING);
	h = &b->f.hosts.hosts[0];
	strcpy(h->addresses, "[2001:db8::1],10.0.0.1");
	h->known_ms = b->f.now;
	give(b, 1, NULL);
	b->server->asleep = 0;
	nothing(b);
	strcpy(h->addresses, "[2001:db8::1],203.0.113.7");
	begin(b, "http://cache.example.org/nar/a", 1);
	give(b, 1, NULL);
	settle(b);
	counts(b, 1, 1, 1);
	heal_end(&b->f, 1);
	unmake(b);
}

/* More are missed than are told apart: still only those are put and counted. */
static void
very_many(void **state)
{
	struct bed *b = make(KUBO);
	uint8_t ref[ERIS_REF] = { 1 };
	struct journal_entry j;

	(void)state;
	begin(b, PUBLIC, 1);
	for (unsigned i = 0; i < 4096; i++) {
		memcpy(ref, &i, sizeof i);
		ref[31] = 1;
		heal_missed(&b->f, ref);
	}
	give(b, 1, NULL);
	give(b, 0, NULL);
	give(b, 1, NULL);
	settle(b);
	counts(b, 4098, 2, 2);
	heal_end(&b->f, 1);
	assert_int_equal(entries(b, &j), 1);
	assert_int_equal(j.all, 1);
	unmake(b);
}

static void
seed_all(void **state)
{
	struct bed *b = make(KUBO);

	(void)state;
	configure(b, "seed", "all");
	begin(b, PUBLIC, 1);
	for (int i = 0; i < 5; i++)
		give(b, i == 0, NULL);
	settle(b);
	counts(b, 1, 1, 5);
	heal_end(&b->f, 1);
	assert_int_equal(entries(b, NULL), 0);
	unmake(b);
}

/* Without success nothing is written down. */
static void
no_success(void **state)
{
	struct bed *b = make(REFUSES);

	(void)state;
	begin(b, PUBLIC, 1);
	give(b, 1, NULL);
	turn(b);
	heal_end(&b->f, 0);
	assert_int_equal(entries(b, NULL), 0);
	begin(b, PUBLIC, 1);
	give(b, 1, NULL);
	begin(b, PUBLIC, 1);
	heal_end(&b->f, 1);
	assert_int_equal(entries(b, NULL), 0);
	unmake(b);
}

/* Nobody there: an entry if the admin said that there is a daemon, else the machine has none. */
static void
nobody(void **state)
{
	struct bed *b = make(KUBO);

	(void)state;
	shutdown(b->server->fd, SHUT_RDWR);
	for (int said = 0; said < 2; said++) {
		b->f.blocks->said_ipfs = (uint8_t)said;
		begin(b, PUBLIC, 1);
		give(b, 1, NULL);
		settle(b);
		give(b, 1, NULL);
		assert_false(heal_busy(&b->f));
		heal_end(&b->f, 1);
		assert_int_equal(entries(b, NULL), said);
	}
	unmake(b);
}

/* More nars than there are places for them. */
static void
many_nars(void **state)
{
	struct bed *b = make(KUBO);

	(void)state;
	b->server->asleep = 1;
	for (int i = 0; i < 40; i++) {
		begin(b, PUBLIC, 1);
		for (int k = 0; k < 3; k++)
			give(b, 1, NULL);
		turn(b);
		heal_end(&b->f, 1);
	}
	assert_int_equal(entries(b, NULL), 40);
	b->server->asleep = 0;
	settle(b);
	assert_true(entries(b, NULL) < 40);
	unmake(b);
}

static void
private_places(void **state)
{
	static const char *const private[] = { "127.0.0.1", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
		"169.254.0.1",
		"100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fec0::1",
		"fc00::1", "fdff::1", "ff02::1",
		"::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "::127.0.0.1", "64:ff9b:1::1", "2002:7f00:1::", "2001::1", "100::1",
		"4000::1", "168.63.129.16" };
	static const char *const public[] = { "1.1.1.1", "172.32.0.1", "172.15.0.1", "192.169.0.1", "100.128.0.1",
		"11.0.0.1",
		"2001:db8::1", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "example.org", "" };

	(void)state;
	for (size_t i = 0; i < sizeof private / sizeof private[0]; i++)
		if (!private_address(private[i]) || !private_name(private[i]))
			fail_msg("%s", private[i]);
	for (size_t i = 0; i < sizeof public / sizeof public[0]; i++)
		if (private_address(public[i]))
			fail_msg("%s", public[i]);
	assert_true(private_list("1.1.1.1,10.0.0.1"));
	assert_true(private_list("[::1]"));
	assert_true(private_list("[2001:db8::1],[fe80::1],1.1.1.1"));
	assert_false(private_list("[2001:db8::1],1.1.1.1"));
	assert_false(private_list(""));
	assert_true(private_name("cache"));
	assert_true(private_name("cache.lan") && private_name("a.localdomain") && private_name("cache.home.") && private_name("x.corp"));
	assert_true(private_name("a.b.local"));
	assert_true(private_name("a.localhost."));
	assert_false(private_name("cache.example.org"));
	assert_false(private_name("1.1.1.1"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kubo),
		cmocka_unit_test(js_ipfs),
		cmocka_unit_test(only_put),
		cmocka_unit_test(nothing_of_a_car),
		cmocka_unit_test(refused),
		cmocka_unit_test(may_only_be_read),
		cmocka_unit_test(breaks_off),
		cmocka_unit_test(sleeps),
		cmocka_unit_test(shortened),
		cmocka_unit_test(unknown),
		cmocka_unit_test(unsure),
		cmocka_unit_test(unsure_later),
		cmocka_unit_test(unsure_without_an_answer),
		cmocka_unit_test(not_put),
		cmocka_unit_test(private_while_asked),
		cmocka_unit_test(repeated),
		cmocka_unit_test(names),
		cmocka_unit_test(very_many),
		cmocka_unit_test(seed_all),
		cmocka_unit_test(no_success),
		cmocka_unit_test(nobody),
		cmocka_unit_test(many_nars),
		cmocka_unit_test(private_places),
	};

	return cmocka_run_group_tests_name("heal", tests, NULL, NULL);
}
