/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: --self-check: start everything for real, and say what was achieved. */
#ifndef NARLOCK_BROKER_SELFCHECK_H
#define NARLOCK_BROKER_SELFCHECK_H

struct broker;
struct confinement;
struct err;
struct helper;
struct wire_msg;

/* selfcheck(b, c, urls): print lines `KEY VALUE...' on descriptor 1 for `narlock doctor', the last one `verdict ...'.  With
 * URLS each substitute server is asked for a store item that does not exist, and each source of blocks is tried.  Returns
 * 0 good, 1 degraded, 2 unsafe. */
int selfcheck(struct broker *b, const struct confinement *c, int urls);

/* The handler of CHECKED (crew.c). */
int selfcheck_on_checked(struct broker *b, struct helper *h, const struct wire_msg *m, struct err *e);

#endif
