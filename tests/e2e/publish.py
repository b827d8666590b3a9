#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests: narlock-publish in front of a real `guix publish --cache', end to end; runs inside the client view of the test bed
(`run' starts it).   publish.py [--only WORD]... [--list]
The publisher has the cache directory that guix publish has baked; clients know nothing but the publisher.  The cases with
IPFS: the publisher pushes into B, the client asks A, blocks come from B to A by bitswap."""
import base64, hashlib, http.client, json, os, re, shutil, signal, subprocess, sys, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
import blocks, browser
from blocks import KUBO, WORK, Answers, Node, Pair, audit_mark, audit_of, clean, configure, counts, fetch, free_port, heal, wait_listening
from cases import ITEMS, PUBLISH, SEED, daemon, run
from agent import Report, Skip

PUBLISHER = "/usr/bin/narlock-publish"
CACHE = "/bed/cache/zstd"
STATE = f"{WORK}/state"

def get(url, method="GET", **headers):
    """(status, headers, body)"""
    host, path = re.fullmatch(r"http://([^/]+)(.*)", url).groups()
    c = http.client.HTTPConnection(host, timeout=60)
    c.request(method, path, headers={**headers, **({"Content-Length": "0"} if method == "POST" else {})})
    r = c.getresponse()
    body = r.read()
    c.close()
    return r.status, r.headers, body

### The publisher

def command(*more, ipfs=(), cache=CACHE, state=STATE):
    """Names stand before the options"""
    names = more[1:] if more[0] == "push" and not any(m.startswith("--") for m in more) else []
    return [PUBLISHER, more[0], *names, "--config", "none", *(["--cache", cache] if cache else []), "--state", state, "--user", "nobody",
            *[x for a in ipfs for x in ("--ipfs", a)], *(more[1:] if not names else [])]

class Publisher:
    """`narlock-publish serve' with its access log"""
    def __init__(self, *more, ipfs=(), **where):
        self.port = free_port()
        self.url, self.log = f"http://127.0.0.1:{self.port}", f"{WORK}/publish.log"
        self.out = open(self.log, "w")
        argv = command("serve", "--listen", f"127.0.0.1:{self.port}", "--access-log", "yes", *more, ipfs=ipfs, **where)
        self.process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=self.out)
        wait_listening(self.port, self.process)

    def metric(self, name):
        text = get(f"{self.url}/metrics")[2].decode()
        return int(re.search(rf"^narlock_publish_{name} (\d+)$", text, re.M)[1])

    def asked(self, what):
        with open(self.log) as f:
            return [l for l in f if what in l]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            assert self.process.wait(40) == 0, f"it ended with {self.process.returncode}: {open(self.log).read()[-300:]!r}"
        finally:
            self.process.kill()
            self.out.close()

def hash_of(name):
    return os.path.basename(ITEMS[name])[:32]

class Item:
    """What the publisher says of an item, for the functions of blocks.py"""
    def __init__(self, publisher, name):
        self.name, self.path = name, ITEMS[name]
        self.text = get(f"{publisher.url}/{hash_of(name)}.narinfo")[2].decode()
        self.lines = dict(l.split(": ", 1) for l in self.text.splitlines() if l.startswith("ERIS"))
        self.file = f"{CACHE}/zstd/{os.path.basename(self.path)}.nar"
        rows = [l.split() for l in run("narlock-eris", "blocks", self.file).stdout.splitlines()]
        self.blocks = list({r[0]: int(r[1]) for r in rows}.items())
        self.leaves = [r for r, level in self.blocks if level == 0]

### Cases without IPFS

