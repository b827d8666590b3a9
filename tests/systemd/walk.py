#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests: a new user's walk: walk.py LEADER ROOT [NAME...]   (`run --walk' starts it, in the container's network)

In a booted machine with guix-daemon, and narlock only as a package, the commands of README.md are run as they stand there;
then the machine is broken in each of the ways of README's table, and what `guix build' and `narlock doctor' say is compared
with the table and with /proc.  LEADER is the container's first process, ROOT its root directory.  Prints `ok NAME', `not ok NAME:
why', `SKIP NAME: why' and "N passed, N failed, N skipped"."""
import json
import os
import re
import subprocess
import sys
import time
import traceback

sys.dont_write_bytecode = True
import cases
from cases import CAPS, DROPINS, HERE, LEADER, ROOT_DIR, Building, Farm, build, cursor, inside, installed, journal
from cases import namespaces, processes, put, uid_of
from bed import TOOLS, Failed, Item, Skipped, check, run, status, tree, until

TOP = os.path.dirname(os.path.dirname(HERE))
HOME = "/root/narlock"  # where the commands are typed
LIBEXEC = "/usr/libexec/narlock"
CONF, ACL, LOG = "/etc/narlock/narlock.conf", "/etc/guix/acl", "/var/log/narlock"
UNITS = ("narlock-fetch", "narlock-resolve")
KINDS = ("fetch", "unpack", "resolve")


def shell(text, expect=0, wrap=()):
    """As typed in HOME; its output.  EXPECT None: any exit status."""
    r = inside(*wrap, "sh", "-c", f"cd {HOME} && {text}\nexit $?", check_status=False)
    if expect is not None and r.returncode != expect:
        raise Failed(f"$ {text}: status {r.returncode}, not {expect}: {r.stdout[-1500:]}")
    return r.stdout


# --- README -------------------------------------------------------------------------------------------------------

def section(title):
    with open(f"{TOP}/README.md") as f:
        return re.search(rf"^## {title}\n(.*?)^## ", f.read(), re.M | re.S).group(1)


def readme_blocks():
    """The commands of each block of the section Installation, by the first words of its first line, a comment."""
    found = {}
    for text in re.findall(r"^```sh\n(.*?)^```", section("Installation"), re.M | re.S):
        first, *lines = text.splitlines()
        found[re.match(r"# ([\w ]+)", first).group(1).strip()] = lines
    return found


def readme_table():
    """{what is wrong: (what guix build says, doctor's verdict, what doctor says)}, the sayings as lists."""
    rows = {}
    for line in section("When something is wrong").splitlines():
        if line.startswith("| ") and "`guix build` says" not in line:
            name, says, verdict = [cell.strip() for cell in line.strip("|").split(" | ")]
            quoted = [re.findall(r"(?<!`)`([^`].*?)`(?=$|[^`'\w])", cell) for cell in (says, verdict)]
            rows[name] = (says, quoted[0], verdict.split(":")[0], quoted[1])
    return rows


# --- What guix build and doctor say ---------------------------------------------------------------------------------

class Doctor:
    """`narlock doctor --json', as an admin runs it, but of the one server that there is.  WRAP: what else holds here."""

    def __init__(self, farm, wrap=()):
        r = subprocess.run([*cases.INSIDE, *wrap, "narlock", "doctor", "--json", f"--substitute-urls={farm.url}"], timeout=120,
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, errors="replace")
        try:
            told = json.loads(r.stdout)
        except ValueError:
            raise Failed(f"doctor --json: {r.stdout[-800:]} {r.stderr[-800:]}") from None
        self.verdict, self.findings = told["verdict"], told["findings"]
        self.text = "\n".join(f["text"] for f in self.findings)
        check(told["status"] == r.returncode == ("good", "degraded", "unsafe").index(self.verdict),
              f"doctor: {self.verdict}, status {told['status']}, exit status {r.returncode}")
        levels = [f["level"] for f in self.findings]
        worst = "unsafe" if "unsafe" in levels else "degraded" if "degraded" in levels else "good"
        check(worst == self.verdict, f"doctor: {self.verdict}, but its findings are {worst}")

    def bad(self):
        return [f["text"] for f in self.findings if f["level"] in ("degraded", "unsafe")]

    def helpers(self):
        """{kind: its fields, or None when it could not be started}; empty when it did not come so far."""
        found = {}
        for line in self.text.splitlines():
            if m := re.match(r"helper (\w+) (failed|uid=)", line):
                found[m[1]] = None if m[2] == "failed" else dict(re.findall(r"(\w+)=(\S*)", line))
        return found


def good(farm):
    d = Doctor(farm)
    check(d.verdict == "good", f"doctor: {d.verdict}: {d.bad()}")
    return d


def kernel_abi():
    """The Landlock ABI that this kernel has, asked without narlock."""
    import ctypes
    libc = ctypes.CDLL(None)
    return max(libc.syscall(444, None, ctypes.c_size_t(0), 1), 0)


def has_layer(layer, pid, s, uid):
    """Does /proc show LAYER of process PID?  None where /proc has no place for it."""
    ours, its = namespaces(LEADER), namespaces(pid)
    if layer == "rlimits":
        with open(f"/proc/{pid}/limits") as f:
            return bool(re.search(r"^Max core file size +0 +0", f.read(), re.M))
    return {"uid": s["Uid"].split() == [uid] * 4 and uid != "0", "no-groups": s["Groups"].split() in ([], [uid]),
            "no-caps": all(int(s[c], 16) == 0 for c in CAPS), "no-new-privs": s["NoNewPrivs"] == "1",
            "seccomp": s["Seccomp"] == "2", "not-dumpable": os.stat(f"/proc/{pid}/stat").st_uid == 0,
            "user-namespace": its["user"] != ours["user"], "mount-namespace": its["mnt"] != ours["mnt"]}.get(layer)


def agree(farm, d):
    """The helpers of a real `guix build' are as doctor D says of those that it has tried."""
    said = d.helpers()
    check(set(said) == set(KINDS) and all(said.values()), f"doctor: {said}")
    units = "rootless-namespace units" in d.text
    b = Building(farm, "agree")
    try:
        for kind in KINDS:
            pids = processes(kind)
            check(pids, f"no {kind}")
            for pid in pids:
                s, h = status(pid), said[kind]
                check(s["Uid"].split() == [h["uid"]] * 4 and s["Gid"].split() == [h["gid"]] * 4,
                      f"{kind}: doctor says {h}, /proc {s['Uid']} {s['Gid']}")
                check(int(s["Seccomp_filters"]) > 0 and (s["Seccomp"], s["NoNewPrivs"]) == ("2", "1"), f"{kind}: {s}")
                layers = set((h["verified"] + "," + h["claimed"]).split(","))
                for layer in layers:
                    check(has_layer(layer, pid, s, h["uid"]) is not False, f"{kind}: doctor says {layer}, /proc does not")
                for layer in {"user-namespace", "no-caps", "no-new-privs", "seccomp"} - layers:
                    check(not has_layer(layer, pid, s, h["uid"]), f"{kind}: {layer} is not said by doctor, but there")
                check(("landlock-fs" in layers) == (int(h["landlock_abi"]) > 0), f"{kind}: {h}")
                check((s["PPid"] == LEADER) == (units and kind != "unpack"), f"{kind}: started by {s['PPid']}, doctor: units {units}")
        broker = status(cases.broker_of_substitute())
        check((broker["Seccomp"], broker["NoNewPrivs"]) == ("2", "1"), f"broker: {broker}")
        root = re.search("^mode root$", d.text, re.M) is not None
        check((broker["Uid"].split()[0] == "0") == root, f"doctor: mode root {root}; the broker's uid {broker['Uid']}")
    finally:
        b.end()
    # What /proc cannot show the helpers have said once more, and it is in the log.
    last = records("substitute")[-1]
    check(("landlock-fs" in last["fetch_verified"] + last["fetch_claimed"]) == ("landlock-fs" in said["fetch"]["claimed"]),
          f"doctor: {said['fetch']}, log: {last}")
    return said


def disagree(d):
    """Nothing can be fetched: then there is no process that could have been taken over, either."""
    check(until(5, lambda: not any(processes(k) for k in KINDS)), f"doctor: {d.verdict}, but helpers run")


def records(event):
    with open(f"{ROOT_DIR}{LOG}/audit.log") as f:
        return [r for r in map(json.loads, f) if r["event"] == event]


# --- The walk -----------------------------------------------------------------------------------------------------

def type_in(lines, replace=()):
    """Each line of a block of README; their outputs."""
    out = {}
    for line in lines:
        typed = line.split("   ")[0].rstrip()
        for a, b in replace:
            check(a in " ".join(lines), f"README has no {a!r}")
            typed = typed.replace(a, b)
        out[line.split("  #")[0].rstrip()] = shell(typed)
    return out


def switch_on(farm):
    """From nothing: the package, the drop-in, the sockets; doctor says what it finds."""
    lines = [line.split("   ")[0].rstrip() for line in BLOCKS["switch on"]]
    check(not os.path.exists(f"{ROOT_DIR}/usr/bin/narlock"), "narlock is there already")
    check(lines[0] == "make deb", lines[0])  # was just done, on a machine that has a compiler
    check(lines[-1] == "sudo narlock doctor", lines[-1])
    out = type_in(lines[1:-1])
    check("To switch it on:" in out[lines[1]], f"the message of the package: {out[lines[1]]}")
    # Without a network the two servers that doctor knows by itself cannot be reached, and all else is good.
    text = shell(lines[-1], expect=1)
    worse = [line for line in text.splitlines() if re.match("  (DEGRADED|UNSAFE)", line)]
    check(len(worse) == 2 and all("DEGRADED  url https://" in line for line in worse), f"doctor: {worse}")
    check(text.endswith("verdict: degraded\n"), text[-100:])
    text = shell(f"narlock doctor --substitute-urls={farm.url}", expect=0)
    check(text.endswith("verdict: good\n") and f"url {farm.url}/ reachable" in text, text[-600:])
    # Landlock as the kernel itself says it.
    check(f"Landlock: ABI {kernel_abi()}" in text, f"the kernel says ABI {kernel_abi()}: {text}")


def over_http(farm):
    """An item by HTTP; the log says who signed it, where it came from; doctor agrees with /proc."""
    item = farm.item("http")
    before = cursor()
    out = type_in(BLOCKS["use"], [("hello", item.path)])
    check(installed(item), f"guix build: {out['guix build hello']}")
    text = out["sudo narlock audit"]
    for what in (f"substitute success {item.path}", f"narinfo   {farm.url}/", f"nar       {farm.url}/{item.page}"):
        check(what in text, f"narlock audit has no {what!r}: {text}")
    key = re.search(r"key +([0-9a-f]{64})\n", text)
    check(key and key[1] in out["sudo narlock audit --summary"] and records("substitute")[-1]["key"] == key[1], text)
    check(shell(f"narlock audit --key={key[1]}").count("substitute success") == 1, "audit --key")
    check(f"{farm.url.rsplit('/', 1)[0]}" in out["sudo narlock audit --summary"], out["sudo narlock audit --summary"])
    check(out["sudo narlock audit --verify"].startswith("complete: "), out["sudo narlock audit --verify"])
    said = journal(before)
    check("narlock" not in said, f"the journal of a good day: {said}")
    agree(farm, good(farm))


def zstd_item(farm, name, extra):
    """An item whose nar is a zstd file, and lines below the signature that EXTRA makes of that file's name."""
    item = Item(farm, f"{name}-{os.urandom(3).hex()}", data=tree(name, 300_000), compression="zstd")
    item.body = run("zstd", "-c", input=item.data)
    with open(f"{ROOT_DIR}{HOME}/nar.zst", "wb") as f:
        f.write(item.body)
    item.narinfo = re.sub(rb"FileSize: \d+", b"FileSize: %d" % len(item.body), item.narinfo) + extra().encode()
    item.serve(farm.server, "www", data=False)  # the nar itself is on no server
    return item


def blocks_came(farm, item, source):
    r = build(item)
    check(installed(item), f"guix build: {r.stdout[-800:]}")
    last = records("substitute")[-1]
    check(last["path"] == item.path and re.fullmatch(source, last["sources"]), f"the log: {last}")
    text = shell("narlock audit")
    check(last["sources"] in text.rsplit(item.path, 1)[1], f"narlock audit does not name {last['sources']}: {text[-600:]}")
    return last


def ipfs_of_readme(farm):
    """An item whose nar is in IPFS only, put there by README's commands."""
    if not os.path.exists(f"{ROOT_DIR}/usr/bin/ipfs"):
        why = os.path.join(os.environ.get("NARLOCK_E2E_DIR", "/var/tmp/narlock-e2e"), "ipfs", "why-kubo")
        raise Skipped("no Kubo: " + (open(why).read().strip() if os.path.exists(why) else "it was not installed: bed ipfs"))
    try:
        type_in(BLOCKS["blocks from IPFS"])
        check(until(60, lambda: "Daemon is ready" in shell("cat ipfs.log")), f"ipfs daemon: {shell('cat ipfs.log')[-600:]}")
        d = good(farm)
        check(re.search(r"blocks usable ipfs .*(kubo|\d\.\d)", d.text), f"doctor: {d.text[-600:]}")
        item = zstd_item(farm, "ipfs", lambda: "".join(re.findall(
            r"ERIS.*\n", "".join(type_in(BLOCKS["give a nar to IPFS by hand"]).values()))))
        last = blocks_came(farm, item, r"ipfs \d+")
        print(f"   sources: {last['sources']}")
        check(last["blocks_missed"] == 0, f"blocks were missing: {last}")
    finally:
        shell("ipfs shutdown", expect=None)
    check(until(20, lambda: not processes("ipfs")), "ipfs does not end")


def block_server(farm):
    """The same from a block server, which needs no Kubo."""
    put(CONF, "ipfs =\nblock-server = http://127.0.0.1:8099\n")
    server = None
    try:
        item = zstd_item(farm, "served", lambda: "ERIS: " + shell("narlock-eris encode --store store nar.zst"))
        server = subprocess.Popen([*cases.INSIDE, "narlock-eris", "serve", "--store", f"{HOME}/store", "--listen", "127.0.0.1:8099"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        check(until(10, lambda: "block sources usable" in Doctor(farm).text and Doctor(farm).verdict == "good"),
              f"doctor: {Doctor(farm).bad()}")
        blocks_came(farm, item, r"blocks \d+")
    finally:
        put(CONF, FIRST_CONF)
        for pid in processes("narlock-eris"):
            os.kill(pid, 15)
        if server:
            server.wait(10)


def switch_off(farm):
    """Off, the stock program is back; purged, nothing is left but the user."""
    type_in(BLOCKS["switch off"])
    pid = inside("systemctl", "show", "-P", "MainPID", "guix-daemon").strip()
    check("GUIX=" not in inside("cat", f"/proc/{pid}/environ"), "guix-daemon still has GUIX=")
    left = inside("find", "/usr", "/etc", "/lib", "/run", "/var/lib", "/var/log", "/var/guix", "-xdev", "-name", "*narlock*",
                  "-not", "-path", "/var/lib/dpkg/*", "-not", "-path", "/run/systemd/*", check_status=False).stdout.split()
    check(not left, f"left: {left}")
    check(not inside("systemctl", "list-units", "--all", "--no-legend", "--plain", "narlock-*.socket").strip(), "units are left")


# --- Broken on purpose ----------------------------------------------------------------------------------------------
# Each is a generator: it breaks, yields (how doctor is to be called: a prefix, or nothing), and mends.

def restart():
    inside("systemctl", "daemon-reload")
    inside("systemctl", "reset-failed", "guix-daemon", check_status=False)
    inside("systemctl", "restart", "guix-daemon")
    check(until(10, lambda: os.path.exists(f"{ROOT_DIR}/var/guix/daemon-socket/socket")), "guix-daemon does not start")


def dropin(text, name="zz", unit=DROPINS):
    put(f"{unit}/{name}.conf", f"[Service]\n{text}\n")


def drop_dropin(name="zz", unit=DROPINS):
    os.unlink(f"{ROOT_DIR}{unit}/{name}.conf")


def acl_of(farm, key):
    return run(f"{TOOLS}/sign", "acl", f"{farm.scratch}/{key}.pub").decode()


def wrong_key(farm):
    run(f"{TOOLS}/sign", "genkey", f"{farm.scratch}/other.sec", f"{farm.scratch}/other.pub")
    put(ACL, acl_of(farm, "other"))
    before = len(records("narinfo-refused"))
    yield
    new = records("narinfo-refused")[before:]
    check(new and all("unauthorised key" in r["reason"] for r in new), f"the log has no narinfo-refused: {new}")
    put(ACL, acl_of(farm, "farm"))


def acl_of_group(farm):
    inside("chgrp", "nogroup", ACL)
    inside("chmod", "664", ACL)
    yield
    inside("chgrp", "root", ACL)
    inside("chmod", "644", ACL)


def no_acl(farm):
    inside("rm", ACL)
    yield
    put(ACL, acl_of(farm, "farm"))


def no_user(farm):
    inside("userdel", "narlock")
    yield
    inside("systemd-sysusers")


def as_root(farm):
    """guix-daemon as root, as it mostly is elsewhere."""
    mode(farm, root=True)
    good(farm)
    agree(farm, Doctor(farm))


def no_user_root(farm):
    as_root(farm)
    inside("userdel", "narlock")
    yield
    inside("systemd-sysusers")
    good(farm)
    mode(farm, root=False)


def no_landlock(error, conf=""):
    def case(farm):
        put(CONF, FIRST_CONF + conf)
        dropin(f"SystemCallFilter=~landlock_create_ruleset:{error}")
        for unit in UNITS:
            dropin(f"SystemCallFilter=~landlock_create_ruleset\nSystemCallErrorNumber={error}",
                   unit=f"/run/systemd/system/{unit}@.service.d")
        restart()
        yield "systemd-run", "--wait", "--pipe", "-q", "-p", f"SystemCallFilter=~landlock_create_ruleset:{error}"
        drop_dropin()
        for unit in UNITS:
            drop_dropin(unit=f"/run/systemd/system/{unit}@.service.d")
        put(CONF, FIRST_CONF)
        restart()
    return case


# A user namespace in which no further one can be made, by the kernel's own knob; all ids are as outside.
NO_NAMESPACES = """#!/bin/sh
set -e
[ "$1" = -m ] || exec unshare --mount "$0" -m "$@"
shift
! mountpoint -q /proc/sys || mount -o remount,rw,bind /proc/sys
unshare --user sh -c 'until [ "$(id -u)" = 0 ]; do sleep .02; done
	exec sh -ec "echo 0 >/proc/sys/user/max_user_namespaces; exec \\"\\$@\\"" sh "$@"' sh "$@" &
p=$!
while [ "$(readlink /proc/$p/ns/user)" = "$(readlink /proc/self/ns/user)" ]; do sleep .02; done
echo 0 0 65536 >/proc/$p/gid_map
echo 0 0 65536 >/proc/$p/uid_map
wait $p
"""


def no_namespaces(farm):
    inside("systemctl", "stop", *[f"{u}.socket" for u in UNITS])  # with them it is the unpacker alone that cannot start
    put("/root/no-namespaces", NO_NAMESPACES, 0o755)
    dropin(f"ExecStart=\nExecStart=+/root/no-namespaces setpriv --reuid=guix-daemon --regid=guix-daemon --clear-groups "
           f"--no-new-privs /usr/bin/guix-daemon --discover=no --substitute-urls={farm.url}")
    restart()
    yield "/root/no-namespaces",
    drop_dropin()
    inside("systemctl", "start", *[f"{u}.socket" for u in UNITS])
    restart()


def not_executable(name):
    """EACCES for a program whose mode is right, as AppArmor would answer."""
    def case(farm):
        path = f"{LIBEXEC}/{name}"
        inside("mount", "--bind", path, path)
        inside("mount", "-o", "remount,bind,noexec", path)
        restart()
        yield
        inside("umount", path)
        restart()
    return case


def wrong_mode(farm):
    inside("chmod", "700", f"{LIBEXEC}/fetch")
    yield
    inside("chmod", "755", f"{LIBEXEC}/fetch")


def full(directory, size, filler, conf=""):
    """A file system of its own, and full."""
    def case(farm):
        put(CONF, FIRST_CONF + conf)
        shell(f"mount -t tmpfs -o size={size},mode=700 tmpfs {directory} && chown guix-daemon: {directory} && {filler}")
        restart()
        yield
        inside("umount", directory)
        put(CONF, FIRST_CONF)
        restart()
    return case


def owned(path, back="guix-daemon", conf=""):
    def case(farm):
        put(CONF, FIRST_CONF + conf)
        inside("chown", "nobody", path)
        yield
        inside("chown", back, path)
        put(CONF, FIRST_CONF)
    return case


def sockets_off(*units):
    def case(farm):
        inside("systemctl", "stop", *[f"{u}.socket" for u in units])
        yield
        inside("systemctl", "start", *[f"{u}.socket" for u in units])
        inside("rm", "-f", "/var/lib/narlock-fetch/state")  # a server whose name was not found is left alone for a minute
    return case


BREAKS = {
    "the server's key is not in the ACL": wrong_key,
    "the ACL can be written by a group": acl_of_group,
    "there is no ACL": no_acl,
    "there is no user narlock": no_user,
    "the same, of a root daemon": no_user_root,
    "the kernel has no Landlock": no_landlock("ENOSYS"),
    "Landlock is not in `lsm=`": no_landlock("EOPNOTSUPP"),
    "the same with `landlock = require`": no_landlock("EOPNOTSUPP", "landlock = require\n"),
    "there are no user namespaces": no_namespaces,
    "`guix` may not be executed (AppArmor)": not_executable("guix"),
    "`broker` may not be executed": not_executable("broker"),
    "`fetch` may not be executed": not_executable("fetch"),
    "`unpack` may not be executed": not_executable("unpack"),
    "`fetch` has mode 0700": wrong_mode,
    "the disk of the audit log is full": full(LOG, "8k", f"cd {LOG} && touch audit.log audit.log.head && chown guix-daemon: * && "
                                              "{ head -c 9000 /dev/zero >filler || true; }"),
    "the disk of the spool is full": full("/var/guix/narlock/spool", "64k", "head -c 60000 /dev/zero >/var/guix/narlock/spool/filler",
                                          "spool-memory = 16K\n"),
    "`cache` belongs to somebody else": owned("/var/guix/narlock/cache"),
    "`spool` belongs to somebody else": owned("/var/guix/narlock/spool", conf="spool-memory = 16K\n"),
    "a program belongs to somebody else": owned(f"{LIBEXEC}/fetch", "root"),
    "the sockets are off": sockets_off(*UNITS),
    "one of the sockets is off": sockets_off("narlock-resolve"),
}


def broken(name):
    def case(farm):
        says, told, verdict, advice = TABLE[name]
        how = BREAKS[name](farm)
        wrap = next(how) or ()
        try:
            item = farm.item("broken")
            r = build(item)
            for text in told:
                check(text in r.stdout, f"guix build does not say {text!r}: {r.stdout[-900:]}")
            check(installed(item) == says.startswith("works"), f"guix build: installed: {installed(item)}: {r.stdout[-900:]}")
            d = Doctor(farm, wrap)
            check(d.verdict == verdict, f"doctor: {d.verdict}, not {verdict}: {d.bad()}")
            for text in advice:
                check(any(text in f["text"] for f in d.findings if f["level"] != "ok"), f"doctor does not say {text!r}: {d.bad()}")
            if says.startswith("works"):
                agree(farm, d) if "audit log" not in name else None  # the log is what agree() reads
            else:
                disagree(d)
        finally:
            for _ in how:
                pass
        good(farm)
        r = build(item)
        check(installed(item), f"mended, but: {r.stdout[-900:]}")
    return case


def mode(farm, root):
    """The user of guix-daemon."""
    inside("systemctl", "stop", "guix-daemon")
    inside("rm", "-rf", "/var/guix/narlock")
    inside("chown", "-R", "root:" if root else "guix-daemon:", "/gnu/store", "/var/guix", "/var/log/guix")
    dropin(f"ExecStart=\nExecStart=/usr/bin/guix-daemon --discover=no --substitute-urls={farm.url}"
           + (" --build-users-group=_guixbuild\nUser=root\nAmbientCapabilities=" if root else ""), "test")
    restart()


FIRST_CONF = ""
BLOCKS, TABLE = readme_blocks(), readme_table()


def main(names):
    global FIRST_CONF
    os.umask(0o022)
    farm = Farm(f"{ROOT_DIR}/root/farm")
    # Before narlock: a machine with Guix whose daemon runs.
    put("/usr/bin/sudo", "#!/bin/sh\nexec \"$@\"\n", 0o755)
    inside("mkdir", "-p", DROPINS)
    mode(farm, root=False)
    inside("systemctl", "enable", "-q", "guix-daemon")
    passed = failed = skipped = 0
    walk = [("switch on", switch_on), ("over HTTP", over_http), ("from IPFS", ipfs_of_readme), ("from a block server", block_server),
            *[(f"broken: {name}", broken(name)) for name in BREAKS], ("switch off", switch_off)]
    if set(TABLE) != set(BREAKS):
        print(f"not ok the table of README and the cases are the same: {set(TABLE) ^ set(BREAKS)}")
        failed += 1
    for name, case in walk:
        # Without the first one there is nothing to walk on.
        if names and name != "switch on" and not any(name.startswith(n) for n in names):
            continue
        begin = time.monotonic()
        try:
            if name.startswith("broken") and name.split(": ", 1)[1] not in TABLE:
                raise Failed("README's table does not have it")
            case(farm)
            result, passed = f"ok walk: {name}", passed + 1
        except Skipped as e:
            result, skipped = f"SKIP walk: {name}: {e}", skipped + 1
        except Exception as e:
            where = "" if isinstance(e, Failed) else traceback.format_exc().splitlines()[-3].strip()
            result, failed = f"not ok walk: {name}: {type(e).__name__ if where else ''} {e} {where}", failed + 1
        print(f"{result} ({time.monotonic() - begin:.1f} s)", flush=True)
        if name == "switch on":
            with open(ROOT_DIR + CONF) as f:
                FIRST_CONF = f.read()
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[3:]))
