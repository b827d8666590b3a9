/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): narlock doctor: is everything as it must be, and if not, what is missing? */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "broker/conf.h"
#include "helper/cli/apparmor.h"
#include "helper/cli/cli.h"
#include "helper/cli/llstate.h"
#include "ipc/paths.h"
#include "helper/cli/perms.h"
#include "helper/cli/probe.h"
#include "helper/cli/report.h"
#include "helper/cli/selfcheck.h"

static const char help[] =
    "Usage: narlock doctor [--json] [--substitute-urls='URL...'] [--trace]\n"
    "\n"
    "Check who could change narlock's files, the helper user, every layer of the sandbox (by trying it),\n"
    "Landlock, the access control list, and whether the servers can be reached.  Run it as the user that\n"
    "guix-daemon runs as, with the daemon's environment (GUIX_STATE_DIRECTORY and so on).\n"
    "With --trace the helpers that are tried report a system call that their policy forbids by its number,\n"
    "where the kernel's log does not.\n"
    "With --json all of it is one JSON object: \"findings\" (each with \"section\", \"level\": ok, note,\n"
    "degraded or unsafe, and \"text\"), \"verdict\" and \"status\".\n"
    "\n"
    "Exit status: 0 good, 1 degraded, 2 unsafe.\n";

/* What doctor looks at, as the broker derives it from the environment. */
struct place {
	const char *store, *state, *config, *conf_path;
	struct conf conf;
	struct perms_owner owner;
};

static const char *directory(const char *variable, const char *fallback)
{
	const char *value = getenv(variable);

	return value != NULL && value[0] == '/' ? value : fallback;
}

/* The store belongs to the user that the daemon runs as, and to the group that builds. */
static struct perms_owner owner_of(const char *store)
{
	struct stat st;

	if (stat(store, &st) == 0)
		return (struct perms_owner){ .daemon = st.st_uid, .builders = st.st_gid };
	return (struct perms_owner){ .daemon = geteuid(), .builders = getegid() };
}

static void find_places(struct place *p, struct report *r)
{
	struct err e;

	p->store = directory("NIX_STORE_DIR", "/gnu/store");
	p->state = directory("GUIX_STATE_DIRECTORY", "/var/guix");
	p->config = directory("GUIX_CONFIGURATION_DIRECTORY", "/etc/guix");
	p->conf_path = directory("NARLOCK_CONF", PATH_CONF);
	p->owner = owner_of(p->store);
	conf_defaults(&p->conf, p->state);
	if (conf_read(&p->conf, p->conf_path, &e) < 0)
		report_say(r, FINDING_UNSAFE, "%s", e.text);
}

static void check_path(const struct place *p, const char *path, enum finding missing, struct report *r)
{
	struct err e;

	if (path[0] == '\0')
		return;
	if (perms_path(path, p->owner, &e) == 0)
		report_say(r, FINDING_OK, "%s", path);
	else if (e.code == ENOENT)
		report_say(r, missing, "%s does not exist", path);
	else
		report_say(r, FINDING_UNSAFE, "%s: %s", path, e.text);
}

/* A helper is started after its uid was changed. */
static void check_executable(const char *path, struct report *r)
{
	struct stat st;

	if (stat(path, &st) == 0 && (st.st_mode & S_IXOTH) == 0)
		report_say(r, FINDING_UNSAFE, "%s: mode %04o: the helper user cannot run it (chmod o+rx)",
		    path,
		    (unsigned)st.st_mode & 07777);
}

/* A directory of the broker's own: nobody else may look into it. */
static void check_private(const struct place *p, const char *name, struct report *r)
{
	char path[LIMIT_PATH + 32];
	struct stat st;

	(void)snprintf(path, sizeof path, "%s/%s", p->conf.state_directory, name);
	if (stat(path, &st) == 0 && st.st_uid != p->owner.daemon) {
		report_say(r, FINDING_UNSAFE, "%s: belongs to uid %u (chown it to uid %u, which guix-daemon runs as)", path,
		    (unsigned)st.st_uid, (unsigned)p->owner.daemon);
		return;
	}
	if (stat(path, &st) == 0 && (st.st_mode & 077) != 0)
		report_say(r, FINDING_DEGRADED, "%s: mode %04o: others can look into it (chmod 700)", path,
		    (unsigned)st.st_mode & 07777);
	check_path(p, path, FINDING_NOTE, r);
}

