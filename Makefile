# The one list of commands. Works on a fresh Debian machine with Rust, make and apt.

# What apt must bring, all of it named here: nft (kube-proxy works with it, and tests read our tables
# back), ip (tests look at namespaces), curl (tests ask servers with it), a C compiler (for ring), what
# Debian's runc is linked to, QEMU, depmod and cpio for the tests on another kernel, and Prometheus (a
# test lets it scrape the shops of a lab). Go 1.26 or later builds the Kubernetes programs and is no package
# of Debian 12.
APT_PACKAGES := nftables iproute2 curl build-essential libseccomp2 qemu-system-x86 kmod cpio prometheus
# Packages bring them and would start them; they are masked first, because tests start their own.
APT_SERVICES := prometheus.service
CARGO_DENY_VERSION := 0.20.2

# Root needs no sudo and may not have it.
SUDO := $(if $(filter 0,$(shell id -u)),env,sudo -E env "PATH=$(PATH)")
BIN := $(or $(CARGO_TARGET_DIR),target)/release

# A sample of crash points has so many points, and so many of a conductor; the seed is the time unless it is
# given.
POINTS := 504
CONDUCTED := 4
CRASH_OPTIONS := $(if $(SEED),--seed $(SEED)) $(foreach scene,$(SCENE),--scene $(scene))
MISTAKES := journal-after forgets-undo restores-default

.PHONY: help setup setup-apt setup-deny cluster-programs guest-kernel build check lint deny test guest \
	crash-sample crash-sampled crash crash-mistakes bench-undo bench-verdict bench-probes bench-flaws lab demo clean

help: ## Say what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: setup-apt setup-deny cluster-programs guest-kernel ## Install what this machine lacks

setup-apt:
	@missing=""; for package in $(APT_PACKAGES); do \
	  dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' \
	    || missing="$$missing $$package"; done; \
	if [ -n "$$missing" ]; then echo "apt-get install$$missing"; \
	  for service in $(APT_SERVICES); do \
	    dpkg-query -W -f='$${Status}' $${service%.service} 2>/dev/null | grep -q 'ok installed' \
	      || { $(SUDO) mkdir -p /etc/systemd/system; \
	           $(SUDO) ln -sf /dev/null /etc/systemd/system/$$service; }; done; \
	  $(SUDO) apt-get update -q && \
	  $(SUDO) DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -qy --no-install-recommends $$missing; fi

setup-deny:
	@cargo deny --version >/dev/null 2>&1 \
	  || { echo "installing cargo-deny (about 3 minutes)"; \
	       cargo install cargo-deny --version $(CARGO_DENY_VERSION) --locked; }

cluster-programs: setup-apt ## Build and unpack what Kubernetes cells run, once, into /var/cache/cellwall
	$(SUDO) tests/controlplane/build.sh

guest-kernel: setup-apt ## Unpack the kernel that some tests boot in QEMU, once, into /var/cache/cellwall
	$(SUDO) tests/guest/fetch-kernel.sh

build: ## Build the release binaries into target/release
	cargo build --release --workspace --locked
	@# The shop again for containers, which have no libraries; a copy, because cargo test links its own.
	cargo rustc --release --locked -p shop --bin shop-static -- -C target-feature=+crt-static -C strip=symbols
	@cmp -s $(BIN)/shop-static $(BIN)/shop.static || cp $(BIN)/shop-static $(BIN)/shop.static

