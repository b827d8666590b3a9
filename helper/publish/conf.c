/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): narlock-publish.conf: lines `key = value', comments, nothing else. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "helper/eris/pool.h"
#include "helper/publish/conf.h"

/* Below the state directory. */
#define OWN_CACHE "/nars"

#define TEXT(KEY, FIELD) { KEY, offsetof(struct conf, FIELD), sizeof(((struct conf *)0)->FIELD), 0, 0, 0 }
#define NUMBER(KEY, FIELD, MIN, MAX, DEFAULT) { KEY, offsetof(struct conf, FIELD), 0, MIN, MAX, DEFAULT }

static const struct key {
	const char *name;
	size_t at, size;         /* SIZE 0: a number */
	unsigned min, max, preset;
} keys[] = {
	TEXT("cache", cache),
	TEXT("state", state),
	TEXT("user", user),
	TEXT("upstream", upstream),
	TEXT("store-dir", store_dir),
	NUMBER("mirror-size", mirror_size, 0, 1000000000, 100000),  /* MB of a cache of our own; 0: no limit */
	NUMBER("priority", priority, 0, 1000, 100),
	NUMBER("ttl", ttl, 0, 365 * 86400, 0),                      /* seconds; 0: not told */
	NUMBER("negative-ttl", negative_ttl, 0, 86400, 0),          /* seconds; 0: not told */
	NUMBER("threads", threads, 1, POOL_MAX, 2),
	NUMBER("index-threads", index_threads, 1, POOL_MAX, 1),
	NUMBER("scan-interval", scan_interval, 1, 7 * 86400, 3600), /* seconds */
	NUMBER("connections", connections, 1, 100000, 12000),
	NUMBER("connections-per-address", connections_per_address, 0, 100000, 512), /* 0: no limit */
	NUMBER("header-bytes", header_bytes, 2048, 65536, 8192),
	NUMBER("idle-timeout", idle_timeout, 1, 3600, 60),          /* seconds without a byte */
	NUMBER("request-timeout", request_timeout, 1, 3600, 60),    /* seconds for a whole request */
	NUMBER("drain-timeout", drain_timeout, 0, 3600, 30),        /* seconds, at the end */
	NUMBER("min-rate", min_rate, 0, 1000000, 1000),             /* bytes a second of an answer; 0: no limit */
	NUMBER("requests-per-second", requests_per_second, 0, 1000000, 20000), /* of one address; 0: no limit */
	NUMBER("burst", burst, 1, 1000000, 40000),
	NUMBER("publish-again", publish_again, 0, 1, 1),
	NUMBER("publish-again-queue", again_queue, 1, 10000, 64),
	NUMBER("publish-again-per-hour", again_per_hour, 1, 100000, 120), /* of one address */
	NUMBER("push-rate", push_rate, 0, 100000, 0),               /* MB a second; 0: no limit */
	NUMBER("pin", pin, 0, 1, 1),
	NUMBER("push-all", push_all, 0, 1, 0),
	NUMBER("access-log", access_log, 0, 1, 0),
};

#define KEYS (sizeof keys / sizeof keys[0])

void
conf_defaults(struct conf *c)
{
	memset(c, 0, sizeof *c);
	strcpy(c->state, "/var/lib/narlock-publish");
	strcpy(c->user, "narlock-publish");
	strcpy(c->store_dir, "/gnu/store");
	for (size_t i = 0; i < KEYS; i++)
		if (keys[i].size == 0)
			*(unsigned *)(void *)((char *)c + keys[i].at) = keys[i].preset;
}

static const struct key *
find(const char *name)
{
	for (size_t i = 0; i < KEYS; i++)
		if (strcmp(keys[i].name, name) == 0)
			return &keys[i];
	return NULL;
}

int
conf_has(const char *key)
{
	return find(key) != NULL || strcmp(key, "listen") == 0 || strcmp(key, "ipfs") == 0;
}

static int
add_to_list(char *list, size_t size, unsigned *n, unsigned max, const char *key, const char *value,
    struct err *e)
{
	if (*n == max)
		return err_set(e, "more than %u lines `%s'", max, key);
	if (strlen(value) >= size || *value == '\0')
		return err_set(e, "%s: the value is empty or too long", key);
	strcpy(list + *n * size, value);
	++*n;
	return 0;
}

