/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: any bytes restored below a directory in /dev/shm: nothing appears beside the destination, and
 * nothing stays after a failure.
 *
 * Random bytes are nearly never a nar, so an input is also read as small commands that build one. */
#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <gcrypt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/remove.h"
#include "broker/restore.h"
#include "tests/unit/nar_builder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char root[64];

static void remove_root(void)
{
	(void)rmdir(root);
}

static int open_root(void)
{
	int fd;

	(void)gcry_check_version(NULL);
	(void)gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
	(void)snprintf(root, sizeof root, "/dev/shm/narlock-fuzz-XXXXXX");
	if (mkdtemp(root) == NULL)
		abort();
	(void)atexit(remove_root);
	fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd == -1)
		abort();
	return fd;
}

static unsigned entries(int fd)
{
	DIR *d = fdopendir(openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	unsigned n = 0;

	assert(d != NULL);
	while (readdir(d) != NULL)
		n++;
	(void)closedir(d);
	return n - 2;
}

/* Two bytes a command: what, and the name.  Names mostly increase, sometimes not; some are bad. */
static void build(struct nar_builder *b, const uint8_t *data, size_t size)
{
	static const char *const names[] = { "..", "a/b", "", ".", "/", "link", "out" };
	unsigned depth = 1, serial = 0;
	char name[32], fill[9000];

	nb_magic(b);
	nb_dir(b);
	for (size_t i = 0; i + 1 < size; i += 2) {
		uint8_t arg = data[i + 1];

		if ((data[i] & 7) == 7 && depth > 1) {
			nb_dir_end(b);
			nb_entry_end(b);
			depth--;
			continue;
		}
		(void)snprintf(name, sizeof name, "n%06u", arg == 200 ? serial : ++serial);
		nb_entry(b, arg > 248 ? names[arg - 249] : name);
		memset(fill, arg, sizeof fill);
		switch (data[i] & 7) {
		case 0: case 1: case 2:
			nb_dir(b);
			depth++;
			continue;
		case 3:
			nb_link(b, data[i] & 8 ? "/" : "../..");
			break;
		case 4:
			nb_file(b, fill, sizeof fill, data[i] & 8);
			break;
		default:
			nb_file(b, fill, arg, data[i] & 8);
			break;
		}
		nb_entry_end(b);
	}
	while (--depth > 0) {
		nb_dir_end(b);
		nb_entry_end(b);
	}
	nb_dir_end(b);
}

static void try(int fd, const uint8_t *nar, size_t size, unsigned threads)
{
	int links;
	struct restore_options options = { .threads = threads };
	struct err e = { 0 };
	struct stat st;

	(void)mkdirat(fd, ".links", 0700);
	links = openat(fd, ".links", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	options.links_fd = links;
	if (restore_nar(fd, "item", nar, size, &options, NULL, &e) == 0) {
		assert(entries(fd) == 2 && fstatat(fd, "item", &st, AT_SYMLINK_NOFOLLOW) == 0);
		assert(st.st_mtim.tv_sec == 1);
		assert(remove_tree(fd, "item", &e) == 0);
	}
	assert(entries(fd) == 1);
	assert(remove_tree(fd, ".links", &e) == 0 && entries(fd) == 0);
	(void)close(links);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;
	struct nar_builder b = { 0 };

	if (fd == -1)
		fd = open_root();
	try(fd, data, size, 1);
	build(&b, data, size);
	try(fd, b.data, b.len, size % 3);
	free(b.data);
	return 0;
}
