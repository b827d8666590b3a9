/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): the lines of an audit log, whatever is in it. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "helper/cli/auditread.h"

int
auditread_open(struct auditread *r, const char *path, struct err *e)
{
	r->start = r->end = 0;
	r->eof = 0;
	r->fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	return r->fd < 0 ? err_sys(e, errno, "%s", path) : 0;
}

void
auditread_close(struct auditread *r)
{
	if (r->fd > STDIN_FILENO)
		close(r->fd);
	r->fd = -1;
}

static int
fill(struct auditread *r, struct err *e)
{
	ssize_t n;

	if (r->start > 0)
		memmove(r->buf, r->buf + r->start, r->end - r->start);
	r->end -= r->start;
	r->start = 0;
	while ((n = read(r->fd, r->buf + r->end, sizeof r->buf - r->end)) < 0 && errno == EINTR)
		;
	if (n < 0)
		return err_sys(e, errno, "cannot read the log");
	r->eof = n == 0;
	r->end += (size_t)n;
	return 0;
}

int
auditread_line(struct auditread *r, const char **line, size_t *len, int *complete, struct err *e)
{
	const struct timespec moment = { 0, 50000000 };
	const char *newline = NULL;
	size_t seen = 0;
	int looked = 0;

	while ((newline = memchr(r->buf + r->start + seen, '\n', r->end - r->start - seen)) == NULL) {
		seen = r->end - r->start;
		if (seen == sizeof r->buf)
			break;
		if (r->eof) { /* somebody may be writing the rest at this moment */
			if (seen == 0 || looked++)
				break;
			(void)nanosleep(&moment, NULL);
		}
		if (fill(r, e) != 0)
			return -1;
	}
	*line = r->buf + r->start;
	*complete = newline != NULL || !r->eof;
	*len = newline != NULL ? (size_t)(newline - *line) : r->end - r->start;
	r->start += *len + (newline != NULL);
	return newline != NULL || *len > 0;
}
