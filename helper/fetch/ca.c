/* SPDX-License-Identifier: GPL-3.0-or-later
 * Helper (fetch): the CA certificates, read before the lock, parsed when the first https server is asked. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "helper/fetch/ca.h"
#include "ipc/limits.h"

static int
read_all(struct ca *ca, int fd, const char *path, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > LIMIT_CA_FILE)
		return err_set(e, "%s is not a file of 1 to %d bytes", path, LIMIT_CA_FILE);
	if ((ca->pem = malloc((size_t)st.st_size)) == NULL)
		return err_sys(e, ENOMEM, "%s", path);
	while (ca->len < (size_t)st.st_size) {
		ssize_t n = read(fd, ca->pem + ca->len, (size_t)st.st_size - ca->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, errno, "cannot read %s", path);
		if (n == 0)
			break;
		ca->len += (size_t)n;
	}
	return 0;
}

int
ca_read(struct ca *ca, const char *path, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), rc;

	memset(ca, 0, sizeof *ca);
	if (fd < 0)
		return err_sys(e, errno, "cannot open %s", path);
	rc = read_all(ca, fd, path, e);
	close(fd);
	if (rc != 0)
		ca_free(ca);
	return rc;
}

static void
add_all(X509_STORE *store, BIO *bio, unsigned *count)
{
	X509 *cert;

	while ((cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL) {
		if (X509_STORE_add_cert(store, cert) == 1)
			++*count;
		X509_free(cert);
	}
	ERR_clear_error(); /* "no more certificates" is how the loop ends */
}

int
ca_parse(struct ca *ca, struct err *e)
{
	unsigned count = 0;
	BIO *bio;

	if (ca->store != NULL)
		return 0;
	if (ca->pem == NULL)
		return err_set(e, "no CA certificates to check an https server with: install ca-certificates, or set "
		    "`ca-bundle = FILE' in narlock.conf");
	bio = BIO_new_mem_buf(ca->pem, (int)ca->len);
	ca->store = X509_STORE_new();
	if (bio != NULL && ca->store != NULL) {
		/* As libcurl does: an intermediate certificate in the bundle may be trusted by itself. */
		X509_STORE_set_flags(ca->store, X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN);
		add_all(ca->store, bio, &count);
	}
	BIO_free(bio);
	if (count == 0) {
		ca_free(ca);
		return err_set(e, "the file of CA certificates holds none: install ca-certificates, or set "
		    "`ca-bundle = FILE' in narlock.conf");
	}
	free(ca->pem);
	ca->pem = NULL;
	return 0;
}

CURLcode
ca_use(CURL *easy, void *ctx, void *data)
{
	struct ca *ca = data;

	(void)easy;
	if (ca->store == NULL)
		return CURLE_SSL_CACERT_BADFILE;
	SSL_CTX_set1_cert_store(ctx, ca->store);
	return CURLE_OK;
}

void
ca_free(struct ca *ca)
{
	free(ca->pem);
	X509_STORE_free(ca->store);
	memset(ca, 0, sizeof *ca);
}
