/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): run `broker --self-check' and pass on what it finds. */
#ifndef NARLOCK_CLI_SELFCHECK_H
#define NARLOCK_CLI_SELFCHECK_H

#include <stdbool.h>

#include "helper/cli/report.h"

/* selfcheck_finding(line): what a line "KEY VALUE..." of the self-check amounts to.  Lines of an unknown kind
 * are notes, so that an older doctor can read a newer broker. */
enum finding selfcheck_finding(const char *line);

/* selfcheck_wrapper(program, profile, r): does PROGRAM, which is to be guix-daemon's GUIX=, lead to the broker?  It is run as
 * the daemon does, for its version only, and under the daemon's AppArmor PROFILE (apparmor.h; NULL: none). */
void selfcheck_wrapper(const char *program, const char *profile, struct report *r);

/* selfcheck_run(program, options, trace, profile, r): run PROGRAM --self-check --urls (with TRACE also --trace), with
 * _NIX_OPTIONS=OPTIONS (NULL: none), under PROFILE as above,
 * report its lines and its exit code. */
void selfcheck_run(const char *program, const char *options, bool trace, const char *profile, struct report *r);

#endif
