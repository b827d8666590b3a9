/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: the nar reader takes exactly the canonical nars. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "broker/nar.h"
#include "tests/unit/nar_builder.h"

/* Read all of SIZE bytes.  They end where a page ends that no page follows: one byte too many is fatal. */
static int read_all(const uint8_t *nar, size_t size, unsigned *events, struct err *e)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (size + page - 1) / page * page + page;
	uint8_t *map = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *copy = map + room - page - size;
	struct nar_reader r;
	struct nar_event event;
	int rc;

	assert_true(map != MAP_FAILED && mprotect(map + room - page, page, PROT_NONE) == 0);
	memcpy(copy, nar, size);
	nar_open(&r, copy, size);
	*events = 0;
	do {
		rc = nar_next(&r, &event, e);
		(*events)++;
	} while (rc == 0 && event.kind != NAR_END);
	if (rc == -1) { /* once refused, always refused */
		struct err again = { 0 };

		assert_int_equal(nar_next(&r, &event, &again), -1);
	} else {
		assert_int_equal(nar_next(&r, &event, e), 0);
		assert_int_equal(event.kind, NAR_END);
	}
	(void)munmap(map, room);
	return rc;
}

static void accepted(const struct nar_builder *b)
{
	struct err e = { 0 };
	unsigned events;

	if (read_all(b->data, b->len, &events, &e) != 0)
		fail_msg("refused: %s", e.text);
}

/* Refused, and for this reason. */
static void refused(const struct nar_builder *b, const char *reason)
{
	struct err e = { 0 };
	unsigned events;

	assert_int_equal(read_all(b->data, b->len, &events, &e), -1);
	assert_int_equal(e.code, 0);
	if (strstr(e.text, reason) == NULL)
		fail_msg("expected \"%s\" in: %s", reason, e.text);
}

/* All kinds of entries, two levels. */
static void build_sample(struct nar_builder *b)
{
	nb_magic(b);
	nb_dir(b);
	nb_entry_file(b, "a", "hello");
	nb_entry(b, "b");
	nb_dir(b);
	nb_entry(b, "run");
	nb_file(b, "#!/bin/sh", 9, 1);
	nb_entry_end(b);
	nb_entry(b, "to");
	nb_link(b, "../a");
	nb_entry_end(b);
	nb_dir_end(b);
	nb_entry_end(b);
	nb_entry(b, "b.d");
	nb_dir(b);
	nb_dir_end(b);
	nb_entry_end(b);
	nb_entry_file(b, "c", "");
	nb_dir_end(b);
}

static void next(struct nar_reader *r, struct nar_event *event, enum nar_kind kind, const char *name,
                 const char *path)
{
	struct err e = { 0 };

	if (nar_next(r, event, &e) != 0)
		fail_msg("refused: %s", e.text);
	assert_int_equal(event->kind, kind);
	assert_string_equal(r->path, path);
	if (name == NULL) {
		assert_null(event->name);
		assert_int_equal(event->name_len, 0);
	} else {
		assert_int_equal(event->name_len, strlen(name));
		assert_memory_equal(event->name, name, strlen(name));
	}
}

static void test_events(void **state)
{
	struct nar_builder b = { 0 };
	struct nar_reader r;
	struct nar_event ev;

	(void)state;
	build_sample(&b);
	nar_open(&r, b.data, b.len);
	next(&r, &ev, NAR_DIRECTORY, NULL, "");
	next(&r, &ev, NAR_REGULAR, "a", "a");
	assert_false(ev.executable);
	assert_int_equal(ev.size, 5);
	assert_memory_equal(ev.data, "hello", 5);
	next(&r, &ev, NAR_DIRECTORY, "b", "b");
	next(&r, &ev, NAR_REGULAR, "run", "b/run");
	assert_true(ev.executable);
	assert_int_equal(ev.size, 9);
	next(&r, &ev, NAR_SYMLINK, "to", "b/to");
	assert_int_equal(ev.size, 4);
	assert_memory_equal(ev.data, "../a", 4);
	next(&r, &ev, NAR_DIRECTORY_END, NULL, "b");
	next(&r, &ev, NAR_DIRECTORY, "b.d", "b.d");
	next(&r, &ev, NAR_DIRECTORY_END, NULL, "b.d");
	next(&r, &ev, NAR_REGULAR, "c", "c");
	assert_int_equal(ev.size, 0);
	next(&r, &ev, NAR_DIRECTORY_END, NULL, "");
	next(&r, &ev, NAR_END, NULL, "");
	free(b.data);
}

