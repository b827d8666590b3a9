/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: rights that were given up are gone, all of them, and cannot be had again. */
#include <dirent.h>
#include <grp.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/capability.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <cmocka.h>

#include "broker/drop.h"
#include "tests/unit/child.h"

#define OTHER 65534
#define NO_SPACES 42 /* exit status: the kernel gives no user namespace */

/* The line NAME of /proc/self/status, without its name. */
static const char *status(const char *name)
{
	static char line[256];
	FILE *f = fopen("/proc/self/status", "re");
	const char *found = NULL;

	CHECK(f != NULL);
	while (found == NULL && fgets(line, sizeof line, f) != NULL) {
		size_t n = strlen(name);

		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, name, n) == 0 && line[n] == ':')
			found = line + n + 1 + strspn(line + n + 1, " \t");
	}
	(void)fclose(f);
	CHECK(found != NULL);
	return found;
}

#define NONE "0000000000000000"

static void check_no_caps(int bounding)
{
	CHECK(strcmp(status("CapInh"), NONE) == 0);
	CHECK(strcmp(status("CapPrm"), NONE) == 0);
	CHECK(strcmp(status("CapEff"), NONE) == 0);
	CHECK(strcmp(status("CapAmb"), NONE) == 0);
	if (bounding)
		CHECK(strcmp(status("CapBnd"), NONE) == 0);
	CHECK(strcmp(status("NoNewPrivs"), "1") == 0);
}

/* As much as a process can have: groups, an inheritable and an ambient capability, capabilities kept over uid changes. */
static void have_everything(void)
{
	gid_t groups[] = { 0, 4, 27 };
	cap_value_t v = CAP_NET_RAW;
	cap_t c = cap_get_proc();

	CHECK(setgroups(3, groups) == 0);
	CHECK(c != NULL && cap_set_flag(c, CAP_INHERITABLE, 1, &v, CAP_SET) == 0 && cap_set_proc(c) == 0);
	(void)cap_free(c);
	CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0) == 0);
	CHECK(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0);
}

static void user_is_complete(void)
{
	have_everything();
	CHECK(drop_to_user(OTHER, OTHER - 1) == 0);
	CHECK(strcmp(status("Uid"), "65534\t65534\t65534\t65534") == 0);
	CHECK(strcmp(status("Gid"), "65533\t65533\t65533\t65533") == 0);
	CHECK(strcmp(status("Groups"), "") == 0);
	check_no_caps(1);
}

static void user_is_irrevocable(void)
{
	cap_value_t v = CAP_SETUID;
	cap_t c = cap_get_proc();

	have_everything();
	CHECK(drop_to_user(OTHER, OTHER) == 0);
	CHECK(setuid(0) < 0 && errno == EPERM);
	CHECK(setresuid((uid_t)-1, 0, (uid_t)-1) < 0);
	CHECK(setresuid((uid_t)-1, (uid_t)-1, 0) < 0);
	CHECK(setgid(0) < 0 && setresgid((gid_t)-1, 0, (gid_t)-1) < 0);
	CHECK(setgroups(0, NULL) < 0);
	CHECK(setuid(1) < 0 && setgid(1) < 0);
	CHECK(c != NULL && cap_set_flag(c, CAP_EFFECTIVE, 1, &v, CAP_SET) == 0 && cap_set_proc(c) < 0);
	(void)cap_free(c);
	CHECK(open("/etc/shadow", O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES);
	CHECK(kill(getppid(), 0) < 0 && errno == EPERM);
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0) < 0);
}

static void root_is_no_user(void)
{
	CHECK(drop_to_user(0, OTHER) < 0);
	CHECK(drop_to_user(OTHER, 0) < 0);
}

/* Where the bounding set cannot be emptied, another uid must not be claimed. */
static void user_needs_setpcap(void)
{
	cap_value_t v = CAP_SETPCAP;
	cap_t c = cap_get_proc();

	CHECK(c != NULL && cap_set_flag(c, CAP_EFFECTIVE, 1, &v, CAP_CLEAR) == 0 &&
	      cap_set_flag(c, CAP_PERMITTED, 1, &v, CAP_CLEAR) == 0 && cap_set_proc(c) == 0);
	(void)cap_free(c);
	CHECK(drop_to_user(OTHER, OTHER) < 0);
}

static void user_from_the_spawner(void)
{
	have_everything();
	CHECK(drop_to_spawner(1) == 0);
	CHECK(drop_to_user(OTHER, OTHER) == 0);
	CHECK(strcmp(status("Groups"), "") == 0);
	check_no_caps(1);
}

