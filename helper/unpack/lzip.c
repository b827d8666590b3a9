/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (unpack): lzip (format: manual of lzip), one member after another, with lzlib.
 *
 * Each member is given to a decoder of its own, so that its header is seen here first: the dictionary that it
 * names would be allocated by the library unasked.  For this the input is used up only as far as the decoder
 * has really got, not as far as it has buffered. */
#include <stdint.h> /* lzlib.h needs it first */
#include <lzlib.h>
#include <string.h>

#include "helper/unpack/unpack.h"

#define HEADER 6 /* "LZIP", version 1, coded dictionary size */

/* The low five bits are the logarithm of a power of two, the high three take off that many sixteenths. */
static uint32_t
dictionary_size(uint8_t coded)
{
	uint32_t base = 1u << (coded & 0x1f);

	return base - (base / 16) * (coded >> 5);
}

static int
is_member(const struct unpack *u)
{
	return u->end - u->at >= 4 && memcmp(u->in + u->at, "LZIP", 4) == 0;
}

static int
check_header(struct unpack *u)
{
	const uint8_t *h = u->in + u->at;
	uint32_t size;

	if (u->end - u->at < HEADER)
		return unpack_cut(u);
	if (h[4] != 1)
		return err_set(u->e, "lzip: unknown version %u", h[4]);
	size = dictionary_size(h[5]);
	if ((h[5] & 0x1f) < 12 || (h[5] & 0x1f) > 29 || size < 4096)
		return err_set(u->e, "lzip: bad dictionary size");
	if (size > u->limits.dictionary)
		return err_set(u->e, "lzip: the dictionary of %u bytes is above the limit of %u", size,
		    u->limits.dictionary);
	return 0;
}

static int
decoder_failed(struct unpack *u, struct LZ_Decoder *d)
{
	switch (LZ_decompress_errno(d)) {
	case LZ_unexpected_eof:
		return unpack_cut(u);
	case LZ_mem_error:
		return err_set(u->e, "lzip: out of memory");
	default:
		return err_set(u->e, "lzip: %s", LZ_strerror(LZ_decompress_errno(d)));
	}
}

/* Give the decoder input from *FED bytes behind u->at on, as much as it takes. */
static int
feed(struct unpack *u, struct LZ_Decoder *d, size_t *fed)
{
	int room = LZ_decompress_write_size(d), took;
	size_t have;

	if (room <= 0)
		return 0;
	if (unpack_need(u, *fed + 1) != 0)
		return -1;
	have = u->end - u->at - *fed;
	if (have == 0)
		return LZ_decompress_finish(d) < 0 ? decoder_failed(u, d) : 0;
	took = LZ_decompress_write(d, u->in + u->at + *fed, have < (size_t)room ? (int)have : room);
	if (took < 0)
		return decoder_failed(u, d);
	*fed += (size_t)took;
	return 0;
}

static int
member(struct unpack *u, struct LZ_Decoder *d)
{
	unsigned long long before = 0;
	size_t fed = 0;

	for (;;) {
		unsigned long long now;
		int got;

		if (feed(u, d, &fed) != 0)
			return -1;
		got = LZ_decompress_read(d, u->out, UNPACK_BUFFER);
		if (got < 0)
			return decoder_failed(u, d);
		now = LZ_decompress_member_position(d);
		if (now < before || now - before > fed)
			return err_set(u->e, "lzip: the library lost its place");
		u->at += (size_t)(now - before);
		fed -= (size_t)(now - before);
		before = now;
		if (unpack_put(u, u->out, (size_t)got) != 0)
			return -1;
		if (LZ_decompress_member_finished(d) == 1)
			return 0;
		if (got == 0 && u->eof && u->at + fed == u->end && LZ_decompress_finished(d) == 1)
			return unpack_cut(u);
	}
}

static int
members(struct unpack *u, struct LZ_Decoder *d)
{
	do {
		if (check_header(u) != 0 || member(u, d) != 0 || unpack_need(u, HEADER) != 0)
			return -1;
		if (u->at == u->end)
			return 0;
		if (!is_member(u))
			return unpack_garbage(u);
	} while (LZ_decompress_reset(d) == 0);
	return decoder_failed(u, d);
}

int
unpack_lzip(struct unpack *u)
{
	struct LZ_Decoder *d;
	int rc;

	if (unpack_need(u, HEADER) != 0)
		return -1;
	if (!is_member(u))
		return err_set(u->e, "this is no lzip data");
	d = LZ_decompress_open();
	if (d == NULL || LZ_decompress_errno(d) != LZ_ok)
		rc = err_set(u->e, "lzip: out of memory");
	else
		rc = members(u, d);
	LZ_decompress_close(d);
	return rc;
}
