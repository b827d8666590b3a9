# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests (hostile): every layer around the broker and its helpers, and what happens where one is missing."""
import os
import re
import signal
import subprocess
import time

from bed import BUILD, Skipped, check, command, kill, run, session, status, until

CAPS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
LANDLOCK_CREATE_RULESET, UNSHARE = "444", "272"
ENOSYS, EOPNOTSUPP, EPERM = "38", "95", "1"


def simulate(m, call, error):
    return (f"{m.bed.tools}/simulate", call, error)


def served(m, name="wanted", **kw):
    item = m.item(name)
    return item, item.serve(m.bed.server, m.name, **kw)


def refuses(m, a, item, why, seconds=30):
    """Nothing to be had, said once, and the conversation goes on."""
    before = m.leftovers()
    for _ in range(3):
        check((got := a.substitute(item, seconds=seconds)) == "not-found", f"the reply is {got!r}")
    check(a.alive(), "the broker ended")
    check(a.says(why), f"the log does not say '{why}': {a.log[-400:]!r}")
    check(m.leftovers() == before, f"left: {m.leftovers()}")


def refusal(m, item, url, why, **kw):
    """As refuses(), by the start-up, for both agents."""
    a = m.agent("substitute", url, **kw)
    refuses(m, a, item, why)
    check(a.log.count("no substitutes:") == 1, f"told {a.log.count('no substitutes:')} times")
    check(m.told("refusal", why), f"no audit record of the refusal: {m.audit()}")
    q = m.agent("query", url, **kw)
    check(q.info(item) == [] and q.info(item, command="have") == [] and q.alive(), "the query agent answers something")
    check(q.says(why) and q.log.count(why) == 1, f"the query agent says it {q.log.count(why)} times")


def self_check(m, *wrap, url=""):
    env = {"PATH": "/usr/bin:/bin", "NIX_STORE_DIR": m.store, "GUIX_STATE_DIRECTORY": m.state,
           "GUIX_CONFIGURATION_DIRECTORY": m.etc, "NARLOCK_CONF": f"{m.top}/narlock.conf",
           "_NIX_OPTIONS": f"substitute-urls={url}"}
    r = subprocess.run([*wrap, m.broker, "--self-check"], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, timeout=60)
    return r.returncode, r.stdout.decode()


# --- What is missing ------------------------------------------------------------------------------------------

def missing_user(machine):
    m = machine()
    item, url = served(m)
    m.conf("helper-user = no-such-user\n")
    refusal(m, item, url, "there is no user 'no-such-user'")


def root_user(machine):
    m = machine()
    item, url = served(m)
    m.conf("helper-user = 0:0\n")
    refusal(m, item, url, "is root: helpers need a user of their own")


def program(change, kind):
    def case(machine):
        m = machine()
        item, url = served(m)
        change(f"{m.libexec}/{kind}")
        a = m.agent("substitute", url)
        refuses(m, a, item, "its program is missing or can be written by others")
        check(a.log.count(f"no {kind} helper") <= 16, f"told {a.log.count(f'no {kind} helper')} times")
    return case


def wrong_program(machine):
    m = machine()
    item, url = served(m)
    with open(f"{m.libexec}/fetch", "w") as f:
        f.write("not a program\n")
    a = m.agent("substitute", url)
    refuses(m, a, item, "no fetch helper")


def no_landlock(error, name):
    def case(machine):
        m = machine()
        item, url = served(m)
        wrap = simulate(m, LANDLOCK_CREATE_RULESET, error)
        code, out = self_check(m, *wrap, url=url)
        check(code == 1 and "verdict degraded" in out and f"landlock=off landlock_abi=0 why={name}" in out,
              f"self-check: {code} {out!r}")
        a = m.agent("substitute", url, wrap=wrap)
        check(a.substitute(item) == item.success and item.installed(), "it does not work without Landlock")
        record = m.audit("substitute")[-1]
        for field in ("fetch_claimed", "unpack_claimed", "fetch_verified", "unpack_verified"):
            check("landlock" not in record[field], f"{field}: {record[field]}")
        check("seccomp" in record["fetch_verified"] and "uid" in record["unpack_verified"], f"audit: {record}")
        a.end()
        m.conf(f"helper-user = {m.uid}:{m.uid}\nlandlock = require\n")
        refusal(m, m.item("second"), url, "Landlock is required", wrap=wrap)
        code, out = self_check(m, *wrap, url=url)
        check(code == 2 and "verdict unsafe" in out, f"self-check with landlock = require: {code} {out!r}")
    return case


