/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): URLs: split, join, show without secrets. */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "helper/fetch/url.h"

static int
is_scheme_char(char c)
{
	return isalnum((unsigned char)c) || c == '+' || c == '-' || c == '.';
}

size_t
url_scheme(const char *text)
{
	size_t n = 0;

	while (is_scheme_char(text[n]))
		n++;
	return n > 0 && isalpha((unsigned char)text[0]) && strncmp(text + n, "://", 3) == 0 ? n : 0;
}

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Undo percent encoding; what decodes to a control character could smuggle a header line. */
static int
decode(char *dst, size_t size, const char *src, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		int c = (unsigned char)src[i];

		if (c == '%') {
			int hi = i + 2 < len ? hex_value(src[i + 1]) : -1;
			int lo = i + 2 < len ? hex_value(src[i + 2]) : -1;

			if (hi < 0 || lo < 0)
				return -1;
			c = hi * 16 + lo;
			i += 2;
		}
		if (c < 0x20 || c == 0x7f || n + 1 >= size)
			return -1;
		dst[n++] = (char)c;
	}
	dst[n] = '\0';
	return 0;
}

static int
parse_user(struct url *u, const char *text, size_t len, struct err *e)
{
	const char *colon = memchr(text, ':', len);
	size_t user_len = colon != NULL ? (size_t)(colon - text) : len;

	/* Basic authentication joins the two by ':'. */
	if (decode(u->user, sizeof u->user, text, user_len) != 0 || strchr(u->user, ':') != NULL)
		return err_set(e, "the user name in the URL is too long or badly written");
	if (colon != NULL && decode(u->password, sizeof u->password, colon + 1, len - user_len - 1) != 0)
		return err_set(e, "the password in the URL is too long or badly written");
	return 0;
}

static int
parse_port(struct url *u, const char *text, size_t len, struct err *e)
{
	unsigned port = 0;

	if (len == 0) /* "http://host:/" means the default */
		return 0;
	for (size_t i = 0; i < len; i++) {
		if (len > 5 || !isdigit((unsigned char)text[i]))
			return err_set(e, "the URL has a bad port");
		port = port * 10 + (unsigned)(text[i] - '0');
	}
	if (port == 0 || port > 65535)
		return err_set(e, "the URL has a bad port");
	u->port = (uint16_t)port;
	return 0;
}

/* 127.1, 2130706433, 0x7f.1, 0177.0.0.01: libcurl, resolvers and proxies read as an address what ends in a number. */
static int
ends_in_number(const char *host)
{
	size_t n = strlen(host), start, digits;

	n -= host[n - 1] == '.'; /* the root's */
	for (start = n; start > 0 && host[start - 1] != '.'; start--)
		;
	digits = strspn(host + start, "0123456789");
	if (host[start] == '0' && host[start + 1] == 'x')
		digits = 2 + strspn(host + start + 2, "0123456789abcdef");
	return n > start && start + digits == n;
}

static int
parse_name(struct url *u, const char *text, size_t len, struct err *e)
{
	struct in_addr v4;

	if (len == 0 || len > LIMIT_HOST)
		return err_set(e, "the URL has no host or one that is too long");
	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if (!isalnum((unsigned char)c) && c != '.' && c != '-' && c != '_')
			return err_set(e, "the host in the URL has a character that no host name has");
		u->host[i] = (char)tolower((unsigned char)c);
	}
	u->host[len] = '\0';
	if (u->host[0] == '-' || u->host[0] == '.')
		return err_set(e, "the host in the URL begins badly");
	if (inet_pton(AF_INET, u->host, &v4) == 1)
		u->numeric = 4;
	else if (ends_in_number(u->host))
		return err_set(e, "the address in the URL is not in the form a.b.c.d");
	return 0;
}

