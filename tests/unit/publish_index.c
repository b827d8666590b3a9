/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: narlock-publish: the index: every block of every nar is found and is right; changes, damage,
 * SIGKILL. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "helper/eris/block.h"
#include "helper/eris/encode.h"
#include "helper/publish/build.h"
#include "helper/publish/catalog.h"
#include "helper/publish/pack.h"
#include "helper/publish/place.h"
#include "helper/publish/scan.h"
#include "helper/publish/tool.h"

struct bed {
	char dir[64], cache[96], index[96];
	int fd; /* of the cache */
	struct catalog *catalog;
	struct err e;
};

static const char digits[] = "0123456789abcdfghijklmnpqrsvwxyz";

static uint64_t
next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33;
}

/* An item's base name, the same for the same number. */
static void
item_name(char name[80], unsigned n)
{
	uint64_t state = n + 1;

	for (unsigned i = 0; i < 32; i++)
		name[i] = digits[next_random(&state) % 32];
	snprintf(name + 32, 48, "-item-%u", n);
}

static void
write_file(const struct bed *b, const char *name, const void *data, size_t len)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", b->cache, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

/* Bytes of the nar N, the same for the same seed. */
static uint8_t *
content(size_t len, uint64_t seed)
{
	uint8_t *data = malloc(len + 8);

	assert_non_null(data);
	for (size_t i = 0; i < len; i += 4) {
		uint32_t r = (uint32_t)next_random(&seed);

		memcpy(data + i, &r, 4);
	}
	return data;
}

static void
put_item(const struct bed *b, unsigned n, size_t len, uint64_t seed)
{
	uint8_t *data = content(len, seed);
	char name[80], path[128], text[1024];
	int size;

	item_name(name, n);
	snprintf(path, sizeof path, "zstd/%s.nar", name);
	write_file(b, path, data, len);
	free(data);
	snprintf(path, sizeof path, "zstd/%s.narinfo", name);
	size = snprintf(text, sizeof text,
	    "StorePath: /gnu/store/%s\nNarHash: sha256:0\nNarSize: 1\nReferences: \nSignature: 1;x;y\n"
	    "URL: nar/zstd/%s\nCompression: zstd\nFileSize: %zu\n", name, name, len);
	write_file(b, path, text, (size_t)size);
}

