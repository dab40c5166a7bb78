# Everything a newcomer or CI needs. `make help` lists it.
SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(firstword $(foreach p,python3.13 python3.12 python3.11 python3,$(shell \
	$(p) -c 'import sys, venv; sys.version_info >= (3, 11) and print("$(p)")' 2>/dev/null)))

.DEFAULT_GOAL := help
.PHONY: help demo demo-keep install test check format generate bench faults mutants lock build clean

help:  ## list these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 20

install: $(VENV)/.ready  ## make the virtual environment and install into it

$(VENV)/.ready: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none was found as python3 or python3.1x." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: install  ## the whole journey on this machine; ends by itself
	@$(BIN)/eventbus demo

demo-keep: install  ## the same, and leaves everything running to play with
	@$(BIN)/eventbus demo --keep

test: install  ## all tests, on a real Redis
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

check: install  ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: install  ## put the code into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generate: install  ## the schema, .env.example and tables, from the manifests
	$(BIN)/python -m service.generate

bench: install  ## measure speed beside a hand-written redis-py loop and other frameworks
	$(BIN)/python -m benchmarks.run

faults: install  ## kill, freeze and starve everything for two minutes, and count what arrived
	$(BIN)/python -m tests.faults

mutants: install  ## break the code in known ways, and see each break caught
	$(BIN)/python -m tests.faults.mutants

build: install  ## the wheel and the source archive, into dist/
	$(BIN)/python -m build --no-isolation

lock: install  ## pin what pyproject.toml asks for, with hashes
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
		--custom-compile-command "make lock" --quiet --group dev pyproject.toml --output-file requirements.lock

clean:  ## remove what these commands made
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis .demo
