# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests (blocks.py): sources that are slow, hang, break or are gone; orders that end early."""
import random, select, socket, threading, time
from fetch_wire import CANCELLED, DONE, EXHAUSTED, FOUND, hash_part, NFAILED
from fetch_servers import full_backlog
from block_servers import BLOCK, BlockServer, Gateway, Index, NarServer, Rpc, Silent
from blocks_kit import after, case, CASES, opts, same, SMALL, tree


# --- slow, hanging, dead ----------------------------------------------------------------------------------

@case
def slow_block(lab):
    """One block takes 20 s: after the block time-out it is asked for elsewhere."""
    t = tree(120)
    slow = t.leaves[40]
    rpc = lab.add(Rpc(t.blocks, behave=lambda a, o, b: o.wait(20) or None if a.ref == slow else None))
    bs, nar = lab.add(BlockServer(t.blocks)), lab.plain(t)
    h = lab.fetch([nar], opts(rpc, bs, block_timeout="1"))
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t, missed=0, repaired=0)  # its time was not over
    assert run.seconds < 3 and set(bs.asked()) <= set(t.blocks) and len(bs.asked()) <= 5, (run.seconds, len(bs.asked()))


@case
def hangs_in_the_middle_of_the_nar(lab):
    """The daemon is stopped (SIGSTOP) after 60 blocks."""
    t = tree(200)
    rpc, nar = lab.add(Rpc(t.blocks, behave=after(60, lambda out: out.hang()))), lab.plain(t)
    h = lab.fetch([nar], opts(rpc, block_timeout="1", seed="none"))
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    assert run.seconds < 8, run.seconds
    assert not nar.gets(False), "the leaves of a known tree come by Range"


@case
def silent_daemon(lab):
    """Accepts, says nothing: one connection attempt, remembered."""
    rpc, nar = lab.add(Silent()), lab.plain(SMALL)
    h = lab.fetch([nar], opts(rpc, block_timeout="1"))
    run = h.nar2([lab.cand(SMALL)], len(SMALL.content))
    same(run, SMALL)
    assert run.seconds < 3.5, run.seconds
    n = rpc.connections
    assert n <= 2, "%d connections" % n
    run = h.nar2([lab.cand(SMALL)], len(SMALL.content), ident=8)
    same(run, SMALL)
    assert run.seconds < 1 and rpc.connections == n, (run.seconds, rpc.connections)


def searches(ask, out, block):
    """Nobody has it, and it takes all the time it is given to find that out."""
    out.wait(int(ask.arg("timeout")[:-2]) / 1000)
    return Rpc.error(out, "Failed to get block: context deadline exceeded")


def of_no_use(name, behave, most, asked):
    """A daemon that tells its version and nothing else: MOST seconds for each of several nars."""
    def f(lab):
        trees = [tree(60, 5, 100 + i) for i in range(len(most))]
        rpc = lab.add(Rpc({r: b for t in trees for r, b in t.blocks.items()}, behave=behave))
        nar = lab.add(NarServer({"/nar/%d" % i: t.content for i, t in enumerate(trees)}, ranges=False))
        h = lab.fetch([nar], opts(rpc, block_timeout="3", seed="none", publish_again="no"), stall=3000)
        for i, t in enumerate(trees):
            run = h.nar2([lab.cand(t, url="nar/%d" % i)], len(t.content), ident=i)
            same(run, t)
            assert run.seconds < most[i], "nar %d: %.2f s" % (i, run.seconds)
            lab.note += "%.2f s, " % run.seconds
        assert len(rpc.requests) <= asked, len(rpc.requests)
        lab.note += "%d requests" % len(rpc.requests)
    CASES.append(("of_no_use_" + name, f))


of_no_use("hangs", lambda a, o, b: o.hang(), (4, 1.5, 0.5), 6)  # one is about its peers
of_no_use("searches", searches, (4, 1.5, 1.5), 7)
of_no_use("resets", lambda a, o, b: o.reset(), (2, 0.5, 0.5), 8)
of_no_use("closes", lambda a, o, b: False, (2, 0.5, 0.5), 8)
of_no_use("errors", lambda a, o, b: Rpc.error(o, "datastore is broken"), (4, 2, 0.5), 16)
of_no_use("busy", lambda a, o, b: o.reply("429 x", b"", "Retry-After: 1"), (4, 2, 0.5), 16)


