#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests: nars as ERIS blocks from real IPFS daemons, end to end; runs inside the client view of the test bed (`run'
starts it).   blocks.py [--only WORD]... [--list]
Two daemons of a kind (Kubo, js-ipfs) on loopback, A and B: narlock knows A, the blocks are in B and come to A by
bitswap.  nginx, which is not ours either, has the nars."""
import base64, collections, concurrent.futures, contextlib, ctypes, hashlib, http.client, http.server, json, os, random, re, shutil, signal, socket, struct
import subprocess, sys, threading, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
import cases
from cases import ITEMS, SEED, TINY, WWW, build, check_content, daemon, end_build, run, start_build
from agent import Agent, Report, Skip, options, reserve_descriptors

CONF = "/etc/narlock/narlock.conf"
HEAL = "/usr/bin/narlock-heal"
AUDIT = "/var/log/narlock/audit.log"
MODULES, KUBO = "/bed/ipfs/node_modules", "/bed/ipfs/ipfs"
WORK = "/tmp/blocks"  # on tmpfs: a put that waits for a disk would be the disk's figure
LARGE = "elf"         # NarSize 300 MB; what is cut into blocks is its zstd file
DEAD = "http://127.0.0.1:1"

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]

def base_of(name):
    return os.path.basename(ITEMS[name])

def configure(*lines):
    """narlock.conf, with blocks from private addresses allowed into IPFS, as loopback is one"""
    with open(CONF, "w") as f:
        f.write("".join(l + "\n" for l in ("seed-private = yes", *lines)))

def audit_since(mark):
    with open(AUDIT) as f:
        f.seek(mark)
        return f.read()

def audit_mark():
    return os.path.getsize(AUDIT) if os.path.exists(AUDIT) else 0

def audit_of(mark, path):
    """The last record about PATH"""
    records = [json.loads(l) for l in audit_since(mark).splitlines() if path in l]
    assert records, f"no audit record for {path}"
    return records[-1]

### What an admin publishes

class Published:
    """A nar file as blocks: its names, its references in the order of a decoder, and its CAR"""
    def __init__(self, name, comp="zstd"):
        self.name, self.path, self.comp = name, ITEMS[name], comp
        self.base = os.path.basename(self.path)
        self.hash = self.base[:32]
        self.narinfo = open(f"{WWW}/{comp}/{self.hash}.narinfo").read()
        self.file = f"{WWW}/{comp}/" + re.search(r"^URL: (.*)$", self.narinfo, re.M)[1]
        self.car = f"{WORK}/{self.base}.{comp}.car"
        self.lines = run("narlock-eris", "car", "--narinfo", f"{WWW}/{comp}/{self.hash}.narinfo", "--output", self.car,
                         self.file).stdout
        names = dict(l.split(": ") for l in self.lines.splitlines())
        self.urn, self.manifest = names["ERIS"], names["ERIS-Manifest"]
        rows = [l.split() for l in run("narlock-eris", "blocks", self.file).stdout.splitlines()]
        rows.sort(key=lambda r: (int(r[2]), -int(r[1])))
        self.blocks = list({r[0]: int(r[1]) for r in rows}.items())
        self.leaves = [r for r, level in self.blocks if level == 0]
        self.inner = [r for r, level in self.blocks if level > 0]

    def with_lines(self, lines=None):
        """The narinfo as a mirror without the key makes it: the names stand below the signature"""
        return self.narinfo + (self.lines if lines is None else lines)

def cid_of(ref):
    raw = b"\x01\x55\xa0\xe4\x02\x20" + base64.b32decode(ref + "====")
    return "b" + base64.b32encode(raw).decode().lower().rstrip("=")

def ref_of(cid):
    """The hash in a CID of version 1 in base32, whatever its codec"""
    raw = base64.b32decode(cid[1:].upper() + "=" * (-len(cid[1:]) % 8))
    return base64.b32encode(raw[-32:]).decode().rstrip("=")

_published = {}
def published(name):
    if name not in _published:
        _published[name] = Published(name)
    return _published[name]

### Servers

class Nginx:
    """A static server with a log of its own.  NARINFOS: {published: text}; without NARS nars are 404."""
    def __init__(self, narinfos, nars=True, max_age=None):
        self.port, self.dir = free_port(), f"{WORK}/nginx-{time.monotonic_ns()}"
        self.url = f"http://127.0.0.1:{self.port}"
        os.makedirs(f"{self.dir}/www")
        with open(f"{self.dir}/www/nix-cache-info", "w") as f:
            f.write("StoreDir: /gnu/store\n")
        for p, text in narinfos.items():
            with open(f"{self.dir}/www/{p.hash}.narinfo", "w") as f:
                f.write(text)
        if nars:
            os.symlink(f"{WWW}/zstd/nar", f"{self.dir}/www/nar")
        subprocess.run(["chmod", "-R", "a+rX", self.dir], check=True)
        headers = f"add_header Cache-Control 'max-age={max_age}';" if max_age is not None else ""
        with open(f"{self.dir}/conf", "w") as f:
            f.write(f"""worker_processes 1; daemon off; pid {self.dir}/pid; error_log stderr;
events {{ }}
http {{ log_format line '$request_method $uri $status $body_bytes_sent $http_range'; access_log {self.dir}/log line;
  sendfile on; keepalive_requests 1000000; default_type application/octet-stream; {headers}
  server {{ listen 127.0.0.1:{self.port}; root {self.dir}/www; }} }}
