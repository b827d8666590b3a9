# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests (hostile): the store and its limits, and whose word counts."""
import os
import shutil
import subprocess
import sys
import time

from layers import ENOSYS, LANDLOCK_CREATE_RULESET, simulate
from bed import BUILD, HERE, Server, Skipped, check, nar, run, tree, until


def served(m, name="wanted", **kw):
    item = m.item(name, **kw)
    return item, item.serve(m.bed.server, m.name)


# --- Full disks ------------------------------------------------------------------------------------------------

class Tmpfs:
    def __init__(self, place, options):
        self.place = place
        os.makedirs(place, exist_ok=True)
        r = subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=0755,{options}", "tmpfs", place],
                           stderr=subprocess.PIPE)
        if r.returncode != 0:
            raise Skipped("mount is not allowed here")

    def __enter__(self):
        return self.place

    def __exit__(self, *args):
        subprocess.run(["umount", "-l", self.place])


def full_spool(machine):
    m = machine()
    with Tmpfs(f"{m.top}/spool", "size=1m") as spool:
        m.conf(f"helper-user = {m.uid}:{m.uid}\nspool-directory = {spool}\nspool-memory = 0\n")
        item, url = served(m, data=tree("wanted", 2_000_000))
        a = m.agent("substitute", url)
        check((got := a.substitute(item)) == "not-found", f"the reply is {got!r}")
        check(a.says("in the spool directory") and f"in {m.store}" not in a.log, f"the log: {a.log!r}")
        check(m.told("substitute", "in the spool directory"), "the audit log does not tell which disk")
        check(not m.leftovers() and not os.listdir(spool), "something is left")
        check(a.alive(), "the broker ended")
        a.end()


def spool_on_disk(machine):
    """With no memory to spare the spool is an unnamed file: nothing of it is left either way."""
    m = machine(conf="spool-memory = 0\n")
    item, url = served(m, data=tree("wanted", 3_000_000))
    a = m.agent("substitute", url)
    check(a.substitute(item) == item.success and item.installed(), "the item did not come")
    check(os.listdir(f"{m.state}/narlock/spool") == [], "something is left in the spool")


def no_cache(machine):
    """A cache that cannot be had is done without, and said: nothing else depends on it."""
    m = machine()
    item, url = served(m)
    os.makedirs(f"{m.state}/narlock", 0o711)
    os.mkdir(f"{m.state}/narlock/cache", 0o777)
    os.chmod(f"{m.state}/narlock/cache", 0o777)
    q, a = m.agent("query", url), m.agent("substitute", url)
    check(q.info(item), "nothing is told of the item")
    check(a.substitute(item) == item.success and item.installed(), "the item did not come")
    check(q.says("cache must belong to"), f"the log: {q.log!r}")
    check(os.listdir(f"{m.state}/narlock/cache") == [], "it wrote to a directory of everybody's")


def neighbours(machine):
    """What guix discover wrote counts as named by the admin: not what anybody could have written."""
    m = machine()
    item, url = served(m)
    os.makedirs(f"{m.state}/discover")
    with open(f"{m.state}/discover/publish", "w") as f:
        f.write(f"{url}\n")
    for mode, known in ((0o644, True), (0o666, False), (0o664, False)):
        os.chmod(f"{m.state}/discover/publish", mode)
        q = m.agent("query", "http://127.0.0.1:1", options="discover=true\n")
        check(bool(q.info(item)) == known, f"mode {mode:o}: {q.log!r}")


def full_store(options, name, what):
    def case(machine):
        m = machine()
        with Tmpfs(m.store, options):
            small, url = served(m, "small", data=nar.whole(nar.nar_file(b"x" * 40)))
            files = nar.nar_directory([(b"f%03d" % i, nar.nar_file(b"y" * 1000)) for i in range(200)])
            item, _ = served(m, data=nar.whole(nar.nar_directory([(b"a", files), (b"b", nar.nar_file(b"z"))])))
            a = m.agent("substitute", url)
            check((got := a.substitute(item)) == "not-found", f"the reply is {got!r}")
            check(a.says(what) and "spool directory" not in a.log, f"the log: {a.log!r}")
            check(not m.leftovers(), f"left: {m.leftovers()}")
            check(a.substitute(small) == small.success and small.installed(), f"a small one did not come: {a.log!r}")
            a.end()
    return case


