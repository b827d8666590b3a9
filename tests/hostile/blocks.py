#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests: the real fetcher behind its real lock as an assembler of nars out of ERIS blocks, against sources that lie.

    blocks.py [DIRECTORY with fetch] [WORD...]     (default: build/bin; WORDs choose cases by a part of their names)

One line per case: `ok NAME', `not ok NAME: why' or `SKIP NAME: why'; then the sums.  Exit 1 if a case failed.  After
every case, besides what it checks itself: the fetcher is still there and leaves with 0 (its filter has killed nothing),
its memory never went above the limit, and no server saw a request that such a server should not get."""
import fcntl, glob, multiprocessing, os, random, select, shutil, signal, socket, sys, tempfile, threading, time, traceback

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from fetch_wire import Helper, Gone, environment, hash_part, FOUND, ABSENT, FAILED, DONE, NFAILED, EXHAUSTED, CANCELLED  # noqa: E402
from fetch_servers import make_certificate, tls_context  # noqa: E402
from block_servers import *  # noqa: E402,F403
import block_servers  # noqa: E402

WORDS = [w for w in sys.argv[1:] if not os.path.isdir(w)]
PROGRAMS = os.path.abspath(([d for d in sys.argv[1:] if os.path.isdir(d)] + [HERE + "/../../build/bin"])[0])
RSS = 32 * 1024
AT_A_TIME = 3   # cases; most of them wait most of the time
LONGEST = 60    # seconds of a case
CASES = []


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

# --- one source alone -------------------------------------------------------------------------------------


def alone(name, make):
    for size, t in (("", lambda: tree(120)), ("_empty_last_leaf", lambda: tree(65, 0)), ("_one_block", lambda: tree(1, 500)),
                    ("_two_levels", lambda: tree(600, 5))):
        def f(lab, t=t):
            t = t()
            src = lab.add(make(t))
            nar = lab.plain(SMALL)
            nar.files = {}
            h = lab.fetch([nar], opts(src))
            run = h.nar2([lab.cand(t)], len(t.content))
            same(run, t, reinserted=0)
            assert not run.liars and set(src.asked()) == set(t.blocks), (len(set(src.asked())), len(t.blocks))
            assert src.connections <= max(2, len(t.blocks)), src.connections
            assert not nar.gets() and not nar.posts(), [r.target for r in nar.requests]
            lab.note = "%d connections for %d requests" % (src.connections, len(src.requests))
        CASES.append(("alone_" + name + size, f))


alone("kubo", lambda t: Rpc(t.blocks))
alone("js", lambda t: Rpc(t.blocks, kubo=False))
alone("gateway", lambda t: Gateway(t.blocks))
alone("block_server", lambda t: BlockServer(t.blocks))


@case
def alone_unix_socket(lab):
    for i, form in enumerate(("unix:%s", "/unix%s")):
        path = os.path.join(lab.dir, "api%d" % i)
        rpc = lab.add(Rpc(SMALL.blocks, path=path))
        h = lab.fetch([lab.plain(SMALL)], [("ipfs", form % path)])
        same(h.nar2([lab.cand(SMALL)], len(SMALL.content)), SMALL, missed=0, repaired=0)
        assert len(rpc.asked()) >= len(SMALL.blocks)


@case
def unix_socket_without_leave(lab):
    """The spawner did not say that narlock.conf names one: it is not contacted, and nobody dies."""
    rpc = lab.add(Rpc(SMALL.blocks, path=os.path.join(lab.dir, "api")))
    h = lab.fetch([lab.plain(SMALL)], [("ipfs", "unix:" + os.path.join(lab.dir, "api"))], env={})
    same(h.nar2([lab.cand(SMALL)], len(SMALL.content)), SMALL)
    assert not rpc.requests


@case
def alone_multiaddr(lab):
    rpc = lab.add(Rpc(SMALL.blocks))
    h = lab.fetch([lab.plain(SMALL)], [("ipfs", "/ip4/127.0.0.1/tcp/%d" % rpc.port)])
    same(h.nar2([lab.cand(SMALL)], len(SMALL.content)), SMALL, missed=0)


@case
def alone_named_host(lab):
    gw = lab.add(Gateway(SMALL.blocks))
    h = lab.fetch([lab.plain(SMALL)], [("ipfs-gateway", "http://gateway.test:%d/" % gw.port)])
    same(h.nar2([lab.cand(SMALL)], len(SMALL.content), resolve={"gateway.test": ["127.0.0.1"]}), SMALL)
    assert set(gw.asked()) == set(SMALL.blocks)


@case
def alone_unknown_host(lab):
    nar = lab.plain(SMALL)
    h = lab.fetch([nar], [("ipfs-gateway", "http://gateway.test/"), ("block-server", "http://blocks.test/")])
    run = h.nar2([lab.cand(SMALL)], len(SMALL.content), timeout=5)
    same(run, SMALL)


@case
def alone_tls_gateway(lab):
    pair = make_certificate(lab.dir)
    if pair is None:
        raise Skip("no openssl")
    gw = lab.add(Gateway(SMALL.blocks, tls=tls_context(pair)))
    h = lab.fetch([lab.plain(SMALL)], opts(gw), env={"NARLOCK_CA": pair[0]})
    same(h.nar2([lab.cand(SMALL)], len(SMALL.content)), SMALL)
    assert set(gw.asked()) == set(SMALL.blocks)
    h = lab.fetch([lab.plain(SMALL)], opts(gw))  # not that CA: no source, plain HTTP
    n = len(gw.asked())
    same(h.nar2([lab.cand(SMALL)], len(SMALL.content)), SMALL)
    assert len(gw.asked()) == n


@case
def alone_prefix(lab):
    """A gateway and a block server below a path."""
    class Below(Gateway):
        def handle(self, ask, out):
            assert ask.path.startswith("/below/it/"), ask.path
            ask.path = ask.path[len("/below/it"):]
            return super().handle(ask, out)
    gw = lab.add(Below(SMALL.blocks))
    h = lab.fetch([lab.plain(SMALL)], [("ipfs-gateway", gw.url + "/below/it/")])
    same(h.nar2([lab.cand(SMALL)], len(SMALL.content)), SMALL)
    assert set(gw.asked()) == set(SMALL.blocks)


@case
def alone_car(lab):
    for make in (Rpc, Gateway):
        t = tree(120)
        m = Manifest(t)
        if make is Rpc:
            src = lab.add(Rpc(t.blocks, manifests=[m], get=False))
        else:
            src = lab.add(Gateway(t.blocks, manifests=[m], behave=lambda a, o, b: o.reply("404 no", b"")))
        h = lab.fetch([lab.add(NarServer({}))], opts(src))
        run = h.nar2([lab.cand(t, manifest=m.cid)], len(t.content))
        same(run, t, missed=0, repaired=0)
        exports = src.count("dag/export") + src.count("format=car")
        assert exports <= 1 or make is Gateway, exports
        assert len(src.requests) <= 40, "%d requests beside the CAR" % len(src.requests)


@case
def alone_gateway_by_name(lab):
    """Kubo's gateway redirects whoever calls it localhost."""
    t = tree(120)
    m = Manifest(t)
    gw = lab.add(Gateway(t.blocks, manifests=[m]))
    for end, cid in (("", m.cid), ("/", None)):
        h = lab.fetch([lab.add(NarServer({}))], [("ipfs-gateway", gw.url.replace("127.0.0.1", "localhost") + end)])
        same(h.nar2([lab.cand(t, manifest=cid) if cid else lab.cand(t)], len(t.content)), t, missed=0, repaired=0)


@case
def alone_car_of_small_blocks(lab):
    """More nodes of the manifest than as many bytes in large blocks would have."""
    t = Tree(tree(120).content, 1024)
    m = Manifest(t)
    src = lab.add(Rpc(t.blocks, manifests=[m], get=False))
    h = lab.fetch([lab.add(NarServer({}))], opts(src))
    same(h.nar2([lab.cand(t, manifest=m.cid)], len(t.content)), t, missed=0, repaired=0)
    lab.note = "%d nodes" % len(m.nodes)


@case
def alone_car_after_a_late_root(lab):
    """What names the file comes after all blocks that were asked for have been denied: the stream may still bring them."""
    t = tree(120)
    m = Manifest(t)

    def late(ask, out):
        known = uncid(ask.arg("arg") or "")
        if known is not None and known[0] != RAW:
            time.sleep(0.25)
    src, nar = lab.add(Rpc(t.blocks, manifests=[m], get=False, first=late)), lab.add(NarServer({}))
    h = lab.fetch([nar], opts(src))
    same(h.nar2([lab.cand(t, manifest=m.cid)], len(t.content)), t, repaired=0)
    assert not nar.requests, "%d requests for a nar that the stream has" % len(nar.requests)


@case
def alone_car_goes_on(lab):
    """A slow stream is not waited for where there may be another way; when there is none, it goes on where it was."""
    t = Tree(tree(120).content, 1024)
    m = Manifest(t)
    asked = threading.Event()

    def export(ask, out):
        pieces = [car_header(m.root)] + list(m.sections(t.blocks))

        def slowly():
            yield b"".join(pieces[:300])
            asked.wait(10)
            yield b"".join(pieces[300:])
        return out.chunks(slowly())

    def hook(ask, out):
        if ask.method == "GET":
            asked.set()
            time.sleep(0.5)
    src, nar = lab.add(Rpc(t.blocks, manifests=[m], get=False, export=export)), lab.add(NarServer({}, hook=hook))
    h = lab.fetch([nar], opts(src))
    same(h.nar2([lab.cand(t, manifest=m.cid)], len(t.content)), t, repaired=0)
    assert asked.is_set() and src.count("dag/export") == 1, src.count("dag/export")


@case
def alone_car_many_levels(lab):
    """More links than a node of a manifest takes, and two levels of ERIS nodes."""
    t = tree(1100, 99)
    m = Manifest(t)
    assert len(m.nodes) == 1 + 7 + 1
    src = lab.add(Rpc(t.blocks, manifests=[m]))
    h = lab.fetch([lab.add(NarServer({}))], opts(src))
    same(h.nar2([lab.cand(t, manifest=m.cid)], len(t.content)), t, missed=0, repaired=0)
    lab.note = "%d single blocks beside the CAR" % len(src.asked())


@case
def alone_car_and_single_blocks(lab):
    """The CAR lacks some blocks; the daemon has them (or another source has)."""
    t = tree(120)
    m = Manifest(t)
    lacks = t.leaves[10:20] + t.leaves[70:75]
    for elsewhere in (False, True):
        part = t.without(lacks)

        def export(ask, out):
            return out.chunks([car_header(m.root)] + list(m.sections(part)))
        rpc = lab.add(Rpc(part if elsewhere else t.blocks, manifests=[m], export=export))
        bs, nar = lab.add(BlockServer(t.blocks)), lab.add(NarServer({}))
        h = lab.fetch([nar], opts(rpc, bs))
        run = h.nar2([lab.cand(t, manifest=m.cid)], len(t.content))
        same(run, t, missed=15 if elsewhere else 0, repaired=15 if elsewhere else 0)
        assert set(lacks) <= set(bs.asked() if elsewhere else rpc.asked())


@case
def alone_car_stalls(lab):
    """What the stream does not bring in time is asked for elsewhere while it goes on."""
    t = tree(120)
    m = Manifest(t)

    def export(ask, out):
        out.chunks([car_header(m.root)] + list(m.sections(t.blocks))[:60], end=False)
        return out.hang()
    rpc = lab.add(Rpc(t.blocks, manifests=[m], export=export))
    h = lab.fetch([lab.plain(t)], opts(rpc, block_timeout="2"))
    run = h.nar2([lab.cand(t, manifest=m.cid)], len(t.content))
    same(run, t, missed=0)
    assert run.seconds < 6, run.seconds


@case
def alone_range(lab):
    """Only inner nodes are to be had as blocks: all leaves come out of the nar file."""
    for tail in (777, 0):
        t = tree(65, tail)
        bs = lab.add(BlockServer(t.only(t.inner)))
        nar = lab.plain(t)
        h = lab.fetch([nar], opts(bs))
        run = h.nar2([lab.cand(t)], len(t.content))
        same(run, t)
        assert nar.gets() and not nar.posts()
        for r in nar.gets(True):
            first, last = r.range()
            assert first % BLOCK == 0 and first < len(t.content), r.headers["range"]
            assert last is None or (last + 1) % BLOCK == 0 or last + 1 >= len(t.content), r.headers["range"]
        lab.note += "%d requests; " % len(nar.gets())


@case
def range_for_some(lab):
    """A few leaves are missing: they, and little else, come by Range."""
    t = tree(200)
    lacks = [t.leaves[i] for i in (3, 50, 51, 52, 120, 199)]
    rpc, nar = lab.add(Rpc(t.without(lacks))), lab.plain(t)
    h = lab.fetch([nar], opts(rpc, seed="none"))
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t, missed=6, repaired=6, reinserted=0)
    assert not nar.gets(False) and not nar.posts(), [(r.method, r.target, r.headers) for r in nar.requests]
    assert nar.sent < 40 * BLOCK, "%d bytes for 6 leaves" % nar.sent
    assert any("127.0.0.1" in p["source"] or "range" in p["source"].lower() for p in run.all("PROGRESS")) or \
        run.seconds < 1


@case
def whole_nar_when_all_is_missing(lab):
    t = tree(120)
    for ranges in (True, False):
        rpc, nar = lab.add(Rpc({})), lab.plain(t, ranges=ranges)
        h = lab.fetch([nar], opts(rpc, seed="none"))
        run = h.nar2([lab.cand(t)], len(t.content))
        same(run, t, reinserted=0)
        assert len(nar.gets()) <= 2, len(nar.gets())
        assert run.seconds < 3, run.seconds


@case
def whole_nar_when_an_inner_node_is_missing(lab):
    t = tree(600, 5)
    assert t.level == 2
    rpc, nar = lab.add(Rpc(t.without(t.inner[:1]))), lab.plain(t)
    h = lab.fetch([nar], opts(rpc, seed="none"))
    run = arrives(h, [lab.cand(t)], t)
    assert not run.liars


@case
def everything_is_missing_everywhere(lab):
    rpc, nar = lab.add(Rpc({})), lab.add(NarServer({}))
    h = lab.fetch([nar], opts(rpc, publish_again="no"))
    run = h.nar2([lab.cand(SMALL)], len(SMALL.content))
    assert run.end["status"] == EXHAUSTED and run.end["reason"], run.end
    same(h.nar2([lab.cand(SMALL), lab.cand(SMALL, url=lab.plain(SMALL).url + "/nar/x")], len(SMALL.content)), SMALL)


@case
def several_candidates(lab):
    """The blocks of any candidate will do: its number and method are told."""
    a, b = tree(30, 5, 2), tree(33, 6, 3)
    rpc, nar = lab.add(Rpc(b.blocks)), lab.add(NarServer({}))
    h = lab.fetch([nar], opts(rpc, publish_again="no"))
    run = h.nar2([lab.cand(a, compression="gzip", url="nar/a"), lab.cand(b, compression="zstd", url="nar/b")], 5 << 20,
                 timeout=40)
    assert run.data == b.content and run.end["candidate"] == 1, run.end
    assert run.all("BEGIN")[0]["method"] == 4


@case
def first_capability_is_of_no_use(lab):
    """erisx2 in one place, a good one in another."""
    t, rpc = SMALL, lab.add(Rpc(SMALL.blocks))
    h = lab.fetch([lab.add(NarServer({}))], opts(rpc, publish_again="no"))
    run = h.nar2([lab.cand(t, urn=t.urn.replace("urn:eris:", "urn:erisx2:")[:115]), lab.cand(t, compression="xz", urn=SMALL.urn),
                  lab.cand(t)], len(t.content))
    same(run, t, missed=0)
    assert run.end["candidate"] == 2


@case
def whole_file_goes_on_behind_blocks(lab):
    """The daemon dies in the middle and the server knows no Range: what was written stays, nothing is doubled."""
    t, n = tree(200), [0]

    def behave(ask, out, block):
        n[0] += 1
        return out.reset() if n[0] > 100 else None
    rpc, nar = lab.add(Rpc(t.blocks, behave=behave)), lab.plain(t, ranges=False)
    h = lab.fetch([nar], opts(rpc, seed="none", publish_again="no", block_timeout="1"))
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    assert run.seconds < 8, run.seconds


@case
def file_size_is_told(lab):
    rpc = lab.add(Rpc(SMALL.blocks))
    h = lab.fetch([lab.plain(SMALL)], opts(rpc))
    run = h.nar2([lab.cand(SMALL, size=len(SMALL.content))], len(SMALL.content))
    same(run, SMALL)
    assert run.all("BEGIN")[0]["size"] == len(SMALL.content)


@case
def repeated_references(lab):
    content = bytes(60 * BLOCK) + data(5 * BLOCK + 3) + bytes(60 * BLOCK) + b"end"
    t = Tree(content)
    assert len(t.blocks) == 9
    for make in (Rpc, Gateway, BlockServer):
        src = lab.add(make(t.blocks, behave=lambda a, o, b: o.wait(0.05) or None))
        h = lab.fetch([lab.plain(t)], opts(src))
        same(h.nar2([lab.cand(t)], len(content)), t)
        assert len(src.asked()) == len(set(src.asked())) == 9, len(src.asked())


@case
def many_nars_on_the_same_connections(lab):
    trees = [tree(20, 5, 10 + i) for i in range(12)]
    rpc = lab.add(Rpc({r: b for t in trees for r, b in t.blocks.items()}))
    h = lab.fetch([lab.plain(SMALL)], opts(rpc))
    for i, t in enumerate(trees):
        same(h.nar2([lab.cand(t)], len(t.content), ident=i), t, missed=0)
    n = len(rpc.requests)
    assert rpc.connections <= 70 and rpc.connections < n / 3, "%d connections for %d requests" % (rpc.connections, n)
    lab.note = "%d connections for %d requests" % (rpc.connections, n)


@case
def connections_are_reused(lab):
    t = tree(600, 5)
    rpc = lab.add(Rpc(t.blocks))
    h = lab.fetch([lab.plain(t)], opts(rpc))
    same(h.nar2([lab.cand(t)], len(t.content)), t)
    assert rpc.connections < len(rpc.requests) / 2, (rpc.connections, len(rpc.requests))
    assert len(rpc.requests) <= len(t.blocks) * 1.03 + 5, len(rpc.requests)
    lab.note = "%d connections for %d requests" % (rpc.connections, len(rpc.requests))


@case
def every_answer_closes(lab):
    rpc = lab.add(Rpc(SMALL.blocks, behave=lambda a, o, b: o.ok(b, "Connection: close") and False))
    h = lab.fetch([lab.plain(SMALL)], opts(rpc))
    same(h.nar2([lab.cand(SMALL)], len(SMALL.content)), SMALL, missed=0)


@case
def idle_connections_are_closed(lab):
    """Closed without a word, as js-ipfs does after 5 s: the next question goes over a new one, and nothing is missed."""
    a, b = tree(20, 5, 10), tree(20, 5, 11)
    rpc = lab.add(Rpc({**a.blocks, **b.blocks}))
    h = lab.fetch([lab.plain(SMALL)], opts(rpc))
    same(h.nar2([lab.cand(a)], len(a.content)), a, missed=0)
    with rpc.lock:
        conns = list(rpc.conns)
    for c in conns:
        c.shutdown(socket.SHUT_RDWR)
    time.sleep(0.1)
    same(h.nar2([lab.cand(b)], len(b.content), ident=8), b, missed=0)


@case
def reused_connection_dies(lab):
    """Now and then a kept connection is closed right when the next question has been sent."""
    seen = set()

    def behave(ask, out, block):
        if ask.connection not in seen or len(seen) > 20:
            seen.add(ask.connection)
            return None
        return False
    rpc = lab.add(Rpc(SMALL.blocks, behave=behave))
    h = lab.fetch([lab.plain(SMALL)], opts(rpc))
    same(h.nar2([lab.cand(SMALL)], len(SMALL.content)), SMALL)


