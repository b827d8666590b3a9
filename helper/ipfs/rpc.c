/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (ipfs): what is asked of daemons, gateways and block end-points, and what their answers mean. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "helper/eris/block.h"
#include "helper/eris/urn.h"
#include "helper/ipfs/manifest.h"
#include "helper/ipfs/rpc.h"

/* The CID of the empty block by the identity hash: every gateway has it. */
#define EMPTY_CID "bafkqaaa"

/* --- Sources ----------------------------------------------------------------------------------------- */

static int
is_plain(const char *text)
{
	for (; *text != '\0'; text++)
		if (*text <= ' ' || *text > '~')
			return 0;
	return 1;
}

static int
socket_source(struct rpc_source *s, const char *path, struct err *e)
{
	if (path[0] != '/' || strlen(path) > RPC_SOCKET || !is_plain(path))
		return err_set(e, "no path of a socket");
	strcpy(s->socket, path);
	strcpy(s->base, "http://localhost");
	return 0;
}

/* The part of TEXT up to the next slash, which is at most MAX long; *AT moves behind the slash. */
static int
part(const char **at, char *out, size_t max)
{
	size_t n = strcspn(*at, "/");

	if (n == 0 || n > max)
		return -1;
	memcpy(out, *at, n);
	out[n] = '\0';
	*at += n + ((*at)[n] == '/');
	return 0;
}

static int
multiaddr(struct rpc_source *s, const char *text, struct err *e)
{
	char net[8], host[256], tcp[8], port[8], scheme[8] = "http";
	const char *at = text + 1;

	if (strncmp(text, "/unix/", 6) == 0)
		return socket_source(s, text + 5, e);
	if (part(&at, net, 7) != 0 || part(&at, host, 255) != 0 || part(&at, tcp, 7) != 0 ||
	    part(&at, port, 5) != 0 || strcmp(tcp, "tcp") != 0 || strspn(port, "0123456789") != strlen(port) ||
	    strpbrk(host, "@?#[]") != NULL ||
	    (*at != '\0' && part(&at, scheme, 5) != 0) || *at != '\0')
		return err_set(e, "no address like /ip4/HOST/tcp/PORT");
	if (strcmp(net, "ip4") != 0 && strcmp(net, "ip6") != 0 && strncmp(net, "dns", 3) != 0)
		return err_set(e, "an address that is none of /ip4, /ip6, /dns");
	if (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)
		return err_set(e, "an address with something other than http or https at its end");
	snprintf(s->base, sizeof s->base, strcmp(net, "ip6") == 0 ? "%s://[%s]:%s" : "%s://%s:%s", scheme, host,
	    port);
	return 0;
}

static int
url(struct rpc_source *s, const char *text, struct err *e)
{
	const char *host = strncmp(text, "http://", 7) == 0 ? text + 7 : strncmp(text, "https://", 8) == 0 ?
	    text + 8 : NULL;
	size_t len = strlen(text);

	if (host == NULL || host[0] == '\0' || host[0] == '/' || host[0] == ':')
		return err_set(e, "neither a URL (http, https) nor unix:/PATH nor an address like /ip4/HOST/tcp/PORT");
	if (strpbrk(text, "@?#\\") != NULL)
		return err_set(e, "a URL with a user, query or fragment");
	while (len > 0 && text[len - 1] == '/')
		len--;
	memcpy(s->base, text, len);
	return 0;
}

int
rpc_source(struct rpc_source *s, enum rpc_kind kind, const char *text, const char *authorization,
    struct err *e)
{
	memset(s, 0, sizeof *s);
	s->kind = kind;
	if (strlen(text) > RPC_BASE || !is_plain(text))
		return err_set(e, "an address that is too long or has odd characters");
	if (authorization != NULL && authorization[0] != '\0') {
		size_t scheme = strncmp(authorization, "Bearer ", 7) == 0 ? 7 : strncmp(authorization, "Basic ", 6) == 0 ?
		    6 : 0;

		if (scheme == 0 || authorization[scheme] == '\0' || !is_plain(authorization + scheme) ||
		    strlen(authorization) > RPC_AUTH)
			return err_set(e, "an authorization that is neither \"Bearer ...\" nor \"Basic ...\"");
		strcpy(s->authorization, authorization);
	}
	if (strncmp(text, "unix:", 5) == 0)
		return socket_source(s, text + 5, e);
	return text[0] == '/' ? multiaddr(s, text, e) : url(s, text, e);
}