def landlock_claimed(machine):
    m = machine()
    item, url = served(m)
    code, out = self_check(m, url=url)
    if "landlock=on" not in out:
        raise Skipped("this kernel has no Landlock in use")
    check(code == 0 and "verdict good" in out, f"self-check: {code} {out!r}")
    a = m.agent("substitute", url)
    check(a.substitute(item) == item.success, "it does not work")
    record = m.audit("substitute")[-1]
    check("landlock-fs" in record["fetch_claimed"] and "landlock" not in record["fetch_verified"],
          f"Landlock is a claim: {record}")


def required_of_helpers(machine):
    m = machine()
    m.conf(f"helper-user = {m.uid}:{m.uid}\nlandlock = require\n")
    item, url = served(m)
    if "landlock=on" not in self_check(m, url=url)[1]:
        raise Skipped("this kernel has no Landlock in use")
    m.liar("fetch", "weak\nsend 0001 0002 000000ff 0000 0040 0000\nhang\n")
    refuses(m, m.agent("substitute", url), item, "Landlock is required")


def no_setuid(machine):
    m = machine()
    item, url = served(m)
    a = m.agent("substitute", url, wrap=("setpriv", "--bounding-set=-setuid", "--inh-caps=-all"))
    refuses(m, a, item, "narlock: ")
    check(not m.helpers(), "there are helpers")
    check(not any(session(p) == a.pid and p != a.pid and command(p) in ("fetch", "unpack") for p in m.processes()),
          "a helper runs as root")
    check(len(a.log.splitlines()) < 20, f"{len(a.log.splitlines())} lines in the log")


# --- What is there --------------------------------------------------------------------------------------------

