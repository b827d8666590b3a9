/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): try the sandbox: sealed processes that attempt what they must not be able to do. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker/drop.h"
#include "helper/cli/probe.h"
#include "policy/landlock.h"
#include "helper/common/seal.h"
#include "policy/policy.h"

/* What a probe's exit code means: 0 the deed was done, below 200 the errno it got, then: */
#define EXIT_NOT_DROPPED 200
#define EXIT_NOT_SEALED 201
/* A sealed process of a probe needs few numbers. */
#define PROBE_NOFILE 16
/* A program whose execution ends at once, if it begins at all. */
#define ANY_PROGRAM "/proc/self/exe"

/* --- The deeds: 0 when done, else errno -------------------------------------------------------------- */

static int result(long rc)
{
	return rc < 0 ? errno : 0;
}

static int read_file(void)
{
	return result(syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY, 0));
}

static int make_file(void)
{
	return result(syscall(SYS_openat, AT_FDCWD, "/tmp", O_WRONLY | O_TMPFILE, 0600));
}

static int local_socket(void)
{
	return result(syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0));
}

static int raw_socket(void)
{
	return result(syscall(SYS_socket, AF_INET, SOCK_RAW, 1));
}

static int execute(void)
{
	char name[] = "narlock", option[] = "--version";
	char *argv[] = { name, option, NULL }, *env[] = { NULL };

	return result(syscall(SYS_execve, ANY_PROGRAM, argv, env));
}

static int start_process(void)
{
	long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (pid == 0)
		syscall(SYS_exit_group, 0);
	return result(pid);
}

static int trace(void)
{
	return result(syscall(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0));
}

static int send_signal(void)
{
	return result(syscall(SYS_kill, getppid(), 0));
}

static int become_root(void)
{
	return result(syscall(SYS_setresuid, 0, 0, 0));
}

static int mount_something(void)
{
	return result(syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, ""));
}

