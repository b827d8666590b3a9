/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: the root of a manifest, written by other code than the one that is tested. */
#ifndef NARLOCK_TESTS_MANIFEST_ROOT_H
#define NARLOCK_TESTS_MANIFEST_ROOT_H

#include <string.h>

#include "helper/ipfs/cbor.h"
#include "helper/ipfs/manifest.h"

/* A root with anything in it; returns its length. */
static size_t
put_root(uint8_t *to, uint64_t version, const struct manifest_root *r, enum car_kind kind)
{
	uint8_t cid[CAR_OURS];
	size_t n = cbor_put(to, CBOR_MAP, r->narinfo != NULL ? 5 : 4);

	n += cbor_put_key(to + n, "v");
	n += cbor_put(to + n, CBOR_UINT, version);
	n += cbor_put_key(to + n, "cap");
	n += cbor_put(to + n, CBOR_BYTES, ERIS_CAP);
	memcpy(to + n, r->cap, ERIS_CAP);
	n += ERIS_CAP;
	car_cid(cid, kind, r->file);
	n += cbor_put_key(to + n, "file");
	n += cbor_put_link(to + n, cid, sizeof cid);
	n += cbor_put_key(to + n, "blocks");
	n += cbor_put(to + n, CBOR_UINT, r->blocks);
	if (r->narinfo != NULL) {
		n += cbor_put_key(to + n, "narinfo");
		n += cbor_put(to + n, CBOR_BYTES, r->narinfo_len);
		memcpy(to + n, r->narinfo, r->narinfo_len);
		n += r->narinfo_len;
	}
	return n;
}

#endif
