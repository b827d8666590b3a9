/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (heal): narlock-heal: work off the journal of blocks that are missing in IPFS. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "broker/conf.h"
#include "broker/drop.h"
#include "helper/common/logline.h"
#include "helper/common/seal.h"
#include "helper/eris/block.h"
#include "helper/eris/urn.h"
#include "helper/fetch/nounix.h"
#include "helper/fetch/start.h"
#include "helper/heal/mend.h"
#include "helper/heal/net.h"
#include "ipc/paths.h"

enum { EXIT_HEALED = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_LEFT = 3, EXIT_AWAY = 4 };

#define MAX_MEMORY (768ULL * 1024 * 1024)
#define DEFAULT_PAUSE 600
/* After the n-th attempt the next is 2^n times this away (seconds), but never more than the second; and
 * there is a last one. */
#define BACKOFF 60
#define BACKOFF_MAX 86400
#define ATTEMPTS 14

static const char help[] =
    "Usage: narlock-heal [--once] [--now] [--pause SECONDS] [--journal FILE]\n"
    "       narlock-heal --status [--journal FILE]\n"
    "\n"
    "Puts blocks of substitutes that were missing in IPFS back into it.\n"
    "\n"
    "  --once             work off what is due, and end; else do so again and again\n"
    "  --now              also what is not due yet\n"
    "  --pause SECONDS    between two rounds; default: 600\n"
    "  --status           print what is still to be done, and end\n"
    "  --journal FILE     default: fetch/heal in the state directory of narlock.conf\n"
    "  --help, --version\n"
    "\n"
    "Exit status of --once: 0: nothing that is due is left; 1: failure; 2: usage; 3: blocks are left that could not be\n"
    "found or put; 4: no IPFS daemon answers.  See narlock-heal(8).\n";

struct arguments {
	int once, now, status;
	unsigned pause;
	const char *journal;
};

/* --- Command line ------------------------------------------------------------------------------------- */

/* 0; 1: done already; -1. */
static int
parse(struct arguments *a, int argc, char **argv)
{
	static const struct option options[] = {
		{ "once", no_argument, NULL, 'o' },
		{ "now", no_argument, NULL, 'n' },
		{ "status", no_argument, NULL, 's' },
		{ "pause", required_argument, NULL, 'p' },
		{ "journal", required_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	unsigned long n;
	char *end;
	int c;

	*a = (struct arguments){ .pause = DEFAULT_PAUSE };
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'o': a->once = 1; break;
		case 'n': a->now = 1; break;
		case 's': a->status = 1; break;
		case 'j': a->journal = optarg; break;
		case 'p':
			n = strtoul(optarg, &end, 10);
			if (optarg[0] < '0' || optarg[0] > '9' || *end != '\0' || n < 1 || n > 86400)
				return -1;
			a->pause = (unsigned)n;
			break;
		case 'h': return fputs(help, stdout) < 0 ? -1 : 1;
		case 'v': return puts("narlock-heal " NARLOCK_VERSION) < 0 ? -1 : 1;
		default: return -1;
		}
	}
	return optind == argc ? 0 : -1;
}

/* --- Before the lock --------------------------------------------------------------------------------- */

static int
read_conf(struct conf *c, struct err *e)
{
	const char *path = getenv("NARLOCK_CONF"), *state = getenv("GUIX_STATE_DIRECTORY");

	conf_defaults(c, state != NULL && state[0] == '/' && strlen(state) < LIMIT_PATH / 2 ? state : "/var/guix");
	return conf_read(c, path != NULL ? path : PATH_CONF, e);
}

/* Root has nothing to do here: the journal belongs to the helpers' user. */
static int
drop(const struct conf *c, struct err *e)
{
	uint32_t uid, gid;

	if (geteuid() != 0)
		return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? 0 : err_sys(e, errno, "no_new_privs");
	if (conf_helper_ids(c, &uid, &gid, e) != 0)
		return -1;
	return drop_to_user(uid, gid) == 0 ? 0 : err_sys(e, errno, "cannot become the user %s", c->helper_user);
}

static const char *
journal_path(const struct arguments *a, const struct conf *c, char path[LIMIT_PATH + 16])
{
	if (a->journal != NULL)
		return a->journal;
	(void)snprintf(path, LIMIT_PATH + 16, "%s/fetch/heal", c->state_directory);
	return path;
}

