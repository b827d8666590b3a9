/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: narlock.conf of any bytes.  What is accepted keeps its bounds. */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_path(const char *p, size_t room)
{
	if (memchr(p, '\0', room) == NULL || (p[0] != '\0' && p[0] != '/'))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;
	static char path[64];
	struct conf c;
	struct err e = { 0, "" };

	if (fd < 0) {
		fd = memfd_create("conf", MFD_CLOEXEC);
		(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		if (fd < 0 || fchmod(fd, 0600) < 0)
			abort();
	}
	if (ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
		abort();
	conf_defaults(&c, "/var/guix");
	if (conf_read(&c, path, &e) < 0) {
		if (e.text[0] == '\0')
			abort();
		return 0;
	}
	check_path(c.state_directory, sizeof c.state_directory);
	check_path(c.spool_directory, sizeof c.spool_directory);
	check_path(c.audit_log, sizeof c.audit_log);
	check_path(c.ca_bundle, sizeof c.ca_bundle);
	if (c.destination_count > CONF_DESTINATIONS || c.redirect_host_count > CONF_HOSTS ||
	    c.stall_seconds < 1 || c.stall_seconds > 3600 || c.connect_seconds < 1 || c.connect_seconds > 600 ||
	    c.zstd_window > 1ULL << 31 || c.lzip_dictionary > 512u << 20 || c.tls_verify > 1 || c.sync_item > 1 ||
	    c.require_landlock > 1 || c.require_less > 1)
		abort();
	for (unsigned i = 0; i < c.destination_count; i++)
		check_path(c.destinations[i], sizeof c.destinations[i]);
	for (unsigned i = 0; i < c.redirect_host_count; i++)
		if (memchr(c.redirect_hosts[i], '\0', sizeof c.redirect_hosts[i]) == NULL)
			abort();
	return 0;
}
