#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests: the real fetch and resolve programs behind their real locks, against servers that lie.

    fetch.py [DIRECTORY with fetch and resolve] [WORD...]     (default: build/bin)

One line per case: `ok NAME', `not ok NAME: why' or `SKIP NAME: why'; then the sums.  Exit 1 if a case failed.  WORDs
choose cases by a part of their names."""
import base64, fcntl, os, random, select, shutil, socket, struct, subprocess, sys, tempfile, threading, time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from fetch_servers import *  # noqa: E402,F403
from fetch_wire import *     # noqa: E402,F403

WORDS = [w for w in sys.argv[1:] if not os.path.isdir(w)]
HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = os.path.abspath(([d for d in sys.argv[1:] if os.path.isdir(d)] + [HERE + "/../../build/bin"])[0])
CASES = []


class Skip(Exception):
    pass


def case(f):
    CASES.append(f)
    return f


def data(n, seed=1):
    return random.Random(seed).randbytes(n)


NAR = data(300000)
INFO = b"StorePath: /gnu/store/x\n" * 20


class Lab:
    """What a case has started, to be stopped after it."""

    def __init__(self, directory):
        self.dir, self.things = directory, []

    def server(self, handler, **kw):
        sv = Server(handler, **kw)
        self.things.append(sv)
        return sv

    def fetch(self, **env):
        e = {"NARLOCK_" + k: v for k, v in env.items()}
        program = os.environ.get("NARLOCK_TEST_FETCH") or os.path.join(PROGRAMS, "fetch")
        h = Helper(os.path.abspath(program), e)
        self.things.append(h)
        return h

    def resolve(self):
        h = Helper(os.path.abspath(os.path.join(PROGRAMS, "resolve")), {"RES_OPTIONS": "timeout:1 attempts:1"})
        self.things.append(h)
        return h

    def state(self):
        path = os.path.join(self.dir, "state-%d" % len(os.listdir(self.dir)))
        with open(path, "wb"):
            pass
        os.chmod(path, 0o666)
        return path

    def close(self):
        for t in self.things:
            t.kill() if isinstance(t, Helper) else t.close()


def good(h):
    """It is still there, and leaves when told."""
    code = h.close()
    assert code == 0, "exit code %r, log %r" % (code, h.log)


def expect_failed_item(end, frames, status, text=""):
    assert end["status"] == status, (end, frames)
    assert text in end["reason"], end


def simple(sv, conn, r):
    if r.path.endswith(".narinfo"):
        return reply(conn, "200 OK", INFO, "Cache-Control: max-age=3600")
    return reply(conn, "200 OK", NAR, "Accept-Ranges: bytes", 'ETag: "a"')


# --- lookups ----------------------------------------------------------------------------------------------

@case
def sealed_layers(lab):
    h = lab.fetch()
    m = h.sealed()
    assert m["layers"] & 0x10, "no seccomp claimed: %r" % m
    assert os.getuid() != 0 or m["layers"] & 0x0f == 0x0f, m
    good(h)


@case
def lookup_found(lab):
    sv, h = lab.server(simple), lab.fetch()
    h.ready([sv.url])
    assert h.get(0, hash_part(3)) == (FOUND, INFO, 3600, "")
    assert sv.requests[0].path == "/" + hash_part(3) + ".narinfo"
    assert sv.requests[0].headers["user-agent"].startswith("narlock/")
    assert "authorization" not in sv.requests[0].headers
    good(h)


@case
def lookup_server_path(lab):
    sv, h = lab.server(simple), lab.fetch()
    h.ready([sv.url + "/sub/dir/"])
    assert h.get(0, hash_part(3))[0] == FOUND
    assert sv.requests[0].path == "/sub/dir/" + hash_part(3) + ".narinfo"
    h.nar([(0, 0, "none", "nar/x")], len(NAR))
    h.nar([(0, 0, "none", "/nar/x")], len(NAR))
    assert [r.path for r in sv.requests[1:]] == ["/sub/dir/nar/x"] * 2
    good(h)


@case
def lookup_ipv6(lab):
    try:
        sv = lab.server(simple, family=socket.AF_INET6)
    except OSError:
        raise Skip("no IPv6 loopback")
    h = lab.fetch()
    h.ready([sv.url])
    assert h.get(0, hash_part(3))[0] == FOUND
    good(h)


@case
def lookup_ttls(lab):
    answers = {1: ("200 OK", "Cache-Control: public, max-age=10"), 2: ("200 OK", "X: y"),
               3: ("200 OK", "Cache-Control: max-age=99999999999999999999999"), 4: ("404 no", "X: y"),
               5: ("404 no", "Cache-Control: max-age=7"), 6: ("410 gone", "Cache-Control: max-age=999999999"),
               7: ("404 no", "X-Baking: 1"), 8: ("404 no", "X-Baking: 1\r\nCache-Control: max-age=60"),
               9: ("200 OK", "Cache-Control: no-cache"), 10: ("200 OK", "Cache-Control: max-age=900000000")}
    want = {1: (FOUND, 10), 2: (FOUND, NOT_TOLD), 3: (FOUND, NOT_TOLD), 4: (ABSENT, 120), 5: (ABSENT, 7), 6: (ABSENT, 86400),
            7: (ABSENT, 300), 8: (ABSENT, 60), 9: (FOUND, 0), 10: (FOUND, 31536000)}
    parts = {hash_part(n): n for n in answers}

    def handler(sv, conn, r):
        status, header = answers[parts[r.path[1:33]]]
        return reply(conn, status, INFO if status[0] == "2" else b"an error page", header)
    sv, h = lab.server(handler), lab.fetch()
    h.ready([sv.url])
    for n, (status, ttl) in want.items():
        got = h.get(0, hash_part(n))
        assert (got[0], got[2]) == (status, ttl), (n, got)
    good(h)


@case
def lookup_other_codes(lab):
    codes = {hash_part(n): n for n in (201, 204, 206, 400, 403, 500, 502, 503)}

    def handler(sv, conn, r):
        n = codes[r.path[1:33]]
        return reply(conn, "%d x" % n, b"" if n == 204 else b"page", length=n != 204)
    sv, h = lab.server(handler), lab.fetch()
    h.ready([sv.url])
    for part in codes:
        got = h.get(0, part)
        assert got[0] == FAILED and str(codes[part]) in got[3], got
    assert sv.connections <= 2, sv.connections
    good(h)


@case
def lookup_many(lab):
    sv, h = lab.server(simple), lab.fetch()
    h.ready([sv.url])
    seen, sent = set(), 0
    while len(seen) < 1000:
        while sent < 1000 and sent - len(seen) < 256:
            sent += 1
            h.lookup(sent, 0, hash_part(sent))
        ident, status, body, _, reason = h.answer()
        assert status == FOUND and body == INFO and ident not in seen, (ident, status, reason)
        seen.add(ident)
    assert sv.connections <= 8, "%d connections" % sv.connections
    assert h.rss() < 16384, h.rss()
    good(h)


@case
def lookup_too_many_is_fatal(lab):
    def handler(sv, conn, r):
        time.sleep(3)
    sv, h = lab.server(handler), lab.fetch()
    h.ready([sv.url])
    for i in range(257):
        h.lookup(i, 0, hash_part(i))
    assert h.wait() == 1 and any("lookups" in x for x in h.log), h.log


@case
def lookup_broker_does_not_read(lab):
    """Answers pile up: the queue is bounded, and nothing is lost."""
    big = INFO * 800
    sv, h = lab.server(lambda sv, conn, r: reply(conn, "200 OK", big)), lab.fetch()
    h.ready([sv.url])
    for i in range(200):
        h.lookup(i, 0, hash_part(i))
    time.sleep(1.5)
    rss = h.rss()
    assert rss < 16384, "%d KiB" % rss
    for i in range(200):
        _, status, body, _, _ = h.answer()
        assert status == FOUND and body == big
    good(h)


@case
def lookup_huge_body(lab):
    def handler(sv, conn, r):
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n")
        for _ in range(400):
            conn.sendall(b"x" * 65536)
        return False
    sv, h = lab.server(handler), lab.fetch()
    h.ready([sv.url])
    for i in range(40):
        h.lookup(i, 0, hash_part(i))
    for i in range(40):
        _, status, body, _, reason = h.answer()
        assert status == FAILED and "1048576" in reason and not body, (status, reason)
    assert h.rss() < 16384, h.rss()
    good(h)


@case
def lookup_largest_body(lab):
    body = b"y" * (1 << 20)
    sv, h = lab.server(lambda sv, conn, r: reply(conn, "200 OK", body)), lab.fetch()
    h.ready([sv.url])
    for i in range(30):
        h.lookup(i, 0, hash_part(i))
    peak = 0
    for i in range(30):
        _, status, got, _, reason = h.answer()
        peak = max(peak, h.rss())
        assert status == FOUND and got == body, (status, reason)
    assert peak < 16384, peak
    good(h)


@case
def lookup_huge_headers(lab):
    def handler(sv, conn, r):
        conn.sendall(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"h" * 30000 + b"\r\n")
        for _ in range(2000):
            conn.sendall(b"Y: " + b"h" * 1000 + b"\r\n")
        return False
    sv, h = lab.server(handler), lab.fetch()
    h.ready([sv.url])
    got = h.get(0, hash_part(1))
    assert got[0] == FAILED, got
    _, frames, end = h.nar([(0, 0, "none", "nar/x")], 1000)
    expect_failed_item(end, frames, EXHAUSTED)
    assert h.rss() < 16384
    good(h)


@case
def lookup_garbage(lab):
    answers = [b"\x00\x01\x02garbage\r\n\r\n", b"HTTP/1.1 99999 x\r\n\r\n", b"HTTP/9.9 200 OK\r\n\r\nx", b"", b"HTTP/1.1 200 OK\r\n",
               b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
               b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", b"HTTP/1.1 302 x\r\n\r\n",
               b"HTTP/1.1 302 x\r\nLocation: http://\xff\xfe@[::/\r\nContent-Length: 0\r\n\r\n",
               b"HTTP/1.1 \xc3\xa4\x1b[31m 200\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"]
    for i, raw in enumerate(answers):
        def handler(sv, conn, r, raw=raw):
            conn.sendall(raw)
            return False
        sv, h = lab.server(handler), lab.fetch()
        h.ready([sv.url], stall=1000)
        got = h.get(0, hash_part(1))
        assert got[0] == FAILED, (i, raw, got)
        assert all(" " <= c <= "~" for c in got[3]) and got[3], got
        good(h)


@case
def lookup_redirects(lab):
    other = lab.server(simple)

    def handler(sv, conn, r):
        if "/moved/" in r.path:
            return simple(sv, conn, r)
        n = parts[r.path[1:33]]
        to = {1: "/moved/a.narinfo", 2: "moved/b.narinfo", 3: other.url + "/evil.narinfo", 4: r.path,
              5: "file:///etc/passwd", 6: "//127.0.0.1:%d/x.narinfo" % other.port, 7: "gopher://x/", 8: "http://u:p@127.0.0.1:%d/moved/x" % sv.port}[n]
        return reply(conn, "302 Found", b"", "Location: " + to)
    parts = {hash_part(n): n for n in range(1, 9)}
    sv, h = lab.server(handler), lab.fetch()
    h.ready([sv.url])
    for n in (1, 2, 8):
        got = h.get(0, hash_part(n))
        assert got[0] == FOUND, (n, got)
    for n in (3, 4, 5, 6, 7):
        got = h.get(0, hash_part(n))
        assert got[0] == FAILED, (n, got)
    assert other.connections == 0
    assert sv.count(hash_part(4)) == 6, sv.count(hash_part(4))
    assert not any("authorization" in r.headers for r in sv.requests)
    good(h)


@case
def lookup_redirect_to_trusted_host(lab):
    other = lab.server(simple)
    sv = lab.server(lambda sv, conn, r: reply(conn, "301 x", b"", "Location: http://localhost:%d/a.narinfo" % other.port))
    for trust, status in (((), FAILED), (("localhost",), FOUND)):
        h = lab.fetch()
        h.ready([sv.url], trust)
        assert h.get(0, hash_part(1))[0] == status, trust
        good(h)


@case
def lookup_dead_host(lab):
    state, port = lab.state(), dead_port()
    h = lab.fetch(FETCH_STATE=state)
    url = "http://user:hunter2@127.0.0.1:%d" % port
    h.ready([url])
    got = h.get(0, hash_part(1))
    assert got[0] == FAILED and "hunter2" not in got[3] and "user" not in got[3], got
    for i in range(3):
        assert h.get(0, hash_part(2 + i))[0] == DEAD
    good(h)
    h = lab.fetch(FETCH_STATE=state)
    h.ready([url])
    assert h.get(0, hash_part(1))[0] == DEAD
    good(h)


@case
def lookup_many_to_dead_host(lab):
    h = lab.fetch()
    h.ready(["http://127.0.0.1:%d" % dead_port()])
    for i in range(200):
        h.lookup(i, 0, hash_part(i))
    got = [h.answer()[1] for _ in range(200)]
    assert got.count(FAILED) <= 8 and got.count(FAILED) + got.count(DEAD) == 200, got
    good(h)


@case
def lookup_slow_connect(lab):
    """A listener whose backlog is full answers no connect."""
    s, fill = full_backlog()
    time.sleep(0.1)
    h = lab.fetch()
    h.ready(["http://127.0.0.1:%d" % s.getsockname()[1]], connect=500)
    t = time.monotonic()
    assert h.get(0, hash_part(1))[0] == FAILED
    assert 0.3 < time.monotonic() - t < 3
    assert h.get(0, hash_part(2))[0] == DEAD
    good(h)


@case
def lookup_absence_is_remembered(lab):
    state = lab.state()
    sv = lab.server(lambda sv, conn, r: reply(conn, "404 x", b"no", "Cache-Control: max-age=2"))
    for _ in range(2):
        h = lab.fetch(FETCH_STATE=state)
        h.ready([sv.url])
        got = h.get(0, hash_part(1))
        assert got[0] == ABSENT and 1 <= got[2] <= 2, got
        good(h)
    assert len(sv.requests) == 1
    time.sleep(2.1)
    h = lab.fetch(FETCH_STATE=state)
    h.ready([sv.url])
    assert h.get(0, hash_part(1))[0] == ABSENT and len(sv.requests) == 2
    good(h)


@case
def lookup_state_corrupt(lab):
    state = lab.state()
    sv = lab.server(lambda sv, conn, r: reply(conn, "404 x", b"no"))
    h = lab.fetch(FETCH_STATE=state)
    h.ready([sv.url])
    for i in range(50):
        assert h.get(0, hash_part(i))[0] == ABSENT
    good(h)
    assert os.path.getsize(state) == 16384 * 32
    with open(state, "r+b") as f:
        b = bytearray(f.read())
        for i in range(0, len(b), 32):
            b[i + 16] ^= 1  # the time of each record
        f.seek(0)
        f.write(b)
    h = lab.fetch(FETCH_STATE=state)
    h.ready([sv.url])
    for i in range(50):
        assert h.get(0, hash_part(i))[0] == ABSENT
    assert len(sv.requests) == 100, "%d requests: corrupt records were believed" % len(sv.requests)
    good(h)
    for junk in (os.urandom(16384 * 32), os.urandom(100), os.urandom(1 << 20)):
        with open(state, "wb") as f:
            f.write(junk)
        h = lab.fetch(FETCH_STATE=state)
        h.ready([sv.url])
        assert h.get(0, hash_part(1))[0] == ABSENT
        good(h)
        assert os.path.getsize(state) == 16384 * 32


@case
def lookup_state_shared(lab):
    """Several agents at once on one state file."""
    state = lab.state()
    sv = lab.server(lambda sv, conn, r: reply(conn, "404 x", b"no"))
    agents = [lab.fetch(FETCH_STATE=state) for _ in range(4)]
    for h in agents:
        h.ready([sv.url])
    for i in range(200):
        for h in agents:
            h.lookup(i, 0, hash_part(i))
    for h in agents:
        assert all(h.answer()[1] == ABSENT for _ in range(200))
        good(h)
    n = len(sv.requests)
    h = lab.fetch(FETCH_STATE=state)
    h.ready([sv.url])
    for i in range(200):
        assert h.get(0, hash_part(i))[0] == ABSENT
    assert len(sv.requests) - n <= 2, "%d asked again" % (len(sv.requests) - n)
    good(h)


@case
def lookup_stall(lab):
    def handler(sv, conn, r):
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc" if parts[r.path[1:33]] % 2 else b"")
        time.sleep(4)
        return False
    parts = {hash_part(n): n for n in range(10)}
    sv, h = lab.server(handler), lab.fetch()
    h.ready([sv.url], stall=500, connect=200)
    t = time.monotonic()
    for n in (1, 2):
        got = h.get(0, hash_part(n))
        assert got[0] == FAILED and "500 ms" in got[3], got
    assert time.monotonic() - t < 3
    good(h)


@case
def lookup_silent_server_counts_as_dead(lab):
    def handler(sv, conn, r):
        time.sleep(10)
    sv, h = lab.server(handler), lab.fetch()
    h.ready([sv.url], stall=300, connect=200)
    t = time.monotonic()
    for n in range(100):
        h.lookup(n, 0, hash_part(n))
    got = [h.answer()[1] for _ in range(100)]
    assert got.count(DEAD) >= 80 and time.monotonic() - t < 3, got
    good(h)


@case
def lookup_stalled_server_does_not_hold_up_others(lab):
    def slow(sv, conn, r):
        time.sleep(3)
        return False
    bad, fine, h = lab.server(slow), lab.server(simple), lab.fetch()
    h.ready([bad.url, fine.url], stall=2000)
    for n in range(100):
        h.lookup(n, 0, hash_part(n))
    t = time.monotonic()
    for n in range(100, 150):
        h.lookup(n, 1, hash_part(n))
    for _ in range(50):
        ident, status, _, _, _ = h.answer()
        assert ident >= 100 and status == FOUND
    assert time.monotonic() - t < 1.5
    good(h)


@case
def lookup_cancel(lab):
    def handler(sv, conn, r):
        time.sleep(3)
        return False
    sv, h = lab.server(handler), lab.fetch()
    h.ready([sv.url])
    for i in range(20):
        h.lookup(i, 0, hash_part(i))
    time.sleep(0.2)
    for i in (19, 0):
        h.cancel(i)
        got = h.answer()
        assert got[:2] == (i, FAILED) and got[4] == "cancelled", got
    h.cancel(4711)
    good(h)


@case
def refused_schemes(lab):
    h = lab.fetch()
    h.ready(["file:///var/cache", "ftp://example.org", "http://a b/", "", "http://"])
    for i, text in enumerate(("narlock-eris serve", "http", "character", "http", "host")):
        got = h.get(i, hash_part(1))
        assert got[0] == FAILED and text in got[3], (i, got)
    h.drain_log()
    assert any("narlock-eris serve" in x for x in h.log), h.log
    good(h)


# --- names ------------------------------------------------------------------------------------------------

@case
def names_are_asked_and_pinned(lab):
    sv, h = lab.server(simple), lab.fetch()
    h.ready(["http://farm.example:%d" % sv.port])
    for i in range(20):
        h.lookup(i, 0, hash_part(i))
    for i in range(20):
        got = h.answer(resolve={"farm.example": ("127.0.0.1",)})
        assert got[1] == FOUND, got
    assert h.asked == ["farm.example"], h.asked
    assert sv.requests[0].headers["host"] == "farm.example:%d" % sv.port
    assert sv.connections <= 8
    d, frames, end = h.nar([(0, 0, "none", "nar/x")], len(NAR))
    assert d == NAR and end["status"] == DONE
    good(h)


@case
def names_several_addresses(lab):
    """The first addresses do not answer; libcurl goes on to the next one."""
    sv, h = lab.server(simple), lab.fetch()
    h.ready(["http://farm.example:%d" % sv.port])
    got = h.get(0, hash_part(1), resolve={"farm.example": ("127.0.0.2", "127.0.0.3", "127.0.0.1")})
    assert got[0] == FOUND, got
    good(h)


@case
def names_unknown_host(lab):
    state = lab.state()
    h = lab.fetch(FETCH_STATE=state)
    h.ready(["http://nowhere.example"])
    for i in range(5):
        h.lookup(i, 0, hash_part(i))
    got = [h.answer(resolve={}) for _ in range(5)]
    assert got[0][1] == FAILED and got[0][4] == "nowhere.example: host not found", got
    assert all(g[1] == DEAD for g in got[1:]), got
    assert h.asked == ["nowhere.example"]
    good(h)
    h = lab.fetch(FETCH_STATE=state)
    h.ready(["http://nowhere.example"])
    assert h.get(0, hash_part(1))[0] == DEAD
    good(h)


@case
def names_waiting_does_not_hold_up_others(lab):
    sv, h = lab.server(simple), lab.fetch()
    h.ready(["http://slow.example:%d" % sv.port, sv.url])
    for i in range(100):
        h.lookup(i, 0, hash_part(i))
    for i in range(100, 200):
        h.lookup(i, 1, hash_part(i))
    assert h.recv() == dict(t="RESOLVE", host="slow.example")
    for _ in range(100):
        got = h.answer()
        assert got[0] >= 100 and got[1] == FOUND
    h.addresses("slow.example", "127.0.0.1")
    for _ in range(100):
        assert h.answer()[1] == FOUND
    good(h)


@case
def names_many_hosts(lab):
    """More names than questions may be open."""
    sv, h = lab.server(simple), lab.fetch()
    h.ready(["http://h%d.example:%d" % (i, sv.port) for i in range(40)])
    for i in range(40):
        h.lookup(i, i, hash_part(i))
    asked, open_, done = [], [], 0
    while done < 40:
        while select.select([h.control], [], [], 0.05)[0]:
            m = h.recv()
            if m["t"] == "RESOLVE":
                asked.append(m["host"])
                open_.append(m["host"])
                assert len(open_) <= 16, "more than 16 questions"
            elif m["t"] == "END":
                assert m["status"] == FOUND, m
                done += 1
        if open_:
            h.addresses(open_.pop(0), "127.0.0.1")
    assert len(set(asked)) == 40 == len(asked)
    good(h)


@case
def names_wrong_answers_are_fatal(lab):
    for wrong in (lambda h: h.addresses("other.example", "127.0.0.1"),
                  lambda h: h.raw(struct.pack(">H", 0x1e) + s("a.example") + b"\x00" + s(b"")),
                  lambda h: h.raw(struct.pack(">H", 0x1e) + s("a.example") + b"\x01" + s(address("1.2.3.4"))),
                  lambda h: h.raw(struct.pack(">H", 0x1e) + s("a.example") + b"\x00" + s(b"\x05" + bytes(16))),
                  lambda h: h.raw(struct.pack(">H", 0x1e) + s("a.example") + b"\x00" + s(bytes(5)))):
        h = lab.fetch()
        h.ready(["http://a.example"])
        h.lookup(1, 0, hash_part(1))
        assert h.recv()["t"] == "RESOLVE"
        wrong(h)
        assert h.wait() == 1 and h.log, h.log


# --- TLS, users, proxies ----------------------------------------------------------------------------------

def tls_server(lab, handler=simple):
    pair = make_certificate(lab.dir)
    if pair is None:
        raise Skip("no openssl program")
    return lab.server(handler, tls=tls_context(pair)), pair[0]


@case
def tls_verified(lab):
    sv, cert = tls_server(lab)
    h = lab.fetch(CA=cert)
    h.ready([sv.url, "https://localhost:%d" % sv.port, "https://farm.example:%d" % sv.port])
    assert h.get(0, hash_part(1))[0] == FOUND
    assert h.get(1, hash_part(1))[0] == FOUND
    got = h.get(2, hash_part(1), resolve={"farm.example": ("127.0.0.1",)})
    assert got[0] == FAILED and "certificate" in got[3].lower(), got
    d, frames, end = h.nar([(0, 0, "none", "nar/x")], len(NAR))
    assert d == NAR and end["status"] == DONE
    good(h)


@case
def tls_many(lab):
    sv, cert = tls_server(lab)
    bundle = "/etc/ssl/certs/ca-certificates.crt"
    if os.path.exists(bundle):
        with open(os.path.join(lab.dir, "bundle.pem"), "wb") as f:
            f.write(open(bundle, "rb").read() + open(cert, "rb").read())
        cert = os.path.join(lab.dir, "bundle.pem")
        os.chmod(cert, 0o644)
    h = lab.fetch(CA=cert)
    h.ready([sv.url])
    for i in range(200):
        h.lookup(i, 0, hash_part(i))
    for i in range(200):
        assert h.answer()[1] == FOUND
    assert sv.connections <= 8, sv.connections
    assert h.rss() < 16384, h.rss()
    lab.note = "RssAnon %d KiB with the CA bundle and %d connections" % (h.rss(), sv.connections)
    good(h)


@case
def tls_bad_certificate(lab):
    sv, cert = tls_server(lab)
    other = os.path.join(lab.dir, "other")
    os.mkdir(other)
    os.chmod(other, 0o755)
    h = lab.fetch(CA=make_certificate(other)[0])
    h.ready([sv.url])
    got = h.get(0, hash_part(1))
    assert got[0] == FAILED and "certificate" in got[3].lower(), got
    _, frames, end = h.nar([(0, 0, "none", "nar/x")], len(NAR))
    expect_failed_item(end, frames, EXHAUSTED, "certificate")
    good(h)
    h = lab.fetch()
    h.ready([sv.url], verify=0)
    assert h.get(0, hash_part(1))[0] == FOUND
    good(h)


@case
def tls_no_ca_bundle(lab):
    sv, cert = tls_server(lab)
    for env in ({}, {"CA": "/nonexistent/ca.pem"}, {"CA": "/etc/passwd"}):
        h = lab.fetch(**env)
        h.ready([sv.url])
        got = h.get(0, hash_part(1))
        assert got[0] == FAILED and "ca-bundle = FILE" in got[3] and "ca-certificates" in got[3], got
        assert h.get(0, hash_part(2))[0] == DEAD
        good(h)


@case
def users_and_passwords(lab):
    def handler(sv, conn, r):
        want = "Basic " + base64.b64encode(b"us er:p@ss:w%rd").decode()
        if r.headers.get("authorization") != want:
            return reply(conn, "401 no", b"", 'WWW-Authenticate: Basic realm="x"')
        if "/away" in r.path:
            return reply(conn, "302 x", b"", "Location: " + other.url + "/nar/x")
        return simple(sv, conn, r)
    other = lab.server(simple)
    sv, h = lab.server(handler), lab.fetch()
    secret = "us%20er:p%40ss:w%25rd"
    h.ready(["http://%s@127.0.0.1:%d" % (secret, sv.port)])
    assert h.get(0, hash_part(1))[0] == FOUND
    d, frames, end = h.nar([(0, 0, "none", "nar/x")], len(NAR))
    assert d == NAR and end["status"] == DONE, end
    d, frames, end = h.nar([(0, 0, "none", "%s/nar/x" % other.url)], len(NAR))
    assert d == NAR
    d, frames, end = h.nar([(0, 0, "none", "away")], len(NAR))
    assert d == NAR
    assert all("authorization" not in r.headers for r in other.requests), "the password went elsewhere"
    d, frames, end = h.nar([(0, 0, "none", "http://u:other%%21@127.0.0.1:%d/nar/x" % sv.port)], len(NAR))
    expect_failed_item(end, frames, EXHAUSTED, "401")
    shown = repr(frames) + repr(h.log)
    assert "p@ss" not in shown and secret not in shown and "other" not in shown
    good(h)


@case
def proxies(lab):
    px, sv = lab.server(proxy_handler), lab.server(simple)
    h = lab.fetch()
    h.ready(["http://farm.example", sv.url], http="http://pu:pp@proxy.example:%d" % px.port)
    got = h.get(0, hash_part(1), resolve={"proxy.example": ("127.0.0.1",)})
    assert got[0] == FOUND and got[1].startswith(b"via proxy: farm.example/"), got
    assert h.asked == ["proxy.example"], h.asked
    assert px.proxied[0][2] == "Basic " + base64.b64encode(b"pu:pp").decode()
    good(h)
    tls, cert = tls_server(lab)
    h = lab.fetch(CA=cert)
    h.ready([tls.url], https="127.0.0.1:%d" % px.port)
    assert h.get(0, hash_part(1))[0] == FOUND
    assert px.proxied[-1][0] == "CONNECT"
    good(h)
    h = lab.fetch()
    h.ready([sv.url], http="socks5://127.0.0.1:1")
    got = h.get(0, hash_part(1))
    assert got[0] == FAILED and "proxy" in got[3], got
    good(h)


# --- nars -------------------------------------------------------------------------------------------------

def one_nar(lab, handler, nar=NAR, comp="none", nar_size=None, **settings):
    kw = {k: settings.pop(k) for k in ("max_bytes", "timeout") if k in settings}
    size = settings.pop("file_size", 0)
    sv, h = lab.server(handler), lab.fetch()
    h.ready([sv.url], **settings)
    d, frames, end = h.nar([(0, size, comp, "nar/x")], len(nar) if nar_size is None else nar_size, **kw)
    return sv, h, d, frames, end


@case
def nar_plain(lab):
    for comp, method in (("none", NONE), ("gzip", GZIP), ("lzip", LZIP), ("zstd", ZSTD)):
        sv, h, d, frames, end = one_nar(lab, simple, comp=comp)
        assert d == NAR and end["status"] == DONE and end["bytes"] == len(NAR) and end["candidate"] == 0, end
        assert frames[0] == dict(t="BEGIN", id=7, candidate=0, method=method, size=len(NAR)), frames
        good(h)


@case
def nar_progress(lab):
    def handler(sv, conn, r):
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(NAR))
        for i in range(0, len(NAR), 10000):
            conn.sendall(NAR[i:i + 10000])
            time.sleep(0.02)
        return True
    sv, h, d, frames, end = one_nar(lab, handler)
    p = [m for m in frames if m["t"] == "PROGRESS"]
    assert d == NAR and 3 <= len(p) <= 8, frames
    assert all(m["source"] == "127.0.0.1:%d" % sv.port for m in p)
    assert [m["bytes"] for m in p] == sorted({m["bytes"] for m in p})
    good(h)


@case
def nar_no_length(lab):
    def handler(sv, conn, r):
        reply(conn, "200 OK", NAR, length=False)
        return False
    for comp in ("none", "gzip"):
        sv, h, d, frames, end = one_nar(lab, handler, comp=comp)
        assert d == NAR and end["status"] == DONE and frames[0]["size"] == 0, end
        good(h)


@case
def nar_keep_alive_without_length(lab):
    """guix publish, uncompressed: no length, and the connection stays open."""
    def handler(sv, conn, r):
        reply(conn, "200 OK", NAR, length=False)
        time.sleep(5)
        return False
    t = time.monotonic()
    sv, h, d, frames, end = one_nar(lab, handler)
    assert d == NAR and end["status"] == DONE and time.monotonic() - t < 3, end
    assert sv.requests[0].headers.get("connection") == "close"
    good(h)


@case
def nar_chunked(lab):
    for comp in ("none", "zstd"):
        sv, h, d, frames, end = one_nar(lab, lambda sv, conn, r: chunked(conn, NAR), comp=comp)
        assert d == NAR and end["status"] == DONE, end
        assert h.get(0, hash_part(1))[0] == FOUND
        good(h)


@case
def nar_chunked_without_end(lab):
    """All bytes of an uncompressed nar, but never the last chunk."""
    def handler(sv, conn, r):
        chunked(conn, NAR, last=False)
        time.sleep(5)
        return False
    sv, h, d, frames, end = one_nar(lab, handler, stall=500)
    assert d == NAR and end["status"] == DONE, end
    good(h)


@case
def nar_longer_than_it_should_be(lab):
    """No length, and more bytes than the nar has: the rest is not wanted."""
    def handler(sv, conn, r):
        reply(conn, "200 OK", NAR + b"more" * 1000, length=False)
        return False
    sv, h, d, frames, end = one_nar(lab, handler)
    assert d == NAR and end["status"] == DONE, end
    good(h)
    sv, h, d, frames, end = one_nar(lab, lambda sv, conn, r: reply(conn, "200 OK", NAR + b"x"))
    assert not d
    expect_failed_item(end, frames, EXHAUSTED, "300001 bytes where the nar has 300000")
    good(h)


@case
def nar_max_bytes(lab):
    sv, h, d, frames, end = one_nar(lab, simple, comp="gzip", max_bytes=299999)
    assert not d
    expect_failed_item(end, frames, EXHAUSTED, "more than 299999")
    good(h)
    for endless in (lambda sv, conn, r: chunked(conn, NAR * 10), lambda sv, conn, r: reply(conn, "200 OK", NAR * 10, length=False) and False):
        sv, h, d, frames, end = one_nar(lab, endless, comp="gzip", max_bytes=400000)
        assert len(d) <= 400000 and end["bytes"] <= 400000
        expect_failed_item(end, frames, NFAILED, "more than 400000")
        good(h)


def early_eof(cut, *headers, second=None, how=None):
    """The first answer ends early; Ranges get SECOND(conn, request), by default what was asked for."""
    def handler(sv, conn, r):
        if r.path.endswith(".narinfo"):
            return simple(sv, conn, r)
        if "range" not in r.headers:
            conn.sendall("\r\n".join(["HTTP/1.1 200 OK", "Content-Length: %d" % len(NAR)] + list(headers)).encode() + b"\r\n\r\n" +
                         NAR[:cut])
            time.sleep(0.1)
            return how(conn) if how else False
        if second:
            return second(conn, r)
        return partial(conn, NAR, r.range_start(), *headers)
    return handler


@case
def nar_resume(lab):
    for comp in ("none", "zstd"):
        for how in (None, break_off):
            sv, h, d, frames, end = one_nar(lab, early_eof(100000, 'ETag: "v1"', "Accept-Ranges: bytes", how=how), comp=comp)
            assert d == NAR and end["status"] == DONE, (end, h.log)
            assert [m["t"] for m in frames].count("BEGIN") == 1
            start = sv.requests[1].range_start()
            assert 0 < start <= 100000 and sv.requests[1].headers["if-range"] == '"v1"', sv.requests[1].headers
            good(h)


@case
def nar_resume_by_date(lab):
    when = "Sun, 22 Nov 2026 08:00:00 GMT"
    sv, h, d, frames, end = one_nar(lab, early_eof(100000, 'ETag: W/"v1"', "Last-Modified: " + when))
    assert d == NAR and sv.requests[1].headers["if-range"] == when
    good(h)


@case
def nar_resume_again_and_again(lab):
    def second(conn, r):
        a = r.range_start()
        conn.sendall(b"HTTP/1.1 206 x\r\nContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n" % (a, len(NAR) - 1, len(NAR), len(NAR) - a)
                     + NAR[a:a + 80000])
        return len(NAR) - a <= 80000
    sv, h, d, frames, end = one_nar(lab, early_eof(100000, second=second))
    assert d == NAR and end["status"] == DONE, (end, h.log)
    good(h)


@case
def nar_resume_gives_up(lab):
    sv, h, d, frames, end = one_nar(lab, early_eof(100000, second=lambda conn, r: break_off(conn)))
    expect_failed_item(end, frames, NFAILED)
    assert end["bytes"] == len(d) <= 100000 and d == NAR[:len(d)]
    assert len(sv.requests) == 4, len(sv.requests)
    assert end["candidate"] == 0
    good(h)


@case
def nar_resume_refused(lab):
    wrong = {
        "200": lambda conn, r: reply(conn, "200 OK", NAR, 'ETag: "v1"'),
        "start": lambda conn, r: partial(conn, NAR, r.range_start(), 'ETag: "v1"', claim=r.range_start() - 1),
        "total": lambda conn, r: partial(conn, NAR, r.range_start(), 'ETag: "v1"', total=len(NAR) + 1),
        "etag": lambda conn, r: partial(conn, NAR, r.range_start(), 'ETag: "v2"'),
        "no range": lambda conn, r: reply(conn, "206 x", NAR[r.range_start():]),
        "404": lambda conn, r: reply(conn, "404 x", b"gone"),
        "416": lambda conn, r: reply(conn, "416 x", b""),
    }
    for name, second in wrong.items():
        sv, h, d, frames, end = one_nar(lab, early_eof(100000, 'ETag: "v1"', second=second))
        assert end["status"] == NFAILED and len(d) <= 100000 and d == NAR[:len(d)], (name, end, len(d))
        assert len(sv.requests) == 2, (name, len(sv.requests))
        good(h)
    sv, h, d, frames, end = one_nar(lab, early_eof(100000, "Accept-Ranges: none"))
    assert end["status"] == NFAILED and len(sv.requests) == 1, end
    good(h)


@case
def nar_early_eof_without_length(lab):
    def handler(sv, conn, r):
        reply(conn, "200 OK", NAR[:1000], length=False)
        return False
    sv, h, d, frames, end = one_nar(lab, handler)
    assert end["status"] == NFAILED and len(d) <= 1000, end
    good(h)


@case
def nar_stall_then_resume(lab):
    def how(conn):
        time.sleep(6)
        return False
    t = time.monotonic()
    sv, h, d, frames, end = one_nar(lab, early_eof(100000, 'ETag: "v1"', how=how), stall=500)
    assert d == NAR and end["status"] == DONE, (end, h.log)
    assert 0.4 < time.monotonic() - t < 4
    good(h)


@case
def nar_slow_loris(lab):
    def handler(sv, conn, r):
        conn.sendall(b"HTTP/1.1 200 OK\r\nAccept-Ranges: none\r\nContent-Length: %d\r\n\r\n" % len(NAR))
        for i in range(100):
            conn.sendall(NAR[i:i + 1])
            time.sleep(0.05)
        return False
    sv, h, d, frames, end = one_nar(lab, handler, stall=500, rate=10000)
    assert end["status"] == NFAILED and "bytes in 500 ms" in end["reason"], end
    good(h)


@case
def nar_stall_before_first_byte_tries_next(lab):
    def slow(sv, conn, r):
        time.sleep(8)
        return False
    bad, fine, h = lab.server(slow), lab.server(simple), lab.fetch()
    h.ready([bad.url, fine.url], stall=400, connect=100)
    t = time.monotonic()
    d, frames, end = h.nar([(0, 0, "none", "nar/x"), (1, 0, "none", "nar/y")], len(NAR))
    assert d == NAR and end["candidate"] == 1 == frames[0]["candidate"] and time.monotonic() - t < 3, end
    good(h)


@case
def nar_next_candidate(lab):
    def handler(sv, conn, r):
        if r.path == "/nar/good":
            return simple(sv, conn, r)
        return reply(conn, "404 x", b"no")
    sv, h = lab.server(handler), lab.fetch()
    h.ready([sv.url, "http://127.0.0.1:%d" % dead_port(), "file:///x"])
    d, frames, end = h.nar([(0, 0, "zstd", "nar/a"), (0, 0, "xz", "nar/b"), (2, 0, "zstd", "nar/c"), (0, 0, "zstd", "file:///etc/passwd"),
                            (0, 0, "zstd", "ftp://x/y"), (1, 0, "zstd", "nar/d"), (0, 0, "gzip", "nar/good")], len(NAR))
    assert d == NAR and end["status"] == DONE and end["candidate"] == 6, (end, h.log)
    assert not sv.count("nar/b")
    h.drain_log()
    assert any("narlock-eris serve" in x for x in h.log), h.log
    good(h)


@case
def nar_ranking(lab):
    sv, h = lab.server(lambda sv, conn, r: reply(conn, "404 x", b"")), lab.fetch()
    h.ready([sv.url, sv.url])
    h.nar([(0, 0, "none", "a-none"), (0, 0, "gzip", "b-gzip"), (1, 0, "zstd", "c-zstd"), (0, 0, "lzip", "d-lzip"), (0, 0, "zstd", "e-zstd")], 10)
    assert [r.path for r in sv.requests] == ["/e-zstd", "/d-lzip", "/b-gzip", "/a-none", "/c-zstd"], [r.path for r in sv.requests]
    del sv.requests[:]
    h.nar([(0, 9, "none", "a-none"), (0, 7, "gzip", "b-gzip"), (0, 8, "lzip", "d-lzip"), (0, 10, "zstd", "e-zstd")], 10)
    assert [r.path for r in sv.requests] == ["/e-zstd", "/b-gzip", "/d-lzip", "/a-none"], [r.path for r in sv.requests]
    del sv.requests[:]
    h.nar([(0, 100 - i, "lzip", "n%d" % i) for i in range(64)], 1000)  # as many as there may be
    assert [r.path for r in sv.requests] == ["/n%d" % i for i in range(63, -1, -1)]
    good(h)


@case
def nar_exhausted(lab):
    sv, h = lab.server(lambda sv, conn, r: reply(conn, "404 x", b"no")), lab.fetch()
    h.ready([sv.url])
    d, frames, end = h.nar([(0, 0, "none", "nar/a")], len(NAR))
    assert end["status"] == EXHAUSTED and end["candidate"] == 0xffff and "404" in end["reason"] and not d, end
    d, frames, end = h.nar([(0, 0, "xz", "nar/a"), (0, 0, "br", "nar/a")], len(NAR))
    assert end["status"] == EXHAUSTED and "compression" in end["reason"], end
    good(h)


@case
def nar_retry_after(lab):
    def handler(sv, conn, r):
        if len(sv.requests) == 1:
            return reply(conn, "503 x", b"busy", "Retry-After: 1")
        return simple(sv, conn, r)
    t = time.monotonic()
    sv, h, d, frames, end = one_nar(lab, handler)
    assert d == NAR and 0.95 < time.monotonic() - t < 3, end
    good(h)
    # another place goes first
    busy = lab.server(lambda sv, conn, r: reply(conn, "429 x", b"", "Retry-After: 30"))
    fine, h = lab.server(simple), lab.fetch()
    h.ready([busy.url, fine.url])
    t = time.monotonic()
    d, frames, end = h.nar([(0, 0, "none", "nar/x"), (1, 0, "none", "nar/x")], len(NAR))
    assert d == NAR and end["candidate"] == 1 and time.monotonic() - t < 2
    good(h)


@case
def nar_transient_errors_are_tried_again(lab):
    def handler(sv, conn, r):
        if len(sv.requests) < 3:
            return reply(conn, "502 x", b"")
        return simple(sv, conn, r)
    sv, h, d, frames, end = one_nar(lab, handler)
    assert d == NAR and end["status"] == DONE
    good(h)
    sv, h, d, frames, end = one_nar(lab, lambda sv, conn, r: reply(conn, "500 x", b""))
    assert end["status"] == EXHAUSTED and len(sv.requests) == 3, (end, len(sv.requests))
    good(h)


@case
def nar_redirects(lab):
    other = lab.server(simple)
    loop = {"/nar/loop": "/nar/loop", "/nar/x": other.url + "/cdn/x?token=secret", "/nar/file": "file:///etc/passwd"}
    sv, h = lab.server(lambda sv, conn, r: reply(conn, "302 x", b"page", "Location: " + loop[r.path])), lab.fetch()
    h.ready([sv.url])
    d, frames, end = h.nar([(0, 0, "none", "nar/x")], len(NAR))
    assert d == NAR and end["status"] == DONE, end
    assert "secret" not in repr(frames) + repr(h.log)
    d, frames, end = h.nar([(0, 0, "none", "nar/loop")], len(NAR))
    expect_failed_item(end, frames, EXHAUSTED, "5 redirects")
    d, frames, end = h.nar([(0, 0, "none", "nar/file")], len(NAR))
    expect_failed_item(end, frames, EXHAUSTED)
    good(h)


@case
def nar_connection_reuse(lab):
    sv, h = lab.server(simple), lab.fetch()
    h.ready([sv.url])
    for i in range(50):
        assert h.get(0, hash_part(i))[0] == FOUND
        d, frames, end = h.nar([(0, len(NAR), "none", "nar/%d" % i)], len(NAR), ident=i)
        assert d == NAR and end["status"] == DONE
    assert sv.connections <= 2, "%d connections for 100 requests" % sv.connections
    good(h)


@case
def nar_header_and_body_in_two_writes(lab):
    """With Nagle's algorithm on, as guix publish: the header has to be acknowledged at once, not after 40 ms."""
    def handler(sv, conn, r):
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        conn.sendall(NAR[:1000])
        return True
    sv, h = lab.server(handler), lab.fetch()
    h.ready([sv.url])
    t = time.monotonic()
    for i in range(20):
        d, frames, end = h.nar([(0, 1000, "none", "nar/%d" % i)], 1000, ident=i)
        assert d == NAR[:1000], end
    lab.note = "%.1f ms each" % ((time.monotonic() - t) * 50)
    assert time.monotonic() - t < 0.4 and sv.connections == 1, (time.monotonic() - t, sv.connections)
    good(h)


