/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: nars become trees exactly, or leave nothing; trees in any state are removed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <gcrypt.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker/dedup.h"
#include "broker/nar.h"
#include "broker/remove.h"
#include "broker/restore.h"
#include "tests/unit/nar_builder.h"

#define NOBODY 65534
/* Exit codes of children. */
#define CHILD_SKIP 77

/* Checks that also work in a child process: the function they stand in returns -1. */
#define CHECK(x)                                                                          \
	do {                                                                              \
		if (!(x)) {                                                               \
			print_error("%s:%d: not so: %s\n", __FILE__, __LINE__, #x);       \
			return -1;                                                        \
		}                                                                         \
	} while (0)

struct fixture {
	char path[64];
	int fd;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	if (f == NULL)
		return -1;
	(void)umask(022);
	(void)snprintf(f->path, sizeof f->path, "/tmp/narlock-restore-XXXXXX");
	if (mkdtemp(f->path) == NULL || chmod(f->path, 0777) == -1)
		return -1;
	f->fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = f;
	return f->fd == -1 ? -1 : 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };
	int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = remove_tree(tmp, strrchr(f->path, '/') + 1, &e);

	if (rc == -1)
		print_error("%s\n", e.text);
	(void)close(tmp);
	(void)close(f->fd);
	free(f);
	return rc;
}

/* Run FN(f) in a child that may change its identity.  0, -1, or CHILD_SKIP. */
static int in_child(int (*fn)(struct fixture *), struct fixture *f)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(fn(f) & 0x7f);
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status) == 0x7f ? -1 : WEXITSTATUS(status);
}

/* As the broker may be: uid 0 with no capability at all. */
static int drop_capabilities(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2];

	memset(none, 0, sizeof none);
	return syscall(SYS_capset, &head, none) == 0 ? 0 : -1;
}

static int become_nobody(void)
{
	return setgroups(0, NULL) == 0 && setgid(NOBODY) == 0 && setuid(NOBODY) == 0 ? 0 : -1;
}

static bool empty(int fd)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fdopendir(copy);
	unsigned n = 0;

	while (readdir(d) != NULL)
		n++;
	(void)closedir(d);
	return n == 2;
}

static bool is(int fd, const char *path, mode_t mode, off_t size)
{
	struct stat st;

	if (fstatat(fd, path, &st, AT_SYMLINK_NOFOLLOW) == -1) {
		print_error("%s: %s\n", path, strerror(errno));
		return false;
	}
	if (st.st_mode == mode && (size == -1 || st.st_size == size) && st.st_mtim.tv_sec == 1 &&
	    st.st_mtim.tv_nsec == 0 && st.st_atim.tv_sec == 1 && st.st_atim.tv_nsec == 0 &&
	    st.st_uid == geteuid())
		return true;
	print_error("%s: mode %o, size %lld, mtime %lld, atime %lld, uid %d\n", path, st.st_mode,
	            (long long)st.st_size, (long long)st.st_mtim.tv_sec, (long long)st.st_atim.tv_sec,
	            (int)st.st_uid);
	return false;
}

static bool holds(int fd, const char *path, const void *bytes, size_t n)
{
	int file = openat(fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NOATIME);
	char *buffer = malloc(n + 1);
	ssize_t got = file == -1 ? -1 : read(file, buffer, n + 1);
	bool same = got == (ssize_t)n && memcmp(buffer, bytes, n) == 0;

	(void)close(file);
	free(buffer);
	return same;
}

static int restore(int fd, const struct nar_builder *b, int links_fd, unsigned threads,
                   struct restore_stats *stats, struct err *e)
{
	struct restore_options options = { .links_fd = links_fd, .threads = threads };
	static unsigned calls;
	int rc;

	memset(e, 0, sizeof *e);
	/* Every second time with the bytes in a file, too, as the broker has them. */
	if (calls++ % 2 == 0) {
		options.spool_fd = memfd_create("spool", MFD_CLOEXEC);
		if (write(options.spool_fd, b->data, b->len) != (ssize_t)b->len) { /* a test limits file sizes */
			(void)close(options.spool_fd);
			options.spool_fd = 0;
		}
	}
	rc = restore_nar(fd, "item", b->data, b->len, &options, stats, e);
	if (options.spool_fd > 0)
		(void)close(options.spool_fd);
	return rc;
}

static int gone(int fd, const char *name)
{
	struct stat st;

	return fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == -1 && errno == ENOENT;
}

static void entry_filled(struct nar_builder *b, const char *name, char c, size_t n, int executable)
{
	char *bytes = malloc(n + 1);

	memset(bytes, c, n);
	nb_entry(b, name);
	nb_file(b, bytes, n, executable);
	nb_entry_end(b);
	free(bytes);
}