static int
setup(void **state)
{
	struct bed *b = calloc(1, sizeof *b);
	char sub[128];

	assert_non_null(b);
	strcpy(b->dir, "/tmp/narlock-publish-XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	snprintf(b->cache, sizeof b->cache, "%s/cache", b->dir);
	snprintf(b->index, sizeof b->index, "%s/index.sqlite", b->dir);
	assert_int_equal(mkdir(b->cache, 0755), 0);
	snprintf(sub, sizeof sub, "%s/zstd", b->cache);
	assert_int_equal(mkdir(sub, 0755), 0);
	b->fd = open(b->cache, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(b->fd >= 0);
	assert_int_equal(block_init(&b->e), 0);
	b->catalog = catalog_open(b->index, 1, &b->e);
	assert_non_null(b->catalog);
	*state = b;
	return 0;
}

static int
teardown(void **state)
{
	struct bed *b = *state;
	char command[128];

	catalog_close(b->catalog);
	close(b->fd);
	snprintf(command, sizeof command, "rm -rf %s", b->dir);
	assert_int_equal(system(command), 0);
	free(b);
	return 0;
}

static void
update(struct bed *b, unsigned threads)
{
	struct scan s = { .catalog = b->catalog, .cache = b->fd };
	struct build_options o = { .catalog = b->catalog, .cache = b->fd, .threads = threads };
	struct build_report r;

	if (scan_all(&s, &b->e) != 0 || build_run(&o, &r, &b->e) != 0)
		fail_msg("%s", b->e.text);
}

/* --- Every block -------------------------------------------------------------------------------------- */

struct expected {
	struct place *place;
	struct manifest_entry *entries;
	size_t n;
	unsigned missing;
};

static int
expect_block(void *ctx, const struct encode_block *b, struct err *e)
{
	struct expected *x = ctx;
	struct place_job job;
	uint8_t *data = malloc(ERIS_LARGE);
	struct eris_pair pair;
	int good = 0;

	assert_non_null(data);
	assert_int_equal(place_begin(x->place, &job, b->pair->ref, e), 0);
	while (!good) {
		enum place_step step = place_load(x->place, &job, data, 1);

		if (step == PLACE_NONE)
			break;
		good = step == PLACE_NODE;
		if (step == PLACE_LEAF) {
			block_seal_leaves(data, 1, ERIS_LARGE, block_null_secret, &pair);
			good = place_check(x->place, &job, pair.ref);
		}
	}
	if (good)
		assert_memory_equal(data, b->data, ERIS_LARGE);
	x->missing += !good;
	free(data);
	if (x->entries != NULL) {
		x->entries[x->n] = (struct manifest_entry){ .offset = b->offset, .level = b->level };
		memcpy(x->entries[x->n++].ref, b->pair->ref, ERIS_REF);
	}
	return 0;
}

static unsigned
missing_blocks(struct bed *b, size_t len, uint64_t seed, struct eris_cap *cap, struct expected *x)
{
	const struct encode_options o = { .block_size = ERIS_LARGE, .sink = expect_block, .ctx = x };
	struct encode *c = encode_new(&o, &b->e);
	uint8_t *data = content(len, seed);

	x->place = place_new(b->fd, b->index, -1, &b->e);
	assert_non_null(x->place);
	assert_int_equal(encode_put(c, data, len, &b->e), 0);
	assert_int_equal(encode_end(c, cap, &b->e), 0);
	encode_free(c);
	free(data);
	place_free(x->place);
	return x->missing;
}

/* A node of the manifest: the index leads to it. */
static int
expect_node(void *ctx, enum car_kind kind, const uint8_t hash[ERIS_REF], const uint8_t *data, size_t len, struct err *e)
{
	struct place *place = ctx;
	struct place_job job;
	uint8_t *block = malloc(ERIS_LARGE);
	enum place_step step;

	assert_int_equal(place_begin(place, &job, hash, e), 0);
	do
		step = place_load(place, &job, block, 1);
	while (step != PLACE_MANIFEST && step != PLACE_NONE);
	assert_int_equal(step, PLACE_MANIFEST);
	assert_int_equal(job.file, kind == CAR_FILE);
	assert_int_equal(job.len, len);
	assert_memory_equal(job.manifest, data, len);
	free(job.manifest);
	free(block);
	return 0;
}

static void
check_item(struct bed *b, unsigned n, size_t len, uint64_t seed)
{
	struct expected x = { .entries = calloc(len / 32000 + 100, sizeof *x.entries) };
	struct place *place = place_new(b->fd, b->index, -1, &b->e);
	struct manifest_writer *w = manifest_new(ERIS_LARGE, expect_node, place, &b->e);
	char name[80], path[256], text[2048];
	uint8_t bytes[ERIS_CAP], root[ERIS_REF];
	struct catalog_nar nar;
	struct eris_cap cap;
	unsigned found;
	FILE *f;
	size_t size;

	assert_int_equal(missing_blocks(b, len, seed, &cap, &x), 0);
	item_name(name, n);
	assert_int_equal(catalog_nars_of(b->catalog, catalog_hash(name), &nar, 1, &found, &b->e), 0);
	assert_int_equal(found, 1);
	assert_int_equal(nar.state, CATALOG_READY);
	assert_int_equal(nar.cap.level, cap.level);
	assert_memory_equal(&nar.cap.root, &cap.root, ERIS_PAIR);
	/* The manifest is the one that anybody makes of the same nar and narinfo, and all of it can be had. */
	snprintf(path, sizeof path, "%s/zstd/%s.narinfo", b->cache, name);
	f = fopen(path, "r");
	assert_non_null(f);
	size = fread(text, 1, sizeof text, f);
	fclose(f);
	qsort(x.entries, x.n, sizeof *x.entries, manifest_compare);
	for (size_t i = 0; i < x.n; i++)
		assert_int_equal(manifest_add(w, x.entries[i].ref, &b->e), 0);
	bytes[0] = 0x0f;
	bytes[1] = cap.level;
	memcpy(bytes + 2, &cap.root, ERIS_PAIR);
	assert_int_equal(manifest_end(w, bytes, (uint8_t *)text, size, root, &b->e), 0);
	assert_true(nar.has_manifest);
	assert_memory_equal(nar.manifest, root, ERIS_REF);
	manifest_free(w);
	place_free(place);
	free(x.entries);
}

/* Sizes around all borders: no leaf, one, two; a node of 511, 512, 513 leaves; two levels. */
static const size_t sizes[] = { 0, 1, 32767, 32768, 32769, 65535, 65536, 511 * 32768, 511 * 32768 + 1,
    512 * 32768 - 1,
	512 * 32768, 513 * 32768, 1025 * 32768 + 5 };
#define SIZES (sizeof sizes / sizeof sizes[0])

static void
every_block(void **state, unsigned threads)
{
	struct bed *b = *state;
	struct catalog_totals t;

	for (unsigned i = 0; i < SIZES; i++)
		put_item(b, i, sizes[i], i);
	update(b, threads);
	for (unsigned i = 0; i < SIZES; i++)
		check_item(b, i, sizes[i], i);
	assert_int_equal(catalog_totals(b->catalog, &t, &b->e), 0);
	assert_int_equal(t.nars, SIZES);
	assert_int_equal(t.ready, SIZES);
	assert_int_equal(catalog_check(b->catalog, &b->e), 0);
	/* Nothing is done twice. */
	update(b, threads);
}

static void
test_every_block(void **state)
{
	every_block(state, 1);
}

static void
test_threads(void **state)
{
	every_block(state, 3);
}

static void
test_numbers(void **state)
{
	(void)state;
	assert_int_equal(catalog_count(0, 0), 1);
	assert_int_equal(catalog_count(0, 1), 0);
	assert_int_equal(catalog_count(512u * 32768, 1), 2);
	assert_int_equal(catalog_count(512u * 32768, 2), 1);
	assert_int_equal(catalog_count(512u * 32768, 3), 0);
	assert_int_equal(catalog_first(512u * 32768, 1), 513);
	assert_int_equal(catalog_first(512u * 32768, 2), 515);
	assert_int_equal(catalog_level(512u * 32768, 512), 0);
	assert_int_equal(catalog_level(512u * 32768, 513), 1);
	assert_int_equal(catalog_level(512u * 32768, 515), 2);
	/* All numbers of the largest nar fit into 24 bits. */
	assert_true(catalog_first((uint64_t)CATALOG_LEAVES * 32768 - 1, 4) < 1 << 24);
	assert_true(catalog_hash("dqsjzl46ccjglf13cnnbpqdrawq2wxvq") > 0);
	assert_true(catalog_hash("dqsjzl46ccjglf13cnnbpqdrawq2wxvq") != catalog_hash("dqsjzl46ccjglf13cnnbpqdrawq2wxvr"));
	assert_true(catalog_hash("eqsjzl46ccjglf13cnnbpqdrawq2wxvq") == -1);
	assert_true(catalog_hash("short") == -1);
}

/* What goes in comes out; a row that was changed in any byte, or cut off, is refused. */
static void
test_packed_keys(void **state)
{
	enum { N = 200 };
	uint8_t keys_in[N * KEYS_SIZE], row[KEYS_ROOM(N)], ref[KEYS_SHORT];
	struct keys_reader r;
	uint64_t seed = 3;
	int64_t last = 1000;
	size_t len;
	unsigned n = 0;

	(void)state;
	for (unsigned i = 0; i < N; i++) {
		/* Steps of every size, also none. */
		last += i % 7 == 0 ? 0 : (int64_t)(next_random(&seed) & ((1u << i % 29) - 1));
		for (unsigned k = 0; k < KEYS_SHORT; k++)
			ref[k] = (uint8_t)(last >> 8 * (KEYS_SHORT - 1 - k));
		keys_make(keys_in + i * KEYS_SIZE, ref, i % 3 == 0 ? UINT32_MAX - N + i : i, i % 5 == 0 ? 0xffffff : i);
		assert_int_equal(keys_ref(keys_in + i * KEYS_SIZE), last);
	}
	len = keys_pack(row, 1000, keys_in, N);
	assert_true(len < sizeof row);
	assert_int_equal(keys_read(&r, 1000, row, len), 0);
	while (keys_next(&r) > 0) {
		uint8_t key[KEYS_SIZE];

		for (unsigned k = 0; k < KEYS_SHORT; k++)
			ref[k] = (uint8_t)(r.last.ref >> 8 * (KEYS_SHORT - 1 - k));
		keys_make(key, ref, r.last.nar, r.last.number);
		assert_memory_equal(key, keys_in + n++ * KEYS_SIZE, KEYS_SIZE);
	}
	assert_int_equal(n, N);
	assert_int_equal(keys_read(&r, 1001, row, len), -1);
	for (size_t i = 0; i < len; i++) {
		assert_int_equal(keys_read(&r, 1000, row, i), -1);
		row[i] ^= 1;
		assert_int_equal(keys_read(&r, 1000, row, len), -1);
		row[i] ^= 1;
	}
	assert_int_equal(keys_read(&r, 1000, row, len), 0);
}

/* Keys in and out of the index in batches of all sizes, and of references that many share: what is found is
 * what a list says. */
static void
test_many_keys(void **state)
{
	enum { REFS = 3000, ROUNDS = 40 };
	struct bed *b = *state;
	uint8_t *all = malloc((size_t)REFS * ERIS_REF), *batch = malloc((size_t)REFS * KEYS_SIZE);
	uint32_t *nar = calloc(REFS, sizeof *nar); /* 0: it is not there */
	uint64_t seed = 8, n;

	assert_true(all != NULL && batch != NULL && nar != NULL);
	for (size_t i = 0; i < (size_t)REFS * ERIS_REF; i++)
		all[i] = (uint8_t)next_random(&seed);
	/* A hundred that differ only behind what is stored. */
	for (size_t i = 1; i < 100; i++)
		memcpy(all + i * ERIS_REF, all, CATALOG_SHORT);
	for (unsigned round = 1; round <= ROUNDS; round++) {
		size_t from = next_random(&seed) % REFS, to = from + next_random(&seed) % (REFS - from) + 1, m = 0;

		assert_int_equal(catalog_begin(b->catalog, &b->e), 0);
		for (size_t i = from; i < to; i++)
			if (nar[i] == 0) {
				nar[i] = round;
				catalog_key(batch + m++ * KEYS_SIZE, all + i * ERIS_REF, round, (uint32_t)i);
			}
		assert_int_equal(catalog_put_keys(b->catalog, batch, m, &b->e), 0);
		/* The same once more changes nothing. */
		assert_int_equal(catalog_put_keys(b->catalog, batch, m, &b->e), 0);
		assert_int_equal(catalog_commit(b->catalog, &b->e), 0);
		m = 0;
		for (size_t i = 0; i < REFS; i++)
			m += nar[i] != 0;
		assert_int_equal(catalog_keys(b->catalog, &n, &b->e), 0);
		assert_int_equal(n, m);
	}
	for (size_t i = 0; i < REFS; i++) {
		struct catalog_place p[CATALOG_PLACES];
		unsigned count, good = 0;

		assert_int_equal(catalog_find(b->catalog, all + i * ERIS_REF, p, &count, &b->e), 0);
		for (unsigned k = 0; k < count; k++)
			good += p[k].nar == nar[i] && p[k].number == i;
		if (i >= 100)
			assert_int_equal(good, nar[i] != 0);
		else
			assert_int_equal(count, CATALOG_PLACES);
	}
	free(all);
	free(batch);
	free(nar);
}

/* An index as an older version wrote it is set aside, and a new one is made. */
static void
test_old_version(void **state)
{
	struct bed *b = *state;
	char command[256];
	struct catalog *c;

	catalog_close(b->catalog);
	b->catalog = NULL;
	for (unsigned version = 1; version < 3; version++) {
		snprintf(command, sizeof command,
		    "python3 -c \"import sqlite3;c=sqlite3.connect('%s');c.execute('pragma user_version=%u')\"", b->index,
		    version);
		assert_int_equal(system(command), 0);
		assert_null(catalog_open(b->index, 1, &b->e));
		assert_int_equal(b->e.code, CATALOG_DAMAGED);
		assert_non_null(strstr(b->e.text, "version"));
	}
	{
		struct conf conf = { 0 };

		strcpy(conf.state, b->dir);
		assert_int_equal(tool_prepare(&conf, &b->e), 0);
	}
	c = catalog_open(b->index, 0, &b->e);
	assert_non_null(c);
	catalog_close(c);
}

/* --- Changes ------------------------------------------------------------------------------------------ */

/* Keys of blocks and roots of manifests, and rows of nodes: six pairs each. */
static uint64_t
keys(struct bed *b)
{
	char command[400];
	unsigned long rows, others;
	uint64_t n;
	FILE *f;

	if (catalog_keys(b->catalog, &n, &b->e) != 0)
		fail_msg("%s", b->e.text);
	/* Counted from outside: there is no function for it.  Nodes of manifests have the largest numbers. */
	snprintf(command, sizeof command,
	    "python3 -c \"import sqlite3;c=sqlite3.connect('%s');q='from node where (id>>7&16777215)%%s16711680';"
	    "print(*c.execute('select count(*) '+q%%'<').fetchone(),"
	    "*c.execute('select coalesce(sum(length(pairs)),0)/64 '+q%%'>=').fetchone())\"", b->index);
	f = popen(command, "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%lu %lu", &rows, &others), 2);
	pclose(f);
	return (n - others) * 1000000 + rows;
}

/* Rows of the nodes of a nar. */
static uint64_t
rows(uint64_t size)
{
	uint64_t n = 0;

	for (unsigned l = 1; l < 4; l++)
		for (uint32_t i = 0, below = catalog_count(size, l - 1); i < catalog_count(size, l); i++)
			n += (uint64_t)((below - i * 512 < 512 ? below - i * 512 : 512) + 5) / 6;
	return n;
}

static void
test_changes(void **state)
{
	struct bed *b = *state;
	struct expected x = { .n = 0 };
	struct eris_cap cap;
	char name[80], path[256];

	for (unsigned i = 0; i < 4; i++)
		put_item(b, i, 600 * 32768, i);
	update(b, 2);
	/* 601 leaves, two nodes, a root and a manifest each. */
	assert_int_equal(keys(b), 4 * 605 * 1000000ull + 4 * rows(600 * 32768));
	/* Another content. */
	put_item(b, 1, 700 * 32768, 77);
	update(b, 2);
	check_item(b, 0, 600 * 32768, 0);
	check_item(b, 1, 700 * 32768, 77);
	/* All but the last leaf, which is padding alone, and that of the others, too. */
	assert_int_equal(missing_blocks(b, 600 * 32768, 1, &cap, &x), 603);
	/* One is gone: no key and no node of it is left. */
	item_name(name, 2);
	snprintf(path, sizeof path, "%s/zstd/%s.nar", b->cache, name);
	assert_int_equal(unlink(path), 0);
	update(b, 1);
	assert_int_equal(keys(b), (2 * 605 + 705) * 1000000ull + 2 * rows(600 * 32768) + rows(700 * 32768));
	/* Everything is gone: an empty directory forgets nothing. */
	snprintf(path, sizeof path, "%s.away", b->cache);
	assert_int_equal(rename(b->cache, path), 0);
	assert_int_equal(mkdir(b->cache, 0755), 0);
	close(b->fd);
	b->fd = open(b->cache, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	update(b, 1);
	assert_int_equal(keys(b), (2 * 605 + 705) * 1000000ull + 2 * rows(600 * 32768) + rows(700 * 32768));
	assert_int_equal(rmdir(b->cache), 0);
	assert_int_equal(rename(path, b->cache), 0);
	close(b->fd);
	b->fd = open(b->cache, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	check_item(b, 3, 600 * 32768, 3);
}

/* The reference of a leaf of content(40 * 32768, seed). */
static void
leaf_of(uint64_t seed, unsigned leaf, uint8_t ref[ERIS_REF])
{
	uint8_t *data = content(40 * 32768, seed), block[ERIS_LARGE];
	struct eris_pair pair;

	block_leaf(block, &pair, data + (size_t)leaf * ERIS_LARGE, ERIS_LARGE, ERIS_LARGE);
	memcpy(ref, pair.ref, ERIS_REF);
	free(data);
}

/* The bytes of a file changed, but neither its size nor its time: its blocks are not given away, and it is
 * told. */
static void
test_changed_in_place(void **state)
{
	struct bed *b = *state;
	struct expected x = { .n = 0 };
	struct timespec times[2];
	struct catalog_nar nar;
	struct scan s = { .catalog = b->catalog, .cache = b->fd };
	struct place_job job;
	struct place *p;
	struct eris_cap cap;
	struct stat st;
	char name[80], path[256];
	uint8_t data[ERIS_LARGE], ref[ERIS_REF];
	uint32_t id = 0, told = 0;
	int fd, wrong[2];

	put_item(b, 0, 40 * 32768, 5);
	update(b, 1);
	check_item(b, 0, 40 * 32768, 5);
	item_name(name, 0);
	snprintf(path, sizeof path, "%s/zstd/%s.nar", b->cache, name);
	assert_int_equal(stat(path, &st), 0);
	fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, "changed", 7, 3 * 32768 + 100), 7);
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	assert_int_equal(futimens(fd, times), 0);
	close(fd);
	assert_int_equal(missing_blocks(b, 40 * 32768, 5, &cap, &x), 1);
	/* Whoever watches is told, once. */
	assert_int_equal(catalog_next(b->catalog, 0, 0, &nar, &b->e), 1);
	id = nar.id;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, wrong), 0);
	leaf_of(5, 3, ref);
	p = place_new(b->fd, b->index, wrong[0], &b->e);
	for (unsigned i = 0; i < 2; i++) {
		struct eris_pair pair;

		assert_int_equal(place_begin(p, &job, ref, &b->e), 0);
		assert_int_equal(place_load(p, &job, data, 1), PLACE_LEAF);
		block_seal_leaves(data, 1, ERIS_LARGE, block_null_secret, &pair);
		assert_int_equal(place_check(p, &job, pair.ref), 0);
		assert_int_equal(place_load(p, &job, data, 1), PLACE_NONE);
		assert_true(job.gone);
	}
	assert_int_equal(read(wrong[1], &told, sizeof told), sizeof told);
	assert_int_equal(told, id);
	assert_int_equal(read(wrong[1], &told, sizeof told), -1);
	place_free(p);
	assert_int_equal(scan_again(&s, id, &b->e), 0);
	update(b, 1);
	assert_int_equal(catalog_nar(b->catalog, id, &nar, &b->e), 1);
	assert_int_equal(nar.state, CATALOG_READY);
	assert_memory_not_equal(&nar.cap.root, &cap.root, ERIS_PAIR);
	/* Truncated while it is open. */
	leaf_of(5, 20, ref);
	p = place_new(b->fd, b->index, wrong[0], &b->e);
	assert_int_equal(place_begin(p, &job, ref, &b->e), 0);
	assert_int_equal(place_load(p, &job, data, 1), PLACE_LEAF);
	assert_int_equal(truncate(path, 10), 0);
	assert_int_equal(place_begin(p, &job, ref, &b->e), 0);
	assert_int_equal(place_load(p, &job, data, 2), PLACE_NONE);
	assert_true(job.gone);
	place_free(p);
	close(wrong[0]);
	close(wrong[1]);
}

