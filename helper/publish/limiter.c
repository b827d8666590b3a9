/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (publish): how many requests an address may make.
 *
 * A table of fixed size: addresses that share a place share a rate.  The place is chosen with a random key,
 * so nobody can choose whose rate to spend. */
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "helper/publish/worker.h"

#define PLACES 16384

struct limiter {
	pthread_mutex_t lock;
	double rate, burst;
	uint8_t key[crypto_shorthash_KEYBYTES];
	struct {
		int64_t at;   /* milliseconds */
		double left;  /* requests */
	} place[PLACES];
};

struct limiter *
limiter_new(double rate, unsigned burst)
{
	struct limiter *l = calloc(1, sizeof *l);

	if (l == NULL)
		return NULL;
	pthread_mutex_init(&l->lock, NULL);
	l->rate = rate;
	l->burst = burst;
	randombytes_buf(l->key, sizeof l->key);
	return l;
}

void
limiter_free(struct limiter *l)
{
	if (l != NULL)
		pthread_mutex_destroy(&l->lock);
	free(l);
}

/* An IPv6 host has its whole network to choose from. */
static size_t
place_of(const struct limiter *l, const struct sockaddr *address)
{
	uint8_t bytes[8] = { 0 }, hash[crypto_shorthash_BYTES];
	size_t at;

	if (address->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;

		memcpy(bytes, in6->sin6_addr.s6_addr + (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) ? 8 : 0), 8);
	} else if (address->sa_family == AF_INET)
		memcpy(bytes, &((const struct sockaddr_in *)(const void *)address)->sin_addr, 4);
	crypto_shorthash(hash, bytes, sizeof bytes, l->key);
	memcpy(&at, hash, sizeof at);
	return at % PLACES;
}

int
limiter_take(struct limiter *l, const struct sockaddr *address, int64_t now)
{
	size_t at;
	double left;

	if (l == NULL)
		return 1;
	at = place_of(l, address);
	pthread_mutex_lock(&l->lock);
	left = l->place[at].at == 0 ? l->burst :
	    l->place[at].left + (double)(now - l->place[at].at) * l->rate / 1000;
	if (left > l->burst)
		left = l->burst;
	l->place[at].at = now;
	l->place[at].left = left >= 1 ? left - 1 : left;
	pthread_mutex_unlock(&l->lock);
	return left >= 1;
}
