# Everything here does its own set-up. Needed beforehand: Go, Node.js with npm, Rust with cargo, a C compiler.
# PostgreSQL is taken from local binaries, else from a package of embedded ones.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PROFILE ?= quick
SCENARIO ?=
CONTENDER ?=
ENGINE ?= auto
SEED ?=
OUT ?=
CAPACITY ?=
SLO ?=
SIZE ?= standard
RUN ?=
RESUME ?=
MARGIN ?=
POWER ?=

LOADTEST := bin/loadtest
comma := ,
# What is to be built besides `make build` for the arms that CONTENDER names.
arms_named = $(foreach arm,rust-system-malloc rust-jemalloc rust-steal-counts,$(if $(findstring $(arm),$(CONTENDER)),build-$(arm))) $(if $(findstring rust-per-core,$(CONTENDER)),build-rust-steal-counts)
# Those that the scenarios have which are measured; the profile nightly measures all.
scenarios_named = $(subst $(comma), ,$(SCENARIO)) $(if $(filter nightly,$(PROFILE)),all)
scenario_arms = $(if $(filter allocator all,$(scenarios_named)),build-rust-system-malloc build-rust-jemalloc) $(if $(filter work-stealing all,$(scenarios_named)),build-rust-steal-counts)
flag = $(if $(strip $(2)),--$(1) '$(2)')
# What is to be built before servers run by ENGINE, where processes of some arms need $(1) as well. Containers' servers are built
# in containers: they take GraphiQL's files from here, and the proof of conformance asks its audits with the machine's Node.
# What auto will take is known to bin/loadtest alone, and what --resume goes on with to its record, so both have everything.
servers = $(if $(and $(filter docker,$(ENGINE)),$(if $(strip $(RESUME)),,containers)),build-loadtest build-graphiql need-node,build $(1))

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24
	@echo
	@echo '  Settings of compare: PROFILE=smoke|quick|standard|nightly SCENARIO=all|ID,… CONTENDER= ENGINE= SEED= OUT= MARGIN= POWER= CAPACITY=true|false SLO=p99=100ms RESUME='
	@echo '  Settings of bench-agent: ROUNDS= DURATION= SEED='
	@echo '  Settings of bench-faults: ENGINE= ROUNDS= SEED='
	@echo '  Settings of serve and up: SIZE=small|standard'

.PHONY: compare
compare: $(call servers,$(or $(scenario_arms),$(arms_named))) ## Prove the servers equal, measure them, print what they cost
	$(LOADTEST) compare $(if $(strip $(RESUME)),--resume '$(RESUME)',$(call flag,profile,$(PROFILE)) $(call flag,scenario,$(SCENARIO)) $(call flag,contender,$(CONTENDER)) $(call flag,engine,$(ENGINE)) $(call flag,seed,$(SEED)) $(call flag,out,$(OUT)) $(call flag,margin,$(MARGIN)) $(call flag,power,$(POWER)) $(if $(strip $(CAPACITY)),--capacity='$(CAPACITY)') $(call flag,slo,$(SLO)))

.PHONY: conformance
conformance: $(call servers,$(if $(strip $(CONTENDER)),$(arms_named),build-arms)) ## Prove that the servers answer as the contract asks
	$(LOADTEST) conformance $(call flag,contender,$(CONTENDER)) $(call flag,engine,$(ENGINE))

.PHONY: serve
serve: $(call servers,$(arms_named)) ## Run one server with its database: make serve CONTENDER=node
	$(LOADTEST) serve --contender '$(or $(strip $(CONTENDER)),go)' $(call flag,engine,$(ENGINE)) --size '$(SIZE)' --env GRAPHIQL=on

.PHONY: report
report: build-loadtest ## Make page, pictures and README of a run anew: make report RUN=results/local/…
	@test -n '$(strip $(RUN))' || { echo 'make report: RUN= is empty; name a run, as in RUN=results/local/2026-01-31T120000Z-quick' >&2; exit 2; }
	$(LOADTEST) report '$(RUN)'

