/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: the access control list, and signatures of narinfos against it. */
#include <dirent.h>
#include <fcntl.h>
#include <gcrypt.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "broker/acl.h"
#include "broker/crypto.h"
#include "broker/file.h"
#include "broker/narinfo.h"
#include "broker/signature.h"

#define STORE "/gnu/store"
#define FIELDS "StorePath: /gnu/store/b3qkb91fr9y8idckwdv5bx831vmxmg8w-tree\n" \
	"NarHash: sha256:12blcp4jwl902hjds48zlc71q7lj11s39dk4iyz0zllfggdccl5k\nNarSize: 21064\nReferences: \n"
#define DIGEST "98D87A63F8579E952593135228FA0757D97C57D8A034658EAC70653769BCCD26"
#define R "0420C3CE0A411FBC0C79E00C173EBDF30729B1CC4D750B9E1D63DB708445AB69"
#define S "0452F3EE9EDF4A929B3018324DE3C6E313E1CE0CD83D287F9F131413B77A401B"
#define Q "B6CB48DEDB869BACC55533CDCABD220099522EBB34A0303C67FA68E3135369A2"
#define S_WRONG "0452F3EE9EDF4A929B3018324DE3C6E313E1CE0CD83D287F9F131413B77A401C"
#define S_PLUS_N "1452F3EE9EDF4A929B3018324DE3C6E328C0C7EB7B34C555F725772E14701408"
#define OTHER_Q "8D156F295D24B0D9A86FA5741A840FF2D24F60F7B6C4134814AD55625971B394"
#define KEY(q) "(public-key (ecc (curve Ed25519) (q #" q "#)))"
#define ENTRY(q) "(entry " KEY(q) "(tag (guix import)))"
#define DATA "(data (flags rfc6979) (hash sha256 #" DIGEST "#))"
#define SIG(r, s) "(sig-val (ecdsa (r #" r "#) (s #" s "#)))"
#define GOOD_SIG "(signature " DATA SIG(R, S) KEY(Q) ")"
/* The order of the curve's group. */
#define ORDER "1000000000000000000000000000000014DEF9DEA2F79CD65812631A5CF5D3ED"

static struct err err;
static char dir[] = "/tmp/narlock-acl-XXXXXX";

/* What a real server signed and sent, byte for byte: nobody's code of ours had a part in it. */
static const char real_narinfo[] = FIELDS "Signature: 1;vm;"
"KHNpZ25hdHVyZSAKIChkYXRhIAogIChmbGFncyByZmM2OTc5KQogIChoYXNoIHNoYTI1NiAjOThEODdBNjNGODU3OUU5NTI1OTMxMzUy"
"MjhGQTA3NTdEOTdDNTdEOEEwMzQ2NThFQUM3MDY1Mzc2OUJDQ0QyNiMpCiAgKQogKHNpZy12YWwgCiAgKGVjZHNhIAogICAociAjMDQy"
"MEMzQ0UwQTQxMUZCQzBDNzlFMDBDMTczRUJERjMwNzI5QjFDQzRENzUwQjlFMUQ2M0RCNzA4NDQ1QUI2OSMpCiAgIChzICMwNDUyRjNF"
"RTlFREY0QTkyOUIzMDE4MzI0REUzQzZFMzEzRTFDRTBDRDgzRDI4N0Y5RjEzMTQxM0I3N0E0MDFCIykKICAgKQogICkKIChwdWJsaWMt"
"a2V5IAogIChlY2MgCiAgIChjdXJ2ZSBFZDI1NTE5KQogICAocSAjQjZDQjQ4REVEQjg2OUJBQ0M1NTUzM0NEQ0FCRDIyMDA5OTUyMkVC"
"QjM0QTAzMDNDNjdGQTY4RTMxMzUzNjlBMiMpCiAgICkKICApCiApCg==\nURL: nar/gzip/x\nCompression: gzip\n";

static void load_acl(struct acl *acl, const char *text)
{
	if (acl_parse(acl, text, strlen(text), &err) < 0)
		fail_msg("ACL refused: %s", err.text);
}

