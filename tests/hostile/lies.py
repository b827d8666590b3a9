# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests (hostile): helpers that lie.  After each lie: the right answer, nothing written, the broker alive, a record
in the audit log, and the next honest item served once the liar has made way for the real helper."""
import gzip
import re
import time

from bed import Item, Server, check, command, kill, nar, session, status, until  # noqa: F401


def u(value, size):
    return value.to_bytes(size, "big").hex()


def text(s):
    return u(len(s), 2) + s.encode().hex()


# Frames as ipc/PROTOCOL.md has them, not as wire.c has them.
def sealed(version=2, layers=0xffff):
    return f"send 0001 {u(version, 2)} {u(layers, 4)} 0006 0040 0000\n"


def end(status_, reason="", id_="$i", ttl=0xffffffff):
    return f"send 0015 {id_} {u(status_, 1)} {u(ttl, 4)} {text(reason)}\n"


def part(data, id_="$i"):
    return f"send 0013 {id_} {u(len(data), 2)} {data.hex()}\n"


def found(narinfo):
    return "".join(part(narinfo[i:i + 60000]) for i in range(0, len(narinfo), 60000)) + end(0)


def begin(candidate=0, method=2, size=0, id_="$i"):
    return f"send 0017 {id_} {u(candidate, 2)} {u(method, 1)} {u(size, 8)}\n"


def progress(count, id_="$i"):
    return f"send 0019 {id_} {u(count, 8)} {text('liar')}\n"


def nar_end(status_=0, count=0, candidate=0, reason="", id_="$i", blocks=(0, 0, 0)):
    return (f"send 001b {id_} {u(status_, 1)} {u(candidate, 2)} {u(count, 8)} {''.join(u(n, 4) for n in blocks)} "
            f"{text(reason)}\n")


def probed(status_, id_="$i"):
    return f"send 0051 {id_} {u(status_, 1)}\n"


def lied(source, reason="", status_=0):
    return f"send 0053 {u(status_, 1)} {text(source)} {text(reason)}\n"


def turn(number, lines):
    """LINES, but only at that frame of its type."""
    return "".join(f"turn {number} {line}\n" for line in lines.splitlines())


def shown(a):
    """The frames that a liar was told to show."""
    packets = re.findall(r"narlock: fetch: ([=+]) ([0-9a-f]+[.]?)\n", a.log)
    text_ = "".join(("\n" if mark == "=" else "") + p for mark, p in packets)
    return [bytes.fromhex(f[:-1]) for f in text_.split() if f.endswith(".")]


def fields(frame, kinds):
    """What follows the type of FRAME: a number of so many bytes, or `s' a text."""
    out, at = [], 2
    for k in kinds:
        size = 2 if k == "s" else int(k)
        value, at = int.from_bytes(frame[at:at + size], "big"), at + size
        if k == "s":
            value, at = frame[at:at + value].decode(), at + value
        out.append(value)
    check(at == len(frame), f"{len(frame) - at} bytes more in {frame.hex()}")
    return out


def resolve(host):
    return f"send 001d {text(host)}\n"


def unpacked(status_=0, in_=0, out=0, reason=""):
    return f"send 0023 {u(status_, 1)} {u(in_, 8)} {u(out, 8)} {text(reason)}\n"


def addresses(host, status_=0, blob=b"\x04\x7f\0\0\1" + bytes(12)):
    return f"send 0031 {text(host)} {u(status_, 1)} {u(len(blob), 2)} {blob.hex()}\n"


def deliver(data, plain=False):
    """All of an order, with DATA as the nar, compressed with gzip or not at all."""
    body = data if plain else gzip.compress(data, mtime=0)
    return begin(method=1 if plain else 2) + f"write {body.hex()}\nclose\n" + nar_end(count=len(body))


ALIVE = "weak\n" + sealed()  # a helper with a filter that allows all: it can do anything, and passes the proof


def fetcher(lookup="", order="", start=ALIVE):
    return f"{start}@16\n{lookup}@1a\n{order}"


# --- The course of one case ------------------------------------------------------------------------------------

def serve_next(m, a, kind, url_place):
    """The liar makes way for the real helper; the next item must come."""
    m.reform(kind)
    item = m.item("next")
    item.serve(m.bed.server, url_place)
    reply = a.substitute(item)
    check(reply == item.success, f"the next honest item: {reply!r}; log: {a.log[-300:]!r}")
    check(item.installed(), "the next honest item is not what it should be")


def lying(kind, script, reply="not-found", event="helper-killed", reason="", recovers=True, seconds=30, wait=0,
          hosts=("127.0.0.1",), wrap=(), bounded=None, then=None, compression="gzip"):
    """A case: SCRIPT(item, machine) makes the script of a liar in the place of KIND."""
    def case(machine):
        m = machine()
        item = m.item("wanted", compression=compression)
        url = item.serve(m.bed.server, m.name)
        m.liar(kind, script(item, m))
        a = m.agent("substitute", *[url.replace("127.0.0.1", h) for h in hosts], wrap=[w(m) if callable(w) else w for w in wrap])
        got = a.substitute(item, seconds=max(seconds, wait + 30))
        want = item.success if reply == "success" else reply
        check(got and got.startswith(want), f"the reply is {got!r}, not {want!r}; log: {a.log[-400:]!r}")
        check(a.alive(), "the broker ended")
        if reply == "success":
            check(item.installed(), "the item is not what it should be")
        else:
            check(not m.leftovers(), f"left: {m.leftovers()}")
        check(event is None or until(3, lambda: m.told(event, reason)),
              f"no audit record '{event}' with '{reason}': {m.audit()[-4:]}")
        check(m.audit("substitute"), "no audit record of the substitute")
        check(not a.foreign_traces(), f"traces: {a.foreign_traces()[:3]}")
        check(bounded is None or a.log.count("is ended:") + a.log.count(f"{kind} (pid") <= 2 * bounded,
              f"not bounded: {a.log[-500:]!r}")
        if then is not None:
            then(m, a, item)
        if recovers and reply != "success":
            serve_next(m, a, kind, m.name)
        elif reply != "success":
            got = a.substitute(item)
            check(got == "not-found" and a.alive(), f"afterwards: {got!r}")
    case.seconds = wait
    return case


def at_lookup(lines, reason, **kw):
    """The fetcher does LINES when it is asked for a narinfo."""
    return lying("fetch", lambda item, m: fetcher(lines(item, m) if callable(lines) else lines), reason=reason, **kw)


def at_order(lines, reason, **kw):
    """The fetcher gives the right narinfo, and does LINES when it gets the order."""
    return lying("fetch", lambda item, m: fetcher(found(item.narinfo), lines(item, m) if callable(lines) else lines),
                 reason=reason, **kw)


def at_start(start, reason, **kw):
    """What it does before it is sealed: five of those in a row, and no more are started."""
    kw.setdefault("recovers", False)
    kw.setdefault("bounded", 6)
    return lying("fetch", lambda item, m: fetcher(found(item.narinfo), deliver(item.data), start=start),
                 reason=reason, **kw)


def once(kind, start="", handler="", **kw):
    """The first process of KIND goes wrong, the second is the real one: the item must come all the same."""
    return lying(kind, lambda item, m: m.again(kind) + (start(item) if callable(start) else start) + handler,
                 reply="success", **kw)


def unpacker(lines, reason, event="substitute", **kw):
    return lying("unpack", lambda item, m: ALIVE + "@20\n" + lines(item), event=event, reason=reason, **kw)


# --- Lying fetchers ------------------------------------------------------------------------------------------------

def fetch_cases():
    sandbox = "none of its own"
    yield "seal: no filter at all", at_start(sealed(), "Seccomp is 0, not 2")
    yield "seal: no filter, broker under one", at_start(
        sealed(), sandbox, wrap=(lambda m: f"{m.bed.tools}/simulate", "none", "0"))
    yield "seal: own filter, broker under one", once(
        "fetch", start="exit 0\n", event=None, wrap=(lambda m: f"{m.bed.tools}/simulate", "none", "0"))
    yield "seal: two threads", at_start("thread\n" + ALIVE, "Threads is 2, not 1")
    yield "seal: not in time", once("fetch", start="weak\nhang\n", reason="did not seal itself in time", wait=15)
    yield "seal: wrong version", at_start("weak\n" + sealed(version=3), "it speaks version 3")
    yield "seal: twice", lying("fetch", lambda i, m: fetcher(sealed()), reason="SEALED is not allowed")
    yield "seal: something else first", at_start("weak\n" + resolve("localhost"), "RESOLVE is not allowed")
    yield "seal: lie once, then honest", once("fetch", start=sealed() + "hang\n", reason="Seccomp is 0")

    yield "frame: unknown type", at_lookup("send 0099\n", "message type 0x99 does not exist")
    yield "frame: the broker's own type", at_lookup(f"send 0016 $i 0000 {'00' * 32}\n", "LOOKUP is not allowed")
    yield "frame: the unpacker's type", at_lookup(unpacked(), "UNPACKED is not allowed")
    yield "frame: the spawner's type", at_lookup("send 0047 00000000 00000000\n", "EXITED is not allowed")
    yield "frame: one byte", at_lookup("send 00\n", "a frame of 1 bytes")
    yield "frame: empty", at_lookup("send\nhang\n", "signal 9", event="substitute")
    yield "frame: short", at_lookup("send 0015 $i 00\n", "is too short")
    yield "frame: bytes left over", at_lookup(end(1)[:-1] + "00\n", "1 bytes left over")
    yield "frame: field longer than the frame", at_lookup("send 0013 $i ffff 00\n", "a field claims 65535 bytes")
    yield "frame: reason over its limit", at_lookup(end(2, "x" * 241), "a field claims 241 bytes")
    yield "frame: control character", at_lookup(end(2, "a\nb"), "a control character")
    yield "frame: NUL in a text", at_lookup(end(2, "a\0b"), "a control character")
    yield "frame: too large", at_lookup(f"send {'00' * 70000}\n", "a truncated frame")
    yield "frame: with a descriptor", at_lookup(end(1).replace("send", "sendfd"), "came with 1 descriptors")

    yield "lookup: END for an id nobody asked", at_lookup(end(1, id_="$n"), "does not fit what was asked")
    yield "lookup: END twice", at_lookup(end(1) * 2, "does not fit what was asked", reply="not-found")
    yield "lookup: PART for an id nobody asked", at_lookup(part(b"x", id_="$n"), "nobody asked for")
    yield "lookup: parts of two mixed", at_lookup(part(b"x") + part(b"y", id_="$n"), "parts of two narinfos")
    yield "lookup: END of another id after parts", at_lookup(part(b"x") + end(1, id_="$n"), "does not fit")
    yield "lookup: too large", at_lookup("repeat 18 " + part(b"x" * 61440), "larger than")
    yield "lookup: empty part", at_lookup(part(b""), "or an empty part")
    yield "lookup: FOUND without parts", at_lookup(end(0), "does not fit what was asked")
    yield "lookup: ABSENT with parts", at_lookup(part(b"x") + end(1), "does not fit what was asked")
    yield "lookup: unknown status", at_lookup(end(9), "does not fit what was asked")
    yield "lookup: garbage", at_lookup(found(b"garbage\n"), "", event="narinfo-refused")
    yield "lookup: a NUL in the narinfo", at_lookup(lambda i, m: found(i.narinfo[:40] + b"\0" + i.narinfo[40:]), "NUL",
                                                    event="narinfo-refused")
    yield "lookup: NAR_BEGIN without an order", at_lookup(begin(), "NAR_BEGIN is not allowed")
    yield "lookup: NAR_END without an order", at_lookup(nar_end(), "NAR_END is not allowed")
    yield "lookup: another item's narinfo", at_lookup(lambda i, m: found(m.item("other").narinfo),
                                                      "another store item", event="narinfo-refused")
    yield "lookup: RESOLVE flood", at_lookup(
        "".join(resolve(f"h{i}.invalid") for i in range(40)), "names asked for at once")
    yield "lookup: RESOLVE of no name", at_lookup(resolve(""), "or an empty one")

    yield "order: candidate out of range", at_order(begin(candidate=1), "NAR_BEGIN that does not fit")
    yield "order: method 0", at_order(begin(method=0), "NAR_BEGIN that does not fit")
    yield "order: method 5", at_order(begin(method=5), "NAR_BEGIN that does not fit")
    yield "order: another id", at_order(begin(id_="$n"), "NAR_BEGIN that does not fit")
    yield "order: BEGIN twice", at_order(begin() * 2, "NAR_BEGIN is not allowed")
    yield "order: DONE without BEGIN", at_order(nar_end(), "NAR_END that does not fit")
    yield "order: DONE of another candidate", at_order(begin() + nar_end(candidate=3), "NAR_END that does not fit")
    yield "order: progress backwards", at_order(begin() + progress(9) + progress(8), "NAR_PROGRESS that does not fit")
    yield "order: progress of another id", at_order(begin() + progress(9, id_="$n"), "NAR_PROGRESS that does not fit")
    yield "order: END backwards", at_order(begin() + progress(9) + nar_end(count=8), "NAR_END that does not fit")
    yield "order: a narinfo in between", at_order(begin() + end(1), "NARINFO_END is not allowed")
    yield "order: EXHAUSTED", at_order(lambda i, m: "close\n" + nar_end(2, candidate=0xffff, reason="no way"), "no way",
                                       event="substitute")
    yield "order: an unknown status", at_order(begin() + nar_end(9), "NAR_END that does not fit")
    mismatch = {"event": "substitute", "reply": "hash-mismatch sha256 "}
    for plain in (False, True):
        kw = {"compression": "none" if plain else "gzip", "event": "substitute"}
        what = "nar, plain" if plain else "nar"
        size = {**kw, "reply": "hash-mismatch sha256 "} if plain else kw  # the real unpacker sees that first
        yield f"{what}: another item's", at_order(
            lambda i, m, p=plain: deliver(nar.whole(nar.nar_file(b"x" * 5)), p), "" if plain else "truncated", **size)
        yield f"{what}: another of the same size", at_order(
            lambda i, m, p=plain: deliver(m.item("watned").data, p), "another hash", **{**kw, **mismatch})
        yield f"{what}: one byte differs", at_order(
            lambda i, m, p=plain: deliver(i.data[:-20] + bytes([i.data[-20] ^ 1]) + i.data[-19:], p), "another hash",
            **{**kw, **mismatch})
        yield f"{what}: short", at_order(lambda i, m, p=plain: deliver(i.data[:-8], p), "", **size)
        yield f"{what}: empty", at_order(lambda i, m, p=plain: deliver(b"", p), "", **{**kw, "reply": ""})
        yield f"{what}: long", at_order(lambda i, m, p=plain: deliver(i.data + b"\0", p), "", **kw)
        yield f"{what}: endless", at_order(
            begin(method=1 if plain else 2) + "endless\nclose\n" + nar_end(1, count=1 << 30, reason="enough"), "",
            then=small_memory, **kw)
    yield "nar, plain: DONE, output kept", at_order(
        lambda i, m: deliver(i.data, True).replace("close\n", ""), "keeps its output open", event="substitute",
        compression="none")
    yield "nar: DONE, output kept", once(
        "fetch", lambda i: fetcher(found(i.narinfo), deliver(i.data).replace("close\n", "")), reason="told to be complete",
        wait=152)
    yield "nar: method is a lie", at_order(lambda i, m: deliver(i.data).replace(begin(), begin(method=4)), "",
                                           event="substitute")
    yield "nar, plain: method is a lie", at_order(
        lambda i, m: deliver(i.data, True).replace(begin(method=1), begin(method=4)), "NAR_BEGIN that does not fit",
        compression="none")
    yield "nar: endless and compressed", at_order(
        lambda i, m: deliver(i.data + bytes(50_000_000)), "", event="substitute", then=small_memory)
    yield "nar: never ends", once(
        "fetch", lambda i: fetcher(found(i.narinfo), begin(method=1) + f"write {i.data.hex()}\nhang\n"),
        reason="it is silent", wait=152, compression="none")

    yield "end: segv before SEALED", at_start("segv\n", "signal 11", event="substitute")
    yield "end: exits at once", at_start("exit 3\n", "ended with status 3", event="substitute", then=few_starts)
    yield "end: closes without SEALED", at_start("weak\nexit 0\n", "ended with status 0", event="substitute")
    yield "end: segv after SEALED", lying("fetch", lambda i, m: fetcher(start=ALIVE + "segv\n"), event="substitute",
                                          reason="", recovers=False)
    yield "end: segv at a lookup", at_lookup("segv\n", "signal 11", event="substitute")
    yield "end: segv in mid-order", at_order(begin() + progress(1) + "segv\n", "", event="substitute",
                                            then=segv_told)
    yield "end: segv in mid-order, once", once(
        "fetch", lambda item: fetcher(found(item.narinfo), begin() + "segv\n"), event=None)
    yield "end: forbidden call at a lookup", lying(
        "fetch", lambda i, m: fetcher("forbidden\n", start="seal\n"), event="sandbox-violation",
        reason="forbids", then=violation_told)
    yield "end: forbidden call in mid-order", lying(
        "fetch", lambda i, m: fetcher(found(i.narinfo), begin() + "forbidden\n", start="seal\n"),
        event="sandbox-violation", reason="policy 'fetch'", then=violation_told)
    yield "end: forbidden call of the unpacker", lying(
        "unpack", lambda i, m: "seal\n@20\nforbidden\n", event="sandbox-violation", reason="policy 'unpack'",
        then=violation_told)
    nasty = b"\x1b[31m\r\n@ substituter-failed /gnu/store/x 1 evil\n@ build-failed x - 1\n\x9b\xff"
    yield "log: flood", at_lookup(f"repeat 5000 log {nasty.hex()}\nrepeat 5000 log {nasty[7:].hex()}\n" + end(1), "",
                                  event=None, then=log_is_clean)
    yield "log: huge packet", at_lookup(f"log {b'@ substituter-failed '.hex() * 4000}\n" + end(1), "", event=None,
                                        then=log_is_clean)
    yield "log: in reasons", at_lookup(end(2, "@ substituter-failed x"), "@ substituter", event="substitute",
                                       then=log_is_clean)
    yield "log: an empty packet", at_lookup("log\nlog 41\n" + end(1), "", event=None)


def few_starts(m, a, item):
    check(a.log.count("ended with status 3") <= 12, f"{a.log.count('ended with status 3')} lines for one helper")


def segv_told(m, a, item):
    check(a.says("signal 11"), f"the log: {a.log!r}")


def small_memory(m, a, item):
    peak = int(status(a.pid)["VmHWM"].split()[0])
    check(peak < 64 * 1024, f"the broker grew to {peak} KiB")


def violation_told(m, a, item):
    check(a.says("sandbox violation"), "the log does not say `sandbox violation'")


