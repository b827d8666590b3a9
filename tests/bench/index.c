/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: the index of a cache that nobody has at hand: index FILE BLOCKS [AVERAGE], e.g. 61035156 blocks are 2 TB.
 *
 * Random references of nars of AVERAGE blocks (64) go into the index as build_run() puts them there: keys in
 * sorted batches, nodes in their order, a row for each nar and its narinfo.  Then single references are looked
 * for.  What is left out: reading and encoding nars.  Prints bytes, seconds and microseconds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "helper/publish/catalog.h"

#define BATCH (1u << 20)
#define LOOKUPS 20000

static uint64_t
next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* The pair of a block, the same for the same number. */
static void
make_pair(struct eris_pair *pair, uint64_t n)
{
	uint64_t state = n * 0x2545f4914f6cdd1du, word;

	for (size_t i = 0; i < sizeof *pair; i += 8) {
		word = next_random(&state);
		memcpy((uint8_t *)pair + i, &word, 8);
	}
}

static double
seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct simulation {
	struct catalog *c;
	uint8_t *keys;
	size_t n;
	uint64_t blocks, nars, bytes;
	struct err e;
};

static void
check(struct simulation *s, int rc)
{
	if (rc == 0)
		return;
	fprintf(stderr, "index: %s\n", s->e.text);
	exit(1);
}

static void
commit(struct simulation *s)
{
	check(s, catalog_put_keys(s->c, s->keys, s->n, &s->e));
	check(s, catalog_commit(s->c, &s->e));
	check(s, catalog_begin(s->c, &s->e));
	s->n = 0;
}

static void
put_key(struct simulation *s, const uint8_t *ref, uint32_t nar, uint32_t number)
{
	if (s->n == BATCH)
		commit(s);
	catalog_key(s->keys + s->n++ * CATALOG_KEY, ref, nar, number);
}

/* One nar of so many leaves, the first of which is the block FIRST of all. */
static void
put_nar(struct simulation *s, uint32_t leaves, uint64_t first, uint64_t *random)
{
	static const char digits[] = "0123456789abcdfghijklmnpqrsvwxyz";
	static struct eris_pair pairs[512];
	struct catalog_nar nar = { .size = (uint64_t)leaves * ERIS_LARGE - 1000, .mtime = 1700000000000000000 };
	struct catalog_info info = { .mtime = nar.mtime };
	char part[33] = "";
	int changed;

	for (unsigned i = 0; i < 32; i++)
		part[i] = digits[next_random(random) % 32];
	nar.hash = info.hash = catalog_hash(part);
	snprintf(nar.path, sizeof nar.path, "zstd/%s-a-package-1.2.%llu.nar", part, (unsigned long long)s->nars);
	snprintf(info.path, sizeof info.path, "zstd/%s-a-package-1.2.%llu.narinfo", part, (unsigned long long)s->nars);
	check(s, catalog_put_nar(s->c, nar.hash, nar.path, nar.size, nar.mtime, &changed, &s->e));
	check(s, catalog_put_info(s->c, &info, &s->e));
	nar.id = (uint32_t)++s->nars;
	for (uint32_t at = 0; leaves > 1 && at < leaves; at += 512) {
		uint32_t n = leaves - at < 512 ? leaves - at : 512, node = catalog_first(nar.size, 1) + at / 512;

		for (uint32_t i = 0; i < n; i++) {
			make_pair(&pairs[i], first + at + i);
			put_key(s, pairs[i].ref, nar.id, at + i);
		}
		check(s, catalog_put_node(s->c, nar.id, node, (const uint8_t *)pairs, (size_t)n * ERIS_PAIR, &s->e));
		make_pair(&pairs[0], ~(first + at));
		put_key(s, pairs[0].ref, nar.id, node);
	}
	nar.cap = (struct eris_cap){ .block_size = ERIS_LARGE, .level = leaves > 1, .root = pairs[0] };
	if (leaves == 1) {
		make_pair(&nar.cap.root, first);
		put_key(s, nar.cap.root.ref, nar.id, 0);
	}
	nar.has_manifest = 1;
	make_pair(&pairs[0], first ^ 1ull << 63);
	memcpy(nar.manifest, pairs[0].ref, ERIS_REF);
	nar.info_mtime = nar.mtime;
	check(s, catalog_ready(s->c, &nar, &s->e));
	s->bytes += nar.size;
}

static double
look_up(struct simulation *s, uint64_t *random)
{
	static struct eris_pair pairs[LOOKUPS];
	double begin;

	for (unsigned i = 0; i < LOOKUPS; i++)
		make_pair(&pairs[i], next_random(random) % s->blocks);
	begin = seconds();
	for (unsigned i = 0; i < LOOKUPS; i++) {
		struct catalog_place places[CATALOG_PLACES];
		unsigned n;

		check(s, catalog_find(s->c, pairs[i].ref, places, &n, &s->e));
		if (n == 0) {
			fprintf(stderr, "index: a block is not found\n");
			exit(1);
		}
	}
	return (seconds() - begin) / LOOKUPS * 1e6;
}

int
main(int argc, char **argv)
{
	static struct simulation s;
	uint64_t random = 1, done = 0, average = argc > 3 ? strtoull(argv[3], NULL, 10) : 64;
	double begin = seconds(), took;
	struct rusage use;
	struct stat st;

	s.blocks = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
	s.keys = malloc((size_t)BATCH * CATALOG_KEY);
	if (argc < 3 || s.blocks == 0 || average == 0 || s.keys == NULL) {
		fputs("index FILE BLOCKS [AVERAGE]\n", stderr);
		return 2;
	}
	catalog_start();
	s.c = catalog_open(argv[1], 1, &s.e);
	check(&s, s.c == NULL);
	check(&s, catalog_begin(s.c, &s.e));
	while (done < s.blocks) {
		/* As often twice the average as one leaf. */
		uint32_t leaves = (uint32_t)(1 + next_random(&random) % (2 * average - 1));

		if (leaves > s.blocks - done)
			leaves = (uint32_t)(s.blocks - done);
		put_nar(&s, leaves, done, &random);
		done += leaves;
	}
	commit(&s);
	check(&s, catalog_commit(s.c, &s.e));
	catalog_close(s.c);
	took = seconds() - begin;
	getrusage(RUSAGE_SELF, &use);
	if (stat(argv[1], &st) != 0)
		return 1;
	printf("index of %.3f TB, %llu nars: %.3f GB (%.4f %%), written in %.0f s, %ld MiB resident\n", (double)s.bytes / 1e12,
	    (unsigned long long)s.nars, (double)st.st_size / 1e9, 100 * (double)st.st_size / (double)s.bytes, took,
	    use.ru_maxrss / 1024);
	s.c = catalog_open(argv[1], 0, &s.e);
	check(&s, s.c == NULL);
	printf("a reference is found in %.1f us at first", look_up(&s, &random));
	printf(", in %.1f us then\n", look_up(&s, &random));
	catalog_close(s.c);
	free(s.keys);
	return 0;
}
