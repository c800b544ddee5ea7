# Every target needs Go; `test` and `demo` also a Postgres server, which they
# find or fetch by themselves, and `test` Node 20.9 with npm, and Chromium.

CADDY_VERSION := v2.11.9
MODULE_PATH   := github.com/seed-4adef13c/caddy-stale-session
TAGS          := nobadger,nomysql,nopgx
FUZZTIME      ?= 20s

export GOFLAGS := $(GOFLAGS) -tags=$(TAGS)

.PHONY: test
test: lint xcaddy ## all tests: formatting, lint, an xcaddy build, unit and integration tests with the race detector, a real app in a browser
	go test -race -count=1 -timeout 20m $$(go list ./... | grep -v '/e2e$$')
	go test -count=1 -timeout 20m -v ./e2e

.PHONY: e2e
e2e: xcaddy ## the tests in a browser alone; MODULE=off leaves the module out, which they have to notice
	MODULE=$(MODULE) go test -count=1 -timeout 20m -v ./e2e

.PHONY: build
build: ## Caddy with the module, as bin/caddy
	go build -trimpath -ldflags '-s -w' -o bin/caddy ./cmd/caddy

.PHONY: demo
demo: ## a real app on a real Postgres, with Caddy and the module in front; MODULE=off leaves the module out
	MODULE=$(MODULE) go run ./examples/demo

.PHONY: lint
lint: bin/golangci-lint
	bin/golangci-lint run ./...

# xcaddy is pinned in tools/go.mod. @v0.0.0 keeps it from asking for the
# versions of this checkout.
.PHONY: xcaddy
xcaddy: bin/xcaddy ## Caddy with the module, built as users build it, as bin/caddy-xcaddy
	GOFLAGS= XCADDY_GO_BUILD_FLAGS="-tags=$(TAGS) -trimpath -ldflags='-s -w'" bin/xcaddy build $(CADDY_VERSION) \
		--output bin/caddy-xcaddy --with $(MODULE_PATH)@v0.0.0=.
	bin/caddy-xcaddy list-modules | grep -x http.handlers.stale_session

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME
	@go test -list '^Fuzz' ./... | awk '/^Fuzz/ {t[n++]=$$1} /^ok/ {for (i=0;i<n;i++) print $$2, t[i]; n=0}' | \
		while read -r package target; do \
			echo "$$package $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$package" || exit 1; \
		done

.PHONY: bench
bench: ## measures the hot path, and whole processes with and without the module; writes docs/performance.md
	go build -trimpath -ldflags '-s -w' -o bin/caddy-bench ./bench/caddy
	go run ./bench $(BENCH)

bin/%: tools/go.mod
	cd tools && GOFLAGS= go build -o ../bin/$* $$(GOFLAGS= go list tool | grep "/$*$$")

.PHONY: help
help:
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