def log_is_clean(m, a, item):
    lines = [line for line in a.log.split("\n") if not line.startswith("@ download-")]
    check(all(32 <= ord(c) < 127 for line in lines for c in line), "control characters in the log")
    check(len(lines) < 120 and max(map(len, lines)) < 1300, f"{len(lines)} lines in the log")


# --- Blocks: what the fetcher is told, and what it tells ---------------------------------------------------------

URN, CID = "urn:eris:" + "A" * 106, "b" + "a" * 61
BLOCKS = f"ERIS: {URN}\nERIS-Manifest: {CID}\n"


def told_about_blocks(machine):
    m = machine(conf="ipfs = /ip4/127.0.0.1/tcp/1 Bearer x\nipfs =\nseed = all\neris-index = http://index/\n")
    m.liar("fetch", ALIVE + "@12\nshow\n@50\nshow\n@16\n" + end(1))
    a = m.agent("substitute", "http://one", "http://two/",
                options="untrusted-substitute-urls=http://two http://three")
    check(a.substitute(m.item("wanted")) == "not-found", "the reply")
    check(until(3, lambda: len(shown(a)) >= 6), f"not told: {a.log!r}")
    frames = shown(a)
    check([fields(f, "21s") for f in frames[:3]] == [[0, 0, "http://two"], [1, 1, "http://three"], [2, 2, "http://index"]],
          f"servers: {frames[:3]}")
    check([fields(f, "ss") for f in frames[3:]] == [["ipfs", "/ip4/127.0.0.1/tcp/1 Bearer x"], ["ipfs", ""], ["seed", "all"]],
          f"options: {frames[3:]}")


