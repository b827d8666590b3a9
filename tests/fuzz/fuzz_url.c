/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: URLs and what they are joined with, of any bytes: what is accepted can be written down and read again, and
 * keeps its secrets. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "helper/fetch/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(const struct url *u)
{
	char text[URL_TEXT], shown[128], source[LIMIT_SOURCE + 1];
	struct url again;
	struct err e;

	url_text(u, text);
	if (strlen(text) <= LIMIT_URL && url_parse(&again, text, &e) != 0)
		abort();
	if (strlen(text) <= LIMIT_URL && (!url_same_origin(u, &again) || strcmp(u->path, again.path) != 0))
		abort();
	if (u->port == 0 || u->path[0] != '/' || u->host[0] == '\0')
		abort();
	for (const char *p = text; *p != '\0'; p++)
		if (*p <= ' ' || *p > '~')
			abort();
	url_show(u, shown, sizeof shown);
	url_source(u, source, sizeof source);
	if (strchr(source, '@') != NULL || strchr(shown, '?') != NULL)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *second;
	struct url base, u;
	struct err e = { 0 };

	memcpy(text, data, size);
	text[size] = '\0';
	second = strchr(text, '\n');
	if (second != NULL)
		*second++ = '\0';
	if (url_parse(&base, text, &e) == 0) {
		check(&base);
		if (second != NULL && url_below(&u, &base, second, &e) == 0)
			check(&u);
		if (second != NULL && url_redirect(&u, &base, second, &e) == 0) {
			check(&u);
			if (!url_same_origin(&u, &base) && (u.user[0] != '\0' || u.password[0] != '\0'))
				abort();
		}
	} else if (e.text[0] == '\0') {
		abort();
	}
	free(text);
	return 0;
}