def index():
    """Built once, found sound, and nothing is read a second time"""
    start = time.monotonic()
    out = run(*command("index")).stdout
    took = time.monotonic() - start
    again = time.monotonic()
    run(*command("index"))
    again = time.monotonic() - again
    run(*command("verify", "--sample", "20"))
    status = " ".join(run(*command("status")).stdout.split())
    size = sum(os.path.getsize(f"{STATE}/{n}") for n in os.listdir(STATE) if n.startswith("index.sqlite"))
    nars = sum(e.stat().st_size for e in os.scandir(f"{CACHE}/zstd") if e.name.endswith(".nar"))
    assert again < max(2, took), f"{took:.1f} s, and {again:.1f} s again"
    return f"{took:.1f} s, again {again:.1f} s; {status}; {size} of {nars} bytes: {100 * size / nars:.2f} %"

def added_lines():
    """What guix publish has signed is there byte for byte; what was added is what the codec says of the baked file"""
    names = ("small", "tree", "elf", "edge", "refs")
    with Publisher() as p:
        for name in names:
            real = get(f"{PUBLISH['zstd']}/{hash_of(name)}.narinfo")[2].decode()
            item = Item(p, name)
            assert "ERIS" not in real and "".join(l for l in item.text.splitlines(True) if not l.startswith("ERIS")) == real, name
            with open(f"{WORK}/narinfo", "w") as f:
                f.write(real)
            said = run("narlock-eris", "car", "--narinfo", f"{WORK}/narinfo", "--output", f"{WORK}/car", item.file).stdout
            assert dict(l.split(": ") for l in said.splitlines()) == item.lines, f"{name}: {said!r} {item.lines}"
            by = get(p.url + "/" + re.search(r"^URL: (.*)$", item.text, re.M)[1])
            assert by[0] == 200 and by[2] == open(item.file, "rb").read(), name
    return f"{len(names)} items"

def stock():
    """The daemon's own substituter, which knows nothing of blocks"""
    daemon("GUIX=/usr/bin/guix")
    with Publisher() as p:
        for name in ("small", "tree", "edge", "refs", "elf"):
            fetch(p.url, name)
        nars, asked = p.metric("nars_total"), p.metric("blocks_total")
        assert nars >= 5 and asked == 0, f"{nars} nars, {asked} blocks"
    return f"{nars} nars"

def baked_now():
    """An item that nobody has asked for: guix publish bakes it, the index takes it up, blocks are there"""
    name = next((n for n in sorted(ITEMS) if n.startswith("tiny-") and not
                 os.path.exists(f"{CACHE}/zstd/{os.path.basename(ITEMS[n])}.narinfo")), None)
    if name is None:
        raise Skip("everything is baked already")
    with Publisher("--upstream", PUBLISH["zstd"]) as p:
        start = time.monotonic()
        while b"\nERIS: " not in (got := get(f"{p.url}/{hash_of(name)}.narinfo"))[2]:
            assert time.monotonic() < start + 60, f"no blocks: {got[0]} {got[2][:300]!r}; {open(p.log).read()[-300:]!r}"
            time.sleep(.1)
        took = time.monotonic() - start
        configure("ipfs =", f"block-server = {p.url}")
        daemon()
        fetch(p.url, name)
    return f"{name}: {took:.1f} s until its blocks could be had"

def url_only():
    """No directory, only the URL of guix publish: the nar comes as it is asked for, stock and narlock install it, then by blocks"""
    state = f"{WORK}/url-state"
    with Publisher("--upstream", PUBLISH["zstd"], cache=None, state=state) as p:
        configure("ipfs =")
        daemon("GUIX=/usr/bin/guix")
        took, _ = fetch(p.url, "tree")
        start = time.monotonic()
        while not (item := Item(p, "tree")).lines:
            assert time.monotonic() < start + 30, open(p.log).read()[-300:]
            time.sleep(.1)
        real = get(f"{PUBLISH['zstd']}/{hash_of('tree')}.narinfo")[2].decode()
        assert "".join(l for l in item.text.splitlines(True) if not l.startswith("ERIS")) == real
        kept = f"{state}/nars/zstd/{os.path.basename(item.path)}.nar"
        assert open(kept, "rb").read() == open(item.file, "rb").read()
        def answer(method, path):
            return (404, b"") if path.startswith("/nar/") else get(p.url + path, method)[::2]
        configure("ipfs =", f"block-server = {p.url}", "block-timeout = 30")
        daemon()
        with Answers(answer) as mirror:
            again, _ = fetch(mirror.url, "tree")
        served = p.metric("blocks_total")
    assert served >= len(item.blocks), f"{served} of {len(item.blocks)} blocks"
    return f"{took:.1f} s, by blocks {again:.1f} s"

