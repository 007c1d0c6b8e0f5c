# The front door. `make help` lists what it opens; meson.build has the build itself, deps/ what it
# stands on, test/run.py the tests.
MAKEFLAGS += --no-print-directory
PREFIX ?= /usr/local
SECONDS ?= 60
MINUTES ?= 30
DEPS ?= $(CURDIR)/deps/prefix
PYTHON ?= /usr/bin/python3

# A build folder is configured again when one of these is new: meson does not watch for new files.
SHAPE := meson.build meson_options.txt bench/meson.build $(wildcard src/main.c src/*/meson.build \
	test/*/meson.build test/unit/*/meson.build test/fuzz/*.c)
SETUP = mkdir -p $(@D); if [ -f $(@D)/meson-private/coredata.dat ]; then again=--reconfigure; else again=; fi; \
	meson setup $$again $(@D) -Ddeps=$(DEPS)

# One thing after the other: ninja has the parallel part.
.NOTPARALLEL:
.PHONY: run test build deps deps-test asan fuzz bench soak tidy install help

build: deps build/configured ## the program: build/portcullis
	@ninja -C build

run: build ## serve over https://localhost, or with UPSTREAM=127.0.0.1:3000 in front of an application
	build/portcullis $(if $(UPSTREAM),proxy $(UPSTREAM),files docs/welcome)

test: deps-test build asan build-fuzz/configured ## everything that proves it; ends with a count
	@ninja -C build-fuzz
	@ninja -C build benchmarks sim-seeds
	@$(PYTHON) test/run.py

asan: deps build-asan/configured ## the build of the tests: sanitizers on, time can be moved
	@ninja -C build-asan

fuzz: deps-test build-fuzz/configured ## fuzz every parser, SECONDS=60 for each, or RUNS=100000000
	@ninja -C build-fuzz
	@$(PYTHON) test/run.py fuzz $(if $(RUNS),--runs $(RUNS),--seconds $(SECONDS))

soak: deps-test build asan ## the long tests at full size, MINUTES=30
	@ninja -C build sim-seeds
	PORTCULLIS_SOAK=1 $(PYTHON) test/run.py seeds
	PORTCULLIS_SOAK=1 $(PYTHON) test/run.py unit unit-sim unit-proc-hostile
	PORTCULLIS_SOAK=1 PORTCULLIS_SOAK_MINUTES=$(MINUTES) $(PYTHON) test/run.py e2e -m soak

bench: deps-test build ## CPU time beside other servers
	@ninja -C build benchmarks
	@$(PYTHON) bench/run

tidy: deps-test ## formatting and static analysis
	@test/tidy

deps: ## what the build needs: Debian packages and AWS-LC
	@deps/get build libs

deps-test: ## what the tests need on top
	@deps/get build libs tests

install: ## PREFIX=/usr/local, DESTDIR=
	install -D -m 755 build/portcullis $(DESTDIR)$(PREFIX)/bin/portcullis
	install -D -m 644 LICENSE $(DESTDIR)$(PREFIX)/share/doc/portcullis/LICENSE

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1: /p' Makefile

build/configured: $(SHAPE)
	@$(SETUP) --buildtype=debug -Doptimization=3 >$@.log || { cat $@.log; exit 1; }
	@mv $@.log $@

build-asan/configured: $(SHAPE)
	@$(SETUP) --buildtype=debug -Doptimization=1 -Db_sanitize=address,undefined -Dtests=true \
		-Dtest_clock=true >$@.log || { cat $@.log; exit 1; }
	@mv $@.log $@

build-fuzz/configured: $(SHAPE)
	@CC=clang; export CC; $(SETUP) --buildtype=debug -Doptimization=1 -Dwerror=false \
		-Db_sanitize=address,undefined -Dfuzz=true -Db_lundef=false >$@.log || { cat $@.log; exit 1; }
	@mv $@.log $@
