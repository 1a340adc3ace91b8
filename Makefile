# SPDX-License-Identifier: GPL-2.0-or-later
# The commands of every day. ninja builds; meson tests; this only names them.
BUILD ?= build
DURATION ?= 10m
FUZZ_SECONDS ?= 60
export BUILD

.PHONY: help all check check-asan check-tsan soak fuzz bench demo demo-guest docs install clean \
	format

all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

help:
	@echo 'make                build (./configure first for options of your own)'
	@echo 'make check          build with warnings as errors, prove coroutine_fn, run each suite'
	@echo 'make check-asan     each suite under AddressSanitizer and UBSan'
	@echo 'make check-tsan     what uses threads under ThreadSanitizer'
	@echo 'make soak           the long tests, DURATION=$(DURATION) each'
	@echo 'make fuzz           each fuzz target for FUZZ_SECONDS=$(FUZZ_SECONDS) (clang)'
	@echo 'make bench          the fixed workloads, as a ratio against QEMU'
	@echo 'make demo           replicate a disk, fail over, compare'
	@echo 'make demo-guest     the same below a running guest'
	@echo 'make docs           the QMP reference, from the schema'
	@echo 'make install        install below the prefix (DESTDIR is honoured)'
	@echo 'make format         clang-format the C files you have changed'
	@echo 'make clean          remove the build folders'

$(BUILD)/build.ninja:
	./configure --builddir=$(BUILD)

check:
	scripts/check all

check-asan:
	scripts/check asan

check-tsan:
	scripts/check tsan

soak:
	scripts/soak $(DURATION)

fuzz:
	scripts/fuzz $(FUZZ_SECONDS)

# What is not in this tree yet says so and fails.
demo: PACKAGES = build
bench demo-guest: PACKAGES = build test
bench demo demo-guest:
	@if [ ! -x scripts/$@ ]; then \
	    echo "make $@: this version has no scripts/$@" >&2; exit 1; \
	fi
	@scripts/setup-packages $(PACKAGES)
	@$(MAKE) all
	scripts/$@

docs: $(BUILD)/build.ninja
	@if ! ninja -C $(BUILD) -t targets all | grep -q '^docs:'; then \
	    echo "make docs: this version has no manual to generate" >&2; exit 1; \
	fi
	ninja -C $(BUILD) docs

install: all
	meson install -C $(BUILD) --no-rebuild

clean:
	rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-tsan $(BUILD)-clang $(BUILD)-fuzz

format:
	scripts/format
