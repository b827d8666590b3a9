/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests (fuzz): CARs in pieces of any size.  Blocks lie within what was read, and in what form a CAR comes
 * does not change what is in it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "helper/ipfs/car.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads it all; what came out as a number, or -1. */
static int64_t
read_car(const uint8_t *data, size_t size, size_t step)
{
	struct car_options o = { .block_max = 1000, .bytes_max = 100000, .unasked_max = 5 };
	struct car *c = car_new(&o, NULL);
	struct car_block b;
	struct err e;
	int64_t sum = 1;
	int rc = 0;

	if (c == NULL)
		abort();
	while (size > 0 && rc >= 0) {
		size_t piece = step < size ? step : size, rest = piece;
		const uint8_t *at = data;

		while ((rc = car_feed(c, &at, &rest, &b, &e)) == 1) {
			if (b.len > o.block_max || b.cid_len > CAR_CID || (b.kind == CAR_OTHER) != (b.hash == NULL))
				abort();
			for (size_t i = 0; i < b.len; i++)
				sum = (sum * 31 + b.data[i]) & 0xffffffff;
			for (size_t i = 0; b.hash != NULL && i < ERIS_REF; i++)
				sum = (sum * 31 + b.hash[i]) & 0xffffffff;
		}
		data += piece;
		size -= piece;
	}
	if (rc < 0 || car_end(c, &e) != 0)
		sum = -1;
	car_free(c);
	return sum;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int64_t whole = read_car(data, size, size);

	if (read_car(data, size, 1) != whole || read_car(data, size, 13) != whole)
		abort();
	return 0;
}
