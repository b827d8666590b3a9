/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: the helpers of one agent: starting, proving, listening, ending. */
#ifndef NARLOCK_BROKER_CREW_H
#define NARLOCK_BROKER_CREW_H

#include <stdint.h>
#include <sys/types.h>

#include "broker/proof.h"
#include "broker/spawner.h"
#include "ipc/err.h"
#include "ipc/wire.h"

struct broker;

/* States as bits, so that the table of messages can name several. */
enum helper_state {
	HELPER_FREE = 0,
	HELPER_ASKED = 1,     /* SPAWN is sent */
	HELPER_NEW = 2,       /* runs (or will, when the service manager starts it), has not proved anything */
	HELPER_READY = 4,     /* sealed, and the kernel agrees */
	HELPER_ORDERED = 8,   /* fetch: has an order; unpack: has its unpacker's end taken */
	HELPER_STREAMING = 16, /* fetch: NAR_BEGIN was seen; unpack: UNPACK was sent */
	HELPER_DONE = 32,     /* unpack: has answered */
};

struct helper {
	uint8_t kind;
	unsigned state;
	uint32_t slot;
	int unit;               /* the service manager's, no child of the spawner */
	struct proof_demand demand;
	pid_t pid;              /* of a unit: 0 before STARTED */
	int pidfd, control, log;
	int in, out;            /* unpack: compressed bytes (write end), nar bytes (read end) */
	uint32_t verified, claimed; /* ipc/layers.h */
	uint16_t landlock_abi;
	int64_t since;          /* ms: when it was asked for */
	int64_t log_window;     /* ms */
	unsigned log_lines;
	unsigned liars;         /* fetch: LIAR frames */
};

/* fetch, resolve, an unpacker at work and a spare one. */
#define CREW_SIZE 4
/* Why a kind of helper could not be had. */
struct trouble {
	char text[LIMIT_REASON + 200];
	int told;
};

struct crew {
	int channel;            /* to the spawner */
	pid_t spawner;
	struct proof_demand demand; /* of helpers that the spawner starts */
	int units;              /* fetch and resolve are the service manager's */
	struct helper helpers[CREW_SIZE];
	struct trouble trouble[KIND_RESOLVE + 1];
	unsigned failures[KIND_RESOLVE + 1]; /* in a row, without one that became ready */
	char hosts[LIMIT_RESOLVES][LIMIT_HOST + 1]; /* names the fetcher waits for, oldest first */
	unsigned host_count, hosts_asked;    /* the first HOSTS_ASKED are with the resolver */
};

/* crew_start(b, plan, e): fork the spawner.  Call before confine(). */
int crew_start(struct broker *b, const struct spawner_plan *plan, struct err *e);

/* crew_find(b, kind, states): a helper of KIND in one of STATES, or NULL. */
struct helper *crew_find(struct broker *b, uint8_t kind, unsigned states);

/* crew_ask(b, kind): have one helper of KIND on its way or ready (for unpack: unused).  -1 when that is hopeless. */
int crew_ask(struct broker *b, uint8_t kind);

/* crew_ready(b, kind, e): wait for a helper of KIND in state READY.  NULL after failure, with the reason. */
struct helper *crew_ready(struct broker *b, uint8_t kind, struct err *e);

/* crew_step(b, data_fd, timeout_ms): wait for anything and handle all of it.  DATA_FD (or -1) only ends the wait.
 * Returns -1 when the spawner is gone, which ends the agent's usefulness. */
int crew_step(struct broker *b, int data_fd, int timeout_ms);

/* crew_send(h, m, fd, e): one frame to a helper; 0, 1 if it would block, or -1. */
int crew_send(struct helper *h, const struct wire_msg *m, int fd, struct err *e);

/* crew_kill(b, h, why): have the spawner kill H, and forget it.  WHY goes to the log and the audit record. */
void crew_kill(struct broker *b, struct helper *h, const char *why);

/* crew_release(b, h): the same without blame, for an unpacker that is not needed any more. */
void crew_release(struct broker *b, struct helper *h);

/* crew_now(): monotonic milliseconds. */
int64_t crew_now(void);

#endif
