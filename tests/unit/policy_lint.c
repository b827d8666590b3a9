/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: bad policies are refused by the generator, each for its own reason. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#define main mkpolicy_main
#include "policy/mkpolicy.c"
#undef main

/* A reason that is long enough for anything. */
#define LONG " # a reason that is long enough for a call with a lot of power\n"

static struct source source;
static struct program program;

/* Lints TEXT and returns the last complaint, or NULL if there is none. */
static const char *
lint_as(const char *file, const char *text)
{
	char copy[2048];
	FILE *f;

	snprintf(copy, sizeof(copy), "%s", text);
	f = fmemopen(copy, strlen(copy), "r");
	assert_non_null(f);
	source_read(&source, file, f);
	fclose(f);
	source_lint(&source);
	source_free(&source);
	return source.errors == 0 ? NULL : source.complaint;
}

static const char *
lint(const char *text)
{
	return lint_as("dir/test.policy", text);
}

static void
refused(const char *text, const char *why)
{
	const char *complaint = lint(text);

	if (complaint == NULL || strstr(complaint, why) == NULL)
		fail_msg("`%s' gives `%s', not `%s'", text, complaint == NULL ? "nothing" : complaint, why);
}

static void
test_good(void **state)
{
	(void)state;
	assert_null(lint("# head\nread # frames\nwrite # frames\nenosys statx # newer libc\n"));
	assert_null(lint("socket arg0 == AF_INET arg1 & 0xff == SOCK_STREAM" LONG));
	assert_null(lint("fcntl arg1 == F_GETFL" LONG "fcntl arg1 == F_SETFL" LONG));
	assert_null(lint("mmap arg2 & PROT_EXEC == 0 # short,\n"
	    "   # but goes on here for quite a while, to the end\n"));
	assert_null(lint("errno EACCES openat # probes are harmless\n"));
	assert_null(lint("errno EPERM fcntl arg1 == F_DUPFD # no copies\nfcntl arg1 == F_GETFL" LONG));
}

static void
test_grammar(void **state)
{
	(void)state;
	refused("", "no rules");
	refused("# nothing\n", "no rules");
	refused("raed # typo\n", "unknown system call `raed'");
	refused("read\n", "needs a reason");
	refused("read #\n", "needs a reason");
	refused("read # a\n", "needs a reason");
	refused("errno read # which\n", "known error name");
	refused("errno EWHAT read # which\n", "known error name");
	refused("enosys # what then\n", "no system call name");
	refused("read arg6 == 1 # reason\n", "not arg0 to arg5");
	refused("read arg0x == 1 # reason\n", "not arg0 to arg5");
	refused("read fd == 1 # reason\n", "not arg0 to arg5");
	refused("read arg0 # reason\n", "unfinished");
	refused("read arg0 == # reason\n", "unfinished");
	refused("read arg0 & 3 # reason\n", "unfinished");
	refused("read arg0 == F_NOTHING # reason\n", "unknown value");
	refused("read arg0 == 12x # reason\n", "unknown value");
	refused("read arg0 == 1| # reason\n", "unknown value");
	refused("read arg0 == ~ # reason\n", "unknown value");
	refused("read arg0 == 0x10000000000000000 # reason\n", "unknown value");
	refused("read arg0 & WHAT == 1 # reason\n", "unknown mask");
	refused("read arg0 & 0 == 0 # reason\n", "always or never");
	refused("read arg0 & 1 == 2 # reason\n", "always or never");
	refused("read arg0 == 1 arg0 & 1 == 1 # reason\n", "checked twice");
	assert_non_null(lint_as("dir/test.txt", "read # frames\n"));
	assert_non_null(lint_as(".policy", "read # frames\n"));
}

static void
test_ordered(void **state)
{
	static const char *const operators[] = { "<", "<=", ">", ">=", "!=", "=", "in" };

	(void)state;
	for (unsigned i = 0; i < 7; i++) {
		char text[100];

		snprintf(text, sizeof(text), "read arg2 %s 4096 # small pieces\n", operators[i]);
		refused(text, "only == is allowed");
	}
}

/* Adds to TEXT a line for the call that newer architectures have instead of NAME, if they have one. */
static void
with_its_successor(char *text, size_t size, const char *name)
{
	size_t at = strlen(text);

	for (size_t i = 0; i < sizeof(replaced) / sizeof(replaced[0]); i++)
		if (strcmp(name, replaced[i].old) == 0)
			snprintf(text + at, size - at, "%s arg1 == 1%s", replaced[i].now, LONG);
}