@case
def authorization(lab):
    for word in ("Bearer s3cret.token", "Basic dXNlcjpodW50ZXIy"):
        rpc = lab.add(Rpc(SMALL.without(SMALL.leaves[4:8]), authorization=word))
        gw, bs, nar = lab.add(Gateway({})), lab.add(BlockServer(SMALL.blocks)), lab.plain(SMALL)
        h = lab.fetch([nar], [("ipfs", rpc.url + " " + word)] + opts(gw, bs))
        same(h.nar2([lab.cand(SMALL)], len(SMALL.content)), SMALL, repaired=4)
        for sv in (gw, bs, nar):
            assert not any("authorization" in r.headers for r in sv.requests)
        assert not any("s3cret" in line or "dXNl" in line for line in h.log), h.log


@case
def authorization_is_refused(lab):
    """A 403 for everything: no source, no liar, the nar arrives; and few questions are asked in vain."""
    rpc = lab.add(Rpc(SMALL.blocks, authorization="Bearer other"))
    h = lab.fetch([lab.plain(SMALL)], opts(rpc))
    run = h.nar2([lab.cand(SMALL)], len(SMALL.content))
    same(run, SMALL)
    assert not run.liars and len(rpc.requests) <= 20, len(rpc.requests)
    rpc.violations.clear()


@case
def redirects_are_not_followed(lab):
    for make in (Rpc, Gateway, BlockServer):
        trap = lab.add(make(SMALL.blocks))
        codes = ["301 x", "302 x", "303 x", "307 x", "308 x"]
        src = lab.add(make({}, behave=lambda a, o, b: o.reply(random.choice(codes), b"", "Location: " + trap.url + a.target)))
        h = lab.fetch([lab.plain(SMALL)], opts(src))
        run = h.nar2([lab.cand(SMALL)], len(SMALL.content))
        same(run, SMALL)
        assert trap.connections == 0 and not run.liars


@case
def redirects_of_cars_are_not_followed(lab):
    t, m = SMALL, Manifest(SMALL)
    for make in (Rpc, Gateway):
        trap = lab.add(make(t.blocks, manifests=[m]))
        src = lab.add(make(t.blocks, export=lambda a, o: o.reply("302 x", b"", "Location: " + trap.url + a.target)))
        h = lab.fetch([lab.plain(t)], opts(src))
        same(h.nar2([lab.cand(t, manifest=m.cid)], len(t.content)), t)
        assert trap.connections == 0


def searching(most=4):
    """A daemon that looks for what it has not until its time is over, as Kubo does among its peers."""
    def behave(a, o, b):
        if b is None and a.arg("offline") != "true":
            o.wait(min(float(a.arg("timeout")[:-2]) / 1000, most))
    return behave


# --- slow, hanging, dead ----------------------------------------------------------------------------------

@case
def slow_block(lab):
    """One block takes 20 s: after the block time-out it is asked for elsewhere."""
    t = tree(120)
    slow = t.leaves[40]
    rpc = lab.add(Rpc(t.blocks, behave=lambda a, o, b: o.wait(20) or None if a.ref == slow else None))
    bs, nar = lab.add(BlockServer(t.blocks)), lab.plain(t)
    h = lab.fetch([nar], opts(rpc, bs, block_timeout="1"))
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t, missed=0, repaired=0)  # its time was not over
    assert run.seconds < 3 and set(bs.asked()) <= set(t.blocks) and len(bs.asked()) <= 5, (run.seconds, len(bs.asked()))


@case
def hangs_in_the_middle_of_the_nar(lab):
    """The daemon is stopped (SIGSTOP) after 60 blocks."""
    t, n = tree(200), [0]

    def behave(ask, out, block):
        n[0] += 1
        return out.hang() if n[0] > 60 else None
    rpc, nar = lab.add(Rpc(t.blocks, behave=behave)), lab.plain(t)
    h = lab.fetch([nar], opts(rpc, block_timeout="1", seed="none"))
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    assert run.seconds < 8, run.seconds
    assert not nar.gets(False), "the leaves of a known tree come by Range"


@case
def silent_daemon(lab):
    """Accepts, says nothing: one connection attempt, remembered."""
    rpc, nar = lab.add(Silent()), lab.plain(SMALL)
    h = lab.fetch([nar], opts(rpc, block_timeout="1"))
    run = h.nar2([lab.cand(SMALL)], len(SMALL.content))
    same(run, SMALL)
    assert run.seconds < 3.5, run.seconds
    n = rpc.connections
    assert n <= 2, "%d connections" % n
    run = h.nar2([lab.cand(SMALL)], len(SMALL.content), ident=8)
    same(run, SMALL)
    assert run.seconds < 1 and rpc.connections == n, (run.seconds, rpc.connections)


def searches(ask, out, block):
    """Nobody has it, and it takes all the time it is given to find that out."""
    out.wait(int(ask.arg("timeout")[:-2]) / 1000)
    return Rpc.error(out, "Failed to get block: context deadline exceeded")


def of_no_use(name, behave, most, asked):
    """A daemon that tells its version and nothing else: MOST seconds for each of several nars."""
    def f(lab):
        trees = [tree(60, 5, 100 + i) for i in range(len(most))]
        rpc = lab.add(Rpc({r: b for t in trees for r, b in t.blocks.items()}, behave=behave))
        nar = lab.add(NarServer({"/nar/%d" % i: t.content for i, t in enumerate(trees)}, ranges=False))
        h = lab.fetch([nar], opts(rpc, block_timeout="3", seed="none", publish_again="no"), stall=3000)
        for i, t in enumerate(trees):
            run = h.nar2([lab.cand(t, url="nar/%d" % i)], len(t.content), ident=i)
            same(run, t)
            assert run.seconds < most[i], "nar %d: %.2f s" % (i, run.seconds)
            lab.note += "%.2f s, " % run.seconds
        assert len(rpc.requests) <= asked, len(rpc.requests)
        lab.note += "%d requests" % len(rpc.requests)
    CASES.append(("of_no_use_" + name, f))


of_no_use("hangs", lambda a, o, b: o.hang(), (4, 1.5, 0.5), 6)  # one is about its peers
of_no_use("searches", searches, (4, 1.5, 1.5), 7)
of_no_use("resets", lambda a, o, b: o.reset(), (2, 0.5, 0.5), 8)
of_no_use("closes", lambda a, o, b: False, (2, 0.5, 0.5), 8)
of_no_use("errors", lambda a, o, b: Rpc.error(o, "datastore is broken"), (4, 2, 0.5), 16)
of_no_use("busy", lambda a, o, b: o.reply("429 x", b"", "Retry-After: 1"), (4, 2, 0.5), 16)


@case
def of_no_use_for_a_while(lab):
    """What was of no use gets less time, and all of it where there is no other way."""
    a, b = tree(60, 5, 100), tree(60, 5, 101)

    def behave(ask, out, block):
        if ask.ref in a.blocks:
            return searches(ask, out, block)
        return out.wait(1) or None
    rpc, nar = lab.add(Rpc({**a.blocks, **b.blocks}, behave=behave)), lab.plain(a)
    h = lab.fetch([nar], opts(rpc, block_timeout="3", seed="none", publish_again="no"))
    same(h.nar2([lab.cand(a)], len(a.content)), a)
    run = h.nar2([lab.cand(b, url="nar/gone")], len(b.content), ident=8)
    same(run, b)


@case
def gateway_that_would_search_comes_later(lab):
    """It says that it does not have the root: block servers first, then it, then parts of the file."""
    t = tree(120)
    lacks = t.leaves[40:44]
    gw = lab.add(Gateway(t.blocks, head=lambda a, o: o.reply("412 Precondition Failed", b""),
                         behave=lambda a, o, b: o.wait(0.05) or None))
    bs, nar = lab.add(BlockServer(t.without(lacks))), lab.plain(t)
    h = lab.fetch([nar], opts(gw, bs))
    same(h.nar2([lab.cand(t)], len(t.content)), t)
    heads = [uncid(r.path[len("/ipfs/"):])[1] for r in gw.requests if r.method == "HEAD"]
    assert heads == [t.root], heads
    assert set(lacks) & set(gw.asked()) and len(gw.asked()) <= 12, len(gw.asked())
    bs.blocks = t.blocks
    n = len(gw.asked())
    same(h.nar2([lab.cand(t)], len(t.content), ident=8), t)
    assert gw.count("/ipfs/", "HEAD") == 2 and len(gw.asked()) <= n + 4, len(gw.asked()) - n
    m = Manifest(t)  # nor is it asked for a stream
    gw.manifests = {m.cid: m}
    same(h.nar2([lab.cand(t, manifest=m.cid)], len(t.content), ident=9), t)
    assert gw.count("format=car") == 0


@case
def gateway_that_has_it_comes_first(lab):
    """Also one that does not know the question, which it is then asked once; and one that never answers it."""
    no = {"404": 1, "405": 1, "501": 1, "429": 2, "500": 2, "302": 2}
    answers = {k: lambda a, o, k=k: o.reply(k + " x", b"") for k in no}
    answers.update({"200": None, "resets": lambda a, o: o.reset(), "hangs": lambda a, o: o.hang()})
    for name, head in answers.items():
        t = tree(120)
        gw = lab.add(Gateway(t.blocks, head=head))
        bs = lab.add(BlockServer(t.blocks, behave=lambda a, o, b: o.wait(0.15) or None))
        h = lab.fetch([lab.add(NarServer({}))], opts(bs, gw))
        for ident in (7, 8):
            gw.blocks, n = t.blocks, len(gw.asked())
            run = h.nar2([lab.cand(t)], len(t.content), ident=ident)
            same(run, t)
            assert run.seconds < 1.5 and not run.liars, (name, run.seconds)
            assert len(gw.asked()) - n > 60 or name == "hangs", (name, ident, len(gw.asked()) - n, h.log, run.seconds)
        # libcurl itself tries again where a connection that was kept breaks
        assert 1 <= gw.count("/ipfs/", "HEAD") <= (20 if name == "resets" else 2), (name, gw.count("/ipfs/", "HEAD"))
        if name in no:
            assert gw.count("/ipfs/", "HEAD") == no[name], (name, gw.count("/ipfs/", "HEAD"))


@case
def gateway_alone_is_not_questioned(lab):
    """Nobody else brings blocks: the question would only cost time."""
    gw = lab.add(Gateway(SMALL.blocks, head=lambda a, o: o.hang()))
    h = lab.fetch([lab.plain(SMALL)], opts(gw))
    run = h.nar2([lab.cand(SMALL)], len(SMALL.content))
    same(run, SMALL)
    assert gw.count("/ipfs/", "HEAD") == 0 and run.seconds < 0.28, run.seconds


@case
def gateway_question_does_not_end_the_wait(lab):
    """The daemon lacks everything, at once: the gateway is still to come."""
    def late(answer):
        return lambda a, o: o.wait(0.1) or o.reply(answer, b"")
    for head in (late("200 OK"), late("412 x"), late("405 x"), None, lambda a, o: o.hang()):
        rpc, gw = lab.add(Rpc({})), lab.add(Gateway(SMALL.blocks, head=head))
        h = lab.fetch([lab.add(NarServer({}))], opts(rpc, gw, publish_again="no"))
        run = h.nar2([lab.cand(SMALL)], len(SMALL.content))
        same(run, SMALL)
        assert gw.count("/ipfs/", "HEAD") == 1 and run.seconds < 1 and "once more" not in str(h.log), (run.seconds, h.log)


@case
def manifest_alone_gives_the_capability(lab):
    """No `ERIS', only `ERIS-Manifest', at two places; no file, no index."""
    t = tree(120)
    m, u = Manifest(t), Manifest(tree(41, 778, 2))
    for src in (Rpc(t.blocks, manifests=[m]), Rpc(t.blocks, kubo=False, manifests=[m]), Gateway(t.blocks, manifests=[m])):
        lab.add(src)
        h = lab.fetch([lab.add(NarServer({}))], opts(src, publish_again="no"))
        cands = [lab.cand(t, urn="", manifest=u.cid), lab.cand(t, urn="", manifest=m.cid, url="nar/y")]
        for i, c in enumerate((cands[1:], cands)):
            run = h.nar2(c, len(t.content), ident=i)
            same(run, t, missed=0)
            assert not run.liars and run.seconds < 2.5, run.seconds


@case
def manifest_alone_of_another_compression(lab):
    """Its capability is for the places that name it."""
    t, u = SMALL, tree(41, 778, 2)
    m = Manifest(u)
    rpc, nar = lab.add(Rpc({**t.blocks, **u.blocks}, manifests=[m])), lab.add(NarServer({"/nar/x": t.content}))
    h = lab.fetch([nar], opts(rpc))
    run = h.nar2([lab.cand(t, urn=""), lab.cand(u, urn="", manifest=m.cid, compression="gzip", url="nar/y")], len(t.content),
                 most=len(u.content))
    assert run.end["status"] == DONE and run.end["candidate"] == 1 and run.data == u.content, run.end


@case
def manifest_alone_that_is_none(lab):
    """The file comes, and soon."""
    t = SMALL
    bad = Manifest(t, cap=b"\x0f\xff" + t.cap[2:])
    leaf = Manifest(tree(1100, 99))
    lower = [x for x in leaf.nodes if x != leaf.root][0]
    for made, name in ((bad, bad.cid), (leaf, cid(lower, CBOR)), (bad, "bafy"), (bad, cid(t.root))):
        rpc, nar = lab.add(Rpc(t.blocks, manifests=[made])), lab.plain(t)
        h = lab.fetch([nar], opts(rpc))
        run = h.nar2([lab.cand(t, urn="", manifest=name)], len(t.content))
        same(run, t)
        assert len(nar.gets(False)) == 1 and not rpc.asked() and not run.liars and run.seconds < 1, (name, run.seconds)


class SlowRoots(Rpc):
    """A daemon that takes its time for every node of a manifest."""
    seconds = 60

    def do_get(self, ask, out):
        if uncid(ask.arg("arg") or "")[0] == CBOR:
            if out.wait(min(self.seconds, int(ask.arg("timeout")[:-2]) / 1000)) or self.seconds == 60:
                return self.absent(out)
        return super().do_get(ask, out)


@case
def manifest_alone_is_waited_for_a_moment(lab):
    t, m = SMALL, Manifest(SMALL)
    rpc, nar = lab.add(SlowRoots(t.blocks, manifests=[m])), lab.plain(t)
    h = lab.fetch([nar], opts(rpc))
    for i, most in enumerate((2.8, 2.8, 1, 1)):
        run = h.nar2([lab.cand(t, urn="", manifest=m.cid)], len(t.content), ident=i)
        same(run, t)
        assert run.seconds < most, (i, run.seconds)
        lab.note += "%.2f s, " % run.seconds


@case
def manifest_alone_is_the_only_way(lab):
    """There is no file: it has all the time that blocks have."""
    t, m = SMALL, Manifest(SMALL)
    rpc = lab.add(SlowRoots(t.blocks, manifests=[m]))
    rpc.seconds = 2.5
    h = lab.fetch([lab.add(NarServer({}))], opts(rpc, publish_again="no"))
    same(h.nar2([lab.cand(t, urn="", manifest=m.cid)], len(t.content)), t)


@case
def manifest_alone_cancelled(lab):
    t, m = SMALL, Manifest(SMALL)
    rpc, nar = lab.add(SlowRoots(t.blocks, manifests=[m])), lab.plain(t)
    h = lab.fetch([nar], opts(rpc))
    ours, theirs = socket.socketpair()
    h.candidate(3, 0, *lab.cand(t, urn="", manifest=m.cid))
    h.order(3, len(t.content), len(t.content), theirs.fileno())
    theirs.close()
    time.sleep(0.2)
    h.cancel(3)
    end = h.recv()
    assert end["t"] == "NAREND" and end["status"] == CANCELLED, end
    ours.close()
    same(h.nar2([lab.cand(t)], len(t.content)), t)


@case
def manifest_alone_is_nowhere_but_an_index_knows(lab):
    t, m = SMALL, Manifest(SMALL)
    rpc, ix = lab.add(Rpc(t.blocks)), lab.add(Index({PART: index_text(t)}))
    h = lab.fetch([(lab.add(NarServer({})).url, 0), (ix.url, 2)], opts(rpc))
    same(h.nar2([lab.cand(t, urn="", manifest=m.cid)], len(t.content), part=PART), t, missed=0)
    assert len(ix.requests) == 1


def no_server(lab, t, lacks, **kw):
    """All HTTP servers are dead, and the daemon has not got all blocks."""
    rpc, nar = lab.add(Rpc(t.without(lacks), behave=searching(), **kw)), lab.plain(t)
    nar.close()
    return rpc, lab.fetch([nar], opts(rpc, block_timeout="1")), [lab.cand(t)]


@case
def no_peers_and_no_server(lab):
    """A daemon that knows no peers will not find what it has not: nobody waits for it, and the message says why."""
    for kubo in (True, False):
        for t, lacks in ((SMALL, SMALL.blocks), (SMALL, SMALL.leaves[20:22]), (tree(600, 5), tree(600, 5).leaves[3::2])):
            rpc, h, cands = no_server(lab, t, lacks, peers=[], kubo=kubo)
            for i in range(2):
                run = h.nar2(cands, len(t.content), ident=7 + i)
                assert run.end["status"] in (EXHAUSTED, NFAILED), run.end
                assert "no source has all blocks, and the IPFS daemon knows no peers" in run.end["reason"], run.end
                assert run.seconds < 10, run.seconds
                lab.note += "%.1f s " % run.seconds
            n = sum("swarm/peers" in r.path for r in rpc.requests)
            assert 1 <= n <= 3, n


@case
def no_peers_says_a_busy_daemon(lab):
    """It does not answer the first time."""
    asked = []

    def peers(a, o):
        asked.append(1)
        return o.hang() if len(asked) == 1 else o.reply("200 OK", b'{"Peers":null}')
    rpc, h, cands = no_server(lab, SMALL, SMALL.leaves[20:22], peers=peers)
    run = h.nar2(cands, len(SMALL.content))
    assert "the IPFS daemon knows no peers" in run.end["reason"] and len(asked) == 2, (run.end, asked)
    assert run.seconds < 6, run.seconds


@case
def no_peers_but_a_server(lab):
    """What such a daemon lacks is asked of the others soon, however long a block may take."""
    for t, lacks in ((SMALL, SMALL.blocks), (SMALL, SMALL.leaves[20:22]), (tree(200), tree(200).leaves[3::2])):
        for with_manifest in (False, True):
            m = Manifest(t)
            rpc = lab.add(Rpc(t.without(lacks), behave=searching(30), peers=[], manifests=[m]))
            h = lab.fetch([lab.plain(t)], opts(rpc, block_timeout="20"))
            run = h.nar2([lab.cand(t, manifest=m.cid if with_manifest else "")], len(t.content))
            same(run, t)
            assert run.end["missed"] > 0 and run.seconds < 4, (run.end, run.seconds)
            lab.note += "%.1f s " % run.seconds


@case
def no_peers_but_all_blocks(lab):
    """Nor does it need any for what it has."""
    rpc, h, cands = no_server(lab, SMALL, (), peers=[])
    same(h.nar2(cands, len(SMALL.content)), SMALL, missed=0)


@case
def peers_and_no_server(lab):
    """A daemon with peers, or one that does not say, is waited for: what it lacks comes some seconds later."""
    t, lacks = SMALL, SMALL.leaves[20:22]
    for peers in (["12D3KooW"], None, lambda a, o: o.hang()):
        rpc, h, cands = no_server(lab, t, lacks, peers=peers)
        timer = threading.Timer(4, rpc.blocks.update, [{r: t.blocks[r] for r in lacks}])
        timer.start()
        run = h.nar2(cands, len(t.content))
        timer.cancel()
        same(run, t)
        assert run.seconds > 4 and any("swarm/peers" in r.path for r in rpc.requests), (run.seconds, peers)
        lab.note += "%.1f s " % run.seconds


@case
def peers_come_later(lab):
    """Seconds later it is asked again: it has found some."""
    t, lacks = SMALL, SMALL.leaves[20:22]
    rpc, h, cands = no_server(lab, t, lacks, peers=[])
    run = h.nar2(cands, len(t.content))
    assert "knows no peers" in run.end["reason"], run.end
    rpc.peers = ["12D3KooW"]
    rpc.blocks.update({r: t.blocks[r] for r in lacks})
    same(h.nar2(cands, len(t.content), ident=8), t)


