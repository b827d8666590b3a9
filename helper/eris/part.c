/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris, publish): parts of files and blocks in HTTP answers. */
#include <stdio.h>
#include <string.h>

#include "helper/eris/part.h"
#include "helper/eris/request.h"

unsigned
part_choose(struct MHD_Connection *c, uint64_t size, const char *tag, uint64_t *offset,
    uint64_t *length)
{
	const char *range = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_RANGE);
	const char *only = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_IF_RANGE);

	if (only != NULL && strcmp(only, tag) != 0)
		range = NULL;
	switch (request_range(range, size, offset, length)) {
	case REQUEST_WHOLE:
		return MHD_HTTP_OK;
	case REQUEST_PART:
		return MHD_HTTP_PARTIAL_CONTENT;
	case REQUEST_UNSATISFIABLE:
		break;
	}
	return MHD_HTTP_RANGE_NOT_SATISFIABLE;
}

void
part_describe(struct MHD_Response *r, unsigned status, const char *type, const char *tag, const char *cache,
    uint64_t offset, uint64_t length, uint64_t size)
{
	char text[80];

	MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(r, MHD_HTTP_HEADER_ACCEPT_RANGES, "bytes");
	MHD_add_response_header(r, MHD_HTTP_HEADER_ETAG, tag);
	if (cache != NULL)
		MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, cache);
	if (status != MHD_HTTP_PARTIAL_CONTENT)
		return;
	snprintf(text, sizeof text, "bytes %llu-%llu/%llu", (unsigned long long)offset,
	    (unsigned long long)(offset + length - 1), (unsigned long long)size);
	MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_RANGE, text);
}

struct MHD_Response *
part_none(uint64_t size)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
	char text[40];

	snprintf(text, sizeof text, "bytes */%llu", (unsigned long long)size);
	if (r != NULL)
		MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_RANGE, text);
	return r;
}
