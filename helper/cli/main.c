/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): narlock COMMAND: find the command and run it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "helper/cli/cli.h"
#include "ipc/paths.h"

/* As the shell: the program could not be run. */
#define EXIT_CANNOT_RUN 127

static const char help[] =
    "Usage: narlock COMMAND [ARGUMENT...]\n"
    "\n"
    "  get STORE-PATH DEST    fetch one store item into DEST, by the way guix-daemon takes\n"
    "  doctor                 check the configuration and every layer of the sandbox\n"
    "  audit [FILE...]        read, sum up and verify the audit log\n"
    "  policy [PROCESS]       print the system calls that a process may make\n"
    "  substitute ...         run the broker, as guix-daemon does\n"
    "\n"
    "  --help, --version      also `narlock COMMAND --help'\n"
    "\n"
    "See narlock(8) and narlock.conf(5).\n";

/* Descriptors are left as they are: the daemon's are 0, 1, 2 and 4. */
static int substitute_main(int argc, char **argv)
{
	static char program[] = PATH_BROKER;

	(void)argc;
	argv[0] = program;
	execv(PATH_BROKER, argv);
	fprintf(stderr, "narlock: cannot run %s: %s\n", PATH_BROKER, strerror(errno));
	return EXIT_CANNOT_RUN;
}

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ "substitute", substitute_main },
	{ "get", get_main },
	{ "doctor", doctor_main },
	{ "audit", audit_main },
	{ "policy", show_main },
};

static int word(const char *s, const char *a, const char *b)
{
	return strcmp(s, a) == 0 || strcmp(s, b) == 0;
}

/* Whoever starts us without 0, 1 or 2 must not find our pipes there. */
static int fill_standard_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fputs(help, stderr);
		return CLI_USAGE;
	}
	for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
		if (strcmp(argv[1], commands[i].name) != 0)
			continue;
		if (commands[i].run != substitute_main && fill_standard_descriptors() < 0)
			return CLI_OTHER;
		return commands[i].run(argc - 1, argv + 1);
	}
	if (word(argv[1], "--version", "-V"))
		return puts("narlock " NARLOCK_VERSION) < 0 ? CLI_OTHER : CLI_OK;
	if (word(argv[1], "--help", "-h"))
		return fputs(help, stdout) < 0 ? CLI_OTHER : CLI_OK;
	fprintf(stderr, "narlock: there is no command `%s' (try narlock --help)\n", argv[1]);
	return CLI_USAGE;
}
