# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests: the broker's side of the fetcher's and resolver's wire (ipc/PROTOCOL.md), written a second time and
independently of wire.c, and a helper process started as the spawner would."""
import array, os, select, shutil, socket, struct, subprocess, time

FOUND, ABSENT, FAILED, DEAD = range(4)
DONE, NFAILED, EXHAUSTED, CANCELLED = range(4)
NONE, GZIP, LZIP, ZSTD = 1, 2, 3, 4
NOT_TOLD = 0xffffffff


def s(text):
    b = text.encode() if isinstance(text, str) else text
    return struct.pack(">H", len(b)) + b


class Reader:
    def __init__(self, b):
        self.b, self.i = b, 0

    def n(self, fmt):
        size = struct.calcsize(">" + fmt)
        v = struct.unpack_from(">" + fmt, self.b, self.i)[0]
        self.i += size
        return v

    def s(self):
        n = self.n("H")
        v = self.b[self.i:self.i + n]
        assert len(v) == n
        self.i += n
        return v

    def end(self):
        assert self.i == len(self.b), "bytes left over"


def decode(b):
    r = Reader(b)
    t = r.n("H")
    if t == 0x01:
        m = dict(t="SEALED", version=r.n("H"), layers=r.n("I"), abi=r.n("H"), filter=r.n("H"), note=r.s())
    elif t == 0x13:
        m = dict(t="PART", id=r.n("I"), data=r.s())
    elif t == 0x15:
        m = dict(t="END", id=r.n("I"), status=r.n("B"), ttl=r.n("I"), reason=r.s().decode("ascii"))
    elif t == 0x17:
        m = dict(t="BEGIN", id=r.n("I"), candidate=r.n("H"), method=r.n("B"), size=r.n("Q"))
    elif t == 0x19:
        m = dict(t="PROGRESS", id=r.n("I"), bytes=r.n("Q"), source=r.s().decode("ascii"))
    elif t == 0x1b:
        m = dict(t="NAREND", id=r.n("I"), status=r.n("B"), candidate=r.n("H"), bytes=r.n("Q"),
                 missed=r.n("I"), repaired=r.n("I"), reinserted=r.n("I"), reason=r.s().decode("ascii"))
    elif t == 0x1d:
        m = dict(t="RESOLVE", host=r.s().decode("ascii"))
    elif t == 0x51:
        m = dict(t="PROBED", id=r.n("I"), status=r.n("B"))
    elif t == 0x53:
        m = dict(t="LIAR", status=r.n("B"), source=r.s().decode("ascii"), reason=r.s().decode("ascii"))
    elif t == 0x55:
        m = dict(t="CHECKED", status=r.n("B"), source=r.s().decode("ascii"), reason=r.s().decode("ascii"))
    elif t == 0x31:
        m = dict(t="HOST_ADDRESSES", host=r.s(), status=r.n("B"), addresses=r.s())
    else:
        raise AssertionError("unknown type 0x%x" % t)
    r.end()
    return m


def environment(options):
    """What the spawner adds for these (key, value)."""
    unix = any(v.startswith(("unix:", "/unix/")) for _, v in options)
    return {"NARLOCK_UNIX": "1"} if unix else {}


def hash_part(n):
    """A distinct, valid hash part for a number."""
    digits, out = "0123456789abcdfghijklmnpqrsvwxyz", ""
    for _ in range(32):
        out += digits[n & 31]
        n >>= 5
    return out


def address(text):
    fam = socket.AF_INET6 if ":" in text else socket.AF_INET
    raw = socket.inet_pton(fam, text)
    return bytes([6 if ":" in text else 4]) + raw + bytes(16 - len(raw))


class Gone(Exception):
    pass


class Helper:
    """A helper process behind its real lock; as an unprivileged uid when we are root."""

    def __init__(self, program, env=None, uid=65533):
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.logs, their_log = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.log, self.program, self.ended = [], program, None
        argv = [program]
        if os.getuid() == 0:
            argv = [shutil.which("setpriv"), "--reuid=%d" % uid, "--regid=%d" % uid, "--clear-groups",
                    "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"] + argv
        elif shutil.which("setpriv"):
            argv = [shutil.which("setpriv"), "--no-new-privs"] + argv
        environ = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "NARLOCK_SPAWNER": str(os.getpid())}
        environ.update(env or {})
        null = os.open("/dev/null", os.O_RDWR)
        pid = os.fork()
        if pid == 0:
            try:
                a, b = os.dup(theirs.fileno()), os.dup(their_log.fileno())
                a = os.dup2(a, 10, True) if a < 10 else a
                os.dup2(null, 0), os.dup2(null, 1), os.dup2(b, 2), os.dup2(a, 3)
                os.closerange(4, 256)
                os.set_inheritable(3, True)
                os.chdir("/")
                os.execve(argv[0], argv, environ)
            finally:
                os._exit(127)
        os.close(null)
        theirs.close()
        their_log.close()
        self.pid = pid
        self.started = time.monotonic()

    # -- frames out
    def raw(self, frame, fds=()):
        anc = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.control.sendmsg([frame], anc)

    def settings(self, stall=5000, rate=0, connect=10000, verify=1, http="", https=""):
        self.raw(struct.pack(">HIIIB", 0x10, stall, rate, connect, verify) + s(http) + s(https))

    def server(self, index, url, kind=0):
        self.raw(struct.pack(">HHB", 0x12, index, kind) + s(url))

    def option(self, key, value):
        self.raw(struct.pack(">H", 0x50) + s(key) + s(value))

    def probe(self, ident, eris, manifest=""):
        self.raw(struct.pack(">HI", 0x52, ident) + s(eris) + s(manifest))

    def check(self):
        self.raw(struct.pack(">H", 0x54))

    def trusthost(self, host):
        self.raw(struct.pack(">H", 0x14) + s(host))

    def lookup(self, ident, server, part):
        self.raw(struct.pack(">HIH", 0x16, ident, server) + part.encode())

    def candidate(self, ident, index, server, size, compression, url, eris="", manifest=""):
        self.raw(struct.pack(">HIHHQ", 0x18, ident, index, server, size) + s(compression) + s(url) + s(eris) +
                 s(manifest))

    def order(self, ident, nar_size, max_bytes, fd, others=0, part=None):
        self.raw(struct.pack(">HI", 0x1a, ident) + (part or hash_part(0)).encode() +
                 struct.pack(">QQB", nar_size, max_bytes, others), [fd])

    def cancel(self, ident):
        self.raw(struct.pack(">HI", 0x1c, ident))

    def addresses(self, host, *addrs):
        self.raw(struct.pack(">H", 0x1e) + s(host) + bytes([0 if addrs else 1]) +
                 s(b"".join(address(a) for a in addrs)))

    def lookup_host(self, host):
        self.raw(struct.pack(">H", 0x30) + s(host))

    # -- frames in
    def drain_log(self):
        while select.select([self.logs], [], [], 0)[0]:
            line = self.logs.recv(65536)
            if not line:
                break
            self.log.append(line.decode("ascii", "replace"))

    def recv(self, timeout=10):
        if not select.select([self.control], [], [], timeout)[0]:
            raise AssertionError("no frame in %g s; log: %r" % (timeout, self.log))
        b = self.control.recv(65536)
        self.drain_log()
        if not b:
            raise Gone("helper has gone; log: %r" % self.log)
        return decode(b)

    def sealed(self):
        m = self.recv()
        assert m["t"] == "SEALED" and m["version"] == 2, m
        return m

    def ready(self, servers=(), trust=(), options=(), **settings):
        """Servers are URLs, or pairs of a URL and its kind."""
        m = self.sealed()
        self.settings(**settings)
        for i, u in enumerate(servers):
            self.server(i, *((u,) if isinstance(u, str) else u))
        for o in options:
            self.option(*o)
        for h in trust:
            self.trusthost(h)
        return m

    def answer(self, resolve=None, timeout=15):
        """The next finished lookup: (id, status, body, ttl, reason)."""
        body = b""
        while True:
            m = self.recv(timeout)
            if m["t"] == "RESOLVE":
                self.addresses(m["host"], *(resolve or {}).get(m["host"], ()))
                self.asked = getattr(self, "asked", []) + [m["host"]]
            elif m["t"] == "LIAR":
                self.told = getattr(self, "told", []) + [(m["status"], m["source"], m["reason"])]
            elif m["t"] == "PART":
                body += m["data"]
            elif m["t"] == "END":
                return m["id"], m["status"], body, m["ttl"], m["reason"]
            else:
                raise AssertionError(m)

    def get(self, server, part, ident=1, **kw):
        self.lookup(ident, server, part)
        return self.answer(**kw)[1:]

    def nar(self, candidates, nar_size, max_bytes=None, ident=7, sink=None, resolve=None, timeout=30):
        """Run one order with a reader; candidates: (server, file_size, compression, url)."""
        for i, c in enumerate(candidates):
            self.candidate(ident, i, *c)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.order(ident, nar_size, nar_size * 2 + 4096 if max_bytes is None else max_bytes, theirs.fileno())
        theirs.close()
        data, frames, end, eof = bytearray(), [], None, False
        deadline = time.monotonic() + timeout
        while end is None or not eof:
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError("order takes too long; %r log %r" % (frames, self.log))
            r = [self.control] + ([] if eof else [ours])
            ready = select.select(r, [], [], left)[0]
            if ours in ready:
                b = ours.recv(1 << 18)
                eof = not b
                data += b
            if self.control in ready:
                m = self.recv()
                if m["t"] == "RESOLVE":
                    self.addresses(m["host"], *(resolve or {}).get(m["host"], ()))
                    continue
                frames.append(m)
                end = m if m["t"] == "NAREND" else end
        ours.close()
        return bytes(data), frames, end

    # -- process
    def rss(self):
        """RssAnon in KiB; the process is undumpable, but root may read."""
        with open("/proc/%d/status" % self.pid) as f:
            for line in f:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1])
        return 0

    def wait(self, timeout=5):
        end = time.monotonic() + timeout
        while self.ended is None and time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.ended = status
                break
            time.sleep(0.01)
        self.drain_log()
        if self.ended is None:
            return None
        return -os.WTERMSIG(self.ended) if os.WIFSIGNALED(self.ended) else os.WEXITSTATUS(self.ended)

    def close(self):
        """End of the conversation; the helper has to leave by itself with 0."""
        self.control.close()
        code = self.wait()
        if code is None:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
        self.logs.close()
        return code

    def kill(self):
        if self.ended is None:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
            self.ended = 9
        self.control.close()
        self.logs.close()