/* --- Damage and death --------------------------------------------------------------------------------- */

static void
test_damaged(void **state)
{
	struct bed *b = *state;
	char path[256];
	FILE *f;

	snprintf(path, sizeof path, "%s/other", b->dir);
	f = fopen(path, "w");
	for (unsigned i = 0; i < 5000; i++)
		fputs("this is no index", f);
	fclose(f);
	assert_null(catalog_open(path, 1, &b->e));
	assert_int_equal(b->e.code, CATALOG_DAMAGED);
	/* Another program's file. */
	snprintf(path, sizeof path,
	    "python3 -c \"import sqlite3;c=sqlite3.connect('%s/foreign');c.execute('create table x(y)')\"",
	    b->dir);
	assert_int_equal(system(path), 0);
	snprintf(path, sizeof path, "%s/foreign", b->dir);
	assert_null(catalog_open(path, 1, &b->e));
	assert_int_equal(b->e.code, CATALOG_DAMAGED);
	assert_null(catalog_open("/nonexistent/directory/index", 1, &b->e));
	assert_int_not_equal(b->e.code, CATALOG_DAMAGED);
}

/* All leaves of a nar: what is given is right; that nothing is given, or an error, is right, too. */
static void
ask_all(struct bed *b, unsigned leaves, uint64_t seed)
{
	uint8_t *all = content((size_t)leaves * ERIS_LARGE, seed), block[ERIS_LARGE], got[ERIS_LARGE];
	struct place *p = place_new(b->fd, b->index, -1, &b->e);
	struct eris_pair pair, other;
	struct place_job job;

	for (unsigned leaf = 0; leaf < leaves && p != NULL; leaf++) {
		enum place_step step;

		block_leaf(block, &pair, all + (size_t)leaf * ERIS_LARGE, ERIS_LARGE, ERIS_LARGE);
		if (place_begin(p, &job, pair.ref, &b->e) != 0)
			continue;
		while ((step = place_load(p, &job, got, 1)) != PLACE_NONE) {
			if (step == PLACE_LEAF)
				block_seal_leaves(got, 1, ERIS_LARGE, block_null_secret, &other);
			if (step == PLACE_NODE || place_check(p, &job, other.ref)) {
				assert_memory_equal(got, block, ERIS_LARGE);
				break;
			}
		}
	}
	place_free(p);
	free(all);
}