@case
def nar_server_closes_idle_connections(lab):
    """A kept connection that the server closed meanwhile is no failure."""
    def handler(sv, conn, r):
        simple(sv, conn, r)
        return False
    sv, h = lab.server(handler), lab.fetch()
    h.ready([sv.url])
    for i in range(10):
        assert h.get(0, hash_part(i))[0] == FOUND
        d, frames, end = h.nar([(0, len(NAR), "none", "nar/%d" % i)], len(NAR), ident=i)
        assert d == NAR and end["status"] == DONE
    good(h)


@case
def nar_sink_full(lab):
    """The reader sleeps longer than the stall time: that is not the server's fault."""
    body = data(8 << 20)
    sv, h = lab.server(lambda sv, conn, r: reply(conn, "200 OK", body)), lab.fetch()
    h.ready([sv.url], stall=400, rate=1000000)
    ours, theirs = socket.socketpair()
    h.candidate(1, 0, 0, 0, "none", "nar/x")
    h.order(1, len(body), len(body), theirs.fileno())
    theirs.close()
    time.sleep(1.5)
    cpu = open("/proc/%d/stat" % h.pid).read().rsplit(")", 1)[1].split()[11:13]
    time.sleep(0.5)
    later = open("/proc/%d/stat" % h.pid).read().rsplit(")", 1)[1].split()[11:13]
    assert sum(map(int, later)) - sum(map(int, cpu)) <= 5, "spins while it waits: %r %r" % (cpu, later)
    assert h.rss() < 16384
    got = bytearray()
    while True:
        b = ours.recv(1 << 18)
        if not b:
            break
        got += b
        if len(got) % 7 == 0:
            time.sleep(0.01)
    assert got == body, len(got)
    while True:
        m = h.recv()
        if m["t"] == "NAREND":
            break
    assert m["status"] == DONE, m
    good(h)