/* Every kind, several levels, and siblings after a subdirectory. */
static void build_tree(struct nar_builder *b)
{
	nb_magic(b);
	nb_dir(b);
	nb_entry_file(b, "a", "alpha");
	nb_entry(b, "bin");
	nb_dir(b);
	nb_entry(b, "run");
	nb_file(b, "#!/bin/sh\n", 10, 1);
	nb_entry_end(b);
	nb_entry(b, "sub");
	nb_dir(b);
	entry_filled(b, "large", 'L', 3000000, 0);
	nb_dir_end(b);
	nb_entry_end(b);
	nb_entry_file(b, "tail", "t");
	nb_dir_end(b);
	nb_entry_end(b);
	nb_entry_file(b, "empty", "");
	nb_entry(b, "hollow");
	nb_dir(b);
	nb_dir_end(b);
	nb_entry_end(b);
	nb_entry(b, "link");
	nb_link(b, "/nowhere/at/all");
	nb_entry_end(b);
	nb_entry_file(b, "z \n\xff", "odd name");
	nb_dir_end(b);
}

static int check_tree(int fd)
{
	char target[64];
	char *large = malloc(3000000);

	memset(large, 'L', 3000000);
	CHECK(is(fd, "item", S_IFDIR | 0555, -1));
	CHECK(is(fd, "item/a", S_IFREG | 0444, 5) && holds(fd, "item/a", "alpha", 5));
	CHECK(is(fd, "item/bin", S_IFDIR | 0555, -1));
	CHECK(is(fd, "item/bin/run", S_IFREG | 0555, 10) && holds(fd, "item/bin/run", "#!/bin/sh\n", 10));
	CHECK(is(fd, "item/bin/sub", S_IFDIR | 0555, -1));
	CHECK(is(fd, "item/bin/sub/large", S_IFREG | 0444, 3000000));
	CHECK(holds(fd, "item/bin/sub/large", large, 3000000));
	CHECK(is(fd, "item/bin/tail", S_IFREG | 0444, 1) && holds(fd, "item/bin/tail", "t", 1));
	CHECK(is(fd, "item/empty", S_IFREG | 0444, 0));
	CHECK(is(fd, "item/hollow", S_IFDIR | 0555, -1));
	CHECK(is(fd, "item/link", S_IFLNK | 0777, 15));
	CHECK(is(fd, "item/z \n\xff", S_IFREG | 0444, 8));
	CHECK(readlinkat(fd, "item/link", target, sizeof target) == 15 &&
	      memcmp(target, "/nowhere/at/all", 15) == 0);
	free(large);
	return 0;
}

static int tree_in_all_ways(struct fixture *f)
{
	static const mode_t masks[] = { 0, 022, 077 };
	struct nar_builder b = { 0 };
	struct restore_stats stats;
	struct err e = { 0 };

	build_tree(&b);
	for (unsigned threads = 0; threads <= 5; threads++)
		for (size_t m = 0; m < sizeof masks / sizeof masks[0]; m++) {
			int rc;

			(void)umask(masks[m]);
			rc = restore(f->fd, &b, -1, threads, &stats, &e);
			if (rc == -1)
				print_error("%s\n", e.text);
			CHECK(rc == 0 && check_tree(f->fd) == 0);
			CHECK(stats.files == 6 && stats.directories == 4 && stats.symlinks == 1);
			CHECK(stats.bytes_written == 3000024 && stats.bytes_linked == 0);
			CHECK(restore(f->fd, &b, -1, threads, &stats, &e) == -1 && e.code == EEXIST);
			/* what is there is not ours to remove */
			CHECK(is(f->fd, "item/a", S_IFREG | 0444, 5) && !gone(f->fd, "item/link"));
			CHECK(remove_tree(f->fd, "item", &e) == 0 && gone(f->fd, "item"));
		}
	free(b.data);
	return 0;
}

static int tree_without_capabilities(struct fixture *f)
{
	CHECK(drop_capabilities() == 0);
	return tree_in_all_ways(f);
}

static int tree_as_nobody(struct fixture *f)
{
	CHECK(become_nobody() == 0);
	return tree_in_all_ways(f);
}

static void test_tree(void **state)
{
	assert_int_equal(tree_in_all_ways(*state), 0);
	if (geteuid() != 0) {
		print_message("SKIP: the rest needs root\n");
		skip();
	}
	assert_int_equal(in_child(tree_without_capabilities, *state), 0);
	assert_int_equal(in_child(tree_as_nobody, *state), 0);
}

