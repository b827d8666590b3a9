/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch), healing: copies of blocks that wait to be put. */
#include <stdlib.h>
#include <string.h>

#include "helper/fetch/heal_own.h"

struct copy *
healqueue_at(struct heal *h, size_t i)
{
	return &h->queue[(h->first + i) % QUEUE];
}

void
healqueue_pop(struct heal *h, struct copy *c)
{
	*c = *healqueue_at(h, 0);
	h->first = (h->first + 1) % QUEUE;
	h->count--;
	h->asks -= c->asks;
}

void
healqueue_append(struct heal *h, const struct copy *c)
{
	*healqueue_at(h, h->count++) = *c;
	h->asks += c->asks;
}

void
healqueue_push(struct heal *h, const struct copy *from, const uint8_t *data)
{
	struct copy c = *from;

	c.data = h->count < QUEUE ? malloc(from->len) : NULL;
	if (c.data == NULL) {
		healnars_copy_done(h, from, LEFT);
		return;
	}
	memcpy(c.data, data, from->len);
	healqueue_append(h, &c);
}

void
healqueue_give_up(struct heal *h, uint32_t id)
{
	struct copy c;

	for (size_t left = h->count; left > 0; left--) {
		healqueue_pop(h, &c);
		if (id == 0 || c.nar == id) {
			free(c.data);
			healnars_copy_done(h, &c, LEFT);
		} else {
			healqueue_append(h, &c);
		}
	}
}
