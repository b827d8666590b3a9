/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: what indexes say, narinfos out of manifests, and probes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/web_bed.h"

#include "helper/eris/block.h"
#include "helper/eris/urn.h"
#include "helper/fetch/index.h"
#include "helper/fetch/lookup.h"
#include "helper/ipfs/manifest.h"

#define HASH "0123456789abcdfghijklmnpqrsvwxyz"
#define PATH "StorePath: /gnu/store/" HASH "-hello-2.12\n"
#define NARINFO "StorePath: /gnu/store/" HASH "-hello-2.12\nURL: nar/x\nSignature: none\n"

/* A nar of one leaf and its manifest. */
struct nar {
	struct eris_cap cap;
	uint8_t block[ERIS_LARGE];
	uint8_t root[ERIS_REF];
	uint8_t node[2048];
	size_t node_len;
	char urn[URN_LEN + 1], cid[MANIFEST_CID_LEN + 1];
};

static struct nar nar;

static int
keep_node(void *ctx, enum car_kind kind, const uint8_t hash[ERIS_REF], const uint8_t *data, size_t len, struct err *e)
{
	assert_int_equal(kind, CAR_NODE); /* one block is the file */
	(void)ctx;
	(void)e;
	memcpy(nar.root, hash, ERIS_REF);
	memcpy(nar.node, data, len);
	nar.node_len = len;
	return 0;
}

static void
make_nar(const char *narinfo)
{
	uint8_t cap[ERIS_CAP];
	struct manifest_writer *w;
	struct err e;

	block_leaf(nar.block, &nar.cap.root, (const uint8_t *)"content", 7, ERIS_LARGE);
	nar.cap.block_size = ERIS_LARGE;
	nar.cap.level = 0;
	urn_to_bytes(cap, &nar.cap);
	urn_format(nar.urn, &nar.cap);
	w = manifest_new(ERIS_LARGE, keep_node, NULL, &e);
	assert_non_null(w);
	assert_int_equal(manifest_add(w, nar.cap.root.ref, &e), 0);
	assert_int_equal(manifest_end(w, cap, (const uint8_t *)narinfo, strlen(narinfo), nar.root, &e), 0);
	manifest_free(w);
	manifest_cid_format(nar.cid, nar.root);
}

/* --- Text -------------------------------------------------------------------------------------------- */

static int
parse(struct index_answer *a, const char *text, char why[400])
{
	struct err e = { 0 };
	int rc = indextext_parse(a, text, strlen(text), HASH, &e);

	snprintf(why, 400, "%s", e.text);
	return rc;
}

static void
text(void **state)
{
	char t[2000], why[400];
	struct index_answer a;

	(void)state;
	snprintf(t, sizeof t, PATH "URL: nar/lzip/a\nCompression: lzip\nFileSize: 12\nERIS: %s\nERIS-Manifest: %s\nOther: x\n"
	    "URL: nar/a\nERIS: %s\nURL: nar/c\nCompression: gzip\nFileSize: 3\n"
	    "URL: nar/d\nCompression: brotli\nERIS: %s\nURL: nar/e\nCompression: zstd\nERIS-Manifest: %s\n"
	    "URL: nar/f\nERIS: urn:erisx2:AAAA\n", nar.urn, nar.cid, nar.urn, nar.urn, nar.cid);
	assert_int_equal(parse(&a, t, why), 0);
	assert_int_equal(a.n, 3); /* not: without a name, of an unknown method, of an old encoding */
	assert_int_equal(a.groups[0].method, METHOD_LZIP);
	assert_int_equal(a.groups[0].file_size, 12);
	assert_true(a.groups[0].has_cap && a.groups[0].has_manifest);
	assert_memory_equal(&a.groups[0].cap.root, &nar.cap.root, sizeof nar.cap.root);
	assert_memory_equal(a.groups[0].manifest, nar.root, ERIS_REF);
	assert_true(a.groups[1].method == METHOD_NONE && a.groups[1].has_cap && !a.groups[1].has_manifest);
	assert_true(a.groups[2].method == METHOD_ZSTD && !a.groups[2].has_cap && a.groups[2].has_manifest);
	assert_ptr_equal(indextext_match(&a, METHOD_LZIP, 12), &a.groups[0]);
	assert_ptr_equal(indextext_match(&a, METHOD_LZIP, 0), &a.groups[0]);
	assert_null(indextext_match(&a, METHOD_LZIP, 13));
	assert_null(indextext_match(&a, METHOD_GZIP, 3));
	assert_ptr_equal(indextext_match(&a, METHOD_NONE, 99), &a.groups[1]);
	/* Nothing to tell is no error. */
	assert_int_equal(parse(&a, PATH, why), 0);
	assert_int_equal(a.n, 0);
}

