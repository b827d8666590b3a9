// SPDX-License-Identifier: GPL-3.0-or-later
// Tests: a js-ipfs daemon with nothing but its RPC API and bitswap, both on loopback: no bootstrap, no discovery, no
// gateway.   node jsipfs.mjs NODE_MODULES REPO API_PORT SWARM_PORT [HOST]
// (HOST: another address than that of loopback, for a network namespace of its own.)
// Prints "READY <its address>".  Three things that the packages need are done here: a function that Node before 22
// does not have, the hash of ERIS references, and a configuration that keeps it from looking for the world.
import { pathToFileURL } from 'node:url'

Promise.withResolvers ??= function () {
  const parts = {}
  parts.promise = new this((yes, no) => Object.assign(parts, { resolve: yes, reject: no }))
  return parts
}
const [modules, repo, apiPort, swarmPort, host = '127.0.0.1'] = process.argv.slice(2)
const load = name => import(new URL(name, pathToFileURL(modules + '/')))
const core = await load('ipfs-core/src/index.js')
const server = await load('ipfs-http-server/src/index.js')
const blake = await load('@multiformats/blake2/blake2b.js')

const at = port => `/ip4/${host}/tcp/${port}`
const node = await core.create({
  repo,
  silent: true,
  preload: { enabled: false },
  ipld: { hashers: [blake.blake2b256] },
  init: { emptyRepo: true, algorithm: 'Ed25519' },
  config: {
    Addresses: { API: at(apiPort), Swarm: [at(swarmPort)], Gateway: '', RPC: '', Delegates: [], Announce: [], NoAnnounce: [] },
    Bootstrap: [],
    Discovery: { MDNS: { Enabled: false }, webRTCStar: { Enabled: false } },
    Routing: { Type: 'none' },
    Pubsub: { Enabled: false },
    Swarm: { DisableNatPortMap: true }
  }
})
const api = new server.HttpApi(node)
await api.start()
const { addresses } = await node.id()
console.log(`READY ${addresses[0]}`)

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(0))
