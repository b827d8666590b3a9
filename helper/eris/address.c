/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris, publish): where a server of ours listens. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "helper/eris/address.h"

int
address_parse(union address *a, socklen_t *len, const char *text, struct err *e)
{
	const char *colon = strrchr(text, ':');
	char host[INET6_ADDRSTRLEN + 2];
	unsigned long port;
	size_t n;
	char *end;

	if (colon == NULL || colon[1] < '0' || colon[1] > '9')
		return err_set(e, "%s is not ADDR:PORT", text);
	port = strtoul(colon + 1, &end, 10);
	n = (size_t)(colon - text);
	if (*end != '\0' || port > 65535 || n >= sizeof host || n == 0)
		return err_set(e, "%s is not ADDR:PORT", text);
	memcpy(host, text, n);
	host[n] = '\0';
	memset(a, 0, sizeof *a);
	if (host[0] == '[' && host[n - 1] == ']') {
		host[n - 1] = '\0';
		a->in6.sin6_family = AF_INET6;
		a->in6.sin6_port = htons((uint16_t)port);
		*len = sizeof a->in6;
		if (inet_pton(AF_INET6, host + 1, &a->in6.sin6_addr) == 1)
			return 0;
	} else {
		a->in.sin_family = AF_INET;
		a->in.sin_port = htons((uint16_t)port);
		*len = sizeof a->in;
		if (inet_pton(AF_INET, host, &a->in.sin_addr) == 1)
			return 0;
	}
	return err_set(e, "%s is not ADDR:PORT (a name is not looked up; IPv6 stands in brackets)", text);
}