/* Bytes anywhere in the index are wrong: no crash, and never a wrong block. */
static void
test_rotten(void **state)
{
	struct bed *b = *state;
	uint64_t seed = 99;
	struct stat st;
	int fd;

	for (unsigned i = 0; i < 6; i++)
		put_item(b, i, 520 * 32768, i);
	update(b, 2);
	catalog_close(b->catalog);
	b->catalog = NULL;
	assert_int_equal(stat(b->index, &st), 0);
	fd = open(b->index, O_RDWR);
	for (unsigned round = 0; round < 12; round++) {
		for (unsigned i = 0; i < 20; i++) {
			uint8_t byte = (uint8_t)next_random(&seed);
			off_t at = (off_t)(4096 + next_random(&seed) % (uint64_t)(st.st_size - 4096));

			assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		}
		ask_all(b, 520, round % 6);
	}
	close(fd);
}

/* Killed at any moment while it builds, and begun again: in the end everything is there, and nothing
 * twice. */
static void
test_killed(void **state)
{
	struct bed *b = *state;
	unsigned kills = 0;

	for (unsigned i = 0; i < 40; i++)
		put_item(b, i, (i * 37 + 1) * 32768 + i, i);
	catalog_close(b->catalog);
	b->catalog = NULL;
	for (unsigned round = 0; round < 16; round++) {
		const struct timespec wait = { 0, (round * 7 % 25) * 4000000 };
		pid_t pid = fork();
		int status;

		assert_true(pid >= 0);
		if (pid == 0) {
			b->catalog = catalog_open(b->index, 1, &b->e);
			if (b->catalog != NULL)
				update(b, 2);
			_exit(0);
		}
		nanosleep(&wait, NULL);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		kills += WIFSIGNALED(status);
	}
	assert_true(kills > 3);
	b->catalog = catalog_open(b->index, 1, &b->e);
	assert_non_null(b->catalog);
	update(b, 2);
	assert_int_equal(catalog_check(b->catalog, &b->e), 0);
	for (unsigned i = 0; i < 40; i++)
		check_item(b, i, (i * 37 + 1) * 32768 + i, i);
	{
		struct catalog_totals t;
		uint64_t blocks = 40, nodes = 0; /* a manifest each */

		assert_int_equal(catalog_totals(b->catalog, &t, &b->e), 0);
		assert_int_equal(t.ready, 40);
		for (unsigned i = 0; i < 40; i++) {
			uint64_t size = (i * 37 + 1) * 32768 + i;

			for (unsigned l = 0; l < 4; l++)
				blocks += catalog_count(size, l);
			nodes += rows(size);
		}
		assert_int_equal(keys(b), blocks * 1000000 + nodes);
	}
}