static int verify(const char *text, size_t len, const struct acl *acl, uint8_t fpr[32])
{
	struct narinfo ni;

	err.text[0] = '\0';
	if (narinfo_parse(&ni, text, len, STORE, &err) < 0)
		fail_msg("narinfo refused: %s", err.text);
	return signature_verify(&ni, acl, fpr, &err);
}

static void base64(char *out, const char *text, size_t len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < len; i += 3) {
		unsigned v = (unsigned)(unsigned char)text[i] << 16;

		v |= i + 1 < len ? (unsigned)(unsigned char)text[i + 1] << 8 : 0;
		v |= i + 2 < len ? (unsigned char)text[i + 2] : 0;
		*out++ = digits[v >> 18];
		*out++ = digits[v >> 12 & 63];
		*out++ = i + 1 < len ? digits[v >> 6 & 63] : '=';
		*out++ = i + 2 < len ? digits[v & 63] : '=';
	}
	*out = '\0';
}

/* FIELDS with a signature made of the s-expression SIG. */
static int verify_sig(const char *fields, const char *sig, const struct acl *acl)
{
	char b64[8192], text[10000];
	uint8_t fpr[32];

	base64(b64, sig, strlen(sig));
	snprintf(text, sizeof text, "%sSignature: 1;host;%s\n", fields, b64);
	return verify(text, strlen(text), acl, fpr);
}

static void real_signature(void **state)
{
	char changed[sizeof real_narinfo];
	uint8_t fpr[32], want[32];
	char *canon;
	size_t len;
	struct acl acl;

	(void)state;
	load_acl(&acl, "(acl " ENTRY(OTHER_Q) ENTRY(Q) ")");
	assert_int_equal(acl.count, 2);
	if (verify(real_narinfo, sizeof real_narinfo - 1, &acl, fpr) < 0)
		fail_msg("%s", err.text);
	canon = crypto_canon(KEY(Q), strlen(KEY(Q)), &len);
	crypto_sha256(want, canon, len);
	free(canon);
	assert_memory_equal(fpr, want, 32);
	assert_true(acl_has(&acl, fpr));
	/* Each byte of the signed part counts. */
	for (size_t i = 0; i < sizeof FIELDS - 1; i++) {
		struct narinfo ni;

		memcpy(changed, real_narinfo, sizeof changed);
		changed[i] = changed[i] == '1' ? '2' : '1';
		if (narinfo_parse(&ni, changed, sizeof changed - 1, STORE, &err) < 0)
			continue;
		assert_int_equal(signature_verify(&ni, &acl, fpr, &err), -1);
		assert_non_null(strstr(err.text, "hash-mismatch"));
	}
	acl_free(&acl);
	load_acl(&acl, "(acl " ENTRY(OTHER_Q) ")");
	assert_int_equal(verify(real_narinfo, sizeof real_narinfo - 1, &acl, fpr), -1);
	assert_non_null(strstr(err.text, "unauthorised key, b6cb48dedb869bacc55533cdcabd2200"));
	acl_free(&acl);
	load_acl(&acl, "(acl)");
	assert_int_equal(verify(real_narinfo, sizeof real_narinfo - 1, &acl, fpr), -1);
	assert_non_null(strstr(err.text, "unauthorised"));
	assert_int_equal(verify(FIELDS, sizeof FIELDS - 1, &acl, fpr), -1);
	assert_string_equal(err.text, "unsigned");
}

