# `make` lists what there is. Everything installs what it is missing, says what and why, and leaves nothing running.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo build test test-versions lint fmt unit blackbox fuzz bench bench-peers clean-cache

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
VENV := .cache/venv
# Programs of the PostgreSQL that tests and benchmarks start in temporary folders.
MAINSTEM_PG_BIN ?= /usr/lib/postgresql/15/bin
export MAINSTEM_PG_BIN
export MAINSTEM_PYTHON := $(CURDIR)/$(VENV)/bin/python
export MAINSTEM_WEED := $(CURDIR)/$(VENV)/bin/weed
# Scenarios that run at a time, each with servers of its own. More than this and two cores are only waited for.
SCENARIOS_AT_A_TIME ?= 4
# Options of the benchmark; see `make bench ARGS=--help`.
ARGS ?=

comma := ,
TEST ?=
# What `make fuzz` runs, and for how many seconds each; see scripts/fuzz.sh.
DECODER ?= all
SECONDS ?= 60
SERVERS ?=
# The fuzz targets are built with a feature of their own, so that nothing else takes their C++ code.
lint-fuzz = $(CARGO) clippy --workspace --features log-core/fuzzing --bin fuzz -- -D warnings
step = @printf '\n==> %s\n' "$(1)"

help: ## List the targets.
	@echo "Mainstem: changes of a database into files and warehouses, with one binary."
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Show it: a PostgreSQL, a pipeline into Parquet and SQLite, a kill -9, and the comparison. Two minutes after the build.
	@scripts/install.sh cargo cc
	$(call step,build (the first time about six minutes on two cores; nearly nothing after that))
	@$(CARGO) build -p mainstem
	$(call step,demo)
	@bin=$$(scripts/postgres-bin.sh) && exec $(TARGET)/debug/mainstem demo --pg-bin "$$bin"

build: ## Build the release binary: target/release/mainstem.
	@scripts/install.sh cargo cc
	$(CARGO) build --release --workspace --bins

test: .installed-for-tests ## Everything that has to hold: formatting, lints, unit tests, black-box tests, fuzz targets for five seconds each.
	$(call step,formatting)
	@$(CARGO) fmt --all --check
	$(call step,lints$(comma) warnings as errors)
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(lint-fuzz)
	$(call step,build of the tests)
	$(CARGO) test --workspace --no-run
	@$(CARGO) build --workspace --all-targets
	$(call step,tests: each crate's own$(comma) and the built binary against real servers ($(SCENARIOS_AT_A_TIME) scenarios at a time))
	@RUST_TEST_THREADS=$(SCENARIOS_AT_A_TIME) $(CARGO) test --workspace
	$(call step,fuzz targets: what decodes the log's files$(comma) for five seconds each (their first build takes a minute))
	@scripts/fuzz.sh all 5
	$(call step,all of it holds)

test-versions: .installed-for-tests ## The sources and the database sink with PostgreSQL 12 to 17, MySQL 8.0 and 8.4, MariaDB 10.5 and 11.8. SERVERS="mysql-8.0 …" for some.
	@RUST_TEST_THREADS=$(SCENARIOS_AT_A_TIME) scripts/test-versions.sh $(SERVERS)

lint: ## Formatting and lints only.
	@scripts/install.sh cargo cc cxx
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(lint-fuzz)

unit: .installed-for-tests ## What each crate promises, without the black-box tests. The connectors' tests start servers of their own.
	RUST_TEST_THREADS=$(SCENARIOS_AT_A_TIME) $(CARGO) test --workspace --exclude mainstem-tests

blackbox: .installed-for-tests ## The built binary against real servers, killed and compared. TEST=name runs the scenarios of that name.
	@$(CARGO) build --workspace --all-targets
	RUST_TEST_THREADS=$(SCENARIOS_AT_A_TIME) $(CARGO) test --workspace --test blackbox $(TEST)

fuzz: ## Mutated inputs for what decodes the log's files, guided by coverage. DECODER=journal for one target, SECONDS=3600 for each (0: until stopped).
	@scripts/install.sh cargo cc cxx
	$(call step,fuzz targets: $(DECODER)$(comma) $(SECONDS) seconds each)
	@scripts/fuzz.sh $(DECODER) $(SECONDS)

fmt: ## Format the code.
	$(CARGO) fmt --all

bench: .installed-for-tests ## Measure against the servers' own tools, pyarrow and C programs; writes docs/benchmarks.md. ARGS=--help lists options.
	@scripts/install.sh sqlite-dev mariadb-dev fio
	$(call step,release build (a cold one takes about 13 minutes on two cores))
	@$(CARGO) build --release --workspace --bins --example encode_rate --example log_bench
	$(call step,benchmark)
	@$(TARGET)/release/bench --binary $(TARGET)/release/mainstem $(ARGS)

bench-peers: ## Measure the log beside a real Kafka broker with its own tools; writes docs/benchmarks.md. ARGS=--help lists options.
	@scripts/install.sh cargo cc java
	@scripts/kafka.sh
	$(call step,release build of the log and the benchmark)
	@$(CARGO) build --release -p mainstem-tests --bin bench
	@$(CARGO) build --release -p log-core --example log_bench
	$(call step,benchmark)
	@$(TARGET)/release/bench --only kafka $(ARGS)

clean-cache: ## Remove the Python packages and servers in .cache (tests and benchmarks install them again).
	rm -rf .cache

.PHONY: .installed-for-tests
.installed-for-tests:
	@scripts/install.sh cargo cc cxx postgres15 venv strace openssl
	@scripts/venv.sh
	@scripts/unpack.sh mariadb
	@scripts/unpack.sh mysql
