# SPDX-License-Identifier: BSD-3-Clause
# tests.mk - tests/<kind>/test_<what>.c becomes the program $(B)/tests/<kind>/test_<what>; a test_<what>.sh is run as it is.
#
#   unit crash fuzz   linked with the core, no mount
#   shim              linked with the preload library's objects, no mount
#   mount tools       against real mounts or images, without the preload library (the core is linked for looking at images)
#   pin prog          against real mounts, linked with libpinfs.so
#   conform           of pinfs-conform, which is here, too, but a program for users (Makefile)
#
# tests/<kind>/*.c that are not test_* and tests/harness/*.c are shared by the programs of the kind, and by all.
# A program that needs more libraries says so here: LIBS_test_<what> = -lsomething.

# The directory test decides which names collide.
LIBS_test_dir = -Wl,--wrap=pf_name_key,--wrap=pf_md_get
LIBS_test_room = -Wl,--wrap=nanosleep
LIBS_test_scale = -Wl,--wrap=pf_md_get
LIBS_test_fsck_view = -Wl,--wrap=mremap
LIBS_test_nospace = -Wl,--wrap=pf_alloc_reserve
LIBS_test_pinfsdump = $(JSON_LIBS)
$(B)/tests/tools/test_pinfsdump: | $(B)/pinfsdump

