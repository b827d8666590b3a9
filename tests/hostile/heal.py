#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests: what the fetcher could not put back is worked off by narlock-heal, both behind their real locks.

    heal.py [DIRECTORY with fetch and narlock-heal] [WORD...]     (default: build/bin)

One line per case, as blocks.py.  The fetcher is always killed, as guix-daemon does it."""
import os, shutil, signal, subprocess, sys, tempfile, time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import block_servers, blocks_kit  # noqa: E402
from block_servers import BlockServer, NarServer, Rpc  # noqa: E402
from blocks_kit import Lab, opts, same, tree, until  # noqa: E402
from fetch_wire import DONE  # noqa: E402

WORDS = [w for w in sys.argv[1:] if not os.path.isdir(w)]
PROGRAMS = os.path.abspath(([d for d in sys.argv[1:] if os.path.isdir(d)] + [HERE + "/../../build/bin"])[0])
UID = 65533 if os.getuid() == 0 else os.getuid()
GID = 65533 if os.getuid() == 0 else os.getgid()
CASES = []


def case(f):
    CASES.append(f)
    return f


def hangs(ask, out):
    return out.hang()


class Machine:
    """One machine's state directory, its configuration, and its narlock-heal."""

    def __init__(self, lab, rpc, *servers, private="yes", **more):
        self.lab, self.dir = lab, lab.dir
        os.makedirs(self.dir + "/state/fetch", exist_ok=True)
        os.chmod(self.dir + "/state", 0o711)
        if os.getuid() == 0:
            os.chown(self.dir + "/state/fetch", UID, GID)
        self.options = opts(rpc, *servers, publish_again="no", block_timeout="1", **more)
        if private:
            self.options.append(("seed-private", private))
        self.conf = self.dir + "/conf"
        with open(self.conf, "w") as f:
            f.write("helper-user = %d:%d\nstate-directory = %s/state\n" % (UID, GID, self.dir))
            f.writelines("%s = %s\n" % o for o in self.options)
        os.chmod(self.conf, 0o644)

    def fetch(self, nar, t):
        """A nar arrives; then the daemon kills everything."""
        h = self.lab.fetch([nar], self.options, env={"NARLOCK_FETCH_STATE": self.dir + "/state/fetch/state"})
        run = h.nar2([self.lab.cand(t)], len(t.content))
        assert run.end["status"] == DONE and run.data == t.content, (run.end, h.log)
        h.kill()
        h.ended = -9
        return run

    def start(self, *arguments):
        return subprocess.Popen([PROGRAMS + "/narlock-heal", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                stdin=subprocess.DEVNULL, text=True, env={"PATH": "/usr/bin:/bin", "NARLOCK_CONF": self.conf})

    def heal(self, *arguments):
        p = self.start(*(arguments or ("--once", "--now")))
        try:
            out = p.communicate(timeout=50)[0]
        finally:
            p.kill()
        return p.returncode, out

    def entries(self):
        code, out = self.heal("--status")
        assert code == 0, out
        return int(out.strip().split("\n")[-1].split()[0])

    def healed(self):
        code, out = self.heal()
        assert code == 0 and self.entries() == 0, (code, out)
        return out


def second_client(lab, rpc, t):
    """Another machine gets all of it with no server but the daemon."""
    dead = lab.add(NarServer({}))
    run = lab.fetch([dead], opts(rpc)).nar2([lab.cand(t)], len(t.content))
    same(run, t, missed=0)


def scenario(lab, t, lacks, kubo=True, **kw):
    rpc, nar = lab.add(Rpc(t.without(lacks), kubo=kubo, put_hook=hangs)), lab.plain(t, **kw)
    m = Machine(lab, rpc)
    m.fetch(nar, t)
    rpc.put_hook = None
    assert m.entries() == 1
    return m, rpc, nar


@case
def some_blocks(lab):
    t = tree(120)
    m, rpc, nar = scenario(lab, t, t.leaves[5:45:2])
    before = len(nar.gets())
    m.healed()
    assert rpc.blocks == t.blocks
    lab.note = "%d nar requests" % (len(nar.gets()) - before)
    nar.close()
    second_client(lab, rpc, t)


@case
def most_blocks(lab):
    """More than an entry lists."""
    t = tree(400)
    m, rpc, nar = scenario(lab, t, t.leaves[10:390])
    m.healed()
    assert rpc.blocks == t.blocks


@case
def all_blocks(lab):
    """Nodes too: the file is encoded anew."""
    for kubo in (True, False):
        t = tree(600, 5)
        m, rpc, nar = scenario(lab, t, list(t.blocks), kubo)
        began = time.monotonic()
        out = m.healed()
        assert rpc.blocks == t.blocks, out
        lab.note += "%.1f s for narlock-heal; " % (time.monotonic() - began)
    nar.close()
    second_client(lab, rpc, t)


@case
def without_range(lab):
    t = tree(120)
    m, rpc, nar = scenario(lab, t, t.leaves[5:9])
    files = nar.files
    nar.close()
    # The server is gone, a block server has what is missing.
    other = lab.add(BlockServer(t.blocks))
    Machine(lab, rpc, other).healed()
    assert rpc.blocks == t.blocks and files


@case
def nothing_private(lab):
    t = tree(120)
    for private in (None, "no"):
        rpc, nar = lab.add(Rpc(t.without(t.leaves[5:45]), put_hook=hangs)), lab.plain(t)
        m = Machine(lab, rpc, private=private)
        m.fetch(nar, t)
        assert m.entries() == 0
        assert not rpc.count("put") and not rpc.count("import")


@case
def no_secrets(lab):
    """The journal has no password, and nobody else may read it."""
    t = tree(120)
    rpc, nar = lab.add(Rpc(t.without(t.leaves[5:45]), put_hook=hangs)), lab.plain(t)
    m = Machine(lab, rpc)
    m.fetch(("http://user:hunter2@127.0.0.1:%d" % nar.port, 0), t)
    path = m.dir + "/state/fetch/heal"
    with open(path, "rb") as f:
        text = f.read()
    assert b"127.0.0.1:%d/nar/x" % nar.port in text and b"hunter2" not in text and b"user" not in text
    assert os.stat(path).st_mode & 0o7777 == 0o600 and os.stat(path).st_uid == UID


@case
def nobody_to_put_to(lab):
    t = tree(120)
    m, rpc, nar = scenario(lab, t, t.leaves[5:9])
    rpc.close()
    code, out = m.heal()
    assert code == 4 and m.entries() == 1, (code, out)


@case
def nowhere(lab):
    """What cannot be found now is tried later, and what can is put."""
    t = tree(120)
    m, rpc, nar = scenario(lab, t, t.leaves[5:45:2])
    nar.close()
    code, out = m.heal()
    assert code == 3 and m.entries() == 1, (code, out)
    code, out = m.heal("--once")  # not due
    assert code == 0 and m.entries() == 1, (code, out)


@case
def another_file(lab):
    """The server has another file there now: nothing of it is put."""
    t = tree(120)
    m, rpc, nar = scenario(lab, t, t.leaves[5:45:2])
    nar.files["/nar/x"] = bytes(b ^ 1 for b in t.content)
    code, out = m.heal()
    assert code == 3 and not rpc.puts, (code, out, rpc.puts)
    assert set(rpc.blocks) < set(t.blocks)
    nar.files["/nar/x"] = t.content
    m.healed()
    assert rpc.blocks == t.blocks


@case
def killed(lab):
    """In the middle: what was put is put, and the entry is worked off the next time."""
    t = tree(400)
    m, rpc, nar = scenario(lab, t, t.leaves[10:390])
    seen = []
    rpc.put_hook = lambda ask, out: seen.append(1) or (time.sleep(0.2) if len(seen) > 2 else None)
    p = m.start("--once", "--now")
    assert until(lambda: len(seen) > 3, 20)
    p.send_signal(signal.SIGKILL)
    p.communicate()
    assert m.entries() == 1
    rpc.put_hook = None
    m.healed()
    assert rpc.blocks == t.blocks


@case
def daemon_refuses(lab):
    t = tree(120)
    m, rpc, nar = scenario(lab, t, t.leaves[5:9])
    for status in ("500 x", "403 Forbidden", "429 x", "200 OK"):
        rpc.put_hook = lambda ask, out: out.reply(status, b'{"Message":"no space left on device","Code":0,"Type":"error"}')
        code, out = m.heal()
        assert code in (3, 4) and m.entries() == 1, (status, code, out)
        why = {"500 x": "no space left on device", "403 Forbidden": "refuses us", "429 x": "is busy"}
        assert why.get(status, "") in out, (status, out)
    rpc.put_hook = None
    m.healed()


@case
def damaged_journal(lab):
    t = tree(120)
    m, rpc, nar = scenario(lab, t, t.leaves[5:9])
    path = m.dir + "/state/fetch/heal"
    with open(path, "r+b") as f:
        f.seek(1000)
        f.write(os.urandom(5000))
    code, out = m.heal()
    assert code == 0 and m.entries() == 0, (code, out)
    for text in (b"", os.urandom(300000), b"nlh1" * 300000):
        with open(path, "wb") as f:
            f.write(text)
        if os.getuid() == 0:
            os.chown(path, UID, GID)
        assert m.heal()[0] == 0 and m.entries() == 0
    # The next fetcher writes into it again.
    rpc.put_hook = hangs
    m.fetch(nar, t)
    rpc.put_hook = None
    m.healed()


@case
def several_at_once(lab):
    """Nars of several agents, and several narlock-heals."""
    trees = [tree(60, 9, seed) for seed in range(5)]
    rpc = lab.add(Rpc({}, put_hook=hangs))
    for t in trees:
        rpc.blocks.update(t.without(t.leaves[3:30]))
    m = Machine(lab, rpc)
    for t in trees:
        m.fetch(lab.plain(t), t)
    assert m.entries() == 5
    rpc.put_hook = None
    running = [m.start("--once", "--now") for _ in range(3)]
    out = [p.communicate(timeout=50)[0] for p in running]
    assert [p.returncode for p in running] == [0] * 3 and m.entries() == 0, out
    assert all(set(t.blocks) <= set(rpc.blocks) for t in trees)


def one(f):
    directory = tempfile.mkdtemp(prefix="narlock-heal.")
    os.chmod(directory, 0o755)
    lab, began = Lab(directory), time.monotonic()
    try:
        f(lab)
        lab.finish()
        return "ok %s (%.1f s%s)" % (f.__name__, time.monotonic() - began, "; " + lab.note if lab.note else "")
    except Exception as e:
        return "not ok %s: %s: %s (%.1f s; log %r)" % (f.__name__, type(e).__name__, str(e)[:900], time.monotonic() - began,
                                                      [line for h in lab.fetchers for line in h.log][:6])
    finally:
        lab.close()
        shutil.rmtree(directory, ignore_errors=True)


def main():
    global PROGRAMS
    if block_servers.SODIUM is None:
        print("SKIP heal: no libsodium to make blocks with")
        return 0
    copies = tempfile.mkdtemp(prefix="narlock-heal.")  # another uid has to be able to execute them
    os.chmod(copies, 0o755)
    for name in ("fetch", "narlock-heal"):
        shutil.copy(os.path.join(PROGRAMS, name), copies)
    PROGRAMS = blocks_kit.PROGRAMS = copies
    passed = failed = 0
    for f in CASES:
        if WORDS and not any(w in f.__name__ for w in WORDS):
            continue
        line = one(f)
        failed += line.startswith("not ok")
        passed += line.startswith("ok")
        print(line)
        sys.stdout.flush()
    shutil.rmtree(copies, ignore_errors=True)
    print("%d passed, %d failed, 0 skipped" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
