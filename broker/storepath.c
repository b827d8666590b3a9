/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: the syntax of store paths. */
#include "broker/storepath.h"

#include <string.h>

#include "broker/nixbase32.h"
#include "ipc/limits.h"

static int name_char_ok(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	    (c != '\0' && strchr("+-._?=", c) != NULL);
}

int storepath_base_ok(const char *base, size_t len)
{
	if (len < STOREPATH_HASH + 2 || len > LIMIT_STORE_NAME)
		return 0;
	if (nixbase32_decode(NULL, 20, base, STOREPATH_HASH) < 0)
		return 0;
	if (base[STOREPATH_HASH] != '-' || base[STOREPATH_HASH + 1] == '.')
		return 0;
	for (size_t i = STOREPATH_HASH + 1; i < len; i++)
		if (!name_char_ok(base[i]))
			return 0;
	return 1;
}

const char *storepath_base(const char *path, size_t len, const char *store_dir)
{
	size_t dir = strlen(store_dir);

	if (len <= dir + 1 || memcmp(path, store_dir, dir) != 0 || path[dir] != '/')
		return NULL;
	return storepath_base_ok(path + dir + 1, len - dir - 1) ? path + dir + 1 : NULL;
}

int storepath_check(const char *path, const char *store_dir)
{
	return storepath_base(path, strlen(path), store_dir) ? 0 : -1;
}
