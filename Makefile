# SPDX-License-Identifier: BSD-3-Clause
# pinfs: `make help` lists the targets. Everything is built into $(B)/; V=1 shows the commands.

CC ?= cc
B := build
PREFIX ?= /usr/local
DESTDIR ?=
V ?= 0
ifeq ($(V),0)
Q := @
say = @printf '  %-8s%s\n' $(1) $(2)
else
Q :=
say = @:
endif
MAKEFLAGS += --no-print-directory

OPT ?= -O2 -g
SAN ?=
WARN := -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wstrict-prototypes -Wmissing-prototypes \
	-Wcast-qual -Wcast-align -Wwrite-strings -Wundef -Wvla -Wformat=2 -Wswitch-enum -Wpointer-arith \
	-Wimplicit-fallthrough
BASE_CFLAGS := -std=c11 -D_GNU_SOURCE $(OPT) $(SAN) -fno-common -fstack-protector-strong
LDFLAGS += $(SAN)

# Asked only when a recipe needs the answer, so that `make deps` can install what gives it.
FUSE_CFLAGS = $(or $(shell pkg-config --cflags fuse3 2>/dev/null),$(error libfuse3 is missing: run 'make deps'))
FUSE_LIBS = $(shell pkg-config --libs fuse3)
PMEM_LIBS = $(or $(shell pkg-config --libs libpmem 2>/dev/null),-lpmem)
JSON_LIBS = $(or $(shell pkg-config --libs json-c),-ljson-c)
BLKID_LIBS = $(or $(shell pkg-config --libs blkid 2>/dev/null),-lblkid)
CUNIT_LIBS = -lcunit

# What a source file may see and must bear follows from its folder: $(call flags,fs/op/op_name.c).
top = $(firstword $(subst /, ,$(1)))
FLAGS_fs = -Iinclude -Ifs $(WARN) $(if $(filter fs/front/%,$(1)),$(FUSE_CFLAGS))
FLAGS_shim = -Iinclude -Ishim $(WARN) -fvisibility=hidden
FLAGS_tools = -Iinclude -Ifs -Itools $(WARN)
FLAGS_tests = -Iinclude -Ifs -Ishim -Itools -Itests $(filter-out -Wconversion -Wsign-conversion,$(WARN)) $(FUSE_CFLAGS)
flags = $(BASE_CFLAGS) $(call FLAGS_$(call top,$(1)),$(1)) $(CFLAGS) $(EXTRA_CFLAGS)

