#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests: the end-to-end cases; runs inside the client view of the test bed (`run' starts it).
  cases.py [--stock] [--only WORD]... [--list]
With --stock the daemon uses its own `guix substitute': what holds for both programs must hold for that one, too,
and what the stock program is known to get wrong is skipped."""
import contextlib, grp, http.server, os, pwd, random, re, shutil, signal, socket, stat, subprocess, sys, threading, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
import nar
from agent import Report, Skip

PORT = int(os.environ["BED_PORT"])
LIBEXEC = "/usr/libexec/narlock"
GUIX = f"{LIBEXEC}/guix"
STOCK = "--stock" in sys.argv
WWW = "/bed/www"
ITEMS = dict(line.split() for line in open("/bed/state/items.txt"))
TINY = [p for n, p in ITEMS.items() if n.startswith("tiny-")]
COMPRESSIONS = ("zstd", "gzip", "lzip", "none")
PUBLISH = {c: f"http://127.0.0.1:{PORT + 1 + i}" for i, c in enumerate(COMPRESSIONS + ("livezstd", "livenone"))}
NGINX = {c: f"http://127.0.0.1:{PORT}/{c}" for c in COMPRESSIONS + ("empty",)}
MESSAGE = re.compile(r"narlock.*(refus|sandbox|namespace|layer)", re.I)  # how it says that it will not work
SEED = int(os.environ.get("NARLOCK_E2E_SEED") or time.time_ns() & 0xFFFF)
random.seed(SEED)

### Running things

def daemon(*args):
    """A new guix-daemon; with an empty store unless --keep"""
    args = [*args, *([] if STOCK or any(a.startswith("GUIX=") for a in args) else [f"GUIX={GUIX}"])]
    subprocess.run(["/bed/kit/e2e/daemon", "start", *args], check=True)

def run(*argv, check=True, timeout=300, as_nobody=False, **more):
    if as_nobody:
        os.makedirs("/tmp/nobody", exist_ok=True)
        os.chown("/tmp/nobody", 65534, 65534)
        argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "HOME=/tmp/nobody", *argv]
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, errors="replace", **more)
    if check and p.returncode:
        raise AssertionError(f"{' '.join(argv)[:120]}: status {p.returncode}: {p.stdout[-500:]!r}")
    return p

def build(urls, *paths, check=True, **more):
    """guix build: it succeeds even where no server has the path, so look"""
    p = run("guix", "build", f"--substitute-urls={urls}", *paths, check=check, **more)
    if check:
        for path in paths:
            assert os.path.lexists(path), f"{path} was not made: {p.stdout[-500:]!r}"
    return p

def narinfo(path):
    with open(f"{WWW}/none/{os.path.basename(path)[:32]}.narinfo") as f:
        return dict(l.rstrip("\n").split(": ", 1) for l in f if ": " in l)

def check_content(path):
    info = narinfo(path)
    got = nar.sha256(nar.chunks(path))
    assert (f"sha256:{got[0]}", str(got[1])) == (info["NarHash"], info["NarSize"]), f"{path} is not what was signed"

def check_store():
    """What the daemon itself can find out, and no stray name"""
    p = run("guix", "gc", "--verify=contents")
    assert not re.search("error|modified|disappeared|corrupt", p.stdout, re.I), p.stdout[-500:]
    names = set(os.listdir("/gnu/store")) - {".links"}
    valid = set(map(os.path.basename, run("guix", "gc", "--list-live").stdout.split() + run("guix", "gc", "--list-dead").stdout.split()))
    stray = {n for n in names if re.search(r"\.(tmp|part|spool)|^\.|narlock", n)} | {n for n in names - valid if not n.endswith(".lock")}
    assert not stray, f"strange names in the store: {sorted(stray)[:5]}"

### Processes

class Process:
    """A process of this PID namespace as /proc shows it"""
    def __init__(self, pid):
        self.pid = pid
        self.exe = os.readlink(f"/proc/{pid}/exe")
        self.cmdline = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0")
        self.status = dict(l.split(":\t", 1) for l in open(f"/proc/{pid}/status").read().splitlines() if ":\t" in l)
        self.parent = int(self.status["PPid"])

    def ids(self, key):
        return self.status[key].split()

    def pipes(self, fds=None):
        out = set()
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            if fds is None or int(fd) in fds:
                target = os.readlink(f"/proc/{self.pid}/fd/{fd}")
                if target.startswith("pipe:"):
                    out.add(target)
        return out

def processes():
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            found.append(Process(int(pid)))
        except OSError:
            pass
    return found

def ours():
    """{role: [Process]}: broker spawner fetch unpack ..., or agent for the stock program"""
    roles = {}
    everything = processes()
    brokers = {p.pid for p in everything if p.exe == f"{LIBEXEC}/broker"}
    for p in everything:
        if p.exe.startswith(LIBEXEC + "/"):
            name = os.path.basename(p.exe.removesuffix(" (deleted)"))
            if p.pid in brokers and p.parent in brokers:
                name = "spawner"
            roles.setdefault(name, []).append(p)
        elif STOCK and b"substitute" in p.cmdline and b"--substitute" in p.cmdline:
            roles.setdefault("agent", []).append(p)
    return roles

def wait_none(limit=6):
    deadline = time.monotonic() + limit
    while left := ours():
        assert time.monotonic() < deadline, f"left behind: { {r: [p.pid for p in v] for r, v in left.items()} }"
        time.sleep(.05)

def wait_for(*roles, limit=20, of=None):
    """Until all of these processes run"""
    deadline = time.monotonic() + limit
    while True:
        found = ours()
        if all(r in found for r in roles):
            return found
        assert of is None or of.poll() is None, f"guix build ended before {roles} were seen"
        assert time.monotonic() < deadline, f"no process {set(roles) - set(found)}"
        time.sleep(.01)

### Servers with bad habits

class Slow(http.server.ThreadingHTTPServer):
    """Serves a directory of www at a limited rate, with Range; can be stopped and started again"""
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, comp="zstd", rate=3_000_000, port=0, stall_after=None, alter=None):
        self.top, self.rate, self.stall_after, self.alter, self.asked, self.open = f"{WWW}/{comp}", rate, stall_after, alter, [], set()
        self.sent, self.closing = 0, False
        super().__init__(("127.0.0.1", port), SlowHandler)
        self.port = self.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": .05}, daemon=True).start()

    def stop(self):
        """As a server that dies: nobody listens, open connections are cut"""
        self.closing = True
        self.shutdown()
        self.server_close()
        for s in list(self.open):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

class SlowHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def setup(self):
        super().setup()
        self.server.open.add(self.connection)

    def finish(self):
        self.server.open.discard(self.connection)
        try:
            super().finish()
        except OSError:
            pass

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Range")))
        data = None
        path = self.server.top + self.path
        if os.path.isfile(path):
            with open(path, "rb") as f:
                data = f.read()
        if self.server.alter:
            data = self.server.alter(self.path, data)
        if data is None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start, total = 0, len(data)
        if m := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(m[1]), min(int(m[2] or total - 1), total - 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end}/{total}")
            data = data[start:end + 1]
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        try:
            for i in range(0, len(data), 32768):
                if self.server.stall_after is not None and start + i >= self.server.stall_after and "/nar/" in self.path:
                    while not self.server.closing:
                        time.sleep(.1)
                    return
                self.wfile.write(data[i:i + 32768])
                self.wfile.flush()
                self.server.sent += len(data[i:i + 32768])
                if len(data) > 65536:
                    time.sleep(32768 / self.server.rate)
        except OSError:
            pass

    def handle(self):
        try:
            super().handle()
        except OSError:
            pass

    def log_message(self, *_):
        pass

def start_build(url, *paths, **more):
    return subprocess.Popen(["guix", "build", f"--substitute-urls={url}", *paths], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, errors="replace", **more)

def end_build(p, limit=90):
    try:
        return p.communicate(timeout=limit)[0]
    except subprocess.TimeoutExpired:
        p.kill()
        out = p.communicate()[0]
        raise AssertionError(f"guix build hangs; so far: {out[-400:]!r}")

### Cases: installing

def install(servers, comp, names, tiny):
    """Each item, by guix build, from one server"""
    daemon()
    url = servers[comp]
    for name in names:
        build(url, ITEMS[name])
        check_content(ITEMS[name])
    if tiny:
        build(url, *TINY[:tiny])
        for path in TINY[:tiny]:
            check_content(path)
    if "refs" in names:
        inner, small = ITEMS["refs-inner"], ITEMS["small"]
        assert set(run("guix", "gc", "--references", ITEMS["refs"]).stdout.split()) == {inner, small}
        assert set(run("guix", "gc", "-R", ITEMS["refs"]).stdout.split()) == {ITEMS["refs"], inner, small}
    check_store()

def listing(top):
    """Everything that the file system can tell of a tree, with hard links as sets of names"""
    names, inodes = {}, {}
    for path in [top] + [os.path.join(d, n) for d, dirs, files in os.walk(top) for n in dirs + files]:
        info = os.lstat(path)
        target = os.readlink(path) if stat.S_ISLNK(info.st_mode) else ""
        size = 0 if stat.S_ISDIR(info.st_mode) else info.st_size
        names[path] = (oct(info.st_mode), info.st_mtime_ns, info.st_uid, info.st_gid, size, target)
        if stat.S_ISREG(info.st_mode):
            inodes.setdefault(info.st_ino, set()).add(path)
    return names, {frozenset(v) for v in inodes.values() if len(v) > 1}

def snapshot(*names):
    """What there is after installing NAMES, with the deduplicated files"""
    for name in names:
        build(NGINX["zstd"], ITEMS[name])
    links = set(os.listdir("/gnu/store/.links"))
    shared, paths = {}, {}
    for name in names:
        entries, _ = listing(ITEMS[name])
        paths.update(entries)
        for path in entries:
            info = os.lstat(path)
            if stat.S_ISREG(info.st_mode) and info.st_nlink > 1:
                shared.setdefault(info.st_ino, set()).add(path)
    by_inode = {os.lstat(f"/gnu/store/.links/{l}").st_ino: l for l in links}
    return paths, links, {frozenset(v): by_inode.get(i) for i, v in shared.items()}

def equals_stock():
    """Modes, times, owners, deduplication: the same as the stock program's"""
    names = ("small", "edge", "tree")
    daemon("GUIX=/usr/bin/guix")
    stock = snapshot(*names)
    daemon()
    mine = snapshot(*names)
    for what, a, b in zip(("files", "names in .links", "inode sharing"), stock, mine):
        if a != b:
            keys = lambda x: set(x.items()) if isinstance(x, dict) else x
            raise AssertionError(f"{what} differ: only stock {sorted(map(str, keys(a) - keys(b)))[:3]}, only here {sorted(map(str, keys(b) - keys(a)))[:3]}")
    return f"{len(mine[0])} files, {len(mine[1])} links"

def deduplicated_again():
    """An item whose files are all in .links already"""
    daemon()
    build(NGINX["zstd"], ITEMS["edge"])
    before = set(os.listdir("/gnu/store/.links"))
    inode = os.stat(f"{ITEMS['edge']}/one").st_ino
    # deleting an item leaves its .links entries until the next sweep, so keep one link more for the inode
    os.link(f"{ITEMS['edge']}/one", "/gnu/store/.keep")
    run("guix", "gc", "-D", ITEMS["edge"])
    build(NGINX["zstd"], ITEMS["edge"])
    os.unlink("/gnu/store/.keep")
    assert set(os.listdir("/gnu/store/.links")) == before
    assert os.stat(f"{ITEMS['edge']}/one").st_ino == os.stat(f"{ITEMS['edge']}/two").st_ino
    check_content(ITEMS["edge"])
    return "same inode" if os.stat(f"{ITEMS['edge']}/one").st_ino == inode else "new inode"

def corrupt(path):
    """Another file in its place, with the same mode, time and size.  Not in place: its other name in .links would
    change with it, and any deduplication would bring the damage back."""
    info = os.stat(path)
    with open(path, "rb") as f:
        data = f.read()
    os.unlink(path)
    with open(path, "wb") as f:
        f.write(bytes([data[0] ^ 1]) + data[1:])
    os.chmod(path, stat.S_IMODE(info.st_mode))
    os.chown(path, info.st_uid, info.st_gid)
    os.utime(path, ns=(10**9, 10**9))

def repair():
    daemon()
    path, file = ITEMS["small"], f"{ITEMS['small']}/share/text"
    build(NGINX["zstd"], path)
    for command in (("build", f"--substitute-urls={NGINX['gzip']}", "--repair", path), ("gc", "--verify=repair,contents"),
                    ("build", "--repair", path)):
        corrupt(file)
        p = run("guix", "gc", "--verify=contents", check=False)
        assert p.returncode and "modified" in p.stdout, f"the daemon did not see it: {p.stdout!r}"
        p = run("guix", *command, check=command[0] == "build")
        check_content(path)
        assert not os.path.lexists(path + ".tmp"), f"guix {command} left {path}.tmp"
        check_store()

def missing():
    """No server has it: nothing happens, and the daemon lives on"""
    daemon()
    p = build(NGINX["empty"], ITEMS["small"], check=False)
    assert not os.path.lexists(ITEMS["small"])
    p = build(f"http://127.0.0.1:1 {NGINX['empty']}", ITEMS["small"], TINY[0], check=False)
    assert not os.path.lexists(ITEMS["small"])
    build(f"http://127.0.0.1:1 {NGINX['empty']} {NGINX['zstd']}", ITEMS["small"], TINY[0])
    check_store()

def have():
    """The query that only few clients make"""
    daemon()
    with open("/tmp/have.scm", "w") as f:
        f.write("(use-modules (guix store)) (with-store store (set-build-options store #:use-substitutes? #t "
                f"#:substitute-urls (list \"{NGINX['zstd']}\")) (for-each (lambda (p) (format #t \"~a ~a~%\" p "
                f"(has-substitutes? store p))) (list \"{TINY[3]}\" \"{TINY[3].replace('-tiny', 'x-tiny')}\")))")
    out = run("guix", "repl", "-q", "--", "/tmp/have.scm").stdout
    assert f"{TINY[3]} #t" in out and "x-tiny-0003 #f" in out, out[-400:]

def progress():
    """What the user sees"""
    daemon()
    out = build(NGINX["zstd"], ITEMS["tree"]).stdout
    assert f"downloading from {NGINX['zstd']}/nar/zstd/{os.path.basename(ITEMS['tree'])}" in out, out[-400:]
    assert "Backtrace" not in out and "\n@ " not in out, out[-400:]

def mismatch():
    """The nar of another item: told as what it is, and nothing is left"""
    daemon()
    other = f"{WWW}/zstd/nar/zstd/{os.path.basename(TINY[50])}"
    def alter(path, data):
        return open(other, "rb").read() if path.endswith(os.path.basename(TINY[51])) else data
    with Slow(alter=alter) as bad:
        p = build(bad.url, TINY[51], check=False)
        assert p.returncode != 0 and "hash mismatch" in p.stdout, p.stdout[-400:]
        assert not os.path.lexists(TINY[51]) or STOCK, "something was written"
        if not STOCK:
            p = build(f"{bad.url} {NGINX['gzip']}", TINY[51], check=False)
            assert os.path.lexists(TINY[51]), f"the good second server was not tried: {p.stdout[-400:]!r}"
    build(NGINX["gzip"], TINY[51])
    check_content(TINY[51])

@contextlib.contextmanager
def more_configuration(line):
    """narlock.conf with one LINE more"""
    conf = "/etc/narlock/narlock.conf"
    old = open(conf).read() if os.path.exists(conf) else None
    os.makedirs(os.path.dirname(conf), exist_ok=True)
    with open(conf, "w") as f:
        f.write(f"{old or ''}\n{line}\n")
    try:
        yield
    finally:
        if old is None:
            os.unlink(conf)
        else:
            with open(conf, "w") as f:
                f.write(old)

def unprivileged():
    """A client that is not root names its own servers"""
    daemon()
    with Slow() as mine:
        if not STOCK:  # loopback is no place for it, unless the admin says so
            p = build(mine.url, TINY[60], as_nobody=True, check=False)
            assert not mine.asked and not os.path.lexists(TINY[60]), f"loopback was asked for a client: {p.stdout[-400:]!r}"
    with more_configuration("untrusted-allow = 127.0.0.1"):
        unprivileged_allowed()
    run("guix", "build", TINY[63], as_nobody=True)  # the daemon's own list
    check_content(TINY[63])

def unprivileged_allowed():
    with Slow() as mine:
        build(mine.url, TINY[60], as_nobody=True)
        assert any(TINY[60][11:43] in path for path, _ in mine.asked), "its server was not asked"
        check_content(TINY[60])
        key = nar.Key(b"nobody's")
        def forge(path, data):
            if not path.endswith(".narinfo") or data is None:
                return data
            text = data.decode()
            signed = text[:text.index("Signature:")]
            return (signed + key.sign(signed) + text[text.index("URL:"):]).encode()
        with Slow(alter=forge) as evil:
            build(evil.url, TINY[61], as_nobody=True, check=False)
            assert any(TINY[61][11:43] in path for path, _ in evil.asked), "its server was not asked"
            assert not os.path.lexists(TINY[61]), "a key that is not authorised was enough"
            asked = len(evil.asked)
            # as a mirror of an authorised server it may well serve the bytes
            build(f"{evil.url} {NGINX['zstd']}", TINY[61], as_nobody=True)
            check_content(TINY[61])
        build("file:///bed/www/zstd", TINY[62], as_nobody=True, check=False) if not STOCK else None
        assert STOCK or not os.path.lexists(TINY[62]), "file:// works for a client"

def concurrent():
    """Several agents at once, for overlapping closures"""
    daemon()
    # A new database and store are made by the first client; two that do it at once stumble over each other, with
    # or without narlock ("database is locked", "creating symlink ...: File exists").
    run("guix", "gc", "--list-dead")
    clients = [start_build(NGINX[c], "--max-jobs=3", ITEMS["refs"], ITEMS["edge"], *TINY[200 + 5 * i:230])
               for i, c in enumerate(("zstd", "gzip", "none", "lzip"))]
    for p in clients:
        out = end_build(p)
        assert p.returncode == 0, out[-400:]
    for path in [ITEMS["refs"], ITEMS["edge"], *TINY[200:230]]:
        check_content(path)
    check_store()
    wait_none()

### Cases: things that die

def kill_one(role, rounds):
    """SIGKILL at a random moment, then again without"""
    done = []
    for _ in range(rounds):
        daemon()
        path = ITEMS["tree"]
        with Slow() as slow:
            p = start_build(slow.url, path)
            deadline = time.monotonic() + 20
            while role not in (found := ours()):
                assert p.poll() is None and time.monotonic() < deadline, f"no {role} was seen: {p.communicate()[0][-400:]}"
                time.sleep(.005)
            delay = random.uniform(0, 1.6)
            time.sleep(delay)
            victims = ours().get(role, [])
            if victims:
                os.kill(random.choice(victims).pid, signal.SIGKILL)
            done.append(f"{delay:.2f}" if victims else "late")
            end_build(p)
        wait_none()
        build(NGINX["zstd"], path)
        check_content(path)
        check_store()
        wait_none()
    return "after " + ", ".join(done) + " s"

def stopped_helper(role):
    """A helper that cannot act by itself must not outlive a killed broker"""
    daemon()
    with Slow(rate=500_000) as slow:
        p = start_build(slow.url, ITEMS["tree"])
        found = wait_for("broker", "spawner", "fetch", "unpack", of=p)
        victim = found[role][-1]
        os.kill(victim.pid, signal.SIGSTOP)
        # the broker of this helper is its grandparent
        spawner = next((s for s in found["spawner"] if s.pid == victim.parent), None)
        broker = spawner.parent if spawner else found["broker"][-1].pid
        os.kill(broker, signal.SIGKILL)
        end_build(p)
    wait_none()
    build(NGINX["zstd"], ITEMS["tree"])
    check_content(ITEMS["tree"])
    wait_none()

def interrupted_client():
    """The user presses ^C: the daemon kills the agent's process group and nobody cleans up"""
    daemon()
    with Slow() as slow:
        p = start_build(slow.url, ITEMS["tree"])
        wait_for(*(("agent",) if STOCK else ("fetch", "unpack")), of=p)
        time.sleep(random.uniform(0, 1))
        p.send_signal(signal.SIGINT)
        end_build(p)
    wait_none()
    build(NGINX["zstd"], ITEMS["tree"])
    check_content(ITEMS["tree"])
    check_store()

def killed_session():
    """SIGKILL of the daemon's process for this client"""
    daemon()
    with Slow() as slow:
        p = start_build(slow.url, ITEMS["tree"])
        found = wait_for(*(("agent",) if STOCK else ("fetch", "unpack")), of=p)
        time.sleep(random.uniform(0, .5))
        os.kill(found["agent" if STOCK else "broker"][-1].parent, signal.SIGKILL)
        end_build(p)
    wait_none()
    build(NGINX["zstd"], ITEMS["tree"])
    check_content(ITEMS["tree"])

def restarted_server():
    """The server goes away in the middle of a nar and comes back"""
    daemon()
    first = Slow()
    p = start_build(first.url, ITEMS["tree"])
    deadline = time.monotonic() + 20
    while first.sent < 1_500_000 and p.poll() is None and time.monotonic() < deadline:
        time.sleep(.01)
    first.stop()
    time.sleep(1)
    with Slow(port=first.port) as second:
        out = end_build(p)
        if STOCK and p.returncode:
            build(second.url, ITEMS["tree"])
        else:
            assert p.returncode == 0 and os.path.lexists(ITEMS["tree"]), out[-400:]
        ranges = [r for path, r in second.asked if "/nar/" in path and r]
    check_content(ITEMS["tree"])
    return "resumed" if ranges else "from the beginning"

def stalled_server():
    """A server that goes on listening and sends no more"""
    daemon()
    with Slow(stall_after=1_000_000) as dead:
        start = time.monotonic()
        p = start_build(f"{dead.url} {NGINX['zstd']}", ITEMS["tree"])
        out = end_build(p)
        took = time.monotonic() - start
        assert p.returncode == 0 and os.path.lexists(ITEMS["tree"]), out[-400:]
        assert took < 20, f"it took {took:.0f} s"
    check_content(ITEMS["tree"])
    return f"{took:.1f} s"

### Cases: what runs with which rights

def check_helper(p, uid, gid):
    assert p.ids("Uid") == [str(uid)] * 4, f"{p.exe}: Uid {p.ids('Uid')}"
    assert p.ids("Gid") == [str(gid)] * 4, f"{p.exe}: Gid {p.ids('Gid')}"
    check_sandbox(p)

def check_sandbox(p):
    assert set(p.ids("Groups")) <= {p.ids("Gid")[0]}, f"{p.exe}: Groups {p.ids('Groups')}"
    for cap in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(p.status[cap], 16) == 0, f"{p.exe}: {cap} {p.status[cap]}"
    assert p.status["NoNewPrivs"] == "1", f"{p.exe}: no_new_privs is off"
    assert p.status["Seccomp"] == "2" and int(p.status.get("Seccomp_filters", 1)) >= 1, f"{p.exe}: no filter"
    assert p.status["Threads"] == "1", f"{p.exe}: {p.status['Threads']} threads"

def layers():
    """The processes of one slow download, as /proc shows them"""
    daemon()
    uid, gid = pwd.getpwnam("narlock").pw_uid, grp.getgrnam("narlock").gr_gid
    with Slow(rate=500_000) as slow:
        p = start_build(slow.url, ITEMS["tree"])
        try:
            found = wait_for("broker", "spawner", "fetch", "unpack", of=p)
            time.sleep(.5)  # all have locked themselves by now: the nar flows
            found = ours()
            agents = [b for b in found["broker"] if b"--substitute" in b.cmdline] or found["broker"]
            daemon_pipes = set().union(*(b.pipes({0, 1, 2, 4}) for b in found["broker"]))
            for role in set(found) - {"broker", "spawner", "guix"}:
                for h in found[role]:
                    check_helper(h, uid, gid)
                    assert not h.pipes() & daemon_pipes, f"{role} holds a pipe of the daemon"
            # KILL SETGID SETUID, and what a mount namespace needs: SYS_CHROOT SYS_ADMIN
            allowed = sum(1 << c for c in (5, 6, 7, 18, 21))
            for s in found["spawner"]:
                assert int(s.status["CapEff"], 16) & ~allowed == 0, f"spawner: CapEff {s.status['CapEff']}"
                assert int(s.status["CapInh"], 16) == int(s.status["CapAmb"], 16) == 0
                assert not s.pipes() & daemon_pipes, "the spawner holds a pipe of the daemon"
            for b in found["broker"]:
                for cap in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
                    assert int(b.status[cap], 16) == 0, f"broker: {cap} {b.status[cap]}"
                assert b.status["NoNewPrivs"] == "1" and b.status["Seccomp"] == "2", "the broker is not confined"
                maps = {os.path.basename(l.split()[-1]) for l in open(f"/proc/{b.pid}/maps") if ".so" in l}
                strange = [m for m in maps if not re.match(r"(ld-linux.*|libc|libgcrypt|libgpg-error|libcap|libseccomp)\.so|ld-", m)]
                assert not strange, f"the broker has mapped {strange}"
                net = [l for l in os.listdir(f"/proc/{b.pid}/fd")
                       if os.readlink(f"/proc/{b.pid}/fd/{l}").startswith("socket:") and inet_socket(b.pid, l)]
                assert not net, "the broker has a network socket"
            return ", ".join(f"{len(v)} {k}" for k, v in sorted(found.items()))
        finally:
            p.send_signal(signal.SIGINT)
            end_build(p)
            wait_none()

def inet_socket(pid, fd):
    inode = os.readlink(f"/proc/{pid}/fd/{fd}")[8:-1]
    return any(inode in l.split() for t in ("tcp", "tcp6", "udp", "udp6") for l in open(f"/proc/net/{t}"))

def audit():
    """One line a substitute, where the configuration says"""
    daemon()
    conf = open("/etc/narlock/narlock.conf").read() if os.path.exists("/etc/narlock/narlock.conf") else ""
    m = re.search(r"^\s*audit-log\s*=\s*(\S+)", conf, re.M)
    log = m[1] if m else "/var/log/narlock/audit.log"
    before = os.path.getsize(log) if os.path.exists(log) else 0
    build(NGINX["zstd"], TINY[70])
    with open(log) as f:
        f.seek(before)
        lines = [l for l in f if TINY[70] in l]
    assert lines, f"no line in {log}"
    import json
    record = json.loads(lines[-1])
    digest = narinfo(TINY[70])["NarHash"].removeprefix("sha256:")
    assert digest in json.dumps(record), record

### Cases: the wrapper

def wrapper():
    """What is not `substitute' must be as without it"""
    daemon("GUIX=/usr/bin/guix")
    def same(*argv, user=None, **more):
        got = []
        for prog in ("/usr/bin/guix", GUIX):
            as_user = ["setpriv", f"--reuid={user}", "--regid=_guixbuild", "--clear-groups"] if user else []
            p = subprocess.run([*as_user, prog, *argv], capture_output=True, timeout=60,
                               env={**os.environ, "HOME": "/tmp", "MARK": "as it is"}, **more)
            got.append((p.returncode, p.stdout, re.sub(rb"/usr/(bin|libexec/narlock)/", b"", p.stderr)))
        assert got[0] == got[1], f"guix {' '.join(argv)}: {got[1]} instead of {got[0]}"
    same("--version")
    same("build", "--version")
    same("gc", "--list-busy")
    same("no-such-command")
    same()
    same("hash", "-S", "nar", "/usr/share/doc/guix" if os.path.isdir("/usr/share/doc/guix") else "/etc/hostname")
    same("authenticate", input=b"\n")
    same("offload", "x86_64-linux", "3600", "1", "0", input=b"")
    same("--version", user="_guixbuilder0")
    # descriptors pass, too
    r, w = os.pipe()
    p = subprocess.Popen([GUIX, "repl", "-q", "-t", "machine"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(w,))
    target = os.readlink(f"/proc/self/fd/{w}")
    deadline = time.monotonic() + 5
    while os.readlink(f"/proc/{p.pid}/exe").startswith(LIBEXEC) and time.monotonic() < deadline:
        time.sleep(.01)
    fds = [os.readlink(f"/proc/{p.pid}/fd/{w}")]
    p.kill(); p.communicate()
    os.close(r); os.close(w)
    assert fds == [target], f"descriptor {w} became {fds}"

def archive():
    """Signing and verifying by the daemon: `authenticate' through GUIX="""
    daemon()
    build(NGINX["zstd"], ITEMS["small"])
    with open("/tmp/small.export", "wb") as f:
        subprocess.run(["guix", "archive", "--export", ITEMS["small"]], stdout=f, check=True)
    daemon()
    with open("/tmp/small.export", "rb") as f:
        run("guix", "archive", "--import", stdin=f)
    check_content(ITEMS["small"])
    run("guix", "gc")  # gc --list-busy through GUIX=

def download(*daemon_args):
    """A build by the daemon itself: builtin:download, which runs `perform-download' as a build user"""
    daemon(*daemon_args)
    fetch_something("download-test")

def fetch_something(name):
    text = f"fetched for {name} {time.time_ns()}\n".encode()
    import hashlib
    digest = nar.base32(hashlib.sha256(text).digest())
    with Slow(alter=lambda path, data: text if path == "/file" else None) as server:
        with open("/tmp/download.scm", "w") as f:
            f.write("(use-modules (guix store) (guix derivations) (guix base32)) (with-store store (display "
                    f"(derivation-file-name (derivation store \"{name}\" \"builtin:download\" '() #:hash "
                    f"(nix-base32-string->bytevector \"{digest}\") #:hash-algo 'sha256 #:env-vars "
                    f"`((\"url\" . ,(object->string \"{server.url}/file\")))))))")
        drv = run("guix", "repl", "-q", "--", "/tmp/download.scm").stdout.strip().splitlines()[-1]
        out = run("guix", "build", "--no-substitutes", drv).stdout
        path = out.strip().splitlines()[-1]
        assert open(path, "rb").read() == text, out[-400:]
        assert any(p == "/file" for p, _ in server.asked)

### Cases: the rootless daemon

def rootless():
    """By a user namespace where the kernel gives one; else it refuses, once, and the daemon goes on"""
    daemon("--rootless")
    uid = pwd.getpwnam("guix-daemon").pw_uid
    p = build(NGINX["zstd"], ITEMS["small"], TINY[80], check=False)
    if not os.path.lexists(ITEMS["small"]):
        check_refusal(p)
        fetch_something("rootless-download")
        return "refused"
    check_content(ITEMS["small"])
    assert os.lstat(ITEMS["small"]).st_uid == uid
    if not STOCK:
        with Slow(rate=500_000) as slow:
            b = start_build(slow.url, ITEMS["tree"])
            try:
                found = wait_for("broker", "fetch", "unpack", of=b)
                time.sleep(.5)
                found = ours()
                host = os.readlink("/proc/1/ns/user")
                for role in ("fetch", "unpack"):
                    for h in found[role]:
                        check_sandbox(h)
                        assert os.readlink(f"/proc/{h.pid}/ns/user") != host, f"{role} is in no user namespace"
                        assert os.readlink(f"/proc/{h.pid}/ns/mnt") != os.readlink("/proc/1/ns/mnt"), f"{role}: mount namespace"
                        seen = os.listdir(f"/proc/{h.pid}/root")
                        assert "gnu" not in seen and "var" not in seen, f"{role} can see {seen}"
            finally:
                b.send_signal(signal.SIGINT)
                end_build(b)
                wait_none()
    for name in ("tree", "edge", "refs"):
        build(NGINX["zstd"], ITEMS[name])
        check_content(ITEMS[name])
    run("guix", "gc", "--verify=contents")
    fetch_something("rootless-download")
    wait_none()
    return "by namespaces" if not STOCK else ""

def check_refusal(p):
    lines = [l for l in re.split("[\r\n]+", p.stdout) if MESSAGE.search(l)]
    assert lines, f"no reason was given: {p.stdout[-400:]!r}"
    assert len(lines) <= 2, f"the reason came {len(lines)} times: {lines[:3]}"  # once an agent: query, and substitute
    assert p.returncode == 0 or "failed" in p.stdout

def rootless_without_namespaces():
    """In a chroot nobody can make a user namespace: refused as designed, and the daemon is not harmed"""
    daemon("--rootless", "--no-userns")
    p = build(NGINX["zstd"], ITEMS["small"], TINY[81], TINY[82], check=False)
    for path in (ITEMS["small"], TINY[81], TINY[82]):
        assert not os.path.lexists(path), "it was installed without the required layers"
    check_refusal(p)
    run("guix", "gc", "--verify")
    run("guix", "gc", "--list-live")
    wait_none()

def missing_helper_user():
    """Root daemon, but the configured user does not exist"""
    conf = "/etc/narlock/narlock.conf"
    old = open(conf).read() if os.path.exists(conf) else None
    daemon()
    try:
        os.makedirs(os.path.dirname(conf), exist_ok=True)
        with open(conf, "w") as f:
            f.write(re.sub(r"^\s*helper-user\s*=.*$", "", old or "", flags=re.M) + "\nhelper-user = nobody-of-this-name\n")
        p = build(NGINX["zstd"], ITEMS["small"], TINY[83], check=False)
        assert not os.path.lexists(ITEMS["small"]) and not os.path.lexists(TINY[83]), "it was installed nevertheless"
        assert "narlock" in p.stdout, f"no reason was given: {p.stdout[-400:]!r}"
    finally:
        if old is None:
            os.unlink(conf)
        else:
            with open(conf, "w") as f:
                f.write(old)
    build(NGINX["zstd"], ITEMS["small"])
    wait_none()

### All

def cases():
    """(name, function, arguments..., needs narlock)"""
    most = ("small", "refs", "edge", "tree", "elf")
    for comp in COMPRESSIONS:
        yield f"install-nginx-{comp}", (install, NGINX, comp, most, 200), False
    for comp in COMPRESSIONS:
        yield f"install-publish-{comp}", (install, PUBLISH, comp, most, 200 if comp == "zstd" else 20), False
    for comp in ("livezstd", "livenone"):
        yield f"install-publish-{comp}", (install, PUBLISH, comp, ("small", "tree", "elf"), 0), False
    yield "equals-stock", (equals_stock,), False
    yield "deduplicated-again", (deduplicated_again,), False
    yield "repair", (repair,), False
    yield "missing", (missing,), False
    yield "have", (have,), False
    yield "progress", (progress,), False
    yield "mismatch", (mismatch,), False
    yield "unprivileged-client", (unprivileged,), False
    yield "concurrent", (concurrent,), False
    yield "archive", (archive,), False
    yield "download", (download,), False
    yield "wrapper", (wrapper,), True
    yield "layers", (layers,), True
    yield "audit", (audit,), True
    for role in ("agent",) if STOCK else ("fetch", "unpack", "spawner", "broker"):
        yield f"kill-{role}", (kill_one, role, 4), False
    for role in ("fetch", "unpack", "spawner"):
        yield f"stopped-{role}", (stopped_helper, role), True
    yield "interrupted-client", (interrupted_client,), False
    yield "killed-session", (killed_session,), False
    yield "restarted-server", (restarted_server,), False
    yield "stalled-server", (stalled_server,), True
    yield "missing-helper-user", (missing_helper_user,), True
    yield "rootless", (rootless,), False
    yield "rootless-without-namespaces", (rootless_without_namespaces,), True

def main():
    args = [a for a in sys.argv[1:] if a != "--stock"]
    if args == ["--list"]:
        print(*(name for name, _, _ in cases()), sep="\n")
        return 0
    only = [args[i + 1] for i in range(0, len(args), 2) if args[i] == "--only"]
    if len(only) * 2 != len(args):
        sys.exit(__doc__)
    if not STOCK and not os.access(GUIX, os.X_OK):
        sys.exit(f"cases: {GUIX} is not installed in the test bed: bed build")
    print(f"seed {SEED} (again: NARLOCK_E2E_SEED={SEED})", flush=True)
    report = Report(only)
    for name, (function, *arguments), narlock_only in cases():
        if STOCK and narlock_only:
            if report.wanted(name):
                report.skip(name, "not for the stock program")
            continue
        report.run(name, function, *arguments)
    subprocess.run(["/bed/kit/e2e/daemon", "stop"], check=True)
    return report.close()

if __name__ == "__main__":
    sys.exit(main())