/* Bytes that must be free where the audit log is, and where nars wait: below that something will go wrong soon. */
#define LOG_FREE (1u << 20)
#define SPOOL_FREE (64u << 20)

static void check_space(const char *path, unsigned long long least, const char *advice, struct report *r)
{
	struct statvfs v;
	unsigned long long bytes;

	if (path[0] == '\0' || statvfs(path, &v) < 0)
		return; /* what is not there was told before */
	bytes = (unsigned long long)v.f_bavail * v.f_frsize;
	if (bytes < least)
		report_say(r, FINDING_DEGRADED, "%s: %llu KiB are free there: %s", path, bytes >> 10, advice);
}

static void check_spaces(const struct place *p, struct report *r)
{
	char path[LIMIT_PATH + 32];

	check_space(p->conf.audit_log, LOG_FREE, "records get lost; make room, or set audit-log", r);
	(void)snprintf(path, sizeof path, "%s/spool", p->conf.state_directory);
	if (p->conf.spool_directory[0] != '\0')
		(void)snprintf(path, sizeof path, "%s", p->conf.spool_directory);
	check_space(path, SPOOL_FREE, "nars that are too large for memory cannot wait there; make room, or set spool-directory",
	    r);
}

static void check_files(const struct place *p, struct report *r)
{
	static const char *const programs[] = { "broker", "fetch", "unpack", "resolve", "guix" };
	char path[LIMIT_PATH + 32];

	report_section(r, "files (nobody but root and the daemon's user may change them)");
	for (size_t i = 0; i < sizeof programs / sizeof programs[0]; i++) {
		(void)snprintf(path, sizeof path, "%s/%s", NARLOCK_LIBEXECDIR, programs[i]);
		check_path(p, path, FINDING_UNSAFE, r);
		check_executable(path, r);
	}
	check_path(p, p->conf_path, FINDING_NOTE, r); /* without it: the defaults */
	(void)snprintf(path, sizeof path, "%s/acl", p->config);
	check_path(p, path, FINDING_DEGRADED, r);
	check_path(p, p->store, FINDING_DEGRADED, r);
	check_path(p, p->conf.state_directory, FINDING_NOTE, r); /* made when it is needed */
	check_private(p, "cache", r);
	check_private(p, "records", r);
	if (p->conf.spool_directory[0] == '\0')
		check_private(p, "spool", r);
	check_path(p, p->conf.spool_directory, FINDING_NOTE, r);
	check_path(p, p->conf.audit_log, FINDING_NOTE, r);
	if (p->conf.audit_log[0] != '\0') {
		(void)snprintf(path, sizeof path, "%s.head", p->conf.audit_log);
		check_path(p, path, FINDING_NOTE, r);
	}
	check_path(p, p->conf.ca_bundle, FINDING_DEGRADED, r);
	check_spaces(p, r);
}

static void read_lsm(char *text, size_t size)
{
	int fd = open("/sys/kernel/security/lsm", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);

	if (fd >= 0)
		close(fd);
	text[n < 0 ? 0 : n] = '\0';
	text[strcspn(text, "\n")] = '\0';
}

static void check_landlock(const struct place *p, struct report *r)
{
	char lsm[256], text[512];
	int error, abi = llstate_abi(&error);
	enum finding missing = p->conf.require_landlock ? FINDING_UNSAFE : FINDING_NOTE;

	read_lsm(lsm, sizeof lsm);
	llstate_explain(abi, error, lsm, text, sizeof text);
	report_say(r, abi > 0 ? FINDING_OK : missing, "Landlock: %s", text);
}

/* For a daemon that is not root: what root can achieve would be no answer. */
static void become_daemon(const struct place *p, struct report *r)
{
	uid_t uid = p->owner.daemon;
	gid_t gid = p->owner.builders;

	if (geteuid() != 0 || uid == 0)
		return;
	if (gid == 0 || setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 ||
	    setresuid(uid, uid, uid) < 0)
		report_say(r, FINDING_UNSAFE,
		    "cannot become the daemon's user (uid %u, gid %u: the owner of %s)", (unsigned)uid,
		    (unsigned)gid, p->store);
	else
		report_say(r, FINDING_NOTE, "guix-daemon is not root: looked at as its user, uid %u",
		    (unsigned)uid);
}

