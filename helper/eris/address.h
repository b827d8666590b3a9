/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris, publish): where a server of ours listens. */
#ifndef NARLOCK_ERIS_ADDRESS_H
#define NARLOCK_ERIS_ADDRESS_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "ipc/err.h"

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/* address_parse(a, len, text, e): ADDR:PORT or [ADDR]:PORT, numbers only.  0, or -1 with the reason. */
int address_parse(union address *a, socklen_t *len, const char *text, struct err *e);

#endif
