#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests: the real narlock-publish behind its real locks, against clients, caches and disks that mean no good.

    publish.py [DIRECTORY with narlock-publish] [WORD...]     (default: build/bin; WORDs choose cases by their names)

One line per case: `ok NAME', `not ok NAME: why' or `SKIP NAME: why'.  After every case the server is still there, none of
its processes was killed by its own filter, and it leaves with 0."""
import base64, ctypes, fcntl, glob, hashlib, http.client, os, random, re, resource, shutil, signal, socket, sqlite3, struct, subprocess
import sys, tempfile, threading, time, traceback

HERE = os.path.dirname(os.path.abspath(__file__))
WORDS = [w for w in sys.argv[1:] if not os.path.isdir(w)]
PROGRAM = os.path.abspath(([d for d in sys.argv[1:] if os.path.isdir(d)] + [HERE + "/../../build/bin"])[0]) + "/narlock-publish"
DIGITS = "0123456789abcdfghijklmnpqrsvwxyz"
USER = "nobody"
CASES = []


class Skip(Exception):
    pass


def case(f):
    CASES.append(f)
    return f


def until(what, seconds=20, every=0.05):
    end = time.monotonic() + seconds
    while True:
        value = what()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("it never came to pass: " + (what.__doc__ or what.__name__))
        time.sleep(every)


class Cache:
    """Items as `guix publish --cache' leaves them."""

    def __init__(self, top):
        self.dir, self.items = top + "/cache", {}
        os.makedirs(self.dir + "/zstd")
        os.chmod(self.dir, 0o755)

    def add(self, n, size, seed=0):
        r = random.Random(n)
        item = "".join(r.choice(DIGITS) for _ in range(32)) + f"-item-{n}"
        self.write(item, random.Random(n * 1000 + seed).randbytes(size))
        return item

    def write(self, item, data):
        self.items[item] = data
        for name, content in ((".nar", data), (".narinfo", self.narinfo(item).encode())):
            path = f"{self.dir}/zstd/{item}{name}"
            with open(path + ".tmp", "wb") as f:
                f.write(content)
            os.chmod(path + ".tmp", 0o644)
            os.rename(path + ".tmp", path)

    def narinfo(self, item):
        return (f"StorePath: /gnu/store/{item}\nNarHash: sha256:{'0' * 52}\nNarSize: 1\nReferences: \nSignature: 1;vm;AAAA\n"
                f"URL: nar/zstd/{item}\nCompression: zstd\nFileSize: {len(self.items[item])}\n")

    def nar(self, item):
        return f"{self.dir}/zstd/{item}.nar"


class Server:
    def __init__(self, top, cache, *options, wait=True):
        self.top, self.cache, self.state = top, cache, top + "/state"
        self.log = open(top + "/log", "ab+")
        user = ["--user", USER] if os.geteuid() == 0 else []
        self.process = subprocess.Popen([PROGRAM, "serve", "--config", "none", "--cache", cache.dir, "--state", self.state,
            "--listen", "127.0.0.1:0", "--drain-timeout", "5", *user, *options], stdout=subprocess.PIPE, stderr=self.log)
        line = self.process.stdout.readline().decode()
        if not line:
            raise AssertionError("it does not start: " + self.text())
        self.port = int(re.match(r"http://127\.0\.0\.1:(\d+)/\n$", line)[1])
        if wait:
            until(lambda: all(self.urn(i) for i in cache.items), 60)
            time.sleep(1.1)      # for as long a thread gives the same answer again

    def text(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def get(self, path, headers={}, method="GET", body=None):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            c.putrequest(method, path, skip_host=False, skip_accept_encoding=True)
            for k, v in headers.items():
                c.putheader(k, v)
            if body is not None:
                c.putheader("Content-Length", str(len(body)))
            c.endheaders(body)
            r = c.getresponse()
            return r.status, dict(r.getheaders()), r.read()
        finally:
            c.close()

    def raw(self, data, seconds=5):
        """Everything that comes back on one connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as s:
            s.sendall(data)
            got = b""
            try:
                while True:
                    piece = s.recv(65536)
                    if not piece:
                        break
                    got += piece
            except socket.timeout:
                pass
            return got

    def urn(self, item):
        m = re.search(r"^ERIS: (urn:eris:\S+)$", self.get(f"/{item[:32]}.narinfo")[2].decode(), re.M)
        return m and m[1]

    def block(self, ref):
        status, headers, data = self.get("/uri-res/N2R?urn:blake2b:" + ref)
        if status == 200:
            assert base64.b32encode(hashlib.blake2b(data, digest_size=32).digest()).decode().rstrip("=") == ref, "a wrong block"
        return status

    def refs(self, item):
        """References of all leaves, from an encoder that is not the server's."""
        return leaves(self.cache.items[item])

    def metric(self, name):
        return int(re.search(rf"^narlock_publish_{name} (\d+)$", self.get("/metrics")[2].decode(), re.M)[1])

    def children(self):
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as f:
            return [int(p) for p in f.read().split()]

    def web(self):
        """The process with the most threads."""
        return max(self.children(), key=lambda p: len(os.listdir(f"/proc/{p}/task")))

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(timeout=30)
        text = self.text()
        self.log.close()
        self.process.stdout.close()
        assert "was killed by signal" not in text.replace("killed by signal 9", ""), text
        assert code == 0, (code, text)


def leaves(data):
    """References of the leaves of a nar, by the formulas of ERIS 1.0.0, with ChaCha20 from OpenSSL."""
    data = data + b"\x80" + bytes(-(len(data) + 1) % 32768)
    out = []
    for i in range(0, len(data), 32768):
        leaf = data[i:i + 32768]
        key = hashlib.blake2b(leaf, digest_size=32, key=bytes(32)).digest()
        block = subprocess.run(["openssl", "enc", "-chacha20", "-K", key.hex(), "-iv", "0" * 32], input=leaf,
            stdout=subprocess.PIPE, check=True).stdout
        out.append(base64.b32encode(hashlib.blake2b(block, digest_size=32).digest()).decode().rstrip("="))
    return out


# --- What it serves ----------------------------------------------------------------------------------------------------

@case
def serves(top, cache):
    item = cache.add(1, 700000)
    cache.add(2, 10)
    s = Server(top, cache)
    status, headers, body = s.get(f"/{item[:32]}.narinfo")
    assert status == 200 and body.decode().startswith(cache.narinfo(item)), body
    assert re.fullmatch(r"ERIS: urn:eris:[A-Z2-7]{106}\nERIS-Manifest: bafy[a-z2-7]{58}\n",
        body.decode()[len(cache.narinfo(item)):]), body
    assert s.get(f"/{item[:32]}.narinfo", {"If-None-Match": headers["ETag"]})[0] == 304
    assert s.get(f"/{item[:32]}.narinfo", {"If-Modified-Since": headers["Last-Modified"]})[0] == 304
    assert s.get(f"/{item[:32]}.narinfo", {"Range": "bytes=0-9"})[::2] == (206, body[:10])
    refs = s.refs(item)
    assert [s.block(r) for r in refs] == [200] * len(refs)
    status, headers, body = s.get("/uri-res/N2R?urn:blake2b:" + refs[0], method="HEAD")
    assert (status, headers["Content-Length"], body) == (200, "32768", b"")
    assert s.get("/uri-res/N2R?urn:blake2b:" + refs[0], {"If-None-Match": headers["ETag"]})[0] == 304
    status, _, body = s.get("/uri-res/N2R?" + s.urn(item))
    assert status == 400 and b"urn:eris" in body
    index = s.get("/eris/" + item[:32])[2].decode()
    assert index == (f"StorePath: /gnu/store/{item}\nURL: nar/zstd/{item}\nCompression: zstd\nFileSize: 700000\n"
        + s.get(f"/{item[:32]}.narinfo")[2].decode()[len(cache.narinfo(item)):]), index
    # The manifest is a block like others, by its hash.
    cid = re.search(r"^ERIS-Manifest: b(\S+)$", index, re.M)[1].upper()
    ref = base64.b32encode(base64.b32decode(cid + "=" * (-len(cid) % 8))[6:]).decode().rstrip("=")
    status, headers, body = s.get("/uri-res/N2R?urn:blake2b:" + ref)
    assert status == 200 and s.block(ref) == 200 and cache.narinfo(item).encode() in body, status
    assert s.get("/uri-res/N2R?urn:blake2b:" + ref, {"Range": "bytes=0-9"})[::2] == (206, body[:10])
    assert s.get("/nix-cache-info")[2] == b"StoreDir: /gnu/store\nWantMassQuery: 0\nPriority: 100\n"
    assert s.get("/")[0] == 200 and b"narlock-publish" in s.get("/")[2]
    assert s.get("/healthz")[0] == 200
    assert s.get("/" + "0" * 32 + ".narinfo")[0] == 404
    assert s.get("/eris/" + "0" * 32)[0] == 404
    return s


def links(node):
    """(kind, reference) of all links of a node of DAG-CBOR or DAG-PB: kind 0x55 is a block, 0x71 and 0x70 are such nodes"""
    found = re.findall(rb"(?:\xd8\x2a\x58\x27\x00|\x0a\x26)\x01([\x55\x70\x71])\xa0\xe4\x02\x20(.{32})", node, re.S)
    return [(kind[0], base64.b32encode(ref).decode().rstrip("=")) for kind, ref in found]


@case
def manifest_nodes(top, cache):
    """A manifest of several nodes can be walked by HTTP alone, by hashes, from its root to every block."""
    item = cache.add(1, 70_000_000)
    s = Server(top, cache)
    cid = re.search(r"^ERIS-Manifest: b(\S+)$", s.get("/eris/" + item[:32])[2].decode(), re.M)[1].upper()
    todo = [(0x71, base64.b32encode(base64.b32decode(cid + "=" * (-len(cid) % 8))[6:]).decode().rstrip("="))]
    nodes, blocks = [], set()
    while todo:
        kind, ref = todo.pop()
        if kind == 0x55:
            blocks.add(ref)
            continue
        status, headers, node = s.get("/uri-res/N2R?urn:blake2b:" + ref)
        form = "application/vnd.ipld." + {0x71: "dag-cbor", 0x70: "dag-pb"}[kind]
        assert status == 200 and s.block(ref) == 200 and headers["Content-Type"] == form, (status, len(nodes))
        nodes.append(ref)
        todo += links(node)
    data = cache.items[item]
    # A root, and a file of two levels: 174 links each.
    assert len(nodes) == 1 + 1 + 13 and len(blocks) == len(data) // 32768 + 1 + 5 + 1, (len(nodes), len(blocks))
    sample = leaves(data[:3_000_000])[:-1] + leaves(data[-(len(data) % 32768):])[-1:]
    assert set(sample) <= blocks
    assert [s.block(r) for r in random.sample(sorted(blocks), 20)] == [200] * 20
    # Another narinfo: another root, the same nodes.
    with open(cache.nar(item) + "info", "a") as f:
        f.write("X-More: 1\n")
    until(lambda: s.block(nodes[0]) == 404)
    assert [s.block(r) for r in nodes[1:]] == [200] * 14
    os.unlink(cache.nar(item) + "info")
    os.unlink(cache.nar(item))
    del cache.items[item]
    until(lambda: [s.block(r) for r in nodes[1:]] == [404] * 14)

    def empty():
        with sqlite3.connect(f"file:{s.state}/index.sqlite?mode=ro", uri=True) as db:
            return db.execute("SELECT (SELECT count(*) FROM block),(SELECT count(*) FROM node)").fetchone() == (0, 0)

    until(empty)
    return s


@case
def unfinished(top, cache):
    """A narinfo without its lines is not kept for long, and has them as soon as the index does."""
    cache.add(1, 1000)
    s = Server(top, cache, "--ttl", "86400")
    item = cache.add(2, 10)
    with open(cache.nar(item), "r+b") as f:
        f.truncate(300_000_000)
    path = f"/{item[:32]}.narinfo"
    with open(cache.nar(item) + "info.tmp", "w") as f:
        f.write(cache.narinfo(item).replace("FileSize: 10\n", ""))
    os.chmod(cache.nar(item) + "info.tmp", 0o644)
    os.rename(cache.nar(item) + "info.tmp", cache.nar(item) + "info")
    until(lambda: s.get(path)[0] == 200, every=0)
    status, headers, body = s.get(path)
    if b"ERIS" in body:
        raise Skip("it is too fast to be seen")
    assert headers["Cache-Control"] == "max-age=60", headers

    def ready():
        for _ in range(4):
            s.get(path)     # every thread has just given an answer
        return s.get("/eris/" + item[:32])[0] == 200

    until(ready, 150, 0.01)
    for _ in range(8):
        status, headers, body = s.get(path)
        assert b"\nERIS: " in body and headers["Cache-Control"] == "max-age=86400", (headers, body)
    del cache.items[item]
    return s


@case
def ranges(top, cache):
    item = cache.add(1, 100000)
    s = Server(top, cache)
    data, path = cache.items[item], f"/nar/zstd/{item}"
    status, headers, body = s.get(path)
    assert (status, body, headers["Accept-Ranges"]) == (200, data, "bytes")
    tag = headers["ETag"]
    for asked, status, part in (("bytes=0-0", 206, data[:1]), ("bytes=99999-", 206, data[-1:]), ("bytes=-5", 206, data[-5:]),
            ("bytes=10-9", 200, data), ("bytes=100000-", 416, b""), ("bytes=-0", 416, b""), ("bytes=0-99999999999999999999", 206, data),
            ("bytes=99999999999999999999-", 416, b""), ("bytes=0-1,5-6", 200, data), ("bytes=" + ",".join(["0-"] * 500), 200, data),
            ("bytes=a-b", 200, data), ("bytes=", 200, data), ("lines=0-1", 200, data), ("bytes= 1-2", 200, data),
            ("bytes=-99999999", 206, data)):
        got = s.get(path, {"Range": asked})
        assert got[0] == status and (status == 416 or got[2] == part), (asked, got[0], len(got[2]))
    assert s.get(path, {"Range": "bytes=0-1", "If-Range": tag})[0] == 206
    assert s.get(path, {"Range": "bytes=0-1", "If-Range": '"other"'})[0] == 200
    assert s.get(path, {"If-None-Match": 'W/"x", ' + tag})[0] == 304
    assert s.get(path, {"If-None-Match": "*"})[0] == 304
    assert s.get(path, method="HEAD")[1]["Content-Length"] == "100000"
    return s


@case
def everywhere(top, cache):
    """HEAD, ranges, entity tags and conditions for every page that does not change while it is looked at."""
    item = cache.add(1, 100000)
    s = Server(top, cache, "--ttl", "77")
    for path in ("/", "/nix-cache-info", "/healthz", "/eris/" + item[:32], f"/{item[:32]}.narinfo", f"/nar/zstd/{item}",
            "/uri-res/N2R?urn:blake2b:" + s.refs(item)[0]):
        status, headers, body = s.get(path)
        assert status == 200 and headers["Accept-Ranges"] == "bytes" and len(body) == int(headers["Content-Length"]), path
        if path == "/":      # its numbers change
            assert re.fullmatch(r'"[0-9a-f]{16}"', headers["ETag"])
            continue
        assert s.get(path, {"If-None-Match": headers["ETag"]})[::2] == (304, b""), path
        assert s.get(path, {"If-None-Match": '"x", W/' + headers["ETag"]})[0] == 304, path
        assert s.get(path, {"If-None-Match": '"x"'})[::2] == (200, body), path
        if "Last-Modified" in headers:
            assert s.get(path, {"If-Modified-Since": headers["Last-Modified"]})[0] == 304, path
        assert s.get(path, {"Range": "bytes=1-2"})[::2] == (206, body[1:3]), path
        assert s.get(path, {"Range": "bytes=-2"})[::2] == (206, body[-2:]), path
        assert s.get(path, {"Range": "bytes=0-1", "If-Range": '"x"'})[::2] == (200, body), path
        assert s.get(path, {"Range": f"bytes={len(body)}-"})[0] == 416, path
        got = s.get(path, method="HEAD")
        assert got[0] == 200 and got[2] == b"" and got[1]["Content-Length"] == headers["Content-Length"], path
        assert got[1]["ETag"] == headers["ETag"], path
    assert s.get("/nix-cache-info")[1]["Cache-Control"] == "max-age=77" and s.get("/healthz")[1]["Cache-Control"] == "no-cache"
    assert s.get("/metrics")[1]["ETag"]
    # As a proxy would be asked; and bodies with two lengths, which somebody in front of us may have read in the other way.
    got = s.raw(f"GET http://example.org/nar/zstd/{item} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert got.startswith(b"HTTP/1.1 200 ") and got.endswith(cache.items[item][-100:])
    for more in (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"):
        got = s.raw(b"POST /publish-this-nar-again-into-IPFS/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + more)
        assert b" 200 " not in got and b" 202 " not in got and b" 404 " not in got, got
    # The older version of the protocol, kept alive.
    got = s.raw(b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /healthz HTTP/1.0\r\n\r\n")
    assert got.count(b" 200 ") == 2, got
    return s


@case
def odd_files(top, cache):
    """What a cache should not have: no file that is not a plain one is opened, and the others are served as ever."""
    r, names = random.Random(5), {}
    for what in ("gtk+-3.24", "zero", "new\nline", "fifo", "device", "socket", "unreadable", "growing", "good"):
        names[what] = "".join(r.choice(DIGITS) for _ in range(32)) + "-" + what
        cache.write(names[what], b"" if what == "zero" else r.randbytes(70000))
    for what in ("new\nline", "fifo", "device", "socket", "unreadable", "growing"):
        del cache.items[names[what]]
    nar = lambda what: cache.nar(names[what])
    for what in ("fifo", "device", "socket"):
        os.unlink(nar(what))
    os.mkfifo(nar("fifo"))
    with socket.socket(socket.AF_UNIX) as u:
        os.chdir(cache.dir + "/zstd")
        u.bind(os.path.basename(nar("socket")))
        os.chdir("/")
    if os.geteuid() == 0:
        os.mknod(nar("device"), 0o666 | 0o020000, os.makedev(1, 5))
    os.chmod(nar("unreadable"), 0)
    stop = threading.Event()

    def grow():
        while not stop.is_set():
            with open(nar("growing"), "ab") as f:
                f.write(b"x" * 10_000)
            time.sleep(0.02)

    grower = threading.Thread(target=grow)
    grower.start()
    try:
        s = Server(top, cache)
        for what in ("fifo", "device", "socket", "new\nline"):
            got = s.raw(f"GET /nar/zstd/{names[what]} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            assert got[9:12] in (b"404", b"400", b""), (what, got[:100])
            assert b"ERIS" not in s.get(f"/{names[what][:32]}.narinfo")[2], what
        if os.geteuid() != 0 or USER != "root":
            assert s.get(f"/nar/zstd/{names['unreadable']}")[0] == 404
        for _ in range(20):      # as long as it said, with what it had then
            status, headers, body = s.get(f"/nar/zstd/{names['growing']}")
            assert status == 200 and len(body) == int(headers["Content-Length"]) and body[70000:] == b"x" * (len(body) - 70000)
        assert s.get(f"/nar/zstd/{names['zero']}")[::2] == (200, b"") and s.block(leaves(b"")[0]) == 200
        assert s.get(f"/nar/zstd/{names['zero']}", {"Range": "bytes=0-"})[0] == 416
        for path in (names["gtk+-3.24"], names["gtk+-3.24"].replace("+", "%2B")):
            assert s.get(f"/nar/zstd/{path}")[2] == cache.items[names["gtk+-3.24"]]
    finally:
        stop.set()
        grower.join()
    # When it does not grow any more, its blocks are there.
    cache.items[names["growing"]] = data = open(nar("growing"), "rb").read()
    with open(nar("growing") + "info", "w") as f:
        f.write(cache.narinfo(names["growing"]))
    until(lambda: s.block(leaves(data[:40000])[0]) == 200 and s.block(leaves(data)[-1]) == 200)
    os.chmod(nar("unreadable"), 0o644)
    return s


@case
def traversal(top, cache):
    item = cache.add(1, 1000)
    secret = top + "/secret.nar"
    with open(secret, "w") as f:
        f.write("secret")
    os.chmod(secret, 0o644)
    os.symlink(secret, cache.dir + "/zstd/link.nar")
    os.symlink(top, cache.dir + "/up")
    os.symlink("/etc/passwd", f"{cache.dir}/zstd/{'0' * 32}-passwd.nar")
    os.mkdir(cache.dir + "/zstd/directory.nar")
    os.mkfifo(cache.dir + "/zstd/fifo.nar")
    s = Server(top, cache)
    for path in ("/../secret.nar", "/..%2fsecret.nar", "/%2e%2e/secret.nar", "/%2e%2e%2fsecret.nar", "/nar/../../secret.nar",
            "/zstd/../../secret.nar", "/zstd/%2e%2e/%2e%2e/secret.nar", "/zstd/link.nar", "/up/secret.nar", "//etc/passwd",
            "/zstd//" + item + ".nar", "/./zstd/" + item + ".nar", f"/nar/zstd/{'0' * 32}-passwd", "/zstd/directory.nar",
            "/zstd/fifo.nar", f"/nar/zstd/{item}%00", f"/nar/zstd/{item}%00.nar", f"/nar%2fzstd%2f{item}", f"/nar/zstd%2F{item}",
            "/zstd/" + item + ".narinfo", "/etc/passwd", "/nar/zstd/..", "/nar/zstd/.", "/nar/zstd/", "/nar", "/zstd",
            "/hashes/" + item[:32], "/" + item[:31] + "%2e.narinfo", "/nar/zstd/" + "a" * 900, "/nar/zstd/" + "a" * 3000,
            "/nar/zstd/x\x7f", "/nar/zstd/%0a", "/nar/zstd/%ff%fe", "/uri-res/N2R/../../etc/passwd", "/eris/../x", "/eris/" + "%2e" * 32,
            "/file://" + secret, "/zstd\\..\\secret.nar"):
        status = int(s.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode("latin1")).split(b" ")[1])
        assert status in (400, 404, 414, 431), (path, status)
    assert s.get(f"/nar/zstd/{item}")[2] == cache.items[item]
    for query in ("", "?", "?urn:blake2b:", "?urn:blake2b:" + "A" * 51, "?urn:blake2b:" + "A" * 53, "?urn:blake2b:" + "a" * 52,
            "?x=urn:blake2b:" + "A" * 52, "?urn:blake2b:" + "A" * 52 + "&x", "?urn:blake2b:" + "A" * 52 + "=x", "?urn:sha1:" + "A" * 32,
            "?urn:blake2b:" + "%00" * 52, "?urn:blake2b:" + "/" * 52, "?" + "&" * 40):
        assert s.get("/uri-res/N2R" + query)[0] == 400, query
    assert s.get("/uri-res/N2R?urn:blake2b:" + "A" * 52)[0] == 404
    return s


@case
def methods(top, cache):
    item = cache.add(1, 1000)
    s = Server(top, cache)
    for method in ("PUT", "DELETE", "TRACE", "OPTIONS", "PATCH", "CONNECT", "POST", "X" * 50):
        status = s.raw(f"{method} /nar/zstd/{item} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        assert b" 405 " in status.split(b"\r\n")[0], status[:100]
    path = "/publish-this-nar-again-into-IPFS/"
    assert s.get(path + item, method="POST", body=b"")[0] == 404      # no daemon is configured
    assert s.get(path + item, method="GET")[0] == 404
    # A body that nobody wants: a little is read away, much costs the connection.
    assert s.get(path + item, method="POST", body=b"x" * 1000)[0] == 404
    try:
        s.get(path + item, method="POST", body=b"x" * 10_000_000)
    except OSError:
        pass
    except http.client.HTTPException:
        pass
    # Many requests in one piece.
    one = f"GET /{item[:32]}.narinfo HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    got = s.raw(one * 200 + one[:-2] + b"Connection: close\r\n\r\n", 20)
    assert got.count(b"HTTP/1.1 200") == 201, got.count(b"HTTP/1.1 200")
    refs = s.refs(item)
    one = f"GET /uri-res/N2R?urn:blake2b:{refs[0]} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    got = s.raw(one * 100 + one[:-2] + b"Connection: close\r\n\r\n", 20)
    assert got.count(b"HTTP/1.1 200") == 101 and len(got) > 101 * 32768
    return s


# --- Limits ----------------------------------------------------------------------------------------------------------------

@case
def headers(top, cache):
    cache.add(1, 1000)
    s = Server(top, cache)
    for data in (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 1_000_000, b"GET /" + b"a" * 1_000_000,
            b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000, b"\0" * 100_000, b"\r\n" * 100_000, random.Random(1).randbytes(100_000),
            b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n", b"GET\r\n\r\n", b" / HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"):
        try:
            got = s.raw(data, 1)
        except OSError:
            got = b""
        assert got == b"" or b" 200 " not in got.split(b"\r\n")[0], (data[:40], got[:80])
    assert s.get("/healthz")[0] == 200
    return s


@case
def slow_clients(top, cache):
    cache.add(1, 1000)
    s = Server(top, cache, "--request-timeout", "2", "--idle-timeout", "3")
    begin = time.monotonic()
    loris = [socket.create_connection(("127.0.0.1", s.port)) for _ in range(50)]
    left = set(loris)
    for c in loris:
        c.sendall(b"GET / HTTP/1.1\r\nHost: ")
    while left and time.monotonic() - begin < 12:
        time.sleep(0.4)
        for c in list(left):
            try:
                c.sendall(b"x")
                c.setblocking(False)
                if c.recv(1000) == b"":
                    left.discard(c)
            except BlockingIOError:
                pass
            except OSError:
                left.discard(c)
            c.setblocking(True)
    assert not left, f"{len(left)} connections are still there after {time.monotonic() - begin:.0f} s"
    assert s.metric("slow_total") >= 50
    for c in loris:
        c.close()
    assert s.get("/healthz")[0] == 200
    return s


@case
def slow_readers(top, cache):
    """Who takes an answer more slowly than he must loses his connection; who takes it quickly, or waits between two, does not."""
    item = cache.add(1, 30_000_000)
    s = Server(top, cache, "--min-rate", "1000000", "--idle-timeout", "3", "--request-timeout", "60")

    def begin(size):
        c = socket.socket()
        c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        c.connect(("127.0.0.1", s.port))
        c.settimeout(20)
        c.sendall(f"GET /nar/zstd/{item} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return c

    def sip(c, seconds):
        """Some 50 kB a second, always some; how many seconds until the server has closed it, or None"""
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            try:
                if c.recv(8192) == b"":
                    return time.monotonic() - begun
            except ConnectionError:
                return time.monotonic() - begun
            if s.metric("slow_total") > 0:
                return time.monotonic() - begun
            time.sleep(0.1)
        return None

    slow, quick, got = begin(4096), begin(1 << 20), 0
    while got < 30_000_000:
        got += len(quick.recv(1 << 20))
    took = sip(slow, 30)
    assert took is not None and s.metric("slow_total") == 1, (took, s.metric("slow_total"))
    slow.close()
    quick.close()
    s.end()
    # Slow, but not too slow, and for a long time without a byte that would fit into the kernel's buffer.
    s = Server(top, cache, "--min-rate", "10000", "--idle-timeout", "3", "--request-timeout", "60")
    slow = begin(4096)
    took = sip(slow, 12)
    slow.settimeout(5)
    got = 0
    while took is None and got < 25_000_000:
        got += len(slow.recv(1 << 20) or b"x" * 99_999_999)
    assert took is None and 25_000_000 <= got < 90_000_000, (took, got)
    slow.close()
    return s


@case
def idle_connections(top, cache):
    item = cache.add(1, 100000)
    want = 1500
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    s = Server(top, cache, "--connections-per-address", "0", "--connections", "3000")
    web = s.web()
    before = len(os.listdir(f"/proc/{web}/fd"))
    idle = [socket.create_connection(("127.0.0.1", s.port)) for _ in range(want)]
    until(lambda: s.metric("connections") >= want)
    begin = time.monotonic()
    for _ in range(20):
        assert s.get(f"/nar/zstd/{item}")[2] == cache.items[item]
    assert time.monotonic() - begin < 10
    with open(f"/proc/{web}/status") as f:
        rss = int(re.search(r"RssAnon:\s+(\d+)", f.read())[1])
    assert rss < 64 * 1024, rss
    for c in idle:
        c.close()
    until(lambda: s.metric("connections") <= 5)
    until(lambda: len(os.listdir(f"/proc/{web}/fd")) <= before + 20)
    return s


@case
def one_address(top, cache):
    cache.add(1, 100)
    s = Server(top, cache, "--connections-per-address", "20", "--threads", "1")
    time.sleep(0.2)
    many = [socket.create_connection(("127.0.0.1", s.port)) for _ in range(100)]
    time.sleep(0.5)
    alive = 0
    for c in many:
        c.setblocking(False)
        try:
            alive += c.recv(1) != b""
        except BlockingIOError:
            alive += 1
        except OSError:
            pass
        c.close()
    assert alive <= 20, alive

    def answers():
        try:
            return s.get("/healthz")[0] == 200
        except (OSError, http.client.HTTPException):
            return False  # it has not seen all of them go yet

    until(answers, 5)
    return s


@case
def rate(top, cache):
    item = cache.add(1, 100)
    s = Server(top, cache, "--requests-per-second", "20", "--burst", "100")
    one = f"GET /{item[:32]}.narinfo HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    began = time.monotonic()
    got = s.raw(one * 300 + one[:-2] + b"Connection: close\r\n\r\n", 20)
    took = time.monotonic() - began
    good, limited = got.count(b"HTTP/1.1 200"), got.count(b"HTTP/1.1 429")
    assert 100 <= good <= 120 + 20 * took and limited > 0 and good + limited == 301, (good, limited, took)
    assert b"Retry-After: 1" in got
    time.sleep(1.5)
    assert s.get(f"/{item[:32]}.narinfo")[0] == 200
    return s


class Network:
    """A network of this thread's own: loopback with some addresses, all of which belong to it."""

    def __init__(self, *addresses):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.before = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        if os.geteuid() != 0 or self.libc.unshare(0x40000000) != 0:     # CLONE_NEWNET
            os.close(self.before)
            raise Skip("no network namespace can be made here")
        try:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
                fcntl.ioctl(s, 0x8914, struct.pack("16sH14x", b"lo", 0x1 | 0x40))       # SIOCSIFFLAGS: IFF_UP, IFF_RUNNING
                for a in addresses:                                                     # SIOCSIFADDR: struct in6_ifreq
                    fcntl.ioctl(s, 0x8916, socket.inet_pton(socket.AF_INET6, a) + struct.pack("Ii", 128, socket.if_nametoindex("lo")))
        except OSError:
            self.leave()
            raise Skip("no IPv6 in this kernel")

    def leave(self):
        self.libc.setns(self.before, 0x40000000)
        os.close(self.before)


@case
def one_network(top, cache):
    """A host with IPv6 has a /64 to choose addresses from: they share one quota, which the next /64 has no part in."""
    addresses = [f"fd00::{n:x}" for n in range(1, 9)] + ["fd00::abcd:ef01:2345:6789"]
    other = "fd00:0:0:1::1"
    network = Network(*addresses, other)
    try:
        items = [cache.add(n, 1000) for n in range(1, 9)]
        d = Daemon()
        s = Server(top, cache, "--listen", "[::]:0", "--ipfs", d.url, "--publish-again-per-hour", "3", "--requests-per-second", "1",
            "--burst", "200", wait=False)
        port = int(re.match(r"http://\[::\]:(\d+)/\n$", s.process.stdout.readline().decode())[1])

        def answers(source, text):
            """The statuses of all answers to what is sent from there."""
            got = b""
            with socket.create_connection(("fd00::1", port), 20, (source, 0)) as c:
                c.sendall(text[:-2] + b"Connection: close\r\n\r\n")
                while piece := c.recv(65536):
                    got += piece
            return [int(n) for n in re.findall(rb"HTTP/1.1 (\d+)", got)]

        def again(source, item):
            return answers(source, f"POST {AGAIN}{item} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())

        until(lambda: all(s.urn(i) for i in items), 60)
        got = [again(a, i) for a, i in zip(addresses, items[:5])]
        assert got == [[202]] * 3 + [[429]] * 2, got
        assert again(addresses[-1], items[5]) == [429] and again(other, items[6]) == [202]
        # Requests of any kind: what one address has spent the others have not.
        one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        assert answers(addresses[0], one * 300).count(200) < 290
        for a in (addresses[1], addresses[-1]):
            assert answers(a, one * 300).count(200) < 100, a
        assert answers(other, one * 150) == [200] * 150
        s.end()
    finally:
        network.leave()


# --- Changes beneath it ------------------------------------------------------------------------------------------------------

@case
def changed_nar(top, cache):
    item = cache.add(1, 300000)
    s = Server(top, cache)
    old, urn = s.refs(item), s.urn(item)
    assert s.block(old[2]) == 200
    # Other bytes, same size, same time: only the hash tells.
    st = os.stat(cache.nar(item))
    with open(cache.nar(item), "r+b") as f:
        f.seek(2 * 32768 + 5)
        f.write(b"changed")
    os.utime(cache.nar(item), ns=(st.st_atime_ns, st.st_mtime_ns))
    assert s.block(old[2]) in (404, 410)
    cache.items[item] = open(cache.nar(item), "rb").read()
    until(lambda: s.urn(item) not in (None, urn))
    until(lambda: [s.block(r) for r in s.refs(item)] == [200] * len(old), 5)
    # Truncated: every block but none is given, until it is read again.
    os.truncate(cache.nar(item), 40000)
    assert s.block(s.refs(item)[0]) == 410
    cache.items[item] = open(cache.nar(item), "rb").read()
    refs = s.refs(item)
    until(lambda: s.block(refs[0]) == 200)
    until(lambda: s.block(refs[1]) == 200, 5)      # another thread may have looked half a second ago
    # Replaced, as guix publish does it.
    cache.write(item, random.Random(9).randbytes(200000))
    refs = s.refs(item)
    until(lambda: s.block(refs[3]) == 200)
    # Gone.
    os.unlink(cache.nar(item))
    os.unlink(cache.nar(item) + "info")
    until(lambda: s.block(refs[3]) == 404)
    until(lambda: s.get(f"/{item[:32]}.narinfo")[0] == 404)
    return s


@case
def new_items(top, cache):
    cache.add(1, 1000)
    s = Server(top, cache)
    items = [cache.add(n, n * 5000) for n in range(2, 30)]
    for item in items:
        until(lambda: s.urn(item))
        assert s.block(s.refs(item)[-1]) == 200
    # A new compression, whose directory appears while it runs.
    os.mkdir(cache.dir + "/lzip")
    os.chmod(cache.dir + "/lzip", 0o755)
    time.sleep(0.5)
    item = items[0]
    data = random.Random(77).randbytes(70000)
    with open(f"{cache.dir}/lzip/{item}.nar", "wb") as f:
        f.write(data)
    with open(f"{cache.dir}/zstd/{item}.narinfo.tmp", "w") as f:
        f.write(cache.narinfo(item) + f"URL: nar/lzip/{item}\nCompression: lzip\nFileSize: 70000\n")
    os.chmod(f"{cache.dir}/zstd/{item}.narinfo.tmp", 0o644)
    os.rename(f"{cache.dir}/zstd/{item}.narinfo.tmp", f"{cache.dir}/zstd/{item}.narinfo")
    until(lambda: s.get(f"/{item[:32]}.narinfo")[2].count(b"ERIS: ") == 2)
    assert s.block(leaves(data)[1]) == 200
    assert s.get(f"/nar/lzip/{item}")[2] == data
    return s


@case
def wrong_level(top, cache):
    """A cache that is one directory off has narinfos, but no nars: that is said."""
    cache.add(1, 1000)
    inner = cache.dir
    os.rename(inner, top + "/x")
    os.makedirs(inner)
    os.chmod(inner, 0o755)
    os.rename(top + "/x", inner + "/inside")
    s = Server(top, cache, wait=False)
    until(lambda: "none of the nars is where its narinfo says" in s.text())
    del cache.items[next(iter(cache.items))]
    return s


@case
def vanished_cache(top, cache):
    item = cache.add(1, 100000)
    s = Server(top, cache, "--scan-interval", "1")
    refs = s.refs(item)
    os.rename(cache.dir, cache.dir + ".away")
    # Its descriptor still leads there; what counts is that nothing breaks, whatever it says.
    status = s.block(refs[0])
    assert status in (200, 404, 410), status
    shutil.copytree(cache.dir + ".away", top + "/copy")
    shutil.rmtree(cache.dir + ".away")
    until(lambda: s.block(refs[0]) in (404, 410))
    until(lambda: s.get("/healthz")[0] == 503)
    status = s.get(f"/nar/zstd/{item}")[0]
    assert status == 404, status
    time.sleep(3)
    assert s.process.poll() is None and len(s.children()) == 2, (s.children(), s.text())
    # It comes back, as a file system that is mounted again.
    shutil.copytree(top + "/copy", cache.dir)
    until(lambda: s.block(refs[0]) == 200, 30)
    until(lambda: s.get("/healthz")[0] == 200)
    until(lambda: s.urn(item))
    return s


# --- The index -------------------------------------------------------------------------------------------------------------------

@case
def garbage_index(top, cache):
    item = cache.add(1, 100000)
    os.mkdir(top + "/state")
    with open(top + "/state/index.sqlite", "wb") as f:
        f.write(random.Random(3).randbytes(100000))
    if os.geteuid() == 0:
        shutil.chown(top + "/state/index.sqlite", USER)
    s = Server(top, cache)
    assert s.block(s.refs(item)[0]) == 200
    assert os.path.getsize(top + "/state/index.sqlite.damaged") == 100000
    assert "is kept as" in s.text() and "(100000 bytes, nobody needs it)" in s.text()
    told = lambda: subprocess.run([PROGRAM, "status", "--config", "none", "--cache", cache.dir, "--state", s.state, "--user", USER],
        stdout=subprocess.PIPE, timeout=20).stdout.decode()
    assert f"set aside:   100000 bytes, an older index: {s.state}/index.sqlite.damaged can be removed" in told(), told()
    # There is one of them, not one and the log of another.
    for name, size in (("damaged-wal", 77), ("damaged-shm", 88)):
        with open(f"{s.state}/index.sqlite.{name}", "wb") as f:
            f.write(bytes(size))
    s.process.send_signal(signal.SIGTERM)
    s.end()
    for f in glob.glob(s.state + "/index.sqlite-*"):
        os.unlink(f)
    with open(s.state + "/index.sqlite", "wb") as f:
        f.write(bytes(5000))
    s = Server(top, cache)
    assert s.block(s.refs(item)[0]) == 200
    assert {f: os.path.getsize(f) for f in glob.glob(s.state + "/*damaged*")} == {s.state + "/index.sqlite.damaged": 5000}
    assert "(5000 bytes, nobody needs it; the one that was kept there is gone)" in s.text()
    os.unlink(s.state + "/index.sqlite.damaged")
    assert "set aside" not in told()
    return s


@case
def rotten_index(top, cache):
    items = [cache.add(n, 1_500_000) for n in range(1, 5)]
    s = Server(top, cache)
    refs = [r for i in items for r in s.refs(i)]
    end = time.monotonic() + 8
    rounds = 0
    while time.monotonic() < end:
        rounds += 1
        with open(s.state + "/index.sqlite", "r+b") as f:
            size = os.path.getsize(s.state + "/index.sqlite")
            for _ in range(30):
                f.seek(random.randrange(100, size))
                f.write(os.urandom(50))
        for r in random.sample(refs, 10):
            try:
                assert s.block(r) in (200, 404, 410, 503)      # block() checks what it gets
            except (ConnectionError, http.client.HTTPException):
                pass                                            # a new web server takes over
    # A change has to be written: then it notices, sets the index aside and builds a new one.
    items.append(cache.add(50, 200000))
    until(lambda: all(s.block(r) == 200 for i in items for r in s.refs(i)[:3]), 60, 0.5)
    until(lambda: all(s.urn(i) for i in items), 30)
    return s


@case
def killed_indexer(top, cache):
    items = [cache.add(n, 3_000_000 + n) for n in range(1, 20)]
    s = Server(top, cache, wait=False)
    for n in range(4):
        time.sleep(0.15 * n)
        web = s.web()
        for p in s.children():
            if p != web:
                os.kill(p, signal.SIGKILL)
        until(lambda: len(s.children()) == 2)
    until(lambda: all(s.urn(i) for i in items), 60)
    for i in items:
        refs = s.refs(i)
        assert all(s.block(r) == 200 for r in (refs[0], refs[-1], random.choice(refs)))
    return s


@case
def killed_server(top, cache):
    items = [cache.add(n, 2_000_000 + n) for n in range(1, 15)]
    for n in range(3):
        s = Server(top, cache, wait=False)
        time.sleep(0.2 + 0.2 * n)
        children = s.children()
        s.process.kill()
        s.process.wait()
        s.process.stdout.close()
        s.log.close()
        # Nobody is left behind.
        until(lambda: not any(os.path.exists(f"/proc/{p}") and "Z" not in open(f"/proc/{p}/stat").read().split()[2]
            for p in children), 10)
    s = Server(top, cache)
    for i in items:
        assert s.block(s.refs(i)[-1]) == 200
    return s


@case
def full_disk(top, cache):
    if os.geteuid() != 0:
        raise Skip("only root can mount a small file system")
    os.mkdir(top + "/state")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160k,mode=755", "tmpfs", top + "/state"],
            stderr=subprocess.DEVNULL).returncode != 0:
        raise Skip("no mount here")
    try:
        shutil.chown(top + "/state", USER)
        items = [cache.add(n, 20000) for n in range(1, 400)]
        s = Server(top, cache, wait=False)
        until(lambda: "full" in s.text() or "No space" in s.text(), 60)
        assert s.get("/healthz")[0] in (200, 503)
        assert s.get(f"/nar/zstd/{items[0]}")[2] == cache.items[items[0]]
        subprocess.run(["mount", "-o", "remount,size=50m", top + "/state"], check=True)
        until(lambda: all(s.urn(i) for i in items[:20]), 60)
        assert s.block(s.refs(items[5])[0]) == 200
        s.end()
    finally:
        subprocess.run(["umount", "-l", top + "/state"])


# --- IPFS ---------------------------------------------------------------------------------------------------------------------

class Daemon(threading.Thread):
    """As much of an IPFS daemon's RPC as is asked of it; `mood' says how it behaves."""

    def __init__(self):
        super().__init__(daemon=True)
        self.mood, self.imports, self.pinned, self.requests = "good", [], set(), []
        self.release = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.start()

    def run(self):
        while True:
            c, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        f = c.makefile("rb")
        try:
            while True:
                line = f.readline().decode()
                if not line:
                    return
                headers = {}
                while (h := f.readline().strip()):
                    k, v = h.decode().split(":", 1)
                    headers[k.lower()] = v.strip()
                path = line.split()[1]
                self.requests.append((path, headers))
                if self.mood == "deaf":
                    c.close()
                    return
                body = self.body(f, c, headers)
                status, answer, trailer = self.answer(path, body)
                c.sendall(f"HTTP/1.1 {status} x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Stream-Error\r\n\r\n".encode())
                if answer:
                    c.sendall(b"%x\r\n%s\r\n" % (len(answer), answer))
                c.sendall(b"0\r\n" + (b"X-Stream-Error: " + trailer + b"\r\n" if trailer else b"") + b"\r\n")
        except (OSError, ValueError):
            c.close()

    def body(self, f, c, headers):
        if "chunked" not in headers.get("transfer-encoding", ""):
            return f.read(int(headers.get("content-length", 0)))
        out = []
        while (n := int(f.readline(), 16)):
            out.append(f.read(n))
            f.readline()
            if self.mood == "cuts" and sum(map(len, out)) > 100000:
                c.shutdown(socket.SHUT_RDWR)
                raise OSError("cut")
            if self.mood == "slow":
                time.sleep(0.02)
        f.readline()
        return b"".join(out)

    def answer(self, path, body):
        if self.mood == "error":
            return 500, b'{"Message":"no space","Code":0,"Type":"error"}', None
        if self.mood == "trailer":
            return 200, b'{"Root":{"Cid":{"/":"x"},"PinErrorMsg":""}}\n', b"it broke"
        if self.mood == "held" and "/dag/import" in path:
            self.release.wait(60)
        if self.mood == "unpinned":
            return 200, b'{"Root":{"Cid":{"/":"x"},"PinErrorMsg":"no"}}\n', None
        if "/dag/import" in path:
            root, blocks = car(body)
            self.imports.append((root, blocks))
            self.pinned.add(cid_text(root))
            return 200, b'{"Root":{"Cid":{"/":"x"},"PinErrorMsg":""}}\n', None
        if "/pin/rm" in path:
            cid = path.rsplit("=", 1)[1]
            if cid not in self.pinned:
                return 500, b'{"Message":"not pinned or pinned indirectly","Code":0,"Type":"error"}', None
            self.pinned.discard(cid)
        return 200, b"{}\n", None


