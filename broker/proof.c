/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: what the kernel says of a helper, as against what the helper says of itself. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/file.h"
#include "broker/proof.h"
#include "ipc/layers.h"
#include "ipc/text.h"

/* The value of "\nNAME:" in a status file, or NULL. */
static const char *field(const char *text, const char *name)
{
	char key[40];
	const char *p;

	(void)snprintf(key, sizeof key, "\n%s:", name);
	if ((p = strstr(text, key)) == NULL)
		return NULL;
	return p + strlen(key);
}

/* The value of field NAME, without blanks around it, must be WANT. */
static int expect(const char *text, const char *name, const char *want, struct err *e)
{
	const char *p = field(text, name);
	size_t n;

	if (p == NULL)
		return err_set(e, "the kernel does not tell its %s", name);
	p += strspn(p, " \t");
	for (n = strcspn(p, "\n"); n > 0 && (p[n - 1] == ' ' || p[n - 1] == '\t'); n--)
		;
	if (n == strlen(want) && memcmp(p, want, n) == 0)
		return 0;
	return err_set(e, "%s is %.*s, not %s", name, (int)n, p, want[0] != '\0' ? want : "empty");
}

static int count_filters(const char *text, unsigned *n, struct err *e)
{
	const char *p = field(text, "Seccomp_filters");

	return p != NULL && sscanf(p, "%u", n) == 1 ? 0 : err_set(e, "the kernel does not tell Seccomp_filters (Linux 5.9 does)");
}

#define IN(isolation) (1u << (isolation))
#define OTHER_UID (IN(ISOLATE_USER) | IN(ISOLATE_UNIT))
#define ALWAYS (OTHER_UID | IN(ISOLATE_NAMESPACE) | IN(ISOLATE_LOWERED))
#define NO_CAPS "0000000000000000"

int proof_parse(const char *text, const struct proof_demand *d, uint32_t *layers, struct err *e)
{
	char uid[48], gid[48], groups[16] = "";
	const struct {
		const char *name, *want;
		unsigned where;  /* it is demanded */
		uint32_t layers; /* that are there now */
	} lines[] = {
		{ "Uid", uid, ALWAYS, 0 },
		{ "Gid", gid, ALWAYS, 0 },
		/* An unprivileged daemon cannot drop groups; it has none when systemd starts it. */
		{ "Groups", groups, OTHER_UID, LAYER_UID | LAYER_NO_GROUPS },
		{ "CapInh", NO_CAPS, ALWAYS, 0 },
		{ "CapPrm", NO_CAPS, ALWAYS, 0 },
		{ "CapEff", NO_CAPS, ALWAYS, 0 },
		/* Without CAP_SETPCAP the bounding set stays; no_new_privs makes it moot. */
		{ "CapBnd", NO_CAPS, OTHER_UID | IN(ISOLATE_NAMESPACE), 0 },
		{ "CapAmb", NO_CAPS, ALWAYS, LAYER_NO_CAPS },
		{ "NoNewPrivs", "1", ALWAYS, LAYER_NO_NEW_PRIVS },
		{ "Threads", "1", ALWAYS, 0 },
		{ "Seccomp", "2", ALWAYS, 0 },
	};
	unsigned n;

	*layers = 0;
	(void)snprintf(uid, sizeof uid, "%u\t%u\t%u\t%u", d->uid, d->uid, d->uid, d->uid);
	(void)snprintf(gid, sizeof gid, "%u\t%u\t%u\t%u", d->gid, d->gid, d->gid, d->gid);
	/* systemd puts the primary group among the others, and nobody without rights can take it out. */
	if (d->isolation == ISOLATE_UNIT && expect(text, "Groups", "", &(struct err){ 0, "" }) < 0)
		(void)snprintf(groups, sizeof groups, "%u", d->gid);
	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
		if ((lines[i].where & IN(d->isolation)) == 0)
			continue;
		if (expect(text, lines[i].name, lines[i].want, e) < 0)
			return -1;
		*layers |= lines[i].layers;
	}
	/* A unit or container may have given us a filter: only one more than before is the helper's own. */
	if (count_filters(text, &n, e) < 0)
		return -1;
	if (n <= d->filters_before)
		return err_set(e, "it has %u seccomp filters, as many as before its start: none of its own", n);
	*layers |= LAYER_SECCOMP;
	return 0;
}

