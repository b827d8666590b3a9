/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: access control lists of any bytes. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "broker/acl.h"
#include "broker/crypto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int ready;
	struct err e = { 0 };
	struct acl acl;

	if (!ready && crypto_init(&e) < 0)
		abort();
	ready = 1;
	if (acl_parse(&acl, (const char *)data, size, &e) < 0) {
		if (e.text[0] == '\0' || acl.keys || acl.count)
			abort();
		return 0;
	}
	for (size_t i = 0; i < acl.count; i++)
		if (!acl_has(&acl, acl.keys[i]))
			abort();
	acl_free(&acl);
	return 0;
}
