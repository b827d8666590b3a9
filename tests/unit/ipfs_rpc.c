/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: requests to daemons, gateways and block end-points, and what is made of their answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "helper/eris/block.h"
#include "helper/eris/urn.h"
#include "helper/ipfs/manifest.h"
#include "helper/ipfs/rpc.h"

/* CID and reference of the bytes 0, 1, ... 31 as a hash (base64 module of Python, RFC 4648). */
#define CID "bafk2bzaceaaacaqdaqcqmbyibefawdanbyhraeiscmkbkfqxdamrugy4dupb6"
#define NODE "bafy2bzaceaaacaqdaqcqmbyibefawdanbyhraeiscmkbkfqxdamrugy4dupb6"
#define FILE_CID "bafykbzaceaaacaqdaqcqmbyibefawdanbyhraeiscmkbkfqxdamrugy4dupb6"
#define REF "AAAQEAYEAUDAOCAJBIFQYDIOB4IBCEQTCQKRMFYYDENBWHA5DYPQ"

static const uint8_t hash[ERIS_REF] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19,
    20, 21, 22,
	23, 24, 25, 26, 27, 28, 29, 30, 31 };
static const char boundary[] = "0123456789abcdef0123456789abcdef";

static struct rpc_source
source(enum rpc_kind kind, const char *text)
{
	struct rpc_source s;
	struct err e;

	if (rpc_source(&s, kind, text, NULL, &e) != 0)
		fail_msg("%s", e.text);
	return s;
}

static void
addresses(void **state)
{
	static const struct { const char *text, *base, *socket; } good[] = {
		{ "http://127.0.0.1:5001", "http://127.0.0.1:5001", "" },
		{ "http://127.0.0.1:5001//", "http://127.0.0.1:5001", "" },
		{ "https://gateway.example/some/where/", "https://gateway.example/some/where", "" },
		{ "http://[::1]:5001", "http://[::1]:5001", "" },
		{ "unix:/run/ipfs/api.sock", "http://localhost", "/run/ipfs/api.sock" },
		{ "/unix/run/ipfs/api.sock", "http://localhost", "/run/ipfs/api.sock" },
		{ "/ip4/127.0.0.1/tcp/5001", "http://127.0.0.1:5001", "" },
		{ "/ip4/127.0.0.1/tcp/5001/http", "http://127.0.0.1:5001", "" },
		{ "/ip6/::1/tcp/5001", "http://[::1]:5001", "" },
		{ "/dns4/ipfs.example/tcp/443/https", "https://ipfs.example:443", "" },
	};
	static const char *const bad[] = { "", "127.0.0.1:5001", "ftp://x", "http://", "http:///x", "http://u:p@h",
	    "http://h?x",
		"http://h#x", "http://a b", "http://h/\x7f", "unix:", "unix:relative", "/ip4/127.0.0.1",
		    "/ip4/127.0.0.1/udp/5001",
		"/ip4/127.0.0.1/tcp/x", "/ip4/127.0.0.1/tcp/5001/quic", "/ip4/127.0.0.1/tcp/5001/http/p2p",
		    "/ip4//tcp/5001",
		"/ip4/u@h/tcp/5001", "/ip9/h/tcp/1", "/" };
	static const char *const bad_auth[] = { "secret", "Bearer ", "Bearer a\nX: b", "Digest x", "Basic a b" };
	struct rpc_source s;
	struct err e;
	char big[RPC_BASE + 20];

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		s = source(RPC_IPFS, good[i].text);
		assert_string_equal(s.base, good[i].base);
		assert_string_equal(s.socket, good[i].socket);
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (rpc_source(&s, RPC_IPFS, bad[i], NULL, &e) == 0)
			fail_msg("%s was accepted", bad[i]);
	for (size_t i = 0; i < sizeof bad_auth / sizeof bad_auth[0]; i++)
		if (rpc_source(&s, RPC_IPFS, "http://h", bad_auth[i], &e) == 0)
			fail_msg("%s was accepted", bad_auth[i]);
	memset(big, 'a', sizeof big - 1);
	big[sizeof big - 1] = '\0';
	memcpy(big, "http://", 7);
	assert_int_equal(rpc_source(&s, RPC_IPFS, big, NULL, &e), -1);
	memcpy(big, "unix:/a", 7);
	big[RPC_SOCKET + 6] = '\0';
	assert_int_equal(rpc_source(&s, RPC_IPFS, big, NULL, &e), -1);
	assert_int_equal(rpc_source(&s, RPC_IPFS, "http://h", "Bearer abc", &e), 0);
	assert_string_equal(s.authorization, "Bearer abc");
}

