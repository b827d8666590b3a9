/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch), nar: an order out of blocks, and the switch between them and a whole file. */
#include <stdlib.h>
#include <string.h>

#include "helper/common/logline.h"
#include "helper/eris/urn.h"
#include "helper/fetch/blockconf.h"
#include "helper/fetch/blocks.h"
#include "helper/fetch/blockwhere.h"
#include "helper/fetch/heal.h"
#include "helper/fetch/nar_own.h"
#include "helper/fetch/prefix.h"
#include "helper/fetch/recode.h"

/* How long nothing may come from blocks, where they are the only way, after they were waited for in vain
 * (LIMIT_INSIST_MS) for an order before; milliseconds. */
#define INSIST_VAIN_MS 15000
/* How often the sources of blocks are asked once more when there is no whole file, without real progress. */
#define MAX_ROUNDS 3

/* --- What IPFS is given back ------------------------------------------------------------------------ */

static void
begin_healing(struct order *o, const struct place *p, const struct blocks_place *places, size_t n)
{
	char (*texts)[URL_TEXT] = calloc(BLOCKS_PLACES, sizeof *texts);
	const char *urls[BLOCKS_PLACES];
	uint8_t cap[ERIS_CAP];
	int allowed = texts != NULL;
	size_t known = 0;

	urn_to_bytes(cap, &p->cap);
	for (size_t i = 0; i < n && texts != NULL; i++) {
		if (places[i].at.untrusted) /* narlock-heal has no guard: guard.h */
			continue;
		url_text(&places[i].at, texts[known]);
		urls[known] = texts[known];
		known++;
		if (!o->fetch->blocks->seed_private && heal_private(o->fetch, &places[i].at))
			allowed = 0;
	}
	heal_begin(o->fetch, cap, urls, known, o->nar_size, allowed);
	o->healing = 1;
	o->healed = (size_t)(p - o->places);
	free(texts);
}

void
narblocks_end_healing(struct order *o, int success, struct wire_msg *m)
{
	if (o->recode != NULL && success && recode_end(o->recode, o->fetch) < 0)
		logline("the file is another encoding than its blocks: nothing of it goes into IPFS");
	recode_free(o->recode);
	o->recode = NULL;
	if (!o->healing)
		return;
	o->healing = 0;
	heal_end(o->fetch, success);
	heal_counts(o->fetch, &m->missed, &m->repaired, &m->reinserted);
}

/* --- Beginning and end of an assembly --------------------------------------------------------------- */

/* The places of the file that P's blocks make; others of the same compression and size may well have it,
 * too. */
static size_t
find_places(const struct order *o, const struct place *p, struct blocks_place *places)
{
	size_t n = 0;
	struct err e;

	for (int same = 1; same >= 0; same--)
		for (size_t i = 0; i < o->nrank && n < BLOCKS_PLACES; i++) {
			const struct place *q = &o->places[o->rank[i].candidate];

			if (nar_same_content(p, q) != same || (!same && (q->has_cap || q->method != p->method ||
			    p->file_size == 0 || q->file_size != p->file_size)))
				continue;
			places[n].server = q->server;
			places[n].url = q->url;
			n += nar_place_url(o, q, &places[n].at, &e) == 0;
		}
	return n;
}

static void
assemble_from(struct order *o, const struct place *p)
{
	struct blocks_order b = { .cap = p->cap, .has_manifest = p->has_manifest, .file_size = p->file_size };
	struct blocks_place *places = calloc(BLOCKS_PLACES, sizeof *places);
	struct err e;

	if (places == NULL)
		return;
	memcpy(b.manifest, p->manifest, ERIS_REF);
	b.max_length = o->nar_size + o->nar_size / 50 + 1024 * 1024;
	if (p->method == METHOD_NONE)
		b.max_length = b.file_size = o->nar_size;
	if (b.max_length > o->max_bytes)
		b.max_length = o->max_bytes;
	b.nplaces = find_places(o, p, places);
	b.places = places;
	if ((o->blocks = blocks_new(o->fetch, &b, &e)) != NULL) {
		o->current = (size_t)(p - o->places);
		o->phase = ASSEMBLING;
		if (!o->healing)
			begin_healing(o, p, places, b.nplaces);
		prefix_begin(&o->content, p->cap.block_size);
	} else if (e.text[0] != '\0') {
		logline("%s", e.text);
	}
	free(places);
}

