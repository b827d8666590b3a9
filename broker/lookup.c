/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: narinfos of store items, from the cache and from the servers in their order.
 *
 * A path goes from server to server until one gives a narinfo that an authorised key signed.  Many paths are under
 * way at once, each at its own server.  Nothing that comes in is believed before accept() has seen it. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "broker/broker.h"
#include "broker/cache.h"
#include "broker/log.h"
#include "broker/signature.h"
#include "broker/storepath.h"

/* A fetcher that answers nothing for this long while lookups wait is given up. */
#define SILENCE_MS 120000
/* Threads that verify signatures beside the main one, and signatures that make one more worth while. */
#define VERIFIERS 3
#define VERIFY_SHARE 4

static void source_free(struct source *s)
{
	free(s->text);
	memset(s, 0, sizeof *s);
}

void found_free(struct found *f)
{
	source_free(&f->auth);
	for (unsigned i = 0; i < f->mirror_count; i++)
		source_free(&f->mirrors[i]);
	memset(f, 0, sizeof *f);
}

static void set_reason(struct task *t, const struct broker *b, const char *why)
{
	(void)snprintf(t->reason, sizeof t->reason, "server %u of %u: %.180s", t->server + 1u, b->options.url_count, why);
}

/* A server that could not be asked. */
static void failed(struct broker *b, struct task *t, const char *why)
{
	set_reason(t, b, why);
	if (b->lookups.failed++ == 0)
		(void)snprintf(b->lookups.failure, sizeof b->lookups.failure, "%s", t->reason);
}

/* A narinfo that was refused: the admin should know, and why. */
static void record_refused(struct broker *b, const struct task *t, unsigned server, const char *why)
{
	char url[2 * LIMIT_URL + 2];
	struct audit_line l;

	if (b->lookups.refused++ >= LIMIT_AUDIT_REFUSED)
		return;
	audit_begin(&b->audit, &l, "narinfo-refused");
	audit_text(&l, "path", t->path);
	trace_url(url, sizeof url, b->options.urls[server], "");
	audit_text(&l, "narinfo_server", url);
	audit_text(&l, "reason", why);
	audit_end(&b->audit, &l);
}

static void refuse(struct broker *b, struct task *t, const char *why)
{
	set_reason(t, b, why);
	record_refused(b, t, t->server, why);
}

/* Servers have it, but nobody whom the ACL names has signed it: more often a key that was forgotten than an attack, so the
 * user is told, once. */
static void unauthorised(struct broker *b, const struct task *t)
{
	record_refused(b, t, t->found.mirrors[0].server, t->stranger);
	if (b->query != NULL && b->lookups.strangers++ == 0)
		log_say("%s is not offered: server %u of %u: %s (whose keys are trusted: guix archive --authorize; what was refused: "
			"narlock audit)", t->path, t->found.mirrors[0].server + 1u, b->options.url_count, t->stranger);
}

/* Put a narinfo that is (still) unsigned aside: a later server may authorise the same item. */
static void keep_mirror(struct broker *b, struct task *t, struct source *s)
{
	size_t len = strlen(s->text);

	if (t->found.mirror_count == LOOKUP_MIRRORS || b->lookups.kept + len > LIMIT_KEPT_NARINFOS)
		return;
	b->lookups.kept += len;
	t->found.mirrors[t->found.mirror_count++] = *s;
	memset(s, 0, sizeof *s);
}

/* Does the query agent's record of this path allow this narinfo? */
static int recorded(struct broker *b, struct task *t, const struct narinfo *ni)
{
	struct err e;

	if (!(b->lookups.flags & LOOKUP_RECORDED) || record_check(&b->records, ni, &e) != RECORD_OTHER)
		return 1;
	refuse(b, t, e.text);
	return 0;
}

/* Parse S and see whether it is for the path at all.  Frees S when not. */
static int readable(struct broker *b, struct task *t, struct source *s)
{
	struct err e;

	if (narinfo_parse(&s->ni, s->text, strlen(s->text), b->store_dir, &e) < 0)
		refuse(b, t, e.text);
	else if (!narinfo_is_for(&s->ni, t->path))
		refuse(b, t, "it describes another store item than the one asked for");
	else
		return 1;
	source_free(s);
	return 0;
}