static void refused_signatures(void **state)
{
	static const struct {
		const char *sig, *reason;
	} bad[] = {
		{ "(signature " DATA SIG(R, S_WRONG) KEY(Q) ")",
		  "signature is wrong" },
		{ "(signature " DATA SIG(S, R) KEY(Q) ")", "signature is wrong" },
		{ "(signature " DATA SIG("00", S) KEY(Q) ")", "signature is wrong" },
		{ "(signature " DATA SIG(R, "00") KEY(Q) ")", "signature is wrong" },
		{ "(signature " DATA SIG("00", "00") KEY(Q) ")", "signature is wrong" },
		{ "(signature " DATA SIG(ORDER, S) KEY(Q) ")", "signature is wrong" },
		{ "(signature " DATA SIG(R, ORDER) KEY(Q) ")", "signature is wrong" },
		/* s + n is the same number to who forgets the range. */
		{ "(signature " DATA SIG(R, S_PLUS_N) KEY(Q) ")",
		  "signature is wrong" },
		{ "(signature " DATA SIG("00" R, S) KEY(Q) ")", "not ECDSA" },
		{ "(signature " DATA SIG(R, "00" S) KEY(Q) ")", "not ECDSA" },
		{ "(signature " DATA "(sig-val (ecdsa (r #" R "#)))" KEY(Q) ")", "not ECDSA" },
		{ "(signature " DATA "(sig-val (ecdsa (r #" R "#) (s #" S "#) (x y)))" KEY(Q) ")",
		  "not ECDSA" },
		{ "(signature " DATA "(sig-val (ecdsa (s #" S "#) (r #" R "#)))" KEY(Q) ")", "not ECDSA" },
		{ "(signature " DATA "(sig-val (eddsa (r #" R "#) (s #" S "#)))" KEY(Q) ")", "not ECDSA" },
		{ "(signature (data (flags rfc6979) (hash sha256 #" Q "#))" SIG(R, S) KEY(Q) ")",
		  "hash-mismatch" },
		{ "(signature (data (flags rfc6979) (hash sha256 #98#))" SIG(R, S) KEY(Q) ")",
		  "rfc6979 SHA-256" },
		{ "(signature (data (flags rfc6979) (hash sha512 #" DIGEST "#))" SIG(R, S) KEY(Q) ")",
		  "rfc6979 SHA" },
		{ "(signature (data (flags eddsa) (hash sha256 #" DIGEST "#))" SIG(R, S) KEY(Q) ")",
		  "rfc6979 SHA" },
		{ "(signature (data (flags rfc6979 raw) (hash sha256 #" DIGEST "#))" SIG(R, S) KEY(Q) ")",
		  "rfc6979" },
		{ "(signature (data (flags raw) (value #" DIGEST "#))" SIG(R, S) KEY(Q) ")",
		  "rfc6979 SHA-256" },
		{ "(signature " SIG(R, S) DATA KEY(Q) ")", "rfc6979 SHA-256" },
		{ "(signature)", "rfc6979 SHA-256" },
		{ "(sign " DATA SIG(R, S) KEY(Q) ")", "rfc6979 SHA-256" },
		{ "(signature " DATA SIG(R, S) ")", "not a plain Ed25519 key" },
		{ "(signature " DATA SIG(R, S) "(public-key (ecc(curve Ed25519)(flags eddsa)(q #" Q "#))))",
		  "plain" },
		{ "(signature " DATA SIG(R, S) "(public-key (ecc (curve \"NIST P-256\") (q #" Q "#))))",
		  "plain" },
		{ "(signature " DATA SIG(R, S) "(public-key (ecc (curve Ed25519) (q #40" Q "#))))", "plain" },
		{ "(signature " DATA SIG(R, S) "(public-key (ecc (curve Ed25519) (q #" Q "#) (d #01#))))",
		  "plain" },
		{ "(signature " DATA SIG(R, S) "(public-key (ecc (p #17#) (q #" Q "#))))", "plain" },
		{ "(signature " DATA SIG(R, S) "(public-key (ecc (curve Ed25519) (q #B6#))))", "plain" },
		{ "(signature " DATA SIG(R, S) "(public-key (ecc (curve [x]Ed25519) (q #" Q "#))))",
		  "plain" },
		{ "(signature " DATA SIG(R, S) "(private-key (ecc (curve Ed25519) (q #" Q "#))))", "plain" },
		{ "(signature (data (flags pkcs1) (hash sha256 #" DIGEST "#)) (sig-val (rsa (s #01#)))"
		  "(public-key (rsa (n #00C1#) (e #010001#))))", "RSA key" },
		{ "(signature " DATA SIG(R, S) KEY(Q) KEY(Q) ")", "more than it should" },
		{ GOOD_SIG "(x)", "more than it should" },
		{ "(signature " DATA SIG(R, S) KEY(Q), "not an s-expression" },
		{ "((((((((((((((((((((", "not an s-expression" },
	};
	static const struct {
		const char *field, *reason;
	} fields[] = {
		{ "", "version 1" }, { "1", "version 1" }, { "2;h;KDE6YSk=", "version 1" },
		{ "01;h;KDE6YSk=", "version 1" },
		{ "1;", "`1;HOST;BASE64'" }, { "1;KDE6YSk=", "`1;HOST;BASE64'" }, { "1;h;", "base64" },
		{ "1;h;KDE6YSk", "base64" }, { "1;h;KDE6YSk=;", "base64" }, { "1;h;KDE6YSk= ", "base64" },
		{ "1;h; KDE6YSk=", "base64" }, { "1;h;KDE6YSl=", "base64" }, { "1;h;KDE6Y===", "base64" },
		{ "1;h;KDE6YS==", "base64" }, { "1;h;====", "base64" }, { "1;h;KDE=YSk=", "base64" },
		{ "1;h;KDE-YSk=", "base64" }, { "1;h;KDE6YSk=KDE6YSk=", "base64" },
		{ "1;h;KCgo", "s-expression" },
		{ "1;h;KDE6YSk=", "rfc6979 SHA-256" }, { "1;;KDE6YSk=", "rfc6979 SHA-256" },
	};
	char host[LIMIT_SIGNATURE_HOST + 1];
	struct signature sig;
	struct acl acl;

	(void)state;
	load_acl(&acl, "(acl " ENTRY(Q)
	    "(entry (public-key (rsa (n #00C1#) (e #010001#))) (tag (guix import))))");
	assert_int_equal(verify_sig(FIELDS, GOOD_SIG, &acl), 0);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(verify_sig(FIELDS, bad[i].sig, &acl), -1);
		if (!strstr(err.text, bad[i].reason))
			fail_msg("refused for `%s', not for `%s'", err.text, bad[i].reason);
	}
	memset(host, 'h', sizeof host);
	for (int len = LIMIT_SIGNATURE_HOST; len <= LIMIT_SIGNATURE_HOST + 1; len++) {
		char field[512];

		snprintf(field, sizeof field, "1;%.*s;KDE6YSk=", len, host);
		assert_int_equal(signature_parse(&sig, field, strlen(field), &err), -1);
		assert_non_null(strstr(err.text, len > LIMIT_SIGNATURE_HOST ? "HOST" : "rfc6979"));
	}
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
		assert_int_equal(signature_parse(&sig, fields[i].field, strlen(fields[i].field), &err), -1);
		if (!strstr(err.text, fields[i].reason))
			fail_msg("refused for `%s', not for `%s'", err.text, fields[i].reason);
	}
	acl_free(&acl);
}