static void test_top_level_kinds(void **state)
{
	struct nar_builder b = { 0 };

	(void)state;
	nb_magic(&b);
	nb_file(&b, "x", 1, 0);
	accepted(&b);
	nb_magic(&b);
	nb_file(&b, "", 0, 1);
	accepted(&b);
	nb_magic(&b);
	nb_link(&b, "/etc/passwd");
	accepted(&b);
	nb_magic(&b);
	nb_dir(&b);
	nb_dir_end(&b);
	accepted(&b);
	free(b.data);
}

/* A nar that ends early is refused wherever it ends, also in the middle of a word. */
static void test_truncated_anywhere(void **state)
{
	struct nar_builder b = { 0 };
	struct err e;
	unsigned events;

	(void)state;
	build_sample(&b);
	assert_int_equal(read_all(b.data, b.len, &events, &e), 0);
	for (size_t n = 0; n < b.len; n++)
		assert_int_equal(read_all(b.data, n, &events, &e), -1);
	free(b.data);
}

static void test_trailing(void **state)
{
	struct nar_builder b = { 0 };

	(void)state;
	build_sample(&b);
	nb_raw(&b, "", 1);
	refused(&b, "bytes after the end");
	build_sample(&b);
	nb_u64(&b, 0);
	refused(&b, "bytes after the end");
	build_sample(&b);
	nb_strs(&b, ")", (char *)NULL);
	refused(&b, "bytes after the end");
	nb_magic(&b);
	nb_file(&b, "x", 1, 0);
	nb_strs(&b, "nix-archive-1", (char *)NULL);
	refused(&b, "bytes after the end");
	free(b.data);
}

/* A change of any byte outside contents, names and targets is noticed. */
static void test_every_byte_counts(void **state)
{
	static const uint8_t flips[] = { 0x01, 0x80, 0xff };
	struct nar_builder b = { 0 };
	struct err e;
	unsigned events;

	(void)state;
	nb_magic(&b);
	nb_dir(&b);
	nb_entry(&b, "n");
	nb_file(&b, "D", 1, 1);
	nb_entry_end(&b);
	nb_entry(&b, "s");
	nb_link(&b, "T");
	nb_entry_end(&b);
	nb_dir_end(&b);
	for (size_t at = 0; at < b.len; at++)
		for (size_t f = 0; f < sizeof flips; f++) {
			uint8_t was = b.data[at];
			bool free_byte = was == 'D' || was == 'T' ||
			                 (b.data[at - (at > 0)] == 0 && (was == 'n' || was == 's') &&
			                  at + 1 < b.len && b.data[at + 1] == 0);

			b.data[at] ^= flips[f];
			if (!free_byte)
				assert_int_equal(read_all(b.data, b.len, &events, &e), -1);
			b.data[at] = was;
		}
	free(b.data);
}

static void entry_named(struct nar_builder *b, const void *name, size_t len)
{
	nb_magic(b);
	nb_dir(b);
	nb_strs(b, "entry", "(", "name", (char *)NULL);
	nb_bytes(b, name, len);
	nb_strs(b, "node", (char *)NULL);
	nb_file(b, "x", 1, 0);
	nb_entry_end(b);
	nb_dir_end(b);
}

static void test_names(void **state)
{
	static const struct {
		const char *name;
		size_t len;
		const char *reason;
	} bad[] = {
		{ "", 0, "an empty name" },
		{ ".", 1, "leaves its directory" },
		{ "..", 2, "leaves its directory" },
		{ "/", 1, "slash or NUL" },
		{ "/etc", 4, "slash or NUL" },
		{ "a/b", 3, "slash or NUL" },
		{ "../x", 4, "slash or NUL" },
		{ "x/", 2, "slash or NUL" },
		{ "\0", 1, "slash or NUL" },
		{ "a\0", 2, "slash or NUL" },
		{ "..\0", 3, "slash or NUL" },
	};
	static const char *const good[] = { "...", ".a", "..a", "a.", " ", "\n", "\\", "\xff\xfe", "-", "~" };
	struct nar_builder b = { 0 };
	char longest[LIMIT_NAR_NAME + 1];

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		entry_named(&b, bad[i].name, bad[i].len);
		refused(&b, bad[i].reason);
	}
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		entry_named(&b, good[i], strlen(good[i]));
		accepted(&b);
	}
	memset(longest, 'n', sizeof longest);
	entry_named(&b, longest, LIMIT_NAR_NAME);
	accepted(&b);
	entry_named(&b, longest, LIMIT_NAR_NAME + 1);
	refused(&b, "too long");
	free(b.data);
}

