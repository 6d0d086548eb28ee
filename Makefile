# make setup       a virtual environment with voco and what its tests need
# make demo        the whole way on generated scans, in minutes: demo/report.html
# make test        lint, types and tests: what CI runs
# make test-slow   the tests that take minutes each
# make test-cluster  the tests under a real SLURM on this machine, which it installs from Debian's packages; as root
# make check       lint and types alone
# make docs        the reference of settings and commands, from the code

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo test test-slow test-cluster check docs

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: setup
	$(BIN)/voco demo --out demo

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup
	$(BIN)/python docs/reference/generate_settings.py
	$(BIN)/python docs/reference/generate_commands.py

# A test stays beside its neighbours, with which it shares what is made once: scans, trained runs, wheels.
test: check
	$(BIN)/pytest -n auto --dist worksteal

test-slow: check
	$(BIN)/pytest -m slow -rs

test-cluster: setup
	apt-get install --yes --no-install-recommends slurm-wlm munge
	$(BIN)/pytest -m slow -rs tests/cluster
