# SPDX-License-Identifier: GPL-3.0-or-later
# narlock: one Makefile for everything.  What is made goes to build/, nothing else is touched.
#
#   make            everything that is installed
#   make check      all tests that need no network beyond the package mirror (installs missing packages)
#   make demo       a real substitute on loopback, and what is refused (installs missing packages)
#   make install PREFIX=/usr DESTDIR=
#   make deps       the Debian packages that building and testing need
#   make deb        build/deb/*.deb; make check-deb installs, upgrades and removes them in a root of their own
#   make check-e2e, make bench      with a real guix in directories; see README.md
#   make check-systemd              a real systemd in a container (installs debootstrap and systemd-container)
#   make unit, asan, hostile, fuzz  parts of `make check'

VERSION := 0.1
PREFIX ?= /usr/local
SYSCONFDIR ?= $(if $(filter /usr /usr/local,$(PREFIX)),/etc,$(PREFIX)/etc)
BINDIR ?= $(PREFIX)/bin
LIBEXECDIR ?= $(PREFIX)/libexec/narlock
DATADIR ?= $(PREFIX)/share
HELPER_USER ?= narlock
# Whom the sockets of policy/systemd let in: the user of a guix-daemon that is not root.
DAEMON_USER ?= guix-daemon
CREATE_USER ?= yes
NARLOCK_SHARED ?= $(realpath $(CURDIR)/../shared)
export NARLOCK_SHARED

B := build
# V=1 shows the commands.
Q := $(if $(V),,@)
say = $(if $(V),,@echo '  $(1) $@')
ifeq ($(origin CC),default)
CC := gcc
endif
CLANG ?= clang
# The processor that is built for.  For another one than this machine's: make CC=aarch64-linux-gnu-gcc EMULATOR='qemu-aarch64 -L /'
TARGET_CPU := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))
EMULATOR ?=

WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror
COMMON := -std=gnu11 -D_GNU_SOURCE $(WARNINGS) -I. -I$(B)/gen
HARDEN := -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fstack-clash-protection -fPIE \
	$(if $(filter x86_64,$(TARGET_CPU)),-fcf-protection) $(if $(filter aarch64,$(TARGET_CPU)),-mbranch-protection=standard)
CFLAGS ?= -O2 -g
LDFLAGS ?=
LINK := -pie -Wl,-z,relro,-z,now,-z,noexecstack,--as-needed
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -O1 -g -DNARLOCK_NO_SECCOMP \
	-DNARLOCK_TEST_HOOKS
PATHS := -DNARLOCK_HELPER_USER='"$(HELPER_USER)"' -DNARLOCK_LIBEXECDIR='"$(LIBEXECDIR)"' -DNARLOCK_SYSCONFDIR='"$(SYSCONFDIR)"' -DNARLOCK_VERSION='"$(VERSION)"'

# --- What belongs to what -----------------------------------------------------------------------------------

POLICIES := broker fetch unpack resolve eris
PUBLISH_POLICIES := publish publish_index publish_net
BPF := $(POLICIES:%=$(B)/gen/%.bpf.c)
TRAP := $(POLICIES:%=$(B)/gen/%.trap.c)
TEXT := $(POLICIES:%=$(B)/gen/%.text.c) $(PUBLISH_POLICIES:%=$(B)/gen/%.text.c)

