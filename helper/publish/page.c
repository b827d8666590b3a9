/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): the status page and the metrics, as text. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "helper/publish/page.h"

struct page {
	char *out;
	size_t n;
};

static void __attribute__((format(printf, 2, 3)))
say(struct page *p, const char *fmt, ...)
{
	size_t room = PAGE_ROOM - p->n;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(p->out + p->n, room, fmt, ap);
	va_end(ap);
	if (n > 0)
		p->n += (size_t)n < room ? (size_t)n : room - 1;
}

/* Bytes as people read them. */
static const char *
size(char text[32], uint64_t bytes)
{
	static const char *const units[] = { "B", "kB", "MB", "GB", "TB", "PB" };
	double n = (double)bytes;
	unsigned u = 0;

	while (n >= 1000 && u < 5) {
		n /= 1000;
		u++;
	}
	snprintf(text, 32, u == 0 ? "%.0f %s" : "%.1f %s", n, units[u]);
	return text;
}

static unsigned
queued(const struct shared *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < SHARED_QUEUE; i++)
		n += s->queue[i].state == AGAIN_QUEUED || s->queue[i].state == AGAIN_RUNNING;
	return n;
}

static uint64_t
open_now(const struct shared *s)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < POOL_MAX; i++)
		for (unsigned b = 0; b < SHARED_BANKS; b++)
			n += __atomic_load_n(&s->workers[i].open[b], __ATOMIC_RELAXED);
	return n;
}

/* --- The page ----------------------------------------------------------------------------------------- */

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta http-equiv=\"refresh\" content=\"30\">\n<title>narlock-publish</title>\n<style>\n"
    ":root{color-scheme:light dark;--line:#8884;--good:#2a7d4f;--bad:#b3372b;--soft:#777}\n"
    "*{box-sizing:border-box}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem}\n"
    "h1{font-size:1.4rem;margin:.2rem 0}h2{font-size:1rem;margin:0 0 .4rem}p{margin:.3rem 0 1rem;color:var(--soft)}\n"
    "main{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,17rem),1fr));gap:1rem}\n"
    "section{border:1px solid var(--line);border-radius:.6rem;padding:.8rem 1rem}\n"
    "dl{display:grid;grid-template-columns:1fr auto;gap:.15rem 1rem;margin:0}dt{color:var(--soft)}\n"
    "dd{margin:0;text-align:right;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}\n"
    ".good{color:var(--good);font-weight:600}.bad{color:var(--bad);font-weight:600}\n"
    "progress{width:100%;height:.8rem;margin:.5rem 0 0}footer{margin-top:1rem;color:var(--soft);font-size:.85rem}\n"
    "</style>\n</head>\n<body>\n";

static void
row(struct page *p, const char *name, uint64_t n)
{
	say(p, "<dt>%s</dt><dd>%llu</dd>\n", name, (unsigned long long)n);
}

static void
row_size(struct page *p, const char *name, uint64_t n)
{
	char text[32];

	say(p, "<dt>%s</dt><dd>%s</dd>\n", name, size(text, n));
}

static void
index_section(struct page *p, const struct shared *s)
{
	const struct catalog_totals *t = &s->totals;
	double part = t->bytes > 0 ? 100.0 * (double)t->ready_bytes / (double)t->bytes : 100;

	say(p, "<section><h2>Index</h2><dl>\n");
	row(p, "store items", t->infos);
	row(p, "nars", t->nars);
	row_size(p, "bytes in them", t->bytes);
	row(p, "blocks", t->blocks);
	row_size(p, "size of the index", t->file);
	if (t->ready_bytes > 0)
		say(p, "<dt>of the nars</dt><dd>%.3f %%</dd>\n",
		    100.0 * (double)t->file / (double)t->ready_bytes);
	row(p, "changed nars", s->reindexed);
	say(p, "</dl><progress max=\"100\" value=\"%.1f\" aria-label=\"indexed\">%.1f %%</progress>"
	    "<p>%.1f %% indexed</p></section>\n", part, part, part);
}

static void
ipfs_section(struct page *p, const struct shared *s)
{
	unsigned n = s->ndaemons < SHARED_DAEMONS ? s->ndaemons : SHARED_DAEMONS;

	say(p, "<section><h2>IPFS</h2><dl>\n");
	for (unsigned i = 0; i < n; i++)
		say(p, "<dt>daemon %u</dt><dd class=\"%s\">%s</dd>\n", i + 1, s->daemons[i].up ? "good" :
		    "bad",
		    s->daemons[i].up ? "answers" : s->daemons[i].known ? "does not answer" : "not asked yet");
	if (n == 0)
		say(p, "<dt>daemons</dt><dd>none</dd>\n");
	row(p, "nars pinned", s->pinned);
	row(p, "repairs asked for", shared_sum(s, COUNT_AGAIN_ASKED));
	row(p, "repairs done", s->again_done);
	row(p, "repairs failed", s->again_failed);
	row(p, "in the queue", queued(s));
	say(p, "</dl></section>\n");
}

static void
request_section(struct page *p, const struct shared *s)
{
	say(p, "<section><h2>Requests</h2><dl>\n");
	row(p, "blocks", shared_sum(s, COUNT_BLOCK));
	row_size(p, "bytes in blocks", shared_sum(s, COUNT_BLOCK_BYTES));
	row(p, "blocks not found", shared_sum(s, COUNT_BLOCK_MISSING));
	row(p, "blocks of changed nars", shared_sum(s, COUNT_BLOCK_GONE));
	row(p, "narinfos", shared_sum(s, COUNT_NARINFO));
	row(p, "nars", shared_sum(s, COUNT_NAR));
	row_size(p, "bytes in nars", shared_sum(s, COUNT_NAR_BYTES));
	row(p, "refused", shared_sum(s, COUNT_REFUSED) + shared_sum(s, COUNT_LIMITED));
	row(p, "connections now", open_now(s));
	say(p, "</dl></section>\n");
}

