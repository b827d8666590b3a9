# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests (blocks.py): what a daemon lacks: it has no peers, or finds some, or is long about it."""
import threading
from fetch_wire import EXHAUSTED, NFAILED
from block_servers import car_header, Manifest, Rpc, Swarm
from blocks_kit import case, CASES, opts, same, searching, SMALL, tree


def no_server(lab, t, lacks, **kw):
    """All HTTP servers are dead, and the daemon has not got all blocks."""
    rpc, nar = lab.add(Rpc(t.without(lacks), behave=searching(), **kw)), lab.plain(t)
    nar.close()
    return rpc, lab.fetch([nar], opts(rpc, block_timeout="1")), [lab.cand(t)]


@case
def no_peers_and_no_server(lab):
    """A daemon that knows no peers will not find what it has not: nobody waits for it, and the message says why."""
    for kubo in (True, False):
        for t, lacks in ((SMALL, SMALL.blocks), (SMALL, SMALL.leaves[20:22]), (tree(600, 5), tree(600, 5).leaves[3::2])):
            rpc, h, cands = no_server(lab, t, lacks, peers=[], kubo=kubo)
            for i in range(2):
                run = h.nar2(cands, len(t.content), ident=7 + i)
                assert run.end["status"] in (EXHAUSTED, NFAILED), run.end
                assert "no source has all blocks, and the IPFS daemon knows no peers" in run.end["reason"], run.end
                assert run.seconds < 10, run.seconds
                lab.note += "%.1f s " % run.seconds
            n = sum("swarm/peers" in r.path for r in rpc.requests)
            assert 1 <= n <= 3, n


@case
def no_peers_says_a_busy_daemon(lab):
    """It does not answer the first time."""
    asked = []

    def peers(a, o):
        asked.append(1)
        return o.hang() if len(asked) == 1 else o.reply("200 OK", b'{"Peers":null}')
    rpc, h, cands = no_server(lab, SMALL, SMALL.leaves[20:22], peers=peers)
    run = h.nar2(cands, len(SMALL.content))
    assert "the IPFS daemon knows no peers" in run.end["reason"] and len(asked) == 2, (run.end, asked)
    assert run.seconds < 6, run.seconds


@case
def no_peers_but_a_server(lab):
    """What such a daemon lacks is asked of the others soon, however long a block may take."""
    for t, lacks in ((SMALL, SMALL.blocks), (SMALL, SMALL.leaves[20:22]), (tree(200), tree(200).leaves[3::2])):
        for with_manifest in (False, True):
            m = Manifest(t)
            rpc = lab.add(Rpc(t.without(lacks), behave=searching(30), peers=[], manifests=[m]))
            h = lab.fetch([lab.plain(t)], opts(rpc, block_timeout="20"))
            run = h.nar2([lab.cand(t, manifest=m.cid if with_manifest else "")], len(t.content))
            same(run, t)
            assert run.end["missed"] > 0 and run.seconds < 4, (run.end, run.seconds)
            lab.note += "%.1f s " % run.seconds


@case
def no_peers_but_all_blocks(lab):
    """Nor does it need any for what it has."""
    rpc, h, cands = no_server(lab, SMALL, (), peers=[])
    same(h.nar2(cands, len(SMALL.content)), SMALL, missed=0)


@case
def peers_and_no_server(lab):
    """A daemon with peers, or one that does not say, is waited for: what it lacks comes some seconds later."""
    t, lacks = SMALL, SMALL.leaves[20:22]
    for peers in (["12D3KooW"], None, lambda a, o: o.hang()):
        rpc, h, cands = no_server(lab, t, lacks, peers=peers)
        timer = threading.Timer(4, rpc.blocks.update, [{r: t.blocks[r] for r in lacks}])
        timer.start()
        run = h.nar2(cands, len(t.content))
        timer.cancel()
        same(run, t)
        assert run.seconds > 4 and any("swarm/peers" in r.path for r in rpc.requests), (run.seconds, peers)
        lab.note += "%.1f s " % run.seconds


@case
def peers_come_later(lab):
    """Seconds later it is asked again: it has found some."""
    t, lacks = SMALL, SMALL.leaves[20:22]
    rpc, h, cands = no_server(lab, t, lacks, peers=[])
    run = h.nar2(cands, len(t.content))
    assert "knows no peers" in run.end["reason"], run.end
    rpc.peers = ["12D3KooW"]
    rpc.blocks.update({r: t.blocks[r] for r in lacks})
    same(h.nar2(cands, len(t.content), ident=8), t)


def nothing_else(lab, t, behave, **kw):
    """A daemon with all blocks, in its own time, and a nar whose URL leads nowhere."""
    rpc = lab.add(Rpc(t.blocks, behave=behave, **kw))
    return rpc, lab.fetch([("http://127.0.0.1:%d" % lab.refusing(), 0)], opts(rpc, block_timeout="1"), stall=1000)


def slow_swarm(name, blocks, most, *how, **kw):
    """It arrives, although nearly all requests run out of time, again and again."""
    def f(lab):
        t, swarm = tree(blocks, 5), Swarm(*how)
        m = Manifest(t)
        stops = lambda a, o: not o.chunks([car_header(m.root)] + list(m.sections())[:3], end=False) and o.hang()  # noqa: E731
        rpc, h = nothing_else(lab, t, swarm, manifests=[m], export=stops)
        run = h.nar2([lab.cand(t, manifest=m.cid if kw.get("car") else "")], len(t.content), timeout=50)
        same(run, t)
        lab.note = "%.1f s, %d of %d requests ran out" % (run.seconds, swarm.ran_out, len(rpc.asked()))
        assert swarm.ran_out > 0 and run.seconds < most, lab.note
    CASES.append(("slow_swarm_" + name, f))


slow_swarm("delivers", 40, 20, .15)
slow_swarm("begins_late", 20, 30, .05, 5)
slow_swarm("takes_longer_than_the_timeout", 3, 30, 1.5)
slow_swarm("behind_a_car", 40, 30, .15, car=True)


def nobody_has_it(lab):
    """A daemon that looks for each block until its time is over, and no other way: it is asked for a minute, with more and
    more time; for the next nar less long; and not at all so when the broker has other servers to ask."""
    t, swarm = tree(5), Swarm(0, 1000)
    rpc, h = nothing_else(lab, t, swarm)
    took, asked = [], []
    for ident, others, least, most in ((7, 0, 60, 80), (8, 0, 15, 30), (9, 1, 1, 12)):
        before = len(rpc.asked())
        run = h.nar2([lab.cand(t)], len(t.content), ident=ident, timeout=100, others=others)
        assert run.end["status"] == EXHAUSTED, run.end
        took.append(run.seconds)
        asked.append(len(rpc.asked()) - before)
        assert least <= run.seconds < most and 0 < asked[-1] < 16, (took, asked)
    lab.note = " s, ".join("%.1f" % x for x in took) + " s; %s requests" % asked


nobody_has_it.longest = 150
CASES.insert(0, ("nobody_has_it", nobody_has_it))  # while the others run
