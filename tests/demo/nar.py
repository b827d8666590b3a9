# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests (demo): write a file tree as a nar, as `guix archive' does, in the plainest way.

nar(path) gives the bytes of what is at PATH; nar_node() builds nars that no file system could hold."""
import hashlib
import os
import stat
import struct

BASE32 = "0123456789abcdfghijklmnpqrsvwxyz"


def string(data):
    return struct.pack("<Q", len(data)) + data + b"\0" * (-len(data) % 8)


def words(*items):
    return b"".join(string(w) for w in items)


def nar_file(data, executable=False):
    flag = words(b"executable", b"") if executable else b""
    return words(b"(", b"type", b"regular") + flag + words(b"contents", data, b")")


def nar_link(target):
    return words(b"(", b"type", b"symlink", b"target", target, b")")


def nar_directory(entries):
    """ENTRIES: (name, node) pairs, written in the order in which they come."""
    body = words(b"(", b"type", b"directory")
    for name, node in entries:
        body += words(b"entry", b"(", b"name", name, b"node") + node + words(b")")
    return body + words(b")")


def nar_node(path):
    st = os.lstat(path)
    if stat.S_ISLNK(st.st_mode):
        return nar_link(os.readlink(path))
    if stat.S_ISDIR(st.st_mode):
        names = sorted(os.listdir(path))
        return nar_directory([(name, nar_node(os.path.join(path, name))) for name in names])
    with open(path, "rb") as f:
        return nar_file(f.read(), bool(st.st_mode & stat.S_IXUSR))


def nar(path):
    return whole(nar_node(os.fsencode(path)))


def whole(node):
    return words(b"nix-archive-1") + node


def base32(data):
    """Nix's base 32: the last digit holds the lowest bits of the first byte."""
    number = int.from_bytes(data, "little")
    length = (len(data) * 8 + 4) // 5
    return "".join(BASE32[number >> 5 * k & 31] for k in reversed(range(length)))


def nar_hash(data):
    return base32(hashlib.sha256(data).digest())
