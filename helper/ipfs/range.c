/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (ipfs): blocks out of the ordinary nar file. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "helper/eris/block.h"
#include "helper/ipfs/range.h"

/* No file has more leaves: offsets stay below 2^63. */
#define LEAVES ((uint64_t)INT64_MAX / ERIS_LARGE)

enum range_need
range_leaf(uint64_t index, uint64_t size, uint64_t *offset, size_t *len)
{
	*len = 0;
	*offset = 0;
	if (index >= LEAVES)
		return RANGE_NONE;
	*offset = index * ERIS_LARGE;
	if (size == *offset)
		return RANGE_PADDING;
	if (size < *offset)
		return RANGE_NONE;
	*len = size - *offset < ERIS_LARGE ? (size_t)(size - *offset) : ERIS_LARGE;
	return RANGE_BYTES;
}

size_t
range_plan(struct range_run *runs, size_t max, const uint64_t *leaves, size_t *n, uint64_t gap,
    uint64_t longest)
{
	size_t used = 0, i;

	for (i = 0; i < *n; i++) {
		struct range_run *run = used > 0 ? &runs[used - 1] : NULL;

		if (run != NULL && leaves[i] - (run->first + run->count) <= gap && leaves[i] - run->first < longest) {
			run->count = leaves[i] - run->first + 1;
			continue;
		}
		if (used == max)
			break;
		runs[used++] = (struct range_run){ leaves[i], 1 };
	}
	*n = i;
	return used;
}

/* The bytes of a run: from *START up to and without *END.  -1 if there are none. */
static int
bytes_of(const struct range_run *run, uint64_t size, uint64_t *start, uint64_t *end)
{
	if (run->count == 0 || run->first >= LEAVES || run->count > LEAVES - run->first)
		return -1;
	*start = run->first * ERIS_LARGE;
	*end = *start + run->count * ERIS_LARGE;
	if (*end > size)
		*end = size;
	return *start < *end ? 0 : -1;
}

int
range_header(char text[RANGE_HEADER], const struct range_run *run, uint64_t size)
{
	uint64_t start, end;

	if (bytes_of(run, size, &start, &end) != 0)
		return -1;
	snprintf(text, RANGE_HEADER, "bytes=%" PRIu64 "-%" PRIu64, start, end - 1);
	return 0;
}

static enum range_verdict
judge_part(const struct range_answer *a, const struct range_run *run, uint64_t size, const char **why)
{
	uint64_t start, end, total = a->total >= 0 ? (uint64_t)a->total : RANGE_UNKNOWN;

	if (total != RANGE_UNKNOWN && size != RANGE_UNKNOWN && total != size) {
		*why = "the file has another size";
		return RANGE_OTHER_FILE;
	}
	if (bytes_of(run, size != RANGE_UNKNOWN ? size : total, &start, &end) != 0 || a->start < 0 ||
	    a->end < a->start ||
	    (uint64_t)a->start != start || (uint64_t)a->end >= end) {
		*why = "another range than was asked for";
		return RANGE_USELESS;
	}
	/* Less is right only at the end of a file. */
	if ((uint64_t)a->end != end - 1 && (total != RANGE_UNKNOWN || size != RANGE_UNKNOWN)) {
		*why = "less than was asked for";
		return RANGE_USELESS;
	}
	if (a->length >= 0 && a->length != a->end - a->start + 1) {
		*why = "a length that is not that of the range";
		return RANGE_USELESS;
	}
	return RANGE_PART;
}

enum range_verdict
range_judge(const struct range_answer *a, const struct range_run *run, uint64_t size, const char **why)
{
	*why = NULL;
	/* The file itself is what is encoded, not a form for the way. */
	if ((a->status == 206 || a->status == 200) && a->encoding != NULL && a->encoding[0] != '\0' &&
	    strcasecmp(a->encoding, "identity") != 0) {
		*why = "a content encoding";
		return RANGE_USELESS;
	}
	switch (a->status) {
	case 206:
		return judge_part(a, run, size, why);
	case 200:
		if (size == RANGE_UNKNOWN || a->length < 0 || (uint64_t)a->length == size)
			return RANGE_WHOLE;
		*why = "the file has another size";
		return RANGE_OTHER_FILE;
	case 416:
		if (size == RANGE_UNKNOWN && a->total >= 0 && run->first < LEAVES &&
		    (uint64_t)a->total == run->first * ERIS_LARGE)
			return RANGE_BEHIND;
		*why = "the file is shorter";
		return RANGE_OTHER_FILE;
	case 404:
	case 410:
		*why = "the file is not there";
		return RANGE_GONE;
	case 408:
	case 429:
	case 500:
	case 502:
	case 503:
	case 504:
		*why = "the server is busy";
		return RANGE_BUSY;
	default:
		*why = "an answer that is of no use";
		return RANGE_USELESS;
	}
}

/* A request more costs about as much as half a megabyte. */
#define REQUEST_COST (16 * (uint64_t)ERIS_LARGE)

int
range_read_on(uint64_t missing, uint64_t size, uint64_t position)
{
	uint64_t whole = size != RANGE_UNKNOWN && size < position ? size : position;

	if (missing == 0)
		return 0;
	/* Up to the last missing leaf all has to be read; more than four times of what is needed is too much. */
	return whole <= REQUEST_COST || (missing < LEAVES && missing * ERIS_LARGE >= whole / 4);
}

enum range_fit
range_rebuild(struct range_source *s, uint8_t *block, const uint8_t ref[ERIS_REF], const uint8_t *data,
    size_t len)
{
	struct eris_pair pair;

	if (len <= ERIS_LARGE) {
		block_leaf(block, &pair, data, len, ERIS_LARGE);
		if (memcmp(pair.ref, ref, ERIS_REF) == 0) {
			s->right++;
			return RANGE_FITS;
		}
	}
	s->wrong++;
	return s->right > 0 ? RANGE_CHANGED : RANGE_ANOTHER;
}

int
range_whole(const struct eris_cap *wanted, const struct eris_cap *got)
{
	return wanted->block_size == got->block_size && wanted->level == got->level &&
	    memcmp(&wanted->root, &got->root, sizeof got->root) == 0;
}