static gcry_sexp_t new_key(void)
{
	gcry_sexp_t params, pair;

	assert_int_equal(gcry_sexp_new(&params, "(genkey (ecdsa (curve Ed25519) (flags rfc6979)))", 0, 1), 0);
	assert_int_equal(gcry_pk_genkey(&pair, params), 0);
	gcry_sexp_release(params);
	return pair;
}

static void sprint(char *out, size_t size, gcry_sexp_t s)
{
	assert_true(gcry_sexp_sprint(s, GCRYSEXP_FMT_ADVANCED, out, size) > 0);
}

/* What guix does to sign: the other way round from ours, with keys that did not exist before. */
static void signed_here(void **state)
{
	gcry_sexp_t pair = new_key(), other = new_key();
	gcry_sexp_t pub = gcry_sexp_find_token(pair, "public-key", 0);
	gcry_sexp_t wrong = gcry_sexp_find_token(other, "public-key", 0);
	gcry_sexp_t sec = gcry_sexp_find_token(pair, "private-key", 0), data, value, sig;
	char text[4096], acl_text[2048], key[1024];
	struct acl acl;
	uint8_t digest[32];

	(void)state;
	sprint(key, sizeof key, pub);
	snprintf(acl_text, sizeof acl_text, "(acl (entry %s (tag (guix import))))", key);
	load_acl(&acl, acl_text);
	for (int i = 0; i < 20; i++) {
		char fields[1024];

		snprintf(fields, sizeof fields, FIELDS
		    "Deriver: b3qkb91fr9y8idckwdv5bx831vmxmg8w-%d.drv\n", i);
		crypto_sha256(digest, fields, strlen(fields));
		assert_int_equal(gcry_sexp_build(&data, NULL, "(data (flags rfc6979) (hash sha256 %b))", 32,
		    digest), 0);
		assert_int_equal(gcry_pk_sign(&value, data, sec), 0);
		assert_int_equal(gcry_sexp_build(&sig, NULL, "(signature %S %S %S)", data, value, pub), 0);
		sprint(text, sizeof text, sig);
		gcry_sexp_release(sig);
		if (verify_sig(fields, text, &acl) < 0)
			fail_msg("%s", err.text);
		assert_int_equal(verify_sig(FIELDS, text, &acl), -1);
		assert_non_null(strstr(err.text, "hash-mismatch"));
		/* The value under another's name. */
		assert_int_equal(gcry_sexp_build(&sig, NULL, "(signature %S %S %S)", data, value, wrong), 0);
		sprint(text, sizeof text, sig);
		assert_int_equal(verify_sig(fields, text, &acl), -1);
		assert_non_null(strstr(err.text, "unauthorised"));
		gcry_sexp_release(sig);
		gcry_sexp_release(value);
		gcry_sexp_release(data);
	}
	acl_free(&acl);
	gcry_sexp_release(sec), gcry_sexp_release(pub), gcry_sexp_release(wrong);
	gcry_sexp_release(pair), gcry_sexp_release(other);
}

