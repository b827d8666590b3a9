/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: lines for the user, on descriptor 2, which guix-daemon passes on raw. */
#ifndef NARLOCK_BROKER_LOG_H
#define NARLOCK_BROKER_LOG_H

#include <stddef.h>

/* log_say(fmt, ...): one line "narlock: ..." in one write, made safe by log_clean.  The caller's text must not end in a
 * newline. */
void log_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* log_clean(text): replace control characters and bytes above 0x7e by '?', in place. */
void log_clean(char *text);

#endif
