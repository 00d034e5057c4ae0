# What people and CI run. `make help` lists it.
#
# What the recipes download stays in .cache, outside version control; CARGO_TARGET_DIR is respected.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

CARGO      ?= cargo
CACHE      := $(CURDIR)/.cache
KAFKA      := $(CACHE)/kafka
VENV       := $(CACHE)/venv
NODE       := $(CACHE)/node
PRODUCERS  := $(CACHE)/producers
RECEIVERS  := $(CACHE)/receivers
DENY_WANTED := 0.20.2
# Tests that wait need no core: more threads than cores.
TEST_THREADS ?= 8
# Those that compare delays, with and without something beside: other tests would decide.
ALONE := a_thousand_reloads a_hundred_thousand_bindings receivers_that_attack_are

# One that is installed already is used; else it is built once into .cache.
DENY := $(or $(shell command -v cargo-deny 2>/dev/null),$(CACHE)/tools/bin/cargo-deny)

# $(call need,COMMAND,PACKAGES): is it there; else apt installs it where root may, or the command that does is named.
need = command -v $(1) >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing $(2) for $(1)"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(2) >/dev/null; \
	  fi; \
	  command -v $(1) >/dev/null || { echo "$(1) is missing: sudo apt-get install $(2)"; exit 1; }; }
NEED_JDK := $(call need,javac,default-jdk-headless)
# 1.21 or later: where apt has an older one, https://go.dev/dl
NEED_GO := $(call need,go,golang-go)

.PHONY: help test demo bench chaos fuzz fmt lint deny unit integration kafka verifiers producers receivers tools clean-cache simulate

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

test: lint deny unit integration ## everything CI runs, on a real Apache Kafka; installs or names what is missing

demo: ## builds and shows callbacks being signed, retried, dead-lettered and replayed, in one process
	$(CARGO) build --release --locked --bin callbackd
	@target="$${CARGO_TARGET_DIR:-target}"; "$$target/release/callbackd" demo

bench: ## all budgets and curves, 40 minutes; parts with ONLY=endpoints,tls; six minutes with PROFILE=quick
	CALLBACKD_BENCH_ONLY="$(ONLY)" CALLBACKD_BENCH_PROFILE="$(PROFILE)" $(CARGO) bench --locked --bench callback

# Of `make chaos`: run N has the seed SEED + N; the first, the third, … have one broker, the others three.
RUNS   ?= 10
EVENTS ?= 100000
FAULTS ?= 20
RATE   ?= 1000
SEED   ?= 1

chaos: kafka tools ## long runs of faults on a real Kafka, judged by the checker (RUNS, EVENTS, FAULTS, RATE, SEED)
	CHAOS_RUNS=$(RUNS) CHAOS_EVENTS=$(EVENTS) CHAOS_FAULTS=$(FAULTS) CHAOS_RATE=$(RATE) CHAOS_SEED=$(SEED) \
	  $(CARGO) test --locked --release --test integration -- --exact --nocapture \
	  chaos::nothing_is_lost_and_only_what_a_fault_explains_is_repeated

# With a target named, build scripts and macros go without the flags. libFuzzer needs coverage in what it runs; these are the flags that cargo-fuzz sets, but for the sanitizers, which need a nightly compiler.
FUZZED       := decode retry_after headers offsets address registry answer
FUZZ_SECONDS ?= 600
FUZZ_HOST    := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
FUZZ_FLAGS   := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares

fuzz: ## coverage-guided fuzzing of what others write, FUZZ_SECONDS for each of FUZZED; what is found goes into fuzz/corpus
	RUSTFLAGS="$(FUZZ_FLAGS)" $(CARGO) build --release --locked --manifest-path fuzz/Cargo.toml --target-dir $(CACHE)/fuzz \
	  --target $(FUZZ_HOST)
	@for target in $(FUZZED); do \
	  mkdir -p $(CACHE)/fuzz-corpus/$$target; \
	  echo "== $$target, $(FUZZ_SECONDS) s"; \
	  $(CACHE)/fuzz/$(FUZZ_HOST)/release/$$target -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
	    -verbosity=0 -artifact_prefix=$(CACHE)/fuzz-corpus/$$target. $(CACHE)/fuzz-corpus/$$target fuzz/corpus/$$target; \
	done

fmt: ## formats the code
	$(CARGO) fmt --all

lint: ## format and lints, no warning allowed
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

deny: $(DENY) ## licences, bans, sources; advisories where their database can be reached
	"$(DENY)" --log-level error check bans licenses sources
	@if timeout 300 "$(DENY)" --log-level error check advisories >"$(CACHE)/advisories.log" 2>&1; then \
	  echo "advisories ok"; \
	elif grep -q "failed to fetch advisory database" "$(CACHE)/advisories.log"; then \
	  echo "ADVISORIES NOT CHECKED: the advisory database cannot be reached from here."; \
	else \
	  cat "$(CACHE)/advisories.log"; exit 1; \
	fi

simulate: ## many seeds of the simulation: SEEDS=100000 FIRST=0; one that fails prints its number, FIRST=<it> SEEDS=1 LINES=1000000 its whole trace
	@SEEDS="$${SEEDS:-100000}" FIRST="$${FIRST:-0}" $(CARGO) test --locked --release --lib -- --nocapture --exact delivery::tests::simulation::no_seed_violates_an_invariant

