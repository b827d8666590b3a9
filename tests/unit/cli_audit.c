/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: what the broker's audit.c writes, `narlock audit' reads and verifies; and each way to tamper with it shows. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* The writer itself; the command line is not linked with it. */
#include "broker/log.h"
#include "broker/audit.c"
#include "helper/cli/auditchain.h"
#include "helper/cli/auditline.h"
#include "helper/cli/auditread.h"

void
log_say(const char *fmt, ...)
{
	(void)fmt;
}

#define LINES 64

static char dir[64], path[80], head_path[90];
static char *lines[LINES];   /* of the log, without newlines */
static unsigned count;
static char findings[16384];
static enum auditchain_level worst;

static void
tell(void *owner, enum auditchain_level level, const char *file, uint64_t line, const char *what)
{
	size_t n = strlen(findings);

	(void)owner;
	worst = level > worst ? level : worst;
	(void)snprintf(findings + n, sizeof findings - n, "%d %s:%llu %s\n", (int)level, file, (unsigned long long)line, what);
}

static void
read_lines(void)
{
	static char text[65536];
	FILE *f = fopen(path, "re");
	size_t n = fread(text, 1, sizeof text - 1, f);
	char *rest = text, *line;

	(void)fclose(f);
	text[n] = '\0';
	count = 0;
	while ((line = strsep(&rest, "\n")) != NULL && rest != NULL)
		lines[count++] = line;
}

/* Three processes at the same time: 1 1 2 3 2 1 2 3, then 1 1. */
static int
setup(void **state)
{
	static const unsigned who[] = { 0, 0, 1, 2, 1, 0, 1, 2, 0, 0 };
	struct audit a[3];

	(void)state;
	strcpy(dir, "/tmp/narlock-audit-XXXXXX");
	if (mkdtemp(dir) == NULL)
		return -1;
	(void)snprintf(path, sizeof path, "%s/log", dir);
	(void)snprintf(head_path, sizeof head_path, "%s.head", path);
	for (int i = 0; i < 3; i++) {
		audit_open(&a[i], path, "substitute", "u");
		(void)snprintf(a[i].session, sizeof a[i].session, "%d-4000000000.000001", i + 1);
	}
	for (size_t i = 0; i < sizeof who / sizeof who[0]; i++)
		audit_event(&a[who[i]], "event", "subject \x1b[1m\"\\", "reason");
	for (int i = 0; i < 3; i++) {
		close(a[i].fd);
		close(a[i].head);
	}
	read_lines();
	return count == 10 ? 0 : -1;
}

static int
teardown(void **state)
{
	(void)state;
	(void)unlink(path);
	(void)unlink(head_path);
	return rmdir(dir);
}

static void
feed(struct auditchain *c, const char *line, int complete)
{
	struct err why = { 0, "" };
	struct auditline l;

	if (auditline_parse(&l, line, strlen(line), &why) != 0)
		l.count = 0;
	assert_int_equal(auditchain_line(c, line, strlen(line), complete, &l, &why), 0);
}

/* Verify lines of NUMBERS (-1: end; 100: a file ends). */
static enum auditchain_level
verify(const int *numbers)
{
	struct auditchain *c = auditchain_new(tell, NULL);

	findings[0] = '\0';
	worst = AUDITCHAIN_NOTE;
	auditchain_file(c, "one");
	for (; *numbers >= 0; numbers++)
		if (*numbers == 100)
			auditchain_file(c, "two");
		else
			feed(c, lines[*numbers], 1);
	auditchain_end(c);
	auditchain_free(c);
	return worst;
}

static void
expect(enum auditchain_level level, const char *what)
{
	if (worst != level || (what != NULL ? strstr(findings, what) == NULL : findings[0] != '\0'))
		fail_msg("level %d, findings:\n%s(wanted: %s)", (int)worst, findings, what != NULL ? what : "none");
}

#define VERIFY(...) verify((const int[]){ __VA_ARGS__, -1 })