def bad_nar(machine):
    """Validly signed, and no file system should hold it: nothing of it is left."""
    m = machine()
    inner = nar.nar_directory([(b"b", nar.nar_file(b"1")), (b"a", nar.nar_file(b"2"))])
    broken = {
        "dotdot": nar.whole(nar.nar_directory([(b"a", nar.nar_file(b"1")), (b"..", nar.nar_file(b"2"))])),
        "slash": nar.whole(nar.nar_directory([(b"a", nar.nar_file(b"1")), (b"b/c", nar.nar_file(b"2"))])),
        "order": nar.whole(nar.nar_directory([(b"a", nar.nar_file(b"1")), (b"b", inner)])),
        "tail": nar.whole(nar.nar_file(b"1")) + bytes(8),
        "through-link": nar.whole(nar.nar_directory([(b"a", nar.nar_link(b"/tmp")), (b"a", inner)])),
    }
    a = None
    for name, data in broken.items():
        item, url = served(m, name, data=data)
        a = a or m.agent("substitute", url)
        check((got := a.substitute(item)) == "not-found", f"{name}: the reply is {got!r}")
        check(not m.leftovers(), f"{name}: left: {m.leftovers()}")
    item, _ = served(m)
    check(a.substitute(item) == item.success, "the next item did not come")


# --- Destinations -------------------------------------------------------------------------------------------------

def destinations(machine):
    m = machine()
    m.conf(f"helper-user = {m.uid}:{m.uid}\nallow-destination = {m.out}//\n")
    os.mkdir(f"{m.out}/sub")
    item, url = served(m)
    a = m.agent("substitute", url)
    other = m.path("other")
    bad = [f"{m.top}/elsewhere", f"{m.out}/../elsewhere", f"{m.out}/./x", f"{m.out}//x", f"{m.out}", f"{m.out}/",
           "relative", other, f"{item.path}/x", f"{item.path}.lock", f"{m.store}/x", f"{m.state}/narlock/x",
           f"{m.out}x/y", "/" + "a" * 2000, f"{m.out}/{'b' * 256}"]
    for dest in bad:
        check((got := a.substitute(item, dest)) == "not-found", f"{dest[:200]}: the reply is {got!r}")
        check(m.leftovers() == [f"{m.out}/sub"] and not os.path.lexists(f"{m.top}/elsewhere"), f"{dest}: left: {m.leftovers()}")
    check(a.says("is not allowed"), f"the log: {a.log!r}")
    for dest in (f"{m.out}/x", f"{m.out}/sub/x"):
        check(a.substitute(item, dest) == item.success and item.installed(dest), f"{dest} is allowed")
    os.symlink(m.etc, f"{m.out}/link")
    acl = os.listdir(m.etc)
    for wrap in ((), simulate(m, LANDLOCK_CREATE_RULESET, ENOSYS)):
        a = m.agent("substitute", url, wrap=wrap)
        check((got := a.substitute(item, f"{m.out}/link/x")) == "not-found", f"through a link: {got!r}")
    m.conf(f"helper-user = {m.uid}:{m.uid}\nallow-destination = {m.top}\n")
    a = m.agent("substitute", url)
    for dest in (other, f"{m.store}/x", f"{m.state}/narlock/x", f"{m.state}/x"):  # not even then
        check((got := a.substitute(item, dest)) == "not-found" and not os.path.lexists(dest), f"{dest}: {got!r}")
    with open(f"{m.store}/kept", "w") as f:
        f.write("kept\n")
    m.conf(f"helper-user = {m.uid}:{m.uid}\nallow-destination = {m.top}\nallow-destination = {os.path.dirname(m.top)}\n")
    a = m.agent("substitute", url)
    for dest in (m.store, m.state, m.top):  # what stands there would be removed first
        check((got := a.substitute(item, dest)) == "not-found" and os.path.exists(f"{m.store}/kept"), f"{dest}: {got!r}")
    check(os.listdir(m.etc) == acl, "it wrote through a symbolic link out of the allowed directory")