def ordered_again(first, second, reply, **want):
    """An item with blocks: FIRST is the order with them, SECOND the one without, and there is no third."""
    def case(machine):
        m = machine()
        item = m.item("wanted", extra=BLOCKS)
        url = item.serve(m.bed.server, m.name)
        m.liar("fetch", fetcher(found(item.narinfo), turn(1, first(item, m)) + turn(2, second(item, m))) + "@18\nshow\n")
        a = m.agent("substitute", url)
        got = a.substitute(item)
        check(got.startswith(item.success if reply == "success" else reply), f"the reply is {got!r}: {a.log!r}")
        check(item.installed() == (reply == "success"), "the item is not what it should be")
        until(2, lambda: len(shown(a)) >= want.get("orders", 2))
        sent = [fields(f, "4228ssss")[4:] for f in shown(a)]
        check([s[2:] for s in sent] == [[URN, CID], ["", ""]][:len(sent)], f"the candidates: {sent}")
        check(len(sent) == want.get("orders", 2), f"{len(sent)} orders")
        record = m.audit("substitute")[-1]
        for name, value in want.get("audit", {}).items():
            check(record.get(name) == value, f"{name}: {record}")
        check(a.says(want.get("says", "")), f"the log: {a.log!r}")
    return case


def expired(lookups, probes, want, extra=BLOCKS, conf="", mode="query", asked=None, wait=0):
    """An expired narinfo in the cache, and a fetcher that does LOOKUPS and PROBES: is the item there?"""
    def case(machine):
        m = machine(conf=conf)
        server = Server()
        item = m.item("wanted", extra=extra)
        url = item.serve(server, m.name, headers={"Cache-Control": "max-age=1"})
        check(len(m.agent("query", url).info(item)) == 1, "cold info")
        server.shutdown()
        server.server_close()
        time.sleep(2.1)
        m.liar("fetch", ALIVE + "@16\n" + lookups(item) + "@52\nshow\n" + probes + "@1a\n" + deliver(item.data))
        a = m.agent(mode, url)
        if mode == "query":
            for command_ in ("info",) if wait else ("have", "info"):
                got = a.info(item, command=command_, seconds=30 + wait)
                check(len(got) == want, f"{command_}: {got}; log: {a.log!r}")
        else:
            check((got := a.substitute(item)) == (item.success if want else "not-found"), f"the reply is {got!r}")
        until(2, lambda: len(shown(a)) >= len(asked or []))
        frames = [fields(f, "4ss")[1:] for f in shown(a)]
        if asked is not None:
            check(frames == asked, f"probes: {frames}")
        check(a.alive(), "the broker ended")
    case.seconds = wait
    return case


