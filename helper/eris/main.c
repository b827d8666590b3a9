/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): narlock-eris COMMAND: read the command line and run it. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "helper/eris/block.h"
#include "helper/eris/pool.h"
#include "helper/eris/serve.h"
#include "helper/eris/tool.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 };

static const char help[] =
    "Usage: narlock-eris COMMAND [OPTION...] ARGUMENT\n"
    "\n"
    "  encode [--block-size 1k|32k] [--secret HEX] [--store DIR [--manifest [--narinfo FILE]]] FILE|-\n"
    "                                                                     print the URN\n"
    "  decode --store DIR [--offset N] [--length N] URN                   write the content\n"
    "  blocks [--block-size 1k|32k] [--secret HEX] FILE|-                 list reference, level, offset\n"
    "  car [--block-size 1k|32k] [--secret HEX] [--narinfo FILE] [--output FILE] FILE|-\n"
    "                                                                     all blocks and a manifest, for IPFS\n"
    "  cid URN|REFERENCE                                                  name the (root) block in IPFS\n"
    "  serve --store DIR [--listen ADDR:PORT] [--allow-remote]            serve blocks and files\n"
    "\n"
    "  --threads N    of encode, decode, blocks and car; default: one for each processor\n"
    "  --help, --version\n"
    "\n"
    "See narlock-eris(1).\n";

/* Where `serve' listens if it is not told. */
#define LISTEN "127.0.0.1:8781"

enum { OPT_BLOCK_SIZE = 1, OPT_SECRET, OPT_STORE, OPT_THREADS, OPT_OFFSET, OPT_LENGTH, OPT_LISTEN, OPT_REMOTE,
	OPT_MANIFEST, OPT_NARINFO, OPT_OUTPUT, OPT_HELP };
#define BIT(OPT) (1u << (OPT))

