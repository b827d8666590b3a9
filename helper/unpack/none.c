/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (unpack): nars that are not compressed. */
#include "helper/unpack/unpack.h"

int
unpack_none(struct unpack *u)
{
	do {
		if (unpack_put(u, u->in + u->at, u->end - u->at) != 0)
			return -1;
		u->at = u->end;
		if (unpack_need(u, 1) != 0)
			return -1;
	} while (u->at < u->end);
	return 0;
}
