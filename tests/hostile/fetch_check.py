#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests: what the real fetch program finds of sources of blocks when it is told to check them (`narlock doctor').

    fetch_check.py [DIRECTORY with fetch] [WORD...]     (default: build/bin)

Lines `ok NAME', `not ok NAME: why', `SKIP NAME: why'; exit 1 if a case failed."""
import base64, hashlib, http.server, json, os, re, select, socket, sys, tempfile, threading, time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fetch_wire import *  # noqa: E402,F403

WORDS = [w for w in sys.argv[1:] if not os.path.isdir(w)]
HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = os.path.abspath(([d for d in sys.argv[1:] if os.path.isdir(d)] + [HERE + "/../../build/bin"])[0])
USABLE, NOTE, USELESS, SUM = range(4)
CASES = []


def case(f):
    CASES.append(f)
    return f


def cid(block):
    raw = bytes([1, 0x55, 0xa0, 0xe4, 2, 32]) + hashlib.blake2b(block, digest_size=32).digest()
    return "b" + base64.b32encode(raw).decode().rstrip("=").lower()


class Web(http.server.ThreadingHTTPServer):
    """A server whose answers a function gives: answer(handler, body) -> (status, body) or None: nothing, for ever."""
    daemon_threads = True

    def __init__(self, answer):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.seen.append((self.command, self.path, dict(self.headers), body))
                reply = answer(self, body)
                if reply is None:
                    outer.hold.wait(60)
                    return
                status, data, *more = reply
                self.send_response(status)
                for name, value in more:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_POST = do_HEAD = do

            def log_message(self, *_):
                pass
        self.seen, self.hold = [], threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)
        self.port = self.server_address[1]
        self.url = "http://127.0.0.1:%d" % self.port
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        pass

    def close(self):
        self.hold.set()
        self.shutdown()
        self.server_close()


class Daemon(Web):
    """An IPFS daemon; `twist' may answer instead: twist(name, handler) -> (status, body), None: as usual."""

    def __init__(self, twist=lambda name, handler: None):
        self.blocks, self.removed = {}, []

        def answer(h, body):
            name = h.path.split("?")[0]
            odd = twist(name, h)
            if odd == "hang":
                return None
            if odd is not None:
                return odd
            error = lambda text, status=500: (status, json.dumps({"Message": text, "Code": 0, "Type": "error"}).encode())
            arg = (re.findall(r"[?&]arg=([^&]*)", h.path) + [""])[0]
            if h.command != "POST":
                return 405, b"405 - Method Not Allowed\n"
            if "Origin" in h.headers or "Referer" in h.headers or h.headers.get("User-Agent", "").startswith("Mozilla"):
                return 403, b"403 - Forbidden\n"
            if name == "/api/v0/version":
                return 200, b'{"Version":"0.99.0","Commit":"","Repo":"18","System":"amd64/linux","Golang":"go1"}\n'
            if name == "/api/v0/id":
                return 200, json.dumps({"ID": "12D3", "Addresses": ["/ip4/127.0.0.1/tcp/4001"] * 50,
                                        "AgentVersion": "kubo/0.99.0/\u2603\n"}).encode()
            if name == "/api/v0/block/put":
                data = body.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0]
                assert "pin=false" in h.path, h.path
                self.blocks[cid(data)] = data
                return 200, json.dumps({"Key": cid(data), "Size": len(data)}).encode() + b"\n"
            if name == "/api/v0/block/get":
                return (200, self.blocks[arg]) if arg in self.blocks else error("ipld: could not find " + arg)
            if name == "/api/v0/block/rm":
                self.removed.append(arg)
                return 200, json.dumps({"Hash": arg, "Error": ""}).encode()
            return 404, b"404 page not found\n"
        super().__init__(answer)
        self.address = "/ip4/127.0.0.1/tcp/%d" % self.port


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def check(*options, indexes=(), timeout=15, twice=False, **settings):
    """The outcomes [(status, source, reason)...] and the sum."""
    h = Helper(os.path.join(PROGRAMS, "fetch"), environment(options))
    try:
        h.sealed()
        h.settings(**{"stall": 1000, "connect": 1000, **settings})
        for i, u in enumerate(indexes):
            h.server(i, u, 2)
        for key, value in options:
            h.option(key, value)
        h.check()
        found, end = [], time.monotonic() + timeout
        while True:
            m = h.recv(end - time.monotonic())
            if m["t"] == "RESOLVE":
                h.addresses(m["host"])
                continue
            assert m["t"] == "CHECKED", m
            assert all(" " <= c <= "~" for c in m["source"] + m["reason"]), m
            if m["status"] == SUM:
                break
            found.append((m["status"], m["source"], m["reason"]))
        if twice:
            h.check()
            while h.recv(timeout)["status"] != SUM:
                pass
        code = h.close()
        assert code == 0, (code, h.log)
        return found, m["reason"]
    finally:
        h.kill()


def one(found, status, *words):
    assert len(found) == 1 and found[0][0] == status and all(w in found[0][2] for w in words), found


@case
def a_daemon_with_everything():
    d = Daemon()
    found, total = check(("ipfs", d.address), twice=True)
    one(found, USABLE, "version 0.99.0", "agent kubo/0.99.0/", "put and read back")
    assert found[0][1] == "ipfs 127.0.0.1:%d" % d.port, found
    assert total == "1 of 1 block sources usable", total
    assert len(d.blocks) == 2 and sorted(d.blocks) == sorted(d.removed), "what was put was not removed"
    assert all(len(b) == 1024 for b in d.blocks.values())
    d.close()


@case
def no_daemon_where_one_is_expected_by_default():
    # nobody listens on 5001 here, or a daemon does and answers
    found, total = check()
    assert found[0][1] == "ipfs 127.0.0.1:5001" and found[0][0] in (USABLE, NOTE), found
    if found[0][0] == NOTE:
        one(found, NOTE, "ipfs daemon", "`ipfs ='")
        assert total.startswith("0 of 1 block sources usable"), total


