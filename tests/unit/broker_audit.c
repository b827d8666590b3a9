/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: the audit log: one JSON object a line whatever is put into it, and a substitute that never waits for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "broker/audit.h"
#include "ipc/layers.h"
#include "tests/unit/child.h"

static char dir[64], path[80];
static struct audit a;
static struct capture c;
static char text[4 * LIMIT_AUDIT_LINE];

static int set_up(void **state)
{
	(void)state;
	if (make_scratch(dir) == NULL)
		return -1;
	(void)snprintf(path, sizeof path, "%s/audit.log", dir);
	a.fd = -1;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	if (a.fd >= 0)
		close(a.fd);
	(void)unlink(path);
	return rmdir(dir);
}

/* All that is in the log. */
static const char *contents(void)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	assert_true(fd >= 0);
	n = read(fd, text, sizeof text - 1);
	assert_true(n >= 0);
	text[n] = '\0';
	close(fd);
	return text;
}

/* Strict enough for what audit.c may write: {"name":"string"|number|true,...}, printable ASCII, known escapes. */
static const char *json_string(const char *p)
{
	if (*p++ != '"')
		return NULL;
	for (; *p != '"'; p++) {
		if (*p < 0x20 || *p > 0x7e)
			return NULL;
		if (*p != '\\')
			continue;
		p++;
		if (*p == 'u') {
			if (strspn(p + 1, "0123456789abcdef") < 4)
				return NULL;
			p += 4;
		} else if (*p != '"' && *p != '\\') {
			return NULL;
		}
	}
	return p + 1;
}

static int is_json_line(const char *p, size_t len)
{
	const char *end = p + len;

	if (*p++ != '{')
		return 0;
	for (;;) {
		if ((p = json_string(p)) == NULL || *p++ != ':')
			return 0;
		if (*p == '"')
			p = json_string(p);
		else if (strncmp(p, "true", 4) == 0)
			p += 4;
		else
			p += strspn(p, "0123456789");
		if (p == NULL || p >= end)
			return 0;
		if (*p == '}')
			return p + 1 == end;
		if (*p++ != ',')
			return 0;
	}
}

/* Every line of the log is an object; returns how many. */
static unsigned lines(void)
{
	const char *p = contents();
	unsigned n = 0;

	for (const char *end; *p != '\0'; p = end + 1, n++) {
		end = strchr(p, '\n');
		assert_non_null(end);
		if (!is_json_line(p, (size_t)(end - p)))
			fail_msg("no JSON: %.*s", (int)(end - p), p);
	}
	return n;
}

static void a_record_is_a_line(void **state)
{
	struct audit_line l;
	struct stat st;

	(void)state;
	audit_open(&a, path, "substitute");
	assert_true(a.fd >= 0);
	audit_begin(&a, &l, "substitute");
	audit_text(&l, "path", "/gnu/store/x");
	audit_number(&l, "bytes", UINT64_MAX);
	audit_layers(&l, "verified", LAYERS_PROVABLE | LAYER_MOUNTNS);
	audit_layers(&l, "claimed", 0);
	audit_end(&a, &l);
	audit_event(&a, "refusal", "query", "because");
	assert_int_equal(lines(), 2);
	assert_non_null(strstr(text, "\"mode\":\"substitute\",\"event\":\"substitute\",\"path\":\"/gnu/store/x\","
				     "\"bytes\":18446744073709551615,"
				     "\"verified\":\"uid,no-groups,no-caps,no-new-privs,seccomp,mount-namespace\",\"claimed\":"
				     "\"\"}\n"));
	assert_non_null(strstr(text, "\"event\":\"refusal\",\"subject\":\"query\",\"reason\":\"because\"}\n"));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777 & ~0640u, 0);
	assert_int_equal(a.lost, 0);
	assert_int_equal(fcntl(a.fd, F_GETFD), FD_CLOEXEC);
	assert_true(fcntl(a.fd, F_GETFL) & O_APPEND);
}

static void every_byte_is_escaped(void **state)
{
	struct audit_line l;
	char all[256];

	(void)state;
	for (int i = 0; i < 256; i++)
		all[i] = (char)i;
	audit_open(&a, path, "query");
	audit_begin(&a, &l, "x");
	audit_bytes(&l, "all", all, sizeof all);
	audit_text(&l, "tail", "\"},{\"verdict\":\"success\"}\n{\"event\":\"fake\\");
	audit_end(&a, &l);
	assert_int_equal(lines(), 1);
	assert_non_null(strstr(text, "\\u0000\\u0001"));
	assert_non_null(strstr(text, "\\\"#$"));
	assert_non_null(strstr(text, "[\\\\]"));
	assert_non_null(strstr(text, "~\\u007f\\u0080"));
	assert_non_null(strstr(text, "\\u00ff"));
	assert_null(strstr(text, "{\"event\":\"fake"));
}

