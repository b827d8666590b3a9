/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: lines for the user, on descriptor 2, which guix-daemon passes on raw. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "broker/broker.h"
#include "broker/file.h"
#include "broker/log.h"
#include "ipc/text.h"

void log_say(const char *fmt, ...)
{
	char line[1200] = "narlock: ";
	size_t n = strlen(line);
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(line + n, sizeof line - n - 1, fmt, ap);
	va_end(ap);
	text_clean(line);
	n = strlen(line);
	line[n++] = '\n';
	(void)file_write_all(FD_LOG, line, n);
}
