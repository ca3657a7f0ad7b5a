# The commands of the project. Each installs what it needs first; see `make help`.
.DEFAULT_GOAL := help
.PHONY: help demo test build tools test-tools lint bench fuzz compose-test

help: ## Show these commands
	@sed -n 's/^\([a-z-]*\):.*## /  \1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: tools build ## Compile real projects through a farm on this machine and compare every object
	scripts/demo

test: test-tools lint ## Install what is missing, lint, and run every test
	scripts/test

build: ## Build target/release/jetcc and jetccd
	scripts/build

tools: ## Install what this machine lacks for building and for a farm on it
	@scripts/install-tools

test-tools: ## Install what this machine lacks for testing
	@scripts/install-tools tests

lint: ## Formatting, clippy and the rules of the house
	cargo fmt --check
	cargo clippy --quiet --locked --all-targets -- -D warnings
	cargo test --quiet --locked --test tidy

bench: tools build ## Measure jetcc beside whichever of its peers are installed
	benches/overhead
	benches/client
	benches/crates
	benches/security

fuzz: test-tools ## Fuzz every decoder of foreign bytes for a minute
	scripts/fuzz

compose-test: build ## Bring up docker-compose.yml and compile through it (needs docker and debootstrap)
	scripts/compose-test
