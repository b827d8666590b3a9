/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: who signed a narinfo. */
#ifndef NARLOCK_SIGNATURE_H
#define NARLOCK_SIGNATURE_H

#include <stddef.h>
#include <stdint.h>

#include "broker/acl.h"
#include "broker/narinfo.h"
#include "ipc/err.h"

/* What the Signature field of a narinfo says: `1;HOST;BASE64', BASE64 being an s-expression in any form:
 *	(signature (data (flags rfc6979) (hash sha256 #DIGEST#))
 *	 (sig-val (ecdsa (r #R#) (s #S#)))
 *	 (public-key (ecc (curve Ed25519) (q #Q#))))
 * It is ECDSA over the curve of Ed25519, not EdDSA. */
struct signature {
	uint8_t digest[32];		/* what the signer says he signed: to be compared, never used */
	uint8_t q[32];			/* the public key, a compressed point */
	uint8_t r[32], s[32];		/* big-endian */
	size_t r_len, s_len;		/* 1..32 */
	uint8_t key_fpr[32];		/* fingerprint of the public-key expression, as in acl.h */
};

/* signature_parse(sig, field, len, e): strict: exactly the structure above, nothing more, nothing in another
 * order; RSA keys are refused by name. */
int signature_parse(struct signature *sig, const char *field, size_t len, struct err *e);

/* signature_verify(ni, acl, key_fpr, e): 0 when a key of ACL signed the signed part of NI, whose fingerprint
 * goes to KEY_FPR.  The digest is computed here. */
int signature_verify(const struct narinfo *ni, const struct acl *acl, uint8_t key_fpr[32], struct err *e);

#endif
