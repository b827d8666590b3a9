/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: what doctor thinks of permissions, of the self-check's lines, and of Landlock's answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "helper/cli/llstate.h"
#include "helper/cli/perms.h"
#include "helper/cli/selfcheck.h"

#define DAEMON 990u
#define BUILDERS 30001u

static int inode(uid_t uid, gid_t gid, mode_t mode, bool parent)
{
	struct stat st = { .st_uid = uid, .st_gid = gid, .st_mode = mode };
	struct perms_owner owner = { .daemon = DAEMON, .builders = BUILDERS };
	struct err e;

	return perms_inode(&st, owner, parent, &e);
}

static void test_owner(void **state)
{
	(void)state;
	assert_int_equal(inode(0, 0, S_IFREG | 0644, false), 0);
	assert_int_equal(inode(DAEMON, 0, S_IFREG | 0644, false), 0);
	assert_int_equal(inode(1000, 0, S_IFREG | 0644, false), -1);
	assert_int_equal(inode(1000, 0, S_IFDIR | 0755, true), -1);
}

static void test_mode(void **state)
{
	(void)state;
	assert_int_equal(inode(0, 0, S_IFREG | 0646, false), -1);
	assert_int_equal(inode(0, 100, S_IFREG | 0664, false), -1);
	assert_int_equal(inode(0, 0, S_IFREG | 0664, false), 0); /* group root */
	assert_int_equal(inode(0, 0, S_IFDIR | 0777, true), -1);
	assert_int_equal(inode(0, 30000, S_IFDIR | 0775, true), -1);
}

static void test_sticky(void **state)
{
	(void)state;
	/* /tmp and /gnu/store on the way to a file of root: others cannot rename it. */
	assert_int_equal(inode(0, 0, S_IFDIR | 01777, true), 0);
	assert_int_equal(inode(0, 30000, S_IFDIR | 01775, true), 0);
	/* But the place itself must not take files from others, and sticky files mean nothing. */
	assert_int_equal(inode(0, 0, S_IFDIR | 01777, false), -1);
	assert_int_equal(inode(0, 0, S_IFREG | 01666, true), -1);
	/* The store itself belongs to the builders, too. */
	assert_int_equal(inode(0, BUILDERS, S_IFDIR | 01775, false), 0);
	assert_int_equal(inode(0, BUILDERS, S_IFDIR | 0775, false), -1);
	assert_int_equal(inode(0, BUILDERS, S_IFREG | 0664, false), -1);
	assert_int_equal(inode(0, 30000, S_IFDIR | 01775, false), -1);
}

static void test_chain(void **state)
{
	char dir[] = "/tmp/narlock-perms.XXXXXX", path[64], link_path[64];
	struct perms_owner owner = { .daemon = geteuid() };
	struct err e;
	FILE *f;

	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof path, "%s/file", dir);
	(void)snprintf(link_path, sizeof link_path, "%s/link", dir);
	assert_int_equal(perms_path(path, owner, &e), -1);
	assert_int_equal(e.code, ENOENT);
	f = fopen(path, "w");
	assert_non_null(f);
	fclose(f);
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(symlink("file", link_path), 0);
	assert_int_equal(perms_path(path, owner, &e), 0);
	assert_int_equal(perms_path(link_path, owner, &e), 0);

	assert_int_equal(chmod(path, 0666), 0); /* seen through the link */
	assert_int_equal(perms_path(link_path, owner, &e), -1);
	assert_non_null(strstr(e.text, "/file can be written by everybody (chmod o-w)"));
	assert_int_equal(chmod(path, 0644), 0);

	assert_int_equal(chmod(dir, 0777), 0); /* whoever may rename it may replace it */
	assert_int_equal(perms_path(path, owner, &e), -1);
	assert_non_null(strstr(e.text, "can be written by everybody"));
	assert_int_equal(perms_path("relative", owner, &e), -1);
	unlink(link_path);
	unlink(path);
	rmdir(dir);
}

