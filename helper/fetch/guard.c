/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): where URLs that an unprivileged user has named may lead. */
#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helper/fetch/guard.h"
#include "helper/fetch/hosts.h"
#include "helper/fetch/private.h"

#define KEY "untrusted-"

/* --- The lines of narlock.conf ----------------------------------------------------------------------- */

/* TEXT as 16 bytes; the number of bits of an address of its family, or 0 when it is none. */
static unsigned
read_address(uint8_t out[16], const char *text)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (inet_pton(AF_INET6, text, out) == 1)
		return 128;
	memcpy(out, mapped, sizeof mapped);
	return inet_pton(AF_INET, text, out + 12) == 1 ? 32 : 0;
}

static int
read_number(const char *text, unsigned min, unsigned max, unsigned *value)
{
	size_t n = strspn(text, "0123456789");

	if (n == 0 || n > 5 || text[n] != '\0')
		return -1;
	*value = (unsigned)strtoul(text, NULL, 10);
	return *value < min || *value > max ? -1 : 0;
}

/* HOST, HOST:PORT, V4, V4:PORT, V6, [V6], [V6]:PORT, or ADDRESS/BITS. */
static int
read_rule(struct guard_rule *r, const char *value, struct err *e)
{
	char text[LIMIT_HOST + 16], *host = text, *port = NULL, *slash;
	unsigned whole, bits, number = 0;

	if (strlen(value) >= sizeof text || value[0] == '\0')
		return err_set(e, "no host and no address");
	memcpy(text, value, strlen(value) + 1);
	memset(r, 0, sizeof *r);
	if ((slash = strchr(text, '/')) != NULL) {
		*slash++ = '\0';
	} else if (text[0] == '[' && (port = strchr(text, ']')) != NULL) {
		host++;
		*port++ = '\0';
		if (*port != '\0' && *port != ':')
			return err_set(e, "'%.80s' is neither HOST:PORT nor ADDRESS/BITS", value);
	} else if ((port = strchr(text, ':')) != NULL && strchr(port + 1, ':') != NULL) {
		port = NULL; /* an IPv6 address */
	}
	if (port != NULL && *port == ':') {
		*port++ = '\0';
		if (read_number(port, 1, 65535, &number) != 0)
			return err_set(e, "'%.80s' has no port from 1 to 65535", value);
	}
	r->port = (uint16_t)number;
	whole = bits = read_address(r->net, host);
	if (slash != NULL && (whole == 0 || read_number(slash, 0, whole, &bits) != 0))
		return err_set(e, "'%.80s' is no network of the form ADDRESS/BITS", value);
	r->bits = (uint8_t)(128 - whole + bits);
	if (whole != 0)
		return 0;
	if (host[0] == '\0' || strlen(host) > LIMIT_HOST)
		return err_set(e, "no host and no address");
	for (size_t i = 0; host[i] != '\0'; i++) {
		if (!isalnum((unsigned char)host[i]) && strchr(".-_", host[i]) == NULL)
			return err_set(e, "'%.80s' is neither HOST:PORT nor ADDRESS/BITS", value);
		r->host[i] = (char)tolower((unsigned char)host[i]);
	}
	return 0;
}

static int
set(struct guard *g, const char *key, const char *value, struct err *e)
{
	static const char *const modes[] = { [GUARD_PUBLIC] = "public", [GUARD_OFF] = "off",
	    [GUARD_ALLOW] = "allow" };

	if (strcmp(key, KEY "allow") == 0) {
		if (g->nrules == GUARD_RULES)
			return err_set(e, "more than %d of them", GUARD_RULES);
		return read_rule(&g->rules[g->nrules], value, e) == 0 ? (void)g->nrules++, 1 : -1;
	}
	if (strcmp(key, KEY "urls") != 0)
		return 0;
	for (unsigned i = 0; i < sizeof modes / sizeof modes[0]; i++)
		if (strcmp(modes[i], value) == 0)
			return (void)(g->mode = (enum guard_mode)i), 1;
	return err_set(e, "'%.40s' is none of 'off', 'allow' and 'public'", value);
}

int
guard_set(struct guard *g, const char *key, const char *value, struct err *e)
{
	int rc = set(g, key, value, e);

	/* What was meant is not known: the safe side. */
	if (rc < 0 && strcmp(key, KEY "urls") == 0)
		g->mode = GUARD_OFF;
	return rc;
}

