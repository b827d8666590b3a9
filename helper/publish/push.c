/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): nars into IPFS daemons. */
#include <curl/curl.h>
#include <poll.h>
#include <sodium.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "helper/ipfs/manifest.h"
#include "helper/ipfs/rpc.h"
#include "helper/publish/client.h"
#include "helper/publish/dial.h"
#include "helper/publish/feed.h"
#include "helper/publish/info.h"
#include "helper/publish/push.h"
#include "helper/publish/tool.h"

#define RECORD "push.sqlite"
/* A daemon that neither takes nor gives a byte for so many seconds has failed. */
#define STALL 300L
#define CONNECT 10L
/* Seconds between two attempts to give a daemon what it lacks, and between two looks at what has left. */
#define RETRY 60
#define FORGET 300
/* The command takes so many failures of a daemon, one after the other. */
#define GIVE_UP 10
/* How often a nar that is not as indexed waits until it was read again. */
#define TRIES 3
/* Kept of an answer. */
#define ANSWER 16384

struct daemon {
	char name[LIMIT_URL];        /* as configured: the key of the record */
	struct rpc_source source;
	struct curl_slist *resolve;
	unsigned failures;           /* one after the other */
	time_t rests;                /* until then it gets no nars but those that somebody asks for */
};

struct push {
	const struct conf *conf;
	struct shared *shared;
	const volatile sig_atomic_t *stop;
	int cache, wrong;
	char index[LIMIT_PATH];
	struct catalog *catalog;
	sqlite3 *record;
	sqlite3_stmt *has, *add, *next, *drop;
	struct daemon daemons[CONF_IPFS];
	unsigned n;
	CURL *curl;
	char answer[ANSWER], error[256]; /* trailer */
	size_t len;
	uint64_t sent;               /* by the last push */
	int was_wrong;               /* it has met a nar that is not as indexed */
};

static int
stopped(const struct push *p)
{
	return p->stop != NULL && *p->stop;
}

/* --- The record --------------------------------------------------------------------------------------- */

static int
record_failed(struct push *p, struct err *e)
{
	return err_set(e, "the record of what was pushed: %s", sqlite3_errmsg(p->record));
}