static void test_lines(void **state)
{
	static const struct {
		const char *line;
		enum finding finding;
	} cases[] = {
		{ "config /etc/narlock/narlock.conf ok", FINDING_OK },
		{ "config /etc/narlock/narlock.conf line 3: no `='", FINDING_UNSAFE },
		{ "acl /etc/guix/acl 2 keys", FINDING_OK },
		{ "acl /etc/guix/acl 0 keys", FINDING_DEGRADED },
		{ "acl /etc/guix/acl cannot be read", FINDING_DEGRADED },
		{ "acl /etc/2 keys/acl cannot be read", FINDING_DEGRADED },
		{ "mode root", FINDING_OK },
		{ "helper fetch uid=990 gid=990 caps=0", FINDING_OK },
		{ "helper unpack failed no such user", FINDING_UNSAFE },
		{ "broker confined seccomp=2 landlock=6", FINDING_OK },
		{ "url https://ci.guix.gnu.org reachable", FINDING_OK },
		{ "url https://ci.guix.gnu.org unreachable connection refused", FINDING_DEGRADED },
		{ "url https://x/unreachable unreachable", FINDING_DEGRADED },
		{ "url https://x/ unreachable server 1 of 1: it was not reachable a moment ago", FINDING_DEGRADED },
		{ "url https://x/ unreachable it was not reachable", FINDING_DEGRADED },
		{ "url", FINDING_DEGRADED },
		{ "config /etc/narlock/narlock.conf line 3: ok is no number", FINDING_UNSAFE },
		{ "blocks usable ipfs 127.0.0.1:5001: version 0.30.0", FINDING_OK },
		{ "blocks note ipfs 127.0.0.1:5001: cannot be reached: usable", FINDING_NOTE },
		{ "blocks useless gateway example.org: refuses us", FINDING_DEGRADED },
		{ "blocks sum 2 of 3 block sources usable", FINDING_OK },
		{ "blocks sum 0 of 3 block sources usable", FINDING_NOTE },
		{ "blocks sum 0", FINDING_NOTE },
		{ "blocks", FINDING_NOTE },
		{ "blocks useful", FINDING_NOTE },
		{ "verdict good", FINDING_OK },
		{ "verdict degraded no Landlock", FINDING_DEGRADED },
		{ "verdict unsafe no helper user", FINDING_UNSAFE },
		{ "verdict goodish", FINDING_UNSAFE },
		{ "verdict", FINDING_UNSAFE },
		{ "verdicts good", FINDING_NOTE },
		{ "something new", FINDING_NOTE },
		{ "", FINDING_NOTE },
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		if (selfcheck_finding(cases[i].line) != cases[i].finding)
			fail_msg("`%s' is judged %d", cases[i].line, (int)selfcheck_finding(cases[i].line));
}

static void check_end(const char *script, enum finding worst)
{
	char path[] = "/tmp/narlock-selfcheck.XXXXXX";
	struct report r = { .worst = FINDING_OK };
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, script, strlen(script)), (ssize_t)strlen(script));
	assert_int_equal(fchmod(fd, 0700), 0);
	close(fd);
	selfcheck_run(path, NULL, false, NULL, &r);
	unlink(path);
	assert_int_equal(r.worst, worst);
}

static void test_end(void **state)
{
	struct report r = { .worst = FINDING_OK };

	(void)state;
	check_end("#!/bin/sh\necho mode root\necho verdict good\n", FINDING_OK);
	check_end("#!/bin/sh\necho verdict good\nexit 1\n", FINDING_DEGRADED);
	check_end("#!/bin/sh\necho verdict good\nexit 2\n", FINDING_UNSAFE);
	check_end("#!/bin/sh\necho mode root\n", FINDING_UNSAFE); /* no verdict is none */
	check_end("#!/bin/sh\necho verdict good\nkill -9 $$\n", FINDING_UNSAFE);
	selfcheck_run("/nonexistent/broker", NULL, false, NULL, &r);
	assert_int_equal(r.worst, FINDING_UNSAFE);
}

static void test_landlock(void **state)
{
	char text[512];

	(void)state;
	llstate_explain(6, 0, "", text, sizeof text);
	assert_string_equal(text, "ABI 6");
	llstate_explain(1, 0, "", text, sizeof text);
	assert_non_null(strstr(text, "ABI 1 (the broker goes without it"));
	llstate_explain(0, ENOSYS, "", text, sizeof text);
	assert_non_null(strstr(text, "unsupported"));
	llstate_explain(0, EOPNOTSUPP, "capability,yama,apparmor", text, sizeof text);
	assert_non_null(strstr(text, "built but not in lsm=: boot with"
	    " `lsm=landlock,capability,yama,apparmor'"));
	llstate_explain(0, EPERM, "", text, sizeof text);
	assert_non_null(strstr(text, "forbids"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_owner),
		cmocka_unit_test(test_mode),
		cmocka_unit_test(test_sticky),
		cmocka_unit_test(test_chain),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_end),
		cmocka_unit_test(test_landlock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
