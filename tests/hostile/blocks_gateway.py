# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests (blocks.py): gateways are asked first whether they have it; one beside the daemon gives the files."""
from block_servers import BlockServer, Gateway, Manifest, NarServer, Rpc, uncid
from blocks_kit import case, CASES, exports, opts, same, SMALL, tree


# --- whether they have it ---------------------------------------------------------------------------------

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


# --- files, beside the daemon -----------------------------------------------------------------------------

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
