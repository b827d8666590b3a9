/* SPDX-License-Identifier: GPL-3.0-or-later
 * Both sides: what a text may hold, where a path lies, bytes as digits. */
#ifndef NARLOCK_TEXT_H
#define NARLOCK_TEXT_H

#include <stddef.h>
#include <stdint.h>

/* text_clean(s): replace control characters and bytes above 0x7e by `?', in place: nothing moves a terminal then. */
void text_clean(char *s);

/* text_plain(s, len): are all bytes printable ASCII other than the space, as in a URL? */
int text_plain(const char *s, size_t len);

/* text_strip_slashes(s): cut slashes off the end, in place; a lone one stays.  Returns the new length. */
size_t text_strip_slashes(char *s);

/* text_below(path, dir): is PATH the same as DIR or below it?  Both are absolute, without slashes at their ends. */
int text_below(const char *path, const char *dir);

/* text_hex(out, in, len): 2 * LEN lower-case digits and a NUL. */
void text_hex(char *out, const uint8_t *in, size_t len);

#endif
