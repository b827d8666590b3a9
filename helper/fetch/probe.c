/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): PROBE: could this nar be had without a substitute server, just now? */
#include <stdlib.h>
#include <string.h>

#include "helper/eris/urn.h"
#include "helper/fetch/blockconf.h"
#include "helper/fetch/probe.h"
#include "helper/fetch/rootget.h"
#include "helper/fetch/serve.h"
#include "helper/ipfs/manifest.h"

struct probe {
	struct probe *next;
	uint32_t id;
	uint8_t has_cap, has_manifest;
	struct eris_cap cap;
	uint8_t manifest[ERIS_REF];
};

struct flight {
	struct probe *probe; /* NULL: free */
	struct rootget *node, *block;
};

struct probes {
	struct probe store[LIMIT_LOOKUPS];
	struct probe *unused, *first, **tail;
	struct flight flights[PROBE_FLIGHTS];
};

int
probe_init(struct fetch *f, struct err *e)
{
	struct probes *p = calloc(1, sizeof *p);

	if (p == NULL)
		return err_set(e, "no memory for probes");
	for (size_t i = 0; i < LIMIT_LOOKUPS; i++) {
		p->store[i].next = p->unused;
		p->unused = &p->store[i];
	}
	p->tail = &p->first;
	f->probes = p;
	return 0;
}

void
probe_free(struct fetch *f)
{
	for (size_t i = 0; f->probes != NULL && i < PROBE_FLIGHTS; i++) {
		rootget_free(f->probes->flights[i].node);
		rootget_free(f->probes->flights[i].block);
	}
	free(f->probes);
	f->probes = NULL;
}

static void
answer(struct fetch *f, struct probe *p, int found)
{
	struct wire_msg m = { .type = MSG_PROBED, .id = p->id, .status = found ? PROBE_FOUND : PROBE_ABSENT };

	serve_send(f, &m);
	p->next = f->probes->unused;
	f->probes->unused = p;
}

int
probe_add(struct fetch *f, const struct wire_msg *m, struct err *e)
{
	struct probes *all = f->probes;
	struct probe *p = all->unused;
	char text[LIMIT_URN + 1];
	struct err why;

	if (p == NULL)
		return err_set(e, "more than %d probes at one time", LIMIT_LOOKUPS);
	all->unused = p->next;
	p->id = m->id;
	p->next = NULL;
	/* Names that are none are not there: they come from narinfos. */
	wire_copy(text, sizeof text, m->text);
	p->has_cap = urn_parse(&p->cap, text, &why) == 0;
	wire_copy(text, sizeof text, m->text2);
	p->has_manifest = manifest_cid_parse(p->manifest, text, &why) == 0;
	*all->tail = p;
	all->tail = &p->next;
	return 0;
}

static void
start(struct fetch *f, struct flight *fl)
{
	struct probes *all = f->probes;
	struct probe *p = all->first;
	struct err e;

	if ((all->first = p->next) == NULL)
		all->tail = &all->first;
	blockconf_done(f->blocks);
	fl->probe = p;
	/* Without memory it is as good as not there. */
	if (p->has_manifest)
		fl->node = rootget_new(f, 1, p->manifest, 0, f->blocks->block_ms, &e);
	if (p->has_cap)
		fl->block = rootget_new(f, 0, p->cap.root.ref, p->cap.block_size, f->blocks->block_ms, &e);
}

/* Whether a manifest that was found is one, and of this nar. */
static int
right_manifest(const struct probe *p, const uint8_t *data, size_t len)
{
	struct manifest_root n;
	uint8_t cap[ERIS_CAP];
	struct err e;

	if (manifest_parse(&n, data, len, &e) != 0)
		return 0;
	urn_to_bytes(cap, &p->cap);
	return !p->has_cap || memcmp(cap, n.cap, sizeof cap) == 0;
}

/* One of the two questions of a probe: 1: found.  It is freed when there is an answer. */
static int
look(const struct probe *p, struct rootget **r, int manifest)
{
	const uint8_t *data;
	size_t len;
	int found = 0;

	if (*r == NULL)
		return 0;
	switch (rootget_pump(*r, &data, &len)) {
	case ROOTGET_RUNS:
		return 0;
	case ROOTGET_FOUND:
		found = !manifest || right_manifest(p, data, len);
		break;
	default:
		break;
	}
	rootget_free(*r);
	*r = NULL;
	return found;
}

/* 1 when the flight has ended. */
static int
fly(struct fetch *f, struct flight *fl)
{
	int found = look(fl->probe, &fl->node, 1) || look(fl->probe, &fl->block, 0);

	if (!found && (fl->node != NULL || fl->block != NULL))
		return 0;
	rootget_free(fl->node);
	rootget_free(fl->block);
	fl->node = fl->block = NULL;
	answer(f, fl->probe, found);
	fl->probe = NULL;
	return 1;
}

void
probe_pump(struct fetch *f)
{
	struct probes *all = f->probes;

	for (size_t i = 0; i < PROBE_FLIGHTS; i++) {
		struct flight *fl = &all->flights[i];

		/* Those that need no time do not hold up the others. */
		while ((fl->probe == NULL || fly(f, fl)) && all->first != NULL && serve_room(f))
			start(f, fl);
	}
}

uint64_t
probe_deadline(const struct fetch *f)
{
	uint64_t first = UINT64_MAX, due;

	for (size_t i = 0; i < PROBE_FLIGHTS; i++) {
		const struct flight *fl = &f->probes->flights[i];

		if (fl->node != NULL && (due = rootget_deadline(fl->node)) < first)
			first = due;
		if (fl->block != NULL && (due = rootget_deadline(fl->block)) < first)
			first = due;
	}
	return first;
}
