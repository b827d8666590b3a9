/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: progress lines as guix's clients parse them, without passwords and without what a server may slip in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <cmocka.h>

#include "broker/broker.h"
#include "broker/log.h"
#include "tests/unit/child.h"

#define DEST "/gnu/store/b3qkb91fr9y8idckwdv5bx831vmxmg8w-tree"

static struct broker b;
static struct capture c;

static void set_up(int traces, const char *server)
{
	memset(&b, 0, sizeof b);
	b.options.traces = traces;
	b.options.columns = 80;
	b.options.urls[0] = server;
	b.options.url_count = 1;
	trace_begin(&b, DEST);
}

static struct place place(const char *url, uint64_t size)
{
	struct place p = { .file_size = size };

	(void)snprintf(p.url, sizeof p.url, "%s", url);
	return p;
}

static const char *url(const char *server, const char *path)
{
	static char out[2 * LIMIT_URL + 2];

	trace_url(out, sizeof out, server, path);
	return out;
}

static void urls_without_user_and_password(void **state)
{
	static const char *const cases[][3] = {
		{ "http://h", "nar/zstd/x", "http://h/nar/zstd/x" },
		{ "http://h/sub", "/nar/x", "http://h/sub/nar/x" },
		{ "http://h", "", "http://h/" },
		{ "http://h", "https://other/nar/x", "https://other/nar/x" },
		{ "http://user:secret@h:81", "nar/x", "http://h:81/nar/x" },
		{ "http://user@h", "nar/x", "http://h/nar/x" },
		{ "http://:secret@h", "nar/x", "http://h/nar/x" },
		{ "http://h", "https://u:secret@other/nar/x", "https://other/nar/x" },
		{ "http://u:secret@p@h", "x", "http://h/x" },   /* the last one counts */
		{ "http://u:se/cret@h", "x", "http://u:se/cret@h/x" }, /* "u" is the host there */
		{ "http://h", "a@b", "http://h/a@b" },
		{ "http://h", "x?y@z#@", "http://h/x?y@z#@" },
		{ "http://h?@x", "y", "http://h?@x/y" },
		{ "HTTPS://u:secret@h", "x", "HTTPS://h/x" },
		{ "http://u:secret@[::1]:80", "x", "http://[::1]:80/x" },
		{ "http://u:secret%40@h", "x", "http://h/x" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		assert_string_equal(url(cases[i][0], cases[i][1]), cases[i][2]);
}

/* A relative URL that only looks absolute must not bring the server's password to light. */
static void a_separator_in_a_relative_url(void **state)
{
	(void)state;
	assert_null(strstr(url("http://u:secret@h", "nar/x?u=://y"), "secret"));
	assert_null(strstr(url("http://u:secret@h", "://u:other@y"), "other"));
}

static const char *traced(const char *server, struct place p, uint64_t size, uint64_t end, int good)
{
	set_up(1, server);
	capture_begin(&c);
	trace_started(&b, &p, size);
	trace_end(&b, end, good);
	return capture_end(&c);
}

static void lines_of_a_download(void **state)
{
	(void)state;
	assert_string_equal(traced("http://u:secret@h", place("nar/x", 222), 0, 222, 1),
			    "@ download-started " DEST " http://h/nar/x 222\n"
			    "@ download-progress " DEST " http://h/nar/x 222 222\n"
			    "@ download-succeeded " DEST " http://h/nar/x 222\n\n");
	/* The size of the answer goes before the one of the narinfo; without one there is a dash. */
	assert_non_null(strstr(traced("http://h", place("x", 5), 7, 7, 1), "download-started " DEST " http://h/x 7\n"));
	assert_string_equal(traced("http://h", place("x", 0), 0, 9, 1),
			    "@ download-started " DEST " http://h/x -\n"
			    "@ download-progress " DEST " http://h/x - 9\n"
			    "@ download-succeeded " DEST " http://h/x 9\n\n");
}

static void no_success_without_start_or_after_failure(void **state)
{
	(void)state;
	assert_null(strstr(traced("http://h", place("x", 5), 0, 3, 0), "succeeded"));
	set_up(1, "http://h");
	capture_begin(&c);
	trace_progress(&b, 5, "x");
	trace_end(&b, 5, 1);
	assert_string_equal(capture_end(&c), "");
	assert_non_null(strstr(traced("http://h", place("x", 5), 0, 5, 1), "succeeded"));
	capture_begin(&c);
	trace_end(&b, 5, 1); /* a second end */
	assert_string_equal(capture_end(&c), "");
}

static void hostile_names_stay_in_their_line(void **state)
{
	struct place p = place("nar/x\n@ substituter-failed y", 5);
	const char *text;
	size_t at = 0;

	(void)state;
	text = traced("http://h", p, 0, 5, 1);
	for (const char *q = text; *q != '\0'; q++) {
		assert_true(*q == '\n' || (*q >= 0x20 && *q < 0x7f));
		if (*q == '@' && (q == text || q[-1] == '\n'))
			assert_int_equal(strncmp(q, "@ download-", 11), 0);
		at++;
	}
	assert_true(at > 0);
	p = place("nar/x\033[2J\177\xff", 5);
	assert_null(strchr(traced("http://h", p, 0, 5, 1), '\033'));
}

static void progress_is_not_a_flood(void **state)
{
	struct place p = place("x", 1000);
	struct timespec t = { 0, 210 * 1000 * 1000 };
	const char *text;
	unsigned lines = 0;

	(void)state;
	set_up(1, "http://h");
	capture_begin(&c);
	trace_started(&b, &p, 0);
	for (uint64_t i = 0; i < 500; i++)
		trace_progress(&b, i, "h");
	(void)nanosleep(&t, NULL);
	for (uint64_t i = 500; i < 1000; i++)
		trace_progress(&b, i, "h");
	text = capture_end(&c);
	for (; (text = strstr(text, "download-progress")) != NULL; text++)
		lines++;
	assert_true(lines >= 1 && lines <= 3);
}

static void the_bar_has_one_line(void **state)
{
	static const unsigned widths[] = { 20, 80, 249, 1000 };
	struct place p = place("x", 1000);

	(void)state;
	for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
		const char *text;

		set_up(0, "http://h");
		b.options.columns = widths[i];
		capture_begin(&c);
		trace_started(&b, &p, 0);
		b.trace.last -= 1000;
		trace_progress(&b, 450, "h\033]0;x\007\n@ x");
		text = capture_end(&c);
		assert_int_equal(strncmp(text, "\r\033[K", 4), 0);
		assert_null(strchr(text, '\n'));
		assert_null(strchr(text, '\007'));
		assert_null(strchr(text + 4, '\033'));
		assert_null(strchr(text + 1, '\r'));
		if (widths[i] >= 80)
			assert_non_null(strstr(text, " 45.0%"));
		if (widths[i] <= 250)
			assert_true(strlen(text) - 4 <= widths[i]);
	}
}

/* Where it comes from: in the bar always, even of one that is over at once; beside the lines only when that changes. */
static void the_source_is_told(void **state)
{
	struct place p = place("x", 10);
	const char *text;

	(void)state;
	set_up(0, "http://h");
	capture_begin(&c);
	trace_started(&b, &p, 0);
	trace_progress(&b, 5, "ipfs 127.0.0.1:5001");
	trace_end(&b, 10, 1);
	assert_non_null(strstr(capture_end(&c), " tree from ipfs 127.0.0.1:5001 "));
	for (int blocks = 0; blocks < 3; blocks++) {
		(void)strcpy(p.eris, blocks > 0 ? "urn" : "");
		p.plain = blocks == 2;
		set_up(1, "http://h");
		capture_begin(&c);
		trace_started(&b, &p, 0);
		trace_progress(&b, 1, "ipfs a");
		trace_progress(&b, 2, "ipfs a");
		trace_progress(&b, 3, "range\033 h");
		for (int i = 0; i < 20; i++)
			trace_progress(&b, 4, i % 2 ? "x" : "y");
		text = capture_end(&c);
		if (blocks != 1) {
			assert_null(strstr(text, "comes from"));
			continue;
		}
		assert_non_null(strstr(text, "narlock: " DEST " comes from ipfs a\nnarlock: " DEST " comes from range? h\n"));
		for (int i = 0; i < 7; i++)
			text = strstr(text, "comes from") + 1;
		assert_non_null(text = strstr(text, "comes from"));
		assert_null(strstr(text + 1, "comes from"));
	}
}

static void sizes_that_lie(void **state)
{
	struct place p = place("x", 10);

	(void)state;
	set_up(0, "http://h");
	capture_begin(&c);
	trace_started(&b, &p, 0);
	b.trace.last -= 1000;
	trace_progress(&b, UINT64_MAX, "h"); /* more than all of it */
	trace_end(&b, UINT64_MAX, 1);
	assert_non_null(strstr(capture_end(&c), "100.0%"));
}

static void log_lines_are_clean(void **state)
{
	char big[4000];
	const char *text;

	(void)state;
	capture_begin(&c);
	log_say("%s", "@ substituter-failed x\n@ y\033[0m\r\t\177\xc3\xa9%n%s");
	assert_string_equal(capture_end(&c), "narlock: @ substituter-failed x?@ y?[0m?????%n%s\n");
	memset(big, 'x', sizeof big - 1);
	big[sizeof big - 1] = '\0';
	capture_begin(&c);
	log_say("%s", big);
	text = capture_end(&c);
	assert_int_equal(text[strlen(text) - 1], '\n');
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
	assert_true(strlen(text) <= 1200);
	capture_begin(&c);
	log_say("%s", "");
	assert_string_equal(capture_end(&c), "narlock: \n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(urls_without_user_and_password),
		cmocka_unit_test(a_separator_in_a_relative_url),
		cmocka_unit_test(lines_of_a_download),
		cmocka_unit_test(no_success_without_start_or_after_failure),
		cmocka_unit_test(hostile_names_stay_in_their_line),
		cmocka_unit_test(progress_is_not_a_flood),
		cmocka_unit_test(the_bar_has_one_line),
		cmocka_unit_test(the_source_is_told),
		cmocka_unit_test(sizes_that_lie),
		cmocka_unit_test(log_lines_are_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
