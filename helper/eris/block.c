/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (eris): the cryptography of single blocks: BLAKE2b-256 and ChaCha20 (RFC 8439), and what may be
 * in them. */
#include <sodium.h>
#include <string.h>

#include "helper/eris/blake2b4.h"
#include "helper/eris/block.h"

_Static_assert(sizeof(struct eris_pair) == ERIS_PAIR, "pairs are used as they stand in nodes");

const uint8_t block_null_secret[ERIS_KEY];

int
block_init(struct err *e)
{
	return sodium_init() < 0 ? err_set(e, "libsodium does not start") : 0;
}

static void
hash(uint8_t out[32], const uint8_t *data, size_t len, const uint8_t *key)
{
	crypto_generichash_blake2b(out, 32, data, len, key, key == NULL ? 0 : ERIS_KEY);
}

/* The nonce is the level and eleven zeros; the block counter starts at 0. */
static void
cipher(uint8_t *out, const uint8_t *in, uint32_t block_size, unsigned level, const uint8_t key[ERIS_KEY])
{
	const uint8_t nonce[12] = { (uint8_t)level };

	crypto_stream_chacha20_ietf_xor(out, in, block_size, nonce, key);
}

const char *
block_verify(const uint8_t ref[ERIS_REF], const uint8_t *block, size_t len, uint32_t block_size)
{
	uint8_t found[ERIS_REF];

	if (len < block_size)
		return "it is too short";
	if (len > block_size)
		return "it is too long";
	hash(found, block, len, NULL);
	return memcmp(found, ref, ERIS_REF) == 0 ? NULL : "its hash is another one";
}

/* The hashes of N blocks, at most 4. */
static void
hash_some(uint8_t found[4][32], const uint8_t *const *blocks, unsigned n, uint32_t block_size)
{
	if (n >= 3) {
		/* With three, the fourth place is filled with one of them. */
		const uint8_t *in[4] = { blocks[0], blocks[1], blocks[2], blocks[n - 1] };

		blake2b4(found, in, block_size, NULL);
	} else {
		for (unsigned i = 0; i < n; i++)
			hash(found[i], blocks[i], block_size, NULL);
	}
}

void
block_refs(uint8_t (*refs)[ERIS_REF], const uint8_t *blocks, unsigned n, uint32_t block_size)
{
	const uint8_t *each[4] = { NULL };
	uint8_t found[4][32];

	for (unsigned i = 0; i < n; i++)
		each[i] = blocks + (size_t)i * block_size;
	hash_some(found, each, n, block_size);
	memcpy(refs, found, (size_t)n * ERIS_REF);
}

void
block_verify_some(int *good, const uint8_t *const *refs, const uint8_t *const *blocks, unsigned n,
    uint32_t block_size)
{
	uint8_t found[4][32];

	hash_some(found, blocks, n, block_size);
	for (unsigned i = 0; i < n; i++)
		good[i] = memcmp(found[i], refs[i], ERIS_REF) == 0;
}

void
block_seal_leaves(uint8_t *blocks, size_t n, uint32_t block_size, const uint8_t secret[ERIS_KEY],
    struct eris_pair *pairs)
{
	uint8_t hashes[4][32];

	while (n >= 3) {
		/* With three, the fourth place is filled with one of them. */
		const unsigned some = n > 3 ? 4 : 3;
		const uint8_t *in[4];

		for (unsigned i = 0; i < 4; i++)
			in[i] = blocks + (size_t)(i < some ? i : some - 1) * block_size;
		blake2b4(hashes, in, block_size, secret);
		for (unsigned i = 0; i < some; i++) {
			uint8_t *block = blocks + (size_t)i * block_size;

			memcpy(pairs[i].key, hashes[i], ERIS_KEY);
			cipher(block, block, block_size, 0, pairs[i].key);
		}
		blake2b4(hashes, in, block_size, NULL);
		for (unsigned i = 0; i < some; i++)
			memcpy(pairs[i].ref, hashes[i], ERIS_REF);
		n -= some;
		blocks += (size_t)some * block_size;
		pairs += some;
	}
	for (; n > 0; n--, blocks += block_size, pairs++) {
		hash(pairs->key, blocks, block_size, secret);
		cipher(blocks, blocks, block_size, 0, pairs->key);
		hash(pairs->ref, blocks, block_size, NULL);
	}
}

void
block_seal_node(uint8_t *block, uint32_t block_size, unsigned level, struct eris_pair *pair)
{
	hash(pair->key, block, block_size, NULL);
	cipher(block, block, block_size, level, pair->key);
	hash(pair->ref, block, block_size, NULL);
}

void
block_leaf(uint8_t *block, struct eris_pair *pair, const uint8_t *data, size_t len, uint32_t block_size)
{
	if (len > 0)
		memmove(block, data, len);
	if (len < block_size) {
		block[len] = 0x80;
		memset(block + len + 1, 0, block_size - len - 1);
	}
	block_seal_leaves(block, 1, block_size, block_null_secret, pair);
}

void
block_open(uint8_t *plain, const uint8_t *block, uint32_t block_size, unsigned level,
    const uint8_t key[ERIS_KEY])
{
	cipher(plain, block, block_size, level, key);
}

int
block_key_fits(const uint8_t *plain, uint32_t block_size, const uint8_t key[ERIS_KEY])
{
	uint8_t found[ERIS_KEY];

	hash(found, plain, block_size, NULL);
	return memcmp(found, key, ERIS_KEY) == 0;
}

const char *
block_children(const uint8_t *plain, uint32_t block_size, unsigned *n)
{
	unsigned count = 0;

	while (count < eris_arity(block_size) && !sodium_is_zero(plain + (size_t)count * ERIS_PAIR, ERIS_REF))
		count++;
	if (!sodium_is_zero(plain + (size_t)count * ERIS_PAIR, block_size - (size_t)count * ERIS_PAIR))
		return "the node has something behind its last pair";
	*n = count;
	return count == 0 ? "the node is empty" : NULL;
}

const char *
block_unpad(const uint8_t *plain, uint32_t block_size, size_t *len)
{
	size_t at = block_size;

	while (at > 0 && plain[at - 1] == 0)
		at--;
	if (at == 0 || plain[at - 1] != 0x80)
		return "its padding is wrong, or the key";
	*len = at - 1;
	return NULL;
}