static void
untouched(void **state)
{
	(void)state;
	VERIFY(0, 1, 2, 3, 4, 5, 6, 7, 8, 9);
	expect(AUDITCHAIN_NOTE, NULL);
	VERIFY(0, 1, 2, 3, 4, 100, 5, 6, 7, 8, 9);
	expect(AUDITCHAIN_NOTE, NULL);
	/* Processes that had the old file open still write to it. */
	VERIFY(0, 1, 2, 3, 5, 7, 9, 100, 4, 6, 8);
	expect(AUDITCHAIN_CHANGED, "session"); /* only a process that writes to both files would do that */
	VERIFY(0, 1, 3, 5, 7, 8, 9, 100, 2, 4, 6);
	expect(AUDITCHAIN_NOTE, NULL);
}

static void
removed(void **state)
{
	static const int all[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 };

	(void)state;
	for (unsigned gone = 0; gone < 9; gone++) {
		int some[11], n = 0;

		for (unsigned i = 0; i < 10; i++)
			if (i != gone)
				some[n++] = all[i];
		some[n] = -1;
		verify(some);
		if (gone > 0) /* of the first nobody but itself could tell, but that its session goes on */
			expect(AUDITCHAIN_CHANGED, "removed");
		else
			expect(AUDITCHAIN_CHANGED, "record 1 of session 1-4000000000.000001, which stood before it, was removed");
	}
	VERIFY(0, 1, 2, 3, 9);
	expect(AUDITCHAIN_CHANGED, "records 3 to 4 of session 1-");
	VERIFY(0, 1, 2, 3, 4, 5, 6, 7, 8); /* that is for LOG.head to tell */
	expect(AUDITCHAIN_NOTE, NULL);
}

static void
changed(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 9; i++) {
		char *at = strstr(lines[i], "\"reason\":\"");

		at[10] ^= 1;
		VERIFY(0, 1, 2, 3, 4, 5, 6, 7, 8, 9);
		expect(AUDITCHAIN_CHANGED, "is not there: removed, changed");
		if (i < 5)
			expect(AUDITCHAIN_CHANGED, "was changed, or this one was inserted");
		at[10] ^= 1;
	}
	lines[3][20] = '\x01';
	VERIFY(0, 1, 2, 3, 4, 5, 6, 7, 8, 9);
	expect(AUDITCHAIN_CHANGED, "one:4 no record of narlock: a byte that no record has");
}

static void
reordered_and_inserted(void **state)
{
	char forged[1024];

	(void)state;
	VERIFY(0, 2, 1, 3, 4, 5, 6, 7, 8, 9);
	expect(AUDITCHAIN_CHANGED, "which stands behind it: reordered");
	VERIFY(0, 1, 2, 3, 4, 5, 6, 7, 9, 8);
	expect(AUDITCHAIN_CHANGED, "reordered");
	VERIFY(0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9);
	expect(AUDITCHAIN_CHANGED, "one:5 the same record was there before: inserted");
	/* With another text and the same place in both chains. */
	(void)snprintf(forged, sizeof forged, "%s", lines[5]);
	memcpy(strstr(forged, "reason\":\"") + 9, "forged", 6);
	lines[10] = forged;
	VERIFY(0, 1, 2, 3, 4, 5, 10, 6, 7, 8, 9);
	expect(AUDITCHAIN_CHANGED, "inserted");
	(void)snprintf(forged, sizeof forged, "{\"time\":\"2026-11-22T00:00:00.000Z\",\"event\":\"x\"}");
	VERIFY(0, 1, 2, 3, 4, 10, 5, 6, 7, 8, 9);
	expect(AUDITCHAIN_CHANGED, "a record without a chain: inserted");
	VERIFY(10, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9);
	expect(AUDITCHAIN_CHANGED, "one:1 a record without a chain: inserted");
	/* A session of one record, chained to a true one: the only other way to that is a kill at the wrong moment. */
	(void)snprintf(forged, sizeof forged, "{\"time\":\"2026-11-22T00:00:00.000Z\",\"session\":\"7-4000000000.000001\",\"event\":\"x\","
	    "\"seq\":1,\"prev\":\"\",%s", strstr(lines[5], "\"join\""));
	VERIFY(0, 1, 2, 3, 4, 10, 5, 6, 7, 8, 9);
	expect(AUDITCHAIN_LOST, "or one of them was inserted");
}

