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

static int all_four(const char *text, const char *name, uint32_t want, struct err *e)
{
	const char *p = field(text, name);
	unsigned v[4];

	if (p == NULL || sscanf(p, "%u %u %u %u", &v[0], &v[1], &v[2], &v[3]) != 4)
		return err_set(e, "the kernel does not tell its %s", name);
	for (int i = 0; i < 4; i++)
		if (v[i] != want)
			return err_set(e, "%s is %u %u %u %u, not %u", name, v[0], v[1], v[2], v[3], want);
	return 0;
}

static int no_groups(const char *text, struct err *e)
{
	const char *p = field(text, "Groups");

	if (p == NULL)
		return err_set(e, "the kernel does not tell its groups");
	p += strspn(p, " \t");
	return *p == '\n' ? 0 : err_set(e, "it has supplementary groups");
}

static int caps_zero(const char *text, int bounding, struct err *e)
{
	static const char *const sets[] = { "CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd" };

	for (int i = 0; i < (bounding ? 5 : 4); i++) {
		const char *p = field(text, sets[i]);
		char *end;

		if (p == NULL)
			return err_set(e, "the kernel does not tell its %s", sets[i]);
		if (strtoull(p, &end, 16) != 0 || end == p)
			return err_set(e, "%s is not empty", sets[i]);
	}
	return 0;
}

static int number_is(const char *text, const char *name, unsigned want, struct err *e)
{
	const char *p = field(text, name);
	unsigned v;

	if (p == NULL || sscanf(p, "%u", &v) != 1)
		return err_set(e, "the kernel does not tell %s", name);
	return v == want ? 0 : err_set(e, "%s is %u, not %u", name, v, want);
}

int proof_parse(const char *text, const struct proof_demand *d, uint32_t *layers, struct err *e)
{
	const char *filters = field(text, "Seccomp_filters");
	unsigned n;

	*layers = 0;
	if (all_four(text, "Uid", d->uid, e) < 0 || all_four(text, "Gid", d->gid, e) < 0)
		return -1;
	/* An unprivileged daemon cannot drop groups; it has none when systemd starts it. */
	if (d->isolation == ISOLATE_USER && no_groups(text, e) < 0)
		return -1;
	if (d->isolation == ISOLATE_USER)
		*layers |= LAYER_UID | LAYER_NO_GROUPS;
	/* Without CAP_SETPCAP the bounding set stays; no_new_privs makes it moot. */
	if (caps_zero(text, d->isolation != ISOLATE_LOWERED, e) < 0)
		return -1;
	*layers |= LAYER_NO_CAPS;
	if (number_is(text, "NoNewPrivs", 1, e) < 0)
		return -1;
	*layers |= LAYER_NO_NEW_PRIVS;
	if (number_is(text, "Threads", 1, e) < 0 || number_is(text, "Seccomp", 2, e) < 0)
		return -1;
	/* A unit or container may have given us a filter: only one more than before is the helper's own. */
	if (filters == NULL || sscanf(filters, "%u", &n) != 1)
		return err_set(e, "the kernel does not tell Seccomp_filters (Linux 5.9 does)");
	if (n <= d->filters_before)
		return err_set(e, "it has %u seccomp filters, as many as before its start: none of its own", n);
	*layers |= LAYER_SECCOMP;
	return 0;
}

static char *read_proc(pid_t pid, const char *name, struct err *e)
{
	char path[64];

	(void)snprintf(path, sizeof path, "/proc/%ld/%s", (long)pid, name);
	return file_read(AT_FDCWD, path, LIMIT_PROC_FILE, NULL, e);
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
	size_t n = strlen(path), m = strlen(dir), less = n < m ? n : m;

	return strncmp(path, dir, less) == 0 && (n == m || (n < m ? dir[n] : path[m]) == '/');
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
	const char *p;
	int n = -1;

	if (text == NULL)
		return -1;
	if ((p = field(text, "Seccomp_filters")) == NULL || sscanf(p, "%d", &n) != 1)
		n = err_set(e, "the kernel does not tell Seccomp_filters (Linux 5.9 does)");
	free(text);
	return n;
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