unit: ## unit tests
	@$(call need,ip,iproute2)
	@$(call need,unshare,util-linux)
	$(CARGO) test --locked --lib --bins

integration: kafka verifiers producers receivers tools ## integration tests: the binary on a real Apache Kafka
	$(CARGO) test --locked --test integration -- --test-threads=1 $(ALONE)
	$(CARGO) test --locked --test integration -- --test-threads=$(TEST_THREADS) $(addprefix --skip ,$(ALONE))

kafka: $(KAFKA)/.complete ## the jars of Apache Kafka, through Maven

verifiers: $(VENV)/.complete $(NODE)/.complete ## the public Standard Webhooks libraries of Python and Node

producers: $(PRODUCERS)/python/.complete $(PRODUCERS)/go/.complete ## what upstreams produce with: the Kafka clients of Python and Go

receivers: $(RECEIVERS)/node/.complete $(RECEIVERS)/java/.complete $(RECEIVERS)/go/.complete ## what the examples for receivers need: the libraries of Node, Java and Go

tools: ## promtool, Java, kcat and curl, which the tests call
	@$(call need,promtool,prometheus)
	@$(call need,java,default-jre-headless)
	@$(NEED_JDK)
	@$(call need,kcat,kcat)
	@$(call need,curl,curl)

$(KAFKA)/.complete: tests/kafka/pom.xml
	@$(call need,mvn,maven default-jdk-headless)
	rm -rf "$(KAFKA)" && mkdir -p "$(KAFKA)"
	mvn -q -B -f tests/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory="$(KAFKA)" -DincludeScope=runtime
	touch "$@"

# Both pin the same library: should they ever differ, pip says so.
$(VENV)/.complete: tests/verifiers/requirements.txt examples/receivers/python/requirements.txt
	rm -rf "$(VENV)" && mkdir -p "$(CACHE)"
	python3 -m venv "$(VENV)" || { echo "Python's venv is missing: sudo apt-get install python3-venv"; exit 1; }
	"$(VENV)/bin/pip" install --quiet --disable-pip-version-check -r tests/verifiers/requirements.txt -r examples/receivers/python/requirements.txt
	touch "$@"

$(NODE)/.complete: tests/verifiers/package.json tests/verifiers/package-lock.json
	@command -v npm >/dev/null || { echo "npm is missing: sudo apt-get install nodejs npm"; exit 1; }
	rm -rf "$(NODE)" && mkdir -p "$(NODE)"
	cp tests/verifiers/package.json tests/verifiers/package-lock.json "$(NODE)"
	cd "$(NODE)" && npm ci --silent --no-audit --no-fund
	touch "$@"

$(PRODUCERS)/python/.complete: tests/producers/requirements.txt
	rm -rf "$(PRODUCERS)/python" && mkdir -p "$(PRODUCERS)"
	python3 -m venv "$(PRODUCERS)/python" || { echo "Python's venv is missing: sudo apt-get install python3-venv"; exit 1; }
	"$(PRODUCERS)/python/bin/pip" install --quiet --disable-pip-version-check -r tests/producers/requirements.txt
	touch "$@"

$(PRODUCERS)/go/.complete: $(wildcard tests/producers/go/*)
	@$(NEED_GO)
	mkdir -p "$(PRODUCERS)/go"
	cd tests/producers/go && go build -o "$(PRODUCERS)/go/producer" .
	touch "$@"

$(RECEIVERS)/node/.complete: examples/receivers/node/package.json examples/receivers/node/package-lock.json
	@command -v npm >/dev/null || { echo "npm is missing: sudo apt-get install nodejs npm"; exit 1; }
	rm -rf "$(RECEIVERS)/node" && mkdir -p "$(RECEIVERS)/node"
	cp examples/receivers/node/package.json examples/receivers/node/package-lock.json "$(RECEIVERS)/node"
	cd "$(RECEIVERS)/node" && npm ci --silent --no-audit --no-fund
	touch "$@"

# Receiver.java is compiled as it is started, by the JDK.
$(RECEIVERS)/java/.complete: examples/receivers/java/pom.xml $(KAFKA)/.complete
	@$(NEED_JDK)
	rm -rf "$(RECEIVERS)/java" && mkdir -p "$(RECEIVERS)/java"
	mvn -q -B -f examples/receivers/java/pom.xml dependency:copy-dependencies -DoutputDirectory="$(RECEIVERS)/java" -DincludeScope=runtime
	touch "$@"

# Built once here, so that the tests' own build finds modules and packages in Go's caches.
$(RECEIVERS)/go/.complete: examples/receivers/go/go.mod examples/receivers/go/go.sum examples/receivers/go/main.go
	@$(NEED_GO)
	rm -rf "$(RECEIVERS)/go" && mkdir -p "$(RECEIVERS)/go"
	cd examples/receivers/go && go vet . && go build -o "$(RECEIVERS)/go/receiver" .
	touch "$@"

$(CACHE)/tools/bin/cargo-deny:
	CARGO_TARGET_DIR="$(CACHE)/tools/build" $(CARGO) install --locked cargo-deny --version $(DENY_WANTED) --root "$(CACHE)/tools"
	rm -rf "$(CACHE)/tools/build"

clean-cache: ## removes what the recipes downloaded
	rm -rf "$(CACHE)"
