/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch, heal): blocks as the body of one request, and what the answer means. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "helper/fetch/put.h"
#include "helper/ipfs/car.h"

#define UNTRIED 0
#define WORKS 1
#define FAILS 2

/* What stands before and behind blocks. */
#define EXTRA (2 * RPC_PART + CAR_PUT_HEADER)

enum put_way
put_choose(const struct put_known *k, size_t waiting, unsigned *most)
{
	*most = PUT_BLOCKS;
	if (waiting >= PUT_FEW && k->car != FAILS)
		return PUT_CAR;
	if (waiting > 1 && k->form != FAILS)
		return PUT_FORM;
	*most = 1;
	return PUT_ONE;
}

int
put_boundary(char text[RPC_BOUNDARY + 1])
{
	uint8_t bytes[RPC_BOUNDARY / 2];

	if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
		return -1;
	for (size_t i = 0; i < sizeof bytes; i++)
		(void)snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return 0;
}

static void
append(struct put_batch *b, const void *data, size_t len)
{
	memcpy(b->body + b->body_len, data, len);
	b->body_len += len;
}

int
put_begin(struct put_batch *b, enum put_way way, const char *boundary, const uint8_t first[ERIS_REF],
    struct err *e)
{
	size_t most = way == PUT_ONE ? 1 : PUT_BLOCKS;
	size_t room = EXTRA + most * (RPC_PART + ERIS_LARGE);

	if (b->room < room) {
		free(b->body);
		b->room = 0;
		if ((b->body = malloc(room)) == NULL)
			return err_set(e, "no memory for blocks");
		b->room = room;
	}
	b->way = way;
	b->n = 0;
	b->body_len = 0;
	memset(b->stored, 0, sizeof b->stored);
	memcpy(b->boundary, boundary, RPC_BOUNDARY);
	b->boundary[RPC_BOUNDARY] = '\0';
	if (way == PUT_CAR) {
		b->body_len = rpc_part_head((char *)b->body, b->boundary, 1);
		b->body_len += car_put_header(b->body + b->body_len, first);
	}
	return 0;
}

void
put_free(struct put_batch *b)
{
	free(b->body);
	b->body = NULL;
	b->room = 0;
}

void
put_add(struct put_batch *b, const uint8_t ref[ERIS_REF], const uint8_t *data, size_t len)
{
	uint8_t head[CAR_PUT_SECTION];
	char part[RPC_PART];

	if (b->way == PUT_CAR)
		append(b, head, car_put_section(head, CAR_RAW, ref, len));
	else
		append(b, part, rpc_part_head(part, b->boundary, b->n == 0));
	memcpy(b->refs[b->n], ref, ERIS_REF);
	b->at[b->n] = b->body_len;
	b->len[b->n++] = (uint32_t)len;
	append(b, data, len);
}

void
put_end(struct put_batch *b)
{
	char part[RPC_PART];

	append(b, part, rpc_part_end(part, b->boundary));
}

enum rpc_ask
put_ask(const struct put_batch *b)
{
	return b->way == PUT_CAR ? RPC_IMPORT : RPC_PUT;
}

/* --- Answers ----------------------------------------------------------------------------------------- */

static enum put_result
all_stored(struct put_batch *b)
{
	memset(b->stored, 1, b->n);
	return PUT_DONE;
}

/* "BlockCount":N, as number or text; -1: nothing is said. */
static int64_t
block_count(const struct rpc_reply *r)
{
	static const char name[] = "\"BlockCount\":";
	const uint8_t *at = memmem(r->body, r->len, name, sizeof name - 1), *end = r->body + r->len;
	int64_t n = 0;

	if (at == NULL)
		return -1;
	at += sizeof name - 1;
	while (at < end && (*at == ' ' || *at == '"'))
		at++;
	if (at == end || *at < '0' || *at > '9')
		return -1;
	for (; at < end && *at >= '0' && *at <= '9' && n < 1000000; at++)
		n = n * 10 + (*at - '0');
	return n;
}

static enum put_result
judge_car(struct put_batch *b, const struct rpc_source *s, struct put_known *k, const struct rpc_reply *r,
    struct rpc_judgement *j)
{
	int64_t count;

	rpc_judge(j, s, RPC_IMPORT, NULL, 0, r);
	if (j->verdict != RPC_BLOCK) {
		/* A daemon that is there, but not for this: it may take blocks in another way. */
		if (!r->connected || r->status == 0 || r->status == 429 || r->status == 503)
			return PUT_FAILED;
		k->car = FAILS;
		return PUT_SOME;
	}
	count = block_count(r);
	if (count < 0 && k->car != WORKS)
		return PUT_PROVE;
	if (count >= 0 && count < (int64_t)b->n) {
		k->car = FAILS;
		return PUT_SOME;
	}
	k->car = WORKS;
	return all_stored(b);
}

enum put_result
put_judge(struct put_batch *b, const struct rpc_source *s, struct put_known *k, const struct rpc_reply *r,
    struct rpc_judgement *j)
{
	unsigned got = 0;

	if (b->way == PUT_CAR)
		return judge_car(b, s, k, r, j);
	rpc_judge_put(j, (const uint8_t (*)[ERIS_REF])b->refs, b->n, b->stored, r);
	for (unsigned i = 0; i < b->n; i++)
		got += b->stored[i];
	if (got == b->n) {
		k->form = b->n > 1 ? WORKS : k->form;
		return PUT_DONE;
	}
	if (b->way == PUT_FORM && r->connected && r->status != 0 && r->status != 429 && r->status != 503) {
		k->form = FAILS;
		return PUT_SOME;
	}
	return PUT_FAILED;
}

enum put_result
put_proved(struct put_batch *b, struct put_known *k, int there)
{
	k->car = there ? WORKS : FAILS;
	return there ? all_stored(b) : PUT_SOME;
}
