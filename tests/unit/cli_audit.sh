#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Tests: the program `narlock audit' on a log that the broker's own --self-check and guix's wrapper do not touch, and the JSON of
# `narlock doctor'.
set -u
cd "$(dirname "$0")/../.." || exit 1
narlock=${B:-build}/bin/narlock
work=$(mktemp -d "${TMPDIR:-/tmp}/narlock-audit.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
failed=0

check() { # NAME EXPECTED ACTUAL
	if [ "$2" = "$3" ]; then
		echo "ok - $1"
	else
		failed=1
		printf 'FAILED - %s\n  expected: %s\n  actual:   %s\n' "$1" "$2" "$3"
	fi
}

status() { "$@" >"$work/out" 2>"$work/err"; echo $?; }

# A log of two sessions, chained by hand with sha256sum.
log=$work/audit.log
join= first= second=
record() { # SESSION PREV FIELDS...: appends; its hash in $hash
	line="{\"time\":\"2026-11-2$4T10:00:00.000Z\",\"session\":\"$1-1000000000.000001\",\"mode\":\"query\",$5,\"seq\":$3,\"prev\":\"$2\",\"join\":\"$join\"}"
	printf '%s\n' "$line" >>"$log"
	join=$(printf %s "$line" | sha256sum | cut -c1-64)
	printf %s "$join" >"$log.head"
}
record 1 "" 1 1 '"event":"substitute","verdict":"success","path":"/gnu/store/x-hello","key":"00aa","blocks_missed":2,"blocks_repaired":2,"blocks_reinserted":1'
first=$join
record 2 "" 1 2 '"event":"narinfo-refused","claimed_user":"mallory","path":"/gnu/store/y-evil","reason":"no \u001b key"'
record 1 "$first" 2 3 '"event":"substitute","verdict":"not-found","path":"/gnu/store/z","reason":"gone"'

check "complete" "0 complete: 3 records" "$(status "$narlock" audit --verify "$log") $(cat "$work/out")"
check "by configuration" "0 3" "$(echo "audit-log = $log" >"$work/conf"; NARLOCK_CONF=$work/conf status "$narlock" audit --json) $(wc -l <"$work/out")"
check "JSON is what was written" 0 "$(cmp -s "$work/out" "$log"; echo $?)"
check "by event" "0 1" "$(status "$narlock" audit --event narinfo-refused "$log") $(grep -c mallory "$work/out")"
check "nothing unescaped" 0 "$(LC_ALL=C grep -c '[^ -~]' "$work/out")"
check "by path, by verdict, by key, by user, since, until" "1 1 1 1 1 1" "$(for f in --path=hello --verdict=not-found --key=00 --user=mallory \
	--since=2026-11-23 --until=2026-11-21; do "$narlock" audit --json $f "$log" | wc -l; done | tr '\n' ' ' | sed 's/ $//')"
sed 's/mallory/J\\u00c3\\u00b6rg \\"x\\"/' "$log" >"$work/names"
check "by a user whose name is escaped" 1 "$("$narlock" audit --json --user 'Jörg "x"' "$work/names" | wc -l)"
check "sums" 1 "$(status "$narlock" audit --summary "$log" >/dev/null; grep -c 'IPFS did not have 2, 2 came from elsewhere, 1 are back' "$work/out")"
check "a bad time" 5 "$(status "$narlock" audit --since yesterday "$log")"
check "no such file" 5 "$(status "$narlock" audit "$work/none")"
check "standard input" "0" "$(status "$narlock" audit --verify - <"$log")"
check "anchor" 0 "$(status "$narlock" audit --anchor "$log")"
cp "$work/out" "$work/anchors"
check "anchored" "0" "$(status "$narlock" audit --verify --anchors "$work/anchors" "$log")"

check "no log yet" "0 head=none" "$(status "$narlock" audit --anchor "$work/none") $(grep -o 'head=none' "$work/out")"
printf %064d 0 >"$work/gone.head"
check "a log that was removed" 5 "$(status "$narlock" audit --anchor "$work/gone")"

# A forger with a log of his own, whose chain is right.
cp "$log" "$work/good"; cp "$log.head" "$work/good.head"
rm "$log"; join=
record 1 "" 1 1 '"event":"have"'
check "a log that was made anew is right in itself" 0 "$(status "$narlock" audit --verify "$log")"
check "but not by the anchors" 2 "$(status "$narlock" audit --verify --anchors "$work/anchors" "$log")"
rm "$log"; join=
sed 's/2026-11-2./2027-01-01/' <<EOF >"$log"
$(record 1 "" 1 1 '"event":"have"'; cat "$log")
EOF
sha256sum <"$log" >/dev/null; head -n 1 "$log" | tr -d '\n' | sha256sum | cut -c1-64 | tr -d '\n' >"$log.head"
check "nor by them when all of it is dated after them" "0 2" "$(status "$narlock" audit --verify "$log") $(
	status "$narlock" audit --verify --anchors "$work/anchors" "$log")"
