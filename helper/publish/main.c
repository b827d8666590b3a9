/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): narlock-publish COMMAND: read the command line and the configuration, and run the
 * command. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "helper/eris/block.h"
#include "helper/publish/catalog.h"
#include "helper/publish/confine.h"
#include "helper/publish/policies.h"
#include "helper/publish/push.h"
#include "helper/publish/serve.h"
#include "helper/publish/tool.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 };

#define CONF_PATH NARLOCK_SYSCONFDIR "/narlock/narlock-publish.conf"
/* Descriptors of a command that is not the server: the cache, the index and its companions, a nar for each
 * thread. */
#define NOFILE 256

static const char help[] =
    "Usage: narlock-publish COMMAND [NAME...] [--config FILE] [--KEY VALUE...]\n"
    "\n"
    "  serve                 the HTTP server, and what keeps the index up to date\n"
    "  index                 bring the index up to date, and end\n"
    "  push [NAME...]        nars of the cache into IPFS: all, or those of some store items\n"
    "  verify [--sample N]   encode every nar (or every N-th) again, and compare with the index\n"
    "  status                what is in the index\n"
    "\n"
    "  --config FILE   instead of " CONF_PATH "; `none': no file\n"
    "  --KEY VALUE     any key of the configuration, over what the file says, e.g. --cache DIR --state DIR\n"
    "  --help, --version\n"
    "\n"
    "See narlock-publish(8).\n";

/* What the command line says over the file, read again at every SIGHUP. */
struct arguments {
	const char *path;
	int n, names; /* NAMES: how many stand before the pairs */
	char **name;
	char **pairs; /* "--KEY", VALUE */
	unsigned sample;
};

static volatile sig_atomic_t stop;

static void
on_signal(int sig)
{
	(void)sig;
	stop = 1;
}

static int
configure(void *ctx, struct conf *conf, struct err *e)
{
	const struct arguments *a = ctx;
	int lists = 0;

	conf_defaults(conf);
	if (a->path != NULL && conf_read(conf, a->path, e) != 0)
		return -1;
	for (int i = 0; i + 1 < a->n; i += 2) {
		const char *key = a->pairs[i] + 2;

		if (!conf_has(key))
			continue;
		/* A list on the command line replaces that of the file. */
		if (strcmp(key, "listen") == 0 && (lists & 1) == 0)
			conf->listens = 0;
		if (strcmp(key, "ipfs") == 0 && (lists & 2) == 0)
			conf->ipfses = 0;
		lists |= strcmp(key, "listen") == 0 ? 1 : strcmp(key, "ipfs") == 0 ? 2 : 0;
		if (conf_set(conf, key, a->pairs[i + 1], e) != 0)
			return -1;
	}
	return conf_check(conf, e);
}

static int
parse(struct arguments *a, const char *command, int argc, char **argv, struct err *e)
{
	a->names = 0;
	a->name = argv;
	while (a->names < argc && strncmp(argv[a->names], "--", 2) != 0)
		a->names++;
	if (a->names > 0 && strcmp(command, "push") != 0)
		return err_set(e, "`%s' is not understood", argv[0]);
	argc -= a->names;
	argv += a->names;
	a->n = argc;
	a->pairs = argv;
	a->sample = 1;
	a->path = access(CONF_PATH, F_OK) == 0 ? CONF_PATH : NULL;
	for (int i = 0; i < argc; i += 2) {
		if (strncmp(argv[i], "--", 2) != 0)
			return err_set(e, "`%s' is not understood", argv[i]);
		if (i + 1 == argc)
			return err_set(e, "`%s' needs a value", argv[i]);
		if (strcmp(argv[i], "--config") == 0)
			a->path = strcmp(argv[i + 1], "none") == 0 ? NULL : argv[i + 1];
		else if (strcmp(argv[i], "--sample") == 0) {
			a->sample = (unsigned)strtoul(argv[i + 1], NULL, 10);
			if (a->sample == 0)
				return err_set(e, "--sample is a number above 0");
		} else if (!conf_has(argv[i] + 2))
			return err_set(e, "there is no option `%s'", argv[i]);
	}
	return 0;
}