static int executable_memory(void)
{
	return result(syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

static int io_ring(void)
{
	return result(syscall(SYS_io_uring_setup, 1, NULL));
}

#define FETCH 1u
#define UNPACK 2u
#define RESOLVE 4u
#define ALL (FETCH | UNPACK | RESOLVE)

static const struct deed {
	const char *name;
	int (*attempt)(void);
	unsigned forbidden_to; /* the resolver reads files and talks to local name services */
} deeds[] = {
	{ "read a file", read_file, FETCH | UNPACK },
	{ "make a file", make_file, ALL },
	{ "local socket", local_socket, FETCH | UNPACK },
	{ "raw socket", raw_socket, ALL },
	{ "execute a program", execute, ALL },
	{ "start a process", start_process, ALL },
	{ "ptrace", trace, ALL },
	{ "signal another", send_signal, ALL },
	{ "become root", become_root, ALL },
	{ "mount", mount_something, ALL },
	{ "executable memory", executable_memory, ALL },
	{ "io_uring", io_ring, ALL },
};

static const struct kind {
	const struct policy *policy;
	unsigned bit;
} kinds[] = {
	{ &policy_fetch, FETCH },
	{ &policy_unpack, UNPACK },
	{ &policy_resolve, RESOLVE },
};

/* --- In the probe's process ---------------------------------------------------------------------------- */

static int give_up_rights(const struct probe_identity *id)
{
	return id->root ? drop_to_user(id->uid, id->gid) : drop_to_namespace(id->uid, id->gid, id->hidden, 0);
}

/* Why it could not begin goes to the parent as text, through PIPE. */
static void give_up(int code, const char *why, int pipe)
{
	if (write(pipe, why, strlen(why)) < 0)
		code = EXIT_NOT_SEALED;
	_exit(code);
}

static void arrange(const struct probe_identity *id, pid_t parent, int pipe)
{
	char text[32];

	(void)snprintf(text, sizeof text, "%ld", (long)parent);
	if (setenv(SEAL_SPAWNER, text, 1) < 0 || dup3(pipe, 3, 0) < 0)
		_exit(EXIT_NOT_SEALED);
	if (give_up_rights(id) < 0)
		give_up(EXIT_NOT_DROPPED, strerror(errno), 3);
}

static void sealed_child(const struct probe_identity *id, const struct kind *k, const struct deed *d,
    pid_t parent, int pipe)
{
	struct seal_options options = { .policy = k->policy, .fds = 0xf, .nofile = PROBE_NOFILE, .fsize = 0,
		.as = SEAL_NO_LIMIT };
	struct seal_report sealed;
	struct err e;

	arrange(id, parent, pipe);
	if (seal_process(&options, &sealed, &e) < 0)
		give_up(EXIT_NOT_SEALED, e.text, 3);
	_exit(d->attempt());
}

/* There is always a root directory to list, also in the namespace, which has no /etc/passwd. */
static int list_root(void)
{
	return result(syscall(SYS_openat, AT_FDCWD, "/", O_RDONLY | O_DIRECTORY, 0));
}

/* Landlock alone, so that the filter cannot hide that it does nothing. */
static void landlock_child(const struct probe_identity *id, pid_t parent, int pipe)
{
	struct landlock_result landlock;
	struct err e;

	arrange(id, parent, pipe);
	if (list_root() != 0)
		give_up(EXIT_NOT_SEALED, "/ cannot be listed anyway", 3);
	if (landlock_confine(NULL, 0, LANDLOCK_NO_BIND | LANDLOCK_SCOPE, &landlock, &e) < 0)
		give_up(EXIT_NOT_SEALED, e.text, 3);
	_exit(list_root());
}

/* --- In doctor ------------------------------------------------------------------------------------------ */

struct outcome {
	int status;     /* of waitpid */
	char why[160];  /* what it said before it was sealed */
};

static int run(const struct probe_identity *id, const struct kind *k, const struct deed *d, struct outcome *o)
{
	pid_t parent = getpid(), pid;
	int ends[2];
	ssize_t n;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	fflush(stdout);
	pid = fork();
	if (pid == 0 && d != NULL)
		sealed_child(id, k, d, parent, ends[1]);
	if (pid == 0)
		landlock_child(id, parent, ends[1]);
	close(ends[1]);
	n = pid < 0 ? -1 : read(ends[0], o->why, sizeof o->why - 1);
	o->why[n < 0 ? 0 : n] = '\0';
	close(ends[0]);
	while (pid > 0 && waitpid(pid, &o->status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return pid < 0 ? -1 : 0;
}

/* EPERM, EACCES, ENOSYS and EAGAIN (no more processes) are answers of a sandbox; another errno, e.g. ENOENT,
 * means that the deed failed for a reason that proves nothing. */
static bool is_denial(int code)
{
	return code == EPERM || code == EACCES || code == ENOSYS || code == EAGAIN;
}

static void judge(const char *who, const char *what, const struct outcome *o, struct report *r)
{
	int code = WIFEXITED(o->status) ? WEXITSTATUS(o->status) : -1;

	if (WIFSIGNALED(o->status) && WTERMSIG(o->status) == SIGSYS)
		report_say(r, FINDING_OK, "%-8s %-18s killed by the filter (SIGSYS)", who, what);
	else if (code == 0)
		report_say(r, FINDING_UNSAFE, "%-8s %-18s WORKED: this layer does not hold", who, what);
	else if (code == EXIT_NOT_DROPPED)
		report_say(r, FINDING_UNSAFE, "%-8s %-18s cannot give up its rights: %s", who, what, o->why);
	else if (code == EXIT_NOT_SEALED)
		report_say(r, FINDING_UNSAFE, "%-8s %-18s cannot be sealed: %s", who, what, o->why);
	else if (is_denial(code))
		report_say(r, FINDING_OK, "%-8s %-18s %s", who, what, strerror(code));
	else
		report_say(r, FINDING_DEGRADED, "%-8s %-18s not proved: ended with status 0x%x", who, what,
		    (unsigned)o->status);
}

static void probe_landlock(const struct probe_identity *id, struct report *r)
{
	struct outcome o;

	if (run(id, NULL, NULL, &o) < 0)
		report_say(r, FINDING_DEGRADED, "no process for a probe: %s", strerror(errno));
	else if (WIFEXITED(o.status) && WEXITSTATUS(o.status) == 0)
		report_say(r, FINDING_NOTE, "%-8s %-18s works: Landlock is not in force (see above)",
		    "landlock", "list /");
	else if (WIFEXITED(o.status) && WEXITSTATUS(o.status) >= EXIT_NOT_DROPPED)
		report_say(r, FINDING_NOTE, "%-8s %-18s not proved: %s", "landlock", "list /", o.why);
	else
		judge("landlock", "list /", &o, r);
}

void probe_all(const struct probe_identity *id, struct report *r)
{
	struct outcome o;

	for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
		for (size_t d = 0; d < sizeof deeds / sizeof deeds[0]; d++) {
			if ((deeds[d].forbidden_to & kinds[k].bit) == 0)
				continue;
			if (run(id, &kinds[k], &deeds[d], &o) < 0)
				report_say(r, FINDING_DEGRADED, "no process for a probe: %s",
				    strerror(errno));
			else
				judge(kinds[k].policy->name, deeds[d].name, &o, r);
		}
	}
	probe_landlock(id, r);
}
