/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): the AppArmor profile that guix-daemon runs under.
 * Files: /proc/PID/attr/apparmor/current, Documentation/admin-guide/LSM/apparmor.rst and apparmor(7); libapparmor does the same. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "helper/cli/apparmor.h"

static const char daemon_name[] = "guix-daemon";
static const char no_new_privs[] = ", no_new_privs";

/* The beginning of /proc/PID/NAME as text; empty where there is nothing. */
static void read_text(const char *pid, const char *name, char *text, size_t size)
{
	char path[320];
	ssize_t n;
	int fd;

	text[0] = '\0';
	(void)snprintf(path, sizeof path, "/proc/%s/%s", pid, name);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
		return;
	n = read(fd, text, size - 1);
	close(fd);
	text[n < 0 ? 0 : n] = '\0';
}

/* Its first line or word; the length of that, 0 where there is nothing. */
static size_t read_first(const char *pid, const char *name, char *text, size_t size)
{
	read_text(pid, name, text, size);
	text[strcspn(text, "\n")] = '\0';
	return strlen(text);
}

/* Any user can give a process that name: it counts only when it is the daemon's user's. */
static int is_daemon(const char *pid, uid_t uid)
{
	char path[320], command[512];
	const char *base;
	struct stat st;

	(void)snprintf(path, sizeof path, "/proc/%s", pid);
	if (stat(path, &st) < 0 || st.st_uid != uid || read_first(pid, "cmdline", command, sizeof command) == 0)
		return 0;
	base = strrchr(command, '/');
	return strcmp(base != NULL ? base + 1 : command, daemon_name) == 0;
}

/* Does PID have no_new_privs?  The kernel then lets it change to no other profile than one within its own. */
static int has_no_new_privs(const char *pid)
{
	char text[4096];

	read_text(pid, "status", text, sizeof text);
	return strstr(text, "\nNoNewPrivs:\t1\n") != NULL;
}

int apparmor_of_daemon(uid_t uid, char *text, size_t size)
{
	DIR *d = opendir("/proc");
	const struct dirent *entry;
	int found = 0;

	while (d != NULL && !found && (entry = readdir(d)) != NULL) {
		found = entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && is_daemon(entry->d_name, uid) &&
			read_first(entry->d_name, "attr/apparmor/current", text, size) > 0 && strcmp(text, "unconfined") != 0;
		if (found && has_no_new_privs(entry->d_name) && strlen(text) + sizeof no_new_privs <= size)
			memcpy(text + strlen(text), no_new_privs, sizeof no_new_privs);
	}
	if (d != NULL)
		(void)closedir(d);
	return found;
}

int apparmor_enter(const char *text)
{
	int fd = open("/proc/self/attr/apparmor/current", O_WRONLY | O_CLOEXEC), n;
	char command[600];
	ssize_t done;

	if (fd < 0)
		return -1;
	n = snprintf(command, sizeof command, "changeprofile %.*s", (int)strcspn(text, " "), text);
	done = write(fd, command, (size_t)n);
	close(fd);
	if (done != n)
		return -1;
	return strstr(text, no_new_privs) != NULL ? prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) : 0;
}