def many_expired(machine):
    """As many as there are lookups at a time, and more: each has its own answer."""
    m = machine()
    server = Server()
    items = [m.item(f"item-{i}", extra=f"ERIS: urn:{i}\n" if i % 2 else "") for i in range(40)]
    for i in items:
        url = i.serve(server, m.name, headers={"Cache-Control": "max-age=1"})
    check(len(m.agent("query", url).info(*items, seconds=60)) == 40, "cold info")
    server.shutdown()
    server.server_close()
    time.sleep(2.1)
    m.liar("fetch", ALIVE + "@16\n" + end(2) + "@52\n" + "".join(turn(n, probed(n % 2)) for n in range(1, 21)))
    q = m.agent("query", url)
    got = q.info(*items, command="have")
    names = {i.path: n for n, i in enumerate(items)}
    check(sum(names[p] % 2 == 0 for p in got) == 20 and len(got) == 30, f"{len(got)} of 40: {q.log!r}")
    check(m.audit("have")[-1]["expired_used"] == 30, f"{m.audit('have')}")


def sources_that_lied(machine):
    m = machine()
    item = m.item("wanted")
    url = item.serve(m.bed.server, m.name)
    m.liar("fetch", fetcher(lied("ipfs a", "bad \\ block") + found(item.narinfo) + lied("gateway b"),
                            lied("c") + begin() + lied("d") + deliver(item.data)[len(begin()):] + lied("e")))
    a = m.agent("substitute", url)
    check((got := a.substitute(item)) == item.success, f"the reply is {got!r}: {a.log!r}")
    until(3, lambda: len(m.audit("source-lied")) == 5)
    check([r["source"] for r in m.audit("source-lied")] == ["ipfs a", "gateway b", "c", "d", "e"], f"{m.audit()}")
    check(m.audit("source-lied")[0]["reason"] == "bad \\ block", f"{m.audit('source-lied')}")


