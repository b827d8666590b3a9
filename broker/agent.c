/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: the conversation with guix-daemon: commands on descriptor 0, replies on 4. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "broker/broker.h"
#include "broker/cache.h"
#include "broker/file.h"
#include "broker/log.h"
#include "broker/storepath.h"

/* --- Commands ----------------------------------------------------------------------------------------------- */

struct input {
	char *buffer;
	size_t used, room;
	size_t line; /* bytes of the line handed out last, its newline included */
};

/* Wait for input, and serve the helpers meanwhile.  Returns 0 at the end of the input. */
static int wait_input(struct broker *b)
{
	struct pollfd p = { FD_COMMANDS, POLLIN, 0 };

	for (;;) {
		int with_crew = b->refusal[0] == '\0' && b->crew.channel >= 0;

		if (poll(&p, 1, with_crew ? 0 : -1) > 0)
			return 1;
		if (with_crew && crew_step(b, FD_COMMANDS, 1000) < 0) {
			close(b->crew.channel);
			b->crew.channel = -1;
		}
	}
}

static int more_input(struct broker *b, struct input *in)
{
	ssize_t n;

	if (in->room - in->used < 65536) {
		size_t room = in->room * 2 + 131072;
		char *p = in->used > LIMIT_COMMAND ? NULL : realloc(in->buffer, room);

		if (p == NULL) {
			log_say("a command is longer than %u bytes, or memory is short", LIMIT_COMMAND);
			return 0;
		}
		in->buffer = p;
		in->room = room;
	}
	if (!wait_input(b))
		return 0;
	n = read(FD_COMMANDS, in->buffer + in->used, in->room - in->used);
	if (n < 0)
		return errno == EINTR || errno == EAGAIN;
	in->used += (size_t)n;
	return n > 0;
}

/* The next line without its newline, valid until the next call; NULL at the end. */
static char *next_line(struct broker *b, struct input *in)
{
	size_t searched = 0;
	char *end;

	if (in->line > 0) {
		memmove(in->buffer, in->buffer + in->line, in->used - in->line);
		in->used -= in->line;
		in->line = 0;
	}
	if (in->room > 1 << 20 && in->used == 0) { /* a long command is over: give its memory back */
		free(in->buffer);
		*in = (struct input){ 0 };
	}
	while (in->used == searched || (end = memchr(in->buffer + searched, '\n', in->used - searched)) == NULL) {
		searched = in->used;
		if (!more_input(b, in))
			return NULL;
	}
	*end = '\0';
	in->line = (size_t)(end - in->buffer) + 1;
	return in->buffer;
}

/* Say once why there is nothing to be had from this process. */
static int refused(struct broker *b)
{
	if (b->refusal[0] == '\0')
		return 0;
	if (!b->refusal_told++) {
		log_say("no substitutes: %s", b->refusal);
		audit_event(&b->audit, "refusal", b->mode, b->refusal);
	}
	return 1;
}

/* The ACL is read for each command, so that a key that is taken out of it counts no more from then on. */
static void read_acl(struct broker *b)
{
	enum acl_origin origin;
	struct err e;

	acl_free(&b->acl);
	if (acl_load(&b->acl, b->config_dir, &origin, &e) < 0) {
		log_say("warning: %s; nothing is authorised", e.text);
		memset(&b->acl, 0, sizeof b->acl);
	}
}

/* --- Query ---------------------------------------------------------------------------------------------------- */

#define PROGRESS_MS 500

struct query {
	int info;             /* `info', not `have' */
	size_t asked, answered, found, stale;
	int64_t shown;        /* ms: when the progress was shown last; at first the beginning */
	int line_open;
};

static int same(struct narinfo_text t, const char *word)
{
	return t.len == strlen(word) && memcmp(t.at, word, t.len) == 0;
}

static int starts(struct narinfo_text t, const char *word)
{
	return t.len >= strlen(word) && memcmp(t.at, word, strlen(word)) == 0;
}

/* Can we fetch and unpack that?  What cannot be had must not be told to the daemon: it would be a failed build. */
static int usable(const struct narinfo_group *g)
{
	int web = starts(g->url, "http://") || starts(g->url, "https://") ||
		  memmem(g->url.at, g->url.len, "://", 3) == NULL;

	return web && (same(g->compression, "zstd") || same(g->compression, "lzip") || same(g->compression, "gzip") ||
		       same(g->compression, "none"));
}

/* The size of the group that the fetcher would take first: zstd, else the smallest known. */
static int download_size(const struct narinfo *ni, uint64_t *size)
{
	int any = 0, zstd = 0;

	*size = 0;
	for (size_t i = 0; i < ni->group_count; i++) {
		const struct narinfo_group *g = &ni->groups[i];
		int is_zstd = same(g->compression, "zstd");

		if (!usable(g))
			continue;
		any = 1;
		if ((is_zstd && !zstd) || *size == 0 || (is_zstd >= zstd && g->file_size > 0 && g->file_size < *size))
			*size = g->file_size;
		zstd |= is_zstd;
	}
	return any;
}