def nobody():
    """An address at which nobody listens"""
    with socket.create_server(("127.0.0.1", 0)) as s:
        return f"http://127.0.0.1:{s.getsockname()[1]}"


def cid_text(cid):
    return "b" + base64.b32encode(cid).decode().rstrip("=").lower()


def varint(data, at):
    n = shift = 0
    while True:
        n |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return n, at


def car(form):
    """The root and the blocks of the CAR in a form; every block is checked."""
    boundary = form.split(b"\r\n", 1)[0]
    data = form.split(b"\r\n\r\n", 1)[1]
    assert data.endswith(b"\r\n" + boundary + b"--\r\n")
    data = data[:-len(boundary) - 6]
    n, at = varint(data, 0)
    root = data[at:at + n].split(b"\xd8\x2a\x58\x27\x00", 1)[1][:38]
    at += n
    blocks = {}
    while at < len(data):
        n, at = varint(data, at)
        cid, block = data[at:at + 38], data[at + 38:at + n]
        assert cid[:6] in [b"\x01%c\xa0\xe4\x02\x20" % codec for codec in (0x55, 0x70, 0x71)], cid.hex()
        assert hashlib.blake2b(block, digest_size=32).digest() == cid[6:], "a wrong block in the CAR"
        blocks[cid] = block
        at += n
    return root, blocks