static void spawner_keeps_three(void)
{
	const unsigned long long three = 1ULL << CAP_SETUID | 1ULL << CAP_SETGID | 1ULL << CAP_KILL;

	have_everything();
	CHECK(drop_to_spawner(1) == 0);
	CHECK(strtoull(status("CapPrm"), NULL, 16) == three);
	CHECK(strtoull(status("CapEff"), NULL, 16) == three);
	CHECK(strcmp(status("CapInh"), NONE) == 0);
	CHECK(strcmp(status("CapAmb"), NONE) == 0);
	CHECK(strcmp(status("CapBnd"), NONE) == 0);
}

static void spawner_keeps_none(void)
{
	have_everything();
	CHECK(drop_to_spawner(0) == 0);
	CHECK(strcmp(status("CapPrm"), NONE) == 0);
	CHECK(strcmp(status("CapEff"), NONE) == 0);
	CHECK(strcmp(status("CapAmb"), NONE) == 0);
}

static void rights_are_complete(void)
{
	have_everything();
	CHECK(drop_rights() == 0);
	check_no_caps(1);
	CHECK(geteuid() == 0); /* the uid stays; files of root stay reachable */
	CHECK(setuid(1) < 0);
}

/* The rootless daemon: one capability, ambient, and no right to touch the bounding set. */
static void rights_without_setpcap(void)
{
	cap_value_t v = CAP_CHOWN;
	cap_t c = cap_init();

	CHECK(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0);
	CHECK(setgroups(0, NULL) == 0 && setresgid(OTHER, OTHER, OTHER) == 0 && setresuid(OTHER, OTHER, OTHER) == 0);
	CHECK(c != NULL && cap_set_flag(c, CAP_PERMITTED, 1, &v, CAP_SET) == 0 &&
	      cap_set_flag(c, CAP_EFFECTIVE, 1, &v, CAP_SET) == 0 &&
	      cap_set_flag(c, CAP_INHERITABLE, 1, &v, CAP_SET) == 0 && cap_set_proc(c) == 0);
	(void)cap_free(c);
	CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0) == 0);
	CHECK(drop_rights() == 0);
	check_no_caps(0);
}

/* --- Namespaces --------------------------------------------------------------------------------------- */

static char hidden_dir[2][64], file_in[2][80];

static ino_t inode(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? st.st_ino : 0;
}

static void go_in(const char *const hidden[2], int no_network)
{
	CHECK(setgroups(0, NULL) == 0 && setresgid(OTHER, OTHER, OTHER) == 0 && setresuid(OTHER, OTHER, OTHER) == 0);
	CHECK(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0);
	if (drop_to_namespace(OTHER, OTHER, hidden, no_network) < 0) {
		if (errno == EPERM || errno == ENOSPC || errno == EACCES)
			_exit(NO_SPACES);
		CHECK(errno == 0); /* no other reason is good */
	}
}

static void namespace_hides(void)
{
	const char *const hidden[2] = { hidden_dir[0], hidden_dir[1] };
	static const char *const gone[] = { "/root", "/home", "/var", "/etc/passwd", "/etc/shadow", "/etc/guix", "/gnu",
					    "/proc", "/sys", "/dev", "/run/dbus" };

	for (int i = 0; i < 2; i++)
		CHECK(access(file_in[i], F_OK) == 0); /* before, it was there */
	go_in(hidden, 0);
	for (int i = 0; i < 2; i++) {
		CHECK(access(hidden_dir[i], F_OK) < 0 && errno == ENOENT);
		CHECK(access(file_in[i], F_OK) < 0 && errno == ENOENT);
	}
	for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++)
		CHECK(access(gone[i], F_OK) < 0 && errno == ENOENT);
	CHECK(access("..", F_OK) == 0 && inode("..") == inode("/")); /* no way up */
	CHECK(access("/usr/bin", X_OK) == 0); /* what it needs is there */
}

static void namespace_is_read_only(void)
{
	const char *const hidden[2] = { hidden_dir[0], hidden_dir[1] };
	struct statvfs v;

	go_in(hidden, 0);
	CHECK(statvfs("/", &v) == 0 && (v.f_flag & ST_RDONLY));
	CHECK(statvfs("/usr", &v) == 0 && (v.f_flag & ST_RDONLY) && (v.f_flag & ST_NOSUID) && (v.f_flag & ST_NODEV));
	CHECK(open("/x", O_CREAT | O_WRONLY | O_CLOEXEC, 0600) < 0);
	CHECK(mkdir("/usr/x", 0755) < 0);
}

