/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: the helpers of one agent: starting, proving, listening, ending. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "broker/broker.h"
#include "broker/log.h"
#include "ipc/layers.h"
#include "ipc/text.h"

/* A helper that takes longer than this to seal itself is given up. */
#define SEAL_MS 15000
/* This many in a row that did not get as far as READY, and no more are asked for. */
#define MAX_FAILURES 5

int64_t crew_now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void forget(struct helper *h)
{
	close_fd(&h->pidfd);
	close_fd(&h->control);
	close_fd(&h->log);
	close_fd(&h->in);
	close_fd(&h->out);
	h->state = HELPER_FREE;
}

static void set_trouble(struct broker *b, uint8_t kind, const char *why)
{
	struct trouble *t = &b->crew.trouble[kind];

	if (strcmp(t->text, why) != 0)
		t->told = 0;
	(void)snprintf(t->text, sizeof t->text, "%s", why);
	text_clean(t->text);
}

int crew_start(struct broker *b, const struct spawner_plan *plan, struct err *e)
{
	struct crew *c = &b->crew;
	int filters;

	memset(c, 0, sizeof *c);
	for (int i = 0; i < CREW_SIZE; i++) {
		c->helpers[i].pidfd = c->helpers[i].control = c->helpers[i].log = -1;
		c->helpers[i].in = c->helpers[i].out = -1;
	}
	c->demand = (struct proof_demand){ .isolation = plan->isolation, .uid = plan->uid, .gid = plan->gid,
					   .hidden = { plan->hidden[0], plan->hidden[1] } };
	c->units = plan->sockets[0] != '\0';
	/* The spawner adds none, so a helper begins with as many as we have now. */
	if ((filters = proof_filters(getpid(), e)) < 0)
		return -1;
	c->demand.filters_before = (unsigned)filters;
	c->channel = spawner_start(plan, &c->spawner, e);
	return c->channel < 0 ? -1 : 0;
}

struct helper *crew_find(struct broker *b, uint8_t kind, unsigned states)
{
	for (int i = 0; i < CREW_SIZE; i++)
		if (b->crew.helpers[i].kind == kind && (b->crew.helpers[i].state & states) != 0)
			return &b->crew.helpers[i];
	return NULL;
}

static struct helper *by_slot(struct broker *b, uint32_t slot)
{
	for (int i = 0; i < CREW_SIZE; i++)
		if ((b->crew.helpers[i].state & ~(unsigned)HELPER_ASKED) != 0 && b->crew.helpers[i].slot == slot)
			return &b->crew.helpers[i];
	return NULL;
}

int crew_ask(struct broker *b, uint8_t kind)
{
	struct wire_msg m = { .type = MSG_SPAWN, .kind = kind };
	struct helper *h = NULL;

	if (crew_find(b, kind, HELPER_ASKED | HELPER_NEW | HELPER_READY) != NULL)
		return 0;
	if (b->crew.failures[kind] >= MAX_FAILURES)
		return -1;
	for (int i = 0; i < CREW_SIZE && h == NULL; i++)
		if (b->crew.helpers[i].state == HELPER_FREE)
			h = &b->crew.helpers[i];
	if (h == NULL || wire_send(b->crew.channel, &m, -1, 0, NULL) != 1)
		return -1;
	h->kind = kind;
	h->state = HELPER_ASKED;
	h->demand = b->crew.demand;
	h->verified = h->claimed = 0;
	h->since = crew_now();
	h->log_window = h->since;
	h->log_lines = h->liars = 0;
	return 0;
}

static void forget_hosts(struct broker *b);
static void ask_resolver(struct broker *b);
static void no_helper(struct broker *b, uint8_t kind, struct err *e);

static void order_spawner_to_kill(struct broker *b, const struct helper *h)
{
	struct wire_msg m = { .type = MSG_KILL, .slot = h->slot };

	(void)wire_send(b->crew.channel, &m, -1, 0, NULL);
}