check "a comparison with nothing is none" "1 1" "$(status "$narlock" audit --verify --anchors /dev/null "$log") $(grep -c 'nothing was compared' "$work/out")"

cp "$work/good" "$log"; cp "$work/good.head" "$log.head"
sed -i 2d "$log"
check "a removed record" "2 1" "$(status "$narlock" audit --verify "$log") $(grep -c '^CHANGED.*removed' "$work/out")"
cp "$work/good" "$log"
sed -i '$d' "$log"
check "the last record removed" "2 1" "$(status "$narlock" audit --verify "$log") $(grep -c 'LOG.head' "$work/out")"
cp "$work/good" "$log"
sed -i 1d "$log"
check "the first record removed" "2 1" "$(status "$narlock" audit --verify "$log") $(grep -c '^CHANGED.*the first records were removed' "$work/out")"
: >"$log.2.gz"
check "or it is in an older file" "0 1" "$(status "$narlock" audit --verify "$log") $(grep -c '^note.*goes on from a record before these files' "$work/out")"
rm "$log.2.gz"
cp "$work/good" "$log"
rm "$log.head"
check "LOG.head removed" "2 1" "$(status "$narlock" audit --verify "$log") $(grep -c '^CHANGED.*LOG.head' "$work/out")"
cp "$work/good.head" "$log.head"
head -n 1 "$log" | sed 's/x-hello/x-jello/' >"$log.x" && cat "$log.x" >>"$log" && rm "$log.x"
check "a record inserted" 2 "$(status "$narlock" audit --verify "$log")"
cp "$work/good" "$log"
mv "$log" "$log.1"
check "rotated, and nothing new since" "0 complete: 3 records" "$(NARLOCK_CONF=$work/conf status "$narlock" audit --verify) $(cat "$work/out")"
check "the rotated one alone" 0 "$(status "$narlock" audit --verify "$log.1")"
mv "$log.1" "$log"
printf '{"time":"2026' >>"$log"
check "a torn line" "1 1" "$(status "$narlock" audit --verify "$log") $(grep -c 'audit.log:4: the last line is torn' "$work/out")"
{ cat "$work/good"; echo; } >"$log"
check "an empty line says nothing" "0 0" "$(status "$narlock" audit --json "$log") $(wc -l <"$work/err")"
head -c 100000 /dev/urandom >"$log"
check "garbage" "2 0" "$(status "$narlock" audit --verify "$log") $(LC_ALL=C grep -c '[^ -~]' "$work/out")"
check "garbage is not shown" "0 0" "$(status "$narlock" audit "$log") $(wc -c <"$work/out")"

code=$(NARLOCK_CONF=$work/none status "$narlock" doctor --json)
check "doctor --json" "$code True" "$(python3 -c '
import json, sys
d = json.load(open(sys.argv[1]))
worst = max(["ok", "note", "degraded", "unsafe"].index(f["level"]) for f in d["findings"])
print(d["status"], d["verdict"] == ["good", "degraded", "unsafe"][max(worst - 1, 0)] and all(f["text"] and f["section"] for f in d["findings"]))
' "$work/out")"
exit $failed
