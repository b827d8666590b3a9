/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): read the nars that the index wants, encode them, and store where their blocks are.
 *
 * Memory: 18 MiB for keys and nodes that wait, 20 MiB of SQLite's, 1.5 MiB a thread.  A nar whose keys are stored in
 * part when the process is killed is begun again; all others are never read twice. */
#ifndef NARLOCK_PUBLISH_BUILD_H
#define NARLOCK_PUBLISH_BUILD_H

#include <signal.h>

#include "helper/publish/catalog.h"

/* Longest time between two commits, in seconds. */
#define BUILD_COMMIT 20

struct build_options {
	struct catalog *catalog;             /* writable; nobody else uses it meanwhile */
	int cache;                           /* directory */
	unsigned threads;                    /* that encode */
	const volatile sig_atomic_t *stop;   /* not 0: finish what can be finished at once, and return; or NULL */
	unsigned seconds;                    /* after which no further nar is begun; 0: no limit */
	int progress;                        /* 0: none; 1: a line a minute; 2: a bar on a terminal; on standard error */
};

struct build_report {
	uint64_t nars, bytes, gone, changed, unusable;
	double seconds;
};

/* build_run(o, r, e): until nothing is wanted any more.  Files that vanish or change meanwhile are left for
 * the next scan.  -1 only if the index fails. */
int build_run(const struct build_options *o, struct build_report *r, struct err *e);

/* build_manifest(c, cache, nar, e): the manifest of a nar that is ready, with the narinfo that is there now,
 * into *NAR. It stays without one if there is no narinfo. */
int build_manifest(struct catalog *c, int cache, struct catalog_nar *nar, struct err *e);

#endif
