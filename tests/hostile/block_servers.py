# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests: an ERIS encoder, manifests and CARs, and sources of blocks that lie, stall and misbehave.  Written from the
formats' documents, not from narlock's code.  Standard library, and libsodium's ChaCha20 for speed."""
import base64, ctypes, ctypes.util, hashlib, json, os, re, socket, struct, threading, time

BLOCK = 32768
ARITY = BLOCK // 64


# --- ERIS 1.0.0 -------------------------------------------------------------------------------------------

def blake(data, key=b""):
    return hashlib.blake2b(data, digest_size=32, key=key).digest()


def chacha_slow(key, nonce, data):
    """RFC 8439, counter 0: the reference for the fast one."""
    def quarter(s, a, b, c, d):
        for x, y, z, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            s[x] = (s[x] + s[y]) & 0xffffffff
            v = s[z] ^ s[x]
            s[z] = (v << n | v >> (32 - n)) & 0xffffffff
    out = bytearray()
    for i in range(0, len(data), 64):
        init = list(struct.unpack("<16I", b"expand 32-byte k" + key + struct.pack("<I", i // 64) + nonce))
        s = init[:]
        for _ in range(10):
            for q in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
                      (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
                quarter(s, *q)
        stream = struct.pack("<16I", *((x + y) & 0xffffffff for x, y in zip(s, init)))
        out += bytes(x ^ y for x, y in zip(data[i:i + 64], stream))
    return bytes(out)


def load_sodium():
    try:
        lib = ctypes.CDLL("libsodium.so.23")
    except OSError:
        name = ctypes.util.find_library("sodium")
        if name is None:
            return None
        lib = ctypes.CDLL(name)
    lib.sodium_init()
    return lib


SODIUM = load_sodium()


def chacha(key, level, data):
    nonce = bytes([level]) + bytes(11)
    if SODIUM is None:
        return chacha_slow(key, nonce, data)
    out = ctypes.create_string_buffer(len(data))
    SODIUM.crypto_stream_chacha20_ietf_xor(out, data, ctypes.c_ulonglong(len(data)), nonce, key)
    return out.raw


def b32(b):
    return base64.b32encode(b).decode().rstrip("=")


def unb32(text):
    return base64.b32decode(text.upper() + "=" * (-len(text) % 8))


def urn(level, ref, key, size=0x0f):
    return "urn:eris:" + b32(bytes([size, level]) + ref + key)


def seal(plain, level, key=None, secret=bytes(32)):
    """(reference, key, block) of one plain block or node."""
    if key is None:
        key = blake(plain, secret) if level == 0 else blake(plain)
    block = chacha(key, level, plain)
    return blake(block), key, block


class Tree:
    """An encoding of CONTENT.  blocks: reference -> block; order: (reference, level) as a decoder wants them; leaves:
    references of leaves in order."""

    def __init__(self, content, size=BLOCK, last=None):
        self.content, self.blocks, self.leaves, self.inner = content, {}, [], []
        padded = content + b"\x80" + bytes(size - 1 - len(content) % size)
        pairs, below = [], []
        for i in range(0, len(padded), size):
            plain = padded[i:i + size]
            if last is not None and i + size == len(padded):
                plain = last
            ref, key, block = seal(plain, 0)
            self.blocks[ref] = block
            self.leaves.append(ref)
            pairs.append((ref, key))
            below.append([(ref, 0)])
        level, arity = 0, size // 64
        while len(pairs) > 1:
            level += 1
            up, ups = [], []
            for i in range(0, len(pairs), arity):
                plain = b"".join(r + k for r, k in pairs[i:i + arity]).ljust(size, b"\0")
                ref, key, block = seal(plain, level)
                self.blocks[ref] = block
                self.inner.append(ref)
                up.append((ref, key))
                ups.append([(ref, level)] + [x for b in below[i:i + arity] for x in b])
            pairs, below = up, ups
        self.level, (self.root, self.key) = level, pairs[0]
        self.order = below[0]
        self.cap = bytes([size.bit_length() - 1, level]) + self.root + self.key
        self.urn = "urn:eris:" + b32(self.cap)

    def only(self, refs):
        return {r: self.blocks[r] for r in refs}

    def without(self, refs):
        refs = set(refs)
        return {r: b for r, b in self.blocks.items() if r not in refs}


# --- CIDs, manifests, CARs --------------------------------------------------------------------------------

RAW, CBOR, PB = 0x55, 0x71, 0x70


def cid_bytes(ref, codec=RAW):
    return bytes([1, codec, 0xa0, 0xe4, 0x02, 0x20]) + ref


def cid(ref, codec=RAW):
    return "b" + b32(cid_bytes(ref, codec)).lower()


def uncid(text):
    """(codec, reference) of a CID of our kinds, or None."""
    if not re.fullmatch(r"b[a-z2-7]{61}", text):
        return None
    raw = unb32(text[1:])
    return (raw[1], raw[6:]) if raw[0] == 1 and raw[2:6] == b"\xa0\xe4\x02\x20" else None


def head(kind, n):
    if n < 24:
        return bytes([kind << 5 | n])
    for i, fmt in enumerate((">B", ">H", ">I", ">Q")):
        if n < 1 << (8 << i):
            return bytes([kind << 5 | 24 + i]) + struct.pack(fmt, n)


def cbor_text(t):
    return head(3, len(t)) + t.encode()


def link(c):
    return b"\xd8\x2a" + head(2, len(c) + 1) + b"\0" + c


def varint(n):
    out = bytearray()
    while n > 0x7f:
        out.append(n & 0x7f | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def section(c, data):
    return varint(len(c) + len(data)) + c + data


def car_header(root, codec=CBOR):
    body = head(5, 2) + cbor_text("roots") + head(4, 1) + link(cid_bytes(root, codec)) + cbor_text("version") + b"\1"
    return varint(len(body)) + body


def pb(*fields):
    """A message of protocol buffers: (number of the field, integer or bytes)."""
    return b"".join(varint(n << 3) + varint(v) if isinstance(v, int) else varint(n << 3 | 2) + varint(len(v)) + v
                    for n, v in fields)


def file_node(parts):
    """(node, bytes of the file beneath it, bytes of all blocks beneath it) of parts (CID, the same two of each)."""
    size = sum(n for _, n, _ in parts)
    unixfs = pb((1, 2), (3, size), *((4, n) for _, n, _ in parts))
    node = pb(*((2, pb((1, c), (2, b""), (3, total))) for c, _, total in parts), (1, unixfs))
    return node, size, len(node) + sum(total for _, _, total in parts)


class Manifest:
    """nodes: hash -> bytes; root; cid; file: the CID of the file of all blocks, stream() its bytes; car(blocks): the
    sections of an export, for the blocks that are there."""

    def __init__(self, tree, narinfo=None, cap=None, full=174, blocks=None, refs=None, version=2, file=None, more=b""):
        refs = [r for r, _ in tree.order] if refs is None else refs
        self.nodes, self.kinds, self.tree, self.refs, size = {}, {}, tree, refs, 1 << tree.cap[0]
        parts = [(cid_bytes(r), size, size, [r]) for r in refs]
        while len(parts) > 1:
            up = []
            for i in range(0, len(parts), full):
                node, length, total = file_node([p[:3] for p in parts[i:i + full]])
                h = blake(node)
                self.nodes[h], self.kinds[h] = node, PB
                up.append((cid_bytes(h, PB), length, total, [h] + [x for p in parts[i:i + full] for x in p[3]]))
            parts = up
        raw, _, _, below = parts[0]
        self.file = cid(raw[6:], raw[1])
        narinfo = narinfo if narinfo is None else cbor_text("narinfo") + head(2, len(narinfo)) + narinfo
        root = head(5, 5 if narinfo else 4) + cbor_text("v") + head(0, version) + cbor_text("cap") + \
            head(2, 66) + (cap or tree.cap) + cbor_text("file") + link(file or raw) + \
            cbor_text("blocks") + head(0, len(refs) if blocks is None else blocks) + (narinfo or b"") + more
        self.root = blake(root)
        self.nodes[self.root], self.kinds[self.root] = root, CBOR
        self.order = [self.root] + below
        self.cid = cid(self.root, CBOR)

    def sections(self, blocks=None):
        blocks = self.tree.blocks if blocks is None else blocks
        seen = set()
        for h in self.order:
            if h in seen:
                continue
            seen.add(h)
            if h in self.nodes:
                yield section(cid_bytes(h, self.kinds.get(h, CBOR)), self.nodes[h])
            elif h in blocks:
                yield section(cid_bytes(h), blocks[h])

    def car(self, blocks=None):
        return car_header(self.root) + b"".join(self.sections(blocks))

    def stream(self, blocks=None):
        """The file's blocks, up to the first that is not there: (pieces, whether that is all)."""
        blocks = self.tree.blocks if blocks is None else blocks
        there = next((i for i, r in enumerate(self.refs) if r not in blocks), len(self.refs))
        return [blocks[r] for r in self.refs[:there]], there == len(self.refs)


def read_varint(b, i):
    n = shift = 0
    while True:
        n |= (b[i] & 0x7f) << shift
        shift, i = shift + 7, i + 1
        if not b[i - 1] & 0x80:
            return n, i


def read_car(b):
    """[(codec, hash, data)] of a CAR of our kinds of blocks; raises whatever if it is none."""
    n, i = read_varint(b, 0)
    header = b[i:i + n]
    assert header[:1] == b"\xa2" and b"roots" in header and header.endswith(cbor_text("version") + b"\1"), header
    assert header[7] != 0x80, "no roots"
    i, out = i + n, []
    while i < len(b):
        n, i = read_varint(b, i)
        s = b[i:i + n]
        assert len(s) == n and n >= 38 and s[0] == 1 and s[2:6] == b"\xa0\xe4\x02\x20", "not our kind of section"
        out.append((s[1], s[6:38], s[38:]))
        i += n
    return out


def read_form(body, content_type):
    """The parts of multipart/form-data: [(headers, data)]."""
    m = re.fullmatch(r'multipart/form-data; ?boundary="?([0-9A-Za-z\'()+_,./:=?-]{1,70})"?', content_type)
    assert m, "content type %r" % content_type
    mark = b"--" + m.group(1).encode()
    assert body.startswith(mark + b"\r\n"), "the form begins with %r" % body[:60]
    end = body.rfind(b"\r\n" + mark + b"--")
    assert end >= 0 and body[end + len(mark) + 4:] in (b"", b"\r\n"), "the form ends with %r" % body[-60:]
    parts = []
    for p in body[len(mark) + 2:end].split(b"\r\n" + mark + b"\r\n"):
        h, sep, data = p.partition(b"\r\n\r\n")
        assert sep, "a part without a head"
        fields = dict((k.strip().lower(), v.strip()) for k, _, v in
                      (line.partition(":") for line in h.decode("ascii").split("\r\n")))
        assert fields.get("content-disposition", "").startswith("form-data;"), fields
        assert "content-type" in fields, "js-ipfs wants a type of every part: %r" % fields
        parts.append((fields, data))
    return parts


# --- HTTP -------------------------------------------------------------------------------------------------

class Ask:
    def __init__(self, raw, connection):
        lines = raw.decode("latin-1").split("\r\n")
        self.method, self.target, self.version = (lines[0].split(" ") + ["", "", ""])[:3]
        self.path, _, self.query = self.target.partition("?")
        self.headers = {}
        for line in lines[1:]:
            k, _, v = line.partition(":")
            self.headers[k.strip().lower()] = v.strip()
        self.args = {}
        for pair in self.query.split("&"):
            k, _, v = pair.partition("=")
            self.args.setdefault(k, []).append(v)
        self.body, self.connection, self.at, self.ref = b"", connection, time.monotonic(), None

    def arg(self, name):
        return self.args.get(name, [None])[0]

    def range(self):
        m = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        return (int(m.group(1)), int(m.group(2)) if m.group(2) else None) if m else None


class Out:
    """What a handler writes to."""

    def __init__(self, conn, server):
        self.conn, self.server, self.sent = conn, server, 0

    def raw(self, data):
        self.conn.sendall(data)
        self.sent += len(data)
        with self.server.lock:
            self.server.sent += len(data)
        return False

    def head(self, status, *headers):
        self.raw("\r\n".join(["HTTP/1.1 " + status] + list(headers)).encode("latin-1") + b"\r\n\r\n")

    def reply(self, status, body=b"", *headers):
        self.raw("\r\n".join(["HTTP/1.1 " + status, "Content-Length: %d" % len(body)] + list(headers))
                 .encode("latin-1") + b"\r\n\r\n" + body)
        return not any(h.lower() == "connection: close" for h in headers)

    def chunks(self, pieces, *headers, trailer="", end=True):
        self.head("200 OK", "Transfer-Encoding: chunked", *headers)
        for p in pieces:
            if p:
                self.raw(b"%x\r\n" % len(p) + p + b"\r\n")
        if end:
            self.raw(b"0\r\n" + (trailer + "\r\n" if trailer else "").encode() + b"\r\n")
        return end

    def ok(self, body, *headers):
        """A 200 in the manner of this server: Kubo's or with a length."""
        return self.part(body, "", *headers)

    def part(self, body, trailer, *headers):
        if self.server.kubo:
            return self.chunks([body[:20000], body[20000:]], "Content-Type: application/vnd.ipld.raw",
                               "X-Stream-Output: 1", "Trailer: X-Stream-Error", *headers, trailer=trailer)
        return self.reply("200 OK", body, "Content-Type: application/vnd.ipld.raw", *headers)

    def wait(self, seconds):
        """True if the server was closed meanwhile."""
        return self.server.gone.wait(seconds)

    def hang(self, seconds=60):
        self.wait(seconds)
        return False

    def reset(self):
        self.conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False


class Http:
    """One listener; each connection has a thread.  Counts; keeps all requests; notes what no client of that kind
    should do (violations)."""
    kubo = False

    def __init__(self, path=None, tls=None, port=0):
        self.lock, self.gone = threading.Lock(), threading.Event()
        self.connections, self.requests, self.violations, self.conns = 0, [], [], set()
        self.flying, self.flying_max, self.sent, self.tls = 0, 0, 0, tls
        self.sock = socket.socket(socket.AF_UNIX if path else socket.AF_INET, socket.SOCK_STREAM)
        if path:
            self.sock.bind(path)
            os.chmod(path, 0o666)
            self.port, self.host = 0, "localhost"
        else:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.sock.bind(("127.0.0.1", port))
            self.port = self.sock.getsockname()[1]
            self.host = "127.0.0.1:%d" % self.port
        self.url = "%s://%s" % ("https" if tls else "http", self.host)
        self.sock.listen(512)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
                n = self.connections
                self.conns.add(conn)
            threading.Thread(target=self.serve, args=(conn, n), daemon=True).start()

    def serve(self, conn, n):
        try:
            if conn.family == socket.AF_INET:
                conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                conn = self.tls.wrap_socket(conn, server_side=True)
            if not self.greet(conn):
                return
            rest = bytearray()
            while self.one(conn, n, rest):
                pass
        except (OSError, ValueError):
            pass
        finally:
            with self.lock:
                self.conns.discard(conn)
            try:
                conn.close()
            except OSError:
                pass

    def greet(self, conn):
        return True

    def one(self, conn, n, rest):
        while b"\r\n\r\n" not in rest:
            more = conn.recv(65536)
            if not more:
                return False
            rest += more
        at = rest.index(b"\r\n\r\n")
        ask = Ask(bytes(rest[:at]), n)
        del rest[:at + 4]
        with self.lock:
            self.requests.append(ask)
        if ask.headers.get("transfer-encoding", "").lower() == "chunked":
            ask.body = self.read_chunks(conn, rest)
        else:
            want = int(ask.headers.get("content-length", "0"))
            while len(rest) < want:
                more = conn.recv(1 << 18)
                if not more:
                    return False
                rest += more
            ask.body = bytes(rest[:want])
            del rest[:want]
        self.common(ask)
        with self.lock:
            self.flying += 1
            self.flying_max = max(self.flying, self.flying_max)
        try:
            return self.handle(ask, Out(conn, self))
        finally:
            with self.lock:
                self.flying -= 1

    @staticmethod
    def read_chunks(conn, rest):
        def need(test):
            while not test():
                more = conn.recv(1 << 18)
                if not more:
                    raise OSError("cut off")
                rest.extend(more)
        body = bytearray()
        while True:
            need(lambda: b"\r\n" in rest)
            at = rest.index(b"\r\n")
            size = int(bytes(rest[:at]).split(b";")[0], 16)
            del rest[:at + 2]
            need(lambda: len(rest) >= size + 2)
            body += rest[:size]
            del rest[:size + 2]
            if size == 0:
                return bytes(body)

    def violate(self, ask, what):
        with self.lock:
            self.violations.append("%s: %s %s %r" % (what, ask.method, ask.target[:120], ask.headers))

    def common(self, ask):
        agent = ask.headers.get("user-agent", "")
        if not agent.startswith("narlock") or "kubo" in agent or "ipfs" in agent:
            self.violate(ask, "user agent")
        for h in ("origin", "referer", "cookie", "expect"):
            if h in ask.headers:
                self.violate(ask, h)
        if ask.version != "HTTP/1.1":
            self.violate(ask, "version")
        if ask.method == "POST" and "content-length" not in ask.headers and "transfer-encoding" not in ask.headers:
            self.violate(ask, "POST without a length")

    def handle(self, ask, out):
        raise NotImplementedError

    def close(self):
        self.gone.set()
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()
        with self.lock:
            conns = list(self.conns)
        for c in conns:
            try:
                c.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def count(self, part, method=None):
        with self.lock:
            return sum(1 for r in self.requests if part in r.target and method in (None, r.method))


class Source(Http):
    """blocks: reference -> bytes, shared with others or own; behave(ask, out, block): an answer of its own kind (a
    bool), or None for the ordinary one; authorization: what must be told; files: whether it gives files as streams of
    bytes, or what does (ask, out)."""

    def __init__(self, blocks=None, behave=None, authorization=None, files=False, **kw):
        self.blocks = {} if blocks is None else blocks
        self.behave, self.authorization, self.files, self.kubo = behave, authorization, files, True
        super().__init__(**kw)

    def authorized(self, ask):
        if ask.headers.get("authorization") != self.authorization:
            self.violate(ask, "authorization")
            return False
        return True

    def asked(self):
        """References of all requests for blocks, in order."""
        with self.lock:
            return [r.ref for r in self.requests if r.ref is not None]

    def streams(self):
        """How many files were asked for."""
        return self.count("/cat?") + sum(1 for r in self.requests if r.method == "GET" and r.path.startswith("/ipfs/") and
                                         "format=" not in r.query and r.path != "/ipfs/bafkqaaa")

    def node(self, out, ref):
        m = next((m for m in self.manifests.values() if ref in m.nodes), None)
        return self.absent(out) if m is None else out.ok(m.nodes[ref])

    def file(self, ask, out, text, *headers):
        """The file with that CID: what is missing ends it as Kubo does."""
        if callable(self.files):
            return self.files(ask, out)
        m = next((m for m in self.manifests.values() if m.file == text), None)
        if m is None:
            return self.absent(out)
        pieces, whole = m.stream(self.blocks)
        if not pieces and self.kubo:
            return self.absent(out)
        return out.chunks(pieces, "Trailer: X-Stream-Error", *headers,
                          trailer="" if whole else "X-Stream-Error: block was not found locally (offline)") and whole

    def block(self, ask, out, ref):
        ask.ref = ref
        block = self.blocks.get(ref)
        if self.behave is not None:
            r = self.behave(ask, out, block)
            if r is not None:
                return r
        return self.absent(out) if block is None else out.ok(block)


class Rpc(Source):
    """A daemon's RPC.  kubo=False: js-ipfs.  nodes: what a manifest has; export(ask, out): instead of the CAR; put_hook
    (ask, out): before a put or import, None to go on; puts: (time, path, [references]); peers: of the swarm, None if it
    does not say, or peers(ask, out); first(ask, out): before any answer, None to go on."""

    def __init__(self, blocks=None, kubo=True, manifests=(), export=None, put_hook=None, get=True, peers=None, first=None, **kw):
        self.kubo, self.manifests, self.export, self.put_hook = kubo, {m.cid: m for m in manifests}, export, put_hook
        self.puts, self.get, self.peers, self.first = [], get, peers, first
        super().__init__(blocks, **kw)

    def absent(self, out):
        return self.error(out, "Failed to get block: request timed out")

    @staticmethod
    def error(out, text, status="500 Internal Server Error", code=0):
        return out.reply(status, json.dumps({"Message": text, "Code": code, "Type": "error"}).encode() + b"\n",
                         "Content-Type: application/json")

    def handle(self, ask, out):
        if ask.method != "POST":
            self.violate(ask, "RPC wants POST")
            return out.reply("405 Method Not Allowed", b"405", "Allow: OPTIONS, POST")
        if not self.authorized(ask):
            return out.reply("403 Forbidden", b"Kubo RPC Access Denied")
        if not ask.path.startswith("/api/v0/"):
            self.violate(ask, "not below /api/v0")
            return out.reply("404 Not Found", b"404 page not found")
        t = ask.arg("timeout")
        if t is not None and not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h))+", t):
            self.violate(ask, "no Go duration")
            return out.reply("200 OK", b"")
        command = ask.path[len("/api/v0/"):]
        handler = {"block/get": self.do_get, "block/stat": self.do_get, "block/put": self.do_put,
                   "dag/export": self.do_export, "dag/import": self.do_import, "cat": self.do_cat, "version": self.do_version,
                   "swarm/peers": self.do_peers}.get(command)
        if handler is None:
            return out.reply("404 Not Found", b"404 page not found")
        r = self.first(ask, out) if self.first is not None else None
        return handler(ask, out) if r is None else r

    def do_version(self, ask, out):
        language = b',"Golang":"go1.22"' if self.kubo else b""
        return out.reply("200 OK", b'{"Version":"0.30.0","Commit":"","Repo":"16"%s}\n' % language, "Content-Type: application/json")

    def do_peers(self, ask, out):
        if callable(self.peers):
            return self.peers(ask, out)
        if self.peers is None:
            return out.reply("403 Forbidden", b"Kubo RPC Access Denied")
        return out.reply("200 OK", json.dumps({"Peers": [{"Peer": p} for p in self.peers] or (None if self.kubo else [])}).encode())

    def do_get(self, ask, out):
        if ask.headers.get("content-length") != "0":
            self.violate(ask, "get with a body")
        if ask.arg("timeout") is None:
            self.violate(ask, "get without a time-out")
        known = uncid(ask.arg("arg") or "")
        if known is None or len(ask.args["arg"]) != 1:
            self.violate(ask, "CID")
            return self.error(out, "invalid path", "400 Bad Request", 1)
        codec, ref = known
        if codec != RAW:
            return self.node(out, ref)
        if ask.path.endswith("stat"):
            return out.ok(b'{"Key":"%s","Size":32768}\n' % ask.arg("arg").encode()) if ref in self.blocks else \
                self.absent(out)
        if not self.get:
            ask.ref = ref
            return self.absent(out)
        return self.block(ask, out, ref)

    def do_cat(self, ask, out):
        if ask.headers.get("content-length") != "0" or ask.arg("progress") != "false" or ask.arg("timeout") is not None:
            self.violate(ask, "cat")
        if not self.files:
            return out.reply("404 Not Found", b"404 page not found")
        return self.file(ask, out, ask.arg("arg"), "Content-Type: text/plain", "X-Stream-Output: 1",
                         "X-Content-Length: 1")

    def do_export(self, ask, out):
        if self.export is not None:
            return self.export(ask, out)
        m = self.manifests.get(ask.arg("arg"))
        if m is None:
            return self.error(out, "block was not found locally (offline): ipld: could not find " + str(ask.arg("arg")))
        return out.chunks(list([car_header(m.root)] + list(m.sections(self.blocks))), "Content-Type: application/vnd.ipld.car",
                          "X-Stream-Output: 1", "Trailer: X-Stream-Error")

    def take(self, ask, refs):
        with self.lock:
            self.puts.append((time.monotonic(), ask.path, refs))

    def put_refs(self):
        with self.lock:
            return [r for _, _, refs in self.puts for r in refs]

    def do_put(self, ask, out):
        if self.put_hook is not None:
            r = self.put_hook(ask, out)
            if r is not None:
                return r
        try:
            parts = read_form(ask.body, ask.headers.get("content-type", ""))
        except (AssertionError, ValueError) as e:
            self.violate(ask, "form: %s" % e)
            return self.error(out, "bad form", "400 Bad Request", 1)
        if ask.arg("mhtype") != "blake2b-256" or ask.arg("format") != "raw" or ask.arg("cid-codec") != "raw":
            self.violate(ask, "put: makes other CIDs")
        if ask.arg("pin") not in (None, "false"):
            self.violate(ask, "put: pins")
        kept = parts if self.kubo else parts[-1:]
        self.take(ask, [blake(d) for _, d in kept])
        for _, d in kept:
            if len(d) > 1 << 20:
                self.violate(ask, "a block of %d bytes" % len(d))
            self.blocks[blake(d)] = d
        body = b"".join(b'{"Key":"%s","Size":%d}\n' % (cid(blake(d)).encode(), len(d)) for _, d in kept)
        if not self.kubo:
            return out.reply("200 OK", body, "Content-Type: application/json")
        out.chunks([body], "Content-Type: application/json", "Trailer: X-Stream-Error",
                   *(["Connection: close"] if len(parts) > 1 else []))
        return len(parts) == 1

    def do_import(self, ask, out):
        if self.put_hook is not None:
            r = self.put_hook(ask, out)
            if r is not None:
                return r
        try:
            parts = read_form(ask.body, ask.headers.get("content-type", ""))
            found = [b for _, d in parts for b in read_car(d)]
        except (AssertionError, ValueError, IndexError) as e:
            self.violate(ask, "import: %s" % e)
            return self.error(out, "bad car", "500 Internal Server Error")
        if ask.arg("pin-roots") != "false":
            self.violate(ask, "import: pins")
        for _, h, d in found:
            if blake(d) != h:
                self.violate(ask, "import: a block that is not what it says")
            self.blocks[h] = d
        self.take(ask, [h for _, h, _ in found])
        body = b'{"Stats":{"BlockCount":%d,"BlockBytesCount":%d}}\n' % (len(found), sum(len(d) for _, _, d in found)) \
            if ask.arg("stats") == "true" else b""
        return out.chunks([body], "Content-Type: application/json", "Connection: close") and False


class Gateway(Source):
    """head(ask, out): how HEAD is answered, instead of whether the block is there."""

    def __init__(self, blocks=None, manifests=(), export=None, head=None, **kw):
        self.manifests, self.export, self.head = {m.cid: m for m in manifests}, export, head
        super().__init__(blocks, **kw)

    def absent(self, out):
        return out.reply("404 Not Found", b"not found\n")

    def handle(self, ask, out):
        if ask.method not in ("GET", "HEAD"):
            self.violate(ask, "gateways want GET")
        # As Kubo's: under that name it is for browsers.
        if ask.headers["host"].split(":")[0] == "localhost":
            return out.reply("301 Moved Permanently", b"", "Location: http://x.ipfs.localhost/")
        if not self.authorized(ask):
            return out.reply("403 Forbidden", b"no")
        if ask.path == "/ipfs/bafkqaaa":
            return out.reply("200 OK", b"")
        known = uncid(ask.path[len("/ipfs/"):]) if ask.path.startswith("/ipfs/") else None
        accept = ask.headers.get("accept", "")
        if known is None:
            self.violate(ask, "path")
            return out.reply("400 Bad Request", b"")
        if ask.arg("format") == "car" or "application/vnd.ipld.car" in accept:
            if self.export is not None:
                return self.export(ask, out)
            m = self.manifests.get(cid(known[1], known[0]))
            if m is None:
                return self.absent(out)
            return out.chunks([m.car(self.blocks)], "Content-Type: application/vnd.ipld.car; version=1")
        if ask.method == "GET" and known[0] == PB and not ask.query:
            if "accept" in ask.headers and accept != "*/*":
                self.violate(ask, "a file of a kind")
            return self.file(ask, out, cid(known[1], PB), "Content-Type: application/octet-stream") if self.files else \
                self.absent(out)
        if ask.arg("format") != "raw" and "application/vnd.ipld.raw" not in accept:
            self.violate(ask, "neither raw nor a CAR: a deserialized answer")
        if ask.method == "HEAD":
            if ask.headers.get("cache-control") != "only-if-cached":
                self.violate(ask, "HEAD that makes it search")
            if self.head is not None:
                return self.head(ask, out)
            if known[1] not in self.blocks:
                return out.reply("412 Precondition Failed", b"")
            out.head("200 OK", "Content-Length: %d" % len(self.blocks[known[1]]))
            return True
        if known[0] != RAW:
            return self.node(out, known[1])
        return self.block(ask, out, known[1])


class Swarm:
    """How a daemon answers whose swarm brings one block after another, SECONDS each, and none at all in the first LATE
    seconds: what cannot come in the time that the request allows is not found, and that is said when it is over."""

    def __init__(self, seconds, late=0):
        self.seconds, self.lock, self.free, self.late = seconds, threading.Lock(), 0, late
        self.begun, self.ran_out = None, 0

    @staticmethod
    def allowed(ask):
        n, unit = re.fullmatch(r"(\d+)(ms|s)", ask.arg("timeout")).groups()
        return int(n) / 1000 if unit == "ms" else int(n)

    def __call__(self, ask, out, block):
        with self.lock:
            now = time.monotonic()
            self.begun = self.begun or now
            end = max(now, self.free) + self.seconds
            if found := block is not None and now >= self.begun + self.late and end <= now + self.allowed(ask):
                self.free = end
            else:
                self.ran_out, end = self.ran_out + 1, now + self.allowed(ask)
        out.wait(end - now)
        return None if found else out.server.absent(out)


class BlockServer(Source):
    def absent(self, out):
        return out.reply("404 Not Found", b"")

    def handle(self, ask, out):
        m = re.fullmatch(r"urn:blake2b:([A-Z2-7]{52})", ask.query)
        if ask.method != "GET" or ask.path != "/uri-res/N2R" or m is None:
            self.violate(ask, "not a question for a block")
            return out.reply("400 Bad Request", b"")
        if not self.authorized(ask):
            return out.reply("403 Forbidden", b"no")
        return self.block(ask, out, unb32(m.group(1)))


class NarServer(Http):
    """files: path -> bytes.  ranges: whether it honours Range; hook(ask, out): an answer of its own, or None; pace
    (offset): called before each 32 KiB; again(ask, out): publish-again, else 404; infos: hash part -> narinfo."""
    AGAIN = "/publish-this-nar-again-into-IPFS/"

    def __init__(self, files=None, ranges=True, hook=None, pace=None, again=None, infos=None, **kw):
        self.files, self.ranges, self.hook, self.pace, self.again = files or {}, ranges, hook, pace, again
        self.infos = infos or {}
        super().__init__(**kw)

    def posts(self):
        with self.lock:
            return [r for r in self.requests if r.method == "POST"]

    def gets(self, ranged=None):
        with self.lock:
            return [r for r in self.requests if r.method == "GET" and r.path in self.files and
                    ranged in (None, "range" in r.headers)]

    def handle(self, ask, out):
        if self.hook is not None:
            r = self.hook(ask, out)
            if r is not None:
                return r
        if ask.method == "POST":
            if not ask.path.startswith(self.AGAIN):
                self.violate(ask, "POST")
            return out.reply("404 Not Found", b"") if self.again is None else self.again(ask, out)
        if ask.method != "GET":
            self.violate(ask, "method")
        if ask.path.endswith(".narinfo"):
            info = self.infos.get(ask.path[1:33])
            return out.reply("404 Not Found", b"") if info is None else out.reply("200 OK", info)
        data = self.files.get(ask.path)
        if data is None:
            return out.reply("404 Not Found", b"no such nar")
        r = ask.range() if self.ranges else None
        if r is not None and r[0] >= len(data):
            return out.reply("416 Range Not Satisfiable", b"", "Content-Range: bytes */%d" % len(data))
        start, end = (0, len(data)) if r is None else (r[0], len(data) if r[1] is None else min(len(data), r[1] + 1))
        if r is None:
            out.head("200 OK", "Content-Length: %d" % len(data), *(["Accept-Ranges: bytes"] if self.ranges else []))
        else:
            out.head("206 Partial Content", "Content-Length: %d" % (end - start),
                     "Content-Range: bytes %d-%d/%d" % (start, end - 1, len(data)))
        for i in range(start, end, BLOCK):
            if self.pace is not None:
                self.pace(i)
            out.raw(data[i:min(i + BLOCK, end)])
        return True


class Index(Http):
    """texts: hash part -> body of /eris/HASH-PART; hook as above."""

    def __init__(self, texts=None, hook=None, **kw):
        self.texts, self.hook = texts or {}, hook
        super().__init__(**kw)

    def handle(self, ask, out):
        if self.hook is not None:
            r = self.hook(ask, out)
            if r is not None:
                return r
        m = re.fullmatch(r"/eris/([0-9a-df-np-sv-z]{32})", ask.path)
        if ask.method != "GET" or m is None:
            self.violate(ask, "not a question for an index")
            return out.reply("400 Bad Request", b"")
        text = self.texts.get(m.group(1))
        return out.reply("404 Not Found", b"") if text is None else out.reply("200 OK", text, "Content-Type: text/plain")


class Silent(Http):
    """Accepts, and says nothing."""

    def greet(self, conn):
        self.gone.wait(60)
        return False


# --- Bad answers for one block ----------------------------------------------------------------------------

def other(n=BLOCK):
    return bytes(i * 7 & 255 for i in range(n))


def bad_endless(ask, out, block):
    out.head("200 OK", "Transfer-Encoding: chunked")
    for _ in range(4096):
        out.raw(b"10000\r\n" + bytes(65536) + b"\r\n")
    return False


def bad_header_bomb(ask, out, block):
    out.raw(b"HTTP/1.1 200 OK\r\n")
    for _ in range(4096):
        out.raw((b"X-Bomb: " + b"h" * 1000 + b"\r\n") * 16)
    return False


def bad_header_line(ask, out, block):
    out.raw(b"HTTP/1.1 200 OK\r\nX-Bomb: ")
    for _ in range(1024):
        out.raw(b"h" * 65536)
    return False


def bad_drip(ask, out, block):
    out.head("200 OK", "Content-Length: %d" % BLOCK)
    for i in range(600):
        out.raw((block or other())[i:i + 1])
        if out.wait(0.05):
            break
    return False


def bad_drip_head(ask, out, block):
    out.raw(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    for i in range(600):
        out.raw(b"x")
        if out.wait(0.05):
            break
    return False


def bad_truncated(ask, out, block):
    out.chunks([(block or other())[:15000]], end=False)
    return False


def bad_short_length(ask, out, block):
    out.head("200 OK", "Content-Length: %d" % BLOCK)
    return out.raw((block or other())[:15000])


def bad_hang_middle(ask, out, block):
    out.head("200 OK", "Content-Length: %d" % BLOCK)
    out.raw((block or other())[:15000])
    return out.hang()


def bad_continue(ask, out, block):
    for _ in range(20000):
        out.raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 64)
    return False


def bad_second_answer(ask, out, block):
    out.ok(block or other())
    return out.reply("200 OK", other())


def bad_stream_error(ask, out, block):
    return out.chunks([(block or other())[:15000]], "Trailer: X-Stream-Error",
                      trailer="X-Stream-Error: blockstore: context deadline exceeded")


def bad_trailer_bomb(ask, out, block):
    out.chunks([block or other()], "Trailer: X-Stream-Error", end=False)
    out.raw(b"0\r\n")
    for _ in range(4096):
        out.raw((b"X-Stream-Error: " + b"t" * 1000 + b"\r\n") * 16)
    return False


# name -> (answer, may be called a liar: 1 must, 0 must not, None as it likes)
BAD = {
    "wrong_block": (lambda a, o, b: o.ok(other()), 1),
    "short_block": (lambda a, o, b: o.ok((b or other())[:1000]), None),
    "one_byte_short": (lambda a, o, b: o.ok((b or other())[:-1]), None),
    "long_block": (lambda a, o, b: o.ok((b or other()) + b"x"), None),
    "empty_200": (lambda a, o, b: o.ok(b""), 0),
    "json_200": (lambda a, o, b: o.ok(b'{"Message":"no","Code":0,"Type":"error"}\n'), None),
    "nested_json_500": (lambda a, o, b: o.reply("500 x", b'{"Message":' * 3000), 0),
    "status_204": (lambda a, o, b: o.raw(b"HTTP/1.1 204 No Content\r\n\r\n") or True, 0),
    "status_206": (lambda a, o, b: o.reply("206 Partial Content", (b or other())[:9], "Content-Range: bytes 0-8/32768"), None),
    "status_404": (lambda a, o, b: o.reply("404 Not Found", b"no"), 0),
    "status_429": (lambda a, o, b: o.reply("429 Too Many", b"", "Retry-After: 1"), 0),
    "status_503": (lambda a, o, b: o.reply("503 x", b"", "Retry-After: 99999999999999999999"), 0),
    "status_504": (lambda a, o, b: o.reply("504 Gateway Timeout", b"x"), 0),
    "endless_body": (bad_endless, None),
    "header_bomb": (bad_header_bomb, 0),
    "long_header": (bad_header_line, 0),
    "drip": (bad_drip, 0),
    "drip_head": (bad_drip_head, 0),
    "truncated_chunks": (bad_truncated, 0),
    "truncated_length": (bad_short_length, 0),
    "hang": (lambda a, o, b: o.hang(), 0),
    "hang_middle": (bad_hang_middle, 0),
    "garbage": (lambda a, o, b: o.raw(b"\x16\x03\x01garbage\x00\r\n\r\n" * 3), 0),
    "bad_chunks": (lambda a, o, b: o.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n"), 0),
    "two_lengths": (lambda a, o, b: o.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 32768\r\n\r\nabcde"), None),
    "nothing_and_close": (lambda a, o, b: False, 0),
    "reset": (lambda a, o, b: o.reset(), 0),
    "continue_flood": (bad_continue, 0),
    "second_answer": (bad_second_answer, None),
    "stream_error": (bad_stream_error, 0),
    "trailer_bomb": (bad_trailer_bomb, 0),
    "no_end_behind_the_block": (lambda a, o, b: o.chunks([b or other()], end=False), None),
    "reset_behind_the_block": (lambda a, o, b: o.chunks([b or other()], end=False) or o.wait(0.05) or o.reset(), None),
    "http_10": (lambda a, o, b: o.raw(b"HTTP/1.0 200 OK\r\n\r\n" + (b or other())), None),
    "http_09": (lambda a, o, b: o.raw(b or other()), 0),
    "upgrade": (lambda a, o, b: o.raw(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"), 0),
    "gzip": (lambda a, o, b: o.ok(b or other(), "Content-Encoding: gzip"), None),
}
