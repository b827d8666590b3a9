/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): narlock audit: read, filter, sum up and verify the audit log. */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "broker/conf.h"
#include "broker/crypto.h"
#include "helper/cli/auditchain.h"
#include "helper/cli/auditline.h"
#include "helper/cli/auditread.h"
#include "helper/cli/auditsum.h"
#include "helper/cli/cli.h"
#include "ipc/paths.h"

static const char help[] =
    "Usage: narlock audit [OPTION...] [FILE...]\n"
    "\n"
    "Read the audit log: FILEs, oldest first (`-': standard input), or the one of narlock.conf with\n"
    "FILE.1 before it.\n"
    "\n"
    "  --since TIME, --until TIME   2026-11-22, 2026-11-22T13:05 (UTC), or 90m, 12h, 7d ago\n"
    "  --path TEXT                  records whose store path contains TEXT\n"
    "  --key HEX                    installed by this key (SHA-256; its beginning will do)\n"
    "  --verdict WORD               success, not-found or hash-mismatch\n"
    "  --event WORD                 substitute, have, info, narinfo-refused, ...\n"
    "  --user NAME                  the name that the client gave itself\n"
    "  --json                       the records as they are\n"
    "  --summary                    who signed, from where, what was refused and why, blocks\n"
    "  --verify                     are the records still those that were written?\n"
    "  --anchors FILE               with --verify: compare with the lines that --anchor has sent elsewhere\n"
    "  --anchor                     verify, and send the hash of the newest record to syslog (or journald)\n"
    "\n"
    "Exit status: 0; of --verify 0 complete, 1 records are missing and the log says so, 2 it was changed;\n"
    "5 failure.\n";

enum action { SHOW, JSON, SUMMARY, VERIFY, ANCHOR };

struct filter {
	char since[40], until[40];
	const char *path, *key, *verdict, *event, *user;
};

struct audit_args {
	enum action action;
	struct filter filter;
	const char *anchors, *log; /* LOG: that of LOG.head */
	char **files;
	int count;
};

/* --- Which records ------------------------------------------------------------------------------------ */

static int
contains(struct auditline_text t, const char *part)
{
	return t.at != NULL && memmem(t.at, t.len, part, strlen(part)) != NULL;
}

static int
begins(struct auditline_text t, const char *part)
{
	return t.at != NULL && t.len >= strlen(part) && memcmp(t.at, part, strlen(part)) == 0;
}

/* WHEN against a time that may be shorter: both are digits in the same places. */
static int
compare_time(struct auditline_text when, const char *time)
{
	size_t n = strlen(time);

	if (when.at == NULL)
		return 0;
	return strncmp(when.at, time, n < when.len ? n : when.len);
}

static int
wanted(const struct filter *f, const struct auditline *l)
{
	struct auditline_text when = auditline_text(l, "time");

	return (f->since[0] == '\0' || compare_time(when, f->since) >= 0) &&
	    (f->until[0] == '\0' || compare_time(when, f->until) <= 0) &&
	    (f->path == NULL || contains(auditline_text(l, "path"), f->path)) &&
	    (f->key == NULL || begins(auditline_text(l, "key"), f->key)) &&
	    (f->verdict == NULL || auditline_is(auditline_text(l, "verdict"), f->verdict)) &&
	    (f->event == NULL || auditline_is(auditline_text(l, "event"), f->event)) &&
	    (f->user == NULL || auditline_is(auditline_text(l, "claimed_user"), f->user));
}

