/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): names of hosts and their addresses, and which origins are dead. */
#ifndef NARLOCK_FETCH_HOSTS_H
#define NARLOCK_FETCH_HOSTS_H

#include <stddef.h>
#include <stdint.h>

#include "helper/fetch/url.h"
#include "ipc/wire.h"

/* Addresses older than this are asked for again. */
#define HOSTS_FRESH_MS 300000
/* A question without an answer counts as an unknown host after this. */
#define HOSTS_ANSWER_MS 30000
/* So long an unknown host stays unknown without a new question. */
#define HOSTS_UNKNOWN_MS 10000

/* "[v6],v4,..." as CURLOPT_RESOLVE takes it: the longest address has 45 characters. */
#define HOSTS_LIST (LIMIT_ADDRESSES * 48)

enum host_state { HOST_READY, HOST_WAITING, HOST_UNKNOWN };

struct host {
	char name[LIMIT_HOST + 1];
	uint8_t wanted;       /* to be asked as soon as a question is free */
	uint8_t asked;        /* a question is under way */
	uint8_t gave_up;      /* that question was not answered in time */
	uint64_t asked_ms;
	uint64_t unknown_ms;  /* when the answer was: no such host; 0: it was not */
	uint64_t known_ms;    /* when the addresses came; 0: there are none */
	char addresses[HOSTS_LIST];
};

struct dead {
	char host[LIMIT_HOST + 1];
	uint16_t port;
};

/* All tables are bounded; libcurl itself never resolves a name. */
struct hosts {
	struct host *hosts;
	size_t count;
	size_t questions;
	struct dead *dead;
	size_t dead_count;
};

/* hosts_init(h, e): 0 or -1 (memory).  hosts_free(h) gives it back. */
int hosts_init(struct hosts *h, struct err *e);
void hosts_free(struct hosts *h);

/* hosts_local(name): whether it is loopback as it stands there ("localhost", 127.x.x.x, ::1). */
int hosts_local(const char *name);

/* hosts_need(h, name, now, addresses): may a transfer to NAME start?  HOST_READY: *ADDRESSES is the list to pin,
 * valid until the next call, or NULL when the name needs none (an address, "localhost").  HOST_WAITING: a
 * question is noted, ask again later.  HOST_UNKNOWN: there is no such host. */
enum host_state hosts_need(struct hosts *h, const char *name, uint64_t now, const char **addresses);

/* hosts_stale(h, name): a connection failed: ask anew before the next one. */
void hosts_stale(struct hosts *h, const char *name);

/* hosts_question(h, now): the next name to send as RESOLVE, or NULL; it counts as asked from now on. */
const char *hosts_question(struct hosts *h, uint64_t now);

/* hosts_answer(h, m, now, e): an ADDRESSES message.  0, or -1 when it breaks the protocol. */
int hosts_answer(struct hosts *h, const struct wire_msg *m, uint64_t now, struct err *e);

/* hosts_deadline(h): when the oldest question gives up (milliseconds), or UINT64_MAX. */
uint64_t hosts_deadline(const struct hosts *h);

/* hosts_die(h, u), hosts_dead(h, u): origins that could not be reached, for the life of the process. */
void hosts_die(struct hosts *h, const struct url *u);
int hosts_dead(const struct hosts *h, const struct url *u);

#endif