static void
bad_text(void **state)
{
	static const char *const bad[] = { "", "\n", "URL: nar/x\n", PATH "URL: nar/x", PATH PATH, PATH "Compression: none\n",
	    PATH "ERIS: x\n", PATH "URL: a\nCompression: none\nCompression: none\n", PATH "URL: a\nFileSize: \n",
	    PATH "URL: a\nFileSize: -1\n", PATH "URL: a\nFileSize: 1234567890123456\n", PATH "no field\n", PATH "A:b\n",
	    PATH ": b\n", PATH "URL: a\x01\n", PATH "URL: \xff\n", PATH "\n", PATH "URL: a\r\n",
	    "StorePath: /gnu/store/0123456789abcdfghijklmnpqrsvwxyy-x\n", "StorePath: " HASH "-x\n",
	    "StorePath: /gnu/store/" HASH "\n", "StorePath: \n" };
	char t[2000], why[400], *big = malloc(INDEX_MAX + 2);
	struct index_answer a;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (parse(&a, bad[i], why) == 0 || why[0] == '\0')
			fail_msg("accepted: %s", bad[i]);
	snprintf(t, sizeof t, PATH "URL: a\nERIS: %s\nERIS: %s\n", nar.urn, nar.urn);
	assert_int_equal(parse(&a, t, why), -1);
	/* Too long: all of it, one line. */
	assert_non_null(big);
	memset(big, 'a', INDEX_MAX + 1);
	memcpy(big, PATH "X: ", sizeof PATH + 2);
	big[INDEX_MAX] = '\n';
	big[INDEX_MAX + 1] = '\0';
	assert_int_equal(parse(&a, big, why), -1);
	big[LIMIT_NARINFO_LINE + sizeof PATH] = '\n';
	big[LIMIT_NARINFO_LINE + sizeof PATH + 1] = '\0';
	assert_int_equal(parse(&a, big, why), -1);
	free(big);
}

static void
many_groups(void **state)
{
	char *t = calloc(1, INDEX_MAX), *p = t, why[400];
	struct index_answer a;

	(void)state;
	assert_non_null(t);
	p += sprintf(p, PATH);
	for (int i = 0; i < 40; i++)
		p += sprintf(p, "URL: nar/%d\nERIS: %s\n", i, nar.urn);
	assert_int_equal(parse(&a, t, why), 0);
	assert_int_equal(a.n, INDEX_GROUPS);
	free(t);
}

/* --- Servers ----------------------------------------------------------------------------------------- */

enum way { GOOD, ABSENT, SILENT, WRONG, DROPS };

/* An index, and a source of blocks of any kind. */
struct script {
	enum way index, node, block;
	unsigned delay_ms;
};

static int
answer(struct web *web, int conn, const char *request)
{
	struct script *s = web->ctx;
	int is_index = strstr(request, "GET /eris/" HASH " ") != NULL;
	char ref[URN_REF_LEN + 1], t[1000];
	enum way way;
	int is_node;

	urn_ref_format(ref, nar.root);
	is_node = strstr(request, nar.cid) != NULL || strstr(request, ref) != NULL;
	way = is_index ? s->index : is_node ? s->node : s->block;
	usleep(s->delay_ms * 1000);
	snprintf(t, sizeof t, PATH "URL: nar/zstd/x\nCompression: zstd\nERIS: %s\nERIS-Manifest: %s\n", nar.urn, nar.cid);
	switch (way) {
	case ABSENT:
		return web_reply(conn, "404 Not Found", "", "no", 2);
	case SILENT:
		return recv(conn, t, 1, 0) > 0;
	case DROPS:
		return 0;
	case WRONG:
		t[0] = 'x';
		return is_index ? web_reply(conn, "200 OK", "", t, strlen(t)) :
		    web_reply(conn, "200 OK", "", is_node ? nar.block : nar.block + 1, is_node ? 100 : ERIS_LARGE - 1);
	default:
		break;
	}
	if (is_index)
		return web_reply(conn, "200 OK", "", t, strlen(t));
	return is_node ? web_reply(conn, "200 OK", "", nar.node, nar.node_len) :
	    web_reply(conn, "200 OK", "", nar.block, sizeof nar.block);
}