def busy(m, name="wanted", wrap=()):
    """An agent in the middle of a slow item, with fetcher and unpacker at work."""
    item = m.item(name)
    url = item.serve(m.bed.server, m.name, rate=len(item.body) // 2)
    a = m.agent("substitute", url, wrap=wrap)
    a.write(f"substitute {item.path} {item.path}\n")
    a.ready("fetch", "unpack")
    check(until(5, lambda: "@ download-started" in a.log), f"nothing begins: {a.log!r}")
    return a, item


def confinement(machine):
    m = machine()
    a, item = busy(m, wrap=("setpriv", "--groups=54001,54002", "--inh-caps=+chown", "--ambient-caps=+chown"))
    check(status(a.pid)["Groups"].split() == ["54001", "54002"], "the daemon's side has no groups to be dropped")
    s = status(a.pid)
    check(all(int(s[c], 16) == 0 for c in CAPS), f"the broker has capabilities: {[s[c] for c in CAPS]}")
    check(s["NoNewPrivs"] == "1" and s["Seccomp"] == "2" and s["Threads"] == "1", f"the broker: {s}")
    p = status(a.spawner())
    caps = int(p["CapPrm"], 16) | int(p["CapInh"], 16) | int(p["CapAmb"], 16)
    check(caps == 1 << 5 | 1 << 6 | 1 << 7, f"the spawner has {caps:x}, not KILL, SETGID, SETUID")
    helpers = a.ready("fetch", "unpack")
    for kind, pid in helpers.items():
        s = status(pid)
        check(set((s["Uid"] + " " + s["Gid"]).split()) == {str(m.uid)}, f"{kind}: {s['Uid']} {s['Gid']}")
        check(s["Groups"].strip() == "", f"{kind} has groups {s['Groups']}")
        check(all(int(s[c], 16) == 0 for c in CAPS), f"{kind} has capabilities")
        check(s["NoNewPrivs"] == "1" and s["Seccomp"] == "2" and s["Threads"] == "1", f"{kind}: {s}")
        own = 2 if kind == "fetch" else 1  # narlock.conf names no unix socket: one more forbids them
        check(int(s["Seccomp_filters"]) == int(status("self")["Seccomp_filters"]) + own, f"{kind}: {s['Seccomp_filters']}")
        check(os.stat(f"/proc/{pid}/stat").st_uid == 0, f"{kind} is dumpable")
        with open(f"/proc/{pid}/limits") as f:
            limits = f.read()
        check(re.search(r"Max processes +0 +0 ", limits) and re.search(r"Max core file size +0 +0 ", limits),
              f"{kind}: {limits}")
    check(a.line() == item.success, "the item did not come")


def descriptors(machine):
    m = machine()
    a, item = busy(m)
    pids = {"spawner": a.spawner(), **a.ready("fetch", "unpack")}

    def links(pid):
        return {int(n): os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")}

    check({0, 1, 2, 4} <= set(links(a.pid)), "the broker lacks the daemon's descriptors")
    for who, pid in pids.items():
        held = links(pid)
        check(not a.inodes & set(held.values()), f"{who} holds a pipe of the daemon: {held}")
        check(held[0] == held[1] == "/dev/null", f"{who}: {held}")
    fetch, unpack, spawner = (links(pids[k]) for k in ("fetch", "unpack", "spawner"))
    check(sorted(unpack) == [0, 1, 2, 3, 4, 5] and all(unpack[i].startswith("socket:") for i in (2, 3, 4, 5)),
          f"unpack: {unpack}")
    files = [f"{m.state}/narlock/fetch/{name}" for name in ("state", "heal")]
    check(all(v.startswith(("socket:", "anon_inode:")) or v in files
              for n, v in fetch.items() if n > 1), f"fetch: {fetch}")
    check(not set(fetch.values()) & (set(spawner.values()) - {"/dev/null"}), "fetch and spawner share a descriptor")
    check(not {unpack[3], unpack[5]} & set(fetch.values()), "fetch holds a descriptor of the unpacker")
    allowed = {"/dev/null", *(f"{m.libexec}/{k}" for k in ("fetch", "unpack", "resolve")), "anon_inode:[pidfd]"}
    check(sum(v not in allowed for v in spawner.values()) == 1, f"the spawner: {spawner}")
    check(a.line() == item.success, "the item did not come")


def inherited(machine):
    """The daemon leaves a file open that it should not; a helper that closes nothing itself must not have it."""
    m = machine()
    item, url = served(m)
    for kind in ("fetch", "unpack"):
        m.liar(kind, "weak\nhang\n")
    a = m.agent("substitute", url, more="3</etc/passwd 5</etc/passwd 7</etc/passwd 300</etc/passwd")
    for kind, pid in a.ready("fetch", "unpack").items():
        held = sorted(int(n) for n in os.listdir(f"/proc/{pid}/fd"))
        check(held == ([0, 1, 2, 3] if kind == "fetch" else [0, 1, 2, 3, 4, 5]), f"{kind} holds {held}")
        with open(f"/proc/{pid}/environ", "rb") as f:
            names = {e.split(b"=")[0].decode() for e in f.read().split(b"\0") if e}
        check(names <= NAMES[kind], f"{kind}'s environment has {names - NAMES[kind]}")
    spawner = [os.readlink(f"/proc/{a.spawner()}/fd/{n}") for n in os.listdir(f"/proc/{a.spawner()}/fd")]
    check("/etc/passwd" not in spawner, f"the spawner holds {spawner}")


SECRETS = {"AWS_SECRET": "hunter2-env", "HOME": "/root", "LD_PRELOAD": "", "GUIX_SECRET": "hunter2-env"}
NAMES = {"fetch": {"PATH", "LC_ALL", "NARLOCK_SPAWNER", "NARLOCK_CA", "NARLOCK_FETCH_STATE"},
         "unpack": {"PATH", "LC_ALL", "NARLOCK_SPAWNER"},
         "resolve": {"PATH", "LC_ALL", "NARLOCK_SPAWNER", "RES_OPTIONS"}}


def secrets(machine):
    m = machine()
    item = m.item("wanted")
    url = item.serve(m.bed.server, m.name, rate=len(item.body)).replace("http://", "http://joe:s3cret-pw@")
    a = m.agent("substitute", url, url.replace("127.0.0.1", "no-such-host.invalid"), env=SECRETS)
    a.write(f"substitute {item.path} {item.path}\n")
    for kind, pid in a.ready("fetch", "unpack").items():
        with open(f"/proc/{pid}/environ", "rb") as f:
            environ = f.read()
        names = {e.split(b"=")[0].decode() for e in environ.split(b"\0") if e}
        check(names <= NAMES[kind], f"{kind}'s environment has {names - NAMES[kind]}")
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            check(f.read() == kind.encode() + b"\0", f"{kind} has arguments")
        check(b"s3cret-pw" not in environ and b"hunter2" not in environ, f"{kind}'s environment has a secret")
    check(a.line() == item.success, f"the item did not come: {a.log!r}")
    other = m.item("other")
    other.serve(m.bed.server, m.name, data=False)
    check(a.substitute(other) == "not-found", "an item without a nar came")
    check(a.substitute(m.item("third")) == "not-found", "an item without a narinfo came")
    with open(m.audit_log) as f:
        check("s3cret-pw" not in a.log and "s3cret-pw" not in f.read(), "the password is in log or audit log")
    for where, _, files in os.walk(f"{m.state}/narlock"):
        for name in files:
            with open(os.path.join(where, name), "rb") as f:
                check(b"s3cret-pw" not in f.read(), f"the password is in {name}")


def libraries(machine):
    allowed = r"(libc|libgcrypt|libgpg-error|libcap|libseccomp|libpthread|ld-linux\S*)\.so\.\d+"
    for name in ("broker", "guix"):
        out = run("readelf", "-d", f"{BUILD}/bin/{name}").decode()
        needed = re.findall(r"NEEDED.*\[(.*)\]", out)
        check(needed and all(re.fullmatch(allowed, n) for n in needed), f"{name} needs {needed}")
    m = machine()
    a, item = busy(m)
    with open(f"/proc/{a.pid}/maps") as f:
        mapped = set(re.findall(r"/\S+/(lib[a-z+-]+)[\d.-]*\.so", f.read()))
    check(mapped <= {"libc", "libgcrypt", "libgpg-error", "libcap", "libseccomp"}, f"mapped: {mapped}")


# --- Killing --------------------------------------------------------------------------------------------------

def gone(m, what):
    check(until(4, lambda: not m.processes()), f"{what}: {[command(p) for p in m.processes()]} are left")


def broker_killed(stopped):
    def case(machine):
        m = machine()
        a, item = busy(m)
        pids = {"spawner": a.spawner(), **a.ready("fetch", "unpack")}
        kill(pids[stopped], signal.SIGSTOP)
        kill(a.pid)
        a.process.wait()
        gone(m, f"{stopped} stopped, broker killed")
        check(not m.leftovers(), f"left: {m.leftovers()}")
    return case


def spawner_killed(machine):
    m = machine()
    a, item = busy(m)
    helpers = a.ready("fetch", "unpack")
    kill(helpers["fetch"], signal.SIGSTOP)
    kill(a.spawner())
    check(until(4, lambda: not m.helpers()), "helpers outlive the spawner")
    check((got := a.line()) == "not-found", f"the reply is {got!r}")
    refuses(m, a, item, "the spawner is gone")


def spawner_killed_idle(machine):
    m = machine()
    item, url = served(m)
    for mode in ("query", "substitute"):
        a = m.agent(mode, url)
        kill(a.spawner())
        time.sleep(0.1)
        if mode == "query":
            check(a.info(item) == [] and a.alive(), "the query agent does not answer")
        else:
            refuses(m, a, item, "the spawner is gone")


def killed(kind, expected):
    """A helper that dies in mid-order is replaced, and the item comes all the same."""
    def case(machine):
        m = machine()
        a, item = busy(m)
        kill(a.ready(kind)[kind])
        check((got := a.line()) == item.success, f"the reply is {got!r}; log: {a.log[-300:]!r}")
        check(item.installed() and a.says("signal 9"), "it is not what it should be")
        second = m.item("second")
        second.serve(m.bed.server, m.name)
        check(a.substitute(second) == second.success, "the next item did not come")
    return case


def cancelled_by_death(machine):
    """guix-daemon dies: its pipes close, and all end by themselves."""
    m = machine()
    item, url = served(m)
    a = m.agent("substitute", url)
    a.ready("fetch", "unpack")
    os.close(a.stdin)
    a.stdin = -1
    check(a.process.wait(10) == 0, "the broker does not end with its input")
    gone(m, "end of input")


# --- Rootless ---------------------------------------------------------------------------------------------------

def rootless(machine):
    m = machine(owner=54321)
    m.uid = 54321
    item, url = served(m)
    user = ("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", "--inh-caps=-all")
    r = subprocess.run([*user, "unshare", "--user", "--mount", "true"], stderr=subprocess.DEVNULL)
    if r.returncode != 0:
        raise Skipped("this kernel gives users no namespaces")
    a = m.agent("substitute", url, wrap=user)
    check((got := a.substitute(item)) == item.success, f"the reply is {got!r}: {a.log[-300:]!r}")
    check(item.installed(), "it is not what it should be")
    pid = a.ready("fetch")["fetch"]
    check(os.readlink(f"/proc/{pid}/ns/user") != os.readlink(f"/proc/{a.pid}/ns/user"), "no user namespace")
    check(not os.path.exists(f"/proc/{pid}/root{m.store}") and not os.path.exists(f"/proc/{pid}/root{m.state}"),
          "store or state can be seen")
    record = m.audit("substitute")[-1]
    check("user-namespace" in record["fetch_verified"] and "mount-namespace" in record["unpack_verified"], f"{record}")


def rootless_forbidden(machine):
    m = machine(owner=54322)
    m.uid = 54322
    item, url = served(m)
    user = ("setpriv", "--reuid=54322", "--regid=54322", "--clear-groups", "--inh-caps=-all")
    a = m.agent("substitute", url, wrap=(*user, *simulate(m, UNSHARE, EPERM)))
    refuses(m, a, item, "no fetch helper")
    check("cannot give up rights" in a.log, f"no reason: {a.log!r}")
    check(not m.helpers() or all(p in (a.pid, *a.children()) for p in m.helpers()), "a helper runs")


def cases():
    yield "layer: missing helper user", missing_user
    yield "layer: helper user is root", root_user
    for kind in ("fetch", "unpack"):
        yield f"layer: no program {kind}", program(os.unlink, kind)
        yield f"layer: group-writable {kind}", program(lambda p: os.chmod(p, 0o775), kind)
    yield "layer: foreign program", program(lambda p: os.chown(p, 54321, 0), "fetch")
    yield "layer: a program that is none", wrong_program
    yield "layer: kernel without Landlock", no_landlock(ENOSYS, "ENOSYS")
    yield "layer: Landlock not in lsm=", no_landlock(EOPNOTSUPP, "EOPNOTSUPP")
    yield "layer: Landlock is claimed, not verified", landlock_claimed
    yield "layer: helper without Landlock where it is required", required_of_helpers
    yield "layer: root without CAP_SETUID", no_setuid
    yield "layer: confinement of all", confinement
    yield "layer: descriptors of all", descriptors
    yield "layer: descriptors that were left open", inherited
    yield "layer: secrets", secrets
    yield "layer: libraries of the broker", libraries
    for stopped in ("fetch", "unpack", "spawner"):
        yield f"kill: broker, {stopped} stopped", broker_killed(stopped)
    yield "kill: spawner", spawner_killed
    yield "kill: spawner, idle", spawner_killed_idle
    yield "kill: fetch", killed("fetch", None)
    yield "kill: unpack", killed("unpack", None)
    yield "kill: end of input", cancelled_by_death
    yield "rootless: namespaces", rootless
    yield "rootless: forbidden", rootless_forbidden
