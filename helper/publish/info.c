/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): narinfos as text: their URL groups, the lines that are added to them, the files behind
 * their URLs. */
#include <stdio.h>
#include <string.h>

#include "helper/publish/info.h"

static const char digits[] = "0123456789abcdfghijklmnpqrsvwxyz";
/* Directories of a cache of `guix publish'; the first is what a URL without one means. */
const char *const info_methods[INFO_METHODS] = { "none", "gzip", "lzip", "zstd", "bzip2", "xz" };

static int
is(struct info_text key, const char *name)
{
	return key.len == strlen(name) && memcmp(key.at, name, key.len) == 0;
}

static uint64_t
number(struct info_text v)
{
	uint64_t n = 0;

	for (size_t i = 0; i < v.len; i++) {
		if (v.at[i] < '0' || v.at[i] > '9' || n > UINT64_MAX / 10 - 1)
			return 0;
		n = n * 10 + (uint64_t)(v.at[i] - '0');
	}
	return n;
}

/* A line "key: value", without the newline. */
static int
split(const char *line, size_t len, struct info_text *key, struct info_text *value)
{
	const char *colon = memchr(line, ':', len);

	if (colon == NULL)
		return -1;
	*key = (struct info_text){ line, (size_t)(colon - line) };
	*value = (struct info_text){ colon + 1, len - key->len - 1 };
	while (value->len > 0 && *value->at == ' ') {
		value->at++;
		value->len--;
	}
	while (value->len > 0 && (value->at[value->len - 1] == ' ' || value->at[value->len - 1] == '\r'))
		value->len--;
	return 0;
}

static int
begin_group(struct info *i, struct info_text url, int below)
{
	if (i->n == LIMIT_NARINFO_URLS)
		return -1;
	i->groups[i->n++] = (struct info_group){ .url = url, .compression = { info_methods[0], 4 }, .below =
	    below };
	return 0;
}

int
info_parse(struct info *i, const char *text, size_t len)
{
	struct info_group *open = NULL;
	int below = 0, signature = 0;
	size_t next;

	memset(i, 0, sizeof *i);
	if (len > LIMIT_NARINFO || memchr(text, '\0', len) != NULL)
		return -1;
	for (size_t at = 0; at < len; at = next) {
		const char *newline = memchr(text + at, '\n', len - at);
		struct info_text key, value;

		next = newline == NULL ? len : (size_t)(newline - text) + 1;
		if (split(text + at, next - at - (newline != NULL), &key, &value) != 0)
			key = value = (struct info_text){ "", 0 };
		if (is(key, "URL")) {
			if (begin_group(i, value, below) != 0)
				return -1;
			open = &i->groups[i->n - 1];
		} else if (is(key, "Signature")) {
			below = signature = 1;
			open = NULL;
		} else if (is(key, "StorePath") && i->store_path.len == 0)
			i->store_path = value;
		else if (is(key, "ERIS") || is(key, "ERIS-Manifest"))
			i->has_eris = 1;
		else if (is(key, "Compression") && open != NULL && value.len > 0)
			open->compression = value;
		else if (is(key, "FileSize") && open != NULL)
			open->file_size = number(value);
		if (open != NULL)
			open->end = next;
	}
	/* Without a signature there is nothing that lines could break. */
	for (unsigned g = 0; g < i->n && !signature; g++)
		i->groups[g].below = 1;
	return i->store_path.len > 0 && i->n > 0 ? 0 : -1;
}

const char *
info_hash_part(const struct info *i)
{
	const char *slash = memrchr(i->store_path.at, '/', i->store_path.len);
	size_t left;

	if (slash == NULL)
		return NULL;
	left = i->store_path.len - (size_t)(slash + 1 - i->store_path.at);
	return left > 33 && slash[33] == '-' && strspn(slash + 1, digits) == 32 ? slash + 1 : NULL;
}

/* --- Adding ------------------------------------------------------------------------------------------- */

static size_t
put(char *out, const struct info_lines *l)
{
	int n = sprintf(out, "ERIS: %s\n", l->urn);

	if (l->manifest[0] != '\0')
		n += sprintf(out + n, "ERIS-Manifest: %s\n", l->manifest);
	return (size_t)n;
}

/* Whether lines of the groups above the signature can be told apart: each needs both or none of them a
 * manifest. */
