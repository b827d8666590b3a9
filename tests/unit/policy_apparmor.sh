#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Tests: policy/apparmor is accepted by apparmor_parser (nothing is loaded), alone and in a profile of guix-daemon, with the
# paths of any PREFIX; a helper's profile has no right that narlock-broker lacks, and that one what the kernel asks of it.
set -u
cd "$(dirname "$0")/../.." || exit 1
parser=$(PATH=$PATH:/usr/sbin:/sbin; command -v apparmor_parser) || { echo "SKIP apparmor_parser is not installed"; exit 0; }
[ -e /etc/apparmor.d/abi/3.0 ] || { echo "SKIP the profiles that come with AppArmor 3 are not installed"; exit 0; }
work=$(mktemp -d "${TMPDIR:-/tmp}/narlock-apparmor.XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
failed=0
check() { # NAME COMMAND...
	local name=$1 out
	shift
	if out=$("$@" 2>&1); then echo "ok - $name"; else failed=1; printf 'FAILED - %s\n%s\n' "$name" "$out"; fi
}
make_files() { # LIBEXECDIR SYSCONFDIR
	local f
	mkdir -p "$work/local"
	for f in narlock guix-daemon; do
		sed -e "s|@LIBEXECDIR@|$1|g" -e "s|@SYSCONFDIR@|$2|g" -e 's|@DATADIR@|/usr/share|g' "policy/apparmor/$f.in" >"$work/$f"
	done
	mv "$work/guix-daemon" "$work/local/"
	# As Debian's profile includes it; the builder's and helper's profiles are what the rules of the real guix lead to.
	cat >"$work/daemon" <<-'END'
		abi <abi/3.0>,
		include <tunables/global>
		profile guix-daemon /usr/bin/guix-daemon {
		  include <abstractions/base>
		  /gnu/store/*-guix-command cx -> guix-helper,
		  include <local/guix-daemon>
		  profile guix-helper {
		    include <abstractions/base>
		  }
		}
	END
}
# As for a kernel with all that abi/3.0 names: whatever kernel runs here, no rule is left out.
parse() { "$parser" --base /etc/apparmor.d --Include "$work" --skip-kernel-load --skip-cache --kernel-features \
	/etc/apparmor.d/abi/3.0 --warn=all --Werror "$@"; }

for dirs in "/usr/libexec/narlock /etc" "/usr/local/libexec/narlock /etc" "/opt/a/libexec/narlock /opt/a/etc"; do
	# shellcheck disable=SC2086
	make_files $dirs
	check "profiles for ${dirs% *}" parse "$work/narlock"
	check "guix-daemon's include for ${dirs% *}" parse "$work/daemon"
	check "no place left open" sh -c '! grep -n "@[A-Z]*@" "$1"/narlock "$1"/local/guix-daemon | grep -v "@{"' sh "$work"
done
# The parser does refuse: or none of the above says anything.
sed 's/^  signal,/  signal nonsense,/' "$work/narlock" >"$work/bad"
check "what is wrong is refused" sh -c '! "$@" 2>/dev/null' sh "$parser" --base /etc/apparmor.d --skip-kernel-load --skip-cache "$work/bad"

# Under no_new_privs a helper has what both profiles allow: what narlock-broker lacks would be missing in silence.
rights() { # PROFILE: its rules that give something, one a line
	awk -v p="^profile $1 " '$0 ~ p { on = 1; next } /^}/ { on = 0 } on' "$work/narlock" | sed 's/^ *//' |
		grep -Ev '^(#|$|audit deny|include if)' | sort -u
}
covered() { # RULE: narlock-broker has it, or a wider one
	local rule=$1
	case $rule in
	signal*) rule=signal, ;;
	unix*) rule=unix, ;;
	/var/guix/narlock/*) rule='/var/guix/narlock/** rwlk,' ;;
	@\{PROC\}/@\{pids\}/status*) rule='@{PROC}/@{pids}/{stat,status,uid_map,mountinfo} r,' ;;
	/var/lib/narlock-fetch/*) return 0 ;; # of systemd's fetcher, which is in no other profile
	*/libexec/narlock/*) rule=$(rights narlock-broker | grep -F '{,trace/}{fetch,resolve,unpack} mr,') ;;
	esac
	rights narlock-broker | grep -qxF -- "$rule"
}
for helper in fetch resolve unpack; do
	missing=$(rights "narlock-$helper" | while IFS= read -r rule; do covered "$rule" || echo "$rule"; done)
	check "narlock-$helper is within narlock-broker" [ -z "$missing" ]
	[ -z "$missing" ] || echo "$missing"
done
# With a path of its own the kernel would change to a helper's profile instead of adding it, which no_new_privs forbids.
check "no helper's profile has a path" sh -c '! grep -E "^profile narlock-(fetch|resolve|unpack) [^f]" "$1"' sh "$work/narlock"
# Named by a unit as it is installed, a profile that nobody loaded is a denial in the kernel's log at each start.
check "no unit names a profile" sh -c '! grep -n "^AppArmorProfile=" policy/systemd/*.in'
for helper in fetch resolve; do
	check "unit.conf names the profile of narlock-$helper" grep -qE "^profile $(sed -n 's/^AppArmorProfile=-//p' policy/apparmor/unit.conf |
		sed "s/%p/narlock-$helper/") " "$work/narlock"
done
for helper in fetch resolve unpack; do
	check "narlock-$helper is added" grep -qE "^  [^ ]*$helper pix -> &narlock-$helper,$" "$work/narlock"
done
# A spool on the disk has no name: where only attach_disconnected is set, the kernel looks no such file up (ENOENT).
check "files without a name are mediated" sh -c '! grep -E "^profile .*attach_disconnected" "$1" | grep -v mediate_deleted' sh "$work/narlock"
# The helpers' empty root is put together below /tmp before they are executed, still in the broker's profile.
places=$(rights narlock-broker | sed -n 's|^owner /tmp/{\(.*\)}{,/,/\*\*} w,$|,\1,|p')
shown=$(sed -n '/ shown\[\] = {/,/};/p' broker/drop.c | grep -o '"/[a-z0-9]*' | tr -d '"/' | sort -u)
check "change_root() has places to show" [ -n "$shown" ]
for place in $shown; do
	case $places in *,"$place",*) ;; *) check "narlock-broker may make /tmp/$place" false ;; esac
done
exit $failed
