# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests: the NAR format, nix-base32 and Guix's signatures, in the fewest words; a reference for narlock's own
code that shares nothing with it."""
import base64, hashlib, os, stat

ALPHABET = "0123456789abcdfghijklmnpqrsvwxyz"

def base32(data):
    """nix-base32: five bits a digit, the first digit holds the highest bits of the little-endian number"""
    number, digits = int.from_bytes(data, "little"), (len(data) * 8 + 4) // 5
    return "".join(ALPHABET[number >> 5 * i & 31] for i in reversed(range(digits)))

def string(data):
    return len(data).to_bytes(8, "little") + data + bytes(-len(data) % 8)

def regular(data, executable=False):
    """The nar of one file, whole"""
    mark = string(b"executable") + string(b"") if executable else b""
    return b"".join((string(b"nix-archive-1"), string(b"("), string(b"type"), string(b"regular"), mark,
                     string(b"contents"), string(data), string(b")")))

def chunks(path):
    """The nar of PATH, piece by piece"""
    yield string(b"nix-archive-1")
    yield from _node(os.fsencode(path))

def _node(path):
    info = os.lstat(path)
    yield string(b"(") + string(b"type")
    if stat.S_ISLNK(info.st_mode):
        yield string(b"symlink") + string(b"target") + string(os.readlink(path))
    elif stat.S_ISREG(info.st_mode):
        yield string(b"regular") + (string(b"executable") + string(b"") if info.st_mode & 0o100 else b"")
        yield string(b"contents") + info.st_size.to_bytes(8, "little")
        with open(path, "rb") as f:
            while data := f.read(1 << 20):
                yield data
        yield bytes(-info.st_size % 8)
    elif stat.S_ISDIR(info.st_mode):
        yield string(b"directory")
        for name in sorted(os.listdir(path)):
            yield string(b"entry") + string(b"(") + string(b"name") + string(name) + string(b"node")
            yield from _node(path + b"/" + name)
            yield string(b")")
    else:
        raise ValueError(f"{path}: no nar can hold this")
    yield string(b")")

def sha256(pieces):
    """(nix-base32 of the SHA-256, size) of bytes or of an iterator of them"""
    digest, size = hashlib.sha256(), 0
    for piece in (pieces,) if isinstance(pieces, bytes) else pieces:
        digest.update(piece)
        size += len(piece)
    return base32(digest.digest()), size

class Key:
    """A key of the kind that `guix archive --generate-key' makes, ECDSA over the edwards25519 group, and its
    signatures of narinfos.  For tests: neither fast nor safe from timing."""
    P = 2**255 - 19
    N = 2**252 + 27742317777372353535851937790883648493
    D = -121665 * pow(121666, -1, P) % P
    B = (15112221349535400772501151409588531511454012693041857206046113283949847762202, 4 * pow(5, -1, P) % P)

    def __init__(self, seed):
        self.secret = int.from_bytes(hashlib.sha512(b"key" + seed).digest(), "big") % self.N
        x, y = self._times(self.secret)
        self.q = (y | (x & 1) << 255).to_bytes(32, "little").hex().upper()
        self.public = f"(public-key (ecc (curve Ed25519) (q #{self.q}#)))"

    def _add(self, a, b):
        (x1, y1), (x2, y2), p = a, b, self.P
        t = self.D * x1 * x2 * y1 * y2
        return ((x1 * y2 + x2 * y1) * pow(1 + t, -1, p) % p, (y1 * y2 + x1 * x2) * pow(1 - t, -1, p) % p)

    def _times(self, k):
        result, power = (0, 1), self.B
        while k:
            if k & 1:
                result = self._add(result, power)
            power, k = self._add(power, power), k >> 1
        return result

    def sign(self, text):
        """The Signature line for the signed part TEXT of a narinfo"""
        digest = hashlib.sha256(text.encode()).digest()
        z = int.from_bytes(digest, "big") >> 3
        k = int.from_bytes(hashlib.sha512(self.secret.to_bytes(32, "big") + digest).digest(), "big") % self.N
        r = self._times(k)[0] % self.N
        s = pow(k, -1, self.N) * (z + r * self.secret) % self.N
        sexp = (f"(signature (data (flags rfc6979) (hash sha256 #{digest.hex().upper()}#)) (sig-val (ecdsa "
                f"(r #{r.to_bytes(32, 'big').hex().upper()}#) (s #{s.to_bytes(32, 'big').hex().upper()}#))) {self.public})")
        return f"Signature: 1;test;{base64.b64encode(sexp.encode()).decode()}\n"

def acl(*publics):
    """The text of /etc/guix/acl with these public keys"""
    return "(acl " + " ".join(f"(entry {p} (tag (guix import)))" for p in publics) + ")\n"
