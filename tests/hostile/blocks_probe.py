# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests (blocks.py): the broker asks whether anybody has it (PROBE)."""
import time
from block_servers import BAD, BlockServer, Gateway, Manifest, other, Rpc, Silent
from blocks_kit import case, opts, SMALL, tree


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
