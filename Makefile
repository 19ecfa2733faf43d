# `make` alone lists the targets. Everything runs in .venv, which the first target that needs it makes.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test test-all fuzz mutation matrix lint web kernels docs docs-serve tables records quality peers goldens lock sbom clean

VENV := .venv
PY := $(VENV)/bin/python
# -P keeps this folder off sys.path: `kernels` and `export` must be found inside the package only
RUN := $(PY) -P -m
# any Python from 3.11 on; `make PYTHON=python3.12 test` chooses one
PYTHON ?=
PYTHONS := python3 python3.14 python3.13 python3.12 python3.11
# LOCKED=1 installs the lock's versions, by hash, and nothing else; without it pip takes the newest that pyproject.toml allows
LOCKED ?=
LOCK := .ci/requirements.lock
# the variable silences a notice of mkdocs-material about versions of mkdocs that pyproject.toml excludes
MKDOCS = NO_MKDOCS_2_WARNING=1 $(VENV)/docs/bin/mkdocs
USABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))

# a line `##@ NAME` begins a group of `make help`; a target shows up with the text after its ##, at most 62 characters
help:
	@awk -F ':.*## ' '/^##@ / {printf "%s%s:\n", sep, substr($$0, 5); sep = "\n"} \
	  /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

##@ Users

demo: $(VENV)/.stamp ## find three things in a sample picture (embedded model)
	@$(RUN) fastloc demo

##@ Tests

# a worker a core, each with one thread; the tests of a file share fixtures, so one worker runs them
PYTEST := OMP_NUM_THREADS=1 $(RUN) pytest -q -n auto --maxprocesses 8 --dist loadfile

test: lint ## lint, type check, run the quick tests
	@$(PYTEST) -m "not slow"

test-all: $(VENV)/.stamp ## run the slow tests, which `make test` leaves out
	@$(PYTEST) -m slow

# seconds for all parsers together; `make SECONDS=3600 fuzz` for an hour
SECONDS ?= 60
fuzz: $(VENV)/.stamp ## damaged inputs for every parser of untrusted bytes
	@$(PY) tests/fuzz/run.py --seconds $(SECONDS)

# the same time for all files together
mutation: $(VENV)/.stamp ## small faults in the core rooms, which tests should notice
	@$(PY) tests/mutation/run.py --seconds $(SECONDS)

# further interpreters by their paths: `make AT=/opt/python3.14/bin/python3.14 matrix`; RECORD=1 writes the record of docs/tested.md
AT ?=
RECORD ?=
matrix: $(VENV)/.stamp $(VENV)/tools/.stamp ## run what needs no torch on every Python from 3.11 on
	@$(PY) tests/matrix.py $(if $(AT),--python $(AT)) $(if $(RECORD),--record)

lint: $(VENV)/.stamp ## lint and type check
	@$(RUN) ruff check --quiet .
	@$(RUN) mypy --no-error-summary

web: $(VENV)/.stamp $(VENV)/node_modules/onnxruntime-web ## run both pages in a browser (npm, chromium, chromedriver)
	@FASTLOC_WEB=required $(RUN) pytest -q tests/export/test_web.py tests/live/test_page.py

kernels: $(VENV)/.stamp ## compile every GPU kernel without a GPU, check the record
	@$(PY) benchmarks/compile_kernels.py --check --sm 80 89 90

##@ Docs

docs: $(VENV)/docs/.stamp ## build the site into build/site; a dead link is an error
	@$(MKDOCS) build --quiet --strict

docs-serve: $(VENV)/docs/.stamp ## serve the site on http://127.0.0.1:8000/ while you write
	@$(MKDOCS) serve

tables: $(VENV)/.stamp ## write every generated table and plot of the pages
	@$(PY) -P benchmarks/docs.py

##@ Benchmarks

records: $(VENV)/.stamp ## measure what is stale again, on an idle machine (hours)
	@$(PY) -P benchmarks/records.py

quality: $(VENV)/.stamp ## measure how often each method points at the object
	@$(PY) benchmarks/quality.py

peers: $(VENV)/.stamp ## set up the packages to compare with (about 12 GB)
	@$(RUN) fastloc.bench.peer_environments

##@ Maintenance

goldens: $(VENV)/.stamp ## write tests/goldens again with the official packages
	@$(PY) benchmarks/goldens.py

lock: $(VENV)/tools/.stamp ## write .ci/requirements.lock again, for LOCKED=1
	@$(VENV)/tools/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --upgrade \
	  --no-config --no-header --quiet --output-file $(LOCK)

sbom: $(VENV)/.stamp $(VENV)/tools/.stamp ## write sbom.json: packages and licences, as CycloneDX
	@$(VENV)/tools/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type library --output-reproducible \
	  --output-format JSON --output-file sbom.json $(PY)

clean: ## remove .venv and all that can be made again
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache fastloc-demo.png sbom.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/node_modules/onnxruntime-web: | $(VENV)/.stamp
	@npm install --prefix $(VENV) --no-save --no-audit --no-fund --ignore-scripts --loglevel=error onnxruntime-web@1.30

# tools about packages have an environment of their own, apart from the packages that they list
$(VENV)/tools/.stamp: Makefile | $(VENV)/.stamp
	@$(PY) -m venv --clear $(VENV)/tools
	@$(VENV)/tools/bin/python -m pip install -qq --disable-pip-version-check uv==0.13.9 cyclonedx-bom==7.5.0
	@touch $@

# the site's tools read fastloc's sources and import none of them, so they need none of its packages
$(VENV)/docs/.stamp: pyproject.toml Makefile | $(VENV)/.stamp
	@$(PY) -m venv --clear $(VENV)/docs
	@$(PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' \
	  | $(VENV)/docs/bin/python -m pip install -qq --disable-pip-version-check -r /dev/stdin
	@touch $@

# a usable .venv is kept; pip runs only if pyproject.toml is newer than the last install.
# -qq: pip's warnings about a machine's package sources say nothing about fastloc
$(VENV)/.stamp: pyproject.toml $(if $(LOCKED),$(LOCK))
	@if ! $(VENV)/bin/python -c 'import pip; $(USABLE)' 2>/dev/null; then \
	  for python in $(or $(PYTHON),$(PYTHONS)); do \
	    if $$python -c '$(USABLE)' 2>/dev/null; then found=$$python; break; fi; \
	  done; \
	  if [ -z "$${found:-}" ]; then \
	    echo 'make: fastloc needs Python 3.11 or newer with venv and ensurepip (python3-venv on Debian);' \
	      'none of $(or $(PYTHON),$(PYTHONS)) has them. Name one: make PYTHON=/path/to/python' >&2; exit 1; \
	  fi; \
	  echo "making $(VENV) with $$($$found --version)"; $$found -m venv --clear $(VENV); \
	fi
	@echo 'installing fastloc and its packages into $(VENV) (about 6 GB the first time, mostly PyTorch)'
	@if [ -n '$(LOCKED)' ]; then \
	  $(VENV)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r $(LOCK); \
	  $(VENV)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	else \
	  $(VENV)/bin/python -m pip install -qq --disable-pip-version-check -e '.[dev]'; \
	fi
	@touch $@
