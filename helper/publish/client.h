/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): what all requests of this program have in common, to the upstream server and to IPFS
 * daemons. */
#ifndef NARLOCK_PUBLISH_CLIENT_H
#define NARLOCK_PUBLISH_CLIENT_H

#include <curl/curl.h>

/* client_set(c, url, resolve): HTTP/1.1 and nothing else, to URL itself and by no proxy; RESOLVE: addresses of
 * its host, found before the lock, or NULL. */
void client_set(CURL *c, const char *url, struct curl_slist *resolve);

#endif
