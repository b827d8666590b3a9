/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: one inode for equal files, through STORE/.links, as guix-daemon does it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/dedup.h"
#include "broker/nixbase32.h"

/* Hash TOKEN as it stands in a nar: length, bytes, zeros to a multiple of 8. */
static void hash_token(gcry_md_hd_t md, const char *token)
{
	uint8_t text[32] = { 0 };
	size_t len = strlen(token);

	text[0] = (uint8_t)len;
	memcpy(text + 8, token, len);
	gcry_md_write(md, text, 8 + ((len + 7) & ~(size_t)7));
}

void dedup_name(gcry_md_hd_t md, const uint8_t *data, uint64_t size, bool executable, char name[DEDUP_NAME])
{
	static const uint8_t zero[8];
	uint8_t length[8];

	for (unsigned i = 0; i < 8; i++)
		length[i] = (uint8_t)(size >> (8 * i));
	gcry_md_reset(md);
	hash_token(md, "nix-archive-1");
	hash_token(md, "(");
	hash_token(md, "type");
	hash_token(md, "regular");
	if (executable) {
		hash_token(md, "executable");
		hash_token(md, "");
	}
	hash_token(md, "contents");
	gcry_md_write(md, length, 8);
	gcry_md_write(md, data, (size_t)size);
	gcry_md_write(md, zero, (size_t)(-size & 7));
	hash_token(md, ")");
	nixbase32_encode(name, gcry_md_read(md, GCRY_MD_SHA256), 32);
}

/* Only a file that looks finished is shared: one with another size, mode or time was damaged or is
 * foreign. */
static bool usable(int links_fd, const char *name, uint64_t size, mode_t mode)
{
	struct stat st;

	return fstatat(links_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	       (st.st_mode & 07777) == mode && (uint64_t)st.st_size == size && st.st_mtim.tv_sec == 1 &&
	       st.st_mtim.tv_nsec == 0;
}

bool dedup_take(int links_fd, const char *name, uint64_t size, mode_t mode, int dir_fd, const char *leaf)
{
	return usable(links_fd, name, size, mode) && linkat(links_fd, name, dir_fd, leaf, 0) == 0;
}

bool dedup_give(int links_fd, const char *name, uint64_t size, mode_t mode, int dir_fd, const char *leaf,
                uint64_t serial)
{
	char temporary[64];

	if (linkat(dir_fd, leaf, links_fd, name, 0) == 0 || errno != EEXIST ||
	    !usable(links_fd, name, size, mode))
		return false;
	/* rename() replaces LEAF in one step, so that LEAF is never missing, even when links run out. */
	(void)snprintf(temporary, sizeof temporary, ".tmp-link-%d-%llu", (int)getpid(),
	               (unsigned long long)serial);
	if (linkat(links_fd, name, links_fd, temporary, 0) == -1)
		return false;
	if (renameat(links_fd, temporary, dir_fd, leaf) == 0)
		return true;
	(void)unlinkat(links_fd, temporary, 0);
	return false;
}
