/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (ipfs): what is asked of a daemon's RPC (Kubo, js-ipfs), a trustless gateway and an HTTP block
 * end-point, and what their answers mean.  Text and bytes only: nothing is sent.
 *
 * Whoever sends: HTTP/1.1 for RPC, own User-Agent (a name that begins with Mozilla or holds kubo or go-ipfs
 * is treated differently), no Origin, no Referer, no redirects, a POST without a body with Content-Length: 0
 * (or the connection cannot be used again), and trailers kept: X-Stream-Error comes there. */
#ifndef NARLOCK_IPFS_RPC_H
#define NARLOCK_IPFS_RPC_H

#include <stddef.h>
#include <stdint.h>

#include "helper/eris/eris.h"
#include "ipc/err.h"

#define RPC_BASE 512      /* characters of a source's URL */
#define RPC_SOCKET 107    /* of the path of a unix socket */
#define RPC_AUTH 512      /* of an Authorization header's value */
#define RPC_URL (RPC_BASE + 256)
#define RPC_HEADER (RPC_AUTH + 32)
#define RPC_HEADERS 5
#define RPC_BOUNDARY 32   /* hex digits */

enum rpc_kind { RPC_IPFS, RPC_GATEWAY, RPC_BLOCKS };

struct rpc_source {
	enum rpc_kind kind;
	char base[RPC_BASE + 1];     /* http://HOST[:PORT][/PREFIX], without a slash at its end */
	char socket[RPC_SOCKET + 1]; /* not empty: connect there (base is http://localhost then) */
	char authorization[RPC_AUTH + 1]; /* "Bearer ..." or "Basic ...", or empty */
};

/* rpc_source(s, kind, text, authorization, e): from the configuration: a URL (http or https, no user, query
 * or fragment), unix:/PATH, or a multiaddr /ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT[/http|/https] or /unix/PATH.
 * AUTHORIZATION may be NULL.  0 or -1. */
int rpc_source(struct rpc_source *s, enum rpc_kind kind, const char *text, const char *authorization,
    struct err *e);

enum rpc_ask {
	RPC_GET,     /* the block HASH */
	RPC_HAS,     /* whether it is there, without looking in the network (js-ipfs looks all the same) */
	RPC_LOCAL,   /* RPC_IPFS: RPC_GET, if it is there; js-ipfs looks in the network all the same */
	RPC_PEERS,   /* RPC_IPFS: whether it knows any peers; RPC_MISSING: none */
	RPC_PUT,     /* RPC_IPFS: blocks as parts of a form; js-ipfs keeps the last part only */
	RPC_IMPORT,  /* RPC_IPFS: a CAR as the only part of a form */
	RPC_EXPORT,  /* RPC_IPFS, RPC_GATEWAY: a CAR of all beneath the manifest HASH; no time-out */
	RPC_VERSION, /* RPC_IPFS: its version; RPC_GATEWAY: the empty block: does it work at all? */
	RPC_NODE,    /* the root HASH of a manifest */
	RPC_FILE,    /* RPC_IPFS, RPC_GATEWAY: the file HASH (unixfs.h) as a stream of its bytes; no time-out */
};

struct rpc_request {
	const char *method;
	uint8_t form;    /* 1: a body follows (rpc_part_head()), else there is none */
	char url[RPC_URL + 1];
	char headers[RPC_HEADERS][RPC_HEADER + 1]; /* lines; "Expect:" switches that header off in libcurl */
	unsigned nheaders;
};

/* rpc_build(r, s, ask, hash, timeout_ms, boundary, e): the request.  HASH: ERIS_REF bytes, or NULL where
 * there is none; TIMEOUT_MS: for those that ask for a block or for peers, after which the daemon itself gives up;
 * BOUNDARY: for forms, RPC_BOUNDARY random hex digits.  -1 if such a source is not asked such things. */
int rpc_build(struct rpc_request *r, const struct rpc_source *s, enum rpc_ask ask, const uint8_t *hash,
    uint32_t timeout_ms, const char *boundary, struct err *e);

/* What stands before each part of a form (FIRST: 1 for the first) and behind the last.  Return lengths. */
#define RPC_PART 256
size_t rpc_part_head(char to[RPC_PART], const char *boundary, int first);
size_t rpc_part_end(char to[RPC_PART], const char *boundary);

struct rpc_reply {
	uint8_t connected;        /* 0: no connection */
	uint8_t complete;         /* 1: the body has come to its end */
	int status;               /* 0: no answer */
	int64_t retry_after;      /* seconds, or -1 */
	const char *stream_error; /* the trailer, or NULL */
	const uint8_t *body;      /* as much as was kept: one byte more than a block is enough */
	size_t len;
};

enum rpc_verdict {
	RPC_BLOCK,       /* the right block; for other questions: yes, done */
	RPC_MISSING,
	RPC_BUSY,
	RPC_UNREACHABLE, /* nobody there, or nobody who could ever answer this */
	RPC_LIE,         /* another block */
};

/* Characters of them. */
#define RPC_SAID 120

struct rpc_judgement {
	enum rpc_verdict verdict;
	const char *why;   /* static text, or NULL for RPC_BLOCK */
	uint32_t retry_ms; /* RPC_BUSY: what the answer asks for, or 0 */
	char said[RPC_SAID]; /* RPC_BUSY: the daemon's own words about its error, printable; or empty */
};

/* rpc_judge(j, s, ask, hash, block_size, reply): ASK is RPC_GET, RPC_NODE, RPC_HAS, RPC_IMPORT, RPC_EXPORT
 * or RPC_FILE (the way only: what has come is a CAR, or blocks) or RPC_VERSION; a block is hashed (block_init()). */
void rpc_judge(struct rpc_judgement *j, const struct rpc_source *s, enum rpc_ask ask, const uint8_t *hash,
    uint32_t block_size, const struct rpc_reply *reply);

/* rpc_streams_files(reply): 1 if the answer to RPC_VERSION says that the daemon may be asked for RPC_FILE and left before
 * its end: Kubo, which names the language it is written in.  js-ipfs does not, and ends when that happens. */
int rpc_streams_files(const struct rpc_reply *reply);

/* rpc_judge_put(j, refs, n, stored, reply): the answer to RPC_PUT of N blocks; stored[i] becomes 1 for those
 * that it names.  RPC_BLOCK if all are. */
void rpc_judge_put(struct rpc_judgement *j, const uint8_t (*refs)[ERIS_REF], size_t n, uint8_t *stored,
    const struct rpc_reply *reply);

/* rpc_json(data, len, key, out, size): the text of the member KEY of a JSON object (not of objects within
 * it), with escapes and unprintable characters as '?', cut to fit.  0 or -1. */
int rpc_json(const uint8_t *data, size_t len, const char *key, char *out, size_t size);

#endif
