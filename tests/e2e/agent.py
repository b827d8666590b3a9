# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests: stands in for guix-daemon: starts a substituter with the descriptors, session and environment that the
daemon gives it, talks its protocol, and ends it as the daemon does."""
import ctypes, os, select, signal, subprocess, threading, time, traceback

libc = ctypes.CDLL(None, use_errno=True)

# What guix-daemon 1.5 sends for root's `guix build'; the daemon sorts them.
OPTIONS = {"build-fallback": "false", "build-use-substitutes": "true", "discover": "false", "locale": "C.UTF-8",
           "multiplexed-build-output": "true", "print-extended-build-trace": "1", "terminal-columns": "80",
           "user-name": "root"}

def options(urls, substitute, dedup="yes", **more):
    """The text of _NIX_OPTIONS; `deduplicate' comes last and alone has no newline"""
    lines = sorted({**OPTIONS, "substitute-urls": urls, **more}.items())
    text = "".join(f"{k}={v}\n" for k, v in lines)
    return text + (f"deduplicate={dedup}" if substitute and dedup else "")

def reserve_descriptors():
    """Pipes of ours must not get the number 4, which the substituter's reply pipe has"""
    while os.dup(0) < 8:
        pass

class Gone(Exception):
    """The substituter ended, or said nothing for too long"""

class Agent:
    def __init__(self, prog, mode, nix_options, env=None, timeout=120):
        self.timeout, self.buffer, self.log, self.log_lock = timeout, b"", b"", threading.Lock()
        reply_r, reply_w = os.pipe()
        log_r, log_w = os.pipe()
        environ = {"HOME": "/root", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **(env or {}),
                   "_NIX_OPTIONS": nix_options}
        parent = os.getpid()
        def child():
            os.setsid()
            os.dup2(reply_w, 4)
            os.umask(0o022)
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
            if os.getppid() != parent:
                os._exit(1)
        self.start = time.monotonic()
        # guix-daemon gives 1 and 2 the same pipe, and the program's whole path as argv[0]
        self.process = subprocess.Popen([prog, "substitute", mode], cwd="/", env=environ, stdin=subprocess.PIPE,
                                        stdout=log_w, stderr=log_w, preexec_fn=child, pass_fds=(4,))
        self.pid = self.process.pid
        os.close(reply_w)
        os.close(log_w)
        self.reply, self.log_fd = reply_r, log_r
        self.drain = threading.Thread(target=self._read_log, daemon=True)
        self.drain.start()

    def _read_log(self):
        while data := os.read(self.log_fd, 65536):
            with self.log_lock:
                self.log += data

    def send(self, line):
        self.process.stdin.write(line.encode())
        self.process.stdin.flush()

    def read(self):
        """The bytes of one read from descriptor 4"""
        # guix-daemon keeps the pipe open, so never sees its end; here nobody else has it, so an end means death
        if not select.select([self.reply], [], [], self.timeout)[0]:
            raise Gone(f"no reply within {self.timeout} s; its log ends: {self.tail()}")
        data = os.read(self.reply, 65536)
        if not data:
            raise Gone(f"it ended without a reply; its log ends: {self.tail()}")
        return data

    def line(self):
        while b"\n" not in self.buffer:
            self.buffer += self.read()
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode()

    def substitute(self, path, dest=None):
        """The reply to one order, which must have come in one piece"""
        self.send(f"substitute {path} {dest or path}\n")
        data = self.read()
        if not data.endswith(b"\n") or data.count(b"\n") != 1:
            raise Gone(f"the reply did not come as one line in one write: {data!r}")
        return data.decode().rstrip("\n")

    def info(self, *paths):
        """{path: (deriver, references, download size, nar size)}"""
        self.send(f"info {''.join(p + ' ' for p in paths)}\n")
        found = {}
        while path := self.line():
            deriver, count = self.line(), int(self.line())
            references = [self.line() for _ in range(count)]
            found[path] = (deriver, references, int(self.line()), int(self.line()))
        return found

    def have(self, *paths):
        self.send(f"have {''.join(p + ' ' for p in paths)}\n")
        found = []
        while path := self.line():
            found.append(path)
        return found

    def tail(self):
        with self.log_lock:
            return self.log[-800:].decode(errors="replace")

    def kill(self):
        """What guix-daemon does at the end: close, and at once SIGKILL to the process group"""
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._reap()

    def finish(self):
        """Close its standard input and wait for it; its exit status"""
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        return self._reap()

    def _reap(self):
        status = self.process.wait(self.timeout)
        self.drain.join(2)
        os.close(self.reply)
        if not self.drain.is_alive():
            os.close(self.log_fd)
        return status

class Report:
    """Prints a line a case, in the form that all of narlock's test programs have.  With NARLOCK_AGAIN (CI) up to two that failed
    are run once more, since other programs' races and other work on the machine take part in them; a line `again NAME: why it
    had failed' says so."""
    def __init__(self, only=()):
        self.only, self.passed, self.failed, self.skipped = only, 0, 0, 0
        self.again = 2 if os.environ.get("NARLOCK_AGAIN") else 0

    def wanted(self, name):
        return not self.only or any(o in name for o in self.only)

    def run(self, name, function, *args):
        if not self.wanted(name):
            return
        start = time.monotonic()
        try:
            note = function(*args)
            self.passed += 1
            print(f"ok {name} ({time.monotonic() - start:.1f} s{', ' + note if note else ''})", flush=True)
        except Skip as e:
            self.skip(name, e)
        except Exception as e:
            kit = os.path.dirname(os.path.abspath(__file__))
            frames = [f for f in traceback.extract_tb(e.__traceback__)
                      if f.filename != __file__ and f.filename.startswith(kit)]
            kind = "" if isinstance(e, (AssertionError, Gone)) else f"{type(e).__name__}: "
            text = " ".join(str(e or "assertion").split())
            why = (f"{name}: {kind}{text if len(text) < 600 else text[:200] + ' ... ' + text[-380:]} "
                   f"(line {frames[-1].lineno if frames else '?'})")
            if self.again > 0:
                self.again -= 1
                print(f"again {why}", flush=True)
                self.run(name, function, *args)
                return
            self.failed += 1
            print(f"not ok {why}", flush=True)

    def skip(self, name, why):
        self.skipped += 1
        print(f"SKIP {name}: {why}", flush=True)

    def close(self):
        """Print the closing line; the exit status"""
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped", flush=True)
        return 1 if self.failed else 0

class Skip(Exception):
    pass
