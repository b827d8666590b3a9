#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests: blocks from real IPFS daemons in all the ways that there are, against the daemon's own bulk commands and plain
HTTP of the same bytes; `blocks' starts it in namespaces of its own.
  blocks.py --bin DIR --tools DIR --eris PROGRAM --ipfs DIR [--runs N] [--mib N] [--remote-mib N] [--serve-mib N]
            [--seconds N] [--only WORD]... [--no-codec] [--agent PROGRAM]

Two network namespaces with a link between them.  In ours: node A and the client.  In the other: node B, which has all
blocks, and the web servers.  "local": what is asked has the bytes, so B and the web servers are asked: without delay
within their namespace, with delay over the link.  "remote": A is asked and gets them from B by bitswap over the link; the
web servers are behind the same link.  A delay is added to each round trip, half of it each way: by netem, or where the
kernel has none, by tests/bench/delay.

narlock is the real fetcher in its sandbox, told of one nar as the broker does it; its nar URL leads nowhere, so that only
blocks can help.  "end to end" (with --agent, in the test bed): a real item with a zstd nar, from the start of the
substituter to its `success', the verified item in the store; there, too, only blocks can help narlock's ways, and
others do the same work by programs in a pipe.  A "file stream" is the file that a manifest names, which is nothing but the
blocks; the CAR beneath the manifest is what a gateway gives that gives no files.
Every way but narlock's gives up after some seconds; rates are of what came until then.  It measures; it
never fails by time."""
import argparse, contextlib, ctypes, hashlib, http.client, json, os, random, re, select, shutil, signal, socket
import statistics, struct, subprocess, sys, tempfile, time
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, d) for d in ("../hostile", "../e2e")]
sys.dont_write_bytecode = True
from fetch_wire import DONE, Gone, Helper

DELAYS = (0, 20, 100)
ITEM = "elf"        # end to end: NarSize 300 MB
API, SWARM, GATEWAY, NGINX, ERIS = 5001, 4001, 8090, 8080, 8081
NEAR, FAR = "127.0.0.3", "10.99.0.1"  # further addresses of a node, in its namespace and over the link: its gateway gives no files there
PER_WAY = 3         # seconds for ways that take one block after the other
PER_BULK = 8        # for the others
PER_CAT = 20        # js-ipfs writes nothing for long, and may not survive that its client leaves then
PER_NAR = 30        # narlock has to bring the whole nar
EACH = 120          # connections that `narlock-eris serve' takes from one address are 128
DEAD = "http://127.0.0.1:9"
libc = ctypes.CDLL(None, use_errno=True)
started, failures, results = [], [], {}

def run(*argv, **more):
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)
    assert p.returncode == 0, f"{os.path.basename(argv[0])}: status {p.returncode}: {p.stderr.strip()[-300:]}"
    return p.stdout

def start(*argv, log, **more):
    with open(log, "wb") as f:
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=f, stderr=f, **more)
    started.append(p)
    return p

### The two namespaces

class Space:
    """A network namespace by a process that is in it"""
    def __init__(self, pid):
        self.pid, self.fd = pid, os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def enter(self):
        if libc.setns(self.fd, 0x40000000) != 0:  # CLONE_NEWNET
            raise OSError(ctypes.get_errno(), "setns")

@contextlib.contextmanager
def inside(space):
    space.enter()
    try:
        yield
    finally:
        here.enter()

def second_space():
    p = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    started.append(p)
    ours, deadline = os.readlink("/proc/self/ns/net"), time.monotonic() + 5
    while os.readlink(f"/proc/{p.pid}/ns/net") == ours:
        assert time.monotonic() < deadline, "no second network namespace"
        time.sleep(.02)
    return Space(p.pid)

class Link:
    """Between the two; .address is B's"""
    def __init__(self):
        self.device, self.address, self.process = None, "", None
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "near", "type", "veth", "peer", "name", "near", "netns", str(there.pid))
        self.addresses("near", 1)
        with inside(there):
            run("ip", "link", "set", "lo", "up")
            run("ip", "addr", "add", f"{FAR}/32", "dev", "lo")
        self.address = "10.77.1.2"
        self.netem = subprocess.run(["tc", "qdisc", "add", "dev", "near", "root", "netem", "delay", "1ms"],
                                    stderr=subprocess.DEVNULL).returncode == 0
        if self.netem:
            run("tc", "qdisc", "del", "dev", "near", "root")

    def addresses(self, device, net):
        for n, space in ((1, here), (2, there)):
            with inside(space):
                run("ip", "addr", "add", f"10.77.{net}.{n}/30", "dev", device)
                run("ip", "link", "set", device, "up")

    def delay(self, ms):
        if self.netem:
            for space in (here, there):
                with inside(space):
                    run("tc", "qdisc", "replace", "dev", "near", "root", "netem", "delay", f"{ms / 2}ms", "limit", "100000")
            return
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        self.address = "10.77.1.2"
        run("ip", "link", "set", "near", "up" if ms == 0 else "down")
        if ms == 0:
            return
        device, log = f"far{ms}", f"{work}/delay.log"
        self.process = start(f"{args.tools}/delay", str(there.pid), device, str(ms), log=log)
        wait_for(lambda: "ready" in open(log).read(), self.process, log)
        self.addresses(device, 1 + ms)
        self.address = f"10.77.{1 + ms}.2"
        run("ip", "route", "replace", FAR, "via", self.address)

    def how(self, ms):
        return "" if ms == 0 else " (netem)" if self.netem else " (tests/bench/delay; this kernel has no netem)"

