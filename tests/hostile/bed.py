# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests (hostile): scratch machines, a server on loopback, and guix-daemon's side of the protocol.

Each machine has a broker of its own, a copy in which the place of the helpers is overwritten, and a uid of its own for
its helpers, so that cases can run at the same time and what is left of one is not taken for another's."""
import collections
import gzip
import http.server
import json
import os
import random
import re
import select
import shutil
import signal
import socketserver
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BUILD = f"{TOP}/build"
TOOLS = f"{BUILD}/hostile/bin"
sys.dont_write_bytecode = True
sys.path.insert(0, f"{TOP}/tests/demo")
import nar  # noqa: E402

# A child that is forked while another thread writes a program holds that file open for a moment, and to execute it then
# fails (ETXTBSY): nobody forks while a program is written.
WRITING = threading.RLock()


class Popen(subprocess.Popen):
    def __init__(self, *args, **kw):
        with WRITING:
            super().__init__(*args, **kw)


subprocess.Popen = Popen

PLACE = b"/" + b"0" * 250  # as in the Makefile


def first_uid():
    """Where the uids of this run begin: so far from those of another run as the uid map allows."""
    with open("/proc/self/uid_map") as f:
        whole = f.read().split() == ["0", "0", "4294967295"]
    return 100_000 + os.getpid() * 400 if whole else 64321


class Failed(Exception):
    pass


class Skipped(Exception):
    pass


def check(condition, what):
    if not condition:
        raise Failed(what)


def run(*argv, **kw):
    r = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kw)
    if r.returncode != 0:
        raise Failed(f"{argv[0]}: {r.stderr.decode(errors='replace')[-300:]}")
    return r.stdout