@case
def insist_on_a_silent_source(lab):
    """It fell silent and is left alone, unless there is no other way."""
    a, b, c = tree(60, 5, 100), tree(60, 5, 101), tree(60, 5, 102)
    n = [0]

    def behave(ask, out, block):
        if ask.ref in a.blocks:
            n[0] += 1
            return out.hang() if n[0] > 3 else None
    for make in (Gateway, BlockServer):
        n[0] = 0
        src = lab.add(make({**a.blocks, **b.blocks, **c.blocks}, behave=behave))
        nar = lab.add(NarServer({"/nar/a": a.content, "/nar/b": b.content}, ranges=False))
        h = lab.fetch([nar], opts(src, block_timeout="1", publish_again="no"), stall=1500)
        same(h.nar2([lab.cand(a, url="nar/a")], len(a.content)), a)
        same(h.nar2([lab.cand(b, url="nar/b")], len(b.content), ident=8), b)
        assert not set(src.asked()) & set(b.blocks), "it is asked although it was silent"
        same(h.nar2([lab.cand(c, url="nar/gone")], len(c.content), ident=9), c)


def nothing_else(lab, t, behave, **kw):
    """A daemon with all blocks, in its own time, and a nar whose URL leads nowhere."""
    rpc = lab.add(Rpc(t.blocks, behave=behave, **kw))
    return rpc, lab.fetch([("http://127.0.0.1:%d" % lab.refusing(), 0)], opts(rpc, block_timeout="1"), stall=1000)


def slow_swarm(name, blocks, most, *how, **kw):
    """It arrives, although nearly all requests run out of time, again and again."""
    def f(lab):
        t, swarm = tree(blocks, 5), Swarm(*how)
        m = Manifest(t)
        stops = lambda a, o: not o.chunks([car_header(m.root)] + list(m.sections())[:3], end=False) and o.hang()  # noqa: E731
        rpc, h = nothing_else(lab, t, swarm, manifests=[m], export=stops)
        run = h.nar2([lab.cand(t, manifest=m.cid if kw.get("car") else "")], len(t.content), timeout=50)
        same(run, t)
        lab.note = "%.1f s, %d of %d requests ran out" % (run.seconds, swarm.ran_out, len(rpc.asked()))
        assert swarm.ran_out > 0 and run.seconds < most, lab.note
    CASES.append(("slow_swarm_" + name, f))


slow_swarm("delivers", 40, 20, .15)
slow_swarm("begins_late", 20, 30, .05, 5)
slow_swarm("takes_longer_than_the_timeout", 3, 30, 1.5)
slow_swarm("behind_a_car", 40, 30, .15, car=True)


def nobody_has_it(lab):
    """A daemon that looks for each block until its time is over, and no other way: it is asked for a minute, with more and
    more time; for the next nar less long; and not at all so when the broker has other servers to ask."""
    t, swarm = tree(5), Swarm(0, 1000)
    rpc, h = nothing_else(lab, t, swarm)
    took, asked = [], []
    for ident, others, least, most in ((7, 0, 60, 80), (8, 0, 15, 30), (9, 1, 1, 12)):
        before = len(rpc.asked())
        run = h.nar2([lab.cand(t)], len(t.content), ident=ident, timeout=100, others=others)
        assert run.end["status"] == EXHAUSTED, run.end
        took.append(run.seconds)
        asked.append(len(rpc.asked()) - before)
        assert least <= run.seconds < most and 0 < asked[-1] < 16, (took, asked)
    lab.note = " s, ".join("%.1f" % x for x in took) + " s; %s requests" % asked


nobody_has_it.longest = 150
CASES.insert(0, ("nobody_has_it", nobody_has_it))  # while the others run


@case
def searches_are_waited_for_once(lab):
    """A daemon, a gateway and a block server have the root, look for everything else nearly as long as they may, and find
    nothing: they are waited for at the same time, not one after the other."""
    def searches(seconds):
        def behave(ask, out, block):
            if block is None:
                out.wait(seconds)
        return behave
    t = tree(300, 5)
    some = t.without(t.leaves)
    sources = [lab.add(make(dict(some), behave=searches(s))) for make, s in ((Rpc, 1.7), (Gateway, 1.6), (BlockServer, 1.6))]
    h = lab.fetch([lab.plain(t)], opts(*sources, block_timeout="2", publish_again="no", seed="none"))
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    lab.note = "%.1f s" % run.seconds
    assert run.seconds < 4.5, run.seconds


@case
def where_from_does_not_flicker(lab):
    """A few blocks that come from elsewhere, or a second server of the same kind, are no news in the progress line."""
    t, lock = tree(160, 5), threading.Lock()

    def slow(ask, out, block):
        with lock:
            out.wait(.02)
    for few in (True, False):
        blocks = t.without(t.leaves[::25]) if few else t.blocks
        sources = [lab.add(Rpc(dict(blocks), behave=slow)) for _ in range(1 if few else 2)]
        h = lab.fetch([lab.plain(t)], opts(*sources, publish_again="no", seed="none"))
        run = h.nar2([lab.cand(t)], len(t.content))
        same(run, t)
        told = [m["source"] for m in run.all("PROGRESS")]
        changes = [b for a, b in zip([""] + told, told) if a != b]
        assert 0 < len(changes) <= 3 + run.seconds / 2, (run.seconds, changes)
        assert not few or "range" in run.end["reason"], run.end


@case
def resets_in_the_middle(lab):
    """A daemon that breaks every connection is found out in less than the stall time."""
    t, n = tree(200), [0]

    def behave(ask, out, block):
        n[0] += 1
        return out.reset() if n[0] > 100 else None
    rpc, nar = lab.add(Rpc(t.blocks, behave=behave)), lab.plain(t, ranges=False)
    h = lab.fetch([nar], opts(rpc, seed="none", publish_again="no"))
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    assert run.seconds < 4, run.seconds


@case
def missing_everywhere_in_the_middle(lab):
    """Every source says at once that it lacks the second half: nobody waits four times for what will not come."""
    t = tree(200)
    rpc, nar = lab.add(Rpc(t.without(t.leaves[100:]))), lab.add(NarServer({}))
    h = lab.fetch([nar], opts(rpc, publish_again="no"))
    ours, theirs = socket.socketpair()
    h.candidate(1, 0, *lab.cand(t))
    h.order(1, len(t.content), 2 * len(t.content), theirs.fileno(), 0)
    theirs.close()
    began = time.monotonic()
    threading.Thread(target=lambda: [None for _ in iter(lambda: ours.recv(1 << 18), b"")], daemon=True).start()
    while (m := h.recv(30))["t"] != "NAREND":
        pass
    assert m["status"] == NFAILED and time.monotonic() - began < 8, (m, time.monotonic() - began)


@case
def range_redirected_to_a_private_place(lab):
    """What comes from a private address is not spread, whatever name led there (all through a proxy, so that the names
    count as public)."""
    for target, puts in (("http://other.example.org", 5), ("http://10.1.2.3", 0)):
        t = tree(120)

        def hook(ask, out):
            if ask.path.startswith("http://public.example.org/"):
                return out.reply("302 x", b"", "Location: %s/nar/x" % target)
            ask.path = ask.path[len(target):]
        proxy = lab.add(NarServer({"/nar/x": t.content}, hook=hook))
        rpc = lab.add(Rpc(t.without(t.leaves[40:45])))
        h = lab.fetch([("http://public.example.org/", 0)], opts(rpc, publish_again="no"), http="127.0.0.1:%d" % proxy.port)
        run = h.nar2([lab.cand(t)], len(t.content))
        same(run, t, missed=5, repaired=5)
        until(lambda: len(rpc.put_refs()) >= 5, 1)
        assert len(rpc.put_refs()) == puts, (target, len(rpc.put_refs()))


@case
def content_is_one_byte_too_long(lab):
    """The last block begins within the limit and ends behind it."""
    rpc = lab.add(Rpc(SMALL.blocks))
    h = lab.fetch([lab.add(NarServer({}))], opts(rpc, publish_again="no"))
    run = h.nar2([lab.cand(SMALL, compression="gzip")], len(SMALL.content), most=len(SMALL.content) - 1)
    assert run.end["status"] == NFAILED and len(run.data) < len(SMALL.content), run.end


@case
def dead_daemon(lab):
    """Nobody listens: one attempt, remembered although a daemon is there later."""
    port, nar = lab.refusing(), lab.plain(SMALL)
    h = lab.fetch([nar], [("ipfs", "http://127.0.0.1:%d" % port)])
    run = h.nar2([lab.cand(SMALL)], len(SMALL.content))
    same(run, SMALL)
    assert run.seconds < 1 and not nar.posts(), run.seconds
    lab.held.pop().close()
    rpc = lab.add(Rpc(SMALL.blocks, port=port))
    same(h.nar2([lab.cand(SMALL)], len(SMALL.content), ident=8), SMALL)
    assert rpc.connections == 0


