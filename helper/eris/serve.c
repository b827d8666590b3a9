/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): a directory of blocks, nars and narinfos as a read-only HTTP server.
 *
 * One thread, libmicrohttpd with epoll.  After the lock the process can accept, read and write connections
 * and read files beneath the directory, and nothing else. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/capability.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "helper/common/limit.h"
#include "policy/landlock.h"
#include "helper/eris/address.h"
#include "helper/eris/block.h"
#include "helper/eris/part.h"
#include "helper/eris/request.h"
#include "helper/eris/serve.h"
#include "helper/eris/store.h"
#include "helper/eris/urn.h"
#include "helper/ipfs/manifest.h"
#include "policy/policy.h"

/* Connections at a time, those of one address, and seconds without a byte after which one is closed. */
#define CONNECTIONS 256u
#define CONNECTIONS_EACH 128u
#define IDLE 60u

#define BLOCK_PATH "/uri-res/N2R"
#define OCTETS "application/octet-stream"

struct server {
	int dir;
	uint8_t block[MANIFEST_ROOT + 1];
};

/* --- Answers -------------------------------------------------------------------------------------------- */

static enum MHD_Result
answer(struct MHD_Connection *c, unsigned status, struct MHD_Response *r)
{
	enum MHD_Result rc;

	if (r == NULL)
		return MHD_NO; /* closes the connection: out of memory */
	rc = MHD_queue_response(c, status, r);
	MHD_destroy_response(r);
	return rc;
}

/* A few words; TEXT is static. */
static enum MHD_Result
say(struct MHD_Connection *c, unsigned status, const char *text)
{
	/* The library only reads it; its parameter just has no const. */
	union {
		const char *in;
		void *out;
	} body = { .in = text };
	struct MHD_Response *r = MHD_create_response_from_buffer(strlen(text), body.out,
	    MHD_RESPMEM_PERSISTENT);

	if (r != NULL) {
		MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain");
		if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
			MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	}
	return answer(c, status, r);
}

/* --- Blocks --------------------------------------------------------------------------------------------- */

static enum MHD_Result
keep_query(void *ctx, enum MHD_ValueKind kind, const char *key, const char *value)
{
	const char **query = ctx;

	(void)kind;
	*query = *query == NULL && value == NULL && key != NULL ? key : "";
	return MHD_YES;
}

/* Blocks, and the nodes of manifests, are small, and checked before they are sent: a bad disk must not make a
 * liar of this server. */
static enum MHD_Result
send_block(struct server *s, struct MHD_Connection *c)
{
	char tag[URN_REF_LEN + 3];
	const char *query = NULL;
	uint8_t ref[ERIS_REF];
	uint64_t offset, length;
	struct MHD_Response *r;
	unsigned status;
	size_t len;

	MHD_get_connection_values(c, MHD_GET_ARGUMENT_KIND, keep_query, &query);
	if (query == NULL || request_block(query, ref) != 0)
		return say(c, MHD_HTTP_BAD_REQUEST, "The query must be urn:blake2b:REFERENCE.\n");
	if (store_get(s->dir, ref, s->block, sizeof(s->block), &len, NULL) != 0)
		return say(c, MHD_HTTP_NOT_FOUND, "There is no such block.\n");
	tag[0] = '"';
	urn_ref_format(tag + 1, ref);
	if (!manifest_check(ref, s->block, len)) {
		fprintf(stderr, "narlock-eris: the file of block %s is damaged\n", tag + 1);
		return say(c, MHD_HTTP_NOT_FOUND, "The block is damaged.\n");
	}
	strcat(tag, "\"");
	status = part_choose(c, len, tag, &offset, &length);
	if (status == MHD_HTTP_RANGE_NOT_SATISFIABLE)
		return answer(c, status, part_none(len));
	r = MHD_create_response_from_buffer((size_t)length, s->block + offset, MHD_RESPMEM_MUST_COPY);
	if (r != NULL)
		part_describe(r, status, OCTETS, tag, "public, max-age=31536000, immutable", offset, length, len);
	return answer(c, status, r);
}

