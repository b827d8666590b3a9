/* SPDX-License-Identifier: GPL-3.0-or-later
 * Tests: narlock.conf: each key, and that a mistake is named instead of passed over. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "broker/conf.h"
#include "tests/unit/child.h"

static char dir[64], path[80];
static struct conf c;
static struct err e;

static int set_up(void **state)
{
	(void)state;
	if (make_scratch(dir) == NULL)
		return -1;
	(void)snprintf(path, sizeof path, "%s/narlock.conf", dir);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	(void)unlink(path);
	return rmdir(dir);
}

static int read_bytes(const char *text, size_t len)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), len);
	close(fd);
	conf_defaults(&c, "/var/guix");
	e = (struct err){ 0, "" };
	return conf_read(&c, path, &e);
}

static int read_text(const char *text)
{
	return read_bytes(text, strlen(text));
}

static void accepted(const char *text)
{
	if (read_text(text) < 0)
		fail_msg("'%s' is refused: %s", text, e.text);
}

/* TEXT is refused, and the reason holds WHY. */
static void refused(const char *text, const char *why)
{
	if (read_text(text) == 0)
		fail_msg("'%s' is accepted", text);
	if (strstr(e.text, why) == NULL)
		fail_msg("'%s': %s", text, e.text);
}

static void defaults_without_a_file(void **state)
{
	(void)state;
	conf_defaults(&c, "/var/guix");
	assert_int_equal(conf_read(&c, path, &e), 0);
	assert_string_equal(c.helper_user, "narlock");
	assert_string_equal(c.state_directory, "/var/guix/narlock");
	assert_string_equal(c.spool_directory, "");
	assert_string_equal(c.audit_log, "/var/log/narlock/audit.log");
	assert_int_equal(c.tls_verify, 1);
	assert_int_equal(c.stall_seconds, 5);
	assert_int_equal(c.connect_seconds, 5);
	assert_int_equal(c.zstd_window, 128 << 20);
	assert_int_equal(c.lzip_dictionary, 64 << 20);
	assert_true(c.spool_memory == UINT64_MAX);
	assert_int_equal(c.destination_count + c.redirect_host_count, 0);
	assert_int_equal(c.require_less + c.require_landlock + c.sync_item, 0);
}

static void every_key_is_read(void **state)
{
	(void)state;
	accepted("# a comment\n\n"
		 "helper-user = someone\n"
		 "state-directory=/a/b\n"
		 "  spool-directory  =  /c d \n"
		 "spool-memory = 16M\n"
		 "helper-sockets = /run/x\n"
		 "audit-log =\n"
		 "allow-destination = /e\n"
		 "allow-destination = /f\n"
		 "trusted-redirect-host = cdn.example.org\r\n"
		 "ca-bundle = /g\n"
		 "tls-verify = no\n"
		 "sync = item\n"
		 "landlock = require\n"
		 "required-layers = no-namespace\n"
		 "stall-seconds = 3600\n"
		 "connect-seconds = 1\n"
		 "min-rate = 10K\n"
		 "zstd-window = 2G\n"
		 "lzip-dictionary = 4096\n"
		 "guix = /whatever\n"
		 "fallback = stock");
	assert_string_equal(c.helper_user, "someone");
	assert_string_equal(c.state_directory, "/a/b");
	assert_string_equal(c.spool_directory, "/c d");
	assert_int_equal(c.spool_memory, 16 << 20);
	assert_string_equal(c.helper_sockets, "/run/x");
	assert_string_equal(c.audit_log, "");
	assert_int_equal(c.destination_count, 2);
	assert_string_equal(c.destinations[1], "/f");
	assert_int_equal(c.redirect_host_count, 1);
	assert_string_equal(c.redirect_hosts[0], "cdn.example.org");
	assert_string_equal(c.ca_bundle, "/g");
	assert_int_equal(c.tls_verify, 0);
	assert_int_equal(c.sync_item, 1);
	assert_int_equal(c.require_landlock, 1);
	assert_int_equal(c.require_less, 1);
	assert_int_equal(c.stall_seconds, 3600);
	assert_int_equal(c.connect_seconds, 1);
	assert_int_equal(c.min_rate, 10240);
	assert_int_equal(c.zstd_window, 1ULL << 31);
	assert_int_equal(c.lzip_dictionary, 4096);
}