@case
def unreachable_daemon(lab):
    """A listener whose backlog is full answers no connect."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(0)
    fill = []
    for _ in range(4):
        c = socket.socket()
        c.setblocking(False)
        c.connect_ex(sock.getsockname())
        fill.append(c)
    h = lab.fetch([lab.plain(SMALL)], [("ipfs", "http://127.0.0.1:%d" % sock.getsockname()[1]), ("block-timeout", "1")],
                  connect=1000)
    run = h.nar2([lab.cand(SMALL)], len(SMALL.content))
    same(run, SMALL)
    assert run.seconds < 3.5, run.seconds
    run = h.nar2([lab.cand(SMALL)], len(SMALL.content), ident=8)
    same(run, SMALL)
    assert run.seconds < 1, run.seconds


@case
def no_source_at_all(lab):
    t = tree(600, 5)
    nar = lab.plain(t)
    h = lab.fetch([nar])
    plain = h.nar2([lab.cand(t, urn="")], len(t.content)).seconds
    run = h.nar2([lab.cand(t)], len(t.content), ident=8)
    same(run, t)
    assert len(nar.requests) == 2 and not nar.posts(), [(r.method, r.target) for r in nar.requests]
    assert run.seconds < 2 * plain + 0.3, (run.seconds, plain)


@case
def default_daemon_is_not_there(lab):
    s = socket.socket()
    if s.connect_ex(("127.0.0.1", 5001)) == 0:
        raise Skip("somebody listens on port 5001")
    nar = lab.plain(SMALL)
    h = lab.fetch([nar], nothing=False)
    run = h.nar2([lab.cand(SMALL)], len(SMALL.content))
    same(run, SMALL)
    assert run.seconds < 1, run.seconds


@case
def hedging_is_bounded(lab):
    """Two daemons: one answers at once, the other takes its time for some.  Duplicate questions: at most 3 %."""
    t = tree(600, 5)
    rng = random.Random(5)
    slow = lab.add(Rpc(t.blocks, behave=lambda a, o, b: o.wait(0.4 if rng.random() < 0.1 else 0.01) or None))
    fast = lab.add(Rpc(t.blocks))
    nar = lab.plain(t)
    h = lab.fetch([nar], opts(slow, fast, seed="none"))
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    ranges = sum((r.range()[1] - r.range()[0]) // BLOCK + 1 for r in nar.gets(True))
    asked = len(slow.asked()) + len(fast.asked()) + ranges
    assert asked <= len(t.blocks) * 1.03 + 12, "%d questions for %d blocks" % (asked, len(t.blocks))
    lab.note = "%d questions for %d blocks (%d slow, %d fast, %d ranges), %.1f s" % (
        asked, len(t.blocks), len(slow.asked()), len(fast.asked()), ranges, run.seconds)


@case
def a_source_that_misses_all_is_bypassed(lab):
    t = tree(600, 5)
    empty, full = lab.add(Rpc({})), lab.add(BlockServer(t.blocks))
    h = lab.fetch([lab.plain(t)], opts(empty, full, seed="none"))
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    assert 16 <= run.end["missed"] == run.end["repaired"] <= len(empty.asked()), run.end
    assert len(empty.asked()) < len(t.blocks) / 2, len(empty.asked())
    lab.note = "%d of %d asked in vain" % (len(empty.asked()), len(t.blocks))


@case
def cancel_while_blocks_are_on_their_way(lab):
    t = tree(600, 5)
    for seconds in (0.05, 0.3):
        rpc = lab.add(Rpc(t.blocks, behave=lambda a, o, b: o.wait(0.2) or None))
        h = lab.fetch([lab.plain(t)], opts(rpc))
        for ident in (3, 4):
            ours, theirs = socket.socketpair()
            h.candidate(ident, 0, *lab.cand(t))
            h.order(ident, len(t.content), len(t.content), theirs.fileno())
            theirs.close()
            time.sleep(seconds)
            h.cancel(ident)
            m = h.recv()
            while m["t"] in ("PROGRESS", "BEGIN"):
                m = h.recv()
            assert m["t"] == "NAREND" and m["status"] in (CANCELLED, DONE), m
            ours.close()
        rpc.behave = None
        same(h.nar2([lab.cand(t)], len(t.content)), t)


@case
def cancel_while_waiting(lab):
    """For an index, for publish-again, for a daemon that says nothing."""
    t = SMALL
    ix = lab.add(Index({}, hook=lambda a, o: o.hang()))
    nar = lab.add(NarServer({}, again=lambda a, o: o.reply("202 Accepted", b"")))
    rpc, mute = lab.add(Rpc({})), lab.add(Silent())
    for src, urn_ in ((rpc, ""), (rpc, t.urn), (mute, t.urn)):
        h = lab.fetch([(nar.url, 0), (ix.url, 2)], opts(src))
        for ident in (3, 4):
            ours, theirs = socket.socketpair()
            h.candidate(ident, 0, *lab.cand(t, urn=urn_))
            h.order(ident, len(t.content), len(t.content), theirs.fileno())
            theirs.close()
            time.sleep(0.2)
            h.cancel(ident)
            m = h.recv(3)
            assert m["t"] == "NAREND" and m["status"] in (CANCELLED, EXHAUSTED), m
            ours.close()


@case
def reader_goes_away(lab):
    t = tree(600, 5)
    rpc = lab.add(Rpc(t.blocks))
    h = lab.fetch([lab.plain(t)], opts(rpc))
    ours, theirs = socket.socketpair()
    h.candidate(3, 0, *lab.cand(t))
    h.order(3, len(t.content), len(t.content), theirs.fileno())
    theirs.close()
    ours.recv(100)
    ours.close()
    m = h.recv()
    while m["t"] != "NAREND":
        m = h.recv()
    assert m["status"] == NFAILED, m
    same(h.nar2([lab.cand(t)], len(t.content)), t)


@case
def broker_goes_away(lab):
    t = tree(600, 5)
    rpc = lab.add(Rpc(t.blocks, behave=lambda a, o, b: o.wait(0.5) or None))
    h = lab.fetch([lab.plain(t)], opts(rpc))
    ours, theirs = socket.socketpair()
    h.candidate(3, 0, *lab.cand(t))
    h.order(3, len(t.content), len(t.content), theirs.fileno())
    theirs.close()
    time.sleep(0.2)
    began = time.monotonic()
    h.control.close()
    assert h.wait() in (0, 1) and time.monotonic() - began < 1
    h.ended = 0


@case
def lookups_meanwhile(lab):
    t = tree(600, 5)
    info = b"StorePath: /gnu/store/x\n"
    rpc = lab.add(Rpc(t.blocks, behave=lambda a, o, b: o.wait(0.02) or None))
    nar = lab.plain(t, infos={hash_part(i): info for i in range(100)})
    h = lab.fetch([nar], opts(rpc))
    ours, theirs = socket.socketpair()
    h.candidate(3, 0, *lab.cand(t))
    h.order(3, len(t.content), len(t.content), theirs.fileno())
    theirs.close()
    for i in range(100):
        h.lookup(1000 + i, 0, hash_part(i))
    got, found, end, eof = bytearray(), 0, None, False
    while not (end and eof and found == 100):
        for x in select.select([h.control] + ([] if eof else [ours]), [], [], 10)[0]:
            if x is ours:
                b = ours.recv(1 << 18)
                eof = not b
                got += b
            else:
                m = h.recv()
                found += m["t"] == "END" and m["status"] == FOUND
                end = m if m["t"] == "NAREND" else end
    assert got == t.content and end["status"] == DONE, end


# --- memory -----------------------------------------------------------------------------------------------

class Barrier:
    """Answers all at once, when no new question has come for a while."""

    def __init__(self):
        self.cond, self.last, self.turn = threading.Condition(), 0.0, 0
        self.over = False

    def __call__(self, ask, out, block):
        with self.cond:
            self.last, turn = time.monotonic(), self.turn
            while self.turn == turn and not self.over:
                self.cond.wait(0.02)
                if self.turn == turn and time.monotonic() - self.last > 0.12:
                    self.turn += 1
                    self.cond.notify_all()
        return None


@case
def memory_all_at_once(lab):
    t = tree(1100, 99)
    rpcs = [lab.add(Rpc(t.blocks, behave=Barrier())) for _ in range(4)]
    h = lab.fetch([lab.plain(t)], opts(*rpcs))
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    assert run.end["missed"] <= len(t.blocks) * 0.03 + 5, run.end
    most = sum(r.flying_max for r in rpcs)
    assert most >= 128, "only %d in flight" % most
    lab.note = "RssAnon %d KiB with up to %d in flight" % (lab.peak, most)


@case
def memory_reader_sleeps(lab):
    """The reader sleeps; blocks pile up within bounds, and no source is to blame for it."""
    t = tree(1100, 99)
    rpc, bs = lab.add(Rpc(t.blocks)), lab.add(BlockServer(t.blocks))
    h = lab.fetch([lab.plain(t)], opts(rpc, bs, block_timeout="1"))
    run = h.nar2([lab.cand(t)], len(t.content), slow=2.5)
    same(run, t)
    assert run.end["missed"] <= len(t.blocks) * 0.03, run.end
    lab.note = "RssAnon %d KiB, missed %d" % (lab.peak, run.end["missed"])


@case
def memory_first_block_last(lab):
    """The first leaf comes last: what comes meanwhile is bounded."""
    t = tree(1100, 99)
    rpc = lab.add(Rpc(t.blocks, behave=lambda a, o, b: o.wait(2) or None if a.ref == t.leaves[0] else None))
    h = lab.fetch([lab.plain(t)], opts(rpc, block_timeout="10"))
    same(h.nar2([lab.cand(t)], len(t.content)), t)
    lab.note = "RssAnon %d KiB" % lab.peak


@case
def memory_streams_wait(lab):
    """Streams in small chunks wait for a reader that sleeps: they go on then, and nothing is asked for besides."""
    t = tree(1100, 99)
    m = Manifest(t)
    rpc, gw = lab.add(Rpc(t.blocks, manifests=[m])), lab.add(Gateway(t.blocks, manifests=[m]))
    h = lab.fetch([lab.plain(t)], opts(rpc, gw))
    run = h.nar2([lab.cand(t, manifest=m.cid)], len(t.content), slow=1.5)
    same(run, t, missed=0)
    assert run.seconds < 4 and not any("CAR" in line or "breaks" in line for line in h.log), (run.seconds, h.log)
    lab.note = "RssAnon %d KiB, %d requests beside the CAR" % (lab.peak, len(rpc.requests) + len(gw.requests) - 2)


def stream_begins_again(name, first, second):
    """A stream breaks off after FIRST blocks.  Another one would bring those once more: there is one only if they are
    few, it holds up nobody, and nobody is told that nobody has asked for them."""
    def f(lab):
        t = tree(1100, 99)
        m = Manifest(t)

        def export(ask, out):
            out.chunks([car_header(m.root)] + list(m.sections(t.blocks))[:first], end=False)
            return False
        rpc, next_ = lab.add(Rpc(t.blocks, manifests=[m], export=export)), lab.add(Rpc(t.blocks, manifests=[m]))
        h = lab.fetch([lab.plain(t)], opts(rpc, next_))
        run = h.nar2([lab.cand(t, manifest=m.cid)], len(t.content), slow=0.5)
        same(run, t)
        assert run.seconds < 4 and not any("nobody" in line for line in h.log), (run.seconds, h.log)
        assert next_.count("dag/export") == second, next_.count("dag/export")
    CASES.append(("stream_begins_again_" + name, f))


stream_begins_again("after_few", 150, 1)
stream_begins_again("after_many", 900, 0)


def memory_of(name, behave, most=RSS):
    def f(lab):
        lab.most = most
        t = tree(1100, 99)
        wait, seen = Barrier(), []

        def answer(ask, out, block):  # good ones first, or few are asked for at a time
            seen.append(ask)
            if len(seen) > 150:
                return behave(ask, out, block, wait)
        rpcs = [lab.add(Rpc(t.blocks, behave=answer)) for _ in range(4)]
        h = lab.fetch([lab.plain(t)], opts(*rpcs, seed="none"))
        run = arrives(h, [lab.cand(t)], t)
        lab.note = "RssAnon %d KiB, up to %d in flight, missed %d" % (
            lab.peak, sum(r.flying_max for r in rpcs), run.end["missed"])
    CASES.append(("memory_" + name, f))


def half_block(ask, out, block, wait):
    """All of it but one byte, and that when the others are there, too."""
    out.head("200 OK", "Content-Length: %d" % len(block))
    out.raw(block[:-1])
    wait(ask, out, block)
    return out.raw(block[-1:]) or True


def long_head(ask, out, block, wait):
    out.raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(block) + (b"X-Long: " + b"h" * 990 + b"\r\n") * 55)
    wait(ask, out, block)
    return out.raw(b"\r\n" + block) or True


def long_trailer(ask, out, block, wait):
    out.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Stream-Error\r\n\r\n8000\r\n" + block + b"\r\n0\r\n")
    out.raw((b"X-Long: " + b"h" * 990 + b"\r\n") * 55)
    wait(ask, out, block)
    return out.raw(b"\r\n") or True


def long_error(ask, out, block, wait):
    wait(ask, out, block)
    return out.reply("500 x", b'{"Message":"' + b"m" * 500000 + b'"}')


memory_of("half_blocks", half_block)


def long_line(n):
    """One line, which libcurl hands over only when it is whole."""
    def f(ask, out, block, wait):
        out.raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Long: " % len(block) + b"h" * n)
        wait(ask, out, block)
        return out.raw(b"\r\n\r\n" + block) or True
    return f


# By itself libcurl keeps up to 100 KiB of a line that has no end, in a buffer that doubles: sources that have gained a
# window of 256 requests before could have that much of each.
memory_of("long_lines", long_line(95000))
memory_of("half_lines", long_line(32000))
memory_of("whole_lines", long_line(16000))
memory_of("long_heads", long_head)
memory_of("long_trailers", long_trailer)
memory_of("long_errors", long_error)


# --- bad answers, from each kind of source ----------------------------------------------------------------

def late_for(kind):
    """Gateways are asked a question first, and block servers meanwhile: they are not to have brought all by then."""
    return (lambda a, o, b: o.wait(0.2) or None) if kind is Gateway else None


def make_bad(kind, name, answer, liar):
    def f(lab):
        t, u = SMALL, tree(41, 778, 2)
        both = {**t.blocks, **u.blocks}
        src = lab.add(kind(both, behave=answer))
        pause = late_for(kind) if liar else None
        bs, nar = lab.add(BlockServer(both, behave=pause)), lab.add(NarServer({"/nar/x": t.content, "/nar/u": u.content}))
        h = lab.fetch([nar], opts(src, bs, block_timeout="1", seed="none"))
        run = arrives(h, [lab.cand(t)], t, timeout=15)
        assert run.seconds < 8, run.seconds
        assert len(run.liars) <= 1, run.liars
        if liar is not None:
            assert len(run.liars) == liar, (run.liars, h.log)
        assert src.connections <= 150, src.connections
        if run.liars:
            assert run.liars[0]["source"] and run.liars[0]["reason"], run.liars
            n = settled(src)
        second = arrives(h, [lab.cand(u, url="nar/u")], u, ident=20, timeout=15)
        assert second.seconds < 8, second.seconds
        if run.liars:
            assert settled(src) == n and not second.liars, "a liar was asked again"
        assert src.sent < (24 << 20) + (4 << 20 if name == "trailer_bomb" else 0) * len(src.asked()), \
            "%d MiB were read of it" % (src.sent >> 20)
        lab.note = "%.1f and %.1f s, %d requests" % (run.seconds, second.seconds, len(src.requests))
    return f


for kind_ in (Rpc, Gateway, BlockServer):
    for name_, (answer_, liar_) in BAD.items():
        CASES.append(("bad_%s_%s" % (kind_.__name__.lower(), name_), make_bad(kind_, name_, answer_, liar_)))


@case
def liar_among_good_answers(lab):
    """One wrong block in the middle: the source is dropped at once, and the rest comes from elsewhere."""
    t = tree(120)
    rpc = lab.add(Rpc(t.blocks, behave=lambda a, o, b: o.ok(other()) if a.ref == t.leaves[60] else None))
    bs = lab.add(BlockServer(t.blocks))
    h = lab.fetch([lab.plain(t)], opts(rpc, bs))
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    assert len(run.liars) == 1 and "127.0.0.1" in run.liars[0]["source"], run.liars
    n = settled(rpc)
    run = h.nar2([lab.cand(SMALL)], len(SMALL.content), ident=9)
    assert settled(rpc) == n and not run.liars


@case
def liars_all_around(lab):
    """Every source lies: each is named once, and the nar comes from its server."""
    t = SMALL
    lie = lambda a, o, b: o.ok(other())  # noqa: E731
    bad = [lab.add(k(t.blocks, behave=lie)) for k in (Rpc, Rpc, Gateway, Gateway, BlockServer, BlockServer)]
    nar = lab.plain(t)
    h = lab.fetch([nar], opts(*bad))
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    assert len(run.liars) == 6 and len(set(x["source"] for x in run.liars)) == 6, run.liars
    n = settled(*bad)
    same(h.nar2([lab.cand(t)], len(t.content), ident=9), t)
    assert settled(*bad) == n


@case
def swapped_blocks(lab):
    """Right blocks under wrong references are lies, too."""
    t = SMALL
    rpc = lab.add(Rpc(t.blocks, behave=lambda a, o, b: o.ok(t.blocks[t.leaves[(t.leaves.index(a.ref) + 1) % 41]])
                      if a.ref in t.leaves else None))
    h = lab.fetch([lab.plain(t)], opts(rpc))
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    assert len(run.liars) == 1


# --- bad CARs ---------------------------------------------------------------------------------------------

def sha_section(n):
    d = data(1000, n)
    return section(b"\x01\x55\x12\x20" + hashlib.sha256(d).digest(), d)


def good_sections(m):
    return list(m.sections())


def endless(make):
    def f(ask, out, m):
        out.conn.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        out.head("200 OK", "Transfer-Encoding: chunked")
        for i in range(40000):
            p = make(m, i)
            out.raw(b"%x\r\n" % len(p) + p + b"\r\n")
        return False
    return f


def car_of(make):
    return lambda ask, out, m: out.chunks(make(m))


def truncated(ask, out, m):
    car = m.car()
    return out.chunks([car[:len(car) // 2]], end=False)


BIG = bytes(900 * 1024)
CARS = {
    "foreign_blocks": car_of(lambda m: [car_header(m.root)] + [x for s in good_sections(m) for x in (s, sha_section(len(s)))]),
    "unasked_blocks": car_of(lambda m: [car_header(m.root)] + [
        x for i, s in enumerate(good_sections(m)) for x in (section(cid_bytes(blake(data(500, i))), data(500, i)), s)]),
    "all_blocks_twice": car_of(lambda m: [car_header(m.root)] + good_sections(m) * 2),
    "leaves_first": car_of(lambda m: [car_header(m.root)] + good_sections(m)[::-1]),
    "endless_unasked": endless(lambda m, i: car_header(m.root) if i == 0 else section(cid_bytes(struct.pack(">QQQQ", i, 0, 0, 0)), bytes(BLOCK))),
    "endless_small": endless(lambda m, i: car_header(m.root) if i == 0 else sha_section(i % 50) * 30),
    "endless_repeats": endless(lambda m, i: car_header(m.root) if i == 0 else b"".join(good_sections(m)[:2])),
    "endless_big": endless(lambda m, i: car_header(m.root) if i == 0 else section(cid_bytes(blake(BIG)), BIG)),
    "endless_first_section": endless(lambda m, i: car_header(m.root) + varint(1 << 62) if i == 0 else bytes(65536)),
    "cut_off": truncated,
    "cut_off_cleanly": car_of(lambda m: [m.car()[:-20000]]),
    "huge_varint": car_of(lambda m: [car_header(m.root), b"\xff" * 300]),
    "huge_varint_first": car_of(lambda m: [b"\xff" * 9 + b"\x01"]),
    "varint_of_zeros": car_of(lambda m: [car_header(m.root), b"\x80" * 70000]),
    "wrong_root": car_of(lambda m: [car_header(blake(b"x"))] + good_sections(m)),
    "two_roots": car_of(lambda m: [varint(0x60) + b"\xa2" + cbor_text("roots") + head(4, 2) + link(cid_bytes(m.root, CBOR)) * 2 +
                                   cbor_text("version") + b"\1"] + good_sections(m)),
    "zero_sections": car_of(lambda m: [car_header(m.root), b"\0" * 100000]),
    "zero_length_block": car_of(lambda m: [car_header(m.root)] + [section(cid_bytes(m.tree.root), b"")] + good_sections(m)),
    "version_2": car_of(lambda m: [b"\x0a\xa1gversion\x02"] + good_sections(m)),
    "no_header": car_of(lambda m: good_sections(m)),
    "header_only": car_of(lambda m: [car_header(m.root)]),
    "huge_header": car_of(lambda m: [varint(1 << 20), bytes(1 << 20)]),
    "wrong_blocks": car_of(lambda m: [car_header(m.root)] + [section(cid_bytes(r), other()) for r, _ in m.tree.order]),
    "one_wrong_block": car_of(lambda m: [car_header(m.root)] + [
        section(cid_bytes(m.tree.leaves[5]), other()) if i == 7 else s for i, s in enumerate(good_sections(m))]),
    "short_blocks": car_of(lambda m: [car_header(m.root)] + [section(cid_bytes(r), m.tree.blocks[r][:100]) for r, _ in m.tree.order]),
    "wrong_manifest_node": car_of(lambda m: [car_header(m.root), section(cid_bytes(m.root, CBOR), b"\xa0")] + good_sections(m)[1:]),
    "json": lambda a, o, m: o.reply("200 OK", b'{"Message":"x","Code":0,"Type":"error"}'),
    "empty": lambda a, o, m: o.reply("200 OK", b""),
    "not_found": lambda a, o, m: o.reply("404 Not Found", b"404 page not found"),
    "error_500": lambda a, o, m: o.reply("500 x", b'{"Message":"x","Code":0,"Type":"error"}'),
    "stream_error": lambda a, o, m: o.chunks([m.car()[:300000]], "Trailer: X-Stream-Error", trailer="X-Stream-Error: cut"),
    "drip": lambda a, o, m: bad_drip(a, o, m.car()[:600]),
    "header_bomb": lambda a, o, m: bad_header_bomb(a, o, None),
    "hang": lambda a, o, m: o.hang(),
    "reset": lambda a, o, m: o.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + m.car()[:100000]) or o.reset(),
}


def make_car(kind, answer):
    def f(lab):
        t = SMALL
        m = Manifest(t)
        src = lab.add(kind(t.blocks, export=lambda a, o: answer(a, o, m)))
        bs = lab.add(BlockServer(t.blocks, behave=late_for(kind)))
        h = lab.fetch([lab.plain(t)], opts(src, bs, block_timeout="1", seed="none"))
        run = h.nar2([lab.cand(t, manifest=m.cid)], len(t.content), timeout=15)
        same(run, t)
        assert len(run.liars) <= 1 and run.seconds < 6, (run.liars, run.seconds)
        assert src.count("dag/export") + src.count("format=car") >= 1, "no CAR was asked for"
        until(lambda: src.flying == 0 or src.sent > 16 << 20, 2)
        assert src.sent < 12 << 20, "%d MiB of a CAR for a nar of 1.3 MiB" % (src.sent >> 20)
        same(h.nar2([lab.cand(t, manifest=m.cid)], len(t.content), ident=8, timeout=15), t)
        lab.note = "%.1f s, %d KiB, liars: %d" % (run.seconds, src.sent >> 10, len(run.liars))
    return f


for name_, answer_ in CARS.items():
    CASES.append(("car_" + name_, make_car(Rpc, answer_)))
for name_ in ("foreign_blocks", "endless_unasked", "cut_off", "wrong_blocks", "json", "hang"):
    CASES.append(("car_gateway_" + name_, make_car(Gateway, CARS[name_])))


def manifests():
    t = SMALL
    yield "of_another_nar", Manifest(tree(41, 778, 2))
    yield "wrong_cap", Manifest(t, cap=tree(41, 778, 2).cap)
    yield "version_1", Manifest(t, version=1)
    yield "version_3", Manifest(t, version=3)
    yield "count_huge", Manifest(t, blocks=1 << 62)
    yield "count_too_large", Manifest(t, blocks=len(t.order) + 1)
    yield "count_too_small", Manifest(t, blocks=3)
    yield "count_one", Manifest(t, blocks=1)
    yield "count_none", Manifest(t, blocks=0)
    yield "raw_file", Manifest(t, file=cid_bytes(t.root))
    yield "file_of_cbor", Manifest(t, file=cid_bytes(t.root, CBOR))
    yield "file_of_sha", Manifest(t, file=b"\x01\x70\x12\x20" + bytes(32))
    yield "file_of_nobody", Manifest(t, file=cid_bytes(bytes(32), PB))
    yield "file_of_another", Manifest(t, file=cid_bytes(Manifest(tree(41, 778, 2)).order[1], PB))
    yield "bytes_behind", Manifest(t, more=b"\0")
    yield "some_links", Manifest(t, refs=t.leaves[:5])
    yield "foreign_links", Manifest(t, refs=[blake(b"%d" % i) for i in range(900)])
    yield "small_nodes", Manifest(t, full=10)
    yield "other_order", Manifest(t, refs=t.leaves[::-1] + [t.root])
    m = Manifest(t)
    node = head(5, 2) + cbor_text("level") + b"\0" + cbor_text("links") + head(4, 1) + link(cid_bytes(m.root, CBOR))
    m.nodes[blake(node)] = node  # as manifests were once
    m.root, m.order = blake(node), [blake(node)] + m.order
    m.cid = cid(m.root, CBOR)
    yield "no_root_node", m
    m = Manifest(t)
    m.nodes = {m.root: b"\xa1avy"}
    yield "wrong_hash", m
    m = Manifest(t)
    deep = b"\x81" * 100000
    m.root = blake(deep)
    m.nodes, m.order, m.cid = {m.root: deep}, [m.root], cid(m.root, CBOR)
    yield "nested_arrays", m
    m, high = Manifest(t), Manifest(t)
    top, size = high.order[1], len(t.order) * BLOCK
    for _ in range(40):  # a chain of nodes, each with one link
        node = file_node([(cid_bytes(top, PB), size, size)])[0]
        top = blake(node)
        high.nodes[top], high.kinds[top] = node, PB
    chain = Manifest(t, file=cid_bytes(top, PB))
    chain.nodes.update(high.nodes)
    chain.kinds.update(high.kinds)
    chain.order, chain.file = [chain.root] + [h for h in high.nodes if h != high.root][::-1] + m.refs, cid(top, PB)
    yield "chain", chain


# Roots that name no file which could be this nar's.
FILELESS = ("version_1", "version_3", "count_huge", "count_one", "count_none", "raw_file", "file_of_cbor", "file_of_sha",
            "bytes_behind", "foreign_links", "no_root_node", "wrong_hash", "nested_arrays")


def make_manifest(name, files):
    def f(lab):
        t, m = SMALL, dict(manifests())[name]
        src = lab.add(Rpc({**t.blocks, **tree(41, 778, 2).blocks}, manifests=[m], files=files))
        h = lab.fetch([lab.plain(t)], opts(src, block_timeout="1"))
        run = h.nar2([lab.cand(t, manifest=m.cid)], len(t.content), timeout=15)
        same(run, t)
        assert run.seconds < 6 and src.streams() == (name not in FILELESS), (run.seconds, src.streams())
        assert len(run.liars) <= (name == "wrong_hash"), run.liars
        lab.note = "%d single blocks, missed %d" % (len(src.asked()), run.end["missed"])
    return f


for name_ in dict(manifests()):
    CASES.append(("manifest_" + name_, make_manifest(name_, False)))
    CASES.append(("manifest_with_files_" + name_, make_manifest(name_, True)))


# --- the file of a manifest -------------------------------------------------------------------------------

def exports(src):
    return src.count("dag/export") + src.count("format=car")


@case
def file_in_one_request(lab):
    """The root, the file, and nothing else."""
    t = tree(600, 5)
    m = Manifest(t)
    for make in (Rpc, Gateway):
        src, nar = lab.add(make(t.blocks, manifests=[m], files=True)), lab.add(NarServer({}))
        h = lab.fetch([nar], opts(src))
        run = h.nar2([lab.cand(t, manifest=m.cid)], len(t.content))
        same(run, t, missed=0, repaired=0)
        assert src.streams() == 1 and exports(src) == 0 and not nar.gets(), [r.target for r in src.requests if "raw" not in r.target]
        assert len(src.asked()) <= 40, "%d requests for blocks" % len(src.asked())
        lab.note += "%s: %d requests; " % (make.__name__, len(src.requests))


@case
def file_not_of_other_daemons(lab):
    """js-ipfs ends when a client leaves in the middle of a file: whoever does not say that it is Kubo is asked for the CAR."""
    t = tree(600, 5)
    m = Manifest(t)
    src = lab.add(Rpc(t.blocks, manifests=[m], files=True))
    src.kubo = False
    h = lab.fetch([lab.add(NarServer({}))], opts(src))
    same(h.nar2([lab.cand(t, manifest=m.cid)], len(t.content)), t, missed=0, repaired=0)
    assert src.streams() == 0 and exports(src) == 1, (src.streams(), exports(src))


@case
def file_and_the_next(lab):
    """Two nars in a row on one daemon: nothing of the first is left in the way."""
    ts = [tree(300, 5, 40 + i) for i in range(2)]
    ms = [Manifest(t) for t in ts]
    rpc = lab.add(Rpc({**ts[0].blocks, **ts[1].blocks}, manifests=ms, files=True))
    h = lab.fetch([lab.add(NarServer({}))], opts(rpc))
    for i in range(4):
        same(h.nar2([lab.cand(ts[i % 2], manifest=ms[i % 2].cid)], len(ts[i % 2].content), ident=i), ts[i % 2], missed=0)
        assert rpc.streams() == i + 1 and exports(rpc) == 0, (i, rpc.streams(), exports(rpc))


@case
def file_that_repeats(lab):
    """A block that stands there often may be in the stream as often, or once."""
    content = b"".join(data(BLOCK, i % 3) for i in range(60)) + b"x"
    t = Tree(content)
    for refs in ([r for r, _ in t.order], list(dict.fromkeys(r for r, _ in t.order))):
        m = Manifest(t, refs=refs)
        rpc = lab.add(Rpc(t.blocks, manifests=[m], files=True))
        h = lab.fetch([lab.add(NarServer({}))], opts(rpc))
        same(h.nar2([lab.cand(t, manifest=m.cid)], len(content)), t, missed=0)
        assert rpc.streams() == 1


def stalls(m, blocks, n):
    def answer(ask, out):
        out.chunks([blocks[r] for r in m.refs[:n]], end=False)
        return out.hang()
    return answer


@case
def file_stalls(lab):
    """What the stream does not bring in time is asked for by block, where it is."""
    t = tree(200)
    m = Manifest(t)
    for elsewhere in (False, True):
        first = t.only(m.refs[:60])
        rpc = lab.add(Rpc(first if elsewhere else t.blocks, manifests=[m], files=stalls(m, t.blocks, 60)))
        bs, nar = lab.add(BlockServer(t.blocks)), lab.add(NarServer({}))
        h = lab.fetch([nar], opts(rpc, bs, block_timeout="2"))
        run = h.nar2([lab.cand(t, manifest=m.cid)], len(t.content))
        same(run, t)
        assert run.seconds < 6 and rpc.streams() == 1 and not run.liars, (run.seconds, rpc.streams())
        assert set(m.refs[70:]) <= set((bs if elsewhere else rpc).asked())
        lab.note += "%.1f s; " % run.seconds


@case
def file_lacks_blocks(lab):
    """Kubo stops at the first block that it does not have: those behind it come one by one."""
    t = tree(200)
    m = Manifest(t)
    lacks = t.leaves[30:34]
    rpc, bs = lab.add(Rpc(t.without(lacks), manifests=[m], files=True)), lab.add(BlockServer(t.blocks))
    h = lab.fetch([lab.add(NarServer({}))], opts(rpc, bs))
    run = h.nar2([lab.cand(t, manifest=m.cid)], len(t.content))
    same(run, t)
    assert set(lacks) <= set(bs.asked()) and rpc.streams() == 1 and not run.liars


def missing_file(name, cars):
    """The root is there, the nodes of the file are not: the CAR follows, or blocks do."""
    def f(lab):
        t = tree(120)
        m = Manifest(t)
        for make in (Rpc, Gateway):
            src = lab.add(make(t.blocks, manifests=[m], files=lambda a, o: o.server.absent(o),
                               export=None if cars else lambda a, o: o.server.absent(o)))
            h = lab.fetch([lab.add(NarServer({}))], opts(src))
            run = h.nar2([lab.cand(t, manifest=m.cid)], len(t.content))
            same(run, t, missed=0)
            assert src.streams() == 1 and exports(src) == 1 and run.seconds < 3, (src.streams(), exports(src), run.seconds)
            assert cars or len(src.asked()) >= len(t.blocks)
    CASES.append(("file_without_nodes_" + name, f))


missing_file("but_a_car", True)
missing_file("and_no_car", False)


def unknown_to(name, status):
    """Who does not do this is asked for the CAR, and never again for a file."""
    def f(lab):
        ts = [tree(120, 777, 40 + i) for i in range(2)]
        ms = [Manifest(t) for t in ts]
        rpc = lab.add(Rpc({**ts[0].blocks, **ts[1].blocks}, manifests=ms, files=lambda a, o: o.reply(status, b"no")))
        h = lab.fetch([lab.add(NarServer({}))], opts(rpc))
        for i, (t, m) in enumerate(zip(ts, ms)):
            same(h.nar2([lab.cand(t, manifest=m.cid)], len(t.content), ident=i), t, missed=0)
            assert (rpc.streams(), exports(rpc)) == (1, i + 1), (rpc.streams(), exports(rpc))
    CASES.append(("file_unknown_" + name, f))


for status_ in ("403 Forbidden", "404 Not Found", "405 Method Not Allowed"):
    unknown_to(status_[:3], status_)


@case
def file_of_who_gives_no_cars(lab):
    """As the first nar has shown, whose file is not there: of the next ones it still gives files."""
    ts = [tree(300, 5, 40 + i) for i in range(2)]
    ms = [Manifest(t) for t in ts]
    for make in (Rpc, Gateway):
        src = lab.add(make({**ts[0].blocks, **ts[1].blocks}, manifests=ms, files=True, export=lambda a, o: o.reply("403 x", b"no")))
        give = src.file
        src.file = lambda ask, out, text, *more: src.absent(out) if text == ms[0].file else give(ask, out, text, *more)
        h = lab.fetch([lab.add(NarServer({}))], opts(src))
        for i, (t, m) in enumerate(zip(ts, ms)):
            same(h.nar2([lab.cand(t, manifest=m.cid)], len(t.content), ident=i), t, missed=0)
            assert (src.streams(), exports(src)) == (i + 1, 1), (i, src.streams(), exports(src))


@case
def file_of_one_that_was_busy(lab):
    """What a daemon is shows when it tells its version, not when it is too busy for that."""
    ts = [tree(60, 5, 50 + i) for i in range(3)]
    ms = [Manifest(t) for t in ts]
    for say in (lambda o: o.reply("503 x", b""), lambda o: o.reset()):
        asked = []

        def first(a, o):
            if "version" in a.path:
                asked.append(1)
                return say(o) if len(asked) == 1 else None
            return None
        src = lab.add(Rpc({r: b for t in ts for r, b in t.blocks.items()}, manifests=ms, files=True, first=first))
        h = lab.fetch([lab.plain(ts[0])], opts(src), stall=2000)
        for i, (t, m) in enumerate(zip(ts, ms)):
            same(h.nar2([lab.cand(t, manifest=m.cid)], len(t.content), ident=i), t)
        assert src.streams() >= 1 and len(asked) == 2, (src.streams(), exports(src), asked)


@case
def file_of_many_zeros(lab):
    """A block that stands there a thousand times is wanted once, and is no junk."""
    t = Tree(tree(40).content + bytes(1500 * BLOCK) + tree(100, 6).content)
    m = Manifest(t)
    for make in (Rpc, Gateway):
        src = lab.add(make(t.blocks, manifests=[m], files=True))
        h = lab.fetch([lab.add(NarServer({}))], opts(src))
        same(h.nar2([lab.cand(t, manifest=m.cid)], len(t.content)), t, missed=0)
        assert (src.streams(), exports(src)) == (1, 0), (src.streams(), exports(src))


@case
def file_redirected(lab):
    """Not followed; the CAR or blocks of the same source follow."""
    t = tree(120)
    m = Manifest(t)
    for make in (Rpc, Gateway):
        trap = lab.add(make(t.blocks, manifests=[m], files=True))
        for code in ("301 x", "302 x", "303 x", "307 x", "308 x"):
            src = lab.add(make(t.blocks, manifests=[m],
                               files=lambda a, o: o.reply(code, b"", "Location: " + trap.url + a.target)))
            h = lab.fetch([lab.add(NarServer({}))], opts(src))
            same(h.nar2([lab.cand(t, manifest=m.cid)], len(t.content)), t)
            assert trap.connections == 0 and src.streams() == 1


def bytes_of(make):
    return lambda ask, out, m: out.chunks(make(m, m.stream()[0]), "Trailer: X-Stream-Error")


def endless_bytes(piece):
    def f(ask, out, m):
        out.conn.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        out.head("200 OK", "Transfer-Encoding: chunked")
        for p in piece(m):
            out.raw(b"%x\r\n" % len(p) + p + b"\r\n")
        for _ in range(4000):
            out.raw(b"10000\r\n" + bytes(65536) + b"\r\n")
        return False
    return f


FILES = {
    "cut_off": lambda a, o, m: o.chunks([b"".join(m.stream()[0])[:500000]], end=False),
    "cut_off_cleanly": bytes_of(lambda m, p: p[:20]),
    "cut_off_in_a_block": bytes_of(lambda m, p: p[:20] + [p[20][:100]]),
    "cut_off_by_length": lambda a, o, m: o.head("200 OK", "Content-Length: %d" % (len(m.refs) * BLOCK)) or
        o.raw(b"".join(m.stream()[0])[:500000]),
    "too_long": bytes_of(lambda m, p: p + [other()] * 9),
    "one_byte_too_long": bytes_of(lambda m, p: p + [b"x"]),
    "one_byte_in_front": bytes_of(lambda m, p: [b"x"] + p),
    "one_byte_less_in_the_middle": bytes_of(lambda m, p: p[:9] + [p[9][1:]] + p[10:]),
    "wrong_in_the_middle": bytes_of(lambda m, p: p[:9] + [other()] + p[10:]),
    "wrong_from_the_middle": bytes_of(lambda m, p: p[:9] + [data(BLOCK, i) for i in range(len(p) - 9)]),
    "wrong_all": bytes_of(lambda m, p: [data(BLOCK, i) for i in range(len(p))]),
    "of_another_nar": lambda a, o, m: o.chunks(Manifest(tree(41, 778, 2)).stream()[0]),
    "backwards": bytes_of(lambda m, p: p[::-1]),
    "the_first_again_and_again": bytes_of(lambda m, p: p[:1] * len(p)),
    "json": lambda a, o, m: o.reply("200 OK", b'{"Message":"x","Code":0,"Type":"error"}'),
    "empty": lambda a, o, m: o.reply("200 OK", b""),
    "error_500": lambda a, o, m: o.reply("500 x", b'{"Message":"x","Code":0,"Type":"error"}'),
    "bad_request": lambda a, o, m: o.reply("400 x", b"400"),
    "busy": lambda a, o, m: o.reply("429 x", b"", "Retry-After: 1000"),
    "a_part": lambda a, o, m: o.reply("206 Partial Content", m.stream()[0][0], "Content-Range: bytes 0-32767/1000000"),
    "stream_error": lambda a, o, m: o.chunks(m.stream()[0][:20], "Trailer: X-Stream-Error", trailer="X-Stream-Error: cut"),
    "stream_error_at_once": lambda a, o, m: o.chunks([], "Trailer: X-Stream-Error", trailer="X-Stream-Error: not found"),
    "stream_error_behind_it": lambda a, o, m: o.chunks(m.stream()[0], "Trailer: X-Stream-Error", trailer="X-Stream-Error: x"),
    "trailer_bomb": lambda a, o, m: o.chunks(m.stream()[0], end=False) or o.raw(b"0\r\n" + b"X: " + b"y" * 6000000),
    "endless": endless_bytes(lambda m: []),
    "endless_behind_it": endless_bytes(lambda m: m.stream()[0]),
    "drip": lambda a, o, m: bad_drip(a, o, m.stream()[0][0]),
    "header_bomb": lambda a, o, m: bad_header_bomb(a, o, None),
    "hang": lambda a, o, m: o.hang(),
    "hang_behind_the_head": lambda a, o, m: o.head("200 OK", "Transfer-Encoding: chunked") or o.hang(),
    "reset": lambda a, o, m: o.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + m.stream()[0][0] * 3) or o.reset(),
    "gzip": lambda a, o, m: o.reply("200 OK", b"".join(m.stream()[0]), "Content-Encoding: gzip"),
}


def make_file(kind, answer):
    """Nobody is a liar by a stream that has no hashes; the nar comes, in time, and so does the next."""
    def f(lab):
        t = SMALL
        m = Manifest(t)
        src = lab.add(kind(t.blocks, manifests=[m], files=lambda a, o: answer(a, o, m)))
        bs = lab.add(BlockServer(t.blocks, behave=late_for(kind)))
        h = lab.fetch([lab.plain(t)], opts(src, bs, block_timeout="1", seed="none"))
        run = h.nar2([lab.cand(t, manifest=m.cid)], len(t.content), timeout=15)
        same(run, t)
        assert not run.liars and run.seconds < 6, (run.liars, run.seconds)
        assert src.streams() == 1, "%d times asked for the file" % src.streams()
        until(lambda: src.flying == 0 or src.sent > 16 << 20, 2)
        assert src.sent < 12 << 20, "%d MiB of a file for a nar of 1.3 MiB" % (src.sent >> 20)
        again = h.nar2([lab.cand(t, manifest=m.cid)], len(t.content), ident=8, timeout=15)
        same(again, t)
        assert not again.liars and again.seconds < 6, (again.liars, again.seconds)
        lab.note = "%.1f s, %d KiB, %d CARs" % (run.seconds, src.sent >> 10, exports(src))
    return f


for name_, answer_ in FILES.items():
    CASES.append(("file_" + name_, make_file(Rpc, answer_)))
for name_ in ("cut_off", "cut_off_cleanly", "too_long", "wrong_in_the_middle", "wrong_all", "json", "error_500", "endless", "hang"):
    CASES.append(("file_gateway_" + name_, make_file(Gateway, FILES[name_])))


@case
def memory_file_waits(lab):
    """The reader sleeps: the stream waits within the bounds of memory, goes on, and nothing is asked for besides."""
    t = tree(1100, 99)
    m = Manifest(t)
    for big in (False, True):
        def answer(ask, out):
            p = m.stream()[0]
            return out.chunks([b"".join(p[i:i + 32]) for i in range(0, len(p), 32)] if big else p)
        rpc = lab.add(Rpc(t.blocks, manifests=[m], files=answer))
        h = lab.fetch([lab.add(NarServer({}))], opts(rpc))
        run = h.nar2([lab.cand(t, manifest=m.cid)], len(t.content), slow=1.5)
        same(run, t, missed=0)
        assert rpc.streams() == 1 and exports(rpc) == 0 and run.seconds < 6, (run.seconds, rpc.streams(), exports(rpc))
        with open("/proc/%d/stat" % h.pid) as f:
            used = sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")
        assert used < 1, "%.2f s of the processor while it waited" % used
        lab.note += "RssAnon %d KiB, %d requests for blocks, %.2f s; " % (lab.peak, len(rpc.asked()), used)


def beside(lab, t, gateway, host=None):
    """A daemon that is slow but for files, and a gateway: the run, and when after its first question the daemon was asked for
    the file."""
    m = Manifest(t)
    rpc = lab.add(Rpc(t.blocks, manifests=[m], files=True, behave=lambda a, o, b: o.wait(1) or None))
    if callable(gateway):
        gateway = lab.add(gateway(m))
    place = gateway if isinstance(gateway, str) else gateway.url if host is None else "http://%s:%d" % (host, gateway.port)
    h = lab.fetch([lab.add(NarServer({}))], opts(rpc) + [("ipfs-gateway", place)])
    run = h.nar2([lab.cand(t, manifest=m.cid)], len(t.content), resolve={host: ["127.0.0.1"]} if host else None)
    same(run, t, missed=0)
    assert not run.liars
    cats = [r.at for r in rpc.requests if "/cat?" in r.target]
    return run, rpc, gateway, cats[0] - min(r.at for r in rpc.requests if "/block/get" in r.target) if cats else None


@case
def gateway_beside_the_daemon_streams(lab):
    t = tree(300)
    run, rpc, gw, _ = beside(lab, t, lambda m: Gateway(t.blocks, manifests=[m], files=True))
    assert (gw.streams(), rpc.streams(), exports(gw), exports(rpc)) == (1, 0, 0, 0), (gw.streams(), rpc.streams())
    assert gw.count("/ipfs/", "HEAD") == 1


@case
def gateway_elsewhere_does_not(lab):
    t = tree(300)
    run, rpc, gw, _ = beside(lab, t, lambda m: Gateway(t.blocks, manifests=[m], files=True), host="gateway.test")
    assert (gw.streams(), rpc.streams()) == (0, 1), (gw.streams(), rpc.streams())


def useless_beside(name, gateway, most, asked=0):
    """The gateway beside the daemon is none that helps: the daemon's own stream follows, in MOST seconds."""
    def f(lab):
        t = tree(300)
        where = "http://127.0.0.1:%d" % lab.refusing() if gateway is None else lambda m: gateway(t, m)
        run, rpc, gw, late = beside(lab, t, where)
        assert rpc.streams() == 1 and late is not None and late < most, (rpc.streams(), late)
        assert gateway is None or gw.streams() == asked, gw.streams()
        lab.note = "after %.2f s" % late
    CASES.append(("gateway_beside_" + name, f))


