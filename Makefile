# `make` alone lists what there is. Everything runs in .venv, which is made when it is first needed.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint web docs docs-serve kernels goldens peers quality lock sbom clean

VENV := .venv
PY := $(VENV)/bin/python
# -P keeps this folder off sys.path: `kernels` and `export` must only ever be found inside the package
RUN := $(PY) -P -m
# any Python from 3.11 on; `make PYTHON=python3.12 test` chooses one
PYTHON ?=
PYTHONS := python3 python3.14 python3.13 python3.12 python3.11
# LOCKED=1 installs what the lock names and nothing else, by its hashes; without it the newest that pyproject.toml allows
LOCKED ?=
LOCK := .ci/requirements.lock
# the variable silences a notice of mkdocs-material about versions of mkdocs that pyproject.toml excludes
MKDOCS = NO_MKDOCS_2_WARNING=1 $(VENV)/docs/bin/mkdocs
USABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.stamp ## find three things in a sample picture with the embedded model
	@$(RUN) fastloc demo

# a worker a core, each with one thread; a file's tests stay together, because its fixtures are shared
PYTEST := OMP_NUM_THREADS=1 $(RUN) pytest -q -n auto --maxprocesses 8 --dist loadfile

test: lint ## lint, type check and run the quick tests, which touch everything once
	@$(PYTEST) -m "not slow"

test-all: $(VENV)/.stamp ## run the tests that `make test` leaves out
	@$(PYTEST) -m slow

lint: $(VENV)/.stamp ## lint and type check
	@$(RUN) ruff check --quiet .
	@$(RUN) mypy --no-error-summary

web: $(VENV)/.stamp $(VENV)/node_modules/onnxruntime-web ## run both pages in a real browser (needs npm, chromium and chromedriver)
	@FASTLOC_WEB=required $(RUN) pytest -q tests/export/test_web.py tests/live/test_page.py

docs: $(VENV)/docs/.stamp ## build the documentation into build/site; a dead link is an error
	@$(MKDOCS) build --quiet --strict

docs-serve: $(VENV)/docs/.stamp ## serve the site on http://127.0.0.1:8000/, built again when a page changes
	@$(MKDOCS) serve

kernels: $(VENV)/.stamp ## compile every GPU kernel for GPUs that need not be here, and compare with the record
	@$(PY) benchmarks/compile_kernels.py --check --sm 80 89 90

goldens: $(VENV)/.stamp ## make the files in tests/goldens again with the official code, in an environment of its own
	@$(PY) benchmarks/goldens.py

peers: $(VENV)/.stamp ## set up the packages that the benchmark compares with, in environments of their own (about 12 GB)
	@$(RUN) fastloc.bench.peer_environments

quality: $(VENV)/.stamp ## measure how often every method points at the object
	@$(PY) benchmarks/quality.py

lock: $(VENV)/tools/.stamp ## write .ci/requirements.lock again: every version and hash that LOCKED=1 installs
	@$(VENV)/tools/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --upgrade \
	  --no-config --no-header --quiet --output-file $(LOCK)

sbom: $(VENV)/.stamp $(VENV)/tools/.stamp ## write sbom.json: what is installed in .venv, with licences, as CycloneDX
	@$(VENV)/tools/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type library --output-reproducible \
	  --output-format JSON --output-file sbom.json $(PY)

clean: ## remove .venv and everything else that can be made again
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache fastloc-demo.png sbom.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/node_modules/onnxruntime-web: | $(VENV)/.stamp
	@npm install --prefix $(VENV) --no-save --no-audit --no-fund --ignore-scripts --loglevel=error onnxruntime-web@1.30

# programs about packages, apart from the packages that they are about
$(VENV)/tools/.stamp: Makefile | $(VENV)/.stamp
	@$(PY) -m venv --clear $(VENV)/tools
	@$(VENV)/tools/bin/python -m pip install -qq --disable-pip-version-check uv==0.13.9 cyclonedx-bom==7.5.0
	@touch $@

# what builds the site reads fastloc's sources and imports none of them, so it needs none of fastloc's packages
$(VENV)/docs/.stamp: pyproject.toml Makefile | $(VENV)/.stamp
	@$(PY) -m venv --clear $(VENV)/docs
	@$(PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' \
	  | $(VENV)/docs/bin/python -m pip install -qq --disable-pip-version-check -r /dev/stdin
	@touch $@

# a usable .venv is kept, whoever made it; pip gets a say only when pyproject.toml is newer than the last install.
# -qq: pip's warnings about this machine's package sources are not ours to report
$(VENV)/.stamp: pyproject.toml $(if $(LOCKED),$(LOCK))
	@if ! $(VENV)/bin/python -c 'import pip; $(USABLE)' 2>/dev/null; then \
	  for python in $(or $(PYTHON),$(PYTHONS)); do \
	    if $$python -c '$(USABLE)' 2>/dev/null; then found=$$python; break; fi; \
	  done; \
	  if [ -z "$${found:-}" ]; then \
	    echo 'make: fastloc needs Python 3.11 or newer with venv and ensurepip (python3-venv on Debian);' \
	      'none of $(or $(PYTHON),$(PYTHONS)) is. Name one: make PYTHON=/path/to/python' >&2; exit 1; \
	  fi; \
	  echo "making $(VENV) with $$($$found --version)"; $$found -m venv --clear $(VENV); \
	fi
	@echo 'installing fastloc and what it needs into $(VENV) (the first time about 6 GB on disk, mostly PyTorch)'
	@if [ -n '$(LOCKED)' ]; then \
	  $(VENV)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r $(LOCK); \
	  $(VENV)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	else \
	  $(VENV)/bin/python -m pip install -qq --disable-pip-version-check -e '.[dev]'; \
	fi
	@touch $@
