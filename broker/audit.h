/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: the audit log: one JSON object a line, appended. */
#ifndef NARLOCK_BROKER_AUDIT_H
#define NARLOCK_BROKER_AUDIT_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/limits.h"

struct audit {
	int fd;             /* -1: no log */
	const char *mode;   /* "query", "substitute", ... */
	char session[40];   /* pid and start, the same in each line of one process */
	unsigned long lost; /* records that could not be written */
	int torn;           /* the last one was written in part */
};

/* One record under construction.  Fields that do not fit are dropped, and the record says so. */
struct audit_line {
	char text[LIMIT_AUDIT_LINE];
	unsigned len;
	int full;
};

/* audit_open(a, path, mode): open PATH for appending, mode 0640.  Failure is told once on descriptor 2, never
 * fatal.  An empty PATH means no log. */
void audit_open(struct audit *a, const char *path, const char *mode);

/* audit_begin(a, l, event): start a record with time, session, mode and event. */
void audit_begin(const struct audit *a, struct audit_line *l, const char *event);

/* Add a field.  Text is escaped for JSON: control characters, quotes, and bytes that are not ASCII. */
void audit_text(struct audit_line *l, const char *name, const char *value);
void audit_bytes(struct audit_line *l, const char *name, const char *value, unsigned len);
void audit_number(struct audit_line *l, const char *name, uint64_t value);
void audit_layers(struct audit_line *l, const char *name, uint32_t layers);

/* audit_layer_names(text, size, layers): the names of layers (ipc/layers.h), with commas between. */
void audit_layer_names(char *text, size_t size, uint32_t layers);

/* audit_end(a, l): write the record with one write that does not wait. */
void audit_end(struct audit *a, struct audit_line *l);

/* audit_event(a, event, subject, reason): a whole record in one call. */
void audit_event(struct audit *a, const char *event, const char *subject, const char *reason);

#endif
