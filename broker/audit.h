/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: the audit log: one JSON object a line, appended, chained by hashes.
 *
 * Every record ends with
 *   "seq":N      its number in its process (session), from 1
 *   "prev":HASH  the SHA-256 of that process's record before it, without the newline; "" for the first
 *   "join":HASH  that of the last record of any process, from the file LOG.head, read and written under its lock; or
 *   "unjoined":true  the lock could not be had in time (LOG.head never stops a substitute)
 * and before these, where it applies, with "lost":N, the records of this process that could not be written so far.
 * LOG.head is not rotated with the log, so the chain goes on in the next file, and a process that still writes to the old one
 * is part of it.  It is written after the record: a process killed between the two leaves a record that nothing joins
 * (`narlock audit --verify' knows that). */
#ifndef NARLOCK_BROKER_AUDIT_H
#define NARLOCK_BROKER_AUDIT_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/limits.h"

struct audit {
	int fd, head;       /* -1: no log, no LOG.head */
	const char *mode;   /* "query", "substitute", ... */
	const char *user;   /* the name that the client gives itself, or "" */
	char session[40];   /* pid and start, the same in each line of one process */
	char last[65];      /* hash of the last record of this process, or "" */
	unsigned long seq;  /* records written */
	unsigned long lost; /* records that could not be written */
	long patience;      /* microseconds left for waiting */
	int torn;           /* the last line of the log was written in part */
};

/* One record under construction.  Fields that do not fit are dropped, and the record says so. */
struct audit_line {
	char text[LIMIT_AUDIT_LINE];
	unsigned len;
	int full;
};

/* audit_open(a, path, mode, user): open PATH for appending, mode 0640, and PATH.head.  Failure is told once on descriptor 2,
 * never fatal.  An empty PATH means no log.  MODE and USER (claimed_user in each record; "": nobody says) have to live
 * as long as A.  Before it: crypto_init(). */
void audit_open(struct audit *a, const char *path, const char *mode, const char *user);

/* audit_begin(a, l, event): start a record with time, session, mode, event and claimed_user. */
void audit_begin(const struct audit *a, struct audit_line *l, const char *event);

/* Add a field.  Text is escaped for JSON: control characters, quotes, and bytes that are not ASCII. */
void audit_text(struct audit_line *l, const char *name, const char *value);
void audit_bytes(struct audit_line *l, const char *name, const char *value, unsigned len);
void audit_number(struct audit_line *l, const char *name, uint64_t value);
void audit_layers(struct audit_line *l, const char *name, uint32_t layers);

/* audit_layer_names(text, size, layers): the names of layers (ipc/layers.h), with commas between. */
void audit_layer_names(char *text, size_t size, uint32_t layers);

/* audit_end(a, l): chain the record and write it with one write that does not wait. */
void audit_end(struct audit *a, struct audit_line *l);

/* audit_event(a, event, subject, reason): a whole record in one call. */
void audit_event(struct audit *a, const char *event, const char *subject, const char *reason);

#endif