static int
has_header(const struct rpc_request *r, const char *line)
{
	for (unsigned i = 0; i < r->nheaders; i++)
		if (strcmp(r->headers[i], line) == 0)
			return 1;
	return 0;
}

static void
requests(void **state)
{
	static const struct { enum rpc_kind kind; enum rpc_ask ask; const char *method, *url, *line; } cases[] = {
		{ RPC_IPFS, RPC_GET, "POST", "http://h/api/v0/block/get?arg=" CID "&timeout=1500ms", "Expect:" },
		{ RPC_IPFS, RPC_HAS, "POST", "http://h/api/v0/block/stat?arg=" CID "&offline=true&cid-base=base32"
		    "&timeout=1500ms",
		    "Expect:" },
		{ RPC_IPFS, RPC_LOCAL, "POST", "http://h/api/v0/block/get?arg=" CID "&offline=true&timeout=1500ms", "Expect:" },
		{ RPC_IPFS, RPC_PEERS, "POST", "http://h/api/v0/swarm/peers?timeout=1500ms", "Expect:" },
		{ RPC_GATEWAY, RPC_PEERS, NULL, NULL, NULL }, { RPC_BLOCKS, RPC_PEERS, NULL, NULL, NULL },
		{ RPC_GATEWAY, RPC_LOCAL, NULL, NULL, NULL }, { RPC_BLOCKS, RPC_LOCAL, NULL, NULL, NULL },
		{ RPC_IPFS, RPC_PUT, "POST",
		    "http://h/api/v0/block/put?cid-codec=raw&format=raw&mhtype=blake2b-256&mhlen=32&pin=false",
		    "Content-Type: multipart/form-data; boundary=0123456789abcdef0123456789abcdef" },
		{ RPC_IPFS, RPC_IMPORT, "POST", "http://h/api/v0/dag/import?pin-roots=false&stats=true", "Expect:" },
		{ RPC_IPFS, RPC_EXPORT, "POST", "http://h/api/v0/dag/export?arg=" NODE "&progress=false", "Expect:" },
		{ RPC_IPFS, RPC_FILE, "POST", "http://h/api/v0/cat?arg=" FILE_CID "&progress=false", "Expect:" },
		{ RPC_GATEWAY, RPC_FILE, "GET", "http://h/ipfs/" FILE_CID, NULL }, { RPC_BLOCKS, RPC_FILE, NULL, NULL, NULL },
		{ RPC_IPFS, RPC_VERSION, "POST", "http://h/api/v0/version", "Expect:" },
		{ RPC_IPFS, RPC_NODE, "POST", "http://h/api/v0/block/get?arg=" NODE "&timeout=1500ms", "Expect:" },
		{ RPC_GATEWAY, RPC_NODE, "GET", "http://h/ipfs/" NODE "?format=raw", "Accept: application/vnd.ipld.raw" },
		{ RPC_BLOCKS, RPC_NODE, "GET", "http://h/uri-res/N2R?urn:blake2b:" REF, NULL },
		{ RPC_GATEWAY, RPC_GET, "GET", "http://h/ipfs/" CID "?format=raw", "Accept: application/vnd.ipld.raw" },
		{ RPC_GATEWAY, RPC_HAS, "HEAD", "http://h/ipfs/" CID "?format=raw", "Cache-Control: only-if-cached" },
		{ RPC_GATEWAY, RPC_EXPORT, "GET", "http://h/ipfs/" NODE "?format=car&dag-scope=all",
		    "Accept: application/vnd.ipld.car; version=1; order=dfs; dups=n" },
		{ RPC_GATEWAY, RPC_VERSION, "GET", "http://h/ipfs/bafkqaaa?format=raw",
		    "Accept: application/vnd.ipld.raw" },
		{ RPC_BLOCKS, RPC_GET, "GET", "http://h/uri-res/N2R?urn:blake2b:" REF, NULL },
		{ RPC_BLOCKS, RPC_HAS, "HEAD", "http://h/uri-res/N2R?urn:blake2b:" REF, NULL },
		{ RPC_GATEWAY, RPC_PUT, NULL, NULL, NULL }, { RPC_GATEWAY, RPC_IMPORT, NULL, NULL, NULL },
		{ RPC_BLOCKS, RPC_PUT, NULL, NULL, NULL }, { RPC_BLOCKS, RPC_EXPORT, NULL, NULL, NULL },
		{ RPC_BLOCKS, RPC_VERSION, NULL, NULL, NULL },
	};
	struct rpc_request r;
	struct rpc_source s;
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		enum rpc_ask ask = cases[i].ask;
		const uint8_t *h = ask == RPC_GET || ask == RPC_LOCAL || ask == RPC_HAS || ask == RPC_EXPORT || ask == RPC_FILE ||
		    ask == RPC_NODE ? hash : NULL;

		s = source(cases[i].kind, "http://h");
		assert_int_equal(rpc_build(&r, &s, ask, h, 1500, boundary, &e), cases[i].url != NULL ? 0 : -1);
		if (cases[i].url == NULL)
			continue;
		assert_string_equal(r.method, cases[i].method);
		assert_string_equal(r.url, cases[i].url);
		assert_int_equal(r.form, ask == RPC_PUT || ask == RPC_IMPORT);
		assert_true(cases[i].line == NULL || has_header(&r, cases[i].line));
		assert_int_equal(rpc_build(&r, &s, ask, h == NULL ? hash : NULL, 1500, boundary, &e), -1);
		assert_int_equal(rpc_source(&s, cases[i].kind, "http://h", "Bearer abc", &e), 0);
		assert_int_equal(rpc_build(&r, &s, ask, h, 1500, boundary, &e), 0);
		assert_true(has_header(&r, "Authorization: Bearer abc"));
	}
	s = source(RPC_IPFS, "http://h");
	assert_int_equal(rpc_build(&r, &s, RPC_GET, hash, 0, NULL, &e), -1); /* it would wait for ever */
	assert_int_equal(rpc_build(&r, &s, RPC_FILE, hash, 0, NULL, &e), 0); /* a stream is looked at while it comes */
	assert_int_equal(rpc_build(&r, &s, RPC_PUT, NULL, 0, NULL, &e), -1);
	assert_int_equal(rpc_build(&r, &s, RPC_PUT, NULL, 0, "0123456789abcdef0123456789abcde\"", &e), -1);
}

