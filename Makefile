# make demo | test | check | docs | coverage | dist | release-check | clean. The environment is .venv, made once; it is refreshed when pyproject.toml or
# constraints.txt change. PYTHON=/path/to/python3.11 chooses the interpreter it is made with.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test check docs coverage dist release-check clean

VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
SUITABLE := import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 12))
PYTHON ?= $(shell for p in python3.11 python3.10 python3; do \
	$$p -c '$(SUITABLE)' 2>/dev/null && { command -v $$p; break; }; done)
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

help:
	@echo "make demo    install, and compare five schedules on the built-in prompts; results in demo/"
	@echo "make test    install what the tests need, and run them"
	@echo "make check   lint, format check, type check, docs"
	@echo "make docs    build the documentation into build/site; a dead link or a stale reference is an error"
	@echo "make coverage       the tests, and what of the code they run, by package"
	@echo "make dist           sdist and wheel, into dist/"
	@echo "make release-check  the wheel in an empty environment, and pip under other Pythons (asks the package index)"
	@echo "make clean   remove caches and build leftovers (keeps .venv and demo/)"

demo: $(RUN_STAMP)
	$(BIN)/guidelens compare --prompts shapes:category=demo --schedule itc --schedule itm --schedule cap \
		--schedule shift --schedule blend --seeds 4 --steps 50 --out demo

# One thread per worker: two workers of the network's default thread count would fight over the cores.
test: $(DEV_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)

check: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MKDOCS)

docs: $(DEV_STAMP)
	$(MKDOCS)
	@echo "$(CURDIR)/build/site/index.html"

# Not by pytest --cov: pytest has imported a part of guidelens, its plugin, before that begins to count. The workers
# are counted as the processes are that tests start.
coverage: $(DEV_STAMP)
	rm -f .coverage .coverage.*
	OMP_NUM_THREADS=1 $(BIN)/python -m coverage run -m pytest -n 2 $(PYTEST_ARGS)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --format=total --precision=1
	@for part in core/guidelens/*/ plugins/*/; do \
		covered=$$($(BIN)/python -m coverage report --format=total --precision=1 --include="$$part*" 2>/dev/null) && \
			echo "$$covered % of $$part"; done; true

dist: $(DEV_STAMP)
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	@ls -l dist

# In two processes: the installation and its trial in one, the questions to pip in the other.
release-check: $(DEV_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup -m network tests/release

clean:
	rm -rf build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage *.egg-info
	rm -rf docs/examples/*/build docs/examples/*/*.egg-info
	find core plugins tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "guidelens: no Python 3.11 or 3.10 with the venv module found (LAVIS stops at 3.11); install one" \
			"(Debian: apt install python3.11-venv), or say make PYTHON=/path/to/python3.11" >&2; exit 1; fi
	@$(PYTHON) -c '$(SUITABLE)' 2>/dev/null || { \
		echo "guidelens: $(PYTHON) is no Python 3.10 or 3.11 with the venv module" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)

$(RUN_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing guidelens into $(VENV): once, some minutes and gigabytes (PyTorch) ..."
	$(PIP_INSTALL) -e .
	@touch $@

$(DEV_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing guidelens and its test tools into $(VENV): once, some minutes and gigabytes (PyTorch) ..."
	$(PIP_INSTALL) -e '.[dev]'
	@touch $@ $(RUN_STAMP)