/* Whatever waits for an answer of H will not get it. */
static void helper_lost(struct broker *b, struct helper *h, const char *why)
{
	uint8_t kind = h->kind;
	struct err e;

	if (h->state & (HELPER_ASKED | HELPER_NEW)) {
		b->crew.failures[kind]++;
		set_trouble(b, kind, why);
		if (kind == KIND_RESOLVE && b->crew.host_count > 0)
			no_helper(b, kind, &e); /* else all that is heard is that a name cannot be found */
	}
	order_lost(b, h, why);
	forget(h);
	if (kind == KIND_FETCH) {
		struct helper *r = b->crew.hosts_asked > 0 ? crew_find(b, KIND_RESOLVE, HELPER_READY) : NULL;

		if (r != NULL) /* its answers would be taken for those of the next fetcher's questions */
			crew_release(b, r);
		b->crew.host_count = b->crew.hosts_asked = 0;
		lookups_lost(b, why);
	} else if (kind == KIND_RESOLVE) {
		forget_hosts(b);
	}
}

void crew_kill(struct broker *b, struct helper *h, const char *why)
{
	log_say("%s (pid %ld) is ended: %s", spawner_names[h->kind], (long)h->pid, why);
	audit_event(&b->audit, "helper-killed", spawner_names[h->kind], why);
	order_spawner_to_kill(b, h);
	helper_lost(b, h, why);
}

void crew_release(struct broker *b, struct helper *h)
{
	order_spawner_to_kill(b, h); /* one that said it was done may stay, and hold a place with the spawner */
	forget(h);
}

/* Breaking the rules of PROTOCOL.md ends a helper. */
static void violation(struct broker *b, struct helper *h, const char *what)
{
	char why[LIMIT_REASON + 240];

	(void)snprintf(why, sizeof why, "it broke the protocol: %.384s", what);
	crew_kill(b, h, why);
}

int crew_send(struct helper *h, const struct wire_msg *m, int fd, struct err *e)
{
	int rc = wire_send(h->control, m, fd, MSG_DONTWAIT, e);

	if (rc < 0) /* its own end is closed: what happened shows in EXITED */
		return -1;
	return rc == 1 ? 0 : 1;
}

/* Bounded, so that a flooding helper cannot keep us from the others. */
#define FRAMES_AT_ONCE 64

/* --- Logs -------------------------------------------------------------------------------------------------- */

/* Between commands guix-daemon does not read descriptor 2, and a write to a full pipe would keep us from its next
 * command: then there is no new allowance. */
static void drain_log(const struct broker *b, struct helper *h)
{
	char line[LIMIT_LOG_LINE + 1];
	int64_t now = crew_now();
	ssize_t n = -1;

	for (int i = 0; i < FRAMES_AT_ONCE && (n = recv(h->log, line, LIMIT_LOG_LINE, MSG_DONTWAIT)) > 0; i++) {
		if (now - h->log_window > 10000 && (b->job != NULL || b->query != NULL)) {
			if (h->log_lines > LIMIT_LOG_RATE)
				log_say("%s: %u more lines were dropped", spawner_names[h->kind], h->log_lines - LIMIT_LOG_RATE);
			h->log_window = now;
			h->log_lines = 0;
		}
		if (h->log_lines++ >= LIMIT_LOG_RATE)
			continue;
		while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\0'))
			n--;
		line[n] = '\0';
		log_say("%s: %s", spawner_names[h->kind], line);
	}
	if (n == 0)
		close_fd(&h->log);
}

/* --- Messages from helpers --------------------------------------------------------------------------------- */