AGAIN = "/publish-this-nar-again-into-IPFS/"


@case
def publish_again(top, cache):
    item, big = cache.add(1, 200000), cache.add(2, 9_000_000)
    more = [cache.add(n, 1000) for n in range(3, 40)]
    a, b = Daemon(), Daemon()
    s = Server(top, cache, "--ipfs", a.url, "--ipfs", b.url, "--publish-again-queue", "10", "--publish-again-per-hour", "20")
    status, headers, _ = s.get(AGAIN + item, method="POST", body=b"")
    assert status == 202 and headers["Location"] == "/publish-again-status/" + item
    until(lambda: s.get("/publish-again-status/" + item)[2] == b"done\n")
    manifest = re.search(r"^ERIS-Manifest: (\S+)$", s.get(f"/{item[:32]}.narinfo")[2].decode(), re.M)[1]
    for d in (a, b):
        root, blocks = d.imports[0]
        assert cid_text(root) == manifest and root in blocks
        refs = {base64.b32encode(c[6:]).decode().rstrip("=") for c in blocks if c[1] == 0x55}
        assert set(s.refs(item)) <= refs and len(refs) == len(set(s.refs(item))) + 1       # and one node
        assert cache.narinfo(item).encode() in blocks[root]
        path, headers = d.requests[0]
        assert "pin-roots=true" in path and "origin" not in headers and "referer" not in headers
        assert not headers["user-agent"].startswith("Mozilla")
    assert s.get(AGAIN + item, method="POST", body=b"")[0] == 200
    # The same again and again while it runs: one import.
    a.mood = b.mood = "slow"
    codes = {s.get(AGAIN + big, method="POST", body=b"")[0] for _ in range(30)}
    assert codes == {202}, codes
    # A full queue; a spent quota.
    codes = [s.get(AGAIN + i, method="POST", body=b"") for i in more]
    assert codes[0][0] == 202 and codes[-1][0] == 429 and "Retry-After" in codes[-1][1], [c[0] for c in codes]
    a.mood = b.mood = "good"
    until(lambda: s.get("/publish-again-status/" + big)[2] == b"done\n", 60)
    assert sum(len(blocks) > 200 for _, blocks in a.imports) == 1
    for name in ("nothing", "x" * 300, "../../etc/passwd", "..%2f" * 10, "0" * 32 + "-x", item[:33], item + "x", item + "/", "%00",
            item + ".narinfo", ""):
        assert s.get(AGAIN + name, method="POST", body=b"")[0] == 404, name
    # A nar that leaves the cache leaves its pins behind it, for the next look.
    assert manifest in a.pinned and s.metric("again_done_total") >= 2
    return s


