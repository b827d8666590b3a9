/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: the audit log: one JSON object a line whatever is put into it, and a substitute that never waits for it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <signal.h>
#include <stdint.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <cmocka.h>

#include "broker/audit.h"
#include "broker/crypto.h"
#include "ipc/layers.h"
#include "ipc/text.h"
#include "tests/unit/child.h"

static char dir[64], path[80], head[88];
static struct audit a;
static struct capture c;
static char text[4 * LIMIT_AUDIT_LINE];

static int set_up(void **state)
{
	(void)state;
	if (make_scratch(dir) == NULL)
		return -1;
	(void)snprintf(path, sizeof path, "%s/audit.log", dir);
	(void)snprintf(head, sizeof head, "%s.head", path);
	a.fd = a.head = -1;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	if (a.fd >= 0)
		close(a.fd);
	if (a.head >= 0)
		close(a.head);
	(void)unlink(path);
	(void)unlink(head);
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
	audit_open(&a, path, "substitute", "");
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
				     "\"\",\"seq\":1,\"prev\":\"\",\"join\":\"\"}\n"));
	assert_non_null(strstr(text, "\"event\":\"refusal\",\"subject\":\"query\",\"reason\":\"because\",\"seq\":2,"));
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
	audit_open(&a, path, "query", "");
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
	audit_open(&a, path, "query", "");
	/* Around the edge, each length: the record must stay an object of bounded length. */
	for (size_t n = LIMIT_AUDIT_LINE - 700; n < LIMIT_AUDIT_LINE; n++) {
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
		assert_int_equal(l.full, strstr(l.text, ",\"cut\":true,\"seq\":") != NULL);
		if (n > LIMIT_AUDIT_LINE - 300)
			assert_true(l.full);
	}
}

static void records_are_appended(void **state)
{
	(void)state;
	audit_open(&a, path, "query", "");
	audit_event(&a, "one", "", "");
	close(a.fd);
	close(a.head);
	audit_open(&a, path, "query", "");
	audit_event(&a, "two", "", "");
	assert_int_equal(lines(), 2);
}

static void no_log_is_no_failure(void **state)
{
	(void)state;
	capture_begin(&c);
	audit_open(&a, "", "query", "");
	audit_event(&a, "x", "y", "z");
	assert_string_equal(capture_end(&c), "");
	assert_int_equal(a.fd, -1);
	capture_begin(&c);
	audit_open(&a, "/nonexistent/narlock/audit.log", "query", "");
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
	audit_open(&a, path, "query", "");
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
	audit_open(&a, "/dev/full", "query", "");
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
	audit_open(&a, path, "query", ""); /* nobody reads: no waiting for one */
	(void)capture_end(&c);
	assert_int_equal(a.fd, -1);
	reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(reader >= 0);
	audit_open(&a, path, "query", "");
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

/* --- The chain ------------------------------------------------------------------------------------------------- */

/* Line N (from 0) of `text', with its newline cut off, and its hash. */
static char *line_hash(unsigned n, char hash[65])
{
	static char line[LIMIT_AUDIT_LINE];
	const char *p = text;
	uint8_t digest[32];
	size_t len;

	while (n-- > 0)
		p = strchr(p, '\n') + 1;
	len = (size_t)(strchr(p, '\n') - p);
	memcpy(line, p, len);
	line[len] = '\0';
	crypto_sha256(digest, line, len);
	text_hex(hash, digest, 32);
	return line;
}

static int has(unsigned n, const char *name, const char *value)
{
	char want[120], hash[65];

	(void)snprintf(want, sizeof want, ",\"%s\":\"%s\"", name, value);
	return strstr(line_hash(n, hash), want) != NULL;
}

static struct audit other;

static void records_are_chained_and_joined(void **state)
{
	char first[65], second[65], third[65], last[65] = "";

	(void)state;
	audit_open(&a, path, "query", "alice\"\n");
	audit_open(&other, path, "substitute", "");
	audit_event(&a, "one", "", "");
	audit_event(&other, "two", "", "");
	audit_event(&a, "three", "", "");
	assert_int_equal(lines(), 3);
	(void)line_hash(0, first);
	(void)line_hash(1, second);
	(void)line_hash(2, third);
	assert_true(has(0, "prev", "") && has(0, "join", ""));
	assert_true(has(1, "prev", "") && has(1, "join", first));
	assert_true(has(2, "prev", first) && has(2, "join", second));
	assert_true(has(2, "claimed_user", "alice\\\"\\u000a"));
	assert_false(has(1, "claimed_user", ""));
	assert_int_equal(pread(a.head, last, 64, 0), 64);
	assert_string_equal(last, third);
	/* The log is taken away: the next one goes on from there. */
	assert_int_equal(unlink(path), 0);
	close(other.fd);
	close(other.head);
	audit_open(&other, path, "substitute", "");
	audit_event(&other, "four", "", "");
	assert_int_equal(lines(), 1);
	assert_true(has(0, "prev", "") && has(0, "join", third));
	close(other.fd);
	close(other.head);
}

static int64_t now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void nobody_waits_for_a_lock_that_is_kept(void **state)
{
	char first[65];
	int64_t begin;

	(void)state;
	audit_open(&a, path, "query", "");
	audit_open(&other, path, "query", "");
	assert_int_equal(flock(other.head, LOCK_EX), 0);
	begin = now_ms();
	audit_event(&a, "one", "", "");
	for (int i = 0; i < 100; i++)
		audit_event(&a, "two", "", "");
	assert_true(now_ms() - begin < 200); /* not 100 times 10 ms */
	assert_true(a.patience <= 0);
	assert_int_equal(flock(other.head, LOCK_UN), 0);
	assert_int_equal(lines(), 101);
	(void)line_hash(0, first);
	assert_non_null(strstr(line_hash(0, first), "\"unjoined\":true}"));
	assert_true(has(1, "prev", first));
	audit_event(&a, "three", "", "");
	(void)lines();
	assert_true(has(101, "join", ""));
	close(other.fd);
	close(other.head);
}

static void what_was_lost_is_counted_in_the_next_record(void **state)
{
	struct rlimit limit, old;
	char first[65];

	(void)state;
	audit_open(&a, path, "query", "");
	audit_event(&a, "one", "", "");
	(void)lines();
	(void)line_hash(0, first);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = old;
	limit.rlim_cur = (rlim_t)lseek(a.fd, 0, SEEK_END) + 20; /* a part of the next, and nothing of the one after it */
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	(void)signal(SIGXFSZ, SIG_IGN);
	capture_begin(&c);
	audit_event(&a, "torn", "", "");
	audit_event(&a, "lost", "", "");
	assert_non_null(strstr(capture_end(&c), "WARNING: the audit log cannot be written"));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	audit_event(&a, "two", "", "");
	(void)contents();
	assert_non_null(strstr(line_hash(2, (char[65]){ 0 }), "\"lost\":2,\"seq\":2,"));
	assert_true(has(2, "prev", first) && has(2, "join", first));
}

static int set_up_all(void **state)
{
	struct err e;

	(void)state;
	return crypto_init(&e);
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
		IN_DIR(records_are_chained_and_joined),
		IN_DIR(nobody_waits_for_a_lock_that_is_kept),
		IN_DIR(what_was_lost_is_counted_in_the_next_record),
	};

	return cmocka_run_group_tests(tests, set_up_all, NULL);
}
