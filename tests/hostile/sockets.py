# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests (hostile): helpers behind sockets, as a service manager offers them, and servers of such sockets that lie."""
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

from bed import Popen, check, command, kill, status, until
from layers import refuses, self_check, served

OWNER = 54330  # the uid of rootless brokers here
SEALED = "send 0001 0002 000000ff 0000 0040 0000\n"
STARTED = b"\x00\x03"


class Units:
    """A small service manager: for each connection a process, with the connection as descriptor 3."""

    def __init__(self, m, uid=None, owner=None, mode=0o600, wrap=None, backlog=64, serve=None):
        self.m, self.uid = m, m.uid if uid is None else uid
        self.wrap = wrap or ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups",
                             "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
        self.dir, self.processes, self.errors = f"{m.top}/run", [], f"{m.top}/units.log"
        os.makedirs(self.dir, exist_ok=True)
        self.listeners = []
        for kind in ("fetch", "resolve"):
            s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            s.bind(path := f"{self.dir}/{kind}.socket")
            os.chown(path, m.owner if owner is None else owner, -1)
            os.chmod(path, mode)
            s.listen(backlog)
            self.listeners.append(s)
            if serve is not False:
                threading.Thread(target=self.accept, args=(s, kind, serve), daemon=True).start()

    def conf(self):
        return f"helper-sockets = {self.dir}\n"

    def accept(self, listener, kind, serve):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            (serve or self.start)(connection, kind)

    def start(self, connection, kind):
        with connection, open(self.errors, "ab") as errors:
            self.processes.append(Popen(
                ["bash", "-c", 'exec 3<&$0; LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=connection exec "$@"',
                 str(connection.fileno()), *self.wrap, f"{self.m.libexec}/{kind}"],
                env={"PATH": "/usr/bin:/bin", "NARLOCK_CA": "/dev/null"}, pass_fds=(connection.fileno(),),
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, cwd="/"))

    def close(self):
        for s in self.listeners:
            s.shutdown(socket.SHUT_RDWR)
            s.close()

    def gone(self):
        return until(5, lambda: all(p.poll() is not None for p in self.processes))

    def log(self):
        try:
            with open(self.errors) as f:
                return f.read()
        except FileNotFoundError:
            return ""


def configured(m, units):
    m.conf(f"helper-user = {m.uid}:{m.uid}\n{units.conf()}")


def as_owner(*more):
    return ("setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--clear-groups", "--inh-caps=-all", *more)


def fetcher(units):
    check(until(5, lambda: units.processes), "no fetcher")
    pid = units.processes[0].pid
    check(until(5, lambda: (s := status(pid)) and s["Seccomp"] == "2"), "no sealed fetcher")
    return pid


# --- Honest ones -----------------------------------------------------------------------------------------------

def works(rootless):
    def case(machine):
        m = machine(owner=OWNER if rootless else 0)
        helpers = m.uid
        units = Units(m)
        configured(m, units)
        wrap = as_owner() if rootless else ()
        item, url = served(m)
        if rootless and subprocess.run([*wrap, "unshare", "--user", "true"], stderr=subprocess.DEVNULL).returncode:
            m.conf(units.conf() + "required-layers = no-namespace\n")
        if rootless:
            m.uid = OWNER
        a = m.agent("substitute", "http://no-such-host.invalid", url, wrap=wrap)  # that is for the resolver
        check((got := a.substitute(item)) == item.success, f"the reply is {got!r}: {a.log[-300:]!r} {units.log()!r}")
        check(item.installed() and m.audit("substitute")[-1]["fetch_verified"].startswith("uid,no-groups,no-caps"),
              f"{m.audit('substitute')}")
        s = status(fetcher(units))
        check(set(s["Uid"].split()) == {str(helpers)} and s["PPid"] == str(os.getpid()), f"{s}")
        check(all(command(p) != "fetch" for c in a.children() for p in a.children(c)), "the spawner has a fetcher")
        check(until(5, lambda: len(units.processes) == 2), f"{len(units.processes)} units for fetcher and resolver")
        code, out = self_check(m, *wrap, url=url)
        check(code < 2 and " units\n" in out and f"helper fetch uid={helpers} " in out, f"self-check: {code} {out!r}")
        a.end()
        check(units.gone(), "a helper outlives its connection")
        units.close()
    return case