""")
        self.process = subprocess.Popen(["nginx", "-e", "stderr", "-c", f"{self.dir}/conf"], stderr=subprocess.DEVNULL)
        wait_listening(self.port, self.process)

    def requests(self):
        """(method, path, status, bytes, range) of each so far"""
        with open(f"{self.dir}/log") as f:
            return [(m, u, int(s), int(n), r) for m, u, s, n, r in (l.rstrip("\n").split(" ", 4) for l in f)]

    def nar_requests(self):
        return [r for r in self.requests() if r[1].startswith("/nar/")]

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

def wait_listening(port, process=None, limit=30):
    deadline = time.monotonic() + limit
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert process is None or process.poll() is None, "a server ended at once"
            assert time.monotonic() < deadline, f"nobody listens on {port}"
            time.sleep(.05)

class Answers(http.server.ThreadingHTTPServer):
    """A server that is a function: answer(method, path) gives (status, body)"""
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, answer):
        self.answer, self.asked = answer, []
        super().__init__(("127.0.0.1", 0), AnswersHandler)
        self.port = self.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": .05}, daemon=True).start()

    def handle_error(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

class AnswersHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def reply(self):
        self.server.asked.append((self.command, self.path))
        status, body = self.server.answer(self.command, self.path)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = reply

    def log_message(self, *_):
        pass

class Connections:
    """Counts connections that are tried to a port of this machine: SYN packets on the loopback interface"""
    def __init__(self, port):
        self.count = 0
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        ins = [(0x30, 0, 0, 9),      # protocol
               (0x15, 0, 6, 6),      # TCP, or drop
               (0xb1, 0, 0, 0),      # X = length of the IP header
               (0x48, 0, 0, 2),      # port of destination
               (0x15, 0, 3, port),   # ours, or drop
               (0x50, 0, 0, 13),     # flags
               (0x54, 0, 0, 0x12),   # SYN and ACK
               (0x15, 1, 0, 2),      # SYN alone: take
               (0x06, 0, 0, 0),
               (0x06, 0, 0, 64)]
        filters = b"".join(struct.pack("HBBI", *i) for i in ins)
        self.memory = ctypes.create_string_buffer(filters)
        self.socket.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HP", len(ins), ctypes.addressof(self.memory)))
        self.socket.bind(("lo", 0x0800))
        self.socket.settimeout(.1)
        self.ending = False
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        while not self.ending:
            try:
                _, where = self.socket.recvfrom(64)
            except TimeoutError:
                continue
            if where[2] != 4:  # each packet passes twice; not PACKET_OUTGOING
                self.count += 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        time.sleep(.2)
        self.ending = True
        self.thread.join()
        self.socket.close()

### IPFS daemons

class Node:
    """One daemon, fresh, with an empty repository.  CONFIG, SECRET: of Kubo: more of its configuration, and what the
    test itself has to say to be let in"""
    def __init__(self, kind, name, config=None, secret=None, port=None):
        self.kind, self.name, self.dir, self.config, self.secret = kind, name, f"{WORK}/{kind}-{name}", config or {}, secret
        self.api_port, self.swarm_port, self.gateway_port = port or free_port(), free_port(), free_port()
        self.log = f"{self.dir}.log"
        shutil.rmtree(self.dir, ignore_errors=True)
        start = time.monotonic()
        (self.start_kubo if kind == "kubo" else self.start_js)()
        self.started = time.monotonic() - start

    def conf(self):
        return f"ipfs = /ip4/127.0.0.1/tcp/{self.api_port}"

    def ipfs(self, *argv):
        """The command, on the repository itself while no daemon runs"""
        return run(KUBO, *argv, env={**os.environ, "IPFS_PATH": self.dir}).stdout

    def start_kubo(self):
        self.ipfs("init", "--empty-repo", "--profile=test")
        self.ipfs("bootstrap", "rm", "--all")
        for key, value in {"Addresses.API": f"/ip4/127.0.0.1/tcp/{self.api_port}",
                           "Addresses.Gateway": f"/ip4/127.0.0.1/tcp/{self.gateway_port}",
                           "Addresses.Swarm": [f"/ip4/127.0.0.1/tcp/{self.swarm_port}"], "Routing.Type": "none",
                           **self.config}.items():
            self.ipfs("config", "--json", key, json.dumps(value))
        self.run_kubo()

    def run_kubo(self):
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([KUBO, "daemon"], env={**os.environ, "IPFS_PATH": self.dir}, stdout=log, stderr=log)
        wait_listening(self.api_port, self.process)
        self.address = f"/ip4/127.0.0.1/tcp/{self.swarm_port}/p2p/{json.loads(self.ask('id'))['ID']}"

    def start_js(self):
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(["node", f"{os.path.dirname(os.path.abspath(__file__))}/jsipfs.mjs", MODULES,
                                             self.dir, str(self.api_port), str(self.swarm_port)], stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not (ready := re.search(r"^READY (\S+)$", open(self.log).read(), re.M)):
            assert self.process.poll() is None, f"js-ipfs ended: {open(self.log).read()[-600:]}"
            assert time.monotonic() < deadline, "js-ipfs does not become ready"
            time.sleep(.1)
        self.address = ready[1]

    def ask(self, command, body=None, timeout=120, check=True):
        c = http.client.HTTPConnection("127.0.0.1", self.api_port, timeout=timeout)
        headers = {"Content-Length": "0"}
        if self.secret:
            headers["Authorization"] = self.secret
        if body is not None:
            body = (b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n"
                    b"Content-Type: application/octet-stream\r\n\r\n" + body + b"\r\n--x--\r\n")
            del headers["Content-Length"]
            headers["Content-Type"] = "multipart/form-data; boundary=x"
        c.request("POST", f"/api/v0/{command}", body, headers)
        reply = c.getresponse()
        data = reply.read()
        c.close()
        assert not check or reply.status == 200, f"{self.kind} {self.name}: {command[:60]}: {reply.status} {data[:200]!r}"
        return data

    def connect(self, other):
        self.ask(f"swarm/connect?arg={other.address}")

    def load(self, p):
        with open(p.car, "rb") as f:
            self.ask("dag/import?pin-roots=false", f.read())

    def commands(self):
        """Of Kubo: how often its API was asked for what, since this was called last"""
        found = collections.Counter(c["Command"] for c in json.loads(self.ask("diag/cmds")))
        self.ask("diag/cmds/clear")
        return found

    def files(self):
        """Of Kubo: how many files its gateway has given"""
        c = http.client.HTTPConnection("127.0.0.1", self.api_port, timeout=60)
        c.request("GET", "/debug/metrics/prometheus")
        found = re.search(r"^ipfs_http_gw_unixfs_file_get_duration_seconds_count\S* (\d+)", c.getresponse().read().decode(), re.M)
        c.close()
        return int(found[1]) if found else 0

    def local(self):
        """References of all that it has"""
        return {ref_of(json.loads(l)["Ref"]) for l in self.ask("refs/local").splitlines() if l}

    def remove(self, refs):
        refs = [cid_of(r) for r in refs]
        def some(i):
            self.ask("block/rm?force=true&" + "&".join(f"arg={c}" for c in refs[i:i + 50]))
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(some, range(0, len(refs), 50)))

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()

class Pair:
    def __init__(self, kind):
        self.a, self.b = Node(kind, "a"), Node(kind, "b")
        self.a.connect(self.b)

    def new_a(self):
        """An empty A, so that blocks come at the pace of bitswap"""
        if self.a.local():
            self.a.stop()
            self.a = Node(self.a.kind, "a")
            self.a.connect(self.b)

    def delete(self, refs):
        """Everywhere"""
        for n in (self.a, self.b):
            n.remove(set(refs) & n.local())

    def stop(self):
        self.a.stop()
        self.b.stop()

PAIR = None

def missing(node, p):
    have = node.local()
    return [r for r, _ in p.blocks if r not in have]

def heal(limit=120):
    """narlock-heal until its journal is empty"""
    deadline = time.monotonic() + limit
    while True:
        out = run(HEAL, "--once", "--now", timeout=limit, check=False).stdout
        status = run(HEAL, "--status").stdout
        if re.search(r"^0 nars", status, re.M):
            return
        assert time.monotonic() < deadline, f"the journal does not become empty: {status[-300:]!r}; narlock-heal said {out[-300:]!r}"
        time.sleep(1)

def fetch(urls, name, limit=120):
    """guix build; (seconds, what it printed)"""
    start = time.monotonic()
    p = start_build(urls, ITEMS[name])
    out = end_build(p, limit)
    took = time.monotonic() - start
    assert p.returncode == 0 and os.path.lexists(ITEMS[name]), f"not substituted: {out[-500:]!r}"
    check_content(ITEMS[name])
    return took, out

def mb(n):
    return f"{n / 1e6:.0f} MB"

### Cases: a large nar and two peers

def bitswap(nars):
    """The blocks come from B, through A: although all nar URLs work, or because none does"""
    p = published(LARGE)
    PAIR.new_a()
    PAIR.b.load(p)
    # Two of these daemons and the client share a small machine: their pauses shall not be what is tested.
    configure(PAIR.a.conf(), "block-timeout = 15")
    daemon()
    with Nginx({p: p.with_lines()}, nars=nars) as server:
        mark = audit_mark()
        took, out = fetch(server.url, LARGE)
        asked = server.nar_requests()
        by_http = sum(r[3] for r in asked if r[2] < 300)
        record = audit_of(mark, p.path)
    size = os.path.getsize(p.file)
    note = f"{len(p.blocks)} blocks, {took:.0f} s, {mb(size / took)}/s, {mb(by_http)} in {len(asked)} requests by HTTP{counts(record)}"
    # What is slowest is asked for twice (of 100 blocks 3), and what a daemon does not find in time: seen were 4 %, and a
    # third on a machine with much else to do.
    assert by_http < size * .6 and all(r[2] != 200 for r in asked), note
    assert nars or not by_http
    return note

def counts(record):
    found = [f"{k} {record['blocks_' + k]}" for k in ("missed", "repaired", "reinserted") if record.get("blocks_" + k)]
    return "; ".join(["", str(record.get("sources")), *([" ".join(found)] if found else [])])

def deleted(percent):
    """Some of the blocks are nowhere: they come by HTTP, and are back in IPFS afterwards; then IPFS is enough"""
    p = published(LARGE)
    rng = random.Random(SEED + percent)
    gone = [r for r, _ in p.blocks] if percent == 100 else rng.sample(p.leaves, len(p.leaves) * percent // 100)
    PAIR.b.load(p)
    PAIR.a.load(p)
    PAIR.delete(gone)
    assert len(missing(PAIR.a, p)) == len(missing(PAIR.b, p)) == len(gone)
    configure(PAIR.a.conf(), "block-timeout = 2")
    daemon()
    with Nginx({p: p.with_lines()}) as server:
        mark = audit_mark()
        took, out = fetch(server.url, LARGE)
        asked = server.nar_requests()
        record = audit_of(mark, p.path)
        ranges = sum(r[4] != "-" for r in asked)
        note = f"{len(gone)} of {len(p.blocks)} blocks gone; {took:.1f} s, {ranges} ranges, {mb(sum(r[3] for r in asked))} by HTTP"
        note += counts(record)
        assert asked, "no nar was asked for"
        back = len(gone) - len(missing(PAIR.a, p))
        start = time.monotonic()
        heal()
        note += f"; {back} back at once, narlock-heal {time.monotonic() - start:.0f} s"
    left = missing(PAIR.a, p)
    assert not left, f"{len(left)} blocks are not back; {note}"
    return note + only_ipfs(p)

def ask_info(url, p):
    """What a client asks before it builds: the narinfo is in the cache then"""
    with open("/tmp/info.scm", "w") as f:
        f.write(f"(use-modules (guix store)) (with-store store (set-build-options store #:use-substitutes? #t #:substitute-urls"
                f" (list \"{url}\")) (display (length (substitutable-path-info store (list \"{p.path}\")))))")
    out = run("guix", "repl", "-q", "--", "/tmp/info.scm").stdout
    assert out.strip().endswith("1"), out[-300:]

def only_ipfs(p):
    """A second client, whose mirror has narinfos only; a third one, for whom every server has died"""
    configure(PAIR.a.conf(), "block-timeout = 5")
    daemon()
    with Nginx({p: p.with_lines()}, nars=False) as mirror:
        took, _ = fetch(f"{mirror.url} {DEAD}", p.name)
    note = f"; second client {took:.0f} s"
    daemon()
    with Nginx({p: p.with_lines()}, nars=False, max_age=1) as mirror:
        url = mirror.url
        ask_info(url, p)
    assert not os.path.lexists(p.path)
    time.sleep(1.5)  # what is in the cache has expired
    took, _ = fetch(url, p.name)
    return note + f", third {took:.0f} s"

def stopped():
    """The daemon of IPFS hangs in the middle; on a busy machine it may take more than one try to meet the middle"""
    for _ in range(4):
        if note := stop_once():
            return note
    raise AssertionError("the nar was there, or all of its blocks were, before the daemon could be stopped")

def stop_once():
    p = published(LARGE)
    PAIR.new_a()
    PAIR.b.load(p)
    configure(PAIR.a.conf())
    daemon()
    with Nginx({p: p.with_lines()}) as server:
        b = start_build(server.url, p.path)
        deadline = time.monotonic() + 60
        while len(PAIR.a.local()) < 50:
            if b.poll() is not None:
                end_build(b)
                return None
            assert time.monotonic() < deadline, "no blocks"
            time.sleep(.1)
        PAIR.a.process.send_signal(signal.SIGSTOP)
        try:
            start = time.monotonic()
            out = end_build(b, 60)
            took = time.monotonic() - start
        finally:
            PAIR.a.process.send_signal(signal.SIGCONT)
        assert b.returncode == 0 and os.path.lexists(p.path), out[-400:]
    check_content(p.path)
    have = len(p.blocks) - len(missing(PAIR.a, p))
    if have == len(p.blocks):
        return None
    assert took < 30, f"{took:.0f} s"  # the stall rule, and a nar of 300 MB on a machine that may be busy
    return f"after {have} of {len(p.blocks)} blocks; {took:.1f} s from SIGSTOP to the end"

def doctor():
    """What `narlock doctor' finds out about the daemon: working, hanging, and nobody there"""
    before = PAIR.a.local()
    configure(PAIR.a.conf())
    daemon()
    def ask():
        start = time.monotonic()
        out = run("narlock", "doctor", f"--substitute-urls={cases.NGINX['zstd']}", check=False, timeout=90).stdout
        return [l for l in out.splitlines() if " blocks " in l], time.monotonic() - start
    lines, took = ask()
    assert re.search(rf"usable.*127.0.0.1:{PAIR.a.api_port}.*version \S+.*put and read back", lines[0]), lines
    assert any("1 of 1 block sources usable" in l for l in lines), lines
    assert PAIR.a.local() == before, "the block that was tried with is still there"
    PAIR.a.process.send_signal(signal.SIGSTOP)
    try:
        stopped, long = ask()
    finally:
        PAIR.a.process.send_signal(signal.SIGCONT)
    assert any("0 of 1 block sources usable" in l for l in stopped), stopped
    configure(f"ipfs = /ip4/127.0.0.1/tcp/{free_port()}")
    nobody, _ = ask()
    assert any("0 of 1 block sources usable" in l for l in nobody), nobody
    return f"{took:.1f} s, {long:.1f} s when it hangs"

### Cases: connections

def reused():
    """Connections to the daemon, counted by their SYN packets: not more than requests in flight, however many blocks"""
    notes = []
    for name in ("tree", LARGE):
        p = published(name)
        PAIR.a.load(p)
        configure(PAIR.a.conf())
        daemon()
        with Nginx({p: with_urn_only(p)}) as server, Connections(PAIR.a.api_port) as tried:
            mark = audit_mark()
            took, _ = fetch(server.url, name)
            sources = audit_of(mark, p.path)["sources"]
        got = int((re.search(r"ipfs (\d+)", sources) or [0, 0])[1])
        notes.append(f"{tried.count} connections for {got} of {len(p.blocks)} blocks in {took:.1f} s")
        assert got > len(p.blocks) * .5, f"{sources}: so few cannot show it"
        assert 0 < tried.count <= 256 + 16 and tried.count < got * .8, notes[-1]
    return ", ".join(notes)

def with_urn_only(p):
    return p.with_lines(p.lines.splitlines(True)[0])

def no_daemon():
    """Nobody listens at the IPFS address, or somebody who never says a word: one connection is tried, once"""
    p, q = published("tree"), published("small")
    times, counts = {}, {}
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        for what, port in (("plain", None), ("nobody", free_port()), ("silent", silent.getsockname()[1])):
            configure("ipfs =" if port is None else f"ipfs = /ip4/127.0.0.1/tcp/{port}")
            daemon()
            with Nginx({x: x.narinfo if what == "plain" else x.with_lines() for x in (p, q)}) as server, \
                    Connections(port or 1) as tried:
                start = time.monotonic()
                build(server.url, p.path, q.path)
                times[what] = time.monotonic() - start
            check_content(p.path)
            check_content(q.path)
            counts[what] = tried.count
    note = ", ".join(f"{w}: {t:.1f} s, {counts[w]} connections" for w, t in times.items())
    # `guix build' may have one agent that asks and one that substitutes
    assert counts["plain"] == 0 and counts["nobody"] in (1, 2) and counts["silent"] in (1, 2), note
    assert times["nobody"] < times["plain"] + 1 and times["silent"] < times["plain"] + 3, note
    return note + " for two items"

