/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): names of hosts, looked up once, before the lock. */
#ifndef NARLOCK_PUBLISH_DIAL_H
#define NARLOCK_PUBLISH_DIAL_H

#include <curl/curl.h>

#include "ipc/err.h"

/* dial_resolve(what, url, list, e): the addresses of the host of URL (http://HOST[:PORT]...) for
 * CURLOPT_RESOLVE into *LIST; NULL if it is an address in brackets.  WHAT it is for stands in errors. */
int dial_resolve(const char *what, const char *url, struct curl_slist **list, struct err *e);

#endif
