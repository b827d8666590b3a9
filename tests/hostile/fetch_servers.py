# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests: small servers that lie, stall, break off and misbehave, for the fetcher's tests.  Standard library only."""
import os, shutil, socket, ssl, subprocess, threading, time


class Request:
    def __init__(self, head):
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.path, self.version = (lines[0].split(" ") + ["", "", ""])[:3]
        self.headers = {}
        for line in lines[1:]:
            k, _, v = line.partition(":")
            self.headers[k.strip().lower()] = v.strip()

    def range_start(self):
        r = self.headers.get("range", "")
        return int(r[6:].split("-")[0]) if r.startswith("bytes=") else None


class Server:
    """One listener on loopback.  HANDLER(server, conn, request) writes what it likes and returns whether the
    connection may be used again."""

    def __init__(self, handler, tls=None, family=socket.AF_INET):
        self.handler, self.tls = handler, tls
        self.connections, self.requests, self.lock = 0, [], threading.Lock()
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        self.sock.listen(256)
        self.port = self.sock.getsockname()[1]
        scheme = "https" if tls else "http"
        self.url = "%s://%s:%d" % (scheme, "[::1]" if family == socket.AF_INET6 else "127.0.0.1", self.port)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                conn, _ = self.sock.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        try:
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                conn = self.tls.wrap_socket(conn, server_side=True)
            rest = b""
            while True:
                while b"\r\n\r\n" not in rest:
                    more = conn.recv(65536)
                    if not more:
                        return
                    rest += more
                head, _, rest = rest.partition(b"\r\n\r\n")
                request = Request(head)
                with self.lock:
                    self.requests.append(request)
                if not self.handler(self, conn, request):
                    return
        except (OSError, ssl.SSLError):
            pass
        finally:
            try:
                conn.close()
            except OSError:
                pass

    def close(self):
        self.sock.close()

    def count(self, part):
        return sum(1 for r in self.requests if part in r.path)


def reply(conn, status, body=b"", *headers, length=True):
    head = ["HTTP/1.1 %s" % status] + list(headers)
    if length:
        head.append("Content-Length: %d" % len(body))
    conn.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
    return True


def chunked(conn, body, *headers, last=True, piece=10000):
    conn.sendall("\r\n".join(["HTTP/1.1 200 OK", "Transfer-Encoding: chunked"] + list(headers)).encode() + b"\r\n\r\n")
    for i in range(0, len(body), piece):
        p = body[i:i + piece]
        conn.sendall(b"%x\r\n" % len(p) + p + b"\r\n")
    if last:
        conn.sendall(b"0\r\n\r\n")
    return last


def partial(conn, body, start, *headers, total=None, claim=None):
    total = len(body) if total is None else total
    claim = start if claim is None else claim
    return reply(conn, "206 Partial Content", body[start:], "Content-Range: bytes %d-%d/%s" % (claim, len(body) - 1, total),
                 *headers)


def break_off(conn):
    """A reset instead of an orderly end."""
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    conn.close()
    return False


def dead_port():
    """A port nobody listens on."""
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
    s.close()
    return port


def full_backlog():
    """A listener whose backlog is full, so that it answers no connect, and what fills it: to be kept as long."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fill = []
    for _ in range(4):
        c = socket.socket()
        c.setblocking(False)
        c.connect_ex(listener.getsockname())
        fill.append(c)
    return listener, fill


def make_certificate(directory, name="localhost", ip="127.0.0.1"):
    """A self-signed certificate (which is its own CA) and its key; None without the openssl program."""
    if not shutil.which("openssl"):
        return None
    cert, key = os.path.join(directory, "cert.pem"), os.path.join(directory, "key.pem")
    r = subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=" + name, "-addext",
                        "subjectAltName=DNS:%s,IP:%s" % (name, ip)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if r.returncode != 0:
        return None
    os.chmod(cert, 0o644)
    return cert, key


def tls_context(pair):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    c.load_cert_chain(*pair)
    return c


def proxy_handler(server, conn, request):
    """An HTTP proxy: absolute URLs, and CONNECT."""
    server.proxied = getattr(server, "proxied", []) + [(request.method, request.path,
                                                        request.headers.get("proxy-authorization"))]
    if request.method == "CONNECT":
        host, _, port = request.path.rpartition(":")
        out = socket.create_connection(("127.0.0.1", int(port)))
        conn.sendall(b"HTTP/1.1 200 ok\r\n\r\n")
        pump(conn, out)
        return False
    rest = request.path.split("://", 1)[1]
    return reply(conn, "200 OK", b"via proxy: " + rest.encode())


def pump(a, b):
    def one(src, dst):
        try:
            while True:
                d = src.recv(65536)
                if not d:
                    break
                dst.sendall(d)
        except OSError:
            pass
        for x in (src, dst):
            try:
                x.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
    t = threading.Thread(target=one, args=(b, a), daemon=True)
    t.start()
    one(a, b)
    t.join()
