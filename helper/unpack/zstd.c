/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (unpack): zstd (RFC 8878), one frame after another, with libzstd. */
#include <string.h>
#include <zstd.h>

#include "helper/unpack/unpack.h"

/* The longest frame header: magic, descriptor, window, dictionary id, content size. */
#define HEADER 18

static uint64_t
le(const uint8_t *p, unsigned n)
{
	uint64_t v = 0;

	while (n-- > 0)
		v = v << 8 | p[n];
	return v;
}

static int
is_frame(const struct unpack *u)
{
	uint64_t magic = u->end - u->at < 4 ? 0 : le(u->in + u->at, 4);

	return magic == 0xfd2fb528 || (magic & 0xfffffff0) == 0x184d2a50; /* the second: to be skipped */
}

/* The window that the frame header at u->at asks for, in bytes (RFC 8878, 3.1.1.1); 0 if it is incomplete or
 * has none, which is for the library to complain about. */
static uint64_t
window_size(const struct unpack *u)
{
	static const uint8_t id_bytes[] = { 0, 1, 2, 4 }, size_bytes[] = { 1, 2, 4, 8 };
	const uint8_t *h = u->in + u->at;
	size_t have = u->end - u->at, at;
	uint64_t base;

	if (have < 6 || le(h, 4) != 0xfd2fb528)
		return 0;
	if ((h[4] & 0x20) == 0) { /* a window descriptor */
		base = 1ull << (10 + (h[5] >> 3));
		return base + base / 8 * (h[5] & 7);
	}
	/* A single segment: the window is the content. */
	at = 5u + id_bytes[h[4] & 3];
	if (have < at + size_bytes[h[4] >> 6])
		return 0;
	return le(h + at, size_bytes[h[4] >> 6]) + (h[4] >> 6 == 1 ? 256 : 0);
}

static int
check_window(struct unpack *u)
{
	uint64_t window = window_size(u), limit = 1ull << u->limits.window_log;

	if (window > limit)
		return err_set(u->e, "zstd: the window of %llu bytes is above the limit of %llu",
		    (unsigned long long)window, (unsigned long long)limit);
	return 0;
}

static int
frame(struct unpack *u, ZSTD_DCtx *d)
{
	size_t rc = 1;

	while (rc != 0) {
		ZSTD_inBuffer in;
		ZSTD_outBuffer out = { u->out, UNPACK_BUFFER, 0 };

		if (unpack_need(u, 1) != 0)
			return -1;
		in = (ZSTD_inBuffer){ u->in + u->at, u->end - u->at, 0 };
		rc = ZSTD_decompressStream(d, &out, &in);
		if (ZSTD_isError(rc))
			return err_set(u->e, "zstd: %s", ZSTD_getErrorName(rc));
		u->at += in.pos;
		if (unpack_put(u, u->out, out.pos) != 0)
			return -1;
		if (rc != 0 && u->eof && u->at == u->end && out.pos < out.size)
			return unpack_cut(u);
	}
	return 0;
}

static int
frames(struct unpack *u, ZSTD_DCtx *d)
{
	for (;;) {
		if (check_window(u) != 0 || frame(u, d) != 0 || unpack_need(u, HEADER) != 0)
			return -1;
		if (u->at == u->end)
			return 0;
		if (!is_frame(u))
			return unpack_garbage(u);
	}
}

int
unpack_zstd(struct unpack *u)
{
	ZSTD_DCtx *d;
	int rc;

	if (unpack_need(u, HEADER) != 0)
		return -1;
	if (!is_frame(u))
		return err_set(u->e, "this is no zstd data");
	d = ZSTD_createDCtx();
	if (d == NULL)
		return err_set(u->e, "zstd: out of memory");
	if (ZSTD_isError(ZSTD_DCtx_setParameter(d, ZSTD_d_windowLogMax, (int)u->limits.window_log)))
		rc = err_set(u->e, "zstd: bad window limit %u", u->limits.window_log);
	else
		rc = frames(u, d);
	ZSTD_freeDCtx(d);
	return rc;
}