static void lines_about_blocks_are_passed_on(void **state)
{
	char text[65536] = "", value[LIMIT_OPTION_VALUE + 2];
	static const char *const keys[] = { "ipfs", "ipfs-gateway", "block-server", "block-timeout", "seed", "seed-private",
					    "publish-again", "untrusted-urls", "untrusted-allow" };

	(void)state;
	accepted("ipfs =  /ip4/127.0.0.1/tcp/5001 Bearer a b=c \nipfs=\nseed = any thing\neris-index = http://i/x//\n"
		 "eris-index = https://u:p@j\n");
	assert_int_equal(c.option_count, 3);
	assert_string_equal(c.options[0].key, "ipfs");
	assert_string_equal(c.options[0].value, "/ip4/127.0.0.1/tcp/5001 Bearer a b=c");
	assert_string_equal(c.options[1].value, "");
	assert_string_equal(c.options[2].key, "seed");
	assert_string_equal(c.options[2].value, "any thing");
	assert_int_equal(c.index_count, 2);
	assert_string_equal(c.indexes[0], "http://i/x");
	assert_string_equal(c.indexes[1], "https://u:p@j");
	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
		(void)snprintf(text + strlen(text), 64, "%s = %zu\n", keys[i], i);
	accepted(text);
	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
		assert_string_equal(c.options[i].key, keys[i]);
	refused("ipfs = a\001b\n", "cannot be there");
	refused("ipfs = a\tb\n", "cannot be there");
	refused("block-servers = x\n", "no key");
	refused("eris-index =\n", "no URL");
	refused("eris-index = i\n", "no URL");
	refused("eris-index = http://\n", "no URL");
	refused("eris-index = https:///\n", "no URL");
	refused("eris-index = file:///x\n", "no URL");
	refused("eris-index = http://a b\n", "cannot be there");
	refused("eris-index = http://a\xc3\xa9\n", "cannot be there");
	memset(value, 'x', sizeof value);
	for (int more = 0; more < 2; more++) {
		(void)snprintf(text, sizeof text, "ipfs = %.*s\n", LIMIT_OPTION_VALUE + more, value);
		assert_int_equal(read_text(text), -more);
	}
	*text = '\0';
	for (int i = 0; i <= LIMIT_OPTIONS_PASSED; i++) {
		assert_int_equal(read_text(text), 0);
		strcat(text, "block-server = x\n");
	}
	refused(text, "line 33: more than 32");
	*text = '\0';
	for (int i = 0; i <= CONF_INDEXES; i++) {
		assert_int_equal(read_text(text), 0);
		strcat(text, "eris-index = http://x\n");
	}
	refused(text, "line 9: more than 8");
}

static void mistakes_are_named(void **state)
{
	(void)state;
	refused("tls-verify = yes\nno-such-key = 1\n", "line 2: there is no key 'no-such-key'");
	refused("\n\ntls-verify yes\n", "line 3: no '='");
	refused("= 5\n", "there is no key ''");
	refused("TLS-verify = no\n", "no key");
	refused("tls-verify = maybe\n", "neither");
	refused("tls-verify =\n", "neither");
	refused("tls-verify = no # really\n", "neither");
	refused("required-layers = none\n", "neither");
	refused("fallback = maybe\n", "neither");
	assert_int_equal(c.fallback_stock, 0); /* what is no word changes nothing */
	refused("stall-seconds = 0\n", "not within 1 and 3600");
	refused("stall-seconds = 3601\n", "not within");
	refused("stall-seconds = 5K\n", "not a number");
	refused("stall-seconds = -5\n", "not a number");
	refused("stall-seconds = +5\n", "not a number");
	refused("stall-seconds = 0x5\n", "not a number");
	refused("stall-seconds = 5 s\n", "not a number");
	refused("stall-seconds =\n", "not a number");
	refused("spool-memory = 1Q\n", "not a number");
	refused("spool-memory = 1MM\n", "not a number");
	refused("spool-memory = 18446744073709551616\n", "not a number");
	refused("spool-memory = 18446744073709551615\n", "not within");
	refused("spool-memory = 18014398509481984K\n", "not a number");
	refused("zstd-window = 4G\n", "not within");
	refused("state-directory = var/guix\n", "not an absolute path");
	refused("allow-destination = here\n", "not an absolute path");
	refused("allow-destination =\n", "not an absolute path");
}

