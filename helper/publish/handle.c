/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): what an HTTP request is for. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "helper/eris/part.h"
#include "helper/publish/files.h"
#include "helper/publish/info.h"
#include "helper/publish/page.h"
#include "helper/publish/worker.h"

#define BLOCK_PATH "/uri-res/N2R"
#define ERIS_PATH "/eris/"
#define NARINFO_END ".narinfo"
/* Longest path of a request. */
#define PATH_MOST 1024

/* --- Nars --------------------------------------------------------------------------------------------- */

static enum MHD_Result
send_nar(struct worker *w, struct MHD_Connection *c, int fd, const struct stat *st)
{
	uint64_t size = (uint64_t)st->st_size, offset, length;
	char tag[64], date[40], age[40];
	struct MHD_Response *r;
	unsigned status;

	snprintf(tag, sizeof tag, "\"%llx-%llx\"", (unsigned long long)size,
	    (unsigned long long)files_mtime(st));
	reply_date(date, st->st_mtim.tv_sec);
	if (reply_has_it(c, tag, date)) {
		close(fd);
		return reply_not_modified(w, c, tag, reply_age(age, w->o->conf->ttl));
	}
	status = part_choose(c, size, tag, &offset, &length);
	if (status == MHD_HTTP_RANGE_NOT_SATISFIABLE) {
		close(fd);
		return reply_unsatisfiable(c, size);
	}
	r = MHD_create_response_from_fd_at_offset64(length, fd, offset);
	if (r == NULL)
		close(fd);
	else {
		part_describe(r, status, "application/octet-stream", tag, reply_age(age, w->o->conf->ttl),
		    offset, length,
		    size);
		MHD_add_response_header(r, MHD_HTTP_HEADER_LAST_MODIFIED, date);
	}
	reply_size(c, length);
	shared_add(w->counts, COUNT_NAR, 1);
	shared_add(w->counts, COUNT_NAR_BYTES, length);
	return reply_send(c, status, r);
}

/* NAME.nar, NAME.nar.zst and the like. */
static int
is_nar(const char *path)
{
	const char *end = strstr(path, ".nar");

	return end != NULL && (end[4] == '\0' || end[4] == '.');
}

/* Any file of the cache that is a nar by its name: percent signs are decoded by the library. */
static enum MHD_Result
nar(struct worker *w, struct MHD_Connection *c, const char *url, struct request *r)
{
	char path[LIMIT_PATH];

	for (int form = 0; form < INFO_FORMS; form++) {
		struct stat st;
		int fd;

		if (info_file(path, url + 1, strlen(url + 1), form, 0) != 0)
			continue;
		/* Not the rest of the cache: its files are of no use to anybody. */
		if (form == 1 && !is_nar(path))
			continue;
		fd = files_open(w->o->cache, path, &st);
		if (fd >= 0) {
			if (w->o->conf->mirror)
				files_used(fd, &st);
			return send_nar(w, c, fd, &st);
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
			return reply_say(c, MHD_HTTP_SERVICE_UNAVAILABLE, "Too many files are open.\n");
	}
	if (info_file(path, url + 1, strlen(url + 1), 0, 0) == 0 && waits_for_nar(w, c, r, path))
		return MHD_YES;
	shared_add(w->counts, COUNT_NAR_MISSING, 1);
	return reply_say(c, MHD_HTTP_NOT_FOUND, "There is no such nar.\n");
}

/* --- Pages -------------------------------------------------------------------------------------------- */

static enum MHD_Result
text(struct worker *w, struct MHD_Connection *c, const char *type, const char *cache, const char *data,
    size_t len)
{
	struct MHD_Response *r;
	uint64_t offset, length;
	unsigned status;
	char tag[24];
	union {
		const char *in;
		void *out;
	} body = { .in = data };

	reply_tag(tag, data, len);
	if (reply_has_it(c, tag, NULL))
		return reply_not_modified(w, c, tag, cache);
	status = part_choose(c, len, tag, &offset, &length);
	if (status == MHD_HTTP_RANGE_NOT_SATISFIABLE)
		return reply_unsatisfiable(c, len);
	body.in += offset;
	r = MHD_create_response_from_buffer((size_t)length, body.out, MHD_RESPMEM_MUST_COPY);
	reply_size(c, length);
	shared_add(w->counts, COUNT_OTHER, 1);
	if (r != NULL) {
		part_describe(r, status, type, tag, cache, offset, length, len);
		MHD_add_response_header(r, "Content-Security-Policy",
		    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'");
		MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
	}
	return reply_send(c, status, r);
}

static enum MHD_Result
page(struct worker *w, struct MHD_Connection *c, size_t (*make)(char *, const struct conf *,
    const struct shared *),
    const char *type)
{
	char *out = malloc(PAGE_ROOM);
	enum MHD_Result rc;

	if (out == NULL)
		return MHD_NO;
	rc = text(w, c, type, "no-cache", out, make(out, w->o->conf, w->o->shared));
	free(out);
	return rc;
}

static enum MHD_Result
cache_info(struct worker *w, struct MHD_Connection *c)
{
	char out[LIMIT_PATH + 80], age[40];
	int n = snprintf(out, sizeof out, "StoreDir: %s\nWantMassQuery: 0\nPriority: %u\n",
	    w->o->conf->store_dir,
	    w->o->conf->priority);

	return text(w, c, "text/plain", reply_age(age, w->o->conf->ttl), out, (size_t)n);
}

/* Whether it can do its work now. */
static enum MHD_Result
health(struct worker *w, struct MHD_Connection *c)
{
	struct catalog_nar any;
	struct stat st;

	if (fstatat(w->o->cache, "", &st, AT_EMPTY_PATH) != 0 || st.st_nlink == 0)
		return reply_say(c, MHD_HTTP_SERVICE_UNAVAILABLE, "The cache directory is gone.\n");
	if (catalog_next(place_catalog(w->place), 0, 0, &any, NULL) < 0)
		return reply_say(c, MHD_HTTP_SERVICE_UNAVAILABLE, "The index cannot be read.\n");
	return text(w, c, "text/plain", "no-cache", "ok\n", 3);
}

/* --- Dispatch ----------------------------------------------------------------------------------------- */

/* /HASH.narinfo: 32 characters, nothing else. */
static const char *
narinfo_part(const char *url)
{
	return strlen(url) == 1 + 32 + sizeof NARINFO_END - 1 && strcmp(url + 33, NARINFO_END) == 0 ?
	    url + 1 : NULL;
}

static int
is_sane(const char *url)
{
	size_t n = strlen(url);

	if (url[0] != '/' || n > PATH_MOST)
		return 0;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)url[i] < 0x20 || url[i] == 0x7f)
			return 0;
	return 1;
}

