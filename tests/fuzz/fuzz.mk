# SPDX-License-Identifier: BSD-3-Clause
# fuzz.mk - fuzz targets: tests/fuzz/targets/ linked into test_fuzz_corpus, and with libFuzzer behind `make fuzz`.

FUZZ_TARGETS := mount fsck journal dump wire text
# Seconds for each target; FUZZ_T="wire text" picks some.
FUZZ_S ?= 60
FUZZ_T ?= $(FUZZ_TARGETS)
FUZZ_CC ?= clang
FUZZ_SAN := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-coverage=trace-cmp,indirect-calls -fno-sanitize-recover=all -fno-omit-frame-pointer

FUZZ_SRC := $(filter-out tests/fuzz/targets/libfuzzer.c,$(wildcard tests/fuzz/targets/*.c)) fs/front/opts.c \
	$(wildcard fs/front/srv*.c tools/fsck.pinfs/*.c tools/pinfsdump/*.c) $(TOOL_LIB_SRC)

$(B)/tests/fuzz/test_fuzz_corpus: $(call obj,$(FUZZ_SRC))
LIBS_test_fuzz_corpus = $(B)/libpinfscore.a $(JSON_LIBS)

$(patsubst %,$(B)/obj/fuzz-%.o,$(FUZZ_TARGETS)): $(B)/obj/fuzz-%.o: tests/fuzz/targets/libfuzzer.c
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(call flags,$<) -DFZ_TARGET=fz_$* -MMD -MP -c -o $@ $<

$(addprefix $(B)/fuzz-,$(FUZZ_TARGETS)): $(B)/fuzz-%: $(B)/obj/fuzz-%.o \
		$$(call obj,$$(FUZZ_SRC) $$(call kind_src,fuzz) $$(HARNESS_SRC)) $(B)/libpinfscore.a
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -fsanitize=fuzzer -Wl,--wrap=pf_log,--wrap=cli_error,--wrap=time,--wrap=clock_gettime -o $@ $^ $(B)/libpinfscore.a \
		$(CUNIT_LIBS) $(JSON_LIBS) $(PMEM_LIBS) -lpthread

.PHONY: fuzz fuzz-programs
fuzz-programs: $(addprefix $(B)/fuzz-,$(FUZZ_T))

fuzz: ## libFuzzer with ASan and UBSan, FUZZ_S=60 seconds a target; FUZZ_T="wire text" picks some
	$(Q)tools/deps.sh fuzz
	$(again) B=$(B)-fuzz CC='$(FUZZ_CC)' SAN='$(FUZZ_SAN)' fuzz-programs
	$(Q)tests/fuzz/run.sh '$(B)-fuzz' '$(FUZZ_S)' $(FUZZ_T)