static int
parse_v6(struct url *u, const char *text, size_t len, struct err *e)
{
	struct in6_addr v6;

	if (len == 0 || len > 45)
		return err_set(e, "the URL has a bad IPv6 address");
	memcpy(u->host, text, len);
	u->host[len] = '\0';
	if (inet_pton(AF_INET6, u->host, &v6) != 1)
		return err_set(e, "the URL has a bad IPv6 address");
	u->numeric = 6;
	return 0;
}

static int
parse_host(struct url *u, const char *text, size_t len, struct err *e)
{
	if (len > 0 && text[0] == '[') {
		const char *end = memchr(text, ']', len);
		size_t n;

		if (end == NULL)
			return err_set(e, "the URL has a bad IPv6 address");
		n = (size_t)(end - text);
		if (parse_v6(u, text + 1, n - 1, e) != 0)
			return -1;
		if (n + 1 == len)
			return 0;
		return end[1] == ':' ? parse_port(u, end + 2, len - n - 2, e) : err_set(e, "the URL has a bad port");
	}
	const char *colon = memchr(text, ':', len);

	if (colon == NULL)
		return parse_name(u, text, len, e);
	if (parse_name(u, text, (size_t)(colon - text), e) != 0)
		return -1;
	return parse_port(u, colon + 1, len - (size_t)(colon - text) - 1, e);
}

static int
check_text(const char *text, struct err *e)
{
	size_t n = strlen(text);

	if (n > LIMIT_URL)
		return err_set(e, "a URL of %zu bytes", n);
	for (size_t i = 0; i < n; i++)
		if (text[i] <= ' ' || text[i] > '~' || strchr("\"<>\\^`{|}", text[i]) != NULL)
			return err_set(e, "the URL has a character that no URL has");
	return 0;
}

/* Path and query in PATH; the fragment is for browsers. */
static int
set_path(struct url *u, const char *dir, size_t dir_len, const char *rest, struct err *e)
{
	size_t n = strcspn(rest, "#");
	size_t slash = dir_len == 0 && rest[0] != '/';

	if (dir_len + slash + n > LIMIT_URL)
		return err_set(e, "a URL that is too long");
	if (dir != u->path)
		memcpy(u->path, dir, dir_len);
	if (slash)
		u->path[dir_len] = '/';
	memcpy(u->path + dir_len + slash, rest, n);
	u->path[dir_len + slash + n] = '\0';
	return 0;
}

int
url_parse(struct url *u, const char *text, struct err *e)
{
	size_t scheme = url_scheme(text), len;
	const char *p = text + scheme + 3, *at = NULL;

	memset(u, 0, sizeof *u);
	if (check_text(text, e) != 0)
		return -1;
	if (scheme == 4 && strncasecmp(text, "http", 4) == 0)
		u->port = 80;
	else if (scheme == 5 && strncasecmp(text, "https", 5) == 0)
		u->https = 1, u->port = 443;
	else
		return err_set(e, "not an http or https URL");
	len = strcspn(p, "/?#");
	for (size_t i = 0; i < len; i++)
		if (p[i] == '@')
			at = p + i;
	if (at != NULL) {
		if (parse_user(u, p, (size_t)(at - p), e) != 0)
			return -1;
		len -= (size_t)(at + 1 - p);
		p = at + 1;
	}
	if (parse_host(u, p, len, e) != 0)
		return -1;
	return set_path(u, "", 0, p + len, e);
}

int
url_same_origin(const struct url *a, const struct url *b)
{
	return a->https == b->https && a->port == b->port && strcmp(a->host, b->host) == 0;
}

/* Secrets belong to the origin they were given for. */
static void
hand_secrets(struct url *u, const struct url *from)
{
	if (!url_same_origin(u, from))
		return;
	memcpy(u->user, from->user, sizeof u->user);
	memcpy(u->password, from->password, sizeof u->password);
}

