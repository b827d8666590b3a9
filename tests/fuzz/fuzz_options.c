/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: _NIX_OPTIONS and a list of neighbours of any bytes (the first NUL divides the input). */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "broker/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = calloc(1, size + 2);
	struct options o;

	if (text == NULL)
		return 0;
	if (size > 0)
		memcpy(text, data, size);
	if (options_parse(&o, text, strlen(text) < size ? text + strlen(text) + 1 : NULL, LIMIT_SERVERS) < 0)
		abort();
	if (o.url_count > LIMIT_SERVERS || o.columns < 20 || o.columns > 1000)
		abort();
	for (unsigned i = 0; i < o.url_count; i++) {
		size_t n = strlen(o.urls[i]);

		if (n == 0 || n > LIMIT_URL)
			abort();
		for (size_t k = 0; k < n; k++)
			if (o.urls[i][k] <= 0x20 || o.urls[i][k] >= 0x7f)
				abort();
	}
	free(o.buffer);
	free(text);
	return 0;
}
