/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): HTTP(S) for the broker.  Everything that needs a file happens here, before the lock. */
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "helper/common/logline.h"
#include "helper/common/seal.h"
#include "helper/common/unit.h"
#include "helper/eris/block.h"
#include "helper/fetch/again.h"
#include "helper/fetch/blockconf.h"
#include "helper/fetch/blockpool.h"
#include "helper/fetch/check.h"
#include "helper/fetch/heal.h"
#include "helper/fetch/journal.h"
#include "helper/fetch/lookup.h"
#include "helper/fetch/nar.h"
#include "helper/fetch/nounix.h"
#include "helper/fetch/probe.h"
#include "helper/fetch/serve.h"
#include "helper/fetch/start.h"
#include "helper/fetch/state.h"
#include "helper/fetch/transfer.h"

#define CONTROL 3
#define MAX_MEMORY (512ULL * 1024 * 1024)
/* Nothing to wait for: look at the clock once a minute all the same. */
#define IDLE_MS 60000

/* --- Before the lock --------------------------------------------------------------------------------- */

/* Blocks that are missing in IPFS are written down in the file `heal' beside the state file. */
static void
open_journal(struct fetch *f, const char *state)
{
	const char *name = state != NULL ? strrchr(state, '/') : NULL;
	char path[LIMIT_PATH + 8];
	struct err e;

	f->journal = -1;
	if (name == NULL || (size_t)(name - state) >= LIMIT_PATH)
		return;
	(void)snprintf(path, sizeof path, "%.*s/heal", (int)(name - state), state);
	if ((f->journal = journal_open(path, &e)) < 0)
		logline("%s", e.text);
}

static void
open_files(struct fetch *f)
{
	const char *ca = getenv("NARLOCK_CA"), *state = getenv("NARLOCK_FETCH_STATE");
	struct err e;

	/* None is needed to work: without certificates https servers are refused with a message, without the
	 * state file and the journal nothing is remembered. */
	if (ca != NULL && ca_read(&f->ca, ca, &e) != 0 && access(ca, F_OK) == 0)
		logline("%s", e.text);
	f->state = -1;
	if (state != NULL && (f->state = state_open(state, &e)) < 0)
		logline("%s", e.text);
	open_journal(f, state);
}

static int
lock(struct fetch *f, int unit, struct err *e)
{
	struct seal_options options = { .policy = POLICY_OF(fetch), .flags = unit ? SEAL_ANY_PARENT : 0,
		.nofile = FETCH_FILES, .fsize = (uint64_t)JOURNAL_SIZE, .as = MAX_MEMORY };
	struct seal_report report;
	struct wire_msg m;

	for (int fd = 0; fd < 64; fd++) /* ours, and the wake-up descriptors of libcurl */
		if (fcntl(fd, F_GETFD) >= 0)
			options.fds |= 1ULL << fd;
	f->unix_sockets = getenv("NARLOCK_UNIX") != NULL;
	if (!f->unix_sockets && nounix_load(e) != 0)
		return -1;
	if (seal_process(&options, &report, e) != 0)
		return -1;
	seal_message(&report, NULL, &m);
	return wire_send(f->control, &m, -1, 0, e) == 1 ? 0 : -1;
}

/* --- After it ---------------------------------------------------------------------------------------- */

static void
ask_names(struct fetch *f)
{
	const char *name;

	while ((name = hosts_question(&f->hosts, f->now)) != NULL) {
		struct wire_msg m = { .type = MSG_RESOLVE, .text = wire_str(name) };

		serve_send(f, &m);
	}
}

static int
wait_ms(const struct fetch *f)
{
	uint64_t due[] = { lookup_deadline(f), nar_deadline(f), check_deadline(f), heal_deadline(f), probe_deadline(f),
		blockpool_deadline(f), hosts_deadline(&f->hosts) };
	uint64_t first = f->now + IDLE_MS;

	for (size_t i = 0; i < sizeof due / sizeof due[0]; i++)
		if (due[i] < first)
			first = due[i];
	return first > f->now ? (int)(first - f->now) : 0;
}

/* Sleep until something can be done.  Returns whether frames can be read. */
static int
wait(struct fetch *f)
{
	struct curl_waitfd fds[2] = { { .fd = f->control, .events = CURL_WAIT_POLLIN } };
	unsigned n = 1;
	int sink = nar_wants(f), happened;

	if (f->out != NULL)
		fds[0].events |= CURL_WAIT_POLLOUT;
	if (!serve_room(f)) { /* the broker is behind: nothing else counts */
		struct pollfd only = { .fd = f->control, .events = POLLIN | POLLOUT };

		(void)poll(&only, 1, IDLE_MS);
		return (only.revents & ~POLLOUT) != 0;
	}
	if (sink >= 0)
		fds[n++] = (struct curl_waitfd){ .fd = sink, .events = CURL_WAIT_POLLOUT };
	(void)curl_multi_poll(f->multi, fds, n, wait_ms(f), &happened);
	return (fds[0].revents & CURL_WAIT_POLLIN) != 0;
}

/* One turn: frames in, work, frames out, sleep.  Ends when the broker does. */
static int
serve(struct fetch *f, struct err *e)
{
	int readable = 1, running, rc;

	for (;;) {
		start_clocks(f);
		if (readable && (rc = serve_read(f, e)) != 1)
			return rc;
		if (serve_flush(f, e) != 0)
			return e->code == EPIPE || e->code == ECONNRESET ? 0 : -1;
		if (serve_room(f)) {
			lookup_pump(f);
			blockpool_pump(f);
			nar_pump(f);
			probe_pump(f);
			check_pump(f);
			heal_pump(f);
			ask_names(f);
			(void)curl_multi_perform(f->multi, &running);
			transfer_collect(f, serve_room);
			lookup_pump(f);
			blockpool_pump(f);
			nar_pump(f);
			probe_pump(f);
			check_pump(f);
			heal_pump(f);
			ask_names(f);
		}
		readable = wait(f);
	}
}

int
main(void)
{
	struct fetch *f = calloc(1, sizeof *f);
	struct err e;
	int unit;

	signal(SIGPIPE, SIG_IGN);
	if (f == NULL)
		return 1;
	f->control = CONTROL;
	/* What is open later is ours, and only that stays open. */
	(void)syscall(SYS_close_range, CONTROL + 1, ~0u, 0);
	if ((unit = unit_begin(CONTROL, &e)) < 0) {
		logline("%s", e.text);
		_exit(1);
	}
	open_files(f);
	if (start_libraries(f, &e) != 0 || hosts_init(&f->hosts, &e) != 0 || lookup_init(f, &e) != 0 ||
	    nar_init(f, &e) != 0 || (f->blocks = blockconf_new(&e)) == NULL ||
	    blockpool_init(f, &e) != 0 || heal_init(f, &e) != 0 ||
	    again_init(f, &e) != 0 || probe_init(f, &e) != 0 || block_init(&e) != 0 ||
	    lock(f, unit, &e) != 0 || serve(f, &e) != 0) {
		logline("%s", e.text);
		_exit(1);
	}
	_exit(0); /* no library's clean-up: it is of no use, and would need calls that the policy does not have */
}