static int
open_record(struct push *p, struct err *e)
{
	char path[LIMIT_PATH + 16];
	int persist = 1;

	snprintf(path, sizeof path, "%s/" RECORD, p->conf->state);
	if (sqlite3_open_v2(path, &p->record,
	    SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) !=
	    SQLITE_OK)
		return record_failed(p, e);
	sqlite3_busy_timeout(p->record, 10000);
	sqlite3_file_control(p->record, NULL, SQLITE_FCNTL_PERSIST_WAL, &persist);
	if (sqlite3_exec(p->record,
	    "PRAGMA journal_mode=wal;PRAGMA synchronous=normal;PRAGMA temp_store=memory;"
	    "CREATE TABLE IF NOT EXISTS pushed(daemon TEXT,nar INTEGER,manifest BLOB,PRIMARY KEY(daemon,nar,manifest))"
	    " WITHOUT ROWID", NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_prepare_v2(p->record, "SELECT 1 FROM pushed WHERE daemon=?1 AND nar=?2 AND manifest=?3",
	    -1, &p->has,
	    NULL) != SQLITE_OK ||
	    sqlite3_prepare_v2(p->record, "INSERT OR IGNORE INTO pushed VALUES(?1,?2,?3)", -1, &p->add,
	    NULL) != SQLITE_OK ||
	    sqlite3_prepare_v2(p->record,
	    "SELECT nar,manifest FROM pushed WHERE daemon=?1 AND (nar,manifest)>(?2,?3)"
	    " ORDER BY nar,manifest LIMIT 1", -1, &p->next, NULL) != SQLITE_OK ||
	    sqlite3_prepare_v2(p->record, "DELETE FROM pushed WHERE daemon=?1 AND nar=?2 AND manifest=?3", -1,
	    &p->drop,
	    NULL) != SQLITE_OK)
		return record_failed(p, e);
	return 0;
}

/* One statement about a nar in a daemon.  1: a row; 0: none; -1. */
static int
ask_record(struct push *p, sqlite3_stmt *s, const struct daemon *d, uint32_t nar, const uint8_t *manifest,
    struct err *e)
{
	int rc;

	sqlite3_bind_text(s, 1, d->name, -1, SQLITE_STATIC);
	sqlite3_bind_int64(s, 2, nar);
	sqlite3_bind_blob(s, 3, manifest, ERIS_REF, SQLITE_STATIC);
	rc = sqlite3_step(s);
	sqlite3_reset(s);
	return rc == SQLITE_ROW ? 1 : rc == SQLITE_DONE ? 0 : record_failed(p, e);
}

/* --- Daemons ------------------------------------------------------------------------------------------ */

static int
resolve(struct daemon *d, struct err *e)
{
	return d->source.socket[0] != '\0' ? 0 : dial_resolve("ipfs", d->source.base, &d->resolve, e);
}

static int
set_up_daemons(struct push *p, struct err *e)
{
	for (; p->n < p->conf->ipfses; p->n++) {
		struct daemon *d = &p->daemons[p->n];

		snprintf(d->name, sizeof d->name, "%s", p->conf->ipfs[p->n]);
		if (rpc_source(&d->source, RPC_IPFS, d->name, NULL, e) != 0 || resolve(d, e) != 0)
			return -1;
	}
	return 0;
}

/* --- Requests ----------------------------------------------------------------------------------------- */

static size_t
on_answer(char *data, size_t one, size_t n, void *ctx)
{
	struct push *p = ctx;
	size_t room = ANSWER - 1 - p->len, take = one * n < room ? one * n : room;

	memcpy(p->answer + p->len, data, take);
	p->len += take;
	p->answer[p->len] = '\0';
	return one * n;
}

/* Headers and trailers: an error behind the first byte comes as one. */
static size_t
on_header(char *data, size_t one, size_t n, void *ctx)
{
	static const char name[] = "x-stream-error:";
	struct push *p = ctx;

	n *= one;
	if (n > sizeof name && strncasecmp(data, name, sizeof name - 1) == 0)
		snprintf(p->error, sizeof p->error, "%.*s", (int)(n - sizeof name), data + sizeof name - 1);
	return n;
}

static size_t
on_body(char *to, size_t one, size_t n, void *ctx)
{
	long got = feed_read(ctx, to, one * n);

	return got < 0 ? CURL_READFUNC_ABORT : (size_t)got;
}

static int
on_progress(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	(void)a;
	(void)b;
	(void)c;
	(void)d;
	return stopped(ctx);
}

static void
set_up(struct push *p, const struct daemon *d, const char *url, struct curl_slist *headers)
{
	CURL *c = p->curl;

	curl_easy_reset(c);
	p->len = 0;
	p->answer[0] = p->error[0] = '\0';
	client_set(c, url, d->resolve);
	curl_easy_setopt(c, CURLOPT_POST, 1L);
	curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, CONNECT);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, STALL);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_answer);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, p);
	curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(c, CURLOPT_HEADERDATA, p);
	curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(c, CURLOPT_XFERINFODATA, p);
	curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
	if (d->source.socket[0] != '\0')
		curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, d->source.socket);
}

/* What the daemon answered.  0, or -1 and why. */
static int
judge(struct push *p, const struct daemon *d, CURLcode result, struct err *e)
{
	struct rpc_reply r = { .connected = result != CURLE_COULDNT_CONNECT, .complete = result == CURLE_OK,
	    .retry_after = -1, .stream_error = p->error[0] != '\0' ? p->error : NULL,
	    .body = (const uint8_t *)p->answer, .len = p->len };
	struct rpc_judgement j;
	char why[256] = "";
	long status = 0;

	curl_easy_getinfo(p->curl, CURLINFO_RESPONSE_CODE, &status);
	r.status = (int)status;
	rpc_judge(&j, &d->source, RPC_IMPORT, NULL, 0, &r);
	if (j.verdict == RPC_BLOCK && strstr(p->answer, "\"PinErrorMsg\":\"") != NULL &&
	    strstr(p->answer, "\"PinErrorMsg\":\"\"") == NULL)
		return err_set(e, "%s: it is there, but not pinned", d->name);
	if (j.verdict == RPC_BLOCK)
		return 0;
	if (result != CURLE_OK)
		snprintf(why, sizeof why, " (%s)", curl_easy_strerror(result));
	else if (rpc_json(r.body, r.len, "Message", why + 2, sizeof why - 3) == 0) {
		why[0] = ' ';
		why[1] = '(';
		strcat(why, ")");
	} else if (status != 0 && status != 200)
		snprintf(why, sizeof why, " (HTTP %ld)", status);
	return err_set(e, "%s: %s%s", d->name, j.why == NULL ? "fails" : j.why, why);
}

