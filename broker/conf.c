/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: narlock.conf, read with a strict reader of its own. */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/conf.h"
#include "broker/file.h"
#include "ipc/paths.h"
#include "ipc/text.h"

enum kind { TEXT, DIRECTORY, URL, NUMBER, SIZE, WORD, OPTION };

struct key {
	const char *name;
	enum kind kind;
	size_t offset, size;  /* of the member; of one of its elements, when it is a list */
	size_t count;         /* offset of a list's counter */
	unsigned most;        /* elements of a list; else 0 */
	uint64_t min, max;    /* of NUMBER and SIZE */
	const char *words[2]; /* of WORD: for 0 and 1 */
};

#define AT(name_, kind_, member) \
	.name = (name_), .kind = (kind_), .offset = offsetof(struct conf, member), .size = sizeof(((struct conf *)0)->member)
#define LIST(name_, kind_, member, counter) \
	AT(name_, kind_, member[0]), .count = offsetof(struct conf, counter), \
	.most = sizeof(((struct conf *)0)->member) / sizeof(((struct conf *)0)->member[0])
#define OPT(name_) \
	AT(name_, OPTION, options[0].value), .count = offsetof(struct conf, option_count), .most = LIMIT_OPTIONS_PASSED

static const struct key keys[] = {
	{ AT("helper-user", TEXT, helper_user) },
	{ AT("state-directory", DIRECTORY, state_directory) },
	{ AT("helper-sockets", DIRECTORY, helper_sockets) },
	{ AT("spool-directory", DIRECTORY, spool_directory) },
	{ AT("spool-memory", SIZE, spool_memory), .max = 1ULL << 40 },
	{ AT("audit-log", DIRECTORY, audit_log) },
	{ LIST("allow-destination", DIRECTORY, destinations, destination_count) },
	{ LIST("trusted-redirect-host", TEXT, redirect_hosts, redirect_host_count) },
	{ AT("ca-bundle", DIRECTORY, ca_bundle) },
	{ AT("tls-verify", WORD, tls_verify), .words = { "no", "yes" } },
	{ AT("sync", WORD, sync_item), .words = { "none", "item" } },
	{ AT("landlock", WORD, require_landlock), .words = { "prefer", "require" } },
	{ AT("required-layers", WORD, require_less), .words = { "default", "no-namespace" } },
	{ AT("stall-seconds", NUMBER, stall_seconds), .min = 1, .max = 3600 },
	{ AT("connect-seconds", NUMBER, connect_seconds), .min = 1, .max = 600 },
	{ AT("min-rate", SIZE, min_rate), .max = 1 << 30 },
	{ AT("zstd-window", SIZE, zstd_window), .min = 1 << 10, .max = 1ULL << 31 },
	{ AT("lzip-dictionary", SIZE, lzip_dictionary), .min = 4096, .max = 512u << 20 },
	{ AT("guix", DIRECTORY, guix) },
	{ AT("fallback", WORD, fallback_stock), .words = { "none", "stock" } },
	{ LIST("eris-index", URL, indexes, index_count) },
	{ OPT("ipfs") }, { OPT("ipfs-gateway") }, { OPT("block-server") }, { OPT("block-timeout") },
	{ OPT("seed") }, { OPT("seed-private") }, { OPT("publish-again") },
	{ OPT("untrusted-urls") }, { OPT("untrusted-allow") },
};

void conf_defaults(struct conf *c, const char *state_parent)
{
	memset(c, 0, sizeof *c);
	(void)snprintf(c->helper_user, sizeof c->helper_user, NARLOCK_HELPER_USER);
	(void)snprintf(c->state_directory, sizeof c->state_directory, "%s/narlock", state_parent);
	(void)snprintf(c->audit_log, sizeof c->audit_log, "/var/log/narlock/audit.log");
	(void)snprintf(c->ca_bundle, sizeof c->ca_bundle, "/etc/ssl/certs/ca-certificates.crt");
	(void)snprintf(c->helper_sockets, sizeof c->helper_sockets, CONF_AUTO);
	c->spool_memory = UINT64_MAX;
	c->stall_seconds = 5;
	c->connect_seconds = 5;
	c->min_rate = 0;
	c->zstd_window = 128 << 20;
	c->lzip_dictionary = 64 << 20;
	c->tls_verify = 1;
}

/* A decimal number, with K, M or G (powers of 1024) when SUFFIX says so. */
static int parse_number(const char *text, int suffix, uint64_t *value)
{
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return -1;
	errno = 0;
	*value = strtoull(text, &end, 10);
	if (errno != 0)
		return -1;
	if (suffix && *end != '\0' && strchr("KMG", *end) != NULL) {
		unsigned shift = *end == 'K' ? 10 : *end == 'M' ? 20 : 30;

		if (*value > UINT64_MAX >> shift)
			return -1;
		*value <<= shift;
		end++;
	}
	return *end == '\0' ? 0 : -1;
}

