/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): what its parts share.  One struct, owned by main(), no globals. */
#ifndef NARLOCK_FETCH_FETCH_H
#define NARLOCK_FETCH_FETCH_H

#include <curl/curl.h>
#include <stddef.h>
#include <stdint.h>

#include "helper/fetch/ca.h"
#include "helper/fetch/hosts.h"
#include "helper/fetch/url.h"
#include "ipc/err.h"
#include "ipc/limits.h"

#ifndef NARLOCK_VERSION
#define NARLOCK_VERSION "0.1"
#endif

/* Descriptors: 256 requests for blocks, 64 others, a nar, kept connections (at most 320 in all), ours: below this. */
#define FETCH_FILES 512

struct again;
struct blockconf;
struct blockpool;
struct heal;
struct checks;
struct lookups;
struct order;
struct out_frame;
struct probes;

struct proxy {
	uint8_t set;
	uint8_t bad; /* it is there, but we cannot use it */
	struct url url;
};

struct settings {
	uint32_t stall_ms, connect_ms;
	uint32_t min_rate; /* bytes per second, 0: none */
	uint8_t tls_verify;
	struct proxy http, https;
};

struct server {
	struct url url;
	uint8_t kind;                  /* enum server_kind */
	uint8_t silent;                /* questions in a row that an index has left without an answer */
	char refusal[LIMIT_REASON + 1]; /* why it cannot be asked at all; "" if it can */
};

struct fetch {
	int control;      /* frames to and from the broker */
	int state;        /* the state file, or -1 */
	int journal;      /* the journal of healing, or -1 */
	unsigned phase;   /* of the conversation, see serve.c */
	uint32_t seed;    /* of the jitter */
	uint64_t now;     /* CLOCK_MONOTONIC in milliseconds, read once per turn of the loop */
	int64_t clock;    /* seconds since 1970, likewise */
	CURLM *multi;
	uint8_t sockets[FETCH_FILES]; /* which descriptors are connections */
	uint64_t connects;            /* connections made to sources of blocks */
	struct settings settings;
	struct server servers[LIMIT_SERVERS];
	size_t nservers;
	struct heal *heal;         /* puts blocks into IPFS, see heal.h */
	struct blockconf *blocks;  /* what OPTION frames say, see blockconf.h */
	struct blockpool *pool;    /* requests for blocks, see blockpool.h */
	struct again *again;       /* publish-again, see again.h */
	struct probes *probes;     /* see probe.h */
	unsigned big_roots;        /* long answers that rootget.c holds */
	char trusted[LIMIT_TRUSTHOSTS][LIMIT_HOST + 1];
	size_t ntrusted;
	struct hosts hosts;
	struct ca ca;
	struct lookups *lookups;
	struct checks *checks;     /* for doctor, else NULL; see check.h */
	struct order *order;
	struct out_frame *out, **out_tail; /* frames that the broker has not taken yet */
	size_t out_bytes;
	uint8_t unix_sockets;              /* some may be opened: narlock.conf names one */
	uint8_t broken;                    /* a frame could not be queued: this is the end */
};

#endif
