# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests (blocks.py): manifests: where they are all that is known, and bad ones."""
import socket, time
from fetch_wire import CANCELLED, DONE
from block_servers import (blake, BLOCK, BlockServer, CBOR, cbor_text, cid, cid_bytes, file_node, Gateway,
                           head, link, Manifest, NarServer, PB, Rpc, uncid)
from blocks_kit import case, CASES, cpu, opts, same, SMALL, tree, until


# --- nothing else is known --------------------------------------------------------------------------------

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


# --- bad ones ---------------------------------------------------------------------------------------------

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


# --- their roots ------------------------------------------------------------------------------------------

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
        used = cpu(h)
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
