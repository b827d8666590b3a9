/* SPDX-License-Identifier: GPL-3.0-or-later
 * Both sides: the names of the layers around a helper, as bits of `layers' in SEALED (PROTOCOL.md). */
#ifndef NARLOCK_LAYERS_H
#define NARLOCK_LAYERS_H

#define LAYER_UID 0x0001u            /* all four uids are one and not 0, all four gids likewise */
#define LAYER_NO_GROUPS 0x0002u      /* no supplementary groups */
#define LAYER_NO_CAPS 0x0004u        /* all five capability sets are empty */
#define LAYER_NO_NEW_PRIVS 0x0008u   /* no program that is executed gains a right */
#define LAYER_SECCOMP 0x0010u        /* the policy of this helper is loaded */
#define LAYER_RLIMITS 0x0020u        /* no processes, no core, bounded files, sizes and memory */
#define LAYER_NOT_DUMPABLE 0x0040u   /* no ptrace and no /proc/PID/mem by its own uid */
#define LAYER_PDEATHSIG 0x0080u      /* it dies with the spawner */
#define LAYER_LANDLOCK_FS 0x0100u    /* Landlock: no file but the listed ones can be opened */
#define LAYER_LANDLOCK_NET 0x0200u   /* Landlock ABI 4: no TCP bind; where asked for, no TCP connect either */
#define LAYER_LANDLOCK_SCOPE 0x0400u /* Landlock ABI 6: no abstract sockets, no signals outwards */
/* What the spawner arranges before exec; a helper does not claim these by itself. */
#define LAYER_USERNS 0x1000u
#define LAYER_MOUNTNS 0x2000u

/* Of those, the ones that the broker can read from the kernel (/proc/PID/status); the others are claims. */
#define LAYERS_PROVABLE (LAYER_UID | LAYER_NO_GROUPS | LAYER_NO_CAPS | LAYER_NO_NEW_PRIVS | LAYER_SECCOMP)

#endif