def peerless():
    """A daemon that knows nobody: what it has not cannot come through it.  Nobody waits for that, also if it is the end"""
    p = published("tree")
    gone, wait = p.leaves[1:-1:3], 20
    node = Node(PAIR.a.kind, "peerless")
    try:
        configure(node.conf(), f"block-timeout = {wait}")
        times = []
        for nars in (True, False):
            daemon()
            node.load(p)
            node.remove(gone)
            with Nginx({p: p.with_lines()}, nars=nars) as server:
                agent = Agent(cases.GUIX, "--substitute", options(server.url, True))
                reply = agent.substitute(p.path)
                times.append(time.monotonic() - agent.start)
            assert reply.startswith("success " if nars else "not-found"), (reply, agent.tail())
            agent.kill()
            if nars:
                check_content(p.path)
        note = f"{len(gone)} of {len(p.leaves)} leaves gone: there after {times[0]:.1f} s, given up after {times[1]:.1f} s"
        assert max(times) < wait, note
        return note
    finally:
        node.stop()

### Cases: who lies, who errs

def liar():
    """A block server that sends other blocks: it is dropped and named"""
    p = published("tree")
    def answer(method, path):
        return 200, os.urandom(32768) if "urn:blake2b:" in path else b""
    with Answers(answer) as lying, Nginx({p: with_urn_only(p)}) as server:
        configure("ipfs =", f"block-server = {lying.url}")
        daemon()
        mark = audit_mark()
        took, _ = fetch(server.url, "tree")
        first = len(lying.asked)
    said = audit_since(mark)
    assert first > 0, "it was not asked at all"
    assert f"127.0.0.1:{lying.port}" in said and re.search(r"liar|lied|lie", said), f"it is not named: {said[-400:]!r}"
    assert first < len(p.blocks), f"asked {first} times: it was not dropped"
    return f"asked for {first} blocks; {took:.1f} s"

