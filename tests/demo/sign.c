/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests (demo): what `guix archive --generate-key' and `guix publish' do with keys, and no more.
 *
 *     sign genkey SECRET PUBLIC     make a key pair
 *     sign acl PUBLIC...            print an access control list that authorizes these keys
 *     sign narinfo SECRET HOST      print standard input, the fields to sign, and the Signature line */
#include <gcrypt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FILE (1024 * 1024)

static void die(const char *what, gcry_error_t error)
{
	fprintf(stderr, "sign: %s%s%s\n", what, error != 0 ? ": " : "",
	    error != 0 ? gcry_strerror(error) : "");
	exit(1);
}

static gcry_sexp_t build(const char *format, void *a, void *b, void *c)
{
	void *args[] = { &a, &b, &c };
	gcry_sexp_t s;
	gcry_error_t error = gcry_sexp_build_array(&s, NULL, format, args);

	if (error != 0)
		die("cannot build an expression", error);
	return s;
}

/* The form that Guix stores and signs: advanced, with a newline at the end and no NUL. */
static char *text_of(gcry_sexp_t s)
{
	size_t size = gcry_sexp_sprint(s, GCRYSEXP_FMT_ADVANCED, NULL, 0);
	char *text = malloc(size + 1);

	if (text == NULL || gcry_sexp_sprint(s, GCRYSEXP_FMT_ADVANCED, text, size) == 0)
		die("cannot print an expression", 0);
	text[size] = '\0';
	return text;
}

static char *read_all(FILE *f)
{
	char *text = malloc(MAX_FILE + 1);
	size_t n;

	if (f == NULL || text == NULL)
		die("cannot read", 0);
	n = fread(text, 1, MAX_FILE, f);
	text[n] = '\0';
	return text;
}

static gcry_sexp_t read_sexp(const char *path)
{
	FILE *f = fopen(path, "r");
	char *text = read_all(f);
	gcry_sexp_t s;
	gcry_error_t error = gcry_sexp_new(&s, text, strlen(text), 1);

	if (error != 0)
		die(path, error);
	fclose(f);
	free(text);
	return s;
}

static gcry_sexp_t part(gcry_sexp_t s, const char *name)
{
	gcry_sexp_t found = gcry_sexp_find_token(s, name, 0);

	if (found == NULL)
		die(name, 0);
	return found;
}

static void write_file(const char *path, gcry_sexp_t s)
{
	char *text = text_of(s);
	FILE *f = fopen(path, "w");

	if (f == NULL || fputs(text, f) < 0 || fclose(f) != 0)
		die(path, 0);
	free(text);
}

static void genkey(const char *secret, const char *public)
{
	gcry_sexp_t parameters = build("(genkey (ecdsa (curve Ed25519) (flags rfc6979)))", NULL, NULL, NULL);
	gcry_sexp_t key;
	gcry_error_t error = gcry_pk_genkey(&key, parameters);

	if (error != 0)
		die("cannot make a key", error);
	write_file(secret, key);
	write_file(public, part(key, "public-key"));
}

static void print_acl(int count, char **keys)
{
	fputs("(acl", stdout);
	for (int i = 0; i < count; i++)
		printf("\n (entry\n  %s  (tag (guix import)))", text_of(read_sexp(keys[i])));
	fputs(")\n", stdout);
}

/* Guix takes the s-expression's bytes for Latin-1 and writes UTF-8: it shows where a number happens to have no byte that
 * libgcrypt would not put between quotes. */
static char *utf8(const char *latin1)
{
	char *text = malloc(2 * strlen(latin1) + 1), *p = text;

	if (text == NULL)
		abort();
	for (; *latin1 != '\0'; latin1++) {
		unsigned char c = (unsigned char)*latin1;

		if (c >= 0x80)
			*p++ = (char)(0xc0 | c >> 6);
		*p++ = (char)(c >= 0x80 ? 0x80 | (c & 0x3f) : c);
	}
	*p = '\0';
	return text;
}

static void print_base64(const char *text)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t n = strlen(text);

	for (size_t i = 0; i < n; i += 3) {
		unsigned v = (unsigned)(unsigned char)text[i] << 16;

		v |= i + 1 < n ? (unsigned)(unsigned char)text[i + 1] << 8 : 0;
		v |= i + 2 < n ? (unsigned)(unsigned char)text[i + 2] : 0;
		putchar(digits[v >> 18]);
		putchar(digits[v >> 12 & 63]);
		putchar(i + 1 < n ? digits[v >> 6 & 63] : '=');
		putchar(i + 2 < n ? digits[v & 63] : '=');
	}
}

static void sign_narinfo(const char *secret, const char *host)
{
	char *fields = read_all(stdin);
	unsigned char digest[32];
	gcry_sexp_t key = read_sexp(secret), data, signature = NULL;
	gcry_error_t error;

	gcry_md_hash_buffer(GCRY_MD_SHA256, digest, fields, strlen(fields));
	error = gcry_sexp_build(&data, NULL, "(data (flags rfc6979) (hash sha256 %b))", 32, digest);
	if (error == 0)
		error = gcry_pk_sign(&signature, data, part(key, "private-key"));
	if (error != 0)
		die("cannot sign", error);
	printf("%sSignature: 1;%s;", fields, host);
	print_base64(utf8(text_of(build("(signature %S %S %S)", data, signature, part(key, "public-key")))));
	putchar('\n');
}

int main(int argc, char **argv)
{
	if (gcry_check_version("1.8.0") == NULL)
		die("libgcrypt is too old", 0);
	gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
	gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
	if (argc == 4 && strcmp(argv[1], "genkey") == 0)
		genkey(argv[2], argv[3]);
	else if (argc >= 3 && strcmp(argv[1], "acl") == 0)
		print_acl(argc - 2, argv + 2);
	else if (argc == 4 && strcmp(argv[1], "narinfo") == 0)
		sign_narinfo(argv[2], argv[3]);
	else
		die("usage: sign genkey SECRET PUBLIC | acl PUBLIC... | narinfo SECRET HOST", 0);
	return fflush(stdout) == 0 ? 0 : 1;
}
