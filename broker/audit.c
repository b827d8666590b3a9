/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: the audit log: one JSON object a line, appended. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "broker/audit.h"
#include "broker/log.h"
#include "ipc/layers.h"

/* Room that fields leave for the end of the record. */
#define TAIL 24

void audit_open(struct audit *a, const char *path, const char *mode)
{
	struct timespec t;

	a->fd = -1;
	a->mode = mode;
	a->lost = 0;
	a->torn = 0;
	(void)clock_gettime(CLOCK_REALTIME, &t);
	(void)snprintf(a->session, sizeof a->session, "%ld-%lld.%06ld", (long)getpid(), (long long)t.tv_sec,
		       t.tv_nsec / 1000);
	if (path[0] == '\0')
		return;
	/* O_NONBLOCK, so that a log that is a pipe with a slow reader cannot stop a substitute. */
	a->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0640);
	if (a->fd < 0)
		log_say("warning: no audit log: %s: %s", path, strerror(errno));
}

static void add(struct audit_line *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* All of it or nothing. */
static void add(struct audit_line *l, const char *fmt, ...)
{
	size_t room = sizeof l->text - TAIL - l->len;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(l->text + l->len, room, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= room)
		l->full = 1;
	else
		l->len += (unsigned)n;
	l->text[l->len] = '\0';
}

void audit_begin(const struct audit *a, struct audit_line *l, const char *event)
{
	struct timespec t;
	struct tm tm;
	char when[40];

	l->len = 0;
	l->full = 0;
	(void)clock_gettime(CLOCK_REALTIME, &t);
	(void)gmtime_r(&t.tv_sec, &tm);
	(void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
	add(l, "{\"time\":\"%s.%03ldZ\",\"session\":\"%s\",\"mode\":\"%s\",\"event\":\"%s\"", when,
	    t.tv_nsec / 1000000, a->session, a->mode, event);
}

void audit_bytes(struct audit_line *l, const char *name, const char *value, unsigned len)
{
	unsigned start = l->len;

	add(l, ",\"%s\":\"", name);
	for (unsigned i = 0; i < len && !l->full; i++) {
		unsigned char c = (unsigned char)value[i];

		if (c < 0x20 || c > 0x7e)
			add(l, "\\u%04x", c);
		else
			add(l, c == '"' || c == '\\' ? "\\%c" : "%c", c);
	}
	add(l, "\"");
	if (l->full)
		l->len = start;
}

void audit_text(struct audit_line *l, const char *name, const char *value)
{
	audit_bytes(l, name, value, (unsigned)strlen(value));
}

void audit_number(struct audit_line *l, const char *name, uint64_t value)
{
	add(l, ",\"%s\":%llu", name, (unsigned long long)value);
}

void audit_layer_names(char *text, size_t size, uint32_t layers)
{
	static const struct { uint32_t bit; const char *name; } names[] = {
		{ LAYER_UID, "uid" }, { LAYER_NO_GROUPS, "no-groups" }, { LAYER_NO_CAPS, "no-caps" },
		{ LAYER_NO_NEW_PRIVS, "no-new-privs" }, { LAYER_SECCOMP, "seccomp" }, { LAYER_RLIMITS, "rlimits" },
		{ LAYER_NOT_DUMPABLE, "not-dumpable" }, { LAYER_PDEATHSIG, "pdeathsig" },
		{ LAYER_LANDLOCK_FS, "landlock-fs" }, { LAYER_LANDLOCK_NET, "landlock-net" },
		{ LAYER_LANDLOCK_SCOPE, "landlock-scope" }, { LAYER_USERNS, "user-namespace" },
		{ LAYER_MOUNTNS, "mount-namespace" },
	};
	size_t n = 0;

	text[0] = '\0';
	for (size_t i = 0; i < sizeof names / sizeof names[0] && n < size; i++)
		if (layers & names[i].bit)
			n += (size_t)snprintf(text + n, size - n, "%s%s", n > 0 ? "," : "", names[i].name);
}

void audit_layers(struct audit_line *l, const char *name, uint32_t layers)
{
	char text[256];

	audit_layer_names(text, sizeof text, layers);
	audit_text(l, name, text);
}

void audit_end(struct audit *a, struct audit_line *l)
{
	ssize_t n;

	if (l->full)
		l->len += (unsigned)snprintf(l->text + l->len, TAIL, ",\"cut\":true");
	l->text[l->len++] = '}';
	l->text[l->len++] = '\n';
	if (a->fd < 0)
		return;
	if (a->torn) /* else this record would go on from the fragment */
		(void)!write(a->fd, "\n", 1);
	while ((n = write(a->fd, l->text, l->len)) < 0 && errno == EINTR)
		;
	a->torn = n > 0 && n != (ssize_t)l->len;
	if (n != (ssize_t)l->len && a->lost++ == 0)
		log_say("warning: the audit log cannot be written (%s); substitutes go on without it",
			n < 0 ? strerror(errno) : "disk full");
}

void audit_event(struct audit *a, const char *event, const char *subject, const char *reason)
{
	struct audit_line l;

	audit_begin(a, &l, event);
	audit_text(&l, "subject", subject);
	audit_text(&l, "reason", reason);
	audit_end(a, &l);
}