static int
all_known(const struct info *i, const struct info_lines *lines)
{
	for (unsigned g = 0; g < i->n; g++)
		if (i->groups[g].below || lines[g].urn[0] == '\0' ||
		    (lines[g].manifest[0] == '\0') != (lines[0].manifest[0] == '\0'))
			return 0;
	return 1;
}

size_t
info_add(char *out, const struct info *i, const char *text, size_t len, const struct info_lines *lines)
{
	size_t done = 0, n = 0;
	int at_end = !i->has_eris && all_known(i, lines);

	for (unsigned g = 0; g < i->n && !i->has_eris; g++) {
		const struct info_group *group = &i->groups[g];

		if (!group->below || lines[g].urn[0] == '\0')
			continue;
		memcpy(out + n, text + done, group->end - done);
		n += group->end - done;
		done = group->end;
		if (text[done - 1] != '\n')
			out[n++] = '\n';
		n += put(out + n, &lines[g]);
	}
	memcpy(out + n, text + done, len - done);
	n += len - done;
	if (at_end && text[len - 1] != '\n')
		out[n++] = '\n';
	for (unsigned g = 0; g < i->n && at_end; g++)
		n += put(out + n, &lines[g]);
	return n;
}

size_t
info_index(char *out, size_t size, const struct info *i, const struct info_lines *lines)
{
	size_t n = 0, known = 0;

	if (i->store_path.len + 16 > size)
		return 0;
	n = (size_t)sprintf(out, "StorePath: %.*s\n", (int)i->store_path.len, i->store_path.at);
	for (unsigned g = 0; g < i->n; g++) {
		const struct info_group *group = &i->groups[g];

		if (lines[g].urn[0] == '\0')
			continue;
		if (n + group->url.len + group->compression.len + LIMIT_URN + LIMIT_CID + 128 > size)
			return 0;
		n += (size_t)sprintf(out + n, "URL: %.*s\nCompression: %.*s\n", (int)group->url.len,
		    group->url.at,
		    (int)group->compression.len, group->compression.at);
		if (group->file_size > 0)
			n += (size_t)sprintf(out + n, "FileSize: %llu\n",
			    (unsigned long long)group->file_size);
		n += put(out + n, &lines[g]);
		known++;
	}
	return known == 0 ? 0 : n;
}

/* --- Files -------------------------------------------------------------------------------------------- */

static int
hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* URL as a path: no scheme, no host, no query, no empty name, no name that begins with a dot. */
static int
clean(char *path, size_t size, const char *url, size_t len, int decode)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		char c = url[i];

		if (c == '?' || c == '#' || c == ':')
			return -1;
		if (c == '%' && decode) {
			/* An encoded slash is a name's part for whoever encoded it: there is no such file. */
			if (i + 2 >= len || hex(url[i + 1]) < 0 || hex(url[i + 2]) < 0)
				return -1;
			c = (char)(hex(url[i + 1]) << 4 | hex(url[i + 2]));
			if (c == '/')
				return -1;
			i += 2;
		}
		if ((unsigned char)c < 0x20 || c == 0x7f || c == '\\' || n + 8 > size)
			return -1;
		if ((n == 0 || path[n - 1] == '/') && (c == '.' || c == '/'))
			return -1;
		path[n++] = c;
	}
	path[n] = '\0';
	return n > 0 && path[n - 1] != '/' ? 0 : -1;
}

int
info_file(char path[LIMIT_PATH], const char *url, size_t len, int form, int decode)
{
	char whole[LIMIT_PATH], *item, *method = NULL;
	const char *known = info_methods[0];

	if (clean(whole, sizeof whole, url, len, decode) != 0)
		return -1;
	if (form == 1) {
		memcpy(path, whole, strlen(whole) + 1);
		return 0;
	}
	item = strrchr(whole, '/');
	if (item == NULL)
		return -1;
	*item++ = '\0';
	method = strrchr(whole, '/');
	method = method == NULL ? whole : method + 1;
	for (size_t i = 1; i < INFO_METHODS; i++)
		if (strcmp(method, info_methods[i]) == 0)
			known = info_methods[i];
	return snprintf(path, LIMIT_PATH, "%s/%s.nar", known, item) < LIMIT_PATH && info_item(path) != NULL ?
	    0 : -1;
}

const char *
info_item(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash == NULL ? path : slash + 1;

	return strspn(name, digits) == 32 && name[32] == '-' ? name : NULL;
}
