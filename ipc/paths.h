/* SPDX-License-Identifier: GPL-3.0-or-later
 * Both sides: where things were installed, from NARLOCK_LIBEXECDIR, NARLOCK_SYSCONFDIR, NARLOCK_VERSION and
 * NARLOCK_HELPER_USER, which the Makefile gives. */
#ifndef NARLOCK_PATHS_H
#define NARLOCK_PATHS_H

#define PATH_BROKER NARLOCK_LIBEXECDIR "/broker"
/* What guix-daemon's GUIX= names. */
#define PATH_GUIX NARLOCK_LIBEXECDIR "/guix"
/* Where policy/systemd puts the sockets of helpers: fetch.socket, resolve.socket. */
#define PATH_SOCKETS "/run/narlock"
#define PATH_CONF NARLOCK_SYSCONFDIR "/narlock/narlock.conf"

#endif
