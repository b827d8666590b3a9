#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Tests: `narlock policy' says of every process what an auditor asks for, and says what is true of the programs.
set -u
cd "$(dirname "$0")/../.." || exit 1
narlock=${B:-build}/bin/narlock
failed=0

check() { # NAME EXPECTED ACTUAL
	if [ "$2" = "$3" ]; then
		echo "ok - $1"
	else
		failed=1
		printf 'FAILED - %s\n  expected: %s\n  actual:   %s\n' "$1" "$2" "$3"
	fi
}

for p in broker spawner fetch resolve unpack eris publish publish_net publish_index; do
	keys=$("$narlock" policy $p | sed -n 's/^# \(program\|uid\|capabilities\|namespaces\|landlock\|libraries\|lines of code\): ..*/\1/p' | sort -u | wc -l)
	check "$p: seven things" 7 "$keys"
	case $p in spawner) continue ;; esac
	check "$p: limits" yes "$([ "$("$narlock" policy $p | grep -c '^# limits, Landlock: .*:[0-9]*: ')" -gt 0 ] && echo yes)"
	check "$p: each system call has its reason" "" "$("$narlock" policy $p | grep '^[a-z]' | grep -v '#' | while read -r call; do
		"$narlock" policy $p | grep -A1 -F "$call" | tail -n +2 | grep -q '^ .*#' || echo "$call"
	done)"
	check "$p: the rules of libseccomp" yes "$([ "$("$narlock" policy $p --pfc | wc -l)" -gt 20 ] && echo yes)"
done
check "no network library in the broker" "" "$("$narlock" policy broker | grep '^# libraries' | grep -oE 'curl|ssl|sodium|zstd|liblz|libz')"
for limit in 'fetch FETCH_FILES 512' 'fetch JOURNAL_SLOTS 256' 'fetch MAX_MEMORY (512' 'unpack BASE_AS (64' 'resolve MAX_FILES 32'; do
	check "the number behind a limit: $limit" 1 "$("$narlock" policy "${limit%% *}" | grep -cF "#define ${limit#* }")"
done
own=$("$narlock" policy unpack | sed -n 's/^# lines of code: \([0-9]*\) of.*/\1/p')
all=$(cat helper/unpack/*.c helper/unpack/*.h | grep -c '[^[:space:]]')
check "lines of code are those of its files, without comments" yes "$([ "$own" -gt 300 ] && [ "$own" -lt "$all" ] && echo yes)"
"$narlock" policy nobody >/dev/null 2>&1
check "no such process" 2 $?
exit $failed
