# Holdfast. `make help` lists the targets; `make demo` and `make test` are the two to know.

GO        ?= go
BIN       := bin/holdfast
TOOLS     := bin/tools
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# Pure Go and without paths of the building machine, so that the same sources give the same bytes everywhere.
BUILD     := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$(VERSION)"
# Packages at the same time, and the bound of one package's tests. The race detector needs cgo.
TESTP     ?= 2
TIMEOUT   ?= 40m
FUZZTIME  ?= 10s
# How long `make interop` lets hosts of both kinds contend.
TIME      ?= 10m
# The pool that `make jepsen` makes.
HOSTS     ?= 3
PROFILE   ?= dev
SOURCES   := $(shell find . -name '*.go' -not -path './tools/*' -not -path './bin/*' 2>/dev/null) go.mod go.sum

.DEFAULT_GOAL := build
.PHONY: help build demo test simulate simulate-short crash-states jepsen jepsen-short jepsen-catch race interop vmtest fuzz-short lint fmt check bench cover tidy clean judges tools guest-test

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: $(BIN) ## build bin/holdfast

$(BIN): $(SOURCES)
	$(BUILD) -o $@ ./cmd/holdfast

demo: build ## three hosts, one LUN, a killed SPM, and the real programs as judges; under two minutes
	@scripts/install-judges.sh demo
	@$(BIN) demo

judges: ## install lvm2, sanlock, qemu-img and friends where possible (CI=true: fail if one is missing)
	@scripts/install-judges.sh test

test: judges build simulate-short bin/holdfast-jepsen bin/jepsen ## all tests with the race detector, end-to-end tests included
	@GO="$(GO)" TESTP=$(TESTP) TIMEOUT=$(TIMEOUT) scripts/test.sh

# The race detector makes virtual time five times slower, so most of it runs without. One processor for each process: then a
# seed gives the same run to the nanosecond.
SIM := GOMAXPROCS=1 ../../bin/keeper.test -test.v -test.timeout

simulate-short: ## 10,000 seeds of the lease simulator, histories judged by porcupine, the planted mistakes to catch; the other simulators
	$(GO) test -run 'TestSim_oneHolder|TestShareSim|TestSim$$' ./leases ./mailbox
	$(GO) test -c -o bin/keeper.test ./leases/keeper
	@cd leases/keeper && rm -f ../../bin/sim.*.log; \
	(HOLDFAST_SIM_RUNS=5000 HOLDFAST_SIM_SEED=0 $(SIM) 20m -test.run 'TestSim_invariants|TestSim_reproducible' >../../bin/sim.1.log 2>&1) & one=$$!; \
	(HOLDFAST_SIM_RUNS=5000 HOLDFAST_SIM_SEED=5000 $(SIM) 20m -test.run 'TestSim_invariants|TestSim_catches' >../../bin/sim.2.log 2>&1) & two=$$!; \
	ok=0; wait $$one || ok=1; wait $$two || ok=1; \
	if [ $$ok = 0 ]; then grep -hE 'runs,|caught by' ../../bin/sim.*.log; else cat ../../bin/sim.*.log; exit 1; fi

simulate: ## the lease simulator for TIME=1h from a random seed on, or the trace of one SEED=
	$(GO) test -c -o bin/keeper.test ./leases/keeper
	@cd leases/keeper && HOLDFAST_SIM_TIME=$(TIME) HOLDFAST_SIM_SEED=$(SEED) $(SIM) 0 -test.run TestSim_long

crash-states: judges ## every crash state of all sequences of up to DEPTH=3 structural operations, recovered and judged; hours
	HOLDFAST_CRASH_DEPTH=$(or $(DEPTH),3) $(GO) test -count=1 -v -timeout 0 -run TestCrash_all ./jepsen/crash

race: test ## the same as test: there is no run without the race detector

interop: judges ## our hosts beside real sanlock daemons, contending for TIME (10m); make test does it for a minute
	HOLDFAST_INTEROP_TIME=$(TIME) CGO_ENABLED=1 $(GO) test -race -count=1 -v -timeout 0 ./leases/interop

