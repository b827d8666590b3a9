#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests: narlock against the stock `guix substitute', Nix and curl; runs inside the client view of the test bed
(`run' starts it).
  bench.py [--runs N] [--only WORD]... [--stock]
The programs of a row run in alternation, so that what else the machine does hits all of them.  Wall time is from
exec to the last line of the reply, CPU that of the program and all processes below it.  Ratios are medians of
paired runs and count more than seconds.  It measures; it never fails by time."""
import json, os, pwd, re, resource, shutil, signal, statistics, subprocess, sys, threading, time
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e"))
sys.dont_write_bytecode = True
import agent as daemon_like
from agent import Agent, Gone, options

PORT = int(os.environ["BED_PORT"])
GUIX, NARLOCK = "/usr/bin/guix", "/usr/libexec/narlock/guix"
ITEMS = dict(line.split() for line in open("/bed/state/items.txt"))
TINY = [p for n, p in ITEMS.items() if n.startswith("tiny-")]
NIX_CONFIG = "experimental-features = nix-command\nbuild-users-group =\nsubstituters =\nrequire-sigs = false\nsandbox = false\n"
NAMES = {GUIX: "stock guix", NARLOCK: "narlock", "nix": "nix", "curl": "curl (no unpacking)"}
failures, results = [], []

def url(comp):
    return f"http://127.0.0.1:{PORT}/{comp}"

def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        subprocess.run(["chmod", "-R", "u+w", path], check=True)
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)

def state_directories():
    """Where the programs remember narinfos"""
    found = ["/var/guix/substitute/cache", "/var/guix/narlock"]
    if os.path.exists("/etc/narlock/narlock.conf"):
        found += re.findall(r"^\s*state-directory\s*=\s*(\S+)", open("/etc/narlock/narlock.conf").read(), re.M)
    return found

def forget():
    """A cold start; a directory itself stays, its owner may not be allowed to make it again"""
    for top in state_directories():
        for name in os.listdir(top) if os.path.isdir(top) else []:
            remove(f"{top}/{name}")

def reap():
    """Wait for what the program has left to us as its subreaper; nothing may stay"""
    deadline = time.monotonic() + 5
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            if time.monotonic() > deadline:
                for pid in open(f"/proc/self/task/{os.getpid()}/children").read().split():
                    failures.append(f"process {pid} was left behind")
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(.005)

def used():
    u = resource.getrusage(resource.RUSAGE_CHILDREN)
    return u.ru_utime + u.ru_stime

class Sampler:
    """Highest RssAnon by program name of all processes below us"""
    def __init__(self):
        self.peak, self.stop = {}, threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        while not self.stop.wait(.004):
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    name = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
                    if name not in ("broker", "fetch", "unpack", "resolve") and not name.startswith("guile"):
                        continue
                    m = re.search(r"^RssAnon:\s+(\d+)", open(f"/proc/{pid}/status").read(), re.M)
                    if m:
                        self.peak[name] = max(self.peak.get(name, 0), int(m[1]))
                except OSError:
                    pass

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()

def converse(prog, mode, nix_options, talk):
    """(wall, cpu) of TALK with a new agent"""
    before = used()
    a = Agent(prog, mode, nix_options, timeout=120)
    try:
        talk(a)
        wall = time.monotonic() - a.start
    except BaseException:
        a.kill()
        reap()
        raise
    try:
        a.finish()
    except subprocess.TimeoutExpired:
        failures.append(f"{NAMES[prog]} did not end at the end of its input")
        a.kill()
    reap()
    return wall, used() - before

### One run of each kind; all return (wall, cpu)

def first_reply(prog, warm=False):
    if not warm:
        forget()
    def talk(a):
        assert TINY[0] in a.info(TINY[0]), "no reply"
    return converse(prog, "--query", options(url("zstd"), False), talk)

def start_only(prog):
    """From exec to the end, without any input"""
    before, start = used(), time.monotonic()
    a = Agent(prog, "--query", options("http://127.0.0.1:1", False))
    a.finish()
    wall = time.monotonic() - start
    reap()
    return wall, used() - before

def info(prog, count, warm):
    if not warm:
        forget()
    def talk(a):
        assert len(a.info(*TINY[:count])) == count, "not all were found"
    return converse(prog, "--query", options(url("zstd"), False), talk)

def many(prog, count, server):
    forget()
    for path in TINY[:count]:
        remove(path)
    def talk(a):
        for path in TINY[:count]:
            reply = a.substitute(path)
            assert reply.startswith("success "), reply
    try:
        return converse(prog, "--substitute", options(server, True), talk)
    finally:
        for path in TINY[:count]:
            remove(path)

def item(prog, name, comp, dedup):
    path = ITEMS[name]
    forget()
    remove(path)
    for link in os.listdir("/gnu/store/.links"):
        os.unlink(f"/gnu/store/.links/{link}")
    os.sync()
    if prog == "nix":
        return nix(name, comp)
    if prog == "curl":
        nar = f"{url(comp)}/nar/{'' if comp == 'none' else comp + '/'}{os.path.basename(path)}"
        return command("sh", "-c", f"curl -sf {nar} | {'cat' if comp == 'none' else comp + ' -dc'} | sha256sum")
    def talk(a):
        reply = a.substitute(path)
        assert reply.startswith("success "), reply
    try:
        return converse(prog, "--substitute", options(url(comp), True, dedup="yes" if dedup else None), talk)
    finally:
        remove(path)

def command(*argv, **more):
    before, start = used(), time.monotonic()
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", **more)
    wall = time.monotonic() - start
    assert p.returncode == 0, f"{argv[0]}: status {p.returncode}: {p.stdout[-300:]}"
    return wall, used() - before

def nix(name, comp):
    shutil.rmtree("/dev/shm/nix-bench", ignore_errors=True)
    os.makedirs("/dev/shm/nix-bench")
    try:
        return command("nix", "copy", "--from", f"{url('nix-' + comp)}", "--to", "local?root=/dev/shm/nix-bench", nix_paths[name],
                       env={**os.environ, "NIX_CONFIG": NIX_CONFIG, "NIX_REMOTE": "", "HOME": "/dev/shm/nix-bench"})
    finally:
        subprocess.run(["chmod", "-R", "u+w", "/dev/shm/nix-bench"])
        shutil.rmtree("/dev/shm/nix-bench", ignore_errors=True)

def nix_caches():
    """The same trees in Nix binary caches below nginx; {} where there is no Nix"""
    paths = {}
    if not shutil.which("nix"):
        return paths
    env = {**os.environ, "NIX_CONFIG": NIX_CONFIG, "NIX_REMOTE": "local", "HOME": "/root"}
    for name in ("tree", "elf", "big"):
        if name not in ITEMS:
            continue
        mark = f"/bed/www/nix-{name}"
        if not os.path.exists(mark):
            path = subprocess.run(["nix", "store", "add", "--name", name, f"/bed/items/{name}"], env=env, check=True,
                                  capture_output=True, text=True).stdout.strip()
            for comp in ("none",) if name == "big" else ("none", "zstd"):
                subprocess.run(["nix", "copy", "--to", f"file:///bed/www/nix-{comp}?compression={comp}&compression-level=9", path],
                               env=env, check=True, capture_output=True)
            with open(mark, "w") as f:
                f.write(path)
        paths[name] = open(mark).read()
    return paths

def guix_build(prog, count):
    """`guix build' of tiny items through a new daemon"""
    env = [] if prog == GUIX else [f"GUIX={prog}"]
    subprocess.run(["/bed/kit/e2e/daemon", "start", *env], check=True)
    paths = TINY[100:100 + count]
    result = command("guix", "build", f"--substitute-urls={url('zstd')}", *paths)
    for path in paths:
        assert os.path.exists(path), f"{path} was not made"
    return result

### Rows

def row(label, target, run, runs, progs, unit=1.0, keep=True):
    """Run PROGS in alternation; print and keep a line each"""
    if only and not any(o in label for o in only):
        return
    times = {p: [] for p in progs}
    for _ in range(runs):
        for p in progs:
            try:
                times[p].append(run(p))
            except (AssertionError, Gone, OSError, subprocess.SubprocessError) as e:
                failures.append(f"{label}: {NAMES[p]}: {' '.join(str(e).split())[:300]}")
    base = times[progs[0]]
    for p in progs:
        got = times[p]
        if not got:
            print(f"| {label} | {NAMES[p]} | 0 | failed | | | | |", flush=True)
            continue
        walls, cpus = [w / unit for w, _ in got], [c / unit for _, c in got]
        ratio = statistics.median(a[0] / b[0] for a, b in zip(got, base)) if base and p != progs[0] else None
        goal = f"<= {target:.3f}" if target and p == NARLOCK else ""
        verdict = ("met" if ratio <= target else "missed") if goal and ratio is not None else ""
        print(f"| {label} | {NAMES[p]} | {len(got)} | {statistics.median(walls):.4f} | {min(walls):.4f}-{max(walls):.4f} "
              f"| {statistics.median(cpus):.4f} | {'' if ratio is None else f'{ratio:.3f}'} | {goal} {verdict} |", flush=True)
        results.append((label, p, ratio, target))

def memory(progs):
    """Peak RssAnon, in runs of their own, for sampling costs time"""
    if only and not any(o in "memory" for o in only):
        return
    print("\n| peak RssAnon, MiB | process | target |\n|---|---|---|")
    jobs = (("elf zstd", lambda p: item(p, "elf", "zstd", True)), ("elf lzip", lambda p: item(p, "elf", "lzip", True)),
            ("tree zstd", lambda p: item(p, "tree", "zstd", True)), ("info 1000", lambda p: info(p, 1000, False)))
    for label, job in jobs:
        for p in progs:
            with Sampler() as s:
                try:
                    job(p)
                except (AssertionError, Gone, OSError) as e:
                    failures.append(f"memory {label}: {NAMES[p]}: {e}")
            for name, peak in sorted(s.peak.items()):
                limit = {"broker": 8, "fetch": 16}.get(name)
                goal = f"<= {limit} {'met' if peak <= limit * 1024 else 'missed'}" if limit else ""
                print(f"| {label}, {NAMES[p]}: {peak / 1024:.1f} | {name} | {goal} |", flush=True)

def main():
    global only, nix_paths
    args, runs, stock = sys.argv[1:], 0, False
    only = []
    while args:
        if args[0] == "--runs":
            runs, args = int(args[1]), args[2:]
        elif args[0] == "--only":
            only, args = only + [args[1]], args[2:]
        elif args[0] == "--stock":
            stock, args = True, args[1:]
        else:
            sys.exit(__doc__)
    daemon_like.reserve_descriptors()
    daemon_like.libc.prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
    progs = [GUIX] + ([NARLOCK] if os.access(NARLOCK, os.X_OK) and not stock else [])
    if len(progs) == 1:
        print("bench: without narlock, which is not installed in the test bed" if not stock else "bench: the stock program alone")
    subprocess.run(["/bed/kit/e2e/daemon", "start"], check=True)  # an empty store
    subprocess.run(["/bed/kit/e2e/daemon", "stop"], check=True)
    os.makedirs("/gnu/store/.links", exist_ok=True)
    nix_paths = nix_caches()
    others = lambda name: (["nix"] if name in nix_paths else []) + (["curl"] if shutil.which("curl") else [])
    publish = f"http://127.0.0.1:{PORT + 1}"
    print("\n| what | program | runs | wall s (median) | min-max | cpu s | ratio to stock | target |\n" + "|---" * 8 + "|")
    n = lambda default: runs or default
    # The target's 120 ms were taken of the stock program alone, with nothing to ask for: an immediate end of input.
    row("start, no input", 1 / 10, start_only, n(9), progs)
    row("start to first reply, known path", 1 / 10, lambda p: first_reply(p, True), n(9), progs)
    row("start to first reply, nothing cached", None, first_reply, n(9), progs)
    row("100 tiny items, nginx (s each)", 1 / 12, lambda p: many(p, 100, url("zstd")), n(3), progs, unit=100)
    row("100 tiny items, guix publish (s each)", None, lambda p: many(p, 100, publish), n(3), progs, unit=100)
    row("info of 1000 paths, cold", 1 / 3, lambda p: info(p, 1000, False), n(5), progs)
    for p in progs:  # fill each program's own cache once
        if not only or any(o in "info of 1000 paths, warm" for o in only):
            info(p, 1000, True)
    row("info of 1000 paths, warm", 1 / 12, lambda p: info(p, 1000, True), n(5), progs)
    row("tree of 20 MB, zstd", .35, lambda p: item(p, "tree", "zstd", False), n(5), progs + others("tree"))
    row("tree of 20 MB, zstd, deduplicated", None, lambda p: item(p, "tree", "zstd", True), n(5), progs)
    row("ELF of 300 MB, zstd", .65, lambda p: item(p, "elf", "zstd", False), n(3), progs + others("elf"))
    row("ELF of 300 MB, zstd, deduplicated", None, lambda p: item(p, "elf", "zstd", True), n(3), progs)
    row("ELF of 300 MB, none", .7, lambda p: item(p, "elf", "none", False), n(3), progs + others("elf"))
    if "big" in ITEMS:
        row("one file of 512 MiB, none", .8, lambda p: item(p, "big", "none", False), n(3), progs + others("big"))
    row("guix build of 200 tiny items", 1 / 10, lambda p: guix_build(p, 200), n(3), progs)
    subprocess.run(["/bed/kit/e2e/daemon", "stop"], check=True)
    memory(progs)
    for text in failures:
        print(f"FAILED {text}")
    missed = [l for l, p, ratio, target in results if p == NARLOCK and target and ratio is not None and ratio > target]
    if len(progs) > 1:
        print(f"targets missed: {', '.join(missed) or 'none'}")
    return 1 if failures else 0

if __name__ == "__main__":
    sys.exit(main())
