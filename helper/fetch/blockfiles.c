/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch), blocks: leaves out of parts of the ordinary file (rangeget.h). */
#include "helper/common/logline.h"
#include "helper/fetch/blockconf.h"
#include "helper/fetch/blocks_own.h"
#include "helper/fetch/heal.h"
#include "helper/fetch/rangeget.h"

static struct ask *
ask_of_leaf(struct blocks *b, unsigned source, uint64_t index)
{
	for (size_t i = 0; i < 2 * WANTS; i++)
		if (b->asks[i].active && b->asks[i].source == source && b->asks[i].index == index)
			return &b->asks[i];
	return NULL;
}

/* Addresses are known by now: what comes from a private place is not spread, nor what a public one leads to there. */
static void
look_at(const struct file *f)
{
	struct fetch *fetch = f->blocks->fetch;

	if (!fetch->blocks->seed_private &&
	    (heal_private(fetch, &f->url) || heal_private(fetch, rangeget_at(f->get))))
		heal_forbid(fetch);
}

static void
on_leaf(void *owner, uint64_t index, enum sched_outcome outcome, const uint8_t *block, uint32_t retry_ms,
    const char *why)
{
	struct file *f = owner;
	struct blocks *b = f->blocks;
	struct ask *a = ask_of_leaf(b, f->source, index);

	if (outcome != SCHED_BLOCK && outcome != SCHED_BUSY && !f->given_up) {
		f->given_up = 1;
		logline("%s gives no blocks: %s", f->name, why != NULL ? why : "no reason");
	}
	if (a == NULL)
		return;
	look_at(f);
	if (outcome == SCHED_BLOCK &&
	    blockwants_give_one(b, &b->origins[f->source], a->ref, 0, block, ERIS_LARGE) == DECODE_WRONG)
		outcome = SCHED_OTHER;
	blockasks_answer(b, a, outcome, retry_ms, NULL);
}

/* The whole file streams by, and INDEX is next. */
static enum rangeget_use
on_offer(void *owner, uint64_t index)
{
	struct blocks *b = ((struct file *)owner)->blocks;
	uint64_t offset = index * ERIS_LARGE;

	if (offset < decode_position(b->decode))
		return RANGEGET_SKIP;
	for (size_t i = 0; i < WANTS; i++)
		if (b->wants[i].used && b->wants[i].level == 0 && b->wants[i].offset == offset)
			return RANGEGET_TAKE;
	/* Not named yet, because there is no room for it: it would have to be asked for again. */
	if (offset >= decode_position(b->decode) + (uint64_t)(BLOCKS_WINDOW - RANGE_WINDOW_MIN) * ERIS_LARGE)
		return RANGEGET_WAIT;
	return RANGEGET_SKIP;
}

static void
on_extra(void *owner, uint64_t index, const uint8_t ref[ERIS_REF], const uint8_t *block)
{
	struct file *f = owner;
	struct blocks *b = f->blocks;

	(void)index;
	look_at(f);
	if (blockwants_give_one(b, &b->origins[f->source], ref, 0, block, ERIS_LARGE) == DECODE_TAKEN)
		(void)sched_arrived(b->sched, b->fetch->now, ref);
}

static const struct rangeget_owner file_calls = { on_leaf, on_offer, on_extra };

void
blockfiles_pump(struct blocks *b)
{
	for (size_t i = 0; i < b->nfiles; i++)
		if (b->files[i].get != NULL) {
			rangeget_resume(b->files[i].get);
			rangeget_pump(b->files[i].get);
		}
}

/* As much of the rest as came from this file so far will probably be missing, too. */
static void
expect(struct blocks *b, struct file *f)
{
	uint64_t all = 0, left = 0, position = decode_position(b->decode);

	for (unsigned i = 0; i < FROM_KINDS; i++)
		all += b->got[i];
	if (b->o.file_size > position)
		left = (b->o.file_size - position) / ERIS_LARGE;
	if (all > 0 && !blockheal_ipfs_fails(b))
		left = left * b->got[FROM_RANGE] / all;
	rangeget_expect(f->get, left);
}

int
blockfiles_ask(struct blocks *b, struct file *f, const struct ask *a)
{
	uint64_t size = b->o.file_size > 0 ? b->o.file_size : RANGE_UNKNOWN;
	struct err e;

	if (f->get == NULL && (f->get = rangeget_new(b->fetch, &f->url, size, &file_calls, f, &e)) == NULL)
		return -1;
	expect(b, f);
	return rangeget_want(f->get, a->index, a->ref) ? 0 : -1;
}
