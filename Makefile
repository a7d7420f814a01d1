# Every target makes its own virtual environment; only Python 3.11+ and make are needed.
PYTHON ?= python3
VENV := .venv

.PHONY: run test lint bench sweep campaign mutants clean

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)

# What `make run` needs, and what the tests, linters and the bench need on top.
$(VENV)/.run: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[embedded]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ $(VENV)/.run

run: $(VENV)/.run
	@exec $(VENV)/bin/budget-gateway dev

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache

# Each process has servers of its own and waits for them half of its time: three keep two cores busy.
test: lint
	$(VENV)/bin/pytest --numprocesses 3

# Two minutes: the gateway beside bare uvicorn and a naive gateway, and the time of the scripts.
bench: $(VENV)/.dev
	$(VENV)/bin/python -m bench.small

# Ten minutes: the same peers under one caller and under many, with JSON and with streams.
sweep: $(VENV)/.dev
	$(VENV)/bin/python -m bench.sweep

# Ten minutes: everything is killed, cut and filled under load, and then the books are compared. The
# same SEED strikes with the same faults; README=1 puts the table into README.md.
SEED ?= 1
FAULTS ?= 100
README ?=
campaign: $(VENV)/.dev
	$(VENV)/bin/python -m tests.campaign --seed $(SEED) --faults $(FAULTS) $(if $(README),--readme)

# Eight minutes: every guard is removed once, and its tests must turn red.
mutants: $(VENV)/.dev
	$(VENV)/bin/python -m tests.mutants

clean:
	rm -rf $(VENV)