def died(machine):
    m = machine()
    units = Units(m)
    configured(m, units)
    item = m.item("wanted")
    a = m.agent("substitute", item.serve(m.bed.server, m.name, rate=len(item.body) // 2))
    a.write(f"substitute {item.path} {item.path}\n")
    check(until(5, lambda: "@ download-started" in a.log), f"nothing begins: {a.log!r}")
    kill(fetcher(units))
    check((got := a.line()) == item.success, f"the reply is {got!r}; log: {a.log[-300:]!r}")
    check(a.says("its unit has ended"), f"the log: {a.log!r}")
    a.end()
    check(units.gone(), "a helper outlives its connection")
    units.close()


def stopped(machine):
    """It cannot be killed; but it cannot hold anybody up either, and the end of its connection is what it sees next."""
    m = machine()
    m.conf("")
    units = Units(m)
    m.conf(f"helper-user = {m.uid}:{m.uid}\nstall-seconds = 1\n{units.conf()}")
    item, url = served(m)
    a = m.agent("substitute", url)
    os.kill(pid := fetcher(units), signal.SIGSTOP)
    a.end()
    check(status(pid), "it was killed")
    os.kill(pid, signal.SIGCONT)
    check(units.gone(), "a helper outlives its connection")
    units.close()


# --- Those that are not there -------------------------------------------------------------------------------------

def missing(machine):
    m = machine()
    m.conf(f"helper-user = {m.uid}:{m.uid}\nhelper-sockets = {m.top}/nowhere\n")
    item, url = served(m)
    refuses(m, m.agent("substitute", url), item, "No such file or directory")


def refused(machine):
    m = machine()
    units = Units(m, serve=False)
    configured(m, units)
    units.close()
    item, url = served(m)
    refuses(m, m.agent("substitute", url), item, "Connection refused")


def full(machine):
    m = machine()
    units = Units(m, backlog=0, serve=False)
    configured(m, units)
    first = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    first.connect(f"{units.dir}/fetch.socket")
    item, url = served(m)
    a = m.agent("substitute", url)
    refuses(m, a, item, "Resource temporarily unavailable", seconds=60)
    a.end()
    units.close()


full.seconds = 20


def shut_at_once(machine):
    """As systemd does where MaxConnections= is reached."""
    m = machine()
    units = Units(m, serve=lambda connection, kind: connection.close())
    configured(m, units)
    item, url = served(m)
    a = m.agent("substitute", url)
    refuses(m, a, item, "no fetch helper")
    # Whether the spawner or the broker is the first to see it is a matter of chance.
    check("its unit has ended" in a.log or "Broken pipe" in a.log, f"the log: {a.log[-400:]!r}")
    units.close()


def gives_up(m):
    """The broker does not wait for this fetcher for ever"""
    item, url = served(m)
    a = m.agent("substitute", url)
    a.write(f"substitute {item.path} {item.path}\n")
    check(until(40, lambda: "it did not seal itself in time" in a.log), f"the log: {a.log!r}")
    a.end()


def mute(machine):
    m = machine()
    kept = []
    units = Units(m, serve=lambda connection, kind: kept.append(connection))
    configured(m, units)
    gives_up(m)
    units.close()


mute.seconds = 20


def silent(machine):
    m = machine()
    m.liar("fetch", "send 0003\n@02\nhang\n")
    units = Units(m)
    configured(m, units)
    gives_up(m)
    for p in units.processes:
        p.kill()
        p.wait()
    units.close()


silent.seconds = 20


# --- Those that lie ---------------------------------------------------------------------------------------------

def other_listener(machine):
    """A socket that was not made by root, in a directory that others may write."""
    m = machine()
    os.makedirs(run := f"{m.top}/run")
    os.chmod(run, 0o777)
    code = ("import os, socket, sys, time\nkept = []\nfor kind in ('fetch', 'resolve'):\n"
            " s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n p = sys.argv[1] + '/' + kind + '.socket'\n"
            " s.bind(p)\n os.chmod(p, 0o666)\n s.listen()\n kept.append(s)\ntime.sleep(60)")
    p = Popen(["setpriv", f"--reuid={m.uid}", f"--regid={m.uid}", "--clear-groups", sys.executable, "-c", code, run])
    try:
        check(until(5, lambda: os.path.exists(f"{run}/resolve.socket")), "no socket")
        m.conf(f"helper-user = {m.uid}:{m.uid}\nhelper-sockets = {run}\n")
        item, url = served(m)
        refuses(m, m.agent("substitute", url), item, "Operation not permitted")
    finally:
        p.kill()
        p.wait()


def liar(script, why, rootless=False, **kw):
    def case(machine):
        m = machine(owner=OWNER if rootless else 0)
        m.liar("fetch", script)
        kw2 = {k: OWNER if v == "own" else v for k, v in kw.items()}
        units = Units(m, **kw2)
        configured(m, units)
        item, url = served(m)
        if rootless:
            m.conf(units.conf() + "required-layers = no-namespace\n")
        a = m.agent("substitute", url, wrap=as_owner() if rootless else ())
        refuses(m, a, item, why)
        a.end()
        for p in units.processes:
            p.kill()
            p.wait()
        units.close()
    return case


def forger(frames, why):
    """Only root can give another's pid with a message; the pid has to be one and the same, and sealed, all the same."""
    def case(machine):
        m = machine()
        others = [Popen(["setpriv", f"--reuid={m.uid}", f"--regid={m.uid}", "--clear-groups", "--bounding-set=-all",
                         "--inh-caps=-all", "--no-new-privs", "sleep", "60"]) for _ in range(2)]
        kept = []

        def serve(connection, kind):
            kept.append(connection)
            try:
                for frame, who in frames:
                    pid = others[who].pid if who is not None else 1
                    uid = m.uid if who is not None else 0
                    connection.sendmsg([frame], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS,
                                                  struct.pack("iII", pid, uid, uid))])
                    if frame == STARTED:
                        kept.append(socket.recv_fds(connection, 65536, 1))  # CHANNEL
                        connection.recv(65536)  # BEGIN
            except OSError:
                pass

        units = Units(m, serve=serve)
        configured(m, units)
        item, url = served(m)
        try:
            time.sleep(0.2)
            a = m.agent("substitute", url)
            refuses(m, a, item, why)
            a.end()
        finally:
            for p in others:
                p.kill()
                p.wait()
            units.close()
    return case