static int settings_to_fetcher(struct broker *b, struct helper *h, struct err *e)
{
	struct wire_msg m = { .type = MSG_SETTINGS,
			      .stall_ms = (uint32_t)b->conf.stall_seconds * 1000,
			      .connect_ms = (uint32_t)b->conf.connect_seconds * 1000,
			      .min_rate = (uint32_t)b->conf.min_rate,
			      .tls_verify = (uint8_t)b->conf.tls_verify,
			      .text = wire_str(b->http_proxy),
			      .text2 = wire_str(b->https_proxy) };
	int rc = crew_send(h, &m, -1, e);

	for (unsigned i = 0; i < b->options.url_count && rc == 0; i++) {
		m = (struct wire_msg){ .type = MSG_SERVER, .index = (uint16_t)i, .kind = b->options.kinds[i],
					.text = wire_str(b->options.urls[i]) };
		rc = crew_send(h, &m, -1, e);
	}
	for (unsigned i = 0; i < b->conf.redirect_host_count && rc == 0; i++) {
		m = (struct wire_msg){ .type = MSG_TRUSTHOST, .text = wire_str(b->conf.redirect_hosts[i]) };
		rc = crew_send(h, &m, -1, e);
	}
	for (unsigned i = 0; i < b->conf.option_count && rc == 0; i++) {
		m = (struct wire_msg){ .type = MSG_OPTION, .text = wire_str(b->conf.options[i].key),
					.text2 = wire_str(b->conf.options[i].value) };
		rc = crew_send(h, &m, -1, e);
	}
	return rc == 0 ? 0 : -1;
}

/* A helper of the service manager is known by what the kernel says of its first message.  It waits then, so that the filters
 * of its unit can be told from its own. */
static int on_started(struct broker *b, struct helper *h, const struct wire_msg *m, struct err *e)
{
	const struct wire_msg begin = { .type = MSG_BEGIN };
	int filters;

	(void)b;
	if (!h->unit || h->pid != 0)
		return err_set(e, "STARTED is not for it to say");
	if (m->sender.uid == 0 || m->sender.gid == 0 || m->sender.uid == geteuid())
		return err_set(e, "it runs as uid %u, gid %u: root's or guix-daemon's", m->sender.uid, m->sender.gid);
	if ((h->pidfd = (int)syscall(SYS_pidfd_open, m->sender.pid, 0)) < 0)
		return err_sys(e, errno, "its process cannot be held on to");
	if ((filters = proof_filters(m->sender.pid, e)) < 0)
		return -1;
	h->pid = m->sender.pid;
	h->demand = (struct proof_demand){ .isolation = ISOLATE_UNIT, .uid = m->sender.uid, .gid = m->sender.gid,
					   .filters_before = (unsigned)filters };
	return crew_send(h, &begin, -1, e) == 0 ? 0 : -1;
}

static int on_sealed(struct broker *b, struct helper *h, const struct wire_msg *m, struct err *e)
{
	struct err why;

	if (m->version != WIRE_VERSION)
		return err_set(e, "it speaks version %u, not %u: parts of two installations", m->version, WIRE_VERSION);
	if (h->log < 0 || (h->kind == KIND_UNPACK && (h->in < 0 || h->out < 0)))
		return err_set(e, "it has not got all its channels");
	h->claimed = m->layers;
	h->landlock_abi = m->landlock_abi;
	if (proof_check(h->pid, h->pidfd, &h->demand, &h->verified, &why) < 0)
		return err_set(e, "it says it is sealed, but %s", why.text);
	if (b->conf.require_landlock && !(h->claimed & LAYER_LANDLOCK_FS))
		return err_set(e, "Landlock is required, but off (narlock doctor says why)");
	if (h->kind == KIND_FETCH && settings_to_fetcher(b, h, e) < 0) /* not ready: that counts as a failure to start */
		return -1;
	h->state = HELPER_READY;
	b->crew.failures[h->kind] = 0;
	if (h->kind == KIND_RESOLVE)
		ask_resolver(b);
	return 0;
}

/* --- Names: the fetcher asks, a resolver answers, the broker carries and checks the shape ------------------- */

static void answer_host(struct broker *b, struct wire_bytes host, uint8_t status, struct wire_bytes addresses)
{
	struct wire_msg a = { .type = MSG_ADDRESSES, .text = host, .status = status, .blob = addresses };
	struct helper *f = crew_find(b, KIND_FETCH, HELPER_READY | HELPER_ORDERED | HELPER_STREAMING);

	if (f != NULL && crew_send(f, &a, -1, NULL) != 0)
		crew_kill(b, f, "it does not read its frames");
}

