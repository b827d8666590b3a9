/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: start-up, in the order that the boundary needs.
 *
 * Everything that takes rights happens here, before confine(): reading the configuration, making directories, opening
 * the log, forking the spawner.  After it the process has no capability, no way to the network and no exec. */
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/broker.h"
#include "broker/crypto.h"
#include "broker/file.h"
#include "broker/log.h"
#include "ipc/paths.h"
#include "ipc/text.h"

static const char usage[] =
	"usage: broker --query | --substitute [--allow-destination=DIR] | --self-check [--urls] [--trace] | --version\n"
	"guix-daemon starts this program through libexec/narlock/guix; see narlock(8).\n";

struct arguments {
	const char *mode;
	char *destination;
	int urls, trace;
};

static int parse_arguments(struct arguments *a, int argc, char **argv)
{
	memset(a, 0, sizeof *a);
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--query") == 0)
			a->mode = "query";
		else if (strcmp(argv[i], "--substitute") == 0)
			a->mode = "substitute";
		else if (strcmp(argv[i], "--self-check") == 0)
			a->mode = "self-check";
		else if (strcmp(argv[i], "--urls") == 0)
			a->urls = 1;
		else if (strcmp(argv[i], "--trace") == 0)
			a->trace = 1;
		else if (strncmp(argv[i], "--allow-destination=", 20) == 0)
			a->destination = argv[i] + 20;
		else
			return -1;
	}
	return a->mode != NULL ? 0 : -1;
}