@case
def nar_sink_closed(lab):
    body = data(4 << 20)
    sv, h = lab.server(lambda sv, conn, r: reply(conn, "200 OK", body) if "nar" in r.path[:5] else simple(sv, conn, r)), lab.fetch()
    h.ready([sv.url])
    ours, theirs = socket.socketpair()
    h.candidate(1, 0, 0, 0, "none", "nar/x")
    h.order(1, len(body), len(body), theirs.fileno())
    theirs.close()
    ours.recv(1000)
    ours.close()
    while True:
        m = h.recv()
        if m["t"] == "NAREND":
            break
    assert m["status"] == NFAILED, m
    assert h.get(0, hash_part(1))[0] == FOUND
    good(h)


@case
def nar_cancel(lab):
    def handler(sv, conn, r):
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")
        time.sleep(5)
        return False
    sv, h = lab.server(handler), lab.fetch()
    h.ready([sv.url])
    for _ in range(2):
        ours, theirs = socket.socketpair()
        h.candidate(3, 0, 0, 0, "none", "nar/x")
        h.order(3, 1000, 1000, theirs.fileno())
        theirs.close()
        assert h.recv()["t"] == "BEGIN"
        h.cancel(3)
        m = h.recv()
        while m["t"] == "PROGRESS":
            m = h.recv()
        assert m["t"] == "NAREND" and m["status"] == CANCELLED, m
        ours.settimeout(2)
        while ours.recv(100):
            pass
    good(h)