/* --- Checks ------------------------------------------------------------------------------------------- */

static int
within(const struct guard_rule *r, const uint8_t a[16])
{
	unsigned whole = r->bits / 8, rest = r->bits % 8;

	return memcmp(r->net, a, whole) == 0 && (rest == 0 || (r->net[whole] ^ a[whole]) >> (8 - rest) == 0);
}

/* Does a line allow this host, or this address of it?  Either may be NULL. */
static int
allowed(const struct guard *g, const struct url *u, const uint8_t *address)
{
	for (size_t i = 0; i < g->nrules; i++) {
		const struct guard_rule *r = &g->rules[i];

		if (r->port != 0 && r->port != u->port)
			continue;
		if (r->host[0] != '\0' ? strcmp(r->host, u->host) == 0 :
		    address != NULL && within(r, address))
			return 1;
	}
	return 0;
}

static int
refuse(const struct url *u, const char *what, struct err *e)
{
	char where[LIMIT_SOURCE + 1];

	url_source(u, where, sizeof where);
	return err_set(e, "%s, named by an untrusted user, is refused: %s (untrusted-urls in narlock.conf)",
	    where, what);
}

int
guard_address(const struct guard *g, const struct url *u, const char *text, struct err *e)
{
	uint8_t a[16];
	char what[128];

	if (read_address(a, text) == 0)
		return refuse(u, "its address is not known", e);
	if (allowed(g, u, a))
		return 0;
	if (g->mode == GUARD_PUBLIC && !private_address(text))
		return 0;
	(void)snprintf(what, sizeof what, g->mode == GUARD_PUBLIC ? "%s is not a public address" :
	    "%s is not in untrusted-allow", text);
	return refuse(u, what, e);
}

int
guard_name(const struct guard *g, const struct url *u, int proxied, struct err *e)
{
	const char *name = strcmp(u->host, "localhost") == 0 ? "127.0.0.1" : u->host;

	if (g->mode == GUARD_OFF)
		return refuse(u, "untrusted-urls = off", e);
	if (u->numeric != 0 || name != u->host)
		return allowed(g, u, NULL) ? 0 : guard_address(g, u, name, e);
	if (!proxied || allowed(g, u, NULL) || (g->mode == GUARD_PUBLIC && !private_name(name)))
		return 0;
	return refuse(u,
	    g->mode == GUARD_PUBLIC ? "its name is one of a local network; through a proxy only that can be "
	    "checked" : "its name is not in untrusted-allow; through a proxy only that can be checked", e);
}

int
guard_list(const struct guard *g, const struct url *u, const char *addresses, struct err *e)
{
	char one[INET6_ADDRSTRLEN];

	for (const char *p = addresses; *p != '\0';) {
		size_t skip = strspn(p, "[],"), n = strcspn(p + skip, "],");

		if (n >= sizeof one)
			return refuse(u, "its address is not known", e);
		memcpy(one, p + skip, n);
		one[n] = '\0';
		if (n > 0 && guard_address(g, u, one, e) != 0)
			return -1;
		p += skip + n;
	}
	return 0;
}

int
guard_socket(const struct guard *g, const struct url *u, const struct sockaddr *a, struct err *e)
{
	const struct sockaddr_in *v4 = (const void *)a;
	const struct sockaddr_in6 *v6 = (const void *)a;
	const void *bytes = a->sa_family == AF_INET ? (const void *)&v4->sin_addr :
	    (const void *)&v6->sin6_addr;
	char text[INET6_ADDRSTRLEN];

	if ((a->sa_family != AF_INET && a->sa_family != AF_INET6) ||
	    inet_ntop(a->sa_family, bytes, text, sizeof text) == NULL)
		return refuse(u, "its address is not known", e);
	return guard_address(g, u, text, e);
}

int
guard_new(struct guard *g, const char *what)
{
	for (size_t i = 0; i < g->ntold; i++)
		if (strcmp(g->told[i], what) == 0)
			return 0;
	if (g->ntold == GUARD_TOLD)
		return 0;
	(void)snprintf(g->told[g->ntold++], sizeof g->told[0], "%s", what);
	return 1;
}
