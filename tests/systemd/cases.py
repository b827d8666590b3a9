#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests: narlock under systemd: cases.py LEADER ROOT [NAME...]   (`run' starts it, in the container's network)

LEADER is the container's first process, ROOT its root directory.  Prints `ok NAME', `not ok NAME: why', `SKIP NAME: why' and
"N passed, N failed, N skipped"."""
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import traceback

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, f"{os.path.dirname(HERE)}/hostile")
import bed as beds  # noqa: E402
from bed import Failed, Item, Server, Skipped, check, status, until  # noqa: E402
import nar  # noqa: E402

LEADER, ROOT = sys.argv[1], sys.argv[2]
INSIDE = ["nsenter", "-t", LEADER, "-m", "-u", "-i", "-n", "-p", "env", "-i", "-C", "/", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
          "LC_ALL=C.UTF-8", "HOME=/root"]
CAPS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
ROOT_DIR = f"/proc/{LEADER}/root"
DROPINS = "/etc/systemd/system/guix-daemon.service.d"


def inside(*argv, check_status=True, timeout=120, wrap=(), **kw):
    r = subprocess.run([*wrap, *INSIDE, *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout,
                       stdin=subprocess.DEVNULL, errors="replace", **kw)
    if check_status and r.returncode:
        raise Failed(f"{' '.join(argv)[:120]}: status {r.returncode}: {r.stdout[-600:]}")
    return r.stdout if check_status else r


def put(path, text, mode=0o644):
    path = ROOT_DIR + path
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, mode)


def journal(since, *more):
    inside("journalctl", "--sync")
    out = inside("journalctl", "-q", "--no-pager", "-o", "cat", f"--after-cursor={since}", *more, check_status=False).stdout
    return out if "Failed to add filter for units" not in out else ""  # no unit of that name has ever run


def cursor():
    """Where the journal is now, all that was said before included."""
    inside("journalctl", "--sync")
    return re.search(r"^-- cursor: (\S+)", inside("journalctl", "-q", "-n", "0", "--show-cursor"), re.M).group(1)


# --- Items and their server -------------------------------------------------------------------------------------

class Farm:
    """What Item wants of a machine."""

    def __init__(self, scratch):
        put("/etc/hosts", "127.0.0.1 localhost substitutes.example\n")
        self.bed, self.scratch, self.name, self.server = self, scratch, "www", Server()
        os.makedirs(scratch, exist_ok=True)
        beds.run(f"{beds.TOOLS}/sign", "genkey", f"{scratch}/farm.sec", f"{scratch}/farm.pub")
        put("/etc/guix/acl", beds.run(f"{beds.TOOLS}/sign", "acl", f"{scratch}/farm.pub").decode())
        self.url = f"{self.server.url}/www".replace("127.0.0.1", "substitutes.example")  # there is a resolver to be used

    def path(self, name):
        return f"/gnu/store/{nar.base32(os.urandom(20))}-{name}"

    def item(self, name, slow=False):
        """With SLOW it takes a minute to come, until it is served again."""
        item = Item(self, f"{name}-{os.urandom(3).hex()}", data=beds.tree(name, 200_000))
        item.serve(self.server, "www", rate=len(item.body) // 60 if slow else None)
        return item


def build(item, *more):
    return inside("guix", "build", *more, item.path, check_status=False)


def installed(item):
    return os.path.lexists(ROOT_DIR + item.path) and nar.nar(ROOT_DIR + item.path) == item.data


class Building:
    """A slow `guix build', with its helpers at work."""

    def __init__(self, farm, name):
        self.farm, self.item = farm, farm.item(name, slow=True)
        self.process = subprocess.Popen([*INSIDE, "guix", "build", self.item.path], stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        page = f"/www/{self.item.page}"
        if not until(20, lambda: farm.server.seen[page]):
            raise Failed(f"the nar is not asked for: {self.output()}")
        check(until(5, self.ready), "no unpacker, or one that is not sealed")

    @staticmethod
    def ready():
        """The spare unpacker may be the last to seal itself: it has one filter more than the spawner then."""
        each = [status(pid) for pid in processes("unpack")]
        filters = lambda s: int(s["Seccomp_filters"]) if s else 0  # noqa: E731
        return each and all(filters(s) > filters(s and status(s["PPid"])) for s in each)

    def hurry(self):
        """From now on the nar comes at once, to who asks anew."""
        self.item.serve(self.farm.server, "www")

    def output(self):
        if self.process.poll() is None:
            self.process.kill()
        return self.process.stdout.read().decode(errors="replace")[-3000:]

    def finish(self, seconds=40):
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"guix build hangs: {self.output()}") from None
        out = self.output()
        check(installed(self.item), f"the item did not come: {out}")
        return out

    def end(self):
        self.hurry()
        for pid in processes("fetch"):
            os.kill(pid, signal.SIGKILL)
        self.finish()


# --- Processes of the container -----------------------------------------------------------------------------------

def processes(name):
    """Pids of those in the container whose first argument's last part is NAME."""
    space, found = os.readlink(f"/proc/{LEADER}/ns/pid"), []
    for pid in beds.pids():
        try:
            if os.readlink(f"/proc/{pid}/ns/pid") == space and os.path.basename(beds.command(pid)) == name and status(pid):
                found.append(pid)
        except OSError:
            pass
    return found


def namespaces(pid):
    return {n: os.readlink(f"/proc/{pid}/ns/{n}") for n in ("user", "mnt", "ipc", "net", "uts", "pid")}


def uid_of(user):
    return inside("id", "-u", user).strip()


def confined(pid, who, uid):
    """What is true of every helper, however it was started."""
    s = status(pid)
    check(s, f"{who} has gone")
    check(set((s["Uid"] + " " + s["Gid"]).split()) == {uid}, f"{who}: uid {s['Uid']} gid {s['Gid']}, not {uid}")
    check(all(int(s[c], 16) == 0 for c in CAPS), f"{who}: {[(c, s[c]) for c in CAPS]}")
    check((s["NoNewPrivs"], s["Seccomp"], s["Threads"]) == ("1", "2", "1"), f"{who}: {s}")
    check(os.stat(f"/proc/{pid}/stat").st_uid == 0, f"{who} is dumpable")
    return s


def hidden(pid, who):
    for path in ("/gnu/store", "/var/guix", "/etc/guix", "/home", "/root"):
        there = f"/proc/{pid}/root{path}"
        check(not os.path.exists(there) or not os.listdir(there), f"{who} sees {path}")


def broker_of_substitute():
    found = [p for p in processes("broker") if b"--substitute" in open(f"/proc/{p}/cmdline", "rb").read()]
    brokers = [p for p in found if int(status(p)["PPid"]) not in found]
    check(len(brokers) == 1, f"brokers: {found}")
    return brokers[0]


# --- Modes --------------------------------------------------------------------------------------------------------

def daemon(farm, rootless, sockets):
    inside("systemctl", "stop", "guix-daemon.service")
    inside("systemctl", "start" if sockets else "stop", "narlock-fetch.socket", "narlock-resolve.socket")
    user = "guix-daemon" if rootless else "root"
    inside("rm", "-rf", "/var/guix/narlock")  # of the other mode
    inside("chown", "-R", f"{user}:", "/gnu/store", "/var/guix", "/var/log/guix")
    # The project's drop-in, and what a machine without a network needs.
    inside("cp", "/usr/share/narlock/guix-daemon.service.d/narlock.conf", f"{DROPINS}/narlock.conf")
    put(f"{DROPINS}/test.conf", "[Service]\nExecStart=\nExecStart=/usr/bin/guix-daemon --discover=no "
        f"--substitute-urls={farm.url} {'' if rootless else '--build-users-group=_guixbuild'}\n"
        + ("" if rootless else "User=root\nAmbientCapabilities=\n"))
    inside("systemctl", "daemon-reload")
    inside("systemctl", "restart", "guix-daemon.service")
    check(until(10, lambda: os.path.exists(f"{ROOT_DIR}/var/guix/daemon-socket/socket")), "guix-daemon does not start")


def substitutes(farm, who):
    item = farm.item(who)
    r = build(item)
    check(r.returncode == 0 and installed(item), f"guix build: status {r.returncode}: {r.stdout[-800:]}\n"
          + inside("journalctl", "-q", "--no-pager", "-n", "20", "-o", "short"))


def quiet(farm, who):
    """A substitution without any trouble, and no line in the journal but the daemon's own."""
    before = cursor()
    substitutes(farm, who)
    until(3, lambda: not processes("fetch"))
    lines = [line for line in journal(before).splitlines() if "narlock" in line and "Created slice" not in line]
    check(not lines, f"the journal: {lines}")


# --- Cases --------------------------------------------------------------------------------------------------------

def installation(farm):
    """sysusers.d and tmpfiles.d have done their work at boot; the units are right."""
    uid_of("narlock")
    check(os.path.isdir(f"{ROOT_DIR}/run/narlock-root"), "no /run/narlock-root")
    out = inside("systemd-analyze", "verify", "--man=no", *[f"/usr/lib/systemd/system/narlock-{u}"
                 for u in ("fetch.socket", "fetch@.service", "resolve.socket", "resolve@.service", "heal.service",
                           "heal.timer")], check_status=False)
    check(out.returncode == 0 and "narlock" not in out.stdout, f"verify: {out.stdout}")
    for path in ("/usr/share/narlock/policy", "/etc/narlock/narlock.conf", "/var/log/narlock"):
        check(os.path.exists(ROOT_DIR + path), f"no {path}")


def figure(*argv):
    out = inside("systemd-analyze", "--no-pager", "security", *argv)
    return re.search(r"exposure level.*: ([\d.]+)", out).group(1)


def exposure(farm):
    """What systemd itself thinks of the units; the figures go to the output."""
    for name in ("fetch@", "resolve@", "heal", "audit", "publish"):
        value = figure("--offline=true", f"/usr/lib/systemd/system/narlock-{name}.service")
        print(f"   narlock-{name}.service: {value}")
        check(float(value) <= 1.3, f"narlock-{name}.service: {value}")
    for mode in ("rootless", "root"):
        daemon(farm, mode == "rootless", False)
        after = figure("guix-daemon.service")
        inside("rm", f"{DROPINS}/narlock.conf")
        inside("systemctl", "daemon-reload")
        print(f"   guix-daemon.service ({mode}): {figure('guix-daemon.service')} without the drop-in, {after} with it")


def root(farm):
    """A root daemon: the spawner starts the helpers, whether the sockets are there or not."""
    for sockets in (False, True):
        daemon(farm, False, sockets)
        quiet(farm, "root")
        b = Building(farm, "root-slow")
        uid = uid_of("narlock")
        for who in ("fetch", "unpack"):
            for pid in processes(who):
                s = confined(pid, who, uid)
                check(s["Groups"].strip() == "", f"{who}: groups {s['Groups']}")
                spawner = status(int(s["PPid"]))
                check(int(s["Seccomp_filters"]) > int(spawner["Seccomp_filters"]), f"{who}: no filter of its own: {s}")
                check(os.path.basename(beds.command(int(s["PPid"]))) == "broker", f"{who} is not the spawner's child")
        check(processes("fetch"), "no fetcher")
        b.end()


def rootless_socket(farm):
    daemon(farm, True, True)
    quiet(farm, "socket")
    b = Building(farm, "socket-slow")
    broker = broker_of_substitute()
    for who in ("fetch", "resolve"):
        check(processes(who), f"no {who}")
        for pid in processes(who):
            s = confined(pid, who, uid_of("narlock"))
            check(s["Groups"].split() in ([], [uid_of("narlock")]), f"{who}: groups {s['Groups']}")
            check(s["PPid"] == LEADER, f"{who} is a child of {s['PPid']}")
            check(int(s["Seccomp_filters"]) > int(status(broker)["Seccomp_filters"]),
                  f"{who}: filters of the unit and its own: {s['Seccomp_filters']}")
            ours, theirs = namespaces(LEADER), namespaces(pid)
            check(theirs["mnt"] not in (ours["mnt"], namespaces(broker)["mnt"]) and theirs["ipc"] != ours["ipc"], f"{theirs}")
            hidden(pid, who)
            with open(f"/proc/{pid}/cgroup") as f:
                check(f"narlock-{who}@" in f.read(), f"{who} is not in its unit's control group")
    daemon_uid = uid_of("guix-daemon")
    for pid in processes("unpack"):
        confined(pid, "unpack", daemon_uid)
        check(namespaces(pid)["user"] != namespaces(LEADER)["user"], "unpack is in no user namespace")
        hidden(pid, "unpack")
    s = status(broker)
    check(s["Uid"].split() == [daemon_uid] * 4, f"the broker: {s['Uid']}")
    check(all(int(s[c], 16) == 0 for c in ("CapInh", "CapPrm", "CapEff", "CapAmb")) and s["NoNewPrivs"] == "1",
          f"the broker has capabilities (CAP_CHOWN?): {[(c, s[c]) for c in CAPS]}")
    for p in processes("broker"):
        check(int(status(p)["CapPrm"], 16) == 0 and int(status(p)["CapAmb"], 16) == 0, f"{p}: {status(p)}")
    b.end()
    # The journal of blocks to be put back: narlock-heal finds that of these fetchers.
    check(os.path.exists(f"{ROOT_DIR}/var/lib/narlock-fetch/heal"), "the fetchers have no journal")
    before = cursor()
    r = inside("systemctl", "start", "narlock-heal.service", check_status=False)
    text = journal(before, "-u", "narlock-heal.service")
    check(r.returncode == 0 and "Finished" in text, f"narlock-heal: {r.stdout} {text}")
    with open(f"{ROOT_DIR}/var/log/narlock/audit.log") as f:
        last = [line for line in f if '"event":"substitute"' in line][-1]
    check('"fetch_verified":"uid,no-groups,no-caps,no-new-privs,seccomp"' in last, last)
    check("landlock-fs" not in last.split('"unpack_claimed"')[1] or "landlock-fs" in last.split('"unpack_verified"')[0],
          f"the unit forbids Landlock: {last}")


def rootless_namespace(farm):
    """Where the sockets are stopped, their files are gone, and the next way is taken."""
    daemon(farm, True, False)
    check(not os.path.exists(f"{ROOT_DIR}/run/narlock/fetch.socket"), "the socket's file stays")
    quiet(farm, "namespace")
    b = Building(farm, "namespace-slow")
    for who in ("fetch", "unpack"):
        for pid in processes(who):
            confined(pid, who, uid_of("guix-daemon"))
            check(namespaces(pid)["user"] != namespaces(LEADER)["user"], f"{who} is in no user namespace")
            hidden(pid, who)
    b.end()


def killed_by(how, reason):
    """The fetcher is killed in mid-nar: the item comes all the same, and the journal says what happened."""
    def case(farm):
        daemon(farm, True, True)
        before = cursor()
        undo = how(None, None)
        try:
            b = Building(farm, "killed")
            b.hurry()
            first = set(processes("fetch"))
            how(b, first)
            check(until(15, lambda: not any(status(p) for p in first)), "it was not killed")
        finally:
            if undo:
                undo()
        out = b.finish()
        check("its unit has ended" in out, f"guix build does not say so: {out[-600:]}")
        text = journal(before, "-u", "narlock-fetch@*")
        check(re.search(reason, text), f"the journal does not say so: {text}")
        check(not re.search(r"(?m)^(Start|Stopp)|Consumed|Deactivated", text), f"the journal says too much: {text}")
    return case


def by_hand(b, pids):
    if b:
        inside("systemctl", "kill", "--signal=KILL", "narlock-fetch@*")


def dropin(name, text):
    path = f"/run/systemd/system/narlock-fetch@.service.d/{name}.conf"
    put(path, text)
    inside("systemctl", "daemon-reload")

    def undo():
        os.unlink(ROOT_DIR + path)
        inside("systemctl", "daemon-reload")
    return undo


def by_runtime(b, pids):
    return dropin("time", "[Service]\nRuntimeMaxSec=3\n") if b is None else None


def memory(farm):
    """A limit that no fetcher can keep: no item, no waiting, and after it all is as before."""
    daemon(farm, True, True)
    # A container has no memory controller where the machine still has cgroup v1; there it is a limit of address space.
    controllers = f"{ROOT_DIR}/sys/fs/cgroup/cgroup.controllers"
    limit = "LimitAS=8M"
    if os.path.exists(controllers) and "memory" in open(controllers).read():
        limit = "MemoryMax=1M"
    print(f"   {limit}")
    before, item = cursor(), farm.item("memory")
    undo = dropin("memory", f"[Service]\n{limit}\n")
    try:
        r = build(item)
        check(not installed(item) and "no fetch helper" in r.stdout, f"guix build: {r.stdout[-600:]}")
        text = journal(before, "-u", "narlock-fetch@*")
        check(re.search("code=killed, status=9/KILL|oom|code=exited, status=127", text), f"the journal does not say so: {text}")
    finally:
        undo()
    daemon(farm, True, True)
    r = build(item)
    check(installed(item), f"the retry: {r.stdout[-600:]}")


def memory_group(farm):
    """The kernel kills a fetcher for its memory: the next one brings the item.  As MemoryMax= does it, but with a memory control
    group of the machine's cgroup v1, which systemd in a container cannot use: the fetcher waits until it was put there."""
    top = "/sys/fs/cgroup/memory"
    if not os.path.exists(f"{top}/memory.limit_in_bytes"):
        # No skip: where systemd has the controller, the case before this one has used MemoryMax= itself.
        print("   no cgroup v1 memory controller here")
        return
    daemon(farm, True, True)
    group, fifo = f"{top}/narlock-test-{os.getpid()}", f"{ROOT_DIR}/run/narlock/go"
    os.mkdir(group)
    with open(f"{group}/memory.limit_in_bytes", "w") as f:
        f.write("524288")
    os.mkfifo(fifo, 0o644)
    undo = dropin("group", "[Service]\nExecStart=\nExecStart=/usr/bin/sh -c 'read -r x </run/narlock/go; exec /usr/libexec/narlock/fetch'\n")
    try:
        before, item = cursor(), farm.item("group")
        process = subprocess.Popen([*INSIDE, "guix", "build", item.path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   stdin=subprocess.DEVNULL)

        def waiting():
            return [p for p in processes("sh") if "narlock-fetch@" in open(f"/proc/{p}/cgroup").read()]

        def go():
            with contextlib.suppress(OSError):  # nobody waits at the moment
                fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
                os.write(fd, b"go\n")
                os.close(fd)
            return process.poll() is not None

        check(until(20, waiting), "no fetcher is started")
        first = waiting()[0]
        with open(f"{group}/cgroup.procs", "w") as f:
            f.write(str(first))
        check(until(60, go), "guix build hangs")
        check(not status(first), "it was not killed")
        check(installed(item), "the item did not come")
        text = journal(before, "-u", "narlock-fetch@*")
        check(re.search("code=killed, status=9/KILL|Failed with result '(signal|oom-kill)'", text), f"the journal does not say so: {text}")
    finally:
        process.kill()
        process.wait()
        undo()
        os.unlink(fifo)
        for pid in processes("sh"):
            if "narlock-fetch@" in open(f"/proc/{pid}/cgroup").read():
                beds.kill(pid)
        until(5, lambda: not open(f"{group}/cgroup.procs").read())
        os.rmdir(group)


def strangers(farm):
    """Who may not connect cannot; who could by a careless mode is sent away, and the journal says who it was."""
    daemon(farm, True, True)
    check(os.stat(f"{ROOT_DIR}/run/narlock/fetch.socket").st_mode & 0o777 == 0o600, "the mode of the socket")
    out = inside("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "sh", "-c",
                 "test -w /run/narlock/fetch.socket && echo writable", check_status=False)
    check("writable" not in out.stdout, "nobody may connect")
    before = cursor()
    os.chmod(f"{ROOT_DIR}/run/narlock/fetch.socket", 0o666)
    code = ("import os, socket, sys\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
            f"os.chdir({ROOT_DIR!r} + '/run/narlock')\nos.setgid(65534)\nos.setuid(65534)\n"
            "s.connect('fetch.socket')\nsys.exit(s.recv(10) != b'')")
    r = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, timeout=20)
    check(r.returncode == 0, f"it is not sent away: {r.stderr.decode()}")
    # The whole journal: when journald reads the line, the process that it would look up the unit of has often gone.
    until(5, lambda: "narlock-fetch@" in journal(before))
    text = journal(before)
    check("uid 65534 may not connect" in text, f"the journal: {text}")
    os.chmod(f"{ROOT_DIR}/run/narlock/fetch.socket", 0o600)


def many(farm):
    """More clients than there are places: they are told, nothing hangs, and the next one is served."""
    daemon(farm, True, True)
    path = "/run/systemd/system/narlock-fetch.socket.d/few.conf"
    put(path, "[Socket]\nMaxConnections=1\n")
    try:
        inside("systemctl", "daemon-reload")
        inside("systemctl", "restart", "narlock-fetch.socket")
        before = cursor()
        item = farm.item("many")
        r = build(item)  # the daemon asks one process, and orders from another: two connections
        check(installed(item) or "no fetch helper" in r.stdout, f"guix build: {r.stdout[-600:]}")
        if not installed(item):
            check("Too many incoming connections" in journal(before, "-u", "narlock-fetch.socket"), "the journal does not say it")
    finally:
        os.unlink(ROOT_DIR + path)
        inside("systemctl", "daemon-reload")
        inside("systemctl", "restart", "narlock-fetch.socket")
    check(until(5, lambda: not processes("fetch")), "a fetcher stays")
    substitutes(farm, "after-many")


def bursts(farm):
    """Three hundred connections in a moment do not stop the socket for good."""
    daemon(farm, True, True)
    code = ("import os, socket\nos.chdir('/run/narlock')\nkept = []\nfor i in range(300):\n"
            " s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n s.connect('fetch.socket')\n s.close()\n")
    subprocess.run([sys.executable, "-c", code.replace("/run/narlock", f"{ROOT_DIR}/run/narlock")], check=True, timeout=60)
    check(until(90, lambda: not inside("systemctl", "-q", "--no-legend", "list-units", "narlock-fetch@*").strip()),
          "fetchers stay")
    check(inside("systemctl", "is-active", "narlock-fetch.socket").strip() == "active", "the socket was stopped")
    substitutes(farm, "after-burst")


def doctor(farm):
    for rootless, sockets, word in ((False, False, "mode root\n"), (True, True, "mode rootless-namespace units\n"),
                                    (True, False, "mode rootless-namespace\n")):
        daemon(farm, rootless, sockets)
        user = ["setpriv", "--reuid=guix-daemon", "--regid=guix-daemon", "--clear-groups"] if rootless else []
        r = inside(*user, "sh", "-c", "/usr/libexec/narlock/broker --self-check; exit $?", check_status=False)
        check(r.returncode in (0, 1) and word in r.stdout, f"--self-check: {r.returncode} {r.stdout}")
        uid = uid_of("narlock" if not rootless or sockets else "guix-daemon")
        # As root, as an admin would: it looks as the daemon's user does.
        d = inside("sh", "-c", "narlock doctor; exit $?", check_status=False)
        check(d.returncode < 2 and word.strip() in d.stdout and f"helper fetch uid={uid} " in d.stdout,
              f"narlock doctor: {d.returncode} {[line for line in d.stdout.splitlines() if 'UNSAFE' in line]} {d.stdout[-900:]}")
        check(f"helper fetch uid={uid} " in r.stdout, r.stdout)


BUILDER = """#include <stdio.h>
#include <stdlib.h>
int main(void) { FILE *f = fopen(getenv("out"), "w"); fputs("built", f); return fclose(f); }
"""
DERIVATION = """(use-modules (guix store) (guix derivations))
(with-store s
  (let* ((b (add-to-store s "builder" #t "sha256" "/var/guix/builder"))
         (d (derivation s "built-{name}" b '() #:sources (list b))))
    (build-derivations s (list d))
    (display (derivation->output-path d))))
"""


def builds(farm):
    """What the drop-in takes from guix-daemon is not missed: it still builds, in both modes."""
    for rootless in (False, True):
        daemon(farm, rootless, rootless)
        subprocess.run(["gcc", "-xc", "-static", "-o", f"{ROOT_DIR}/var/guix/builder", "-"], input=BUILDER.encode(), check=True)
        put("/var/guix/build.scm", DERIVATION.format(name=os.urandom(3).hex()))
        r = inside("guix", "repl", "/var/guix/build.scm", check_status=False)
        made = re.search(r"(/gnu/store/\S+-built-\w+)\s*$", r.stdout)
        check(r.returncode == 0 and made, f"guix repl: status {r.returncode}: {r.stdout[-600:]}")
        with open(ROOT_DIR + made.group(1)) as f:
            check(f.read() == "built", "it is not what was built")


def audited(farm):
    """The anchor of every day is in the journal, where guix-daemon's user cannot take it back."""
    log = f"{ROOT_DIR}/var/log/narlock/audit.log"
    daemon(farm, True, True)
    check(inside("systemctl", "is-active", "narlock-audit.timer", check_status=False).stdout.strip() == "active", "no timer")
    substitutes(farm, "audited")

    def anchor():
        return inside("systemctl", "start", "narlock-audit.service", check_status=False).returncode

    def verified():
        inside("journalctl", "--sync")
        r = inside("bash", "-c", "journalctl -q -t narlock _UID=0 -o cat | narlock audit --verify --anchors=-", check_status=False)
        return r.returncode, r.stdout

    check(anchor() == 0, "no anchor: " + inside("journalctl", "-q", "-n", "20", "-u", "narlock-audit.service"))
    check(until(5, lambda: "anchors: 1, of which 0" in verified()[1]) and verified()[0] == 0, f"{verified()}")
    # Somebody else's word is none.
    inside("setpriv", "--reuid=guix-daemon", "--clear-groups", "logger", "-t", "narlock", f"narlock-anchor 2026-01-01T00:00:00Z head={'0' * 64} x")
    check(verified()[0] == 0, f"a false anchor: {verified()}")
    # The owner makes a log anew, and its chain is right.
    os.rename(log, f"{log}.true")
    os.rename(f"{log}.head", f"{log}.true.head")
    substitutes(farm, "audited-again")
    check(inside("narlock", "audit", "--verify", check_status=False).returncode == 0, "the new chain is not right")
    check(verified()[0] == 2, f"the record of the anchor is gone: {verified()}")
    os.rename(f"{log}.true", log)
    os.rename(f"{log}.true.head", f"{log}.head")
    check(verified()[0] == 0, f"{verified()}")
    # A record less, and the unit fails and says so.
    with open(log) as f:
        lines = f.readlines()
    with open(log, "w") as f:
        f.writelines(lines[:-1])
    before = cursor()
    check(anchor() != 0, "the unit does not fail")
    check(until(5, lambda: "verdict=CHANGED" in journal(before)), f"the journal: {journal(before)}")
    with open(log, "w") as f:
        f.writelines(lines)


CASES = [("installation", installation), ("exposure", exposure), ("builds", builds), ("root", root),
         ("rootless: socket", rootless_socket), ("rootless: namespace", rootless_namespace),
         ("killed: systemctl kill", killed_by(by_hand, "code=killed, status=9/KILL")),
         ("killed: RuntimeMaxSec", killed_by(by_runtime, "timeout|time limit")), ("killed: memory limit", memory),
         ("killed: memory group", memory_group),
         ("strangers", strangers), ("many clients", many), ("bursts", bursts), ("doctor", doctor), ("audited", audited)]


def once(farm, name, case):
    """Its line, and the seconds that it took"""
    begin = time.monotonic()
    try:
        case(farm)
        result = f"ok {name}"
    except Skipped as e:
        result = f"SKIP {name}: {e}"
    except Exception as e:
        where = "" if isinstance(e, Failed) else traceback.format_exc().splitlines()[-3].strip()
        result = f"not ok {name}: {e} {where}"
    seconds = time.monotonic() - begin
    for pid in processes("fetch") + processes("guix"):
        beds.kill(pid)
    return result, seconds


def main(names):
    os.umask(0o022)
    farm = Farm(f"{ROOT_DIR}/root/farm")
    inside("mkdir", "-p", DROPINS)
    counts = {"ok": 0, "not": 0, "SKIP": 0}
    again = 1 if os.environ.get("NARLOCK_AGAIN") else 0 # as in tests/run-hostile: a second run, told
    for name, case in CASES:
        if names and not any(name.startswith(n) for n in names):
            continue
        result, seconds = once(farm, name, case)
        if result.startswith("not ok") and again > 0:
            print(f"again {result[7:]} ({seconds:.1f} s)", flush=True)
            again -= 1
            result, seconds = once(farm, name, case)
        counts[result.split(" ")[0]] += 1
        print(f"{result} ({seconds:.1f} s)", flush=True)
    passed, failed, skipped = counts["ok"], counts["not"], counts["SKIP"]
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[3:]))