static void siblings(struct nar_builder *b, const char *first, const char *second)
{
	nb_magic(b);
	nb_dir(b);
	nb_entry_file(b, first, "1");
	nb_entry_file(b, second, "2");
	nb_dir_end(b);
}

/* The same, with the first a directory whose own child comes late in the order: it must not count. */
static void sibling_directories(struct nar_builder *b, const char *first, const char *second)
{
	nb_magic(b);
	nb_dir(b);
	nb_entry(b, "0"); /* one level more, so that paths have a slash */
	nb_dir(b);
	nb_entry(b, first);
	nb_dir(b);
	nb_entry(b, "zzz");
	nb_dir(b);
	nb_entry_file(b, "zzzz", "");
	nb_dir_end(b);
	nb_entry_end(b);
	nb_dir_end(b);
	nb_entry_end(b);
	nb_entry_file(b, second, "2");
	nb_dir_end(b);
	nb_entry_end(b);
	nb_dir_end(b);
}

static void test_order(void **state)
{
	static const struct {
		const char *first, *second;
		bool good;
	} pairs[] = {
		{ "a", "b", true },    { "b", "a", false },   { "a", "a", false },    { "a", "aa", true },
		{ "aa", "a", false },  { "a", "a.b", true },  { "a.b", "a/", false }, { "Z", "a", true },
		{ "a", "Z", false },   { "a", "\xc3", true }, { "\xc3", "a", false }, { "ab", "b", true },
		{ "b", "ab", false },  { "~", "\x7f", true }, { "a", "a\xff", true }, { "a\xff", "a", false },
		{ "aaa", "aa", false },
	};
	struct nar_builder b = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
		bool slash = strchr(pairs[i].second, '/') != NULL;

		siblings(&b, pairs[i].first, pairs[i].second);
		if (pairs[i].good)
			accepted(&b);
		else
			refused(&b, slash ? "slash" : "names out of order or twice");
		sibling_directories(&b, pairs[i].first, pairs[i].second);
		if (pairs[i].good)
			accepted(&b);
		else
			refused(&b, slash ? "slash" : "names out of order or twice");
	}
	free(b.data);
}

/* A link, then an entry that would go through it: the same name twice. */
static void test_link_then_entry(void **state)
{
	struct nar_builder b = { 0 };

	(void)state;
	nb_magic(&b);
	nb_dir(&b);
	nb_entry(&b, "out");
	nb_link(&b, "/tmp");
	nb_entry_end(&b);
	nb_entry(&b, "out");
	nb_dir(&b);
	nb_entry_file(&b, "evil", "x");
	nb_dir_end(&b);
	nb_entry_end(&b);
	nb_dir_end(&b);
	refused(&b, "names out of order or twice");
	free(b.data);
}

static void link_to(struct nar_builder *b, const void *target, size_t len)
{
	nb_magic(b);
	nb_strs(b, "(", "type", "symlink", "target", (char *)NULL);
	nb_bytes(b, target, len);
	nb_strs(b, ")", (char *)NULL);
}

static void test_targets(void **state)
{
	struct nar_builder b = { 0 };
	char longest[LIMIT_NAR_TARGET + 1];

	(void)state;
	link_to(&b, "", 0);
	refused(&b, "target is empty");
	link_to(&b, "\0", 1);
	refused(&b, "holds NUL");
	link_to(&b, "a\0b", 3);
	refused(&b, "holds NUL");
	memset(longest, 't', sizeof longest);
	link_to(&b, longest, LIMIT_NAR_TARGET);
	accepted(&b);
	link_to(&b, longest, LIMIT_NAR_TARGET + 1);
	refused(&b, "too long");
	free(b.data);
}

