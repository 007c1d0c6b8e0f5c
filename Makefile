# The front door. `make help` lists what it opens; meson.build has the build itself, deps/ what it
# stands on, test/run.py the tests.
MAKEFLAGS += --no-print-directory
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
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
.PHONY: run test build deps deps-test asan fuzz bench soak tidy pages install uninstall help

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

PAGES = build/share
MAN = $(DESTDIR)$(PREFIX)/share/man
BASH_WORDS = $(DESTDIR)$(PREFIX)/share/bash-completion/completions/portcullis
ZSH_WORDS = $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_portcullis
FISH_WORDS = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/portcullis.fish
CONF = $(SYSCONFDIR)/portcullis/portcullis.conf
UNIT = $(DESTDIR)$(UNITDIR)/portcullis.service
# The day of what is installed, not of who installs it: two builds of one source are alike.
DAY = $(shell git log -1 --format=%cs 2>/dev/null || date -u -r meson.build +%F)

pages: build ## manual pages, words for shells and the unit, in build/share
	@mkdir -p $(PAGES)
	@for page in portcullis.1 portcullis.conf.5; do build/make-pages $$page $(DAY) >$(PAGES)/$$page || exit 1; done
	@for shell in bash zsh fish; do build/make-pages $$shell >$(PAGES)/words.$$shell || exit 1; done
	@sed -e 's|@BIN@|$(PREFIX)/bin/portcullis|g' -e 's|@CONF@|$(CONF)|g' share/portcullis.service \
		>$(PAGES)/portcullis.service

install: pages ## the program, its pages, words for shells, a unit, an example: PREFIX=/usr/local, SYSCONFDIR=/etc, DESTDIR=
	install -D -m 755 build/portcullis $(DESTDIR)$(PREFIX)/bin/portcullis
	install -D -m 644 LICENSE $(DESTDIR)$(PREFIX)/share/doc/portcullis/LICENSE
	install -D -m 644 $(PAGES)/portcullis.1 $(MAN)/man1/portcullis.1
	install -D -m 644 $(PAGES)/portcullis.conf.5 $(MAN)/man5/portcullis.conf.5
	install -D -m 644 $(PAGES)/words.bash $(BASH_WORDS)
	install -D -m 644 $(PAGES)/words.zsh $(ZSH_WORDS)
	install -D -m 644 $(PAGES)/words.fish $(FISH_WORDS)
	install -D -m 644 $(PAGES)/portcullis.service $(UNIT)
	install -D -m 644 share/portcullis.conf $(DESTDIR)$(PREFIX)/share/doc/portcullis/portcullis.conf
	@# What an administrator wrote stays.
	[ -e $(DESTDIR)$(CONF) ] || install -D -m 644 share/portcullis.conf $(DESTDIR)$(CONF)

uninstall: ## takes away what install made; configuration, state and logs stay
	rm -f $(DESTDIR)$(PREFIX)/bin/portcullis $(MAN)/man1/portcullis.1 $(MAN)/man5/portcullis.conf.5 $(BASH_WORDS) \
		$(ZSH_WORDS) $(FISH_WORDS) $(UNIT)
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/portcullis

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1: /p' Makefile

build/configured: $(SHAPE)
	@$(SETUP) -Ddebug=true -Doptimization=3 >$@.log || { cat $@.log; exit 1; }
	@mv $@.log $@

build-asan/configured: $(SHAPE)
	@$(SETUP) -Ddebug=true -Doptimization=1 -Db_sanitize=address,undefined -Dtests=true \
		-Dtest_clock=true >$@.log || { cat $@.log; exit 1; }
	@mv $@.log $@

build-fuzz/configured: $(SHAPE)
	@CC=clang; export CC; $(SETUP) -Ddebug=true -Doptimization=1 -Dwerror=false \
		-Db_sanitize=address,undefined -Dfuzz=true -Db_lundef=false >$@.log || { cat $@.log; exit 1; }
	@mv $@.log $@
