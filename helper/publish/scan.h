/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): find out what is in the cache: all of it, or what inotify tells. */
#ifndef NARLOCK_PUBLISH_SCAN_H
#define NARLOCK_PUBLISH_SCAN_H

#include <signal.h>

#include "helper/publish/catalog.h"

/* Directories below each other that are looked into. */
#define SCAN_DEPTH 8

/* What is said when there are narinfos and not one nar. */
#define SCAN_NO_NARS "none of the nars is where its narinfo says: " \
	"is `cache' the very directory of `guix publish --cache'?"

struct scan {
	struct catalog *catalog; /* writable */
	int cache;               /* directory */
	const volatile sig_atomic_t *stop; /* or NULL */
	uint64_t infos, nars, changed, gone; /* counted */
	/* Called for every directory (path below the cache; "" is the cache itself), or NULL. */
	void (*directory)(void *ctx, const char *path);
	void *ctx;
};

/* scan_all(s, e): every narinfo and its nars become known; what is gone from the cache is forgotten.  A cache
 * that cannot be read forgets nothing: it may come back.  -1 if the index fails, or the cache cannot be
 * read. */
int scan_all(struct scan *s, struct err *e);

/* scan_file(s, path, e): one file has come, changed or gone. */
int scan_file(struct scan *s, const char *path, struct err *e);

/* scan_again(s, id, e): a nar is not as the index has it. */
int scan_again(struct scan *s, uint32_t id, struct err *e);

#endif
