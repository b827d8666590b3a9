/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): what narlock.conf says about blocks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helper/common/logline.h"
#include "helper/fetch/blockconf.h"

#define DEFAULT_IPFS "/ip4/127.0.0.1/tcp/5001"
#define DEFAULT_BLOCK_MS 5000
#define MAX_BLOCK_SECONDS 600

struct blockconf *
blockconf_new(struct err *e)
{
	struct blockconf *c = calloc(1, sizeof *c);

	if (c == NULL)
		return (void)err_set(e, "no memory for the sources of blocks"), NULL;
	c->block_ms = DEFAULT_BLOCK_MS;
	c->seed = SEED_MISSING;
	c->publish_again = 1;
	return c;
}

void
blockconf_free(struct blockconf *c)
{
	free(c);
}

/* "ADDRESS" or "ADDRESS Bearer TOKEN" or "ADDRESS Basic BASE64". */
static int
add_source(struct blockconf *c, enum rpc_kind kind, const char *value, struct err *e)
{
	static const char *const names[] = { [RPC_IPFS] = "ipfs", [RPC_GATEWAY] = "gateway", [RPC_BLOCKS] = "blocks" };
	struct block_source *s = &c->sources[c->nsources];
	char address[LIMIT_OPTION_VALUE + 1], where[LIMIT_SOURCE + 1];
	const char *space = strchr(value, ' ');
	size_t len = space != NULL ? (size_t)(space - value) : strlen(value);

	if (c->nsources == BLOCKCONF_SOURCES)
		return err_set(e, "more than %d sources of blocks", BLOCKCONF_SOURCES);
	memset(s, 0, sizeof *s);
	memcpy(address, value, len);
	address[len] = '\0';
	while (space != NULL && *space == ' ')
		space++;
	if (rpc_source(&s->at, kind, address, space, e) != 0 || url_parse(&s->url, s->at.base, e) != 0)
		return -1;
	url_source(&s->url, where, sizeof where);
	(void)snprintf(s->name, sizeof s->name, "%s %.50s", names[kind], s->at.socket[0] != '\0' ? "socket" : where);
	c->nsources++;
	return 0;
}

static int
set_seconds(uint32_t *ms, const char *value, struct err *e)
{
	char *end;
	unsigned long v = strtoul(value, &end, 10);

	if (value[0] < '0' || value[0] > '9' || *end != '\0' || v < 1 || v > MAX_BLOCK_SECONDS)
		return err_set(e, "'%.40s' is not a number of seconds from 1 to %d", value, MAX_BLOCK_SECONDS);
	*ms = (uint32_t)v * 1000;
	return 0;
}

/* VALUE is one of N words: its number into *WHICH. */
static int
set_word(unsigned *which, const char *const *words, unsigned n, const char *value, struct err *e)
{
	for (*which = 0; *which < n; ++*which)
		if (strcmp(words[*which], value) == 0)
			return 0;
	return err_set(e, "'%.40s' is none of the words that are known there, as '%s'", value, words[0]);
}

int
blockconf_set(struct blockconf *c, const char *key, const char *value, struct err *e)
{
	static const char *const seeds[] = { [SEED_MISSING] = "missing", [SEED_ALL] = "all", [SEED_NONE] = "none" };
	static const char *const yes_no[] = { "no", "yes" };
	unsigned which;
	int guarded = guard_set(&c->guard, key, value, e);

	if (guarded != 0)
		return guarded > 0 ? 0 : -1;
	if (strcmp(key, "ipfs") == 0) {
		c->said_ipfs = 1;
		return value[0] == '\0' ? 0 : add_source(c, RPC_IPFS, value, e);
	}
	if (strcmp(key, "ipfs-gateway") == 0)
		return add_source(c, RPC_GATEWAY, value, e);
	if (strcmp(key, "block-server") == 0)
		return add_source(c, RPC_BLOCKS, value, e);
	if (strcmp(key, "block-timeout") == 0)
		return set_seconds(&c->block_ms, value, e);
	if (strcmp(key, "seed") == 0) {
		if (set_word(&which, seeds, 3, value, e) != 0)
			return -1;
		c->seed = (enum seed)which;
		return 0;
	}
	if (strcmp(key, "seed-private") == 0 || strcmp(key, "publish-again") == 0) {
		if (set_word(&which, yes_no, 2, value, e) != 0)
			return -1;
		*(key[0] == 's' ? &c->seed_private : &c->publish_again) = (uint8_t)which;
		return 0;
	}
	return err_set(e, "there is no such key");
}

int
blockconf_option(struct blockconf *c, const struct wire_msg *m, struct err *e)
{
	char key[LIMIT_OPTION_KEY + 1], value[LIMIT_OPTION_VALUE + 1];
	struct err why;

	if (c->options++ >= LIMIT_OPTIONS_PASSED)
		return err_set(e, "more than %d OPTION", LIMIT_OPTIONS_PASSED);
	wire_copy(key, sizeof key, m->text);
	wire_copy(value, sizeof value, m->text2);
	if (blockconf_set(c, key, value, &why) == 0)
		return 0;
	logline("narlock.conf, %s: %s; this line is left out", key, why.text);
	if (c->nbad < BLOCKCONF_BAD) {
		struct block_bad *b = &c->bad[c->nbad++];

		(void)snprintf(b->key, sizeof b->key, "%s", key);
		(void)snprintf(b->why, sizeof b->why, "narlock.conf: %.200s: this line is left out", why.text);
	}
	return 0;
}

void
blockconf_done(struct blockconf *c)
{
	struct err e;

	if (c->said_ipfs)
		return;
	c->default_ipfs = 1;
	(void)blockconf_set(c, "ipfs", DEFAULT_IPFS, &e);
}