static int top_levels(struct fixture *f)
{
	struct nar_builder b = { 0 };
	struct restore_stats stats;
	struct err e = { 0 };
	char target[8];

	nb_magic(&b);
	nb_file(&b, "one file", 8, 0);
	CHECK(restore(f->fd, &b, -1, 0, &stats, &e) == 0);
	CHECK(is(f->fd, "item", S_IFREG | 0444, 8) && holds(f->fd, "item", "one file", 8));
	CHECK(restore(f->fd, &b, -1, 0, &stats, &e) == -1 && e.code == EEXIST && !gone(f->fd, "item"));
	CHECK(remove_tree(f->fd, "item", &e) == 0 && gone(f->fd, "item"));
	nb_magic(&b);
	nb_file(&b, "", 0, 1);
	CHECK(restore(f->fd, &b, -1, 0, &stats, &e) == 0 && is(f->fd, "item", S_IFREG | 0555, 0));
	CHECK(remove_tree(f->fd, "item", &e) == 0);
	nb_magic(&b);
	nb_link(&b, "/tmp");
	CHECK(restore(f->fd, &b, -1, 0, &stats, &e) == 0 && is(f->fd, "item", S_IFLNK | 0777, 4));
	CHECK(readlinkat(f->fd, "item", target, sizeof target) == 4 && memcmp(target, "/tmp", 4) == 0);
	CHECK(restore(f->fd, &b, -1, 0, &stats, &e) == -1 && e.code == EEXIST && !gone(f->fd, "item"));
	CHECK(remove_tree(f->fd, "item", &e) == 0 && access("/tmp", F_OK) == 0);
	/* a dangling or a real link in place of the destination is not followed */
	CHECK(symlinkat("elsewhere", f->fd, "item") == 0);
	nb_magic(&b);
	nb_file(&b, "x", 1, 0);
	CHECK(restore(f->fd, &b, -1, 0, &stats, &e) == -1 && e.code == EEXIST && gone(f->fd, "elsewhere"));
	CHECK(mkdirat(f->fd, "elsewhere", 0700) == 0);
	build_tree(&b);
	CHECK(restore(f->fd, &b, -1, 0, &stats, &e) == -1 && e.code == EEXIST && gone(f->fd, "elsewhere/a"));
	free(b.data);
	return 0;
}

static void test_top_levels(void **state)
{
	assert_int_equal(top_levels(*state), 0);
}

static void test_bad_destination_names(void **state)
{
	static const char *const bad[] = { "", ".", "..", "a/b", "/etc", "x/" };
	struct fixture *f = *state;
	struct restore_options options = { .links_fd = -1 };
	struct nar_builder b = { 0 };
	struct err e;
	char name[300];

	nb_magic(&b);
	nb_file(&b, "x", 1, 0);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		assert_int_equal(restore_nar(f->fd, bad[i], b.data, b.len, &options, NULL, &e), -1);
		assert_non_null(strstr(e.text, "not a name"));
	}
	memset(name, 'n', sizeof name);
	name[LIMIT_STORE_NAME + 4] = '\0';
	assert_int_equal(restore_nar(f->fd, name, b.data, b.len, &options, NULL, &e), 0);
	name[LIMIT_STORE_NAME + 4] = 'n';
	name[LIMIT_STORE_NAME + 5] = '\0';
	assert_int_equal(restore_nar(f->fd, name, b.data, b.len, &options, NULL, &e), -1);
	free(b.data);
}

/* Whatever is wrong with a nar, and however late, nothing is created, not even for a moment: that would
 * change the time of the directory. */
static void test_bad_nar_writes_nothing(void **state)
{
	const struct timespec times[2] = { { .tv_sec = 5 }, { .tv_sec = 5 } };
	struct stat st;
	struct fixture *f = *state;
	struct nar_builder b = { 0 };
	struct err e;

	assert_int_equal(futimens(f->fd, times), 0);
	build_tree(&b);
	for (unsigned i = 0; i < 4; i++) {
		size_t len = b.len;

		if (i == 0)
			nb_u64(&b, 0); /* bytes after the end */
		else
			b.len -= i * 8;
		assert_int_equal(restore(f->fd, &b, -1, 0, NULL, &e), -1);
		assert_int_equal(e.code, 0);
		assert_non_null(strstr(e.text, "bad nar"));
		assert_true(empty(f->fd));
		b.len = len;
	}
	nb_magic(&b);
	nb_dir(&b);
	nb_entry_file(&b, "good", "x");
	nb_entry_file(&b, "../escape", "x");
	nb_dir_end(&b);
	assert_int_equal(restore(f->fd, &b, -1, 0, NULL, &e), -1);
	assert_true(empty(f->fd));
	assert_int_equal(fstat(f->fd, &st), 0);
	assert_int_equal(st.st_mtim.tv_sec, 5);
	free(b.data);
}

