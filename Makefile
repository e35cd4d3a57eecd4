# One line for each thing a person does with this project; `make` or `make help` lists them.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
RUNTIME := .venv/.runtime-installed
DEV := .venv/.dev-installed
UV := $(or $(shell command -v uv),$(BIN)/uv)
COMPILE := $(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	--no-header --no-strip-extras --python-version 3.11 pyproject.toml

SHELL := /bin/sh
MAKEFLAGS += --no-print-directory
unexport PYTHONPATH PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := help
.PHONY: help install demo test dev lock lint bom bench soak clean
.DELETE_ON_ERROR:

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(RUNTIME) ## make .venv and install what running needs, from requirements.lock

demo: $(RUNTIME) ## seed a shop, start a 4Seller sandbox, sync both ways, check, print what happened
	@exec $(BIN)/midas demo $(ARGS)

test: $(DEV) ## run the tests, those about SQL on SQLite and PostgreSQL; ARGS="-k claims" narrows them
	@exec $(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

dev: $(RUNTIME) ## start sandbox, gateway and Dagster UI on a sample shop; Ctrl-C stops all of it
	@exec $(BIN)/midas dev $(ARGS)

lock: $(RUNTIME) ## renew requirements.lock and requirements-dev.lock to the newest allowed versions
	@command -v $(UV) >/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(COMPILE) --upgrade --group dev --output-file requirements-dev.lock
	cp requirements-dev.lock requirements.lock  # so that both name the same versions
	$(COMPILE) --group build --output-file requirements.lock

lint: $(DEV) ## check style, format, types and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bom: $(DEV) ## audit the locked versions, write build/sbom.cdx.json and build/licenses.csv
	@exec $(BIN)/python scripts/supply_chain.py

bench: $(DEV) ## measure the promises of the README against the sandbox
	@exec $(BIN)/python -m benchmarks $(ARGS)

soak: $(DEV) ## run the whole system for a long while under faults and check that it converges
	@MIDAS_TEST_DATABASES=both exec $(BIN)/python -m pytest -m soak -s --timeout 3600 -o faulthandler_timeout=7200 $(ARGS)

clean: ## remove .venv, caches and what the demo made
	rm -rf .venv .midas .dagster .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' || { \
	echo "Python 3.11 to 3.14 is needed, and '$(PYTHON)' is not one of them: name one, as in" \
	"'make PYTHON=python3.12 $(or $(firstword $(MAKECMDGOALS)),install)'." >&2; exit 1; }
	@"$(PYTHON)" -m venv .venv || { rm -rf .venv; \
	echo "'$(PYTHON)' could not make a virtual environment: on Debian and Ubuntu install its venv package," \
	"such as python3-venv." >&2; exit 1; }

# The second stamp includes the first. Each is renewed when its lock changed, and only then.
$(RUNTIME): requirements.lock pyproject.toml | .venv/bin/python
	@$(BIN)/python scripts/install.py requirements.lock
	@touch $@

$(DEV): requirements-dev.lock pyproject.toml | .venv/bin/python
	@$(BIN)/python scripts/install.py requirements-dev.lock
	@touch $(RUNTIME) $@
