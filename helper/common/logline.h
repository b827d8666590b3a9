/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (all): one line on the log channel, descriptor 2. */
#ifndef NARLOCK_LOGLINE_H
#define NARLOCK_LOGLINE_H

/* logline(fmt, ...): write one line, without a newline, as one packet; cut at LIMIT_LOG_LINE bytes.  The
 * broker cleans it and shows it to the user.  Never fails visibly: a log that is gone loses the line. */
void logline(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
