/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (all): one line on the log channel, descriptor 2. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "helper/common/logline.h"
#include "ipc/limits.h"

void
logline(const char *fmt, ...)
{
	char line[LIMIT_LOG_LINE + 1];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (n <= 0)
		return;
	if (n > LIMIT_LOG_LINE)
		n = LIMIT_LOG_LINE;
	/* One write is one packet; stdio could make two of it. */
	while (write(STDERR_FILENO, line, (size_t)n) < 0 && errno == EINTR)
		continue;
}
