/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): do the records of the audit log still hang together? */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/crypto.h"
#include "helper/cli/auditchain.h"

#define BYTES 32
#define SESSION 40
#define NONE UINT32_MAX

struct record {
	uint8_t hash[BYTES];
	uint32_t session;  /* index */
	uint32_t joined_by; /* index of the first record that joins it, or NONE */
	uint32_t line;
	uint16_t file;
};

struct session {
	char id[SESSION];
	uint8_t last[BYTES]; /* hash of its last record */
	uint64_t seq, lost;
	uint32_t end;        /* index of that record */
};

/* A link to a record that is not there yet, or was followed by another one already. */
struct pending {
	uint8_t hash[BYTES];
	uint32_t from;
};

struct table {
	uint32_t *slots; /* index and 1; 0: free */
	size_t size;     /* a power of two */
};

struct auditchain {
	auditchain_tell *tell;
	void *owner;
	const char *name;
	uint16_t file;
	uint32_t line;
	struct record *records;
	size_t count, room;
	struct session *sessions;
	size_t session_count, session_room;
	struct table by_hash, by_session;
	struct pending *pending;
	size_t pending_count, pending_room;
	const char *names[UINT8_MAX];
	uint64_t unjoined;
	uint8_t any_joined;  /* a joined record was seen */
	uint8_t middle;      /* the first of them joins one before these files */
	char first[32];      /* time of the first record */
};

struct auditchain *
auditchain_new(auditchain_tell *tell, void *owner)
{
	struct auditchain *c = calloc(1, sizeof *c);

	if (c == NULL)
		return NULL;
	c->tell = tell;
	c->owner = owner;
	c->name = "";
	return c;
}

void
auditchain_free(struct auditchain *c)
{
	if (c == NULL)
		return;
	free(c->records);
	free(c->sessions);
	free(c->by_hash.slots);
	free(c->by_session.slots);
	free(c->pending);
	free(c);
}

void
auditchain_file(struct auditchain *c, const char *name)
{
	if (c->file + 1 < UINT8_MAX)
		c->file++;
	c->names[c->file] = c->name = name;
	c->line = 0;
}