@case
def again_replaced(top, cache):
    """Nars that are replaced, changed or removed while a request for them waits: the status tells what became of them."""
    first, replaced, removed, changed, last = [cache.add(n, 300_000 + n) for n in range(1, 6)]
    d = Daemon()
    d.mood = "held"
    s = Server(top, cache, "--ipfs", d.url)
    status = lambda item: s.get("/publish-again-status/" + item)[::2]
    for item in (first, replaced, removed, changed):
        assert s.get(AGAIN + item, method="POST", body=b"")[0] == 202
    until(lambda: status(first) == (200, b"running\n"))
    # Gone and made again: another number in the index.
    for item in (replaced, removed):
        os.unlink(cache.nar(item) + "info")
        os.unlink(cache.nar(item))
    until(lambda: s.get(f"/{replaced[:32]}.narinfo")[0] == s.get(f"/{removed[:32]}.narinfo")[0] == 404)
    assert status(replaced) == status(removed) == (200, b"queued\n"), (status(replaced), status(removed))
    new = random.Random(99).randbytes(400_000)
    cache.write(replaced, new)
    until(lambda: s.urn(replaced))
    assert status(replaced) == (200, b"queued\n"), status(replaced)
    # Other bytes of the same size and time: it is found out when it is sent, and read again.
    st = os.stat(cache.nar(changed))
    with open(cache.nar(changed), "r+b") as f:
        f.seek(200_000)
        f.write(b"changed")
    os.utime(cache.nar(changed), ns=(st.st_atime_ns, st.st_mtime_ns))
    cache.items[changed] = open(cache.nar(changed), "rb").read()
    d.release.set()
    until(lambda: status(replaced) == status(changed) == (200, b"done\n"), 30)
    until(lambda: status(removed) == (200, b"gone\n"))
    assert status(last) == (404, b"Nobody has asked for this.\n") and status("0" * 32 + "-x")[0] == status("x")[0] == 404
    del cache.items[removed]
    for item, want in ((replaced, set(leaves(new))), (changed, set(leaves(cache.items[changed])))):
        assert any(want <= {base64.b32encode(c[6:]).decode().rstrip("=") for c in blocks} for _, blocks in d.imports), item
    return s