/* Why there is no helper of KIND; the user hears it once. */
static void no_helper(struct broker *b, uint8_t kind, struct err *e)
{
	struct trouble *t = &b->crew.trouble[kind];

	(void)err_set(e, "no %s helper: %s", spawner_names[kind], t->text[0] ? t->text : "the spawner is gone");
	if (t->told++)
		return;
	log_say("%s", e->text);
	audit_event(&b->audit, "no-helper", spawner_names[kind], t->text);
}

/* Hand the questions that are not yet with the resolver to it.  Without one, the answer is "unknown". */
static void ask_resolver(struct broker *b)
{
	struct crew *c = &b->crew;
	struct helper *r = crew_find(b, KIND_RESOLVE, HELPER_READY);
	struct err e;

	while (r != NULL && c->hosts_asked < c->host_count) {
		struct wire_msg q = { .type = MSG_LOOKUP_HOST, .text = wire_str(c->hosts[c->hosts_asked]) };

		if (crew_send(r, &q, -1, &e) != 0) {
			crew_kill(b, r, "it does not read its frames");
			return;
		}
		c->hosts_asked++;
	}
	if (c->host_count > 0 && crew_ask(b, KIND_RESOLVE) < 0) {
		no_helper(b, KIND_RESOLVE, &e);
		forget_hosts(b);
	}
}

static void forget_hosts(struct broker *b)
{
	unsigned n = b->crew.host_count;

	b->crew.host_count = b->crew.hosts_asked = 0;
	for (unsigned i = 0; i < n; i++)
		answer_host(b, wire_str(b->crew.hosts[i]), 1, (struct wire_bytes){ NULL, 0 });
}

static int on_resolve(struct broker *b, struct helper *h, const struct wire_msg *m, struct err *e)
{
	struct crew *c = &b->crew;

	(void)h;
	if (m->text.len == 0 || c->host_count == LIMIT_RESOLVES)
		return err_set(e, "%u names asked for at once, or an empty one", c->host_count);
	wire_copy(c->hosts[c->host_count++], sizeof c->hosts[0], m->text);
	ask_resolver(b);
	return 0;
}

static int on_host_addresses(struct broker *b, struct helper *h, const struct wire_msg *m, struct err *e)
{
	struct crew *c = &b->crew;
	char host[LIMIT_HOST + 1];

	(void)h;
	wire_copy(host, sizeof host, m->text);
	if (c->hosts_asked == 0 || strcmp(host, c->hosts[0]) != 0)
		return err_set(e, "an answer for a name that is not the next one");
	if (m->blob.len % ADDRESS_BYTES != 0 || m->status > 1 || (m->status == 0) != (m->blob.len > 0))
		return err_set(e, "addresses of %zu bytes with status %u", m->blob.len, m->status);
	for (size_t i = 0; i < m->blob.len; i += ADDRESS_BYTES)
		if (m->blob.data[i] != 4 && m->blob.data[i] != 6)
			return err_set(e, "an address of family %u", m->blob.data[i]);
	c->host_count--;
	c->hosts_asked--;
	memmove(c->hosts[0], c->hosts[1], c->host_count * sizeof c->hosts[0]);
	answer_host(b, m->text, m->status, m->blob);
	return 0;
}

static int on_liar(struct broker *b, struct helper *h, const struct wire_msg *m, struct err *e)
{
	static const char *const events[] = { "source-lied", "untrusted-refused", "untrusted-by-name" };
	char source[LIMIT_SOURCE + 1], reason[LIMIT_REASON + 1];
	struct audit_line l;

	if (h->liars++ >= LIMIT_LIARS || m->status > LIAR_BY_NAME)
		return err_set(e, "more than %d sources that lie, or a status %u", LIMIT_LIARS, m->status);
	wire_copy(source, sizeof source, m->text);
	wire_copy(reason, sizeof reason, m->text2);
	audit_begin(&b->audit, &l, events[m->status]);
	audit_text(&l, "source", source);
	audit_text(&l, "reason", reason);
	audit_end(&b->audit, &l);
	return 0;
}