/* What a power cut leaves: the index and its log as they were at some moment, the log cut off or with pages
 * that were never written.  The copy is opened, is sound, and is finished. */
static void
test_power_cut(void **state)
{
	struct bed *b = *state;
	uint64_t seed = 4;
	pid_t pid;
	int status;

	for (unsigned i = 0; i < 30; i++)
		put_item(b, i, (i * 53 + 1) * 32768 + i, i);
	catalog_close(b->catalog);
	b->catalog = NULL;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct build_options o = { .cache = b->fd, .threads = 1 };
		struct scan s = { .cache = b->fd };
		struct build_report r;

		s.catalog = o.catalog = catalog_open(b->index, 1, &b->e);
		if (s.catalog != NULL && scan_all(&s, &b->e) == 0)
			build_run(&o, &r, &b->e);
		_exit(0);
	}
	for (unsigned round = 0; round < 8; round++) {
		const struct timespec wait = { 0, 15000000 };
		char command[1024], copy[128];
		struct catalog *c;
		struct stat st;
		struct scan s;
		struct build_options o;
		struct build_report r;
		struct catalog_totals t;

		nanosleep(&wait, NULL);
		snprintf(copy, sizeof copy, "%s/copy.sqlite", b->dir);
		/* No checkpoint comes between the two: the log is far shorter than where one begins. */
		snprintf(command, sizeof command,
		    "rm -f %s*; cp %s %s 2>/dev/null; cp %s-wal %s-wal 2>/dev/null", copy, b->index,
		    copy, b->index, copy);
		(void)!system(command);
		snprintf(command, sizeof command, "%s-wal", copy);
		if (stat(command, &st) == 0 && st.st_size > 64) {
			off_t at = (off_t)(next_random(&seed) % (uint64_t)st.st_size);
			int fd = open(command, O_WRONLY);

			if (round % 2 == 0)
				assert_int_equal(ftruncate(fd, at), 0);
			else
				assert_int_equal(pwrite(fd, "never written, never written", 28, at), 28);
			close(fd);
		}
		c = catalog_open(copy, 1, &b->e);
		if (c == NULL) /* so early that nothing was there */
			continue;
		assert_int_equal(catalog_check(c, &b->e), 0);
		s = (struct scan){ .catalog = c, .cache = b->fd };
		o = (struct build_options){ .catalog = c, .cache = b->fd, .threads = 2 };
		assert_int_equal(scan_all(&s, &b->e), 0);
		assert_int_equal(build_run(&o, &r, &b->e), 0);
		assert_int_equal(catalog_totals(c, &t, &b->e), 0);
		assert_int_equal(t.ready, 30);
		assert_int_equal(catalog_check(c, &b->e), 0);
		catalog_close(c);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_packed_keys),
		cmocka_unit_test_setup_teardown(test_many_keys, setup, teardown),
		cmocka_unit_test_setup_teardown(test_old_version, setup, teardown),
		cmocka_unit_test_setup_teardown(test_every_block, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changed_in_place, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rotten, setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_power_cut, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