static void
forms(void **state)
{
	char text[RPC_PART];
	size_t n;

	(void)state;
	n = rpc_part_head(text, boundary, 1);
	assert_int_equal(n, strlen(text));
	assert_string_equal(text,
	    "--0123456789abcdef0123456789abcdef\r\nContent-Disposition: form-data; name=\"file\"; "
	    "filename=\"block\"\r\nContent-Type: application/octet-stream\r\n\r\n");
	n = rpc_part_head(text, boundary, 0);
	assert_int_equal(n, strlen(text));
	assert_memory_equal(text, "\r\n--", 4);
	n = rpc_part_end(text, boundary);
	assert_int_equal(n, strlen(text));
	assert_string_equal(text, "\r\n--0123456789abcdef0123456789abcdef--\r\n");
}

static void
json(void **state)
{
	static const struct { const char *text, *value; } cases[] = {
		{ "{\"Message\":\"x\"}", "x" }, { " { \"Code\" : 0 , \"Message\" : \"a b\" } ", "a b" },
		{ "{\"Message\":\"say \\\"no\\\"\\n\"}", "say \"no\"?" }, { "{\"a\":\"Message\",\"Message\":\"x\"}", "x" },
		{ "{\"a\":{\"Message\":\"inner\"},\"Message\":\"x\"}", "x" }, { "{\"Message\":\"\xc3\x9f\x01\"}", "???" },
		{ "{\"Message\":\"\"}", "" },
		{ "{\"a\":{\"Message\":\"inner\"}}", NULL }, { "{\"a\":\"Message\"}", NULL }, { "{\"Message\":5}", NULL },
		{ "{\"Message\":\"cut", NULL }, { "{\"Message\":\"cut\\", NULL }, { "{\"Message", NULL }, { "", NULL },
		{ "\"Message\":\"x\"", NULL }, { "{}{\"Message\":\"x\"}", NULL }, { "[\"Message\",\"x\"]", NULL },
		    { "}}}}{", NULL },
		{ "{\"Message\":\"0123456789012345678901234567890123456789\"}", "0123456789012345678901234567890" },
	};
	char out[32];

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		size_t len = strlen(cases[i].text);
		uint8_t *copy = malloc(len + 1); /* exactly as long, so that a sanitizer sees a byte too far */

		copy = realloc(copy, len > 0 ? len : 1);
		memcpy(copy, cases[i].text, len);
		if (rpc_json(copy, len, "Message", out, sizeof out) != (cases[i].value != NULL ? 0 : -1))
			fail_msg("%s", cases[i].text);
		if (cases[i].value != NULL)
			assert_string_equal(out, cases[i].value);
		free(copy);
	}
}