/* The permit table: what a helper may say, and when.  Anything else is a violation. */
static const struct rule {
	uint16_t type;
	uint8_t kind; /* 0: any */
	unsigned states;
	int (*handler)(struct broker *, struct helper *, const struct wire_msg *, struct err *);
} rules[] = {
	{ MSG_SEALED, 0, HELPER_NEW, on_sealed },
	{ MSG_STARTED, 0, HELPER_NEW, on_started },
	{ MSG_NARINFO_PART, KIND_FETCH, HELPER_READY, lookups_on_part },
	{ MSG_NARINFO_END, KIND_FETCH, HELPER_READY, lookups_on_end },
	{ MSG_NAR_BEGIN, KIND_FETCH, HELPER_ORDERED, order_on_begin },
	{ MSG_NAR_PROGRESS, KIND_FETCH, HELPER_ORDERED | HELPER_STREAMING, order_on_progress },
	{ MSG_NAR_END, KIND_FETCH, HELPER_ORDERED | HELPER_STREAMING, order_on_end },
	{ MSG_CHECKED, KIND_FETCH, HELPER_READY, selfcheck_on_checked },
	{ MSG_LIAR, KIND_FETCH, HELPER_READY | HELPER_ORDERED | HELPER_STREAMING, on_liar },
	{ MSG_PROBED, KIND_FETCH, HELPER_READY, lookups_on_probed },
	{ MSG_RESOLVE, KIND_FETCH, HELPER_READY | HELPER_ORDERED | HELPER_STREAMING, on_resolve },
	{ MSG_UNPACKED, KIND_UNPACK, HELPER_STREAMING, order_on_unpacked },
	{ MSG_HOST_ADDRESSES, KIND_RESOLVE, HELPER_READY, on_host_addresses },
};

/* Of a helper of the service manager each message has to be its own: whoever else holds its connection was not looked at. */
static int is_other(const struct helper *h, const struct wire_msg *m)
{
	return h->unit && (h->pid != 0 || m->type != MSG_STARTED) &&
	       (m->sender.pid != h->pid || m->sender.uid != h->demand.uid || m->sender.gid != h->demand.gid);
}

static void dispatch(struct broker *b, struct helper *h, const struct wire_msg *m)
{
	struct err e = { 0, "" };

	if (is_other(h, m)) {
		(void)err_set(&e, "another process than the one that began sends %s", wire_name(m->type));
		violation(b, h, e.text);
		return;
	}
	for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
		if (rules[i].type != m->type || (rules[i].kind != 0 && rules[i].kind != h->kind))
			continue;
		if ((rules[i].states & h->state) == 0)
			break;
		if (rules[i].handler(b, h, m, &e) < 0)
			violation(b, h, e.text);
		return;
	}
	(void)err_set(&e, "%s is not allowed in state %u", wire_name(m->type), h->state);
	violation(b, h, e.text);
}

/* There is nobody to tell us of its EXITED. */
static void unit_ended(struct broker *b, struct helper *h)
{
	static const char why[] = "its unit has ended (see journalctl -u 'narlock-*')";

	drain_log(b, h);
	if (h->pid != 0) /* else it never was there, and crew_ready() tells that once */
		log_say("%s (pid %ld): %s", spawner_names[h->kind], (long)h->pid, why);
	helper_lost(b, h, why);
}

static void listen_to(struct broker *b, struct helper *h)
{
	uint8_t frame[LIMIT_FRAME];
	uint32_t slot = h->slot;
	struct wire_msg m;
	struct err e;

	for (int i = 0; i < FRAMES_AT_ONCE; i++) {
		int rc = wire_recv(h->control, &m, frame, NULL, MSG_DONTWAIT | (h->unit ? WIRE_SENDER : 0), &e);

		if (rc == WIRE_AGAIN)
			return;
		if (rc == 0 && h->unit) {
			unit_ended(b, h);
			return;
		}
		if (rc < 0) {
			violation(b, h, e.text);
			return;
		}
		if (rc == 0) { /* EXITED tells the rest; one that only closed its end, or sent nothing, has to go, too */
			order_spawner_to_kill(b, h);
			close_fd(&h->control);
			return;
		}
		dispatch(b, h, &m);
		if (h->state == HELPER_FREE || h->slot != slot)
			return;
	}
}

