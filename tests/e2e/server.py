#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests: the store items of the test bed and what its nginx serves; runs in the server view.
  server.py items [big]   make the items that are missing in the server's store; /bed/state/items.txt: NAME PATH
  server.py bake          have `guix publish' bake them; make /bed/www, the static servers, from their narinfos"""
import os, shutil, subprocess, sys, threading, time, urllib.error, urllib.request
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import nar

PORT = int(os.environ["BED_PORT"])
ITEMS, WWW, LIST = "/bed/items", "/bed/www", "/bed/state/items.txt"
TINY = 1000
COMPRESSIONS = {"zstd": ["zstd", "-q", "-9", "-T0", "--rm"], "gzip": ["gzip", "-1n"], "lzip": ["lzip", "-0"], "none": None}
SUFFIX = {"zstd": ".zst", "gzip": ".gz", "lzip": ".lz"}

def write(path, data, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)
    os.chmod(path, mode)

def make_small(top):
    """10 KB: a text that is large enough for deduplication, a program, a symbolic link"""
    write(f"{top}/share/text", b"".join(b"line %d of a small item\n" % i for i in range(400)))
    write(f"{top}/bin/program", b"#!/bin/sh\nexit 0\n", 0o755)
    os.symlink("../share/text", f"{top}/bin/text")

def make_edge(top):
    """What a restorer and a deduplicator can get wrong"""
    for name in ("one", "two", "sub/three"):
        write(f"{top}/{name}", b"same" * 4000)
    write(f"{top}/run", b"same" * 4000, 0o755)  # the same bytes, but another nar
    write(f"{top}/below", b"x" * 8191)
    write(f"{top}/below-too", b"x" * 8191)
    write(f"{top}/at", b"x" * 8192)
    write(f"{top}/at-too", b"x" * 8192)
    write(f"{top}/empty", b"")
    write(f"{top}/empty-program", b"", 0o755)
    write(f"{top}/a.b", b"1"); write(f"{top}/a/b", b"2"); write(f"{top}/a-b", b"3"); write(f"{top}/B", b"4")
    write(f"{top}/caf\u00e9 \u65e5\u672c and blanks", b"5")
    write(f"{top}/{'n' * 255}", b"6")
    write(f"{top}/{'/'.join('deep' for _ in range(60))}/file", b"7")
    os.makedirs(f"{top}/empty-directory")
    os.symlink("/nowhere/at/all", f"{top}/dangling")
    os.symlink("..", f"{top}/up")
    os.symlink("t" * 4000, f"{top}/long")

def make_tree(top):
    """20 MB in 2500 files that compress as sources do"""
    words = [b"static", b"return", b"broker", b"struct", b"if (", b") {\n", b";\n", b"}\n", b"value", b"0x", b" = ", b"\t"]
    state = 12345
    for i in range(2500):
        out, want = bytearray(), 1500 + i * 7919 % 13000
        while len(out) < want:
            state = state * 6364136223846793005 + 1442695040888963407 & 2**64 - 1
            out += words[(state >> 33) % len(words)]
            if state >> 60 == 0:
                out += b"%x" % (state >> 40)
        write(f"{top}/d{i % 50:02}/e{i % 7}/f{i:04}.c", bytes(out), 0o755 if i % 100 == 0 else 0o644)

def make_elf(top, limit=300_000_000):
    """300 MB of programs and libraries of this root; were it too small, they come again with another tail"""
    total, again = 0, 0
    while total < limit - 1_000_000:
        before = total
        for base, dirs, names in os.walk("/usr"):
            dirs.sort()
            for name in sorted(names):
                path = f"{base}/{name}"
                if os.path.islink(path) or not os.path.isfile(path) or total + os.path.getsize(path) > limit:
                    continue
                with open(path, "rb") as f:
                    data = f.read(4)
                    if data != b"\x7fELF":
                        continue
                    data += f.read() + (b"%d" % again if again else b"")
                write(f"{top}/{again}{path}", data, 0o755 if name.count(".so") == 0 else 0o644)
                total += len(data)
        again += 1
        if total == before:
            break

def make_big(top):
    """One file of 512 MiB, half noise and half text"""
    with open(top, "wb") as f:
        for i in range(512):
            f.write(os.urandom(1 << 19) + b"%015d\n" % i * (1 << 15))

SCHEME = """
(use-modules (guix store) (ice-9 rdelim))
(define (show name path) (format #t "~a ~a~%" name path) path)
(with-store store
  (let loop ((name (read-line)) (small #f))
    (cond ((eof-object? name) #t)
          ((string=? name "refs")
           (let* ((first (show "refs-inner" (add-text-to-store store "refs-inner" (string-append small "\\n") (list small))))
                  (both (list first small)))
             (show "refs" (add-text-to-store store "refs" (string-join both "\\n") both))
             (loop (read-line) small)))
          (else
           (let ((path (show name (add-to-store store name #t "sha256" (string-append "/bed/items/" name)))))
             (loop (read-line) (if (string=? name "small") path small)))))))
"""

def items(extra):
    known = {}
    if os.path.exists(LIST):
        known = dict(line.split() for line in open(LIST))
    wanted = ["small", "refs", "edge", "tree", "elf"] + extra
    todo = [n for n in wanted if n not in known]
    tiny = [f"tiny-{i:04}" for i in range(TINY)] if f"tiny-{TINY - 1:04}" not in known else []
    if not todo and not tiny:
        return
    print(f"bed: making items: {' '.join(todo + ['tiny'] * bool(tiny))}", file=sys.stderr, flush=True)
    for name in todo:
        if name != "refs" and not os.path.lexists(f"{ITEMS}/{name}"):
            shutil.rmtree(f"{ITEMS}/new", ignore_errors=True)
            os.makedirs(ITEMS, exist_ok=True)
            globals()[f"make_{name}"](f"{ITEMS}/new")
            os.rename(f"{ITEMS}/new", f"{ITEMS}/{name}")
    for name in tiny:
        write(f"{ITEMS}/{name}", f"{name}: a tiny item\n".encode() * 10)
    with open("/tmp/items.scm", "w") as f:
        f.write(SCHEME)
    if "refs" in todo and "small" not in todo:
        todo.insert(0, "small")
    out = subprocess.run(["guix", "repl", "-q", "--", "/tmp/items.scm"], input="\n".join(todo + tiny) + "\n",
                         stdout=subprocess.PIPE, text=True, check=True).stdout
    known.update(line.split() for line in out.splitlines())
    with open(LIST + ".new", "w") as f:
        f.writelines(f"{name} {path}\n" for name, path in known.items())
    os.rename(LIST + ".new", LIST)

def get(url):
    """(headers, body), or None for a 404"""
    try:
        with urllib.request.urlopen(url) as reply:
            return reply.headers, reply.read()
    except urllib.error.HTTPError as e:
        if e.code != 404:
            raise
        return None

def bake_publisher(name, port, paths):
    """Ask until every narinfo comes from the cache, which is when it knows the size of its file"""
    deadline = time.monotonic() + 900
    todo = paths
    while todo:
        left = []
        for path in todo:
            reply = get(f"http://127.0.0.1:{port}/{os.path.basename(path)[:32]}.narinfo")
            if reply is None or b"\nFileSize:" not in reply[1]:
                left.append(path)
            elif name == "none" and not os.path.exists(f"/bed/cache/none/none/{os.path.basename(path)}.nar"):
                left.append(path)  # without compression the size is known before the file is there
        todo = left
        if todo:
            if time.monotonic() > deadline:
                sys.exit(f"bed: guix publish ({name}) does not bake {todo[0]}")
            time.sleep(.3)

def bake_static(known):
    """www/COMPRESSION: a substitute server of plain files, with the narinfos that guix publish has signed"""
    spool = f"{WWW}/spool"
    shutil.rmtree(spool, ignore_errors=True)
    os.makedirs(spool)
    done = {n for n in os.listdir(f"{WWW}/none") if n.endswith(".narinfo")} if os.path.isdir(f"{WWW}/none") else set()
    todo = {n: p for n, p in known.items() if f"{os.path.basename(p)[:32]}.narinfo" not in done}
    if not todo:
        return
    signed = {}
    for name, path in todo.items():
        base = os.path.basename(path)
        text = get(f"http://127.0.0.1:{PORT + 5}/{base[:32]}.narinfo")[1].decode()
        end = text.index("\n", text.index("Signature:")) + 1
        signed[base] = text[:end]
        with open(f"{spool}/{base}", "wb") as f:
            f.writelines(nar.chunks(path))
        got = nar.sha256(nar.chunks(path))
        if f"NarHash: sha256:{got[0]}\nNarSize: {got[1]}\n" not in text:
            sys.exit(f"bed: guix publish has another hash for {path}")
    for comp, command in COMPRESSIONS.items():
        os.makedirs(f"{WWW}/{comp}/nar/{comp}", exist_ok=True)
        bases = [b for b in signed if comp == "none" or not b.endswith("-big")]
        if command:
            work = f"{spool}/{comp}"
            os.makedirs(work)
            for b in bases:
                # a name in between, for each program adds its own suffix and removes what it has read
                os.link(f"{spool}/{b}", f"{work}/{b}")
            for i in range(0, len(bases), 200):
                subprocess.run(command + ["-f"] + [f"{work}/{b}" for b in bases[i:i + 200]], check=True)
        for b in bases:
            url = f"nar/{b}" if comp == "none" else f"nar/{comp}/{b}"
            os.rename(f"{spool}/{comp}/{b}{SUFFIX[comp]}" if command else f"{spool}/{b}", f"{WWW}/{comp}/{url}")
            os.chmod(f"{WWW}/{comp}/{url}", 0o644)
            size = os.path.getsize(f"{WWW}/{comp}/{url}")
            write(f"{WWW}/{comp}/{b[:32]}.narinfo", (signed[b] + f"URL: {url}\nCompression: {comp}\nFileSize: {size}\n").encode())
        write(f"{WWW}/{comp}/nix-cache-info", b"StoreDir: /gnu/store\nWantMassQuery: 0\nPriority: 100\n")
    write(f"{WWW}/empty/nix-cache-info", b"StoreDir: /gnu/store\n")
    shutil.rmtree(spool)

def bake():
    known = dict(line.split() for line in open(LIST))
    mark = "/bed/state/baked"
    write("/bed/state/nginx.conf", f"""worker_processes 1; daemon off; pid /run/nginx.pid; error_log stderr;
events {{ }}
http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; default_type application/octet-stream;
  server {{ listen 127.0.0.1:{PORT}; root {WWW}; }} }}
""".encode())
    state = f"{len(known)} items\n"
    if os.path.exists(mark) and open(mark).read() == state:
        return
    print("bed: baking", file=sys.stderr, flush=True)
    big = [p for n, p in known.items() if not n.startswith("tiny-") and n != "big"]
    tiny = [p for n, p in known.items() if n.startswith("tiny-")]
    failed = []
    def guarded(*args):
        try:
            bake_publisher(*args)
        except BaseException as e:
            failed.append(f"{args[0]}: {e}")
    threads = [threading.Thread(target=guarded, args=(name, PORT + 1 + i, big + tiny[:300 if name == "zstd" else 20]))
               for i, name in enumerate(("zstd", "gzip", "lzip", "none"))]
    for t in threads: t.start()
    bake_static(known)
    for t in threads: t.join()
    if failed:
        sys.exit(f"bed: baking failed: {'; '.join(failed)}")
    write(mark, state.encode())

os.makedirs("/bed/state", exist_ok=True)
if sys.argv[1:2] == ["items"]:
    items(sys.argv[2:])
elif sys.argv[1:] == ["bake"]:
    bake()
else:
    sys.exit(__doc__)