int
url_below(struct url *u, const struct url *base, const char *text, struct err *e)
{
	size_t dir;

	if (check_text(text, e) != 0)
		return -1;
	if (url_scheme(text) > 0) {
		if (url_parse(u, text, e) != 0)
			return -1;
		if (u->user[0] == '\0')
			hand_secrets(u, base);
		u->untrusted = base->untrusted;
		return 0;
	}
	*u = *base;
	dir = strcspn(u->path, "?");
	while (dir > 0 && u->path[dir - 1] == '/')
		dir--;
	text += strspn(text, "/");
	if (dir + 1 + strlen(text) > LIMIT_URL)
		return err_set(e, "a URL that is too long");
	u->path[dir] = '/';
	return set_path(u, u->path, dir + 1, text, e);
}

/* Take "." and ".." segments out of the path (RFC 3986, 5.2.4); the query is left alone. */
static void
remove_dots(char *path)
{
	size_t end = strcspn(path, "?"), in = 0, out = 0;

	while (in < end) {
		size_t seg = 1 + strcspn(path + in + 1, "/?"); /* '/' and the segment */
		int last = in + seg >= end;

		if (seg == 2 && path[in + 1] == '.') {
			if (last)
				path[out++] = '/';
		} else if (seg == 3 && path[in + 1] == '.' && path[in + 2] == '.') {
			while (out > 0 && path[--out] != '/')
				;
			if (last)
				path[out++] = '/';
		} else {
			memmove(path + out, path + in, seg);
			out += seg;
		}
		in += seg;
	}
	memmove(path + out, path + end, strlen(path + end) + 1);
}

static int
redirect_relative(struct url *u, const struct url *from, const char *location, struct err *e)
{
	size_t dir = strcspn(from->path, "?");

	*u = *from;
	if (location[0] == '/')
		dir = 0;
	else if (location[0] != '?' && location[0] != '#' && location[0] != '\0')
		while (dir > 0 && from->path[dir - 1] != '/')
			dir--;
	return set_path(u, u->path, dir, location, e);
}

int
url_redirect(struct url *u, const struct url *from, const char *location, struct err *e)
{
	char text[LIMIT_URL + 8];

	if (check_text(location, e) != 0)
		return -1;
	if (strncmp(location, "//", 2) == 0 || url_scheme(location) > 0) {
		(void)snprintf(text, sizeof text, "%s%s",
		    location[0] != '/' ? "" : from->https ? "https:" : "http:", location);
		if (url_parse(u, text, e) != 0)
			return -1;
		u->user[0] = u->password[0] = '\0';
		hand_secrets(u, from);
		u->untrusted = from->untrusted;
	} else if (redirect_relative(u, from, location, e) != 0) {
		return -1;
	}
	remove_dots(u->path);
	return 0;
}

static int
default_port(const struct url *u)
{
	return u->port == (u->https ? 443 : 80);
}

static void
authority(const struct url *u, char *buf, size_t size)
{
	const char *open = u->numeric == 6 ? "[" : "", *close = u->numeric == 6 ? "]" : "";

	if (default_port(u))
		(void)snprintf(buf, size, "%s%s%s", open, u->host, close);
	else
		(void)snprintf(buf, size, "%s%s%s:%u", open, u->host, close, u->port);
}

void
url_text(const struct url *u, char *buf)
{
	char where[LIMIT_HOST + 16];

	authority(u, where, sizeof where);
	(void)snprintf(buf, URL_TEXT, "%s://%s%s", u->https ? "https" : "http", where, u->path);
}

void
url_show(const struct url *u, char *buf, size_t size)
{
	char where[LIMIT_HOST + 16];

	authority(u, where, sizeof where);
	(void)snprintf(buf, size, "%s://%s%.*s", u->https ? "https" : "http", where,
	    (int)strcspn(u->path, "?"), u->path);
}

void
url_source(const struct url *u, char *buf, size_t size)
{
	char where[LIMIT_HOST + 16];

	authority(u, where, sizeof where);
	(void)snprintf(buf, size, "%.*s", (int)size - 1, where);
}
