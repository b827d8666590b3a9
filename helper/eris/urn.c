/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): read capabilities and references as bytes and as text, and what a reference is called in
 * IPFS. */
#include <string.h>

#include "helper/eris/base32.h"
#include "helper/eris/urn.h"

#define PREFIX "urn:eris:"
#define PREFIX_LEN (sizeof(PREFIX) - 1)

/* CIDv1; multicodec raw; multihash blake2b-256 (0xb220 as a varint), 32 bytes. */
static const uint8_t cid_head[URN_CID - ERIS_REF] = { 0x01, 0x55, 0xa0, 0xe4, 0x02, 0x20 };

int
urn_from_bytes(struct eris_cap *cap, const uint8_t bytes[ERIS_CAP], struct err *e)
{
	/* The code is the logarithm of the size. */
	if (bytes[0] != 0x0a && bytes[0] != 0x0f)
		return err_set(e, "read capability: unknown block size code %u", bytes[0]);
	cap->block_size = 1u << bytes[0];
	cap->level = bytes[1];
	if (cap->level > eris_max_level(cap->block_size))
		return err_set(e, "read capability: level %u is above %u, the highest for blocks of %u bytes",
		    cap->level, eris_max_level(cap->block_size), cap->block_size);
	memcpy(cap->root.ref, bytes + 2, ERIS_REF);
	memcpy(cap->root.key, bytes + 2 + ERIS_REF, ERIS_KEY);
	return 0;
}

void
urn_to_bytes(uint8_t bytes[ERIS_CAP], const struct eris_cap *cap)
{
	bytes[0] = cap->block_size == ERIS_SMALL ? 0x0a : 0x0f;
	bytes[1] = cap->level;
	memcpy(bytes + 2, cap->root.ref, ERIS_REF);
	memcpy(bytes + 2 + ERIS_REF, cap->root.key, ERIS_KEY);
}

int
urn_parse(struct eris_cap *cap, const char *text, struct err *e)
{
	uint8_t bytes[ERIS_CAP];

	if (strncmp(text, "urn:erisx2:", 11) == 0 || strncmp(text, "urn:erisx3:", 11) == 0)
		return err_set(e, "%.10s is an experimental encoding from before ERIS 1.0.0", text);
	if (strncmp(text, PREFIX, PREFIX_LEN) != 0)
		return err_set(e, "this is no urn:eris:");
	text += PREFIX_LEN;
	if (strnlen(text, URN_LEN) != URN_LEN - PREFIX_LEN)
		return err_set(e, "urn:eris: with %s than %zu characters behind it",
		    strnlen(text, URN_LEN) < URN_LEN - PREFIX_LEN ? "less" : "more", URN_LEN - PREFIX_LEN);
	if (base32_decode(bytes, sizeof(bytes), text, URN_LEN - PREFIX_LEN, BASE32_UPPER) != 0)
		return err_set(e, "urn:eris: with no canonical base32 in upper case behind it");
	return urn_from_bytes(cap, bytes, e);
}

void
urn_format(char text[URN_LEN + 1], const struct eris_cap *cap)
{
	uint8_t bytes[ERIS_CAP];

	urn_to_bytes(bytes, cap);
	memcpy(text, PREFIX, PREFIX_LEN);
	base32_encode(text + PREFIX_LEN, bytes, sizeof(bytes), BASE32_UPPER);
}

int
urn_ref_parse(uint8_t ref[ERIS_REF], const char *text, struct err *e)
{
	if (base32_decode(ref, ERIS_REF, text, strnlen(text, URN_REF_LEN + 1), BASE32_UPPER) != 0)
		return err_set(e, "this is no reference: %d characters of canonical base32 in upper case",
		    URN_REF_LEN);
	return 0;
}

void
urn_ref_format(char text[URN_REF_LEN + 1], const uint8_t ref[ERIS_REF])
{
	base32_encode(text, ref, ERIS_REF, BASE32_UPPER);
}

void
urn_cid_bytes(uint8_t cid[URN_CID], const uint8_t ref[ERIS_REF])
{
	memcpy(cid, cid_head, sizeof(cid_head));
	memcpy(cid + sizeof(cid_head), ref, ERIS_REF);
}

int
urn_cid_from_bytes(uint8_t ref[ERIS_REF], const uint8_t cid[URN_CID])
{
	if (memcmp(cid, cid_head, sizeof(cid_head)) != 0)
		return -1;
	memcpy(ref, cid + sizeof(cid_head), ERIS_REF);
	return 0;
}

void
urn_cid_format(char text[URN_CID_LEN + 1], const uint8_t ref[ERIS_REF])
{
	uint8_t cid[URN_CID];

	urn_cid_bytes(cid, ref);
	text[0] = 'b';
	base32_encode(text + 1, cid, sizeof(cid), BASE32_LOWER);
}

int
urn_cid_parse(uint8_t ref[ERIS_REF], const char *text, struct err *e)
{
	uint8_t cid[URN_CID];

	if (text[0] != 'b' ||
	    base32_decode(cid, sizeof(cid), text + 1, strnlen(text + 1, URN_CID_LEN), BASE32_LOWER) != 0 ||
	    urn_cid_from_bytes(ref, cid) != 0)
		return err_set(e, "this is no CID (version 1, base32) of a raw block by BLAKE2b-256");
	return 0;
}