def wrong_urn():
    """A URN below the signature that is another nar's: costs time, and nothing else"""
    p, other = published("tree"), published("edge")
    PAIR.a.load(other)
    configure(PAIR.a.conf(), "block-timeout = 2")
    notes = []
    for lines in (other.lines, other.lines.splitlines(True)[0], "ERIS: urn:eris:" + "A" * 106 + "\n", "ERIS: nonsense\n"):
        daemon()
        with Nginx({p: p.with_lines(lines)}) as server:
            took, _ = fetch(server.url, "tree")
        notes.append(f"{took:.1f}")
    return f"{' '.join(notes)} s"

def index():
    """The narinfo says nothing of blocks; the index does"""
    p = published("tree")
    text = f"StorePath: {p.path}\nURL: nar/zstd/{p.base}\nCompression: zstd\nFileSize: {os.path.getsize(p.file)}\n{p.lines}"
    PAIR.b.load(p)
    with Answers(lambda m, path: (200, text.encode()) if path == f"/eris/{p.hash}" else (404, b"")) as known, \
            Nginx({p: p.narinfo}) as server:
        configure(PAIR.a.conf(), f"eris-index = {known.url}")
        daemon()
        fetch(server.url, "tree")
        assert known.asked, "the index was not asked"
        assert not server.nar_requests(), f"the nar came by HTTP: {server.nar_requests()[:3]}"
        # no server has the narinfo any more: the manifest has it
        daemon()
        took, _ = fetch(DEAD, "tree")
    return f"{len(known.asked)} questions; without any server {took:.1f} s"