static const struct option options[] = {
	{ "block-size", required_argument, NULL, OPT_BLOCK_SIZE },
	{ "secret", required_argument, NULL, OPT_SECRET },
	{ "store", required_argument, NULL, OPT_STORE },
	{ "threads", required_argument, NULL, OPT_THREADS },
	{ "offset", required_argument, NULL, OPT_OFFSET },
	{ "length", required_argument, NULL, OPT_LENGTH },
	{ "listen", required_argument, NULL, OPT_LISTEN },
	{ "allow-remote", no_argument, NULL, OPT_REMOTE },
	{ "manifest", no_argument, NULL, OPT_MANIFEST },
	{ "narinfo", required_argument, NULL, OPT_NARINFO },
	{ "output", required_argument, NULL, OPT_OUTPUT },
	{ "help", no_argument, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

struct settings {
	struct tool_options tool;
	struct serve_options serve;
};

static int
run_encode(const struct settings *s, struct err *e)
{
	return tool_encode(&s->tool, e);
}

static int
run_decode(const struct settings *s, struct err *e)
{
	return tool_decode(&s->tool, e);
}

static int
run_blocks(const struct settings *s, struct err *e)
{
	return tool_blocks(&s->tool, e);
}

static int
run_car(const struct settings *s, struct err *e)
{
	return tool_car(&s->tool, e);
}

static int
run_cid(const struct settings *s, struct err *e)
{
	return tool_cid(&s->tool, e);
}

static int
run_serve(const struct settings *s, struct err *e)
{
	return serve_run(&s->serve, e);
}

static const struct command {
	const char *name;
	int (*run)(const struct settings *s, struct err *e);
	int arguments;
	unsigned allowed, needed; /* options, as BITs */
} commands[] = {
	{ "encode", run_encode, 1, BIT(OPT_BLOCK_SIZE) | BIT(OPT_SECRET) | BIT(OPT_STORE) | BIT(OPT_THREADS) |
	    BIT(OPT_MANIFEST) | BIT(OPT_NARINFO), 0 },
	{ "car", run_car, 1, BIT(OPT_BLOCK_SIZE) | BIT(OPT_SECRET) | BIT(OPT_THREADS) | BIT(OPT_NARINFO) |
	    BIT(OPT_OUTPUT), 0 },
	{ "decode", run_decode, 1, BIT(OPT_STORE) | BIT(OPT_THREADS) | BIT(OPT_OFFSET) | BIT(OPT_LENGTH),
	    BIT(OPT_STORE) },
	{ "blocks", run_blocks, 1, BIT(OPT_BLOCK_SIZE) | BIT(OPT_SECRET) | BIT(OPT_THREADS), 0 },
	{ "cid", run_cid, 1, 0, 0 },
	{ "serve", run_serve, 0, BIT(OPT_STORE) | BIT(OPT_LISTEN) | BIT(OPT_REMOTE), BIT(OPT_STORE) },
};

static int
number(const char *text, uint64_t max, uint64_t *n)
{
	char *end;

	errno = 0;
	*n = strtoull(text, &end, 10);
	return *text >= '0' && *text <= '9' && errno == 0 && *end == '\0' && *n <= max ? 0 : -1;
}

static int
hex(const char *text, uint8_t *bytes, size_t len)
{
	static const char digits[] = "0123456789abcdef0123456789ABCDEF";

	if (strlen(text) != 2 * len)
		return -1;
	for (size_t i = 0; i < 2 * len; i++) {
		const char *at = strchr(digits, text[i]);

		if (at == NULL)
			return -1;
		bytes[i / 2] = (uint8_t)(bytes[i / 2] << 4 | (at - digits) % 16);
	}
	return 0;
}

static int
set_option(struct settings *s, int opt, char *value, struct err *e)
{
	uint64_t n = 0;

	switch (opt) {
	case OPT_BLOCK_SIZE:
		if (strcmp(value, "1k") != 0 && strcmp(value, "32k") != 0)
			return err_set(e, "--block-size is 1k or 32k, not `%s'", value);
		s->tool.block_size = value[0] == '1' ? ERIS_SMALL : ERIS_LARGE;
		return 0;
	case OPT_SECRET:
		if (hex(value, s->tool.secret, ERIS_KEY) != 0)
			return err_set(e, "--secret is %d hexadecimal digits", 2 * ERIS_KEY);
		/* Not for everybody who can list processes. */
		explicit_bzero(value, strlen(value));
		return 0;
	case OPT_STORE:
		s->tool.store = s->serve.directory = value;
		return 0;
	case OPT_THREADS:
		if (number(value, POOL_MAX, &n) != 0 || n == 0)
			return err_set(e, "--threads is a number from 1 to %d", POOL_MAX);
		s->tool.threads = (unsigned)n;
		return 0;
	case OPT_OFFSET:
		if (number(value, INT64_MAX, &s->tool.offset) != 0)
			return err_set(e, "--offset is a number");
		return 0;
	case OPT_LENGTH:
		if (number(value, INT64_MAX, &s->tool.length) != 0)
			return err_set(e, "--length is a number");
		return 0;
	case OPT_LISTEN:
		s->serve.listen = value;
		return 0;
	case OPT_MANIFEST:
		s->tool.manifest = 1;
		return 0;
	case OPT_NARINFO:
		s->tool.narinfo = value;
		return 0;
	case OPT_OUTPUT:
		s->tool.output = value;
		return 0;
	default:
		s->serve.allow_remote = 1;
		return 0;
	}
}

static unsigned
processors(void)
{
	cpu_set_t set;
	int n;

	if (sched_getaffinity(0, sizeof(set), &set) != 0 || (n = CPU_COUNT(&set)) < 1)
		return 1;
	return n < POOL_MAX ? (unsigned)n : POOL_MAX;
}

static const struct command *
find(const char *name)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

/* The command line behind the command's name.  0; 1: help is wanted; -1. */
static int
parse(const struct command *c, int argc, char **argv, struct settings *s, struct err *e)
{
	unsigned seen = 0;
	int opt;

	opterr = 0;
	while ((opt = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (opt == OPT_HELP)
			return 1;
		if (opt == ':')
			return err_set(e, "%s: `%s' needs a value", c->name, argv[optind - 1]);
		if (opt == '?' || (c->allowed & BIT(opt)) == 0)
			return err_set(e, "%s: unknown option `%s'", c->name, argv[optind - 1]);
		if (set_option(s, opt, optarg, e) != 0)
			return -1;
		seen |= BIT(opt);
	}
	if ((c->needed & ~seen) != 0)
		return err_set(e, "%s needs --store DIR", c->name);
	if ((seen & BIT(OPT_MANIFEST)) != 0 && (seen & BIT(OPT_STORE)) == 0)
		return err_set(e, "--manifest needs --store DIR");
	if (c->run == run_encode && (seen & BIT(OPT_NARINFO)) != 0 && (seen & BIT(OPT_MANIFEST)) == 0)
		return err_set(e, "--narinfo needs --manifest");
	if (argc - optind != c->arguments)
		return err_set(e, "%s takes %s", c->name, c->arguments == 1 ? "one argument" : "no argument");
	s->tool.argument = argv[optind];
	return 0;
}

int
main(int argc, char **argv)
{
	struct settings s = { .tool = { .block_size = ERIS_LARGE, .threads = processors(),
	    .length = UINT64_MAX }, .serve = { .listen = LISTEN } };
	const struct command *c = argc < 2 ? NULL : find(argv[1]);
	struct err e = { 0 };
	int rc;

	if (argc == 2 && strcmp(argv[1], "--version") == 0)
		return puts("narlock-eris " NARLOCK_VERSION) < 0 ? EXIT_FAILED : 0;
	if (argc == 2 && strcmp(argv[1], "--help") == 0)
		return fputs(help, stdout) < 0 ? EXIT_FAILED : 0;
	if (c == NULL) {
		if (argc > 1)
			fprintf(stderr, "narlock-eris: there is no command `%s'\n", argv[1]);
		fputs(help, stderr);
		return EXIT_USAGE;
	}
	rc = parse(c, argc - 1, argv + 1, &s, &e);
	if (rc > 0)
		return fputs(help, stdout) < 0 ? EXIT_FAILED : 0;
	if (rc < 0) {
		fprintf(stderr, "narlock-eris: %s\n", e.text);
		return EXIT_USAGE;
	}
	rc = block_init(&e);
	if (rc == 0)
		rc = c->run(&s, &e);
	explicit_bzero(s.tool.secret, sizeof(s.tool.secret));
	if (rc == 0 && fflush(stdout) != 0)
		rc = err_sys(&e, errno, "standard output");
	if (rc != 0)
		fprintf(stderr, "narlock-eris: %s: %s\n", c->name, e.text);
	return rc == 0 ? 0 : EXIT_FAILED;
}