/* --- Requests ---------------------------------------------------------------------------------------- */

static void
header(struct rpc_request *r, const char *name, const char *value)
{
	snprintf(r->headers[r->nheaders++], RPC_HEADER + 1, "%s%s", name, value);
}

static int
build_ipfs(struct rpc_request *r, const struct rpc_source *s, enum rpc_ask ask, const char *cid,
    uint32_t timeout_ms,
    const char *boundary, struct err *e)
{
	const char *base = s->base;

	r->method = "POST";
	header(r, "Expect:", "");
	r->form = ask == RPC_PUT || ask == RPC_IMPORT;
	if (r->form && (boundary == NULL || strlen(boundary) != RPC_BOUNDARY ||
	    strspn(boundary, "0123456789abcdef") != RPC_BOUNDARY))
		return err_set(e, "a form without a boundary");
	if (r->form)
		header(r, "Content-Type: multipart/form-data; boundary=", boundary);
	switch (ask) {
	case RPC_GET:
	case RPC_NODE:
		/* A bare number of milliseconds is not understood, and answered with nothing. */
		snprintf(r->url, sizeof r->url, "%s/api/v0/block/get?arg=%s&timeout=%ums", base, cid, timeout_ms);
		return 0;
	case RPC_LOCAL:
		snprintf(r->url, sizeof r->url, "%s/api/v0/block/get?arg=%s&offline=true&timeout=%ums", base, cid, timeout_ms);
		return 0;
	case RPC_PEERS:
		snprintf(r->url, sizeof r->url, "%s/api/v0/swarm/peers?timeout=%ums", base, timeout_ms);
		return 0;
	case RPC_HAS:
		/* js-ipfs names the block in the base of the Bitcoin world, unless it is told. */
		snprintf(r->url, sizeof r->url, "%s/api/v0/block/stat?arg=%s&offline=true&cid-base=base32&timeout=%ums", base, cid,
		    timeout_ms);
		return 0;
	case RPC_PUT:
		/* js-ipfs knows only `format'; Kubo takes both. */
		snprintf(r->url, sizeof r->url, "%s/api/v0/block/put?cid-codec=raw&format=raw&mhtype=blake2b-256&mhlen=32"
		    "&pin=false", base);
		return 0;
	case RPC_IMPORT:
		snprintf(r->url, sizeof r->url, "%s/api/v0/dag/import?pin-roots=false&stats=true", base);
		return 0;
	case RPC_EXPORT:
		snprintf(r->url, sizeof r->url, "%s/api/v0/dag/export?arg=%s&progress=false", base, cid);
		return 0;
	case RPC_FILE:
		snprintf(r->url, sizeof r->url, "%s/api/v0/cat?arg=%s&progress=false", base, cid);
		return 0;
	case RPC_VERSION:
		snprintf(r->url, sizeof r->url, "%s/api/v0/version", base);
		return 0;
	}
	return err_set(e, "an unknown question");
}

/* At that name Kubo's gateway only redirects to another name for every CID, which is meant for browsers; at an address it
 * answers. */
static void
host_of_gateway(struct rpc_request *r, const char *base)
{
	static const char name[] = "http://localhost";
	char host[32];
	size_t n;

	if (strncasecmp(base, name, sizeof name - 1) != 0)
		return;
	base += sizeof name - 1;
	n = strcspn(base, "/");
	if ((n == 0 || base[0] == ':') && n <= sizeof ":65535" - 1) {
		snprintf(host, sizeof host, "127.0.0.1%.*s", (int)n, base);
		header(r, "Host: ", host);
	}
}

static int
build_gateway(struct rpc_request *r, const struct rpc_source *s, enum rpc_ask ask, const char *cid,
    struct err *e)
{
	if (ask == RPC_PUT || ask == RPC_IMPORT || ask == RPC_LOCAL || ask == RPC_PEERS)
		return err_set(e, "a gateway gives blocks, and no more");
	r->method = ask == RPC_HAS ? "HEAD" : "GET";
	host_of_gateway(r, s->base);
	if (ask == RPC_HAS)
		header(r, "Cache-Control: ", "only-if-cached");
	if (ask == RPC_EXPORT) {
		header(r, "Accept: ", "application/vnd.ipld.car; version=1; order=dfs; dups=n");
		snprintf(r->url, sizeof r->url, "%s/ipfs/%s?format=car&dag-scope=all", s->base, cid);
		return 0;
	}
	if (ask == RPC_FILE) {
		snprintf(r->url, sizeof r->url, "%s/ipfs/%s", s->base, cid);
		return 0;
	}
	header(r, "Accept: ", "application/vnd.ipld.raw");
	snprintf(r->url, sizeof r->url, "%s/ipfs/%s?format=raw", s->base, ask == RPC_VERSION ? EMPTY_CID : cid);
	return 0;
}

