/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: the spool takes what was ordered and no byte more, tells a full disk apart, and leaves nothing behind. */
#include <dirent.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <cmocka.h>

#include "broker/crypto.h"
#include "broker/file.h"
#include "broker/spool.h"
#include "ipc/limits.h"
#include "tests/unit/child.h"

#define NOT_HERE 42

static char dir[64];
static int at, pair[2];
static struct err e;
static uint8_t bytes[600000];

static int set_up(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 7 + i / 251);
	if (make_scratch(dir) == NULL || (at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return -1;
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
}

static int tear_down(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++)
		if (pair[i] >= 0)
			close(pair[i]);
	close(at);
	return rmdir(dir); /* fails when a spool left a name behind */
}

static void check_empty(void)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	CHECK(d != NULL);
	while (readdir(d) != NULL)
		n++;
	(void)closedir(d);
	CHECK(n == 2);
}

/* Send COUNT bytes in small steps, take them; returns the first result that is neither "some" nor "later". */
static int feed(struct spool *s, size_t count)
{
	int rc = 1;

	for (size_t sent = 0; sent < count && rc == 1;) {
		size_t step = count - sent < 20000 ? count - sent : 20000;

		CHECK(send(pair[0], bytes + sent, step, 0) == (ssize_t)step);
		sent += step;
		rc = spool_take(s, pair[1], &e);
	}
	return rc;
}

static int is_in_memory(const struct spool *s)
{
	char link[40], target[64] = "";

	(void)snprintf(link, sizeof link, "/proc/self/fd/%d", s->fd);
	assert_true(readlink(link, target, sizeof target - 1) > 0);
	return strncmp(target, "/memfd:", 7) == 0;
}

static void takes_hashes_and_maps(int in_memory)
{
	struct spool s;
	uint8_t got[32], want[32];
	const uint8_t *map;

	assert_int_equal(spool_open(&s, at, 500000, in_memory ? UINT64_MAX : 0, &e), 0);
	assert_int_equal(is_in_memory(&s), in_memory);
	assert_int_equal(fcntl(s.fd, F_GETFD), FD_CLOEXEC);
	check_empty(); /* it has no name at any time */
	assert_int_equal(spool_take(&s, pair[1], &e), 2);
	assert_int_equal(feed(&s, 500000), 1);
	assert_int_equal(s.size, 500000);
	assert_int_equal(spool_take(&s, pair[1], &e), 2);
	close(pair[0]);
	pair[0] = -1;
	assert_int_equal(spool_take(&s, pair[1], &e), 0);
	crypto_sha256(want, bytes, 500000);
	spool_digest(&s, got);
	assert_memory_equal(got, want, 32);
	spool_digest(&s, got); /* asking twice changes nothing */
	assert_memory_equal(got, want, 32);
	map = spool_map(&s, &e);
	assert_non_null(map);
	assert_memory_equal(map, bytes, 500000);
	spool_unmap(&s, map);
	spool_close(&s);
	assert_int_equal(s.fd, -1);
	spool_close(&s);
}

static void in_memory(void **state)
{
	(void)state;
	takes_hashes_and_maps(1);
}

static void on_disk(void **state)
{
	(void)state;
	takes_hashes_and_maps(0);
}

static void one_byte_too_many_is_refused(void **state)
{
	struct spool s;
	struct stat st;

	(void)state;
	for (size_t size = 99999; size <= 100000; size++) {
		assert_int_equal(spool_open(&s, at, size, UINT64_MAX, &e), 0);
		assert_int_equal(feed(&s, 100000), size == 100000 ? 1 : -1);
		assert_int_equal(fstat(s.fd, &st), 0);
		assert_true((uint64_t)st.st_size <= size); /* what is too much is not written */
		if (size < 100000) {
			assert_int_equal(e.code, 0); /* the nar's fault, not the disk's */
			assert_non_null(strstr(e.text, "longer than 99999"));
		}
		spool_close(&s);
	}
	assert_int_equal(spool_open(&s, at, 0, UINT64_MAX, &e), 0);
	assert_int_equal(feed(&s, 1), -1);
	spool_close(&s);
}

static void a_bad_source_is_an_error(void **state)
{
	struct spool s;

	(void)state;
	assert_int_equal(spool_open(&s, at, 10, UINT64_MAX, &e), 0);
	assert_int_equal(spool_take(&s, -1, &e), -1);
	assert_int_equal(e.code, EBADF);
	spool_close(&s);
}

/* --- A disk that is full ------------------------------------------------------------------------------ */

