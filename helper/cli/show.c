/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): narlock policy: the compiled-in system call policies, for people. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "helper/cli/cli.h"
#include "policy/policy.h"

static const char help[] =
    "Usage: narlock policy [PROCESS] [--pfc]\n"
    "\n"
    "Print the system call policy that is compiled into PROCESS (broker, fetch, resolve, unpack; without a\n"
    "name: all), or with --pfc the rules that libseccomp made of it.\n";

static const struct policy_text *const texts[] = {
	&policy_text_broker,
	&policy_text_eris,
	&policy_text_fetch,
	&policy_text_resolve,
	&policy_text_unpack,
};

static int print(const struct policy_text *text, int pfc)
{
	const char *const *line;

	if (printf("# %s\n", text->name) < 0)
		return CLI_OTHER;
	for (line = pfc ? text->pfc : text->source; *line != NULL; line++)
		if (puts(*line) < 0)
			return CLI_OTHER;
	return CLI_OK;
}

static int usage(void)
{
	fputs(help, stderr);
	return CLI_USAGE;
}

int show_main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "pfc", no_argument, NULL, 'p' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int c, pfc = 0, code = CLI_OK;
	const char *wanted;
	size_t shown = 0;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (c == 'h')
			return fputs(help, stdout) < 0 ? CLI_OTHER : CLI_OK;
		if (c != 'p')
			return usage();
		pfc = 1;
	}
	if (argc - optind > 1)
		return usage();
	wanted = argv[optind]; /* NULL: all */
	for (size_t i = 0; i < sizeof texts / sizeof texts[0] && code == CLI_OK; i++) {
		if (wanted != NULL && strcmp(wanted, texts[i]->name) != 0)
			continue;
		code = print(texts[i], pfc);
		shown++;
	}
	if (shown == 0) {
		fprintf(stderr, "narlock: there is no process `%s'\n", wanted);
		return CLI_USAGE;
	}
	return code == CLI_OK && fflush(stdout) == 0 ? CLI_OK : CLI_OTHER;
}