static void say(struct auditchain *c, enum auditchain_level level, uint16_t file, uint64_t line,
    const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

static void
say(struct auditchain *c, enum auditchain_level level, uint16_t file, uint64_t line, const char *fmt, ...)
{
	char text[400];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	c->tell(c->owner, level, c->names[file] != NULL ? c->names[file] : "", line, text);
}

/* --- Tables ------------------------------------------------------------------------------------------ */

static uint64_t
key_of(const void *bytes, size_t len)
{
	const uint8_t *p = bytes;
	uint64_t h = 14695981039346656037u; /* FNV-1a: bounded input, and nobody else's time */

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 1099511628211u;
	return h ^ h >> 29;
}

/* Room for one more behind COUNT elements of SIZE bytes. */
static int
make_room(void **array, size_t *room, size_t count, size_t size)
{
	size_t more = *room != 0 ? *room * 2 : 256;
	void *p;

	if (count < *room)
		return 0;
	if ((p = realloc(*array, more * size)) == NULL)
		return -1;
	*array = p;
	*room = more;
	return 0;
}

static uint64_t
hash_of(const struct auditchain *c, const struct table *t, uint32_t i)
{
	return t == &c->by_hash ? key_of(c->records[i].hash, BYTES) : key_of(c->sessions[i].id, SESSION);
}

static int
insert(const struct auditchain *c, struct table *t, size_t count, uint32_t index)
{
	if (count * 2 >= t->size) {
		struct table bigger = { NULL, t->size != 0 ? t->size * 2 : 512 };

		if ((bigger.slots = calloc(bigger.size, sizeof *bigger.slots)) == NULL)
			return -1;
		for (size_t i = 0; i < t->size; i++)
			if (t->slots[i] != 0) {
				size_t at = hash_of(c, t, t->slots[i] - 1) & (bigger.size - 1);

				while (bigger.slots[at] != 0)
					at = (at + 1) & (bigger.size - 1);
				bigger.slots[at] = t->slots[i];
			}
		free(t->slots);
		*t = bigger;
	}
	size_t at = hash_of(c, t, index) & (t->size - 1);

	while (t->slots[at] != 0)
		at = (at + 1) & (t->size - 1);
	t->slots[at] = index + 1;
	return 0;
}

static uint32_t
find_record(const struct auditchain *c, const uint8_t hash[BYTES])
{
	const struct table *t = &c->by_hash;

	for (size_t at = key_of(hash, BYTES) & (t->size - 1); t->size > 0 && t->slots[at] != 0;
	    at = (at + 1) & (t->size - 1))
		if (memcmp(c->records[t->slots[at] - 1].hash, hash, BYTES) == 0)
			return t->slots[at] - 1;
	return NONE;
}

static uint32_t
find_session(const struct auditchain *c, const char id[SESSION])
{
	const struct table *t = &c->by_session;

	for (size_t at = key_of(id, SESSION) & (t->size - 1); t->size > 0 && t->slots[at] != 0;
	    at = (at + 1) & (t->size - 1))
		if (memcmp(c->sessions[t->slots[at] - 1].id, id, SESSION) == 0)
			return t->slots[at] - 1;
	return NONE;
}

/* --- Hashes as text ----------------------------------------------------------------------------------- */

static int
from_hex(uint8_t out[BYTES], const char *text, size_t len)
{
	if (len != AUDITCHAIN_HASH)
		return -1;
	for (size_t i = 0; i < len; i++) {
		unsigned c = (unsigned char)text[i];
		unsigned v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;

		if (v > 15)
			return -1;
		out[i / 2] = (uint8_t)(i % 2 ? out[i / 2] | v : v << 4);
	}
	return 0;
}

int
auditchain_has(const struct auditchain *c, const char *hash)
{
	uint8_t bytes[BYTES];

	return from_hex(bytes, hash, strlen(hash)) == 0 && find_record(c, bytes) != NONE;
}

const char *
auditchain_first(const struct auditchain *c)
{
	return c->first;
}

int
auditchain_middle(const struct auditchain *c)
{
	return c->middle;
}

int
auditchain_joined(const struct auditchain *c)
{
	return c->any_joined;
}

size_t
auditchain_count(const struct auditchain *c)
{
	return c->count;
}

/* --- Records ------------------------------------------------------------------------------------------ */

/* When a session began: "PID-SECONDS.MICROSECONDS", against the time of a record, both as text of the
 * same clock.  Seconds since 1970 of "YYYY-MM-DDTHH:MM:SS". */
static int64_t
seconds(const char *t)
{
	static const int days[] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334 };
	int y, mo, d, h, mi, s;

	if (sscanf(t, "%4d-%2d-%2dT%2d:%2d:%2d", &y, &mo, &d, &h, &mi, &s) != 6 || mo < 1 || mo > 12 ||
	    y < 1970)
		return 0;
	int64_t n = (int64_t)(y - 1970) * 365 + (y - 1969) / 4 - (y - 1901) / 100 + (y - 1601) / 400 +
	    days[mo - 1] + d - 1;

	if (mo > 2 && ((y % 4 == 0 && y % 100 != 0) || y % 400 == 0))
		n++;
	return ((n * 24 + h) * 60 + mi) * 60 + s;
}

/* Had this session begun before the first record that we have? */
static int
older(const struct auditchain *c, const char *id)
{
	const char *dash = strrchr(id, '-');

	return dash == NULL || strtoll(dash + 1, NULL, 10) <= seconds(c->first);
}

struct parts {
	char id[SESSION];
	uint64_t seq, lost;
	struct auditline_text prev, join;
	int unjoined;
	uint8_t hash[BYTES];
};

/* 1, or 0 when it is not a record of the chain. */
static int
read_parts(struct parts *p, const struct auditline *l)
{
	struct auditline_text id = auditline_text(l, "session");

	memset(p, 0, sizeof *p);
	p->prev = auditline_text(l, "prev");
	p->join = auditline_text(l, "join");
	p->unjoined = auditline_true(l, "unjoined");
	(void)auditline_number(l, "lost", &p->lost);
	if (!auditline_number(l, "seq", &p->seq) || p->seq == 0 || p->prev.at == NULL || id.at == NULL ||
	    id.len == 0 ||
	    id.len >= SESSION || (p->join.at == NULL) != p->unjoined)
		return 0;
	memcpy(p->id, id.at, id.len);
	return 1;
}

