#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Tests: libexec/narlock/guix (helper/guix/main.c), built with private paths, between a pretended broker and a
# pretended guix.
set -u
cd "$(dirname "$0")/../.." || exit 1
work=$(mktemp -d "${TMPDIR:-/tmp}/narlock-wrapper.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
failed=0
umask 022

check() { # NAME EXPECTED ACTUAL
	if [ "$2" = "$3" ]; then
		echo "ok - $1"
	else
		failed=1
		printf 'FAILED - %s\n  expected: %s\n  actual:   %s\n' "$1" "$2" "$3"
	fi
}

mkdir -p "$work/libexec" "$work/etc/narlock" "$work/bin"
conf=$work/etc/narlock/narlock.conf
${CC:-cc} -std=gnu11 -D_GNU_SOURCE -Wall -Werror -I. -DNARLOCK_LIBEXECDIR="\"$work/libexec\"" \
	-DNARLOCK_SYSCONFDIR="\"$work/etc\"" -DNARLOCK_HELPER_USER='"nobody"' -o "$work/libexec/guix" \
	helper/guix/*.c broker/audit.c broker/conf.c broker/file.c broker/log.c ipc/err.c ipc/text.c || exit 1

# Both pretenders say who they are, how they were called and which descriptors they hold.
cat >"$work/say.c" <<'END'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
int main(int argc, char **argv)
{
	const char *check = getenv("SELF_CHECK");

	if (argc > 1 && strcmp(argv[1], "--self-check") == 0) {
		printf("noise on stdout\n");
		fprintf(stderr, "noise on stderr\n");
		return check != NULL ? atoi(check) : 0;
	}
	printf("%s:", WHO);
	for (int i = 0; i < argc; i++)
		printf(" [%s]", argv[i]);
	printf(" MARK=%s fds", getenv("MARK") != NULL ? getenv("MARK") : "");
	for (int fd = 0; fd < 10; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			printf(" %d", fd);
	printf("\n");
	return 7;
}
END
${CC:-cc} -DWHO='"broker"' -o "$work/libexec/broker" "$work/say.c" || exit 1
${CC:-cc} -DWHO='"guix"' -o "$work/bin/guix" "$work/say.c" || exit 1
wrapper=$work/libexec/guix
export MARK='a b=c'

run() { # with exactly the daemon's descriptors
	"$@" 3>&- 4>&1 5>&- 6>&- 7>&- 8>&- 9>&-
}

echo "guix = $work/bin/guix" >"$conf"
check "substitute goes to the broker" \
	"broker: [$work/libexec/broker] [--query] MARK=a b=c fds 0 1 2 4" "$(run "$wrapper" substitute --query)"
check "substitute without arguments" \
	"broker: [$work/libexec/broker] MARK=a b=c fds 0 1 2 4" "$(run "$wrapper" substitute)"
check "everything else goes to the real guix" \
	"guix: [$wrapper] [gc] [--list-busy] MARK=a b=c fds 0 1 2 4" "$(run "$wrapper" gc --list-busy)"
check "no arguments at all" "guix: [$wrapper] MARK=a b=c fds 0 1 2 4" "$(run "$wrapper")"
check "only the first argument counts" \
	"guix: [$wrapper] [offload] [substitute] MARK=a b=c fds 0 1 2 4" "$(run "$wrapper" offload substitute)"
check "a longer word is not substitute" \
	"guix: [$wrapper] [substitutes] MARK=a b=c fds 0 1 2 4" "$(run "$wrapper" substitutes)"
check "argv[0] as given" "guix: [guix] [perform-download] [x] MARK=a b=c fds 0 1 2" \
	"$(bash -c 'exec -a guix "$0" perform-download x 3>&- 4>&-' "$wrapper")"
"$wrapper" gc >/dev/null
check "exit status of guix" 7 $?
"$wrapper" substitute >/dev/null
check "exit status of the broker" 7 $?
check "standard input is not touched" "hello" "$(
	cat >"$work/bin/cat-guix" <<'END'
#!/bin/sh
exec cat
END
	chmod 755 "$work/bin/cat-guix"
	echo "guix = $work/bin/cat-guix" >"$conf"
	echo hello | "$wrapper" authenticate)"

# Spelling of the configuration.
printf '# guix = /nowhere\n  guix\t=  %s  \r\nother = 1\n' "$work/bin/guix" >"$conf"
check "blanks, comments, a carriage return" \
	"guix: [$wrapper] [x] MARK=a b=c fds 0 1 2 4" "$(run "$wrapper" x)"
printf 'guix = %s' "$work/bin/guix" >"$conf"
check "no newline at the end" "guix: [$wrapper] [x] MARK=a b=c fds 0 1 2 4" "$(run "$wrapper" x)"

# Never ourselves.
ln -s "$wrapper" "$work/bin/loop"
echo "guix = $work/bin/loop" >"$conf"
timeout 10 "$wrapper" gc 2>"$work/err"
check "a symbolic link to ourselves is refused" 127 $?
grep -q "no guix to run at $work/bin/loop" "$work/err"
check "and says so" 0 $?
ln "$wrapper" "$work/bin/hard"
timeout 10 "$work/bin/hard" gc 2>/dev/null
check "also when started by another name" 127 $?
echo "guix = /nonexistent/guix" >"$conf"
"$wrapper" gc 2>/dev/null
check "a configured guix that is missing is an error" 127 $?

# A file that others can write is not read.
printf 'guix = %s\nfallback = stock\naudit-log = %s/audit.log\n' "$work/bin/guix" "$work" >"$conf"
chmod 666 "$conf"
check "a writable configuration decides nothing" "broker" \
	"$(SELF_CHECK=2 run "$wrapper" substitute --query | cut -d: -f1)"
chmod 644 "$conf"

# fallback = stock, and only that.
check "fallback, self-check good" "broker" "$(SELF_CHECK=0 run "$wrapper" substitute 2>&1 | cut -d: -f1)"
check "fallback, self-check degraded" "broker" "$(SELF_CHECK=1 run "$wrapper" substitute 2>&1 | cut -d: -f1)"
check "fallback, self-check unsafe" \
	"guix: [$wrapper] [substitute] [--query] MARK=a b=c fds 0 1 2 4" \
	"$(SELF_CHECK=2 run "$wrapper" substitute --query 2>/dev/null)"
check "and one line says so" 1 "$(SELF_CHECK=2 run "$wrapper" substitute 2>&1 >/dev/null | grep -c 'WITHOUT')"
rm -f "$work"/audit.log*
SELF_CHECK=2 run "$wrapper" substitute >/dev/null 2>&1
check "and a record" 1 "$(grep -c '"event":"fallback-to-stock","reason":"the self-check ended with wait status 512","seq":1,"prev":"","join":""}$' \
	"$work/audit.log")"
SELF_CHECK=0 run "$wrapper" substitute >/dev/null 2>&1
check "none without" 1 "$(wc -l <"$work/audit.log")"
mv "$work/libexec/broker" "$work/libexec/gone"
check "fallback, no broker" "guix" "$(run "$wrapper" substitute 2>/dev/null | cut -d: -f1)"
check "recorded, too" 2 "$(wc -l <"$work/audit.log")"
run "$wrapper" substitute >/dev/null 2>&1
check "these records are a chain" "2 of 2 follow" "$(python3 - "$work/audit.log" <<'END'
import hashlib, json, sys
lines = open(sys.argv[1], "rb").read().splitlines()
good = sum(json.loads(b)["join"] == hashlib.sha256(a).hexdigest() for a, b in zip(lines, lines[1:]))
print(good, "of", len(lines) - 1, "follow")
END
)"
if [ -x "${B:-build}/bin/narlock" ]; then
	"${B:-build}/bin/narlock" audit --verify "$work/audit.log" >/dev/null
	check "which narlock audit finds complete" 0 $?
	sed -i 2d "$work/audit.log"
	"${B:-build}/bin/narlock" audit --verify "$work/audit.log" >"$work/out"
	check "and where one was removed, says so" "2 1" "$? $(grep -c 'CHANGED.*the record that it follows is not there' "$work/out")"
fi
mv "$work/libexec/gone" "$work/libexec/broker"
printf 'guix = %s\nfallback = stock\naudit-log = /dev/full\n' "$work/bin/guix" >"$conf"
check "a full disk stops nothing" "guix" "$(SELF_CHECK=2 run "$wrapper" substitute 2>"$work/err" | cut -d: -f1)"
check "and is told" 1 "$(grep -c 'the audit log cannot be written (No space left on device)' "$work/err")"
for value in none yes Stock 'stock please'; do
	printf 'guix = %s\nfallback = %s\n' "$work/bin/guix" "$value" >"$conf"
	check "fallback = $value is not stock" "broker" \
		"$(SELF_CHECK=2 run "$wrapper" substitute | cut -d: -f1)"
done
echo "guix = $work/bin/guix" >"$conf"
check "no fallback by default" "broker" "$(SELF_CHECK=2 run "$wrapper" substitute | cut -d: -f1)"
mv "$work/libexec/broker" "$work/libexec/gone"
"$wrapper" substitute >"$work/out" 2>/dev/null
check "no broker, no fallback: fails" "127 0" "$? $(wc -c <"$work/out")"

# What the chain is made with, around the sizes at which another block begins.
cat >"$work/hash.c" <<'END'
#include <stdio.h>
#include "broker/crypto.h"
int main(void)
{
	uint8_t in[200], out[32];

	for (unsigned len = 0; len <= sizeof in; len++) {
		for (unsigned i = 0; i < len; i++)
			in[i] = (uint8_t)(i * 7 + len);
		crypto_sha256(out, in, len);
		fwrite(out, 1, sizeof out, stdout);
	}
	return 0;
}
END
${CC:-cc} -std=gnu11 -D_GNU_SOURCE -I. -o "$work/hash" "$work/hash.c" helper/guix/sha256.c || exit 1
check "SHA-256 of 0 to 200 bytes" True "$("$work/hash" | python3 -c 'import hashlib, sys
print(sys.stdin.buffer.read() == b"".join(hashlib.sha256(bytes((i * 7 + n) % 256 for i in range(n))).digest() for n in range(201)))')"
check "a library is not needed" "" "$(ldd "$wrapper" | grep -Ev 'linux-vdso|libc\.|ld-linux')"

# As a build user.
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	check "as another user, descriptors above 2 closed" "guix: [$wrapper] [x] MARK=a b=c fds 0 1 2" \
		"$(setpriv --reuid=64112 --regid=64112 --clear-groups "$wrapper" x 3>&- 4>&-)"
else
	echo "SKIP - as another user (needs root and setpriv)"
fi
exit $failed