/* Judge a readable narinfo: KEY signed it (then that key is in the ACL), or NULL and WHY.  Takes S.  Returns 1 when
 * the path became authorised by it. */
static int accept_source(struct broker *b, struct task *t, struct source *s, const uint8_t *key, const char *why)
{
	if (t->authorised) { /* LOOKUP_ALL: only more places for the same nar are wanted now */
		if (narinfo_equivalent(&t->found.auth.ni, &s->ni))
			keep_mirror(b, t, s);
	} else if (key == NULL) {
		set_reason(t, b, why);
		if (t->found.mirror_count == 0)
			(void)snprintf(t->stranger, sizeof t->stranger, "%s", why);
		keep_mirror(b, t, s);
	} else if (recorded(b, t, &s->ni)) {
		memcpy(t->found.key, key, sizeof t->found.key);
		t->found.auth = *s;
		t->authorised = 1;
		return 1;
	}
	source_free(s);
	return 0;
}

static void put_in_cache(struct broker *b, const struct source *s, enum cache_kind kind, const uint8_t *key, uint32_t ttl)
{
	struct cache_entry in = { .text = s->text, .len = strlen(s->text), .kind = kind };
	const char *hash = storepath_base(s->ni.store_path.at, s->ni.store_path.len, b->store_dir);

	if (s->cached || hash == NULL)
		return;
	if (b->options.kinds[s->server] == SERVER_INDEX) /* expired at once: it has to be found anew each time */
		ttl = 0;
	memcpy(in.key_fpr, key, sizeof in.key_fpr);
	(void)cache_put(b->cache_fd, b->options.urls[s->server], hash, time(NULL),
			ttl == TTL_NOT_TOLD ? -1 : (long)ttl, &in);
}

/* The path's story is over: only equivalent mirrors stay, in the order of servers. */
static void close_task(struct broker *b, struct task *t, uint32_t ttl)
{
	static const uint8_t no_key[32];
	struct found *f = &t->found;
	unsigned kept = 0;

	if (!t->authorised && f->mirror_count > 0)
		unauthorised(b, t);
	for (unsigned i = 0; i < f->mirror_count; i++) {
		b->lookups.kept -= strlen(f->mirrors[i].text);
		if (t->authorised && narinfo_equivalent(&f->auth.ni, &f->mirrors[i].ni)) {
			put_in_cache(b, &f->mirrors[i], CACHE_EQUIVALENT, no_key, ttl);
			f->mirrors[kept++] = f->mirrors[i];
		} else {
			source_free(&f->mirrors[i]);
		}
	}
	f->mirror_count = kept;
	b->lookups.done(b, t->path, t->authorised ? f : NULL, t->reason);
	found_free(f);
	source_free(&t->old);
	t->state = TASK_FREE;
	b->lookups.active--;
}

/* Does T's narinfo name blocks in a group from T->probe on?  T->probe becomes that group. */
static int next_probe(struct task *t)
{
	const struct narinfo *ni = &t->found.auth.ni;

	while (t->probe < ni->group_count && ni->groups[t->probe].eris.at == NULL && ni->groups[t->probe].manifest.at == NULL)
		t->probe++;
	return t->probe < ni->group_count;
}

/* All servers were asked. */
static void finish(struct broker *b, struct task *t, uint32_t ttl)
{
	struct found *f = &t->found;

	if (!t->authorised && t->answered == 0 && t->old.text != NULL) {
		f->auth = t->old; /* every server failed: what was once verified is better than nothing */
		memcpy(f->key, t->old_key, sizeof f->key);
		memset(&t->old, 0, sizeof t->old);
		f->stale = t->authorised = 1;
		if ((b->lookups.flags & LOOKUP_PROBE) && next_probe(t)) {
			t->state = TASK_TO_PROBE;
			return;
		}
	}
	close_task(b, t, ttl);
}

