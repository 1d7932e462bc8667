# Each target sets up what it needs. PYTHON: the interpreter that makes .venv (3.11 or newer); another one makes it anew.
PYTHON ?= python3
PROFILE ?= quick
CORES ?= all
TABLE ?= 1
CELL = $(if $(LAYER),--layer $(LAYER)) $(if $(N),--n-train $(N)) $(if $(SOURCE),--source $(SOURCE)) $(if $(SPLIT),--split $(SPLIT))
CLUSTER ?=
SEED ?=
DEVICE ?= cpu
PARTS ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
HOME_OF_VENV := $(VENV)/.home
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
LOCKED := $(PIP) --no-deps --require-hashes
# one thread a process: trials, tests and notebooks run side by side
export OMP_NUM_THREADS := 1

STEPS := lint types tests notebooks smoke

.PHONY: help reproduce test $(STEPS) test-matrix soak book pdf cell lab bench lock clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

# .venv as it should be: made in this very folder, with pip, and by PYTHON where that was given
WHICH := -c 'import os, sys; print(os.path.realpath(sys.base_prefix), sys.version)'
SOUND := $(shell exec 2>/dev/null; test "$$(cat $(HOME_OF_VENV))" = "$$(pwd -P)" && $(BIN)/python -c 'import pip' && \
	{ test $(origin PYTHON) = file || test "$$("$(PYTHON)" $(WHICH))" = "$$($(BIN)/python $(WHICH))"; } && echo yes)
ifneq ($(SOUND),yes)
.PHONY: $(READY)
endif

# torch: the CPU build where pip is shown it (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL), else PyPI's, on Linux with CUDA's libraries
$(READY): requirements.lock requirements-cpu.lock requirements-cuda.lock pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python 3.11 or newer is needed, {sys.executable} is {sys.version.split()[0]}: make PYTHON=python3.11")'
	@echo "installing into $(VENV), a minute or two"
ifneq ($(SOUND),yes)
	@rm -rf $(VENV)
	@"$(PYTHON)" -m venv $(VENV)
	@pwd -P >$(HOME_OF_VENV)
endif
	@$(LOCKED) -r requirements-cpu.lock 2>/dev/null || true
	@$(LOCKED) -r requirements.lock
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(LOCKED) -r requirements-cuda.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

# what only some commands need: requirements-NAME.lock
$(VENV)/.%: requirements-%.lock $(READY)
	@echo "installing what $< has"
	@$(LOCKED) -r $<
	@touch $@

reproduce: $(READY) $(if $(filter slurm,$(CLUSTER)),$(VENV)/.cluster)  ## every trial of PROFILE (quick, 10 minutes), then tables, chapters and a book of your own run; CLUSTER=slurm there
	@$(BIN)/python workflow/reproduce.py --profile $(PROFILE) --cores $(CORES) $(if $(CLUSTER),--cluster $(CLUSTER))

cell: $(READY)  ## one cell again, beside the paper's: TABLE=1 LAYER=ours N=5000, or TABLE=2 SOURCE=..., TABLE=3 SPLIT=..., TABLE=ablations, TABLE=scale
	@$(BIN)/python -m gdlayer.experiments cell $(if $(filter 1 2 3,$(TABLE)),table)$(TABLE) $(CELL) --profile $(PROFILE)

book: $(READY)  ## the book of the committed record: _build/html
	@$(BIN)/python workflow/build_book.py _build/html

pdf: $(READY)  ## the book and its replication report as PDF, printed by Chromium: _build/pdf
	@$(BIN)/python workflow/print_book.py

lab: $(VENV)/.lab  ## JupyterLab on the chapters
	@$(BIN)/python -m jupyterlab --notebook-dir=book

bench: $(READY)  ## time and memory beside nn.Conv2d, half an hour: DEVICE=cpu or cuda, PARTS="goals step" for some of it
	@$(BIN)/python -m gdlayer.benchmarks --device $(DEVICE) $(if $(PARTS),--only $(PARTS))

# every step, even after one that failed
test: $(READY)  ## lint, types, tests, the book in a browser, notebooks, and a smoke reproduction (10 minutes); also each by its name
	@failed=; for step in $(STEPS); do $(MAKE) --no-print-directory $$step || failed="$$failed $$step"; done; \
	test -z "$$failed" || { echo "make test: failed:$$failed" >&2; exit 1; }

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(READY)
	$(BIN)/pyright

tests: $(READY)
	$(BIN)/python -m pytest -n 2 $(if $(SEED),-p randomly --randomly-seed=$(SEED))

notebooks: $(READY)  # one at a time: kernels that start together can take the same port
	$(BIN)/python -m pytest -p no:cacheprovider --nbval book

smoke: $(READY)
	$(BIN)/python workflow/reproduce.py --profile smoke --cores 2

test-matrix: $(READY)  ## the tests of the layer on every Python and torch claimed, and on the newest packages: data/test-matrix.csv
	$(BIN)/python workflow/matrix.py

soak: $(READY)  ## damaged files for every reader, then 200 kills of make reproduce, in an hour: data/soak-*.csv
	@rm -f data/soak-mutations.csv
	GDLAYER_MUTATIONS=750 GDLAYER_MUTATIONS_CSV=data/soak-mutations.csv $(BIN)/python -m pytest -q -k test_mutations_of
	$(BIN)/python tests/soak.py --kills 200 --csv data/soak-kills.csv

lock: $(READY)  ## the lock files anew from pyproject.toml, with hashes
	$(BIN)/python workflow/lock.py

clean:  ## removes what was built; .venv, records in results/ and the record stay
	rm -rf _build .pytest_cache .ruff_cache .hypothesis .snakemake *.egg-info