@case
def nar_dead_host_is_tried_all_the_same(lab):
    sv, h = lab.server(simple), lab.fetch()
    port = dead_port()
    h.ready(["http://127.0.0.1:%d" % port, sv.url])
    assert h.get(0, hash_part(1))[0] == FAILED
    d, frames, end = h.nar([(0, 0, "zstd", "nar/x"), (1, 0, "none", "nar/x")], len(NAR))
    assert d == NAR and end["candidate"] == 1
    d, frames, end = h.nar([(0, 0, "zstd", "nar/x")], len(NAR))
    expect_failed_item(end, frames, EXHAUSTED)
    good(h)


@case
def nar_and_lookups_together(lab):
    body = data(20 << 20)
    sv, h = lab.server(lambda sv, conn, r: reply(conn, "200 OK", body) if "/nar/" in r.path else simple(sv, conn, r)), lab.fetch()
    h.ready([sv.url])
    ours, theirs = socket.socketpair()
    h.candidate(1, 0, 0, 0, "none", "nar/x")
    h.order(1, len(body), len(body), theirs.fileno())
    theirs.close()
    for i in range(200):
        h.lookup(i + 100, 0, hash_part(i))
    got, found, end, eof = bytearray(), 0, None, False
    while not (end and eof and found == 200):
        for x in select.select([h.control] + ([] if eof else [ours]), [], [], 10)[0]:
            if x is ours:
                b = ours.recv(1 << 18)
                eof = not b
                got += b
            else:
                m = h.recv()
                found += m["t"] == "END" and m["status"] == FOUND
                end = m if m["t"] == "NAREND" else end
    assert got == body and end["status"] == DONE
    good(h)


