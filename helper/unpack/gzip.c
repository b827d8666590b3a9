/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (unpack): gzip (RFC 1952), one member after another, with zlib. */
#include <string.h>
#include <zlib.h>

#include "helper/unpack/unpack.h"

/* The two bytes that a member begins with. */
static int
is_member(const struct unpack *u)
{
	return u->end - u->at >= 2 && u->in[u->at] == 0x1f && u->in[u->at + 1] == 0x8b;
}

static int
step_failed(struct unpack *u, int rc, const z_stream *z)
{
	if (rc == Z_BUF_ERROR)
		return unpack_cut(u);
	if (rc == Z_NEED_DICT)
		return err_set(u->e, "gzip: needs a dictionary");
	return err_set(u->e, "gzip: %s", z->msg != NULL ? z->msg : zError(rc));
}

/* One member, checksum and length included. */
static int
member(struct unpack *u, z_stream *z)
{
	int rc;

	do {
		if (unpack_need(u, 1) != 0)
			return -1;
		z->next_in = u->in + u->at;
		z->avail_in = (uInt)(u->end - u->at);
		z->next_out = u->out;
		z->avail_out = UNPACK_BUFFER;
		rc = inflate(z, Z_NO_FLUSH);
		u->at = u->end - z->avail_in;
		/* No progress is possible only when the input is used up. */
		if (rc != Z_OK && rc != Z_STREAM_END)
			return step_failed(u, rc, z);
		if (unpack_put(u, u->out, UNPACK_BUFFER - z->avail_out) != 0)
			return -1;
	} while (rc != Z_STREAM_END);
	return 0;
}

static int
members(struct unpack *u, z_stream *z)
{
	do {
		if (member(u, z) != 0 || unpack_need(u, 2) != 0)
			return -1;
		if (u->at == u->end)
			return 0;
		if (!is_member(u))
			return unpack_garbage(u);
	} while (inflateReset(z) == Z_OK);
	return err_set(u->e, "gzip: cannot go on to the next member");
}

int
unpack_gzip(struct unpack *u)
{
	z_stream z;
	int rc;

	if (unpack_need(u, 2) != 0)
		return -1;
	if (!is_member(u))
		return err_set(u->e, "this is no gzip data");
	memset(&z, 0, sizeof(z));
	if (inflateInit2(&z, 15 + 16) != Z_OK) /* the largest window, and the gzip format only */
		return err_set(u->e, "gzip: out of memory");
	rc = members(u, &z);
	inflateEnd(&z);
	return rc;
}