static int
set_blocks(struct fetch *f, const struct conf *c, struct err *e)
{
	struct err why;

	if ((f->blocks = blockconf_new(e)) == NULL)
		return -1;
	for (unsigned i = 0; i < c->option_count; i++)
		if (blockconf_set(f->blocks, c->options[i].key, c->options[i].value, &why) != 0)
			logline("narlock.conf, %s: %s; this line is left out", c->options[i].key, why.text);
	blockconf_done(f->blocks);
	return 0;
}

static void
set_proxy(struct proxy *p, const char *name)
{
	const char *value = getenv(name);
	char text[LIMIT_URL + 16];
	struct err e;

	if (value == NULL || value[0] == '\0' || strlen(value) > LIMIT_URL)
		return;
	(void)snprintf(text, sizeof text, "%s%s", url_scheme(value) == 0 ? "http://" : "", value);
	p->set = 1;
	p->bad = url_parse(&p->url, text, &e) != 0 || p->url.https;
	if (p->bad)
		logline("%s cannot be used: it has to be http://HOST:PORT", name);
}

static void
set_settings(struct fetch *f, const struct conf *c)
{
	f->settings.stall_ms = (uint32_t)c->stall_seconds * 1000;
	f->settings.connect_ms = (uint32_t)c->connect_seconds * 1000;
	f->settings.tls_verify = (uint8_t)c->tls_verify;
	set_proxy(&f->settings.http, "http_proxy");
	set_proxy(&f->settings.https, "https_proxy");
}

static void
add_address(struct host *h, const struct addrinfo *a)
{
	char text[INET6_ADDRSTRLEN], one[INET6_ADDRSTRLEN + 4];
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	const void *bytes = &in.sin_addr;

	if (a->ai_family == AF_INET6) {
		memcpy(&in6, a->ai_addr, sizeof in6);
		bytes = &in6.sin6_addr;
	} else if (a->ai_family == AF_INET) {
		memcpy(&in, a->ai_addr, sizeof in);
	} else {
		return;
	}
	if (inet_ntop(a->ai_family, bytes, text, sizeof text) == NULL)
		return;
	(void)snprintf(one, sizeof one, a->ai_family == AF_INET6 ? "%s[%s]" : "%s%s",
	    h->addresses[0] != '\0' ? "," : "", text);
	if (strlen(h->addresses) + strlen(one) < sizeof h->addresses)
		strcat(h->addresses, one);
}

/* The resolver's work is done before the lock.  Addresses go where the transfers look for them. */
static void
resolve(struct fetch *f, const char *name)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM }, *list = NULL;
	const char *none;
	size_t before = f->hosts.count;
	struct host *h;

	/* Numbers need no question, and what is there was asked. */
	if (hosts_need(&f->hosts, name, 1, &none) != HOST_WAITING || f->hosts.count == before)
		return;
	h = &f->hosts.hosts[before];
	h->wanted = 0;
	if (getaddrinfo(name, NULL, &hints, &list) != 0)
		return;
	for (const struct addrinfo *a = list; a != NULL; a = a->ai_next)
		add_address(h, a);
	freeaddrinfo(list);
}

static void
resolve_all(struct fetch *f, int journal)
{
	struct journal_entry j;
	struct url u;
	struct err e;

	if (f->settings.http.set && !f->settings.http.bad)
		resolve(f, f->settings.http.url.host);
	if (f->settings.https.set && !f->settings.https.bad)
		resolve(f, f->settings.https.url.host);
	for (size_t i = 0; i < f->blocks->nsources; i++)
		if (f->blocks->sources[i].at.socket[0] == '\0')
			resolve(f, f->blocks->sources[i].url.host);
	for (unsigned i = 0; i < JOURNAL_SLOTS; i++) {
		const char *at = j.urls;

		if (journal_get(journal, i, &j) != 1)
			continue;
		for (unsigned k = 0; k < j.nurls && f->hosts.count < LIMIT_HOSTS; k++, at += strlen(at) + 1)
			if (url_parse(&u, at, &e) == 0)
				resolve(f, u.host);
	}
}