/* --- Files ---------------------------------------------------------------------------------------------- */

static const char *
type_of(const char *path)
{
	size_t len = strlen(path);

	if (len > 8 && strcmp(path + len - 8, ".narinfo") == 0)
		return "text/x-nix-narinfo";
	return strcmp(path, "nix-cache-info") == 0 ? "text/plain" : OCTETS;
}

static enum MHD_Result
send_file(struct server *s, struct MHD_Connection *c, const char *path)
{
	struct MHD_Response *r;
	uint64_t offset, length, size;
	struct stat st;
	char tag[64];
	unsigned status;
	int fd = store_file(s->dir, path);

	if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		if (fd >= 0)
			close(fd);
		return say(c, MHD_HTTP_NOT_FOUND, "There is no such file.\n");
	}
	size = (uint64_t)st.st_size;
	snprintf(tag, sizeof(tag), "\"%llx-%llx-%lx\"", (unsigned long long)size,
	    (unsigned long long)st.st_mtim.tv_sec, (unsigned long)st.st_mtim.tv_nsec);
	status = part_choose(c, size, tag, &offset, &length);
	if (status == MHD_HTTP_RANGE_NOT_SATISFIABLE) {
		close(fd);
		return answer(c, status, part_none(size));
	}
	r = MHD_create_response_from_fd_at_offset64(length, fd, offset);
	if (r == NULL)
		close(fd);
	else
		part_describe(r, status, type_of(path), tag, NULL, offset, length, size);
	return answer(c, status, r);
}

static enum MHD_Result
handle(void *ctx, struct MHD_Connection *c, const char *url, const char *method, const char *version,
    const char *body, size_t *body_len, void **state)
{
	struct server *s = ctx;
	const char *path;
	static int seen;

	(void)version;
	(void)body;
	if (*state == NULL) {
		/* The first call comes with the headers; an answer now would cost the connection. */
		*state = &seen;
		return MHD_YES;
	}
	if (*body_len != 0) {
		*body_len = 0; /* nobody reads it */
		return MHD_YES;
	}
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return say(c, MHD_HTTP_METHOD_NOT_ALLOWED, "This server only gives.\n");
	if (strcmp(url, BLOCK_PATH) == 0)
		return send_block(s, c);
	path = request_file(url);
	return path == NULL ? say(c, MHD_HTTP_NOT_FOUND, "There is no such file.\n") : send_file(s, c, path);
}

/* Percent signs in a path; a NUL among them would hide what follows, so it stays as it is and names no
 * file. */
static size_t
unescape(void *ctx, struct MHD_Connection *c, char *text)
{
	const char *nul = strstr(text, "%00");

	(void)ctx;
	(void)c;
	return nul == NULL ? MHD_http_unescape(text) : strlen(text);
}

/* --- Beginning ------------------------------------------------------------------------------------------ */

static int
is_loopback(const union address *a)
{
	if (a->any.sa_family == AF_INET)
		return ntohl(a->in.sin_addr.s_addr) >> 24 == 127;
	return IN6_IS_ADDR_LOOPBACK(&a->in6.sin6_addr);
}

static int
listen_on(const struct serve_options *o, struct err *e)
{
	union address a;
	socklen_t len = 0;
	const int one = 1;
	int fd;

	if (address_parse(&a, &len, o->listen, e) != 0)
		return -1;
	if (!o->allow_remote && !is_loopback(&a))
		return err_set(e, "%s can be reached from other machines: this needs --allow-remote",
		    o->listen);
	fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(e, errno, "socket");
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
	    (a.any.sa_family == AF_INET6 &&
	    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) != 0) ||
	    bind(fd, &a.any, len) != 0 || listen(fd, 128) != 0) {
		err_sys(e, errno, "cannot listen on %s", o->listen);
		close(fd);
		return -1;
	}
	return fd;
}

