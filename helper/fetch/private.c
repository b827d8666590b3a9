/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch, heal): which addresses and names belong to a network that is not everybody's. */
#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>

#include "helper/fetch/private.h"

static int
private_v4(uint32_t a)
{
	static const struct { uint32_t net, bits; } nets[] = {
		{ 0x00000000, 8 },  /* this network */
		{ 0x0a000000, 8 },  /* RFC 1918 */
		{ 0x64400000, 10 }, /* RFC 6598: behind a provider's NAT */
		{ 0x7f000000, 8 },  /* loopback */
		{ 0xa9fe0000, 16 }, /* link-local */
		{ 0xac100000, 12 }, /* RFC 1918 */
		{ 0xa83f8110, 32 }, /* a cloud's metadata, at an address like any other */
		{ 0xc0000000, 24 }, /* protocol assignments */
		{ 0xc0a80000, 16 }, /* RFC 1918 */
		{ 0xc6120000, 15 }, /* benchmarks */
		{ 0xe0000000, 3 },  /* multicast, reserved, broadcast */
	};

	for (size_t i = 0; i < sizeof nets / sizeof nets[0]; i++)
		if ((a ^ nets[i].net) >> (32 - nets[i].bits) == 0)
			return 1;
	return 0;
}

static int
private_v6(const uint8_t *a)
{
	static const uint8_t zero[16], mapped[12] = { [10] = 0xff, [11] = 0xff };
	static const uint8_t nat64[12] = { 0, 0x64, 0xff, 0x9b };
	uint32_t v4 = (uint32_t)a[12] << 24 | (uint32_t)a[13] << 16 | (uint32_t)a[14] << 8 | a[15];

	if (memcmp(a, mapped, sizeof mapped) == 0 || memcmp(a, nat64, sizeof nat64) == 0)
		return private_v4(v4);
	if (memcmp(a, zero, 12) == 0) /* unspecified, loopback, and the old way to write IPv4 addresses */
		return v4 <= 1 || private_v4(v4);
	/* Only 2000::/3 is routed.  In it: Teredo, ORCHID and the like, and 6to4 (any IPv4 address behind it). */
	return (a[0] & 0xe0) != 0x20 || (a[0] == 0x20 && a[1] == 0x01 && (a[2] & 0xfe) == 0) ||
	    (a[0] == 0x20 && a[1] == 0x02);
}

int
private_address(const char *text)
{
	struct in_addr v4;
	struct in6_addr v6;

	if (inet_pton(AF_INET, text, &v4) == 1)
		return private_v4(ntohl(v4.s_addr));
	return inet_pton(AF_INET6, text, &v6) == 1 && private_v6(v6.s6_addr);
}

int
private_list(const char *text)
{
	char one[INET6_ADDRSTRLEN];

	while (*text != '\0') {
		size_t skip = strspn(text, "[],"), n = strcspn(text + skip, "],");

		if (n > 0 && n < sizeof one) {
			memcpy(one, text + skip, n);
			one[n] = '\0';
			if (private_address(one))
				return 1;
		}
		text += skip + n;
	}
	return 0;
}

int
private_name(const char *host)
{
	static const char *const local[] = { ".localhost", ".localdomain", ".local", ".lan", ".home", ".corp", ".private",
		".internal", ".intranet", ".home.arpa", ".test" };
	char name[256];
	size_t len = strlen(host);
	struct in6_addr any;

	if (len >= sizeof name || inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1)
		return len >= sizeof name || private_address(host);
	memcpy(name, host, len + 1);
	if (len > 0 && name[len - 1] == '.') /* the root's dot */
		name[--len] = '\0';
	if (strchr(name, '.') == NULL)
		return 1;
	for (size_t i = 0; i < sizeof local / sizeof local[0]; i++)
		if (len > strlen(local[i]) && strcmp(name + len - strlen(local[i]), local[i]) == 0)
			return 1;
	return 0;
}
