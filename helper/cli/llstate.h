/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): is Landlock there, and if not, why. */
#ifndef NARLOCK_CLI_LLSTATE_H
#define NARLOCK_CLI_LLSTATE_H

#include <stddef.h>

/* llstate_abi(error): the version that the kernel offers (1 and up); 0 when it offers none, then *ERROR is
 * the errno of the question. */
int llstate_abi(int *error);

/* llstate_explain(abi, error, lsm, text, size): what that means, in words, and what turns it on.  LSM is the
 * content of /sys/kernel/security/lsm, or "" when it cannot be read. */
void llstate_explain(int abi, int error, const char *lsm, char *text, size_t size);

#endif