@case
def bad_daemons(top, cache):
    items = [cache.add(n, 2_000_000) for n in range(1, 8)]
    bad, url = Daemon(), nobody()
    s = Server(top, cache, "--ipfs", bad.url, "--ipfs", url)
    for item, mood in zip(items, ("error", "trailer", "unpinned", "cuts", "deaf", "good")):
        bad.mood = mood
        assert s.get(AGAIN + item, method="POST", body=b"")[0] == 202
        until(lambda: s.get("/publish-again-status/" + item)[2] == b"failed\n", 20)
    assert len(bad.imports) == 1 and s.metric("again_failed_total") == 6
    # A nar that is not as indexed is never published; it is read again, and then it is.
    item = items[6]
    st, urn = os.stat(cache.nar(item)), s.urn(item)
    with open(cache.nar(item), "r+b") as f:
        f.seek(1_500_000)
        f.write(b"changed")
    os.utime(cache.nar(item), ns=(st.st_atime_ns, st.st_mtime_ns))
    s.get(AGAIN + item, method="POST", body=b"")
    # What is seen first: that it failed, or that it was read again (the request was for what is no longer there).
    until(lambda: s.get("/publish-again-status/" + item)[2] == b"failed\n" or s.urn(item) not in (None, urn))
    until(lambda: s.urn(item) not in (None, urn))
    with open(cache.nar(item), "rb") as f:
        now = set(leaves(f.read()))
    for _, blocks in bad.imports[1:]:
        assert now <= {base64.b32encode(cid[6:]).decode().rstrip("=") for cid in blocks}, "an import of the nar that was"
    return s