/* A daemon that is not root: does systemd start fetcher and resolver, and can it? */
static void check_units(const struct place *p, struct report *r)
{
	const char *dir = strcmp(p->conf.helper_sockets, CONF_AUTO) == 0 ? PATH_SOCKETS : p->conf.helper_sockets;
	static const char *const names[] = { "fetch", "resolve" };
	char path[LIMIT_PATH + 32];
	unsigned there = 0;

	for (unsigned i = 0; i < 2; i++) {
		(void)snprintf(path, sizeof path, "%s/%s.socket", dir, names[i]);
		there += dir[0] != '\0' && access(path, F_OK) == 0;
	}
	if (there == 2 && getpwnam(NARLOCK_HELPER_USER) == NULL)
		report_say(r, FINDING_UNSAFE, "there is no user '%s': systemd cannot start fetcher and resolver (systemd-sysusers, "
		    "or useradd --system %s)", NARLOCK_HELPER_USER, NARLOCK_HELPER_USER);
	else if (there < 2 && dir[0] != '\0' && (there == 1 || access("/run/systemd/system", F_OK) == 0))
		report_say(r, FINDING_DEGRADED, "%s of fetch.socket and resolve.socket is in %s: systemctl enable --now "
		    "narlock-fetch.socket narlock-resolve.socket gives fetcher and resolver another user than the daemon's",
		    there == 1 ? "one" : "none", dir);
}

static void check_sandbox(const struct place *p, struct report *r)
{
	struct probe_identity id = { .hidden = { p->store, p->state } };
	struct err e;

	report_section(r, "sandbox (every line was tried by a sealed process)");
	become_daemon(p, r);
	id.root = geteuid() == 0;
	id.uid = (uint32_t)geteuid();
	id.gid = (uint32_t)getegid();
	check_landlock(p, r);
	if (id.root && conf_helper_ids(&p->conf, &id.uid, &id.gid, &e) < 0) {
		report_say(r, FINDING_UNSAFE, "%s", e.text);
		return;
	}
	if (id.root && id.uid == p->owner.daemon)
		report_say(r, FINDING_UNSAFE, "helper-user %s is the user of the daemon",
		    p->conf.helper_user);
	else if (id.root)
		report_say(r, FINDING_OK, "helper user %s is uid %u, gid %u", p->conf.helper_user, id.uid,
		    id.gid);
	else
		report_say(r, FINDING_NOTE, "not root: the helpers' layers are tried in a user namespace");
	if (!id.root)
		check_units(p, r);
	probe_all(&id, r);
}

static int parse(int argc, char **argv, const char **urls, bool *trace, int *json)
{
	static const struct option options[] = {
		{ "substitute-urls", required_argument, NULL, 'u' },
		{ "trace", no_argument, NULL, 't' },
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (c == 'h')
			return fputs(help, stdout) < 0 ? CLI_OTHER : CLI_OK;
		if (c == 't' || c == 'j') {
			if (c == 't')
				*trace = true;
			else
				*json = 1;
			continue;
		}
		if (c != 'u' || strchr(optarg, '\n') != NULL)
			break;
		*urls = optarg;
	}
	if (c == -1 && optind == argc)
		return -1;
	fputs(help, stderr);
	return CLI_UNSAFE; /* a check that was not made must not look good */
}

int doctor_main(int argc, char **argv)
{
	static const int codes[] = { CLI_GOOD, CLI_GOOD, CLI_DEGRADED, CLI_UNSAFE };
	static struct place place;
	static char options[LIMIT_OPTIONS];
	struct report report = { .worst = FINDING_OK };
	const char *urls = NULL, *profile = NULL;
	char confined[512];
	bool trace = false;
	int code = parse(argc, argv, &urls, &trace, &report.json);

	if (code >= 0)
		return code;
	signal(SIGCHLD, SIG_DFL);
	find_places(&place, &report);
	check_files(&place, &report);
	check_sandbox(&place, &report);
	if (urls != NULL
	    && snprintf(options, sizeof options, "substitute-urls=%s\n", urls) >= (int)sizeof options)
		return CLI_UNSAFE;
	report_section(&report, "broker (--self-check)");
	if (apparmor_of_daemon(place.owner.daemon, confined, sizeof confined))
		report_say(&report, FINDING_NOTE, "guix-daemon is confined by AppArmor, and so is what follows: %s", profile = confined);
	selfcheck_wrapper(PATH_GUIX, profile, &report);
	selfcheck_run(PATH_BROKER, urls != NULL ? options : NULL, trace, profile, &report);
	return report_end(&report) == 0 ? codes[report.worst] : CLI_UNSAFE;
}
