# Each target brings what it needs; `make` alone lists them.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
export CONTAINER ?= inference
export IMAGE ?= byollm-$(CONTAINER)
ENV ?= dev
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint requirements.txt

.DEFAULT_GOAL := help
.PHONY: help setup run test lint bench bench-serve bench-peers image image-test images images-test up down synth snapshots scan model lock

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

setup: $(VENV)/run ## a virtual environment in .venv with what `make run` needs

run: $(VENV)/run ## chat on localhost with the model that this repository trained
	@$(BIN)/byollm run

test: $(VENV)/dev node_modules ## all tests
	$(BIN)/python -m pytest

lint: $(VENV)/dev ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/dev ## our engine beside transformers, on this machine
	$(BIN)/python -m bench.engine

bench-serve: $(VENV)/dev ## our engine and our server beside every peer that is installed
	$(BIN)/python -m bench.serve --prepare
	$(BIN)/python -m bench.serve

bench-peers: ## install the peers, each in an environment of its own (some GB; llama.cpp is compiled)
	./scripts/bench_peers

image: ## the image CONTAINER (inference), with docker, podman or buildah (docs/container.md)
	./scripts/image

image-test: $(VENV)/dev ## build that image and try it: hardened, drained, broken
	./scripts/image
	BYOLLM_IMAGE=$(IMAGE) $(BIN)/python -m pytest tests/containers

images: ## all images, byollm-inference to byollm-frontend
	for container in inference training gateway frontend; do \
		CONTAINER=$$container IMAGE=byollm-$$container ./scripts/image || exit 1; \
	done

images-test: $(VENV)/dev images ## build all images and try them: each for itself, then page to gateway to inference
	BYOLLM_IMAGE=byollm-inference BYOLLM_IMAGES=byollm $(BIN)/python -m pytest tests/containers

up: $(VENV)/local node_modules ## the platform of ENV (dev) on an emulated AWS of this machine, running
	@$(BIN)/byollm up --env $(ENV)

down: $(VENV)/local ## end what `make up` started; its state stays
	@$(BIN)/byollm down --env $(ENV)

synth: $(VENV)/local node_modules ## the CloudFormation templates of ENV (dev) in cdk.out, with every check on
	PATH="$(CURDIR)/$(BIN):$$PATH" node_modules/.bin/cdk synth --strict --quiet -c env=$(ENV)

snapshots: $(VENV)/dev ## take the templates as they are now for right (tests/stacks)
	$(BIN)/python -m tests.stacks.snapshots

scan: $(VENV)/checkov/bin/checkov ## checkov over the templates in tests/stacks/snapshots
	$(VENV)/checkov/bin/checkov --config-file .checkov.yaml

model: $(VENV)/dev ## repeat the training of the bundled model from the data packs (hours on a CPU)
	$(BIN)/python scripts/make_model.py

lock: ## resolve every dependency anew into requirements.txt
	./scripts/lock

$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo 'byollm needs Python 3.11 or newer: make PYTHON=/path/to/python3.11'; exit 1; }
	@echo 'Making $(VENV) with $(PYTHON)'
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/run: $(VENV)/python pyproject.toml requirements.txt setup.py $(wildcard byollm/kernels/cpu/*.cpp byollm/kernels/cpu/*.h)
	@echo 'Installing what the chat needs (PyTorch is large; a few minutes the first time)'
	@$(INSTALL) --editable '.[run]'
	@touch $@

# Below, byollm itself is there already: only what an extra brings is installed, and no kernel is compiled anew.
$(VENV)/local: $(VENV)/run
	@echo 'Installing what deploying needs'
	@$(INSTALL) 'byollm[local]'
	@touch $@

$(VENV)/dev: $(VENV)/local
	@echo 'Installing what the tests need'
	@$(INSTALL) 'byollm[dev]'
	@touch $@

# In an environment of its own, because it pins what it shares with the rest.
$(VENV)/checkov/bin/checkov: $(VENV)/python
	@$(PYTHON) -m venv $(VENV)/checkov
	@$(VENV)/checkov/bin/pip install --quiet --disable-pip-version-check checkov==3.3.30

# The CDK's command line; Node and npm come from PyPI.
node_modules: $(VENV)/local package.json package-lock.json
	@PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --no-audit --no-fund
	@touch $@
