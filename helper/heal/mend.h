/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (heal): one journal entry: its missing blocks are found and put back. */
#ifndef NARLOCK_HEAL_MEND_H
#define NARLOCK_HEAL_MEND_H

#include <stddef.h>
#include <stdint.h>

#include "helper/fetch/journal.h"
#include "helper/heal/net.h"

enum mend_result {
	MEND_DONE,   /* all blocks are there */
	MEND_LATER,  /* not all: the entry's references are those that are left, if they fit */
	MEND_NEVER,  /* nothing can be done about it */
	MEND_AWAY,   /* no IPFS daemon answers any more: no fault of the entry */
};

struct mend_report {
	uint64_t looked, missing, put; /* blocks */
	char why[384]; /* unless MEND_DONE */
};

/* mend(n, source, known, j, r): put back what is missing of J into the IPFS daemon SOURCE, whose ways are
 * in KNOWN.
 *
 * In this order: which blocks does the daemon have (without looking in the network)? What is missing, do
 * block servers and gateways have? Leaves, by Range from the nar's URLs, if the nodes of the tree can be
 * had.  The whole nar, encoded anew; of an entry whose blocks are not known (`all') it is read twice:
 * nothing is put before the root has matched. */
enum mend_result mend(struct net *n, size_t source, struct put_known *known, struct journal_entry *j,
    struct mend_report *r);

#endif