@case
def nar_big_memory(lab):
    """64 MiB through the helper: its memory does not grow with them."""
    piece = data(1 << 20)

    def handler(sv, conn, r):
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 << 20))
        for _ in range(64):
            conn.sendall(piece)
        return True
    sv, h = lab.server(handler), lab.fetch()
    h.ready([sv.url])
    t = time.monotonic()
    d, frames, end = h.nar([(0, 0, "none", "nar/x")], 64 << 20)
    assert d == piece * 64 and end["status"] == DONE
    assert h.rss() < 16384, h.rss()
    lab.note = "RssAnon %d KiB, %.2f GB/s through python" % (h.rss(), (64 << 20) / (time.monotonic() - t) / 1e9)
    good(h)


# --- the broker goes wrong --------------------------------------------------------------------------------

@case
def frames_garbage(lab):
    up = struct.pack(">HIIIB", 0x10, 1, 0, 1, 1) + s("") + s("")
    server = struct.pack(">HH", 0x12, 0) + s("http://127.0.0.1:1")
    lookup = struct.pack(">HIH", 0x16, 1, 0) + hash_part(1).encode()
    candidate = struct.pack(">HIHHQ", 0x18, 1, 0, 0, 0) + s("none") + s("x")
    order = struct.pack(">HIQQB", 0x1a, 1, 10, 10, 0)
    ours, theirs = socket.socketpair()
    sequences = {
        "empty": [b"\x00"], "unknown type": [b"\xff\xff"], "another helper's": [up, struct.pack(">H", 0x30) + s("a")],
        "lookup first": [lookup], "server first": [server], "settings twice": [up, up], "short": [up[:-1]], "left over": [up + b"x"],
        "server 1 first": [up, struct.pack(">HH", 0x12, 1) + s("http://x")], "server after work": [up, server, lookup, server],
        "no such server": [up, server, struct.pack(">HIH", 0x16, 1, 7) + hash_part(1).encode()],
        "bad hash part": [up, server, struct.pack(">HIH", 0x16, 1, 0) + b"e" * 32],
        "hash part with a path": [up, server, struct.pack(">HIH", 0x16, 1, 0) + b"../" * 10 + b"aa"],
        "control character": [up, struct.pack(">HH", 0x12, 0) + s("http://x\r\nEvil: y")],
        "long url": [up, struct.pack(">HH", 0x12, 0) + s("http://" + "x" * 2048)],
        "order without candidates": [up, server, (order, theirs)], "order without fd": [up, server, candidate, order],
        "candidate 1 first": [up, server, struct.pack(">HIHHQ", 0x18, 1, 1, 0, 0) + s("none") + s("x")],
        "other id": [up, server, candidate, (struct.pack(">HIQQB", 0x1a, 2, 10, 10, 0), theirs)],
        "fd on a lookup": [up, server, (lookup, theirs)],
        "addresses unasked": [up, server, lookup, struct.pack(">H", 0x1e) + s("x") + b"\x01" + s("")],
        "its own message": [up, struct.pack(">HIBI", 0x15, 1, 0, 0) + s("")],
        "65 servers": [up] + [struct.pack(">HH", 0x12, i) + s("http://x") for i in range(65)],
        "tls_verify 2": [struct.pack(">HIIIB", 0x10, 1, 0, 1, 2) + s("") + s("")],
    }
    for name, seq in sequences.items():
        h = lab.fetch()
        h.sealed()
        for f in seq:
            try:
                h.raw(f[0], [f[1].fileno()]) if isinstance(f, tuple) else h.raw(f)
            except OSError:
                pass  # it has gone already
        code = h.wait()
        assert code == 1, "%s: exit code %r" % (name, code)
        assert h.log, "%s: no log line" % name
        h.kill()