@case
def push_and_forget(top, cache):
    items = [cache.add(n, 100_000) for n in range(1, 6)]
    d = Daemon()
    user = ["--user", USER] if os.geteuid() == 0 else []
    common = ["--config", "none", "--cache", cache.dir, "--state", top + "/state", "--ipfs", d.url, *user]
    assert subprocess.run([PROGRAM, "index", *common], stdout=subprocess.DEVNULL).returncode == 0
    run = lambda *names: subprocess.run([PROGRAM, "push", *names, *common], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p = run(items[0])
    assert p.returncode == 0 and len(d.imports) == 1, p
    p = run()
    assert p.returncode == 0 and len(d.imports) == 5 and b"4 nars pushed" in p.stdout, p     # not the first one again
    assert run().returncode == 0 and len(d.imports) == 5
    assert run("0" * 32 + "-nothing").returncode == 1 and run("x").returncode == 1
    pinned = set(d.pinned)
    os.unlink(cache.nar(items[1]))
    os.unlink(cache.nar(items[1]) + "info")
    del cache.items[items[1]]
    assert subprocess.run([PROGRAM, "index", *common], stdout=subprocess.DEVNULL).returncode == 0
    assert run().returncode == 0 and len(pinned - d.pinned) == 1 and len(d.imports) == 5
    d.mood = "error"
    cache.add(9, 1000)
    assert subprocess.run([PROGRAM, "index", *common], stdout=subprocess.DEVNULL).returncode == 0
    p = run()
    assert p.returncode == 1 and b"no space" in p.stderr, p
    # Index and server together: all nars, as they come.
    d.mood = "good"
    s = Server(top, cache, "--ipfs", d.url, "--push-all", "yes")
    cache.add(10, 70000)
    until(lambda: len(d.imports) == 7, 40)
    until(lambda: s.metric("pinned") == 6)
    return s


@case
def one_daemon_away(top, cache):
    """What one daemon does not take does not keep the other ones from getting it; what leaves the cache is unpinned soon."""
    items = [cache.add(n, 30_000) for n in range(1, 31)]
    good, url = Daemon(), nobody()
    user = ["--user", USER] if os.geteuid() == 0 else []
    common = ["--config", "none", "--cache", cache.dir, "--state", top + "/state", "--ipfs", url, "--ipfs", good.url, *user]
    assert subprocess.run([PROGRAM, "index", *common], stdout=subprocess.DEVNULL).returncode == 0
    p = subprocess.run([PROGRAM, "push", *common], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert p.returncode == 1 and len(good.imports) == 30 and url.encode() + b" was given up" in p.stderr, (len(good.imports), p)
    shutil.rmtree(top + "/state")
    good.imports, good.pinned = [], set()
    s = Server(top, cache, "--ipfs", url, "--ipfs", good.url, "--push-all", "yes")
    until(lambda: len(good.pinned) == 30, 40)
    gone = items[3]
    manifest = re.search(r"^ERIS-Manifest: (\S+)$", s.get(f"/{gone[:32]}.narinfo")[2].decode(), re.M)[1]
    assert manifest in good.pinned
    os.unlink(cache.nar(gone))
    os.unlink(cache.nar(gone) + "info")
    del cache.items[gone]
    until(lambda: manifest not in good.pinned, 60)
    assert len(good.pinned) == 29
    return s


# --- Upstream -----------------------------------------------------------------------------------------------------------------

class Upstream(Daemon):
    """A guix publish that bakes what is asked for."""

    def __init__(self, cache):
        self.cache, self.known = cache, {}
        super().__init__()

    def serve(self, c):
        f = c.makefile("rb")
        try:
            while (line := f.readline()):
                while f.readline().strip():
                    pass
                part = line.split()[1].decode()[1:33]
                self.requests.append((line.split()[1].decode(), {}))
                what = self.known.get(part, "absent")
                if what == "hangs":
                    time.sleep(30)
                    return
                status, headers, body = {"absent": (404, "Cache-Control: max-age=7\r\n", b"Resource not found"),
                    "large": (404, "Cache-Control: max-age=300\r\nX-Baking: 1\r\n", b"We're baking it"),
                    "error": (500, "Cache-Control: max-age=9999\r\n", b"oops"),
                    "endless": (200, "Content-Type: application/x-nix-narinfo\r\n", b"x" * 2_000_000)}.get(what, (200,
                    "Cache-Control: max-age=300\r\n", b""))
                if status == 200 and not body:
                    body = f"StorePath: /gnu/store/{what}\nURL: nar/zstd/{what}\n".encode()
                    threading.Timer(1.5, self.cache.write, (what, random.Random(5).randbytes(90000))).start()
                c.sendall(f"HTTP/1.1 {status} x\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        except OSError:
            pass
        c.close()


@case
def upstream(top, cache):
    cache.add(1, 1000)
    up = Upstream(cache)
    s = Server(top, cache, "--upstream", up.url + "/", "--negative-ttl", "99")
    r = random.Random(4)
    items = {what: "".join(r.choice(DIGITS) for _ in range(32)) + "-" + what
        for what in ("small", "large", "error", "endless", "hangs", "absent")}
    for what, item in items.items():
        up.known[item[:32]] = item if what == "small" else what
    path = {what: f"/{item[:32]}.narinfo" for what, item in items.items()}
    status, headers, body = s.get(path["small"])
    assert status == 200 and headers["Cache-Control"] == "max-age=300" and items["small"].encode() in body and b"ERIS" not in body
    # Its nar is not baked yet: whoever asks waits for it.
    status, headers, body = s.get("/nar/zstd/" + items["small"])
    assert status == 200 and len(body) == 90000
    until(lambda: s.urn(items["small"]))
    status, headers, _ = s.get(path["large"])
    assert status == 404 and headers["X-Baking"] == "1" and headers["Cache-Control"] == "max-age=300"
    status, headers, _ = s.get(path["absent"])
    assert status == 404 and headers["Cache-Control"] == "max-age=7" and "X-Baking" not in headers
    for what in ("error", "endless"):
        status, headers, _ = s.get(path[what])
        assert status == 404 and "Cache-Control" not in headers, (what, headers)
    begin = time.monotonic()
    assert s.get("/nar/zstd/" + items["large"])[0] == 404 and time.monotonic() - begin < 2       # it promised nothing
    # One that hangs holds nobody else up.
    waiting = threading.Thread(target=lambda: s.get(path["hangs"]))
    waiting.start()
    begin = time.monotonic()
    assert s.get("/healthz")[0] == 200 and s.get(path["absent"])[0] == 404 and time.monotonic() - begin < 2
    waiting.join(20)
    assert not waiting.is_alive()
    # A thousand questions at once, and one of them of our own.
    one = "".join(f"GET /{''.join(r.choice(DIGITS) for _ in range(32))}.narinfo HTTP/1.1\r\nHost: x\r\n\r\n" for _ in range(1000))
    got = s.raw((one + "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").encode(), 20)
    assert got.count(b"HTTP/1.1 404") == 1000 and got.count(b"HTTP/1.1 200") == 1, got.count(b"HTTP/1.1 404")
    for bad in ("../" * 10, "%0d%0aX:%20y" + "a" * 20, "e" * 32):
        assert s.get(f"/{bad}.narinfo")[0] in (400, 404)
    assert not any(".." in p or "eeee" in p for p, _ in up.requests)
    # Nobody there any more.
    up.listener.close()
    s.process.send_signal(signal.SIGHUP)
    time.sleep(2)
    assert s.get("/healthz")[0] == 200
    return s


class Origin:
    """A server that has narinfos and nars, but no directory here."""

    def __init__(self):
        import http.server
        self.nars, self.infos, self.asked, self.random = {}, {}, [], random.Random(8)
        up = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                up.asked.append(self.path)
                body = up.infos.get(self.path[1:33]) if self.path.endswith(".narinfo") else up.nars.get(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header("Cache-Control", "max-age=55")
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                for at in range(0, len(body or b""), 100_000):
                    if b"slow" in self.path.encode():
                        time.sleep(0.2)
                    self.wfile.write(body[at:at + 100_000])

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None     # who has enough closes
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add(self, name, size, told=None, missing=False, untold=False):
        item = "".join(self.random.choice(DIGITS) for _ in range(32)) + "-" + name
        data = {c: self.random.randbytes(size) for c in ("zstd", "lzip")}
        for c in data:
            if not (missing and c == "lzip"):
                self.nars[f"/nar/{c}/{item}"] = data[c]
        self.infos[item[:32]] = (f"StorePath: /gnu/store/{item}\nNarHash: sha256:{'0' * 52}\nNarSize: 1\nReferences: \nSignature: 1;vm;AAAA\n"
            + "".join(f"URL: nar/{c}/{item}\nCompression: {c}\n" + ("" if untold else f"FileSize: {told or size}\n") for c in data)).encode()
        return item, data

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Mirror(Server):
    """The server without a cache directory, only with the URL of an upstream server."""

    def __init__(self, top, cache, up, *options):
        cache.items = {}
        shutil.rmtree(cache.dir, ignore_errors=True)
        self.top, self.cache, self.state, self.log = top, cache, top + "/state", open(top + "/log", "ab+")
        self.command = [PROGRAM, "serve", "--config", "none", "--upstream", f"http://127.0.0.1:{up.server.server_address[1]}",
            "--state", self.state, "--listen", "127.0.0.1:0", *(["--user", USER] if os.geteuid() == 0 else []), *options]
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=self.log)
        self.port = int(self.process.stdout.readline().decode().rsplit(":", 1)[1].rstrip("/\n"))

    def restart(self, forget=False):
        self.process.terminate()
        assert self.process.wait(30) == 0
        self.process.stdout.close()
        if forget:
            os.unlink(self.state + "/index.sqlite")
        self.start()

    def kept(self):
        return sorted(f for _, _, fs in os.walk(self.state + "/nars") for f in fs)


@case
def own_cache(top, cache):
    """No directory of the upstream server, only its URL: nars come to the state directory, and blocks from there."""
    up = Origin()
    nars, infos, asked, add = up.nars, up.infos, up.asked, up.add
    good, slow, lies, half = add("good", 300_000), add("slow", 1_000_000), add("lies", 50_000, 60_000), add("half", 50_000, missing=True)
    evil = add("evil", 1000)
    infos[evil[0][:32]] = infos[evil[0][:32]].replace(b"nar/zstd/" + evil[0].encode(), b"nar/../../../x/" + evil[0].encode())
    s = Mirror(top, cache, up)
    for item, data in (good, slow):
        status, headers, body = s.get(f"/{item[:32]}.narinfo")
        assert (status, body, headers["Cache-Control"]) == (200, infos[item[:32]], "max-age=55"), (status, body)
        # Whoever asks at once waits until it is there.
        assert s.get(f"/nar/zstd/{item}")[2] == data["zstd"] and s.get(f"/nar/lzip/{item}")[2] == data["lzip"]
        until(lambda: s.get(f"/{item[:32]}.narinfo")[2].count(b"\nERIS: ") == 2)
        added = s.get(f"/{item[:32]}.narinfo")[2].decode()
        assert "".join(l for l in added.splitlines(True) if not l.startswith("ERIS")).encode() == infos[item[:32]]
        assert s.block(leaves(data["lzip"])[1]) == s.block(leaves(data["zstd"])[0]) == 200
    assert sum(good[0] in p for p in asked if p.startswith("/nar")) == 2, asked
    # What is not as it was said, or not there, is not kept; the server goes on.
    for item, _ in (lies, half, evil):
        assert s.get(f"/{item[:32]}.narinfo")[0] == 200
    until(lambda: s.text().count("not as long as its narinfo says") and half[0] in s.text())
    time.sleep(0.5)
    kept = s.kept()
    assert not [f for f in kept if lies[0] in f or f.endswith(".part") or f == half[0] + ".narinfo" or f == evil[0] + ".narinfo"], kept
    assert not os.path.exists(top + "/x") and s.get("/healthz")[0] == 200
    # It is there without the upstream server, and after a restart.
    up.close()
    s.restart()
    item, data = good
    until(lambda: s.block(leaves(data["zstd"])[0]) == 200)
    assert s.get(f"/nar/zstd/{item}")[2] == data["zstd"] and s.get(f"/{item[:32]}.narinfo")[2].count(b"\nERIS: ") == 2
    return s


@case
def own_cache_limit(top, cache):
    """What nobody has used for longest makes room; what is used, or just came, stays."""
    up = Origin()
    items = [up.add(f"item-{n}", 300_000) for n in range(6)]
    s = Mirror(top, cache, up, "--mirror-size", "2")

    def fetch(item, data):
        assert s.get(f"/{item[:32]}.narinfo")[0] == 200
        return s.get(f"/nar/zstd/{item}")[2] == data["zstd"] and s.get(f"/nar/lzip/{item}")[2] == data["lzip"]

    def complete(item):
        return sum(item in f for f in s.kept() if f[0] != ".") == 3

    days_ago = time.time_ns() - 5 * 86400 * 10**9

    def age(item):
        for f in glob.glob(f"{s.state}/nars/*/{item}.*"):
            os.utime(f, ns=(days_ago, days_ago))

    for item, data in items[:3]:
        assert fetch(item, data)
        until(lambda: complete(item))
    # To be read for a new index is no use.
    for i, _ in items[:3]:
        age(i)
    s.restart(forget=True)
    until(lambda: all(s.get(f"/{i[:32]}.narinfo")[2].count(b"\nERIS: ") == 2 for i, _ in items[:3]))
    assert {os.stat(f).st_atime_ns for f in glob.glob(s.state + "/nars/*/*.nar")} == {days_ago}
    # Of three that are old one is used: by a nar or by a block.  Another one goes.
    for n, use in enumerate((lambda i, d: s.get(f"/nar/lzip/{i}")[2] == d["lzip"], lambda i, d: s.block(leaves(d["zstd"])[1]) == 200)):
        old = [i for i in items if complete(i[0])]
        assert len(old) == 3
        for i, _ in old:
            age(i)
        s.restart()
        until(lambda: all(s.get(f"/{i[:32]}.narinfo")[2].count(b"\nERIS: ") == 2 for i, _ in old) and use(*old[1]))     # all were read
        for i, _ in old:
            age(i)
        until(lambda: use(*old[1]) and any(os.stat(f).st_atime > time.time() - 60 for f in glob.glob(f"{s.state}/nars/*/{old[1][0]}.nar")))
        new = items[3 + n]
        until(lambda: s.get(f"/{new[0][:32]}.narinfo")[0] == 200 and complete(new[0]))
        assert sum(complete(i) for i, _ in items) == 3 and complete(old[1][0]), s.kept()
        assert s.text().count("that were not used for longest have left") == 1 + n, s.text()
    # Who lost his place comes back; the index has forgotten him meanwhile.
    lost = next(i for i in items if not complete(i[0]))
    until(lambda: s.get(f"/{lost[0][:32]}.narinfo")[0] == 200 and complete(lost[0]))
    until(lambda: s.urn(lost[0]))
    # All is in use: one more is not fetched, and that is told.
    assert s.get(f"/{items[5][0][:32]}.narinfo")[0] == 200
    until(lambda: "mirror-size has no room for it" in s.text())
    assert not complete(items[5][0]) and sum(complete(i) for i, _ in items) == 3
    # Larger than all, with and without its size being told.
    for big, message in ((up.add("big", 2_100_000), "no room for it"), (up.add("untold", 2_100_000, untold=True), "Disk quota exceeded")):
        assert s.get(f"/{big[0][:32]}.narinfo")[0] == 200
        until(lambda: message in s.text())
        until(lambda: not any(big[0] in f for f in s.kept()))
    assert not any(p.endswith("-big") for p in up.asked)
    total = sum(os.path.getsize(f) for f in glob.glob(s.state + "/nars/*/*"))
    assert total <= 2_000_000, total
    up.close()
    return s


@case
def own_cache_limit_of_large_sizes(top, cache):
    """A size near 2^64 beside a nar under way does not pass for a small one."""
    up = Origin()
    slow, huge = up.add("slow", 1_500_000), up.add("huge", 5_000_000, told=18446744073709551600)
    s = Mirror(top, cache, up, "--mirror-size", "4")
    assert s.get(f"/{slow[0][:32]}.narinfo")[0] == 200
    until(lambda: any("-slow" in p for p in up.asked))
    assert s.get(f"/{huge[0][:32]}.narinfo")[0] == 200
    until(lambda: "no room for it" in s.text())
    assert not any(p.endswith("-huge") for p in up.asked), up.asked
    up.close()
    return s


# --- Operation --------------------------------------------------------------------------------------------------------------

@case
def locked(top, cache):
    cache.add(1, 1000)
    s = Server(top, cache)
    for p in (s.process.pid, *s.children()):
        status = open(f"/proc/{p}/status").read()
        assert re.search(r"^NoNewPrivs:\t1$", status, re.M) and re.search(r"^CapEff:\t0+$", status, re.M), status
        assert re.search(r"^CapPrm:\t0+$", status, re.M) and not re.search(r"^Uid:\t0\t", status, re.M), status
        assert re.search(r"^Seccomp:\t2$", status, re.M), status
    return s


@case
def unit_exposure(top, cache):
    if shutil.which("systemd-analyze") is None:
        raise Skip("no systemd-analyze")
    with open(HERE + "/../../policy/systemd/narlock-publish.service.in") as f, open(top + "/narlock-publish.service", "w") as g:
        g.write(f.read().replace("@BINDIR@/narlock-publish", "/bin/true"))
    p = subprocess.run(["systemd-analyze", "security", "--offline=true", top + "/narlock-publish.service"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", p.stdout.decode())
    if level is None:
        raise Skip("systemd-analyze says nothing here")
    assert float(level[1]) <= 1.3, level[0]


@case
def access_log(top, cache):
    item = cache.add(1, 1000)
    s = Server(top, cache)
    s.get(f"/nar/zstd/{item}")
    assert "access:" not in s.text()
    s.process.send_signal(signal.SIGTERM)
    s.end()
    s = Server(top, cache, "--access-log", "yes")
    s.get(f"/nar/zstd/{item}", {"Range": "bytes=0-9"})
    s.block(s.refs(item)[0])
    s.raw(b"GET /a%0ab%1b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    until(lambda: f"access: 127.0.0.1 GET /nar/zstd/{item} 206 10\n" in s.text())
    until(lambda: "access: 127.0.0.1 GET /uri-res/N2R 200 32768\n" in s.text())
    until(lambda: "access: 127.0.0.1 GET /a" in s.text())
    assert "\x1b" not in s.text() and "\nb" not in s.text()
    return s


@case
def refuses_root(top, cache):
    if os.geteuid() != 0:
        raise Skip("only root can try")
    cache.add(1, 1000)
    for user in ("root", "no-such-user-here"):
        p = subprocess.run([PROGRAM, "serve", "--config", "none", "--cache", cache.dir, "--state", top + "/state", "--listen",
            "127.0.0.1:0", "--user", user], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20)
        assert p.returncode == 1 and b"no user" in p.stderr, p


@case
def private_state(top, cache):
    """Commands by hand beside a unit with DynamicUser=: its state directory is behind a link, where only root can go."""
    if os.geteuid() != 0:
        raise Skip("only root can try")
    cache.add(1, 100_000)
    os.makedirs(top + "/private/state")
    os.chmod(top + "/private", 0o700)
    shutil.chown(top + "/private/state", USER)
    os.symlink("private/state", top + "/state")
    for user in (USER, "no-such-user-here"):
        common = ["--config", "none", "--cache", cache.dir, "--state", top + "/state", "--user", user]
        for command in ("index", "status", "verify"):
            p = subprocess.run([PROGRAM, command, *common], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20)
            assert p.returncode == 0, (user, command, p)
    assert os.stat(top + "/private/state/index.sqlite").st_uid == os.stat(top + "/private/state").st_uid != 0
    assert os.listdir(top + "/private") == ["state"]
    p = subprocess.run([PROGRAM, "serve", *common, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20)
    assert p.returncode == 1 and b"dynamic user" in p.stderr, p
    # A link that somebody else has laid is not followed.
    os.makedirs(top + "/root-state")
    os.lchown(top + "/state", 12345, 12345)
    p = subprocess.run([PROGRAM, "status", *common], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20)
    assert p.returncode == 1 and b"is no directory" in p.stderr, p
    os.unlink(top + "/state")
    os.symlink("root-state", top + "/state")
    common[-1] = USER
    p = subprocess.run([PROGRAM, "index", *common], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20)
    assert p.returncode == 1 and os.stat(top + "/root-state").st_uid == 0, p


@case
def bad_commands(top, cache):
    for arguments in ([], ["nothing"], ["serve", "--nothing", "1"], ["serve", "--cache"], ["status", "x"]):
        assert subprocess.run([PROGRAM, *arguments], stderr=subprocess.DEVNULL, timeout=20).returncode == 2, arguments
    for arguments in (["serve"], ["serve", "--cache", "relative"], ["serve", "--cache", "/nonexistent", "--threads", "0"],
            ["index", "--cache", cache.dir + "/none", "--state", top + "/state"], ["serve", "--config", "/nonexistent"]):
        p = subprocess.run([PROGRAM, arguments[0], *([] if "--config" in arguments else ["--config", "none"]), "--user", USER,
            *arguments[1:]], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20)
        assert p.returncode == 1 and p.stderr, (arguments, p)


@case
def reload_and_leave(top, cache):
    item = cache.add(1, 20_000_000)
    s = Server(top, cache, "--drain-timeout", "60")
    c = socket.create_connection(("127.0.0.1", s.port))
    c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    c.sendall(f"GET /nar/zstd/{item} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    got = c.recv(1000)
    old = s.web()
    s.process.send_signal(signal.SIGHUP)
    until(lambda: s.web() != old or len(s.children()) > 2)
    until(lambda: s.get("/healthz")[0] == 200)
    # What was under way is finished by the old process.
    while True:
        piece = c.recv(1 << 20)
        if not piece:
            break
        got += piece
    assert got.split(b"\r\n\r\n", 1)[1] == cache.items[item]
    until(lambda: old not in s.children(), 10)
    assert s.urn(item)
    # Idle connections of the old one, or of one that is killed, are not counted for ever, nor twice.
    idle = [socket.create_connection(("127.0.0.1", s.port)) for _ in range(50)]
    until(lambda: 50 <= s.metric("connections") <= 55)
    old = s.web()
    s.process.send_signal(signal.SIGHUP)
    until(lambda: s.web() != old)
    until(lambda: s.metric("connections") <= 5)
    for c in idle:
        c.close()
    idle = [socket.create_connection(("127.0.0.1", s.port)) for _ in range(50)]
    until(lambda: s.metric("connections") >= 50)
    old = s.web()
    os.kill(old, signal.SIGKILL)

    def few():
        try:
            return s.web() != old and s.metric("connections") <= 5
        except (OSError, ValueError, http.client.HTTPException):
            return False     # a new one takes over

    until(few)
    for c in idle:
        c.close()
    return s


@case
def soak(top, cache):
    """An hour's worth of requests in some seconds: neither descriptors nor memory grow."""
    items = [cache.add(n, 400_000 + n) for n in range(1, 40)]
    s = Server(top, cache, "--requests-per-second", "0")
    refs = [r for i in items[:6] for r in s.refs(i)]
    web = s.web()

    def size():
        with open(f"/proc/{web}/status") as f:
            return int(re.search(r"RssAnon:\s+(\d+)", f.read())[1]), len(os.listdir(f"/proc/{web}/fd"))

    def work(seconds):
        end, n = time.monotonic() + seconds, 0
        c = None
        while time.monotonic() < end:
            n += 1
            if c is None or n % 50 == 0:
                c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=20)
            item = random.choice(items)
            path = random.choice([f"/{item[:32]}.narinfo", f"/nar/zstd/{item}", "/uri-res/N2R?urn:blake2b:" + random.choice(refs),
                "/eris/" + item[:32], "/", "/metrics", "/nar/zstd/nothing", "/uri-res/N2R?urn:blake2b:" + "A" * 52])
            try:
                c.request("GET", path)
                r = c.getresponse()
                if random.random() < 0.05:
                    c.close()                  # leaves in the middle
                    c = None
                else:
                    r.read()
            except (OSError, http.client.HTTPException):
                c = None

    def all_work(seconds):
        threads = [threading.Thread(target=work, args=(seconds,)) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()

    all_work(4)
    rss, fds = size()
    all_work(8)
    time.sleep(0.5)
    rss2, fds2 = size()
    assert fds2 <= fds + 60 and rss2 <= rss + 4096, (rss, rss2, fds, fds2)
    return s


def main():
    passed = failed = skipped = 0
    for f in CASES:
        name = f.__name__
        if WORDS and not any(w in name for w in WORDS):
            continue
        top = tempfile.mkdtemp(prefix="narlock-publish-")
        os.chmod(top, 0o755)
        server = None
        try:
            server = f(top, Cache(top))
            if server is not None:
                assert server.get("/metrics")[0] == 200
                server.end()
            passed += 1
            print("ok", name, flush=True)
        except Skip as e:
            skipped += 1
            print(f"SKIP {name}: {e}", flush=True)
        except BaseException as e:
            failed += 1
            print(f"not ok {name}: {type(e).__name__} {str(e)[:500]}", flush=True)
            traceback.print_exc()
            log = top + "/log"
            if os.path.exists(log):
                sys.stderr.write("".join("    " + l for l in open(log, errors="replace").readlines()[-15:]))
            if isinstance(e, KeyboardInterrupt):
                raise
        finally:
            for p in Leftovers.of(top):
                os.kill(p, signal.SIGKILL)
            shutil.rmtree(top, ignore_errors=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return failed != 0


class Leftovers:
    """Servers of a case that failed: those whose command line names its directory."""

    @staticmethod
    def of(top):
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            try:
                with open(path, "rb") as f:
                    if top.encode() in f.read():
                        yield int(path.split("/")[2])
            except OSError:
                pass


if __name__ == "__main__":
    sys.exit(main())