CORE_SRC := $(foreach l,base media space share obj op,$(wildcard fs/$(l)/*.c))
FRONT_SRC := $(wildcard fs/front/*.c)
SHIM_SRC := $(wildcard shim/*.c)
# tools/<program>.c has main(); tools/<program>/*.c belong to it; tools/lib/*.c to all, tools/dma/*.c are the DMA engine.
CORE_TOOLS := $(patsubst tools/%.c,%,$(wildcard tools/mkfs.pinfs.c tools/fsck.pinfs.c tools/pinfsdump.c tools/pinfsctl.c))
CLIENT_TOOLS := $(patsubst tools/%.c,%,$(wildcard tools/pinrun.c $(if $(SHIM_SRC),tools/dmaemu.c tools/pinbench.c)))
# Of the client tools, those that map and pin; the others talk to the daemon or run a program, and need no libpinfs.
PIN_TOOLS := $(filter dmaemu pinbench,$(CLIENT_TOOLS))
TOOL_LIB_SRC := $(wildcard tools/lib/*.c)
DMA_SRC := $(wildcard tools/dma/*.c)

obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
picobj = $(patsubst %.c,$(B)/pic/%.o,$(1))

PROGRAMS := $(addprefix $(B)/,$(CORE_TOOLS) $(CLIENT_TOOLS)) $(B)/pinfs-conform $(if $(wildcard fs/front/main.c),$(B)/pinfs) $(if $(SHIM_SRC),$(B)/libpinfs.so)

.DEFAULT_GOAL := all
.SECONDARY:
.SECONDEXPANSION:
.DELETE_ON_ERROR:
.PHONY: all help deps demo timeline check check-long check-guest conform conform-kernel check-run crash model lint san bench install uninstall clean

all: $(PROGRAMS) | $(B)/ ## build every program and libpinfs.so into build/
	@printf '#include <sys/sdt.h>\n' | $(CC) -E - >/dev/null 2>&1 || \
		echo 'note: built without static probes: there is no sys/sdt.h (systemtap-sdt-dev)'

help: ## show this
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo; echo '  B=DIR builds elsewhere, V=1 shows commands, T="unit/test_bmap pin" picks tests, DESTDIR and PREFIX place the install.'

# --- compile and link ---

$(B)/:
	@mkdir -p $@

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(call flags,$<) -MMD -MP -c -o $@ $<

$(B)/pic/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(call flags,$<) -fPIC -MMD -MP -c -o $@ $<

$(B)/libpinfscore.a: $(call obj,$(CORE_SRC))
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(B)/pinfs: $(call obj,$(FRONT_SRC)) $(B)/libpinfscore.a
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(FUSE_LIBS) $(PMEM_LIBS) -lpthread

$(B)/libpinfs.so: $(call picobj,$(SHIM_SRC)) shim/libpinfs.map
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -shared -Wl,-soname,libpinfs.so,-z,nodelete -Wl,--version-script=shim/libpinfs.map -o $@ \
		$(filter %.o,$^) -ldl -lpthread

own_obj = $(call obj,tools/$(1).c $(wildcard tools/$(1)/*.c) $(TOOL_LIB_SRC))

$(addprefix $(B)/,$(CORE_TOOLS)): $(B)/%: $$(call own_obj,$$*) $(B)/libpinfscore.a
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_$(@F)) $(PMEM_LIBS) -lpthread
LIBS_mkfs.pinfs = $(BLKID_LIBS)
LIBS_pinfsdump = $(JSON_LIBS)

RPATH = -Wl,-rpath,'$$ORIGIN:$$ORIGIN/../lib'
$(addprefix $(B)/,$(PIN_TOOLS)): $(B)/%: $$(call own_obj,$$*) $(call obj,$(DMA_SRC)) $(B)/libpinfs.so
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -L$(B) -lpinfs $(RPATH) $(LIBS_$(@F)) -lpthread

$(addprefix $(B)/,$(filter-out $(PIN_TOOLS),$(CLIENT_TOOLS))): $(B)/%: $$(call own_obj,$$*)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_$(@F)) -lpthread
LIBS_pinfsctl = $(JSON_LIBS) -lm
LIBS_dmaemu = $(JSON_LIBS)

# Installed as a tool, made of cases. Not linked with libpinfs: it looks whether it was preloaded.
CONFORM_SRC := $(filter-out tests/conform/test_%,$(wildcard tests/conform/*.c)) \
	$(addprefix tests/harness/,slowsrv.c touch.c) tools/pinfsctl/session.c tools/lib/cli.c
$(B)/pinfs-conform: $(call obj,$(CONFORM_SRC))
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(CUNIT_LIBS) $(JSON_LIBS) -ldl -lpthread

# --- the targets for people ---

# A fresh make, so that what deps has just installed is seen; with as many jobs as there are processors. One at a time: two
# that build the same would link what the other one has written half.
again = +$(Q)mkdir -p $(B) && flock -o $(B)/.lock $(MAKE) $(if $(findstring -j,$(MAKEFLAGS)),,-j$$(nproc))

deps: ## install what is missing to build and test (apt-get)
	$(Q)tools/deps.sh check

demo: ## a minute that shows the problem and the answers
	$(Q)tools/deps.sh demo
	$(again) all
	$(Q)PATH=$(CURDIR)/$(B):$$PATH tools/demo.sh

timeline: ## the picture of a truncate that waits, tools/doc/truncate.svg, made anew
	$(Q)tools/deps.sh demo
	$(again) all
	$(Q)PATH=$(CURDIR)/$(B):$$PATH tools/timeline.sh tools/doc/truncate.svg

check: ## build and run every test; T="..." picks some
	$(Q)tools/deps.sh check
	$(again) all tests
	$(Q)tests/run.sh $(if $(filter-out build,$(B)),-b $(B)) $(T)

crash: ## power loss at every fence for CRASH_S seconds (600), with seeds from the clock or SEED
	$(Q)tools/deps.sh check
	$(again) tests
	$(Q)$(B)/tests/crash/test_crash_ops --seconds $(or $(CRASH_S),600) --jobs $$(nproc) $(if $(SEED),--seed $(SEED))

model: ## the protocols between daemon and clients, checked by spin, and each protection without which they fail
	$(Q)tools/deps.sh model
	$(Q)CC='$(CC)' tests/model/run.sh $(T)

check-long: ## the same for hours: longer runs, other seeds, a million files, more programs (fio, PostgreSQL); T="..." picks some
	$(Q)tools/deps.sh long
	$(again) all tests
	$(Q)PINFS_LONG=1 tests/run.sh -t 14400 $(if $(filter-out build,$(B)),-b $(B)) $(T)

check-guest: ## pinfs on real DAX, in an emulated machine (downloads a kernel); T="dax4k fsdax" picks cases
	$(again) all
	$(Q)PINFS_BUILD='$(B)' tests/guest/run $(T)

conform: ## pinfs-conform with every policy, profile, window and user: writes tests/CONFORMANCE.md; T="wait tiny" only asks these
	$(Q)tools/deps.sh check
	$(again) all
	$(Q)tests/conform/matrix.sh -b '$(B)' $(T)

conform-kernel: ## pinfs-conform on real kernels' DAX, in emulated machines, compared with recordings; T="6.12 xfs-always", RECORD=1
	$(again) all
	$(Q)PINFS_BUILD='$(B)' RECORD='$(RECORD)' SUITE='$(SUITE)' tests/guest/conform $(T)

lint: ## strict compile with gcc and clang, clang-tidy, cppcheck, layers, headers, man pages
	$(Q)tools/deps.sh lint
	$(again) -k lint-run

san: ## tests under ASan + UBSan, and under TSan
	$(Q)tools/deps.sh san
	$(again) B=$(B)-asan SAN='$(ASAN)' all tests
	$(again) B=$(B)-tsan SAN='$(TSAN)' CC='$(TSAN_CC)' all tests
	$(Q)tests/run.sh -t 3600 -b $(B)-asan $(or $(T),$(ASAN_TESTS)) -b $(B)-tsan $(or $(T),$(TSAN_TESTS))

bench: ## pinbench: windows, pins and the FUSE path beside tmpfs; ARGS="--quick --json"
	$(Q)tools/deps.sh bench
	$(again) all
	$(Q)tools/peer.sh '$(B)' '$(CC)'
	$(Q)$(B)/pinbench $(ARGS)

install: all ## into $(DESTDIR)$(PREFIX)
	$(Q)tools/install.sh install '$(B)' '$(DESTDIR)' '$(PREFIX)'

uninstall: ## remove what install put there
	$(Q)tools/install.sh uninstall '$(B)' '$(DESTDIR)' '$(PREFIX)'

clean: ## remove what was built
	$(Q)rm -rf $(B) $(B)-asan $(B)-tsan $(B)-fuzz

ASAN = -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
ASAN_TESTS = unit tools crash fuzz shim mount pin conform
TSAN = -fsanitize=thread
TSAN_CC = $(CC)
# Programs of one thread have nothing to tell it, and some of them take their time.
TSAN_TESTS = $(patsubst tests/%.c,%,$(shell grep -lE 'pthread|op_env|fakesess' tests/unit/test_*.c)) \
	crash/crash_threads shim mount \
	$(addprefix pin/,pause lease deadlock revoke kick_pin budget aio crowd longterm trace seal bad_window map fail_client)

include tests/tests.mk
include tests/lint/lint.mk

-include $(shell find $(B) -name '*.d' 2>/dev/null)