@case
def ipfs_switched_off():
    found, total = check(("ipfs", ""))
    assert found == [] and total.startswith("0 of 0 block sources usable"), (found, total)


@case
def no_daemon_where_the_file_says_one_is():
    found, _ = check(("ipfs", "/ip4/127.0.0.1/tcp/%d" % free_port()))
    one(found, USELESS, "no daemon there", "start it", "`ipfs ='")


@case
def a_daemon_that_hangs():
    start = time.monotonic()
    d = Daemon(lambda name, h: "hang")
    found, _ = check(("ipfs", d.address))
    one(found, USELESS, "hangs", "restart")
    assert time.monotonic() - start < 10
    d.close()


@case
def a_daemon_that_hangs_later():
    for step in ("/api/v0/id", "/api/v0/block/put", "/api/v0/block/get", "/api/v0/block/rm"):
        d = Daemon(lambda name, h: "hang" if name == step else None)
        found, _ = check(("ipfs", d.address))
        one(found, USELESS, "hangs")
        d.close()


@case
def a_daemon_that_wants_a_secret():
    def guard(name, h):
        return (403, b"Kubo RPC Access Denied\n") if h.headers.get("Authorization") != "Bearer right" else None
    d = Daemon(guard)
    one(check(("ipfs", d.address))[0], USELESS, "refuses us (HTTP 403)", "`ipfs = ADDRESS Bearer TOKEN'")
    one(check(("ipfs", d.address + " Bearer wrong"))[0], USELESS, "HTTP 403", "correct the secret")
    found, _ = check(("ipfs", d.address + " Bearer right"))
    one(found, USABLE)
    assert "right" not in repr(found)
    d.close()


@case
def a_daemon_that_lets_nobody_put():
    d = Daemon(lambda name, h: (403, b"no\n") if name.endswith("/put") else None)
    found, sums = check(("ipfs", d.address))
    one(found, NOTE, "version 0.99.0; gives blocks, but takes none", "/api/v0/block")
    assert "1 of 1" in repr(sums), sums
    d.close()
    d = Daemon(lambda name, h: (403, b"no\n") if "block/" in name else None)
    one(check(("ipfs", d.address))[0], USELESS, "version 0.99.0, but refuses us", "/api/v0/block")
    d.close()
    d = Daemon(lambda name, h: (500, b'{"Message":"disk full","Code":0,"Type":"error"}') if name.endswith("/put") else None)
    one(check(("ipfs", d.address))[0], USELESS, "when a block is put", "disk")
    d.close()


@case
def a_daemon_that_gives_another_block():
    d = Daemon(lambda name, h: (200, b"x" * 1024) if name.endswith("/get") else None)
    one(check(("ipfs", d.address))[0], USELESS, "block that was just put")
    d.close()
    d = Daemon(lambda name, h: (200, b"x" * 100000) if name.endswith("/get") else None)
    one(check(("ipfs", d.address))[0], USELESS, "block that was just put")
    d.close()


@case
def something_that_is_no_daemon():
    for status in (200, 301, 404, 502):
        w = Web(lambda h, body: (status, b"<html>hello</html>"))
        one(check(("ipfs", w.url))[0], USELESS, "HTTP %d" % status, "RPC API")
        w.close()


