# What one does with this checkout. Everything but `clean` makes it ready first.
.DEFAULT_GOAL := help
SHELL := bash
BIN := .venv/bin
PYTHON := $(BIN)/python
SOURCES := usenetfs tests scripts
ARGS ?=
FUZZ_SECONDS ?= 3600

.PHONY: help run test check lint format test-long fuzz bench-nntp bench-net bench-write bench-read bench-checkpoint bench-metadata bench-index bench-peers ready clean

help:              ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

ready:
	@scripts/bootstrap.sh

run: ready         ## show it working: server, filesystem, mount, real files in, everything read back
	@$(PYTHON) -m scripts.demo $(ARGS)

test: ready        ## the whole suite, a real INN and real mounts included (under 15 minutes)
	@$(PYTHON) -m scripts.run_tests $(ARGS)

check: lint        ## format, lint, types, layers, and the suite with coverage, held against its floor
	@$(PYTHON) -m scripts.run_tests --coverage $(ARGS)

lint: ready        ## format, lint, types, layers, dependencies, docs: everything but the tests
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(PYTHON) -m scripts.check_dependencies
	$(PYTHON) -m scripts.check_components
	$(PYTHON) -m scripts.man_page --check

format: ready      ## let ruff put the code in shape
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

test-long: ready   ## the long campaigns that `make test` leaves out: 1 GB trees, more kills
	@scripts/bootstrap.sh --long
	@$(PYTHON) -m scripts.run_tests -m slow --timeout 1800 $(ARGS)

fuzz: ready        ## the property tests with a hundred times the examples, then an hour of the NNTP fuzzer
	@HYPOTHESIS_PROFILE=fuzz $(PYTHON) -m scripts.run_tests -m hypothesis --timeout 0 $(ARGS)
	$(PYTHON) -m tests.fuzz.fuzz_nntp --seconds $(FUZZ_SECONDS)

bench-nntp: ready  ## speed of both NNTP roles without any network
	@$(PYTHON) -m tests.nntp.bench_nntp $(ARGS)

bench-peers: ready ## fetch the programs that benchmarks compare with: Nyuu (npm), NZBGet (Debian)
	@$(PYTHON) -m scripts.bench.peers

bench-net: ready   ## the news client beside the bare loop, Nyuu and NZBGet; ARGS='--size 100MB --rounds 1'
	@$(PYTHON) -m scripts.bench.net $(ARGS)

bench-write: ready ## into the filesystem until seen: mount, upload, Nyuu, bare loop; ARGS='--only tree'
	@$(PYTHON) -m scripts.bench.write $(ARGS)

bench-read: ready  ## out of the filesystem, cold, near and far; ARGS='--only seq --size 200MB'
	@$(PYTHON) -m scripts.bench.read $(ARGS)

bench-checkpoint: ready ## what a checkpoint of a million files costs, and how long a mount waits; ARGS=100000
	@$(PYTHON) -m scripts.bench.checkpoint $(ARGS)

bench-metadata: ready ## many small files, names, attributes: mount, local disk, a filesystem that does nothing
	@$(PYTHON) -m scripts.bench.metadata $(ARGS)

bench-index: ready ## the index as it grows: rates, latencies, octets, memory; ARGS='--files 10k,5M --record'
	@$(PYTHON) -m scripts.bench.index $(ARGS)

clean:             ## forget the virtual environment and every cache
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* *.egg-info
