/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: libgcrypt's start, and SHA-256 in one call. */
#include <gcrypt.h>
#include <stdlib.h>
#include <string.h>

#include "broker/crypto.h"

int crypto_init(struct err *e)
{
	/* Older ones lack ECDSA over Ed25519 or read s-expressions less carefully. */
	if (!gcry_check_version("1.8.0"))
		return err_set(e, "libgcrypt %s is too old, 1.8.0 is needed", gcry_check_version(NULL));
	/* No secret ever enters this process: locked memory would only cost a system call. */
	gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
	gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
	return 0;
}

void crypto_sha256(uint8_t out[32], const void *data, size_t len)
{
	gcry_md_hash_buffer(GCRY_MD_SHA256, out, data, len);
}

char *crypto_canon(const char *text, size_t len, size_t *canon_len)
{
	gcry_sexp_t sexp = NULL;
	char *canon = NULL;
	size_t size;

	if (len == 0 || gcry_sexp_new(&sexp, text, len, 1))
		return NULL;
	/* The size counts a NUL at the end. */
	size = gcry_sexp_sprint(sexp, GCRYSEXP_FMT_CANON, NULL, 0);
	canon = size > 0 ? malloc(size) : NULL;
	if (canon)
		*canon_len = gcry_sexp_sprint(sexp, GCRYSEXP_FMT_CANON, canon, size);
	gcry_sexp_release(sexp);
	return canon;
}

bool canon_take(struct canon *c, const char *literal)
{
	size_t n = strlen(literal);

	if ((size_t)(c->end - c->p) < n || memcmp(c->p, literal, n) != 0)
		return false;
	c->p += n;
	return true;
}

bool canon_atom(struct canon *c, const char **at, size_t *len)
{
	const char *p = c->p;
	size_t n = 0, left = (size_t)(c->end - c->p);

	for (; p < c->end && *p >= '0' && *p <= '9' && n <= left; p++)
		n = n * 10 + (size_t)(*p - '0');
	if (p == c->p || p == c->end || *p != ':' || n > (size_t)(c->end - p) - 1)
		return false;
	*at = p + 1;
	*len = n;
	c->p = p + 1 + n;
	return true;
}
