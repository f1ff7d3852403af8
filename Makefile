# `make help` lists the targets. The environment is .venv. It is made once, and updated when pyproject.toml or the
# constraints change. PYTHON=/path/to/python chooses its interpreter, VENV=folder another environment.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help demo test smoke test-lavis check docs docs-serve findings coverage dist release-check gpu-check clean same-python

VENV ?= .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
VENV_LAVIS := .venv-lavis
LAVIS_STAMP := $(VENV_LAVIS)/.installed
SUITABLE := import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 15))
SUITABLE_LAVIS := import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 12))
# The first interpreter of $(2) that runs the program $(1) with exit code 0.
find-python = $(shell for p in $(2); do $$p -c '$(1)' 2>/dev/null && { command -v $$p; break; }; done)
PYTHONS := python3.14 python3.13 python3.12 python3.11 python3.10 python3
HAS_VENV := import venv, ensurepip; $(SUITABLE)
ifeq ($(origin PYTHON),undefined)
PYTHON := $(or $(call find-python,$(HAS_VENV),$(PYTHONS)),$(call find-python,$(SUITABLE),$(PYTHONS)))
endif
UV := $(shell command -v uv)
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
PIP_OPTIONS := --quiet --disable-pip-version-check
PIP_INSTALL := $(BIN)/python -m pip install $(PIP_OPTIONS) -c constraints.txt

help:
	@echo "make demo    install, and compare five schedules on the built-in prompts; results in demo/"
	@echo "make test    install what the tests need, and run them"
	@echo "make check   lint, format check, type check, docs"
	@echo "make docs    build the documentation into build/site; a dead link or a stale reference is an error"
	@echo "make docs-serve     the same, served at http://127.0.0.1:8000"
	@echo "make findings       the tables of docs/findings.md, from the finished runs in FINDINGS"
	@echo "make smoke          a comparison of two prompts, and the fast tests"
	@echo "make test-lavis     our BLIP against LAVIS's, in an environment of its own (Python 3.11 or 3.10)"
	@echo "make coverage       the tests, and the share of lines that they run, by package"
	@echo "make dist           sdist and wheel, into dist/"
	@echo "make release-check  the wheel in an empty environment, and pip under other Pythons (needs the package index)"
	@echo "make gpu-check      does this GPU compute what the CPU does, and how fast; results in gpu-check/"
	@echo "make clean   remove caches and build leftovers (keeps .venv and demo/)"
	@echo "Options: PYTHON=/path/to/python chooses the interpreter (3.10 to 3.14), VENV=folder the environment."

demo: $(RUN_STAMP)
	$(BIN)/guidelens compare --generator things --schedule itc --schedule itm --schedule cap \
		--schedule shift --schedule blend --seeds 4 --steps 50 --out demo
	@echo "open $(CURDIR)/demo/index.html in a browser; then try: $(BIN)/guidelens explore --generator things"

# One thread per worker: two workers of the network's default thread count would fight over the cores.
test: $(DEV_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)

smoke: $(DEV_STAMP)
	rm -rf build/smoke
	$(BIN)/guidelens compare --prompts shapes:category=demo --limit 2 --schedule itc --schedule itm --schedule cap \
		--schedule shift --schedule blend --seeds 1 --steps 50 --out build/smoke
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow and not network" $(PYTEST_ARGS)

# The guidance model through LAVIS itself draws a comparison too.
test-lavis: $(LAVIS_STAMP)
	OMP_NUM_THREADS=1 $(VENV_LAVIS)/bin/python -m pytest -n 2 -m lavis tests/blip $(PYTEST_ARGS)

check: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MKDOCS)

docs: $(DEV_STAMP)
	$(MKDOCS)
	@echo "$(CURDIR)/build/site/index.html"

docs-serve: docs
	cd build/site && $(BIN)/python -m http.server --bind 127.0.0.1 8000

FINDINGS ?= runs/findings runs/replication runs/findings-things

findings: $(RUN_STAMP)
	$(BIN)/python docs/site/findings.py record $(FINDINGS)

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