static void
test_dangerous(void **state)
{
	char text[300];

	(void)state;
	for (unsigned i = 0; dangerous[i] != NULL; i++) {
		assert_int_not_equal(seccomp_syscall_resolve_name(dangerous[i]), __NR_SCMP_ERROR);
		snprintf(text, sizeof(text), "%s%s", dangerous[i], LONG);
		refused(text, "it needs a check");
		snprintf(text, sizeof(text), "%s arg1 == 1 # is needed\n", dangerous[i]);
		refused(text, "its reason needs");
		snprintf(text, sizeof(text), "%s arg1 == 1%s", dangerous[i], LONG);
		with_its_successor(text, sizeof(text), dangerous[i]);
		assert_null(lint(text));
	}
}

/* A policy that was only ever run on x86-64 would kill its process on aarch64. */
static void
test_replaced(void **state)
{
	(void)state;
	refused("poll # waits\n", "`ppoll' is needed, too");
	assert_null(lint("poll # waits\nppoll # waits\n"));
	assert_null(lint("ppoll # waits\n"));
	refused("poll # waits\nerrno EPERM ppoll # waits\n", "`ppoll' is needed, too");
	assert_null(lint("errno EPERM poll # waits\n"));
	for (size_t i = 0; i < sizeof(replaced) / sizeof(replaced[0]); i++) {
		int nr = seccomp_syscall_resolve_name_arch(SCMP_ARCH_AARCH64, replaced[i].old);

		assert_true(nr < 0 && nr != __NR_SCMP_ERROR);
		assert_true(seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86_64, replaced[i].old) >= 0);
		assert_true(seccomp_syscall_resolve_name_arch(SCMP_ARCH_AARCH64, replaced[i].now) >= 0);
		assert_true(seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86_64, replaced[i].now) >= 0);
	}
}

/* The table is complete: no other call of a policy is missing on one of the two. */
static void
test_policies_fit_both(void **state)
{
	static const char *const names[] = { "broker", "eris", "fetch", "publish", "publish_index", "publish_net",
		"resolve", "unpack" };

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char path[64];
		FILE *f;

		snprintf(path, sizeof(path), "policy/%s.policy", names[i]);
		f = fopen(path, "re");
		assert_non_null(f);
		source_read(&source, path, f);
		fclose(f);
		assert_int_equal(source.errors, 0);
		for (unsigned j = 0; j < source.rules; j++) {
			const char *name = source.rule[j].name;
			int old = 0;

			for (size_t k = 0; k < sizeof(replaced) / sizeof(replaced[0]); k++)
				old |= strcmp(name, replaced[k].old) == 0;
			assert_true(seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86_64, name) >= 0);
			if (seccomp_syscall_resolve_name_arch(SCMP_ARCH_AARCH64, name) < 0 && !old)
				fail_msg("%s: aarch64 has no %s", names[i], name);
		}
		source_free(&source);
	}
}

static void
test_conflicts(void **state)
{
	(void)state;
	refused("read # frames\nwrite # frames\nread # frames\n", "in line 1 already");
	refused("read # frames\nread arg0 == 3 # frames\n", "no argument check");
	refused("read arg0 == 3 # frames\nread # frames\n", "no argument check");
	refused("read # frames\nenosys read # frames\n", "no argument check");
	refused("read arg0 == 3 arg2 == 1 # frames\nread arg2 == 1 arg0 == 3 # frames\n", "same checks");
	refused("read arg0 == 3 # frames\nerrno EPERM read arg1 == 3 # frames\n", "answers differently");
	refused("read arg0 & 1 == 1 # frames\nerrno EPERM read arg0 & 2 == 2 # frames\n",
	    "answers differently");
}

static void
test_limits(void **state)
{
	char text[1000];

	(void)state;
	memset(text, 'a', sizeof(text) - 1);
	text[0] = '#';
	text[sizeof(text) - 1] = '\0';
	refused(text, "line too long");
}

/* libseccomp is content with what the lint lets through, and the new calls come first. */
static void
test_compile(void **state)
{
	(void)state;
	assert_null(lint("read # frames\nopenat2 arg3 == 24" LONG "close_range # all but mine\n"));
	assert_int_equal(source_compile(&source, SCMP_ACT_KILL_PROCESS, &program), 0);
	assert_true(program.length > 12);
	assert_int_equal(program.insn[5].k, SCMP_SYS(openat2));
	assert_int_equal(program.insn[6].k, SCMP_SYS(close_range));
	assert_int_equal(program.insn[7].k, SECCOMP_RET_ERRNO | ENOSYS);
	free(program.pfc);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_grammar),
		cmocka_unit_test(test_ordered),
		cmocka_unit_test(test_dangerous),
		cmocka_unit_test(test_replaced),
		cmocka_unit_test(test_policies_fit_both),
		cmocka_unit_test(test_conflicts),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_compile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
