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

enum kind { TEXT, DIRECTORY, NUMBER, SIZE, WORD, DESTINATION, HOST, INDEX, OPTION };

struct choice {
	const char *word;
	uint64_t value;
};

struct key {
	const char *name;
	enum kind kind;
	size_t offset, size; /* SIZE of TEXT and DIRECTORY */
	uint64_t min, max;   /* of NUMBER and SIZE */
	const struct choice *choices;
};

static const struct choice yes_no[] = { { "yes", 1 }, { "no", 0 }, { NULL, 0 } };
static const struct choice sync_words[] = { { "none", 0 }, { "item", 1 }, { NULL, 0 } };
static const struct choice landlock_words[] = { { "require", 1 }, { "prefer", 0 }, { NULL, 0 } };
static const struct choice fallback_words[] = { { "none", 0 }, { "stock", 1 }, { NULL, 0 } };
static const struct choice less_words[] = { { "default", 0 }, { "no-namespace", 1 }, { NULL, 0 } };

#define AT(member) offsetof(struct conf, member), sizeof((struct conf *)0)->member

static const struct key keys[] = {
	{ "helper-user", TEXT, AT(helper_user), 0, 0, NULL },
	{ "state-directory", DIRECTORY, AT(state_directory), 0, 0, NULL },
	{ "spool-directory", DIRECTORY, AT(spool_directory), 0, 0, NULL },
	{ "spool-memory", SIZE, AT(spool_memory), 0, 1ULL << 40, NULL },
	{ "audit-log", DIRECTORY, AT(audit_log), 0, 0, NULL },
	{ "allow-destination", DESTINATION, 0, 0, 0, 0, NULL },
	{ "trusted-redirect-host", HOST, 0, 0, 0, 0, NULL },
	{ "ca-bundle", DIRECTORY, AT(ca_bundle), 0, 0, NULL },
	{ "tls-verify", WORD, AT(tls_verify), 0, 0, yes_no },
	{ "sync", WORD, AT(sync_item), 0, 0, sync_words },
	{ "landlock", WORD, AT(require_landlock), 0, 0, landlock_words },
	{ "required-layers", WORD, AT(require_less), 0, 0, less_words },
	{ "stall-seconds", NUMBER, AT(stall_seconds), 1, 3600, NULL },
	{ "connect-seconds", NUMBER, AT(connect_seconds), 1, 600, NULL },
	{ "min-rate", SIZE, AT(min_rate), 0, 1 << 30, NULL },
	{ "zstd-window", SIZE, AT(zstd_window), 1 << 10, 1ULL << 31, NULL },
	{ "lzip-dictionary", SIZE, AT(lzip_dictionary), 4096, 512u << 20, NULL },
	{ "guix", DIRECTORY, AT(guix), 0, 0, NULL },
	{ "fallback", WORD, AT(fallback_stock), 0, 0, fallback_words },
	{ "eris-index", INDEX, 0, 0, 0, 0, NULL },
	{ "ipfs", OPTION, 0, 0, 0, 0, NULL },
	{ "ipfs-gateway", OPTION, 0, 0, 0, 0, NULL },
	{ "block-server", OPTION, 0, 0, 0, 0, NULL },
	{ "block-timeout", OPTION, 0, 0, 0, 0, NULL },
	{ "seed", OPTION, 0, 0, 0, 0, NULL },
	{ "seed-private", OPTION, 0, 0, 0, 0, NULL },
	{ "publish-again", OPTION, 0, 0, 0, 0, NULL },
};

