/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): the CA certificates, read before the lock, parsed when the first https server is asked.
 *
 * libcurl would parse them anew for every connection (CURLOPT_CAINFO_BLOB): 10 ms and some megabytes each.  All
 * connections share one X509_STORE instead. */
#ifndef NARLOCK_FETCH_CA_H
#define NARLOCK_FETCH_CA_H

#include <curl/curl.h>
#include <openssl/x509.h>
#include <stddef.h>

#include "ipc/err.h"

struct ca {
	char *pem;
	size_t len;
	X509_STORE *store;
};

/* ca_read(ca, path, e): the file into memory; at most LIMIT_CA_FILE bytes.  0 or -1 (CA is empty then). */
int ca_read(struct ca *ca, const char *path, struct err *e);

/* ca_parse(ca, e): make the store if it is not made yet.  0, or -1 when there is not one certificate. */
int ca_parse(struct ca *ca, struct err *e);

/* ca_use(easy, ctx, ca): CURLOPT_SSL_CTX_FUNCTION that hands the store to one connection. */
CURLcode ca_use(CURL *easy, void *ctx, void *ca);

void ca_free(struct ca *ca);

#endif
