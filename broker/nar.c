/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: a strict, iterative pull reader of the nar format, over memory that already matched NarHash. */
#include <stdio.h>
#include <string.h>

#include "broker/nar.h"

const char *nar_tail(const char *path)
{
	size_t len = strlen(path);

	return len > NAR_TAIL ? path + len - NAR_TAIL : path;
}

/* Fail for good, with WHAT is wrong with the entry at PATH, near offset AT. */
static int refuse(struct nar_reader *r, uint64_t at, const char *what, struct err *e)
{
	r->state = NAR_FAILED;
	return err_set(e, "bad nar: %s, near entry \"%s\" at byte %llu", what, nar_tail(r->path),
	               (unsigned long long)at);
}

/* The next string of at most MAX bytes.  Compares with what is left before adding anything, so no length can
 * overflow; looks at the padding but never at the string. */
static int take(struct nar_reader *r, uint64_t max, const uint8_t **data, uint64_t *len, struct err *e)
{
	uint64_t at = r->pos, left = r->size - r->pos, n = 0;
	unsigned pad;

	if (left < 8)
		return refuse(r, at, "cut short", e);
	for (unsigned i = 0; i < 8; i++)
		n |= (uint64_t)r->nar[at + i] << (8 * i);
	left -= 8;
	pad = (unsigned)(-n & 7);
	if (n > max)
		return refuse(r, at, "a string is too long", e);
	if (n > left || pad > left - n)
		return refuse(r, at, "cut short", e);
	*data = r->nar + at + 8;
	*len = n;
	for (unsigned i = 0; i < pad; i++)
		if ((*data)[n + i] != 0)
			return refuse(r, at + 8 + n + i, "padding is not zero", e);
	r->pos = at + 8 + n + pad;
	return 0;
}

/* Is TOKEN next?  Takes it if so. */
static bool accept(struct nar_reader *r, const char *token)
{
	uint8_t want[32] = { 0 }; /* the longest token, "nix-archive-1", takes 24 */
	size_t len = strlen(token), total = 8 + ((len + 7) & ~(size_t)7);

	want[0] = (uint8_t)len;
	memcpy(want + 8, token, len);
	if (r->size - r->pos < total || memcmp(r->nar + r->pos, want, total) != 0)
		return false;
	r->pos += total;
	return true;
}

static int expect(struct nar_reader *r, const char *token, struct err *e)
{
	char what[48];

	if (accept(r, token))
		return 0;
	(void)snprintf(what, sizeof what, "\"%s\" expected", token);
	return refuse(r, r->pos, what, e);
}

/* -1, 0, 1 like strcmp, for names that may hold any byte. */
static int compare(const void *a, size_t a_len, const void *b, size_t b_len)
{
	int d = memcmp(a, b, a_len < b_len ? a_len : b_len);

	return d != 0 ? d : (a_len > b_len) - (a_len < b_len);
}

/* The name of an entry: check it, and make it the end of PATH.  The previous sibling's name is still there:
 * it was the last component of the last path, also when that sibling was a directory and has just ended. */
static int take_name(struct nar_reader *r, struct nar_event *event, struct err *e)
{
	const uint8_t *name;
	uint64_t at = r->pos, len64;
	size_t len, start = r->dir_len + (r->dir_len > 0);
	char what[128];
	const char *wrong = NULL;

	if (take(r, LIMIT_NAR_NAME, &name, &len64, e) == -1)
		return -1;
	len = (size_t)len64;
	if (len == 0)
		wrong = "an empty name";
	else if (memchr(name, '/', len) != NULL || memchr(name, '\0', len) != NULL)
		wrong = "a name with a slash or NUL";
	else if (compare(name, len, ".", 1) == 0 || compare(name, len, "..", 2) == 0)
		wrong = "a name that leaves its directory";
	else if (r->last_len != 0 && compare(r->path + r->last, r->last_len, name, len) >= 0)
		wrong = "names out of order or twice";
	else if (start + len > LIMIT_NAR_PATH)
		wrong = "a path that is too long";
	if (wrong != NULL) {
		(void)snprintf(what, sizeof what, "%s (\"%.*s\")", wrong, len < 80 ? (int)len : 80, (const char *)name);
		r->path[r->dir_len] = '\0';
		return refuse(r, at, what, e);
	}
	if (r->dir_len > 0)
		r->path[r->dir_len] = '/';
	memcpy(r->path + start, name, len);
	r->path[start + len] = '\0';
	r->last = start;
	r->last_len = len;
	event->name = (const char *)name;
	event->name_len = len;
	return 0;
}

