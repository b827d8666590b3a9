/* SPDX-License-Identifier: GPL-3.0-or-later
 * Both sides: every limit of narlock, with its unit and its reason.  A limit that guards the boundary is
 * checked by the sender and by the receiver. */
#ifndef NARLOCK_LIMITS_H
#define NARLOCK_LIMITS_H

/* --- Frames between the processes (ipc/PROTOCOL.md) ------------------------------------------------ */

/* Largest frame in bytes, type word included.  Far below what a SOCK_SEQPACKET pair takes by default. */
#define LIMIT_FRAME 65536
/* Largest data field of one frame, e.g. a piece of a narinfo. */
#define LIMIT_BLOB 61440
/* A reason or note that a helper sends, in bytes. */
#define LIMIT_REASON 240
/* One packet on a helper's log channel; the rest of a longer one is dropped. */
#define LIMIT_LOG_LINE 400
/* Log lines shown per helper and per 10 seconds; the rest is counted and dropped. */
#define LIMIT_LOG_RATE 40

/* --- What comes from servers ----------------------------------------------------------------------- */

/* One narinfo.  A line of 10,000 references is half of it. */
#define LIMIT_NARINFO (1024 * 1024)
/* URL/Compression/FileSize groups in one narinfo; more are ignored. */
#define LIMIT_NARINFO_URLS 16
/* One line of a narinfo other than References, in bytes: a signature by a large RSA key still fits, so that it
 * is refused by name. */
#define LIMIT_NARINFO_LINE 8192
/* The host name in a signature: informational, never shown. */
#define LIMIT_SIGNATURE_HOST 255
/* Unsigned narinfos that wait for an authorised one, all paths together, in bytes. */
#define LIMIT_KEPT_NARINFOS (4 * 1024 * 1024)
/* References of one store item. */
#define LIMIT_REFERENCES 16384
/* A URL, user and password included. */
#define LIMIT_URL 2048
/* A host name (RFC 1035). */
#define LIMIT_HOST 255
/* Substitute servers in one list; guix-daemon has no limit, more are ignored with a message. */
#define LIMIT_SERVERS 64
/* Candidates (server x URL group) of one nar order. */
#define LIMIT_CANDIDATES 64
/* Lookups that the broker has under way at one time. */
#define LIMIT_LOOKUPS 256
/* The name of a compression method; longer ones are unknown to us anyway. */
#define LIMIT_COMPRESSION 16
/* Where bytes come from, for the progress line. */
#define LIMIT_SOURCE 64
/* Names that the fetcher may be waiting for at one time. */
#define LIMIT_RESOLVES 16
/* Addresses kept of one host. */
#define LIMIT_ADDRESSES 16
/* An ERIS read capability as a URN, and the CID of a manifest as text: both have one length only. */
#define LIMIT_URN 115
#define LIMIT_CID 62
/* Lines of narlock.conf that only the fetcher understands, their keys and their values. */
#define LIMIT_OPTIONS_PASSED 32
#define LIMIT_OPTION_KEY 32
#define LIMIT_OPTION_VALUE 1024
/* Lies of sources that one fetcher can have recorded. */
#define LIMIT_LIARS 64
/* Largest nar, in bytes: 1 TiB.  A NarSize above it is absurd. */
#define LIMIT_NAR_SIZE (1ULL << 40)

/* --- Store items ----------------------------------------------------------------------------------- */

/* A file name in a nar (NAME_MAX) and a symbolic link's target (PATH_MAX - 1). */
#define LIMIT_NAR_NAME 255
#define LIMIT_NAR_TARGET 4095
/* The path of an entry below the store item, all names and slashes: with the store directory and the
 * item's name it must stay below PATH_MAX, or nobody could open it. */
#define LIMIT_NAR_PATH 3700
/* A store item's base name: 32 hash characters, '-', and a name of at most 211 (guix: checkStoreName). */
#define LIMIT_STORE_NAME 244
/* The store directory, and any configured path. */
#define LIMIT_PATH 1024
/* A directory of sockets: an address of a socket has 108 bytes. */
#define LIMIT_SOCKET_DIR 92

/* --- The fetcher ----------------------------------------------------------------------------------- */

/* All header lines of one response, in bytes. */
#define LIMIT_HEADERS 65536
/* The same of one answer of a source of blocks, trailers included: hundreds of them come at a time. */
#define LIMIT_BLOCK_HEADERS 8192
/* Where blocks are the only way left: when no block has come for so long, in milliseconds, the nar fails; until then
 * sources that answer, if only that they did not find it in time, are asked again and again. */
#define LIMIT_INSIST_MS 60000
/* Redirects followed for one request. */
#define LIMIT_REDIRECTS 5
/* The file of CA certificates, in bytes; Debian's is 220 KiB. */
#define LIMIT_CA_FILE (2 * 1024 * 1024)
/* Names of hosts kept, and origins remembered as dead; when full, the oldest goes. */
#define LIMIT_HOSTS 256
/* Hosts to which a narinfo lookup may be redirected. */
#define LIMIT_TRUSTHOSTS 64
/* Records of the state file (32 bytes each), a power of two. */
#define LIMIT_STATE_RECORDS 16384
/* An absence is never remembered longer than this, whatever the server says, in seconds. */
#define LIMIT_ABSENT_TTL 86400
/* Longest wait that a Retry-After header can cause, in seconds. */
#define LIMIT_RETRY_AFTER 60
/* Body of a response that nobody reads (404, redirects), in bytes; a longer one costs the connection. */
#define LIMIT_IGNORED_BODY 65536
/* Frames not yet taken by the broker, in bytes: above it the fetcher starts nothing new. */
#define LIMIT_OUT_QUEUE (256 * 1024)

/* --- The daemon, configuration, ACL ---------------------------------------------------------------- */

/* One command line of guix-daemon, in bytes: a `have' or `info' of 100,000 paths is about 9 MB. */
#define LIMIT_COMMAND (64u * 1024 * 1024)
/* _NIX_OPTIONS, narlock.conf, /etc/guix/acl, a key file: bytes. */
#define LIMIT_OPTIONS 65536
#define LIMIT_CONF 65536
#define LIMIT_ACL (1024 * 1024)
/* One record of the audit log, in bytes. */
#define LIMIT_AUDIT_LINE 8192
/* Records of refused narinfos in one command: any user can name servers, and the log has no bound. */
#define LIMIT_AUDIT_REFUSED 64
/* A file of /proc/PID: status, uid_map, mountinfo. */
#define LIMIT_PROC_FILE 65536
/* Keys in an ACL. */
#define LIMIT_ACL_KEYS 4096

/* --- The broker's own files ------------------------------------------------------------------------ */

/* Longest life of a cached narinfo, whatever the server says, in seconds: 90 days. */
#define LIMIT_CACHE_TTL (90 * 86400)
/* One run of the cache's cleaning: entries looked at, and entries removed. */
#define LIMIT_CACHE_LOOK 100000
#define LIMIT_CACHE_UNLINK 2000
/* Records of one daemon connection (paths that `info' advertised). */
#define LIMIT_RECORDS 200000
/* Directories of records looked at, and stale ones removed, at one start. */
#define LIMIT_RECORD_LOOK 4096
#define LIMIT_RECORD_CLEAN 4

#endif