def bad_paths(machine):
    m = machine()
    item, url = served(m)
    a, q = m.agent("substitute", url), m.agent("query", url)
    good = os.path.basename(item.path)
    bad = ["", "e" + good[1:], good[:31], good.upper(), good[:32], good[:33], good[:33] + "a/b", f"../{good}",
           good[:33] + ".", good[:33] + "a" * 212, good[:33] + "a\tb", "/etc/passwd"]
    for name in bad:
        path = name if name.startswith("/") else f"{m.store}/{name}"
        before = m.bed.server.seen.total()
        check((got := a.substitute(path)) == "not-found", f"{path}: the reply is {got!r}")
        check(q.info(path) == [], f"{path}: there is information")
        check(m.bed.server.seen.total() >= before and not m.leftovers(), f"{path}: left: {m.leftovers()}")
    check(not any(f"/{m.name}/e{good[1:32]}" in page for page in m.bed.server.seen), "a bad hash part was asked for")
    check(a.substitute(item) == item.success and q.info(item), "afterwards")


def repair(machine):
    m = machine()
    item, url = served(m)
    os.mkdir(item.path)
    with open(f"{item.path}/broken", "w") as f:
        f.write("broken\n")
    a = m.agent("substitute", url)
    # What a repair that was interrupted may leave, and worse: a directory that its owner may not even read.
    os.makedirs(f"{item.path}.tmp/closed/inner")
    os.chmod(f"{item.path}.tmp/closed", 0)
    check(a.substitute(item, f"{item.path}.tmp") == item.success, f"the repair failed: {a.log!r}")
    check(item.installed(f"{item.path}.tmp") and os.path.exists(f"{item.path}/broken"), "the repair is not beside it")
    check(a.substitute(item) == item.success and item.installed(), "what stands in the way was not replaced")


def state_unusable(machine):
    m = machine()
    m.conf(f"helper-user = {m.uid}:{m.uid}\nstate-directory = /dev/null/narlock\n")
    item, url = served(m)
    for mode in ("substitute", "query"):
        a = m.agent(mode, url)
        got = [a.substitute(item) == "not-found" if mode == "substitute" else a.info(item) == [] for _ in range(2)]
        check(all(got) and a.alive(), f"{mode}: {got}")
        check(a.says("could not be kept together") and a.log.count("no substitutes:") == 1, f"{mode}: {a.log!r}")


# --- Whose word counts ---------------------------------------------------------------------------------------------

def client(argv):
    """One client of guix-daemon: its worker process, parent of both agents.  Info with one order of servers, then,
    when a line comes, the substitute with the other."""
    import json
    from bed import Agent
    with open(argv[0]) as f:
        c = json.load(f)

    class M:
        pass

    m = M()
    m.__dict__.update(c["machine"])
    q = Agent(m, "query", c["urls"])
    info = q.info(c["path"])
    print(json.dumps(info), flush=True)
    sys.stdin.readline()
    s = Agent(m, "substitute", c["urls"][::-1])
    print(json.dumps([s.substitute(c["path"], c["dest"]), s.log, q.pid, s.pid]), flush=True)
    sys.stdin.readline()
    q.end()
    s.end()
    return 0


