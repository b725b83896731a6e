# make       set everything up, run the default study to its report
# make env   only the set-up, into .venv
# make test  set everything up, run the tests
# make lock  write the versions that the set-up installs anew, after a change of pyproject.toml
PYTHON ?= python3
CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# one thread per job: Snakemake runs as many jobs as there are cores
export OMP_NUM_THREADS ?= 1

.PHONY: all env test lint lock

# flock frees itself when make is killed, Snakemake's own lock would stay
LOCK := $(if $(shell command -v flock),flock --nonblock --conflict-exit-code 75 .make.lock,)

all: env
	@$(LOCK) snakemake --cores $(CORES) $(if $(LOCK),--nolock) all report || { status=$$?; \
		test $$status != 75 || echo "another make is running in this folder: wait for it" >&2; \
		exit $$status; }
	@e2mc where

env: $(BIN)/.installed

$(BIN)/.installed: envs/build.txt envs/requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11 to 3.13 is needed, $(PYTHON) is " + sys.version.split()[0] + ": name another one, make PYTHON=python3.12")'
	@echo "Installing the locked packages into .venv: some minutes and 6 GB the first time"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes --requirement envs/build.txt
	$(BIN)/python -m pip install --quiet --no-build-isolation --require-hashes --requirement envs/requirements.txt
	$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps --editable .
	touch $@

lock: env
	python envs/lock.py

lint: env
	ruff check . && ruff format --check .
	mypy
	snakefmt --check Snakefile workflow
	snakemake --lint

# three at once on two cores: tests on a scheduler wait for their jobs
test: lint
	python -m pytest -n 3 --dist loadfile --no-loadscope-reorder