/* DEPTH directories called "a", and in the last one a file whose name has LAST bytes. */
static void nest(struct nar_builder *b, unsigned depth, size_t last)
{
	char name[LIMIT_NAR_NAME + 1];

	memset(name, 'f', sizeof name);
	name[last] = '\0';
	nb_magic(b);
	nb_dir(b);
	for (unsigned i = 0; i < depth; i++) {
		nb_entry(b, "a");
		nb_dir(b);
	}
	nb_entry_file(b, name, "deep");
	for (unsigned i = 0; i < depth; i++) {
		nb_dir_end(b);
		nb_entry_end(b);
	}
	nb_dir_end(b);
}

static void test_depth(void **state)
{
	const unsigned most = (LIMIT_NAR_PATH - 1) / 2; /* "a/" each, and one byte for the file */
	struct nar_builder b = { 0 };

	(void)state;
	nest(&b, most, LIMIT_NAR_PATH - 2 * most);
	accepted(&b);
	nest(&b, most, LIMIT_NAR_PATH - 2 * most + 1);
	refused(&b, "a path that is too long");
	nest(&b, most + 1, 1);
	refused(&b, "a path that is too long");
	nest(&b, 100000, 1);
	refused(&b, "a path that is too long");
	free(b.data);
}

/* Huge lengths must neither wrap around nor be believed. */
static void test_claimed_lengths(void **state)
{
	static const uint64_t huge[] = {
		UINT64_MAX, UINT64_MAX - 6, UINT64_MAX - 7, UINT64_MAX - 8, 1ULL << 63, (1ULL << 63) - 1,
		1ULL << 32, (1ULL << 32) + 1, 4096, 100,
	};
	struct nar_builder b = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof huge / sizeof huge[0]; i++) {
		nb_magic(&b);
		nb_strs(&b, "(", "type", "regular", "contents", (char *)NULL);
		nb_u64(&b, huge[i]);
		nb_strs(&b, ")", (char *)NULL);
		refused(&b, huge[i] > 112 ? "too long" : "cut short");
		nb_magic(&b);
		nb_strs(&b, "(", "type", "symlink", "target", (char *)NULL);
		nb_u64(&b, huge[i]);
		nb_strs(&b, ")", (char *)NULL);
		refused(&b, huge[i] > LIMIT_NAR_TARGET ? "too long" : "cut short");
		nb_magic(&b);
		nb_strs(&b, "(", "type", "directory", "entry", "(", "name", (char *)NULL);
		nb_u64(&b, huge[i]);
		nb_strs(&b, "node", (char *)NULL);
		refused(&b, huge[i] > LIMIT_NAR_NAME ? "too long" : "cut short");
		nb_magic(&b);
		nb_u64(&b, huge[i]);
		nb_strs(&b, "(", (char *)NULL);
		refused(&b, "\"(\" expected");
		b.len = 0;
		nb_u64(&b, huge[i]);
		nb_raw(&b, "nix-archive-1", 13);
		refused(&b, "\"nix-archive-1\" expected");
	}
	/* exactly what is left, so that the padding or the next token is missing */
	nb_magic(&b);
	nb_strs(&b, "(", "type", "regular", "contents", (char *)NULL);
	nb_u64(&b, 16);
	nb_strs(&b, ")", (char *)NULL);
	refused(&b, "\")\" expected");
	nb_magic(&b);
	nb_strs(&b, "(", "type", "regular", "contents", (char *)NULL);
	nb_u64(&b, 9);
	nb_raw(&b, "123456789", 9);
	refused(&b, "cut short");
	free(b.data);
}

static void test_padding(void **state)
{
	struct nar_builder b = { 0 };

	(void)state;
	for (size_t n = 1; n < 8; n++)
		for (size_t pad = n; pad < 8; pad++) {
			size_t at;

			nb_magic(&b);
			nb_strs(&b, "(", "type", "regular", "contents", (char *)NULL);
			at = b.len + 8;
			nb_bytes(&b, "1234567", n);
			nb_strs(&b, ")", (char *)NULL);
			accepted(&b);
			b.data[at + pad] = 1;
			refused(&b, "padding is not zero");
		}
	entry_named(&b, "abc", 3);
	for (size_t at = 0; at + 3 < b.len; at++)
		if (memcmp(b.data + at, "abc", 3) == 0)
			b.data[at + 7] = 1;
	refused(&b, "padding is not zero");
	link_to(&b, "abc", 3);
	b.data[b.len - 16 - 1] = 1;
	refused(&b, "padding is not zero");
	free(b.data);
}