def private():
    """Without `seed-private' nothing from a private address gets into IPFS"""
    p = published("tree")
    PAIR.b.load(p); PAIR.a.load(p)
    gone = p.leaves[10:20]
    PAIR.delete(gone)
    with open(CONF, "w") as f:
        f.write(PAIR.a.conf() + "\nblock-timeout = 2\n")
    daemon()
    with Nginx({p: p.with_lines()}) as server:
        fetch(server.url, "tree")
        heal()
    assert len(missing(PAIR.a, p)) == len(gone), f"{len(gone) - len(missing(PAIR.a, p))} of {len(gone)} were put"

def inner_nodes():
    """No Range repairs a node of the tree: the whole nar comes, and is encoded anew"""
    p = published("tree")
    PAIR.b.load(p); PAIR.a.load(p)
    gone = p.inner + p.leaves[5:9]
    PAIR.delete(gone)
    configure(PAIR.a.conf(), "block-timeout = 2")
    daemon()
    with Nginx({p: p.with_lines()}) as server:
        took, _ = fetch(server.url, "tree")
        back = len(gone) - len(missing(PAIR.a, p))
        heal()
    assert not missing(PAIR.a, p), f"{len(missing(PAIR.a, p))} of {len(gone)} are not back"
    return f"{took:.1f} s, {back} of {len(gone)} back at once"

