#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests: the real fetcher behind its real lock as an assembler of nars out of ERIS blocks, against sources that lie.

    blocks.py [DIRECTORY with fetch] [WORD...]     (default: build/bin; WORDs choose cases by a part of their names)

One line per case: `ok NAME', `not ok NAME: why' or `SKIP NAME: why'; then the sums.  Exit 1 if a case failed.  After
every case, besides what it checks itself: the fetcher is still there and leaves with 0 (its filter has killed nothing),
its memory never went above the limit, and no server saw a request that such a server should not get.

The cases are in blocks_*.py, by topic; what they work with is in blocks_kit.py and block_servers.py."""
import importlib, multiprocessing, os, shutil, signal, sys, tempfile, time, traceback

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import block_servers, blocks_kit  # noqa: E402
from blocks_kit import CASES, Lab, Skip  # noqa: E402

WORDS = [w for w in sys.argv[1:] if not os.path.isdir(w)]
AT_A_TIME = 3   # cases; most of them wait most of the time
LONGEST = 60    # seconds of a case
TOPICS = ("alone", "config", "slow", "peers", "gateway", "memory", "lies", "manifest", "file", "tree", "range", "heal", "again",
          "probe", "index")

for topic in TOPICS:
    importlib.import_module("blocks_" + topic)  # its cases add themselves


def too_long(signum, frame):
    raise TimeoutError("the case takes too long")


def places(e):
    """Where an exception came by: the lines of the case and of the kit, outermost first."""
    frames = [(os.path.split(os.path.abspath(x.filename)), x.lineno) for x in traceback.extract_tb(e.__traceback__)]
    return "/".join("%s:%s" % (file, line) for (where, file), line in frames if where == HERE and file.startswith("blocks_"))


def one(number):
    """Run one case: its line."""
    name, f = CASES[number]
    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(getattr(f, "longest", LONGEST))
    directory = tempfile.mkdtemp(prefix="narlock-blocks.")
    os.chmod(directory, 0o755)
    lab, began = Lab(directory), time.monotonic()
    try:
        f(lab)
        lab.finish()
        return "ok %s (%.1f s%s)" % (name, time.monotonic() - began, "; " + lab.note if lab.note else "")
    except Skip as e:
        return "SKIP %s: %s" % (name, e)
    except Exception as e:
        if "NARLOCK_TEST_TRACE" in os.environ:
            traceback.print_exc()
        logs = [line for h in lab.fetchers for line in h.log][:6]
        exits = [h.ended if h.ended is not None else h.wait(0.05) for h in lab.fetchers]
        return "not ok %s: %s: %s (%s; %.1f s; exit codes %r; log %r)" % (
            name, type(e).__name__, str(e)[:500], places(e), time.monotonic() - began, exits, logs)
    finally:
        signal.alarm(0)
        lab.close()
        shutil.rmtree(directory, ignore_errors=True)


def main():
    if block_servers.SODIUM is None:
        print("SKIP blocks: no libsodium to make blocks with")
        return 0
    copies = tempfile.mkdtemp(prefix="narlock-blocks.")  # another uid has to be able to execute it
    os.chmod(copies, 0o755)
    shutil.copy(os.path.join(blocks_kit.PROGRAMS, "fetch"), copies)
    blocks_kit.PROGRAMS = copies
    counts = {"ok": 0, "not": 0, "SKIP": 0}
    chosen = [i for i, (name, _) in enumerate(CASES) if not WORDS or any(w in name for w in WORDS)]
    with multiprocessing.get_context("fork").Pool(AT_A_TIME) as pool:
        for line in pool.imap(one, chosen):
            counts[line.split(" ")[0]] += 1
            print(line)
            sys.stdout.flush()
    shutil.rmtree(copies, ignore_errors=True)
    print("%d passed, %d failed, %d skipped" % (counts["ok"], counts["not"], counts["SKIP"]))
    return 1 if counts["not"] else 0


if __name__ == "__main__":
    sys.exit(main())