def until(seconds, condition):
    """Wait for CONDITION; its last value."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.02)
    return value


# --- Processes ----------------------------------------------------------------------------------------------

def status(pid):
    """The fields of /proc/PID/status, or None; a zombie is not there any more."""
    try:
        with open(f"/proc/{pid}/status") as f:
            fields = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    except OSError:
        return None
    return None if fields.get("State", "Z")[0] in "ZX" else fields


def session(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return int(f.read().rsplit(")", 1)[1].split()[3])
    except OSError:
        return -1


def pids():
    return [int(p) for p in os.listdir("/proc") if p.isdigit()]


def kill(pid, sig=signal.SIGKILL):
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        pass


# --- The server ---------------------------------------------------------------------------------------------

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.seen[self.path] += 1
        data, headers, rate = server.pages.get(self.path, (None, {}, None))
        self.send_response(404 if data is None else 200)
        self.send_header("Content-Length", str(len(data or b"")))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        data = data or b""
        step = max(rate // 20, 1) if rate else max(len(data), 1)
        try:
            for i in range(0, len(data), step):
                self.wfile.write(data[i:i + step])
                if rate:
                    time.sleep(0.05)
        except OSError:
            pass

    def log_message(self, *args):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        self.pages, self.seen = {}, collections.Counter()
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def handle_error(self, request, client_address):
        pass

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def put(self, page, data, headers=None, rate=None):
        self.pages[page] = (data, headers or {}, rate)


# --- Items --------------------------------------------------------------------------------------------------

def tree(name, size=3000):
    script = nar.nar_file(b"#!/bin/sh\necho " + name.encode() + b"\n", True)
    data = nar.nar_file(random.Random(name).randbytes(size))
    return nar.whole(nar.nar_directory([(b"bin", nar.nar_directory([(b"hello", script)])), (b"data", data)]))


class Item:
    """A store item: its path, its nar, and its signed narinfo."""

    def __init__(self, machine, name, data=None, key="farm", references=(), signed=True, url=None, deriver=None,
                 path=None, extra="", compression="gzip"):
        self.machine, self.name = machine, name
        self.path = path or machine.path(name)
        self.base = os.path.basename(self.path)
        self.data = tree(name) if data is None else data
        self.body = gzip.compress(self.data, mtime=0) if compression == "gzip" else self.data
        self.page = f"nar/{self.base}"
        fields = (f"StorePath: {self.path}\nNarHash: sha256:{nar.nar_hash(self.data)}\nNarSize: {len(self.data)}\n"
                  f"References: {' '.join(os.path.basename(r) for r in references)}\n")
        if deriver:
            fields += f"Deriver: {deriver}\n"
        text = fields.encode()
        if signed:
            text = run(f"{TOOLS}/sign", "narinfo", f"{machine.bed.scratch}/{key}.sec", "test", input=text)
        self.narinfo = text + (f"URL: {url or self.page}\nCompression: {compression}\n"
                               f"FileSize: {len(self.body)}\n{extra}").encode()

    @property
    def success(self):
        return f"success sha256:{nar.nar_hash(self.data)} {len(self.data)}"

    def serve(self, server, place, headers=None, rate=None, body=None, narinfo=True, data=True):
        """Put it on SERVER below /PLACE; the URL of that place."""
        if narinfo:
            server.put(f"/{place}/{self.base[:32]}.narinfo", self.narinfo, headers)
        if data:
            server.put(f"/{place}/{self.page}", self.body if body is None else body, rate=rate)
        return f"{server.url}/{place}"

    def installed(self, dest=None):
        dest = dest or self.path
        return os.path.lexists(dest) and nar.nar(dest) == self.data


# --- A machine ----------------------------------------------------------------------------------------------

class Bed:
    """What all machines share."""

    def __init__(self, scratch):
        self.scratch, self.tools = scratch, TOOLS
        self.count, self.lock, self.first_uid = 0, threading.Lock(), first_uid()
        for key in ("farm", "farm2", "stranger"):
            run(f"{TOOLS}/sign", "genkey", f"{scratch}/{key}.sec", f"{scratch}/{key}.pub")
        with open(f"{TOOLS}/broker", "rb") as f:
            self.broker = f.read()
        check(self.broker.count(PLACE + b"\0") == 1, "the test broker has no place for its helpers")
        self.server = Server()

    def machine(self, name, **kw):
        with self.lock:
            self.count += 1
            uid = self.first_uid + self.count
        return Machine(self, name, uid, **kw)


class Machine:
    def __init__(self, bed, name, uid, conf="", acl=("farm",), owner=0, store=None):
        self.bed, self.name, self.uid, self.owner = bed, name, uid, owner
        self.top = f"{bed.scratch}/{name}"
        self.store, self.state, self.etc = store or f"{self.top}/store", f"{self.top}/state", f"{self.top}/etc"
        self.libexec, self.flags, self.out = f"{self.top}/libexec", f"{self.top}/flags", f"{self.top}/out"
        self.real = f"{self.top}/real"
        self.audit_log = f"{self.top}/log/audit.log"
        for d in (self.top, self.store, self.state, self.etc, self.libexec, self.flags, self.out, self.real,
                  f"{self.top}/log"):
            os.makedirs(d, 0o755, exist_ok=True)
            os.chown(d, owner, owner)
        os.chmod(self.flags, 0o1777)
        with WRITING:
            for kind in ("fetch", "unpack", "resolve"):
                for d in (self.libexec, self.real):
                    shutil.copy(f"{BUILD}/bin/{kind}", f"{d}/{kind}")
        self.broker = f"{self.top}/broker"
        place = self.libexec.encode()
        with WRITING, open(self.broker, "wb") as f:
            f.write(bed.broker.replace(PLACE, place + b"\0" * (len(PLACE) - len(place))))
        os.chmod(self.broker, 0o755)
        self.conf(f"helper-user = {uid}:{uid}\n{conf}")
        self.acl(*acl)
        self.agents, self.seen_audit = [], 0

    def conf(self, text):
        with open(f"{self.top}/narlock.conf", "w") as f:
            f.write(f"audit-log = {self.audit_log}\nca-bundle = /dev/null\n{text}")
        os.chown(f"{self.top}/narlock.conf", self.owner, self.owner)

    def acl(self, *keys):
        with open(f"{self.etc}/acl.new", "wb") as f:
            f.write(run(f"{TOOLS}/sign", "acl", *[f"{self.bed.scratch}/{k}.pub" for k in keys]) if keys
                    else b"(acl)\n")
        os.chown(f"{self.etc}/acl.new", self.owner, self.owner)
        os.rename(f"{self.etc}/acl.new", f"{self.etc}/acl")

    def path(self, name):
        return f"{self.store}/{nar.base32(random.Random(name).randbytes(20))}-{name}"

    def item(self, name, **kw):
        return Item(self, name, **kw)

    def liar(self, kind, script):
        """Put a liar in the place of helper KIND.  Once the flag of that kind is there, it is honest."""
        text = f"honest {self.flags}/{kind} {self.real}/{kind}\n{script.strip()}\n".encode()
        with open(f"{TOOLS}/liar", "rb") as f:
            program = f.read()
        with WRITING, open(f"{self.libexec}/{kind}.new", "wb") as f:
            f.write(program + text + b"%08x" % len(text))
        os.chmod(f"{self.libexec}/{kind}.new", 0o755)
        os.rename(f"{self.libexec}/{kind}.new", f"{self.libexec}/{kind}")

    def again(self, kind):
        """A line for a script: from the second process on, be honest."""
        return f"again {self.flags}/{kind}-was-here {self.real}/{kind}\n"

    def reform(self, kind):
        """The next process of KIND will be the real one; those that run are killed."""
        open(f"{self.flags}/{kind}", "w").close()
        for pid in self.helpers(kind):
            kill(pid)
            until(2, lambda p=pid: status(p) is None)

    def helpers(self, kind=None):
        found = []
        for pid in pids():
            s = status(pid)
            if s and s["Uid"].split()[0] == str(self.uid) and (kind is None or command(pid) == kind):
                found.append(pid)
        return found

    def agent(self, mode, *urls, **kw):
        a = Agent(self, mode, urls, **kw)
        self.agents.append(a)
        return a

    def audit(self, event=None):
        """The audit records, oldest first.  Each line must be one JSON object."""
        try:
            with open(self.audit_log) as f:
                records = [json.loads(line) for line in f]
        except FileNotFoundError:
            records = []
        return [r for r in records if event is None or r["event"] == event]

    def told(self, event, reason):
        """Is there an audit record of that event with REASON in its reason?"""
        return any(reason in r.get("reason", "") for r in self.audit(event))

    def leftovers(self):
        """What is in store, spool and destinations."""
        found = []
        for top in (self.store, f"{self.state}/narlock/spool", self.out):
            for where, dirs, files in os.walk(top):
                found += [os.path.join(where, n) for n in dirs + files if n != ".links"]
        return found

    def processes(self):
        sessions = {a.pid for a in self.agents}
        return [p for p in pids() if (s := status(p)) and
                (s["Uid"].split()[0] == str(self.uid) or session(p) in sessions)]

    def end(self):
        """Kill the brokers, and them alone: all else has to go by itself."""
        for a in self.agents:
            a.end()
        left = until(4, lambda: not self.processes())
        names = [] if left else [f"{p} ({command(p)})" for p in self.processes()]
        for p in self.processes():
            kill(p, signal.SIGCONT)
            kill(p)
        check(not names, f"processes are left: {', '.join(names)}")


def command(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read().split(b"\0")[0].decode(errors="replace")
    except OSError:
        return ""


# --- guix-daemon's part -------------------------------------------------------------------------------------

class Agent:
    """As guix-daemon starts it: 0 commands, 1 and 2 the log, 4 replies, a session of its own.  WRAP: a program and its
    arguments that execute the broker.  MORE: redirections that leave it more descriptors than it should have."""

    def __init__(self, machine, mode, urls, wrap=(), env=None, traces=True, options="", replies=True, more=""):
        self.machine = machine
        commands, self.stdin = os.pipe2(os.O_CLOEXEC)
        self.log_fd, log = os.pipe2(os.O_CLOEXEC)
        self.replies, reply = os.pipe2(os.O_CLOEXEC)
        self.inodes = {os.readlink(f"/proc/self/fd/{fd}") for fd in (commands, log, reply)}
        text = (f"print-extended-build-trace={int(traces)}\nsubstitute-urls={' '.join(urls)}\n"
                f"terminal-columns=80\n{options}")
        environment = {"PATH": "/usr/bin:/bin", "NIX_STORE_DIR": machine.store, "GUIX_STATE_DIRECTORY": machine.state,
                       "GUIX_CONFIGURATION_DIRECTORY": machine.etc, "_NIX_OPTIONS": text,
                       "NARLOCK_CONF": f"{machine.top}/narlock.conf", **(env or {})}
        argv = [*wrap, machine.broker, f"--{mode}"]
        # A small program in between, because forking a process with threads is no place for Python code.
        fds = f"0<&{commands} 1>&{log} 2>&1" + (f" 4>&{reply}" if replies else "")
        close = 'for f in /proc/self/fd/*; do n=${f##*/}; case $n in ' + ("[0124]" if replies else "[012]") + \
            ') ;; *) eval "exec $n>&-";; esac; done'
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec {fds}; {close}; exec "$@" {more}', "-", *argv], env=environment, cwd="/", start_new_session=True,
            pass_fds=(commands, log, reply), stdin=subprocess.DEVNULL)
        self.pid = self.process.pid
        for fd in (commands, log, reply):
            os.close(fd)
        self.log_bytes, self.pending = b"", b""
        self.reader = threading.Thread(target=self.read_log, daemon=True)
        self.reader.start()

    def read_log(self):
        while chunk := os.read(self.log_fd, 65536):
            self.log_bytes += chunk

    @property
    def log(self):
        return self.log_bytes.decode(errors="replace")

    def says(self, words):
        """Is that in the log?  It may come a little later than the reply."""
        return until(2, lambda: words in self.log)

    def write(self, data):
        os.write(self.stdin, data if isinstance(data, bytes) else data.encode())

    def line(self, seconds=30):
        """One line of the replies, without its newline; None at the end."""
        end = time.monotonic() + seconds
        while b"\n" not in self.pending:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.replies], [], [], left)[0]:
                raise Failed(f"no reply in {seconds} s; got {self.pending!r}; {self.where()}; log: {self.log[-300:]!r}")
            chunk = os.read(self.replies, 65536)
            if not chunk:
                return None
            self.pending += chunk
        line, self.pending = self.pending.split(b"\n", 1)
        return line.decode(errors="replace")

    def substitute(self, item, dest=None, seconds=30):
        path = getattr(item, "path", item)
        self.write(f"substitute {path} {dest or path}\n")
        return self.line(seconds)

    def info(self, *paths, command="info", seconds=30):
        self.write(" ".join([command, *[getattr(p, "path", p) for p in paths]]) + "\n")
        lines = []
        while line := self.line(seconds):
            if command == "have":
                lines.append(line)
                continue
            deriver, count = self.line(seconds), int(self.line(seconds))
            references = [self.line(seconds) for _ in range(count)]
            lines.append((line, deriver, references, int(self.line(seconds)), int(self.line(seconds))))
        check(line is not None, "the broker ended")
        return lines

    def where(self):
        """What each process of ours waits in, for the report of a failure."""
        def text(pid, name):
            try:
                with open(f"/proc/{pid}/{name}") as f:
                    return f.read().strip()
            except OSError:
                return "?"
        return [f"{command(p)[-10:]} {text(p, 'wchan')} {text(p, 'syscall')[:40]}" for p in pids()
                if session(p) == self.pid]

    def alive(self):
        return self.process.poll() is None

    def children(self, pid=None):
        return [p for p in pids() if (s := status(p)) and s["PPid"] == str(pid or self.pid)]

    def spawner(self):
        found = until(5, self.children)
        check(len(found) == 1, f"the broker has {len(found)} children")
        return found[0]

    def ready(self, *kinds, seconds=5):
        """Wait until a sealed helper of each of KINDS runs; pids by kind."""
        def sealed():
            found = {}
            for pid in self.machine.helpers():
                s = status(pid)
                if s and session(pid) == self.pid and s.get("Seccomp") == "2":
                    found[command(pid)] = pid
            return found if set(kinds) <= set(found) else None
        found = until(seconds, sealed)
        check(found, f"no sealed {kinds}; log: {self.log[-300:]!r}")
        return found

    def foreign_traces(self):
        """Lines that a client would take for the daemon's, and that the broker never writes."""
        return [line for line in re.split(r"[\r\n]", self.log)
                if line.startswith("@ ") and not line.startswith("@ download-")]

    def end(self):
        kill(self.pid)
        self.process.wait()
        for fd in (self.stdin, self.replies):
            if fd >= 0:
                os.close(fd)
        self.stdin = self.replies = -1
