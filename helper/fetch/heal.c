/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch), healing: what the nar at hand tells of its blocks, and what of them may be spread. */
#include <stdlib.h>
#include <string.h>

#include "helper/fetch/heal_own.h"
#include "helper/fetch/private.h"

int
heal_init(struct fetch *f, struct err *e)
{
	struct heal *h = calloc(1, sizeof *h);

	if (h == NULL)
		return err_set(e, "no memory for healing");
	h->fetch = f;
	for (int i = 0; i < FLIGHTS; i++)
		h->flights[i].heal = h;
	f->heal = h;
	return 0;
}

void
heal_free(struct fetch *f)
{
	struct heal *h = f->heal;

	if (h == NULL)
		return;
	for (int i = 0; i < FLIGHTS; i++) {
		if (h->flights[i].transfer.easy != NULL)
			transfer_free(&h->flights[i].transfer);
		put_free(&h->flights[i].batch);
	}
	for (size_t i = 0; i < h->count; i++)
		free(healqueue_at(h, i)->data);
	free(h);
	f->heal = NULL;
}

/* --- What may be spread ------------------------------------------------------------------------------ */

int
heal_private(const struct fetch *f, const struct url *u)
{
	const struct proxy *p = u->https ? &f->settings.https : &f->settings.http;

	if (u->user[0] != '\0' || u->password[0] != '\0' || strcmp(u->host, "localhost") == 0 ||
	    private_address(u->host))
		return 1;
	if (p->set)
		return private_name(u->host);
	for (size_t i = 0; i < f->hosts.count; i++)
		if (strcmp(f->hosts.hosts[i].name, u->host) == 0)
			return private_list(f->hosts.hosts[i].addresses);
	return 0;
}

static int
any_private(const struct fetch *f, const struct journal_entry *j)
{
	const char *at = j->urls;
	struct url u;
	struct err e;

	for (unsigned i = 0; i < j->nurls; i++, at += strlen(at) + 1)
		if (url_parse(&u, at, &e) == 0 && heal_private(f, &u))
			return 1;
	return 0;
}

/* --- Calls from the nar ------------------------------------------------------------------------------ */

static void
add_urls(struct nar *n, const char *const *urls, size_t count, int *allowed)
{
	char text[URL_TEXT];
	struct url u;
	struct err e;

	for (size_t i = 0; i < count; i++) {
		if (url_parse(&u, urls[i], &e) != 0)
			continue;
		if (u.user[0] != '\0' || u.password[0] != '\0')
			*allowed = 0;
		url_text(&u, text);
		(void)journal_url(&n->entry, text);
	}
}

void
heal_begin(struct fetch *f, const uint8_t cap[ERIS_CAP], const char *const *urls, size_t count, uint64_t nar_size,
    int allowed)
{
	struct heal *h = f->heal;
	struct nar *n;

	if (h->current != NULL && h->current->begun)
		heal_end(f, 0);
	n = h->current = healnars_new(h);
	healnars_empty_table(h);
	h->missed = h->repaired = h->reinserted = 0;
	memcpy(n->entry.cap, cap, ERIS_CAP);
	n->entry.nar_size = nar_size;
	n->begun = 1;
	add_urls(n, urls, count, &allowed);
	n->active = f->blocks->seed != SEED_NONE &&
	    (f->blocks->seed_private || (allowed && !any_private(f, &n->entry)));
}

void
heal_missed(struct fetch *f, const uint8_t ref[ERIS_REF])
{
	struct heal *h = f->heal;
	struct nar *n = h->current;
	enum known known;

	if (n == NULL || !n->begun)
		return;
	n->holes = 1;
	if (ref == NULL) {
		n->unknown = 1;
		return;
	}
	known = (enum known)h->state[healnars_slot_of(h, ref)];
	if (known != UNKNOWN && known != UNSURE)
		return;
	h->missed++;
	healnars_note(h, n, ref, MISSED);
}