/* Known names: computed by another program from the definition. */
static void test_dedup_names(void **state)
{
	static const struct {
		char fill;
		size_t size;
		bool executable;
		const char *name;
	} known[] = {
		{ 'x', 8192, false, "08c0ans61j7fbmv4y06qmjjm4br575v6fa84d11jylmis2fg3c7h" },
		{ 'x', 8192, true, "1ry6n8ca5hxa90zaxww2dqs5x26p0lvllxq36nrmgy16j9wdslp7" },
		{ 'y', 9001, false, "0jnx40s70m4f8ikaahx6fm45n3cm9sp51iv706gfca2xy31zvqni" },
		{ 'y', 9001, true, "1nnazc1ygbfzyjipxm0826a1c8vb664pg4gf3m64clv1q2yx1lj9" },
	};
	uint8_t bytes[9001];
	char name[DEDUP_NAME];
	gcry_md_hd_t md;

	(void)state;
	assert_int_equal(gcry_md_open(&md, GCRY_MD_SHA256, 0), 0);
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
		memset(bytes, known[i].fill, known[i].size);
		dedup_name(md, bytes, known[i].size, known[i].executable, name);
		assert_string_equal(name, known[i].name);
	}
	gcry_md_close(md);
}

#define X_NAME "08c0ans61j7fbmv4y06qmjjm4br575v6fa84d11jylmis2fg3c7h"
#define X_NAME_EXECUTABLE "1ry6n8ca5hxa90zaxww2dqs5x26p0lvllxq36nrmgy16j9wdslp7"