/* Token sequences that lax readers take, or that are one token off. */
static void test_grammar(void **state)
{
	static const struct {
		const char *tokens[20];
		const char *reason;
	} bad[] = {
		{ { "" }, "\"nix-archive-1\" expected" },
		{ { "nix-archive-2", "(" }, "\"nix-archive-1\" expected" },
		{ { "nix-archive-1" }, "\"(\" expected" },
		{ { "nix-archive-1", "(", ")" }, "\"type\" expected" },
		{ { "nix-archive-1", "(", "type", "fifo", ")" }, "unknown type" },
		{ { "nix-archive-1", "(", "type", "", ")" }, "unknown type" },
		{ { "nix-archive-1", "(", "type", "regular", ")" }, "\"contents\" expected" },
		{ { "nix-archive-1", "(", "contents", "x", "type", "regular", ")" }, "\"type\" expected" },
		{ { "nix-archive-1", "(", "type", "regular", "contents", "x", "executable", "", ")" },
		  "\")\" expected" },
		{ { "nix-archive-1", "(", "type", "regular", "executable", "1", "contents", "x", ")" },
		  "\"\" expected" },
		{ { "nix-archive-1", "(", "type", "regular", "executable", "contents", "x", ")" },
		  "\"\" expected" },
		{ { "nix-archive-1", "(", "type", "regular", "executable", "", "executable", "", "contents",
		    "x", ")" },
		  "\"contents\" expected" },
		{ { "nix-archive-1", "(", "type", "regular", "contents", "x", "contents", "x", ")" },
		  "\")\" expected" },
		{ { "nix-archive-1", "(", "type", "regular", "contents", "x" }, "\")\" expected" },
		{ { "nix-archive-1", "(", "type", "symlink", ")" }, "\"target\" expected" },
		{ { "nix-archive-1", "(", "type", "symlink", "executable", "", "target", "x", ")" },
		  "\"target\" expected" },
		{ { "nix-archive-1", "(", "type", "symlink", "target", "x", "target", "y", ")" },
		  "\")\" expected" },
		{ { "nix-archive-1", "(", "type", "directory", "node" }, "\")\" expected" },
		{ { "nix-archive-1", "(", "type", "directory", "executable", "", ")" }, "\")\" expected" },
		{ { "nix-archive-1", "(", "type", "directory", "entry", ")", ")" }, "\"(\" expected" },
		{ { "nix-archive-1", "(", "type", "directory", "entry", "(", ")", ")" },
		  "\"name\" expected" },
		{ { "nix-archive-1", "(", "type", "directory", "entry", "(", "node", "(" },
		  "\"name\" expected" },
		{ { "nix-archive-1", "(", "type", "directory", "entry", "(", "name", "a", ")", ")" },
		  "\"node\" expected" },
		{ { "nix-archive-1", "(", "type", "directory", "entry", "(", "name", "a", "name", "b" },
		  "\"node\" expected" },
		{ { "nix-archive-1", "(", "type", "directory", "entry", "(", "name", "a", "node", ")" },
		  "\"(\" expected" },
		{ { "nix-archive-1", "(", "type", "directory", "entry", "(", "name", "a", "node", "(", "type",
		    "regular", "contents", "", ")", "entry" },
		  "\")\" expected" },
		{ { "nix-archive-1", "(", "type", "directory", "entry", "(", "name", "a", "node", "(", "type",
		    "directory", ")", "entry" },
		  "\")\" expected" },
	};
	struct nar_builder b = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		b.len = 0;
		for (size_t t = 0; t < 20 && bad[i].tokens[t] != NULL; t++)
			nb_strs(&b, bad[i].tokens[t], (char *)NULL);
		refused(&b, bad[i].reason);
	}
	free(b.data);
}

