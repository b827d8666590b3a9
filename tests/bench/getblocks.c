/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: fetch blocks from a source over HTTP in the ways that there are, and check each: what a client could do.
 *
 *     getblocks [--post] [--cid] [--fresh] [--flight N] [--seconds N] URL-BEFORE-NAME URL-BEHIND-NAME <REFERENCES
 *
 * References stand one a line (52 characters of base32); the name in a URL is that, or with --cid its CID.  --fresh: a
 * new connection for each block.  --flight N: so many requests at one time.  --seconds N: only what comes by then
 * counts.  Prints: seconds blocks bytes connections.  Exit 1 if a block did not come. */
#include <curl/curl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "helper/eris/block.h"
#include "helper/eris/urn.h"

#define MAX_FLIGHT 256
#define MAX_BLOCKS 65536
/* Without a byte for so many seconds a request has failed. */
#define STALL 60L

struct flight {
	CURL *easy;
	const uint8_t *ref;
	size_t len;
	uint8_t block[ERIS_LARGE];
};

static struct options {
	int post, cid, fresh;
	long flight, seconds;
	const char *before, *behind;
} options = { .flight = 1, .seconds = 3600 };

static uint8_t (*refs)[ERIS_REF];
static size_t nrefs;

static void
die(const char *what, const char *more)
{
	fprintf(stderr, "getblocks: %s: %s\n", what, more);
	exit(1);
}

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void
read_refs(void)
{
	char line[128];
	struct err e;

	if ((refs = malloc(MAX_BLOCKS * sizeof *refs)) == NULL)
		die("no memory", "references");
	while (nrefs < MAX_BLOCKS && fgets(line, sizeof line, stdin) != NULL) {
		line[strcspn(line, " \n")] = '\0';
		if (urn_ref_parse(refs[nrefs++], line, &e) != 0)
			die(line, e.text);
	}
}

static size_t
on_body(char *data, size_t size, size_t n, void *ctx)
{
	struct flight *f = ctx;

	(void)size;
	if (n > sizeof f->block - f->len)
		return 0;
	memcpy(f->block + f->len, data, n);
	f->len += n;
	return n;
}

static void
start_one(CURLM *multi, struct flight *f, const uint8_t *ref)
{
	char name[URN_CID_LEN + 1], url[1024];

	if (options.cid)
		urn_cid_format(name, ref);
	else
		urn_ref_format(name, ref);
	(void)snprintf(url, sizeof url, "%s%s%s", options.before, name, options.behind);
	f->ref = ref;
	f->len = 0;
	if (curl_easy_setopt(f->easy, CURLOPT_URL, url) != CURLE_OK || curl_multi_add_handle(multi, f->easy) != CURLM_OK)
		die(url, "libcurl refuses it");
}

static void
init(struct flight *f)
{
	CURL *c = f->easy = curl_easy_init();

	if (c == NULL)
		die("libcurl", "no handle");
	curl_easy_setopt(c, CURLOPT_PRIVATE, f);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, f);
	curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(c, CURLOPT_USERAGENT, "narlock-bench");
	curl_easy_setopt(c, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(c, CURLOPT_FRESH_CONNECT, (long)options.fresh);
	curl_easy_setopt(c, CURLOPT_FORBID_REUSE, (long)options.fresh);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, STALL);
	if (options.post) {
		curl_easy_setopt(c, CURLOPT_POST, 1L);
		curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE, 0L);
		curl_easy_setopt(c, CURLOPT_POSTFIELDS, "");
	}
}

/* What has ended: checked, counted, and its place taken by the next. */
static void
collect(CURLM *multi, size_t *next, size_t *done, long *connections)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(multi, &left)) != NULL) {
		CURLcode result = m->data.result;
		const char *wrong;
		long connects = 0;
		char *owner = NULL;
		struct flight *f;

		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &owner);
		f = (struct flight *)(void *)owner;
		curl_easy_getinfo(f->easy, CURLINFO_NUM_CONNECTS, &connects);
		*connections += connects;
		curl_multi_remove_handle(multi, f->easy);
		if (result != CURLE_OK)
			die("a block", curl_easy_strerror(result));
		if ((wrong = block_verify(f->ref, f->block, f->len, ERIS_LARGE)) != NULL)
			die("a block", wrong);
		++*done;
		if (*next < nrefs)
			start_one(multi, f, refs[(*next)++]);
	}
}

static void
parse(int argc, char **argv)
{
	static const struct option known[] = { { "post", no_argument, &options.post, 1 },
		{ "cid", no_argument, &options.cid, 1 }, { "fresh", no_argument, &options.fresh, 1 },
		{ "flight", required_argument, NULL, 'f' }, { "seconds", required_argument, NULL, 's' }, { NULL, 0, NULL, 0 } };
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (c == 'f')
			options.flight = strtol(optarg, NULL, 10);
		else if (c == 's')
			options.seconds = strtol(optarg, NULL, 10);
		else if (c != 0)
			exit(2);
	}
	if (argc - optind != 2 || options.flight < 1 || options.flight > MAX_FLIGHT)
		exit(2);
	options.before = argv[optind];
	options.behind = argv[optind + 1];
}

int
main(int argc, char **argv)
{
	static struct flight flights[MAX_FLIGHT];
	double start, took = 0;
	size_t next = 0, done = 0;
	long connections = 0;
	struct err e;
	CURLM *multi = NULL;
	int running;

	parse(argc, argv);
	read_refs();
	if (block_init(&e) != 0 || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || (multi = curl_multi_init()) == NULL)
		die("libcurl or libsodium", "does not start");
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)MAX_FLIGHT);
	for (long i = 0; i < options.flight; i++)
		init(&flights[i]);
	start = now();
	for (long i = 0; i < options.flight && next < nrefs; i++)
		start_one(multi, &flights[i], refs[next++]);
	while (done < nrefs && (took = now() - start) < (double)options.seconds) {
		curl_multi_perform(multi, &running);
		collect(multi, &next, &done, &connections);
		if (done < nrefs)
			curl_multi_poll(multi, NULL, 0, 1000, NULL);
	}
	took = now() - start;
	printf("%.6f %zu %zu %ld\n", took, done, done * ERIS_LARGE, connections);
	return 0;
}
