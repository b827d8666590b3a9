/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): what all requests have in common. */
#include "helper/publish/client.h"

void
client_set(CURL *c, const char *url, struct curl_slist *resolve)
{
	curl_easy_setopt(c, CURLOPT_URL, url);
	curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http");
	curl_easy_setopt(c, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(c, CURLOPT_PROXY, "");
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_USERAGENT, "narlock-publish/" NARLOCK_VERSION);
	if (resolve != NULL)
		curl_easy_setopt(c, CURLOPT_RESOLVE, resolve);
}
