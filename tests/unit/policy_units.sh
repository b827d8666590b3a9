#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Tests: what systemd itself says of the units: no word that it does not know, and an exposure of at most 1.3.
set -u
units=build/share/systemd
if ! systemd-analyze --version >/dev/null 2>&1; then
	echo 'SKIP units: there is no systemd-analyze here'
	exit 0
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
for u in narlock-fetch.socket narlock-fetch@.service narlock-resolve.socket narlock-resolve@.service narlock-heal.service; do
	if [ ! -f "$units/$u" ]; then
		echo "FAILED $u: not made"
		continue
	fi
	# Programs and users of the machine where it will be installed are no matter here.
	sed -e 's|^ExecStart=[^ ]*|ExecStart=/bin/true|' -e 's|^SocketUser=.*|SocketUser=root|' "$units/$u" >"$dir/$u"
done
for u in "$dir"/*; do
	name=$(basename "$u")
	if out=$(systemd-analyze verify --man=no "$u" 2>&1) && ! echo "$out" | grep -q "$name:"; then
		echo "ok $name is understood"
	else
		echo "FAILED $name: $out"
	fi
	case $name in *.socket) continue ;; esac
	figure=$(systemd-analyze --no-pager security --offline=true "$u" 2>/dev/null | sed -n 's/.*exposure level.*: \([0-9.]*\).*/\1/p')
	if [ -z "$figure" ]; then
		echo "SKIP $name: this systemd-analyze has no --offline"
	elif echo "$figure" | awk '{ exit !($1 <= 1.3) }'; then
		echo "ok $name: $figure"
	else
		echo "FAILED $name: $figure"
	fi
done
