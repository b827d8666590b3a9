# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests (blocks.py): bad capabilities, and trees that lead nowhere or never end."""
import glob, json, os, random, time
from fetch_wire import DONE, NFAILED
from block_servers import (ARITY, b32, blake, BLOCK, BlockServer, chacha, chacha_slow, Gateway, NarServer,
                           Rpc, seal, Tree, unb32, urn)
from blocks_kit import arrives, case, CASES, data, opts, same, Skip, SMALL, tree


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


@case
def content_is_one_byte_too_long(lab):
    """The last block begins within the limit and ends behind it."""
    rpc = lab.add(Rpc(SMALL.blocks))
    h = lab.fetch([lab.add(NarServer({}))], opts(rpc, publish_again="no"))
    run = h.nar2([lab.cand(SMALL, compression="gzip")], len(SMALL.content), most=len(SMALL.content) - 1)
    assert run.end["status"] == NFAILED and len(run.data) < len(SMALL.content), run.end


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
