/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): give up all rights but those that a process of narlock-publish needs. */
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "helper/publish/confine.h"
#include "policy/landlock.h"

static int
make_state(const struct conf *conf, struct err *e)
{
	if (mkdir(conf->state, 0700) == 0 || errno == EEXIST)
		return 0;
	return err_sys(e, errno, "cannot make the state directory %s", conf->state);
}

static int
become(const struct conf *conf, struct err *e)
{
	const struct passwd *p = getpwnam(conf->user);
	struct stat st;

	if (p == NULL || p->pw_uid == 0)
		return err_set(e,
		    "started as root, and there is no user `%s' to become (see `user' in the configuration)",
		    conf->user);
	if (make_state(conf, e) != 0)
		return -1;
	/* Only a directory that is root's own is given away. */
	if (lstat(conf->state, &st) != 0 || !S_ISDIR(st.st_mode))
		return err_set(e, "%s is no directory", conf->state);
	if (st.st_uid == 0 && lchown(conf->state, p->pw_uid, p->pw_gid) != 0)
		return err_sys(e, errno, "cannot give %s to %s", conf->state, conf->user);
	if (setgroups(0, NULL) != 0 || setresgid(p->pw_gid, p->pw_gid, p->pw_gid) != 0 ||
	    setresuid(p->pw_uid, p->pw_uid, p->pw_uid) != 0)
		return err_sys(e, errno, "cannot become %s", conf->user);
	if (setresuid(0, 0, 0) == 0)
		return err_set(e, "root's rights came back");
	return 0;
}

int
confine_user(const struct conf *conf, struct err *e)
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

static int
limit(__rlimit_resource_t resource, rlim_t most, struct err *e)
{
	struct rlimit r;

	if (getrlimit(resource, &r) != 0)
		return err_sys(e, errno, "getrlimit");
	if (r.rlim_max > most)
		r.rlim_max = most;
	r.rlim_cur = r.rlim_max;
	return setrlimit(resource, &r) == 0 ? 0 : err_sys(e, errno, "setrlimit");
}

int
confine_calls(const struct policy *policy, unsigned nofile, struct err *e)
{
	if (limit(RLIMIT_NOFILE, nofile, e) != 0 || limit(RLIMIT_CORE, 0, e) != 0)
		return -1;
#ifndef NARLOCK_NO_SECCOMP
	return policy_load(policy, e);
#else
	(void)policy;
	return 0;
#endif
}
