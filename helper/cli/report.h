/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): the findings of doctor, one line each, and the worst of them. */
#ifndef NARLOCK_CLI_REPORT_H
#define NARLOCK_CLI_REPORT_H

/* OK and NOTE leave the verdict alone. */
enum finding { FINDING_OK, FINDING_NOTE, FINDING_DEGRADED, FINDING_UNSAFE };

struct report {
	enum finding worst;
};

/* report_section(title): a heading. */
void report_section(const char *title);

/* report_say(r, finding, fmt, ...): one line; control characters in it are replaced. */
void report_say(struct report *r, enum finding finding, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
