# LIME. `make help` lists what there is.

PROMPT ?= ROMEO:
# Through the environment: a prompt may hold quotes and dollars.
export PROMPT
# Absolute, so that tests find the binary from any crate's folder.
export LIME_BIN ?= $(CURDIR)/target/debug/lime

CRDS := crds/lime.dev.yaml
# What the chart installs is a copy: Helm reads nothing outside of a chart.
CHART_CRDS := charts/lime/crds-source/lime.dev.yaml

.DEFAULT_GOAL := help
.PHONY: help run build test check fmt clippy doc deny generated aarch64 bench generate clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: build ## Serve the bundled model from three small devices (PROMPT='...' sets what it is asked)
	./target/release/lime up -f manifests/bard.yaml --prompt "$$PROMPT"

build: ## Build the release binary, target/release/lime
	cargo build --release --locked --package lime

test: ## Run every test, those end to end included
	cargo build --locked --package lime
	cargo test --locked --workspace

check: fmt clippy doc deny generated aarch64 ## Format, lints, docs, licences, generated files, the other architecture

fmt:
	cargo fmt --all --check

clippy:
	cargo clippy --locked --workspace --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

deny:
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --locked check; \
	else echo "skipped: cargo-deny is not installed (cargo install cargo-deny)"; fi

generated:
	@cargo run --quiet --locked --package lime-api --example crds | diff -u $(CRDS) - \
	|| { echo "$(CRDS) is not what operator/api says: run make generate"; exit 1; }
	@cmp $(CRDS) $(CHART_CRDS) || { echo "$(CHART_CRDS) is not $(CRDS): run make generate"; exit 1; }

aarch64:
	@if [ -f runtime/kernels/check-aarch64.sh ]; then bash runtime/kernels/check-aarch64.sh; \
	else echo "skipped: runtime/kernels/check-aarch64.sh is not there"; fi

bench: ## Measure decode, prefill and ring against this machine's own limits; prints ratios
	cargo run --release --locked --package lime-tests --bin lime-bench

generate: ## Write crds/ and the chart's copy from operator/api
	cargo run --quiet --locked --package lime-api --example crds > $(CRDS).tmp
	mv $(CRDS).tmp $(CRDS)
	cp $(CRDS) $(CHART_CRDS)

clean: ## Remove what was built
	cargo clean
