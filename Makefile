# One command to start, one to check:
#
#   make demo     a real hyperparameter study, through every part of sweepd
#   make test     the test suite
#
# Each makes its own .venv with pip and comes back to it the next time. Another interpreter than
# python3: make demo PYTHON=python3.12

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

DEMO     := shared/sweepd/examples/digits/objective.yaml
DISTS    := -e 'shared[embedded,objective]' -e coordinator -e 'agent[nemo]'
PROJECTS := shared/pyproject.toml coordinator/pyproject.toml agent/pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help demo test lint types coverage chaos soak bench clean

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile
	@echo
	@echo "  make lint     ruff and the import contracts"
	@echo "  make types    pyright, strict"
	@echo "  make coverage every branch of the pure parts, or it fails"
	@echo "  make chaos    kill and freeze everything at random, for minutes; CHAOS_SEED=4,5 draws other faults"
	@echo "  make soak     the tests that take minutes each"
	@echo "  make bench    throughput beside Optuna's, turn-around, verdicts: a quarter of an hour"
	@echo "  make clean    remove .venv and what the tools left behind"

# --new: each time another study; without it a finished one only shows its result again.
demo: $(VENV)/demo.stamp
	$(BIN)/sweepd run --new $(DEMO)

test: $(VENV)/test.stamp
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/test.stamp $(VENV)/lint.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/test.stamp $(VENV)/lint.stamp
	$(BIN)/pyright

# The pure parts are tested without a loop, so their tests are quick enough to measure all branches.
coverage: $(VENV)/test.stamp
	$(BIN)/python -m pytest tests/core tests/agent --cov --cov-report=term-missing:skip-covered --cov-fail-under=100

chaos: export CHAOS_S := $(or $(CHAOS_S),60)
chaos: export CHAOS_TRIALS := $(or $(CHAOS_TRIALS),200)
chaos: $(VENV)/test.stamp
	$(BIN)/python -m pytest tests/chaos $(ARGS)

soak: $(VENV)/test.stamp
	$(BIN)/python -m pytest -m slow $(ARGS)

# Figures are only worth something on a machine that does nothing else.
bench: $(VENV)/test.stamp
	$(BIN)/python tests/benchmarks/mill.py --long 50000
	$(BIN)/python tests/benchmarks/turnaround.py
	$(BIN)/python tests/benchmarks/verdict.py

# pip from the interpreter may be older than --group (25.1). The build backend is installed once
# here instead of once for each of the three distributions.
$(VENV)/pip.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "sweepd needs Python 3.11 or newer, and '$(PYTHON)' is not: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "'$(PYTHON) -m venv' does not work here. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "Installing into $(VENV); the first time takes a few minutes ..."
	$(PIP) install --upgrade 'pip>=25.1' hatchling editables
	@touch $@

# One stamp for each dependency group of pyproject.toml: demo, test, lint.
$(VENV)/%.stamp: $(VENV)/pip.stamp pyproject.toml constraints.txt $(PROJECTS)
	$(PIP) install --no-build-isolation --constraint constraints.txt $(DISTS) --group $*
	@touch $@

.PRECIOUS: $(VENV)/%.stamp

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage htmlcov build dist
	find shared coordinator agent tests -name __pycache__ -prune -exec rm -rf {} +