/* The message names entry and place, and nothing in it can hurt a terminal or the daemon's protocol. */
static void test_messages(void **state)
{
	struct nar_builder b = { 0 };
	struct err e = { 0 };
	char name[400];
	unsigned events;

	(void)state;
	nb_magic(&b);
	nb_dir(&b);
	nb_entry(&b, "di\nr");
	nb_dir(&b);
	nb_entry(&b, "e\x1b\"");
	nb_strs(&b, "(", "type", "regular", "bogus", (char *)NULL);
	assert_int_equal(read_all(b.data, b.len, &events, &e), -1);
	assert_non_null(strstr(e.text, "\"contents\" expected"));
	assert_non_null(strstr(e.text, "\"di?r/e?\"\""));
	assert_non_null(strstr(e.text, "at byte 344"));
	assert_int_equal(events, 3);
	for (const char *c = e.text; *c != '\0'; c++)
		assert_in_range(*c, 0x20, 0x7e);
	memset(name, '\xff', sizeof name);
	name[sizeof name - 1] = '\0';
	assert_string_equal(nar_tail(""), "");
	assert_ptr_equal(nar_tail(name), name + sizeof name - 1 - NAR_TAIL);
	assert_ptr_equal(nar_tail(name + 399 - NAR_TAIL), name + 399 - NAR_TAIL);
	free(b.data);
}

/* Contents are never read: here they lie in pages that cannot be. */
static void test_contents_untouched(void **state)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE), size = 4 * page;
	struct nar_builder b = { 0 };
	uint8_t *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct nar_reader r;
	struct nar_event event;
	struct err e = { 0 };

	(void)state;
	assert_true(map != MAP_FAILED);
	nb_magic(&b);
	nb_strs(&b, "(", "type", "regular", "contents", (char *)NULL);
	nb_u64(&b, size - b.len - 8 - 16);
	memcpy(map, b.data, b.len);
	b.len = 0;
	nb_strs(&b, ")", (char *)NULL);
	memcpy(map + size - b.len, b.data, b.len);
	assert_int_equal(mprotect(map + page, 2 * page, PROT_NONE), 0);
	nar_open(&r, map, size);
	assert_int_equal(nar_next(&r, &event, &e), 0);
	assert_int_equal(nar_next(&r, &event, &e), 0);
	assert_int_equal(event.kind, NAR_END);
	(void)munmap(map, size);
	free(b.data);
}

static void sample(const char *file, bool good, unsigned expected_events)
{
	const char *dir = getenv("NARLOCK_SHARED");
	char path[1024], buffer[65536];
	struct err e = { 0 };
	unsigned events;
	size_t n;
	FILE *f;

	if (dir == NULL) {
		print_message("SKIP: NARLOCK_SHARED is not set\n");
		skip();
	}
	(void)snprintf(path, sizeof path, "%s/samples/%s", dir, file);
	f = fopen(path, "rb");
	if (f == NULL) {
		print_message("SKIP: no %s\n", file);
		skip();
		return;
	}
	n = fread(buffer, 1, sizeof buffer, f);
	(void)fclose(f);
	assert_int_equal(read_all((const uint8_t *)buffer, n, &events, &e), good ? 0 : -1);
	assert_int_equal(events, expected_events);
	if (!good)
		assert_non_null(strstr(e.text, "\"../../../tmp/escape-proof\""));
}

static void test_sample_small(void **state)
{
	(void)state;
	sample("a-small.nar", true, 12);
}

static void test_sample_tree(void **state)
{
	(void)state;
	sample("guix-vectors/tree.nar", true, 9);
}

static void test_sample_traversal(void **state)
{
	(void)state;
	sample("guix-vectors/traversal.nar", false, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_top_level_kinds),
		cmocka_unit_test(test_truncated_anywhere),
		cmocka_unit_test(test_trailing),
		cmocka_unit_test(test_every_byte_counts),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_link_then_entry),
		cmocka_unit_test(test_targets),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_claimed_lengths),
		cmocka_unit_test(test_padding),
		cmocka_unit_test(test_grammar),
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_contents_untouched),
		cmocka_unit_test(test_sample_small),
		cmocka_unit_test(test_sample_tree),
		cmocka_unit_test(test_sample_traversal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
