# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests (blocks.py): publish-again: who is asked for it, how often, and how long it is waited for."""
import threading
from fetch_wire import DONE, EXHAUSTED, NFAILED
from block_servers import bad_endless, bad_header_bomb, Gateway, NarServer, Rpc
from blocks_kit import arrives, case, CASES, cpu, opts, same, tree


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


@case
def again_while_requests_search(lab):
    """What was published again is asked for, and not answered: the time of publish-again has passed meanwhile, and nothing is
    to be done."""
    t, asked = tree(10), [0]

    def behave(ask, out, block):
        asked[0] += 1
        return None if asked[0] == 1 else out.hang()
    nar = lab.add(NarServer({}, again=lambda a, o: o.reply("202 Accepted", b"")))
    h = lab.fetch([nar], opts(lab.add(Gateway({}, behave=behave))))
    run = h.nar2([lab.cand(t)], len(t.content))
    used = cpu(h)
    assert run.end["status"] == EXHAUSTED and nar.posts() and asked[0] > 1, (run.end, asked)
    assert used < run.seconds / 10, "%.2f s of processor time in %.1f s" % (used, run.seconds)
