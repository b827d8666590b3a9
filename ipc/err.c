/* SPDX-License-Identifier: GPL-3.0-or-later
 * Both sides: an error is a value with a reason. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ipc/err.h"
#include "ipc/text.h"

/* A reason often quotes what a stranger sent: nothing in it may move a terminal. */
static void fill(struct err *e, int errnum, const char *fmt, va_list ap)
{
	size_t used;

	if (e == NULL)
		return;
	e->code = errnum;
	(void)vsnprintf(e->text, sizeof e->text, fmt, ap);
	text_clean(e->text);
	used = strlen(e->text);
	if (errnum != 0)
		(void)snprintf(e->text + used, sizeof e->text - used, ": %s", strerror(errnum));
}

int err_set(struct err *e, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fill(e, 0, fmt, ap);
	va_end(ap);
	return -1;
}

int err_sys(struct err *e, int errnum, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fill(e, errnum, fmt, ap);
	va_end(ap);
	return -1;
}
