# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests (blocks.py): one source alone, of each kind; what it lacks; connections and redirects."""
import os, random, socket, threading, time
from fetch_wire import EXHAUSTED
from fetch_servers import make_certificate, tls_context
from block_servers import BLOCK, BlockServer, car_header, Gateway, Manifest, NarServer, RAW, Rpc, Tree, uncid
from blocks_kit import after, arrives, case, CASES, data, opts, same, Skip, SMALL, tree


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
    """What names the file comes after all blocks that were asked for have been denied, and no server has the nar: the stream
    may still bring it."""
    t = tree(120)
    m = Manifest(t)

    def late(ask, out):
        known = uncid(ask.arg("arg") or "")
        if known is not None and known[0] != RAW:
            time.sleep(0.25)
    src = lab.add(Rpc(t.blocks, manifests=[m], get=False, first=late))
    h = lab.fetch([lab.add(NarServer({}))], opts(src))
    same(h.nar2([lab.cand(t, manifest=m.cid)], len(t.content)), t, repaired=0)


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


def hopeless(lab, most, seconds, pace=None, lacks=(), **kw):
    """Every block is denied, no server has the nar, and the CAR is of no use: that takes no longer than without it."""
    t = tree(300)
    m = Manifest(t)

    def export(ask, out):
        if pace is None:
            return out.hang()

        def slowly():
            for piece in [car_header(m.root)] + list(m.sections(t.without([t.leaves[i] for i in lacks]))):
                yield piece
                out.wait(pace)
        return out.chunks(slowly())
    for others in (0, 1):
        h = lab.fetch([lab.add(NarServer({}))], opts(lab.add(Rpc({}, manifests=[m], get=False, export=export, **kw)),
                                                     publish_again="no"), stall=seconds * 1000)
        run = h.nar2([lab.cand(t, manifest=m.cid)], len(t.content), timeout=20, others=others)
        assert run.end["status"] == EXHAUSTED and run.seconds < most, (others, run.end, run.seconds)


@case
def alone_car_silent(lab):
    hopeless(lab, 4, 5)


@case
def alone_car_and_file_silent(lab):
    hopeless(lab, 4, 5, files=lambda a, o: o.hang())


@case
def alone_car_drips_without_the_second_leaf(lab):
    """All that it brings is wanted, and nothing of it helps."""
    hopeless(lab, 4, 1, pace=0.3, lacks=[1])


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
    t = tree(200)
    rpc, nar = lab.add(Rpc(t.blocks, behave=after(100, lambda out: out.reset()))), lab.plain(t, ranges=False)
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