static void
middle_of_the_story(void **state)
{
	(void)state;
	for (int i = 0; i < 10; i++) { /* sessions that began long before: as they do when a log is rotated */
		char *at = strstr(lines[i], "-4000000000");

		memcpy(at, "-1000000000", 11);
	}
	VERIFY(8);
	expect(AUDITCHAIN_NOTE, "it goes on from a record before these files");
	expect(AUDITCHAIN_NOTE, "session 1-1000000000.000001 began before these files");
}

static void
torn(void **state)
{
	struct auditchain *c = auditchain_new(tell, NULL);
	char part[100];

	(void)state;
	(void)snprintf(part, sizeof part, "%s", lines[9]);
	findings[0] = '\0';
	worst = AUDITCHAIN_NOTE;
	auditchain_file(c, "one");
	for (int i = 0; i < 3; i++)
		feed(c, lines[i], 1);
	feed(c, part, 1);
	for (int i = 3; i < 9; i++)
		feed(c, lines[i], 1);
	feed(c, part, 0);
	auditchain_end(c);
	auditchain_free(c);
	expect(AUDITCHAIN_LOST, "1 one:4 a torn line: a record was not written to its end\n"
	    "1 one:11 the last line is torn: a record was not written to its end\n");
}

/* Whoever comes next does not go on in the line that was not ended; nor does it hurt when two of them end it. */
static void
after_a_torn_line(void **state)
{
	struct audit a[2];
	int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);

	(void)state;
	assert_int_equal(write(fd, lines[0], 30), 30);
	close(fd);
	for (int i = 0; i < 2; i++)
		audit_open(&a[i], path, "query", "");
	for (int i = 0; i < 2; i++) {
		(void)snprintf(a[i].session, sizeof a[i].session, "%d-4000000000.000002", i);
		audit_event(&a[i], "next", "", "");
		close(a[i].fd);
		close(a[i].head);
	}
	read_lines();
	assert_int_equal(count, 14);
	VERIFY(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13);
	assert_string_equal(findings, "1 one:11 a torn line: a record was not written to its end\n");
}

/* LOG.head was not written any more: the next record follows the same one. */
static void
killed_between_record_and_head(void **state)
{
	char before[65] = "";
	struct audit a;
	int fd;

	(void)state;
	fd = open(head_path, O_RDWR | O_CLOEXEC);
	assert_int_equal(pread(fd, before, 64, 0), 64);
	audit_open(&a, path, "query", "");
	audit_event(&a, "killed", "", "");
	close(a.fd);
	close(a.head);
	assert_int_equal(pwrite(fd, before, 64, 0), 64);
	close(fd);
	audit_open(&a, path, "query", "");
	audit_event(&a, "next", "", "");
	audit_event(&a, "next", "", "");
	close(a.fd);
	close(a.head);
	read_lines();
	assert_int_equal(count, 13);
	VERIFY(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12);
	expect(AUDITCHAIN_LOST, "a process was killed while it wrote");
	/* A head that was put back by hand. */
	assert_int_equal(truncate(head_path, 0), 0);
	audit_open(&a, path, "query", "");
	audit_event(&a, "next", "", "");
	close(a.fd);
	close(a.head);
	read_lines();
	VERIFY(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13);
	expect(AUDITCHAIN_CHANGED, "it follows nothing");
}

static int late = -1; /* what a writer adds while the reader waits: a descriptor, or -1 */

