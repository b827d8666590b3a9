/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch, heal): which addresses and names belong to a network that is not everybody's. */
#ifndef NARLOCK_FETCH_PRIVATE_H
#define NARLOCK_FETCH_PRIVATE_H

/* private_address(text): 1 for an IPv4 or IPv6 address (without brackets) that the Internet does not
 * route: this machine's own, RFC 1918, RFC 6598, RFC 4193 (ULA), link- and site-local, multicast,
 * reserved; also within IPv4-mapped and NAT64 addresses; 6to4 and Teredo
 * altogether; a metadata service at a public address. 0 for all others, and for what is no address. */
int private_address(const char *text);

/* private_list(text): 1 if any address of a list is private: "[V6],V4,...", as hosts.h has it. */
int private_list(const char *text);

/* private_name(host): 1 for names that only a local network knows, and for private addresses. */
int private_name(const char *host);

#endif
