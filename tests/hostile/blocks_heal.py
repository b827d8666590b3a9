# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests (blocks.py): what IPFS lacked is put back while the nar arrives, or stands in the journal (heal.py: what
becomes of that)."""
import fcntl, os, random, signal, struct, tempfile, time
from fetch_wire import DONE
from block_servers import (bad_drip, bad_endless, bad_header_bomb, blake, BLOCK, BlockServer, cid, Gateway,
                           NarServer, other, Rpc, Tree)
from blocks_kit import arrives, case, CASES, data, opts, same, searching, SMALL, tree, until


# --- while the nar arrives --------------------------------------------------------------------------------

def healed(lab, t, lacks, kubo=True, private="yes", seed=None, hook=None, pace=None, **kw):
    rpc = lab.add(Rpc(t.without(lacks), kubo=kubo, put_hook=hook))
    nar = lab.plain(t, pace=pace, **kw)
    more = {"seed": seed} if seed else {}
    if private:
        more["seed_private"] = private
    h = lab.fetch([nar], opts(rpc, publish_again="no", **more))
    return rpc, nar, h


@case
def heal_while_the_nar_arrives(lab):
    """The end of the nar is held back until something was put."""
    t = tree(120)
    lacks = t.leaves[5:15] + t.leaves[100:110]
    seen = []

    def pace(offset):
        if offset >= 105 * BLOCK and not seen:
            seen.append(until(lambda: rpc.puts, 6))
    rpc, nar, h = healed(lab, t, lacks, pace=pace)
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    assert seen and all(seen), "nothing was put while the nar was still arriving"
    assert run.end["missed"] == run.end["repaired"] >= max(20, run.end["reinserted"]), run.end
    assert until(lambda: set(rpc.put_refs()) >= set(lacks)), "%d of %d were put" % (len(set(rpc.put_refs())), len(lacks))
    assert set(rpc.put_refs()) <= set(t.blocks), "something else was put"
    assert all(rpc.blocks[r] == t.blocks[r] for r in lacks)
    lab.note = "%d put requests, reinserted %d by NAR_END" % (len(rpc.puts), run.end["reinserted"])


@case
def heal_second_client_needs_no_server(lab):
    """After healing, everything comes from IPFS alone."""
    t = tree(120)  # fewer than wait to be put at any time: the journal is for the rest
    for lacks in (t.leaves[::50], t.leaves[:90], list(t.blocks)):
        rpc, nar, h = healed(lab, t, lacks)
        same(h.nar2([lab.cand(t)], len(t.content)), t)
        assert until(lambda: len(rpc.blocks) == len(t.blocks), 5), "%d of %d" % (len(rpc.blocks), len(t.blocks))
        assert rpc.blocks == t.blocks
        nar.close()
        run = lab.fetch([nar], opts(rpc)).nar2([lab.cand(t)], len(t.content))
        same(run, t, missed=0, repaired=0)
        lab.note += "%d missing: %d put requests; " % (len(lacks), len(rpc.puts))


@case
def heal_js(lab):
    """js-ipfs keeps the last part of a form only: still all blocks are there in the end."""
    t = tree(120)
    rpc, nar, h = healed(lab, t, t.leaves[5:45], kubo=False)
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    assert 40 + 3 >= run.end["missed"] == run.end["repaired"] >= 16, run.end
    assert until(lambda: len(rpc.blocks) == len(t.blocks), 5), "%d of %d" % (len(rpc.blocks), len(t.blocks))


@case
def heal_from_other_sources(lab):
    """What a block server or a gateway gave is put, too."""
    t = tree(60, 9)
    for make in (BlockServer, Gateway):
        rpc, src = lab.add(Rpc({})), lab.add(make(t.blocks))
        h = lab.fetch([lab.add(NarServer({}))], opts(rpc, src, seed_private="yes"))
        run = h.nar2([lab.cand(t)], len(t.content))
        same(run, t)
        assert run.end["missed"] == run.end["repaired"] >= 16, (make, run.end)
        gone = set(t.blocks if make is BlockServer else rpc.asked())  # a gateway may be asked first
        assert until(lambda: set(rpc.blocks) >= gone, 5), "%s: %d of %d" % (make.__name__, len(rpc.blocks), len(gone))
        for more in ({}, {"seed": "none", "seed_private": "yes"}):  # the nar has a private address; nobody wants it
            rpc = lab.add(Rpc({}))
            h = lab.fetch([lab.add(NarServer({}))], opts(rpc, src, **more))
            same(h.nar2([lab.cand(t)], len(t.content)), t, reinserted=0)
            time.sleep(0.3)
            assert not rpc.puts, (make, more)


@case
def heal_what_a_gateway_has_too(lab):
    """IPFS lacks a few blocks, and a gateway beside it has all: only those few are put."""
    t = tree(200)
    lacks = t.leaves[20:24] + t.leaves[150:156]
    rpc, gw = lab.add(Rpc(t.without(lacks))), lab.add(Gateway(t.blocks, behave=lambda a, o, b: o.wait(0.01) or None))
    h = lab.fetch([lab.add(NarServer({}))], opts(rpc, gw, seed_private="yes"))
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    asked = set(rpc.asked()) & set(lacks)
    assert until(lambda: set(rpc.put_refs()) >= asked, 5), "%d of %d" % (len(set(rpc.put_refs())), len(asked))
    assert set(rpc.put_refs()) <= set(lacks) and run.end["missed"] <= len(lacks) + 3, run.end
    lab.note = "%d asked for, %d missed, %d put" % (len(asked), run.end["missed"], len(rpc.put_refs()))


@case
def heal_counts_of_a_whole_file(lab):
    """A daemon that looks for little in vain, and the file as a whole, which is larger than what is kept of it: what was
    asked for has come."""
    t = tree(600, 5)
    rpc, nar, h = healed(lab, t, t.leaves[100::2], ranges=False)
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    asked = len(set(rpc.asked()) & set(t.leaves[100::2]))
    assert 0 < run.end["missed"] == run.end["repaired"] <= 250, (asked, run.end)
    lab.note = "%d asked for, %d missed" % (asked, run.end["missed"])


@case
def heal_counts_are_true(lab):
    """What is not there is looked for until the daemon is bypassed, and the rest comes with an answer that is read on: only
    what is missing is counted and put back, all of it, and what was not looked at stands in the journal."""
    t = tree(600, 5)
    for every, ranges in ((5, False), (5, True), (50, False)):
        lab.dir = tempfile.mkdtemp(dir=lab.dir)
        os.chmod(lab.dir, 0o755)
        env, entries = journal(lab)
        lacks = t.leaves[3::every]
        rpc, nar = lab.add(Rpc(t.without(lacks), behave=searching())), lab.plain(t, ranges=ranges)
        h = lab.fetch([nar], opts(rpc, seed_private="yes", publish_again="no", block_timeout="1"), env=env)
        run = h.nar2([lab.cand(t)], len(t.content))
        same(run, t)
        late = 3 + 0.03 * len(t.blocks)
        assert run.end["reinserted"] <= run.end["repaired"] <= run.end["missed"] <= len(lacks) + late, (len(lacks), run.end)

        def left():
            return (set(lacks) - set(rpc.blocks)) - {r for e in entries() for r in e["refs"]}
        assert until(lambda: any(e["all"] for e in entries()) or not left(), 5), len(left())
        assert until(lambda: heal_is_idle(rpc), 5)
        assert len(set(rpc.put_refs()) - set(lacks)) <= late, len(set(rpc.put_refs()) - set(lacks))
        lab.note += "%d gone, %d missed, %d put, %d left to the journal, %.1f s; " % (
            len(lacks), run.end["missed"], len(set(rpc.put_refs())), len(set(lacks) - set(rpc.blocks)), run.seconds)


@case
def heal_what_repeats(lab):
    """A missing block comes again, further behind, while it is being put: it was missed once, comes back once."""
    parts = [data(BLOCK, 1000 + i) for i in range(900)]
    parts[450] = parts[850] = parts[5]
    t = Tree(b"".join(parts))
    rpc = lab.add(Rpc(t.without(t.leaves[5:6]), put_hook=lambda a, o: o.wait(1) or None))
    h = lab.fetch([lab.add(NarServer({}))], opts(rpc, lab.add(BlockServer(t.blocks)), seed_private="yes"))
    same(h.nar2([lab.cand(t)], len(t.content)), t)
    assert until(lambda: heal_is_idle(rpc)) and until(lambda: t.leaves[5] in rpc.blocks)
    assert rpc.put_refs().count(t.leaves[5]) == 1, rpc.put_refs().count(t.leaves[5])


def heal_is_idle(rpc):
    n = len(rpc.requests)
    time.sleep(0.3)
    return n == len(rpc.requests)


@case
def heal_seed_all(lab):
    t = tree(60, 9)
    rpc, nar, h = healed(lab, t, t.leaves[3:6], seed="all")
    same(h.nar2([lab.cand(t)], len(t.content)), t)
    assert until(lambda: rpc.blocks == t.blocks, 5)


@case
def heal_seed_none(lab):
    t = tree(60, 9)
    rpc, nar, h = healed(lab, t, t.leaves[3:30], seed="none")
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t, reinserted=0)
    assert 27 + 3 >= run.end["missed"] == run.end["repaired"] >= 16, run.end
    time.sleep(0.5)
    assert not rpc.count("put") and not rpc.count("import")


@case
def heal_nothing_private(lab):
    """What came from a private address is not put, unless the configuration says so."""
    t = tree(60, 9)
    for private in (None, "no"):
        for lacks in (t.leaves[3:30], list(t.blocks)):
            rpc, nar, h = healed(lab, t, lacks, private=private)
            run = arrives(h, [lab.cand(t)], t)
            assert run.end["reinserted"] == 0, run.end
            time.sleep(0.3)
            assert not rpc.count("put") and not rpc.count("import")


@case
def heal_nothing_behind_a_password(lab):
    """Nor is what came from a URL with user and password, which nobody may learn."""
    t = tree(60, 9)
    rpc, nar = lab.add(Rpc(t.without(t.leaves[3:30]))), lab.plain(t)
    h = lab.fetch([("http://user:hunter2@127.0.0.1:%d" % nar.port, 0)], opts(rpc, publish_again="no"))
    same(arrives(h, [lab.cand(t)], t), t)
    time.sleep(0.3)
    assert not rpc.count("put") and not rpc.count("import")
    assert not any("hunter2" in x for x in h.log)


@case
def heal_put_hangs(lab):
    """A put that hangs delays nothing."""
    t = tree(120)
    rpc, nar, h = healed(lab, t, t.leaves[5:105], hook=lambda a, o: o.hang())
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t, reinserted=0)
    assert run.end["missed"] == run.end["repaired"] >= 16 and run.seconds < 2.5, run.seconds
    run = h.nar2([lab.cand(SMALL)], len(SMALL.content), ident=8)
    assert run.seconds < 3, run.seconds


def heal_bad(name, hook):
    def f(lab):
        t = tree(120)
        rpc, nar, h = healed(lab, t, t.leaves[5:105], hook=hook)
        run = h.nar2([lab.cand(t)], len(t.content))
        same(run, t, reinserted=0)
        assert run.end["missed"] == run.end["repaired"] >= 16 and run.seconds < 3, (run.seconds, run.end)
        time.sleep(0.5)
        n = rpc.count("put") + rpc.count("import")
        assert n <= 60, "%d puts" % n
        lab.note = "%d puts" % n
    CASES.append(("heal_put_" + name, f))


for name_, hook_ in {
    "fails": lambda a, o: o.reply("500 x", b'{"Message":"no space left on device","Code":0,"Type":"error"}'),
    "refused": lambda a, o: o.reply("403 Forbidden", b"403"),
    "answers_other_keys": lambda a, o: o.reply("200 OK", b'{"Key":"%s","Size":5}\n' % cid(blake(b"x")).encode() * 9),
    "answers_garbage": lambda a, o: o.reply("200 OK", b"\x00{{{{\n" * 500),
    "answers_nothing": lambda a, o: o.reply("200 OK", b"") if "put" in a.path else o.reply("500 x", b""),
    "resets": lambda a, o: o.reset(),
    "drips": lambda a, o: bad_drip(a, o, None),
    "endless": lambda a, o: bad_endless(a, o, None),
    "header_bomb": lambda a, o: bad_header_bomb(a, o, None),
    "redirects": lambda a, o: o.reply("307 x", b"", "Location: http://127.0.0.1:1" + a.target),
}.items():
    heal_bad(name_, hook_)


@case
def heal_not_a_liar(lab):
    """A daemon that has lied gets nothing, either."""
    t = tree(60, 9)
    rpc = lab.add(Rpc({}, behave=lambda a, o, b: o.ok(other())))
    h = lab.fetch([lab.plain(t)], opts(rpc, seed_private="yes"))
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t, reinserted=0)
    time.sleep(0.3)
    assert len(run.liars) == 1 and not rpc.puts


@case
def heal_memory(lab):
    """A daemon that takes its time with puts while a large nar arrives whole."""
    t = tree(1100, 99)
    rpc, nar, h = healed(lab, t, list(t.blocks), hook=lambda a, o: o.wait(0.2) or None)
    run = h.nar2([lab.cand(t)], len(t.content))
    same(run, t)
    assert run.seconds < 6, run.seconds
    lab.note = "RssAnon %d KiB, %d put by the end, reinserted %d" % (lab.peak, len(rpc.put_refs()), run.end["reinserted"])


# --- the journal ------------------------------------------------------------------------------------------

def journal(lab):
    """(environment, reader) of a journal: the reader gives the entries, by the layout in journal.h."""
    where = os.path.join(lab.dir, "state")
    os.mkdir(where)
    os.chmod(where, 0o777)

    def entries():
        with open(os.path.join(where, "heal"), "rb") as f:
            b = f.read()
        assert len(b) == 256 * 4096, len(b)
        out = []
        for i in range(0, len(b), 4096):
            if b[i + 16:i + 20] != b"nlh1":
                continue
            kind, nurls, nrefs = struct.unpack_from("<BBH", b, i + 20)
            nurl, size = struct.unpack_from("<HQ", b, i + 110)
            at = i + 128 + nurl
            out.append(dict(all=kind == 2, cap=b[i + 44:i + 110], size=size, urls=b[i + 128:at].split(b"\0")[:-1],
                            refs={b[at + 32 * k:at + 32 * k + 32] for k in range(nrefs)}))
            assert nurls == len(out[-1]["urls"]), out[-1]
        return out
    return {"NARLOCK_FETCH_STATE": os.path.join(where, "state")}, entries


@case
def journal_of_what_was_not_put(lab):
    """Puts hang: what is left stands in the journal when NAR_END comes."""
    t = tree(60, 9)
    for lacks in (t.leaves[3:9], list(t.blocks)):
        lab.dir = tempfile.mkdtemp(dir=lab.dir)
        os.chmod(lab.dir, 0o755)
        env, entries = journal(lab)
        rpc, nar = lab.add(Rpc(t.without(lacks), put_hook=lambda a, o: o.hang())), lab.plain(t)
        h = lab.fetch([nar], opts(rpc, seed_private="yes", publish_again="no"), env=env)
        same(h.nar2([lab.cand(t)], len(t.content)), t, reinserted=0)
        (e,) = entries()
        assert e["cap"] == t.cap and e["urls"] == [b"%s/nar/x" % nar.url.encode()] and e["size"] == len(t.content), e
        assert e["all"] or e["refs"] == set(lacks), (len(e["refs"]), e["all"])
        assert not e["all"] or len(lacks) > 6


def after(n, answer):
    """As ordinary N times, then ANSWER."""
    left = [n]

    def hook(a, o):
        left[0] -= 1
        return None if left[0] >= 0 else answer(a, o)
    return hook


def no_space(a, o):
    return o.reply("500 x", b'{"Message":"open x: no space left on device","Code":0,"Type":"error"}')


def killed_at_the_end(name, hook=None, first=None, **kw):
    """The agent is killed right after the last nar, as guix-daemon does it: what is not back stands in the journal, and
    nobody has waited."""
    def f(lab):
        t = tree(600, 5)
        for i, (lacks, ranges) in enumerate(((t.leaves[50:60], True), (t.leaves[3::5], True), (t.leaves[3::5], False), (list(t.blocks), True))):
            lab.dir = tempfile.mkdtemp(dir=lab.dir)
            os.chmod(lab.dir, 0o755)
            env, entries = journal(lab)
            rpc = lab.add(Rpc(t.without(lacks), put_hook=hook and hook(), first=first, **kw))
            h = lab.fetch([lab.plain(t, ranges=ranges)], opts(rpc, seed_private="yes", publish_again="no", block_timeout="1"), env=env)
            run = h.nar2([lab.cand(t)], len(t.content))
            os.kill(h.pid, signal.SIGKILL)
            h.ended = h.wait(5)
            same(run, t)
            assert first or run.end["reinserted"] <= run.end["repaired"], run.end  # without a look, more is put than is known
            left = set(lacks) - set(rpc.blocks) - {r for e in entries() for r in e["refs"]}
            assert not left or any(e["all"] for e in entries()), (i, len(left), run.end)
            assert run.seconds < 10, (i, run.seconds)  # a put may hang for 30
            lab.note += "%.1f s, %d of %d back; " % (run.seconds, len(set(lacks) & set(rpc.blocks)), len(lacks))
    CASES.append(("killed_at_the_end_" + name, f))


killed_at_the_end("plain")
killed_at_the_end("js", kubo=False)
killed_at_the_end("slow_puts", lambda: lambda a, o: o.wait(1) or None)
killed_at_the_end("hanging_puts", lambda: lambda a, o: o.hang())
killed_at_the_end("puts_hang_after_two", lambda: after(2, lambda a, o: o.hang()))
killed_at_the_end("full_after_two", lambda: after(2, no_space))
killed_at_the_end("refused_after_two", lambda: after(2, lambda a, o: o.reply("403 Forbidden", b"403")))
killed_at_the_end("resets_after_two", lambda: after(2, lambda a, o: o.reset()))
for name_, answer_ in {
    "hang": lambda a, o: o.hang(),
    "are_slow": lambda a, o: o.wait(0.4) or None,
    "are_refused": lambda a, o: o.reply("403 Forbidden", b"403"),
    "fail": lambda a, o: o.reply("500 x", b'{"Message":"some error","Code":0,"Type":"error"}'),
    "reset": lambda a, o: o.reset(),
    "are_unknown": lambda a, o: o.reply("404 Not Found", b"404 page not found"),
    "answer_nothing": lambda a, o: o.reply("200 OK", b""),
}.items():
    killed_at_the_end("looks_" + name_, first=lambda a, o, answer=answer_: answer(a, o) if a.path.endswith("block/stat") else None)


@case
def journal_that_is_locked(lab):
    """Somebody sits on it: nobody waits, and it is written all the same."""
    t = tree(60, 9)
    env, entries = journal(lab)
    rpc, nar = lab.add(Rpc(t.without(t.leaves[3:9]), put_hook=lambda a, o: o.hang())), lab.plain(t)
    h = lab.fetch([nar], opts(rpc, seed_private="yes", publish_again="no"), env=env)
    with open(env["NARLOCK_FETCH_STATE"].replace("/state/state", "/state/heal"), "r+b") as f:
        lock = struct.pack("hhqqi", fcntl.F_WRLCK, 0, 0, 0, 0)
        fcntl.fcntl(f, 37, lock)  # F_OFD_SETLK
        run = h.nar2([lab.cand(t)], len(t.content))
        same(run, t)
        assert run.seconds < 5, run.seconds
        (e,) = entries()
        assert e["refs"] == set(t.leaves[3:9]), len(e["refs"])
        lab.note = "%.2f s" % run.seconds


@case
def journal_that_is_damaged(lab):
    """Full of entries, of rubbish, or cut: the new entry has a place, and nobody dies."""
    t = tree(60, 9)
    for what in ("rubbish", "short", "long", "full"):
        lab.dir = tempfile.mkdtemp(dir=lab.dir)
        os.chmod(lab.dir, 0o755)
        env, entries = journal(lab)
        path = env["NARLOCK_FETCH_STATE"].replace("/state/state", "/state/heal")
        rpc, nar = lab.add(Rpc(t.without(t.leaves[3:9]), put_hook=lambda a, o: o.hang())), lab.plain(t)
        options = opts(rpc, seed_private="yes", publish_again="no")
        same(lab.fetch([nar], options, env=env).nar2([lab.cand(t)], len(t.content)), t)
        with open(path, "r+b") as f:
            one = next(b for b in iter(lambda: f.read(4096), b"") if b[16:20] == b"nlh1")
            f.seek(0)
            if what == "rubbish":
                f.write(os.urandom(256 * 4096))
            elif what == "full":
                f.write(b"".join(random.Random(i).randbytes(16) + one[16:] for i in range(256)))
            else:
                f.truncate(5000 if what == "short" else 300 * 4096)
        h = lab.fetch([nar], options, env=env)
        run = h.nar2([lab.cand(t)], len(t.content))
        same(run, t)
        with open(path, "rb") as f:
            b = f.read()
        found = [e for e in (entries() if what in ("rubbish", "short") else []) if e["cap"] == t.cap and e["refs"] == set(t.leaves[3:9])]
        assert len(b) == 256 * 4096 and (len(found) == 1 or what in ("long", "full")), (what, len(b), len(found))
        assert run.seconds < 5, run.seconds


@case
def two_nars_lack_the_same(lab):
    """Both are under way in one agent: each gets its blocks, and the journal names none of them once they are back."""
    t = tree(120)
    lacks = t.leaves[10:40]
    env, entries = journal(lab)
    rpc, nar = lab.add(Rpc(t.without(lacks), put_hook=lambda a, o: o.wait(0.3) or None)), lab.plain(t)
    h = lab.fetch([nar], opts(rpc, seed_private="yes", publish_again="no"), env=env)
    for i in range(3):
        same(h.nar2([lab.cand(t)], len(t.content), ident=7 + i), t)
    assert until(lambda: set(rpc.blocks) >= set(lacks) and not any(e["all"] or e["refs"] & set(lacks) for e in entries()), 8), [
        (e["all"], len(e["refs"] & set(lacks))) for e in entries()]


@case
def journal_is_empty_when_all_was_put(lab):
    t = tree(60, 9)
    env, entries = journal(lab)
    rpc, nar = lab.add(Rpc(t.without(t.leaves[3:9]))), lab.plain(t)
    h = lab.fetch([nar], opts(rpc, seed_private="yes", publish_again="no"), env=env)
    same(h.nar2([lab.cand(t)], len(t.content)), t)
    assert until(lambda: rpc.blocks == t.blocks and not entries(), 5), entries()


@case
def journal_of_nothing_private(lab):
    """Nor of what nobody wants to be seeded, nor of what has failed."""
    t = tree(60, 9)
    env, entries = journal(lab)
    for more, files in (({}, True), ({"seed": "none", "seed_private": "yes"}, True), ({"seed_private": "yes"}, False)):
        rpc, nar = lab.add(Rpc(t.without(t.leaves[3:9]), put_hook=lambda a, o: o.hang())), lab.plain(t)
        nar.files = nar.files if files else {}
        h = lab.fetch([nar], opts(rpc, publish_again="no", **more), env=env, stall=1000)
        run = h.nar2([lab.cand(t)], len(t.content))
        assert (run.end["status"] == DONE) == files, run.end
        assert not entries(), entries()


@case
def journal_has_no_passwords(lab):
    t = tree(60, 9)
    env, entries = journal(lab)
    rpc, nar = lab.add(Rpc({}, put_hook=lambda a, o: o.hang())), lab.plain(t)
    h = lab.fetch([("http://user:hunter2@127.0.0.1:%d" % nar.port, 0)], opts(rpc, seed_private="yes", publish_again="no"), env=env)
    arrives(h, [lab.cand(t)], t)
    with open(os.path.join(os.path.dirname(env["NARLOCK_FETCH_STATE"]), "heal"), "rb") as f:
        assert b"hunter2" not in f.read()