int
rpc_build(struct rpc_request *r, const struct rpc_source *s, enum rpc_ask ask, const uint8_t *hash,
    uint32_t timeout_ms, const char *boundary, struct err *e)
{
	char cid[MANIFEST_CID_LEN + 1] = "", ref[URN_REF_LEN + 1];
	int node = ask == RPC_EXPORT || ask == RPC_NODE, stream = ask == RPC_EXPORT || ask == RPC_FILE;
	int needs = ask == RPC_GET || ask == RPC_LOCAL || ask == RPC_HAS || node || stream;

	memset(r, 0, sizeof *r);
	if (needs != (hash != NULL) || (s->kind == RPC_IPFS && !stream && needs && timeout_ms == 0))
		return err_set(e, "a question without what it needs");
	if (node || ask == RPC_FILE)
		car_cid_text(cid, node ? CAR_NODE : CAR_FILE, hash);
	else if (needs)
		urn_cid_format(cid, hash);
	if (s->authorization[0] != '\0')
		header(r, "Authorization: ", s->authorization);
	if (s->kind == RPC_IPFS)
		return build_ipfs(r, s, ask, cid, timeout_ms, boundary, e);
	if (s->kind == RPC_GATEWAY)
		return build_gateway(r, s, ask, cid, e);
	if (ask != RPC_GET && ask != RPC_HAS && ask != RPC_NODE)
		return err_set(e, "a block end-point has only blocks");
	urn_ref_format(ref, hash);
	r->method = ask == RPC_HAS ? "HEAD" : "GET";
	snprintf(r->url, sizeof r->url, "%s/uri-res/N2R?urn:blake2b:%s", s->base, ref);
	return 0;
}

size_t
rpc_part_head(char to[RPC_PART], const char *boundary, int first)
{
	/* js-ipfs wants a type, and all want a name. */
	return (size_t)snprintf(to, RPC_PART,
	    "%s--%.*s\r\nContent-Disposition: form-data; name=\"file\"; filename=\"block\"\r\n"
	    "Content-Type: application/octet-stream\r\n\r\n", first ? "" : "\r\n", RPC_BOUNDARY, boundary);
}

size_t
rpc_part_end(char to[RPC_PART], const char *boundary)
{
	return (size_t)snprintf(to, RPC_PART, "\r\n--%.*s--\r\n", RPC_BOUNDARY, boundary);
}

/* --- JSON -------------------------------------------------------------------------------------------- */

/* The string that begins at I (its quote): its content to OUT (or NULL).  Returns what is behind it, 0: cut
 * off. */
static size_t
json_string(const uint8_t *data, size_t len, size_t i, char *out, size_t size)
{
	size_t n = 0;

	for (i++; i < len && data[i] != '"'; i++) {
		char c = (char)data[i];

		if (c == '\\') {
			if (++i == len)
				return 0;
			c = data[i] == '"' || data[i] == '\\' || data[i] == '/' ? (char)data[i] : '?';
		}
		if (n + 1 < size)
			out[n++] = c < ' ' || c > '~' ? '?' : c;
	}
	if (size > 0)
		out[n] = '\0';
	return i < len ? i + 1 : 0;
}

static size_t
skip_space(const uint8_t *data, size_t len, size_t i)
{
	while (i < len && (data[i] == ' ' || data[i] == '\t' || data[i] == '\n' || data[i] == '\r'))
		i++;
	return i;
}

int
rpc_json(const uint8_t *data, size_t len, const char *key, char *out, size_t size)
{
	size_t depth = 0, next;
	char name[32];

	for (size_t i = 0; i < len; ) {
		if (data[i] != '"') {
			depth += data[i] == '{' || data[i] == '[';
			if ((data[i] == '}' || data[i] == ']') && depth-- <= 1)
				return -1;
			i++;
			continue;
		}
		if ((next = json_string(data, len, i, name, sizeof name)) == 0)
			return -1;
		i = skip_space(data, len, next);
		if (depth != 1 || i >= len || data[i] != ':')
			continue;
		i = skip_space(data, len, i + 1);
		if (i < len && data[i] == '"' && strcmp(name, key) == 0)
			return json_string(data, len, i, out, size) != 0 ? 0 : -1;
		/* A value that is a string must not be taken for a name. */
		if (i < len && data[i] == '"' && (i = json_string(data, len, i, NULL, 0)) == 0)
			return -1;
	}
	return -1;
}

