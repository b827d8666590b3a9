/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): the findings of doctor, one line each, and the worst of them. */
#ifndef NARLOCK_CLI_REPORT_H
#define NARLOCK_CLI_REPORT_H

/* OK and NOTE leave the verdict alone. */
enum finding { FINDING_OK, FINDING_NOTE, FINDING_DEGRADED, FINDING_UNSAFE };

struct report {
	enum finding worst;
	int json;            /* all of it is one JSON object, with one finding a line */
	unsigned count;
	const char *section;
};

/* report_section(r, title): a heading; TITLE has to live as long as R. */
void report_section(struct report *r, const char *title);

/* report_say(r, finding, fmt, ...): one line; control characters in it are replaced. */
void report_say(struct report *r, enum finding finding, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* report_end(r): the verdict, on standard output as all of it.  -1 when that cannot be written. */
int report_end(struct report *r);

#endif
