/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: the spawner, the small process that starts and kills helpers.
 *
 * It is the parent of every helper and the only process that keeps rights after start-up: those to give them
 * away (SETUID, SETGID) and to kill (KILL).  It takes frames from the broker and reads
 * nothing from a helper. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker/drop.h"
#include "broker/file.h"
#include "broker/spawner.h"
#include "ipc/wire.h"

#define MAX_HELPERS 8
/* To get a connection from a service manager that is busy, seconds. */
#define CONNECT_SECONDS 3

struct slot {
	uint32_t number;
	pid_t pid;
	int pidfd;
};

struct spawner {
	const struct spawner_plan *plan;
	int channel;
	int programs[KIND_RESOLVE + 1]; /* opened before anything is dropped; executed by descriptor */
	struct slot slots[MAX_HELPERS];
	unsigned count;
	uint32_t next;
};

const char *const spawner_names[] = { "?", "fetch", "unpack", "resolve" };

/* The broker's and the helper's ends of the channels of one helper, by the helper's descriptor number. */
struct channels {
	int ours[6], theirs[6];
};

static void close_channels(struct channels *c)
{
	for (int i = 0; i < 6; i++) {
		if (c->ours[i] >= 0)
			close(c->ours[i]);
		if (c->theirs[i] >= 0)
			close(c->theirs[i]);
		c->ours[i] = c->theirs[i] = -1;
	}
}

/* Both directions of a byte channel get the room that net.core.wmem_max allows: fewer, larger writes. */
static int make_pair(struct channels *c, int n, int type)
{
	int pair[2], size = 1 << 20;

	if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	c->ours[n] = pair[0];
	c->theirs[n] = pair[1];
	if (type == SOCK_STREAM)
		for (int i = 0; i < 2; i++)
			(void)setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	return 0;
}

static int make_channels(struct channels *c, int kind)
{
	if (make_pair(c, 2, SOCK_SEQPACKET) < 0 || make_pair(c, 3, SOCK_SEQPACKET) < 0)
		return -1;
	if (kind == KIND_UNPACK && (make_pair(c, 4, SOCK_STREAM) < 0 || make_pair(c, 5, SOCK_STREAM) < 0))
		return -1;
	if (kind == KIND_UNPACK) { /* one direction each */
		(void)shutdown(c->ours[4], SHUT_RD);
		(void)shutdown(c->ours[5], SHUT_WR);
	}
	return 0;
}

/* --- In the child, before exec ----------------------------------------------------------------------- */

/* Put the helper's ends on their numbers, the program on 6, /dev/null on 0 and 1; close everything else. */
static int arrange_descriptors(const struct channels *c, int program)
{
	int high[7], null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return -1;
	for (int i = 0; i < 7; i++) { /* first out of the way: the sources may be among the targets */
		int from = i < 2 ? null : i == 6 ? program : c->theirs[i];

		high[i] = from < 0 ? -1 : fcntl(from, F_DUPFD_CLOEXEC, 16);
		if (from >= 0 && high[i] < 0)
			return -1;
	}
	for (int i = 0; i < 7; i++) {
		if (high[i] < 0)
			(void)close(i);
		else if (dup3(high[i], i, i == 6 ? O_CLOEXEC : 0) < 0)
			return -1;
	}
	return (int)syscall(SYS_close_range, 7u, ~0u, 0u);
}

