#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Tests: narlock-eris as people use it: encode, decode, blocks, cid, and serve with a client that reads every byte.
set -u
cd "$(dirname "$0")/../.." || exit 1
eris=$PWD/build/bin/narlock-eris
work=$(mktemp -d "${TMPDIR:-/tmp}/narlock-eris.XXXXXX") || exit 1
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$work"' EXIT
cd "$work" || exit 1
failed=0

check() { # NAME EXPECTED ACTUAL
	if [ "$2" = "$3" ]; then
		echo "ok - $1"
	else
		failed=1
		printf 'FAILED - %s\n  expected: %s\n  actual:   %s\n' "$1" "$2" "$3"
	fi
}
has() { # NAME PART WHOLE
	case $3 in
	*"$2"*) echo "ok - $1" ;;
	*) failed=1; printf 'FAILED - %s\n  expected: ...%s...\n  actual:   %s\n' "$1" "$2" "$3" ;;
	esac
}

hello=urn:eris:BIAD77QDJMFAKZYH2DXBUZYAP3MXZ3DJZVFYQ5DFWC6T65WSFCU5S2IT4YZGJ7AC4SYQMP2DM2ANS2ZTCP3DJJIRV733CRAAHOSWIYZM3M
ref=H77AGSYKAVTQPUHODJTQA7WZPTWGTTKLRB2GLMF5H53NEKFJ3FUQ
python3 -c 'import random,sys; random.seed(4); sys.stdout.buffer.write(random.randbytes(3000000))' >big

# --- Encode and decode ---
check 'a known URN' "$hello" "$(printf 'Hello world!' | "$eris" encode --block-size 1k -)"
printf 'Hello world!' >small
check 'blocks go into a new directory' "$hello" "$("$eris" encode --block-size 1k --store one small)"
check 'one block, under its name' "$ref" "$(ls -A one)"
check 'and back' 'Hello world!' "$("$eris" decode --store one "$hello")"
urn=$("$eris" encode --store many big)
check 'threads make no difference' "$urn" "$("$eris" encode --threads 1 big)$("$eris" encode --threads 5 big | grep -v "^$urn$")"
check 'three million bytes: 92 leaves and a node' 93 "$(ls -A many | wc -l)"
for threads in 1 2 3; do
	"$eris" decode --threads $threads --store many "$urn" | cmp - big
	check "and back with $threads" 0 $?
done
check 'a part' "$(tail -c +100001 big | head -c 70000 | cksum)" \
	"$("$eris" decode --store many --offset 100000 --length 70000 "$urn" | cksum)"
check 'the end' "$(tail -c 10 big | cksum)" "$("$eris" decode --store many --offset 2999990 "$urn" | cksum)"
check 'nothing behind the end' '' "$("$eris" decode --store many --offset 3000000 "$urn")"
secret=$("$eris" encode --secret "$(printf '%064d' 1)" --store secret big)
[ "$secret" != "$urn" ]; check 'a secret makes other blocks' 0 $?
"$eris" decode --store secret "$secret" | cmp - big; check 'which decode without it' 0 $?
"$eris" encode --store small1k --block-size 1k big >urn1k
"$eris" decode --store small1k "$(cat urn1k)" | cmp - big; check 'small blocks' 0 $?
"$eris" encode --store many big >/dev/null; check 'the same again' 93 "$(ls -A many | wc -l)"

# --- Names ---
check 'a CID of a reference' "$("$eris" cid "$hello")" "$("$eris" cid $ref)"
has 'of IPFS' bafk2bzace "$("$eris" cid $ref)"
"$eris" blocks big >list
check 'the list has every block' "$(ls many | sort | cksum)" "$(cut -d' ' -f1 list | sort | cksum)"
check 'leaves in order, then the root' '91 2981888 1 0' \
	"$(awk '$2 == 0 { if ($3 != 32768 * n++) bad = 1; last = $3 } END { if (!bad) print n - 1, last, $2, $3 }' list)"

# --- CAR and manifest ---
cat >car.py <<'END'
import base64, hashlib, sys
data, at = open(sys.argv[1], 'rb').read(), 0
def varint():
    global at
    n = shift = 0
    while True:
        b = data[at]; at += 1
        n |= (b & 127) << shift; shift += 7
        if b < 128: return n
