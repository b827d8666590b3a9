/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (heal): lines on standard error, which is nobody's channel here: in place of
 * helper/common/logline.c. */
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "helper/common/logline.h"
#include "ipc/limits.h"

void
logline(const char *fmt, ...)
{
	static const char name[] = "narlock-heal: ";
	char line[sizeof name + LIMIT_LOG_LINE + 1];
	size_t at = sizeof name - 1, room = sizeof line - at - 1;
	va_list args;
	int n;

	(void)snprintf(line, sizeof line, "%s", name);
	va_start(args, fmt);
	n = vsnprintf(line + at, room, fmt, args);
	va_end(args);
	if (n < 0)
		return;
	n = (size_t)n < room ? n : (int)room - 1;
	for (int i = 0; i < n; i++)
		if (line[at + (size_t)i] < ' ' || line[at + (size_t)i] > '~')
			line[at + (size_t)i] = '?';
	line[at + (size_t)n] = '\n';
	if (write(STDERR_FILENO, line, at + (size_t)n + 1) < 0)
		return;
}