static enum MHD_Result
get(struct worker *w, struct MHD_Connection *c, const char *url, struct request *r)
{
	const char *part = narinfo_part(url);

	if (strcmp(url, BLOCK_PATH) == 0)
		return blocks_ask(w, c, r);
	if (part != NULL)
		return infos_narinfo(w, c, part, r);
	if (strncmp(url, ERIS_PATH, sizeof ERIS_PATH - 1) == 0 && strlen(url) == sizeof ERIS_PATH - 1 + 32)
		return infos_eris(w, c, url + sizeof ERIS_PATH - 1);
	if (strcmp(url, "/nix-cache-info") == 0)
		return cache_info(w, c);
	if (strcmp(url, "/") == 0 || strcmp(url, "/index.html") == 0)
		return page(w, c, page_status, "text/html; charset=utf-8");
	if (strcmp(url, "/metrics") == 0)
		return page(w, c, page_metrics, "text/plain; version=0.0.4; charset=utf-8");
	if (strcmp(url, "/healthz") == 0)
		return health(w, c);
	if (strncmp(url, AGAIN_STATUS, sizeof AGAIN_STATUS - 1) == 0)
		return again_status(w, c, url + sizeof AGAIN_STATUS - 1);
	return nar(w, c, url, r);
}

enum MHD_Result
handle_request(struct worker *w, struct MHD_Connection *c, const char *url, const char *method,
    struct request *r)
{
	/* "GET http://HOST/PATH", as to a proxy. */
	if (strncmp(url, "http://", 7) == 0)
		url = strchr(url + 7, '/') == NULL ? "/" : strchr(url + 7, '/');
	if (r->bad) {
		shared_add(w->counts, COUNT_REFUSED, 1);
		return reply_say(c, MHD_HTTP_BAD_REQUEST, "Two lengths for one body.\n");
	}
	if (!is_sane(url)) {
		shared_add(w->counts, COUNT_REFUSED, 1);
		return reply_say(c, MHD_HTTP_BAD_REQUEST, "There is no such path.\n");
	}
	if (strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0)
		return get(w, c, url, r);
	if (strncmp(url, AGAIN_PATH, sizeof AGAIN_PATH - 1) == 0 && strcmp(method, MHD_HTTP_METHOD_POST) == 0)
		return again_post(w, c, url + sizeof AGAIN_PATH - 1);
	shared_add(w->counts, COUNT_REFUSED, 1);
	return reply_say(c, MHD_HTTP_METHOD_NOT_ALLOWED, "This server only gives.\n");
}