useless_beside("is_dead", None, 2)
useless_beside("lacks_the_root", lambda t, m: Gateway({}, manifests=[m], files=True), 2)
useless_beside("hangs", lambda t, m: Gateway(t.blocks, head=lambda a, o: o.hang(), behave=lambda a, o, b: o.hang(),
                                             files=lambda a, o: o.hang(), manifests=[m]), 2)
useless_beside("gives_no_files", lambda t, m: Gateway(t.blocks, manifests=[m], files=lambda a, o: o.reply("403 x", b""),
                                                      export=lambda a, o: o.reply("403 x", b"")), 2, 1)


@case
def root_that_lies_holds_nobody_up(lab):
    """Who lies about a manifest's root is dropped while it is waited for: the others are asked at once."""
    t = tree(200)
    m = Manifest(t)
    m.nodes[m.root] = m.nodes[m.root] + b"x"
    for other_kind in (BlockServer, None):
        rpc = lab.add(Rpc(t.blocks, manifests=[m], files=True))
        more = [lab.add(other_kind(t.blocks))] if other_kind else []
        h = lab.fetch([lab.add(NarServer({})) if more else lab.plain(t)], opts(rpc, *more))
        run = h.nar2([lab.cand(t, manifest=m.cid)], len(t.content))
        same(run, t)
        with open("/proc/%d/stat" % h.pid) as f:
            used = sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")
        assert len(run.liars) == 1 and run.seconds < 2 and used < 0.5, (run.liars, run.seconds, used)
        lab.note += "%.1f s; " % run.seconds


@case
def root_that_is_searched_for(lab):
    """A gateway that looks for the first thing it is asked for longer than the root is waited for is none that is gone."""
    t = tree(60)
    m = Manifest(t)
    found = []

    class Slow(Gateway):
        def node(self, out, ref):
            out.wait(0 if found else 1.5)
            found.append(1)
            return super().node(out, ref)
    gw = lab.add(Slow(t.blocks, manifests=[m], files=True, behave=lambda a, o, b: None if found else (o.wait(1.5), None)[1]))
    nar = lab.plain(t)
    h = lab.fetch([nar], opts(gw))
    for i in range(2):
        same(h.nar2([lab.cand(t, manifest=m.cid)], len(t.content), ident=i), t)
        assert until(lambda: found)
    assert gw.streams() >= 1 and not nar.gets(), (gw.streams(), len(nar.gets()), h.log)


@case
def manifest_cids_that_are_none(lab):
    t = SMALL
    rpc = lab.add(Rpc(t.blocks))
    h = lab.fetch([lab.plain(t)], opts(rpc))
    for i, text in enumerate(("x", "b" * 62, cid(t.root), "B" + cid(t.root, CBOR)[1:].upper(), "bafkqaaa", "Qm" + "a" * 44,
                              "../../../../etc/passwd", cid(t.root, CBOR) [:-1], "b%00", "b?format=raw&x=" + "y" * 40)):
        same(h.nar2([lab.cand(t, manifest=text)], len(t.content), ident=i), t)
    assert not rpc.count("dag/export"), [r.target for r in rpc.requests if "export" in r.target]


# --- bad capabilities and trees ---------------------------------------------------------------------------

def node(*pairs):
    return b"".join(r + k for r, k in pairs).ljust(BLOCK, b"\0")


class Made:
    """A tree made by hand: blocks, and its URN."""

    def __init__(self):
        self.blocks = {}

    def put(self, plain, level, key=None):
        ref, key, block = seal(plain, level, key)
        self.blocks[ref] = block
        return ref, key

    def done(self, level, root, size=0x0f):
        self.urn = urn(level, root[0], root[1], size)
        return self


def padded(content):
    return content + b"\x80" + bytes(BLOCK - 1 - len(content) % BLOCK)


