/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: what the client sees of a download: `@ download-...' lines, or a progress bar. */
#include <stdio.h>
#include <string.h>

#include "broker/broker.h"
#include "broker/file.h"
#include "broker/log.h"
#include "broker/trace.h"
#include "ipc/text.h"

#define INTERVAL_MS 200
/* Changes of the source that are told of one item. */
#define MAX_TOLD 8

/* Copy URL without the part between "//" and "@" of its authority. */
static void redact(char *out, size_t size, const char *url)
{
	const char *p = strstr(url, "://"), *end, *at = NULL;

	if (p == NULL) {
		(void)snprintf(out, size, "%s", url);
		return;
	}
	p += 3;
	end = p + strcspn(p, "/?#");
	for (const char *q = p; q < end; q++)
		if (*q == '@')
			at = q + 1;
	(void)snprintf(out, size, "%.*s%s", (int)(p - url), url, at != NULL ? at : p);
}

void trace_url(char *out, size_t size, const char *server, const char *url)
{
	char whole[2 * LIMIT_URL + 2];

	if (strstr(url, "://") != NULL)
		(void)snprintf(whole, sizeof whole, "%s", url);
	else
		(void)snprintf(whole, sizeof whole, "%s/%s", server, url + strspn(url, "/"));
	redact(out, size, whole);
}

void trace_begin(struct broker *b, const char *dest)
{
	b->trace = (struct trace){ .dest = dest };
}

static const char *size_text(const struct trace *t, char text[24])
{
	(void)snprintf(text, 24, t->size > 0 ? "%llu" : "-", (unsigned long long)t->size);
	return text;
}

void trace_started(struct broker *b, const struct place *place, uint64_t size)
{
	struct trace *t = &b->trace;
	char text[24];

	trace_url(t->url, sizeof t->url, b->options.urls[place->server], place->url);
	text_clean(t->url);
	t->size = size > 0 ? size : place->file_size;
	t->blocks = !place->plain && (place->eris[0] != '\0' || place->manifest[0] != '\0');
	t->started = 1;
	t->begin = crew_now();
	t->last = t->begin;
	if (b->options.traces)
		file_print(FD_LOG, "@ download-started %s %s %s\n", t->dest, t->url, size_text(t, text));
}

static void progress_line(const struct trace *t, uint64_t bytes)
{
	char text[24];

	file_print(FD_LOG, "@ download-progress %s %s %s %llu\n", t->dest, t->url, size_text(t, text), (unsigned long long)bytes);
}

/* " name from host  12.3MiB  4.5MiB/s [####    ]  45.0%" in the width of the terminal. */
static void bar(const struct broker *b, uint64_t bytes)
{
	const struct trace *t = &b->trace;
	const char *name = strrchr(t->dest, '/') != NULL ? strrchr(t->dest, '/') + 1 : t->dest;
	const char *base = strlen(name) > 33 && name[32] == '-' ? name + 33 : name; /* the hash says nothing to people */
	double mib = (double)bytes / (1 << 20), seconds = (double)(crew_now() - t->begin) / 1000;
	char right[96] = "", from[160], left[256];
	unsigned columns = b->options.columns < 250 ? b->options.columns : 250, width = 20;
	int n, room;

	if (t->size > 0 && columns >= 60) { /* else the line would wrap */
		double part = bytes >= t->size ? 1 : (double)bytes / (double)t->size;
		int full = (int)(part * width);

		(void)snprintf(right, sizeof right, " [%.*s%*s] %5.1f%%", full, "####################", (int)width - full,
			       "", part * 100);
	}
	(void)snprintf(from, sizeof from, " from %s  %.1fMiB %.1fMiB/s", t->source[0] != '\0' ? t->source : "server", mib,
		       seconds > 0.05 ? mib / seconds : 0.0);
	n = (int)columns - 1 - (int)strlen(right);
	room = n - 1 - (int)strlen(from); /* a name that is long is cut, not what comes behind it */
	(void)snprintf(left, sizeof left, " %.*s%s", room > 0 ? room : 0, base, from);
	file_print(FD_LOG, "\r\033[K%-*.*s%s", n, n, left, right);
}

void trace_progress(struct broker *b, uint64_t bytes, const char *source)
{
	struct trace *t = &b->trace;
	int64_t now = crew_now();

	if (!t->started)
		return;
	if (strncmp(t->source, source, sizeof t->source - 1) != 0) {
		(void)snprintf(t->source, sizeof t->source, "%s", source);
		text_clean(t->source);
		if (b->options.traces && t->blocks && t->told++ < MAX_TOLD) /* those lines have no place for it */
			log_say("%s comes from %s", t->dest, t->source);
	}
	if (now - t->last < INTERVAL_MS)
		return;
	t->last = now;
	if (b->options.traces)
		progress_line(t, bytes);
	else
		bar(b, bytes);
}

void trace_end(struct broker *b, uint64_t bytes, int good)
{
	struct trace *t = &b->trace;

	if (!t->started)
		return;
	if (b->options.traces && good) {
		progress_line(t, bytes);
		file_print(FD_LOG, "@ download-succeeded %s %s %llu\n", t->dest, t->url,
			   (unsigned long long)(t->size > 0 ? t->size : bytes));
	} else if (!b->options.traces) {
		bar(b, bytes);
		file_print(FD_LOG, "\n");
	}
	file_print(FD_LOG, "\n");
	t->started = 0;
}