static void
catch_signals(void)
{
	const struct sigaction sa = { .sa_handler = on_signal };

	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	/* A reader of standard output that leaves is an error of write(). */
	signal(SIGPIPE, SIG_IGN);
}

/* Everything but the server: one confined process that reads the cache and writes the index. */
static int
run_tool(const char *command, struct conf *conf, const struct arguments *a, struct err *e)
{
	int cache;

	catch_signals();
	if (confine_user(conf, e) != 0 || (cache = tool_open_cache(conf, e)) < 0 ||
	    confine_files(conf, NULL, 0, e) != 0 ||
	    (strcmp(command, "index") == 0 && tool_prepare(conf, e) != 0) ||
	    confine_calls(POLICY_OF(publish_index), NOFILE, e) != 0)
		return -1;
	if (strcmp(command, "index") == 0)
		return tool_index(conf, cache, &stop, e);
	if (strcmp(command, "verify") == 0)
		return tool_verify(conf, cache, a->sample, &stop, e);
	return tool_status(conf, e);
}

static int
run_push(struct conf *conf, const struct arguments *a, struct err *e)
{
	struct push *p = NULL;
	int cache, rc = -1;

	catch_signals();
	if (confine_user(conf, e) == 0 && (cache = tool_open_cache(conf, e)) >= 0 &&
	    (p = push_new(conf, cache, NULL, -1, &stop, e)) != NULL && confine_files(conf, NULL, 1, e) == 0 &&
	    confine_calls(POLICY_OF(publish_net), NOFILE, e) == 0 && push_open(p, e) == 0)
		rc = push_command(p, a->name, a->names, e);
	push_free(p);
	return rc;
}

static int
run(const char *command, const struct arguments *a, struct err *e)
{
	struct serve_options o = { .conf_path = a->path, .reload = configure };
	union {
		const struct arguments *in;
		void *out;
	} ctx = { .in = a };

	if (configure(ctx.out, &o.conf, e) != 0 || block_init(e) != 0)
		return -1;
	catalog_start();
	umask(027);
	/* The C library reads the time zone even for dates in UTC. */
	tzset();
	o.ctx = ctx.out;
	if (strcmp(command, "serve") == 0)
		return serve_run(&o, e);
	if (syscall(SYS_close_range, 3u, ~0u, 0) != 0)
		return err_sys(e, errno, "cannot close descriptors");
	if (strcmp(command, "push") == 0)
		return run_push(&o.conf, a, e);
	return run_tool(command, &o.conf, a, e);
}

int
main(int argc, char **argv)
{
	static const char *const commands[] = { "serve", "index", "push", "verify", "status" };
	const char *command = NULL;
	struct arguments a;
	struct err e = { 0 };
	int rc;

	if (argc == 2 && strcmp(argv[1], "--version") == 0)
		return puts("narlock-publish " NARLOCK_VERSION) < 0 ? EXIT_FAILED : 0;
	if (argc == 2 && strcmp(argv[1], "--help") == 0)
		return fputs(help, stdout) < 0 ? EXIT_FAILED : 0;
	for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof commands[0]; i++)
		if (strcmp(argv[1], commands[i]) == 0)
			command = commands[i];
	if (command == NULL) {
		if (argc > 1)
			fprintf(stderr, "narlock-publish: there is no command `%s'\n", argv[1]);
		fputs(help, stderr);
		return EXIT_USAGE;
	}
	if (parse(&a, command, argc - 2, argv + 2, &e) != 0) {
		fprintf(stderr, "narlock-publish: %s\n", e.text);
		return EXIT_USAGE;
	}
	rc = run(command, &a, &e);
	if (rc >= 0 && fflush(stdout) != 0)
		rc = err_sys(&e, errno, "standard output");
	if (rc < 0)
		fprintf(stderr, "narlock-publish: %s: %s\n", command, e.text);
	return rc == 0 ? 0 : EXIT_FAILED;
}
