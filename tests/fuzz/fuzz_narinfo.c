/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: narinfos as a hostile server may send them. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "broker/crypto.h"
#include "broker/narinfo.h"
#include "broker/storepath.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int blocks_ok(struct narinfo_text t, size_t most)
{
	for (size_t i = 0; i < t.len; i++)
		if (t.at[i] <= ' ' || t.at[i] > '~')
			return 0;
	return t.len <= most && (t.at == NULL) == (t.len == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int ready;
	struct narinfo_text ref = { NULL, 0 };
	struct narinfo ni;
	struct err e = { 0 };
	size_t count = 0;

	if (!ready && crypto_init(&e) < 0)
		abort();
	ready = 1;
	if (narinfo_parse(&ni, (const char *)data, size, "/gnu/store", &e) < 0) {
		/* Each refusal has a reason, and the reason quotes nothing of the input. */
		if (e.text[0] == '\0' || strpbrk(e.text, "\n\r\033"))
			abort();
		return 0;
	}
	/* What every accepted one must be. */
	while (narinfo_next_reference(&ni, &ref)) {
		count++;
		if (!storepath_base_ok(ref.at, ref.len))
			abort();
	}
	if (count != ni.reference_count || !storepath_base(ni.store_path.at, ni.store_path.len, "/gnu/store") ||
	    ni.nar_size == 0 || ni.nar_size > LIMIT_NAR_SIZE || ni.group_count > LIMIT_NARINFO_URLS)
		abort();
	if (ni.signature.at && (memmem(data, size, "Signature:", 10) != data + ni.signed_len ||
	    ni.store_path.at > (const char *)data + ni.signed_len))
		abort();
	for (size_t i = 0; i < ni.group_count; i++)
		if (!ni.groups[i].url.at || !ni.groups[i].compression.at || ni.groups[i].url.len > LIMIT_URL ||
		    !blocks_ok(ni.groups[i].eris, LIMIT_URN) || !blocks_ok(ni.groups[i].manifest, LIMIT_CID))
			abort();
	if (!narinfo_equivalent(&ni, &ni))
		abort();
	return 0;
}