def publish_again():
    """The server has no nar to give, but puts its blocks into IPFS when it is asked"""
    p = published("tree")
    PAIR.delete([r for r, _ in p.blocks])
    def answer(method, path):
        if method == "POST" and path == f"/publish-this-nar-again-into-IPFS/{p.base}":
            threading.Timer(1, PAIR.b.load, (p,)).start()
            return 202, b""
        if path == f"/{p.hash}.narinfo":
            return 200, p.with_lines().encode()
        return (200, b"StoreDir: /gnu/store\n") if path == "/nix-cache-info" else (404, b"")
    configure(PAIR.a.conf(), "block-timeout = 2")
    daemon()
    with Answers(answer) as server:
        took, _ = fetch(server.url, "tree")
        asked = [x for x in server.asked if x[0] == "POST"]
    assert len(asked) == 1, f"asked {len(asked)} times: {asked[:3]}"
    return f"{took:.1f} s"

### Cases: Kubo as admins configure it

def doctor_lines():
    out = run("narlock", "doctor", f"--substitute-urls={cases.NGINX['zstd']}", check=False, timeout=90).stdout
    return " ".join(l for l in out.splitlines() if " blocks " in l)

def fetched(server, name, path=None):
    """guix build: (what it printed, the audit record's sources)"""
    mark = audit_mark()
    _, out = fetch(server.url, name)
    return out, audit_of(mark, path or ITEMS[name]).get("sources") or ""

def authorized():
    """An API with secrets: none, a wrong one, right ones of both kinds, and one that may only read"""
    p, q = published("tree"), published("edge")
    basic = "Basic " + base64.b64encode(b"admin:pa55").decode()
    def rule(secret, *paths):
        return {"AuthSecret": secret, "AllowedPaths": [f"/api/v0{x}" for x in paths]}
    node = Node("kubo", "secret", {"API.Authorizations": {
        "admin": rule("basic:admin:pa55", ""), "blocks": rule("bearer:blocks", "/block"), "reader": rule("bearer:reader", "/block/get", "/block/stat")}}, basic)
    try:
        for secret in ("", " Bearer wrong"):
            configure(node.conf() + secret)
            daemon()
            with Nginx({p: p.with_lines()}) as server:
                out, sources = fetched(server, "tree")
            assert not sources and len(re.findall(r"refuses us \(HTTP 403: is the authorization", out)) == 1, (sources, out[-600:])
            said = doctor_lines()
            assert "refuses us (HTTP 403)" in said and "API.Authorizations" in said and "0 of 1" in said, said
        # Who is refused need not wait when it is corrected.
        configure(node.conf() + f" {basic}")
        node.load(q)
        with Nginx({q: q.with_lines()}) as server:
            assert "ipfs" in fetched(server, "edge")[1]
        for secret, puts in ((basic, True), ("Bearer blocks", True), ("Bearer reader", False)):
            configure(f"{node.conf()} {secret}", "block-timeout = 3")
            daemon()
            node.load(p)
            node.remove(p.leaves[3:9])
            with Nginx({x: x.with_lines() for x in (p, q)}) as server:
                mark = audit_mark()
                out = build(server.url, p.path, q.path).stdout
                sources = [audit_of(mark, x.path).get("sources") or "" for x in (p, q)]
                if puts:
                    heal()
            assert all("ipfs" in x for x in sources) and "range" in sources[0] + sources[1], (secret, sources, out[-300:])
            assert len(missing(node, p)) == (0 if puts else 6), (secret, len(missing(node, p)))
            assert puts or "missing blocks cannot be put back now: it refuses us" in out, out[-300:]
            said = doctor_lines()
            assert ("a block was put and read back" if puts else "gives blocks, but takes none") in said and "1 of 1" in said, said
    finally:
        node.stop()

def sockets():
    """The API at a unix socket, which others may not use at first, and at IPv6"""
    p, path = published("tree"), f"{WORK}/api.sock"
    port = free_port()
    node = Node("kubo", "socket", {"Addresses.API": [f"/ip4/127.0.0.1/tcp/{port}", f"/ip6/::1/tcp/{port}", f"/unix{path}"]}, port=port)
    try:
        node.load(p)
        for address, mode in ((f"/unix{path}", 0o755), (f"/unix{path}", 0o777), (f"unix:{path}", 0o777), (f"/ip6/::1/tcp/{port}", 0)):
            if mode:
                os.chmod(path, mode)
            configure(f"ipfs = {address}")
            daemon()
            with Nginx({p: p.with_lines()}) as server:
                out, sources = fetched(server, "tree")
            assert ("ipfs" in sources) == (mode != 0o755), (address, mode, sources, out[-300:])
            said = doctor_lines()
            assert (f"may not write to the socket {path}" if mode == 0o755 else "put and read back") in said, said
    finally:
        node.stop()

def gateway():
    """Kubo's own gateway, one that looks for blocks elsewhere and one that does not: as CAR, block by block, with holes"""
    p, notes = published("tree"), []
    for no_fetch in (True, False):
        node = Node("kubo", f"gateway-{no_fetch}", {"Gateway.NoFetch": no_fetch})
        try:
            configure("ipfs =", f"ipfs-gateway = http://127.0.0.1:{node.gateway_port}", "block-timeout = 2")
            for lines, gone in ((p.lines, []), (with_urn_only(p), []), (p.lines, p.leaves[5:9]), (with_urn_only(p), p.leaves[5:9])):
                node.load(p)
                node.remove(gone)
                daemon()
                with Nginx({p: lines if lines.startswith("StorePath") else p.with_lines(lines)}) as server:
                    out, sources = fetched(server, "tree")
                    asked = server.nar_requests()
                notes.append(sources)
                assert "gateway" in sources and "lies" not in out, (no_fetch, sources, out[-300:])
                assert asked or not gone, (no_fetch, sources)
        finally:
            node.stop()
    return "; ".join(notes)

