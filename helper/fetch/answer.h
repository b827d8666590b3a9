/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): what the header of an HTTP response says, line by line. */
#ifndef NARLOCK_FETCH_ANSWER_H
#define NARLOCK_FETCH_ANSWER_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/limits.h"

#define ANSWER_ETAG 160
#define ANSWER_DATE 40
#define ANSWER_WORD 32
#define ANSWER_ERROR 160

/* The header of one response.  Texts that are too long, badly formed or not printable are left empty,
 * numbers that make no sense at -1: a server can only lose features by writing nonsense. */
struct answer {
	int status;           /* 0: no status line yet */
	uint8_t baking;       /* X-Baking: guix publish makes it right now */
	uint8_t chunked;      /* Transfer-Encoding: the body says itself where it ends */
	uint8_t ranges;       /* Accept-Ranges: 0 not told, 1 bytes, 2 none */
	uint8_t ended;        /* the empty line was there: what comes later are trailers */
	int64_t length;       /* Content-Length */
	int64_t range_start;  /* Content-Range: bytes START-END/TOTAL */
	int64_t range_end;
	int64_t range_total;  /* -1 also for '*'; may come alone, with a 416 */
	int64_t max_age;      /* seconds, of Cache-Control */
	int64_t retry_after;  /* seconds from now */
	size_t bytes;         /* of all header lines so far, informational responses included */
	char etag[ANSWER_ETAG + 1];
	char modified[ANSWER_DATE + 1];
	char encoding[ANSWER_WORD + 1];      /* Content-Encoding */
	char stream_error[ANSWER_ERROR + 1]; /* X-Stream-Error, mostly a trailer; too long ones are cut */
	char location[LIMIT_URL + 1];
};

void answer_reset(struct answer *a);

/* answer_line(a, line, len, now): take in one header line with or without its line end.  A status line
 * begins a new response and forgets the one before.  NOW: seconds since 1970, for dates in Retry-After.
 * Returns 0, or -1 when there are more header bytes than LIMIT_HEADERS. */
int answer_line(struct answer *a, const char *line, size_t len, int64_t now);

/* answer_is_redirect(a): a status that comes with a Location to follow. */
int answer_is_redirect(const struct answer *a);

#endif