static void acl_texts(void **state)
{
	static const struct {
		const char *text, *reason;
	} bad[] = {
		{ "", "not an s-expression" }, { "acl", "does not begin" }, { "()", "does not begin" },
		{ "(acl", "not an s-expression" }, { "# comment\n(acl)", "not an s-expression" },
		{ "(acl x)", "more than entries" }, { "(acls)", "does not begin" },
		{ "(acl ())", "more than entries" },
		{ "(acl (entry))", "entry 1 of the ACL has no key" },
		{ "(acl (entry key (tag (guix import))))", "no key" },
		{ "(acl " ENTRY(Q) "(entry " KEY(Q) "))", "entry 2 of the ACL is not" },
		{ "(acl (entry " KEY(Q) "(tag (guix import) x)))", "entry 1 of the ACL is not" },
		{ "(acl (entry " KEY(Q) "(tag (guix import)) x))", "entry 1 of the ACL is not" },
		{ "(acl (entry " KEY(Q) "(tag (guix export))))", "entry 1 of the ACL is not" },
		{ "(acl (entry (tag (guix import)) " KEY(Q) "))", "entry 1 of the ACL is not" },
		{ "(acl " ENTRY(Q) "(guest " KEY(Q) "(tag (guix import))))",
		  "more than entries, after entry 1" },
		{ "(acl)(acl)", "after its last parenthesis" },
	};
	static const uint8_t zero[32];
	struct acl a, b;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(acl_parse(&a, bad[i].text, strlen(bad[i].text), &err), -1);
		if (!strstr(err.text, bad[i].reason))
			fail_msg("%s: refused for `%s', not for `%s'", bad[i].text, err.text, bad[i].reason);
		assert_null(a.keys);
	}
	load_acl(&a, "(acl\n)\n");
	assert_int_equal(a.count, 0);
	assert_false(acl_has(&a, zero));
	/* One key, written in two ways; one with a flag is another key. */
	load_acl(&a, "(acl " ENTRY(Q) ")");
	load_acl(&b, "(3:acl(5:entry\n(\"public-key\"(ecc(curve |RWQyNTUxOQ==|)(q #b6cb 48DE\n"
	    "DB869BACC55533CDCABD220099522EBB34A0303C67FA68E3135369A2#)))(tag(guix import))))");
	assert_int_equal(b.count, 1);
	assert_memory_equal(a.keys[0], b.keys[0], 32);
	acl_free(&b);
	load_acl(&b, "(acl (entry (public-key (ecc"
	    "(curve Ed25519) (flags x) (q #" Q "#))) (tag (guix import))))");
	assert_memory_not_equal(a.keys[0], b.keys[0], 32);
	acl_free(&a);
	acl_free(&b);
}

