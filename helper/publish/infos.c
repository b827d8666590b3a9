/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): requests for narinfos, and for what is known of the blocks of their nars. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helper/eris/urn.h"
#include "helper/ipfs/manifest.h"
#include "helper/eris/part.h"
#include "helper/publish/files.h"
#include "helper/publish/info.h"
#include "helper/publish/worker.h"

/* For how long an answer is given again without another look (milliseconds). */
#define KEPT_MS 1000
/* For how many seconds at most clients may keep an answer that lacks lines which are on their way. */
#define UNFINISHED 60
#define NARINFO "application/x-nix-narinfo"

/* A narinfo of the cache, and what the index knows of its nars. */
struct found {
	char *text;
	size_t len;
	int64_t mtime;
	int unfinished; /* lines will come that are not there yet */
	struct info info;
	struct info_lines lines[LIMIT_NARINFO_URLS];
};

static void
know(struct info_lines *l, const struct info_group *g, const struct catalog_nar *nars, unsigned n,
    int64_t mtime)
{
	char path[LIMIT_PATH];

	l->urn[0] = l->manifest[0] = '\0';
	for (int form = 0; form < INFO_FORMS; form++) {
		if (info_file(path, g->url.at, g->url.len, form, 1) != 0)
			continue;
		for (unsigned i = 0; i < n; i++) {
			if (nars[i].state != CATALOG_READY || strcmp(nars[i].path, path) != 0 ||
			    (g->file_size != 0 && g->file_size != nars[i].size))
				continue;
			urn_format(l->urn, &nars[i].cap);
			if (nars[i].has_manifest && nars[i].info_mtime == mtime)
				manifest_cid_format(l->manifest, nars[i].manifest);
			return;
		}
	}
}

/* 1: found; 0: there is none; -1: the index fails.  F->text is to be freed. */
static int
find(struct worker *w, const char *part, struct found *f)
{
	struct catalog_nar *nars;
	struct catalog_info info;
	int64_t hash = catalog_hash(part);
	const char *is_for;
	struct stat st;
	unsigned n = 0;
	int rc;

	f->text = NULL;
	f->unfinished = 0;
	rc = hash < 0 ? 0 : catalog_info(place_catalog(w->place), hash, &info, NULL);
	if (rc <= 0 || files_text(w->o->cache, info.path, LIMIT_NARINFO, &f->text, &f->len, &st) != 0)
		return rc < 0 ? -1 : 0;
	f->mtime = files_mtime(&st);
	is_for = info_parse(&f->info, f->text, f->len) == 0 ? info_hash_part(&f->info) : NULL;
	if (is_for == NULL || memcmp(is_for, part, 32) != 0)
		return 0;
	nars = malloc(LIMIT_NARINFO_URLS * sizeof *nars);
	if (nars == NULL || catalog_nars_of(place_catalog(w->place), hash, nars, LIMIT_NARINFO_URLS, &n,
	    NULL) != 0) {
		free(nars);
		return -1;
	}
	for (unsigned g = 0; g < f->info.n; g++)
		know(&f->lines[g], &f->info.groups[g], nars, n, f->mtime);
	for (unsigned i = 0; i < n && !f->info.has_eris; i++)
		f->unfinished |= nars[i].state == CATALOG_READY ? nars[i].info_mtime != f->mtime :
		    nars[i].state != CATALOG_UNUSABLE;
	free(nars);
	return 1;
}

static enum MHD_Result
absent(struct worker *w, struct MHD_Connection *c)
{
	static const char text[] = "Resource not found.\n";
	union {
		const char *in;
		void *out;
	} body = { .in = text };
	struct MHD_Response *r = MHD_create_response_from_buffer(sizeof text - 1, body.out,
	    MHD_RESPMEM_PERSISTENT);
	char age[40];

	shared_add(w->counts, COUNT_NARINFO_MISSING, 1);
	if (r != NULL) {
		MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain; charset=utf-8");
		if (reply_age(age, w->o->conf->negative_ttl) != NULL)
			MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, age);
	}
	return reply_send(c, MHD_HTTP_NOT_FOUND, r);
}

/* What clients are told about keeping a narinfo. */
static const char *
age_of(const struct worker *w, int unfinished, char text[40])
{
	unsigned ttl = w->o->conf->ttl;

	return reply_age(text, unfinished && ttl > UNFINISHED ? UNFINISHED : ttl);
}