def untrusted_urls(machine):
    """Whose URLs they are, who says so, and what the fetcher tells about them."""
    m = machine(conf="untrusted-urls = allow\nuntrusted-allow = 127.0.0.1:80\n")
    item = m.item("wanted")
    m.liar("fetch", ALIVE + "@12\nshow\n@50\nshow\n@16\n" + lied("one:81", "no public address", 1) +
           lied("two", "by name", 2) + end(2, "refused by rule"))
    a = m.agent("substitute", "http://one", options="untrusted-substitute-urls=http://one:81 http://one\n"
                "untrusted-user-name=mallory\n")
    check(a.substitute(item) == "not-found", "the reply")
    check(until(3, lambda: len(shown(a)) >= 4), f"not told: {a.log!r}")
    check([fields(f, "21s") for f in shown(a)[:2]] == [[0, 1, "http://one:81"], [1, 0, "http://one"]], f"{shown(a)}")
    check([fields(f, "ss") for f in shown(a)[2:]] == [["untrusted-urls", "allow"], ["untrusted-allow", "127.0.0.1:80"]],
          f"{shown(a)}")
    first, second = m.audit("untrusted-refused")[0], m.audit("untrusted-by-name")[0]
    check((first["source"], first["reason"], second["source"]) == ("one:81", "no public address", "two"), f"{first}")
    last = m.audit("substitute")[-1]
    check("refused by rule" in last["reason"], f"{last}")
    check(all(r.get("claimed_user") == "mallory" for r in m.audit()), f"{m.audit()}")


