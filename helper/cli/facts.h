/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): what is known of each process besides its system calls; made by policy/mkfacts when
 * narlock is built. */
#ifndef NARLOCK_CLI_FACTS_H
#define NARLOCK_CLI_FACTS_H

/* Lines "PROCESS KEY: TEXT", ended by NULL. */
extern const char *const facts[];

#endif
