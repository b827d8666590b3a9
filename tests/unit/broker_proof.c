/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: the proof of a helper's state: each line of /proc/PID/status that is wrong or missing is seen. */
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <cmocka.h>

#include "broker/drop.h"
#include "broker/proof.h"
#include "ipc/layers.h"
#include "ipc/limits.h"
#include "tests/unit/child.h"

#define OTHER 65534

static const char good[] =
	"Name:\tfetch\n"
	"Umask:\t0077\n"
	"State:\tS (sleeping)\n"
	"Pid:\t123\n"
	"Uid:\t990\t990\t990\t990\n"
	"Gid:\t980\t980\t980\t980\n"
	"FDSize:\t64\n"
	"Groups:\t \n"
	"VmSize:\t  1234 kB\n"
	"Threads:\t1\n"
	"SigQ:\t0/100\n"
	"CapInh:\t0000000000000000\n"
	"CapPrm:\t0000000000000000\n"
	"CapEff:\t0000000000000000\n"
	"CapBnd:\t0000000000000000\n"
	"CapAmb:\t0000000000000000\n"
	"NoNewPrivs:\t1\n"
	"Seccomp:\t2\n"
	"Seccomp_filters:\t2\n"
	"Speculation_Store_Bypass:\tthread vulnerable\n";

static const struct proof_demand user = { .isolation = ISOLATE_USER, .uid = 990, .gid = 980, .filters_before = 1 };
static const struct proof_demand lowered = { .isolation = ISOLATE_LOWERED, .uid = 990, .gid = 980,
					     .filters_before = 1 };
static const struct proof_demand namespaced = { .isolation = ISOLATE_NAMESPACE, .uid = 990, .gid = 980,
						.filters_before = 1 };
static const struct proof_demand unit = { .isolation = ISOLATE_UNIT, .uid = 990, .gid = 980, .filters_before = 1 };
static uint32_t layers;
static struct err e;

/* GOOD with the line that begins with NAME replaced by LINE (or taken out); judged against D. */
static int with(const struct proof_demand *d, const char *name, const char *line)
{
	char text[2048];
	const char *at = strstr(good, name), *rest;
	int rc;

	assert_non_null(at);
	assert_true(at == good || at[-1] == '\n');
	rest = strchr(at, '\n') + 1;
	(void)snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good, line, rest);
	e.text[0] = '\0';
	rc = proof_parse(text, d, &layers, &e);
	assert_int_equal(rc < 0, e.text[0] != '\0');
	return rc;
}

static void a_good_state_is_accepted(void **state)
{
	(void)state;
	assert_int_equal(proof_parse(good, &user, &layers, &e), 0);
	assert_int_equal(layers, LAYERS_PROVABLE);
	/* Without another uid no layer of that name is claimed. */
	assert_int_equal(proof_parse(good, &lowered, &layers, &e), 0);
	assert_int_equal(layers, LAYER_NO_CAPS | LAYER_NO_NEW_PRIVS | LAYER_SECCOMP);
	assert_int_equal(proof_parse(good, &namespaced, &layers, &e), 0);
	assert_int_equal(layers, LAYER_NO_CAPS | LAYER_NO_NEW_PRIVS | LAYER_SECCOMP);
}

