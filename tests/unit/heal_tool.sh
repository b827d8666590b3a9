#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Tests: narlock-heal as people and units start it: its exit statuses, and that its lock lets it work.
set -u
cd "$(dirname "$0")/../.." || exit 1
heal=$PWD/build/bin/narlock-heal
work=$(mktemp -d "${TMPDIR:-/tmp}/narlock-heal.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failed=0

check() { # NAME EXPECTED ACTUAL
	if [ "$2" = "$3" ]; then
		echo "ok - $1"
	else
		failed=1
		printf 'FAILED - %s\n  expected: %s\n  actual:   %s\n' "$1" "$2" "$3"
	fi
}
status() { # ARGUMENT...
	"$heal" "$@" >out 2>&1
	echo $?
}

# The helpers' user, if this is root; else whoever runs this.
id=65534:65534
chmod 755 .
mkdir -p state/fetch
chmod 711 state
[ "$(id -u)" != 0 ] || chown "$id" state/fetch
cat >conf <<END
helper-user = $id
state-directory = $work/state
ipfs = /ip4/127.0.0.1/tcp/1
END
chmod 644 conf
NARLOCK_CONF=$work/conf
export NARLOCK_CONF

check "help" 0 "$(status --help)"
check "version" 0 "$(status --version)"
check "an unknown option" 2 "$(status --twice)"
check "an argument" 2 "$(status --once now)"
check "a pause of nothing" 2 "$(status --pause 0)"
check "no journal: nothing to do" 0 "$(status --once)"
check "which makes none" "" "$(ls state/fetch)"
check "no journal: status" "0 0 nars with blocks missing in IPFS, 0 due" "$(status --status) $(cat out)"

# One entry of `all', as journal.h has it; its checksum is SipHash-2-4-128.
python3 - >state/fetch/heal <<'END'
import struct, sys

M = (1 << 64) - 1


def rotl(x, n):
    return (x << n | x >> 64 - n) & M


def siphash(key, data):
    k0, k1 = struct.unpack("<QQ", key)
    v = [k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d ^ 0xee, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573]

    def rounds(n):
        for _ in range(n):
            v[0] = (v[0] + v[1]) & M; v[1] = rotl(v[1], 13) ^ v[0]; v[0] = rotl(v[0], 32)
            v[2] = (v[2] + v[3]) & M; v[3] = rotl(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & M; v[3] = rotl(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & M; v[1] = rotl(v[1], 17) ^ v[2]; v[2] = rotl(v[2], 32)
    tail = data[len(data) & ~7:]
    for i in range(0, len(data) & ~7, 8):
        m, = struct.unpack_from("<Q", data, i)
        v[3] ^= m; rounds(2); v[0] ^= m
    m = (len(data) & 255) << 56 | int.from_bytes(tail, "little")
    v[3] ^= m; rounds(2); v[0] ^= m
    v[2] ^= 0xee; rounds(4)
    first = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] ^= 0xdd; rounds(4)
    return struct.pack("<QQ", first, v[0] ^ v[1] ^ v[2] ^ v[3])


url = b"http://192.0.2.1/nar/a\0"
slot = b"nlh1" + struct.pack("<BBHQQI", 2, 1, 0, 1795339226, 0, 0) + b"\x0f\x01" + bytes(range(64)) + \
    struct.pack("<HQQ", len(url), 12345, 77) + url
slot += bytes(4096 - 16 - len(slot))
sys.stdout.buffer.write(siphash(b"narlock heal 1".ljust(16, b"\0"), slot) + slot + bytes(255 * 4096))
END
[ "$(id -u)" != 0 ] || chown "$id" state/fetch/heal
check "an entry" "0 urn:eris:B4AQAAICAMC...  all blocks to be looked at, 12345 bytes, 1 URLs, 0 attempts, due now
1 nars with blocks missing in IPFS, 1 due" "$(status --status) $(cat out)"
check "nobody to put to" "4 narlock-heal: no IPFS daemon answers: nothing can be put back now" "$(status --once) $(cat out)"
check "the entry is still there" "0 1 nars with blocks missing in IPFS, 1 due" "$(status --status) $(tail -1 out)"
echo 'seed = none' >>conf
check "nothing is to be put" "0 narlock-heal: narlock.conf says \`seed = none': nothing is put into IPFS" "$(status --once) $(cat out)"
check "another journal" "0 0 nars with blocks missing in IPFS, 0 due" "$(status --status --journal "$work/none") $(cat out)"
echo 'nonsense' >>conf
check "a bad configuration" 1 "$(status --once)"
exit $failed