.PHONY: publish
publish: build-loadtest ## Put a run into results/ and the README: make publish RUN=results/local/…
	@test -n '$(strip $(RUN))' || { echo 'make publish: RUN= is empty; name a run, as in RUN=results/local/2026-01-31T120000Z-quick' >&2; exit 2; }
	$(LOADTEST) publish '$(RUN)' --update README.md --guide docs/DECIDING.md

.PHONY: up
up: ## Run all three servers in containers, with GraphiQL (docker-compose.yml)
	scripts/stack up --size '$(SIZE)'

.PHONY: down
down: ## Remove what make up started, with its data
	scripts/stack down

.PHONY: doctor
doctor: build-loadtest ## Say what this machine can do, and what to do about what is missing
	$(LOADTEST) doctor

.PHONY: bench-servers
bench-servers: $(call servers,$(arms_named)) ## CPU per request of an arm beside its floor, over the headline operations
	$(LOADTEST) bench-servers $(call flag,contender,$(CONTENDER)) $(call flag,engine,$(ENGINE)) $(call flag,seed,$(SEED)) $(call flag,out,$(OUT)) $(call flag,update,$(UPDATE))

.PHONY: bench-agent
bench-agent: build-loadtest ## CPU per request and punctuality of the load generator, beside others
	$(LOADTEST) bench-agent $(call flag,rounds,$(ROUNDS)) $(call flag,duration,$(DURATION)) $(call flag,seed,$(SEED))

.PHONY: bench-faults
bench-faults: build-loadtest ## What the fault proxy adds to a round trip, and how exact its delays are
	$(LOADTEST) bench-faults $(call flag,engine,$(ENGINE)) $(call flag,rounds,$(ROUNDS)) $(call flag,seed,$(SEED))

# Not in CI: it takes an hour, and a machine that has that hour for it alone.
.PHONY: audit
audit: $(call servers) ## Measure what is known beforehand, and say whether the lab finds it: make audit UPDATE=docs/METHODOLOGY.md
	$(LOADTEST) audit $(call flag,contender,$(CONTENDER)) $(call flag,engine,$(ENGINE)) $(call flag,seed,$(SEED)) $(call flag,out,$(OUT)) $(call flag,update,$(UPDATE))

# Not in CI as a whole: it takes an hour and a half.
.PHONY: self-test
self-test: build-loadtest ## Make each scenario's claim true and false with servers of known behaviour: make self-test SCENARIO=replica
	LAB_DOUBLES='$(or $(strip $(SCENARIO)),all)' go -C loadtest test -count=1 -timeout 120m -run TestClaimsFollowDoubles -v .

# Not in CI as a whole: it takes most of an hour.
.PHONY: self-test-real
self-test-real: build-loadtest build-go build-node ## Inject a factor of two into a real server in each scenario, which has to be decided: make self-test-real SCENARIO=replica
	LAB_INJECT_ENGINE='$(filter-out auto,$(ENGINE))' LAB_INJECT='$(or $(strip $(SCENARIO)),all)' go -C loadtest test -count=1 -timeout 120m -run TestAFactorOfTwoIsDecidedOnRealServers -v .

FUZZTIME ?= 30s
.PHONY: fuzz
fuzz: build-loadtest ## Fuzz every parser of the orchestrator: make fuzz FUZZTIME=10s for each
	@cd loadtest && grep -rn '^func Fuzz' --include='*_test.go' . | sed -E 's|^\./(.*)/[^/]*_test.go:[0-9]+:func (Fuzz[A-Za-z0-9]+).*|\1 \2|' | while read -r package name; do \
		echo "$$package $$name"; go test -run '^$$' -fuzz "^$$name\$$" -fuzztime '$(FUZZTIME)' -fuzzminimizetime 50x "./$$package" </dev/null || exit 1; done

.PHONY: test
test: build test-go test-node test-rust test-loadtest test-conformance ## Run all tests

