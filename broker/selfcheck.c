/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: --self-check: start everything for real, and say what was achieved. */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "broker/broker.h"
#include "ipc/layers.h"
#include "policy/policy.h"

static const char *const modes[] = { "root", "rootless-namespace", "?", "rootless-lowered" };

/* A store item that no server has, another one each time: that a server did not have it is remembered. */
#define NO_ITEM "%s/%032llu-narlock-self-check", b->store_dir, (unsigned long long)time(NULL) * 10000000 + (unsigned)getpid()

/* Every source has its own time to answer; after this many milliseconds something else is wrong. */
#define BLOCKS_MS 60000

/* The worst found so far, and the first reason for it. */
struct verdict {
	unsigned level; /* 0 good, 1 degraded, 2 unsafe */
	char why[512];
};

static void worse(struct verdict *v, unsigned level, const char *why)
{
	if (level <= v->level)
		return;
	v->level = level;
	(void)snprintf(v->why, sizeof v->why, "%s", why);
}

static void helper_line(struct broker *b, uint8_t kind, struct verdict *v)
{
	const char *name = spawner_names[kind];
	char verified[256], claimed[256];
	struct helper *h;
	struct err e;

	if ((h = crew_ready(b, kind, &e)) == NULL) {
		printf("helper %s failed %s\n", name, e.text);
		worse(v, 2, e.text);
		return;
	}
	audit_layer_names(verified, sizeof verified, h->verified);
	audit_layer_names(claimed, sizeof claimed, h->claimed & ~h->verified);
	printf("helper %s uid=%u gid=%u seccomp_filters=%u->more verified=%s claimed=%s landlock_abi=%u\n", name,
	       h->demand.uid, h->demand.gid, h->demand.filters_before, verified, claimed, h->landlock_abi);
	if (!(h->claimed & LAYER_LANDLOCK_FS))
		worse(v, 1, "helpers run without Landlock");
}

static void on_answer(struct broker *b, const char *path, struct found *f, const char *reason)
{
	char shown[2 * LIMIT_URL + 2];
	int answered = b->lookups.tasks[0].answered > 0; /* the only task there is */

	(void)path;
	(void)f;
	trace_url(shown, sizeof shown, b->options.urls[0], "");
	printf("url %s %s%s%s\n", shown, answered ? "reachable" : "unreachable", answered ? "" : " ",
	       answered ? "" : reason);
}

/* Each server alone, so that the answer is its own. */
static void url_lines(struct broker *b)
{
	char path[LIMIT_PATH + 64];
	const char *paths[1] = { path };
	struct options all = b->options;

	(void)snprintf(path, sizeof path, NO_ITEM);
	for (unsigned i = 0; i < all.url_count; i++) {
		struct helper *f = crew_find(b, KIND_FETCH, HELPER_READY);

		if (f != NULL)
			crew_release(b, f); /* the next one is told another list of servers */
		b->options.urls[0] = all.urls[i];
		/* An index, too: that it has no such page is an answer. */
		b->options.kinds[0] = all.kinds[i] == SERVER_UNTRUSTED ? SERVER_UNTRUSTED : SERVER_TRUSTED;
		b->options.url_count = 1;
		lookup_all(b, paths, 1, LOOKUP_FRESH, on_answer);
	}
	b->options = all;
}

int selfcheck_on_checked(struct broker *b, struct helper *h, const struct wire_msg *m, struct err *e)
{
	static const char *const words[] = { "usable", "note", "useless", "sum" };
	char source[LIMIT_SOURCE + 1], reason[LIMIT_REASON + 1];

	(void)h;
	if (!b->checking || m->status > CHECK_SUM)
		return err_set(e, "CHECKED that nobody asked for, or of status %u", m->status);
	wire_copy(source, sizeof source, m->text);
	wire_copy(reason, sizeof reason, m->text2);
	printf("blocks %s %s%s%s\n", words[m->status], source, source[0] != '\0' ? ": " : "", reason);
	b->checking = m->status != CHECK_SUM;
	return 0;
}

/* What the sources are and what is wrong with one is the fetcher's knowledge; it is only passed on. */
static void blocks_lines(struct broker *b)
{
	struct wire_msg m = { .type = MSG_CHECK };
	int64_t end = crew_now() + BLOCKS_MS;
	struct helper *h;
	struct err e;

	if ((h = crew_ready(b, KIND_FETCH, &e)) == NULL || crew_send(h, &m, -1, &e) != 0)
		return;
	b->checking = 1;
	while (b->checking && crew_find(b, KIND_FETCH, HELPER_READY) == h && crew_now() < end)
		if (crew_step(b, -1, 1000) < 0)
			break;
	if (b->checking)
		printf("blocks useless the fetcher did not finish its check\n");
	b->checking = 0;
}

int selfcheck(struct broker *b, int urls)
{
	const struct landlock_result *l = &b->landlock;
	static const char *const levels[] = { "good", "degraded", "unsafe" };
	struct verdict v = { 0, "" };

	printf("config %s %s\n", b->conf_path, b->refusal[0] != '\0' ? b->refusal : "ok");
	if (b->refusal[0] != '\0') {
		worse(&v, 2, b->refusal);
	} else {
		printf("mode %s%s\n", modes[b->crew.demand.isolation], b->crew.units ? " units" : "");
		printf("acl %s/acl %zu keys\n", b->config_dir, b->acl.count);
		printf("broker confined seccomp=%u landlock=%s landlock_abi=%d%s%s\n", policy_broker.length, l->fs ? "on" : "off",
		       l->abi, l->error != 0 ? " why=" : "", l->error != 0 ? strerrorname_np(l->error) : "");
		for (uint8_t kind = KIND_FETCH; kind <= KIND_RESOLVE; kind++)
			helper_line(b, kind, &v);
		if (!l->fs)
			worse(&v, 1, "the broker runs without Landlock");
		if (b->crew.demand.isolation == ISOLATE_LOWERED)
			worse(&v, 1, "required-layers is lowered: helpers run as the daemon's user");
		if (b->acl.count == 0)
			worse(&v, 1, "no key is authorised");
		if (urls && v.level < 2) {
			url_lines(b);
			blocks_lines(b);
		}
	}
	printf("verdict %s%s%s\n", levels[v.level], v.why[0] != '\0' ? " " : "", v.why);
	(void)fflush(stdout);
	return (int)v.level;
}