lint:
	cargo fmt --all --check
	@# Modules that a macro declares are invisible to cargo fmt.
	rustfmt --edition 2024 --check scenarios/src/faults/*.rs scenarios/src/asks/*.rs probes/src/askers/*.rs \
	  lab/src/flaw/*.rs
	@# The release profile shares build scripts and macros with the build that follows.
	cargo clippy --release --workspace --all-targets --locked -- -D warnings

deny: setup-deny
	cargo deny --log-level error check bans licenses sources

check: lint deny ## Format, clippy, licences

# Every tier in one go; tests that need root are #[ignore]d for a plain `cargo test` and run here.
# One test at a time: drills measure time, and the machine may be small.
test: setup check build ## Install what is missing, run every check and test
	CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER='$(SUDO)' \
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER='$(SUDO)' \
	cargo test --release --workspace --locked -- --include-ignored --test-threads=1 \
	  $$($(SUDO) tests/lacks.sh)
	$(MAKE) crash-sampled SEED=1
	$(SUDO) $(BIN)/flaws --sample 3 --seed 1 --calm
	$(SUDO) $(BIN)/guest --seed 1

guest: guest-kernel build ## Prove on another kernel, in QEMU: power cut, netem, cgroup v2, OOM, clock jumps
	$(SUDO) $(BIN)/guest $(if $(SEED),--seed $(SEED))

crash-sample: build ## Kill agents, guardians and conductors at a sample of system calls; SEED=N and SCENE=NAME repeat
	@$(MAKE) crash-sampled

# Of programs that are built.
crash-sampled:
	$(SUDO) $(BIN)/crash --sample $(POINTS) $(CRASH_OPTIONS)
	$(SUDO) $(BIN)/crash conductor --sample $(CONDUCTED) $(if $(SEED),--seed $(SEED))

crash: build ## Kill agents and guardians at every system call (takes an hour of all that 2 cores have)
	$(SUDO) $(BIN)/crash --all --jobs 8 $(CRASH_OPTIONS)

# Agents with a planted mistake are built beside the product, never in its place, and its calls are
# counted with the product: each mistake must be found at a point. 4 is residue; any other answer means
# that it was not found, or something else went wrong.
crash-mistakes: build ## Show that the harness finds what it must: agents with planted mistakes
	@for mistake in $(MISTAKES); do \
	  cargo build --quiet --locked -p cellwall-agent --features mistake-$$mistake \
	    --target-dir $(BIN)/../mistakes || exit 1; \
	  echo "planted: $$mistake"; \
	  $(SUDO) $(BIN)/crash --sample $(POINTS) $(CRASH_OPTIONS) --until-residue \
	    --agent $(BIN)/../mistakes/debug/cellwall-agent --counted-by $(BIN)/cellwall-agent; \
	  code=$$?; if [ $$code -ne 4 ]; then \
	    echo "the planted mistake $$mistake was not found (exit code $$code)"; exit 1; fi; \
	  echo "found: $$mistake"; done
	@cargo build --quiet --locked -p cellwall-agent --features mistake-ignores-lease \
	  --target-dir $(BIN)/../mistakes
	@echo "planted: ignores-lease"; \
	$(SUDO) $(BIN)/crash conductor --sample $(CONDUCTED) --seed 1 --agent $(BIN)/../mistakes/debug/cellwall-agent; \
	code=$$?; if [ $$code -ne 4 ]; then \
	  echo "the planted mistake ignores-lease was not found (exit code $$code)"; exit 1; fi; \
	echo "found: ignores-lease"

bench-undo: ## Measure how soon faults end, what arming costs, what an agent holds; BENCH_OPTIONS="--runs 100"
	CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER='$(SUDO)' \
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER='$(SUDO)' \
	cargo bench --locked -p cellwall-agent --bench undo -- $(BENCH_OPTIONS)

bench-verdict: ## Measure the verdict of an hour of 100 cells: time from the file on, and memory
	cargo bench --locked --workspace --bench verdict

bench-probes: ## Measure how many probes one core sends in time
	cargo bench --locked --workspace --bench rate

bench-flaws: build ## Plant every flaw in a lab, break its first cloud, print what was found; BENCH_OPTIONS="--isolated-runs 100"
	$(SUDO) $(BIN)/flaws $(BENCH_OPTIONS)

lab: cluster-programs build ## Bring up three Kubernetes cells on this machine
	$(SUDO) $(BIN)/cellwall lab up

demo: cluster-programs build ## Black-hole one cloud of a lab and judge it
	$(SUDO) $(BIN)/cellwall demo

clean:
	cargo clean
