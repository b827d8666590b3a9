/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: header lines of HTTP responses; nonsense in them costs a feature and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "helper/fetch/answer.h"

#define NOW 1795339226

static struct answer
read_lines(const char *const *lines)
{
	struct answer a;

	answer_reset(&a);
	for (; *lines != NULL; lines++)
		assert_int_equal(answer_line(&a, *lines, strlen(*lines), NOW), 0);
	return a;
}

#define READ(...) read_lines((const char *const[]){ __VA_ARGS__, NULL })

static void
reads_all(void **state)
{
	struct answer a = READ("HTTP/1.1 206 Partial Content\r\n", "content-LENGTH: 1234\r\n", "Content-Range:bytes 5-9/10\r\n",
	    "Accept-Ranges: bytes\r\n", "Cache-Control: public, max-age=77 , immutable\r\n", "Retry-After: 9\r\n",
	    "ETag: \"x\"\r\n", "Last-Modified: Sun, 22 Nov 2026 08:00:00 GMT\r\n", "Location: /a\r\n", "X-Baking: 1\r\n",
	    "Transfer-Encoding: chunked\r\n", "\r\n");

	(void)state;
	assert_int_equal(a.status, 206);
	assert_int_equal(a.length, 1234);
	assert_int_equal(a.range_start, 5);
	assert_int_equal(a.range_end, 9);
	assert_int_equal(a.range_total, 10);
	assert_int_equal(a.ranges, 1);
	assert_int_equal(a.max_age, 77);
	assert_int_equal(a.retry_after, 9);
	assert_string_equal(a.etag, "\"x\"");
	assert_string_equal(a.modified, "Sun, 22 Nov 2026 08:00:00 GMT");
	assert_string_equal(a.location, "/a");
	assert_int_equal(a.baking, 1);
	assert_int_equal(a.chunked, 1);
}

static void
status_lines(void **state)
{
	(void)state;
	assert_int_equal(READ("HTTP/1.1 200 OK\r\n").status, 200);
	assert_int_equal(READ("HTTP/2 404\r\n").status, 404);
	assert_int_equal(READ("HTTP/1.0 301  \r\n").status, 301);
	assert_int_equal(READ("HTTP/1.1 99\r\n").status, 0);
	assert_int_equal(READ("HTTP/1.1\r\n").status, 0);
	assert_true(READ("HTTP/1.1 2x0 OK\r\n").status <= 0);
	assert_int_equal(READ("HTTP/1.1 2000 OK\r\n").status, 0);
	/* a new status line forgets the response before it, but not how long the headers are */
	struct answer a = READ("HTTP/1.1 100 Continue\r\n", "Content-Length: 7\r\n", "ETag: x\r\n", "\r\n", "HTTP/1.1 200 OK\r\n");
	assert_int_equal(a.status, 200);
	assert_int_equal(a.length, -1);
	assert_string_equal(a.etag, "");
	assert_true(a.bytes > 60);
}

static void
nonsense(void **state)
{
	static const char *const ranges[] = { "bytes 5-4/10", "bytes 5-9/9", "bytes -5-9/10", "bytes 5-9", "bytes */10", "bytes 5-9/x",
		"bytes 5-9/10x", "bytes=5-9/10", "5-9/10", "bytes 99999999999999999999-9/10", "" };
	static const char *const ages[] = { "max-age=", "max-age=x", "max-age=-1", "max-age=99999999999999999999", "s-maxage=5",
		"max-age=1.5", "private", ",,,", "" };
	char line[200];

	(void)state;
	for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
		(void)snprintf(line, sizeof line, "Content-Range: %s\r\n", ranges[i]);
		if (READ(line).range_start != -1)
			fail_msg("%s", line);
	}
	for (size_t i = 0; i < sizeof ages / sizeof ages[0]; i++) {
		(void)snprintf(line, sizeof line, "Cache-Control: %s\r\n", ages[i]);
		if (READ(line).max_age != -1)
			fail_msg("%s", line);
	}
	assert_int_equal(READ("Content-Range: bytes 5-9/*\r\n").range_total, -1);
	assert_int_equal(READ("Content-Range: bytes 5-9/*\r\n").range_start, 5);
	assert_int_equal(READ("Cache-Control: no-store\r\n").max_age, 0);
	assert_int_equal(READ("Content-Length: 12 34\r\n").length, -1);
	assert_int_equal(READ("Content-Length: -1\r\n").length, -1);
	assert_int_equal(READ("Content-Length: +1\r\n").length, -1);
	assert_int_equal(READ("Content-Length: 99999999999999999999\r\n").length, -1);
	assert_string_equal(READ("ETag: a\x01z\r\n").etag, "");
	assert_string_equal(READ("Location: a\xc3\xa4\r\n").location, "");
	assert_int_equal(READ("no colon here\r\n").length, -1);
	assert_int_equal(READ(": \r\n", ":\r\n", "\r\n", "").length, -1);
}

static void
dates(void **state)
{
	(void)state;
	assert_int_equal(READ("Retry-After: Sun, 22 Nov 2026 09:20:36 GMT\r\n").retry_after, 10);
	assert_int_equal(READ("Retry-After: Sun, 22 Nov 2020 09:20:36 GMT\r\n").retry_after, 0);
	assert_int_equal(READ("Retry-After: soon\r\n").retry_after, -1);
}

static void
bounds(void **state)
{
	char *line = malloc(LIMIT_HEADERS);
	struct answer a;

	(void)state;
	answer_reset(&a);
	memset(line, 'x', LIMIT_HEADERS);
	memcpy(line, "ETag: ", 6);
	assert_int_equal(answer_line(&a, line, 6 + ANSWER_ETAG, NOW), 0);
	assert_int_equal(strlen(a.etag), ANSWER_ETAG);
	assert_int_equal(answer_line(&a, line, 6 + ANSWER_ETAG + 1, NOW), 0);
	assert_string_equal(a.etag, "");
	answer_reset(&a);
	assert_int_equal(answer_line(&a, line, LIMIT_HEADERS, NOW), 0);
	assert_int_equal(answer_line(&a, line, 1, NOW), -1);
	free(line);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(reads_all), cmocka_unit_test(status_lines),
		cmocka_unit_test(nonsense), cmocka_unit_test(dates), cmocka_unit_test(bounds) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