void
heal_unsure(struct fetch *f, const uint8_t ref[ERIS_REF], int suspect)
{
	struct heal *h = f->heal;
	struct nar *n = h->current;

	if (n == NULL || !n->begun)
		return;
	n->holes |= suspect != 0;
	if (h->state[healnars_slot_of(h, ref)] == UNKNOWN)
		healnars_note(h, n, ref, UNSURE);
}

void
heal_whole(struct fetch *f)
{
	f->heal->repaired = f->heal->missed;
}

static int
is_on_its_way(struct heal *h, const struct nar *n, const uint8_t *ref)
{
	for (size_t i = 0; i < h->count; i++)
		if (healqueue_at(h, i)->nar == n->id && memcmp(healqueue_at(h, i)->ref, ref, ERIS_REF) == 0)
			return 1;
	for (int i = 0; i < FLIGHTS; i++)
		for (unsigned k = 0; h->flights[i].state != FREE && k < h->flights[i].batch.n; k++)
			if (h->flights[i].copies[k].nar == n->id && memcmp(h->flights[i].copies[k].ref, ref, ERIS_REF) == 0)
				return 1;
	return 0;
}

static void
withdraw(struct heal *h, struct nar *n)
{
	n->active = n->written = 0;
	n->outstanding = 0;
	healqueue_give_up(h, n->id);
}

void
heal_block(struct fetch *f, const uint8_t ref[ERIS_REF], const uint8_t *data, size_t len)
{
	struct heal *h = f->heal;
	struct nar *n = h->current;
	struct copy c = { .len = (uint32_t)len };
	int all = f->blocks->seed == SEED_ALL, later;

	if (n == NULL || !n->begun || len > ERIS_LARGE)
		return;
	if (n->unknown)
		heal_unsure(f, ref, 1);
	c.known = (uint8_t)healnars_known_of(h, n, ref);
	if (c.known == STORED)
		return;
	c.asks = c.known == UNSURE && !all;
	if (c.known == MISSED)
		healnars_came(h, ref);
	if (!n->active || (!all && (c.known == UNKNOWN || (c.known == UNSURE && !n->holes))) ||
	    (healputs_target(h, &later) < 0 && !later) || is_on_its_way(h, n, ref))
		return;
	if (!f->blocks->seed_private && any_private(f, &n->entry)) { /* a name has got its address */
		withdraw(h, n);
		return;
	}
	c.nar = n->id;
	memcpy(c.ref, ref, ERIS_REF);
	n->pending++;
	healqueue_push(h, &c, data);
}

void
heal_forbid(struct fetch *f)
{
	struct nar *n = f->heal->current;

	if (n != NULL && n->begun && !f->blocks->seed_private)
		withdraw(f->heal, n);
}

static void
write_down(struct heal *h, struct nar *n)
{
	struct journal_entry *j = &n->entry;

	if (n->unknown || n->many) {
		j->all = 1;
	} else {
		for (size_t i = 0; i < TABLE; i++)
			if (h->state[i] == MISSED || h->state[i] == UNSURE)
				journal_ref(j, h->refs[i]);
	}
	n->written = journal_put(h->fetch->journal, j, h->fetch->clock) == 0;
	n->merged = j->made != h->fetch->clock;
}

void
heal_end(struct fetch *f, int success)
{
	struct heal *h = f->heal;
	struct nar *n = h->current;

	if (n == NULL || !n->begun)
		return;
	/* By now it is known where names lead. */
	if (n->active && !f->blocks->seed_private && any_private(f, &n->entry))
		withdraw(h, n);
	if (success && n->active && n->holes && (n->outstanding > 0 || n->unknown) && healputs_has_daemon(h))
		write_down(h, n);
	n->begun = 0;
	healnars_settle(h, n);
}

void
heal_counts(const struct fetch *f, uint32_t *missed, uint32_t *repaired, uint32_t *reinserted)
{
	*missed = f->heal->missed;
	*repaired = f->heal->repaired;
	*reinserted = f->heal->reinserted;
}