.PHONY: test-loadtest
# Three packages at once, since they wait for servers and databases more than they compute; the longest first.
test-loadtest: build-loadtest need-node
	scripts/with-database go -C loadtest test -p 3 -timeout 20m ./internal/conformance . ./internal/report ./...

.PHONY: test-go
test-go: build-go build-loadtest
	scripts/with-database go -C go-server test -timeout 10m ./...

.PHONY: test-node
test-node: build-node build-loadtest
	scripts/with-database npm --prefix node-server test

.PHONY: build-rust-tests
build-rust-tests: need-rust
	cargo test --manifest-path rust-server/Cargo.toml --locked --no-run

.PHONY: test-rust
test-rust: need-rust build-loadtest
	scripts/with-database cargo test --manifest-path rust-server/Cargo.toml --locked

.PHONY: test-conformance
# The seed is fixed: a test that meets other queries each time could not be repeated. make conformance takes a new one.
# Workers are more than there may be cores, so that there are several. Other tiers, and arms in which several processes or
# runtimes answer, are asked the full form where it is quicker, as processes, and the short one in containers. Those that
# differ by a setting of the runtime or by how they are built are asked by make conformance, and before each comparison that
# they take part in.
BESIDE_MAINSTREAM := node-cluster+WORKERS=3,node-compiled,rust-per-core+WORKERS=3,go-floor,node-floor,rust-floor
test-conformance: build $(if $(filter docker,$(ENGINE)),,build-rust-steal-counts)
	$(LOADTEST) conformance --fresh --seed 1 --contender go,node,rust$(if $(filter docker,$(ENGINE)),,$(comma)$(BESIDE_MAINSTREAM)) $(call flag,engine,$(ENGINE))
	$(LOADTEST) conformance --fresh --seed 1 --form short --contender go+LOADER=off,node+LOADER=off,rust+LOADER=off,go+REPLICA=off,node+REPLICA=off,rust+REPLICA=off,go+MASTER=none,node+MASTER=none,rust+MASTER=none,go+MASTER=redis,node+MASTER=redis,rust+MASTER=redis,node-workers+WORKERS=2,node-workers-message+WORKERS=2,rust-current-thread,go-maxprocs-1$(if $(filter docker,$(ENGINE)),$(comma)$(BESIDE_MAINSTREAM)) $(call flag,engine,$(ENGINE))

.PHONY: lint
lint: need-go need-node need-rust build-node lint-scripts ## Check style and types in all languages
	@unformatted=$$(gofmt -l go-server loadtest); if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	go -C loadtest vet ./...
	go -C go-server vet ./...
	go -C loadtest tool staticcheck ./...
	cd go-server && "$$(go -C ../loadtest tool -n staticcheck)" ./...
	npm --prefix node-server run lint
	cd scripts && ../node-server/node_modules/.bin/biome check --error-on-warnings .
	cargo fmt --manifest-path rust-server/Cargo.toml --check
	cargo clippy --manifest-path rust-server/Cargo.toml --locked --all-targets -- -D warnings