static char *read_proc(pid_t pid, const char *name, struct err *e)
{
	char path[64];

	(void)snprintf(path, sizeof path, "/proc/%ld/%s", (long)pid, name);
	return file_read(AT_FDCWD, path, LIMIT_PROC_FILE, FILE_ANY, NULL, e);
}

/* A user namespace of its own maps one uid; ours maps more, or other ones.  (Comparing /proc/PID/ns/user would take the
 * right to trace it, which Landlock denies us.) */
static int own_user_namespace(pid_t pid, struct err *e)
{
	char *theirs = read_proc(pid, "uid_map", e), *ours = read_proc(getpid(), "uid_map", e);
	unsigned inside, outside, count;
	int rc = -1;

	if (theirs != NULL && ours != NULL) {
		if (strcmp(theirs, ours) != 0 && sscanf(theirs, "%u %u %u", &inside, &outside, &count) == 3 && count == 1)
			rc = 0;
		else
			(void)err_set(e, "it is not in a user namespace of its own");
	}
	free(theirs);
	free(ours);
	return rc;
}

/* Is PATH at or below DIR, or DIR below PATH?  Both are absolute. */
static int related(const char *path, const char *dir)
{
	return text_below(path, dir) || text_below(dir, path);
}

int proof_mounts(char *text, const char *const hidden[2], struct err *e)
{
	char *line, *rest = text;
	int root = 0;

	while ((line = strsep(&rest, "\n")) != NULL) {
		char source[256], place[256], type[32];

		if (*line == '\0')
			continue;
		/* 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue (proc(5)) */
		if (sscanf(line, "%*s %*s %*s %255s %255s %*s", source, place) != 2 || strstr(line, " - ") == NULL ||
		    sscanf(strstr(line, " - "), " - %31s", type) != 1)
			return err_set(e, "its mounts cannot be read");
		if (strcmp(place, "/") == 0)
			root = strcmp(type, "tmpfs") == 0;
		for (int i = 0; i < 2; i++)
			if (strcmp(place, "/") != 0 && (related(place, hidden[i]) || related(source, hidden[i])))
				return err_set(e, "%s is visible in its mounts (%s)", hidden[i], place);
	}
	return root ? 0 : err_set(e, "its root is not a file system of its own");
}

/* In its namespaces neither store nor state may be reachable: its root is an empty file system of the spawner's, and
 * nothing of the two is mounted there. */
static int check_namespace(pid_t pid, const struct proof_demand *d, uint32_t *layers, struct err *e)
{
	char *mounts;
	int rc;

	if (own_user_namespace(pid, e) < 0 || (mounts = read_proc(pid, "mountinfo", e)) == NULL)
		return -1;
	rc = proof_mounts(mounts, d->hidden, e);
	free(mounts);
	if (rc == 0)
		*layers |= LAYER_USERNS | LAYER_MOUNTNS;
	return rc;
}

int proof_filters(pid_t pid, struct err *e)
{
	char *text = read_proc(pid, "status", e);
	unsigned n;
	int rc;

	if (text == NULL)
		return -1;
	rc = count_filters(text, &n, e);
	free(text);
	return rc < 0 ? -1 : (int)n;
}

int proof_check(pid_t pid, int pidfd, const struct proof_demand *d, uint32_t *layers, struct err *e)
{
	struct pollfd p = { pidfd, POLLIN, 0 };
	char *text = read_proc(pid, "status", e);
	int rc;

	if (text == NULL)
		return -1;
	rc = proof_parse(text, d, layers, e);
	free(text);
	if (rc == 0 && d->isolation == ISOLATE_NAMESPACE)
		rc = check_namespace(pid, d, layers, e);
	/* Still alive now: the pid was not somebody else's while we read. */
	if (rc == 0 && poll(&p, 1, 0) != 0)
		rc = err_set(e, "it ended while it was looked at");
	return rc;
}
