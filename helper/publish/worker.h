/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): what one thread of the web server has, for its parts: web.c (connections), handle.c
 * (requests), reply.c (answers), blocks.c (blocks), infos.c (narinfos). */
#ifndef NARLOCK_PUBLISH_WORKER_H
#define NARLOCK_PUBLISH_WORKER_H

#include <microhttpd.h>
#include <arpa/inet.h>
#include <netinet/in.h>

#include "helper/publish/doors.h"
#include "helper/publish/place.h"
#include "helper/publish/upstream.h"
#include "helper/publish/web.h"

/* Blocks that are encoded together: requests that came at the same time, four at once in the processor. */
#define WORKER_BATCH 64
/* Answers with narinfos that are kept for a second. */
#define WORKER_INFOS 4096
/* Requests that wait for the upstream, and the longest message from it. */
#define WORKER_WAITS 256
#define WORKER_MESSAGE (UPSTREAM_BODY + 64)

/* One connection. */
struct conn {
	struct conn *next, **link;
	struct MHD_Connection *connection;
	int fd;
	int64_t since; /* milliseconds: when it began to be our turn to wait for a request */
	int busy;      /* a request is being answered */
	int waiting;   /* for the upstream: its client cannot take what is not there */
	int64_t looked;  /* milliseconds: when it was looked how much of the answer its client has; 0: not yet.  From
	                  * then on the library does not time it */
	uint64_t taken;  /* bytes, then, since the connection began */
	unsigned status; /* of the last answer, and its bytes: for the access log */
	uint64_t size;
};

/* One request. */
struct request {
	int slot;                      /* of the batch, or -1 */
	struct MHD_Response *response; /* when it is ready */
	unsigned status;
	size_t body;                   /* bytes of a body that nobody wanted */
	char *log;                     /* for the access log, or NULL */
	int limited, bad; /* BAD: where its body ends can be read in two ways */
	int waited;                    /* for the upstream: it does so once */
};

/* A request that waits for the upstream. */
struct wait {
	struct MHD_Connection *connection; /* NULL: free */
	struct request *request;
	int64_t until; /* milliseconds */
	int is_nar;    /* 1: for the file `path'; 0: for the answer `ticket' */
	uint32_t ticket;
	int64_t hash;
	char path[LIMIT_PATH];
};

struct slot {
	struct MHD_Connection *connection; /* NULL: free */
	struct request *request;
	struct place_job job;
};

struct kept_info {
	int64_t hash, until; /* milliseconds */
	struct MHD_Response *response;
	int unfinished; /* lines are missing that will come */
	size_t size;
	char tag[24];
	char date[40];
};

struct worker {
	const struct web_options *o;
	struct shared_worker *counts;
	struct limiter *limiter, *again; /* requests; nars into IPFS */
	struct MHD_Daemon *daemon;
	struct doors *doors;
	unsigned number; /* of the thread */
	struct place *place;
	struct conn *conns;
	int64_t now; /* milliseconds, monotonic: at the beginning of this turn */
	unsigned slots; /* in use */
	int holding; /* one state of the index, until the end of this turn */
	int resumed; /* connections have been woken up since the library was called */
	struct slot slot[WORKER_BATCH];
	uint8_t *data; /* WORKER_BATCH blocks */
	struct kept_info infos[WORKER_INFOS];
	int up; /* socket to the process that asks the upstream, or -1 */
	uint32_t tickets;
	struct wait waits[WORKER_WAITS];
	char message[WORKER_MESSAGE];
};

/* --- reply.c ------------------------------------------------------------------------------------------ */

/* All answers go this way.  reply_size(): how many bytes of body are in the next one, for the access log. */
void reply_size(struct MHD_Connection *c, uint64_t size);
enum MHD_Result reply_queue(struct MHD_Connection *c, unsigned status, struct MHD_Response *r);
/* The same, and R is done with. */
enum MHD_Result reply_send(struct MHD_Connection *c, unsigned status, struct MHD_Response *r);
/* A few words; TEXT is static. */
enum MHD_Result reply_say(struct MHD_Connection *c, unsigned status, const char *text);
/* Whether the client has what TAG names (If-None-Match), or nothing newer than DATE (If-Modified-Since; NULL:
 * no date). */
int reply_has_it(struct MHD_Connection *c, const char *tag, const char *date);
enum MHD_Result reply_not_modified(struct worker *w, struct MHD_Connection *c, const char *tag,
    const char *cache);
/* 416. */
enum MHD_Result reply_unsatisfiable(struct MHD_Connection *c, uint64_t size);
/* "max-age=SECONDS", or NULL for 0. */
const char *reply_age(char text[40], unsigned seconds);
/* The entity tag of a text. */
void reply_tag(char tag[24], const char *data, size_t len);
/* Seconds since the epoch as an HTTP date. */
void reply_date(char text[40], int64_t seconds);

/* --- handle.c ----------------------------------------------------------------------------------------- */

enum MHD_Result handle_request(struct worker *w, struct MHD_Connection *c, const char *url,
    const char *method,
    struct request *r);

/* --- blocks.c ----------------------------------------------------------------------------------------- */

/* A request for a block: an answer, or a slot of the batch, and the connection waits. */
enum MHD_Result blocks_ask(struct worker *w, struct MHD_Connection *c, struct request *r);
/* Encode the batch, and wake its connections up. */
void blocks_encode(struct worker *w);

/* --- infos.c ------------------------------------------------------------------------------------------ */

enum MHD_Result infos_narinfo(struct worker *w, struct MHD_Connection *c, const char *part,
    struct request *r);
enum MHD_Result infos_eris(struct worker *w, struct MHD_Connection *c, const char *part);

/* --- waits.c ------------------------------------------------------------------------------------------ */

/* The upstream is asked for a narinfo; or a nar at PATH is waited for, because it has promised it.  1: the
 * connection waits; 0: there is nothing to wait for. */
int waits_for_narinfo(struct worker *w, struct MHD_Connection *c, struct request *r, const char *part);
int waits_for_nar(struct worker *w, struct MHD_Connection *c, struct request *r, const char *path);
/* Wake up what has waited long enough. */
void waits_look(struct worker *w);

/* --- again.c ------------------------------------------------------------------------------------------ */

#define AGAIN_PATH "/publish-this-nar-again-into-IPFS/"
#define AGAIN_STATUS "/publish-again-status/"

enum MHD_Result again_post(struct worker *w, struct MHD_Connection *c, const char *name);
enum MHD_Result again_status(struct worker *w, struct MHD_Connection *c, const char *name);

/* --- limiter.c ---------------------------------------------------------------------------------------- */

struct limiter;
/* limiter_new(rate, burst): requests a second of one address, and so many at once; for all threads. */
struct limiter *limiter_new(double rate, unsigned burst);
void limiter_free(struct limiter *l);
/* limiter_take(l, address, now): 1: go on; 0: too many.  L may be NULL: no limit. */
int limiter_take(struct limiter *l, const struct sockaddr *address, int64_t now);

#endif
