/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: children that seal themselves with each policy and then try what is forbidden, with arguments that
 * do no harm (bad pointers, descriptor -1), next to a control child without the filter.
 *
 * Dropping the uid needs root; without it those tests are skipped by name. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper/common/seal.h"

#define SOME_ID 64123 /* nobody's */

/* What a child did, as it tells through its exit status or its death. */
enum { OK = 0, SEAL_FAILED = 100, DROP_FAILED, WRONG };

static struct seal_options
options(const struct policy *policy)
{
	struct seal_options o = { .policy = policy, .fds = 7, .nofile = 16, .fsize = 0, .as = SEAL_NO_LIMIT };

	if (geteuid() != 0)
		o.flags = SEAL_ALLOW_ROOT; /* bounding set: only root can empty it */
	return o;
}

/* What the spawner does before exec. */
static void
drop(void)
{
	char pid[20];

	snprintf(pid, sizeof(pid), "%d", (int)getppid());
	setenv(SEAL_SPAWNER, pid, 1);
	if (geteuid() == 0) {
		for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
			if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0)
				_exit(DROP_FAILED);
		if (setgroups(0, NULL) != 0 || setresgid(SOME_ID, SOME_ID, SOME_ID) != 0 ||
		    setresuid(SOME_ID, SOME_ID, SOME_ID) != 0)
			_exit(DROP_FAILED);
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		_exit(DROP_FAILED);
}

/* Runs FN(ARG) in a child and returns what waitpid says. */
static int
in_child(void (*fn)(void *), void *arg)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		static const struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_CORE, &none);
		fn(arg);
		_exit(OK);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void
ended_with(int status, int code)
{
	if (!WIFEXITED(status) || WEXITSTATUS(status) != code)
		fail_msg("status 0x%x, wanted exit %d", (unsigned)status, code);
}

static void
need_root(void)
{
	if (geteuid() != 0) {
		print_message("SKIP: needs root\n");
		skip();
	}
}

/* --- Calls ------------------------------------------------------------------------------------------- */

#ifndef NARLOCK_NO_SECCOMP
struct attempt {
	const struct policy *policy; /* NULL: the control run, without any lock */
	long nr, a0, a1, a2, a3;
	int expect;                  /* errno that the call gives, 0: success, -1: SIGSYS */
};

static void
attempt(void *arg)
{
	const struct attempt *a = arg;
	long rc;

	if (a->policy != NULL) {
		struct seal_options o = options(a->policy);
		struct seal_report r;
		struct err e;

		drop();
		if (seal_process(&o, &r, &e) != 0) {
			dprintf(2, "%s\n", e.text);
			_exit(SEAL_FAILED);
		}
	}
	rc = syscall(a->nr, a->a0, a->a1, a->a2, a->a3, 0, 0);
	_exit(rc < 0 ? errno : OK);
}

static void
check(const struct attempt *a)
{
	int status = in_child(attempt, (void *)(uintptr_t)a);

	if (a->expect < 0 ? !WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS :
	    !WIFEXITED(status) || WEXITSTATUS(status) != a->expect)
		fail_msg("%s: call %ld: status 0x%x, wanted %d",
		    a->policy != NULL ? a->policy->name : "control", a->nr, (unsigned)status, a->expect);
}

static const struct policy *const everyone[] = { &policy_unpack, &policy_fetch, &policy_resolve,
	&policy_broker };