static struct rpc_judgement
judge(enum rpc_kind kind, enum rpc_ask ask, const uint8_t *ref, struct rpc_reply reply)
{
	struct rpc_source s = source(kind, "http://h");
	struct rpc_judgement j;

	rpc_judge(&j, &s, ask, ref, ERIS_SMALL, &reply);
	assert_true((j.verdict == RPC_BLOCK) == (j.why == NULL));
	return j;
}

#define TEXT(T) .body = (const uint8_t *)(T), .len = strlen(T)
#define ERROR_OF(M) "{\"Message\":\"" M "\",\"Code\":0,\"Type\":\"error\"}"

static void
blocks(void **state)
{
	uint8_t block[ERIS_SMALL + 1] = { 0 };
	struct eris_pair pair;
	struct rpc_reply right = { .connected = 1, .complete = 1, .status = 200, .retry_after = -1, .body = block,
	    .len = ERIS_SMALL };
	struct rpc_reply r;

	(void)state;
	block_leaf(block, &pair, (const uint8_t *)"content", 7, ERIS_SMALL);
	for (enum rpc_kind kind = RPC_IPFS; kind <= RPC_BLOCKS; kind++) {
		assert_int_equal(judge(kind, RPC_GET, pair.ref, right).verdict, RPC_BLOCK);
		/* All of it is there: how it ended does not matter. */
		r = right;
		r.complete = 0;
		assert_int_equal(judge(kind, RPC_GET, pair.ref, r).verdict, RPC_BLOCK);
		assert_int_equal(judge(kind, RPC_GET, hash, right).verdict, RPC_LIE);
		r = right;
		r.len++;
		assert_int_equal(judge(kind, RPC_GET, pair.ref, r).verdict, RPC_LIE);
		r.len = ERIS_SMALL - 1;
		assert_int_equal(judge(kind, RPC_GET, pair.ref, r).verdict, RPC_LIE);
		r.complete = 0;
		assert_int_equal(judge(kind, RPC_GET, pair.ref, r).verdict, RPC_BUSY);
		r.len = 0;
		assert_int_equal(judge(kind, RPC_GET, pair.ref, r).verdict, RPC_BUSY);
		r.complete = 1;
		assert_int_equal(judge(kind, RPC_GET, pair.ref, r).verdict, RPC_MISSING);
		/* An error behind the status. */
		r.stream_error = "context deadline exceeded";
		r.len = 100;
		assert_int_equal(judge(kind, RPC_GET, pair.ref, r).verdict, RPC_MISSING);
		r.stream_error = "disk is on fire";
		assert_int_equal(judge(kind, RPC_GET, pair.ref, r).verdict, RPC_BUSY);
		/* An error with status 200. */
		r = (struct rpc_reply){ .connected = 1, .complete = 1, .status = 200,
		    TEXT(ERROR_OF("block was not found")) };
		assert_int_equal(judge(kind, RPC_GET, pair.ref, r).verdict, RPC_MISSING);
		r = (struct rpc_reply){ .connected = 0 };
		assert_int_equal(judge(kind, RPC_GET, pair.ref, r).verdict, RPC_UNREACHABLE);
		r = (struct rpc_reply){ .connected = 1 };
		assert_int_equal(judge(kind, RPC_GET, pair.ref, r).verdict, RPC_BUSY);
	}
}