static void each_wrong_line_is_refused(void **state)
{
	static const char *const lines[][2] = {
		{ "Uid:", "Uid:\t0\t990\t990\t990\n" }, { "Uid:", "Uid:\t990\t0\t990\t990\n" },
		{ "Uid:", "Uid:\t990\t990\t0\t990\n" }, { "Uid:", "Uid:\t990\t990\t990\t0\n" },
		{ "Uid:", "Uid:\t0\t0\t0\t0\n" }, { "Uid:", "Uid:\t991\t991\t991\t991\n" },
		{ "Uid:", "Uid:\t990\t990\t990\n" }, { "Uid:", "Uid:\n" },
		{ "Gid:", "Gid:\t0\t980\t980\t980\n" }, { "Gid:", "Gid:\t980\t0\t980\t980\n" },
		{ "Gid:", "Gid:\t980\t980\t0\t980\n" }, { "Gid:", "Gid:\t980\t980\t980\t0\n" },
		{ "Gid:", "Gid:\tx\n" },
		{ "Groups:", "Groups:\t0 \n" }, { "Groups:", "Groups:\t980 27 \n" },
		{ "CapInh:", "CapInh:\t0000000000000001\n" }, { "CapPrm:", "CapPrm:\t8000000000000000\n" },
		{ "CapEff:", "CapEff:\t0000000000000080\n" }, { "CapBnd:", "CapBnd:\t000001ffffffffff\n" },
		{ "CapAmb:", "CapAmb:\t0000000000000001\n" }, { "CapEff:", "CapEff:\t\n" },
		{ "CapEff:", "CapEff:\tnone\n" },
		{ "NoNewPrivs:", "NoNewPrivs:\t0\n" }, { "NoNewPrivs:", "NoNewPrivs:\t\n" },
		{ "Threads:", "Threads:\t2\n" }, { "Threads:", "Threads:\t0\n" },
		{ "Seccomp:", "Seccomp:\t0\n" }, { "Seccomp:", "Seccomp:\t1\n" },
		{ "Seccomp_filters:", "Seccomp_filters:\t1\n" }, { "Seccomp_filters:", "Seccomp_filters:\t0\n" },
		{ "Seccomp_filters:", "Seccomp_filters:\tmany\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
		if (with(&user, lines[i][0], lines[i][1]) != -1)
			fail_msg("accepted: %s", lines[i][1]);
}

/* All that is demanded of another uid; only its own group may stand among the groups. */
static void a_unit_is_another_user(void **state)
{
	(void)state;
	assert_int_equal(proof_parse(good, &unit, &layers, &e), 0);
	assert_int_equal(layers, LAYERS_PROVABLE);
	assert_int_equal(with(&unit, "Groups:", "Groups:\t980 \n"), 0);
	assert_int_equal(layers, LAYERS_PROVABLE);
	assert_int_equal(with(&unit, "Groups:", "Groups:\t981 \n"), -1);
	assert_int_equal(with(&unit, "Groups:", "Groups:\t980 27 \n"), -1);
	assert_int_equal(with(&unit, "Groups:", "Groups:\t27 980 \n"), -1);
	assert_int_equal(with(&unit, "Groups:", ""), -1);
	assert_int_equal(with(&user, "Groups:", "Groups:\t980 \n"), -1);
	assert_int_equal(with(&unit, "CapBnd:", "CapBnd:\t0000000000000001\n"), -1);
	assert_int_equal(with(&unit, "Uid:", "Uid:\t990\t990\t0\t990\n"), -1);
	assert_int_equal(with(&unit, "NoNewPrivs:", "NoNewPrivs:\t0\n"), -1);
	assert_int_equal(with(&unit, "Seccomp_filters:", "Seccomp_filters:\t1\n"), -1);
}

static void each_missing_line_is_refused(void **state)
{
	static const char *const names[] = { "Uid:", "Gid:", "Groups:", "Threads:", "CapInh:", "CapPrm:", "CapEff:",
					     "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:", "Seccomp_filters:" };

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (with(&user, names[i], "") != -1)
			fail_msg("accepted without %s", names[i]);
	assert_int_equal(proof_parse("", &user, &layers, &e), -1);
}

/* A name that is chosen by whoever runs must not pass for a field: the kernel escapes newlines in it, and a
 * field counts only at the start of a line. */
static void a_name_is_not_a_field(void **state)
{
	(void)state;
	assert_int_equal(with(&user, "Name:", "Name:\tUid:\t0\\nGid:\t0 CapEff:\t1\n"), 0);
	assert_int_equal(with(&user, "NoNewPrivs:", "NotNoNewPrivs:\t1\n"), -1);
}

static void filters_are_compared_with_those_before(void **state)
{
	struct proof_demand d = user;

	(void)state;
	for (d.filters_before = 0; d.filters_before < 5; d.filters_before++)
		assert_int_equal(proof_parse(good, &d, &layers, &e), d.filters_before < 2 ? 0 : -1);
}

static void what_the_daemon_cannot_drop_is_not_demanded(void **state)
{
	(void)state;
	assert_int_equal(with(&lowered, "CapBnd:", "CapBnd:\t000001ffffffffff\n"), 0);
	assert_int_equal(with(&namespaced, "CapBnd:", "CapBnd:\t000001ffffffffff\n"), -1);
	assert_int_equal(with(&lowered, "Groups:", "Groups:\t27 \n"), 0);
	assert_int_equal(with(&lowered, "CapAmb:", "CapAmb:\t0000000000000001\n"), -1);
	assert_int_equal(with(&lowered, "Uid:", "Uid:\t0\t0\t0\t0\n"), -1);
}

/* --- Real processes --------------------------------------------------------------------------------------------- */

static void load_filter(void)
{
	struct sock_filter all[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
	struct sock_fprog program = { 1, all };

	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

enum omit { OMIT_NOTHING, OMIT_FILTER, OMIT_DROP, OMIT_ONE_THREAD, OMIT_NNP };

static void *sleep_on(void *arg)
{
	(void)arg;
	for (;;)
		pause();
	return NULL;
}

static void become(enum omit omit)
{
	pthread_t t;

	if (omit == OMIT_DROP)
		CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	else if (omit == OMIT_NNP)
		CHECK(setgroups(0, NULL) == 0 && setresgid(OTHER, OTHER, OTHER) == 0);
	else
		CHECK(drop_to_user(OTHER, OTHER) == 0);
	if (omit != OMIT_FILTER)
		load_filter();
	if (omit == OMIT_NNP)
		CHECK(setresuid(OTHER, OTHER, OTHER) == 0);
	if (omit == OMIT_ONE_THREAD)
		CHECK(pthread_create(&t, NULL, sleep_on, NULL) == 0);
}

struct subject {
	pid_t pid;
	int pidfd;
};

/* A child in that state, which waits to be looked at. */
static struct subject start(enum omit omit, unsigned filters_of_parent)
{
	int ready[2];
	struct subject s;
	char c;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	if ((s.pid = fork()) == 0) {
		for (unsigned i = 0; i < filters_of_parent; i++)
			load_filter();
		become(omit);
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of uid takes it away */
		CHECK(write(ready[1], "r", 1) == 1);
		for (;;)
			pause();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	s.pidfd = (int)syscall(SYS_pidfd_open, s.pid, 0);
	assert_true(s.pidfd >= 0);
	return s;
}

static void stop(struct subject s)
{
	(void)kill(s.pid, SIGKILL);
	(void)waitpid(s.pid, NULL, 0);
	close(s.pidfd);
}

static struct proof_demand demand(void)
{
	struct proof_demand d = { .isolation = ISOLATE_USER, .uid = OTHER, .gid = OTHER };
	int n = proof_filters(getpid(), &e);

	assert_true(n >= 0);
	d.filters_before = (unsigned)n;
	return d;
}

static int needs_root(void)
{
	if (geteuid() == 0)
		return 0;
	print_message("SKIP proof of real processes: needs root\n");
	return 1;
}

static int judged(enum omit omit, unsigned filters_of_parent, const struct proof_demand *d)
{
	struct subject s = start(omit, filters_of_parent);
	int rc = proof_check(s.pid, s.pidfd, d, &layers, &e);

	stop(s);
	return rc;
}

static void a_real_helper_is_proved(void **state)
{
	struct proof_demand d = demand();

	(void)state;
	if (needs_root())
		skip();
	if (judged(OMIT_NOTHING, 0, &d) < 0)
		fail_msg("%s", e.text);
	assert_int_equal(layers, LAYERS_PROVABLE);
	d.uid--;
	assert_int_equal(judged(OMIT_NOTHING, 0, &d), -1);
	assert_non_null(strstr(e.text, "Uid"));
}

static void a_real_helper_without_a_layer_is_refused(void **state)
{
	struct proof_demand d = demand();

	(void)state;
	if (needs_root())
		skip();
	assert_int_equal(judged(OMIT_FILTER, 0, &d), -1);
	assert_non_null(strstr(e.text, "Seccomp"));
	assert_int_equal(judged(OMIT_DROP, 0, &d), -1);
	assert_int_equal(judged(OMIT_ONE_THREAD, 0, &d), -1);
	assert_non_null(strstr(e.text, "Threads"));
	d.isolation = ISOLATE_LOWERED; /* there the capabilities of the bounding set are not asked for */
	assert_int_equal(judged(OMIT_NNP, 0, &d), -1);
	assert_non_null(strstr(e.text, "NoNewPrivs"));
}

/* Under a unit that already has a filter, that one is not mistaken for the helper's own. */
static void a_filter_of_the_parent_does_not_count(void **state)
{
	struct proof_demand d = demand();

	(void)state;
	if (needs_root())
		skip();
	d.filters_before += 1;
	assert_int_equal(judged(OMIT_FILTER, 1, &d), -1);
	assert_non_null(strstr(e.text, "as many as before"));
	assert_int_equal(judged(OMIT_NOTHING, 1, &d), 0);
}

static void a_process_that_ended_is_refused(void **state)
{
	struct proof_demand d = demand();
	struct subject s;

	(void)state;
	if (needs_root())
		skip();
	s = start(OMIT_NOTHING, 0);
	(void)kill(s.pid, SIGKILL);
	{
		siginfo_t info;

		assert_int_equal(waitid(P_PID, (id_t)s.pid, &info, WEXITED | WNOWAIT), 0);
	}
	assert_int_equal(proof_check(s.pid, s.pidfd, &d, &layers, &e), -1); /* a zombie */
	assert_int_equal(waitpid(s.pid, NULL, 0), s.pid);
	assert_int_equal(proof_check(s.pid, s.pidfd, &d, &layers, &e), -1); /* nobody */
	/* The pid is alive again, as somebody else; the pidfd tells. */
	assert_int_equal(proof_check(getpid(), s.pidfd, &d, &layers, &e), -1);
	close(s.pidfd);
}

static char hidden_dir[2][64];

static int map_own_ids(void)
{
	static const char *const files[][2] = { { "setgroups", "deny" }, { "uid_map", "65534 65534 1" },
						{ "gid_map", "65534 65534 1" } };
	char path[40];

	for (int i = 0; i < 3; i++) {
		int fd;
		ssize_t n;

		(void)snprintf(path, sizeof path, "/proc/self/%s", files[i][0]);
		if ((fd = open(path, O_WRONLY | O_CLOEXEC)) < 0)
			return -1;
		n = write(fd, files[i][1], strlen(files[i][1]));
		close(fd);
		if (n < 0)
			return -1;
	}
	return 0;
}

/* A child that lives in namespaces of its own; SHOWS: it kept the root of everybody. */
static struct subject start_namespaced(int shows)
{
	const char *const hidden[2] = { hidden_dir[0], hidden_dir[1] };
	int ready[2];
	struct subject s;
	char c = 0;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	if ((s.pid = fork()) == 0) {
		CHECK(setgroups(0, NULL) == 0);
		CHECK(setresgid(OTHER, OTHER, OTHER) == 0 && setresuid(OTHER, OTHER, OTHER) == 0);
		(void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
		if (shows) {
			if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 || map_own_ids() < 0 || drop_rights() < 0)
				_exit(0);
		} else if (drop_to_namespace(OTHER, OTHER, hidden, 1) < 0) {
			_exit(0);
		}
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		load_filter();
		CHECK(write(ready[1], "r", 1) == 1);
		for (;;)
			pause();
	}
	close(ready[1]);
	if (read(ready[0], &c, 1) != 1)
		s.pidfd = -1;
	else
		s.pidfd = (int)syscall(SYS_pidfd_open, s.pid, 0);
	close(ready[0]);
	return s;
}

static void a_namespace_must_hide_both_directories(void **state)
{
	struct proof_demand d = demand();
	struct subject s;

	(void)state;
	if (needs_root())
		skip();
	for (int i = 0; i < 2; i++)
		assert_non_null(make_scratch(hidden_dir[i]));
	d.isolation = ISOLATE_NAMESPACE;
	d.hidden[0] = hidden_dir[0];
	d.hidden[1] = hidden_dir[1];
	s = start_namespaced(0);
	if (s.pidfd < 0) {
		print_message("SKIP namespace proof: unprivileged user namespaces are not to be had here\n");
		skip();
	}
	if (proof_check(s.pid, s.pidfd, &d, &layers, &e) < 0)
		fail_msg("%s", e.text);
	assert_true(layers & LAYER_USERNS);
	assert_true(layers & LAYER_MOUNTNS);
	for (int i = 0; i < 2; i++) {
		d.hidden[i] = "/usr/share";
		assert_int_equal(proof_check(s.pid, s.pidfd, &d, &layers, &e), -1);
		assert_non_null(strstr(e.text, "is visible"));
		d.hidden[i] = hidden_dir[i];
	}
	stop(s);
	s = start(OMIT_NOTHING, 0); /* a namespace is demanded, but it is in ours */
	assert_int_equal(proof_check(s.pid, s.pidfd, &d, &layers, &e), -1);
	assert_non_null(strstr(e.text, "namespace"));
	stop(s);
	s = start_namespaced(1); /* namespaces, but the root of everybody */
	assert_true(s.pidfd >= 0);
	assert_int_equal(proof_check(s.pid, s.pidfd, &d, &layers, &e), -1);
	assert_non_null(strstr(e.text, "its root is not"));
	stop(s);
	for (int i = 0; i < 2; i++)
		(void)rmdir(hidden_dir[i]);
}

/* mountinfo as the kernel shows it for the spawner's root, with one line of the test's. */
static int mounts(const char *line)
{
	static const char *const hide[2] = { "/gnu/store", "/var/guix" };
	char text[1024];

	(void)snprintf(text, sizeof text,
		       "80 79 0:40 / / ro,nosuid,nodev - tmpfs narlock rw,size=64k\n"
		       "81 80 254:0 /usr /usr ro,nosuid,nodev - ext4 /dev/vda rw\n%s", line);
	return proof_mounts(text, hide, &e);
}

static void mounts_tell_what_is_visible(void **state)
{
	static const char *const hide[2] = { "/gnu/store", "/var/guix" };
	char no_root[] = "81 80 254:0 /usr /usr ro - ext4 /dev/vda rw\n";
	char disk_root[] = "80 79 254:0 / / ro - ext4 /dev/vda rw\n";

	(void)state;
	assert_int_equal(mounts(""), 0);
	assert_int_equal(mounts("82 80 254:0 /gnu/store /gnu/store ro - ext4 /dev/vda rw\n"), -1);
	assert_non_null(strstr(e.text, "/gnu/store is visible"));
	assert_int_equal(mounts("82 80 254:0 /gnu/store/abc-lib /lib ro - ext4 /dev/vda rw\n"), -1); /* a part of it */
	assert_int_equal(mounts("82 80 254:0 /var /mnt ro - ext4 /dev/vda rw\n"), -1); /* the state is below it */
	assert_int_equal(mounts("82 80 0:41 / /var/guix ro - tmpfs other rw\n"), -1);
	assert_int_equal(mounts("82 80 254:0 /gnu/storefront /lib ro - ext4 /dev/vda rw\n"), 0);
	assert_int_equal(mounts("82 80 nonsense\n"), -1);
	assert_int_equal(mounts("82 80 0:42 / / rw - overlay overlay rw\n"), -1); /* another root on top */
	assert_int_equal(proof_mounts(no_root, hide, &e), -1);
	assert_int_equal(proof_mounts(disk_root, hide, &e), -1);
	assert_non_null(strstr(e.text, "root"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_good_state_is_accepted),
		cmocka_unit_test(each_wrong_line_is_refused),
		cmocka_unit_test(a_unit_is_another_user),
		cmocka_unit_test(each_missing_line_is_refused),
		cmocka_unit_test(a_name_is_not_a_field),
		cmocka_unit_test(filters_are_compared_with_those_before),
		cmocka_unit_test(what_the_daemon_cannot_drop_is_not_demanded),
		cmocka_unit_test(a_real_helper_is_proved),
		cmocka_unit_test(a_real_helper_without_a_layer_is_refused),
		cmocka_unit_test(a_filter_of_the_parent_does_not_count),
		cmocka_unit_test(a_process_that_ended_is_refused),
		cmocka_unit_test(a_namespace_must_hide_both_directories),
		cmocka_unit_test(mounts_tell_what_is_visible),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
