# make demo   set up .venv, run the demo study, identify the rules, write the report
# make test   everything that is checked: style, types, tests, doctests
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= results/demo

.PHONY: demo test lint unit report-check lock clean

demo: $(VENV)/.installed
	$(BIN)/goaldriven run demo --out $(DEMO)
	$(BIN)/goaldriven identify $(DEMO)
	$(BIN)/goaldriven report $(DEMO)

test: lint unit

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadgroup --durations=10

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "goaldriven needs Python 3.11 or newer"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python requirements.lock pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	@touch $@

# Rewrite both lock files from a fresh environment with the newest releases pyproject.toml allows.
# A local build tag of torch (+cpu) is left out: the same version is on every index.
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet "setuptools>=77" .
	build/lock/bin/pip freeze --all --exclude goaldriven --exclude pip | sed 's/+cpu//' > requirements.lock
	build/lock/bin/pip install --quiet ".[datasets]"  # alone first: fsspec's pins make pip search for long
	build/lock/bin/pip install --quiet ".[dev]"
	build/lock/bin/pip freeze --all --exclude goaldriven --exclude pip | sed 's/+cpu//' > requirements-dev.lock

clean:
	rm -rf $(VENV) results build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
