#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Tests: each file and function that policy/README.md names exists, and each number in it is the tree's.  With --write it puts
# the numbers right.
cd "$(dirname "$0")/../.." || exit 1
python3 - "$@" <<'EOF'
import glob, os, re, subprocess, sys

PAGE = "policy/README.md"
page = open(PAGE).read()
wrong = []


def words(cell):
    return re.findall(r"`([^`]+)`", cell)


def read(path):
    return open(path, errors="replace").read()


def tables():
    """Rows by the first cell of their table's head, each with the text of its line."""
    head = None
    for line in page.splitlines():
        if not line.startswith("|"):
            head = None
        elif head is None:
            head = line.split("|")[1].strip()
        elif not line.startswith("|--"):
            yield head, [c.strip() for c in line.split("|")[1:-1]], line


def files_of(names):
    found = []
    for name in names:
        part = [f for e in "ch" for f in glob.glob(f"{name}*.{e}")] if name.endswith("/") else glob.glob(name)
        if not part:
            wrong.append(f"there is no {name}")
        found += part
    return found


def lines_of(names):
    return int(subprocess.run(["policy/mkfacts", "--count", *sorted(files_of(names))], capture_output=True, text=True, check=True).stdout)


def calls_of(name):
    rules = [line.split() for line in read(f"policy/{name}.policy").splitlines() if re.match(r"[a-z]", line)]
    return len({r[0] for r in rules if r[0] not in ("errno", "enosys")})


def limit(name):
    m = re.search(rf"^#define {name} (.+)$", read("ipc/limits.h"), re.M)
    return None if m is None else eval(re.sub(r"(?<=\d)[uUlL]+", "", m.group(1)))


def put(line, old, new):
    global page
    page = page.replace(line, line.replace(old, new, 1), 1)
    return line.replace(old, new, 1)


rows = {"part": 0, "decision": 0, "limit": 0}
sittings = [] # the files of broker/ and ipc/, each in one of the rows that name files
for head, cells, line in tables():
    rows[head] = rows.get(head, 0) + 1
    if head == "part":
        told, is_ = cells[1].replace(",", ""), lines_of(words(cells[0]))
        if not words(cells[0])[0].endswith(("/", "*.c")):
            sittings += files_of(words(cells[0]))
        if not told.isdigit() or abs(int(told) - is_) > max(100, is_ // 20):
            wrong.append(f"{cells[0]} has {is_} lines, not {told}")
            line = put(line, f"| {cells[1]} |", f"| {(is_ + 50) // 100 * 100:,} |")
        for number, name in re.findall(r"(\S+) `(\w+)`", cells[2]):
            if number.isdigit() or number.startswith("#"):
                if number != str(calls_of(name)):
                    wrong.append(f"policy {name} allows {calls_of(name)} calls, not {number}")
                    line = put(line, f"{number} `{name}`", f"{calls_of(name)} `{name}`")
    elif head == "decision":
        (path,), functions = words(cells[1]), words(cells[2])
        for function in functions:
            if not os.path.exists(path) or not re.search(rf"^(?:[a-z_][\w \*]*[ \*])?{function}\([^;]*?\n?\{{", read(path), re.M):
                wrong.append(f"{path} does not define {function}()")
    elif head == "limit":
        name, = words(cells[0])
        if (value := limit(name)) is None or cells[1].replace(",", "") != str(value):
            wrong.append(f"{name} is {value}, not {cells[1]}")
            line = put(line, f"| {cells[1]} |", f"| {value:,} |")
if min(rows["part"], rows["decision"], rows["limit"]) < 5:
    wrong.append("a table is gone")
own = sorted(f for d in ("broker", "ipc") for f in glob.glob(f"{d}/*.[ch]"))
if sorted(sittings) != own:
    wrong.append(f"not in one sitting, or in two: {sorted(set(own) ^ set(sittings)) or 'one of them'}")
for word in words(re.sub(r"(?m)^(    |\|).*$", "", page)) + [w for h, c, _ in tables() for x in c for w in words(x)]:
    if "/" in word and " " not in word and not word.startswith("/") and not glob.glob(word):
        wrong.append(f"there is no {word}")
# The attackers of the requirements, one table each.
for who in ("Network", "Malicious substitute server", "Malicious IPFS peer", "Local user who sets `untrusted-substitute-urls`",
            "Compromised fetcher", "Compromised unpacker", "Compromised resolver", "Client of the publisher"):
    if f"**{who}" not in page:
        wrong.append(f"nothing about: {who}")

if sys.argv[1:] == ["--write"]:
    open(PAGE, "w").write(page)
for w in dict.fromkeys(wrong):
    print(f"FAILED - {PAGE}: {w}")
print("not ok - tests/unit/policy_page.sh --write puts numbers right" if wrong else "ok - the page names what is there")
sys.exit(bool(wrong))
EOF
