/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: what the daemon tells through _NIX_OPTIONS and the environment. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "broker/options.h"
#include "ipc/text.h"

/* guix's own servers, used when nobody names any. */
static const char default_urls[] = "https://bordeaux.guix.gnu.org https://ci.guix.gnu.org";

/* At most this many neighbours found by guix-daemon --discover, as in stock guix. */
#define MAX_DISCOVERED 50

static const char *const prefix = "untrusted-";

/* The value of KEY or, where the CLIENT has a say, of untrusted-KEY, which goes first, as in stock guix. */
static const char *find(const char *lines, const char *end, const char *key, int client)
{
	const char *value = NULL;

	for (const char *next = lines; next < end; next += strlen(next) + 1) {
		const char *line = next;
		int untrusted = strncmp(line, prefix, strlen(prefix)) == 0;

		if (untrusted)
			line += strlen(prefix);
		if (strncmp(line, key, strlen(key)) == 0 && line[strlen(key)] == '=' &&
		    (untrusted ? client : value == NULL))
			value = line + strlen(key) + 1;
	}
	return value;
}

/* How much of URL is its scheme and host, which have no case; *PORT: and how much behind them the scheme's own port.  0: it
 * names a user, or is none for HTTP. */
static size_t origin(const char *url, size_t len, size_t *port)
{
	size_t n = strncasecmp(url, "https://", 8) == 0 ? 8 : strncasecmp(url, "http://", 7) == 0 ? 7 : 0;
	const char *own = n == 8 ? ":443" : ":80";

	*port = 0;
	if (n == 0 || n > len)
		return 0;
	for (; n < len && strchr("/?#", url[n]) == NULL; n++)
		if (url[n] == '@')
			return 0;
	if (memcmp(url + n - strlen(own), own, strlen(own)) == 0)
		*port = strlen(own);
	return n - *port;
}

/* Do both lead to the same place of the same server?  Not if there is any doubt. */
static int same(const char *a, size_t a_len, const char *b, size_t b_len)
{
	size_t a_port, b_port, n = origin(a, a_len, &a_port);

	return n == origin(b, b_len, &b_port) && a_len - a_port == b_len - b_port && strncasecmp(a, b, n) == 0 &&
	       memcmp(a + n + a_port, b + n + b_port, a_len - n - a_port) == 0;
}

/* Is URL in a list, which is as it came: with slashes at the ends? */
static int listed(const char *list, const char *url)
{
	for (size_t n, len; *(list += strspn(list, " \t\n")) != '\0'; list += n) {
		for (len = n = strcspn(list, " \t\n"); len > 1 && list[len - 1] == '/'; len--)
			;
		if (same(list, len, url, strlen(url)))
			return 1;
	}
	return 0;
}

/* Those of ADMIN and the DISCOVERED ones count as trusted, whoever names them. */
static void add_urls(struct options *o, const char *admin, const char *discovered, char *text, unsigned most)
{
	char *word, *rest = text;

	while ((word = strtok_r(rest, " \t\n", &rest)) != NULL) {
		size_t n = text_strip_slashes(word);

		if (n > LIMIT_URL || !text_plain(word, n) || o->url_count >= most)
			o->urls_dropped++;
		else {
			o->kinds[o->url_count] = listed(admin, word) || listed(discovered, word) ? SERVER_TRUSTED
												 : SERVER_UNTRUSTED;
			o->urls[o->url_count++] = word;
		}
	}
}

static int flag(const char *value)
{
	return value != NULL && (strcmp(value, "true") == 0 || strcmp(value, "yes") == 0 || atoi(value) > 0);
}

int options_parse(struct options *o, const char *text, const char *discovered, unsigned most)
{
	const char *admin, *value, *end;
	char *copy, *urls;

	memset(o, 0, sizeof *o);
	text = text != NULL ? text : "";
	discovered = discovered != NULL ? discovered : "";
	if ((copy = strdup(text)) == NULL)
		return -1;
	end = copy + strlen(copy);
	for (char *p = copy; p < end; p++) /* lines become strings, one behind the other */
		if (*p == '\n')
			*p = '\0';
	if (!flag(find(copy, end, "discover", 0)))
		discovered = "";
	if ((admin = find(copy, end, "substitute-urls", 0)) == NULL)
		admin = default_urls;
	if ((value = find(copy, end, "substitute-urls", 1)) == NULL)
		value = admin;
	/* One buffer for both lists: neighbours first, as they are nearest. */
	if ((o->buffer = malloc(strlen(discovered) + strlen(value) + 2)) == NULL) {
		free(copy);
		return -1;
	}
	memcpy(o->buffer, discovered, strlen(discovered) + 1);
	urls = o->buffer + strlen(discovered) + 1;
	memcpy(urls, value, strlen(value) + 1);
	add_urls(o, admin, discovered, o->buffer, MAX_DISCOVERED < most ? MAX_DISCOVERED : most);
	add_urls(o, admin, discovered, urls, most);
	o->traces = flag(find(copy, end, "print-extended-build-trace", 1));
	o->deduplicate = flag(find(copy, end, "deduplicate", 0));
	value = find(copy, end, "terminal-columns", 1);
	o->columns = value != NULL && atoi(value) >= 20 && atoi(value) <= 1000 ? (unsigned)atoi(value) : 80;
	value = find(copy, end, "user-name", 1);
	(void)snprintf(o->user, sizeof o->user, "%s", value != NULL ? value : "");
	free(copy);
	return 0;
}