/* --- Messages from the spawner ------------------------------------------------------------------------------- */

/* Exit statuses of the spawner's child before it becomes the helper: trying again would not help. */
static int hopeless(int status)
{
	return WIFEXITED(status) && WEXITSTATUS(status) >= SPAWN_NO_DESCRIPTORS && WEXITSTATUS(status) <= SPAWN_NO_EXEC;
}

static const char *why_no_rights(enum isolation isolation)
{
	switch (isolation) {
	case ISOLATE_USER:
		return "it could not change to the helpers' user: guix-daemon needs CAP_SETUID, CAP_SETGID, CAP_SETPCAP and "
		       "CAP_KILL";
	case ISOLATE_NAMESPACE:
		return "user and mount namespaces cannot be made here (a chroot, user.max_user_namespaces, "
		       "kernel.unprivileged_userns_clone or AppArmor forbid it): allow them, run guix-daemon as root, or accept "
		       "less with `required-layers = no-namespace'";
	default:
		return "it could not give up its rights";
	}
}

static void describe_end(const struct broker *b, char *text, size_t size, int status, uint8_t kind)
{
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		(void)snprintf(text, size, "sandbox violation: it made a system call that policy '%s' forbids "
			       "(the kernel's log may name it)", spawner_names[kind]);
	else if (WIFSIGNALED(status))
		(void)snprintf(text, size, "it was killed by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status) == SPAWN_NO_RIGHTS)
		(void)snprintf(text, size, "%s", why_no_rights(b->crew.demand.isolation));
	else if (WEXITSTATUS(status) == SPAWN_NO_EXEC)
		(void)snprintf(text, size, "its program cannot be executed: look at its mode, at mounts with noexec, and for DENIED in "
			       "the kernel's log (AppArmor: share/narlock/apparmor)");
	else
		(void)snprintf(text, size, "it ended with status %d", WEXITSTATUS(status));
}

static void on_exited(struct broker *b, const struct wire_msg *m)
{
	struct helper *h = by_slot(b, m->slot);
	int status = (int)m->wait_status;
	char why[400];

	if (h == NULL) /* one that we had given up before */
		return;
	drain_log(b, h);
	if (h->control >= 0)
		listen_to(b, h); /* its last frames count: an unpacker answers and exits */
	if (h->state == HELPER_FREE)
		return;
	if (h->state == HELPER_DONE) { /* as it should; its last bytes may still wait in `out' */
		if (h != b->order.unpack)
			forget(h);
		return;
	}
	describe_end(b, why, sizeof why, status, h->kind);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) {
		audit_event(&b->audit, "sandbox-violation", spawner_names[h->kind], why);
	}
	if (h->state == HELPER_NEW && hopeless(status)) /* later, these are the words of one that met a server's bytes */
		b->crew.failures[h->kind] = MAX_FAILURES;
	else /* else whoever needs it says it, once: crew_ready() */
		log_say("%s (pid %ld): %s", spawner_names[h->kind], (long)h->pid, why);
	helper_lost(b, h, why);
}

static void on_refused(struct broker *b, const struct wire_msg *m)
{
	struct helper *h = m->kind <= KIND_RESOLVE ? crew_find(b, m->kind, HELPER_ASKED) : NULL;
	char reason[LIMIT_REASON + 1], why[LIMIT_REASON + 120];

	if (h == NULL)
		return;
	wire_copy(reason, sizeof reason, m->text);
	(void)snprintf(why, sizeof why, "%s: %s", reason, strerror((int)m->error));
	helper_lost(b, h, why);
}

static int on_channel(struct helper *h, uint8_t which, int fd)
{
	int *place = h == NULL ? NULL : which == 2 ? &h->log : which == 3 ? &h->control : which == 4 ? &h->in :
		     which == 5 ? &h->out : NULL;

	if (place == NULL || *place >= 0) {
		close(fd);
		return h == NULL ? 0 : -1;
	}
	*place = fd;
	return 0;
}