int
nanosleep(const struct timespec *pause, struct timespec *left)
{
	(void)pause;
	(void)left;
	if (late >= 0)
		assert_int_equal(write(late, "the rest\n", 9), 9);
	late = -1;
	return 0;
}

/* A line that is just being written is not torn. */
static void
seen_half(void **state)
{
	static struct auditread r;
	const char *line;
	struct err e;
	size_t len;
	int complete, fd = open(path, O_WRONLY | O_TRUNC | O_APPEND | O_CLOEXEC);

	(void)state;
	assert_int_equal(write(fd, "first\nhalf ", 11), 11);
	assert_int_equal(auditread_open(&r, path, &e), 0);
	assert_int_equal(auditread_line(&r, &line, &len, &complete, &e), 1);
	late = fd;
	assert_int_equal(auditread_line(&r, &line, &len, &complete, &e), 1);
	assert_true(complete && len == 13 && memcmp(line, "half the rest", 13) == 0);
	assert_int_equal(write(fd, "torn", 4), 4);
	assert_int_equal(auditread_line(&r, &line, &len, &complete, &e), 1);
	assert_true(!complete && len == 4);
	assert_int_equal(auditread_line(&r, &line, &len, &complete, &e), 0);
	auditread_close(&r);
	close(fd);
}

static void
strict_lines(void **state)
{
	static const char *const good[] = { "{\"a\":1}", "{\"a\":\"\"}", "{\"a\":true,\"b\":18446744073709551615,\"c\":\"\\u001b\\\\\\\"\"}",
		"{\"a\":0}" };
	static const char *const bad[] = { "{}", "[]", "x", " {\"a\":1}", "{\"a\":1} ", "{\"a\":01}", "{\"a\":-1}", "{\"a\":1.0}", "{\"a\":false}",
		"{\"a\":18446744073709551616}", "{\"a\":\"\\n\"}", "{\"a\":\"\\u00G0\"}", "{\"a\":\"\t\"}", "{\"a\":\"\xff\"}", "{\"a\":1,\"a\":2}",
		"{\"a\":1,}", "{a:1}", "{\"a\":{\"b\":1}}", "{\"a\":null}", "{\"a\" :1}", "{\"a\":1}{\"a\":1}" };
	static const char *const shorter[] = { "", "{", "{\"", "{\"a", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":\"x", "{\"a\":\"\\", "{\"a\":\"\\u00",
		"{\"a\":1,", "{\"a\":tr" };
	struct auditline l;
	struct err e;
	char long_line[AUDITLINE_FIELDS * 20 + 64] = "{";

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		if (auditline_parse(&l, good[i], strlen(good[i]), &e) != 0)
			fail_msg("%s: %s", good[i], e.text);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (auditline_parse(&l, bad[i], strlen(bad[i]), &e) != -1 || e.code != 0)
			fail_msg("%s: %d", bad[i], e.code);
	for (size_t i = 0; i < sizeof shorter / sizeof shorter[0]; i++)
		if (auditline_parse(&l, shorter[i], strlen(shorter[i]), &e) != -1 || e.code != ENODATA)
			fail_msg("%s: %d", shorter[i], e.code);
	for (int i = 0; i <= AUDITLINE_FIELDS; i++)
		(void)snprintf(long_line + strlen(long_line), 20, "%s\"f%d\":1", i > 0 ? "," : "", i);
	strcat(long_line, "}");
	assert_int_equal(auditline_parse(&l, long_line, strlen(long_line), &e), -1);
}

static int
all(void **state)
{
	struct err e;

	(void)state;
	return crypto_init(&e);
}

int
main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(untouched),
		CASE(removed),
		CASE(changed),
		CASE(reordered_and_inserted),
		CASE(middle_of_the_story),
		CASE(torn),
		CASE(after_a_torn_line),
		CASE(killed_between_record_and_head),
		CASE(seen_half),
		cmocka_unit_test(strict_lines),
	};

	return cmocka_run_group_tests(tests, all, NULL);
}
