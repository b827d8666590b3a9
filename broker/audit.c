/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: the audit log: one JSON object a line, appended, chained by hashes (audit.h). */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "broker/audit.h"
#include "broker/crypto.h"
#include "broker/log.h"
#include "ipc/layers.h"
#include "ipc/text.h"

/* Room that fields leave for the end of the record: two hashes and two numbers. */
#define TAIL 256
/* How long one process waits for others' locks, in all its life (microseconds); they are held for a few.  The last pause
 * may go beyond it: together less than 10 ms. */
#define PATIENCE 8000
#define PAUSE_NS 1000000

/* The file with the hash of the last record of all processes.  It stays when the log is rotated.  A log whose last line was
 * never written to its end (a full disk, a crash) is torn, whoever wrote it. */
static void open_rest(struct audit *a, const char *path)
{
	char head[LIMIT_PATH + 8], last = '\n';
	struct stat st;
	int fd;

	if (fstat(a->fd, &st) < 0 || !S_ISREG(st.st_mode))
		return;
	if (st.st_size > 0 && (fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)) >= 0) {
		(void)!pread(fd, &last, 1, st.st_size - 1);
		close(fd);
	}
	a->torn = last != '\n';
	(void)snprintf(head, sizeof head, "%s.head", path);
	if ((a->head = open(head, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640)) >= 0 &&
	    (fstat(a->head, &st) < 0 || !S_ISREG(st.st_mode))) {
		close(a->head);
		a->head = -1;
		errno = EINVAL;
	}
	if (a->head < 0)
		log_say("warning: the audit log is not joined to that of other processes: %s: %s", head, strerror(errno));
}

void audit_open(struct audit *a, const char *path, const char *mode, const char *user)
{
	struct timespec t;

	memset(a, 0, sizeof *a);
	a->fd = a->head = -1;
	a->mode = mode;
	a->user = user;
	a->patience = PATIENCE;
	(void)clock_gettime(CLOCK_REALTIME, &t);
	(void)snprintf(a->session, sizeof a->session, "%ld-%lld.%06ld", (long)getpid(), (long long)t.tv_sec,
		       t.tv_nsec / 1000);
	if (path[0] == '\0')
		return;
	/* O_NONBLOCK, so that a log that is a pipe with a slow reader cannot stop a substitute. */
	a->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0640);
	if (a->fd < 0)
		log_say("warning: no audit log: %s: %s", path, strerror(errno));
	else
		open_rest(a, path);
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
	if (a->user != NULL && a->user[0] != '\0')
		audit_text(l, "claimed_user", a->user);
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

static long microseconds(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (long)(t.tv_sec * 1000000 + t.tv_nsec / 1000);
}

static int lock_head(struct audit *a)
{
	const struct timespec pause = { 0, PAUSE_NS };

	while (a->head >= 0 && flock(a->head, LOCK_EX | LOCK_NB) < 0) {
		long begin = microseconds();

		if (errno != EWOULDBLOCK || a->patience <= 0)
			return 0;
		(void)nanosleep(&pause, NULL);
		a->patience -= microseconds() - begin;
	}
	return a->head >= 0;
}

/* What every record ends with.  JOINED: the lock is ours. */
static void chain(const struct audit *a, struct audit_line *l, int joined)
{
	char text[TAIL] = "", head[65] = "";
	size_t n = 0;

	if (joined && (pread(a->head, head, 64, 0) != 64 || strspn(head, "0123456789abcdef") != 64))
		head[0] = '\0'; /* a new file */
	if (l->full)
		n += (size_t)snprintf(text, sizeof text, ",\"cut\":true");
	if (a->lost > 0)
		n += (size_t)snprintf(text + n, sizeof text - n, ",\"lost\":%lu", a->lost);
	n += (size_t)snprintf(text + n, sizeof text - n, ",\"seq\":%lu,\"prev\":\"%s\"", a->seq + 1, a->last);
	n += joined ? (size_t)snprintf(text + n, sizeof text - n, ",\"join\":\"%s\"}\n", head)
		    : (size_t)snprintf(text + n, sizeof text - n, ",\"unjoined\":true}\n");
	memcpy(l->text + l->len, text, n);
	l->len += (unsigned)n;
}

void audit_end(struct audit *a, struct audit_line *l)
{
	int joined = a->fd >= 0 && lock_head(a);
	uint8_t hash[32];
	ssize_t n = -1;

	if (a->fd < 0)
		return;
	chain(a, l, joined);
	if (a->torn) /* else this record would go on from the fragment */
		a->torn = write(a->fd, "\n", 1) != 1;
	while (!a->torn && (n = write(a->fd, l->text, l->len)) < 0 && errno == EINTR)
		;
	a->torn |= n > 0 && n != (ssize_t)l->len;
	if (n == (ssize_t)l->len) {
		crypto_sha256(hash, l->text, l->len - 1);
		text_hex(a->last, hash, sizeof hash);
		a->seq++;
		if (joined)
			(void)!pwrite(a->head, a->last, 64, 0);
	} else if (a->lost++ == 0) {
		log_say("WARNING: the audit log cannot be written (%s); substitutes go on without it",
			n < 0 ? strerror(errno) : "disk full");
	}
	if (joined)
		(void)flock(a->head, LOCK_UN);
}

void audit_event(struct audit *a, const char *event, const char *subject, const char *reason)
{
	struct audit_line l;

	audit_begin(a, &l, event);
	audit_text(&l, "subject", subject);
	audit_text(&l, "reason", reason);
	audit_end(a, &l);
}
