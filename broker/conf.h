/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: narlock.conf, read with a strict reader of its own. */
#ifndef NARLOCK_BROKER_CONF_H
#define NARLOCK_BROKER_CONF_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "ipc/limits.h"

#define CONF_DESTINATIONS 8
#define CONF_HOSTS 16
#define CONF_INDEXES 8
#define CONF_AUTO "auto" /* no path, so that nobody can write it */

/* narlock.conf(5).  Every member has its default after conf_defaults(). */
struct conf {
	char helper_user[64];                 /* name in /etc/passwd, or uid:gid */
	char state_directory[LIMIT_PATH];
	char spool_directory[LIMIT_PATH];     /* empty: state_directory/spool */
	char audit_log[LIMIT_PATH];           /* empty: none */
	char ca_bundle[LIMIT_PATH];
	char helper_sockets[LIMIT_SOCKET_DIR]; /* empty: none; CONF_AUTO: PATH_SOCKETS for a daemon that is not root */
	char destinations[CONF_DESTINATIONS][LIMIT_PATH]; /* allow-destination */
	char redirect_hosts[CONF_HOSTS][LIMIT_HOST + 1];  /* trusted-redirect-host */
	char indexes[CONF_INDEXES][LIMIT_URL + 1];        /* eris-index; no trailing slash */
	unsigned destination_count, redirect_host_count, index_count, option_count;
	struct conf_option {
		const char *key; /* static */
		char value[LIMIT_OPTION_VALUE + 1];
	} options[LIMIT_OPTIONS_PASSED];                  /* lines that only the fetcher understands, in their order */
	char guix[LIMIT_PATH];     /* the real guix; empty: a usual place.  This and the next are for helper/guix */
	uint64_t fallback_stock;   /* fallback = none | stock */
	uint64_t spool_memory;     /* bytes; UINT64_MAX: decided by the free memory */
	uint64_t stall_seconds, connect_seconds, min_rate;
	uint64_t zstd_window;      /* bytes */
	uint64_t lzip_dictionary;  /* bytes */
	uint64_t tls_verify;       /* 0 or 1 */
	uint64_t sync_item;        /* 0 or 1: sync = none | item */
	uint64_t require_landlock; /* landlock = prefer | require */
	uint64_t require_less;     /* required-layers = default | no-namespace */
};

/* conf_defaults(c, state_parent): STATE_PARENT is guix's state directory. */
void conf_defaults(struct conf *c, const char *state_parent);

/* conf_read(c, path, e): read PATH over the defaults.  A missing file is success.  Unknown keys, bad values and a
 * file that others than its owner may write are failures that name the (first) line; good lines count all the same,
 * for the program that has to find the real guix whatever else is wrong. */
int conf_read(struct conf *c, const char *path, struct err *e);

/* conf_set(c, name, value, e): what the line `NAME = VALUE' does.  VALUE loses slashes at its end where it is a path. */
int conf_set(struct conf *c, const char *name, char *value, struct err *e);

/* conf_helper_ids(c, uid, gid, e): the ids of helper-user, from /etc/passwd without NSS. */
int conf_helper_ids(const struct conf *c, uint32_t *uid, uint32_t *gid, struct err *e);

#endif
