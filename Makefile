# Tidemill. `make help` lists the targets.

GO      ?= go
BIN     := bin/broker
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.release=$(VERSION)
LINT     = $(CURDIR)/bin/golangci-lint
TESTSUM  = $(CURDIR)/bin/gotestsum
SEEDS   ?= 200000
FIRST   ?= 0
SIM     ?= ./wal/... ./sim
FUZZTIME ?= 20s
# The race detector needs a C compiler; without one the same tests run without it, so that Go alone is enough.
RACE    ?= $(if $(shell command -v $$($(GO) env CC) 2>/dev/null),-race)

.PHONY: help run cluster build test e2e sim lint fuzz bench gobench clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-8s %s\n", $$1, $$2}'

run: build ## run one broker on its embedded default: Kafka on 127.0.0.1:9092, data in ./broker-data
	$(BIN)

cluster: build ## run three brokers, etcd and MinIO on loopback: Kafka on 127.0.0.1:9092-9094, data in ./cluster-data
	$(GO) build -trimpath -o bin/localcluster ./internal/localcluster/cmd
	bin/localcluster

build: ## build bin/broker
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/broker

# The model checker counts states and the cluster's simulation lets one thing happen at a time: the race detector would only make them slow.
test: ## unit, property, simulation and contract tests under the race detector (needs Go alone)
	$(GO) test $(RACE) -timeout 60m $$($(GO) list ./... | grep -v -e /wal/model$$ -e /sim$$)
	$(GO) test -timeout 20m ./wal/model ./sim
	$(GO) test -C bench $(RACE) -timeout 30m ./...
	$(GO) test -C deploy/check ./...

e2e: build $(TESTSUM) ## real clients: Kafka Connect, MirrorMaker, Debezium, Kafka's tools, kcat, franz-go (needs JDK 17, Maven, apt)
	rm -rf e2e/.cache/logs
	./e2e/setup.sh
	cd e2e && $(TESTSUM) --format standard-verbose -- -count=1 -timeout 70m ./...

sim: ## the log and the cluster under many more seeds: make sim SEEDS=1000000 FIRST=200000, or SEED=42 SIM=./sim to replay one
	TIDEMILL_SIM_FIRST=$(FIRST) TIDEMILL_SIM_SEEDS=$(SEEDS) TIDEMILL_SIM_SEED=$(SEED) $(GO) test -count=1 -timeout 600m $(SIM) -run 'Sim|KnownBugs' -v

lint: $(LINT) ## gofmt, vet, golangci-lint
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo 'gofmt would change:'; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	cd e2e && $(GO) vet ./...
	cd bench && $(GO) vet ./...
	cd deploy/check && $(GO) vet ./...
	$(LINT) run ./...
	cd bench && $(LINT) run ./...
	cd deploy/check && $(LINT) run ./...

$(LINT): internal/tools/lint/go.mod
	cd internal/tools/lint && $(GO) build -o $(LINT) github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(TESTSUM): internal/tools/gotestsum/go.mod
	cd internal/tools/gotestsum && $(GO) build -o $(TESTSUM) gotest.tools/gotestsum

fuzz: ## every fuzz target for FUZZTIME each
	@for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep ^Fuzz); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	  done; done

bench: ## the broker, a null broker and Apache Kafka measured, about 25 minutes; BENCH="tail-fetch idle" picks scenarios
	$(GO) run -C bench . run -plots ../docs/img $(BENCH)

gobench: ## Go benchmarks: the whole broker in one process with its client, then its parts
	$(GO) test -C bench -run '^$$' -bench . -benchmem ./inprocess
	$(GO) test -run '^$$' -bench . -benchmem ./protocol/... ./wal/... ./partition/... ./objectstore/...

clean: ## remove what was built
	rm -rf bin