/* The URL of a listening socket as a line. */
static int
describe_socket(int fd, char *line, size_t size, struct err *e)
{
	char host[INET6_ADDRSTRLEN] = "";
	union address a;
	socklen_t len = sizeof(a);

	if (getsockname(fd, &a.any, &len) != 0)
		return err_sys(e, errno, "getsockname");
	if (a.any.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &a.in6.sin6_addr, host, sizeof(host));
		snprintf(line, size, "http://[%s]:%u/\n", host, ntohs(a.in6.sin6_port));
	} else {
		inet_ntop(AF_INET, &a.in.sin_addr, host, sizeof(host));
		snprintf(line, size, "http://%s:%u/\n", host, ntohs(a.in.sin_port));
	}
	return 0;
}

/* Root is of no use here; without capabilities it can do little more than others. */
static int
drop_capabilities(struct err *e)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const struct __user_cap_data_struct none[2] = { { 0 } };

	if (syscall(SYS_capset, &head, none) != 0)
		return err_sys(e, errno, "cannot drop the capabilities");
	return 0;
}

static int
confine(const struct serve_options *o, struct err *e)
{
	const struct landlock_rule rule = { o->directory, LANDLOCK_READ };
	struct landlock_result r;

	/* For each connection a socket and a file. */
	if (limit_set(RLIMIT_NOFILE, 2 * CONNECTIONS + 32, "NOFILE", e) != 0 || limit_set(RLIMIT_CORE, 0, "CORE", e) != 0 ||
	    drop_capabilities(e) != 0)
		return -1;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		return err_sys(e, errno, "prctl");
	if (landlock_confine(&rule, 1, LANDLOCK_NO_BIND | LANDLOCK_NO_CONNECT | LANDLOCK_SCOPE, &r, e) != 0)
		return -1;
	if (!r.fs)
		fputs("narlock-eris: no Landlock in this kernel: the system call filter stands alone\n",
		    stderr);
#ifndef NARLOCK_NO_SECCOMP
	return policy_load(POLICY_OF(eris), e);
#else
	return 0;
#endif
}

static int
run(struct server *s, int fd, const struct serve_options *o, struct err *e)
{
	/* The library takes the socket; its addresses are of no interest, and nothing is logged. */
	struct MHD_Daemon *d = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, handle, s,
	    MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS,
	    MHD_OPTION_PER_IP_CONNECTION_LIMIT, o->allow_remote ? CONNECTIONS_EACH : 0u,
	    MHD_OPTION_CONNECTION_TIMEOUT, IDLE, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,
	    MHD_OPTION_UNESCAPE_CALLBACK, unescape, NULL, MHD_OPTION_END);
	char line[INET6_ADDRSTRLEN + 24];
	int rc;

	if (d == NULL) {
		close(fd);
		return err_set(e, "the HTTP server does not start");
	}
	rc = describe_socket(fd, line, sizeof(line), e);
	if (rc == 0)
		rc = confine(o, e);
	if (rc == 0 && write(STDOUT_FILENO, line, strlen(line)) < 0)
		rc = err_sys(e, errno, "standard output");
	while (rc == 0)
		if (MHD_run_wait(d, -1) != MHD_YES)
			rc = err_set(e, "the HTTP server has stopped");
	MHD_stop_daemon(d);
	return rc;
}

int
serve_run(const struct serve_options *o, struct err *e)
{
	static struct server s;
	int fd, rc = -1;

	/* The C library reads the time zone even for Date headers, which are in UTC. */
	tzset();
	/* sendfile() has no flag against this signal. */
	signal(SIGPIPE, SIG_IGN);
	if (syscall(SYS_close_range, 3u, ~0u, 0) != 0)
		return err_sys(e, errno, "cannot close descriptors");
	s.dir = store_open(o->directory, 0, e);
	if (s.dir < 0)
		return -1;
	fd = listen_on(o, e);
	if (fd >= 0)
		rc = run(&s, fd, o, e);
	close(s.dir);
	return rc;
}