def intruder(machine):
    """Somebody else holds the connection of a sealed helper, and was never looked at."""
    m = machine()
    kept = []
    liar = bytes.fromhex("0053") + b"\0" + b"".join(struct.pack(">H", len(t)) + t for t in (b"innocent.example", b"it lied"))

    def serve(connection, kind):
        kept.append(connection.dup())
        units.start(connection, kind)

    units = Units(m, serve=serve)
    configured(m, units)
    item, url = served(m)
    a = m.agent("substitute", url)
    try:
        check((got := a.substitute(item)) == item.success, f"the reply is {got!r}: {a.log[-300:]!r}")
        kept[0].send(liar)
        again = m.item("again")
        again.serve(m.bed.server, m.name)
        check((got := a.substitute(again)) == again.success, f"the reply is {got!r}: {a.log[-300:]!r}")
        check(a.says("another process than the one that began sends LIAR"), f"the log: {a.log!r}")
        check(m.audit("source-lied") == [], "it has a record")
    finally:
        a.end()
        for s in kept:
            s.close()
        units.gone()
        units.close()


SEAL = bytes.fromhex("00010002000000ff000000400000")


# --- What the helper refuses ---------------------------------------------------------------------------------------

def stranger(machine):
    """The mode of the socket lets everybody in: the helper does not."""
    m = machine()
    units = Units(m, owner=OWNER, mode=0o666)
    code = "import socket, sys\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\ns.connect(sys.argv[1])\n" \
        "sys.exit(s.recv(10) != b'')"
    for kind in ("fetch", "resolve"):
        r = subprocess.run(["setpriv", f"--reuid={OWNER + 1}", "--clear-groups", sys.executable, "-c", code,
                            f"{units.dir}/{kind}.socket"], timeout=10)
        check(r.returncode == 0, "the connection stays")
    check(units.gone() and units.log().count(f"uid {OWNER + 1} may not connect") == 2, f"the log: {units.log()!r}")
    units.close()


