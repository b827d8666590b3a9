# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests (blocks.py, heal.py): a fetcher, the servers and the blocks that a case works with, and what holds after every
case.  The cases, blocks_*.py, add themselves to CASES."""
import os, random, select, socket, sys, threading, time
from fetch_wire import DONE, environment, EXHAUSTED, Helper, NFAILED
from block_servers import BLOCK, BlockServer, Gateway, NarServer, Rpc, Silent, Tree

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = os.path.abspath(([d for d in sys.argv[1:] if os.path.isdir(d)] + [HERE + "/../../build/bin"])[0])
RSS = 32 * 1024
CASES = []      # (name, function), in the order in which they run


class Skip(Exception):
    pass


def case(f):
    CASES.append((f.__name__, f))
    return f


def data(n, seed=1):
    return random.Random(seed).randbytes(n)


class Run:
    """What came of one order."""

    def __init__(self):
        self.data, self.frames, self.end, self.seconds = b"", [], None, 0.0

    def all(self, t):
        return [m for m in self.frames if m["t"] == t]

    @property
    def liars(self):
        return self.all("LIAR")

    def check(self, candidates):
        """The frames are in order and agree with each other."""
        begins = self.all("BEGIN")
        assert len(begins) <= 1, self.frames
        assert self.frames[-1]["t"] == "NAREND"
        last = 0
        for p in self.all("PROGRESS"):
            assert begins and last <= p["bytes"] <= len(self.data) and p["source"], self.frames
            last = p["bytes"]
        e = self.end
        if e["status"] == DONE:
            b = begins[0]
            method = {"none": 1, "gzip": 2, "lzip": 3, "zstd": 4}[candidates[b["candidate"]][2]]
            assert b["method"] == method and b["candidate"] == e["candidate"], (b, e)
            assert b["size"] in (0, len(self.data)) and e["bytes"] == len(self.data), (b, e, len(self.data))
        elif e["status"] == EXHAUSTED:
            assert e["candidate"] == 0xffff and not begins and not self.data, (e, begins)
        assert e["repaired"] <= e["missed"], e


class Fetch(Helper):
    """A fetcher; `ready' tells it the servers [(URL, kind)] and the lines of narlock.conf."""

    def ready2(self, servers=(), options=(), **settings):
        m = self.sealed()
        assert m["layers"] & 0x10, m
        self.settings(**settings)
        for i, (url, kind) in enumerate(servers):
            self.server(i, url, kind)
        for k, v in options:
            self.option(k, v)

    def nar2(self, candidates, size, ident=7, timeout=30, part=None, others=0, most=None, resolve=None, slow=None):
        """One order; candidates: (server, file size, compression, URL, URN, manifest)."""
        run = Run()
        for i, c in enumerate(candidates):
            self.candidate(ident, i, *c)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        began = time.monotonic()
        self.order(ident, size, 2 * size + 4096 if most is None else most, theirs.fileno(), others, part)
        theirs.close()
        got, eof = bytearray(), False
        if slow:
            time.sleep(slow)
        while run.end is None or not eof:
            left = began + timeout - time.monotonic()
            if left <= 0:
                raise AssertionError("takes more than %g s, %d bytes so far; frames %r log %r" %
                                     (timeout, len(got), run.frames[-3:], self.log))
            for x in select.select([self.control] + ([] if eof else [ours]), [], [], left)[0]:
                if x is ours:
                    b = ours.recv(1 << 18)
                    eof = not b
                    got += b
                    continue
                m = self.recv()
                if m["t"] == "RESOLVE":
                    self.addresses(m["host"], *(resolve or {}).get(m["host"], ()))
                    continue
                run.frames.append(m)
                if m["t"] == "NAREND":
                    run.end, run.seconds = m, time.monotonic() - began
        ours.close()
        run.data = bytes(got)
        run.check(candidates)
        return run


class Lab:
    """What a case has started, to be stopped after it, and to be looked at once more."""

    def __init__(self, directory):
        self.dir, self.fetchers, self.servers, self.note, self.peak = directory, [], [], "", 0
        self.over, self.held, self.most = threading.Event(), [], RSS

    def add(self, server):
        self.servers.append(server)
        return server

    def fetch(self, servers=(), options=(), nothing=True, env=None, **settings):
        """NOTHING: no IPFS daemon but those that OPTIONS name."""
        program = os.environ.get("NARLOCK_TEST_FETCH") or os.path.join(PROGRAMS, "fetch")
        options = list(options)
        h = Fetch(os.path.abspath(program), environment(options) if env is None else env)
        self.fetchers.append(h)
        if nothing and not any(k == "ipfs" for k, _ in options):
            options.insert(0, ("ipfs", ""))
        h.ready2([s if isinstance(s, tuple) else (s.url, 0) for s in servers], options, **settings)
        threading.Thread(target=self.watch, args=(h,), daemon=True).start()
        return h

    def watch(self, h):
        while not self.over.wait(0.02) and h.ended is None:
            try:
                self.peak = max(self.peak, h.rss())
            except OSError:
                return

    def finish(self):
        """What holds after every case."""
        for h in self.fetchers:
            if h.ended is None:
                code = h.close()
                assert code == 0, "exit code %r, log %r" % (code, h.log)
                h.ended = 0
        assert self.peak <= self.most, "RssAnon %d KiB" % self.peak
        for s in self.servers:
            assert not s.violations, s.violations[:3]

    def close(self):
        self.over.set()
        for h in self.fetchers:
            h.kill()
        for s in self.servers + self.held:
            s.close()

    def refusing(self):
        """A port nobody listens on, nor will."""
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", 0))
        self.held.append(s)
        return s.getsockname()[1]

    # -- what most cases do
    def plain(self, tree, **kw):
        return self.add(NarServer({"/nar/x": tree.content}, **kw))

    def cand(self, tree, server=0, manifest="", urn=None, compression="none", size=0, url="nar/x"):
        return (server, size, compression, url, tree.urn if urn is None else urn, manifest)


def opts(*servers, **more):
    keys = {Rpc: "ipfs", Gateway: "ipfs-gateway", BlockServer: "block-server", Silent: "ipfs"}
    out = [(next(k for c, k in keys.items() if isinstance(s, c)), s.url) for s in servers]
    return out + [(k.replace("_", "-"), v) for k, v in more.items()]


def same(run, tree, **counts):
    assert run.end["status"] == DONE, (run.end, run.frames[:3])
    assert run.data == tree.content, "%d bytes, first difference at %d" % (
        len(run.data), next((i for i, (a, b) in enumerate(zip(run.data, tree.content)) if a != b), -1))
    for k, v in counts.items():  # a busy machine makes a source look slow: a few hedges come from elsewhere
        few = 0 if k == "reinserted" else 3 + 0.03 * len(tree.blocks)
        assert v <= run.end[k] <= v + few, (k, v, run.end)


def until(test, seconds=3):
    end = time.monotonic() + seconds
    while not test():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def settled(*servers):
    """How many requests they have seen, when those under way have been read."""
    last, n = -1, 0
    while n != last:
        time.sleep(0.15)
        last, n = n, sum(len(s.requests) for s in servers)
    return n


def after(count, how):
    """A source's behave: HOW(out) to whoever asks for a block after the first COUNT."""
    n = [0]

    def behave(ask, out, block):
        n[0] += 1
        return how(out) if n[0] > count else None
    return behave


def cpu(h):
    """Seconds of processor time that the fetcher has used."""
    with open("/proc/%d/stat" % h.pid) as f:
        return sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")


def arrives(h, cands, tree, ident=7, **kw):
    """As the broker does it: what was begun by its blocks and fails is ordered again without them."""
    run = h.nar2(cands, len(tree.content), ident, **kw)
    if run.end["status"] == NFAILED or (run.end["status"] == DONE and run.data != tree.content):
        again = h.nar2([c[:4] + ("", "") for c in cands], len(tree.content), ident + 1, **kw)
        again.frames = run.frames + again.frames
        run = again
    assert run.end["status"] == DONE and run.data == tree.content, (run.end, len(run.data), h.log)
    return run


TREES = {}


def tree(blocks=41, tail=777, seed=1):
    key = (blocks, tail, seed)
    if key not in TREES:
        TREES[key] = Tree(data((blocks - 1) * BLOCK + tail, seed))
    return TREES[key]


SMALL = tree()


def searching(most=4):
    """A daemon that looks for what it has not until its time is over, as Kubo does among its peers."""
    def behave(a, o, b):
        if b is None and a.arg("offline") != "true":
            o.wait(min(float(a.arg("timeout")[:-2]) / 1000, most))
    return behave


def late_for(kind):
    """Gateways are asked a question first, and block servers meanwhile: they are not to have brought all by then."""
    return (lambda a, o, b: o.wait(0.2) or None) if kind is Gateway else None


def exports(src):
    return src.count("dag/export") + src.count("format=car")
