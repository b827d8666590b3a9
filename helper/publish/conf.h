/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): narlock-publish.conf: lines `key = value', comments, nothing else. */
#ifndef NARLOCK_PUBLISH_CONF_H
#define NARLOCK_PUBLISH_CONF_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "ipc/limits.h"

#define CONF_LISTEN 8
#define CONF_IPFS 8

struct conf {
	char cache[LIMIT_PATH], state[LIMIT_PATH];
	char user[64];                        /* to become, if started as root */
	char upstream[LIMIT_URL];             /* of a guix publish, or "" */
	char store_dir[LIMIT_PATH];
	unsigned listens, ipfses;
	char listen[CONF_LISTEN][128];
	char ipfs[CONF_IPFS][LIMIT_URL];
	/* Numbers; units and defaults are in conf.c, where the keys are. */
	unsigned priority, ttl, negative_ttl, threads, index_threads, scan_interval;
	unsigned connections, connections_per_address, header_bytes, idle_timeout, request_timeout,
	    drain_timeout;
	unsigned min_rate, requests_per_second, burst;
	unsigned publish_again, again_queue, again_per_hour, push_rate, pin, push_all;
	unsigned access_log, mirror_size;
	int mirror; /* the cache is our own, below the state directory, and is filled from the upstream */
};

void conf_defaults(struct conf *c);

/* conf_read(c, path, e): the file over what is there.  A missing one is an error. */
int conf_read(struct conf *c, const char *path, struct err *e);

/* conf_set(c, key, value, e): one line.  The second `listen' or `ipfs' adds to the first. */
int conf_set(struct conf *c, const char *key, const char *value, struct err *e);

/* conf_has(key): whether there is such a key. */
int conf_has(const char *key);

/* conf_check(c, e): whether what is needed is there.  An upstream alone will do: the cache is then
 * STATE/nars. */
int conf_check(struct conf *c, struct err *e);
/* conf_own_cache(c): where that is, after c->state has changed. */
void conf_own_cache(struct conf *c);

#endif
