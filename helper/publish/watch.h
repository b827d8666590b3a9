/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): keep the index up to date for as long as the server runs: a scan at the beginning and now
 * and then, inotify between, and what the web server found to be wrong. */
#ifndef NARLOCK_PUBLISH_WATCH_H
#define NARLOCK_PUBLISH_WATCH_H

#include <signal.h>

#include "helper/publish/conf.h"
#include "helper/publish/shared.h"

/* e->code when another directory has taken the cache's place: it was mounted, or moved away and made
 * again. */
#define WATCH_MOVED (-3)

/* watch_run(conf, cache, index, wrong, shared, stop, e): until *STOP, or the other end of WRONG is closed
 * (0), or the index fails (-1).  WRONG: a socket whose messages are numbers of nars (4 bytes) to be read
 * again, or 0: the index gives errors.  Totals go to SHARED.  CACHE and the path INDEX were opened or made by
 * the caller. */
int watch_run(const struct conf *conf, int cache, const char *index, int wrong, struct shared *shared,
    const volatile sig_atomic_t *stop, struct err *e);

#endif