# On a GPU machine without network: in the environment of GPU_PYTHON, which has PyTorch. WHEELS=DIR holds what may be
# missing. DEVICE=cpu SIZE=tiny rehearses it. Called again, it goes on where it stopped.
GPU_PYTHON ?= python3
DEVICE ?= cuda
SIZE ?= full
GPU_CHECK_full := --generator guided-diffusion:untrained=true --guidance blip:untrained=true
GPU_CHECK_tiny := --batch-size 1 --batch-size 2 --steps 2 --repeats 1 --minutes 60
gpu-check:
	$(GPU_PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation .
	$(GPU_PYTHON) -m guidelens gpu-check $(GPU_CHECK_$(SIZE)) --device $(DEVICE) --tests tests \
		$(if $(WHEELS),--wheels $(WHEELS)) --out gpu-check

clean:
	rm -rf build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis .coverage *.egg-info
	rm -rf docs/examples/*/build docs/examples/*/*.egg-info
	find core plugins tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

# Debian's python3 may lack ensurepip; uv then makes the environment, where it is installed.
$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "guidelens: no Python 3.10 to 3.14 found; install one, or run make PYTHON=/path/to/python" >&2; exit 1; fi
	@$(PYTHON) -c '$(SUITABLE)' 2>/dev/null || { \
		echo "guidelens: $(PYTHON) is not a Python 3.10 to 3.14; run make PYTHON=/path/to/python" >&2; exit 1; }
	@if $(PYTHON) -c '$(HAS_VENV)' 2>/dev/null; then $(PYTHON) -m venv --clear $(VENV); \
	elif [ -n "$(UV)" ]; then $(UV) venv --quiet --seed --clear --python $(PYTHON) $(VENV); \
	else echo "guidelens: $(PYTHON) lacks the venv module (Debian: apt install python3-venv)" >&2; exit 1; fi

# An environment that exists keeps its interpreter. Say so if another one is asked for.
same-python: | $(BIN)/python
ifeq ($(origin PYTHON),command line)
	@asked=$$($(PYTHON) -c 'import sys; print(sys.version_info[:2])'); \
	has=$$($(BIN)/python -c 'import sys; print(sys.version_info[:2])'); \
	[ "$$asked" = "$$has" ] || { echo "guidelens: $(VENV) was made with Python $$has, and PYTHON is $$asked;" \
		"remove $(VENV) first, or add VENV=.venv-other" >&2; exit 1; }
endif

$(RUN_STAMP): pyproject.toml constraints.txt | same-python
	@echo "Installing guidelens into $(VENV) (once; several minutes and gigabytes, mostly PyTorch) ..."
	$(PIP_INSTALL) -e '.[explore,figures,survey]'
	@touch $@

$(DEV_STAMP): pyproject.toml constraints.txt | same-python
	@echo "Installing guidelens and its test tools into $(VENV) (once; several minutes and gigabytes, mostly PyTorch) ..."
	$(PIP_INSTALL) -e '.[dev]'
	@touch $@ $(RUN_STAMP)

$(LAVIS_STAMP): LAVIS_PYTHON ?= $(call find-python,$(SUITABLE_LAVIS),python3.11 python3.10)
$(LAVIS_STAMP): pyproject.toml constraints-lavis.txt
	@if [ -z "$(LAVIS_PYTHON)" ]; then echo "guidelens: LAVIS needs Python 3.11 or 3.10 with the venv module" \
		"(Debian 12: apt install python3.11-venv); or run make test-lavis LAVIS_PYTHON=/path/to/python" >&2; exit 1; fi
	@[ -x $(VENV_LAVIS)/bin/python ] || $(LAVIS_PYTHON) -m venv $(VENV_LAVIS)
	@echo "Installing guidelens with LAVIS into $(VENV_LAVIS) (once; several minutes and gigabytes) ..."
	$(VENV_LAVIS)/bin/python -m pip install $(PIP_OPTIONS) -c constraints-lavis.txt -e '.[lavis]' \
		hypothesis pytest pytest-xdist transformers
	@touch $@
