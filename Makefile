# What can be done here: make help. Nothing is installed outside .venv.
SHELL := /bin/bash
PYTHON ?= python3
ARGS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install
RUN := .venv/.run
DEV := .venv/.dev
PEERS := .venv/peers/.done
DOCS := .venv/docs/.done
NPM := .venv/npm/.done

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench soak screenshots docs dist clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s  %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(RUN) ## install skerry and what it runs on into .venv
	@echo "ready: $(BIN)/skerry --help" >&2

demo: $(RUN) ## the main job on this computer's own readings and a simulated pump station
	@$(BIN)/skerry demo $(ARGS)

test: $(DEV) $(NPM) ## the whole suite; ARGS go to pytest
	@$(BIN)/python scripts/suite.py $(ARGS)

lint: $(DEV) ## ruff, mypy --strict, the import contracts, the map in ARCHITECTURE.md
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python scripts/map.py --check

bench: $(DEV) $(PEERS) ## the figures that the README quotes
	@$(BIN)/python -m bench $(ARGS)

soak: $(DEV) ## the long fault tests: make soak ARGS="--minutes 30"
	@$(BIN)/python -m tests.soak $(ARGS)

screenshots: $(DEV) ## pictures of the dashboard in docs/img, from a running demo
	@$(BIN)/python scripts/screenshots.py

docs: $(RUN) $(DOCS) ## the documents as a site in build/site, every link checked
	@PYTHONPATH=. $(BIN)/python scripts/site.py build/docs
	@NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true .venv/docs/bin/mkdocs build --quiet --strict && echo "read build/site/index.html" >&2

dist: $(DEV) ## wheel, sdist and bill of materials in dist/
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/python scripts/sbom.py dist

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

# Clients and a broker in JavaScript that tests talk to; where npm cannot bring them, those tests are skipped and listed.
$(NPM): tests/peers/package-lock.json | $(RUN)
	@mkdir -p $(@D) && cp tests/peers/package.json tests/peers/package-lock.json $(@D)/
	@echo "[npm] packages of tests/peers/package-lock.json into .venv/npm, what the MQTT tests talk to" >&2
	@npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --loglevel error >&2 && touch $@ || \
	  echo "[npm] they cannot be installed here: the tests that need them are skipped" >&2

# What builds the site is no part of skerry, so it has an environment of its own.
$(DOCS): requirements/docs.txt | $(RUN)
	@echo "[docs] $$(grep -c == requirements/docs.txt) packages of requirements/docs.txt into .venv/docs" >&2
	@$(PYTHON) -m venv .venv/docs >&2 && .venv/docs/bin/python -m pip --disable-pip-version-check --no-input install --quiet \
	  --require-hashes --only-binary :all: -r requirements/docs.txt >&2 && touch $@ || { rm -rf .venv/docs; exit 1; }

# The model servers of others have an environment of their own; where they cannot be installed, their rows are left out.
$(PEERS): requirements/bench.txt | $(RUN)
	@echo "[bench] $$(grep -c == requirements/bench.txt) packages of requirements/bench.txt into .venv/peers, what skerry is measured beside" >&2
	@$(PYTHON) -m venv .venv/peers >&2 && .venv/peers/bin/python -m pip --disable-pip-version-check --no-input install --quiet \
	  --require-hashes --only-binary :all: -r requirements/bench.txt >&2 && touch $@ || { rm -rf .venv/peers; \
	  echo "[bench] they cannot be installed here: skerry is measured without them" >&2; }
