/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): names of hosts and their addresses, and which origins are dead. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "helper/fetch/hosts.h"

int
hosts_init(struct hosts *h, struct err *e)
{
	memset(h, 0, sizeof *h);
	h->hosts = calloc(LIMIT_HOSTS, sizeof *h->hosts);
	h->dead = calloc(LIMIT_HOSTS, sizeof *h->dead);
	if (h->hosts == NULL || h->dead == NULL) {
		hosts_free(h);
		return err_sys(e, ENOMEM, "no memory for the table of hosts");
	}
	return 0;
}

void
hosts_free(struct hosts *h)
{
	free(h->hosts);
	free(h->dead);
	memset(h, 0, sizeof *h);
}

static struct host *
find(struct hosts *h, const char *name)
{
	for (size_t i = 0; i < h->count; i++)
		if (strcmp(h->hosts[i].name, name) == 0)
			return &h->hosts[i];
	return NULL;
}

/* A new entry; when the table is full the one with the oldest addresses goes, but none that was asked for:
 * its answer would then look like one to no question. */
static struct host *
add(struct hosts *h, const char *name)
{
	struct host *place = NULL;

	if (h->count < LIMIT_HOSTS)
		place = &h->hosts[h->count++];
	for (size_t i = 0; h->count == LIMIT_HOSTS && place == NULL && i < h->count; i++)
		if (!h->hosts[i].asked)
			place = &h->hosts[i];
	for (size_t i = 0; place != NULL && place->name[0] != '\0' && i < h->count; i++)
		if (!h->hosts[i].asked && h->hosts[i].known_ms < place->known_ms)
			place = &h->hosts[i];
	if (place == NULL)
		return NULL;
	memset(place, 0, sizeof *place);
	memcpy(place->name, name, strlen(name) + 1);
	return place;
}

static int
needs_no_question(const char *name)
{
	struct in6_addr any;

	return strcmp(name, "localhost") == 0 || inet_pton(AF_INET, name, &any) == 1 ||
	    inet_pton(AF_INET6, name, &any) == 1;
}

int
hosts_local(const char *name)
{
	struct in_addr v4;
	struct in6_addr v6;

	if (inet_pton(AF_INET, name, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == 127;
	if (inet_pton(AF_INET6, name, &v6) == 1)
		return IN6_IS_ADDR_LOOPBACK(&v6);
	return strcmp(name, "localhost") == 0;
}

enum host_state
hosts_need(struct hosts *h, const char *name, uint64_t now, const char **addresses)
{
	struct host *host;

	*addresses = NULL;
	if (needs_no_question(name))
		return HOST_READY;
	if ((host = find(h, name)) == NULL && (host = add(h, name)) == NULL)
		return HOST_WAITING; /* 256 questions under way: not before one is answered */
	if (host->known_ms != 0 && now - host->known_ms < HOSTS_FRESH_MS) {
		*addresses = host->addresses;
		return HOST_READY;
	}
	if (host->asked && now - host->asked_ms >= HOSTS_ANSWER_MS)
		host->gave_up = 1;
	if (host->gave_up || (host->unknown_ms != 0 && now - host->unknown_ms < HOSTS_UNKNOWN_MS))
		return HOST_UNKNOWN;
	if (!host->asked)
		host->wanted = 1;
	return HOST_WAITING;
}

void
hosts_stale(struct hosts *h, const char *name)
{
	struct host *host = find(h, name);

	if (host != NULL)
		host->known_ms = 0;
}

const char *
hosts_question(struct hosts *h, uint64_t now)
{
	if (h->questions >= LIMIT_RESOLVES)
		return NULL;
	for (size_t i = 0; i < h->count; i++) {
		struct host *host = &h->hosts[i];

		if (!host->wanted || host->asked)
			continue;
		host->wanted = 0;
		host->asked = 1;
		host->asked_ms = now;
		h->questions++;
		return host->name;
	}
	return NULL;
}

static int
add_address(char *list, const uint8_t *entry, struct err *e)
{
	char text[INET6_ADDRSTRLEN];

	if (entry[0] != 4 && entry[0] != 6)
		return err_set(e, "ADDRESSES: an address of kind %u", entry[0]);
	if (inet_ntop(entry[0] == 4 ? AF_INET : AF_INET6, entry + 1, text, sizeof text) == NULL)
		return err_sys(e, errno, "ADDRESSES: an address that cannot be written");
	if (list[0] != '\0')
		strcat(list, ",");
	strcat(list, entry[0] == 6 ? "[" : "");
	strcat(list, text);
	strcat(list, entry[0] == 6 ? "]" : "");
	return 0;
}

int
hosts_answer(struct hosts *h, const struct wire_msg *m, uint64_t now, struct err *e)
{
	char name[LIMIT_HOST + 1];
	struct host *host;

	wire_copy(name, sizeof name, m->text);
	host = find(h, name);
	if (host == NULL || !host->asked)
		return err_set(e, "ADDRESSES for a host that was not asked for");
	if (m->status > 1 || m->blob.len % ADDRESS_BYTES != 0 || (m->status == 0) != (m->blob.len > 0))
		return err_set(e, "ADDRESSES of a wrong shape");
	host->asked = host->gave_up = 0;
	h->questions--;
	host->addresses[0] = '\0';
	now = now != 0 ? now : 1;
	host->unknown_ms = m->status != 0 ? now : 0;
	host->known_ms = m->status == 0 ? now : 0;
	for (size_t i = 0; i < m->blob.len; i += ADDRESS_BYTES)
		if (add_address(host->addresses, m->blob.data + i, e) != 0)
			return -1;
	return 0;
}

uint64_t
hosts_deadline(const struct hosts *h)
{
	uint64_t first = UINT64_MAX;

	for (size_t i = 0; h->questions > 0 && i < h->count; i++)
		if (h->hosts[i].asked && !h->hosts[i].gave_up && h->hosts[i].asked_ms + HOSTS_ANSWER_MS < first)
			first = h->hosts[i].asked_ms + HOSTS_ANSWER_MS;
	return first;
}

int
hosts_dead(const struct hosts *h, const struct url *u)
{
	for (size_t i = 0; i < h->dead_count && i < LIMIT_HOSTS; i++)
		if (h->dead[i].port == u->port && strcmp(h->dead[i].host, u->host) == 0)
			return 1;
	return 0;
}

void
hosts_die(struct hosts *h, const struct url *u)
{
	struct dead *d;

	if (hosts_dead(h, u))
		return;
	d = &h->dead[h->dead_count++ % LIMIT_HOSTS];
	memcpy(d->host, u->host, sizeof d->host);
	d->port = u->port;
}
