# Everything starts here; `make help` lists the targets. Needs Python >= 3.11 and make; the rest is set up by itself.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NODE := $(shell command -v npm 2>/dev/null)
INPUT ?=
SPEED ?= 600

.DEFAULT_GOAL := help
.PHONY: help setup dashboard types run test lint format chaos conformance bench lock deploy-tools manifests clean

help: ## Show the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## Build .venv with every extra (run and test do it by themselves)

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

dashboard: services/dashboard/dist/index.html ## Build the dashboard (needs Node.js 20 or newer)

services/dashboard/node_modules/.package-lock.json: services/dashboard/package-lock.json
	cd services/dashboard && npm ci --no-audit --no-fund --loglevel=error

services/dashboard/dist/index.html: services/dashboard/node_modules/.package-lock.json $(shell find services/dashboard/src -type f) services/dashboard/index.html
	cd services/dashboard && npm run --silent build -- --logLevel warn
	@touch $@

types: setup services/dashboard/node_modules/.package-lock.json ## Make the browser's types from the Python models
	$(BIN)/python -m services.gateway.schema > services/dashboard/src/realtime/wire.schema.json
	cd services/dashboard && npm run --silent types

run: setup ## Run everything on http://127.0.0.1:8000 (INPUT=file.csv replays a file, SPEED=600 times faster)
	@$(if $(NODE),$(MAKE) --no-print-directory dashboard || echo "the dashboard is not built; the rest runs without it")
	@$(BIN)/veracity local $(if $(INPUT),--replay "$(INPUT)" --speed $(SPEED))

test: setup $(if $(NODE),dashboard) ## All tests, against the real nats-server, and in a browser where there is one
	$(BIN)/python -m pytest
	$(if $(NODE),cd services/dashboard && npm run --silent test)

lint: setup ## Format, style, types, import contract and unsafe calls
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(if $(NODE),$(MAKE) --no-print-directory services/dashboard/node_modules/.package-lock.json && cd services/dashboard && npm run --silent check)
	$(BIN)/bandit -q -c pyproject.toml -r services shared

format: setup ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

chaos: setup ## Kill gateways and brokers under load and count every event (make test does it small)
	CHAOS=full $(BIN)/python -m pytest -q -s tests/chaos

conformance: setup ## Every Autobahn case, the slow compression groups too
	CONFORMANCE=full $(BIN)/python -m pytest -q tests/integration/test_conformance.py

bench: setup ## Measure the gateway
	$(BIN)/python -m tests.bench

COMPILE = $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header

lock: setup ## Write the lock files anew from pyproject.toml
	$(COMPILE) --upgrade --extra dev --output-file requirements.lock pyproject.toml
	$(COMPILE) --constraint requirements.lock --extra gateway --extra publisher --extra scoring --extra build --output-file deploy/docker/requirements.lock pyproject.toml
	$(COMPILE) --constraint requirements.lock --extra deploy --output-file deploy/requirements.lock pyproject.toml

deploy-tools: setup ## Install what tests/deploy needs (Helm as a library, the Kubernetes schemas)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/requirements.lock

manifests: deploy-tools ## Render deploy/k8s anew from the chart
	$(BIN)/python -m tests.deploy.render

clean: ## Remove what was built or written, but not .venv
	rm -rf services/dashboard/dist services/dashboard/node_modules var dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
