# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests (blocks.py): leaves that come out of the nar's file by Range, and servers that lie about it."""
import time
from fetch_wire import DONE
from block_servers import bad_endless, bad_header_bomb, BLOCK, BlockServer, NarServer, Rpc
from blocks_kit import arrives, case, CASES, data, opts, same, tree, until


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
