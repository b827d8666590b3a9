/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (all): lock this process up for good, and say what was achieved. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "helper/common/limit.h"
#include "helper/common/logline.h"
#include "helper/common/seal.h"

/* --- Descriptors ------------------------------------------------------------------------------------- */

/* Everything that is not expected is closed, even if the spawner has let it slip through; what is expected
 * must be there, or a later open() could take its number. */
static int
seal_fds(uint64_t expected, struct err *e)
{
	unsigned above = 0;

	for (unsigned fd = 0; fd < 64; fd++)
		if ((expected >> fd & 1) != 0)
			above = fd + 1;
	if (syscall(SYS_close_range, above, ~0u, 0) != 0)
		return err_sys(e, errno, "cannot close descriptors");
	for (unsigned fd = 0; fd < above; fd++) {
		if ((expected >> fd & 1) == 0)
			close((int)fd);
		else if (fcntl((int)fd, F_GETFD) < 0)
			return err_sys(e, errno, "descriptor %u was not handed over", fd);
	}
	for (unsigned fd = 0; fd < 64; fd++)
		if ((expected >> fd & 1) == 0 && fcntl((int)fd, F_GETFD) >= 0)
			return err_set(e, "descriptor %u is still open", fd);
	return 0;
}

/* --- Parent ------------------------------------------------------------------------------------------ */

/* The death signal is armed before the parent is looked at: if the spawner died earlier, the pid differs; if
 * it dies later, the signal comes.  In a pid namespace of our own the parent is outside and shows as 0, but
 * the kernel still delivers the signal. */
static int
seal_parent(struct err *e)
{
	const char *text = getenv(SEAL_SPAWNER);
	long spawner, parent;
	char *end;

	if (text == NULL || *text < '1' || *text > '9')
		return err_set(e, "%s is not in the environment", SEAL_SPAWNER);
	errno = 0;
	spawner = strtol(text, &end, 10);
	if (errno != 0 || *end != '\0')
		return err_set(e, "%s is no pid", SEAL_SPAWNER);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
		return err_sys(e, errno, "cannot set the parent death signal");
	parent = getppid();
	if (parent != spawner && parent != 0)
		return err_set(e, "the parent is %ld, not the spawner %ld", parent, spawner);
	return 0;
}

/* --- Identity ---------------------------------------------------------------------------------------- */

/* 0: none at all; 1: none, but for the bounding set; 2: some; -1. */
static int
has_caps(struct err *e)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &head, data) != 0)
		return err_sys(e, errno, "cannot read the capabilities");
	for (int i = 0; i < 2; i++)
		if ((data[i].effective | data[i].permitted | data[i].inheritable) != 0)
			return 2;
	/* The bounding set ends where the kernel says EINVAL; the ambient set is part of the inheritable. */
	for (unsigned long cap = 0; cap < 64; cap++)
		if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1)
			return 1;
	return 0;
}

static int
seal_identity(const struct seal_options *o, struct seal_report *r, struct err *e)
{
	uid_t uid[3];
	gid_t gid[3];
	int caps, groups;

	if (getresuid(&uid[0], &uid[1], &uid[2]) != 0 || getresgid(&gid[0], &gid[1], &gid[2]) != 0 ||
	    (groups = getgroups(0, NULL)) < 0)
		return err_sys(e, errno, "cannot read the ids");
	/* The file system ids follow the effective ones unless somebody with CAP_SETUID sets them apart. */
	if (uid[0] != 0 && uid[0] == uid[1] && uid[1] == uid[2] && gid[0] != 0 && gid[0] == gid[1] &&
	    gid[1] == gid[2])
		r->layers |= LAYER_UID;
	else if ((o->flags & SEAL_ALLOW_ROOT) == 0)
		return err_set(e, "the helper runs as root or with mixed ids");
	if (groups == 0)
		r->layers |= LAYER_NO_GROUPS;
	caps = has_caps(e);
	if (caps < 0)
		return -1;
	if (caps == 0)
		r->layers |= LAYER_NO_CAPS;
	else if ((o->flags & SEAL_ALLOW_ROOT) == 0 && (caps == 2 || (o->flags & SEAL_ANY_BOUNDS) == 0))
		return err_set(e, "the helper has capabilities");
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		return err_set(e, "no_new_privs is not set");
	r->layers |= LAYER_NO_NEW_PRIVS;
	return 0;
}

/* --- Limits ------------------------------------------------------------------------------------------ */

static int
limit(int resource, uint64_t value, const char *name, struct err *e)
{
	return value == SEAL_NO_LIMIT ? 0 : limit_set(resource, value, name, e);
}

