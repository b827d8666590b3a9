/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): the findings of doctor, one line each, and the worst of them. */
#include <stdarg.h>
#include <stdio.h>

#include "helper/cli/report.h"

void report_section(const char *title)
{
	printf("%s\n", title);
}

void report_say(struct report *r, enum finding finding, const char *fmt, ...)
{
	static const char *const words[] = { "ok", "note", "DEGRADED", "UNSAFE" };
	char line[1024];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	/* Reasons quote file names and what servers say. */
	for (char *p = line; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	printf("  %-9s %s\n", words[finding], line);
	if (finding > r->worst)
		r->worst = finding;
}
