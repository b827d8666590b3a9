/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: one substitute from the daemon's command to its one-line answer. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "broker/broker.h"
#include "broker/crypto.h"
#include "broker/file.h"
#include "broker/log.h"
#include "broker/nixbase32.h"
#include "broker/remove.h"
#include "broker/restore.h"
#include "broker/storepath.h"
#include "broker/trace.h"
#include "ipc/text.h"

/* Orders that are lost to a helper's end, not to a place, before an item is given up. */
#define MAX_LOST 6

struct job {
	const char *path, *dest;
	const char *name;          /* last component of dest */
	char parent[LIMIT_PATH];   /* directory of dest */
	int parent_fd, links_fd;
	struct found found;
	char lookup_reason[LIMIT_REASON + 1];
	struct place *places;      /* LIMIT_CANDIDATES of them */
	unsigned place_count;
	int others;                /* there are servers that were not asked yet */
	int different;             /* a complete nar with another hash was seen */
	uint8_t digest[32], wanted[32]; /* its hash, and the signed one: a later lookup may find nothing, or another */
	unsigned lost;
	enum order_result result;
	struct place used;
	uint64_t fetched;
	uint64_t missed, repaired, reinserted; /* blocks, in all orders of this item */
	int64_t begin, looked, fetched_at, end;
	struct restore_stats stats;
	struct spool spool;
	struct err why;
};

/* --- Where to write ------------------------------------------------------------------------------------------ */

/* No component of DEST may be empty, "." or "..": it is compared as text. */
static int clean_path(const char *p)
{
	if (p[0] != '/' || strlen(p) >= LIMIT_PATH)
		return 0;
	while (*p == '/') {
		size_t n = strcspn(p + 1, "/");

		if (n == 0 || n > 255 || (p[1] == '.' && (n == 1 || (n == 2 && p[2] == '.'))))
			return 0;
		p += 1 + n;
	}
	return 1;
}

/* In the store: the path itself, or PATH.tmp for a repair.  Elsewhere: where the configuration allows, but nothing that
 * is or holds the store or guix's state, or a part of them.  Returns the directory that allows it, or NULL. */
static const char *dest_allowed(const struct broker *b, const struct job *j)
{
	size_t n = strlen(j->path);

	if (strncmp(j->dest, j->path, n) == 0 && (j->dest[n] == '\0' || strcmp(j->dest + n, ".tmp") == 0))
		return b->store_dir;
	if (text_below(j->dest, b->store_dir) || text_below(j->dest, b->state_dir) || text_below(b->store_dir, j->dest) ||
	    text_below(b->state_dir, j->dest))
		return NULL;
	for (unsigned i = 0; i < b->conf.destination_count; i++)
		if (text_below(j->parent, b->conf.destinations[i]))
			return b->conf.destinations[i];
	return NULL;
}

