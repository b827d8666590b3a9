/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): one record of the audit log: a strict reader of what broker/audit.c writes, and no
 * other JSON. */
#include <errno.h>
#include <string.h>

#include "helper/cli/auditline.h"

struct cursor {
	const char *p, *end;
	struct err *e;
};

static int
wrong(const struct cursor *c, const char *what)
{
	int short_of = c->p == c->end;

	err_set(c->e, "%s", short_of ? "it ends in the middle of a record" : what);
	c->e->code = short_of ? ENODATA : 0;
	return -1;
}

static int
take(struct cursor *c, const char *literal)
{
	for (; *literal != '\0'; literal++, c->p++)
		if (c->p == c->end || *c->p != *literal)
			return wrong(c, "it is no record");
	return 0;
}

static int
is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static int
escape(struct cursor *c)
{
	c->p++;
	if (c->p < c->end && (*c->p == '"' || *c->p == '\\'))
		return (void)c->p++, 0;
	if (take(c, "u") != 0)
		return -1;
	for (int i = 0; i < 4; i++, c->p++)
		if (c->p == c->end || !is_hex(*c->p))
			return wrong(c, "an escape that no record has");
	return 0;
}

static int
string(struct cursor *c, struct auditline_text *t)
{
	if (take(c, "\"") != 0)
		return -1;
	t->at = c->p;
	while (c->p < c->end && *c->p != '"') {
		if (*c->p < 0x20 || *c->p > 0x7e)
			return wrong(c, "a byte that no record has");
		if (*c->p != '\\')
			c->p++;
		else if (escape(c) != 0)
			return -1;
	}
	t->len = (size_t)(c->p - t->at);
	return take(c, "\"");
}

static int
digits(const struct auditline_text *t, uint64_t *value)
{
	*value = 0;
	for (size_t i = 0; i < t->len; i++) {
		unsigned d = (unsigned)(t->at[i] - '0');

		if (*value > (UINT64_MAX - d) / 10)
			return -1;
		*value = *value * 10 + d;
	}
	return t->len > 0 && (t->len == 1 || t->at[0] != '0') ? 0 : -1;
}

static int
value(struct cursor *c, struct auditline_field *f)
{
	uint64_t number;

	f->type = 's';
	if (c->p < c->end && *c->p == '"')
		return string(c, &f->value);
	f->value.at = c->p;
	if (c->p < c->end && *c->p == 't') {
		f->type = 't';
		f->value.len = 4;
		return take(c, "true");
	}
	f->type = 'n';
	while (c->p < c->end && *c->p >= '0' && *c->p <= '9')
		c->p++;
	f->value.len = (size_t)(c->p - f->value.at);
	return digits(&f->value, &number) == 0 ? 0 : wrong(c, "a value that no record has");
}

static int
same(struct auditline_text a, struct auditline_text b)
{
	return a.len == b.len && memcmp(a.at, b.at, a.len) == 0;
}

int
auditline_parse(struct auditline *l, const char *line, size_t len, struct err *e)
{
	struct cursor c = { line, line + len, e };

	l->count = 0;
	if (len > LIMIT_AUDIT_LINE)
		return err_set(e, "it is longer than any record");
	if (take(&c, "{") != 0)
		return -1;
	for (;;) {
		struct auditline_field *f = &l->fields[l->count];

		if (l->count == AUDITLINE_FIELDS)
			return err_set(e, "it has more fields than any record");
		if (string(&c, &f->name) != 0 || take(&c, ":") != 0 || value(&c, f) != 0)
			return -1;
		for (size_t i = 0; i < l->count; i++)
			if (same(l->fields[i].name, f->name))
				return err_set(e, "it has a field twice");
		l->count++;
		if (c.p < c.end && *c.p == '}')
			break;
		if (take(&c, ",") != 0)
			return -1;
	}
	return c.p + 1 == c.end ? 0 : err_set(e, "there is something behind the record");
}

int
auditline_is(struct auditline_text t, const char *word)
{
	return t.at != NULL && t.len == strlen(word) && memcmp(t.at, word, t.len) == 0;
}

static const struct auditline_field *
find(const struct auditline *l, const char *name, char type)
{
	for (size_t i = 0; i < l->count; i++)
		if (l->fields[i].type == type && auditline_is(l->fields[i].name, name))
			return &l->fields[i];
	return NULL;
}

struct auditline_text
auditline_text(const struct auditline *l, const char *name)
{
	const struct auditline_field *f = find(l, name, 's');

	return f != NULL ? f->value : (struct auditline_text){ NULL, 0 };
}

int
auditline_number(const struct auditline *l, const char *name, uint64_t *number)
{
	const struct auditline_field *f = find(l, name, 'n');

	*number = 0;
	return f != NULL && digits(&f->value, number) == 0;
}

int
auditline_true(const struct auditline *l, const char *name)
{
	return find(l, name, 't') != NULL;
}
