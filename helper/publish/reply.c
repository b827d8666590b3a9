/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): HTTP answers: conditions, ranges, headers. */
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "helper/eris/part.h"
#include "helper/publish/worker.h"

static struct conn *
conn_of(struct MHD_Connection *c)
{
	const union MHD_ConnectionInfo *i = MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return i == NULL ? NULL : i->socket_context;
}

void
reply_size(struct MHD_Connection *c, uint64_t size)
{
	struct conn *n = conn_of(c);

	if (n != NULL)
		n->size = size;
}

enum MHD_Result
reply_queue(struct MHD_Connection *c, unsigned status, struct MHD_Response *r)
{
	struct conn *n = conn_of(c);

	if (n != NULL)
		n->status = status;
	return MHD_queue_response(c, status, r);
}

enum MHD_Result
reply_send(struct MHD_Connection *c, unsigned status, struct MHD_Response *r)
{
	enum MHD_Result rc;

	if (r == NULL)
		return MHD_NO; /* closes the connection: out of memory */
	rc = reply_queue(c, status, r);
	MHD_destroy_response(r);
	return rc;
}

enum MHD_Result
reply_say(struct MHD_Connection *c, unsigned status, const char *text)
{
	/* The library only reads it; its parameter just has no const. */
	union {
		const char *in;
		void *out;
	} body = { .in = text };
	struct MHD_Response *r = MHD_create_response_from_buffer(strlen(text), body.out,
	    MHD_RESPMEM_PERSISTENT);

	reply_size(c, strlen(text));
	if (r != NULL) {
		MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain; charset=utf-8");
		if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
			MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
		if (status == MHD_HTTP_TOO_MANY_REQUESTS)
			MHD_add_response_header(r, MHD_HTTP_HEADER_RETRY_AFTER, "1");
	}
	return reply_send(c, status, r);
}

/* Whether a list of entity tags has TAG; a weak one will do, the bytes are the same or not at all. */
static int
list_has(const char *list, const char *tag)
{
	size_t n = strlen(tag);

	for (;;) {
		list += strspn(list, " \t,");
		if (*list == '\0')
			return 0;
		if (*list == '*')
			return 1;
		if (strncmp(list, "W/", 2) == 0)
			list += 2;
		if (strncmp(list, tag, n) == 0 && (list[n] == '\0' || strchr(" \t,", list[n]) != NULL))
			return 1;
		list += strcspn(list, ",");
	}
}

int
reply_has_it(struct MHD_Connection *c, const char *tag, const char *date)
{
	const char *match = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_IF_NONE_MATCH);
	const char *since = MHD_lookup_connection_value(c, MHD_HEADER_KIND,
	    MHD_HTTP_HEADER_IF_MODIFIED_SINCE);

	if (match != NULL)
		return list_has(match, tag);
	/* Only the very date that was told: clocks that went back, and files that were replaced by older
	 * ones, are changes. */
	return since != NULL && date != NULL && strcmp(since, date) == 0;
}

enum MHD_Result
reply_not_modified(struct worker *w, struct MHD_Connection *c, const char *tag, const char *cache)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);

	shared_add(w->counts, COUNT_NOT_MODIFIED, 1);
	if (r != NULL) {
		MHD_add_response_header(r, MHD_HTTP_HEADER_ETAG, tag);
		if (cache != NULL)
			MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, cache);
	}
	return reply_send(c, MHD_HTTP_NOT_MODIFIED, r);
}

enum MHD_Result
reply_unsatisfiable(struct MHD_Connection *c, uint64_t size)
{
	return reply_send(c, MHD_HTTP_RANGE_NOT_SATISFIABLE, part_none(size));
}

const char *
reply_age(char text[40], unsigned seconds)
{
	if (seconds == 0)
		return NULL;
	snprintf(text, 40, "max-age=%u", seconds);
	return text;
}

void
reply_date(char text[40], int64_t seconds)
{
	static const char days[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
	static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep",
	    "Oct", "Nov",
	    "Dec" };
	time_t t = (time_t)seconds;
	struct tm tm;

	text[0] = '\0';
	/* Not strftime(), which knows other languages. */
	if (gmtime_r(&t, &tm) != NULL && tm.tm_year < 8000)
		snprintf(text, 40, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday], tm.tm_mday,
		    months[tm.tm_mon],
		    tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

void
reply_tag(char tag[24], const char *data, size_t len)
{
	unsigned char hash[16], hex[8];

	crypto_generichash(hash, sizeof hash, (const unsigned char *)data, len, NULL, 0);
	memcpy(hex, hash, sizeof hex);
	tag[0] = '"';
	sodium_bin2hex(tag + 1, 17, hex, sizeof hex);
	strcat(tag, "\"");
}
