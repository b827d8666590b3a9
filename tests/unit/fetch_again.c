/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: who is asked to publish a nar again, how often, and what follows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/web_bed.h"

#include "helper/fetch/again.h"

#define PATH "POST /publish-this-nar-again-into-IPFS/"
#define NAR "nar/zstd/0123456789abcdfghijklmnpqrsvwxyz-hello-2.12"

struct script {
	const char *status[4]; /* of the first requests; NULL: the one before */
	const char *headers;
	unsigned n;
};

struct world {
	struct fetch *fetch;
	int broker;
	struct web *web, *other;
	struct script script, other_script;
};

static int
answer(struct web *web, int conn, const char *request)
{
	struct script *s = web->ctx;
	const char *status = s->status[s->n];

	(void)request;
	if (s->n < 3 && s->status[s->n + 1] != NULL)
		s->n++;
	return web_reply(conn, status, s->headers != NULL ? s->headers : "", "text", 4);
}

static struct world *
new_world(const char *status)
{
	struct world *w = calloc(1, sizeof *w);

	assert_non_null(w);
	w->script.status[0] = status;
	w->other_script.status[0] = "404 Not Found";
	w->fetch = web_fetch(&w->broker);
	w->web = web_new(answer, &w->script);
	w->other = web_new(answer, &w->other_script);
	web_server(w->fetch, w->web->url, SERVER_TRUSTED);
	web_server(w->fetch, w->other->url, SERVER_TRUSTED);
	return w;
}

static void
free_world(struct world *w)
{
	web_fetch_free(w->fetch, w->broker);
	web_free(w->web);
	web_free(w->other);
	free(w);
}

/* Until something is to be done, three seconds at most. */
static enum again_step
run(struct world *w, const char **why)
{
	uint64_t stop = web_now() + 3000;
	enum again_step step;

	while ((step = again_pump(w->fetch, why)) == AGAIN_NOTHING && web_now() < stop)
		web_turn(w->fetch);
	return step;
}

static int
begin(struct world *w, uint16_t server, const char *url)
{
	struct again_place place = { server, url };

	return again_begin(w->fetch, &place, 1);
}

static void
names(void **state)
{
	static const char *const good[][2] = {
		{ "nar/zstd/abc-def", "abc-def" }, { "https://h/nar/gzip/x%20y?a=b/c", "x%20y" }, { "nar/x#y", "x" },
		{ "plain", "plain" },
	};
	static const char *const bad[] = { "", "nar/", "nar/..", "nar/.hidden", "a/b&c", "a/b\nc", "a/b c", "a/?x" };
	char name[16], big[40];

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		assert_int_equal(again_name(name, sizeof name, good[i][0]), 0);
		assert_string_equal(name, good[i][1]);
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(again_name(name, sizeof name, bad[i]), -1);
	memset(big, 'a', sizeof big);
	big[16] = '\0';
	assert_int_equal(again_name(name, sizeof name, big), -1);
	big[15] = '\0';
	assert_int_equal(again_name(name, sizeof name, big), 0);
}

static void
publishes(void **state)
{
	struct world *w = new_world("202 Accepted");
	const char *why;
	uint64_t start = web_now();

	(void)state;
	w->script.headers = "Location: /status/1\r\n";
	assert_int_equal(begin(w, 0, NAR), 1);
	assert_int_equal(run(w, &why), AGAIN_RETRY);
	assert_true(web_now() >= start + 500);
	assert_int_equal(run(w, &why), AGAIN_RETRY);
	assert_true(web_now() >= start + 1500 && web_now() < start + 2300);
	assert_int_equal(w->web->nrequests, 1); /* Location is not looked at */
	assert_int_equal(web_count(w->web, PATH "0123456789abcdfghijklmnpqrsvwxyz-hello-2.12 HTTP/1.1\r\n"), 1);
	assert_non_null(strstr(w->web->requests[0], "\r\nContent-Length: 0\r\n"));
	again_end(w->fetch);
	assert_true(again_deadline(w->fetch) == UINT64_MAX);
	/* Once for a nar. */
	assert_int_equal(begin(w, 0, NAR), 0);
	assert_int_equal(begin(w, 0, NAR "x"), 1);
	free_world(w);
}

