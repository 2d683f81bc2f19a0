# The one front door: build, demo, test, lint, fmt, bench, fuzz, docs. CI calls the same targets.
# It must not hold logic that belongs in a program; it orders steps and skips what is up to date.
# Called by people, by .ci/run and by nothing else.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
# Why two, whatever the machine has: each starts databases of its own, and some of them have time limits to keep.
PYTEST_ARGS ?= --numprocesses=2 --dist=loadfile
CARGO_TEST_ARGS ?=
BENCH_ARGS ?=
DEMO_ARGS ?=
SUITES_ARGS ?=
FUZZ_SECONDS ?= 30

VENV := .venv
BIN := $(VENV)/bin
STATE := $(VENV)/state
LOCK := requirements/dev.lock
MODULE := src/maitred/_engine.abi3.so
FRESH := src/maitred/_engine.fresh.so
RUST := $(shell find engine -name target -prune -o -type f \( -name '*.rs' -o -name 'Cargo.*' \) -print)

export PIP_CONSTRAINT := $(abspath $(LOCK))
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_QUIET := 1

.PHONY: help build demo mysql test test-rust test-python test-suites lint fmt bench fuzz docs clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 14

# Why two engines: tests want assertions and a short build, users want the fast one. Both are kept in
# $(STATE); `use` puts one of them in place. It replaces the file instead of writing into it, because a
# running maitred has the old one mapped.
use = cmp -s $(STATE)/engine-$(1).so $(MODULE) || \
	{ cp $(STATE)/engine-$(1).so $(FRESH) && mv -f $(FRESH) $(MODULE); }

$(STATE)/venv:
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust 1.82 or newer (https://rustup.rs)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed: on Debian, apt-get install python3-venv" >&2; exit 1; }
	mkdir -p $(STATE)
	$(BIN)/pip install --quiet maturin
	touch $@

$(STATE)/dev: $(LOCK) | $(STATE)/venv
	@command -v mariadb_config >/dev/null && command -v pkg-config >/dev/null || { echo "the tests' MySQL drivers need a client library: on Debian, apt-get install libmariadb-dev pkg-config python3-dev" >&2; exit 1; }
	$(BIN)/pip install --quiet -r $(LOCK)
	touch $@

# What `make demo` and `make bench` need beyond the product itself: the extra of that name.
$(STATE)/extra-%: pyproject.toml $(LOCK) | $(STATE)/venv
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["$*"], sep="\n")' > $@.txt
	$(BIN)/pip install --quiet -r $@.txt
	touch $@

# Why the copy first: maturin writes into the file that is there, under the feet of whoever runs it.
$(STATE)/engine-%.so: $(RUST) pyproject.toml | $(STATE)/venv
	@if [ -e $(MODULE) ]; then cp $(MODULE) $(FRESH) && mv -f $(FRESH) $(MODULE); fi
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --quiet --locked --profile $*
	cp $(MODULE) $@

build: $(STATE)/engine-release.so ## .venv/bin/maitred with the release engine
	@$(call use,release)
	@echo "built: $(BIN)/maitred"

demo: build $(STATE)/extra-demo ## a thousand clients on ten connections of an embedded PostgreSQL
	$(BIN)/maitred demo $(DEMO_ARGS)

test: test-rust test-python ## every test, from nothing

test-rust: | $(STATE)/venv
	cd engine && cargo test --workspace --exclude maitred-binding --locked $(CARGO_TEST_ARGS)

# Why not part of `test`: it is for Debian alone, 60 MB, and unstable's packages may be in disorder for a day.
mysql: $(STATE)/mysql/root/usr/sbin/mysqld ## a MySQL server for the tests, from Debian unstable, unpacked under .venv

$(STATE)/mysql/root/usr/sbin/mysqld: | $(STATE)/venv
	$(PYTHON) tests/get_mysql.py $(STATE)/mysql

# Afterwards the release engine, if there is one, is back in place.
test-python: $(STATE)/dev $(STATE)/engine-quick.so
	@$(call use,quick)
	@trap 'if [ -e $(STATE)/engine-release.so ]; then $(call use,release); fi' EXIT; \
	echo $(BIN)/pytest $(PYTEST_ARGS); $(BIN)/pytest $(PYTEST_ARGS)

test-suites: build $(STATE)/dev ## the drivers' published suites through maitred, compared with a direct run
	PYTHONPATH=tests $(BIN)/python -m suites $(SUITES_ARGS)

lint: $(STATE)/dev ## ruff, pyright, cargo fmt --check, clippy
	$(BIN)/ruff check src tests bench
	$(BIN)/ruff format --check src tests bench
	$(BIN)/pyright
	cd engine && cargo fmt --all --check
	cd engine && cargo clippy --workspace --all-targets --locked -- -D warnings

fmt: $(STATE)/dev ## reformat everything
	$(BIN)/ruff check --fix src tests bench
	$(BIN)/ruff format src tests bench
	cd engine && cargo fmt --all

bench: build $(STATE)/extra-demo $(STATE)/extra-bench ## compare with PgBouncer, side by side
	$(BIN)/python bench/run.py $(BENCH_ARGS)

fuzz: | $(STATE)/venv ## each decoder for FUZZ_SECONDS (30); tests/fuzz/README.md has the guided way
	FUZZ_SECONDS=$(FUZZ_SECONDS) cargo test --release --locked --manifest-path engine/Cargo.toml \
		-p maitred-wire --test fuzz -- --nocapture

docs: $(STATE)/dev ## the reference pages, out of the code's own tables
	PYTHONPATH=src $(BIN)/python -m maitred.reference docs/reference

clean: ## remove everything that was built
	rm -rf $(VENV) engine/target src/maitred/_engine*.so bench/out dist
