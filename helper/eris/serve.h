/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): a directory of blocks, nars and narinfos as a read-only HTTP server. */
#ifndef NARLOCK_ERIS_SERVE_H
#define NARLOCK_ERIS_SERVE_H

#include "ipc/err.h"

struct serve_options {
	const char *directory;
	const char *listen; /* "127.0.0.1:8781" or "[::1]:8781"; port 0: any that is free */
	int allow_remote;   /* other than loopback addresses may be listened on */
};

/* serve_run(o, e): listen, print "http://ADDR:PORT/" to standard output, give up all rights but reading
 * beneath the directory, and serve until a signal comes.  Returns only on failure, -1. */
int serve_run(const struct serve_options *o, struct err *e);

#endif