/* Below the allowed directory no symbolic link counts: others may be able to put one there. */
static int open_parent(const struct job *j, const char *allowed)
{
	struct open_how how = { .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
				.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS };
	int dir = open(allowed, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd;
	size_t n = strlen(allowed);

	if (dir < 0)
		return -1;
	fd = (int)syscall(SYS_openat2, dir, j->parent[n] == '/' ? j->parent + n + 1 : ".", &how, sizeof how);
	close(dir);
	return fd;
}

static int open_destination(struct broker *b, struct job *j)
{
	const char *allowed = NULL;

	if (storepath_check(j->path, b->store_dir) < 0)
		return err_set(&j->why, "'%s' does not name a store item of %s", j->path, b->store_dir);
	if (clean_path(j->dest)) {
		j->name = strrchr(j->dest, '/') + 1;
		(void)snprintf(j->parent, sizeof j->parent, "%.*s", (int)(j->name - j->dest - 1), j->dest);
		allowed = dest_allowed(b, j);
	}
	if (allowed == NULL)
		return err_set(&j->why, "destination '%s' is not allowed (allow-destination in narlock.conf)", j->dest);
	if ((j->parent_fd = open_parent(j, allowed)) < 0)
		return err_sys(&j->why, errno, "cannot open %s", j->parent);
	if (b->options.deduplicate && strcmp(j->parent, b->store_dir) == 0) {
		/* Best effort, as in stock guix: without it files are only not shared. */
		(void)mkdirat(j->parent_fd, ".links", 0755);
		j->links_fd = openat(j->parent_fd, ".links", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	}
	return 0;
}

/* --- What to fetch, and from where --------------------------------------------------------------------------------- */

static void on_found(struct broker *b, const char *path, struct found *f, const char *reason)
{
	struct job *j = b->job;

	(void)path;
	if (f != NULL) {
		j->found = *f;
		memset(f, 0, sizeof *f); /* it is ours now */
	}
	(void)snprintf(j->lookup_reason, sizeof j->lookup_reason, "%s", reason);
}

static void copy_text(char *dst, size_t size, struct narinfo_text t)
{
	(void)snprintf(dst, size, "%.*s", (int)(t.len < size ? t.len : size - 1), t.at != NULL ? t.at : "");
}

static void add_places(struct job *j, const struct source *s)
{
	for (size_t g = 0; g < s->ni.group_count && j->place_count < LIMIT_CANDIDATES; g++) {
		const struct narinfo_group *group = &s->ni.groups[g];
		struct place *p = &j->places[j->place_count], *q = j->places;

		if (group->compression.len > LIMIT_COMPRESSION)
			continue;
		memset(p, 0, sizeof *p);
		p->server = s->server;
		p->file_size = group->file_size;
		copy_text(p->url, sizeof p->url, group->url);
		copy_text(p->compression, sizeof p->compression, group->compression);
		copy_text(p->eris, sizeof p->eris, group->eris);
		copy_text(p->manifest, sizeof p->manifest, group->manifest);
		while (q < p && (q->server != p->server || strcmp(q->url, p->url) != 0 || strcmp(q->eris, p->eris) != 0))
			q++;
		if (q == p) /* not a place that was there (and perhaps tried) before */
			j->place_count++;
	}
}

static void look(struct broker *b, struct job *j, unsigned flags)
{
	found_free(&j->found);
	if (b->record_fd < 0) /* only in a process started by hand: main.c refuses otherwise */
		flags &= ~(unsigned)LOOKUP_RECORDED;
	lookup_all(b, &j->path, 1, flags, on_found);
	if (j->found.auth.text == NULL)
		return;
	/* The order of servers: mirrors before the authorised one were listed before it. */
	for (unsigned i = 0; i < j->found.mirror_count && j->found.mirrors[i].server < j->found.auth.server; i++)
		add_places(j, &j->found.mirrors[i]);
	add_places(j, &j->found.auth);
	for (unsigned i = 0; i < j->found.mirror_count; i++)
		add_places(j, &j->found.mirrors[i]);
}

/* --- One attempt ------------------------------------------------------------------------------------------------------ */

/* The verified bytes go to the store. */
static int install(struct broker *b, struct job *j, struct spool *spool, struct err *e)
{
	struct restore_options o = { .links_fd = j->links_fd, .spool_fd = spool->fd,
				     .nar_sha256 = j->found.auth.ni.nar_hash };
	const uint8_t *nar;
	int rc;

	/* guix-daemon removes what stands in the way before it asks; so does stock guix. */
	if (remove_tree(j->parent_fd, j->name, e) < 0 || (nar = spool_map(spool, e)) == NULL)
		return -1;
	rc = restore_nar(j->parent_fd, j->name, nar, spool->size, &o, &j->stats, e);
	spool_unmap(spool, nar);
	if (rc == 0 && b->conf.sync_item && syncfs(j->parent_fd) < 0) {
		rc = err_sys(e, errno, "cannot sync %s", j->parent);
		(void)remove_tree(j->parent_fd, j->name, NULL);
	}
	return rc;
}

/* Returns 1 when installed, 0 when another place may do, -1 when it is hopeless. */
static int attempt(struct broker *b, struct job *j)
{
	const struct narinfo *ni = &j->found.auth.ni;
	struct spool *spool = &j->spool;
	int rc = 0;

	spool_close(spool);
	if (spool_room(j->parent_fd, ni->nar_size, j->parent, &j->why) < 0 ||
	    spool_open(spool, b->spool_fd, ni->nar_size, b->conf.spool_memory, &j->why) < 0)
		return -1;
	j->result = order_nar(b, storepath_base(j->path, strlen(j->path), b->store_dir), j->places, j->place_count, j->others,
			      ni->nar_size, ni->nar_hash, spool, &j->why);
	j->fetched = b->order.fetched;
	j->missed += b->order.missed;
	j->repaired += b->order.repaired;
	j->reinserted += b->order.reinserted;
	if (b->order.begun)
		j->used = j->places[b->order.place];
	switch (j->result) {
	case ORDER_GOOD:
		j->fetched_at = crew_now();
		rc = install(b, j, spool, &j->why) < 0 ? -1 : 1;
		break;
	case ORDER_DIFFERENT:
		j->different = 1;
		memcpy(j->digest, b->order.digest, sizeof j->digest);
		memcpy(j->wanted, ni->nar_hash, sizeof j->wanted);
		break;
	case ORDER_LOCAL:
		rc = ++j->lost >= MAX_LOST || j->why.code == ENOSPC || j->why.code == ECHILD ? -1 : 0;
		break;
	default:
		break;
	}
	trace_end(b, j->fetched, rc == 1);
	return rc;
}

static int left(const struct job *j)
{
	for (unsigned i = 0; i < j->place_count; i++)
		if (!j->places[i].failed)
			return 1;
	return 0;
}

/* Try all places of one lookup. */
static int try_places(struct broker *b, struct job *j)
{
	while (left(j)) {
		int rc = attempt(b, j);

		if (rc != 0)
			return rc;
		log_say("%s: %s%s", j->path, j->why.text, left(j) ? "; trying the next place" : "");
		if (j->result == ORDER_EXHAUSTED) /* each of them was tried by the fetcher */
			for (unsigned i = 0; i < j->place_count; i++)
				j->places[i].failed = 1;
	}
	return 0;
}

/* What failed when there was something else to try may have been given up too early. */
static int forgive(struct job *j)
{
	int any = 0;

	for (unsigned i = 0; i < j->place_count; i++) {
		any |= j->places[i].failed && !j->places[i].different && j->places[i].lost == 0;
		if (!j->places[i].different && j->places[i].lost == 0)
			j->places[i].failed = j->places[i].plain = 0;
	}
	return any;
}

/* First with what the nearest authorised narinfo says; then with what every server says now; then, with patience, all
 * that was tried in haste. */
static int run(struct broker *b, struct job *j)
{
	static const unsigned rounds[] = { LOOKUP_RECORDED, LOOKUP_RECORDED | LOOKUP_FRESH | LOOKUP_ALL };

	if (open_destination(b, j) < 0)
		return -1;
	for (unsigned r = 0; r < 2; r++) {
		int rc;

		look(b, j, rounds[r]);
		if (j->looked == 0)
			j->looked = crew_now();
		if (j->found.auth.text == NULL) {
			if (r == 0)
				(void)err_set(&j->why, "no authorised substitute: %s", j->lookup_reason);
			return 0;
		}
		j->others = r == 0 && b->options.url_count > 1;
		if ((rc = try_places(b, j)) != 0)
			return rc;
	}
	return b->options.url_count > 1 && forgive(j) ? try_places(b, j) : 0;
}

/* --- The answer ------------------------------------------------------------------------------------------------------- */

static void record(struct broker *b, const struct job *j, const char *verdict)
{
	const struct narinfo *ni = &j->found.auth.ni;
	const struct order *o = &b->order;
	char hash[56] = "", key[65] = "", url[2 * LIMIT_URL + 2] = "";
	struct audit_line l;

	audit_begin(&b->audit, &l, "substitute");
	audit_text(&l, "verdict", verdict);
	audit_text(&l, "path", j->path);
	if (strcmp(j->path, j->dest) != 0)
		audit_text(&l, "destination", j->dest);
	if (j->found.auth.text != NULL) {
		nixbase32_encode(hash, ni->nar_hash, 32);
		text_hex(key, j->found.key, 32);
		audit_text(&l, "nar_hash", hash);
		audit_number(&l, "nar_size", ni->nar_size);
		audit_text(&l, "key", key);
		trace_url(url, sizeof url, b->options.urls[j->found.auth.server], "");
		audit_text(&l, "narinfo_source", j->found.stale ? "cache, expired" : j->found.auth.cached ? "cache" :
			   b->options.kinds[j->found.auth.server] == SERVER_INDEX ? "index" : "server");
		audit_text(&l, "narinfo_server", url);
	}
	if (j->used.url[0] != '\0') {
		trace_url(url, sizeof url, b->options.urls[j->used.server], j->used.url);
		audit_text(&l, "nar_source", url);
		audit_text(&l, "compression", j->used.compression);
	}
	if (o->sources[0] != '\0')
		audit_text(&l, "sources", o->sources);
	audit_number(&l, "blocks_missed", j->missed);
	audit_number(&l, "blocks_repaired", j->repaired);
	audit_number(&l, "blocks_reinserted", j->reinserted);
	audit_number(&l, "bytes_fetched", j->fetched);
	audit_number(&l, "bytes_written", j->stats.bytes_written);
	audit_number(&l, "bytes_linked", j->stats.bytes_linked);
	audit_number(&l, "ms_lookup", (uint64_t)(j->looked > 0 ? j->looked - j->begin : 0));
	audit_number(&l, "ms_fetch", (uint64_t)(j->fetched_at > 0 ? j->fetched_at - j->looked : 0));
	audit_number(&l, "ms_install", (uint64_t)(j->fetched_at > 0 ? j->end - j->fetched_at : 0));
	audit_layers(&l, "fetch_verified", o->fetch_verified);
	audit_layers(&l, "fetch_claimed", o->fetch_claimed & ~o->fetch_verified);
	audit_layers(&l, "unpack_verified", o->unpack_verified);
	audit_layers(&l, "unpack_claimed", o->unpack_claimed & ~o->unpack_verified);
	if (strcmp(verdict, "success") != 0)
		audit_text(&l, "reason", j->why.text);
	audit_end(&b->audit, &l);
}

static void answer(struct broker *b, struct job *j, int rc)
{
	char want[56], got[56];

	if (rc == 1) {
		if (j->missed > 0)
			log_say("%s: IPFS did not have %llu of its blocks; %llu came from elsewhere, %llu are back in it", j->path,
				(unsigned long long)j->missed, (unsigned long long)j->repaired, (unsigned long long)j->reinserted);
		nixbase32_encode(want, j->found.auth.ni.nar_hash, 32);
		record(b, j, "success"); /* before the answer: the daemon may kill us right after it */
		file_print(FD_REPLIES, "success sha256:%s %llu\n", want, (unsigned long long)j->found.auth.ni.nar_size);
		return;
	}
	log_say("%s: %s", j->path, j->why.text);
	if (j->different && rc == 0) {
		nixbase32_encode(want, j->wanted, 32);
		nixbase32_encode(got, j->digest, 32);
		record(b, j, "hash-mismatch");
		file_print(FD_REPLIES, "hash-mismatch sha256 %s %s\n", want, got);
		return;
	}
	record(b, j, "not-found");
	file_print(FD_REPLIES, "not-found\n");
}

void substitute(struct broker *b, const char *path, const char *dest)
{
	struct job j = { .path = path, .dest = dest, .parent_fd = -1, .links_fd = -1, .spool.fd = -1,
			 .begin = crew_now() };
	int rc = -1;

	trace_begin(b, dest);
	order_reset(b);
	b->job = &j;
	if ((j.places = calloc(LIMIT_CANDIDATES, sizeof *j.places)) == NULL)
		(void)err_set(&j.why, "no memory");
	else
		rc = run(b, &j);
	j.end = crew_now();
	answer(b, &j, rc);
	spool_close(&j.spool); /* not earlier: half a GiB of pages takes longer to give back than an answer may wait */
	b->job = NULL;
	found_free(&j.found);
	free(j.places);
	if (j.links_fd >= 0)
		close(j.links_fd);
	if (j.parent_fd >= 0)
		close(j.parent_fd);
}
