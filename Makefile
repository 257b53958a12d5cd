# Everything a laptop can do. It works as root or not, in a terminal or not; what the tests and the demo talk to
# (PostgreSQL, psql) is found on the machine or fetched into a private cache.

GO      ?= go
ARGS    ?=
FUZZTIME ?= 10s

.DEFAULT_GOAL := build

# The tag leaves out gRPC's debug pages, which nobody serves here: their templates would keep the linker from
# dropping 20 MB of unused methods.
.PHONY: build
build: compiler ## build sallyport and gatewayd into bin/ (2 to 3 minutes the first time: PostgreSQL's parser is C)
	$(GO) build -trimpath -tags grpcnotrace -o bin/ ./cmd/sallyport ./cmd/gatewayd

.PHONY: test
test: compiler ## find or fetch PostgreSQL and psql, then run all tests
	@echo "== set-up"
	$(GO) run ./internal/peers/prepare
	@echo "== tests (a first run compiles for 2 to 3 minutes)"
	$(GO) test -vet=off -timeout 10m ./...

.PHONY: test-forge
test-forge: compiler ## build a real Gitea once (5 minutes of processor time, then cached), and run the tests that talk to it
	$(GO) run ./internal/peers/prepare gitea
	$(GO) test -vet=off -count=1 -tags forge -timeout 10m -run 'Gitea' ./internal/peers ./reviews/forge ./policies/syncer ./cmd/demo

.PHONY: test-ssh
test-ssh: compiler ## find or fetch OpenSSH's server and rsync, and run the tests that drive ssh, scp, sftp, rsync and git
	$(GO) run ./internal/peers/prepare
	$(GO) test -vet=off -timeout 10m -run '.' ./gatewayd/sshd/... ./gatewayd/redact

.PHONY: test-kube
test-kube: compiler ## build a real Kubernetes API server, etcd and kubectl once (10 minutes of processor time, then cached), and drive them through gatewayd
	$(GO) run ./internal/peers/prepare kube
	$(GO) test -vet=off -count=1 -tags kube -timeout 15m -run "." ./gatewayd/kube/...
	$(GO) test -vet=off -count=1 -tags kube -timeout 10m -run TestKubectlByConnect ./cmd/sallyport

.PHONY: demo
demo: compiler ## play the whole story on real parts; ARGS=--keep leaves it running, ARGS=--json ends with figures
	$(GO) run ./cmd/demo $(ARGS)

.PHONY: bench
bench: compiler ## measure what the documentation promises
	$(GO) test -vet=off -run '^$$' -bench . -benchmem -timeout 30m ./...

.PHONY: bench-sync
bench-sync: compiler ## the way from a merge to a gateway, beside stock opa and git; ARGS="-reviews 100000" for other sizes
	$(GO) run ./internal/benchsync $(ARGS)

.PHONY: race
race: compiler ## run all tests under the race detector
	$(GO) test -vet=off -race -timeout 30m ./...

.PHONY: fuzz
fuzz: compiler ## fuzz each decoder for FUZZTIME (10s)
	GO="$(GO)" .ci/fuzz $(FUZZTIME)

.PHONY: lint
lint: compiler ## gofmt, go vet, staticcheck, govulncheck
	GO="$(GO)" .ci/lint

.PHONY: compiler
compiler:
	@cc=$$($(GO) env CC) && command -v $${cc%% *} >/dev/null || \
		{ echo "a C compiler is needed ($$cc was not found): apt-get install gcc libc6-dev, or: xcode-select --install" >&2; exit 1; }

.PHONY: clean
clean: ## remove bin/
	rm -rf bin

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