static void put_info(const struct broker *b, const struct narinfo *ni, uint64_t size)
{
	struct narinfo_text ref = { NULL, 0 };
	FILE *to = b->replies;

	if (ni->deriver.at != NULL)
		(void)fprintf(to, "%s/%.*s\n", b->store_dir, (int)ni->deriver.len, ni->deriver.at);
	else
		(void)fprintf(to, "\n");
	(void)fprintf(to, "%zu\n", ni->reference_count);
	while (narinfo_next_reference(ni, &ref))
		(void)fprintf(to, "%s/%.*s\n", b->store_dir, (int)ref.len, ref.at);
	(void)fprintf(to, "%llu\n%llu\n", (unsigned long long)size, (unsigned long long)ni->nar_size);
}

/* A query that takes long shows how far it is, as stock guix does. */
static void show_progress(struct query *q)
{
	int64_t now = crew_now();

	q->answered++;
	if (now - q->shown < PROGRESS_MS)
		return;
	q->shown = now;
	q->line_open = 1;
	file_print(FD_LOG, "\r\033[Klooking for substitutes... %5.1f%%", 100.0 * (double)q->answered / (double)q->asked);
}

static void on_answer(struct broker *b, const char *path, struct found *f, const char *reason)
{
	struct query *q = b->query;
	uint64_t size;
	struct err e;
	int any;

	(void)reason;
	show_progress(q);
	if (f == NULL)
		return;
	any = download_size(&f->auth.ni, &size);
	for (unsigned i = 0; i < f->mirror_count && !any; i++)
		any = download_size(&f->mirrors[i].ni, &size);
	if (!any)
		return;
	if (q->info && b->record_fd >= 0 && record_add(&b->records, &f->auth.ni, &e) < 0) {
		log_say("%s is not offered: %s", path, e.text);
		return;
	}
	q->found++;
	q->stale += (size_t)f->stale;
	(void)fprintf(b->replies, "%s\n", path);
	if (q->info)
		put_info(b, &f->auth.ni, size);
}

/* Split LINE at spaces; what is no store path has no substitute.  The array is the caller's to free. */
static const char **split(const struct broker *b, char *line, size_t *count)
{
	size_t most = 1;
	const char **paths;
	char *word;

	for (const char *p = line; *p != '\0'; p++)
		most += *p == ' ';
	*count = 0;
	if ((paths = calloc(most, sizeof *paths)) == NULL)
		return NULL;
	while ((word = strsep(&line, " ")) != NULL)
		if (storepath_check(word, b->store_dir) == 0)
			paths[(*count)++] = word;
	return paths;
}

static void summary(struct broker *b, const struct query *q, const char *command, int64_t begin)
{
	struct lookups *l = &b->lookups;
	struct audit_line line;

	audit_begin(&b->audit, &line, command);
	audit_number(&line, "asked", q->asked);
	audit_number(&line, "found", q->found);
	audit_number(&line, "from_cache", l->from_cache);
	audit_number(&line, "from_servers", l->asked);
	audit_number(&line, "signatures_verified", l->verified);
	audit_number(&line, "failed", l->failed);
	audit_number(&line, "refused", l->refused);
	audit_number(&line, "expired_used", q->stale);
	audit_number(&line, "ms", (uint64_t)(crew_now() - begin));
	audit_end(&b->audit, &line);
	if (l->failed > 0)
		log_say("%llu of %llu questions to servers failed; the first: %s", (unsigned long long)l->failed,
			(unsigned long long)l->asked, l->failure);
	l->from_cache = l->asked = l->verified = l->refused = l->failed = 0;
}

static void query(struct broker *b, char *line)
{
	struct query q = { .info = strncmp(line, "info ", 5) == 0 };
	int64_t begin = crew_now();
	const char **paths;

	q.shown = begin;
	if (!q.info && strncmp(line, "have ", 5) != 0) {
		log_say("unknown command '%.40s'", line);
	} else if (!refused(b)) {
		read_acl(b);
		b->query = &q;
		if ((paths = split(b, line + 5, &q.asked)) != NULL && b->acl.count > 0)
			lookup_all(b, paths, q.asked, LOOKUP_PROBE, on_answer);
		b->query = NULL;
		free(paths);
		if (q.line_open)
			file_print(FD_LOG, "\n");
		summary(b, &q, q.info ? "info" : "have", begin);
	}
	(void)fprintf(b->replies, "\n");
	(void)fflush(b->replies);
	(void)cache_clean(b->cache_fd, time(NULL)); /* rarely more than a look at a time stamp */
}

/* --- Substitute -------------------------------------------------------------------------------------------------- */

static void command(struct broker *b, char *line)
{
	char *verb = strsep(&line, " "), *path = strsep(&line, " "), *dest = strsep(&line, " ");

	if (strcmp(verb, "substitute") != 0 || path == NULL || dest == NULL || line != NULL) {
		log_say("unknown command '%.40s'", verb);
	} else if (!refused(b)) {
		read_acl(b);
		substitute(b, path, dest);
		return;
	}
	file_print(FD_REPLIES, "not-found\n");
}

void agent_run(struct broker *b, int substituting)
{
	static char room[32768]; /* a reply takes few writes */
	struct input in = { 0 };
	char *line;

	if ((b->replies = fdopen(FD_REPLIES, "w")) == NULL || setvbuf(b->replies, room, _IOFBF, sizeof room) != 0)
		return;
	while ((line = next_line(b, &in)) != NULL)
		if (*line != '\0')
			(substituting ? command : query)(b, line);
	free(in.buffer);
}
