/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (ipfs): the few items of DAG-CBOR that a CAR header and a manifest are made of. */
#include <string.h>

#include "helper/ipfs/cbor.h"

int
cbor_head(struct cbor *c, enum cbor_type type, uint64_t *value)
{
	unsigned extra;
	size_t n;

	if (c->at >= c->end || *c->at >> 5 != (int)type)
		return -1;
	extra = *c->at & 31;
	if (extra < 24) {
		*value = extra;
		c->at++;
		return 0;
	}
	if (extra > 27) /* reserved, indefinite */
		return -1;
	n = (size_t)1 << (extra - 24);
	if ((size_t)(c->end - c->at) < 1 + n)
		return -1;
	*value = 0;
	for (size_t i = 1; i <= n; i++)
		*value = *value << 8 | c->at[i];
	/* It would have fitted into less. */
	if (n == 1 ? *value < 24 : *value >> (n * 4) == 0)
		return -1;
	c->at += 1 + n;
	return 0;
}

int
cbor_bytes(struct cbor *c, enum cbor_type type, const uint8_t **data, size_t *len)
{
	uint64_t n;

	if (cbor_head(c, type, &n) != 0 || n > (uint64_t)(c->end - c->at))
		return -1;
	*data = c->at;
	*len = (size_t)n;
	c->at += n;
	return 0;
}

int
cbor_key(struct cbor *c, const char *key)
{
	const uint8_t *text;
	size_t len;

	if (cbor_bytes(c, CBOR_TEXT, &text, &len) != 0 || len != strlen(key) || memcmp(text, key, len) != 0)
		return -1;
	return 0;
}

int
cbor_link(struct cbor *c, const uint8_t **cid, size_t *len)
{
	uint64_t tag;

	if (cbor_head(c, CBOR_TAG, &tag) != 0 || tag != CBOR_LINK || cbor_bytes(c, CBOR_BYTES, cid, len) != 0 ||
	    *len < 2 || (*cid)[0] != 0)
		return -1;
	++*cid;
	--*len;
	return 0;
}

size_t
cbor_put(uint8_t *to, enum cbor_type type, uint64_t value)
{
	unsigned n = value < 24 ? 0 : value <= UINT8_MAX ? 1 : value <= UINT16_MAX ? 2 : value <= UINT32_MAX ? 4 : 8;
	uint8_t major = (uint8_t)((unsigned)type << 5);

	if (n == 0) {
		to[0] = (uint8_t)(major | value);
		return 1;
	}
	to[0] = (uint8_t)(major | (n == 1 ? 24 : n == 2 ? 25 : n == 4 ? 26 : 27));
	for (unsigned i = n; i > 0; i--, value >>= 8)
		to[i] = (uint8_t)value;
	return 1 + n;
}

size_t
cbor_put_key(uint8_t *to, const char *key)
{
	size_t len = strlen(key), n = cbor_put(to, CBOR_TEXT, len);

	memcpy(to + n, key, len);
	return n + len;
}

size_t
cbor_put_link(uint8_t *to, const uint8_t *cid, size_t len)
{
	size_t n = cbor_put(to, CBOR_TAG, CBOR_LINK);

	n += cbor_put(to + n, CBOR_BYTES, len + 1);
	to[n++] = 0;
	memcpy(to + n, cid, len);
	return n + len;
}