@case
def of_no_use_for_a_while(lab):
    """What was of no use gets less time, and all of it where there is no other way."""
    a, b = tree(60, 5, 100), tree(60, 5, 101)

    def behave(ask, out, block):
        if ask.ref in a.blocks:
            return searches(ask, out, block)
        return out.wait(1) or None
    rpc, nar = lab.add(Rpc({**a.blocks, **b.blocks}, behave=behave)), lab.plain(a)
    h = lab.fetch([nar], opts(rpc, block_timeout="3", seed="none", publish_again="no"))
    same(h.nar2([lab.cand(a)], len(a.content)), a)
    run = h.nar2([lab.cand(b, url="nar/gone")], len(b.content), ident=8)
    same(run, b)


@case
def insist_on_a_silent_source(lab):
    """It fell silent and is left alone, unless there is no other way."""
    a, b, c = tree(60, 5, 100), tree(60, 5, 101), tree(60, 5, 102)
    n = [0]

    def behave(ask, out, block):
        if ask.ref in a.blocks:
            n[0] += 1
            return out.hang() if n[0] > 3 else None
    for make in (Gateway, BlockServer):
        n[0] = 0
        src = lab.add(make({**a.blocks, **b.blocks, **c.blocks}, behave=behave))
        nar = lab.add(NarServer({"/nar/a": a.content, "/nar/b": b.content}, ranges=False))
        h = lab.fetch([nar], opts(src, block_timeout="1", publish_again="no"), stall=1500)
        same(h.nar2([lab.cand(a, url="nar/a")], len(a.content)), a)
        same(h.nar2([lab.cand(b, url="nar/b")], len(b.content), ident=8), b)
        assert not set(src.asked()) & set(b.blocks), "it is asked although it was silent"
        same(h.nar2([lab.cand(c, url="nar/gone")], len(c.content), ident=9), c)


@case
def searches_are_waited_for_once(lab):
    """A daemon, a gateway and a block server have the root, look for everything else nearly as long as they may, and find
    nothing: they are waited for at the same time, not one after the other."""
    def searches(seconds):
        def behave(ask, out, block):
            if block is None:
                out.wait(seconds)
        return behave
    t = tree(300, 5)
    some = t.without(t.leaves)
    sources = [lab.add(make(dict(some), behave=searches(s))) for make, s in ((Rpc, 1.7), (Gateway, 1.6), (BlockServer, 1.6))]
    h = lab.fetch([lab.plain(t)], opts(*sources, block_timeout="2", publish_again="no", seed="none"))
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    lab.note = "%.1f s" % run.seconds
    assert run.seconds < 4.5, run.seconds


@case
def where_from_does_not_flicker(lab):
    """A few blocks that come from elsewhere, or a second server of the same kind, are no news in the progress line."""
    t, lock = tree(160, 5), threading.Lock()

    def slow(ask, out, block):
        with lock:
            out.wait(.02)
    for few in (True, False):
        blocks = t.without(t.leaves[::25]) if few else t.blocks
        sources = [lab.add(Rpc(dict(blocks), behave=slow)) for _ in range(1 if few else 2)]
        h = lab.fetch([lab.plain(t)], opts(*sources, publish_again="no", seed="none"))
        run = h.nar2([lab.cand(t)], len(t.content))
        same(run, t)
        told = [m["source"] for m in run.all("PROGRESS")]
        changes = [b for a, b in zip([""] + told, told) if a != b]
        assert 0 < len(changes) <= 3 + run.seconds / 2, (run.seconds, changes)
        assert not few or "range" in run.end["reason"], run.end


@case
def resets_in_the_middle(lab):
    """A daemon that breaks every connection is found out in less than the stall time."""
    t = tree(200)
    rpc, nar = lab.add(Rpc(t.blocks, behave=after(100, lambda out: out.reset()))), lab.plain(t, ranges=False)
    h = lab.fetch([nar], opts(rpc, seed="none", publish_again="no"))
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    assert run.seconds < 4, run.seconds


