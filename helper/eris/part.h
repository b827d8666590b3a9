/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris, publish): a part of something with a size and an entity tag, as an HTTP request asks for it
 * and as the answer says it (RFC 9110, 13.1.5, 14). */
#ifndef NARLOCK_ERIS_PART_H
#define NARLOCK_ERIS_PART_H

#include <microhttpd.h>
#include <stdint.h>

/* part_choose(c, size, tag, offset, length): the part of SIZE bytes that the Range and If-Range headers ask
 * for.  Returns the status: 200 or 206, with *OFFSET and *LENGTH within SIZE, or 416. */
unsigned part_choose(struct MHD_Connection *c, uint64_t size, const char *tag, uint64_t *offset,
    uint64_t *length);

/* part_describe(r, status, type, tag, cache, offset, length, size): the headers of that answer; CACHE: the
 * value of Cache-Control, or NULL. */
void part_describe(struct MHD_Response *r, unsigned status, const char *type, const char *tag, const char *cache,
    uint64_t offset, uint64_t length, uint64_t size);

/* part_none(size): the answer for 416, without a body; NULL: out of memory. */
struct MHD_Response *part_none(uint64_t size);

#endif
