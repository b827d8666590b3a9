# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests (hostile): the audit log of real brokers, whatever happens to its files, and what `narlock audit --verify' says then."""
import fcntl
import json
import os
import subprocess
import threading
import time

from bed import BUILD, check, run, until

NARLOCK = f"{BUILD}/bin/narlock"


def audit(m, *argv):
    r = subprocess.run([NARLOCK, "audit", *argv], env={"PATH": "/usr/bin:/bin", "NARLOCK_CONF": f"{m.top}/narlock.conf"},
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    return r.returncode, r.stdout.decode()


def verified(m, expected, *words, files=()):
    code, out = audit(m, "--verify", *files)
    check(code == expected and all(w in out for w in words), f"narlock audit --verify: {code} (not {expected}), {out[-800:]!r}")


def wanted(m, count, prefix="item"):
    items = [m.item(f"{prefix}{i}") for i in range(count)]
    for i in items:
        url = i.serve(m.bed.server, m.name)
    return items, url


def install(m, items, url, **kw):
    a = m.agent("substitute", url, **kw)
    for i in items:
        check((got := a.substitute(i)) == i.success, f"the reply is {got!r}: {a.log[-300:]!r}")
    return a


def records(m):
    return sum(1 for _ in open(m.audit_log))


def at_once(machine):
    m = machine()
    lists = [wanted(m, 6, f"of{n}-") for n in range(4)]
    failures = []

    def one(items, url):
        try:
            install(m, items, url).end()
        except Exception as e:  # noqa: BLE001
            failures.append(e)

    threads = [threading.Thread(target=one, args=x) for x in lists]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    check(not failures, f"{failures}")
    check(len(m.audit("substitute")) == 24, f"{len(m.audit('substitute'))} records")
    verified(m, 0, "complete: ")


def held(machine):
    """Whoever may read LOG.head can hold its lock; that costs a moment, and shows."""
    m = machine()
    items, url = wanted(m, 4)
    install(m, items[:1], url).end()
    with open(f"{m.audit_log}.head") as head:
        fcntl.flock(head, fcntl.LOCK_EX)
        install(m, items[1:3], url).end()
    install(m, items[3:], url).end()
    check([r.get("unjoined", False) for r in m.audit("substitute")] == [False, True, True, False], f"{m.audit('substitute')}")
    verified(m, 0, "2 records are chained in their process only")


def full(machine):
    """On a file system without room everything goes on; what is missing is counted as soon as there is room."""
    m = machine()
    items, url = wanted(m, 6)
    run("mount", "-t", "tmpfs", "-o", "size=16k", "narlock-test", f"{m.top}/log")
    try:
        install(m, items[:1], url).end()
        with open(f"{m.top}/log/rest", "wb", buffering=0) as rest:
            try:
                while True:
                    rest.write(b"x" * 512)
            except OSError:
                pass
        with open(m.audit_log, "ab", buffering=0) as log:  # what is left of its last page
            log.write(b"\n" * (-os.path.getsize(m.audit_log) % 4096))
        a = install(m, items[1:4], url)
        check(a.log.count("WARNING: the audit log cannot be written (No space left on device)") == 1, f"{a.log!r}")
        os.unlink(f"{m.top}/log/rest")
        check((got := a.substitute(items[4])) == items[4].success, f"the reply is {got!r}")
        a.end()
        last = json.loads(open(m.audit_log).read().splitlines()[-1])
        check(last["lost"] == 3 and last["seq"] == 1, f"{last}")
        verified(m, 1, "LOST", "3 records of session")
    finally:
        run("umount", f"{m.top}/log")


def no_file(make, warning):
    """What stands in the place of the log is not written to, and does not stop anything."""
    def case(machine):
        m = machine()
        items, url = wanted(m, 1)
        make(m)
        a = install(m, items, url)
        check(a.log.count("warning: no audit log: ") == 1 and warning in a.log, f"{a.log[-400:]!r}")
        check(not os.path.exists(f"{m.top}/elsewhere") or os.path.getsize(f"{m.top}/elsewhere") == 0, "it was written")
    return case


def link(m):
    open(f"{m.top}/elsewhere", "w").close()
    os.symlink(f"{m.top}/elsewhere", m.audit_log)


def head_is_a_link(machine):
    m = machine()
    items, url = wanted(m, 1)
    with open(f"{m.top}/elsewhere", "w") as f:
        f.write("precious")
    os.symlink(f"{m.top}/elsewhere", f"{m.audit_log}.head")
    install(m, items, url).end()
    check(open(f"{m.top}/elsewhere").read() == "precious", "LOG.head was followed")
    check(m.audit("substitute")[-1].get("unjoined"), f"{m.audit()}")


def head_is_a_pipe(machine):
    m = machine()
    items, url = wanted(m, 1)
    os.mkfifo(f"{m.audit_log}.head")
    install(m, items, url).end()
    check(m.audit("substitute")[-1].get("unjoined"), f"{m.audit()}")


def read_by_a_pipe(machine):
    """A log that is a pipe: its reader gets lines, or is too slow and gets none; nobody waits for it."""
    m = machine()
    items, url = wanted(m, 2)
    os.mkfifo(m.audit_log)
    fd = os.open(m.audit_log, os.O_RDONLY | os.O_NONBLOCK)
    try:
        a = install(m, items[:1], url)
        check(json.loads(os.read(fd, 65536).splitlines()[-1])["verdict"] == "success", "no record in the pipe")
        a.end()
    finally:
        os.close(fd)


def rotated(machine):
    """As logrotate does it, with a process that still has the old file."""
    m = machine()
    items, url = wanted(m, 6)
    old = install(m, items[:2], url)
    os.rename(m.audit_log, f"{m.audit_log}.1")
    verified(m, 0)
    install(m, items[2:4], url).end()
    check((got := old.substitute(items[4])) == items[4].success, f"the reply is {got!r}")
    install(m, items[5:], url).end()
    old.end()
    verified(m, 0, "complete: ")
    check(records(m) >= 3, f"{records(m)} records in the new file")


def copied(machine):
    """With copytruncate, too, as long as nothing was written between the copy and its end."""
    m = machine()
    items, url = wanted(m, 4)
    a = install(m, items[:2], url)
    with open(m.audit_log) as log, open(f"{m.audit_log}.1", "w") as copy:
        copy.write(log.read())
    os.truncate(m.audit_log, 0)
    for i in items[2:]:
        check((got := a.substitute(i)) == i.success, f"the reply is {got!r}")
    a.end()
    verified(m, 0, "complete: ")
    os.unlink(f"{m.audit_log}.1")
    verified(m, 2, "the first records were removed")


def torn(machine):
    """A machine that lost power in the middle of a line."""
    m = machine()
    items, url = wanted(m, 2)
    install(m, items[:1], url).end()
    with open(m.audit_log, "a") as log:
        log.write('{"time":"2026-11-22T')
    verified(m, 1, "the last line is torn")
    install(m, items[1:], url).end()
    lines = open(m.audit_log).read().splitlines()
    check(json.loads(lines[-1])["path"] == items[1].path, f"{lines[-1]!r}")
    verified(m, 1, "a torn line")
    code, out = audit(m, "--json")
    check(code == 0 and [json.loads(x)["event"] for x in out.splitlines() if x.startswith("{")].count("substitute") == 2, f"{out!r}")


def injected(machine):
    """Names that nobody should trust stay within their field."""
    m = machine()
    items, url = wanted(m, 1)
    evil = 'mallory","verdict":"success\x1b[2J\x7f\u202e\xff\\ ' + "x" * 9000
    a = install(m, items, url, options=f"untrusted-user-name={evil}\nuntrusted-substitute-urls={url} http://a\"b/{{}}\n")
    for path in (f'{m.store}/"}}{{', f"{m.store}/../../etc/passwd", f"{m.store}/\x1b]0;x\x07", m.path("x") + "\u202e", "\r{}"):
        a.write(b"substitute " + path.encode() + b" " + path.encode() + b"\n")
        check((got := a.line()) == "not-found", f"the reply is {got!r}")
    a.end()
    q = m.agent("query", url, options=f"untrusted-user-name={evil}\n")
    q.info(items[0])
    q.end()
    text = open(m.audit_log, "rb").read()
    check(all(0x20 <= c <= 0x7e or c == 10 for c in text), "a byte that is not printable")
    events = [json.loads(line) for line in text.decode().splitlines()]
    check(all(e.get("claimed_user", "mallory").startswith("mallory") for e in events), f"{events}")
    check(sum(e.get("verdict") == "success" for e in events) == 1, f"{events}")
    verified(m, 0, "complete: ")
    for argv in ((), ("--json",), ("--summary",)):
        code, out = audit(m, *argv)
        check(code == 0 and out.isascii() and "\x1b" not in out and "\x7f" not in out, f"{argv}: {out!r}")


def tampered(machine):
    """Each way to change the log of real brokers shows."""
    m = machine()
    items, url = wanted(m, 8)
    for i in range(0, 8, 2):
        install(m, items[i:i + 2], url).end()
    verified(m, 0, "complete: 8 records")
    lines = open(m.audit_log).read().splitlines(True)
    head = open(f"{m.audit_log}.head").read()
    last = json.loads(lines[-1])
    ways = {
        "edited": lines[:3] + [lines[3].replace("success", "failure", 1)] + lines[4:],
        "edited last": lines[:-1] + [lines[-1].replace("success", "failure", 1)],
        "first removed": lines[1:], "first session removed": lines[2:], "one removed": lines[:3] + lines[4:],
        "session removed": lines[:2] + lines[4:], "last removed": lines[:-1], "last session removed": lines[:-2],
        "sessions exchanged": lines[2:4] + lines[:2] + lines[4:], "reversed": lines[::-1], "twice": lines + lines,
        "one twice": lines[:2] + lines[1:], "empty": [], "blanks": [" " + x for x in lines],
        "seq": lines[:-1] + [lines[-1].replace(f'"seq":{last["seq"]},', '"seq":9,')],
        "no chain": [x.split(',"seq"')[0] + "}\n" for x in lines],
    }
    for name, changed in ways.items():
        with open(m.audit_log, "w") as f:
            f.writelines(changed)
        code, out = audit(m, "--verify")
        check(code == 2 and "THE LOG WAS CHANGED" in out, f"{name}: {code} {out!r}")
    with open(m.audit_log, "w") as f:
        f.writelines(lines)
    verified(m, 0, "complete: 8 records")
    os.unlink(f"{m.audit_log}.head")
    verified(m, 2, "LOG.head")
    with open(f"{m.audit_log}.head", "w") as f:
        f.write("0" * 64)
    verified(m, 2, "LOG.head")
    with open(f"{m.audit_log}.head", "w") as f:
        f.write(head)
    with open(m.audit_log, "w") as f:
        f.writelines(lines[:-1] + [lines[-1][:100]])
    code, out = audit(m, "--verify")
    check(code == 2 and "the last line is torn" in out, f"{out!r}")  # torn, and LOG.head knew it whole


def clock(machine):
    """A clock that goes back is no reason for an alarm.  (The times are the test's: chained anew, by hand.)"""
    m = machine()
    items, url = wanted(m, 4)
    for i in items:
        install(m, [i], url).end()
        time.sleep(0.01)
    import hashlib
    out, join = [], ""
    for n, line in enumerate(open(m.audit_log).read().splitlines()):
        r = json.loads(line)
        when = 2030 - n
        text = line.replace(r["time"][:4], str(when), 1).replace(r["session"], f"{n + 5}-{(when - 1970) * 31556952}.000001")
        text = text.replace(f'"join":"{r["join"]}"', f'"join":"{join}"')
        join = hashlib.sha256(text.encode()).hexdigest()
        out.append(text + "\n")
    with open(m.audit_log, "w") as f:
        f.writelines(out)
    with open(f"{m.audit_log}.head", "w") as f:
        f.write(join)
    verified(m, 0, "complete: 4 records")


def cases():
    yield "audit: agents at once", at_once
    yield "audit: the lock is held", held
    yield "audit: disk full", full
    yield "audit: the log is a link", no_file(link, "Too many levels of symbolic links")
    yield "audit: the log is a directory", no_file(lambda m: os.mkdir(m.audit_log), "Is a directory")
    yield "audit: the log is a pipe without a reader", no_file(lambda m: os.mkfifo(m.audit_log), "No such device or address")
    yield "audit: the log is a pipe", read_by_a_pipe
    yield "audit: LOG.head is a link", head_is_a_link
    yield "audit: LOG.head is a pipe", head_is_a_pipe
    yield "audit: rotated", rotated
    yield "audit: copied and truncated", copied
    yield "audit: torn", torn
    yield "audit: injected", injected
    yield "audit: tampered with", tampered
    yield "audit: the clock goes back", clock