static void what_does_not_fit_is_left_out_and_said(void **state)
{
	static char big[LIMIT_AUDIT_LINE];

	(void)state;
	audit_open(&a, path, "query");
	/* Around the edge, each length: the record must stay an object of bounded length. */
	for (size_t n = LIMIT_AUDIT_LINE - 400; n < LIMIT_AUDIT_LINE; n++) {
		struct audit_line l;
		size_t len;

		memset(big, n % 2 ? 'x' : '"', n);
		audit_begin(&a, &l, "x");
		audit_bytes(&l, "big", big, (unsigned)n);
		audit_text(&l, "more", "something");
		audit_number(&l, "number", 5);
		audit_end(&a, &l);
		assert_int_equal(ftruncate(a.fd, 0), 0);
		audit_end(&a, &(struct audit_line){ .text = "{\"a\":1", .len = 6 });
		assert_int_equal(ftruncate(a.fd, 0), 0);
		len = l.len;
		assert_true(len <= LIMIT_AUDIT_LINE);
		assert_int_equal(l.text[len - 1], '\n');
		if (!is_json_line(l.text, len - 1))
			fail_msg("length %zu: %.*s", n, (int)len, l.text + (len > 200 ? len - 200 : 0));
		l.text[len - 1] = '\0';
		assert_int_equal(l.full, strstr(l.text, "\"cut\":true}") != NULL);
		if (n > LIMIT_AUDIT_LINE - 100)
			assert_true(l.full);
	}
}

static void records_are_appended(void **state)
{
	(void)state;
	audit_open(&a, path, "query");
	audit_event(&a, "one", "", "");
	close(a.fd);
	audit_open(&a, path, "query");
	audit_event(&a, "two", "", "");
	assert_int_equal(lines(), 2);
}

static void no_log_is_no_failure(void **state)
{
	(void)state;
	capture_begin(&c);
	audit_open(&a, "", "query");
	audit_event(&a, "x", "y", "z");
	assert_string_equal(capture_end(&c), "");
	assert_int_equal(a.fd, -1);
	capture_begin(&c);
	audit_open(&a, "/nonexistent/narlock/audit.log", "query");
	audit_event(&a, "x", "y", "z");
	audit_event(&a, "x", "y", "z");
	assert_non_null(strstr(capture_end(&c), "warning: no audit log"));
	assert_int_equal(a.fd, -1);
	assert_ptr_equal(strchr(c.text, '\n'), c.text + strlen(c.text) - 1); /* once */
}

static void a_link_is_not_followed(void **state)
{
	char target[90];

	(void)state;
	(void)snprintf(target, sizeof target, "%s-target", path);
	assert_int_equal(symlink(target, path), 0);
	capture_begin(&c);
	audit_open(&a, path, "query");
	(void)capture_end(&c);
	assert_int_equal(a.fd, -1);
	assert_int_equal(access(target, F_OK), -1);
}

static void a_full_disk_is_told_once(void **state)
{
	(void)state;
	if (access("/dev/full", W_OK) < 0) {
		print_message("SKIP full disk: there is no /dev/full\n");
		skip();
	}
	audit_open(&a, "/dev/full", "query");
	assert_true(a.fd >= 0);
	capture_begin(&c);
	for (int i = 0; i < 10; i++)
		audit_event(&a, "x", "y", "z");
	assert_non_null(strstr(capture_end(&c), "cannot be written"));
	assert_ptr_equal(strchr(c.text, '\n'), c.text + strlen(c.text) - 1);
	assert_int_equal(a.lost, 10);
}

static void a_slow_reader_stops_nobody(void **state)
{
	int reader;

	(void)state;
	assert_int_equal(mkfifo(path, 0600), 0);
	capture_begin(&c);
	audit_open(&a, path, "query"); /* nobody reads: no waiting for one */
	(void)capture_end(&c);
	assert_int_equal(a.fd, -1);
	reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(reader >= 0);
	audit_open(&a, path, "query");
	assert_true(a.fd >= 0);
	alarm(20);
	capture_begin(&c);
	for (int i = 0; i < 5000; i++)
		audit_event(&a, "x", "y", "some text that fills the pipe in the end");
	(void)capture_end(&c);
	alarm(0);
	assert_true(a.lost > 0);
	close(reader);
}

int main(void)
{
#define IN_DIR(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		IN_DIR(a_record_is_a_line),
		IN_DIR(every_byte_is_escaped),
		IN_DIR(what_does_not_fit_is_left_out_and_said),
		IN_DIR(records_are_appended),
		IN_DIR(no_log_is_no_failure),
		IN_DIR(a_link_is_not_followed),
		IN_DIR(a_full_disk_is_told_once),
		IN_DIR(a_slow_reader_stops_nobody),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
