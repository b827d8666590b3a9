/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: frames of any bytes.  What is accepted is encoded to the same bytes again. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t again[LIMIT_FRAME];
	struct err e = { 0, "" };
	struct wire_msg m;

	if (size > LIMIT_FRAME)
		return 0;
	if (wire_decode(&m, data, size, &e) < 0) {
		if (e.text[0] == '\0')
			abort();
		return 0;
	}
	if (wire_encode(&m, again, &e) != size || memcmp(again, data, size) != 0)
		abort();
	return 0;
}