/* There is no other way, as far as we know. */
static void
insist(struct order *o)
{
	blocks_insist(o->blocks, o->others ? o->fetch->settings.stall_ms : o->insist_vain ? INSIST_VAIN_MS :
	    LIMIT_INSIST_MS);
}

void
narblocks_assemble_best(struct order *o)
{
	assemble_from(o, narcap_first(o));
	if (o->rounds > 0 && o->blocks != NULL)
		insist(o);
}

void
narblocks_try(struct order *o)
{
	const struct place *p = narcap_first(o);

	if (p == NULL && narcap_begin_roots(o) != 0)
		narcap_begin_index(o);
	else if (p != NULL)
		assemble_from(o, p);
}

void
narblocks_leave(struct order *o)
{
	if (o->blocks != NULL)
		blockwhere_summary(o->blocks, o->summary, sizeof o->summary);
	blocks_free(o->blocks);
	o->blocks = NULL;
	o->drop_blocks = 0;
}

/* --- From blocks to a file, and back ---------------------------------------------------------------- */

/* Blocks alone do not do it: the whole file. */
static void
turn_to_file(struct order *o, int lasting)
{
	wire_copy(o->reason, sizeof o->reason, wire_str(blocks_why(o->blocks)));
	logline("blocks: %s; trying the whole file", o->reason);
	o->missing = !lasting && blocks_missed(o->blocks);
	if (blocks_gave_up(o->blocks)) {
		o->insisted = 1;
		o->insist_vain = o->got == o->round_mark;
	}
	if (lasting && !o->begun)
		o->rounds = MAX_ROUNDS;
	if (!o->begun || lasting)
		narblocks_leave(o);
	o->verifying = o->begun;
	o->phase = PICKING;
}

int
narblocks_turn_to(struct order *o)
{
	if (o->got - o->round_mark >= REAL_PROGRESS)
		o->rounds = 0;
	o->round_mark = o->got;
	if (o->another || o->insisted || o->rounds++ >= (o->others ? 1u : MAX_ROUNDS))
		return -1;
	if (o->begun && o->blocks == NULL)
		return -1;
	o->verifying = 0;
	blocks_wake(o->fetch);
	if (o->blocks == NULL)
		narblocks_try(o);
	if (o->blocks == NULL && o->phase != ROOTING && o->phase != INDEXING)
		return -1;
	logline("%s; asking for blocks once more", o->reason);
	if (o->blocks == NULL)
		return 0;
	insist(o);
	o->phase = ASSEMBLING;
	return 0;
}

/* --- An assembly under way -------------------------------------------------------------------------- */

/* Move content on to the reader.  1 if there was some. */
static int
drain(struct order *o)
{
	const uint8_t *data;
	int some = 0;
	size_t len;

	while (!(o->held = nar_make_room(o, ERIS_LARGE) != 0) && blocks_read(o->blocks, &data, &len)) {
		if (!o->begun)
			nar_announce(o, o->places[o->current].file_size);
		prefix_leaf(&o->content, blocks_ref(o->blocks));
		nar_append(o, data, len);
		some = 1;
		if (o->end - o->start >= BUFFER / 4 && !o->blocked && nar_flush(o) != 0)
			return 0;
	}
	return some;
}

static void
assemble(struct order *o)
{
	enum blocks_state state;
	int moved;

	do {
		state = blocks_pump(o->blocks);
		moved = drain(o);
	} while (moved && state == BLOCKS_RUNS && !o->gone);
	state = blocks_is(o->blocks); /* reading may have come to the end, or to a last block that is broken */
	if (o->gone || state == BLOCKS_RUNS)
		return;
	if (state != BLOCKS_DONE) {
		turn_to_file(o, state == BLOCKS_BROKEN);
	} else if (o->places[o->current].method == METHOD_NONE && o->got != o->nar_size) {
		nar_end_order(o, o->begun ? NAR_FAILED : NAR_EXHAUSTED,
		    "the blocks make another size than that of the nar");
	} else {
		if (o->rounds > 0)
			o->insist_vain = 0;
		narblocks_leave(o);
		o->phase = FLUSHING;
	}
}

void
narblocks_pump(struct order *o)
{
	if (!o->gone && o->phase == ROOTING)
		narcap_take_root(o);
	if (!o->gone && o->phase == INDEXING)
		narcap_take_index(o);
	while (!o->gone && o->phase == ASSEMBLING) {
		assemble(o);
		(void)nar_flush(o); /* nothing else would wake us up for the last bytes */
		if (!o->held || o->start < o->end)
			break;
	}
}
