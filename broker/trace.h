/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: what the client sees of a download: `@ download-...' lines, or a progress bar. */
#ifndef NARLOCK_BROKER_TRACE_H
#define NARLOCK_BROKER_TRACE_H

#include <stdint.h>

#include "ipc/limits.h"

struct broker;
struct place;

struct trace {
	const char *dest;           /* the FILE of the lines: the destination */
	char url[2 * LIMIT_URL + 2]; /* without user and password */
	uint64_t size;              /* compressed; 0: unknown */
	char source[LIMIT_SOURCE + 1]; /* the host or source of blocks, as the fetcher told last */
	int blocks;                 /* it may come as blocks, from several sources */
	unsigned told;              /* sources */
	int started;
	int64_t last, begin;        /* ms */
};

/* trace_begin(b, dest): a new item.  DEST must live until trace_end. */
void trace_begin(struct broker *b, const char *dest);

/* trace_started(b, place, size): the nar arrives from PLACE. */
void trace_started(struct broker *b, const struct place *place, uint64_t size);

/* trace_progress(b, bytes, source): at most five lines a second come of it. */
void trace_progress(struct broker *b, uint64_t bytes, const char *source);

/* trace_end(b, bytes, good): the last line; `succeeded' only after `started', and only when GOOD. */
void trace_end(struct broker *b, uint64_t bytes, int good);

/* trace_url(out, size, server, url): the nar's URL as stock guix would show it, without user and password; spaces cannot
 * be in it. */
void trace_url(char *out, size_t size, const char *server, const char *url);

#endif