def name(cid): return 'b' + base64.b32encode(cid).decode().lower().rstrip('=')
def ref(cid): return base64.b32encode(cid[6:]).decode().rstrip('=')
have, order = {}, []
n = varint()
header, at = data[at:at + n], at + n
root = header[header.index(b'\xd8\x2a\x58\x27\x00') + 5:][:38]
print('root', name(root))
while at < len(data):
    n = varint()
    cid, block, at = data[at:at + 38], data[at + 38:at + n], at + n
    good = hashlib.blake2b(block, digest_size=32).digest() == cid[6:] and cid[2:6] == b'\xa0\xe4\x02\x20'
    kind = {0x55: 'block', 0x71: 'node', 0x70: 'file'}[cid[1]] if good else 'BAD'
    print(kind, ref(cid) if kind == 'block' else name(cid))
    if kind == 'block': order.append(cid)
    have[cid] = block
open('root-node', 'wb').write(have[root])
open('node-refs', 'w').write('\n'.join([ref(root)] + [ref(c) for c in have if c[1] == 0x70]) + '\n')
# The file, as any IPFS program reads it: links are the fields 2 of a node, and have the CID in their field 1.
def fields(b):
    at = 0
    while at < len(b):
        tag, n, shift, at = b[at], 0, 0, at + 1
        while True:
            n |= (b[at] & 127) << shift; shift += 7; at += 1
            if b[at - 1] < 128: break
        yield tag, b[at:at + n] if tag & 7 == 2 else n
        at += n if tag & 7 == 2 else 0
def leaves(cid):
    if cid[1] == 0x55: return [cid]
    return [leaf for tag, link in fields(have[cid]) if tag == 0x12 for leaf in leaves(dict(fields(link))[0x0a])]
cbor = have[root]
found = leaves(cbor[cbor.index(b'dfile\xd8\x2a\x58\x27\x00') + 10:][:38])
print('read', len(found), 'in order' if list(dict.fromkeys(found)) == order else 'in another order')
END
printf 'StorePath: /gnu/store/x\nSig: 1\n' >info
"$eris" car big >big.car 2>names
check 'names for a narinfo' "ERIS: $urn" "$(head -1 names)"
cid=$(sed -n 's/^ERIS-Manifest: //p' names)
python3 car.py big.car >parts
check 'the manifest is the root, and first, then its file' "root $cid node $cid file block block" \
	"$(head -2 parts | tr '\n' ' ')$(sed -n 3,5p parts | cut -d' ' -f1 | tr '\n' ' ' | sed 's/ $//')"
check 'the file is all blocks' 'read 93 in order' "$(grep ^read parts)"
check 'no block is bad' '' "$(grep ^BAD parts)"
check 'blocks in the order of a decoder: the root of the tree, then leaves' \
	"$({ awk '$2 == 1 { print $1 }' list; awk '$2 == 0 { print $1 }' list; } | cksum)" \
	"$(sed -n 's/^block //p' parts | cksum)"
check 'to a file, names to standard output' "$(cat names)" "$("$eris" car --threads 1 --output to.car big)"
cmp big.car to.car; check 'the same' 0 $?
cat big | "$eris" car - >pipe.car 2>/dev/null; cmp big.car pipe.car; check 'from a pipe' 0 $?
check 'a manifest in a store' "$urn $cid" "$("$eris" encode --store many --manifest big | tr '\n' ' ' | sed 's/ $//')"
check 'two files more' 95 "$(ls -A many | wc -l)"
sed -n 's/^block //p' parts | sort >refs
check 'they are its nodes' "$(sort node-refs)" "$(ls many | sort | comm -23 - refs)"
node=$(head -1 node-refs)
file_node=$(tail -1 node-refs)
cmp "many/$node" root-node; check 'it is the root' 0 $?
"$eris" car --narinfo info big 2>names2 >info.car; python3 car.py info.car >parts2
check 'with a narinfo it is another manifest' 1 "$(grep '^ERIS-Manifest: b' names2 | grep -vc "$cid")"
check 'which has it' 1 "$(grep -ac 'Sig: 1' root-node)"
check 'and the same blocks' "$(grep ^block parts | cksum)" "$(grep ^block parts2 | cksum)"
{ head -c 327680 /dev/zero; cat small; } >zeros
"$eris" car zeros 2>/dev/null >zeros.car; python3 car.py zeros.car >parts
check 'a block that repeats is there once' '1 1 3 BAD:0' \
	"$(grep -c ^node parts) $(grep -c ^file parts) $(grep -c ^block parts) BAD:$(grep -c ^BAD parts)"