static int set_text(const struct key *k, char *dst, char *value, struct err *e)
{
	size_t n = k->kind == DIRECTORY || k->kind == URL ? text_strip_slashes(value) : strlen(value);

	if (k->kind == DIRECTORY && value[0] != '/' && (n > 0 || k->most > 0))
		return err_set(e, "'%s' is not an absolute path", value);
	if (k->kind == URL && (n < 8 || (strncmp(value, "http://", 7) != 0 && strncmp(value, "https://", 8) != 0)))
		return err_set(e, "'%s' is no URL of http or https", value);
	for (size_t i = 0; i < n && k->kind == OPTION; i++)
		if ((unsigned char)value[i] < ' ' || value[i] == 0x7f)
			return err_set(e, "a character that cannot be there");
	if (k->kind == URL && !text_plain(value, n))
		return err_set(e, "a character that cannot be there");
	if (n >= k->size)
		return err_set(e, "the value is longer than %zu bytes", k->size - 1);
	memcpy(dst, value, n);
	dst[n] = '\0';
	return 0;
}

static int set_number(const struct key *k, uint64_t *dst, const char *value, struct err *e)
{
	uint64_t v;

	if (parse_number(value, k->kind == SIZE, &v) < 0)
		return err_set(e, "'%s' is not a number", value);
	if (v < k->min || v > k->max)
		return err_set(e, "%s is not within %llu and %llu", value, (unsigned long long)k->min,
			       (unsigned long long)k->max);
	*dst = v;
	return 0;
}

static int set_word(const struct key *k, uint64_t *dst, const char *value, struct err *e)
{
	for (uint64_t i = 0; i < 2; i++)
		if (strcmp(k->words[i], value) == 0)
			return (void)(*dst = i), 0;
	return err_set(e, "'%s' is neither '%s' nor '%s'", value, k->words[0], k->words[1]);
}

static int set_key(struct conf *c, const struct key *k, char *value, struct err *e)
{
	char *member = (char *)c + k->offset;

	if (k->most > 0) {
		unsigned *count = (unsigned *)(void *)((char *)c + k->count);

		if (*count == k->most)
			return err_set(e, "more than %u", k->most);
		if (k->kind == OPTION)
			c->options[*count].key = k->name;
		member += (*count)++ * (k->kind == OPTION ? sizeof c->options[0] : k->size);
	}
	switch (k->kind) {
	case NUMBER:
	case SIZE: return set_number(k, (uint64_t *)(void *)member, value, e);
	case WORD: return set_word(k, (uint64_t *)(void *)member, value, e);
	default: return set_text(k, member, value, e);
	}
}

int conf_set(struct conf *c, const char *name, char *value, struct err *e)
{
	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
		if (strcmp(keys[i].name, name) == 0)
			return set_key(c, &keys[i], value, e);
	return err_set(e, "there is no key '%s'", name);
}

static char *trim(char *s)
{
	size_t n;

	s += strspn(s, " \t\r");
	for (n = strlen(s); n > 0 && strchr(" \t\r", s[n - 1]) != NULL; n--)
		s[n - 1] = '\0';
	return s;
}

static int read_line(struct conf *c, char *line, struct err *e)
{
	char *name = trim(line), *value;

	if (*name == '\0' || *name == '#')
		return 0;
	if ((value = strchr(name, '=')) == NULL)
		return err_set(e, "no '='");
	*value++ = '\0';
	return conf_set(c, trim(name), trim(value), e);
}

int conf_read(struct conf *c, const char *path, struct err *e)
{
	char *text, *line, *rest;
	unsigned number = 0;
	struct err why;
	size_t len;
	int bad;

	if ((text = file_read(AT_FDCWD, path, LIMIT_CONF, FILE_TRUSTED, &len, e)) == NULL)
		return e->code == ENOENT ? 0 : -1;
	if ((bad = strlen(text) != len)) /* what stands behind it would be passed over */
		(void)err_set(e, "%s: a NUL byte in it", path);
	for (rest = bad ? NULL : text; (line = strsep(&rest, "\n")) != NULL;) {
		number++;
		if (read_line(c, line, &why) < 0 && !bad++)
			(void)err_set(e, "%s, line %u: %s", path, number, why.text);
	}
	free(text);
	return bad ? -1 : 0;
}

static int numeric_ids(const char *user, uint32_t *uid, uint32_t *gid)
{
	unsigned long u, g;
	int end = 0;

	if (user[strspn(user, "0123456789:")] != '\0' || sscanf(user, "%11lu:%11lu%n", &u, &g, &end) != 2 || user[end] != '\0' ||
	    u >= UINT32_MAX || g >= UINT32_MAX)
		return 0;
	*uid = (uint32_t)u;
	*gid = (uint32_t)g;
	return 1;
}

int conf_helper_ids(const struct conf *c, uint32_t *uid, uint32_t *gid, struct err *e)
{
	int found = numeric_ids(c->helper_user, uid, gid);
	struct passwd *p;
	FILE *f;

	if (!found && (f = fopen("/etc/passwd", "re")) != NULL) {
		/* fgetpwent, because getpwnam would load NSS modules into a process that is still root. */
		while (!found && (p = fgetpwent(f)) != NULL) {
			if (strcmp(p->pw_name, c->helper_user) == 0) {
				*uid = p->pw_uid;
				*gid = p->pw_gid;
				found = 1;
			}
		}
		(void)fclose(f);
	}
	if (!found)
		return err_set(e, "there is no user '%s' in /etc/passwd: make it (useradd --system %s) or set "
			       "helper-user in narlock.conf", c->helper_user, c->helper_user);
	if (*uid == 0 || *gid == 0)
		return err_set(e, "helper-user '%s' is root: helpers need a user of their own", c->helper_user);
	return 0;
}