size_t
page_status(char *out, const struct conf *conf, const struct shared *s)
{
	struct page p = { .out = out };
	int waits = s->totals_at == 0 || s->indexing;

	(void)conf;
	say(&p,
	    "%s<h1>narlock-publish</h1>\n<p>Substitutes for GNU Guix as files, and as ERIS blocks over HTTP and IPFS. "
	    "<span class=\"%s\">%s</span></p>\n<main>\n", head, waits ? "bad" : "good",
	    s->totals_at == 0 ? "The cache is being read." : waits ? "Nars are being indexed." :
	    "All nars are indexed.");
	index_section(&p, s);
	ipfs_section(&p, s);
	request_section(&p, s);
	say(&p, "</main>\n<footer>narlock-publish "
	    NARLOCK_VERSION " &middot; <a href=\"/metrics\">metrics</a> &middot; "
	    "<a href=\"/nix-cache-info\">cache info</a></footer>\n</body>\n</html>\n");
	return p.n;
}

/* --- Metrics ------------------------------------------------------------------------------------------ */

static void
metric(struct page *p, const char *name, const char *type, const char *what, uint64_t n)
{
	say(p, "# HELP narlock_publish_%s %s\n# TYPE narlock_publish_%s %s\nnarlock_publish_%s %llu\n", name,
	    what, name,
	    type, name, (unsigned long long)n);
}

static const struct {
	enum shared_counter counter;
	const char *name, *what;
} counters[] = {
	{ COUNT_CONNECTIONS, "connections_total", "Connections accepted." },
	{ COUNT_NARINFO, "narinfos_total", "Narinfos served." },
	{ COUNT_NARINFO_MISSING, "narinfos_missing_total", "Narinfos asked for that are not there." },
	{ COUNT_NAR, "nars_total", "Nars, or parts of them, served." },
	{ COUNT_NAR_BYTES, "nar_bytes_total", "Bytes of nars promised in answers." },
	{ COUNT_NAR_MISSING, "nars_missing_total", "Nars asked for that are not there." },
	{ COUNT_BLOCK, "blocks_total", "Blocks encoded and served." },
	{ COUNT_BLOCK_BYTES, "block_bytes_total", "Bytes of blocks served." },
	{ COUNT_BLOCK_MISSING, "blocks_missing_total", "Blocks asked for that no nar has." },
	{ COUNT_BLOCK_GONE, "blocks_gone_total", "Blocks asked for whose nar has changed or gone." },
	{ COUNT_ERIS, "eris_total", "Answers of /eris." },
	{ COUNT_NOT_MODIFIED, "not_modified_total", "Answers 304." },
	{ COUNT_OTHER, "other_total", "Other pages." },
	{ COUNT_REFUSED, "refused_total", "Requests that make no sense." },
	{ COUNT_LIMITED, "limited_total", "Requests over the rate of an address." },
	{ COUNT_SLOW, "slow_total", "Connections closed because a request took too long." },
	{ COUNT_AGAIN_ASKED, "again_asked_total", "Nars asked to be published again." },
	{ COUNT_AGAIN_LIMITED, "again_limited_total", "The same, over the quota." },
};

size_t
page_metrics(char *out, const struct conf *conf, const struct shared *s)
{
	struct page p = { .out = out };
	const struct catalog_totals *t = &s->totals;

	(void)conf;
	for (size_t i = 0; i < sizeof counters / sizeof counters[0]; i++)
		metric(&p, counters[i].name, "counter", counters[i].what, shared_sum(s, counters[i].counter));
	metric(&p, "connections", "gauge", "Connections now.", open_now(s));
	metric(&p, "items", "gauge", "Narinfos in the cache.", t->infos);
	metric(&p, "index_nars", "gauge", "Nars that are known.", t->nars);
	metric(&p, "index_nars_ready", "gauge", "Nars whose blocks can be served.", t->ready);
	metric(&p, "index_nar_bytes", "gauge", "Bytes of nars that are known.", t->bytes);
	metric(&p, "index_nar_bytes_ready", "gauge", "Bytes of nars whose blocks can be served.",
	    t->ready_bytes);
	metric(&p, "index_blocks", "gauge", "Blocks that can be served.", t->blocks);
	metric(&p, "index_bytes", "gauge", "Size of the index.", t->file);
	metric(&p, "index_read_bytes_total", "counter", "Bytes of nars read for the index.",
	    s->indexed_bytes);
	metric(&p, "index_again_total", "counter", "Nars that were not as indexed.", s->reindexed);
	metric(&p, "again_done_total", "counter", "Nars published again.", s->again_done);
	metric(&p, "again_failed_total", "counter", "Nars that could not be published again.",
	    s->again_failed);
	metric(&p, "again_queue", "gauge", "Nars waiting to be published again.", queued(s));
	metric(&p, "pinned", "gauge", "Nars pinned in IPFS.", s->pinned);
	say(&p,
	    "# HELP narlock_publish_ipfs_up Whether an IPFS daemon answers.\n# TYPE narlock_publish_ipfs_up gauge\n");
	for (unsigned i = 0; i < s->ndaemons && i < SHARED_DAEMONS; i++)
		say(&p, "narlock_publish_ipfs_up{daemon=\"%u\"} %u\n", i + 1, s->daemons[i].up != 0);
	return p.n;
}