static void
gap(struct auditchain *c, uint64_t from, uint64_t to, const char *id)
{
	if (from == to)
		say(c, AUDITCHAIN_CHANGED, c->file, c->line,
		    "record %llu of session %s, which stood before it, was removed",
		    (unsigned long long)from, id);
	else
		say(c, AUDITCHAIN_CHANGED, c->file, c->line,
		    "records %llu to %llu of session %s, which stood before it, were "
		    "removed", (unsigned long long)from, (unsigned long long)to, id);
}

/* The chain of its own process. */
static void
check_session(struct auditchain *c, const struct session *s, const struct parts *p)
{
	uint8_t prev[BYTES];
	int has_prev = from_hex(prev, p->prev.at, p->prev.len) == 0;

	if (s->seq == 0 && p->seq > 1 && older(c, p->id))
		say(c, AUDITCHAIN_NOTE, c->file, c->line, "session %s began before these files", p->id);
	else if (p->seq > s->seq + 1)
		gap(c, s->seq + 1, p->seq - 1, p->id);
	else if (p->seq <= s->seq)
		say(c, AUDITCHAIN_CHANGED, c->file, c->line,
		    "record %llu of session %s after record %llu: reordered or inserted",
		    (unsigned long long)p->seq, p->id, (unsigned long long)s->seq);
	else if (s->seq == 0 ? p->prev.len != 0 : !has_prev || memcmp(prev, s->last, BYTES) != 0)
		say(c, AUDITCHAIN_CHANGED, c->file, c->line,
		    "the record of session %s before it was changed, or this one was "
		    "inserted", p->id);
	if (p->lost > s->lost)
		say(c, AUDITCHAIN_LOST, c->file, c->line,
		    "%llu records of session %s could not be written (disk full?)",
		    (unsigned long long)(p->lost - s->lost), p->id);
}

static int
remember(struct auditchain *c, const uint8_t hash[BYTES], uint32_t from)
{
	if (c->pending_count == AUDITCHAIN_PENDING)
		return 0; /* enough was found */
	if (make_room((void **)&c->pending, &c->pending_room, c->pending_count, sizeof *c->pending) != 0)
		return -1;
	memcpy(c->pending[c->pending_count].hash, hash, BYTES);
	c->pending[c->pending_count++].from = from;
	return 0;
}

/* The chain of all processes.  SELF is the record that joins. */
static int
check_join(struct auditchain *c, uint32_t self, const struct parts *p)
{
	uint8_t join[BYTES];
	uint32_t target;
	int first = !c->any_joined;

	if (p->unjoined)
		return (void)c->unjoined++, 0;
	c->any_joined = 1;
	if (p->join.len == 0) {
		if (!first)
			say(c, AUDITCHAIN_CHANGED, c->file, c->line,
			    "it follows nothing: LOG.head was removed, or all before it is "
			    "from somewhere else");
		return 0;
	}
	if (from_hex(join, p->join.at, p->join.len) != 0) {
		say(c, AUDITCHAIN_CHANGED, c->file, c->line, "its `join' is no hash");
		return 0;
	}
	target = find_record(c, join);
	if (target == NONE && first) {
		c->middle = 1;
		say(c, AUDITCHAIN_NOTE, c->file, c->line,
		    "it goes on from a record before these files: %.*s", (int)p->join.len,
		    p->join.at);
		return 0;
	}
	if (target == NONE || c->records[target].joined_by != NONE)
		return remember(c, join, self);
	c->records[target].joined_by = self;
	return 0;
}

static int
add(struct auditchain *c, const struct parts *p, uint32_t session)
{
	uint32_t self = (uint32_t)c->count;

	if (c->count == AUDITCHAIN_RECORDS)
		return -1;
	if (make_room((void **)&c->records, &c->room, c->count, sizeof *c->records) != 0)
		return -1;
	c->records[self] = (struct record){ .session = session, .joined_by = NONE, .line = c->line,
	    .file = c->file };
	memcpy(c->records[self].hash, p->hash, BYTES);
	if (insert(c, &c->by_hash, ++c->count, self) != 0 || check_join(c, self, p) != 0)
		return -1;
	if (p->seq > c->sessions[session].seq) {
		memcpy(c->sessions[session].last, p->hash, BYTES);
		c->sessions[session].seq = p->seq;
		c->sessions[session].lost = p->lost;
		c->sessions[session].end = self;
	}
	return 0;
}

