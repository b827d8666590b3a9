# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests (blocks.py): what narlock.conf says, and may not say: sources, words for authorization, bad lines."""
import os, socket
from block_servers import BlockServer, Gateway, Rpc
from blocks_kit import case, opts, same, Skip, SMALL


@case
def bad_options(lab):
    """A bad line costs that line, with a message."""
    rpc = lab.add(Rpc(SMALL.blocks))
    bad = [("ipfs", "junk"), ("ipfs", "ftp://x/"), ("ipfs-gateway", "http://u:p@127.0.0.1/"), ("ipfs-gateway", ""), ("block-server", "x" * 1024),
           ("block-timeout", "0"), ("block-timeout", "5s"), ("seed", "some"), ("nonsense", "1"), ("publish-again", "maybe")]
    h = lab.fetch([lab.plain(SMALL)], bad + opts(rpc))
    same(h.nar2([lab.cand(SMALL)], len(SMALL.content)), SMALL, missed=0)
    assert len(h.log) >= len(bad), (len(h.log), h.log)


@case
def options_after_work_are_fatal(lab):
    h = lab.fetch([lab.plain(SMALL)])
    h.nar2([lab.cand(SMALL)], len(SMALL.content))
    h.option("seed", "none")
    assert h.wait() == 1 and h.log
    h.ended = 1


@case
def unix_socket_without_leave(lab):
    """The spawner did not say that narlock.conf names one: it is not contacted, and nobody dies."""
    rpc = lab.add(Rpc(SMALL.blocks, path=os.path.join(lab.dir, "api")))
    h = lab.fetch([lab.plain(SMALL)], [("ipfs", "unix:" + os.path.join(lab.dir, "api"))], env={})
    same(h.nar2([lab.cand(SMALL)], len(SMALL.content)), SMALL)
    assert not rpc.requests


@case
def authorization(lab):
    for word in ("Bearer s3cret.token", "Basic dXNlcjpodW50ZXIy"):
        rpc = lab.add(Rpc(SMALL.without(SMALL.leaves[4:8]), authorization=word))
        gw, bs, nar = lab.add(Gateway({})), lab.add(BlockServer(SMALL.blocks)), lab.plain(SMALL)
        h = lab.fetch([nar], [("ipfs", rpc.url + " " + word)] + opts(gw, bs))
        same(h.nar2([lab.cand(SMALL)], len(SMALL.content)), SMALL, repaired=4)
        for sv in (gw, bs, nar):
            assert not any("authorization" in r.headers for r in sv.requests)
        assert not any("s3cret" in line or "dXNl" in line for line in h.log), h.log


@case
def authorization_is_refused(lab):
    """A 403 for everything: no source, no liar, the nar arrives; and few questions are asked in vain."""
    rpc = lab.add(Rpc(SMALL.blocks, authorization="Bearer other"))
    h = lab.fetch([lab.plain(SMALL)], opts(rpc))
    run = h.nar2([lab.cand(SMALL)], len(SMALL.content))
    same(run, SMALL)
    assert not run.liars and len(rpc.requests) <= 20, len(rpc.requests)
    rpc.violations.clear()


@case
def default_daemon_is_not_there(lab):
    s = socket.socket()
    if s.connect_ex(("127.0.0.1", 5001)) == 0:
        raise Skip("somebody listens on port 5001")
    nar = lab.plain(SMALL)
    h = lab.fetch([nar], nothing=False)
    run = h.nar2([lab.cand(SMALL)], len(SMALL.content))
    same(run, SMALL)
    assert run.seconds < 1, run.seconds
