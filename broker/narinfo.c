/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: a strict reader of narinfos, the signed descriptions of store items. */
#include "broker/narinfo.h"

#include <stdlib.h>
#include <string.h>

#include "broker/crypto.h"
#include "broker/nixbase32.h"
#include "broker/storepath.h"
#include "ipc/text.h"

/* Fields up to LAST_TRUSTED decide something and are single. */
enum field {
	STORE_PATH, NAR_HASH, NAR_SIZE, REFERENCES, DERIVER, SIGNATURE, URL, COMPRESSION, FILE_SIZE, ERIS, MANIFEST, OTHER
};
#define LAST_TRUSTED SIGNATURE

static const char *const field_names[OTHER] = {
	"StorePath", "NarHash", "NarSize", "References", "Deriver", "Signature",
	"URL", "Compression", "FileSize", "ERIS", "ERIS-Manifest",
};

/* Lines that stood above all URLs of their part.  Those of one that cannot be used count, but have no text. */
struct above {
	struct narinfo_text at[LIMIT_NARINFO_URLS];
	size_t count;
};

struct parser {
	struct narinfo *ni;
	const char *store_dir;
	struct err *e;
	unsigned seen;		/* one bit a field */
	enum field last;	/* of the line before, for continuation lines */
	bool open_group;	/* the last URL was kept as a group */
	size_t urls, urls_signed; /* lines, usable or not, and those of the signed part */
	size_t place[LIMIT_NARINFO_URLS]; /* of each group's URL among them */
	struct above above[2][2]; /* unsigned, signed; ERIS, MANIFEST */
	struct narinfo_text *blocks; /* where the last ERIS or ERIS-Manifest went, if anywhere */
};

/* Bytes of the character at P, 0 when it is malformed UTF-8 or a control character. */
static size_t char_len(const unsigned char *p, size_t left)
{
	static const uint32_t least[] = { 0, 0, 0xa0, 0x800, 0x10000 };
	size_t n = p[0] < 0x80 ? 1 : p[0] < 0xc0 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	uint32_t c;

	if (n == 1)
		return p[0] >= 0x20 && p[0] != 0x7f;
	if (n == 0 || n > left)
		return 0;
	c = p[0] & (n == 4 ? 0x0fu : 0xffu >> (n + 1));
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3fu);
	}
	return c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : n;
}

/* Text only: what is signed is characters to the signer and bytes to us: there must be one reading. */
static int check_characters(const char *text, size_t len, struct err *e)
{
	for (size_t i = 0, n; i < len; i += n) {
		n = text[i] == '\n' ? 1 : char_len((const unsigned char *)text + i, len - i);
		if (n == 0)
			return err_set(e, "control character or malformed UTF-8 at byte %zu of narinfo", i);
	}
	return 0;
}