def trees():
    """name -> what is served as blocks and named as capability instead of the right one."""
    full, rng = data(BLOCK, 8), random.Random(3)
    m = Made()
    a, b, z = m.put(full, 0), m.put(full[::-1], 0), m.put(padded(b"end"), 0)
    yield "null_pairs_in_the_middle", m.done(1, m.put(node(a, b, (bytes(32), bytes(32)), z), 1))
    m = Made()
    a, z = m.put(full, 0), m.put(padded(b"end"), 0)
    yield "null_reference_with_a_key", m.done(1, m.put(node(a, z, (bytes(32), b"k" * 32)), 1))
    m = Made()
    yield "empty_node", m.done(1, m.put(bytes(BLOCK), 1))
    m = Made()
    yield "garbage_node", m.done(1, m.put(rng.randbytes(BLOCK), 1))
    m = Made()
    a, z = m.put(full, 0), m.put(full[::-1], 0)
    yield "no_padding", m.done(1, m.put(node(a, z), 1))
    m = Made()
    a, z = m.put(full, 0), m.put(b"abc" + bytes(BLOCK - 3), 0)
    yield "zeros_for_padding", m.done(1, m.put(node(a, z), 1))
    m = Made()
    a, z = m.put(full, 0), m.put(b"abc\x80" + bytes(20000) + b"\x01" + bytes(BLOCK - 20005), 0)
    yield "junk_behind_padding", m.done(1, m.put(node(a, z), 1))
    m = Made()
    a = m.put(b"x" + bytes(BLOCK - 1), 0)
    yield "one_bad_leaf", m.done(0, a)
    m = Made()
    a, z = m.put(full, 0), m.put(padded(b"end"), 0)
    r = m.put(node(a, z), 1)
    yield "wrong_root_key", m.done(1, (r[0], bytes(31) + b"\1"))
    m = Made()
    a, z = m.put(full, 0), m.put(padded(b"end"), 0)
    r = m.put(node(a, z), 1, key=b"q" * 32)
    yield "root_by_another_key", m.done(1, r)
    m = Made()
    a, z = m.put(full, 0), m.put(padded(b"end"), 0)
    yield "level_too_low", m.done(0, m.put(node(a, z), 1))
    m = Made()
    a, z = m.put(full, 0), m.put(padded(b"end"), 0)
    yield "level_too_high", m.done(2, m.put(node(a, z), 2))
    m = Made()
    x = m.put(padded(b"end"), 0)
    for i in range(1, 41):
        x = m.put(node(x), i)
        if i in (5, 6, 40):
            yield "chain_of_%d" % i, chain(m.blocks, i, x)
    m = Made()
    x = m.put(full, 0)
    for i in range(1, 5):
        x = m.put(node(*[x] * ARITY), i)
        if i > 1:
            yield "bomb_of_%d" % i, chain(m.blocks, i, x)
    m = Made()
    x = m.put(node(*[(blake(b"%d" % i), blake(b"k%d" % i)) for i in range(ARITY)]), 2)
    yield "blocks_that_nobody_has", m.done(2, x)
    yield "other_content", tree(41, 778, 2)
    yield "shorter_content", tree(20, 5, 2)
    yield "longer_content", tree(120)
    yield "small_blocks", Tree(SMALL.content, 1024)
    yield "secret_was_used", secret()


def chain(blocks, level, root):
    m = Made()
    m.blocks = dict(blocks)
    return m.done(level, root)


def secret():
    """The same nar with a convergence secret: leaves of the file never fit, but blocks are as good as any."""
    m = Made()
    pairs, content = [], padded(SMALL.content)
    for i in range(0, len(content), BLOCK):
        pairs.append(m.put(content[i:i + BLOCK], 0, blake(content[i:i + BLOCK], b"s" * 32)))
    return m.done(1, m.put(node(*pairs), 1))


def make_tree(name, kind):
    def f(lab):
        made = dict(trees())[name]
        src, nar = lab.add(kind(made.blocks)), lab.plain(SMALL)
        h = lab.fetch([nar], opts(src, block_timeout="1", publish_again="no"))
        run = arrives(h, [lab.cand(SMALL, urn=made.urn)], SMALL, timeout=15)
        assert not run.liars, run.liars
        assert run.seconds < 8, run.seconds
        assert len(src.requests) < 1000 or name == "small_blocks", len(src.requests)
        if name not in ("other_content", "shorter_content", "longer_content", "secret_was_used", "small_blocks"):
            assert h.log, "nothing was said about it"
        lab.note = h.log[0][:110] if h.log else ""
        same(h.nar2([lab.cand(SMALL, urn="")], len(SMALL.content), ident=30), SMALL)
    return f


for name_ in [n for n, _ in trees()]:
    CASES.append(("tree_" + name_, make_tree(name_, Rpc)))
for name_ in ("null_pairs_in_the_middle", "junk_behind_padding", "wrong_root_key", "bomb_of_3"):
    CASES.append(("tree_gateway_" + name_, make_tree(name_, Gateway)))
    CASES.append(("tree_block_server_" + name_, make_tree(name_, BlockServer)))


@case
def urns_that_are_none(lab):
    t = SMALL
    raw = t.cap
    spare = t.urn[:-1] + ("B" if t.urn[-1] == "A" else chr(ord(t.urn[-1]) + 1))
    bad = {"erisx2": t.urn.replace("urn:eris:", "urn:erisx2:"), "erisx3": t.urn.replace("urn:eris:", "urn:erisx3:"), "short": t.urn[:-2],
           "lower case": t.urn.lower(), "spare bits": spare, "empty": "urn:eris:", "junk": "junk", "no prefix": b32(raw),
           "size 11": "urn:eris:" + b32(b"\x0b" + raw[1:]), "size 255": "urn:eris:" + b32(b"\xff" + raw[1:]),
           "level 255": "urn:eris:" + b32(raw[:1] + b"\xff" + raw[2:]), "padding": t.urn[:-2] + "==", "space": t.urn[:-1] + " "}
    nar, rpc = lab.plain(t), lab.add(Rpc(t.blocks))
    h = lab.fetch([nar], opts(rpc, publish_again="no"))
    for i, (name, text) in enumerate(bad.items()):
        text = text[:115]
        before, lines = len(rpc.asked()), len(h.log)
        run = h.nar2([lab.cand(t, urn=text)], len(t.content), ident=i)
        same(run, t)
        time.sleep(0.02)
        h.drain_log()
        assert len(rpc.asked()) == before, (name, len(rpc.asked()) - before)
        assert len(h.log) > lines, "%s: nothing was said" % name
    assert any("erisx2" in line for line in h.log), h.log


@case
def wrong_size_is_bounded(lab):
    """A tree as large as it likes: what is written stays below max_bytes, what is asked for below NarSize x 1.02 + 1 MiB."""
    t, big = SMALL, tree(600, 5)
    rpc = lab.add(Rpc(big.blocks))
    h = lab.fetch([lab.plain(t)], opts(rpc))
    run = h.nar2([lab.cand(t, urn=big.urn)], len(t.content), most=len(t.content))
    assert len(run.data) <= len(t.content)
    limit = (len(t.content) * 1.02 + (1 << 20)) / BLOCK + 70
    assert len(set(rpc.asked())) <= limit, "%d blocks" % len(set(rpc.asked()))
    if run.end["status"] != DONE:
        same(h.nar2([lab.cand(t, urn="")], len(t.content), ident=8), t)


# --- Range ------------------------------------------------------------------------------------------------

def ranged(lab, hook=None, files=None, lacks=range(20, 40), **kw):
    """Leaves LACKS are only in the file; an order; (run, nar server, fetcher)."""
    t = tree(200)
    rpc = lab.add(Rpc(t.without([t.leaves[i] for i in lacks])))
    nar = lab.add(NarServer(files or {"/nar/x": t.content}, hook=hook, **kw))
    h = lab.fetch([nar], opts(rpc, seed="none", publish_again="no", block_timeout="1"), stall=1500)
    return t, rpc, nar, h


@case
def range_other_encoding(lab):
    """Another file under that URL: no blocks from there, no liar; a second place has the right one."""
    t, rpc, nar, h = ranged(lab, files={"/nar/x": data(len(tree(200).content), 9)})
    good = lab.plain(t)
    run = h.nar2([lab.cand(t), lab.cand(t, url=good.url + "/nar/x")], len(t.content))
    assert not run.liars
    if run.end["status"] == DONE and run.data != t.content:
        assert run.data == nar.files["/nar/x"], "a mixture of two encodings"
    else:
        same(run, t)
    # as much was never fetched in vain: one or two runs of leaves, not all
    lab.note = "%d KiB from there" % (nar.sent >> 10)


@case
def range_other_encoding_blocks_known(lab):
    """The same, one place only: the whole of that file is what the broker gets to judge, or nothing."""
    t, rpc, nar, h = ranged(lab, files={"/nar/x": data(5 << 20, 9)})
    run = h.nar2([lab.cand(t)], len(t.content))
    assert not run.liars
    assert run.end["status"] != DONE or run.data == nar.files["/nar/x"], "a mixture of two encodings"


@case
def range_other_size(lab):
    t, rpc, nar, h = ranged(lab, files={"/nar/x": tree(200).content[:3 << 20]})
    run = h.nar2([lab.cand(t)], len(t.content))
    assert not run.liars and (run.end["status"] != DONE or run.data in (t.content, nar.files["/nar/x"]))


def range_lie(name, hook, least=0):
    def f(lab):
        t, rpc, nar, h = ranged(lab, hook=hook)
        run = arrives(h, [lab.cand(t)], t)
        assert not run.liars and run.seconds < 8, (run.liars, run.seconds)
        lab.note = "%.1f s, %d requests" % (run.seconds, len(nar.requests))
    CASES.append(("range_" + name, f))


def only_ranges(answer):
    def hook(ask, out):
        r = ask.range()
        if r is None or ask.method != "GET":
            return None
        whole = out.server.files["/nar/x"]
        return answer(ask, out, whole, r[0], min(len(whole), (len(whole) if r[1] is None else r[1] + 1)))
    return hook


def part(out, body, text):
    return out.reply("206 Partial Content", body, "Content-Range: " + text)


for name_, answer_ in {
    "wrong_content_range": lambda a, o, w, s, e: part(o, w[s:e], "bytes %d-%d/%d" % (s + 1, e, len(w))),
    "content_range_from_0": lambda a, o, w, s, e: part(o, w[:e - s], "bytes 0-%d/%d" % (e - s - 1, len(w))),
    "no_content_range": lambda a, o, w, s, e: o.reply("206 Partial Content", w[s:e]),
    "garbage_content_range": lambda a, o, w, s, e: part(o, w[s:e], "bytes 99999999999999999999999-0/-1"),
    "total_unknown": lambda a, o, w, s, e: part(o, w[s:e], "bytes %d-%d/*" % (s, e - 1)),
    "wrong_total": lambda a, o, w, s, e: part(o, w[s:e], "bytes %d-%d/%d" % (s, e - 1, len(w) + 5)),
    "more_than_asked": lambda a, o, w, s, e: part(o, w[s:], "bytes %d-%d/%d" % (s, len(w) - 1, len(w))),
    "less_than_asked": lambda a, o, w, s, e: part(o, w[s:s + 40000], "bytes %d-%d/%d" % (s, s + 39999, len(w))),
    "cut_off": lambda a, o, w, s, e: o.raw(b"HTTP/1.1 206 x\r\nContent-Length: %d\r\nContent-Range: bytes %d-%d/%d\r\n\r\n" % (
        e - s, s, e - 1, len(w)) + w[s:s + (e - s) // 2]),
    "multipart": lambda a, o, w, s, e: o.reply("206 Partial Content", b"--x\r\n\r\n" + w[s:e] + b"\r\n--x--\r\n",
                                               "Content-Type: multipart/byteranges; boundary=x"),
    "416": lambda a, o, w, s, e: o.reply("416 Range Not Satisfiable", b"", "Content-Range: bytes */%d" % len(w)),
    "416_without_total": lambda a, o, w, s, e: o.reply("416 Range Not Satisfiable", b""),
    "gzip": lambda a, o, w, s, e: o.reply("206 Partial Content", w[s:e], "Content-Range: bytes %d-%d/%d" % (s, e - 1, len(w)),
                                          "Content-Encoding: gzip"),
    "403": lambda a, o, w, s, e: o.reply("403 Forbidden", b"no ranges here"),
    "429_then_good": lambda a, o, w, s, e: o.reply("429 x", b"", "Retry-After: 1") if len(o.server.requests) < 2 else None,
    "503": lambda a, o, w, s, e: o.reply("503 x", b"", "Retry-After: 1"),
    "redirect_loop": lambda a, o, w, s, e: o.reply("302 x", b"", "Location: " + a.target),
    "200_garbage": lambda a, o, w, s, e: o.reply("200 OK", bytes(len(w))),
    "200_endless": lambda a, o, w, s, e: bad_endless(a, o, None),
    "hang": lambda a, o, w, s, e: o.hang(),
    "reset": lambda a, o, w, s, e: o.reset(),
    "header_bomb": lambda a, o, w, s, e: bad_header_bomb(a, o, None),
}.items():
    range_lie(name_, only_ranges(answer_))


@case
def range_redirected(lab):
    """The nar's URL may be redirected, as for plain HTTP."""
    t = tree(200)
    far = lab.plain(t)
    t, rpc, nar, h = ranged(lab, hook=lambda a, o: o.reply("302 x", b"", "Location: " + far.url + a.target) if a.method == "GET" else None)
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    assert run.end["missed"] == run.end["repaired"] >= 20 and far.gets(True), run.end


@case
def range_not_honoured_few_missing(lab):
    """A 200 for a Range, few leaves missing at the beginning: read on, or closed; never read twice."""
    for lacks in (range(0, 3), range(190, 200), range(0, 200)):
        t, rpc, nar, h = ranged(lab, ranges=False, lacks=lacks)
        run = arrives(h, [lab.cand(t)], t)
        assert nar.sent < 2.2 * len(t.content), "%d KiB" % (nar.sent >> 10)
        lab.note += "%d KiB in %d requests; " % (nar.sent >> 10, len(nar.gets()))


@case
def range_padding_leaf(lab):
    """The size is a multiple of 32768 and the last leaf, all padding, is missing: there is nothing to ask for."""
    t = tree(65, 0)
    assert len(t.content) % BLOCK == 0 and len(t.leaves) == 65
    rpc, nar = lab.add(Rpc(t.without(t.leaves[-1:]))), lab.plain(t)
    h = lab.fetch([nar], opts(rpc, seed="none"))
    run = h.nar2([lab.cand(t, size=len(t.content))], len(t.content))
    same(run, t)
    assert not nar.gets(False) and not nar.posts() and all(r.range()[0] < len(t.content) for r in nar.gets()), \
        [(r.method, r.target, r.headers.get("range")) for r in nar.requests]


@case
def range_slow_server(lab):
    """No total time-out: a slow but steady server delivers."""
    t = tree(41, 777)
    rpc, nar = lab.add(Rpc(t.without(t.leaves[:30]))), lab.plain(t, pace=lambda i: time.sleep(0.1))
    h = lab.fetch([nar], opts(rpc, seed="none", publish_again="no", block_timeout="1"))
    run = arrives(h, [lab.cand(t)], t)
    assert run.seconds < 10
    assert any("127.0.0.1:%d" % nar.port in p["source"] for p in run.all("PROGRESS")), run.all("PROGRESS")


# --- healing ----------------------------------------------------------------------------------------------

def healed(lab, t, lacks, kubo=True, private="yes", seed=None, hook=None, pace=None, **kw):
    rpc = lab.add(Rpc(t.without(lacks), kubo=kubo, put_hook=hook))
    nar = lab.plain(t, pace=pace, **kw)
    more = {"seed": seed} if seed else {}
    if private:
        more["seed_private"] = private
    h = lab.fetch([nar], opts(rpc, publish_again="no", **more))
    return rpc, nar, h


@case
def heal_while_the_nar_arrives(lab):
    """The end of the nar is held back until something was put."""
    t = tree(120)
    lacks = t.leaves[5:15] + t.leaves[100:110]
    seen = []

    def pace(offset):
        if offset >= 105 * BLOCK and not seen:
            seen.append(until(lambda: rpc.puts, 6))
    rpc, nar, h = healed(lab, t, lacks, pace=pace)
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    assert seen and all(seen), "nothing was put while the nar was still arriving"
    assert run.end["missed"] == run.end["repaired"] >= max(20, run.end["reinserted"]), run.end
    assert until(lambda: set(rpc.put_refs()) >= set(lacks)), "%d of %d were put" % (len(set(rpc.put_refs())), len(lacks))
    assert set(rpc.put_refs()) <= set(t.blocks), "something else was put"
    assert all(rpc.blocks[r] == t.blocks[r] for r in lacks)
    lab.note = "%d put requests, reinserted %d by NAR_END" % (len(rpc.puts), run.end["reinserted"])


@case
def heal_second_client_needs_no_server(lab):
    """After healing, everything comes from IPFS alone."""
    t = tree(120)  # fewer than wait to be put at any time: the journal is for the rest
    for lacks in (t.leaves[::50], t.leaves[:90], list(t.blocks)):
        rpc, nar, h = healed(lab, t, lacks)
        same(h.nar2([lab.cand(t)], len(t.content)), t)
        assert until(lambda: len(rpc.blocks) == len(t.blocks), 5), "%d of %d" % (len(rpc.blocks), len(t.blocks))
        assert rpc.blocks == t.blocks
        nar.close()
        run = lab.fetch([nar], opts(rpc)).nar2([lab.cand(t)], len(t.content))
        same(run, t, missed=0, repaired=0)
        lab.note += "%d missing: %d put requests; " % (len(lacks), len(rpc.puts))


@case
def heal_js(lab):
    """js-ipfs keeps the last part of a form only: still all blocks are there in the end."""
    t = tree(120)
    rpc, nar, h = healed(lab, t, t.leaves[5:45], kubo=False)
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    assert 40 + 3 >= run.end["missed"] == run.end["repaired"] >= 16, run.end
    assert until(lambda: len(rpc.blocks) == len(t.blocks), 5), "%d of %d" % (len(rpc.blocks), len(t.blocks))


@case
def heal_from_other_sources(lab):
    """What a block server or a gateway gave is put, too."""
    t = tree(60, 9)
    for make in (BlockServer, Gateway):
        rpc, src = lab.add(Rpc({})), lab.add(make(t.blocks))
        h = lab.fetch([lab.add(NarServer({}))], opts(rpc, src, seed_private="yes"))
        run = h.nar2([lab.cand(t)], len(t.content))
        same(run, t)
        assert run.end["missed"] == run.end["repaired"] >= 16, (make, run.end)
        gone = set(t.blocks if make is BlockServer else rpc.asked())  # a gateway may be asked first
        assert until(lambda: set(rpc.blocks) >= gone, 5), "%s: %d of %d" % (make.__name__, len(rpc.blocks), len(gone))
        for more in ({}, {"seed": "none", "seed_private": "yes"}):  # the nar has a private address; nobody wants it
            rpc = lab.add(Rpc({}))
            h = lab.fetch([lab.add(NarServer({}))], opts(rpc, src, **more))
            same(h.nar2([lab.cand(t)], len(t.content)), t, reinserted=0)
            time.sleep(0.3)
            assert not rpc.puts, (make, more)


@case
def heal_what_a_gateway_has_too(lab):
    """IPFS lacks a few blocks, and a gateway beside it has all: only those few are put."""
    t = tree(200)
    lacks = t.leaves[20:24] + t.leaves[150:156]
    rpc, gw = lab.add(Rpc(t.without(lacks))), lab.add(Gateway(t.blocks, behave=lambda a, o, b: o.wait(0.01) or None))
    h = lab.fetch([lab.add(NarServer({}))], opts(rpc, gw, seed_private="yes"))
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    asked = set(rpc.asked()) & set(lacks)
    assert until(lambda: set(rpc.put_refs()) >= asked, 5), "%d of %d" % (len(set(rpc.put_refs())), len(asked))
    assert set(rpc.put_refs()) <= set(lacks) and run.end["missed"] <= len(lacks) + 3, run.end
    lab.note = "%d asked for, %d missed, %d put" % (len(asked), run.end["missed"], len(rpc.put_refs()))


@case
def heal_counts_of_a_whole_file(lab):
    """A daemon that looks for little in vain, and the file as a whole, which is larger than what is kept of it: what was
    asked for has come."""
    t = tree(600, 5)
    rpc, nar, h = healed(lab, t, t.leaves[100::2], ranges=False)
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    asked = len(set(rpc.asked()) & set(t.leaves[100::2]))
    assert 0 < run.end["missed"] == run.end["repaired"] <= 250, (asked, run.end)
    lab.note = "%d asked for, %d missed" % (asked, run.end["missed"])


@case
def heal_counts_are_true(lab):
    """What is not there is looked for until the daemon is bypassed, and the rest comes with an answer that is read on: only
    what is missing is counted and put back, all of it, and what was not looked at stands in the journal."""
    t = tree(600, 5)
    for every, ranges in ((5, False), (5, True), (50, False)):
        lab.dir = tempfile.mkdtemp(dir=lab.dir)
        os.chmod(lab.dir, 0o755)
        env, entries = journal(lab)
        lacks = t.leaves[3::every]
        rpc, nar = lab.add(Rpc(t.without(lacks), behave=searching())), lab.plain(t, ranges=ranges)
        h = lab.fetch([nar], opts(rpc, seed_private="yes", publish_again="no", block_timeout="1"), env=env)
        run = h.nar2([lab.cand(t)], len(t.content))
        same(run, t)
        late = 3 + 0.03 * len(t.blocks)
        assert run.end["reinserted"] <= run.end["repaired"] <= run.end["missed"] <= len(lacks) + late, (len(lacks), run.end)

        def left():
            return (set(lacks) - set(rpc.blocks)) - {r for e in entries() for r in e["refs"]}
        assert until(lambda: any(e["all"] for e in entries()) or not left(), 5), len(left())
        assert until(lambda: heal_is_idle(rpc), 5)
        assert len(set(rpc.put_refs()) - set(lacks)) <= late, len(set(rpc.put_refs()) - set(lacks))
        lab.note += "%d gone, %d missed, %d put, %d left to the journal, %.1f s; " % (
            len(lacks), run.end["missed"], len(set(rpc.put_refs())), len(set(lacks) - set(rpc.blocks)), run.seconds)


@case
def heal_what_repeats(lab):
    """A missing block comes again, further behind, while it is being put: it was missed once, comes back once."""
    parts = [data(BLOCK, 1000 + i) for i in range(900)]
    parts[450] = parts[850] = parts[5]
    t = Tree(b"".join(parts))
    rpc = lab.add(Rpc(t.without(t.leaves[5:6]), put_hook=lambda a, o: o.wait(1) or None))
    h = lab.fetch([lab.add(NarServer({}))], opts(rpc, lab.add(BlockServer(t.blocks)), seed_private="yes"))
    same(h.nar2([lab.cand(t)], len(t.content)), t)
    assert until(lambda: heal_is_idle(rpc)) and until(lambda: t.leaves[5] in rpc.blocks)
    assert rpc.put_refs().count(t.leaves[5]) == 1, rpc.put_refs().count(t.leaves[5])


def heal_is_idle(rpc):
    n = len(rpc.requests)
    time.sleep(0.3)
    return n == len(rpc.requests)


@case
def heal_seed_all(lab):
    t = tree(60, 9)
    rpc, nar, h = healed(lab, t, t.leaves[3:6], seed="all")
    same(h.nar2([lab.cand(t)], len(t.content)), t)
    assert until(lambda: rpc.blocks == t.blocks, 5)


@case
def heal_seed_none(lab):
    t = tree(60, 9)
    rpc, nar, h = healed(lab, t, t.leaves[3:30], seed="none")
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t, reinserted=0)
    assert 27 + 3 >= run.end["missed"] == run.end["repaired"] >= 16, run.end
    time.sleep(0.5)
    assert not rpc.count("put") and not rpc.count("import")


@case
def heal_nothing_private(lab):
    """What came from a private address is not put, unless the configuration says so."""
    t = tree(60, 9)
    for private in (None, "no"):
        for lacks in (t.leaves[3:30], list(t.blocks)):
            rpc, nar, h = healed(lab, t, lacks, private=private)
            run = arrives(h, [lab.cand(t)], t)
            assert run.end["reinserted"] == 0, run.end
            time.sleep(0.3)
            assert not rpc.count("put") and not rpc.count("import")


@case
def heal_nothing_behind_a_password(lab):
    """Nor is what came from a URL with user and password, which nobody may learn."""
    t = tree(60, 9)
    rpc, nar = lab.add(Rpc(t.without(t.leaves[3:30]))), lab.plain(t)
    h = lab.fetch([("http://user:hunter2@127.0.0.1:%d" % nar.port, 0)], opts(rpc, publish_again="no"))
    same(arrives(h, [lab.cand(t)], t), t)
    time.sleep(0.3)
    assert not rpc.count("put") and not rpc.count("import")
    assert not any("hunter2" in x for x in h.log)


@case
def heal_put_hangs(lab):
    """A put that hangs delays nothing."""
    t = tree(120)
    rpc, nar, h = healed(lab, t, t.leaves[5:105], hook=lambda a, o: o.hang())
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t, reinserted=0)
    assert run.end["missed"] == run.end["repaired"] >= 16 and run.seconds < 2.5, run.seconds
    run = h.nar2([lab.cand(SMALL)], len(SMALL.content), ident=8)
    assert run.seconds < 3, run.seconds