struct world {
	struct fetch *fetch;
	int broker;
	struct web *web[2];
	struct script script[2];
};

static struct world *
new_world(void)
{
	struct world *w = calloc(1, sizeof *w);
	struct err e;

	assert_non_null(w);
	w->fetch = web_fetch(&w->broker);
	assert_int_equal(lookup_init(w->fetch, &e), 0);
	for (int i = 0; i < 2; i++) {
		w->web[i] = web_new(answer, &w->script[i]);
		web_server(w->fetch, w->web[i]->url, SERVER_INDEX);
	}
	return w;
}

static void
free_world(struct world *w)
{
	lookup_free(w->fetch);
	web_fetch_free(w->fetch, w->broker);
	web_free(w->web[0]);
	web_free(w->web[1]);
	free(w);
}

static enum index_state
ask_index(struct world *w, uint64_t *took)
{
	struct err e;
	struct index_query *q = index_new(w->fetch, HASH, 1000, &e);
	uint64_t start = web_now();
	const struct index_answer *a = NULL;
	enum index_state state;

	assert_non_null(q);
	while ((state = index_pump(q, &a)) == INDEX_WAITS && web_now() < start + 3000)
		web_turn(w->fetch);
	*took = web_now() - start;
	if (state == INDEX_FOUND)
		assert_non_null(indextext_match(a, METHOD_ZSTD, 0));
	index_free(q);
	return state;
}

static void
orders(void **state)
{
	struct world *w = new_world();
	uint64_t took;
	struct err e;

	(void)state;
	assert_int_equal(ask_index(w, &took), INDEX_FOUND);
	assert_true(took < 400);
	w->script[0].index = ABSENT;
	assert_int_equal(ask_index(w, &took), INDEX_FOUND);
	w->script[1].index = WRONG;
	assert_int_equal(ask_index(w, &took), INDEX_NOTHING);
	assert_true(took < 400);
	w->script[0].index = SILENT;
	w->script[1].index = GOOD;
	assert_int_equal(ask_index(w, &took), INDEX_FOUND);
	assert_true(took >= 450 && took < 900);
	w->script[1].index = SILENT;
	assert_int_equal(ask_index(w, &took), INDEX_NOTHING);
	assert_true(took >= 950 && took < 1500);
	/* Nor does it cost that time for ever. */
	assert_int_equal(w->fetch->servers[0].silent, 1);
	assert_int_equal(ask_index(w, &took), INDEX_NOTHING);
	assert_null(index_new(w->fetch, HASH, 1000, &e));
	w->fetch->servers[0].kind = w->fetch->servers[1].kind = SERVER_TRUSTED;
	assert_null(index_new(w->fetch, HASH, 1000, &e));
	free_world(w);
}

/* A LOOKUP at the first server: the status of its end; the narinfo into TEXT. */
static int
look_up(struct world *w, char *out)
{
	struct wire_msg m = { .type = MSG_LOOKUP, .id = 9 };
	uint64_t stop = web_now() + 3000;
	uint8_t frame[LIMIT_FRAME];
	struct err e;

	memcpy(m.hash_part, HASH, HASH_PART_BYTES);
	assert_int_equal(lookup_add(w->fetch, &m, &e), 0);
	out[0] = '\0';
	while (web_now() < stop) {
		lookup_pump(w->fetch);
		web_turn(w->fetch);
		while (wire_recv(w->broker, &m, frame, NULL, MSG_DONTWAIT, &e) == 1) {
			if (m.type == MSG_NARINFO_PART)
				snprintf(out, 400, "%.*s", (int)m.blob.len, (const char *)m.blob.data);
			else if (m.type == MSG_NARINFO_END)
				return m.status;
		}
	}
	return -1;
}