check 'in the file, too' 'read 3 in order' "$(grep ^read parts)"
head -c 2400000 big >part; "$eris" car --block-size 1k part 2>/dev/null >deep.car; python3 car.py deep.car >parts
all=$("$eris" blocks --block-size 1k part | wc -l)
check 'several levels of manifest' "1 $(((all + 173) / 174 + 1)) 0 $all" \
	"$(grep -c ^node parts) $(grep -c ^file parts) $(grep -c ^BAD parts) $(grep -c ^block parts)"
check 'all in its file' "read $all in order" "$(grep ^read parts)"
: >none; "$eris" car none 2>/dev/null >none.car; python3 car.py none.car >parts
check 'nothing has a block, too, which is the file' '1 0 1 read 1 in order' \
	"$(grep -c ^node parts) $(grep -c ^file parts) $(grep -c ^block parts) $(grep ^read parts)"

# --- Failures say which block, and why ---
fails() { # NAME STATUS PART COMMAND...
	name=$1 status=$2 part=$3; shift 3
	out=$("$@" 2>&1 >/dev/null); rc=$?
	check "$name: status" "$status" "$rc"
	has "$name: reason" "$part" "$out"
}
leaf=$(awk '$3 == 65536 { print $1 }' list)
root=$(awk '$2 == 1 { print $1 }' list)
mv "many/$leaf" kept
fails 'a missing leaf' 1 "block $leaf (level 0, content from byte 65536): it is missing" "$eris" decode --store many "$urn"
head -c 32767 kept >"many/$leaf"
fails 'a short leaf' 1 "block $leaf (level 0, content from byte 65536): it is too short" "$eris" decode --store many "$urn"
{ cat kept; echo; } >"many/$leaf"
fails 'a long leaf' 1 'it is too long' "$eris" decode --store many "$urn"
{ head -c 32767 kept; printf x; } >"many/$leaf"
fails 'a wrong leaf' 1 'its hash is another one' "$eris" decode --store many "$urn"
fails 'the same, at random' 1 "block $leaf" "$eris" decode --store many --offset 65536 "$urn"
"$eris" encode --store many big >/dev/null
cmp kept "many/$leaf"; check 'a damaged block is replaced' 0 $?
rm "many/$leaf"; ln -s ../kept "many/$leaf"
fails 'a link' 1 "block $leaf" "$eris" decode --store many "$urn"
rm "many/$leaf"; mv kept "many/$leaf"
mv "many/$root" kept
fails 'a missing root' 1 "block $root (level 1, content from byte 0): it is missing" "$eris" decode --store many "$urn"
mv kept "many/$root"
fails 'no such store' 1 nowhere "$eris" decode --store nowhere "$urn"
fails 'no such file' 1 nofile "$eris" encode nofile
fails 'an old URN' 1 'urn:erisx2 is an experimental' "$eris" decode --store many "urn:erisx2:${urn#urn:eris:}"
fails 'a cut URN' 1 'less than 106' "$eris" cid "${urn%?}"
fails 'no URN' 1 'no reference' "$eris" cid hello
fails 'no command' 2 Usage "$eris"
fails 'another command' 2 'no command' "$eris" fry
fails 'no store' 2 'needs --store' "$eris" decode "$urn"
fails 'a size that does not exist' 2 '1k or 32k' "$eris" encode --block-size 4k big
fails 'a short secret' 2 hexadecimal "$eris" encode --secret 00 big
fails 'two files' 2 'one argument' "$eris" encode big small
fails 'an option of another command' 2 'unknown option' "$eris" cid --store many "$urn"
fails 'a manifest for nowhere' 2 'needs --store' "$eris" encode --manifest big
fails 'a narinfo for nothing' 2 'needs --manifest' "$eris" encode --store many --narinfo info big
fails 'no narinfo' 1 'no narinfo' "$eris" car --narinfo small --output to.car big
fails 'a narinfo that is not there' 1 'nofile' "$eris" car --narinfo nofile --output to.car big
fails 'a CAR on a full disk' 1 'No space left' "$eris" car --output /dev/full big
fails 'a full disk' 1 'No space left' sh -c "exec '$eris' decode --store many '$urn' >/dev/full"

