/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): the findings of doctor, one line each, and the worst of them. */
#include <stdarg.h>
#include <stdio.h>

#include "helper/cli/report.h"

/* What the verdict is called; a note is none. */
static const char *const verdicts[] = { "good", "good", "degraded", "unsafe" };

void report_section(struct report *r, const char *title)
{
	r->section = title;
	if (!r->json)
		printf("%s\n", title);
}

static void json_string(const char *text)
{
	putchar('"');
	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < 0x20 || c > 0x7e)
			printf("\\u%04x", c);
		else
			printf(c == '"' || c == '\\' ? "\\%c" : "%c", c);
	}
	putchar('"');
}

static void say_json(struct report *r, enum finding finding, const char *line)
{
	static const char *const words[] = { "ok", "note", "degraded", "unsafe" };

	printf(r->count++ == 0 ? "{\"findings\":[\n" : ",\n");
	printf("{\"section\":");
	json_string(r->section != NULL ? r->section : "");
	printf(",\"level\":\"%s\",\"text\":", words[finding]);
	json_string(line);
	putchar('}');
}

int report_end(struct report *r)
{
	if (!r->json)
		printf("verdict: %s\n", verdicts[r->worst]);
	else
		printf("%s],\"verdict\":\"%s\",\"status\":%d}\n", r->count == 0 ? "{\"findings\":[" : "\n",
		    verdicts[r->worst],
		    r->worst > FINDING_NOTE ? (int)r->worst - FINDING_NOTE : 0);
	return fflush(stdout) == 0 ? 0 : -1;
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
	if (r->json)
		say_json(r, finding, line);
	else
		printf("  %-9s %s\n", words[finding], line);
	if (finding > r->worst)
		r->worst = finding;
}