def heal_bad(name, hook):
    def f(lab):
        t = tree(120)
        rpc, nar, h = healed(lab, t, t.leaves[5:105], hook=hook)
        run = h.nar2([lab.cand(t)], len(t.content))
        same(run, t, reinserted=0)
        assert run.end["missed"] == run.end["repaired"] >= 16 and run.seconds < 3, (run.seconds, run.end)
        time.sleep(0.5)
        n = rpc.count("put") + rpc.count("import")
        assert n <= 60, "%d puts" % n
        lab.note = "%d puts" % n
    CASES.append(("heal_put_" + name, f))


for name_, hook_ in {
    "fails": lambda a, o: o.reply("500 x", b'{"Message":"no space left on device","Code":0,"Type":"error"}'),
    "refused": lambda a, o: o.reply("403 Forbidden", b"403"),
    "answers_other_keys": lambda a, o: o.reply("200 OK", b'{"Key":"%s","Size":5}\n' % cid(blake(b"x")).encode() * 9),
    "answers_garbage": lambda a, o: o.reply("200 OK", b"\x00{{{{\n" * 500),
    "answers_nothing": lambda a, o: o.reply("200 OK", b"") if "put" in a.path else o.reply("500 x", b""),
    "resets": lambda a, o: o.reset(),
    "drips": lambda a, o: bad_drip(a, o, None),
    "endless": lambda a, o: bad_endless(a, o, None),
    "header_bomb": lambda a, o: bad_header_bomb(a, o, None),
    "redirects": lambda a, o: o.reply("307 x", b"", "Location: http://127.0.0.1:1" + a.target),
}.items():
    heal_bad(name_, hook_)


@case
def heal_not_a_liar(lab):
    """A daemon that has lied gets nothing, either."""
    t = tree(60, 9)
    rpc = lab.add(Rpc({}, behave=lambda a, o, b: o.ok(other())))
    h = lab.fetch([lab.plain(t)], opts(rpc, seed_private="yes"))
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t, reinserted=0)
    time.sleep(0.3)
    assert len(run.liars) == 1 and not rpc.puts


@case
def heal_memory(lab):
    """A daemon that takes its time with puts while a large nar arrives whole."""
    t = tree(1100, 99)
    rpc, nar, h = healed(lab, t, list(t.blocks), hook=lambda a, o: o.wait(0.2) or None)
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    assert run.seconds < 6, run.seconds
    lab.note = "RssAnon %d KiB, %d put by the end, reinserted %d" % (lab.peak, len(rpc.put_refs()), run.end["reinserted"])


def journal(lab):
    """(environment, reader) of a journal: the reader gives the entries, by the layout in journal.h."""
    where = os.path.join(lab.dir, "state")
    os.mkdir(where)
    os.chmod(where, 0o777)

    def entries():
        with open(os.path.join(where, "heal"), "rb") as f:
            b = f.read()
        assert len(b) == 256 * 4096, len(b)
        out = []
        for i in range(0, len(b), 4096):
            if b[i + 16:i + 20] != b"nlh1":
                continue
            kind, nurls, nrefs = struct.unpack_from("<BBH", b, i + 20)
            nurl, size = struct.unpack_from("<HQ", b, i + 110)
            at = i + 128 + nurl
            out.append(dict(all=kind == 2, cap=b[i + 44:i + 110], size=size, urls=b[i + 128:at].split(b"\0")[:-1],
                            refs={b[at + 32 * k:at + 32 * k + 32] for k in range(nrefs)}))
            assert nurls == len(out[-1]["urls"]), out[-1]
        return out
    return {"NARLOCK_FETCH_STATE": os.path.join(where, "state")}, entries


@case
def journal_of_what_was_not_put(lab):
    """Puts hang: what is left stands in the journal when NAR_END comes."""
    t = tree(60, 9)
    for lacks in (t.leaves[3:9], list(t.blocks)):
        lab.dir = tempfile.mkdtemp(dir=lab.dir)
        os.chmod(lab.dir, 0o755)
        env, entries = journal(lab)
        rpc, nar = lab.add(Rpc(t.without(lacks), put_hook=lambda a, o: o.hang())), lab.plain(t)
        h = lab.fetch([nar], opts(rpc, seed_private="yes", publish_again="no"), env=env)
        same(h.nar2([lab.cand(t)], len(t.content)), t, reinserted=0)
        (e,) = entries()
        assert e["cap"] == t.cap and e["urls"] == [b"%s/nar/x" % nar.url.encode()] and e["size"] == len(t.content), e
        assert e["all"] or e["refs"] == set(lacks), (len(e["refs"]), e["all"])
        assert not e["all"] or len(lacks) > 6


def after(n, answer):
    """As ordinary N times, then ANSWER."""
    left = [n]

    def hook(a, o):
        left[0] -= 1
        return None if left[0] >= 0 else answer(a, o)
    return hook


def no_space(a, o):
    return o.reply("500 x", b'{"Message":"open x: no space left on device","Code":0,"Type":"error"}')


def killed_at_the_end(name, hook=None, first=None, **kw):
    """The agent is killed right after the last nar, as guix-daemon does it: what is not back stands in the journal, and
    nobody has waited."""
    def f(lab):
        t = tree(600, 5)
        for i, (lacks, ranges) in enumerate(((t.leaves[50:60], True), (t.leaves[3::5], True), (t.leaves[3::5], False), (list(t.blocks), True))):
            lab.dir = tempfile.mkdtemp(dir=lab.dir)
            os.chmod(lab.dir, 0o755)
            env, entries = journal(lab)
            rpc = lab.add(Rpc(t.without(lacks), put_hook=hook and hook(), first=first, **kw))
            h = lab.fetch([lab.plain(t, ranges=ranges)], opts(rpc, seed_private="yes", publish_again="no", block_timeout="1"), env=env)
            run = h.nar2([lab.cand(t)], len(t.content))
            os.kill(h.pid, signal.SIGKILL)
            h.ended = h.wait(5)
            same(run, t)
            assert first or run.end["reinserted"] <= run.end["repaired"], run.end  # without a look, more is put than is known
            left = set(lacks) - set(rpc.blocks) - {r for e in entries() for r in e["refs"]}
            assert not left or any(e["all"] for e in entries()), (i, len(left), run.end)
            assert run.seconds < 10, (i, run.seconds)  # a put may hang for 30
            lab.note += "%.1f s, %d of %d back; " % (run.seconds, len(set(lacks) & set(rpc.blocks)), len(lacks))
    CASES.append(("killed_at_the_end_" + name, f))


killed_at_the_end("plain")
killed_at_the_end("js", kubo=False)
killed_at_the_end("slow_puts", lambda: lambda a, o: o.wait(1) or None)
killed_at_the_end("hanging_puts", lambda: lambda a, o: o.hang())
killed_at_the_end("puts_hang_after_two", lambda: after(2, lambda a, o: o.hang()))
killed_at_the_end("full_after_two", lambda: after(2, no_space))
killed_at_the_end("refused_after_two", lambda: after(2, lambda a, o: o.reply("403 Forbidden", b"403")))
killed_at_the_end("resets_after_two", lambda: after(2, lambda a, o: o.reset()))
for name_, answer_ in {
    "hang": lambda a, o: o.hang(),
    "are_slow": lambda a, o: o.wait(0.4) or None,
    "are_refused": lambda a, o: o.reply("403 Forbidden", b"403"),
    "fail": lambda a, o: o.reply("500 x", b'{"Message":"some error","Code":0,"Type":"error"}'),
    "reset": lambda a, o: o.reset(),
    "are_unknown": lambda a, o: o.reply("404 Not Found", b"404 page not found"),
    "answer_nothing": lambda a, o: o.reply("200 OK", b""),
}.items():
    killed_at_the_end("looks_" + name_, first=lambda a, o, answer=answer_: answer(a, o) if a.path.endswith("block/stat") else None)


@case
def journal_that_is_locked(lab):
    """Somebody sits on it: nobody waits, and it is written all the same."""
    t = tree(60, 9)
    env, entries = journal(lab)
    rpc, nar = lab.add(Rpc(t.without(t.leaves[3:9]), put_hook=lambda a, o: o.hang())), lab.plain(t)
    h = lab.fetch([nar], opts(rpc, seed_private="yes", publish_again="no"), env=env)
    with open(env["NARLOCK_FETCH_STATE"].replace("/state/state", "/state/heal"), "r+b") as f:
        lock = struct.pack("hhqqi", fcntl.F_WRLCK, 0, 0, 0, 0)
        fcntl.fcntl(f, 37, lock)  # F_OFD_SETLK
        run = h.nar2([lab.cand(t)], len(t.content))
        same(run, t)
        assert run.seconds < 5, run.seconds
        (e,) = entries()
        assert e["refs"] == set(t.leaves[3:9]), len(e["refs"])
        lab.note = "%.2f s" % run.seconds


@case
def journal_that_is_damaged(lab):
    """Full of entries, of rubbish, or cut: the new entry has a place, and nobody dies."""
    t = tree(60, 9)
    for what in ("rubbish", "short", "long", "full"):
        lab.dir = tempfile.mkdtemp(dir=lab.dir)
        os.chmod(lab.dir, 0o755)
        env, entries = journal(lab)
        path = env["NARLOCK_FETCH_STATE"].replace("/state/state", "/state/heal")
        rpc, nar = lab.add(Rpc(t.without(t.leaves[3:9]), put_hook=lambda a, o: o.hang())), lab.plain(t)
        options = opts(rpc, seed_private="yes", publish_again="no")
        same(lab.fetch([nar], options, env=env).nar2([lab.cand(t)], len(t.content)), t)
        with open(path, "r+b") as f:
            one = next(b for b in iter(lambda: f.read(4096), b"") if b[16:20] == b"nlh1")
            f.seek(0)
            if what == "rubbish":
                f.write(os.urandom(256 * 4096))
            elif what == "full":
                f.write(b"".join(random.Random(i).randbytes(16) + one[16:] for i in range(256)))
            else:
                f.truncate(5000 if what == "short" else 300 * 4096)
        h = lab.fetch([nar], options, env=env)
        run = h.nar2([lab.cand(t)], len(t.content))
        same(run, t)
        with open(path, "rb") as f:
            b = f.read()
        found = [e for e in (entries() if what in ("rubbish", "short") else []) if e["cap"] == t.cap and e["refs"] == set(t.leaves[3:9])]
        assert len(b) == 256 * 4096 and (len(found) == 1 or what in ("long", "full")), (what, len(b), len(found))
        assert run.seconds < 5, run.seconds


@case
def two_nars_lack_the_same(lab):
    """Both are under way in one agent: each gets its blocks, and the journal names none of them once they are back."""
    t = tree(120)
    lacks = t.leaves[10:40]
    env, entries = journal(lab)
    rpc, nar = lab.add(Rpc(t.without(lacks), put_hook=lambda a, o: o.wait(0.3) or None)), lab.plain(t)
    h = lab.fetch([nar], opts(rpc, seed_private="yes", publish_again="no"), env=env)
    for i in range(3):
        same(h.nar2([lab.cand(t)], len(t.content), ident=7 + i), t)
    assert until(lambda: set(rpc.blocks) >= set(lacks) and not any(e["all"] or e["refs"] & set(lacks) for e in entries()), 8), [
        (e["all"], len(e["refs"] & set(lacks))) for e in entries()]


@case
def journal_is_empty_when_all_was_put(lab):
    t = tree(60, 9)
    env, entries = journal(lab)
    rpc, nar = lab.add(Rpc(t.without(t.leaves[3:9]))), lab.plain(t)
    h = lab.fetch([nar], opts(rpc, seed_private="yes", publish_again="no"), env=env)
    same(h.nar2([lab.cand(t)], len(t.content)), t)
    assert until(lambda: rpc.blocks == t.blocks and not entries(), 5), entries()


@case
def journal_of_nothing_private(lab):
    """Nor of what nobody wants to be seeded, nor of what has failed."""
    t = tree(60, 9)
    env, entries = journal(lab)
    for more, files in (({}, True), ({"seed": "none", "seed_private": "yes"}, True), ({"seed_private": "yes"}, False)):
        rpc, nar = lab.add(Rpc(t.without(t.leaves[3:9]), put_hook=lambda a, o: o.hang())), lab.plain(t)
        nar.files = nar.files if files else {}
        h = lab.fetch([nar], opts(rpc, publish_again="no", **more), env=env, stall=1000)
        run = h.nar2([lab.cand(t)], len(t.content))
        assert (run.end["status"] == DONE) == files, run.end
        assert not entries(), entries()


@case
def journal_has_no_passwords(lab):
    t = tree(60, 9)
    env, entries = journal(lab)
    rpc, nar = lab.add(Rpc({}, put_hook=lambda a, o: o.hang())), lab.plain(t)
    h = lab.fetch([("http://user:hunter2@127.0.0.1:%d" % nar.port, 0)], opts(rpc, seed_private="yes", publish_again="no"), env=env)
    arrives(h, [lab.cand(t)], t)
    with open(os.path.join(os.path.dirname(env["NARLOCK_FETCH_STATE"]), "heal"), "rb") as f:
        assert b"hunter2" not in f.read()


# --- publish-again ----------------------------------------------------------------------------------------

def again(lab, answer, kinds=(0,), lacks=None, ranges=None, **more):
    """Some leaves are missing and the nar server answers no Range; ANSWER(ask, out, fill) to the POST."""
    t = tree(60, 9)
    rpc = lab.add(Rpc(t.without(t.leaves[10:20] if lacks is None else lacks)))

    def fill():
        rpc.blocks = t.blocks
    nars = [lab.add(NarServer({"/nar/x": t.content}, again=lambda a, o: answer(a, o, fill),
                              hook=ranges or (lambda a, o: o.reply("404 Not Found", b"") if a.method == "GET" else None)))
            for _ in kinds]
    h = lab.fetch([(n.url, k) for n, k in zip(nars, kinds)], opts(rpc, seed="none", **more), stall=1000)
    return t, rpc, nars, h


@case
def again_brings_the_blocks(lab):
    def answer(ask, out, fill):
        threading.Timer(0.6, fill).start()
        return out.reply("202 Accepted", b"")
    t, rpc, (nar,), h = again(lab, answer)
    run = h.nar2([lab.cand(t)], len(t.content), timeout=20)
    same(run, t)
    assert [r.path for r in nar.posts()] == [NarServer.AGAIN + "x"], [r.target for r in nar.posts()]
    assert run.seconds < 6 and nar.posts()[0].headers.get("content-length") == "0"


@case
def again_for_an_empty_ipfs(lab):
    """Nothing of it is there, not even the root."""
    def answer(ask, out, fill):
        fill()
        return out.reply("200 OK", b"done")
    t, rpc, (nar,), h = again(lab, answer, lacks=list(tree(60, 9).blocks))
    run = h.nar2([lab.cand(t)], len(t.content), timeout=20)
    same(run, t)
    assert len(nar.posts()) == 1 and run.seconds < 6


@case
def again_in_vain(lab):
    """404: no waiting, and not asked again for that nar."""
    t, rpc, (nar,), h = again(lab, lambda a, o, f: o.reply("404 Not Found", b""))
    good = lab.plain(t)
    good.ranges = False
    for ident in (7, 8):
        run = h.nar2([lab.cand(t)], len(t.content), ident=ident, timeout=20)
        assert run.end["status"] in (EXHAUSTED, NFAILED), run.end
        assert run.seconds < 5, run.seconds
    assert len(nar.posts()) == 1, len(nar.posts())


@case
def again_and_nothing_comes(lab):
    """202, but no block ever comes: a bounded number of tries, then the whole nar."""
    def hook(ask, out):
        return out.reply("404 Not Found", b"") if ask.method == "GET" and "range" in ask.headers else None
    t, rpc, (nar,), h = again(lab, lambda a, o, f: o.reply("202 Accepted", b""), ranges=hook)
    run = arrives(h, [lab.cand(t)], t, timeout=40)
    assert run.seconds < 20 and len(nar.posts()) == 1, (run.seconds, len(nar.posts()))
    lab.note = "%.1f s" % run.seconds


