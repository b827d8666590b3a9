# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests (blocks.py): indexes: they name the blocks, and lie about them."""
import os
from fetch_wire import ABSENT, FAILED, FOUND, hash_part
from block_servers import bad_drip, bad_endless, bad_header_bomb, Gateway, Index, Manifest, NarServer, other, Rpc
from blocks_kit import arrives, case, CASES, opts, same, SMALL, tree


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
def manifest_alone_is_nowhere_but_an_index_knows(lab):
    t, m = SMALL, Manifest(SMALL)
    rpc, ix = lab.add(Rpc(t.blocks)), lab.add(Index({PART: index_text(t)}))
    h = lab.fetch([(lab.add(NarServer({})).url, 0), (ix.url, 2)], opts(rpc))
    same(h.nar2([lab.cand(t, urn="", manifest=m.cid)], len(t.content), part=PART), t, missed=0)
    assert len(ix.requests) == 1


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
