/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: lines for the user, on descriptor 2, which guix-daemon passes on raw. */
#ifndef NARLOCK_BROKER_LOG_H
#define NARLOCK_BROKER_LOG_H

/* log_say(fmt, ...): one line "narlock: ..." in one write, made safe by text_clean.  The caller's text must not end in a
 * newline. */
void log_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