static void full_file_system(void)
{
	static char filler[1 << 20];
	struct spool s;
	int fd, full;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("spool", dir, "tmpfs", 0, "size=17m") < 0)
		_exit(NOT_HERE);
	CHECK((fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0);
	CHECK(spool_open(&s, fd, 2 << 20, 0, &e) == -1 && e.code == ENOSPC);
	CHECK(spool_open(&s, fd, 500000, 0, &e) == 0);
	CHECK((full = openat(fd, "full", O_CREAT | O_WRONLY | O_CLOEXEC, 0600)) >= 0); /* it fills up afterwards */
	while (write(full, filler, sizeof filler) > 0)
		;
	CHECK(feed(&s, 500000) == -1);
	CHECK(e.code == ENOSPC);
	spool_close(&s);
}

static void limited_file_size(void)
{
	struct rlimit r = { 65536, 65536 };
	struct spool s;

	(void)signal(SIGXFSZ, SIG_IGN);
	CHECK(setrlimit(RLIMIT_FSIZE, &r) == 0);
	CHECK(spool_open(&s, at, 500000, 0, &e) == 0);
	CHECK(feed(&s, 500000) == -1);
	CHECK(e.code == EFBIG);
	spool_close(&s);
}

static void run(void (*f)(void), const char *what)
{
	int status = in_child(f);

	if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_HERE) {
		print_message("SKIP %s: not to be had here\n", what);
		skip();
	}
	assert_int_equal(status, 0);
}

static void a_full_disk_has_its_errno(void **state)
{
	(void)state;
	run(limited_file_size, "limit of file sizes");
	run(full_file_system, "spool on a small tmpfs");
}

/* --- A file system without O_TMPFILE: the kernel says EOPNOTSUPP, here by a filter -------------------- */

static void no_unnamed_files(int error)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_TMPFILE & ~O_DIRECTORY, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = { sizeof f / sizeof f[0], f };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p) < 0)
		_exit(NOT_HERE);
}

static void named_for_a_moment(void)
{
	struct spool s;
	struct stat st;
	char victim[80], name[80];

	/* What a dead process of the same number left, or somebody put there, is not opened. */
	(void)snprintf(victim, sizeof victim, "%s/victim", dir);
	(void)snprintf(name, sizeof name, "nar-%ld", (long)getpid());
	close(openat(at, "victim", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	CHECK(symlinkat(victim, at, name) == 0);
	no_unnamed_files(EOPNOTSUPP);
	CHECK(spool_open(&s, at, 1000, 0, &e) == 0);
	CHECK(feed(&s, 1000) == 1);
	CHECK(fstat(s.fd, &st) == 0 && st.st_nlink == 0 && st.st_size == 1000 && (st.st_mode & 07777) == 0600);
	CHECK(fstatat(at, "victim", &st, 0) == 0 && st.st_size == 0);
	CHECK(unlinkat(at, "victim", 0) == 0);
	check_empty();
	spool_close(&s);
}

static void other_errors_stay_errors(void)
{
	struct spool s;

	no_unnamed_files(EACCES);
	CHECK(spool_open(&s, at, 1000, 0, &e) == -1);
	CHECK(e.code == EACCES);
	check_empty();
}

static void without_unnamed_files(void **state)
{
	(void)state;
	run(named_for_a_moment, "system call filter");
	run(other_errors_stay_errors, "system call filter");
}

/* --- Room --------------------------------------------------------------------------------------------- */

static int where(int fd, uint64_t size, uint64_t memory)
{
	struct spool s;
	int rc = spool_open(&s, fd, size, memory, &e) < 0 ? -1 : is_in_memory(&s);

	spool_close(&s);
	return rc;
}

static void room_is_looked_at_before(void **state)
{
	(void)state;
	assert_int_equal(where(at, 1000, UINT64_MAX), 1);
	assert_int_equal(where(-1, 1000, 1000), 1); /* needs no directory */
	assert_int_equal(where(at, 1000, 999), 0);
	assert_int_equal(where(at, 1000, 0), 0);
	assert_int_equal(where(-1, 1000, 0), -1);
	assert_int_equal(e.code, 0);
	assert_non_null(strstr(e.text, "cannot be used"));
	/* however much the setting allows: the memory is not there */
	assert_int_equal(where(at, LIMIT_NAR_SIZE * 1000, LIMIT_NAR_SIZE * 2000), -1);
	assert_int_equal(e.code, ENOSPC);
	assert_non_null(strstr(e.text, "spool"));
	assert_int_equal(spool_room(at, LIMIT_NAR_SIZE * 1000, "over there", &e), -1);
	assert_non_null(strstr(e.text, "in over there, "));
}

static int start_crypto(void **state)
{
	(void)state;
	return crypto_init(&e);
}

int main(void)
{
#define IN_DIR(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		IN_DIR(in_memory),
		IN_DIR(on_disk),
		IN_DIR(one_byte_too_many_is_refused),
		IN_DIR(a_bad_source_is_an_error),
		IN_DIR(a_full_disk_has_its_errno),
		IN_DIR(without_unnamed_files),
		IN_DIR(room_is_looked_at_before),
	};

	return cmocka_run_group_tests(tests, start_crypto, NULL);
}