/* Try the cache for T's present server.  Returns 1 when no question is needed. */
static int from_cache(struct broker *b, struct task *t)
{
	struct cache_entry entry;
	struct source s = { .server = t->server, .cached = 1 };
	const char *hash = storepath_base(t->path, strlen(t->path), b->store_dir);
	int known;

	if ((b->lookups.flags & LOOKUP_FRESH) ||
	    cache_get(b->cache_fd, b->options.urls[t->server], hash, time(NULL), &entry) < 0)
		return 0;
	s.text = entry.text;
	if (!entry.fresh) {
		struct err e;

		if (entry.kind == CACHE_AUTHORISED && acl_has(&b->acl, entry.key_fpr) && t->old.text == NULL &&
		    narinfo_parse(&s.ni, s.text, entry.len, b->store_dir, &e) == 0 && narinfo_is_for(&s.ni, t->path) &&
		    recorded(b, t, &s.ni)) {
			memcpy(t->old_key, entry.key_fpr, sizeof t->old_key);
			t->old = s;
		} else {
			free(entry.text);
		}
		return 0;
	}
	b->lookups.from_cache++;
	t->answered++;
	known = entry.kind == CACHE_AUTHORISED && acl_has(&b->acl, entry.key_fpr);
	if (readable(b, t, &s))
		(void)accept_source(b, t, &s, known ? entry.key_fpr : NULL,
				    "no signature of a key that is still authorised");
	return 1;
}

/* Go on until the path waits for a server or is finished. */
static void advance(struct broker *b, struct task *t, uint32_t ttl)
{
	while ((!t->authorised || (b->lookups.flags & LOOKUP_ALL)) && t->server < b->options.url_count) {
		if (!from_cache(b, t)) {
			t->state = TASK_QUEUED;
			return;
		}
		t->server++;
	}
	finish(b, t, ttl);
}

/* Nothing but old words is left of this path: who advertised it would promise what nobody has. */
static void not_probed(struct broker *b, struct task *t)
{
	(void)snprintf(t->reason, sizeof t->reason, "its servers do not answer, and its blocks were not found");
	t->authorised = 0;
	close_task(b, t, TTL_NOT_TOLD);
}

static void start(struct broker *b, const char *path)
{
	for (unsigned i = 0; i < LIMIT_LOOKUPS; i++) {
		struct task *t = &b->lookups.tasks[i];

		if (t->state != TASK_FREE)
			continue;
		memset(t, 0, sizeof *t);
		t->path = path;
		(void)snprintf(t->reason, sizeof t->reason, "no server has it");
		b->lookups.active++;
		advance(b, t, TTL_NOT_TOLD);
		return;
	}
}

static void fail_all(struct broker *b, const char *why)
{
	/* One server further for each: with nobody to ask they end here, or are asked of a new fetcher. */
	for (unsigned i = 0; i < LIMIT_LOOKUPS; i++) {
		struct task *t = &b->lookups.tasks[i];

		while (t->state == TASK_QUEUED) {
			set_reason(t, b, why); /* crew_ready has told it, once */
			t->server++;
			advance(b, t, TTL_NOT_TOLD);
		}
		if (t->state == TASK_TO_PROBE)
			not_probed(b, t);
	}
}

/* Ask the fetcher what is queued; with no fetcher to be had, all fail. */
static void send_queued(struct broker *b)
{
	struct helper *f = crew_find(b, KIND_FETCH, HELPER_READY);
	struct err e;

	if (f == NULL && (f = crew_ready(b, KIND_FETCH, &e)) == NULL) {
		fail_all(b, e.text);
		return;
	}
	for (unsigned i = 0; i < LIMIT_LOOKUPS; i++) {
		struct task *t = &b->lookups.tasks[i];
		struct wire_msg m = { .type = MSG_LOOKUP, .server = t->server };

		if (t->state == TASK_TO_PROBE) {
			const struct narinfo_group *g = &t->found.auth.ni.groups[t->probe];

			m.type = MSG_PROBE;
			m.text = (struct wire_bytes){ (const uint8_t *)g->eris.at, g->eris.len };
			m.text2 = (struct wire_bytes){ (const uint8_t *)g->manifest.at, g->manifest.len };
		} else if (t->state != TASK_QUEUED) {
			continue;
		}
		/* The low part of an id is the task's place, the high part tells one question from the next there. */
		m.id = t->id = ++b->lookups.next_id * LIMIT_LOOKUPS + i;
		memcpy(m.hash_part, storepath_base(t->path, strlen(t->path), b->store_dir), HASH_PART_BYTES);
		if (crew_send(f, &m, -1, &e) != 0)
			return; /* it reads slowly, or has just died: the next round sees */
		b->lookups.asked += t->state == TASK_QUEUED;
		t->state = t->state == TASK_QUEUED ? TASK_SENT : TASK_PROBED;
	}
}