static int
set_number(struct conf *c, const struct key *k, const char *value, struct err *e)
{
	unsigned long n;
	char *end;

	if (k->max == 1 && strcmp(value, "yes") == 0)
		value = "1";
	if (k->max == 1 && strcmp(value, "no") == 0)
		value = "0";
	errno = 0;
	n = strtoul(value, &end, 10);
	if (*value < '0' || *value > '9' || *end != '\0' || errno != 0 || n < k->min || n > k->max) {
		if (k->max == 1)
			return err_set(e, "%s: yes or no, not `%.40s'", k->name, value);
		return err_set(e, "%s: a number from %u to %u, not `%.40s'", k->name, k->min, k->max, value);
	}
	*(unsigned *)(void *)((char *)c + k->at) = (unsigned)n;
	return 0;
}

int
conf_set(struct conf *c, const char *key, const char *value, struct err *e)
{
	const struct key *k = find(key);

	if (strcmp(key, "listen") == 0)
		return add_to_list(c->listen[0], sizeof c->listen[0], &c->listens, CONF_LISTEN, key, value,
		    e);
	if (strcmp(key, "ipfs") == 0)
		return add_to_list(c->ipfs[0], sizeof c->ipfs[0], &c->ipfses, CONF_IPFS, key, value, e);
	if (k == NULL)
		return err_set(e, "there is no key `%.60s'", key);
	if (k->size == 0)
		return set_number(c, k, value, e);
	if (strlen(value) >= k->size || (*value == '\0' && strcmp(key, "upstream") != 0))
		return err_set(e, "%s: the value is empty or too long", key);
	strcpy((char *)c + k->at, value);
	return 0;
}

static char *
trim(char *s)
{
	size_t n;

	s += strspn(s, " \t");
	n = strlen(s);
	while (n > 0 && (s[n - 1] == ' ' || s[n - 1] == '\t' || s[n - 1] == '\r'))
		s[--n] = '\0';
	return s;
}

static int
set_line(struct conf *c, char *line, struct err *e)
{
	char *equals;

	line = trim(line);
	if (*line == '\0' || *line == '#')
		return 0;
	equals = strchr(line, '=');
	if (equals == NULL)
		return err_set(e, "this is not `key = value'");
	*equals = '\0';
	return conf_set(c, trim(line), trim(equals + 1), e);
}

int
conf_read(struct conf *c, const char *path, struct err *e)
{
	char *text = malloc(LIMIT_CONF + 1), *line, *next;
	int fd = open(path, O_RDONLY | O_CLOEXEC), number = 1, rc = 0;
	ssize_t n = fd < 0 || text == NULL ? -1 : read(fd, text, LIMIT_CONF + 1);

	if (n < 0 || n > LIMIT_CONF)
		rc = n < 0 ? err_sys(e, errno, "%s", path) : err_set(e, "%s: more than %d bytes", path,
		    LIMIT_CONF);
	else if (memchr(text, '\0', (size_t)n) != NULL)
		rc = err_set(e, "%s: there is a NUL in it", path);
	else
		text[n] = '\0';
	if (fd >= 0)
		close(fd);
	for (line = text; rc == 0 && line != NULL; line = next, number++) {
		struct err why = { 0 };

		next = strchr(line, '\n');
		if (next != NULL)
			*next++ = '\0';
		if (set_line(c, line, &why) != 0)
			rc = err_set(e, "%s:%d: %s", path, number, why.text);
	}
	free(text);
	return rc;
}

void
conf_own_cache(struct conf *c)
{
	size_t n = strlen(c->state);

	memcpy(c->cache, c->state, n);
	strcpy(c->cache + n, OWN_CACHE);
}

int
conf_check(struct conf *c, struct err *e)
{
	if (c->cache[0] == '\0' && c->upstream[0] == '\0')
		return err_set(e,
		    "which cache? There is neither `cache = DIRECTORY' nor `upstream = URL' in the configuration");
	if (c->cache[0] == '\0') {
		if (strlen(c->state) + sizeof OWN_CACHE > sizeof c->cache)
			return err_set(e, "state: the value is too long");
		conf_own_cache(c);
		c->mirror = 1;
	}
	if (c->cache[0] != '/' || c->state[0] != '/')
		return err_set(e, "`cache' and `state' are absolute paths");
	if (c->store_dir[0] != '/' || strpbrk(c->store_dir, "\r\n") != NULL)
		return err_set(e, "`store-dir' is an absolute path");
	return 0;
}
