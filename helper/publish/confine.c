/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): give up all rights but those that a process of narlock-publish needs. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pwd.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "helper/common/limit.h"
#include "helper/publish/confine.h"
#include "policy/landlock.h"

static int
make_state(const struct conf *conf, struct err *e)
{
	if (mkdir(conf->state, 0700) == 0 || errno == EEXIST)
		return 0;
	return err_sys(e, errno, "cannot make the state directory %s", conf->state);
}

/* Whether that user comes as far as the directory. */
static int
can_reach(const char *path, uid_t uid, gid_t gid)
{
	int fd;

	setfsgid(gid);
	setfsuid(uid);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	setfsuid(0);
	setfsgid(getegid());
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* systemd keeps the state of dynamic users in /var/lib/private, which is root's alone, and shows it to the unit
 * at another place.  Here it takes the place of the directory that it is in, for this process only. */
static int
bring_near(struct conf *conf, char *real, struct err *e)
{
	char *slash = strrchr(real, '/');

	if (slash == NULL || slash == real || unshare(CLONE_NEWNS) != 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		return err_sys(e, errno, "only root can reach %s", real);
	strcpy(conf->state, real);
	conf->state[slash - real] = '\0';
	return mount(real, conf->state, NULL, MS_BIND, NULL) == 0 ? 0 : err_sys(e, errno, "mount %s", real);
}

static int
become(struct conf *conf, struct err *e)
{
	const struct passwd *p = getpwnam(conf->user);
	char real[PATH_MAX];
	struct stat st, way;
	uid_t uid;
	gid_t gid;

	if (p != NULL && p->pw_uid != 0 && make_state(conf, e) != 0)
		return -1;
	/* Nobody but root and the user may have laid a link there. */
	if (lstat(conf->state, &way) != 0 || realpath(conf->state, real) == NULL ||
	    strlen(real) >= sizeof conf->state || lstat(real, &st) != 0)
		memset(&st, 0, sizeof st);
	uid = p != NULL ? p->pw_uid : st.st_uid;
	gid = p != NULL ? p->pw_gid : st.st_gid;
	if (uid == 0)
		return err_set(e,
		    "started as root, and there is no user `%s' to become (see `user' in the configuration)",
		    conf->user);
	if (!S_ISDIR(st.st_mode) || (way.st_uid != 0 && way.st_uid != uid))
		return err_set(e, "%s is no directory", conf->state);
	/* Only a directory that is root's own is given away, and none that a link leads to. */
	if (st.st_uid == 0 && (!S_ISDIR(way.st_mode) || lchown(conf->state, uid, gid) != 0))
		return err_sys(e, errno, "cannot give %s to %s", conf->state, conf->user);
	if (!can_reach(real, uid, gid) && bring_near(conf, real, e) != 0)
		return -1;
	if (conf->mirror)
		conf_own_cache(conf);
	if (setgroups(0, NULL) != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0)
		return err_sys(e, errno, "cannot become %s", conf->user);
	if (setresuid(0, 0, 0) == 0)
		return err_set(e, "root's rights came back");
	return 0;
}

int
confine_user(struct conf *conf, struct err *e)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const struct __user_cap_data_struct none[2] = { { 0 } };

	if ((geteuid() == 0 ? become(conf, e) : make_state(conf, e)) != 0)
		return -1;
	if (syscall(SYS_capset, &head, none) != 0)
		return err_sys(e, errno, "cannot drop the capabilities");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		return err_sys(e, errno, "prctl");
	return 0;
}

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
/* Where calls of the other ABI of this processor begin. */
#define FOREIGN 0x40000000u
#else
#define ARCH AUDIT_ARCH_AARCH64
#define FOREIGN 0x7fffffffu
#endif

/* Its children have filters that list what they may do.  This one stays on them and on the way to them, on
 * which the C library does what it likes to find names: it lists what nobody here ever needs. */
static int
forbid_calls(struct err *e)
{
	static const unsigned calls[] = { SYS_execve, SYS_execveat, SYS_ptrace, SYS_process_vm_readv,
	    SYS_process_vm_writev, SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, SYS_io_uring_setup,
	    SYS_unshare, SYS_setns, SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_keyctl, SYS_add_key,
	    SYS_request_key, SYS_personality, SYS_init_module, SYS_finit_module, SYS_kexec_load, SYS_reboot };
	enum { CALLS = sizeof calls / sizeof calls[0], HEAD = 5 };
	struct sock_filter f[HEAD + CALLS + 2] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, FOREIGN, CALLS + 1, 0),
	};
	const struct sock_fprog p = { sizeof f / sizeof f[0], f };

	for (unsigned i = 0; i < CALLS; i++)
		f[HEAD + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i],
		    (uint8_t)(CALLS - i), 0);
	f[HEAD + CALLS] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	f[HEAD + CALLS + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p) == 0 ? 0 : err_sys(e, errno, "seccomp");
}

int
confine_parent(const struct conf *conf, struct err *e)
{
	const struct landlock_rule rules[] = { { "/", LANDLOCK_READ }, { conf->state, LANDLOCK_READ_WRITE } };
	struct landlock_result r;

	if (landlock_confine(rules, 2, LANDLOCK_NO_BIND, &r, e) != 0)
		return -1;
#ifndef NARLOCK_NO_SECCOMP
	return forbid_calls(e);
#else
	(void)forbid_calls;
	return 0;
#endif
}

int
confine_files(const struct conf *conf, const char *extra, int can_connect, struct err *e)
{
	const struct landlock_rule rules[] = { { conf->cache, LANDLOCK_READ }, { conf->state,
	    LANDLOCK_READ_WRITE },
	    { extra == NULL ? conf->cache : extra, LANDLOCK_READ } };
	struct landlock_result r;

	if (landlock_confine(rules, 3, LANDLOCK_NO_BIND | LANDLOCK_SCOPE | (can_connect ? 0 :
	    LANDLOCK_NO_CONNECT), &r,
	    e) != 0)
		return -1;
	if (!r.fs)
		fputs("narlock-publish: no Landlock in this kernel: the system call filter stands alone\n",
		    stderr);
	return 0;
}

int
confine_calls(const struct policy *policy, unsigned nofile, struct err *e)
{
	if (limit_set(RLIMIT_NOFILE, nofile, "NOFILE", e) != 0 || limit_set(RLIMIT_CORE, 0, "CORE", e) != 0)
		return -1;
#ifndef NARLOCK_NO_SECCOMP
	return policy_load(policy, e);
#else
	(void)policy;
	return 0;
#endif
}
