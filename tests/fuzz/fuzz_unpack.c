/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests (fuzz): the unpacker's decoders.  Byte 0 chooses the method, byte 1 how small the reads are. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "helper/unpack/unpack.h"

/* Small enough that a bomb is no slow input. */
#define SIZE (1u << 20)

struct input {
	const uint8_t *data;
	size_t left, piece;
	uint64_t written;
};

static ssize_t
input_read(void *ctx, uint8_t *buf, size_t size)
{
	struct input *in = ctx;
	size_t n = in->left < size ? in->left : size;

	if (n > in->piece)
		n = in->piece;
	memcpy(buf, in->data, n);
	in->data += n;
	in->left -= n;
	return (ssize_t)n;
}

static int
input_write(void *ctx, const uint8_t *buf, size_t len)
{
	struct input *in = ctx;

	/* Reads all of it, so that memory that was never written is noticed. */
	for (size_t i = 0; i < len; i++)
		in->written += 1 + (buf[i] & 0);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct unpack_limits limits = { SIZE, 20, 1u << 20 };
	struct input in = { 0 };
	const struct unpack_io io = { input_read, input_write, &in };
	struct unpack_result r;
	struct err e = { 0 };
	int rc;

	if (size < 2)
		return 0;
	in.data = data + 2;
	in.left = size - 2;
	in.piece = data[1] == 0 ? UNPACK_BUFFER : data[1];
	rc = unpack_run((enum nar_method)(METHOD_NONE + data[0] % 4), &limits, &io, &r, &e);
	/* The contract: never more than asked for, all input used and all output there when it says so. */
	if (in.written > SIZE || in.written != r.out || r.in > size - 2)
		abort();
	if (rc == 0 ? r.out != SIZE || in.left != 0 : e.text[0] == '\0')
		abort();
	return 0;
}
