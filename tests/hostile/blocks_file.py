# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests (blocks.py): the file of a manifest: all blocks in one stream that has no hashes."""
import socket
from block_servers import (bad_drip, bad_header_bomb, BLOCK, BlockServer, Gateway, Manifest, NarServer, other,
                           Rpc, Tree)
from blocks_kit import case, CASES, data, exports, late_for, opts, same, SMALL, tree, until


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