def block_cases():
    def whole(item, m=None, **kw):
        body = gzip.compress(item.data, mtime=0)
        return begin() + f"write {body.hex()}\nclose\n" + nar_end(count=len(body), **kw)

    def other(item, m):
        return deliver(m.item("watned").data)

    def failed(item, m):
        return begin() + "close\n" + nar_end(1, reason="stuck")

    yield "blocks: what the fetcher is told", told_about_blocks
    yield "blocks: they do", ordered_again(
        lambda i, m: whole(i, blocks=(7, 6, 5), reason="ipfs 127.0.0.1, blocks x"), failed, "success", orders=1,
        audit={"blocks_missed": 7, "blocks_repaired": 6, "blocks_reinserted": 5, "sources": "ipfs 127.0.0.1, blocks x"},
        says="IPFS did not have 7 of its blocks; 6 came from elsewhere, 5 are back in it")
    yield "blocks: another nar, then the URL alone", ordered_again(
        other, whole, "success", audit={"blocks_missed": 0, "sources": None})
    yield "blocks: begun in vain, then the URL alone", ordered_again(
        lambda i, m: begin() + "close\n" + nar_end(1, reason="stuck", blocks=(3, 2, 1)), lambda i, m: whole(i, blocks=(1, 1, 1)), "success",
        audit={"blocks_missed": 4, "blocks_repaired": 3, "blocks_reinserted": 2})
    yield "blocks: another nar both times", ordered_again(other, other, "hash-mismatch sha256 ")
    yield "blocks: in vain both times", ordered_again(failed, failed, "not-found")
    yield "blocks: none could be begun", ordered_again(
        lambda i, m: "close\n" + nar_end(2, candidate=0xffff, reason="nobody"), failed, "not-found", orders=1)

    dead = lambda item: end(2)  # noqa: E731
    index = {"conf": "eris-index = http://index\n"}
    yield "probe: found", expired(dead, probed(1), 1, asked=[[URN, CID]] * 2)
    yield "probe: not found", expired(dead, probed(0), 0, asked=[[URN, CID]] * 2)
    yield "probe: nothing to look for", expired(dead, probed(0), 1, extra="", asked=[])
    yield "probe: a manifest alone", expired(dead, probed(1), 1, extra=f"ERIS-Manifest: {CID}\n", asked=[["", CID]] * 2)
    yield "probe: the second URL", expired(
        dead, "turn 1 " + probed(0) + "turn 2 " + probed(1) + "turn 3 " + probed(0) + "turn 4 " + probed(1), 1,
        extra="ERIS: 1\nURL: b\nCompression: none\nURL: c\nCompression: none\nERIS: 3\n",
        asked=[["1", ""], ["3", ""]] * 2)
    yield "probe: not for a substitute", expired(dead, probed(0), 1, mode="substitute", asked=[])
    yield "probe: the server has none any more", expired(lambda i: end(1), probed(1), 0, asked=[])
    yield "probe: an index's absence is no answer", expired(
        lambda i: turn(1, end(2)) + turn(2, end(1)) + turn(3, end(2)) + turn(4, end(1)), probed(1), 1, asked=[[URN, CID]] * 2,
        **index)
    yield "probe: an index has just found it", expired(
        lambda i: turn(1, end(2)) + turn(2, found(i.narinfo)) + turn(3, end(2)) + turn(4, found(i.narinfo)), probed(0), 1,
        asked=[], **index)
    yield "probe: an index's old words are none", expired(
        lambda i: turn(1, end(2)) + turn(2, found(i.narinfo)) + turn(3, end(2)) + turn(4, end(2)), probed(1), 1,
        asked=[[URN, CID]], **index)
    yield "probe: the fetcher dies", expired(dead, "segv\n", 0)
    yield "probe: the fetcher is silent", expired(dead, "hang\n", 0, wait=125)
    yield "probe: another id", expired(dead, probed(1, id_="$n"), 0)
    yield "probe: an unknown status", expired(dead, probed(2), 0)
    yield "probe: answered twice", expired(dead, probed(0) * 2, 0)
    yield "probe: many at once", many_expired
    yield "probe: not asked for", at_lookup(probed(1), "PROBED that nobody asked for")
    yield "probe: in mid-order", at_order(begin() + probed(1), "PROBED is not allowed")
    yield "lied: sources that lied", sources_that_lied
    yield "untrusted URLs: told and recorded", untrusted_urls
    yield "lied: too many sources", at_lookup(f"repeat 65 {lied('x', 'y')}" + end(1), "more than 64 sources")
    yield "lied: before it is sealed", at_start("weak\n" + lied("x"), "LIAR is not allowed")
    yield "lied: a source too long", at_lookup(lied("x" * 65), "a field claims 65 bytes")


