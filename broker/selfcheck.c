/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: --self-check: start everything for real, and say what was achieved. */
#include <stdio.h>
#include <string.h>

#include "broker/broker.h"
#include "broker/confine.h"
#include "broker/selfcheck.h"
#include "ipc/layers.h"

static const char *const modes[] = { "root", "rootless-namespace", "rootless-lowered" };

/* A store item that no server has. */
#define NO_ITEM "00000000000000000000000000000000-narlock-self-check"

static int helper_line(struct broker *b, uint8_t kind, const char *name, unsigned *worst)
{
	struct helper *h;
	struct err e;

	if ((h = crew_ready(b, kind, &e)) == NULL) {
		printf("helper %s failed %s\n", name, e.text);
		return -1;
	}
	printf("helper %s uid=%u gid=%u verified=0x%x claimed=0x%x landlock_abi=%u seccomp_filters=%u+1\n", name,
	       b->crew.demand.uid, b->crew.demand.gid, h->verified, h->claimed, h->landlock_abi,
	       b->crew.demand.filters_before);
	if (!(h->claimed & LAYER_LANDLOCK_FS) && *worst < 1)
		*worst = 1;
	return 0;
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

	(void)snprintf(path, sizeof path, "%s/%s", b->store_dir, NO_ITEM);
	for (unsigned i = 0; i < all.url_count; i++) {
		struct helper *f = crew_find(b, KIND_FETCH, HELPER_READY);

		if (f != NULL)
			crew_release(b, f); /* the next one is told another list of servers */
		b->options.urls[0] = all.urls[i];
		b->options.url_count = 1;
		lookup_all(b, paths, 1, LOOKUP_FRESH, on_answer);
	}
	b->options = all;
}

int selfcheck(struct broker *b, const struct confinement *c, int urls)
{
	unsigned worst = 0;

	if (b->refusal[0] != '\0') {
		printf("verdict unsafe %s\n", b->refusal);
		return 2;
	}
	printf("mode %s\n", modes[b->crew.demand.isolation]);
	printf("acl %s/acl %zu keys\n", b->config_dir, b->acl.count);
	printf("broker confined seccomp=%u landlock=%s landlock_abi=%d%s%s\n", c->filter_len, c->landlock ? "on" : "off",
	       c->landlock_abi, c->landlock_error != 0 ? " why=" : "",
	       c->landlock_error != 0 ? strerrorname_np(c->landlock_error) : "");
	if (!c->landlock || b->acl.count == 0 || b->crew.demand.isolation == ISOLATE_LOWERED)
		worst = 1;
	if (helper_line(b, KIND_FETCH, "fetch", &worst) < 0 || helper_line(b, KIND_UNPACK, "unpack", &worst) < 0 ||
	    helper_line(b, KIND_RESOLVE, "resolve", &worst) < 0)
		worst = 2;
	if (urls && worst < 2)
		url_lines(b);
	printf("verdict %s\n", worst == 0 ? "good" : worst == 1 ? "degraded" : "unsafe");
	(void)fflush(stdout);
	return (int)worst;
}