static void put(const char *name, const char *text, mode_t mode)
{
	char path[128];
	int fd;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	unlink(path);
	if (!text)
		return;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(file_write_all(fd, text, strlen(text)), 0);
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

static void assert_load(enum acl_origin origin, size_t count)
{
	enum acl_origin got;
	struct acl acl;

	if (acl_load(&acl, dir, &got, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(got, origin);
	assert_int_equal(acl.count, count);
	acl_free(&acl);
}

static void assert_no_load(const char *reason)
{
	enum acl_origin got;
	struct acl acl;

	assert_int_equal(acl_load(&acl, dir, &got, &err), -1);
	if (!strstr(err.text, reason))
		fail_msg("refused for `%s', not for `%s'", err.text, reason);
	assert_null(acl.keys);
	acl_free(&acl);
}

static void files(void **state)
{
	char path[128], target[128];
	struct stat st;

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/acl", dir);
	snprintf(target, sizeof target, "%s/target", dir);
	assert_load(ACL_EMPTY, 0);
	assert_int_equal(acl_create(dir, &err), -1);
	put("signing-key.pub", KEY(Q) "\n", 0444);
	assert_load(ACL_SIGNING_KEY, 1);
	umask(077);
	assert_int_equal(acl_create(dir, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_load(ACL_FILE, 1);
	/* An existing list stays. */
	put("acl", "(acl " ENTRY(Q) ENTRY(OTHER_Q) ")", 0644);
	assert_int_equal(acl_create(dir, &err), 0);
	assert_load(ACL_FILE, 2);
	put("acl", "(acl " ENTRY(Q) ")", 0664);
	assert_no_load("written by others");
	put("acl", "(acl " ENTRY(Q) ")", 0646);
	assert_no_load("written by others");
	put("acl", "(acl (entry " KEY(Q) "))", 0644);
	assert_no_load("entry 1");
	/* A bad list is an error even where a key could stand in for it. */
	put("acl", "", 0644);
	assert_no_load("not an s-expression");
	put("acl", NULL, 0);
	put("target", "(acl " ENTRY(Q) ")", 0444);
	assert_int_equal(symlink(target, path), 0);
	assert_load(ACL_FILE, 1);
	if (geteuid() == 0) {
		assert_int_equal(chown(target, 1234, 0), 0);
		assert_no_load("belongs to uid 1234");
	}
	unlink(target);
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_no_load("not a regular file");
	unlink(path);
	put("signing-key.pub", "nonsense", 0444);
	assert_no_load("ACL");
	assert_int_equal(acl_create(dir, &err), -1);
	put("signing-key.pub", NULL, 0);
	assert_int_equal(rmdir(dir), 0);
}

/* Several agents start at the same time: whatever each of them sees of the list is whole. */
static void created_by_many(void **state)
{
	struct acl acl;
	enum acl_origin origin;
	int status, bad = 0;

	(void)state;
	memset(dir + strlen(dir) - 6, 'X', 6);
	assert_non_null(mkdtemp(dir));
	put("signing-key.pub", KEY(Q) "\n", 0444);
	for (int round = 0; round < 100; round++) {
		for (int i = 0; i < 4; i++)
			if (fork() == 0) {
				int rc = acl_create(dir, &err) < 0 || acl_load(&acl, dir, &origin, &err) < 0 ||
					 origin != ACL_FILE || acl.count != 1;

				_exit(rc);
			}
		for (int i = 0; i < 4; i++) {
			assert_true(wait(&status) > 0);
			bad += status != 0;
		}
		put("acl", NULL, 0);
	}
	assert_int_equal(bad, 0);
	put("signing-key.pub", NULL, 0);
	assert_int_equal(rmdir(dir), 0); /* nothing else was left */
}

/* A real one whose hash has printable bytes only: guix then writes it as a string, in Latin-1, and the whole in UTF-8.
 * One signature in a thousand looks like this. */
static void printable_hash(void **state)
{
	static const char text[] =
	    "StorePath: /gnu/store/g3ydkmjfyn54zg8chx3avixaicfqqqi4-tiny-0891\n"
	    "NarHash: sha256:033v9647vsxsdxbp5n7j5bcl9cbj40yzjsslv8cxsg9fa8x5ij9m\n"
	    "NarSize: 328\n"
	    "References: \n"
	    "Signature: 1;vm;KHNpZ25hdHVyZSAKIChkYXRhIAogIChmbGFncyByZmM2OTc5KQogIChoYXNoIHNoYTI1NiAi"
	    "fcK7w6LCoirDnDLCv8OPw6A5w6Uyw7TDgH7CqlVJdsOJw7BKw4ppwrhawrXDtsOjw7XCpiIpCiAgKQogKHNpZy12"
	    "YWwgCiAgKGVjZHNhIAogICAociAjMDQyMzRFQ0M5MDc3OTFDMjE4Q0VBMjVBMTUxRTg2MzY0OEQ5NzA4RUZEQ0Mz"
	    "QjhENEE3NTE4MEU0MTNFNTY3MSMpCiAgIChzICMwMTRBMzkzMzZGMTBGRDkxRUU5NTM3NDU2RkFFQzkxNUQ5NDcz"
	    "ODY3MDg0NkI1RkE1NEM1NjdFRDJBN0ExRUFCIykKICAgKQogICkKIChwdWJsaWMta2V5IAogIChlY2MgCiAgIChj"
	    "dXJ2ZSBFZDI1NTE5KQogICAocSAjQzdDNzhGNUM4MjdFMTJDMkM1NDBDRURFOTY4OTQ5MjVDQUNFNEM1MUYwNUFG"
	    "QjYyMTA4NUJGQ0Q3MDY0NTk4MyMpCiAgICkKICApCiApCg==\n";
	struct narinfo ni;
	struct acl acl;
	uint8_t key[32];
	char *broken;

	(void)state;
	assert_int_equal(acl_parse(&acl, "(acl " ENTRY("C7C78F5C827E12C2C540CEDE96894925CACE4C51F05AFB621085BFCD70645983") ")", strlen("(acl " ENTRY("C7C78F5C827E12C2C540CEDE96894925CACE4C51F05AFB621085BFCD70645983") ")"), &err), 0);
	assert_int_equal(narinfo_parse(&ni, text, strlen(text), "/gnu/store", &err), 0);
	if (signature_verify(&ni, &acl, key, &err) < 0)
		fail_msg("refused: %s", err.text);
	assert_true(acl_has(&acl, key));
	/* One byte changed: no character of Latin-1 starts with 0xe2. */
	broken = strdup(text);
	memcpy(strstr(broken, "fcK7w6LC"), "fcK74qLC", 8);
	assert_int_equal(narinfo_parse(&ni, broken, strlen(broken), "/gnu/store", &err), 0);
	assert_int_equal(signature_verify(&ni, &acl, key, &err), -1);
	free(broken);
	acl_free(&acl);
}

static void size_bounds(void **state)
{
	size_t room = LIMIT_ACL + 8192, entry = strlen(ENTRY(Q)), n = 5;
	char *text = malloc(room);
	struct acl acl;

	(void)state;
	assert_non_null(text);
	memset(text, ' ', room);
	memcpy(text, "(acl)", 5);
	assert_int_equal(acl_parse(&acl, text, LIMIT_ACL + 1, &err), -1);
	memcpy(text, "(acl ", 5);
	for (int i = 0; i < LIMIT_ACL_KEYS; i++, n += entry)
		memcpy(text + n, ENTRY(Q), entry);
	text[n] = ')';
	assert_int_equal(acl_parse(&acl, text, n + 1, &err), 0);
	assert_int_equal(acl.count, LIMIT_ACL_KEYS);
	acl_free(&acl);
	memcpy(text + n, ENTRY(Q) ")", entry + 1);
	assert_int_equal(acl_parse(&acl, text, n + entry + 1, &err), -1);
	assert_non_null(strstr(err.text, "more than"));
	free(text);
}

/* Real files, read in place where there are any. */
static char *sample(const char *name, size_t *len)
{
	const char *shared = getenv("NARLOCK_SHARED");
	char path[512];

	if (!shared)
		return NULL;
	snprintf(path, sizeof path, "%s/samples/%s", shared, name);
	return file_read(AT_FDCWD, path, LIMIT_ACL, FILE_ANY, len, &err);
}

static void samples(void **state)
{
	static const char *const names[] = { "a-small.all", "a-small.zstd", "b-tree.all", "b-tree.zstd",
		"d-big.zstd", "refs.all", "refs.none", "refs.zstd" };
	char name[128], *acl_text, *text, *size;
	size_t len;
	struct acl acl;
	uint8_t fpr[32];
	struct narinfo ni;

	(void)state;
	if ((acl_text = sample("acl", &len)) == NULL) {
		print_message("SKIP: NARLOCK_SHARED does not name a directory with samples\n");
		skip();
	}
	assert_int_equal(acl_parse(&acl, acl_text, len, &err), 0);
	assert_int_equal(acl.count, 3);
	free(acl_text);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(name, sizeof name, "%s.narinfo", names[i]);
		text = sample(name, &len);
		assert_non_null(text);
		if (verify(text, len, &acl, fpr) < 0)
			fail_msg("%s: %s", name, err.text);
		size = strstr(text, "NarSize: ") + 9;
		*size = *size == '9' ? '1' : (char)(*size + 1);
		assert_int_equal(verify(text, len, &acl, fpr), -1);
		assert_non_null(strstr(err.text, "hash-mismatch"));
		free(text);
	}
	/* Signed by another server. */
	text = sample("guix-vectors/b3qkb91fr9y8idckwdv5bx831vmxmg8w.narinfo", &len);
	assert_non_null(text);
	assert_int_equal(verify(text, len, &acl, fpr), -1);
	assert_non_null(strstr(err.text, "unauthorised"));
	acl_free(&acl);
	acl_text = sample("guix-vectors/acl", &len);
	assert_int_equal(acl_parse(&acl, acl_text, len, &err), 0);
	assert_int_equal(verify(text, strlen(text), &acl, fpr), 0);
	free(acl_text);
	free(text);
	/* Of Nix, for another store. */
	text = sample("nix/c3b84rln12j26fg2hl7qyg0pfzmxfyk3.narinfo", &len);
	assert_non_null(text);
	assert_int_equal(narinfo_parse(&ni, text, len, STORE, &err), -1);
	assert_non_null(strstr(err.text, "not an item of /gnu/store"));
	free(text);
	acl_free(&acl);
}

/* Hashes that begin with zeros, signed by real guix: the digest is cut by bits, whatever its value. */
static void sample_signatures(void **state)
{
	size_t len;
	char *text = sample("guix-vectors/ecdsa-ed25519-sigs.txt", &len), *p;
	gcry_sexp_t data, value, key;
	int count = 0;

	(void)state;
	if (!text) {
		print_message("SKIP: NARLOCK_SHARED does not name a directory with samples\n");
		skip();
	}
	assert_int_equal(gcry_sexp_new(&key, KEY(Q), 0, 1), 0);
	for (p = text; (p = strstr(p, "(data")) != NULL; count++) {
		char *second = strstr(p, "(sig-val"), *end = strstr(p, "#t");

		assert_true(second && end);
		assert_int_equal(gcry_sexp_new(&data, p, (size_t)(second - p), 1), 0);
		assert_int_equal(gcry_sexp_new(&value, second, (size_t)(end - second), 1), 0);
		assert_int_equal(gcry_pk_verify(value, data, key), 0);
		gcry_sexp_release(data);
		gcry_sexp_release(value);
		p = end;
	}
	assert_int_equal(count, 4);
	gcry_sexp_release(key);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(real_signature), cmocka_unit_test(refused_signatures),
		cmocka_unit_test(signed_here), cmocka_unit_test(printable_hash),
		cmocka_unit_test(acl_texts), cmocka_unit_test(files), cmocka_unit_test(created_by_many), cmocka_unit_test(size_bounds),
		cmocka_unit_test(samples), cmocka_unit_test(sample_signatures),
	};

	if (crypto_init(&err) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
