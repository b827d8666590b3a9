/* SPDX-License-Identifier: GPL-3.0-or-later
 * Broker: the access control list: whose signatures this machine believes. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/acl.h"
#include "broker/crypto.h"
#include "broker/file.h"
#include "ipc/limits.h"

/* Step over one list of canonical form. */
static bool take_list(struct canon *c)
{
	const char *atom;
	size_t len;
	int depth = 0;

	do {
		if (canon_take(c, "("))
			depth++;
		else if (canon_take(c, ")"))
			depth--;
		else if (!canon_atom(c, &atom, &len))
			return false;
	} while (depth > 0);
	return true;
}

static int add_key(struct acl *acl, const char *key, size_t len, struct err *e)
{
	void *more;

	if (acl->count == LIMIT_ACL_KEYS)
		return err_set(e, "the ACL has more than %d keys", LIMIT_ACL_KEYS);
	if ((more = realloc(acl->keys, (acl->count + 1) * sizeof *acl->keys)) == NULL)
		return err_sys(e, ENOMEM, "the ACL");
	acl->keys = more;
	crypto_sha256(acl->keys[acl->count++], key, len);
	return 0;
}

static int parse_canon(struct acl *acl, struct canon c, struct err *e)
{
	if (!canon_take(&c, "(3:acl"))
		return err_set(e, "the ACL does not begin with (acl");
	while (!canon_take(&c, ")")) {
		const char *key;

		if (!canon_take(&c, "(5:entry"))
			return err_set(e, "the ACL has more than entries, after entry %zu", acl->count);
		key = c.p;
		if (key == c.end || *key != '(' || !take_list(&c))
			return err_set(e, "entry %zu of the ACL has no key", acl->count + 1);
		if (add_key(acl, key, (size_t)(c.p - key), e) < 0)
			return -1;
		if (!canon_take(&c, "(3:tag(4:guix6:import)))"))
			return err_set(e, "entry %zu of the ACL is not (entry KEY (tag (guix import)))",
			    acl->count);
	}
	return c.p == c.end ? 0 : err_set(e, "the ACL goes on after its last parenthesis");
}

int acl_parse(struct acl *acl, const char *text, size_t len, struct err *e)
{
	size_t size = 0;
	char *canon = len <= LIMIT_ACL ? crypto_canon(text, len, &size) : NULL;
	int rc;

	*acl = (struct acl){ 0, NULL };
	if (!canon)
		return err_set(e, "the ACL is not an s-expression");
	rc = parse_canon(acl, (struct canon){ canon, canon + size }, e);
	free(canon);
	if (rc < 0)
		acl_free(acl);
	return rc;
}

/* The text of CONFDIR/NAME when nobody else can have written it. */
static char *read_trusted(const char *confdir, const char *name, size_t *len, struct err *e)
{
	char path[PATH_MAX];

	(void)snprintf(path, sizeof path, "%s/%s", confdir, name);
	return file_read(AT_FDCWD, path, LIMIT_ACL, FILE_TRUSTED, len, e);
}

/* The ACL that stock guix makes of this machine's own key. */
static char *from_signing_key(const char *confdir, size_t *len, struct err *e)
{
	char *key = read_trusted(confdir, "signing-key.pub", len, e), *text = NULL;

	if (key && asprintf(&text, "(acl\n (entry\n  %s  (tag (guix import))))\n", key) < 0) {
		(void)err_sys(e, ENOMEM, "the ACL");
		text = NULL;
	}
	free(key);
	*len = text ? strlen(text) : 0;
	return text;
}

int acl_load(struct acl *acl, const char *confdir, enum acl_origin *origin, struct err *e)
{
	size_t len = 0;
	char *text = read_trusted(confdir, "acl", &len, e);
	int rc;

	*acl = (struct acl){ 0, NULL };
	*origin = ACL_FILE;
	if (!text && e->code == ENOENT) {
		*origin = ACL_SIGNING_KEY;
		text = from_signing_key(confdir, &len, e);
		if (!text && e->code == ENOENT) {
			*origin = ACL_EMPTY;
			return 0;
		}
	}
	rc = text ? acl_parse(acl, text, len, e) : -1;
	free(text);
	return rc;
}

int acl_create(const char *confdir, struct err *e)
{
	char fresh[PATH_MAX], path[PATH_MAX];
	struct acl acl = { 0, NULL };
	int fd = -1, rc = -1;
	size_t len = 0;
	char *text = from_signing_key(confdir, &len, e);

	(void)snprintf(path, sizeof path, "%s/acl", confdir);
	(void)snprintf(fresh, sizeof fresh, "%s/acl.%ld", confdir, (long)getpid()); /* others may be at it, too */
	/* What is written must be what acl_load will read: a key file with anything odd in it ends here. */
	if (text && acl_parse(&acl, text, len, e) == 0) {
		(void)unlink(fresh);
		fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
		/* A link fails where a rename would replace a list that somebody wrote meanwhile. */
		if (fd < 0 || file_write_all(fd, text, len) < 0 || fchmod(fd, 0644) < 0 ||
		    (link(fresh, path) < 0 && errno != EEXIST))
			rc = err_sys(e, errno, "cannot create %s", path);
		else
			rc = 0;
		(void)unlink(fresh);
	}
	if (fd >= 0)
		close(fd);
	acl_free(&acl);
	free(text);
	return rc;
}

bool acl_has(const struct acl *acl, const uint8_t fingerprint[32])
{
	for (size_t i = 0; i < acl->count; i++)
		if (memcmp(acl->keys[i], fingerprint, 32) == 0)
			return true;
	return false;
}

void acl_free(struct acl *acl)
{
	free(acl->keys);
	*acl = (struct acl){ 0, NULL };
}