static void namespace_has_no_rights(void)
{
	const char *const hidden[2] = { hidden_dir[0], hidden_dir[1] };
	cap_t c;
	cap_flag_value_t v = CAP_SET;

	go_in(hidden, 0);
	CHECK((c = cap_get_proc()) != NULL); /* /proc is not there any more */
	for (cap_value_t i = 0; i <= CAP_LAST_CAP; i++) {
		CHECK(cap_get_flag(c, i, CAP_PERMITTED, &v) == 0 && v == CAP_CLEAR);
		CHECK(cap_get_flag(c, i, CAP_EFFECTIVE, &v) == 0 && v == CAP_CLEAR);
		CHECK(cap_get_flag(c, i, CAP_INHERITABLE, &v) == 0 && v == CAP_CLEAR);
		CHECK(prctl(PR_CAPBSET_READ, i, 0, 0, 0) <= 0);
		CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, i, 0, 0) <= 0);
	}
	(void)cap_free(c);
	CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	CHECK(setuid(0) < 0);
	CHECK(getuid() == OTHER && getgid() == OTHER);
	CHECK(sethostname("x", 1) < 0);
	CHECK(mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL) < 0);
}

static int is_up(const char *name)
{
	struct ifreq r;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	memset(&r, 0, sizeof r);
	(void)snprintf(r.ifr_name, sizeof r.ifr_name, "%.15s", name);
	CHECK(fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &r) == 0);
	close(fd);
	return (r.ifr_flags & IFF_UP) != 0;
}

static void namespace_without_network(void)
{
	const char *const hidden[2] = { hidden_dir[0], hidden_dir[1] };
	struct if_nameindex *all;

	go_in(hidden, 1);
	CHECK((all = if_nameindex()) != NULL);
	for (int i = 0; all[i].if_index != 0; i++) /* some kernels make tunnels that are down in each namespace */
		CHECK(!is_up(all[i].if_name));
	if_freenameindex(all);
}

/* A store below a place that is shown could not be hidden: that must be a refusal. */
static void namespace_refuses_a_store_that_it_shows(void)
{
	const char *const hidden[2] = { hidden_dir[0], "/usr/gnu/store" };

	CHECK(setgroups(0, NULL) == 0 && setresgid(OTHER, OTHER, OTHER) == 0 && setresuid(OTHER, OTHER, OTHER) == 0);
	CHECK(drop_to_namespace(OTHER, OTHER, hidden, 0) < 0);
	if (errno == EPERM || errno == ENOSPC)
		_exit(NO_SPACES);
	CHECK(errno == EXDEV);
}

/* --- The cases ---------------------------------------------------------------------------------------- */

static void run(void (*f)(void))
{
	int status_of_child;

	if (geteuid() != 0) {
		print_message("SKIP giving up rights: needs root\n");
		skip();
	}
	status_of_child = in_child(f);
	if (WIFEXITED(status_of_child) && WEXITSTATUS(status_of_child) == NO_SPACES) {
		print_message("SKIP namespaces: unprivileged user namespaces are not to be had here\n");
		skip();
	}
	assert_int_equal(status_of_child, 0);
}

#define CASE(f) static void test_##f(void **state) { (void)state; run(f); }
CASE(user_is_complete)
CASE(user_is_irrevocable)
CASE(root_is_no_user)
CASE(user_needs_setpcap)
CASE(user_from_the_spawner)
CASE(spawner_keeps_three)
CASE(spawner_keeps_none)
CASE(rights_are_complete)
CASE(rights_without_setpcap)
CASE(namespace_hides)
CASE(namespace_is_read_only)
CASE(namespace_has_no_rights)
CASE(namespace_without_network)
CASE(namespace_refuses_a_store_that_it_shows)

static int make_hidden(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		int fd;

		if (make_scratch(hidden_dir[i]) == NULL || chmod(hidden_dir[i], 0755) < 0)
			return -1;
		(void)snprintf(file_in[i], sizeof file_in[i], "%s/item", hidden_dir[i]);
		if ((fd = open(file_in[i], O_CREAT | O_WRONLY | O_CLOEXEC, 0644)) < 0)
			return -1;
		close(fd);
	}
	return 0;
}

static int remove_hidden(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		(void)unlink(file_in[i]);
		(void)rmdir(hidden_dir[i]);
	}
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_user_is_complete),
		cmocka_unit_test(test_user_is_irrevocable),
		cmocka_unit_test(test_root_is_no_user),
		cmocka_unit_test(test_user_needs_setpcap),
		cmocka_unit_test(test_user_from_the_spawner),
		cmocka_unit_test(test_spawner_keeps_three),
		cmocka_unit_test(test_spawner_keeps_none),
		cmocka_unit_test(test_rights_are_complete),
		cmocka_unit_test(test_rights_without_setpcap),
		cmocka_unit_test(test_namespace_hides),
		cmocka_unit_test(test_namespace_is_read_only),
		cmocka_unit_test(test_namespace_has_no_rights),
		cmocka_unit_test(test_namespace_without_network),
		cmocka_unit_test(test_namespace_refuses_a_store_that_it_shows),
	};

	return cmocka_run_group_tests(tests, make_hidden, remove_hidden);
}