@case
def broker_goes(lab):
    sv, h = lab.server(lambda sv, conn, r: time.sleep(5)), lab.fetch()
    h.ready([sv.url])
    h.lookup(1, 0, hash_part(1))
    time.sleep(0.2)
    t = time.monotonic()
    assert h.close() in (0, 1)
    assert time.monotonic() - t < 1


@case
def wrong_parent(lab):
    h = Helper(os.path.abspath(os.path.join(PROGRAMS, "fetch")), {"NARLOCK_SPAWNER": "1"})
    lab.things.append(h)
    assert h.wait() == 1 and "parent" in h.log[0], h.log


# --- resolve ----------------------------------------------------------------------------------------------

@case
def resolve_answers_in_order(lab):
    h = lab.resolve()
    m = h.sealed()
    assert m["layers"] & 0x10, m
    names = [b"localhost", b"127.0.0.1", b"::1", b"", b"-", b"." * 200, b"x" * 255, b"%s%n%s", b"a b", b"..", b"127.1", b"\xff\xfe", b"*",
             b"no-such-host.invalid", b"localhost"]
    for n in names:
        h.lookup_host(n)
    got = [h.recv(30) for _ in names]
    assert [g["host"] for g in got] == names
    loop = got[0]
    assert loop["status"] == 0 and len(loop["addresses"]) % 17 == 0 and address("127.0.0.1") in (
        loop["addresses"][i:i + 17] for i in range(0, len(loop["addresses"]), 17)), loop
    assert got[1]["addresses"] == address("127.0.0.1")
    for g in got:
        assert (g["status"] == 0) == (len(g["addresses"]) > 0), g
    assert got[3]["status"] == 1 and got[13]["status"] == 1
    good(h)