def blocks_only():
    """No IPFS, and a mirror that has narinfos only: all blocks are encoded on demand, the nar is never read from the server.
    (From the server itself a block that is late may come as a Range of the nar, too: the second fetch of each item.)"""
    notes = []
    for name in ("small", "tree", "elf"):
        with Publisher() as p:
            item = Item(p, name)
            def answer(method, path):
                return (404, b"") if path.startswith("/nar/") else get(p.url + path, method)[::2]
            configure("ipfs =", f"block-server = {p.url}", "block-timeout = 30")
            daemon()
            with Answers(answer) as mirror:
                took, _ = fetch(mirror.url, name)
            served, nars = p.metric("blocks_total"), p.metric("nars_total")
            notes.append(f"{name}: {served} blocks, {took:.1f} s")
            assert served >= len(item.blocks) and nars == 0 and not p.asked(" /nar/"), f"{notes[-1]}; {nars} nars"
            daemon()
            mark = audit_mark()
            fetch(p.url, name)
            served = p.metric("blocks_total") - served
            notes[-1] += f" (and{counts(audit_of(mark, item.path))[1:]})"
            assert served >= len(item.blocks) * .9, notes[-1]
    return ", ".join(notes)

def every_block():
    """Each block of an item is what its reference says, by the codec's own list; unknown ones are 404"""
    with Publisher() as p:
        item = Item(p, "tree")
        c = http.client.HTTPConnection("127.0.0.1", p.port, timeout=60)
        for r, _ in item.blocks:
            c.request("GET", f"/uri-res/N2R?urn:blake2b:{r}")
            reply = c.getresponse()
            data = reply.read()
            name = base64.b32encode(hashlib.blake2b(data, digest_size=32).digest()).decode().rstrip("=")
            assert reply.status == 200 and len(data) == 32768 and name == r, f"{r}: {reply.status}, {len(data)} bytes"
        c.request("GET", "/uri-res/N2R?urn:blake2b:" + "A" * 52)
        assert c.getresponse().status == 404
        c.close()
    return f"{len(item.blocks)} blocks"

PAIR = None

def page():
    """The status page in a browser, on a phone and on a desk: all is on it, and nothing is wider than the screen"""
    if not os.path.exists(browser.PROGRAM):
        raise Skip("no Chromium: bed browser")
    notes = []
    with Publisher(ipfs=[api(PAIR.b)] if PAIR else []) as p, browser.Browser() as b:
        item = Item(p, "tree")
        for r, _ in item.blocks:
            assert get(f"{p.url}/uri-res/N2R?urn:blake2b:{r}")[0] == 200
        if PAIR:
            get(f"{p.url}/publish-this-nar-again-into-IPFS/{os.path.basename(item.path)}", "POST")
            time.sleep(2)
        for what, width, height in (("phone", 390, 844), ("desktop", 1280, 800), ("readme", 1000, 520)):
            wide, text, png = b.show(p.url + "/", width, height)
            with open(f"/bed/state/status-page-{what}.png", "wb") as f:
                f.write(png)
            rows = browser.different_rows(png)
            notes.append(f"{what}: page {wide} of {width}, {rows} rows differ, {len(png)} bytes")
            assert browser.size(png) == (width, height) and wide <= width and rows > 100, notes[-1]
            assert all(w in text for w in ("Index", "IPFS", "Requests", "All nars are indexed")), text
            shown = re.search(r"^blocks\s+(\d+)$", text.split("Requests")[-1], re.M)
            assert shown and int(shown[1]) == len(item.blocks), text
    return ", ".join(notes)