IPC := $(wildcard ipc/*.c) policy/policy.c policy/landlock.c
BROKER := $(filter-out broker/main.c,$(wildcard broker/*.c))
COMMON_HELPER := $(wildcard helper/common/*.c)
FETCH := $(filter-out %/main.c,$(wildcard helper/fetch/*.c))
UNPACK := $(filter-out %/main.c,$(wildcard helper/unpack/*.c))
RESOLVE := $(filter-out %/main.c,$(wildcard helper/resolve/*.c))
# The codec alone needs libsodium only; the rest of narlock-eris needs libmicrohttpd, too.
ERIS_CODEC := $(patsubst %,helper/eris/%.c,access base32 blake2b4 block decode encode pool urn)
ERIS := $(filter-out %/main.c,$(wildcard helper/eris/*.c))
IPFS := $(wildcard helper/ipfs/*.c)
PUBLISH := $(filter-out %/main.c,$(wildcard helper/publish/*.c)) helper/common/limit.c helper/eris/address.c helper/eris/part.c helper/eris/request.c helper/eris/store.c $(ERIS_CODEC) $(IPFS)
# Small parts of the broker that the command line uses, too: its configuration, its way to give up rights.
CLI := $(filter-out %/main.c,$(wildcard helper/cli/*.c)) broker/conf.c broker/crypto.c broker/drop.c broker/file.c \
	broker/storepath.c broker/nixbase32.c

# Sources (main file first), generated sources and libraries of each program.
PROGRAMS := broker guix fetch unpack resolve narlock narlock-eris narlock-heal narlock-publish
TRACED := fetch unpack resolve
SRC_broker := broker/main.c $(BROKER) $(IPC) $(B)/gen/broker.bpf.c
LIB_broker := -lgcrypt -lcap -pthread
SRC_guix := $(addprefix helper/guix/,main.c sha256.c) $(patsubst %,broker/%.c,audit conf file log) ipc/err.c ipc/text.c
LIB_guix :=
SRC_fetch := helper/fetch/main.c $(FETCH) $(IPFS) $(ERIS_CODEC) $(COMMON_HELPER) $(IPC) $(B)/gen/fetch.bpf.c
LIB_fetch := -lcurl -lcrypto -lssl -lsodium
# It has the fetcher's sources and its policy, but prints lines where the fetcher sends packets.
HEAL := $(filter-out %/main.c,$(wildcard helper/heal/*.c)) $(FETCH) $(IPFS) $(ERIS_CODEC) helper/common/limit.c helper/common/seal.c $(IPC) broker/conf.c \
	broker/drop.c broker/file.c $(B)/gen/fetch.bpf.c
SRC_narlock-heal := helper/heal/main.c $(HEAL)
UNITS := narlock-fetch.socket narlock-fetch@.service narlock-resolve.socket narlock-resolve@.service
PUBLISH_FILES := $(B)/share/narlock-publish.8 $(B)/share/narlock-publish.conf $(B)/share/systemd/narlock-publish.service
HEAL_FILES := $(B)/share/narlock-heal.8 $(B)/share/systemd/narlock-heal.service
LIB_narlock-heal := -lcurl -lcrypto -lssl -lsodium -lcap
SRC_unpack := helper/unpack/main.c $(UNPACK) $(COMMON_HELPER) $(IPC) $(B)/gen/unpack.bpf.c
LIB_unpack := -lzstd -llz -lz
SRC_resolve := helper/resolve/main.c $(RESOLVE) $(COMMON_HELPER) $(IPC) $(B)/gen/resolve.bpf.c
LIB_resolve :=
SRC_narlock := helper/cli/main.c $(CLI) $(COMMON_HELPER) $(IPC) $(BPF) $(TEXT) $(B)/gen/facts.c
LIB_narlock := -lcap -lgcrypt
SRC_narlock-eris := helper/eris/main.c $(ERIS) $(IPFS) $(COMMON_HELPER) $(IPC) $(B)/gen/eris.bpf.c
LIB_narlock-eris := -lsodium -lmicrohttpd -pthread
SRC_narlock-publish := helper/publish/main.c $(PUBLISH) $(IPC) $(PUBLISH_POLICIES:%=$(B)/gen/%.bpf.c)
LIB_narlock-publish := -lsodium -lmicrohttpd -lsqlite3 -lcurl -pthread

# What `narlock policy' says of each process, from its program and its sources.
FACTS := broker spawner fetch resolve unpack eris publish publish_net publish_index
PROGRAM_broker := broker
PROGRAM_spawner := broker
PROGRAM_eris := narlock-eris
PROGRAM_publish := narlock-publish
PROGRAM_publish_net := narlock-publish
PROGRAM_publish_index := narlock-publish
SRC_spawner := broker/spawner.c broker/drop.c

obj = $(patsubst %.c,$(1)/%.o,$(patsubst $(B)/%,%,$(2)))

all: $(PROGRAMS:%=$(B)/bin/%) $(TRACED:%=$(B)/bin/trace/%) $(B)/share/narlock.8 $(B)/share/narlock.conf.5 \
	$(B)/share/narlock-eris.1 $(HEAL_FILES) $(PUBLISH_FILES)

.PHONY: all install uninstall deps deps-e2e check unit asan hostile fuzz demo check-e2e check-systemd bench clean FORCE
.DELETE_ON_ERROR:
.SECONDARY:
MAKEFLAGS += --no-builtin-rules

# --- Policies -------------------------------------------------------------------------------------------------

# Built for the target, and run there or in an emulator: numbers of calls and values of flags are not the same everywhere.
$(B)/mkpolicy: policy/mkpolicy.c policy/constants.h
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(COMMON) -O1 -g -o $@ $< -lseccomp

$(B)/gen/%.bpf.c $(B)/gen/%.trap.c $(B)/gen/%.text.c: policy/%.policy $(B)/mkpolicy
	@mkdir -p $(@D)
	$(call say,POLICY)
	$(Q)$(EMULATOR) $(B)/mkpolicy $< $(B)/gen/$*

define facts_of # process, program, sources
$(B)/gen/$(1).facts: policy/mkfacts policy/processes $(B)/bin/$(2)
	@mkdir -p $$(@D)
	$(Q)policy/mkfacts $(1) $(B)/bin/$(2) $(filter-out $(B)/%,$(3)) >$$@
endef
$(foreach f,$(FACTS),$(eval $(call facts_of,$(f),$(or $(PROGRAM_$(f)),$(f)),$(or $(SRC_$(f)),$(SRC_$(PROGRAM_$(f)))))))
$(B)/gen/facts.c: $(FACTS:%=$(B)/gen/%.facts)
	$(Q)policy/mkfacts --c $^ >$@

# --- Objects and programs ---------------------------------------------------------------------------------------

# The paths are compiled in: objects that hold them follow when PREFIX changes.
$(B)/paths: FORCE
	@mkdir -p $(@D); echo '$(PATHS) $(CC) $(CFLAGS)' | cmp -s - $@ || echo '$(PATHS) $(CC) $(CFLAGS)' >$@

define compile # directory of objects, compiler, flags
$(1)/%.o: %.c $(B)/paths
	@mkdir -p $$(@D)
	$$(call say,CC)
	$$(Q)$(2) $(COMMON) $(PATHS) $(3) -MMD -MP -c -o $$@ $$<
$(1)/gen/%.o: $(B)/gen/%.c $(B)/paths
	@mkdir -p $$(@D)
	$$(call say,CC)
	$$(Q)$(2) $(COMMON) $(3) -MMD -MP -c -o $$@ $$<
endef
$(eval $(call compile,$(B)/obj,$(CC),$(CFLAGS) $(HARDEN)))
$(eval $(call compile,$(B)/trap,$(CC),$(CFLAGS) $(HARDEN) -DNARLOCK_TRAP))
$(eval $(call compile,$(B)/asan,$(CC),$(SANITIZE)))
$(eval $(call compile,$(B)/fuzz,$(CLANG),$(SANITIZE) -fsanitize=fuzzer-no-link))

define program
$(B)/bin/$(1): $(call obj,$(B)/obj,$(SRC_$(1)))
	@mkdir -p $$(@D)
	$$(call say,LINK)
	$$(Q)$(CC) $(CFLAGS) $(LINK) $(LDFLAGS) -o $$@ $$^ $(LIB_$(1))
endef
$(foreach p,$(PROGRAMS),$(eval $(call program,$(p))))

# The same helpers with policies that report instead of kill, for `narlock doctor --trace'.
define traced_program
$(B)/bin/trace/$(1): $(call obj,$(B)/trap,$(SRC_$(1):$(B)/gen/%.bpf.c=$(B)/gen/%.trap.c))
	@mkdir -p $$(@D)
	$$(call say,LINK)
	$$(Q)$(CC) $(CFLAGS) $(LINK) $(LDFLAGS) -o $$@ $$^ $(LIB_$(1))
endef
$(foreach p,$(TRACED),$(eval $(call traced_program,$(p))))

$(B)/share/%: policy/man/%.in $(B)/paths
	@mkdir -p $(@D)
	$(Q)sed $(SUBSTITUTE) $< >$@
$(B)/share/%: policy/%.in $(B)/paths
	@mkdir -p $(@D)
	$(Q)sed $(SUBSTITUTE) $< >$@
SUBSTITUTE := -e 's|@LIBEXECDIR@|$(LIBEXECDIR)|g' -e 's|@SYSCONFDIR@|$(SYSCONFDIR)|g' -e 's|@BINDIR@|$(BINDIR)|g' \
	-e 's|@HELPER_USER@|$(HELPER_USER)|g' -e 's|@DATADIR@|$(DATADIR)|g' -e 's|@DAEMON_USER@|$(DAEMON_USER)|g'

# --- Tests --------------------------------------------------------------------------------------------------------

# tests/unit/SIDE_topic.c is linked with what belongs to its side.
TEST_ipc := $(IPC)
TEST_broker := $(BROKER) $(IPC) $(B)/gen/broker.bpf.c
TEST_policy := $(COMMON_HELPER) $(IPC) $(BPF) $(TRAP) $(TEXT)
TEST_fetch := $(FETCH) $(IPFS) $(ERIS_CODEC) $(COMMON_HELPER) $(IPC) $(B)/gen/fetch.bpf.c
TEST_heal := $(HEAL)
TEST_unpack := $(UNPACK) $(COMMON_HELPER) $(IPC) $(B)/gen/unpack.bpf.c
TEST_resolve := $(RESOLVE) $(COMMON_HELPER) $(IPC) $(B)/gen/resolve.bpf.c
TEST_eris := $(ERIS) $(IPFS) $(COMMON_HELPER) $(IPC) $(B)/gen/eris.bpf.c
TEST_ipfs := $(TEST_eris)
TEST_cli := $(CLI) $(COMMON_HELPER) $(IPC) $(BPF) $(TEXT) $(B)/gen/facts.c
TEST_publish := $(PUBLISH) $(IPC) $(PUBLISH_POLICIES:%=$(B)/gen/%.bpf.c)
TEST_LIBS := -lcmocka -lgcrypt -lcap -lseccomp -lcurl -lcrypto -lssl -lzstd -llz -lz -lsodium -lmicrohttpd -lsqlite3 -pthread

UNIT := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/*.c))
UNIT_SCRIPTS := $(wildcard tests/unit/*.sh)
side = $(firstword $(subst _, ,$(1)))

define unit_test # name, directory, flags
$(2)/tests/$(1): $(call obj,$(2),tests/unit/$(1).c $(TEST_$(call side,$(1))))
	@mkdir -p $$(@D)
	$$(call say,LINK)
	$$(Q)$(CC) $(3) -Wl,--as-needed -o $$@ $$^ $(TEST_LIBS)
endef
$(foreach t,$(UNIT),$(eval $(call unit_test,$(t),$(B)/obj,-pie)))
$(foreach t,$(UNIT),$(eval $(call unit_test,$(t),$(B)/asan,$(SANITIZE))))

unit: $(UNIT:%=$(B)/obj/tests/%) $(B)/mkpolicy $(B)/bin/narlock $(B)/bin/narlock-eris $(B)/bin/narlock-publish $(B)/bin/narlock-heal \
		$(UNITS:%=$(B)/share/systemd/%) $(B)/share/systemd/narlock-heal.service
	tests/run-units '$(B)/obj/tests' $(UNIT_SCRIPTS)
asan: $(UNIT:%=$(B)/asan/tests/%) $(B)/mkpolicy
	tests/run-units '$(B)/asan/tests'
# --- Hostile ---
# A broker whose helpers can be replaced: the place of its helpers is overwritten in a copy of it by the tests.
HOSTILE_PLACE := $(shell printf '/%0250d' 0)
$(B)/hostile/main.o: broker/main.c $(B)/paths
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(COMMON) $(filter-out -DNARLOCK_LIBEXECDIR=%,$(PATHS)) -DNARLOCK_LIBEXECDIR='"$(HOSTILE_PLACE)"' \
		$(CFLAGS) $(HARDEN) -MMD -MP -c -o $@ $<
$(B)/hostile/bin/broker: $(B)/hostile/main.o $(call obj,$(B)/obj,$(BROKER) $(IPC) $(B)/gen/broker.bpf.c)
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(CC) $(CFLAGS) $(LINK) $(LDFLAGS) -o $@ $^ $(LIB_broker)
$(B)/hostile/bin/liar: $(call obj,$(B)/obj,tests/hostile/liar.c $(COMMON_HELPER) $(IPC) \
		$(foreach p,fetch unpack resolve,$(B)/gen/$(p).bpf.c))
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(CC) $(CFLAGS) $(LINK) $(LDFLAGS) -o $@ $^ -pthread
$(B)/hostile/bin/simulate: $(B)/obj/tests/hostile/simulate.o
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LINK) $(LDFLAGS) -o $@ $^
$(B)/hostile/bin/sign: tests/demo/sign.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(COMMON) $(CFLAGS) -o $@ $< -lgcrypt

hostile: all $(foreach p,broker liar simulate sign,$(B)/hostile/bin/$(p))
	tests/run-hostile

FUZZ := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/*.c))
FUZZ_LIBS := -lgcrypt -lcap -lcurl -lcrypto -lssl -lzstd -llz -lz -lsodium -lmicrohttpd -pthread
# A fuzzer is linked with archives, so that it takes what it needs from any side.
$(B)/fuzz/lib.a: $(sort $(call obj,$(B)/fuzz,$(IPC) $(BROKER) $(COMMON_HELPER) $(UNPACK) $(ERIS) $(IPFS) helper/fetch/url.c helper/fetch/answer.c helper/publish/info.c \
		helper/cli/auditline.c helper/cli/auditchain.c helper/fetch/indextext.c helper/fetch/rank.c helper/fetch/journal.c helper/fetch/siphash.c \
		$(BPF)))
	$(Q)rm -f $@; ar rcs $@ $^
$(B)/fuzz/bin/%: $(B)/fuzz/tests/fuzz/%.o $(B)/fuzz/lib.a
	@mkdir -p $(@D)
	$(call say,LINK)
	$(Q)$(CLANG) $(SANITIZE) -fsanitize=fuzzer -o $@ $^ $(FUZZ_LIBS)
FUZZ_SECONDS ?= 20
fuzz: $(FUZZ:%=$(B)/fuzz/bin/%)
	tests/run-fuzz '$(B)/fuzz' $(FUZZ_SECONDS) $(FUZZ)

check:
	$(MAKE) deps
	rm -f $(B)/results
	$(MAKE) all unit asan hostile fuzz
	tests/summary

demo:
	$(MAKE) deps
	tests/demo/run

check-e2e:
	$(MAKE) deps
	tests/e2e/run
# A real systemd in a container, and narlock installed in it.
check-systemd:
	$(MAKE) deps
	tests/systemd/run
bench:
	$(MAKE) deps
	tests/bench/run

# What the bench measures with: the ERIS codec, a client of each kind for blocks, a link with delay.
BENCH_codec := tests/bench/codec.c $(ERIS_CODEC) ipc/err.c ipc/text.c
BENCH_getblocks := tests/bench/getblocks.c $(ERIS_CODEC) ipc/err.c ipc/text.c
BENCH_delay := tests/bench/delay.c
BENCH_index := tests/bench/index.c $(wildcard helper/publish/catalog*.c) helper/publish/keys.c helper/eris/urn.c helper/eris/base32.c ipc/err.c ipc/text.c
BENCH_FLAGS_codec := -Wl,--wrap=blake2b4
BENCH_TOOLS := codec getblocks delay index
.PHONY: bench-tools
bench-tools: $(BENCH_TOOLS:%=$(B)/bench/%)
define bench_tool
$(B)/bench/$(1): $(call obj,$(B)/obj,$(BENCH_$(1)))
	@mkdir -p $$(@D)
	$$(call say,LINK)
	$$(Q)$(CC) $(CFLAGS) $(LINK) $(LDFLAGS) -Wl,--as-needed $(BENCH_FLAGS_$(1)) -o $$@ $$^ -lcurl -lsodium -lsqlite3 -pthread
endef
$(foreach t,$(BENCH_TOOLS),$(eval $(call bench_tool,$(t))))

# --- Debian packages --------------------------------------------------------------------------------------------------

# What the tests serve and build with is among them: `make deps' leaves nothing to be installed by hand.
DEPS := gcc clang make pkg-config libc6-dev libclang-rt-14-dev libgcrypt20-dev libcap-dev libseccomp-dev \
	libcurl4-openssl-dev libssl-dev libsodium-dev libmicrohttpd-dev libsqlite3-dev libzstd-dev liblz-dev zlib1g-dev libcmocka-dev python3 procps \
	zstd lzip openssl ca-certificates util-linux iproute2 apparmor
deps:
	@missing=$$(for p in $(DEPS); do dpkg-query -Wf '$${db:Status-Status}\n' $$p 2>/dev/null | grep -qx installed || \
		echo $$p; done); \
	[ -z "$$missing" ] || { as=; [ "$$(id -u)" = 0 ] || as=sudo; $$as apt-get -q update && \
		$$as env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends $$missing; }

# Building them needs debhelper, too; `dpkg-buildpackage -b' in a checkout does the same.  What is made is in build/deb.
DEB_DEPS := debhelper dpkg-dev gcc make pkg-config $(filter lib%-dev zlib1g-dev,$(DEPS))
.PHONY: deb check-deb
deb:
	$(MAKE) deps DEPS='$(DEB_DEPS)'
	policy/debian/make-packages $(B)/deb
check-deb: deb
	$(MAKE) deps DEPS='debootstrap lintian systemd-container'
	tests/deb/run $(B)/deb

# --- Installation -------------------------------------------------------------------------------------------------------

# Examples: which profiles are in force on a machine is for its admin to say.
APPARMOR := $(B)/share/apparmor/narlock $(B)/share/apparmor/guix-daemon policy/apparmor/unit.conf

install: all $(APPARMOR) $(B)/share/systemd/narlock-audit.service $(B)/share/narlock.conf $(B)/share/systemd/guix-daemon.service.d/narlock.conf $(UNITS:%=$(B)/share/systemd/%)
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(LIBEXECDIR)/trace $(DESTDIR)$(SYSCONFDIR)/narlock \
		$(DESTDIR)$(DATADIR)/man/man8 $(DESTDIR)$(DATADIR)/man/man5 $(DESTDIR)$(DATADIR)/man/man1 \
		$(DESTDIR)$(DATADIR)/narlock/policy $(DESTDIR)$(DATADIR)/narlock/apparmor $(DESTDIR)$(PREFIX)/lib/systemd/system \
		$(DESTDIR)$(DATADIR)/narlock/guix-daemon.service.d $(DESTDIR)$(PREFIX)/lib/sysusers.d \
		$(DESTDIR)$(PREFIX)/lib/tmpfiles.d
	install -m 755 $(B)/bin/narlock $(B)/bin/narlock-eris $(B)/bin/narlock-publish $(B)/bin/narlock-heal $(DESTDIR)$(BINDIR)/
	install -m 755 $(B)/bin/broker $(B)/bin/guix $(B)/bin/fetch $(B)/bin/unpack $(B)/bin/resolve $(DESTDIR)$(LIBEXECDIR)/
	install -m 755 $(TRACED:%=$(B)/bin/trace/%) $(DESTDIR)$(LIBEXECDIR)/trace/
	install -m 644 $(B)/share/narlock.8 $(B)/share/narlock-heal.8 $(B)/share/narlock-publish.8 $(DESTDIR)$(DATADIR)/man/man8/
	install -m 644 $(B)/share/narlock-eris.1 $(DESTDIR)$(DATADIR)/man/man1/
	install -m 644 $(B)/share/narlock.conf.5 $(DESTDIR)$(DATADIR)/man/man5/
	install -m 644 $(POLICIES:%=policy/%.policy) $(PUBLISH_POLICIES:%=policy/%.policy) $(DESTDIR)$(DATADIR)/narlock/policy/
	install -m 644 $(B)/share/systemd/guix-daemon.service.d/narlock.conf \
		$(DESTDIR)$(DATADIR)/narlock/guix-daemon.service.d/
	install -m 644 $(B)/share/systemd/narlock-publish.service policy/systemd/narlock-publish.socket $(B)/share/systemd/narlock-heal.service policy/systemd/narlock-heal.timer \
		$(UNITS:%=$(B)/share/systemd/%) $(DESTDIR)$(PREFIX)/lib/systemd/system/
	install -m 644 $(APPARMOR) $(DESTDIR)$(DATADIR)/narlock/apparmor/
	install -m 644 policy/sysusers.d/narlock.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/
	install -m 644 policy/tmpfiles.d/narlock.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/
	install -m 644 $(B)/share/systemd/narlock-audit.service policy/systemd/narlock-audit.timer $(DESTDIR)$(PREFIX)/lib/systemd/system/
	install -D -m 644 policy/logrotate.d/narlock $(DESTDIR)$(SYSCONFDIR)/logrotate.d/narlock
	[ -e $(DESTDIR)$(SYSCONFDIR)/narlock/narlock-publish.conf ] || \
		install -m 644 $(B)/share/narlock-publish.conf $(DESTDIR)$(SYSCONFDIR)/narlock/narlock-publish.conf
	[ -e $(DESTDIR)$(SYSCONFDIR)/narlock/narlock.conf ] || \
		install -m 644 $(B)/share/narlock.conf $(DESTDIR)$(SYSCONFDIR)/narlock/narlock.conf
	[ -n "$(DESTDIR)" ] || [ "$(CREATE_USER)" != yes ] || [ "$$(id -u)" != 0 ] || getent passwd $(HELPER_USER) >/dev/null || \
		useradd --system --user-group --home-dir /nonexistent --shell /usr/sbin/nologin $(HELPER_USER)

uninstall:
	rm -rf $(DESTDIR)$(LIBEXECDIR) $(DESTDIR)$(DATADIR)/narlock
	rm -f $(DESTDIR)$(BINDIR)/narlock $(DESTDIR)$(BINDIR)/narlock-eris $(DESTDIR)$(BINDIR)/narlock-publish \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/narlock-publish.service $(DESTDIR)$(PREFIX)/lib/systemd/system/narlock-publish.socket \
		$(DESTDIR)$(DATADIR)/man/man8/narlock-publish.8 \
		$(DESTDIR)$(BINDIR)/narlock-heal $(DESTDIR)$(DATADIR)/man/man8/narlock.8 $(DESTDIR)$(DATADIR)/man/man8/narlock-heal.8 \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/narlock-heal.service $(DESTDIR)$(PREFIX)/lib/systemd/system/narlock-heal.timer \
		$(DESTDIR)$(DATADIR)/man/man1/narlock-eris.1 \
		$(DESTDIR)$(DATADIR)/man/man5/narlock.conf.5 $(DESTDIR)$(PREFIX)/lib/sysusers.d/narlock.conf \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/narlock-audit.service $(DESTDIR)$(PREFIX)/lib/systemd/system/narlock-audit.timer \
		$(DESTDIR)$(SYSCONFDIR)/logrotate.d/narlock \
		$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/narlock.conf $(UNITS:%=$(DESTDIR)$(PREFIX)/lib/systemd/system/%)

clean:
	rm -rf $(B)

-include $(shell find $(B) -type f -name '*.d' 2>/dev/null)
