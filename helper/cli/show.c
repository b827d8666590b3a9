/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (cli): narlock policy: the compiled-in system call policies, for people. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "helper/cli/cli.h"
#include "helper/cli/facts.h"
#include "policy/policy.h"

static const char help[] =
    "Usage: narlock policy [PROCESS] [--pfc]\n"
    "\n"
    "Print what PROCESS (broker, spawner, fetch, resolve, unpack, eris, publish, publish_net, publish_index;\n"
    "without a name: all) runs as: uid, capabilities, namespaces, Landlock rules, limits, libraries, lines of code; and\n"
    "the system calls that are compiled into it, with their reasons; or with --pfc the rules that libseccomp\n"
    "made of these.\n";

/* Without a filter: NULL. */
static const struct process {
	const char *name;
	const struct policy_text *text;
} processes[] = {
	{ "broker", &policy_text_broker },
	{ "spawner", NULL },
	{ "fetch", &policy_text_fetch },
	{ "resolve", &policy_text_resolve },
	{ "unpack", &policy_text_unpack },
	{ "eris", &policy_text_eris },
	{ "publish", &policy_text_publish },
	{ "publish_net", &policy_text_publish_net },
	{ "publish_index", &policy_text_publish_index },
};

static int print_facts(const char *name)
{
	size_t n = strlen(name);

	for (const char *const *line = facts; *line != NULL; line++)
		if (strncmp(*line, name, n) == 0 && (*line)[n] == ' ' && printf("# %s\n", *line + n + 1) < 0)
			return CLI_OTHER;
	return CLI_OK;
}

static int print(const struct process *p, int pfc)
{
	const struct policy_text *text = p->text;
	const char *const *line;

	if (printf("# %s\n", p->name) < 0 || (!pfc && print_facts(p->name) != CLI_OK))
		return CLI_OTHER;
	if (text == NULL)
		return putchar('\n') < 0 ? CLI_OTHER : CLI_OK;
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
	for (size_t i = 0; i < sizeof processes / sizeof processes[0] && code == CLI_OK; i++) {
		if (wanted != NULL && strcmp(wanted, processes[i].name) != 0)
			continue;
		code = print(&processes[i], pfc);
		shown++;
	}
	if (shown == 0) {
		fprintf(stderr, "narlock: there is no process `%s'\n", wanted);
		return CLI_USAGE;
	}
	return code == CLI_OK && fflush(stdout) == 0 ? CLI_OK : CLI_OTHER;
}