# --- Lying unpackers and resolvers -----------------------------------------------------------------------------------

def unpack_cases():
    def all_but(item, more="", tail=""):
        return f"write {item.data.hex()}\n{more}close\n{tail}"

    yield "unpack: more than NarSize", unpacker(
        lambda i: all_but(i, "write 00\n", unpacked(out=len(i.data))), "longer than")
    yield "unpack: endless", unpacker(lambda i: "endless\n", "longer than", then=small_memory)
    yield "unpack: claims more than NarSize", unpacker(
        lambda i: all_but(i, tail=unpacked(out=len(i.data) + 1)), "UNPACKED that does not fit", event="helper-killed")
    yield "unpack: DONE early", unpacker(
        lambda i: f"write {i.data[:100].hex()}\nclose\n" + unpacked(out=len(i.data)), "bytes, not", reply="")
    yield "unpack: other bytes", unpacker(
        lambda i: f"write {bytes(len(i.data)).hex()}\nclose\n" + unpacked(out=len(i.data)), "another hash",
        reply="hash-mismatch sha256 ")
    yield "unpack: right bytes but FAILED", unpacker(
        lambda i: all_but(i, tail=unpacked(1, reason="I say no")), "I say no")
    yield "unpack: right bytes, nothing said", unpacker(lambda i: all_but(i, tail="exit 0\n"), "")
    yield "unpack: DONE but keeps the channel", unpacker(
        lambda i: f"write {i.data.hex()}\n" + unpacked(out=len(i.data)) + "write 00\n", "")
    yield "unpack: UNPACKED twice", unpacker(
        lambda i: f"write {i.data.hex()}\n" + unpacked(1) * 2 + "close\n", "")
    yield "unpack: garbage frames", unpacker(lambda i: "send 0099\n", "does not exist", event="helper-killed")
    yield "unpack: UNPACKED before UNPACK", lying("unpack", lambda i, m: ALIVE + unpacked(), event="substitute",
                                                  reason="", reply="")
    yield "unpack: DONE at once, output kept", unpacker(lambda i: unpacked(), "keeps its output open")
    yield "unpack: dies in the middle", unpacker(lambda i: "write 0d00\nsegv\n", "", then=segv_told)
    yield "unpack: dies in the middle, once", once("unpack", ALIVE, "@20\nwrite 0d00\nsegv\n", event=None)
    yield "unpack: never reads", once("unpack", ALIVE, "@20\nhang\n", event="helper-killed", reason="told to be complete", wait=60)