static void long_values_and_lists_are_refused(void **state)
{
	char text[8192] = "", value[2048];

	(void)state;
	memset(value, 'x', sizeof value);
	value[0] = '/';
	(void)snprintf(text, sizeof text, "state-directory = %.*s\n", LIMIT_PATH, value);
	refused(text, "longer than");
	(void)snprintf(text, sizeof text, "state-directory = %.*s\n", LIMIT_PATH - 1, value);
	accepted(text);
	assert_int_equal(strlen(c.state_directory), LIMIT_PATH - 1);
	(void)snprintf(text, sizeof text, "helper-user = %.*s\n", 64, value);
	refused(text, "longer than");
	text[0] = '\0';
	for (int i = 0; i < CONF_DESTINATIONS; i++)
		strcat(text, "allow-destination = /x\n");
	accepted(text);
	strcat(text, "allow-destination = /x\n");
	refused(text, "line 9: more than 8");
	text[0] = '\0';
	for (int i = 0; i < CONF_HOSTS; i++)
		strcat(text, "trusted-redirect-host = x\n");
	accepted(text);
	strcat(text, "trusted-redirect-host = x\n");
	refused(text, "line 17: more than 16");
}

/* What stands behind a NUL would not be read: the file is refused instead. */
static void a_nul_is_refused(void **state)
{
	static const char text[] = "tls-verify = yes\n\0landlock = require\n";

	(void)state;
	assert_int_equal(read_bytes(text, sizeof text - 1), -1);
}

static void only_a_safe_file_is_read(void **state)
{
	char *big = malloc(LIMIT_CONF + 1);

	(void)state;
	assert_non_null(big);
	accepted("tls-verify = no\n");
	assert_int_equal(chmod(path, 0664), 0);
	assert_int_equal(conf_read(&c, path, &e), -1);
	assert_non_null(strstr(e.text, "written by others"));
	assert_int_equal(chmod(path, 0646), 0);
	assert_int_equal(conf_read(&c, path, &e), -1);
	assert_int_equal(chmod(path, 0600), 0);
	assert_int_equal(conf_read(&c, path, &e), 0);
	if (geteuid() == 0) {
		assert_int_equal(chown(path, 65534, 65534), 0);
		assert_int_equal(conf_read(&c, path, &e), -1);
		assert_non_null(strstr(e.text, "belongs to uid 65534"));
		assert_int_equal(chown(path, 0, 0), 0);
	}
	memset(big, '\n', LIMIT_CONF + 1);
	assert_int_equal(read_bytes(big, LIMIT_CONF), 0);
	assert_int_equal(read_bytes(big, LIMIT_CONF + 1), -1);
	assert_non_null(strstr(e.text, "larger"));
	free(big);
	assert_int_equal(conf_read(&c, dir, &e), -1);
	assert_non_null(strstr(e.text, "not a regular file"));
}

static void helper_ids(void **state)
{
	static const char *const bad[] = { "0:0", "0:5", "5:0", "5", "5:", ":5", "5:6x", "5x:6", "-1:5", "4294967295:5",
					   "5:4294967295", "4294967296:5", "99999999999999999999:5", 
					   "no-such-user-here", "", "5:-1" };
	uint32_t uid = 0, gid = 0;

	(void)state;
	conf_defaults(&c, "/var/guix");
	(void)strcpy(c.helper_user, "990:980");
	assert_int_equal(conf_helper_ids(&c, &uid, &gid, &e), 0);
	assert_int_equal(uid, 990);
	assert_int_equal(gid, 980);
	(void)strcpy(c.helper_user, "nobody");
	assert_int_equal(conf_helper_ids(&c, &uid, &gid, &e), 0);
	assert_int_equal(uid, 65534);
	(void)strcpy(c.helper_user, "root");
	assert_int_equal(conf_helper_ids(&c, &uid, &gid, &e), -1);
	assert_non_null(strstr(e.text, "is root"));
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		(void)strcpy(c.helper_user, bad[i]);
		if (conf_helper_ids(&c, &uid, &gid, &e) == 0)
			fail_msg("'%s' is accepted as %u:%u", bad[i], uid, gid);
	}
}

int main(void)
{
#define IN_DIR(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		IN_DIR(defaults_without_a_file),
		IN_DIR(every_key_is_read),
		IN_DIR(lines_about_blocks_are_passed_on),
		IN_DIR(mistakes_are_named),
		IN_DIR(long_values_and_lists_are_refused),
		IN_DIR(a_nul_is_refused),
		IN_DIR(only_a_safe_file_is_read),
		cmocka_unit_test(helper_ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
