/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): what narlock.conf says about blocks and untrusted URLs (OPTION frames), and what is known of the sources for as long
 * as this process lives. */
#ifndef NARLOCK_FETCH_BLOCKCONF_H
#define NARLOCK_FETCH_BLOCKCONF_H

#include <stddef.h>
#include <stdint.h>

#include "helper/fetch/guard.h"
#include "helper/fetch/url.h"
#include "helper/ipfs/rpc.h"
#include "ipc/err.h"
#include "ipc/wire.h"

/* Sources that answer by block reference, of all kinds together. */
#define BLOCKCONF_SOURCES 16

struct block_source {
	struct rpc_source at;
	struct url url;             /* of at.base: whose name has to be resolved; with at.socket: of no meaning */
	char name[LIMIT_SOURCE + 1]; /* for people: kind and host, no secrets */
	uint64_t dead_until;        /* ms: left alone until then; UINT64_MAX: it has lied, never again; 0: usable */
	uint8_t reached;            /* it has answered something */
	uint8_t told;               /* a daemon that has told its version */
	uint8_t no_car, no_file;    /* it does not do CAR streams, or streams of files */
	uint8_t no_probe;           /* a gateway that does not say what it has without looking for it */
	uint8_t silent;             /* dead_until is there for its silence only: it is asked where there is no other way */
	uint8_t vain;               /* nars in a row that waited for it in vain */
	uint64_t vain_until;        /* ms: as long as that makes a difference */
	uint8_t alone;              /* a daemon that knows no peers */
	uint64_t peers_until;       /* ms: it is not asked for them again before */
};

enum seed { SEED_MISSING, SEED_ALL, SEED_NONE };

/* Lines that made no sense and are left out, kept for doctor. */
#define BLOCKCONF_BAD 8

struct block_bad {
	char key[LIMIT_OPTION_KEY + 1], why[LIMIT_REASON + 1];
};

struct blockconf {
	struct block_source sources[BLOCKCONF_SOURCES]; /* in the order of the file */
	size_t nsources;
	uint32_t block_ms;          /* block-timeout: a block that is not there by then is asked for elsewhere */
	enum seed seed;             /* which blocks go into IPFS */
	uint8_t publish_again;      /* 1: servers may be asked to */
	uint8_t seed_private;       /* 1: also what came from private addresses or with a password */
	uint8_t said_ipfs;          /* an `ipfs' line was there */
	uint8_t default_ipfs;       /* none was: the daemon at the usual address need not be there */
	struct guard guard;         /* where untrusted URLs may lead */
	unsigned options;           /* OPTION frames so far */
	struct block_bad bad[BLOCKCONF_BAD]; /* the first of them */
	size_t nbad;
};

/* blockconf_new(e): the defaults; NULL on failure. */
struct blockconf *blockconf_new(struct err *e);
void blockconf_free(struct blockconf *c);

/* blockconf_option(c, m, e): an OPTION frame.  A value that makes no sense costs its line and gives a message; -1 only
 * when the frame breaks the protocol. */
int blockconf_option(struct blockconf *c, const struct wire_msg *m, struct err *e);

/* blockconf_set(c, key, value, e): the same for one line of the file: 0, or -1 with what is wrong (an unknown key,
 * too). */
int blockconf_set(struct blockconf *c, const char *key, const char *value, struct err *e);

/* blockconf_done(c): no more options come: the default IPFS daemon, unless an `ipfs' line was there.  May be called
 * again. */
void blockconf_done(struct blockconf *c);

#endif