CORE_KINDS := unit crash fuzz mount tools
test_src = $(wildcard tests/$(1)/test_*.c)
kind_src = $(filter-out $(call test_src,$(1)),$(wildcard tests/$(1)/*.c))
test_bin = $(patsubst tests/%.c,$(B)/tests/%,$(foreach k,$(1),$(call test_src,$(k))))
kind_of = $(call top,$(1))
HARNESS_SRC := $(wildcard tests/harness/*.c)

$(call test_bin,$(CORE_KINDS)): $(B)/tests/%: $(B)/obj/tests/%.o \
		$$(call obj,$$(call kind_src,$$(call kind_of,$$*)) $(HARNESS_SRC)) $(B)/libpinfscore.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter-out %.o,$^) $(LIBS_$(@F)) $(CUNIT_LIBS) $(PMEM_LIBS) -lpthread

# Unit tests see the same images in every run (unit/seeded.c). Private: not for the programs that they need.
$(call test_bin,unit): private LDFLAGS += -Wl,--wrap=getrandom,--wrap=pf_mkfs
# Crash tests see the same identities and times in every run (crash/seeded.c).
$(call test_bin,crash): LDFLAGS += -Wl,--wrap=getrandom,--wrap=clock_gettime
# So do images that are to be damaged (fuzz/image.c).
$(call test_bin,fuzz): LDFLAGS += -Wl,--wrap=time,--wrap=clock_gettime
LIBS_test_crash_msync = -Wl,--wrap=msync,--wrap=fdatasync

# The engine's core without window.c and lease.c: needs neither libpinfs nor a mount.
$(B)/tests/unit/test_dma $(B)/tests/unit/test_dma_iommu: $(call obj,$(addprefix tools/dma/,engine.c pattern.c dev.c iommu.c move.c plan.c))
$(B)/tests/unit/test_elf: $(call obj,tools/pinrun/elf.c)
$(B)/tests/unit/test_chrome: $(call obj,$(addprefix tools/pinfsctl/,chrome.c chrome_out.c check.c table.c))
LIBS_test_chrome = $(JSON_LIBS) -lm

# The command line without a daemon behind it.
$(B)/tests/unit/test_opts: $(call obj,fs/front/opts.c)

# The session server without FUSE around it.
$(addprefix $(B)/tests/unit/,test_srv test_srv_bad): $(call obj,$(wildcard fs/front/srv*.c tests/unit/srv/*.c))
LIBS_test_srv = $(B)/libpinfscore.a
LIBS_test_srv_bad = $(B)/libpinfscore.a

# The crash tests may leave out a step of the core (base/step.h): what has steps is compiled for them once more.
STEP_SRC := $(shell grep -l base/step.h $(CORE_SRC))
step_obj = $(patsubst %.c,$(B)/step/%.o,$(STEP_SRC))
$(B)/step/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(call flags,$<) -DPF_STEPS -MMD -MP -c -o $@ $<
$(call test_bin,crash): $(step_obj)

# Preloaded into a daemon; not a program.
$(B)/tests/spy/syncspy.so: tests/spy/syncspy.c
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(call flags,$<) -fPIC -shared $(LDFLAGS) -o $@ $< -ldl -lpthread
$(B)/tests/mount/test_durable: | $(B)/tests/spy/syncspy.so

# What is checked, without the program around it.
$(addprefix $(B)/tests/unit/,test_fsck test_fsck_repair): $(call obj,$(wildcard tests/unit/fsck/*.c))
$(addprefix $(B)/tests/unit/,test_fsck test_fsck_repair test_fsck_view test_fsck_lost test_nospace) $(call test_bin,crash fuzz): \
		$(call obj,$(wildcard tools/fsck.pinfs/*.c))
$(B)/tests/unit/test_fsck: | $(B)/fsck.pinfs
# With steps that can be taken in another order.
WRITEBACK := tools/fsck.pinfs/writeback.c
$(B)/tests/unit/test_fsck_order: $(B)/step/$(WRITEBACK:.c=.o) \
		$(call obj,$(filter-out $(WRITEBACK),$(wildcard tools/fsck.pinfs/*.c)))

$(call test_bin,shim): $(B)/tests/%: $(B)/obj/tests/%.o $$(call obj,$$(call kind_src,shim) $(HARNESS_SRC)) \
		$(call picobj,$(SHIM_SRC)) $(B)/libpinfscore.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_$(@F)) $(CUNIT_LIBS) $(PMEM_LIBS) -ldl -lpthread

$(call test_bin,pin prog): $(B)/tests/%: $(B)/obj/tests/%.o \
		$$(call obj,$$(call kind_src,$$(call kind_of,$$*)) $(HARNESS_SRC) $(DMA_SRC)) \
		$(B)/libpinfscore.a $(B)/libpinfs.so
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) -L$(B) -lpinfs -Wl,-rpath,'$$ORIGIN/../..' \
		$(JSON_LIBS) $(LIBS_$(@F)) $(CUNIT_LIBS) $(PMEM_LIBS) -lpthread

# Programs that know nothing of the library. No sanitizer can be linked statically.
$(B)/tests/pin/alone.dyn $(B)/tests/pin/alone.static: tests/pin/alone/alone.c
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(if $(filter %.static,$@),$(filter-out $(SAN),$(call flags,$<)) -static -DALONE_STATIC,$(call flags,$<)) -o $@ $<
$(B)/tests/pin/test_confined: | $(B)/tests/pin/alone.dyn $(B)/tests/pin/alone.static

# A daemon that can do without one of its rules of order (base/pause.h).
ORDER_SRC := $(shell grep -lw PF_ORDER $(CORE_SRC))
$(B)/tests/pin/pinfs.order: $(call obj,$(FRONT_SRC) tests/pin/order/order.c) $(patsubst %.c,$(B)/step/%.o,$(ORDER_SRC)) \
		$(B)/libpinfscore.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(FUSE_LIBS) $(PMEM_LIBS) -lpthread
$(addprefix $(B)/tests/pin/,test_pause test_revoke): | $(B)/tests/pin/pinfs.order

LIBS_test_aio = -laio
LIBS_test_collision = -laio
$(B)/tests/pin/test_collision: | $(B)/tests/prog/fio/surge
LIBS_test_in_flight = -luring
LIBS_test_uring = -luring

# Devices that are not there, behind libpinfs in the order of look-up.
$(B)/tests/pin/libfar.so: tests/pin/far/far.c
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(call flags,$<) -fPIC $(LDFLAGS) -shared -Wl,-soname,libfar.so -o $@ $< -ldl
FAR_TESTS := $(addprefix $(B)/tests/pin/,test_takers test_regions test_mappings)
$(FAR_TESTS): $(B)/tests/pin/libfar.so $(call obj,tests/pin/far/taker.c)
LIBS_test_takers = -L$(B)/tests/pin -lfar -Wl,-rpath,'$$ORIGIN'
LIBS_test_regions = $(LIBS_test_takers)
LIBS_test_mappings = $(LIBS_test_takers)

# Windows beside mappings of ext4.
$(B)/tests/pin/test_map_calls: $(call obj,tests/mount/twin.c)

# A libpmem that forgets, for daemons whose mistakes have to be found.
$(B)/tests/prog/defect.so: tests/prog/defect/defect.c
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(call flags,$<) -fPIC $(LDFLAGS) -shared -o $@ $< -ldl

# Programs of a user of PMDK, which know nothing of pinfs, and what kills them (tests/prog/test_pmdk.sh).
PMDK_BIN := $(addprefix $(B)/tests/prog/pmdk/,hash store look)
LIBS_hash = -lpmemobj
LIBS_store = -lpmemblk -lpmemlog
LIBS_look = -lpmem2
$(PMDK_BIN): $(B)/tests/%: $(B)/obj/tests/%.o
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_$(@F)) $(PMEM_LIBS)
$(B)/tests/prog/pmdk/killat.so: tests/prog/pmdk/killat.c
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(call flags,$<) -fPIC $(LDFLAGS) -shared -o $@ $< -ldl

# Takes blocks from under fio's buffers (tests/prog/test_fio_pins.sh).
$(B)/tests/prog/fio/surge: $(B)/obj/tests/prog/fio/surge.o
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^

# pinfs-conform itself: its language without it, and the program with cases that test it.
$(call test_bin,conform): $(B)/tests/%: $(B)/obj/tests/%.o \
		$(call obj,$(addprefix tests/conform/,expect.c record.c) tools/lib/cli.c $(HARNESS_SRC)) $(B)/libpinfscore.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter-out %.o,$^) $(JSON_LIBS) $(CUNIT_LIBS) $(PMEM_LIBS) -lpthread
$(B)/tests/conform/self: $(call obj,$(filter-out tests/conform/case_% tests/conform/cases.c,$(CONFORM_SRC)) tests/conform/self/self.c)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(CUNIT_LIBS) $(JSON_LIBS) -ldl -lpthread
$(B)/tests/conform/test_self: | $(B)/tests/conform/self

include tests/fuzz/fuzz.mk

TEST_PROGRAMS := $(call test_bin,$(CORE_KINDS) shim pin prog conform) $(B)/tests/prog/defect.so $(PMDK_BIN) \
	$(B)/tests/prog/pmdk/killat.so $(B)/tests/prog/fio/surge
.PHONY: tests
tests: $(TEST_PROGRAMS) ## build the test programs only
