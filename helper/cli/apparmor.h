/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): the AppArmor profile that guix-daemon runs under, so that doctor tries what the daemon may, not what root may. */
#ifndef NARLOCK_CLI_APPARMOR_H
#define NARLOCK_CLI_APPARMOR_H

#include <stddef.h>
#include <sys/types.h>

/* apparmor_of_daemon(uid, text, size): write what confines the guix-daemon of user UID, as the kernel says it ("NAME (enforce)"),
 * with ", no_new_privs" where the daemon has that, and return 1; 0: no such process, not confined, or a kernel without AppArmor. */
int apparmor_of_daemon(uid_t uid, char *text, size_t size);

/* apparmor_enter(text): from now on this process is confined by what apparmor_of_daemon() wrote.  0, or -1 with errno. */
int apparmor_enter(const char *text);

#endif