/* 2026-11-22[T13[:05[:00]]], or 90m, 12h, 7d ago. */
static int
read_time(char out[40], const char *text)
{
	size_t digits = strspn(text, "0123456789"), unit;
	static const char form[] = "dddd-dd-ddTdd:dd:dd";
	struct tm tm;
	time_t t;

	if (digits > 0 && digits < 7 && text[digits] != '\0' && text[digits + 1] == '\0' &&
	    (unit = strcspn("smhd", text + digits)) < 4) {
		static const long units[] = { 1, 60, 3600, 86400 };

		t = time(NULL) - strtol(text, NULL, 10) * units[unit];
		return gmtime_r(&t, &tm) != NULL && strftime(out, 40, "%Y-%m-%dT%H:%M:%S", &tm) > 0 ? 0 : -1;
	}
	for (size_t i = 0; text[i] != '\0'; i++)
		if (i >= strlen(form) ||
		    (form[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != form[i]))
			return -1;
	if (strlen(text) < 4)
		return -1;
	return (void)snprintf(out, 40, "%s", text), 0;
}

/* --- For people --------------------------------------------------------------------------------------- */

static void
field(const struct auditline *l, const char *name, const char *label)
{
	struct auditline_text t = auditline_text(l, name);

	if (t.at != NULL && t.len > 0)
		printf("    %-9s %.*s\n", label, (int)t.len, t.at);
}

static void
show_blocks(const struct auditline *l)
{
	uint64_t missed, repaired, reinserted;

	if (auditline_number(l, "blocks_missed", &missed) &&
	    auditline_number(l, "blocks_repaired", &repaired) &&
	    auditline_number(l, "blocks_reinserted", &reinserted) && missed + repaired + reinserted > 0)
		printf("    %-9s %llu were not in IPFS, %llu came from elsewhere, %llu are back in it\n",
		    "blocks",
		    (unsigned long long)missed, (unsigned long long)repaired, (unsigned long long)reinserted);
}

static void
show(const struct auditline *l)
{
	static const char *const fields[][2] = {
		{ "destination", "to" }, { "key", "key" }, { "narinfo_server", "narinfo" },
		{ "nar_source", "nar" }, { "sources", "sources" }, { "subject", "subject" },
		{ "source", "source" }, { "reason", "reason" },
		{ "claimed_user", "user" },
	};
	struct auditline_text when = auditline_text(l, "time"), event = auditline_text(l, "event"),
	    verdict = auditline_text(l, "verdict"), path = auditline_text(l, "path");
	uint64_t asked, found;

	printf("%.*s %.*s", (int)when.len, when.at != NULL ? when.at : "", (int)event.len,
	    event.at != NULL ? event.at : "?");
	if (verdict.at != NULL)
		printf(" %.*s", (int)verdict.len, verdict.at);
	if (path.at != NULL)
		printf(" %.*s", (int)path.len, path.at);
	if (auditline_number(l, "asked", &asked) && auditline_number(l, "found", &found))
		printf(" %llu of %llu", (unsigned long long)found, (unsigned long long)asked);
	putchar('\n');
	for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
		field(l, fields[i][0], fields[i][1]);
	show_blocks(l);
}

/* --- Verifying ---------------------------------------------------------------------------------------- */

struct verdict {
	enum auditchain_level worst;
	int quiet;
	uint64_t told;
};

/* One disaster has many lines; nobody reads all of them. */
#define TOLD 1000

static void
tell(void *owner, enum auditchain_level level, const char *file, uint64_t line, const char *what)
{
	static const char *const words[] = { "note", "LOST", "CHANGED" };
	struct verdict *v = owner;

	if (level > v->worst)
		v->worst = level;
	if (v->quiet || v->told++ >= TOLD)
		return;
	if (line > 0)
		printf("%-8s %s:%llu: %s\n", words[level], file, (unsigned long long)line, what);
	else
		printf("%-8s %s\n", words[level], what);
}

/* Is this the log that brokers write to now, by its name: no standard input, no log.1, no log-20261122? */
static int
is_live(const char *log)
{
	size_t n = strlen(log), end = n;

	while (end > 0 && strchr("0123456789", log[end - 1]) != NULL)
		end--;
	return strcmp(log, "-") != 0 && (end == n || end == 0 || strchr(".-", log[end - 1]) == NULL);
}

/* Is there a file beside LOG to which it could have been rotated: log.1, log.2.gz, log-20261122? */
static int
was_rotated(const char *log)
{
	const char *slash = strrchr(log, '/'), *name = slash != NULL ? slash + 1 : log;
	char directory[LIMIT_PATH];
	size_t n = strlen(name);
	struct dirent *entry;
	int found = 0;
	DIR *d;

	(void)snprintf(directory, sizeof directory, "%.*s", slash != NULL ? (int)(name - log) : 1,
	    slash != NULL ? log : ".");
	if ((d = opendir(directory)) == NULL)
		return 1; /* nobody can say */
	while (!found && (entry = readdir(d)) != NULL)
		found = strncmp(entry->d_name, name, n) == 0 && strchr(".-", entry->d_name[n]) != NULL &&
		    strspn(entry->d_name + n + (entry->d_name[n] != '\0'), "0123456789") > 0;
	(void)closedir(d);
	return found;
}

/* LOG.head: the newest record of all.  Read before the log, which may grow meanwhile.  0, or why not. */
static int
read_head(const char *log, char head[AUDITCHAIN_HASH + 1])
{
	char path[LIMIT_PATH + 32];
	int error = EINVAL;
	FILE *f;

	memset(head, 0, AUDITCHAIN_HASH + 1);
	(void)snprintf(path, sizeof path, "%s.head", log);
	if ((f = fopen(path, "re")) == NULL)
		return errno;
	if (fread(head, 1, AUDITCHAIN_HASH, f) != AUDITCHAIN_HASH ||
	    strspn(head, "0123456789abcdef") != AUDITCHAIN_HASH)
		head[0] = '\0';
	else
		error = 0;
	(void)fclose(f);
	return error;
}

/* The ends of the chain, of which no record can tell that something was cut off.  ERROR: read_head's. */
static void
check_ends(struct auditchain *c, const struct audit_args *a, const char *head, int error, struct verdict *v)
{
	const char *log = a->log;

	if (head[0] != '\0' && !auditchain_has(c, head))
		tell(v, AUDITCHAIN_CHANGED, log, 0,
		    "the newest record that LOG.head knows is not there: the last records were "
		    "removed or changed");
	else if (head[0] == '\0' && error != EACCES && is_live(log) && auditchain_joined(c))
		tell(v, AUDITCHAIN_CHANGED, log, 0,
		    "LOG.head, which these records were joined by, is not there or was changed (of a copy: copy it, "
		    "too)");
	else if (head[0] == '\0')
		tell(v, AUDITCHAIN_NOTE, log, 0,
		    "LOG.head cannot be read: whether the last records were removed is not known");
	if (auditchain_middle(c) && a->count == 1 && is_live(log) && !was_rotated(log))
		tell(v, AUDITCHAIN_CHANGED, log, 0,
		    "it does not begin with the first record, and there is no older file beside it: the first records "
		    "were removed");
}

struct anchors {
	uint64_t seen, missing; /* lines with one; those whose record is not in these files */
	int newest_missing;
};

/* A line "...narlock-anchor TIME ... head=HASH ...". */
static void
check_anchor(struct auditchain *c, const char *line, uint64_t number, struct anchors *all, struct verdict *v,
    const char *file)
{
	const char *at = strstr(line, "narlock-anchor "), *head = at != NULL ? strstr(at, " head=") : NULL;
	char hash[AUDITCHAIN_HASH + 1];

	if (head == NULL || strspn(head + 6, "0123456789abcdef") != AUDITCHAIN_HASH)
		return;
	memcpy(hash, head + 6, AUDITCHAIN_HASH);
	hash[AUDITCHAIN_HASH] = '\0';
	all->seen++;
	if (!(all->newest_missing = !auditchain_has(c, hash)))
		return;
	all->missing++;
	/* One from before these files proves nothing about them, unless these claim to begin with the first record. */
	if (strncmp(at + 15, auditchain_first(c), 19) < 0 && auditchain_middle(c))
		tell(v, AUDITCHAIN_NOTE, file, number,
		    "this anchor is older than the first record of these files");
	else
		tell(v, AUDITCHAIN_CHANGED, file, number, "the record of this anchor is not there any more");
}

static int
check_anchors(struct auditchain *c, const char *path, struct verdict *v)
{
	FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	struct anchors all = { 0, 0, 0 };
	char line[1024];

	if (f == NULL)
		return -1;
	for (uint64_t n = 1; fgets(line, sizeof line, f) != NULL; n++)
		check_anchor(c, line, n, &all, v, path);
	if (f != stdin)
		(void)fclose(f);
	if (all.seen == 0)
		tell(v, AUDITCHAIN_LOST, path, 0, "there is no anchor in what --anchors names: nothing was compared");
	else if (all.newest_missing)
		tell(v, AUDITCHAIN_LOST, path, 0,
		    "not even the newest anchor is in these files: give those before them, too, or they are others");
	else if (!v->quiet)
		printf("anchors: %llu, of which %llu are of records before these files or not there\n",
		    (unsigned long long)all.seen, (unsigned long long)all.missing);
	return 0;
}

static void
send_anchor(const char *log, const char *head, size_t records, enum auditchain_level worst)
{
	static const char *const verdicts[] = { "complete", "lost", "CHANGED" };
	char when[32], line[LIMIT_PATH + 256];
	time_t t = time(NULL);
	struct tm tm;

	(void)gmtime_r(&t, &tm);
	(void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
	(void)snprintf(line, sizeof line, "narlock-anchor %s head=%s records=%zu verdict=%s log=%s", when,
	    head[0] != '\0' ? head : "none", records, verdicts[worst], log);
	openlog("narlock", LOG_PID, LOG_AUTH);
	syslog(worst == AUDITCHAIN_NOTE ? LOG_NOTICE : LOG_ALERT, "%s", line);
	closelog();
	puts(line);
}

/* --- All files ---------------------------------------------------------------------------------------- */

struct pass {
	const struct audit_args *a;
	struct auditchain *chain;
	struct auditsum *sum;
	uint64_t skipped; /* lines that are no record */
};

static int
take_line(struct pass *p, const char *line, size_t len, int complete)
{
	struct err why = { 0, "" };
	struct auditline l;

	if (auditline_parse(&l, line, len, &why) != 0)
		l.count = 0;
	if (p->chain != NULL)
		return auditchain_line(p->chain, line, len, complete, &l, &why);
	if (l.count == 0)
		return (void)(p->skipped += len > 0), 0; /* an empty one ends a torn line */
	if (!wanted(&p->a->filter, &l))
		return 0;
	if (p->sum != NULL)
		auditsum_add(p->sum, &l);
	else if (p->a->action == JSON)
		return printf("%.*s\n", (int)len, line) < 0 ? -1 : 0; /* it was parsed: printable */
	else
		show(&l);
	return 0;
}

static int
take_file(struct pass *p, const char *path)
{
	static struct auditread r;
	const char *line;
	struct err e;
	size_t len;
	int complete, rc;

	if (auditread_open(&r, path, &e) != 0) {
		fprintf(stderr, "narlock: %s\n", e.text);
		return -1;
	}
	if (p->chain != NULL)
		auditchain_file(p->chain, path);
	while ((rc = auditread_line(&r, &line, &len, &complete, &e)) > 0)
		if (take_line(p, line, len, complete) != 0) {
			rc = err_set(&e, "%s: too many records for one run, or no memory: give fewer files",
			    path);
			break;
		}
	auditread_close(&r);
	if (rc < 0)
		fprintf(stderr, "narlock: %s\n", e.text);
	return rc;
}

static int
take_files(struct pass *p)
{
	for (int i = 0; i < p->a->count; i++)
		if (take_file(p, p->a->files[i]) < 0)
			return CLI_OTHER;
	if (p->skipped > 0)
		fprintf(stderr, "narlock: %llu lines are no records (see narlock audit --verify)\n",
		    (unsigned long long)p->skipped);
	return CLI_OK;
}

static int
verify(const struct audit_args *a)
{
	struct verdict v = { .quiet = a->action == ANCHOR };
	struct pass p = { .a = a, .chain = auditchain_new(tell, &v) };
	const char *log = a->log;
	char head[AUDITCHAIN_HASH + 1];
	struct err e;
	int code = CLI_OTHER, error = read_head(log, head);

	if (p.chain == NULL || crypto_init(&e) < 0 || (code = take_files(&p)) != CLI_OK) {
		auditchain_free(p.chain);
		return code;
	}
	auditchain_end(p.chain);
	check_ends(p.chain, a, head, error, &v);
	if (a->anchors != NULL && check_anchors(p.chain, a->anchors, &v) != 0) {
		fprintf(stderr, "narlock: %s: %s\n", a->anchors, strerror(errno));
		code = CLI_OTHER;
	}
	if (a->action == ANCHOR)
		send_anchor(log, head, auditchain_count(p.chain), v.worst);
	else if (v.worst == AUDITCHAIN_NOTE)
		printf("complete: %zu records\n", auditchain_count(p.chain));
	else
		printf("%s: %zu records, %llu findings\n",
		    v.worst == AUDITCHAIN_LOST ? "records are missing" :
		    "THE LOG WAS CHANGED", auditchain_count(p.chain), (unsigned long long)v.told);
	auditchain_free(p.chain);
	return code != CLI_OK ? code : (int)v.worst;
}

/* Nothing was ever fetched here, or somebody took all of it away: the anchors before tell which. */
static int
nothing_yet(const struct audit_args *a)
{
	char head[AUDITCHAIN_HASH + 1];

	return a->count == 1 && access(a->log, F_OK) != 0 && errno == ENOENT && read_head(a->log, head) == ENOENT;
}

static int
run(const struct audit_args *a)
{
	struct pass p = { .a = a };
	int code;

	if (a->action == ANCHOR && nothing_yet(a)) {
		send_anchor(a->log, "", 0, AUDITCHAIN_NOTE);
		return CLI_OK;
	}
	if (a->action >= VERIFY)
		return verify(a);
	if (a->action == SUMMARY && (p.sum = auditsum_new()) == NULL)
		return CLI_OTHER;
	code = take_files(&p);
	if (p.sum != NULL)
		auditsum_print(p.sum);
	auditsum_free(p.sum);
	return code;
}

/* --- Arguments ---------------------------------------------------------------------------------------- */

static int
usage(void)
{
	fputs(help, stderr);
	return CLI_OTHER; /* 1 and 2 mean something */
}

/* The log of narlock.conf, with the one that was rotated last. */
static int
default_files(struct audit_args *a)
{
	static char log[LIMIT_PATH], rotated[LIMIT_PATH + 8];
	static char *files[2];
	static struct conf conf;
	const char *path = getenv("NARLOCK_CONF");
	struct err e;

	conf_defaults(&conf, "");
	if (conf_read(&conf, path != NULL && path[0] == '/' ? path : PATH_CONF, &e) < 0)
		fprintf(stderr, "narlock: %s\n", e.text);
	if (conf.audit_log[0] == '\0') {
		fprintf(stderr, "narlock: narlock.conf says that there is no audit log (audit-log)\n");
		return -1;
	}
	(void)snprintf(log, sizeof log, "%s", conf.audit_log);
	(void)snprintf(rotated, sizeof rotated, "%s.1", log);
	if (access(rotated, R_OK) == 0)
		files[a->count++] = rotated;
	if (a->count == 0 || access(log, F_OK) == 0 || errno != ENOENT) /* else: rotated, and nothing new since */
		files[a->count++] = log;
	a->files = files;
	a->log = log;
	return 0;
}

/* TEXT as records have it (audit_bytes); it is never freed. */
static const char *
escaped(const char *text)
{
	char *out = calloc(strlen(text) + 1, 6), *p = out;

	for (; p != NULL && *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < 0x20 || c > 0x7e)
			p += sprintf(p, "\\u%04x", c);
		else
			p += sprintf(p, c == '"' || c == '\\' ? "\\%c" : "%c", c);
	}
	return out;
}

static int
option(struct audit_args *a, int c)
{
	struct filter *f = &a->filter;

	switch (c) {
	case 's': return read_time(f->since, optarg);
	case 'u': return read_time(f->until, optarg);
	case 'p': f->path = optarg; return 0;
	case 'k': f->key = optarg; return 0;
	case 'v': f->verdict = optarg; return 0;
	case 'e': f->event = optarg; return 0;
	case 'n': f->user = escaped(optarg); return f->user != NULL ? 0 : -1;
	case 'j': a->action = JSON; return 0;
	case 'm': a->action = SUMMARY; return 0;
	case 'c': a->action = VERIFY; return 0;
	case 'w': a->action = ANCHOR; return 0;
	case 'a': a->anchors = optarg; return 0;
	default: return -1;
	}
}

int
audit_main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "since", required_argument, NULL, 's' }, { "until", required_argument, NULL, 'u' },
		{ "path", required_argument, NULL, 'p' }, { "key", required_argument, NULL, 'k' },
		{ "verdict", required_argument, NULL, 'v' }, { "event", required_argument, NULL, 'e' },
		{ "user", required_argument, NULL, 'n' }, { "json", no_argument, NULL, 'j' },
		{ "summary", no_argument, NULL, 'm' }, { "verify", no_argument, NULL, 'c' },
		{ "anchor", no_argument, NULL, 'w' }, { "anchors", required_argument, NULL, 'a' },
		{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 },
	};
	static struct audit_args a;
	int c, code;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (c == 'h')
			return fputs(help, stdout) < 0 ? CLI_OTHER : CLI_OK;
		if (option(&a, c) != 0)
			return usage();
	}
	if (a.anchors != NULL && a.action != VERIFY)
		return usage();
	a.files = argv + optind;
	a.count = argc - optind;
	if (a.count > 0)
		a.log = a.files[a.count - 1];
	else if (default_files(&a) != 0)
		return CLI_OTHER;
	code = run(&a);
	return fflush(stdout) == 0 ? code : CLI_OTHER;
}