static int on_spawned(struct broker *b, const struct wire_msg *m, int fd)
{
	struct helper *h = crew_find(b, m->kind, HELPER_ASKED);

	if (h == NULL) {
		close_fd(&fd);
		return -1;
	}
	h->slot = m->slot;
	h->pid = (pid_t)m->pid;
	h->pidfd = fd;
	h->unit = m->type == MSG_CONNECTED;
	h->state = HELPER_NEW;
	return 0;
}

static int hear_spawner(struct broker *b)
{
	uint8_t frame[LIMIT_FRAME];
	struct wire_msg m;
	int fd, rc;

	while ((rc = wire_recv(b->crew.channel, &m, frame, &fd, MSG_DONTWAIT, NULL)) == 1) {
		if (m.type == MSG_SPAWNED || m.type == MSG_CONNECTED)
			rc = on_spawned(b, &m, fd);
		else if (m.type == MSG_CHANNEL)
			rc = on_channel(by_slot(b, m.slot), m.which, fd);
		else if (m.type == MSG_EXITED)
			on_exited(b, &m), rc = 0;
		else if (m.type == MSG_REFUSED)
			on_refused(b, &m), rc = 0;
		else
			rc = -1;
		if (rc < 0)
			return -1;
	}
	return rc == WIRE_AGAIN ? 0 : -1;
}

/* --- The loop ---------------------------------------------------------------------------------------------------- */

static void give_up_late(struct broker *b)
{
	for (int i = 0; i < CREW_SIZE; i++) {
		struct helper *h = &b->crew.helpers[i];

		if ((h->state & (HELPER_ASKED | HELPER_NEW)) == 0 || crew_now() - h->since <= SEAL_MS)
			continue;
		if (h->state == HELPER_NEW)
			crew_kill(b, h, "it did not seal itself in time");
		else
			helper_lost(b, h, "the spawner does not start it");
	}
}

int crew_step(struct broker *b, int data_fd, int timeout_ms)
{
	struct pollfd p[2 + 2 * CREW_SIZE];
	struct helper *of[2 + 2 * CREW_SIZE];
	nfds_t n = 0;

	if (b->crew.channel < 0) /* the spawner is gone; poll would pass over it in silence */
		return -1;
	p[n++] = (struct pollfd){ b->crew.channel, POLLIN, 0 };
	p[n++] = (struct pollfd){ data_fd, POLLIN, 0 };
	for (int i = 0; i < CREW_SIZE; i++) {
		struct helper *h = &b->crew.helpers[i];

		if (h->log >= 0)
			of[n] = h, p[n++] = (struct pollfd){ h->log, POLLIN, 0 };
		if (h->control >= 0)
			of[n] = h, p[n++] = (struct pollfd){ h->control, POLLIN, 0 };
	}
	if (poll(p, n, timeout_ms < 0 || timeout_ms > 1000 ? 1000 : timeout_ms) < 0)
		return errno == EINTR ? 0 : -1;
	/* Logs go first: they often say why what follows happens.  A helper can go while another is heard, so each
	 * descriptor is compared with what its owner has now. */
	for (nfds_t i = 2; i < n; i++)
		if (p[i].revents != 0 && of[i]->log == p[i].fd)
			drain_log(b, of[i]);
	for (nfds_t i = 2; i < n; i++)
		if (p[i].revents != 0 && of[i]->control == p[i].fd)
			listen_to(b, of[i]);
	if (p[0].revents != 0 && hear_spawner(b) < 0) {
		if (!b->crew.trouble[0].told++)
			log_say("the spawner is gone; no more substitutes from this process");
		return -1;
	}
	give_up_late(b);
	return 0;
}

struct helper *crew_ready(struct broker *b, uint8_t kind, struct err *e)
{
	struct helper *h;

	while ((h = crew_find(b, kind, HELPER_READY)) == NULL) {
		if (crew_ask(b, kind) < 0 || crew_step(b, -1, 1000) < 0) {
			no_helper(b, kind, e);
			return NULL;
		}
	}
	return h;
}