#define TEN "0123456789"
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN

static void
errors(void **state)
{
	static const struct { enum rpc_kind kind; int status; const char *body; enum rpc_verdict verdict; } cases[] = {
		{ RPC_IPFS, 500, ERROR_OF("Failed to get block: request timed out"), RPC_MISSING },
		{ RPC_IPFS, 500, ERROR_OF("context deadline exceeded"), RPC_MISSING },
		{ RPC_IPFS, 500, ERROR_OF("block was not found locally (offline): ipld: could not find x"), RPC_MISSING },
		{ RPC_IPFS, 500, ERROR_OF("too many open files"), RPC_BUSY },
		{ RPC_IPFS, 500, ERROR_OF("No hasher found for blake2b-256"), RPC_UNREACHABLE },
		{ RPC_IPFS, 500, "", RPC_BUSY },
		{ RPC_IPFS, 500, "<html>", RPC_BUSY },
		{ RPC_IPFS, 400, ERROR_OF("argument"), RPC_UNREACHABLE },
		{ RPC_IPFS, 403, "403 - Forbidden", RPC_UNREACHABLE },
		{ RPC_IPFS, 404, "404 page not found", RPC_UNREACHABLE },
		{ RPC_IPFS, 405, "", RPC_UNREACHABLE },
		{ RPC_IPFS, 301, "", RPC_UNREACHABLE },
		{ RPC_GATEWAY, 301, "", RPC_UNREACHABLE },
		{ RPC_GATEWAY, 404, "", RPC_MISSING },
		{ RPC_GATEWAY, 410, "", RPC_MISSING },
		{ RPC_GATEWAY, 412, "", RPC_MISSING },
		{ RPC_GATEWAY, 504, "", RPC_MISSING },
		{ RPC_GATEWAY, 429, "", RPC_BUSY },
		{ RPC_GATEWAY, 500, ERROR_OF("not found"), RPC_BUSY },
		{ RPC_GATEWAY, 502, "", RPC_BUSY },
		{ RPC_GATEWAY, 400, "", RPC_UNREACHABLE },
		{ RPC_BLOCKS, 404, "", RPC_MISSING },
		{ RPC_BLOCKS, 503, "", RPC_BUSY },
		{ RPC_BLOCKS, 401, "", RPC_UNREACHABLE },
		{ RPC_BLOCKS, 206, "", RPC_UNREACHABLE },
	};
	struct rpc_judgement j;

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		j = judge(cases[i].kind, RPC_GET, hash, (struct rpc_reply){ .connected = 1, .complete = 1,
		    .status = cases[i].status, .retry_after = 3, TEXT(cases[i].body) });
		if (j.verdict != cases[i].verdict)
			fail_msg("case %zu: %d, %s", i, j.verdict, j.why);
		assert_int_equal(j.retry_ms, cases[i].status == 429 || cases[i].status == 503 ? 3000 : 0);
	}
	j = judge(RPC_IPFS, RPC_GET, hash, (struct rpc_reply){ .connected = 1, .complete = 1, .status = 500,
	    TEXT(ERROR_OF("open x: read-only file system")) });
	assert_string_equal(j.said, "open x: read-only file system");
	j = judge(RPC_IPFS, RPC_GET, hash, (struct rpc_reply){ .connected = 1, .complete = 1, .status = 500,
	    TEXT(ERROR_OF(HUNDRED HUNDRED "the end")) });
	assert_int_equal(strlen(j.said), RPC_SAID - 1);
	assert_string_equal(j.said + RPC_SAID - 8, "the end");
	j = judge(RPC_BLOCKS, RPC_GET, hash, (struct rpc_reply){ .connected = 1, .status = 429,
	    .retry_after = INT64_MAX });
	assert_int_equal(j.retry_ms, 3600000);
}