def resolve_cases():
    """The lie costs the server whose name is asked for, and no more: the second server serves."""
    host = "mirror.test"
    both = {"hosts": (host, "127.0.0.1"), "reply": "success"}

    def resolver(lines, reason, event="helper-killed", **kw):
        return lying("resolve", lambda i, m: ALIVE + "@30\n" + lines, event=event, reason=reason, **{**both, **kw})

    yield "resolve: another host", resolver(addresses("evil.example"), "not the next one")
    yield "resolve: unasked", lying("resolve", lambda i, m: ALIVE + addresses(host) * 2, reason="not the next one", **both)
    yield "resolve: half an address", resolver(addresses(host, blob=b"\x04\x7f\0\0\1"), "addresses of 5 bytes")
    yield "resolve: a family that is none", resolver(addresses(host, blob=b"\x09" + bytes(16)), "family 9")
    yield "resolve: addresses with `unknown'", resolver(addresses(host, status_=1), "with status 1")
    yield "resolve: none with `known'", resolver(addresses(host, blob=b""), "with status 0")
    yield "resolve: too many", resolver(addresses(host, blob=(b"\x04" + bytes(16)) * 17), "a field claims 289")
    yield "resolve: silence", resolver("hang\n", "", event=None, wait=30)
    yield "resolve: dies", resolver("segv\n", "", event=None)
    yield "resolve: floods the log for ever", resolver(
        addresses(host) + "repeat 4000000000 log 41\n", "", event=None, hosts=(host,), then=log_is_clean)


def cases():
    yield from fetch_cases()
    yield from block_cases()
    yield from unpack_cases()
    yield from resolve_cases()
