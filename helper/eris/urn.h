/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): read capabilities and references as bytes and as text, and what a reference is called in
 * IPFS. */
#ifndef NARLOCK_ERIS_URN_H
#define NARLOCK_ERIS_URN_H

#include "helper/eris/eris.h"
#include "ipc/err.h"

/* Characters without the NUL: "urn:eris:" and 106; a reference; a CID. */
#define URN_LEN 115
#define URN_REF_LEN 52
#define URN_CID_LEN 62

/* Bytes of a CIDv1 that names a block: version 1, codec raw, multihash blake2b-256, 32, reference. */
#define URN_CID 38

/* urn_from_bytes(cap, bytes, e): the 66 bytes of a read capability: block size code (0x0a or 0x0f), level,
 * reference, key.  -1 for any other size or a level that cannot be. */
int urn_from_bytes(struct eris_cap *cap, const uint8_t bytes[ERIS_CAP], struct err *e);
void urn_to_bytes(uint8_t bytes[ERIS_CAP], const struct eris_cap *cap);

/* urn_parse(cap, text, e): "urn:eris:" in lower case and 106 characters, nothing before or behind, spare
 * bits 0. The experimental encodings urn:erisx2 and urn:erisx3 are refused by name: their trees differ. */
int urn_parse(struct eris_cap *cap, const char *text, struct err *e);
void urn_format(char text[URN_LEN + 1], const struct eris_cap *cap);

/* urn_ref_parse(ref, text, e): 52 characters of upper-case base32, as blocks are named in stores and in
 * urn:blake2b:REF. */
int urn_ref_parse(uint8_t ref[ERIS_REF], const char *text, struct err *e);
void urn_ref_format(char text[URN_REF_LEN + 1], const uint8_t ref[ERIS_REF]);

/* urn_cid_format(text, ref): the CID of a block as text: 'b' (multibase: base32 in lower case) and 61
 * characters; it always begins with bafk2bzace.  A pure change of writing, nothing is hashed. */
void urn_cid_format(char text[URN_CID_LEN + 1], const uint8_t ref[ERIS_REF]);
/* urn_cid_parse(ref, text, e): such a CID only; another version, codec, hash or base is refused. */
int urn_cid_parse(uint8_t ref[ERIS_REF], const char *text, struct err *e);
/* urn_cid_bytes(cid, ref), urn_cid_from_bytes(ref, cid): the same as bytes, as they stand in a CAR.  0 or
 * -1. */
void urn_cid_bytes(uint8_t cid[URN_CID], const uint8_t ref[ERIS_REF]);
int urn_cid_from_bytes(uint8_t ref[ERIS_REF], const uint8_t cid[URN_CID]);

#endif