static void
tell_wrong(const struct push *p, uint32_t id)
{
	if (p->wrong >= 0)
		send(p->wrong, &id, sizeof id, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static int
import(struct push *p, struct daemon *d, const struct catalog_nar *nar, struct err *e)
{
	char boundary[RPC_BOUNDARY + 1];
	struct feed_options fo = { p->cache, p->index, nar, boundary, p->conf->push_rate, p->stop };
	struct curl_slist *headers = NULL;
	struct rpc_request r;
	unsigned char random[RPC_BOUNDARY / 2];
	struct feed *f;
	CURLcode result;
	char *pin;
	int rc, wrong = 0;

	randombytes_buf(random, sizeof random);
	sodium_bin2hex(boundary, sizeof boundary, random, sizeof random);
	if (rpc_build(&r, &d->source, RPC_IMPORT, NULL, 0, boundary, e) != 0)
		return -1;
	pin = strstr(r.url, "pin-roots=false");
	if (p->conf->pin && pin != NULL)
		memmove(pin + 14, pin + 15, strlen(pin + 15) + 1), memcpy(pin, "pin-roots=true", 14);
	for (unsigned i = 0; i < r.nheaders; i++)
		headers = curl_slist_append(headers, r.headers[i]);
	headers = curl_slist_append(headers, "Transfer-Encoding: chunked");
	f = feed_new(&fo, e);
	if (f == NULL) {
		curl_slist_free_all(headers);
		return -1;
	}
	set_up(p, d, r.url, headers);
	curl_easy_setopt(p->curl, CURLOPT_READFUNCTION, on_body);
	curl_easy_setopt(p->curl, CURLOPT_READDATA, f);
	result = curl_easy_perform(p->curl);
	rc = judge(p, d, result, e);
	d->failures = rc == 0 ? 0 : d->failures + 1;
	/* What went wrong on this side says more than that the request was cut off, and is no fault of the
	 * daemon. */
	if (feed_end(f, &p->sent, &wrong, result == CURLE_ABORTED_BY_CALLBACK || rc == 0 ? e :
	    &(struct err){ 0 }) != 0) {
		rc = -1;
		if (result == CURLE_ABORTED_BY_CALLBACK)
			d->failures = 0;
	}
	d->rests = d->failures > 0 ? time(NULL) + RETRY : 0;
	if (wrong)
		tell_wrong(p, nar->id);
	p->was_wrong |= wrong;
	curl_slist_free_all(headers);
	return rc;
}

/* A question with the CID of a manifest; whatever comes. */
static int
simple(struct push *p, const struct daemon *d, const char *what, const uint8_t *manifest, struct err *e)
{
	char cid[MANIFEST_CID_LEN + 1], url[RPC_URL + 1];
	struct curl_slist *headers = NULL;
	int rc;

	manifest_cid_format(cid, manifest);
	snprintf(url, sizeof url, "%s/api/v0/%s%s", d->source.base, what, cid);
	headers = curl_slist_append(headers, "Expect:");
	set_up(p, d, url, headers);
	curl_easy_setopt(p->curl, CURLOPT_POSTFIELDS, "");
	curl_easy_setopt(p->curl, CURLOPT_POSTFIELDSIZE, 0L);
	curl_easy_setopt(p->curl, CURLOPT_TIMEOUT, 60L);
	rc = judge(p, d, curl_easy_perform(p->curl), e);
	curl_slist_free_all(headers);
	return rc;
}

/* Whether a daemon has failed, and is left alone for a while, so that the others need not wait for it: by the
 * command for good after some failures, for its end is near. */
static int
rests(const struct push *p, const struct daemon *d)
{
	return p->shared == NULL ? d->failures > GIVE_UP : time(NULL) < d->rests;
}

/* --- Nars --------------------------------------------------------------------------------------------- */

int
push_nar(struct push *p, uint32_t id, int again, struct err *e)
{
	struct catalog_nar nar;
	int rc = catalog_nar(p->catalog, id, &nar, e), failed = 0;

	if (rc < 0)
		return -1;
	if (rc == 0 || nar.state != CATALOG_READY || !nar.has_manifest)
		return 1;
	for (unsigned i = 0; i < p->n && !stopped(p); i++) {
		struct daemon *d = &p->daemons[i];
		struct shared_daemon *s = p->shared == NULL ? NULL : &p->shared->daemons[i];
		struct err ignored;

		if (!again && (rests(p, d) || ask_record(p, p->has, d, id, nar.manifest, e) > 0))
			continue;
		rc = import(p, d, &nar, e);
		if (s != NULL) {
			s->known = 1;
			s->up = rc == 0;
			s->nars += rc == 0;
			s->bytes += p->sent;
			s->failures += rc != 0;
		}
		if (rc != 0) {
			failed = 1;
			continue;
		}
		/* Strategies of providing that leave out what a CAR brings need this; the others lose
		 * nothing. */
		simple(p, d, "routing/provide?recursive=false&arg=", nar.manifest, &ignored);
		if (ask_record(p, p->add, d, id, nar.manifest, e) < 0)
			return -1;
	}
	return failed || stopped(p) ? -1 : 0;
}

int
push_next(struct push *p, uint32_t after, uint32_t *id, struct err *e)
{
	struct catalog_nar nar = { .id = after };
	int rc;

	while ((rc = catalog_next(p->catalog, nar.id, 0, &nar, e)) > 0 && !stopped(p)) {
		if (nar.state != CATALOG_READY || !nar.has_manifest)
			continue;
		for (unsigned i = 0; i < p->n; i++)
			if (!rests(p, &p->daemons[i]) && ask_record(p, p->has, &p->daemons[i], nar.id, nar.manifest,
			    e) == 0) {
				*id = nar.id;
				return 1;
			}
	}
	return rc < 0 ? -1 : 0;
}

int
push_forget(struct push *p, struct err *e)
{
	for (unsigned i = 0; i < p->n; i++) {
		struct daemon *d = &p->daemons[i];
		uint8_t manifest[ERIS_REF] = { 0 };
		uint32_t id = 0;

		while (!stopped(p)) {
			struct catalog_nar nar;
			struct err ignored;
			int rc;

			sqlite3_bind_text(p->next, 1, d->name, -1, SQLITE_STATIC);
			sqlite3_bind_int64(p->next, 2, id);
			sqlite3_bind_blob(p->next, 3, manifest, sizeof manifest, SQLITE_TRANSIENT);
			rc = sqlite3_step(p->next);
			if (rc == SQLITE_ROW && sqlite3_column_bytes(p->next, 1) == ERIS_REF) {
				id = (uint32_t)sqlite3_column_int64(p->next, 0);
				memcpy(manifest, sqlite3_column_blob(p->next, 1), ERIS_REF);
			}
			sqlite3_reset(p->next);
			if (rc != SQLITE_ROW)
				break;
			rc = catalog_nar(p->catalog, id, &nar, e);
			if (rc < 0)
				return -1;
			/* What is being read again may turn out to be the same. */
			if (rc > 0 && (nar.state != CATALOG_READY || !nar.has_manifest ||
			    memcmp(nar.manifest, manifest, ERIS_REF) == 0))
				continue;
			/* A daemon that does not answer is asked again next time; one that has no such pin
			 * has lost it. */
			if (p->conf->pin && simple(p, d, "pin/rm?recursive=true&arg=", manifest,
			    &ignored) != 0 &&
			    strstr(p->answer, "not pinned") == NULL) {
				if (p->len == 0)
					break;
				continue;
			}
			if (ask_record(p, p->drop, d, id, manifest, e) < 0)
				return -1;
		}
	}
	return 0;
}

/* --- The process of the server ------------------------------------------------------------------------ */

/* What was taken has become of it: STATE; QUEUED: it waits again, for WAIT seconds at least, as the nar NAR. */
static void
set_state(struct push *p, const struct shared_again *taken, enum shared_again_state state, uint32_t nar,
    unsigned wait)
{
	struct shared_again *a;

	shared_lock(p->shared);
	a = shared_find(p->shared, taken->nar, taken->hash);
	if (a != NULL) {
		a->state = state;
		a->nar = nar;
		a->tries = taken->tries;
		a->since = time(NULL) + wait;
	}
	shared_unlock(p->shared);
}

/* The nar that waits longest.  1, or 0: there is none. */
static int
take(struct push *p, struct shared_again *taken)
{
	struct shared_again *oldest = NULL;

	shared_lock(p->shared);
	for (unsigned i = 0; i < SHARED_QUEUE; i++) {
		struct shared_again *a = &p->shared->queue[i];

		if (a->state == AGAIN_QUEUED && a->since <= time(NULL) &&
		    (oldest == NULL || a->since < oldest->since))
			oldest = a;
	}
	if (oldest != NULL) {
		oldest->state = AGAIN_RUNNING;
		oldest->since = time(NULL);
		*taken = *oldest;
	}
	shared_unlock(p->shared);
	return oldest != NULL;
}

/* The nar that was asked for, which may have been replaced since: its number, 0 if its item has none any
 * more; *READY: whether it can be pushed now. */
static uint32_t
now(struct push *p, const struct shared_again *taken, int *ready)
{
	struct catalog_nar *nars = malloc(LIMIT_NARINFO_URLS * sizeof *nars);
	unsigned n = 0, best = 0;
	struct err ignored;
	uint32_t id = 0;

	if (nars != NULL && catalog_nars_of(p->catalog, taken->hash, nars, LIMIT_NARINFO_URLS, &n, &ignored) != 0)
		n = 0;
	/* The same one, or the newest. */
	for (unsigned i = 0; i < n; i++)
		if (nars[i].state != CATALOG_UNUSABLE && (nars[i].id == taken->nar || id != taken->nar)) {
			id = nars[i].id;
			best = i;
		}
	*ready = id != 0 && nars[best].state == CATALOG_READY && nars[best].has_manifest;
	free(nars);
	return id;
}

static void
count_pins(struct push *p)
{
	sqlite3_stmt *s = NULL;

	if (sqlite3_prepare_v2(p->record, "SELECT count(DISTINCT nar) FROM pushed", -1, &s,
	    NULL) == SQLITE_OK &&
	    sqlite3_step(s) == SQLITE_ROW)
		p->shared->pinned = (uint64_t)sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
}

static void
again(struct push *p, struct shared_again *taken)
{
	struct err e = { 0 };
	int ready, rc;
	uint32_t id = now(p, taken, &ready);

	if (id != 0 && !ready) {
		/* It is being read again. */
		set_state(p, taken, AGAIN_QUEUED, id, 1);
		return;
	}
	p->was_wrong = 0;
	rc = id == 0 ? 1 : push_nar(p, id, 1, &e);
	if (rc != 0 && e.text[0] != '\0')
		fprintf(stderr, "narlock-publish: publish again: %s\n", e.text);
	if (rc != 0 && p->was_wrong && taken->tries++ < TRIES) {
		set_state(p, taken, AGAIN_QUEUED, id, 1);
		return;
	}
	p->shared->again_done += rc == 0;
	p->shared->again_failed += rc != 0;
	set_state(p, taken, rc == 0 ? AGAIN_DONE : id == 0 ? AGAIN_GONE : AGAIN_FAILED, id == 0 ? taken->nar : id, 0);
}

int
push_serve(struct push *p, struct err *e)
{
	time_t next_push = 0, next_forget = time(NULL) + FORGET;
	struct catalog_totals totals = p->shared->totals;
	struct shared_again taken;
	uint32_t at = 0;
	int failed = 0;
	struct err why;

	p->shared->ndaemons = p->n;
	/* Whoever was here before may have died with a nar in hand. */
	shared_lock(p->shared);
	for (unsigned i = 0; i < SHARED_QUEUE; i++)
		if (p->shared->queue[i].state == AGAIN_RUNNING)
			p->shared->queue[i].state = AGAIN_QUEUED;
	shared_unlock(p->shared);
	count_pins(p);
	while (!stopped(p)) {
		int rc = 0;

		if (take(p, &taken)) {
			again(p, &taken);
			count_pins(p);
			continue;
		}
		if (p->conf->push_all && time(NULL) >= next_push) {
			rc = push_next(p, at, &at, e);
			if (rc > 0 && push_nar(p, at, 0, &why) < 0) {
				fprintf(stderr, "narlock-publish: push: %s\n", why.text);
				failed = 1;
			} else if (rc == 0) {
				/* What failed, and does so for reasons of its own, is not tried all the time. */
				at = 0;
				next_push = time(NULL) + (failed ? RETRY : RETRY / 6);
				failed = 0;
				count_pins(p);
			}
			if (rc < 0)
				return -1;
			if (rc > 0)
				continue;
		}
		if (p->shared->totals.nars != totals.nars || p->shared->totals.bytes != totals.bytes) {
			totals = p->shared->totals;
			next_forget = time(NULL);
		}
		if (time(NULL) >= next_forget) {
			if (push_forget(p, e) != 0)
				return -1;
			count_pins(p);
			next_forget = time(NULL) + FORGET;
		}
		poll(NULL, 0, 200);
	}
	return 0;
}

/* --- The command -------------------------------------------------------------------------------------- */

static int
push_named(struct push *p, const char *name, struct err *e)
{
	struct catalog_nar *nars = malloc(LIMIT_NARINFO_URLS * sizeof *nars);
	const char *slash = strrchr(name, '/'), *item = slash == NULL ? name : slash + 1;
	unsigned n = 0, done = 0;
	int rc = nars == NULL || strlen(item) < 32 ? -1 : catalog_nars_of(p->catalog, catalog_hash(item),
	    nars,
	    LIMIT_NARINFO_URLS, &n, e);

	if (nars != NULL && strlen(item) < 32)
		err_set(e, "%s is no name of a store item", name);
	for (unsigned i = 0; i < n && rc == 0; i++) {
		rc = push_nar(p, nars[i].id, 1, e);
		done += rc == 0;
		if (rc == 0)
			printf("%s: %llu bytes\n", nars[i].path, (unsigned long long)p->sent);
		if (rc > 0)
			rc = 0;
	}
	if (rc == 0 && done == 0)
		rc = err_set(e, "%s: there is no nar of it in the index", name);
	free(nars);
	return rc;
}

int
push_command(struct push *p, char **names, int n, struct err *e)
{
	uint64_t nars = 0, bytes = 0, failed = 0;
	unsigned out = 0;
	uint32_t at = 0;
	time_t shown = time(NULL);
	int rc, bar = isatty(STDERR_FILENO);

	if (p->n == 0)
		return err_set(e, "which IPFS daemon? There is no `ipfs = URL' in the configuration");
	for (int i = 0; i < n; i++)
		if (push_named(p, names[i], e) != 0)
			return -1;
	if (n > 0)
		return 0;
	while ((rc = push_next(p, at, &at, e)) > 0) {
		if (push_nar(p, at, 0, e) < 0) {
			fprintf(stderr, "%snarlock-publish: %s\n", bar ? "\n" : "", e->text);
			failed++;
			continue;
		}
		nars++;
		bytes += p->sent;
		if (bar || time(NULL) - shown >= 60) {
			fprintf(stderr, "%s%llu nars, %.1f GB%s", bar ? "\r" : "push: ",
			    (unsigned long long)nars,
			    (double)bytes / 1e9, bar ? " " : "\n");
			shown = time(NULL);
		}
	}
	if (bar)
		fputc('\n', stderr);
	/* A daemon that is away is away for all nars. */
	for (unsigned i = 0; i < p->n; i++)
		if (rests(p, &p->daemons[i])) {
			fprintf(stderr, "narlock-publish: %s was given up\n", p->daemons[i].name);
			out++;
		}
	if (rc < 0 || (out < p->n && push_forget(p, e) != 0))
		return -1;
	printf("%llu nars pushed, %llu bytes, %llu failed\n", (unsigned long long)nars,
	    (unsigned long long)bytes,
	    (unsigned long long)failed);
	return failed > 0 || stopped(p);
}

/* --- Beginning ---------------------------------------------------------------------------------------- */

struct push *
push_new(const struct conf *conf, int cache, struct shared *shared, int wrong,
    const volatile sig_atomic_t *stop,
    struct err *e)
{
	struct push *p = calloc(1, sizeof *p);

	if (p == NULL) {
		err_set(e, "out of memory");
		return NULL;
	}
	p->conf = conf;
	p->cache = cache;
	p->shared = shared;
	p->wrong = wrong;
	p->stop = stop;
	curl_global_init(CURL_GLOBAL_DEFAULT);
	p->curl = curl_easy_init();
	if (p->curl == NULL)
		err_set(e, "libcurl does not start");
	else
		/* Without a URL it fails, but it has looked before the lock whether there is IPv6: newer versions try
		 * a datagram socket once, which the filter does not allow. */
		curl_easy_perform(p->curl);
	if (p->curl != NULL && tool_index_path(conf, p->index, e) > 0 && set_up_daemons(p, e) == 0 &&
	    open_record(p, e) == 0)
		return p;
	push_free(p);
	return NULL;
}

int
push_open(struct push *p, struct err *e)
{
	catalog_close(p->catalog);
	p->catalog = catalog_open(p->index, 0, e);
	return p->catalog == NULL ? -1 : 0;
}

void
push_free(struct push *p)
{
	if (p == NULL)
		return;
	sqlite3_finalize(p->has);
	sqlite3_finalize(p->add);
	sqlite3_finalize(p->next);
	sqlite3_finalize(p->drop);
	sqlite3_close(p->record);
	catalog_close(p->catalog);
	for (unsigned i = 0; i < CONF_IPFS; i++)
		curl_slist_free_all(p->daemons[i].resolve);
	if (p->curl != NULL)
		curl_easy_cleanup(p->curl);
	free(p);
}
