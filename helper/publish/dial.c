/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): names of hosts, looked up once, before the lock. */
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "helper/publish/dial.h"

int
dial_resolve(const char *what, const char *url, struct curl_slist **list, struct err *e)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct addrinfo *found = NULL;
	char host[256], entry[1024], *colon;
	const char *port = "80";
	size_t n;
	int rc;

	*list = NULL;
	if (strncmp(url, "http://", 7) != 0)
		return err_set(e, "%s %s: only http:// (it belongs on this machine, or behind a tunnel)",
		    what, url);
	n = strcspn(url + 7, "/");
	if (n >= sizeof host || n == 0)
		return err_set(e, "%s %s: there is no host in it, or its name is too long", what, url);
	memcpy(host, url + 7, n);
	host[n] = '\0';
	if (host[0] == '[')
		return 0; /* an address */
	colon = strchr(host, ':');
	if (colon != NULL) {
		*colon = '\0';
		port = colon + 1;
	}
	rc = getaddrinfo(host, port, &hints, &found);
	if (rc != 0)
		return err_set(e, "%s %s: %s", what, url, gai_strerror(rc));
	n = (size_t)snprintf(entry, sizeof entry, "%s:%s:", host, port);
	for (const struct addrinfo *a = found; a != NULL; a = a->ai_next) {
		char number[80];

		if (getnameinfo(a->ai_addr, a->ai_addrlen, number, sizeof number, NULL, 0,
		    NI_NUMERICHOST) == 0 &&
		    n + strlen(number) + 4 < sizeof entry)
			n += (size_t)sprintf(entry + n, "%s%s", entry[n - 1] == ':' ? "" : ",", number);
	}
	freeaddrinfo(found);
	*list = curl_slist_append(NULL, entry);
	return *list == NULL ? err_set(e, "out of memory") : 0;
}
