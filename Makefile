# Every command of the project; `make` alone lists them. Needs GNU make 4.3 and a POSIX shell.
#
# Nothing is checked only by CI: `.ci/run` runs the stages named in CHECKS, and so does
# `make check`.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

CARGO ?= cargo
# Extra flags for every cargo call; CI sets --locked.
CARGOFLAGS ?=
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
AGENT := $(TARGET_DIR)/release/agent

# Where `make install` puts things. DESTDIR is for those who build packages.
DESTDIR ?=
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
DATADIR ?= $(PREFIX)/share
UNITDIR ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
SYSCONFDIR ?= /etc

# What a change must pass, in the order in which a mistake shows soonest.
CHECKS := fmt-check lint doc test

##@ First

.PHONY: help
help: ## List the commands
	@awk 'BEGIN { FS = ":.*## "; print "make <command>, with the variables in brackets where they apply" } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: ## Install the Debian packages that are missing (asks sudo when not root)
	@CARGO='$(CARGO)' packaging/setup

.PHONY: demo
demo: setup build ## Set up, build, and show a failover between two real sites [ARGS]
	$(AGENT) demo $(ARGS)

.PHONY: test
test: setup ## Set up and pass every test
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	  set -- nextest run; \
	else \
	  set -- test --lib --bins --tests --no-fail-fast; \
	fi; \
	echo "$(CARGO) $$* $(CARGOFLAGS)"; \
	$(CARGO) "$$@" $(CARGOFLAGS)
	$(CARGO) test --doc $(CARGOFLAGS)

##@ While changing things

.PHONY: check
check: setup $(CHECKS) ## Exactly what CI runs: format, lints, documentation, tests

.PHONY: checks-list
checks-list: # for .ci/run
	@echo $(CHECKS)

.PHONY: fmt
fmt: ## Format the code
	$(CARGO) fmt

.PHONY: fmt-check
fmt-check: ## Say what is not formatted
	$(CARGO) fmt --check

.PHONY: lint
lint: ## Run clippy on everything; a warning is an error
	$(CARGO) clippy --all-targets $(CARGOFLAGS) -- -D warnings

.PHONY: doc
doc: ## Build the documentation; a broken link is an error
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --no-deps --document-private-items $(CARGOFLAGS)

.PHONY: bless
bless: ## Rewrite the expected outputs in tests/golden, to be read in review [T=test target]
	BLESS=1 $(CARGO) test $(if $(T),--test $(T),--tests) --no-fail-fast $(CARGOFLAGS)
	@git --no-pager diff --stat -- tests/golden

.PHONY: sim
sim: ## Simulate whole clusters, seeded [SEED, RUNS]
	$(if $(RUNS),SIM_RUNS='$(RUNS)') $(if $(SEED),SIM_SEED='$(SEED)') \
	  $(CARGO) test --release --test simulation $(CARGOFLAGS) -- --nocapture

# What of the lab runs: everything but the brown-outs, or only them, or one round again.
LAB_TESTS := $(or $(T),$(if $(BROWNOUT),s13_,$(if $(ROUND)$(FAULTS),s1_,s1_ s2_ s7_)))

LAB_ENV := LAB_FULL=1 $(foreach knob,SEED ROUNDS ROUND FAULTS JOBS RUNS AWAY SECONDS CALM,$(if $($(knob)),LAB_$(knob)='$($(knob))'))

.PHONY: lab
lab: setup ## Break real clusters, seeded [SEED, ROUNDS, ROUND, FAULTS, RUNS, BROWNOUT…]
	$(LAB_ENV) $(CARGO) test --test lab $(CARGOFLAGS) -- --nocapture --test-threads=1 $(LAB_TESTS)
	$(if $(filter s7_,$(LAB_TESTS)),$(LAB_ENV) \
	  $(CARGO) test --test pair $(CARGOFLAGS) -- --nocapture etcd_pair::i12_)