def nonsense(machine):
    """A client that may connect, and does not speak as a spawner does."""
    m = machine()
    units = Units(m)
    for frame in (b"", b"x", b"\x00\x02", bytes.fromhex("00430000000002"), b"\0" * 70000):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.connect(f"{units.dir}/fetch.socket")
        s.send(frame)
        check(s.recv(10) == b"", "it answers")
        s.close()
    check(units.gone(), "it stays")
    units.close()


def user(*more, gid=54331):
    return ["setpriv", "--reuid=54331", f"--regid={gid}", "--inh-caps=-all", "--no-new-privs", *more]


def cases():
    yield "socket: root daemon", works(False)
    yield "socket: rootless daemon", works(True)
    yield "socket: fetcher killed", died
    yield "socket: fetcher stopped", stopped
    yield "socket: missing", missing
    yield "socket: refused", refused
    yield "socket: full", full
    yield "socket: shut at once", shut_at_once
    yield "socket: mute", mute
    yield "socket: not root's", other_listener
    nothing = "send 0003\nhang\n"
    yield "socket: fetcher is root", liar(nothing, "it runs as uid 0", wrap=["setpriv", "--no-new-privs"])
    yield "socket: fetcher has root's group", liar(nothing, "gid 0", wrap=user("--clear-groups", "--bounding-set=-all", gid=0))
    yield "socket: fetcher is the daemon's user", liar(nothing, f"it runs as uid {OWNER}", rootless=True, uid="own")
    yield "socket: SEALED without STARTED", liar(SEALED + "hang\n", "another process than the one that began")
    yield "socket: STARTED twice", liar("send 0003\nsend 0003\nhang\n", "STARTED is not for it to say")
    yield "socket: no filter", liar(f"send 0003\n@02\n{SEALED}hang\n", "Seccomp is 0, not 2")
    yield "socket: no filter of its own", liar(f"weak\nsend 0003\n@02\n{SEALED}hang\n", "none of its own")
    yield "socket: capabilities in the bounding set", liar(f"send 0003\n@02\nweak\n{SEALED}hang\n", "CapBnd",
                                                                wrap=user("--clear-groups"))
    yield "socket: groups", liar(f"send 0003\n@02\nweak\n{SEALED}hang\n", "Groups",
                                  wrap=user("--groups=54331,54332", "--bounding-set=-all"))
    yield "socket: STARTED by a spawned one", spawned
    yield "socket: sealed by another process", forger([(STARTED, 0), (SEAL, 1)], "another process than the one")
    yield "socket: the pid of one that is not sealed", forger([(STARTED, 0), (SEAL, 0)], "Seccomp is 0, not 2")
    yield "socket: the pid of init", forger([(STARTED, None)], "it runs as uid 0")
    yield "socket: another version", liar("send 0003\n@02\nsend 0001 0001 000000ff 0000 0040 0000\nhang\n", "it speaks version 1, not ")
    yield "socket: a descriptor with STARTED", liar("sendfd 0003\nhang\n", "descriptor")
    yield "socket: a descriptor with SEALED", liar("send 0003\n@02\n" + SEALED.replace("send", "sendfd") + "hang\n", "descriptor")
    yield "socket: STARTED and nothing more", silent
    yield "socket: another process speaks later", intruder
    yield "socket: a stranger connects", stranger
    yield "socket: a client talks nonsense", nonsense


def spawned(machine):
    m = machine()
    m.liar("fetch", "weak\nsend 0003\nhang\n")
    item, url = served(m)
    refuses(m, m.agent("substitute", url), item, "STARTED is not for it to say")