static bool parse_decimal(struct narinfo_text v, uint64_t max, uint64_t *out)
{
	uint64_t n = 0;

	if (v.len == 0 || v.len > 19 || (v.len > 1 && v.at[0] == '0'))
		return false;
	for (size_t i = 0; i < v.len; i++) {
		if (v.at[i] < '0' || v.at[i] > '9')
			return false;
		n = n * 10 + (uint64_t)(v.at[i] - '0');
	}
	*out = n;
	return n <= max;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int parse_nar_hash(struct parser *p, struct narinfo_text v)
{
	uint8_t *out = p->ni->nar_hash;

	if (v.len < 7 || memcmp(v.at, "sha256:", 7) != 0)
		return err_set(p->e, "NarHash is not sha256");
	v.at += 7, v.len -= 7;
	if (v.len != 64 && nixbase32_decode(out, 32, v.at, v.len) < 0)
		return err_set(p->e, "NarHash is malformed");
	if (v.len != 64)
		return 0;
	for (size_t i = 0; i < 32; i++) {
		int hi = hex_digit(v.at[2 * i]), lo = hex_digit(v.at[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return err_set(p->e, "NarHash is malformed");
		out[i] = (uint8_t)(hi << 4 | lo);
	}
	return 0;
}

static int parse_references(struct parser *p, struct narinfo_text v)
{
	struct narinfo_text ref = { NULL, 0 };

	p->ni->references = v;
	while (narinfo_next_reference(p->ni, &ref)) {
		if (!storepath_base_ok(ref.at, ref.len))
			return err_set(p->e, "References names something that is not a store item");
		if (++p->ni->reference_count > LIMIT_REFERENCES)
			return err_set(p->e, "References has more than %d items", LIMIT_REFERENCES);
	}
	return 0;
}

static int parse_deriver(struct parser *p, struct narinfo_text v)
{
	if (v.len == 0 || (v.len == 15 && memcmp(v.at, "unknown-deriver", 15) == 0))
		return 0;
	if (!storepath_base_ok(v.at, v.len) || memcmp(v.at + v.len - 4, ".drv", 4) != 0)
		return err_set(p->e, "Deriver is not the name of a derivation");
	p->ni->deriver = v;
	return 0;
}

/* A URL opens a group; one that cannot be used, or is too many, swallows its Compression and FileSize. */
static void open_group(struct parser *p, struct narinfo_text v)
{
	struct narinfo *ni = p->ni;

	/* A group that got no Compression gives its place up. */
	if (p->open_group && !ni->groups[ni->group_count - 1].compression.at)
		ni->group_count--;
	p->open_group = v.len > 0 && v.len <= LIMIT_URL && ni->group_count < LIMIT_NARINFO_URLS && text_plain(v.at, v.len);
	if (p->open_group) {
		memset(&ni->groups[ni->group_count], 0, sizeof ni->groups[0]);
		p->place[ni->group_count] = p->urls - 1;
		ni->groups[ni->group_count++].url = v;
	}
}

static bool is_signed(const struct parser *p, struct narinfo_text v)
{
	return v.at < p->ni->text + p->ni->signed_len;
}

static struct narinfo_text *blocks_of(struct narinfo_group *g, enum field f)
{
	return f == ERIS ? &g->eris : &g->manifest;
}

/* An ERIS or ERIS-Manifest.  The first one of a URL counts; one that cannot be used is as none, but keeps its place. */
static void parse_blocks(struct parser *p, enum field f, struct narinfo_text v)
{
	bool by_signer = is_signed(p, v);
	bool ok = v.len > 0 && v.len <= (f == ERIS ? LIMIT_URN : LIMIT_CID) && text_plain(v.at, v.len);
	struct above *above = &p->above[by_signer][f == MANIFEST];

	p->blocks = NULL;
	if (p->urls == (by_signer ? 0 : p->urls_signed)) {
		if (above->count < LIMIT_NARINFO_URLS)
			p->blocks = &above->at[above->count];
		above->count++;
	} else if (p->open_group) {
		p->blocks = blocks_of(&p->ni->groups[p->ni->group_count - 1], f);
	}
	if (p->blocks && (!ok || p->blocks->at))
		p->blocks = NULL;
	if (p->blocks)
		*p->blocks = v;
}

/* Now that all URLs are known: give them what stood above them. */
static void assign_above(struct parser *p, enum field f, bool by_signer)
{
	const struct above *above = &p->above[by_signer][f == MANIFEST];

	for (size_t i = 0; i < p->ni->group_count && above->count == p->urls; i++) {
		struct narinfo_text *place = blocks_of(&p->ni->groups[i], f), v;

		if (p->place[i] >= LIMIT_NARINFO_URLS || (v = above->at[p->place[i]]).at == NULL)
			continue;
		if (place->at == NULL || (by_signer && !is_signed(p, *place)))
			*place = v;
	}
}

static int parse_field(struct parser *p, enum field f, struct narinfo_text v)
{
	struct narinfo *ni = p->ni;
	struct narinfo_group *group = p->open_group ? &ni->groups[ni->group_count - 1] : NULL;
	uint64_t size;

	switch (f) {
	case STORE_PATH:
		if (!storepath_base(v.at, v.len, p->store_dir))
			return err_set(p->e, "StorePath is not an item of %s", p->store_dir);
		ni->store_path = v;
		return 0;
	case NAR_HASH:
		return parse_nar_hash(p, v);
	case NAR_SIZE:
		if (!parse_decimal(v, LIMIT_NAR_SIZE, &ni->nar_size) || ni->nar_size == 0)
			return err_set(p->e, "NarSize is malformed or absurd");
		return 0;
	case REFERENCES:
		return parse_references(p, v);
	case DERIVER:
		return parse_deriver(p, v);
	case SIGNATURE:
		ni->signature = v;
		return 0;
	case URL:
		p->urls++;
		p->urls_signed += is_signed(p, v);
		open_group(p, v);
		return 0;
	case COMPRESSION:
		if (group && !group->compression.at)
			group->compression = v;
		return 0;
	case FILE_SIZE:
		if (group && group->file_size == 0 && parse_decimal(v, INT64_MAX, &size))
			group->file_size = size;
		return 0;
	case ERIS:
	case MANIFEST:
		parse_blocks(p, f, v);
		return 0;
	case OTHER:
		break;
	}
	return 0;
}

static enum field find_field(const char *key, size_t len)
{
	for (int f = 0; f < OTHER; f++)
		if (strlen(field_names[f]) == len && memcmp(field_names[f], key, len) == 0)
			return (enum field)f;
	return OTHER;
}

static int parse_line(struct parser *p, const char *line, size_t len)
{
	const char *colon = memchr(line, ':', len);
	struct narinfo_text v;
	enum field f;

	if (line[0] == '#')
		return 0;
	if (line[0] == '+' && p->last < ERIS)
		return err_set(p->e, "narinfo continues a field over two lines");
	if (line[0] == '+' && p->last < OTHER && p->blocks)
		*p->blocks = (struct narinfo_text){ NULL, 0 };
	if (line[0] == '+')
		return 0;
	if (!colon || colon == line || memchr(line, ' ', (size_t)(colon - line)))
		return err_set(p->e, "narinfo has a line that is no field");
	f = p->last = find_field(line, (size_t)(colon - line));
	if (len > LIMIT_NARINFO_LINE && f != REFERENCES)
		return err_set(p->e, "narinfo has a line of more than %d bytes", LIMIT_NARINFO_LINE);
	if (f <= LAST_TRUSTED && p->seen & 1u << f)
		return err_set(p->e, "narinfo has %s twice", field_names[f]);
	if (f < SIGNATURE && p->seen & 1u << SIGNATURE)
		return err_set(p->e, "narinfo has %s below its signature", field_names[f]);
	if (f < OTHER)
		p->seen |= 1u << f;
	v.at = colon + 1;
	v.len = len - (size_t)(v.at - line);
	if (v.len > 0 && v.at[0] == ' ')
		v.at++, v.len--;
	return parse_field(p, f, v);
}

/* The signed part ends at the first `Signature:', wherever it stands: where the signer's tool cuts is where
 * we must cut.  One inside a line would make our fields other than the signed ones. */
static int find_signature(struct narinfo *ni, size_t len, struct err *e)
{
	const char *at = memmem(ni->text, len, "Signature:", 10);

	if (at && at != ni->text && at[-1] != '\n')
		return err_set(e, "narinfo has `Signature:' within a line");
	ni->signed_len = at ? (size_t)(at - ni->text) : 0;
	return 0;
}

int narinfo_parse(struct narinfo *ni, const char *text, size_t len, const char *store_dir, struct err *e)
{
	struct parser p = { .ni = ni, .store_dir = store_dir, .e = e, .last = STORE_PATH };

	memset(ni, 0, sizeof *ni);
	ni->text = text;
	if (len == 0 || len > LIMIT_NARINFO)
		return err_set(e, "narinfo is empty or larger than %d bytes", LIMIT_NARINFO);
	if (check_characters(text, len, e) < 0 || find_signature(ni, len, e) < 0)
		return -1;
	for (size_t pos = 0, n; pos < len; pos += n + 1) {
		const char *nl = memchr(text + pos, '\n', len - pos);

		n = nl ? (size_t)(nl - text) - pos : len - pos;
		/* An empty line ends the record for stock guix: fields beyond it are signed, yet not read. */
		if (n == 0 && pos < ni->signed_len)
			return err_set(e, "narinfo has an empty line in its signed part");
		if (n == 0)
			break;
		if (parse_line(&p, text + pos, n) < 0)
			return -1;
	}
	open_group(&p, (struct narinfo_text){ NULL, 0 });
	for (int i = 0; i < 4; i++)
		assign_above(&p, i & 1 ? MANIFEST : ERIS, i < 2);
	for (enum field f = STORE_PATH; f <= REFERENCES; f++)
		if (!(p.seen & 1u << f))
			return err_set(e, "narinfo has no %s", field_names[f]);
	return 0;
}

bool narinfo_is_for(const struct narinfo *ni, const char *path)
{
	return strlen(path) == ni->store_path.len && memcmp(path, ni->store_path.at, ni->store_path.len) == 0;
}

bool narinfo_next_reference(const struct narinfo *ni, struct narinfo_text *ref)
{
	const char *end = ni->references.at + ni->references.len;
	const char *p = ref->at ? ref->at + ref->len : ni->references.at;

	while (p < end && *p == ' ')
		p++;
	ref->at = p;
	while (p < end && *p != ' ')
		p++;
	ref->len = (size_t)(p - ref->at);
	return ref->len > 0;
}

static int compare_texts(const void *a, const void *b)
{
	const struct narinfo_text *x = a, *y = b;
	int c = memcmp(x->at, y->at, x->len < y->len ? x->len : y->len);

	return c ? c : (x->len > y->len) - (x->len < y->len);
}

int narinfo_references_digest(const struct narinfo *ni, uint8_t out[32])
{
	struct narinfo_text *refs = calloc(ni->reference_count + 1, sizeof *refs), ref = { NULL, 0 };
	char *text = malloc(ni->references.len + ni->reference_count + 1), *end = text;
	size_t n = 0;

	if (refs && text) {
		while (n < ni->reference_count && narinfo_next_reference(ni, &ref))
			refs[n++] = ref;
		qsort(refs, n, sizeof *refs, compare_texts);
		for (size_t i = 0; i < n; i++) {
			if (i > 0 && compare_texts(&refs[i - 1], &refs[i]) == 0)
				continue;
			end = mempcpy(end, refs[i].at, refs[i].len);
			*end++ = '\n';
		}
		crypto_sha256(out, text, (size_t)(end - text));
	}
	n = refs && text;
	free(refs);
	free(text);
	return n ? 0 : -1;
}

bool narinfo_equivalent(const struct narinfo *a, const struct narinfo *b)
{
	uint8_t x[32], y[32];

	return memcmp(a->nar_hash, b->nar_hash, 32) == 0 && a->nar_size == b->nar_size &&
	    a->store_path.len == b->store_path.len &&
	    memcmp(a->store_path.at, b->store_path.at, a->store_path.len) == 0 &&
	    narinfo_references_digest(a, x) == 0 && narinfo_references_digest(b, y) == 0 &&
	    memcmp(x, y, 32) == 0;
}
