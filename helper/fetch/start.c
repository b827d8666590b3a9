/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch, heal): what a process that makes requests needs before the lock, and the time. */
#include <malloc.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "helper/fetch/start.h"
#include "helper/fetch/transfer.h"

static int
has_word(const char *text, const char *word)
{
	return text != NULL && strncmp(text, word, strlen(word)) == 0;
}

/* --- libcurl's memory -------------------------------------------------------------------------------- */

/* libcurl keeps a line of a header until it has its end, up to 100 KiB of it, in a piece of memory that doubles;
 * hundreds of answers come at a time, and it does not tell how long such a line has become.  So no piece becomes BIG
 * when such pieces have MOST together: that request ends, as without memory.  Others that grow are what came while a
 * transfer paused, and forms: few.  The buffers of nars and their parts count, too, and never fail. */
#define BIG 32768
#define MOST ((size_t)3 * 1024 * 1024)

/* In pieces of BIG and more.  The one variable of its kind: these functions are given no context. */
static size_t big;

static size_t
weight(void *piece)
{
	size_t n = malloc_usable_size(piece);

	return n >= BIG ? n : 0;
}

static void *
counted(void *piece)
{
	big += weight(piece);
	return piece;
}

static void *
take(size_t size)
{
	return counted(malloc(size));
}

static void *
take_zeroed(size_t n, size_t size)
{
	return counted(calloc(n, size));
}

static char *
take_copy(const char *text)
{
	return counted(strdup(text));
}

static void
give_back(void *piece)
{
	big -= weight(piece);
	free(piece);
}

static void *
grow(void *piece, size_t size)
{
	size_t old = weight(piece);
	void *new;

	if (size >= BIG && size > old && big - old + size > MOST)
		return NULL;
	if ((new = realloc(piece, size)) != NULL)
		big = big - old + weight(new);
	return new;
}

/* ----------------------------------------------------------------------------------------------------- */

/* Whatever these libraries open, ask or create once, they do now. */
int
start_libraries(struct fetch *f, struct err *e)
{
	unsigned char byte;
	time_t now = time(NULL);
	struct tm tm;
	SSL_CTX *ctx;

	tzset();
	(void)localtime_r(&now, &tm);
	if (curl_global_init_mem(CURL_GLOBAL_DEFAULT, take, give_back, grow, take_copy, take_zeroed) != CURLE_OK)
		return err_set(e, "libcurl does not start");
	if (!has_word(curl_version_info(CURLVERSION_NOW)->ssl_version, "OpenSSL"))
		return err_set(e, "libcurl does not use OpenSSL");
	ctx = SSL_CTX_new(TLS_client_method());
	if (ctx == NULL || RAND_bytes(&byte, 1) != 1)
		return err_set(e, "OpenSSL does not start");
	SSL_CTX_free(ctx);
	f->seed = (uint32_t)now * 31 + (uint32_t)getpid();
	return (f->multi = transfer_multi(e)) != NULL ? 0 : -1;
}

void
start_clocks(struct fetch *f)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	f->now = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
	clock_gettime(CLOCK_REALTIME, &t);
	f->clock = t.tv_sec;
}
