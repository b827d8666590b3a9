/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): what an HTTP request to the block server asks for. */
#include <string.h>
#include <strings.h>

#include "helper/eris/request.h"
#include "helper/eris/urn.h"

#define BLAKE2B "urn:blake2b:"

int
request_block(const char *query, uint8_t ref[ERIS_REF])
{
	if (strncmp(query, BLAKE2B, sizeof(BLAKE2B) - 1) != 0)
		return -1;
	return urn_ref_parse(ref, query + sizeof(BLAKE2B) - 1, NULL);
}

const char *
request_file(const char *url)
{
	const char *path = url + 1;

	if (url[0] != '/' || path[0] == '\0')
		return NULL;
	for (const char *at = url; *at != '\0'; at++) {
		if (at - url > REQUEST_PATH || (unsigned char)*at < 0x20 || *at == 0x7f)
			return NULL;
		if (*at == '/' && (at[1] == '/' || at[1] == '.' || at[1] == '\0'))
			return NULL;
	}
	return path;
}

/* A number that *AT points to; -1 if there is none.  What is too large for any file becomes UINT64_MAX. */
static int
number(const char **at, uint64_t *n)
{
	if (**at < '0' || **at > '9')
		return -1;
	for (*n = 0; **at >= '0' && **at <= '9'; ++*at)
		*n = *n > (UINT64_MAX - 9) / 10 ? UINT64_MAX : *n * 10 + (uint64_t)(**at - '0');
	return 0;
}

enum request_range
request_range(const char *header, uint64_t size, uint64_t *offset, uint64_t *length)
{
	uint64_t first = 0, last = UINT64_MAX;
	int suffix;

	*offset = 0;
	*length = size;
	if (header == NULL || strncasecmp(header, "bytes=", 6) != 0)
		return REQUEST_WHOLE;
	header += 6;
	suffix = *header == '-';
	if (!suffix && number(&header, &first) != 0)
		return REQUEST_WHOLE;
	if (*header++ != '-')
		return REQUEST_WHOLE;
	/* Only the end may be missing, and only if there is a beginning. */
	if ((number(&header, &last) != 0 && suffix) || *header != '\0' || (!suffix && last < first))
		return REQUEST_WHOLE;
	if (suffix) {
		/* The last bytes, so many. */
		first = last < size ? size - last : 0;
		if (last == 0)
			return REQUEST_UNSATISFIABLE;
		last = UINT64_MAX;
	}
	if (first >= size)
		return REQUEST_UNSATISFIABLE;
	*offset = first;
	*length = (last < size - 1 ? last : size - 1) - first + 1;
	return REQUEST_PART;
}
