/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: narinfos and URLs as narlock-publish reads them: what is added leaves the bytes of the narinfo in their order. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "helper/publish/info.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct info_lines lines[LIMIT_NARINFO_URLS];
	char *text = malloc(size + 1), *out, path[LIMIT_PATH];
	struct info i;
	size_t n, at = 0;

	if (text == NULL || size == 0) {
		free(text);
		return 0;
	}
	memcpy(text, data, size);
	for (int form = 0; form < INFO_FORMS; form++)
		if (info_file(path, text, size, form, 1) == 0 &&
		    (path[0] == '/' || path[0] == '.' || strstr(path, "/.") != NULL || strstr(path, "//") != NULL))
			abort();
	if (info_parse(&i, text, size) == 0) {
		(void)info_hash_part(&i);
		for (unsigned g = 0; g < i.n; g++) {
			memset(lines[g].urn, 'U', LIMIT_URN);
			lines[g].urn[data[0] >> (g % 8) & 1 ? LIMIT_URN : 0] = '\0';
			memset(lines[g].manifest, 'M', LIMIT_CID);
			lines[g].manifest[LIMIT_CID] = '\0';
		}
		out = malloc(INFO_ROOM(size));
		if (out == NULL)
			abort();
		n = info_add(out, &i, text, size, lines);
		if (n < size || n > INFO_ROOM(size))
			abort();
		for (size_t k = 0; k < n && at < size; k++)
			at += out[k] == text[at];
		if (at != size)
			abort();
		(void)info_index(out, INFO_ROOM(size), &i, lines);
		free(out);
	}
	free(text);
	return 0;
}