/* guix-daemon opens 0, 1, 2 and 4 for us.  Before 1.3 there was no 4: then replies would go to the wrong place. */
static int check_descriptors(const char *mode)
{
	for (int fd = 0; fd < 3; fd++) {
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return -1;
		(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	}
	if (strcmp(mode, "self-check") == 0)
		return 0;
	if (fcntl(FD_REPLIES, F_GETFD) < 0) {
		log_say("descriptor 4 is not open: this is not a guix-daemon of version 1.3 or newer, and older ones are not "
			"supported");
		return -1;
	}
	return fcntl(FD_REPLIES, F_SETFD, FD_CLOEXEC);
}

static void from_environment(char *out, size_t size, const char *name, const char *fallback)
{
	const char *v = getenv(name);

	(void)snprintf(out, size, "%s", v != NULL && v[0] == '/' && strlen(v) < size ? v : fallback);
	(void)text_strip_slashes(out);
}

static const char *proxy(const char *name)
{
	const char *v = getenv(name);

	if (v == NULL || (text_plain(v, strlen(v)) && strlen(v) <= LIMIT_URL))
		return v != NULL ? v : "";
	log_say("warning: %s is ignored: it is no URL", name);
	return "";
}

static int read_options(struct broker *b)
{
	struct options *o = &b->options;
	char path[LIMIT_PATH + 32], *discovered;
	const char *text = getenv("_NIX_OPTIONS");
	int rc;

	if (text != NULL && strlen(text) > LIMIT_OPTIONS) {
		log_say("warning: _NIX_OPTIONS is longer than %d bytes and is ignored", LIMIT_OPTIONS);
		text = NULL;
	}
	(void)snprintf(path, sizeof path, "%s/discover/publish", b->state_dir);
	discovered = file_read(AT_FDCWD, path, LIMIT_OPTIONS, FILE_TRUSTED, NULL, NULL);
	rc = options_parse(o, text, discovered, LIMIT_SERVERS - b->conf.index_count);
	free(discovered);
	for (unsigned i = 0; i < b->conf.index_count; i++) { /* asked last */
		o->kinds[o->url_count] = SERVER_INDEX;
		o->urls[o->url_count++] = b->conf.indexes[i];
	}
	if (o->urls_dropped > 0)
		log_say("warning: %u substitute URLs are ignored (too long, not printable, or more than %u)",
			o->urls_dropped, LIMIT_SERVERS - b->conf.index_count);
	return rc;
}

/* The file in which the fetcher remembers absences: its own, since it is the fetcher who writes it. */
static void make_fetch_state(struct broker *b, int state, uint32_t uid, uint32_t gid)
{
	struct stat st;

	if (mkdirat(state, "fetch", 0700) == 0 && fchownat(state, "fetch", uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
		(void)unlinkat(state, "fetch", AT_REMOVEDIR);
	if (fstatat(state, "fetch", &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode) && st.st_uid == uid)
		(void)snprintf(b->fetch_state, sizeof b->fetch_state, "%s/fetch/state", b->conf.state_directory);
}

static int open_or_warn(const struct broker *b, int dir, const char *name, unsigned mode)
{
	struct err e;
	int fd = file_subdir(dir, name, mode, &e);

	if (fd < 0)
		log_say("warning: %s: %s", b->conf.state_directory, e.text);
	return fd;
}

/* Directories of ours.  What cannot be had is done without, but for the records (see start_up). */
static void make_directories(struct broker *b, uint32_t uid, uint32_t gid)
{
	int state = open_or_warn(b, AT_FDCWD, b->conf.state_directory, 0711);

	if (state < 0)
		return;
	b->cache_fd = open_or_warn(b, state, "cache", 0700);
	b->record_fd = open_or_warn(b, state, "records", 0700);
	/* An absolute name is one wherever the directory is. */
	b->spool_fd = open_or_warn(b, state, b->conf.spool_directory[0] != '\0' ? b->conf.spool_directory : "spool", 0700);
	if (b->crew.demand.isolation == ISOLATE_USER)
		make_fetch_state(b, state, uid, gid);
	close(state);
}

/* An ACL that does not exist is made from this machine's own key, as stock guix does. */
static void make_acl(struct broker *b)
{
	enum acl_origin origin;
	struct err e;

	if (acl_load(&b->acl, b->config_dir, &origin, &e) < 0)
		return; /* told at the first command */
	if (origin == ACL_SIGNING_KEY && acl_create(b->config_dir, &e) == 0)
		log_say("%s/acl was missing: made it with the key of %s/signing-key.pub", b->config_dir, b->config_dir);
	else if (origin == ACL_SIGNING_KEY)
		log_say("%s/acl is missing; the key of signing-key.pub counts as authorised (%s)", b->config_dir, e.text);
	else if (origin == ACL_EMPTY)
		log_say("warning: there is no %s/acl: no server is authorised (guix archive --authorize)", b->config_dir);
}

static int configure(struct broker *b, const struct arguments *a, struct err *e)
{
	const char *conf = getenv("NARLOCK_CONF");

	b->conf_path = conf != NULL ? conf : PATH_CONF;
	conf_defaults(&b->conf, b->state_dir);
	if (conf_read(&b->conf, b->conf_path, e) < 0)
		return -1;
	b->by_hand = a->destination != NULL;
	if (b->by_hand && conf_set(&b->conf, "allow-destination", a->destination, e) < 0)
		return -1;
	return read_options(b) < 0 ? err_set(e, "no memory") : 0;
}

/* Plan how helpers are kept apart; the choice follows from who we are and what the admin demands. */
static int plan_helpers(struct broker *b, const struct arguments *a, struct spawner_plan *p, struct err *e)
{
	memset(p, 0, sizeof *p);
	/* The tracing helpers have the same policies, but say which call broke them.  Only for a look by hand. */
	p->libexec = a->trace && strcmp(a->mode, "self-check") == 0 ? NARLOCK_LIBEXECDIR "/trace" : NARLOCK_LIBEXECDIR;
	p->ca_bundle = b->conf.ca_bundle;
	p->hidden[0] = b->store_dir;
	p->hidden[1] = b->state_dir;
	p->uid = geteuid();
	p->gid = getegid();
	p->isolation = p->uid == 0 ? ISOLATE_USER : b->conf.require_less ? ISOLATE_LOWERED : ISOLATE_NAMESPACE;
	b->crew.demand.isolation = p->isolation;
	p->sockets = b->conf.helper_sockets;
	if (strcmp(p->sockets, CONF_AUTO) == 0)
		p->sockets = p->uid != 0 && access(PATH_SOCKETS "/fetch.socket", F_OK) == 0 ? PATH_SOCKETS : "";
	return p->isolation == ISOLATE_USER ? conf_helper_ids(&b->conf, &p->uid, &p->gid, e) : 0;
}

/* All that needs rights.  On failure the agent stays, and gives nothing. */
static int start_up(struct broker *b, const struct arguments *a, struct err *e)
{
	char directory[LIMIT_PATH];
	struct spawner_plan plan;

	if (crypto_init(e) < 0 || configure(b, a, e) < 0)
		return -1;
	(void)snprintf(directory, sizeof directory, "%s", b->conf.audit_log);
	if (directory[0] != '\0')
		(void)mkdir(dirname(directory), 0755);
	audit_open(&b->audit, b->conf.audit_log, a->mode, b->options.user);
	if (plan_helpers(b, a, &plan, e) < 0)
		return -1;
	make_directories(b, plan.uid, plan.gid);
	plan.fetch_state = b->fetch_state;
	for (unsigned i = 0; i < b->conf.option_count; i++)
		plan.unix_sockets |= strncmp(b->conf.options[i].value, "unix:", 5) == 0 ||
				     strncmp(b->conf.options[i].value, "/unix/", 6) == 0;
	if (b->record_fd < 0 && !b->by_hand && strcmp(a->mode, "self-check") != 0)
		return err_set(e, "%s cannot be used: the references told to the daemon and the nar installed could not be kept "
			       "together", b->conf.state_directory);
	if (crew_start(b, &plan, e) < 0)
		return -1;
	/* They start while we read on and while the daemon writes its first command. */
	(void)crew_ask(b, KIND_FETCH);
	if (strcmp(a->mode, "substitute") == 0)
		(void)crew_ask(b, KIND_UNPACK);
	if (b->record_fd >= 0 && record_open(&b->records, b->record_fd, getppid(), e) < 0)
		return -1;
	make_acl(b);
	return confine(b, e);
}

int main(int argc, char **argv)
{
	static struct broker b; /* large, and the one of this process */
	struct arguments a;
	struct err e = { 0, "" };

	if (argc == 2 && strcmp(argv[1], "--version") == 0)
		return printf("narlock %s\n", NARLOCK_VERSION) < 0;
	if (parse_arguments(&a, argc, argv) < 0) {
		(void)file_write_all(FD_LOG, usage, strlen(usage));
		return 2;
	}
	if (check_descriptors(a.mode) < 0)
		return 2;
	(void)umask(022);
	(void)signal(SIGPIPE, SIG_IGN);
	b.mode = a.mode;
	b.crew.channel = b.audit.fd = b.cache_fd = b.spool_fd = b.record_fd = -1;
	b.http_proxy = proxy("http_proxy");
	b.https_proxy = proxy("https_proxy");
	from_environment(b.store_dir, sizeof b.store_dir, "NIX_STORE_DIR", "/gnu/store");
	from_environment(b.state_dir, sizeof b.state_dir, "GUIX_STATE_DIRECTORY", "/var/guix");
	from_environment(b.config_dir, sizeof b.config_dir, "GUIX_CONFIGURATION_DIRECTORY", "/etc/guix");
	if (getenv("GUIX_ALLOW_UNAUTHENTICATED_SUBSTITUTES") != NULL)
		log_say("GUIX_ALLOW_UNAUTHENTICATED_SUBSTITUTES is ignored: narlock installs nothing that is not signed");
	if (start_up(&b, &a, &e) < 0)
		(void)snprintf(b.refusal, sizeof b.refusal, "%s", e.text);
	if (strcmp(a.mode, "self-check") == 0)
		return selfcheck(&b, a.urls);
	agent_run(&b, strcmp(a.mode, "substitute") == 0);
	return b.refusal[0] != '\0' ? 2 : 0;
}
