/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests (fuzz): URNs, references, CIDs and requests to the block server.  What is accepted is written
 * again the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "helper/eris/request.h"
#include "helper/eris/urn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_range(const char *text, size_t size)
{
	uint64_t offset, length, sizes[3] = { 0, size * 7919, UINT64_MAX };

	for (unsigned i = 0; i < 3; i++) {
		enum request_range r = request_range(text, sizes[i], &offset, &length);

		if (r != REQUEST_UNSATISFIABLE && (offset > sizes[i] || length > sizes[i] - offset))
			abort();
		if (r == REQUEST_PART && length == 0)
			abort();
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), again[URN_LEN + 1];
	uint8_t ref[ERIS_REF];
	struct eris_cap cap;
	const char *path;

	if (text == NULL)
		return 0;
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	if (urn_parse(&cap, text, NULL) == 0) {
		urn_format(again, &cap);
		if (strcmp(again, text) != 0)
			abort();
	}
	if (urn_ref_parse(ref, text, NULL) == 0) {
		urn_ref_format(again, ref);
		if (strcmp(again, text) != 0)
			abort();
	}
	if (urn_cid_parse(ref, text, NULL) == 0) {
		urn_cid_format(again, ref);
		if (strcmp(again, text) != 0)
			abort();
	}
	request_block(text, ref);
	path = request_file(text);
	if (path != NULL && (path[0] == '/' || path[0] == '\0' || strstr(text, "/.") != NULL || strstr(text, "//") != NULL))
		abort();
	check_range(text, size);
	free(text);
	return 0;
}