/* --- Verification: most of the work of a cold query, so all processors share it --------------------------------- */

struct batch {
	const struct broker *b;
	struct task *tasks[LIMIT_LOOKUPS];
	unsigned count;
	atomic_uint next;
};

static void *verify_some(void *arg)
{
	struct batch *w = arg;
	unsigned i;

	while ((i = atomic_fetch_add(&w->next, 1)) < w->count) {
		struct task *t = w->tasks[i];

		t->verified = signature_verify(&t->arrived.ni, &w->b->acl, t->signer, &t->why) == 0;
	}
	return NULL;
}

static void verify_all(struct batch *w)
{
	pthread_t more[VERIFIERS];
	unsigned n = 0;

	/* What cannot be shared is done here; a thread that cannot be had is not missed. */
	while (n < VERIFIERS && w->count >= (n + 2) * VERIFY_SHARE && pthread_create(&more[n], NULL, verify_some, w) == 0)
		n++;
	(void)verify_some(w);
	while (n > 0)
		(void)pthread_join(more[--n], NULL);
}

static void judge_arrived(struct broker *b)
{
	struct batch w = { .b = b, .count = 0 };

	if (b->lookups.arrived == 0)
		return;
	for (unsigned i = 0; i < LIMIT_LOOKUPS; i++) {
		struct task *t = &b->lookups.tasks[i];

		t->verified = 0;
		t->why.text[0] = '\0';
		if (t->state == TASK_ARRIVED && readable(b, t, &t->arrived) && !t->authorised)
			w.tasks[w.count++] = t;
	}
	verify_all(&w);
	b->lookups.arrived = 0;
	for (unsigned i = 0; i < LIMIT_LOOKUPS; i++) {
		struct task *t = &b->lookups.tasks[i];

		if (t->state != TASK_ARRIVED)
			continue;
		b->lookups.verified += (unsigned)t->verified;
		if (t->arrived.text != NULL &&
		    accept_source(b, t, &t->arrived, t->verified ? t->signer : NULL, t->why.text))
			put_in_cache(b, &t->found.auth, CACHE_AUTHORISED, t->found.key, t->ttl);
		memset(&t->arrived, 0, sizeof t->arrived);
		t->server++;
		advance(b, t, t->ttl);
	}
}

void lookup_all(struct broker *b, const char *const *paths, size_t count, unsigned flags,
		void (*done)(struct broker *, const char *, struct found *, const char *))
{
	struct lookups *l = &b->lookups;
	size_t next = 0;

	l->done = done;
	l->flags = flags;
	l->refused = 0;
	l->last_answer = crew_now();
	while (next < count || l->active > 0) {
		while (next < count && l->active < LIMIT_LOOKUPS)
			start(b, paths[next++]);
		if (l->active == 0)
			continue;
		send_queued(b);
		if (l->active > 0 && crew_step(b, -1, 1000) < 0) {
			lookups_lost(b, "the spawner is gone");
			fail_all(b, "the spawner is gone");
		}
		judge_arrived(b);
		if (l->active > 0 && crew_now() - l->last_answer > SILENCE_MS) {
			struct helper *f = crew_find(b, KIND_FETCH, HELPER_READY);

			l->last_answer = crew_now();
			if (f != NULL)
				crew_kill(b, f, "it is silent");
		}
	}
}

/* --- Answers ------------------------------------------------------------------------------------------------- */