# The program with the seams that failure injection needs: clocks that jump, and mistakes on demand. Never installed.
bin/holdfast-jepsen: $(SOURCES)
	$(BUILD) -tags jepsen -o $@ ./cmd/holdfast

bin/jepsen: $(SOURCES)
	$(GO) build -o $@ ./jepsen/run

JEPSEN := bin/jepsen -binary bin/holdfast-jepsen -hosts $(HOSTS) -profile $(PROFILE) $(if $(SEED),-seed $(SEED)) $(if $(FAULTS),-faults $(FAULTS)) $(if $(ALONE),-alone) $(if $(FENCING),-fencing)

jepsen: judges bin/holdfast-jepsen bin/jepsen ## real hosts under all faults for TIME (10m), judged; SEED=, HOSTS=3, PROFILE=dev, FAULTS=a,b, ALONE=1, FENCING=1
	$(JEPSEN) -time $(TIME)

jepsen-short: judges bin/holdfast-jepsen bin/jepsen ## the same for a minute and a half with power switches, as in make test
	@mkdir -p bin; if $(JEPSEN) -fencing -time 90s -seed $(or $(SEED),1) >bin/jepsen-short.log 2>&1; then grep -v level= bin/jepsen-short.log; else cat bin/jepsen-short.log; exit 1; fi

jepsen-catch: judges bin/holdfast-jepsen bin/jepsen ## plant each mistake in turn into the program, and see that the checkers find it
	$(JEPSEN) -catch -time $(or $(CATCH_TIME),90s)

vmtest: ## device-mapper and watchdog under Debian's kernel in QEMU, beside real lvm2; says so when it cannot run
	@$(GO) run ./internal/vmtest/run -go "$(GO)"

# What is put into the guest; it has no libraries.
bin/scribe: $(SOURCES)
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -o $@ ./internal/vmtest/scribe

guest-test: bin/scribe ## a real guest writes SIZE=4096 MiB to a thin volume of a pool whose SPM dies, through a full domain; says so when it cannot run
	@mkdir -p bin/vmtest
	HOLDFAST_GUEST_MIB=$(or $(SIZE),4096) $(GO) test -count=1 -v -timeout 90m -run '^TestGuest' ./cmd/holdfast

fuzz-short: ## every fuzz target for FUZZTIME (10s) each
	@GO="$(GO)" scripts/fuzz-short.sh $(FUZZTIME)

lint: tools ## gofmt, go vet, staticcheck, golangci-lint; versions pinned in tools/go.mod
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt: run 'make fmt' for"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(TOOLS)/staticcheck ./...
	$(TOOLS)/golangci-lint run ./...

fmt: ## gofmt every file
	gofmt -w $$(git ls-files '*.go')

check: lint test ## what CI runs: lint and test

bench: build ## the numbers of README next to the peers' own commands, as medians and ratios
	@scripts/install-judges.sh test
	@$(BIN) bench
	@$(GO) test -run '^$$' -bench '^BenchmarkTickGoals$$' -benchtime 1x ./cluster/manager | grep -E '^(WHAT|one tick|the same)'

cover: ## test coverage per package; coverage.html shows the lines
	$(GO) test -p $(TESTP) -timeout $(TIMEOUT) -coverprofile=coverage.out ./...
	$(GO) tool cover -html=coverage.out -o coverage.html
	$(GO) tool cover -func=coverage.out | tail -1

tidy: ## go mod tidy, in the tools module too
	$(GO) mod tidy
	cd tools && $(GO) mod tidy

clean: ## remove what the targets made
	rm -rf bin coverage.out coverage.html

tools: $(TOOLS)/staticcheck $(TOOLS)/golangci-lint

$(TOOLS)/staticcheck: tools/go.mod tools/go.sum
	cd tools && $(GO) build -o ../$@ honnef.co/go/tools/cmd/staticcheck

$(TOOLS)/golangci-lint: tools/go.mod tools/go.sum
	cd tools && $(GO) build -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
