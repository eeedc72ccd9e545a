# `make` alone lists the targets. Every target may be run again: it does what is left to do.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.leafkit-setup

.PHONY: help setup demo test test-slow cuda asan ubsan tsan lint types layers format clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1|/' | column -t -s '|'

setup: $(STAMP)  ## make .venv: pip, pinned packages, the native build, what demo and test need

$(STAMP): pyproject.toml constraints.txt setup.py $(shell find csrc -type f 2>/dev/null)
	@echo "setup: .venv with the pinned packages and the native build (about two minutes the first time)"
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 setup"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt 'setuptools>=77' 'pybind11>=3.0'
	LEAFKIT_CUDA=$${LEAFKIT_CUDA:-0} $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-compile --no-build-isolation -e '.[demo,eval,datasets,http,dev]'
	@touch $@
	@echo "setup: done"

demo: setup  ## distil a teacher into two small leaves on this machine's docstrings and judge them
	$(BIN)/leafkit demo

test: setup  ## everything quick
	$(BIN)/python -m pytest -m "not slow and not gpu" -q

test-slow: setup  ## the rest
	$(BIN)/python -m pytest -m "slow and not gpu" -q

cuda: setup  ## compile the CUDA module with nvcc, and hold its kernels' registers against a table
	.ci/cuda

asan: setup  ## the tests of the operations under the address sanitizer
	.ci/sanitize address

ubsan: setup  ## the same under the undefined-behaviour sanitizer
	.ci/sanitize undefined

tsan: setup  ## those with threads under the thread sanitizer
	.ci/sanitize thread

lint: setup  ## ruff and clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	find csrc benchmarks -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' | xargs $(BIN)/clang-format --dry-run --Werror

types: setup  ## mypy, strict
	$(BIN)/mypy

layers: setup  ## import-linter
	$(BIN)/lint-imports

format: setup  ## rewrite sources in the house's form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	find csrc benchmarks -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' | xargs $(BIN)/clang-format -i

clean:  ## remove what was built (not .venv)
	rm -rf build dist *.egg-info leafkit/*.so demo