### Cases with IPFS

def api(node):
    return f"http://127.0.0.1:{node.api_port}"

def wipe(refs):
    """From both daemons, pinned or not"""
    for n in (PAIR.a, PAIR.b):
        pins = json.loads(n.ask("pin/ls?type=recursive") or b"{}").get("Keys") or {}
        for cid in pins:
            n.ask(f"pin/rm?arg={cid}&recursive=true")
    PAIR.delete(refs)

def in_base32(cid):
    """js-ipfs writes CIDs that are neither version 0 nor a file in base58"""
    if cid[0] != "z":
        return cid
    n = 0
    for c in cid[1:]:
        n = n * 58 + "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz".index(c)
    return "b" + base64.b32encode(n.to_bytes(38, "big")).decode().lower().rstrip("=")

def pins(node):
    """CIDs of manifests: an empty Kubo has a pin of another kind"""
    rows = [json.loads(l) for l in node.ask("pin/ls?type=recursive").splitlines() if l]
    cids = {c for r in rows for c in (r.get("Keys") or {})} | {r["Cid"] for r in rows if "Cid" in r}
    return {in_base32(c) for c in cids if not c.startswith("Qm")}

def base(name):
    return os.path.basename(ITEMS[name])

def start_again(node):
    """With the repository that it has"""
    if node.kind == "kubo":
        with open(node.log, "a") as log:
            node.process = subprocess.Popen([KUBO, "daemon"], env={**os.environ, "IPFS_PATH": node.dir}, stdout=log, stderr=log)
        wait_listening(node.api_port, node.process)
    else:
        for lock in ("repo.lock", "datastore/LOCK"):  # it was killed with them
            path = f"{node.dir}/{lock}"
            shutil.rmtree(path) if os.path.isdir(path) else os.path.exists(path) and os.unlink(path)
        node.start_js()

class Own:
    """A cache and a state of its own, with some items of the real one: it may be changed"""
    def __init__(self, *names):
        self.dir, self.state = f"{WORK}/own", f"{WORK}/own-state"
        for d in (self.dir, self.state):
            shutil.rmtree(d, ignore_errors=True)
        os.makedirs(f"{self.dir}/zstd")
        for name in names:
            for end in ("nar", "narinfo"):
                shutil.copy2(f"{CACHE}/zstd/{os.path.basename(ITEMS[name])}.{end}", f"{self.dir}/zstd/")
        subprocess.run(["chmod", "-R", "a+rX", self.dir], check=True)
        self.where = {"cache": self.dir, "state": self.state}
        run(*command("index", **self.where))

    def remove(self, name):
        for end in ("narinfo", "nar"):
            os.unlink(f"{self.dir}/zstd/{os.path.basename(ITEMS[name])}.{end}")

    def push(self, *nodes, args=(), ok=True, **popen):
        p = subprocess.run(command("push", *args, ipfs=[api(n) for n in nodes], **self.where), stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, timeout=300, **popen)
        assert (p.returncode == 0) == ok, f"{p.returncode}: {p.stdout[-500:]}"
        return p.stdout

def empty_both():
    for n in (PAIR.a, PAIR.b):
        for cid in pins(n):
            n.ask(f"pin/rm?arg={cid}&recursive=true")
        n.remove({r for r in n.local() if len(r) == 52})

def ended(p, path):
    """What became of a nar that was asked for again"""
    start = time.monotonic()
    while (state := get(p.url + path)[2].strip()) in (b"queued", b"running"):
        assert time.monotonic() < start + 60, state
        time.sleep(.05)
    return state.decode()

def missing(node, item):
    have = node.local()
    return [r for r, _ in item.blocks if r not in have]

