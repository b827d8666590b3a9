# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests (blocks.py): the fetcher's memory stays below its limit, whatever comes at once and however slowly it is read."""
import threading, time
from block_servers import BlockServer, car_header, Gateway, Manifest, NarServer, Rpc
from blocks_kit import arrives, case, CASES, cpu, exports, opts, RSS, same, tree


class Barrier:
    """Answers all at once, when no new question has come for a while."""

    def __init__(self):
        self.cond, self.last, self.turn = threading.Condition(), 0.0, 0
        self.over = False

    def __call__(self, ask, out, block):
        with self.cond:
            self.last, turn = time.monotonic(), self.turn
            while self.turn == turn and not self.over:
                self.cond.wait(0.02)
                if self.turn == turn and time.monotonic() - self.last > 0.12:
                    self.turn += 1
                    self.cond.notify_all()
        return None


@case
def memory_all_at_once(lab):
    t = tree(1100, 99)
    rpcs = [lab.add(Rpc(t.blocks, behave=Barrier())) for _ in range(4)]
    h = lab.fetch([lab.plain(t)], opts(*rpcs))
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    assert run.end["missed"] <= len(t.blocks) * 0.03 + 5, run.end
    most = sum(r.flying_max for r in rpcs)
    assert most >= 128, "only %d in flight" % most
    lab.note = "RssAnon %d KiB with up to %d in flight" % (lab.peak, most)


@case
def memory_reader_sleeps(lab):
    """The reader sleeps; blocks pile up within bounds, and no source is to blame for it."""
    t = tree(1100, 99)
    rpc, bs = lab.add(Rpc(t.blocks)), lab.add(BlockServer(t.blocks))
    h = lab.fetch([lab.plain(t)], opts(rpc, bs, block_timeout="1"))
    run = h.nar2([lab.cand(t)], len(t.content), slow=2.5)
    same(run, t)
    assert run.end["missed"] <= len(t.blocks) * 0.03, run.end
    lab.note = "RssAnon %d KiB, missed %d" % (lab.peak, run.end["missed"])


@case
def memory_first_block_last(lab):
    """The first leaf comes last: what comes meanwhile is bounded."""
    t = tree(1100, 99)
    rpc = lab.add(Rpc(t.blocks, behave=lambda a, o, b: o.wait(2) or None if a.ref == t.leaves[0] else None))
    h = lab.fetch([lab.plain(t)], opts(rpc, block_timeout="10"))
    same(h.nar2([lab.cand(t)], len(t.content)), t)
    lab.note = "RssAnon %d KiB" % lab.peak


@case
def memory_streams_wait(lab):
    """Streams in small chunks wait for a reader that sleeps: they go on then, and nothing is asked for besides."""
    t = tree(1100, 99)
    m = Manifest(t)
    rpc, gw = lab.add(Rpc(t.blocks, manifests=[m])), lab.add(Gateway(t.blocks, manifests=[m]))
    h = lab.fetch([lab.plain(t)], opts(rpc, gw))
    run = h.nar2([lab.cand(t, manifest=m.cid)], len(t.content), slow=1.5)
    same(run, t, missed=0)
    assert run.seconds < 4 and not any("CAR" in line or "breaks" in line for line in h.log), (run.seconds, h.log)
    lab.note = "RssAnon %d KiB, %d requests beside the CAR" % (lab.peak, len(rpc.requests) + len(gw.requests) - 2)


@case
def memory_file_waits(lab):
    """The reader sleeps: the stream waits within the bounds of memory, goes on, and nothing is asked for besides."""
    t = tree(1100, 99)
    m = Manifest(t)
    for big in (False, True):
        def answer(ask, out):
            p = m.stream()[0]
            return out.chunks([b"".join(p[i:i + 32]) for i in range(0, len(p), 32)] if big else p)
        rpc = lab.add(Rpc(t.blocks, manifests=[m], files=answer))
        h = lab.fetch([lab.add(NarServer({}))], opts(rpc))
        run = h.nar2([lab.cand(t, manifest=m.cid)], len(t.content), slow=1.5)
        same(run, t, missed=0)
        assert rpc.streams() == 1 and exports(rpc) == 0 and run.seconds < 6, (run.seconds, rpc.streams(), exports(rpc))
        used = cpu(h)
        assert used < 1, "%.2f s of the processor while it waited" % used
        lab.note += "RssAnon %d KiB, %d requests for blocks, %.2f s; " % (lab.peak, len(rpc.asked()), used)


