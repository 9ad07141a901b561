# LIME. `make help` lists what there is.

PROMPT ?= ROMEO:
# Through the environment: a prompt may hold quotes and dollars.
export PROMPT
# Absolute, so that tests find the binary from any crate's folder.
export LIME_BIN ?= $(CURDIR)/target/debug/lime

CRDS := crds/lime.dev.yaml
# What the chart installs is a copy: Helm reads nothing outside of a chart.
CHART_CRDS := charts/lime/crds-source/lime.dev.yaml

# What Rust calls this machine: with a target named, build scripts are not linked as the binary is.
HOST = $(shell rustc -vV | sed -n 's/^host: //p')

# The image: which binaries go in, and where it is written.
IMAGE_NAME ?= lime.dev/lime:dev
IMAGE_FROM ?= target/release
IMAGE := target/lime-image.tar
# The model in the image, which helm test serves.
BUNDLED := tests/fixtures/models/bard-2m
BUNDLED_FILES := config.json generation_config.json model.safetensors tokenizer.json tokenizer_config.json SOURCE.txt

.DEFAULT_GOAL := help
.PHONY: help run build install plugin everything test test-cluster test-simulated test-nodes walkthrough image image-archive check fmt clippy alone doc deny layers generated aarch64 bench generate clean

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: build ## Serve the bundled model from three small devices (PROMPT='...' sets what it is asked)
	./target/release/lime up -f manifests/bard.yaml --prompt "$$PROMPT"

build: ## Build the release binary, target/release/lime
	cargo build --release --locked --package lime

plugin: ## Build kubectl lime, one static binary, and pack it for krew: target/krew
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --package lime-kubectl --target $(HOST)
	operator/kubectl/pack.sh target/$(HOST)/release/kubectl-lime target/krew

# Where things are installed; DESTDIR goes before it, for packages.
PREFIX ?= /usr/local
SHARE = $(DESTDIR)$(PREFIX)/share

install: build ## Install lime, its manual's pages and its completions under PREFIX (/usr/local)
	install -D -m 0755 target/release/lime $(DESTDIR)$(PREFIX)/bin/lime
	target/release/lime man $(SHARE)/man/man1
	mkdir -p $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions $(SHARE)/fish/vendor_completions.d
	target/release/lime completions bash > $(SHARE)/bash-completion/completions/lime
	target/release/lime completions zsh > $(SHARE)/zsh/site-functions/_lime
	target/release/lime completions fish > $(SHARE)/fish/vendor_completions.d/lime.fish

test: everything ## Run every test, those end to end included; the last line counts them
	tests/counted --locked

# Binaries, tests and examples at once, for the whole workspace: crates asked for one by one would have their dependencies compiled
# again with other features.
everything:
	cargo build --locked --workspace --all-targets

test-cluster: everything ## Start a real Kubernetes control plane on loopback and run what needs one
	tests/cluster/cluster test
	LIME_OPERATOR_BIN=$(CURDIR)/target/debug/lime-operator LIME_KUBECTL_BIN=$(CURDIR)/target/debug/kubectl-lime \
		tests/cluster/cluster run -- cargo test --locked --workspace --test control_plane -- --ignored --test-threads=2

test-simulated: everything ## The operator against simulated nodes: scale, crashes, refusals (the same control plane)
	LIME_OPERATOR_BIN=$(CURDIR)/target/debug/lime-operator tests/cluster/cluster run -- \
		cargo test --locked --workspace --test simulated -- --ignored --test-threads=1 --nocapture

test-nodes: everything ## Start real nodes too, and serve a model from pods (root; runc and CNI plugins)
	$(MAKE) image-archive IMAGE_FROM=target/debug
	@[ -d charts/lime ] || echo "skipped: from helm install to tokens, since charts/lime is not there"
	LIME_IMAGE=$(CURDIR)/$(IMAGE) LIME_IMAGE_NAME=$(IMAGE_NAME) LIME_KUBECTL_BIN=$(CURDIR)/target/debug/kubectl-lime \
		tests/cluster/cluster run --nodes 3 --memory 1Gi -- \
		cargo test --locked --workspace --test nodes -- --ignored --test-threads=1 --nocapture \
		$(if $(wildcard charts/lime),,--skip operator:: --skip large:: --skip upheavals::)

walkthrough: everything ## From helm install to a streamed answer and a lost node, as docs/operations.md shows it (root)
	$(MAKE) image-archive IMAGE_FROM=target/debug
	LIME_IMAGE_NAME=$(IMAGE_NAME) tests/cluster/cluster run --nodes 3 -- \
		sh -c 'tests/cluster/cluster image $(IMAGE) && tests/cluster/walkthrough'

image: ## Pack lime, lime-operator and lime-agent as an OCI archive, without a container engine
	cargo build --release --locked --package lime --package lime-operator --package lime-agent
	$(MAKE) image-archive

image-archive:
	operator/image/rootfs.sh target/lime-image $(addprefix $(IMAGE_FROM)/,lime lime-operator lime-agent)
	install -D -m 0644 -t target/lime-image/usr/share/lime/models/bard-2m $(addprefix $(BUNDLED)/,$(BUNDLED_FILES))
	operator/image/oci-archive.sh target/lime-image $(IMAGE) $(IMAGE_NAME) /usr/local/bin/lime

check: fmt clippy alone doc deny layers generated aarch64 ## Format, lints, docs, licences, generated files, the other architecture

fmt:
	cargo fmt --all --check

clippy:
	cargo clippy --locked --workspace --all-targets -- -D warnings

# What is shipped is built crate by crate: in the whole workspace a dependency has the features that anybody asks for, and one that was
# forgotten is not missed.
alone:
	for crate in lime lime-operator lime-agent lime-kubectl; do cargo check --locked --package $$crate || exit 1; done

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

# Licences, sources and bans of deny.toml are a test (tests/tests/dependencies.rs); cargo-deny, where it is, knows advisories too.
deny:
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --locked check; \
	else cargo test --quiet --locked --workspace --test dependencies; fi

# Who may know whom, as a table: every arrow between our crates, and what nobody there links.
layers:
	@tests/layers

generated:
	@cargo build --quiet --locked --workspace --example crds
	@target/debug/examples/crds | diff -u $(CRDS) - \
	|| { echo "$(CRDS) is not what operator/api says: run make generate"; exit 1; }
	@cargo build --quiet --locked --workspace --example metrics
	@target/debug/examples/metrics | diff -u docs/metrics.md - || { echo "docs/metrics.md is not what is exported: run make generate"; exit 1; }
	@cmp $(CRDS) $(CHART_CRDS) || { echo "$(CHART_CRDS) is not $(CRDS): run make generate"; exit 1; }

aarch64:
	@if [ -f runtime/kernels/check-aarch64.sh ]; then bash runtime/kernels/check-aarch64.sh; \
	else echo "skipped: runtime/kernels/check-aarch64.sh is not there"; fi

bench: ## Measure decode, prefill and ring against this machine's own limits; prints ratios
	cargo run --release --locked --package lime-tests --bin lime-bench

generate: ## Write crds/, the chart's copy and docs/metrics.md from what the code says
	cargo build --quiet --locked --workspace --example crds
	target/debug/examples/crds > $(CRDS).tmp
	mv $(CRDS).tmp $(CRDS)
	cp $(CRDS) $(CHART_CRDS)
	cargo build --quiet --locked --workspace --example metrics
	target/debug/examples/metrics > docs/metrics.md.tmp
	mv docs/metrics.md.tmp docs/metrics.md

clean: ## Remove what was built
	cargo clean
