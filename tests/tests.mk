# SPDX-License-Identifier: BSD-3-Clause
# tests.mk - the test programs. tests/unit/test_*.c: one CUnit program each, linked with the core.
# tests/mount/, tests/pin/: programs that run against real mounts.

UNIT_TESTS := $(patsubst tests/%.c,$(B)/tests/%,$(wildcard tests/unit/test_*.c))
HARNESS_SRC := $(wildcard tests/harness/*.c)

$(B)/tests/unit/%: $(B)/obj/tests/unit/%.o $(call obj,$(HARNESS_SRC)) $(B)/libpinfscore.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(CUNIT_LIBS) $(PMEM_LIBS) -lpthread

unit-tests: $(UNIT_TESTS)
	$(Q)for t in $(UNIT_TESTS); do $$t || exit 1; done
.PHONY: unit-tests