def stream_begins_again(name, first, second):
    """A stream breaks off after FIRST blocks.  Another one would bring those once more: there is one only if they are
    few, it holds up nobody, and nobody is told that nobody has asked for them."""
    def f(lab):
        t = tree(1100, 99)
        m = Manifest(t)

        def export(ask, out):
            out.chunks([car_header(m.root)] + list(m.sections(t.blocks))[:first], end=False)
            return False
        rpc, next_ = lab.add(Rpc(t.blocks, manifests=[m], export=export)), lab.add(Rpc(t.blocks, manifests=[m]))
        h = lab.fetch([lab.plain(t)], opts(rpc, next_))
        run = h.nar2([lab.cand(t, manifest=m.cid)], len(t.content), slow=0.5)
        same(run, t)
        assert run.seconds < 4 and not any("nobody" in line for line in h.log), (run.seconds, h.log)
        assert next_.count("dag/export") == second, next_.count("dag/export")
    CASES.append(("stream_begins_again_" + name, f))


stream_begins_again("after_few", 150, 1)
stream_begins_again("after_many", 900, 0)


def memory_of(name, behave, most=RSS):
    def f(lab):
        lab.most = most
        t = tree(1100, 99)
        wait, seen = Barrier(), []

        def answer(ask, out, block):  # good ones first, or few are asked for at a time
            seen.append(ask)
            if len(seen) > 150:
                return behave(ask, out, block, wait)
        rpcs = [lab.add(Rpc(t.blocks, behave=answer)) for _ in range(4)]
        h = lab.fetch([lab.plain(t)], opts(*rpcs, seed="none"))
        run = arrives(h, [lab.cand(t)], t)
        lab.note = "RssAnon %d KiB, up to %d in flight, missed %d" % (
            lab.peak, sum(r.flying_max for r in rpcs), run.end["missed"])
    CASES.append(("memory_" + name, f))


def half_block(ask, out, block, wait):
    """All of it but one byte, and that when the others are there, too."""
    out.head("200 OK", "Content-Length: %d" % len(block))
    out.raw(block[:-1])
    wait(ask, out, block)
    return out.raw(block[-1:]) or True


def long_head(ask, out, block, wait):
    out.raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(block) + (b"X-Long: " + b"h" * 990 + b"\r\n") * 55)
    wait(ask, out, block)
    return out.raw(b"\r\n" + block) or True


def long_trailer(ask, out, block, wait):
    out.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Stream-Error\r\n\r\n8000\r\n" + block + b"\r\n0\r\n")
    out.raw((b"X-Long: " + b"h" * 990 + b"\r\n") * 55)
    wait(ask, out, block)
    return out.raw(b"\r\n") or True


def long_error(ask, out, block, wait):
    wait(ask, out, block)
    return out.reply("500 x", b'{"Message":"' + b"m" * 500000 + b'"}')


memory_of("half_blocks", half_block)


def long_line(n):
    """One line, which libcurl hands over only when it is whole."""
    def f(ask, out, block, wait):
        out.raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Long: " % len(block) + b"h" * n)
        wait(ask, out, block)
        return out.raw(b"\r\n\r\n" + block) or True
    return f


# By itself libcurl keeps up to 100 KiB of a line that has no end, in a buffer that doubles: sources that have gained a
# window of 256 requests before could have that much of each.
memory_of("long_lines", long_line(95000))
memory_of("half_lines", long_line(32000))
memory_of("whole_lines", long_line(16000))
memory_of("long_heads", long_head)
memory_of("long_trailers", long_trailer)
memory_of("long_errors", long_error)
