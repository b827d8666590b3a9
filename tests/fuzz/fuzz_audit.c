/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: fuzz the reader of the audit log and the check of its chain: no crash, and nothing unprintable is told. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "broker/crypto.h"
#include "helper/cli/auditchain.h"
#include "helper/cli/auditline.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
tell(void *owner, enum auditchain_level level, const char *file, uint64_t line, const char *what)
{
	(void)owner;
	(void)level;
	(void)file;
	(void)line;
	for (; *what != '\0'; what++)
		if (*what < ' ' || *what > '~')
			abort();
}

static void
one(struct auditchain *c, const char *line, size_t len, int complete)
{
	struct err why = { 0, "" };
	struct auditline l;

	if (auditline_parse(&l, line, len, &why) != 0)
		l.count = 0;
	for (size_t i = 0; i < len && l.count > 0; i++)
		if (line[i] < ' ' || line[i] > '~')
			abort();
	for (size_t i = 0; i < l.count; i++)
		if (l.fields[i].value.at < line || l.fields[i].value.at + l.fields[i].value.len > line + len)
			abort();
	if (auditchain_line(c, line, len, complete, &l, &why) != 0)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int ready;
	struct auditchain *c = auditchain_new(tell, NULL);
	const char *p = (const char *)data, *end = p + size, *newline;
	struct err e;

	if (c == NULL || (!ready && crypto_init(&e) < 0))
		abort();
	ready = 1;
	auditchain_file(c, "one");
	for (; p < end; p = newline + 1) {
		if ((newline = memchr(p, '\n', (size_t)(end - p))) == NULL) {
			one(c, p, (size_t)(end - p), 0);
			break;
		}
		one(c, p, (size_t)(newline - p), 1);
		if (newline - p == 1)
			auditchain_file(c, "two");
	}
	auditchain_end(c);
	auditchain_free(c);
	return 0;
}
