# SPDX-License-Identifier: BSD-3-Clause
# pinfs: `make help` lists the targets.

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

WARN := -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wstrict-prototypes -Wmissing-prototypes \
	-Wcast-qual -Wcast-align -Wwrite-strings -Wundef -Wvla -Wformat=2 -Wswitch-enum -Wpointer-arith \
	-Wimplicit-fallthrough
TEST_WARN := $(filter-out -Wconversion -Wsign-conversion,$(WARN))
OPT ?= -O2 -g
SAN ?=
BASE_CFLAGS := -std=c11 -D_GNU_SOURCE -Iinclude $(OPT) $(SAN) -fno-common -fstack-protector-strong -MMD -MP $(EXTRA_CFLAGS)
LDFLAGS += $(SAN)
FUSE_CFLAGS = $(shell pkg-config --cflags fuse3 2>/dev/null)
FUSE_LIBS = $(shell pkg-config --libs fuse3 2>/dev/null)
PMEM_LIBS = $(shell pkg-config --libs libpmem 2>/dev/null || echo -lpmem)
CUNIT_LIBS = -lcunit

CORE_LAYERS := base media space share obj op
CORE_SRC := $(foreach l,$(CORE_LAYERS),$(wildcard fs/$(l)/*.c))
FRONT_SRC := $(wildcard fs/front/*.c)
SHIM_SRC := $(wildcard shim/*.c)

# Programs that link the core, and programs that are clients (the shim's objects inside).
CORE_TOOLS := $(patsubst tools/%.c,%,$(wildcard tools/mkfs.pinfs.c tools/fsck.pinfs.c tools/pinfsdump.c))
CLIENT_TOOLS := $(patsubst tools/%.c,%,$(wildcard tools/pinfsctl.c tools/pinrun.c tools/dmaemu.c tools/pinbench.c))
TOOL_MAINS := $(CORE_TOOLS) $(CLIENT_TOOLS)
# tools/<program>/*.c belong to that program, tools/lib/*.c to all, tools/dma/*.c are the DMA engine.
TOOL_LIB_SRC := $(wildcard tools/lib/*.c)
DMA_SRC := $(wildcard tools/dma/*.c)

obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
picobj = $(patsubst %.c,$(B)/pic/%.o,$(1))

PROGRAMS := $(addprefix $(B)/,$(TOOL_MAINS)) $(if $(FRONT_SRC),$(B)/pinfs) $(if $(SHIM_SRC),$(B)/libpinfs.so)

.DEFAULT_GOAL := all
.SECONDARY:
.DELETE_ON_ERROR:
.PHONY: all help deps demo check lint san bench install uninstall clean

all: $(PROGRAMS) ## build every program and libpinfs.so into build/

help: ## show this
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(B)/libpinfscore.a: $(call obj,$(CORE_SRC))
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(B)/obj/fs/front/%.o: fs/front/%.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(BASE_CFLAGS) $(WARN) $(CFLAGS) -Ifs $(FUSE_CFLAGS) -c -o $@ $<

$(B)/obj/fs/%.o: fs/%.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(BASE_CFLAGS) $(WARN) $(CFLAGS) -Ifs -c -o $@ $<

$(B)/pic/shim/%.o: shim/%.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(BASE_CFLAGS) $(WARN) $(CFLAGS) -fPIC -fvisibility=hidden -Ishim -c -o $@ $<

$(B)/obj/tools/%.o: tools/%.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(BASE_CFLAGS) $(WARN) $(CFLAGS) -Ifs -Itools -c -o $@ $<

$(B)/obj/tests/%.o: tests/%.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(BASE_CFLAGS) $(TEST_WARN) $(CFLAGS) -Ifs -Itests -Itools -c -o $@ $<

$(B)/pinfs: $(call obj,$(FRONT_SRC)) $(B)/libpinfscore.a
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(FUSE_LIBS) $(PMEM_LIBS) -lpthread

$(B)/libpinfs.so: $(call picobj,$(SHIM_SRC)) shim/libpinfs.map
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -shared -Wl,-soname,libpinfs.so -Wl,--version-script=shim/libpinfs.map -o $@ \
		$(filter %.o,$^) -ldl -lpthread

.SECONDEXPANSION:
$(addprefix $(B)/,$(CORE_TOOLS)): $(B)/%: $(B)/obj/tools/%.o $$(call obj,$$(wildcard tools/$$*/*.c)) $(call obj,$(TOOL_LIB_SRC)) $(B)/libpinfscore.a
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(PMEM_LIBS) -lpthread

$(addprefix $(B)/,$(CLIENT_TOOLS)): $(B)/%: $(B)/obj/tools/%.o $$(call obj,$$(wildcard tools/$$*/*.c)) $(call obj,$(TOOL_LIB_SRC) $(DMA_SRC)) $(B)/libpinfs.so
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) -L$(B) -lpinfs -Wl,-rpath,'$$ORIGIN:$$ORIGIN/../lib' -lpthread

include tests/tests.mk

clean: ## remove build/
	$(Q)rm -rf $(B)

-include $(shell find $(B) -name '*.d' 2>/dev/null)
