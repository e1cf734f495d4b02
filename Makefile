# What can be done here: make help. Nothing is installed outside .venv.
SHELL := /bin/bash
PYTHON ?= python3
ARGS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install
RUN := .venv/.run
DEV := .venv/.dev

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench soak dist clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(RUN) ## install skerry and what it runs on into .venv
	@echo "ready: $(BIN)/skerry --help" >&2

demo: $(RUN) ## the main job on this computer's own readings and a simulated pump station
	@$(BIN)/skerry demo $(ARGS)

test: $(DEV) ## the whole suite; ARGS go to pytest
	$(BIN)/python -m pytest $(ARGS)

lint: $(DEV) ## ruff, mypy --strict, the import contracts, the map in ARCHITECTURE.md
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python scripts/map.py --check

bench: $(DEV) ## the figures that the README quotes
	@$(BIN)/python -m bench $(ARGS)

soak: $(DEV) ## the long fault tests: make soak ARGS="--minutes 30"
	@$(BIN)/python -m tests.soak $(ARGS)

dist: $(DEV) ## wheel and sdist in dist/
	$(BIN)/python -m build --no-isolation --outdir dist .

clean: ## remove .venv, built files and caches
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests bench examples scripts -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# Set-up speaks on stderr, so that the standard output of a target is its own alone.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "skerry needs Python 3.11 or newer, '$(PYTHON)' is $$($(PYTHON) -V 2>&1): make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "[1/3] a virtual environment in .venv with $$($(PYTHON) -V)" >&2
	@$(PYTHON) -m venv .venv >&2 || { rm -rf .venv; \
	  echo "cannot make a virtual environment: install it first, on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

$(RUN): requirements/run.txt pyproject.toml | $(BIN)/python
	@echo "[2/3] $$(grep -c == requirements/run.txt) packages of requirements/run.txt, each checked against its hash (about 80 MB)" >&2
	@$(PIP) --require-hashes --only-binary :all: -r requirements/run.txt >&2
	@echo "[3/3] skerry itself, from this directory" >&2
	@$(PIP) --quiet --no-build-isolation --no-deps --editable . >&2
	@touch $@

$(DEV): requirements/dev.txt $(RUN)
	@echo "[dev] $$(grep -c == requirements/dev.txt) packages of requirements/dev.txt, for tests and checks" >&2
	@$(PIP) --quiet --require-hashes --only-binary :all: -r requirements/dev.txt >&2
	@touch $@