static int
seal_limits(const struct seal_options *o, struct err *e)
{
	if (limit(RLIMIT_CORE, 0, "CORE", e) != 0 || limit(RLIMIT_NPROC, 0, "NPROC", e) != 0 ||
	    limit(RLIMIT_NOFILE, o->nofile, "NOFILE", e) != 0 ||
	    limit(RLIMIT_FSIZE, o->fsize, "FSIZE", e) != 0)
		return -1;
#ifdef NARLOCK_NO_SECCOMP
	return 0; /* sanitizers reserve terabytes of address space */
#else
	return limit(RLIMIT_AS, o->as, "AS", e);
#endif
}

/* --- Landlock and filter ------------------------------------------------------------------------------ */

static int
seal_landlock(const struct seal_options *o, struct seal_report *r, struct err *e)
{
	unsigned flags = LANDLOCK_NO_BIND | LANDLOCK_SCOPE;
	struct landlock_result result;

	if ((o->flags & SEAL_NO_CONNECT) != 0)
		flags |= LANDLOCK_NO_CONNECT;
	if (landlock_confine(o->files, o->nfiles, flags, &result, e) != 0)
		return -1;
	r->landlock_abi = result.abi;
	r->landlock_error = result.error;
	if (result.fs)
		r->layers |= LAYER_LANDLOCK_FS;
	if ((result.done & LANDLOCK_NO_BIND) != 0 && ((flags ^ result.done) & LANDLOCK_NO_CONNECT) == 0)
		r->layers |= LAYER_LANDLOCK_NET;
	if ((result.done & LANDLOCK_SCOPE) != 0)
		r->layers |= LAYER_LANDLOCK_SCOPE;
	return 0;
}

#ifdef NARLOCK_TRAP
/* Diagnostic builds: say which call it was.  Ends as a killed process would look to a shell. */
static void
on_violation(int sig, siginfo_t *info, void *context)
{
	(void)context;
	logline("system call %d is not in the policy", info->si_syscall);
	_exit(128 + sig);
}
#endif

static int
seal_filter(const struct seal_options *o, struct seal_report *r, struct err *e)
{
#ifdef NARLOCK_NO_SECCOMP
	/* A sanitizer's runtime makes calls of its own.  Decided when it is built, never when it runs. */
	(void)o;
	(void)r;
	(void)e;
	return 0;
#else
#ifdef NARLOCK_TRAP
	struct sigaction sa = { .sa_sigaction = on_violation, .sa_flags = SA_SIGINFO };

	sigaction(SIGSYS, &sa, NULL);
#endif
	if (policy_load(o->policy, e) != 0)
		return -1;
	r->layers |= LAYER_SECCOMP;
	r->filter_len = o->policy->length;
	return 0;
#endif
}

int
seal_process(const struct seal_options *o, struct seal_report *r, struct err *e)
{
	memset(r, 0, sizeof(*r));
	if (seal_fds(o->fds, e) != 0 || ((o->flags & SEAL_ANY_PARENT) == 0 && seal_parent(e) != 0))
		return -1;
	if ((o->flags & SEAL_ANY_PARENT) == 0)
		r->layers |= LAYER_PDEATHSIG;
	if (seal_identity(o, r, e) != 0)
		return -1;
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
		return err_sys(e, errno, "cannot become undumpable");
	r->layers |= LAYER_NOT_DUMPABLE;
	/* Landlock opens the paths of its rules: before the number of descriptors is limited. */
	if (seal_landlock(o, r, e) != 0 || seal_limits(o, e) != 0)
		return -1;
	r->layers |= LAYER_RLIMITS;
	return seal_filter(o, r, e);
}

/* --- Report ------------------------------------------------------------------------------------------ */

static const char *
note_of(const struct seal_report *r)
{
	if (r->landlock_error == EOPNOTSUPP)
		return "Landlock is built into this kernel but not in its lsm= list";
	if (r->landlock_error == EPERM)
		return "Landlock is forbidden here (a container's filter)";
	if (r->landlock_error != 0)
		return "this kernel has no Landlock";
#ifdef NARLOCK_NO_SECCOMP
	return "sanitizer build: no system call filter";
#else
	return "";
#endif
}

void
seal_message(const struct seal_report *r, const char *note, struct wire_msg *m)
{
	memset(m, 0, sizeof(*m));
	m->type = MSG_SEALED;
	m->version = WIRE_VERSION;
	m->layers = r->layers;
	m->landlock_abi = (uint16_t)r->landlock_abi;
	m->filter_len = (uint16_t)r->filter_len;
	m->text = wire_str(note != NULL ? note : note_of(r));
}