static int
lock(const struct fetch *f, struct err *e)
{
	struct seal_options options = { .policy = POLICY_OF(fetch), .flags = SEAL_ANY_PARENT | SEAL_ANY_BOUNDS,
		.nofile = FETCH_FILES, .fsize = (uint64_t)JOURNAL_SIZE, .as = MAX_MEMORY };
	struct seal_report report;

	for (int fd = 0; fd < 64; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			options.fds |= 1ULL << fd;
	if (!f->unix_sockets && nounix_load(e) != 0)
		return -1;
	return seal_process(&options, &report, e);
}

/* --- Rounds ------------------------------------------------------------------------------------------ */

static void
name_of(const struct journal_entry *j, char text[24])
{
	char urn[URN_LEN + 1] = "";
	struct eris_cap cap;
	struct err e;

	if (urn_from_bytes(&cap, j->cap, &e) == 0)
		urn_format(urn, &cap);
	(void)snprintf(text, 24, "%.20s...", urn);
}

/* An attempt without success: when is the next? */
static void
put_off(int journal, struct journal_entry *j, int64_t now, const char *why)
{
	int64_t wait = BACKOFF;
	char name[24];

	name_of(j, name);
	for (uint32_t i = 0; i < j->attempts && wait < BACKOFF_MAX; i++)
		wait *= 2;
	j->not_before = now + (wait < BACKOFF_MAX ? wait : BACKOFF_MAX);
	if (++j->attempts < ATTEMPTS) {
		(void)journal_change(journal, j);
		return;
	}
	logline("%s: given up after %d attempts: %s", name, ATTEMPTS, why);
	(void)journal_drop(journal, j);
}

struct round {
	struct net *net;
	struct fetch *fetch;
	struct put_known known;
	int journal;
	size_t source;
	unsigned healed, left;
};

/* -1: the daemon is away. */
static int
heal_entry(struct round *r, struct journal_entry *j)
{
	struct mend_report report;
	enum mend_result result;
	char name[24];

	name_of(j, name);
	result = mend(r->net, r->source, &r->known, j, &report);
	if (result == MEND_DONE) {
		logline("%s: healed: %" PRIu64 " blocks were missing, %" PRIu64 " were put back", name, report.missing,
		    report.put);
		r->healed++;
		(void)journal_drop(r->journal, j);
		return 0;
	}
	logline("%s: %" PRIu64 " blocks were missing, %" PRIu64 " were put back: %s", name, report.missing, report.put,
	    report.why);
	r->left++;
	if (result == MEND_NEVER)
		(void)journal_drop(r->journal, j);
	else if (result == MEND_LATER)
		put_off(r->journal, j, r->fetch->clock, report.why);
	return result == MEND_AWAY ? -1 : 0;
}

static int
find_daemon(struct round *r)
{
	const struct blockconf *b = r->fetch->blocks;

	for (r->source = 0; r->source < b->nsources; r->source++)
		if (b->sources[r->source].at.kind == RPC_IPFS && net_alive(r->net, r->source))
			return 0;
	return -1;
}

static unsigned
count_due(int journal, int64_t now)
{
	struct journal_entry j;
	unsigned n = 0;

	for (unsigned i = 0; i < JOURNAL_SLOTS; i++)
		n += journal_get(journal, i, &j) == 1 && j.not_before <= now;
	return n;
}

static int
work(struct round *r, int64_t until)
{
	struct journal_entry *j = malloc(sizeof *j);
	int rc = EXIT_HEALED;

	if (j == NULL)
		return EXIT_FAILED;
	if (find_daemon(r) != 0) {
		logline("no IPFS daemon answers: nothing can be put back now");
		free(j);
		return EXIT_AWAY;
	}
	for (unsigned i = 0; i < JOURNAL_SLOTS && rc == EXIT_HEALED; i++)
		if (journal_get(r->journal, i, j) == 1 && j->not_before <= until && heal_entry(r, j) != 0)
			rc = EXIT_AWAY;
	free(j);
	if (r->healed + r->left > 0)
		logline("%u nars healed, %u left", r->healed, r->left);
	return rc == EXIT_HEALED && r->left > 0 ? EXIT_LEFT : rc;
}

/* The journal, or -1.  *NONE: no fetcher has ever written one: there is nothing to do. */
static int
open_journal(const char *file, int *none)
{
	struct err e;
	int fd;

	*none = access(file, F_OK) != 0 && errno == ENOENT;
	if (*none)
		return -1;
	if ((fd = journal_open(file, &e)) < 0)
		logline("%s", e.text);
	return fd;
}

/* One round.  The process locks itself: nothing else can be done in it afterwards. */
static int
once(const struct arguments *a, const struct conf *c, const char *file)
{
	int64_t until = a->now ? INT64_MAX : (int64_t)time(NULL);
	int none, journal = open_journal(file, &none);
	struct round r = { .journal = journal };
	struct err e = { 0 };
	struct fetch *f;

	if (journal < 0)
		return none ? EXIT_HEALED : EXIT_FAILED;
	if (count_due(journal, until) == 0)
		return EXIT_HEALED;
	if ((r.fetch = f = calloc(1, sizeof *f)) == NULL)
		return EXIT_FAILED;
	f->control = f->state = f->journal = -1;
	set_settings(f, c);
	if (set_blocks(f, c, &e) == 0 && f->blocks->seed == SEED_NONE) {
		logline("narlock.conf says `seed = none': nothing is put into IPFS");
		return EXIT_HEALED;
	}
	if (ca_read(&f->ca, c->ca_bundle, &e) != 0)
		logline("%s", e.text);
	if (f->blocks == NULL || hosts_init(&f->hosts, &e) != 0 || block_init(&e) != 0 ||
	    start_libraries(f, &e) != 0) {
		logline("%s", e.text);
		return EXIT_FAILED;
	}
	(void)setenv("RES_OPTIONS", "timeout:3 attempts:2", 0);
	resolve_all(f, journal);
	for (size_t i = 0; i < f->blocks->nsources; i++)
		f->unix_sockets |= f->blocks->sources[i].at.socket[0] != '\0';
	if (lock(f, &e) != 0 || (r.net = net_new(f, &e)) == NULL) {
		logline("%s", e.text);
		return EXIT_FAILED;
	}
	return work(&r, until);
}

/* Again and again, each round in a child: names are asked for anew, and nothing piles up. */
static int
forever(const struct arguments *a, const struct conf *c, const char *file)
{
	int status;
	pid_t pid;

	for (;;) {
		if ((pid = fork()) == 0) {
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
			_exit(once(a, c, file));
		}
		if (pid < 0 || waitpid(pid, &status, 0) < 0)
			logline("cannot start a round: %s", strerror(errno));
		(void)sleep(a->pause);
	}
}

/* --- Status ------------------------------------------------------------------------------------------ */

static int
print_status(const char *file)
{
	int none, journal = open_journal(file, &none);
	int64_t now = (int64_t)time(NULL);
	unsigned entries = 0, due = 0;
	struct journal_entry j;
	char name[24];

	if (journal < 0 && !none)
		return EXIT_FAILED;
	for (unsigned i = 0; i < JOURNAL_SLOTS; i++) {
		if (journal_get(journal, i, &j) != 1)
			continue;
		entries++;
		due += j.not_before <= now;
		name_of(&j, name);
		printf("%s  ", name);
		if (j.all)
			printf("all blocks to be looked at");
		else
			printf("%u blocks missing", j.nrefs);
		printf(", %" PRIu64 " bytes, %u URLs, %" PRIu32 " attempts, ", j.nar_size, j.nurls, j.attempts);
		if (j.not_before <= now)
			printf("due now\n");
		else
			printf("due in %" PRId64 " s\n", j.not_before - now);
	}
	printf("%u nars with blocks missing in IPFS, %u due\n", entries, due);
	return fflush(stdout) == 0 ? EXIT_HEALED : EXIT_FAILED;
}

int
main(int argc, char **argv)
{
	static struct conf c;
	char path[LIMIT_PATH + 16];
	struct arguments a;
	const char *file;
	struct err e = { 0 };
	int rc;

	(void)signal(SIGPIPE, SIG_IGN);
	if ((rc = parse(&a, argc, argv)) != 0) {
		if (rc < 0)
			(void)fputs(help, stderr);
		return rc < 0 ? EXIT_USAGE : fflush(stdout) == 0 ? 0 : EXIT_FAILED;
	}
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return EXIT_FAILED;
	(void)syscall(SYS_close_range, 3u, ~0u, 0u);
	(void)umask(077);
	if (read_conf(&c, &e) != 0 || drop(&c, &e) != 0) {
		fprintf(stderr, "narlock-heal: %s\n", e.text);
		return EXIT_FAILED;
	}
	file = journal_path(&a, &c, path);
	if (a.status)
		return print_status(file);
	if (!a.once)
		return forever(&a, &c, file);
	/* No library's clean-up: it would need calls that the policy does not have. */
	_exit(once(&a, &c, file));
}
