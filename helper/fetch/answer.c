/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): what the header of an HTTP response says, line by line. */
#include <curl/curl.h>
#include <string.h>
#include <strings.h>

#include "helper/fetch/answer.h"

struct text {
	const char *p;
	size_t len;
};

void
answer_reset(struct answer *a)
{
	memset(a, 0, sizeof *a);
	a->length = a->range_start = a->range_end = a->range_total = a->max_age = a->retry_after = -1;
}

static struct text
trim(struct text t)
{
	while (t.len > 0 && (t.p[0] == ' ' || t.p[0] == '\t'))
		t.p++, t.len--;
	while (t.len > 0 && strchr(" \t\r\n", t.p[t.len - 1]) != NULL)
		t.len--;
	return t;
}

static int
skip(struct text *t, const char *word)
{
	size_t n = strlen(word);

	if (t->len < n || strncasecmp(t->p, word, n) != 0)
		return 0;
	t->p += n;
	t->len -= n;
	return 1;
}

/* Digits at the front of T; -1 when there are none or they do not fit. */
static int64_t
number(struct text *t)
{
	int64_t v = 0;
	size_t n = 0;

	for (; n < t->len && t->p[n] >= '0' && t->p[n] <= '9'; n++) {
		if (v > (INT64_MAX - 9) / 10)
			return -1;
		v = v * 10 + (t->p[n] - '0');
	}
	if (n == 0)
		return -1;
	t->p += n;
	t->len -= n;
	return v;
}

static int64_t
whole_number(struct text t)
{
	int64_t v = number(&t);

	return t.len == 0 ? v : -1;
}

static void
keep(char *dst, size_t size, struct text t)
{
	dst[0] = '\0';
	if (t.len >= size)
		return;
	for (size_t i = 0; i < t.len; i++)
		if (t.p[i] < ' ' || t.p[i] > '~')
			return;
	memcpy(dst, t.p, t.len);
	dst[t.len] = '\0';
}

static void
content_range(struct answer *a, struct text t)
{
	int64_t start, end, total = -1;

	if (!skip(&t, "bytes "))
		return;
	if (skip(&t, "*/")) {
		a->range_total = whole_number(t);
		return;
	}
	start = number(&t);
	if (start < 0 || !skip(&t, "-") || (end = number(&t)) < start || !skip(&t, "/"))
		return;
	if (!(t.len == 1 && t.p[0] == '*') && (total = whole_number(t)) <= end)
		return;
	a->range_start = start;
	a->range_end = end;
	a->range_total = total;
}

static void
cache_control(struct answer *a, struct text t)
{
	while (t.len > 0) {
		const char *comma = memchr(t.p, ',', t.len);
		struct text word = { t.p, comma != NULL ? (size_t)(comma - t.p) : t.len };

		t.p += word.len + (comma != NULL);
		t.len -= word.len + (comma != NULL);
		word = trim(word);
		if (skip(&word, "max-age="))
			a->max_age = whole_number(word);
		else if (word.len == 8 && skip(&word, "no-cache"))
			a->max_age = 0;
		else if (word.len == 8 && skip(&word, "no-store"))
			a->max_age = 0;
	}
}

static void
retry_after(struct answer *a, struct text t, int64_t now)
{
	char date[64];
	int64_t when;

	a->retry_after = whole_number(t);
	if (a->retry_after >= 0)
		return;
	keep(date, sizeof date, t);
	when = date[0] != '\0' ? (int64_t)curl_getdate(date, NULL) : -1;
	if (when >= 0)
		a->retry_after = when > now ? when - now : 0;
}

/* Cut to fit, with '?' for what is not printable: it is text for people and for comparing words. */
static void
keep_error(struct answer *a, struct text t)
{
	size_t n = t.len < ANSWER_ERROR ? t.len : ANSWER_ERROR;

	for (size_t i = 0; i < n; i++)
		a->stream_error[i] = t.p[i];
	for (size_t i = 0; i < n; i++)
		if (t.p[i] < ' ' || t.p[i] > '~')
			a->stream_error[i] = '?';
	a->stream_error[n] = '\0';
}

static void
field(struct answer *a, struct text name, struct text value, int64_t now)
{
#define IS(s) (name.len == sizeof(s) - 1 && strncasecmp(name.p, s, sizeof(s) - 1) == 0)
	if (IS("x-stream-error"))
		keep_error(a, value);
	else if (a->ended) /* a trailer must not change what the header said */
		return;
	else if (IS("content-length"))
		a->length = whole_number(value);
	else if (IS("content-range"))
		content_range(a, value);
	else if (IS("accept-ranges"))
		a->ranges = skip(&value, "bytes") ? 1 : skip(&value, "none") ? 2 : 0;
	else if (IS("transfer-encoding"))
		a->chunked = 1;
	else if (IS("cache-control"))
		cache_control(a, value);
	else if (IS("retry-after"))
		retry_after(a, value, now);
	else if (IS("etag"))
		keep(a->etag, sizeof a->etag, value);
	else if (IS("last-modified"))
		keep(a->modified, sizeof a->modified, value);
	else if (IS("content-encoding"))
		keep(a->encoding, sizeof a->encoding, value);
	else if (IS("location"))
		keep(a->location, sizeof a->location, value);
	else if (IS("x-baking"))
		a->baking = 1;
#undef IS
}

static void
status_line(struct answer *a, struct text t)
{
	const char *space = memchr(t.p, ' ', t.len);
	size_t bytes = a->bytes;
	struct text code;

	answer_reset(a);
	a->bytes = bytes;
	if (space == NULL)
		return;
	code = trim((struct text){ space, t.len - (size_t)(space - t.p) });
	if (code.len >= 3 && (code.len == 3 || code.p[3] == ' ')) {
		code.len = 3;
		a->status = (int)whole_number(code);
	}
}

int
answer_line(struct answer *a, const char *line, size_t len, int64_t now)
{
	struct text t = trim((struct text){ line, len });
	const char *colon;

	a->bytes += len;
	if (a->bytes > LIMIT_HEADERS)
		return -1;
	if (t.len >= 5 && strncmp(t.p, "HTTP/", 5) == 0) {
		status_line(a, t);
		return 0;
	}
	if (t.len == 0)
		a->ended = 1;
	colon = t.len > 0 ? memchr(t.p, ':', t.len) : NULL;
	if (colon != NULL) {
		struct text name = { t.p, (size_t)(colon - t.p) };

		field(a, name, trim((struct text){ colon + 1, t.len - name.len - 1 }), now);
	}
	return 0;
}

int
answer_is_redirect(const struct answer *a)
{
	return (a->status >= 301 && a->status <= 303) || a->status == 307 || a->status == 308;
}