/* Signals as a program expects them at its start. */
static void reset_signals(void)
{
	sigset_t none;

	for (int s = 1; s < 32; s++)
		(void)signal(s, SIG_DFL);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static void exec_program(const struct spawner_plan *plan, int kind, pid_t spawner)
{
	char parent[48], ca[LIMIT_PATH + 16], state[LIMIT_PATH + 32];
	char *argv[] = { (char *)(uintptr_t)spawner_names[kind], NULL };
	char *env[8];
	int n = 0;

	(void)snprintf(parent, sizeof parent, "NARLOCK_SPAWNER=%ld", (long)spawner);
	(void)snprintf(ca, sizeof ca, "NARLOCK_CA=%s", plan->ca_bundle);
	(void)snprintf(state, sizeof state, "NARLOCK_FETCH_STATE=%s", plan->fetch_state);
	env[n++] = (char *)(uintptr_t)"PATH=/usr/bin:/bin";
	env[n++] = (char *)(uintptr_t)"LC_ALL=C";
	env[n++] = parent;
	if (kind == KIND_FETCH)
		env[n++] = ca;
	if (kind == KIND_FETCH && plan->fetch_state[0] != '\0')
		env[n++] = state;
	if (kind == KIND_FETCH && plan->unix_sockets)
		env[n++] = (char *)(uintptr_t)"NARLOCK_UNIX=1";
	if (kind == KIND_RESOLVE)
		env[n++] = (char *)(uintptr_t)"RES_OPTIONS=timeout:3 attempts:2";
	env[n] = NULL;
	(void)syscall(SYS_execveat, 6, "", argv, env, AT_EMPTY_PATH);
}

/* The order of drop.h: rights go before a byte of the helper or of its libraries is mapped. */
static _Noreturn void become_helper(const struct spawner *s, struct channels *c, int kind, pid_t spawner)
{
	const struct spawner_plan *p = s->plan;
	int rc;

	if (arrange_descriptors(c, s->programs[kind]) < 0)
		_exit(SPAWN_NO_DESCRIPTORS);
	reset_signals();
	(void)umask(077);
	switch (p->isolation) {
	case ISOLATE_USER: rc = drop_to_user(p->uid, p->gid); break;
	case ISOLATE_NAMESPACE: rc = drop_to_namespace(p->uid, p->gid, p->hidden, kind == KIND_UNPACK); break;
	default: rc = drop_rights(); break;
	}
	if (rc < 0) {
		dprintf(2, "cannot give up rights: %s", strerror(errno));
		_exit(SPAWN_NO_RIGHTS);
	}
	exec_program(p, kind, spawner);
	dprintf(2, "cannot execute helper: %s", strerror(errno));
	_exit(SPAWN_NO_EXEC);
}

/* --- In the spawner ------------------------------------------------------------------------------------ */

static int refuse(const struct spawner *s, uint8_t kind, int error, const char *why)
{
	struct wire_msg m = { .type = MSG_REFUSED, .kind = kind, .error = (uint32_t)error, .text = wire_str(why) };

	return wire_send(s->channel, &m, -1, 0, NULL) == 1 ? 0 : -1;
}

/* SPAWNED with the pidfd (or CONNECTED), then the broker's ends one by one. */
static int announce(const struct spawner *s, const struct slot *slot, uint8_t kind, const struct channels *c)
{
	/* The control channel is last: nothing can be heard from a helper before its other channels are there. */
	static const uint8_t order[] = { 2, 4, 5, 3 };
	struct wire_msg m = { .type = MSG_SPAWNED, .slot = slot->number, .kind = kind, .pid = (uint32_t)slot->pid };

	if (slot->pid == 0)
		m.type = MSG_CONNECTED;
	if (wire_send(s->channel, &m, slot->pidfd, 0, NULL) != 1)
		return -1;
	for (int i = 0; i < 4; i++) {
		struct wire_msg ch = { .type = MSG_CHANNEL, .slot = slot->number, .which = order[i] };

		if (c->ours[order[i]] >= 0 && wire_send(s->channel, &ch, c->ours[order[i]], 0, NULL) != 1)
			return -1;
	}
	return 0;
}

/* The credentials that come with the other end's messages are asked for before there is one. */
static int connect_to(const char *directory, const char *name)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), on = 1, error;
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	struct timeval most = { CONNECT_SECONDS, 0 };
	struct ucred listener;
	socklen_t len = sizeof listener;

	(void)snprintf(to.sun_path, sizeof to.sun_path, "%s/%s.socket", directory, name);
	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0 &&
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most) == 0 &&
	    connect(fd, (const struct sockaddr *)&to, sizeof to) == 0 &&
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &listener, &len) == 0) {
		if (listener.uid == 0)
			return fd;
		errno = EPERM; /* not the service manager */
	}
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

/* A helper of the service manager: no child of ours, so that it cannot be killed; it ends with the connection.  The first
 * frame gives it its log channel, all else is between it and the broker. */
static int connect_helper(struct spawner *s, uint8_t kind, struct channels *c)
{
	const struct slot slot = { .number = s->next++, .pid = 0, .pidfd = -1 };
	const struct wire_msg log = { .type = MSG_CHANNEL, .slot = slot.number, .which = 2 };
	int rc;

	if (make_pair(c, 2, SOCK_SEQPACKET) < 0 ||
	    (c->ours[3] = connect_to(s->plan->sockets, spawner_names[kind])) < 0 ||
	    wire_send(c->ours[3], &log, c->theirs[2], MSG_DONTWAIT, NULL) != 1)
		rc = refuse(s, kind, errno, "no connection to its socket (systemctl status 'narlock-*.socket')");
	else
		rc = announce(s, &slot, kind, c);
	close_channels(c);
	return rc;
}

