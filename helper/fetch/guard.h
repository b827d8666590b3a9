/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): where URLs that an unprivileged user has named may lead: `untrusted-urls' and
 * `untrusted-allow' of narlock.conf.
 *
 * Whoever may talk to guix-daemon can aim the fetcher at any URL, so it must not become his hands in
 * this machine's network.  Such a server's url has `untrusted' set (url.h), and all that is made from
 * it, redirects and absolute URLs of its narinfos too.  A transfer to one is checked three times: its
 * host and all addresses of it before it starts, the address of each socket before it is connected, and
 * that of the connection (perhaps an old one) before the request is sent.  Where a proxy makes the
 * connection only the name can be checked. */
#ifndef NARLOCK_FETCH_GUARD_H
#define NARLOCK_FETCH_GUARD_H

#include <stdint.h>
#include <sys/socket.h>

#include "helper/fetch/url.h"
#include "ipc/err.h"

#define GUARD_RULES 32
/* Hosts about which something was told to the broker; more are not told.  With one lie of each source of blocks
 * (BLOCKCONF_SOURCES) these are LIMIT_LIARS. */
#define GUARD_TOLD 48

enum guard_mode { GUARD_PUBLIC, GUARD_OFF, GUARD_ALLOW };

struct guard_rule {
	char host[LIMIT_HOST + 1]; /* a name, or "" for addresses */
	uint8_t net[16];           /* IPv4 as an IPv4-mapped address */
	uint8_t bits;              /* of NET, from 0 to 128 */
	uint16_t port;             /* 0: any */
};

struct guard {
	enum guard_mode mode;
	struct guard_rule rules[GUARD_RULES];
	size_t nrules;
	char told[GUARD_TOLD][LIMIT_SOURCE + 1];
	size_t ntold;
};

/* guard_set(g, key, value, e): a line of narlock.conf: 1, 0 when the key is another, or -1 with what is
 * wrong; then nothing untrusted is asked at all. */
int guard_set(struct guard *g, const char *key, const char *value, struct err *e);

/* guard_name(g, u, proxied, e): may U's host be asked, as far as its name tells (an address,
 * "localhost"; with a proxy also names that only a local network knows)?  0, or -1 with the reason. */
int guard_name(const struct guard *g, const struct url *u, int proxied, struct err *e);

/* guard_list(g, u, addresses, e): may U be asked at each of these ("[V6],V4,...")?  0, or -1 with the
 * reason. */
int guard_list(const struct guard *g, const struct url *u, const char *addresses, struct err *e);

/* guard_address(g, u, text, e): the same for one address, without brackets. */
int guard_address(const struct guard *g, const struct url *u, const char *text, struct err *e);

/* guard_socket(g, u, a, e): the same for the address of a socket. */
int guard_socket(const struct guard *g, const struct url *u, const struct sockaddr *a, struct err *e);

/* guard_new(g, what): 1 the first time that WHAT is asked about, as long as there is room. */
int guard_new(struct guard *g, const char *what);

#endif
