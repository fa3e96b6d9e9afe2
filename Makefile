# Every target sets up what it needs. PYTHON chooses the interpreter that .venv is made from.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

# So many processes run the tests, a file each at a time, so that what the tests of a file share is made once. Each
# has a Ray of its own: a third one on two cores was slower, and starved servers that others waited for.
PROCESSES ?= 2
WORKERS = --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

.PHONY: help install install-test install-lint install-docs tune coldstart serve test chaos docs linkcheck lint format bench mutants clean

help:
	@echo "make tune       set up, then tune MARec on the generated sample (ARGS='--dataset hetrec' for more)"
	@echo "make coldstart  set up, then compare several models on the same splits and register the best"
	@echo "make serve      set up, then serve the model promoted last at http://127.0.0.1:8000"
	@echo "make test       set up, then run the tests in PROCESSES (2) processes"
	@echo "make chaos      set up, then run the tests that kill, interrupt or starve studies and trainings"
	@echo "make docs       build the documentation, and refuse a warning: docs/_build/html/index.html"
	@echo "make linkcheck  follow the links of the documentation to other sites, which needs a network"
	@echo "make lint       ruff and mypy"
	@echo "make bench      measure every figure of docs/results/figures.md (FIGURE=name for one)"
	@echo "make mutants    put small faults into the package and count those that the tests notice (20 minutes)"
	@echo "make clean      remove .venv and caches; runs/ and mlflow.db stay"

$(VENV)/.created:
	@"$(PYTHON)" -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"coldray needs Python 3.11 or newer, not {v.major}.{v.minor}; set PYTHON=...")'
	@echo "creating $(VENV)"
	@"$(PYTHON)" -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	@echo "installing coldray and what it needs (a few minutes the first time)"
	@$(PIP) --editable '.[all]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@$(PIP) --editable '.[all,test]'
	@touch $@

$(VENV)/.installed-lint: $(VENV)/.installed
	@$(PIP) --editable '.[all,lint]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	@$(PIP) --editable '.[all,docs]'
	@touch $@

$(VENV)/.installed-mutants: $(VENV)/.installed-test
	@$(PIP) --editable '.[all,test,mutants]'
	@touch $@

install: $(VENV)/.installed
install-test: $(VENV)/.installed-test
install-lint: $(VENV)/.installed-lint
install-docs: $(VENV)/.installed-docs

tune: $(VENV)/.installed
	@$(BIN)/python jobs/tune_marec.py $(ARGS)

coldstart: $(VENV)/.installed
	@$(BIN)/python jobs/tune_coldstart.py $(ARGS)

serve: $(VENV)/.installed
	@$(BIN)/python jobs/serve.py $(ARGS)

# Hundreds of workers of Ray load the package: what one has compiled is kept for the others, whatever is set outside.
test: $(VENV)/.installed-test
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(WORKERS) $(ARGS)

chaos: $(VENV)/.installed-test
	@$(BIN)/python -m pytest -m 'chaos or not chaos' tests/chaos tests/cli/ray/test_watch.py tests/training/cluster/test_distributed.py $(ARGS)

docs: $(VENV)/.installed-docs
	@$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@! grep -rlE '<script[^>]+src="https?:' --include='*.html' docs/_build/html  # pages show without a network

linkcheck: $(VENV)/.installed-docs
	@$(BIN)/python -m sphinx --keep-going -q -b linkcheck docs docs/_build/linkcheck

lint: $(VENV)/.installed-lint
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m ruff format --check .
	@$(BIN)/python -m mypy --num-workers 2

format: $(VENV)/.installed-lint
	@$(BIN)/python -m ruff check --fix .
	@$(BIN)/python -m ruff format .

bench: $(VENV)/.installed-test
	@$(BIN)/python tests/benchmarks/run.py $(FIGURE)

mutants: $(VENV)/.installed-mutants
	@$(BIN)/python tests/benchmarks/run.py $(addprefix mutants_killed_,evaluation closed_forms learned_kernel selection)

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis docs/_build docs/*/generated platform/*.egg-info
