/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): `narlock-publish serve': one small parent that listens and watches, and children that
 * work.
 *
 * The parent reads no request and no index.  It keeps the sockets, so that a new generation of children can
 * take over while the old one finishes. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "helper/eris/address.h"
#include "helper/publish/confine.h"
#include "helper/publish/place.h"
#include "helper/publish/policies.h"
#include "helper/publish/push.h"
#include "helper/publish/serve.h"
#include "helper/publish/tool.h"
#include "helper/publish/upstream.h"
#include "helper/publish/watch.h"
#include "helper/publish/web.h"

#define LISTEN "127.0.0.1:8081"
/* The first socket that systemd hands over. */
#define FIRST_SOCKET 3
/* Bytes of an answer that may wait in the kernel unsent.  With megabytes of them, as it would be without, the
 * one who confirms what came before sends the rest: clients on the same machine do the server's work, and a
 * nar takes half as long again. */
#define UNSENT (128 * 1024)
/* Children at one time, those of older generations included. */
#define CHILDREN 64
/* Seconds before a child that died is started again, unless it had lived for as long as LIVED. */
#define AGAIN 2
#define LIVED 5

/* What a child says with its exit status. */
enum { EXIT_DAMAGED = 3, EXIT_MOVED = 4 };

enum role { ROLE_WEB, ROLE_INDEX, ROLE_NET, ROLE_UP, ROLES };

static const char *const role_names[ROLES] = { "web", "index", "IPFS", "upstream" };

struct child {
	pid_t pid; /* 0: free */
	enum role role;
	unsigned bank; /* of a web server */
	time_t since;
};

struct serve {
	struct serve_options *o;
	struct shared *shared;
	int cache, wrong[2];   /* web, index */
	int up_web[POOL_MAX], up_net[POOL_MAX]; /* of the newest generation: web threads, upstream */
	unsigned ups, bank;    /* BANK: of the newest web server */
	int sockets[CONF_LISTEN];
	unsigned nsockets;
	struct child children[CHILDREN];
	pid_t current[ROLES];
	time_t start_at[ROLES]; /* when it is to be started; 0: it runs, or must not */
	sigset_t before;       /* the mask of signals as it was */
	int leaving;
};

static volatile sig_atomic_t stop;

static void
on_stop(int sig)
{
	(void)sig;
	stop = 1;
}

/* --- Sockets ------------------------------------------------------------------------------------------ */

static int
listen_on(const char *text, struct err *e)
{
	union address a;
	socklen_t len = 0;
	const int one = 1;
	int fd;

	if (address_parse(&a, &len, text, e) != 0)
		return -1;
	fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_sys(e, errno, "socket");
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
	    (a.any.sa_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one,
	    sizeof one) != 0) ||
	    bind(fd, &a.any, len) != 0 || listen(fd, 4096) != 0) {
		err_sys(e, errno, "cannot listen on %s", text);
		close(fd);
		return -1;
	}
	return fd;
}

/* How many sockets systemd has opened for this process. */
static unsigned
handed_over(void)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	unsigned long n;

	if (pid == NULL || fds == NULL || strtol(pid, NULL, 10) != (long)getpid())
		return 0;
	n = strtoul(fds, NULL, 10);
	return n < CONF_LISTEN ? (unsigned)n : CONF_LISTEN;
}

/* What connections inherit. */
static void
set_unsent(const struct serve *s)
{
	const int bytes = UNSENT;

	/* A socket of another kind does not know it. */
	for (unsigned i = 0; i < s->nsockets; i++)
		(void)setsockopt(s->sockets[i], IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof bytes);
}

static int
open_sockets(struct serve *s, struct err *e)
{
	const struct conf *conf = &s->o->conf;
	unsigned n = handed_over();

	if (syscall(SYS_close_range, FIRST_SOCKET + n, ~0u, 0) != 0)
		return err_sys(e, errno, "cannot close descriptors");
	for (; s->nsockets < n; s->nsockets++) {
		int fd = FIRST_SOCKET + (int)s->nsockets;

		if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
			return err_sys(e, errno, "the socket that was handed over");
		s->sockets[s->nsockets] = fd;
	}
	if (n > 0)
		return 0;
	for (unsigned i = 0; i < conf->listens || i == 0; i++) {
		int fd = listen_on(i < conf->listens ? conf->listen[i] : LISTEN, e);

		if (fd < 0)
			return -1;
		s->sockets[s->nsockets++] = fd;
	}
	return 0;
}

/* The URLs, one a line, once the web server is ready. */
static void
print_sockets(const struct serve *s)
{
	for (unsigned i = 0; i < s->nsockets; i++) {
		char host[INET6_ADDRSTRLEN] = "";
		union address a;
		socklen_t len = sizeof a;

		if (getsockname(s->sockets[i], &a.any, &len) != 0)
			continue;
		if (a.any.sa_family == AF_INET6)
			printf("http://[%s]:%u/\n", inet_ntop(AF_INET6, &a.in6.sin6_addr, host, sizeof host),
			    ntohs(a.in6.sin6_port));
		else if (a.any.sa_family == AF_INET)
			printf("http://%s:%u/\n", inet_ntop(AF_INET, &a.in.sin_addr, host, sizeof host),
			    ntohs(a.in.sin_port));
	}
	fflush(stdout);
}

/* To systemd, where it wants to know (Type=notify). */
static void
notify(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	size_t n = path == NULL ? 0 : strlen(path);
	int fd;

	if (n < 2 || n >= sizeof a.sun_path || (path[0] != '/' && path[0] != '@'))
		return;
	memcpy(a.sun_path, path, n);
	if (path[0] == '@')
		a.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&a,
	    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
	close(fd);
}

/* --- Children ----------------------------------------------------------------------------------------- */

/* Descriptors that the web server can have open. */
static unsigned
descriptors(const struct conf *conf)
{
	/* A socket each, and a nar for every second one. */
	return conf->connections + conf->connections / 2 + conf->threads * (PLACE_OPEN + 32) + 64;
}

static int
web_ready(void *ctx, struct err *e)
{
	const struct serve *s = ctx;

	return confine_files(&s->o->conf, NULL, 0, e) != 0 ? -1 :
	    confine_calls(POLICY_OF(publish), descriptors(&s->o->conf), e);
}

static void
close_all(const int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		close(fds[i]);
}

static int
run_web(struct serve *s, const char *index, struct err *e)
{
	const struct web_options o = { &s->o->conf, s->shared, s->cache, index, s->wrong[0],
	    s->ups > 0 ? s->up_web : NULL, s->sockets,
	    s->nsockets, &stop, s->bank };

	close(s->wrong[1]);
	close_all(s->up_net, s->ups);
	return web_run(&o, web_ready, s, e);
}

static int
run_index(struct serve *s, const char *index, struct err *e)
{
	close_all(s->sockets, s->nsockets);
	close_all(s->up_net, s->ups);
	close(s->wrong[0]);
	/* Blocks are wanted at once, the index can wait. */
	setpriority(PRIO_PROCESS, 0, 10);
	if (confine_files(&s->o->conf, NULL, 0, e) != 0 || confine_calls(POLICY_OF(publish_index), 512,
	    e) != 0)
		return -1;
	return watch_run(&s->o->conf, s->cache, index, s->wrong[1], s->shared, &stop, e);
}

static int
run_net(struct serve *s, struct err *e)
{
	struct push *p;
	int rc = -1;

	close_all(s->sockets, s->nsockets);
	close_all(s->up_net, s->ups);
	close(s->wrong[1]);
	setpriority(PRIO_PROCESS, 0, 10);
	p = push_new(&s->o->conf, s->cache, s->shared, s->wrong[0], &stop, e);
	if (p != NULL && confine_files(&s->o->conf, NULL, 1, e) == 0 &&
	    confine_calls(POLICY_OF(publish_net), 256, e) == 0 && push_open(p, e) == 0)
		rc = push_serve(p, e);
	push_free(p);
	return rc;
}

static int
run_up(struct serve *s, struct err *e)
{
	struct upstream *u;
	int rc = -1;

	close_all(s->sockets, s->nsockets);
	close(s->wrong[0]);
	close(s->wrong[1]);
	u = upstream_new(&s->o->conf, s->cache, e);
	if (u != NULL && confine_files(&s->o->conf, NULL, 1, e) == 0 &&
	    confine_calls(POLICY_OF(publish_net), 256, e) == 0)
		rc = upstream_run(u, s->up_net, s->ups, &stop, e);
	upstream_free(u);
	return rc;
}

static void
run_child(struct serve *s, enum role role, pid_t parent)
{
	const struct sigaction sa = { .sa_handler = on_stop };
	char index[LIMIT_PATH];
	struct err e = { 0 };
	int rc = -1;

	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	signal(SIGHUP, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	sigprocmask(SIG_SETMASK, &s->before, NULL);
	/* Armed before the parent is looked at: it may have died already. */
	if (prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) != 0 || getppid() != parent)
		_exit(1);
	if (tool_index_path(&s->o->conf, index, &e) > 0)
		rc = role == ROLE_WEB ? run_web(s, index, &e) : role == ROLE_INDEX ? run_index(s, index, &e) :
		    role == ROLE_NET ? run_net(s, &e) : run_up(s, &e);
	if (rc != 0)
		fprintf(stderr, "narlock-publish: %s: %s\n", role_names[role], e.text);
	_exit(rc == 0 ? 0 : e.code == CATALOG_DAMAGED ? EXIT_DAMAGED : e.code == WATCH_MOVED ? EXIT_MOVED :
	    1);
}

/* Sockets between the threads of a new web server and its upstream process. */
static void
open_ups(struct serve *s)
{
	close_all(s->up_net, s->ups);
	s->ups = 0;
	if (s->o->conf.upstream[0] == '\0')
		return;
	for (; s->ups < s->o->conf.threads; s->ups++) {
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
			/* All or none. */
			close_all(s->up_web, s->ups);
			close_all(s->up_net, s->ups);
			s->ups = 0;
			fputs("narlock-publish: no sockets for the upstream process\n", stderr);
			return;
		}
		s->up_web[s->ups] = pair[0];
		s->up_net[s->ups] = pair[1];
	}
}

static void
start(struct serve *s, enum role role)
{
	pid_t parent = getpid(), pid;
	unsigned i = 0;

	s->start_at[role] = 0;
	if ((role == ROLE_NET && s->o->conf.ipfses == 0) || (role == ROLE_UP && s->ups == 0))
		return;
	if (role == ROLE_WEB) {
		open_ups(s);
		s->bank = (s->bank + 1) % SHARED_BANKS;
	}
	while (i < CHILDREN && s->children[i].pid != 0)
		i++;
	fflush(NULL);
	pid = i < CHILDREN ? fork() : -1;
	if (pid == 0)
		run_child(s, role, parent);
	if (pid < 0) {
		fprintf(stderr, "narlock-publish: cannot start a process (%s)\n", role_names[role]);
		s->start_at[role] = time(NULL) + AGAIN;
		return;
	}
	s->children[i] = (struct child){ pid, role, s->bank, time(NULL) };
	s->current[role] = pid;
	if (role != ROLE_WEB)
		return;
	/* Their other ends: the upstream process sees when the last thread has left.  It belongs to this
	 * generation. */
	close_all(s->up_web, s->ups);
	start(s, ROLE_UP);
}

/* A damaged index is no reason to stop: it is begun again.  The web server has it open, too. */
static void
renew_index(struct serve *s)
{
	struct err e;

	if (tool_renew(&s->o->conf, &e) != 0)
		fprintf(stderr, "narlock-publish: %s\n", e.text);
	if (s->current[ROLE_WEB] != 0)
		kill(s->current[ROLE_WEB], SIGTERM);
	s->current[ROLE_WEB] = 0;
	start(s, ROLE_WEB);
}

/* The cache is opened again, for all. */
static void
renew_cache(struct serve *s)
{
	struct err e;
	int fd = tool_open_cache(&s->o->conf, &e);

	if (fd < 0) {
		fprintf(stderr, "narlock-publish: %s\n", e.text);
		return;
	}
	close(s->cache);
	s->cache = fd;
	s->start_at[ROLE_INDEX] = time(NULL);
	if (s->current[ROLE_NET] != 0)
		kill(s->current[ROLE_NET], SIGTERM);
	if (s->current[ROLE_WEB] != 0)
		kill(s->current[ROLE_WEB], SIGTERM);
	start(s, ROLE_WEB);
}

static void
reap(struct serve *s)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (unsigned i = 0; i < CHILDREN; i++) {
			struct child *c = &s->children[i];

			if (c->pid != pid)
				continue;
			c->pid = 0;
			/* It may have been killed with connections open. */
			for (unsigned w = 0; w < POOL_MAX && c->role == ROLE_WEB; w++)
				s->shared->workers[w].open[c->bank] = 0;
			if (s->current[c->role] != pid)
				continue;
			s->current[c->role] = 0;
			if (s->leaving)
				continue;
			if (WIFSIGNALED(status))
				fprintf(stderr, "narlock-publish: the %s process was killed by signal %d%s\n",
				    role_names[c->role], WTERMSIG(status),
				    WTERMSIG(status) == SIGSYS ?
				    " (a system call that its policy does not list)" : "");
			s->start_at[c->role] = time(NULL) + (time(NULL) - c->since < LIVED ? AGAIN : 0);
			if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_DAMAGED)
				renew_index(s);
			if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_MOVED)
				renew_cache(s);
		}
}

/* --- The parent --------------------------------------------------------------------------------------- */

static void
reload(struct serve *s)
{
	struct conf fresh;
	struct err e;

	if (s->o->reload(s->o->ctx, &fresh, &e) != 0) {
		fprintf(stderr, "narlock-publish: the configuration stays as it was: %s\n", e.text);
		return;
	}
	if (strcmp(fresh.cache, s->o->conf.cache) != 0 || strcmp(fresh.state, s->o->conf.state) != 0) {
		fputs("narlock-publish: the configuration stays as it was: another cache or state directory needs a restart\n",
		    stderr);
		return;
	}
	s->o->conf = fresh;
	fputs("narlock-publish: the configuration has been read again\n", stderr);
	for (enum role r = 0; r < ROLES; r++)
		if (s->current[r] != 0)
			kill(s->current[r], SIGTERM);
	/* The new web server answers while the old one finishes; there is one index process at a time: reap()
	 * starts it. */
	start(s, ROLE_WEB);
	if (s->current[ROLE_NET] == 0)
		start(s, ROLE_NET);
}

static int
is_running(const struct serve *s)
{
	for (unsigned i = 0; i < CHILDREN; i++)
		if (s->children[i].pid != 0)
			return 1;
	return 0;
}

static void
leave(struct serve *s)
{
	s->leaving = 1;
	notify("STOPPING=1");
	for (unsigned i = 0; i < CHILDREN; i++)
		if (s->children[i].pid != 0)
			kill(s->children[i].pid, SIGTERM);
}

static void
watch_children(struct serve *s, const sigset_t *set)
{
	while (!s->leaving || is_running(s)) {
		const struct timespec second = { 1, 0 };
		int sig = sigtimedwait(set, NULL, &second);

		if (sig == SIGTERM || sig == SIGINT)
			leave(s);
		else if (sig == SIGHUP && !s->leaving)
			reload(s);
		reap(s);
		for (enum role r = 0; r < ROLES && !s->leaving; r++)
			if (s->start_at[r] != 0 && time(NULL) >= s->start_at[r])
				start(s, r);
	}
}

/* More descriptors than most are allowed by default, if the hard limit gives them. */
static void
raise_descriptors(const struct conf *conf)
{
	struct rlimit r;
	rlim_t want = descriptors(conf);

	if (getrlimit(RLIMIT_NOFILE, &r) != 0)
		return;
	if (r.rlim_max < want && geteuid() == 0)
		setrlimit(RLIMIT_NOFILE, &(struct rlimit){ want, want });
	if (getrlimit(RLIMIT_NOFILE, &r) != 0)
		return;
	if (r.rlim_max < want)
		fprintf(stderr,
		    "narlock-publish: only %llu descriptors are allowed, %llu are needed for %u connections\n",
		    (unsigned long long)r.rlim_max, (unsigned long long)want, conf->connections);
	r.rlim_cur = r.rlim_max < want ? r.rlim_max : want;
	setrlimit(RLIMIT_NOFILE, &r);
}

int
serve_run(struct serve_options *o, struct err *e)
{
	static struct serve s;
	char state[sizeof o->conf.state];
	sigset_t set;

	s.o = o;
	strcpy(state, o->conf.state);
	/* sendfile() has no flag against this signal. */
	signal(SIGPIPE, SIG_IGN);
	if (open_sockets(&s, e) != 0 || (s.shared = shared_new(e)) == NULL)
		return -1;
	set_unsent(&s);
	raise_descriptors(&o->conf);
	if (confine_user(&o->conf, e) != 0)
		return -1;
	if (strcmp(state, o->conf.state) != 0)
		return err_set(e, "%s belongs to a unit with a dynamic user: start that", state);
	if ((s.cache = tool_open_cache(&o->conf, e)) < 0 ||
	    tool_prepare(&o->conf, e) != 0 || confine_parent(&o->conf, e) != 0)
		return -1;
	/* Messages that keep their borders. */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s.wrong) != 0)
		return err_sys(e, errno, "socketpair");
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, &s.before);
	start(&s, ROLE_WEB);
	start(&s, ROLE_INDEX);
	start(&s, ROLE_NET);
	/* Whoever connects from now on waits in the queue of the socket until the web server takes it. */
	print_sockets(&s);
	notify("READY=1");
	watch_children(&s, &set);
	return 0;
}
