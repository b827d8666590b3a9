/* SPDX-License-Identifier: GPL-3.0-or-later
 * Both sides: Landlock through its three system calls (kernel: Documentation/userspace-api/landlock.rst).
 *
 * The constants are our own: the header of an older system lacks what a newer kernel can do. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "policy/landlock.h"

#define CREATE_RULESET_VERSION 1u
#define RULE_PATH_BENEATH 1

#define FS_EXECUTE (1ull << 0)
#define FS_WRITE_FILE (1ull << 1)
#define FS_READ_FILE (1ull << 2)
#define FS_READ_DIR (1ull << 3)
#define FS_MAKE_CHAR (1ull << 6)
#define FS_MAKE_SOCK (1ull << 9)
#define FS_MAKE_FIFO (1ull << 10)
#define FS_MAKE_BLOCK (1ull << 11)
#define FS_ABI1 ((1ull << 13) - 1)
#define FS_REFER (1ull << 13)     /* ABI 2 */
#define FS_TRUNCATE (1ull << 14)  /* ABI 3 */
#define FS_IOCTL_DEV (1ull << 15) /* ABI 5 */

#define NET_BIND_TCP (1ull << 0)    /* ABI 4 */
#define NET_CONNECT_TCP (1ull << 1) /* ABI 4 */

#define SCOPE_ABSTRACT_UNIX (1ull << 0) /* ABI 6 */
#define SCOPE_SIGNAL (1ull << 1)        /* ABI 6 */

/* What can be said about a file that is not a directory. */
#define FS_OF_FILES (FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV)
/* What LANDLOCK_READ_WRITE does not give: programs and devices. */
#define FS_NEVER (FS_EXECUTE | FS_MAKE_CHAR | FS_MAKE_BLOCK | FS_MAKE_SOCK | FS_MAKE_FIFO | FS_IOCTL_DEV)

struct ruleset_attr {
	uint64_t fs, net, scoped;
};

struct path_attr {
	uint64_t access;
	int32_t fd;
} __attribute__((packed));

#ifdef NARLOCK_TEST_HOOKS
int landlock_test_errno;
#endif

static int
create_ruleset(const struct ruleset_attr *attr, size_t size, unsigned flags)
{
#ifdef NARLOCK_TEST_HOOKS
	if (landlock_test_errno != 0) {
		errno = landlock_test_errno;
		return -1;
	}
#endif
	return (int)syscall(SYS_landlock_create_ruleset, attr, size, flags);
}

/* All that ABI can forbid, as far as FLAGS ask for it. */
static struct ruleset_attr
attr_for(int abi, unsigned flags)
{
	struct ruleset_attr a = { .fs = FS_ABI1 };

	if (abi >= 2)
		a.fs |= FS_REFER;
	if (abi >= 3)
		a.fs |= FS_TRUNCATE;
	if (abi >= 5)
		a.fs |= FS_IOCTL_DEV;
	if (abi >= 4 && (flags & LANDLOCK_NO_BIND) != 0)
		a.net |= NET_BIND_TCP;
	if (abi >= 4 && (flags & LANDLOCK_NO_CONNECT) != 0)
		a.net |= NET_CONNECT_TCP;
	if (abi >= 6 && (flags & LANDLOCK_SCOPE) != 0)
		a.scoped = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL;
	return a;
}

static unsigned
flags_of(const struct ruleset_attr *a)
{
	return (a->net & NET_BIND_TCP ? LANDLOCK_NO_BIND : 0) |
	    (a->net & NET_CONNECT_TCP ? LANDLOCK_NO_CONNECT : 0) | (a->scoped != 0 ? LANDLOCK_SCOPE : 0) |
	    (a->fs & FS_REFER ? LANDLOCK_NEED_REFER : 0);
}

static int
add_rule(int ruleset, const struct landlock_rule *rule, uint64_t handled, struct err *e)
{
	struct path_attr p = { .access = FS_READ_FILE | FS_READ_DIR };
	struct stat st;
	int rc = 0;

	if (rule->access == LANDLOCK_READ_WRITE)
		p.access = handled & ~FS_NEVER;
	p.fd = open(rule->path, O_PATH | O_CLOEXEC);
	if (p.fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	if (p.fd < 0)
		return err_sys(e, errno, "landlock: %s", rule->path);
	if (fstat(p.fd, &st) != 0)
		rc = err_sys(e, errno, "landlock: %s", rule->path);
	else if (!S_ISDIR(st.st_mode))
		p.access &= FS_OF_FILES;
	if (rc == 0 && syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &p, 0) != 0)
		rc = err_sys(e, errno, "landlock: rule for %s", rule->path);
	close(p.fd);
	return rc;
}

int
landlock_confine(const struct landlock_rule *rules, unsigned n, unsigned flags, struct landlock_result *r,
    struct err *e)
{
	struct ruleset_attr attr;
	int abi, fd = -1, rc = 0;

	*r = (struct landlock_result){ 0 };
	abi = create_ruleset(NULL, 0, CREATE_RULESET_VERSION);
	if (abi <= 0) {
		r->error = abi < 0 ? errno : ENOSYS;
		if (r->error != ENOSYS && r->error != EOPNOTSUPP && r->error != EPERM)
			return err_sys(e, r->error, "landlock: cannot ask for the version");
		return 0;
	}
	r->abi = abi;
	if (abi < 2 && (flags & LANDLOCK_NEED_REFER) != 0)
		return 0;
	/* Some kernels claim a version and lack a part of it (5.14 with backports: no signal scope). */
	do {
		attr = attr_for(abi, flags);
		fd = create_ruleset(&attr, sizeof(attr), 0);
		if (fd < 0 && errno == E2BIG) { /* knows a shorter struct only, and no more than files */
			attr.net = attr.scoped = 0;
			fd = create_ruleset(&attr, sizeof(attr.fs), 0);
		}
	} while (fd < 0 && errno == EINVAL && --abi > 0);
	if (fd < 0)
		return err_sys(e, errno, "landlock: cannot make a ruleset");
	for (unsigned i = 0; i < n && rc == 0; i++)
		rc = add_rule(fd, &rules[i], attr.fs, e);
	if (rc == 0 && syscall(SYS_landlock_restrict_self, fd, 0) != 0)
		rc = err_sys(e, errno, "landlock: cannot restrict this process");
	close(fd);
	if (rc == 0) {
		r->fs = 1;
		r->done = flags & flags_of(&attr);
	}
	return rc;
}
