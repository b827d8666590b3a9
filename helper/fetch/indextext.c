/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): the text that an index answers with. */
#include <string.h>

#include "helper/eris/urn.h"
#include "helper/fetch/indextext.h"
#include "helper/fetch/rank.h"
#include "helper/ipfs/manifest.h"

/* What has been seen of the group at hand. */
enum { SEEN_METHOD = 1, SEEN_SIZE = 2, SEEN_ERIS = 4, SEEN_MANIFEST = 8 };

struct reader {
	struct index_answer *a;
	struct index_group group;
	uint8_t in_group, seen, useless;
	unsigned lines;
};

static void
end_group(struct reader *r)
{
	if (r->in_group && !r->useless && r->group.method != 0 && (r->group.has_cap || r->group.has_manifest) &&
	    r->a->n < INDEX_GROUPS)
		r->a->groups[r->a->n++] = r->group;
	memset(&r->group, 0, sizeof r->group);
	r->group.method = METHOD_NONE;
	r->seen = r->useless = 0;
}

static int
once(struct reader *r, uint8_t what, struct err *e)
{
	if (!r->in_group)
		return err_set(e, "a field of a group before its URL");
	if (r->seen & what)
		return err_set(e, "a field twice in one group");
	r->seen |= what;
	return 0;
}

static int
file_size(struct reader *r, const char *value)
{
	uint64_t v = 0;

	if (value[0] == '\0' || strlen(value) > 15 || value[strspn(value, "0123456789")] != '\0')
		return -1;
	for (; *value != '\0'; value++)
		v = v * 10 + (uint64_t)(*value - '0');
	r->group.file_size = v;
	return 0;
}

static int
is_path(const char *value, const char *hash_part)
{
	const char *name = strrchr(value, '/');

	return value[0] == '/' && strlen(name + 1) > HASH_PART_BYTES &&
	    memcmp(name + 1, hash_part, HASH_PART_BYTES) == 0 &&
	    name[1 + HASH_PART_BYTES] == '-';
}

static int
field(struct reader *r, const char *key, const char *value, const char *hash_part, struct err *e)
{
	struct err why;

	if (r->lines++ == 0)
		return strcmp(key, "StorePath") == 0 && is_path(value, hash_part) ? 0 :
		    err_set(e, "it does not begin with the store path that was asked for");
	if (strcmp(key, "StorePath") == 0)
		return err_set(e, "a second store path");
	if (strcmp(key, "URL") == 0) {
		end_group(r);
		r->in_group = 1;
	} else if (strcmp(key, "Compression") == 0) {
		if (once(r, SEEN_METHOD, e) != 0)
			return -1;
		r->group.method = rank_method(value);
	} else if (strcmp(key, "FileSize") == 0) {
		if (once(r, SEEN_SIZE, e) != 0 || file_size(r, value) != 0)
			return err_set(e, "a FileSize that is none or not in its place");
	} else if (strcmp(key, "ERIS") == 0) {
		if (once(r, SEEN_ERIS, e) != 0)
			return -1;
		/* An encoding of another time: this group is not for us. */
		r->group.has_cap = urn_parse(&r->group.cap, value, &why) == 0;
		r->useless |= !r->group.has_cap;
	} else if (strcmp(key, "ERIS-Manifest") == 0) {
		if (once(r, SEEN_MANIFEST, e) != 0)
			return -1;
		r->group.has_manifest = manifest_cid_parse(r->group.manifest, value, &why) == 0;
		r->useless |= !r->group.has_manifest;
	}
	return 0;
}

/* "KEY: VALUE", LEN bytes without the line end. */
static int
line(struct reader *r, const char *text, size_t len, const char *hash_part, struct err *e)
{
	char copy[LIMIT_NARINFO_LINE + 1];
	char *colon;

	if (len > LIMIT_NARINFO_LINE)
		return err_set(e, "a line that is too long");
	for (size_t i = 0; i < len; i++)
		if (text[i] < ' ' || text[i] > '~')
			return err_set(e, "a character that does not belong there");
	memcpy(copy, text, len);
	copy[len] = '\0';
	colon = strchr(copy, ':');
	if (colon == NULL || colon == copy || colon[1] != ' ')
		return err_set(e, "a line that is no field");
	*colon = '\0';
	return field(r, copy, colon + 2, hash_part, e);
}

int
indextext_parse(struct index_answer *a, const char *text, size_t len,
    const char hash_part[HASH_PART_BYTES + 1], struct err *e)
{
	struct reader r = { .a = a };
	const char *end = text + len;

	a->n = 0;
	if (len > INDEX_MAX)
		return err_set(e, "index: more than %d bytes", INDEX_MAX);
	while (text < end) {
		const char *stop = memchr(text, '\n', (size_t)(end - text));
		struct err why;

		if (stop == NULL)
			return err_set(e, "index: the last line does not end");
		if (line(&r, text, (size_t)(stop - text), hash_part, &why) != 0)
			return err_set(e, "index: %s", why.text);
		text = stop + 1;
	}
	if (r.lines == 0)
		return err_set(e, "index: nothing");
	end_group(&r);
	return 0;
}

const struct index_group *
indextext_match(const struct index_answer *a, uint8_t method, uint64_t size)
{
	for (size_t i = 0; i < a->n; i++) {
		const struct index_group *g = &a->groups[i];

		if (g->method == method && (g->file_size == 0 || size == 0 || g->file_size == size))
			return g;
	}
	return NULL;
}
