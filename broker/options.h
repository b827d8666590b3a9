/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: what the daemon tells through _NIX_OPTIONS and the environment. */
#ifndef NARLOCK_BROKER_OPTIONS_H
#define NARLOCK_BROKER_OPTIONS_H

#include <stddef.h>

#include "ipc/wire.h"

/* Everything points into `buffer' or into static text. */
struct options {
	char *buffer;                      /* owned */
	const char *urls[LIMIT_SERVERS];   /* substitute servers, in order of preference; no trailing slash */
	uint8_t kinds[LIMIT_SERVERS];      /* enum server_kind: is it the admin's, or found by discover? */
	unsigned url_count, urls_dropped;  /* how many more there were than LIMIT_SERVERS */
	int traces;                        /* `@ download-...' lines instead of a progress bar */
	int deduplicate;
	unsigned columns;                  /* of the client's terminal */
	char user[64];                     /* who the client says it is; nobody checks that */
};

/* options_parse(o, text, discovered, most): TEXT is the value of _NIX_OPTIONS or NULL, DISCOVERED the text of guix's list of
 * neighbours (one URL a line) or NULL; it counts only when TEXT says discover=true.  At most MOST servers are
 * kept.  Unknown keys and lines are skipped.  Returns -1 only when memory is short. */
int options_parse(struct options *o, const char *text, const char *discovered, unsigned most);

#endif