def wait_for(condition, process, log, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"{process.args[0]} ended: {open(log).read()[-300:]}"
        assert time.monotonic() < deadline, f"{process.args[0]} does not become ready"
        time.sleep(.05)

def listens(space, port):
    with inside(space):
        s = socket.socket()  # a socket stays in the namespace that it was made in
    with s:
        s.settimeout(1)
        return s.connect_ex(("127.0.0.1", port)) == 0

### Daemons and servers

class Node:
    def __init__(self, kind, name, space, host):
        self.kind, self.name, self.space, self.dir = kind, name, space, f"{work}/{kind}-{name}"
        self.log = f"{self.dir}.log"
        with inside(space):
            self.process = (self.kubo if kind == "kubo" else self.js)(host)
        wait_for(lambda: listens(space, API), self.process, self.log)
        if kind == "js-ipfs":
            wait_for(lambda: "READY" in open(self.log).read(), self.process, self.log)
        self.id = json.loads(self.ask("id"))["ID"]

    def js(self, host):
        return start("node", f"{HERE}/../e2e/jsipfs.mjs", f"{args.ipfs}/node_modules", self.dir, str(API), str(SWARM), host,
                     log=self.log)

    def kubo(self, host):
        env = self.env = {**os.environ, "IPFS_PATH": self.dir}
        ipfs = lambda *argv: run(f"{args.ipfs}/ipfs", *argv, env=env)
        ipfs("init", "--empty-repo", "--profile=test")
        ipfs("bootstrap", "rm", "--all")
        for key, value in (("Addresses.API", f"/ip4/{host}/tcp/{API}"), ("Addresses.Gateway", [f"/ip4/{h}/tcp/{GATEWAY}" for h in {host, NEAR if host != "0.0.0.0" else host}]),
                           ("Gateway.PublicGateways", {f"{h}:{GATEWAY}": {"Paths": ["/ipfs"], "DeserializedResponses": False} for h in (NEAR, FAR)}), ("Routing.Type", "none"),
                           ("Addresses.Swarm", [f"/ip4/{host}/tcp/{SWARM}"]), ("Discovery.MDNS.Enabled", False)):
            ipfs("config", "--json", key, json.dumps(value))
        return start(f"{args.ipfs}/ipfs", "daemon", log=self.log, env=env)

    def ask(self, command, body=None, check=True):
        with inside(self.space):
            c = http.client.HTTPConnection("127.0.0.1", API, timeout=120)
            c.connect()
        headers = {"Content-Length": "0"}
        if body is not None:
            body = (b"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n"
                    b"Content-Type: application/octet-stream\r\n\r\n" + body + b"\r\n--x--\r\n")
            headers = {"Content-Type": "multipart/form-data; boundary=x"}
        c.request("POST", f"/api/v0/{command}", body, headers)
        reply = c.getresponse()
        data = reply.read()
        c.close()
        assert not check or reply.status == 200, f"{self.kind} {self.name}: {command[:60]}: {reply.status} {data[:200]!r}"
        return data

    def connect(self, other, address):
        self.ask(f"swarm/connect?arg=/ip4/{address}/tcp/{SWARM}/p2p/{other.id}")

    def stop(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def load(self, c):
        with open(c.car, "rb") as f:
            self.ask("dag/import?pin-roots=false", f.read())

    def add(self, c, chunk=262144):
        """The same bytes as a file of IPFS's own, for `cat'; 256 KiB is what its blocks have by default"""
        with open(c.file, "rb") as f:
            lines = self.ask(f"add?pin=false&cid-version=1&raw-leaves=true&progress=false&chunker=size-{chunk}", f.read())
        c.unixfs[chunk] = json.loads(lines.splitlines()[-1])["Hash"]

def web_servers():
    """[(name, port)]: nginx where it is installed, and our own"""
    servers = []
    with inside(there):
        if shutil.which("nginx"):
            with open(f"{work}/nginx.conf", "w") as f:
                f.write(f"""user root; worker_processes 1; daemon off; pid {work}/nginx.pid; error_log stderr;
events {{ }}
http {{ access_log off; sendfile on; keepalive_requests 1000000; default_type application/octet-stream;
  client_body_temp_path {work}/t1; proxy_temp_path {work}/t2; fastcgi_temp_path {work}/t3; uwsgi_temp_path {work}/t4;
  scgi_temp_path {work}/t5; server {{ listen {NGINX}; root {work}/www; }} }}
""")
            p = start("nginx", "-e", "stderr", "-c", f"{work}/nginx.conf", log=f"{work}/nginx.log")
            servers.append(("nginx", NGINX, p, f"{work}/nginx.log"))
        p = start(args.eris, "serve", "--store", f"{work}/www", "--listen", f"0.0.0.0:{ERIS}", "--allow-remote",
                  log=f"{work}/serve.log")
        servers.append(("narlock-eris serve", ERIS, p, f"{work}/serve.log"))
    for _, port, p, log in servers:
        wait_for(lambda: listens(there, port), p, log)
    return [(name, port) for name, port, _, _ in servers]

class Content:
    """A nar that is nowhere yet: its bytes, its blocks and its names"""
    def __init__(self, name, mib, store=False):
        self.name, self.file, self.car = name, f"{work}/www/{name}.nar", f"{work}/{name}.car"
        data = random.Random(name).randbytes(mib << 20)
        with open(self.file, "wb") as f:
            f.write(data)
        self.size, self.hash, self.unixfs = len(data), hashlib.sha256(data).digest(), {}
        names = dict(l.split(": ") for l in run(args.eris, "car", "--output", self.car, self.file).splitlines())
        self.urn, self.manifest = names["ERIS"], names["ERIS-Manifest"]
        self.refs = [l.split()[0] for l in run(args.eris, "blocks", self.file).splitlines()]
        if store:
            run(args.eris, "encode", "--store", f"{work}/www", self.file)

### Ways: each gives (bytes, seconds, connections or None)

def curl(space, url, post=False, limit=PER_BULK, output="/dev/null"):
    with inside(space):
        p = subprocess.run(["curl", "-s", "--noproxy", "*", "-A", "narlock-bench", *(["-X", "POST"] if post else []),
                            "--max-time", str(limit), "-o", output, "-w", "%{size_download} %{time_total} %{http_code}", url],
                           stdout=subprocess.PIPE, text=True)
    size, seconds, status = p.stdout.split()
    assert status == "200" and int(size) > 0, f"{url}: status {status}, {size} bytes, curl {p.returncode}"
    assert p.returncode in (0, 28), f"{url}: curl {p.returncode}"
    return int(size), float(seconds), 1

def get_blocks(space, base, refs, *options, limit=PER_BULK, n2r=False):
    kind = [f"{base}/uri-res/N2R?urn:blake2b:", ""] if n2r else ["--post", "--cid", f"{base}/api/v0/block/get?arg=", ""]
    with inside(space):
        out = run(f"{args.tools}/getblocks", *options, "--seconds", str(limit), *kind, input="\n".join(refs) + "\n")
    seconds, blocks, size, connections = out.split()
    assert int(blocks) > 0, f"not one block in {limit} s"
    return int(size), float(seconds), int(connections)

def command(space, node, *argv, limit=PER_BULK):
    """The ipfs program itself, of Kubo only"""
    with inside(space):
        begin, size = time.monotonic(), 0
        p = subprocess.Popen(["timeout", str(limit), f"{args.ipfs}/ipfs", *argv], env=node.env, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL)
        while piece := p.stdout.read(1 << 18):
            size += len(piece)
        took = time.monotonic() - begin
    assert p.wait() in (0, 124) and size > 0, f"ipfs {argv[0]}: status {p.returncode}, {size} bytes"
    return size, took, None

def narlock(space, content, options=(), eris=True, manifest=False, server=DEAD):
    """One nar by the real fetcher, whole and right"""
    with inside(space):
        h = Helper(f"{args.bin}/fetch")
    try:
        h.sealed()
        h.settings(stall=5000, connect=5000)  # as narlock.conf has them
        h.server(0, server)
        for key, value in options:
            h.option(key, value)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        begin = time.monotonic()
        h.candidate(7, 0, 0, content.size, "none", f"{content.name}.nar", content.urn if eris else "",
                    content.manifest if manifest else "")
        h.order(7, content.size, content.size, theirs.fileno())
        theirs.close()
        got, end, eof = 0, None, False
        while end is None or not eof:
            left = begin + PER_NAR - time.monotonic()
            assert left > 0, f"not complete after {PER_NAR} s: {got} bytes; log {h.log[-3:]}"
            ready = select.select([h.control] + ([] if eof else [ours]), [], [], left)[0]
            if ours in ready:
                n = ours.recv_into(room[got:], min(1 << 20, len(room) - got))
                eof = n == 0
                got += n
            if h.control in ready:
                m = h.recv()
                end = m if m["t"] == "NAREND" else end
        took = time.monotonic() - begin
        ours.close()
        assert end["status"] == DONE, f"{end['reason']}; log {h.log[-3:]}"
        assert hashlib.sha256(room[:got]).digest() == content.hash, "another nar"
        return content.size, took, None
    finally:
        h.kill()

### End to end

class Item:
    """A store item of the test bed as content: what is served is its zstd nar"""
    def __init__(self, name):
        paths = dict(line.split() for line in open("/bed/state/items.txt"))
        self.name, self.path, self.unixfs = name, paths[name], {}
        self.hash, www = os.path.basename(self.path)[:32], "/bed/www/zstd"
        with open(f"{www}/{self.hash}.narinfo") as f:
            info = f.read()
        self.file = f"{www}/" + re.search(r"^URL: (.*)$", info, re.M)[1]
        self.size, self.car = os.path.getsize(self.file), f"{work}/{name}.car"
        lines = run(args.eris, "car", "--narinfo", f"{www}/{self.hash}.narinfo", "--output", self.car, self.file)
        self.manifest = re.search(r"^ERIS-Manifest: (.*)$", lines, re.M)[1]
        eris = "".join(l + "\n" for l in lines.splitlines() if l.startswith("ERIS:"))
        for way, text in (("plain", info), ("blocks", info + eris), ("manifest", info + lines)):
            top = f"{work}/www/item-{way}"
            os.makedirs(top, exist_ok=True)
            for file, data in (("nix-cache-info", "StoreDir: /gnu/store\n"), (f"{self.hash}.narinfo", text)):
                with open(f"{top}/{file}", "w") as f:
                    f.write(data)
        if not os.path.lexists(nar := f"{work}/www/item-plain/nar"):
            os.symlink(f"{www}/nar", nar)  # to the others the nar is not there: blocks or nothing

def whole(space, item, url, options):
    """The item in the store, from the start of the substituter to its reply"""
    with open("/etc/narlock/narlock.conf", "w") as f:
        f.write("".join(f"{key} = {value}\n" for key, value in options))
    programs.forget()
    programs.remove(item.path)
    with inside(space):
        agent = programs.Agent(args.agent, "--substitute", programs.options(url, True), timeout=PER_NAR)
    try:
        reply = agent.substitute(item.path)
        took = time.monotonic() - agent.start
        assert reply.startswith("success "), f"{reply}; {agent.tail()}"
        agent.finish()
        return item.size, took, None
    except BaseException:
        agent.kill()
        raise
    finally:
        programs.remove(item.path)

def unpacked(space, item, how):
    """The same work by programs in a pipe: fetched, decompressed, hashed and unpacked, beside the store"""
    into = "/gnu/bench-item"
    try:
        with inside(space):
            begin = time.monotonic()
            run("bash", "-c", f"set -o pipefail; {how} | zstd -dc | tee >(sha256sum >/dev/null) | nix-store --restore {into}")
            return item.size, time.monotonic() - begin, None
    finally:
        programs.remove(into)

def whole_rows(node, ms, item, servers):
    space, host = (there, "127.0.0.1") if ms == 0 else (here, link.address)
    web, api = f"http://{host}:{servers[0][1]}", f"http://{host}:{API}"
    nar = f"{web}/item-plain/nar/zstd/{os.path.basename(item.path)}"
    runs, tools = args.runs if ms == 0 else 1, ", zstd, sha256sum, nix-store --restore"
    add = lambda way, job: row("end to end", ms, way, runs, job)
    add("plain HTTP, narlock", lambda: whole(space, item, f"{web}/item-plain", [("ipfs", "")]))
    add(f"plain HTTP, curl{tools}", lambda: unpacked(space, item, f"curl -sf --noproxy '*' {nar}"))
    if node.kind == "kubo":
        cat = f"IPFS_PATH={node.dir} timeout {PER_BULK} {args.ipfs}/ipfs --api=/ip4/{host}/tcp/{API} cat"
        for chunk, cid in item.unixfs.items():
            add(f"ipfs cat, blocks of {chunk >> 10} KiB{tools}", lambda: unpacked(space, item, f"{cat} {cid}"))
    ipfs, blocks, manifest = ("ipfs", api), f"{web}/item-blocks", f"{web}/item-manifest"
    add("narlock, many in flight", lambda: whole(space, item, blocks, [ipfs]))
    add(stream(node.kind), lambda: whole(space, item, manifest, [ipfs]))
    if node.kind == "kubo":
        for way, options in gateways(ms, host):
            add(f"narlock, {way}", lambda: whole(space, item, manifest, options))
        add("narlock, file stream, API and gateway",
            lambda: whole(space, item, manifest, [ipfs, ("ipfs-gateway", f"http://{host}:{GATEWAY}")]))

### Rows

def out_of_time():
    return time.monotonic() > deadline

def row(where, ms, way, runs, *jobs):
    """Each of JOBS in turn; prints and keeps the median rate"""
    label = f"{where} {ms} {way}"
    if args.only and not any(o in label for o in args.only):
        return
    rates, note, connections = [], "", None
    for job in [j for j in jobs for _ in range(runs)]:
        if out_of_time():
            note = note or "left out: no time"
            break
        try:
            size, seconds, connections = job()
            rates.append((size / seconds, size, seconds))
        except (AssertionError, OSError, ValueError, subprocess.SubprocessError, Gone) as e:
            note = f"failed: {' '.join(str(e).split())[:240]}"
            if "narlock" in way:  # what others cannot do is told in their rows
                failures.append(f"{label}: {note}")
            break
    if not rates:
        print(f"| {where} | {ms} ms | {way} | 0 | | | | | | | {note} |", flush=True)
        return
    rate = statistics.median(r[0] for r in rates)
    results[where, ms, way] = rate
    ratio = lambda other: f"{rate / other:.2f}" if (other := best(where, ms, other)) else ""
    print(f"| {where} | {ms} ms | {way} | {len(rates)} | {rates[-1][1] / 1e6:.1f} MB in {rates[-1][2]:.2f} s "
          f"| {rate / 1e6:.1f} | {'' if connections is None else connections} "
          f"| {ratio('plain HTTP')} | {ratio('sequential')} | {ratio('ipfs')} | {note} |", flush=True)

def best(where, ms, *begins):
    found = [r for (w, m, way), r in results.items() if (w, m) == (where, ms) and way.startswith(begins)]
    return max(found, default=None)

def table_head(kind):
    print(f"\n| {kind} | delay | way | runs | last run | MB/s | connections | to plain HTTP | to sequential | to ipfs | |")
    print("|---" * 11 + "|")

def bulk_rows(kind, node, where, ms, space, api, cat, export, runs):
    """The daemon's own commands: the program of Kubo, js-ipfs by its RPC"""
    to = f"--api=/ip4/{api[7:].split(':')[0]}/tcp/{API}"
    how = " (the program)" if kind == "kubo" else ""
    for chunk, cid in cat.unixfs.items():
        row(where, ms, f"ipfs cat, blocks of {chunk >> 10} KiB{how}", runs, (lambda: command(space, node, to, "cat", cid))
            if kind == "kubo" else lambda: curl(space, f"{api}/api/v0/cat?arg={cid}", True, limit=PER_CAT))
    row(where, ms, f"ipfs dag export, the same blocks{how}", runs,
        (lambda: command(space, node, to, "dag", "export", "--progress=false", export.manifest)) if kind == "kubo" else
        lambda: curl(space, f"{api}/api/v0/dag/export?arg={export.manifest}", True, limit=PER_BULK if where == "local" else PER_WAY))

def local_rows(kind, b, servers, ms, c):
    space, host = (there, "127.0.0.1") if ms == 0 else (here, link.address)
    api, runs = f"http://{host}:{API}", args.runs if ms == 0 else 1
    ipfs, none = ("ipfs", api), ("ipfs", "")
    for name, port in servers:
        row("local", ms, f"plain HTTP, curl, {name}", runs, lambda: curl(space, f"http://{host}:{port}/{c.name}.nar"))
    web = f"http://{host}:{servers[0][1]}"
    row("local", ms, "plain HTTP, narlock", runs, lambda: narlock(space, c, [none], eris=False, server=web))
    row("local", ms, "sequential", 1, lambda: get_blocks(space, api, c.refs, limit=PER_WAY))
    row("local", ms, "one connection per block", 1, lambda: get_blocks(space, api, c.refs, "--fresh", limit=PER_WAY))
    for n in (64, 256):
        row("local", ms, f"{n} in flight", runs, lambda: get_blocks(space, api, c.refs, "--flight", str(n)))
    bulk_rows(kind, b, "local", ms, space, api, c, c, runs)
    row("local", ms, "narlock, many in flight", runs, lambda: narlock(space, c, [ipfs]))
    row("local", ms, stream(kind), runs, lambda: narlock(space, c, [ipfs], manifest=True))
    if kind == "kubo":
        for way, options in gateways(ms, host):
            row("local", ms, f"narlock, {way}", runs, lambda: narlock(space, c, options, manifest=True))

def stream(kind):
    """What the fetcher asks such a daemon for where it knows the manifest"""
    return "narlock, file stream" if kind == "kubo" else "narlock, CAR"

def gateways(ms, host):
    """[(way, options)]: the whole nar from a gateway"""
    return [("file stream of the gateway", [("ipfs", ""), ("ipfs-gateway", f"http://{host}:{GATEWAY}")]),
            ("CAR of the gateway", [("ipfs", ""), ("ipfs-gateway", f"http://{NEAR if ms == 0 else FAR}:{GATEWAY}")])]

def serve_rows(ms, c, servers):
    """No IPFS: our own block server is fast, what shows is the client's ceiling"""
    space, host = (there, "127.0.0.1") if ms == 0 else (here, link.address)
    base, runs, none = f"http://{host}:{ERIS}", args.runs if ms == 0 else 1, ("ipfs", "")
    add = lambda way, runs, job: row("block server", ms, way, runs, job)
    add("plain HTTP, curl, narlock-eris serve", runs, lambda: curl(space, f"{base}/{c.name}.nar"))
    add("plain HTTP, narlock", runs, lambda: narlock(space, c, [none], eris=False, server=base))
    add("sequential", 1, lambda: get_blocks(space, base, c.refs, limit=PER_WAY, n2r=True))
    add("one connection per block", 1, lambda: get_blocks(space, base, c.refs, "--fresh", limit=PER_WAY, n2r=True))
    for n in (64, EACH):
        add(f"{n} in flight", runs, lambda: get_blocks(space, base, c.refs, "--flight", str(n), n2r=True))
    add("narlock, many in flight", runs, lambda: narlock(space, c, [none, ("block-server", base)]))

def remote_rows(kind, a, b, servers, ms):
    """Everything can be fetched once only: then A has it.  So each way has its own nar"""
    nars = []
    for way in ("sequential", "fresh", "64", "256", "cat", "export", "many", "file", "car"):
        c = Content(f"{kind}-remote-{ms}-{way}", args.remote_mib)
        if way == "cat":
            b.add(c)
            b.add(c, 32768)
        else:
            b.load(c)
        nars.append(c)
    one, fresh, few, many, cat, export, flight, file, car = nars
    api, ipfs = f"http://127.0.0.1:{API}", ("ipfs", f"http://127.0.0.1:{API}")
    name, port = servers[0]
    row("remote", ms, f"plain HTTP, curl, {name}", 1, lambda: curl(here, f"http://{link.address}:{port}/{one.name}.nar"))
    row("remote", ms, "sequential", 1, lambda: get_blocks(here, api, one.refs, limit=PER_WAY))
    row("remote", ms, "one connection per block", 1, lambda: get_blocks(here, api, fresh.refs, "--fresh", limit=PER_WAY))
    row("remote", ms, "64 in flight", 1, lambda: get_blocks(here, api, few.refs, "--flight", "64"))
    row("remote", ms, "256 in flight", 1, lambda: get_blocks(here, api, many.refs, "--flight", "256"))
    row("remote", ms, "narlock, many in flight", 1, lambda: narlock(here, flight, [ipfs]))
    row("remote", ms, stream(kind), 1, lambda: narlock(here, file, [ipfs], manifest=True))
    if kind == "kubo":
        row("remote", ms, "narlock, CAR of the gateway", 1,
            lambda: narlock(here, car, [("ipfs", ""), ("ipfs-gateway", f"http://{NEAR}:{GATEWAY}")], manifest=True))
    bulk_rows(kind, a, "remote", ms, here, api, cat, export, 1)
    for c in nars:
        os.unlink(c.car)

def aim_of(where, way):
    """What narlock's rate shall be, to that of another way.  Where whole items are measured, those count against plain
    HTTP and the ipfs program; what the fetcher alone does is shown beside it"""
    if where == "remote" and way == "sequential":
        return 10
    if where == "end to end" or not args.agent or where == "remote":
        if way.startswith("ipfs"):
            return 1
        if way.startswith("plain HTTP") and where != "remote":
            return .8
    return None

def aims(kind):
    """What narlock is measured against: the best of its ways, with what else brought the same bytes in this run"""
    print(f"\n| {kind}: where | delay | narlock, the best of its ways, to | ratio | aim |\n|---|---|---|---|---|")
    for where, ms in dict.fromkeys((w, m) for w, m, _ in results):
        ours = best(where, ms, "narlock")
        if ours is None:
            continue
        for way, rate in [(way, r) for (w, m, way), r in results.items() if (w, m) == (where, ms)]:
            aim = aim_of(where, way)
            if aim is not None:
                verdict = "met" if ours / rate >= aim else "missed"
                print(f"| {where} | {ms} ms | {way} | {ours / rate:.2f} | >= {aim} {verdict} |")
            elif way.startswith(("plain HTTP", "ipfs")):
                print(f"| {where} | {ms} ms | {way} | {ours / rate:.2f} | |")
        plain = best(where, ms, "64", "256", f"{EACH}")
        if plain:
            print(f"| {where} | {ms} ms | many in flight, a client that only hashes | {ours / plain:.2f} | |")
        http, ipfs = best(where, ms, "plain HTTP"), best(where, ms, "ipfs dag", "64", "256")
        if where == "local" and http and ipfs and ipfs < .8 * http:
            print(f"| local | {ms} ms | (at its best the daemon gives these blocks at {ipfs / http:.2f} of plain HTTP) | | |")
    results.clear()

def warm(node, space, c):
    """The first thousand requests of js-ipfs are slow"""
    node.load(c)
    for _ in range(3):
        get_blocks(space, f"http://127.0.0.1:{API}", c.refs, "--flight", "16")

def bench(kind):
    b, w = Node(kind, "b", there, "0.0.0.0"), Content(f"{kind}-warm", 8)
    warm(b, there, w)
    c = Content(f"{kind}-local", args.mib, store=True)
    item = Item(ITEM) if args.agent else None
    for x in (c, item) if item else (c,):
        b.load(x)
        b.add(x)
        b.add(x, 32768)
    version = json.loads(b.ask("version"))["Version"]
    for ms in DELAYS:
        link.delay(ms)
        table_head(f"{kind} {version}{link.how(ms)}")
        local_rows(kind, b, servers, ms, c)
        a = Node(kind, "a", here, "127.0.0.1")  # a new one, which knows no other way to B
        warm(a, here, w)
        a.connect(b, link.address)
        remote_rows(kind, a, b, servers, ms)
        a.stop()
        if item is not None:
            whole_rows(b, ms, item, servers)
    b.stop()

def arguments():
    p = argparse.ArgumentParser(usage=__doc__)
    for name in ("bin", "tools", "eris", "ipfs"):
        p.add_argument(f"--{name}", required=True)
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--mib", type=int, default=32)
    p.add_argument("--remote-mib", type=int, default=8)
    p.add_argument("--serve-mib", type=int, default=128)
    p.add_argument("--seconds", type=int, default=480)
    p.add_argument("--only", action="append", default=[])
    p.add_argument("--no-codec", action="store_true")
    p.add_argument("--agent")
    return p.parse_args()

def main():
    global args, work, here, there, link, servers, deadline, room, programs
    args = arguments()
    if args.agent:
        import bench as programs  # only the bed has what it needs
    deadline = time.monotonic() + args.seconds
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    here = Space(os.getpid())
    work = tempfile.mkdtemp(prefix="narlock-bench.", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    os.chmod(work, 0o755)
    os.mkdir(f"{work}/www")
    # Where nars arrive: pages that are there already, so that what is measured is not the making of them.
    room = memoryview(bytearray(os.urandom(1 << 20)) * (max(args.mib, args.remote_mib, args.serve_mib) + 1))
    try:
        if not args.no_codec:
            print(run(f"{args.tools}/codec"), flush=True)
        there = second_space()
        link = Link()
        servers = web_servers()
        c = Content("serve", args.serve_mib, store=True)
        table_head("no IPFS" + link.how(DELAYS[-1]))
        for ms in DELAYS:
            link.delay(ms)
            serve_rows(ms, c, servers)
        aims("no IPFS")
        kinds = {"kubo": "ipfs", "js-ipfs": "node_modules"}
        for kind, what in kinds.items():
            if os.path.exists(f"{args.ipfs}/{what}") and (kind == "kubo" or shutil.which("node")):
                try:
                    bench(kind)
                except AssertionError as e:
                    failures.append(f"{kind}: {e}")
                aims(kind)
                continue
            why = f"{args.ipfs}/why-{kind}"
            print(f"SKIP {kind}: {open(why).read().strip() if os.path.exists(why) else f'no {what} in {args.ipfs}'}", flush=True)
    finally:
        for p in started:
            if p.poll() is None:
                p.kill()
        shutil.rmtree(work, ignore_errors=True)
    for text in failures:
        print(f"FAILED {text}")
    if out_of_time():
        print(f"left out: what did not fit into {args.seconds} seconds")
    return 1 if failures else 0

if __name__ == "__main__":
    sys.exit(main())