FUZZ_TARGETS := conninfo dotenv ini json properties template toml url yaml

# No sanitizer: there is no unsafe code to find mistakes in, and so the stable compiler will do.
.PHONY: fuzz
fuzz: ## Feed arbitrary bytes to what reads files [T=target, SECONDS]; needs cargo-fuzz
	set -e; for target in $(or $(T),$(FUZZ_TARGETS)); do \
	  mkdir -p $(TARGET_DIR)/fuzz/corpus/$$target $(TARGET_DIR)/fuzz/artifacts; \
	  $(CARGO) fuzz run -s none --target-dir $(TARGET_DIR)/fuzz $$target \
	    $(TARGET_DIR)/fuzz/corpus/$$target fuzz/seeds/$$target -- \
	    -max_total_time=$(or $(SECONDS),60) -max_len=4096 -timeout=10 -print_final_stats=1 \
	    -artifact_prefix=$(TARGET_DIR)/fuzz/artifacts/$$target-; \
	done

.PHONY: bench
bench: ## Measure [ARGS]
	$(CARGO) bench $(CARGOFLAGS) $(if $(ARGS),-- $(ARGS))

.PHONY: clean
clean: ## Remove everything that was built
	$(CARGO) clean

##@ Installing

.PHONY: build
build: ## Build the release binary
	$(CARGO) build --release --locked

# Only when there is none: `sudo make install` after `make build` must not need root's own cargo.
$(AGENT):
	$(CARGO) build --release --locked

.PHONY: install
install: $(AGENT) ## Install what `make build` built, units, man page, completions [PREFIX, DESTDIR]
	install -D -m 0755 $(AGENT) '$(DESTDIR)$(BINDIR)/agent'
	install -d '$(DESTDIR)$(UNITDIR)' '$(DESTDIR)$(DATADIR)/man/man1' \
	  '$(DESTDIR)$(DATADIR)/bash-completion/completions' \
	  '$(DESTDIR)$(DATADIR)/zsh/site-functions' '$(DESTDIR)$(DATADIR)/fish/vendor_completions.d'
	set -e; for unit in agent agent-witness; do \
	  sed 's|/usr/bin/agent|$(BINDIR)/agent|g' packaging/systemd/$$unit.service \
	    >'$(DESTDIR)$(UNITDIR)/'$$unit.service; \
	done
	install -d '$(DESTDIR)$(DATADIR)/agent'
	set -e; for drop_in in postgresql-gate agent-watchdog; do \
	  sed 's|/usr/bin/agent|$(BINDIR)/agent|g' packaging/systemd/$$drop_in.conf \
	    >'$(DESTDIR)$(DATADIR)/agent/'$$drop_in.conf; \
	done
	install -D -m 0644 packaging/sysusers.d/agent-witness.conf \
	  '$(DESTDIR)$(SYSUSERSDIR)/agent-witness.conf'
	$(AGENT) man >'$(DESTDIR)$(DATADIR)/man/man1/agent.1'
	$(AGENT) completions bash >'$(DESTDIR)$(DATADIR)/bash-completion/completions/agent'
	$(AGENT) completions zsh >'$(DESTDIR)$(DATADIR)/zsh/site-functions/_agent'
	$(AGENT) completions fish >'$(DESTDIR)$(DATADIR)/fish/vendor_completions.d/agent.fish'
	chmod 0644 '$(DESTDIR)$(UNITDIR)'/agent*.service '$(DESTDIR)$(DATADIR)/man/man1/agent.1' \
	  '$(DESTDIR)$(DATADIR)/bash-completion/completions/agent' \
	  '$(DESTDIR)$(DATADIR)/zsh/site-functions/_agent' \
	  '$(DESTDIR)$(DATADIR)/fish/vendor_completions.d/agent.fish'
	install -D -m 0644 agent.toml.example '$(DESTDIR)$(SYSCONFDIR)/agent/agent.toml.example'