@case
def resolve_garbage(lab):
    for f in (b"\x00", struct.pack(">H", 0x16) + bytes(38), struct.pack(">H", 0x30) + s("x" * 256), struct.pack(">H", 0x30) + s("x") + b"y"):
        h = lab.resolve()
        h.sealed()
        h.raw(f)
        assert h.wait() == 1 and h.log


# --- URLs that an untrusted user has named -------------------------------------------------------------------

REFUSED, BY_NAME = 1, 2


def silence(*servers):
    """Nobody may even have connected to these."""
    time.sleep(0.1)
    for sv in servers:
        assert not sv.requests and not sv.connections, sv.requests


@case
def untrusted_private(lab):
    sv, h = lab.server(simple), lab.fetch()
    urls = [sv.url, "http://localhost:%d" % sv.port, "http://[::ffff:127.0.0.1]:%d" % sv.port, "http://name.example:%d" % sv.port,
            "http://[::1]:%d" % sv.port, "http://mixed.example:%d" % sv.port, "http://169.254.169.254", "http://[64:ff9b::a00:1]",
            "http://[2002:a00:1::]", "http://0.0.0.0:%d" % sv.port]
    resolve = {"name.example": ("127.0.0.1",), "mixed.example": ("203.0.113.9", "::ffff:7f00:1")}
    h.ready([(u, 1) for u in urls])
    for i in range(len(urls)):
        for again in (1, 2):
            got = h.get(i, hash_part(again), resolve=resolve)
            assert got[0] == FAILED and "is not a public address (untrusted-urls" in got[3], (urls[i], got)
    told = [t[1] for t in h.told]
    assert all(t[0] == REFUSED for t in h.told) and len(told) == len(set(told)) == len(urls), h.told
    silence(sv)
    expect_failed_item(*h.nar([(0, 0, "none", "nar/x")], len(NAR))[:0:-1], 2, "is not a public address")
    silence(sv)
    good(h)


@case
def untrusted_odd_forms(lab):
    """Whatever some resolver or proxy would read as 127.0.0.1 is neither connected to nor handed to a proxy."""
    sv, px = lab.server(simple), lab.server(proxy_handler)
    forms = ["127.1", "0x7f.1", "0x7f.0.0.1", "017700000001", "0177.0.0.1", "2130706433", "0x7f000001", "127.0.0.1.", "0", "localhost.",
             "LOCALHOST", "a.localhost", "a.localhost.", "[::]", "[::127.0.0.1]", "[0:0:0:0:0:ffff:7f00:1]", "[::ffff:0:127.0.0.1]",
             "[fe80::1%25lo]", "127.0.0.1%2f.example.com", "example.com@127.0.0.1", "u:p@localhost", "ip6-localhost", "host"]
    urls = [("http://%s:%d/x" % (f, sv.port), 1) for f in forms]
    for more in ({}, {"http": "http://127.0.0.1:%d" % px.port}):
        h = lab.fetch()
        h.ready(urls, **more)
        for i, f in enumerate(forms):
            name = f.rsplit("@", 1)[-1].lower()
            got = h.get(i, hash_part(1), resolve={name: ("127.0.0.1",)})
            assert got[0] == FAILED, (f, got)
        good(h)
    silence(sv, px)


@case
def untrusted_allowed(lab):
    one, two, h = lab.server(simple), lab.server(simple), lab.fetch()
    h.ready([(one.url, 1), (two.url, 1), ("http://name.example:%d" % two.port, 1)],
            options=[("untrusted-allow", "127.0.0.1:%d" % one.port), ("untrusted-allow", "name.example")])
    assert h.get(0, hash_part(1))[0] == FOUND
    assert h.get(1, hash_part(1))[0] == FAILED
    silence(two)
    data, frames, end = h.nar([(0, 0, "none", "nar/x")], len(NAR))
    assert data == NAR and end["status"] == 0, end
    good(h)
    h = lab.fetch()
    h.ready([(one.url, 1)], options=[("untrusted-urls", "allow"), ("untrusted-allow", "127.0.0.0/8")])
    assert h.get(0, hash_part(1))[0] == FOUND
    good(h)


@case
def untrusted_modes(lab):
    sv = lab.server(simple)
    for options, why in (([("untrusted-urls", "off"), ("untrusted-allow", "127.0.0.1")], "untrusted-urls = off"),
                         ([("untrusted-urls", "publik"), ("untrusted-allow", "127.0.0.1")], "untrusted-urls = off"),
                         ([("untrusted-urls", "allow"), ("untrusted-allow", "127.0.0.2")], "is not in untrusted-allow")):
        h = lab.fetch()
        h.ready([(sv.url, 1), ("http://x.example:%d" % sv.port, 1), sv.url], options=options)
        got = h.get(0, hash_part(1))
        assert got[0] == FAILED and why in got[3], got
        got = h.get(1, hash_part(1), resolve={"x.example": ("203.0.113.1",)})
        assert got[0] == FAILED and why in got[3], got
        assert ("off" in why) == (not hasattr(h, "asked")), "names are asked for"
        silence(sv)
        assert h.get(2, hash_part(1))[0] == FOUND, "the admin's server suffers"
        sv.requests.clear()
        sv.connections = 0
        good(h)