static struct task *by_id(struct broker *b, uint32_t id, enum task_state state)
{
	struct task *t = &b->lookups.tasks[id % LIMIT_LOOKUPS];

	return t->state == state && t->id == id ? t : NULL;
}

int lookups_on_part(struct broker *b, struct helper *h, const struct wire_msg *m, struct err *e)
{
	struct lookups *l = &b->lookups;

	(void)h;
	if (l->part_len > 0 && l->part_id != m->id)
		return err_set(e, "parts of two narinfos are mixed");
	if (by_id(b, m->id, TASK_SENT) == NULL)
		return err_set(e, "a narinfo that nobody asked for");
	if (m->blob.len == 0 || m->blob.len > LIMIT_NARINFO - l->part_len)
		return err_set(e, "a narinfo larger than %d bytes, or an empty part", LIMIT_NARINFO);
	if (l->part == NULL && (l->part = malloc(LIMIT_NARINFO + 1)) == NULL)
		return err_set(e, "no memory for a narinfo");
	l->part_id = m->id;
	memcpy(l->part + l->part_len, m->blob.data, m->blob.len);
	l->part_len += m->blob.len;
	return 0;
}

/* The text that arrived, as a source.  A NUL cannot be in a narinfo, so strings can be used from here on. */
static int take_text(struct lookups *l, struct source *s)
{
	size_t len = l->part_len;

	if (memchr(l->part, '\0', len) != NULL || (s->text = malloc(len + 1)) == NULL)
		return -1;
	memcpy(s->text, l->part, len);
	s->text[len] = '\0';
	return 0;
}

int lookups_on_end(struct broker *b, struct helper *h, const struct wire_msg *m, struct err *e)
{
	struct lookups *l = &b->lookups;
	struct task *t = by_id(b, m->id, TASK_SENT);
	struct source s = { 0 };
	char reason[LIMIT_REASON + 1];

	(void)h;
	if (t == NULL || m->status > NARINFO_DEAD || (l->part_len > 0 && l->part_id != m->id) ||
	    (m->status == NARINFO_FOUND) != (l->part_len > 0))
		return err_set(e, "NARINFO_END that does not fit what was asked and sent");
	l->last_answer = crew_now();
	s.server = t->server;
	if (m->status == NARINFO_FOUND && take_text(l, &s) < 0)
		refuse(b, t, "a NUL byte in it");
	l->part_len = 0;
	wire_copy(reason, sizeof reason, m->text);
	if (m->status == NARINFO_FOUND || m->status == NARINFO_ABSENT)
		t->answered += m->status == NARINFO_FOUND || b->options.kinds[t->server] != SERVER_INDEX;
	else
		failed(b, t, reason[0] != '\0' ? reason : "it was not reachable a moment ago, and is left alone");
	if (s.text != NULL) { /* judged together with what else arrives now */
		t->arrived = s;
		t->ttl = m->ttl;
		t->state = TASK_ARRIVED;
		l->arrived++;
		return 0;
	}
	t->server++;
	advance(b, t, m->ttl);
	return 0;
}

int lookups_on_probed(struct broker *b, struct helper *h, const struct wire_msg *m, struct err *e)
{
	struct task *t = by_id(b, m->id, TASK_PROBED);

	(void)h;
	if (t == NULL || m->status > PROBE_FOUND)
		return err_set(e, "PROBED that nobody asked for, or of status %u", m->status);
	b->lookups.last_answer = crew_now();
	t->probe++;
	if (m->status == PROBE_FOUND)
		close_task(b, t, TTL_NOT_TOLD);
	else if (next_probe(t))
		t->state = TASK_TO_PROBE;
	else
		not_probed(b, t);
	return 0;
}

void lookups_lost(struct broker *b, const char *why)
{
	b->lookups.part_len = 0;
	for (unsigned i = 0; i < LIMIT_LOOKUPS; i++) {
		struct task *t = &b->lookups.tasks[i];

		if (t->state == TASK_PROBED)
			not_probed(b, t);
		if (t->state != TASK_SENT)
			continue;
		failed(b, t, why);
		t->server++;
		advance(b, t, TTL_NOT_TOLD);
	}
}