# --- Serve ---
fails 'an address for everybody' 1 'needs --allow-remote' "$eris" serve --store many --listen 0.0.0.0:0
fails 'the same, IPv6' 1 'needs --allow-remote' "$eris" serve --store many --listen '[::]:0'
fails 'a name' 1 'not looked up' "$eris" serve --store many --listen localhost:80
fails 'no port' 1 'not ADDR:PORT' "$eris" serve --store many --listen 127.0.0.1
mkdir -p many/nar/zstd many/dir; cp big many/nar/zstd/x-1; echo StorePath: x >many/abc.narinfo; echo secret >outside
ln -s ../outside many/link; ln -s nar many/narlink; echo hidden >many/.hidden; mkfifo many/pipe; : >many/empty
printf x >"many/$(printf '%052d' 0 | tr 0 A)"
export NODE="$node" FILE_NODE="$file_node"
"$eris" serve --store many --listen 127.0.0.1:0 >url 2>serve.err & server=$!
i=0; while [ ! -s url ] && [ $i -lt 100 ]; do sleep 0.05; i=$((i + 1)); done
cat >client.py <<'END'
import http.client, os, socket, sys, threading, urllib.parse
url, leaf, pid = sys.argv[1:]
u = urllib.parse.urlsplit(url)
block = open('many/' + leaf, 'rb').read()
big = open('big', 'rb').read()
def connect(): return http.client.HTTPConnection(u.hostname, u.port, timeout=20)
def check(name, good): print(('ok - ' if good else 'FAILED - ') + name)
c = connect()
def ask(path, method='GET', headers={}, body=None):
    c.request(method, path, body, headers)
    r = c.getresponse()
    return r.status, r.read(), r
n2r = '/uri-res/N2R?urn:blake2b:'
s, b, r = ask(n2r + leaf)
sock = c.sock
check('a block', s == 200 and b == block and r.headers['Content-Type'] == 'application/octet-stream'
      and r.headers['Content-Length'] == '32768' and 'immutable' in r.headers['Cache-Control'])
for what, ref in ('the root of a manifest', os.environ['NODE']), ('the node of its file', os.environ['FILE_NODE']):
    check(what, ask(n2r + ref)[:2] == (200, open('many/' + ref, 'rb').read()))
s, b, r = ask(n2r + leaf, 'HEAD')
check('HEAD of a block', s == 200 and b == b'' and r.headers['Content-Length'] == '32768')
s, b, r = ask(n2r + leaf, headers={'Range': 'bytes=100-199'})
check('a part of a block', s == 206 and b == block[100:200] and r.headers['Content-Range'] == 'bytes 100-199/32768')
check('a block that is not there', ask(n2r + 'B' * 51 + 'A')[0] == 404)
check('a damaged block is not sent', ask(n2r + 'A' * 52)[0] == 404)
check('no reference', ask(n2r)[0] == 400 and ask('/uri-res/N2R')[0] == 400 and ask(n2r + leaf + '&a=b')[0] == 400
      and ask('/uri-res/N2R?a=' + leaf)[0] == 400 and ask(n2r + leaf.lower())[0] == 400)
s, b, r = ask('/nar/zstd/x-1')
check('a nar', s == 200 and b == big and r.headers['Accept-Ranges'] == 'bytes')
tag = r.headers['ETag']
s, b, r = ask('/nar/zstd/x-1', headers={'Range': 'bytes=65536-98303'})
check('the range of a leaf', s == 206 and b == big[65536:98304] and r.headers['Content-Range'] == 'bytes 65536-98303/3000000')
s, b, r = ask('/nar/zstd/x-1', 'HEAD', {'Range': 'bytes=-7'})
check('HEAD of a range', s == 206 and b == b'' and r.headers['Content-Length'] == '7')
s, b, r = ask('/nar/zstd/x-1', headers={'Range': 'bytes=3000000-'})
check('a range behind the end', s == 416 and r.headers['Content-Range'] == 'bytes */3000000')
s, b, r = ask('/nar/zstd/x-1', headers={'Range': 'bytes=0-1,5-6'})
check('two ranges are one whole', s == 200 and b == big)
s, b, r = ask('/nar/zstd/x-1', headers={'Range': 'bytes=0-1', 'If-Range': tag})
check('If-Range, unchanged', s == 206)
s, b, r = ask('/nar/zstd/x-1', headers={'Range': 'bytes=0-1', 'If-Range': '"x"'})
check('If-Range, changed', s == 200 and len(b) == 3000000)
s, b, r = ask('/abc.narinfo')
check('a narinfo', s == 200 and b == b'StorePath: x\n' and r.headers['Content-Type'] == 'text/x-nix-narinfo')
check('an empty file', ask('/empty')[:2] == (200, b''))
check('percent signs', ask('/%61bc.narinfo')[0] == 200)
for p in ['/', '/dir', '/dir/', '/nar', '//abc.narinfo', '/../outside', '/%2e%2e/outside', '/nar/../abc.narinfo', '/link',
          '/narlink/zstd/x-1', '/.hidden', '/%2ehidden', '/pipe', '/abc.narinfo/x', '/abc.narinfo%00', '/%00', '/nothing',
          '/' + 'a' * 300, '/' + 'a/' * 600 + 'a', '/' + os.path.abspath('outside')]:
    check('not served: ' + p[:40], ask(p)[0] == 404)