def push():
    """narlock-publish push: all blocks are in B, one pin; A gets them from there, the client from A"""
    empty_both()
    with Publisher() as p:
        item = Item(p, "tree")
        start = time.monotonic()
        out = run(*command("push", os.path.basename(item.path), ipfs=[api(PAIR.b)])).stdout
        took = time.monotonic() - start
        left = missing(PAIR.b, item)
        assert not left, f"{len(left)} of {len(item.blocks)} blocks are not there; {out[-300:]!r}"
        assert len(pins(PAIR.b)) == 1, pins(PAIR.b)
        PAIR.b.ask(f"pin/ls?type=recursive&arg={item.lines['ERIS-Manifest']}")  # 500 if it is another one
        configure(PAIR.a.conf(), "block-timeout = 15")
        daemon()
        mark = audit_mark()
        seconds, _ = fetch(p.url, "tree")
        record = audit_of(mark, item.path)
        nars, served = p.metric("nars_total"), p.metric("blocks_total")
    note = f"{len(item.blocks)} blocks in {took:.1f} s, to the client in {seconds:.1f} s{counts(record)}; {nars} ranges by HTTP"
    assert re.search(r"\bipfs \d", str(record.get("sources"))) and served == 0 and nars < len(item.blocks) * .6, note
    return note

def streamed():
    """What was pushed comes as one file, of the API or of the gateway, and next to nothing is asked for by block"""
    node, notes = Node("kubo", "streamed"), []
    try:
        with Publisher() as p:
            item = Item(p, "tree")
            run(*command("push", os.path.basename(item.path), ipfs=[api(node)]))
            gateway = f"ipfs-gateway = http://127.0.0.1:{node.gateway_port}"
            for what, lines, files in (("API", [node.conf()], (1, 0)), ("gateway", ["ipfs =", gateway], (0, 1)),
                                       ("both", [node.conf(), gateway], None)):
                configure(*lines, "block-timeout = 15")
                daemon()
                node.commands()
                before, mark = node.files(), audit_mark()
                seconds, _ = fetch(p.url, "tree")
                asked, given = node.commands(), node.files() - before
                notes.append(f"{what}: {seconds:.1f} s, {asked['cat']} cat, {given} of the gateway, "
                             f"{asked['block/get']} blocks{counts(audit_of(mark, item.path))}")
                # beside its daemon the gateway is asked first, unless the machine is so busy that it is late
                assert (asked["cat"], given) == files if files else asked["cat"] + given == 1, notes
                assert not asked["dag/export"] and asked["block/get"] < len(item.blocks) * .5, notes
            assert p.metric("blocks_total") == 0, notes
    finally:
        node.stop()
    return "; ".join(notes)

def healed():
    """Blocks that are nowhere come from the block server, and are in IPFS afterwards"""
    with Publisher() as p:
        item = Item(p, "tree")
        run(*command("push", os.path.basename(item.path), ipfs=[api(PAIR.b)]))
        gone = item.leaves[5::4]
        wipe(gone)
        assert len(missing(PAIR.a, item)) >= len(gone) and set(missing(PAIR.b, item)) >= set(gone)
        configure(PAIR.a.conf(), f"block-server = {p.url}", "block-timeout = 2")
        daemon()
        mark = audit_mark()
        took, _ = fetch(p.url, "tree")
        record = audit_of(mark, item.path)
        served, nars = p.metric("blocks_total"), p.metric("nars_total")
        heal()
        left = set(missing(PAIR.a, item)) & set(gone)
    note = f"{len(gone)} of {len(item.blocks)} blocks gone; {served} encoded, {nars} nars, {took:.1f} s{counts(record)}"
    # what is slowest is asked for twice, and may then come as a Range first
    # and what IPFS is not asked for any more, because it keeps missing blocks, is looked for while it arrives, or later
    assert served >= len(gone) * .7 and record["blocks_repaired"] >= 16 and not left, f"{note}; {len(left)} are not back"
    return note

