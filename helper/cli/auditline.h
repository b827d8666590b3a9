/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): one record of the audit log: a strict reader of what broker/audit.c writes, and no
 * other JSON. */
#ifndef NARLOCK_CLI_AUDITLINE_H
#define NARLOCK_CLI_AUDITLINE_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/err.h"
#include "ipc/limits.h"

/* A record has about 30 fields. */
#define AUDITLINE_FIELDS 64

/* Text as it stands in the line, with its escapes: printable ASCII in any case. */
struct auditline_text {
	const char *at;
	size_t len;
};

struct auditline_field {
	struct auditline_text name, value; /* of a string without its quotes */
	char type;                         /* 's', 'n' (number) or 't' (true) */
};

/* Points into the line. */
struct auditline {
	struct auditline_field fields[AUDITLINE_FIELDS];
	size_t count;
};

/* auditline_parse(l, line, len, e): LINE without its newline: {"name":value,...} where a value is a
 * string of printable ASCII with the escapes \" \\ \uXXXX, a decimal number below 2^64 or true; no
 * spaces, no name twice.  0; or -1 with e->code ENODATA when the line is the beginning of a record and
 * ends too early, else 0. */
int auditline_parse(struct auditline *l, const char *line, size_t len, struct err *e);

/* auditline_text(l, name): the string NAME; at == NULL when there is none. */
struct auditline_text auditline_text(const struct auditline *l, const char *name);

/* auditline_number(l, name, value): 1, or 0 when there is no number NAME. */
int auditline_number(const struct auditline *l, const char *name, uint64_t *value);

/* auditline_true(l, name): whether NAME is true. */
int auditline_true(const struct auditline *l, const char *name);

/* auditline_is(t, word): whether T is WORD. */
int auditline_is(struct auditline_text t, const char *word);

#endif
