/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (unpack): buffers, counting and the choice of the method. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "helper/unpack/unpack.h"

int
unpack_need(struct unpack *u, size_t n)
{
	while (u->end - u->at < n && !u->eof) {
		ssize_t got;

		/* Room enough for N, and for reads that are worth a system call. */
		if (u->at == u->end || UNPACK_BUFFER - u->end < UNPACK_BUFFER / 4) {
			memmove(u->in, u->in + u->at, u->end - u->at);
			u->end -= u->at;
			u->at = 0;
		}
		got = u->io->read(u->io->ctx, u->in + u->end, UNPACK_BUFFER - u->end);
		if (got < 0)
			return err_sys(u->e, errno, "cannot read the compressed bytes");
		u->eof = got == 0;
		u->end += (size_t)got;
		u->r->in += (uint64_t)got;
	}
	return 0;
}

int
unpack_put(struct unpack *u, const uint8_t *data, size_t n)
{
	uint64_t room = u->limits.size - u->r->out;
	size_t fits = n <= room ? n : (size_t)room;

	if (fits > 0 && u->io->write(u->io->ctx, data, fits) != 0) {
		u->r->sink_gone = errno == EPIPE;
		return err_sys(u->e, errno, "cannot write the nar");
	}
	u->r->out += fits;
	if (fits < n)
		return err_set(u->e, "too much output: the nar has %llu bytes",
		    (unsigned long long)u->limits.size);
	return 0;
}

int
unpack_cut(struct unpack *u)
{
	return err_set(u->e, "truncated: the compressed data ends after %llu bytes",
	    (unsigned long long)u->r->in);
}

int
unpack_garbage(struct unpack *u)
{
	return err_set(u->e, "there are bytes after the end of the compressed data");
}

static int
run(struct unpack *u, enum nar_method method)
{
	if (unpack_need(u, 1) != 0)
		return -1;
	if (u->at == u->end)
		return err_set(u->e, "there is no data at all");
	switch (method) {
	case METHOD_NONE:
		return unpack_none(u);
	case METHOD_GZIP:
		return unpack_gzip(u);
	case METHOD_LZIP:
		return unpack_lzip(u);
	case METHOD_ZSTD:
		return unpack_zstd(u);
	}
	return err_set(u->e, "unknown compression %d", (int)method);
}

int
unpack_run(enum nar_method method, const struct unpack_limits *limits, const struct unpack_io *io,
    struct unpack_result *r, struct err *e)
{
	struct unpack u = { .io = io, .limits = *limits, .r = r, .e = e };
	int rc;

	memset(r, 0, sizeof(*r));
	u.in = malloc(UNPACK_BUFFER);
	u.out = malloc(UNPACK_BUFFER);
	if (u.in == NULL || u.out == NULL)
		rc = err_set(e, "out of memory");
	else
		rc = run(&u, method);
	if (rc == 0 && r->out < limits->size)
		rc = err_set(e, "truncated: the data unpacks to %llu bytes, the nar has %llu",
		    (unsigned long long)r->out, (unsigned long long)limits->size);
	free(u.in);
	free(u.out);
	return rc;
}