static int spawn(struct spawner *s, uint8_t kind)
{
	struct channels c = { { -1, -1, -1, -1, -1, -1 }, { -1, -1, -1, -1, -1, -1 } };
	struct slot *slot = &s->slots[s->count];
	pid_t self = getpid();
	int rc;

	if (kind < KIND_FETCH || kind > KIND_RESOLVE || s->count == MAX_HELPERS)
		return refuse(s, kind, EAGAIN, "too many helpers");
	if (s->plan->sockets[0] != '\0' && kind != KIND_UNPACK)
		return connect_helper(s, kind, &c);
	if (s->programs[kind] < 0)
		return refuse(s, kind, ENOENT, "its program is missing or can be written by others");
	if (make_channels(&c, kind) < 0) {
		close_channels(&c);
		return refuse(s, kind, errno, "no channels");
	}
	slot->pid = fork();
	if (slot->pid == 0)
		become_helper(s, &c, kind, self);
	slot->pidfd = slot->pid < 0 ? -1 : (int)syscall(SYS_pidfd_open, slot->pid, 0);
	if (slot->pidfd < 0) {
		int error = errno;

		if (slot->pid > 0) {
			(void)kill(slot->pid, SIGKILL);
			(void)waitpid(slot->pid, NULL, 0);
		}
		close_channels(&c);
		return refuse(s, kind, error, "cannot fork");
	}
	(void)fcntl(slot->pidfd, F_SETFD, FD_CLOEXEC);
	slot->number = s->next++;
	s->count++;
	rc = announce(s, slot, kind, &c);
	close_channels(&c);
	return rc;
}

/* A helper has ended: report it and forget it. */
static int reap(struct spawner *s, unsigned i)
{
	struct wire_msg m = { .type = MSG_EXITED, .slot = s->slots[i].number };
	int status = 0;

	if (waitpid(s->slots[i].pid, &status, 0) < 0)
		return -1;
	close(s->slots[i].pidfd);
	s->slots[i] = s->slots[--s->count];
	m.wait_status = (uint32_t)status;
	return wire_send(s->channel, &m, -1, 0, NULL) == 1 ? 0 : -1;
}

static int obey(struct spawner *s)
{
	uint8_t frame[LIMIT_FRAME];
	struct wire_msg m;

	if (wire_recv(s->channel, &m, frame, NULL, 0, NULL) != 1)
		return -1;
	if (m.type == MSG_SPAWN)
		return spawn(s, m.kind);
	for (unsigned i = 0; i < s->count && m.type == MSG_KILL; i++)
		if (s->slots[i].number == m.slot)
			(void)kill(s->slots[i].pid, SIGKILL);
	return m.type == MSG_KILL ? 0 : -1;
}

static int step(struct spawner *s)
{
	struct pollfd p[MAX_HELPERS + 1] = { { s->channel, POLLIN, 0 } };
	unsigned n = s->count;

	for (unsigned i = 0; i < n; i++)
		p[i + 1] = (struct pollfd){ s->slots[i].pidfd, POLLIN, 0 };
	if (poll(p, n + 1, -1) < 0)
		return errno == EINTR ? 0 : -1;
	for (unsigned i = n; i-- > 0;)
		if (p[i + 1].revents != 0 && reap(s, i) < 0)
			return -1;
	return p[0].revents != 0 ? obey(s) : 0;
}

/* A program is executed by a descriptor opened now, so that nothing can be put in its place later. */
static int open_program(const char *libexec, const char *name)
{
	char path[LIMIT_PATH + 16];
	struct stat st;
	int fd;

	(void)snprintf(path, sizeof path, "%s/%s", libexec, name);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return -1;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || file_trusted(&st, path, NULL) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* None of the daemon's pipes may be held here: it waits for their end. */
static int leave_daemon_descriptors(int channel)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), keep;

	if (null < 0 || (keep = fcntl(channel, F_DUPFD_CLOEXEC, 8)) < 0)
		return -1;
	for (int i = 0; i < 3; i++)
		if (dup2(null, i) < 0)
			return -1;
	if (syscall(SYS_close_range, 3u, (unsigned)keep - 1, 0u) < 0 ||
	    syscall(SYS_close_range, (unsigned)keep + 1, ~0u, 0u) < 0)
		return -1;
	return keep;
}

static _Noreturn void run(const struct spawner_plan *plan, int channel, pid_t broker)
{
	struct spawner s = { .plan = plan, .programs = { -1, -1, -1, -1 } };

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != broker || (s.channel = leave_daemon_descriptors(channel)) < 0)
		_exit(1);
	(void)prctl(PR_SET_DUMPABLE, 0);
	(void)signal(SIGPIPE, SIG_IGN);
	for (int k = KIND_FETCH; k <= KIND_RESOLVE; k++)
		s.programs[k] = open_program(plan->libexec, spawner_names[k]);
	if (drop_to_spawner(plan->isolation == ISOLATE_USER) < 0)
		_exit(1);
	while (step(&s) == 0)
		;
	for (unsigned i = 0; i < s.count; i++)
		(void)kill(s.slots[i].pid, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0)
		;
	_exit(0);
}

int spawner_start(const struct spawner_plan *plan, pid_t *pid, struct err *e)
{
	pid_t broker = getpid();
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(e, errno, "no channel for the spawner");
	if ((*pid = fork()) == 0) {
		close(pair[0]);
		run(plan, pair[1], broker);
	}
	close(pair[1]);
	if (*pid < 0) {
		close(pair[0]);
		return err_sys(e, errno, "cannot fork the spawner");
	}
	return pair[0];
}