static void
other_questions(void **state)
{
	static const struct { enum rpc_kind kind; enum rpc_ask ask; int complete; const char *body; enum rpc_verdict verdict; } cases[] = {
		{ RPC_IPFS, RPC_HAS, 1, "{\"Key\":\"" CID "\",\"Size\":32768}\n", RPC_BLOCK },
		{ RPC_IPFS, RPC_HAS, 1, "{\"Key\":\"" NODE "\",\"Size\":32768}\n", RPC_MISSING },
		{ RPC_IPFS, RPC_HAS, 1, "", RPC_MISSING },
		{ RPC_IPFS, RPC_HAS, 0, "", RPC_BUSY },
		{ RPC_GATEWAY, RPC_HAS, 1, "", RPC_BLOCK },
		{ RPC_BLOCKS, RPC_HAS, 1, "", RPC_BLOCK },
		{ RPC_IPFS, RPC_VERSION, 1, "{\"Version\":\"0.18.1\",\"Commit\":\"\"}", RPC_BLOCK },
		{ RPC_IPFS, RPC_VERSION, 1, "<html>welcome</html>", RPC_UNREACHABLE },
		{ RPC_GATEWAY, RPC_VERSION, 1, "", RPC_BLOCK },
		{ RPC_GATEWAY, RPC_VERSION, 1, "<html>welcome</html>", RPC_UNREACHABLE },
		{ RPC_IPFS, RPC_IMPORT, 1, "{\"Stats\":{\"BlockCount\":5,\"BlockBytesCount\":7}}\n", RPC_BLOCK },
		{ RPC_IPFS, RPC_IMPORT, 1, "", RPC_BLOCK },
		{ RPC_IPFS, RPC_IMPORT, 1, ERROR_OF("import failed"), RPC_BUSY },
		{ RPC_IPFS, RPC_IMPORT, 0, "", RPC_BUSY },
		{ RPC_IPFS, RPC_FILE, 1, "any bytes", RPC_BLOCK },
		{ RPC_IPFS, RPC_FILE, 0, "any bytes", RPC_BUSY },
		{ RPC_GATEWAY, RPC_FILE, 1, "any bytes", RPC_BLOCK },
		{ RPC_IPFS, RPC_PEERS, 1, "{\"Peers\":null}\n", RPC_MISSING },
		{ RPC_IPFS, RPC_PEERS, 1, "{\"Peers\": []}", RPC_MISSING },
		{ RPC_IPFS, RPC_PEERS, 0, "{\"Peers\":null}\n", RPC_BUSY },
		{ RPC_IPFS, RPC_PEERS, 1, "{\"Peers\":[{\"Addr\":\"/ip4/192.0.2.1/tcp/4001\",\"Peer\":\"12D3\"}]}\n", RPC_BLOCK },
		{ RPC_IPFS, RPC_PEERS, 1, "{\"Peers\":nullx}", RPC_BLOCK },
		{ RPC_IPFS, RPC_PEERS, 1, "", RPC_BLOCK },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct rpc_judgement j = judge(cases[i].kind, cases[i].ask, hash, (struct rpc_reply){ .connected = 1,
		    .complete = (uint8_t)cases[i].complete, .status = 200, TEXT(cases[i].body) });

		if (j.verdict != cases[i].verdict)
			fail_msg("case %zu: %d", i, j.verdict);
	}
}