@case
def a_unix_socket():
    d = Daemon()
    with tempfile.TemporaryDirectory() as top:
        path = top + "/api.sock"
        os.chmod(top, 0o755)
        s = socket.socket(socket.AF_UNIX)
        s.bind(path)
        os.chmod(path, 0o777)
        s.listen(8)

        def relay(a, b):
            while (data := a.recv(65536)):
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)

        def serve():
            while True:
                try:
                    c = s.accept()[0]
                except OSError:
                    return
                up = socket.create_connection(("127.0.0.1", d.port))
                for pair in ((c, up), (up, c)):
                    threading.Thread(target=relay, args=pair, daemon=True).start()
        threading.Thread(target=serve, daemon=True).start()
        found, _ = check(("ipfs", "unix:" + path))
        one(found, USABLE, "version 0.99.0")
        s.close()
    d.close()


@case
def gateways():
    g = Web(lambda h, body: (200, b"") if h.path == "/ipfs/bafkqaaa?format=raw" else (404, b""))
    one(check(("ipfs", ""), ("ipfs-gateway", g.url))[0], USABLE, "empty block")
    assert all(s[0] == "GET" for s in g.seen)
    g.close()
    for status in (301, 404, 429, 500):
        g = Web(lambda h, body: (status, b"no", ("Location", "http://127.0.0.1:1/")))
        one(check(("ipfs", ""), ("ipfs-gateway", g.url))[0], USELESS, "HTTP %d" % status, "`ipfs-gateway'")
        assert len(g.seen) == 1, "a redirect was followed"
        g.close()
    g = Web(lambda h, body: (200, b"<html>I answer everything</html>"))
    one(check(("ipfs", ""), ("ipfs-gateway", g.url))[0], USELESS, "is no gateway")
    g.close()
    one(check(("ipfs", ""), ("ipfs-gateway", "http://127.0.0.1:%d" % free_port()))[0], USELESS, "cannot be reached")
    one(check(("ipfs", ""), ("ipfs-gateway", "http://no.such.host"))[0], USELESS, "cannot be reached", "not found")


@case
def block_servers():
    b = Web(lambda h, body: (404, b"") if h.path.startswith("/uri-res/N2R?urn:blake2b:") else (400, b""))
    one(check(("ipfs", ""), ("block-server", b.url))[0], USABLE, "answers")
    b.close()
    b = Web(lambda h, body: (200, b"z" * 1024))
    one(check(("ipfs", ""), ("block-server", b.url))[0], USELESS, "`block-server'")
    b.close()
    b = Web(lambda h, body: None)
    one(check(("ipfs", ""), ("block-server", b.url))[0], USELESS, "hangs")
    b.close()


@case
def indexes():
    i = Web(lambda h, body: (404, b"") if h.path == "/x/eris/" + "0" * 32 else (500, b""))
    found, total = check(("ipfs", ""), indexes=[i.url + "/x", i.url + "/y", "http://127.0.0.1:%d" % free_port(), "file:///z"])
    assert [f[0] for f in found] == [USABLE, USELESS, USELESS, USELESS], found
    assert all(f[1].startswith("index ") for f in found) and "`eris-index'" in found[1][2], found
    assert total.startswith("0 of 0 block"), total
    i.close()


@case
def all_at_once_and_the_sum():
    d, g = Daemon(), Web(lambda h, body: (200, b""))
    hang = [Web(lambda h, body: None) for _ in range(5)]
    start = time.monotonic()
    found, total = check(("ipfs", d.address), ("ipfs-gateway", g.url), *[("block-server", w.url) for w in hang])
    assert time.monotonic() - start < 10, "one after the other"
    assert [f[0] for f in found] == [USABLE, USABLE] + [USELESS] * 5, found
    assert total == "2 of 7 block sources usable", total
    for w in hang + [d, g]:
        w.close()


@case
def lines_that_make_no_sense():
    found, _ = check(("ipfs", ""), ("block-timeout", "soon"), ("ipfs-gateway", "ftp://x"), ("no-such-key", "1"))
    assert [f[:2] for f in found] == [(USELESS, "block-timeout"), (USELESS, "ipfs-gateway"), (USELESS, "no-such-key")], found
    assert all("left out" in f[2] for f in found)


def main():
    good = bad = 0
    for c in CASES:
        name = c.__name__
        if WORDS and not any(w in name for w in WORDS):
            continue
        try:
            c()
            good += 1
            print("ok", name, flush=True)
        except Exception as e:  # noqa: BLE001: every failure is a line
            bad += 1
            print("not ok %s: %s: %s" % (name, type(e).__name__, e), flush=True)
    print("%d passed, %d failed, 0 skipped" % (good, bad))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