/* Old calls that no process may make, and what they say without the filter. */
static void
test_old_calls(void **state)
{
	static const struct attempt calls[] = {
		{ NULL, SYS_execve, 0, 0, 0, 0, EFAULT },
		{ NULL, SYS_ptrace, -1, -1, 0, 0, ESRCH },
		{ NULL, SYS_kill, 0, 0, 0, 0, 0 },
		{ NULL, SYS_mount, 0, -1, -1, 0, EFAULT },
		{ NULL, SYS_setns, -1, 0, 0, 0, EBADF },
		{ NULL, SYS_unshare, 0, 0, 0, 0, 0 },
		{ NULL, SYS_listen, -1, 0, 0, 0, EBADF },
		{ NULL, SYS_socketpair, -1, 0, 0, 0, EFAULT },
		{ NULL, SYS_process_vm_readv, 0, 0, 0, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		struct attempt a = calls[i];

		check(&a);
		a.expect = -1;
		for (unsigned p = 0; p < 4; p++) {
			a.policy = everyone[p];
			check(&a);
		}
	}
}

/* Calls that are newer than the policies: as on an older kernel. */
static void
test_new_calls(void **state)
{
	static const long calls[] = { SYS_clone3, SYS_io_uring_setup, SYS_close_range, SYS_pidfd_getfd, 450,
		470, 999 };

	(void)state;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		for (unsigned p = 0; p < 4; p++) {
			struct attempt a = { everyone[p], calls[i], -1, -1, -1, -1, ENOSYS };

			check(&a);
		}
}

static void
test_arguments(void **state)
{
	const struct policy *u = &policy_unpack, *f = &policy_fetch, *b = &policy_broker;
	const long exec = PROT_READ | PROT_EXEC, anon = MAP_PRIVATE | MAP_ANONYMOUS;
	const long tcp = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
	const struct attempt calls[] = {
		{ NULL, SYS_mmap, 0, 4096, exec, anon, 0 },
		{ u, SYS_mmap, 0, 4096, exec, anon, -1 },
		{ f, SYS_mmap, 0, 4096, exec, anon, -1 },
		{ b, SYS_mmap, 0, 4096, exec, anon, -1 },
		{ u, SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE, anon, 0 },
		{ u, SYS_mmap, 0, 4096, PROT_READ | PROT_WRITE | 1l << 32, anon, -1 },
		{ NULL, SYS_socket, AF_UNIX, SOCK_STREAM, 0, 0, 0 },
		{ u, SYS_socket, AF_UNIX, SOCK_STREAM, 0, 0, -1 },
		{ b, SYS_socket, AF_UNIX, SOCK_STREAM, 0, 0, -1 },
		{ f, SYS_socket, AF_UNIX, SOCK_STREAM, 0, 0, -1 },
		{ f, SYS_socket, AF_INET | 1l << 32, tcp, IPPROTO_TCP, 0, -1 },
		{ f, SYS_socket, AF_INET, tcp, IPPROTO_TCP, 0, 0 },
		{ u, SYS_connect, -1, 0, 16, 0, -1 },
		{ f, SYS_connect, -1, 0, 16, 0, EBADF },
		{ f, SYS_connect, -1, 0, 110, 0, EBADF },
		{ f, SYS_connect, -1, 0, 12, 0, -1 },
		{ f, SYS_socket, AF_UNIX, tcp, 0, 0, 0 },
		{ f, SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, 0, -1 },
		{ u, SYS_prlimit64, 0, RLIMIT_AS, 0, 0, 0 },
		{ u, SYS_prlimit64, 0, RLIMIT_NOFILE, 0, 0, -1 },
		{ u, SYS_prlimit64, 1, RLIMIT_AS, 0, 0, -1 },
		{ b, SYS_clone, SIGCHLD, 0, 0, 0, -1 },
		{ b, SYS_openat, AT_FDCWD, 0, O_CLOEXEC, 0, EFAULT },
		{ b, SYS_openat, AT_FDCWD, 0, 0, 0, -1 },
		{ u, SYS_openat, AT_FDCWD, 0, O_CLOEXEC, 0, -1 },
		{ f, SYS_openat, AT_FDCWD, 0, O_CLOEXEC, 0, -1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		check(&calls[i]);
}

#if defined(__x86_64__)
/* The same call through the 32-bit entry (number 20 is getpid there): another architecture. */
static void
through_int80(void *arg)
{
	struct seal_options o = options(&policy_broker);
	struct seal_report r;
	struct err e;
	long rc;

	(void)arg;
	drop();
	if (seal_process(&o, &r, &e) != 0)
		_exit(SEAL_FAILED);
	__asm__ volatile("int $0x80" : "=a"(rc) : "0"(20l) : "memory", "r8", "r9", "r10", "r11");
	_exit(WRONG);
}

static void
test_other_entries(void **state)
{
	int status = in_child(through_int80, NULL);
	struct attempt x32 = { &policy_broker, SYS_getppid | 0x40000000, 0, 0, 0, 0, -1 };

	(void)state;
	/* A kernel without 32-bit support says SIGSEGV. */
	assert_true(WIFSIGNALED(status) && (WTERMSIG(status) == SIGSYS || WTERMSIG(status) == SIGSEGV));
	check(&x32);
}
#endif

/* The trapping build answers with a signal that can be caught. */
static void
on_sigsys(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	_exit(info->si_syscall == SYS_getpgid ? 77 : WRONG);
}

static void
trapped(void *arg)
{
	struct sigaction sa = { .sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO };
	struct err e;

	(void)arg;
	drop();
	sigaction(SIGSYS, &sa, NULL);
	if (policy_load(&policy_unpack_trap, &e) != 0)
		_exit(SEAL_FAILED);
	syscall(SYS_getpgid, 0);
	_exit(WRONG);
}

static void
test_trap(void **state)
{
	(void)state;
	ended_with(in_child(trapped, NULL), 77);
}

/* Threads, malloc arenas and their ends work under the broker's policy. */
static void *
thread(void *arg)
{
	void *p[50];

	for (unsigned i = 0; i < 50; i++)
		p[i] = malloc(i * 9000);
	for (unsigned i = 0; i < 50; i++)
		free(p[i]);
	return arg;
}

static void
with_threads(void *arg)
{
	pthread_t t[4];
	struct err e;

	(void)arg;
	drop();
	if (policy_load(&policy_broker, &e) != 0)
		_exit(SEAL_FAILED);
	for (unsigned i = 0; i < 4; i++)
		if (pthread_create(&t[i], NULL, thread, NULL) != 0)
			_exit(WRONG);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	free(malloc(10000000));
}

static void
test_broker_threads(void **state)
{
	(void)state;
	ended_with(in_child(with_threads, NULL), OK);
}
#endif

/* --- The other layers -------------------------------------------------------------------------------- */

static struct seal_report *shared;
static char *shared_text;

static void
seal_only(void *arg)
{
	struct seal_options *o = arg;
	struct err e = { 0 };
	int rc;

	drop();
	rc = seal_process(o, shared, &e);
	strcpy(shared_text, e.text);
	_exit(rc == 0 ? OK : SEAL_FAILED);
}

static void
test_report(void **state)
{
	struct seal_options o = options(&policy_unpack);
	uint32_t must = LAYER_NO_NEW_PRIVS | LAYER_RLIMITS | LAYER_NOT_DUMPABLE | LAYER_PDEATHSIG;
	struct wire_msg m;

	(void)state;
	ended_with(in_child(seal_only, &o), OK);
#ifndef NARLOCK_NO_SECCOMP
	must |= LAYER_SECCOMP;
	assert_int_equal(shared->filter_len, policy_unpack.length);
#else
	assert_int_equal(shared->layers & LAYER_SECCOMP, 0);
#endif
	if (geteuid() == 0)
		must |= LAYER_UID | LAYER_NO_GROUPS | LAYER_NO_CAPS;
	assert_int_equal(shared->layers & must, must);
	if (shared->landlock_abi > 0)
		assert_true(shared->layers & LAYER_LANDLOCK_FS);
	else
		assert_int_not_equal(shared->landlock_error, 0);
	print_message("layers 0x%x, Landlock ABI %d\n", shared->layers, shared->landlock_abi);
	seal_message(shared, NULL, &m);
	assert_int_equal(m.type, MSG_SEALED);
	assert_int_equal(m.layers, shared->layers);
}

static void
refused(struct seal_options *o, void (*fn)(void *), const char *why)
{
	ended_with(in_child(fn, o), SEAL_FAILED);
	if (strstr(shared_text, why) == NULL)
		fail_msg("`%s', wanted `%s'", shared_text, why);
}

static void
without_spawner(void *arg)
{
	struct seal_options *o = arg;
	struct err e = { 0 };
	int rc;

	drop();
	if (o->flags & 0x100) /* another process than the parent */
		setenv(SEAL_SPAWNER, "1", 1);
	else
		unsetenv(SEAL_SPAWNER);
	rc = seal_process(o, shared, &e);
	strcpy(shared_text, e.text);
	_exit(rc == 0 ? OK : SEAL_FAILED);
}

static void
without_nnp(void *arg)
{
	struct err e = { 0 };
	char pid[20];
	int rc;

	snprintf(pid, sizeof(pid), "%d", (int)getppid());
	setenv(SEAL_SPAWNER, pid, 1);
	rc = seal_process(arg, shared, &e);
	strcpy(shared_text, e.text);
	_exit(rc == 0 ? OK : SEAL_FAILED);
}

static void
test_refusals(void **state)
{
	struct seal_options o = options(&policy_unpack);

	(void)state;
	refused(&o, without_spawner, "not in the environment");
	o.flags |= 0x100;
	refused(&o, without_spawner, "not the spawner");
	o = options(&policy_unpack);
	o.flags = SEAL_ALLOW_ROOT;
	refused(&o, without_nnp, "no_new_privs is not set");
	o = options(&policy_unpack);
	o.fds = 1ull << 40 | 7;
	refused(&o, seal_only, "descriptor 40 was not handed over");
}

/* Root, kept uids, kept capabilities: each is noticed. */
static void
half_dropped(void *arg)
{
	struct seal_options o = options(&policy_unpack);
	struct err e = { 0 };
	char pid[20];
	int rc;

	snprintf(pid, sizeof(pid), "%d", (int)getppid());
	setenv(SEAL_SPAWNER, pid, 1);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	o.flags = 0;
	switch (*(int *)arg) {
	case 0: /* still root */
		break;
	case 1: /* the saved uid can bring root back */
		if (setresgid(SOME_ID, SOME_ID, SOME_ID) != 0 || setresuid(SOME_ID, SOME_ID, 0) != 0)
			_exit(DROP_FAILED);
		break;
	case 2: /* the saved gid */
		if (setresgid(SOME_ID, SOME_ID, 0) != 0 || setresuid(SOME_ID, SOME_ID, SOME_ID) != 0)
			_exit(DROP_FAILED);
		break;
	case 3: /* a full bounding set */
		if (setresgid(SOME_ID, SOME_ID, SOME_ID) != 0 || setresuid(SOME_ID, SOME_ID, SOME_ID) != 0)
			_exit(DROP_FAILED);
		break;
	}
	rc = seal_process(&o, shared, &e);
	strcpy(shared_text, e.text);
	_exit(rc == 0 ? OK : SEAL_FAILED);
}

static void
test_half_dropped(void **state)
{
	static const char mixed[] = "root or with mixed ids";
	static const char *const why[] = { mixed, mixed, mixed, "has capabilities" };

	(void)state;
	need_root();
	for (int i = 0; i < 4; i++) {
		ended_with(in_child(half_dropped, &i), SEAL_FAILED);
		assert_non_null(strstr(shared_text, why[i]));
	}
}

/* What is left open by mistake is closed. */
static void
with_stray_fds(void *arg)
{
	struct seal_options o = options(&policy_broker);
	struct seal_report r;
	struct err e;

	(void)arg;
	dup2(0, 4);
	dup2(0, 5);
	dup2(0, 63);
	dup2(0, 700);
	drop();
	o.fds = 7 | 1u << 5;
	if (seal_process(&o, &r, &e) != 0)
		_exit(SEAL_FAILED);
	for (int fd = 0; fd < 1024; fd++)
		if ((fcntl(fd, F_GETFL) >= 0) != (fd < 3 || fd == 5))
			_exit(WRONG);
}

static void
test_descriptors(void **state)
{
	(void)state;
	ended_with(in_child(with_stray_fds, NULL), OK);
}

/* Landlock by itself: the broker's policy would allow to open files. */
static void
open_after(void *arg)
{
	const struct landlock_rule *rule = arg;
	struct seal_options o = options(&policy_broker);
	struct seal_report r;
	struct err e;
	int fd;

	if (rule != NULL) {
		o.files = rule;
		o.nfiles = 2;
	}
	drop();
	if (seal_process(&o, &r, &e) != 0)
		_exit(SEAL_FAILED);
	if ((r.layers & LAYER_LANDLOCK_FS) == 0)
		_exit(99);
	fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
	if (rule != NULL && fd < 0)
		_exit(WRONG);
	if (rule != NULL && open("/etc/passwd", O_WRONLY | O_CLOEXEC) >= 0)
		_exit(WRONG);
	if (rule != NULL)
		fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	_exit(fd < 0 ? errno : OK);
}

static void
test_landlock(void **state)
{
	static const struct landlock_rule rules[] = { { "/etc", LANDLOCK_READ },
		{ "/nonexistent/x", LANDLOCK_READ } };
	int status = in_child(open_after, NULL);

	(void)state;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 99) {
		print_message("SKIP: this kernel has no Landlock\n");
		skip();
	}
	ended_with(status, EACCES);
	ended_with(in_child(open_after, (void *)(uintptr_t)rules), EACCES);
}

#ifdef NARLOCK_TEST_HOOKS
static void
test_no_landlock(void **state)
{
	static const int errors[] = { ENOSYS, EOPNOTSUPP, EPERM };
	static const char *const notes[] = { "has no Landlock", "lsm= list", "forbidden here" };
	struct seal_options o = options(&policy_unpack);
	struct wire_msg m;
	char note[256];

	(void)state;
	for (int i = 0; i < 3; i++) {
		landlock_test_errno = errors[i];
		ended_with(in_child(seal_only, &o), OK);
		assert_int_equal(shared->landlock_abi, 0);
		assert_int_equal(shared->landlock_error, errors[i]);
		assert_int_equal(shared->layers & LAYER_LANDLOCK_FS, 0);
		assert_int_equal(shared->layers & (LAYER_LANDLOCK_NET | LAYER_LANDLOCK_SCOPE), 0);
		seal_message(shared, NULL, &m);
		wire_copy(note, sizeof(note), m.text);
		assert_non_null(strstr(note, notes[i]));
	}
	landlock_test_errno = EIO;
	ended_with(in_child(seal_only, &o), SEAL_FAILED);
	landlock_test_errno = 0;
}
#endif

/* The limits hold after the lock. */
static void
limits_hold(void *arg)
{
	struct seal_options o = options(&policy_broker);
	struct seal_report r;
	struct err e;
	struct rlimit l;

	(void)arg;
	o.fsize = 4096;
	o.as = 1ull << 30;
	drop();
	if (seal_process(&o, &r, &e) != 0)
		_exit(SEAL_FAILED);
	if (getrlimit(RLIMIT_CORE, &l) != 0 || l.rlim_max != 0 || getrlimit(RLIMIT_NPROC, &l) != 0 ||
	    l.rlim_max != 0 || getrlimit(RLIMIT_NOFILE, &l) != 0 || l.rlim_max != 16 ||
	    getrlimit(RLIMIT_FSIZE, &l) != 0 || l.rlim_max != 4096)
		_exit(WRONG);
#ifndef NARLOCK_NO_SECCOMP
	if (getrlimit(RLIMIT_AS, &l) != 0 || l.rlim_max != 1ull << 30)
		_exit(WRONG);
#endif
}

static void
test_limits(void **state)
{
	(void)state;
	ended_with(in_child(limits_hold, NULL), OK);
}

/* A sealed process dies with its spawner, also when it is stopped. */
static void
sealed_and_stopped(void *arg)
{
	int *pipe_fd = arg;
	pid_t pid = fork();

	alarm(20); /* in both, instead of waiting for ever; a stopped child that is not killed stays a failure */
	if (pid == 0) {
		struct seal_options o = options(&policy_unpack);
		struct seal_report r;
		struct err e;
		char c;

		drop();
		o.fds = 7 | 1u << pipe_fd[1];
		if (seal_process(&o, &r, &e) != 0)
			_exit(SEAL_FAILED);
		/* The write end stays open as long as this process lives. */
		if (write(pipe_fd[1], "s", 1) != 1)
			_exit(WRONG);
		for (;;)
			if (read(pipe_fd[1], &c, 0) > 0)
				_exit(WRONG);
	}
	close(pipe_fd[1]);
	{
		char c;

		if (read(pipe_fd[0], &c, 1) != 1)
			_exit(WRONG);
	}
	kill(pid, SIGSTOP);
	_exit(OK);
}

static void
test_death_with_parent(void **state)
{
	int fds[2];
	char c;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	ended_with(in_child(sealed_and_stopped, fds), OK);
	close(fds[1]);
	alarm(20);
	assert_int_equal(read(fds[0], &c, 1), 0);
	alarm(0);
	close(fds[0]);
}

static int
set_up(void **state)
{
	(void)state;
	shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	shared_text = (char *)shared + 4096;
	return shared == MAP_FAILED ? -1 : 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#ifndef NARLOCK_NO_SECCOMP
		cmocka_unit_test(test_old_calls),
		cmocka_unit_test(test_new_calls),
		cmocka_unit_test(test_arguments),
#if defined(__x86_64__)
		cmocka_unit_test(test_other_entries),
#endif
		cmocka_unit_test(test_trap),
		cmocka_unit_test(test_broker_threads),
#endif
		cmocka_unit_test(test_report),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_half_dropped),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_landlock),
#ifdef NARLOCK_TEST_HOOKS
		cmocka_unit_test(test_no_landlock),
#endif
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_death_with_parent),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
