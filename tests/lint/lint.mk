# SPDX-License-Identifier: BSD-3-Clause
# lint.mk - `make lint`. One stamp for each file and tool below $(B)/lint, so a second run looks only at what changed.

LINT_SRC := $(shell find fs shim tools tests -name '*.c' 2>/dev/null)
# cppcheck looks at the product only: in CUnit's macros it sees faults that are not there.
CPPCHECK_SRC := $(filter-out tests/%,$(LINT_SRC))
LINT := $(B)/lint
LINT_GCC ?= gcc
LINT_CLANG ?= clang
LINT_SCRIPTS := layers headers man repo behaviours

lint_flags = $(call flags,$(1)) -Werror $(if $(filter shim,$(call top,$(1))),-fPIC)

.PHONY: lint-run $(addprefix lint-,$(LINT_SCRIPTS))
lint-run: $(patsubst %.c,$(LINT)/gcc/%.o,$(LINT_SRC)) $(patsubst %.c,$(LINT)/tidy/%.ok,$(LINT_SRC)) \
		$(LINT)/cppcheck.ok $(addprefix lint-,$(LINT_SCRIPTS))
	@echo 'lint: clean'

$(LINT)/gcc/%.o: %.c
	@mkdir -p $(@D)
	$(call say,GCC,$<)
	$(Q)$(LINT_GCC) $(call lint_flags,$<) -MMD -MP -c -o $@ $<

$(LINT)/clang/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CLANG,$<)
	$(Q)$(LINT_CLANG) $(call lint_flags,$<) -Wthread-safety -Wthread-safety-beta -MMD -MP -c -o $@ $<

$(LINT)/tidy/%.ok: %.c $(LINT)/clang/%.o .clang-tidy
	@mkdir -p $(@D)
	$(call say,TIDY,$<)
	$(Q)clang-tidy --quiet --warnings-as-errors='*' $< -- $(call flags,$<) >$@.log 2>$@.err || { cat $@.log; exit 1; }
	$(Q)touch $@

$(LINT)/cppcheck.ok: $(CPPCHECK_SRC) tests/lint/cppcheck.txt
	@mkdir -p $(LINT)/cppcheck
	$(call say,CPPCHK,'$(words $(CPPCHECK_SRC)) files')
	$(Q)cppcheck --quiet --enable=warning,portability --inline-suppr --error-exitcode=1 --std=c11 -j2 \
		--cppcheck-build-dir=$(LINT)/cppcheck --suppressions-list=tests/lint/cppcheck.txt \
		-D_GNU_SOURCE -Iinclude -Ifs -Ishim -Itools $(CPPCHECK_SRC)
	$(Q)touch $@

lint-behaviours: $(B)/pinfs-conform
$(addprefix lint-,$(LINT_SCRIPTS)): lint-%:
	$(call say,LINT,$*)
	$(Q)CC='$(LINT_GCC)' CLANG='$(LINT_CLANG)' FUSE_CFLAGS='$(FUSE_CFLAGS)' WARN='$(WARN)' PINFS_CONFORM='$(B)/pinfs-conform' \
		tests/lint/$*.sh