static uint32_t
session_of(struct auditchain *c, const char id[SESSION])
{
	uint32_t i = find_session(c, id);

	if (i != NONE)
		return i;
	if (make_room((void **)&c->sessions, &c->session_room, c->session_count, sizeof *c->sessions) != 0)
		return NONE;
	i = (uint32_t)c->session_count;
	c->sessions[i] = (struct session){ .end = NONE };
	memcpy(c->sessions[i].id, id, SESSION);
	return insert(c, &c->by_session, ++c->session_count, i) == 0 ? i : NONE;
}

static void
no_record(struct auditchain *c, const struct err *why, int complete)
{
	if (!complete)
		say(c, AUDITCHAIN_LOST, c->file, c->line,
		    "the last line is torn: a record was not written to its end");
	else if (why->code == ENODATA)
		say(c, AUDITCHAIN_LOST, c->file, c->line, "a torn line: a record was not written to its end");
	else
		say(c, AUDITCHAIN_CHANGED, c->file, c->line, "no record of narlock: %s", why->text);
}

int
auditchain_line(struct auditchain *c, const char *line, size_t len, int complete, const struct auditline *l,
    const struct err *why)
{
	struct auditline_text when = auditline_text(l, "time");
	struct parts p;
	uint32_t session;

	c->line++;
	if (len == 0 && complete) /* two processes ended a torn line */
		return 0;
	if (l->count == 0 || !complete) {
		no_record(c, why, complete);
		return 0;
	}
	if (!read_parts(&p, l)) {
		say(c, AUDITCHAIN_CHANGED, c->file, c->line, "a record without a chain: inserted");
		return 0;
	}
	if (c->first[0] == '\0' && when.at != NULL)
		(void)snprintf(c->first, sizeof c->first, "%.*s", (int)when.len, when.at);
	crypto_sha256(p.hash, line, len);
	if (find_record(c, p.hash) != NONE) {
		say(c, AUDITCHAIN_CHANGED, c->file, c->line, "the same record was there before: inserted");
		return 0;
	}
	if ((session = session_of(c, p.id)) == NONE)
		return -1;
	check_session(c, &c->sessions[session], &p);
	return add(c, &p, session);
}

/* --- The end ------------------------------------------------------------------------------------------ */

/* A process that is killed between its record and LOG.head leaves its last record with no successor. */
static int
was_killed(const struct auditchain *c, uint32_t i)
{
	return c->records[i].joined_by == NONE && c->sessions[c->records[i].session].end == i;
}

static void
check_pending(struct auditchain *c, const struct pending *p)
{
	const struct record *from = &c->records[p->from];
	uint32_t target = find_record(c, p->hash);

	if (target == NONE) {
		say(c, AUDITCHAIN_CHANGED, from->file, from->line,
		    "the record that it follows is not there: removed, changed, or in "
		    "a file that was not given");
		return;
	}
	if (c->records[target].joined_by == NONE) {
		c->records[target].joined_by = p->from;
		if (c->records[target].file == from->file && c->records[target].line > from->line)
			say(c, AUDITCHAIN_CHANGED, from->file, from->line,
			    "it follows line %u, which stands behind it: reordered",
			    c->records[target].line);
		return; /* else: written by a process that had the old file open when the log was rotated */
	}
	uint32_t other = c->records[target].joined_by;

	if (was_killed(c, other) || was_killed(c, p->from))
		say(c, AUDITCHAIN_LOST, from->file, from->line,
		    "it follows the same record as line %u: a process was killed while "
		    "it wrote, or one of them was inserted", c->records[other].line);
	else
		say(c, AUDITCHAIN_CHANGED, from->file, from->line,
		    "it follows the same record as line %u: one of them was inserted",
		    c->records[other].line);
}

void
auditchain_end(struct auditchain *c)
{
	/* First those whose record came later, then those that follow a record twice. */
	for (int twice = 0; twice < 2; twice++)
		for (size_t i = 0; i < c->pending_count; i++) {
			uint32_t target = find_record(c, c->pending[i].hash);

			if ((target != NONE && c->records[target].joined_by != NONE) == twice &&
			    (target == NONE || c->records[target].joined_by != c->pending[i].from))
				check_pending(c, &c->pending[i]);
		}
	if (c->unjoined > 0)
		say(c, AUDITCHAIN_NOTE, 0, 0,
		    "%llu records are chained in their process only (LOG.head was locked or not there)",
		    (unsigned long long)c->unjoined);
}
