/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: what the kernel says of a helper, as against what the helper says of itself. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

static int same_namespace(pid_t pid, const char *name)
{
	char path[64];
	struct stat a, b;

	(void)snprintf(path, sizeof path, "/proc/%ld/ns/%s", (long)pid, name);
	if (stat(path, &a) < 0)
		return -1;
	(void)snprintf(path, sizeof path, "/proc/self/ns/%s", name);
	if (stat(path, &b) < 0)
		return -1;
	return a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

/* In its namespaces neither store nor state may be reachable from its root. */
static int check_namespace(pid_t pid, const struct proof_demand *d, uint32_t *layers, struct err *e)
{
	char path[64];
	struct stat st;
	int root;

	if (same_namespace(pid, "user") != 0 || same_namespace(pid, "mnt") != 0)
		return err_set(e, "it is not in user and mount namespaces of its own");
	(void)snprintf(path, sizeof path, "/proc/%ld/root", (long)pid);
	if ((root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
		return err_sys(e, errno, "cannot look at its root");
	for (int i = 0; i < 2; i++) {
		if (fstatat(root, d->hidden[i] + 1, &st, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT) {
			close(root);
			return err_set(e, "%s is visible in its root", d->hidden[i]);
		}
	}
	close(root);
	*layers |= LAYER_USERNS | LAYER_MOUNTNS;
	return 0;
}

static char *read_status(pid_t pid, struct err *e)
{
	char path[64];

	(void)snprintf(path, sizeof path, "/proc/%ld/status", (long)pid);
	return file_read(AT_FDCWD, path, LIMIT_PROC_STATUS, NULL, e);
}

int proof_filters(pid_t pid, struct err *e)
{
	char *text = read_status(pid, e);
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
	char *text = read_status(pid, e);
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
