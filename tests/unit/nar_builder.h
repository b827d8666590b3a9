/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: put nars together, good and bad ones. */
#ifndef NARLOCK_TESTS_NAR_BUILDER_H
#define NARLOCK_TESTS_NAR_BUILDER_H

#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct nar_builder {
	uint8_t *data;
	size_t len, room;
};

static inline void nb_raw(struct nar_builder *b, const void *bytes, size_t n)
{
	if (b->len + n > b->room) {
		b->room = (b->len + n) * 2;
		b->data = realloc(b->data, b->room);
		if (b->data == NULL)
			abort();
	}
	if (n > 0)
		memcpy(b->data + b->len, bytes, n);
	b->len += n;
}

static inline void nb_u64(struct nar_builder *b, uint64_t v)
{
	uint8_t le[8];

	for (unsigned i = 0; i < 8; i++)
		le[i] = (uint8_t)(v >> (8 * i));
	nb_raw(b, le, 8);
}

/* str(BYTES) of the format. */
static inline void nb_bytes(struct nar_builder *b, const void *bytes, size_t n)
{
	static const uint8_t zero[8];

	nb_u64(b, n);
	nb_raw(b, bytes, n);
	nb_raw(b, zero, (8 - n % 8) % 8);
}

/* Several strings; the last argument is NULL. */
__attribute__((sentinel)) static inline void nb_strs(struct nar_builder *b, ...)
{
	va_list ap;
	const char *s;

	va_start(ap, b);
	while ((s = va_arg(ap, const char *)) != NULL)
		nb_bytes(b, s, strlen(s));
	va_end(ap);
}

static inline void nb_magic(struct nar_builder *b)
{
	b->len = 0;
	nb_strs(b, "nix-archive-1", (char *)NULL);
}

static inline void nb_file(struct nar_builder *b, const void *bytes, size_t n, int executable)
{
	nb_strs(b, "(", "type", "regular", (char *)NULL);
	if (executable)
		nb_strs(b, "executable", "", (char *)NULL);
	nb_strs(b, "contents", (char *)NULL);
	nb_bytes(b, bytes, n);
	nb_strs(b, ")", (char *)NULL);
}

static inline void nb_link(struct nar_builder *b, const char *target)
{
	nb_strs(b, "(", "type", "symlink", "target", target, ")", (char *)NULL);
}

static inline void nb_dir(struct nar_builder *b)
{
	nb_strs(b, "(", "type", "directory", (char *)NULL);
}

static inline void nb_dir_end(struct nar_builder *b)
{
	nb_strs(b, ")", (char *)NULL);
}

/* An entry: nb_entry(), the node, nb_entry_end(). */
static inline void nb_entry(struct nar_builder *b, const char *name)
{
	nb_strs(b, "entry", "(", "name", name, "node", (char *)NULL);
}

static inline void nb_entry_end(struct nar_builder *b)
{
	nb_strs(b, ")", (char *)NULL);
}

static inline void nb_entry_file(struct nar_builder *b, const char *name, const char *text)
{
	nb_entry(b, name);
	nb_file(b, text, strlen(text), 0);
	nb_entry_end(b);
}

#endif
