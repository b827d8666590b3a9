/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): URLs: split, join, show without secrets. */
#ifndef NARLOCK_FETCH_URL_H
#define NARLOCK_FETCH_URL_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "ipc/limits.h"

/* A user name or password in a URL, decoded. */
#define URL_SECRET 256

/* An http or https URL, taken apart.  libcurl is only ever given what url_text() builds from these fields,
 * so the origin that was checked is the origin that is asked. */
struct url {
	uint8_t https;
	uint8_t untrusted;          /* an unprivileged user has named it, or what led here: see guard.h */
	uint8_t numeric;            /* the host is an address: 4, 6, or 0 for a name */
	uint16_t port;              /* never 0 */
	char host[LIMIT_HOST + 1];  /* lower case, without the brackets of an IPv6 address */
	char user[URL_SECRET];      /* percent-decoded; "" when there is none */
	char password[URL_SECRET];
	char path[LIMIT_URL + 1];   /* with the query, without the fragment; begins with '/' */
};

/* Room for url_text() and url_show(): scheme, brackets, port and the two longest fields. */
#define URL_TEXT (LIMIT_HOST + LIMIT_URL + 32)

/* url_parse(u, text, e): split an absolute http(s) URL by RFC 3986, more strictly: printable ASCII only.
 * The reason never repeats the text, which may hold a password.  0 or -1. */
int url_parse(struct url *u, const char *text, struct err *e);

/* url_scheme(text): the length of the scheme of an absolute URL ("http" of "http://..."), else 0. */
size_t url_scheme(const char *text);

/* url_below(u, base, text, e): where a narinfo's URL field leads: an absolute URL as it is (untrusted when BASE is),
 * anything else appended to the server's URL BASE with one '/' between, as stock Guix does.  User and password of BASE
 * go along to its own origin only.  0 or -1. */
int url_below(struct url *u, const struct url *base, const char *text, struct err *e);

/* url_redirect(u, from, location, e): where a Location header leads (RFC 3986, section 5).  User and
 * password of FROM go along to the same origin only, those of LOCATION are ignored.  0 or -1. */
int url_redirect(struct url *u, const struct url *from, const char *location, struct err *e);

/* url_same_origin(a, b): same scheme, host and port. */
int url_same_origin(const struct url *a, const struct url *b);

/* url_text(u, buf): the URL without user and password, for libcurl.  BUF has URL_TEXT bytes. */
void url_text(const struct url *u, char *buf);

/* url_show(u, buf, size): for people: no user, no password, no query; cut to fit. */
void url_show(const struct url *u, char *buf, size_t size);

/* url_source(u, buf, size): the host, and the port if it is not the scheme's own; cut to fit. */
void url_source(const struct url *u, char *buf, size_t size);

#endif
