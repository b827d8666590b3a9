/* SPDX-License-Identifier: GPL-3.0-or-later
 * Both sides: where things were installed.  The Makefile gives the real values; these only let a single file be
 * compiled by hand. */
#ifndef NARLOCK_PATHS_H
#define NARLOCK_PATHS_H

#ifndef NARLOCK_LIBEXECDIR
#define NARLOCK_LIBEXECDIR "/usr/local/libexec/narlock"
#endif
#ifndef NARLOCK_SYSCONFDIR
#define NARLOCK_SYSCONFDIR "/etc"
#endif
#ifndef NARLOCK_VERSION
#define NARLOCK_VERSION "unknown"
#endif
#ifndef NARLOCK_HELPER_USER
#define NARLOCK_HELPER_USER "narlock"
#endif

#define PATH_BROKER NARLOCK_LIBEXECDIR "/broker"
/* What guix-daemon's GUIX= names. */
#define PATH_GUIX NARLOCK_LIBEXECDIR "/guix"
/* Where policy/systemd puts the sockets of helpers: fetch.socket, resolve.socket. */
#define PATH_SOCKETS "/run/narlock"
#define PATH_CONF NARLOCK_SYSCONFDIR "/narlock/narlock.conf"

#endif