static void
narinfo_in_manifest(void **state)
{
	static const char *const kinds[] = { "ipfs", "ipfs-gateway", "block-server" };
	char out[400];

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct world *w = new_world();

		web_source(w->fetch, kinds[i], w->web[1]->url);
		assert_int_equal(look_up(w, out), NARINFO_FOUND);
		assert_string_equal(out, NARINFO);
		assert_int_equal(web_count(w->web[0], "GET /eris/" HASH " "), 1);
		free_world(w);
	}
}

static void
no_narinfo(void **state)
{
	struct world *w = new_world();
	char out[400];

	(void)state;
	assert_int_equal(look_up(w, out), NARINFO_ABSENT); /* no source */
	web_source(w->fetch, "ipfs-gateway", w->web[1]->url);
	w->script[1].node = ABSENT;
	assert_int_equal(look_up(w, out), NARINFO_ABSENT);
	w->script[0].index = WRONG;
	assert_int_equal(look_up(w, out), NARINFO_FAILED);
	w->script[0].index = ABSENT;
	assert_int_equal(look_up(w, out), NARINFO_ABSENT);
	w->script[0].index = GOOD;
	w->script[1].node = GOOD;
	make_nar(""); /* a manifest without a narinfo */
	assert_int_equal(look_up(w, out), NARINFO_ABSENT);
	make_nar(NARINFO);
	w->script[1].node = WRONG;
	assert_int_equal(look_up(w, out), NARINFO_ABSENT);
	assert_true(w->fetch->blocks->sources[0].dead_until == UINT64_MAX);
	free_world(w);
}

/* --- Probes ------------------------------------------------------------------------------------------ */

static void
add_probe(struct world *w, uint32_t id, const char *urn, const char *cid)
{
	struct wire_msg m = { .type = MSG_PROBE, .id = id, .text = wire_str(urn), .text2 = wire_str(cid) };
	struct err e;

	assert_int_equal(probe_add(w->fetch, &m, &e), 0);
}

/* The next PROBED: its status; *ID. */
static int
probed(struct world *w, uint32_t *id, uint64_t *took)
{
	uint64_t start = web_now();
	uint8_t frame[LIMIT_FRAME];
	struct wire_msg m;
	struct err e;

	while (web_now() < start + 3000) {
		probe_pump(w->fetch);
		while (wire_recv(w->broker, &m, frame, NULL, MSG_DONTWAIT, &e) == 1) {
			if (m.type != MSG_PROBED)
				continue;
			*id = m.id;
			*took = web_now() - start;
			return m.status;
		}
		web_turn(w->fetch);
	}
	return -1;
}

static int
probe(struct world *w, const char *urn, const char *cid, uint64_t *took)
{
	uint32_t id = 0;
	int status;

	add_probe(w, 77, urn, cid);
	status = probed(w, &id, took);
	assert_int_equal(id, 77);
	return status;
}

static void
probes(void **state)
{
	struct world *w = new_world();
	uint64_t took;

	(void)state;
	assert_int_equal(probe(w, nar.urn, nar.cid, &took), PROBE_ABSENT); /* no sources */
	assert_true(took < 200);
	web_source(w->fetch, "ipfs", w->web[0]->url);
	web_source(w->fetch, "block-server", w->web[1]->url);
	assert_int_equal(probe(w, nar.urn, nar.cid, &took), PROBE_FOUND);
	assert_int_equal(probe(w, nar.urn, "", &took), PROBE_FOUND);
	assert_int_equal(probe(w, "", nar.cid, &took), PROBE_FOUND);
	assert_int_equal(probe(w, "", "", &took), PROBE_ABSENT);
	assert_int_equal(probe(w, "urn:eris:nonsense", "bafy", &took), PROBE_ABSENT);
	w->script[0].node = w->script[1].node = ABSENT;
	assert_int_equal(probe(w, "", nar.cid, &took), PROBE_ABSENT);
	assert_int_equal(probe(w, nar.urn, nar.cid, &took), PROBE_FOUND);
	/* The first says nothing: the second is asked soon. */
	w->script[0].block = w->script[0].node = SILENT;
	assert_int_equal(probe(w, nar.urn, "", &took), PROBE_FOUND);
	assert_true(took >= 250 && took < 580);
	w->script[1].block = ABSENT;
	assert_int_equal(probe(w, nar.urn, "", &took), PROBE_ABSENT);
	assert_true(took >= 550 && took < 900);
	free_world(w);
}