@case
def untrusted_leads_elsewhere(lab):
    inner = lab.server(simple)

    def outer_handler(sv, conn, r):
        if "redirect" in r.path:
            return reply(conn, "302 Found", b"", "Location: %s/nar/x" % inner.url)
        return simple(sv, conn, r)
    outer, h = lab.server(outer_handler), lab.fetch()
    h.ready([(outer.url, 1), outer.url, (outer.url + "/redirect", 1)], trust=["127.0.0.1"],
            options=[("untrusted-allow", "127.0.0.1:%d" % outer.port)])
    got = h.get(2, hash_part(2))
    assert got[0] == FAILED and "public address" in got[3], got
    for url in ("redirect/x", inner.url + "/nar/x"):
        expect_failed_item(*h.nar([(0, 0, "none", url)], len(NAR))[:0:-1], 2, "is not a public address")
    silence(inner)
    for url in ("redirect/x", inner.url + "/nar/x"):  # of the admin's server it is right
        data, frames, end = h.nar([(1, 0, "none", url)], len(NAR))
        assert data == NAR, end
    good(h)


@case
def untrusted_kept_connection(lab):
    """What was connected for the admin's server does not serve others, and is not closed for them."""
    sv, h = lab.server(simple), lab.fetch()
    h.ready(["http://name.example:%d" % sv.port, ("http://name.example:%d/x" % sv.port, 1)])
    for n in range(1, 6):
        assert h.get(0, hash_part(n), resolve={"name.example": ("127.0.0.1",)})[0] == FOUND
        got = h.get(1, hash_part(n), resolve={"name.example": ("127.0.0.1",)})
        assert got[0] == FAILED and "is not a public address" in got[3], got
    assert sv.connections == 1 and len(sv.requests) == 5, (sv.connections, sv.requests)
    good(h)


@case
def untrusted_proxy(lab):
    px, h = lab.server(proxy_handler), lab.fetch()
    h.ready([("http://farm.example", 1), ("http://10.0.0.1", 1), ("http://metadata.google.internal", 1), ("http://metadata", 1),
             ("http://localhost", 1)], http="http://127.0.0.1:%d" % px.port)
    assert h.get(0, hash_part(1))[0] == FOUND
    assert h.told == [(BY_NAME, "farm.example", "named by an untrusted user and asked through a proxy: only its name was checked")]
    for i in range(1, 5):
        got = h.get(i, hash_part(1))
        assert got[0] == FAILED and ("not a public address" in got[3] or "local network" in got[3]), got
    assert len(px.requests) == 1, px.requests
    good(h)


def dns_server(log):
    """A DNS server on 127.0.0.1:53 for names that end in .test."""
    def answer(q, tcp):
        i, labels = 12, []
        while q[i]:
            labels.append(q[i + 1:i + 1 + q[i]].decode())
            i += q[i] + 1
        kind = struct.unpack(">H", q[i + 1:i + 3])[0]
        name = ".".join(labels).lower()
        log.append((name, kind, tcp))
        question = q[12:i + 5]
        v4, v6 = {"one.test": (1, 0), "both.test": (1, 1), "many.test": (40, 0), "six.test": (0, 1), "huge.test": (200, 0)}.get(name, (None, None))
        if v4 is None:
            return q[:2] + struct.pack(">HHHHH", 0x8183, 1, 0, 0, 0) + question
        if name == "huge.test" and not tcp:  # come again over TCP
            return q[:2] + struct.pack(">HHHHH", 0x8380, 1, 0, 0, 0) + question
        rr = [struct.pack(">HHHIH", 0xc00c, 1, 1, 60, 4) + bytes([10, 0, k >> 8, k & 255]) for k in range(v4)] if kind == 1 else \
            [struct.pack(">HHHIH", 0xc00c, 28, 1, 60, 16) + b"\x20\x01\x0d\xb8" + bytes(11) + bytes([k + 1]) for k in range(v6)] if kind == 28 else []
        return q[:2] + struct.pack(">HHHHH", 0x8180, 1, len(rr), 0, 0) + question + b"".join(rr)

    def udp(sock):
        while True:
            q, peer = sock.recvfrom(4096)
            if b"silent" not in q:
                sock.sendto(answer(q, False), peer)

    def tcp(sock):
        while True:
            c, _ = sock.accept()
            try:
                while True:
                    n = c.recv(2, socket.MSG_WAITALL)
                    if len(n) < 2:
                        break
                    a = answer(c.recv(struct.unpack(">H", n)[0], socket.MSG_WAITALL), True)
                    c.sendall(struct.pack(">H", len(a)) + a)
            except OSError:
                pass
            c.close()
    u, t = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket()
    t.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for x in (u, t):
        x.bind(("127.0.0.1", 53))
    t.listen(5)
    threading.Thread(target=udp, args=(u,), daemon=True).start()
    threading.Thread(target=tcp, args=(t,), daemon=True).start()


def inside_own_network(directory):
    """Runs in a network and mount namespace of its own, see resolve_by_dns."""
    s_ = socket.socket()
    fcntl.ioctl(s_, 0x8914, struct.pack("16sH14s", b"lo", 0x1 | 0x40, b""))  # SIOCSIFFLAGS: up, running
    s_.close()
    for name, text in (("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:2\n"), ("nsswitch.conf", "hosts: files resolve mdns4 nis dns\n"),
                       ("hosts", "127.0.0.1 localhost\n192.0.2.9 here.local\n")):
        path = os.path.join(directory, name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, 0o644)
        subprocess.run(["mount", "--bind", path, os.path.realpath("/etc/" + name)], check=True)
    log = []
    dns_server(log)
    lab = Lab(directory)
    h = lab.resolve()
    h.sealed()
    want = {"one.test": 1, "both.test": 2, "many.test": 16, "six.test": 1, "huge.test": 16, "none.test": 0, "here.local": 1, "silent.test": 0,
            "ONE.test.": 1}
    for name, n in want.items():
        h.lookup_host(name)
        m = h.recv(20)
        assert len(m["addresses"]) == 17 * n and (m["status"] == 0) == (n > 0), (name, m, h.log)
    assert any(tcp for _, _, tcp in log), "huge.test did not go over TCP"
    good(h)
    lab.close()


@case
def resolve_by_dns(lab):
    if os.getuid() != 0 or not shutil.which("unshare"):
        raise Skip("needs root and unshare")
    if subprocess.run(["unshare", "-mn", "true"], stderr=subprocess.DEVNULL).returncode != 0:
        raise Skip("no namespaces here")
    r = subprocess.run(["unshare", "-mn", sys.executable, os.path.abspath(__file__), PROGRAMS], env=dict(os.environ, NARLOCK_TEST_INSIDE=lab.dir),
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    assert r.returncode == 0, r.stdout.decode()[-500:]


def main():
    if "NARLOCK_TEST_INSIDE" in os.environ:
        inside_own_network(os.environ["NARLOCK_TEST_INSIDE"])
        return 0
    global PROGRAMS
    passed = failed = skipped = 0
    # Another uid has to be able to execute them, wherever this tree is.
    copies = tempfile.mkdtemp(prefix="narlock-fetch.")
    os.chmod(copies, 0o755)
    for name in ("fetch", "resolve"):
        shutil.copy(os.path.join(PROGRAMS, name), copies)
    PROGRAMS = copies
    for c in CASES:
        if WORDS and not any(w in c.__name__ for w in WORDS):
            continue
        directory = tempfile.mkdtemp(prefix="narlock-fetch.")
        os.chmod(directory, 0o755)
        lab = Lab(directory)
        lab.note = ""
        t = time.monotonic()
        try:
            c(lab)
            passed += 1
            print("ok %s (%.1f s%s)" % (c.__name__, time.monotonic() - t, "; " + lab.note if lab.note else ""))
        except Skip as e:
            skipped += 1
            print("SKIP %s: %s" % (c.__name__, e))
        except Exception as e:
            failed += 1
            line = e.__traceback__
            while line.tb_next and line.tb_next.tb_frame.f_code.co_filename == __file__:
                line = line.tb_next
            print("not ok %s: %s: %s (line %d)" % (c.__name__, type(e).__name__, str(e)[:600], line.tb_lineno))
        finally:
            lab.close()
            shutil.rmtree(directory, ignore_errors=True)
        sys.stdout.flush()
    shutil.rmtree(copies, ignore_errors=True)
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
