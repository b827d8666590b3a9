/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: who signed a narinfo. */
#include <gcrypt.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "broker/crypto.h"
#include "broker/signature.h"
#include "ipc/limits.h"
#include "ipc/text.h"

/* One value of 1..32 bytes. */
static bool take_bytes(struct canon *c, uint8_t out[32], size_t *len)
{
	const char *at;

	if (!canon_atom(c, &at, len) || *len < 1 || *len > 32)
		return false;
	memcpy(out, at, *len);
	return true;
}

static int base64_value(char c)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *p = c ? strchr(alphabet, c) : NULL;

	return p ? (int)(p - alphabet) : -1;
}

/* Strict base64: padded, nothing between, no bits beyond the end.  OUT has room for LEN / 4 * 3 bytes. */
static int base64_decode(char *out, size_t *out_len, const char *text, size_t len)
{
	size_t pad = 0, n = 0;
	unsigned bits = 0;

	if (len == 0 || len % 4 != 0)
		return -1;
	while (pad < 2 && text[len - 1 - pad] == '=')
		pad++;
	for (size_t i = 0; i < len - pad; i++) {
		int v = base64_value(text[i]);

		if (v < 0)
			return -1;
		bits = bits << 6 | (unsigned)v;
		if (i % 4 != 0)
			out[n++] = (char)(bits >> (6 - i % 4 * 2) & 255);
	}
	*out_len = n;
	/* The last of 2 or 3 characters has 4 or 2 bits that no byte takes. */
	return pad && bits & (pad == 2 ? 15u : 3u) ? -1 : 0;
}

/* Guix makes a string of the s-expression as if it were Latin-1 and encodes that as UTF-8: a hash whose bytes all
 * happen to be printable comes as a quoted string with two bytes for each above 0x7f.  Undo that, in place. */
static int utf8_to_latin1(char *text, size_t *len)
{
	size_t n = 0;

	for (size_t i = 0; i < *len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c >= 0x80) {
			if ((c & 0xfc) != 0xc0 || c < 0xc2 || ++i == *len || ((unsigned char)text[i] & 0xc0) != 0x80)
				return -1;
			c = (unsigned char)((c & 3) << 6 | ((unsigned char)text[i] & 0x3f));
		}
		text[n++] = (char)c;
	}
	*len = n;
	return 0;
}

static int parse_canon(struct signature *sig, struct canon *c, struct err *e)
{
	const char *key;
	size_t n;

	if (memmem(c->p, (size_t)(c->end - c->p), "(3:rsa(", 7))
		return err_set(e, "signed with an RSA key: only Ed25519 keys are supported");
	if (!canon_take(c, "(9:signature(4:data(5:flags7:rfc6979)(4:hash6:sha256") ||
	    !take_bytes(c, sig->digest, &n) || n != 32 || !canon_take(c, "))"))
		return err_set(e, "the signature's data is not an rfc6979 SHA-256 hash");
	if (!canon_take(c, "(7:sig-val(5:ecdsa(1:r") || !take_bytes(c, sig->r, &sig->r_len) ||
	    !canon_take(c, ")(1:s") || !take_bytes(c, sig->s, &sig->s_len) || !canon_take(c, ")))"))
		return err_set(e, "the signature's value is not ECDSA");
	key = c->p;
	if (!canon_take(c, "(10:public-key(3:ecc(5:curve7:Ed25519)(1:q") || !take_bytes(c, sig->q, &n) ||
	    n != 32 || !canon_take(c, ")))"))
		return err_set(e, "the signature's key is not a plain Ed25519 key");
	crypto_sha256(sig->key_fpr, key, (size_t)(c->p - key));
	if (!canon_take(c, ")") || c->p != c->end)
		return err_set(e, "the signature holds more than it should");
	return 0;
}

int signature_parse(struct signature *sig, const char *field, size_t len, struct err *e)
{
	const char *host, *b64, *end = field + len;
	char text[LIMIT_NARINFO_LINE / 4 * 3], *canon;
	struct canon c;
	size_t n;
	int rc;

	memset(sig, 0, sizeof *sig);
	if (len < 2 || len > LIMIT_NARINFO_LINE || memcmp(field, "1;", 2) != 0)
		return err_set(e, "the signature is not of version 1");
	host = field + 2;
	b64 = memchr(host, ';', (size_t)(end - host));
	if (!b64 || b64 - host > LIMIT_SIGNATURE_HOST)
		return err_set(e, "the signature is not `1;HOST;BASE64'");
	b64++;
	if (base64_decode(text, &n, b64, (size_t)(end - b64)) < 0)
		return err_set(e, "the signature is not valid base64");
	if (utf8_to_latin1(text, &n) < 0)
		return err_set(e, "the signature is not text in UTF-8");
	if ((canon = crypto_canon(text, n, &n)) == NULL)
		return err_set(e, "the signature is not an s-expression");
	c = (struct canon){ canon, canon + n };
	rc = parse_canon(sig, &c, e);
	free(canon);
	return rc;
}

/* The one use of the signer's numbers.  All three expressions are built here, so that no flag or algorithm
 * of the signer's can change what is computed; libgcrypt checks that 0 < r, s < n and that Q is a point. */
static bool ecdsa_ok(const struct signature *sig, const uint8_t digest[32])
{
	gcry_sexp_t data = NULL, value = NULL, key = NULL;
	bool ok = !gcry_sexp_build(&data, NULL, "(data (flags rfc6979) (hash sha256 %b))", 32, digest) &&
	    !gcry_sexp_build(&value, NULL, "(sig-val (ecdsa (r %b) (s %b)))", (int)sig->r_len, sig->r,
		(int)sig->s_len, sig->s) &&
	    !gcry_sexp_build(&key, NULL, "(public-key (ecc (curve Ed25519) (q %b)))", 32, sig->q) &&
	    !gcry_pk_verify(value, data, key);

	gcry_sexp_release(data);
	gcry_sexp_release(value);
	gcry_sexp_release(key);
	return ok;
}

int signature_verify(const struct narinfo *ni, const struct acl *acl, uint8_t key_fpr[32], struct err *e)
{
	struct signature sig;
	uint8_t digest[32];
	char q[65];

	if (!ni->signature.at)
		return err_set(e, "unsigned");
	if (signature_parse(&sig, ni->signature.at, ni->signature.len, e) < 0)
		return -1;
	if (!acl_has(acl, sig.key_fpr)) {
		text_hex(q, sig.q, 32);
		return err_set(e, "signed by an unauthorised key, %s", q);
	}
	crypto_sha256(digest, ni->text, ni->signed_len);
	if (memcmp(digest, sig.digest, 32) != 0)
		return err_set(e, "hash-mismatch: the signed fields are not those that were signed");
	if (!ecdsa_ok(&sig, digest))
		return err_set(e, "the signature is wrong");
	memcpy(key_fpr, sig.key_fpr, 32);
	return 0;
}