/* The answer of an item into its place. */
static int
keep(struct worker *w, struct kept_info *k, const char *part)
{
	struct found *f = malloc(sizeof *f);
	char *out = NULL, age[40];
	size_t n = 0;
	int rc = f == NULL ? -1 : find(w, part, f);

	if (k->response != NULL)
		MHD_destroy_response(k->response);
	k->response = NULL;
	if (rc > 0 && (out = malloc(INFO_ROOM(f->len))) == NULL)
		rc = -1;
	if (rc > 0) {
		n = info_add(out, &f->info, f->text, f->len, f->lines);
		reply_tag(k->tag, out, n);
		reply_date(k->date, f->mtime / 1000000000);
		k->response = MHD_create_response_from_buffer(n, out, MHD_RESPMEM_MUST_FREE);
		if (k->response == NULL)
			free(out);
		else {
			part_describe(k->response, MHD_HTTP_OK, NARINFO, k->tag, age_of(w, f->unfinished,
			    age), 0, n, n);
			MHD_add_response_header(k->response, MHD_HTTP_HEADER_LAST_MODIFIED, k->date);
			k->hash = catalog_hash(part);
			k->size = n;
			k->unfinished = f->unfinished;
			/* The lines are there as soon as the index has them. */
			k->until = w->now + (f->unfinished ? 0 : KEPT_MS);
		}
	}
	if (f != NULL)
		free(f->text);
	free(f);
	return rc;
}

/* A part of a narinfo: nobody asks for it but who tests. */
static enum MHD_Result
send_part(struct worker *w, struct MHD_Connection *c, const char *part, const char *tag)
{
	struct found *f = malloc(sizeof *f);
	char *out = f != NULL && find(w, part, f) > 0 ? malloc(INFO_ROOM(f->len)) : NULL;
	size_t n = out == NULL ? 0 : info_add(out, &f->info, f->text, f->len, f->lines);
	struct MHD_Response *r = NULL;
	uint64_t offset, length;
	unsigned status = out == NULL ? MHD_HTTP_NOT_FOUND : part_choose(c, n, tag, &offset, &length);
	enum MHD_Result rc;

	if (status == MHD_HTTP_NOT_FOUND)
		rc = absent(w, c);
	else if (status == MHD_HTTP_RANGE_NOT_SATISFIABLE)
		rc = reply_unsatisfiable(c, n);
	else {
		r = MHD_create_response_from_buffer((size_t)length, out + offset, MHD_RESPMEM_MUST_COPY);
		if (r != NULL)
			part_describe(r, status, NARINFO, tag, NULL, offset, length, n);
		rc = reply_send(c, status, r);
	}
	free(out);
	if (f != NULL)
		free(f->text);
	free(f);
	return rc;
}

enum MHD_Result
infos_narinfo(struct worker *w, struct MHD_Connection *c, const char *part, struct request *r)
{
	int64_t hash = catalog_hash(part);
	struct kept_info *k = &w->infos[(uint64_t)hash % WORKER_INFOS];
	char age[40];

	if (hash < 0)
		return absent(w, c);
	if (k->response == NULL || k->hash != hash || w->now >= k->until) {
		int rc = keep(w, k, part);

		if (rc < 0)
			return reply_say(c, MHD_HTTP_SERVICE_UNAVAILABLE, "The index cannot be read.\n");
		if (rc == 0 && waits_for_narinfo(w, c, r, part))
			return MHD_YES;
		if (rc == 0 || k->response == NULL)
			return absent(w, c);
	}
	if (reply_has_it(c, k->tag, k->date))
		return reply_not_modified(w, c, k->tag, age_of(w, k->unfinished, age));
	shared_add(w->counts, COUNT_NARINFO, 1);
	if (MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_RANGE) != NULL)
		return send_part(w, c, part, k->tag);
	reply_size(c, k->size);
	return reply_queue(c, MHD_HTTP_OK, k->response);
}

enum MHD_Result
infos_eris(struct worker *w, struct MHD_Connection *c, const char *part)
{
	enum { ROOM = 64 * 1024 };
	struct found *f = malloc(sizeof *f);
	char *out = malloc(ROOM), tag[24];
	struct MHD_Response *r = NULL;
	uint64_t offset, length;
	enum MHD_Result rc;
	unsigned status;
	size_t n = 0;

	if (f != NULL)
		f->text = NULL;
	if (f != NULL && out != NULL && find(w, part, f) > 0)
		n = info_index(out, ROOM, &f->info, f->lines);
	if (n == 0)
		rc = absent(w, c);
	else {
		reply_tag(tag, out, n);
		status = part_choose(c, n, tag, &offset, &length);
		if (reply_has_it(c, tag, NULL))
			rc = reply_not_modified(w, c, tag, NULL);
		else if (status == MHD_HTTP_RANGE_NOT_SATISFIABLE)
			rc = reply_unsatisfiable(c, n);
		else {
			shared_add(w->counts, COUNT_ERIS, 1);
			reply_size(c, length);
			r = MHD_create_response_from_buffer((size_t)length, out + offset,
			    MHD_RESPMEM_MUST_COPY);
			if (r != NULL)
				part_describe(r, status, "text/plain; charset=utf-8", tag, NULL, offset,
				    length, n);
			rc = reply_send(c, status, r);
		}
	}
	if (f != NULL)
		free(f->text);
	free(f);
	free(out);
	return rc;
}