def restarted():
    """The daemon dies in the middle and is there again at once; doctor sees it, and so does whoever comes next"""
    p, q = published(LARGE), published("tree")
    node = Node("kubo", "restarted")
    try:
        node.load(p)
        node.load(q)
        configure(node.conf())
        daemon()
        with Nginx({p: p.with_lines(), q: q.with_lines()}) as server:
            mark = audit_mark()
            b = start_build(server.url, p.path)
            time.sleep(random.uniform(.3, 1))
            node.process.kill()
            node.process.wait()
            start = time.monotonic()
            node.run_kubo()
            end_build(b, 90)
            took = time.monotonic() - start
            check_content(p.path)
            said = doctor_lines()
            assert "1 of 1 block sources usable" in said, said
            time.sleep(1.2)
            _, sources = fetched(server, "tree")
        assert "ipfs" in sources, sources
    finally:
        node.stop()
    return f"{took:.1f} s after it died; {audit_of(mark, p.path).get('sources')}"

def read_only():
    """A daemon that cannot write any more: the nar arrives, one message says why; later narlock-heal puts all back"""
    p = published(LARGE)  # the daemon kills the agent at its end: there has to be time to hear what became of a put
    node = Node("kubo", "read-only")
    blocks = f"{node.dir}/blocks"
    try:
        node.load(p)
        gone = p.leaves[10:60]
        node.remove(gone)
        configure(node.conf(), "block-timeout = 2")
        daemon()
        with Nginx({p: p.with_lines()}) as server:
            subprocess.run(["mount", "--bind", blocks, blocks], check=True)
            try:
                subprocess.run(["mount", "-o", "remount,bind,ro", blocks], check=True)
                out, _ = fetched(server, LARGE)
                said = [l for l in out.splitlines() if "put back" in l]
                healing = run(HEAL, "--once", "--now", check=False).stdout
                found = doctor_lines()
            finally:
                subprocess.run(["umount", "-l", blocks], check=True)
            assert len(said) == 1 and "read-only file system" in said[0], said
            assert "read-only file system" in healing and "read-only file system" in found, (healing, found)
            assert len(missing(node, p)) == len(gone)
            # Killed again and again, it goes on where it was.
            for wait in (.05, .1, .2, .4):
                h = subprocess.Popen([HEAL, "--once", "--now"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                time.sleep(wait)
                h.kill()
                h.wait()
            heal()
        assert not missing(node, p)
        pins = json.loads(node.ask("pin/ls?type=all"))["Keys"]
        assert not any(ref_of(c) in dict(p.blocks) for c in pins if c.startswith("b")), "what was put is pinned"
    finally:
        node.stop()

def collected():
    """The daemon throws away all that is not pinned, again and again, while the nar comes from it"""
    p = published(LARGE)
    node = Node("kubo", "collected")
    ending = threading.Event()
    def collect():
        while not ending.wait(.2):
            node.ask("repo/gc")
    try:
        node.load(p)
        configure(node.conf(), "block-timeout = 2")
        daemon()
        with Nginx({p: p.with_lines()}) as server:
            mark = audit_mark()
            b = start_build(server.url, p.path)
            time.sleep(.5)
            thread = threading.Thread(target=collect)
            thread.start()
            try:
                end_build(b, 120)
            finally:
                ending.set()
                thread.join()
            check_content(p.path)
    finally:
        node.stop()
    return str(audit_of(mark, p.path).get("sources"))

def by_hand():
    """What the README tells a publisher to do, and Kubo's own view of the manifest"""
    p = published("tree")
    node = Node("kubo", "by-hand")
    try:
        done = subprocess.run(f"narlock-eris car --narinfo {WWW}/zstd/{p.hash}.narinfo {p.file} | IPFS_PATH={node.dir} {KUBO} dag import",
                              shell=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=True)
        assert done.stderr == p.lines and p.manifest in done.stdout, done
        assert not missing(node, p)
        manifest = json.loads(node.ipfs("dag", "get", p.manifest))
        file, env = manifest["file"]["/"], {**os.environ, "IPFS_PATH": node.dir}
        stream = subprocess.run([KUBO, "cat", "--progress=false", file], env=env, stdout=subprocess.PIPE, check=True).stdout
        hashes = [hashlib.blake2b(stream[i:i + 32768], digest_size=32).digest() for i in range(0, len(stream), 32768)]
        refs = [base64.b32encode(h).decode().rstrip("=") for h in hashes]
        assert len(stream) == manifest["blocks"] * 32768 and list(dict.fromkeys(refs)) == [r for r, _ in p.blocks], manifest
        added = subprocess.run([KUBO, "add", "--only-hash", "-Q", "--cid-version=1", "--raw-leaves", "--hash=blake2b-256",
                                "--chunker=size-32768", "--max-file-links=174"], env=env, input=stream, stdout=subprocess.PIPE, check=True).stdout
        assert added.decode().strip() == file, (added, file)
        export = subprocess.run([KUBO, "dag", "export", "--progress=false", p.manifest], env=env, stdout=subprocess.PIPE, check=True).stdout
        assert len(export) == os.path.getsize(p.car), (len(export), os.path.getsize(p.car))  # the same, perhaps in another order
    finally:
        node.stop()

def one_agent():
    """Twenty items by one agent: its fetcher has no more descriptors behind the last than behind the first, whose
    connections it keeps, and little memory"""
    reserve_descriptors()
    items = [published(n) for n in [LARGE, "small", *[f"tiny-{i:04}" for i in range(17)], "tree"]]
    node, peak, counts = Node("kubo", "agent"), 0, []
    def fetcher():
        return next(p for p in cases.processes() if p.exe == f"{cases.LIBEXEC}/fetch")
    ending = threading.Event()
    def watch():
        nonlocal peak
        while not ending.wait(.02):
            try:
                peak = max(peak, int(fetcher().status["RssAnon"].split()[0]))
            except (StopIteration, OSError):
                pass
    thread = threading.Thread(target=watch)
    try:
        for x in items:
            node.load(x)
        configure(node.conf())
        daemon()
        with Nginx({x: with_urn_only(x) for x in items}) as server:
            a = Agent(cases.GUIX, "--substitute", options(server.url, True))
            thread.start()
            for x in items:
                reply = a.substitute(x.path)
                assert reply.startswith("success"), (x.name, reply, a.tail())
                time.sleep(.2)
                counts.append(len(os.listdir(f"/proc/{fetcher().pid}/fd")))
            a.kill()
    finally:
        ending.set()
        node.stop()
    note = f"RssAnon {peak / 1024:.1f} MiB; descriptors {counts[0]} to {counts[-1]}"
    assert peak <= 32 << 10 and counts[-1] <= counts[0] + 4, note
    return note

### Cases: without IPFS

def embedded():
    """`narlock-eris serve' instead of IPFS, with a block that is missing: repaired by Range"""
    p = published("tree")
    store = f"{WORK}/store"
    run("narlock-eris", "encode", "--store", store, "--manifest", p.file)
    os.unlink(f"{store}/{p.leaves[7]}")
    with subprocess.Popen(["narlock-eris", "serve", "--store", store, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE,
                          text=True) as serve:
        try:
            configure("ipfs =", f"block-server = {serve.stdout.readline().strip()}")
            daemon()
            with Nginx({p: p.with_lines()}) as server:
                took, _ = fetch(server.url, "tree")
                asked = server.nar_requests()
        finally:
            serve.terminate()
    assert [r[4] for r in asked] == [f"bytes={7 * 32768}-{8 * 32768 - 1}"], f"not one range: {asked}"
    return f"{took:.1f} s"

### All

def kind_cases():
    yield "bitswap", (bitswap, True)
    yield "bitswap-alone", (bitswap, False)
    for percent in (1, 20, 100):
        yield f"deleted-{percent}", (deleted, percent)
    yield "stopped", (stopped,)
    yield "connections-reused", (reused,)
    yield "doctor", (doctor,)
    yield "wrong-urn", (wrong_urn,)
    yield "index", (index,)
    yield "inner-nodes", (inner_nodes,)
    yield "peerless", (peerless,)
    yield "private", (private,)
    yield "publish-again", (publish_again,)

def kubo_cases():
    yield "authorized", (authorized,)
    yield "sockets", (sockets,)
    yield "gateway", (gateway,)
    yield "restarted", (restarted,)
    yield "read-only", (read_only,)
    yield "collected", (collected,)
    yield "by-hand", (by_hand,)
    yield "one-agent", (one_agent,)

def cases_of(kind):
    return [*kind_cases(), *(kubo_cases() if kind == "kubo" else [])]

def other_cases():
    yield "no-daemon", (no_daemon,)
    yield "liar", (liar,)
    yield "embedded", (embedded,)

def why_not(kind):
    """None when there is such a daemon, else the reason"""
    if os.path.exists(KUBO if kind == "kubo" else MODULES):
        return None
    why = f"/bed/ipfs/why-{kind}"
    return open(why).read().strip() if os.path.exists(why) else "it was not installed: bed ipfs"

def run_kind(kind, report):
    global PAIR
    wanted = [(f"ipfs-{kind}-{n}", c) for n, c in cases_of(kind) if report.wanted(f"ipfs-{kind}-{n}")]
    if not wanted:
        return
    if why := why_not(kind):
        report.skip(f"ipfs-{kind}", why)
        return
    PAIR = Pair(kind)
    try:
        for name, (function, *arguments) in wanted:
            report.run(name, function, *arguments)
    finally:
        PAIR.stop()

@contextlib.contextmanager
def clean():
    """An empty directory to work in; afterwards it is gone, as is the daemon, and narlock.conf is as it was"""
    shutil.rmtree(WORK, ignore_errors=True)
    os.makedirs(WORK)
    with open(CONF) as f:
        old = f.read()
    try:
        yield
    finally:
        with open(CONF, "w") as f:
            f.write(old)
        subprocess.run(["/bed/kit/e2e/daemon", "stop"], check=True)
        shutil.rmtree(WORK, ignore_errors=True)

def main():
    args = sys.argv[1:]
    if args == ["--list"]:
        print(*[f"ipfs-{k}-{n}" for k in ("kubo", "js-ipfs") for n, _ in cases_of(k)], *[f"blocks-{n}" for n, _ in other_cases()], sep="\n")
        return 0
    only = [args[i + 1] for i in range(0, len(args), 2) if args[i] == "--only"]
    if len(only) * 2 != len(args):
        sys.exit(__doc__)
    print(f"seed {SEED} (again: NARLOCK_E2E_SEED={SEED})", flush=True)
    report = Report(only)
    with clean():
        for name, (function, *arguments) in other_cases():
            report.run(f"blocks-{name}", function, *arguments)
        for kind in ("kubo", "js-ipfs"):
            run_kind(kind, report)
    return report.close()

if __name__ == "__main__":
    sys.exit(main())