/* --- Answers ----------------------------------------------------------------------------------------- */

static void
say(struct rpc_judgement *j, enum rpc_verdict verdict, const char *why)
{
	j->verdict = verdict;
	j->why = why;
}

static int
contains(const char *text, const char *const *words)
{
	for (; *words != NULL; words++)
		if (strstr(text, *words) != NULL)
			return 1;
	return 0;
}

/* The end of it, if it is long: the cause stands there. */
static void
quote(struct rpc_judgement *j, const char *text)
{
	size_t n = strlen(text);

	memcpy(j->said, n < RPC_SAID ? text : text + n - (RPC_SAID - 1), n < RPC_SAID ? n + 1 : RPC_SAID);
}

/* What is said with an error of RPC: Kubo and js-ipfs give all of them the same status. */
static void
judge_message(struct rpc_judgement *j, const char *text)
{
	static const char *const absent[] = { "not found", "could not find", "timed out", "deadline exceeded",
	    "timeout", NULL };
	static const char *const useless[] = { "nvalid CID", "nvalid cid", "nrecognized", "no hasher", "No hasher",
	    "nknown", NULL };

	if (contains(text, absent))
		say(j, RPC_MISSING, "does not have the block");
	else if (contains(text, useless))
		say(j, RPC_UNREACHABLE, "does not know this kind of block");
	else
		say(j, RPC_BUSY, "reports an error");
	if (j->verdict == RPC_BUSY)
		quote(j, text);
}

static void
judge_error(struct rpc_judgement *j, enum rpc_kind kind, const struct rpc_reply *r)
{
	char text[256] = "";

	if (r->status == 429 || r->status == 503) {
		say(j, RPC_BUSY, "is busy");
		j->retry_ms = r->retry_after > 3600 ? 3600000 : r->retry_after > 0 ? (uint32_t)r->retry_after * 1000 : 0;
	} else if (r->status >= 300 && r->status < 400)
		say(j, RPC_UNREACHABLE, "leads elsewhere, which is not followed");
	else if (r->status == 401 || r->status == 403)
		say(j, RPC_UNREACHABLE, "refuses us");
	else if (kind == RPC_IPFS && r->status == 500) {
		(void)rpc_json(r->body, r->len, "Message", text, sizeof text);
		judge_message(j, text);
	} else if (kind == RPC_IPFS && (r->status == 404 || r->status == 405))
		say(j, RPC_UNREACHABLE, "is no IPFS daemon");
	else if (r->status == 404 || r->status == 410 || r->status == 412 || r->status == 504)
		say(j, RPC_MISSING, "does not have the block");
	else if (r->status == 408 || r->status >= 500)
		say(j, RPC_BUSY, "reports an error");
	else
		say(j, RPC_UNREACHABLE, "does not understand the question");
}

/* What all questions have in common.  1: a whole answer with status 200 is left to be judged. */
static int
judge_way(struct rpc_judgement *j, enum rpc_kind kind, const struct rpc_reply *r)
{
	memset(j, 0, sizeof *j);
	if (!r->connected) {
		say(j, RPC_UNREACHABLE, "cannot be reached");
		return 0;
	}
	if (r->status == 0) {
		say(j, RPC_BUSY, "breaks the connection");
		return 0;
	}
	if (r->status != 200) {
		judge_error(j, kind, r);
		return 0;
	}
	/* The error came behind the status. */
	if (r->stream_error != NULL && r->stream_error[0] != '\0') {
		judge_message(j, r->stream_error);
		return 0;
	}
	return 1;
}

