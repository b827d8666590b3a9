/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (ipfs): nodes of a file of IPFS. */
#include <string.h>

#include "helper/ipfs/unixfs.h"

/* Protocol buffers: the number of a field, and how its value is written. */
#define VARINT(field) ((field) << 3)
#define BYTES(field) ((field) << 3 | 2)
/* DAG-PB: a node's links and data; what a link has. */
#define NODE_LINK BYTES(2)
#define NODE_DATA BYTES(1)
#define LINK_HASH BYTES(1)
#define LINK_NAME BYTES(2)
#define LINK_SIZE VARINT(3)
/* UnixFS: the data of a node. */
#define DATA_TYPE VARINT(1)
#define DATA_FILE_SIZE VARINT(3)
#define DATA_PART_SIZE VARINT(4)
#define TYPE_FILE 2

static size_t
put(uint8_t *to, uint8_t field, uint64_t value)
{
	size_t n = 0;

	to[n++] = field;
	for (; value >= 0x80; value >>= 7)
		to[n++] = (uint8_t)(value | 0x80);
	to[n++] = (uint8_t)value;
	return n;
}

static size_t
put_link(uint8_t *to, const struct unixfs_link *link, enum car_kind kind)
{
	uint8_t body[CAR_OURS + 24];
	size_t n = put(body, LINK_HASH, CAR_OURS), head;

	car_cid(body + n, kind, link->hash);
	n += CAR_OURS;
	n += put(body + n, LINK_NAME, 0);
	n += put(body + n, LINK_SIZE, link->all);
	head = put(to, NODE_LINK, n);
	memcpy(to + head, body, n);
	return head + n;
}

size_t
unixfs_put(uint8_t to[UNIXFS_NODE], const struct unixfs_link *links, unsigned n, enum car_kind kind)
{
	uint8_t data[24 + UNIXFS_LINKS * 11];
	uint64_t size = 0;
	size_t at = 0, len;

	for (unsigned i = 0; i < n; i++) {
		at += put_link(to + at, &links[i], kind);
		size += links[i].size;
	}
	len = put(data, DATA_TYPE, TYPE_FILE);
	len += put(data + len, DATA_FILE_SIZE, size);
	for (unsigned i = 0; i < n; i++)
		len += put(data + len, DATA_PART_SIZE, links[i].size);
	at += put(to + at, NODE_DATA, len);
	memcpy(to + at, data, len);
	return at + len;
}