def again_by_hand():
    """What was wiped from both daemons is there again after one POST; what is unknown is refused"""
    with Publisher(ipfs=[api(PAIR.b)]) as p:
        item = Item(p, "tree")
        run(*command("push", os.path.basename(item.path), ipfs=[api(PAIR.b)]))
        wipe([r for r, _ in item.blocks])
        assert len(missing(PAIR.b, item)) == len(missing(PAIR.a, item)) == len(item.blocks)
        url = f"{p.url}/publish-this-nar-again-into-IPFS/"
        status, headers, _ = get(url + os.path.basename(item.path), "POST")
        assert status == 202, status
        start = time.monotonic()
        while (state := get(p.url + headers["Location"])[2].strip()) != b"done":
            assert state in (b"queued", b"running") and time.monotonic() < start + 60, f"{state}: {open(p.log).read()[-300:]!r}"
            time.sleep(.1)
        took = time.monotonic() - start
        left = missing(PAIR.b, item)
        assert not left, f"{len(left)} of {len(item.blocks)} are missing still"
        assert get(url + "0" * 32 + "-unknown", "POST")[0] == 404
        assert p.metric("again_done_total") == 1
    return f"{len(item.blocks)} blocks in {took:.1f} s"

def two_daemons():
    """Pushed into both, one recursive pin a nar in each, not a second time; a nar that leaves the cache loses its pins"""
    empty_both()
    own = Own("small", "tree", "edge")
    with Publisher(**own.where) as p:
        items = {n: Item(p, n) for n in ("small", "tree", "edge")}
    cids = {n: i.lines["ERIS-Manifest"] for n, i in items.items()}
    out = own.push(PAIR.a, PAIR.b)
    for n in (PAIR.a, PAIR.b):
        assert pins(n) == set(cids.values()), (pins(n), cids, out)
        assert not any(missing(n, i) for i in items.values())
    assert "\n0 nars pushed" in "\n" + own.push(PAIR.a, PAIR.b)
    own.remove("tree")
    run(*command("index", **own.where))
    own.push(PAIR.a, PAIR.b)
    for n in (PAIR.a, PAIR.b):
        assert pins(n) == {cids["small"], cids["edge"]}, pins(n)
    # The same while the server runs, which also notices a daemon that has lost the pin.
    with Publisher("--push-all", "yes", ipfs=[api(PAIR.a), api(PAIR.b)], **own.where) as p:
        PAIR.a.ask(f"pin/rm?arg={cids['edge']}&recursive=true")
        own.remove("edge")
        start = time.monotonic()
        while pins(PAIR.a) | pins(PAIR.b) != {cids["small"]}:
            assert time.monotonic() < start + 60, (pins(PAIR.a), pins(PAIR.b))
            time.sleep(.2)
        took = time.monotonic() - start
        left = p.metric("pinned")
    return f"{len(items)} nars, {sum(len(i.blocks) for i in items.values())} blocks; unpinned after {took:.1f} s, {left} left"

def restored_in_both():
    """What was wiped from both daemons, with its pins, is in both again after one POST, pinned, and narlock gets it from there"""
    with Publisher(ipfs=[api(PAIR.a), api(PAIR.b)]) as p:
        item = Item(p, "tree")
        path = f"/publish-this-nar-again-into-IPFS/{os.path.basename(item.path)}"
        assert get(p.url + path, "POST")[0] == 202 and ended(p, f"/publish-again-status/{base('tree')}") == "done"
        wipe([r for r, _ in item.blocks])
        assert len(missing(PAIR.a, item)) == len(missing(PAIR.b, item)) == len(item.blocks) and not pins(PAIR.a) | pins(PAIR.b)
    # A publisher that does not remember having done it a moment ago
    with Publisher(ipfs=[api(PAIR.a), api(PAIR.b)]) as p:
        start = time.monotonic()
        status, headers, _ = get(p.url + path, "POST")
        assert status == 202 and get(p.url + path, "POST")[0] in (200, 202), status
        assert ended(p, headers["Location"]) == "done", open(p.log).read()[-300:]
        took = time.monotonic() - start
        for n in (PAIR.a, PAIR.b):
            assert not missing(n, item) and pins(n) == {item.lines["ERIS-Manifest"]}, (len(missing(n, item)), pins(n))
        assert p.metric("again_done_total") == 1
        configure(PAIR.a.conf(), "block-timeout = 15")
        daemon()
        mark = audit_mark()
        fetch(p.url, "tree")
        record = audit_of(mark, item.path)
        assert re.search(r"\bipfs \d", str(record.get("sources"))) and p.metric("blocks_total") == 0, record
    return f"{len(item.blocks)} blocks in {took:.1f} s{counts(record)}"

