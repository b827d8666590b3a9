/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: a slot of the journal of healing with a right checksum and anything else in it. */
#include <stdlib.h>
#include <string.h>

#include "helper/fetch/journal.h"
#include "helper/fetch/siphash.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t key[16] = "narlock heal 1";
	static uint8_t bytes[JOURNAL_SLOT], again[JOURNAL_SLOT];
	static struct journal_entry j;
	const char *at = j.urls;

	memset(bytes, 0, sizeof bytes);
	memcpy(bytes + 16, data, size < sizeof bytes - 16 ? size : sizeof bytes - 16);
	siphash(key, bytes + 16, sizeof bytes - 16, bytes, 16);
	if (journal_read(bytes, &j) != 1)
		return 0;
	if (j.nrefs > JOURNAL_REFS || j.nurls > JOURNAL_URLS || j.url_bytes > JOURNAL_URL_TEXT ||
	    (j.all != 0) == (j.nrefs != 0))
		abort();
	for (unsigned i = 0; i < j.nurls; i++)
		at += strlen(at) + 1;
	if (at != j.urls + j.url_bytes)
		abort();
	/* What was read is what is written. */
	journal_write(again, &j);
	if (journal_read(again, &j) != 1)
		abort();
	return 0;
}