def start_client(m, name, urls, path, dest):
    import json
    place = f"{m.top}/{name}.json"
    fields = ("store", "state", "etc", "top", "broker")
    with open(place, "w") as f:
        json.dump({"machine": {k: getattr(m, k) for k in fields}, "urls": urls, "path": path, "dest": dest}, f)
    return subprocess.Popen([f"{HERE}/broker", "--client", place], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def told_is_installed(machine):
    """Two servers, both authorised, differ about one path; two clients ask them in different order, at once."""
    import json
    m = machine(acl=("farm", "farm2"))
    m.conf(f"helper-user = {m.uid}:{m.uid}\nallow-destination = {m.out}\n")
    r1, r2 = m.path("reference-one"), m.path("reference-two")
    one = m.item("wanted", key="farm", data=tree("one"), references=[r1])
    two = m.item("wanted", key="farm2", data=tree("two"), references=[r2])
    same = m.item("same", key="farm", references=[r1]), m.item("same", key="farm2", references=[r2], data=tree("same"))
    urls = [i.serve(m.bed.server, f"{m.name}-{n}") for n, i in (("a", one), ("b", two))]
    for n, i in zip("ab", same):
        i.serve(m.bed.server, f"{m.name}-{n}")
    for item, other, what in ((one, two, "other bytes"), (*same, "same bytes, other references")):
        clients = [start_client(m, f"{what[:4]}-1", urls, item.path, f"{m.out}/{item.name}-1"),
                   start_client(m, f"{what[:4]}-2", urls[::-1], item.path, f"{m.out}/{item.name}-2")]
        try:
            told = [json.loads(c.stdout.readline()) for c in clients]
            check([t[0][2] for t in told] == [[r1], [r2]], f"{what}: info told {told}")
            for c in clients:
                c.stdin.write(b"go\n")
                c.stdin.flush()
            for number, (c, i) in enumerate(zip(clients, (item, other)), 1):
                reply, log, *_ = json.loads(c.stdout.readline())
                check(reply == i.success, f"{what}: client {number} got {reply!r}: {log!r}")
                check(i.installed(f"{m.out}/{i.name}-{number}"), f"{what}: client {number} has another item")
        finally:
            for c in clients:
                c.stdin.close()
                c.wait(20)
    check(m.told("narinfo-refused", "not the narinfo whose references the daemon was told"), "nothing was refused")
    # Only the other one is left: it must not be taken in the place of what was told.
    a, q = m.agent("substitute", urls[1]), m.agent("query", urls[0])
    check(q.info(one)[0][2] == [r1], "info")
    check((got := a.substitute(one)) == "not-found", f"another one than told: {got!r}")
    check(not os.path.lexists(one.path), "it was installed")


def acl_removal(machine):
    m = machine(acl=("farm", "farm2"))
    item, url = served(m)
    q, a = m.agent("query", url), m.agent("substitute", url)
    check(len(q.info(item)) == 1 and len(q.info(item)) == 1, "info does not work")
    check(m.audit("info")[-1]["from_cache"] == 1, "the second info was not from the cache")
    m.acl("farm2")
    check(q.info(item) == [] and q.info(item, command="have") == [], "a key that was removed still counts")
    check((got := a.substitute(item)) == "not-found", f"the reply is {got!r}")
    m.acl()
    check(q.info(item) == [], "an empty list authorises")
    os.unlink(f"{m.etc}/acl")
    check(q.info(item) == [] and a.substitute(item) == "not-found", "no list authorises")
    m.acl("farm")
    check(len(q.info(item)) == 1 and a.substitute(item) == item.success, "a key that is back does not count")


def warm_info(machine):
    m = machine()
    items = [m.item(f"item-{i}") for i in range(20)]
    for i in items:
        url = i.serve(m.bed.server, m.name)
    check(len(m.agent("query", url).info(*items)) == 20, "cold info")
    cold = m.audit("info")[-1]
    asked = m.bed.server.seen.total()
    check(len(m.agent("query", url).info(*items)) == 20, "warm info")
    warm = m.audit("info")[-1]
    check((cold["signatures_verified"], cold["from_servers"], cold["from_cache"]) == (20, 20, 0), f"cold: {cold}")
    check((warm["signatures_verified"], warm["from_servers"], warm["from_cache"]) == (0, 0, 20), f"warm: {warm}")
    check(not any(f"/{m.name}/{i.base[:32]}.narinfo" in m.bed.server.seen and
                  m.bed.server.seen[f"/{m.name}/{i.base[:32]}.narinfo"] != 1 for i in items), f"asked again: {asked}")


def tampered_cache(machine):
    """A cache entry that somebody changed is not believed."""
    m = machine()
    item, url = served(m, references=[])
    check(len(m.agent("query", url).info(item)) == 1, "cold info")
    cache = f"{m.state}/narlock/cache"
    names = [n for n in os.listdir(cache) if "-" in n and not n.startswith((".", "last"))]
    check(len(names) == 1, f"the cache has {names}")
    with open(f"{cache}/{names[0]}", "r+b") as f:
        data = f.read().replace(b"References: ", b"References: x")
        f.seek(0)
        f.write(data)
    found = m.agent("query", url).info(item)
    check(found and found[0][2] == [] and m.audit("info")[-1]["signatures_verified"] == 1, f"it was believed: {found}")


def expired_cache(machine):
    m = machine()
    server = Server()
    item = m.item("wanted")
    url = item.serve(server, m.name, headers={"Cache-Control": "max-age=1"})
    check(len(m.agent("query", url).info(item)) == 1, "cold info")
    server.shutdown()
    server.server_close()
    time.sleep(2.1)
    q = m.agent("query", url)
    check([i[0] for i in q.info(item)] == [item.path], f"the expired entry does not serve: {q.log!r}")
    record = m.audit("info")[-1]
    check(record["expired_used"] == 1 and record["signatures_verified"] == 0, f"{record}")
    m.acl("farm2")
    check(q.info(item) == [], "an expired entry of a key that was removed serves")


def expired_blocks(machine):
    """The same with a narinfo that names blocks, and the real fetcher: nobody has them, so nothing is promised."""
    m = machine(conf="ipfs = /ip4/127.0.0.1/tcp/1\n")
    server = Server()
    one, two = m.item("one", extra=f"ERIS: urn:eris:{'A' * 106}\n"), m.item("two")
    for item in (one, two):
        url = item.serve(server, m.name, headers={"Cache-Control": "max-age=1"})
    check(len(m.agent("query", url).info(one, two)) == 2, "cold info")
    server.shutdown()
    server.server_close()
    time.sleep(2.1)
    q = m.agent("query", url)
    for command in ("have", "info", "info"):
        got = [i if command == "have" else i[0] for i in q.info(one, two, command=command)]
        check(got == [two.path], f"{command}: {got}; log: {q.log!r}")
    check(not m.audit("helper-killed") and q.alive(), f"{m.audit()}")


def mirror(machine):
    """The first server signs nothing, adds a Deriver and has the nar; the second is authorised."""
    m = machine()
    deriver = f"{'a' * 32}-evil.drv"
    plain = m.item("wanted", signed=False, deriver=deriver)
    signed = m.item("wanted")
    first, second = plain.serve(m.bed.server, f"{m.name}-a"), signed.serve(m.bed.server, f"{m.name}-b")
    q, a = m.agent("query", first, second), m.agent("substitute", first, second)
    info = q.info(signed)
    check(info and info[0][1] == "" and "evil" not in str(info), f"info: {info}")
    check(a.substitute(signed) == signed.success and signed.installed(), f"the item did not come: {a.log!r}")
    record = m.audit("substitute")[-1]
    check(record["nar_source"].startswith(first) and record["narinfo_server"].startswith(second), f"{record}")
    check(m.bed.server.seen[f"/{m.name}-b/{signed.page}"] == 0, "the second server was asked for the nar")
    # A mirror whose fields differ gives nothing at all.
    for name, kw in (("hash", {"data": tree("evil")}), ("references", {"references": [m.path("evil")]})):
        good, bad = m.item(name), m.item(name, signed=False, **kw)
        bad.serve(m.bed.server, f"{m.name}-a")
        good.serve(m.bed.server, f"{m.name}-b")
        check([i[2] for i in q.info(good)] == [[]], f"{name}: info")
        check(a.substitute(good) == good.success and good.installed(), f"{name}: the item did not come")
        check(m.audit("substitute")[-1]["nar_source"].startswith(second), f"{name}: from the mirror")


def unauthenticated(machine):
    m = machine()
    item, url = served(m, signed=False)
    for mode in ("substitute", "query"):
        a = m.agent(mode, url, env={"GUIX_ALLOW_UNAUTHENTICATED_SUBSTITUTES": "yes"})
        check(a.substitute(item) == "not-found" if mode == "substitute" else a.info(item) == [], f"{mode}: it was believed")
        check(a.says("GUIX_ALLOW_UNAUTHENTICATED_SUBSTITUTES is ignored"), f"{mode}: no message")
    stranger, _ = served(m, "stranger", key="stranger")
    a = m.agent("substitute", url)
    check(a.substitute(stranger) == "not-found" and not m.leftovers(), "a stranger's signature counts")


# --- The protocol -----------------------------------------------------------------------------------------------------

def no_replies(machine):
    m = machine()
    item, url = served(m)
    for mode in ("substitute", "query"):
        a = m.agent(mode, url, replies=False)
        check(a.process.wait(10) == 2 and a.says("descriptor 4 is not open"), f"{mode}: {a.process.poll()} {a.log!r}")


def long_info(machine):
    m = machine()
    item, url = served(m)
    q = m.agent("query", url)
    paths = [m.path(f"nobody-{i}") for i in range(5000)]
    check([i[0] for i in q.info(*paths[:2500], item, *paths[2500:], seconds=100)] == [item.path], "5001 paths")
    check(m.audit("info")[-1]["asked"] == 5001, f"{m.audit('info')}")
    check(q.info(item, item, item, command="have").count(item.path) in (1, 3), "the same path three times")


def pieces(machine):
    m = machine()
    one, url = served(m, "one")
    two, _ = served(m, "two")
    q, a = m.agent("query", url), m.agent("substitute", url)
    for c in f"have {one.path}\n":
        q.write(c)
        time.sleep(0.001)
    check((q.line(), q.line()) == (one.path, ""), "a command in pieces")
    q.write(f"have {one.path}\nhave {two.path} {one.path}\ninfo\nfrob x\n\n\nhave \nhave {two.path}\n")
    got = [q.line() for _ in range(10)]
    check(got[:2] == [one.path, ""] and sorted(got[2:4]) == sorted([one.path, two.path]) and got[4] == "",
          f"several commands: {got}")
    check(got[5:] == ["", "", "", two.path, ""], f"empty and unknown commands: {got}")
    a.write(f"substitute {one.path} {one.path}\nsubstitute {two.path} {two.path}\n")
    check([a.line(), a.line()] == [one.success, two.success], "two commands at once")
    a.write(f"\n\nfrob\nsubstitute\nsubstitute {one.path}\nsubstitute {one.path} {one.path} x\n")
    check([a.line() for _ in range(4)] == ["not-found"] * 4, "unknown commands")
    half = len(one.path)
    a.write(f"substitute {one.path[:half // 2]}")
    time.sleep(0.2)
    a.write(f"{one.path[half // 2:]} {one.path}\n")
    check(a.line() == one.success, "a command in two pieces")
    a.write("substitute \0 \x1b[31m\n" + "x" * 100_000 + "\n")
    check([a.line(), a.line()] == ["not-found"] * 2 and a.alive(), "garbage")
    check("\x1b" not in a.log, "an escape in the log")


def no_options(machine):
    """Nothing in the environment but what an empty daemon gives: its defaults, and no crash."""
    m = machine()
    item, url = served(m)
    a = m.agent("substitute", "not-a-url", "ftp://x", "file:///etc/passwd", "http://", url, options="x" * 30000)
    check((got := a.substitute(item)) == item.success, f"the reply is {got!r}: {a.log[-300:]!r}")


def audit_chain(machine):
    """Many brokers write one log at the same time, it is rotated meanwhile, one is killed: all of it hangs together."""
    m = machine()
    items = [m.item(f"chained-{n}") for n in range(6)]
    for i in items:
        url = i.serve(m.bed.server, m.name)
    narlock = f"{BUILD}/bin/narlock"

    def verify(*files):
        r = subprocess.run([narlock, "audit", "--verify", *files], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return r.returncode, r.stdout.decode()
    agents = [m.agent("query", url) for _ in range(6)]
    for turn in range(8):
        for a, i in zip(agents, items):
            a.write(f"have {i.path}\n")
        for a in agents:
            while a.line():
                pass
        if turn == 3:
            os.rename(m.audit_log, f"{m.audit_log}.1")
            agents += [m.agent("query", url) for _ in range(2)]
            items += items[:2]
        if turn == 5:
            agents.pop(0).end()
            items.pop(0)
    code, out = verify(f"{m.audit_log}.1", m.audit_log)
    check(code == 0, f"{code}: {out}")
    check(not any("unjoined" in r for r in m.audit()), "records that are not joined")
    with open(m.audit_log) as f:
        lines = f.readlines()
    with open(m.audit_log, "w") as f:
        f.writelines(lines[:-3] + lines[-2:])
    code, out = verify(f"{m.audit_log}.1", m.audit_log)
    check(code == 2 and "removed" in out, f"a removed record: {code}: {out}")


def cases():
    yield "audit: one chain for all", audit_chain
    yield "store: full spool", full_spool
    yield "store: no cache", no_cache
    yield "store: neighbours", neighbours
    yield "store: spool on disk", spool_on_disk
    yield "store: no room", full_store("size=128k", "size", "bytes in ")
    yield "store: no room for files", full_store("size=4m,nr_inodes=60", "inodes", "No space left")
    yield "store: nars that no file system should hold", bad_nar
    yield "store: destinations", destinations
    yield "store: paths", bad_paths
    yield "store: repair", repair
    yield "store: state directory unusable", state_unusable
    yield "word: told is installed", told_is_installed
    yield "word: a key that is removed", acl_removal
    yield "word: warm info verifies nothing", warm_info
    yield "word: a changed cache entry", tampered_cache
    yield "word: expired entry when the server is down", expired_cache
    yield "word: expired entry of blocks", expired_blocks
    yield "word: unsigned mirror first", mirror
    yield "word: unauthenticated is ignored", unauthenticated
    yield "protocol: no descriptor 4", no_replies
    yield "protocol: 5000 paths", long_info
    yield "protocol: pieces", pieces
    yield "protocol: odd servers", no_options
