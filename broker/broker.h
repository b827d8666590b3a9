/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: the state of one agent process, handed to every part of it. */
#ifndef NARLOCK_BROKER_BROKER_H
#define NARLOCK_BROKER_BROKER_H

#include <stdint.h>
#include <stdio.h>

#include "broker/acl.h"
#include "broker/audit.h"
#include "broker/conf.h"
#include "broker/crew.h"
#include "broker/lookup.h"
#include "broker/options.h"
#include "broker/order.h"
#include "broker/record.h"
#include "broker/trace.h"
#include "policy/landlock.h"

/* Descriptors that guix-daemon gives (docs of the daemon's protocol: replies go to 4). */
#define FD_COMMANDS 0
#define FD_LOG 2
#define FD_REPLIES 4

struct broker {
	struct conf conf;
	struct options options;
	char store_dir[LIMIT_PATH];   /* NIX_STORE_DIR */
	char state_dir[LIMIT_PATH];   /* GUIX_STATE_DIRECTORY */
	char config_dir[LIMIT_PATH];  /* GUIX_CONFIGURATION_DIRECTORY */
	const char *conf_path;
	const char *http_proxy, *https_proxy;
	const char *mode;             /* "query", "substitute", "self-check": for the audit log */
	int by_hand;                  /* started with --allow-destination, not by guix-daemon */
	char refusal[512];            /* why this agent gives nothing at all; empty: it works */
	int refusal_told;
	int cache_fd, spool_fd, record_fd; /* directories; -1 when they cannot be had */
	char fetch_state[LIMIT_PATH + 16]; /* the fetcher's file; empty: none */
	struct acl acl;
	struct crew crew;
	struct lookups lookups;
	struct order order;
	struct job *job;              /* the substitute under way (substitute.c) */
	struct query *query;          /* the query under way (agent.c) */
	FILE *replies;                /* FD_REPLIES, for those of a query */
	int checking;                 /* the fetcher is trying the sources of blocks (selfcheck.c) */
	struct trace trace;
	struct audit audit;
	struct record records;
	struct landlock_result landlock; /* the broker's own (confine.c) */
};

/* agent_run(b, substituting): obey the commands of --query or --substitute on descriptor 0 until it ends.  Nothing that a
 * command brings ends the process: guix-daemon would die of SIGPIPE at its next command. */
void agent_run(struct broker *b, int substituting);

/* substitute(b, path, dest): do `substitute PATH DEST' and write exactly one line to the reply descriptor.  Whatever
 * happens, DEST is either complete and verified and the answer is `success', or DEST does not exist. */
void substitute(struct broker *b, const char *path, const char *dest);

/* confine(b, e): after the spawner was forked: no capabilities, no_new_privs, not dumpable, Landlock (only the store,
 * our own directories and the allowed destinations can be written), system call filter.  Returns -1 when a layer
 * that must be there is not. */
int confine(struct broker *b, struct err *e);

/* selfcheck(b, urls): print lines `KEY VALUE...' on descriptor 1 for `narlock doctor', the last one `verdict ...'.  With
 * URLS each substitute server is asked for a store item that does not exist, and each source of blocks is tried.  Returns
 * 0 good, 1 degraded, 2 unsafe. */
int selfcheck(struct broker *b, int urls);

/* selfcheck_on_checked: for the table of messages in crew.c. */
int selfcheck_on_checked(struct broker *b, struct helper *h, const struct wire_msg *m, struct err *e);

#endif