void conf_defaults(struct conf *c, const char *state_parent)
{
	memset(c, 0, sizeof *c);
	(void)snprintf(c->helper_user, sizeof c->helper_user, NARLOCK_HELPER_USER);
	(void)snprintf(c->state_directory, sizeof c->state_directory, "%s/narlock", state_parent);
	(void)snprintf(c->audit_log, sizeof c->audit_log, "/var/log/narlock/audit.log");
	(void)snprintf(c->ca_bundle, sizeof c->ca_bundle, "/etc/ssl/certs/ca-certificates.crt");
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

static int set_text(char *dst, size_t size, const char *value, struct err *e)
{
	if (strlen(value) >= size)
		return err_set(e, "the value is longer than %zu bytes", size - 1);
	memcpy(dst, value, strlen(value) + 1);
	return 0;
}

static int set_directory(char *dst, size_t size, const char *value, struct err *e)
{
	if (value[0] != '/' && value[0] != '\0')
		return err_set(e, "'%s' is not an absolute path", value);
	return set_text(dst, size, value, e);
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
	for (const struct choice *c = k->choices; c->word != NULL; c++) {
		if (strcmp(c->word, value) == 0) {
			*dst = c->value;
			return 0;
		}
	}
	return err_set(e, "'%s' is neither '%s' nor '%s'", value, k->choices[0].word, k->choices[1].word);
}

static int set_index(char *dst, const char *value, struct err *e)
{
	size_t n = strlen(value);

	while (n > 0 && value[n - 1] == '/')
		n--;
	if ((strncmp(value, "http://", 7) != 0 && strncmp(value, "https://", 8) != 0) || n < 8)
		return err_set(e, "'%s' is no URL of http or https", value);
	for (const char *p = value; *p != '\0'; p++)
		if (*p <= ' ' || *p > '~')
			return err_set(e, "'%s' is no URL", value);
	if (set_text(dst, LIMIT_URL + 1, value, e) < 0)
		return -1;
	dst[n] = '\0';
	return 0;
}

/* For the fetcher, who says what is wrong with the value.  It goes there as text. */
static int set_option(struct conf *c, const char *key, const char *value, struct err *e)
{
	struct conf_option *o = &c->options[c->option_count];

	if (c->option_count == LIMIT_OPTIONS_PASSED)
		return err_set(e, "more than %d lines about blocks", LIMIT_OPTIONS_PASSED);
	for (const char *p = value; *p != '\0'; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return err_set(e, "a control character");
	c->option_count++;
	o->key = key;
	return set_text(o->value, sizeof o->value, value, e);
}

static int set_key(struct conf *c, const struct key *k, const char *value, struct err *e)
{
	void *member = (char *)c + k->offset;

	switch (k->kind) {
	case TEXT: return set_text(member, k->size, value, e);
	case DIRECTORY: return set_directory(member, k->size, value, e);
	case NUMBER:
	case SIZE: return set_number(k, member, value, e);
	case WORD: return set_word(k, member, value, e);
	case DESTINATION:
		if (c->destination_count == CONF_DESTINATIONS || value[0] == '\0')
			return err_set(e, "more than %d, or empty", CONF_DESTINATIONS);
		return set_directory(c->destinations[c->destination_count++], LIMIT_PATH, value, e);
	case HOST:
		if (c->redirect_host_count == CONF_HOSTS)
			return err_set(e, "more than %d", CONF_HOSTS);
		return set_text(c->redirect_hosts[c->redirect_host_count++], LIMIT_HOST + 1, value, e);
	case INDEX:
		if (c->index_count == CONF_INDEXES)
			return err_set(e, "more than %d", CONF_INDEXES);
		return set_index(c->indexes[c->index_count++], value, e);
	case OPTION: return set_option(c, k->name, value, e);
	}
	return 0;
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
	name = trim(name);
	value = trim(value);
	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
		if (strcmp(keys[i].name, name) == 0)
			return set_key(c, &keys[i], value, e);
	return err_set(e, "there is no key '%s'", name);
}

int conf_read(struct conf *c, const char *path, struct err *e)
{
	char *text, *line, *rest;
	unsigned number = 0;
	struct err why;
	size_t len;
	int bad;

	if ((text = file_read(AT_FDCWD, path, LIMIT_CONF, &len, e)) == NULL)
		return e->code == ENOENT ? 0 : -1;
	if ((bad = strlen(text) != len)) /* what stands behind it would be passed over */
		(void)err_set(e, "%s: a NUL byte in it", path);
	if (bad || file_trusted(AT_FDCWD, path, e) < 0) {
		free(text);
		return -1;
	}
	for (rest = text; (line = strsep(&rest, "\n")) != NULL;) {
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
	char *end;

	if (user[0] < '0' || user[0] > '9')
		return 0;
	u = strtoul(user, &end, 10);
	if (*end != ':' || end[1] < '0' || end[1] > '9')
		return 0;
	g = strtoul(end + 1, &end, 10);
	if (*end != '\0' || u > UINT32_MAX - 1 || g > UINT32_MAX - 1)
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