static void
judge_block(struct rpc_judgement *j, int node, const uint8_t *ref, uint32_t block_size, const struct rpc_reply *r)
{
	char text[256];
	const char *wrong;

	if ((node ? r->len > 0 && r->body[0] == '{' : r->len < block_size) &&
	    rpc_json(r->body, r->len, "Message", text, sizeof text) == 0)
		judge_message(j, text);
	else if (r->len == 0 && r->complete)
		say(j, RPC_MISSING, "answers with nothing");
	else if (!r->complete && (node || r->len < block_size))
		say(j, RPC_BUSY, "breaks off");
	else if (!node && r->len < block_size && manifest_check(ref, r->body, r->len))
		say(j, RPC_MISSING, "has a block of another size"); /* who made the tree is to blame */
	else if (node && !manifest_check(ref, r->body, r->len))
		say(j, RPC_LIE, "another node of a manifest than was asked for");
	else if (!node && (wrong = block_verify(ref, r->body, r->len, block_size)) != NULL)
		say(j, RPC_LIE, wrong);
	else
		say(j, RPC_BLOCK, NULL);
}

/* {"Peers":null} (Kubo) or {"Peers":[]} (js-ipfs), and no other text: 1. */
static int
no_peers(const struct rpc_reply *r)
{
	char text[16];
	size_t n = 0;

	for (size_t i = 0; i < r->len; i++) {
		if (r->body[i] == ' ' || r->body[i] == '\t' || r->body[i] == '\r' || r->body[i] == '\n')
			continue;
		if (n == sizeof text - 1)
			return 0;
		text[n++] = (char)r->body[i];
	}
	text[n] = '\0';
	return strcmp(text, "{\"Peers\":null}") == 0 || strcmp(text, "{\"Peers\":[]}") == 0;
}

void
rpc_judge(struct rpc_judgement *j, const struct rpc_source *s, enum rpc_ask ask, const uint8_t *hash,
    uint32_t block_size, const struct rpc_reply *r)
{
	char text[256], cid[URN_CID_LEN + 1];

	if (!judge_way(j, s->kind, r))
		return;
	if (ask == RPC_GET || ask == RPC_LOCAL || ask == RPC_NODE) {
		judge_block(j, ask == RPC_NODE, hash, block_size, r);
		return;
	}
	if (!r->complete) {
		say(j, RPC_BUSY, "breaks off");
		return;
	}
	if (s->kind == RPC_IPFS && ask == RPC_HAS) {
		urn_cid_format(cid, hash);
		if (rpc_json(r->body, r->len, "Key", text, sizeof text) != 0 || strcmp(text, cid) != 0)
			say(j, RPC_MISSING, "answers with nothing");
	}
	if (ask == RPC_PEERS && no_peers(r))
		say(j, RPC_MISSING, "knows no peers");
	if (s->kind == RPC_IPFS && ask == RPC_VERSION &&
	    rpc_json(r->body, r->len, "Version", text, sizeof text) != 0)
		say(j, RPC_UNREACHABLE, "is no IPFS daemon");
	if (s->kind == RPC_GATEWAY && ask == RPC_VERSION && r->len != 0)
		say(j, RPC_UNREACHABLE, "is no gateway");
	/* An import that fails says so in one of its lines. */
	if (ask == RPC_IMPORT && rpc_json(r->body, r->len, "Message", text, sizeof text) == 0) {
		say(j, RPC_BUSY, "reports an error");
		quote(j, text);
	}
}

int
rpc_streams_files(const struct rpc_reply *r)
{
	char text[32];

	return rpc_json(r->body, r->len, "Golang", text, sizeof text) == 0;
}

void
rpc_judge_put(struct rpc_judgement *j, const uint8_t (*refs)[ERIS_REF], size_t n, uint8_t *stored,
    const struct rpc_reply *r)
{
	const uint8_t *at = r->body, *end = r->body + r->len;
	char text[URN_CID_LEN + 2];
	uint8_t ref[ERIS_REF];
	size_t all = 0;

	memset(stored, 0, n);
	if (!judge_way(j, RPC_IPFS, r))
		return;
	/* One line a block. */
	while (at < end) {
		const uint8_t *line = at, *stop = memchr(at, '\n', (size_t)(end - at));

		at = stop != NULL ? stop + 1 : end;
		if (rpc_json(line, (size_t)(at - line), "Key", text, sizeof text) != 0 ||
		    urn_cid_parse(ref, text, NULL) != 0)
			continue;
		for (size_t i = 0; i < n; i++)
			if (memcmp(refs[i], ref, ERIS_REF) == 0)
				stored[i] = 1;
	}
	for (size_t i = 0; i < n; i++)
		all += stored[i];
	if (all < n)
		say(j, RPC_BUSY, "did not take all blocks");
}
