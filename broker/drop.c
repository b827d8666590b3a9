/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: giving up rights, for the spawner, its children and the broker itself. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "broker/drop.h"
#include "broker/file.h"
#include "ipc/limits.h"
#include "ipc/text.h"

/* Set all three sets to the given capabilities (permitted and effective; inheritable stays empty). */
static int set_caps(int n, const cap_value_t *keep)
{
	cap_t c = cap_init(); /* all sets empty */
	int rc = -1;

	if (c == NULL)
		return -1;
	if ((n == 0 || (cap_set_flag(c, CAP_PERMITTED, n, keep, CAP_SET) == 0 &&
			cap_set_flag(c, CAP_EFFECTIVE, n, keep, CAP_SET) == 0)) && cap_set_proc(c) == 0)
		rc = 0;
	(void)cap_free(c);
	return rc;
}

/* Empty the bounding set: afterwards no exec can bring a capability back.  It takes CAP_SETPCAP; without it (a daemon
 * that is not root) no_new_privs has to do. */
static int drop_bounding(void)
{
	for (cap_value_t c = 0; prctl(PR_CAPBSET_READ, c, 0, 0, 0) >= 0; c++)
		if (prctl(PR_CAPBSET_READ, c, 0, 0, 0) == 1 && prctl(PR_CAPBSET_DROP, c, 0, 0, 0) < 0)
			return errno == EPERM ? 1 : -1;
	return 0;
}

static int clear_ambient(void)
{
	return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
}

int drop_to_spawner(int keep)
{
	static const cap_value_t needed[] = { CAP_SETUID, CAP_SETGID, CAP_KILL };

	/* The bounding set is emptied here, once, for all children; a child checks that it is. */
	if (clear_ambient() < 0 || drop_bounding() < 0)
		return -1;
	return keep ? set_caps(3, needed) : set_caps(0, NULL);
}

int drop_rights(void)
{
	if (drop_bounding() < 0 || clear_ambient() < 0 || set_caps(0, NULL) < 0)
		return -1;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

/* Believe the kernel, not the return values: no id is left to go back to. */
static int verify_user(uint32_t uid, uint32_t gid)
{
	uid_t r, e, s;
	gid_t rg, eg, sg;

	if (getresuid(&r, &e, &s) < 0 || getresgid(&rg, &eg, &sg) < 0 || getgroups(0, NULL) != 0)
		return -1;
	if (r != uid || e != uid || s != uid || rg != gid || eg != gid || sg != gid)
		return -1;
	if (setresuid(0, 0, 0) == 0 || setresgid(0, 0, 0) == 0 || seteuid(0) == 0)
		return -1;
	return 0;
}

int drop_to_user(uint32_t uid, uint32_t gid)
{
	/* The bounding set first: if the spawner could not empty it, another uid must not be claimed.  Groups before gid
	 * before uid, since each takes a right that the next one ends. */
	if (uid == 0 || gid == 0 || drop_bounding() != 0 || clear_ambient() < 0)
		return -1;
	if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return -1;
	if (set_caps(0, NULL) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	if (verify_user(uid, gid) < 0) {
		errno = EPERM;
		return -1;
	}
	return 0;
}

/* --- User and mount namespace ---------------------------------------------------------------------------- */

static int write_map(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), rc;

	if (fd < 0)
		return -1;
	rc = file_write_all(fd, text, strlen(text));
	close(fd);
	return rc;
}

/* One uid and one gid exist inside: ours.  Being no root inside, exec clears all capabilities there, too. */
static int map_ids(uint32_t uid, uint32_t gid)
{
	char line[64];

	if (write_map("/proc/self/setgroups", "deny") < 0)
		return -1;
	(void)snprintf(line, sizeof line, "%u %u 1", uid, uid);
	if (write_map("/proc/self/uid_map", line) < 0)
		return -1;
	(void)snprintf(line, sizeof line, "%u %u 1", gid, gid);
	return write_map("/proc/self/gid_map", line);
}

/* What a helper needs to start and to resolve names: libraries, CA certificates, resolver configuration. */
static const char *const shown[] = { "/usr", "/lib", "/lib64", "/lib32", "/bin", "/etc/ssl", "/etc/ca-certificates",
	"/etc/pki", "/etc/ld.so.cache", "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf",
	"/etc/gai.conf", "/etc/services", "/etc/localtime", "/run/systemd/resolve", "/run/nscd" };

/* Make the directories of PATH below the working directory, and the last part as a file or a directory. */
static int make_place(const char *path, int directory)
{
	char part[LIMIT_PATH];
	int fd;

	for (size_t i = 1; path[i] != '\0'; i++) {
		if (path[i] != '/')
			continue;
		(void)snprintf(part, sizeof part, "%.*s", (int)i - 1, path + 1);
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return -1;
	}
	if (directory)
		return mkdir(path + 1, 0755) < 0 && errno != EEXIST ? -1 : 0;
	if ((fd = open(path + 1, O_CREAT | O_WRONLY | O_CLOEXEC, 0444)) < 0)
		return -1;
	return close(fd);
}

/* Show PATH at the same place below the working directory; what does not exist is left out. */
static int show(const char *path)
{
	char target[LIMIT_PATH];
	struct stat st;
	ssize_t n;

	if (lstat(path, &st) < 0)
		return 0;
	if (S_ISLNK(st.st_mode) && path[1] != 'e') { /* /lib -> usr/lib; what is below /etc is mounted as a file */
		if ((n = readlink(path, target, sizeof target - 1)) < 0)
			return -1;
		target[n] = '\0';
		return symlink(target, path + 1);
	}
	if (stat(path, &st) < 0)
		return 0;
	if (make_place(path, S_ISDIR(st.st_mode)) < 0)
		return -1;
	return mount(path, path + 1, NULL, MS_BIND | MS_REC, NULL);
}

static int set_read_only(void)
{
	struct { uint64_t set, clr, propagation, userns; } attr = { MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID |
								    MOUNT_ATTR_NODEV, 0, 0, 0 };

	return (int)syscall(SYS_mount_setattr, AT_FDCWD, ".", AT_RECURSIVE, &attr, sizeof attr);
}

/* A small tmpfs becomes the root, with the places of `shown' in it. */
static int change_root(const char *const hidden[2])
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("narlock", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=0755") < 0 || chdir("/tmp") < 0)
		return -1;
	for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++) {
		if (text_below(hidden[0], shown[i]) || text_below(hidden[1], shown[i])) {
			errno = EXDEV; /* a store below /usr: this way cannot hide it */
			return -1;
		}
		if (show(shown[i]) < 0)
			return -1;
	}
	if (set_read_only() < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0)
		return -1;
	return chdir("/");
}

int drop_to_namespace(uint32_t uid, uint32_t gid, const char *const hidden[2], int no_network)
{
	int flags = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | (no_network ? CLONE_NEWNET : 0);

	/* The spawner is not dumpable, and then /proc/self belongs to root: the id maps could not be written. */
	(void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	if (clear_ambient() < 0 || unshare(flags) < 0 || map_ids(uid, gid) < 0 || change_root(hidden) < 0)
		return -1;
	return drop_rights();
}