def push_killed():
    """SIGKILL in the middle of a push, then one more: everything is there, one pin each, and what was done is not done again"""
    empty_both()
    names = [n for n in sorted(ITEMS) if n.startswith("tiny-") and os.path.exists(f"{CACHE}/zstd/{os.path.basename(ITEMS[n])}.narinfo")]
    names = ["tree", "small", "edge", *names[:20]]
    own = Own(*names)
    with Publisher(**own.where) as p:
        items = {n: Item(p, n) for n in names}
    argv = command("push", "--push-rate", "1", ipfs=[api(PAIR.b)], **own.where)
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    start = time.monotonic()
    while not pins(PAIR.b):
        assert time.monotonic() < start + 60 and process.poll() is None, "no nar came"
        time.sleep(.02)
    process.kill()
    process.wait()
    done = pins(PAIR.b)
    assert len(done) < len(names), "it was done before it was killed"
    out = own.push(PAIR.b)
    assert pins(PAIR.b) == {i.lines["ERIS-Manifest"] for i in items.values()}
    assert not any(missing(PAIR.b, i) for i in items.values())
    again = int(re.search(r"(\d+) nars pushed", out)[1])
    assert again < len(names) or len(done) <= 1, f"{len(done)} were done, {again} pushed again"
    return f"killed after {len(done)} of {len(names)} nars, {again} in the second push"

def daemon_dies():
    """An IPFS daemon is killed in the middle of an import, and comes back with its repository: failed, and done the next time"""
    empty_both()
    own = Own("tree")
    with Publisher("--push-rate", "1", ipfs=[api(PAIR.b)], **own.where) as p:
        item = Item(p, "tree")
        path = f"/publish-this-nar-again-into-IPFS/{os.path.basename(item.path)}"
        status, headers, _ = get(p.url + path, "POST")
        assert status == 202
        start = time.monotonic()
        while get(p.url + headers["Location"])[2] != b"running\n":
            assert time.monotonic() < start + 20
            time.sleep(.02)
        time.sleep(.5)
        PAIR.b.process.kill()
        PAIR.b.process.wait()
        state = ended(p, headers["Location"])
        said = [l for l in open(p.log) if "publish again" in l]
        assert state == "failed" and said, (state, said)
        start_again(PAIR.b)
        assert get(p.url + path, "POST")[0] == 202 and ended(p, headers["Location"]) == "done"
        assert not missing(PAIR.b, item) and pins(PAIR.b) == {item.lines["ERIS-Manifest"]}
    return said[0].strip()[-120:]