/* The end of a node, and of the entry that holds it unless it is the top. */
static int close_node(struct nar_reader *r, struct err *e)
{
	if (expect(r, ")", e) == -1 || (r->depth > 0 && expect(r, ")", e) == -1))
		return -1;
	r->state = r->depth > 0 ? NAR_IN_DIRECTORY : NAR_AT_END;
	return 0;
}

static int take_regular(struct nar_reader *r, struct nar_event *event, struct err *e)
{
	event->kind = NAR_REGULAR;
	event->executable = accept(r, "executable");
	if ((event->executable && expect(r, "", e) == -1) || expect(r, "contents", e) == -1 ||
	    take(r, r->size, &event->data, &event->size, e) == -1)
		return -1;
	return close_node(r, e);
}

static int take_symlink(struct nar_reader *r, struct nar_event *event, struct err *e)
{
	uint64_t at;

	event->kind = NAR_SYMLINK;
	if (expect(r, "target", e) == -1)
		return -1;
	at = r->pos;
	if (take(r, LIMIT_NAR_TARGET, &event->data, &event->size, e) == -1)
		return -1;
	if (event->size == 0 || memchr(event->data, '\0', (size_t)event->size) != NULL)
		return refuse(r, at, "a symbolic link's target is empty or holds NUL", e);
	return close_node(r, e);
}

static int take_node(struct nar_reader *r, struct nar_event *event, struct err *e)
{
	if (expect(r, "(", e) == -1 || expect(r, "type", e) == -1)
		return -1;
	if (accept(r, "regular"))
		return take_regular(r, event, e);
	if (accept(r, "symlink"))
		return take_symlink(r, event, e);
	if (!accept(r, "directory"))
		return refuse(r, r->pos, "unknown type", e);
	event->kind = NAR_DIRECTORY;
	r->dir_len = strlen(r->path);
	r->last_len = 0;
	r->depth++;
	r->state = NAR_IN_DIRECTORY;
	return 0;
}

/* Close the innermost directory.  Its own name, the last component of its path, becomes the previous
 * sibling's. */
static int end_directory(struct nar_reader *r, struct nar_event *event, struct err *e)
{
	const char *slash;

	r->path[r->dir_len] = '\0';
	r->depth--;
	event->kind = NAR_DIRECTORY_END;
	slash = memrchr(r->path, '/', r->dir_len);
	r->last = slash != NULL ? (size_t)(slash - r->path) + 1 : 0;
	r->last_len = r->dir_len - r->last;
	r->dir_len = slash != NULL ? (size_t)(slash - r->path) : 0;
	return close_node(r, e);
}

void nar_open(struct nar_reader *r, const uint8_t *nar, uint64_t size)
{
	memset(r, 0, sizeof *r);
	r->nar = nar;
	r->size = size;
	r->state = NAR_AT_START;
}

int nar_next(struct nar_reader *r, struct nar_event *event, struct err *e)
{
	memset(event, 0, sizeof *event);
	switch (r->state) {
	case NAR_AT_START:
		if (expect(r, "nix-archive-1", e) == -1)
			return -1;
		return take_node(r, event, e);
	case NAR_IN_DIRECTORY:
		if (!accept(r, "entry"))
			return end_directory(r, event, e);
		if (expect(r, "(", e) == -1 || expect(r, "name", e) == -1 || take_name(r, event, e) == -1 ||
		    expect(r, "node", e) == -1)
			return -1;
		return take_node(r, event, e);
	case NAR_AT_END:
		r->path[0] = '\0';
		if (r->pos != r->size)
			return refuse(r, r->pos, "bytes after the end", e);
		event->kind = NAR_END;
		return 0;
	default:
		return err_set(e, "bad nar: refused before");
	}
}