for m in ['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'FOO']:
    s, b, r = ask('/abc.narinfo', m, body=b'x' * 1000)
    check('refused: ' + m, s == 405 and r.headers['Allow'] == 'GET, HEAD')
check('all that over one connection', c.sock is sock and sock is not None)
def raw(data, enough=b'\0\0', times=1, timeout=20):
    s = socket.create_connection((u.hostname, u.port), timeout=timeout)
    s.sendall(data)
    got = b''
    while got.count(enough) < times:
        d = s.recv(65536)
        if not d: break
        got += d
    return got
check('pipelining', raw(b'GET /abc.narinfo HTTP/1.1\r\nHost: x\r\n\r\n' * 20, b'StorePath: x\n', 20).count(b'200 OK') == 20)
for junk in [b'\0' * 1000, b'GET\r\n\r\n', b'GET / HTTP/9.9\r\n\r\n', b'A' * 100000, b'GET /x HTTP/1.1\r\n' + b'H: x\r\n' * 10000]:
    try: raw(junk, timeout=0.3)
    except OSError: pass
check('still there after junk', ask('/abc.narinfo')[0] == 200)
# Those who read nothing hold up nobody.
lazy = []
for i in range(50):
    s = socket.create_connection((u.hostname, u.port))
    s.sendall(b'GET /nar/zstd/x-1 HTTP/1.1\r\nHost: x\r\n\r\n')
    lazy.append(s)
good = []
def busy():
    k = connect()
    for i in range(40):
        k.request('GET', n2r + leaf)
        good.append(k.getresponse().read() == block)
threads = [threading.Thread(target=busy) for i in range(8)]
for t in threads: t.start()
for t in threads: t.join()
check('many at a time', len(good) == 320 and all(good))
for s in lazy: s.close()
status = dict(l.rstrip('\n').split(':\t', 1) for l in open('/proc/' + pid + '/status') if ':\t' in l)
if os.environ.get('NO_SECCOMP') is None:
    check('a filter', status['Seccomp'] == '2')
check('no new rights, no capabilities', status['NoNewPrivs'] == '1' and int(status['CapEff'], 16) == int(status['CapPrm'], 16) == 0)
check('one thread', status['Threads'] == '1')
check('little memory', int(status['RssAnon'].split()[0]) < 32768)
def link(f):  # it may be closed by now
    try:
        return os.readlink('/proc/%s/fd/%s' % (pid, f))
    except FileNotFoundError:
        return ''
fds = [link(f) for f in os.listdir('/proc/%s/fd' % pid)] if os.access('/proc/%s/fd' % pid, os.R_OK) else []
check('files are closed again', not [f for f in fds if 'x-1' in f])
END
kill -STOP "$server"; sleep 0.1; kill -CONT "$server" # an interrupted wait is no end
python3 client.py "$(cat url)" "$leaf" "$server" >client.out 2>&1 || { echo 'FAILED - the client'; failed=1; }
cat client.out
! grep -q '^FAILED' client.out || failed=1
kill -0 "$server" 2>/dev/null; check 'the server lives' 0 $?
has 'it tells of the damaged block' 'is damaged' "$(cat serve.err)"
kill "$server"; wait "$server" 2>/dev/null; server=
[ $failed = 0 ]