static void
puts_blocks(void **state)
{
	uint8_t refs[3][ERIS_REF], stored[3];
	char text[400], cid[URN_CID_LEN + 1];
	struct rpc_judgement j;
	struct rpc_reply r = { .connected = 1, .complete = 1, .status = 200 };

	(void)state;
	text[0] = '\0';
	for (unsigned i = 0; i < 3; i++) {
		memset(refs[i], (int)i + 1, ERIS_REF);
		urn_cid_format(cid, refs[i]);
		if (i == 1) /* another codec: not what we put */
			cid[3] = 'y';
		strcat(strcat(strcat(text, "{\"Key\":\""), cid), "\",\"Size\":32768}\n");
	}
	r.body = (const uint8_t *)text;
	r.len = strlen(text);
	rpc_judge_put(&j, (const uint8_t (*)[ERIS_REF])refs, 3, stored, &r);
	assert_int_equal(j.verdict, RPC_BUSY);
	assert_true(stored[0] == 1 && stored[1] == 0 && stored[2] == 1);
	rpc_judge_put(&j, (const uint8_t (*)[ERIS_REF])refs, 1, stored, &r);
	assert_int_equal(j.verdict, RPC_BLOCK);
	r.status = 403;
	rpc_judge_put(&j, (const uint8_t (*)[ERIS_REF])refs, 1, stored, &r);
	assert_int_equal(j.verdict, RPC_UNREACHABLE);
	assert_int_equal(stored[0], 0);
	r.connected = 0;
	rpc_judge_put(&j, (const uint8_t (*)[ERIS_REF])refs, 1, stored, &r);
	assert_int_equal(j.verdict, RPC_UNREACHABLE);
}

static void
nodes(void **state)
{
	static const char node[] = "any bytes: only the hash counts";
	static const char error[] = "{\"Message\":\"block was not found\",\"Code\":0,\"Type\":\"error\"}";
	struct rpc_source s = source(RPC_BLOCKS, "http://h");
	struct rpc_reply r = { .connected = 1, .complete = 1, .status = 200, .body = (const uint8_t *)node,
		.len = sizeof node };
	struct rpc_judgement j;
	uint8_t right[ERIS_REF];

	(void)state;
	manifest_hash(right, r.body, r.len);
	rpc_judge(&j, &s, RPC_NODE, right, 0, &r);
	assert_int_equal(j.verdict, RPC_BLOCK);
	rpc_judge(&j, &s, RPC_NODE, hash, 0, &r);
	assert_int_equal(j.verdict, RPC_LIE);
	r.complete = 0;
	rpc_judge(&j, &s, RPC_NODE, hash, 0, &r);
	assert_int_equal(j.verdict, RPC_BUSY);
	r.complete = 1;
	r.len = 0;
	rpc_judge(&j, &s, RPC_NODE, hash, 0, &r);
	assert_int_equal(j.verdict, RPC_MISSING);
	r.len = 10;
	manifest_hash(right, r.body, r.len);
	rpc_judge(&j, &s, RPC_GET, right, ERIS_SMALL, &r);
	assert_int_equal(j.verdict, RPC_MISSING); /* a block with that hash, but of another size */
	rpc_judge(&j, &s, RPC_GET, hash, ERIS_SMALL, &r);
	assert_int_equal(j.verdict, RPC_LIE);
	r.body = (const uint8_t *)error;
	r.len = strlen(error);
	rpc_judge(&j, &s, RPC_NODE, hash, 0, &r);
	assert_int_equal(j.verdict, RPC_MISSING);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses),
		cmocka_unit_test(requests),
		cmocka_unit_test(forms),
		cmocka_unit_test(json),
		cmocka_unit_test(blocks),
		cmocka_unit_test(errors),
		cmocka_unit_test(other_questions),
		cmocka_unit_test(puts_blocks),
		cmocka_unit_test(nodes),
	};
	struct err e;

	if (block_init(&e) != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