# Folders that hold a module or a package have no scripts of the shell.
SCRIPTS := .ci/run $(shell find scripts -maxdepth 1 -type f ! -name '*.json') $(wildcard scripts/postgres/* scripts/stand-ins/*)
.PHONY: lint-scripts
lint-scripts: need-go
	@if command -v shellcheck >/dev/null; then shellcheck $(SCRIPTS); \
	elif [ -n "$${CI:-}" ]; then echo 'Missing: shellcheck. On Debian: apt-get install shellcheck' >&2; exit 2; \
	else echo 'not checked: scripts (no shellcheck here)' >&2; fi
	GOWORK=off go -C scripts/tools tool actionlint -shellcheck= $(CURDIR)/.github/workflows/*.yml

.PHONY: generate
generate: need-go build-loadtest ## Make generated sources and expected answers anew
	go -C go-server generate ./...
	scripts/with-database --derive

.PHONY: build build-go build-node build-rust build-loadtest build-graphiql build-charts
build: build-loadtest build-go build-node build-rust build-graphiql ## Build the three servers and bin/loadtest

build-loadtest: build-charts need-go
	go build -trimpath -o bin/loadtest ./loadtest

# What the report's charts are drawn with, from its packages, to be embedded in bin/loadtest.
CHART_ASSETS := loadtest/internal/chart/assets
build-charts: $(CHART_ASSETS)/resvg.wasm

scripts/charts/node_modules/.package-lock.json: scripts/charts/package.json scripts/charts/package-lock.json | need-node
	npm --prefix scripts/charts ci --no-audit --no-fund --loglevel=error
	@touch $@

# build.mjs writes resvg.wasm last.
$(CHART_ASSETS)/resvg.wasm: scripts/charts/build.mjs scripts/charts/echarts.mjs scripts/charts/node_modules/.package-lock.json
	node scripts/charts/build.mjs
	@touch $@

build-go: need-go
	go build -trimpath -o bin/go-server ./go-server

build-node: node-server/node_modules/.package-lock.json

node-server/node_modules/.package-lock.json: node-server/package.json node-server/package-lock.json | need-node
	npm --prefix node-server ci --no-audit --no-fund --loglevel=error
	@scripts/need pinned-node || { rm -f $@; exit 2; }
	@touch $@

# GraphiQL's own files come from its package; the page around them is ours.
GRAPHIQL := graphiql.min.js graphiql.min.css react.production.min.js react-dom.production.min.js
build-graphiql: $(addprefix contract/graphiql/,$(GRAPHIQL))

scripts/graphiql/node_modules/.package-lock.json: scripts/graphiql/package.json scripts/graphiql/package-lock.json | need-node
	npm --prefix scripts/graphiql ci --no-audit --no-fund --loglevel=error
	@touch $@

contract/graphiql/graphiql.min.%: scripts/graphiql/node_modules/.package-lock.json
	cp scripts/graphiql/node_modules/graphiql/graphiql.min.$* $@

contract/graphiql/react.production.min.js: scripts/graphiql/node_modules/.package-lock.json
	cp scripts/graphiql/node_modules/react/umd/react.production.min.js $@

contract/graphiql/react-dom.production.min.js: scripts/graphiql/node_modules/.package-lock.json
	cp scripts/graphiql/node_modules/react-dom/umd/react-dom.production.min.js $@

build-rust: need-rust
	cargo build --manifest-path rust-server/Cargo.toml --release --locked

# Arms that are built otherwise: their own target folder, and the dependencies of the default build.
.PHONY: build-arms build-rust-system-malloc build-rust-jemalloc build-rust-steal-counts
build-arms: build-rust-system-malloc build-rust-jemalloc build-rust-steal-counts ## Build the arms that differ in how they are built

build-rust-system-malloc build-rust-jemalloc: build-rust-%: need-rust
	CARGO_BUILD_BUILD_DIR=rust-server/target cargo build --manifest-path rust-server/Cargo.toml --release --locked --no-default-features --features $* --target-dir rust-server/target/$*

# A flag of the compiler, which tokio has to be built with as well.
build-rust-steal-counts: need-rust
	RUSTFLAGS='--cfg tokio_unstable' CARGO_BUILD_BUILD_DIR=rust-server/target cargo build --manifest-path rust-server/Cargo.toml --release --locked --target-dir rust-server/target/steal-counts

.PHONY: need-go need-node need-rust
need-go need-node need-rust: need-%:
	@scripts/need $*

.PHONY: clean
clean: ## Remove what was built and what is cached, but no results
	rm -rf bin node-server/node_modules rust-server/target scripts/graphiql/node_modules scripts/charts/node_modules $(addprefix $(CHART_ASSETS)/,*.js *.wasm *.ttf *.woff2) $(addprefix contract/graphiql/,$(GRAPHIQL))
	rm -rf "$${LAB_CACHE_DIR:-$${XDG_CACHE_HOME:-$$HOME/.cache}/polyglot-lab}"
