/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): `narlock-publish serve': one small parent that listens and watches, and children that
 * work. */
#ifndef NARLOCK_PUBLISH_SERVE_H
#define NARLOCK_PUBLISH_SERVE_H

#include "helper/publish/conf.h"

struct serve_options {
	struct conf conf;
	const char *conf_path;    /* read again at SIGHUP; NULL: nothing to read */
	/* Read the configuration again, with what the command line says over it. */
	int (*reload)(void *ctx, struct conf *conf, struct err *e);
	void *ctx;
};

/* serve_run(o, e): listen (or take the sockets of systemd), print "http://ADDR:PORT/" for each to standard
 * output, and serve until SIGTERM or SIGINT; then requests under way are finished.  SIGHUP: the configuration
 * is read again, and new processes take over while the old ones finish.  0, or -1. */
int serve_run(struct serve_options *o, struct err *e);

#endif