@case
def missing_everywhere_in_the_middle(lab):
    """Every source says at once that it lacks the second half: nobody waits four times for what will not come."""
    t = tree(200)
    rpc, nar = lab.add(Rpc(t.without(t.leaves[100:]))), lab.add(NarServer({}))
    h = lab.fetch([nar], opts(rpc, publish_again="no"))
    ours, theirs = socket.socketpair()
    h.candidate(1, 0, *lab.cand(t))
    h.order(1, len(t.content), 2 * len(t.content), theirs.fileno(), 0)
    theirs.close()
    began = time.monotonic()
    threading.Thread(target=lambda: [None for _ in iter(lambda: ours.recv(1 << 18), b"")], daemon=True).start()
    while (m := h.recv(30))["t"] != "NAREND":
        pass
    assert m["status"] == NFAILED and time.monotonic() - began < 8, (m, time.monotonic() - began)


@case
def dead_daemon(lab):
    """Nobody listens: one attempt, remembered although a daemon is there later."""
    port, nar = lab.refusing(), lab.plain(SMALL)
    h = lab.fetch([nar], [("ipfs", "http://127.0.0.1:%d" % port)])
    run = h.nar2([lab.cand(SMALL)], len(SMALL.content))
    same(run, SMALL)
    assert run.seconds < 1 and not nar.posts(), run.seconds
    lab.held.pop().close()
    rpc = lab.add(Rpc(SMALL.blocks, port=port))
    same(h.nar2([lab.cand(SMALL)], len(SMALL.content), ident=8), SMALL)
    assert rpc.connections == 0


@case
def unreachable_daemon(lab):
    """A listener whose backlog is full answers no connect."""
    sock, fill = full_backlog()
    h = lab.fetch([lab.plain(SMALL)], [("ipfs", "http://127.0.0.1:%d" % sock.getsockname()[1]), ("block-timeout", "1")],
                  connect=1000)
    run = h.nar2([lab.cand(SMALL)], len(SMALL.content))
    same(run, SMALL)
    assert run.seconds < 3.5, run.seconds
    run = h.nar2([lab.cand(SMALL)], len(SMALL.content), ident=8)
    same(run, SMALL)
    assert run.seconds < 1, run.seconds


@case
def no_source_at_all(lab):
    t = tree(600, 5)
    nar = lab.plain(t)
    h = lab.fetch([nar])
    plain = h.nar2([lab.cand(t, urn="")], len(t.content)).seconds
    run = h.nar2([lab.cand(t)], len(t.content), ident=8)
    same(run, t)
    assert len(nar.requests) == 2 and not nar.posts(), [(r.method, r.target) for r in nar.requests]
    assert run.seconds < 2 * plain + 0.3, (run.seconds, plain)


