# Everything starts here; `make help` lists the targets. Needs Python >= 3.11 and make; the rest is set up by itself.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INPUT ?=
SPEED ?= 600

.DEFAULT_GOAL := help
.PHONY: help setup run test lint format chaos conformance bench lock clean

help: ## Show the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## Build .venv with every extra (run and test do it by themselves)

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: setup ## Run everything on http://127.0.0.1:8000 (INPUT=file.csv replays a file, SPEED=600 times faster)
	@$(BIN)/veracity local $(if $(INPUT),--replay "$(INPUT)" --speed $(SPEED))

test: setup ## All tests, against the real nats-server
	$(BIN)/python -m pytest

lint: setup ## Format, style, types, import contract and unsafe calls
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
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

lock: setup ## Write requirements.lock anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --upgrade --extra dev --output-file requirements.lock pyproject.toml

clean: ## Remove what was built or written, but not .venv
	rm -rf var dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