@case
def again_only_admins_servers(lab):
    """Servers that a client named are never POSTed to, nor are hosts that a narinfo's URL names."""
    evil = lab.add(NarServer({}))
    t, rpc, nars, h = again(lab, lambda a, o, f: o.reply("404 Not Found", b""), kinds=(1, 1))
    run = h.nar2([lab.cand(t), lab.cand(t, server=1), lab.cand(t, url=evil.url + "/nar/x")], len(t.content), timeout=20)
    assert run.end["status"] in (EXHAUSTED, NFAILED)
    assert not any(n.posts() for n in nars) and not evil.posts()


@case
def again_absolute_url(lab):
    """The nar's URL leads to another host: only the server itself may be asked to publish."""
    evil = lab.add(NarServer({}))
    t, rpc, (nar,), h = again(lab, lambda a, o, f: o.reply("404 Not Found", b""))
    h.nar2([lab.cand(t, url=evil.url + "/nar/x")], len(t.content), timeout=20)
    assert not evil.posts(), [r.target for r in evil.posts()]
    assert all(r.path == NarServer.AGAIN + "x" for r in nar.posts())


@case
def again_server_path(lab):
    def hook(ask, out):
        ask.path = ask.path.replace("/sub", "", 1) if ask.path.startswith("/sub/") else "/nowhere"
        return out.reply("404 Not Found", b"") if ask.method == "GET" else None
    t, rpc, (nar,), h0 = again(lab, lambda a, o, f: f() or o.reply("202 x", b""), ranges=hook)
    h = lab.fetch([(nar.url + "/sub/", 0)], opts(rpc, seed="none"), stall=1000)
    same(h.nar2([lab.cand(t, url="nar/zstd/abc-hello-1.0")], len(t.content), timeout=20), t)
    assert [r.path for r in nar.posts()] == [NarServer.AGAIN + "abc-hello-1.0"], [r.target for r in nar.posts()]


@case
def again_switched_off(lab):
    t, rpc, (nar,), h = again(lab, lambda a, o, f: o.reply("202 x", b""), publish_again="no")
    run = h.nar2([lab.cand(t)], len(t.content), timeout=20)
    assert not nar.posts() and run.seconds < 5, run.seconds


@case
def again_not_when_ranges_do(lab):
    t = tree(60, 9)
    rpc, nar = lab.add(Rpc(t.without(t.leaves[3:9]))), lab.plain(t)
    h = lab.fetch([nar], opts(rpc, seed="none"))
    same(h.nar2([lab.cand(t)], len(t.content)), t)
    assert not nar.posts()


@case
def again_redirected(lab):
    """A redirect of the POST leads nowhere."""
    trap = lab.add(NarServer({}))
    t, rpc, (nar,), h = again(lab, lambda a, o, f: o.reply("307 x", b"", "Location: " + trap.url + a.target))
    h.nar2([lab.cand(t)], len(t.content), timeout=20)
    assert trap.connections == 0


@case
def again_retry_after(lab):
    """429 with Retry-After: not asked before, and at most a few times."""
    def answer(ask, out, fill):
        if len(out.server.posts()) == 1:
            return out.reply("429 Too Many Requests", b"", "Retry-After: 2")
        fill()
        return out.reply("202 Accepted", b"")
    t, rpc, (nar,), h = again(lab, answer)
    run = h.nar2([lab.cand(t)], len(t.content), timeout=30)
    posts = nar.posts()
    assert len(posts) in (1, 2) and (len(posts) == 1 or posts[1].at - posts[0].at >= 1.9), [p.at for p in posts]
    if run.end["status"] == DONE:
        same(run, t)
    lab.note = "%d posts, %.1f s" % (len(posts), run.seconds)


def again_bad(name, answer):
    def f(lab):
        t, rpc, (nar,), h = again(lab, answer)
        run = h.nar2([lab.cand(t)], len(t.content), timeout=40)
        assert run.end["status"] in (EXHAUSTED, NFAILED) and len(nar.posts()) <= 3 and run.seconds < 20
        lab.note = "%.1f s, %d posts" % (run.seconds, len(nar.posts()))
    CASES.append(("again_" + name, f))


again_bad("hangs", lambda a, o, f: o.hang())
again_bad("endless", lambda a, o, f: bad_endless(a, o, None))
again_bad("header_bomb", lambda a, o, f: bad_header_bomb(a, o, None))
again_bad("huge_retry_after", lambda a, o, f: o.reply("429 x", b"", "Retry-After: 99999999"))


# --- PROBE ------------------------------------------------------------------------------------------------

def probed(h, ident, eris, manifest="", timeout=10):
    began = time.monotonic()
    h.probe(ident, eris, manifest)
    liars = []
    while True:
        m = h.recv(timeout)
        if m["t"] == "LIAR":
            liars.append(m)
            continue
        if m["t"] == "RESOLVE":
            h.addresses(m["host"])
            continue
        assert m["t"] == "PROBED" and m["id"] == ident, m
        return m["status"], time.monotonic() - began, liars


@case
def probe_yes_and_no(lab):
    t, u = SMALL, tree(41, 778, 2)
    m = Manifest(t)
    for make in (Rpc, Gateway, BlockServer):
        src = lab.add(make(t.blocks) if make is BlockServer else make(t.blocks, manifests=[m]))
        h = lab.fetch([lab.plain(t)], opts(src, block_timeout="1"))
        assert probed(h, 1, t.urn)[0] == 1
        assert probed(h, 2, u.urn)[0] == 0
        if make is not BlockServer:
            assert probed(h, 3, "", m.cid)[0] == 1
        assert probed(h, 5, "", Manifest(u).cid)[0] == 0
        assert probed(h, 6, t.urn, Manifest(u).cid)[0] == 1
        assert probed(h, 7, "", "")[0] == 0
        for i, junk in enumerate(("x", "urn:eris:AAAA", t.urn[:-1])):
            assert probed(h, 8 + i, junk, "y")[0] == 0


@case
def probe_is_bounded(lab):
    t = SMALL
    for src in (lab.add(Silent()), lab.add(Rpc(t.blocks, behave=lambda a, o, b: o.hang()))):
        h = lab.fetch([lab.plain(t)], opts(src, block_timeout="1"))
        status, seconds, _ = probed(h, 1, t.urn, Manifest(t).cid)
        assert status == 0 and seconds < 3.5, seconds
    h = lab.fetch([lab.plain(t)])
    assert probed(h, 1, t.urn)[0] == 0


@case
def probe_lies(lab):
    t, m = SMALL, Manifest(SMALL)
    bad = Manifest(SMALL)
    bad.nodes = {bad.root: m.nodes[m.root] + b"x"}
    rpc = lab.add(Rpc(t.blocks, manifests=[bad], behave=lambda a, o, b: o.ok(other())))
    h = lab.fetch([lab.plain(t)], opts(rpc, block_timeout="1"))
    status, _, liars = probed(h, 1, t.urn, m.cid)
    assert status == 0 and len(liars) <= 1
    for name in ("empty_200", "json_200", "header_bomb", "endless_body", "garbage"):
        rpc = lab.add(Rpc(t.blocks, behave=BAD[name][0]))
        h = lab.fetch([lab.plain(t)], opts(rpc, block_timeout="1"))
        assert probed(h, 1, t.urn)[0] == 0, name


@case
def probe_second_source(lab):
    t = SMALL
    a, b = lab.add(Silent()), lab.add(BlockServer(t.blocks))
    h = lab.fetch([lab.plain(t)], opts(a, b, block_timeout="2"))
    status, seconds, _ = probed(h, 1, t.urn)
    assert status == 1 and seconds < 4, (status, seconds)


@case
def probe_many(lab):
    ts = [tree(3, 5, 100 + i) for i in range(40)]
    rpc = lab.add(Rpc({r: b for t in ts[:20] for r, b in t.blocks.items()}))
    h = lab.fetch([lab.plain(SMALL)], opts(rpc, block_timeout="2"))
    for i, t in enumerate(ts):
        h.probe(i, t.urn)
    got = {}
    while len(got) < 40:
        m = h.recv()
        got[m["id"]] = m["status"]
    assert got == {i: int(i < 20) for i in range(40)}, got


# --- indexes ----------------------------------------------------------------------------------------------

PART = hash_part(12345)


def index_text(t, compression="none", url="nar/x", manifest=""):
    return ("StorePath: /gnu/store/%s-x\nURL: %s\nCompression: %s\nFileSize: %d\nERIS: %s\n%s" % (
        PART, url, compression, len(t.content), t.urn, "ERIS-Manifest: %s\n" % manifest if manifest else "")).encode()


@case
def index_gives_the_urn(lab):
    t = SMALL
    rpc, ix, nar = lab.add(Rpc(t.blocks)), lab.add(Index({PART: index_text(t)})), lab.add(NarServer({}))
    h = lab.fetch([(nar.url, 0), (ix.url, 2)], opts(rpc))
    run = h.nar2([lab.cand(t, urn="")], len(t.content), part=PART)
    same(run, t, missed=0)
    assert not nar.gets() and len(ix.requests) == 1


@case
def index_gives_the_manifest(lab):
    t, m = SMALL, Manifest(SMALL)
    rpc = lab.add(Rpc(t.blocks, manifests=[m], get=False))
    ix, nar = lab.add(Index({PART: index_text(t, manifest=m.cid)})), lab.add(NarServer({}))
    h = lab.fetch([(nar.url, 0), (ix.url, 2)], opts(rpc))
    same(h.nar2([lab.cand(t, urn="")], len(t.content), part=PART), t, missed=0)
    assert rpc.count("dag/export") == 1


@case
def index_of_other_compression(lab):
    """The URN of the zstd file says nothing about the gzip one."""
    t, u = SMALL, tree(41, 778, 2)
    rpc, ix = lab.add(Rpc({**t.blocks, **u.blocks})), lab.add(Index({PART: index_text(u, "zstd") + index_text(u, "lzip")}))
    h = lab.fetch([(lab.plain(t).url, 0), (ix.url, 2)], opts(rpc))
    run = h.nar2([lab.cand(t, urn="", compression="gzip")], len(t.content), part=PART)
    same(run, t)


@case
def index_is_not_asked_in_vain(lab):
    """Not when a candidate has a URN, not when there is no source of blocks."""
    t = SMALL
    ix, rpc = lab.add(Index({PART: index_text(t)})), lab.add(Rpc(t.blocks))
    h = lab.fetch([(lab.plain(t).url, 0), (ix.url, 2)], opts(rpc))
    same(h.nar2([lab.cand(t)], len(t.content), part=PART), t)
    assert not ix.requests, [r.target for r in ix.requests]


def index_bad(name, hook):
    def f(lab):
        t = SMALL
        rpc, ix = lab.add(Rpc(t.blocks)), lab.add(Index({PART: index_text(t)}, hook=hook))
        h = lab.fetch([(lab.plain(t).url, 0), (ix.url, 2)], opts(rpc, publish_again="no", block_timeout="1"), stall=1000,
                      connect=1000)
        run = arrives(h, [lab.cand(t, urn="")], t, part=PART)
        assert run.seconds < 4, run.seconds
        lab.note = "%.1f s" % run.seconds
        if name == "drips":  # bytes come: nobody is timed out for that
            return
        h.lookup(5, 1, PART)
        m = h.recv()
        while m["t"] in ("PART", "LIAR"):
            m = h.recv()
        assert m["t"] == "END" and m["status"] != FOUND, m
    CASES.append(("index_" + name, f))


for name_, hook_ in {
    "absent": lambda a, o: o.reply("404 Not Found", b""),
    "hangs": lambda a, o: o.hang(),
    "endless": lambda a, o: bad_endless(a, o, None),
    "header_bomb": lambda a, o: bad_header_bomb(a, o, None),
    "drips": lambda a, o: bad_drip(a, o, None),
    "resets": lambda a, o: o.reset(),
    "garbage": lambda a, o: o.reply("200 OK", os.urandom(5000)),
    "redirects": lambda a, o: o.reply("302 x", b"", "Location: http://127.0.0.1:1/eris/x"),
    "bad_urn": lambda a, o: o.reply("200 OK", b"URL: nar/x\nCompression: none\nERIS: urn:eris:AAAA\nERIS-Manifest: x\n"),
    "other_nar": lambda a, o: o.reply("200 OK", index_text(tree(41, 778, 2))),
    "no_urls": lambda a, o: o.reply("200 OK", b"ERIS: " + SMALL.urn.encode() + b"\n" * 5000),
    "many_groups": lambda a, o: o.reply("200 OK", index_text(tree(41, 778, 2), "lzip") * 2000),
    "long_line": lambda a, o: o.reply("200 OK", b"URL: " + b"x" * 500000 + b"\n"),
}.items():
    index_bad(name_, hook_)


def look(h, server, part, ident=5):
    h.lookup(ident, server, part)
    body = b""
    while True:
        m = h.recv()
        if m["t"] == "PART":
            body += m["data"]
        elif m["t"] == "END":
            return m["status"], body, m
        else:
            assert m["t"] in ("LIAR", "RESOLVE"), m


@case
def index_lookup(lab):
    """The narinfo that the manifest carries; long ones, too."""
    for n, make in ((20, Rpc), (5000, Rpc), (20, Gateway)):
        info = b"StorePath: /gnu/store/%s-x\n" % PART.encode() + b"References: a b c\n" * n
        m = Manifest(SMALL, narinfo=info)
        src = lab.add(make(SMALL.blocks, manifests=[m]))
        ix = lab.add(Index({PART: index_text(SMALL, manifest=m.cid)}))
        h = lab.fetch([(ix.url, 2)], opts(src))
        status, body, end = look(h, 0, PART)
        assert status == FOUND and body == info, (end, h.log)
        assert look(h, 0, hash_part(5), 6)[0] == ABSENT
        assert not src.asked() or make is Rpc


@case
def index_lookup_without_a_narinfo(lab):
    m = Manifest(SMALL)
    src = lab.add(Rpc(SMALL.blocks, manifests=[m]))
    for text in (index_text(SMALL, manifest=m.cid), index_text(SMALL), b"", b"\n"):
        ix = lab.add(Index({PART: text}))
        h = lab.fetch([(ix.url, 2)], opts(src))
        status, body, end = look(h, 0, PART)
        assert status in (ABSENT, FAILED) and not body, end


@case
def index_lookup_bad_manifest(lab):
    info = b"StorePath: /gnu/store/%s-x\n" % PART.encode()
    m = Manifest(SMALL, narinfo=info)
    good = m.nodes[m.root]
    for bad in (good + b"x", good[:-1], other(), b"", good.replace(b"gnu", b"GNU"), bytes(1 << 20), bytes(3 << 20)):
        liar = Manifest(SMALL, narinfo=info)
        liar.nodes = {liar.root: bad}
        src, ix = lab.add(Rpc({}, manifests=[liar])), lab.add(Index({PART: index_text(SMALL, manifest=m.cid)}))
        h = lab.fetch([(ix.url, 2)], opts(src, block_timeout="1"))
        status, body, end = look(h, 0, PART)
        assert status in (ABSENT, FAILED) and not body, end


@case
def index_lookup_second_source(lab):
    info = b"StorePath: /gnu/store/%s-x\n" % PART.encode()
    m = Manifest(SMALL, narinfo=info)
    a, b = lab.add(Rpc({})), lab.add(Gateway({}, manifests=[m]))
    ix = lab.add(Index({PART: index_text(SMALL, manifest=m.cid)}))
    h = lab.fetch([(ix.url, 2)], opts(a, b, block_timeout="1"))
    status, body, end = look(h, 0, PART)
    assert status == FOUND and body == info, end


@case
def index_is_dead(lab):
    rpc = lab.add(Rpc(SMALL.blocks))
    h = lab.fetch([(lab.plain(SMALL).url, 0), ("http://127.0.0.1:%d" % lab.refusing(), 2)], opts(rpc))
    run = h.nar2([lab.cand(SMALL, urn="")], len(SMALL.content), part=PART)
    same(run, SMALL)
    assert run.seconds < 1, run.seconds
    assert look(h, 1, PART)[0] != FOUND


# --- configuration ----------------------------------------------------------------------------------------

@case
def bad_options(lab):
    """A bad line costs that line, with a message."""
    rpc = lab.add(Rpc(SMALL.blocks))
    bad = [("ipfs", "junk"), ("ipfs", "ftp://x/"), ("ipfs-gateway", "http://u:p@127.0.0.1/"), ("ipfs-gateway", ""), ("block-server", "x" * 1024),
           ("block-timeout", "0"), ("block-timeout", "5s"), ("seed", "some"), ("nonsense", "1"), ("publish-again", "maybe")]
    h = lab.fetch([lab.plain(SMALL)], bad + opts(rpc))
    same(h.nar2([lab.cand(SMALL)], len(SMALL.content)), SMALL, missed=0)
    assert len(h.log) >= len(bad), (len(h.log), h.log)


@case
def options_after_work_are_fatal(lab):
    h = lab.fetch([lab.plain(SMALL)])
    h.nar2([lab.cand(SMALL)], len(SMALL.content))
    h.option("seed", "none")
    assert h.wait() == 1 and h.log
    h.ended = 1


@case
def the_encoder_here_is_right(lab):
    """This suite's own encoder against the official vectors (those with the null secret)."""
    where = os.environ.get("NARLOCK_SHARED", "")
    files = sorted(glob.glob(where + "/vectors/eris/*positive*.json")) if where else []
    if not files:
        raise Skip("NARLOCK_SHARED is not set")
    n = 0
    for f in files:
        with open(f) as fp:
            v = json.load(fp)
        if any(unb32(v["convergence-secret"])):
            continue
        t = Tree(unb32(v["content"]), v["block-size"])
        assert t.urn == v["urn"] and {b32(r): b32(b) for r, b in t.blocks.items()} == v["blocks"], f
        n += 1
    key = bytes(range(32))
    assert n > 5 and chacha(key, 3, b"x" * 999) == chacha_slow(key, b"\3" + bytes(11), b"x" * 999)


def too_long(signum, frame):
    raise TimeoutError("the case takes too long")


def one(number):
    """Run one case: its line."""
    name, f = CASES[number]
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(getattr(f, "longest", LONGEST))
    directory = tempfile.mkdtemp(prefix="narlock-blocks.")
    os.chmod(directory, 0o755)
    lab, began = Lab(directory), time.monotonic()
    try:
        f(lab)
        lab.finish()
        return "ok %s (%.1f s%s)" % (name, time.monotonic() - began, "; " + lab.note if lab.note else "")
    except Skip as e:
        return "SKIP %s: %s" % (name, e)
    except Exception as e:
        if "NARLOCK_TEST_TRACE" in os.environ:
            traceback.print_exc()
        lines = [x.lineno for x in traceback.extract_tb(e.__traceback__) if x.filename == os.path.abspath(__file__)]
        logs = [line for h in lab.fetchers for line in h.log][:6]
        exits = [h.ended if h.ended is not None else h.wait(0.05) for h in lab.fetchers]
        return "not ok %s: %s: %s (line %s; %.1f s; exit codes %r; log %r)" % (
            name, type(e).__name__, str(e)[:500], "/".join(map(str, lines)), time.monotonic() - began, exits, logs)
    finally:
        signal.alarm(0)
        lab.close()
        shutil.rmtree(directory, ignore_errors=True)


def main():
    global PROGRAMS
    if block_servers.SODIUM is None:
        print("SKIP blocks: no libsodium to make blocks with")
        return 0
    copies = tempfile.mkdtemp(prefix="narlock-blocks.")  # another uid has to be able to execute it
    os.chmod(copies, 0o755)
    shutil.copy(os.path.join(PROGRAMS, "fetch"), copies)
    PROGRAMS = copies
    counts = {"ok": 0, "not": 0, "SKIP": 0}
    chosen = [i for i, (name, _) in enumerate(CASES) if not WORDS or any(w in name for w in WORDS)]
    with multiprocessing.get_context("fork").Pool(AT_A_TIME) as pool:
        for line in pool.imap(one, chosen):
            counts[line.split(" ")[0]] += 1
            print(line)
            sys.stdout.flush()
    shutil.rmtree(copies, ignore_errors=True)
    print("%d passed, %d failed, %d skipped" % (counts["ok"], counts["not"], counts["SKIP"]))
    return 1 if counts["not"] else 0


if __name__ == "__main__":
    sys.exit(main())