@case
def hedging_is_bounded(lab):
    """Two daemons: one answers at once, the other takes its time for some.  Duplicate questions: at most 3 %."""
    t = tree(600, 5)
    rng = random.Random(5)
    slow = lab.add(Rpc(t.blocks, behave=lambda a, o, b: o.wait(0.4 if rng.random() < 0.1 else 0.01) or None))
    fast = lab.add(Rpc(t.blocks))
    nar = lab.plain(t)
    h = lab.fetch([nar], opts(slow, fast, seed="none"))
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    ranges = sum((r.range()[1] - r.range()[0]) // BLOCK + 1 for r in nar.gets(True))
    asked = len(slow.asked()) + len(fast.asked()) + ranges
    assert asked <= len(t.blocks) * 1.03 + 12, "%d questions for %d blocks" % (asked, len(t.blocks))
    lab.note = "%d questions for %d blocks (%d slow, %d fast, %d ranges), %.1f s" % (
        asked, len(t.blocks), len(slow.asked()), len(fast.asked()), ranges, run.seconds)


@case
def a_source_that_misses_all_is_bypassed(lab):
    t = tree(600, 5)
    empty, full = lab.add(Rpc({})), lab.add(BlockServer(t.blocks))
    h = lab.fetch([lab.plain(t)], opts(empty, full, seed="none"))
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    assert 16 <= run.end["missed"] == run.end["repaired"] <= len(empty.asked()), run.end
    assert len(empty.asked()) < len(t.blocks) / 2, len(empty.asked())
    lab.note = "%d of %d asked in vain" % (len(empty.asked()), len(t.blocks))


# --- orders that end early, and what goes on meanwhile ----------------------------------------------------

@case
def cancel_while_blocks_are_on_their_way(lab):
    t = tree(600, 5)
    for seconds in (0.05, 0.3):
        rpc = lab.add(Rpc(t.blocks, behave=lambda a, o, b: o.wait(0.2) or None))
        h = lab.fetch([lab.plain(t)], opts(rpc))
        for ident in (3, 4):
            ours, theirs = socket.socketpair()
            h.candidate(ident, 0, *lab.cand(t))
            h.order(ident, len(t.content), len(t.content), theirs.fileno())
            theirs.close()
            time.sleep(seconds)
            h.cancel(ident)
            m = h.recv()
            while m["t"] in ("PROGRESS", "BEGIN"):
                m = h.recv()
            assert m["t"] == "NAREND" and m["status"] in (CANCELLED, DONE), m
            ours.close()
        rpc.behave = None
        same(h.nar2([lab.cand(t)], len(t.content)), t)


@case
def cancel_while_waiting(lab):
    """For an index, for publish-again, for a daemon that says nothing."""
    t = SMALL
    ix = lab.add(Index({}, hook=lambda a, o: o.hang()))
    nar = lab.add(NarServer({}, again=lambda a, o: o.reply("202 Accepted", b"")))
    rpc, mute = lab.add(Rpc({})), lab.add(Silent())
    for src, urn_ in ((rpc, ""), (rpc, t.urn), (mute, t.urn)):
        h = lab.fetch([(nar.url, 0), (ix.url, 2)], opts(src))
        for ident in (3, 4):
            ours, theirs = socket.socketpair()
            h.candidate(ident, 0, *lab.cand(t, urn=urn_))
            h.order(ident, len(t.content), len(t.content), theirs.fileno())
            theirs.close()
            time.sleep(0.2)
            h.cancel(ident)
            m = h.recv(3)
            assert m["t"] == "NAREND" and m["status"] in (CANCELLED, EXHAUSTED), m
            ours.close()


@case
def reader_goes_away(lab):
    t = tree(600, 5)
    rpc = lab.add(Rpc(t.blocks))
    h = lab.fetch([lab.plain(t)], opts(rpc))
    ours, theirs = socket.socketpair()
    h.candidate(3, 0, *lab.cand(t))
    h.order(3, len(t.content), len(t.content), theirs.fileno())
    theirs.close()
    ours.recv(100)
    ours.close()
    m = h.recv()
    while m["t"] != "NAREND":
        m = h.recv()
    assert m["status"] == NFAILED, m
    same(h.nar2([lab.cand(t)], len(t.content)), t)


@case
def broker_goes_away(lab):
    t = tree(600, 5)
    rpc = lab.add(Rpc(t.blocks, behave=lambda a, o, b: o.wait(0.5) or None))
    h = lab.fetch([lab.plain(t)], opts(rpc))
    ours, theirs = socket.socketpair()
    h.candidate(3, 0, *lab.cand(t))
    h.order(3, len(t.content), len(t.content), theirs.fileno())
    theirs.close()
    time.sleep(0.2)
    began = time.monotonic()
    h.control.close()
    assert h.wait() in (0, 1) and time.monotonic() - began < 1
    h.ended = 0


@case
def lookups_meanwhile(lab):
    t = tree(600, 5)
    info = b"StorePath: /gnu/store/x\n"
    rpc = lab.add(Rpc(t.blocks, behave=lambda a, o, b: o.wait(0.02) or None))
    nar = lab.plain(t, infos={hash_part(i): info for i in range(100)})
    h = lab.fetch([nar], opts(rpc))
    ours, theirs = socket.socketpair()
    h.candidate(3, 0, *lab.cand(t))
    h.order(3, len(t.content), len(t.content), theirs.fileno())
    theirs.close()
    for i in range(100):
        h.lookup(1000 + i, 0, hash_part(i))
    got, found, end, eof = bytearray(), 0, None, False
    while not (end and eof and found == 100):
        for x in select.select([h.control] + ([] if eof else [ours]), [], [], 10)[0]:
            if x is ours:
                b = ours.recv(1 << 18)
                eof = not b
                got += b
            else:
                m = h.recv()
                found += m["t"] == "END" and m["status"] == FOUND
                end = m if m["t"] == "NAREND" else end
    assert got == t.content and end["status"] == DONE, end