static void
has_an_end(void **state)
{
	struct world *w = new_world("200 OK");
	const char *why;
	unsigned looks = 0;

	(void)state;
	assert_int_equal(begin(w, 0, NAR), 1);
	assert_int_equal(run(w, &why), AGAIN_RETRY); /* at once */
	for (looks = 1; looks < 100; looks++) {
		enum again_step step;

		w->fetch->now = again_deadline(w->fetch);
		step = again_pump(w->fetch, &why);
		if (step == AGAIN_OVER)
			break;
		assert_int_equal(step, AGAIN_RETRY);
	}
	assert_int_equal(looks, AGAIN_RETRIES);
	assert_true(w->fetch->now < web_now() + 30000);
	free_world(w);
}

static void
next_server(void **state)
{
	static const char *const no[] = { "404 Not Found", "405 Method Not Allowed", "500 Oops", "302 Found",
	    "429 Too Many Requests" };

	(void)state;
	for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) {
		struct world *w = new_world(no[i]);
		struct again_place places[] = { { 0, NAR }, { 0, NAR }, { 1, NAR } };
		const char *why;

		w->script.headers = i == 3 ? "Location: /x\r\n" : "Retry-After: 100\r\n";
		w->other_script.status[0] = i == 0 ? "404 Not Found" : "202 Accepted";
		assert_int_equal(again_begin(w->fetch, places, 3), 1);
		assert_int_equal(run(w, &why), i == 0 ? AGAIN_OVER : AGAIN_RETRY);
		assert_int_equal(w->web->nrequests, 1);
		assert_int_equal(w->other->nrequests, 1);
		assert_true(i != 0 || strstr(why, "404") != NULL);
		free_world(w);
	}
}

static void
retry_after(void **state)
{
	struct world *w = new_world("429 Too Many Requests");
	const char *why;
	uint64_t start = web_now();

	(void)state;
	w->script.headers = "Retry-After: 1\r\n";
	w->script.status[1] = "200 OK";
	assert_int_equal(begin(w, 0, NAR), 1);
	assert_int_equal(run(w, &why), AGAIN_RETRY);
	assert_true(web_now() >= start + 1000);
	assert_int_equal(w->web->nrequests, 2);
	free_world(w);
	/* Not for ever. */
	w = new_world("429 Too Many Requests");
	w->script.headers = "Retry-After: 0\r\n";
	assert_int_equal(begin(w, 0, NAR), 1);
	assert_int_equal(run(w, &why), AGAIN_OVER);
	assert_int_equal(w->web->nrequests, 2);
	free_world(w);
}

static void
who_is_not_asked(void **state)
{
	struct world *w = new_world("200 OK");
	struct err e;

	(void)state;
	w->fetch->servers[0].kind = SERVER_UNTRUSTED;
	assert_int_equal(begin(w, 0, NAR), 0);
	w->fetch->servers[0].kind = SERVER_INDEX;
	assert_int_equal(begin(w, 0, NAR), 0);
	w->fetch->servers[0].kind = SERVER_TRUSTED;
	assert_int_equal(begin(w, 7, NAR), 0);
	assert_int_equal(begin(w, 0, "nar/.."), 0);
	assert_int_equal(blockconf_set(w->fetch->blocks, "publish-again", "no", &e), 0);
	assert_int_equal(begin(w, 0, NAR), 0);
	assert_int_equal(blockconf_set(w->fetch->blocks, "publish-again", "yes", &e), 0);
	hosts_die(&w->fetch->hosts, &w->fetch->servers[0].url);
	assert_int_equal(begin(w, 0, NAR), 0);
	assert_int_equal(w->web->nrequests, 0);
	free_world(w);
}

static int
no_answer(struct web *web, int conn, const char *request)
{
	char c;

	(void)web;
	(void)request;
	return recv(conn, &c, 1, 0) > 0;
}

static void
silence(void **state)
{
	struct world *w = new_world("200 OK");
	const char *why;

	(void)state;
	w->web->answer = no_answer;
	assert_int_equal(begin(w, 0, NAR), 1);
	assert_int_equal(run(w, &why), AGAIN_OVER);
	assert_non_null(strstr(why, "does not answer"));
	free_world(w);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names), cmocka_unit_test(publishes), cmocka_unit_test(has_an_end),
		cmocka_unit_test(next_server), cmocka_unit_test(retry_after), cmocka_unit_test(who_is_not_asked),
		cmocka_unit_test(silence),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