def full_repository():
    """Kubo without room in its repository: the daemon's words are told, nothing counts as pushed, and with room it is"""
    own = Own("tree", "small")
    os.makedirs(f"{WORK}/kubo-full")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m", "bed", f"{WORK}/kubo-full"], check=True)
    node = None
    try:
        node = Node("kubo", "full/repo")
        out = own.push(node, ok=False)
        assert "space" in out, out
        assert len(pins(node)) < 2
        subprocess.run(["mount", "-o", "remount,size=200m", f"{WORK}/kubo-full"], check=True)
        assert " nars pushed" in own.push(node) and len(pins(node)) == 2
        # What its API lets nobody do, and what is another door of the same daemon.
        node.stop()
        env = {**os.environ, "IPFS_PATH": node.dir}
        door = re.search(r"/tcp/(\d+)", run(KUBO, "config", "Addresses.Gateway", env=env).stdout)[1]
        run(KUBO, "config", "--json", "API.Authorizations", '{"x": {"AuthSecret": "bearer:x", "AllowedPaths": ["/api/v0"]}}', env=env)
        start_again(node)
        assert "refuses us (HTTP 403)" in (refused := own.push(node, args=[base("small")], ok=False)), refused
        wrong = subprocess.run(command("push", base("small"), ipfs=[f"http://127.0.0.1:{door}"], **own.where), stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
        assert wrong.returncode == 1 and "is no IPFS daemon" in wrong.stdout, wrong.stdout
    finally:
        if node:
            node.stop()
        subprocess.run(["umount", "-l", f"{WORK}/kubo-full"], check=True)
        os.rmdir(f"{WORK}/kubo-full")
    return out.strip().splitlines()[0][-160:]

def again_by_client():
    """The same for a client that gets narinfos, but no nars and no blocks, from its server: narlock asks by itself"""
    with Publisher(ipfs=[api(PAIR.b)]) as p:
        item = Item(p, "tree")
        wipe([r for r, _ in item.blocks])
        def answer(method, path):
            if path.startswith(("/nar/", "/uri-res/")):
                return 404, b""
            status, _, body = get(p.url + path, method)
            return status, body
        configure(PAIR.a.conf(), "block-timeout = 2")
        daemon()
        with Answers(answer) as front:
            mark = audit_mark()
            took, _ = fetch(front.url, "tree")
            record = audit_of(mark, item.path)
            posts = [x for x in front.asked if x[0] == "POST"]
        done = p.metric("again_done_total")
    assert len(posts) == 1 and done == 1, f"{len(posts)} times asked, {done} done"
    assert not missing(PAIR.b, item)
    return f"{took:.1f} s{counts(record)}"

### All

def plain_cases():
    return (("index", index), ("added-lines", added_lines), ("stock", stock), ("every-block", every_block),
            ("blocks-only", blocks_only), ("baked-now", baked_now), ("url-only", url_only), ("page", page))

def ipfs_cases(kind):
    # js-ipfs that was killed in the middle of an import does not answer refs/local and pin/ls any more.
    only_kubo = (("daemon-dies", daemon_dies), ("full-repository", full_repository), ("streamed", streamed)) if kind == "kubo" else ()
    return (("push", push), ("healed", healed), ("again-by-hand", again_by_hand), ("again-by-client", again_by_client),
            ("two-daemons", two_daemons), ("restored-in-both", restored_in_both), ("push-killed", push_killed),
            *only_kubo, ("page", page))

def run_kind(kind, report):
    global PAIR
    wanted = [(f"publish-{kind}-{n}", f) for n, f in ipfs_cases(kind) if report.wanted(f"publish-{kind}-{n}")]
    if not wanted:
        return
    if why := blocks.why_not(kind):
        report.skip(f"publish-{kind}", why)
        return
    PAIR = Pair(kind)
    try:
        for name, function in wanted:
            report.run(name, function)
    finally:
        PAIR.stop()

def main():
    args = sys.argv[1:]
    if args == ["--list"]:
        print(*[f"publish-{n}" for n, _ in plain_cases()], *[f"publish-{k}-{n}" for k in ("kubo", "js-ipfs") for n, _ in ipfs_cases(k)],
              sep="\n")
        return 0
    only = [args[i + 1] for i in range(0, len(args), 2) if args[i] == "--only"]
    if len(only) * 2 != len(args):
        sys.exit(__doc__)
    report = Report(only)
    with clean():
        if not report.wanted("publish-index"):
            run(*command("index"))  # the other cases begin with what it leaves
        for name, function in plain_cases():
            report.run(f"publish-{name}", function)
        for kind in ("kubo", "js-ipfs"):
            run_kind(kind, report)
    return report.close()

if __name__ == "__main__":
    sys.exit(main())