static void
bad_sources(void **state)
{
	struct world *w = new_world();
	uint64_t took;

	(void)state;
	web_source(w->fetch, "ipfs-gateway", w->web[0]->url);
	web_source(w->fetch, "ipfs", w->web[1]->url);
	w->script[0].block = WRONG;
	assert_int_equal(probe(w, nar.urn, "", &took), PROBE_FOUND);
	assert_true(w->fetch->blocks->sources[0].dead_until == UINT64_MAX);
	/* One that was never heard of and says nothing costs its time once. */
	w->script[1].block = SILENT;
	w->fetch->blocks->sources[1].reached = 0;
	assert_int_equal(probe(w, nar.urn, "", &took), PROBE_ABSENT);
	assert_true(took >= 550);
	assert_int_equal(probe(w, nar.urn, "", &took), PROBE_ABSENT);
	assert_true(took < 100);
	/* So does one where nobody is. */
	w->fetch->blocks->sources[1].dead_until = 0;
	shutdown(w->web[1]->fd, SHUT_RDWR);
	for (unsigned i = 0; i < w->web[1]->nconnections; i++)
		shutdown(w->web[1]->conns[i], SHUT_RDWR);
	assert_int_equal(probe(w, nar.urn, "", &took), PROBE_ABSENT);
	assert_true(took < 200);
	assert_true(w->fetch->blocks->sources[1].dead_until > w->fetch->now);
	free_world(w);
}

static void
many_probes(void **state)
{
	struct world *w = new_world();
	uint64_t took, all = 0;
	uint32_t id, sum = 0;
	struct wire_msg m = { .type = MSG_PROBE };
	struct err e;

	(void)state;
	web_source(w->fetch, "block-server", w->web[0]->url);
	w->script[0].delay_ms = 50;
	for (uint32_t i = 1; i <= 40; i++)
		add_probe(w, i, nar.urn, "");
	for (int i = 0; i < 40; i++) {
		assert_int_equal(probed(w, &id, &took), PROBE_FOUND);
		all += took;
		sum += id;
	}
	assert_int_equal(sum, 40 * 41 / 2);
	assert_true(all >= 40 / PROBE_FLIGHTS * 50 && all < 1500);
	for (int i = 0; i < LIMIT_LOOKUPS; i++)
		assert_int_equal(probe_add(w->fetch, &m, &e), 0);
	assert_int_equal(probe_add(w->fetch, &m, &e), -1);
	free_world(w);
}

static void
another_manifest(void **state)
{
	struct world *w = new_world();
	char urn[URN_LEN + 1];
	struct eris_cap cap = nar.cap;
	uint64_t took;

	(void)state;
	web_source(w->fetch, "ipfs", w->web[0]->url);
	cap.root.ref[3] ^= 1;
	urn_format(urn, &cap);
	w->script[0].block = ABSENT;
	assert_int_equal(probe(w, urn, nar.cid, &took), PROBE_ABSENT);
	free_world(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text), cmocka_unit_test(bad_text), cmocka_unit_test(many_groups), cmocka_unit_test(orders),
		cmocka_unit_test(narinfo_in_manifest), cmocka_unit_test(no_narinfo), cmocka_unit_test(probes),
		cmocka_unit_test(bad_sources), cmocka_unit_test(many_probes), cmocka_unit_test(another_manifest),
	};
	struct err e;

	if (block_init(&e) != 0)
		return 1;
	make_nar(NARINFO);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
