# What README's commands call. Everything is built below target/.

CARGO ?= cargo
MODULE = target/firstseen.wasm
FIRSTSEEN = target/release/firstseen
FUZZ_SECONDS ?= 60
# What is built is where the rest looks for it, whatever the caller's environment says.
export CARGO_TARGET_DIR = target

.PHONY: help build module demo test lint doc fuzz bench bench-fluent-bit bench-serve bench-vector clean

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 26

build: module ## The module (target/firstseen.wasm) and the host program (target/release/firstseen)
	$(CARGO) build --quiet --locked --release --package firstseen

module:
	./scripts/build-module
	./scripts/build-module --portable

demo: build ## Replay a made-up week of CloudTrail and show its alerts
	$(FIRSTSEEN) sample --asn-database target/sample-asn.mmdb > target/sample.ndjson
	$(FIRSTSEEN) replay --asn target/sample-asn.mmdb target/sample.ndjson

test: module ## Everything: lints, tests, documentation, fuzzing
	$(MAKE) --no-print-directory lint
	FIRSTSEEN_MODULE='$(CURDIR)/$(MODULE)' $(CARGO) test --locked --release --workspace --features firstseen-engine/compile
	$(MAKE) --no-print-directory doc
	$(MAKE) --no-print-directory fuzz
	@echo 'make test: all passed'

lint: module
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --release --workspace --all-targets --features firstseen-engine/compile -- -D warnings

doc:
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --quiet --locked --release --workspace --no-deps --document-private-items

fuzz: ## Each fuzz target for FUZZ_SECONDS (60)
	./scripts/fuzz $(FUZZ_SECONDS)

bench: build ## Speed, fuel, size and memory, in one table
	$(FIRSTSEEN) bench

bench-fluent-bit: module ## What firstseen costs in a real Fluent Bit (FLUENT_BIT), beside a pass-through module, Lua and grep
	FIRSTSEEN_MODULE='$(CURDIR)/$(MODULE)' $(CARGO) bench --quiet --locked --package firstseen --bench fluent-bit

bench-serve: build ## What goes through the sidecar, and how long it holds a batch up
	$(CARGO) bench --quiet --locked --package firstseen --bench serve

bench-vector: build ## What firstseen costs beside a real Vector (VECTOR), against conditions in VRL and dedupe
	$(CARGO) bench --quiet --locked --package firstseen --bench vector

clean:
	$(CARGO) clean
