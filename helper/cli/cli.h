/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): the program for people.  It starts the broker and reads what that says; it never parses a
 * byte that came from the network. */
#ifndef NARLOCK_CLI_H
#define NARLOCK_CLI_H

/* Exit codes of `narlock get' (narlock(8)); the other commands use OK, USAGE and OTHER as well. */
enum cli_exit {
	CLI_OK = 0,
	CLI_NOT_FOUND = 1,
	CLI_USAGE = 2,
	CLI_HASH_MISMATCH = 3,
	CLI_REFUSED = 4,
	CLI_OTHER = 5,
};

/* Exit codes of `narlock doctor' and of `broker --self-check'. */
enum cli_health { CLI_GOOD = 0, CLI_DEGRADED = 1, CLI_UNSAFE = 2 };

/* The commands.  argv[0] is the command's name; each returns the program's exit code. */
int get_main(int argc, char **argv);
int doctor_main(int argc, char **argv);
int audit_main(int argc, char **argv);
int show_main(int argc, char **argv);

#endif
