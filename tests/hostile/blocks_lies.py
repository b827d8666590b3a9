# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests (blocks.py): bad answers and bad CARs, from each kind of source."""
import hashlib, socket, struct
from block_servers import (BAD, bad_drip, bad_header_bomb, blake, BLOCK, BlockServer, car_header, CBOR,
                           cbor_text, cid_bytes, Gateway, head, link, Manifest, NarServer, other, Rpc,
                           section, varint)
from blocks_kit import arrives, case, CASES, data, late_for, opts, same, settled, SMALL, tree, until


# --- bad answers ------------------------------------------------------------------------------------------

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