static int open_links(struct fixture *f)
{
	(void)mkdirat(f->fd, ".links", 0755);
	return openat(f->fd, ".links", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static ino_t inode(int fd, const char *path)
{
	struct stat st;

	return fstatat(fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_ino : 0;
}

static void build_equal_files(struct nar_builder *b)
{
	nb_magic(b);
	nb_dir(b);
	entry_filled(b, "small", 'x', 8191, 0);
	entry_filled(b, "x1", 'x', 8192, 0);
	entry_filled(b, "x2", 'x', 8192, 0);
	entry_filled(b, "xx", 'x', 8192, 1);
	nb_dir_end(b);
}

static int dedup_tree(struct fixture *f)
{
	struct nar_builder b = { 0 };
	struct restore_stats stats;
	struct restore_options options = { .links_fd = -1, .threads = 1 };
	struct err e;
	int links = open_links(f);

	build_equal_files(&b);
	CHECK(restore(f->fd, &b, links, 1, &stats, &e) == 0);
	CHECK(stats.files == 4 && stats.bytes_written == 8191 + 2 * 8192 && stats.bytes_linked == 8192);
	CHECK(inode(f->fd, "item/x1") == inode(links, X_NAME));
	CHECK(inode(f->fd, "item/x2") == inode(links, X_NAME));
	CHECK(inode(f->fd, "item/xx") == inode(links, X_NAME_EXECUTABLE));
	CHECK(inode(f->fd, "item/xx") != inode(links, X_NAME));
	CHECK(is(f->fd, "item", S_IFDIR | 0555, -1) && is(f->fd, "item/x1", S_IFREG | 0444, 8192));
	CHECK(is(f->fd, "item/xx", S_IFREG | 0555, 8192));
	/* a second item writes only what has no link */
	options.links_fd = links;
	CHECK(restore_nar(f->fd, "item2", b.data, b.len, &options, &stats, &e) == 0);
	CHECK(stats.bytes_written == 8191 && stats.bytes_linked == 3 * 8192);
	CHECK(inode(f->fd, "item2/x1") == inode(links, X_NAME));
	CHECK(remove_tree(f->fd, "item", &e) == 0 && remove_tree(f->fd, "item2", &e) == 0);
	/* a top-level file, hashed here or by the caller */
	nb_magic(&b);
	nb_strs(&b, "(", "type", "regular", "contents", (char *)NULL);
	{
		char fill[8192];

		memset(fill, 'x', sizeof fill);
		nb_bytes(&b, fill, sizeof fill);
	}
	nb_strs(&b, ")", (char *)NULL);
	CHECK(restore(f->fd, &b, links, 1, &stats, &e) == 0 && stats.bytes_linked == 8192);
	CHECK(inode(f->fd, "item") == inode(links, X_NAME));
	CHECK(remove_tree(f->fd, "item", &e) == 0);
	CHECK(unlinkat(links, X_NAME, 0) == 0);
	{
		uint8_t sha[32];

		gcry_md_hash_buffer(GCRY_MD_SHA256, sha, b.data, b.len);
		options.nar_sha256 = sha;
		CHECK(restore_nar(f->fd, "item", b.data, b.len, &options, &stats, &e) == 0);
	}
	CHECK(stats.bytes_written == 8192 && inode(f->fd, "item") == inode(links, X_NAME));
	CHECK(remove_tree(f->fd, "item", &e) == 0);
	(void)close(links);
	free(b.data);
	return 0;
}

static int dedup_as_nobody(struct fixture *f)
{
	CHECK(become_nobody() == 0);
	return dedup_tree(f);
}

static void test_dedup(void **state)
{
	struct fixture *f = *state;
	struct err e;

	assert_int_equal(dedup_tree(f), 0);
	if (geteuid() == 0) {
		assert_int_equal(remove_tree(f->fd, ".links", &e), 0);
		assert_int_equal(in_child(dedup_as_nobody, f), 0);
	}
}

/* Put a file at .links/NAME. */
static void plant(int links, const char *name, size_t size, mode_t mode, time_t mtime)
{
	const struct timespec times[2] = { { .tv_sec = 1 }, { .tv_sec = mtime } };
	char fill[9000];
	int fd = openat(links, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	memset(fill, 'x', sizeof fill);
	assert_int_equal(write(fd, fill, size), size);
	assert_int_equal(fchmod(fd, mode), 0);
	assert_int_equal(futimens(fd, times), 0);
	(void)close(fd);
}

/* A link that does not look like the finished file is neither used nor touched. */
static void test_dedup_unusable_links(void **state)
{
	struct fixture *f = *state;
	struct nar_builder b = { 0 };
	struct restore_stats stats;
	struct err e;
	int links = open_links(f);
	ino_t planted;

	plant(f->fd, "good", 8192, 0444, 1);
	nb_magic(&b);
	nb_dir(&b);
	entry_filled(&b, "x1", 'x', 8192, 0);
	nb_dir_end(&b);
	for (unsigned kind = 0; kind < 7; kind++) {
		bool good = kind == 0;

		if (kind == 5)
			assert_int_equal(symlinkat("../good", links, X_NAME), 0);
		else if (kind == 6)
			assert_int_equal(mkdirat(links, X_NAME, 0444), 0);
		else
			plant(links, X_NAME, kind == 1 ? 8191 : kind == 2 ? 8193 : 8192,
			      kind == 3 ? 0644 : 0444, kind == 4 ? 2 : 1);
		planted = inode(links, X_NAME);
		assert_int_equal(restore(f->fd, &b, links, 1, &stats, &e), 0);
		assert_int_equal(inode(links, X_NAME), planted);
		assert_int_equal(inode(f->fd, "item/x1") == planted, good);
		assert_int_equal(stats.bytes_linked, good ? 8192 : 0);
		assert_true(is(f->fd, "item/x1", S_IFREG | 0444, 8192));
		assert_int_equal(remove_tree(f->fd, "item", &e), 0);
		assert_int_equal(remove_tree(links, X_NAME, &e), 0);
		assert_true(empty(links));
	}
	/* unusable directories are no failure either */
	assert_int_equal(restore(f->fd, &b, f->fd + 1000, 1, &stats, &e), 0);
	assert_int_equal(remove_tree(f->fd, "item", &e), 0);
	(void)close(links);
	free(b.data);
}

/* Another agent makes the link between our look and our write: its file replaces ours. */
static void test_dedup_race(void **state)
{
	const struct timespec times[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
	struct fixture *f = *state;
	int links = open_links(f), fd;
	char fill[8192];

	plant(links, X_NAME, 8192, 0444, 1);
	memset(fill, 'x', sizeof fill);
	fd = openat(f->fd, "mine", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	assert_int_equal(write(fd, fill, sizeof fill), sizeof fill);
	assert_int_equal(futimens(fd, times), 0);
	(void)close(fd);
	assert_int_not_equal(inode(f->fd, "mine"), inode(links, X_NAME));
	assert_true(dedup_give(links, X_NAME, 8192, 0444, f->fd, "mine", 7));
	assert_int_equal(inode(f->fd, "mine"), inode(links, X_NAME));
	assert_int_equal(unlinkat(links, X_NAME, 0), 0);
	assert_true(empty(links)); /* no temporary name stays */
	(void)close(links);
}

/* Many equal and different files, several threads: one inode for each contents, nothing lost. */
static void test_dedup_threads(void **state)
{
	struct fixture *f = *state;
	struct nar_builder b = { 0 };
	struct restore_stats stats;
	struct err e;
	char path[64];
	int links = open_links(f);

	nb_magic(&b);
	nb_dir(&b);
	for (unsigned i = 0; i < 400; i++) {
		(void)snprintf(path, sizeof path, "f%03u", i);
		entry_filled(&b, path, (char)('a' + i % 3), 60000, 0);
	}
	nb_dir_end(&b);
	assert_int_equal(restore(f->fd, &b, links, 4, &stats, &e), 0);
	assert_int_equal(stats.bytes_written + stats.bytes_linked, 400 * 60000);
	assert_true(stats.bytes_written >= 3 * 60000);
	for (unsigned i = 0; i < 400; i++) {
		char fill[60000], first[64];

		memset(fill, (char)('a' + i % 3), sizeof fill);
		(void)snprintf(path, sizeof path, "item/f%03u", i);
		(void)snprintf(first, sizeof first, "item/f%03u", i % 3);
		assert_true(is(f->fd, path, S_IFREG | 0444, 60000));
		assert_int_equal(inode(f->fd, path), inode(f->fd, first));
		if (i < 3)
			assert_true(holds(f->fd, path, fill, sizeof fill));
	}
	(void)close(links);
	free(b.data);
}

/* DEPTH directories below the top, each with a file before and one after the next level. */
static void build_deep(struct nar_builder *b, unsigned depth)
{
	nb_magic(b);
	nb_dir(b);
	for (unsigned i = 0; i < depth; i++) {
		nb_entry_file(b, "a", "before");
		nb_entry(b, "b");
		nb_dir(b);
	}
	for (unsigned i = 0; i < depth; i++) {
		nb_dir_end(b);
		nb_entry_end(b);
		nb_entry(b, "c");
		nb_link(b, "after");
		nb_entry_end(b);
	}
	nb_dir_end(b);
}

static int deep(struct fixture *f)
{
	const struct rlimit few = { .rlim_cur = 24, .rlim_max = 24 };
	struct nar_builder b = { 0 };
	struct restore_stats stats;
	struct err e;
	char path[LIMIT_NAR_PATH + 16] = "item";
	unsigned most = LIMIT_NAR_PATH / 2;

	if (geteuid() == 0)
		CHECK(drop_capabilities() == 0);
	CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
	build_deep(&b, most);
	for (unsigned threads = 1; threads <= 2; threads++) {
		int rc = restore(f->fd, &b, -1, threads, &stats, &e);

		if (rc == -1)
			print_error("%s\n", e.text);
		CHECK(rc == 0);
		CHECK(stats.directories == most + 1 && stats.files == most && stats.symlinks == most);
		for (unsigned i = 0; i < most; i++)
			(void)strcpy(path + 4 + 2 * (size_t)i, "/b");
		CHECK(is(f->fd, path, S_IFDIR | 0555, -1));
		CHECK(remove_tree(f->fd, "item", &e) == 0 && empty(f->fd));
	}
	free(b.data);
	return 0;
}

static void test_deep(void **state)
{
	assert_int_equal(in_child(deep, *state), 0);
}

/* A failure in the middle: RLIMIT_FSIZE stops the big file in the last directory. */
static int fails_midway(struct fixture *f)
{
	const struct rlimit limit = { .rlim_cur = 100000, .rlim_max = 100000 };
	struct nar_builder b = { 0 };
	struct err e;
	int links = open_links(f);
	char name[16];

	if (geteuid() == 0)
		CHECK(drop_capabilities() == 0);
	CHECK(signal(SIGXFSZ, SIG_IGN) != SIG_ERR && setrlimit(RLIMIT_FSIZE, &limit) == 0);
	nb_magic(&b);
	nb_dir(&b);
	for (unsigned d = 0; d < 20; d++) {
		(void)snprintf(name, sizeof name, "d%02u", d);
		nb_entry(&b, name);
		nb_dir(&b);
		for (unsigned i = 0; i < 20; i++) {
			(void)snprintf(name, sizeof name, "f%02u", i);
			entry_filled(&b, name, (char)('a' + d), d == 19 && i == 10 ? 100001 : 9000 + i, 0);
		}
		nb_dir_end(&b);
		nb_entry_end(&b);
	}
	nb_dir_end(&b);
	for (unsigned threads = 1; threads <= 4; threads++) {
		CHECK(restore(f->fd, &b, links, threads, NULL, &e) == -1);
		CHECK(e.code == EFBIG && strstr(e.text, "\"d19/f10\" of item") != NULL);
		CHECK(gone(f->fd, "item"));
	}
	/* files that were finished may stay in .links; none of them is short */
	{
		DIR *d = fdopendir(dup(links));
		struct dirent *entry;
		struct stat st;

		while ((entry = readdir(d)) != NULL)
			if (entry->d_name[0] != '.')
				CHECK(fstatat(links, entry->d_name, &st, 0) == 0 && st.st_size >= 9000 &&
				      st.st_size < 9020 && (st.st_mode & 07777) == 0444 &&
				      st.st_mtim.tv_sec == 1);
		(void)closedir(d);
	}
	free(b.data);
	return 0;
}

static void test_fails_midway(void **state)
{
	assert_int_equal(in_child(fails_midway, *state), 0);
}

/* A full file system, by bytes and by inodes. */
static int store_full(struct fixture *f)
{
	static const char *const sizes[] = { "size=1m", "size=64m,nr_inodes=100" };
	struct nar_builder b = { 0 };
	struct err e;
	char path[96], name[16];

	(void)snprintf(path, sizeof path, "%s/mnt", f->path);
	if (geteuid() != 0 || unshare(CLONE_NEWNS) == -1 ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == -1 || mkdir(path, 0700) == -1)
		return CHILD_SKIP;
	nb_magic(&b);
	nb_dir(&b);
	for (unsigned i = 0; i < 200; i++) {
		(void)snprintf(name, sizeof name, "f%03u", i);
		entry_filled(&b, name, (char)i, 20000, 0);
	}
	nb_dir_end(&b);
	for (unsigned i = 0; i < 4; i++) {
		int fd;

		if (mount("none", path, "tmpfs", 0, sizes[i / 2]) == -1)
			return CHILD_SKIP;
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		CHECK(fd != -1);
		CHECK(restore(fd, &b, -1, i % 2 == 0 ? 1 : 3, NULL, &e) == -1);
		CHECK(e.code == ENOSPC && strstr(e.text, "store: cannot") != NULL);
		CHECK(empty(fd));
		(void)close(fd);
		CHECK(umount(path) == 0);
	}
	free(b.data);
	return 0;
}

static void test_store_full(void **state)
{
	int rc = in_child(store_full, *state);

	if (rc == CHILD_SKIP) {
		print_message("SKIP: cannot mount a tmpfs\n");
		skip();
	}
	assert_int_equal(rc, 0);
}

/* A foreign directory that cannot be written: the destination cannot even be begun. */
static int no_rights(struct fixture *f)
{
	struct nar_builder b = { 0 };
	struct err e;

	build_tree(&b);
	CHECK(mkdirat(f->fd, "ro", 0555) == 0);
	if (geteuid() == 0)
		CHECK(drop_capabilities() == 0);
	{
		int fd = openat(f->fd, "ro", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		CHECK(restore(fd, &b, -1, 0, NULL, &e) == -1 && e.code == EACCES && empty(fd));
		(void)close(fd);
	}
	free(b.data);
	return 0;
}

static void test_no_rights(void **state)
{
	assert_int_equal(in_child(no_rights, *state), 0);
}

static int touch(int fd, const char *path)
{
	int file = openat(fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0);

	if (file == -1)
		return -1;
	return close(file);
}

/* Modes that shut their owner out, names that the removal itself uses, links to elsewhere. */
static int remove_odd_trees(struct fixture *f)
{
	struct err e = { 0 };

	CHECK(remove_tree(f->fd, "absent", &e) == 0);
	CHECK(mkdirat(f->fd, "outside", 0700) == 0 && touch(f->fd, "outside/keep") == 0);
	CHECK(symlinkat("outside", f->fd, "t") == 0 && remove_tree(f->fd, "t", &e) == 0);
	CHECK(!gone(f->fd, "outside/keep") && gone(f->fd, "t"));
	CHECK(touch(f->fd, "t") == 0 && remove_tree(f->fd, "t", &e) == 0 && gone(f->fd, "t"));
	CHECK(mkdirat(f->fd, "t", 0) == 0 && remove_tree(f->fd, "t", &e) == 0 && gone(f->fd, "t"));
	CHECK(mkdirat(f->fd, "t", 0700) == 0 && mkdirat(f->fd, "t/a", 0700) == 0);
	CHECK(mkdirat(f->fd, "t/a/b", 0700) == 0 && mkdirat(f->fd, "t/a/b/c", 0700) == 0);
	CHECK(touch(f->fd, "t/a/b/c/d") == 0 && touch(f->fd, "t/a/b/0") == 0);
	CHECK(symlinkat("../../../outside", f->fd, "t/a/b/out") == 0);
	CHECK(mkdirat(f->fd, "t/0", 0700) == 0 && touch(f->fd, "t/0/0") == 0 && touch(f->fd, "t/1") == 0);
	CHECK(mkdirat(f->fd, "t/0/1", 0700) == 0 && touch(f->fd, "t/0/1/1") == 0);
	CHECK(symlinkat("../outside", f->fd, "t/2") == 0);
	CHECK(fchmodat(f->fd, "t/a/b/c", 0, 0) == 0 && fchmodat(f->fd, "t/a/b", 0111, 0) == 0);
	CHECK(fchmodat(f->fd, "t/a", 0444, 0) == 0 && fchmodat(f->fd, "t", 0, 0) == 0);
	if (remove_tree(f->fd, "t", &e) == -1)
		print_error("%s\n", e.text);
	CHECK(gone(f->fd, "t") && !gone(f->fd, "outside/keep"));
	CHECK(remove_tree(f->fd, "outside", &e) == 0);
	return 0;
}

static int remove_without_capabilities(struct fixture *f)
{
	CHECK(drop_capabilities() == 0);
	return remove_odd_trees(f);
}

static int remove_as_nobody(struct fixture *f)
{
	CHECK(become_nobody() == 0);
	return remove_odd_trees(f);
}

static void test_remove(void **state)
{
	assert_int_equal(remove_odd_trees(*state), 0);
	if (geteuid() == 0) {
		assert_int_equal(in_child(remove_without_capabilities, *state), 0);
		assert_int_equal(in_child(remove_as_nobody, *state), 0);
	}
}

/* Deeper than any path can name, with few descriptors; and more entries than one reading returns. */
static int remove_deep_and_wide(struct fixture *f)
{
	const struct rlimit few = { .rlim_cur = 24, .rlim_max = 24 };
	struct err e = { 0 };
	char name[250];
	int fd, next;

	CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
	memset(name, 'n', sizeof name);
	name[sizeof name - 1] = '\0';
	CHECK(mkdirat(f->fd, "t", 0700) == 0);
	fd = openat(f->fd, "t", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (unsigned i = 0; i < 3000; i++) {
		CHECK(mkdirat(fd, name, 0700) == 0 && touch(fd, "a") == 0);
		next = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		CHECK(next != -1 && fchmod(fd, 0555) == 0);
		(void)close(fd);
		fd = next;
	}
	for (unsigned i = 0; i < 3000; i++) {
		(void)snprintf(name, sizeof name, "%u-with-a-longer-name", i);
		CHECK((i % 3 == 0 ? mkdirat(fd, name, 0) : touch(fd, name)) == 0);
	}
	(void)close(fd);
	if (geteuid() == 0)
		CHECK(drop_capabilities() == 0);
	if (remove_tree(f->fd, "t", &e) == -1)
		print_error("%s\n", e.text);
	CHECK(gone(f->fd, "t"));
	return 0;
}

static void test_remove_deep_and_wide(void **state)
{
	assert_int_equal(in_child(remove_deep_and_wide, *state), 0);
}

/* A mount point inside the tree is not emptied. */
static int remove_stops_at_mounts(struct fixture *f)
{
	struct err e = { 0 };
	char inner[96];

	(void)snprintf(inner, sizeof inner, "%s/t/mnt", f->path);
	if (geteuid() != 0 || unshare(CLONE_NEWNS) == -1 ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == -1)
		return CHILD_SKIP;
	CHECK(mkdirat(f->fd, "t", 0700) == 0 && mkdirat(f->fd, "t/mnt", 0700) == 0);
	CHECK(mkdirat(f->fd, "keep", 0700) == 0 && touch(f->fd, "keep/me") == 0);
	{
		char from[96];

		(void)snprintf(from, sizeof from, "%s/keep", f->path);
		if (mount(from, inner, NULL, MS_BIND, NULL) == -1)
			return CHILD_SKIP;
	}
	CHECK(remove_tree(f->fd, "t", &e) == -1 && e.code != 0);
	CHECK(!gone(f->fd, "keep/me"));
	CHECK(umount(inner) == 0 && remove_tree(f->fd, "t", &e) == 0);
	return 0;
}

static void test_remove_stops_at_mounts(void **state)
{
	int rc = in_child(remove_stops_at_mounts, *state);

	if (rc == CHILD_SKIP) {
		print_message("SKIP: cannot mount\n");
		skip();
	}
	assert_int_equal(rc, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_tree, setup, teardown),
		cmocka_unit_test_setup_teardown(test_top_levels, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_destination_names, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_nar_writes_nothing, setup, teardown),
		cmocka_unit_test(test_dedup_names),
		cmocka_unit_test_setup_teardown(test_dedup, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dedup_unusable_links, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dedup_race, setup, teardown),
		cmocka_unit_test_setup_teardown(test_dedup_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deep, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fails_midway, setup, teardown),
		cmocka_unit_test_setup_teardown(test_store_full, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_rights, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remove, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remove_deep_and_wide, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remove_stops_at_mounts, setup, teardown),
	};

	(void)gcry_check_version(NULL);
	(void)gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
